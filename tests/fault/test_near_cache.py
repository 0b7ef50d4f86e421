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

SECONDS = float(os.environ.get("NEAR_MODEL_SECONDS", "60"))
SEED = int(os.environ.get("NEAR_SEED", "0")) or int(time.time())
ROUND = 15.0  # seconds of load between two judgements
KEY = "2026a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NEAR = "near_cache = true\n"
TABLES = (table_of(NEAR, "a", "a:", "a:") + table_of(NEAR, "b", "b:", "shop:b:") + table_of(NEAR + "encrypt = true\n", "c", "c:", "c:")
          + '[encryption]\nkeys = ["%s"]\n' % KEY)
SPACES = [Space("a", "a:", "a:", 8), Space("b", "b:", "shop:b:", 6), Space("c", "c:", "c:", 4, sealed=True)]
RING = Ring([KEY])


def opened(kind, key, field, value):
    """The values of space c are sealed."""
    return RING.open(kind, key, field, value) if key.startswith(b"c:") else value


def crowd(routes, seed, each=10, **options):
    """`each` clients by every Keyweir, four at Redis; RESP2 and RESP3 by turns, some in database 1."""
    people = []
    for route in routes:
        for i in range(each if route.number is not None else 4):
            rng = random.Random(seed * 1000 + len(people))
            given = {"proto": 2 + i % 2, "db": 1 if i % 5 == 4 and not options.get("clustered") else 0,
                     "rare": 0.15 if i == 0 else 0.0, **options}
            people.append(Person(len(people) + 1, route, SPACES, rng, given))
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
                      lambda: [k.pid for k in keyweirs] + [relay.pid, redis.pid], (0, 1), opened)
        with Run(world, crowd(routes, SEED), SPACES, SEED) as run:
            faults = Faults(relay, node, keeps=keeps, only=only)
            for part in rounds(seconds):
                run.round(part, faults)
        print("seed %d: %s; %d errors, %d connections closed" % (SEED, run.tally, run.errors, run.closed))
        return run


def test_standalone_with_all_faults():
    run_standalone(SECONDS)
