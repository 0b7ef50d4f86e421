# SPDX-License-Identifier: BSD-2-Clause
"""A load whose every reply is checked, for upstreams that fail over: what may be lost is what Redis itself may lose.

Replication is asynchronous: of what was acknowledged in the last LOSS seconds before a master died, some may be gone.
Everything else holds always: a number is what was confirmed, plus those whose outcome is unknown; nothing is done twice.
"""
import random
import threading
import time
from bisect import bisect_right

from harness.resp import Push, RespError

LOSS = 0.1  # seconds
REFUSALS = ("UPSTREAMDOWN", "TIMEOUT", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "UNBLOCKED", "TRYAGAIN")
ABORTS = ("EXECABORT", "TRYAGAIN")  # of a transaction: nothing of it was done
DOUBT = ("may have been executed", "TIMEOUT")  # then nobody knows whether it was done


class Wrong(AssertionError):
    """A reply that nobody can have got rightly."""


class Ledger:
    """What a number that only its owner changes may be: `low` was confirmed, up to `high` may have been done."""

    def __init__(self):
        self.low = self.high = 0
        self.times, self.values = [0.0], [0]

    def tried(self):
        self.high += 1
        return self.high

    def not_done(self):
        self.high -= 1

    def confirm(self, value, least, loss, what):
        """It was seen as `value`. Below `least` only what was last confirmed while a master was losing writes."""
        floor = least
        if loss and self.times[-1] <= loss.end:
            floor = min(least, self.values[bisect_right(self.times, loss.start) - 1] + (least - self.low))
        if not floor <= value <= self.high:
            raise Wrong("%s is %r, may be %d to %d (confirmed %d)" % (what, value, floor, self.high, self.low))
        self.low = self.high = value
        self.times.append(time.monotonic())
        self.values.append(value)


class Loss:
    """From `start` to `end` a master of these tags acknowledged writes that it may have lost."""

    def __init__(self, tags, start):
        self.tags, self.start, self.end = tags, start - LOSS, float("inf")


class Worker(threading.Thread):
    """One client, one connection, commands until it is over. `tag` puts its keys into one slot."""

    def __init__(self, load, tag, number):
        super().__init__(daemon=True)
        self.load, self.tag, self.number = load, tag, number
        self.slot_tag = tag[1:].partition("}")[0]
        self.rng = random.Random(number)
        self.over = threading.Event()
        self.wrong = self.conn = None
        self.good = 0
        self.good_at = 0.0
        self.refused_at = []  # (time, text)
        self.closed = self.aborted = 0

    def run(self):
        try:
            while not self.over.is_set():
                with self.load.keyweir.client(2 + self.number % 2) as self.conn:
                    self.talk()
        except Exception as e:  # kept for the test to report
            self.wrong = "%s: %s: %s" % (self.name, type(e).__name__, e)

    def talk(self):
        try:
            self.connected()
            while not self.over.is_set():
                self.step()
        except ConnectionError:
            self.closed += 1

    def connected(self):
        """For subclasses."""

    def ask(self, *args, wait=15):
        self.conn.send(*args)
        return self.take(args, wait)

    def take(self, args, wait=15):
        value = self.conn.read(wait)
        if isinstance(value, Push):
            raise Wrong("a push nobody asked for: %r" % value)
        if isinstance(value, RespError):
            self.refuse(args, value)
        else:
            self.good += 1
            self.good_at = time.monotonic()
        return value

    def refuse(self, args, value):
        if not value.startswith(REFUSALS):
            raise Wrong("%s: %s" % (args, value))
        self.refused_at.append((time.monotonic(), value))
        time.sleep(0.002)

    @property
    def loss(self):
        """The loss that this client may see, or None."""
        loss = self.load.loss
        return loss if loss and self.slot_tag in loss.tags else None


def doubtful(value):
    return any(text in value for text in DOUBT)


class Counting(Worker):
    """INCR, SET and GET, transactions, and echoes that nobody else can have sent."""

    def __init__(self, *args):
        super().__init__(*args)
        self.counter, self.register, self.echoes = Ledger(), Ledger(), 0
        self.pair, self.generation = Ledger(), 0
        self.steps = [self.count, self.write, self.read, self.echo, self.transact, self.compare]

    def step(self):
        self.rng.choice(self.steps)()

    def settle(self, ledger, value, what):
        if not isinstance(value, RespError):
            ledger.confirm(value, ledger.low + 1, self.loss, what)
        elif not doubtful(value):
            ledger.not_done()

    def count(self):
        self.counter.tried()
        self.settle(self.counter, self.ask("INCR", self.tag + "count"), self.tag + "count")

    def write(self):
        value = self.register.tried()
        got = self.ask("SET", self.tag + "own", "%d:%d" % (self.number, value))
        if got != "OK" and not isinstance(got, RespError):
            raise Wrong("SET: %r" % got)
        self.settle(self.register, value if got == "OK" else got, self.tag + "own")

    def read(self):
        got = self.ask("GET", self.tag + "own")
        if not isinstance(got, RespError):
            owner, _, value = (got or b"%d:0" % self.number).partition(b":")
            if owner != b"%d" % self.number:
                raise Wrong("GET of %sown: %r" % (self.tag, got))
            self.register.confirm(int(value), self.register.low, self.loss, self.tag + "own")

    def echo(self):
        self.echoes += 1
        mark = b"%d:%d" % (self.number, self.echoes)
        got = self.ask("EVAL", "return ARGV[1]", 1, self.tag, mark)
        if got != mark and not isinstance(got, RespError):
            raise Wrong("echo: %r instead of %r" % (got, mark))

    def names(self):
        return [self.tag + side + str(self.generation) for side in "ab"]

    def transact(self):
        """Two counters that only a transaction changes: they are always equal."""
        self.pair.tried()
        commands = [["MULTI"], *(["INCR", name] for name in self.names()), ["EXEC"]]
        replies = self.whole(commands) if self.rng.random() < 0.5 else self.piecewise(commands)
        done = replies[-1]
        if isinstance(done, list):
            if len(done) != 2 or done[0] != done[1]:
                raise Wrong("EXEC: %r" % done)
            self.settle(self.pair, done[0], "the pair of " + self.tag)
        elif not isinstance(done, RespError):
            raise Wrong("EXEC: %r after %r" % (done, replies))
        elif replies[0] != "OK":  # then the INCRs may have run by themselves
            self.generation += 1
            self.pair = Ledger()
        elif not doubtful(done):
            self.pair.not_done()

    def whole(self, commands):
        for command in commands:
            self.conn.send(*command)
        return [self.take_in_multi(c) for c in commands]

    def piecewise(self, commands):
        replies = []
        for command in commands:
            self.conn.send(*command)
            replies.append(self.take_in_multi(command))
            if replies[0] != "OK":
                break
        return replies

    def take_in_multi(self, command):
        value = self.conn.read(15)
        if not isinstance(value, RespError):
            self.good += 1
            self.good_at = time.monotonic()
        elif value.startswith(ABORTS):
            self.aborted += 1
        elif not value.startswith("ERR EXEC without MULTI"):
            self.refuse(command, value)
        return value

    def compare(self):
        got = self.ask("MGET", *self.names())
        if not isinstance(got, RespError):
            if got[0] != got[1]:
                raise Wrong("half a transaction: %r" % got)
            self.pair.confirm(int(got[0] or 0), self.pair.low, self.loss, "the pair of " + self.tag)


class Pushing(Worker):
    """LPUSH of numbers that rise."""

    def __init__(self, *args):
        super().__init__(*args)
        self.last, self.sure, self.unsure = 0, {}, set()

    def step(self):
        self.last += 1
        got = self.ask("LPUSH", self.tag + "queue", self.last)
        if not isinstance(got, RespError):
            self.sure[self.last] = time.monotonic()
        elif doubtful(got):
            self.unsure.add(self.last)
        time.sleep(0.002)  # a steady load, no flood: the queue stays short


class Popping(Worker):
    """BRPOP of what Pushing sent: in order, each at most once."""

    def __init__(self, *args):
        super().__init__(*args)
        self.got, self.unsure, self.top = {}, 0, 0

    def step(self):
        value = self.ask("BRPOP", self.tag + "queue", 0.5)
        if isinstance(value, RespError):
            self.unsure += doubtful(value)
        elif value is not None:
            self.take_item(int(value[1]))

    def take_item(self, item):
        again = self.got.get(item)
        if again and not (self.loss and self.loss.start <= again <= self.loss.end):
            raise Wrong("%d was popped twice" % item)
        if item < self.top and not self.loss:
            raise Wrong("%d came after %d" % (item, self.top))
        self.top = max(self.top, item)
        self.got[item] = time.monotonic()


class Hearing(Worker):
    """A subscriber; what Telling published comes at most once."""

    def __init__(self, *args):
        super().__init__(*args)
        self.heard = {}
        self.ready = threading.Event()

    def connected(self):
        if self.conn.cmd("SUBSCRIBE", self.tag + "news")[2] != 1:
            raise Wrong("SUBSCRIBE")
        self.ready.set()

    def step(self):
        try:
            message = self.conn.read(0.1)
        except TimeoutError:
            return
        if list(message[:2]) != [b"message", (self.tag + "news").encode()]:
            raise Wrong("no message: %r" % message)
        item = int(message[2])
        if item in self.heard:
            raise Wrong("message %d came twice" % item)
        self.heard[item] = self.good_at = time.monotonic()
        self.good += 1


class Telling(Worker):
    def __init__(self, *args):
        super().__init__(*args)
        self.told = 0

    def step(self):
        self.told += 1
        self.ask("PUBLISH", self.tag + "news", self.told)
        time.sleep(0.005)  # a steady load
