// SPDX-License-Identifier: BSD-2-Clause
// valkey-glide 2 (Rust core) at its defaults: RESP3, one multiplexed connection, CLIENT SETINFO.
import { randomUUID } from "node:crypto";
import { Batch, Decoder, GlideClient, GlideClientConfiguration, InfoOptions, Script, TimeUnit } from "@valkey/valkey-glide";
import { assert, bytes, check, runChecks, until, url } from "./checks.mjs";

const target = new URL(url);
const addresses = [{ host: target.hostname, port: Number(target.port) }];
const connect = (options = {}) => GlideClient.createClient({ addresses, requestTimeout: 5000, ...options });

const client = await connect();

check("connects with the default protocol (RESP3)", async () => {
	const hello = await client.customCommand(["HELLO"]);
	const text = JSON.stringify(hello);
	assert.match(text, /"proto"[^0-9]*3/);
	assert.equal(await client.ping(), "PONG");
	assert.equal(await client.echo("é"), "é");
});
check("set, get, del", async (k) => {
	assert.equal(await client.set(k, "v"), "OK");
	assert.equal(await client.get(k), "v");
	assert.equal(await client.exists([k, k]), 2);
	assert.equal(await client.del([k]), 1);
	assert.equal(await client.get(k), null);
});
check("session with TTL", async (k) => {
	await client.set(k, "{}", { expiry: { type: TimeUnit.Seconds, count: 7200 } });
	assert.ok((await client.ttl(k)) > 7190);
	assert.equal(await client.set(k, "x", { conditionalSet: "onlyIfDoesNotExist" }), null);
	assert.equal(await client.getex(k, { expiry: { type: TimeUnit.Milliseconds, duration: 5000 } }), "{}");
	assert.ok((await client.pttl(k)) <= 5000);
});
check("cart in a hash", async (k) => {
	await client.hset(k, { sku1: "2", sku2: "1" });
	assert.equal(await client.hincrBy(k, "sku1", 3), 5);
	const all = await client.hgetall(k);
	assert.deepEqual(all.map((f) => [f.field, f.value]).sort(), [["sku1", "5"], ["sku2", "1"]]);
	assert.deepEqual(await client.hmget(k, ["sku2", "no"]), ["1", null]);
});
check("sets, sorted sets, doubles", async (k) => {
	await client.sadd(k + "s", ["a", "b"]);
	assert.deepEqual([...(await client.smembers(k + "s"))].sort(), ["a", "b"]);
	await client.zadd(k + "z", { m: 1.5, n: 2 });
	assert.equal(await client.zscore(k + "z", "m"), 1.5);
	const top = await client.zrangeWithScores(k + "z", { start: 0, end: -1 });
	assert.deepEqual(top.map((e) => [e.element, e.score]), [["m", 1.5], ["n", 2]]);
});
check("atomic batch (MULTI)", async (k) => {
	const r = await client.exec(new Batch(true).incr(k).expire(k, 60).get(k), true);
	assert.deepEqual(r, [1, true, "1"]);
});
check("batch that is a pipeline, 1000 commands", async (k) => {
	const b = new Batch(false);
	for (let i = 0; i < 500; i++)
		b.set(k + i, String(i)).get(k + i);
	const r = await client.exec(b, true);
	for (let i = 0; i < 500; i++)
		assert.equal(r[2 * i + 1], String(i));
});
check("an error inside a batch", async (k) => {
	await client.set(k, "t");
	const r = await client.exec(new Batch(false).incr(k).get(k), false);
	assert.ok(r[0] instanceof Error);
	assert.equal(r[1], "t");
});
check("500 at once on one connection", async (k) => {
	const got = await Promise.all(Array.from({ length: 500 }, () => client.incr(k)));
	assert.equal(new Set(got).size, 500);
});
check("Script: EVALSHA and its fall-back", async (k) => {
	const script = new Script(`-- ${randomUUID()}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])`);
	assert.equal(await client.invokeScript(script, { keys: [k], args: ["5"] }), 5);
	assert.equal(await client.invokeScript(script, { keys: [k], args: ["5"] }), 10);
	script.release?.();
});
check("WATCH: exec gives null when another wrote", async (k) => {
	const own = await connect();
	await own.watch([k]);
	await client.set(k, "x");
	assert.equal(await own.exec(new Batch(true).set(k, "y"), true), null);
	await own.watch([k]);
	assert.deepEqual(await own.exec(new Batch(true).set(k, "y"), true), ["OK"]);
	assert.equal(await own.unwatch(), "OK");
	own.close();
});
check("subscriber with channels and patterns", async (k) => {
	const got = [];
	const { PubSubChannelModes } = GlideClientConfiguration;
	const sub = await connect({
		pubsubSubscriptions: {
			channelsAndPatterns: {
				[PubSubChannelModes.Exact]: new Set([k]),
				[PubSubChannelModes.Pattern]: new Set([k + "p*"]),
			},
			callback: (m) => got.push([String(m.channel), String(m.message)]),
		},
	});
	await until(async () => (await client.publish("0", k)) === 1, "subscribed");
	await until(async () => (await client.publish("0", k + "p1")) === 1, "subscribed by pattern");
	got.length = 0;
	await client.publish("один", k);
	await client.publish("2", k + "p1");
	await until(() => got.filter((m) => m[1] !== "0").length === 2, "messages");
	assert.deepEqual(got.filter((m) => m[1] !== "0"), [[k, "один"], [k + "p1", "2"]]);
	sub.close();
});
check("binary value", async (k) => {
	const b = Buffer.from([0, 13, 10, 255, 254]);
	await client.set(k, b);
	assert.ok(b.equals(await client.get(k, { decoder: Decoder.Bytes })));
});
check("a value of 5 MB", async (k) => {
	const b = bytes(5 << 20);
	await client.set(k, b);
	assert.ok(b.equals(await client.get(k, { decoder: Decoder.Bytes })));
	await client.del([k]);
});
check("unicode", async (k) => {
	await client.set(k + "🔑ключ", "🎁");
	assert.equal(await client.get(k + "🔑ключ"), "🎁");
});
check("database 4", async (k) => {
	const own = await connect({ databaseId: 4 });
	await own.set(k, "four");
	assert.equal(await client.get(k), null);
	assert.equal(await own.get(k), "four");
	assert.equal(await own.select(0), "OK");
	assert.equal(await own.get(k), null);
	await own.select(4);
	await own.del([k]);
	own.close();
});
check("blocking pop", async (k) => {
	const own = await connect();
	const waits = own.blpop([k], 5);
	await client.lpush(k, ["job"]);
	assert.deepEqual((await waits).map(String), [k, "job"]);
	assert.equal(await own.blpop([k], 0.05), null);
	own.close();
});
check("stream with a consumer group", async (k) => {
	await client.xgroupCreate(k, "g", "$", { mkStream: true });
	const own = await connect();
	const waits = own.xreadgroup("g", "c1", { [k]: ">" }, { block: 5000, count: 3 });
	const id = await client.xadd(k, [["event", "order"]]);
	const got = JSON.stringify(await waits);
	assert.ok(got.includes(id) && got.includes("order"), got);
	assert.equal((await client.xpending(k, "g"))[0], 1);
	assert.equal(await client.xack(k, "g", [id]), 1);
	own.close();
});
check("scan", async (k) => {
	const fill = new Batch(false);
	for (let i = 0; i < 300; i++)
		fill.set(`${k}s:${i}`, "1");
	await client.exec(fill, true);
	const seen = new Set();
	let cursor = "0";
	do {
		const [next, keys] = await client.scan(cursor, { match: `${k}s:*`, count: 50 });
		keys.forEach((x) => seen.add(String(x)));
		cursor = String(next);
	} while (cursor !== "0");
	assert.equal(seen.size, 300);
});
check("functions", async (k) => {
	const lib = `gl${process.pid}`;
	await client.functionLoad(`#!lua name=${lib}\nredis.register_function{function_name='${lib}f', callback=function(keys, args) return args[1] end, flags={'no-writes'}}`, { replace: true });
	assert.equal(await client.fcall(`${lib}f`, [], ["hi"]), "hi");
	assert.equal(await client.functionDelete(lib), "OK");
});
check("client name and id", async () => {
	const own = await connect({ clientName: "glide-shop" });
	assert.equal(await own.clientGetName(), "glide-shop");
	assert.notEqual(await own.clientId(), await client.clientId());
	own.close();
});
check("info, dbsize, time, configGet", async () => {
	assert.match(await client.info([InfoOptions.Server]), /redis_version:/);
	assert.ok((await client.dbsize()) >= 0);
	assert.equal((await client.time()).length, 2);
	assert.ok("maxmemory" in (await client.configGet(["maxmemory"])));
});
check("errors come as errors", async (k) => {
	await client.set(k, "t");
	await assert.rejects(client.incr(k), /not an integer/);
	await assert.rejects(client.customCommand(["NOSUCH"]), /unknown command/);
});
check("lists, bits, geo, hyperloglog", async (k) => {
	await client.rpush(k + "l", ["a", "b", "c"]);
	assert.deepEqual(await client.lrange(k + "l", 0, -1), ["a", "b", "c"]);
	await client.setbit(k + "b", 7, 1);
	assert.equal(await client.bitcount(k + "b"), 1);
	assert.ok(await client.pfadd(k + "h", ["a"]));
	await client.geoadd(k + "g", new Map([["P", { longitude: 13.36, latitude: 38.11 }]]));
	assert.equal((await client.geohash(k + "g", ["P"])).length, 1);
});

await runChecks();
