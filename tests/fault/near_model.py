# SPDX-License-Identifier: BSD-2-Clause
"""The model checker of the near-cache: clients (near_load.py) through several Keyweirs and at Redis itself, faults
meanwhile (near_faults.py), and then the judgement (near_check.py) by what MONITOR tells (near_history.py).

A run is a number of rounds. After each everything is quiet for a second, then all clients must read exactly what is
there, and what near_state.py worked out must be what Redis holds.

NEAR_SEED replays the choices of a run; its timing is of course another.
"""
import glob
import random
import threading
import time

from harness.monitor import Monitor
from harness.resp import Conn, RespError, parse
from harness.servers import wait_until
from near_check import Judge, Tally, flat
from near_history import Gap, History
from near_load import Load, Op, Person
from near_state import UNKNOWN, Item

SHOWN = 50  # lines of a key's trace


class Strain:
    """How long the threads of some processes waited for a CPU, and how late this one's own timer was."""

    STEP, CELL = 0.02, 0.05

    def __init__(self, pids):
        self.pids = pids  # a function: {name: pid}
        self.samples = []  # (from, to, {name: seconds waited})
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        last, before = {}, time.time()
        while not self.over.wait(self.STEP):
            waited = {"timer": max(time.time() - before - self.STEP, 0.0)}
            for name, pid in self.pids().items():
                waited[name] = max(self._delays(pid, last), default=0.0)
            now = time.time()
            waited = {name: min(seconds, now - before) for name, seconds in waited.items()}
            self.samples.append((before, now, waited))
            before = now

    @staticmethod
    def _delays(pid, last):
        out = []
        for path in glob.glob("/proc/%d/task/*/schedstat" % pid):
            try:
                with open(path, encoding="ascii") as file:
                    now = int(file.read().split()[1]) / 1e9
            except OSError:
                continue
            out.append(now - last.get(path, now))
            last[path] = now
        return out

    def take(self):
        """A function (names, from, to) -> seconds that these, one behind the other, may have lost."""
        samples, self.samples = self.samples, []
        cells = {}
        for start, end, waited in samples:
            for cell in range(int(start / self.CELL), int(end / self.CELL) + 1):
                into = cells.setdefault(cell, {})
                for name, seconds in waited.items():
                    into[name] = into.get(name, 0.0) + seconds

        def slack(names, t0, t1):
            lost = (cells.get(c) for c in range(int(t0 / self.CELL) - 1, int(t1 / self.CELL) + 1))
            return 0.01 + sum(cell.get(name, 0.0) for cell in lost if cell for name in ("timer", *names))
        return slack

    def close(self):
        self.over.set()
        self.thread.join()


class Node:
    """A Redis that is listened to."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.monitor, self.lines, self.since = None, [], 0.0

    def listen(self):
        self.since = time.time()
        self.monitor = Monitor(self.server)

    def begin(self):
        """What was before belongs to no round."""
        if self.monitor.over:
            self.monitor.close()
            self.listen()
        self.take()
        self.since = time.time() - 0.001

    def again(self, run):
        """Its connections were closed, MONITOR's too: listens again, and looks at what it holds by now."""
        self.deaf()
        start = self.since + 1e-6  # after the last line
        self.monitor.close()
        self.listen()
        mark = b"gap%d" % run.rng.randrange(1 << 60)
        run.gaps.append(Gap(self.name, start, mark, snapshot(self.server, run.world.dbs, run.world.opened, mark)))

    def deaf(self):
        """Before its end: keeps what was heard."""
        self.lines += self.monitor.take(self.since, self.name)
        if self.lines:
            self.since = max(self.since, self.lines[-1].time)

    def take(self):
        self.monitor.settle()
        self.deaf()
        lines, self.lines = self.lines, []
        return lines


LOOK = """
local read = {string = {'GET'}, hash = {'HGETALL'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}}
local out = {}
redis.call('ECHO', ARGV[1])
for i = 2, #ARGV do
  if #ARGV > 2 then redis.call('SELECT', ARGV[i]) end
  for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind = redis.call('TYPE', key).ok
    local how = read[kind]
    if how then
      table.insert(out, {tonumber(ARGV[i]), key, kind, redis.call(how[1], key, unpack(how, 2)), redis.call('PEXPIRETIME', key)})
    end
  end
end
return out
"""


def snapshot(server, dbs, opened, mark=b"now"):
    """{(db, key): Item} of all that a server holds at one moment: when it runs ECHO mark."""
    with server.client() as c:
        c.cmd("READONLY")  # for a replica in a Cluster
        rows = c.cmd("EVAL", LOOK, 0, mark, *dbs)
    assert not isinstance(rows, RespError), rows
    items = {}
    for db, key, kind, value, end in rows:
        value = content(kind.decode(), key, value, opened)
        if end != -2:
            items[db, key] = Item((kind.decode(), value), *([end / 1000] * 2 if end >= 0 else ()))
    return items


def content(kind, key, value, opened):
    """As in near_state.py."""
    if kind == "string":
        return opened(b"s", key, None, value)
    if kind == "hash":
        return {f: opened(b"h", key, f, v) for f, v in zip(value[::2], value[1::2])}
    if kind == "list":
        return tuple(opened(b"l", key, None, v) for v in value)
    if kind == "set":
        return frozenset(value)
    return {m: float(s) for m, s in zip(value[::2], value[1::2])}


class World:
    """What is tested. nodes: [Node]; owner() -> function (key) -> node's name; masters() -> names; pids() -> {name: pid}
    of whatever takes part: a Keyweir's name is its number."""

    def __init__(self, nodes, owner, masters, pids, dbs=(0,), opened=lambda kind, key, field, value: value):
        self.nodes, self.owner, self.masters, self.pids = nodes, owner, masters, pids
        self.dbs, self.opened = list(dbs), opened

    def node(self, name):
        return next(n for n in self.nodes if n.name == name)

    def node_of(self, server):
        return next(n for n in self.nodes if n.server is server)

    def snapshots(self):
        return {n.name: snapshot(n.server, self.dbs, self.opened) for n in self.nodes}


class Run:
    """people: the clients; faults: called with (run, until) while they work, it notes in `ill` what it breaks."""

    def __init__(self, world, people, spaces, seed, processes=2, pause=0.004):
        self.world, self.people, self.spaces, self.seed = world, people, spaces, seed
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.ill = []  # (from, to, number of the Keyweir or None)
        self.elections, self.gaps = [], []
        self.events = []  # texts: (time, what was done to whom)
        self.errors = self.closed = 0
        self.load = Load(people, processes, pause)
        self.strain = Strain(world.pids)

    def __enter__(self):
        for node in self.world.nodes:
            node.listen()
        return self

    def __exit__(self, *_):
        self.load.close()
        self.strain.close()
        for node in self.world.nodes:
            node.monitor.close()

    def moved(self, port):
        """Redis itself is elsewhere now."""
        for person in self.people:
            if person.direct:
                person.route.move(port)

    def served(self):
        """Waits until every Keyweir has a master for every key."""
        for route in {p.route for p in self.people if not p.direct}:
            with Conn(port=route.port) as conn:
                for i in range(30):
                    wait_until(lambda: conn.cmd("SET", "served%d" % i, "yes") == "OK", 20, "%s has masters" % route.label)

    def note(self, text):
        self.events.append((time.time(), text))

    def round(self, seconds, faults=None, quiet=True):
        """Load and faults for so long, and the judgement. quiet: also of what is read when nobody writes."""
        self.ill, self.elections, self.gaps, self.events = [], [], [], []
        base = self.world.snapshots()
        history = History(base, self.owner_now(), self.world.opened)
        masters = self.world.masters()
        since = time.time()
        for node in self.world.nodes:
            node.begin()
        self.load.begin(seconds)
        end = since + seconds
        if faults:
            faults(self, end)
        logs, wrong, errors, closed = self.load.end()
        self.errors, self.closed = self.errors + len(errors), self.closed + closed
        assert not wrong, "seed %d\n%s" % (self.seed, "\n".join(wrong[:20]))
        if quiet:
            time.sleep(1.0)  # the promise is for when nobody writes
            logs += self.look_around()
        self.judge(history, masters, logs)

    def owner_now(self):
        return self.world.owner()

    def look_around(self):
        """Every client reads every key in every way, when nobody writes: as if it were fresh."""
        logs = []
        for person in [p for p in self.people if p.number in self.speakers()]:
            with Speaker(person) as speaker:
                logs.append((person.number, person.route.number, speaker.read_all(self.spaces, person)))
        return logs

    def speakers(self):
        """A client for each route, protocol and database."""
        chosen = {}
        for p in self.people:
            chosen.setdefault((p.route, p.proto, p.db), p.number)
        return set(chosen.values())

    def judge(self, history, masters, logs):
        lines = [line for node in self.world.nodes for line in node.take()]
        after = self.world.snapshots()
        history.tell(lines, masters, self.elections, self.gaps)
        judge = Judge(history, self.tally, self.ill, self.strain.take(), [n for n in self.world.pids() if isinstance(n, str)])
        violations = judge.round(logs)
        self.tally.unknown += history.doubts
        if violations:
            raise AssertionError(self.report(violations, history, logs, lines))
        self.compare(history, after)

    def compare(self, history, after):
        """The model itself must be right."""
        now = time.time()
        for name in self.world.masters():
            have, model = after[name], history.stores[name].items
            for at in have.keys() | model.keys():
                mine, its = model.get(at), have.get(at)
                if mine is not None and (mine.value is UNKNOWN or (mine.soon is not None and mine.soon < now + 1)):
                    continue
                if its is not None and its.soon is not None and its.soon < now + 1:
                    continue
                same = (mine and mine.value) == (its and its.value) and (mine and mine.soon is None) == (its and its.soon is None)
                assert same, "the model is wrong: %s of %s is %r, and it thinks %r; seed %d\n%s" % (
                    at, name, its and its.value, mine and mine.value, self.seed, "\n".join(trace(history, [], at, now)))

    def report(self, violations, history, logs, lines):
        """The first few, the first one with what happened around it."""
        violations.sort(key=lambda v: v.op.t1)
        first = violations[0]
        text = ["seed %d: %d violations" % (self.seed, len(violations)), *map(str, violations[:12])]
        text += ["", "what was done around the first one:"]
        text += ["  %.4f %s" % (t, what) for t, what in self.events if first.op.t0 - 4 < t < first.op.t1 + 0.5]
        keys = [first.at] if isinstance(first.at, tuple) else first.op.at[:2]
        for at in keys:
            text += ["", "key %r:" % (at,), *trace(history, logs, at, first.op.t1, first)]
        for client, _, log in logs:
            if client == first.client and first.op in list(flat(log)):
                at = log.index(first.op) if first.op in log else len(log)
                text += ["", "client %s, its last commands:" % client]
                text += ["  %.4f %r -> %.160r" % (o.t1, o, o.reply) for o in log[max(at - SHOWN, 0):at + 3]]
        return "\n".join(text)


def trace(history, logs, at, until, first=None):
    """The last things that happened to a key, by Redis and by the clients, in the order of time."""
    rows = []
    for (node, key), past in history.pasts.items():
        if key == at:
            rows += [(t.time, "%s  %s%s" % (node, "" if t.changed else "(in vain) ", t.line.text[:160].decode("latin-1")))
                     for t in past.touches]
    for client, route, log in logs:
        for op in log:
            for one in op.at if op.kind == "exec" else [op]:
                if one.kind in ("read", "write") and at in one.at and one.t1:
                    mark = " <== HERE" if first and one is first.op else ""
                    rows.append((one.t1, "client %s by %s, begun %.4f: %r -> %.160r%s" % (
                        client, "Redis" if route is None else route, one.t0, one, one.reply, mark)))
    rows = [r for r in sorted(rows) if r[0] <= until + 0.05]
    return ["  %.4f %s" % row for row in rows[-SHOWN:]]


class Speaker:
    """A person's voice for the time after a round."""

    def __init__(self, person):
        self.conn = Conn(port=person.route.port)
        if person.proto == 3:
            self.conn.hello(3)
        if person.db:
            self.conn.cmd("SELECT", person.db)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()

    def read_all(self, spaces, person):
        """Each key twice: what the first reply left in a memory is what the second one is."""
        log = []
        for _ in range(2):
            for space in spaces:
                if space.sealed and person.direct:
                    continue
                for tag in range(space.tags):
                    log += self.read_tag(space, tag, person)
        return log

    def read_tag(self, space, tag, person):
        ops = []
        for name in ("s1", "s2", "s3", "n1", "h1", "h2", "l1", "e1", "z1", "z2"):
            key = (space, tag, name)
            k, at = person.name(key), [person.at(key)]
            ways = {"s": [["GET", k], ["STRLEN", k]], "n": [["GET", k]], "h": [["HGETALL", k], ["HGET", k, "f1"]],
                    "l": [["LRANGE", k, 0, -1], ["LLEN", k]], "e": [["SMEMBERS", k]], "z": [["ZRANGE", k, 0, -1, "WITHSCORES"]]}
            if space.sealed and name[0] in "ez":
                ways[name[0]] = [["TYPE", k]]
            ops += [Op("read", words, at, fresh=True) for words in [["EXISTS", k], *ways[name[0]]]]
        t0 = time.time()
        replies = self.conn.pipeline([op.words for op in ops])
        for op, raw in zip(ops, replies):
            op.reply, op.t0, op.t1 = parse(raw), t0, time.time()
            assert not isinstance(op.reply, RespError) or op.reply.startswith("WRONGTYPE"), (op, op.reply)
        return ops


__all__ = ["Node", "Person", "Run", "World"]
