# SPDX-License-Identifier: BSD-2-Clause
"""Every command that takes keys, in a namespace with a prefix: the replies are a plain Redis's, and upstream every key
stands behind the prefix. Over the listener that is bound to the namespace, and over an ordinary one."""
import pytest

from harness.examples import ALL, PREPARED, WITHOUT_EXAMPLE, Table, keys_of, table_of_keyweir
from harness.namespaces import (DIRECT, MATCH, PATIENT, PREFIX, Bound, Shop, compare_data, differences, table_of,
                                transacted)
from harness.resp import Push, RespError
from harness.servers import Keyweir, Redis, wait_until

by_namespace = pytest.mark.skipif(DIRECT, reason="what a plain Redis has not")
LISTENERS = [pytest.param(True, id="bound"), pytest.param(False, id="ordinary")]

# Keyless and dangerous, yet meant to work on a bound listener: they act on the namespace, or speak of the proxy.
NOT_REFUSED = {
    "keys": "the namespace's", "flushdb": "the namespace's", "flushall": "the namespace's",
    "info": "speaks of the proxy", "role": "which says only that this is a master", "monitor": "speaks of the proxy",
    "client": "speaks of the proxy", "slowlog": "speaks of the proxy", "latency": "speaks of the proxy",
    "sync": "refused everywhere", "psync": "refused everywhere", "replconf": "refused everywhere",
    "replicaof": "refused everywhere", "slaveof": "refused everywhere", "failover": "refused everywhere",
    "cluster": "Redis itself refuses it, or Keyweir answers", "acl": "users come later", "module": "Redis itself refuses it",
    "pfselftest": "does no harm", "lastsave": "does no harm", "shutdown": "would end the test when it is not refused",
}
REFUSED = ["SWAPDB 0 1", "CONFIG GET maxmemory", "CONFIG SET maxmemory-samples 5", "CONFIG RESETSTAT", "CONFIG REWRITE",
           "DEBUG SLEEP 0", "SAVE", "BGSAVE", "BGREWRITEAOF"]


@pytest.fixture(scope="module")
def shop():
    with Shop() as shop:
        yield shop


def needed(table):
    """Every command that takes keys, by Redis or by Keyweir's own table."""
    return table.with_keys() | {name for name, (keyed, _) in table_of_keyweir().items() if keyed}


# ---- the table of examples ----

def test_every_command_with_keys_has_an_example(redis):
    with redis.client() as conn:
        missing = sorted(needed(Table(conn)) - ALL.keys() - WITHOUT_EXAMPLE.keys())
    assert not missing, "no example in tests/harness/examples.py, so nobody knows whether their keys are rewritten"


def test_no_example_is_of_another_command(redis):
    with redis.client() as conn:
        assert not sorted(ALL.keys() - needed(Table(conn)))
    for name, examples in ALL.items():
        for example in examples:
            words = ["%s %s" % (c.name, c.tokens[1].lower()) for c in example.commands if len(c.tokens) > 1]
            assert name in [c.name for c in example.commands] or name.replace("|", " ") in words, example


def test_the_examples_mark_what_redis_takes_for_keys(redis):
    wrong = []
    with redis.client() as conn:
        conn.cmd("FLUSHALL")
        for command in [c for examples in ALL.values() for e in examples for c in e.commands]:
            words = command.words("", lambda key: "dump")
            keys = conn.cmd("COMMAND", "GETKEYS", *words)
            marked = [words[i].encode() for i in command.key_positions if "*" not in words[i]]  # patterns aside
            if not isinstance(keys, RespError) and sorted(keys) != sorted(marked):
                wrong.append((command, keys, marked))
    assert not wrong


def test_the_dangerous_without_keys_are_all_thought_of(redis):
    with redis.client() as conn:
        table = Table(conn)
        names = {n.split("|")[0] for n in table.rows
                 if not table.takes_keys(n) and not table.categories(n).isdisjoint({"@dangerous", "@admin"})}
    tested = {words.split()[0].lower() for words in REFUSED}
    assert names - NOT_REFUSED.keys() - tested == set()


# ---- the walk ----

def exchange(conn, example, words, how):
    if how == "pipelined":
        return conn.pipeline(words)
    if how == "multi":
        return [transacted(conn, w) for w in words]
    return [conn.raw(*w) for w in words]


def run(shop, conn, oracle, example, bound, how):
    """Texts for what is wrong with an example."""
    before, where = shop.before(bound), "%s, %s: " % ("bound" if bound else "ordinary", how)
    shop.prepare(conn, before)
    words = [c.words(before, shop.dump) for c in example.commands]
    direct, through = exchange(oracle, example, words, how), exchange(conn, example, words, how)
    wrong = differences(example.commands, direct, through, where)
    if not DIRECT:
        wrong += ["%s%s\n  the prefix can be seen: %r" % (where, c, r[:300]) for c, r in zip(example.commands, through)
                  if PREFIX.encode() in r and PREFIX.encode() not in b"".join(direct)]
    return wrong + ["%s%s\n  key outside of the prefix: %r" % (where, example, k) for k in shop.outside()] + [
        "%s%s\n%s" % (where, example, text) for text in compare_data(shop, bound)]


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("proto", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("bound", LISTENERS)
def test_walk(shop, bound, proto, name):
    wrong = []
    with shop.client(bound, proto) as conn, shop.oracle.client() as oracle:
        if proto == 3:
            oracle.hello(3)
        for example in ALL[name]:
            for how in ("alone", "pipelined", "multi"):
                if how != "multi" or not example.uses({"watch", "multi"}):
                    wrong += run(shop, conn, oracle, example, bound, how)
    assert not wrong, "%d differences\n%s" % (len(wrong), "\n".join(wrong[:15]))


@pytest.mark.parametrize("bound", LISTENERS)
def test_blocked_clients_get_their_own_names(shop, bound):
    before = shop.before(bound)
    shop.clear()
    for block, wake in ((["BLPOP", "none", "late", 5], ["RPUSH", "late", "v"]),
                        (["BZPOPMIN", "none", "lz", 5], ["ZADD", "lz", 1, "m"]),
                        (["BLMPOP", 5, 2, "none", "lm", "LEFT"], ["RPUSH", "lm", "v"]),
                        (["XREAD", "BLOCK", 5000, "STREAMS", "ls", "$"], ["XADD", "ls", "1-1", "f", "v"])):
        named = [before + w if isinstance(w, str) and w in ("none", "late", "lz", "lm", "ls") else w for w in block]
        wake = [wake[0], before + wake[1], *wake[2:]]
        replies = []
        for open_one, server in ((shop.oracle.client, shop.backs if DIRECT else None), (lambda: shop.client(bound),
                                                                                        None)):
            back = shop.at_oracle if open_one == shop.oracle.client else shop.at_backs[0]
            with open_one() as waiting, open_one() as other:
                waiting.send(*named)
                wait_until(lambda back=back: b"blocked_clients:0" not in back.cmd("INFO", "clients"),
                           what="%s blocks" % block)
                assert not isinstance(other.cmd(*wake), RespError)
                replies.append(waiting.read_raw())
        assert replies[0] == replies[1], "%s\n  redis   %r\n  keyweir %r" % (named, *replies)


# ---- the keyspace ----

def filled(shop, bound, foreign=True):
    """Keys with all that is special in patterns; behind them, keys of others."""
    before = shop.before(bound)
    shop.clear()
    names = ["a", "b1", "b2", "b*3", "b?4", "[x]", "back\\slash", "shop:product:a", "h{t}1", "with space", ""]
    with shop.client(bound) as conn:
        for c in (conn, shop.at_oracle):
            for name in names:
                assert c.cmd("SET", before + name, "v") == "OK"
    if foreign and not DIRECT:
        shop.at_backs[0].pipeline([["SET", k, "x"] for k in ("alien", "shop:user:1", "shop:produc", "product", "a",
                                                             "b1")])
    return names


PATTERNS = ["*", "b*", "b?", "b[12]", "b\\*3", "b\\?4", "\\[x]", "[[]x]", "nosuch*", "", "a", "*s*", "shop:*", "h{*",
            "[^b]*",
            "back\\\\*", "b[1-", "b\\"]


def scanned(conn, *args):
    out, cursor = [], b"0"
    while True:
        reply = conn.cmd("SCAN", cursor, *args)
        assert not isinstance(reply, RespError), (args, reply)
        cursor = reply[0]
        out += reply[1]
        if cursor == b"0":
            return out


@pytest.mark.parametrize("proto", [2, 3], ids=["resp2", "resp3"])
def test_keys_and_scan_on_a_bound_listener(shop, proto):
    filled(shop, True)
    with shop.client(True, proto) as conn:
        for pattern in PATTERNS:
            want = sorted(shop.at_oracle.cmd("KEYS", pattern))
            assert sorted(conn.cmd("KEYS", pattern)) == want, pattern
            assert sorted(set(scanned(conn, "MATCH", pattern))) == want, pattern
            assert sorted(set(scanned(conn, "MATCH", pattern, "COUNT", 2))) == want, pattern
            assert sorted(set(scanned(conn, "TYPE", "string", "MATCH", pattern))) == want, pattern
            assert transacted(conn, ["KEYS", pattern])[:1] == b"*"
        assert sorted(set(scanned(conn))) == sorted(keys_of(shop.at_oracle))
        assert scanned(conn, "TYPE", "list") == []
        assert sorted(transacted(conn, ["KEYS", "*"])) == sorted(transacted(shop.at_oracle, ["KEYS", "*"]))


def test_counting_on_a_bound_listener(shop):
    names = filled(shop, True)
    with shop.client(True) as conn:
        assert conn.raw("DBSIZE") == shop.at_oracle.raw("DBSIZE")
        assert {conn.cmd("RANDOMKEY") for _ in range(200)} <= {n.encode() for n in names}
        for name in names[1:]:
            conn.cmd("DEL", name)
        assert {conn.cmd("RANDOMKEY") for _ in range(5)} == {names[0].encode()}, "one key, so RANDOMKEY must find it"
        conn.cmd("DEL", names[0])
        assert conn.raw("RANDOMKEY") == b"$-1\r\n"
        assert conn.raw("DBSIZE") == b":0\r\n"


@by_namespace
@pytest.mark.parametrize("words", [["FLUSHDB"], ["FLUSHALL"], ["FLUSHDB", "ASYNC"], ["FLUSHALL", "SYNC"]], ids=" ".join)
def test_flushing_a_bound_listener_leaves_the_others(shop, words):
    filled(shop, True)
    others = {k for k in shop.keys() if not k.startswith(PREFIX.encode())}
    assert len(others) == 6
    with shop.client(True) as conn:
        conn.pipeline([["SET", "many%d" % i, "v"] for i in range(5000)])
        assert conn.raw(*words) == b"+OK\r\n"
        assert conn.raw("DBSIZE") == b":0\r\n"
        assert shop.keys() == others
        assert conn.raw("FLUSHDB", "X") == shop.at_oracle.raw("FLUSHDB", "X")


@by_namespace
def test_keys_and_scan_on_an_ordinary_listener(shop):
    """Keys in the namespace come back under the client's names, others under their own; those nobody can name, not."""
    filled(shop, False)
    want = {k.encode() if isinstance(k, str) else k for k in keys_of(shop.at_oracle)}
    others = {b"alien", b"shop:user:1", b"shop:produc", b"product", b"a", b"b1"}
    with shop.client(False) as conn:
        assert set(conn.cmd("KEYS", "*")) == want | others
        assert set(scanned(conn)) == want | others
        for pattern in ["product:*", "product:b?", "product:b\\*3", "product:[[]x]", "product:a", "product:nosuch*"]:
            assert sorted(conn.cmd("KEYS", pattern)) == sorted(shop.at_oracle.cmd("KEYS", pattern)), pattern
            assert sorted(set(scanned(conn, "MATCH", pattern))) == sorted(shop.at_oracle.cmd("KEYS", pattern)), pattern
        for pattern in ["prod*", "*b1", "[ap]*", "*:a"]:  # may lead to several places: the client's own pattern decides
            hits = set(shop.at_oracle.cmd("KEYS", pattern))
            with Redis() as judge, judge.client() as other:
                other.pipeline([["SET", k, ""] for k in want | others])
                hits = set(other.cmd("KEYS", pattern))
            assert set(conn.cmd("KEYS", pattern)) == hits, pattern
            assert set(scanned(conn, "MATCH", pattern)) == hits, pattern
        assert {conn.cmd("RANDOMKEY") for _ in range(100)} <= want | others


@by_namespace
def test_what_a_client_has_no_name_for_is_left_out(shop):
    """Upstream "product:..." is what nobody reaches: by that name clients mean what stands behind the prefix."""
    shop.clear()
    shop.at_backs[0].cmd("SET", "product:hidden", "x")
    shop.at_backs[0].cmd("SET", "shop:product:seen", "x")
    with shop.client(False) as conn:
        assert conn.cmd("KEYS", "*") == [b"product:seen"]
        assert scanned(conn) == [b"product:seen"]
        assert b"product:seen" in {conn.cmd("RANDOMKEY") for _ in range(50)} <= {b"product:seen", None}
        assert conn.cmd("GET", "product:hidden") is None


@by_namespace
def test_the_upstream_name_is_the_same_key(shop):
    shop.clear()
    with shop.client(False) as conn:
        conn.cmd("SET", "shop:product:1", "v")
        assert conn.cmd("GET", "product:1") == b"v"
        assert conn.cmd("DEL", "product:1") == 1
    assert shop.keys() == set()


# ---- what is not a keyed command, and what is refused ----

@by_namespace
@pytest.mark.parametrize("words", REFUSED)
def test_refused_on_a_bound_listener(shop, words):
    shop.clear()
    shop.at_backs[0].cmd("SET", "alien", "x")
    with shop.client(True) as conn:
        reply = conn.cmd(*words.split())
        assert isinstance(reply, RespError) and reply.startswith("NOPERM "), reply
        assert conn.cmd("PING") == "PONG"
    assert shop.at_backs[0].cmd("GET", "alien") == b"x"


@by_namespace
@pytest.mark.parametrize("bound", LISTENERS)
def test_migrate_is_refused(shop, bound):
    key = shop.before(bound) + "str"
    with shop.client(bound) as conn:
        conn.cmd("SET", key, "v")
        for words in (["MIGRATE", "127.0.0.1", 1, key, 0, 100], ["MIGRATE", "127.0.0.1", 1, "", 0, 100, "KEYS", key]):
            reply = conn.cmd(*words)
            assert isinstance(reply, RespError) and reply.startswith("NOPERM "), (words, reply)
        assert conn.cmd("GET", key) == b"v"


@pytest.mark.parametrize("bound", LISTENERS)
def test_command_getkeys_speaks_the_clients_names(shop, bound):
    before = shop.before(bound)
    with shop.client(bound) as conn:
        for command in PREPARED:
            words = ["COMMAND", "GETKEYS", *command.words(before)]
            assert conn.raw(*words) == shop.at_oracle.raw(*words), words


@pytest.mark.parametrize("bound", LISTENERS)
def test_unknown_commands_do_not_tell_the_prefix(shop, bound):
    """Where the keys of an unknown command are nobody knows: over a bound listener it may be refused."""
    key = shop.before(bound) + "str"
    with shop.client(bound) as conn:
        for words in (["NOSUCH", key, "x"], ["HGETDEL", key, "FIELDS", 1, "a"], ["OBJECT", "NOSUCH", key],
                      ["XGROUP", "NOSUCH", key, "g"]):
            reply = conn.raw(*words)
            assert reply == shop.at_oracle.raw(*words) or bound and words[0] == "NOSUCH" and reply.startswith(b"-NOPERM "), reply


@pytest.fixture(scope="module")
def notifying():
    with Redis(["--notify-keyspace-events", "KEA"]) as behind, Redis(["--notify-keyspace-events", "KEA"]) as oracle:
        bound = Bound()
        with Keyweir(behind, PATIENT + table_of() + bound.table) as proxy:
            yield oracle, behind, proxy, bound


@by_namespace
@pytest.mark.parametrize("bound", LISTENERS)
def test_keyspace_events(notifying, bound):
    oracle, behind, proxy, listener = notifying
    before = "" if bound else MATCH
    got = []
    for server in (oracle, listener if bound else proxy):
        with server.client() as hears, server.client() as acts:
            hears.send("PSUBSCRIBE", "__key*__:*")
            hears.send("SUBSCRIBE", "__keyspace@0__:%sone" % before)
            said = [hears.read(), hears.read()]
            acts.cmd("SET", before + "one", "v")
            acts.cmd("EXPIRE", before + "one", 100)
            if server is not oracle:
                behind.cmd("SET", "alien", "v")  # a bound client hears nothing of it; nor any client by that name
            acts.cmd("DEL", before + "one")
            acts.cmd("PUBLISH", "end", "x")
            hears.send("SUBSCRIBE", "end")
            while said[-1][:2] != ["subscribe", b"end"] and said[-1][1] != b"end":
                said.append(hears.read())
            got.append([m for m in said[:-1] if bound or not any(b"alien" in w for w in m if isinstance(w, bytes))])
    assert sorted(map(repr, got[0])) == sorted(map(repr, got[1]))


@by_namespace
@pytest.mark.parametrize("bcast", [False, True], ids=["default", "bcast"])
@pytest.mark.parametrize("bound", LISTENERS)
def test_tracking_invalidates_the_clients_names(shop, bound, bcast):
    before = shop.before(bound)
    shop.clear()
    options = ["BCAST", "PREFIX", before + "tr"] if bcast else []
    with shop.client(bound, 3) as conn, shop.client(bound) as other:
        assert conn.cmd("CLIENT", "TRACKING", "ON", *options) == "OK"
        conn.cmd("GET", before + "tracked")
        other.cmd("SET", before + "tracked", "v")
        push = conn.read()
        assert isinstance(push, Push) and push == [b"invalidate", [(before + "tracked").encode()]], push
        shop.at_backs[0].cmd("SET", "tracked", "alien")
        with pytest.raises(TimeoutError):
            raise AssertionError(conn.read(timeout=0.3))


# ---- options ----

def names(*tables, server=""):
    return server + "".join(tables)


@by_namespace
def test_several_matches_and_the_longest(fresh_keyweir, fresh_redis):
    behind = fresh_redis()
    listy = '[namespace.tokens]\nmatch = ["token:blacklist:", "blacklist:token:"]\nprefix = "t:"\n'
    proxy = fresh_keyweir(behind, PATIENT + listy + table_of(name="a", match="a:", prefix="p:") +
                          table_of(name="ab", match="a:b:", prefix="q:"))
    with proxy.client() as conn:
        conn.cmd("SET", "token:blacklist:1", "x")
        assert conn.cmd("GET", "blacklist:token:1") == b"x"
        conn.cmd("SET", "a:1", "x"), conn.cmd("SET", "a:b:1", "x"), conn.cmd("SET", "a:b", "x"), conn.cmd("SET", "c", "x")
        with behind.client() as direct:
            assert keys_of(direct) == {b"t:1", b"p:1", b"q:1", b"p:b", b"c"}
        assert set(conn.cmd("KEYS", "*")) == {b"token:blacklist:1", b"a:1", b"a:b:1", b"a:b", b"c"}
        assert set(conn.cmd("KEYS", "a:*")) == {b"a:1", b"a:b:1", b"a:b"}
        assert conn.cmd("MGET", "a:1", "c", "a:b:1", "nosuch") == [b"x", b"x", b"x", None]


@by_namespace
def test_default_namespace(fresh_keyweir, fresh_redis):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, PATIENT + '[namespace.default]\nprefix = "rest:"\n' + table_of())
    with proxy.client() as conn, behind.client() as direct:
        conn.cmd("MSET", "x", 1, "product:1", 2, "shop:product:2", 3)
        assert keys_of(direct) == {b"rest:x", b"shop:product:1", b"shop:product:2"}
        assert set(conn.cmd("KEYS", "*")) == {b"x", b"product:1", b"product:2"}


@by_namespace
def test_strict(fresh_keyweir, fresh_redis):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, "[server]\nstrict = true\n" + table_of())
    behind.cmd("SET", "alien", "x")
    with proxy.client() as conn:
        for examples in ALL.values():
            for command in (c for e in examples for c in e.commands[:1]):
                if not command.key_positions or command.has_pattern or len(command.tokens) < 2:
                    continue
                reply = conn.cmd(*command.words("alien", lambda key: "dump"))
                # ERR: where the arguments are wrong in another way as well. That nothing was done is seen below.
                assert isinstance(reply, RespError), (command, reply)
                assert reply.startswith(("NOPERM ", "ERR ")), (command, reply)
        assert conn.cmd("MGET", "product:1", "alien").startswith("NOPERM ")
        assert conn.cmd("SET", "product:1", "v") == "OK"
        behind.cmd("RPUSH", "shop:product:nums", "1"), behind.cmd("SET", "alien1", "told")
        for words in (["SORT", "product:nums", "GET", "alien*"], ["SORT", "product:nums", "BY", "alien*"],
                      ["SORT_RO", "product:nums", "GET", "alien*"], ["SORT", "product:nums", "STORE", "alien2"]):
            reply = conn.cmd(*words)
            assert isinstance(reply, RespError) and reply.startswith("NOPERM "), (words, reply)
        behind.cmd("DEL", "alien1", "shop:product:nums")
        assert conn.cmd("MULTI") == "OK"
        assert conn.cmd("GET", "alien").startswith("NOPERM ")
        assert conn.cmd("EXEC").startswith("EXECABORT ")
        assert conn.cmd("KEYS", "*") == [b"product:1"]
        assert scanned(conn) == [b"product:1"]
    with behind.client() as direct:
        assert keys_of(direct) == {b"alien", b"shop:product:1"}


# Commands that Redis calls writes, and that write with one of these words only.
READS_UNLESS = {"sort": {"STORE"}, "georadius": {"STORE", "STOREDIST"}, "georadiusbymember": {"STORE", "STOREDIST"},
                "bitfield": {"SET", "INCRBY"}, "getex": {"EX", "PX", "EXAT", "PXAT", "PERSIST"}}


@by_namespace
def test_readonly(fresh_keyweir, fresh_redis):
    behind, bound = fresh_redis(), Bound()
    proxy = fresh_keyweir(behind, PATIENT + table_of("readonly = true") + bound.table)
    behind.cmd("SET", "shop:product:str", "v")
    table = table_of_keyweir()
    for client, before in ((proxy.client, MATCH), (bound.client, "")):
        with client() as conn:
            assert conn.cmd("GET", before + "str") == b"v"
            assert conn.cmd("MGET", before + "str", before + "none") == [b"v", None]
            for name, examples in ALL.items():
                for example in examples if table[name][1] else ():
                    command = next(c for c in example.commands if c.name == name.split("|")[0])
                    if name in READS_UNLESS and READS_UNLESS[name].isdisjoint(command.tokens):
                        continue
                    reply = conn.cmd(*command.words(before, lambda key: "dump"))
                    assert isinstance(reply, RespError), (command, reply)
                    assert reply.startswith(("NOPERM ", "ERR ")), (command, reply)
            for words in (["SET", before + "str", 1], ["DEL", before + "str"], ["XGROUP", "CREATE", before + "s", "g",
                                                                                "$", "MKSTREAM"],
                          ["SORT", before + "str", "STORE", before + "n"], ["EVAL", "return redis.call('DEL',KEYS[1])",
                                                                            1, before + "str"]):
                assert conn.cmd(*words).startswith("NOPERM "), words
            assert conn.cmd("EVAL_RO", "return redis.call('GET',KEYS[1])", 1, before + "str") == b"v"
            if before:
                assert conn.cmd("SET", "other", 1) == "OK"
            else:
                assert conn.cmd("FLUSHDB").startswith("NOPERM ")
    with behind.client() as direct:
        assert keys_of(direct) == {b"shop:product:str", b"other"}


@by_namespace
def test_channels(fresh_keyweir, fresh_redis):
    behind, bound = fresh_redis(), Bound()
    proxy = fresh_keyweir(behind, PATIENT + table_of('channel_prefix = "shop:ch:"') + bound.table)
    for server, before in ((proxy, MATCH), (bound, "")):
        with server.client() as conn, behind.client() as direct, server.client() as other:
            for verb, name in (("SUBSCRIBE", "news"), ("PSUBSCRIBE", "n*"), ("SSUBSCRIBE", "shard")):
                conn.send(verb, before + name)
                assert conn.read()[1] == (before + name).encode()
            assert direct.cmd("PUBSUB", "CHANNELS") == [b"shop:ch:news"]
            assert sorted(other.cmd("PUBSUB", "CHANNELS")) == [(before + "news").encode()]
            assert other.cmd("PUBSUB", "NUMSUB", before + "news") == [(before + "news").encode(), 1]
            assert other.cmd("PUBSUB", "SHARDCHANNELS") == [(before + "shard").encode()]
            assert other.cmd("PUBLISH", before + "news", "x") == 2
            assert conn.read() == [b"message", (before + "news").encode(), b"x"]
            assert conn.read() == [b"pmessage", (before + "n*").encode(), (before + "news").encode(), b"x"]
            assert other.cmd("SPUBLISH", before + "shard", "y") == 1
            assert conn.read() == [b"smessage", (before + "shard").encode(), b"y"]
            direct.cmd("PUBLISH", "news", "alien")
            direct.cmd("PUBLISH", "shop:ch:news", "z")
            assert conn.read() == [b"message", (before + "news").encode(), b"z"]


@by_namespace
def test_pipelines_mix_namespaces(fresh_keyweir, fresh_redis):
    """Runs of the same command over keys of several kinds: each goes where it belongs."""
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, PATIENT + table_of() + table_of(name="user", match="user:", prefix="u:"))
    keys = ["%s%d" % (("product:", "user:", "other:")[i % 3 if i % 7 else 0], i) for i in range(3000)]
    with proxy.client() as conn, behind.client() as direct:
        assert set(conn.pipeline([["SET", k, k] for k in keys])) == {b"+OK\r\n"}
        assert conn.pipeline([["GET", k] for k in keys]) == [b"$%d\r\n%s\r\n" % (len(k), k.encode()) for k in keys]
        renamed = {k.replace("product:", PREFIX).replace("user:", "u:").encode(): k.encode() for k in keys}
        assert keys_of(direct) == set(renamed)
        assert conn.cmd("MGET", *keys) == [k.encode() for k in keys]


@by_namespace
def test_reload_moves_the_prefix(fresh_keyweir, fresh_redis):
    behind = fresh_redis()
    proxy = fresh_keyweir(behind, PATIENT + table_of())
    with proxy.client() as conn:
        conn.cmd("SET", "product:1", "old")
        proxy.reload(PATIENT + table_of(prefix="new:"))
        wait_until(lambda: conn.cmd("GET", "product:1") is None, what="the new prefix")
        conn.cmd("SET", "product:1", "new")
        assert (behind.cmd("GET", "shop:product:1"), behind.cmd("GET", "new:1")) == (b"old", b"new")


@by_namespace
def test_thousands_of_namespaces(fresh_keyweir, fresh_redis):
    behind = fresh_redis()
    tables = "".join(table_of(name="n%d" % i, match="m%d:" % i, prefix="p%d:" % i) for i in range(3000))
    proxy = fresh_keyweir(behind, PATIENT + tables)
    with proxy.client() as conn, behind.client() as direct:
        assert set(conn.pipeline([["SET", "m%d:k" % i, i] for i in range(3000)])) == {b"+OK\r\n"}
        assert keys_of(direct) == {b"p%d:k" % i for i in range(3000)}
        assert len(conn.cmd("KEYS", "*")) == 3000
        assert conn.cmd("KEYS", "m77:*") == [b"m77:k"]
