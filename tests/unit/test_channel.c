/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of channels there and back. */
#include "config_help.h"

#include "policy/channel.h"

static const char text[] = "[namespace.product]\n"
			   "prefix = \"shop:product:\"\n"
			   "channel_prefix = \"n[w]s:\"\n"
			   "[namespace.sealed]\n"
			   "encrypt_messages = true\n"
			   "[namespace.secret]\n"
			   "hash_keys = true\n"
			   "[namespace.plain]\n"
			   "[encryption]\n"
			   "keys = [\"k:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]\n"
			   "hash_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n";

static const unsigned char hash_key[32];
static struct namespaces *all;

static void setup(void)
{
	config_setup();
	load(text);
	ck_assert_ptr_nonnull(config);
	all = namespaces_new(config, hash_key);
}

static void teardown(void)
{
	namespaces_free(&all);
	config_teardown();
}

static struct view view_of(const char *bound)
{
	return (struct view){all, bound ? namespaces_named(all, bound) : NULL};
}

typedef void (*put_fn)(const struct view *v, const char *name, size_t len, struct buf *out);

static void leads_to(put_fn put, const char *bound, const char *name, const char *expected)
{
	struct view v = view_of(bound);
	struct buf out = {0};

	put(&v, name, strlen(name), &out);
	buf_put(&out, "", 1);
	ck_assert_str_eq(buf_head(&out), expected);
	buf_release(&out);
}

static void comes_back(const char *bound, const char *upstream, const char *expected)
{
	struct view v = view_of(bound);
	struct buf out = {0};
	bool known = channel_back_put(&v, upstream, strlen(upstream), &out);

	ck_assert_int_eq(known, expected != NULL);
	ck_assert(known || buf_len(&out) == 0);
	buf_put(&out, "", 1);
	ck_assert_str_eq(buf_head(&out), expected ? expected : "");
	buf_release(&out);
}

START_TEST(channels)
{
	leads_to(channel_put, NULL, "product:1", "n[w]s:1");
	leads_to(channel_put, NULL, "n[w]s:1", "n[w]s:1");
	leads_to(channel_put, NULL, "news", "news");
	leads_to(channel_put, NULL, "secret:1", "secret:1"); /* only keys are hashed */
	leads_to(channel_put, NULL, "", "");
	leads_to(channel_put, "product", "1", "n[w]s:1");
	leads_to(channel_put, "product", "", "n[w]s:");
	leads_to(channel_put, "product", "__redis__:invalidate", "__redis__:invalidate");
	leads_to(channel_put, "plain", "1", "1");
	comes_back(NULL, "n[w]s:1", "product:1");
	comes_back(NULL, "product:1", NULL);
	comes_back(NULL, "news", "news");
	comes_back("product", "n[w]s:", "");
	comes_back("product", "product:1", NULL);
	comes_back("plain", "news", "news");
}
END_TEST

START_TEST(events)
{
	leads_to(channel_put, NULL, "__keyspace@0__:product:1", "__keyspace@0__:shop:product:1");
	leads_to(channel_put, NULL, "__keyspace@15__:free", "__keyspace@15__:free");
	leads_to(channel_put, NULL, "__keyspace@x__:product:1", "__keyspace@x__:product:1");
	leads_to(channel_put, NULL, "__keyevent@0__:product:", "__keyevent@0__:product:");
	leads_to(channel_put, "product", "__keyspace@0__:", "__keyspace@0__:shop:product:");
	leads_to(channel_put, "product", "__keyevent@0__:del", "__keyevent@0__:del");
	comes_back(NULL, "__keyspace@0__:shop:product:__keyspace@0__:", "__keyspace@0__:product:__keyspace@0__:");
	comes_back(NULL, "__keyspace@0__:product:1", NULL);
	comes_back(NULL, "__keyspace@0__:secret:1", NULL);
	comes_back(NULL, "__keyevent@0__:set", "__keyevent@0__:set");
	comes_back("product", "__keyspace@0__:shop:product:1", "__keyspace@0__:1");
	comes_back("product", "__keyspace@0__:plain:1", NULL);
}
END_TEST

START_TEST(patterns)
{
	leads_to(channel_pattern_put, NULL, "product:*", "n\\[w\\]s:*");
	leads_to(channel_pattern_put, NULL, "product:[12]\\*", "n\\[w\\]s:[12]\\*");
	leads_to(channel_pattern_put, NULL, "prod*", "*");
	leads_to(channel_pattern_put, NULL, "q*", "q*");
	leads_to(channel_pattern_put, "product", "*", "n\\[w\\]s:*");
	leads_to(channel_pattern_put, "plain", "*", "*");
	leads_to(channel_pattern_put, NULL, "__keyspace@*__:product:?", "__keyspace@*__:shop:product:?");
	leads_to(channel_pattern_put, NULL, "__keyspace@0__:*", "__keyspace@0__:*");
	leads_to(channel_pattern_put, NULL, "__keyevent@*:product:*", "__keyevent@*:product:*");
	leads_to(channel_pattern_put, NULL, "__key*__:product:*", "__key*");
	leads_to(channel_pattern_put, NULL, "__keyspace@[01]__:p*", "__keyspace@*");
	leads_to(channel_pattern_put, "product", "__keyspace@0__:*", "__keyspace@0__:shop:product:*");
}
END_TEST

START_TEST(beginnings_of_keys)
{
	struct view v = view_of(NULL), bound = view_of("product");
	struct buf out = {0};

	ck_assert(view_key_beginning(&v, "product:1", 9, &out));
	ck_assert(view_key_beginning(&v, "free", 4, &out));
	ck_assert(view_key_beginning(&bound, "", 0, &out));
	ck_assert(view_key_beginning(&v, "secret:1", 8, &out)); /* all that are hashed */
	ck_assert(!view_key_beginning(&v, "pro", 3, &out));
	buf_put(&out, "", 1);
	ck_assert_str_eq(buf_head(&out), "shop:product:1"
					 "free"
					 "shop:product:"
					 "secret:");
	buf_release(&out);
	ck_assert(view_key_is_hashed(&v, "secret:0", 8) && !view_key_is_hashed(&v, "plain:0", 7));
}
END_TEST

START_TEST(what_is_sealed)
{
	struct view v = view_of(NULL), bound = view_of("sealed");

	ck_assert(channel_seals(&v, "sealed:1", 8) && !channel_seals(&v, "plain:1", 7) && !channel_seals(&v, "x", 1));
	ck_assert(channel_seals(&bound, "x", 1) && !channel_seals(&bound, "__keyevent@0__:del", 18));
	ck_assert(namespaces_active(all));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("channel");
	TCase *tc = tcase_create("channel");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, channels);
	tcase_add_test(tc, events);
	tcase_add_test(tc, patterns);
	tcase_add_test(tc, beginnings_of_keys);
	tcase_add_test(tc, what_is_sealed);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}
