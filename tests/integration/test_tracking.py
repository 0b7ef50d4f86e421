# SPDX-License-Identifier: BSD-2-Clause
"""The tracking links of the near-cache, as seen from outside: what Redis was asked for, what INFO, KEYWEIR UPSTREAMS and
the log say. What they do with what they hear is unit/test_tracker.c."""
import time

import pytest

from harness.cluster import Cluster
from harness.old import OldRedis, binary
from harness.resp import RespError
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, Redis, calls_of, free_port, wait_until
from harness.tls import Certificates

NEAR = "[namespace.near]\nnear_cache = true\n"
NAME = b"keyweir-tracking"
QUICK = 'reconnect_delay = "20ms"\n'
NO_HELLO = ["--rename-command", "HELLO", ""]
WAYS = {"bcast": [], "redirect": NO_HELLO}


def tracking(proxy, upstream="main"):
    """What INFO says; None while it can't be had, since it is Redis's as well."""
    with proxy.client() as conn:
        info = conn.cmd("INFO", "keyweir")
    for line in [] if isinstance(info, RespError) else info.decode().splitlines():
        if line.startswith("tracking_%s:" % upstream):
            return line.partition(":")[2]
    return None


def wait_tracking(proxy, mode, upstream="main", timeout=10.0):
    wait_until(lambda: tracking(proxy, upstream) == mode, timeout,
               "tracking is %s, and not %s:\n%s" % (mode, tracking(proxy, upstream), proxy.log()))


def nodes(proxy):
    """{port: (role, tracking)} of KEYWEIR UPSTREAMS."""
    with proxy.client() as conn:
        rows = [dict(zip(row[::2], row[1::2])) for row in conn.cmd("KEYWEIR", "UPSTREAMS")]
    return {int(r[b"url"].decode().split("/")[2].rpartition(":")[2]): (r[b"role"].decode(), r[b"tracking"].decode()) for r in rows}


def wait_node(proxy, server, mode, timeout=10.0):
    """The same by KEYWEIR UPSTREAMS, which is always to be had."""
    wait_until(lambda: nodes(proxy).get(server.port) == ("master", mode), timeout,
               "tracking is %s: %s\n%s" % (mode, nodes(proxy), proxy.log()))


def links(server):
    """The tracking links that the server has, as dicts of CLIENT LIST."""
    rows = [dict(f.split(b"=", 1) for f in line.split()) for line in server.cmd("CLIENT", "LIST").splitlines()]
    return [r for r in rows if r[b"name"] == NAME]


def is_tracking(server):
    return any(b"t" in r[b"flags"] for r in links(server))


def asked(server):
    """The CLIENT TRACKING ... that the server was sent; it must have been watched()."""
    log = server.cmd("SLOWLOG", "GET", -1)
    return [b" ".join(entry[3][2:]).decode() for entry in reversed(log) if entry[3][:2] == [b"CLIENT", b"TRACKING"]]


WATCHED = ["--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000"]


def lines(proxy, *parts):
    return [line for line in proxy.log().splitlines() if all(p in line for p in parts)]


# ---- how ----

@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tables, prefixes", [
    (NEAR, " PREFIX near:"),
    ('[namespace.b]\nnear_cache = true\nprefix = "shop:b:"\n[namespace.a]\nnear_cache = true\nmatch = ["a:", "a:b:", "x:"]\n'
     "[namespace.c]\n", " PREFIX a: PREFIX shop:b: PREFIX x:"),
    ("[namespace.default]\nnear_cache = true\n" + NEAR, "")])
def test_asks_for_what_is_kept(fresh_redis, fresh_keyweir, way, tables, prefixes):
    server = fresh_redis([*WATCHED, *WAYS[way]])
    proxy = fresh_keyweir(server, tables)
    wait_tracking(proxy, way)
    rows = links(server)
    assert len(rows) == (1 if way == "bcast" else 2)
    redirect = ""
    if way == "redirect":
        hears = next(r for r in rows if b"P" in r[b"flags"])
        tells = next(r for r in rows if b"B" in r[b"flags"])
        assert tells[b"redir"] == hears[b"id"] and hears[b"sub"] == b"1"
        redirect = "REDIRECT %s " % hears[b"id"].decode()
    else:
        assert rows[0][b"resp"] == b"3" and b"B" in rows[0][b"flags"]
    assert asked(server) == ["ON %sBCAST%s" % (redirect, prefixes)]
    assert nodes(proxy) == {server.port: ("master", way)}
    assert len(lines(proxy, "INFO Tracking Redis at redis://127.0.0.1:%d/0: %s" % (server.port, way))) == 1
    assert not lines(proxy, "WARN")


def test_off_without_a_wish(fresh_redis, fresh_keyweir):
    server = fresh_redis()
    for tables in ("", "[namespace.near]\n", NEAR + "[near_cache]\nmax_memory = 0\n"):
        proxy = fresh_keyweir(server, tables)
        time.sleep(0.3 * FACTOR)
        assert tracking(proxy) == "off" and nodes(proxy) == {server.port: ("master", "off")}
        assert not links(server)
        proxy.stop()


@pytest.mark.skipif(not binary(), reason="no old Redis here")
@pytest.mark.parametrize("way", WAYS)
def test_old_redis(way, fresh_keyweir):
    with OldRedis(WAYS[way]) as server:
        proxy = fresh_keyweir(server, NEAR)
        wait_tracking(proxy, way)
        assert is_tracking(server)
        time.sleep(1)
        assert tracking(proxy) == way  # and it answers


@pytest.mark.parametrize("way", WAYS)
def test_logs_in(fresh_redis, fresh_keyweir, way):
    server = fresh_redis([*WAYS[way], *WATCHED], password="sesame-open")
    assert server.client().cmd("ACL", "SETUSER", "near", "on", ">by-name", "~*", "&*", "+@all") == "OK"
    for url in (server.url, server.url.replace(":sesame-open", "near:by-name")):
        proxy = fresh_keyweir(url, NEAR + '[log]\nlevel = "debug"\n')
        wait_tracking(proxy, way)
        user = b"near" if "near" in url else b"default"
        with server.client() as conn:
            rows = [dict(f.split(b"=", 1) for f in line.split()) for line in conn.cmd("CLIENT", "LIST").splitlines()]
        assert {r[b"user"] for r in rows if r[b"name"] == NAME} == {user}
        assert "sesame-open" not in proxy.log() and "by-name" not in proxy.log()
        proxy.stop()


@pytest.mark.parametrize("way", WAYS)
def test_over_tls(fresh_keyweir, way):
    with Certificates() as certs, Redis(WAYS[way], tls=certs) as server:
        proxy = fresh_keyweir(server, certs.upstream_table() + NEAR)
        wait_tracking(proxy, way)
        time.sleep(1)
        assert tracking(proxy) == way and is_tracking(server)
        server.freeze()
        wait_node(proxy, server, "lost", timeout=1.5)
        server.thaw()
        wait_tracking(proxy, way)


# ---- a server that can't ----

@pytest.mark.parametrize("staleness, words", [("", "The near-cache keeps its replies not at all."),
                                              ("[near_cache]\nmax_staleness = 2\n", "The near-cache keeps its replies for max_staleness.")])
def test_forbidden(fresh_redis, fresh_keyweir, staleness, words):
    server = fresh_redis()
    assert server.cmd("ACL", "SETUSER", "near", "on", ">x", "~*", "&*", "+@all", "-client|tracking") == "OK"
    proxy = fresh_keyweir("redis://near:x@127.0.0.1:%d" % server.port, QUICK + NEAR + staleness)
    wait_tracking(proxy, "none")
    assert len(links(server)) == 1 and not is_tracking(server)
    assert len(lines(proxy, "WARN", "does not tell what changes there: NOPERM", words)) == 1
    # Allowed again, that is found out with the next connection. The same is said once only.
    before, = links(server)
    server.cmd("CLIENT", "KILL", "ID", before[b"id"])
    wait_until(lambda: links(server) and links(server)[0][b"id"] != before[b"id"], what="it is back")
    wait_tracking(proxy, "none")
    assert len(lines(proxy, "WARN", "does not tell what changes")) == 1
    assert server.cmd("ACL", "SETUSER", "near", "+client|tracking") == "OK"
    server.cmd("CLIENT", "KILL", "ID", links(server)[0][b"id"])
    wait_tracking(proxy, "bcast")
    assert is_tracking(server) and len(lines(proxy, "INFO Tracking")) == 1


def test_forbidden_without_hello(fresh_redis, fresh_keyweir):
    """Redis 7 gives new users no channels."""
    server = fresh_redis([*NO_HELLO, "--acl-pubsub-default", "resetchannels"])
    assert server.cmd("ACL", "SETUSER", "near", "on", ">x", "~*", "+@all") == "OK"
    proxy = fresh_keyweir("redis://near:x@127.0.0.1:%d" % server.port, NEAR)
    wait_tracking(proxy, "none")
    assert len(links(server)) == 1 and not is_tracking(server)


# ---- lost ----

@pytest.mark.parametrize("way", WAYS)
def test_killed_link_is_back(fresh_redis, fresh_keyweir, way):
    """Each time; but one that is cut again and again is told of once in ten seconds."""
    server = fresh_redis(WAYS[way])
    proxy = fresh_keyweir(server, QUICK + NEAR)
    wait_tracking(proxy, way)
    since = time.monotonic()
    for n in range(4):
        before = {r[b"id"] for r in links(server)}
        server.cmd("CLIENT", "KILL", "ID", sorted(before)[n % len(before)])
        wait_until(lambda: is_tracking(server) and not before & {r[b"id"] for r in links(server)}, what="new links")
        wait_tracking(proxy, way)
        if time.monotonic() - since < 9:
            assert len(lines(proxy, "WARN Lost the tracking link to Redis at", "Redis closed the connection")) == 1
            assert len(lines(proxy, "INFO Tracking Redis at")) == 2
    assert len(lines(proxy, "WARN")) == len(lines(proxy, "INFO Tracking Redis at")) - 1
    assert len(links(server)) == (1 if way == "bcast" else 2)  # none is left over


def test_master_is_demoted(fresh_redis, fresh_keyweir):
    """Its address may lead to the new one by now: the link is made anew, and nothing is kept of one that was a master."""
    server = fresh_redis()
    proxy = fresh_keyweir(server, QUICK + NEAR)
    wait_tracking(proxy, "bcast")
    server.cmd("SET", "near:k", "v")
    with proxy.client() as conn:
        wait_until(lambda: from_memory(server, conn), what="it is kept")
        assert server.cmd("REPLICAOF", "127.0.0.1", free_port()) == "OK"
        wait_until(lambda: lines(proxy, "WARN Lost the tracking link", "it was a master, and is a replica"), what="it is said")
        assert not from_memory(server, conn)
        assert server.cmd("REPLICAOF", "NO", "ONE") == "OK"
        wait_until(lambda: from_memory(server, conn), 20, "it is kept again")
    assert len(lines(proxy, "WARN")) == 1


def from_memory(server, conn):
    """Whether a key that was just read is read without a word to Redis."""
    assert conn.cmd("GET", "near:k") == b"v"
    before = calls_of(server, "get")
    assert conn.cmd("GET", "near:k") == b"v"
    return calls_of(server, "get") == before


@pytest.mark.parametrize("way", WAYS)
def test_frozen_redis(fresh_redis, fresh_keyweir, way):
    server = fresh_redis(WAYS[way])
    proxy = fresh_keyweir(server, NEAR)
    wait_tracking(proxy, way)
    before = links(server)
    server.freeze()
    since = time.monotonic()
    wait_node(proxy, server, "lost")
    assert time.monotonic() - since < 1.0 * FACTOR
    server.thaw()
    wait_node(proxy, server, way)
    # It was short: the link is the same, and what it told stands.
    if time.monotonic() - since < 1.8:
        assert [r[b"id"] for r in links(server)] == [r[b"id"] for r in before]
        assert not lines(proxy, "WARN")
    # A long one ends it.
    server.freeze()
    wait_until(lambda: lines(proxy, "WARN Lost the tracking link", "it is silent"), 20, "it is said")
    server.thaw()
    wait_node(proxy, server, way)
    wait_until(lambda: len(links(server)) == len(before), what="none is left over")
    assert len(lines(proxy, "WARN Lost the tracking link")) == 1 and len(lines(proxy, "INFO Tracking Redis at")) == 2


def test_redis_is_gone(fresh_redis, fresh_keyweir):
    """That is said once, and not by the tracker. What it can is found out anew when it is back."""
    server = fresh_redis()
    proxy = fresh_keyweir(server, QUICK + NEAR)
    wait_tracking(proxy, "bcast")
    server.kill()
    wait_node(proxy, server, "lost")
    wait_tracking(proxy, "lost")
    time.sleep(0.3)
    server.args = NO_HELLO
    server.start()
    wait_tracking(proxy, "redirect")
    assert len(lines(proxy, "WARN")) == 1 and len(lines(proxy, "WARN Lost the connection to Redis")) == 1
    assert len(lines(proxy, "INFO Tracking Redis at")) == 2


def test_redis_is_not_there_yet(fresh_keyweir):
    port = free_port()
    proxy = fresh_keyweir("redis://127.0.0.1:%d" % port, QUICK + NEAR)
    wait_tracking(proxy, "lost")  # the first INFO may be the one that finds out
    time.sleep(0.3)
    assert len(lines(proxy, "WARN")) == 1
    with Redis(port=port) as server:
        wait_tracking(proxy, "bcast")
        assert is_tracking(server)
        proxy.stop()


# ---- another configuration, several upstreams ----

def test_reload(fresh_redis, fresh_keyweir):
    server = fresh_redis(WATCHED)
    proxy = fresh_keyweir(server, "")
    assert tracking(proxy) == "off"
    proxy.reload(NEAR)
    wait_tracking(proxy, "bcast")
    same = links(server)[0][b"id"]
    proxy.reload(NEAR + "[log]\nslow = 5\n")
    time.sleep(0.3)
    assert tracking(proxy) == "bcast" and links(server)[0][b"id"] == same
    proxy.reload(NEAR + "[namespace.more]\nnear_cache = true\n")
    wait_until(lambda: links(server) and links(server)[0][b"id"] != same, what="it begins anew")
    wait_tracking(proxy, "bcast")
    assert asked(server) == ["ON BCAST PREFIX near:", "ON BCAST PREFIX more: PREFIX near:"]
    proxy.reload("[namespace.near]\n")
    wait_tracking(proxy, "off")
    wait_until(lambda: not links(server), what="it hangs up")
    assert not lines(proxy, "WARN")


def test_each_upstream_for_itself(fresh_redis, fresh_keyweir):
    main, two, three = fresh_redis(WATCHED), fresh_redis([*WATCHED, *NO_HELLO]), fresh_redis()
    others = "".join('[upstream.%s]\nurl = "%s"\n' % (name, s.url) for name, s in (("two", two), ("three", three)))
    proxy = fresh_keyweir(main, others + NEAR + '[namespace.b]\nnear_cache = true\nupstream = "two"\n'
                          '[namespace.c]\nupstream = "three"\n')
    wait_tracking(proxy, "bcast")
    wait_tracking(proxy, "redirect", "two")
    assert tracking(proxy, "three") == "off" and not links(three)
    assert asked(main) == ["ON BCAST PREFIX near:"] and asked(two)[0].endswith(" BCAST PREFIX b:")
    main.freeze()
    wait_node(proxy, main, "lost")
    assert nodes(proxy)[two.port] == ("master", "redirect") and nodes(proxy)[three.port] == ("master", "off")
    main.thaw()
    wait_tracking(proxy, "bcast")


# ---- masters that change ----

def test_sentinel_failover():
    with SentinelSet(replicas=1, sentinels=3) as group, group.keyweir(QUICK, NEAR) as proxy:
        wait_tracking(proxy, "bcast")
        old = group.master()
        assert is_tracking(old) and nodes(proxy)[old.port] == ("master", "bcast")
        assert all(mode == "off" for role, mode in nodes(proxy).values() if role == "replica")
        _, new = group.failover()
        wait_until(lambda: nodes(proxy).get(new.port) == ("master", "bcast"), 20, "the new master is tracked")
        wait_until(lambda: is_tracking(new) and not links(old), 10, "and the old one no more")
        wait_tracking(proxy, "bcast")


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as c:
        yield c


def tracked(proxy):
    return {port for port, (role, mode) in nodes(proxy).items() if mode == "bcast"}


def test_cluster(cluster):
    cluster.repair()
    with cluster.keyweir(QUICK, NEAR) as proxy:
        wait_tracking(proxy, "bcast")
        masters = cluster.masters()
        assert tracked(proxy) == {m.port for m in masters}
        assert all(is_tracking(m) for m in masters)
        assert not any(links(n) for n in cluster.nodes() if n not in masters)
        # One that is lost is the worst of them.
        masters[0].freeze()
        wait_node(proxy, masters[0], "lost")
        assert {m.port for m in masters[1:]} <= tracked(proxy)
        masters[0].thaw()
        wait_tracking(proxy, "bcast")
        cluster.wait_ok()


def test_cluster_failover(cluster):
    cluster.repair()
    with cluster.keyweir(QUICK, NEAR) as proxy:
        wait_tracking(proxy, "bcast")
        old = cluster.masters()[0]
        new = cluster.replicas_of(old)[0]
        cluster.failover(new)
        wait_until(lambda: new.port in tracked(proxy) and old.port not in tracked(proxy), 10, "the new master is tracked")
        wait_until(lambda: is_tracking(new) and not links(old), 10, "and the old one no more")
        assert tracked(proxy) == {m.port for m in cluster.masters()}


def test_cluster_grows(cluster):
    """A node whose slots come and go is noticed by itself: the map is fetched without a client that is redirected."""
    cluster.repair()
    with cluster.keyweir(QUICK + 'health_check = "60s"\n', NEAR) as proxy:
        wait_tracking(proxy, "bcast")
        src, new = cluster.masters()[0], cluster.add_master()
        try:
            cluster.migrate_slots(src, new, cluster.slots_of(src)[:10])
            wait_until(lambda: new.port in tracked(proxy), 10, "the new master is tracked")
            assert src.port in tracked(proxy)
            cluster.migrate_slots(new, src, cluster.slots_of(new))
        finally:
            cluster.wait_ok()
            cluster.remove_node(new)
        wait_until(lambda: new.port not in tracked(proxy), 10, "it is gone")


def test_absent_key_of_a_slot_on_its_way(cluster):
    """It may be made on the other node. That one tells, where it can; the one that said that it is absent does not."""
    cluster.repair()
    src, dst = cluster.masters()[:2]
    assert dst.cmd("ACL", "SETUSER", "default", "-client|tracking") == "OK"
    with cluster.keyweir(QUICK, NEAR) as proxy, proxy.client() as conn:
        wait_node(proxy, src, "bcast")
        wait_node(proxy, dst, "none")
        assert tracking(proxy) == "none"  # the worst of them
        assert dst.cmd("ACL", "SETUSER", "default", "+client|tracking") == "OK"
        key = next(k for k in ("near:{%d}" % i for i in range(1000)) if cluster.node_of_key(k) is src)
        slot = cluster.slot_of(key)
        assert conn.cmd("GET", key) is None
        asked_for = calls_of(src, "get")
        assert conn.cmd("GET", key) is None and calls_of(src, "get") == asked_for  # from memory
        cluster.begin_migration(src, dst, slot)
        with dst.client() as other:
            assert other.cmd("ASKING") == "OK" and other.cmd("SET", key, "made") == "OK"
        wait_until(lambda: conn.cmd("GET", key) == b"made", 2, "it is seen")
        cluster.end_migration(src, dst, slot)
        assert conn.cmd("GET", key) == b"made"
        cluster.migrate_slots(dst, src, [slot])


def test_swapped_databases(fresh_redis, fresh_keyweir):
    """Of SWAPDB Redis tells nobody."""
    server = fresh_redis()
    proxy = fresh_keyweir(server, NEAR)
    wait_tracking(proxy, "bcast")
    with proxy.client() as conn, server.client() as other:
        assert other.cmd("SET", "near:k", "old") == "OK"
        wait_until(lambda: conn.cmd("GET", "near:k") == b"old", 2)
        before = calls_of(server, "get")
        assert conn.cmd("GET", "near:k") == b"old" and calls_of(server, "get") == before  # from memory
        assert other.cmd("SWAPDB", 0, 1) == "OK"
        wait_until(lambda: conn.cmd("GET", "near:k") is None, 2, "it is seen")
        # Where Redis does not count calls nobody can see it; through Keyweir it is known.
        assert other.cmd("SWAPDB", 0, 1) == "OK"
        wait_until(lambda: conn.cmd("GET", "near:k") == b"old", 2, "it is seen")
        assert other.cmd("CONFIG", "SET", "latency-tracking", "no") == "OK"
        time.sleep(0.3)
        assert conn.cmd("GET", "near:k") == b"old" and conn.cmd("SWAPDB", 0, 1) == "OK"
        assert conn.cmd("GET", "near:k") is None


def test_who_may_not_look(cluster):
    """In a Cluster what a node says of itself must be known."""
    cluster.repair()
    for node in cluster.nodes():
        assert node.cmd("ACL", "SETUSER", "near", "on", ">x", "~*", "&*", "+@all", "-cluster|info") == "OK"
    proxy = cluster.keyweir("", NEAR)
    proxy.url = proxy.url.replace("//", "//near:x@")
    with proxy:
        wait_tracking(proxy, "bcast")
        wait_until(lambda: len(lines(proxy, "WARN", "does not say how it is: NOPERM")) == 3, what="said for each")
        time.sleep(0.5)
        assert len(lines(proxy, "does not say how it is")) == 3
