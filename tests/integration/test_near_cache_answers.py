# SPDX-License-Identifier: BSD-2-Clause
"""The near-cache with a real Redis behind it: what is answered from memory, and what must not be."""
import itertools
import os
import resource
import signal
import socket
import statistics
import time
import tomllib

import pytest

from harness.cluster import Cluster, follow, slot_of
from harness.monitor import Monitor
from harness.relay import DOWN, UP, Relay
from harness.resp import Conn, RespError, encode
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, TOP, Keyweir, Redis, calls_of, free_port, wait_until

NEAR = "[namespace.p]\nnear_cache = true\n"
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NUMBERS = itertools.count()
LIMIT = 0.5  # TRUTH_LIMIT_MS
SLACK = 0.6 * FACTOR


def new_key(stem="k"):
    """No test sees another one's keys."""
    return "p:%s%d" % (stem, next(NUMBERS))


def pairs(flat):
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2]))


def stats(conn):
    reply = pairs(conn.cmd("KEYWEIR", "CACHE", "STATS"))
    reply[b"tracking"] = [pairs(row) for row in reply[b"tracking"]]
    return reply


def hits(conn):
    return stats(conn)[b"hits"]


def settle(proxy):
    """Waits until Keyweir has heard of all that was done at Redis before now: a PING sent after now is answered."""
    since = time.monotonic()

    def is_confirmed():
        rows = stats(conn)[b"tracking"]
        return rows and all(0 <= row[b"confirmed_ms"] + 2 < (time.monotonic() - since) * 1000 for row in rows)
    with proxy.client() as conn:
        wait_until(is_confirmed, what="the tracking link is confirmed")


def started(make, upstream, config=NEAR, **kwargs):
    keyweir = make(upstream, config, **kwargs)
    settle(keyweir)
    return keyweir


def warm(conn, *commands):
    """Asks until all of it comes out of memory."""
    def all_hit():
        before = hits(conn)
        for command in commands:
            conn.cmd(*command)
        return hits(conn) - before >= len(commands)
    wait_until(all_hit, what="it is kept")


def is_down(reply):
    return isinstance(reply, RespError) and reply.startswith(("UPSTREAMDOWN", "TIMEOUT"))


class Shop:
    """A Redis, a Keyweir of two workers, connections to both; `others` are on all workers."""

    def __init__(self, server, proxy):
        self.server, self.proxy = server, proxy
        self.direct, self.conn = server.client(), proxy.client()
        self.others = [proxy.client() for _ in range(6)]

    def close(self):
        for conn in (self.direct, self.conn, *self.others):
            conn.close()


@pytest.fixture(scope="module")
def pair():
    with Redis() as server, Keyweir(server, NEAR) as proxy:
        settle(proxy)
        yield server, proxy


@pytest.fixture
def shop(pair):
    it = Shop(*pair)
    yield it
    it.close()


@pytest.fixture(scope="module")
def late_pair():
    """What Redis tells of changes comes 200 ms late: a client's own writes must not need it."""
    with Redis() as server, Relay([server.port]) as relay, Keyweir(relay.url(), NEAR) as proxy:
        relay.delay(0, "tracking", 0.2, ways=(DOWN,))
        settle(proxy)
        yield server, proxy, relay


@pytest.fixture
def late(late_pair):
    server, proxy, relay = late_pair
    it = Shop(server, proxy)
    it.relay = relay
    yield it
    it.close()


# ---- what is kept ----

SETUP = {
    "str": [("SET", "K", "foobar")],
    "list": [("RPUSH", "K", "a", "b", "c")],
    "hash": [("HSET", "K", "f", "1", "g", "two")],
    "set": [("SADD", "K", "a", "b")],
    "zset": [("ZADD", "K", "1", "a", "2.5", "b")],
    "geo": [("GEOADD", "K", "12.5", "41.9", "Rome", "2.35", "48.85", "Paris")],
    "stream": [("XADD", "K", "1-1", "f", "v"), ("XADD", "K", "2-1", "g", "w")],
}
EXAMPLES = {
    "str": ["GET K", "STRLEN K", "GETRANGE K 1 3", "SUBSTR K 1 3", "GETBIT K 2", "BITCOUNT K", "BITPOS K 1",
            "BITFIELD_RO K GET u8 0", "TYPE K", "EXPIRETIME K", "PEXPIRETIME K", "MGET K K", "EXISTS K"],
    "hash": ["HGET K f", "HGETALL K", "HMGET K f none", "HKEYS K", "HVALS K", "HLEN K", "HEXISTS K g", "HSTRLEN K g"],
    "list": ["LRANGE K 0 -1", "LLEN K", "LINDEX K 1", "LPOS K c"],
    "set": ["SMEMBERS K", "SISMEMBER K a", "SMISMEMBER K a x", "SCARD K"],
    "zset": ["ZRANGE K 0 -1 WITHSCORES", "ZRANGEBYSCORE K -inf 2", "ZRANGEBYLEX K - +", "ZREVRANGE K 0 -1",
             "ZREVRANGEBYSCORE K +inf -inf WITHSCORES", "ZREVRANGEBYLEX K + -", "ZSCORE K b", "ZMSCORE K a x", "ZRANK K b",
             "ZREVRANK K b", "ZCARD K", "ZCOUNT K 1 2", "ZLEXCOUNT K - +"],
    "geo": ["GEOPOS K Rome x", "GEODIST K Rome Paris km", "GEOHASH K Paris",
            "GEOSEARCH K FROMMEMBER Rome BYRADIUS 2000 km ASC WITHDIST", "GEORADIUS_RO K 12 42 2000 km ASC",
            "GEORADIUSBYMEMBER_RO K Rome 2000 km ASC"],
    "stream": ["XRANGE K - +", "XREVRANGE K + - COUNT 1", "XLEN K"],
}


def with_key(words, key):
    return [key if w == "K" else w for w in (words.split() if isinstance(words, str) else words)]


def test_examples_are_all():
    with open(os.path.join(TOP, "src/command/overrides.toml"), "rb") as file:
        cache = tomllib.load(file)["cache"]
    names = sorted(text.split()[0].lower() for texts in EXAMPLES.values() for text in texts)
    assert names == sorted(name for column in cache.values() for name in column)


@pytest.mark.parametrize("there", (True, False), ids=("there", "absent"))
@pytest.mark.parametrize("proto", (2, 3))
@pytest.mark.parametrize("kind", EXAMPLES)
def test_each_command(shop, kind, proto, there):
    """The second reply is the first one, is what Redis says, and Redis was not asked for it."""
    with shop.proxy.client(proto) as conn, shop.server.client(proto) as direct:
        cases = [(text.split()[0].lower(), with_key(text, new_key(kind))) for text in EXAMPLES[kind]]
        for _, words in cases:
            for setup in SETUP[kind] if there else ():
                direct.cmd(*with_key(setup, words[1]))
        settle(shop.proxy)
        for name, words in cases:
            first = conn.raw(*words)
            assert first == direct.raw(*words), words
            asked, before = calls_of(shop.server, name), hits(conn)
            assert [conn.raw(*words) for _ in range(3)] == [first] * 3, words
            if first.startswith(b"-"):
                continue  # GEOSEARCH FROMMEMBER of nobody: errors are not kept
            assert calls_of(shop.server, name) == asked, words
            assert hits(conn) - before == 3 * (len(words) - 1 if name == "mget" else 1), words


def test_exists_of_two_keys(shop):
    a, b = new_key(), new_key()
    shop.direct.cmd("SET", a, "x")
    assert [shop.conn.cmd("EXISTS", a, b, a) for _ in range(3)] == [2] * 3
    shop.direct.cmd("SET", b, "x")
    assert shop.conn.cmd("EXISTS", a, b, a) == 3


def test_options_are_part_of_it(shop):
    key = new_key()
    shop.direct.cmd("SET", key, "foobar")
    settle(shop.proxy)
    for _ in range(3):
        assert [shop.conn.cmd("GETRANGE", key, 0, i) for i in range(6)] == [b"foobar"[:i + 1] for i in range(6)]


def test_errors_are_not_kept(shop):
    key = new_key()
    shop.direct.cmd("RPUSH", key, "a")
    settle(shop.proxy)
    before = hits(shop.conn)
    for _ in range(3):
        assert shop.conn.cmd("GET", key).startswith("WRONGTYPE")
        assert shop.conn.cmd("GET").startswith("ERR wrong number")
    assert hits(shop.conn) == before


def test_other_keys_are_not_kept(shop):
    shop.direct.cmd("SET", "elsewhere:1", "x")
    before = calls_of(shop.server, "get")
    assert [shop.conn.cmd("GET", "elsewhere:1") for _ in range(3)] == [b"x"] * 3
    assert calls_of(shop.server, "get") == before + 3


def test_databases_are_kept_apart(shop):
    key, other = new_key(), shop.others[0]
    assert other.cmd("SELECT", 1) == "OK"
    shop.direct.cmd("SET", key, "zero")
    with shop.server.client() as direct:
        direct.cmd("SELECT", 1)
        direct.cmd("SET", key, "one")
        settle(shop.proxy)
        warm(shop.conn, ["GET", key])
        warm(other, ["GET", key])
        assert (shop.conn.cmd("GET", key), other.cmd("GET", key)) == (b"zero", b"one")
        assert shop.conn.cmd("SELECT", 1) == "OK" and shop.conn.cmd("GET", key) == b"one"
        assert shop.conn.cmd("SELECT", 2) == "OK" and shop.conn.cmd("GET", key) is None
        assert shop.conn.pipeline([("SELECT", 0), ("GET", key), ("SELECT", 1), ("GET", key)]) == [
            b"+OK\r\n", b"$4\r\nzero\r\n", b"+OK\r\n", b"$3\r\none\r\n"]
        other.cmd("SET", key, "uno")
        assert shop.conn.cmd("GET", key) == b"uno" and shop.others[1].cmd("GET", key) == b"zero"


def test_too_large(fresh_redis, fresh_keyweir):
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server, NEAR + '[near_cache]\nmax_value_size = "1kb"\n')
    with keyweir.client() as conn:
        for size in (900, 1100, 100000):
            key = new_key()
            server.cmd("SET", key, b"x" * size)
            settle(keyweir)
            before = calls_of(server, "get")
            assert [conn.cmd("GET", key) for _ in range(4)] == [b"x" * size] * 4
            assert calls_of(server, "get") - before == (1 if size < 1024 else 4)


# ---- time to live ----

@pytest.mark.parametrize("read", ("GET", "EXISTS", "STRLEN", "MGET"))
def test_expires(shop, read):
    """Whoever has seen at Redis that the key is gone does not see it here."""
    for _ in range(3):
        key = new_key()
        shop.direct.cmd("SET", key, "x", "PX", 300)
        settle(shop.proxy)
        since, seen = time.monotonic(), 0
        while time.monotonic() - since < 0.6 * FACTOR:
            gone = not shop.direct.cmd("EXISTS", key)
            there = shop.conn.cmd(read, key) not in (None, 0, [None])
            assert not (gone and there)
            seen += there
        assert not there and seen > 0


def test_time_that_changes(shop):
    key, other = new_key(), new_key()
    shop.direct.cmd("SET", key, "x", "PX", int(1500 * FACTOR))
    shop.direct.cmd("SET", other, "x")
    settle(shop.proxy)
    warm(shop.conn, ["GET", key], ["GET", other])
    assert shop.direct.cmd("PERSIST", key) == 1
    shop.direct.cmd("PEXPIRE", other, 200)
    time.sleep(1.8 * FACTOR)
    assert shop.conn.cmd("GET", key) == b"x" and shop.conn.cmd("GET", other) is None
    assert shop.conn.cmd("PEXPIRE", key, 200) == 1
    time.sleep(0.25)
    assert shop.conn.cmd("GET", key) is None


def test_max_ttl(fresh_redis, fresh_keyweir):
    """However true it is: after max_ttl Redis is asked."""
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server, NEAR + '[near_cache]\nmax_ttl = "300ms"\n')
    key = new_key()
    server.cmd("SET", key, "x")
    with keyweir.client() as conn:
        warm(conn, ["GET", key])
        before, since = calls_of(server, "get"), time.monotonic()
        while time.monotonic() - since < 1.5:
            assert conn.cmd("GET", key) == b"x"
        assert 3 <= calls_of(server, "get") - before <= 6


# ---- own writes ----

OWN = {
    # name: (what is there, reads, writes); A and B are keys
    "set": (["SET A 1"], ["GET A", "STRLEN A", "EXISTS A"], ["SET A 22"]),
    "set_of_absent": ([], ["GET A", "EXISTS A", "TYPE A"], ["SET A 22"]),
    "mset": (["SET A 1"], ["GET A", "GET B", "MGET A B"], ["MSET A x B y"]),
    "msetnx": ([], ["GET A", "GET B"], ["MSETNX A x B y"]),
    "del": (["SET A 1", "SET B 2"], ["GET A", "GET B"], ["DEL A B"]),
    "unlink": (["SET A 1", "SET B 2"], ["GET A", "GET B"], ["UNLINK A B"]),
    "rename": (["SET A 1"], ["GET A", "GET B"], ["RENAME A B"]),
    "renamenx": (["SET A 1"], ["GET A", "GET B"], ["RENAMENX A B"]),
    "copy": (["SET A 1"], ["GET A", "GET B"], ["COPY A B"]),
    "copy_replace": (["SET A 1", "SET B 2"], ["GET B"], ["COPY A B REPLACE"]),
    "move": (["SET A 1"], ["GET A"], ["MOVE A 3"]),
    "sort_store": (["RPUSH A 3 1 2", "RPUSH B x"], ["LLEN B", "LRANGE B 0 -1"], ["SORT A STORE B"]),
    "sunionstore": (["SADD A a b", "SADD B c"], ["SMEMBERS B", "SCARD B"], ["SUNIONSTORE B A"]),
    "zrangestore": (["ZADD A 1 a 2 b"], ["ZRANGE B 0 -1"], ["ZRANGESTORE B A 0 -1"]),
    "lmove": (["RPUSH A 1 2 3", "RPUSH B x"], ["LRANGE A 0 -1", "LRANGE B 0 -1"], ["LMOVE A B LEFT RIGHT"]),
    "rpoplpush": (["RPUSH A 1"], ["EXISTS A", "LLEN B"], ["RPOPLPUSH A B"]),
    "blpop": (["RPUSH A 1 2"], ["LRANGE A 0 -1", "LLEN A"], ["BLPOP A 1"]),
    "blmove": (["RPUSH A 1 2"], ["LRANGE A 0 -1", "LRANGE B 0 -1"], ["BLMOVE A B LEFT LEFT 1"]),
    "lmpop": (["RPUSH B 1 2"], ["LLEN A", "LLEN B"], ["LMPOP 2 A B LEFT"]),
    "bzpopmin": (["ZADD B 1 a 2 b"], ["ZRANGE B 0 -1"], ["BZPOPMIN A B 1"]),
    "xadd": (["XADD A 1-1 f v"], ["XLEN A", "XRANGE A - +"], ["XADD A 2-1 g w"]),
    "xdel": (["XADD A 1-1 f v"], ["XLEN A", "XRANGE A - +"], ["XDEL A 1-1"]),
    "getdel": (["SET A 1"], ["GET A"], ["GETDEL A"]),
    "getset": (["SET A 1"], ["GET A"], ["GETSET A 2"]),
    "getex": (["SET A 1"], ["EXPIRETIME A", "GET A"], ["GETEX A EXAT 4000000000"]),
    "incr": (["SET A 1"], ["GET A"], ["INCR A"]),
    "append": (["SET A 1"], ["GET A", "STRLEN A"], ["APPEND A 23"]),
    "setrange": (["SET A foobar"], ["GET A", "GETRANGE A 0 2"], ["SETRANGE A 1 xx"]),
    "setbit": (["SET A foobar"], ["BITCOUNT A", "GETBIT A 0"], ["SETBIT A 0 1"]),
    "bitop": (["SET A foo", "SET B x"], ["GET B"], ["BITOP NOT B A"]),
    "bitfield": (["SET A foo"], ["BITFIELD_RO A GET u8 0"], ["BITFIELD A SET u8 0 7"]),
    "hset": (["HSET A f 1"], ["HGET A f", "HGET A g", "HGETALL A", "HLEN A"], ["HSET A f 2 g 3"]),
    "hdel": (["HSET A f 1 g 2"], ["HGET A f", "HMGET A f g", "HKEYS A"], ["HDEL A f"]),
    "zadd": (["ZADD A 1 a"], ["ZSCORE A a", "ZRANGE A 0 -1", "ZCARD A"], ["ZADD A 2 a 3 b"]),
    "pfadd": ([], ["EXISTS A", "TYPE A"], ["PFADD A x"]),
    "geosearchstore": (["GEOADD A 12.5 41.9 Rome"], ["ZRANGE B 0 -1"],
                       ["GEOSEARCHSTORE B A FROMLONLAT 12 42 BYRADIUS 500 km"]),
    "expire_now": (["SET A 1"], ["GET A", "EXISTS A"], ["EXPIRE A 0"]),
    "expireat": (["SET A 1"], ["EXPIRETIME A"], ["EXPIREAT A 4000000000"]),
    "persist": (["SET A 1 EX 1000"], ["EXPIRETIME A"], ["PERSIST A"]),
    "several": (["SET A 1"], ["GET A"], ["SET A 2", "INCR A", "APPEND A 5"]),
    "multi": (["SET A 1", "HSET B f 1"], ["GET A", "HGETALL B"], ["MULTI", "SET A 2", "HSET B f 2", "EXEC"]),
    "watch": (["SET A 1"], ["GET A", "GET B"], ["WATCH A", "MULTI", "INCR A", "SET B x", "EXEC"]),
    "multi_script": (["SET A 1"], ["GET A"], ["MULTI", "EVAL redis.call('set',KEYS[1],'e') 1 A", "EXEC"]),
    "eval": (["SET A 1"], ["GET A"], ["EVAL redis.call('set',KEYS[1],'e') 1 A"]),
    "flushdb": (["SET A 1", "SET B 1"], ["GET A", "GET B"], ["FLUSHDB"]),
    "flushall": (["SET A 1"], ["GET A", "TYPE B"], ["FLUSHALL"]),
    "flush_in_multi": (["SET A 1"], ["GET A"], ["MULTI", "FLUSHALL", "EXEC"]),
    "swapdb": (["SET A 1"], ["GET A", "GET B"], ["SWAPDB 0 5"]),
}
UNDECLARED = {  # what only the client itself must see at once
    "eval_undeclared": (["SET A 1"], ["GET A"], ["EVAL redis.call('set','A','e') 0"]),
    "multi_undeclared": (["SET A 1"], ["GET A"], ["MULTI", "EVAL redis.call('set','A','e') 0", "EXEC"]),
    "eval_flush": (["SET A 1"], ["GET A"], ["EVAL redis.call('flushall') 0"]),
}


class Own:
    """One case, under keys of its own, kept in memory when it begins."""

    def __init__(self, shop, case):
        a, b = new_key("a"), new_key("b")
        self.shop = shop
        self.setup, self.reads, self.writes = [
            [[a if w == "A" else b if w == "B" else w.replace("'A'", "'%s'" % a) for w in text.split(" ")] for text in texts]
            for texts in case]
        for words in self.setup:
            assert not isinstance(shop.direct.cmd(*words), RespError)
        settle(shop.proxy)
        warm(shop.conn, *self.reads)

    def truth(self):
        return self.shop.direct.pipeline(self.reads)


@pytest.mark.parametrize("name", [*OWN, *UNDECLARED])
def test_own_write_in_a_pipeline(late, name):
    own = Own(late, OWN.get(name) or UNDECLARED[name])
    before = own.truth()
    replies = late.conn.pipeline([*own.writes, *own.reads])
    assert not any(r.startswith(b"-") for r in replies[:len(own.writes)]), replies
    assert replies[len(own.writes):] == own.truth() != before
    if name in OWN:
        for other in late.others:
            assert other.pipeline(own.reads) == own.truth()
    if name == "swapdb":
        late.conn.cmd("SWAPDB", 0, 5)
        assert late.conn.pipeline(own.reads) == before


@pytest.mark.parametrize("name", [*OWN, *UNDECLARED])
def test_own_write_by_and_by(late, name):
    """One after the other; then the others, then again what was read first and is kept by now."""
    own = Own(late, OWN.get(name) or UNDECLARED[name])
    for words in own.writes:
        assert not isinstance(late.conn.cmd(*words), RespError)
    if name in UNDECLARED:
        assert late.conn.pipeline(own.reads) == own.truth()
    for conn in (*late.others, late.conn) if name in OWN else ():
        for read, truth in zip(own.reads, own.truth()):
            assert conn.raw(*read) == truth
    if name == "swapdb":
        late.conn.cmd("SWAPDB", 0, 5)


def test_many_own_writes(late):
    """Again and again, while all connections keep it in memory."""
    key = new_key()
    for i in range(300):
        late.conn.cmd("SET", key, i)
        for conn in late.others:
            conn.send("GET", key)
        assert [conn.read() for conn in late.others] == [b"%d" % i] * len(late.others)


def test_own_write_under_way(late):
    """While a write is on its way others fetch the old value, rightly. The writer's own read behind it, and anybody's
    after its reply, must not find that."""
    key, writer = new_key(), late.conn
    late.conn.cmd("SET", key, "old")
    late.relay.delay(0, "data", 0, 0.06, ways=(UP,))
    try:
        for i in range(40):
            writer.send(*(("MSET", key, i, key + "2", i) if i % 4 < 2 else ("SET", key, i)))
            for conn in late.others:
                conn.send("GET", key)
            for conn in late.others:  # by then it may be kept
                conn.read()
            if i % 2:  # it would be kept instead
                writer.send("GET", key)
            assert writer.read() == "OK"
            assert i % 2 == 0 or writer.read() == b"%d" % i
            for conn in late.others:
                conn.send("GET", key)
            assert [conn.read() for conn in late.others] == [b"%d" % i] * len(late.others)
    finally:
        late.relay.delay(0, "data", 0, ways=(UP,))


def test_own_script_under_way(late):
    """The same of a script that does not say what it writes: the client itself sees it."""
    key, writer = new_key(), late.conn
    late.conn.cmd("SET", key, "old")
    late.relay.delay(0, "data", 0, 0.06, ways=(UP,))
    try:
        for i in range(20):
            writer.send("EVAL", "return redis.call('set','%s',ARGV[1])" % key, 0, i)
            for conn in late.others:
                conn.send("GET", key)
            for conn in late.others:
                conn.read()
            writer.send("GET", key)
            assert (writer.read(), writer.read()) == ("OK", b"%d" % i)
            assert [writer.cmd("GET", key) for _ in range(5)] == [b"%d" % i] * 5
    finally:
        late.relay.delay(0, "data", 0, ways=(UP,))


def test_restore(late):
    key, source = new_key(), new_key()
    late.direct.cmd("SET", source, "y")
    late.direct.cmd("SET", key, "x")
    settle(late.proxy)
    warm(late.conn, ["GET", key])
    assert late.conn.cmd("RESTORE", key, 0, late.direct.cmd("DUMP", source), "REPLACE") == "OK"
    assert all(conn.cmd("GET", key) == b"y" for conn in (late.conn, *late.others))


def test_function(late):
    code = ("#!lua name=near\nredis.register_function('near_set', function(keys, args)"
            " return redis.call('set', keys[1] or args[1], args[#args]) end)")
    assert late.conn.cmd("FUNCTION", "LOAD", "REPLACE", code) == b"near"
    key = new_key()
    late.direct.cmd("SET", key, "x")
    settle(late.proxy)
    warm(late.conn, ["GET", key])
    late.conn.cmd("FCALL", "near_set", 1, key, "y")
    assert all(conn.cmd("GET", key) == b"y" for conn in (late.conn, *late.others))
    settle(late.proxy)
    warm(late.conn, ["GET", key])
    assert late.conn.pipeline([("FCALL", "near_set", 0, key, "z"), ("GET", key)])[1] == b"$1\r\nz\r\n"


def test_transaction_that_fails(late):
    key = new_key()
    late.direct.cmd("SET", key, "x")
    settle(late.proxy)
    warm(late.conn, ["GET", key])
    for end in (["DISCARD"], ["NOSUCHCOMMAND"]):
        late.conn.cmd("MULTI")
        late.conn.cmd("SET", key, "y")
        late.conn.cmd(*end)
        if end != ["DISCARD"]:
            assert late.conn.cmd("EXEC").startswith("EXECABORT")
        assert late.conn.cmd("GET", key) == b"x"
    late.conn.cmd("WATCH", key)
    late.others[0].cmd("SET", key, "z")
    late.conn.cmd("MULTI")
    late.conn.cmd("SET", key, "y")
    assert late.conn.cmd("EXEC") is None
    assert late.conn.cmd("GET", key) == b"z"


def test_blocked_pop_is_seen(late):
    """BLPOP that waits, and takes what another one pushes."""
    key = new_key()
    warm(late.conn, ["LLEN", key])
    late.others[0].send("BLPOP", key, 5)
    time.sleep(0.1)
    assert late.conn.cmd("RPUSH", key, "a", "b") == 2
    assert late.others[0].read() == [key.encode(), b"a"]
    assert all(conn.cmd("LRANGE", key, 0, -1) == [b"b"] for conn in (late.conn, *late.others))


# ---- writes elsewhere ----

def delays_of(write, conn, key, rounds=25):
    out = []
    for i in range(rounds):
        value = b"%d" % i
        conn.cmd("GET", key)
        conn.cmd("GET", key)
        since = time.monotonic()
        write(value)
        wait_until(lambda value=value: conn.cmd("GET", key) == value, 2, "the write is seen")
        out.append(time.monotonic() - since)
    return out


def test_write_at_redis(shop):
    key = new_key()
    delays = delays_of(lambda v: shop.direct.cmd("SET", key, v), shop.conn, key)
    assert statistics.median(delays) < 0.05 * FACTOR, delays


def test_write_through_a_second_keyweir(shop, fresh_keyweir):
    key = new_key()
    with started(fresh_keyweir, shop.server).client() as second:
        warm(second, ["GET", key])
        delays = delays_of(lambda v: second.cmd("SET", key, v), shop.conn, key)
        assert statistics.median(delays) < 0.05 * FACTOR, delays


@pytest.mark.parametrize("words", ("FLUSHALL", "FLUSHDB", "SWAPDB 0 6", "DEL K", "RENAME K K2", "PEXPIRE K 1"))
def test_seen_from_elsewhere(shop, words):
    key = new_key()
    shop.direct.cmd("SET", key, "x")
    settle(shop.proxy)
    warm(shop.conn, ["GET", key])
    shop.direct.cmd(*[{"K": key, "K2": key + "2"}.get(w, w) for w in words.split()])
    wait_until(lambda: shop.conn.cmd("GET", key) is None, 2, "it is seen")
    if words.startswith("SWAPDB"):
        shop.direct.cmd("SWAPDB", 0, 6)
        wait_until(lambda: shop.conn.cmd("GET", key) == b"x", 2, "it is seen")


# ---- who is not served from memory ----

def none_from_memory(shop, conn, key, count=3):
    asked = calls_of(shop.server, "get")
    before = hits(shop.others[0])
    for _ in range(count):
        assert conn.cmd("GET", key) == b"x"
    assert hits(shop.others[0]) == before and calls_of(shop.server, "get") == asked + count


@pytest.fixture
def kept(shop):
    shop.key = new_key()
    shop.direct.cmd("SET", shop.key, "x")
    settle(shop.proxy)
    warm(shop.conn, ["GET", shop.key])
    return shop


def test_not_inside_multi(kept):
    asked, before = calls_of(kept.server, "get"), hits(kept.conn)
    assert kept.conn.pipeline([("MULTI",), ("GET", kept.key), ("EXEC",)])[2] == b"*1\r\n$1\r\nx\r\n"
    kept.conn.cmd("MULTI")
    assert kept.conn.cmd("GET", kept.key) == "QUEUED" and kept.conn.cmd("MGET", kept.key) == "QUEUED"
    assert kept.conn.cmd("EXEC") == [b"x", [b"x"]]
    assert hits(kept.conn) == before and calls_of(kept.server, "get") == asked + 2


def test_not_after_watch(kept):
    kept.conn.cmd("WATCH", kept.key)
    none_from_memory(kept, kept.conn, kept.key)
    kept.conn.cmd("UNWATCH")
    warm(kept.conn, ["GET", kept.key])


def test_not_with_no_touch(kept):
    """Redis 7.0 does not know it; what the client asked for decides."""
    kept.conn.cmd("CLIENT", "NO-TOUCH", "ON")
    none_from_memory(kept, kept.conn, kept.key)


@pytest.mark.parametrize("mode", ((), ("BCAST",), ("OPTIN",)))
def test_not_with_tracking(kept, mode):
    with kept.proxy.client(3) as conn:
        assert conn.cmd("CLIENT", "TRACKING", "ON", *mode) == "OK"
        none_from_memory(kept, conn, kept.key)


# ---- stampedes ----

def crowd(port, count):
    """Plain sockets of so many clients. harness.resp's select() can't see as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    socks = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.settimeout(20)
        socks.append(sock)
    for sock in socks:  # all have been accepted
        sock.sendall(b"PING\r\n")
    assert all(sock.recv(100) == b"+PONG\r\n" for sock in socks)
    return socks


@pytest.mark.parametrize("leader", ("stays", "leaves"))
@pytest.mark.parametrize("there", (True, False), ids=("there", "absent"))
def test_thousand_at_once(shop, leader, there):
    key = new_key("hot")
    if there:
        shop.direct.cmd("SET", key, "x")
    settle(shop.proxy)
    socks = crowd(shop.proxy.port, 1000)
    try:
        asked = calls_of(shop.direct, "get")  # no new connection: see crowd()
        shop.direct.send("DEBUG", "SLEEP", "0.3")
        time.sleep(0.02)
        request = encode("GET", key)
        first = socks.pop(0)
        first.sendall(request)
        if leader == "leaves":
            time.sleep(0.02)
            first.close()
        else:
            socks.append(first)
        for sock in socks:
            if sock is not first:
                sock.sendall(request)
        expected = b"$1\r\nx\r\n" if there else b"$-1\r\n"
        assert all(sock.recv(100) == expected for sock in socks)
        assert shop.direct.read() == "OK"
        assert calls_of(shop.direct, "get") == asked + 1
    finally:
        for sock in socks:
            sock.close()


# ---- MGET ----

def test_mget_in_parts(shop):
    """Redis sees an MGET of what is not known, and nothing when all is known."""
    a, b, c, d = keys = [new_key() for _ in range(4)]
    shop.direct.cmd("MSET", a, "1", b, "2", c, "3")
    settle(shop.proxy)
    warm(shop.conn, ["GET", b], ["GET", d])
    monitor = Monitor(shop.server)
    try:
        assert shop.conn.cmd("MGET", *keys) == [b"1", b"2", b"3", None]
        assert shop.conn.cmd("MGET", d, c, b, a, a) == [None, b"3", b"2", b"1", b"1"]
        monitor.settle()
        seen = [line.words for line in monitor.take(0, None)]
    finally:
        monitor.close()
    assert [w[1:] for w in seen if w[0].lower() == b"mget"] == [[a.encode(), c.encode()]]
    assert not any(w[0].lower() == b"get" for w in seen)


def test_mget_of_another_type(shop):
    a, b = new_key(), new_key()
    shop.direct.cmd("SET", a, "1")
    shop.direct.cmd("RPUSH", b, "x")
    settle(shop.proxy)
    for _ in range(3):
        assert shop.conn.cmd("MGET", a, b) == [b"1", None]
        assert shop.conn.cmd("GET", b).startswith("WRONGTYPE")
        assert shop.conn.cmd("LRANGE", b, 0, -1) == [b"x"]


def test_mget_of_many(shop):
    keys = [new_key() for _ in range(1000)]
    shop.direct.cmd("MSET", *itertools.chain(*((key, key) for key in keys)))
    settle(shop.proxy)
    for step in (7, 3, 1, 1):
        assert shop.conn.cmd("MGET", *keys[::step]) == [k.encode() for k in keys[::step]]
    asked = calls_of(shop.server, "mget")
    assert shop.others[0].cmd("MGET", *keys) == [k.encode() for k in keys]
    assert calls_of(shop.server, "mget") == asked


# ---- race_condition_ttl ----

def race(make, server, window="20s"):
    keyweir = started(make, server, NEAR + 'race_condition_ttl = "%s"\n' % window)
    return Shop(server, keyweir)


def expire(shop):
    """A key whose value was kept, and whose time is over."""
    key = new_key()
    shop.direct.cmd("SET", key, "old", "PX", int(600 * FACTOR))
    settle(shop.proxy)
    warm(shop.conn, ["GET", key])
    wait_until(lambda: not shop.direct.cmd("EXISTS", key), what="it is gone")
    return key


def test_race(fresh_redis, fresh_keyweir):
    """One is told that it is gone, the others get the old one until the new one is there."""
    shop = race(fresh_keyweir, fresh_redis())
    for _ in range(3):
        key = expire(shop)
        assert shop.conn.cmd("GET", key) is None
        for _ in range(3):
            assert [conn.cmd("GET", key) for conn in shop.others] == [b"old"] * 6
        settle(shop.proxy)  # Redis has told that it is gone
        assert [conn.cmd("GET", key) for conn in shop.others].count(b"old") >= 5
        shop.conn.cmd("SET", key, "new")
        assert [conn.cmd("GET", key) for conn in (*shop.others, shop.conn)] == [b"new"] * 7
    shop.close()


def test_race_of_all_at_once(fresh_redis, fresh_keyweir):
    shop = race(fresh_keyweir, fresh_redis())
    for _ in range(5):
        key = expire(shop)
        for conn in shop.others:
            conn.send("GET", key)
        replies = [conn.read() for conn in shop.others]
        assert replies.count(None) == 1 and replies.count(b"old") == 5, replies
        settle(shop.proxy)
        shop.direct.cmd("SET", key, "new")
        settle(shop.proxy)
        assert [conn.cmd("GET", key) for conn in shop.others] == [b"new"] * 6
    shop.close()


def test_race_window_ends(fresh_redis, fresh_keyweir):
    shop = race(fresh_keyweir, fresh_redis(), "1s")
    key = expire(shop)
    shop.conn.cmd("GET", key)
    time.sleep(1.2)
    assert [conn.cmd("GET", key) for conn in (*shop.others, shop.conn)] == [None] * 7
    shop.close()


def test_race_and_del(fresh_redis, fresh_keyweir):
    """Who deletes a key that lives wants it gone."""
    shop = race(fresh_keyweir, fresh_redis())
    for by in (shop.conn, shop.direct):
        key = new_key()
        shop.direct.cmd("SET", key, "old", "EX", 100)
        settle(shop.proxy)
        warm(shop.conn, ["GET", key])
        by.cmd("DEL", key)
        if by is shop.direct:
            settle(shop.proxy)
        assert [conn.cmd("GET", key) for conn in (*shop.others, shop.conn)] == [None] * 7
    shop.close()


# ---- Redis is away ----

def test_stale(fresh_redis, fresh_keyweir):
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server, NEAR + 'on_failure = "stale"\nstale_if_error = "4s"\n')
    shop = Shop(server, keyweir)
    for name in ("kept", "own", "elsewhere", "deleted"):
        shop.direct.cmd("SET", "p:" + name, "old")
    settle(keyweir)
    warm(shop.conn, *(["GET", "p:" + n] for n in ("kept", "own", "elsewhere", "deleted", "absent")), ["STRLEN", "p:kept"])
    shop.conn.cmd("SET", "p:own", "new")
    shop.direct.cmd("SET", "p:elsewhere", "new")
    shop.direct.cmd("DEL", "p:deleted")
    settle(keyweir)
    server.kill()
    since = time.monotonic()
    for _ in range(5):
        for conn in (shop.conn, *shop.others):
            assert conn.cmd("GET", "p:kept") == b"old" and conn.cmd("GET", "p:absent") is None
            assert conn.cmd("STRLEN", "p:kept") == 3 and conn.cmd("MGET", "p:kept", "p:absent") == [b"old", None]
            for words in ("GET p:own", "GET p:elsewhere", "GET p:deleted", "GET p:unknown", "SET p:other x",
                          "MGET p:kept p:own", "STRLEN p:absent"):
                assert conn.cmd(*words.split()).startswith("UPSTREAMDOWN"), words
    assert conn.cmd("SET", "p:kept", "x").startswith("UPSTREAMDOWN")
    assert time.monotonic() - since < 3
    time.sleep(4.5 - (time.monotonic() - since))
    for words in ("GET p:kept", "GET p:absent"):
        assert shop.conn.cmd(*words.split()).startswith("UPSTREAMDOWN")
    server.start()  # it is empty
    wait_until(lambda: shop.conn.cmd("GET", "p:kept") is None, what="Redis is asked")
    shop.close()


def last_of(conn, key, value, seconds, others=None):
    """When it was last asked for and was this value, counted from now. `others` gathers what else was said."""
    since, last = time.monotonic(), 0
    while (at := time.monotonic() - since) < seconds:
        reply = conn.cmd("GET", key)
        if reply == value:
            last = at
        else:
            if others is not None:
                others.append(reply)
            time.sleep(0.01)
    return last


@pytest.mark.parametrize("how", ("freeze", "kill"))
def test_no_word_of_redis(fresh_redis, fresh_keyweir, how):
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server)
    with keyweir.client() as conn:
        server.cmd("SET", "p:1", "x")
        warm(conn, ["GET", "p:1"])
        server.freeze() if how == "freeze" else server.kill()
        words = []
        last = last_of(conn, "p:1", b"x", 2.5, words)
        assert last < (LIMIT if how == "freeze" else 0.1) + SLACK
        assert words and all(map(is_down, words))
        if how == "freeze":
            server.thaw()
            wait_until(lambda: conn.cmd("GET", "p:1") == b"x", what="Redis is back")
            warm(conn, ["GET", "p:1"])


# ---- servers that do not track ----

def untracked(make, server, staleness):
    server.cmd("ACL", "SETUSER", "kw", "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
    url = "redis://kw:pw@127.0.0.1:%d/0" % server.port
    return make(url, NEAR + '[near_cache]\nmax_staleness = %s\n' % staleness)


def test_max_staleness(fresh_redis, fresh_keyweir):
    server = fresh_redis()
    with untracked(fresh_keyweir, server, '"1s"').client() as conn, server.client() as direct:
        wait_until(lambda: stats(conn)[b"tracking"][0][b"tracking"] == b"none", what="it is known that it can't be")
        direct.cmd("SET", "p:1", "old")
        warm(conn, ["GET", "p:1"])
        ages = []
        for i in range(4):
            wait_until(lambda: conn.cmd("GET", "p:1") == direct.cmd("GET", "p:1"), what="it is fetched anew")
            since = time.monotonic()
            direct.cmd("SET", "p:1", i)
            while True:
                at = time.monotonic() - since
                if conn.cmd("GET", "p:1") == b"%d" % i:
                    break
                assert at < 1 + SLACK
            ages.append(at)
        assert max(ages) > 0.5  # it is kept
        conn.cmd("SET", "p:1", "own")
        assert conn.cmd("GET", "p:1") == b"own"


def test_no_staleness(fresh_redis, fresh_keyweir):
    server = fresh_redis()
    with untracked(fresh_keyweir, server, "0").client() as conn, server.client() as direct:
        wait_until(lambda: stats(conn)[b"tracking"][0][b"tracking"] == b"none", what="it is known that it can't be")
        for i in range(50):
            direct.cmd("SET", "p:1", i)
            assert conn.cmd("GET", "p:1") == b"%d" % i
        assert hits(conn) == 0


# ---- namespaces ----

def test_sliding(fresh_redis, fresh_keyweir):
    """Who reads it out of memory keeps it alive."""
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server, NEAR + 'ttl = "2s"\nttl_jitter = 0\nsliding = true\n')
    with keyweir.client() as conn, server.client() as direct:
        conn.cmd("SET", "p:1", "x")
        conn.cmd("SET", "p:2", "x")
        since, before = time.monotonic(), hits(conn)
        while time.monotonic() - since < 6:
            assert conn.cmd("GET", "p:1") == b"x"
            assert direct.cmd("PTTL", "p:1") > 0
            time.sleep(0.02)
        assert conn.cmd("GET", "p:2") is None and hits(conn) - before > 100
        time.sleep(2.1)
        assert direct.cmd("EXISTS", "p:1") == 0 and conn.cmd("GET", "p:1") is None


KINDS = {
    "prefix": 'prefix = "shop:"\n',
    "prefix_empty": 'prefix = ""\n',
    "encrypt": "encrypt = true\n",
    "hash_keys": "hash_keys = true\n",
    "both": 'prefix = "s:"\nencrypt = true\nhash_keys = true\n',
    "strict": "",
}


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_seals(fresh_redis, fresh_keyweir, kind):
    """Two names of one key, by an ordinary and by a bound listener: one item."""
    port = free_port()
    server = fresh_redis()
    config = NEAR + KINDS[kind] + '[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "p"\n' % port
    config += '[encryption]\nkeys = ["2026a:%s"]\n' % KEY + ('hash_key = "%s"\n' % KEY)
    config += "[server]\nstrict = %s\n" % str(kind == "strict").lower()
    keyweir = started(fresh_keyweir, server, config)
    with keyweir.client() as conn, Conn(port=port) as bound, server.client() as direct:
        for i in range(3):
            assert conn.cmd("SET", "p:1", "ordinary%d" % i) == "OK"
            assert conn.cmd("GET", "p:1") == bound.cmd("GET", "1") == b"ordinary%d" % i
            assert bound.cmd("SET", "1", "bound%d" % i) == "OK"
            assert conn.cmd("GET", "p:1") == bound.cmd("GET", "1") == b"bound%d" % i
        assert conn.cmd("HSET", "p:h", "f", "v") == 1
        assert bound.cmd("HGETALL", "h") == conn.cmd("HGETALL", "p:h") == [b"f", b"v"]
        settle(keyweir)
        conn.cmd("KEYWEIR", "CACHE", "FLUSH")
        asked = calls_of(server, "get")
        assert conn.cmd("GET", "p:1") == b"bound2"
        assert bound.cmd("GET", "1") == conn.cmd("GET", "p:1") == b"bound2"
        assert [bound.cmd("GET", "none"), conn.cmd("GET", "p:none")] == [None, None]
        assert calls_of(server, "get") == asked + 2 and stats(conn)[b"items"] == 2
        assert bound.cmd("MGET", "1", "none") == conn.cmd("MGET", "p:1", "p:none") == [b"bound2", None]
        assert calls_of(server, "mget") == 0
        for name in direct.cmd("KEYS", "*"):
            direct.cmd("DEL", name)
        settle(keyweir)
        assert bound.cmd("GET", "1") is None and conn.cmd("GET", "p:1") is None
        if kind == "strict":
            assert isinstance(conn.cmd("GET", "elsewhere"), RespError)


def test_sealed_value_that_was_altered(fresh_redis, fresh_keyweir):
    """What can't be opened is an error each time, and no old value."""
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server, NEAR + 'encrypt = true\n[encryption]\nkeys = ["2026a:%s"]\n' % KEY)
    with keyweir.client() as conn:
        conn.cmd("SET", "p:1", "x")
        warm(conn, ["GET", "p:1"])
        server.cmd("SETRANGE", "p:1", 30, "garbage")
        settle(keyweir)
        for _ in range(3):
            assert isinstance(conn.cmd("GET", "p:1"), RespError)


# ---- what else a client sees ----

def test_monitor(kept):
    """MONITOR tells of hits, too."""
    with kept.proxy.client() as watcher:
        assert watcher.cmd("MONITOR") == "OK"
        before = hits(kept.others[0])
        kept.conn.cmd("GET", kept.key)
        for _ in range(20):
            line = watcher.read()
            if '"GET" "%s"' % kept.key in line:
                break
        else:
            raise AssertionError(line)
    assert hits(kept.others[0]) == before + 1


def test_client_reply(kept):
    get = encode("GET", kept.key)
    kept.conn.send_raw(encode("CLIENT", "REPLY", "OFF") + get * 3 + encode("CLIENT", "REPLY", "ON") + encode("ECHO", "1"))
    assert [kept.conn.read(), kept.conn.read()] == ["OK", b"1"]
    kept.conn.send_raw(encode("CLIENT", "REPLY", "SKIP") + get + encode("ECHO", "2") + get)
    assert [kept.conn.read(), kept.conn.read()] == [b"2", b"x"]
    kept.conn.send_raw((encode("CLIENT", "REPLY", "SKIP") + get) * 50 + encode("ECHO", "3"))
    assert kept.conn.read() == b"3"


def test_inline(kept):
    before = hits(kept.others[0])
    for line in ("GET %s\r\n", "get   %s\n", "  GET '%s'\r\n"):
        kept.conn.send_raw((line % kept.key).encode())
        assert kept.conn.read() == b"x"
    assert hits(kept.others[0]) == before + 3


@pytest.mark.parametrize("proto", (2, 3))
def test_order_in_a_pipeline(shop, proto):
    """Hits between misses, errors, writes, and what goes elsewhere."""
    keys = [new_key() for _ in range(40)]
    for i, key in enumerate(keys):
        shop.direct.cmd(*(("RPUSH", key, "a") if i % 5 == 4 else ("SET", key, "v%d" % i)))
    settle(shop.proxy)
    warm(shop.conn, *(["GET", key] for key in keys[::2] if keys.index(key) % 5 != 4))
    commands = []
    for i in range(3000):
        key = keys[i * 7 % 40]
        commands += [("GET", key), ("ECHO", i)]
        if i % 3 == 0:
            commands += [("MGET", *keys[i % 30:i % 30 + 5]), ("GET",), ("STRLEN", key), ("NOSUCH", i)]
        if i % 50 == 0:
            commands += [("SET", keys[i % 35 // 5 * 5], i), ("GET", "elsewhere:%d" % i)]
        if i % 500 == 0:
            commands += [("MULTI",), ("GET", key), ("INCR", keys[0]), ("EXEC",), ("LLEN", keys[4])]
    with shop.proxy.client(proto) as conn, shop.server.client(proto) as direct:
        said = conn.pipeline(commands)
        for key in keys:
            direct.cmd("DEL", key)
        for i, key in enumerate(keys):
            direct.cmd(*(("RPUSH", key, "a") if i % 5 == 4 else ("SET", key, "v%d" % i)))
        for words, ours, theirs in zip(commands, said, direct.pipeline(commands)):
            assert ours == theirs, words


# ---- reloads ----

def test_reload_of_nothing(fresh_redis, fresh_keyweir):
    """All stays. With any change at all it begins empty: names may mean something else (reload.c, keeps_store())."""
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server)
    with keyweir.client() as conn:
        server.cmd("MSET", *itertools.chain(*(("p:%d" % i, i) for i in range(20))))
        settle(keyweir)
        reads = [["GET", "p:%d" % i] for i in range(30)]
        warm(conn, *reads)
        items, asked = stats(conn)[b"items"], calls_of(server, "get")
        for _ in range(3):
            keyweir.reload()
        time.sleep(0.3)
        assert stats(conn)[b"items"] == items == 30
        assert [conn.cmd(*r) for r in reads] == [b"%d" % i for i in range(20)] + [None] * 10
        assert calls_of(server, "get") == asked
        server.cmd("SET", "p:1", "new")
        wait_until(lambda: conn.cmd("GET", "p:1") == b"new", 2, "it is still tracked")
        keyweir.reload(NEAR + '[log]\nslow = "20ms"\n')
        wait_until(lambda: stats(conn)[b"items"] == 0, what="it begins empty")
        settle(keyweir)
        warm(conn, ["GET", "p:1"])


def test_reload_under_load(fresh_redis, fresh_keyweir):
    """Own writes are seen while configurations come and go."""
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server)
    conns = [keyweir.client() for _ in range(6)]
    for i in range(120):
        if i % 20 == 10:
            keyweir.config = NEAR + 'ttl = "%ds"\n' % (100 + i)
            keyweir.write_config()
            keyweir.signal(signal.SIGHUP)
        assert conns[i % 6].cmd("SET", "p:1", i) == "OK"
        for _ in range(2):
            for conn in conns:
                conn.send("GET", "p:1")
            assert [conn.read() for conn in conns] == [b"%d" % i] * 6
    for conn in conns:
        conn.close()


@pytest.mark.parametrize("change", ("ttl", "prefix", "off_and_on"))
def test_reload(fresh_redis, fresh_keyweir, change):
    server = fresh_redis()
    keyweir = started(fresh_keyweir, server)
    with keyweir.client() as conn:
        server.cmd("MSET", "p:1", "old", "new:1", "new")
        settle(keyweir)
        warm(conn, ["GET", "p:1"])
        if change == "ttl":
            keyweir.reload(NEAR + 'ttl = "100s"\n')
            assert conn.cmd("GET", "p:1") == b"old" and conn.cmd("SET", "p:1", "x") == "OK"
            assert 0 < server.cmd("TTL", "p:1") <= 111 and conn.cmd("GET", "p:1") == b"x"
        elif change == "prefix":
            keyweir.reload(NEAR + 'prefix = "new:"\n')
            wait_until(lambda: conn.cmd("GET", "p:1") == b"new", 2, "it is another key")
            settle(keyweir)
            warm(conn, ["GET", "p:1"])
            server.cmd("SET", "new:1", "newer")
            wait_until(lambda: conn.cmd("GET", "p:1") == b"newer", 2, "the new prefix is tracked")
            keyweir.reload(NEAR)
            wait_until(lambda: conn.cmd("GET", "p:1") == b"old", 2, "it is the first one again")
        else:
            keyweir.reload("[namespace.p]\n")
            time.sleep(0.3)
            for i in range(10):
                server.cmd("SET", "p:1", i)
                assert conn.cmd("GET", "p:1") == b"%d" % i
            keyweir.reload(NEAR)
            settle(keyweir)
            assert conn.cmd("GET", "p:1") == b"9"
            warm(conn, ["GET", "p:1"])
            server.cmd("SET", "p:1", "last")
            settle(keyweir)
            assert conn.cmd("GET", "p:1") == b"last"


# ---- Cluster, Sentinel ----

def test_cluster():
    with Cluster(masters=2, replicas=0) as cluster, cluster.keyweir("", NEAR) as keyweir, keyweir.client() as conn, \
            keyweir.client() as other:
        settle(keyweir)
        src, dst = cluster.masters()
        keys = ["p:" + cluster.key_on(node, "c%d" % i) for i, node in enumerate([src, dst, src, dst])]
        for key in keys:
            assert follow(cluster, "SET", key, "x") == "OK"
        settle(keyweir)
        warm(conn, *(["GET", key] for key in keys))
        calls = cluster.calls("get", "mget")
        assert [other.cmd("GET", key) for key in keys] == [b"x"] * 4 and other.cmd("MGET", *keys) == [b"x"] * 4
        assert cluster.calls("get", "mget") == calls
        for i in range(20):
            assert conn.cmd("MSET", *itertools.chain(*((k, i) for k in keys))) == "OK"
            assert other.cmd("MGET", *keys) == [b"%d" % i] * 4
            assert [conn.cmd("GET", key) for key in keys] == [b"%d" % i] * 4
        warm(conn, *(["GET", key] for key in keys))
        slot = slot_of(keys[0])
        cluster.migrate_slots(src, dst, [slot])
        follow(cluster, "SET", keys[0], "moved")
        assert wait_until(lambda: conn.cmd("GET", keys[0]) == b"moved", 2, "what the new node has")
        assert conn.cmd("SET", keys[0], "again") == "OK" and other.cmd("GET", keys[0]) == b"again"
        settle(keyweir)
        warm(conn, *(["GET", key] for key in keys))
        follow(cluster, "SET", keys[0], "last")
        wait_until(lambda: other.cmd("GET", keys[0]) == b"last", 2, "it is tracked there")
        assert conn.cmd("FLUSHALL") == "OK" and conn.cmd("MGET", *keys) == [None] * 4


def test_cluster_slot_comes_back():
    """What was kept before a slot went away must not be good again when it is back."""
    with Cluster(masters=2, replicas=0) as cluster, cluster.keyweir("", NEAR) as keyweir, keyweir.client() as conn:
        settle(keyweir)
        src, dst = cluster.masters()
        key = "p:" + cluster.key_on(src)
        follow(cluster, "SET", key, "first")
        settle(keyweir)
        warm(conn, ["GET", key])
        for i in range(2):
            cluster.migrate_slots(src, dst, [slot_of(key)])
            dst.cmd("SET", key, "away%d" % i)
            cluster.migrate_slots(dst, src, [slot_of(key)])
            wait_until(lambda value=b"away%d" % i: conn.cmd("GET", key) == value, 2, "what it came back with")
            settle(keyweir)
            warm(conn, ["GET", key])


def test_sentinel_failover():
    with SentinelSet(replicas=1, sentinels=1) as group, group.keyweir("", NEAR) as keyweir, keyweir.client() as conn:
        settle(keyweir)
        conn.cmd("SET", "p:1", "old")
        assert group.master().cmd("WAIT", 1, 2000) == 1
        warm(conn, ["GET", "p:1"])
        old = group.kill_master()
        new = group.wait_new_master(old)
        assert new.cmd("SET", "p:1", "new") == "OK"
        for _ in range(100):
            assert conn.cmd("GET", "p:1") != b"old"
        wait_until(lambda: conn.cmd("GET", "p:1") == b"new", 20, "the new master is asked")
        settle(keyweir)
        warm(conn, ["GET", "p:1"])
        new.cmd("SET", "p:1", "newer")
        wait_until(lambda: conn.cmd("GET", "p:1") == b"newer", 2, "it is tracked")


def test_planned_failover():
    """The old master lives on, as a replica: what it said counts no more, once Sentinel has told it so."""
    with SentinelSet(replicas=1, sentinels=1) as group, group.keyweir("", NEAR) as keyweir, keyweir.client() as conn:
        settle(keyweir)
        conn.cmd("SET", "p:1", "old")
        warm(conn, ["GET", "p:1"])
        _, new = group.failover()
        wait_until(lambda: new.cmd("SET", "p:1", "new") == "OK", what="it takes writes")
        assert last_of(conn, "p:1", b"old", 5) < 2 + LIMIT + SLACK  # it says that it is the master for a second or so
        wait_until(lambda: conn.cmd("GET", "p:1") == b"new", 20, "the new master is asked")
