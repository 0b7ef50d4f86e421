# SPDX-License-Identifier: BSD-2-Clause
"""Keyweir with the namespace "product", reached over an ordinary listener and over one that is bound to it; a plain
Redis as the oracle; and what stands in between when all examples are walked through.

DIFF_DIRECT=1 puts a plain Redis in Keyweir's place, with Sentinel and Cluster a Keyweir without namespaces: it proves
the tests, apart from what only a namespace does.
"""
import contextlib
import os

from .cluster import Cluster
from .examples import ALL, PREPARED, Table, keys_of, load_functions, shape, values_of
from .old import OldRedis, binary
from .resp import Conn, RespError, encode, parse
from .sentinel import SentinelSet
from .servers import Keyweir, Redis, free_port

MATCH, PREFIX = "product:", "shop:product:"
DIRECT = bool(os.environ.get("DIFF_DIRECT"))
PATIENT = 'read_timeout = "10s"\n'
TAG = "{t}"  # so that in a Cluster all keys are in one slot


def table_of(options="", name="product", match=MATCH, prefix=PREFIX):
    """[namespace.product] of keyweir.toml."""
    return '[namespace.%s]\nmatch = "%s"\nprefix = "%s"\n%s\n' % (name, match, prefix, options)


class Bound:
    """The listener that is bound to a namespace; what .client() of a server is elsewhere."""

    def __init__(self, name="product"):
        self.name, self.port = name, free_port()

    @property
    def table(self):
        return '[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "%s"\n' % (self.port, self.name)

    def client(self, proto=2):
        conn = Conn(port=self.port)
        if proto == 3:
            conn.hello(3)
        return conn

    def cmd(self, *args):
        with self.client() as conn:
            return conn.cmd(*args)


class Plain:
    """What stands in Keyweir's place with DIFF_DIRECT."""

    def __init__(self, redis):
        self.client = redis.client


class Shop:
    """An upstream, an oracle and Keyweir. target: standalone, old (Redis 6.0), sentinel, cluster."""

    def __init__(self, target="standalone", options="", tables=""):
        self.target, self.options, self.tables = target, options, tables
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            return self._start()
        except BaseException:
            self.stack.close()
            raise

    def __exit__(self, *_):
        self.conns.close()
        self.stack.close()

    def _start(self):
        enter, self.bound = self.stack.enter_context, Bound()
        kind = OldRedis if self.target == "old" else Redis
        self.oracle = enter(kind())
        config = PATIENT, "" if DIRECT else table_of(self.options) + self.bound.table + self.tables
        if self.target == "cluster":
            self.group = enter(Cluster(replicas=0))
            self.backs = self.group.masters()
            self.proxy = self.group.keyweir(*config)
        elif self.target == "sentinel":
            self.group = enter(SentinelSet(replicas=1, sentinels=1))
            self.backs = [self.group.master()]
            self.proxy = self.group.keyweir(*config)
        else:
            self.backs = [enter(kind())]
            self.proxy = Keyweir(self.backs[0], "\n".join(config))
        if DIRECT and self.target in ("standalone", "old"):
            self.proxy = Plain(self.backs[0])
        else:
            enter(self.proxy)
        if DIRECT:
            self.bound = self.proxy
        self.conns = enter(contextlib.ExitStack())
        self.at_oracle = self.conns.enter_context(self.oracle.client())
        self.at_backs = [self.conns.enter_context(b.client()) for b in self.backs]
        self.table = Table(self.at_oracle)
        for conn in (self.at_oracle, *self.at_backs):
            load_functions(conn)
        return self

    @property
    def clustered(self):
        return self.target == "cluster"

    # ---- names ----

    def before(self, bound):
        """What a test puts in front of a key's name, for the client and for the oracle."""
        return ("" if bound else MATCH) + (TAG if self.clustered else "")

    def upstream_name(self, key, bound):
        key = key if isinstance(key, bytes) else key.encode()
        if DIRECT:
            return key
        return PREFIX.encode() + (key if bound else key[len(MATCH):])

    def client(self, bound, proto=2):
        return self.bound.client(proto) if bound else self.proxy.client(proto)

    # ---- what is there ----

    def clear(self):
        for conn in (self.at_oracle, *self.at_backs):
            assert conn.cmd("FLUSHALL") == "OK"

    def keys(self):
        return set().union(*(keys_of(conn) for conn in self.at_backs))

    def values(self):
        out = {}
        for conn in self.at_backs:
            out.update(values_of(conn))
        return out

    def outside(self):
        """Keys upstream that are not behind the prefix."""
        return [] if DIRECT else [k for k in self.keys() if not k.startswith(PREFIX.encode())]

    def pttl(self, key):
        replies = [conn.cmd("PTTL", key) for conn in self.at_backs]
        return next((r for r in replies if isinstance(r, int) and r != -2), -2)

    def knows(self, example):
        """Whether the server has its command at all; what is Keyweir's own table's is asked for all the same."""
        return self.target != "old" or example.name in self.table

    def dump(self, key):
        return self.at_oracle.cmd("DUMP", key)

    def prepare(self, conn, before):
        """Both sides hold the keys of PREPARE and no others; that through Keyweir, over conn."""
        self.clear()
        commands = [c.words(before) for c in PREPARED]
        direct, through = self.at_oracle.pipeline(commands), conn.pipeline(commands)
        wrong = differences(PREPARED, direct, through)
        assert not wrong, "the examples' keys could not be made:\n" + "\n".join(wrong)


def transacted(conn, words):
    """The reply that a command has in EXEC, alone; what was said instead when it was refused before."""
    conn.send_raw(encode("MULTI") + encode(*words) + encode("EXEC"))
    began, queued, reply = (conn.read_raw() for _ in range(3))
    assert began == b"+OK\r\n", began
    if queued != b"+QUEUED\r\n" or not reply.startswith(b"*1\r\n"):
        return queued + reply
    return reply[4:]


def differences(commands, direct, through, where=""):
    """A text for each command whose replies differ."""
    return ["%s%s\n  redis   %r\n  keyweir %r" % (where, c, a[:300], b[:300])
            for c, a, b in zip(commands, direct, through) if not c.same(a, b)]


def compare_data(shop, bound):
    """Texts for what differs between the data of the oracle and upstream."""
    direct = {shop.upstream_name(k, bound): v for k, v in values_of(shop.at_oracle).items()}
    through = shop.values()
    wrong = ["  upstream lacks %r" % k for k in direct.keys() - through.keys()]
    wrong += ["  upstream has %r, which it should not" % k for k in through.keys() - direct.keys()]
    wrong += ["  %r is %r upstream, and should be %r" % (k, through[k], v)
              for k, v in direct.items() if k in through and not same_value(v, through[k])]
    return wrong


def same_value(a, b):
    """Of values_of(). IDs of streams may be times."""
    timed = a[0] == "stream" and any(len(entry[0]) > 12 for entry in a[1])
    return shape(a) == shape(b) if timed else a == b


def has_old():
    return binary() is not None


__all__ = ["ALL", "Bound", "DIRECT", "MATCH", "PREFIX", "RespError", "Shop", "compare_data", "differences", "has_old", "parse",
           "table_of", "transacted"]
