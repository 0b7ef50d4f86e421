# SPDX-License-Identifier: BSD-2-Clause
"""The near-cache with a real Redis behind it: what is answered from memory, and what must not be."""
import itertools
import os
import resource
import socket
import statistics
import time
import tomllib

import pytest

from harness.cluster import Cluster, follow, slot_of
from harness.monitor import Monitor
from harness.resp import Conn, RespError, encode
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, TOP, Keyweir, Redis, calls_of, free_port, wait_until

NEAR = "[namespace.p]\nnear_cache = true\n"
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NUMBERS = itertools.count()
LIMIT = 0.5  # TRUTH_LIMIT_MS
SLACK = 0.3 * FACTOR


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
    "sort_store": (["RPUSH A 3 1 2", "SET B x"], ["TYPE B", "LRANGE B 0 -1"], ["SORT A STORE B"]),
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
def test_own_write_in_a_pipeline(shop, name):
    own = Own(shop, OWN.get(name) or UNDECLARED[name])
    before = own.truth()
    replies = shop.conn.pipeline([*own.writes, *own.reads])
    assert not any(r.startswith(b"-") for r in replies[:len(own.writes)]), replies
    assert replies[len(own.writes):] == own.truth() != before
    if name in OWN:
        for other in shop.others:
            assert other.pipeline(own.reads) == own.truth()
    if name == "swapdb":
        shop.conn.cmd("SWAPDB", 0, 5)
        assert shop.conn.pipeline(own.reads) == before


@pytest.mark.parametrize("name", [*OWN, *UNDECLARED])
def test_own_write_by_and_by(shop, name):
    """One after the other; then the others, then again what was read first and is kept by now."""
    own = Own(shop, OWN.get(name) or UNDECLARED[name])
    for words in own.writes:
        assert not isinstance(shop.conn.cmd(*words), RespError)
    if name in UNDECLARED:
        assert shop.conn.pipeline(own.reads) == own.truth()
    for conn in (*shop.others, shop.conn) if name in OWN else ():
        for read, truth in zip(own.reads, own.truth()):
            assert conn.raw(*read) == truth
    if name == "swapdb":
        shop.conn.cmd("SWAPDB", 0, 5)


def test_many_own_writes(shop):
    """Again and again, while all connections keep it in memory."""
    key = new_key()
    for i in range(300):
        shop.conn.cmd("SET", key, i)
        for conn in shop.others:
            conn.send("GET", key)
        assert [conn.read() for conn in shop.others] == [b"%d" % i] * len(shop.others)


def test_restore(shop):
    key, source = new_key(), new_key()
    shop.direct.cmd("SET", source, "y")
    shop.direct.cmd("SET", key, "x")
    settle(shop.proxy)
    warm(shop.conn, ["GET", key])
    assert shop.conn.cmd("RESTORE", key, 0, shop.direct.cmd("DUMP", source), "REPLACE") == "OK"
    assert all(conn.cmd("GET", key) == b"y" for conn in (shop.conn, *shop.others))


def test_function(shop):
    code = ("#!lua name=near\nredis.register_function('near_set', function(keys, args)"
            " return redis.call('set', keys[1] or args[1], args[#args]) end)")
    assert shop.conn.cmd("FUNCTION", "LOAD", "REPLACE", code) == b"near"
    key = new_key()
    shop.direct.cmd("SET", key, "x")
    settle(shop.proxy)
    warm(shop.conn, ["GET", key])
    shop.conn.cmd("FCALL", "near_set", 1, key, "y")
    assert all(conn.cmd("GET", key) == b"y" for conn in (shop.conn, *shop.others))
    settle(shop.proxy)
    warm(shop.conn, ["GET", key])
    assert shop.conn.pipeline([("FCALL", "near_set", 0, key, "z"), ("GET", key)])[1] == b"$1\r\nz\r\n"


def test_transaction_that_fails(shop):
    key = new_key()
    shop.direct.cmd("SET", key, "x")
    settle(shop.proxy)
    warm(shop.conn, ["GET", key])
    for end in (["DISCARD"], ["NOSUCHCOMMAND"]):
        shop.conn.cmd("MULTI")
        shop.conn.cmd("SET", key, "y")
        shop.conn.cmd(*end)
        if end != ["DISCARD"]:
            assert shop.conn.cmd("EXEC").startswith("EXECABORT")
        assert shop.conn.cmd("GET", key) == b"x"
    shop.conn.cmd("WATCH", key)
    shop.others[0].cmd("SET", key, "z")
    shop.conn.cmd("MULTI")
    shop.conn.cmd("SET", key, "y")
    assert shop.conn.cmd("EXEC") is None
    assert shop.conn.cmd("GET", key) == b"z"


def test_blocked_pop_is_seen(shop):
    """BLPOP that waits, and takes what another one pushes."""
    key = new_key()
    warm(shop.conn, ["LLEN", key])
    shop.others[0].send("BLPOP", key, 5)
    time.sleep(0.1)
    assert shop.conn.cmd("RPUSH", key, "a", "b") == 2
    assert shop.others[0].read() == [key.encode(), b"a"]
    assert all(conn.cmd("LRANGE", key, 0, -1) == [b"b"] for conn in (shop.conn, *shop.others))


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

def crowd(port, count, key, reader_first):
    """Connections that have all asked for the key; `reader_first` does something with the first one then."""
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
    socks = crowd(shop.proxy.port, 1000, key, None)
    try:
        settle(shop.proxy)
        asked = calls_of(shop.server, "get")
        shop.direct.send("DEBUG", "SLEEP", "0.3")
        time.sleep(0.02)
        request = encode("GET", key)
        socks[0].sendall(request)
        if leader == "leaves":
            time.sleep(0.02)
            socks.pop(0).close()
        for sock in socks:
            if sock is not socks[0] or leader == "leaves":
                sock.sendall(request)
        expected = b"$1\r\nx\r\n" if there else b"$-1\r\n"
        assert all(sock.recv(100) == expected for sock in socks)
        assert shop.direct.read() == "OK"
        assert calls_of(shop.server, "get") == asked + 1
    finally:
        for sock in socks:
            sock.close()
