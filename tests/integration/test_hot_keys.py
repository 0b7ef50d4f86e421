# SPDX-License-Identifier: BSD-2-Clause
"""KEYWEIR HOTKEYS and KEYWEIR BIGKEYS: what is asked for most, and what is largest, as it was seen passing."""
import random
import time

import pytest

from harness.cluster import Cluster
from harness.resp import Conn, RespError
from harness.servers import free_port, wait_until

KB = 1024
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def listener(port, namespace):
    return '[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "%s"\n' % (port, namespace)


def hot(conn, *args):
    """Rows by key; their order is looked at, too."""
    rows = conn.cmd("KEYWEIR", "HOTKEYS", *args)
    rates = [row[1] for row in rows]
    assert rates == sorted(rates, reverse=True)
    return {row[0]: (row[1], float(row[2])) for row in rows}


def big(conn, *args):
    rows = conn.cmd("KEYWEIR", "BIGKEYS", *args)
    sizes = [row[1] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    return {(row[0], row[2], row[3]): row[1] for row in rows}


# ---- hot keys ----

def zipf(n, count, seed=1):
    """Ranks from 0 on, each 1/(rank + 1) as likely as the first."""
    ranks = random.Random(seed)
    return ranks.choices(range(n), weights=[1 / (rank + 1) for rank in range(n)], k=count)


@pytest.mark.parametrize("depth", (1, 16, 100))
def test_finds_the_hottest(redis, fresh_keyweir, depth):
    """Of 2000 keys after Zipf, whatever the depth of the pipeline."""
    keyweir = fresh_keyweir(redis, workers=1)
    ranks = zipf(2000, 60000 if depth > 1 else 25000)
    begun = time.monotonic()
    with keyweir.client() as conn:
        for at in range(0, len(ranks), depth):
            conn.pipeline([["GET", "key:%d" % rank] for rank in ranks[at:at + depth]])
        took = time.monotonic() - begun
        found = hot(conn, "COUNT", 30)
    best = list(found)
    assert {b"key:0", b"key:1", b"key:2"} <= set(best[:5]), best
    rate, share = found[b"key:0"]
    true_share = 100 * ranks.count(0) / len(ranks)
    assert 0.5 * true_share < share < 1.6 * true_share
    expected = true_share / 100 * len(ranks) / max(took, 1)
    assert 0.4 * expected < rate < 2 * expected, (rate, expected)


def test_pipeline_pattern_does_not_hide_a_key(redis, fresh_keyweir):
    """The same 64 commands again and again: each of them is seen, and the last is not seen more."""
    keyweir = fresh_keyweir(redis, workers=1)
    with keyweir.client() as conn:
        for _ in range(600):
            conn.pipeline([["SET", "p:%d" % i, 1] for i in range(64)])
        found = hot(conn, "COUNT", 256)
    assert len(found) > 55
    assert all(share < 6 for _, share in found.values()), found


def test_which_commands_count(redis, fresh_keyweir):
    """All keys of commands with many, keys that are no strings, keys in transactions; not what is no key."""
    keyweir = fresh_keyweir(redis, workers=1)
    with keyweir.client() as conn:
        for _ in range(4000):
            conn.pipeline([["MSET", "m:1", "value-1", "m:2", "value-2"], ["PING"], ["HSET", "h", "field", "value-3"],
                           ["MULTI"], ["SET", "tx", "value-4"], ["EXEC"], ["PUBLISH", "channel", "message"],
                           ["EVAL", "return 1", "1", "script-key", "value-5"], ["LPUSH", "l", "v1", "v2", "v3"],
                           ["LTRIM", "l", "0", "1"], ["SCAN", "0", "COUNT", "1"], ["GET"]])
        found = hot(conn, "COUNT", 100)
    assert set(found) == {b"m:1", b"m:2", b"h", b"tx", b"script-key", b"l"}
    # MSET's two keys count one each, LPUSH and LTRIM are two commands on one key.
    assert 8 < found[b"m:1"][1] < 21 and 8 < found[b"m:2"][1] < 21 and 19 < found[b"l"][1] < 39, found


def test_all_workers_are_asked(redis, fresh_keyweir):
    keyweir = fresh_keyweir(redis, workers=3)
    conns = [keyweir.client() for _ in range(6)]
    for _ in range(40):
        for conn in conns:
            conn.pipeline([["GET", "same"]] * 50 + [["GET", "other"]] * 10)
    found = hot(conns[0])
    assert list(found) == [b"same", b"other"] and 75 < found[b"same"][1] < 91
    assert len(conns[0].cmd("KEYWEIR", "HOTKEYS", "COUNT", 1)) == 1
    for conn in conns:
        conn.close()


def test_what_is_rare_is_forgotten(redis, fresh_keyweir):
    """A key that is no longer asked for loses its place to those that are."""
    keyweir = fresh_keyweir(redis, workers=1)
    with keyweir.client() as conn:
        for _ in range(100):
            conn.pipeline([["GET", "yesterday"]] * 64)
        assert list(hot(conn)) == [b"yesterday"]
        for _ in range(400):
            conn.pipeline([["GET", "today"]] * 64)
        assert list(hot(conn)) == [b"today", b"yesterday"]


def test_names_in_namespaces(redis, fresh_keyweir):
    """Each asker hears the names that it would use, and a bound one of its namespace alone."""
    port = free_port()
    keyweir = fresh_keyweir(redis, listener(port, "search") +
                            '[namespace.search]\nmatch = "s:"\nprefix = "x:search:"\nchannel_prefix = "s:"\n'
                            '[namespace.product]\nprefix = "shop:"\n'
                            '[encryption]\nhash_key = "%s"\n[namespace.secret]\nhash_keys = true\n' % KEY)
    with keyweir.client() as plain, Conn(port=port) as bound:
        for _ in range(100):
            plain.pipeline([["GET", "s:1"], ["GET", "product:1"], ["GET", "secret:1"], ["GET", "elsewhere"]] * 10)
            bound.pipeline([["GET", "1"]] * 20)
            plain.pipeline([["GET", "shop:1"]] * 10)  # the same as product:1
        found = hot(plain)
        assert set(found) == {b"s:1", b"product:1", b"secret:1", b"elsewhere"}
        assert 32 < found[b"s:1"][1] < 54 and 18 < found[b"product:1"][1] < 39
        found = hot(bound)
        assert list(found) == [b"1"] and 32 < found[b"1"][1] < 54


def test_names_of_any_bytes(redis, fresh_keyweir):
    keyweir = fresh_keyweir(redis, workers=1)
    long, binary = b"long" * 100, bytes(range(256))[:100] + b"\r\n*1\r\n"
    with keyweir.client() as conn:
        for _ in range(100):
            conn.pipeline([["SET", long, "value"], ["GET", binary], ["GET", ""]] * 10)
        assert set(hot(conn)) == {long[:128] + b"... (272 more bytes)", binary, b""}


def test_after_a_reload(redis, fresh_keyweir):
    """Namespaces have come and gone: what was noted before is told by the names of now."""
    port = free_port()
    before = listener(port, "b") + '[namespace.b]\nchannel_prefix = "b:"\nprefix = "up:b:"\n'
    keyweir = fresh_keyweir(redis, before, workers=1)
    with Conn(port=port) as bound, keyweir.client() as plain:
        for _ in range(50):
            bound.pipeline([["GET", "k"]] * 20)
        keyweir.reload(before + '[namespace.a]\nprefix = "up:a:"\n')
        assert list(hot(plain)) == [b"b:k"] and list(hot(bound)) == [b"k"]
        keyweir.reload('[namespace.a]\nprefix = "up:a:"\n')
        assert list(hot(plain)) == []


def test_in_a_cluster(fresh_keyweir):
    with Cluster(replicas=0) as cluster:
        keyweir = fresh_keyweir(cluster.masters()[0].url, 'mode = "cluster"\n', workers=1)
        with keyweir.client() as conn:
            for _ in range(100):
                conn.pipeline([["GET", "hot"]] * 60 + [["GET", "k:%d" % i] for i in range(40)])
            assert list(hot(conn, "COUNT", 1)) == [b"hot"]


@pytest.mark.parametrize("args", (["COUNT"], ["COUNT", 0], ["COUNT", -1], ["COUNT", "x"], ["LIMIT", 1], ["COUNT", 1, 2]))
@pytest.mark.parametrize("command", ("HOTKEYS", "BIGKEYS"))
def test_wrong_arguments(conn, command, args):
    assert isinstance(conn.cmd("KEYWEIR", command, *args), RespError)
    assert conn.cmd("PING") == "PONG"


def test_nothing_seen(redis, fresh_keyweir):
    with fresh_keyweir(redis).client(3) as conn:
        assert conn.cmd("KEYWEIR", "HOTKEYS") == [] and conn.cmd("KEYWEIR", "BIGKEYS") == []
        assert any("HOTKEYS" in line for line in conn.cmd("KEYWEIR", "HELP"))


# ---- big keys ----

@pytest.fixture
def clean(redis):
    with redis.client() as direct:
        direct.cmd("FLUSHALL")
        yield direct
        direct.cmd("FLUSHALL")


def test_replies(redis, clean, fresh_keyweir):
    keyweir = fresh_keyweir(redis, workers=2)
    clean.cmd("SET", "small", b"x" * (63 * KB))
    clean.cmd("SET", "large", b"x" * (100 * KB))
    clean.cmd("SET", "huge", b"x" * (3 * KB * KB))
    clean.cmd("RPUSH", "list", *["e" * 100] * 2000)
    with keyweir.client() as one, keyweir.client() as two:
        for conn in (one, two):
            for key in ("small", "large", "huge"):
                conn.cmd("GET", key)
            conn.cmd("LRANGE", "list", 0, -1)
            conn.cmd("MGET", "small", "large")
        found = big(one)
    assert set(found) == {(b"large", b"get", b"reply"), (b"huge", b"get", b"reply"), (b"list", b"lrange", b"reply"),
                          (b"small", b"mget", b"reply")}
    assert 100 * KB <= found[b"large", b"get", b"reply"] < 101 * KB
    assert 3 * KB * KB <= found[b"huge", b"get", b"reply"] < 3 * KB * KB + 100
    assert 2000 * 100 < found[b"list", b"lrange", b"reply"] < 2000 * 110
    assert 163 * KB <= found[b"small", b"mget", b"reply"] < 164 * KB


def test_requests(redis, clean, fresh_keyweir):
    """Those that are gathered, those that stream, one of many arguments, and a pipeline of them."""
    keyweir = fresh_keyweir(redis, workers=1)
    with keyweir.client() as conn:
        conn.cmd("SET", "small", b"x" * (63 * KB))
        conn.cmd("SET", "large", b"x" * (100 * KB))
        conn.cmd("SET", "streamed", b"x" * (5 * KB * KB))
        conn.cmd("RPUSH", "many", *["e" * 100] * 20000)
        conn.cmd("MSET", "one", b"x" * (400 * KB), "two", b"x" * (600 * KB))
        conn.pipeline([["SET", "run:%d" % i, b"x" * ((70 + i) * KB)] for i in range(8)])
        found = big(conn, "COUNT", 32)
    sizes = {key: size for (key, _, direction), size in found.items() if direction == b"request"}
    assert len(sizes) == len(found)
    assert b"small" not in sizes
    assert 100 * KB <= sizes[b"large"] < 101 * KB
    assert 5 * KB * KB <= sizes[b"streamed"] < 5 * KB * KB + 100
    assert 20000 * 100 < sizes[b"many"] < 20000 * 110
    assert 1000 * KB <= sizes[b"one"] < 1001 * KB
    assert all((70 + i) * KB <= sizes[b"run:%d" % i] < (71 + i) * KB for i in range(8)), sizes


def test_size_is_that_of_the_last_time(redis, clean, fresh_keyweir):
    keyweir = fresh_keyweir(redis, workers=1)
    with keyweir.client() as conn:
        for size in (200, 300, 100):
            conn.cmd("SET", "k", b"x" * (size * KB))
            assert size * KB < big(conn)[b"k", b"set", b"request"] < (size + 1) * KB
        conn.cmd("SET", "k", "small now")
        wait_until(lambda: conn.cmd("KEYWEIR", "BIGKEYS")[0][4] >= 1, what="a second has passed")


def test_the_largest_stay(redis, clean, fresh_keyweir):
    """More than there is room for: the smallest go."""
    keyweir = fresh_keyweir(redis, workers=1)
    sizes = list(range(70, 130))
    random.Random(3).shuffle(sizes)
    with keyweir.client() as conn:
        for size in sizes:
            conn.cmd("SET", "k:%d" % size, b"x" * (size * KB))
        assert [row[0] for row in conn.cmd("KEYWEIR", "BIGKEYS", "COUNT", 1000)] == [b"k:%d" % s for s in range(129, 97, -1)]
        assert len(conn.cmd("KEYWEIR", "BIGKEYS")) == 10


def test_big_names_in_namespaces(redis, clean, fresh_keyweir):
    port = free_port()
    keyweir = fresh_keyweir(redis, listener(port, "search") +
                            '[namespace.search]\nmatch = "s:"\nprefix = "x:search:"\nchannel_prefix = "s:"\nttl = "1h"\n'
                            '[namespace.product]\nprefix = "shop:"\nttl = "1h"\n'
                            '[encryption]\nhash_key = "%s"\nkeys = ["a:%s"]\n[namespace.secret]\nhash_keys = true\n'
                            '[namespace.sealed]\nencrypt = true\n' % (KEY, KEY), workers=1)
    value = b"x" * (100 * KB)
    with keyweir.client() as plain, Conn(port=port) as bound:
        bound.cmd("SET", "1", value)
        bound.cmd("GET", "1")
        for key in ("product:1", "secret:1", "sealed:1"):
            plain.cmd("SET", key, value)
            plain.cmd("GET", key)
        assert set(big(bound)) == {(b"1", b"set", b"request"), (b"1", b"get", b"reply")}
        found = {key for key, _, direction in big(plain, "COUNT", 32) if direction == b"reply"}
        assert {b"s:1", b"product:1", b"sealed:1"} < found and len(found) == 4
        (hashed,) = found - {b"s:1", b"product:1", b"sealed:1"}
        assert hashed.startswith(b"secret:") and hashed != b"secret:1"  # what Redis was asked for
        requests = {key for key, _, direction in big(plain, "COUNT", 32) if direction == b"request"}
        assert requests == {b"s:1", b"product:1", b"secret:1", b"sealed:1"}


def test_client_leaves_in_the_middle(redis, clean, fresh_keyweir):
    """Of an upload that breaks off, what its head announced stays; nobody else's end is taken for its own."""
    keyweir = fresh_keyweir(redis, workers=1)
    with keyweir.client() as conn:
        broken = keyweir.client()
        broken.send_raw(b"*3\r\n$3\r\nSET\r\n$6\r\nbroken\r\n$%d\r\n" % (KB * KB) + b"x" * (300 * KB))
        wait_until(lambda: (b"broken", b"set", b"request") in big(conn), what="it is under way")
        broken.close()
        conn.cmd("SET", "whole", b"x" * (2 * KB * KB))
        found = big(conn)
        assert found[b"broken", b"set", b"request"] >= KB * KB
        assert 2 * KB * KB <= found[b"whole", b"set", b"request"] < 2 * KB * KB + 100
