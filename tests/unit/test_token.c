/* SPDX-License-Identifier: BSD-2-Clause */
/* Tokens: what a JWT says, hostile ones among them; names and ids; those of the configuration. */
#include <check.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "policy/namespace.h"
#include "policy/token.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* ---- JWTs ---- */

static char *base64(const char *text, size_t len)
{
	size_t size = sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	char *out = xcalloc(1, size);

	sodium_bin2base64(out, size, (const unsigned char *)text, len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return out;
}

static char *jwt_of(const char *header, const char *claims)
{
	char *h = base64(header, strlen(header)), *c = base64(claims, strlen(claims));
	char *token = xasprintf("%s.%s.c2lnbmF0dXJl", h, c);

	free(h);
	free(c);
	return token;
}

#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

static bool read_claims(const char *claims, struct jwt *out)
{
	char *token = jwt_of(HEADER, claims);
	bool ok = jwt_read(token, strlen(token), out);

	free(token);
	return ok;
}

static const struct {
	const char *claims;
	bool has_exp;
	int64_t exp_s;
	const char *jti;
} claims[] = {
	{"{}", false, 0, ""},
	{"{\"exp\":1700000000}", true, 1700000000, ""},
	{"{\"exp\":1700000000.25}", true, 1700000001, ""},
	{"{\"exp\":1.7e9}", true, 1700000001, ""},
	{"{\"exp\":\"1700000000\"}", false, 0, ""}, /* NumericDate is a number */
	{"{\"exp\":null}", false, 0, ""},
	{"{\"exp\":true}", false, 0, ""},
	{"{\"exp\":[1]}", false, 0, ""},
	{"{\"exp\":-1}", true, 0, ""},
	{"{\"exp\":-1e300}", true, 0, ""},
	{"{\"exp\":1e300}", true, (int64_t)1 << 40, ""},
	{"{\"exp\":9223372036854775807}", true, (int64_t)1 << 40, ""},
	{"{\"jti\":\"abc\"}", false, 0, "abc"},
	{"{\"jti\":\"\"}", false, 0, ""},
	{"{\"jti\":17}", false, 0, "17"},
	{"{\"jti\":1.5}", false, 0, ""},
	{"{\"jti\":{\"a\":\"b\"}}", false, 0, ""},
	{"{\"jti\":\"\\u00e4\\n\"}", false, 0, "\xc3\xa4\n"},
	{" {\"jti\" : \"x\" , \"exp\" : 5 } ", true, 5, "x"},
	{"{\"exp\":99999999999999999999999}", true, (int64_t)1 << 40, ""},
	{"{\"uid\":18446744073709551615,\"exp\":1700000000,\"jti\":\"x\"}", true, 1700000001, "x"},
	{"{\"n\":\"a\\u0000b\",\"exp\":5,\"jti\":\"x\"}", true, 5, "x"},
	{"{\"sub\":\"u\",\"a\":{\"jti\":\"inner\",\"exp\":1},\"jti\":\"outer\"}", false, 0, "outer"},
};

START_TEST(jwt_claims)
{
	struct jwt jwt;

	ck_assert_msg(read_claims(claims[_i].claims, &jwt), "%s", claims[_i].claims);
	ck_assert_msg(jwt.has_exp == claims[_i].has_exp, "%s", claims[_i].claims);
	ck_assert_msg(jwt.exp_s == claims[_i].exp_s, "%s: %lld", claims[_i].claims, (long long)jwt.exp_s);
	ck_assert_msg(jwt.jti_len == strlen(claims[_i].jti) && memcmp(jwt.jti, claims[_i].jti, jwt.jti_len) == 0, "%s",
		      claims[_i].claims);
}
END_TEST

static const char *const opaque[] = {
	"",
	".",
	"..",
	"...",
	"a.b.c",
	"3f2504e0-4f89-11d3-9a0c-0305e82c3301",
	"e30.e30",
	"e30.e30.",
	"e30.e30.x.y",
	"e30.e30.=",
	"e30=.e30.x",
	"e30.e30=.x",
	"e3 0.e30.x",
	"e30.e3\n0.x",
	"e30.W10.x" /* [] */,
	"W10.e30.x",
	"e30.bnVsbA.x",
	"e30.IjEi.x",
	"+w.e30.x",
	".e30.x",
	"e30..x",
};

START_TEST(jwt_is_none)
{
	struct jwt jwt;
	bool is = jwt_read(opaque[_i], strlen(opaque[_i]), &jwt);

	/* Of these one is: without a signature it is one of alg none. */
	ck_assert_msg(is == (strcmp(opaque[_i], "e30.e30.") == 0), "%s", opaque[_i]);
	ck_assert(!jwt.has_exp && jwt.jti_len == 0);
}
END_TEST

static const char *const hostile[] = {
	"{\"exp\":1,\"exp\":2}", "{\"jti\":\"a\",\"jti\":\"b\"}",
	"{\"exp\":1}x",		 "{\"exp\":1",
	"{\"exp\":01}",		 "{'exp':1}",
	"{\"jti\":\"\\ud800\"}", "{\"jti\":\"\xff\"}",
	"{\"exp\":NaN}",	 "{\"exp\":1e999}",
	"[{\"exp\":1}]",	 "",
};

START_TEST(jwt_hostile)
{
	struct jwt jwt;

	ck_assert_msg(!read_claims(hostile[_i], &jwt), "%s", hostile[_i]);
	ck_assert(!jwt.has_exp && jwt.jti_len == 0);
}
END_TEST

START_TEST(jwt_deep_and_large)
{
	struct jwt jwt;
	struct buf b = {0};
	char *token;

	/* As deep as fits. */
	buf_puts(&b, "{\"a\":");
	for (int i = 0; i < 5500; i++)
		buf_put(&b, "[", 1);
	for (int i = 0; i < 5500; i++)
		buf_put(&b, "]", 1);
	buf_put(&b, "}", 2);
	ck_assert(!read_claims(buf_head(&b), &jwt));
	buf_release(&b);
	/* Many members. */
	buf_puts(&b, "{\"exp\":7");
	for (int i = 0; buf_len(&b) < 11000; i++)
		buf_printf(&b, ",\"k%d\":%d", i, i);
	buf_put(&b, "}", 2);
	ck_assert(read_claims(buf_head(&b), &jwt));
	ck_assert_int_eq(jwt.exp_s, 7);
	buf_release(&b);
	/* A jti up to its bound, and above it. */
	for (size_t len = JWT_JTI_MAX; len <= JWT_JTI_MAX + 1; len++) {
		buf_puts(&b, "{\"jti\":\"");
		for (size_t i = 0; i < len; i++)
			buf_put(&b, "j", 1);
		buf_put(&b, "\"}", 3);
		ck_assert(read_claims(buf_head(&b), &jwt));
		ck_assert_uint_eq(jwt.jti_len, len == JWT_JTI_MAX ? len : 0);
		buf_release(&b);
	}
	/* Too long to be looked at. */
	token = xcalloc(1, JWT_BYTES_MAX + 2);
	memset(token, 'a', JWT_BYTES_MAX + 1);
	token[10] = token[20] = '.';
	ck_assert(!jwt_read(token, JWT_BYTES_MAX + 1, &jwt));
	free(token);
}
END_TEST

/* No byte of it breaks anything. */
START_TEST(jwt_altered)
{
	char *token = jwt_of(HEADER, "{\"exp\":1700000000,\"jti\":\"abc\",\"n\":[1,2,{\"a\":null}]}");
	size_t len = strlen(token);
	struct jwt jwt;

	for (size_t i = 0; i < len; i++) {
		char was = token[i];

		for (unsigned c = 0; c < 256; c++) {
			token[i] = (char)c;
			jwt_read(token, len, &jwt);
			ck_assert_uint_le(jwt.jti_len, JWT_JTI_MAX);
		}
		token[i] = was;
		jwt_read(token, i, &jwt);
	}
	ck_assert(jwt_read(token, len, &jwt));
	free(token);
}
END_TEST

/* ---- tokens ---- */

static struct token_blacklist_config conf;
static struct tokens *tokens;
static char *prefix = NULL, *statics[2] = {"one", "two"};

static void setup(void)
{
	ck_assert(sodium_init() >= 0);
	prefix = "token:blacklist:";
	conf = (struct token_blacklist_config){.prefixes = {&prefix, 1},
					       .upstream = "main",
					       .hash_tokens = true,
					       .secret = "0123456789abcdef",
					       .secret_file = "",
					       .file = ""};
}

static void use(void)
{
	char why[256] = "";

	tokens_free(&tokens);
	tokens = tokens_new(&conf, why, sizeof(why));
	ck_assert_msg(tokens != NULL, "%s", why);
}

static void teardown(void)
{
	tokens_free(&tokens);
}

static char *name_of(const char *subject)
{
	struct buf b = {0};
	char *out;

	tokens_put_name(tokens, subject, strlen(subject), &b);
	out = xmemdup0(buf_head(&b), buf_len(&b));
	buf_release(&b);
	return out;
}

static struct token_id id_of(const char *subject)
{
	return tokens_id(tokens, subject, strlen(subject));
}

static bool same(struct token_id x, struct token_id y)
{
	return x.a == y.a && x.b == y.b;
}

START_TEST(hashed_names)
{
	struct token_id id;
	char *name, *again;

	use();
	name = name_of("abc");
	ck_assert_uint_eq(strlen(name), 36);
	ck_assert_uint_eq(strspn(name, "0123456789abcdef"), 36);
	ck_assert(tokens_id_of_name(tokens, name, 36, &id) && same(id, id_of("abc")));
	ck_assert(!same(id_of("abc"), id_of("abd")));
	ck_assert(!tokens_id_of_name(tokens, name, 35, &id));
	again = xasprintf("%.4sABCDEF%s", name, name + 10);
	ck_assert(!tokens_id_of_name(tokens, again, 36, &id)); /* nobody writes them so */
	memcpy(again + 4, name + 4, 6);
	ck_assert(tokens_id_of_name(tokens, again, 36, &id));
	again[0] = again[0] == '0' ? '1' : '0'; /* by another secret */
	ck_assert(!tokens_id_of_name(tokens, again, 36, &id));
	free(again);
	ck_assert(!tokens_id_of_name(tokens, "abc", 3, &id));
	again = xasprintf("token:blacklist:%s", name);
	ck_assert(tokens_id_of_key(tokens, again, strlen(again), &id) && same(id, id_of("abc")));
	ck_assert(!tokens_id_of_key(tokens, again + 1, strlen(again) - 1, &id));
	ck_assert(!tokens_id_of_key(tokens, "token", 5, &id));
	free(again);
	/* With braces, which would be a hash tag, as well. */
	free(name);
	name = name_of("a{b}c");
	ck_assert_uint_eq(strlen(name), 36);
	free(name);
	/* The same secret makes the same names, another one others. */
	name = name_of("abc");
	use();
	again = name_of("abc");
	ck_assert_str_eq(name, again);
	free(again);
	conf.secret = "0123456789abcdeg";
	use();
	again = name_of("abc");
	ck_assert_str_ne(name, again);
	free(again);
	free(name);
}
END_TEST

START_TEST(plain_names)
{
	struct token_id id, before;
	char *name;

	conf.hash_tokens = false;
	conf.secret = "";
	use();
	name = name_of("abc");
	ck_assert_str_eq(name, "abc");
	free(name);
	ck_assert(tokens_id_of_name(tokens, "abc", 3, &id) && same(id, id_of("abc")));
	/* What is in memory is good after a reload. */
	before = id;
	use();
	ck_assert(same(before, id_of("abc")));
}
END_TEST

START_TEST(subjects)
{
	char *jwt = jwt_of(HEADER, "{\"jti\":\"abc\"}"), *none = jwt_of(HEADER, "{\"exp\":1}");
	struct token_text t;
	struct jwt room;

	use();
	t = tokens_subject(tokens, jwt, strlen(jwt), &room);
	ck_assert(t.p == jwt && t.len == strlen(jwt));
	conf.by = TOKEN_BY_JTI;
	t = tokens_subject(tokens, jwt, strlen(jwt), &room);
	ck_assert(t.len == 3 && memcmp(t.p, "abc", 3) == 0);
	t = tokens_subject(tokens, none, strlen(none), &room);
	ck_assert(t.p == none && t.len == strlen(none));
	t = tokens_subject(tokens, "opaque", 6, &room);
	ck_assert(t.len == 6);
	free(jwt);
	free(none);
}
END_TEST

START_TEST(static_ones)
{
	char path[] = "/tmp/keyweir-tokens-XXXXXX", *jwt = jwt_of(HEADER, "{\"jti\":\"from-a-jwt\"}");
	int fd = mkstemp(path);
	FILE *file = fdopen(fd, "w");

	fprintf(file, "# revoked\n\n  three \r\n\tfour\n#five\n%s\nlast", jwt);
	fclose(file);
	conf.tokens = (struct string_list){statics, 2};
	conf.by = TOKEN_BY_JTI;
	use();
	ck_assert_uint_eq(tokens_n_static(tokens), 2);
	conf.file = path;
	use();
	ck_assert_uint_eq(tokens_n_static(tokens), 6);
	ck_assert(tokens_is_static(tokens, id_of("one")) && tokens_is_static(tokens, id_of("two")));
	ck_assert(tokens_is_static(tokens, id_of("three")) && tokens_is_static(tokens, id_of("four")));
	ck_assert(tokens_is_static(tokens, id_of("from-a-jwt")) && tokens_is_static(tokens, id_of("last")));
	ck_assert(!tokens_is_static(tokens, id_of("five")) && !tokens_is_static(tokens, id_of("#five")) &&
		  !tokens_is_static(tokens, id_of("# revoked")) && !tokens_is_static(tokens, id_of("")));
	unlink(path);
	free(jwt);
}
END_TEST

/* What says nothing of its size is read to its end all the same. */
START_TEST(static_ones_from_a_pipe)
{
	char path[64];
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	for (int i = 0; i < 2000; i++)
		dprintf(fds[1], "token-%d\n", i);
	close(fds[1]);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	conf.file = path;
	use();
	ck_assert_uint_eq(tokens_n_static(tokens), 2000);
	ck_assert(tokens_is_static(tokens, id_of("token-0")) && tokens_is_static(tokens, id_of("token-1999")));
	close(fds[0]);
}
END_TEST

START_TEST(no_file)
{
	char why[256] = "";

	conf.file = "/nonexistent/tokens";
	ck_assert_ptr_null(tokens_new(&conf, why, sizeof(why)));
	ck_assert_str_eq(why, "token_blacklist.file: /nonexistent/tokens: No such file or directory");
	conf.file = "/";
	ck_assert_ptr_null(tokens_new(&conf, why, sizeof(why)));
}
END_TEST

START_TEST(same_lists)
{
	struct token_blacklist_config other;
	char *another = "other:", why[64];
	struct tokens *b;

	use();
	other = conf;
	other.ttl_ms = 5; /* and what else does not change who is who */
	other.tokens = (struct string_list){statics, 2};
	b = tokens_new(&other, why, sizeof(why));
	ck_assert(tokens_same(tokens, b));
	tokens_free(&b);
	other.secret = "another secret, as long";
	b = tokens_new(&other, why, sizeof(why));
	ck_assert(!tokens_same(tokens, b));
	tokens_free(&b);
	other = conf;
	other.prefixes.items = &another;
	b = tokens_new(&other, why, sizeof(why));
	ck_assert(!tokens_same(tokens, b));
	tokens_free(&b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("token");
	TCase *jwt = tcase_create("jwt"), *names = tcase_create("names");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(jwt, setup, NULL);
	tcase_add_loop_test(jwt, jwt_claims, 0, COUNT(claims));
	tcase_add_loop_test(jwt, jwt_is_none, 0, COUNT(opaque));
	tcase_add_loop_test(jwt, jwt_hostile, 0, COUNT(hostile));
	tcase_add_test(jwt, jwt_deep_and_large);
	tcase_add_test(jwt, jwt_altered);
	suite_add_tcase(suite, jwt);
	tcase_add_checked_fixture(names, setup, teardown);
	tcase_add_test(names, hashed_names);
	tcase_add_test(names, plain_names);
	tcase_add_test(names, subjects);
	tcase_add_test(names, static_ones);
	tcase_add_test(names, static_ones_from_a_pipe);
	tcase_add_test(names, no_file);
	tcase_add_test(names, same_lists);
	suite_add_tcase(suite, names);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
