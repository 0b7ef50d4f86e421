# SPDX-License-Identifier: BSD-2-Clause
"""The harness itself, without Keyweir: what the other tests do to a Cluster, a Sentinel set and TLS works here."""
import ssl

import pytest

from harness.cluster import Cluster, Refused, follow, slot_of
from harness.resp import Conn
from harness.sentinel import SentinelSet
from harness.servers import Redis
from harness.tls import Certificates

REFUSED = (ssl.SSLError, ConnectionError)


@pytest.fixture(scope="module")
def certs():
    with Certificates() as c:
        yield c


@pytest.mark.parametrize("key, slot", [("123456789", 12739), ("{user1000}.following", 3443), ("foo{}{bar}", 8363),
                                       ("foo{{bar}}zap", 4015), ("foo{bar}{zap}", 5061), ("", 0)])
def test_slots_as_the_specification_has_them(key, slot):
    assert slot_of(key) == slot


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls, password and hostnames"])
def test_cluster(certs, secure):
    options = {"tls": certs, "password": "pw", "hostnames": True, "full_coverage": False} if secure else {}
    with Cluster(**options) as cluster:
        first, second, _ = cluster.masters()
        replica, = cluster.replicas_of(first)
        keys = ["k%d" % i for i in range(100)]
        assert [follow(cluster, "SET", k, k) for k in keys] == ["OK"] * 100
        slots = cluster.slots_of(first)[:500]
        cluster.migrate_slots(first, second, slots)
        assert cluster.node_of_slot(slots[0]) is second
        cluster.migrate_slots(second, first, slots)
        cluster.failover(replica)
        cluster.wait_ok()
        assert replica in cluster.masters() and first not in cluster.masters()
        cluster.kill(replica)
        cluster.wait_promoted(first)
        cluster.restart(replica)
        cluster.wait_ok()
        cluster.stop(first)
        cluster.wait_promoted(replica)
        cluster.cont(first)
        cluster.wait_ok()
        assert [follow(cluster, "GET", k) for k in keys] == [k.encode() for k in keys]
        assert sum(cluster.map_fetches().values()) == 0


def test_members_of_a_cluster():
    with Cluster(replicas=0) as cluster:
        new, old = cluster.add_master(), cluster.masters()[0]
        slots = cluster.slots_of(old)[:20]
        cluster.migrate_slots(old, new, slots)
        cluster.wait_ok()
        with pytest.raises(AssertionError, match="still has slots"):
            cluster.remove_node(new)
        cluster.migrate_slots(new, old, slots)
        cluster.remove_node(new)
        cluster.wait_ok()
        assert len(cluster.nodes()) == 3 and all(len(n.rows()) == 3 for n in cluster.nodes())
        with pytest.raises(Refused, match="already the owner"):
            cluster.begin_migration(old, old, slots[0])


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls and passwords"])
def test_sentinels(certs, secure):
    options = {"tls": certs, "password": "pw", "sentinel_password": "spw"} if secure else {}
    with SentinelSet(**options) as group:
        first = group.master()
        with first.client() as conn:
            assert [conn.cmd("SET", "k", "v"), conn.cmd("WAIT", 2, 5000)] == ["OK", 2]
        old, new = group.failover()
        assert old is first and new is not first and new.cmd("GET", "k") == b"v"
        group.wait_ok()
        assert [s.cmd("GET", "k") for s in group.servers] == [b"v"] * 3
        old = group.kill_master()
        newest = group.wait_new_master(old)
        group.restart(old)
        group.wait_ok()
        assert group.master() is newest and newest.cmd("GET", "k") == b"v" and len(group.replicas()) == 2
        group.stop_master()
        group.cont(newest)
        group.wait_ok()


def accepted(port, context):
    """A server of TLS 1.3 says no to a client's certificate when the client believes to be done."""
    try:
        with Conn(port=port, tls=context) as conn:
            return conn.cmd("PING") == "PONG"
    except REFUSED:
        return False


def test_certificates(certs):
    with Redis(tls=certs) as redis:
        assert accepted(redis.port, certs.client_context()) and accepted(redis.port, certs.client_context(None))
        assert not accepted(redis.port, certs.client_context("other-client"))
        assert not accepted(redis.port, certs.client_context("expired"))
        assert not accepted(redis.port, certs.client_context(ca="other-ca"))
        for cert, says in (("misnamed", "IP address mismatch"), ("expired", "certificate has expired"),
                           ("other-server", "unable to get local issuer")):
            redis.cmd("CONFIG", "SET", "tls-cert-file", certs.crt(cert), "tls-key-file", certs.key(cert))
            with pytest.raises(ssl.SSLCertVerificationError, match=says):
                Conn(port=redis.port, tls=certs.client_context())
            with Conn(port=redis.port, tls=_blind()) as conn:  # the way back
                conn.cmd("CONFIG", "SET", "tls-cert-file", certs.crt("server"), "tls-key-file", certs.key("server"))


def _blind():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
