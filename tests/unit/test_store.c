/* SPDX-License-Identifier: BSD-2-Clause */
/* The near-cache's memory (src/cache/): verdicts, flights, what is forgotten, race_condition_ttl, bounds. */
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

#define S   1000000LL /* a second, in microseconds */
#define MS  1000LL
#define GET 7

static struct store *store;
static struct store_hit hit;
static struct flight *flight;
static struct store_landed landed;
static int64_t now;

static void setup(void)
{
	store = store_new(4 << 20, 3);
	ck_assert_ptr_nonnull(store);
	now = 1000 * S;
	flight = NULL;
}

static void teardown(void)
{
	store_unref(&store);
}

/* ---- a short way to say things ---- */

static struct store_key key_of(const char *p, size_t len)
{
	return (struct store_key){store_hash(store, 1, p, len), 1, p, len};
}

static struct store_ask ask_for(const char *key)
{
	return (struct store_ask){
		.key = key_of(key, strlen(key)),
		.request = {.command = GET, .proto = 2},
		.truth = {5, 1},
		.now_us = now,
		.namespace = 1,
		.may_lead = true,
	};
}

static enum store_verdict look(const struct store_ask *ask)
{
	flight = NULL;
	return store_look(store, ask, &hit, &flight);
}

static enum store_verdict look_key(const char *key)
{
	struct store_ask ask = ask_for(key);

	return look(&ask);
}

static struct store_landing reply_of(const char *reply)
{
	return (struct store_landing){
		.now_us = now,
		.reply = reply,
		.len = reply ? strlen(reply) : 0,
		.expires_us = now + 10 * S,
	};
}

static bool land(struct flight **f, const struct store_landing *landing)
{
	buf_release(&landed.fallback);
	store_land(store, f, landing, &landed);
	ck_assert_ptr_null(*f);
	return landed.kept;
}

static bool land_reply(struct flight **f, const char *reply)
{
	struct store_landing landing = reply_of(reply);

	return land(f, &landing);
}

static void fill_ask(const struct store_ask *ask, const char *reply)
{
	ck_assert_int_eq(look(ask), STORE_LEAD);
	ck_assert(land_reply(&flight, reply));
}

static void fill(const char *key, const char *reply)
{
	struct store_ask ask = ask_for(key);

	fill_ask(&ask, reply);
}

static void fails(const char *key) /* a leader that brings nothing, so that nothing is left over */
{
	ck_assert_int_eq(look_key(key), STORE_LEAD);
	ck_assert(!land_reply(&flight, NULL));
}

static void forget(const char *key, enum store_cause cause)
{
	struct store_key k = key_of(key, strlen(key));

	store_forget(store, &k, cause, now);
}

#define assert_hit(ask, reply)                                                                                         \
	do {                                                                                                           \
		ck_assert_int_eq(look(ask), STORE_HIT);                                                                \
		ck_assert_uint_eq(hit.len, strlen(reply));                                                             \
		ck_assert_mem_eq(hit.data, reply, hit.len);                                                            \
	} while (0)

#define assert_hit_key(key, reply)                                                                                     \
	do {                                                                                                           \
		struct store_ask ask_of_key = ask_for(key);                                                            \
		assert_hit(&ask_of_key, reply);                                                                        \
		ck_assert(!hit.stale);                                                                                 \
	} while (0)

static struct store_counts counts_now(unsigned namespace)
{
	struct store_counts counts;

	store_counts(store, namespace, &counts);
	return counts;
}

/* ---- verdicts ---- */

START_TEST(leads_then_hits)
{
	struct store_ask ask = ask_for("k");
	int64_t began = now;

	ck_assert_int_eq(look(&ask), STORE_LEAD);
	now += 3 * MS;
	ck_assert(land_reply(&flight, "$1\r\nv\r\n"));
	ck_assert_ptr_null(landed.waiters);
	now += 3 * MS;
	assert_hit_key("k", "$1\r\nv\r\n");
	ck_assert_int_eq(hit.filled_us, began);
	ck_assert_ptr_null(hit.pinned);
	ck_assert_int_eq(look_key("K"), STORE_LEAD);
	ck_assert(!land_reply(&flight, NULL));
}
END_TEST

START_TEST(item_is_known_by_all_of_its_request)
{
	struct store_ask ask = ask_for("k"), other;

	ask.request.args = "$1\r\nf\r\n";
	ask.request.args_len = 7;
	fill_ask(&ask, "one");
	assert_hit(&ask, "one");
	for (int what = 0; what < 8; what++) {
		other = ask;
		if (what == 0)
			other.request.command++;
		else if (what == 1)
			other.request.db = 1;
		else if (what == 2)
			other.request.proto = 3;
		else if (what == 3)
			other.request.args = "$1\r\ng\r\n";
		else if (what == 4)
			other.request.args_len = 6;
		else if (what == 5)
			other.key.upstream = 2; /* with the same hash, as it never is */
		else if (what == 6)
			other.truth.node = 6;
		else
			other.truth.epoch = 2;
		ck_assert_int_eq(look(&other), STORE_LEAD);
		land_reply(&flight, NULL);
	}
	assert_hit(&ask, "one");
	ck_assert(store_hash(store, 1, "k", 1) != store_hash(store, 2, "k", 1));
}
END_TEST

START_TEST(both_protocols_find_what_is_alike)
{
	struct store_ask ask2 = ask_for("k"), ask3 = ask2;
	struct store_landing landing = reply_of("$1\r\nv\r\n");

	ask3.request.proto = 3;
	fill_ask(&ask3, "old, of 3");
	ck_assert_int_eq(look(&ask2), STORE_LEAD);
	landing.any_proto = true;
	ck_assert(land(&flight, &landing));
	assert_hit(&ask2, "$1\r\nv\r\n");
	assert_hit(&ask3, "$1\r\nv\r\n");
	ck_assert_uint_eq(counts_now(1).items, 1);
}
END_TEST

START_TEST(may_not_lead)
{
	struct store_ask ask = ask_for("k");

	ask.may_lead = false;
	ck_assert_int_eq(look(&ask), STORE_PASS);
	ck_assert_ptr_null(flight);
	fill("k", "v");
	assert_hit(&ask, "v");
}
END_TEST

START_TEST(time_is_over_at_its_end)
{
	struct store_ask ask = ask_for("k");

	fill("k", "v");
	ask.now_us = now + 10 * S - 1;
	assert_hit(&ask, "v");
	ask.now_us = now + 10 * S;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	now += 10 * S;
	ck_assert(land_reply(&flight, "w"));
	assert_hit_key("k", "w");
	ck_assert_uint_eq(counts_now(1).gone[STORE_REPLACED], 1);
}
END_TEST

START_TEST(what_is_over_when_it_lands_is_not_kept)
{
	struct store_landing landing = reply_of("v");

	ck_assert_int_eq(look_key("k"), STORE_LEAD);
	landing.expires_us = now;
	ck_assert(!land(&flight, &landing));
	fails("k");
}
END_TEST

START_TEST(only_newer)
{
	struct store_ask ask = ask_for("k");

	fill("k", "v");
	ask.newer_us = now - 1;
	assert_hit(&ask, "v");
	ask.newer_us = now;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(!land_reply(&flight, NULL));
	assert_hit_key("k", "v"); /* for others it is good still */
	ask.now_us = ++now;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(land_reply(&flight, "w"));
	assert_hit(&ask, "w");
}
END_TEST

START_TEST(too_large_passes_for_a_while)
{
	struct store_landing landing = reply_of(NULL);
	struct store_waiter waiter;
	struct store_ask ask = ask_for("k");

	landing.too_large = true;
	ck_assert_int_eq(look_key("k"), STORE_LEAD);
	ck_assert(!land(&flight, &landing));
	ask.waiter = &waiter;
	ck_assert_int_eq(look(&ask), STORE_PASS);
	ck_assert(!store_find_last(store, &ask.key, &ask.request, &hit, &(struct store_last){{0}}));
	forget("k", STORE_TRACKED);
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(!land(&flight, &landing));
	ck_assert_int_eq(look(&ask), STORE_PASS);
	now += 6 * S;
	fill("k", "smaller");
	assert_hit_key("k", "smaller");
}
END_TEST

/* One item takes no more than a third of everything. */
START_TEST(larger_than_the_store_is_too_large)
{
	char *big = xcalloc(1, 1 << 21);
	struct store_landing landing = reply_of("");

	landing.reply = big;
	landing.len = 1 << 21;
	ck_assert_int_eq(look_key("k"), STORE_LEAD);
	ck_assert(!land(&flight, &landing));
	ck_assert_int_eq(look_key("k"), STORE_PASS);
	free(big);
}
END_TEST

/* ---- flights ---- */

START_TEST(who_comes_meanwhile_joins)
{
	struct store_waiter w[3] = {{.worker = &w[0]}, {.worker = &w[1]}, {.worker = &w[2]}};
	struct store_ask ask = ask_for("k");
	struct flight *first;

	ask.waiter = &w[0];
	ck_assert_int_eq(look(&ask), STORE_LEAD); /* there was nothing to join */
	first = flight;
	for (int i = 0; i < 3; i++) {
		ask.waiter = &w[i];
		ck_assert_int_eq(look(&ask), STORE_JOIN);
		ck_assert_ptr_null(flight);
	}
	ck_assert(land_reply(&first, "v"));
	ck_assert_ptr_eq(landed.waiters, &w[0]);
	ck_assert_ptr_eq(w[0].next, &w[1]);
	ck_assert_ptr_eq(w[1].next, &w[2]);
	ck_assert_ptr_null(w[2].next);
	ck_assert_int_eq(look(&ask), STORE_HIT);
}
END_TEST

START_TEST(who_does_not_join_leads)
{
	struct store_waiter w;
	struct store_ask ask = ask_for("k"), other;
	struct flight *first, *more[6];

	ck_assert_int_eq(look(&ask), STORE_LEAD);
	first = flight;
	ask.waiter = &w;
	for (int what = 0; what < 6; what++) {
		other = ask;
		if (what == 0)
			other.waiter = NULL;
		else if (what == 1)
			other.truth.epoch++;
		else if (what == 2)
			other.truth.node++;
		else if (what == 3)
			other.request.proto = 3;
		else if (what == 4)
			other.newer_us = now;
		else
			other.now_us += 100 * MS + 1;
		ck_assert_msg(look(&other) == STORE_LEAD, "%d", what);
		more[what] = flight;
	}
	other = ask;
	other.may_lead = false;
	ck_assert_int_eq(look(&other), STORE_JOIN);
	for (int what = 0; what < 5; what++) {
		land_reply(&more[what], NULL);
		ck_assert_ptr_null(landed.waiters);
	}
	/* `other` joined the newest of those it may: the one that leads since 100 ms later. */
	land_reply(&first, NULL);
	ck_assert_ptr_null(landed.waiters);
	land_reply(&more[5], NULL);
	ck_assert_ptr_eq(landed.waiters, &w);
}
END_TEST

START_TEST(a_flight_of_100_ms_is_joined)
{
	struct store_waiter w;
	struct store_ask ask = ask_for("k");
	struct flight *first;

	ck_assert_int_eq(look(&ask), STORE_LEAD);
	first = flight;
	ask.waiter = &w;
	ask.now_us += 100 * MS;
	ask.newer_us = now - 1;
	ck_assert_int_eq(look(&ask), STORE_JOIN);
	land_reply(&first, NULL);
	ck_assert_ptr_eq(landed.waiters, &w);
}
END_TEST

START_TEST(killed_flight_tells_and_keeps_nothing)
{
	static const enum store_cause causes[] = {STORE_TRACKED, STORE_OWN_WRITE, STORE_FLUSHED};
	struct store_waiter w[2];
	struct store_ask ask = ask_for("k");
	struct flight *first, *second;

	for (unsigned i = 0; i < 3; i++) {
		ask.waiter = &w[0];
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		first = flight;
		ck_assert_int_eq(look(&ask), STORE_JOIN);
		if (causes[i] == STORE_FLUSHED)
			store_flush(store, NULL, NULL);
		else
			forget("k", causes[i]);
		ask.waiter = &w[1];
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		second = flight;
		ck_assert(!land_reply(&first, "old"));
		ck_assert_ptr_eq(landed.waiters, &w[0]);
		ck_assert(land_reply(&second, "new"));
		ck_assert_ptr_null(landed.waiters);
		assert_hit(&ask, "new");
		forget("k", STORE_TRACKED);
	}
}
END_TEST

/* The reply of a flight that began earlier and was slower does not take the place of a newer one. */
START_TEST(slow_flight_does_not_overtake)
{
	struct flight *slow;

	ck_assert_int_eq(look_key("k"), STORE_LEAD);
	slow = flight;
	now += 200 * MS;
	fill("k", "new");
	ck_assert(!land_reply(&slow, "old"));
	assert_hit_key("k", "new");
}
END_TEST

/* A killed one neither, nor does it remove what came after it. */
START_TEST(killed_flight_leaves_what_is_newer)
{
	struct flight *slow;

	ck_assert_int_eq(look_key("k"), STORE_LEAD);
	slow = flight;
	forget("k", STORE_TRACKED);
	now += 1;
	fill("k", "new");
	ck_assert(!land_reply(&slow, "old"));
	assert_hit_key("k", "new");
}
END_TEST

/* The truth that counts is the flight's: an epoch that ended meanwhile makes the item useless by itself. */
START_TEST(epoch_ends_under_a_flight)
{
	struct store_ask ask = ask_for("k");

	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(land_reply(&flight, "of epoch 1"));
	ask.truth.epoch = 2;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(land_reply(&flight, "of epoch 2"));
	assert_hit(&ask, "of epoch 2");
	ck_assert_uint_eq(counts_now(1).items, 1);
}
END_TEST

START_TEST(flights_outlive_the_store)
{
	struct store_waiter w;
	struct store_ask ask = ask_for("k");
	struct flight *f;

	ck_assert_int_eq(look(&ask), STORE_LEAD);
	f = flight;
	ask.waiter = &w;
	ck_assert_int_eq(look(&ask), STORE_JOIN);
	store_unref(&store);
	ck_assert(!land_reply(&f, "v"));
	ck_assert_ptr_eq(landed.waiters, &w);
}
END_TEST

/* ---- race_condition_ttl ---- */

static struct store_ask race_ask(const char *key)
{
	struct store_ask ask = ask_for(key);

	ask.race_us = 5 * S;
	return ask;
}

/* A value that expires by its own time, ten seconds from now. */
static void race_fill(const char *key, const char *reply)
{
	struct store_ask ask = race_ask(key);
	struct store_landing landing = reply_of(reply);

	ck_assert_int_eq(look(&ask), STORE_LEAD);
	landing.key_expires = true;
	ck_assert(land(&flight, &landing));
}

static bool land_absent(struct flight **f)
{
	struct store_landing landing = reply_of("$-1\r\n");

	landing.absent = true;
	return land(f, &landing);
}

#define assert_stale(ask, reply)                                                                                       \
	do {                                                                                                           \
		assert_hit(ask, reply);                                                                                \
		ck_assert(hit.stale);                                                                                  \
	} while (0)

#define assert_fallback(reply)                                                                                         \
	do {                                                                                                           \
		ck_assert_uint_eq(buf_len(&landed.fallback), strlen(reply));                                           \
		ck_assert_mem_eq(buf_head(&landed.fallback), reply, strlen(reply));                                    \
	} while (0)

START_TEST(race_one_makes_others_get_the_old)
{
	struct store_ask ask;
	struct flight *maker;

	race_fill("k", "old");
	now += 10 * S;
	ask = race_ask("k");
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	maker = flight;
	assert_stale(&ask, "old");
	ck_assert(!land_absent(&maker));
	ck_assert(landed.makes);
	ck_assert_uint_eq(buf_len(&landed.fallback), 0); /* its own client makes the value */
	assert_stale(&ask, "old");
	forget("k", STORE_OWN_WRITE);
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(land_reply(&flight, "new"));
	assert_hit(&ask, "new");
	ck_assert(!hit.stale);
}
END_TEST

START_TEST(race_has_an_end)
{
	struct store_ask ask;

	race_fill("k", "old");
	now += 10 * S;
	ask = race_ask("k");
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(!land_absent(&flight));
	ask.now_us = now + 5 * S - 1;
	assert_stale(&ask, "old");
	ask.now_us = now += 5 * S;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(land_absent(&flight)); /* from now on it is absent, and that is kept */
	assert_hit(&ask, "$-1\r\n");
	ck_assert(!hit.stale);
}
END_TEST

/* Redis tells of the expiry itself, before or after the first leader's reply. */
START_TEST(race_expiry_is_told)
{
	for (int late = 0; late < 2; late++) {
		struct store_waiter w;
		struct store_ask ask;
		struct flight *maker, *second;

		race_fill("k", "old");
		now += 10 * S;
		ask = race_ask("k");
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		maker = flight;
		if (late)
			ck_assert(!land_absent(&maker));
		forget("k", STORE_TRACKED);
		ck_assert_int_eq(look(&ask), STORE_LEAD); /* it may have been the new value */
		second = flight;
		ask.waiter = &w;
		ck_assert_int_eq(look(&ask), STORE_JOIN);
		if (!late) {
			ck_assert(!land_absent(&maker));
			ck_assert(landed.makes);
			ck_assert_uint_eq(buf_len(&landed.fallback), 0);
			ck_assert_ptr_null(landed.waiters);
		}
		ck_assert(!land_absent(&second));
		ck_assert(!landed.makes);
		assert_fallback("old");
		ck_assert_ptr_eq(landed.waiters, &w);
		assert_stale(&ask, "old");
		forget("k", STORE_OWN_WRITE);
	}
}
END_TEST

/* The expiry is told before anybody asks: the first leader makes the value, those who joined it get the old one. */
START_TEST(race_expiry_is_told_first)
{
	struct store_waiter w;
	struct store_ask ask;
	struct flight *maker;

	race_fill("k", "old");
	now += 11 * S;
	forget("k", STORE_TRACKED);
	ask = race_ask("k");
	ask.waiter = &w;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	maker = flight;
	ck_assert_int_eq(look(&ask), STORE_JOIN);
	ck_assert(!land_absent(&maker));
	ck_assert(landed.makes);
	assert_fallback("old");
	ck_assert_ptr_eq(landed.waiters, &w);
	assert_stale(&ask, "old");
}
END_TEST

/* The new value is told of: the next one finds it, and nobody sees the old one any more. */
START_TEST(race_new_value_is_told)
{
	for (int killed = 0; killed < 2; killed++) {
		struct store_ask ask;
		struct flight *f;

		race_fill("k", "old");
		now += 10 * S;
		ask = race_ask("k");
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		ck_assert(!land_absent(&flight));
		forget("k", STORE_TRACKED);
		ask.now_us = ++now;
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		f = flight;
		if (killed)
			forget("k", STORE_TRACKED);
		ck_assert(land_reply(&f, "new") == !killed);
		ck_assert_uint_eq(buf_len(&landed.fallback), 0);
		if (killed) {
			fails("k");
			ck_assert(!store_find_last(store, &ask.key, &ask.request, &hit, &(struct store_last){{0}}));
		} else {
			assert_hit(&ask, "new");
		}
		forget("k", STORE_OWN_WRITE);
	}
}
END_TEST

START_TEST(race_never_for_what_was_overwritten)
{
	static const enum store_cause causes[] = {STORE_TRACKED, STORE_OWN_WRITE, STORE_FLUSHED};
	struct store_ask ask;

	for (unsigned i = 0; i < 3; i++) {
		race_fill("k", "old");
		now += 10 * S - 1;
		forget("k", causes[i]); /* before its time was over */
		now += 1;
		ask = race_ask("k");
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		ck_assert(land_absent(&flight));
		ck_assert(!landed.makes);
		ck_assert_uint_eq(buf_len(&landed.fallback), 0);
		forget("k", STORE_OWN_WRITE);
	}
	for (unsigned i = 1; i < 3; i++) { /* past it, by other causes */
		race_fill("k", "old");
		now += 10 * S;
		forget("k", causes[i]);
		ask = race_ask("k");
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		ck_assert(land_absent(&flight));
		ck_assert_uint_eq(buf_len(&landed.fallback), 0);
		forget("k", STORE_OWN_WRITE);
	}
	race_fill("k", "old"); /* past all of it */
	now += 15 * S;
	forget("k", STORE_TRACKED);
	ck_assert_uint_eq(counts_now(1).items, 0);
}
END_TEST

START_TEST(race_is_for_the_keys_own_time_only)
{
	struct store_ask ask = race_ask("k");

	fill_ask(&ask, "old"); /* a limit of the cache's */
	now += 10 * S;
	ask.now_us = now;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert_int_eq(land_absent(&flight), true);
	ck_assert(!landed.makes);
	ck_assert_uint_eq(buf_len(&landed.fallback), 0);
}
END_TEST

START_TEST(race_a_leader_that_fails_makes_room)
{
	struct store_ask ask;

	race_fill("k", "old");
	now += 10 * S;
	ask = race_ask("k");
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(!land_reply(&flight, NULL));
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(!land_absent(&flight));
	ck_assert(landed.makes);
	assert_stale(&ask, "old");
}
END_TEST

/* One who must not see what is older neither gets the old value nor joins a flight that may bring it. */
START_TEST(race_not_behind_a_fence)
{
	struct store_waiter w;
	struct store_ask ask, fenced;
	struct flight *second;

	race_fill("k", "old");
	now += 11 * S;
	forget("k", STORE_TRACKED);
	ask = race_ask("k");
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	second = flight;
	fenced = ask;
	fenced.newer_us = now - S;
	fenced.waiter = &w;
	ck_assert_int_eq(look(&fenced), STORE_LEAD);
	ck_assert(!land_absent(&flight));
	ck_assert_uint_eq(buf_len(&landed.fallback), 0);
	ck_assert(!land_absent(&second));
	assert_stale(&ask, "old");
}
END_TEST

START_TEST(race_not_of_another_epoch)
{
	struct store_ask ask;

	race_fill("k", "old");
	now += 10 * S;
	ask = race_ask("k");
	ask.truth.epoch++;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(land_absent(&flight));
	assert_hit(&ask, "$-1\r\n");
	ck_assert_uint_eq(buf_len(&landed.fallback), 0);
}
END_TEST

START_TEST(race_a_large_old_value)
{
	char *big = xcalloc(1, 100001);
	struct store_ask ask;
	struct flight *second;

	memset(big, 'x', 100000);
	big[99999] = 'y';
	race_fill("k", big);
	now += 10 * S;
	ask = race_ask("k");
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(!land_absent(&flight));
	forget("k", STORE_TRACKED);
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	second = flight;
	ck_assert(!land_absent(&second));
	assert_fallback(big);
	free(big);
}
END_TEST

/* ---- what is forgotten ---- */

START_TEST(forgets_all_requests_of_a_key)
{
	struct store_ask ask = ask_for("k");

	for (int i = 0; i < 10; i++) {
		ask.request.command = (uint16_t)i;
		fill_ask(&ask, "v");
	}
	fill("other", "v");
	forget("k", STORE_TRACKED);
	for (int i = 0; i < 10; i++) {
		ask.request.command = (uint16_t)i;
		ck_assert_int_eq(look(&ask), STORE_LEAD);
		land_reply(&flight, NULL);
	}
	assert_hit_key("other", "v");
	ck_assert_uint_eq(counts_now(1).gone[STORE_TRACKED], 10);
	ck_assert_uint_eq(counts_now(1).items, 1);
}
END_TEST

static bool begins_with_a(void *ctx, uint32_t upstream, unsigned namespace, const char *key, size_t len)
{
	(void)ctx;
	ck_assert_uint_eq(upstream, 1);
	ck_assert_uint_eq(namespace, 1);
	return len > 0 && key[0] == 'a';
}

START_TEST(flush_chooses)
{
	char key[400], text[16];
	struct flight *a, *b;
	struct store_ask ask;

	memset(key, 'a', sizeof(key) - 1); /* one that needs several chunks */
	key[sizeof(key) - 1] = '\0';
	fill(key, "long");
	for (int i = 0; i < 500; i++) {
		snprintf(text, sizeof(text), "%c%d", i % 2 ? 'a' : 'b', i);
		fill(text, text);
	}
	ask = ask_for("a-flight");
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	a = flight;
	ask = ask_for("b-flight");
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	b = flight;
	ck_assert_uint_eq(store_flush(store, begins_with_a, NULL), 251);
	ck_assert(!land_reply(&a, "v"));
	ck_assert(land_reply(&b, "v"));
	fails("a1");
	fails(key);
	assert_hit_key("b2", "b2");
	ck_assert_uint_eq(counts_now(1).gone[STORE_FLUSHED], 251);
	ck_assert_uint_eq(store_flush(store, NULL, NULL), 251);
	ck_assert_uint_eq(counts_now(1).items, 0);
	ck_assert_uint_eq(counts_now(1).bytes, 0);
}
END_TEST

START_TEST(last_is_found_however_old)
{
	struct store_ask ask = ask_for("k");
	struct store_last last;

	ck_assert(!store_find_last(store, &ask.key, &ask.request, &hit, &last));
	fill("k", "v");
	now += 3600 * S;
	ask.truth.epoch = 9;
	ask.now_us = now;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	ck_assert(!land_reply(&flight, NULL));
	ck_assert(store_find_last(store, &ask.key, &ask.request, &hit, &last));
	ck_assert_uint_eq(last.truth.node, 5);
	ck_assert_uint_eq(last.truth.epoch, 1);
	ck_assert_int_eq(last.expires_us, now - 3590 * S);
	ck_assert_uint_eq(hit.len, 1);
	ck_assert(hit.stale);
	forget("k", STORE_OWN_WRITE);
	ck_assert(!store_find_last(store, &ask.key, &ask.request, &hit, &last));
}
END_TEST

/* ---- sizes ---- */

static void get_all(const char *expected, size_t len)
{
	ck_assert_uint_eq(hit.len, len);
	if (hit.pinned) {
		const void *at = NULL;
		const char *p;
		size_t n, sum = 0;

		while ((n = store_piece(store, hit.pinned, &at, &p)) > 0) {
			ck_assert_uint_le(sum + n, len);
			ck_assert_mem_eq(p, expected + sum, n);
			sum += n;
		}
		ck_assert_uint_eq(sum, len);
		store_unpin(store, &hit.pinned);
		ck_assert_ptr_null(hit.pinned);
	} else {
		ck_assert_mem_eq(hit.data, expected, len);
	}
}

/* Every length of key, arguments and reply around the ends of chunks. */
START_TEST(sizes)
{
	static const size_t args_len[] = {0, 1, 35, 36, 37, 123, 124, 125, 5000, 65535};
	static const size_t reply_len[] = {0,	1,   10,  31,  32,   33,   36,	 56,   123,  124,  125,
					   180, 248, 249, 372, 4095, 4096, 4097, 4220, 4221, 10000};
	static const size_t key_len[] = {0, 1, 20, 55, 56, 57, 180, 181, 512, 65535};
	char *bytes = xcalloc(1, 70000), *reply = xcalloc(1, 20000);

	randombytes_buf(bytes, 70000);
	randombytes_buf(reply, 20000);
	for (size_t k = 0; k < sizeof(key_len) / sizeof(key_len[0]); k++)
		for (size_t a = 0; a < sizeof(args_len) / sizeof(args_len[0]); a++)
			for (size_t r = 0; r < sizeof(reply_len) / sizeof(reply_len[0]); r++) {
				struct store_ask ask = ask_for("");
				struct store_landing landing = reply_of("");

				ask.key = key_of(bytes, key_len[k]);
				ask.request.args = args_len[a] ? bytes + 3 : NULL;
				ask.request.args_len = args_len[a];
				landing.reply = reply;
				landing.len = reply_len[r];
				ck_assert_int_eq(look(&ask), STORE_LEAD);
				ck_assert(land(&flight, &landing));
				ck_assert_int_eq(look(&ask), STORE_HIT);
				ck_assert_int_eq(hit.pinned != NULL, reply_len[r] > STORE_COPY_MAX);
				get_all(reply, reply_len[r]);
				store_forget_hash(store, ask.key.hash, STORE_TRACKED, now);
				ck_assert_int_eq(look(&ask), STORE_LEAD);
				ck_assert(!land_reply(&flight, NULL));
			}
	ck_assert_uint_eq(counts_now(1).items, 0);
	free(bytes);
	free(reply);
}
END_TEST

START_TEST(names_too_long_pass)
{
	char *bytes = xcalloc(1, 70000);
	struct store_ask ask = ask_for("k");

	ask.request.args = bytes;
	ask.request.args_len = 65536;
	ck_assert_int_eq(look(&ask), STORE_PASS);
	ask.request.args_len = 0;
	ask.key = key_of(bytes, 65536);
	ck_assert_int_eq(look(&ask), STORE_PASS);
	free(bytes);
}
END_TEST

/* A GET of a short value by a key of 20 bytes is one chunk; so the bytes tell. */
START_TEST(short_values_need_one_chunk)
{
	fill("12345678901234567890", "$29\r\n12345678901234567890123456789\r\n");
	ck_assert_uint_eq(counts_now(1).bytes, 128);
	ck_assert_uint_eq(counts_now(1).items, 1);
	ck_assert_uint_eq(counts_now(1).fills, 1);
	ck_assert_uint_eq(counts_now(0).items, 0);
}
END_TEST

START_TEST(requests_of_a_key_are_bounded)
{
	struct store_ask ask = ask_for("k");

	for (int i = 0; i < 3 * STORE_REQUESTS_MAX; i++) {
		ask.request.command = (uint16_t)i;
		ask.now_us = ++now;
		fill_ask(&ask, "v");
	}
	ck_assert_uint_eq(counts_now(1).items, STORE_REQUESTS_MAX);
	for (int i = 2 * STORE_REQUESTS_MAX; i < 3 * STORE_REQUESTS_MAX; i++) { /* the newest are there */
		ask.request.command = (uint16_t)i;
		assert_hit(&ask, "v");
	}
	ask.request.command = 2 * STORE_REQUESTS_MAX - 1;
	ck_assert_int_eq(look(&ask), STORE_LEAD);
	land_reply(&flight, NULL);
}
END_TEST

/* ---- who leaves ---- */

static void fill_some(const char *prefix, int n)
{
	char key[32];

	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%s%d", prefix, i);
		fill(key, "v");
	}
}

static int count_there(const char *prefix, int n, uint32_t epoch)
{
	char key[32];
	int found = 0;

	for (int i = 0; i < n; i++) {
		struct store_ask ask;

		snprintf(key, sizeof(key), "%s%d", prefix, i);
		ask = ask_for(key);
		ask.truth.epoch = epoch;
		ask.may_lead = false;
		found += look(&ask) == STORE_HIT;
	}
	return found;
}

START_TEST(popular_ones_survive_a_scan)
{
	fill_some("hot", 1000);
	ck_assert_int_eq(count_there("hot", 1000, 1), 1000);
	fill_some("once", 100000);
	ck_assert_int_gt(count_there("hot", 1000, 1), 950);
	ck_assert_int_lt(count_there("once", 100000, 1), 31000); /* 4 MB are not more */
	ck_assert_int_gt(count_there("once", 100000, 1), 25000);
	ck_assert_uint_gt(counts_now(1).gone[STORE_EVICTED], 69000);
}
END_TEST

/* That their keys changed does not make them unpopular. */
START_TEST(popular_ones_that_changed_survive_a_scan)
{
	char key[32];

	fill_some("hot", 1000);
	ck_assert_int_eq(count_there("hot", 1000, 1), 1000);
	fill_some("once", 100000);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "hot%d", i);
		forget(key, STORE_TRACKED);
	}
	ck_assert_int_eq(count_there("hot", 1000, 1), 0);
	fill_some("hot", 1000);
	fill_some("other", 100000);
	ck_assert_int_gt(count_there("hot", 1000, 1), 950);
}
END_TEST

/* Nobody will ask for what is of an epoch that is over, or past its time: it goes first, however popular it was. */
START_TEST(useless_ones_leave_first)
{
	for (int expired = 0; expired < 2; expired++) {
		enum store_cause cause = expired ? STORE_EXPIRED : STORE_OUTDATED;
		uint64_t evicted;

		fill_some("old", 50000);
		for (int i = 0; i < 7; i++)
			ck_assert_int_gt(count_there("old", 50000, 1), 25000);
		evicted = counts_now(1).gone[STORE_EVICTED];
		if (expired)
			now += 10 * S;
		for (int i = 0; i < 20000; i++) {
			char key[32];
			struct store_ask ask;

			snprintf(key, sizeof(key), "new%d", i);
			ask = ask_for(key);
			if (!expired)
				ask.truth.epoch = 2;
			fill_ask(&ask, "v");
		}
		ck_assert_int_eq(count_there("new", 20000, expired ? 1 : 2), 20000);
		ck_assert_uint_gt(counts_now(1).gone[cause], 19000);
		ck_assert_uint_lt(counts_now(1).gone[STORE_EVICTED] - evicted, 100);
		store_flush(store, NULL, NULL);
	}
}
END_TEST

/* ---- pinned ---- */

START_TEST(pinned_reply_stays_readable)
{
	size_t len = 400 << 10, before;
	char *big = xcalloc(1, len), text[32];
	struct store_landing landing = reply_of("");
	struct store_item *once, *again;

	randombytes_buf(big, len);
	for (int how = 0; how < 3; how++) {
		before = store_bytes(store);
		ck_assert_int_eq(look_key("big"), STORE_LEAD);
		landing.now_us = now;
		landing.expires_us = now + S;
		landing.reply = big;
		landing.len = len;
		ck_assert(land(&flight, &landing));
		ck_assert_int_eq(look_key("big"), STORE_HIT);
		once = hit.pinned;
		ck_assert_int_eq(look_key("big"), STORE_HIT);
		again = hit.pinned;
		store_unpin(store, &once);
		if (how == 0)
			forget("big", STORE_TRACKED);
		else if (how == 1)
			store_flush(store, NULL, NULL);
		else
			for (int i = 0; i < 50000; i++) { /* more than there is room for */
				snprintf(text, sizeof(text), "%d", i);
				fill(text, "v");
			}
		if (how < 2)
			fails("big");
		hit.pinned = again;
		hit.len = len;
		get_all(big, len);
		if (how < 2)
			ck_assert_uint_eq(store_bytes(store), before);
	}
	free(big);
}
END_TEST

START_TEST(no_room_when_all_is_pinned)
{
	size_t len = 400 << 10;
	struct store_item *pins[16];
	char *big = xcalloc(1, len), text[8];
	struct store_landing landing = reply_of("");
	int n = 0;

	landing.reply = big;
	landing.len = len;
	for (; n < 16; n++) {
		snprintf(text, sizeof(text), "k%d", n);
		ck_assert_int_eq(look_key(text), STORE_LEAD);
		if (!land(&flight, &landing))
			break;
		ck_assert_int_eq(look_key(text), STORE_HIT);
		pins[n] = hit.pinned;
	}
	ck_assert_int_ge(n, 7);
	ck_assert_int_le(n, 10);
	ck_assert_uint_le(store_bytes(store), store_bytes_max(store));
	fails(text);
	while (n > 0)
		store_unpin(store, &pins[--n]);
	ck_assert_int_eq(look_key(text), STORE_LEAD);
	ck_assert(land(&flight, &landing));
	free(big);
}
END_TEST

static const TTest *const *const tests[] = {
	&leads_then_hits,
	&item_is_known_by_all_of_its_request,
	&both_protocols_find_what_is_alike,
	&may_not_lead,
	&time_is_over_at_its_end,
	&what_is_over_when_it_lands_is_not_kept,
	&only_newer,
	&too_large_passes_for_a_while,
	&larger_than_the_store_is_too_large,
	&who_comes_meanwhile_joins,
	&who_does_not_join_leads,
	&a_flight_of_100_ms_is_joined,
	&killed_flight_tells_and_keeps_nothing,
	&slow_flight_does_not_overtake,
	&killed_flight_leaves_what_is_newer,
	&epoch_ends_under_a_flight,
	&flights_outlive_the_store,
	&race_one_makes_others_get_the_old,
	&race_has_an_end,
	&race_expiry_is_told,
	&race_expiry_is_told_first,
	&race_new_value_is_told,
	&race_never_for_what_was_overwritten,
	&race_is_for_the_keys_own_time_only,
	&race_a_leader_that_fails_makes_room,
	&race_not_behind_a_fence,
	&race_not_of_another_epoch,
	&race_a_large_old_value,
	&forgets_all_requests_of_a_key,
	&flush_chooses,
	&last_is_found_however_old,
	&sizes,
	&names_too_long_pass,
	&short_values_need_one_chunk,
	&requests_of_a_key_are_bounded,
	&popular_ones_survive_a_scan,
	&popular_ones_that_changed_survive_a_scan,
	&useless_ones_leave_first,
	&pinned_reply_stays_readable,
	&no_room_when_all_is_pinned,
};

int main(void)
{
	Suite *suite = suite_create("store");
	SRunner *runner;
	int failed;

	if (sodium_init() < 0)
		return 1;
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		TCase *tc = tcase_create((*tests[i])->name);

		tcase_add_checked_fixture(tc, setup, teardown);
		tcase_set_timeout(tc, 60);
		tcase_add_test(tc, *tests[i]);
		suite_add_tcase(suite, tc);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
