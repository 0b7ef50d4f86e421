# SPDX-License-Identifier: BSD-2-Clause
"""Clients that know what each reply may be: their own values, unique echoes, counters that count what was confirmed."""
import random
import threading
import time

from harness.resp import Push, RespError, encode, parse

ECHO = "return ARGV[1]"
REFUSALS = ("UPSTREAMDOWN", "TIMEOUT", "LOADING")  # what a client may hear while Redis is away
DOUBT = ("may have been executed", "TIMEOUT")  # then nobody knows whether it was done


class Wrong(AssertionError):
    """A reply that this client can't have got rightly."""


def refused(value):
    return isinstance(value, RespError) and value.startswith(REFUSALS)


def in_doubt(value):
    return any(text in value for text in DOUBT)


class Client(threading.Thread):
    """Runs commands until stopped. Everything it finds out is in its attributes."""

    def __init__(self, keyweir, number, proto=2, big=0, transactions=True):
        super().__init__(daemon=True)
        self.keyweir = keyweir
        self.number = number
        self.proto = proto
        self.big = big
        self.rng = random.Random(number)
        self.over = threading.Event()
        self.wrong = None
        self.replies = self.refusals = self.closed = self.seq = 0
        self.confirmed = {}  # counter -> INCRs answered
        self.doubtful = {}  # counter -> INCRs that may have been done
        self.value = {}  # own key -> values it may hold, the last confirmed one first
        self.steps = [self.echo, self.own_key, self.counter, self.pipeline]
        if transactions:
            self.steps.append(self.transaction)
        if big:
            self.steps = [self.large, self.large, self.echo, self.counter]
        self.last_good = 0.0  # time of the last reply that was no refusal
        self.first_good = threading.Event()
        self.conn = None

    # ---- plumbing ----

    def run(self):
        try:
            while not self.over.is_set():
                self.connect()
                try:
                    while not self.over.is_set():
                        self.rng.choice(self.steps)()
                except ConnectionError:
                    self.closed += 1
                finally:
                    self.conn.close()
        except Exception as e:  # kept for the test to report
            self.wrong = f"client {self.number}: {type(e).__name__}: {e}"

    def connect(self):
        self.conn = self.keyweir.client()
        if self.proto == 3:
            if not isinstance(self.conn.hello(3), dict):
                raise Wrong("HELLO 3 was refused")

    def stop(self):
        self.over.set()
        self.join(30)
        assert not self.is_alive(), f"client {self.number} hangs"
        assert self.wrong is None, self.wrong

    def read(self):
        value = parse(self.conn.read_raw(10))
        self.replies += 1
        if isinstance(value, Push):
            raise Wrong(f"a push nobody asked for: {value!r}")
        if refused(value):
            self.refusals += 1
            time.sleep(0.002)
        else:
            self.last_good = time.monotonic()
            self.first_good.set()
        return value

    def expect(self, value, wanted, what):
        if not refused(value) and value != wanted:
            raise Wrong(f"{what}: {str(value)[:200]!r} instead of {str(wanted)[:200]!r}")

    def unique(self):
        self.seq += 1
        return f"{self.number}:{self.seq}".encode()

    # ---- steps: each is a send and all its replies ----

    def echo(self):
        mine = self.unique()
        self.conn.send("EVAL", ECHO, 0, mine)
        self.expect(self.read(), mine, "echo")

    def check_get(self, key, value):
        may_be = self.value.get(key, [None])
        if not refused(value) and value not in may_be:
            raise Wrong(f"GET {key}: {value!r}, may be {may_be!r}")
        if not refused(value):
            self.value[key] = [value]

    def own_key(self):
        key, mine = f"own:{self.number}", self.unique()
        self.note_doubt_before(key, mine)
        self.conn.send("SET", key, mine)
        value = self.read()
        self.settle_set(key, mine, value)
        self.expect(value, "OK", "SET")
        self.conn.send("GET", key)
        self.check_get(key, self.read())

    def note_doubt_before(self, key, mine):
        """From now on it may be there, should the connection break."""
        self.value.setdefault(key, [None]).append(mine)

    def settle_set(self, key, mine, value):
        if not isinstance(value, RespError):
            self.value[key] = [mine]
        elif not in_doubt(value):
            self.value[key].remove(mine)

    def counter(self):
        self.count(self.rng.choice(["counter:shared", f"counter:{self.number}"]))

    def count(self, key):
        self.doubtful[key] = self.doubtful.get(key, 0) + 1
        self.conn.send("INCR", key)
        self.settle_count(key, self.read())

    def settle_count(self, key, value):
        if isinstance(value, int):
            self.confirmed[key] = self.confirmed.get(key, 0) + 1
            self.doubtful[key] -= 1
        elif not isinstance(value, RespError) or not refused(value):
            raise Wrong(f"INCR: {value!r}")
        elif not in_doubt(value):
            self.doubtful[key] -= 1

    def pipeline(self):
        """Some echoes, reads and counts in one write."""
        key, own = f"counter:{self.number}", f"own:{self.number}"
        marks = [self.unique() for _ in range(self.rng.randint(1, 20))]
        out = []
        for mark in marks:
            out += [encode("EVAL", ECHO, 0, mark), encode("INCR", key), encode("GET", own)]
        self.doubtful[key] = self.doubtful.get(key, 0) + len(marks)
        self.conn.send_raw(b"".join(out))
        for mark in marks:
            self.expect(self.read(), mark, "echo in a pipeline")
            self.settle_count(key, self.read())
            self.check_get(own, self.read())

    def transaction(self):
        key, mark = f"counter:{self.number}", self.unique()
        self.doubtful[key] = self.doubtful.get(key, 0) + 1
        commands = [encode("MULTI"), encode("INCR", key), encode("EVAL", ECHO, 0, mark), encode("EXEC")]
        if self.rng.random() < 0.5:
            self.conn.send_raw(b"".join(commands))
            replies = [self.read() for _ in commands]
        else:
            replies = []
            for command in commands:
                self.conn.send_raw(command)
                replies.append(self.read())
        done = replies[-1]
        if isinstance(done, list):
            if len(done) != 2 or not isinstance(done[0], int) or done[1] != mark:
                raise Wrong(f"EXEC: {done!r}")
            self.settle_count(key, done[0])
        elif not isinstance(done, RespError):
            raise Wrong(f"EXEC: {done!r} after {replies!r}")
        elif not done.startswith(("EXECABORT", "ERR EXEC without MULTI", *REFUSALS)):
            raise Wrong(f"EXEC: {done!r}")
        elif done.startswith("ERR EXEC without MULTI") and not refused(replies[0]):
            raise Wrong(f"EXEC: {done!r} after {replies!r}")
        # Without a result the INCR stays in doubt: it may have run, and when MULTI was refused it ran by itself.
        for reply in replies[1:-1]:
            if not isinstance(reply, RespError) and reply not in ("QUEUED", mark) and not isinstance(reply, int):
                raise Wrong(f"in MULTI: {reply!r}")

    def large(self):
        """A value that takes many reads and writes; every 16 bytes say whose it is."""
        key, mark = f"big:{self.number}", self.unique()
        body = (mark + b"." * 16)[:16] * (self.big // 16)
        self.conn.send("SET", key, body)
        value = self.read()
        self.expect(value, "OK", "large SET")
        if value == "OK":
            self.conn.send("GET", key)
            self.expect(self.read(), body, "large GET")


class Crowd:
    """Several clients, RESP2 and RESP3 by turns."""

    def __init__(self, keyweir, n=6, **kwargs):
        self.clients = [Client(keyweir, i, proto=2 + i % 2, **kwargs) for i in range(n)]

    def __enter__(self):
        for c in self.clients:
            c.start()
        for c in self.clients:
            assert c.first_good.wait(10), f"client {c.number} got no reply; {c.wrong}"
        return self

    def __exit__(self, kind, *_):
        for c in self.clients:
            c.over.set()
        if kind is None:
            for c in self.clients:
                c.stop()

    def served(self, limit):
        """Waits until each client got a good reply after now; how long the last one took."""
        start = time.monotonic()
        while True:
            late = [c for c in self.clients if c.last_good < start]
            if not late:
                return time.monotonic() - start
            bad = [c.wrong for c in self.clients if c.wrong]
            assert not bad, bad
            assert time.monotonic() - start < limit, f"{len(late)} of {len(self.clients)} clients still without service"
            time.sleep(0.002)

    def check_counters(self, redis):
        keys = {k for c in self.clients for k in (*c.confirmed, *c.doubtful)}
        assert keys
        with redis.client() as conn:
            for key in sorted(keys):
                confirmed = sum(c.confirmed.get(key, 0) for c in self.clients)
                doubtful = sum(c.doubtful.get(key, 0) for c in self.clients)
                have = int(conn.cmd("GET", key) or 0)
                assert confirmed <= have <= confirmed + doubtful, \
                    f"{key} is {have}; confirmed {confirmed}, in doubt {doubtful}"

    @property
    def replies(self):
        return sum(c.replies for c in self.clients)

    @property
    def refusals(self):
        return sum(c.refusals for c in self.clients)

    @property
    def closed(self):
        return sum(c.closed for c in self.clients)
