# SPDX-License-Identifier: BSD-2-Clause
"""Several servers at once of which one misbehaves: what a client has on the way to the others must not suffer."""
import threading
import time

import pytest

from fakes import Fake
from harness.resp import encode
from harness.servers import FACTOR, Keyweir, Redis

TABLES = '[upstream.main]\nurl = "%s"\nread_timeout = "3s"\n[upstream.cache]\nurl = "%s"\n' \
         '[namespace.cache]\nupstream = "cache"\n[server]\nworkers = 1\n'


@pytest.fixture(scope="module")
def redis():
    with Redis() as r:
        yield r


class Halves:
    """Two servers: on "slow" and "cache:big" they answer when told to, the latter in pieces."""

    def __init__(self, redis, value):
        self.value, self.go, self.rest = value, threading.Event(), threading.Event()
        self.main = Fake(redis, self.slow)
        self.cache = Fake(redis, self.big)

    def slow(self, args, conn):
        if args[1:2] != [b"slow"]:
            return None
        self.go.wait(10)
        conn.sendall(b"$4\r\nslow\r\n")
        return True

    def big(self, args, conn):
        if args[1:2] != [b"cache:big"]:
            return None
        raw = b"$%d\r\n%s\r\n" % (len(self.value), self.value)
        conn.sendall(raw[:len(raw) // 3])
        self.rest.wait(10)
        conn.sendall(raw[len(raw) // 3:])
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set(), self.rest.set()
        self.main.__exit__(), self.cache.__exit__()


@pytest.mark.parametrize("size", [300, 300000])
def test_reply_that_becomes_the_next_when_half_of_it_is_here(redis, size):
    value = bytes(i % 251 for i in range(size))
    with Halves(redis, value) as halves, Keyweir(None, TABLES % (halves.main.url, halves.cache.url)) as proxy:
        with proxy.client() as conn:
            conn.send("GET", "slow")
            conn.send("GET", "cache:big")
            conn.send("GET", "cache:none")
            time.sleep(0.3)
            halves.go.set()
            assert conn.read() == b"slow"
            time.sleep(0.1)
            halves.rest.set()
            assert conn.read() == value
            assert conn.read() is None


@pytest.mark.parametrize("commands", [[["MULTI"], ["SET", "k", b"x" * 100000], ["EXEC"]], [["MSET", "k", b"x" * 100000, "cache:k", 1]]])
def test_what_waits_for_a_frozen_server_is_bounded(redis, commands):
    with Redis() as main, Keyweir(None, TABLES % (main.url, redis.url)) as proxy, proxy.client() as conn:
        assert conn.cmd("SET", "k", 1) == "OK"
        raw = b"".join(encode(*c) for c in commands)
        before = proxy.rss_kb()
        main.freeze()
        conn.sock.setblocking(False)
        end = time.monotonic() + 0.8 * FACTOR
        sent, at = 0, 0
        while time.monotonic() < end and sent < 300 << 20:
            try:
                n = conn.sock.send(raw[at:])
                sent, at = sent + n, (at + n) % len(raw)
            except BlockingIOError:
                time.sleep(0.01)
        grown = (proxy.rss_kb() - before) // 1024
        assert grown < 40, f"{grown} MB more after {sent >> 20} MB"
