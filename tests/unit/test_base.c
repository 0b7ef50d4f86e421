/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers, output queues, maps, lists, globs, hashes, locks. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/outq.h"
#include "base/siphash.h"
#include "policy/glob.h"

START_TEST(buf_grows_and_moves)
{
	struct buf b = {0};

	for (int i = 0; i < 10000; i++)
		buf_printf(&b, "%d,", i);
	buf_consume(&b, 4);
	ck_assert_mem_eq(buf_head(&b), "2,3,", 4);
	ck_assert(!buf_reserve(&b, SIZE_MAX / 2));
	ck_assert(buf_append(&b, NULL, 0));
	buf_release(&b);
	ck_assert_uint_eq(buf_len(&b), 0);
}
END_TEST

/* Everything that went in comes out, whatever the sizes; kept bytes can be looked at until they are forgotten. */
START_TEST(outq_keeps_and_forgets)
{
	struct chunk_pool pool;
	struct buf got = {0};
	struct outq q;
	char piece[5000], seen[8192];
	size_t written = 0, total = 0, received = 0;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	chunk_pool_init(&pool, 4);
	outq_init(&q, &pool, true);
	for (size_t n = 1; n <= 5000; n += 499) {
		memset(piece, (int)('a' + n % 26), n);
		outq_append(&q, piece, n);
		total += n;
	}
	ck_assert_uint_eq(q.bytes, total);
	while (received < total) {
		ssize_t n;

		ck_assert(outq_flush(&q, fds[0], &written));
		n = read(fds[1], seen, sizeof(seen));
		if (n > 0)
			received += (size_t)n;
	}
	ck_assert_uint_eq(written, total);
	ck_assert_uint_eq(outq_written_pos(&q), total);
	ck_assert(outq_peek(&q, 1, 500, &got));
	ck_assert_int_eq(buf_head(&got)[0], 'a' + 500 % 26);
	outq_forget(&q, total);
	got.start = got.end = 0;
	ck_assert(!outq_peek(&q, 1, 500, &got));
	outq_clear(&q);
	chunk_pool_fini(&pool);
	buf_release(&got);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(outq_references)
{
	struct rcbuf *rb = rcbuf_new("0123456789", 10);
	struct chunk_pool pool;
	struct outq q;
	size_t written = 0;
	char seen[32];
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	chunk_pool_init(&pool, 4);
	outq_init(&q, &pool, false);
	outq_append(&q, ">", 1);
	outq_append_ref(&q, rb, 1);
	outq_append(&q, "!", 1);
	ck_assert_uint_eq(atomic_load(&rb->refs), 2);
	ck_assert(outq_flush(&q, fds[0], &written));
	ck_assert_int_eq(read(fds[1], seen, sizeof(seen)), 11);
	ck_assert_mem_eq(seen, ">123456789!", 11);
	ck_assert_uint_eq(atomic_load(&rb->refs), 1);
	rcbuf_unref(rb);
	chunk_pool_fini(&pool);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(map_holds)
{
	struct map m;
	char key[16];
	int values[1000];

	map_init(&m);
	ck_assert_ptr_null(map_get(&m, "x", 1));
	for (int i = 0; i < 1000; i++)
		map_set(&m, key, (size_t)snprintf(key, sizeof(key), "k%d", i), &values[i]);
	ck_assert_uint_eq(m.n, 1000);
	ck_assert_ptr_eq(map_get(&m, "k777", 4), &values[777]);
	ck_assert_ptr_eq(map_del(&m, "k777", 4), &values[777]);
	ck_assert_ptr_null(map_get(&m, "k777", 4));
	map_set(&m, "a\0b", 3, &values[0]);
	ck_assert_ptr_null(map_get(&m, "a", 1));
	map_fini(&m);
}
END_TEST

static const struct {
	const char *pattern;
	const char *text;
	bool match;
} globs[] = {
	{"*", "", true},
	{"*", "anything", true},
	{"h?llo", "hello", true},
	{"h?llo", "hllo", false},
	{"h[ae]llo", "hallo", true},
	{"h[^e]llo", "hello", false},
	{"h[a-c]llo", "hbllo", true},
	{"h[c-a]llo", "hbllo", true},
	{"a\\*b", "a*b", true},
	{"a\\*b", "axb", false},
	{"a*b*c", "aXXbYYc", true},
	{"a*b*c", "aXXbYY", false},
	{"*.news", "it.news", true},
	{"", "", true},
	{"", "x", false},
	{"**", "x", true},
	{"a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
};

START_TEST(globs_match)
{
	ck_assert_int_eq(
		glob_match(globs[_i].pattern, strlen(globs[_i].pattern), globs[_i].text, strlen(globs[_i].text)),
		globs[_i].match);
}
END_TEST

struct item {
	int v;
	struct list node;
};

START_TEST(lists)
{
	struct list head;
	struct item items[3] = {{.v = 1}, {.v = 2}, {.v = 3}};
	int sum = 0;

	list_init(&head);
	for (int i = 0; i < 3; i++)
		list_append(&head, &items[i].node);
	LIST_EACH (pos, next, &head) {
		sum = sum * 10 + container_of(pos, struct item, node)->v;
		list_remove(pos);
		list_remove(pos);
	}
	ck_assert_int_eq(sum, 123);
	ck_assert(list_empty(&head) && !list_is_linked(&items[0].node));
}
END_TEST

/* What Rust's DefaultHasher, which is SipHash-1-3 under a key of zeros, says of the bytes 0, 1, 2 ... */
static const struct {
	size_t len;
	uint64_t hash;
} hashes[] = {
	{0, 0xd1fba762150c532cULL}, {1, 0x68a914128e01e473ULL},	 {7, 0x2f098ab0c751325aULL},
	{8, 0xead411e67ebe2eeaULL}, {20, 0x639e355ae68c0100ULL}, {63, 0x385d3e39e5f37359ULL},
};

START_TEST(siphash_is_siphash)
{
	struct siphash_key zero = {{0, 0}}, other = {{0, 1}};
	unsigned char bytes[64];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)i;
	ck_assert_uint_eq(siphash13(&zero, bytes, hashes[_i].len), hashes[_i].hash);
	ck_assert_uint_ne(siphash13(&other, bytes, hashes[_i].len), hashes[_i].hash);
}
END_TEST

struct guarded {
	struct lock lock;
	unsigned long count;
};

static void *count_up(void *arg)
{
	struct guarded *g = arg;

	for (int i = 0; i < 200000; i++) {
		lock_take(&g->lock);
		g->count++;
		if (i % 1000 == 0)
			sched_yield(); /* so that others come to sleep */
		lock_open(&g->lock);
	}
	return NULL;
}

START_TEST(lock_keeps_others_out)
{
	struct guarded g = {0};
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, count_up, &g), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(g.count, 800000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	if (sodium_init() < 0)
		return 1;
	tcase_add_test(t, buf_grows_and_moves);
	tcase_add_test(t, outq_keeps_and_forgets);
	tcase_add_test(t, outq_references);
	tcase_add_test(t, map_holds);
	tcase_add_loop_test(t, globs_match, 0, sizeof(globs) / sizeof(*globs));
	tcase_add_test(t, lists);
	tcase_add_loop_test(t, siphash_is_siphash, 0, sizeof(hashes) / sizeof(*hashes));
	tcase_add_test(t, lock_keeps_others_out);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
