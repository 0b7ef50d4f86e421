# SPDX-License-Identifier: BSD-2-Clause
"""Whether what clients were told is what Redis held: the judgement of a round, after it.

    (a) what a client wrote through a Keyweir is seen by all who ask that Keyweir after its reply; what it wrote by ways
        that Keyweir can't look through (scripts, transactions), by itself
    (b) what came another way is seen after LIMIT at the latest, and nothing outlives its own time
    (c) every reply is what its key was at some moment, in the order of the client's commands; and on one connection
        nobody goes back in time, but for as long as Redis's word needs to arrive
"""
from bisect import bisect_left

from harness.resp import RespError
from near_history import FIRST, LAST
from near_load import ALL
from near_state import CLOCK, Torn, normal

LIMIT = 0.5  # seconds: TRUTH_LIMIT_MS
HEALTHY = 0.05  # and with links that are not held up
AFTER = 0.7  # so long after a fault a link counts as ill
OFTEN_NAMES = {b"SET": (b"SET", b"PSETEX", b"SETEX"), b"EVAL": (b"SET", b"HSET"), b"SETEX": (b"SETEX", b"PSETEX"),
               b"DEL": (b"DEL", b"UNLINK"), b"UNLINK": (b"DEL", b"UNLINK")}
OLD_VALUE = (b"GETSET", b"GETDEL", b"GETEX")
KNOWN_ERRORS = ("UPSTREAMDOWN", "TIMEOUT", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "UNBLOCKED", "TRYAGAIN",
                "EXECABORT", "WRONGTYPE", "ERR no such key", "ERR index out of range", "ERR value is not an integer",
                "ERR EXEC without MULTI", "ERR DISCARD without MULTI", "MOVED", "ASK", "CROSSSLOT")


class Floors:
    """Of the writes through one Keyweir: which place of a key everybody must see who begins after their replies."""

    def __init__(self):
        self.raw = {}
        self.made = {}

    def add(self, at, done, place):
        self.raw.setdefault(at, []).append((done, place))

    def before(self, at, t0):
        if at not in self.raw:
            return FIRST
        made = self.made.get(at)
        if made is None:
            times, places, top = [], [], FIRST
            for done, place in sorted(self.raw[at]):
                top = max(top, place)
                times.append(done)
                places.append(top)
            made = self.made[at] = times, places
        i = bisect_left(made[0], t0)
        return made[1][i - 1] if i else FIRST


class Violation:
    def __init__(self, what, at, op, client, route):
        self.what, self.at, self.op, self.client, self.route = what, at, op, client, route

    def __str__(self):
        return "%s: %.4f-%.4f client %s by %s, key %s: %r -> %r" % (
            self.what, self.op.t0, self.op.t1, self.client, "Redis" if self.route is None else "Keyweir %d" % self.route, self.at, self.op,
            self.op.reply if len(repr(self.op.reply)) < 300 else repr(self.op.reply)[:300])


class Tally:
    """What was seen in all rounds."""

    def __init__(self):
        self.reads = self.writes = self.certain = self.back = self.unknown = 0
        self.healthy, self.ill = [], []  # by how much replies were over, seconds
        self.slack = 0.0

    @staticmethod
    def spread(seen):
        if not seen:
            return "none"
        seen = sorted(seen)
        return "%d, median %.1f ms, p90 %.1f, p99 %.1f, at most %.1f" % (
            len(seen), *(1000 * seen[min(int(len(seen) * q), len(seen) - 1)] for q in (0.5, 0.9, 0.99, 1)))

    def __str__(self):
        return ("%d reads, %d writes (%d with a known place in Redis's order); replies that were over when the read began: "
                "links well: %s; links ill: %s; %d reads of a key unlike the newest read of it before; %d of keys in doubt; "
                "slack %.0f ms at most" % (self.reads, self.writes, self.certain, self.spread(self.healthy),
                                           self.spread(self.ill), self.back, self.unknown, 1000 * self.slack))


class Judge:
    """history: of the round. ill: [(start, end, Keyweir)] with the times of faults. slack(names, t0, t1): how long these
    processes had to wait for a CPU then; others: those that stand between Redis and a Keyweir."""

    def __init__(self, history, tally, ill=(), slack=lambda names, t0, t1: 0.01, others=()):
        self.history, self.tally, self.ill, self.slack = history, tally, ill, slack
        self.others = list(others)
        self.violations = []
        self.floors = {}

    def round(self, logs):
        """logs: [(client, route, Ops in order)]."""
        logs = [(client, route, list(flat(log))) for client, route, log in logs]
        for client, route, log in logs:
            for op in log:
                if op.kind == "write" and op.sure:
                    self.write(client, route, op)
        for client, route, log in logs:
            self.client(client, route, log)
        return self.violations

    def wrong(self, what, at, op, client, route):
        self.violations.append(Violation(what, at, op, client, route))

    # ---- writes ----

    def write(self, client, route, op):
        """Finds its place in Redis's order."""
        self.tally.writes += 1
        op.places = {}
        if op.at == ["all"]:
            return
        names = OFTEN_NAMES.get(op.name, (op.name,))
        for at in op.at:
            found = self.history.places(at, names, op.t0, op.t1, op.mark)
            if self.history.unheard(op.t0, op.t1) and not (op.mark and found):  # what looks like it may be another's
                continue
            if op.mark and not found:
                self.wrong("a write that was answered and never done", at, op, client, route)
            elif len({f[0][0] for f in found if f[2]}) < sum(f[2] for f in found):  # in one reign
                self.wrong("a write that was done twice", at, op, client, route)
            elif found:
                self.tally.certain += len(found) == 1
                op.places[at] = found
                if op.scope == ALL and route is not None:
                    self.floors.setdefault(route, Floors()).add(at, op.t1, min(f[0] for f in found))

    # ---- one connection ----

    def client(self, client, route, log):
        ceilings = self.ceilings(log)
        own, seen = {}, {}
        for i, op in enumerate(log):
            if op.t1 == 0.0:
                continue
            if op.kind == "write" and op.sure:
                self.written(op, client, route)
                for at, found in op.places.items():
                    own[at] = max(own.get(at, FIRST), min(f[0] for f in found))
            elif op.kind == "read":
                self.read(op, client, route, own, seen, ceilings[i])
            elif op.kind == "other":
                self.other(op, client, route)
            if failed(op.reply) and not op.reply.startswith(KNOWN_ERRORS):
                self.wrong("an error that nobody may get", op.at, op, client, route)

    @staticmethod
    def ceilings(log):
        """For each read: {key: place of the client's next own write of it}."""
        ahead, out = {}, [None] * len(log)
        for i in range(len(log) - 1, -1, -1):
            op = log[i]
            if op.kind == "read":
                out[i] = [ahead.get(at, LAST) for at in op.at]
            elif op.kind == "write" and op.sure:
                for at, found in op.places.items():
                    ahead[at] = min(ahead.get(at, LAST), max(f[1] for f in found))
        return out

    def other(self, op, client, route):
        if op.mark and not failed(op.reply) and op.reply != op.mark:
            self.wrong("another's answer", None, op, client, route)

    def written(self, op, client, route):
        """Replies of writes that tell what was there."""
        name = None
        if op.name in OLD_VALUE or (op.name == b"SET" and b"GET" in op.words[3:]):
            name, reply = b"GET", op.reply
        elif op.name in (b"INCR", b"INCRBY"):
            name, reply = b"GET", b"%d" % op.reply if isinstance(op.reply, int) else op.reply
        elif op.name == b"APPEND":
            name, reply = b"STRLEN", op.reply
        if name and not self.history.unheard(op.t0, op.t1) and not any(True for _ in self.history.matches(op.at[0], name, [], reply, op.t0, op.t1, 0.0)):
            self.wrong("no such value while the command ran", op.at[0], op, client, route)

    # ---- reads ----

    def read(self, op, client, route, own, seen, ceilings):
        if failed(op.reply) and not op.reply.startswith("WRONGTYPE"):
            return
        self.tally.reads += 1
        many = op.name == b"MGET"
        if many and (not isinstance(op.reply, list) or len(op.reply) != len(op.at)):
            self.wrong("a torn reply", op.at, op, client, route)
            return
        for i, at in enumerate(op.at):
            reply, args = (op.reply[i], []) if many else (op.reply, op.words[2:])
            floor = own.get(at, FIRST)
            if route in self.floors:
                floor = max(floor, self.floors[route].before(at, op.t0))
            try:
                reply = normal(op.name, args, reply)
            except Torn as e:
                self.wrong("a torn reply (%s)" % e, at, op, client, route)
                continue
            self.judge(op, at, args, reply, floor, ceilings[i], client, route, seen)

    def judge(self, op, at, args, reply, floor, ceiling, client, route, seen):
        slack = self.slack([route], op.t0 - 0.05, op.t1)
        self.tally.slack = max(self.tally.slack, slack)
        reach = 0.0 if op.fresh else LIMIT + slack
        good = [m for m in self.history.matches(at, op.name, args, reply, op.t0, op.t1, reach)
                if floor <= m.place < ceiling and m.overdue <= CLOCK + (0 if op.fresh else slack)]
        if not good:
            self.wrong(self.why(op, at, args, reply, floor, ceiling, reach), at, op, client, route)
            return
        late = min(m.late for m in good)
        ill = any(a <= op.t1 and op.t0 <= b + AFTER and which in (None, route) for a, b, which in self.ill)
        if late > 0:
            (self.tally.ill if ill else self.tally.healthy).append(late)
            if not ill and late > HEALTHY + self.slack([route, *self.others], op.t0 - 0.15, op.t1):
                self.wrong("%.0f ms too late, with links that are well" % (1000 * late), at, op, client, route)
        if max(m.place for m in good) < seen.get(at, FIRST):
            self.tally.back += 1
            if not ill and late > HEALTHY + self.slack([route, *self.others], op.t0 - 0.15, op.t1):
                self.wrong("back in time", at, op, client, route)
        seen[at] = max(seen.get(at, FIRST), min(m.place for m in good))

    def why(self, op, at, args, reply, floor, ceiling, reach):
        """The kindest explanation of a reply that is wrong."""
        found = list(self.history.matches(at, op.name, args, reply, op.t0, op.t1, float("inf")))
        if not found:
            later = list(self.history.matches(at, op.name, args, reply, op.t0, op.t1 + 5, float("inf")))
            return "a value of the future" if later else "what the key never was"
        best = min(found, key=lambda m: (m.place >= ceiling, m.place < floor, m.late))
        if best.place >= ceiling:
            return "a later command's doing"
        if best.place < floor:
            return "overwritten through the same Keyweir before the read (%.1f ms old)" % (1000 * best.late)
        if best.overdue > CLOCK and best.late <= reach:
            return "past its own time by %.1f ms" % (1000 * best.overdue)
        return "%.0f ms old, %.0f allowed" % (1000 * best.late, 1000 * reach)


def flat(log):
    """What ran in a transaction stands in its EXEC's place."""
    for op in log:
        if op.kind == "exec":
            if isinstance(op.reply, list):
                yield from op.at
            yield op
        elif op.kind != "queued":
            yield op


def failed(reply):
    return isinstance(reply, RespError)
