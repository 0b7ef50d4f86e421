# SPDX-License-Identifier: BSD-2-Clause
"""Every command that writes, in a namespace with a ttl: alone, pipelined, in MULTI, in a script; before Redis 7, Redis
6.0, Sentinel and Cluster. Afterwards no key of the namespace is without expiry: it has the ttl within the jitter, or
what the client gave. The replies are those of the oracle, a plain Redis to which the test itself gives the ttl after
each command, for TTL, PERSIST and EXPIRE NX speak of it.
"""
import statistics
import time

import pytest

from harness.examples import (ALL, KEYS_IN_ERROR, KEYS_IN_REPLY, keys_of, pttls_of, table_of_keyweir, values_of,
                              writes)
from harness.namespaces import (DIRECT, MATCH, PATIENT, Bound, Shop, compare_data, differences, has_old, table_of,
                                transacted)
from harness.resp import RespError, parse
from harness.servers import Redis, calls_of, wait_until

HOUR = 3600 * 1000
SLACK = 20 * 1000  # the walk takes its time
OPTIONS = 'ttl = "1h"\nttl_jitter = 0.1'
TARGETS = ["standalone", "old", "sentinel", "cluster"]
by_namespace = pytest.mark.skipif(DIRECT, reason="what a plain Redis has not")
LISTENERS = [pytest.param(True, id="bound"), pytest.param(False, id="ordinary")]

# Not allowed in scripts, or connection state; the table's flags say so for most.
NO_SCRIPT = {"eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"}
# Refused by Redis Cluster in its own words, which the plain oracle does not know.
NOT_IN_CLUSTER = {"move"}
NEWER = {n for n in ALL if n.startswith(("hexp", "hpexp", "hpersist", "hgetdel", "hgetex", "hsetex", "xackdel",
                                         "xdelex"))}
BLOCKING = {n for n in ALL if n.startswith("b") and not n.startswith("bit")} | {"xread", "xreadgroup"}


@pytest.fixture(scope="module", params=TARGETS)
def shop(request):
    if request.param == "old" and not has_old():
        pytest.skip("no redis-server 6.0 here: tests/harness/old-redis.sh build/redis-6.0")
    with Shop(request.param, OPTIONS) as shop:
        yield shop


def give_ttl(shop, how):
    """The oracle as Redis would be had every write given its key the ttl; with DIFF_DIRECT the other one, too."""
    if not DIRECT or how != "pipelined":
        for conn in (shop.at_oracle, *(shop.at_backs if DIRECT else [])):
            give_each_ttl(conn)


def give_each_ttl(conn, ttl=HOUR):
    bare = [k for k, left in pttls_of(conn).items() if left == -1]
    conn.pipeline([["PEXPIRE", k, ttl] for k in bare])


def within_jitter(left, ttl=HOUR, jitter=0.1, slack=SLACK):
    return ttl * (1 - jitter) - slack <= left <= ttl * (1 + jitter)


def wrong_ttls(shop, bound, where):
    """Texts for keys upstream whose expiry is not what it should be."""
    if DIRECT and "pipeline" in where:
        return []
    wrong = []
    for key, want in pttls_of(shop.at_oracle).items():
        left = shop.pttl(shop.upstream_name(key, bound))
        of_namespace = HOUR - SLACK <= want <= HOUR
        if left == -2 and want < SLACK:
            continue  # it has gone meanwhile
        if not (within_jitter(left) if of_namespace else abs(left - want) <= SLACK):
            wrong.append("%s\n  %r has PTTL %d upstream, and should have %s" %
                         (where, key, left, "3600000 +- 10 %" if of_namespace else want))
    return wrong


# ---- ways to send a command ----

def alone(conn, words):
    return [conn.raw(*w) for w in words]


def pipelined(conn, words):
    return conn.pipeline(words)


def in_multi(conn, words):
    return [transacted(conn, w) for w in words]


HOW = {"alone": alone, "pipelined": pipelined, "multi": in_multi, "eval": alone}


def fits_cluster(example, how):
    if example.has_pattern or example.uses(NOT_IN_CLUSTER) or example.name == "sort" and "GET" in example.text:
        return False
    # A transaction is kept by Keyweir until EXEC, which is then what tells of a command that the server has not.
    return how != "multi" or example.name not in NEWER


def fits(shop, example, how):
    """Whether an example can be sent so."""
    if not shop.knows(example) or shop.clustered and not fits_cluster(example, how):
        return False
    if how == "multi":
        return not example.uses({"watch", "multi"})
    if how == "eval":
        refused = any("noscript" in shop.table.flags(c.name) for c in example.commands)
        return not (refused or example.has_pattern or example.uses(NO_SCRIPT | KEYS_IN_REPLY | KEYS_IN_ERROR | {"multi", "script"}))
    return True


def words_of(shop, example, before, how):
    if how == "eval":
        return [c.in_script(before, shop.dump) for c in example.commands]
    return [c.words(before, shop.dump) for c in example.commands]


def asked(shop, oracle, conn, words, how):
    """The replies of both. The oracle's keys get the ttl after each command."""
    direct, through = [], []
    for one in words:
        direct += [transacted(oracle, one)] if how == "multi" else [oracle.raw(*one)]
        if how != "pipelined":
            through += HOW[how](conn, [one])
        give_ttl(shop, how)
    return direct, through or pipelined(conn, words)


def run(shop, conn, oracle, example, bound, how):
    before, where = shop.before(bound), "%s, %s, %s: %s" % (shop.target, "bound" if bound else "ordinary", how, example)
    shop.prepare(conn, before)
    give_ttl(shop, how)
    wrong = wrong_ttls(shop, bound, where + " (preparing)") if how == "alone" else []
    direct, through = asked(shop, oracle, conn, words_of(shop, example, before, how), how)
    wrong += differences(example.commands, direct, through, "%s, %s: " % (shop.target, how))
    wrong += ["%s\n%s" % (where, text) for text in compare_data(shop, bound)]
    wrong += ["%s\n  key outside of the prefix: %r" % (where, k) for k in shop.outside()]
    return wrong + wrong_ttls(shop, bound, where)


@pytest.mark.parametrize("name", writes())
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("bound", LISTENERS)
def test_walk(shop, bound, how, name):
    if shop.target in ("sentinel", "cluster") and bound and how in ("alone", "pipelined"):
        pytest.skip("that way is walked over the ordinary listener there")
    wrong, done = [], 0
    with shop.client(bound) as conn, shop.oracle.client() as oracle:
        for example in ALL[name]:
            if fits(shop, example, how):
                done += 1
                wrong += run(shop, conn, oracle, example, bound, how)
    if not done:
        pytest.skip("not to be sent so")
    assert not wrong, "%d differences\n%s" % (len(wrong), "\n".join(wrong[:15]))


def test_every_write_is_walked():
    missing = {n for n, (keyed, writing) in table_of_keyweir().items() if keyed and writing} - set(writes())
    assert missing == {"migrate", "cl.throttle", "token.restore", "token.revoke"}


@by_namespace
@pytest.mark.parametrize("name", writes())
def test_keys_from_before_get_it_when_they_are_written(shop, name):
    """Keys that were there without expiry, before the namespace had a ttl: a write that changes one gives it the ttl."""
    if shop.target not in ("standalone", "old"):
        pytest.skip("the same there")
    wrong, before, back = [], shop.before(False), shop.at_backs[0]
    with shop.client(False) as conn:
        for example in ALL[name]:
            if not fits(shop, example, "alone"):
                continue
            shop.prepare(conn, before)
            back.pipeline([["PERSIST", k] for k in shop.keys()])
            old = {k: back.cmd("DUMP", k) for k in shop.keys()}
            replies = alone(conn, words_of(shop, example, before, "alone"))
            wrong += ["%s was answered %r\n  %r changed and has no expiry" % (example, replies, k)
                      for k, left in pttls_of(back).items() if left == -1 and old.get(k) != back.cmd("DUMP", k)]
    assert not wrong, "\n".join(wrong[:15])


@pytest.mark.parametrize("bound", LISTENERS)
def test_one_pipeline_of_all(shop, bound):
    """All examples that need nothing of each other, in one pipeline, with their keys made in between."""
    before, wrong = shop.before(bound), []
    chosen = [e for n in writes() for e in ALL[n] if fits(shop, e, "pipelined") and not e.uses(BLOCKING)
              and not e.text.endswith((" GT", " LT"))]  # who is later by a millisecond matters
    shop.clear()
    with shop.client(bound) as conn, shop.oracle.client() as oracle:
        shop.prepare(conn, before)
        give_ttl(shop, "pipelined")
        commands = [c for e in chosen for c in e.commands]
        dumps = {k: shop.dump(before + k) for k in ("str", "list")}
        words = [c.words(before, lambda key: dumps[key[len(before):]]) for c in commands]
        direct, through = asked(shop, oracle, conn, words, "pipelined")
        wrong = differences(commands, direct, through, "one pipeline: ")
    assert not wrong, "%d differences\n%s" % (len(wrong), "\n".join(wrong[:15]))
    assert not wrong_ttls(shop, bound, "one pipeline")


@by_namespace
@pytest.mark.parametrize("bound", LISTENERS)
def test_a_transaction_of_many(shop, bound):
    before = shop.before(bound)
    words = [["SET", "a", 1], ["SET", "b", 1, "EX", 500], ["INCR", "c"], ["RPUSH", "d", 1, 2], ["HSET", "e", "f", 1],
             ["GET", "a"],
             ["PERSIST", "b"], ["SADD", "s", "x"], ["NOSUCH"], ["LPUSH", "a", 1], ["MSET", "m", 1, "n", 2], ["XADD", "x", "1-1", "f", "v"]]
    shop.clear()
    with shop.client(bound) as conn:
        for leave in (True, False):  # a command that is refused when queued spoils it all
            sent = [[w[0],
                     *(before + k if i % 2 == 0 and (w[0] == "MSET" or i == 0) else k for i, k in enumerate(w[1:]))]
                    for w in words if w != ["NOSUCH"] or leave]
            replies = []
            for one in (shop.at_oracle, conn):
                raw = one.pipeline([["MULTI"], *sent, ["EXEC"]])
                replies.append(raw)
            if not leave:  # PERSIST finds an expiry on both sides
                assert replies[0] == replies[1], sent
            else:
                assert replies[1][-1].startswith(b"-EXECABORT"), replies[1][-1]
                assert shop.keys() == set()
    assert len(shop.keys()) == 9
    assert all(within_jitter(shop.pttl(k)) for k in shop.keys()), {k: shop.pttl(k) for k in shop.keys()}


# ---- by hand ----

@pytest.fixture
def small(request, fresh_redis, fresh_keyweir):
    """make(options): a Redis, and connections to it directly, through the ordinary and the bound listener."""
    conns = []

    def make(options, proto=2, behind=None):
        behind, bound = behind or fresh_redis(), Bound()
        proxy = fresh_keyweir(behind, PATIENT + table_of(options) + bound.table)
        got = behind.client(), proxy.client(proto), bound.client(proto)
        conns.extend(got)
        return (behind, *got)

    yield make
    for conn in conns:
        conn.close()


@by_namespace
def test_jitter_spreads(small):
    _, direct, conn, _ = small(OPTIONS)
    conn.pipeline([["SET", "product:%d" % i, "v"] for i in range(1000)])
    lefts = list(pttls_of(direct).values())
    assert all(within_jitter(left) for left in lefts)
    assert len(set(lefts)) > 500
    assert min(lefts) < HOUR * 0.92 and max(lefts) > HOUR * 1.08
    assert abs(statistics.mean(lefts) - HOUR) < HOUR * 0.02


@by_namespace
def test_keys_of_one_command_get_the_same_or_their_own(small):
    _, direct, conn, _ = small(OPTIONS)
    assert conn.cmd("MSET", *(x for i in range(500) for x in ("product:%d" % i, i))) == "OK"
    assert conn.cmd("MSETNX", *(x for i in range(500, 600) for x in ("product:%d" % i, i))) == 1
    assert conn.cmd("MSETNX", "product:new", 1, "product:1", 1) == 0
    lefts = pttls_of(direct)
    assert len(lefts) == 600 and all(within_jitter(left) for left in lefts.values())


@by_namespace
def test_no_jitter_is_exact(small):
    _, direct, conn, _ = small('ttl = "1h"\nttl_jitter = 0')
    conn.cmd("SET", "product:1", "v")
    assert HOUR - 5000 < direct.cmd("PTTL", "shop:product:1") <= HOUR


@by_namespace
@pytest.mark.parametrize("words,want", [
    ("SET k v EX 7200", 1800), ("SET k v PX 7200000", 1800), ("SET k v EX 60", 60), ("SET k v",
                                                                                     1800), ("SETEX k 7200 v", 1800),
    ("PSETEX k 7200000 v", 1800), ("SETEX k 60 v", 60), ("SET k v EXAT 99999999999",
                                                         1800), ("SET k v PXAT 99999999999999", 1800),
    ("SET k v ; EXPIRE k 7200", 1800), ("SET k v ; PEXPIRE k 7200000", 1800), ("SET k v ; EXPIREAT k 99999999999",
                                                                               1800),
    ("SET k v ; PEXPIREAT k 99999999999999", 1800), ("SET k v ; EXPIRE k 60", 60), ("SET k v EX 60 ; PERSIST k", 1800),
    ("SET k v ; GETEX k EX 7200", 1800), ("SET k v ; GETEX k PXAT 99999999999999",
                                          1800), ("SET k v EX 60 ; GETEX k PERSIST", 1800),
    ("SET k v EX 60 ; SET k w KEEPTTL", 60), ("SET k v EX 60 ; SET k w", 1800), ("SET k v EX 60 ; INCR n ; RENAME n k",
                                                                                 1800),
    ("SET k v EX 60 NX", 60), ("SET k v ; SET k w XX EX 7200 GET", 1800),
    ("SET n v EX 60 ; RENAME n k", 60), ("SET n v EX 60 ; COPY n k", 60), ("MSET k 1 n 2", 1800),
    ("SET k v ; EXPIRE k 7200 GT", 1800), ("SET k v ; EXPIRE k 60 LT", 60),
])
@pytest.mark.parametrize("multi", [False, True], ids=["alone", "multi"])
def test_max_ttl(small, words, want, multi):
    _, direct, conn, bound = small('ttl = "30m"\nmax_ttl = "30m"\nttl_jitter = 0')
    for client, before in ((conn, MATCH), (bound, "")):
        direct.cmd("FLUSHALL")
        for command in words.split(" ; "):
            sent = [before + w if w in "kn" else w for w in command.split()]
            reply = parse(transacted(client, sent)) if multi else client.cmd(*sent)
            assert not isinstance(reply, RespError), (command, reply)
        left = direct.cmd("TTL", "shop:product:k")
        assert want - 5 <= left <= want, (words, left)


@by_namespace
def test_max_ttl_of_restore(small):
    _, direct, conn, _ = small('ttl = "30m"\nmax_ttl = "30m"\nttl_jitter = 0')
    conn.cmd("SET", "product:k", "v")
    dump = conn.cmd("DUMP", "product:k")
    for ttl, how, want in ((0, [], 1800), (7200000, [], 1800), (60000, [], 60), (99999999999999, ["ABSTTL"], 1800)):
        assert conn.cmd("RESTORE", "product:k", ttl, dump, "REPLACE", *how) == "OK"
        assert want - 5 <= direct.cmd("TTL", "shop:product:k") <= want, (ttl, how)


@by_namespace
def test_max_ttl_without_ttl(small):
    """A key may live for ever there; one that the client gives an expiry, no longer than that."""
    _, direct, conn, _ = small('max_ttl = "30m"')
    conn.cmd("SET", "product:k", "v")
    assert direct.cmd("TTL", "shop:product:k") == -1
    conn.cmd("EXPIRE", "product:k", 7200)
    assert 1790 <= direct.cmd("TTL", "shop:product:k") <= 1800


@by_namespace
def test_the_jitter_stays_under_max_ttl(small):
    _, direct, conn, _ = small('ttl = "1h"\nmax_ttl = "1h"\nttl_jitter = 0.5')
    conn.pipeline([["SET", "product:%d" % i, "v"] for i in range(300)])
    assert max(pttls_of(direct).values()) <= HOUR


@by_namespace
def test_one_round_trip(small):
    """What a write costs: SET and its kin are one command upstream."""
    _, direct, conn, _ = small(OPTIONS)
    for words in (["SET", "product:k", "v"], ["SETEX", "product:k", 100, "v"], ["SET", "product:k", "v", "NX"],
                  ["SET", "product:k", "v", "GET"], ["SETNX", "product:k2", "v"]):
        direct.cmd("CONFIG", "RESETSTAT")
        conn.cmd(*words)
        text = direct.cmd("INFO", "commandstats").decode()
        calls = {line.split(":")[0]: line for line in text.splitlines() if line.startswith("cmdstat_")}
        extra = set(calls) - {"cmdstat_set", "cmdstat_setnx", "cmdstat_setex", "cmdstat_psetex",
                              "cmdstat_config|resetstat", "cmdstat_info",
                              "cmdstat_ping", "cmdstat_role"}
        extra = {name for name in extra if not name.startswith(("cmdstat_client", "cmdstat_hello", "cmdstat_command"))}
        assert "SETNX" == words[0] or not extra, (words, calls)


@by_namespace
def test_atomic_where_the_command_is(small):
    """Whoever looks while writes go on never sees a key of the namespace without expiry where one command made it."""
    _, direct, conn, _ = small(OPTIONS)
    for name, words in (("SET", ["SET", "product:k", "v"]), ("SETNX", ["SETNX", "product:k", "v"]), ("GETSET", ["GETSET", "product:k", "v"]),
                        ("MSET", ["MSET", "product:k", "v", "product:l", "w"]), ("MSETNX", ["MSETNX", "product:k", "v", "product:l", "w"])):
        seen = set()
        for _ in range(100):
            conn.send_raw(b"")
            conn.send(*words)
            seen.add(direct.cmd("PTTL", "shop:product:k") == -1)
            conn.read_raw()
            direct.cmd("DEL", "shop:product:k", "shop:product:l")
        assert seen == {False}, name


# ---- sliding ----

SLIDING = 'ttl = "100s"\nttl_jitter = 0\nsliding = true'
READS = [("GET k", "SET k v"), ("MGET k k2", "MSET k v k2 v"), ("HGETALL k", "HSET k f v"), ("HGET k f", "HSET k f v"),
         ("LRANGE k 0 -1", "RPUSH k a"),
         ("SMEMBERS k", "SADD k a"), ("ZRANGE k 0 -1", "ZADD k 1 a"), ("XRANGE k - +", "XADD k 1-1 a b"), ("EXISTS k", "SET k v"), 
         ("STRLEN k", "SET k v"), ("GETRANGE k 0 1", "SET k v"), ("HLEN k", "HSET k f v"), ("SISMEMBER k a", "SADD k a"), ("LLEN k", "RPUSH k a")]


READS_OF_ITSELF = ["TTL k", "TYPE k", "OBJECT ENCODING k"]  # what asks about the key renews nothing


def sent(words, before=MATCH):
    return [before + w if w in ("k", "k2") else w for w in words.split()]


def renewals(server):
    return sum(calls_of(server, n) for n in ("expire", "pexpire", "expireat", "pexpireat"))


@by_namespace
@pytest.mark.parametrize("read,write", READS)
@pytest.mark.parametrize("how", ["alone", "pipelined", "multi"])
def test_sliding_reads_renew(small, read, write, how):
    behind, direct, conn, _ = small(SLIDING)
    oracle = Redis()
    with oracle, oracle.client() as plain:
        direct.cmd(*sent(write, "shop:product:")), plain.cmd(*sent(write))  # not through Keyweir, which would remember
        direct.pipeline([["PEXPIRE", k, 50000] for k in keys_of(direct)])
        want, got = HOW[how](plain, [sent(read)]), HOW[how](conn, [sent(read)])
        assert want == got, (read, want, got)
    wait_until(lambda: all(left > 95000 for left in pttls_of(direct).values()), 3, "a read renews, %s: %s" % (read, pttls_of(direct)))
    conn.pipeline([sent(read)] * 50)
    time.sleep(0.1)
    before = renewals(behind)
    for _ in range(20):
        assert not isinstance(conn.cmd(*sent(read)), RespError)
    assert renewals(behind) - before == 0, "it was renewed less than ttl/10 ago"


@by_namespace
@pytest.mark.parametrize("words", READS_OF_ITSELF)
def test_what_asks_about_the_key_does_not_renew(small, words):
    _, direct, conn, _ = small(SLIDING)
    direct.cmd("SET", "shop:product:k", "v", "PX", 50000)
    assert not isinstance(conn.cmd(*sent(words)), RespError)
    time.sleep(0.1)
    assert direct.cmd("PTTL", "shop:product:k") <= 50000


@by_namespace
def test_sliding_renews_once_in_a_tenth(small):
    behind, direct, conn, _ = small('ttl = "10s"\nttl_jitter = 0\nsliding = true')
    conn.cmd("SET", "product:k", "v")
    before, began = renewals(behind), time.monotonic()
    while time.monotonic() - began < 3.5:
        assert conn.cmd("GET", "product:k") == b"v"
        assert direct.cmd("PTTL", "shop:product:k") > 8500
        time.sleep(0.02)
    assert 2 <= renewals(behind) - before <= 4 * 2, "at most once in ttl/10, by each of two workers"


@by_namespace
def test_sliding_leaves_what_the_client_gave(small):
    """Absent keys are not made, those of other namespaces are left alone, and so are the client's own longer times."""
    behind, direct, conn, _ = small(SLIDING + '\n[namespace.other]\nttl = "50s"\nttl_jitter = 0')
    conn.cmd("SET", "other:k", "v")
    conn.cmd("SET", "product:long", "v", "EX", 5000)
    before = renewals(behind)
    assert conn.cmd("GET", "product:none") is None
    assert conn.cmd("GET", "other:k") == b"v"
    assert conn.cmd("GET", "product:long") == b"v"
    time.sleep(0.2)
    assert keys_of(direct) == {b"other:k", b"shop:product:long"}
    assert direct.cmd("TTL", "other:k") <= 50 and direct.cmd("TTL", "shop:product:long") > 4900
    assert renewals(behind) - before <= 2


@by_namespace
def test_sliding_sessions_die_when_nobody_reads(small):
    _, direct, conn, _ = small('ttl = "1s"\nttl_jitter = 0\nsliding = true')
    conn.cmd("SET", "product:k", "v"), conn.cmd("SET", "product:idle", "v")
    for _ in range(15):
        assert conn.cmd("GET", "product:k") == b"v"
        time.sleep(0.15)
    assert direct.cmd("EXISTS", "shop:product:idle") == 0
    time.sleep(1.3)
    assert conn.cmd("GET", "product:k") is None


# ---- scripts ----

@by_namespace
@pytest.mark.parametrize("how", ["EVAL", "EVALSHA", "FCALL", "multi"])
def test_scripts_of_several_keys(small, how):
    _, direct, conn, bound = small(OPTIONS)
    body = "redis.call('SET',KEYS[1],'v') redis.call('RPUSH',KEYS[2],'x') redis.call('SET',KEYS[3],'v','EX',500) return {KEYS[1]~='', #KEYS}"
    direct.cmd("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function(KEYS, ARGV) %s end)" % body)
    for client, before in ((conn, MATCH), (bound, "")):
        direct.cmd("FLUSHALL")
        keys = [3, before + "a", before + "b", before + "c"]
        if how == "EVALSHA":
            words = ["EVALSHA", client.cmd("SCRIPT", "LOAD", body), *keys]
        else:
            words = ["FCALL", "f", *keys] if how == "FCALL" else ["EVAL", body, *keys]
        reply = parse(transacted(client, words)) if how == "multi" else client.cmd(*words)
        assert reply == [1, 3], reply
        lefts = pttls_of(direct)
        assert set(lefts) == {b"shop:product:" + k for k in (b"a", b"b", b"c")}
        assert within_jitter(lefts[b"shop:product:a"]) and within_jitter(lefts[b"shop:product:b"])
        assert 490000 < lefts[b"shop:product:c"] <= 500000
        assert values_of(direct)[b"shop:product:a"] == ("string", b"v")


@by_namespace
def test_a_script_that_fails_half_way(small):
    """What it had written by then has its expiry all the same."""
    _, direct, conn, _ = small(OPTIONS)
    reply = conn.cmd("EVAL", "redis.call('SET',KEYS[1],'v') return redis.call('NOSUCH')", 1, "product:a")
    assert isinstance(reply, RespError)
    assert within_jitter(direct.cmd("PTTL", "shop:product:a"))


@by_namespace
def test_keys_outside_stay_without(small):
    _, direct, conn, _ = small(OPTIONS)
    conn.cmd("SET", "alien", "v"), conn.cmd("MSET", "alien2", 1, "product:1", 2)
    lefts = pttls_of(direct)
    assert (lefts[b"alien"], lefts[b"alien2"]) == (-1, -1) and within_jitter(lefts[b"shop:product:1"])


@by_namespace
def test_blocked_pops_and_pushes(small):
    """A key that a blocked client's command makes (BLMOVE) gets its expiry when it wakes."""
    behind, direct, conn, bound = small(OPTIONS)
    for client, other, before in ((conn, bound, MATCH), (bound, conn, "")):
        to = MATCH if before == "" else ""
        direct.cmd("FLUSHALL")
        client.send("BLMOVE", before + "src", before + "dst", "LEFT", "RIGHT", 5)
        wait_until(lambda: b"blocked_clients:1" in behind.cmd("INFO", "clients"), what="BLMOVE blocks")
        assert other.cmd("RPUSH", to + "src", "a", "b") == 2
        assert client.read() == b"a"
        wait_until(lambda: within_jitter(direct.cmd("PTTL", "shop:product:dst")), 2, "dst has its expiry")
        assert within_jitter(direct.cmd("PTTL", "shop:product:src"))
