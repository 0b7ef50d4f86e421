# SPDX-License-Identifier: BSD-2-Clause
"""Namespaces beside what else there is: several upstreams, an upstream that is away, large values, WATCH, counters."""
import pytest

from harness.resp import RespError, encode
from harness.servers import Keyweir, Redis, wait_until

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
        for i in range(20):
            conn.send_raw(b"".join(encode("SET", "product:%d" % k, "v") + encode("BLPOP", "product:none", 0.001) for k in range(20)))
            proxy.write_config((CONFIG % (other.url, KEY)).replace("shop:product:", "shop%d:" % i))
            assert admin.cmd("KEYWEIR", "RELOAD") == "OK"
            replies = [conn.read() for _ in range(40)]
            assert replies == ["OK", None] * 20
    assert all(other.cmd("PTTL", key) > 0 for key in other.cmd("KEYS", "*"))
