# SPDX-License-Identifier: BSD-2-Clause
"""A Redis Cluster that changes under Keyweir: slots on the move, nodes that come and go, replicas that take over."""
import threading
import time

import pytest

from harness.cluster import Cluster, slot_of
from harness.resp import RespError, encode
from harness.servers import FACTOR, wait_until
from harness.tls import Certificates

SCRIPT = "return redis.call('INCR', KEYS[1])"
LIBRARY = "#!lua name=lib\nredis.register_function('mark', function(keys, args) return redis.call('SET', keys[1], args[1]) end)"


@pytest.fixture(scope="module")
def cluster():
    with Cluster(full_coverage=False) as c:
        yield c


@pytest.fixture(scope="module")
def keyweir(cluster):
    with cluster.keyweir('read_timeout = "2s"\n') as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def empty(cluster):
    cluster.repair()
    for master in cluster.masters():
        master.cmd("FLUSHALL")


class Move:
    """One slot under way from `src` to `dst`; the keys {tag}0 to {tag}9 are in it."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.src, self.dst = cluster.masters()[:2]
        self.tag = cluster.key_on(self.src, "move")
        self.slot = slot_of(self.tag)
        self.keys = [self.tag + str(i) for i in range(10)]

    def begin(self, moved=()):
        self.cluster.begin_migration(self.src, self.dst, self.slot)
        if moved:
            self.cluster.move_keys(self.src, self.dst, moved)

    def finish(self):
        left = self.src.cmd("CLUSTER", "GETKEYSINSLOT", self.slot, 100)
        if left:
            self.cluster.move_keys(self.src, self.dst, left)
        self.cluster.end_migration(self.src, self.dst, self.slot)


@pytest.fixture
def move(cluster):
    m = Move(cluster)
    yield m
    if cluster.node_of_slot(m.slot) is m.src:
        m.finish()
    cluster.migrate_slots(m.dst, m.src, [m.slot])


def test_ask_is_followed(move, conn):
    for key in move.keys:
        assert conn.cmd("SET", key, "v" + key) == "OK"
    move.begin(moved=move.keys[:5])
    for _ in range(3):  # again and again: the map must not change by ASK
        assert [conn.cmd("GET", k) for k in move.keys] == [b"v" + k.encode() for k in move.keys]
    assert conn.pipeline([["INCR", move.tag + "new"] for _ in range(5)]) == [b":%d\r\n" % i for i in range(1, 6)]
    assert conn.cmd("MGET", *move.keys[:5]) == [b"v" + k.encode() for k in move.keys[:5]]
    assert move.dst.cmd("CLUSTER", "COUNTKEYSINSLOT", move.slot) == 6
    move.finish()
    assert conn.cmd("MGET", *move.keys) == [b"v" + k.encode() for k in move.keys]
    assert conn.cmd("GET", move.tag + "new") == b"5"


def test_transaction_on_a_moved_key(move, conn):
    conn.cmd("SET", move.keys[0], 1)
    move.begin(moved=move.keys[:1])
    commands = [["MULTI"], ["INCR", move.keys[0]], ["INCR", move.keys[0]], ["EXEC"]]
    wait_until(lambda: conn.pipeline(commands)[-1] == b"*2\r\n:2\r\n:3\r\n", what="EXEC follows ASK")
    assert conn.cmd("GET", move.keys[0]) == b"3"


def test_tryagain_is_waited_out(move, conn):
    for key in move.keys:
        conn.cmd("SET", key, "v")
    move.begin(moved=move.keys[:5])
    conn.send("MGET", *move.keys)
    with pytest.raises(TimeoutError):
        conn.read(0.2)
    move.finish()
    assert conn.read(5) == [b"v"] * 10


def test_tryagain_is_not_waited_for_ever(move, conn):
    for key in move.keys:
        conn.cmd("SET", key, "v")
    move.begin(moved=move.keys[:5])
    start = time.monotonic()
    got = conn.cmd("MGET", *move.keys)
    took = time.monotonic() - start
    assert isinstance(got, RespError) and got.startswith(("TRYAGAIN", "TIMEOUT")), got
    assert 0.5 < took < 2 + 2 * FACTOR, f"told after {took:.2f} s"


def test_new_keys_are_asked_for_until_their_slot_has_moved(move, conn):
    """ASK by the old node, TRYAGAIN by the new one, again and again: far more often than a command is redirected."""
    move.begin()
    conn.send("MSET", move.keys[0], 1, move.keys[1], 2)
    with pytest.raises(TimeoutError):
        conn.read(0.8)
    move.finish()
    assert conn.read(5) == "OK"
    assert conn.cmd("MGET", *move.keys[:2]) == [b"1", b"2"]


def test_what_is_new_in_a_moving_slot_expires(cluster, move):
    """In a namespace with ttl: the command that gives it one goes where the key goes, and not again and again."""
    with cluster.keyweir('read_timeout = "2s"\n', "[namespace.default]\nttl = \"1h\"\n") as proxy, proxy.client() as conn:
        move.begin()
        assert conn.cmd("INCR", move.keys[2]) == 1
        before = sum(cluster.calls("asking").values())
        conn.send("MSET", move.keys[0], 1, move.keys[1], 2)
        with pytest.raises(TimeoutError):
            conn.read(0.8)
        assert sum(cluster.calls("asking").values()) - before < 200
        move.finish()
        assert conn.read(5) == "OK"
        assert all(conn.cmd("PTTL", key) > 3200000 for key in move.keys[:3])


def test_a_large_command_in_a_transaction(cluster):
    """It is queued when all of it has come, and the bytes of others do not get between."""
    key = cluster.key_on(cluster.masters()[0])
    with cluster.keyweir(workers=1) as proxy, proxy.client() as conn, proxy.client() as other:
        request = encode("SET", key, b"x" * 400000)
        conn.send("MULTI")
        conn.send_raw(request[:300000])
        assert other.cmd("SET", key, "mine") == "OK"
        conn.send_raw(request[300000:])
        conn.send("EXEC")
        assert [conn.read() for _ in range(3)] == ["OK", "QUEUED", ["OK"]]
        assert other.cmd("STRLEN", key) == 400000 and other.cmd("PING") == "PONG"


def test_what_waited_in_vain_reads_as_absent(cluster):
    """on_failure = "miss" holds also for a command that was on its way when its shard went, and waited for another."""
    victim = cluster.masters()[0]
    key = cluster.key_on(victim)
    with cluster.keyweir('read_timeout = "1s"\n', "[namespace.default]\non_failure = \"miss\"\n") as proxy, proxy.client() as conn:
        conn.cmd("SET", key, "v")
        victim.freeze()
        conn.send("GET", key)
        time.sleep(0.1)  # it is on its way: nothing tells of that
        for node in [*cluster.replicas_of(victim), victim]:
            cluster.kill(node)
        assert conn.read(5) is None


def test_what_waits_does_not_come_after_what_was_sent_behind_it(cluster, move, conn):
    """A part that Redis wants to see again later, and a write to the same key that is on its way already."""
    other = cluster.key_on(cluster.masters()[2])
    conn.cmd("SET", move.keys[0], 0)
    move.begin()
    conn.send_raw(encode("MSET", move.keys[0], 1, move.keys[1], 1, other, 1) + encode("SET", move.keys[0], 2))
    time.sleep(0.3)
    move.finish()
    conn.read(), conn.read()
    assert conn.cmd("GET", move.keys[0]) == b"2"


def test_moved_is_followed_without_a_word(cluster, conn):
    src, dst, _ = cluster.masters()
    keys = [b"moved%d" % i for i in range(500)]
    conn.cmd("MSET", *[x for k in keys for x in (k, k)])
    slots = cluster.slots_of(src)[:300]
    before, start = cluster.map_fetches(), time.monotonic()
    cluster.migrate_slots(src, dst, slots)
    assert conn.pipeline([["GET", k] for k in keys]) == [b"$%d\r\n%s\r\n" % (len(k), k) for k in keys]
    cluster.migrate_slots(dst, src, slots)
    assert conn.cmd("MGET", *keys) == keys
    fetched = sum(cluster.map_fetches().values()) - sum(before.values())
    assert fetched <= time.monotonic() - start + 2, f"{fetched} map fetches in {time.monotonic() - start:.1f} s"


def test_blocked_client_moves_with_its_slot(cluster, move, keyweir, conn):
    with keyweir.client() as blocked:
        blocked.send("BLPOP", move.tag, 0)
        wait_until(lambda: b"blocked_clients:1" in move.src.cmd("INFO", "clients"), what="it is blocked")
        move.begin()
        move.finish()
        wait_until(lambda: b"blocked_clients:1" in move.dst.cmd("INFO", "clients"), what="it is blocked at the new node")
        assert conn.cmd("RPUSH", move.tag, "x") == 1
        assert blocked.read() == [move.tag.encode(), b"x"]


def test_shard_subscriber_moves_with_its_slot(move, keyweir, conn):
    with keyweir.client() as sub:
        assert sub.cmd("SSUBSCRIBE", move.tag)[2] == 1
        move.begin()
        move.finish()
        wait_until(lambda: move.dst.cmd("PUBSUB", "SHARDCHANNELS") == [move.tag.encode()], what="subscribed at the new node")
        assert conn.cmd("SPUBLISH", move.tag, "hello") == 1
        assert sub.read() == [b"smessage", move.tag.encode(), b"hello"]


def test_nodes_come_and_go(cluster, conn):
    sha = conn.cmd("SCRIPT", "LOAD", SCRIPT)
    assert conn.cmd("FUNCTION", "LOAD", "REPLACE", LIBRARY) == b"lib"
    src = cluster.masters()[0]
    new = cluster.add_master()
    slots = cluster.slots_of(src)[:20]
    cluster.migrate_slots(src, new, slots)
    try:
        key = cluster.key_on(new, "joined")
        assert conn.cmd("EVALSHA", sha, 1, key) == 1
        assert conn.cmd("FCALL", "mark", 1, key, "made") == "OK"
        assert new.cmd("GET", key) == b"made"
    finally:
        cluster.migrate_slots(new, src, slots)
        cluster.remove_node(new)
    assert conn.cmd("GET", key) == b"made"
    wait_until(lambda: conn.cmd("DBSIZE") == 1, what="DBSIZE without the node that went")
    assert conn.cmd("KEYS", "*") == [key.encode()]


def test_scan_while_a_replica_takes_over(cluster, conn):
    keys = {b"scan%d" % i for i in range(1000)}
    conn.cmd("MSET", *[x for k in keys for x in (k, "v")])
    victim = cluster.masters()[1]
    lost = victim.me()
    stable = {k for k in keys if not lost.covers(slot_of(k))}
    cursor, seen = conn.cmd("SCAN", 0, "COUNT", 20)
    seen = set(seen)
    for step in range(5000):
        if cursor == b"0":
            break
        if step == 3:
            cluster.failover(cluster.replicas_of(victim)[0])
        cursor, part = conn.cmd("SCAN", cursor, "COUNT", 20)
        seen |= set(part)
    assert cursor == b"0" and step > 3
    assert stable <= seen <= keys and stable


def test_manual_failover_is_not_noticed(cluster, keyweir):
    errors, over = [], threading.Event()
    victim = cluster.masters()[0]
    key = cluster.key_on(victim, "count")

    def count():
        with keyweir.client() as c:
            for i in range(1, 1 << 30):
                if over.is_set():
                    return
                if (got := c.cmd("INCR", key)) != i:
                    errors.append((i, got))
                    return

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    replica = cluster.replicas_of(victim)[0]
    cluster.failover(replica)
    had = int(replica.cmd("GET", key) or 0)
    wait_until(lambda: errors or int(replica.cmd("GET", key) or 0) > had + 50, what="it counts on, on the new master")
    over.set()
    thread.join(10)
    assert not errors


def test_a_script_waits_for_the_map_to_name_its_new_master(cluster, move, conn):
    """It is not led to a node that the map does not know as a master, and the map was fetched just before."""
    victim = cluster.masters()[2]
    key = cluster.key_on(victim, "script")
    assert conn.cmd("EVAL", SCRIPT, 1, key) == 1
    move.begin()
    move.finish()
    assert conn.cmd("GET", move.keys[0]) is None
    cluster.failover(cluster.replicas_of(victim)[0])
    assert conn.cmd("EVAL", SCRIPT, 1, key) == 2
    cluster.wait_ok()


def test_a_hole_in_one_map_is_not_believed(cluster):
    """While a failover goes round a node may know of no master for a slot that has one."""
    owner, other = cluster.masters()[:2]
    key = cluster.key_on(owner)
    with cluster.keyweir('health_check = "1s"\n', seeds=[other]) as proxy, proxy.client() as conn:
        conn.cmd("SET", key, "v")
        until, before = time.monotonic() + 4.5, sum(cluster.map_fetches().values())
        while time.monotonic() < until:
            other.cmd("CLUSTER", "DELSLOTS", slot_of(key))
            assert conn.cmd("GET", key) == b"v"
            time.sleep(0.02)
        assert sum(cluster.map_fetches().values()) - before >= 3
    cluster.wait_ok()


def test_replicas_serve_reads(cluster):
    tables = '[log]\nlevel = "debug"\n'
    head = 'read_from = "replica"\nread_your_writes = "400ms"\nhealth_check = "200ms"\n'
    key = cluster.key_on(cluster.masters()[2], "read")
    with cluster.keyweir(head, tables) as keyweir, keyweir.client() as writer, keyweir.client() as reader:
        assert writer.cmd("SET", key, "1") == "OK"
        master, replica = cluster.node_of_key(key), cluster.replicas_of(cluster.node_of_key(key))[0]
        before = cluster.calls("get", nodes=[master, replica])
        assert [writer.cmd("GET", key) for _ in range(5)] == [b"1"] * 5  # just written: from the master
        wait_until(lambda: reader.cmd("GET", key) == b"1", what="the replica has it")
        reader.pipeline([["GET", key]] * 50)
        now = cluster.calls("get", nodes=[master, replica])
        assert now[replica] - before[replica] >= 50 and 5 <= now[master] - before[master] <= 6
        wait_until(lambda: [writer.cmd("GET", key), cluster.calls("get", nodes=[replica])[replica] > now[replica]][1], 3,
                   "the writer, too, reads from the replica again")


def test_any_write_is_a_write_of_ones_own(cluster):
    """A transaction, a script, parts, a command to all masters: reads go to the master after each."""
    head = 'read_from = "prefer_replica"\nread_your_writes = "30s"\nhealth_check = "200ms"\n'
    master = cluster.masters()[0]
    key, other = cluster.key_on(master, "own"), cluster.key_on(cluster.masters()[1], "own")
    replica, = cluster.replicas_of(master)
    writes = [[["MULTI"], ["SET", key, 1], ["EXEC"]], [["EVAL", SCRIPT, 1, key]], [["MSET", key, 1, other, 2]], [["FLUSHALL"]]]

    def reads(conn, n):
        before = cluster.calls("get", nodes=[replica])[replica]
        conn.pipeline([["GET", key]] * n)
        return cluster.calls("get", nodes=[replica])[replica] - before
    with cluster.keyweir(head) as keyweir:
        for commands in writes:
            with keyweir.client() as conn:
                wait_until(lambda: reads(conn, 1), what="the replica is read from")
                conn.pipeline(commands)
                assert reads(conn, 10) == 0, commands


@pytest.mark.parametrize("kind", ["password", "tls", "hostnames"])
def test_clusters_of_other_kinds(kind):
    with Certificates() as certs:
        options = {"password": {"password": "s3cret"}, "tls": {"tls": certs, "password": "s3cret"},
                   "hostnames": {"hostnames": True}}[kind]
        with Cluster(**options) as cluster, cluster.keyweir(seeds=cluster.nodes()[-1:]) as keyweir, keyweir.client() as conn:
            keys = [b"k%d" % i for i in range(300)]
            assert conn.cmd("MSET", *[x for k in keys for x in (k, k)]) == "OK"
            cluster.migrate_slots(*cluster.masters()[:2], cluster.slots_of(cluster.masters()[0])[:50])
            cluster.failover(cluster.replicas_of(cluster.masters()[0])[0])
            assert [conn.cmd("GET", k) for k in keys] == keys
            wait_until(lambda conn=conn: conn.cmd("DBSIZE") == 300, what="DBSIZE of the masters that are")
            assert "s3cret" not in keyweir.log()


def test_starts_before_the_cluster_answers():
    with Cluster(replicas=0) as cluster:
        for node in cluster.nodes():
            cluster.stop(node)
        keyweir = cluster.keyweir('connect_timeout = "300ms"\nread_timeout = "300ms"\n', seeds=cluster.all)
        try:
            keyweir.start(wait=False)
            wait_until(lambda: " ready with " in keyweir.log(), what="Keyweir is ready")
            with keyweir.client() as conn:
                assert isinstance(conn.cmd("SET", "k", "v"), RespError)
                for node in cluster.all:
                    cluster.cont(node)
                wait_until(lambda: conn.cmd("SET", "k", "v") == "OK", what="service")
        finally:
            keyweir.stop()


def test_slots_without_an_owner():
    """A cluster with a hole: what is in the hole fails in time, what is not is served."""
    with Cluster(replicas=0, full_coverage=False) as cluster, cluster.keyweir('read_timeout = "500ms"\n') as keyweir:
        hole = cluster.key_on(cluster.masters()[0], "hole")
        for node in cluster.nodes():
            node.cmd("CLUSTER", "DELSLOTS", slot_of(hole))
        with keyweir.client() as conn:
            start = time.monotonic()
            got = conn.cmd("GET", hole)
            assert isinstance(got, RespError) and got.startswith(("CLUSTERDOWN", "UPSTREAMDOWN", "TIMEOUT")), got
            assert time.monotonic() - start < 3 * FACTOR
            assert conn.cmd("SET", cluster.key_on(cluster.masters()[1]), "v") == "OK"
