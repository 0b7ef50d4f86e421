# SPDX-License-Identifier: BSD-2-Clause
"""A master under Sentinel behind Keyweir: it is found, followed when it changes, and its replicas serve reads."""
import re
import time

import pytest

from harness.resp import RespError
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, Keyweir, calls_of, free_ports, wait_until
from harness.tls import Certificates


@pytest.fixture(scope="module")
def group():
    with SentinelSet() as g:
        yield g


@pytest.fixture(autouse=True)
def settled(request):
    if "group" in request.fixturenames:
        request.getfixturevalue("group").repair()


@pytest.fixture
def keyweir(group):
    with group.keyweir() as proxy:
        yield proxy


def served(conn, what="service"):
    """Waits until a write goes through."""
    return wait_until(lambda: conn.cmd("SET", "served", "1") == "OK", 10, what)


def test_finds_the_master(group, conn):
    assert conn.cmd("SET", "found", "1") == "OK"
    assert group.master().cmd("GET", "found") == b"1"
    assert b"role:master" in conn.cmd("INFO", "replication")


def test_asks_the_next_sentinel(group):
    """The first seed does not exist, the second one is frozen."""
    nothing, = free_ports(1)
    group.sentinels[0].freeze()
    try:
        proxy = group.keyweir()
        proxy.config = proxy.config.replace("nodes = [", 'nodes = ["127.0.0.1:%d", ' % nothing)
        with proxy, proxy.client() as conn:
            served(conn)
    finally:
        group.sentinels[0].thaw()


def test_follows_a_failover(group, keyweir, conn):
    served(conn)
    old, new = group.failover()
    wait_until(lambda: conn.cmd("SET", "where", "new") == "OK" and new.cmd("GET", "where") == b"new", 5, "writes reach it")
    since = time.monotonic() - group.elected_at
    print(f"traffic on the new master {since:.2f} s after its election")
    assert since < 3 * FACTOR
    wait_until(lambda: old.cmd("ROLE")[0] == b"slave", what="the old master is a replica")
    replies = conn.pipeline([["SET", "k%d" % i, i] for i in range(200)])
    assert replies == [b"+OK\r\n"] * 200
    listed = [x for x in old.cmd("CLIENT", "LIST", "TYPE", "normal").decode().splitlines() if "cmd=set" in x]
    assert not listed, "links to the old master are left: %s" % listed


def test_follows_the_death_of_a_master(group, keyweir, conn):
    served(conn)
    old = group.kill_master()
    try:
        refusal = conn.cmd("SET", "k", "v")
        assert isinstance(refusal, RespError) and refusal.startswith("UPSTREAMDOWN"), refusal
        new = group.wait_new_master(old)
        served(conn)
        since = time.monotonic() - group.elected_at
        print(f"traffic flows {since:.2f} s after the election")
        assert since < 3 * FACTOR
        assert new.cmd("GET", "served") == b"1"
    finally:
        group.restart(old)


def test_a_restarted_old_master_is_not_believed(group, keyweir, conn):
    """It comes back and says master until a Sentinel tells it otherwise: no write may go there."""
    served(conn)
    old = group.kill_master()
    new = group.wait_new_master(old)
    served(conn)
    group.restart(old)
    for i in range(200):
        assert conn.cmd("SET", "k", i) == "OK"
    assert new.cmd("GET", "k") == b"199" and calls_of(old, "set") <= 200  # those came by replication
    group.wait_ok()
    assert new.cmd("GET", "k") == b"199" and group.master() is new


def test_blocked_and_subscribed_clients(group, keyweir, conn):
    with keyweir.client() as sub, keyweir.client() as blocked:
        assert sub.cmd("SUBSCRIBE", "news")[2] == 1
        blocked.send("BLPOP", "queue", 0)
        wait_until(lambda: b"blocked_clients:1" in conn.cmd("INFO", "clients"), what="it is blocked")
        group.failover()
        served(conn)
        conn.cmd("RPUSH", "queue", "x")
        answer = blocked.read(10)  # Redis unblocks it with an error; blocked again on the new master is as good
        assert answer == [b"queue", b"x"] or answer.startswith(("UNBLOCKED", "UPSTREAMDOWN")), answer

        def heard():
            conn.cmd("PUBLISH", "news", "again")
            try:
                return sub.read(0.05)[-1] == b"again"
            except TimeoutError:
                return False

        wait_until(heard, 10, "the subscriber hears the new master")


def test_wrong_service_is_said(group):
    keyweir = group.keyweir()
    keyweir.config = keyweir.config.replace('service = "mymaster"', 'service = "nosuch"')
    with keyweir, keyweir.client() as conn:
        assert isinstance(conn.cmd("GET", "k"), RespError)
        wait_until(lambda: [x for x in keyweir.log().splitlines() if "WARN" in x and "nosuch" in x],
                   what="a line that names the service")


def test_no_sentinel_at_all():
    ports = free_ports(2)
    config = 'mode = "sentinel"\nservice = "mymaster"\nnodes = ["127.0.0.1:%d", "127.0.0.1:%d"]\n' % tuple(ports)
    with Keyweir(None, config) as keyweir, keyweir.client() as conn:
        start = time.monotonic()
        assert conn.cmd("GET", "k").startswith("UPSTREAMDOWN")
        assert time.monotonic() - start < 2 * FACTOR
        wait_until(lambda: re.search("WARN.*[Ss]entinel", keyweir.log()), what="a line that says why")


def gets(servers):
    return [calls_of(s, "get") for s in servers]


def test_replicas_serve_reads(group):
    master, replicas = group.master(), group.replicas()
    with group.keyweir('read_from = "replica"\nhealth_check = "200ms"\n') as keyweir, keyweir.client() as conn, \
            keyweir.client() as other:
        assert conn.cmd("SET", "r", "1") == "OK"
        wait_until(lambda: other.cmd("GET", "r") == b"1", what="replicated and read")
        before, at_master = gets(replicas), calls_of(master, "get")
        assert other.pipeline([["GET", "r"]] * 100) == [b"$1\r\n1\r\n"] * 100
        assert sum(gets(replicas)) - sum(before) == 100 and calls_of(master, "get") == at_master


def test_a_client_reads_its_own_writes(group):
    """With replicas that stand still no reader but the writer may see the new value, and that one must."""
    with group.keyweir('read_from = "replica"\nread_your_writes = "30s"\n') as keyweir, keyweir.client() as writer:
        replicas = group.replicas()
        for i in range(100):
            assert writer.cmd("SET", "own", i) == "OK"
            assert writer.cmd("GET", "own") == b"%d" % i
        before = gets(replicas)
        assert writer.pipeline([["SET", "own", "last"], ["GET", "own"]]) == [b"+OK\r\n", b"$4\r\nlast\r\n"]
        assert gets(replicas) == before


def test_master_reads_by_default(group, keyweir, conn):
    replicas = group.replicas()
    before = gets(replicas)
    served(conn)
    assert conn.pipeline([["GET", "served"]] * 50) == [b"$1\r\n1\r\n"] * 50
    assert gets(replicas) == before


def test_prefer_replica_without_replicas():
    with SentinelSet(replicas=1) as group, group.keyweir('read_from = "prefer_replica"\nhealth_check = "200ms"\n') as keyweir, \
            keyweir.client() as conn:
        assert conn.cmd("SET", "k", "v") == "OK"
        group.replicas()[0].kill()
        wait_until(lambda: conn.cmd("GET", "k") == b"v", 5, "reads come from the master")
        assert [conn.cmd("GET", "k") for _ in range(20)] == [b"v"] * 20


def test_a_replica_without_master_is_left_out(group):
    """What it holds may be old. The Sentinels stand still meanwhile, else they would set it right."""
    head = 'read_from = "prefer_replica"\nread_your_writes = 0\nmax_replica_lag = "1s"\nhealth_check = "200ms"\n'
    lost, master = group.replicas()[0], group.master()
    nowhere, = free_ports(1)
    with group.keyweir(head) as keyweir, keyweir.client() as conn:
        served(conn)
        for sentinel in group.sentinels:
            sentinel.freeze()
        try:
            assert lost.cmd("REPLICAOF", "127.0.0.1", nowhere) == "OK"
            wait_until(lambda: not asked_in_fifty(lost, conn), 10, "it is asked no more")
            assert conn.cmd("SET", "lag", "new") == "OK"
            wait_until(lambda: conn.cmd("GET", "lag") == b"new", what="the other replica has it")
            assert [conn.cmd("GET", "lag") for _ in range(50)] == [b"new"] * 50
        finally:
            lost.cmd("REPLICAOF", "127.0.0.1", master.port)
            for sentinel in group.sentinels:
                sentinel.thaw()


def asked_in_fifty(server, conn):
    before = calls_of(server, "get")
    conn.pipeline([["GET", "lag"]] * 50)
    return calls_of(server, "get") - before


@pytest.mark.parametrize("kind", ["auth", "tls"])
def test_sets_of_other_kinds(kind):
    with Certificates() as certs:
        options = {"password": "s3cret", "sentinel_password": "0ther"}
        if kind == "tls":
            options["tls"] = certs
        with SentinelSet(**options) as group, group.keyweir() as keyweir, keyweir.client() as conn:
            assert conn.cmd("SET", "k", "v") == "OK" and group.master().cmd("GET", "k") == b"v"
            _, new = group.failover()
            served(conn, "writes after the failover")
            wait_until(lambda: conn.cmd("SET", "k", "w") == "OK" and new.cmd("GET", "k") == b"w", what="the new master")
            assert "s3cret" not in keyweir.log() and "0ther" not in keyweir.log()


@pytest.mark.parametrize("text", ["MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "TRYAGAIN later", "CLUSTERDOWN it is"])
def test_no_cluster_no_redirection(conn, text):
    """What a script says is its own affair: it has run, once."""
    served(conn)
    conn.cmd("DEL", "runs")
    assert conn.cmd("EVAL", "redis.call('INCR', KEYS[1]) return redis.error_reply('%s')" % text, 1, "runs") == text
    assert conn.cmd("GET", "runs") == b"1"


def test_learns_of_the_new_master(group, keyweir, conn):
    """It was a replica, of which nothing was learnt."""
    served(conn)
    _, new = group.failover()
    served(conn)
    wait_until(lambda: new.cmd("SET", "k", 1) == "OK", what="it is the master")
    before = calls_of(new, "command")
    wait_until(lambda: conn.cmd("NOSUCH").startswith("ERR unknown") and calls_of(new, "command") > before,
               what="it is asked for its commands")
