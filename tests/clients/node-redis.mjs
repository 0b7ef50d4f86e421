// SPDX-License-Identifier: BSD-2-Clause
// node-redis 6 at its defaults (HELLO 3, CLIENT SETINFO).
import { randomUUID } from "node:crypto";
import { createClient, createClientPool, defineScript, RESP_TYPES } from "redis";
import { assert, bytes, check, runChecks, until, url } from "./checks.mjs";

async function connect(options = {}) {
	const c = createClient({ url, ...options });
	c.on("error", () => {});
	return c.connect();
}

const redis = await connect();

check("hello 3 is spoken", async () => {
	const hello = await redis.sendCommand(["HELLO"]);
	assert.equal(hello.proto ?? hello.get?.("proto") ?? hello[hello.indexOf("proto") + 1], 3);
	assert.match(await redis.sendCommand(["CLIENT", "INFO"]), /lib-name=|id=\d+/);
});
check("set, get, getDel, exists, type", async (k) => {
	assert.equal(await redis.set(k, "v"), "OK");
	assert.equal(await redis.type(k), "string");
	assert.equal(await redis.exists(k), 1);
	assert.equal(await redis.getDel(k), "v");
	assert.equal(await redis.get(k), null);
});
check("session with TTL", async (k) => {
	assert.equal(await redis.set(k, "{}", { EX: 7200 }), "OK");
	const ttl = await redis.ttl(k);
	assert.ok(ttl > 7190 && ttl <= 7200);
	assert.equal(await redis.getEx(k, { type: "PX", value: 5000 }), "{}");
	assert.ok((await redis.pTTL(k)) <= 5000);
	assert.equal(await redis.set(k, "new", { NX: true }), null);
	assert.equal(await redis.set(k, "new", { XX: true, GET: true }), "{}");
});
check("cart in a hash (RESP3 map)", async (k) => {
	await redis.hSet(k, { sku1: "2", sku2: "1" });
	assert.equal(await redis.hIncrBy(k, "sku1", 3), 5);
	assert.deepEqual({ ...(await redis.hGetAll(k)) }, { sku1: "5", sku2: "1" });
	assert.deepEqual(await redis.hmGet(k, ["sku2", "none"]), ["1", null]);
});
check("RESP3 sets and doubles", async (k) => {
	await redis.sAdd(k + "s", ["a", "b"]);
	assert.deepEqual([...(await redis.sMembers(k + "s"))].sort(), ["a", "b"]);
	await redis.zAdd(k + "z", [{ score: 1.5, value: "m" }, { score: 2, value: "n" }]);
	assert.equal(await redis.zScore(k + "z", "m"), 1.5);
	assert.deepEqual(await redis.zRangeWithScores(k + "z", 0, -1), [{ value: "m", score: 1.5 }, { value: "n", score: 2 }]);
	assert.equal(await redis.zScore(k + "z", "none"), null);
});
check("rate limit in MULTI", async (k) => {
	for (let i = 1; i <= 3; i++) {
		const r = await redis.multi().incr(k).expire(k, 60, "NX").exec();
		assert.deepEqual(r, [i, i === 1 ? 1 : 0]);
	}
});
check("defineScript: EVALSHA and its fall-back", async (k) => {
	const own = await connect({
		scripts: {
			add: defineScript({
				NUMBER_OF_KEYS: 1,
				SCRIPT: `-- ${randomUUID()}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])`,
				parseCommand(parser, key, n) {
					parser.pushKey(key);
					parser.push(String(n));
				},
				transformReply: (reply) => reply,
			}),
		},
	});
	assert.equal(await own.add(k, 5), 5);
	assert.equal(await own.add(k, 6), 11);
	await own.close();
});
check("NOSCRIPT", async () => {
	await assert.rejects(redis.evalSha("f".repeat(40)), /NOSCRIPT/);
	assert.equal(await redis.eval("return ARGV[1]", { arguments: ["x"] }), "x");
});
check("auto-pipelining: 1000 at once", async (k) => {
	await Promise.all(Array.from({ length: 1000 }, (_, i) => redis.set(k + i, `v${i}`)));
	const got = await Promise.all(Array.from({ length: 1000 }, (_, i) => redis.get(k + i)));
	got.forEach((v, i) => assert.equal(v, `v${i}`));
});
check("multi().execAsPipeline with an error inside", async (k) => {
	await redis.set(k, "text");
	await assert.rejects(redis.multi().set(k + 1, "a").incr(k).get(k + 1).execAsPipeline());
	assert.equal(await redis.get(k + 1), "a");
});
check("WATCH: exec fails when another wrote", async (k) => {
	const own = await connect();
	await own.watch(k);
	await redis.set(k, "x");
	await assert.rejects(own.multi().set(k, "y").exec(), /watch/i);
	await own.watch(k);
	assert.deepEqual(await own.multi().set(k, "z").get(k).exec(), ["OK", "z"]);
	await own.close();
});
check("subscribe, unsubscribe", async (k) => {
	const sub = await redis.duplicate().connect();
	const got = [];
	await sub.subscribe(k, (m, c) => got.push([c, m]));
	await sub.pSubscribe(k + "p*", (m, c) => got.push([c, m]));
	await redis.publish(k, "ü1");
	await redis.publish(k + "p1", "2");
	await until(() => got.length === 2, "two messages");
	assert.deepEqual(got, [[k, "ü1"], [k + "p1", "2"]]);
	await sub.unsubscribe(k);
	assert.equal(await redis.publish(k, "3"), 0);
	assert.equal(await sub.get(k), null);
	await sub.close();
});
check("binary channel messages", async (k) => {
	const sub = await redis.duplicate().connect();
	const got = [];
	await sub.subscribe(k, (m) => got.push(m), true);
	const payload = bytes(200000);
	await redis.publish(k, payload);
	await until(() => got.length === 1, "message");
	assert.ok(payload.equals(got[0]));
	await sub.close();
});
check("sSubscribe", async (k) => {
	const sub = await redis.duplicate().connect();
	const got = [];
	await sub.sSubscribe(k, (m) => got.push(m));
	await redis.sPublish(k, "s");
	await until(() => got.length === 1, "shard message");
	await sub.sUnsubscribe(k);
	await sub.close();
});
check("binary value", async (k) => {
	const b = Buffer.from([0, 13, 10, 255, 254, 36]);
	await redis.set(k, b);
	const buffers = redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
	assert.ok(b.equals(await buffers.get(k)));
});
check("a value of 5 MB", async (k) => {
	const b = bytes(5 << 20);
	await redis.set(k, b);
	const buffers = redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
	assert.ok(b.equals(await buffers.get(k)));
	await redis.del(k);
});
check("unicode", async (k) => {
	await redis.set(k + "日本🔑", "値🎁");
	assert.equal(await redis.get(k + "日本🔑"), "値🎁");
});
check("select db", async (k) => {
	const own = await connect({ database: 5 });
	await own.set(k, "five");
	assert.equal(await redis.get(k), null);
	await own.select(0);
	assert.equal(await own.get(k), null);
	await own.select(5);
	assert.equal(await own.del(k), 1);
	await own.close();
});
check("blocking pop on a pool's connection", async (k) => {
	const pool = createClientPool({ url });
	pool.on("error", () => {});
	await pool.connect();
	const waits = pool.execute((c) => c.blPop(k, 10));
	await pool.lPush(k, "job");
	assert.deepEqual({ ...(await waits) }, { key: k, element: "job" });
	await Promise.all(Array.from({ length: 100 }, (_, i) => pool.set(k + i, String(i))));
	assert.equal(await pool.get(k + 99), "99");
	await pool.close();
});
check("stream with a consumer group", async (k) => {
	await redis.xGroupCreate(k, "g", "$", { MKSTREAM: true });
	const reader = await redis.duplicate().connect();
	const waits = reader.xReadGroup("g", "c1", { key: k, id: ">" }, { BLOCK: 10000, COUNT: 5 });
	const id = await redis.xAdd(k, "*", { event: "order" });
	const got = JSON.stringify(await waits);
	assert.ok(got.includes(id) && got.includes("order"), got);
	assert.equal((await redis.xPending(k, "g")).pending, 1);
	assert.equal(await redis.xAck(k, "g", id), 1);
	const info = await redis.xInfoStream(k);
	assert.equal(info.length, 1);
	await reader.close();
});
check("scanIterator, hScanIterator", async (k) => {
	await Promise.all(Array.from({ length: 300 }, (_, i) => redis.set(`${k}s:${i}`, "1")));
	const seen = new Set();
	for await (const keys of redis.scanIterator({ MATCH: k + "s:*", COUNT: 40 }))
		[].concat(keys).forEach((x) => seen.add(x));
	assert.equal(seen.size, 300);
	await redis.hSet(k + "h", Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`f${i}`, String(i)])));
	let n = 0;
	for await (const part of redis.hScanIterator(k + "h"))
		n += [].concat(part).length;
	assert.equal(n, 300);
});
check("clientSideCache: a hit, then an invalidation", async (k) => {
	const own = await connect({ clientSideCache: { ttl: 0, maxEntries: 100, evictPolicy: "LRU" } });
	await redis.set(k, "1");
	assert.equal(await own.get(k), "1");
	assert.equal(await own.get(k), "1");
	await redis.set(k, "2");
	await until(async () => (await own.get(k)) === "2", "invalidated");
	await own.close();
});
check("emitInvalidate", async (k) => {
	const own = createClient({ url, emitInvalidate: true });
	own.on("error", () => {});
	const keys = [];
	own.on("invalidate", (key) => keys.push(String(key)));
	await own.connect();
	await redis.set(k, "1");
	await own.get(k);
	await redis.set(k, "2");
	await until(() => keys.includes(k), "invalidate event");
	await own.close();
});
check("functions", async (k) => {
	const lib = `nl${process.pid}`;
	await redis.functionLoad(`#!lua name=${lib}\nredis.register_function{function_name='r${lib}', callback=function(keys, args) return args[1] end, flags={'no-writes'}}`, { REPLACE: true });
	assert.equal(await redis.fCall(`r${lib}`, { arguments: ["hi"] }), "hi");
	assert.equal(await redis.fCallRo(`r${lib}`, { arguments: ["hi"] }), "hi");
	assert.ok(JSON.stringify(await redis.functionList()).includes(lib));
	await redis.functionDelete(lib);
});
check("monitor", async (k) => {
	const mon = await redis.duplicate().connect();
	const lines = [];
	await mon.monitor((line) => lines.push(line));
	await redis.set(k, "m");
	await until(() => lines.some((l) => l.includes(k)), "monitor line");
	mon.destroy();
});
check("errors come as errors", async (k) => {
	await redis.set(k, "t");
	await assert.rejects(redis.incr(k), /not an integer/);
	await assert.rejects(redis.lPush(k, "x"), /WRONGTYPE/);
	await assert.rejects(redis.sendCommand(["NOSUCH"]), /unknown command/);
});
check("name, CLIENT LIST, CLIENT INFO", async () => {
	const own = await connect({ name: "web-7" });
	assert.equal(await own.clientGetName(), "web-7");
	const all = await redis.clientList();
	assert.ok(all.some((c) => c.name === "web-7"));
	assert.equal((await own.clientInfo()).name, "web-7");
	await own.close();
});
check("legacy-style concurrent get and multi keep order", async (k) => {
	const work = [];
	for (let i = 0; i < 100; i++) {
		work.push(redis.set(k, String(i)));
		work.push(redis.multi().get(k).incr(k + "n").exec().then((r) => assert.deepEqual(r, [String(i), i + 1])));
	}
	await Promise.all(work);
});
check("reconnects by itself after CLIENT KILL", async (k) => {
	const own = await connect();
	const id = await own.clientId();
	await redis.sendCommand(["CLIENT", "KILL", "ID", String(id)]);
	await until(async () => (await own.ping().catch(() => "")) === "PONG", "ping after the kill");
	own.destroy();
});
check("RESP 2 when asked", async (k) => {
	const own = await connect({ RESP: 2 });
	await own.hSet(k, { a: "1" });
	assert.deepEqual({ ...(await own.hGetAll(k)) }, { a: "1" });
	await own.close();
});
check("info, dbSize, configGet", async () => {
	assert.match(await redis.info("server"), /redis_version:/);
	assert.ok((await redis.dbSize()) >= 1);
	assert.ok("maxmemory" in (await redis.configGet("maxmemory")));
});

await runChecks();
