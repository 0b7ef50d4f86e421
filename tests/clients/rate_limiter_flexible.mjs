// SPDX-License-Identifier: BSD-2-Clause
// rate-limiter-flexible over ioredis and node-redis: scripts and transactions of INCR and PTTL, as applications use it.
import { Redis } from "ioredis";
import { BurstyRateLimiter, RateLimiterQueue, RateLimiterRedis, RLWrapperBlackAndWhite } from "rate-limiter-flexible";
import { createClient } from "redis";
import { assert, check, runChecks, until, url } from "./checks.mjs";

const io = new Redis(url, { enableOfflineQueue: false, lazyConnect: true });
await io.connect();
const node = createClient({ url });
await node.connect();

for (const [name, options] of [["ioredis", { storeClient: io }], ["node-redis", { storeClient: node, useRedisPackage: true }]]) {
	const limiter = (k, more) => new RateLimiterRedis({ ...options, keyPrefix: k, points: 5, duration: 5, ...more });

	check(`${name}: points are consumed, and refused when they are gone`, async (k) => {
		const l = limiter(k);
		for (let i = 1; i <= 5; i++) {
			const r = await l.consume("a");
			assert.deepEqual([r.consumedPoints, r.remainingPoints], [i, 5 - i]);
			assert.ok(r.msBeforeNext > 4000 && r.msBeforeNext <= 5000);
		}
		const refused = await l.consume("a").then(() => null, (r) => r);
		assert.equal(refused.remainingPoints, 0);
		assert.equal(refused.consumedPoints, 6);
		assert.equal((await l.consume("b")).consumedPoints, 1);
	});
	check(`${name}: 200 at once, exactly as many as there are points`, async (k) => {
		const l = limiter(k, { points: 77, duration: 60 });
		const done = await Promise.allSettled(Array.from({ length: 200 }, () => l.consume("a")));
		assert.equal(done.filter((r) => r.status === "fulfilled").length, 77);
	});
	check(`${name}: penalty, reward, get, set, delete, block`, async (k) => {
		const l = limiter(k, { duration: 60 });
		assert.equal((await l.penalty("a", 3)).consumedPoints, 3);
		assert.equal((await l.reward("a", 1)).consumedPoints, 2);
		assert.equal((await l.get("a")).consumedPoints, 2);
		assert.equal(await l.get("none"), null);
		await l.set("a", 4, 60);
		assert.equal((await l.get("a")).remainingPoints, 1);
		await l.block("a", 30);
		await assert.rejects(l.consume("a"), (r) => r.msBeforeNext > 25000);
		assert.equal(await l.delete("a"), true);
		assert.equal((await l.consume("a")).consumedPoints, 1);
	});
	check(`${name}: the window ends`, async (k) => {
		const l = limiter(k, { points: 1, duration: 1 });
		await l.consume("a");
		await assert.rejects(l.consume("a"), (r) => r.msBeforeNext > 0);
		await until(() => l.consume("a").then(() => true, () => false), "a new window");
	});
	check(`${name}: block duration`, async (k) => {
		const l = limiter(k, { points: 1, duration: 1, blockDuration: 60 });
		await l.consume("a");
		await assert.rejects(l.consume("a"), (r) => r.msBeforeNext > 55000);
	});
	check(`${name}: in-memory block, insurance`, async (k) => {
		const l = limiter(k, { inMemoryBlockOnConsumed: 5, inMemoryBlockDuration: 60 });
		await l.consume("a", 5);
		await assert.rejects(l.consume("a"), (r) => r.msBeforeNext > 55000);
		await assert.rejects(l.consume("a"), (r) => r.msBeforeNext > 55000);
	});
	check(`${name}: bursty`, async (k) => {
		const l = new BurstyRateLimiter(limiter(k, { points: 2, duration: 60 }), limiter(k + "burst", { points: 3, duration: 60 }));
		const done = await Promise.allSettled(Array.from({ length: 9 }, () => l.consume("a")));
		assert.equal(done.filter((r) => r.status === "fulfilled").length, 5);
	});
	check(`${name}: queue`, async (k) => {
		const q = new RateLimiterQueue(limiter(k, { points: 2, duration: 1 }), { maxQueueSize: 10 });
		const began = Date.now();
		await Promise.all(Array.from({ length: 5 }, () => q.removeTokens(1, "a")));
		assert.ok(Date.now() - began > 900);
	});
	check(`${name}: black and white lists`, async (k) => {
		const l = new RLWrapperBlackAndWhite({ limiter: limiter(k, { points: 1 }), whiteList: ["good"], blackList: ["bad"] });
		for (let i = 0; i < 3; i++)
			await l.consume("good");
		await assert.rejects(l.consume("bad"));
		await l.consume("a");
		await assert.rejects(l.consume("a"));
	});
}

await runChecks();
