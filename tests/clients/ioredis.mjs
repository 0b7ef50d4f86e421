// SPDX-License-Identifier: BSD-2-Clause
// ioredis 6 at its defaults (HELLO 3, CLIENT SETINFO, INFO for the ready check).
import { createHash, randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { assert, bytes, check, runChecks, until, url } from "./checks.mjs";

const redis = new Redis(url);

check("hello 3 is spoken", async () => {
	const info = await redis.call("CLIENT", "INFO");
	assert.match(String(info), /resp=3|id=\d+/);
	const hello = await redis.call("HELLO");
	const flat = Array.isArray(hello) ? hello : Object.entries(hello).flat();
	assert.equal(Number(flat[flat.indexOf("proto") + 1]), 3);
});
check("ready check by INFO", async () => {
	assert.equal(redis.status, "ready");
	assert.match(await redis.info(), /redis_version:\d/);
});
check("ping, echo, time", async () => {
	assert.equal(await redis.ping(), "PONG");
	assert.equal(await redis.echo("Grüße"), "Grüße");
	assert.equal((await redis.time()).length, 2);
});
check("set, get, del, exists, type", async (k) => {
	assert.equal(await redis.set(k, "v"), "OK");
	assert.equal(await redis.get(k), "v");
	assert.equal(await redis.type(k), "string");
	assert.equal(await redis.exists(k, k + "no"), 1);
	assert.equal(await redis.del(k), 1);
	assert.equal(await redis.get(k), null);
});
check("session with sliding TTL", async (k) => {
	const data = JSON.stringify({ user: "u1", roles: ["a", "b"] });
	assert.equal(await redis.set(k, data, "EX", 7200), "OK");
	assert.equal(await redis.getex(k, "EX", 9000), data);
	const ttl = await redis.ttl(k);
	assert.ok(ttl > 8990 && ttl <= 9000, `ttl ${ttl}`);
	assert.equal(await redis.persist(k), 1);
	assert.equal(await redis.ttl(k), -1);
});
check("a key goes when its TTL is over", async (k) => {
	await redis.set(k, "v", "PX", 30);
	await until(async () => (await redis.get(k)) === null, "key expired");
});
check("cart in a hash", async (k) => {
	await redis.hset(k, { sku1: 2, sku2: 1 });
	await redis.hincrby(k, "sku1", 3);
	await redis.hdel(k, "sku2");
	assert.deepEqual({ ...(await redis.hgetall(k)) }, { sku1: "5" });
	assert.deepEqual(await redis.hmget(k, "sku1", "none"), ["5", null]);
});
check("lock by SET NX and a compare-and-delete script", async (k) => {
	const token = randomUUID();
	assert.equal(await redis.set(k, token, "PX", 5000, "NX"), "OK");
	assert.equal(await redis.set(k, "other", "PX", 5000, "NX"), null);
	const unlock = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0";
	assert.equal(await redis.eval(unlock, 1, k, "other"), 0);
	assert.equal(await redis.eval(unlock, 1, k, token), 1);
});
check("rate limit by INCR and EXPIRE in MULTI", async (k) => {
	for (let i = 1; i <= 5; i++) {
		const r = await redis.multi().incr(k).expire(k, 60, "NX").exec();
		assert.deepEqual(r, [[null, i], [null, i === 1 ? 1 : 0]]);
	}
});
check("defineCommand: EVALSHA, NOSCRIPT, EVAL", async (k) => {
	const own = new Redis(url);
	own.defineCommand("limit", {
		numberOfKeys: 1,
		lua: `-- ${randomUUID()}
local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end return n`,
	});
	assert.equal(await own.limit(k, 60000), 1);
	assert.equal(await own.limit(k, 60000), 2);
	const [a, b] = await own.pipeline().limit(k, 1000).limit(k, 1000).exec();
	assert.deepEqual([a, b], [[null, 3], [null, 4]]);
	await own.quit();
});
check("EVALSHA of an unknown script says NOSCRIPT", async () => {
	const sha = createHash("sha1").update(randomUUID()).digest("hex");
	await assert.rejects(redis.evalsha(sha, 0), /NOSCRIPT/);
});
check("pipeline of 2000, order kept, one error in place", async (k) => {
	const p = redis.pipeline();
	for (let i = 0; i < 1000; i++)
		p.set(k + i, i).get(k + i);
	p.lpush(k + 0, "x");
	const r = await p.exec();
	for (let i = 0; i < 1000; i++)
		assert.deepEqual(r[2 * i + 1], [null, String(i)]);
	assert.match(r[2000][0].message, /WRONGTYPE/);
});
check("enableAutoPipelining", async (k) => {
	const own = new Redis(url, { enableAutoPipelining: true });
	await Promise.all(Array.from({ length: 500 }, (_, i) => own.set(k + i, `v${i}`)));
	const got = await Promise.all(Array.from({ length: 500 }, (_, i) => own.get(k + i)));
	got.forEach((v, i) => assert.equal(v, `v${i}`));
	await own.quit();
});
check("500 commands at once without waiting", async (k) => {
	const got = await Promise.all(Array.from({ length: 500 }, () => redis.incr(k)));
	got.forEach((v, i) => assert.equal(v, i + 1));
});
check("MULTI, EXEC with results", async (k) => {
	const r = await redis.multi().set(k, "1").incr(k).lpush(k + "l", "a", "b").lrange(k + "l", 0, -1).exec();
	assert.deepEqual(r, [[null, "OK"], [null, 2], [null, 2], [null, ["b", "a"]]]);
});
check("MULTI without a pipeline, and DISCARD", async (k) => {
	const own = redis.duplicate();
	await own.multi({ pipeline: false });
	assert.equal(await own.set(k, "x"), "QUEUED");
	assert.equal(await own.discard(), "OK");
	assert.equal(await own.get(k), null);
	await own.quit();
});
check("WATCH: EXEC is null when another wrote", async (k) => {
	const own = redis.duplicate();
	await redis.set(k, "10");
	await own.watch(k);
	await redis.set(k, "20");
	assert.equal(await own.multi().incr(k).exec(), null);
	await own.watch(k);
	const v = Number(await own.get(k));
	assert.deepEqual(await own.multi().set(k, v + 1).exec(), [[null, "OK"]]);
	assert.equal(await redis.get(k), "21");
	await own.quit();
});
check("EXECABORT after a bad command", async (k) => {
	await assert.rejects(redis.multi().set(k).exec(), /EXECABORT|wrong number/);
	assert.equal(await redis.get(k), null);
});
check("subscriber by duplicate()", async (k) => {
	const sub = redis.duplicate();
	const got = [];
	sub.on("message", (c, m) => got.push([c, m]));
	assert.equal(await sub.subscribe(k + "a", k + "b"), 2);
	assert.equal(await redis.publish(k + "a", "один"), 1);
	assert.equal(await redis.publish(k + "b", "2"), 1);
	await until(() => got.length === 2, "2 messages");
	assert.deepEqual(got, [[k + "a", "один"], [k + "b", "2"]]);
	assert.equal(await sub.unsubscribe(), 0);
	assert.equal(await redis.publish(k + "a", "3"), 0);
	await sub.quit();
});
check("RESP3: commands on a subscribed connection", async (k) => {
	const sub = redis.duplicate();
	let seen = 0;
	sub.on("message", () => seen++);
	await sub.subscribe(k);
	await sub.set(k + "x", "1");
	assert.equal(await sub.get(k + "x"), "1");
	assert.equal(await sub.publish(k, "to myself"), 1);
	await until(() => seen === 1, "own message");
	await sub.quit();
});
check("pattern subscriber, buffers", async (k) => {
	const sub = redis.duplicate();
	const got = [];
	sub.on("pmessageBuffer", (p, c, m) => got.push([p, c, m]));
	await sub.psubscribe(k + "*");
	const payload = bytes(100000);
	await redis.publish(k + "one", payload);
	await until(() => got.length === 1, "pmessage");
	assert.ok(payload.equals(got[0][2]));
	assert.equal(String(got[0][0]), k + "*");
	assert.equal(String(got[0][1]), k + "one");
	await sub.quit();
});
check("SSUBSCRIBE and SPUBLISH", async (k) => {
	const sub = redis.duplicate();
	const got = [];
	sub.on("smessage", (c, m) => got.push(c + m));
	await sub.ssubscribe(k);
	assert.equal(await redis.spublish(k, "s"), 1);
	await until(() => got.length === 1, "smessage");
	await sub.quit();
});
check("binary keys and values", async (k) => {
	const key = Buffer.concat([Buffer.from(k), Buffer.from([0, 13, 10, 255, 36])]);
	const value = Buffer.from([0, 1, 13, 10, 254, 0]);
	await redis.set(key, value);
	assert.ok(value.equals(await redis.getBuffer(key)));
});
check("a value of 5 MB", async (k) => {
	const value = bytes(5 << 20);
	await redis.set(k, value);
	assert.ok(value.equals(await redis.getBuffer(k)));
	assert.equal(await redis.strlen(k), 5 << 20);
	await redis.del(k);
});
check("ten values of 1 MB in a pipeline", async (k) => {
	const value = bytes(1 << 20);
	const p = redis.pipeline();
	for (let i = 0; i < 10; i++)
		p.set(k + i, value);
	await p.exec();
	const got = await redis.mgetBuffer(...Array.from({ length: 10 }, (_, i) => k + i));
	got.forEach((v) => assert.ok(value.equals(v)));
	await redis.del(...Array.from({ length: 10 }, (_, i) => k + i));
});
check("unicode keys", async (k) => {
	await redis.set(k + "ключ-🔑", "значение-🎁");
	assert.equal(await redis.get(k + "ключ-🔑"), "значение-🎁");
});
check("select db in the URL and by SELECT", async (k) => {
	const db3 = new Redis(url.replace(/\/\d+$/, "/3"));
	await redis.set(k, "zero");
	assert.equal(await db3.get(k), null);
	await db3.set(k, "three");
	assert.equal(await redis.get(k), "zero");
	await db3.select(0);
	assert.equal(await db3.get(k), "zero");
	await db3.select(3);
	assert.equal(await db3.del(k), 1);
	await db3.quit();
});
check("blocking pop is woken by a push", async (k) => {
	const blocked = redis.duplicate();
	const waits = blocked.blpop(k, k + "2", 10);
	await redis.lpush(k + "2", "job");
	assert.deepEqual(await waits, [k + "2", "job"]);
	assert.equal(await blocked.blpop(k, 0.05), null);
	await blocked.quit();
});
check("BLMOVE, BZPOPMIN, BLMPOP", async (k) => {
	const blocked = redis.duplicate();
	const a = blocked.blmove(k + "s", k + "d", "LEFT", "RIGHT", 10);
	await redis.rpush(k + "s", "1");
	assert.equal(await a, "1");
	const b = blocked.bzpopmin(k + "z", 10);
	await redis.zadd(k + "z", 1.5, "m");
	assert.deepEqual((await b).map(String), [k + "z", "m", "1.5"]);
	await blocked.quit();
});
check("stream with a consumer group", async (k) => {
	await redis.xgroup("CREATE", k, "g", "$", "MKSTREAM");
	const reader = redis.duplicate();
	const waits = reader.xreadgroup("GROUP", "g", "c1", "COUNT", 10, "BLOCK", 10000, "STREAMS", k, ">");
	const id = await redis.xadd(k, "*", "event", "order", "id", "7");
	const got = JSON.stringify(await waits);
	assert.ok(got.includes(id) && got.includes("order"), got);
	assert.equal((await redis.xpending(k, "g"))[0], 1);
	assert.equal(await redis.xack(k, "g", id), 1);
	assert.equal((await redis.xpending(k, "g"))[0], 0);
	const info = JSON.stringify(await redis.xinfo("STREAM", k));
	assert.ok(info.includes("last-generated-id"));
	await reader.quit();
});
check("scanStream, hscanStream, sscanStream, zscanStream", async (k) => {
	const p = redis.pipeline();
	for (let i = 0; i < 500; i++)
		p.set(`${k}s:${i}`, i).hset(k + "h", `f${i}`, i).sadd(k + "set", `m${i}`).zadd(k + "z", i, `m${i}`);
	await p.exec();
	const seen = new Set();
	for await (const keys of redis.scanStream({ match: k + "s:*", count: 50 }))
		keys.forEach((x) => seen.add(x));
	assert.equal(seen.size, 500);
	const fields = new Set();
	for await (const part of redis.hscanStream(k + "h"))
		part.filter((_, i) => i % 2 === 0).forEach((x) => fields.add(x));
	assert.equal(fields.size, 500);
	const members = new Set();
	for await (const part of redis.sscanStream(k + "set"))
		part.forEach((x) => members.add(x));
	assert.equal(members.size, 500);
});
check("sorted set leaderboard", async (k) => {
	await redis.zadd(k, 10, "a", 20, "b", 15.5, "c");
	assert.deepEqual(await redis.zrevrange(k, 0, 1), ["b", "c"]);
	assert.deepEqual((await redis.zrange(k, 0, -1, "WITHSCORES")).flat().map(String), ["a", "10", "c", "15.5", "b", "20"]);
	assert.equal(await redis.zrank(k, "b"), 2);
	assert.equal(String(await redis.zincrby(k, 0.5, "a")), "10.5");
});
check("sets, lists, hyperloglog, bits, geo", async (k) => {
	await redis.sadd(k + "1", 1, 2, 3);
	await redis.sadd(k + "2", 2, 3, 4);
	assert.deepEqual((await redis.sinter(k + "1", k + "2")).sort(), ["2", "3"]);
	await redis.rpush(k + "l", "a", "b", "c");
	assert.deepEqual(await redis.lrange(k + "l", 0, -1), ["a", "b", "c"]);
	await redis.pfadd(k + "p", "a", "b");
	assert.equal(await redis.pfcount(k + "p"), 2);
	await redis.setbit(k + "b", 7, 1);
	assert.equal(await redis.bitcount(k + "b"), 1);
	await redis.geoadd(k + "g", 13.361389, 38.115556, "Palermo");
	assert.ok(Number(await redis.geodist(k + "g", "Palermo", "Palermo")) === 0);
});
check("functions", async (k) => {
	const lib = `l${process.pid}`;
	await redis.function("LOAD", "REPLACE", `#!lua name=${lib}\nredis.register_function('f${lib}', function(keys, args) return redis.call('SET', keys[1], args[1]) end)`);
	assert.equal(await redis.fcall(`f${lib}`, 1, k, "via function"), "OK");
	assert.equal(await redis.get(k), "via function");
	await redis.function("DELETE", lib);
});
check("monitor sees commands", async (k) => {
	const monitor = await redis.monitor();
	const seen = new Promise((resolve) => monitor.on("monitor", (time, args) => {
		if (args.join(" ").includes(k))
			resolve(args);
	}));
	await redis.set(k, "watched");
	assert.deepEqual((await seen).map((s) => s.toLowerCase()), ["set", k, "watched"]);
	monitor.disconnect();
});
check("errors come as errors", async (k) => {
	await redis.set(k, "text");
	await assert.rejects(redis.incr(k), /ERR value is not an integer/);
	await assert.rejects(redis.lpush(k, "x"), /WRONGTYPE/);
	await assert.rejects(redis.call("NOSUCHCOMMAND", "a"), /unknown command/);
	await assert.rejects(redis.call("GET"), /wrong number of arguments/);
});
check("connection name and CLIENT LIST", async () => {
	const own = new Redis(url, { connectionName: "shop-web" });
	assert.equal(await own.client("GETNAME"), "shop-web");
	assert.match(await redis.client("LIST"), /name=shop-web/);
	assert.match(await own.client("INFO"), /lib-name=ioredis|name=shop-web/);
	await own.quit();
});
check("keyPrefix", async (k) => {
	const own = new Redis(url, { keyPrefix: k });
	await own.set("inner", "1");
	assert.equal(await redis.get(k + "inner"), "1");
	await own.quit();
});
check("50 connections, each with its own commands", async (k) => {
	const all = Array.from({ length: 50 }, () => new Redis(url));
	await Promise.all(all.map(async (c, n) => {
		for (let i = 0; i < 20; i++)
			assert.equal(await c.eval("return ARGV[1]", 0, `${n}-${i}`), `${n}-${i}`);
		await c.quit();
	}));
});
check("reconnects by itself after CLIENT KILL", async (k) => {
	const own = new Redis(url);
	own.on("error", () => {});
	const id = await own.client("ID");
	await redis.client("KILL", "ID", id);
	await until(async () => (await own.ping().catch(() => "")) === "PONG", "ping after the kill");
	assert.notEqual(await own.client("ID"), id);
	await own.quit();
});
check("CLIENT TRACKING: pushes between replies do no harm", async (k) => {
	const own = new Redis(url);
	await own.client("TRACKING", "ON");
	assert.match(JSON.stringify(await own.client("TRACKINGINFO")), /"on"/);
	for (let i = 0; i < 100; i++) {
		await redis.set(k, i);
		assert.equal(await own.get(k), String(i));
	}
	await own.client("TRACKING", "OFF");
	await own.quit();
});
check("quit answers OK", async () => {
	const own = new Redis(url);
	assert.equal(await own.quit(), "OK");
});

await redis.ping();
await runChecks();
