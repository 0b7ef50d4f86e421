# SPDX-License-Identifier: BSD-2-Clause
"""Bad input, sent to Redis and through Keyweir side by side: the same bytes must come back, and the same end."""
import random
import select
import socket
import time

import pytest

from harness.resp import Conn
from harness.servers import Keyweir, Redis

BIG = 70000  # past the 64 KB that a line may have


@pytest.fixture(scope="module")
def pair():
    with Redis() as redis, Keyweir(redis) as keyweir:
        with redis.client() as c:
            c.cmd("SET", "k", "value")
        yield redis.port, keyweir


def talk(port, data, want=None, closed=None, idle=0.05):
    """Sends data; gives (bytes that came, whether the connection was closed).

    With `want`: reads until that much came (and the end, when it is to be closed), and looks for more only shortly.
    """
    s = socket.create_connection(("127.0.0.1", port))
    got = bytearray()
    try:
        s.setblocking(False)
        view = memoryview(data)
        last = time.monotonic()
        patience = idle if want is None else 5.0
        while True:
            enough = want is not None and len(got) >= len(want) and not closed
            r, w, _ = select.select([s], [s] if view else [], [], 0.02 if enough else patience)
            if not r and not w:
                return bytes(got), False
            if r:
                chunk = s.recv(1 << 16)
                if not chunk:
                    return bytes(got), True
                got += chunk
                last = time.monotonic()
            elif w:
                view = view[s.send(view):]
                last = time.monotonic()
            if time.monotonic() - last > patience:
                return bytes(got), False
    except (ConnectionResetError, BrokenPipeError):
        return bytes(got), True
    finally:
        s.close()


def same(pair, data, retries=2):
    """Both say the same. A slow machine can cut Redis's answer short: then it is asked again, more patiently."""
    redis_port, keyweir = pair
    for attempt in range(retries + 1):
        want, closed = talk(redis_port, data, idle=0.05 * (1 + 10 * attempt))
        got = talk(keyweir.port, data, want, closed)
        if got == (want, closed) or stricter(got, want):
            return got
    assert got == (want, closed), f"input {data[:200]!r}: Redis {want[-300:]!r} closed={closed}, " \
                                  f"Keyweir {got[0][-300:]!r} closed={got[1]}"


# Redis takes any two bytes for the CR LF behind a bulk string, and any byte for the LF behind a length. Keyweir, which
# hands the bytes on, insists on both: what is wrong there is said and ends the connection.
STRICT = (b"-ERR Protocol error: expected CRLF after a bulk string\r\n", b"-ERR Protocol error: invalid bulk length\r\n",
          b"-ERR Protocol error: invalid multibulk length\r\n")


def stricter(got, want):
    said, closed = got
    return closed and any(said.endswith(text) and want.startswith(said[:-len(text)]) for text in STRICT)


NUMBERS = [b"abc", b"", b" ", b"-", b"+1", b"01", b"00", b" 1", b"1 ", b"1a", b"0x1", b"1.0", b"1e1", b"--1", b"-0",
           b"2147483647x", b"2147483648", b"4294967295", b"4294967296", b"9223372036854775807", b"9223372036854775808",
           b"18446744073709551616", b"99999999999999999999999999999999", b"-2147483649", b"-9223372036854775808",
           b"-9223372036854775809", b"\xff\xff"]
PROTOCOL_ERRORS = {
    b"*1\r\nPING\r\n": b"-ERR Protocol error: expected '$', got 'P'\r\n",
    b"*1\r\n:4\r\n": b"-ERR Protocol error: expected '$', got ':'\r\n",
    b"*abc\r\n": b"-ERR Protocol error: invalid multibulk length\r\n",
    b"*2147483648\r\n": b"-ERR Protocol error: invalid multibulk length\r\n",
    b"*1\r\n$abc\r\n": b"-ERR Protocol error: invalid bulk length\r\n",
    b"*1\r\n$-1\r\n": b"-ERR Protocol error: invalid bulk length\r\n",
    b"*1\r\n$536870913\r\n": b"-ERR Protocol error: invalid bulk length\r\n",
    b"SET \"a\r\n": b"-ERR Protocol error: unbalanced quotes in request\r\n",
    b"x" * BIG: b"-ERR Protocol error: too big inline request\r\n",
    b"*" + b"1" * BIG: b"-ERR Protocol error: too big mbulk count string\r\n",
    b"*1\r\n$" + b"1" * BIG: b"-ERR Protocol error: too big bulk count string\r\n",
}


@pytest.mark.parametrize("data", PROTOCOL_ERRORS, ids=lambda d: repr(d[:24]))
def test_known_text_then_the_end(pair, data):
    assert same(pair, data) == (PROTOCOL_ERRORS[data], True)


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_multibulk_count(pair, number):
    same(pair, b"*" + number + b"\r\n")
    same(pair, b"PING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*" + number + b"\r\nPING\r\n")


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_bulk_length(pair, number):
    same(pair, b"*1\r\n$" + number + b"\r\n")
    same(pair, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$" + number + b"\r\nvalue\r\n")
    same(pair, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$" + number + b"\r\nk\r\n")


ODD = [
    b"\r\n", b"\n", b" \r\n", b"\r\n\r\nPING\r\n", b"*0\r\nPING\r\n", b"*-1\r\nPING\r\n", b"*-7\r\n*1\r\n$4\r\nPING\r\n",
    b"PING\n", b"ping\r\n", b"  PING  \r\n", b"PING\tx\r\n", b"GET k\nGET k\n", b"GET 'k'\r\n", b'GET "k"\r\n',
    b'SET q "a\\x00\\r\\n\\xff"\r\nGET q\r\n', b'SET q "\\x4"\r\nGET q\r\n', b'SET q "\\xZZ"\r\nGET q\r\n',
    b"SET q 'it\\'s'\r\nGET q\r\n", b'GET "k"k\r\n', b"GET 'k'k\r\n", b"GET 'k\r\n", b'GET "k\\\r\n', b'"\r\n', b"'\r\n",
    b'""\r\n', b"\xff\xfe\r\n", b"*\r\n", b"$\r\n", b"$4\r\nPING\r\n", b"+OK\r\n", b":1\r\n",
    b"*1\n$4\r\nPING\r\n", b"*1\r\n$4\nPING\r\n", b"*1\rX$4\r\nPING\r\n", b"*1\r\n$4\rXPING\r\n", b"*1\r\n$4\r\nPINGxx",
    b"*1\r\n$4\r\nPING\n\n*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nkXY*1\r\n$4\r\nPING\r\n",
    b"*1\r\n\r\n", b"*1\r\nx\x00", b"*1\r\n*1\r\n$4\r\nPING\r\n", b"*1\r\n" * 1000, b"*2\r\n$4\r\nPING\r\n*1\r\n",
    b"*1\r\n$0\r\n\r\nPING\r\n", b"*2\r\n$0\r\n\r\n$0\r\n\r\n", b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", b"*1\r\n$4\r\nPI",
    b"GET\r\n", b"GET k k\r\n", b"*1\r\n$3\r\nGET\r\n", b"SELECT\r\n", b"SELECT 99\r\n", b"SELECT x\r\n", b"HELLO 9\r\n",
    b"HELLO x\r\n", b"HELLO 3 AUTH\r\n", b"HELLO 3 SETNAME\r\n", b"EXEC\r\n", b"DISCARD\r\n", b"RESET\r\nPING\r\n", b"QUIT\r\nPING\r\n",
    b"MULTI\r\nMULTI\r\nWATCH k\r\nEXEC\r\n", b"MULTI\r\nNOSUCH\r\nEXEC\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"Host: x\r\nPING\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x01\x01\xfc\x03\x03\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", b"GET k\r\n" * 500 + b"*x\r\n" + b"GET k\r\n" * 5,
    b"HELLO 3\r\nGET none\r\n*x\r\n"[9:], b"x" * 65000 + b"\r\nPING\r\n", b"GET " + b"x" * 60000 + b"\r\nPING\r\n",
    b"ECHO " + b"\xc3\xbc" * 1000 + b"\r\n", b"*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n",
]


@pytest.mark.parametrize("data", ODD, ids=lambda d: repr(d[:40]))
def test_odd_input(pair, data):
    same(pair, data)


@pytest.mark.parametrize("data", [b"*\x00\r\n", b"*1\x00\r\n", b"*1\r\n$\x00\r\n", b"*1\r\n$4\x00\r\nPING\r\n",
                                  b"GET \x00k\r\n", b"\x00\r\n", b"\x00" * 100], ids=repr)
def test_nul_in_a_line(pair, data):
    """Redis takes NUL for the end of what it has, and waits for ever: the one place where Keyweir may say so."""
    _, keyweir = pair
    got, closed = talk(keyweir.port, data)
    assert got.count(b"\r\n") <= 2, got
    with keyweir.client() as c:
        assert c.cmd("GET", "k") == b"value"


def test_errors_cannot_split_the_response(pair):
    for name in (b"a\r\n+OK\r\n", b"\r\n", b"x\ny", b"\r", b"-ERR\r\n:1\r\n"):
        data = b"*2\r\n$%d\r\n%s\r\n$5\r\nb\r\n+c\r\n" % (len(name), name)
        got, closed = same(pair, data)
        assert got.count(b"\r\n") == 1 and got.startswith(b"-ERR unknown command") and not closed
        got, _ = same(pair, b"*3\r\n$6\r\nCLIENT\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(name), name))
        assert got.count(b"\r\n") == 1
        same(pair, b"*2\r\n$6\r\nCONFIG\r\n$%d\r\n%s\r\n" % (len(name), name))


def test_command_names_and_arguments_of_any_size(pair):
    redis_port, keyweir = pair
    for size in (127, 128, 129, 1000, 70000, 1 << 20):
        got, closed = same(pair, b"*1\r\n$%d\r\n%s\r\n*1\r\n$4\r\nPING\r\n" % (size, b"n" * size))
        assert got.endswith(b"+PONG\r\n") and not closed
    same(pair, b"*2\r\n$3\r\nGET\r\n$1048576\r\n" + b"k" * (1 << 20) + b"\r\n")
    same(pair, b"*2\r\n$6\r\nNOSUCH\r\n$1048576\r\n" + b"k" * (1 << 20) + b"\r\n")
    same(pair, b"*20000\r\n$3\r\nDEL\r\n" + b"$1\r\nz\r\n" * 19999)
    same(pair, b"*20000\r\n$4\r\nPING\r\n" + b"$1\r\nz\r\n" * 19999)
    assert keyweir.client().cmd("PING") == "PONG"


def deep(depth):
    return "local t = {} for i = 1, %d do t = {t} end return t" % depth


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("depth", [5, 33, 1000, 6000])
def test_deep_replies_of_scripts(pair, proto, depth):
    redis_port, keyweir = pair
    with Conn(port=redis_port) as direct, Conn(port=keyweir.port) as through:
        if proto == 3:
            direct.hello(3)
            through.hello(3)
        script = b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n" % (len(deep(depth)), deep(depth).encode())
        tail = b"*1\r\n$4\r\nPING\r\n"
        direct.send_raw(script + tail)
        through.send_raw(script + tail)
        want, got = collect(direct, b"+PONG\r\n"), collect(through, b"+PONG\r\n")
    assert got == want


def collect(conn, end, limit=10.0):
    """Bytes until `end` has come, or the connection's end."""
    got = bytearray()
    conn.sock.settimeout(limit)
    while not got.endswith(end):
        chunk = conn.sock.recv(1 << 16)
        if not chunk:
            break
        got += chunk
    return bytes(got)


VALID = [b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nm\r\n$3\r\nabc\r\n",
         b"*2\r\n$4\r\nECHO\r\n$5\r\nworld\r\n", b"*3\r\n$4\r\nMGET\r\n$1\r\nk\r\n$1\r\nz\r\n", b"GET k\r\n", b"PING\r\n",
         b"*4\r\n$6\r\nGETSET\r\n"[:12], b"*2\r\n$6\r\nEXISTS\r\n$1\r\nk\r\n", b'ECHO "a b"\r\n']
SPICE = [b"\r\n", b"\r", b"\n", b"*", b"$", b"-1", b"0", b"9", b"*1\r\n", b"$4\r\n", b"'", b'"', b"\xff", b" ",
         b"*-1\r\n", b"$-1\r\n", b"*2147483647\r\n", b"99999999999999999999", b"+", b"{", b"\\x", b"*1000000\r\n"]


def mutated(rng):
    data = bytearray(b"".join(rng.choice(VALID) for _ in range(rng.randint(1, 6))))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.random()
        if kind < 0.4:
            data[at:at] = rng.choice(SPICE)
        elif kind < 0.6:
            del data[at:at + rng.randint(1, 4)]
        elif kind < 0.8 and at < len(data):
            data[at] = rng.randrange(1, 256)
        else:
            data[at:at + rng.randint(0, 3)] = rng.choice(SPICE)
    return bytes(data)


def test_mutated_commands(pair):
    """Requests with a few bytes changed; the seed is fixed, so a failure comes again."""
    rng = random.Random(7)
    for _ in range(150):
        same(pair, mutated(rng))


@pytest.mark.long
def test_mutated_commands_many(pair):
    rng = random.Random(int(time.time()))
    for _ in range(3000):
        same(pair, mutated(rng))


def test_http_does_not_harm_others():
    """A web page can make a browser POST to a Redis; Redis closes such a connection. It must not be a shared one."""
    with Redis() as redis, Keyweir(redis, workers=1) as keyweir, keyweir.client() as other:
        for n in range(20):
            for data in (b"POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHALL\r\n", b"*2\r\n$4\r\nPOST\r\n$1\r\n/\r\n",
                         b"host: x\r\n"):
                with socket.create_connection(("127.0.0.1", keyweir.port)) as s:
                    s.sendall(data)
                    got = other.pipeline([["EVAL", "return ARGV[1]", 0, "own"]] * 20)
                    assert got == [b"$3\r\nown\r\n"] * 20, (n, data, got)


def test_any_cut(pair):
    """A pipeline that arrives in two pieces, cut at each place in turn."""
    _, keyweir = pair
    data = (b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$2\r\nkk\r\n$4\r\n\r\n*1\r\n"
            b"GET kk\r\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n")
    want = b"$5\r\nvalue\r\n+PONG\r\n+PONG\r\n+OK\r\n$4\r\n\r\n*1\r\n$0\r\n\r\n"
    for cut in range(1, len(data)):
        with Conn(port=keyweir.port) as c:
            c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            c.send_raw(data[:cut])
            if cut % 3 == 0:  # give the first piece a read of its own
                time.sleep(0.001)
            c.send_raw(data[cut:])
            assert collect(c, want) == want, f"cut at {cut}"


def test_byte_by_byte(pair):
    _, keyweir = pair
    with Conn(port=keyweir.port) as c:
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nGET 'k'\r\n":
            c.send_raw(bytes([byte]))
        want = b"$5\r\nvalue\r\n" * 2
        assert collect(c, want) == want


def test_half_closed_still_gets_its_replies(pair):
    """printf ... | nc: the sender closes his side and waits."""
    redis_port, keyweir = pair
    for port in (redis_port, keyweir.port):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(b"PING\r\nGET k\r\nINCR half\r\nGET k\r\n")
        s.shutdown(socket.SHUT_WR)
        s.settimeout(5)
        got = b""
        while chunk := s.recv(4096):
            got += chunk
        s.close()
        assert got.startswith(b"+PONG\r\n$5\r\nvalue\r\n:") and got.endswith(b"$5\r\nvalue\r\n")


def test_reset_by_the_client_in_the_middle(pair):
    """RST with commands under way: no crash, and nobody else gets the replies."""
    _, keyweir = pair
    other = keyweir.client()
    for n in range(200):
        s = socket.create_connection(("127.0.0.1", keyweir.port))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        s.sendall(b"EVAL 'return ARGV[1]' 0 stolen\r\n" * (n % 7 + 1))
        s.close()
        assert other.cmd("EVAL", "return ARGV[1]", 0, f"own{n}") == b"own%d" % n
    other.close()


def test_garbage_beside_a_stream(pair):
    """One client reads 8 MB while others send rubbish: its bytes stay right."""
    _, keyweir = pair
    value = random.Random(3).randbytes(8 << 20)
    c = keyweir.client()
    assert c.cmd("SET", "big", value) == "OK"
    rng = random.Random(5)
    for _ in range(5):
        c.send("GET", "big")
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", keyweir.port)) as s:
                s.sendall(rng.randbytes(rng.randint(1, 5000)))
        assert c.read_raw(20) == b"$%d\r\n%s\r\n" % (len(value), value)
    c.cmd("DEL", "big")
    c.close()
