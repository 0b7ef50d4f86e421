# SPDX-License-Identifier: BSD-2-Clause
"""Clients that read and write a few keys at random, in processes of their own, and note what they sent, when, and what
came back. They judge nothing: near_check.py does, afterwards.

Every value that is written carries a mark that is never used again: ~17~.
"""
import multiprocessing
import random
import selectors
import socket
import time
from collections import deque

from harness.resp import RespError, encode, parse, reply_end

NAMES = ["s1", "s2", "s3", "n1", "h1", "h2", "l1", "e1", "z1", "z2"]  # of a tag's keys; the letter is the type
KINDS = {"s": "string", "n": "number", "h": "hash", "l": "list", "e": "set", "z": "zset"}
FIELDS = [b"f%d" % i for i in range(5)]
DOUBT = ("may have been executed", "TIMEOUT")

# scopes of a write: who must see it from its reply on
ALL = 2  # everybody who asks the same Keyweir
SELF = 1  # the client that wrote


class Op:
    """A command; `at`: its keys as (db, upstream name), with `names` what MONITOR may call it."""

    __slots__ = ("name", "words", "at", "kind", "mark", "scope", "t0", "t1", "reply", "fresh", "sure", "places")

    def __init__(self, kind, words, at=(), mark=None, scope=ALL, fresh=False):
        self.kind = kind  # "read", "write", "other"
        self.words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.name = self.words[0].upper() if words else b""
        self.at, self.mark, self.scope = list(at), mark, scope
        self.fresh = fresh  # a read that must not be answered from memory
        self.t0 = self.t1 = 0.0
        self.reply = None
        self.sure = False  # a reply came that says that it was done

    def __repr__(self):
        return "%s %s" % (self.name.decode(), b" ".join(self.words[1:])[:120].decode("latin-1"))


class Space:
    """A namespace: how its keys begin, for clients and upstream."""

    def __init__(self, name, match, prefix, tags, sealed=False):
        self.name, self.match, self.prefix, self.tags, self.sealed = name, match, prefix, tags, sealed


class Route:
    """Where clients connect to; number None: to Redis itself. move(): from now on elsewhere, for all processes."""

    def __init__(self, number, port, label):
        self.number, self.shared, self.label = number, multiprocessing.get_context("fork").Value("i", port), label

    @property
    def port(self):
        return self.shared.value

    def move(self, port):
        self.shared.value = port


class Person:
    """One client: a generator of batches of Ops, given back when they are answered."""

    def __init__(self, number, route, spaces, rng, options):
        self.number, self.route, self.spaces, self.rng = number, route, spaces, rng
        self.direct = route.number is None
        self.db = options.get("db", 0)
        self.proto = options.get("proto", 2)
        self.clustered = options.get("clustered", False)
        self.writes = options.get("writes", 0.2)
        self.alike = options.get("alike", 0.5)  # of reads: the same one of its key
        self.scripts, self.transactions = options.get("scripts", 0.05), options.get("transactions", 0.07)
        self.rare = options.get("rare", 0.0)  # how often FLUSHALL and the like
        self.count = 0
        self.within = None  # a transaction's space and tag

    # ---- names ----

    def pick(self, kinds=None, space=None, tag=None, calm=None):
        """A key: (space, tag, name). Of the upper half of tags keys are written seldom: what is wrongly kept of them is
        not soon repaired by the next write. calm: whether it is one of these; None: either."""
        rng = self.rng
        if self.within:
            space, tag = self.within
        space = space or rng.choices(self.spaces, [s.tags for s in self.spaces])[0]
        if tag is None:
            calm = rng.random() < 0.5 if calm is None else calm
            busy = max(space.tags // 2, 1)
            tag = rng.randrange(busy, space.tags) if calm and space.tags > busy else rng.randrange(busy)
        names = [n for n in NAMES if kinds is None or n[0] in kinds]
        return space, tag, rng.choice(names)

    def name(self, key):
        space, tag, name = key
        return ("%s{%s%d}%s" % (space.prefix if self.direct else space.match, space.name, tag, name)).encode()

    def at(self, key):
        space, tag, name = key
        return self.db, ("%s{%s%d}%s" % (space.prefix, space.name, tag, name)).encode()

    def mark(self):
        self.count += 1
        return b"~%d~" % (self.number * 10_000_000 + self.count)

    def value(self, key, mark):
        rng = self.rng
        size = rng.choice((0, 3, 20, 60)) if rng.random() < 0.97 else rng.choice((3000, 5000, 40000))
        return self.name(key) + mark + b"." * size

    # ---- commands ----

    def read(self, fresh=False):
        key = self.pick()
        space, tag, name = key
        if self.direct and space.sealed:
            return Op("read", ["EXISTS", self.name(key)], [self.at(key)], fresh=True)
        rng, at, k = self.rng, [self.at(key)], self.name(key)
        if rng.random() < self.alike:
            op = self.look_at(Op("write", [], at))
            op.fresh = op.fresh or fresh
            return op
        if rng.random() < 0.08:
            words = [rng.choice(["EXISTS", "TYPE"]), k]
        elif name[0] in "sn":
            words = self.read_string(key, k, at)
        elif name[0] == "h":
            words = rng.choice([["HGETALL", k], ["HGET", k, rng.choice(FIELDS)], ["HMGET", k, *rng.sample(FIELDS, 3)],
                                ["HLEN", k], ["HKEYS", k], ["HVALS", k], ["HEXISTS", k, rng.choice(FIELDS)]])
        elif name[0] == "l":
            words = rng.choice([["LRANGE", k, 0, -1], ["LRANGE", k, 0, 1], ["LRANGE", k, -2, -1], ["LLEN", k],
                                ["LINDEX", k, 0], ["LINDEX", k, -1]])
        elif name[0] == "e":
            words = rng.choice([["SMEMBERS", k], ["SCARD", k], ["SISMEMBER", k, "m%d" % rng.randrange(6)],
                                ["SMISMEMBER", k, "m1", "m2", "m9"]])
        else:
            words = rng.choice([["ZRANGE", k, 0, -1], ["ZRANGE", k, 0, -1, "WITHSCORES"], ["ZCARD", k],
                                ["ZSCORE", k, "m%d" % rng.randrange(6)], ["ZRANK", k, "m1"]])
        if space.sealed and words[0] in ("SMEMBERS", "SISMEMBER", "SMISMEMBER", "SCARD", "BITCOUNT") or \
                space.sealed and words[0].startswith("Z"):
            words = ["EXISTS", k]
        return Op("read", words, at, fresh=fresh or self.direct)

    def read_string(self, key, k, at):
        """GET mostly; MGET names further keys."""
        rng, space = self.rng, key[0]
        what = rng.random()
        if what < 0.6:
            return ["GET", k]
        if what < 0.8:
            others = [self.pick("sn", space, key[1] if self.clustered and rng.random() < 0.5 else None)
                      for _ in range(rng.randint(1, 4))]
            at += [self.at(o) for o in others]
            return ["MGET", k, *(self.name(o) for o in others)]
        if space.sealed:
            return ["STRLEN", k]
        return rng.choice([["STRLEN", k], ["GETRANGE", k, 0, 9], ["GETRANGE", k, -4, -1], ["BITCOUNT", k]])

    def write(self, scope=ALL):
        key = self.pick(calm=self.rng.random() < 0.1)
        if key[0].sealed:
            return self.write_sealed(key, scope)
        what = self.rng.random()
        if what < 0.22:
            return self.write_any(key, scope)
        return {"s": self.write_string, "n": self.write_number, "h": self.write_hash, "l": self.write_list,
                "e": self.write_set, "z": self.write_zset}[key[2][0]](key, scope)

    def life(self):
        """Options of SET: mostly a short life."""
        rng = self.rng
        return rng.choice([[], [], ["PX", rng.randint(40, 900)], ["EX", 1], ["PXAT", int(time.time() * 1000) + 300],
                           ["KEEPTTL"]])

    def write_any(self, key, scope):
        """What goes with keys of every type."""
        rng, k, at = self.rng, self.name(key), [self.at(key)]
        what = rng.random()
        if what < 0.25:
            return Op("write", [rng.choice(["DEL", "UNLINK"]), k], at, scope=scope)
        if what < 0.45:
            return Op("write", ["PEXPIRE", k, rng.randint(20, 600)], at, scope=scope)
        if what < 0.5:
            return Op("write", ["PEXPIREAT", k, int(time.time() * 1000) + rng.randint(50, 500)], at, scope=scope)
        if what < 0.55:
            return Op("write", rng.choice([["PERSIST", k], ["EXPIRE", k, 1]]), at, scope=scope)
        if what < 0.6:
            mark = self.mark()
            return Op("write", ["SET", k, self.value(key, mark)], at, mark, scope)
        other = self.pick(None, key[0], key[1])
        if other == key:
            return Op("write", ["DEL", k], at, scope=scope)
        two = [*at, self.at(other)]
        if what < 0.75:
            return Op("write", [rng.choice(["RENAME", "RENAMENX"]), k, self.name(other)], two, scope=scope)
        return Op("write", ["COPY", k, self.name(other), *rng.choice([[], ["REPLACE"]])], two[1:], scope=scope)

    def write_string(self, key, scope):
        rng, k, at, mark = self.rng, self.name(key), [self.at(key)], self.mark()
        value, what = self.value(key, mark), rng.random()
        if what < 0.5:
            return Op("write", ["SET", k, value, *self.life(), *rng.choice([[], [], ["GET"], ["NX"], ["XX"]])], at, mark, scope)
        if what < 0.6:
            return Op("write", ["APPEND", k, mark], at, mark, scope)
        if what < 0.65:
            return Op("write", ["SETRANGE", k, 0, mark], at, mark, scope)
        if what < 0.75:
            return Op("write", [rng.choice(["GETDEL", "GETEX"]), k], at, scope=scope)
        if what < 0.82:
            return Op("write", ["PSETEX", k, rng.randint(40, 500), value], at, mark, scope)
        if what < 0.87:
            return Op("write", ["GETSET", k, value], at, mark, scope)
        tag = key[1] if self.clustered and rng.random() < 0.5 else None
        keys = list({self.name(o): o for o in [key, *(self.pick("s", key[0], tag) for _ in range(2))]}.values())
        words = ["MSET"]
        for one in keys:
            words += [self.name(one), self.value(one, mark)]
        return Op("write", words, [self.at(one) for one in keys], mark, scope)

    def write_number(self, key, scope):
        return Op("write", self.rng.choice([["INCR", self.name(key)], ["INCRBY", self.name(key), 7]]), [self.at(key)], scope=scope)

    def write_hash(self, key, scope):
        rng, k, at, mark = self.rng, self.name(key), [self.at(key)], self.mark()
        if rng.random() < 0.2:
            return Op("write", ["HDEL", k, *rng.sample(FIELDS, 2)], at, scope=scope)
        words = ["HSET", k]
        for field in rng.sample(FIELDS, rng.randint(1, 4)):
            words += [field, self.value(key, mark)]
        return Op("write", words, at, mark, scope)

    def write_list(self, key, scope):
        rng, k, at, mark = self.rng, self.name(key), [self.at(key)], self.mark()
        what = rng.random()
        if what < 0.5:
            return Op("write", [rng.choice(["RPUSH", "LPUSH"]), k, self.value(key, mark), mark], at, mark, scope)
        if what < 0.6:
            return Op("write", ["LSET", k, 0, mark], at, scope=scope)
        if what < 0.75:
            return Op("write", [rng.choice(["LPOP", "RPOP"]), k], at, scope=scope)
        if what < 0.85:
            other = self.pick("l", key[0], key[1])
            return Op("write", ["LMOVE", k, self.name(other), "LEFT", "RIGHT"], [*at, self.at(other)], scope=scope)
        return Op("write", ["LTRIM", k, -4, -1], at, scope=scope)

    def write_set(self, key, scope):
        rng, k, at, member = self.rng, self.name(key), [self.at(key)], "m%d" % self.rng.randrange(6)
        what = rng.random()
        if what < 0.45:
            return Op("write", ["SADD", k, member, "m%d" % rng.randrange(6)], at, scope=scope)
        if what < 0.8:
            return Op("write", ["SREM", k, member], at, scope=scope)
        other = self.pick("e", key[0], key[1])
        return Op("write", ["SUNIONSTORE", k, k, self.name(other)], at, scope=scope)

    def write_zset(self, key, scope):
        rng, k, at, member = self.rng, self.name(key), [self.at(key)], "m%d" % self.rng.randrange(6)
        return Op("write", rng.choice([["ZADD", k, rng.randrange(100), member, rng.randrange(100), "m9"],
                                       ["ZINCRBY", k, 3, member], ["ZREM", k, member]]), at, scope=scope)

    def write_sealed(self, key, scope):
        rng, k, at, mark = self.rng, self.name(key), [self.at(key)], self.mark()
        what = rng.random()
        if self.direct or what < 0.25:
            return Op("write", rng.choice([["DEL", k], ["PEXPIRE", k, rng.randint(20, 600)]]), at, scope=scope)
        if key[2][0] == "h":
            return Op("write", ["HSET", k, rng.choice(FIELDS), self.value(key, mark)], at, mark, scope)
        if key[2][0] == "l":
            return Op("write", ["RPUSH", k, self.value(key, mark)], at, mark, scope)
        return Op("write", ["SET", k, self.value(key, mark), *self.life()], at, mark, scope)

    def script(self):
        """EVAL; half of them write a key that they don't declare: in a Cluster not where slots move (space b stays)."""
        space = self.rng.choice([s for s in self.spaces if not s.sealed])
        key = self.pick("sh", space, calm=self.rng.random() < 0.3)
        mark = self.mark()
        at, value = self.at(key), self.value(key, mark)
        call = "'SET',%s,ARGV[1]" if key[2][0] == "s" else "'HSET',%s,'f1',ARGV[1],'f2',ARGV[1]"
        if self.rng.random() < 0.5 or (self.clustered and space.name != "b"):
            script = "redis.call(%s) return ARGV[1]" % (call % "KEYS[1]")
            return Op("write", ["EVAL", script, 1, self.name(key), value], [at], mark, ALL)
        script = "redis.call(%s) return ARGV[1]" % (call % "ARGV[2]")
        keys = [1, self.name((space, key[1], "nothing"))] if self.clustered else [0]
        return Op("write", ["EVAL", script, *keys, value, at[1]], [at], mark, SELF)

    def seldom(self):
        """No SWAPDB: of that Redis tells nobody who tracks keys."""
        rng = self.rng
        if self.clustered:
            return Op("write", ["FLUSHALL"], ["all"])
        return Op("write", rng.choice([["FLUSHALL"], ["FLUSHDB"], ["FLUSHDB"]]), ["all"])

    # ---- a life ----

    def batches(self):
        """Yields lists of Ops; they are answered when it goes on."""
        rng = self.rng
        if self.proto == 3:
            yield [Op("other", ["HELLO", 3])]
        if self.db:
            yield [Op("other", ["SELECT", self.db])]
        while True:
            what = rng.random()
            if what < 0.03 and rng.random() < self.rare:
                yield [self.seldom()]
            elif what < 0.03 + self.transactions:
                yield from self.transaction()
            elif what < 0.03 + self.transactions + self.scripts:
                ops = [self.script()]
                ops += [self.look_at(ops[0]) for _ in range(2)]
                yield ops if rng.random() < 0.5 else ops[:1]
            else:
                yield self.pipeline()

    def pipeline(self):
        rng, ops = self.rng, []
        for _ in range(rng.choice((1, 1, 2, 3, 8, 20))):
            if rng.random() < self.writes:
                ops.append(self.write())
                if rng.random() < 0.5:
                    ops.append(self.look_at(ops[-1]))
            else:
                ops.append(self.read())
        if rng.random() < 0.2:
            mark = self.mark()
            ops.insert(rng.randint(0, len(ops)), Op("other", ["PING" if rng.random() < 0.5 else "ECHO", mark], mark=mark))
        return ops

    def look_at(self, op):
        """A read of a key that the command before writes."""
        key = op.at[-1]
        space = next(s for s in self.spaces if key[1].startswith(b"%s{%s" % (s.prefix.encode(), s.name.encode())))
        name = key[1][len(space.prefix):]
        name = (space.prefix if self.direct else space.match).encode() + name
        if self.direct and space.sealed:
            return Op("read", ["EXISTS", name], [key], fresh=True)
        words = {"s": ["GET", name], "n": ["GET", name], "h": ["HGETALL", name], "l": ["LRANGE", name, 0, -1],
                 "e": ["EXISTS", name] if space.sealed else ["SMEMBERS", name],
                 "z": ["EXISTS", name] if space.sealed else ["ZRANGE", name, 0, -1]}[chr(key[1][key[1].index(b"}") + 1])]
        return Op("read", words, [key], fresh=self.direct)

    def transaction(self):
        """MULTI, with WATCH or without, in one write or in several."""
        rng, space = self.rng, self.rng.choice(self.spaces)
        tag = rng.randrange(space.tags)
        self.within = space, tag
        inner = [self.write() if rng.random() < 0.5 else self.read(True) for _ in range(rng.randint(1, 4))]
        watched = self.read(True) if rng.random() < 0.3 else None
        self.within = None
        if watched:
            watch = Op("other", ["WATCH", watched.words[1]])
            if rng.random() < 0.5:
                yield [watch]
                yield [watched]
            else:
                yield [watch, watched]
        multi, end = Op("multi", ["MULTI"]), Op("exec", ["EXEC"])
        end.at = inner
        queued = [Op("queued", op.words) for op in inner]
        if rng.random() < 0.6:
            yield [multi, *queued, end]
        else:
            yield [multi]
            if isinstance(multi.reply, RespError):  # after -TIMEOUT it may have begun all the same
                yield [Op("other", ["DISCARD"])]
                return
            for op in queued:
                yield [op]
            yield [end]


class Line:
    """A connection with a Person behind it."""

    def __init__(self, loop, person):
        self.loop, self.person = loop, person
        self.sock = None
        self.number = 0
        self.log = []  # all Ops of this connection, in order
        self.waiting = deque()
        self.data = bytearray()
        self.batches = None
        self.due = 0.0
        self.busy = False

    def connect(self):
        self.port = self.person.route.port
        try:
            self.sock = socket.create_connection(("127.0.0.1", self.port), timeout=2)
        except OSError:
            self.sock = None
            self.due = time.time() + 0.05
            return False
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.loop.select.register(self.sock, selectors.EVENT_READ, self)
        self.log = []
        self.loop.logs.append((self.person.number, self.person.route.number, self.log))
        self.batches = self.person.batches()
        self.data.clear()
        return True

    def go_on(self, now):
        if self.sock and self.port != self.person.route.port:
            self.lose()
        if self.sock is None and not self.connect():
            return
        ops = next(self.batches)
        self.waiting.extend(ops)
        data = b"".join(encode(*op.words) for op in ops)
        self.log.extend(ops)
        self.busy = True
        t0 = time.time()
        for op in ops:
            op.t0 = t0
        self.limit = t0 + 20
        try:
            if self.sock.send(data) != len(data):
                raise ConnectionError("more than the socket takes at once")
        except OSError:
            self.lose()

    def lose(self):
        """The connection is gone: of what waits nobody knows."""
        self.loop.select.unregister(self.sock)
        self.sock.close()
        self.sock = None
        self.loop.closed += 1
        self.waiting.clear()
        self.busy = False
        self.due = time.time() + 0.02

    def read(self):
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.time()
        if not data:
            self.lose()
            return
        self.data += data
        at = 0
        while self.waiting:
            end = reply_end(self.data, at) if at < len(self.data) else None
            if end is None:
                break
            self.answer(self.waiting.popleft(), parse(self.data[at:end]), now)
            at = end
        if at < len(self.data) and not self.waiting:
            self.loop.wrong.append("client %d: bytes that nobody asked for: %r" % (self.person.number, bytes(self.data[at:at + 200])))
            self.lose()
            return
        del self.data[:at]
        if not self.waiting:
            self.busy = False
            self.due = now + self.person.rng.expovariate(1 / self.loop.pause)

    def answer(self, op, reply, now):
        op.reply, op.t1 = reply, now
        op.sure = not isinstance(reply, RespError)
        if isinstance(reply, RespError):
            self.loop.errors.append((now, str(reply)))
        if op.kind == "exec" and isinstance(reply, list):
            if len(reply) != len(op.at):
                self.loop.wrong.append("client %d: EXEC of %d commands: %r, after\n%s" % (
                    self.person.number, len(op.at), reply, "\n".join("  %r -> %.200r" % (o, o.reply) for o in self.log[-150:])))
            for inner, value in zip(op.at, reply):
                inner.reply, inner.t0, inner.t1 = value, op.t0, now
                inner.sure = not isinstance(value, RespError)


class Loop:
    """One process's clients."""

    def __init__(self, people, pause):
        self.lines = [Line(self, p) for p in people]
        self.pause = pause
        self.select = selectors.DefaultSelector()
        self.logs, self.wrong, self.errors, self.closed = [], [], [], 0

    def run(self, end, hold):
        """Until `end`, and until everything is answered. `hold`: those at Redis itself send nothing while it is set."""
        for line in self.lines:
            if line.sock:  # the log goes on in a new list
                line.log = []
                self.logs.append((line.person.number, line.person.route.number, line.log))
        while True:
            now = time.time()
            over = now >= end
            busy = False
            for line in self.lines:
                if line.busy:
                    busy = True
                    if now > line.limit:
                        self.wrong.append("client %d hangs: %r" % (line.person.number, list(line.waiting)[:3]))
                        line.lose()
                elif not over and now >= line.due and not (hold.value and line.person.direct):
                    line.go_on(now)
            if over and not busy:
                return
            for key, _ in self.select.select(0.001):
                key.data.read()


class Load:
    """The clients' processes; run() gives what they did."""

    def __init__(self, people, processes=2, pause=0.004):
        self.context = multiprocessing.get_context("fork")
        self.hold = self.context.Value("b", 0)
        self.controls, self.processes = [], []
        for i in range(processes):
            near, far = self.context.Pipe()
            process = self.context.Process(target=_work, args=(people[i::processes], pause, far, near, self.hold), daemon=True)
            process.start()
            far.close()
            self.controls.append(near)
            self.processes.append(process)

    def begin(self, seconds):
        for control in self.controls:
            control.send(time.time() + seconds)

    def end(self):
        """(logs, wrong, errors, closed): logs are (client, route, Ops in order)."""
        logs, wrong, errors, closed = [], [], [], 0
        for control in self.controls:
            answer = control.recv()
            if isinstance(answer, BaseException):
                raise answer
            logs += answer[0]
            wrong += answer[1]
            errors += answer[2]
            closed += answer[3]
        return logs, wrong, errors, closed

    def close(self):
        for control, process in zip(self.controls, self.processes):
            control.close()
            process.join(3)
            if process.is_alive():
                process.kill()
                process.join()


def _work(people, pause, control, other_end, hold):
    other_end.close()
    loop = Loop(people, pause)
    while True:
        try:
            end = control.recv()
        except EOFError:
            return
        try:
            loop.run(end, hold)
            answer = loop.logs, loop.wrong, loop.errors, loop.closed
        except BaseException as e:  # told to the test
            answer = e
        try:
            control.send(answer)
        except OSError:
            return
        loop.logs, loop.wrong, loop.errors, loop.closed = [], [], [], 0


__all__ = ["ALL", "DOUBT", "Load", "Op", "Person", "Route", "SELF", "Space", "random"]
