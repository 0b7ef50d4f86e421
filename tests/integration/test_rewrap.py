# SPDX-License-Identifier: BSD-2-Clause
"""keyweir rewrap: every value of a namespace written again, while others use it."""
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness.cluster import Cluster
from harness.resp import RespError
from harness.servers import FACTOR, KEYWEIR, Keyweir, calls_of, free_port
from hostile.fakes import Fake

SHOP = '[namespace.shop]\nmatch = "shop:"\n'
SUM = re.compile(r"(\d+) keys: (\d+) re-sealed, (\d+) left, (\d+) failed")
GO_ON = re.compile(r"To go on: keyweir (rewrap .*)")
ODD = b"\x00\r\n\xff %s \xc3\xa9"
OLD = "old:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
NEW = "new:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpBQkNERUY="


class Done:
    def __init__(self, process, out, err):
        self.status, self.out, self.err = process.returncode, out, err
        match = SUM.search(out)
        self.keys, self.sealed, self.left, self.failed = map(int, match.groups()) if match else (None,) * 4
        match = GO_ON.search(out)
        self.go_on = match[1].split() if match else None


def start(*args, **kwargs):
    return subprocess.Popen([KEYWEIR, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **kwargs)


def finish(process):
    out, err = process.communicate(timeout=120 * FACTOR)
    assert "Sanitizer" not in err and "runtime error" not in err, err
    return Done(process, out, err)


def rewrap(proxy, *args, name="shop"):
    return finish(start("rewrap", "-c", proxy.file, *args, name))


@pytest.fixture(scope="module")
def keyweir(redis):
    with Keyweir(redis, SHOP) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def empty(redis):
    redis.cmd("FLUSHALL")


def fill(conn):
    """Keys of all types, small and large ones, with and without an end."""
    for i in range(300):
        conn.cmd("SET", "shop:s:%d" % i, b"value %d" % i * (i + 1), *(["EX", 1000 + i] if i % 2 else []))
    conn.cmd("SET", b"shop:" + ODD, ODD)
    conn.cmd("SET", "shop:empty", "")
    conn.cmd("SET", "shop:int", 12)
    conn.cmd("SET", "shop:large", os.urandom(1 << 20))
    conn.cmd("HSET", "shop:h", "a", "1", ODD, ODD, "", "")
    for at in range(0, 3000, 500):
        conn.cmd("HSET", "shop:h:large", *[x for i in range(at, at + 500) for x in ("field %d" % i, "v%d" % i)])
        conn.cmd("RPUSH", "shop:l:large", *[b"e%d" % (i % 7) for i in range(at, at + 501)])
    conn.cmd("EXPIRE", "shop:h:large", 5000)
    conn.cmd("RPUSH", "shop:l", "a", "", ODD)
    conn.cmd("RPUSH", "shop:l:exact", *range(200))
    conn.cmd("PEXPIRE", "shop:l", 600000)
    conn.cmd("SADD", "shop:set", "a", ODD)
    conn.cmd("ZADD", "shop:z", 1, "a", 2, ODD)


def content(conn, key):
    kind = conn.cmd("TYPE", key)
    read = {"string": ["GET", key], "hash": ["HGETALL", key], "list": ["LRANGE", key, 0, -1], "set": ["SMEMBERS", key],
            "zset": ["ZRANGE", key, 0, -1, "WITHSCORES"], "stream": ["XRANGE", key, "-", "+"]}[kind]
    value = conn.cmd(*read)
    if kind in ("hash", "set"):
        value = sorted(zip(value[::2], value[1::2])) if kind == "hash" else sorted(value)
    return kind, value, conn.cmd("PEXPIRETIME", key)


def contents(conn):
    return {key: content(conn, key) for key in conn.cmd("KEYS", "*")}


def test_nothing_changes(keyweir, redis, conn, direct):
    fill(conn)
    direct.cmd("SET", "other", "value")
    direct.cmd("SET", "shopping", "value")
    want, sets = contents(direct), calls_of(redis, "set")
    done = rewrap(keyweir)
    assert (done.status, done.keys, done.sealed, done.left, done.failed) == (0, 311, 309, 0, 0), (done.out, done.err)
    assert contents(direct) == want
    assert calls_of(redis, "set") == sets + 304
    assert calls_of(redis, "hset") >= 3002 // 500


def test_streams_are_left(keyweir, conn, direct):
    conn.cmd("XADD", "shop:x", "1-1", "a", "b")
    conn.cmd("SET", "shop:1", "value")
    want = contents(direct)
    done = rewrap(keyweir)
    assert (done.status, done.keys, done.sealed, done.left) == (1, 2, 1, 1)
    assert "streams" in done.out
    assert contents(direct) == want


def test_nothing_there(keyweir):
    done = rewrap(keyweir)
    assert (done.status, done.keys) == (0, 0)
    assert "not encrypted" in done.err


WRITERS = 4


def write_all_the_time(keyweir, redis, stop, sums, failures):
    """Each writer adds to what others write, too, and knows how much it added."""
    added = 0
    with keyweir.client() as conn:
        while not stop.is_set():
            replies = [conn.cmd("INCR", "shop:n%d" % (added % 3)), conn.cmd("HINCRBY", "shop:h", "f%d" % (added % 50), 1),
                       conn.cmd("APPEND", "shop:text", "x"), conn.cmd("RPUSH", "shop:l", "x"),
                       conn.cmd("LPUSH", "shop:l", "y")]
            added += 1
            failures += [r for r in replies if not isinstance(r, int)]
            time.sleep(0.002)
    sums.append(added)


def test_no_update_is_lost(keyweir, redis, conn):
    for i in range(500):
        conn.cmd("HSET", "shop:h", "f%d" % i, 0)
    stop, sums, failures = threading.Event(), [], []
    threads = [threading.Thread(target=write_all_the_time, args=(keyweir, redis, stop, sums, failures))
               for _ in range(WRITERS)]
    for t in threads:
        t.start()
    end, runs = time.monotonic() + 2 * FACTOR, []
    while time.monotonic() < end or len(runs) < 3:
        runs.append(rewrap(keyweir))
    stop.set()
    for t in threads:
        t.join()
    total = sum(sums)
    assert not failures and len(sums) == WRITERS and total > 50
    assert all(run.status in (0, 1) and run.keys >= 1 for run in runs)  # it may give up on what is always written
    assert sum(run.sealed for run in runs) > 10
    assert sum(int(conn.cmd("GET", "shop:n%d" % i)) for i in range(3)) == total
    assert sum(int(v) for v in conn.cmd("HVALS", "shop:h")) == total
    assert conn.cmd("STRLEN", "shop:text") == total
    assert conn.cmd("LRANGE", "shop:l", 0, -1) == [b"y"] * total + [b"x"] * total


@pytest.fixture
def between(keyweir):
    """between(script): a fake between the tool and Keyweir, and the arguments that lead there."""
    fakes = []

    def make(script):
        fakes.append(Fake(keyweir, script))
        fakes[-1].__enter__()
        return fakes[-1], ["--address", "127.0.0.1:%d" % fakes[-1].port]

    yield make
    for fake in fakes:
        fake.__exit__()


def once(word, action):
    """A script that acts before the first request of that name."""
    done = []

    def script(args, conn):
        if args[0] == word and not done:
            done.append(args)
            return action(args, conn)
        return None

    return script


def before(word, conn, *command):
    """A script that has somebody else run a command before each request of that name."""
    def script(args, _):
        if args[0] == word:
            conn.cmd(*command)

    return script


@pytest.mark.parametrize("word", [b"MULTI", b"EXEC"])
@pytest.mark.parametrize("make, other, read, want", [
    (["SET", "shop:1", "old"], ["SET", "shop:1", "new"], ["GET", "shop:1"], b"new"),
    (["SET", "shop:1", "old"], ["DEL", "shop:1"], ["GET", "shop:1"], None),
    (["SET", "shop:1", "old"], ["PEXPIRE", "shop:1", 9000000], ["GET", "shop:1"], b"old"),
    (["HSET", "shop:1", "f", "old"], ["HSET", "shop:1", "f", "new"], ["HGET", "shop:1", "f"], b"new"),
    (["HSET", "shop:1", "f", "old", "g", 1], ["HDEL", "shop:1", "f"], ["HGETALL", "shop:1"], [b"g", b"1"]),
    (["RPUSH", "shop:1", "a", "b"], ["LPUSH", "shop:1", "0"], ["LRANGE", "shop:1", 0, -1], [b"0", b"a", b"b"]),
    (["RPUSH", "shop:1", "a", "b"], ["RENAME", "shop:1", "shop:2"], ["EXISTS", "shop:1"], 0),
])
def test_somebody_writes_in_between(keyweir, conn, between, word, make, other, read, want):
    conn.cmd(*make)
    change = before(word, conn, *other)
    fake, args = between(once(word, change))
    assert rewrap(keyweir, *args).status == 0
    assert conn.cmd(*read) == want
    assert len([a for a in fake.seen if a[0] == b"WATCH"]) >= 2
    if other[0] == "PEXPIRE":
        assert conn.cmd("PTTL", "shop:1") > 8000000


@pytest.mark.parametrize("other", [["SET", "shop:1", "x"], ["DEL", "shop:1"], ["SADD", "shop:1", "x"]])
@pytest.mark.parametrize("make", [["SET", "shop:1", "v"], ["HSET", "shop:1", "f", "v"], ["RPUSH", "shop:1", "v"]])
def test_another_type_meanwhile(keyweir, conn, between, make, other):
    conn.cmd(*make)

    def replace(*_):
        conn.cmd("DEL", "shop:1")
        conn.cmd(*other)

    _, args = between(once(b"WATCH", replace))
    done = rewrap(keyweir, *args)
    assert done.status == 0 and done.keys == 1
    assert conn.cmd("TYPE", "shop:1") == {"SET": "string", "DEL": "none", "SADD": "set"}[other[0]]


def test_a_list_that_is_shifted(keyweir, conn, between):
    """Elements that move while the list is walked are not passed over."""
    conn.cmd("RPUSH", "shop:l", *["e%d" % i for i in range(1000)])
    done = []

    def script(args, _):
        if args[0] == b"LRANGE" and args[2] != b"0" and len(done) < 3:
            done.append(args)
            for _ in range(20):
                conn.cmd("RPUSH", "shop:l", conn.cmd("LPOP", "shop:l"))

    fake, args = between(script)
    assert rewrap(keyweir, *args).status == 0
    assert len(done) == 3
    assert conn.cmd("LRANGE", "shop:l", 0, -1) == [b"e%d" % ((i + 60) % 1000) for i in range(1000)]
    last = [a for a in fake.seen if a[0] == b"LSET"][-1000:]
    assert [(int(a[2]), a[3]) for a in last] == list(enumerate(conn.cmd("LRANGE", "shop:l", 0, -1)))


def test_a_list_that_never_rests(keyweir, conn, between):
    conn.cmd("RPUSH", "shop:l", *["e%d" % i for i in range(300)])
    _, args = between(before(b"WATCH", conn, "LPOP", "shop:l"))
    done = rewrap(keyweir, *args)
    assert (done.status, done.failed) == (1, 1)
    assert "shop:l: others take elements out" in done.err
    assert conn.cmd("LRANGE", "shop:l", 0, -1) == [b"e%d" % i for i in range(300)][-conn.cmd("LLEN", "shop:l"):]


def test_what_is_always_written_is_given_up(keyweir, conn, between):
    conn.cmd("SET", "shop:1", 0)
    _, args = between(before(b"EXEC", conn, "INCR", "shop:1"))
    done = rewrap(keyweir, *args)
    assert (done.status, done.failed) == (1, 1) and "shop:1: others write it all the time" in done.err
    assert int(conn.cmd("GET", "shop:1")) >= 10


def test_fields_keep_their_times(keyweir, between):
    """HSET ends the time to live that a field has from Redis 7.4 on: it is set again, in the same transaction."""
    def script(args, conn):
        if args[0] == b"HPEXPIRETIME":
            assert args[1:] == [b"shop:h", b"FIELDS", b"2", b"f", b"g"]
            conn.sendall(b"*2\r\n:4102444800000\r\n:-1\r\n")
            return True
        if args[0] == b"HPEXPIREAT":
            conn.sendall(b"+QUEUED\r\n")
            return True
        return None

    with keyweir.client() as conn:
        conn.cmd("HSET", "shop:h", "f", 1, "g", 2)
    fake, args = between(script)
    assert rewrap(keyweir, *args).status == 0
    at = fake.seen.index([b"MULTI"])
    assert [a[0] for a in fake.seen[at - 1:at + 4]] == [b"HPEXPIRETIME", b"MULTI", b"HSET", b"HPEXPIREAT", b"EXEC"]
    assert fake.seen[at + 2] == [b"HPEXPIREAT", b"shop:h", b"4102444800000", b"FIELDS", b"1", b"f"]


def test_a_field_that_ends_meanwhile(keyweir, conn, between):
    """HSCAN has told it, HPEXPIRETIME says that there is no such field (-2): it is not written back, for ever."""
    asked = []

    def script(args, sock):
        if args[0] == b"HPEXPIRETIME":
            asked.append(args)
            sock.sendall(b"*2\r\n:-2\r\n:-1\r\n" if len(asked) == 1 else b"*1\r\n:-1\r\n")
            if len(asked) == 1:
                conn.cmd("HDEL", "shop:h", "f")
            return True
        if args[0] == b"WATCH" and asked:
            sock.sendall(b"+OK\r\n")  # Redis may end a field without a word to those who watch the key
            return True
        return None

    conn.cmd("HSET", "shop:h", "f", 1, "g", 2)
    fake, args = between(script)
    assert rewrap(keyweir, *args).status == 0
    assert [a[2:] for a in fake.seen if a[0] == b"HSET"] == [[b"g", b"2"]]
    assert conn.cmd("HGETALL", "shop:h") == [b"g", b"2"]


def test_old_servers_are_asked_once(keyweir, conn, between):
    for i in range(10):
        conn.cmd("HSET", "shop:h%d" % i, "f", i)
    if not isinstance(conn.cmd("HPEXPIRETIME", "shop:h1", "FIELDS", 1, "f"), RespError):
        pytest.skip("this Redis has times to live of fields")
    fake, args = between(None)
    assert rewrap(keyweir, *args).sealed == 10
    assert len([a for a in fake.seen if a[0] == b"HPEXPIRETIME"]) == 1


def upstream_writes(redis, action):
    """The keys that Redis was told to SET or HSET while action ran."""
    keys = []
    with redis.client() as monitor:
        assert monitor.cmd("MONITOR") == "OK"
        result = action()
        redis.cmd("PING", "the end")
        while True:
            line = monitor.read()
            if '"the end"' in line:
                return keys, result
            keys += re.findall(r'\] "H?SET" "([^"]+)"', line)


def test_stop_and_go_on(keyweir, redis, conn, between):
    want = {"shop:%d" % i for i in range(3000)}
    for i in range(0, 3000, 500):
        conn.pipeline([["SET", "shop:%d" % n, n] for n in range(i, i + 500)])
    scans, running = [], []

    def stop(args, _):
        scans.extend(args[:1] if args[0] == b"SCAN" else [])
        if args[0] == b"GET" and len(scans) == 10:
            running[0].send_signal(signal.SIGTERM)

    _, args = between(stop)

    def run():
        running.append(start("rewrap", "-c", keyweir.file, *args, "shop"))
        first = finish(running[0])
        return first, rewrap(keyweir, "--from", first.go_on[first.go_on.index("--from") + 1])

    keys, (first, second) = upstream_writes(redis, run)
    assert first.status == 1 and first.failed == 0 and 0 < first.sealed < 3000
    assert first.go_on[:1] + first.go_on[-1:] == ["rewrap", "shop"] and first.go_on[-2] != "0"
    assert second.status == 0 and second.sealed < 3000
    assert set(keys) == want and len(keys) < 3000 + 300
    assert first.sealed + second.sealed == len(keys)


def test_the_line_to_go_on_works_as_it_is(keyweir, conn, between):
    for i in range(400):
        conn.cmd("SET", "shop:%d" % i, i)
    running = []
    _, args = between(once(b"GET", lambda *_: running[0].send_signal(signal.SIGINT)))
    running.append(start("rewrap", "-c", keyweir.file, *args, "shop"))
    first = finish(running[0])
    assert first.sealed == 1 and first.go_on
    done = finish(start(*first.go_on))
    assert done.status == 0 and done.sealed == 400


def test_keyweir_ends_meanwhile(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, SHOP)
    with proxy.client() as conn:
        for i in range(300):
            conn.cmd("SET", "shop:%d" % i, i)
    seen = []

    def script(args, conn):
        seen.append(args)
        if args[0] == b"EXEC" and len(seen) > 300:
            conn.shutdown(socket.SHUT_RDWR)

    with Fake(proxy, script) as fake:
        done = rewrap(proxy, "--address", "127.0.0.1:%d" % fake.port)
    assert done.status == 1 and done.go_on and "the connection is lost" in done.err


@pytest.mark.parametrize("db", [0, 5])
def test_redis_is_away_for_a_moment(fresh_redis, fresh_keyweir, db):
    server = fresh_redis(["--appendonly", "yes", "--appendfsync", "always"])
    proxy = fresh_keyweir(server, 'reconnect_delay = "10ms"\n' + SHOP)
    with proxy.client() as conn:
        assert conn.cmd("SELECT", db) == "OK"
        for i in range(200):
            conn.cmd("SET", "shop:%d" % i, i)
    count, down, up = [], threading.Event(), threading.Event()

    def script(args, _):
        count.append(args)
        if len(count) == 200:
            down.set()
            up.wait(30 * FACTOR)

    with Fake(proxy, script) as fake:
        process = start("rewrap", "-c", proxy.file, "--address", "127.0.0.1:%d" % fake.port, "shop")
        assert down.wait(30 * FACTOR)
        server.kill()
        up.set()
        time.sleep(0.3)
        server.start()  # not by the fake's thread, whose child it would be
        done = finish(process)
    assert (done.status, done.failed) == (0, 0) and done.sealed >= 200, done.err
    assert "started anew" in done.err
    with server.client() as direct:
        direct.cmd("SELECT", db)
        assert direct.cmd("MGET", *["shop:%d" % i for i in range(200)]) == [b"%d" % i for i in range(200)]
        assert direct.cmd("DBSIZE") == 200


def test_cursors_of_another_redis(keyweir, conn):
    for i in range(300):
        conn.cmd("SET", "shop:%d" % i, i)
    assert rewrap(keyweir, "--from", "4@01234567").sealed == 300
    assert rewrap(keyweir, "--from", "4").sealed < 300
    assert rewrap(keyweir, "--from", "0/4").sealed < 300


# ---- databases ----


def in_databases(server, *command, dbs=(0, 2, 11)):
    """What the command says in each of them."""
    replies = []
    with server.client() as conn:
        for db in dbs:
            assert conn.cmd("SELECT", db) == "OK"
            replies.append(conn.cmd(*command))
    return replies


def test_all_databases(fresh_redis, fresh_keyweir):
    server = fresh_redis()
    proxy = fresh_keyweir(server.url[:-1] + "2", sealed_config(NEW, OLD))
    direct = fresh_keyweir(server, sealed_config(OLD))  # another that has not heard of the new key
    want = in_databases(direct, "SET", "shop:1", "x", "EX", 1000), in_databases(direct, "HSET", "shop:h", "f", "y")
    assert want == (["OK"] * 3, [1] * 3)
    in_databases(server, "SET", "else", "z", dbs=(0, 3))
    done = rewrap(proxy)
    assert (done.status, done.keys, done.sealed) == (0, 6, 6), done.err
    assert all(v.startswith(begins("new")) for v in in_databases(server, "GET", "shop:1"))
    assert all(v.startswith(begins("new")) for v in in_databases(server, "HGET", "shop:h", "f"))
    assert in_databases(proxy, "GET", "shop:1") == [b"x"] * 3 and min(in_databases(proxy, "TTL", "shop:1")) > 900
    assert in_databases(server, "DBSIZE", dbs=(0, 2, 3, 11)) == [3, 2, 1, 2]


def test_to_go_on_in_a_database(redis, keyweir, between):
    """Stopped in the second of three: the line to go on leads there, and what was done before is not done again."""
    for db in range(3):
        in_databases(keyweir, "MSET", *[x for i in range(300) for x in ("shop:%d" % i, db)], dbs=[db])
    running, scans = [], []

    def stop(args, _):
        if args[0] == b"SCAN" and [b"SELECT", b"1"] in fake.seen:
            scans.append(args)
            if len(scans) == 2:
                running[0].send_signal(signal.SIGTERM)

    fake, args = between(stop)
    running.append(start("rewrap", "-c", keyweir.file, *args, "shop"))
    first = finish(running[0])
    assert first.status == 1 and 300 < first.keys < 600 and first.go_on[-2].startswith("1/"), first.out
    fake.script = lambda args, _: None
    second = finish(start(*first.go_on))
    assert second.status == 0 and first.keys + second.keys >= 900 and 300 < second.keys < 600
    assert in_databases(redis, "GET", "shop:7", dbs=range(3)) == [b"0", b"1", b"2"]


def test_a_database_that_is_empty_by_now(keyweir):
    in_databases(keyweir, "SET", "shop:1", "x", dbs=[0, 4])
    assert rewrap(keyweir, "--from", "3/4").sealed == 1  # the cursor was not that of 4
    assert rewrap(keyweir, "--from", "4/0").sealed == 1
    assert rewrap(keyweir, "--from", "5/0").sealed == 0


def test_errors_name_keys_never_values(fresh_redis, fresh_keyweir):
    server = fresh_redis()
    proxy = fresh_keyweir(server, SHOP)
    with proxy.client() as conn:
        conn.cmd("SET", b"shop:\x1b[31m", "top secret")
        conn.cmd("HSET", "shop:h", "f", "top secret")
        server.cmd("CONFIG", "SET", "maxmemory", 1)
        done = rewrap(proxy)
        assert (done.status, done.failed) == (1, 2)
        assert "shop:\\x1b[31m: SET: OOM\n" in done.err and "shop:h: HSET: OOM\n" in done.err
        assert "secret" not in done.out + done.err and "\x1b" not in done.err
        server.cmd("CONFIG", "SET", "maxmemory", 0)
        assert rewrap(proxy).status == 0
        assert conn.cmd("GET", b"shop:\x1b[31m") == b"top secret"


def test_words_of_a_refusal_are_not_repeated(keyweir, conn, between):
    """"unknown command, with args beginning with ..." has the value in it."""
    conn.cmd("SET", "shop:1", "secret")

    def script(args, sock):
        if args[0] == b"SET":
            sock.sendall(b"-ERR unknown command 'SET', with args beginning with: 'shop:1' 'secret'\r\n")
            return True
        return None

    _, args = between(script)
    done = rewrap(keyweir, *args)
    assert done.status == 1 and "shop:1: SET: ERR" in done.err and "secret" not in done.err + done.out


def test_an_error_is_undone(keyweir, conn, between):
    """What comes after a key that failed is in no transaction of it."""
    for i in range(5):
        conn.cmd("SET", "shop:%d" % i, i)
    _, args = between(once(b"MULTI", lambda a, sock: sock.sendall(b"-ERR no\r\n") or True))
    done = rewrap(keyweir, *args)
    assert (done.failed, done.sealed) == (1, 4)
    assert conn.cmd("MGET", *["shop:%d" % i for i in range(5)]) == [b"%d" % i for i in range(5)]


@pytest.mark.parametrize("args, status, words", [
    ([], 2, "which namespace?"),
    (["shop", "other"], 2, "one namespace at a time"),
    (["nosuch"], 2, "there is no namespace nosuch"),
    (["--from", "x", "shop"], 2, "--from takes"),
    (["--from", "", "shop"], 2, "--from takes"),
    (["--from", "1:", "shop"], 2, "--from takes"),
    (["--from", ":1", "shop"], 2, "--from takes"),
    (["--from", "1:0", "shop"], 2, "not of this namespace"),
    (["--from", "0@123456789", "shop"], 2, "--from takes"),
    (["--from", "0x", "shop"], 2, "--from takes"),
    (["--from", "/0", "shop"], 2, "--from takes"),
    (["--from", "1/", "shop"], 2, "--from takes"),
    (["--from", "12345678901/0", "shop"], 2, "--from takes"),
    (["--from", "1/0", "elsewhere"], 2, "not of this namespace"),
    (["--from", "123456789012345678901234567890", "shop"], 2, "--from takes"),
    (["--nosuch", "shop"], 2, "no such option"),
    (["--address", "nowhere", "shop"], 2, "nowhere is not an address"),
    (["--address", "tls:127.0.0.1:6381", "shop"], 2, "does not speak"),
    (["--address", "unix:/nowhere", "shop"], 1, "No such file"),
    (["readonly"], 1, "readonly: it is readonly"),
    (["-c", "/nosuch.toml", "shop"], 78, "/nosuch.toml"),
])
def test_wrong_usage(fresh_keyweir, redis, tmp_path, args, status, words):
    file = tmp_path / "keyweir.toml"
    file.write_text(SHOP + "[namespace.readonly]\nreadonly = true\n"
                    '[namespace.elsewhere]\nupstream = "two"\n[upstream.two]\n')
    done = finish(start("rewrap", "-c", str(file), *args))
    assert done.status == status, done.err
    assert words in done.err


def test_nobody_listens(tmp_path):
    file = tmp_path / "keyweir.toml"
    file.write_text('[server]\nlisten = ["127.0.0.1:%d"]\n' % free_port() + SHOP)
    done = finish(start("rewrap", "-c", str(file), "shop"))
    assert done.status == 1 and "Connection refused" in done.err


def test_only_tls(tmp_path):
    file = tmp_path / "keyweir.toml"
    (tmp_path / "pem").write_text("")
    file.write_text('[server]\nlisten = ["tls:127.0.0.1:6381"]\n[server.tls]\ncert = "%s"\nkey = "%s"\n'
                    % ((tmp_path / "pem",) * 2) + SHOP)
    done = finish(start("rewrap", "-c", str(file), "shop"))
    assert done.status == 2 and "no address without TLS" in done.err


def test_help():
    assert "rewrap" in finish(start("-h")).out


def test_unix_socket(redis, fresh_keyweir, tmp_path):
    path = "unix:%s/k.sock" % tmp_path
    proxy = fresh_keyweir(redis, SHOP, listen=[path])
    redis.cmd("SET", "shop:1", "x")
    assert rewrap(proxy).sealed == 1


def test_namespaces_within_each_other(redis, fresh_keyweir, direct):
    """Longest prefix, several prefixes, prefixes with what is special in a pattern, and the rest of all keys."""
    proxy = fresh_keyweir(redis, '[namespace.a]\nmatch = ["a:", "b*[c]:", "a:x:y:"]\n[namespace.b]\nmatch = "a:x:"\n'
                                 "[namespace.default]\n")
    keys = {"a": ["a:1", "a:x", "b*[c]:1", "a:x:y:1"], "b": ["a:x:1"], "default": ["bbc:1", "b*c:1", "c", "A:1"]}
    for all_of_one in keys.values():
        for key in all_of_one:
            direct.cmd("SET", key, key)
    for name, want in keys.items():
        got, done = upstream_writes(redis, lambda n=name: rewrap(proxy, name=n))
        assert done.status == 0 and sorted(set(got)) == sorted(want)
        assert done.keys == len(want) + (name == "a")  # a:x:y:1 is met twice
    assert {key: direct.cmd("GET", key).decode() for key in direct.cmd("KEYS", "*")} == {
        k.encode(): k for ks in keys.values() for k in ks}


def test_another_upstream(redis, fresh_redis, fresh_keyweir):
    other = fresh_redis()
    proxy = fresh_keyweir(redis, SHOP + 'upstream = "two"\n[upstream.two]\nurl = "%s"\n' % other.url)
    with proxy.client() as conn:
        for i in range(250):
            conn.cmd("SET", "shop:%d" % i, i)
    assert redis.cmd("DBSIZE") == 0 and other.cmd("DBSIZE") == 250
    keys, done = upstream_writes(other, lambda: rewrap(proxy))
    assert done.status == 0 and len(set(keys)) == 250 == done.sealed


def test_another_upstream_with_a_prefix(redis, fresh_redis, fresh_keyweir):
    """Names are rewritten there and back there, too."""
    other = fresh_redis()
    conf = sealed_config(OLD) + 'prefix = "p:"\nupstream = "two"\n[upstream.two]\nurl = "%s"\n' % other.url
    proxy = fresh_keyweir(redis, conf)
    with proxy.client() as conn:
        put_all(conn)
        want = read_all(conn)
        for i in range(250):
            conn.cmd("SET", "shop:n:%d" % i, i)
    other.cmd("SET", "shop:1", "nobody's")  # what clients call so is p:1
    assert redis.cmd("DBSIZE") == 0 and other.cmd("DBSIZE") == 256
    proxy.reload(conf.replace(OLD, '%s", "%s' % (NEW, OLD)))
    done = rewrap(proxy)
    assert (done.status, done.keys, done.sealed) == (0, 255, 255), done.err
    proxy.reload(conf.replace(OLD, NEW))
    with proxy.client() as conn:
        assert read_all(conn) == want
        assert conn.cmd("GET", "shop:n:249") == b"249" and conn.cmd("TTL", "shop:1") > 900
    assert other.cmd("GET", "shop:1") == b"nobody's" and other.cmd("DBSIZE") == 256


def test_cluster(fresh_keyweir):
    with Cluster(replicas=0) as cluster:
        nodes = ", ".join('"%s"' % n.address for n in cluster.nodes())
        proxy = fresh_keyweir(None, '[upstream.main]\nmode = "cluster"\nnodes = [%s]\n' % nodes + SHOP)
        with proxy.client() as conn:
            for i in range(300):
                conn.cmd("SET", "shop:%d" % i, i, "EX", 1000)
                conn.cmd("HSET", "shop:h%d" % i, "f", i)
            conn.cmd("SET", "else", 1)
        done = rewrap(proxy)
        assert (done.status, done.keys, done.sealed) == (0, 600, 600), done.err
        with proxy.client() as conn:
            for i in range(300):
                assert conn.cmd("GET", "shop:%d" % i) == b"%d" % i and conn.cmd("TTL", "shop:%d" % i) > 900
                assert conn.cmd("HGETALL", "shop:h%d" % i) == [b"f", b"%d" % i]


def test_on_a_terminal(keyweir, conn):
    for i in range(500):
        conn.cmd("SET", "shop:%d" % i, i)
    master, slave = pty.openpty()
    process = subprocess.Popen([KEYWEIR, "rewrap", "-c", keyweir.file, "shop"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=slave, text=True)
    out, _ = process.communicate(timeout=60 * FACTOR)
    os.close(slave)
    seen = b""
    while select.select([master], [], [], 0.2)[0]:
        try:
            seen += os.read(master, 65536)
        except OSError:
            break
    os.close(master)
    assert b"\r[" + b"#" * 30 + b"] 500 of at most 500 keys: 500 re-sealed" in seen
    assert process.returncode == 0 and SUM.search(out).groups() == ("500", "500", "0", "0")


# ---- with values that are sealed ----


def sealed_config(*keys, more=""):
    return "[encryption]\nkeys = [%s]\n%s%sencrypt = true\n" % (", ".join('"%s"' % k for k in keys), more, SHOP)


def put_all(conn):
    conn.cmd("SET", "shop:1", "a value", "EX", 1000)
    conn.cmd("SET", b"shop:" + ODD, ODD)
    conn.cmd("SET", "shop:large", b"x" * (1 << 20))
    for at in range(0, 1000, 250):
        conn.cmd("HSET", "shop:h", *[x for i in range(at, at + 250) for x in ("f%d" % i, "value %d" % i)])
        conn.cmd("RPUSH", "shop:l", *["value %d" % i for i in range(at, at + 250)])
    conn.cmd("EXPIRE", "shop:h", 5000)


def read_all(conn):
    fields = conn.cmd("HGETALL", "shop:h")
    return (conn.cmd("GET", "shop:1"), conn.cmd("GET", b"shop:" + ODD), conn.cmd("GET", "shop:large"),
            sorted(zip(fields[::2], fields[1::2])), conn.cmd("LRANGE", "shop:l", 0, -1))


def stored(redis):
    """All values as they stand in Redis."""
    return [redis.cmd("GET", "shop:1"), redis.cmd("GET", b"shop:" + ODD), redis.cmd("GET", "shop:large"),
            *redis.cmd("HVALS", "shop:h"), *redis.cmd("LRANGE", "shop:l", 0, -1)]


def begins(name):
    return b"\x00kw\x01" + bytes([len(name)]) + name.encode()


def test_rotation(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, sealed_config(OLD))
    with proxy.client() as conn:
        put_all(conn)
        want, ends = read_all(conn), [redis.cmd("PEXPIRETIME", k) for k in ("shop:1", "shop:h", "shop:l")]
    assert all(v.startswith(begins("old")) for v in stored(redis))
    proxy.reload(sealed_config(NEW, OLD))
    done = rewrap(proxy)
    assert (done.status, done.sealed, done.failed) == (0, 5, 0), done.err
    assert all(v.startswith(begins("new")) for v in stored(redis)) and len(stored(redis)) == 2003
    proxy.reload(sealed_config(NEW))
    with proxy.client() as conn:
        assert read_all(conn) == want
    assert [redis.cmd("PEXPIRETIME", k) for k in ("shop:1", "shop:h", "shop:l")] == ends


def test_moving_existing_data_over(redis, fresh_keyweir):
    with redis.client() as direct:
        put_all(direct)
        want = read_all(direct)
    proxy = fresh_keyweir(redis, sealed_config(NEW, more="accept_plaintext = true\n"))
    assert rewrap(proxy).status == 0
    assert all(v.startswith(begins("new")) for v in stored(redis))
    proxy.reload(sealed_config(NEW))
    with proxy.client() as conn:
        assert read_all(conn) == want


def test_what_does_not_open_is_named(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, sealed_config(NEW))
    with proxy.client() as conn:
        put_all(conn)
        redis.cmd("COPY", "shop:1", "shop:moved")
        redis.cmd("SET", "shop:plain", "top secret")
        redis.cmd("HSET", "shop:h2", "g", redis.cmd("HGET", "shop:h", "f1"))
        redis.cmd("RPUSH", "shop:l2", redis.cmd("LINDEX", "shop:l", 0))
        broken = ["shop:moved", "shop:plain", "shop:h2", "shop:l2"]
        dumps = [redis.cmd("DUMP", key) for key in broken]
        done = rewrap(proxy)
        assert (done.status, done.sealed, done.failed) == (1, 5, 4)
        assert all("%s: " % key in done.err for key in broken)
        assert "secret" not in done.out + done.err and "a value could not be opened" in done.err
        assert "value" not in done.err.replace("a value could not be opened", "")
        assert [redis.cmd("DUMP", key) for key in broken] == dumps


def test_a_key_too_few(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, sealed_config(OLD))
    with proxy.client() as conn:
        put_all(conn)
    values = stored(redis)
    proxy.reload(sealed_config(NEW))
    done = rewrap(proxy)
    assert (done.status, done.sealed, done.failed) == (1, 0, 5)
    assert stored(redis) == values


def transfer(proxy, stop, moved):
    """Values go from one field to another under WATCH, as applications do it."""
    with proxy.client() as conn:
        while not stop.is_set():
            conn.cmd("WATCH", "shop:n")
            n = int(conn.cmd("GET", "shop:n"))
            conn.cmd("MULTI")
            conn.cmd("SET", "shop:n", n + 1)
            moved[0] += conn.cmd("EXEC") is not None
            time.sleep(0.001)


def test_no_sealed_update_is_lost(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, sealed_config(NEW, OLD))
    with proxy.client() as conn:
        conn.cmd("SET", "shop:n", 0)
        stop, moved = threading.Event(), [[0], [0]]
        threads = [threading.Thread(target=transfer, args=(proxy, stop, m)) for m in moved]
        for t in threads:
            t.start()
        for _ in range(10):
            rewrap(proxy)
        stop.set()
        for t in threads:
            t.join()
        assert int(conn.cmd("GET", "shop:n")) == moved[0][0] + moved[1][0] > 20


@pytest.mark.parametrize("in_force, file, words", [
    (OLD, '%s", "%s' % (NEW, OLD), "seals with key old, the configuration file says key new: reload it first"),
    (None, NEW, "seals with no key, the configuration file says key new"),
    (OLD, None, "seals with key old, the configuration file says no key"),
])
def test_the_daemon_does_not_know_the_file(redis, fresh_keyweir, in_force, file, words):
    proxy = fresh_keyweir(redis, sealed_config(in_force) if in_force else SHOP)
    with proxy.client() as conn:
        conn.cmd("SET", "shop:1", "x")
    before = redis.cmd("GET", "shop:1")
    proxy.write_config(sealed_config(file) if file else SHOP)
    done = rewrap(proxy)
    assert done.status == 1 and done.keys is None and words in done.err
    assert redis.cmd("GET", "shop:1") == before


def test_another_key_meanwhile(redis, fresh_keyweir):
    """A reload while it walks: what came behind it was sealed with another key than the one in the file."""
    proxy = fresh_keyweir(redis, sealed_config(NEW, OLD))
    with proxy.client() as conn:
        conn.cmd("SET", "shop:1", "x")
    with Fake(proxy, once(b"GET", lambda *_: proxy.reload(sealed_config(OLD, NEW)))) as fake:
        done = rewrap(proxy, "--address", "127.0.0.1:%d" % fake.port)
    assert (done.status, done.sealed) == (1, 1) and "seals with key old" in done.err


def test_the_address_of_one_namespace(redis, fresh_keyweir):
    port = free_port()
    proxy = fresh_keyweir(redis, SHOP + '[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "shop"\n' % port)
    with proxy.client() as conn:
        conn.cmd("SET", "shop:1", "x")
    done = rewrap(proxy, "--address", "127.0.0.1:%d" % port)
    assert done.status == 2 and "one namespace alone: take an address of server.listen" in done.err


def test_hashed_names_cannot_be_walked(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, sealed_config(NEW, more='hash_key = "%s"\n' % OLD[4:]) + "hash_keys = true\n")
    done = rewrap(proxy)
    assert done.status == 1 and "hash_keys" in done.err
