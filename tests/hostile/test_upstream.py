# SPDX-License-Identifier: BSD-2-Clause
"""A Redis that misbehaves: garbage, cut and extra replies, silence, refusals.

What must hold: Keyweir lives, nobody gets another's reply, and who is hit hears a clear error or has his connection
closed; afterwards everything is right again.
"""
import socket
import threading
import time

import pytest

from fakes import Fake
from harness.resp import Conn
from harness.servers import Keyweir, Redis, wait_until

CONFIG = 'read_timeout = "400ms"\nconnect_timeout = "400ms"\nreconnect_delay = "20ms"\n' \
         'reconnect_delay_max = "50ms"\n[server]\nworkers = 1\n'


@pytest.fixture(scope="module")
def redis():
    with Redis() as r:
        with r.client() as c:
            c.cmd("SET", "good", "good value")
        yield r


def on(key, action):
    """A script that does `action` when a command on `key` comes."""
    def script(args, conn):
        if len(args) > 1 and args[1] == key:
            action(conn)
            return True
        return None
    return script


def says(text):
    return lambda conn: conn.sendall(text)


def says_and_closes(text):
    def action(conn):
        conn.sendall(text)
        conn.shutdown(socket.SHUT_RDWR)
    return action


def ask(keyweir, *args, proto=2, limit=5.0):
    """One command on a connection of its own: the raw reply as far as it came, b"" when closed before any."""
    with Conn(port=keyweir.port) as c:
        if proto == 3:
            c.hello(3)
        c.send(*args)
        try:
            return c.read_raw(limit)
        except (TimeoutError, ConnectionError):
            return b""


def healthy(keyweir):
    def good():
        return ask(keyweir, "GET", "good") == b"$10\r\ngood value\r\n"
    wait_until(good, 5, "good answers again")
    for i in range(20):
        want = b"own%d" % i
        assert ask(keyweir, "EVAL", "return ARGV[1]", 0, want) == b"$%d\r\n%s\r\n" % (len(want), want)


GARBAGE = {
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": b"\0" * 100,
    "no type": b"hello\r\n",
    "negative bulk": b"$-2\r\n",
    "bulk of letters": b"$abc\r\nabc\r\n",
    "bulk beyond 64 bits": b"$99999999999999999999\r\n",
    "array of letters": b"*x\r\n",
    "negative array": b"*-2\r\n",
    "array beyond 64 bits": b"*99999999999999999999\r\n",
    "map of -1": b"%-1\r\n",
    "missing LF": b"+OK\rX\r\n",
    "integer of letters": b":abc\r\n",
    "bad end of bulk": b"$3\r\nabcXY",
    "boolean": b"#x\r\n",
    "deep": b"*1\r\n" * 100000,
    "endless line": b"+" + b"x" * (2 << 20),
}


# What only a careful parser would object to; it may be handed on as it came, to the one who asked.
HANDED_ON = ("text", "integer of letters", "boolean", "map of -1", "missing LF", "bad end of bulk")


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_instead_of_a_reply(redis, kind, proto):
    with Fake(redis, on(b"bad", says_and_closes(GARBAGE[kind]))) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        healthy(keyweir)
        with Conn(port=keyweir.port) as c:
            if proto == 3:
                c.hello(3)
            c.send("GET", "bad")
            c.sock.settimeout(5)
            got = first_bytes(c)
            errors = (b"-UPSTREAMDOWN", b"-ERR", b"-TIMEOUT")
            if kind in HANDED_ON:
                assert got == b"" or got == GARBAGE[kind][:len(got)] or got.startswith(errors), got[:200]
            elif kind in ("deep", "endless line"):  # begun before it was seen what it is: then the connection ends
                assert len(got) < len(GARBAGE[kind]) and (got.startswith(errors) or c.eof(5))
            else:
                assert got == b"" or got.startswith(errors), got[:200]
        healthy(keyweir)


def first_bytes(c):
    """What comes first, or b"" at the end of the connection."""
    try:
        return c.sock.recv(1 << 16)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("kind", ["$5000000\r\nabc", "*3\r\n:1\r\n:2\r\n", "$-", "+O", ":1\r", "*1\r\n$10\r\nabc"])
def test_cut_reply(redis, kind):
    with Fake(redis, on(b"cut", says_and_closes(kind.encode()))) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        healthy(keyweir)
        with Conn(port=keyweir.port) as c:
            c.send("GET", "cut")
            c.send("GET", "good")
            try:
                got = c.read_raw(5)
            except (TimeoutError, ConnectionError):
                got = b"-UPSTREAMDOWN"
        assert got.startswith(b"-UPSTREAMDOWN"), got
        healthy(keyweir)


def test_extra_reply_reaches_nobody(redis):
    with Fake(redis, on(b"extra", says(b"+ONE\r\n+TWO\r\n"))) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        for _ in range(10):
            healthy(keyweir)
            got = ask(keyweir, "GET", "extra")
            assert got == b"+ONE\r\n" or got.startswith(b"-UPSTREAMDOWN"), got
            # nothing was under way when +TWO came: it can belong to nobody
            assert ask(keyweir, "EVAL", "return ARGV[1]", 0, "mine") == b"$4\r\nmine\r\n"


def test_reply_nobody_asked_for(redis):
    """On a quiet link: whatever comes there can't be trusted, and the link is closed before it is used again."""
    conns = []
    with Fake(redis, on_connect=conns.append) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        healthy(keyweir)
        stray = conns[1:]  # the first is the health check's
        assert stray
        for conn in stray:
            conn.sendall(b"$5\r\nstray\r\n")
        wait_until(lambda: all(conn.fileno() < 0 for conn in stray), 5, "links with a stray reply are closed")
        healthy(keyweir)


@pytest.mark.parametrize("proto", [2, 3])
def test_unexpected_pushes_are_dropped(redis, proto):
    push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
    with Fake(redis, on(b"pushed", says(push + b"$2\r\nok\r\n" + push))) as fake, \
            Keyweir(fake.url, CONFIG) as keyweir:
        got = ask(keyweir, "GET", "pushed", proto=proto)
        if proto == 3:
            assert got == b"$2\r\nok\r\n"
        else:  # RESP2 has no pushes: a link that sends one is not to be trusted
            assert got.startswith((b"$2\r\nok", b"-UPSTREAMDOWN")), got
        healthy(keyweir)


def test_reply_before_the_request_ended(redis):
    """An error after the first piece of a 10 MB SET; then the server either reads on or closes."""
    for close in (False, True):
        def early(conn, close=close):
            conn.recv(1000)
            conn.sendall(b"-OOM command not allowed\r\n")
            if close:
                conn.shutdown(socket.SHUT_RDWR)
                return True
            while conn.recv(1 << 20):
                pass
            return True

        state = {}

        def on_connect(conn):
            # Serves the handshake by Redis, then looks for the large SET on the raw socket.
            back = socket.create_connection(("127.0.0.1", redis.port))
            conn.settimeout(10)
            while True:
                data = conn.recv(1 << 16)
                if not data:
                    back.close()
                    return True
                if b"\r\nearly\r\n" in data:
                    state["hit"] = True
                    back.close()
                    return early(conn)
                back.sendall(data)
                back.settimeout(0.05)
                try:
                    while True:
                        reply = back.recv(1 << 20)
                        if not reply:
                            return True
                        conn.sendall(reply)
                        if len(reply) < 1000:
                            break
                except socket.timeout:
                    pass

        with Fake(redis, on_connect=on_connect) as fake, Keyweir(fake.url, CONFIG) as keyweir:
            wait_until(lambda: ask(keyweir, "GET", "good") == b"$10\r\ngood value\r\n", 5, "good")
            with Conn(port=keyweir.port) as c:
                got = b""
                try:
                    c.send_raw(b"*3\r\n$3\r\nSET\r\n$5\r\nearly\r\n$10485760\r\n")
                    for _ in range(160):
                        c.send_raw(b"x" * 65536)
                    c.send_raw(b"\r\n")
                except OSError:
                    pass
                try:
                    got = c.read_raw(5)
                except (EOFError, OSError):
                    pass
            assert state.get("hit")
            assert got == b"" or got.startswith((b"-OOM", b"-UPSTREAMDOWN")), got
            wait_until(lambda: ask(keyweir, "GET", "good") == b"$10\r\ngood value\r\n", 5, "good again")


def test_replies_that_drip(redis):
    """Every reply byte by byte: all right, only slow."""
    def script(args, conn):
        if args[:1] == [b"GET"] and args[1].startswith(b"drip"):
            for byte in b"$12\r\ndrip by drip\r\n":
                conn.sendall(bytes([byte]))
            return True
        return None
    with Fake(redis, script) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        with keyweir.client() as c:
            for _ in range(20):
                assert c.pipeline([["GET", "drip1"], ["PING"], ["GET", "good"]]) == \
                    [b"$12\r\ndrip by drip\r\n", b"+PONG\r\n", b"$10\r\ngood value\r\n"]


@pytest.mark.parametrize("refusal", [b"-LOADING Redis is loading the dataset in memory\r\n",
                                     b"-BUSY Redis is busy running a script\r\n",
                                     b"-NOAUTH Authentication required.\r\n",
                                     b"-WRONGPASS invalid username-password pair\r\n",
                                     b"-DENIED Redis is running in protected mode\r\n",
                                     b"-MASTERDOWN Link with MASTER is down\r\n"], ids=lambda r: r.split()[0].decode())
def test_refused_handshake(redis, refusal):
    state = {"refuse": True}

    def script(args, conn):
        if state["refuse"]:
            conn.sendall(refusal)
            return True
        return None
    with Fake(redis, script) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        for proto in (2, 3):
            start = time.monotonic()
            with Conn(port=keyweir.port) as c:
                if proto == 3:
                    c.send("HELLO", 3)
                    c.read_raw(5)
                c.send("GET", "good")
                got = c.read_raw(5)
            assert got.startswith(b"-") and got.count(b"\r\n") == 1, got
            assert time.monotonic() - start < 2
        assert ask(keyweir, "PING") == b"+PONG\r\n"
        state["refuse"] = False
        start = time.monotonic()
        wait_until(lambda: ask(keyweir, "GET", "good") == b"$10\r\ngood value\r\n", 5, "service after the refusal")
        assert time.monotonic() - start < 1.2
        healthy(keyweir)


def test_handshake_that_is_never_answered(redis):
    state = {"mute": True}
    with Fake(redis, lambda args, conn: True if state["mute"] else None) as fake, \
            Keyweir(fake.url, CONFIG) as keyweir:
        start = time.monotonic()
        got = ask(keyweir, "GET", "good")
        assert got.startswith((b"-UPSTREAMDOWN", b"-TIMEOUT")), got
        assert time.monotonic() - start < 1.5
        state["mute"] = False
        wait_until(lambda: ask(keyweir, "GET", "good") == b"$10\r\ngood value\r\n", 5, "service")
        healthy(keyweir)


def test_server_that_accepts_and_closes(redis):
    state = {"close": True}
    with Fake(redis, on_connect=lambda conn: True if state["close"] else None) as fake, \
            Keyweir(fake.url, CONFIG) as keyweir:
        assert ask(keyweir, "GET", "good").startswith(b"-UPSTREAMDOWN")
        time.sleep(0.5)  # long enough that a reconnect loop without a pause would show
        assert len(fake.socks) < 200, f"{len(fake.socks)} connections in half a second"
        state["close"] = False
        wait_until(lambda: ask(keyweir, "GET", "good") == b"$10\r\ngood value\r\n", 5, "service")


def test_old_server_without_resp3(redis):
    def script(args, conn):
        if args[0].upper() == b"HELLO":
            conn.sendall(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n")
            return True
        return None
    with Fake(redis, script) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        healthy(keyweir)
        with Conn(port=keyweir.port) as c:
            c.send("HELLO", 3)
            first = c.read_raw(5)
            c.send("GET", "good")
            second = c.read_raw(5)
        assert b"NOPROTO" in first + second or second == b"$10\r\ngood value\r\n", (first, second)
        healthy(keyweir)


def test_late_replies_are_dropped(redis):
    """Answers that come after read_timeout go to nobody; who asks next gets his own."""
    def slow(conn):
        time.sleep(0.8)  # twice the read_timeout
        conn.sendall(b"$4\r\nlate\r\n")
    with Fake(redis, on(b"slow", slow)) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        healthy(keyweir)
        results = {}

        def client(n):
            with Conn(port=keyweir.port) as c:
                c.send("GET", "slow" if n == 0 else "good")
                results[n] = c.read_raw(5)
                c.send("EVAL", "return ARGV[1]", 0, f"after{n}")
                try:
                    results[n, "next"] = c.read_raw(5)
                except (TimeoutError, ConnectionError):
                    results[n, "next"] = b""
        threads = [threading.Thread(target=client, args=(n,)) for n in range(5)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert results[0].startswith(b"-TIMEOUT"), results
        for n in range(5):
            assert results[n] != b"$4\r\nlate\r\n"
            assert results[n] == b"$10\r\ngood value\r\n" or results[n].startswith((b"-TIMEOUT", b"-UPSTREAMDOWN"))
            assert results[n, "next"] in (b"$6\r\nafter%d\r\n" % n, b"") or \
                results[n, "next"].startswith((b"-TIMEOUT", b"-UPSTREAMDOWN")), results
        healthy(keyweir)


def test_slow_trickle_of_a_large_reply_is_not_cut(redis):
    """read_timeout is about silence: a reply that keeps coming may take longer."""
    def trickle(conn):
        conn.sendall(b"$100000\r\n")
        for _ in range(10):
            conn.sendall(b"t" * 10000)
            time.sleep(0.1)  # 1 s in all, more than twice the read_timeout
        conn.sendall(b"\r\n")
    with Fake(redis, on(b"trickle", trickle)) as fake, Keyweir(fake.url, CONFIG) as keyweir:
        got = ask(keyweir, "GET", "trickle", limit=10)
        assert got == b"$100000\r\n" + b"t" * 100000 + b"\r\n", got[:100]
        healthy(keyweir)
