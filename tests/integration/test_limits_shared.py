# SPDX-License-Identifier: BSD-2-Clause
"""[[rate_limit]] with shared = true: several Keyweirs, one budget, few questions to Redis."""
import re
import threading
import time

import pytest

from harness.cluster import Cluster
from harness.limits import passed, rule, told
from harness.old import OldRedis, binary
from harness.resp import RespError, encode, parse
from harness.sentinel import SentinelSet
from harness.servers import KEYWEIR, Keyweir, Redis, calls_of, wait_until


class Three:
    """Keyweirs with the same tables."""

    def __init__(self, upstream, config, n=3):
        self.all = [Keyweir(upstream, config) for _ in range(n)]

    def __enter__(self):
        for proxy in self.all:
            proxy.start()
        return self

    def __exit__(self, *_):
        for proxy in self.all:
            proxy.stop()

    def told(self, name, field):
        total = 0
        for proxy in self.all:
            with proxy.client() as conn:
                total += told(conn, name, field)
        return total


class Load(threading.Thread):
    """A client that sends so many a second, ten at a time."""

    def __init__(self, proxy, per_s, seconds, words=("GET", "x")):
        super().__init__()
        self.conn, self.per_s, self.seconds, self.words = proxy.client(), per_s, seconds, words
        self.passed, self.offered, self.slowest = 0, 0, 0

    def run(self):
        began, data = time.monotonic(), encode(*self.words) * 10
        while (now := time.monotonic()) < began + self.seconds:
            self.conn.send_raw(data)
            for _ in range(10):
                self.passed += not self.conn.read_raw().startswith(b"-RATELIMITED")
            self.slowest = max(self.slowest, time.monotonic() - now)
            self.offered += 10
            time.sleep(max(0, began + self.offered / self.per_s - time.monotonic()))
        self.conn.close()


def run(loads):
    began = time.monotonic()
    for load in loads:
        load.start()
    for load in loads:
        load.join()
    return time.monotonic() - began


def spend(rate, burst):
    """False: a proxy had to decide alone, for the machine was too busy to answer in a quarter of a second."""
    with Redis() as redis, Three(redis, rule("r", "%d/s" % rate, burst, per="all", shared=True)) as three:
        loads = [Load(proxy, rate, 10) for proxy in three.all for _ in range(2)]
        took = run(loads)
        total, offered = sum(x.passed for x in loads), sum(x.offered for x in loads)
        print("passed %d of %d, offered %d, asked %d" % (total, burst + rate * took, offered, calls_of(redis, "evalsha")))
        if three.told("r", "decided_alone") > 0:
            return False
        assert total <= burst + rate * took
        assert total >= 0.95 * (burst + rate * took)
        assert calls_of(redis, "evalsha") <= 0.05 * offered
        assert three.told("r", "allowed") == total and three.told("r", "leases") == calls_of(redis, "evalsha")
        assert min(a.passed + b.passed for a, b in zip(loads[::2], loads[1::2])) > total / 10, "each proxy has its part"
    return True


@pytest.mark.parametrize("rate, burst", [(1000, 500), (500, 50), (3000, 3000)])
def test_the_budget_is_used_and_never_exceeded(rate, burst):
    assert any(spend(rate, burst) for _ in range(3))


def test_below_the_budget_all_of_it_passes():
    with Redis() as redis, Three(redis, rule("r", "2000/s", 1000, per="all", shared=True)) as three:
        loads = [Load(proxy, 400, 4) for proxy in three.all]
        run(loads)
        assert sum(x.passed for x in loads) == sum(x.offered for x in loads)
        assert calls_of(redis, "evalsha") <= 0.05 * sum(x.offered for x in loads)


def test_a_burst_is_shared():
    with Redis() as redis, Three(redis, rule("r", "1/h", 600, per="all", shared=True)) as three:
        loads = [Load(proxy, 2000, 2) for proxy in three.all for _ in range(2)]
        run(loads)
        assert 570 <= sum(x.passed for x in loads) <= 600
        assert calls_of(redis, "evalsha") <= 0.05 * sum(x.offered for x in loads)


def test_a_budget_of_one():
    with Redis() as redis, Keyweir(redis, rule("r", "1/h", 1, per="key", shared=True)) as proxy, proxy.client() as conn:
        for i in range(50):
            assert conn.cmd("GET", "k%d" % i) is None and conn.cmd("GET", "k%d" % i).startswith("RATELIMITED")


def test_who_has_a_budget():
    config = rule("ip", "1/h", 4, shared=True, commands=["get"]) + rule("key", "1/h", 4, per="key", shared=True, commands=["incr"]) + \
        rule("user", "1/h", 4, per="user", shared=True, commands=["llen"]) + \
        rule("ns", "1/h", 4, per="namespace", shared=True, commands=["strlen"]) + "[namespace.a]\n"
    with Redis() as redis, Three(redis, config, n=2) as two:
        with two.all[0].client() as one, two.all[1].client() as other:
            for words in (["GET", "x"], ["INCR", "{a} key"], ["LLEN", "x"], ["STRLEN", "a:x"]):
                got = [0, 0]
                for _ in range(20):
                    for i, conn in enumerate((one, other)):
                        got[i] += passed(conn, words, 1)
                assert 3 <= sum(got) <= 4 and min(got) >= 1, (words, got)
        keys = sorted(redis.cmd("KEYS", "keyweir:limit:*"))
        assert [k.split(b":")[2] for k in keys] == [b"ip", b"key", b"ns", b"user"]
        assert b"keyweir:limit:ip:7f000001" in keys and b"keyweir:limit:user:default" in keys and b"keyweir:limit:ns:a" in keys
        assert not any(b"{a}" in k for k in keys), "a key's name is not to be read there"
        assert all(0 < redis.cmd("TTL", k) <= 4 * 3600 for k in keys)


def test_delay(redis):
    redis.cmd("FLUSHALL")
    with Three(redis, rule("r", "200/s", 20, per="all", shared=True, action="delay", max_delay="2s"), n=2) as two:
        loads = [Load(proxy, 1000, 2, ("RPUSH", "l%d" % i, "x")) for i, proxy in enumerate(two.all)]
        took = run(loads)
        total = sum(x.passed for x in loads)
        assert 0.9 * (20 + 200 * 2) <= total <= 20 + 200 * took
        assert redis.cmd("LLEN", "l0") + redis.cmd("LLEN", "l1") == total


def test_who_waits_long_does_not_get_around_it():
    """More wait than there is room for, longer than any answer of Redis takes."""
    with Redis() as redis, Keyweir(redis, rule("r", "50/s", 10, per="all", shared=True, action="delay", max_delay="4s")) as proxy:
        clients = [proxy.client() for _ in range(300)]
        counts, began = [0] * len(clients), time.monotonic()

        def run_one(i):
            while time.monotonic() < began + 4:
                clients[i].send_raw(encode("GET", "x"))
                counts[i] += not clients[i].read_raw().startswith(b"-RATELIMITED")
        threads = [threading.Thread(target=run_one, args=(i,)) for i in range(len(clients))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        assert 0.9 * (10 + 50 * 4) <= sum(counts) <= 10 + 50 * took
        assert told(clients[0], "r", "decided_alone") == 0
        for client in clients:
            client.close()


def test_a_pause_saves_up_burst_and_no_more():
    """What was leased before a pause comes late, but not at once."""
    with Redis() as redis, Keyweir(redis, rule("r", "1000/s", 10, per="all", shared=True)) as proxy, proxy.client() as conn:
        for pause in (0.3, 0.9):
            load = Load(proxy, 1000, 1)
            run([load])
            time.sleep(pause)
            began, got = time.monotonic(), passed(conn, ["GET", "x"], 1000)
            assert 5 <= got <= 10 + 1000 * (time.monotonic() - began), pause


def test_another_rate_or_clock():
    """What is ahead by more than the rule ever grants counts as all of the budget, used, and not as days of it."""
    with Redis() as redis, Keyweir(redis, rule("r", "10/h", 100, per="all", shared=True)) as proxy, proxy.client() as conn:
        assert passed(conn, ["GET", "x"], 200) in range(95, 101)
        assert int(re.search(r"after (\d+) ms", conn.cmd("GET", "x"))[1]) > 100000, "the truth, not when to ask Redis"
        proxy.reload(rule("r", "1000/s", 100, per="all", shared=True))
        wait_until(lambda: passed(conn, ["GET", "x"], 1) == 1, timeout=6)
        time.sleep(2.5)
        redis.cmd("SET", "keyweir:limit:r:", "%d000000000" % (int(redis.cmd("TIME")[0]) + 3600), "PX", 3600000)
        wait_until(lambda: passed(conn, ["GET", "x"], 200) < 10)
        wait_until(lambda: passed(conn, ["GET", "x"], 1) == 1, timeout=6)


def test_the_first_waits_for_the_upstream_only_once():
    with Redis() as redis, Keyweir(redis, rule("r", "1000/s", 1000, per="all", shared=True)) as proxy, proxy.client() as conn:
        assert passed(conn, ["GET", "x"], 900) == 900
        assert calls_of(redis, "evalsha") < 30
        clients = [proxy.client() for _ in range(20)]
        time.sleep(1.5)
        for client in clients: # all of them wait for the same lease
            client.send_raw(encode("GET", "x"))
        assert all(client.read_raw() == b"$-1\r\n" for client in clients)
        for client in clients:
            client.close()


def test_together_with_others():
    """What another rule refuses takes nothing of what is shared."""
    config = rule("own", "1/h", 3, per="all") + rule("r", "1/h", 30, per="all", shared=True) + rule("dry", "1/h", 1, per="all", shared=True, dry_run=True)
    with Redis() as redis, Three(redis, config, n=3) as three:
        for proxy in three.all:
            with proxy.client() as conn:
                assert passed(conn, ["GET", "x"], 20) == 3
        assert three.told("r", "allowed") == 9 and three.told("r", "rejected") == 0


def test_a_dry_run_beside_one_that_waits_counts_once():
    config = rule("dry", "1/h", 1, per="all", dry_run=True) + rule("r", "50/s", 1, per="all", shared=True, action="delay", max_delay="10s")
    with Redis() as redis, Keyweir(redis, config) as proxy:
        clients = [proxy.client() for _ in range(30)]
        for client in clients:
            client.send_raw(encode("GET", "x"))
        assert all(client.read_raw() == b"$-1\r\n" for client in clients)
        assert told(clients[0], "dry", "allowed") == 30 and told(clients[0], "dry", "would_refuse") == 29
        for client in clients:
            client.close()


def test_transactions():
    with Redis() as redis, Keyweir(redis, rule("r", "1/h", 4, commands=["incr"], per="all", shared=True)) as proxy, proxy.client() as conn:
        words = [["MULTI"], ["INCR", "n"], ["INCR", "n"], ["EXEC"]]
        assert parse(conn.pipeline(words)[-1]) == [1, 2]
        assert parse(conn.pipeline(words)[-1]) == [3, 4]
        assert parse(conn.pipeline(words)[-1]).startswith("EXECABORT") and redis.cmd("GET", "n") == b"4"


def test_keyweir_upstream_does_not_get_around_it():
    config = rule("r", "1/h", 5, commands=["incr"], per="all", shared=True)
    with Redis() as redis, Keyweir(redis, config) as proxy, proxy.client() as conn:
        assert passed(conn, ["KEYWEIR", "UPSTREAM", "main", "INCR", "n"], 20) == int(redis.cmd("GET", "n")) == 5


def test_bytes():
    with Redis() as redis, Three(redis, rule("r", "100kb/s", 50000, per="all", shared=True, cost="bytes"), n=2) as two:
        words = ("SET", "k", "x" * 500)
        loads = [Load(proxy, 300, 4, words) for proxy in two.all]
        took = run(loads)
        size = len(encode(*words))
        total = sum(x.passed for x in loads) * size
        assert total >= 0.95 * (50000 + 102400 * 4)
        assert total <= 50000 + 102400 * took or two.told("r", "decided_alone") > 0, "this machine may stop for long"


def test_one_larger_than_the_burst_is_paid_off():
    with Redis() as redis, Three(redis, rule("r", "100kb/s", 50000, per="all", shared=True, cost="bytes"), n=2) as two:
        with two.all[0].client() as one, two.all[1].client() as other:
            began, total = time.monotonic(), 0
            while time.monotonic() < began + 5:
                total += sum(c.cmd("SET", "k", "x" * 200000) == "OK" for c in (one, other))
                time.sleep(0.02)
            assert 2 <= total <= 1 + 5 * 102400 / 200000
            reply = [r for r in (one.cmd("SET", "k", "x" * 200000) for _ in range(20)) if isinstance(r, RespError)][-1]
            assert int(re.search(r"after (\d+) ms", reply)[1]) < 2500
            assert two.told("r", "decided_alone") == 0


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_redis_is_away(how):
    """Each by itself then, and together again when it is back."""
    config = 'read_timeout = "300ms"\n' + rule("r", "1/h", 20, per="all", shared=True, commands=["echo"])
    with Redis() as redis, Three(redis, config, n=2) as two:
        clients = [proxy.client() for proxy in two.all]
        assert sum(passed(c, ["ECHO", "x"], 30) for c in clients) in range(18, 21)
        redis.kill() if how == "kill" else redis.freeze()

        def alone():
            for client in clients:
                passed(client, ["ECHO", "x"], 30)
            return all(told(client, "r", "decided_alone") >= 60 for client in clients)
        wait_until(alone)
        began = time.monotonic()
        assert [passed(c, ["ECHO", "x"], 30) for c in clients] == [0, 0], "20 for each of them, and they are gone"
        assert time.monotonic() - began < 1
        assert 58 <= two.told("r", "allowed") <= 60
        redis.start() if how == "kill" else redis.thaw()

        def together():
            alone = two.told("r", "decided_alone")
            time.sleep(0.3)
            for c in clients:
                passed(c, ["ECHO", "x"], 5)
            return two.told("r", "decided_alone") == alone
        wait_until(together, timeout=15)
        assert redis.cmd("EXISTS", "keyweir:limit:r:") == 1
        for client in clients:
            client.close()


def test_the_script_is_flushed():
    with Redis() as redis, Keyweir(redis, rule("r", "100/s", 100, per="key", shared=True)) as proxy, proxy.client() as conn:
        assert passed(conn, ["GET", "a"], 10) == 10
        redis.cmd("SCRIPT", "FLUSH")
        assert passed(conn, ["GET", "b"], 10) == 10 and told(conn, "r", "decided_alone") == 0
        redis.cmd("SET", "keyweir:limit:r:" + "x", "no number"), redis.cmd("CONFIG", "RESETSTAT")
        for key in redis.cmd("KEYS", "keyweir:limit:*"):
            redis.cmd("DEL", key), redis.cmd("RPUSH", key, "no string")
        time.sleep(1.2)
        assert passed(conn, ["GET", "a"], 10) == 10 and told(conn, "r", "decided_alone") > 0, "what is no budget is none"


def test_redis_refuses_the_script():
    with Redis(["--rename-command", "EVALSHA", ""]) as redis, Keyweir(redis, rule("r", "10/d", burst=3, shared=True, per="all")) as keyweir:
        with keyweir.client() as conn:
            assert passed(conn, ["GET", "k"], 10) == 3
        wait_until(lambda: "upstream main does not run their script (ERR): each proxy limits for itself" in keyweir.log(), what="it is told")


def test_a_reload_and_a_leaving_client():
    with Redis() as redis, Keyweir(redis, rule("r", "10/s", 5, per="all", shared=True, action="delay", max_delay="10s")) as proxy:
        clients = [proxy.client() for _ in range(20)]
        for client in clients:
            client.send_raw(encode("GET", "x"))
        for client in clients[::2]:
            client.close()
        proxy.reload(rule("r", "1000/s", 1000, per="all", shared=True))
        assert [c.read_raw() for c in clients[1::2]] == [b"$-1\r\n"] * 10
        proxy.reload("")
        for client in clients[1::2]:
            assert client.cmd("GET", "x") is None
            client.close()


def test_in_a_cluster():
    with Cluster(masters=3, replicas=0) as cluster:
        tables = rule("r", "1/h", 10, per="key", shared=True, commands=["incr"])
        with cluster.keyweir("", tables) as one, cluster.keyweir("", tables) as two, one.client() as a, two.client() as b:
            for i in range(12):
                got = sum(passed(c, ["INCR", "key%d" % i], 1) for _ in range(15) for c in (a, b))
                assert 8 <= got <= 10, i
            assert told(a, "r", "decided_alone") + told(b, "r", "decided_alone") == 0


def test_a_slot_that_moves():
    with Cluster(masters=3, replicas=0) as cluster:
        tables = rule("r", "2/s", 20, per="all", shared=True, commands=["echo"])
        with cluster.keyweir("", tables) as one, cluster.keyweir("", tables) as two, one.client() as a, two.client() as b:
            key = "keyweir:limit:r:"
            slot, src = cluster.slot_of(key), cluster.node_of_key(key)
            dst = next(n for n in cluster.masters() if n is not src)
            stop, got, began = threading.Event(), [0, 0], time.monotonic()

            def ask(i, conn):
                while not stop.is_set():
                    got[i] += passed(conn, ["ECHO", "x"], 1)
                    time.sleep(0.005)
            threads = [threading.Thread(target=ask, args=(i, c)) for i, c in enumerate((a, b))]
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            cluster.begin_migration(src, dst, slot)
            time.sleep(1)
            cluster.move_keys(src, dst, [key])
            time.sleep(1.5)
            cluster.end_migration(src, dst, slot)
            time.sleep(1.5)
            stop.set()
            for thread in threads:
                thread.join()
            assert told(a, "r", "decided_alone") + told(b, "r", "decided_alone") == 0
            assert 20 <= sum(got) <= 20 + 2 * (time.monotonic() - began)


def test_under_sentinel():
    tables = rule("r", "1/h", 10, per="all", shared=True, commands=["echo"])
    with SentinelSet() as group, group.keyweir("", tables) as proxy, proxy.client() as conn:
        assert passed(conn, ["ECHO", "x"], 20) >= 9
        group.failover()
        time.sleep(1.5)
        assert passed(conn, ["ECHO", "x"], 20) <= 10


def test_redis_6():
    if not binary():
        pytest.skip("no redis-server 6.0 here: tests/harness/old-redis.sh build/redis-6.0")
    with OldRedis() as redis, Three(redis, rule("r", "1/h", 100, per="all", shared=True), n=2) as two:
        got = 0
        for proxy in two.all:
            with proxy.client(proto=3) as conn:
                got += passed(conn, ["GET", "x"], 90)
        assert 95 <= got <= 100 and two.told("r", "decided_alone") == 0


def test_memory_is_bounded():
    """A flood of keys: places for 32,768 of them, the others each by itself."""
    with Redis() as redis, Keyweir(redis, rule("r", "100/s", 100, per="key", shared=True, commands=["exists"])) as proxy, proxy.client() as conn:
        assert passed(conn, ["EXISTS", "x"], 2) == 2
        before = proxy.rss_kb()
        for i in range(60):
            conn.pipeline([["EXISTS", "k%d" % (i * 1000 + j)] for j in range(1000)])
        assert proxy.rss_kb() - before < (16000 if "san" not in KEYWEIR else 600000) and told(conn, "r", "allowed") > 59000
        assert not isinstance(conn.cmd("GET", "x"), RespError)
