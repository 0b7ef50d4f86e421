# SPDX-License-Identifier: BSD-2-Clause
"""Values sealed at rest: what works answers as a plain Redis does, everything else is refused, nothing can be read in
Redis, and what was moved, cut or altered is an error."""
import base64
import contextlib
import glob
import os

import pytest

from harness.examples import ALL, READ, Command, Example, Table, keys_of, shape, table_of_keyweir, values_of
from harness.namespaces import DIRECT, MATCH, PATIENT, PREFIX, Bound, table_of, transacted
from harness.resp import RespError, parse
from harness.servers import Keyweir, Redis, wait_until

MARK = "m4rk" * 6  # begins every value of these tests, so that a value that can be read is found
ONE, TWO, THREE = ("%s:%s" % (name, base64.b64encode(bytes(range(i, i + 32))).decode())
                   for i, name in enumerate(("2026a", "2026b", "2026c")))
LISTENERS = [pytest.param(True, id="bound"), pytest.param(False, id="ordinary")]


PROVED = {"test_replies_are_those_of_redis", "test_values_of_all_sorts", "test_wrong_types_are_said_as_by_redis",
          "test_the_examples_are_sound", "test_the_examples_work_in_redis"}


@pytest.fixture(autouse=True)
def only_what_redis_can(request):
    if DIRECT and request.function.__name__ not in PROVED:
        pytest.skip("what a plain Redis has not")


def ring(*keys, more=""):
    return "[encryption]\nkeys = [%s]\n%s\n" % (", ".join('"%s"' % k for k in keys), more)


def config(keys=(ONE,), options="", more="", bound=None):
    return PATIENT + table_of("encrypt = true\n" + options) + (bound.table if bound else "") + ring(*keys, more=more)


# What works on sealed values. V stands for a value; S for what is in front of each example.
KINDS = {
    "string": "SET @s V1 ; SET @s2 V2 EX 100",
    "hash": "HSET @h a V1 b V2",
    "list": "RPUSH @l V1 V2 V3",
    "stream": "XADD @x 1-1 f V1 g V2 ; XADD @x 2-1 f V3 ; XGROUP CREATE @x g 0",
    "none": "SET @s V1 ; HSET @h a V1 ; RPUSH @l V1 V2 ; XADD @x 1-1 f V1",
}
SUPPORTED = {
    "string": """
get: GET @s | GET @none | GET @s2
set: SET @n V9 ; GET @n | SET @s V9 ; GET @s | SET @s V9 GET ; GET @s | SET @n V9 GET ; GET @n | SET @s V9 NX ; GET @s | SET @n V9 NX EX 500 ; GET @n | SET @s V9 XX KEEPTTL GET ; GET @s | SET @s V9 FOO | SET @s V9 EX 0
setnx: SETNX @n V9 ; GET @n | SETNX @s V9 ; GET @s
setex: SETEX @s 500 V9 ; GET @s ; TTL @s | SETEX @s 0 V9
psetex: PSETEX @n 500000 V9 ; GET @n
getset: GETSET @s V9 ; GET @s | GETSET @n V9 ; GET @n
getdel: GETDEL @s ; EXISTS @s | GETDEL @none
getex: GETEX @s EX 500 ; TTL @s | GETEX @s2 PERSIST | GETEX @none | GETEX @s
mget: MGET @s @none @s2 | MGET @s @s | MGET @none
mset: MSET @s V8 @n V9 ; MGET @s @n @s2 | MSET @n V9
msetnx: MSETNX @n V8 @n2 V9 ; MGET @n @n2 | MSETNX @s V8 @n V9 ; MGET @s @n
strlen: STRLEN @s | STRLEN @none | STRLEN @s2
""",
    "hash": """
hset: HSET @h a V9 c V8 ; ?HGETALL @h | HSET @n a V9 ; HGET @n a
hmset: HMSET @h a V9 c V8 ; HMGET @h a b c
hsetnx: HSETNX @h a V9 ; HGET @h a | HSETNX @h c V9 ; HGET @h c | HSETNX @n c V9 ; HGET @n c
hget: HGET @h a | HGET @h none | HGET @none a
hmget: HMGET @h a none b | HMGET @none a
hgetall: ?HGETALL @h | HGETALL @none
hvals: ?HVALS @h | HVALS @none
hkeys: ?HKEYS @h
hlen: HLEN @h
hexists: HEXISTS @h a | HEXISTS @h none
hstrlen: HSTRLEN @h a | HSTRLEN @h none | HSTRLEN @none a
hdel: HDEL @h a ; ?HGETALL @h
hscan: ?HSCAN @h 0 | HSCAN @none 0
hrandfield: HDEL @h b ; HRANDFIELD @h | HDEL @h b ; HRANDFIELD @h 2 WITHVALUES | HDEL @h b ; HRANDFIELD @h -2 WITHVALUES | HRANDFIELD @none 1 WITHVALUES
""",
    "list": """
lpush: LPUSH @l V8 V9 ; LRANGE @l 0 -1 | LPUSH @n V9 ; LRANGE @n 0 -1
rpush: RPUSH @l V8 V9 ; LRANGE @l 0 -1 | RPUSH @n V9 ; LINDEX @n 0
lpushx: LPUSHX @l V9 ; LINDEX @l 0 | LPUSHX @none V9
rpushx: RPUSHX @l V9 ; LINDEX @l -1
lpop: LPOP @l | LPOP @l 2 | LPOP @none | LPOP @none 1
rpop: RPOP @l | RPOP @l 9 | RPOP @none
lrange: LRANGE @l 0 -1 | LRANGE @none 0 -1
lindex: LINDEX @l 1 | LINDEX @l 9
llen: LLEN @l
lset: LSET @l 1 V9 ; LRANGE @l 0 -1 | LSET @l 99 V9
ltrim: LTRIM @l 1 1 ; LRANGE @l 0 -1
lmove: LMOVE @l @l LEFT RIGHT ; LRANGE @l 0 -1
rpoplpush: RPOPLPUSH @l @l ; LRANGE @l 0 -1
blmove: BLMOVE @l @l LEFT RIGHT 1 ; LRANGE @l 0 -1
brpoplpush: BRPOPLPUSH @l @l 1 ; LRANGE @l 0 -1
blpop: BLPOP @l 1 | BLPOP @none @l 1 | BLPOP @none 0.01
brpop: BRPOP @l 1 | BRPOP @none @l 1
lmpop: LMPOP 1 @l LEFT | LMPOP 2 @none @l RIGHT COUNT 2 | LMPOP 1 @none LEFT
blmpop: BLMPOP 1 1 @l LEFT | BLMPOP 1 2 @none @l RIGHT COUNT 2
""",
    "stream": """
xadd: XADD @x 3-1 f V9 ; XRANGE @x - + | XADD @n 1-1 f V8 g V9 ; XRANGE @n - + | XADD @x MAXLEN = 1 3-1 f V9 ; XRANGE @x - +
xrange: XRANGE @x - + | XRANGE @x 2 + COUNT 1 | XRANGE @none - +
xrevrange: XREVRANGE @x + -
xread: XREAD STREAMS @x 0 | XREAD COUNT 1 STREAMS @x @none 0 0 | XREAD BLOCK 10 STREAMS @none $
xreadgroup: XREADGROUP GROUP g c STREAMS @x > | XREADGROUP GROUP g c STREAMS @x > ; XREADGROUP GROUP g c STREAMS @x 0
xclaim: XREADGROUP GROUP g c STREAMS @x > ; XCLAIM @x g d 0 1-1 | XREADGROUP GROUP g c STREAMS @x > ; XCLAIM @x g d 0 1-1 JUSTID
xautoclaim: XREADGROUP GROUP g c STREAMS @x > ; XAUTOCLAIM @x g d 0 0 | XREADGROUP GROUP g c STREAMS @x > ; XAUTOCLAIM @x g d 0 0 JUSTID
xlen: XLEN @x
xdel: XDEL @x 1-1 ; XRANGE @x - +
xtrim: XTRIM @x MAXLEN 1 ; XRANGE @x - +
xack: XREADGROUP GROUP g c STREAMS @x > ; XACK @x g 1-1
xpending: XREADGROUP GROUP g c STREAMS @x > ; XPENDING @x g
xsetid: XSETID @x 9-9
xgroup|create: XGROUP CREATE @x h $ | XGROUP CREATE @n h $ MKSTREAM
xgroup|createconsumer: XGROUP CREATECONSUMER @x g c
xgroup|delconsumer: XGROUP DELCONSUMER @x g c
xgroup|destroy: XGROUP DESTROY @x g
xgroup|setid: XGROUP SETID @x g 1-1
xinfo|groups: XINFO GROUPS @x
xinfo|consumers: XINFO CONSUMERS @x g
""",
    "none": """
del: DEL @s @h @none | DEL @s
unlink: UNLINK @l @none
exists: EXISTS @s @h @none
type: TYPE @s | TYPE @h | TYPE @none
touch: TOUCH @s @none
ttl: TTL @s
pttl: PTTL @s
expiretime: EXPIRETIME @s
pexpiretime: PEXPIRETIME @s
expire: EXPIRE @s 500 ; TTL @s ; GET @s
pexpire: PEXPIRE @s 500000
expireat: EXPIREAT @s 1 ; GET @s
pexpireat: PEXPIREAT @s 1
persist: EXPIRE @s 500 ; PERSIST @s
watch: WATCH @s ; MULTI ; GET @s ; EXEC
object|refcount: OBJECT REFCOUNT @l
object|encoding: ~OBJECT ENCODING @s
object|freq: OBJECT FREQ @s
object|idletime: ~OBJECT IDLETIME @s
memory|usage: ~MEMORY USAGE @s
""",
}
# Neither here nor there: to answer is as good as to refuse, for none of it tells or harms a sealed value.
EITHER = {"xinfo|stream": "the first and last entry would have to be opened", "move": "the key's name stays",
          "hexpire": "newer", "hpexpire": "newer", "hexpireat": "newer", "hpexpireat": "newer", "hpersist": "newer",
          "httl": "newer", "hpttl": "newer", "hexpiretime": "newer", "hpexpiretime": "newer", "hgetdel": "newer",
          "hgetex": "newer", "hsetex": "newer", "xdelex": "newer", "xackdel": "newer", "pfdebug": "internal",
          "cl.throttle": "its own state, and no Redis has it"}


def supported():
    """(kind of value, name of the command, example)."""
    for kind, text in SUPPORTED.items():
        for line in text.strip().splitlines():
            name, _, rest = line.partition(": ")
            for one in rest.split(" | "):
                yield pytest.param(kind, Example(name, one), id=one)


def worked_on():
    return {p.values[1].name for p in supported()}


def filled(words, size):
    """V1 as a value that is told from others and can be searched for; of `size` bytes at least."""
    return [(MARK + w).ljust(size, "x") if isinstance(w, str) and len(w) == 2 and w[0] == "V" else w for w in words]


@pytest.fixture(scope="module")
def sides():
    with Redis() as oracle, Redis() as behind:
        if DIRECT:
            yield oracle, behind, behind, behind
            return
        bound = Bound()
        with Keyweir(behind, config(bound=bound)) as proxy:
            yield oracle, behind, proxy, bound


def client_of(sides, bound, proto=2):
    return (sides[3] if bound else sides[2]).client(proto)


def exchange(conn, commands, before, size, how):
    words = [filled(c.words(before), size) for c in commands]
    if how == "pipelined":
        return conn.pipeline(words)
    if how == "multi":
        return [transacted(conn, w) for w in words]
    return [conn.raw(*w) for w in words]


def readable(server):
    """Places where MARK can be read: keys, values and their DUMPs."""
    found = []
    with server.client() as conn:
        for key in keys_of(conn) if not DIRECT else ():
            if MARK.encode() in conn.cmd("DUMP", key) or MARK in repr(values_of(conn, [key])):
                found.append(key)
    return found


# ---- what works ----

@pytest.mark.parametrize("kind,example", supported())
@pytest.mark.parametrize("bound", LISTENERS)
def test_replies_are_those_of_redis(sides, bound, kind, example):
    oracle, behind = sides[:2]
    before, wrong = "" if bound else MATCH, []
    for proto in (2, 3):
        with oracle.client(proto) as direct, client_of(sides, bound, proto) as conn:
            for how in ("alone", "pipelined", "multi"):
                if how == "multi" and example.uses({"watch"}):
                    continue
                for size in (0, 20, 5000):
                    oracle.cmd("FLUSHALL"), behind.cmd("FLUSHALL")
                    prepare = [Command(c) for c in KINDS[kind].split(" ; ")]
                    assert exchange(direct, prepare, before, size, "alone") == exchange(conn, prepare, before, size,
                                                                                        "alone")
                    replies = [exchange(c, example.commands, before, size, how) for c in (direct, conn)]
                    wrong += ["RESP%d, %s, %d bytes: %s\n  redis   %r\n  keyweir %r" % (proto, how, size, c, a[:300],
                                                                                        b[:300])
                              for c, a, b in zip(example.commands, *replies) if not c.same(a, b)]
                    wrong += ["%s\n  can be read upstream: %r" % (example, key) for key in readable(behind)]
    assert not wrong, "%d differences\n%s" % (len(wrong), "\n".join(wrong[:10]))


@pytest.mark.parametrize("value", [b"", b"x", b"\0" * 100, bytes(range(256)), b"1", b"\r\n", b"y" * (3 << 20)],
                         ids=["empty", "one", "zeros", "all bytes", "a number", "crlf", "3 MB"])
def test_values_of_all_sorts(sides, value):
    oracle, behind, proxy, _ = sides
    behind.cmd("FLUSHALL"), oracle.cmd("FLUSHALL")
    commands = [["SET", "product:s", value], ["GET", "product:s"], ["STRLEN", "product:s"], ["HSET", "product:h", "f", value],
                ["HGET", "product:h", "f"], ["HSTRLEN", "product:h", "f"], ["RPUSH", "product:l", value, value],
                ["LRANGE", "product:l", 0, -1], ["LPOP", "product:l"], ["XADD", "product:x", "1-1", "f", value, "f",
                                                                        value],
                ["XRANGE", "product:x", "-", "+"], ["SET", "product:s", value, "GET"], ["GETDEL", "product:s"],
                ["MSET", "product:a", value, "product:b", value], ["MGET", "product:a", "product:none", "product:b"]]
    with oracle.client() as direct, proxy.client() as conn:
        for words, a, b in zip(commands, direct.pipeline(commands), conn.pipeline(commands)):
            assert a == b, (words[:2], a[:100], b[:100])


def test_a_nonce_is_never_used_twice(sides):
    _, behind, proxy, _ = sides
    seen = set()
    with proxy.client() as conn, behind.client() as direct:
        for _ in range(300):
            conn.cmd("SET", "product:s", "the same")
            seen.add(direct.cmd("GET", "shop:product:s"))
    assert len(seen) == 300


def test_wrong_types_are_said_as_by_redis(sides):
    oracle, behind, proxy, _ = sides
    behind.cmd("FLUSHALL"), oracle.cmd("FLUSHALL")
    with oracle.client() as direct, proxy.client() as conn:
        for words in (["SET", "product:s", "v"], ["HGET", "product:s", "a"], ["LRANGE", "product:s", 0, 1], ["RPUSH", "product:s", "x"],
                      ["HSET", "product:h", "a", "v"], ["GET", "product:h"], ["GETSET", "product:h", "v"], ["SET", "product:h", "v", "GET"],
                      ["STRLEN", "product:h"], ["MGET", "product:h", "product:s"], ["XADD", "product:s", "1-1", "a",
                                                                                    "b"], ["GET"], ["SET", "product:s"],
                      ["HSET", "product:h", "a"], ["MSET", "product:a"], ["LPOP", "product:s", "x"]):
            assert direct.raw(*words) == conn.raw(*words), words


# ---- what is refused ----

@pytest.fixture(scope="module")
def table(sides):
    with sides[0].client() as conn:
        return Table(conn)


def refused(table):
    """Whatever takes keys and is not known to work: refusal is the rule."""
    keyed = table.with_keys() | {n for n, (k, _) in table_of_keyweir().items() if k}
    return sorted(keyed - worked_on() - EITHER.keys())


REFUSED_FORMS = [  # of commands that work in another form
    "LMOVE @l @other LEFT RIGHT", "RPOPLPUSH @l @other", "BLMOVE @l @other LEFT RIGHT 1", "BRPOPLPUSH @l @other 1", "RENAME @s @other",
    "RENAMENX @s @other", "COPY @s @other", "COPY @s @s2 REPLACE", "HINCRBY @h a 1", "HINCRBYFLOAT @h a 1", "INCRBY @s 1", "GETRANGE @s 0 1",
    "EVAL return(redis.call('GET',KEYS[1])) 1 @s", "EVAL_RO return(redis.call('GET',KEYS[1])) 1 @s", "SORT @l", "SORT_RO @l",
    "SORT @l STORE @other", "DUMP @s", "RESTORE @other 0 x", "BITOP NOT @other @s", "LPOS @l V1", "LREM @l 1 V1", "LINSERT @l BEFORE V1 V2",
    "APPEND @s V1", "SETRANGE @s 1 V1", "SADD @other V1", "ZADD @other 1 V1", "PFADD @other V1", "GEOADD @other 1 1 V1", "SETBIT @s 1 1"]


def is_refusal(reply):
    return isinstance(reply, RespError) and reply.startswith("ENCRYPTED ")


@pytest.mark.parametrize("bound", LISTENERS)
def test_all_else_is_refused(sides, table, bound):
    _, behind = sides[:2]
    before, wrong = "" if bound else MATCH, []
    names = refused(table)
    assert len(names) > 80
    behind.cmd("FLUSHALL")
    with client_of(sides, bound) as conn:
        for name in names:
            # Reads of sets and their kin find nothing there, and may say so.
            harmless = "write" not in table.flags(name) and not table.categories(name).isdisjoint(
                {"@set", "@sortedset", "@geo", "@hyperloglog"})
            for command in (c for e in ALL.get(name, ()) for c in e.commands if c.key_positions):
                reply = conn.cmd(*command.words(before, lambda key: "dump"))
                wrong_arguments = isinstance(reply, RespError) and reply.startswith("ERR ")
                if not (is_refusal(reply) or harmless or wrong_arguments):
                    wrong.append("%s was answered %r" % (command, reply))
    with behind.client() as direct:
        wrong += ["a key was made: %r" % k for k in keys_of(direct)]
    assert not wrong, "%d\n%s" % (len(wrong), "\n".join(wrong[:30]))


@pytest.mark.parametrize("text", REFUSED_FORMS)
@pytest.mark.parametrize("multi", [False, True], ids=["alone", "multi"])
def test_refused_forms(sides, text, multi):
    _, behind, proxy, _ = sides
    behind.cmd("FLUSHALL")
    with proxy.client() as conn:
        for kind in ("string", "hash", "list"):
            exchange(conn, [Command(c) for c in KINDS[kind].split(" ; ")], MATCH, 0, "alone")
        with behind.client() as direct:
            was = values_of(direct)
        words = filled(Command(text).words(MATCH), 0)
        reply = conn.raw(*words) if not multi else transacted(conn, words)
        assert reply.startswith(b"-ENCRYPTED "), (words, reply)
        with behind.client() as direct:
            assert values_of(direct) == was, words
        assert conn.cmd("GET", "product:s") == (MARK + "V1").encode()


def test_migrate_is_refused(sides):
    with sides[2].client() as conn:
        conn.cmd("SET", "product:s", "v")
        reply = conn.cmd("MIGRATE", "127.0.0.1", 1, "product:s", 0, 100)
        assert reply.startswith(("ENCRYPTED ", "NOPERM ")), reply


def test_one_sealed_key_among_others_refuses_it_all(sides):
    _, behind, proxy, _ = sides
    behind.cmd("FLUSHALL")
    with proxy.client() as conn:
        conn.cmd("SET", "product:s", "v"), conn.cmd("SET", "plain", "v"), conn.cmd("RPUSH", "plainlist", "s", "s")
        for words in (["BITOP", "OR", "plain2", "plain", "product:s"], ["COPY", "product:s", "plain2"], ["RENAME", "product:s", "plain2"],
                      ["COPY", "plain", "product:n"], ["RENAME", "plain", "product:n"], ["SORT", "plainlist", "STORE",
                                                                                         "product:n"],
                      ["LMOVE", "plainlist", "product:n", "LEFT", "LEFT"], ["EVAL", "return 1", 2, "plain",
                                                                            "product:s"], ["LCS", "plain", "product:s"],
                      ["SORT", "plainlist", "BY", "nosort", "GET", "product:*"]):
            assert is_refusal(conn.cmd(*words)), words
        assert conn.cmd("APPEND", "plain", "w") == 2
        assert conn.cmd("MGET", "plain", "product:s") == [b"vw", b"v"]
        assert conn.cmd("MSET", "plain", "1", "product:s", "2") == "OK"
        assert behind.cmd("GET", "plain") == b"1" and behind.cmd("GET", "shop:product:s") != b"2"


def test_a_refusal_spoils_a_transaction_as_redis_would(sides):
    with sides[2].client() as conn:
        assert conn.cmd("MULTI") == "OK"
        assert conn.cmd("SET", "product:s", "v") == "QUEUED"
        assert is_refusal(conn.cmd("INCR", "product:s"))
        assert conn.cmd("EXEC").startswith("EXECABORT ")


# ---- nothing readable ----

def folder_holds(folder, word):
    found = []
    for path in glob.glob(os.path.join(folder, "**"), recursive=True):
        if os.path.isfile(path) and os.path.basename(path) != "log":
            with open(path, "rb") as file:
                if word in file.read():
                    found.append(path)
    return found


def test_nothing_can_be_read_upstream(fresh_redis, fresh_keyweir):
    """Every supported command, then RDB, AOF, SLOWLOG and MONITOR of Redis are searched."""
    behind = fresh_redis(["--appendonly", "yes", "--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000",
                          "--rdbcompression", "no",
                          "--slowlog-max-len", "100000"])
    proxy = fresh_keyweir(behind, config())
    with proxy.client() as conn, behind.client() as watcher, behind.client() as direct:
        watcher.send("MONITOR")
        watcher.read_raw()
        for kind, text in KINDS.items():
            exchange(conn, [Command(c) for c in text.split(" ; ")], MATCH, 200, "alone")
            for param in supported():
                if param.values[0] == kind:
                    exchange(conn, [c for c in param.values[1].commands if c.name not in ("watch", "multi", "exec")],
                             MATCH, 200, "pipelined")
        conn.cmd("SET", "open", MARK), conn.cmd("DEL", "open")  # what is searched for is found where it is
        conn.cmd("SET", "product:left", MARK), conn.cmd("RPUSH", "product:leftl", MARK), conn.cmd("HSET", "product:lefth", "f", MARK)
        conn.cmd("XADD", "product:leftx", "*", "f", MARK)
        assert readable(behind) == []
        direct.cmd("SAVE")
        direct.cmd("SET", "end", "x")
        seen = b""
        while b'"SET" "end"' not in seen[-200:]:
            seen += watcher.read_raw()
        lines = [line for line in seen.split(b"\r\n") if MARK.encode() in line]
        assert len(lines) == 1 and b'"open"' in lines[0], lines[:3]
        slow = [entry for entry in direct.cmd("SLOWLOG", "GET", -1) if MARK.encode() in b" ".join(entry[3])]
        assert len(slow) == 1, slow[:3]
    files = folder_holds(behind.folder, MARK.encode())
    assert all("aof" in f for f in files), files
    for path in files:  # "open" alone
        with open(path, "rb") as file:
            assert file.read().count(MARK.encode()) == 1, path
    assert MARK not in proxy.log()


# ---- what somebody did to a value ----

def is_error(reply):
    return isinstance(reply, RespError)


def has_error(raw):
    """The reply is an error, or there is one in it."""
    return raw.startswith((b"-", b"!")) or b"\r\n-" in raw or b"\r\n!" in raw


@pytest.fixture
def sealed(fresh_redis, fresh_keyweir):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, config((ONE, TWO)))
    with proxy.client() as conn, behind.client() as direct:
        yield proxy, conn, direct


def test_every_bit_counts(sealed):
    _, conn, direct = sealed
    conn.cmd("SET", "product:s", "value")
    good = direct.cmd("GET", "shop:product:s")
    wrong = []
    for i in range(len(good) * 8):
        bad = bytearray(good)
        bad[i // 8] ^= 1 << i % 8
        direct.cmd("SET", "shop:product:s", bytes(bad))
        reply = conn.cmd("GET", "product:s")
        if not is_error(reply):
            wrong.append((i, reply))
    assert not wrong, wrong[:5]
    direct.cmd("SET", "shop:product:s", good)
    assert conn.cmd("GET", "product:s") == b"value"


def test_every_length_but_the_whole_is_an_error(sealed):
    _, conn, direct = sealed
    conn.cmd("SET", "product:s", "value")
    good = direct.cmd("GET", "shop:product:s")
    for bad in [good[:n] for n in range(len(good))] + [good[n:] for n in range(1, len(good))] + [good + b"x", good + good, b"plain"]:
        direct.cmd("SET", "shop:product:s", bad)
        for words in (["GET", "product:s"], ["GETSET", "product:s", "w"], ["SET", "product:s", "w", "GET"], ["GETEX", "product:s"]):
            direct.cmd("SET", "shop:product:s", bad)
            reply = conn.cmd(*words)
            assert is_error(reply), (words, bad, reply)
        direct.cmd("SET", "shop:product:s", bad)
        reply = conn.cmd("STRLEN", "product:s")  # counted or refused, never below zero or far above
        assert is_error(reply) or 0 <= reply <= len(bad), (bad, reply)


def test_moved_values_are_errors(sealed):
    _, conn, direct = sealed
    conn.cmd("SET", "product:s", "v"), conn.cmd("HSET", "product:h", "a", "v", "b", "w"), conn.cmd("RPUSH", "product:l", "v")
    conn.cmd("XADD", "product:x", "1-1", "f", "v", "g", "w")
    assert direct.cmd("COPY", "shop:product:s", "shop:product:s2") == 1
    assert is_error(conn.cmd("GET", "product:s2")), "to another key"
    a = direct.cmd("HGET", "shop:product:h", "a")
    direct.cmd("HSET", "shop:product:h", "b", a, "c", a)
    for words in (["HGET", "product:h", "b"], ["HGET", "product:h", "c"]):
        assert is_error(conn.cmd(*words)), (words, "to another field")
    assert conn.cmd("HGET", "product:h", "a") == b"v"
    direct.cmd("COPY", "shop:product:h", "shop:product:h2")
    assert is_error(conn.cmd("HGET", "product:h2", "a")), "a hash to another key"
    direct.cmd("COPY", "shop:product:l", "shop:product:l2")
    assert is_error(conn.cmd("LINDEX", "product:l2", 0)) and is_error(conn.cmd("LPOP", "product:l2"))
    direct.cmd("COPY", "shop:product:x", "shop:product:x2")
    fields = direct.cmd("XRANGE", "shop:product:x", "-", "+")[0][1]
    direct.cmd("XADD", "shop:product:x", "2-1", "f", fields[3])
    assert conn.cmd("XRANGE", "product:x", "1-1", "1-1") == [[b"1-1", [b"f", b"v", b"g", b"w"]]]
    assert has_error(conn.raw("XRANGE", "product:x", "2-1", "2-1")), "the value of a stream to another field"
    assert has_error(conn.raw("XRANGE", "product:x2", "-", "+")), "a stream to another key"
    string, element = direct.cmd("GET", "shop:product:s"), direct.cmd("LINDEX", "shop:product:l", 0)
    direct.cmd("RPUSH", "shop:product:k", string)
    assert is_error(conn.cmd("LINDEX", "product:k", 0)), "a string to a list"
    for source in (a, element, fields[1]):
        direct.cmd("SET", "shop:product:k", source)
        assert is_error(conn.cmd("GET", "product:k")), "another kind of value"


@pytest.mark.parametrize("words", [["MGET", "product:good", "product:bad"], ["HGETALL", "product:h"], ["HVALS", "product:h"],
                                   ["HMGET", "product:h", "good", "bad"], ["LRANGE", "product:l", 0, -1], ["XRANGE", "product:x", "-", "+"],
                                   ["XREAD", "STREAMS", "product:x", "0"], ["HSCAN", "product:h", "0"], ["LPOP", "product:l", 2],
                                   ["HRANDFIELD", "product:h", 2, "WITHVALUES"], ["BLPOP", "product:l2", 1], ["LMPOP", 1, "product:l", "LEFT", "COUNT", 2]],
                         ids=lambda w: w[0])
@pytest.mark.parametrize("multi", [False, True], ids=["alone", "multi"])
def test_a_broken_value_among_good_ones(sealed, words, multi):
    """An error for the reply or in the place of the value, and never its bytes; the connection goes on."""
    _, conn, direct = sealed
    conn.cmd("MSET", "product:good", "fine", "product:bad", "fine"), conn.cmd("HSET", "product:h", "good", "fine",
                                                                              "bad", "fine")
    conn.cmd("RPUSH", "product:l", "fine"), conn.cmd("XADD", "product:x", "1-1", "good", "fine")
    garbage = b"gArBaGe" * 20
    direct.cmd("SET", "shop:product:bad", garbage), direct.cmd("HSET", "shop:product:h", "bad", garbage)
    direct.cmd("RPUSH", "shop:product:l", garbage), direct.cmd("RPUSH", "shop:product:l2", garbage)
    direct.cmd("XADD", "shop:product:x", "2-1", "f", garbage)
    raw = transacted(conn, words) if multi else conn.raw(*words)
    assert b"gArBaGe" not in raw, (words, raw)
    assert has_error(raw), (words, raw)
    assert conn.cmd("GET", "product:good") == b"fine"


# ---- key rings ----

def test_rotation(fresh_redis, fresh_keyweir):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, config((ONE,)))
    with proxy.client() as conn, behind.client() as direct:
        conn.cmd("SET", "product:old", "v")
        assert b"2026a" in direct.cmd("GET", "shop:product:old")
        proxy.reload(config((TWO, ONE)))
        wait_until(lambda: conn.cmd("SET", "product:new", "w") and b"2026b" in direct.cmd("GET", "shop:product:new"),
                   what="the new key seals")
        assert conn.cmd("MGET", "product:old", "product:new") == [b"v", b"w"]
        conn.cmd("SET", "product:old2", "v"), conn.cmd("RPUSH", "product:l", "a")
        sealed = direct.cmd("GET", "shop:product:new")
        direct.cmd("SET", "shop:product:new", sealed.replace(b"2026b", b"2026a"))
        assert is_error(conn.cmd("GET", "product:new")), "with another key's id"
        direct.cmd("SET", "shop:product:new", sealed)
        proxy.reload(config((TWO,)))
        wait_until(lambda: is_error(conn.cmd("GET", "product:old")), what="the old key is gone")
        assert conn.cmd("GET", "product:new") == b"w"
        proxy.reload(config((THREE, TWO, ONE)))
        wait_until(lambda: conn.cmd("GET", "product:old") == b"v", what="the old key is back")
        assert conn.cmd("MGET", "product:new", "product:old2") == [b"w", b"v"]


def test_a_bad_ring_changes_nothing(fresh_redis, fresh_keyweir):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, config((ONE,)))
    with proxy.client() as conn:
        conn.cmd("SET", "product:s", "v")
        for bad in ("2026a:short", "nocolon", "2026a:" + base64.b64encode(b"x" * 31).decode()):
            proxy.reload(config((bad,)))
            assert conn.cmd("GET", "product:s") == b"v"
        proxy.reload(config((ONE, ONE)))  # the same name twice
        assert conn.cmd("GET", "product:s") == b"v"
    assert ONE.split(":")[1] not in proxy.log()


def test_keys_from_a_file(fresh_redis, fresh_keyweir, tmp_path):
    path = tmp_path / "keys"
    path.write_text(ONE + "\n" + TWO + "\n")
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, PATIENT + table_of("encrypt = true") + '[encryption]\nkeys_file = "%s"\n' % path)
    with proxy.client() as conn:
        conn.cmd("SET", "product:s", MARK)
        assert conn.cmd("GET", "product:s") == MARK.encode()
    assert readable(behind) == [] and b"2026a" in behind.cmd("GET", "shop:product:s")


def test_no_key_no_start():
    with Redis() as behind:
        proxy = Keyweir(behind, PATIENT + table_of("encrypt = true"))
        proxy.start(wait=False)
        assert proxy.wait() == 78
        assert "encrypt" in proxy.log()
        proxy.stop(expect_exit=78)


# ---- moving over ----

def test_accept_plaintext(fresh_redis, fresh_keyweir):
    behind = fresh_redis()
    with behind.client() as direct:
        direct.cmd("SET", "shop:product:s", "plain"), direct.cmd("HSET", "shop:product:h", "a", "plain")
        direct.cmd("RPUSH", "shop:product:l", "p1", "p2"), direct.cmd("XADD", "shop:product:x", "1-1", "f", "plain")
        direct.cmd("SET", "shop:product:e", "")
        proxy = fresh_keyweir(behind, config(more="accept_plaintext = true"))
        with proxy.client() as conn:
            assert conn.cmd("MGET", "product:s", "product:e") == [b"plain", b""]
            assert conn.cmd("STRLEN", "product:s") == 5
            assert conn.cmd("HGETALL", "product:h") == [b"a", b"plain"] and conn.cmd("HSTRLEN", "product:h", "a") == 5
            assert conn.cmd("LRANGE", "product:l", 0, -1) == [b"p1", b"p2"]
            assert conn.cmd("XRANGE", "product:x", "-", "+") == [[b"1-1", [b"f", b"plain"]]]
            assert conn.cmd("GETSET", "product:s", MARK) == b"plain"
            assert conn.cmd("RPUSH", "product:l", MARK) == 3
            assert conn.cmd("LRANGE", "product:l", 0, -1) == [b"p1", b"p2", MARK.encode()]
            assert readable(behind) == []
            good = direct.cmd("GET", "shop:product:s")
            direct.cmd("SET", "shop:product:moved", good)
            assert is_error(conn.cmd("GET", "product:moved")), "sealed, so it is no plain value"
            direct.cmd("SET", "shop:product:s", good[:-1] + bytes([good[-1] ^ 1]))
            assert is_error(conn.cmd("GET", "product:s"))
            proxy.reload(config())
            wait_until(lambda: is_error(conn.cmd("GET", "product:e")), what="plain values are errors again")


# ---- names ----

HASH_KEY = 'hash_key = "%s"' % base64.b64encode(b"n" * 32).decode()


def test_hash_keys(fresh_redis, fresh_keyweir):
    behind, bound = fresh_redis(), Bound()
    proxy = fresh_keyweir(behind, config(options="hash_keys = true", more=HASH_KEY, bound=bound))
    with behind.client() as direct:
        for client, before in ((proxy.client, MATCH), (bound.client, "")):
            direct.cmd("FLUSHALL")
            with client() as conn:
                assert conn.cmd("SET", before + "secretname", MARK) == "OK"
                assert conn.cmd("MSET", before + "{tag}secretname", 1, before + "{tag}othername", 2) == "OK"
                assert conn.cmd("MGET", before + "secretname", before + "none") == [MARK.encode(), None]
                assert conn.cmd("RPUSH", before + "list", "a", "b") == 2
                assert conn.cmd("BLPOP", before + "none", before + "list", 1) == [(before + "list").encode(), b"a"]
                keys = keys_of(direct)
                assert len(keys) == 4 and all(k.startswith(PREFIX.encode()) for k in keys)
                assert not any(word in k for k in keys for word in (b"secret", b"other", b"list", b"tag"))
                tags = {k[k.index(b"{"):k.index(b"}") + 1] for k in keys if b"{" in k}
                assert len(tags) == 1, keys
                for words in (["KEYS", before + "*"], ["SCAN", 0, "MATCH", before + "*"]) + ((["KEYS", "*"], ["SCAN", 0]) if not before else ()):
                    assert is_error(conn.cmd(*words)), words
                if before:
                    assert conn.cmd("KEYS", "*") == [], "names that nobody can tell are left out"
                assert conn.cmd("DEL", before + "secretname", before + "list") == 2
    assert readable(behind) == []


def test_hash_keys_without_encrypt(fresh_redis, fresh_keyweir):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, PATIENT + table_of("hash_keys = true") + "[encryption]\n" + HASH_KEY + "\n")
    with proxy.client() as conn, behind.client() as direct:
        conn.cmd("SET", "product:name", "v"), conn.cmd("APPEND", "product:name", "w")
        key, = keys_of(direct)
        assert b"name" not in key and direct.cmd("GET", key) == b"vw"
        assert conn.cmd("RENAME", "product:name", "product:name2") == "OK"
        assert conn.cmd("GET", "product:name2") == b"vw"


# ---- with the rest ----

def test_sealed_with_ttl(fresh_redis, fresh_keyweir):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, config(options='ttl = "1h"\nttl_jitter = 0.1'))
    with proxy.client() as conn, behind.client() as direct:
        conn.cmd("SET", "product:s", "v"), conn.cmd("MSET", "product:a", "v", "product:b", "w"), conn.cmd("HSET", "product:h", "f", "v")
        conn.cmd("RPUSH", "product:l", "v"), conn.cmd("XADD", "product:x", "*", "f", "v"), conn.cmd("GETSET", "product:g", "v")
        conn.cmd("SETNX", "product:n", "v"), conn.cmd("MSETNX", "product:m", "v", "product:o", "w")
        for key in keys_of(direct):
            assert 3200 <= direct.cmd("TTL", key) <= 3961, key
        assert conn.cmd("MGET", "product:s", "product:a", "product:b", "product:g", "product:n", "product:m",
                        "product:o") == \
            [b"v", b"v", b"w", b"v", b"v", b"v", b"w"]
        assert conn.cmd("SET", "product:s", "w", "KEEPTTL", "GET") == b"v"


def test_messages(fresh_redis, fresh_keyweir):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, config(options="encrypt_messages = true"))
    with contextlib.ExitStack() as stack:
        conn, other, direct = (stack.enter_context(c) for c in (proxy.client(), proxy.client(), behind.client()))
        for one in (conn, direct):
            one.send("SUBSCRIBE", "product:news")
            one.read_raw()
        assert other.cmd("PUBLISH", "product:news", MARK) == 2
        assert conn.read() == [b"message", b"product:news", MARK.encode()]
        assert MARK.encode() not in direct.read()[2]
        conn.send("SUBSCRIBE", "open")
        conn.read_raw()
        other.cmd("PUBLISH", "open", "x")
        assert conn.read() == [b"message", b"open", b"x"]


def test_the_examples_are_sound():
    """What is said to work is a command of the table with keys; what both lists leave out is refused."""
    known = table_of_keyweir()
    assert all(known[name][0] for name in worked_on() | set(EITHER))
    assert worked_on().isdisjoint(EITHER)
    assert set(READ) and shape(parse(b"*0\r\n")) == []


def test_the_examples_work_in_redis(redis):
    """Against the oracle alone: each is answered, and not by an error that nobody meant."""
    wrong = []
    with redis.client() as conn:
        for param in supported():
            kind, example = param.values
            conn.cmd("FLUSHALL")
            for raw in exchange(conn, [Command(c) for c in KINDS[kind].split(" ; ")], MATCH, 0, "alone"):
                assert not raw.startswith(b"-")
            for command, raw in zip(example.commands, exchange(conn, example.commands, MATCH, 0, "alone")):
                meant = any(w in str(command) for w in ("FOO", "EX 0", " 0 V9", "99", "FREQ", "@s x"))
                if raw.startswith(b"-") and not meant:
                    wrong.append((command, raw))
    assert not wrong
