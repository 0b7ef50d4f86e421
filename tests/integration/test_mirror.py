# SPDX-License-Identifier: BSD-2-Clause
"""mirror_to: another Redis gets a copy of what clients do, and never harms them."""
import threading
import time

import pytest

from harness.cluster import Cluster, slot_of
from harness.resp import RespError, encode
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, KEYWEIR, Redis, calls_of, wait_until

PERCENT = 30
SANITIZED = "san" in KEYWEIR


@pytest.fixture(scope="module")
def pair():
    """A Redis and its mirror, for tests that do not break them."""
    with Redis() as main, Redis() as mirror:
        yield main, mirror


@pytest.fixture(autouse=True)
def empty(request):
    if "pair" not in request.fixturenames:
        return
    for server in request.getfixturevalue("pair"):
        for words in (("FLUSHALL",), ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH"), ("CONFIG", "RESETSTAT")):
            server.cmd(*words)


def config(mirror, options=""):
    return 'mirror_to = "b"\n%s\n[upstream.b]\nurl = "%s"\n' % (options, mirror.url)


def counters(proxy):
    with proxy.client() as conn:
        text = conn.cmd("INFO", "keyweir").decode()
    rows = (line.split(":", 1) for line in text.splitlines() if line.startswith("keyweir_mirror_"))
    return {name[len("keyweir_mirror_"):]: int(value) for name, value in rows}


def settle(*servers):
    """Waits until all have the same data, in all databases; times to live may differ."""
    wait_until(lambda: len({s.cmd("DEBUG", "DIGEST") for s in servers}) == 1, what="the mirror has the same data")


def mirrored(proxy, count):
    wait_until(lambda: sum(counters(proxy)[k] for k in ("sent", "dropped")) >= count, what="%d copies" % count)


def test_writes(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror))
    for proto in (2, 3):
        with proxy.client(proto) as conn:
            conn.cmd("SET", "s", "1"), conn.cmd("RPUSH", "l%d" % proto, *range(100)), conn.cmd("HSET", "h", "f", proto)
            conn.cmd("INCRBYFLOAT", "float", "0.1"), conn.cmd("SADD", "set", "a", "b"), conn.cmd("GETDEL", "s")
            conn.cmd("GET", "s"), conn.cmd("PFCOUNT", "hll"), conn.cmd("PUBLISH", "ch", "x")
            conn.cmd("SET", "ttl", "x", "PX", "100000"), conn.cmd("ZADD", "z", "1.5", "m"), conn.cmd("LLEN", "l2")
    settle(main, mirror)
    assert calls_of(mirror, "publish") == calls_of(mirror, "get") == calls_of(mirror, "pfcount") == 0
    assert calls_of(mirror, "incrbyfloat") == 2
    assert 0 < mirror.cmd("PTTL", "ttl") <= 100000
    got = counters(proxy)
    assert got == {"sent": 16, "dropped": 0, "errors": 0, "differences": 0}


def test_what_was_not_done_is_not_copied(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror))
    with proxy.client() as conn:
        conn.cmd("SET", "s", "x")
        assert isinstance(conn.cmd("LPUSH", "s", "1"), RespError)
        assert isinstance(conn.cmd("SET", "s"), RespError)
        assert isinstance(conn.cmd("NOSUCH", "s"), RespError)
        conn.cmd("SET", "end", "x")
    settle(main, mirror)
    assert counters(proxy) == {"sent": 2, "dropped": 0, "errors": 0, "differences": 0}


def test_order(pair, fresh_keyweir):
    """Many clients, pipelined, on keys that they share: what Redis has at the end, the mirror has."""
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_compare = true"), workers=1)

    def client(n):
        with proxy.client() as conn:
            for i in range(20):
                conn.pipeline([["APPEND", "shared%d" % (j % 3), "%d.%d.%d;" % (n, i, j)] for j in range(100)])

    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle(main, mirror)
    assert counters(proxy) == {"sent": 12000, "dropped": 0, "errors": 0, "differences": 0}


def test_order_of_each_client_over_workers(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror), workers=2)
    conns = [proxy.client(proto=2 + n % 2) for n in range(8)]
    for i in range(30):
        for n, conn in enumerate(conns):
            for j in range(20):
                conn.send("RPUSH", "own%d" % n, i * 20 + j)
    for conn in conns:
        for _ in range(600):
            conn.read()
        conn.close()
    settle(main, mirror)
    assert mirror.cmd("LRANGE", "own7", 0, -1) == [b"%d" % i for i in range(600)]


def test_a_client_that_leaves_at_once(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror))
    for i in range(50):
        with proxy.client() as conn:
            conn.send_raw(b"".join(encode("INCR", "left%d" % i) for _ in range(20)))
    wait_until(lambda: all(main.cmd("GET", "left%d" % i) for i in range(50)), what="Redis has got them")
    settle(main, mirror)


def test_percent(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_percent = %d" % PERCENT))
    chosen = {k for k in ("key%d" % i for i in range(1000)) if slot_of(k) % 100 < PERCENT}
    with proxy.client() as conn:
        for _ in range(2):
            conn.pipeline([["INCR", "key%d" % i] for i in range(1000)])
        conn.cmd("MSET", *[x for i in range(1000) for x in ("key%d" % i, "m")])
        conn.cmd("SCRIPT", "LOAD", "return 1")
        conn.cmd("FLUSHDB")
        conn.cmd("SET", "{%s}end" % min(chosen), "x")
    wait_until(lambda: mirror.cmd("EXISTS", "{%s}end" % min(chosen)), what="the last copy")
    assert set(mirror.cmd("KEYS", "key*")) == {k.encode() for k in chosen}
    assert 250 < len(chosen) < 350
    assert set(mirror.cmd("MGET", *chosen)) == {b"m"}
    assert calls_of(mirror, "incr") == 2 * len(chosen)


def test_zero_percent(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_percent = 0"))
    with proxy.client() as conn:
        conn.pipeline([["SET", "k%d" % i, "x"] for i in range(100)])
    assert counters(proxy)["sent"] == 0


def test_all(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, 'mirror = "all"\nmirror_compare = true'))
    for proto in (2, 3):
        with proxy.client(proto) as conn:
            conn.cmd("SET", "a", "1"), conn.cmd("HSET", "h", *range(1000)), conn.cmd("ZADD", "z", 1, "a", 2.5, "b")
            conn.cmd("SADD", "s", *["m%d" % i for i in range(1000)])
            for words in (("GET", "a"), ("GET", "none"), ("MGET", "a", "none"), ("HGETALL", "h"), ("SMEMBERS", "s"),
                          ("ZRANGE", "z", 0, -1, "WITHSCORES"), ("ZSCORE", "z", "b"), ("SISMEMBER", "s", "m1"),
                          ("HRANDFIELD", "none", 3), ("ZPOPMIN", "none"), ("EVAL_RO", "return redis.call('get', KEYS[1])", 1, "a")):
                conn.cmd(*words)
            conn.cmd("DBSIZE"), conn.cmd("SCAN", 0), conn.cmd("XREAD", "BLOCK", 10, "STREAMS", "x", "$")
            conn.cmd("PUBLISH", "ch", "x")
    mirrored(proxy, 30)
    settle(main, mirror)
    assert calls_of(mirror, "get") >= 4 and calls_of(mirror, "dbsize") == calls_of(mirror, "xread") == 0
    assert counters(proxy) == {"sent": 30, "dropped": 0, "errors": 0, "differences": 0}


def test_differences_are_told_without_values(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, 'mirror = "all"\nmirror_compare = true'))
    mirror.cmd("SET", "counter", 5)
    mirror.cmd("SET", "wrongtype-with-a-long-name", "topsecret-there")
    main.cmd("SET", "read", "topsecret-here")
    main.cmd("RPUSH", "list", 1, 2)
    mirror.cmd("RPUSH", "list", 2, 1)
    with proxy.client(3) as conn:
        assert conn.cmd("INCR", "counter") == 1
        assert conn.cmd("GET", "read") == b"topsecret-here"
        assert conn.cmd("LRANGE", "list", 0, -1) == [b"1", b"2"]
        conn.cmd("SET", "same", "x")
        wait_until(lambda: counters(proxy)["differences"] == 3, what="three differences")
        assert conn.cmd("LPUSH", "wrongtype-with-a-long-name", "topsecret") == 1
    wait_until(lambda: counters(proxy) == {"sent": 5, "dropped": 0, "errors": 1, "differences": 4}, what="the last")
    log = proxy.log()
    assert "Mirror b answered incr counter otherwise" in log
    assert "refused a copy of lpush wrongtype-with-a...: WRONGTYPE" in log
    assert log.count("otherwise") <= 3 and "topsecret" not in log


def test_databases(pair, fresh_keyweir):
    main, mirror = pair
    url = mirror.url[:-1] + "7"
    proxy = fresh_keyweir(main, 'mirror_to = "b"\n[upstream.b]\nurl = "%s"\n' % url)
    with proxy.client() as conn:
        conn.cmd("SET", "where", "0")
        conn.pipeline([["SELECT", 3], ["SET", "where", "3"], ["SELECT", 0], ["SET", "there", "0"]])
    with mirror.client() as conn:
        conn.cmd("SELECT", 7)
        wait_until(lambda: conn.cmd("DBSIZE") == 2, what="the mirror's own database")
        conn.cmd("SELECT", 3)
        wait_until(lambda: conn.cmd("GET", "where") == b"3", what="the one with the same number")
        conn.cmd("SELECT", 0)
        assert conn.cmd("DBSIZE") == 0


def test_transactions(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_compare = true"))
    with proxy.client() as conn, proxy.client() as other:
        assert conn.pipeline([["MULTI"], ["INCR", "n"], ["GET", "n"], ["LPUSH", "n", 1], ["EXEC"]])[0] == b"+OK\r\n"
        conn.cmd("WATCH", "n"), other.cmd("INCR", "n")
        conn.cmd("MULTI"), conn.cmd("SET", "n", "wrong")
        assert conn.cmd("EXEC") is None
        conn.cmd("WATCH", "n"), conn.cmd("MULTI"), conn.cmd("SET", "right", "x")
        assert conn.cmd("EXEC") == ["OK"] or conn.cmd("GET", "right") == b"x"
        conn.cmd("MULTI"), conn.cmd("SET", "gone", "x"), conn.cmd("DISCARD")
        conn.cmd("MULTI"), conn.cmd("GET", "n"), conn.cmd("EXEC")
        conn.cmd("MULTI"), conn.cmd("NOSUCH"), conn.cmd("SET", "gone", "x"), conn.cmd("EXEC")
    settle(main, mirror)
    assert mirror.cmd("GET", "n") == b"2" and mirror.cmd("GET", "right") == b"x"
    assert calls_of(mirror, "exec") == 2
    assert counters(proxy) == {"sent": 3, "dropped": 0, "errors": 0, "differences": 0}


def test_scripts(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror))
    with proxy.client() as conn:
        sha = conn.cmd("SCRIPT", "LOAD", "return redis.call('SET', KEYS[1], ARGV[1])")
        assert conn.cmd("EVALSHA", sha, 1, "by-sha", "1") == "OK"
        conn.cmd("EVAL", "redis.call('SET', 'by-script', 'x')", 0)
        assert isinstance(conn.cmd("EVAL", "redis.call('SET', KEYS[1], 'half') error('no')", 1, "half"), RespError)
        assert isinstance(conn.cmd("EVALSHA", "0" * 40, 0), RespError)
        conn.cmd("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('put', "
                 "function(keys, args) return redis.call('SET', keys[1], args[1]) end)")
        assert conn.cmd("FCALL", "put", 1, "by-function", "1") == "OK"
    settle(main, mirror)
    assert mirror.cmd("MGET", "by-sha", "by-script", "half", "by-function") == [b"1", b"x", b"half", b"1"]
    assert counters(proxy) == {"sent": 6, "dropped": 0, "errors": 1, "differences": 0}


@pytest.mark.parametrize("workers", [1, 2])
def test_blocking_pops(pair, fresh_keyweir, workers):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_compare = true"), workers=workers)
    blocked = [("BLPOP", "a", "b", 5), ("BRPOP", "b", "c", 5), ("BLMOVE", "b", "d", "LEFT", "RIGHT", 5),
               ("BRPOPLPUSH", "b", "d", 5), ("BLMPOP", 5, 2, "a", "b", "RIGHT", "COUNT", 2)]
    with proxy.client() as conn, proxy.client(3) as waiting:
        for words in blocked:
            waiting.send(*words)
            time.sleep(0.05)
            conn.cmd("RPUSH", "b", 1, 2, 3)
            assert waiting.read()
        for words in (("BZPOPMIN", "y", "z", 5), ("BZPOPMAX", "z", 5), ("BZMPOP", 5, 1, "z", "MAX")):
            conn.cmd("ZADD", "z", 1, "one", 2, "two", 3, "three")
            assert waiting.cmd(*words)
        assert waiting.cmd("BLPOP", "none", 0.05) is None
        assert waiting.cmd("BLPOP", "b", 1)  # there is one already
        with proxy.client() as leaving:
            leaving.send("BLPOP", "none", 0)
            time.sleep(0.05)
        waiting.pipeline([["MULTI"], ["BLPOP", "b", 0], ["EXEC"]])
    settle(main, mirror)
    got = counters(proxy)
    assert got["dropped"] == got["errors"] == got["differences"] == 0
    assert calls_of(mirror, "blmove") == calls_of(mirror, "brpop") == 0


def test_a_queue(pair, fresh_keyweir):
    """Jobs pushed by one client, taken by others who block, kept in a list of their own and removed when done."""
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_compare = true"))

    def take(n):
        with proxy.client() as conn:
            while conn.cmd("BLMOVE", "queue", "doing%d" % n, "LEFT", "RIGHT", 5) != b"end":
                conn.cmd("INCR", "done"), conn.cmd("LPOP", "doing%d" % n)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    with proxy.client() as conn:
        for i in range(500):
            conn.cmd("RPUSH", "queue", "job%d" % i)
            time.sleep(0.002)
        for _ in threads:
            conn.cmd("RPUSH", "queue", "end")
    for thread in threads:
        thread.join()
    wait_until(lambda: mirror.cmd("GET", "done") == b"500" and mirror.cmd("LLEN", "queue") == 0, what="the mirror's queue is empty")
    assert [mirror.cmd("LLEN", "doing%d" % n) for n in range(4)] == [1] * 4
    assert counters(proxy)["dropped"] == counters(proxy)["errors"] == 0


def test_streams_have_the_same_ids(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_compare = true"))
    with proxy.client() as conn:
        for words in (("x", "*", "f", "v"), ("x", "MAXLEN", "~", 1000, "*", "*", "*"), ("x", "NOMKSTREAM", "*", "f", "v"),
                      ("y", "5", "f", "*"), ("y", "5-7", "*", "x"), ("y", "6-*", "f", "v-*"),
                      ("none", "NOMKSTREAM", "*", "f", "v")):
            conn.cmd("XADD", *words)
        conn.cmd("XGROUP", "CREATE", "x", "g", "0"), conn.cmd("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">")
        conn.cmd("XTRIM", "x", "MAXLEN", 2)
    wait_until(lambda: mirror.cmd("XLEN", "x") == 2, what="the last copy")
    for key in ("x", "y"):
        assert main.cmd("XRANGE", key, "-", "+") == mirror.cmd("XRANGE", key, "-", "+")
    assert calls_of(mirror, "xreadgroup") == 0
    assert counters(proxy) == {"sent": 9, "dropped": 0, "errors": 0, "differences": 0}


def test_large_values(pair, fresh_keyweir):
    main, mirror = pair
    proxy = fresh_keyweir(main, config(mirror, "mirror_compare = true"))
    with proxy.client() as conn:
        assert conn.cmd("SET", "large", b"x" * (5 << 20)) == "OK"
        assert len(conn.cmd("GETSET", "large", b"y" * (6 << 20))) == 5 << 20
        settle(main, mirror)
        assert conn.cmd("SET", "too-large", b"x" * (20 << 20)) == "OK"
        assert len(conn.cmd("GET", "too-large")) == 20 << 20
        conn.cmd("SET", "end", "x")
    wait_until(lambda: mirror.cmd("EXISTS", "end"), what="the last copy")
    assert counters(proxy) == {"sent": 3, "dropped": 1, "errors": 0, "differences": 0}
    assert mirror.cmd("EXISTS", "too-large") == 0


def test_namespaces(pair, fresh_keyweir, fresh_redis):
    """Only what goes to the upstream that has a mirror; and not what goes to the mirror as an upstream of its own."""
    main, mirror = pair
    other = fresh_redis()
    proxy = fresh_keyweir(main, '[upstream.c]\nurl = "%s"\nmirror_to = "b"\n[upstream.b]\nurl = "%s"\n'
                          '[namespace.c]\nupstream = "c"\n[namespace.b]\nupstream = "b"\n' % (other.url, mirror.url))
    with proxy.client() as conn:
        conn.cmd("SET", "x", 1), conn.cmd("INCR", "b:x"), conn.cmd("INCR", "c:x")
        assert conn.cmd("MSET", "x", 1, "c:x", 1, "c:y", 2, "b:y", 1) == "OK"
    wait_until(lambda: sorted(mirror.cmd("KEYS", "*")) == [b"b:x", b"b:y", b"c:x", b"c:y"], what="copies of one upstream")
    assert counters(proxy)["sent"] == 2 and mirror.cmd("GET", "b:x") == b"1"


def test_reload(pair, fresh_keyweir):
    main, mirror = pair
    plain = '[upstream.b]\nurl = "%s"\n' % mirror.url
    proxy = fresh_keyweir(main, plain)
    with proxy.client() as conn:
        conn.cmd("SET", "before", "x")
        proxy.reload(config(mirror))
        conn.cmd("SET", "during", "x")
        wait_until(lambda: mirror.cmd("EXISTS", "during"), what="the copy")
        proxy.reload(config(mirror, "mirror_compare = true"))
        conn.pipeline([["INCR", "n"] for _ in range(1000)])
        wait_until(lambda: mirror.cmd("GET", "n") == b"1000", what="the copies")
        proxy.reload(plain)
        conn.cmd("SET", "after", "x")
    assert not mirror.cmd("EXISTS", "before") and not mirror.cmd("EXISTS", "after")
    assert counters(proxy)["dropped"] == 0


class Load:
    """A client that writes and notes how long the slowest answer took."""

    def __init__(self, proxy, size=100):
        self.proxy, self.size, self.worst, self.count, self.bad = proxy, size, 0.0, 0, []
        self.stopping = False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with self.proxy.client() as conn:
            while not self.stopping:
                began = time.monotonic()
                answer = conn.cmd("SET", "load%d" % (self.count % 100), b"v" * self.size)
                self.worst = max(self.worst, time.monotonic() - began)
                self.count += 1
                if answer != "OK":
                    self.bad.append(answer)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()


def test_mirror_is_killed(fresh_redis, fresh_keyweir):
    main, mirror = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(main, config(mirror))
    with Load(proxy) as load:
        wait_until(lambda: counters(proxy)["sent"] > 100, what="copies")
        mirror.kill()
        before = load.count
        time.sleep(1.5 * FACTOR)
        wait_until(lambda: load.count > before + 500, what="the client goes on")
        mirror.start()
        wait_until(lambda: mirror.cmd("DBSIZE") == 100, what="copies again")
    assert not load.bad and load.worst < 0.5 * FACTOR
    assert counters(proxy)["dropped"] > 0
    assert "Mirror b does not get all copies" in proxy.log()


@pytest.mark.parametrize("size", [100, 100_000])
def test_mirror_is_frozen(fresh_redis, fresh_keyweir, size):
    main, mirror = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(main, config(mirror, 'mirror = "all"\nmirror_compare = true'))
    with Load(proxy, size) as load:
        wait_until(lambda: counters(proxy)["sent"] > 100, what="copies")
        mirror.freeze()
        before, rss = load.count, proxy.rss_kb()
        time.sleep(2 * FACTOR)
        wait_until(lambda: load.count > before + 500, what="the client goes on")
        wait_until(lambda: counters(proxy)["dropped"] > 0, 20, what="copies are dropped")
        assert proxy.rss_kb() - rss < 150_000 or SANITIZED
        mirror.thaw()
        sent = counters(proxy)["sent"]
        wait_until(lambda: counters(proxy)["sent"] > sent + 200, 20, what="copies again")
    assert not load.bad and load.worst < 0.5 * FACTOR


def test_replies_that_wait_to_be_compared_are_bounded(fresh_redis, fresh_keyweir):
    main, mirror = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(main, config(mirror, 'mirror = "all"\nmirror_compare = true'))
    with proxy.client() as conn:
        conn.cmd("SET", "k", "x" * 500_000)
        wait_until(lambda: mirror.cmd("EXISTS", "k"), what="the copy")
        mirror.freeze()
        rss = proxy.rss_kb()
        for _ in range(400):
            conn.cmd("GET", "k")
        assert proxy.rss_kb() - rss < 100_000 or SANITIZED
        mirror.thaw()
        wait_until(lambda: calls_of(mirror, "get") == 400, what="the copies")
    got = counters(proxy)
    assert got["dropped"] == got["errors"] == got["differences"] == 0


def test_mirror_is_not_there(fresh_redis, fresh_keyweir):
    main, mirror = fresh_redis(), fresh_redis()
    mirror.kill()
    proxy = fresh_keyweir(main, config(mirror))
    with proxy.client() as conn:
        for i in range(100):
            assert conn.cmd("SET", "k%d" % i, "x") == "OK"
        got = counters(proxy)
        assert got["dropped"] >= 99 and got["errors"] == 0
        mirror.start()
        wait_until(lambda: conn.cmd("SET", "now", "x") == "OK" and mirror.cmd("EXISTS", "now"), what="copies")


def test_copies_are_sent_before_the_end(fresh_redis, fresh_keyweir):
    main, mirror = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(main, config(mirror))
    with proxy.client() as conn:
        conn.send_raw(b"".join(encode("INCR", "n") for _ in range(5000)))
        for _ in range(5000):
            conn.read()
    proxy.stop()
    assert mirror.cmd("GET", "n") == b"5000"


# ---- Clusters ----


@pytest.fixture(scope="module")
def cluster():
    with Cluster(replicas=0) as c:
        yield c


def to_cluster(cluster, options=""):
    seeds = ", ".join('"%s"' % n.address for n in cluster.nodes())
    return 'mirror_to = "b"\n%s\n[upstream.b]\nmode = "cluster"\nnodes = [%s]\n' % (options, seeds)


def all_data(cluster):
    data = {}
    for master in cluster.masters():
        for key in master.cmd("KEYS", "*"):
            data[key] = master.cmd("GET", key)
    return data


def test_cluster_as_mirror(fresh_redis, fresh_keyweir, cluster):
    main = fresh_redis()
    proxy = fresh_keyweir(main, to_cluster(cluster, "mirror_compare = true"))
    for master in cluster.masters():
        master.cmd("SET", cluster.key_on(master, "old"), "x")
    with proxy.client() as conn:
        wait_until(lambda: conn.cmd("FLUSHALL") == "OK" and counters(proxy)["sent"] >= 3, what="the map")
        wait_until(lambda: not all_data(cluster), what="all masters are empty")
        dropped = counters(proxy)["dropped"]
        conn.cmd("MSET", *[x for i in range(500) for x in ("k%d" % i, i)], "k0", "last")
        conn.cmd("DEL", *["k%d" % i for i in range(100, 200)])
        sha = conn.cmd("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])")
        for i in range(50):
            conn.cmd("EVALSHA", sha, 1, "k%d" % (300 + i))
        conn.pipeline([["MULTI"], ["SET", "{t}1", 1], ["SET", "{t}2", 2], ["EXEC"]])
        wanted = {k: main.cmd("GET", k) for k in main.cmd("KEYS", "*")}
        wait_until(lambda: all_data(cluster) == wanted, what="the same data")
        got = counters(proxy)
        assert got["dropped"] == dropped and got["errors"] == got["differences"] == 0
        conn.pipeline([["MULTI"], ["SET", "a", 1], ["SET", "b", 2], ["EXEC"]])
        conn.cmd("MSETNX", "c", 1, "d", 1)
        wait_until(lambda: counters(proxy)["dropped"] == dropped + 2, what="what can not be split is counted")


def test_cluster_that_moves_slots(fresh_redis, fresh_keyweir, cluster):
    main = fresh_redis()
    proxy = fresh_keyweir(main, to_cluster(cluster, "mirror_compare = true"))
    a, b = cluster.masters()[:2]
    slots = cluster.slots_of(a)[:40]
    tags = {}
    for i in range(200_000):
        tags.setdefault(slot_of("tag%d" % i), "tag%d" % i)
    keys = [tags[s] for s in slots if s in tags]
    stop = threading.Event()

    def write():
        n = 0
        with proxy.client() as conn:
            while not stop.is_set():
                assert all(r.startswith(b":") for r in conn.pipeline([["RPUSH", k, n] for k in keys for _ in range(3)]))
                n += 1

    with proxy.client() as conn:
        wait_until(lambda: conn.cmd("FLUSHALL") == "OK" and counters(proxy)["sent"] >= 3, what="the map")
        wait_until(lambda: not any(m.cmd("DBSIZE") for m in cluster.masters()), what="all masters are empty")
    before = counters(proxy)
    thread = threading.Thread(target=write)
    thread.start()
    try:
        cluster.migrate_slots(a, b, slots)
    finally:
        stop.set()
        thread.join()
    wait_until(lambda: all(b.cmd("LLEN", k) == main.cmd("LLEN", k) for k in keys), what="all copies")
    for key in keys:
        assert b.cmd("LRANGE", key, 0, -1) == main.cmd("LRANGE", key, 0, -1)
    got = counters(proxy)
    assert got["dropped"] == before["dropped"] and got["errors"] == got["differences"] == 0
    cluster.migrate_slots(b, a, slots)


def test_cluster_with_a_mirror(fresh_redis, fresh_keyweir, cluster):
    """The other way: parts of a split command, each once; what goes to all masters, once."""
    for master in cluster.masters():
        master.cmd("FLUSHALL")
    mirror = fresh_redis()
    with cluster.keyweir(head='mirror_to = "b"\nmirror_compare = true\n',
                         tables='[upstream.b]\nurl = "%s"\n' % mirror.url) as proxy, proxy.client() as conn:
        conn.cmd("FLUSHALL")
        conn.cmd("MSET", *[x for i in range(300) for x in ("k%d" % i, i)])
        conn.cmd("DEL", *["k%d" % i for i in range(100)])
        for i in range(100, 200):
            conn.cmd("INCR", "k%d" % i)
        wanted = all_data(cluster)
        wait_until(lambda: {k: mirror.cmd("GET", k) for k in mirror.cmd("KEYS", "*")} == wanted, what="the same data")
        assert calls_of(mirror, "flushall") == 1
        got = counters(proxy)
        assert got["dropped"] == got["errors"] == got["differences"] == 0


def test_cluster_node_is_killed(fresh_redis, fresh_keyweir):
    """Clients go on; keys of the other nodes are copied meanwhile, and all when a replica has taken over."""
    with Cluster() as own:
        main = fresh_redis()
        proxy = fresh_keyweir(main, to_cluster(own))
        with Load(proxy) as load:
            wait_until(lambda: sum(m.cmd("DBSIZE") for m in own.masters()) == 100, what="copies")
            victim = own.masters()[0]
            replica = own.replicas_of(victim)[0]
            key = own.key_on(victim)
            own.kill(victim)
            own.wait_promoted(replica)
            with proxy.client() as conn:
                wait_until(lambda: conn.cmd("SET", key, "x") == "OK" and replica.cmd("GET", key) == b"x",
                           what="copies to the new master")
        assert not load.bad and load.worst < 0.5 * FACTOR
        assert counters(proxy)["dropped"] > 0


def test_sentinel_set_as_mirror(fresh_redis, fresh_keyweir):
    main = fresh_redis()
    with SentinelSet(replicas=1) as group:
        nodes = ", ".join('"%s"' % a for a in group.addresses)
        proxy = fresh_keyweir(main, 'mirror_to = "b"\n[upstream.b]\nmode = "sentinel"\nnodes = [%s]\n' % nodes)
        with Load(proxy) as load:
            old = group.master()
            wait_until(lambda: old.cmd("DBSIZE") == 100, what="copies")
            group.kill_master()
            new = group.wait_new_master(old)
            with proxy.client() as conn:
                wait_until(lambda: conn.cmd("SET", "new", "x") == "OK" and new.cmd("GET", "new") == b"x",
                           20, what="copies to the new master")
        assert not load.bad and load.worst < 0.5 * FACTOR


def test_everything_at_once(fresh_redis, fresh_keyweir):
    """Pipelines, transactions, blocking and leaving clients while the mirror is killed, frozen and started again."""
    main, mirror = fresh_redis(), fresh_redis()
    proxy = fresh_keyweir(main, config(mirror, 'mirror = "all"\nmirror_compare = true') +
                          'read_timeout = "200ms"\n')
    stop, bad = threading.Event(), []

    def client(n):
        while not stop.is_set():
            with proxy.client(2 + n % 2) as conn:
                for i in range(20):
                    got = conn.pipeline([["INCR", "n%d" % n], ["MULTI"], ["LPUSH", "l%d" % n, "x" * 1000 * i], ["EXEC"],
                                         ["MSET", "a", i, "b", i], ["LRANGE", "l%d" % n, 0, 5], ["BLPOP", "l%d" % n, 1]])
                    bad.extend(r for r in got if r.startswith(b"-"))
                conn.send_raw(b"".join(encode("SET", "left%d" % n, "x" * 10000) for _ in range(20)))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.3 * FACTOR)
        mirror.freeze()
        time.sleep(1.2 * FACTOR)
        mirror.thaw()
        time.sleep(0.2 * FACTOR)
        mirror.kill()
        time.sleep(0.3 * FACTOR)
        mirror.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert not bad, bad[:3]
    with proxy.client() as conn:
        wait_until(lambda: conn.cmd("SET", "end", "x") == "OK" and mirror.cmd("GET", "end") == b"x", what="copies again")


def test_a_namespace_is_copied_as_it_is_upstream(pair, fresh_keyweir):
    """Names, times to live and IDs: also of what travels in a transaction of the proxy's own."""
    main, mirror = pair
    namespace = '[namespace.product]\nprefix = "shop:product:"\nttl = "1h"\n'
    proxy = fresh_keyweir(main, config(mirror, "mirror_compare = true") + namespace)
    with proxy.client() as conn:
        conn.cmd("SET", "product:s", "x"), conn.cmd("INCR", "product:n"), conn.cmd("XADD", "product:x", "*", "f", "v")
        conn.cmd("MSET", "product:a", "1", "product:b", "2"), conn.cmd("SETNX", "product:nx", "1")
        assert isinstance(conn.cmd("LPUSH", "product:s", "1"), RespError)
        conn.cmd("RPUSH", "product:l", "1", "2"), conn.cmd("BLMOVE", "product:l", "product:m", "LEFT", "LEFT", 1)
        conn.pipeline([["MULTI"], ["INCR", "product:tx"], ["GET", "product:s"], ["EXEC"]])
    settle(main, mirror)
    keys = mirror.cmd("KEYS", "*")
    assert len(keys) == 9 and all(key.startswith(b"shop:product:") for key in keys)
    wait_until(lambda: all(0 < mirror.cmd("PTTL", key) <= 3960000 for key in keys), what="all have a time to live")
    got = counters(proxy)
    assert got["dropped"] == got["errors"] == got["differences"] == 0
