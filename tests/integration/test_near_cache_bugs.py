# SPDX-License-Identifier: BSD-2-Clause
"""What was wrong with the near-cache once and is not to be so again: a test for each."""
import contextlib
import random
import socket
import struct
import time

import pytest

from harness.relay import Relay
from harness.resp import RespError, encode
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, KEYWEIR, Keyweir, Redis, calls_of, wait_until

SANITIZED = "san/" in KEYWEIR  # it has its own ideas of memory
KB, MB = 1024, 1024 * 1024
NEAR = "[namespace.n]\nnear_cache = true\n"
SEALED = ('[encryption]\nkeys = ["k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]\n'
          "[namespace.s]\nnear_cache = true\nencrypt = true\n")
STALE = 'on_failure = "stale"\nstale_if_error = "1h"\n'


def other(server, more=""):
    return '[upstream.other]\nurl = "%s"\n%s[namespace.o]\nupstream = "other"\n' % (server.url, more)


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def stats(keyweir):
    """By a connection of its own: those of the test may be waiting."""
    with keyweir.client() as conn:
        reply = pairs(conn.cmd("KEYWEIR", "CACHE", "STATS"))
    reply[b"tracking"] = [pairs(row) for row in reply[b"tracking"]]
    return reply


def epochs(keyweir):
    return {row[b"upstream"]: row[b"epoch"] for row in stats(keyweir)[b"tracking"]}


def wait_tracked(keyweir):
    wait_until(lambda: all(row[b"confirmed_ms"] >= 0 for row in stats(keyweir)[b"tracking"]), what="it is tracked")


@pytest.fixture
def near(fresh_keyweir):
    """A factory of Keyweirs with one thread, ready when their tracking links are there."""
    def make(upstream, config=NEAR):
        keyweir = fresh_keyweir(upstream, config, workers=1)
        wait_tracked(keyweir)
        return keyweir
    return make


def hits_of(keyweir, conn, *commands):
    """How many keys of the commands came out of memory."""
    before = stats(keyweir)[b"hits"]
    for command in commands:
        reply = conn.cmd(*command)
        assert not isinstance(reply, RespError), reply
    return stats(keyweir)[b"hits"] - before


def warm(keyweir, conn, *commands, hits=None):
    """Asks until all of it comes out of memory."""
    wait_until(lambda: hits_of(keyweir, conn, *commands) == (hits or len(commands)), what="it is kept")


def narrow(keyweir):
    """A client that will not take much before it reads."""
    conn = keyweir.client()
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KB)
    return conn


def leave(conn):
    """At once, without a goodbye."""
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def peak_mb(keyweir, seconds):
    """The most memory that it has in the next seconds."""
    until, peak = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        peak = max(peak, keyweir.rss_kb())
        time.sleep(0.01)
    return peak / KB


@contextlib.contextmanager
def frozen(server):
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def lead_and_join(keyweir, server, leader, joiner, *command, first=()):
    """Both ask the same of a frozen server, and the second one waits for what the first one gets."""
    before = stats(keyweir)[b"coalesced"]
    server.freeze()
    leader.send_raw(b"".join(encode(*c) for c in first) + encode(*command))
    wait_until(lambda: stats(keyweir)[b"misses"] > 0, what="it is fetched")
    joiner.send(*command)
    wait_until(lambda: stats(keyweir)[b"coalesced"] == before + 1, what="the second one waits")


# ---- what is kept ----

def test_sealed_parts_are_kept_as_they_are_opened(fresh_redis, near):
    """An MGET of two upstreams kept what its part for the sealed namespace brought: sealed."""
    second = fresh_redis()
    keyweir = near(fresh_redis(), SEALED + other(second) + "near_cache = true\n")
    with keyweir.client() as conn:
        conn.cmd("SET", "s:1", "plain")
        conn.cmd("SET", "o:1", "other")
        wait_until(lambda: hits_of(keyweir, conn, ["MGET", "s:1", "o:1"]) > 0, what="some of it is kept")
        assert conn.cmd("GET", "s:1") == b"plain"
        for _ in range(5):
            assert conn.cmd("MGET", "s:1", "o:1") == [b"plain", b"other"]
            assert conn.cmd("GET", "s:1") == b"plain"


def test_limit_is_for_each_element(fresh_redis, near):
    """max_value_size was multiplied by the keys of an MGET, and what was with a large value was taken for large."""
    redis = fresh_redis()
    keyweir = near(redis, NEAR + '[near_cache]\nmax_memory = "64mb"\nmax_value_size = "100kb"\n')
    with keyweir.client() as conn:
        redis.cmd("SET", "n:big", "x" * 500_000)
        redis.cmd("SET", "plain:huge", "y" * 3_000_000)
        redis.cmd("SET", "n:tiny", "t")
        small = ["n:%d" % i for i in range(9)]
        redis.cmd("MSET", *[x for key in small for x in (key, "v")])
        time.sleep(0.2)  # what was heard of these writes would end what is fetched now
        conn.cmd("MGET", "n:big", *small)
        warm(keyweir, conn, ["MGET", "n:big", *small], hits=len(small))
        conn.cmd("MGET", "n:tiny", "plain:huge")
        warm(keyweir, conn, ["GET", "n:tiny"])
        assert hits_of(keyweir, conn, ["GET", "n:big"], ["GET", "n:big"]) == 0


def test_tiny_one_beside_a_huge_one_is_not_large(fresh_redis, near):
    """... for seconds."""
    redis = fresh_redis()
    keyweir = near(redis, NEAR + '[near_cache]\nmax_memory = "64mb"\nmax_value_size = "100kb"\n')
    with keyweir.client() as conn:
        for i in range(3):
            redis.cmd("MSET", "plain:huge", "y" * 3_000_000, "n:tiny%d" % i, "t")
        time.sleep(0.2)
        kept = 0
        for i in range(3):
            conn.cmd("MGET", "n:tiny%d" % i, "plain:huge")
            conn.cmd("GET", "n:tiny%d" % i)
            kept += hits_of(keyweir, conn, ["GET", "n:tiny%d" % i])
        assert kept > 0


def test_quarter_of_the_memory_fits(fresh_redis, near):
    redis = fresh_redis()
    keyweir = near(redis, NEAR + '[near_cache]\nmax_memory = "4mb"\nmax_value_size = "1mb"\n')
    redis.cmd("SET", "n:large", "x" * 900_000)
    with keyweir.client() as conn:
        warm(keyweir, conn, ["GET", "n:large"])
        assert conn.cmd("GET", "n:large") == b"x" * 900_000


@pytest.mark.parametrize("fill", ("GET", "MGET"))
def test_old_values_of_what_mget_brought(fresh_redis, near, fill):
    """race_condition_ttl: one is told that it is gone, the others get the old value. MGET kept none."""
    redis = fresh_redis()
    keyweir = near(redis, NEAR + 'race_condition_ttl = "1m"\n')
    with keyweir.client() as conn, keyweir.client() as second:
        redis.cmd("SET", "n:old", "old", "PX", int(2000 * FACTOR))
        warm(keyweir, conn, [fill, "n:old"])
        wait_until(lambda: redis.cmd("EXISTS", "n:old") == 0, what="its end")
        time.sleep(0.1)
        answers = [c.cmd("GET", "n:old") for c in (conn, second, conn, second)]
        assert answers.count(b"old") >= 3 and set(answers) <= {b"old", None}, answers
        assert second.cmd("MGET", "n:old") == [b"old"]


# ---- when Redis is away ----

@pytest.mark.parametrize("on_failure, expected", (('"miss"', None), ('"stale"\nstale_if_error = "1h"', b"old")), ids=("miss", "stale"))
def test_mget_that_is_half_a_hit(fresh_redis, near, on_failure, expected):
    """What stood in for the rest was taken for the whole reply: one element for two keys."""
    redis = fresh_redis()
    keyweir = near(redis, NEAR + 'on_failure = %s\n[near_cache]\nmax_ttl = "%dms"\n' % (on_failure, 2000 * FACTOR))
    with keyweir.client() as conn, redis.client() as direct:
        direct.cmd("MSET", "n:hit", "A", "n:over", "old")
        warm(keyweir, conn, ["GET", "n:over"])
        time.sleep(2.2 * FACTOR)  # now it is only known
        warm(keyweir, conn, ["GET", "n:hit"])
        direct.cmd("CONFIG", "SET", "maxclients", 1)  # nobody may come any more; who tells of changes stays
        own = direct.cmd("CLIENT", "ID")
        for line in direct.cmd("CLIENT", "LIST").splitlines():
            row = dict(f.split(b"=", 1) for f in line.split())
            if int(row[b"id"]) != own and b"t" not in row[b"flags"]:
                direct.cmd("CLIENT", "KILL", "ID", row[b"id"])
        before = stats(keyweir)[b"hits"]
        for _ in range(6):
            assert conn.cmd("MGET", "n:hit", "n:over") == [b"A", expected]
            assert conn.cmd("MGET", "n:over", "n:hit") == [expected, b"A"]
            time.sleep(0.1)
        assert stats(keyweir)[b"hits"] - before > 6  # it was memory that had the other half


def test_stale_parts_of_a_split_mget(fresh_redis, near):
    """Parts that timed out made the whole an error, though all of their keys were known."""
    redis, second = fresh_redis(), fresh_redis()
    keyweir = near(redis, 'read_timeout = "700ms"\n' + NEAR + STALE + other(second)
                   + '[near_cache]\nmax_ttl = "600ms"\n')
    with keyweir.client() as conn:
        redis.cmd("MSET", "n:1", "A", "n:2", "B")
        second.cmd("SET", "o:1", "O")
        warm(keyweir, conn, ["GET", "n:1"], ["GET", "n:2"])
        time.sleep(0.8)  # now they are only known
        with frozen(redis):
            assert conn.cmd("MGET", "n:1", "n:2", "o:1") == [b"A", b"B", b"O"]
            assert conn.cmd("MGET", "n:1", "n:2") == [b"A", b"B"]


def test_stale_sealed_parts(fresh_redis, near):
    """The stand-in for a sealed part is opened already: it was opened once more, and did not open."""
    redis, second = fresh_redis(), fresh_redis()
    keyweir = near(redis, SEALED + STALE + other(second))
    with keyweir.client() as conn:
        conn.cmd("SET", "s:1", "plain")
        conn.cmd("SET", "o:1", "other")
        warm(keyweir, conn, ["GET", "s:1"])
        redis.kill()
        wait_until(lambda: isinstance(conn.cmd("PING"), RespError) or isinstance(conn.cmd("GET", "x"), RespError))
        assert conn.cmd("GET", "s:1") == b"plain"
        reply = conn.cmd("MGET", "s:1", "o:1")
        assert reply == [b"plain", b"other"] or reply.startswith("UPSTREAMDOWN"), reply


def test_refused_flush_leaves_nothing_behind(fresh_redis, near):
    """What the inner command of KEYWEIR UPSTREAM was going to write the next write of anybody was charged with."""
    redis, second = fresh_redis(), fresh_redis()
    keyweir = near(redis, NEAR + other(second) + "near_cache = true\n")
    with keyweir.client() as conn, keyweir.client() as innocent:
        second.kill()
        wait_until(lambda: isinstance(conn.cmd("GET", "o:1"), RespError), what="it is known to be away")
        for _ in range(3):
            reply = conn.cmd("KEYWEIR", "UPSTREAM", "other", "FLUSHALL")
            assert isinstance(reply, RespError), reply
            before = epochs(keyweir)
            assert innocent.cmd("SET", "n:b", "1") == "OK"
            assert epochs(keyweir) == before


# ---- those who wait for others ----

def test_joined_reader_does_not_wait_for_a_client_that_does_not_read(fresh_redis, near):
    """A huge reply came only as fast as who asked first took it."""
    redis = fresh_redis()
    keyweir = near(redis, 'read_timeout = "2s"\n' + NEAR + '[server]\nclient_output_limit = "256mb"\n')
    redis.cmd("SETRANGE", "n:big", 30 * MB - 1, "x")
    with narrow(keyweir) as leader, keyweir.client() as joiner:
        lead_and_join(keyweir, redis, leader, joiner, "GET", "n:big")
        redis.thaw()
        reply = joiner.read(timeout=2 + 6 * FACTOR)
        assert isinstance(reply, RespError) or len(reply) == 30 * MB


def test_joined_reader_times_out_when_the_leader_has_left(fresh_redis, near):
    """Nobody looked at the time of those who wait for others: it took until Redis was known to be away, 2 s."""
    redis = fresh_redis()
    keyweir = near(redis, 'read_timeout = "300ms"\n' + NEAR)
    with keyweir.client() as joiner:
        leader = keyweir.client()
        lead_and_join(keyweir, redis, leader, joiner, "GET", "n:a")
        leave(leader)
        reply = joiner.read(timeout=0.3 + 1.2 * FACTOR)
        assert isinstance(reply, RespError), reply
        redis.thaw()


def test_joined_reader_has_no_part_in_the_leaders_writes(fresh_redis, near):
    """The leader's link was lost with a write on the way; who only reads may ask again."""
    redis = fresh_redis()
    redis.cmd("SET", "n:k", "1")
    with Relay([redis.port]) as relay:
        keyweir = near(relay.url(), 'read_timeout = "10s"\n' + NEAR)
        with keyweir.client() as leader, keyweir.client() as joiner:
            for conn in (leader, joiner):
                assert conn.cmd("GET", "plain:1") is None  # so there are links to be lost
            lead_and_join(keyweir, redis, leader, joiner, "GET", "n:k", first=[["SET", "n:x", "1"]])
            relay.cut(0, "data")
            redis.thaw()
            assert isinstance(leader.read(), RespError)
            leader.read()
            assert joiner.read(timeout=10 * FACTOR) == b"1"


# ---- memory ----

LARGE = 900 * KB


def grown_mb(keyweir, before, seconds):
    return 0 if SANITIZED else peak_mb(keyweir, seconds) - before


def read_bytes(conn, n, timeout):
    """Takes so many bytes, and looks at none of them."""
    deadline = time.monotonic() + timeout
    conn.sock.settimeout(timeout)
    while n > 0 and time.monotonic() < deadline:
        data = conn.sock.recv(min(n, MB))
        assert data, "closed, %d bytes too early" % n
        n -= len(data)
    assert n == 0, "%d bytes did not come" % n


@pytest.fixture
def large(fresh_redis, near):
    """A Keyweir with n:large in memory."""
    redis = fresh_redis()
    keyweir = near(redis, 'read_timeout = "60s"\n' + NEAR
                   + '[server]\nclient_output_limit = "64mb"\n[near_cache]\nmax_memory = "64mb"\n')
    keyweir.redis = redis
    redis.cmd("SETRANGE", "n:large", LARGE - 1, "x")
    with keyweir.client() as conn:
        warm(keyweir, conn, ["GET", "n:large"])
    return keyweir


def test_hits_that_wait_are_bounded(large):
    """Each hit behind a reply that had not come yet was a copy."""
    before = large.rss_kb() / KB
    with large.client() as conn:
        with frozen(large.redis):
            conn.send_raw(encode("GET", "n:missing") + encode("GET", "n:large") * 1000)
            grown = grown_mb(large, before, 1.0)
        assert grown < 150, "%d MB" % grown
        size = len(b"$%d\r\n" % LARGE) + LARGE + 2
        read_bytes(conn, len(b"$-1\r\n") + 1000 * size, 60 * FACTOR)


def test_hits_of_one_mget_are_bounded(large):
    before = large.rss_kb() / KB
    with narrow(large) as conn:
        conn.send("MGET", *["n:large"] * 700)
        grown = grown_mb(large, before, 4.0)
        assert grown < 150, "%d MB" % grown


def test_old_values_do_not_end_streaming(fresh_redis, near):
    """With race_condition_ttl each reply was gathered whole, just in case."""
    redis = fresh_redis()
    keyweir = near(redis, NEAR + 'race_condition_ttl = "5s"\n[server]\nclient_output_limit = "16mb"\n')
    redis.cmd("SETRANGE", "n:huge", 100 * MB - 1, "x")
    before = keyweir.rss_kb() / KB
    with narrow(keyweir) as conn:
        conn.send("GET", "n:huge")
        grown = grown_mb(keyweir, before, 1.5)
        assert grown < 60, "%d MB" % grown
        read_bytes(conn, len(b"$%d\r\n" % (100 * MB)) + 100 * MB + 2, 30 * FACTOR)


def test_reloads_keep_one_store(fresh_redis, near):
    """Each configuration had one, as long as anything had the configuration."""
    redis = fresh_redis()
    tables = NEAR + '[near_cache]\nmax_memory = "16mb"\n[log]\nslow = "%dms"\n'
    keyweir = near(redis, tables % 10)
    keys = ["n:%d" % i for i in range(40)]
    for key in keys:
        redis.cmd("SETRANGE", key, LARGE - 1, "x")

    def fill():
        wait_tracked(keyweir)
        with keyweir.client() as conn:
            for key in keys:
                conn.cmd("GET", key)
        return keyweir.rss_kb() / KB

    first = fill()
    assert stats(keyweir)[b"bytes"] > 8 * MB
    for i in range(10):
        keyweir.reload(tables % (11 + i))
        last = fill()
    assert stats(keyweir)[b"bytes"] > 8 * MB  # the last one has some, too
    assert SANITIZED or last - first < 70, "%d MB, then %d" % (first, last)


# ---- the rest ----

def test_slowlog_has_the_clients_command(fresh_redis, near):
    """And not the PTTL that went in front of it."""
    redis = fresh_redis()
    redis.cmd("HSET", "n:h", "f", "v")
    keyweir = near(redis, NEAR + '[log]\nslow = "5ms"\n')
    commands = [["GET", "n:a"], ["HGET", "n:h", "f"], ["MGET", "n:x", "n:y"]]
    with keyweir.client() as conn:
        for command in commands:
            with frozen(redis):
                conn.send(*command)
                time.sleep(0.05)
            conn.read()
        wait_until(lambda: stats(keyweir)[b"misses"] >= 4, what="they were fetched")
        seen = [[arg.decode() for arg in entry[3]] for entry in conn.cmd("SLOWLOG", "GET", -1)]
        assert all(command in seen for command in commands), seen
        assert not any("PTTL" in entry for entry in seen), seen


def test_plain_mget_goes_to_replicas():
    """With any near-cache at all every MGET went to the master."""
    head = 'read_from = "prefer_replica"\nhealth_check = "200ms"\n'
    with SentinelSet() as group, group.keyweir(head, NEAR + "[namespace.plain]\n", workers=1) as keyweir:
        master, replicas = group.master(), group.replicas()
        with keyweir.client() as conn:
            wait_until(lambda: conn.cmd("SET", "plain:1", "1") == "OK", 20, "it may be written")
        with keyweir.client() as conn:
            def asked(server, name):
                before = calls_of(server, name)
                return lambda: calls_of(server, name) - before

            def at_replicas(name):
                counts = [asked(r, name) for r in replicas]
                for _ in range(20):
                    assert conn.cmd(name.upper(), "plain:1") in (b"1", [b"1"])
                return sum(count() for count in counts)

            wait_until(lambda: at_replicas("get") == 20, 20, "reads go to replicas")
            wait_until(lambda: at_replicas("mget") == 20, 10, "MGETs go there, too")
            assert asked(master, "mget")() == 0


def test_deep_pipelines_keep_their_hits(fresh_redis, near):
    """A client that always had something on the way soon had all keys marked as busy."""
    redis, n_keys, n, depth, writes = fresh_redis(), 1000, 8000, 256, 0.02
    rng = random.Random(1)
    redis.cmd("MSET", *[x for i in range(n_keys) for x in ("n:%d" % i, i)])
    with Relay([redis.port]) as relay:
        keyweir = near(relay.url())
        relay.delay(0, "data", 0.002)
        with keyweir.client() as conn:
            conn.pipeline([["GET", "n:%d" % i] for i in range(n_keys)])
            warm(keyweir, conn, ["GET", "n:0"])
            before, sent, done = stats(keyweir), 0, 0
            while done < n:
                more = min(depth - (sent - done), n - sent)
                keys = ["n:%d" % rng.randrange(n_keys) for _ in range(more)]
                conn.send_raw(b"".join(encode(*["SET", k, "v"] if rng.random() < writes else ["GET", k]) for k in keys))
                sent += more
                for _ in range(min(4, sent - done)):
                    conn.read_raw()
                    done += 1
            after = stats(keyweir)
    hits, misses, joined = (after[k] - before[k] for k in (b"hits", b"misses", b"coalesced"))
    assert hits / (hits + misses + joined) >= 0.85, (hits, misses, joined)


@pytest.mark.parametrize("command", (
    "FOO x", "ZUNIONSTORE n:d x", "ZUNIONSTORE n:d x n:a", "XREADGROUP GROUP g c", "XREADGROUP GROUP g c COUNT 1 x",
    "CLIENT NOSUCH", "LMPOP 0 LEFT", "LMPOP 0 n:a LEFT"))
def test_refused_commands_void_nothing(shared, command):
    """Commands without keys that can be found were taken for a FLUSHALL."""
    with shared.client() as conn:
        before = epochs(shared)
        reply = conn.cmd(*command.split())
        assert isinstance(reply, RespError), reply
        assert epochs(shared) == before
        conn.cmd("FLUSHALL")
        assert epochs(shared) != before  # by which it would be seen


@pytest.fixture(scope="module")
def shared():
    with Redis() as redis, Keyweir(redis, NEAR, workers=1) as keyweir:
        wait_tracked(keyweir)
        yield keyweir
