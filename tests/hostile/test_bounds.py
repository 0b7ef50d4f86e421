# SPDX-License-Identifier: BSD-2-Clause
"""Clients that stall, flood or announce the absurd: Keyweir's memory stays bounded and the others are served."""
import contextlib
import hashlib
import os
import resource
import socket
import threading
import time

import pytest

from harness.servers import FACTOR, KEYWEIR, Keyweir, Redis, wait_until

SANITIZED = "san/" in KEYWEIR

MB = 1 << 20


@pytest.fixture(scope="module")
def redis():
    with Redis() as r:
        yield r


@pytest.fixture
def keyweir(redis):
    with redis.client() as c:
        c.cmd("FLUSHALL")
    with Keyweir(redis, config=SERVER.format("")) as k:
        warm_up(k)
        yield k


SERVER = "[server]\nworkers = 1\n{}\n"


def warm_up(k):
    """So that growth is measured from a daemon that has its buffers."""
    with k.client() as c:
        assert c.cmd("SET", "warm", b"w" * (2 * MB)) == "OK"
        assert len(c.cmd("GET", "warm")) == 2 * MB
        c.cmd("DEL", "warm")


@contextlib.contextmanager
def many(port, n, hello=b"", answer=b""):
    raise_fd_limit()
    socks = []
    try:
        for _ in range(n):
            s = socket.create_connection(("127.0.0.1", port))
            if hello:
                s.sendall(hello)
            socks.append(s)
        if answer:
            for s in socks:
                s.settimeout(10)
                assert exactly(s, len(answer)) == answer
        yield socks
    finally:
        for s in socks:
            s.close()


def exactly(s, n):
    """n bytes, or what came before the end. (MSG_WAITALL does not wait on a socket with a time-out.)"""
    got = bytearray(n)
    view, have = memoryview(got), 0
    while have < n:
        size = s.recv_into(view[have:])
        if size == 0:
            return bytes(got[:have])
        have += size
    return bytes(got)


def raise_fd_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def served(keyweir, n=200, limit=2.0, conn=None):
    """n commands of somebody else; all within `limit` seconds, none above half of that."""
    worst = 0.0
    with contextlib.nullcontext(conn) if conn else keyweir.client() as c:
        start = time.monotonic()
        for i in range(n):
            t = time.monotonic()
            assert c.cmd("EVAL", "return ARGV[1]", 0, f"x{i}") == b"x%d" % i
            worst = max(worst, time.monotonic() - t)
        total = time.monotonic() - start
    limit *= FACTOR
    assert total < limit and worst < limit / 2, f"{n} commands took {total:.2f} s, the slowest {worst:.2f} s"


class Peak(threading.Thread):
    """Watches the RSS of Keyweir while something goes on."""

    def __init__(self, keyweir):
        super().__init__(daemon=True)
        self.keyweir = keyweir
        self.start_kb = self.peak_kb = keyweir.rss_kb()
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def run(self):
        while not self.over.wait(0.01):
            self.peak_kb = max(self.peak_kb, self.keyweir.rss_kb())

    def __exit__(self, *exc):
        self.over.set()
        self.join()
        self.peak_kb = max(self.peak_kb, self.keyweir.rss_kb())

    @property
    def grown_mb(self):
        return (self.peak_kb - self.start_kb) / 1024


def grew_less_than(mb, peak):
    # A sanitizer's quarantine keeps what was freed; then only the behaviour is tested.
    assert SANITIZED or peak.grown_mb < mb, f"RSS grew by {peak.grown_mb:.1f} MB"


def test_thousand_half_commands_then_silence(keyweir):
    half = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$100\r\nabc"
    with Peak(keyweir) as peak, many(keyweir.port, 1000, half):
        served(keyweir)
    grew_less_than(20, peak)


def test_half_commands_of_each_kind(keyweir):
    whole = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"
    for cut in range(1, len(whole)):
        with many(keyweir.port, 5, whole[:cut]):
            pass
    served(keyweir, 50)


def test_hundred_clients_announce_100_mb_and_stall(keyweir, redis):
    head = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$104857600\r\n"
    with Peak(keyweir) as peak, many(keyweir.port, 100, head):
        served(keyweir)
    grew_less_than(10, peak)
    with Peak(keyweir) as peak, many(keyweir.port, 100, head + b"x" * 16000):
        served(keyweir)
    grew_less_than(16, peak)
    with redis.client() as c:
        assert c.cmd("EXISTS", "key") == 0, "half a value was stored"


def test_announced_counts_cost_nothing(keyweir):
    with Peak(keyweir) as peak, many(keyweir.port, 200, b"*2147483647\r\n$3\r\nDEL\r\n$1\r\na\r\n"):
        served(keyweir)
    grew_less_than(10, peak)
    with Peak(keyweir) as peak, many(keyweir.port, 50, b"*1048576\r\n$4\r\nMGET\r\n" + b"$1\r\na\r\n" * 5000):
        served(keyweir)
    grew_less_than(50 * 0.2 + 10, peak)


def test_lines_without_an_end(keyweir):
    with Peak(keyweir) as peak, many(keyweir.port, 200, b"x" * 60000):
        served(keyweir)
    grew_less_than(200 * 0.13 + 5, peak)


def test_reader_that_never_reads_is_closed(redis):
    """1,000 replies of 1 MB for a client that takes none of them."""
    with Keyweir(redis, config=SERVER.format('client_output_limit = "16mb"')) as keyweir:
        warm_up(keyweir)
        with keyweir.client() as c:
            c.cmd("SET", "mb", b"m" * MB)
        greedy = socket.create_connection(("127.0.0.1", keyweir.port))
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with Peak(keyweir) as peak:
            greedy.sendall(b"GET mb\r\n" * 1000)
            served(keyweir, 300)
            wait_until(lambda: client_gone(keyweir, greedy), 30, "the client that does not read is closed")
            served(keyweir, 100)
        greedy.close()
        grew_less_than(16 + 24, peak)


def client_gone(keyweir, s):
    """By CLIENT LIST: the end of the connection itself stands behind what the client has not read."""
    address = b"addr=%s:%d " % (s.getsockname()[0].encode(), s.getsockname()[1])
    with keyweir.client() as c:
        return address not in c.cmd("CLIENT", "LIST")


def test_slow_readers_beside_others(redis):
    """20 clients that take their 4 MB replies at a crawl; all get them right, nobody else waits."""
    value = hashlib.sha256(b"seed").digest() * (4 * MB // 32)
    with Keyweir(redis, config=SERVER.format("")) as keyweir:
        warm_up(keyweir)
        with keyweir.client() as c:
            c.cmd("SET", "four", value)
        with Peak(keyweir) as peak, many(keyweir.port, 20, b"GET four\r\n") as socks:
            served(keyweir, 300)
            want = b"$%d\r\n%s\r\n" % (len(value), value)
            for s in socks:
                s.settimeout(20)
                got = bytearray()
                while len(got) < len(want):
                    piece = s.recv(1 << 16)
                    assert piece, "closed before its reply was whole"
                    got += piece
                assert got == want
        grew_less_than(20 * 4 + 20, peak)


def test_subscriber_that_never_reads(redis):
    with Keyweir(redis, config=SERVER.format('client_output_limit = "8mb"')) as keyweir:
        warm_up(keyweir)
        deaf = socket.create_connection(("127.0.0.1", keyweir.port))
        deaf.sendall(b"SUBSCRIBE news\r\n")
        with keyweir.client() as hearing, keyweir.client() as sender:
            assert hearing.cmd("SUBSCRIBE", "news")[2] == 1
            wait_until(lambda: sender.cmd("PUBLISH", "news", "x") >= 1, what="subscribed")
            with Peak(keyweir) as peak:
                for i in range(300):
                    sender.cmd("PUBLISH", "news", b"%06d" % i + b"n" * 200_000)
                    if i == 0:
                        while not read_message(hearing).startswith(b"000000"):
                            pass
                    else:
                        assert read_message(hearing).startswith(b"%06d" % i)
                wait_until(lambda: client_gone(keyweir, deaf), 10, "the deaf subscriber is closed")
        deaf.close()
        grew_less_than(8 + 24, peak)


def read_message(conn):
    raw = conn.read_raw()
    return raw.split(b"\r\n", 6)[6]


def idle_connections(keyweir, n):
    with many(keyweir.port, 200, b"PING\r\n", b"+PONG\r\n"):
        pass
    start = time.monotonic()
    before = keyweir.rss_kb()
    # `other` is there before: select() knows descriptors below 1024 only
    with keyweir.client() as other, many(keyweir.port, n, b"PING\r\n", b"+PONG\r\n"):
        took = time.monotonic() - start
        each = (keyweir.rss_kb() - before) * 1024 / n
        served(keyweir, 50, conn=other)
    assert SANITIZED or each <= 1024, f"{each:.0f} bytes of RSS for each of {n} idle clients"
    assert took < 20 * FACTOR


def test_ten_thousand_idle_connections(redis):
    hard = raise_fd_limit()
    n = min(10_000, hard - 500)
    with Keyweir(redis, config=SERVER.format("max_clients = 11000")) as keyweir:
        warm_up(keyweir)
        idle_connections(keyweir, n)
        wait_until(lambda: clients(keyweir) <= 1, what="all are gone")
        served(keyweir, 50)


def clients(keyweir):
    with keyweir.client() as c:
        for line in c.cmd("INFO", "clients").splitlines():
            if line.startswith(b"connected_clients:"):
                return int(line.split(b":")[1])
    raise AssertionError("INFO has no connected_clients")


def test_too_many_clients_are_told(redis):
    with Keyweir(redis, config=SERVER.format("max_clients = 10")) as keyweir:
        with many(keyweir.port, 10, b"PING\r\n", b"+PONG\r\n"):
            s = socket.create_connection(("127.0.0.1", keyweir.port))
            s.settimeout(5)
            assert s.recv(100) == b"-ERR max number of clients reached\r\n"
            assert s.recv(100) == b""
            s.close()
        wait_until(lambda: pings(keyweir), what="room again")


def pings(keyweir):
    try:
        with keyweir.client() as c:
            return c.cmd("PING") == "PONG"
    except (OSError, AssertionError):
        return False


def pipeline_of(keyweir, n):
    """Everything is sent before anything is read; replies count up by one."""
    s = socket.create_connection(("127.0.0.1", keyweir.port))
    s.settimeout(60)
    one = b"*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n"
    batch = one * 10_000
    with Peak(keyweir) as peak:
        for _ in range(n // 10_000):
            s.sendall(batch)
        want = 1
        rest = b""
        while want <= n:
            chunk = s.recv(1 << 20)
            assert chunk, f"closed before reply {want}"
            lines = (rest + chunk).split(b"\r\n")
            rest = lines.pop()
            for line in lines:
                assert line == b":%d" % want, f"{line!r} instead of :{want}"
                want += 1
    s.close()
    assert not rest
    return peak


def test_pipeline_of_a_million_commands(keyweir):
    peak = pipeline_of(keyweir, 1_000_000)
    grew_less_than(64, peak)
    served(keyweir, 50)


def block(i):
    """64 KB that differ from block to block."""
    return hashlib.sha256(b"%d" % i).digest() * 2048


def stream_value(keyweir, mb, pause=0.0):
    """SET and GET of `mb` MB, never whole in this process; somebody else is served meanwhile."""
    n = mb * 16
    s = socket.create_connection(("127.0.0.1", keyweir.port))
    s.settimeout(30)
    with Peak(keyweir) as peak:
        s.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n" % (n * 65536))
        for i in range(n):
            s.sendall(block(i))
            if i in (n // 3, n // 2):
                served(keyweir, 20)
        s.sendall(b"\r\n")
        assert exactly(s, 5) == b"+OK\r\n"
        s.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n")
        head = b"$%d\r\n" % (n * 65536)
        assert exactly(s, len(head)) == head
        for i in range(n):
            if i == n // 2:
                served(keyweir, 20)
                time.sleep(pause)  # a reader that stops for a while
            assert exactly(s, 65536) == block(i), f"block {i} differs"
        assert exactly(s, 2) == b"\r\n"
        s.sendall(b"DEL large\r\n")
        assert exactly(s, 4) == b":1\r\n"
    s.close()
    return peak


def test_value_of_64_mb(keyweir):
    peak = stream_value(keyweir, 64, pause=0.3)
    grew_less_than(20, peak)


@pytest.mark.long
def test_value_of_512_mb(redis):
    # Redis alone may need more than a second for the first byte of so large a reply, hence the read_timeout.
    with Keyweir(redis, 'read_timeout = "20s"\n' + SERVER.format("")) as keyweir:
        warm_up(keyweir)
        peak = stream_value(keyweir, 511, pause=0.5)
        grew_less_than(20, peak)


def test_value_of_exactly_the_limit_and_one_more(redis):
    with Keyweir(redis, config=SERVER.format('max_value_size = "1mb"')) as keyweir:
        with keyweir.client() as c:
            assert c.cmd("SET", "edge", b"e" * MB) == "OK"
            assert len(c.cmd("GET", "edge")) == MB
            c.send_raw(b"*3\r\n$3\r\nSET\r\n$4\r\nedge\r\n$1048577\r\n")
            assert c.read_raw() == b"-ERR Protocol error: invalid bulk length\r\n"
            assert c.eof(5)


def test_upload_that_is_left_in_the_middle(keyweir, redis):
    """A client goes away within its 8 MB SET: nothing is stored, its link reaches nobody else."""
    for _ in range(30):
        s = socket.create_connection(("127.0.0.1", keyweir.port))
        s.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nleft\r\n$8388608\r\n" + b"x" * (2 * MB))
        s.close()
        with keyweir.client() as c:
            assert c.cmd("SET", "other", b"y" * MB) == "OK"
            assert c.cmd("GET", "other") == b"y" * MB
    with redis.client() as c:
        assert c.cmd("EXISTS", "left") == 0


def test_download_that_is_left_in_the_middle(keyweir):
    with keyweir.client() as c:
        c.cmd("SET", "eight", b"8" * (8 * MB))
    for _ in range(30):
        s = socket.create_connection(("127.0.0.1", keyweir.port))
        s.sendall(b"GET eight\r\nGET eight\r\n")
        assert s.recv(100)
        s.close()
        served(keyweir, 5)


def test_connect_storm(keyweir):
    before = keyweir.rss_kb()
    for _ in range(2000):
        s = socket.create_connection(("127.0.0.1", keyweir.port))
        s.sendall(b"PING\r\n")
        assert exactly(s, 7) == b"+PONG\r\n"
        s.close()
    assert SANITIZED or keyweir.rss_kb() - before < 4096


def test_connect_storm_in_parallel(keyweir):
    bad = []

    def work():
        for i in range(250):
            with socket.create_connection(("127.0.0.1", keyweir.port)) as s:
                s.sendall(b"EVAL 'return ARGV[1]' 0 %d\r\n" % (1000 + i))
                if exactly(s, 10) != b"$4\r\n%d\r\n" % (1000 + i):
                    bad.append(i)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_out_of_file_descriptors(redis):
    """The limit is lowered while it runs: it neither dies nor spins nor floods its log, and serves again later."""
    with Keyweir(redis, config=SERVER.format("")) as keyweir:
        warm_up(keyweir)
        old = keyweir.client()
        assert old.cmd("SET", "fd", "1") == "OK"
        used = len(os.listdir(f"/proc/{keyweir.pid}/fd"))
        _, hard = resource.prlimit(keyweir.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(keyweir.pid, resource.RLIMIT_NOFILE, (used + 20, hard))
        log_before = len(keyweir.log())
        cpu_before = cpu_seconds(keyweir.pid)
        with many(keyweir.port, 100, b"PING\r\n"):
            start = time.monotonic()
            while time.monotonic() - start < 1:
                assert old.cmd("GET", "fd") == b"1"
                time.sleep(0.02)  # a steady, small load: what else burns the CPU is seen
        assert cpu_seconds(keyweir.pid) - cpu_before < 0.7 * FACTOR, "it spins"
        assert len(keyweir.log()) - log_before < 20_000, "it floods its log"
        wait_until(lambda: pings(keyweir), what="serves again when descriptors are free")
        resource.prlimit(keyweir.pid, resource.RLIMIT_NOFILE, (hard, hard))
        served(keyweir, 50)
        old.close()


def says_overloaded(s):
    try:
        return s.recv(200).startswith(b"-OVERLOADED")
    except BlockingIOError:
        return False


def test_many_blocked_clients_and_the_pool(redis):
    """More blocked clients than pool_size: an error in time, plain commands go on, and room comes back."""
    config = 'pool_size = 5\npool_timeout = "300ms"\n' + SERVER.format("")
    with Keyweir(redis, config=config) as keyweir:
        with many(keyweir.port, 30, b"BLPOP nothing 0\r\n") as socks:
            served(keyweir, 50)
            refused = set()
            for s in socks:
                s.setblocking(False)
            wait_until(lambda: refused.update(s for s in socks if says_overloaded(s)) or len(refused) >= 25, 5,
                       "25 of 30 are refused with a pool of 5")
            served(keyweir, 50)
            refused = len(refused)
            assert 25 <= refused <= 29, f"{refused} of 30 were refused with a pool of 5"
        with keyweir.client() as c:
            c.cmd("RPUSH", "something", "x")
            assert c.cmd("BLPOP", "something", 1) == [b"something", b"x"]


def test_transactions_that_never_end(keyweir):
    with many(keyweir.port, 200, b"MULTI\r\n"):  # more than the pool has links: some wait, then hear -OVERLOADED
        served(keyweir)
    with Peak(keyweir) as peak, many(keyweir.port, 20, b"MULTI\r\n" + b"SET k v\r\n" * 20_000):
        served(keyweir, 100, 6.0)
    grew_less_than(64, peak)
