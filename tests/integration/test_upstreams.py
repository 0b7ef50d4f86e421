# SPDX-License-Identifier: BSD-2-Clause
"""Several upstreams at once: which one a key belongs to, commands over several of them, and one that is not there."""
import os
import time

import pytest

from harness.cluster import Cluster
from harness.resp import RespError, encode
from harness.servers import FACTOR, Keyweir, Redis, free_port, wait_until

CROSSUPSTREAM = "CROSSUPSTREAM keys of one command belong to different upstreams"


def upstream(name, server, more=""):
    return '[upstream.%s]\nurl = "%s"\n%s\n' % (name, server.url, more)


def namespace(name, to, match=None, more=""):
    return '[namespace.%s]\nupstream = "%s"\n%s%s\n' % (name, to, 'match = %s\n' % match if match else "", more)


class Several:
    """main and cache, a Redis each, and shards, a Cluster."""

    def __init__(self, main, cache, shards):
        self.main, self.cache, self.shards = main, cache, shards
        nodes = ", ".join('"%s"' % n.address for n in shards.nodes())
        self.tables = (upstream("main", main) + upstream("cache", cache)
                       + '[upstream.shards]\nmode = "cluster"\nnodes = [%s]\n' % nodes
                       + namespace("cache", "cache") + namespace("one", "main", '"cache:main:"')
                       + namespace("many", "shards", '["s:", "cache:shards:"]'))

    def where(self, key):
        """The upstreams that have the key."""
        with self.shards.node_of_key(key).client() as conn:
            there = {"shards": conn.cmd("EXISTS", key)}
        there.update(main=self.main.cmd("EXISTS", key), cache=self.cache.cmd("EXISTS", key))
        return [name for name, n in there.items() if n]

    def flush(self):
        for server in (self.main, self.cache, *self.shards.masters()):
            server.cmd("FLUSHALL")


@pytest.fixture(scope="module")
def several():
    with Redis() as main, Redis() as cache, Cluster(replicas=0) as shards:
        yield Several(main, cache, shards)


@pytest.fixture(scope="module")
def keyweir(several):
    with Keyweir(None, several.tables) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def empty(several):
    several.flush()


# ---- which upstream ----

PLACES = {"a": "main", "cach": "main", "cache": "main", "cache:": "cache", "cache:a": "cache", "cache:main": "cache",
          "cache:main:": "main", "cache:main:a": "main", "cache:shards:a": "shards", "s:a": "shards", "s": "main",
          "Cache:a": "main", "{cache:}a": "main"}


def test_longest_prefix_wins(several, conn):
    for key in PLACES:
        assert conn.cmd("SET", key, "v" + key) == "OK"
    assert {key: several.where(key) for key in PLACES} == {key: [name] for key, name in PLACES.items()}
    for key in PLACES:
        assert conn.cmd("GET", key) == b"v" + key.encode()


@pytest.mark.parametrize("to", ["main", "cache"])
def test_default_has_what_matches_nothing(several, fresh_keyweir, to):
    proxy = fresh_keyweir(None, several.tables + namespace("default", to))
    with proxy.client() as conn:
        for key in ("nothing", "cache:a", "cache:main:a", "s:a"):
            assert conn.cmd("SET", key, "v") == "OK"
        assert [several.where(k) for k in ("nothing", "cache:a", "cache:main:a", "s:a")] == \
            [[to], ["cache"], ["main"], ["shards"]]


@pytest.mark.parametrize("proto", [2, 3])
def test_types_of_commands(several, keyweir, proto):
    """Wherever the key stands in the command."""
    with keyweir.client(proto) as conn:
        for prefix, name in (("", "main"), ("cache:", "cache"), ("s:{t}", "shards")):
            k = [prefix + "k%d" % i for i in range(9)]
            assert conn.cmd("SADD", k[0], "x", "y") == 2 and conn.cmd("SINTERSTORE", k[1], k[0], k[0]) == 2
            assert conn.cmd("ZADD", k[2], 1, "m") == 1 and conn.cmd("ZUNIONSTORE", k[3], 2, k[2], k[2]) == 1
            assert conn.cmd("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, k[4], "cache:x") == "OK"
            assert conn.cmd("XADD", k[5], "1-1", "f", "v") == b"1-1"
            assert conn.cmd("XREAD", "COUNT", "1", "STREAMS", k[5], "0")
            assert conn.cmd("BITOP", "NOT", k[6], k[4]) == 7 and conn.cmd("OBJECT", "ENCODING", k[0]) == b"hashtable"
            assert conn.cmd("RPUSH", k[7], "b", "a") == 2 and conn.cmd("SORT", k[7], "ALPHA", "STORE", k[8]) == 2
            assert [several.where(key) for key in k] == [[name]] * 9


# ---- split ----

@pytest.mark.parametrize("prefixes", [("k", "cache:k"), ("k", "s:k"), ("k", "cache:k", "s:k")],
                         ids=["two Redis", "Redis and Cluster", "all"])
@pytest.mark.parametrize("proto", [2, 3])
def test_split_in_order(several, keyweir, prefixes, proto):
    keys = ["%s%d" % (p, i) for i in range(30) for p in prefixes]
    with keyweir.client(proto) as conn:
        assert conn.cmd("MSET", *[x for k in keys for x in (k, "v" + k)]) == "OK"
        home = {"k": "main", "cache:k": "cache", "s:k": "shards"}
        assert [several.where(p + "7") for p in prefixes] == [[home[p]] for p in prefixes]
        values = [b"v" + k.encode() for k in keys]
        assert conn.cmd("MGET", *keys) == values
        assert conn.cmd("MGET", *reversed(keys), "none", "cache:none", "s:none", keys[0], keys[0]) == \
            [*reversed(values), None, None, None, values[0], values[0]]
        conn.cmd("RPUSH", prefixes[1] + "list", "x")
        assert conn.cmd("MGET", keys[0], prefixes[1] + "list", keys[1]) == [values[0], None, values[1]]
        assert conn.cmd("EXISTS", *keys, keys[0], "none", "cache:none", "s:none") == len(keys) + 1
        assert conn.cmd("TOUCH", *keys, "cache:none") == len(keys)
        assert conn.cmd("UNLINK", *keys[:10], "none") == 10
        assert conn.cmd("DEL", *keys, "s:none") == len(keys) - 10
        assert conn.cmd("EXISTS", *keys) == 0
        assert conn.cmd("MSET", "a", 1, "cache:b") == "ERR wrong number of arguments for 'mset' command"
    assert several.main.cmd("DBSIZE") == 0 and several.cache.cmd("DBSIZE") == (1 if prefixes[1] == "cache:k" else 0)


@pytest.mark.parametrize("proto", [2, 3])
def test_pipelines_in_order(keyweir, proto):
    with keyweir.client(proto) as conn:
        commands, wanted = [], []
        for i in range(300):
            for prefix in ("k", "cache:k", "s:k"):
                commands += [["SET", "%s%d" % (prefix, i), "%s%d" % (prefix, i)], ["GET", "%s%d" % (prefix, i)]]
                wanted += [b"+OK\r\n", b"$%d\r\n%s%d\r\n" % (len(prefix + str(i)), prefix.encode(), i)]
            commands += [["INCR", "cache:n"], ["MGET", "k%d" % i, "cache:n", "s:k%d" % i], ["ECHO", "%d" % i]]
            texts = [b"k%d" % i, b"%d" % (i + 1), b"s:k%d" % i]
            wanted += [b":%d\r\n" % (i + 1), b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(t), t) for t in texts),
                       b"$%d\r\n%d\r\n" % (len(str(i)), i)]
        got = conn.pipeline(commands)
        assert [(c, g, w) for c, g, w in zip(commands, got, wanted) if g != w][:3] == []


# ---- what can't be split ----

NOT_SPLIT = [
    ["RENAME", "a", "cache:a"], ["RENAMENX", "cache:a", "a"], ["COPY", "a", "cache:a"], ["MSETNX", "a", 1, "cache:a", 2],
    ["SINTER", "a", "cache:a"], ["SINTER", "a", "s:a"], ["SUNIONSTORE", "cache:a", "a"], ["SMOVE", "a", "cache:a", "x"],
    ["LMOVE", "a", "cache:a", "LEFT", "LEFT"], ["RPOPLPUSH", "cache:a", "a"], ["PFMERGE", "a", "cache:a"],
    ["PFCOUNT", "a", "cache:a"], ["BITOP", "AND", "a", "cache:a", "a"], ["ZUNIONSTORE", "a", 1, "cache:a"],
    ["ZINTER", 2, "a", "cache:a"], ["SORT", "a", "STORE", "cache:a"], ["EVAL", "return 1", 2, "a", "cache:a"],
    ["BLPOP", "a", "cache:a", 0], ["BLMOVE", "a", "cache:a", "LEFT", "LEFT", 0], ["BLMPOP", 0, 2, "a", "cache:a", "LEFT"],
    ["XREAD", "BLOCK", 0, "STREAMS", "a", "cache:a", 0, 0], ["WATCH", "a", "cache:a"], ["LCS", "a", "cache:a"],
    ["GEOSEARCHSTORE", "a", "cache:a", "FROMLONLAT", 0, 0, "BYRADIUS", 1, "m"],
]


def test_not_split(several, conn):
    assert conn.cmd("SET", "a", "v") == "OK"
    assert {str(c): conn.cmd(*c) for c in NOT_SPLIT} == {str(c): CROSSUPSTREAM for c in NOT_SPLIT}
    assert several.where("a") == ["main"] and several.where("cache:a") == []
    assert conn.cmd("SINTER", "s:a", "s:b").startswith("CROSSSLOT")


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "piecewise"])
def test_transactions(several, conn, whole):
    def run(*commands):
        raws = conn.pipeline(commands) if whole else [conn.raw(*c) for c in commands]
        return [raw.rstrip(b"\r\n").decode() for raw in raws]

    for key, name in (("a", "main"), ("cache:a", "cache"), ("s:a", "shards")):
        got = run(["MULTI"], ["SET", key, 1], ["INCR", key], ["EXEC"])
        assert got == ["+OK", "+QUEUED", "+QUEUED", "*2\r\n+OK\r\n:2"] and several.where(key) == [name]
    for first, second in (("a", "cache:a"), ("cache:a", "a"), ("s:a", "cache:a"), ("cache:a", "s:a")):
        got = run(["MULTI"], ["SET", first, 7], ["SET", second, 7], ["EXEC"])
        assert got[:3] == ["+OK", "+QUEUED", "-" + CROSSUPSTREAM] and got[3].startswith("-EXECABORT"), got
        assert conn.cmd("MGET", first, second) == [b"2", b"2"]
    got = run(["MULTI"], ["SET", "a", 8], ["MGET", "a", "cache:a"], ["EXEC"])
    assert got[2] == "-" + CROSSUPSTREAM and got[3].startswith("-EXECABORT") and conn.cmd("GET", "a") == b"2"


def test_watch_on_another_upstream_than_the_transaction(several, conn):
    conn.cmd("MSET", "a", 1, "cache:a", 1)
    assert conn.cmd("WATCH", "cache:a") == "OK"
    replies = [conn.cmd("MULTI"), conn.cmd("SET", "a", 2), conn.cmd("EXEC")]
    assert replies[2].startswith(("CROSSUPSTREAM", "EXECABORT")) and CROSSUPSTREAM in replies, replies
    assert conn.cmd("GET", "a") == b"1"
    assert conn.cmd("WATCH", "a") == "OK"
    assert conn.cmd("WATCH", "cache:a") == CROSSUPSTREAM
    # What it watches first still counts, and ends with the transaction.
    several.main.cmd("SET", "a", "theirs")
    assert [conn.cmd("MULTI"), conn.cmd("SET", "a", 3), conn.cmd("EXEC")] == ["OK", "QUEUED", None]
    assert [conn.cmd("MULTI"), conn.cmd("SET", "cache:a", 3), conn.cmd("EXEC")] == ["OK", "QUEUED", ["OK"]]


@pytest.mark.parametrize("key", ["a", "cache:a", "s:a"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "piecewise"])
def test_watch(keyweir, conn, key, whole):
    def run(*commands):
        return conn.pipeline(commands) if whole else [conn.raw(*c) for c in commands]

    with keyweir.client() as other:
        for _ in range(5):
            assert run(["WATCH", key], ["SET", key, "mine"], ["UNWATCH"]) == [b"+OK\r\n"] * 3
            assert run(["WATCH", key], ["MULTI"], ["SET", key, 1], ["EXEC"])[3] == b"*1\r\n+OK\r\n"
            assert conn.cmd("WATCH", key) == "OK" and other.cmd("SET", key, "theirs") == "OK"
            assert run(["MULTI"], ["SET", key, 1], ["EXEC"])[2] == b"*-1\r\n"


def test_blocking_on_each(several, keyweir):
    waiting = {key: keyweir.client() for key in ("a", "cache:a", "s:a")}
    for key, client in waiting.items():
        client.send("BLPOP", key, 0)
    with keyweir.client() as conn:
        wait_until(lambda: b"blocked_clients:3" in conn.cmd("INFO", "clients"), what="three are blocked")
        for key, client in waiting.items():
            assert conn.cmd("RPUSH", key, "for " + key) == 1
            assert client.read() == [key.encode(), b"for " + key.encode()]
            client.close()


# ---- without keys ----

def test_keyless_commands_go_to_main(several, keyweir, conn):
    several.cache.cmd("SET", "cache:only", 1)
    assert conn.cmd("DBSIZE") == 0 and conn.cmd("KEYS", "*") == [] and conn.cmd("RANDOMKEY") is None
    several.main.cmd("SET", "only", 1)
    assert conn.cmd("DBSIZE") == 1 and conn.cmd("KEYS", "*") == [b"only"] and conn.cmd("SCAN", 0) == [b"0", [b"only"]]
    before = several.cache.cmd("CONFIG", "GET", "maxmemory-samples")
    assert conn.cmd("CONFIG", "SET", "maxmemory-samples", 8) == "OK"
    assert several.main.cmd("CONFIG", "GET", "maxmemory-samples")[1] == b"8"
    assert several.cache.cmd("CONFIG", "GET", "maxmemory-samples") == before
    assert conn.cmd("EVAL", "return redis.call('DBSIZE')", 0) == 1
    assert conn.cmd("FLUSHALL") == "OK"
    assert several.main.cmd("DBSIZE") == 0 and several.cache.cmd("DBSIZE") == 1


def test_pubsub_is_on_main(several, keyweir, conn):
    with keyweir.client() as sub:
        assert sub.cmd("SUBSCRIBE", "cache:news") == [b"subscribe", b"cache:news", 1]
        assert conn.cmd("PUBLISH", "cache:news", "through") == 1
        assert sub.read() == [b"message", b"cache:news", b"through"]
        assert several.main.cmd("PUBLISH", "cache:news", "direct") == 1
        assert sub.read() == [b"message", b"cache:news", b"direct"]
        assert several.cache.cmd("PUBSUB", "NUMSUB", "cache:news") == [b"cache:news", 0]


def test_scripts_by_their_hash(several, conn):
    """EVALSHA runs wherever its keys are after a SCRIPT LOAD through Keyweir, or says NOSCRIPT, so that EVAL follows."""
    for server in (several.main, several.cache, *several.shards.masters()):
        server.cmd("SCRIPT", "FLUSH")
    script = "return redis.call('INCR', KEYS[1])"
    sha = conn.cmd("SCRIPT", "LOAD", script)
    for key in ("a", "cache:a", "s:a"):
        reply = conn.cmd("EVALSHA", sha, 1, key)
        if isinstance(reply, RespError):
            assert reply.startswith("NOSCRIPT") and key != "a"
            reply = conn.cmd("EVAL", script, 1, key)
        assert reply == 1 and conn.cmd("EVALSHA", sha, 1, key) == 2


def test_command_to_a_named_upstream(several, conn):
    several.cache.cmd("MSET", "cache:a", 1, "plain", 2)
    assert conn.cmd("KEYWEIR", "UPSTREAM", "cache", "DBSIZE") == 2
    assert conn.cmd("KEYWEIR", "UPSTREAM", "main", "DBSIZE") == 0
    assert conn.cmd("KEYWEIR", "UPSTREAM", "cache", "GET", "plain") == b"2"
    assert conn.cmd("GET", "plain") is None
    assert isinstance(conn.cmd("KEYWEIR", "UPSTREAM", "nosuch", "DBSIZE"), RespError)
    assert isinstance(conn.cmd("KEYWEIR", "UPSTREAM", "cache"), RespError)
    conn.cmd("MSET", *[x for i in range(50) for x in ("s:%d" % i, i)])
    assert conn.cmd("KEYWEIR", "UPSTREAM", "shards", "DBSIZE") == 50
    got = conn.pipeline([["KEYWEIR", "UPSTREAM", "cache", "SET", "p", 1], ["GET", "p"],
                         ["KEYWEIR", "UPSTREAM", "cache", "INCR", "p"], ["KEYWEIR", "UPSTREAM", "main", "EXISTS", "p"],
                         ["INCR", "cache:a"]])
    assert got == [b"+OK\r\n", b"$-1\r\n", b":2\r\n", b":0\r\n", b":2\r\n"]
    assert conn.cmd("KEYWEIR", "UPSTREAM", "cache", "FLUSHALL") == "OK" and several.cache.cmd("DBSIZE") == 0
    assert conn.cmd("DBSIZE") == 0 and conn.cmd("EXISTS", "s:1") == 1
    assert conn.cmd("KEYWEIR", "UPSTREAM", "main", "SET", "cache:b", 1) == "OK"  # whatever its keys
    assert several.where("cache:b") == ["main"] and conn.cmd("GET", "cache:b") is None


@pytest.mark.parametrize("command", [["PING"], ["INFO", "server"], ["CONFIG", "SET", "maxmemory-samples", "9"],
                                     ["NOSUCHCOMMAND", "x"]], ids=lambda c: c[0])
def test_any_command_to_a_named_upstream(several, conn, command):
    reply = conn.cmd("KEYWEIR", "UPSTREAM", "cache", *command)
    if command[0] == "INFO":
        assert b"\r\ntcp_port:%d\r\n" % several.cache.port in reply
    else:
        assert reply == several.cache.cmd(*command)


def rows(conn):
    """KEYWEIR UPSTREAMS as dicts of text."""
    def text(value):
        return value.decode() if isinstance(value, bytes) else value

    out = []
    for row in conn.cmd("KEYWEIR", "UPSTREAMS"):
        pairs = row.items() if isinstance(row, dict) else zip(row[::2], row[1::2])
        out.append({text(k): text(v) for k, v in pairs})
    return out


@pytest.mark.parametrize("proto", [2, 3])
def test_all_are_listed(several, keyweir, proto):
    with keyweir.client(proto) as conn:
        wait_until(lambda: all(r["state"] == "up" for r in rows(conn)), what="all are up")
        listed = {(r["name"], int(r["url"].split(":")[-1].split("/")[0])) for r in rows(conn)}
        assert listed == {("main", several.main.port), ("cache", several.cache.port),
                          *(("shards", n.port) for n in several.shards.nodes())}
        assert {r["role"] for r in rows(conn)} == {"master"} and {r["breaker"] for r in rows(conn)} == {"closed"}


# ---- one is down ----

def took(fn):
    start = time.monotonic()
    value = fn()
    return value, time.monotonic() - start


def test_one_down(fresh_redis, fresh_keyweir):
    main, cache = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(None, upstream("main", main) + upstream("cache", cache) + namespace("cache", "cache"))
    with proxy.client() as conn, proxy.client() as sub:
        sub.cmd("SUBSCRIBE", "news")
        assert conn.cmd("MSET", "a", 1, "cache:a", 1) == "OK"
        cache.kill()
        wait_until(lambda: conn.cmd("GET", "cache:a").startswith("UPSTREAMDOWN"), 5, "cache is seen to be down")
        for _ in range(20):
            reply, seconds = took(lambda: conn.cmd("GET", "cache:a"))
            assert reply.startswith("UPSTREAMDOWN") and seconds < 0.2 * FACTOR, (reply, seconds)
            assert conn.cmd("GET", "a") == b"1"
        got = [conn.cmd(*c) for c in (["SET", "cache:b", 1], ["MGET", "a", "cache:a"], ["MSET", "a", 2, "cache:a", 2])]
        assert all(reply.startswith("UPSTREAMDOWN") for reply in got), got
        got = conn.pipeline([["GET", "a"], ["GET", "cache:a"], ["INCR", "n"], ["SET", "cache:a", 1], ["ECHO", "x"]])
        assert got[0] in (b"$1\r\n1\r\n", b"$1\r\n2\r\n") and got[2] == b":1\r\n" and got[4] == b"$1\r\nx\r\n", got
        assert got[1].startswith(b"-UPSTREAMDOWN") and got[3].startswith(b"-UPSTREAMDOWN"), got
        assert conn.cmd("PUBLISH", "news", "hi") == 1 and sub.read()[-1] == b"hi"
        assert {r["name"]: r["state"] for r in rows(conn)} == {"main": "up", "cache": "down"}
        assert [conn.cmd("MULTI"), conn.cmd("INCR", "n"), conn.cmd("EXEC")] == ["OK", "QUEUED", [2]]
        cache.start()
        wait_until(lambda: conn.cmd("SET", "cache:a", 1) == "OK", 5, "cache is back")


def test_main_down(fresh_redis, fresh_keyweir):
    main, cache = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(None, upstream("main", main) + upstream("cache", cache) + namespace("cache", "cache"))
    with proxy.client() as conn:
        main.kill()
        wait_until(lambda: str(conn.cmd("GET", "a")).startswith("UPSTREAMDOWN"), 5, "main is seen to be down")
        assert conn.cmd("SET", "cache:a", 1) == "OK" and conn.cmd("INCR", "cache:a") == 2
        assert conn.cmd("DBSIZE").startswith("UPSTREAMDOWN")
        with proxy.client(3) as late:
            assert late.cmd("GET", "cache:a") == b"2"


def test_starts_while_one_is_down(fresh_redis, fresh_keyweir):
    main, cache = fresh_redis(), Redis()
    proxy = fresh_keyweir(None, upstream("main", main) + upstream("cache", cache) + namespace("cache", "cache"))
    with proxy.client() as conn:
        assert conn.cmd("SET", "a", 1) == "OK"
        assert conn.cmd("GET", "cache:a").startswith("UPSTREAMDOWN")
        cache.start()
        try:
            wait_until(lambda: conn.cmd("SET", "cache:a", 1) == "OK", 5, "cache is there")
        finally:
            cache.stop()


def test_one_frozen_does_not_hold_up_the_others(fresh_redis, fresh_keyweir):
    main, cache = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(None, upstream("main", main) + upstream("cache", cache, 'read_timeout = "5s"')
                          + namespace("cache", "cache"), workers=1)
    with proxy.client() as stuck, proxy.client() as conn:
        assert conn.cmd("MSET", "a", 1, "cache:a", 1) == "OK" and stuck.cmd("GET", "cache:a") == b"1"
        cache.freeze()
        try:
            stuck.send_raw(encode("GET", "cache:a") * 50)
            slowest = max(took(lambda: conn.cmd("GET", "a"))[1] for _ in range(200))
            assert slowest < 0.5 * FACTOR
        finally:
            cache.thaw()
        assert [stuck.read() for _ in range(50)] == [b"1"] * 50


# ---- reload ----

def test_reload(fresh_redis, fresh_keyweir):
    main, cache, other = fresh_redis(), fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(main)
    with proxy.client() as conn, proxy.client() as sub, proxy.client() as blocked:
        sub.cmd("SUBSCRIBE", "news")
        blocked.send("BLPOP", "queue", 0)
        wait_until(lambda: b"blocked_clients:1" in conn.cmd("INFO", "clients"), what="one is blocked")
        conn.cmd("SET", "cache:a", "in main")

        proxy.reload(upstream("cache", cache) + namespace("cache", "cache"))  # added
        assert conn.cmd("GET", "cache:a") is None and conn.cmd("SET", "cache:a", "in cache") == "OK"
        assert cache.cmd("GET", "cache:a") == b"in cache" and main.cmd("GET", "cache:a") == b"in main"
        assert [r["name"] for r in rows(conn)] == ["main", "cache"]

        proxy.reload(upstream("cache", other) + namespace("cache", "cache"))  # changed
        assert conn.cmd("SET", "cache:a", "in other") == "OK" and other.cmd("GET", "cache:a") == b"in other"
        assert cache.cmd("GET", "cache:a") == b"in cache"

        proxy.reload(upstream("cache", other) + namespace("cache", "cache", '["c:", "k:"]'))  # other keys
        assert conn.cmd("GET", "cache:a") == b"in main" and conn.cmd("SET", "k:a", 1) == "OK"
        assert other.cmd("EXISTS", "k:a") == 1

        before = proxy.log()
        proxy.reload(upstream("cache", other) + namespace("cache", "nosuch"))  # a mistake changes nothing
        assert "nothing is changed" in proxy.log()[len(before):]
        assert conn.cmd("GET", "k:a") == b"1" and [r["name"] for r in rows(conn)] == ["main", "cache"]

        proxy.reload("")  # removed
        assert conn.cmd("GET", "k:a") is None and [r["name"] for r in rows(conn)] == ["main"]
        wait_until(lambda: other.cmd("INFO", "clients").split(b"connected_clients:")[1].split()[0] == b"1", 5,
                   "the connections to the upstream that went are closed")

        assert conn.cmd("PUBLISH", "news", "still") == 1 and sub.read()[-1] == b"still"
        main.cmd("RPUSH", "queue", "x")
        assert blocked.read() == [b"queue", b"x"]


def test_reload_under_a_transaction(fresh_redis, fresh_keyweir):
    """It stays where it was begun, and goes where its keys were."""
    main, cache, other = fresh_redis(), fresh_redis(), fresh_redis()
    caches = namespace("cache", "cache")
    proxy = fresh_keyweir(main)
    with proxy.client() as conn:
        conn.cmd("MULTI"), conn.cmd("SET", "a", 1)
        proxy.reload(upstream("cache", cache) + caches)
        assert conn.cmd("SET", "cache:a", 1) == "QUEUED" and cache.cmd("EXISTS", "cache:a") == 0
        assert conn.cmd("EXEC") == ["OK", "OK"] and main.cmd("GET", "cache:a") == b"1"

        conn.cmd("MULTI"), conn.cmd("SET", "cache:b", 1)
        proxy.reload(upstream("other", other) + upstream("cache", cache) + caches)  # another number
        assert conn.cmd("EXEC") == ["OK"] and cache.cmd("GET", "cache:b") == b"1" and other.cmd("DBSIZE") == 0

        conn.cmd("MULTI"), conn.cmd("SET", "cache:c", 1)
        proxy.reload(upstream("other", other))
        assert conn.cmd("EXEC").startswith(("UPSTREAMDOWN", "EXECABORT"))
        assert [s.cmd("EXISTS", "cache:c") for s in (main, cache, other)] == [0, 0, 0]


def test_reload_under_a_pipeline(fresh_redis, fresh_keyweir):
    """Each command of a client's goes before or after the change, and each gets its own reply."""
    main, cache = fresh_redis(), fresh_redis()
    with_cache = upstream("cache", cache) + namespace("cache", "cache")
    proxy = fresh_keyweir(main, with_cache)
    with proxy.client() as conn:
        for i in range(12):
            batch = [["SET", "cache:%d" % j, "%d-%d" % (i, j)] for j in range(500)] + [["ECHO", j] for j in range(500)]
            conn.send_raw(b"".join(encode(*c) for c in batch))
            proxy.reload("" if i % 2 == 0 else with_cache)
            assert [conn.read() for _ in range(500)] == ["OK"] * 500
            assert [conn.read() for _ in range(500)] == [b"%d" % j for j in range(500)]
        assert conn.cmd("GET", "cache:499") == b"11-499" or main.cmd("GET", "cache:499") == b"11-499"


# ---- where main is ----

def test_database_of_the_url(several, fresh_keyweir):
    main, cache = several.main, several.cache
    tables = ('[upstream.main]\nurl = "redis://127.0.0.1:%d/3"\n[upstream.cache]\nurl = "redis://127.0.0.1:%d/5"\n'
              % (main.port, cache.port)) + namespace("cache", "cache")
    proxy = fresh_keyweir(None, tables)
    with main.client() as on_main, cache.client() as on_cache:
        on_main.cmd("SELECT", 3), on_cache.cmd("SELECT", 5)
        for proto in (2, 3):
            on_main.cmd("FLUSHALL"), on_cache.cmd("FLUSHALL")
            with proxy.client(proto) as conn:
                assert conn.cmd("MSET", "a", 1, "cache:a", 2) == "OK"
                assert [on_main.cmd("GET", "a"), on_cache.cmd("GET", "cache:a")] == [b"1", b"2"]
                assert [conn.cmd("MULTI"), conn.cmd("INCR", "a"), conn.cmd("EXEC")] == ["OK", "QUEUED", [2]]
                assert [conn.cmd("MULTI"), conn.cmd("INCR", "cache:a"), conn.cmd("EXEC")] == ["OK", "QUEUED", [3]]
                on_main.cmd("RPUSH", "list", "x"), on_cache.cmd("RPUSH", "cache:list", "y")
                assert conn.cmd("BLPOP", "list", 1) == [b"list", b"x"]
                assert conn.cmd("BLPOP", "cache:list", 1) == [b"cache:list", b"y"]
                assert conn.cmd("DBSIZE") == 1


def test_database_of_the_url_alone(several, fresh_keyweir):
    """One upstream: what never selects works in its database; SELECT means Redis's own numbers."""
    proxy = fresh_keyweir("redis://127.0.0.1:%d/3" % several.main.port)
    with proxy.client() as conn, several.main.client() as direct:
        assert conn.cmd("SET", "a", "three") == "OK" and direct.cmd("GET", "a") is None
        assert direct.cmd("SELECT", 3) == "OK" and direct.cmd("GET", "a") == b"three"
        assert conn.cmd("SELECT", 0) == "OK" and conn.cmd("GET", "a") is None and conn.cmd("SET", "a", "zero") == "OK"
        assert conn.cmd("SELECT", 3) == "OK" and conn.cmd("GET", "a") == b"three"
        assert conn.cmd("SELECT", 0) == "OK" and conn.cmd("GET", "a") == b"zero"
        assert conn.cmd("RESET") == "RESET"
        assert conn.cmd("GET", "a") == b"three"


def server_of(conn, servers):
    """Which server the proxy has as main: the one whose name is told."""
    for server in servers:
        server.cmd("SET", "who am i", server.port)
    return int(conn.cmd("GET", "who am i"))


def test_redis_url(fresh_redis, fresh_keyweir):
    one, two = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(None, "", env={"REDIS_URL": one.url})
    with proxy.client() as conn:
        assert server_of(conn, (one, two)) == one.port
    proxy = fresh_keyweir(two, "", env={"REDIS_URL": one.url})  # the file says it
    with proxy.client() as conn:
        assert server_of(conn, (one, two)) == two.port
    proxy = fresh_keyweir(None, "[upstream.main]\npool_size = 3\n" + upstream("cache", two) + namespace("cache", "cache"),
                          env={"REDIS_URL": one.url})
    with proxy.client() as conn:
        assert server_of(conn, (one, two)) == one.port and rows(conn)[0]["pool_size"] == 3


CACHE = """[cache]
cache_type = "Redis"
redis_url = "%s"
redis_pool_size = 7
default_ttl_seconds = 3600
"""


def without_main(proxy):
    """The harness writes an [upstream.main] of its own, which [cache] stands in the place of."""
    write = proxy.write_config

    def written(config=None):
        write(config)
        with open(proxy.file, encoding="utf-8") as file:
            text = file.read()
        with open(proxy.file, "w", encoding="utf-8") as file:
            file.write(text.replace("[upstream.main]\n", "", 1))

    proxy.write_config = written
    return proxy


@pytest.fixture
def cache_keyweir():
    started = []

    def make(config, **kwargs):
        started.append(without_main(Keyweir(None, config, **kwargs)))
        return started[-1].start()

    yield make
    for proxy in started:
        proxy.stop()


@pytest.mark.parametrize("how", ["table", "from"])
def test_cache_table(fresh_redis, cache_keyweir, tmp_path, how):
    one, two = fresh_redis(), fresh_redis()
    if how == "table":
        config = CACHE % one.url
    else:
        theirs = tmp_path / "r-commerce.toml"
        theirs.write_text('[server]\nport = 8080\n[database]\nurl = "postgres://x"\n' + CACHE % one.url)
        config = '[cache]\nfrom = "%s"\n' % theirs
    proxy = cache_keyweir(config + upstream("other", two) + namespace("o", "other"), env={"REDIS_URL": two.url})
    with proxy.client() as conn:
        assert server_of(conn, (one, two)) == one.port
        assert [(r["name"], r["pool_size"]) for r in rows(conn)] == [("main", 7), ("other", 20)]
        conn.cmd("SET", "o:a", 1)
        assert two.cmd("EXISTS", "o:a") == 1
        assert "default_ttl_seconds" in proxy.log() and "WARN" in proxy.log()
    if how == "from":
        theirs.write_text(CACHE % two.url)
        proxy.reload()
        with proxy.client() as conn:
            wait_until(lambda: server_of(conn, (one, two)) == two.port, 5, "main is what their file now says")


def test_cache_table_of_a_cluster(several, cache_keyweir):
    nodes = ", ".join('"%s"' % n.address for n in several.shards.nodes())
    proxy = cache_keyweir('[cache]\ncache_type = "Redis"\ncluster_enabled = true\ncluster_nodes = [%s]\n' % nodes)
    with proxy.client() as conn:
        assert conn.cmd("MSET", *[x for i in range(50) for x in ("k%d" % i, i)]) == "OK"
        sizes = [m.cmd("DBSIZE") for m in several.shards.masters()]
        assert sum(sizes) == 50 and min(sizes) > 0
        assert len(rows(conn)) == 3


def test_unset_redis_url_is_the_default(cache_keyweir):
    """No upstream in the file, none in the environment: redis://127.0.0.1:6379/0."""
    proxy = cache_keyweir("", env={"REDIS_URL": ""})
    assert "redis://127.0.0.1:6379/0" in proxy.log()


def test_upstream_that_is_not_there_is_a_mistake(fresh_redis, fresh_keyweir):
    main = fresh_redis()
    proxy = Keyweir(main, namespace("cache", "nosuch"))
    proxy.start(wait=False)
    assert proxy.wait() == 78 and "nosuch" in proxy.log()
    proxy.clean()


@pytest.mark.parametrize("proto", [2, 3])
def test_upstream_with_a_password(fresh_redis, fresh_keyweir, proto):
    main, cache = fresh_redis(), fresh_redis(password="secret")
    proxy = fresh_keyweir(None, upstream("main", main) + upstream("cache", cache) + namespace("cache", "cache"))
    with proxy.client(proto) as conn:
        assert conn.cmd("MSET", "a", 1, "cache:a", 2) == "OK" and conn.cmd("MGET", "cache:a", "a") == [b"2", b"1"]
        assert "secret" not in proxy.log() and "secret" not in str(rows(conn))


def test_channels_that_redis_refuses(fresh_redis, fresh_keyweir):
    """Its login may hear some channels only: who asks for another is told so, the others go on."""
    server = fresh_redis()
    server.cmd("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "resetchannels", "&ok*")
    proxy = fresh_keyweir("redis://u:p@127.0.0.1:%d" % server.port, workers=1)
    with proxy.client() as one, proxy.client() as two:
        assert one.cmd("SUBSCRIBE", "ok1") == [b"subscribe", b"ok1", 1]
        for _ in range(2):
            for command in (["SUBSCRIBE", "other"], ["SUBSCRIBE", "ok1", "ok2", "other"], ["PSUBSCRIBE", "*"], ["SSUBSCRIBE", "s"]):
                assert two.cmd(*command).startswith("NOPERM"), command
        assert two.cmd("SUBSCRIBE", "ok2") == [b"subscribe", b"ok2", 1]
        server.cmd("PUBLISH", "ok1", "x"), server.cmd("PUBLISH", "ok2", "y")
        assert one.read()[-1] == b"x" and two.read()[-1] == b"y"


def test_unix_socket_that_is_not_there(fresh_redis, fresh_keyweir):
    """It is refused at once, before the connection is in any list."""
    server = fresh_redis(unix=True)
    server.kill()
    os.path.exists(server.path) and os.unlink(server.path)
    proxy = fresh_keyweir(server, workers=1)
    for _ in range(10):
        with proxy.client() as conn:
            for command in (["GET", "a"], ["BLPOP", "a", 1], ["SUBSCRIBE", "a"]):
                assert str(conn.cmd(*command)).startswith("UPSTREAMDOWN"), command
        time.sleep(0.03)
    server.start()
    with proxy.client() as conn:
        wait_until(lambda: conn.cmd("SET", "a", 1) == "OK", what="it is there")


def test_unused_port_as_upstream(fresh_redis, fresh_keyweir):
    main = fresh_redis()
    gone = "[upstream.gone]\nurl = \"redis://127.0.0.1:%d\"\n" % free_port()
    proxy = fresh_keyweir(None, upstream("main", main) + gone + namespace("gone", "gone"))
    with proxy.client() as conn:
        assert conn.cmd("SET", "a", 1) == "OK"
        reply, seconds = took(lambda: conn.cmd("GET", "gone:a"))
        assert reply.startswith("UPSTREAMDOWN") and seconds < 0.5 * FACTOR
        assert conn.cmd("GET", "a") == b"1"
