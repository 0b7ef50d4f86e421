// SPDX-License-Identifier: BSD-2-Clause
// What every Node script here shares: named checks that print "ok NAME" or "not ok NAME: why", and a last line
// "done N" that tells the wrapper the script came to its end.
import assert from "node:assert/strict";

export { assert };
export const url = process.env.REDIS_URL;
export const prefix = `t:${process.pid}:${Date.now().toString(36)}:`;

const list = [];
export function check(name, fn, limitMs = 15000) {
	list.push([name, fn, limitMs]);
}

export async function runChecks() {
	const only = process.argv[2];
	let count = 0;
	let bad = 0;
	for (const [name, fn, limitMs] of list) {
		if (only && !name.includes(only))
			continue;
		count++;
		let timer;
		const late = new Promise((_, reject) => {
			timer = setTimeout(() => reject(new Error(`no result after ${limitMs} ms`)), limitMs);
		});
		try {
			await Promise.race([fn(prefix + count + ":"), late]);
			console.log(`ok ${name}`);
		} catch (e) {
			bad++;
			console.log(`not ok ${name}: ${String(e?.message ?? e).replace(/\s+/g, " ").slice(0, 400)}`);
		}
		clearTimeout(timer);
	}
	console.log(`done ${count}`);
	process.exit(bad ? 1 : 0);
}

// Waits for a condition; there is no event to wait for where this is used.
export async function until(fn, what, limitMs = 8000) {
	const end = Date.now() + limitMs;
	for (;;) {
		const value = await fn();
		if (value)
			return value;
		if (Date.now() > end)
			throw new Error(`never came true: ${what}`);
		await new Promise((r) => setTimeout(r, 5));
	}
}

export function bytes(n) {
	const b = Buffer.alloc(n);
	for (let i = 0, x = 12345; i < n; i++) {
		x = (x * 1103515245 + 12345) & 0x7fffffff;
		b[i] = x >> 16;
	}
	return b;
}

process.on("unhandledRejection", (e) => {
	console.log(`not ok unhandled: ${String(e?.message ?? e).replace(/\s+/g, " ")}`);
	process.exit(1);
});
