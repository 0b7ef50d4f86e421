# SPDX-License-Identifier: BSD-2-Clause
"""[token_blacklist]: the TOKEN commands, plain keys on the same list, its mirror in memory, and what is said when nobody
knows."""
import base64
import json
import re
import subprocess
import time

import pytest

from harness.cluster import Cluster, slot_of
from harness.resp import Conn, RespError, encode
from harness.sentinel import SentinelSet
from harness.servers import FACTOR, KEYWEIR, calls_of, free_port, wait_until

SECRET = "a secret that nobody knows"
BASE = '[token_blacklist]\nnamespace = "token:blacklist"\nsecret = "%s"\n' % SECRET
PLAIN = '[token_blacklist]\nnamespace = "token:blacklist"\nhash_tokens = false\n'
OFF = "mirror = false\n"
P = "token:blacklist:"


def pairs(flat):
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2]))


def tokens(conn):
    return pairs(conn.cmd("KEYWEIR", "TOKENS"))


def held(keyweir):
    """Waits for the mirror."""
    with keyweir.client() as conn:
        wait_until(lambda: tokens(conn)[b"mirror"] == b"held", what="the list is in memory")
    return keyweir


def settled(conn):
    """Waits until nothing is in doubt."""
    wait_until(lambda: tokens(conn)[b"mirror"] == b"held" and tokens(conn)[b"in_doubt"] == 0, what="no doubts")


def jwt(claims, header=None):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    return "%s.%s.%s" % (part(header or {"alg": "HS256", "typ": "JWT"}), part(claims), "c2lnbmF0dXJl")


@pytest.fixture
def upstream(fresh_redis):
    return fresh_redis()


@pytest.fixture(params=["hashed", "plain", "hashed, no mirror", "plain, no mirror"])
def service(request, upstream, fresh_keyweir):
    """A connection to Keyweir, with the list as the parameter says; .redis is Redis itself."""
    config = (BASE if request.param.startswith("hashed") else PLAIN) + (OFF if "no mirror" in request.param else "")
    keyweir = fresh_keyweir(upstream, config)
    if "no mirror" not in request.param:
        held(keyweir)
    with keyweir.client() as conn:
        conn.redis, conn.keyweir, conn.hashed = upstream, keyweir, request.param.startswith("hashed")
        conn.mirrored = "no mirror" not in request.param
        yield conn


# ---- the commands ----

def test_revoke_check_restore_count(service):
    c = service
    assert c.cmd("TOKEN.COUNT") == 0
    assert c.cmd("TOKEN.CHECK", "abc") == 0
    assert c.cmd("TOKEN.REVOKE", "abc") == "OK"
    assert c.cmd("TOKEN.CHECK", "abc") == 1
    assert c.cmd("TOKEN.CHECK", "abc", "def", "abc") == [1, 0, 1]
    assert c.cmd("TOKEN.COUNT") == 1
    ms = c.redis.cmd("PTTL", c.redis.cmd("KEYS", "*")[0])
    assert 86390000 < ms <= 86400000  # ttl
    assert c.cmd("TOKEN.RESTORE", "abc") == 1
    assert c.cmd("TOKEN.RESTORE", "abc") == 0
    assert c.cmd("TOKEN.CHECK", "abc") == 0
    assert c.cmd("TOKEN.CHECK", "abc", "def") == [0, 0]
    assert c.cmd("TOKEN.COUNT") == 0
    assert c.redis.cmd("DBSIZE") == 0


def test_times(service):
    c = service
    now = int(time.time())
    for args, low, high in (("EX 100", 99000, 100000), ("ex 7", 6000, 7000), ("EXAT %d" % (now + 500), 498000, 500000)):
        assert c.cmd("TOKEN.REVOKE", args, *args.split()) == "OK"
        key, = c.redis.cmd("KEYS", "*")
        assert low <= c.redis.cmd("PTTL", key) <= high
        assert c.cmd("TOKEN.CHECK", args) == 1
        c.redis.cmd("FLUSHALL")
    assert c.cmd("TOKEN.REVOKE", "past", "EXAT", str(now - 5)) == "OK"  # nothing is left to be revoked
    assert c.redis.cmd("DBSIZE") == 0
    assert c.cmd("TOKEN.REVOKE", "short", "EX", "1") == "OK"
    assert c.cmd("TOKEN.CHECK", "short") == 1
    time.sleep(1.2)
    assert c.cmd("TOKEN.CHECK", "short") == 0


@pytest.mark.parametrize("args, error", [
    (("t", "EX"), "ERR syntax error"), (("t", "PX", "5"), "ERR syntax error"), (("t", "EX", "5", "NX"), "ERR syntax error"),
    (("t", "EX", "x"), "ERR value is not an integer or out of range"), (("t", "EX", "1.5"), "ERR value is not an integer or out of range"),
    (("t", "EX", "0"), "ERR invalid expire time in 'token.revoke' command"),
    (("t", "EX", "-1"), "ERR invalid expire time in 'token.revoke' command"),
    (("t", "EXAT", "0"), "ERR invalid expire time in 'token.revoke' command"),
    (("t", "EX", "9223372036854775807"), "ERR invalid expire time in 'token.revoke' command"),
    ((), "ERR wrong number of arguments for 'token.revoke' command"), (("",), "ERR the token is empty"),
])
def test_what_is_wrong_with_it(service, args, error):
    reply = service.cmd("TOKEN.REVOKE", *args)
    assert isinstance(reply, RespError) and reply == error
    assert service.redis.cmd("DBSIZE") == 0


def test_other_mistakes(service):
    for args in (("TOKEN.CHECK",), ("TOKEN.RESTORE",), ("TOKEN.RESTORE", "a", "b"), ("TOKEN.COUNT", "a")):
        assert service.cmd(*args) == "ERR wrong number of arguments for '%s' command" % args[0].lower()
    assert service.cmd("TOKEN.CHECK", "") == service.cmd("TOKEN.CHECK", "a", "") == "ERR the token is empty"
    assert service.cmd("TOKEN.RESTORE", "") == "ERR the token is empty"
    for name in ("TOKEN.CHECK", "TOKEN.REVOKE", "TOKEN.RESTORE"):
        assert service.cmd("MULTI") == "OK"
        assert service.cmd(name, "t") == "ERR Command not allowed inside a transaction"
        assert service.cmd("EXEC").startswith("EXECABORT")


def test_without_a_list(keyweir):
    with keyweir.client() as c:
        for args in (("TOKEN.CHECK", "t"), ("TOKEN.REVOKE", "t"), ("TOKEN.RESTORE", "t"), ("TOKEN.COUNT",)):
            assert c.cmd(*args) == "ERR there is no token blacklist"
        assert c.cmd("TOKEN.CHECK") == "ERR wrong number of arguments for 'token.check' command"
        assert tokens(c) == {}
        assert c.cmd("SET", P + "t", "1") == "OK" and c.cmd("EXISTS", P + "t") == 1  # keys as others
        assert c.cmd("DEL", P + "t") == 1


def test_revoking_again_never_shortens(service):
    c = service
    assert c.cmd("TOKEN.REVOKE", "t", "EX", "1000") == "OK"
    assert c.cmd("TOKEN.REVOKE", "t", "EX", "10") == "OK"
    key, = c.redis.cmd("KEYS", "*")
    assert c.redis.cmd("TTL", key) > 900
    assert c.cmd("TOKEN.REVOKE", "t", "EX", "5000") == "OK"
    assert c.redis.cmd("TTL", key) > 4900
    c.redis.cmd("PERSIST", key)
    assert c.cmd("TOKEN.REVOKE", "t", "EX", "10") == "OK"
    assert c.redis.cmd("TTL", key) == -1


def test_for_ever(upstream, fresh_keyweir):
    with fresh_keyweir(upstream, BASE + "ttl = 0\n").client() as c:
        assert c.cmd("TOKEN.REVOKE", "t", "EX", "10") == "OK"
        assert c.cmd("TOKEN.REVOKE", "t") == "OK"
        assert upstream.cmd("TTL", upstream.cmd("KEYS", "*")[0]) == -1


def test_in_resp3_inline_and_without_replies(service):
    with service.keyweir.client(proto=3) as c:
        assert c.cmd("TOKEN.REVOKE", "t") == "OK"
        assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("TOKEN.CHECK", "t", "u") == [1, 0]
        assert c.cmd("GET", P + "u") is None and c.cmd("GET", P + "t") == b"1"
        c.send_raw(b"TOKEN.CHECK t\r\ntoken.check u\r\n")
        assert c.read() == 1 and c.read() == 0
        c.send("CLIENT", "REPLY", "SKIP")
        c.send("TOKEN.CHECK", "t")
        assert c.cmd("TOKEN.CHECK", "u") == 0


def test_large_tokens(service):
    large = "x" * 300000
    assert service.cmd("TOKEN.CHECK", large) == 0
    assert service.cmd("TOKEN.REVOKE", large) == "OK"
    assert service.cmd("TOKEN.CHECK", large) == 1
    assert service.cmd("TOKEN.CHECK", large[1:]) == 0
    assert service.cmd("EXISTS", P + large) == 1
    many = ["t%d" % i for i in range(3000)]
    service.cmd("TOKEN.REVOKE", "t7")
    assert service.cmd("TOKEN.CHECK", *many) == [int(i == 7) for i in range(3000)]


# ---- plain keys ----

def test_plain_keys_are_the_same_list(service):
    c = service
    assert c.cmd("SET", P + "a", "1", "EX", "100") == "OK"
    assert c.cmd("TOKEN.CHECK", "a") == 1
    assert c.cmd("SETEX", P + "b", "100", "revoked") == "OK"
    assert c.cmd("EXISTS", P + "b") == 1 and c.cmd("GET", P + "b") == b"revoked"
    assert c.cmd("TOKEN.REVOKE", "c") == "OK"
    assert c.cmd("EXISTS", P + "c") == 1 and c.cmd("GET", P + "c") == b"1"
    assert c.cmd("GET", P + "none") is None and c.cmd("EXISTS", P + "none") == 0
    assert 95 < c.cmd("TTL", P + "a") <= 100
    assert c.cmd("TTL", P + "none") == -2
    assert c.cmd("EXISTS", P + "a", P + "b", P + "none", P + "a") == 3
    assert c.cmd("MGET", P + "a", P + "none", P + "b") == [b"1", None, b"revoked"]
    assert c.cmd("DEL", P + "a", P + "b") == 2
    assert c.cmd("TOKEN.CHECK", "a", "b", "c") == [0, 0, 1]
    assert c.cmd("SET", P + "d", "x") == "OK"
    assert 86390 < c.cmd("TTL", P + "d") <= 86400
    assert c.cmd("EXPIRE", P + "d", "50") == 1
    assert c.cmd("GETDEL", P + "d") == b"x" and c.cmd("EXISTS", P + "d") == 0
    assert c.cmd("SETNX", P + "e", "1") == 1 and c.cmd("SETNX", P + "e", "2") == 0
    assert c.cmd("UNLINK", P + "e") == 1


def test_what_redis_sees(service):
    c = service
    c.cmd("SET", P + "my-own-token", "1")
    c.cmd("TOKEN.REVOKE", "my-other-token")
    names = sorted(c.redis.cmd("KEYS", "*"))
    assert all(name.startswith(P.encode()) for name in names) and len(names) == 2
    if c.hashed:
        assert all(re.fullmatch(b"token:blacklist:[0-9a-f]{36}", name) for name in names)
    else:
        assert names == [b"token:blacklist:my-other-token", b"token:blacklist:my-own-token"]


def test_pipelines_keep_their_order(service):
    c = service
    script = []
    for i in range(200):
        token = "p%d" % (i % 7)
        script += [("EXISTS", P + token), ("SET", P + token, "v%d" % i), ("GET", P + token), ("TOKEN.CHECK", token),
                   ("DEL", P + token), ("TOKEN.CHECK", token), ("GET", P + token)]
    c.send_raw(b"".join(encode(*command) for command in script))
    for i in range(200):
        assert [c.read() for _ in range(7)] == [0, "OK", b"v%d" % i, 1, 1, 0, None], i


def test_runs_of_checks(service):
    c = service
    for i in range(0, 100, 3):
        c.cmd("TOKEN.REVOKE", "r%d" % i)
    if c.mirrored:
        settled(c)
    for name in ("TOKEN.CHECK %s", "EXISTS " + P + "%s", "GET " + P + "%s"):
        commands = [(name % ("r%d" % (i % 100))).split() for i in range(1000)]
        c.send_raw(b"".join(encode(*command) for command in commands))
        for i in range(1000):
            revoked = i % 100 % 3 == 0
            assert c.read() == ((b"1" if revoked else None) if name[0] == "G" else int(revoked)), (name, i)


def test_transactions(service):
    c = service
    assert c.cmd("MULTI") == "OK"
    for args in (("SET", P + "m", "1", "EX", "60"), ("EXISTS", P + "m"), ("GET", P + "m"), ("DEL", P + "n")):
        assert c.cmd(*args) == "QUEUED"
    assert c.cmd("EXEC") == ["OK", 1, b"1", 0]
    assert c.cmd("TOKEN.CHECK", "m") == 1
    c.send_raw(encode("MULTI") + encode("DEL", P + "m") + encode("EXEC") + encode("TOKEN.CHECK", "m"))
    assert [c.read() for _ in range(4)] == ["OK", "QUEUED", [1], 0]
    assert c.cmd("MULTI") == "OK" and c.cmd("SET", P + "x", "1") == "QUEUED" and c.cmd("DISCARD") == "OK"
    assert c.cmd("TOKEN.CHECK", "x") == 0
    assert c.cmd("EVAL", "return redis.call('SET',KEYS[1],'1')", 1, P + "s") == "OK"
    assert c.cmd("TOKEN.CHECK", "s") == 1
    assert c.cmd("WATCH", P + "w") == "OK"
    c.cmd("SET", P + "w", "1")
    assert c.cmd("MULTI") == "OK" and c.cmd("PING") == "QUEUED" and c.cmd("EXEC") is None
    assert c.cmd("TOKEN.CHECK", "w") == 1


def test_names_cant_be_listed(service):
    c = service
    c.cmd("TOKEN.REVOKE", "secret-token")
    c.cmd("SET", "other", "1")
    if c.hashed:
        assert c.cmd("KEYS", P + "*") == "NOPERM the names of the keys of this namespace are hashed"
        assert c.cmd("KEYS", "*") == [b"other"]
        assert c.cmd("SCAN", "0")[1] == [b"other"]
    else:
        assert c.cmd("KEYS", P + "*") == [b"token:blacklist:secret-token"]


def test_keys_of_other_kinds(service):
    """A hash with why and by whom, say: there is something, so it is revoked."""
    c = service
    assert c.cmd("HSET", P + "h", "by", "root") == 1
    if c.mirrored:
        settled(c)
    assert c.cmd("TOKEN.CHECK", "h") == 1 and c.cmd("TOKEN.CHECK", "h", "i") == [1, 0] and c.cmd("EXISTS", P + "h") == 1
    assert c.cmd("GET", P + "h").startswith("WRONGTYPE")
    assert c.cmd("TOKEN.RESTORE", "h") == 1


def test_other_databases(service):
    """TOKEN commands speak of the list, whatever the client has selected; keys of another database are other keys."""
    c = service
    assert c.cmd("SELECT", "3") == "OK"
    assert c.cmd("TOKEN.REVOKE", "t") == "OK"
    assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("TOKEN.CHECK", "t", "u", "t") == [1, 0, 1]
    assert c.cmd("EXISTS", P + "t") == 0 and c.cmd("GET", P + "t") is None
    assert c.cmd("SET", P + "three", "1") == "OK" and c.cmd("EXISTS", P + "three") == 1
    assert c.cmd("TOKEN.CHECK", "three") == 0
    assert c.cmd("DBSIZE") == 1
    assert c.cmd("SELECT", "0") == "OK"
    assert c.cmd("EXISTS", P + "t") == 1 and c.cmd("EXISTS", P + "three") == 0
    c.cmd("SELECT", "3")
    assert c.cmd("TOKEN.RESTORE", "t") == 1 and c.cmd("TOKEN.RESTORE", "t") == 0


def test_the_database_of_the_url(upstream, fresh_keyweir):
    keyweir = fresh_keyweir(upstream.url[:-1] + "5", BASE)
    with held(keyweir).client() as c:
        c.cmd("TOKEN.REVOKE", "t")
        settled(c)
        assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("TOKEN.COUNT") == 1
        with upstream.client() as direct:
            direct.cmd("SELECT", "5")
            key, = direct.cmd("KEYS", "*")
            direct.cmd("DEL", key)
            wait_until(lambda: c.cmd("TOKEN.CHECK", "t") == 0)
            direct.cmd("SELECT", "0")
            direct.cmd("SET", key, "1")
        time.sleep(0.1)
        assert c.cmd("TOKEN.CHECK", "t") == 0


def test_several_prefixes_are_one_list(upstream, fresh_keyweir):
    for config in (BASE, PLAIN):
        config = config.replace('"token:blacklist"', '["token:blacklist", "blacklist:token", "revoked/"]')
        with held(fresh_keyweir(upstream, config)).client() as c:
            assert c.cmd("SET", "blacklist:token:a", "1") == "OK"
            assert c.cmd("SET", "revoked/b", "x") == "OK"
            assert c.cmd("TOKEN.CHECK", "a", "b", "c") == [1, 1, 0]
            settled(c)
            for prefix in (P, "blacklist:token:", "revoked/"):
                assert c.cmd("EXISTS", prefix + "a") == 1 and c.cmd("GET", prefix + "b") == b"x"
                assert c.cmd("EXISTS", prefix + "c") == 0
            assert all(key.startswith(P.encode()) for key in upstream.cmd("KEYS", "*"))
            assert c.cmd("DEL", P + "a", "blacklist:token:b") == 2
            assert c.cmd("TOKEN.CHECK", "a", "b") == [0, 0]


def test_beside_namespaces(upstream, fresh_keyweir):
    other = free_port()
    config = BASE + ('[namespace.product]\nprefix = "shop:"\nttl = "1h"\nnear_cache = true\n[namespace.t]\nmatch = "token:"\n'
                     'prefix = "t:"\n[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "product"\n' % other)
    with held(fresh_keyweir(upstream, config)).client() as c, Conn(port=other) as bound:
        c.cmd("SET", P + "a", "1")
        c.cmd("SET", "token:x", "1")
        c.cmd("SET", "product:1", "1")
        assert c.cmd("TOKEN.CHECK", "a") == 1 and c.cmd("GET", "product:1") == b"1" and c.cmd("GET", "token:x") == b"1"
        assert sorted(key[:6] for key in upstream.cmd("KEYS", "*")) == [b"shop:1", b"t:x", b"token:"]
        for args in (("TOKEN.CHECK", "a"), ("TOKEN.REVOKE", "a"), ("TOKEN.RESTORE", "a"), ("TOKEN.COUNT",)):
            assert bound.cmd(*args) == "NOPERM this command reaches beyond the namespace"
        assert bound.cmd("GET", "1") == b"1" and bound.cmd("EXISTS", P + "a") == 0
        rows = {row[b"name"]: row for row in map(pairs, c.cmd("KEYWEIR", "NAMESPACES"))}
        assert rows[b"token_blacklist"][b"sets"] == 1


def test_on_another_upstream(fresh_redis, fresh_keyweir):
    main, sessions = fresh_redis(), fresh_redis()
    config = BASE + 'upstream = "s"\n[upstream.s]\nurl = "%s"\n' % sessions.url
    with held(fresh_keyweir(main, config)).client() as c:
        c.cmd("SELECT", "2")  # of main
        assert c.cmd("TOKEN.REVOKE", "t") == "OK"
        assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("EXISTS", P + "t") == 1 and c.cmd("TOKEN.CHECK", "t", "u") == [1, 0]
        settled(c)
        assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("EXISTS", P + "t") == 1 and c.cmd("TOKEN.COUNT") == 1
        assert main.cmd("DBSIZE") == 0 and sessions.cmd("DBSIZE") == 1


# ---- JWTs ----

def test_a_jwt_ends_by_itself(service):
    c = service
    now = int(time.time())
    token = jwt({"exp": now + 1000})
    assert c.cmd("TOKEN.REVOKE", token) == "OK"
    key, = c.redis.cmd("KEYS", "*")
    assert 1055 <= c.redis.cmd("TTL", key) <= 1060  # and leeway
    assert c.cmd("TOKEN.CHECK", token) == 1
    assert c.cmd("TOKEN.REVOKE", token, "EX", "5000") == "OK"  # who says how long is right
    assert c.redis.cmd("TTL", key) > 4900
    c.redis.cmd("FLUSHALL")
    for dead in (jwt({"exp": now - 61}), jwt({"exp": 0}), jwt({"exp": -5.5})):
        assert c.cmd("TOKEN.REVOKE", dead) == "OK"
    assert c.redis.cmd("DBSIZE") == 0
    assert c.cmd("TOKEN.REVOKE", jwt({"exp": now - 30})) == "OK"  # somebody may still take it
    assert 20 < c.redis.cmd("TTL", c.redis.cmd("KEYS", "*")[0]) <= 30
    c.redis.cmd("FLUSHALL")
    for odd in (jwt({"exp": "soon"}), jwt({}), "a.b.c", jwt([1])):
        assert c.cmd("TOKEN.REVOKE", odd) == "OK"
        assert c.redis.cmd("TTL", c.redis.cmd("KEYS", "*")[0]) > 86390
        assert c.cmd("TOKEN.CHECK", odd) == 1
        c.redis.cmd("FLUSHALL")


@pytest.mark.parametrize("config", [BASE, PLAIN], ids=["hashed", "plain"])
def test_by_jti(upstream, fresh_keyweir, config):
    with held(fresh_keyweir(upstream, config + 'by = "jti"\n')).client() as c:
        now = int(time.time())
        token, again = jwt({"jti": "id-1", "exp": now + 900, "n": 1}), jwt({"jti": "id-1", "exp": now + 5})
        assert c.cmd("TOKEN.REVOKE", token) == "OK"
        assert c.cmd("TOKEN.CHECK", token) == c.cmd("TOKEN.CHECK", again) == c.cmd("TOKEN.CHECK", "id-1") == 1
        assert c.cmd("EXISTS", P + "id-1") == 1 and c.cmd("EXISTS", P + token) == 0
        if config == PLAIN:
            assert upstream.cmd("KEYS", "*") == [b"token:blacklist:id-1"]
        # Somebody forges a token with this jti that ends soon, and has that revoked.
        assert c.cmd("TOKEN.REVOKE", again) == "OK"
        assert upstream.cmd("TTL", upstream.cmd("KEYS", "*")[0]) > 900
        # The application itself, as it always did.
        assert c.cmd("SET", P + "id-2", "1", "EX", "60") == "OK"
        settled(c)
        assert c.cmd("TOKEN.CHECK", jwt({"jti": "id-2"})) == 1 and c.cmd("TOKEN.CHECK", jwt({"jti": "id-3"})) == 0
        assert c.cmd("TOKEN.RESTORE", jwt({"jti": "id-2", "exp": 5})) == 1
        without = jwt({"exp": now + 900})
        assert c.cmd("TOKEN.REVOKE", without) == "OK" and c.cmd("EXISTS", P + without) == 1


# ---- those of the configuration ----

def test_static_tokens(upstream, fresh_keyweir, tmp_path):
    path = tmp_path / "revoked"
    path.write_text("# lost at the fair\nfrom-the-file\n\n")
    config = BASE + 'tokens = ["static-one"]\nfile = "%s"\n' % path
    for more in ("", OFF):
        keyweir = fresh_keyweir(upstream, config + more)
        with keyweir.client() as c:
            if not more:
                held(keyweir)
            for token in ("static-one", "from-the-file"):
                assert c.cmd("TOKEN.CHECK", token) == 1 and c.cmd("EXISTS", P + token) == 1
                assert c.cmd("GET", P + token) == b"1" and c.cmd("TOKEN.CHECK", token, "x") == [1, 0]
                assert c.cmd("TOKEN.RESTORE", token) == 0 and c.cmd("TOKEN.CHECK", token) == 1
            assert c.cmd("TOKEN.CHECK", "# lost at the fair") == 0
            assert c.cmd("TOKEN.COUNT") == 0 and tokens(c)[b"static"] == 2
            # Also while something else keeps what the mirror says from counting.
            asked = [encode("TOKEN.CHECK", "static-one"), encode("TOKEN.CHECK", "x", "static-one"),
                     encode("EXISTS", P + "static-one"), encode("GET", P + "static-one")]
            for before in (("DEL", P + "y"), ("EVAL", "return 1", "0"), ("WATCH", "w"), ("UNWATCH",), ("CLIENT", "TRACKING", "ON")):
                c.send_raw(encode(*before) + b"".join(asked))
                assert not isinstance(c.read(), RespError)
                assert [c.read() for _ in asked] == [1, [0, 1], 1, b"1"], before
                c.send_raw(b"".join(asked * 2))
                assert [c.read() for _ in asked * 2] == [1, [0, 1], 1, b"1"] * 2, before
    # Read again at HUP; what is in memory stays.
    c = keyweir.client()
    path.write_text("another\n")
    keyweir.reload()
    wait_until(lambda: c.cmd("TOKEN.CHECK", "another") == 1)
    assert c.cmd("TOKEN.CHECK", "from-the-file") == 0 and c.cmd("TOKEN.CHECK", "static-one") == 1
    # A file that is gone changes nothing.
    path.unlink()
    keyweir.reload()
    assert "token_blacklist.file" in keyweir.log() and c.cmd("TOKEN.CHECK", "another") == 1
    c.close()


def test_a_reload_keeps_the_mirror(upstream, fresh_keyweir):
    keyweir = held(fresh_keyweir(upstream, BASE))
    with keyweir.client() as c:
        c.cmd("TOKEN.REVOKE", "t")
        settled(c)
        keyweir.reload(BASE + 'tokens = ["u"]\n')
        wait_until(lambda: c.cmd("TOKEN.CHECK", "u") == 1)
        assert tokens(c)[b"mirror"] == b"held" and tokens(c)[b"loads"] == 1 and tokens(c)[b"losses"] == 0
        before = calls_of(upstream, "exists")
        assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("TOKEN.CHECK", "v") == 0
        assert calls_of(upstream, "exists") == before
        # With another secret nothing is what it was.
        keyweir.reload(BASE.replace(SECRET, "another secret of some length"))
        wait_until(lambda: c.cmd("TOKEN.CHECK", "t") == 0)
        held(keyweir)
        assert c.cmd("TOKEN.CHECK", "t") == 0 and c.cmd("TOKEN.COUNT") == 0  # it is another's
        # And without a list.
        keyweir.reload("")
        wait_until(lambda: c.cmd("TOKEN.CHECK", "t") == "ERR there is no token blacklist")
        keyweir.reload(BASE)
        wait_until(lambda: c.cmd("TOKEN.CHECK", "t") == 1)


# ---- the mirror ----

def test_checks_cost_no_round_trip(upstream, fresh_keyweir):
    for config in (BASE, PLAIN):
        upstream.cmd("FLUSHALL")
        with held(fresh_keyweir(upstream, config)).client() as c:
            c.cmd("TOKEN.REVOKE", "t")
            settled(c)
            before = [calls_of(upstream, name) for name in ("exists", "get", "eval")]
            for _ in range(50):
                assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("TOKEN.CHECK", "u") == 0
                assert c.cmd("EXISTS", P + "t") == 1 and c.cmd("EXISTS", P + "u") == 0
                assert c.cmd("GET", P + "t") == b"1" and c.cmd("GET", P + "u") is None
            assert [calls_of(upstream, name) for name in ("exists", "get", "eval")] == before
            assert tokens(c)[b"checks"] >= 300


def test_what_was_there_before(upstream, fresh_keyweir):
    """More than one step of SCAN, among others, with all kinds of times and values."""
    with upstream.client() as direct:
        for i in range(5000):
            direct.send("SET", P + "old%d" % i, "1" if i % 2 else "v%d" % (i % 50), *(["EX", "1000"] if i % 3 else []))
            direct.send("SET", "other%d" % i, "x")
        direct.send("RPUSH", P + "list", "x")
        for _ in range(10001):
            direct.read()
    keyweir = held(fresh_keyweir(upstream, PLAIN))
    assert "5001 tokens are in memory" in keyweir.log()
    before = calls_of(upstream, "exists")
    with keyweir.client() as c:
        assert tokens(c)[b"tokens"] == 5001 and c.cmd("TOKEN.COUNT") == 5001
        for i in range(0, 5000, 7):
            assert c.cmd("TOKEN.CHECK", "old%d" % i) == 1 and c.cmd("TOKEN.CHECK", "other%d" % i) == 0
            assert c.cmd("GET", P + "old%d" % i) == (b"1" if i % 2 else b"v%d" % (i % 50))
        assert c.cmd("TOKEN.CHECK", "list") == 1
        assert calls_of(upstream, "exists") == before


@pytest.mark.parametrize("config", [BASE, PLAIN], ids=["hashed", "plain"])
def test_another_keyweir_and_redis_itself(upstream, fresh_keyweir, config):
    """A revocation is refused elsewhere within 50 ms."""
    one, two = held(fresh_keyweir(upstream, config)), held(fresh_keyweir(upstream, config))
    late = []
    with one.client() as a, two.client() as b:
        for i in range(40):
            token = "far%d" % i
            assert b.cmd("TOKEN.CHECK", token) == 0
            if config == PLAIN and i % 2:
                assert upstream.cmd("SET", P + token, "1") == "OK"
            else:
                assert a.cmd("TOKEN.REVOKE", token) == "OK"
            since = time.monotonic()
            wait_until(lambda: b.cmd("TOKEN.CHECK", token) == 1)
            late.append(time.monotonic() - since)
            assert a.cmd("TOKEN.CHECK", token) == 1 or config == PLAIN
            key = [k for k in upstream.cmd("KEYS", "*")][0]
            assert b.cmd("TOKEN.RESTORE", token) == 1 if i % 4 else upstream.cmd("DEL", key) == 1
            wait_until(lambda: a.cmd("TOKEN.CHECK", token) == 0)
            wait_until(lambda: b.cmd("TOKEN.CHECK", token) == 0)
        assert sorted(late)[-2] < 0.05 * FACTOR, late
        settled(a)
        settled(b)


def test_expiry_in_redis(upstream, fresh_keyweir):
    with held(fresh_keyweir(upstream, PLAIN)).client() as c:
        upstream.cmd("SET", P + "t", "1", "PX", "300")
        upstream.cmd("SET", P + "u", "1")
        wait_until(lambda: c.cmd("TOKEN.CHECK", "t", "u") == [1, 1])
        time.sleep(0.5)
        assert c.cmd("TOKEN.CHECK", "t", "u") == [0, 1]
        upstream.cmd("EXPIRE", P + "u", "1")
        time.sleep(1.2)
        assert c.cmd("TOKEN.CHECK", "u") == 0
        settled(c)
        assert c.cmd("TOKEN.COUNT") == 0


def test_all_keys_are_gone(service):
    c = service
    for flush in ("FLUSHALL", "FLUSHDB"):
        c.cmd("TOKEN.REVOKE", "t")
        if c.mirrored:
            settled(c)
        assert c.cmd(flush) == "OK"
        assert c.cmd("TOKEN.CHECK", "t") == 0
        c.cmd("TOKEN.REVOKE", "t")
        if c.mirrored:
            settled(c)
        assert c.redis.cmd(flush) == "OK"
        wait_until(lambda: c.cmd("TOKEN.CHECK", "t") == 0)
    if c.mirrored:
        held(c.keyweir)


def test_the_tracking_link_is_lost(upstream, fresh_keyweir):
    keyweir = held(fresh_keyweir(upstream, PLAIN))
    with keyweir.client() as c:
        c.cmd("TOKEN.REVOKE", "t")
        settled(c)
        for i in range(5):
            kinds = [line for line in upstream.cmd("CLIENT", "LIST").decode().splitlines()
                     if "name=keyweir-tracking" in line or (i % 2 and "name=keyweir-tokens" in line)]
            for line in kinds:
                upstream.cmd("CLIENT", "KILL", "ID", re.match(r"id=(\d+)", line).group(1))
            upstream.cmd("SET", P + "while%d" % i, "1")
            upstream.cmd("DEL", P + "t")
            wait_until(lambda: c.cmd("TOKEN.CHECK", "while%d" % i, "t") == [1, 0], timeout=5)
            for _ in range(20):
                assert c.cmd("TOKEN.CHECK", "while%d" % i) == 1 and c.cmd("TOKEN.CHECK", "t") == 0
            held(keyweir)
            assert c.cmd("TOKEN.CHECK", "while%d" % i) == 1 and c.cmd("TOKEN.CHECK", "t") == 0
            c.cmd("TOKEN.REVOKE", "t")
            settled(c)
        assert tokens(c)[b"loads"] >= 5
        assert "no longer counts" in keyweir.log()


def test_redis_starts_anew(upstream, fresh_keyweir):
    keyweir = held(fresh_keyweir(upstream, PLAIN))
    with keyweir.client() as c:
        c.cmd("TOKEN.REVOKE", "gone")
        settled(c)
        upstream.restart()
        upstream.cmd("SET", P + "fresh", "1")
        wait_until(lambda: c.cmd("TOKEN.CHECK", "fresh", "gone") == [1, 0], timeout=20)
        held(keyweir)
        assert c.cmd("TOKEN.CHECK", "fresh") == 1 and c.cmd("TOKEN.CHECK", "gone") == 0


def test_it_starts_without_redis(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    redis.kill()
    keyweir = fresh_keyweir(redis, BASE)
    with keyweir.client() as c:
        assert c.cmd("TOKEN.CHECK", "t") == 1  # deny
        redis.start()
        held(keyweir)
        assert c.cmd("TOKEN.CHECK", "t") == 0


def test_a_redis_that_does_not_track(upstream, fresh_keyweir):
    """Redis before 6, or where it is forbidden: the list is asked for there."""
    upstream.cmd("ACL", "SETUSER", "keyweir", "on", ">secret", "~*", "&*", "+@all", "-client|tracking")
    keyweir = fresh_keyweir(upstream.url.replace("redis://", "redis://keyweir:secret@"), BASE)
    with keyweir.client() as c:
        assert c.cmd("TOKEN.REVOKE", "t") == "OK"
        assert c.cmd("TOKEN.CHECK", "t") == 1 and c.cmd("TOKEN.CHECK", "u") == 0 and c.cmd("TOKEN.COUNT") == 1
        wait_until(lambda: "can't be held in memory" in keyweir.log(), what="it is said")
        assert tokens(c)[b"mirror"] == b"not held"


def test_under_load_the_mirror_is_right(upstream, fresh_keyweir):
    """Many clients revoke and restore on two Keyweirs and in Redis; each sees its own; in the end all see the same."""
    proxies = [held(fresh_keyweir(upstream, PLAIN)) for _ in range(2)]
    conns = [proxies[i % 2].client() for i in range(6)]
    for step in range(400):
        for n, c in enumerate(conns):
            token = "%d-%d" % (n, step % 11)
            if (step + n) % 3:
                assert c.cmd("TOKEN.REVOKE", token) == "OK" and c.cmd("TOKEN.CHECK", token) == 1, (step, n)
            else:
                c.cmd("TOKEN.RESTORE", token)
                assert c.cmd("TOKEN.CHECK", token) == 0 and c.cmd("EXISTS", P + token) == 0, (step, n)
            if n == 0:
                upstream.cmd(*(("SET", P + "shared%d" % (step % 5), "1") if step % 2 else ("DEL", P + "shared%d" % (step % 5))))
    there = set(upstream.cmd("KEYS", "*"))
    for c in conns[:2]:
        settled(c)
        before = calls_of(upstream, "exists")
        for token in ["%d-%d" % (n, i) for n in range(6) for i in range(11)] + ["shared%d" % i for i in range(5)]:
            assert c.cmd("TOKEN.CHECK", token) == int((P + token).encode() in there), token
        assert c.cmd("TOKEN.COUNT") == len(there)
        assert calls_of(upstream, "exists") == before
    for c in conns:
        c.close()


def test_a_flood_of_changes(upstream, fresh_keyweir):
    keyweir = held(fresh_keyweir(upstream, PLAIN))
    script = "for i=1,150000 do redis.call('SET','%s'..ARGV[1]..i,'1') end" % P
    with keyweir.client() as c, upstream.client(timeout=60) as direct:
        direct.cmd("EVAL", script, 0, "f")
        direct.cmd("DEL", P + "f7")
        wait_until(lambda: tokens(c)[b"tokens"] == 149999, timeout=60)
        settled(c)
        assert c.cmd("TOKEN.COUNT") == 149999
        assert c.cmd("TOKEN.CHECK", "f6") == 1 and c.cmd("TOKEN.CHECK", "f7") == 0


# ---- Redis is away ----

def failing(conn):
    stats = tokens(conn)
    return stats[b"failures_denied"], stats[b"failures_allowed"]


@pytest.mark.parametrize("mirror", [True, False], ids=["mirror", "no mirror"])
@pytest.mark.parametrize("how", ["frozen", "gone"])
def test_on_failure(upstream, fresh_keyweir, how, mirror):
    common = 'read_timeout = "300ms"\n' + PLAIN + ("" if mirror else OFF)
    deny, allow = [fresh_keyweir(upstream, common + 'on_failure = "%s"\n' % word) for word in ("deny", "allow")]
    with deny.client() as d, allow.client() as a:
        for c, keyweir in ((d, deny), (a, allow)):
            if mirror:
                held(keyweir)
            assert c.cmd("TOKEN.REVOKE", "bad") == "OK"
            if mirror:
                settled(c)
        upstream.freeze() if how == "frozen" else upstream.kill()
        since = time.monotonic()
        if mirror:  # it holds for another moment, and then nobody has to wait either
            assert a.cmd("TOKEN.CHECK", "good") == 0 and d.cmd("TOKEN.CHECK", "bad") == 1
            assert time.monotonic() - since < 0.25 * FACTOR
            wait_until(lambda: tokens(d)[b"mirror"] == tokens(a)[b"mirror"] == b"not held")
        for _ in range(8):  # at first it is waited for, then the breaker is open
            for name in ("bad", "good"):
                assert d.cmd("TOKEN.CHECK", name) == 1 and d.cmd("EXISTS", P + name) == 1 and d.cmd("GET", P + name) == b"1"
            assert d.cmd("TOKEN.CHECK", "x", "y") == [1, 1] and d.cmd("EXISTS", P + "x", P + "y") == 2
            known = 1 if mirror else 0  # what memory knows to be revoked stays so
            assert a.cmd("TOKEN.CHECK", "bad") == known and a.cmd("EXISTS", P + "bad") == known
            assert a.cmd("TOKEN.CHECK", "good") == 0 and a.cmd("EXISTS", P + "good") == 0
            assert a.cmd("GET", P + "good") is None and a.cmd("TOKEN.CHECK", "x", "bad") == [0, known]
        assert d.cmd("TOKEN.REVOKE", "new").split()[0] in ("UPSTREAMDOWN", "TIMEOUT")
        assert d.cmd("SET", P + "new", "1").split()[0] in ("UPSTREAMDOWN", "TIMEOUT")
        assert failing(d)[0] >= 40 and failing(d)[1] == 0 and failing(a)[1] >= 16 and failing(a)[0] == 0
        assert 'count as revoked (token_blacklist.on_failure = "deny")' in deny.log()
        assert 'count as good (token_blacklist.on_failure = "allow")' in allow.log()
        assert deny.log().count("count as revoked") < 5 + 3 * FACTOR
        upstream.thaw() if how == "frozen" else upstream.start()
        for c in (d, a):
            wait_until(lambda c=c: c.cmd("TOKEN.CHECK", "good") == 0 and c.cmd("TOKEN.REVOKE", "late") == "OK", timeout=20)
            wait_until(lambda c=c: c.cmd("TOKEN.CHECK", "late") == 1)


def test_revoked_at_the_last_moment(upstream, fresh_keyweir):
    """Redis goes away right behind the reply: with allow the token is refused all the same."""
    keyweir = held(fresh_keyweir(upstream, 'read_timeout = "200ms"\n' + BASE + 'on_failure = "allow"\n'))
    with keyweir.client() as c:
        for i in range(20):
            assert c.cmd("TOKEN.REVOKE", "t%d" % i) == "OK"
        upstream.kill()
        assert [c.cmd("TOKEN.CHECK", "t%d" % i) for i in range(20)] == [1] * 20
        assert c.cmd("TOKEN.CHECK", "u") == 0


def test_counting_needs_redis(upstream, fresh_keyweir):
    with fresh_keyweir(upstream, BASE + OFF).client() as c, upstream.client() as direct:
        c.cmd("TOKEN.REVOKE", "t")
        made = direct.cmd("KEYS", P + "*")[0][:len(P) + 4]  # which secret it was
        for i in range(2999):
            direct.send("SET", made + b"%032x" % i, "1")
            direct.send("SET", "x%d" % i, "1")
        for _ in range(5998):
            direct.read()
        assert c.cmd("TOKEN.COUNT") == 3000
        c.send_raw(encode("TOKEN.COUNT") * 5)
        assert [c.read() for _ in range(5)] == [3000] * 5
        upstream.kill()
        assert c.cmd("TOKEN.COUNT").startswith("UPSTREAMDOWN the list can't be counted")


def test_a_client_leaves_while_it_counts(upstream, fresh_keyweir):
    keyweir = fresh_keyweir(upstream, BASE + OFF)
    upstream.freeze()
    for _ in range(3):
        c = keyweir.client()
        c.send("TOKEN.COUNT")
        c.close()
    time.sleep(0.1)
    upstream.thaw()
    with keyweir.client() as c:
        assert c.cmd("TOKEN.COUNT") == 0
        upstream.freeze()
        c.send("TOKEN.COUNT")
        time.sleep(0.1)
        keyweir.stop()


# ---- nobody sees them ----

TOKEN = "tok-3f2504e0-very-secret"


@pytest.mark.parametrize("config", [BASE, PLAIN], ids=["hashed", "plain"])
def test_no_token_is_shown(upstream, fresh_keyweir, config, tmp_path):
    path = tmp_path / "revoked"
    path.write_text(TOKEN + "-in-the-file\n")
    config += 'tokens = ["%s-static"]\nfile = "%s"\non_failure = "deny"\n[log]\nlevel = "debug"\nslow = 0\n' % (TOKEN, path)
    keyweir = held(fresh_keyweir(upstream, 'read_timeout = "200ms"\n' + config))
    with keyweir.client() as c, keyweir.client() as seer:
        assert seer.cmd("MONITOR") == "OK"
        for args in (("TOKEN.REVOKE", TOKEN), ("TOKEN.CHECK", TOKEN), ("TOKEN.CHECK", TOKEN, TOKEN + "2"), ("SET", P + TOKEN, "1"),
                     ("EXISTS", P + TOKEN), ("GET", P + TOKEN), ("DEL", P + TOKEN, "other"), ("TOKEN.RESTORE", TOKEN),
                     ("EVAL", "return redis.call('SET',KEYS[1],'1')", "1", P + TOKEN),
                     ("EVAL", "return redis.call('GET','%s%s')" % (P, TOKEN), "0"),
                     ("PUBLISH", "__keyspace@0__:" + P + TOKEN, "x"), ("SUBSCRIBE", "__keyspace@0__:" + P + TOKEN),
                     ("UNSUBSCRIBE", "__keyspace@0__:" + P + TOKEN), ("TOKEN.REVOKE", TOKEN, "EX", "x"), ("TOKEN.REVOKE", TOKEN, "EX"), ("INCR", P + TOKEN), ("LPUSH", P + TOKEN, "x"),
                     ("TOKEN.CHECK", jwt({"jti": TOKEN}))):
            c.cmd(*args)
        c.send_raw(encode("MULTI") + encode("SET", P + TOKEN, "1") + encode("EXEC"))
        [c.read() for _ in range(3)]
        for args in (("TOKEN.CHECK", TOKEN + "x" * 200000), ("SET", P + TOKEN, "x" * 200000), ("GET", P + TOKEN),
                     ("SET", P + TOKEN + "y" * 200000, "1"), ("EXISTS", P + TOKEN + "y" * 200000)):
            c.cmd(*args)
        for _ in range(300):
            c.cmd("TOKEN.CHECK", TOKEN)
            c.cmd("EXISTS", P + TOKEN)
            c.cmd("SET", P + TOKEN, "1")
        c.cmd("SET", "seen", "1")
        shown = b""
        while b'"seen"' not in shown:
            shown += str(seer.read()).encode()
        assert b"token:blacklist:(redacted)" in shown and b'"(redacted)"' in shown
        slow = repr(c.cmd("SLOWLOG", "GET", "-1"))
        assert "token:blacklist:(redacted)" in slow
        told = "".join(repr(c.cmd(*args)) for args in (
            ("KEYWEIR", "TOKENS"), ("KEYWEIR", "STATUS"), ("KEYWEIR", "NAMESPACES"), ("INFO",), ("CLIENT", "LIST"),
            ("KEYWEIR", "HOTKEYS"), ("KEYWEIR", "BIGKEYS"), ("KEYWEIR", "HELP"), ("LATENCY", "HISTOGRAM")))
        upstream.freeze()
        wait_until(lambda: tokens(c)[b"mirror"] == b"not held")
        for _ in range(3):
            c.cmd("TOKEN.CHECK", TOKEN)
            c.cmd("SET", P + TOKEN, "1")
        slow += repr(c.cmd("SLOWLOG", "GET", "-1"))
        upstream.thaw()
    dump = subprocess.run([KEYWEIR, "-c", keyweir.file, "--dump"], stdout=subprocess.PIPE, check=True, text=True).stdout
    for text in (shown.decode(), slow, told, keyweir.log(), dump):
        assert TOKEN not in text and SECRET not in text and base64.urlsafe_b64encode(TOKEN.encode()).decode()[:20] not in text
    assert 'tokens = ["***"]' in dump


def test_redis_is_told_nothing(upstream, fresh_keyweir):
    """With hash_tokens: on no connection, in no command."""
    keyweir = held(fresh_keyweir(upstream, BASE))
    with keyweir.client() as c, upstream.client() as seer:
        assert seer.cmd("MONITOR") == "OK"
        for args in (("TOKEN.REVOKE", TOKEN), ("TOKEN.CHECK", TOKEN, TOKEN + "2"), ("SET", P + TOKEN, "1"), ("EXISTS", P + TOKEN, P + "x"),
                     ("GET", P + TOKEN), ("MGET", P + TOKEN), ("RENAME", P + TOKEN, P + TOKEN + "3"), ("TOKEN.RESTORE", TOKEN + "3"),
                     ("TTL", P + TOKEN), ("OBJECT", "ENCODING", P + TOKEN), ("SUBSCRIBE", "x"), ("UNSUBSCRIBE", "x"),
                     ("TOKEN.REVOKE",), ("TOKEN.CHECK",), ("TOKEN.RESTORE", TOKEN, TOKEN), ("SELECT", "2"), ("TOKEN.REVOKE", TOKEN),
                     ("TOKEN.CHECK", TOKEN), ("TOKEN.CHECK", TOKEN, "x"), ("SELECT", "0")):
            c.cmd(*args)
        c.send_raw(encode("MULTI") + encode("SET", P + TOKEN, "1") + encode("EXEC"))
        [c.read() for _ in range(3)]
        c.cmd("SET", "seen", "1")
        shown = ""
        while '"seen"' not in shown:
            shown += str(seer.read())
        assert "TOKEN." not in shown.upper() and TOKEN not in shown and "token:blacklist:" in shown


def test_not_in_the_memory_that_is_dumped(upstream, fresh_keyweir, tmp_path):
    """Nor does the configuration keep them."""
    path = tmp_path / "revoked"
    path.write_text("".join("%s-file-%d\n" % (TOKEN, i) for i in range(100)))
    keyweir = held(fresh_keyweir(upstream, BASE + 'tokens = ["%s-static"]\nfile = "%s"\n' % (TOKEN, path)))
    with keyweir.client() as c:
        assert c.cmd("TOKEN.CHECK", TOKEN + "-static") == 1 and c.cmd("TOKEN.CHECK", TOKEN + "-file-7") == 1
    found = 0
    with open("/proc/%d/maps" % keyweir.pid, encoding="ascii") as maps, open("/proc/%d/mem" % keyweir.pid, "rb", 0) as mem:
        for line in maps:
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            if "rw-p" in line and "[stack]" not in line and high - low < 1 << 28:
                mem.seek(low)
                found += mem.read(high - low).count((TOKEN + "-file-9").encode())
    assert found == 0


# ---- Sentinel, Cluster ----

def test_under_sentinel():
    with SentinelSet() as group, group.keyweir(tables=PLAIN) as keyweir:
        held(keyweir)
        with keyweir.client() as c:
            assert c.cmd("TOKEN.REVOKE", "t") == "OK"
            settled(c)
            loads = tokens(c)[b"loads"]
            group.failover()
            wait_until(lambda: tokens(c)[b"loads"] > loads, timeout=30, what="it is loaded from the new master")
            held(keyweir)
            wait_until(lambda: c.cmd("TOKEN.REVOKE", "u") == "OK", timeout=10)
            assert c.cmd("TOKEN.CHECK", "t", "u", "v") == [1, 1, 0]


def test_in_a_cluster():
    with Cluster(replicas=0) as cluster, cluster.keyweir(tables=PLAIN) as keyweir:
        held(keyweir)
        with keyweir.client() as c:
            names = ["c%d" % i for i in range(60)]
            for name in names[::2]:
                assert c.cmd("TOKEN.REVOKE", name) == "OK"
            assert c.cmd("TOKEN.CHECK", *names) == [1, 0] * 30
            settled(c)
            assert c.cmd("TOKEN.CHECK", *names) == [1, 0] * 30 and c.cmd("TOKEN.COUNT") == 30
            assert [c.cmd("TOKEN.CHECK", name) for name in names] == [1, 0] * 30
            c.send_raw(b"".join(encode("EXISTS", P + name) for name in names))
            assert [c.read() for _ in names] == [1, 0] * 30
            # Slots move: what is in memory is loaded anew.
            one, two = cluster.masters()[:2]
            cluster.migrate_slots(one, two, [slot for slot in map(slot_of, (P + name for name in names)) if one.me().covers(slot)][:5])
            for name in names[::2]:
                assert c.cmd("TOKEN.RESTORE", name) == 1
            wait_until(lambda: c.cmd("TOKEN.CHECK", *names) == [0] * 60)
            held(keyweir)
            assert c.cmd("TOKEN.CHECK", *names) == [0] * 60 and c.cmd("TOKEN.COUNT") == 0
