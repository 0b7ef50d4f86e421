/* SPDX-License-Identifier: BSD-2-Clause */
/* Values sealed and opened; rings of keys. */
#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/seal.h"

#define KEY_A "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define KEY_B "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpBQkNERUY="
#define MAGIC "\0kw\1"

#define N(array) (sizeof(array) / sizeof(*(array)))

static const struct seal_place here = {SEAL_STRING, "shop:1", 6, NULL, 0};

/* Up to two keys; the text of what is wrong is in why. */
static char why[256];

static struct keyring *make(const char *first, const char *second, bool accept_plaintext)
{
	char *keys[] = {(char *)first, (char *)second};
	struct encryption_config conf = {.keys = {keys, !first	  ? 0
							: !second ? 1
								  : 2},
					 .accept_plaintext = accept_plaintext};

	return keyring_new(&conf, why, sizeof(why));
}

static struct keyring *ring(const char *first, const char *second)
{
	struct keyring *r = make(first, second, false);

	ck_assert_msg(r, "%s", why);
	return r;
}

static struct buf sealed(const struct keyring *r, const struct seal_place *at, const char *value, size_t len)
{
	struct buf b = {0};

	ck_assert(seal_put(r, at, value, len, &b));
	ck_assert_uint_eq(buf_len(&b), sealed_length(r, len));
	return b;
}

static enum open_status try_open(const struct keyring *r, const struct seal_place *at, const char *text, size_t len)
{
	struct buf out = {0};
	enum open_status status;

	buf_puts(&out, "before");
	status = seal_open(r, at, text, len, &out);
	ck_assert_mem_eq(buf_head(&out), "before", 6);
	ck_assert(status != OPEN_BROKEN || buf_len(&out) == 6);
	ck_assert(status != OPEN_PLAIN || (buf_len(&out) == 6 + len && memcmp(buf_head(&out) + 6, text, len) == 0));
	buf_release(&out);
	return status;
}

static void opens_to(const struct keyring *r, const struct seal_place *at, const struct buf *b, const char *value,
		     size_t len)
{
	struct buf out = {0};

	buf_puts(&out, "before");
	ck_assert_int_eq(seal_open(r, at, buf_head(b), buf_len(b), &out), OPEN_OK);
	ck_assert_uint_eq(buf_len(&out), 6 + len);
	ck_assert_mem_eq(buf_head(&out), "before", 6);
	ck_assert(memcmp(buf_head(&out) + 6, value, len) == 0);
	buf_release(&out);
}

static const size_t lengths[] = {0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 1000, 4096, 65537, 1 << 20};

START_TEST(round_trips)
{
	struct keyring *r = ring("2026a:" KEY_A, NULL);
	size_t len = lengths[_i];
	char *value = xcalloc(1, len + 1);
	struct buf b;

	randombytes_buf(value, len);
	b = sealed(r, &here, value, len);
	ck_assert_mem_eq(buf_head(&b),
			 MAGIC "\005"
			       "2026a",
			 10);
	ck_assert_uint_eq(buf_len(&b), 10 + 24 + len + 16);
	opens_to(r, &here, &b, value, len);
	/* Nothing of it can be read. */
	ck_assert(len < 16 || !memmem(buf_head(&b), buf_len(&b), value, 16));
	buf_release(&b);
	free(value);
	keyring_free(&r);
	ck_assert_ptr_null(r);
}
END_TEST

START_TEST(appends)
{
	struct keyring *r = ring("k:" KEY_A, NULL);
	struct buf b = {0};

	for (int i = 0; i < 1000; i++)
		ck_assert(seal_put(r, &here, "value", 5, &b));
	for (int i = 0; i < 1000; i++) {
		struct buf one = {.data = buf_head(&b), .end = sealed_length(r, 5)};

		opens_to(r, &here, &one, "value", 5);
		buf_consume(&b, sealed_length(r, 5));
	}
	ck_assert_uint_eq(buf_len(&b), 0);
	buf_release(&b);
	keyring_free(&r);
}
END_TEST

START_TEST(two_seals_differ)
{
	struct keyring *r = ring("k:" KEY_A, NULL);
	struct buf a = sealed(r, &here, "the same", 8), b = sealed(r, &here, "the same", 8);

	ck_assert(memcmp(buf_head(&a), buf_head(&b), buf_len(&a)) != 0);
	ck_assert(memcmp(buf_head(&a) + 30, buf_head(&b) + 30, 8) != 0);
	buf_release(&a);
	buf_release(&b);
	keyring_free(&r);
}
END_TEST

/* All different; neighbours would be the same if lengths did not count. */
static const struct seal_place places[] = {
	{SEAL_STRING, "shop:1", 6, NULL, 0},   {SEAL_STRING, "shop:2", 6, NULL, 0},
	{SEAL_STRING, "shop:", 5, NULL, 0},    {SEAL_STRING, "", 0, NULL, 0},
	{SEAL_STRING, "shop:1\0", 7, NULL, 0}, {SEAL_ELEMENT, "shop:1", 6, NULL, 0},
	{SEAL_MESSAGE, "shop:1", 6, NULL, 0},  {SEAL_FIELD, "shop:1", 6, "name", 4},
	{SEAL_FIELD, "shop:1n", 7, "ame", 3},  {SEAL_FIELD, "shop:1", 6, "nama", 4},
	{SEAL_FIELD, "shop:1", 6, "", 0},      {SEAL_FIELD, "shop:1name", 10, "", 0},
	{SEAL_FIELD, "", 0, "shop:1name", 10}, {SEAL_ENTRY, "shop:1", 6, "name", 4},
};

START_TEST(bound_to_its_place)
{
	struct keyring *r = ring("k:" KEY_A, NULL);

	for (size_t i = 0; i < N(places); i++) {
		struct buf b = sealed(r, &places[i], "value", 5);

		for (size_t k = 0; k < N(places); k++)
			ck_assert_int_eq(try_open(r, &places[k], buf_head(&b), buf_len(&b)),
					 i == k ? OPEN_OK : OPEN_BROKEN);
		buf_release(&b);
	}
	keyring_free(&r);
}
END_TEST

START_TEST(cut_anywhere)
{
	struct keyring *r = ring("2026a:" KEY_A, "b:" KEY_B);
	struct buf b = sealed(r, &here, "a value", 7);

	for (size_t len = 0; len < buf_len(&b); len++) {
		char *exact = xmemdup0(buf_head(&b), len); /* so that sanitizers see a byte too many */

		exact = xrealloc(exact, len ? len : 1);
		ck_assert_int_eq(try_open(r, &here, exact, len), OPEN_BROKEN);
		free(exact);
	}
	for (size_t at = 1; at < buf_len(&b); at++)
		ck_assert_int_eq(try_open(r, &here, buf_head(&b) + at, buf_len(&b) - at), OPEN_BROKEN);
	buf_put(&b, "", 1);
	ck_assert_int_eq(try_open(r, &here, buf_head(&b), buf_len(&b)), OPEN_BROKEN);
	buf_release(&b);
	keyring_free(&r);
}
END_TEST

START_TEST(each_bit_counts)
{
	struct keyring *r = make("2026a:" KEY_A, "b:" KEY_B, _i);
	struct buf b = sealed(r, &here, "a value", 7);

	for (size_t bit = 0; bit < 8 * buf_len(&b); bit++) {
		/* What has another magic is not sealed at all. */
		enum open_status want = _i && bit < 32 ? OPEN_PLAIN : OPEN_BROKEN;

		buf_head(&b)[bit / 8] ^= (char)(1 << bit % 8);
		ck_assert_int_eq(try_open(r, &here, buf_head(&b), buf_len(&b)), want);
		buf_head(&b)[bit / 8] ^= (char)(1 << bit % 8);
	}
	opens_to(r, &here, &b, "a value", 7);
	buf_release(&b);
	keyring_free(&r);
}
END_TEST

START_TEST(rotation)
{
	struct keyring *old = ring("old:" KEY_A, NULL), *both = ring("new:" KEY_B, "old:" KEY_A);
	struct keyring *new = ring("new:" KEY_B, NULL);
	struct buf a = sealed(old, &here, "value", 5), b;

	opens_to(both, &here, &a, "value", 5);
	ck_assert_int_eq(try_open(new, &here, buf_head(&a), buf_len(&a)), OPEN_BROKEN);
	b = sealed(both, &here, "value", 5);
	ck_assert_mem_eq(buf_head(&b) + 5, "new", 3);
	opens_to(new, &here, &b, "value", 5);
	ck_assert_int_eq(try_open(old, &here, buf_head(&b), buf_len(&b)), OPEN_BROKEN);
	/* The name alone does not do: another's bytes with this name, and this one's bytes with another name. */
	memcpy(buf_head(&b) + 5, "old", 3);
	ck_assert_int_eq(try_open(both, &here, buf_head(&b), buf_len(&b)), OPEN_BROKEN);
	buf_release(&a);
	buf_release(&b);
	keyring_free(&old);
	keyring_free(&both);
	keyring_free(&new);
}
END_TEST

START_TEST(same_bytes_another_name)
{
	struct keyring *a = ring("a:" KEY_A, NULL), *b = ring("b:" KEY_A, NULL);
	struct buf one = sealed(a, &here, "value", 5);

	ck_assert_int_eq(try_open(b, &here, buf_head(&one), buf_len(&one)), OPEN_BROKEN);
	buf_head(&one)[5] = 'b';
	ck_assert_int_eq(try_open(b, &here, buf_head(&one), buf_len(&one)), OPEN_BROKEN);
	buf_release(&one);
	keyring_free(&a);
	keyring_free(&b);
}
END_TEST

/* A name that begins with another's. */
START_TEST(names_are_whole)
{
	struct keyring *r = ring("a:" KEY_A, "ab:" KEY_B), *turned = ring("ab:" KEY_B, "a:" KEY_A);
	struct buf a = sealed(r, &here, "value", 5), b = sealed(turned, &here, "value", 5);

	opens_to(r, &here, &b, "value", 5);
	opens_to(turned, &here, &a, "value", 5);
	buf_release(&a);
	buf_release(&b);
	keyring_free(&r);
	keyring_free(&turned);
}
END_TEST

START_TEST(plaintext)
{
	static const char *const texts[] = {"", "plain", "\0", "k", "\0kw\2 is another version"};
	static const size_t lens[] = {0, 5, 1, 1, 22};
	struct keyring *strict = ring("k:" KEY_A, NULL), *open = make("k:" KEY_A, NULL, true);
	struct keyring *none = make(NULL, NULL, true);
	struct buf b;

	for (size_t i = 0; i < N(texts); i++) {
		ck_assert_int_eq(try_open(strict, &here, texts[i], lens[i]), OPEN_BROKEN);
		ck_assert_int_eq(try_open(open, &here, texts[i], lens[i]), OPEN_PLAIN);
		ck_assert_int_eq(try_open(none, &here, texts[i], lens[i]), OPEN_PLAIN);
	}
	b = sealed(open, &here, "value", 5);
	opens_to(open, &here, &b, "value", 5);
	ck_assert_int_eq(try_open(none, &here, buf_head(&b), buf_len(&b)), OPEN_BROKEN);
	buf_release(&b);
	keyring_free(&strict);
	keyring_free(&open);
	keyring_free(&none);
}
END_TEST

START_TEST(looks_like_the_magic)
{
	static const char text[] = MAGIC "\1k and then something of a length that would do for all of it";
	struct keyring *r = make("k:" KEY_A, NULL, true);
	struct buf once = sealed(r, &here, text, sizeof(text)), twice;

	opens_to(r, &here, &once, text, sizeof(text));
	ck_assert_int_eq(try_open(r, &here, text, sizeof(text)), OPEN_BROKEN);
	for (size_t len = 4; len < sizeof(text); len++)
		ck_assert_int_eq(try_open(r, &here, text, len), OPEN_BROKEN);
	/* A sealed value is a value like any other. */
	twice = sealed(r, &here, buf_head(&once), buf_len(&once));
	opens_to(r, &here, &twice, buf_head(&once), buf_len(&once));
	buf_release(&once);
	buf_release(&twice);
	keyring_free(&r);
}
END_TEST

static const struct {
	const char *first, *second, *words;
} bad_rings[] = {
	{"", NULL, "key 1 must be NAME:BASE64"},
	{KEY_A, NULL, "key 1 must be NAME:BASE64"},
	{":" KEY_A, NULL, "key 1 must be NAME:BASE64"},
	{"a:" KEY_A, "b c:" KEY_B, "key 2 must be NAME:BASE64"},
	{"\303\244:" KEY_A, NULL, "key 1 must be NAME:BASE64"},
	{"12345678901234567:" KEY_A, NULL, "key 1 must be NAME:BASE64"},
	{"a:", NULL, "key a must be 32 bytes"},
	{"a:c2hvcnQ=", NULL, "key a must be 32 bytes"},
	{"a:" KEY_A "AAAA", NULL, "key a must be 32 bytes"},
	{"a: " KEY_A, NULL, "key a must be 32 bytes"},
	{"a:" KEY_A, "b:!DEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "key b must be 32 bytes"},
	{"a:" KEY_A, "a:" KEY_B, "two keys have the name a"},
};

START_TEST(bad_keys)
{
	ck_assert_ptr_null(make(bad_rings[_i].first, bad_rings[_i].second, false));
	ck_assert_msg(strstr(why, bad_rings[_i].words), "%s", why);
	ck_assert_msg(!strstr(why, "MDEyMzQ1") && !strstr(why, "QUJD") && !strstr(why, "c2hvcnQ"), "%s", why);
}
END_TEST

START_TEST(good_keys)
{
	struct keyring *r = ring("1234567890abc-_Z:" KEY_A, "x:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY");
	struct buf b = sealed(r, &here, "value", 5);

	opens_to(r, &here, &b, "value", 5);
	ck_assert_ptr_null(keyring_hash_key(r));
	buf_release(&b);
	keyring_free(&r);
}
END_TEST

START_TEST(hash_keys)
{
	struct encryption_config conf = {.hash_key = (char *)KEY_A};
	struct keyring *r = keyring_new(&conf, why, sizeof(why));

	ck_assert_ptr_nonnull(r);
	ck_assert_mem_eq(keyring_hash_key(r), "0123456789abcdef0123456789abcdef", 32);
	keyring_free(&r);
	conf.hash_key = (char *)"";
	r = keyring_new(&conf, why, sizeof(why));
	ck_assert(r && !keyring_hash_key(r));
	keyring_free(&r);
	conf.hash_key = (char *)"c2hvcnQ=";
	ck_assert_ptr_null(keyring_new(&conf, why, sizeof(why)));
	ck_assert_ptr_nonnull(strstr(why, "hash_key must be 32 bytes"));
}
END_TEST

/* The format, and what it is bound to, may not change: values lie in Redis for years. */
START_TEST(opens_what_was_sealed_once)
{
	static const struct seal_place at = {SEAL_FIELD, "shop:product:1", 14, "name", 4};
	static const char hex[] = "006b7701053230323661eaf0a4fb877db396078772b6066281c33d399b6dcf9afc4b"
				  "53d7864863670c2d9616ecdf6a7273c9fcba7ee68b91";
	struct keyring *r = ring("2026a:" KEY_A, NULL);
	unsigned char bytes[256];
	struct buf b = {.data = (char *)bytes};

	ck_assert_int_eq(sodium_hex2bin(bytes, sizeof(bytes), hex, strlen(hex), NULL, &b.end, NULL), 0);
	opens_to(r, &at, &b, "A book", 6);
	keyring_free(&r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("seal");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	if (sodium_init() < 0)
		return 1;
	tcase_add_loop_test(t, round_trips, 0, N(lengths));
	tcase_add_test(t, appends);
	tcase_add_test(t, two_seals_differ);
	tcase_add_test(t, bound_to_its_place);
	tcase_add_test(t, cut_anywhere);
	tcase_add_loop_test(t, each_bit_counts, 0, 2);
	tcase_add_test(t, rotation);
	tcase_add_test(t, same_bytes_another_name);
	tcase_add_test(t, names_are_whole);
	tcase_add_test(t, plaintext);
	tcase_add_test(t, looks_like_the_magic);
	tcase_add_loop_test(t, bad_keys, 0, N(bad_rings));
	tcase_add_test(t, good_keys);
	tcase_add_test(t, hash_keys);
	tcase_add_test(t, opens_what_was_sealed_once);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
