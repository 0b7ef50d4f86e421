# SPDX-License-Identifier: BSD-2-Clause
"""A Redis Cluster behind Keyweir looks like one Redis: what commands give over all slots and nodes."""
import random
import socket
import time

import pytest

from harness.cluster import SLOTS, Cluster, slot_of
from harness.resp import RespError, parse
from harness.servers import wait_until

CROSSSLOT = "CROSSSLOT Keys in request don't hash to the same slot"
LIBRARY = "#!lua name=lib\nredis.register_function('mark', function(keys, args) return redis.call('SET', keys[1], args[1]) end)"


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as c:
        yield c


@pytest.fixture(scope="module")
def keyweir(cluster):
    with cluster.keyweir() as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def empty(cluster):
    for master in cluster.masters():
        master.cmd("FLUSHALL"), master.cmd("SCRIPT", "FLUSH"), master.cmd("FUNCTION", "FLUSH")


@pytest.fixture
def spread(cluster):
    """A key on each master."""
    return [cluster.key_on(m) for m in cluster.masters()]


def one_key_a_slot():
    keys, i = {}, 0
    while len(keys) < SLOTS:
        keys.setdefault(slot_of("k%d" % i), "k%d" % i)
        i += 1
    return [keys[s] for s in range(SLOTS)]


def wrong_ones(replies, wanted):
    return [(i, r, w) for i, (r, w) in enumerate(zip(replies, wanted)) if r != w][:5]


def test_every_slot(cluster, conn):
    keys = one_key_a_slot()
    for at in range(0, SLOTS, 512):
        part = keys[at:at + 512]
        assert set(conn.pipeline([["SET", k, k] for k in part])) == {b"+OK\r\n"}
        got = conn.pipeline([["GET", k] for k in part])
        assert not wrong_ones(got, [b"$%d\r\n%s\r\n" % (len(k), k.encode()) for k in part])
    for master in cluster.masters():
        assert master.cmd("DBSIZE") == len(cluster.slots_of(master))


def test_many_keys_in_order(conn):
    keys = ["many%d" % i for i in range(100)]
    assert conn.cmd("MSET", *[x for k in keys for x in (k, "v" + k)]) == "OK"
    conn.cmd("RPUSH", "alist", "x")
    assert conn.cmd("MGET", *keys, "absent", keys[5], "alist") == \
        [b"v" + k.encode() for k in keys] + [None, b"v" + keys[5].encode(), None]
    assert conn.cmd("EXISTS", *keys, "absent", keys[0], keys[0]) == 102
    assert conn.cmd("TOUCH", *keys, "absent") == 100
    assert conn.cmd("DEL", *keys[:50], "absent", keys[0]) == 50
    assert conn.cmd("UNLINK", *keys, "alist") == 51
    assert conn.cmd("EXISTS", *keys) == 0
    assert conn.cmd("MSET", "a", 1, "b") == "ERR wrong number of arguments for 'mset' command"
    assert conn.cmd("MGET") == "ERR wrong number of arguments for 'mget' command"


def reads(cluster):
    """How often all masters have read from a client: one write to a node is one read there."""
    total = 0
    for master in cluster.masters():
        total += int(master.cmd("INFO", "stats").partition(b"total_reads_processed:")[2].split()[0])
    return total


def test_mget_is_split_by_node(cluster, conn):
    """A node of Redis takes one slot in a command: the commands to it are many, but they go in one write."""
    keys = ["split%d" % i for i in range(100)]
    conn.cmd("MSET", *[x for k in keys for x in (k, "v")])
    before, commands = reads(cluster), cluster.calls("mget", "get")
    for _ in range(50):
        assert conn.cmd("MGET", *keys) == [b"v"] * 100
    slots = len({slot_of(k) for k in keys})
    done = sum(cluster.calls("mget", "get").values()) - sum(commands.values())
    assert 50 * 3 <= done <= 50 * slots
    assert reads(cluster) - before <= 50 * 3 + 60  # 60: the harness's own, health checks, replicas' acknowledgements


def test_msetnx_does_not_pretend(conn, spread):
    assert conn.cmd("MSETNX", spread[0], 1, spread[1], 2) == CROSSSLOT
    assert conn.cmd("EXISTS", *spread) == 0
    assert conn.cmd("MSETNX", spread[0], 1, spread[0] + "b", 2) == 1


def model_of(rng, data):
    """A command, and what it must give; `data` changes with it."""
    keys = ["m%d" % rng.randrange(60) for _ in range(rng.randint(1, 12))]
    kind = rng.choice(["GET", "SET", "MGET", "MSET", "DEL", "EXISTS"])
    if kind == "GET":
        return ["GET", keys[0]], data.get(keys[0])
    if kind == "SET":
        data[keys[0]] = b"%d" % rng.randrange(1 << 30)
        return ["SET", keys[0], data[keys[0]]], "OK"
    if kind == "MGET":
        return ["MGET", *keys], [data.get(k) for k in keys]
    if kind == "MSET":
        pairs = [(k, b"%d" % rng.randrange(1 << 30)) for k in keys]
        data.update(pairs)
        return ["MSET", *[x for p in pairs for x in p]], "OK"
    if kind == "EXISTS":
        return ["EXISTS", *keys], sum(k in data for k in keys)
    return ["DEL", *keys], sum(data.pop(k, None) is not None for k in keys)


@pytest.mark.parametrize("proto", [2, 3])
def test_pipelines_over_all_nodes(keyweir, proto):
    seed = random.SystemRandom().randrange(1 << 30)
    rng, data = random.Random(seed), {}
    with keyweir.client(proto) as conn:
        for _ in range(40):
            batch = [model_of(rng, data) for _ in range(rng.randint(1, 100))]
            for command, _ in batch:
                conn.send(*command)
            got = [conn.read() for _ in batch]
            assert not wrong_ones(got, [w for _, w in batch]), "seed %d" % seed


def test_whole_keyspace(cluster, conn):
    keys = ["all:%d" % i for i in range(300)]
    conn.cmd("MSET", *[x for k in keys for x in (k, "v")])
    conn.cmd("SET", "other", "v")
    assert conn.cmd("DBSIZE") == 301
    assert sorted(conn.cmd("KEYS", "all:*")) == sorted(k.encode() for k in keys)
    assert conn.cmd("KEYS", "{tag}*") == []
    seen = {cluster.node_of_key(k) for k in {conn.cmd("RANDOMKEY") for _ in range(60)}}
    assert len(seen) == 3, "RANDOMKEY draws from %s only" % seen
    assert conn.cmd("FLUSHALL") == "OK"
    assert [m.cmd("DBSIZE") for m in cluster.masters()] == [0, 0, 0]
    assert conn.cmd("RANDOMKEY") is None and conn.cmd("DBSIZE") == 0


def scan_all(conn, *args):
    cursor, keys, calls = b"0", [], 0
    while calls == 0 or cursor != b"0":
        cursor, part = conn.cmd("SCAN", cursor, *args)
        assert cursor.isdigit() and int(cursor) < 1 << 64, cursor
        keys += part
        calls += 1
        assert calls < 5000, "SCAN does not end"
    return keys


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_scan(conn, n):
    keys = [b"scan:%d" % i for i in range(n)]
    if keys:
        conn.cmd("MSET", *[x for k in keys for x in (k, "v")])
    conn.cmd("RPUSH", "list", "x")
    for args in ([], ["COUNT", 7], ["COUNT", 10000]):
        assert sorted(set(scan_all(conn, *args))) == sorted([*keys, b"list"]), args
    assert sorted(set(scan_all(conn, "MATCH", "scan:*", "COUNT", 100))) == sorted(keys)
    assert set(scan_all(conn, "TYPE", "list")) == {b"list"}
    assert conn.cmd("SCAN", "x") == "ERR invalid cursor"
    assert isinstance(conn.cmd("SCAN", "0", "COUNT", "0"), RespError)


def test_scripts_are_everywhere(cluster, conn, spread):
    sha = conn.cmd("SCRIPT", "LOAD", "return {KEYS[1], redis.call('INCR', KEYS[1])}")
    assert conn.cmd("SCRIPT", "EXISTS", sha, "f" * 40) == [1, 0]
    for master, key in zip(cluster.masters(), spread):
        assert master.cmd("SCRIPT", "EXISTS", sha) == [1]
        assert conn.cmd("EVALSHA", sha, 1, key) == [key.encode(), 1]
    assert conn.cmd("EVAL", "return ARGV[1]", 0, "no keys") == b"no keys"
    assert conn.cmd("EVAL", "return 1", 2, *spread[:2]) == CROSSSLOT
    assert conn.cmd("SCRIPT", "FLUSH") == "OK"
    assert [m.cmd("SCRIPT", "EXISTS", sha) for m in cluster.masters()] == [[0]] * 3
    assert conn.cmd("EVALSHA", sha, 1, spread[0]).startswith("NOSCRIPT")


def test_functions_are_everywhere(cluster, conn, spread):
    assert conn.cmd("FUNCTION", "LOAD", LIBRARY) == b"lib"
    for key in spread:
        assert conn.cmd("FCALL", "mark", 1, key, "made") == "OK" and conn.cmd("GET", key) == b"made"
    assert conn.cmd("FUNCTION", "LOAD", LIBRARY) == "ERR Library 'lib' already exists"
    assert conn.cmd("FUNCTION", "DELETE", "lib") == "OK"
    assert [m.cmd("FUNCTION", "LIST") for m in cluster.masters()] == [[], [], []]


def test_config_reaches_every_master(cluster, conn):
    assert conn.cmd("CONFIG", "SET", "maxmemory-samples", "7") == "OK"
    assert [m.cmd("CONFIG", "GET", "maxmemory-samples")[1] for m in cluster.masters()] == [b"7"] * 3


def test_wait_counts_replicas(conn, spread):
    assert conn.cmd("SET", spread[0], "v") == "OK"
    assert conn.cmd("WAIT", 1, 5000) == 1


def test_scripts_do_not_lead_the_way(cluster, conn):
    """A script may say MOVED or ASK itself: our connections log in, so they go only where the map says."""
    key = cluster.key_on(cluster.masters()[0])
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        for word in ("MOVED", "ASK"):
            text = "%s %d 127.0.0.1:%d" % (word, slot_of(key), trap.getsockname()[1])
            assert conn.cmd("EVAL", "return redis.error_reply('%s')" % text, 1, key) == text
        with pytest.raises(TimeoutError):
            trap.accept()


def test_wait_in_a_pipeline(conn, spread):
    """What follows WAIT does not go over the connections that it gives back."""
    commands = [["INCR", key] for key in spread for _ in range(50)]
    assert conn.pipeline([["WAIT", 0, 100], *commands])[1:] == [b":%d\r\n" % i for i in range(1, 51)] * len(spread)


def test_wait_for_ever_ends_with_its_client(keyweir, spread):
    with keyweir.client() as conn:
        conn.send("WAIT", 99, 0)
        wait_until(lambda: b"blocked_clients:1" in keyweir_info(keyweir), what="it waits")
    wait_until(lambda: b"blocked_clients:0" in keyweir_info(keyweir), what="it has left")


def keyweir_info(keyweir):
    with keyweir.client() as conn:
        return conn.cmd("INFO", "clients")


def test_parts_that_time_out_together_with_a_blocking_command(cluster):
    """They are on its connection, and the last of them ends it."""
    master = cluster.masters()[0]
    key, others = cluster.key_on(master), [cluster.key_on(master, stem) for stem in ("other", "another")]
    with cluster.keyweir('read_timeout = "500ms"\n[upstream.main.circuit_breaker]\nfailures = 1000\n') as proxy:
        for _ in range(3):
            with proxy.client() as conn:
                conn.cmd("GET", key)
                master.freeze()
                try:
                    conn.send("BLPOP", key, "0.001")
                    conn.send("MGET", *others)
                    assert [conn.read().partition(" ")[0] for _ in range(2)] == ["TIMEOUT", "TIMEOUT"]
                finally:
                    master.thaw()
                wait_until(lambda: conn.cmd("MGET", *others) == [None, None], what="all is well again")
    cluster.wait_ok()


def test_publish_reaches_once(cluster, keyweir, conn):
    with keyweir.client() as plain, keyweir.client(3) as pattern:
        assert plain.cmd("SUBSCRIBE", "news")[2] == 1 and pattern.cmd("PSUBSCRIBE", "n*")[2] == 1
        conn.cmd("PUBLISH", "news", "0")
        for i, master in enumerate(cluster.masters(), 1):
            assert [plain.read()[-1], pattern.read()[-1]] == [b"%d" % (i - 1)] * 2
            master.cmd("PUBLISH", "news", i)
        assert [plain.read()[-1], pattern.read()[-1]] == [b"3"] * 2
        conn.cmd("PUBLISH", "news", "last")  # would come behind any second copy
        assert [plain.read()[-1], pattern.read()[-1]] == [b"last"] * 2


def test_shard_channels(cluster, keyweir, conn, spread):
    with keyweir.client() as sub:
        for i, channel in enumerate(spread):
            assert sub.cmd("SSUBSCRIBE", channel) == [b"ssubscribe", channel.encode(), i + 1]
        for channel in spread:
            assert conn.cmd("SPUBLISH", channel, "by keyweir") == 1
            assert sub.read() == [b"smessage", channel.encode(), b"by keyweir"]
            assert cluster.node_of_key(channel).cmd("SPUBLISH", channel, "directly") == 1
            assert sub.read() == [b"smessage", channel.encode(), b"directly"]
        assert sorted(conn.cmd("PUBSUB", "SHARDCHANNELS")) == sorted(c.encode() for c in spread)


def test_blocking_commands(keyweir, conn, spread):
    waiting = [keyweir.client() for _ in spread]
    for client, key in zip(waiting, spread):
        client.send("BLPOP", key, 0)
    wait_until(lambda: b"blocked_clients:3" in conn.cmd("INFO", "clients"), what="three are blocked")
    for client, key in zip(waiting, spread):
        assert conn.cmd("RPUSH", key, "for " + key) == 1
        assert client.read() == [key.encode(), b"for " + key.encode()]
        client.close()
    start = time.monotonic()
    assert conn.cmd("BLPOP", spread[1], 0.2) is None and time.monotonic() - start >= 0.2
    assert conn.cmd("BLPOP", *spread[:2], 0.1) == CROSSSLOT


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "piecewise"])
def test_transactions(conn, spread, whole):
    for key in spread:
        commands = [["MULTI"], ["SET", key, 1], ["INCR", key], ["GET", key + "x"], ["EXEC"]]
        if whole:
            got = conn.pipeline(commands)
        else:
            got = [conn.raw(*c) for c in commands]
        assert got == [b"+OK\r\n", *[b"+QUEUED\r\n"] * 3, b"*3\r\n+OK\r\n:2\r\n$-1\r\n"]
    assert [conn.cmd("MULTI"), conn.cmd("PING"), conn.cmd("EXEC")] == ["OK", "QUEUED", ["PONG"]]
    assert [conn.cmd("MULTI"), conn.cmd("SET", spread[0], 9), conn.cmd("DISCARD")] == ["OK", "QUEUED", "OK"]
    assert conn.cmd("GET", spread[0]) == b"2"


def test_watch(keyweir, conn, spread):
    with keyweir.client() as other:
        for key in spread:
            for changed in (False, True):
                assert conn.cmd("WATCH", key) == "OK"
                if changed:
                    other.cmd("SET", key, "theirs")
                assert [conn.cmd("MULTI"), conn.cmd("SET", key, "mine")] == ["OK", "QUEUED"]
                assert conn.cmd("EXEC") == (None if changed else ["OK"])
            assert conn.cmd("GET", key) == b"theirs"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "piecewise"])
def test_transaction_over_two_slots(cluster, conn, spread, whole):
    near = cluster.key_on(cluster.masters()[0], stem="other")  # another slot of the same node
    for second in (spread[1], near):
        commands = [["MULTI"], ["SET", spread[0], 1], ["SET", second, 2], ["EXEC"]]
        if whole:
            got = [parse(raw) for raw in conn.pipeline(commands)]
        else:
            got = [conn.cmd(*c) for c in commands]
        assert got[:2] == ["OK", "QUEUED"] and CROSSSLOT in got[2:], got
        assert got[3].startswith(("CROSSSLOT", "EXECABORT")), got
        assert conn.cmd("EXISTS", spread[0], second) == 0


def test_crossslot(conn, spread):
    a, b, _ = spread
    for command in (["SINTER", a, b], ["SUNIONSTORE", a, b, a], ["RENAME", a, b], ["LMOVE", a, b, "LEFT", "LEFT"],
                    ["PFMERGE", a, b], ["BITOP", "AND", a, b, a], ["XREAD", "STREAMS", a, b, 0, 0], ["SMOVE", a, b, "x"]):
        assert conn.cmd(*command) == CROSSSLOT, command
    assert conn.cmd("SADD", a, 1, 2) == 2 and conn.cmd("SADD", a + "2", 2, 3) == 2
    assert conn.cmd("SINTER", a, a + "2") == [b"2"]


def test_map_is_the_same_whoever_is_asked(cluster):
    """Each node has an order of its own for what it says; Keyweir must not take that for a change."""
    seen = set()
    for seed in cluster.nodes():
        with cluster.keyweir(seeds=[seed], workers=1) as proxy, proxy.client() as conn:
            wait_until(lambda: conn.cmd("SET", "k", 1) == "OK", what="the map is known")
            seen.add(tuple(bytes(row[row.index(b"url") + 1]) for row in conn.cmd("KEYWEIR", "UPSTREAMS")))
    assert len(seen) == 1, seen


def test_looks_like_a_standalone_redis(conn):
    info = conn.cmd("INFO").decode()
    assert "\r\ncluster_enabled:0\r\n" in info and "\r\nredis_mode:standalone\r\n" in info
    assert conn.cmd("CLUSTER", "SLOTS") == "ERR This instance has cluster support disabled"
    assert conn.cmd("SELECT", 0) == "OK"
    assert isinstance(conn.cmd("SELECT", 1), RespError)
