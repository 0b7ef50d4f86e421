/* SPDX-License-Identifier: BSD-2-Clause */
/* The sketch behind KEYWEIR HOTKEYS: whether it finds what comes most often, and forgets what no longer comes. */
#include <check.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/top_k.h"

static struct top_k *t;

static void setup(void)
{
	ck_assert(sodium_init() >= 0);
	t = top_k_new();
}

static void teardown(void)
{
	top_k_free(&t);
	ck_assert_ptr_null(t);
}

static uint64_t random_state;

static double random_part(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (double)(random_state >> 11) / 9007199254740992.0;
}

static void add(const char *kind, unsigned i)
{
	char key[32];

	snprintf(key, sizeof(key), "%s:%u", kind, i);
	top_k_add(t, 0, key, strlen(key), 1);
}

static const struct top_k_key *find(uint32_t owner, const char *key)
{
	for (size_t i = 0; i < top_k_size(t); i++) {
		const struct top_k_key *k = top_k_at(t, i);

		if (k->owner == owner && k->len == strlen(key) && memcmp(k->key, key, k->len) == 0)
			return k;
	}
	return NULL;
}

static uint64_t count_of(const char *kind, unsigned i)
{
	const struct top_k_key *k;
	char key[32];

	snprintf(key, sizeof(key), "%s:%u", kind, i);
	k = find(0, key);
	return k ? k->count : 0;
}

/* Keys that count more than this one. */
static unsigned better_than(uint64_t count)
{
	unsigned n = 0;

	for (size_t i = 0; i < top_k_size(t); i++)
		n += top_k_at(t, i)->count > count;
	return n;
}

/* ---- Zipf ---- */

#define KEYS 1000000u

/* How often each came. Cumulated weights, and a search in them. */
static unsigned *zipf_stream(double exponent, unsigned n, const char *kind)
{
	double *sums = malloc(KEYS * sizeof(*sums)), sum = 0;
	unsigned *counts = calloc(KEYS, sizeof(*counts));

	for (unsigned i = 0; i < KEYS; i++)
		sums[i] = sum += pow(i + 1, -exponent);
	for (unsigned k = 0; k < n; k++) {
		double at = random_part() * sum;
		unsigned low = 0, high = KEYS - 1;

		while (low < high) {
			unsigned mid = (low + high) / 2;

			if (sums[mid] <= at)
				low = mid + 1;
			else
				high = mid;
		}
		counts[low]++;
		add(kind, low);
	}
	free(sums);
	return counts;
}

/* Of a million keys after Zipf the true first ten are the first ten, and their counts are right. */
START_TEST(finds_the_top_of_zipf)
{
	static const double exponents[] = {0.99, 1.2};
	unsigned *counts;

	random_state = 88172645463325252u + (unsigned)_i;
	counts = zipf_stream(exponents[_i], 500000, "k");
	ck_assert_uint_eq(top_k_size(t), TOP_K_KEYS);
	ck_assert_uint_eq(top_k_total(t), 500000);
	for (unsigned i = 0; i < 10; i++) {
		uint64_t count = count_of("k", i);

		ck_assert_msg(count > 0, "%u is not there", i);
		ck_assert_msg(count <= counts[i] + 1 && count > counts[i] * 0.9, "%u: %llu, not %u", i,
			      (unsigned long long)count, counts[i]);
		ck_assert_msg(better_than(count) < 13, "%u is at %u", i, better_than(count));
	}
	/* Those that follow are there as well, nearly all of them. */
	for (unsigned i = 10, there = 0; i < 100; i++) {
		there += count_of("k", i) > 0;
		ck_assert(i < 99 || there > 80);
	}
	free(counts);
}
END_TEST

/* A flood of keys that come once or twice drives nothing out. */
START_TEST(rare_ones_drive_nothing_out)
{
	random_state = 4242;
	for (unsigned i = 0; i < 2000; i++)
		for (unsigned k = 0; k < 20; k++)
			add("hot", k);
	for (unsigned i = 0; i < 2000000; i++)
		add("rare", i);
	for (unsigned k = 0; k < 20; k++)
		ck_assert_uint_eq(count_of("hot", k), 2000);
}
END_TEST

/* Others come up as soon as they come often, though all places were taken. */
START_TEST(newcomers_are_taken_in)
{
	random_state = 77;
	for (unsigned i = 0; i < 50; i++)
		for (unsigned k = 0; k < TOP_K_KEYS; k++)
			add("old", k);
	for (unsigned i = 0; i < 1000; i++)
		for (unsigned k = 0; k < 5; k++)
			add("new", k);
	for (unsigned k = 0; k < 5; k++) {
		ck_assert_uint_gt(count_of("new", k), 800);
		ck_assert_uint_le(count_of("new", k), 1000);
	}
	ck_assert_uint_eq(top_k_size(t), TOP_K_KEYS);
}
END_TEST

/* ---- forgetting ---- */

START_TEST(halves)
{
	for (unsigned i = 0; i < 1000; i++)
		add("a", 1);
	for (unsigned i = 0; i < 3; i++)
		add("b", 1);
	add("c", 1);
	top_k_halve(t);
	ck_assert_uint_eq(count_of("a", 1), 500);
	ck_assert_uint_eq(count_of("b", 1), 1);
	ck_assert_uint_eq(count_of("c", 1), 0);
	ck_assert_uint_eq(top_k_size(t), 2);
	ck_assert_uint_eq(top_k_total(t), 502);
	add("a", 1); /* it is still found */
	ck_assert_uint_eq(count_of("a", 1), 501);
	for (unsigned i = 0; i < 9; i++)
		top_k_halve(t);
	ck_assert_uint_eq(top_k_size(t), 0);
	ck_assert_uint_le(top_k_total(t), 1);
}
END_TEST

/* What was hot yesterday makes room for today. */
START_TEST(old_ones_decay)
{
	unsigned *counts;

	random_state = 31337;
	counts = zipf_stream(0.99, 300000, "yesterday");
	free(counts);
	for (unsigned i = 0; i < 4; i++) {
		top_k_halve(t);
		counts = zipf_stream(0.99, 100000, "today");
		free(counts);
	}
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_uint_gt(count_of("today", i), count_of("yesterday", i) * 3);
		ck_assert_uint_lt(better_than(count_of("today", i)), 10);
	}
}
END_TEST

START_TEST(clears)
{
	for (unsigned k = 0; k < 2 * TOP_K_KEYS; k++)
		add("a", k);
	top_k_clear(t);
	ck_assert_uint_eq(top_k_size(t), 0);
	ck_assert_uint_eq(top_k_total(t), 0);
	add("a", 1);
	ck_assert_uint_eq(count_of("a", 1), 1);
	ck_assert_uint_eq(top_k_size(t), 1);
}
END_TEST

/* ---- keys ---- */

START_TEST(any_bytes)
{
	char long_key[1000], near[1000];

	memset(long_key, 'x', sizeof(long_key));
	memcpy(near, long_key, sizeof(near));
	near[999] = 'y';
	for (unsigned i = 0; i < 5; i++) {
		top_k_add(t, 0, long_key, sizeof(long_key), 1);
		top_k_add(t, 0, near, sizeof(near), 2);
		top_k_add(t, 0, "", 0, 3);
		top_k_add(t, 0, "a\0b", 3, 1);
		top_k_add(t, 0, "a\0c", 3, 1);
	}
	ck_assert_uint_eq(top_k_size(t), 5);
	ck_assert_uint_eq(find(0, "")->count, 15);
	for (size_t i = 0; i < top_k_size(t); i++) {
		const struct top_k_key *k = top_k_at(t, i);

		if (k->len != 1000)
			continue;
		ck_assert(k->count == 5 || k->count == 10);
		ck_assert_int_eq(memcmp(k->key, long_key, TOP_K_KEY_BYTES), 0);
	}
}
END_TEST

START_TEST(lengths)
{
	char key[64];

	memset(key, 'k', sizeof(key));
	for (size_t len = 0; len <= sizeof(key); len++) {
		char *tight = malloc(len ? len : 1); /* so that a sanitizer sees a byte read too many */

		memcpy(tight, key, len);
		top_k_add(t, 0, tight, len, (uint32_t)len + 1);
		free(tight);
	}
	ck_assert_uint_eq(top_k_size(t), sizeof(key) + 1);
	for (size_t i = 0; i < top_k_size(t); i++)
		ck_assert_uint_eq(top_k_at(t, i)->count, top_k_at(t, i)->len + 1);
}
END_TEST

START_TEST(owners)
{
	for (unsigned i = 0; i < 7; i++)
		top_k_add(t, 1, "k", 1, 1);
	top_k_add(t, 2, "k", 1, 1);
	ck_assert_uint_eq(top_k_size(t), 2);
	ck_assert_uint_eq(find(1, "k")->count, 7);
	ck_assert_uint_eq(find(2, "k")->count, 1);
}
END_TEST

/* Every key is found again whatever went before: the index is right after each replacement. */
START_TEST(index_stays_whole)
{
	random_state = 99;
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 300; i++) {
			char key[32];

			snprintf(key, sizeof(key), "r%u:%u", round, (unsigned)(random_part() * 60));
			top_k_add(t, round % 3, key, strlen(key), 1 + round);
		}
		if (round % 17 == 0)
			top_k_halve(t);
		for (size_t i = 0; i < top_k_size(t); i++) {
			struct top_k_key k = *top_k_at(t, i);
			size_t size = top_k_size(t);

			top_k_add(t, k.owner, k.key, k.len, 1);
			ck_assert_uint_eq(top_k_size(t), size);
			ck_assert_uint_eq(top_k_at(t, i)->count, k.count + 1);
		}
	}
	ck_assert_uint_eq(top_k_size(t), TOP_K_KEYS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("top_k");
	TCase *c = tcase_create("top_k");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, finds_the_top_of_zipf, 0, 2);
	tcase_add_test(c, rare_ones_drive_nothing_out);
	tcase_add_test(c, newcomers_are_taken_in);
	tcase_add_test(c, halves);
	tcase_add_test(c, old_ones_decay);
	tcase_add_test(c, clears);
	tcase_add_test(c, any_bytes);
	tcase_add_test(c, lengths);
	tcase_add_test(c, owners);
	tcase_add_test(c, index_stays_whole);
	suite_add_tcase(s, c);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
