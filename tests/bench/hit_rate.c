/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The near-cache's memory, measured:
 *
 *      hit_rate rates          how often it finds what is asked for, beside other policies on the same traces
 *      hit_rate speed          what a hit costs, by one thread and by two
 *      hit_rate hits N         N hits and nothing else, to be counted by callgrind
 *
 * Rates: Zipf 0.99 over a million keys, 5 % writes, which make the kept value useless, and room for a tenth.
 */
#include <math.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "cache/store_private.h"
#include "policies.h"

#define N_KEYS 1000000
#define N_OPS  12000000
#define WARM   4000000 /* are not counted */

static uint64_t rnd = 88172645463325252ULL;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL >> 11;
}

/* ---- traces ---- */

static double *zipf_sums; /* how likely the first so many are, together */

static void zipf_init(void)
{
	double sum = 0;

	zipf_sums = xcalloc(N_KEYS, sizeof(double));
	for (int i = 0; i < N_KEYS; i++)
		zipf_sums[i] = sum += pow(i + 1, -0.99);
	for (int i = 0; i < N_KEYS; i++)
		zipf_sums[i] /= sum;
}

static uint32_t zipf(void)
{
	double x = (double)next_random(&rnd) / (double)(1ULL << 53);
	uint32_t low = 0, high = N_KEYS - 1;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (zipf_sums[middle] > x)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

enum trace_kind {
	TRACE_PLAIN,
	TRACE_SIZES, /* values of one to 64 chunks, small ones as many as large ones on a logarithmic scale */
	TRACE_DRIFT, /* what is popular changes: with every operation two keys change their places */
	TRACE_SCAN,  /* a quarter of the reads goes through all keys, one after the other */
};

static void make_trace(struct world *w, enum trace_kind kind, uint32_t *weight)
{
	uint32_t *key_of = xcalloc(N_KEYS, sizeof(uint32_t)), scan = 0;
	uint64_t all = 0;

	rnd = 88172645463325252ULL;
	for (uint32_t k = 0; k < N_KEYS; k++) {
		uint32_t other = (uint32_t)(next_random(&rnd) % (k + 1));

		key_of[k] = key_of[other];
		key_of[other] = k;
		weight[k] = kind == TRACE_SIZES ? 1U << next_random(&rnd) % 7 : 1;
		all += weight[k];
	}
	w->capacity = all / 10;
	for (uint32_t i = 0; i < w->n_ops; i++) {
		w->trace[i] = key_of[zipf()];
		if (kind == TRACE_SCAN && next_random(&rnd) % 4 == 0)
			w->trace[i] = scan++ % N_KEYS;
		else if (next_random(&rnd) % 100 < 5)
			w->trace[i] |= TRACE_WRITE;
		if (kind == TRACE_DRIFT && i % 20 == 0) {
			uint32_t a = zipf(), b = (uint32_t)(next_random(&rnd) % N_KEYS), key = key_of[a];

			key_of[a] = key_of[b];
			key_of[b] = key;
		}
	}
	free(key_of);
}

/* ---- our own store, as a policy ---- */

struct ours {
	const struct world *w;
	struct store *s;
	struct store_hit hit;
	char reply[64 * CHUNK_SIZE];
	int64_t now;
};

/* As large as has just so many chunks. */
static struct store *store_of(uint64_t chunks)
{
	size_t bytes = chunks * CHUNK_SIZE;

	for (;;) {
		struct store *s = store_new(bytes, 1);

		if (s->chunks.n >= chunks)
			return s;
		bytes += (chunks - s->chunks.n) * CHUNK_SIZE;
		store_unref(&s);
	}
}

static void *ours_make(const struct world *w)
{
	struct ours *p = xcalloc(1, sizeof(*p));

	p->w = w;
	p->s = store_of(w->capacity);
	return p;
}

static void say(struct ours *p, uint32_t key, char *name, struct store_ask *ask)
{
	p->now++;
	snprintf(name, 21, "product:%012u", key);
	*ask = (struct store_ask){
		.key = {store_hash(p->s, 0, name, 20), 0, name, 20},
		.request = {.command = 1, .proto = 2},
		.truth = {1, 1},
		.now_us = p->now,
		.may_lead = true,
	};
}

static bool ours_read(void *ctx, uint32_t i)
{
	struct ours *p = ctx;
	uint32_t key = p->w->trace[i], chunks = p->w->weight[key];
	struct flight *flight;
	struct store_ask ask;
	char name[21];

	say(p, key, name, &ask);
	if (store_look(p->s, &ask, &p->hit, &flight) == STORE_LEAD) {
		struct store_landing landing = {p->now, p->reply, 30, p->now + (1LL << 50)};
		struct store_landed landed;

		landing.len += (chunks - 1) * CHUNK_DATA;
		store_land(p->s, &flight, &landing, &landed);
		return false;
	}
	if (p->hit.pinned)
		store_unpin(p->s, &p->hit.pinned);
	return true;
}

static void ours_write(void *ctx, uint32_t i)
{
	struct ours *p = ctx;
	struct store_ask ask;
	char name[21];

	say(p, p->w->trace[i] & ~TRACE_WRITE, name, &ask);
	store_forget(p->s, &ask.key, STORE_TRACKED, p->now);
}

static void ours_fini(void *ctx)
{
	struct ours *p = ctx;

	store_unref(&p->s);
	free(p);
}

const struct policy policy_store = {"Keyweir's store", ours_make, ours_read, ours_write, ours_fini};

/* ---- rates ---- */

static double rate(const struct policy *policy, const struct world *w)
{
	void *p = policy->make(w);
	uint32_t reads = 0, hits = 0;

	for (uint32_t i = 0; i < w->n_ops; i++) {
		if (w->trace[i] & TRACE_WRITE) {
			policy->write(p, i);
		} else {
			bool hit = policy->read(p, i);

			reads += i >= WARM;
			hits += i >= WARM && hit;
		}
	}
	policy->fini(p);
	return 100.0 * hits / reads;
}

static int rates(void)
{
	static const struct policy *const policies[] = {&policy_lru,   &policy_s3fifo, &policy_tinylfu,
							&policy_store, &policy_static, &policy_belady};
	static const char *const names[] = {"zipf", "sizes", "drift", "scan"};
	uint32_t *weight = xcalloc(N_KEYS, sizeof(uint32_t));
	struct world w = {.n_keys = N_KEYS, .weight = weight, .n_ops = N_OPS};
	int bad = 0;

	w.trace = xcalloc(N_OPS, sizeof(uint32_t));
	zipf_init();
	printf("hit rate of reads in %%: Zipf 0.99, %d keys, 5 %% writes, room for a tenth\n%-16s", N_KEYS, "");
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
		printf("%16s", policies[i]->name);
	printf("\n");
	for (int kind = 0; kind < 4; kind++) {
		double best = 0, ours = 0;

		w.name = names[kind];
		make_trace(&w, (enum trace_kind)kind, weight);
		printf("%-16s", w.name);
		for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
			double r = rate(policies[i], &w);

			if (i < 3 && r > best)
				best = r;
			if (policies[i] == &policy_store)
				ours = r;
			printf("%16.2f", r);
			fflush(stdout);
		}
		printf("   %+.2f to the best online one\n", ours - best);
		bad += ours < best - 3;
	}
	free(w.trace);
	free(weight);
	free(zipf_sums);
	return bad ? 1 : 0;
}

/* ---- speed ---- */

#define HOT 10000

struct reader {
	struct store *s;
	uint64_t n;
	uint64_t rnd;
	uint64_t found;
	double ns; /* of the thread's own time, for a hit */
	char (*names)[21];
};

static void *read_hits(void *arg)
{
	struct reader *r = arg;
	struct store_hit *hit = xcalloc(1, sizeof(*hit));
	struct store_ask ask = {.request = {.command = 1, .proto = 2}, .truth = {1, 1}, .now_us = 1, .may_lead = true};
	struct timespec began, ended;
	struct flight *flight;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
	for (uint64_t i = 0; i < r->n; i++) {
		const char *name = r->names[next_random(&r->rnd) % HOT];

		ask.key = (struct store_key){store_hash(r->s, 0, name, 20), 0, name, 20};
		r->found += store_look(r->s, &ask, hit, &flight) == STORE_HIT;
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended);
	r->ns = ((double)(ended.tv_sec - began.tv_sec) * 1e9 + (double)(ended.tv_nsec - began.tv_nsec)) / (double)r->n;
	free(hit);
	return NULL;
}

static struct reader reader_new(void)
{
	struct reader r = {.s = store_new(64 << 20, 1), .rnd = 12345};
	struct store_landed landed;
	struct flight *flight;
	struct store_hit hit;

	r.names = xcalloc(HOT, sizeof(*r.names));
	for (unsigned i = 0; i < HOT; i++) {
		struct store_ask ask = {.request = {.command = 1, .proto = 2}, .truth = {1, 1}, .may_lead = true};
		struct store_landing landing = {0, "$3\r\nabc\r\n", 9, 1LL << 50};

		snprintf(r.names[i], 21, "product:%012u", i);
		ask.key = (struct store_key){store_hash(r.s, 0, r.names[i], 20), 0, r.names[i], 20};
		if (store_look(r.s, &ask, &hit, &flight) == STORE_LEAD)
			store_land(r.s, &flight, &landing, &landed);
	}
	return r;
}

static void reader_free(struct reader *r)
{
	store_unref(&r->s);
	free(r->names);
}

static int hits(uint64_t n)
{
	struct reader r = reader_new();

	r.n = n;
	read_hits(&r);
	reader_free(&r);
	return r.found == n ? 0 : 1;
}

static int speed(void)
{
	struct reader r = reader_new(), readers[2];
	uint64_t n = 20000000;
	pthread_t threads[2];

	for (int n_threads = 1; n_threads <= 2; n_threads++) {
		for (int i = 0; i < n_threads; i++) {
			readers[i] = r;
			readers[i].n = n;
			readers[i].rnd += (uint64_t)i * 1000003;
			pthread_create(&threads[i], NULL, read_hits, &readers[i]);
		}
		for (int i = 0; i < n_threads; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < n_threads; i++)
			printf("thread %d of %d: %.1f ns a hit\n", i + 1, n_threads, readers[i].ns);
	}
	reader_free(&r);
	return 0;
}

int main(int argc, char **argv)
{
	if (sodium_init() < 0)
		return 1;
	if (argc == 2 && strcmp(argv[1], "rates") == 0)
		return rates();
	if (argc == 2 && strcmp(argv[1], "speed") == 0)
		return speed();
	if (argc == 3 && strcmp(argv[1], "hits") == 0)
		return hits(strtoull(argv[2], NULL, 10));
	fprintf(stderr, "usage: hit_rate rates | speed | hits N\n");
	return 2;
}
