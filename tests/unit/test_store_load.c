/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The near-cache's memory under load: never more memory than it may have, and, with several threads that read, write,
 * forget and flush, never a value that was overwritten before the read began. KEYWEIR_STORE_SECONDS: how long each.
 */
#include <check.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cache/store.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define SLACK (512 << 10) /* pages of programs and libraries that are met for the first time */

static int64_t run_us(void)
{
	const char *seconds = getenv("KEYWEIR_STORE_SECONDS");

	return (seconds ? atoi(seconds) : 3) * 1000000LL;
}

/* xorshift: each thread its own, so that no lock of random() orders the threads. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t below(uint64_t *state, uint64_t n)
{
	return next_random(state) % n;
}

/* check's own assertions say so to their parent each time, and so would order the threads and slow them down. */
#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			ck_abort_msg("line %d: %s", __LINE__, #condition);                                             \
	} while (0)

/* ---- memory ---- */

static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long all, rss;

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%lu %lu", &all, &rss), 2);
	fclose(f);
	return rss * (size_t)sysconf(_SC_PAGESIZE);
}

/* Mostly small, sometimes large. */
static size_t random_size(uint64_t *rnd)
{
	return below(rnd, 1 + (1U << below(rnd, 20)));
}

START_TEST(memory_is_bounded)
{
	static const size_t sizes[] = {1, 100 << 10, 1 << 20, 5 << 20, 64 << 20};
	size_t max_bytes = sizes[_i], before, empty, most = 0;
	char *reply = xcalloc(1, 1 << 20), key[65];
	struct store *s;
	uint64_t rnd = 88172645463325252ULL + (uint64_t)_i, kept = 0;
	int64_t now = clock_now_us(), end = now + run_us();
	struct store_item *pins[64] = {0};
	struct store_hit *hit = xcalloc(1, sizeof(*hit));
	struct store_counts counts;

	memset(reply, 'r', 1 << 20);
	before = resident();
	s = store_new(max_bytes, 1);
	ck_assert_ptr_nonnull(s);
	max_bytes = store_bytes_max(s);
	empty = store_bytes(s);
	ck_assert_uint_le(max_bytes, sizes[_i] < (64 << 10) ? 64 << 10 : sizes[_i]);
	/* Until it is full, however slow the machine is. */
	for (unsigned n = 0; now < end || (sizes[_i] >= 1 << 20 && most <= max_bytes / 100 * 98); n++) {
		enum store_verdict verdict;
		struct flight *flight;
		struct store_landed landed;
		size_t key_len = below(&rnd, 10) ? 20 : 1 + below(&rnd, 60);
		struct store_ask ask = {.may_lead = true, .now_us = now, .truth = {1, 1}};

		snprintf(key, sizeof(key), "%064u", (unsigned)below(&rnd, 1000000));
		ask.key = (struct store_key){0, 0, key + 64 - key_len, key_len};
		ask.key.hash = store_hash(s, 0, ask.key.p, key_len);
		verdict = store_look(s, &ask, hit, &flight);
		if (verdict == STORE_LEAD) {
			struct store_landing landing = {now, reply, random_size(&rnd), now + 1000000};

			store_land(s, &flight, &landing, &landed);
			kept += landed.kept;
		} else if (verdict == STORE_HIT && hit->pinned) {
			unsigned i = below(&rnd, 64);

			if (pins[i])
				store_unpin(s, &pins[i]);
			pins[i] = hit->pinned;
		}
		if (below(&rnd, 20) == 0)
			store_forget(s, &ask.key, STORE_TRACKED, now);
		must(store_bytes(s) <= max_bytes);
		if (store_bytes(s) > most)
			most = store_bytes(s);
		if (n % 256 == 0) {
			now = clock_now_us();
			must(SANITIZED || resident() <= before + max_bytes + max_bytes / 20 + SLACK);
		}
	}
	ck_assert_uint_gt(kept, 100);
	for (int i = 0; i < 64; i++)
		if (pins[i])
			store_unpin(s, &pins[i]);
	store_flush(s, NULL, NULL);
	store_counts(s, 0, &counts);
	ck_assert_uint_eq(counts.items, 0);
	ck_assert_uint_eq(counts.bytes, 0);
	ck_assert_uint_eq(store_bytes(s), empty); /* nothing is lost */
	store_unref(&s);
	free(reply);
	free(hit);
}
END_TEST

/* ---- threads ---- */

#define N_KEYS	  200
#define N_WORKERS 4

/*
 * A server in which each key has a version. Who writes forgets, makes the new version, forgets, and then says so in
 * `told`: no look that begins afterwards may bring an older one.
 */
static struct {
	struct store *store;
	atomic_uint version[N_KEYS];
	atomic_uint told[N_KEYS];
	atomic_uint epoch;
	atomic_bool stop;
	atomic_ullong hits, joins, stale, leads, kept, pieces;
} world;

struct waiting {
	struct store_waiter waiter;
	unsigned key, at_least;
};

/* What the threads do between two looks; none of it is shared. */
struct self {
	uint64_t rnd;
	char reply[24000];
	char seen[24000];
	struct store_hit hit;
};

/* A reply says its version over and over, so that one put together of two is seen. */
static size_t make_reply(char *reply, unsigned version, size_t words)
{
	for (size_t i = 0; i < words; i++)
		memcpy(reply + i * sizeof(version), &version, sizeof(version));
	return words * sizeof(version);
}

static unsigned version_of(const char *reply, size_t len)
{
	unsigned version, other;

	must(len >= sizeof(version) && len % sizeof(version) == 0);
	memcpy(&version, reply, sizeof(version));
	for (size_t i = 0; i < len; i += sizeof(version)) {
		memcpy(&other, reply + i, sizeof(version));
		must(other == version);
	}
	return version;
}

static unsigned version_found(struct self *self)
{
	const void *at = NULL;
	size_t n, sum = 0;
	const char *p;

	if (!self->hit.pinned)
		return version_of(self->hit.data, self->hit.len);
	while ((n = store_piece(world.store, self->hit.pinned, &at, &p)) > 0) {
		memcpy(self->seen + sum, p, n);
		sum += n;
	}
	atomic_fetch_add_explicit(&world.pieces, 1, memory_order_relaxed);
	must(sum == self->hit.len);
	store_unpin(world.store, &self->hit.pinned);
	return version_of(self->seen, sum);
}

/* Now and then another thread is let in, or there is time for much to happen. */
static void pause_some(struct self *self)
{
	uint64_t what = below(&self->rnd, 64);

	if (what == 0)
		usleep(200);
	else if (what < 8)
		sched_yield();
}

static void ask_server(struct self *self, struct flight *flight, unsigned k)
{
	struct store_landing landing = {0};
	struct store_landed landed;
	unsigned version;

	pause_some(self);
	version = atomic_load(&world.version[k]);
	pause_some(self);
	landing.now_us = clock_now_us();
	landing.reply = self->reply;
	landing.len = make_reply(self->reply, version, 1 + below(&self->rnd, below(&self->rnd, 20) ? 20 : 5000));
	landing.expires_us = landing.now_us + 1 + (int64_t)below(&self->rnd, 1 << below(&self->rnd, 18));
	landing.key_expires = below(&self->rnd, 2);
	landing.any_proto = below(&self->rnd, 2);
	landing.too_large = below(&self->rnd, 50) == 0;
	if (below(&self->rnd, 20) == 0)
		landing.reply = NULL;
	store_land(world.store, &flight, &landing, &landed);
	atomic_fetch_add_explicit(&world.kept, landed.kept, memory_order_relaxed);
	must(buf_len(&landed.fallback) == 0); /* nothing is ever absent here */
	while (landed.waiters) {
		struct waiting *w = (struct waiting *)landed.waiters;

		landed.waiters = w->waiter.next;
		must(w->key == k);
		must(version >= w->at_least);
		free(w);
	}
}

static void read_one(struct self *self, unsigned k, struct store_ask *ask)
{
	struct waiting *w = xcalloc(1, sizeof(*w));
	struct flight *flight = NULL;
	unsigned found;

	w->key = k;
	w->at_least = atomic_load(&world.told[k]);
	ask->truth = (struct store_truth){1, atomic_load(&world.epoch)};
	ask->request = (struct store_request){.command = (uint16_t)below(&self->rnd, 3), .proto = 2};
	ask->request.proto += (uint8_t)below(&self->rnd, 2);
	ask->may_lead = below(&self->rnd, 50) != 0;
	ask->race_us = (int64_t)below(&self->rnd, 2) * 20000;
	ask->waiter = below(&self->rnd, 8) ? &w->waiter : NULL;
	ask->newer_us = below(&self->rnd, 8) ? 0 : ask->now_us - (int64_t)below(&self->rnd, 10000);
	switch (store_look(world.store, ask, &self->hit, &flight)) {
	case STORE_HIT:
		atomic_fetch_add_explicit(&world.hits, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&world.stale, self->hit.stale, memory_order_relaxed);
		found = version_found(self);
		must(found >= w->at_least);
		must(!ask->newer_us || self->hit.filled_us > ask->newer_us);
		break;
	case STORE_LEAD:
		atomic_fetch_add_explicit(&world.leads, 1, memory_order_relaxed);
		ask_server(self, flight, k);
		break;
	case STORE_JOIN:
		atomic_fetch_add_explicit(&world.joins, 1, memory_order_relaxed);
		return; /* it is the flight's */
	case STORE_PASS:
		break;
	}
	free(w);
}

static void told(unsigned k, unsigned version)
{
	unsigned was = atomic_load(&world.told[k]);

	while (was < version && !atomic_compare_exchange_weak(&world.told[k], &was, version))
		;
}

static void write_one(struct self *self, unsigned k, const struct store_key *key)
{
	enum store_cause cause = below(&self->rnd, 2) ? STORE_TRACKED : STORE_OWN_WRITE;
	unsigned version;

	if (cause == STORE_OWN_WRITE)
		store_forget(world.store, key, cause, clock_now_us());
	version = atomic_fetch_add(&world.version[k], 1) + 1;
	pause_some(self);
	store_forget(world.store, key, cause, clock_now_us());
	told(k, version);
}

static bool flush_some(void *ctx, uint32_t upstream, unsigned namespace, const char *key, size_t len)
{
	const struct self *self = ctx;

	(void)upstream;
	(void)namespace;
	return ((unsigned char)key[len - 1] + self->rnd) % 3 == 0;
}

/* Everything changes at once, and is not told key by key: the epoch ends. */
static void write_all(void)
{
	unsigned versions[N_KEYS];

	for (int k = 0; k < N_KEYS; k++)
		versions[k] = atomic_fetch_add(&world.version[k], 1) + 1;
	atomic_fetch_add(&world.epoch, 1);
	for (unsigned k = 0; k < N_KEYS; k++)
		told(k, versions[k]);
}

static void *work(void *arg)
{
	struct self *self = xcalloc(1, sizeof(*self));

	self->rnd = 88172645463325252ULL * (uintptr_t)arg + 1;
	while (!atomic_load_explicit(&world.stop, memory_order_relaxed)) {
		unsigned k = (unsigned)(below(&self->rnd, N_KEYS) * below(&self->rnd, N_KEYS) / N_KEYS);
		struct store_ask ask = {.now_us = clock_now_us()};
		uint64_t what = below(&self->rnd, 10000);
		char name[100];

		memset(name, 'k', sizeof(name));
		memcpy(name, &k, sizeof(k));
		ask.key = (struct store_key){0, 1, name, k % 7 ? 20 : sizeof(name)};
		ask.key.hash = store_hash(world.store, 1, name, ask.key.len);
		if (what == 0)
			store_flush(world.store, below(&self->rnd, 2) ? flush_some : NULL, self);
		else if (what == 1)
			write_all();
		else if (what < 700)
			write_one(self, k, &ask.key);
		else
			read_one(self, k, &ask);
	}
	free(self);
	return NULL;
}

START_TEST(nothing_overwritten_is_found)
{
	pthread_t threads[N_WORKERS];
	struct store_counts counts;
	int64_t end = clock_now_us() + run_us();

	world.store = store_new(300 << 10, 1); /* room for a part of it only */
	ck_assert_ptr_nonnull(world.store);
	atomic_store(&world.epoch, 1);
	for (uintptr_t i = 0; i < N_WORKERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
	while (clock_now_us() < end) {
		usleep(10000);
		ck_assert_uint_le(store_bytes(world.store), store_bytes_max(world.store));
	}
	atomic_store(&world.stop, true);
	for (int i = 0; i < N_WORKERS; i++)
		pthread_join(threads[i], NULL);
	/* All of it was met. */
	ck_assert_uint_gt(world.hits, 1000);
	ck_assert_uint_gt(world.leads, 1000);
	ck_assert_uint_gt(world.joins, 0);
	ck_assert_uint_gt(world.stale, 0);
	ck_assert_uint_gt(world.kept, 1000);
	ck_assert_uint_gt(world.pieces, 10);
	store_counts(world.store, 0, &counts);
	for (int i = 0; i < STORE_CAUSES; i++)
		ck_assert_msg(counts.gone[i] > 0 || i == STORE_OUTDATED || i == STORE_EXPIRED, "cause %d", i);
	store_flush(world.store, NULL, NULL);
	store_counts(world.store, 0, &counts);
	ck_assert_uint_eq(counts.items, 0);
	ck_assert_uint_eq(counts.bytes, 0);
	if (getenv("KEYWEIR_STORE_SECONDS"))
		printf("hits %llu (stale %llu, in pieces %llu), leads %llu, joins %llu, kept %llu\n", world.hits,
		       world.stale, world.pieces, world.leads, world.joins, world.kept);
	store_unref(&world.store);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_load");
	TCase *tc = tcase_create("load");
	SRunner *runner;
	int failed;

	if (sodium_init() < 0)
		return 1;
	tcase_set_timeout(tc, (double)run_us() / 1e6 * 5 + 60);
	tcase_add_loop_test(tc, memory_is_bounded, 0, 5);
	tcase_add_test(tc, nothing_overwritten_is_found);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
