# SPDX-License-Identifier: BSD-2-Clause
"""What was wrong with [token_blacklist] once and is not to be so again: a test for each."""
import contextlib
import time

import pytest

from harness.relay import Relay
from harness.resp import encode
from harness.sentinel import SentinelSet
from harness.servers import Keyweir, Redis, calls_of, free_ports, wait_until

P = "token:blacklist:"
BASE = '[token_blacklist]\nnamespace = "token:blacklist"\nsecret = "a secret that nobody knows"\n'
PLAIN = '[token_blacklist]\nnamespace = "token:blacklist"\nhash_tokens = false\n'
OFF = "mirror = false\n"


def tokens(conn):
    flat = conn.cmd("KEYWEIR", "TOKENS")
    return dict(zip(flat[::2], flat[1::2]))


def held(keyweir):
    """Waits for the mirror."""
    with keyweir.client() as conn:
        wait_until(lambda: tokens(conn)[b"mirror"] == b"held", what="the list is in memory")
    return keyweir


def pipe(conn, *commands):
    conn.send_raw(b"".join(encode(*command) for command in commands))
    return [conn.read() for _ in commands]


def test_replicas_are_not_asked():
    """One that is a moment behind says of a token just revoked that it is good."""
    head = 'read_from = "replica"\nread_your_writes = 0\nhealth_check = "200ms"\n'
    with SentinelSet() as group, group.keyweir(head, PLAIN + OFF) as keyweir, keyweir.client() as conn:
        wait_until(lambda: conn.cmd("SET", "k", "1") == "OK", 20, "it may be written")
        wait_until(lambda: conn.cmd("GET", "k") == b"1", 20, "reads go to replicas")
        before = [calls_of(r, name) for r in group.replicas() for name in ("get", "exists", "ttl")]
        for i in range(30):
            t = "t%d" % i
            assert conn.cmd("TOKEN.REVOKE", t) == "OK"
            assert pipe(conn, ("EXISTS", P + t), ("GET", P + t), ("EXISTS", P + t, P + t), ("TOKEN.CHECK", t),
                        ("TYPE", P + t)) == [1, b"1", 2, 1, "string"]
        assert [calls_of(r, name) for r in group.replicas() for name in ("get", "exists", "ttl")] == before


@pytest.mark.parametrize("config", [BASE, PLAIN], ids=["hashed", "plain"])
@pytest.mark.parametrize("mirror", ["writes", "all"])
def test_revocations_are_copied(fresh_redis, fresh_keyweir, config, mirror):
    """mirror_to, by which one moves to another Redis: all tokens would have been good there."""
    redis, other = fresh_redis(), fresh_redis()
    keyweir = held(fresh_keyweir(redis, 'mirror_to = "b"\nmirror = "%s"\nmirror_compare = true\n%s[upstream.b]\nurl = "%s"\n'
                                 % (mirror, config, other.url)))
    with keyweir.client() as c:
        assert pipe(c, ("TOKEN.REVOKE", "a"), ("TOKEN.REVOKE", "b", "EX", "50"), ("TOKEN.CHECK", "a", "b"),
                    ("TOKEN.REVOKE", "c"), ("TOKEN.RESTORE", "c")) == ["OK", "OK", [1, 1], "OK", 1]
        wait_until(lambda: sorted(redis.cmd("KEYS", "*")) == sorted(other.cmd("KEYS", "*")), what="they are copied")
        assert sorted(40 < other.cmd("TTL", key) <= 50 for key in other.cmd("KEYS", "*")) == [False, True]
    assert "differ" not in keyweir.log()


def test_revocations_are_copied_to_a_part(fresh_redis, fresh_keyweir):
    """mirror_percent goes by the key, not by the script that revokes it."""
    redis, other = fresh_redis(), fresh_redis()
    keyweir = fresh_keyweir(redis, 'mirror_to = "b"\nmirror_percent = 50\n' + PLAIN + '[upstream.b]\nurl = "%s"\n' % other.url)
    with keyweir.client() as c:
        for i in range(100):
            assert c.cmd("TOKEN.REVOKE", "t%d" % i) == "OK"
        wait_until(lambda: 20 < other.cmd("DBSIZE") < 80, what="half of them")


@pytest.mark.parametrize("config, revoked", [("deny", 1), ("allow", 0)])
def test_errors_that_say_nothing(fresh_redis, fresh_keyweir, config, revoked):
    """-BUSY: TOKEN.CHECK went by on_failure, keys did not."""
    redis = fresh_redis(args=["--busy-reply-threshold", "100"])
    keyweir = held(fresh_keyweir(redis, 'read_timeout = "5s"\n%son_failure = "%s"\n' % (PLAIN, config)))
    with keyweir.client() as c, redis.client(timeout=30) as busy:
        assert c.cmd("SADD", P + "set", "x") == 1 and str(c.cmd("GET", P + "set")).startswith("WRONGTYPE")
        assert str(c.cmd("GET", P + "x", P + "y")).startswith("ERR wrong number")
        busy.send_raw(encode("EVAL", "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 4 do end", "0"))
        wait_until(lambda: str(c.cmd("GET", "k")).startswith("BUSY"), what="Redis is busy")
        wait_until(lambda: tokens(c)[b"mirror"] == b"not held", what="the mirror no longer counts")
        value = b"1" if revoked else None
        checks = [("TOKEN.CHECK", "n"), ("EXISTS", P + "n"), ("GET", P + "n"), ("EXISTS", P + "n", P + "m")]
        assert pipe(c, *checks, *checks) == [revoked, revoked, value, 2 * revoked] * 2
        assert [c.cmd(*check) for check in checks] == [revoked, revoked, value, 2 * revoked]
        replies = pipe(c, ("EXISTS", P + "n", "k"), ("MULTI",), ("EXISTS", P + "n"), ("EXEC",))
        assert ["BUSY" in str(reply) for reply in replies] == [True, False, True, True]
        busy.read()


def warnings(keyweir, text):
    return [line for line in keyweir.log().splitlines() if " WARN " in line and text in line]


def test_a_list_that_is_not_hashed(fresh_redis, fresh_keyweir):
    """Who turns hash_tokens on, or takes another secret, makes all tokens good that were revoked: that must be seen."""
    redis = fresh_redis()
    plain = held(fresh_keyweir(redis, PLAIN))
    with plain.client() as c:
        assert c.cmd("TOKEN.REVOKE", "a") == "OK" and c.cmd("TOKEN.REVOKE", "b") == "OK"
    plain.reload(BASE)
    wait_until(lambda: warnings(plain, "2 keys of the list were made without hash_tokens"), what="it is told")
    assert len(warnings(plain, "hash_tokens or its secret is another")) == 1
    plain.reload(BASE + 'tokens = ["c"]\n')
    plain.reload(BASE + OFF)
    assert len(warnings(plain, "secret is another")) == 1
    plain.reload(BASE.replace("nobody knows", "nobody knew"))
    assert len(warnings(plain, "secret is another")) == 2
    assert "a secret" not in plain.log()


def test_another_secret(fresh_redis, fresh_keyweir):
    """Two Keyweirs with different secrets do not know each other's tokens: both say so."""
    redis = fresh_redis()
    one, text = held(fresh_keyweir(redis, BASE)), "with another secret"
    with one.client() as c:
        assert c.cmd("TOKEN.REVOKE", "a") == "OK"
    other = held(fresh_keyweir(redis, BASE.replace("nobody knows", "nobody knew")))
    wait_until(lambda: warnings(other, "1 keys of the list"), what="it is told of what is there")
    assert not warnings(one, text)
    with other.client() as c:
        assert c.cmd("TOKEN.CHECK", "a") == 0 and c.cmd("TOKEN.REVOKE", "b") == "OK"
    wait_until(lambda: warnings(one, text), what="it is told of what comes")


@pytest.mark.parametrize("redis_args, user, why", [
    (["--rename-command", "PTTL", ""], False, "unknown command"), ((), True, "NOPERM")], ids=["unknown", "forbidden"])
def test_a_list_that_cant_be_loaded(fresh_redis, fresh_keyweir, redis_args, user, why):
    """Nobody was told; and at level debug the log had a token, in Redis's error."""
    redis = fresh_redis(args=redis_args)
    redis.cmd("SET", P + "secret-token", "1")
    url = redis.url
    if user:
        redis.cmd("ACL", "SETUSER", "k", "on", ">pw", "~*", "&*", "+@all", "-scan")
        url = url.replace("redis://", "redis://k:pw@")
    keyweir = fresh_keyweir(url, PLAIN + '[log]\nlevel = "debug"\n')
    wait_until(lambda: warnings(keyweir, "can't be loaded"), what="it is told")
    wait_until(lambda: keyweir.log().count(why) >= 3, what="it is tried again")
    with keyweir.client() as c:
        assert pipe(c, ("TOKEN.CHECK", "secret-token"), ("TOKEN.CHECK", "x")) == [1, 0]
    assert len(warnings(keyweir, "Token blacklist")) == 1 and "secret-token" not in keyweir.log()


@pytest.mark.parametrize("check", [("TOKEN.CHECK", "x"), ("TOKEN.CHECK", "x", "y"), ("EXISTS", P + "x"), ("TOKEN.REVOKE", "x")], ids=" ".join)
def test_a_reload_takes_the_list_away(fresh_redis, fresh_keyweir, check):
    """While a check was on its way: it crashed."""
    redis = fresh_redis()
    keyweir = fresh_keyweir(redis, 'read_timeout = "1s"\n' + PLAIN + OFF)
    with keyweir.client() as c:
        assert c.cmd("TOKEN.CHECK", "a", "b") == [0, 0]
        redis.freeze()
        c.send(*check)
        keyweir.reload('read_timeout = "1s"\n[namespace.n]\nttl = "1h"\n')
        reply = c.read()
        assert reply in (1, [1, 1]) if check[0] == "TOKEN.CHECK" else reply.startswith("TIMEOUT")
        redis.thaw()
        assert c.cmd("TOKEN.CHECK", "x") == "ERR there is no token blacklist"


def test_counting_does_not_hang(fresh_redis, fresh_keyweir):
    """For a minute for each who asked, when Redis said nothing; and each walked over all keys."""
    redis = fresh_redis()
    keyweir = fresh_keyweir(redis, 'read_timeout = "500ms"\n' + PLAIN + OFF)
    conns = [keyweir.client() for _ in range(20)]
    conns[0].cmd("TOKEN.REVOKE", "t")
    redis.cmd("DEBUG", "POPULATE", 300000)
    before = calls_of(redis, "scan")
    assert conns[0].cmd("TOKEN.COUNT") == 1
    walk = calls_of(redis, "scan") - before
    before = calls_of(redis, "scan")
    for c in conns:
        c.send("TOKEN.COUNT")
    assert [c.read() for c in conns] == [1] * 20
    assert calls_of(redis, "scan") - before <= 4 * walk
    redis.freeze()
    for c in conns:
        c.send("TOKEN.COUNT")
    assert all(str(c.read()).startswith("UPSTREAMDOWN the list can't be counted") for c in conns)
    redis.thaw()
    assert conns[0].cmd("TOKEN.COUNT") == 1
    for c in conns:
        c.close()


@contextlib.contextmanager
def two_nodes_behind_a_relay():
    """A Cluster whose nodes are reached only through it."""
    ports = free_ports(4)
    with Relay(ports[:2]) as relay:
        nodes = [Redis(["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-announce-bus-port", str(bus),
                        "--cluster-announce-port", str(seen)], port=port)
                 for port, bus, seen in zip(ports[:2], ports[2:], relay.ports)]
        with nodes[0] as one, nodes[1] as two:
            for epoch, (node, low, high) in enumerate(((one, 0, 8191), (two, 8192, 16383)), 1):
                assert node.cmd("CLUSTER", "ADDSLOTSRANGE", low, high) == "OK"
                assert node.cmd("CLUSTER", "SET-CONFIG-EPOCH", epoch) == "OK"
            assert one.cmd("CLUSTER", "MEET", "127.0.0.1", ports[1], ports[3]) == "OK"
            wait_until(lambda: all(b"cluster_state:ok" in node.cmd("CLUSTER", "INFO") and
                                   b"cluster_known_nodes:2" in node.cmd("CLUSTER", "INFO") for node in nodes), 20, "a Cluster")
            yield relay, nodes


def test_a_script_that_is_loaded_again():
    """EVALSHA counted as done when its node had said NOSCRIPT. It was loaded and ran then, and until Redis's message came
    the token was good, though its client had been told that it is revoked."""
    with two_nodes_behind_a_relay() as (relay, nodes), \
            Keyweir(None, 'mode = "cluster"\nnodes = ["127.0.0.1:%d"]\n%s' % (relay.ports[0], PLAIN)) as keyweir, \
            held(keyweir).client() as c, keyweir.client() as other:
        sha = c.cmd("SCRIPT", "LOAD", "return redis.call('SET',KEYS[1],'1')")
        for port in (0, 1):
            relay.delay(port, "tracking", 0.15, 0.25)
            relay.delay(port, "data", 0, 0.01)
        for i in range(100):
            for node in nodes:
                node.cmd("SCRIPT", "FLUSH")
            assert c.cmd("EVALSHA", sha, 1, P + "t%d" % i) == "OK"
            time.sleep(0.03)
            assert other.cmd("TOKEN.CHECK", "t%d" % i) == 1, i
        assert tokens(c)[b"checks"] > 10  # some of them from memory


@pytest.mark.parametrize("more", ["", OFF], ids=["mirror", "no mirror"])
def test_what_was_written_counts(fresh_redis, fresh_keyweir, more):
    """TOKEN.COUNT overtook the writes before it in a pipeline, and a token that was in doubt counted as before."""
    keyweir = fresh_keyweir(fresh_redis(), PLAIN + more)
    if not more:
        held(keyweir)
    with keyweir.client() as c, keyweir.client() as other:
        for i in range(100):
            assert pipe(c, ("TOKEN.REVOKE", "a"), ("TOKEN.COUNT",), ("TOKEN.RESTORE", "a"), ("TOKEN.COUNT",)) == ["OK", 1, 1, 0]
            assert pipe(c, ("SET", P + "b", "1"), ("SET", P + "b", "2"), ("DEL", P + "b"), ("SET", P + "b", "3")) == ["OK", "OK", 1, "OK"]
            assert other.cmd("TOKEN.COUNT") == 1
            assert c.cmd("DEL", P + "b") == 1 and other.cmd("TOKEN.COUNT") == 0, i


def test_counting_while_all_changes(fresh_redis, fresh_keyweir):
    """Nobody waits for ever for a list that is never quite known, nor when it is lost meanwhile."""
    redis = fresh_redis()
    keyweir = held(fresh_keyweir(redis, 'read_timeout = "1s"\n' + PLAIN))
    conns = [keyweir.client() for _ in range(8)]
    for i in range(60):
        for n, c in enumerate(conns):
            c.send_raw(b"".join(encode("SET", P + "%d-%d-%d" % (n, i, k), "1") for k in range(20)) + encode("TOKEN.COUNT"))
        if i % 20 == 10:
            redis.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        if i % 20 == 15:
            keyweir.reload(PLAIN + ("" if i < 20 else OFF if i < 40 else 'tokens = ["x"]\n'))
        for c in conns:
            replies = [c.read() for _ in range(21)]
            assert isinstance(replies[20], int) and replies[20] >= 20 or i % 20 >= 10, replies[20]
    for c in conns:
        c.close()
    with keyweir.client() as c:
        wait_until(lambda: c.cmd("TOKEN.COUNT") == redis.cmd("DBSIZE"), what="it is right in the end")


def test_long_keys_are_loaded(fresh_redis, fresh_keyweir):
    """A thousand of them were too large an answer, and the list was never held."""
    redis = fresh_redis()
    with redis.client() as direct:
        for i in range(1500):
            direct.send("SET", P + "y" * 17000 + str(i), "1")
        assert {direct.read() for _ in range(1500)} == {"OK"}
    with held(fresh_keyweir(redis, PLAIN)).client() as c:
        assert tokens(c)[b"tokens"] == 1500 and c.cmd("TOKEN.CHECK", "y" * 17000 + "7") == 1
