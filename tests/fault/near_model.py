# SPDX-License-Identifier: BSD-2-Clause
"""The model checker of the near-cache: clients (near_load.py) through several Keyweirs and at Redis itself, faults
meanwhile (near_faults.py), and then the judgement (near_check.py) by what MONITOR tells (near_history.py).

A run is a number of rounds. After each everything is quiet for a second, then all clients must read exactly what is
there, and what near_state.py worked out must be what Redis holds.

NEAR_SEED replays the choices of a run; its timing is of course another.
"""
import glob
import os
import random
import threading
import time

from harness.monitor import Monitor
from harness.resp import Conn, RespError, parse
from near_check import Judge, Tally, flat
from near_history import History
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


def snapshot(server, dbs, opened):
    """{(db, key): Item} of all that a server holds."""
    items = {}
    with server.client() as c:
        for db in dbs:
            if dbs != [0]:
                c.cmd("SELECT", db)
            keys = c.cmd("KEYS", "*")
            for key in keys:
                kind, end = c.cmd("TYPE", key), c.cmd("PEXPIRETIME", key)
                value = content(c, kind, key, opened)
                if value is not None and end != -2:
                    end = None if end == -1 else end / 1000
                    items[db, key] = Item((kind, value), end, end)
    return items


def content(c, kind, key, opened):
    """None: it is gone by now."""
    if kind == "string":
        value = c.cmd("GET", key)
        return None if value is None else opened(b"s", key, None, value)
    if kind == "hash":
        flat = c.cmd("HGETALL", key)
        return {f: opened(b"h", key, f, v) for f, v in zip(flat[::2], flat[1::2])} or None
    if kind == "list":
        return tuple(opened(b"l", key, None, v) for v in c.cmd("LRANGE", key, 0, -1)) or None
    if kind == "set":
        return frozenset(c.cmd("SMEMBERS", key)) or None
    if kind == "zset":
        flat = c.cmd("ZRANGE", key, 0, -1, "WITHSCORES")
        return {m: float(s) for m, s in zip(flat[::2], flat[1::2])} or None
    return None


class World:
    """What is tested. nodes: [Node]; owner() -> function (key) -> node's name; masters() -> names; pids() -> {name: pid}
    of whatever takes part: a Keyweir's name is its number."""

    def __init__(self, nodes, owner, masters, pids, dbs=(0,), opened=lambda kind, key, field, value: value):
        self.nodes, self.owner, self.masters, self.pids = nodes, owner, masters, pids
        self.dbs, self.opened = list(dbs), opened

    def node(self, name):
        return next(n for n in self.nodes if n.name == name)

    def snapshots(self):
        return {n.name: snapshot(n.server, self.dbs, self.opened) for n in self.nodes if n.server.alive()}


class Run:
    """people: the clients; faults: called with (run, until) while they work, it notes in `ill` what it breaks."""

    def __init__(self, world, people, spaces, seed, processes=2, pause=0.004):
        self.world, self.people, self.spaces, self.seed = world, people, spaces, seed
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.ill = []  # (from, to, number of the Keyweir or None)
        self.elections = []
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

    def note(self, text):
        self.events.append((time.time(), text))

    def round(self, seconds, faults=None):
        """Load and faults for so long, and the judgement."""
        self.ill, self.elections, self.events = [], [], []
        base = self.world.snapshots()
        history = History(base, self.owner_now(), self.world.opened)
        masters = self.world.masters()
        since = time.time()
        for node in self.world.nodes:
            node.take()  # what was before belongs to no round
            node.since = since - 0.001
        self.load.begin(seconds)
        end = since + seconds
        if faults:
            faults(self, end)
        logs, wrong, errors, closed = self.load.end()
        self.errors, self.closed = self.errors + len(errors), self.closed + closed
        assert not wrong, "seed %d\n%s" % (self.seed, "\n".join(wrong[:20]))
        time.sleep(1.0)  # the promise is for when all is quiet
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
        history.tell(lines, masters, self.elections)
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
