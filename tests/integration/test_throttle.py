# SPDX-License-Identifier: BSD-2-Clause
"""CL.THROTTLE: its replies against redis-cell's algorithm, and that it counts exactly, wherever the key is."""
import random
import re
import threading
import time

import pytest

from harness.cell import RECORDED, Cell, seconds
from harness.cluster import Cluster
from harness.namespaces import Bound
from harness.old import OldRedis, binary
from harness.resp import RespError, parse
from harness.sentinel import SentinelSet
from harness.servers import TOP, Keyweir, Redis, wait_until

SHOP = """
[namespace.product]
prefix = "shop:product:"
ttl = "1h"
[namespace.hidden]
prefix = "h:"
hash_keys = true
encrypt = true
[encryption]
keys = ["a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
hash_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
[namespace.fixed]
readonly = true
"""


def script_at(now):
    """The script that Keyweir sends, by another clock; keys live long by that of the server."""
    with open(TOP + "/src/client/throttle.c", encoding="ascii") as file:
        text = file.read()
    body = text[text.index("throttle_script[] ="):text.index("const char throttle_sha")]
    script = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', body)).replace("\\n", "\n")
    assert "redis.call('TIME')" in script and "'PX', string" in script
    return script.replace("'PX', string", "'PX', 1e9 + 0 * string").replace("redis.call('TIME')", "{%d, %d}" % (now // 10 ** 6, now % 10 ** 6))


class Clocked:
    """One key, the time of which the test says."""

    def __init__(self, server, key="clocked"):
        self.conn, self.key = server.client(), key
        self.conn.cmd("DEL", key)

    def throttle(self, now_us, interval_ns, burst, quantity):
        return self.conn.cmd("EVAL", script_at(now_us), 1, self.key, interval_ns, burst, quantity)


def test_the_recorded_sequence(redis):
    start, key = 1_700_000_000_123_456, Clocked(redis)
    for ms, quantity, remaining, reset, retry, limited in RECORDED:
        want = [limited, 5, remaining, seconds(retry * 10 ** 6), seconds(reset * 10 ** 6)]
        assert key.throttle(start + ms * 1000, 10 ** 9, 4, quantity) == want, (ms, quantity)


@pytest.mark.parametrize("burst, count, period", [(15, 30, 60), (0, 1, 1), (2, 3, 1), (1000, 999_983, 7), (3, 1, 86400),
                                                   (5, 7, 31536000), (99, 5_000_000, 1), (0, 10 ** 9, 1)])
def test_any_sequence(redis, burst, count, period):
    rng, now, key, cell = random.Random(count), 1_900_000_000_000_000, Clocked(redis), Cell()
    interval = int(period * 1e9 / count)
    for _ in range(300):
        quantity = rng.choice([0, 1, 1, 1, 2, burst, burst + 1, burst + 2])
        want = cell.throttle(now * 1000, burst, count, period, quantity)
        got = key.throttle(now, interval, burst, quantity)
        assert got == want, (now, quantity)
        now += rng.choice([0, 0, 1, interval // 1000, interval // 500, rng.randrange(1, 2 + interval // 250)])
        if cell.tat is not None and cell.tat <= now * 1000: # its time to live is over
            key.conn.cmd("DEL", key.key)
            cell.tat = None


def test_live_replies(conn, direct):
    """By the server's clock, which MULTI tells before and after."""
    direct.cmd("DEL", "live")
    cell = Cell()
    for burst, count, period, quantity in [(4, 10, 1, 1)] * 9 + [(4, 10, 1, 2), (4, 10, 1, 9), (9, 10, 1, 3)]:
        words = [["MULTI"], ["TIME"], ["CL.THROTTLE", "live", burst, count, period, quantity], ["TIME"], ["EXEC"]]
        before, reply, after = parse(conn.pipeline(words)[-1])
        wants = []
        for t in (before, after):
            try_cell = Cell()
            try_cell.tat = cell.tat
            wants.append(try_cell.throttle((int(t[0]) * 10 ** 6 + int(t[1])) * 1000, burst, count, period, quantity))
        assert reply in wants
        value = direct.cmd("GET", "live")
        cell.tat = int(value) if value else None
        time.sleep(0.03)


def test_forms(conn, direct):
    direct.cmd("DEL", "form")
    assert conn.cmd("CL.THROTTLE", "form", 15, 30, 60) == [0, 16, 15, -1, 2]
    assert conn.cmd("cl.throttle", "form", 15, 30, 60, 1) == [0, 16, 14, -1, 4]
    assert conn.cmd("CL.THROTTLE", "form", "+15", "030", 60, 0)[:2] == [0, 16]
    assert conn.cmd("CL.THROTTLE", "form", 15, 30, 60, 17) [3] == -1
    assert re.fullmatch(rb"\d{19}", direct.cmd("GET", "form")) and 3000 < direct.cmd("PTTL", "form") <= 4000


def test_errors(conn, direct):
    usage = "Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]"
    for words in ([], ["k"], ["k", 1, 2], ["k", 1, 2, 3, 4, 5]):
        assert conn.cmd("CL.THROTTLE", *words) == usage
    for bad in ("x", "1.5", "", "1 ", "9223372036854775808", "--1", "+"):
        assert conn.cmd("CL.THROTTLE", "k", bad, 1, 1) == "Cell error: Couldn't parse as integer: " + bad
    for zero in ((0, 1), (1, 0), (10 ** 12, 1)):
        assert conn.cmd("CL.THROTTLE", "k", 1, *zero) == "Cell error: Zero rates are not supported"
    assert conn.cmd("CL.THROTTLE", "k", -1, 1, 1) == "Cell error: Number out of range: -1"
    assert conn.cmd("CL.THROTTLE", "k", 1, 1, 10 ** 11) == "Cell error: Number out of range: 100000000000"
    for burst, count in ((2 ** 63 - 2, 1), (10 ** 10, 1), (2 ** 53, 10 ** 9)): # more than a time in ns holds, or a script's number
        assert conn.cmd("CL.THROTTLE", "k", burst, count, 1) == "Cell error: Number out of range: %d" % burst
    assert conn.cmd("CL.THROTTLE", "k", 2 ** 53 - 1, 10 ** 9, 1, 0) == [0, 2 ** 53, 2 ** 53, -1, 0]
    assert conn.cmd("CL.THROTTLE", "k", 1, 1, 10 ** 9, 2 ** 63 - 2) == [1, 2, 2, -1, 0], "a quantity that can never be had"
    assert len(conn.cmd("CL.THROTTLE", "k", "y" * 1000, 1, 1)) < 200
    assert direct.cmd("EXISTS", "k") == 0
    direct.cmd("SET", "word", "w"), direct.cmd("RPUSH", "alist", 1)
    assert conn.cmd("CL.THROTTLE", "word", 1, 1, 1) == "Cell error: Found non-integer in key"
    assert conn.cmd("CL.THROTTLE", "alist", 1, 1, 1).startswith("WRONGTYPE Operation")
    direct.cmd("DEL", "word", "alist")


@pytest.mark.parametrize("piecewise", [False, True])
def test_in_a_transaction(conn, direct, piecewise):
    direct.cmd("DEL", "tx")
    words = [["MULTI"], ["CL.THROTTLE", "tx", 0, 1, 60], ["CL.THROTTLE", "tx", "x", 1, 60], ["CL.THROTTLE", "tx", 0, 1, 60],
             ["CL.THROTTLE"], ["EXEC"]]
    replies = [conn.cmd(*w) for w in words] if piecewise else [parse(r) for r in conn.pipeline(words)]
    assert replies[1:5] == ["QUEUED"] * 4
    assert replies[-1] == [[0, 1, 0, -1, 60], "Cell error: Couldn't parse as integer: x", [1, 1, 0, 60, 60],
                           "Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]"]


def test_pipelined_and_resp3(keyweir, direct):
    direct.cmd("DEL", "p")
    with keyweir.client(proto=3) as conn:
        replies = conn.pipeline([["CL.THROTTLE", "p", 9, 1, 600]] * 30 + [["GET", "p"]])
    got = [parse(r) for r in replies]
    assert [r[0] for r in got[:30]] == [0] * 10 + [1] * 20 and len(got[30]) == 19


def test_the_script_is_flushed(redis, conn):
    redis.cmd("DEL", "flushed")
    assert conn.cmd("CL.THROTTLE", "flushed", 9, 1, 600)[0] == 0
    redis.cmd("SCRIPT", "FLUSH")
    got = [parse(r)[2] for r in conn.pipeline([["CL.THROTTLE", "flushed", 9, 1, 600]] * 4)]
    assert got == [8, 7, 6, 5]


def test_redis_comes_anew(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    with fresh_keyweir(redis).client() as conn:
        assert conn.cmd("CL.THROTTLE", "k", 9, 1, 600)[2] == 9
        redis.restart()
        deadline = time.monotonic() + 10
        while isinstance(reply := conn.cmd("CL.THROTTLE", "k", 9, 1, 600), RespError) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert reply[2] == 9


def hammer(clients, key, burst, each):
    """Calls through all clients at once; how many were allowed."""
    allowed = [0] * len(clients)

    def run(i):
        for _ in range(each):
            replies = clients[i].pipeline([["CL.THROTTLE", key, burst, 1, 3600]] * 5)
            allowed[i] += sum(parse(r)[0] == 0 for r in replies)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(allowed)


def test_64_clients_count_exactly(keyweir, direct):
    direct.cmd("DEL", "many")
    clients = [keyweir.client(proto=2 + i % 2) for i in range(64)]
    assert hammer(clients, "many", 499, 4) == 500
    for client in clients:
        client.close()


def test_in_namespaces():
    bound = Bound()
    with Redis() as redis, Keyweir(redis, SHOP + bound.table) as proxy, proxy.client() as conn, bound.client() as inside:
        for c, key, name in ((conn, "product:1", b"shop:product:1"), (inside, "2", b"shop:product:2")):
            assert [c.cmd("CL.THROTTLE", key, 1, 1, 60)[0] for _ in range(3)] == [0, 0, 1]
            assert 110000 < redis.cmd("PTTL", name) <= 120000
            assert parse(c.pipeline([["MULTI"], ["CL.THROTTLE", key, 1, 1, 60], ["EXEC"]])[-1])[0][0] == 1
            assert parse(c.pipeline([["MULTI"], ["INCR", key + "n"], ["CL.THROTTLE", key, 1, 1, 60], ["EXEC"]])[-1])[1][0] == 1
        assert conn.cmd("CL.THROTTLE", "hidden:1", 0, 1, 60)[0] == 0 and conn.cmd("CL.THROTTLE", "hidden:1", 0, 1, 60)[0] == 1
        assert not [k for k in redis.cmd("KEYS", "*") if b"hidden" in k] and redis.cmd("KEYS", "h:*")
        assert conn.cmd("CL.THROTTLE", "fixed:1", 0, 1, 60).startswith("NOPERM")
        assert conn.cmd("KEYWEIR", "UPSTREAM", "main", "CL.THROTTLE", "product:1", 1, 1, 60)[0] == 1


def test_redis_6():
    if not binary():
        pytest.skip("no redis-server 6.0 here: tests/harness/old-redis.sh build/redis-6.0")
    with OldRedis() as redis, Keyweir(redis) as proxy, proxy.client() as conn:
        assert [conn.cmd("CL.THROTTLE", "k", 1, 1, 60) for _ in range(3)] == [[0, 2, 1, -1, 60], [0, 2, 0, -1, 120], [1, 2, 0, 60, 120]]
        assert conn.cmd("CL.THROTTLE", "k", "x", 1, 60) == "Cell error: Couldn't parse as integer: x"
        conn.cmd("SET", "word", "w")
        assert conn.cmd("CL.THROTTLE", "word", 1, 1, 1) == "Cell error: Found non-integer in key"
        assert 119000 < redis.cmd("PTTL", "k") <= 120000


def test_in_a_cluster():
    with Cluster(masters=3, replicas=0) as cluster, cluster.keyweir() as proxy, proxy.client() as conn:
        keys = [cluster.key_on(node) for node in cluster.masters()]
        replies = [parse(r) for r in conn.pipeline([["CL.THROTTLE", k, 3, 1, 600] for _ in range(6) for k in keys])]
        for i in range(len(keys)):
            assert [r[0] for r in replies[i::len(keys)]] == [0] * 4 + [1] * 2
        assert parse(conn.pipeline([["MULTI"], ["CL.THROTTLE", keys[0], 3, 1, 600], ["EXEC"]])[-1])[0][0] == 1
        clients = [proxy.client() for _ in range(16)]
        assert hammer(clients, cluster.key_on(cluster.masters()[1], "many"), 99, 3) == 100


def test_under_sentinel():
    with SentinelSet() as group, group.keyweir() as proxy, proxy.client() as conn:
        assert [conn.cmd("CL.THROTTLE", "k", 1, 1, 60)[0] for _ in range(3)] == [0, 0, 1]
        group.failover()
        deadline = time.monotonic() + 20
        while isinstance(reply := conn.cmd("CL.THROTTLE", "k", 1, 1, 60), RespError) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert reply[:2] == [1, 2], "a replica has what the script wrote, and knows the script"


def test_a_mirror_counts_as_well():
    with Redis() as redis, Redis() as other:
        tables = 'mirror_to = "other"\n[upstream.other]\nurl = "redis://127.0.0.1:%d"\n' % other.port
        with Keyweir(redis, tables) as proxy, proxy.client() as conn:
            conn.pipeline([["CL.THROTTLE", "k", 5, 1, 600]] * 3)
            wait_until(lambda: other.cmd("EXISTS", "k") == 1)
            other.cmd("SCRIPT", "FLUSH")
            conn.pipeline([["CL.THROTTLE", "k%d" % i, 5, 1, 600] for i in range(20)] + [["SET", "last", 1]])
            wait_until(lambda: other.cmd("EXISTS", "last") == 1)
            assert sorted(redis.cmd("KEYS", "*")) == sorted(other.cmd("KEYS", "*"))
            assert abs(redis.cmd("PTTL", "k") - other.cmd("PTTL", "k")) < 5000
            sha = conn.cmd("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])").decode()
            other.cmd("SCRIPT", "FLUSH")
            assert conn.cmd("EVALSHA", sha, 1, "n") == 1 and conn.cmd("SET", "end", 1) == "OK"
            wait_until(lambda: other.cmd("EXISTS", "end") == 1)
            assert other.cmd("EXISTS", "n") == 0, "what an application loaded is its own business"


def test_it_is_no_more_than_a_script_to_others(conn, direct):
    """What applications write by hand is not changed."""
    sha = conn.cmd("SCRIPT", "LOAD", "return ARGV[1]").decode()
    assert conn.cmd("EVALSHA", sha, 0, "x") == b"x"
    direct.cmd("SCRIPT", "FLUSH")
    assert conn.cmd("EVALSHA", sha, 0, "x").startswith("NOSCRIPT")
