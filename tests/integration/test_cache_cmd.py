# SPDX-License-Identifier: BSD-2-Clause
"""KEYWEIR CACHE STATS, KEYWEIR CACHE FLUSH, and what INFO says of the near-cache."""
import time

import pytest

from harness.resp import Conn, RespError
from harness.servers import FACTOR, calls_of, free_port, wait_until

KB = 1024
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

COUNTS = [b"items", b"bytes", b"hits", b"misses", b"coalesced", b"stale_served", b"hit_rate", b"fills",
          b"invalidated_tracked", b"invalidated_own_write", b"invalidated_flushed", b"invalidated_outdated", b"expired",
          b"evicted", b"replaced"]
TWO = ('[namespace.product]\nnear_cache = true\nprefix = "shop:"\nchannel_prefix = "shop:"\n'
       '[namespace.api]\nnear_cache = true\n[namespace.plain]\n')


@pytest.fixture
def direct(fresh_redis):
    """A Redis of the test's own: what others do there would be seen."""
    server = fresh_redis()
    with server.client() as conn:
        conn.server = server
        yield conn


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def stats(conn):
    """In RESP2 maps are lists; both say the same."""
    reply = conn.cmd("KEYWEIR", "CACHE", "STATS")
    if isinstance(reply, list):
        reply = pairs(reply)
        reply[b"tracking"] = [pairs(row) for row in reply[b"tracking"]]
        reply[b"namespaces"] = [pairs(row) for row in reply[b"namespaces"]]
    reply[b"namespaces"] = {row[b"name"]: row for row in reply[b"namespaces"]}
    return reply


def info(conn):
    lines = conn.cmd("INFO", "keyweir").decode().splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def started(make, upstream, config=TWO, **kwargs):
    """Keyweir, when its tracking link is there."""
    keyweir = make(upstream, config, **kwargs)
    with keyweir.client() as conn:
        wait_until(lambda: all(row[b"confirmed_ms"] >= 0 for row in stats(conn)[b"tracking"]), what="it is tracked")
    return keyweir


def warm(conn, *commands):
    """Asks until all of it comes out of memory."""
    def all_hit():
        before = stats(conn)[b"hits"]
        for command in commands:
            conn.cmd(*command)
        return stats(conn)[b"hits"] - before == len(commands)
    wait_until(all_hit, what="it is kept")


# ---- STATS ----

@pytest.mark.parametrize("proto", (2, 3))
def test_form(direct, fresh_keyweir, proto):
    with started(fresh_keyweir, direct.server).client(proto) as conn:
        reply = stats(conn)
        assert list(reply) == [b"memory", b"max_memory", *COUNTS, b"tracking", b"namespaces"]
        assert list(reply[b"namespaces"]) == [b"api", b"product"]
        assert all(list(row) == [b"name", *COUNTS] for row in reply[b"namespaces"].values())
        (row,) = reply[b"tracking"]
        assert row[b"upstream"] == b"main" and b":%d" % direct.server.port in row[b"url"]
        assert row[b"tracking"] == b"bcast" and row[b"epoch"] >= 1 and 0 <= row[b"confirmed_ms"] < 2000
        assert reply[b"max_memory"] == 64 * KB * KB and 0 <= reply[b"memory"] <= reply[b"max_memory"]


def test_without_a_near_cache(redis, fresh_keyweir):
    with fresh_keyweir(redis, "[namespace.product]\n").client() as conn:
        reply = stats(conn)
        assert reply[b"namespaces"] == {} and reply[b"tracking"] == []
        assert all(reply[name] == (b"0.0000" if name == b"hit_rate" else 0) for name in COUNTS)
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH") == 0 and conn.cmd("KEYWEIR", "CACHE", "FLUSH", "*") == 0
        assert info(conn)["keyweir_near_cache_items"] == "0"


def test_hits_and_misses(direct, fresh_keyweir):
    """They are counted where the key is, and the sums of all workers are told."""
    direct.cmd("SET", "shop:1", "x")
    keyweir = started(fresh_keyweir, direct.server, workers=3)
    conns = [keyweir.client(2 + i % 2) for i in range(6)]
    warm(conns[0], ["GET", "product:1"], ["GET", "product:none"])
    before = stats(conns[0])
    gets = calls_of(direct, "get")
    for conn in conns:
        for _ in range(10):
            assert conn.cmd("GET", "product:1") == b"x" and conn.cmd("GET", "product:none") is None
    assert calls_of(direct, "get") - gets <= 2  # RESP3 has another null
    after = stats(conns[0])
    product, earlier = after[b"namespaces"][b"product"], before[b"namespaces"][b"product"]
    reads = sum(product[k] - earlier[k] for k in (b"hits", b"misses", b"coalesced"))
    assert reads == 120 and product[b"hits"] - earlier[b"hits"] >= 116
    assert after[b"namespaces"][b"api"][b"hits"] == 0
    assert after[b"items"] == sum(row[b"items"] for row in after[b"namespaces"].values()) > 1
    rate = product[b"hits"] / sum(product[k] for k in (b"hits", b"misses", b"coalesced"))
    assert product[b"hit_rate"] == b"%.4f" % rate
    for conn in conns:
        conn.close()


def test_why_they_left(direct, fresh_keyweir):
    with started(fresh_keyweir, direct.server).client() as conn:
        def left(cause):
            return stats(conn)[b"namespaces"][b"product"][cause]

        conn.cmd("SET", "product:1", "x")
        warm(conn, ["GET", "product:1"])
        before = left(b"invalidated_own_write")
        conn.cmd("SET", "product:1", "y")
        wait_until(lambda: left(b"invalidated_own_write") > before, what="an own write is counted")

        warm(conn, ["GET", "product:1"])
        before = left(b"invalidated_tracked")
        direct.cmd("SET", "shop:1", "z")
        wait_until(lambda: left(b"invalidated_tracked") > before, what="a write elsewhere is counted")

        warm(conn, ["GET", "product:1"])
        before = left(b"invalidated_flushed")
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH") == 1
        assert left(b"invalidated_flushed") == before + 1

        direct.cmd("SET", "shop:1", "z", "PX", 300)
        time.sleep(0.05)
        conn.cmd("GET", "product:1")
        before = left(b"expired") + left(b"invalidated_tracked")
        time.sleep(0.6 * FACTOR)
        assert conn.cmd("GET", "product:1") is None
        assert left(b"expired") + left(b"invalidated_tracked") > before


def test_evicted(direct, fresh_keyweir):
    """Three times what there is room for: memory stays within its bound, and what left is counted."""
    keyweir = started(fresh_keyweir, direct.server, TWO + '[near_cache]\nmax_memory = "1mb"\n')
    for i in range(300):
        direct.cmd("SET", "shop:%d" % i, b"x" * (10 * KB))
    with keyweir.client() as conn:
        for _ in range(3):
            for i in range(300):
                conn.cmd("GET", "product:%d" % i)
        reply = stats(conn)
        assert reply[b"evicted"] > 100 and 0 < reply[b"items"] < 110
        assert reply[b"max_memory"] == KB * KB and 0.3 * KB * KB < reply[b"memory"] <= 1.05 * KB * KB
        assert reply[b"items"] == reply[b"fills"] - sum(
            reply[k] for k in (b"evicted", b"expired", b"replaced", *(c for c in COUNTS if c.startswith(b"inval"))))


def test_coalesced(direct, fresh_keyweir):
    keyweir = started(fresh_keyweir, direct.server)
    direct.cmd("SET", "shop:hot", "x")
    conns = [keyweir.client() for _ in range(20)]
    time.sleep(0.2)  # what was written is heard of
    sleeper = direct.server.client()
    sleeper.send("DEBUG", "SLEEP", "0.3")
    time.sleep(0.05)
    for conn in conns:
        conn.send("GET", "product:hot")
    assert [conn.read() for conn in conns] == [b"x"] * 20
    sleeper.close()
    reply = stats(conns[0])
    assert reply[b"coalesced"] >= 18 and reply[b"misses"] <= 2 and calls_of(direct, "get") <= 2
    for conn in conns:
        conn.close()


def test_tracking_is_lost(direct, fresh_keyweir):
    keyweir = started(fresh_keyweir, direct.server)
    with keyweir.client() as conn:
        epoch = stats(conn)[b"tracking"][0][b"epoch"]
        direct.server.kill()
        wait_until(lambda: stats(conn)[b"tracking"][0][b"tracking"] == b"lost", what="the link is lost")
        assert stats(conn)[b"tracking"][0][b"epoch"] > epoch
        direct.server.start()
        wait_until(lambda: stats(conn)[b"tracking"][0][b"tracking"] == b"bcast", what="it is back")


# ---- FLUSH ----

def test_flush(direct, fresh_keyweir):
    for key in ("shop:a1", "shop:a2", "shop:b1", "api:1"):
        direct.cmd("SET", key, key)
    with started(fresh_keyweir, direct.server).client() as conn:
        reads = [["GET", "product:a1"], ["GET", "product:a2"], ["STRLEN", "product:a2"], ["GET", "product:b1"],
                 ["GET", "api:1"]]
        warm(conn, *reads)
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH", "shop:*") == 0  # names are those of the client
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH", "product:b?") == 1
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH", "product:a[2-9]") == 2
        assert stats(conn)[b"items"] == 2
        warm(conn, *reads)
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH", "*") == 5
        warm(conn, *reads)
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH") == 5 and stats(conn)[b"items"] == 0
        before = calls_of(direct, "get")
        assert [conn.cmd(*read) for read in reads] == [b"shop:a1", b"shop:a2", 7, b"shop:b1", b"api:1"]
        assert calls_of(direct, "get") == before + 4
        assert direct.cmd("DBSIZE") == 4  # Redis has all of it


def test_flush_while_it_is_read(direct, fresh_keyweir):
    """A read that is under way while all is dropped is answered."""
    direct.cmd("SET", "shop:1", "x")
    keyweir = started(fresh_keyweir, direct.server)
    with keyweir.client() as reader, keyweir.client() as other:
        sleeper = direct.server.client()
        sleeper.send("DEBUG", "SLEEP", "0.2")
        time.sleep(0.05)
        reader.send("GET", "product:1")
        time.sleep(0.05)
        other.cmd("KEYWEIR", "CACHE", "FLUSH")
        assert reader.read() == b"x"
        sleeper.close()


def test_flush_of_hashed_names(direct, fresh_keyweir):
    """Their names can't be told: a pattern never means them, all means them, too."""
    config = '[encryption]\nhash_key = "%s"\n[namespace.secret]\nhash_keys = true\nnear_cache = true\n' % KEY
    with started(fresh_keyweir, direct.server, config).client() as conn:
        conn.cmd("SET", "secret:1", "x")
        warm(conn, ["GET", "secret:1"])
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH", "secret:*") == 0
        assert conn.cmd("KEYWEIR", "CACHE", "FLUSH") == 1


@pytest.mark.parametrize("args", ([], ["NOSUCH"], ["STATS", "x"], ["FLUSH", "a", "b"]))
def test_wrong_arguments(conn, args):
    assert isinstance(conn.cmd("KEYWEIR", "CACHE", *args), RespError)
    assert conn.cmd("PING") == "PONG"


# ---- a bound listener ----

def test_of_its_namespace_alone(direct, fresh_keyweir):
    port = free_port()
    listener = '[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "product"\n' % port
    keyweir = started(fresh_keyweir, direct.server, listener + TWO)
    for key in ("shop:1", "shop:2", "api:1"):
        direct.cmd("SET", key, key)
    with keyweir.client() as plain, Conn(port=port) as bound:
        warm(plain, ["GET", "product:1"], ["GET", "product:2"], ["GET", "api:1"])
        reply = stats(bound)
        assert list(reply[b"namespaces"]) == [b"product"] and reply[b"tracking"] == []
        assert reply[b"items"] == 2 and reply[b"memory"] == reply[b"bytes"] > 0
        assert bound.cmd("KEYWEIR", "CACHE", "FLUSH", "product:*") == 0
        assert bound.cmd("KEYWEIR", "CACHE", "FLUSH", "2") == 1
        assert bound.cmd("KEYWEIR", "CACHE", "FLUSH") == 1
        assert list(name for name, row in stats(plain)[b"namespaces"].items() if row[b"items"]) == [b"api"]
        for refused in (["STATUS"], ["RELOAD"], ["UPSTREAMS"], ["NAMESPACES"], ["UPSTREAM", "main", "GET", "api:1"]):
            assert bound.cmd("KEYWEIR", *refused).startswith("NOPERM")
        assert "KEYWEIR <subcommand>. Subcommands are:" in bound.cmd("KEYWEIR", "HELP")


# ---- INFO, STATUS ----

def test_info(direct, fresh_keyweir):
    with started(fresh_keyweir, direct.server).client() as conn:
        direct.cmd("SET", "shop:1", "x" * 1000)
        warm(conn, ["GET", "product:1"])
        reply, lines = stats(conn), info(conn)
        for name in ("hits", "misses", "coalesced", "items"):
            assert int(lines["keyweir_near_cache_" + name]) == reply[name.encode()]
        assert int(lines["keyweir_near_cache_bytes"]) == reply[b"memory"] > 1000
        assert int(lines["keyweir_near_cache_max_bytes"]) == 64 * KB * KB
        assert pairs(conn.cmd("KEYWEIR", "STATUS"))[b"near_cache_hits"] == reply[b"hits"]


def test_reload_keeps_counts(direct, fresh_keyweir):
    keyweir = started(fresh_keyweir, direct.server)
    with keyweir.client() as conn:
        direct.cmd("SET", "shop:1", "x")
        warm(conn, ["GET", "product:1"])
        before = stats(conn)[b"namespaces"][b"product"][b"hits"]
        keyweir.reload(TWO + "[namespace.another]\nnear_cache = true\n")
        reply = stats(conn)
        assert list(reply[b"namespaces"]) == [b"another", b"api", b"product"]
        assert reply[b"namespaces"][b"product"][b"hits"] == before
        warm(conn, ["GET", "product:1"])
