/* SPDX-License-Identifier: BSD-2-Clause */
/* The mirror of the token blacklist against a model: inserts, removals, times, doubts, loads; what it weighs. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cache/blacklist.h"

#define SECOND 1000000

static struct blacklist *list;
static int64_t start_us;

static void setup(void)
{
	list = blacklist_new();
	start_us = clock_now_us();
}

static void teardown(void)
{
	blacklist_unref(&list);
}

static struct token_id id_of(uint64_t i)
{
	return (struct token_id){i * 0x9e3779b97f4a7c15u, i};
}

static enum blacklist_says look(uint64_t i, int64_t now_us)
{
	unsigned value = 0;

	return blacklist_look(list, id_of(i), now_us, &value);
}

static bool was_revoked(uint64_t i, int64_t now_us)
{
	return blacklist_was_revoked(list, blacklist_key(list, id_of(i)), now_us);
}

static void load(uint64_t i, int64_t until_us)
{
	blacklist_load(list, id_of(i), &(struct blacklist_fact){true, BLACKLIST_ONE, until_us});
}

START_TEST(empty)
{
	ck_assert_int_eq(look(1, start_us), BLACKLIST_CLEAR);
	ck_assert(!blacklist_holds(list, start_us));
	ck_assert_uint_eq(blacklist_count(list, start_us), 0);
	blacklist_purge(list, start_us, true);
	blacklist_load_begins(list);
	blacklist_load_ends(list, start_us);
	blacklist_hold(list, start_us + SECOND, start_us, 1);
	ck_assert(blacklist_holds(list, start_us + SECOND - 1));
	ck_assert(!blacklist_holds(list, start_us + SECOND));
	ck_assert_int_eq(blacklist_confirmed_us(list), start_us);
	ck_assert_int_eq(look(1, start_us), BLACKLIST_CLEAR);
}
END_TEST

START_TEST(times)
{
	load(1, start_us + 10 * SECOND);
	load(2, 0);
	load(3, start_us + 400LL * 365 * 86400 * SECOND); /* more than is counted: for ever */
	load(4, start_us - SECOND);
	ck_assert_int_eq(look(1, start_us), BLACKLIST_REVOKED);
	ck_assert_int_eq(look(1, start_us + 10 * SECOND - 1), BLACKLIST_REVOKED);
	ck_assert_int_eq(look(1, start_us + 10 * SECOND + SECOND / 5), BLACKLIST_CLEAR); /* a tenth of a second */
	ck_assert_int_eq(look(2, start_us + 300LL * 365 * 86400 * SECOND), BLACKLIST_REVOKED);
	ck_assert_int_eq(look(3, start_us + 300LL * 365 * 86400 * SECOND), BLACKLIST_REVOKED);
	ck_assert_int_eq(look(4, start_us), BLACKLIST_CLEAR);
	ck_assert_uint_eq(blacklist_count(list, start_us), 3);
	ck_assert_uint_eq(blacklist_count(list, start_us + 11 * SECOND), 2);
	for (int i = 0; i < BLACKLIST_SHARDS; i++)
		blacklist_purge(list, start_us + 11 * SECOND, true);
	ck_assert_uint_eq(blacklist_count(list, start_us), 2);
}
END_TEST

START_TEST(values)
{
	char large[65];
	unsigned first = blacklist_value(list, "revoked", 7), value;
	const char *text;
	size_t len;

	memset(large, 'x', sizeof(large));
	ck_assert_uint_eq(blacklist_value(list, "1", 1), BLACKLIST_ONE);
	ck_assert_uint_eq(blacklist_value(list, "revoked", 7), first);
	ck_assert_uint_eq(blacklist_value(list, large, 65), BLACKLIST_OTHER);
	ck_assert_uint_ne(blacklist_value(list, large, 64), BLACKLIST_OTHER);
	ck_assert_uint_ne(blacklist_value(list, "", 0), BLACKLIST_OTHER);
	text = blacklist_value_text(list, first, &len);
	ck_assert(len == 7 && memcmp(text, "revoked", 7) == 0);
	blacklist_load(list, id_of(1), &(struct blacklist_fact){true, first, 0});
	ck_assert_int_eq(blacklist_look(list, id_of(1), start_us, &value), BLACKLIST_REVOKED);
	ck_assert_uint_eq(value, first);
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "v%d", i);
		value = blacklist_value(list, name, strlen(name));
	}
	ck_assert_uint_eq(value, BLACKLIST_OTHER); /* only some are remembered */
	ck_assert_ptr_null(blacklist_value_text(list, BLACKLIST_OTHER, &len));
}
END_TEST

/* ---- doubts ---- */

static const struct blacklist_fact absent = {false, 0, 0}, revoked = {true, BLACKLIST_ONE, 0};

START_TEST(changed_by_others)
{
	load(1, 0);
	ck_assert(blacklist_changed(list, id_of(1))); /* must be asked */
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN);
	ck_assert(was_revoked(1, start_us));
	ck_assert(!blacklist_changed(list, id_of(1))); /* is being asked: again, when that is answered */
	ck_assert(!blacklist_changed(list, id_of(1)));
	ck_assert(blacklist_learnt(list, id_of(1), &absent));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN);
	ck_assert(!blacklist_learnt(list, id_of(1), &revoked));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_REVOKED);
	ck_assert(!blacklist_learnt(list, id_of(1), &absent)); /* an answer that nobody waits for */
	ck_assert_int_eq(look(1, start_us), BLACKLIST_REVOKED);
	ck_assert(blacklist_changed(list, id_of(1)));
	ck_assert(!blacklist_learnt(list, id_of(1), &absent));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_CLEAR);
	/* And one that was not there. */
	ck_assert(blacklist_changed(list, id_of(2)));
	ck_assert_int_eq(look(2, start_us), BLACKLIST_UNKNOWN);
	ck_assert(!was_revoked(2, start_us));
	ck_assert(!blacklist_learnt(list, id_of(2), &absent));
	ck_assert_int_eq(look(2, start_us), BLACKLIST_CLEAR);
}
END_TEST

START_TEST(written_by_us)
{
	blacklist_write_begins(list, id_of(1));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN);
	blacklist_write_begins(list, id_of(1));
	blacklist_write_dropped(list, id_of(1));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN);
	/* The tracking link is faster than the reply. */
	ck_assert(blacklist_changed(list, id_of(1)));
	ck_assert(!blacklist_learnt(list, id_of(1), &absent));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN);
	ck_assert(blacklist_write_ends(list, id_of(1)));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN);
	ck_assert(!blacklist_learnt(list, id_of(1), &revoked));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_REVOKED);
	/* What is revoked here is known at once, should Redis be away before it can be asked. */
	blacklist_write_begins(list, id_of(2));
	blacklist_note_revoked(list, id_of(2), start_us + SECOND);
	ck_assert_int_eq(look(2, start_us), BLACKLIST_UNKNOWN);
	ck_assert(was_revoked(2, start_us));
	ck_assert(!was_revoked(2, start_us + 2 * SECOND));
	ck_assert(blacklist_write_ends(list, id_of(2)));
	ck_assert(!blacklist_learnt(list, id_of(2), &absent));
	ck_assert_int_eq(look(2, start_us), BLACKLIST_CLEAR);
	blacklist_note_revoked(list, id_of(3), 0); /* nothing is under way: Redis knows better */
	ck_assert(!was_revoked(3, start_us));
}
END_TEST

/* While nobody asks (Redis does not track) what was written by us does not stay for ever. */
START_TEST(nobody_asks)
{
	for (uint64_t i = 1; i <= 10000; i++) {
		blacklist_write_begins(list, id_of(i));
		ck_assert(blacklist_write_ends(list, id_of(i)));
	}
	blacklist_write_begins(list, id_of(7));
	for (int i = 0; i < BLACKLIST_SHARDS; i++)
		blacklist_purge(list, start_us, false);
	ck_assert_uint_lt(blacklist_bytes(list), 20000);
	ck_assert_int_eq(look(7, start_us), BLACKLIST_UNKNOWN);
	ck_assert_int_eq(look(8, start_us), BLACKLIST_CLEAR);
}
END_TEST

START_TEST(many_writes_at_once)
{
	for (int i = 0; i < 300; i++)
		blacklist_write_begins(list, id_of(1));
	for (int i = 0; i < 300; i++)
		if (blacklist_write_ends(list, id_of(1)))
			ck_assert(i == 0);
	ck_assert(blacklist_learnt(list, id_of(1), &absent));
	ck_assert(!blacklist_learnt(list, id_of(1), &absent));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN); /* not all were counted */
	blacklist_load_begins(list);
	blacklist_load_ends(list, start_us);
	ck_assert_int_eq(look(1, start_us), BLACKLIST_CLEAR);
}
END_TEST

START_TEST(loads)
{
	blacklist_load_begins(list);
	for (uint64_t i = 1; i <= 1000; i++)
		load(i, 0);
	blacklist_load_ends(list, start_us);
	ck_assert_uint_eq(blacklist_count(list, start_us), 1000);
	blacklist_hold(list, start_us + SECOND, start_us, 1);
	for (int round = 0; round < 9; round++) { /* more often than loads have numbers */
		blacklist_write_begins(list, id_of(7));
		ck_assert(blacklist_changed(list, id_of(8)));
		blacklist_load_begins(list);
		ck_assert(!blacklist_holds(list, start_us));
		ck_assert(was_revoked(round ? 1 + (uint64_t)round % 2 : 900, start_us)); /* what was last known */
		for (uint64_t i = 1; i <= 500; i++)
			if (i % 2 == (uint64_t)round % 2)
				load(i, 0);
		blacklist_load_ends(list, start_us);
		ck_assert_int_eq(look(1, start_us), round % 2 ? BLACKLIST_REVOKED : BLACKLIST_CLEAR);
		ck_assert_int_eq(look(2, start_us), round % 2 ? BLACKLIST_CLEAR : BLACKLIST_REVOKED);
		ck_assert_int_eq(look(900, start_us), BLACKLIST_CLEAR);
		ck_assert_int_eq(look(7, start_us), BLACKLIST_UNKNOWN); /* our own write is still under way */
		ck_assert_int_eq(look(8, start_us), round % 2 ? BLACKLIST_CLEAR : BLACKLIST_REVOKED); /* asked anew */
		ck_assert(blacklist_write_ends(list, id_of(7)));
		ck_assert(!blacklist_learnt(list, id_of(7), &absent));
		ck_assert_uint_eq(blacklist_count(list, start_us), round % 2 ? 249 : 250);
	}
}
END_TEST

/* ---- against a model ---- */

#define MODEL 20000

struct model {
	bool revoked;
	int64_t until_us;
};

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void hold_against(const struct model *model, int64_t now_us)
{
	size_t n = 0;

	for (uint64_t i = 0; i < MODEL; i++) {
		/* Between its end and the next tenth of a second both are right. */
		bool over = model[i].until_us && now_us >= model[i].until_us + SECOND / 10;
		bool is = model[i].revoked && !(model[i].until_us && now_us >= model[i].until_us);
		enum blacklist_says says = look(i, now_us);

		n += says == BLACKLIST_REVOKED;
		if (is || over || !model[i].revoked)
			ck_assert_msg(says == (is ? BLACKLIST_REVOKED : BLACKLIST_CLEAR), "%llu",
				      (unsigned long long)i);
	}
	ck_assert_uint_eq(blacklist_count(list, now_us), n);
}

/* What was in doubt while a load did not find it is no longer revoked when the doubt is over. */
START_TEST(a_load_in_doubt)
{
	blacklist_load_begins(list);
	load(1, 0);
	load(2, 0);
	blacklist_load_ends(list, start_us);
	blacklist_write_begins(list, id_of(1));
	blacklist_write_begins(list, id_of(2));
	blacklist_load_begins(list);
	load(2, 0);
	blacklist_note_revoked(list, id_of(2), start_us + SECOND); /* for ever is longer */
	blacklist_load_ends(list, start_us);
	ck_assert_int_eq(look(1, start_us), BLACKLIST_UNKNOWN);
	ck_assert(!was_revoked(1, start_us) && was_revoked(2, start_us + 2 * SECOND));
	blacklist_write_dropped(list, id_of(1));
	blacklist_write_dropped(list, id_of(2));
	ck_assert_int_eq(look(1, start_us), BLACKLIST_CLEAR);
	ck_assert_int_eq(look(2, start_us), BLACKLIST_REVOKED);
	ck_assert_uint_eq(blacklist_count(list, start_us), 1);
}
END_TEST

START_TEST(random_changes)
{
	static struct model model[MODEL];
	int64_t now_us = start_us;

	memset(model, 0, sizeof(model));
	for (int step = 0; step < 600000; step++) {
		uint64_t i = next_random() % (step < 300000 ? MODEL : MODEL / 10); /* it grows, and shrinks */
		bool revoke = next_random() % 10 < (step < 300000 ? 7 : 1);
		int64_t until_us = next_random() % 3 ? now_us + (int64_t)(next_random() % 600) * SECOND : 0;
		struct blacklist_fact fact = {revoke, BLACKLIST_ONE, until_us};

		if (until_us && until_us <= now_us)
			continue;
		ck_assert(blacklist_changed(list, id_of(i)));
		ck_assert(!blacklist_learnt(list, id_of(i), &fact));
		model[i] = (struct model){revoke, until_us};
		now_us += SECOND / 5000;
		if (step % 100 == 0)
			blacklist_purge(list, now_us, true);
		if (step % 50000 == 0)
			hold_against(model, now_us);
	}
	hold_against(model, now_us);
	for (int i = 0; i < 3 * BLACKLIST_SHARDS; i++)
		blacklist_purge(list, now_us + 3600LL * SECOND, true);
	for (uint64_t i = 0; i < MODEL; i++)
		if (model[i].until_us)
			model[i].revoked = false;
	hold_against(model, now_us + 3600LL * SECOND);
}
END_TEST

/* Names that somebody chose so that they would all stand in one place. */
START_TEST(chosen_ids)
{
	for (uint64_t i = 0; i < 50000; i++)
		blacklist_load(list, (struct token_id){i, 0}, &revoked);
	for (uint64_t i = 0; i < 50000; i++)
		blacklist_load(list, (struct token_id){5, i}, &revoked);
	ck_assert_uint_eq(blacklist_count(list, start_us), 99999);
	for (uint64_t i = 0; i < 50000; i++) {
		unsigned value;

		ck_assert_int_eq(blacklist_look(list, (struct token_id){i, 0}, start_us, &value), BLACKLIST_REVOKED);
		ck_assert_int_eq(blacklist_look(list, (struct token_id){i, 1}, start_us, &value),
				 i == 5 ? BLACKLIST_REVOKED : BLACKLIST_CLEAR);
	}
}
END_TEST

/* At most 32 bytes a token, however many there are, and as it grows. */
START_TEST(weight)
{
	for (uint64_t i = 1; i <= 1000000; i++) {
		load(i, start_us + 86400LL * SECOND);
		if (i >= 150000 && i % 10007 == 0)
			ck_assert_msg(blacklist_bytes(list) < i * 32, "%zu bytes for %llu", blacklist_bytes(list),
				      (unsigned long long)i);
	}
	ck_assert_uint_eq(blacklist_count(list, start_us), 1000000);
	ck_assert_uint_lt(blacklist_bytes(list), 30500000);
	for (uint64_t i = 1; i <= 1000000; i += 997)
		ck_assert_int_eq(look(i, start_us), BLACKLIST_REVOKED);
	for (uint64_t i = 1000001; i <= 2000000; i += 997)
		ck_assert_int_eq(look(i, start_us), BLACKLIST_CLEAR);
	/* And it is given back. */
	for (int i = 0; i < BLACKLIST_SHARDS; i++)
		blacklist_purge(list, start_us + 2 * 86400LL * SECOND, true);
	ck_assert_uint_eq(blacklist_count(list, start_us), 0);
	ck_assert_uint_lt(blacklist_bytes(list), 100000);
}
END_TEST

/* ---- marks, and threads ---- */

START_TEST(marks)
{
	uint64_t mark;

	load(1, 0);
	mark = blacklist_mark(list, id_of(2));
	ck_assert_uint_ne(mark, 0);
	ck_assert_int_eq(look(2, start_us), BLACKLIST_CLEAR);
	ck_assert(blacklist_mark_is_fresh(list, mark));
	for (uint64_t i = 3; i < 10; i++)
		blacklist_purge(list, start_us, true);
	ck_assert(blacklist_mark_is_fresh(list, mark));
	blacklist_write_begins(list, id_of(2));
	ck_assert(!blacklist_mark_is_fresh(list, mark));
	blacklist_write_dropped(list, id_of(2));
	mark = blacklist_mark(list, id_of(2));
	(void)!blacklist_changed(list, id_of(2));
	ck_assert(!blacklist_mark_is_fresh(list, mark));
	mark = blacklist_mark(list, id_of(2));
	(void)!blacklist_learnt(list, id_of(2), &revoked);
	ck_assert(!blacklist_mark_is_fresh(list, mark));
	mark = blacklist_mark(list, id_of(9));
	load(9, 0);
	ck_assert(!blacklist_mark_is_fresh(list, mark));
}
END_TEST

/* A token that is never in doubt and always revoked is never seen otherwise while the table is made anew around it. */
static void *reader(void *arg)
{
	const volatile bool *stop = arg;
	uint64_t seen = 0;

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		uint64_t i = seen++ % 100;

		if (look(i, start_us) != BLACKLIST_REVOKED || look(i + 1000000, start_us) != BLACKLIST_CLEAR)
			return (void *)1;
	}
	return NULL;
}

START_TEST(threads)
{
	pthread_t ids[2];
	bool stop = false;
	void *bad[2];

	for (uint64_t i = 0; i < 100; i++)
		load(i, 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&ids[i], NULL, reader, &stop);
	for (int round = 0; round < 5; round++) {
		for (uint64_t i = 100; i < 20000; i++)
			load(i, start_us + 1);
		for (int i = 0; i < BLACKLIST_SHARDS; i++)
			blacklist_purge(list, start_us + SECOND, true);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(ids[i], &bad[i]);
	ck_assert(!bad[0] && !bad[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blacklist");
	TCase *tc = tcase_create("blacklist");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, empty);
	tcase_add_test(tc, times);
	tcase_add_test(tc, values);
	tcase_add_test(tc, changed_by_others);
	tcase_add_test(tc, written_by_us);
	tcase_add_test(tc, nobody_asks);
	tcase_add_test(tc, many_writes_at_once);
	tcase_add_test(tc, loads);
	tcase_add_test(tc, a_load_in_doubt);
	tcase_add_test(tc, random_changes);
	tcase_add_test(tc, chosen_ids);
	tcase_add_test(tc, weight);
	tcase_add_test(tc, marks);
	tcase_add_test(tc, threads);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
