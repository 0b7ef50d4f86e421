# SPDX-License-Identifier: BSD-2-Clause
"""What is done to links and to Redis while the clients of near_model.py work. Each fault notes from when to when the
links of which Keyweir were ill."""
import time

from harness.monitor import Line
from harness.servers import wait_until
from near_history import Election
from harness.relay import DOWN


MOMENT = 0.02  # until a signal has arrived


class Faults:
    """On a standalone Redis behind a Relay with a port for each Keyweir. `keeps`: its data outlive it (AOF)."""

    def __init__(self, relay, node, keyweirs=2, keeps=False, only=None):
        self.relay, self.node, self.keyweirs, self.keeps = relay, node, keyweirs, keeps
        every = {"cut": self.cut_tracking, "delay": self.delay_tracking, "freeze": self.freeze_tracking,
                 "deaf": self.deaf_tracking, "hush": self.hush, "data": self.cut_data, "jitter": self.jitter, "stop": self.stop_redis,
                 "kill": self.kill_redis}
        self.all = [every[name] for name in only or every]

    def __call__(self, run, end):
        """Until `end`: one fault after the other, some time between them, and a good end."""
        self.run = run
        time.sleep(run.rng.uniform(0.3, 1.0))
        while time.time() < end - 1:
            run.rng.choice(self.all)()
            time.sleep(max(min(run.rng.choice((0.05, 0.4, 1.2)), end - time.time()), 0))
        for k in range(self.keyweirs):
            for kind in ("data", "tracking"):
                self.relay.delay(k, kind, 0)
                self.relay.thaw(k, kind)

    def some(self):
        """Which Keyweirs it concerns."""
        return self.run.rng.choice([[k] for k in range(self.keyweirs)] + [list(range(self.keyweirs))])

    def while_ill(self, who, text, seconds):
        self.run.note("%s of %s for %.2f s" % (text, who, seconds))
        start = time.time()
        time.sleep(seconds)
        for k in who:
            self.run.ill.append((start - 0.05, time.time(), k))

    def cut_tracking(self):
        who = self.some()
        start = time.time()
        for k in who:
            self.run.note("cut %d tracking links of %d" % (self.relay.cut(k, "tracking"), k))
            self.run.ill.append((start - 0.05, time.time(), k))

    def delay_tracking(self):
        who, rng = self.some(), self.run.rng
        low = rng.uniform(0.05, 0.3)
        for k in who:
            self.relay.delay(k, "tracking", low, low + rng.choice((0, 0.1)), *rng.choice(([], [(DOWN,)])))
        self.while_ill(who, "tracking links delayed by %.2f s" % low, rng.uniform(0.5, 2))
        for k in who:
            self.relay.delay(k, "tracking", 0)
            self.run.ill.append((time.time(), time.time() + 0.4, k))

    def freeze_tracking(self):
        who, rng = self.some(), self.run.rng
        for k in who:
            self.relay.freeze(k, "tracking")
        self.while_ill(who, "tracking links frozen", rng.choice((0.2, 1, 3)))
        for k in who:
            if rng.random() < 0.5:
                self.run.note("and cut (%d)" % k)
                self.relay.cut(k, "tracking")
            self.relay.thaw(k, "tracking")

    def deaf_tracking(self):
        """Only what Redis says is held."""
        who, rng = self.some(), self.run.rng
        for k in who:
            self.relay.freeze(k, "tracking", (DOWN,))
        self.while_ill(who, "tracking links deaf", rng.uniform(0.3, 1.5))
        for k in who:
            self.relay.thaw(k, "tracking", (DOWN,))

    def hush(self):
        """All tracking links hear nothing for long."""
        for k in self.everybody():
            self.relay.freeze(k, "tracking", (DOWN,))
        self.while_ill(self.everybody(), "tracking links hushed", 2.0)
        for k in self.everybody():
            self.relay.thaw(k, "tracking", (DOWN,))

    def cut_data(self):
        who = self.some()
        for k in who:
            self.run.note("cut %d data links of %d" % (self.relay.cut(k, "data"), k))

    def jitter(self):
        """Replies come late: so late that the key has changed meanwhile. Nothing is ill by that."""
        who, rng = self.some(), self.run.rng
        high = rng.choice((0.003, 0.02, 0.06))
        for k in who:
            self.relay.delay(k, "data", 0, high)
        self.run.note("data of %s up to %.3f s late" % (who, high))
        time.sleep(rng.uniform(0.5, 2))
        for k in who:
            self.relay.delay(k, "data", 0)

    def everybody(self):
        return list(range(self.keyweirs))

    def stop_redis(self):
        self.node.server.freeze()
        self.while_ill(self.everybody(), "Redis frozen", self.run.rng.choice((0.2, 0.7, 1.5)))
        self.node.server.thaw()

    def kill_redis(self):
        """Paused first, so that MONITOR has told of all that it did; of the answers some never arrive."""
        run, node, rng = self.run, self.node, self.run.rng
        run.load.hold.value = 1
        start = time.time()
        lose = rng.random() < 0.5
        for k in self.everybody():
            if lose:
                self.relay.freeze(k, "data", (DOWN,))
        time.sleep(rng.uniform(0.01, 0.05))
        node.server.cmd("CLIENT", "PAUSE", 10000, "ALL")
        time.sleep(0.05)
        run.note("Redis is killed%s" % (", with its last answers" if lose else ""))
        for k in self.everybody():
            self.relay.aim(k, 1)
        node.server.kill()
        node.monitor.thread.join(5)
        node.deaf()
        if not self.keeps:
            gone = time.time()
            node.lines.append(Line(gone, node.lines[-1].time if node.lines else start, 0, b"kill", b'"FLUSHALL"', node.name))
        for k in self.everybody():
            if lose:
                self.relay.cut(k, "data")
                self.relay.thaw(k, "data", (DOWN,))
        time.sleep(rng.choice((0, 0.3, 1.2)))
        node.server.start()
        node.monitor.close()
        node.listen()
        for k in self.everybody():
            self.relay.aim(k, node.server.port)
        run.load.hold.value = 0
        run.note("Redis is back")
        time.sleep(rng.uniform(0.5, 1.5))
        for k in self.everybody():
            run.ill.append((start - 0.05, time.time(), k))


class Failovers:
    """Another server of a Sentinel set becomes master. how: kill, freeze, order."""

    def __init__(self, group, how):
        self.group, self.how = group, how

    def __call__(self, run, end):
        self.run = run
        time.sleep(run.rng.uniform(2, 4))
        old = run.world.node_of(self.group.master())
        run.load.hold.value = 1  # clients at Redis itself wait for the new master
        time.sleep(0.1)
        start = time.time()
        run.note("the master %s: %s" % (old.name, self.how))
        new = run.world.node_of({"kill": self.kill, "freeze": self.freeze, "order": self.order}[self.how](old))
        new.again(run)
        run.note("%s is master" % new.name)
        run.elections.append(Election(start, old.name, new.name, self.until))
        run.moved(new.server.port)
        run.load.hold.value = 0
        run.served()  # an old master that is back before a Keyweir has heard of the new one is believed, and must be
        if self.how == "freeze":
            time.sleep(run.rng.uniform(0, 1))
            self.group.cont(old.server)
            run.note("the old one goes on")
        elif self.how == "kill":
            self.group.restart(old.server)
        run.ill.append((start - 0.05, time.time() + 0.5, None))
        self.group.wait_ok()

    def kill(self, old):
        """Paused first, so that MONITOR has told of all that it did."""
        old.server.cmd("CLIENT", "PAUSE", 10000, "ALL")
        time.sleep(0.05)
        self.group.kill_master()
        self.until = time.time()
        old.monitor.thread.join(5)
        old.deaf()
        return self.elected(old)

    def freeze(self, old):
        self.group.stop_master()
        self.until = time.time() + MOMENT
        return self.elected(old)

    def order(self, old):
        """The old master serves on until it is told."""
        wait_until(lambda: self.group.sentinels[0].cmd("SENTINEL", "FAILOVER", self.group.service) == "OK", 20, "a failover")
        new = self.elected(old)
        wait_until(lambda: _is_replica(old.server), 30, "the old master is a replica")
        self.until = time.time()
        return new

    def elected(self, old):
        """As soon as it is: its MONITOR was closed, and must be back."""
        return self.group.wait_new_master(old.server)


def _is_replica(server):
    try:
        return server.cmd("ROLE")[0] == b"slave"
    except OSError:
        return False


class Moves:
    """Slots of a Cluster to and fro; and then perhaps a master fails: kill, freeze, order."""

    def __init__(self, cluster, slots, how=None):
        self.cluster, self.slots, self.how = cluster, slots, how

    def __call__(self, run, end):
        self.run, cluster = run, self.cluster
        time.sleep(run.rng.uniform(0.5, 1.5))
        if self.how:
            self.fail()
        while time.time() < end - 3:
            slot = run.rng.choice(self.slots)
            src = cluster.node_of_slot(slot)
            dst = run.rng.choice([m for m in cluster.masters() if m is not src])
            start = time.time()
            run.note("slot %d from %r to %r" % (slot, src, dst))
            self.move(src, dst, slot)
            run.ill.append((start - 0.05, time.time(), None))
            time.sleep(run.rng.choice((0, 0.1, 0.4)))
        cluster.wait_ok()

    def move(self, src, dst, slot):
        """Key by key, some time between them."""
        cluster, rng = self.cluster, self.run.rng
        cluster.begin_migration(src, dst, slot)
        while keys := src.cmd("CLUSTER", "GETKEYSINSLOT", slot, 3):
            cluster.move_keys(src, dst, keys)
            time.sleep(rng.choice((0, 0, 0.02, 0.1)))
        cluster.end_migration(src, dst, slot)

    def fail(self):
        run, cluster = self.run, self.cluster
        old = run.world.node_of(run.rng.choice(cluster.masters()))
        new = run.world.node_of(cluster.replicas_of(old.server)[0])
        start = time.time()
        run.note("the master %s: %s" % (old.name, self.how))
        if self.how == "order":
            cluster.failover(new.server)
            until = time.time() + 0.05
        else:
            if self.how == "kill":
                old.server.cmd("CLIENT", "PAUSE", 10000, "ALL")
                time.sleep(0.05)
            if self.how == "kill":
                cluster.kill(old.server)
                old.monitor.thread.join(5)
                old.deaf()
            else:
                cluster.stop(old.server)
            until = time.time() + MOMENT
            cluster.wait_promoted(new.server)
        run.note("%s is master" % new.name)
        run.elections.append(Election(start, old.name, new.name, until))
        if self.how == "kill":
            cluster.restart(old.server)
        elif self.how == "freeze":
            run.served()  # what it is sent before it has heard of the new one, it does, and loses
            cluster.cont(old.server)
        run.ill.append((start - 0.05, time.time() + 0.5, None))
        cluster.wait_ok()
