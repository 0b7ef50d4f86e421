# SPDX-License-Identifier: BSD-2-Clause
"""A shop that logs people in with JWTs and out by a list in Redis, as R Commerce does it (redis-py and PyJWT): a key
token:blacklist:JTI that lives as long as the token would have, looked up with every request. It knows nothing of Keyweir;
the last checks use TOKEN commands on the same list."""
import os
import time
import uuid

import jwt
import redis

r = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
SECRET = "the shop's own"
CHECKS = []


def check(name):
    def add(fn):
        CHECKS.append((name, fn))
        return fn
    return add


class Shop:
    """What an application has of it."""

    def login(self, user, lifetime=3600):
        now = int(time.time())
        return jwt.encode({"sub": user, "jti": str(uuid.uuid4()), "iat": now, "exp": now + lifetime}, SECRET, "HS256")

    def logout(self, token):
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        r.setex("token:blacklist:" + claims["jti"], max(1, claims["exp"] - int(time.time())), "revoked")

    def request(self, token):
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        except jwt.ExpiredSignatureError:
            return 401, "expired"
        except jwt.InvalidTokenError:
            return 401, "invalid"
        if r.exists("token:blacklist:" + claims["jti"]):
            return 401, "revoked"
        return 200, claims["sub"]


shop = Shop()


@check("log in, go on, log out")
def _():
    token, other = shop.login("ada"), shop.login("ada")
    assert shop.request(token) == (200, "ada")
    shop.logout(token)
    assert shop.request(token) == (401, "revoked")
    assert shop.request(other) == (200, "ada")
    assert shop.request(token[:-3] + "abc")[1] == "invalid"


@check("many people, some of whom leave")
def _():
    tokens = [shop.login("user%d" % i) for i in range(300)]
    for token in tokens[::3]:
        shop.logout(token)
    for _round in range(3):
        for i, token in enumerate(tokens):
            assert shop.request(token)[0] == (401 if i % 3 == 0 else 200), i


@check("a pipeline of looks")
def _():
    tokens = [shop.login("p%d" % i) for i in range(100)]
    shop.logout(tokens[42])
    with r.pipeline(transaction=False) as pipe:
        for token in tokens:
            pipe.get("token:blacklist:" + jwt.decode(token, options={"verify_signature": False})["jti"])
        assert pipe.execute() == [None] * 42 + ["revoked"] + [None] * 57
    with r.pipeline(transaction=True) as pipe:
        pipe.set("token:blacklist:in-a-transaction", "1", ex=60)
        pipe.exists("token:blacklist:in-a-transaction")
        assert pipe.execute() == [True, 1]


@check("it ends with the token")
def _():
    token = shop.login("bob", lifetime=1)
    shop.logout(token)
    jti = jwt.decode(token, options={"verify_signature": False, "verify_exp": False})["jti"]
    time.sleep(2.2)
    assert r.exists("token:blacklist:" + jti) == 0
    assert shop.request(token) == (401, "expired")


@check("ttl, delete")
def _():
    token = shop.login("eve", lifetime=500)
    shop.logout(token)
    key = "token:blacklist:" + jwt.decode(token, options={"verify_signature": False})["jti"]
    assert 490 < r.ttl(key) <= 500
    assert r.delete(key) == 1
    assert shop.request(token) == (200, "eve")


@check("TOKEN commands on the same list")
def _():
    token = shop.login("fay")
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    assert r.execute_command("TOKEN.CHECK", token) == 0
    assert r.execute_command("TOKEN.REVOKE", token) in ("OK", True)
    assert shop.request(token) == (401, "revoked")
    assert 3600 < r.ttl("token:blacklist:" + jti) <= 3660
    assert r.execute_command("TOKEN.CHECK", token, jti, "other") == [1, 1, 0]
    assert r.execute_command("TOKEN.RESTORE", token) == 1
    assert shop.request(token) == (200, "fay")
    other = shop.login("gus")
    shop.logout(other)
    assert r.execute_command("TOKEN.CHECK", other) == 1


for name, fn in CHECKS:
    try:
        fn()
        print("ok " + name)
    except Exception as e:  # noqa: BLE001
        print("not ok %s: %r" % (name, e))
