# SPDX-License-Identifier: BSD-2-Clause
"""The same commands to a Redis directly and to another one through Keyweir: the replies must be the same bytes.

Commands come from the live server's own COMMAND, so a command without a case, and without a reason not to have one,
fails the test. SEED repeats a run (it is printed). DIFF_DIRECT=1 compares two direct Redis: it proves the test.

Behind Keyweir stands one Redis, a Sentinel set, a Cluster that keeps all keys in one slot, or a Cluster whose keys are
everywhere. What Redis Cluster forbids is asked of Keyweir alone, and its words are those of Redis Cluster: forbidden().
Or the names upstream are others than the client's: over a listener that is bound to a namespace, whose keys are all
behind its prefix, and over an ordinary one, with keys that are in the namespace.
"""
import contextlib
import os
import random

import pytest

from harness.cluster import Cluster, slot_of
from harness.examples import KEYS_IN_ERROR, KEYS_IN_REPLY, SCRIPT, keys_of
from harness.namespaces import MATCH, Bound, table_of
from harness.resp import encode, parse, reply_end
from harness.sentinel import SentinelSet
from harness.servers import Keyweir, Redis

SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 30)))
KEYS = ["str", "num", "list", "set", "hash", "zset", "stream", "none", "hll"]
POOL = ["1", "2", "a", "b", "-1", "0", "5.5", "str", "list", "zset", "match", "count", "get", "limit", "left", "withscores"]
PREPARE = [
    ["FLUSHALL"], ["SET", "str", "hello"], ["SET", "num", "10"], ["RPUSH", "list", "a", "b", "c", "1", "2"],
    ["SADD", "set", "a", "b", "1"], ["HSET", "hash", "a", "1", "b", "x"], ["ZADD", "zset", "1", "a", "2.5", "b", "3", "c"],
    ["XADD", "stream", "1-1", "f", "v"], ["XADD", "stream", "2-1", "f", "w"], ["XGROUP", "CREATE", "stream", "g", "0"],
    ["PFADD", "hll", "a", "b"], ["SET", "bits", "foobar"], ["GEOADD", "geo", "13.361389", "38.115556", "Palermo"],
]

# Not compared, each for a reason.
WITHOUT = {
    "shutdown": "ends the server", "sync": "refused on purpose", "psync": "refused on purpose",
    "replconf": "refused on purpose", "replicaof": "refused on purpose", "slaveof": "refused on purpose",
    "failover": "refused on purpose", "monitor": "speaks of the proxy: integration tests",
    "info": "speaks of the proxy", "client": "speaks of the proxy", "slowlog": "speaks of the proxy",
    "hello": "has the proxy's id: compared without it below", "auth": "speaks of the proxy", "acl": "users come later",
    "time": "differs by nature", "lastsave": "differs by nature", "randomkey": "random", "spop": "random",
    "srandmember": "random", "hrandfield": "random", "zrandmember": "random", "debug": "differs by nature",
    "memory": "differs by nature", "latency": "differs by nature", "migrate": "needs a third server",
    "save": "touches the disk", "bgsave": "touches the disk", "bgrewriteaof": "touches the disk",
    "module": "no module here", "pfselftest": "takes long", "pfdebug": "internal", "swapdb": "below",
    "quit": "below", "reset": "below", "restore-asking": "internal", "cluster": "the text names options by version",
    "subscribe": "below", "psubscribe": "below", "ssubscribe": "below", "unsubscribe": "below", "punsubscribe": "below",
    "sunsubscribe": "below", "multi": "below", "exec": "below", "discard": "below", "watch": "below", "unwatch": "below",
    "select": "below", "wait": "below", "eval": "below", "evalsha": "below", "eval_ro": "below", "evalsha_ro": "below",
    "expire": "below", "pexpire": "below", "expireat": "below", "pexpireat": "below", "setex": "below", "psetex": "below",
    "getex": "below", "set": "below", "restore": "below", "config": "below", "script": "below", "function": "below",
    "fcall": "below", "fcall_ro": "below", "blpop": "below", "brpop": "below", "blmove": "below", "brpoplpush": "below",
    "bzpopmin": "below", "bzpopmax": "below", "blmpop": "below", "bzmpop": "below", "xread": "below",
    "xreadgroup": "below", "xadd": "below", "xautoclaim": "below", "xclaim": "below", "xpending": "below",
    "xinfo": "below", "object": "below", "command": "below", "flushall": "below", "flushdb": "below", "lolwut": "below",
    "sort": "below", "sort_ro": "below", "publish": "below", "spublish": "below", "pubsub": "below", "move": "below",
    "dump": "below", "ttl": "below", "pttl": "below", "expiretime": "below", "pexpiretime": "below",
}

# Redis gives no order here.
UNORDERED = {"smembers", "sinter", "sunion", "sdiff", "keys", "hgetall", "hkeys", "hvals", "scan", "sscan", "hscan",
             "command", "config"}

FREE_SCRIPT = ("local r = redis.pcall(unpack(ARGV)) if type(r) == 'table' and r.err then return r end "
               "return cjson.encode({r})")
PATIENT = 'read_timeout = "10s"\n'
# In front of every key: for the Cluster of one slot; for the namespace, on an ordinary listener.
TAGS = {"one slot": "{t}", "namespace": MATCH}

# Refused on a bound listener by design: dangerous without a key, for it would concern others than the namespace.
REFUSED_WHEN_BOUND = {
    "config": "the whole server's", "swapdb": "other namespaces are in these databases too", "debug": "the whole server's",
    "role": "the whole server's", "nosuch": "where the keys of an unknown command are nobody knows",
    "client|kill": "clients of others", "client|unblock": "clients of others", "client|pause": "clients of others",
    "client|unpause": "clients of others", "client|list": "clients of others", "client|no-evict": "the whole server's",
    "function|flush": "functions of others", "function|dump": "functions of others",
    "function|restore": "functions of others", "function|stats": "scripts of others", "function|kill": "scripts of others",
    "script|kill": "scripts of others", "cluster|getkeysinslot": "keys of others", "cluster|countkeysinslot": "keys of others",
    "slowlog|get": "commands of others", "slowlog|len": "commands of others", "slowlog|reset": "commands of others",
}

# ---- what may differ ----

SPLIT = {"mget", "mset", "del", "unlink", "exists", "touch"}  # the only ones that a Cluster gets over several slots
CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
EXECABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
ONE_DATABASE = {"select", "move", "swapdb"}  # a Cluster has no database but 0
# A transaction or a script is on one node of a Cluster: what asks for the whole keyspace sees that node's part there.
OF_ONE_NODE = {"dbsize", "keys"}
# States of a connection to a node, which a client of Keyweir has not: an error when queued, in place of one in EXEC.
NODE_STATE = {"readonly", "readwrite", "asking"}
# With a replica and a Sentinel: they are seen in ROLE, counted by WAIT, and the Sentinel is subscribed at the master.
SEEN = {"role", "wait", "pubsub channels"}

BY_HAND = """
SET s1 v|SET s1 v EX 1000|SET s1 v NX|SET s1 v XX GET|SET s1 v KEEPTTL|SET s1 v EX -1|SET s1 v FOO|SET s1|TTL s1|GET s1
SETEX s2 1000 v|SETEX s2 0 v|PSETEX s2 1000000 v|GETEX s2 PERSIST|GETEX s2 EX 0|EXPIRE s2 1000|EXPIRE s2 1000 NX|TTL s2
EXPIREAT s2 99999999999|PEXPIREAT s2 99999999999999|EXPIRETIME s2|PEXPIRETIME s2|PERSIST s2|TTL s2|PTTL none|EXPIRE none 1
DUMP str|DUMP none|RESTORE copy 0 junk|OBJECT ENCODING str|OBJECT REFCOUNT list|OBJECT HELP|OBJECT FREQ str|OBJECT none x
SORT list|SORT list ALPHA DESC|SORT list BY nosort GET #|SORT list ALPHA STORE sorted|SORT_RO list ALPHA|SORT hash
EVAL return{1,2,{3,'x'},false} 0|EVAL return(redis.call('get',KEYS[1])) 1 str|EVAL return(redis.error_reply('E_x')) 0
EVAL return(redis.call('nosuch')) 0|EVAL syntax( 0|EVAL return(1) 2 a|EVAL return(1) x|EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
EVAL_RO return(redis.call('set','a','b')) 1 a|EVALSHA_RO x 0|SCRIPT LOAD return(1)|SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db|SCRIPT FLUSH|SCRIPT NOSUCH
EVAL redis.setresp(3);return(redis.call('hgetall',KEYS[1])) 1 hash|EVAL return{double=3.5} 0|EVAL return{map={a=1}} 0
FUNCTION LIST|FUNCTION FLUSH|FUNCTION DUMP|FUNCTION DELETE nolib|FUNCTION LOAD nolib|FCALL nofn 0|FCALL_RO nofn 0
BLPOP list 1|BRPOP none list 1|BLMOVE list list2 LEFT RIGHT 1|BRPOPLPUSH list list2 1|BZPOPMIN zset 1|BZPOPMAX zset 1
BLMPOP 1 1 list LEFT|BZMPOP 1 1 zset MIN|BLPOP none 0.01|BRPOP none 0.01|BZPOPMIN none 0.01|BLMPOP 0.01 1 none LEFT
BLPOP list x|BLPOP list -1|BLPOP str 1|BLPOP list|BZMPOP x 1 zset MIN|BLMOVE none list LEFT LEFT 0.01|BRPOPLPUSH none x 0.01
XADD stream 3-1 a b|XADD stream 1-0 a b|XADD stream MAXLEN 2 4-1 a b|XADD s 1-1 a|XREAD COUNT 1 STREAMS stream 0|XREAD BLOCK 10 STREAMS none 0
XREAD BLOCK x STREAMS stream 0|XREAD STREAMS stream|XREADGROUP GROUP g c COUNT 1 STREAMS stream >|XREADGROUP GROUP g c BLOCK 10 STREAMS stream >
XACK stream g 1-1|XREADGROUP GROUP nog c STREAMS stream >|XINFO HELP|XINFO GROUPS stream|XCLAIM stream nog c 0 1-1|XAUTOCLAIM stream nog c 0 0|XPENDING stream g|XPENDING stream nog|PEXPIRE str 1000000|PEXPIRE none 1
WAIT 0 10|WAIT x 1|COMMAND COUNT|COMMAND GETKEYS mset a 1 b 2|COMMAND INFO get nosuch|COMMAND LIST FILTERBY PATTERN xr*|COMMAND NOSUCH
CONFIG GET maxmemory|CONFIG GET hash-max-*|CONFIG SET maxmemory-samples 6|CONFIG SET nosuch 1|CONFIG RESETSTAT|CONFIG NOSUCH|CONFIG HELP
PUBLISH nobody hi|SPUBLISH nobody hi|PUBSUB CHANNELS|PUBSUB NUMSUB a b|PUBSUB NUMPAT|PUBSUB SHARDCHANNELS|PUBSUB SHARDNUMSUB a|PUBSUB HELP|PUBSUB X
SELECT 1|SET in1 x|SELECT 0|GET in1|MOVE str 1|SELECT 99|SELECT x|SELECT -1|SELECT 0|SWAPDB 0 1|SWAPDB 0 1|SWAPDB 0 99|DBSIZE
MULTI|SET t 1|INCR t|GET t|NOSUCH|EXEC|MULTI|SET t 1|INCR t|LPUSH t x|PING|EXEC|MULTI|DISCARD|EXEC|DISCARD|MULTI|MULTI|EXEC
WATCH str|MULTI|GET str|EXEC|WATCH str|SET str changed|MULTI|GET str|EXEC|WATCH str|UNWATCH|MULTI|PING|EXEC|WATCH|MULTI|WATCH x|EXEC
MULTI|SELECT 0|SET in0 y|EXEC|GET in0|MULTI|BLPOP none 0|XREAD BLOCK 0 STREAMS none 0|EXEC|UNWATCH|MULTI|GET|EXEC
PING|PING hi|PING a b|ECHO x|ECHO|TIME x|RESET|GET str|FLUSHDB ASYNC|FLUSHALL SYNC|FLUSHALL X|LOLWUT VERSION x|READONLY|ASKING|CLUSTER INFO
CLIENT|CLIENT NOSUCH|CLIENT GETNAME|CLIENT SETNAME me|CLIENT GETNAME|CLIENT SETNAME a b|CLIENT REPLY X|CLIENT KILL x|CLIENT KILL ID x
CLIENT NO-EVICT on|CLIENT NO-EVICT x|CLIENT UNBLOCK 99999|CLIENT PAUSE x|CLIENT LIST TYPE x|CLIENT CACHING yes|CLIENT TRACKING x|CLIENT ID x
CLIENT HELP|SLOWLOG HELP|SLOWLOG NOSUCH|SLOWLOG GET x|AUTH|AUTH a|AUTH default x|AUTH a b c|HELLO 9|HELLO x|NOSUCH a b c|nosuch
AUTH u p
""".strip()  # alone: in a pipeline Redis 8.0 may lose the reply of an AUTH that fails


def hand_written():
    return [[c.split(" ") for c in line.split("|")] for line in BY_HAND.split("\n")]


class Sides:
    """A Redis, and a Keyweir with something behind it."""

    def __init__(self, target, oracle, proxy):
        self.target, self.oracle, self.proxy = target, oracle, proxy
        self.clustered = target in ("one slot", "cluster", "near cluster")
        self.near = target in ("near", "near cluster")
        self.named = target in ("bound", "namespace")  # names upstream are others
        self.tag = TAGS.get(target, "")
        with oracle.client() as conn:
            self.table = {row[0].decode(): row for row in conn.cmd("COMMAND")}
        self.asker = oracle.client()

    def __iter__(self):
        return iter((self.oracle, self.proxy))

    def close(self):
        self.asker.close()

    # ---- keys ----

    def key_positions(self, command):
        """Where the keys stand. By the table; where that does not tell, Redis is asked about one argument at a time."""
        row = self.table.get(str(command[0]).lower())
        if row and row[9] and len(command) > 1:
            sub = "%s|%s" % (str(command[0]).lower(), str(command[1]).lower())
            row = next((r for r in row[9] if r[0].decode() == sub), row)
        if not row or (len(command) != row[1] if row[1] >= 0 else len(command) < -row[1]):
            return []
        if "movablekeys" in row[2]:
            return self.movable_keys(command)
        first, last, step = row[3:6]
        end = last + 1 if last >= 0 else len(command) + last + 1
        return list(range(first, end, step)) if first else []

    def movable_keys(self, command):
        probes = [["COMMAND", "GETKEYS", *command[:i], "a probe", *command[i + 1:]] for i in range(1, len(command))]
        replies = [parse(raw) for raw in self.asker.pipeline(probes)]
        return [i for i, r in enumerate(replies, 1) if isinstance(r, list) and b"a probe" in r]

    def slots(self, command):
        return {slot_of(command[i]) for i in self.key_positions(command)} if self.clustered else set()

    def shaped(self, command):
        """Every key behind the target's tag."""
        if not self.tag:
            return command
        keys = set(self.key_positions(command))
        return [self.tag + str(arg) if i in keys and not str(arg).startswith(self.tag) else arg for i, arg in enumerate(command)]

    def reads(self, command):
        row = self.table.get(str(command[0]).lower())
        return row and "readonly" in row[2]

    def refuses(self, command):
        names = str(command[0]).lower(), "|".join(str(w).lower() for w in command[:2])
        return self.target == "bound" and not REFUSED_WHEN_BOUND.keys().isdisjoint(names)

    def in_script(self, command):
        """An EVAL of a shaped command; None where no script can have it."""
        if not self.named:
            keys = [command[i] for i in self.key_positions(command)] if self.clustered else []
            return ["EVAL", FREE_SCRIPT, len(keys), *keys, *command]
        at = self.key_positions(command)
        # Scripts reach no other keys than those in KEYS, and what they reply nobody looks into.
        if not at or str(command[0]).lower() in KEYS_IN_REPLY | KEYS_IN_ERROR:
            return None
        return ["EVAL", SCRIPT, len(at), *(command[i] for i in at), *("<key>" if i in at else w for i, w in enumerate(command))]

    @staticmethod
    def words_of_cluster(name, command):
        if name in ONE_DATABASE and len(command) > 1 and command[1:] not in (["0"], ["x"]):
            return b"-ERR %s is not allowed in cluster mode\r\n" % name.upper().encode()
        if name in ("sort", "sort_ro") and "GET" in command:
            return b"-ERR GET option of SORT denied in Cluster mode.\r\n"
        return None

    def forbidden(self, commands):
        """For each command what Redis Cluster says where it forbids it, else None."""
        out, tx, refused = [], None, False  # tx: the slot of the transaction, as soon as a key says it
        for command in commands:
            name, slots = str(command[0]).lower(), self.slots(command)
            says = None
            if not self.clustered:
                pass
            elif name == "multi" and len(command) == 1 and tx is None:
                tx = set()
            elif name in ("exec", "discard", "reset") and len(command) == 1:
                if name == "exec" and tx is not None and refused:
                    says = EXECABORT
                tx, refused = None, False
            elif len(slots) > 1 and (tx is not None or name not in SPLIT) or tx and not slots <= tx:
                says, refused = CROSSSLOT, tx is not None
            elif tx is None or name != "select":
                says = self.words_of_cluster(name, command)
            if tx is not None and len(tx) == 0:
                tx = slots if len(slots) < 2 else set()
            out.append(says)
        return out


class Pair:
    """A connection to each side."""

    def __init__(self, sides, proto):
        self.sides = sides
        self.both = [side.client() for side in sides]
        if proto == 3:
            for conn in self.both:
                conn.hello(3)

    def close(self):
        for conn in self.both:
            conn.close()

    def send(self, commands, together=True, rng=None):
        """Replies of both sides, a list of raw bytes each."""
        commands = [self.sides.shaped(c) for c in commands]
        forbidden = self.sides.forbidden(commands)
        # Redis is not sent what a Cluster forbids; a transaction that ends so ends there without effect too.
        allowed = [["DISCARD"] if says == EXECABORT else c
                   for c, says in zip(commands, forbidden) if says in (None, EXECABORT)]
        direct = iter(self.exchange(self.both[0], allowed, together, rng))
        through = self.exchange(self.both[1], commands, together, rng)
        replies = [next(direct) if says in (None, EXECABORT) else says for says in forbidden]
        return [[says or r for r, says in zip(replies, forbidden)], through]

    @staticmethod
    def exchange(conn, commands, together, rng):
        if not together:
            return [conn.raw(*c) for c in commands]
        data = b"".join(encode(*c) for c in commands)
        at = 0
        while at < len(data):
            piece = rng.randrange(1, 200) if rng else len(data)
            conn.send_raw(data[at:at + piece])
            at += piece
        return [conn.read_raw() for _ in commands]


def canonical(value):
    if isinstance(value, dict):
        return ("map", sorted((repr(canonical(k)), repr(canonical(v))) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return ("list", sorted(repr(canonical(v)) for v in value))
    return value


def near_in_time(a, b):
    """TTLs of two servers that were asked one after the other."""
    return a[:1] == b[:1] == b":" and abs(int(a[1:]) - int(b[1:])) <= 2000


def same(target, command, a, b):
    if a == b:
        return True
    name = command[0].lower()
    if target == "sentinel" and not SEEN.isdisjoint((name, " ".join(map(str, command[:2])).lower())):
        return a[:1] == b[:1]
    if name in ("scan", "sscan", "hscan", "zscan") and b"0" not in (str(a).encode() for a in command[1:3]):
        return a[:4] == b[:4]  # where a cursor stands depends on each server's hash seed
    if name in UNORDERED:
        return canonical(parse(a)) == canonical(parse(b))
    if name in ("ttl", "pttl", "expiretime", "pexpiretime"):
        return near_in_time(a, b)
    return False


def compare(pair, commands, replies, where):
    a, b = replies
    wrong = ["%s %s\n  redis   %r\n  keyweir %r" % (where, c, x[:300], y[:300])
             for c, x, y in zip(commands, a, b) if not same(pair.sides.target, c, x, y)]
    assert not wrong, "%d differences, SEED=%d\n%s" % (len(wrong), SEED, "\n".join(wrong[:15]))


NEAR = "[namespace.default]\nnear_cache = true\n"  # all keys, under their own names


@contextlib.contextmanager
def standalone(config=""):
    with Redis() as behind:
        if os.environ.get("DIFF_DIRECT"):
            yield behind
        else:
            with Keyweir(behind, config=PATIENT + config) as proxy:
                yield proxy


@contextlib.contextmanager
def sentinel_set():
    with SentinelSet(replicas=1, sentinels=1) as group, group.keyweir(PATIENT) as proxy:
        yield proxy


@contextlib.contextmanager
def cluster(config=""):
    with Cluster(replicas=0) as group, group.keyweir(PATIENT + config) as proxy:
        yield proxy


class Behind:
    """A Keyweir over its bound listener."""

    def __init__(self, bound):
        self.client = bound.client


@contextlib.contextmanager
def in_namespace(is_bound):
    with Redis() as behind:
        if os.environ.get("DIFF_DIRECT"):
            yield behind
            return
        bound = Bound()
        with Keyweir(behind, config=PATIENT + table_of() + bound.table) as proxy:
            yield Behind(bound) if is_bound else proxy
            with behind.client() as direct:
                strangers = [k for k in keys_of(direct) if is_bound and not k.startswith(b"shop:product:")]
            assert not strangers, "keys outside of the namespace: %r" % strangers[:10]


TARGETS = {"standalone": standalone, "sentinel": sentinel_set, "one slot": cluster, "cluster": cluster,
           "bound": lambda: in_namespace(True), "namespace": lambda: in_namespace(False),
           "near": lambda: standalone(NEAR), "near cluster": lambda: cluster(NEAR)}


@pytest.fixture(scope="module", params=["standalone", "bound", "namespace", "near"] if os.environ.get("DIFF_DIRECT") else TARGETS)
def sides(request):
    with Redis() as oracle, TARGETS[request.param]() as proxy:
        sides = Sides(request.param, oracle, proxy)
        yield sides
        sides.close()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def pair(request, sides):
    pair = Pair(sides, request.param)
    pair.send(PREPARE)
    yield pair
    pair.close()


def generated(sides, rng):
    """For every command: too few arguments, and plausible ones on keys of every type."""
    for name, row in sorted(sides.table.items()):
        if name in WITHOUT or sides.refuses([name]):
            continue
        arity, subs = row[1], [s[0].decode().split("|")[1] for s in row[9]]
        heads = [[name, s] for s in subs] or [[name]]
        for head in heads:
            yield head
            for key in KEYS:
                for more in range(3):
                    n = max(abs(arity) - len(head) - 1, 0) + (more if arity < 0 else 0)
                    yield [*head, key, *(rng.choice(POOL) for _ in range(n))]
            yield [*head, *["x"] * (abs(arity) + 3)]


def test_every_command_is_covered(sides):
    names = {c[0].lower() for line in hand_written() for c in line}
    missing = [n for n, reason in WITHOUT.items() if reason == "below" and n not in names
               and n not in ("subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "quit")]
    assert not missing


def test_generated_single(sides, pair):
    rng = random.Random(SEED)
    for command in generated(sides, rng):
        compare(pair, [command], pair.send([command], together=False), "single")
        if sides.near and sides.reads(command):
            compare(pair, [command], pair.send([command], together=False), "from memory")


def test_generated_pipelined(sides, pair):
    rng = random.Random(SEED)
    commands = list(generated(sides, rng))
    rng.shuffle(commands)
    for at in range(0, len(commands), 100):
        batch = commands[at:at + 100]
        compare(pair, batch, pair.send(batch, rng=rng if at % 200 else None), "pipelined")


def transactions(sides, rng):
    """Tens of commands. For a Cluster most of them keep to one slot, for few of any ten do so by themselves."""
    commands = [c for c in generated(sides, rng) if not (sides.clustered and c[0] in NODE_STATE)]
    rng.shuffle(commands)
    commands = [sides.shaped(c) for c in commands[:3000]]
    if sides.target in ("cluster", "near cluster"):
        mixed, by_slot = commands[:300], {}
        for command in commands[300:]:
            slots = sides.slots(command)
            if len(slots) < 2:
                by_slot.setdefault(slots.pop() if slots else rng.choice([None, *by_slot]), []).append(command)
        commands = [c for slot in by_slot.values() for c in slot[:len(slot) // 10 * 10]] + mixed
    return [commands[at:at + 10] for at in range(0, len(commands), 10)]


def test_generated_in_transactions(sides, pair):
    rng = random.Random(SEED + 1)
    n_done = 0
    for i, commands in enumerate(transactions(sides, rng)):
        batch = [["MULTI"], *commands, ["EXEC"]]
        replies = pair.send(batch, together=i % 2 == 0)
        compare(pair, batch[:-1], [r[:-1] for r in replies], "multi")
        a, b = (parse(r[-1]) for r in replies)
        if not isinstance(a, list):
            assert a == b
            continue
        assert len(a) == len(b)
        n_done += 1
        for command, x, y in zip(commands, a, b):
            name = command[0].lower()
            if name in UNORDERED:
                x, y = canonical(x), canonical(y)
            if sides.target in ("cluster", "near cluster") and name in OF_ONE_NODE or sides.target == "sentinel" and name in SEEN:
                x, y = type(x), type(y)
            assert repr(x) == repr(y), (command, x, y, SEED)
    assert n_done >= 5, "nearly all transactions were refused"


def test_generated_in_scripts(sides, pair):
    rng = random.Random(SEED + 2)
    for command in list(generated(sides, rng))[::7]:
        if command[0].lower() in UNORDERED or sides.target == "sentinel" and command[0] in SEEN:
            continue
        if sides.clustered and command[0] in OF_ONE_NODE | NODE_STATE:
            continue
        full = sides.in_script(sides.shaped(command))
        if full:
            compare(pair, [full], pair.send([full], together=False), "eval")


@pytest.mark.parametrize("together", [False, True], ids=["single", "pipelined"])
@pytest.mark.parametrize("line", range(len(hand_written())))
def test_by_hand(pair, line, together):
    commands = [c for c in hand_written()[line] if not pair.sides.refuses(c)]
    if not commands:
        pytest.skip("refused by design")
    if any(c == ["RESET"] for c in commands):
        together = False
    compare(pair, commands, pair.send(commands, together=together), "by hand")


def test_subscriptions(pair):
    for command, n in ((["SUBSCRIBE", "a", "b", "a"], 3), (["PSUBSCRIBE", "c*"], 1), (["SSUBSCRIBE", "s"], 1),
                       (["GET", "str"], 1), (["PING", "x"], 1), (["UNSUBSCRIBE", "a", "nosuch"], 2), (["PUNSUBSCRIBE"], 1),
                       (["SUNSUBSCRIBE"], 1), (["UNSUBSCRIBE"], 1), (["UNSUBSCRIBE"], 1), (["SUNSUBSCRIBE"], 1)):
        replies = []
        for conn in pair.both:
            conn.send(*command)
            replies.append([conn.read_raw() for _ in range(n)])
        assert replies[0] == replies[1], command


def test_messages(sides, pair):
    for conn in pair.both:
        conn.send("SUBSCRIBE", "news")
        conn.send("PSUBSCRIBE", "n*")
        conn.read_raw(), conn.read_raw()
    counts = []
    for side in sides:
        with side.client() as other:
            counts.append(other.raw("PUBLISH", "news", "x" * 5000))
    assert counts[0] == counts[1]
    assert [pair.both[0].read_raw() for _ in range(2)] == [pair.both[1].read_raw() for _ in range(2)]


def test_select_in_a_transaction(sides, pair):
    commands = [["MULTI"], ["SELECT", "2"], ["SET", "in2", "y"], ["EXEC"], ["GET", "in2"], ["SELECT", "0"], ["GET", "in2"]]
    for together in (False, True):
        if not sides.clustered:
            compare(pair, commands, pair.send(commands, together=together), "select")
            continue
        refused = b"-ERR SELECT is not allowed in cluster mode\r\n"
        y = b"$1\r\ny\r\n"
        assert pair.exchange(pair.both[1], commands, together, None) == [
            b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"*2\r\n%s+OK\r\n" % refused, y, b"+OK\r\n", y]


INLINE = [b"PING\r\n", b"set k \"a b\\n\\x41\"\r\n", b"get k\n", b"  \r\n", b"get 'it\\'s'\r\n", b"*0\r\n", b"*-1\r\n"]


def test_inline(pair):
    for text in INLINE:
        for conn in pair.both:
            conn.send_raw(text + b"PING tail\r\n")
        replies = []
        for conn in pair.both:
            got = [conn.read_raw()]
            while not got[-1].endswith(b"tail\r\n"):
                got.append(conn.read_raw())
            replies.append(got)
        assert replies[0] == replies[1], text


def test_big_and_many(pair):
    rng = random.Random(SEED)
    big = bytes(rng.randrange(256) for _ in range(1000)) * 2000
    many = [x for i in range(10000) for x in ("k%d" % i, i)]
    commands = [["SET", "small", 1], ["SET", "big", big], ["GET", "small"], ["STRLEN", "big"], ["GET", "big"],
                ["MSET", *many], ["MGET", *many[::2]], ["DEL", *many[::2]], ["APPEND", "big", big], ["STRLEN", "big"]]
    compare(pair, commands, pair.send(commands), "big")
    compare(pair, commands, pair.send(commands, together=False), "big")


def test_reply_modes(pair):
    commands = [["CLIENT", "REPLY", "SKIP"], ["SET", "q", 1], ["GET", "q"], ["CLIENT", "REPLY", "OFF"], ["SET", "q", 2],
                ["PING"], ["CLIENT", "REPLY", "ON"], ["GET", "q"]]
    replies = []
    for conn in pair.both:
        conn.send_raw(b"".join(encode(*c) for c in commands))
        replies.append([conn.read_raw() for _ in range(3)])
    assert replies[0] == replies[1]


def test_debug_protocol(pair):
    if pair.sides.refuses(["DEBUG"]):
        pytest.skip("refused by design")
    for kind in ("string", "integer", "double", "null", "array", "set", "map", "attrib", "true", "false", "verbatim",
                 "bignum"):
        assert pair.both[0].raw("DEBUG", "PROTOCOL", kind) == pair.both[1].raw("DEBUG", "PROTOCOL", kind), kind


PATTERNS = ["*", "s*", "str", "[sl]*", "?um", "none*", "[^s]*", "\\str", "*t", ""]


def test_the_keyspace(sides, pair):
    """What Redis tells in no order."""
    if sides.clustered:
        pytest.skip("KEYS and SCAN over many nodes: integration tests")
    for conn in pair.both:
        conn.pipeline([["SET", sides.tag + "s%d" % i, "v"] for i in range(300)])
    for pattern in [sides.tag + p for p in PATTERNS] + ["*"]:
        for words in (["KEYS", pattern], ["SCAN", "0", "COUNT", "100000", "MATCH", pattern],
                      ["SCAN", "0", "COUNT", "100000", "MATCH", pattern, "TYPE", "list"]):
            a, b = (parse(conn.raw(*words)) for conn in pair.both)
            assert canonical(a) == canonical(b), (words, a, b)
    a, b = pair.both
    assert a.raw("DBSIZE") == b.raw("DBSIZE")
    assert {b.cmd("RANDOMKEY") for _ in range(50)} <= set(a.cmd("KEYS", "*"))
    seen, cursor = [], b"0"
    while seen == [] or cursor != b"0":
        cursor, some = b.cmd("SCAN", cursor, "COUNT", "7")
        seen += some
    assert set(seen) == set(a.cmd("KEYS", "*"))
    assert [c.raw("FLUSHDB") for c in pair.both] == [b"+OK\r\n"] * 2
    assert [c.raw("RANDOMKEY") for c in pair.both] == [a.raw("GET", "none")] * 2
    assert [c.raw("DBSIZE") for c in pair.both] == [b":0\r\n"] * 2


def test_hello_has_the_same_shape(sides):
    shapes = []
    for side in sides:
        with side.client() as conn:
            reply = conn.hello(3)
            # Modules are the server's, and HELLO speaks of the proxy.
            shapes.append({k: "any" if k in (b"id", b"modules") else v for k, v in reply.items()})
    assert shapes[0] == shapes[1]


def test_raw_reader_sees_the_end(sides):
    with sides.proxy.client() as conn:
        raw = conn.raw("PING")
        assert reply_end(raw) == len(raw)
