# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures: one Redis and one Keyweir for the whole run where a test does not break them, fresh ones where it does."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness.servers import Keyweir, Redis  # noqa: E402


@pytest.fixture(scope="session")
def redis():
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def keyweir(redis):
    with Keyweir(redis) as proxy:
        yield proxy


@pytest.fixture
def conn(keyweir):
    with keyweir.client() as connection:
        yield connection


@pytest.fixture
def direct(redis):
    with redis.client() as connection:
        yield connection


@pytest.fixture
def fresh_keyweir():
    """A factory: fresh_keyweir(upstream, config="...") starts one that ends with the test."""
    started = []

    def make(*args, wait=True, **kwargs):
        proxy = Keyweir(*args, **kwargs)
        started.append(proxy)
        return proxy.start(wait=wait)

    yield make
    for proxy in started:
        if proxy.process and proxy.process.poll() is None:
            proxy.stop()


@pytest.fixture
def fresh_redis():
    started = []

    def make(*args, **kwargs):
        server = Redis(*args, **kwargs)
        started.append(server)
        return server.start()

    yield make
    for server in started:
        server.stop()
