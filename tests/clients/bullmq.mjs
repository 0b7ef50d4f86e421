// SPDX-License-Identifier: BSD-2-Clause
// BullMQ 6 over ioredis: Lua scripts with many keys, BZPOPMIN with a timeout, streams for events.
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { Redis } from "ioredis";
import { assert, check, prefix, runChecks, until, url } from "./checks.mjs";

const target = new URL(url);
const connection = { host: target.hostname, port: Number(target.port) };
const name = (k) => k.replaceAll(":", "-");
const opts = { connection, prefix: prefix.replaceAll(":", "-") };

async function workshop(k, handler, workerOptions = {}) {
	const queue = new Queue(name(k), opts);
	const events = new QueueEvents(name(k), opts);
	const worker = new Worker(name(k), handler, { ...opts, ...workerOptions });
	worker.on("error", () => {});
	await Promise.all([queue.waitUntilReady(), events.waitUntilReady(), worker.waitUntilReady()]);
	return { queue, events, worker, close: () => Promise.all([worker.close(), events.close(), queue.close()]) };
}

check("a job is done and its result comes back", async (k) => {
	const w = await workshop(k, async (job) => job.data.a + job.data.b);
	const job = await w.queue.add("add", { a: 2, b: 3 });
	assert.equal(await job.waitUntilFinished(w.events, 10000), 5);
	await w.close();
});
check("100 jobs, 5 at a time", async (k) => {
	const seen = new Set();
	const w = await workshop(k, async (job) => seen.add(job.data.n), { concurrency: 5 });
	await w.queue.addBulk(Array.from({ length: 100 }, (_, n) => ({ name: "n", data: { n } })));
	await until(() => seen.size === 100, "100 jobs");
	await until(async () => (await w.queue.getCompletedCount()) === 100, "100 completed");
	await w.close();
});
check("a job that fails is tried again, then counted as failed", async (k) => {
	let tries = 0;
	const w = await workshop(k, async () => {
		tries++;
		throw new Error("no luck");
	});
	const job = await w.queue.add("x", {}, { attempts: 3, backoff: { type: "fixed", delay: 10 } });
	await assert.rejects(job.waitUntilFinished(w.events, 10000), /no luck/);
	assert.equal(tries, 3);
	assert.equal(await w.queue.getFailedCount(), 1);
	await w.close();
});
check("a delayed job", async (k) => {
	const w = await workshop(k, async () => Date.now());
	const start = Date.now();
	const job = await w.queue.add("later", {}, { delay: 300 });
	const at = await job.waitUntilFinished(w.events, 10000);
	assert.ok(at - start >= 290, `after ${at - start} ms`);
	await w.close();
});
check("priorities", async (k) => {
	const queue = new Queue(name(k), opts);
	await queue.addBulk([5, 1, 3].map((p) => ({ name: `p${p}`, data: { p }, opts: { priority: p } })));
	const order = [];
	const worker = new Worker(name(k), async (job) => order.push(job.data.p), opts);
	await until(() => order.length === 3, "3 jobs");
	assert.deepEqual(order, [1, 3, 5]);
	await worker.close();
	await queue.close();
});
check("progress events", async (k) => {
	const w = await workshop(k, async (job) => job.updateProgress(42));
	let progress;
	w.events.on("progress", (e) => (progress = e.data));
	await w.queue.add("p", {});
	await until(() => progress === 42, "progress event");
	await w.close();
});
check("pause and resume", async (k) => {
	const done = [];
	const w = await workshop(k, async (job) => done.push(job.name));
	await w.queue.pause();
	assert.equal(await w.queue.isPaused(), true);
	await w.queue.add("a", {});
	assert.equal(done.length, 0);
	await w.queue.resume();
	await until(() => done.length === 1, "job after resume");
	await w.close();
});
check("a flow: children before their parent", async (k) => {
	const order = [];
	const w = await workshop(k, async (job) => order.push(job.name));
	const flow = new FlowProducer(opts);
	await flow.add({ name: "parent", queueName: name(k), children: [
		{ name: "c1", queueName: name(k) }, { name: "c2", queueName: name(k) }] });
	await until(() => order.length === 3, "3 jobs");
	assert.equal(order[2], "parent");
	await flow.close();
	await w.close();
});
check("job scheduler", async (k) => {
	let runs = 0;
	const w = await workshop(k, async () => runs++);
	await w.queue.upsertJobScheduler("tick", { every: 100 });
	await until(() => runs >= 3, "3 runs");
	await w.queue.removeJobScheduler("tick");
	await w.close();
});
check("counts, getJobs, remove, obliterate", async (k) => {
	const queue = new Queue(name(k), opts);
	const job = await queue.add("a", { x: 1 });
	await queue.add("b", { x: 2 });
	assert.equal((await queue.getJobCounts()).waiting, 2);
	assert.equal((await queue.getJobs(["waiting"])).length, 2);
	await job.remove();
	assert.equal(await queue.count(), 1);
	await queue.obliterate({ force: true });
	assert.equal(await queue.count(), 0);
	await queue.close();
});
check("a job id is not taken twice", async (k) => {
	const queue = new Queue(name(k), opts);
	await queue.add("a", {}, { jobId: "once" });
	await queue.add("a", {}, { jobId: "once" });
	assert.equal(await queue.count(), 1);
	await queue.obliterate({ force: true });
	await queue.close();
});
check("limiter: 2 jobs in 200 ms", async (k) => {
	const at = [];
	const w = await workshop(k, async () => at.push(Date.now()), { limiter: { max: 2, duration: 200 } });
	await w.queue.addBulk(Array.from({ length: 4 }, () => ({ name: "l", data: {} })));
	await until(() => at.length === 4, "4 jobs");
	assert.ok(at[3] - at[0] >= 150, `${at[3] - at[0]} ms`);
	await w.close();
});
check("a job of 2 MB", async (k) => {
	const text = "x".repeat(2 << 20);
	const w = await workshop(k, async (job) => job.data.text.length);
	const job = await w.queue.add("big", { text });
	assert.equal(await job.waitUntilFinished(w.events, 10000), 2 << 20);
	await w.close();
});
check("a shared ioredis connection", async (k) => {
	const shared = new Redis(url, { maxRetriesPerRequest: null });
	const queue = new Queue(name(k), { ...opts, connection: shared });
	const worker = new Worker(name(k), async () => "ok", { ...opts, connection: shared });
	const done = new Promise((resolve) => worker.on("completed", (job, r) => resolve(r)));
	await queue.add("a", {});
	assert.equal(await done, "ok");
	await worker.close();
	await queue.close();
	await shared.quit();
});
check("job logs and stalled check leave nothing behind", async (k) => {
	const w = await workshop(k, async (job) => {
		await job.log("line 1");
		await job.log("line 2");
	});
	const job = await w.queue.add("log", {});
	await job.waitUntilFinished(w.events, 10000);
	assert.deepEqual((await w.queue.getJobLogs(job.id)).logs, ["line 1", "line 2"]);
	await w.queue.drain();
	await w.close();
});

await runChecks();
