# SPDX-License-Identifier: BSD-2-Clause
"""Several servers at once of which one misbehaves: what a client has on the way to the others must not suffer."""
import socket
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


@pytest.mark.parametrize("change", [["SELECT", 0], ["RESET"], ["HELLO", 3]])
def test_read_that_is_sent_again_is_read_as_it_was_meant(redis, change):
    """In the database and the protocol of the time when it came, whatever its client has said since."""
    lost = []

    def script(args, conn):
        if args[1:2] == [b"again"] and not lost:
            time.sleep(0.2)
            lost.append(conn)
            conn.shutdown(socket.SHUT_RDWR)
            return True
        return None
    with redis.client() as direct:
        direct.cmd("SELECT", 3)
        direct.cmd("HSET", "again", "f", "3")
    with Fake(redis, script) as fake, Keyweir(fake, workers=1) as proxy, proxy.client() as conn:
        assert conn.cmd("SELECT", 3) == "OK"
        conn.send("HGETALL", "again")
        conn.send(*change)
        assert conn.read() == [b"f", b"3"]
        conn.read()


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


def test_subscriber_that_leaves_before_it_is_confirmed(redis):
    def script(args, conn):
        if args[0].lower() == b"subscribe":
            time.sleep(0.3)
        return None
    with Fake(redis, script) as fake, Keyweir(fake, workers=1) as proxy:
        with proxy.client() as conn:
            conn.send("SUBSCRIBE", "x")
            time.sleep(0.1)
        with proxy.client() as conn:
            for _ in range(3):  # one that leaves must not answer those that come
                assert conn.pipeline([["ECHO", "e"], ["SET", "n", 1]] * 50) == [b"$1\r\ne\r\n", b"+OK\r\n"] * 50
                time.sleep(0.1)
            conn.send("SET", "n", 2)
            assert conn.read() == "OK"
            with pytest.raises(TimeoutError):
                conn.read(0.5)
