# SPDX-License-Identifier: BSD-2-Clause
"""The near-cache never knowingly tells what is no more: a model checker, near_model.py.

NEAR_MODEL_SECONDS (60) of load on a standalone Redis with faults of all kinds; NEAR_SEED to choose as it chose before.
"""
import contextlib
import os
import random
import re
import time

import pytest

from harness.cluster import Cluster, slot_of
from harness.namespaces import table_of
from harness.relay import Relay
from harness.sealed import Ring
from harness.sentinel import SentinelSet
from harness.servers import Keyweir, Redis
from near_faults import Failovers, Faults, Moves
from near_load import Person, Route, Space
from near_model import Node, Run, World
from near_wrong import FAULTS, WrongCache

SECONDS = float(os.environ.get("NEAR_MODEL_SECONDS", "60"))
SEED = int(os.environ.get("NEAR_SEED", "0")) or int(time.time())
SEVERAL = max(SECONDS * 0.4, 24.0)  # of load on Sentinel, and on a Cluster
ROUND = 15.0  # seconds of load between two judgements
KEY = "2026a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NEAR = "near_cache = true\n"
TABLES = (table_of(NEAR, "a", "a:", "a:") + table_of(NEAR, "b", "b:", "shop:b:") + table_of(NEAR + "encrypt = true\n", "c", "c:", "c:")
          + '[encryption]\nkeys = ["%s"]\n' % KEY)
SPACES = [Space("a", "a:", "a:", 8), Space("b", "b:", "shop:b:", 6), Space("c", "c:", "c:", 4, sealed=True)]
FEW = [Space("a", "a:", "a:", 4), Space("b", "b:", "b:", 2)]
RING = Ring([KEY])


def opened(kind, key, field, value):
    """The values of space c are sealed."""
    return RING.open(kind, key, field, value) if key.startswith(b"c:") else value


def crowd(routes, seed, each=10, spaces=SPACES, **options):
    """`each` clients by every Keyweir, four at Redis; RESP2 and RESP3 by turns, some in database 1."""
    people = []
    for route in routes:
        for i in range(each if route.number is not None else 4):
            rng = random.Random(seed * 1000 + len(people))
            given = {"proto": 2 + i % 2, "writes": (0.3, 0.1, 0.03)[i % 3], "db": 1 if i % 5 == 4 else 0,
                     "rare": 0.15 if i == 0 else 0.0, **options}
            given["db"] = options.get("db", given["db"])
            people.append(Person(len(people) + 1, route, spaces, rng, given))
    random.Random(seed).shuffle(people)
    return people


def rounds(seconds):
    count = max(int(seconds / ROUND), 1)
    return [seconds / count] * count


@contextlib.contextmanager
def standalone(redis_args=(), workers=2):
    """A Redis, and two Keyweirs behind a relay."""
    with Redis(list(redis_args)) as redis, Relay([redis.port, redis.port]) as relay, \
            Keyweir(relay.url(0), TABLES, workers=workers) as one, Keyweir(relay.url(1), TABLES, workers=workers) as other:
        yield redis, relay, [one, other]


def hits_of(keyweirs):
    """How much came from memory, in words; a model that sees no hits tests nothing."""
    sums = {}
    for keyweir in keyweirs:
        with keyweir.client(3) as conn:
            for name, value in conn.cmd("KEYWEIR", "CACHE", "STATS").items():
                if isinstance(value, int):
                    sums[name] = sums.get(name, 0) + value
    reads = sum(sums[k] for k in (b"hits", b"misses", b"coalesced"))
    assert sums[b"hits"] > reads / 20, sums
    return "%d of %d reads were hits, %d joined another; %d items were replaced, %d invalidated by Redis, %d by own writes, %d void" % (
        sums[b"hits"], reads, sums[b"coalesced"], sums[b"replaced"], sums[b"invalidated_tracked"], sums[b"invalidated_own_write"],
        sums[b"invalidated_outdated"])


def run_standalone(seconds, redis_args=(), keeps=False, only=None):
    with standalone(redis_args) as (redis, relay, keyweirs):
        routes = [Route(i, k.port, "Keyweir %d" % i) for i, k in enumerate(keyweirs)] + [Route(None, redis.port, "Redis")]
        node = Node(redis, "redis")
        world = World([node], lambda: lambda key: "redis", lambda: ["redis"],
                      lambda: {0: keyweirs[0].pid, 1: keyweirs[1].pid, "relay": relay.pid, "redis": redis.pid}, (0, 1), opened)
        with Run(world, crowd(routes, SEED), SPACES, SEED) as run:
            faults = Faults(relay, node, keeps=keeps, only=only)
            for part in rounds(seconds):
                run.round(part, faults)
        print("seed %d: %s; %d errors, %d connections closed; %s" % (SEED, run.tally, run.errors, run.closed, hits_of(keyweirs)))


def test_standalone_with_all_faults():
    run_standalone(SECONDS)


def test_standalone_that_keeps_its_data():
    """With an append-only file everything is as it was when Redis is back; only what was under way is in doubt."""
    run_standalone(SECONDS / 4, ["--appendonly", "yes", "--appendfsync", "everysec"], True, ["kill", "cut", "jitter", "delay"])


@pytest.mark.long
def test_standalone_for_ten_minutes():
    run_standalone(600)


# ---- several servers ----

TIMES = 'read_timeout = "500ms"\nconnect_timeout = "500ms"\nhealth_check = "500ms"\n'


def run_several(nodes, owner, masters, keyweirs, direct, rounds_, clustered=False):
    """rounds_: [(seconds, faults)]."""
    routes = [Route(i, k.port, "Keyweir %d" % i) for i, k in enumerate(keyweirs)]
    routes += [Route(None, direct, "Redis")] if direct else []
    world = World(nodes, owner, masters,
                  lambda: {**{i: k.pid for i, k in enumerate(keyweirs)}, **{n.name: n.server.pid for n in nodes}}, (0,), opened)
    people = crowd(routes, SEED, clustered=clustered, db=0)
    with Run(world, people, SPACES, SEED) as run:
        for seconds, faults in rounds_:
            run.round(seconds, faults)
    print("seed %d: %s; %d errors, %d connections closed; %s" % (SEED, run.tally, run.errors, run.closed, hits_of(keyweirs)))


def test_sentinel_failovers():
    with SentinelSet() as group:
        nodes = [Node(server, "redis%d" % server.port) for server in group.servers]

        def master():
            return "redis%d" % group.master().port

        def owner():
            name = master()
            return lambda key: name
        with group.keyweir(TIMES, TABLES) as one, group.keyweir(TIMES, TABLES) as other:
            run_several(nodes, owner, lambda: [master()], [one, other], group.master().port,
                        [(SEVERAL / 3, Failovers(group, how)) for how in ("kill", "freeze", "order")])


def test_cluster_with_slots_that_move_and_masters_that_fail():
    with Cluster() as cluster:
        nodes = [Node(server, "redis%d" % server.port) for server in cluster.all]

        def owner():
            rows = [(r, "redis%d" % r.port) for r in cluster.view() if "master" in r.flags and r.slots]
            return lambda key: next(name for row, name in rows if row.covers(slot_of(key)))

        def masters():
            return ["redis%d" % m.port for m in cluster.masters()]
        slots = sorted({slot_of("{%s%d}" % (s.name, tag)) for s in SPACES for tag in range(s.tags) if s.name != "b"})
        with cluster.keyweir(TIMES, TABLES) as one, cluster.keyweir(TIMES, TABLES) as other:
            run_several(nodes, owner, masters, [one, other], None,
                        [(SEVERAL / 3, Moves(cluster, slots, how)) for how in (None, "freeze", "kill")], clustered=True)


# ---- whether it finds anything ----

# How to bring it about soon; the others show themselves without any help. Scripts and transactions put up fences.
HELP = {"no heartbeat": ["hush"], "no fence": ["delay"], "no time": ["deaf"], "no lease": ["jitter"]}
MILD = ["cut", "delay", "freeze", "deaf", "jitter"]
SOON = ("no heartbeat", "no own writes", "no fence", "no lease", "no time")  # the others are found even easier
NO_FENCES = {"scripts": 0.0, "transactions": 0.0}
CROWDS = {"no heartbeat": NO_FENCES, "no time": NO_FENCES, "no fence": {"scripts": 0.15}}


def run_wrong(fault, seconds, count, seed):
    """Two small caches in Python in the place of the Keyweirs, for so many rounds."""
    with Redis() as redis, Relay([redis.port, redis.port]) as relay, \
            WrongCache(relay.ports[0], fault) as one, WrongCache(relay.ports[1], fault) as other:
        caches = [one, other]
        routes = [Route(i, c.port, "cache %d" % i) for i, c in enumerate(caches)] + [Route(None, redis.port, "Redis")]
        node = Node(redis, "redis")
        world = World([node], lambda: lambda key: "redis", lambda: ["redis"],
                      lambda: {0: one.pid, 1: other.pid, "relay": relay.pid, "redis": redis.pid}, (0, 1))
        with Run(world, crowd(routes, seed, spaces=FEW, alike=0.9, **CROWDS.get(fault, {})), FEW, seed) as run:
            for _ in range(count):
                run.round(seconds, Faults(relay, node, only=HELP.get(fault, MILD)), quiet=fault is None)
        return run.tally


@pytest.mark.parametrize("fault", [f if f in SOON else pytest.param(f, marks=pytest.mark.long) for f in FAULTS],
                         ids=lambda f: f.replace(" ", "-"))
def test_the_checker_finds(fault):
    """Caches that are wrong in one way: else this test would test nothing."""
    with pytest.raises(AssertionError) as found:
        run_wrong(fault, 4, 8, SEED)
    assert re.search(FAULTS[fault], str(found.value)), str(found.value)[:2000]
    print(str(found.value)[:600])


def test_the_checker_finds_nothing_in_what_is_right():
    print(run_wrong(None, 5, 2, SEED))
