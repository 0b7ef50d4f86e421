# SPDX-License-Identifier: BSD-2-Clause
"""Redis dies, freezes and comes back under load. Each reply is checked against a model of what it may be."""
import threading
import time

import pytest

from harness.resp import Push, RespError
from harness.servers import FACTOR, Keyweir, Redis, wait_until
from model import Crowd, refused

KEEP = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
BACK = 1.2  # seconds from Redis's return until everybody is served again


@pytest.fixture
def redis():
    with Redis(KEEP) as r:
        yield r


@pytest.fixture
def keyweir(redis):
    with Keyweir(redis) as k:
        yield k


class Prober(threading.Thread):
    """Asks every few milliseconds and notes how long each refusal took."""

    def __init__(self, keyweir):
        super().__init__(daemon=True)
        self.keyweir = keyweir
        self.took = []
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def run(self):
        with self.keyweir.client() as c:
            while not self.over.wait(0.005):
                start = time.monotonic()
                if refused(c.cmd("GET", "probe")):
                    self.took.append(time.monotonic() - start)

    def __exit__(self, *_):
        self.over.set()
        self.join()


def no_one_waits(took, least):
    assert len(took) >= least, f"only {len(took)} refusals"
    slow = [t for t in took if t > 0.1 * FACTOR]
    assert len(slow) <= len(took) // 20, f"{len(slow)} of {len(took)} refusals took over 100 ms, {max(took):.3f} s at most"
    assert max(took) < 0.5 * FACTOR, f"a refusal took {max(took):.3f} s"


def test_kill_and_restart_under_load(redis, keyweir):
    with Crowd(keyweir) as crowd:
        time.sleep(0.5)  # load before the fault; its length is arbitrary
        redis.kill()
        with Prober(keyweir) as prober:
            time.sleep(0.7)  # how long Redis is away
        no_one_waits(prober.took, 20)
        assert crowd.refusals > 0
        redis.start()
        took = crowd.served(5 * FACTOR)
        time.sleep(0.3)  # and some load after it
    assert took < BACK * FACTOR, f"service was back after {took:.2f} s"
    crowd.check_counters(redis)
    assert crowd.closed == 0, f"{crowd.closed} connections were closed without need"


def test_restart_five_times(redis, keyweir):
    with Crowd(keyweir) as crowd:
        for i in range(5):
            time.sleep(0.15 + 0.05 * i)
            redis.restart()
            took = crowd.served(5 * FACTOR)
            assert took < BACK * FACTOR, f"service was back after {took:.2f} s (restart {i + 1})"
    crowd.check_counters(redis)
    assert crowd.closed == 0


@pytest.mark.long
def test_restart_for_two_minutes(redis, keyweir):
    end = time.monotonic() + 120
    with Crowd(keyweir, n=12) as crowd:
        while time.monotonic() < end:
            time.sleep(crowd.clients[0].rng.random())
            redis.restart()
            assert crowd.served(5 * FACTOR) < BACK * FACTOR
    crowd.check_counters(redis)


def test_kill_while_large_values_stream(redis, keyweir):
    with Crowd(keyweir, n=4, big=3 << 20) as crowd:
        for _ in range(4):
            time.sleep(0.2)
            redis.restart()
            assert crowd.served(10 * FACTOR) < (BACK + 1) * FACTOR  # with megabytes in each round trip
    crowd.check_counters(redis)


def test_redis_that_freezes(redis):
    """SIGSTOP: -TIMEOUT in time; SIGCONT: the late replies reach nobody, and everything is right again."""
    with Keyweir(redis, 'read_timeout = "300ms"\n') as keyweir:
        with Crowd(keyweir) as crowd:
            time.sleep(0.3)
            for _ in range(2):
                redis.freeze()
                try:
                    with keyweir.client() as c:
                        start = time.monotonic()
                        got = c.cmd("GET", "probe")
                        took = time.monotonic() - start
                    time.sleep(0.5)  # longer than read_timeout, so that everybody's command times out
                finally:
                    redis.thaw()
                assert isinstance(got, RespError) and got.startswith(("TIMEOUT", "UPSTREAMDOWN")), got
                assert 0.2 < took < 0.3 + 0.4 * FACTOR, f"told after {took:.2f} s"
                assert crowd.served(5 * FACTOR) < BACK * FACTOR
                time.sleep(0.3)
        crowd.check_counters(redis)
        assert crowd.refusals > 0


def test_late_replies_one_connection(redis):
    """The same connection goes on after its -TIMEOUT and never gets the late reply."""
    with Keyweir(redis, 'read_timeout = "150ms"\n', workers=1) as keyweir, keyweir.client() as c:
        for i in range(5):
            c.cmd("SET", "late", f"before {i}")
            redis.freeze()
            got = c.pipeline([["GET", "late"], ["EVAL", "return ARGV[1]", 0, f"lost {i}"]])
            redis.thaw()
            assert all(r.startswith((b"-TIMEOUT", b"-UPSTREAMDOWN")) for r in got), got
            mine = b"mine %d" % i
            wait_until(lambda: not refused(c.cmd("PING")) and not refused(c.cmd("GET", "late")), what="service")
            assert c.cmd("EVAL", "return ARGV[1]", 0, mine) == mine
            assert c.cmd("GET", "late") == b"before %d" % i


def test_start_before_redis():
    redis = Redis(KEEP)
    try:
        with Keyweir(redis) as keyweir:
            with keyweir.client() as c:
                for _ in range(20):
                    start = time.monotonic()
                    assert c.cmd("GET", "k").startswith("UPSTREAMDOWN")
                    assert time.monotonic() - start < 0.1 * FACTOR
                assert c.cmd("PING") == "PONG"
                redis.start()
                start = time.monotonic()
                wait_until(lambda: c.cmd("SET", "k", "v") == "OK", 5, "service")
                assert time.monotonic() - start < BACK * FACTOR
                assert c.cmd("GET", "k") == b"v"
            assert "Failed to connect to Redis: Connection refused" in keyweir.log()
    finally:
        redis.stop()


def test_blocked_clients(redis, keyweir):
    blocked = [keyweir.client(2 + i % 2) for i in range(6)]
    commands = [["BLPOP", "q", 0], ["BRPOP", "q2", 30], ["BZPOPMIN", "z", 0], ["BLMOVE", "a", "b", "LEFT", "LEFT", 0],
                ["XREAD", "BLOCK", 0, "STREAMS", "s", "$"], ["BLMPOP", 0, 1, "q3", "LEFT"]]
    for c, command in zip(blocked, commands):
        c.send(*command)
    with redis.client() as direct:
        wait_until(lambda: b"blocked_clients:6" in direct.cmd("INFO", "clients"), what="six are blocked")
    redis.kill()
    start = time.monotonic()
    for c in blocked:
        assert c.read(5).startswith("UPSTREAMDOWN")
    assert time.monotonic() - start < 0.5 * FACTOR
    redis.start()
    pusher = keyweir.client()
    wait_until(lambda: pusher.cmd("RPUSH", "q", "x") == 1, 5, "service")
    got = []
    wait_until(lambda: got.append(blocked[0].cmd("BLPOP", "q", 1)) or not refused(got[-1]), 5, "BLPOP")
    assert got[-1] == [b"q", b"x"]
    for c in [*blocked, pusher]:
        c.close()


def test_watch_is_not_forgotten(redis, keyweir):
    """WATCH, then Redis dies and comes back: EXEC must not run, for nobody knows what happened meanwhile."""
    for proto in (2, 3):
        with keyweir.client(proto) as c, keyweir.client() as other:
            wait_until(lambda: c.cmd("SET", "w", "1") == "OK", 5, "service")
            assert c.cmd("WATCH", "w") == "OK"
            redis.restart()
            wait_until(lambda: other.cmd("SET", "w", "2") == "OK", 5, "service")
            replies = [c.cmd("MULTI"), c.cmd("SET", "w", "3"), c.cmd("EXEC")]
            assert replies[-1] is None or isinstance(replies[-1], RespError), replies
            assert other.cmd("GET", "w") == b"2"
            wait_until(lambda: c.cmd("WATCH", "w") == "OK", 5, "WATCH again")
            assert [c.cmd("MULTI"), c.cmd("SET", "w", "4"), c.cmd("EXEC")] == ["OK", "QUEUED", ["OK"]]


def test_kill_within_multi(redis, keyweir):
    for proto in (2, 3):
        with keyweir.client(proto) as c:
            wait_until(lambda: c.cmd("SET", "m", "1") == "OK", 5, "service")
            assert c.cmd("MULTI") == "OK"
            assert c.cmd("SET", "m", "2") == "QUEUED"
            redis.kill()
            got = [c.cmd("SET", "m", "3"), c.cmd("EXEC")]
            assert isinstance(got[-1], RespError) and got[-1].startswith(("EXECABORT", "UPSTREAMDOWN")), got
            redis.start()
            wait_until(lambda: not refused(c.cmd("GET", "m")), 5, "service")
            assert c.cmd("GET", "m") == b"1"
            assert c.cmd("EXEC") == "ERR EXEC without MULTI"
            assert [c.cmd("MULTI"), c.cmd("INCR", "m"), c.cmd("EXEC")] == ["OK", "QUEUED", [2]]


def test_redis_restarts_between_multi_and_exec(redis, keyweir):
    """A new Redis knows nothing of the MULTI: EXEC says so, and nothing of it was done."""
    with keyweir.client() as c:
        assert [c.cmd("MULTI"), c.cmd("SET", "half", "1")] == ["OK", "QUEUED"]
        redis.restart()
        with keyweir.client() as other:
            wait_until(lambda: not refused(other.cmd("GET", "half")), 5, "service")
        c.send("EXEC")
        got = c.read()
        assert isinstance(got, RespError) and got.startswith(("EXECABORT", "UPSTREAMDOWN")), got
        with redis.client() as direct:
            assert direct.cmd("GET", "half") is None


@pytest.mark.parametrize("proto", [2, 3])
def test_subscribers_hear_again(redis, keyweir, proto):
    """After Redis's return messages flow without any action of the subscriber."""
    subs = {"SUBSCRIBE": "news", "PSUBSCRIBE": "ne*", "SSUBSCRIBE": "shard"}
    conns = {}
    for command, channel in subs.items():
        c = conns[command] = keyweir.client(proto)
        assert c.cmd(command, channel)[2] == 1
    with keyweir.client() as sender:
        for round_number in range(2):
            redis.restart()
            start = time.monotonic()
            deaf = dict(conns)
            mark = b"after restart %d" % round_number
            while deaf:
                assert time.monotonic() - start < BACK * FACTOR, f"{list(deaf)} hear nothing"
                sender.cmd("PUBLISH", "news", mark)
                sender.cmd("SPUBLISH", "shard", mark)
                deaf = {command: c for command, c in deaf.items() if not heard(c, mark, proto)}
            for count in (sender.cmd("PUBLISH", "news", "x"), sender.cmd("SPUBLISH", "shard", "x") + 1):
                assert count == 2
    for c in conns.values():
        c.close()


def heard(c, mark, proto):
    """Whether `mark` came by now."""
    try:
        message = c.read(0.02)
        while message[-1] != mark:
            message = c.read(0.02)
    except TimeoutError:
        return False
    assert message[0] in (b"message", b"pmessage", b"smessage"), message
    assert (proto == 3) == isinstance(message, Push)
    return True


def test_tracking_does_not_go_silently_stale(redis, keyweir):
    """A client with its own CLIENT TRACKING learns that invalidations were lost: by a flush, or by its end."""
    with keyweir.client(3) as c, keyweir.client() as other:
        assert c.cmd("SET", "t", "1") == "OK"
        assert c.cmd("CLIENT", "TRACKING", "ON") == "OK"
        assert c.cmd("GET", "t") == b"1"
        redis.restart()
        wait_until(lambda: other.cmd("SET", "t", "2") == "OK", 5, "service")
        try:
            told = c.read(3)
            assert isinstance(told, Push) and told[0] == b"invalidate", told
        except ConnectionError:
            pass


def test_frozen_redis_and_a_reload(redis):
    """SIGHUP and SIGTERM are heard while Redis is frozen: the daemon's control does not hang on it."""
    with Keyweir(redis, 'read_timeout = "200ms"\n[server]\nshutdown_grace = "500ms"\n') as keyweir:
        with Crowd(keyweir, n=2):
            redis.freeze()
            try:
                keyweir.signal(1)
                wait_until(lambda: "eload" in keyweir.log(), 3, "the reload in the log")
            finally:
                redis.thaw()
        redis.freeze()
        start = time.monotonic()
        keyweir.signal(15)
        try:
            assert keyweir.wait(10) == 0
        finally:
            redis.thaw()
        assert time.monotonic() - start < 3 * FACTOR
