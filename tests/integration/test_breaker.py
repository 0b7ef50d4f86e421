# SPDX-License-Identifier: BSD-2-Clause
"""The circuit breaker of each node, and what clients get while Redis is not there: on_failure = "error" or "miss"."""
import re
import statistics
import time

import pytest

from harness.cluster import Cluster
from harness.resp import RespError
from harness.servers import FACTOR, Keyweir, Redis, calls_of, wait_until

AT_ONCE = 0.05  # s
OPEN_FOR = 1.0
QUICK = 'read_timeout = "200ms"\n'
BREAKER = '[upstream.%s.circuit_breaker]\nfailures = %d\nwindow = "%s"\nopen_for = "1s"\n'


def with_breaker(server, name="main", failures=3, window="10s"):
    return '[upstream.%s]\nurl = "%s"\n%s' % (name, server.url, QUICK) + BREAKER % (name, failures, window)


@pytest.fixture
def redis(fresh_redis):
    return fresh_redis()


@pytest.fixture
def keyweir(redis):
    with Keyweir(None, with_breaker(redis)) as proxy:
        yield proxy


def rows(conn):
    def text(value):
        return value.decode() if isinstance(value, bytes) else value

    out = []
    for row in conn.cmd("KEYWEIR", "UPSTREAMS"):
        pairs = row.items() if isinstance(row, dict) else zip(row[::2], row[1::2])
        out.append({text(k): text(v) for k, v in pairs})
    return out


def breaker(conn, name="main"):
    return next(r["breaker"] for r in rows(conn) if r["name"] == name)


def took(fn):
    start = time.monotonic()
    value = fn()
    return value, time.monotonic() - start


def said(proxy, what):
    """How often the log says that a breaker is open, or closed."""
    return len(re.findall(r"(?i)circuit breaker.* %s" % what, proxy.log()))


def open_it(conn, key="k", limit=3):
    """Redis is frozen: asks until the breaker is open. Gives the number of time-outs it took."""
    for n in range(limit + 3):
        reply = conn.cmd("GET", key)
        if not str(reply).startswith("TIMEOUT"):
            assert str(reply).startswith("UPSTREAMDOWN"), reply
            return n
    raise AssertionError("%d time-outs, and the breaker is not open" % (limit + 3))


def all_at_once(conn, command=("GET", "k"), n=30):
    """Every reply is UPSTREAMDOWN, and at once."""
    got = [took(lambda: conn.cmd(*command)) for _ in range(n)]
    assert all(str(reply).startswith("UPSTREAMDOWN") for reply, _ in got), got
    assert statistics.median(t for _, t in got) < AT_ONCE * FACTOR, got


def test_opens_and_closes(redis, keyweir):
    with keyweir.client() as conn, keyweir.client() as other:
        assert conn.cmd("SET", "k", "v") == "OK" and breaker(conn) == "closed"
        redis.cmd("CONFIG", "RESETSTAT")
        redis.freeze()
        assert open_it(conn) == 3
        assert breaker(conn) == "open" and rows(conn)[0]["breaker_opened"] == 1
        all_at_once(conn)
        all_at_once(other, ("SET", "k", "w"))  # on another worker too
        assert other.cmd("PING") == "PONG"
        wait_until(lambda: breaker(conn) == "half-open", 2 * OPEN_FOR, "half open")
        all_at_once(conn)  # no client is the probe
        assert said(keyweir, "open") == 1 and said(keyweir, "closed") == 0
        thawed = time.monotonic()
        redis.thaw()
        wait_until(lambda: breaker(conn) == "closed", OPEN_FOR + 1, "closed")
        for client in (conn, other):
            wait_until(lambda client=client: client.cmd("STRLEN", "k") == 1, 1, "every worker knows")
        assert time.monotonic() - thawed < (OPEN_FOR + 1) * FACTOR
        assert said(keyweir, "open") == 1 and said(keyweir, "closed") == 1
        # Of what was asked while it was open Redis has got nothing.
        assert calls_of(redis, "get") <= 3 and calls_of(redis, "set") == 0 and conn.cmd("GET", "k") == b"v"


def test_opens_again(redis, keyweir):
    with keyweir.client() as conn:
        conn.cmd("SET", "k", "v")
        for i in range(1, 3):
            redis.freeze()
            assert open_it(conn) == 3
            redis.thaw()
            wait_until(lambda: conn.cmd("GET", "k") == b"v", OPEN_FOR + 1, "it answers again")
            assert rows(conn)[0]["breaker_opened"] == i and said(keyweir, "open") == said(keyweir, "closed") == i


def test_stays_open_while_redis_is_frozen(redis, keyweir):
    """One probe after the other, and never a client that hangs."""
    with keyweir.client() as conn:
        redis.freeze()
        open_it(conn)
        until, slowest = time.monotonic() + 4 * OPEN_FOR, 0
        states = set()
        while time.monotonic() < until:
            reply, seconds = took(lambda: conn.cmd("GET", "k"))
            assert reply.startswith("UPSTREAMDOWN"), reply
            slowest = max(slowest, seconds)
            states.add(breaker(conn))
        assert slowest < 0.2 * FACTOR and states <= {"open", "half-open"}
        assert said(keyweir, "open") == 1
        redis.thaw()
        wait_until(lambda: conn.cmd("GET", "k") is None, OPEN_FOR + 1, "it answers again")


def test_failures_outside_of_the_window_do_not_count(redis, fresh_keyweir):
    proxy = fresh_keyweir(None, with_breaker(redis, window="300ms"))
    with proxy.client() as conn:
        redis.freeze()
        # 200 ms and more between two of them: never three within 300 ms.
        assert [conn.cmd("GET", "k")[:7] for _ in range(4)] == ["TIMEOUT"] * 4
        assert breaker(conn) == "closed" and said(proxy, "open") == 0
        redis.thaw()
        wait_until(lambda: conn.cmd("GET", "k") is None, 5, "it answers again")


def test_blocking_is_no_failure(redis, fresh_keyweir):
    proxy = fresh_keyweir(None, with_breaker(redis, failures=1))
    with proxy.client() as conn:
        for _ in range(3):
            reply, seconds = took(lambda: conn.cmd("BLPOP", "queue", 0.4))
            assert reply is None and seconds >= 0.4
        assert breaker(conn) == "closed" and conn.cmd("SET", "k", "v") == "OK"


def test_error_replies_are_no_failures(redis, fresh_keyweir):
    proxy = fresh_keyweir(None, with_breaker(redis, failures=1))
    with proxy.client() as conn:
        conn.cmd("RPUSH", "list", "x")
        assert all(conn.cmd("GET", "list").startswith("WRONGTYPE") for _ in range(20))
        assert breaker(conn) == "closed" and conn.cmd("LLEN", "list") == 1


def test_a_stalled_pipeline_is_one_failure(redis, keyweir):
    """Redis that stalls once lets everything on the way time out at once: no reason to leave it alone."""
    with keyweir.client() as conn:
        redis.freeze()
        assert all(raw.startswith(b"-TIMEOUT") for raw in conn.pipeline([["GET", "k"]] * 50))
        redis.thaw()
        wait_until(lambda: conn.cmd("GET", "k") is None, 2, "it answers again")
        assert breaker(conn) == "closed" and said(keyweir, "open") == 0


def test_killed_redis(redis, keyweir):
    """No connection: no time-out is waited for, whatever the breaker does; and back as soon as Redis is."""
    with keyweir.client() as conn:
        assert conn.cmd("SET", "k", "v") == "OK"
        redis.kill()
        wait_until(lambda: conn.cmd("GET", "k").startswith("UPSTREAMDOWN"), 2, "it is seen to be down")
        all_at_once(conn)
        redis.start()
        wait_until(lambda: conn.cmd("SET", "k", "v") == "OK", OPEN_FOR + 1, "it is back")


def test_one_node_of_a_cluster():
    """Each node has a breaker of its own."""
    with Cluster(replicas=0, node_timeout=60000) as cluster:
        frozen, *others = cluster.masters()
        dead, alive = cluster.key_on(frozen), [cluster.key_on(n) for n in others]
        head = QUICK + BREAKER % ("main", 3, "10s")
        with cluster.keyweir(head) as proxy, proxy.client() as conn:
            assert conn.cmd("MSET", *[x for k in (dead, *alive) for x in (k, "v")]) == "OK"
            cluster.stop(frozen)
            assert open_it(conn, dead) == 3
            all_at_once(conn, ("GET", dead))
            for key in alive:
                assert conn.cmd("GET", key) == b"v" and conn.cmd("SET", key, "w") == "OK"
            all_at_once(conn, ("MGET", dead, *alive))
            states = {int(r["url"].split(":")[-1].split("/")[0]): r["breaker"] for r in rows(conn)}
            assert {n.port: states[n.port] for n in others} == {n.port: "closed" for n in others}
            assert states[frozen.port] in ("open", "half-open")
            assert said(proxy, "open") == 1
            cluster.cont(frozen)
            wait_until(lambda: conn.cmd("GET", dead) == b"v", OPEN_FOR + 1, "the node answers again")


# ---- on_failure ----

def commands(text):
    return [line.split() for line in text.strip().replace("\n", "|").split("|")]


READS = commands("""
GET k|MGET k|MGET k k2 k3|STRLEN k|GETRANGE k 0 -1|SUBSTR k 0 1|EXISTS k|EXISTS k k2|TYPE k|TTL k|PTTL k|EXPIRETIME k
HGET k f|HMGET k f g|HGETALL k|HKEYS k|HVALS k|HLEN k|HEXISTS k f|HSTRLEN k f|HRANDFIELD k|LRANGE k 0 -1|LLEN k|LINDEX k 0
SMEMBERS k|SISMEMBER k x|SMISMEMBER k x y|SCARD k|SRANDMEMBER k|SINTER k k2|SUNION k k2|SDIFF k k2|PEXPIRETIME k
ZRANGE k 0 -1|ZRANGE k 0 -1 WITHSCORES|ZREVRANGE k 0 -1|ZRANGEBYSCORE k 0 1|ZREVRANGEBYSCORE k 1 0|ZRANGEBYLEX k - +
ZSCORE k m|ZMSCORE k m n|ZRANK k m|ZREVRANK k m|ZCARD k|ZCOUNT k 0 1|ZLEXCOUNT k - +|ZRANDMEMBER k
GETBIT k 1|BITCOUNT k|PFCOUNT k|DUMP k|TOUCH k|TOUCH k k2|GEODIST k m n|GEOHASH k m
GEOSEARCH k FROMLONLAT 0 0 BYRADIUS 1 m|XLEN k|XRANGE k - +|XREVRANGE k + -|SORT_RO k|GETEX k|GETDEL k
""")
# Refused so far, or answered with a null of the wrong kind.
READS_LATER = commands("""
HSCAN k 0|SSCAN k 0|ZSCAN k 0|LPOS k x|LPOS k x COUNT 0|SINTERCARD 2 k k2|ZINTER 2 k k2|ZUNION 2 k k2|ZDIFF 2 k k2
BITPOS k 1|XREAD STREAMS k 0|OBJECT ENCODING k|HRANDFIELD k 2|SRANDMEMBER k 2|ZRANDMEMBER k 2|GEOPOS k m|SET k v GET
""")

WRITES = {"SET k v": "OK", "SET k v EX 10": "OK", "SETEX k 10 v": "OK", "PSETEX k 10 v": "OK", "MSET k v k2 v": "OK",
          "DEL k": 1, "DEL k k2": 2, "UNLINK k": 1, "EXPIRE k 10": 1, "PEXPIRE k 10": 1, "EXPIREAT k 99999999999": 1,
          "PERSIST k": 1, "SETNX k v": 1, "HSET k f v": 1, "HMSET k f v": "OK", "HDEL k f": 1, "SADD k m": 1, "SREM k m": 1,
          "ZADD k 1 m": 1, "ZREM k m": 1}


def seen_by_every_worker(proxy):
    """That the cache is down. Clients that are there at the same time are spread over the workers."""
    clients = [proxy.client() for _ in range(16)]
    for client in clients:
        wait_until(lambda client=client: client.cmd("GET", "e").startswith("UPSTREAMDOWN"), 2, "seen to be down")
    for client in clients:
        client.close()


class Miss:
    """A Keyweir whose cache is not there: killed, or frozen behind a breaker that is open."""

    def __init__(self, main, cache, proxy):
        self.main, self.cache, self.proxy = main, cache, proxy


@pytest.fixture(scope="module", params=["killed", "frozen"])
def miss(request):
    with Redis() as main, Redis() as cache:
        tables = (with_breaker(main) + with_breaker(cache, "cache")
                  + '[namespace.k]\nmatch = "k"\nupstream = "cache"\non_failure = "miss"\n'
                  + '[namespace.e]\nmatch = "e"\nupstream = "cache"\non_failure = "error"\n')
        with Keyweir(None, tables) as proxy, proxy.client() as conn:
            assert conn.cmd("MSET", "k", "was here", "k2", "was here", "e", "was here") == "OK"
            if request.param == "killed":
                cache.kill()
            else:
                cache.freeze()
                open_it(conn, "e")
            seen_by_every_worker(proxy)
            yield Miss(main, cache, proxy)


@pytest.fixture
def conns(miss):
    with miss.proxy.client() as two, miss.proxy.client(3) as three:
        yield {2: two, 3: three}



@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("command", [*READS, *READS_LATER], ids=" ".join)
def test_reads_find_nothing(miss, conns, command, proto):
    """What an empty Redis says."""
    with miss.main.client(proto) as empty:
        wanted = empty.raw(*command)
        empty.cmd("FLUSHALL")
    reply, seconds = took(lambda: conns[proto].raw(*command))
    assert reply == wanted and seconds < 0.2 * FACTOR


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("command", WRITES)
def test_writes_are_accepted_and_dropped(conns, command, proto):
    assert conns[proto].cmd(*command.split()) == WRITES[command]
    assert conns[proto].cmd("GET", "k") is None



@pytest.mark.parametrize("first", ["a", "k"])
def test_reads_and_writes_over_two_upstreams(miss, conns, first):
    """The part that is there is true; the other is a miss."""
    conn = conns[2]
    keys = sorted(["a", "k"], key=lambda k: k != first)
    assert conn.cmd("MSET", *[x for k in keys for x in (k, "v" + k)]) == "OK"
    assert miss.main.cmd("GET", "a") == b"va"
    assert conn.cmd("MGET", *keys, "k2") == [b"va" if k == "a" else None for k in keys] + [None]
    assert conn.cmd("EXISTS", *keys) == 1
    assert conn.cmd("DEL", *keys) == 2 and miss.main.cmd("EXISTS", "a") == 0


@pytest.mark.parametrize("keys", [("k", "e"), ("e", "k"), ("k", "a"),
                                  ("a", "k")], ids=" ".join)
def test_what_is_said_to_be_written_is_written(miss, conns, keys):
    """OK for a command with a key that may not be missed means that it is there; a read has its true value or fails."""
    miss.main.cmd("SET", "a", "true")
    reply = conns[2].cmd("MGET", *keys)
    assert isinstance(reply, RespError) or "e" not in keys and reply == [b"true" if k == "a" else None for k in keys]
    reply = conns[2].cmd("MSET", *[x for k in keys for x in (k, "new")])
    assert isinstance(reply, RespError) or "e" not in keys and miss.main.cmd("GET", "a") == b"new"


def test_pipeline_in_order(conns):
    got = conns[2].pipeline([["SET", "a", 1], ["SET", "k", 1], ["GET", "k"], ["GET", "a"], ["GET", "e"], ["INCR", "a"],
                             ["HGETALL", "k"], ["DEL", "a"]])
    assert got[:4] == [b"+OK\r\n", b"+OK\r\n", b"$-1\r\n", b"$1\r\n1\r\n"] and got[4].startswith(b"-UPSTREAMDOWN")
    assert got[5:] == [b":2\r\n", b"*0\r\n", b":1\r\n"]


def test_error_is_an_error(conns):
    all_at_once(conns[2], ("GET", "e"))
    all_at_once(conns[3], ("SET", "e", "v"))
    all_at_once(conns[2], ("DEL", "e"), 5)
    all_at_once(conns[2], ("MGET", "e", "e2"), 5)


def test_wrong_commands_stay_wrong(conns):
    assert conns[2].cmd("GET") == "ERR wrong number of arguments for 'get' command"
    for command in (["SET", "k"], ["GET", "k", "k"], ["MSET", "k", "v", "k2"], ["HSET", "k", "f"]):
        assert isinstance(conns[2].cmd(*command), RespError), command


@pytest.mark.parametrize("command", [["EVAL", "return 1", "1", "k"], ["BLPOP", "k", "0"], ["INCR", "k"], ["LPOP", "k"],
                                     ["WATCH", "k"], ["RPUSH", "k", "v"], ["RENAME", "k", "k2"], ["SUNIONSTORE", "k", "k2"]], ids=lambda c: c[0])
def test_nothing_hangs(conns, command):
    """What is neither a plain read nor a cache write: an answer of some kind, at once."""
    reply, seconds = took(lambda: conns[2].cmd(*command))
    assert seconds < 0.5 * FACTOR and (isinstance(reply, (int, list, type(None))) or reply.startswith("UPSTREAMDOWN")), reply


def test_transaction_is_refused(miss):
    """A transaction that was dropped must not look as if it was done."""
    with miss.proxy.client() as conn:
        replies = [conn.cmd("MULTI"), conn.cmd("SET", "k", 1), conn.cmd("GET", "k"), conn.cmd("EXEC")]
        assert replies[0] == "OK" and str(replies[3]).startswith(("UPSTREAMDOWN", "EXECABORT")), replies
        assert conn.cmd("GET", "k") is None


def test_back_to_the_truth(fresh_redis, fresh_keyweir):
    """When it is there again its keys are seen again, and what was written meanwhile is not in it."""
    cache = fresh_redis()
    proxy = fresh_keyweir(None, with_breaker(cache) + '[namespace.default]\non_failure = "miss"\n')
    with proxy.client() as conn:
        assert conn.cmd("SET", "k", "old") == "OK"
        cache.freeze()
        wait_until(lambda: [conn.cmd("GET", "k"), "is open" in proxy.log()] == [None, True], what="the breaker is open")
        reply = conn.cmd("GET", "k")
        assert reply is None and conn.cmd("SET", "k", "dropped") == "OK" and conn.cmd("SET", "new", "dropped") == "OK"
        cache.thaw()
        wait_until(lambda: conn.cmd("GET", "k") == b"old", OPEN_FOR + 1, "the cache answers again")
        assert conn.cmd("EXISTS", "new") == 0 and cache.cmd("GET", "k") == b"old"


def test_starts_without_its_cache(fresh_keyweir):
    cache = Redis()
    proxy = fresh_keyweir(None, with_breaker(cache) + '[namespace.default]\non_failure = "miss"\n')
    with proxy.client() as conn:
        assert conn.cmd("GET", "k") is None and conn.cmd("SET", "k", "v") == "OK" and conn.cmd("GET", "k") is None
        cache.start()
        try:
            wait_until(lambda: conn.cmd("SET", "k", "v") == "OK" and conn.cmd("GET", "k") == b"v", 5, "the cache is there")
        finally:
            cache.stop()
