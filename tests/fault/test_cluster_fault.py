# SPDX-License-Identifier: BSD-2-Clause
"""A Redis Cluster and a Sentinel set under load: masters die, freeze and change, slots and nodes come and go.

cluster_model.py says what each reply may be. Here: who may be refused, for how long, and what it costs the nodes.
"""
import time

import pytest

from cluster_load import Load
from harness.cluster import Cluster, slot_of
from harness.resp import RespError
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, wait_until

BACK = 3.0  # seconds; the promise is 1 s after the election, printed is what it was
CONFIG = 'read_timeout = "500ms"\nconnect_timeout = "500ms"\nhealth_check = "500ms"\n'
ASKED_PER_FETCH = 1  # nodes that one map fetch asks


@pytest.fixture(scope="module")
def cluster():
    """Without full coverage a dead master takes its own slots away and no others."""
    with Cluster(full_coverage=False) as c:
        yield c


@pytest.fixture
def keyweir(cluster):
    cluster.repair()
    for master in cluster.masters():
        master.cmd("FLUSHALL")
    with cluster.keyweir(CONFIG) as proxy:
        yield proxy


def tag_of(cluster, node):
    return cluster.key_on(node)[1:-1]


class Budget:
    """Counts map fetches of all nodes that live through it."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __enter__(self):
        self.before, self.start = self.cluster.map_fetches(), time.monotonic()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            now, took = self.cluster.map_fetches(), time.monotonic() - self.start
            calls = sum(count - self.before.get(node, 0) for node, count in now.items() if count >= self.before.get(node, 0))
            print(f"{calls} map fetches in {took:.1f} s")
            assert calls <= (took + 2) * ASKED_PER_FETCH, f"{calls} map fetches in {took:.1f} s"


def some_load(load, seconds=0.5):
    """Lets it run: everybody is served once more, and then for a while."""
    load.served(time.monotonic(), 10 * FACTOR)
    time.sleep(seconds)  # how much load there is around a fault is arbitrary
    load.check()


def back_in_time(load, elected_at, what):
    took = load.served(elected_at, 10 * FACTOR)
    print(f"{what}: everybody is served {took:.2f} s after the election")
    assert took < BACK * FACTOR, f"{what}: served {took:.2f} s after the election"


def only_refused(load, start, end, tags):
    """Refusals lie between start and end, and with those whose keys have no master. Pub/Sub has no slot."""
    early_or_late = [*load.refusals(end=start), *load.refusals(start=end)]
    assert not early_or_late, early_or_late[:5]
    bystanders = [(w.name, w.refused_at[:3]) for w in load.workers if w.slot_tag and w.slot_tag not in tags and w.refused_at]
    assert not bystanders, bystanders
    assert load.closed == 0, f"{load.closed} connections were closed without need"


def never_refused(load):
    """Redis itself sends blocked clients away when a master is demoted: UNBLOCKED, and nothing was done."""
    bad = [r for r in load.refusals() if not r[2].startswith("UNBLOCKED")]
    assert not bad, bad[:5]
    transactions = sum(w.pair.high for w in load.workers if hasattr(w, "pair"))
    print(f"{load.aborted} of {transactions} transactions were aborted")
    assert load.aborted <= max(transactions // 20, 10)
    assert load.closed == 0, f"{load.closed} connections were closed without need"


def lose_a_master(cluster, keyweir, how, back):
    masters = cluster.masters()
    tags = [tag_of(cluster, m) for m in masters]
    victim, replica = masters[0], cluster.replicas_of(masters[0])[0]
    with Load(keyweir, tags) as load, Budget(cluster):
        some_load(load)
        gone = time.monotonic()
        loss = load.losing(tags[0])
        how(victim)
        loss.end = elected = cluster.wait_promoted(replica)
        back_in_time(load, elected, how.__name__)
        back(victim)
        cluster.wait_ok()
        some_load(load)
    assert load.refusals(), "nobody noticed anything: this test tests nothing"
    only_refused(load, gone - 0.05, elected + BACK * FACTOR, tags[:1])
    load.settle_queues()


def test_a_master_is_killed(cluster, keyweir):
    lose_a_master(cluster, keyweir, cluster.kill, cluster.restart)


def test_a_master_freezes(cluster, keyweir):
    """Its late replies, when it goes on, reach nobody."""
    lose_a_master(cluster, keyweir, cluster.stop, cluster.cont)


def test_masters_change_by_hand(cluster, keyweir):
    masters = cluster.masters()
    with Load(keyweir, [tag_of(cluster, m) for m in masters]) as load, Budget(cluster):
        for _ in range(2):  # there and back
            for master in cluster.masters():
                some_load(load, 0.2)
                cluster.failover(cluster.replicas_of(master)[0])
                back_in_time(load, time.monotonic(), "CLUSTER FAILOVER")
                cluster.wait_ok()
    never_refused(load)
    load.settle_queues()


def test_two_thousand_slots_move_to_and_fro(cluster, keyweir):
    src, dst, third = cluster.masters()
    tags = [tag_of(cluster, m) for m in (src, dst, third)]
    mine = slot_of(tags[0])
    slots = sorted([mine, *[s for s in cluster.slots_of(src) if s != mine][:1999]])
    with keyweir.client() as c:
        for i in range(2000):  # there is something to move
            c.cmd("SET", "bulk%d" % i, i)
    with Load(keyweir, tags) as load, Budget(cluster):
        some_load(load)
        cluster.migrate_slots(src, dst, slots)
        some_load(load)
        cluster.migrate_slots(dst, src, slots)
        some_load(load)
    never_refused(load)
    load.settle_queues()
    with keyweir.client() as c:
        assert c.cmd("MGET", *["bulk%d" % i for i in range(2000)]) == [b"%d" % i for i in range(2000)]


def test_a_node_is_added_and_one_removed(cluster, keyweir):
    masters = cluster.masters()
    tags = [tag_of(cluster, m) for m in masters]
    mine = slot_of(tags[0])
    with Load(keyweir, tags) as load, Budget(cluster):
        some_load(load, 0.2)
        new = cluster.add_master()
        slots = [mine, *[s for s in cluster.slots_of(masters[0]) if s != mine][:200]]
        cluster.migrate_slots(masters[0], new, slots)
        some_load(load)
        assert cluster.node_of_slot(mine) is new
        cluster.migrate_slots(new, masters[0], slots)
        cluster.wait_quiet(new)
        cluster.remove_node(new)
        some_load(load)
    never_refused(load)
    load.settle_queues()


def test_a_frozen_node_does_not_slow_the_others(cluster, keyweir):
    """A node hangs, for less than the time to an election: the others are as quick as before."""
    victim, healthy, _ = cluster.masters()
    key, lost = cluster.key_on(healthy), cluster.key_on(victim)
    with keyweir.client() as c, keyweir.client() as waiting:
        before = min(p99(c, key) for _ in range(3))
        cluster.stop(victim)
        try:
            for _ in range(20):
                waiting.send("GET", lost)
            during = min(p99(c, key, 0.2) for _ in range(3))
        finally:
            cluster.cont(victim)
        print(f"p99 {before * 1e6:.0f} us, with a frozen node {during * 1e6:.0f} us")
        assert during < before * 1.5 + 0.001 * FACTOR
        answers = [waiting.read() for _ in range(20)]
        assert all(a is None or a.startswith(("TIMEOUT", "UPSTREAMDOWN", "CLUSTERDOWN")) for a in answers), answers


def p99(conn, key, seconds=0.3):
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        answer = conn.cmd("GET", key)
        took.append(time.monotonic() - start)
        assert not isinstance(answer, RespError), answer
    return sorted(took)[len(took) * 99 // 100]


# ---- Sentinel ----

@pytest.fixture(scope="module")
def group():
    with SentinelSet() as g:
        yield g


@pytest.fixture
def guarded(group):
    """A Keyweir in front of the Sentinel set."""
    group.repair()
    group.master().cmd("FLUSHALL")
    with group.keyweir(CONFIG) as proxy:
        yield proxy


def lose_the_master(group, guarded, how, back):
    with Load(guarded, ["tag"]) as load:
        some_load(load)
        gone = time.monotonic()
        loss = load.losing("tag")
        old = how()
        new = group.wait_new_master(old)
        loss.end = elected = group.elected_at
        back_in_time(load, elected, how.__name__)
        back(old)
        group.wait_ok()
        some_load(load)
        assert group.master() is new
    assert load.refusals(), "nobody noticed anything: this test tests nothing"
    only_refused(load, gone - 0.05, elected + BACK * FACTOR, ["tag"])
    load.settle_queues()


def test_sentinel_master_is_killed(group, guarded):
    lose_the_master(group, guarded, group.kill_master, group.restart)


def test_sentinel_master_freezes(group, guarded):
    """When it goes on it believes to be the master still: nobody's write may go there."""
    lose_the_master(group, guarded, group.stop_master, group.cont)


def test_sentinel_failover(group, guarded):
    """The old master serves on until it is told: what it takes meanwhile is lost by Redis, by no fault of Keyweir."""
    with Load(guarded, ["tag"]) as load:
        some_load(load)
        start = time.monotonic()
        loss = load.losing("tag")
        old, new = group.failover()
        wait_until(lambda: demoted(old), 30, "the old master is a replica")
        loss.end = switched = time.monotonic()
        back_in_time(load, switched, "SENTINEL FAILOVER")
        group.wait_ok()
        some_load(load)
        assert group.master() is new
    only_refused(load, start, switched + BACK * FACTOR, ["tag"])
    load.settle_queues()


def demoted(server):
    try:
        return server.cmd("ROLE")[0] == b"slave"
    except OSError:
        return False
