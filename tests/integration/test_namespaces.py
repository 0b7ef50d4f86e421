# SPDX-License-Identifier: BSD-2-Clause
"""Namespaces beside what else there is: several upstreams, an upstream that is away, large values, WATCH, counters."""
import pytest

from harness.resp import Conn, RespError, encode
from harness.servers import Keyweir, Redis, free_port, wait_until

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CONFIG = """
[upstream.b]
url = "%s"
[namespace.product]
prefix = "shop:product:"
upstream = "b"
ttl = "1h"
on_failure = "miss"
[namespace.secret]
prefix = "shop:secret:"
encrypt = true
[namespace.cart]
[encryption]
keys = ["a:%s"]
"""


@pytest.fixture(scope="module")
def both():
    with Redis() as main, Redis() as other, Keyweir(main, CONFIG % (other.url, KEY)) as proxy:
        yield proxy, main, other


@pytest.fixture
def conn(both):
    proxy, main, other = both
    main.cmd("FLUSHALL"), other.cmd("FLUSHALL")
    with proxy.client() as c:
        yield c


def test_each_key_is_on_its_upstream(both, conn):
    _, main, other = both
    assert conn.cmd("MSET", "product:1", "a", "cart:1", "b", "bare", "c") == "OK"
    assert sorted(main.cmd("KEYS", "*")) == [b"bare", b"cart:1"]
    assert other.cmd("KEYS", "*") == [b"shop:product:1"] and other.cmd("PTTL", "shop:product:1") > 3200000
    assert conn.cmd("MGET", "bare", "product:1", "cart:1", "product:none") == [b"c", b"a", b"b", None]
    assert conn.cmd("KEYS", "product:*") == [b"product:1"]
    assert conn.cmd("SCAN", 0, "MATCH", "product:*", "COUNT", 100) == [b"0", [b"product:1"]]
    assert conn.cmd("RENAME", "product:1", "cart:2").startswith("CROSSUPSTREAM")
    assert conn.cmd("DEL", "product:1", "cart:1", "bare") == 3


def test_a_transaction_of_one_upstream(conn):
    words = [["MULTI"], ["INCR", "product:n"], ["EXPIRE", "product:n", 10], ["GET", "product:n"], ["EXEC"]]
    assert conn.pipeline(words)[-1] == b"*3\r\n:1\r\n:1\r\n$1\r\n1\r\n"
    assert conn.pipeline([["MULTI"], ["INCR", "product:n"], ["INCR", "cart:n"], ["EXEC"]])[-1].startswith(b"-EXECABORT")


def test_watch_is_not_forgotten(both, conn):
    """A write of the client's own between WATCH and MULTI travels without a transaction of the proxy's."""
    _, _, other = both
    assert conn.cmd("WATCH", "product:w") == "OK"
    assert conn.cmd("INCR", "product:n") == 1 and other.cmd("PTTL", "shop:product:n") > 0
    other.cmd("SET", "shop:product:w", "changed")
    conn.cmd("MULTI"), conn.cmd("SET", "product:w", "mine")
    assert conn.cmd("EXEC") is None
    assert other.cmd("GET", "shop:product:w") == b"changed"


@pytest.mark.parametrize("size", [100, 20000, 300000, 5 << 20])
def test_values_of_any_size(both, conn, size):
    _, main, other = both
    value = bytes(i * 7 % 256 for i in range(251)) * (size // 251 + 1)
    for key in ("product:big", "secret:big"):
        assert conn.cmd("SET", key, value) == "OK"
        assert conn.cmd("GET", key) == value
        assert conn.cmd("STRLEN", key) == len(value)
        assert conn.cmd("HSET", key + ":h", "f", value) == 1 and conn.cmd("HGET", key + ":h", "f") == value
    assert other.cmd("PTTL", "shop:product:big") > 3200000
    assert other.cmd("STRLEN", "shop:product:big") == len(value)
    assert value[:64] not in main.cmd("GET", "shop:secret:big")


def test_counters(both):
    _, main, other = both
    main.cmd("FLUSHALL"), other.cmd("FLUSHALL")
    with Keyweir(main, CONFIG % (other.url, KEY)) as proxy, proxy.client(3) as conn:
        conn.cmd("SET", "product:1", "x"), conn.cmd("GET", "product:1"), conn.cmd("GET", "product:2")
        conn.cmd("DEL", "product:1"), conn.cmd("LPUSH", "product:l", "a"), conn.cmd("GET", "product:l")
        conn.pipeline([["GET", "product:2"]] * 20)
        conn.cmd("HGETALL", "product:none"), conn.cmd("INCR", "secret:n")
        rows = {row[b"name"]: row for row in conn.cmd("KEYWEIR", "NAMESPACES")}
        assert rows.keys() == {b"product", b"secret", b"cart"}
        product = rows[b"product"]
        assert {k: product[k] for k in (b"hits", b"misses", b"sets", b"deletes", b"errors")} == {
            b"hits": 1, b"misses": 22, b"sets": 2, b"deletes": 1, b"errors": 1}
        assert product[b"hit_rate"] == b"%.4f" % (1 / 23) and product[b"bytes"] > 500
        assert rows[b"secret"][b"errors"] == 1 and rows[b"cart"][b"bytes"] == 0


def test_an_upstream_that_is_away():
    with Redis() as main, Redis() as other, Keyweir(main, CONFIG % (other.url, KEY)) as proxy, proxy.client() as conn:
        assert conn.cmd("SET", "product:1", "x") == "OK"
        other.stop()
        wait_until(lambda: conn.cmd("GET", "product:1") is None, what="it reads as absent")
        assert conn.cmd("SET", "product:1", "x") == "OK" and conn.cmd("HSET", "product:h", "f", "v") == 1
        assert conn.cmd("MGET", "product:1", "cart:1") == [None, None]
        assert conn.cmd("SADD", "product:s", "a") == 1 and conn.cmd("LRANGE", "product:l", 0, -1) == []
        got = conn.cmd("INCR", "product:n")
        assert isinstance(got, RespError) and got.startswith("UPSTREAMDOWN")
        assert conn.cmd("SET", "cart:1", "y") == "OK"


def test_a_reload_in_the_middle_of_a_pipeline(both):
    """Each command goes by the names that were true when it was looked at, and its reply comes back by the same."""
    _, main, other = both
    main.cmd("FLUSHALL"), other.cmd("FLUSHALL")
    with Keyweir(main, CONFIG % (other.url, KEY)) as proxy, proxy.client() as conn, proxy.client() as admin:
        for i in range(8):
            conn.send_raw(b"".join(encode("SET", "product:%d" % k, "v") + encode("BLPOP", "product:none", 0.001) for k in range(4)))
            proxy.write_config((CONFIG % (other.url, KEY)).replace("shop:product:", "shop%d:" % i))
            assert admin.cmd("KEYWEIR", "RELOAD") == "OK"
            assert [conn.read() for _ in range(8)] == ["OK", None] * 4
    assert all(other.cmd("PTTL", key) > 0 for key in other.cmd("KEYS", "*"))


# ---- what a review found ----

BOUND = '[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "product"\n'


def test_a_reply_that_comes_too_late(fresh_redis, fresh_keyweir):
    """What the reply needs goes with the one who is told -TIMEOUT, and not with the late reply as well."""
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, 'read_timeout = "200ms"\n[namespace.product]\nprefix = "shop:product:"\nttl = "1h"\n')
    with proxy.client() as conn, proxy.client() as other:
        conn.cmd("SET", "product:1", "x")
        redis.freeze()
        for c in (conn, other):
            c.send_raw(encode("RANDOMKEY") + encode("SETNX", "product:2", "x") + encode("SCAN", 0, "MATCH", "product:*"))
        assert [c.read().split()[0] for c in (conn, other) for _ in range(3)] == ["TIMEOUT"] * 6
        redis.thaw()
        wait_until(lambda: conn.cmd("KEYS", "product:1") == [b"product:1"])
    assert proxy.stop() is None


def test_a_large_read_is_no_way_out(fresh_redis, fresh_keyweir):
    """A command of the proxy's own does not come in the middle of a large argument."""
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, '[namespace.product]\nprefix = "shop:product:"\nttl = "1h"\nsliding = true\n')
    inner = encode("SET", "outside", "x")
    with proxy.client() as conn:
        conn.cmd("HSET", "product:h", "f", "v")
        for words in (["HEXISTS", "product:h"], ["HGET", "product:h"]):
            assert conn.cmd(*words, b"x" * 400000 + b"\r\n" + inner) in (0, None)
        assert conn.cmd("HGET", "product:h", "f") == b"v"
    assert redis.cmd("KEYS", "*") == [b"shop:product:h"]


def test_strict_shows_no_other_keys(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, '[server]\nstrict = true\n[namespace.product]\n')
    redis.cmd("MSET", "product:1", "x", "other:1", "x", "other:2", "x")
    with proxy.client() as conn:
        assert conn.cmd("KEYS", "*") == [b"product:1"] and conn.cmd("KEYS", "other:*") == []
        assert conn.cmd("SCAN", 0, "COUNT", 100) == [b"0", [b"product:1"]]
        assert {conn.cmd("RANDOMKEY") for _ in range(20)} == {b"product:1"}
        assert conn.cmd("KEYWEIR", "UPSTREAM", "main", "GET", "other:1").startswith("NOPERM")


def test_pubsub_of_a_namespace_elsewhere(fresh_redis, fresh_keyweir):
    """Messages go over [upstream.main], whatever upstream the listener's namespace is on."""
    port, main, other = free_port(), fresh_redis(), fresh_redis()
    fresh_keyweir(main, '[upstream.b]\nurl = "%s"\n[namespace.product]\nupstream = "b"\nchannel_prefix = "c:"\n' % other.url + BOUND % port)
    with Conn(port=port) as one, Conn(port=port) as two:
        assert one.cmd("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        assert two.cmd("PUBLISH", "news", "x") == 1 and one.read() == [b"message", b"news", b"x"]
        assert two.cmd("PUBSUB", "CHANNELS") == [b"news"] and two.cmd("PUBSUB", "NUMSUB", "news") == [b"news", 1]
        assert two.cmd("SET", "k", "v") == "OK" and other.cmd("KEYS", "*") == [b"product:k"]


def test_sliding_does_not_disturb_watch(fresh_redis, fresh_keyweir):
    proxy = fresh_keyweir(fresh_redis(), '[namespace.product]\nttl = "10s"\nsliding = true\n')
    with proxy.client() as conn:
        conn.cmd("SET", "product:1", "1", "EX", 2)
        conn.cmd("WATCH", "product:1"), conn.cmd("GET", "product:1"), conn.cmd("MULTI"), conn.cmd("INCR", "product:1")
        assert conn.cmd("EXEC") == [2]


def test_sliding_knows_databases_apart(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, '[namespace.product]\nttl = "100s"\nttl_jitter = 0\nsliding = true\n')
    with proxy.client() as one, proxy.client() as two, redis.client() as direct:
        two.cmd("SELECT", 1), direct.cmd("SELECT", 1)
        for conn in (one, two):
            conn.cmd("SET", "product:k", "v", "EX", 50)
            assert conn.cmd("GET", "product:k") == b"v"
        wait_until(lambda: direct.cmd("PTTL", "product:k") > 90000, what="it was renewed in both")


def test_setnx_while_redis_is_away(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, 'read_timeout = "200ms"\n[namespace.product]\nttl = "1h"\non_failure = "miss"\n')
    with proxy.client() as conn:
        assert conn.cmd("SETNX", "product:1", "x") == 1 and conn.cmd("SETNX", "product:1", "x") == 0
        redis.freeze()
        assert conn.cmd("SETNX", "product:2", "x") == 1
        redis.thaw()


def test_blocking_keeps_its_connection(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, '[namespace.product]\nttl = "1h"\n')
    with proxy.client() as conn:
        conn.cmd("RPUSH", "product:l", *range(40))
        conn.cmd("BLPOP", "product:l", 1)
        before = redis.cmd("INFO", "stats").split(b"total_connections_received:")[1].split()[0]
        for _ in range(20):
            assert conn.cmd("BLPOP", "product:l", 1)[0] == b"product:l"
        after = redis.cmd("INFO", "stats").split(b"total_connections_received:")[1].split()[0]
    assert int(after) - int(before) <= 3


def test_copies_to_another_database_expire(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, '[namespace.product]\nttl = "1h"\n')
    with proxy.client() as conn, redis.client() as direct:
        direct.cmd("SET", "plain", "x"), direct.cmd("SELECT", 3)
        assert conn.cmd("COPY", "plain", "product:c", "DB", 3) == 1
        assert direct.cmd("PTTL", "product:c") > 0
        assert conn.pipeline([["MULTI"], ["COPY", "plain", "product:d", "DB", 3], ["GET", "plain"], ["EXEC"], ["GET", "plain"]])[-2:] == [
            b"*2\r\n:1\r\n$1\r\nx\r\n", b"$1\r\nx\r\n"]
        assert direct.cmd("PTTL", "product:d") > 0


def test_random_keys_of_a_small_namespace(fresh_redis, fresh_keyweir):
    port, redis = free_port(), fresh_redis()
    fresh_keyweir(redis, '[namespace.product]\nprefix = "shop:product:"\n' + BOUND % port)
    redis.cmd("MSET", *[w for i in range(5000) for w in ("other:%d" % i, "x")])
    with Conn(port=port) as conn:
        conn.cmd("MSET", *[w for i in range(5) for w in ("k%d" % i, "x")])
        assert len({conn.cmd("RANDOMKEY") for _ in range(60)}) == 5
        assert conn.cmd("KEYS", "") == [] and conn.cmd("DBSIZE") == 5


def test_sealed_scan_of_a_field_called_as_an_option(both, conn):
    conn.cmd("HSET", "secret:h", "novalues", "v")
    assert conn.cmd("HSCAN", "secret:h", 0, "MATCH", "novalues") == [b"0", [b"novalues", b"v"]]
    assert conn.cmd("XADD", "secret:x", "IDMP", "p", "i", "*", "f", "v").startswith("ENCRYPTED")
    assert conn.cmd("SET", "secret:s", "v", "IFEQ", "old").startswith("ENCRYPTED")
