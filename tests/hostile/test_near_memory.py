# SPDX-License-Identifier: BSD-2-Clause
"""The near-cache's memory is max_memory, whatever sizes come; NEAR_MEMORY_SECONDS of it in the long run (600)."""
import os
import random
import time

import pytest

from harness.namespaces import table_of
from harness.servers import KEYWEIR, Keyweir, Redis, wait_until

MB = 1 << 20
LIMIT = 16 * MB
SPARE = 6 * MB  # buffers and pools of the workers, as large as one batch makes them
KEYS = 3000
CONFIG = table_of("near_cache = true\n", "n", "n:", "n:") + "[near_cache]\nmax_memory = %d\n" % LIMIT


def some_size(rng, kind):
    return {"small": rng.randrange(1, 200), "any": int(2 ** rng.uniform(0, 17)), "large": rng.randrange(20000, 300000)}[kind]


def memory(conn):
    reply = conn.cmd("KEYWEIR", "CACHE", "STATS")
    stats = dict(zip(reply[::2], reply[1::2]))
    assert stats[b"max_memory"] == LIMIT
    return stats[b"memory"], stats


def run(seconds):
    rng = random.Random(7)
    with Redis() as redis, Keyweir(redis, CONFIG) as keyweir, keyweir.client() as conn, redis.client() as direct:
        wait_until(lambda: conn.cmd("GET", "n:0") is None and memory(conn)[1][b"hits"] > 0, 20, "the near-cache is in use")
        base, most, grown = keyweir.rss_kb() * 1024, 0, 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            kind = rng.choice(("small", "any", "any", "large"))
            names = ["n:%d" % rng.randrange(KEYS) for _ in range(40)]
            direct.pipeline([["SET", name, "x" * some_size(rng, kind)] for name in names[:20]])
            conn.pipeline([rng.choice((["GET", name], ["GET", name], ["GETRANGE", name, "0", str(rng.randrange(99))], ["STRLEN", name]))
                           for name in names * 2])
            used, stats = memory(conn)
            most, grown = max(most, used), max(grown, keyweir.rss_kb() * 1024 - base)
            assert used <= LIMIT, stats
        print("in use %.2f of %.2f MB at most, grown by %.2f MB; %s" % (most / MB, LIMIT / MB, grown / MB, stats))
        assert most > 0.9 * LIMIT  # it was full
        assert "san/" in KEYWEIR or grown <= 1.05 * LIMIT + SPARE


def test_random_sizes():
    run(8)


@pytest.mark.long
def test_random_sizes_for_ten_minutes():
    run(float(os.environ.get("NEAR_MEMORY_SECONDS", "600")))
