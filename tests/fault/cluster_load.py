# SPDX-License-Identifier: BSD-2-Clause
"""All clients of cluster_model.py at once, and what can be said of them together."""
import time

from cluster_model import Counting, Hearing, Loss, Popping, Pushing, Telling


class Load:
    """For each tag (a slot) two counting clients and a queue; one pair of Pub/Sub."""

    def __init__(self, keyweir, tags):
        self.keyweir = keyweir
        self.loss = None
        self.workers = []
        self.queues = []
        for tag in tags:
            for _ in range(2):
                self.add(Counting, "{%s}%d:" % (tag, len(self.workers)))
            self.queues.append((self.add(Pushing, "{%s}" % tag), self.add(Popping, "{%s}" % tag)))
        self.hearing, self.telling = self.add(Hearing, ""), self.add(Telling, "")

    def add(self, kind, tag):
        worker = kind(self, tag, len(self.workers))
        worker.name = "%s %s" % (kind.__name__, tag)
        self.workers.append(worker)
        return worker

    def __enter__(self):
        self.hearing.start()
        assert self.hearing.ready.wait(10), self.hearing.wrong
        for worker in self.workers:
            if worker is not self.hearing:
                worker.start()
        self.served(time.monotonic(), 10)
        return self

    def __exit__(self, kind, *_):
        for worker in self.workers:
            worker.over.set()
        for worker in self.workers:
            worker.join(30)
        if kind is None:
            assert not [w.name for w in self.workers if w.is_alive()], "they hang"
            self.check()

    def check(self):
        wrong = [w.wrong for w in self.workers if w.wrong]
        assert not wrong, "\n".join(wrong)

    def served(self, since, limit):
        """Waits until each client got a good reply after `since`; how long after it the last one did."""
        while True:
            late = [w.name for w in self.workers if w.good_at <= since]
            if not late:
                return max(time.monotonic() - since, 0.0)
            self.check()
            assert time.monotonic() - since < limit, "without service: %s" % late
            time.sleep(0.002)

    def losing(self, *tags):
        """From now on a master of these tags may lose what it acknowledges, until loss.end is set."""
        self.loss = Loss(tags, time.monotonic())
        return self.loss

    @property
    def closed(self):
        return sum(w.closed for w in self.workers)

    @property
    def aborted(self):
        return sum(w.aborted for w in self.workers)

    def refusals(self, start=0.0, end=float("inf")):
        return [(w.name, t, text) for w in self.workers for t, text in w.refused_at if start <= t < end]

    def settle_queues(self):
        """After the end: what was pushed and never came. Allowed: what nobody knows of, and what died with a master."""
        for push, pop in self.queues:
            strange = set(pop.got) - set(push.sure) - push.unsure
            assert not strange, "popped and never pushed: %s" % sorted(strange)[:5]
            left = {int(x) for x in self.drain(push.tag + "queue")}
            missing = [n for n, t in push.sure.items() if n not in pop.got and n not in left
                       and not (push.loss and push.loss.start <= t <= push.loss.end)]
            assert len(missing) <= pop.unsure, "lost from %squeue: %s" % (push.tag, missing[:5])

    def drain(self, key):
        with self.keyweir.client() as conn:
            return conn.cmd("LRANGE", key, 0, -1)
