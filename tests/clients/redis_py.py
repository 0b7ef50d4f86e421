# SPDX-License-Identifier: BSD-2-Clause
"""redis-py 4 (Debian's python3-redis), synchronous and asyncio, at its defaults."""
import asyncio
import os
import sys
import threading
import time
import uuid

import redis
import redis.asyncio

URL = os.environ["REDIS_URL"]
PREFIX = f"t:{os.getpid()}:{time.time_ns()}:"
CHECKS = []
r = redis.Redis.from_url(URL, decode_responses=True)
raw = redis.Redis.from_url(URL)


def check(name):
    def add(fn):
        CHECKS.append((name, fn))
        return fn
    return add


def raises(kind, text, fn, *args):
    try:
        fn(*args)
    except kind as e:
        assert text in str(e), f"{e!r} does not say {text!r}"
        return
    raise AssertionError(f"no {kind.__name__}")


def until(fn, what, limit=8.0):
    end = time.monotonic() + limit
    while True:
        value = fn()
        if value:
            return value
        assert time.monotonic() < end, f"never came true: {what}"
        time.sleep(0.005)


@check("ping, echo, time, lastsave")
def _(k):
    assert r.ping() is True
    assert r.echo("ü") == "ü"
    assert abs(r.time()[0] - time.time()) < 5
    assert r.lastsave()


@check("info as it is parsed")
def _(k):
    info = r.info()
    assert info["redis_version"][0].isdigit() and info["role"] == "master"
    assert "used_memory" in info and "connected_clients" in info
    assert isinstance(r.info("commandstats"), dict)


@check("set, get, delete, exists, type")
def _(k):
    assert r.set(k, "v") is True
    assert r.get(k) == "v" and r.type(k) == "string" and r.exists(k, k) == 2
    assert r.delete(k) == 1 and r.get(k) is None


@check("session with sliding TTL")
def _(k):
    assert r.setex(k, 7200, "{}")
    assert r.getex(k, ex=9000) == "{}"
    assert 8990 < r.ttl(k) <= 9000
    assert r.set(k, "x", nx=True) is None
    assert r.set(k, "new", xx=True, keepttl=True) and r.ttl(k) > 8990


@check("a key goes when its TTL is over")
def _(k):
    r.set(k, "v", px=30)
    until(lambda: r.get(k) is None, "expired")


@check("cart in a hash")
def _(k):
    assert r.hset(k, mapping={"sku1": 2, "sku2": 1}) == 2
    assert r.hincrby(k, "sku1", 3) == 5
    assert r.hgetall(k) == {"sku1": "5", "sku2": "1"}
    assert r.hmget(k, "sku2", "none") == ["1", None]


@check("rate limit by INCR and EXPIRE")
def _(k):
    for i in range(1, 4):
        with r.pipeline() as p:
            n, fresh = p.incr(k).expire(k, 60).execute()
        assert n == i and fresh is True


@check("lock (SET NX PX, Lua release)")
def _(k):
    lock = r.lock(k, timeout=5)
    assert lock.acquire(blocking=False)
    other = r.lock(k, timeout=5)
    assert not other.acquire(blocking=False)
    lock.release()
    assert other.acquire(blocking=False)
    other.extend(5)
    other.release()
    with r.lock(k, timeout=5, blocking_timeout=2):
        assert r.exists(k)


@check("register_script: EVALSHA and NOSCRIPT")
def _(k):
    script = r.register_script(f"-- {uuid.uuid4()}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert script(keys=[k], args=[5]) == 5
    assert script(keys=[k], args=[5]) == 10
    fresh = r.register_script(f"-- {uuid.uuid4()}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])")
    with r.pipeline() as p:
        fresh(keys=[k], args=[1], client=p)
        fresh(keys=[k], args=[1], client=p)
        assert p.execute() == [11, 12]
    raises(redis.exceptions.NoScriptError, "", r.evalsha, "f" * 40, 0)


@check("pipeline without transaction, 2000 commands")
def _(k):
    p = r.pipeline(transaction=False)
    for i in range(1000):
        p.set(f"{k}{i}", i)
        p.get(f"{k}{i}")
    got = p.execute()
    assert got[1::2] == [str(i) for i in range(1000)]


@check("transaction with an error in it")
def _(k):
    r.set(k, "t")
    got = r.pipeline().set(k + "a", 1).incr(k).get(k + "a").execute(raise_on_error=False)
    assert got[0] is True and isinstance(got[1], redis.ResponseError) and got[2] == "1"


@check("WATCH")
def _(k):
    r.set(k, 1)
    with r.pipeline() as p:
        p.watch(k)
        value = int(p.get(k))
        r.set(k, 10)
        p.multi()
        p.set(k, value + 1)
        raises(redis.WatchError, "", p.execute)
    assert r.transaction(lambda p: (p.multi(), p.incr(k)), k) == [11]


@check("WATCH by 4 threads: no increment lost")
def _(k):
    def work():
        c = redis.Redis.from_url(URL)
        for _ in range(25):
            def add(p):
                value = int(p.get(k) or 0)
                p.multi()
                p.set(k, value + 1)
            c.transaction(add, k)
        c.close()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert r.get(k) == "100"


@check("pub/sub")
def _(k):
    p = r.pubsub()
    p.subscribe(k)
    p.psubscribe(k + "p*")
    assert [p.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
    assert r.publish(k, "eins") == 1 and r.publish(k + "p1", "zwei") == 1
    got = [p.get_message(timeout=5) for _ in range(2)]
    assert [m["data"] for m in got] == ["eins", "zwei"]
    assert dict(r.pubsub_numsub(k)) == {k: 1} and k in r.pubsub_channels()
    p.unsubscribe()
    p.punsubscribe()
    p.close()


@check("pub/sub in a thread with handlers")
def _(k):
    got = []
    p = r.pubsub(ignore_subscribe_messages=True)
    p.subscribe(**{k: lambda m: got.append(m["data"])})
    thread = p.run_in_thread(sleep_time=0.01)
    until(lambda: r.publish(k, "0") == 1, "subscribed")
    for i in range(100):
        r.publish(k, i)
    until(lambda: "99" in got, "100 messages")
    thread.stop()
    thread.join()
    assert got[-100:] == [str(i) for i in range(100)]


@check("check_health by PING while subscribed (RESP2)")
def _(k):
    p = r.pubsub()
    p.subscribe(k)
    assert p.get_message(timeout=5)["type"] == "subscribe"
    p.ping("alive")
    m = until(lambda: p.get_message(timeout=1), "pong")
    assert m["type"] == "pong" and m["data"] == "alive"
    p.close()


@check("binary keys and values")
def _(k):
    key, value = k.encode() + b"\x00\r\n\xff", bytes(range(256)) * 10
    assert raw.set(key, value) and raw.get(key) == value


@check("a value of 5 MB")
def _(k):
    value = os.urandom(5 << 20)
    assert raw.set(k, value) and raw.get(k) == value and raw.strlen(k) == len(value)
    raw.delete(k)


@check("unicode")
def _(k):
    assert r.set(k + "ключ🔑", "値") and r.get(k + "ключ🔑") == "値"


@check("db in the URL")
def _(k):
    seven = redis.Redis.from_url(URL.rsplit("/", 1)[0] + "/7", decode_responses=True)
    seven.set(k, "7")
    assert r.get(k) is None and seven.get(k) == "7"
    assert seven.move(k, 0) and r.get(k) == "7"
    seven.close()


@check("blocking pops")
def _(k):
    c = redis.Redis.from_url(URL, decode_responses=True)
    assert c.blpop(k, timeout=0.05) is None
    t = threading.Timer(0.05, lambda: r.rpush(k, "a", "b"))
    t.start()
    assert c.blpop([k, k + "2"], timeout=5) == (k, "a")
    t.join()
    assert c.brpoplpush(k, k + "d", timeout=5) == "b"
    c.close()


@check("stream with a consumer group")
def _(k):
    r.xgroup_create(k, "g", mkstream=True)
    first = r.xadd(k, {"event": "order", "n": 1})
    got = r.xreadgroup("g", "c1", {k: ">"}, count=10, block=1000)
    assert got == [[k, [(first, {"event": "order", "n": "1"})]]]
    assert r.xpending(k, "g")["pending"] == 1
    assert r.xautoclaim(k, "g", "c2", 0)[1][0][0] == first
    assert r.xack(k, "g", first) == 1 and r.xlen(k) == 1
    assert r.xinfo_groups(k)[0]["name"] == "g"
    assert r.xreadgroup("g", "c1", {k: ">"}, block=30) == []


@check("scan_iter, hscan_iter, sscan_iter, zscan_iter")
def _(k):
    p = r.pipeline(transaction=False)
    for i in range(300):
        p.set(f"{k}s:{i}", i).hset(k + "h", f"f{i}", i).sadd(k + "S", i).zadd(k + "z", {f"m{i}": i})
    p.execute()
    assert len(set(r.scan_iter(match=k + "s:*", count=30))) == 300
    assert len(dict(r.hscan_iter(k + "h"))) == 300
    assert len(set(r.sscan_iter(k + "S"))) == 300
    assert dict(r.zscan_iter(k + "z"))["m7"] == 7.0


@check("sorted sets, sets, lists")
def _(k):
    r.zadd(k, {"a": 1.5, "b": 2})
    assert r.zrange(k, 0, -1, withscores=True) == [("a", 1.5), ("b", 2.0)]
    assert r.zrevrank(k, "a") == 1
    r.sadd(k + "s", 1, 2, 3)
    assert r.smembers(k + "s") == {"1", "2", "3"}
    r.rpush(k + "l", *"abc")
    assert r.lrange(k + "l", 0, -1) == list("abc") and r.sort(k + "s", desc=True) == ["3", "2", "1"]


@check("geo, hyperloglog, bits")
def _(k):
    r.geoadd(k + "g", (13.361389, 38.115556, "Palermo"))
    assert r.geosearch(k + "g", longitude=13, latitude=38, radius=100, unit="km") == ["Palermo"]
    r.pfadd(k + "p", *range(100))
    assert abs(r.pfcount(k + "p") - 100) < 5
    r.setbit(k + "b", 9, 1)
    assert r.bitcount(k + "b") == 1 and r.bitpos(k + "b", 1) == 9


@check("dump, restore, object, memory")
def _(k):
    r.set(k, "1234")
    assert raw.restore(k + "2", 0, raw.dump(k)) and r.get(k + "2") == "1234"
    assert r.object("encoding", k) == "int" and r.memory_usage(k) > 0


@check("client list, setname, getname, id, info")
def _(k):
    c = redis.Redis.from_url(URL, decode_responses=True, client_name="py-shop")
    assert c.client_getname() == "py-shop" and c.client_id() > 0
    assert any(x["name"] == "py-shop" for x in r.client_list())
    assert c.client_info()["name"] == "py-shop"
    c.close()


@check("client kill, then the pool connects anew")
def _(k):
    c = redis.Redis.from_url(URL, decode_responses=True, retry_on_timeout=True)
    assert r.client_kill_filter(_id=str(c.client_id())) == 1
    def alive():
        try:
            return c.ping()
        except redis.ConnectionError:
            return False
    until(alive, "ping after the kill")
    c.close()


@check("config, slowlog, command, dbsize")
def _(k):
    assert "maxmemory" in r.config_get("max*")
    assert isinstance(r.slowlog_get(3), list)
    assert r.command_count() > 200 and "get" in r.command()
    assert r.dbsize() >= 0


@check("monitor")
def _(k):
    with r.monitor() as m:
        r.set(k, "seen")
        for line in m.listen():
            if k in line["command"]:
                break
    assert line["command"] == f"SET {k} seen"


@check("functions")
def _(k):
    lib = f"py{os.getpid()}"
    code = f"#!lua name={lib}\nredis.register_function('{lib}f', function(keys, args) return args[1] end)"
    assert r.function_load(code, replace=True) == lib
    assert r.fcall(f"{lib}f", 0, "hi") == "hi"
    assert r.function_delete(lib)


@check("errors come as errors")
def _(k):
    r.set(k, "t")
    raises(redis.ResponseError, "not an integer", r.incr, k)
    raises(redis.ResponseError, "WRONGTYPE", r.lpush, k, "x")
    raises(redis.ResponseError, "unknown command", r.execute_command, "NOSUCH", "a\r\nb")
    assert r.ping()


@check("20 threads over one pool")
def _(k):
    bad = []
    def work(n):
        for i in range(50):
            if r.eval("return ARGV[1]", 0, f"{n}:{i}") != f"{n}:{i}":
                bad.append((n, i))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad, bad[:3]


@check("connects anew for each operation, 100 times")
def _(k):
    for i in range(100):
        c = redis.Redis.from_url(URL, decode_responses=True)
        c.set(k, i)
        assert c.get(k) == str(i)
        c.close()


@check("asyncio: commands, pipeline, gather")
def _(k):
    async def run():
        a = redis.asyncio.Redis.from_url(URL, decode_responses=True)
        assert await a.ping() and await a.set(k, "v") and await a.get(k) == "v"
        async with a.pipeline(transaction=True) as p:
            assert await p.incr(k + "n").incr(k + "n").execute() == [1, 2]
        got = await asyncio.gather(*[a.eval("return ARGV[1]", 0, str(i)) for i in range(100)])
        assert got == [str(i) for i in range(100)]
        await a.close()
        await a.connection_pool.disconnect()
    asyncio.run(run())


@check("asyncio: pub/sub, blocking pop, scan")
def _(k):
    async def run():
        a = redis.asyncio.Redis.from_url(URL, decode_responses=True)
        p = a.pubsub(ignore_subscribe_messages=True)
        await p.subscribe(k)
        while await a.publish(k, "hi") != 1:
            await asyncio.sleep(0.005)
        message = None
        while message is None:
            message = await p.get_message(timeout=1)
        assert message["data"] == "hi"
        await p.close()
        pop = asyncio.create_task(a.blpop(k + "l", timeout=5))
        await a.rpush(k + "l", "x")
        assert await pop == (k + "l", "x")
        await a.mset({f"{k}s{i}": i for i in range(50)})
        assert len({x async for x in a.scan_iter(match=k + "s*")}) == 50
        await a.close()
        await a.connection_pool.disconnect()
    asyncio.run(run())


def main():
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    count = bad = 0
    for name, fn in CHECKS:
        if only not in name:
            continue
        count += 1
        try:
            fn(f"{PREFIX}{count}:")
            print(f"ok {name}", flush=True)
        except Exception as e:  # a check that fails in whatever way is "not ok"
            bad += 1
            print(f"not ok {name}: {type(e).__name__} {' '.join(str(e).split())}", flush=True)
    print(f"done {count}", flush=True)
    os._exit(1 if bad else 0)


main()
