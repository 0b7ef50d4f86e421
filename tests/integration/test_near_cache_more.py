# SPDX-License-Identifier: BSD-2-Clause
"""The near-cache in front of a real Redis: what is answered from memory, and what must not be any more.

That something came from memory is told by Redis: its INFO commandstats did not count it.
"""
import os
import re
import time

import pytest

from harness.namespaces import Bound, table_of
from harness.relay import DOWN, Relay
from harness.resp import Conn, RespError, encode, parse
from harness.servers import FACTOR, TOP, Keyweir, Redis, calls_of, wait_until

NEAR = "near_cache = true\n"
KEY = "2026a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
HEARD = 0.05 * FACTOR  # seconds within which Redis's word is here
QUICK = 'read_timeout = "300ms"\nconnect_timeout = "300ms"\nreconnect_delay = "20ms"\n'


def tracked(conn):
    reply = conn.cmd("KEYWEIR", "CACHE", "STATS")
    flat = reply if isinstance(reply, list) else [x for pair in reply.items() for x in pair]
    rows = dict(zip(flat[::2], flat[1::2]))[b"tracking"]
    rows = [row if isinstance(row, dict) else dict(zip(row[::2], row[1::2])) for row in rows]
    return bool(rows) and all(0 <= row[b"confirmed_ms"] < 400 for row in rows)


class Near:
    """A Redis and a Keyweir with a near-cache, which hears of changes."""

    def __init__(self, tables="", head="", redis=None, workers=2, url=None):
        self.redis = redis or Redis()
        self.proxy = None
        self.tables, self.head, self.workers, self.url = tables or table_of(NEAR, "n", "n:", "n:"), head, workers, url

    def __enter__(self):
        if not self.redis.alive():
            self.redis.start()
        self.proxy = Keyweir(self.url or self.redis, self.head + self.tables, workers=self.workers).start()
        self.ready()
        return self

    def ready(self):
        with self.proxy.client() as conn:
            wait_until(lambda: tracked(conn), what="it is tracked")

    def __exit__(self, *_):
        try:
            self.proxy.stop()
        finally:
            self.redis.stop()

    def client(self, proto=2):
        return self.proxy.client(proto)

    def calls(self, name):
        return calls_of(self.redis, name.lower())

    def from_memory(self, conn, *command):
        """The raw reply when Redis was not asked for it; None when it was."""
        before = self.calls(command[0])
        raw = conn.raw(*command)
        return raw if self.calls(command[0]) == before else None

    def kept(self, conn, *command):
        """Asks until it comes from memory; the raw reply."""
        return wait_until(lambda: self.from_memory(conn, *command), 5, "%r comes from memory" % (command,))


@pytest.fixture(scope="module")
def near():
    tables = (table_of(NEAR, "n", "n:", "n:") + table_of(NEAR + 'race_condition_ttl = "1500ms"\n', "race", "race:", "race:")
              + table_of("", "plain", "p:", "p:") + '[near_cache]\nmax_value_size = "200kb"\n')
    with Near(tables) as n:
        yield n


@pytest.fixture
def direct(near):
    with near.redis.client() as conn:
        yield conn
        conn.cmd("FLUSHALL")


@pytest.fixture
def conn(near, direct):
    with near.client() as c:
        yield c


# ---- what is kept ----

MADE = """SET s hello|SET n 10|HSET h a 1 b 2|RPUSH l a b c a|SADD e a b|ZADD z 1 a 2.5 b 3 c|ZADD x 0 a 0 b
GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania|XADD t 1-1 f v|XADD t 2-1 f w|SET v 1 EX 1000|HSET h2 f v"""
READ = """GET s|GET none|STRLEN s|GETRANGE s 1 3|SUBSTR s 0 1|GETBIT s 1|BITCOUNT s|BITCOUNT s 0 1|BITPOS s 1|BITFIELD_RO s GET u8 0
TYPE s|TYPE none|HGET h a|HGET h none|HGETALL h|HGETALL none|HMGET h a none b|HKEYS h|HVALS h|HLEN h|HEXISTS h a|HSTRLEN h a
LRANGE l 0 -1|LRANGE l 1 1|LRANGE none 0 -1|LLEN l|LINDEX l 0|LPOS l a|LPOS l a COUNT 0|SMEMBERS e|SISMEMBER e a
SMISMEMBER e a z|SCARD e|ZRANGE z 0 -1|ZRANGE z 0 -1 WITHSCORES|ZRANGE z 1 2 BYSCORE|ZRANGEBYSCORE z 1 2
ZRANGEBYSCORE z -inf +inf WITHSCORES|ZRANGEBYLEX x - +|ZREVRANGE z 0 -1|ZREVRANGEBYSCORE z 3 1|ZREVRANGEBYLEX x + -
ZSCORE z b|ZSCORE z none|ZMSCORE z a none|ZRANK z b|ZREVRANK z b|ZCARD z|ZCOUNT z 1 2|ZLEXCOUNT x - +|GEOPOS g Palermo
GEODIST g Palermo Catania|GEOHASH g Palermo|GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC|GEORADIUS_RO g 15 37 200 km
GEORADIUSBYMEMBER_RO g Palermo 200 km|XRANGE t - +|XREVRANGE t + -|XLEN t|EXISTS s|EXISTS none|EXPIRETIME v
PEXPIRETIME v|HGET h2 f"""


def split(text):
    return [part.split() for line in text.splitlines() for part in line.split("|")]


def named(words, at=1, space="n:"):
    return [*words[:at], space + words[at], *words[at + 1:]]


def cacheable():
    """The commands that the table says may be kept, and this Redis has."""
    with open(os.path.join(TOP, "src/command/overrides.toml"), encoding="utf-8") as file:
        section = file.read().partition("\n[cache]\n")[2].partition("\n[")[0]
    return set(re.findall(r'"([a-z_|]+)"', section)) - {"mget"}


def test_each_command_has_an_example(direct):
    known = {row[0].decode() for row in direct.cmd("COMMAND")}
    missing = (cacheable() & known) - {words[0].lower() for words in split(READ)}
    assert not missing, missing


@pytest.mark.parametrize("proto", (2, 3))
def test_the_second_time_from_memory(near, direct, proto):
    for words in split(MADE):
        direct.cmd(*named(words))
    time.sleep(HEARD)
    with near.client(proto) as conn, near.redis.client(proto) as plain:
        for words in split(READ):
            command = named(words)
            says = plain.raw(*command)
            assert not says.startswith(b"-"), (command, says)
            first = conn.raw(*command)
            again = near.kept(conn, *command)
            assert first == says and again == says, (command, says, first, again)


def test_protocols_are_kept_apart(near, direct):
    """What they write alike is one item, what they don't is not."""
    direct.cmd("HSET", "n:h", "a", 1)
    direct.cmd("ZADD", "n:z", 1.5, "a")
    with near.client(2) as two, near.client(3) as three:
        for command in (["HGETALL", "n:h"], ["ZSCORE", "n:z", "a"], ["GET", "n:none"], ["ZRANGE", "n:z", 0, -1, "WITHSCORES"]):
            for conn in (two, three, two, three):
                with near.redis.client(2 if conn is two else 3) as plain:
                    assert near.kept(conn, *command) == plain.raw(*command)


def test_arguments_count(near, conn, direct):
    direct.cmd("SET", "n:s", "0123456789")
    for i in range(9):
        assert conn.cmd("GETRANGE", "n:s", i, i + 1) == b"%d%d" % (i, i + 1)
    for i in range(9):
        assert parse(near.kept(conn, "GETRANGE", "n:s", i, i + 1)) == b"%d%d" % (i, i + 1)


def test_names_of_commands_in_any_case(near, conn, direct):
    direct.cmd("SET", "n:s", "x")
    near.kept(conn, "GET", "n:s")
    for name in ("get", "Get", "gEt"):
        assert near.from_memory(conn, name, "n:s") == b"$1\r\nx\r\n"
    before = near.calls("get")
    conn.send_raw(b"GET n:s\r\n")
    assert conn.read() == b"x" and near.calls("get") == before


def test_errors_are_not_kept(near, conn, direct):
    direct.cmd("SET", "n:s", "x")
    for _ in range(3):
        assert near.from_memory(conn, "HGETALL", "n:s") is None
    for words in (["GET"], ["GET", "n:s", "n:s"], ["HMGET", "n:s"], ["GETRANGE", "n:s", "x", "y"]):
        assert isinstance(conn.cmd(*words), RespError)


def test_elsewhere_nothing_is_kept(near, conn, direct):
    direct.cmd("SET", "p:k", "x")
    direct.cmd("SET", "k", "x")
    for _ in range(3):
        assert near.from_memory(conn, "GET", "p:k") is None
        assert near.from_memory(conn, "GET", "k") is None


@pytest.mark.parametrize("command", [["SRANDMEMBER", "n:e"], ["PTTL", "n:s"], ["TTL", "n:s"], ["OBJECT", "ENCODING", "n:s"],
                                     ["DUMP", "n:s"], ["HRANDFIELD", "n:h"], ["SSCAN", "n:e", "0"], ["EXISTS", "n:s", "n:e"],
                                     ["SUNION", "n:e"], ["SORT_RO", "n:l"]], ids=lambda c: c[0].lower())
def test_what_may_differ_is_not_kept(near, conn, direct, command):
    direct.pipeline([["SET", "n:s", "x"], ["SADD", "n:e", "a"], ["HSET", "n:h", "a", 1], ["RPUSH", "n:l", 1]])
    asked = calls_of(near.redis, "object|encoding" if command[0] == "OBJECT" else command[0].lower())
    for _ in range(3):
        conn.cmd(*command)
    assert calls_of(near.redis, "object|encoding" if command[0] == "OBJECT" else command[0].lower()) == asked + 3


def test_databases_are_kept_apart(near, conn, direct):
    for db in range(3):
        direct.cmd("SELECT", db)
        direct.cmd("SET", "n:k", "in %d" % db)
    direct.cmd("SELECT", 0)
    time.sleep(HEARD)
    for _ in range(3):
        for db in range(3):
            assert conn.cmd("SELECT", db) == "OK"
            assert conn.cmd("GET", "n:k") == b"in %d" % db
    conn.cmd("SELECT", 1)
    assert near.from_memory(conn, "GET", "n:k") == b"$4\r\nin 1\r\n"
    with near.client() as other:
        assert other.cmd("SELECT", 2) == "OK" and other.cmd("SET", "n:k", "new in 2") == "OK"
        assert conn.cmd("GET", "n:k") == b"in 1" and other.cmd("GET", "n:k") == b"new in 2"


@pytest.mark.parametrize("size", [0, 1, 100, 4000, 4090, 4096, 4097, 5000, 16384, 65536, 150000])
def test_sizes(near, conn, direct, size):
    value = os.urandom(size // 2).hex().encode() + b"x" * (size % 2)
    direct.cmd("SET", "n:big", value)
    time.sleep(HEARD)
    assert conn.cmd("GET", "n:big") == value
    assert parse(near.kept(conn, "GET", "n:big")) == value
    got = [parse(r) for r in conn.pipeline([["GET", "n:big"], ["STRLEN", "n:big"], ["GET", "n:big"], ["GET", "n:big"]])]
    assert got == [value, size, value, value]


def test_too_large(near, conn, direct):
    value = b"x" * 300000
    direct.cmd("SET", "n:big", value)
    for _ in range(4):
        before = near.calls("get")
        assert conn.cmd("GET", "n:big") == value
        assert near.calls("get") == before + 1
    assert parse(near.kept(conn, "STRLEN", "n:big")) == 300000


def test_a_slow_reader_of_large_hits(near, direct):
    """Megabytes of hits wait for one who does not read; it gets them whole when it does."""
    value = b"0123456789abcdef" * 9000
    direct.cmd("SET", "n:big", value)
    with near.client() as conn:
        near.kept(conn, "GET", "n:big")
        conn.send_raw(encode("GET", "n:big") * 60)
        time.sleep(0.3)
        for _ in range(60):
            assert conn.read(20) == value


# ---- MGET ----

def test_mget_asks_for_what_is_missing(near, conn, direct):
    direct.cmd("MSET", *[x for i in range(6) for x in ("n:%d" % i, "v%d" % i)])
    time.sleep(HEARD)
    for i in (0, 2, 4):
        near.kept(conn, "GET", "n:%d" % i)
    with near.redis.client() as watcher:
        watcher.cmd("MONITOR")
        assert conn.cmd("MGET", *["n:%d" % i for i in range(6)], "n:none") == [b"v%d" % i for i in range(6)] + [None]
        direct.cmd("ECHO", "end")
        seen = []
        while b"end" not in (line := watcher.read_raw()):
            seen.append(line.lower())
    asked = b"".join(line for line in seen if b'"pttl"' not in line)
    for i in range(6):
        assert (b'"n:%d"' % i in asked) == (i % 2 == 1), seen
    assert parse(near.kept(conn, "MGET", *["n:%d" % i for i in range(6)], "n:none")) == [b"v%d" % i for i in range(6)] + [None]
    assert near.from_memory(conn, "GET", "n:3") == b"$2\r\nv3\r\n"  # kept for GET as well


def test_mget_of_other_namespaces(near, conn, direct):
    direct.cmd("MSET", "n:1", "a", "p:1", "b", "x", "c", "race:1", "d")
    direct.cmd("RPUSH", "n:l", "no string")
    for _ in range(3):
        assert conn.cmd("MGET", "n:1", "p:1", "x", "race:1", "n:l", "n:none", "n:1") == [b"a", b"b", b"c", b"d", None, None, b"a"]
    assert conn.cmd("GET", "n:l").startswith("WRONGTYPE")


# ---- time ----

def test_no_longer_than_its_time(near, conn, direct):
    """PX 300: over after 300 ms and never later, though Redis says so only when it looks."""
    for _ in range(3):
        direct.cmd("SET", "n:k", "x", "PX", 300)
        end = time.monotonic() + 0.3
        hits, last = 0, None
        while time.monotonic() < end + 0.1:
            before = time.monotonic()
            value = conn.cmd("GET", "n:k")
            if value is not None:
                hits, last = hits + 1, before
        assert hits > 20 and last < end + 0.002, "a read begun %.1f ms after the end" % (1000 * (last - end))


def test_a_time_given_later(near, conn, direct):
    direct.cmd("SET", "n:k", "x")
    near.kept(conn, "GET", "n:k")
    assert conn.cmd("PEXPIRE", "n:k", 100) == 1
    end = time.monotonic() + 0.1
    while time.monotonic() < end + 0.1:
        before = time.monotonic()
        assert conn.cmd("GET", "n:k") is None or before < end + 0.002
    assert conn.cmd("GET", "n:k") is None


def test_max_ttl(fresh_redis):
    with Near(table_of(NEAR, "n", "n:", "n:") + '[near_cache]\nmax_ttl = "200ms"\n', redis=fresh_redis()) as n, n.client() as conn:
        conn.cmd("SET", "n:k", "x")
        start = time.monotonic()
        n.kept(conn, "GET", "n:k")
        wait_until(lambda: n.from_memory(conn, "GET", "n:k") is None, 2)
        assert time.monotonic() - start < 1 * FACTOR


# ---- writes ----

# what is there | a read of it, kept | a write | what the read says then
CHANGES = """SET k old|GET k|SET k new|new
SET k old|GET k|DEL k|
SET k old|GET k|UNLINK k|
SET k old|GET k|GETDEL k|
SET k old|GET k|GETSET k new|new
SET k old|GET k|SETEX k 100 new|new
SET k old|GET k|MSET k new k2 x|new
SET k old|GET k|APPEND k er|older
SET k old|GET k|SETRANGE k 0 c|cld
SET k old|GET k|PEXPIREAT k 1|
SET k old|GET k|EXPIRE k -1|
SET k old|GET k|RENAME k k2|
SET k2 new|GET k|RENAME k2 k|new
SET k2 new|GET k|RENAMENX k2 k|new
SET k2 new|GET k|COPY k2 k|new
SET k old|GET k|MOVE k 5|
SET k2 new|GET k|BITOP AND k k2|new
SET k old|GETBIT k 0|SETBIT k 0 1|1
SET k 1|GET k|INCR k|2
SET k 1|GET k|INCRBYFLOAT k 0.5|1.5
SET k old|GET k|FLUSHALL|
SET k old|GET k|FLUSHDB|
SET k old|GET k|SWAPDB 0 3|
SET k old|EXISTS k|DEL k|0
SET k old|TYPE k|DEL k|none
SET k old|STRLEN k|SET k older|5
SET k old|GET k|EVAL return(redis.call('set',KEYS[1],'new')) 1 k|new
SET k old|PEXPIRETIME k|PEXPIREAT k 99999999999999|99999999999999
SET k old PXAT 99999999999999|PEXPIRETIME k|PERSIST k|-1
SET k old PXAT 99999999999999|PEXPIRETIME k|GETEX k PERSIST|-1
HSET k a old|HGET k a|HSET k a new|new
HSET k a old|HGET k a|HDEL k a|
HSET k a 1|HGET k a|HINCRBY k a 1|2
HSET k a old|HLEN k|HSETNX k b x|2
RPUSH k a|LRANGE k 0 -1|RPUSH k b|a b
RPUSH k a b|LRANGE k 0 -1|LPOP k|b
RPUSH k a b|LRANGE k 0 -1|LTRIM k 0 0|a
RPUSH k a b|LRANGE k 0 -1|LREM k 1 a|b
RPUSH k a b|LRANGE k 0 -1|LSET k 0 x|x b
RPUSH k a b|LRANGE k 0 -1|LMOVE k k2 LEFT LEFT|b
RPUSH k2 a b|LRANGE k 0 -1|LMOVE k2 k LEFT LEFT|a
RPUSH k2 a b|LRANGE k 0 -1|RPOPLPUSH k2 k|b
RPUSH k a b|LRANGE k 0 -1|BLPOP k 1|b
RPUSH k2 a b|LRANGE k 0 -1|BLMOVE k2 k LEFT LEFT 1|a
RPUSH k a b|LRANGE k 0 -1|LMPOP 1 k LEFT|b
RPUSH k2 3 1|LRANGE k 0 -1|SORT k2 STORE k|1 3
SADD k a|SCARD k|SADD k b|2
SADD k a b|SCARD k|SPOP k|1
SADD k a b|SCARD k|SREM k a|1
SADD k a b|SCARD k|SMOVE k k2 a|1
SADD k2 a b|SCARD k|SUNIONSTORE k k2|2
SADD k2 a b|SCARD k|SINTERSTORE k k2|2
SADD k2 a b|SCARD k|SDIFFSTORE k k2|2
ZADD k 1 a|ZSCORE k a|ZADD k 2 a|2
ZADD k 1 a|ZSCORE k a|ZINCRBY k 2 a|3
ZADD k 1 a|ZCARD k|ZREM k a|0
ZADD k 1 a|ZCARD k|ZPOPMIN k|0
ZADD k 1 a|ZCARD k|BZPOPMIN k 1|0
ZADD k 1 a|ZCARD k|ZMPOP 1 k MIN|0
ZADD k2 1 a|ZCARD k|ZUNIONSTORE k 1 k2|1
ZADD k2 1 a|ZCARD k|ZRANGESTORE k k2 0 -1|1
ZADD k 1 a|ZCARD k|ZREMRANGEBYRANK k 0 -1|0
GEOADD k2 1 1 a|ZCARD k|GEOSEARCHSTORE k k2 FROMLONLAT 1 1 BYRADIUS 9 km|1
GEOADD k 1 1 a|ZCARD k|GEOADD k 2 2 b|2
XADD k 1-1 a b|XLEN k|XADD k 2-1 a b|2
XADD k 1-1 a b|XLEN k|XTRIM k MAXLEN 0|0
XADD k 1-1 a b|XLEN k|XDEL k 1-1|0
SET k2 x|STRLEN k|PFADD k a|%
"""


def changes():
    for line in CHANGES.splitlines():
        made, read, write, says = (part.split() for part in line.split("|"))
        yield made, read, write, " ".join(says)


def of_space(words):
    """k and k2 become keys of the namespace."""
    return ["n:" + w if w in ("k", "k2") else w for w in words]


def text(value):
    if isinstance(value, list):
        return " ".join(text(v) for v in value)
    if isinstance(value, float):
        return "%g" % value
    return value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)


def says_so(value, says):
    return text(value) == says or (says == "%" and int(text(value)) > 0)


@pytest.mark.parametrize("way", ["the same client", "another client", "one pipeline", "MULTI", "Redis itself"])
def test_every_write_is_seen(near, direct, way):
    with near.client() as conn, near.client(3) as writer:
        for made, read, write, says in changes():
            direct.pipeline([["FLUSHALL"], ["SELECT", 3], ["FLUSHDB"], ["SELECT", 0], of_space(made)])
            read, write = of_space(read), of_space(write)
            near.kept(conn, *read)
            if way == "one pipeline":
                value = parse(conn.pipeline([read, write, read])[2])
            elif way == "MULTI":
                value = parse(writer.pipeline([["MULTI"], write, ["EXEC"], read])[3])
            else:
                value = {"the same client": conn, "another client": writer, "Redis itself": direct}[way].cmd(*write)
                assert not isinstance(value, RespError), (write, value)
                if way == "Redis itself":
                    end = time.monotonic() + (HEARD if write[0] != "SWAPDB" else 1)  # of that Redis says nothing by itself
                    while not says_so(conn.cmd(*read), says) and time.monotonic() < end:
                        pass
                value = conn.cmd(*read)
            assert says_so(value, says), (made, read, write, value)


def test_restore(near, conn, direct):
    direct.cmd("SET", "n:a", "new")
    near.kept(conn, "GET", "n:k")
    assert conn.cmd("RESTORE", "n:k", 0, direct.cmd("DUMP", "n:a")) == "OK"
    assert conn.cmd("GET", "n:k") == b"new"


def test_own_writes_at_once_on_all_workers(near, direct):
    """Whoever asks after the writer was answered, on whatever worker, sees it."""
    conns = [near.client(2 + i % 2) for i in range(8)]
    for i in range(200):
        writer = conns[i % len(conns)]
        assert writer.cmd("SET", "n:k", i) == "OK"
        for reader in conns:
            assert reader.cmd("GET", "n:k") == b"%d" % i
    for conn in conns:
        conn.close()


def test_own_writes_in_a_pipeline(near, conn, direct):
    commands, says = [], []
    for i in range(300):
        commands += [["GET", "n:k"], ["SET", "n:k", i], ["GET", "n:k"], ["STRLEN", "n:k"], ["GET", "n:other"]]
        says += [b"%d" % (i - 1) if i else None, "OK", b"%d" % i, len(str(i)), None]
    assert [parse(r) for r in conn.pipeline(commands)] == says


def test_what_redis_hears_is_here_soon(near, conn, direct):
    """Somebody else's writes, as long as all is well: within milliseconds."""
    took = []
    for i in range(200):
        direct.cmd("SET", "n:k", i)
        start = time.monotonic()
        while conn.cmd("GET", "n:k") != b"%d" % i:
            assert time.monotonic() - start < 0.5
        took.append(time.monotonic() - start)
    took.sort()
    print("a write at Redis is seen after %.2f ms in the median, %.2f at most" % (took[100] * 1000, took[-1] * 1000))
    assert took[100] < 0.01 * FACTOR and took[190] < HEARD


@pytest.mark.parametrize("proto", (2, 3))
def test_keys_that_a_script_does_not_declare(near, direct, proto):
    script = "redis.call('SET', ARGV[1], ARGV[2]) return 'OK'"
    with near.client(proto) as conn:
        for i in range(100):
            conn.cmd("GET", "n:k")
            assert conn.cmd("EVAL", script, 0, "n:k", i) == b"OK"
            assert conn.cmd("GET", "n:k") == b"%d" % i
        for i in range(100):
            got = conn.pipeline([["GET", "n:k"], ["EVAL", script, 0, "n:k", "p%d" % i], ["GET", "n:k"], ["MGET", "n:k", "n:no"]])
            assert parse(got[2]) == b"p%d" % i and parse(got[3]) == [b"p%d" % i, None]


def test_functions_and_transactions(near, conn, direct):
    library = "#!lua name=near\nredis.register_function('put', function(k, a) return redis.call('SET', a[1], a[2]) end)"
    assert conn.cmd("FUNCTION", "LOAD", "REPLACE", library) == b"near"
    for i in range(50):
        conn.cmd("GET", "n:k")
        assert conn.cmd("FCALL", "put", 0, "n:k", i) == "OK"
        assert conn.cmd("GET", "n:k") == b"%d" % i
        assert parse(conn.pipeline([["MULTI"], ["FCALL", "put", 0, "n:k", "t%d" % i], ["EXEC"], ["GET", "n:k"]])[3]) == b"t%d" % i
        assert conn.cmd("MULTI") == "OK" and conn.cmd("SET", "n:k", "m%d" % i) == "QUEUED" and conn.cmd("EXEC") == ["OK"]
        assert conn.cmd("GET", "n:k") == b"m%d" % i


def test_a_write_that_was_refused(near, conn, direct):
    direct.cmd("SET", "n:k", "x")
    near.kept(conn, "GET", "n:k")
    assert conn.cmd("RPUSH", "n:k", "a").startswith("WRONGTYPE")
    assert conn.cmd("GET", "n:k") == b"x"


def test_someone_who_does_not_read_the_answer(near, conn, direct):
    """A writer that leaves at once: when its write is done, it is seen."""
    for i in range(20):
        near.kept(conn, "GET", "n:k")
        writer = near.client()
        writer.send("SET", "n:k", i)
        writer.close()
        wait_until(lambda: conn.cmd("GET", "n:k") == b"%d" % i, 1, "it is seen")


# ---- who is not answered from memory ----

def test_not_in_transactions(near, conn, direct):
    direct.cmd("SET", "n:k", "x")
    near.kept(conn, "GET", "n:k")
    before = near.calls("get")
    assert parse(conn.pipeline([["MULTI"], ["GET", "n:k"], ["EXEC"]])[2]) == [b"x"]
    assert near.calls("get") == before + 1
    assert [conn.cmd("MULTI"), conn.cmd("GET", "n:k"), conn.cmd("EXEC")] == ["OK", "QUEUED", [b"x"]]
    assert near.calls("get") == before + 2
    near.kept(conn, "GET", "n:k")


def test_not_after_watch(near, conn, direct):
    direct.cmd("SET", "n:k", "x")
    near.kept(conn, "GET", "n:k")
    assert conn.cmd("WATCH", "n:k") == "OK"
    for _ in range(3):
        assert near.from_memory(conn, "GET", "n:k") is None
    assert conn.cmd("UNWATCH") == "OK"
    near.kept(conn, "GET", "n:k")


def test_not_with_tracking_of_its_own(near, direct):
    direct.cmd("SET", "n:k", "x")
    with near.client(3) as conn, near.client() as other:
        near.kept(other, "GET", "n:k")
        assert conn.cmd("CLIENT", "TRACKING", "ON") == "OK"
        assert near.from_memory(conn, "GET", "n:k") is None
        direct.cmd("SET", "n:k", "y")
        assert conn.read(2) == [b"invalidate", [b"n:k"]]
        assert conn.cmd("GET", "n:k") == b"y"


def test_not_with_no_touch(near, conn, direct):
    direct.cmd("SET", "n:k", "x")
    if isinstance(conn.cmd("CLIENT", "NO-TOUCH", "ON"), RespError):
        pytest.skip("this Redis has no CLIENT NO-TOUCH")
    for _ in range(3):
        assert near.from_memory(conn, "GET", "n:k") is None


def test_client_reply(near, conn, direct):
    direct.cmd("SET", "n:k", "x")
    near.kept(conn, "GET", "n:k")
    conn.send_raw(encode("CLIENT", "REPLY", "OFF") + encode("GET", "n:k") * 3 + encode("CLIENT", "REPLY", "ON") + encode("GET", "n:k"))
    assert [conn.read(), conn.read()] == ["OK", b"x"]
    conn.send_raw(encode("CLIENT", "REPLY", "SKIP") + encode("GET", "n:k") + encode("STRLEN", "n:k") + encode("GET", "n:k"))
    assert [conn.read(), conn.read()] == [1, b"x"]
    with pytest.raises(TimeoutError):
        conn.read(0.1)


def test_monitor_shows_hits(near, conn, direct):
    direct.cmd("SET", "n:k", "x")
    near.kept(conn, "GET", "n:k")
    with near.client() as watcher:
        assert watcher.cmd("MONITOR") == "OK"
        assert near.from_memory(conn, "GET", "n:k") == b"$1\r\nx\r\n"
        line = watcher.read(2)
        while '"GET"' not in line:
            line = watcher.read(2)
        assert '"GET" "n:k"' in line
        got = conn.pipeline([["GET", "n:k"]] * 5)
        assert got == [b"$1\r\nx\r\n"] * 5
        assert sum('"GET" "n:k"' in watcher.read(2) for _ in range(5)) == 5


# ---- order ----

def test_deep_pipelines_keep_their_order(near, direct):
    """Hits, misses, writes, other commands, other namespaces, and large values among them."""
    direct.pipeline([["SET", "n:%d" % i, "v%d" % i] for i in range(0, 400, 2)])
    direct.pipeline([["SET", "p:%d" % i, "p%d" % i] for i in range(400)])
    direct.cmd("SET", "n:big", "B" * 50000)
    time.sleep(HEARD)
    for proto in (2, 3):
        with near.client(proto) as conn:
            for turn in range(4):
                commands, says = [], []
                for i in range(400):
                    commands += [["GET", "n:%d" % i], ["ECHO", i], ["GET", "p:%d" % i], ["EXISTS", "n:%d" % i], ["STRLEN", "n:%d" % i]]
                    value = b"v%d" % i if i % 2 == 0 else None
                    says += [value, b"%d" % i, b"p%d" % i, int(i % 2 == 0), len(value or b"")]
                    if i % 50 == 7:
                        commands += [["GET", "n:big"], ["SET", "n:w", "%d-%d" % (turn, i)], ["GET", "n:w"]]
                        says += [b"B" * 50000, "OK", b"%d-%d" % (turn, i)]
                conn.send_raw(b"".join(encode(*c) for c in commands))
                assert [conn.read() for _ in commands] == says


def test_hits_in_pieces(near, conn, direct):
    """Requests that come byte by byte."""
    direct.cmd("SET", "n:k", "x")
    near.kept(conn, "GET", "n:k")
    data = encode("GET", "n:k") * 3
    for i in range(len(data)):
        conn.send_raw(data[i:i + 1])
    assert [conn.read() for _ in range(3)] == [b"x"] * 3


# ---- stampedes ----

def crowd(near, count):
    return [near.client(2) for _ in range(count)]


@pytest.mark.parametrize("leaves", [False, True], ids=["", "the-first-leaves"])
def test_a_thousand_miss_at_once(near, direct, leaves):
    """One GET goes upstream, from two workers, and also when the one for whom it went does not wait."""
    direct.cmd("SET", "n:hot", "x")
    time.sleep(HEARD)
    conns = crowd(near, 1000)
    before = near.calls("get")
    request = encode("GET", "n:hot")
    near.redis.freeze()
    try:
        for i, conn in enumerate(conns):
            conn.send_raw(request)
            if i == 0:
                time.sleep(0.02)
        time.sleep(0.03)
        if leaves:
            conns.pop(0).close()
            time.sleep(0.02)
    finally:
        near.redis.thaw()
    assert all(conn.read(5) == b"x" for conn in conns)
    assert near.calls("get") == before + 1
    for conn in conns:
        conn.close()


def test_a_write_while_many_wait(near, direct):
    """Who asks after the write was answered sees it; who asked before, either."""
    for turn in range(5):
        direct.cmd("SET", "n:hot", "old %d" % turn)
        time.sleep(HEARD)
        conns, writer = crowd(near, 100), near.client()
        near.redis.freeze()
        try:
            for conn in conns[:50]:
                conn.send("GET", "n:hot")
            time.sleep(0.02)
            writer.send("SET", "n:hot", "new %d" % turn)
        finally:
            near.redis.thaw()
        assert writer.read() == "OK"
        for conn in conns[50:]:
            conn.send("GET", "n:hot")
        assert all(conn.read() in (b"old %d" % turn, b"new %d" % turn) for conn in conns[:50])
        assert all(conn.read() == b"new %d" % turn for conn in conns[50:])
        for conn in [*conns, writer]:
            conn.close()


def test_who_waits_keeps_its_order(near, direct):
    direct.pipeline([["SET", "n:hot", "x"], ["SET", "p:1", "p"]])
    time.sleep(HEARD)
    conns = crowd(near, 40)
    near.redis.freeze()
    try:
        for i, conn in enumerate(conns):
            conn.send_raw(b"".join(encode(*c) for c in (["ECHO", i], ["GET", "n:hot"], ["GET", "p:1"], ["GET", "n:hot"],
                                                         ["INCR", "n:c%d" % i], ["GET", "n:c%d" % i], ["STRLEN", "n:hot"])))
    finally:
        near.redis.thaw()
    for i, conn in enumerate(conns):
        assert [conn.read() for _ in range(7)] == [b"%d" % i, b"x", b"p", b"x", 1, b"1", 1]
        conn.close()


# ---- race_condition_ttl ----

def test_the_others_get_the_old_value(near, direct):
    """One makes the new value, the others go on with the old one, until the new one is there."""
    conns = crowd(near, 12)
    for turn in range(3):
        direct.cmd("SET", "race:k", "old %d" % turn, "PX", 300)
        near.kept(conns[0], "GET", "race:k")
        time.sleep(0.4)
        got = [conn.cmd("GET", "race:k") for conn in conns]
        assert got.count(None) == 1 and got.count(b"old %d" % turn) == 11, got
        maker = conns[got.index(None)]
        assert maker.cmd("SET", "race:k", "new %d" % turn) == "OK"
        assert [conn.cmd("GET", "race:k") for conn in conns] == [b"new %d" % turn] * 12
    for conn in conns:
        conn.close()


def test_the_old_value_has_its_end(near, direct):
    conns = crowd(near, 6)
    direct.cmd("SET", "race:k", "old", "PX", 200)
    near.kept(conns[0], "GET", "race:k")
    over = time.monotonic() + 0.2
    last = 0.0
    while time.monotonic() < over + 2.2:
        for conn in conns:
            before = time.monotonic()
            if conn.cmd("GET", "race:k") is not None:
                last = before
        time.sleep(0.01)
    assert over + 1.0 < last < over + 1.5 + 0.1 * FACTOR, "until %.2f s after its end" % (last - over)
    for conn in conns:
        conn.close()


@pytest.mark.parametrize("way", ["Keyweir", "Redis"])
def test_what_is_deleted_is_gone(near, direct, way):
    """DEL of a key that lives is no expiry: nobody gets the old value."""
    with near.client() as conn, near.client() as other:
        for px in ([], ["PX", 60000]):
            direct.cmd("SET", "race:k", "old", *px)
            near.kept(conn, "GET", "race:k")
            (other if way == "Keyweir" else direct).cmd("DEL", "race:k")
            if way == "Redis":
                time.sleep(HEARD)
            assert [c.cmd("GET", "race:k") for c in (conn, other) for _ in range(3)] == [None] * 6


# ---- when Redis is ill ----

def test_frozen_redis(fresh_redis):
    """Half a second after Redis was last heard nothing more comes from memory."""
    with Near(head=QUICK, redis=fresh_redis()) as n, n.client() as conn:
        conn.cmd("SET", "n:k", "x")
        n.kept(conn, "GET", "n:k")
        n.redis.freeze()
        frozen = time.monotonic()
        try:
            last, said = 0.0, None
            while time.monotonic() - frozen < 1.2:
                before = time.monotonic()
                value = conn.cmd("GET", "n:k")
                if value == b"x":
                    last = before - frozen
                else:
                    said = value
            assert isinstance(said, RespError) and said.startswith(("TIMEOUT", "UPSTREAMDOWN")), said
            assert 0.2 < last < 0.5 + 0.05 * FACTOR, "served %.0f ms after" % (1000 * last)
        finally:
            n.redis.thaw()
        n.ready()
        wait_until(lambda: conn.cmd("GET", "n:k") == b"x", 5)
        n.kept(conn, "GET", "n:k")


@pytest.mark.parametrize("fault", ["cut", "deaf", "frozen"])
def test_the_tracking_link_is_ill(fresh_redis, fault):
    """What changes meanwhile is seen half a second later at most, and when the link is back everything is right."""
    redis = fresh_redis()
    with Relay([redis.port]) as relay, Near(redis=redis, url=relay.url()) as n, n.client() as conn, redis.client() as direct:
        for turn in range(3):
            direct.cmd("SET", "n:k", "old %d" % turn)
            wait_until(lambda: n.kept(conn, "GET", "n:k") == b"$5\r\nold %d\r\n" % turn, 5)
            if fault == "cut":
                relay.cut(0, "tracking")
            else:
                relay.freeze(0, "tracking", (DOWN,) if fault == "deaf" else (0, 1))
            direct.cmd("SET", "n:k", "new %d" % turn)
            start = time.monotonic()
            while conn.cmd("GET", "n:k") != b"new %d" % turn:
                assert time.monotonic() - start < 0.5 + 0.1 * FACTOR, "still old"
            time.sleep(0.6)
            assert conn.cmd("GET", "n:k") == b"new %d" % turn
            if fault != "cut":
                assert n.from_memory(conn, "GET", "n:k") is None  # without the link nothing is served
                relay.thaw(0, "tracking")
            n.ready()
            n.kept(conn, "GET", "n:k")


STALE = table_of(NEAR + 'on_failure = "stale"\nstale_if_error = "2s"\n', "n", "n:", "n:")


def test_old_values_while_redis_is_away(fresh_redis):
    """What was known last and not overwritten, for as long as stale_if_error says; and for all else an error."""
    with Near(STALE, QUICK, fresh_redis()) as n, n.client() as conn, n.client(3) as three, n.redis.client() as direct:
        for key, value in (("a", "known"), ("gone", "old"), ("new", "old")):
            direct.cmd("SET", "n:" + key, value)
            n.kept(conn, "GET", "n:" + key)
        direct.cmd("HSET", "n:h", "f", "v")
        n.kept(conn, "HGETALL", "n:h")
        n.kept(three, "HGETALL", "n:h")
        assert conn.cmd("SET", "n:new", "new") == "OK"
        direct.cmd("DEL", "n:gone")
        time.sleep(HEARD + 0.1)
        n.redis.kill()
        killed = time.monotonic()
        wait_until(lambda: isinstance(conn.cmd("GET", "n:unknown"), RespError), 2)
        while time.monotonic() - killed < 1.6:
            assert conn.cmd("GET", "n:a") == b"known"
            assert conn.cmd("HGETALL", "n:h") == [b"f", b"v"] and three.cmd("HGETALL", "n:h") == {b"f": b"v"}
            for command in (["GET", "n:gone"], ["GET", "n:new"], ["GET", "n:unknown"], ["HGET", "n:h", "g"], ["STRLEN", "n:a"],
                            ["SET", "n:zz", "x"], ["DEL", "n:zzz"], ["GET", "other"]):
                value = conn.cmd(*command)
                assert isinstance(value, RespError) and value.startswith("UPSTREAMDOWN"), (command, value)
            time.sleep(0.05)
        wait_until(lambda: isinstance(conn.cmd("GET", "n:a"), RespError), 2 * FACTOR, "it is too old")
        assert 1.9 < time.monotonic() - killed < 2.0 + 0.6 * FACTOR
        n.redis.start()
        n.ready()
        wait_until(lambda: conn.cmd("GET", "n:a") is None, 5, "the new Redis has nothing")


def test_old_values_while_redis_is_frozen(fresh_redis):
    with Near(STALE, QUICK, fresh_redis()) as n, n.client() as conn:
        conn.cmd("SET", "n:a", "known")
        n.kept(conn, "GET", "n:a")
        n.redis.freeze()
        try:
            time.sleep(1.0)
            value = conn.cmd("GET", "n:a")
            assert value == b"known" or value.startswith("TIMEOUT"), value
            wait_until(lambda: conn.cmd("GET", "n:a") == b"known", 1)
        finally:
            n.redis.thaw()


def test_a_server_that_can_not_track(fresh_redis):
    """max_staleness: for so long, and what this proxy's clients write at once."""
    redis = fresh_redis()
    redis.cmd("ACL", "SETUSER", "default", "-client|tracking")
    tables = table_of(NEAR, "n", "n:", "n:") + '[near_cache]\nmax_staleness = "400ms"\n'
    with Near(tables, redis=redis) as n, n.client() as conn, n.client() as other, redis.client() as direct:
        for turn in range(3):
            direct.cmd("SET", "n:k", "old %d" % turn)
            wait_until(lambda: conn.cmd("GET", "n:k") == b"old %d" % turn, 2)
            n.kept(conn, "GET", "n:k")
            start = time.monotonic()
            direct.cmd("SET", "n:k", "new %d" % turn)
            while conn.cmd("GET", "n:k") != b"new %d" % turn:
                assert time.monotonic() - start < 0.4 + 0.05 * FACTOR, "still old"
            n.kept(conn, "GET", "n:k")
            assert other.cmd("SET", "n:k", "own %d" % turn) == "OK"
            assert conn.cmd("GET", "n:k") == b"own %d" % turn
            script = "return redis.call('SET', 'n:k', 'script %d')" % turn
            assert conn.cmd("EVAL", script, 0) == "OK" and conn.cmd("GET", "n:k") == b"script %d" % turn


def test_a_server_that_can_not_track_without_that(fresh_redis):
    redis = fresh_redis()
    redis.cmd("ACL", "SETUSER", "default", "-client|tracking")
    with Keyweir(redis, table_of(NEAR, "n", "n:", "n:")) as proxy, proxy.client() as conn:
        conn.cmd("SET", "n:k", "x")
        before = calls_of(redis, "get")
        for _ in range(5):
            assert conn.cmd("GET", "n:k") == b"x"
        assert calls_of(redis, "get") == before + 5


# ---- namespaces ----

def test_what_slides_is_renewed(fresh_redis):
    """Reads from memory, too, keep a session alive."""
    with Near(table_of(NEAR + 'ttl = "1s"\nttl_jitter = 0\nsliding = true\n', "n", "n:", "n:"), redis=fresh_redis()) as n, \
            n.client() as conn:
        conn.cmd("SET", "n:k", "x")
        end, asked = time.monotonic() + 3.5, 0
        before = n.calls("get") + n.calls("getex")
        while time.monotonic() < end:
            assert conn.cmd("GET", "n:k") == b"x"
            asked += 1
            time.sleep(0.01)
        reached = n.calls("get") + n.calls("getex") - before
        assert reached < asked / 2, "%d of %d reached Redis" % (reached, asked)
        assert 0 < n.redis.cmd("PTTL", "n:k") <= 1000
        time.sleep(1.2)
        assert conn.cmd("GET", "n:k") is None


@pytest.mark.parametrize("options", ["", 'prefix', "encrypt", "hash_keys", "ttl"])
@pytest.mark.parametrize("bound", [False, True], ids=["", "bound"])
def test_namespaces(fresh_redis, options, bound):
    """A second client, another protocol, a listener of its own: names and values are those of the client."""
    lines = {"": "", "prefix": "", "encrypt": "encrypt = true\n", "hash_keys": "hash_keys = true\n", "ttl": 'ttl = "1h"\n'}[options]
    listener = Bound("n")
    tables = table_of(NEAR + lines, "n", "n:", "shop:n:" if options == "prefix" else "n:") + listener.table
    tables += '[encryption]\nkeys = ["%s"]\nhash_key = "%s"\n' % (KEY, KEY.partition(":")[2])
    with Near(tables, redis=fresh_redis()) as n, n.client() as plain, (listener.client(3) if bound else n.client(3)) as conn:
        space = "" if bound else "n:"
        for turn in range(3):
            assert plain.cmd("SET", "n:k", "value %d" % turn) == "OK"
            assert conn.cmd("GET", space + "k") == b"value %d" % turn
            assert parse(n.kept(conn, "GET", space + "k")) == b"value %d" % turn
            assert plain.cmd("GET", "n:k") == b"value %d" % turn
            assert conn.cmd("HSET", space + "h", "f", "field %d" % turn) == (1 if turn == 0 else 0)
            assert plain.cmd("HGETALL", "n:h") == [b"f", b"field %d" % turn]
            assert parse(n.kept(conn, "HGETALL", space + "h")) == {b"f": b"field %d" % turn}
            assert parse(n.kept(plain, "HMGET", "n:h", "f", "g")) == [b"field %d" % turn, None]
            assert parse(n.kept(plain, "MGET", "n:k", "n:none")) == [b"value %d" % turn, None]
            assert conn.cmd("MGET", space + "k", space + "none") == [b"value %d" % turn, None]
        for key in n.redis.cmd("KEYS", "*"):
            n.redis.cmd("DEL", key)
        time.sleep(HEARD)
        assert conn.cmd("GET", space + "k") is None and plain.cmd("HGETALL", "n:h") == []


def test_what_does_not_open_is_not_kept(fresh_redis):
    """Somebody put something there that is not sealed: the error is told each time, and nothing else."""
    tables = table_of(NEAR + "encrypt = true\n", "n", "n:", "n:") + '[encryption]\nkeys = ["%s"]\n' % KEY
    with Near(tables, redis=fresh_redis()) as n, n.client() as conn:
        n.redis.cmd("SET", "n:k", "not sealed")
        for _ in range(3):
            assert isinstance(conn.cmd("GET", "n:k"), RespError)
        assert conn.cmd("SET", "n:k", "x") == "OK" and conn.cmd("GET", "n:k") == b"x"


def test_reload(fresh_redis):
    """A namespace that gets another prefix has other keys; one that loses near_cache is asked for each time."""
    def tables(prefix, options=NEAR):
        return table_of(options, "n", "n:", prefix)
    with Near(tables("one:"), redis=fresh_redis()) as n, n.client() as conn, n.redis.client() as direct:
        direct.cmd("MSET", "one:k", "first", "two:k", "second")
        n.kept(conn, "GET", "n:k")
        n.proxy.reload(tables("two:"))
        wait_until(lambda: conn.cmd("GET", "n:k") == b"second", 5, "the new names")
        n.ready()
        assert parse(n.kept(conn, "GET", "n:k")) == b"second"
        direct.cmd("SET", "two:k", "third")
        wait_until(lambda: conn.cmd("GET", "n:k") == b"third", HEARD)
        n.proxy.reload(tables("two:", ""))
        wait_until(lambda: n.from_memory(conn, "GET", "n:k") is None, 5)
        for _ in range(3):
            assert n.from_memory(conn, "GET", "n:k") is None
        direct.cmd("SET", "two:k", "fourth")
        assert conn.cmd("GET", "n:k") == b"fourth"
        n.proxy.reload(tables("two:"))
        n.ready()
        wait_until(lambda: n.from_memory(conn, "GET", "n:k"), 5)
        assert conn.cmd("GET", "n:k") == b"fourth"


def test_no_memory_for_it(fresh_redis):
    with Keyweir(fresh_redis(), table_of(NEAR, "n", "n:", "n:") + "[near_cache]\nmax_memory = 0\n") as proxy, proxy.client() as conn:
        conn.cmd("SET", "n:k", "x")
        for _ in range(3):
            assert conn.cmd("GET", "n:k") == b"x"


def test_two_keyweirs(fresh_redis):
    """What is written through one is seen through the other, within milliseconds."""
    redis = fresh_redis()
    with Near(redis=redis) as n, Keyweir(redis, n.tables) as other, n.client() as conn, other.client() as writer:
        for i in range(50):
            assert writer.cmd("SET", "n:k", i) == "OK"
            wait_until(lambda: conn.cmd("GET", "n:k") == b"%d" % i, HEARD, "it is seen")


__all__ = ["Conn"]
