# SPDX-License-Identifier: BSD-2-Clause
"""The near-cache never knowingly tells what is no more: a model checker, near_model.py.

NEAR_MODEL_SECONDS (60) of load on a standalone Redis with faults of all kinds; NEAR_SEED to choose as it chose before.
"""
import contextlib
import os
import random
import time

import pytest

from harness.namespaces import table_of
from harness.relay import Relay
from harness.sealed import Ring
from harness.servers import Keyweir, Redis
from near_faults import Faults
from near_load import Person, Route, Space
from near_model import Node, Run, World
from near_wrong import FAULTS, WrongCache

SECONDS = float(os.environ.get("NEAR_MODEL_SECONDS", "60"))
SEED = int(os.environ.get("NEAR_SEED", "0")) or int(time.time())
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
            given = {"proto": 2 + i % 2, "db": 1 if i % 5 == 4 and not options.get("clustered") else 0,
                     "rare": 0.15 if i == 0 else 0.0, **options}
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
        print("seed %d: %s; %d errors, %d connections closed" % (SEED, run.tally, run.errors, run.closed))
        return run


def test_standalone_with_all_faults():
    run_standalone(SECONDS)


# How to bring it about soon; the others show themselves without any help.
HELP = {"no heartbeat": ("hush",), "no fence": ("delay",), "no time": ("deaf",), "no lease": ("jitter",)}
MILD = ("cut", "delay", "freeze", "deaf", "jitter")


def run_wrong(fault, seconds, count, seed):
    """Two small caches in Python in the place of the Keyweirs, for so many rounds."""
    with Redis() as redis, Relay([redis.port, redis.port]) as relay, \
            WrongCache(relay.ports[0], fault) as one, WrongCache(relay.ports[1], fault) as other:
        caches = [one, other]
        routes = [Route(i, c.port, "cache %d" % i) for i, c in enumerate(caches)] + [Route(None, redis.port, "Redis")]
        node = Node(redis, "redis")
        world = World([node], lambda: lambda key: "redis", lambda: ["redis"],
                      lambda: {0: one.pid, 1: other.pid, "relay": relay.pid, "redis": redis.pid}, (0, 1))
        with Run(world, crowd(routes, seed, spaces=FEW, scripts=0.15 if fault == "no fence" else 0.02, alike=0.9), FEW, seed) as run:
            for _ in range(count):
                run.round(seconds, Faults(relay, node, only=HELP.get(fault, MILD)))
        return run


@pytest.mark.parametrize("fault", list(FAULTS), ids=lambda f: f.replace(" ", "-"))
def test_the_checker_finds(fault):
    """Caches that are wrong in one way: else this test would test nothing."""
    with pytest.raises(AssertionError) as found:
        run_wrong(fault, 4, 8, SEED)
    assert " violations\n" in str(found.value) or "EXEC of" in str(found.value), str(found.value)[:2000]
    print(str(found.value)[:600])


def test_the_checker_finds_nothing_in_what_is_right():
    print(run_wrong(None, 5, 2, SEED).tally)
