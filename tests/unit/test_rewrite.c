/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What namespaces make of requests (policy/rewrite.h) and of replies (policy/fix.h), as tables. Arguments and elements
 * stand with blanks between them; '' is an empty one.
 *
 *      request that is sent    [s KEY FIELD|VALUE] an argument that is sealed, SCRIPT a long one; behind it
 *                              "+ KEY MS" and "~ KEY MS" for what gives keys their time to live, renews it;
 *                              "!NAME" an error of errors.def, "..." more is needed
 *      reply                   *2 $-1 :5 +OK and so on as on the wire, others are bulk strings;
 *                              @s/KEY/FIELD/VALUE a sealed one
 */
#include "config_help.h"
#include "policy/rewrite.h"
#include "resp/errors.h"
#include "resp/reply_frame.h"
#include "resp/request_frame.h"
#include "resp/write.h"

#define NOW_MS 1000000

static const char key_lines[] = "[encryption]\nkeys = [\"k:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]\n"
				"hash_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n";

static struct namespaces *all;
static struct keyring *ring;
static struct rewrite rw;
static uint64_t random_state;
static const struct command unknown_command = {
	.name = "unknown", .id = COMMAND_ID_MAX - 1, .arity = -1, .flags = CMD_UNKNOWN | CMD_WRITE};

/* ---- setting up ---- */

static void finish(void)
{
	rewrite_fini(&rw);
	namespaces_free(&all);
	keyring_free(&ring);
}

/* Bound to a namespace, or to none. */
static void use(const char *text, const char *bound)
{
	char why[256];

	finish();
	good(text);
	command_init();
	ring = keyring_new(&config->encryption, why, sizeof(why));
	ck_assert_msg(ring, "%s", why);
	all = namespaces_new(config, keyring_hash_key(ring));
	rw.view = (struct view){all, bound ? namespaces_named(all, bound) : NULL};
	rw.ring = ring;
	rw.random = &random_state;
	rw.now_ms = NOW_MS;
	rw.proto = 2;
	ck_assert(!bound || rw.view.bound);
}

static void use_sealed(const char *text, const char *bound)
{
	char *whole = xasprintf("%s%s", text, key_lines);

	use(whole, bound);
	free(whole);
}

/* ---- words ---- */

/* The next word of *at, without its quotes if it is ''; NULL: there is none. */
static const char *next_word(const char **at, size_t *len)
{
	const char *word = *at + strspn(*at, " ");

	*len = strcspn(word, " ");
	*at = word + *len;
	if (*len == 0)
		return NULL;
	if (*len == 2 && memcmp(word, "''", 2) == 0)
		*len = 0;
	return word;
}

static void put_word(struct buf *out, const char *p, size_t len)
{
	buf_puts(out, buf_len(out) > 0 ? " " : "");
	if (len == 0)
		buf_puts(out, "''");
	else if (len > 60)
		buf_puts(out, "SCRIPT");
	else
		buf_put(out, p, len);
}

static struct buf request_of(const char *words)
{
	const char *at = words, *word;
	struct buf out = {0};
	size_t len, n = 0;

	while (next_word(&at, &len))
		n++;
	resp_array(&out, n);
	for (at = words; (word = next_word(&at, &len));)
		resp_bulk(&out, word, len);
	return out;
}

static const char *error_name(const char *text)
{
	static const char *const names[] = {
#define ERROR(name, text, meaning) "!" #name,
#include "resp/errors.def"
#undef ERROR
	};

	for (int i = 0; i < ERROR_COUNT; i++)
		if (reply_error_text((enum reply_error)i) == text)
			return names[i];
	return "!";
}

/* ---- requests ---- */

static enum rewrite_status rewrite_bytes(const struct buf *b, size_t cut)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	enum frame_status status = request_frame_feed(&f, buf_head(b), cut);
	struct rewrite_input in = {buf_head(b), f.len, f.argc, f.n_seen, status == FRAME_MORE};
	size_t sub_len = 0;
	const char *sub = NULL;

	ck_assert(status == FRAME_READY || f.n_seen > 1);
	if (f.argc > 1) {
		sub = buf_head(b) + f.arg[1].offset;
		sub_len = f.arg[1].len;
	}
	rw.cmd = command_find(NULL, buf_head(b) + f.arg[0].offset, f.arg[0].len, sub, sub_len);
	if (!rw.cmd)
		rw.cmd = &unknown_command;
	random_state = (uint64_t)7 << 33;
	return rewrite_request(&rw, &in);
}

static void put_arg(struct buf *out, const struct arg *arg)
{
	struct buf sealed = {0};

	if (!arg->seal) {
		put_word(out, arg->p, arg->len);
		return;
	}
	buf_printf(&sealed, "[%c %.*s %.*s|%.*s]", arg->seal->kind, (int)arg->seal->key_len, arg->seal->key,
		   (int)arg->seal->field_len, arg->seal->field_len ? arg->seal->field : "", (int)arg->len, arg->p);
	put_word(out, buf_head(&sealed), buf_len(&sealed));
	buf_release(&sealed);
}

/* What became of a request; the caller's to release. */
static struct buf outcome(enum rewrite_status status)
{
	struct buf out = {0};

	if (status == REWRITE_REFUSED)
		buf_puts(&out, error_name(rw.error));
	else if (status == REWRITE_MORE)
		buf_puts(&out, "...");
	for (uint32_t i = 0; status == REWRITE_FINE && i < rw.argc; i++)
		put_arg(&out, &rw.args[i]);
	for (uint32_t i = 0; status == REWRITE_FINE && rw.has_after && i < rw.n_keys; i++)
		if (rw.keys[i].ttl_ms > 0)
			buf_printf(&out, " %c %.*s %lld", rw.keys[i].slides ? '~' : '+', (int)rw.keys[i].len,
				   rw.keys[i].name, (long long)rw.keys[i].ttl_ms);
	ck_assert(buf_append(&out, "", 1));
	return out;
}

struct pair {
	const char *in, *out;
};

static void requests(const struct pair *cases, int n)
{
	for (int i = 0; i < n; i++) {
		struct buf request = request_of(cases[i].in);
		enum rewrite_status status = rewrite_bytes(&request, buf_len(&request));
		struct buf out = outcome(status);
		const char *wanted = cases[i].out ? cases[i].out : cases[i].in;

		ck_assert_msg(strcmp(buf_head(&out), wanted) == 0, "%s\n became %s\n not    %s", cases[i].in,
			      buf_head(&out), wanted);
		ck_assert_msg(cases[i].out || !rw.changed, "%s is written anew", cases[i].in);
		/* One that is only tried is refused likewise, and leaves nothing behind. */
		rw.probing = true;
		ck_assert_msg(rewrite_bytes(&request, buf_len(&request)) == status, "%s, probing", cases[i].in);
		ck_assert_ptr_null(rw.fix);
		rw.probing = false;
		buf_release(&out);
		buf_release(&request);
	}
}

#define REQUESTS(...)                                                                                                  \
	do {                                                                                                           \
		static const struct pair cases[] = {__VA_ARGS__};                                                      \
		requests(cases, COUNT(cases));                                                                         \
	} while (0)

START_TEST(keys_of_a_bound_view)
{
	use("[namespace.p]\nprefix = \"s:\"\n[namespace.q]\nprefix = \"t:\"\n", "p");
	REQUESTS({"GET k", "GET s:k"}, {"get ''", "get s:"}, {"GET s:k", "GET s:s:k"}, {"GET t:k", "GET s:t:k"},
		 {"MSET a 1 b 2", "MSET s:a 1 s:b 2"}, {"DEL a a b", "DEL s:a s:a s:b"},
		 {"COPY a b DB 1", "COPY s:a s:b DB 1"}, {"OBJECT ENCODING a", "OBJECT ENCODING s:a"},
		 {"EVAL x 2 a b c", "EVAL x 2 s:a s:b c"}, {"EVAL x 0 a", NULL},
		 {"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "ZUNIONSTORE s:d 2 s:a s:b WEIGHTS 1 2"},
		 {"XREAD COUNT 1 STREAMS a b 0 0", "XREAD COUNT 1 STREAMS s:a s:b 0 0"},
		 {"GEORADIUS a 1 2 3 m STORE b", "GEORADIUS s:a 1 2 3 m STORE s:b"}, {"SMOVE a b a", "SMOVE s:a s:b a"},
		 {"BLPOP a b 0", "BLPOP s:a s:b 0"}, {"SINTERCARD 2 a b LIMIT 1", "SINTERCARD 2 s:a s:b LIMIT 1"},
		 {"PING", NULL},
		 /* Redis itself refuses these. */
		 {"SINTERCARD 3 a b", NULL}, {"XREAD COUNT 1 a", NULL},
		 /* What reaches beyond. */
		 {"NOSUCH a", "!KEYS_UNKNOWN"}, {"MIGRATE h 1 a 0 9", "!BOUND"}, {"CONFIG GET x", "!BOUND"},
		 {"INFO", NULL});
	finish();
}
END_TEST

START_TEST(keys_of_an_ordinary_view)
{
	use("[namespace.p]\nmatch = [\"p:\", \"pp:\"]\nprefix = \"s:\"\n[namespace.plain]\nttl = 0\n", NULL);
	REQUESTS({"GET p:1", "GET s:1"}, {"GET pp:1", "GET s:1"}, {"GET s:1", NULL}, {"GET p", NULL},
		 {"MGET p:1 x plain:1 pp:2", "MGET s:1 x plain:1 s:2"}, {"RENAME p:1 x", "RENAME s:1 x"},
		 {"NOSUCH p:1", NULL}, {"MIGRATE h 1 x 0 9", NULL}, {"MIGRATE h 1 p:1 0 9", "!BOUND"},
		 {"MIGRATE h 1 '' 0 9 KEYS x pp:1", "!BOUND"}, {"CONFIG GET x", NULL});
	use("[namespace.default]\nprefix = \"d:\"\n", NULL);
	REQUESTS({"GET x", "GET d:x"}, {"GET d:x", NULL}, {"GET ''", "GET d:"});
	finish();
}
END_TEST

START_TEST(strict_and_readonly)
{
	use("[server]\nstrict = true\n[namespace.p]\n[namespace.r]\nreadonly = true\n", NULL);
	REQUESTS({"GET p:1", NULL}, {"GET x", "!STRICT"}, {"MGET p:1 x", "!STRICT"}, {"SORT p:1 GET x*", "!STRICT"},
		 {"SORT p:1 BY nosort GET p:*", NULL}, {"NOSUCH", "!KEYS_UNKNOWN"}, {"PING", NULL}, {"GET r:1", NULL},
		 {"SET r:1 v", "!NS_READONLY"}, {"COPY r:1 p:1", NULL}, {"COPY p:1 r:1", "!NS_READONLY"},
		 {"EVAL x 1 r:1", "!NS_READONLY"}, {"EVAL_RO x 1 r:1", NULL}, {"EXPIRE r:1 9", "!NS_READONLY"},
		 {"GETEX r:1", "!NS_READONLY"}, {"SORT r:1 STORE p:1", NULL}, {"SORT p:1 STORE r:1", "!NS_READONLY"});
	use("[namespace.r]\nreadonly = true\nprefix = \"R:\"\n", "r");
	REQUESTS({"GET 1", "GET R:1"}, {"DEL 1", "!NS_READONLY"}, {"FLUSHDB", "!NS_READONLY"},
		 {"FLUSHALL ASYNC", "!NS_READONLY"}, {"DBSIZE", "EVAL return #redis.call('KEYS',ARGV[1]) 0 R:*"});
	finish();
}
END_TEST

/* ---- names.c ---- */

START_TEST(patterns)
{
	use("[namespace.p]\nprefix = \"s*:\"\n", "p");
	REQUESTS({"KEYS *", "KEYS s\\*:*"}, {"KEYS ''", "KEYS s\\*:"}, {"SCAN 0", "SCAN 0 MATCH s\\*:*"},
		 {"SCAN 0 COUNT 9", "SCAN 0 COUNT 9 MATCH s\\*:*"},
		 {"SCAN 0 match x? TYPE hash", "SCAN 0 match s\\*:x? TYPE hash"},
		 {"SCAN 0 MATCH a MATCH b", "SCAN 0 MATCH a MATCH s\\*:b"},
		 {"SCAN 0 MATCH", "SCAN 0 MATCH MATCH s\\*:*"});
	use("[namespace.p]\nprefix = \"s:\"\n[namespace.plain]\n", NULL);
	REQUESTS({"KEYS p:x*", "KEYS s:x*"}, {"KEYS p*", "KEYS *"}, {"KEYS x*", NULL}, {"KEYS ''", NULL},
		 {"SCAN 0", NULL}, {"SCAN 0 MATCH p:*", "SCAN 0 MATCH s:*"}, {"SCAN 0 MATCH plain:*", NULL},
		 {"SCAN 0 MATCH ? COUNT 9", "SCAN 0 MATCH * COUNT 9"}, {"SCAN 0 MATCH p:* MATCH x", NULL},
		 {"SCAN 0 MATCH x MATCH p:*", "SCAN 0 MATCH x MATCH s:*"},
		 {"HSCAN p:1 0 MATCH p:*", "HSCAN s:1 0 MATCH p:*"});
	use_sealed("[namespace.h]\nhash_keys = true\n[namespace.p]\nprefix = \"s:\"\n", NULL);
	REQUESTS({"KEYS h:*", "!NAMES_HASHED"}, {"SCAN 0 MATCH h:1", "!NAMES_HASHED"}, {"KEYS h*", "KEYS *"},
		 {"SORT x BY h:*", "!NAMES_HASHED"});
	use_sealed("[namespace.h]\nhash_keys = true\n", "h");
	REQUESTS({"KEYS *", "!NAMES_HASHED"}, {"SCAN 0", "!NAMES_HASHED"});
	finish();
}
END_TEST

START_TEST(sort_patterns)
{
	use("[namespace.p]\nprefix = \"s:\"\n[namespace.q]\nprefix = \"t:\"\n", NULL);
	REQUESTS({"SORT p:1", "SORT s:1"}, {"SORT x BY nosort GET #", NULL},
		 {"SORT p:1 BY p:w_*->f GET q:*->p:* GET # LIMIT 0 5 DESC ALPHA STORE q:2",
		  "SORT s:1 BY s:w_*->f GET t:*->p:* GET # LIMIT 0 5 DESC ALPHA STORE t:2"},
		 {"SORT x LIMIT GET p:* by p:*", "SORT x LIMIT GET p:* by s:*"},
		 {"SORT x GET STORE GET p:*", "SORT x GET STORE GET s:*"},
		 {"SORT x STORE BY GET p:*", "SORT x STORE BY GET s:*"}, {"SORT x GET *", NULL},
		 {"SORT_RO p:1 GET p:*", "SORT_RO s:1 GET s:*"}, {"SORT x GET", NULL});
	use("[namespace.p]\nprefix = \"s:\"\n", "p");
	REQUESTS({"SORT k BY * GET x->* GET #", "SORT s:k BY s:* GET s:x->* GET #"});
	use_sealed("[namespace.p]\nencrypt = true\n", NULL);
	REQUESTS({"SORT x GET p:*", "!ENCRYPTED"}, {"SORT x GET p*", NULL});
	finish();
}
END_TEST

START_TEST(all_keys_of_a_namespace)
{
	use("[namespace.p]\nprefix = \"s:\"\n", "p");
	REQUESTS({"DBSIZE", "EVAL return #redis.call('KEYS',ARGV[1]) 0 s:*"}, {"FLUSHDB", "EVAL SCRIPT 0 s:*"},
		 {"FLUSHALL sync", "EVAL SCRIPT 0 s:*"}, {"FLUSHDB NOW", NULL}, {"FLUSHALL ASYNC SYNC", NULL},
		 {"RANDOMKEY", "EVAL SCRIPT 0 s:* s: 2048636310"});
	use("[namespace.p]\nprefix = \"s:\"\n", NULL);
	REQUESTS({"DBSIZE", NULL}, {"FLUSHDB", NULL}, {"RANDOMKEY", "EVAL SCRIPT 0"});
	use("[namespace.p]\nttl = 9\n", NULL);
	REQUESTS({"RANDOMKEY", NULL}, {"KEYS p*", NULL}, {"SCAN 0", NULL});
	finish();
}
END_TEST

START_TEST(channels)
{
	use_sealed("[namespace.p]\nchannel_prefix = \"s:\"\n[namespace.q]\nencrypt = true\nencrypt_messages = true\n"
		   "channel_prefix = \"t:\"\n",
		   NULL);
	REQUESTS({"PUBLISH p:1 m", "PUBLISH s:1 m"}, {"PUBLISH x m", NULL},
		 {"SPUBLISH q:1 m", "SPUBLISH t:1 [p t:1 |m]"}, {"PUBLISH q:1 ''", "PUBLISH t:1 [p t:1 |]"});
	finish();
}
END_TEST

START_TEST(hashed)
{
	use_sealed("[namespace.h]\nhash_keys = true\nprefix = \"x:\"\n", "h");
	for (int i = 0; i < 2; i++) {
		struct buf request = request_of(i ? "GET {tag}rest" : "GET name");
		size_t wanted = i ? 2 + 18 + 32 : 2 + 32; /* x:{tag's hash}hash */

		ck_assert_int_eq(rewrite_bytes(&request, buf_len(&request)), REWRITE_FINE);
		ck_assert_uint_eq(rw.args[1].len, wanted);
		ck_assert_mem_eq(rw.args[1].p, i ? "x:{" : "x:", i ? 3 : 2);
		ck_assert_ptr_eq(rw.args[1].p, rw.keys[0].name);
		ck_assert_int_eq(rw.keys[0].client_len, i ? 9 : 4);
		buf_release(&request);
	}
	finish();
}
END_TEST

/* ---- ttl.c ---- */

START_TEST(ttl)
{
	use("[namespace.p]\nttl = 60\nttl_jitter = 0\n[namespace.r]\nttl = 60\nttl_jitter = 0\nprefix = \"R:\"\n",
	    NULL);
	REQUESTS({"SET p:1 v", "PSETEX p:1 60000 v"}, {"SET x v", NULL}, {"SET r:1 v", "PSETEX R:1 60000 v"},
		 {"SET p:1 v NX", "SET p:1 v NX PX 60000"}, {"SET p:1 v EX 5", NULL}, {"SET p:1 v nx get px 5", NULL},
		 {"SET p:1 v EXAT 5", NULL}, {"SET p:1 v PXAT 5", NULL}, {"SET p:1 v EX", NULL},
		 {"SET p:1 EX", "PSETEX p:1 60000 EX"}, {"SET p:1 v KEEPTTL", "SET p:1 v KEEPTTL + p:1 60000"},
		 {"SET p:1 v IFEQ EX", "SET p:1 v IFEQ EX PX 60000"}, {"SET p:1 v IFEQ KEEPTTL EX 5", NULL},
		 {"SETNX p:1 v", "SET p:1 v PX 60000 NX"}, {"SETNX x v", NULL}, {"SETEX p:1 5 v", NULL},
		 {"PSETEX p:1 5 v", NULL}, {"GETSET p:1 v", "GETSET p:1 v + p:1 60000"}, {"GETEX p:1", NULL},
		 {"GETEX p:1 EX 5", NULL}, {"GETEX p:1 PERSIST", "GETEX p:1 PERSIST + p:1 60000"},
		 {"GETEX x PERSIST", NULL}, {"PERSIST p:1", "PERSIST p:1 + p:1 60000"},
		 {"RESTORE p:1 0 b", "RESTORE p:1 60000 b"}, {"RESTORE p:1 5 b REPLACE", NULL},
		 {"RESTORE p:1 0 b absttl", "RESTORE p:1 1060000 b absttl"}, {"RESTORE p:1 x b", NULL},
		 {"RESTORE x 0 b", NULL}, {"MSET p:1 a x b r:1 c", "MSET p:1 a x b R:1 c + p:1 60000 + R:1 60000"},
		 {"INCR p:1", "INCR p:1 + p:1 60000"}, {"HSET p:1 f v", "HSET p:1 f v + p:1 60000"}, {"DEL p:1", NULL},
		 {"GET p:1", NULL}, {"TTL p:1", NULL}, {"GETDEL p:1", NULL},
		 {"COPY p:1 r:1", "COPY p:1 R:1 + R:1 60000"}, {"SORT p:1 STORE p:2", "SORT p:1 STORE p:2 + p:2 60000"},
		 {"EVAL x 1 p:1", "EVAL x 1 p:1 + p:1 60000"}, {"EXPIRE p:1 999999", NULL});
	finish();
}
END_TEST

START_TEST(max_ttl)
{
	use("[namespace.m]\nmax_ttl = 10\n[namespace.b]\nttl = 60\nttl_jitter = 0\nmax_ttl = 90\n"
	    "[namespace.s]\nmax_ttl = \"500ms\"\n",
	    NULL);
	REQUESTS({"SET m:1 v", NULL}, {"SET m:1 v EX 10", NULL}, {"SET m:1 v EX 11", "SET m:1 v EX 10"},
		 {"SET m:1 v PX 10001", "SET m:1 v PX 10000"}, {"SET m:1 v EXAT 1011", "SET m:1 v EXAT 1010"},
		 {"SET m:1 v PXAT 9999999", "SET m:1 v PXAT 1010000"}, {"SET m:1 v EX -1", NULL},
		 {"SET m:1 v EX x", NULL}, {"SET m:1 v IFEQ PX EX 11", "SET m:1 v IFEQ PX EX 10"},
		 {"SET s:1 v EX 1", "SET s:1 v EX 1"}, {"SET s:1 v EX 2", "SET s:1 v EX 1"},
		 {"SET m:1 v KEEPTTL", NULL}, {"SET b:1 v", "PSETEX b:1 60000 v"},
		 {"SET b:1 v EX 91", "SET b:1 v EX 90"}, {"SETEX m:1 11 v", "SETEX m:1 10 v"},
		 {"PSETEX m:1 10001 v", "PSETEX m:1 10000 v"}, {"EXPIRE m:1 11 NX", "EXPIRE m:1 10 NX"},
		 {"PEXPIRE m:1 9223372036854775807", "PEXPIRE m:1 10000"}, {"EXPIRE m:1 9223372036854775808", NULL},
		 {"EXPIREAT m:1 1011", "EXPIREAT m:1 1010"}, {"PEXPIREAT m:1 1010001", "PEXPIREAT m:1 1010000"},
		 {"GETEX m:1 EX 11", "GETEX m:1 EX 10"}, {"GETEX m:1 PERSIST", NULL},
		 {"RESTORE m:1 10001 b", "RESTORE m:1 10000 b"}, {"RESTORE m:1 0 b", NULL},
		 {"RESTORE m:1 1010001 b ABSTTL", "RESTORE m:1 1010000 b ABSTTL"},
		 {"RESTORE b:1 0 b", "RESTORE b:1 60000 b"}, {"EXPIRE x 11", NULL});
	finish();
}
END_TEST

START_TEST(sliding)
{
	use("[namespace.p]\nttl = 60\nttl_jitter = 0\nsliding = true\n", NULL);
	REQUESTS({"GET p:1", "GET p:1 ~ p:1 60000"}, {"MGET p:1 x p:2", "MGET p:1 x p:2 ~ p:1 60000 ~ p:2 60000"},
		 {"TTL p:1", NULL}, {"TYPE p:1", NULL}, {"HGETALL p:1", "HGETALL p:1 ~ p:1 60000"},
		 {"SET p:1 v", "PSETEX p:1 60000 v"}, {"DEL p:1", NULL}, {"GET x", NULL});
	finish();
}
END_TEST

START_TEST(jitter)
{
	const struct namespace_config *conf;
	int64_t least = INT64_MAX, most = 0;
	uint64_t state = 1;

	use("[namespace.p]\nttl = 100\nttl_jitter = 0.2\n[namespace.q]\nttl = 100\nttl_jitter = 0.5\nmax_ttl = 110\n",
	    NULL);
	conf = namespaces_named(all, "p")->conf;
	for (int i = 0; i < 10000; i++) {
		int64_t ms = ttl_jittered_ms(conf, &state);

		least = ms < least ? ms : least;
		most = ms > most ? ms : most;
	}
	ck_assert_int_ge(least, 80000);
	ck_assert_int_le(least, 80100);
	ck_assert_int_ge(most, 119900);
	ck_assert_int_le(most, 120000);
	conf = namespaces_named(all, "q")->conf;
	for (int i = 0; i < 1000; i++)
		ck_assert_int_le(ttl_jittered_ms(conf, &state), 110000);
	finish();
}
END_TEST

START_TEST(commands_behind)
{
	static const struct {
		bool slides, has_options;
		const char *out;
	} cases[] = {{false, true, "PEXPIRE k 60 NX"},
		     {true, true, "PEXPIRE k 60 GT"},
		     {false, false, "EVAL SCRIPT 1 k 60"},
		     {true, false, "EVAL SCRIPT 1 k 60"}};

	for (int i = 0; i < COUNT(cases); i++) {
		struct rewrite_key key = {.name = "k", .len = 1, .ttl_ms = 60, .slides = cases[i].slides};
		struct buf b = {0}, out = {0};
		struct arg_cursor cur;
		const char *arg;
		size_t len;

		ttl_put_after(&b, &key, cases[i].has_options);
		arg_cursor_init(&cur, buf_head(&b), buf_len(&b));
		while (arg_cursor_next(&cur, &arg, &len))
			put_word(&out, arg, len);
		ck_assert(buf_append(&out, "", 1));
		ck_assert_str_eq(buf_head(&out), cases[i].out);
		buf_release(&out);
		buf_release(&b);
	}
}
END_TEST

/* ---- seal_args.c ---- */

START_TEST(sealed_arguments)
{
	use_sealed("[namespace.p]\nencrypt = true\nprefix = \"s:\"\n[namespace.t]\nencrypt = true\nttl = "
		   "60\nttl_jitter = 0\n",
		   NULL);
	REQUESTS({"SET p:1 v", "SET s:1 [s s:1 |v]"}, {"SET p:1 '' EX 5", "SET s:1 [s s:1 |] EX 5"},
		 {"SET t:1 v", "PSETEX t:1 60000 [s t:1 |v]"}, {"SET t:1 v NX", "SET t:1 [s t:1 |v] NX PX 60000"},
		 {"SET p:1 v IFEQ w", "!ENCRYPTED"}, {"SET p:1 v NX ifdne w", "!ENCRYPTED"}, {"SET x v IFEQ w", NULL},
		 {"SETNX t:1 v", "SET t:1 [s t:1 |v] PX 60000 NX"}, {"SETNX p:1 v", "SETNX s:1 [s s:1 |v]"},
		 {"SETEX p:1 5 v", "SETEX s:1 5 [s s:1 |v]"}, {"GETSET p:1 v", "GETSET s:1 [s s:1 |v]"},
		 {"MSET p:1 a x b p:2 c", "MSET s:1 [s s:1 |a] x b s:2 [s s:2 |c]"}, {"STRLEN p:1", "GET s:1"},
		 {"HSET p:1 f v g w", "HSET s:1 f [h s:1 f|v] g [h s:1 g|w]"},
		 {"HSETNX p:1 f v", "HSETNX s:1 f [h s:1 f|v]"},
		 {"HSETEX p:1 FNX EX 5 FIELDS 2 f v g w", "HSETEX s:1 FNX EX 5 FIELDS 2 f [h s:1 f|v] g [h s:1 g|w]"},
		 {"HSTRLEN p:1 f", "HGET s:1 f"}, {"HVALS p:1", "HGETALL s:1"}, {"HMGET p:1 f g", "HMGET s:1 f g"},
		 {"RPUSH p:1 a b", "RPUSH s:1 [l s:1 |a] [l s:1 |b]"}, {"LSET p:1 0 a", "LSET s:1 0 [l s:1 |a]"},
		 {"LMOVE p:1 p:1 LEFT RIGHT", "LMOVE s:1 s:1 LEFT RIGHT"}, {"LMOVE p:1 p:2 LEFT RIGHT", "!ENCRYPTED"},
		 {"RPOPLPUSH p:1 x", "!ENCRYPTED"}, {"RPOPLPUSH x p:1", "!ENCRYPTED"},
		 {"XADD p:1 * f v g w", "XADD s:1 * f [x s:1 f|v] g [x s:1 g|w]"},
		 {"XADD p:1 NOMKSTREAM MAXLEN ~ 10 LIMIT 5 1-1 f v",
		  "XADD s:1 NOMKSTREAM MAXLEN ~ 10 LIMIT 5 1-1 f [x s:1 f|v]"},
		 {"XADD p:1 MINLEN 3 * f v", "XADD s:1 MINLEN 3 * f [x s:1 f|v]"}, {"DEL p:1", "DEL s:1"},
		 {"INCR p:1", "!ENCRYPTED"}, {"APPEND p:1 v", "!ENCRYPTED"}, {"SADD p:1 m", "!ENCRYPTED"},
		 {"EVAL x 1 p:1", "!ENCRYPTED"}, {"COPY p:1 x", "!ENCRYPTED"}, {"RENAME x p:1", "!ENCRYPTED"},
		 {"SORT p:1", "!ENCRYPTED"}, {"DUMP p:1", "!ENCRYPTED"}, {"GETRANGE p:1 0 1", "!ENCRYPTED"},
		 {"LINSERT p:1 BEFORE a b", "!ENCRYPTED"}, {"INCR x", NULL}, {"SET x v", NULL});
	finish();
}
END_TEST

/* What is marked is sealed as it is written out, and opens where it is bound to. */
START_TEST(written_out)
{
	struct seal_place at = {.kind = SEAL_FIELD, .key = "s:1", .key_len = 3, .field = "f", .field_len = 1};
	struct buf request, out = {0}, value = {0};
	struct request_frame f = {.max_bulk = UINT64_MAX};

	use_sealed("[namespace.p]\nencrypt = true\nprefix = \"s:\"\n", NULL);
	request = request_of("HSET p:1 f value");
	ck_assert_int_eq(rewrite_bytes(&request, buf_len(&request)), REWRITE_FINE);
	ck_assert(rewrite_put(&rw, &out));
	ck_assert_int_eq(request_frame_feed(&f, buf_head(&out), buf_len(&out)), FRAME_READY);
	ck_assert_uint_eq(f.len, buf_len(&out));
	ck_assert_uint_eq(f.argc, 4);
	ck_assert_int_eq(seal_open(ring, &at, buf_head(&out) + f.arg[3].offset, f.arg[3].len, &value), OPEN_OK);
	ck_assert_uint_eq(buf_len(&value), 5);
	ck_assert_mem_eq(buf_head(&value), "value", 5);
	buf_release(&value);
	buf_release(&out);
	buf_release(&request);
	finish();
}
END_TEST

/* ---- heads of large requests ---- */

/* Cut in the middle of the last argument that is given; `rest` follows. */
static void heads(const struct pair *cases, int n)
{
	for (int i = 0; i < n; i++) {
		struct buf request = request_of(cases[i].in);
		size_t cut = buf_len(&request) - 3;
		enum rewrite_status status = rewrite_bytes(&request, cut);
		struct buf out = outcome(status), sent = {0};
		struct request_frame f = {.max_bulk = UINT64_MAX};

		ck_assert_msg(strcmp(buf_head(&out), cases[i].out) == 0, "%s\n became %s\n not    %s", cases[i].in,
			      buf_head(&out), cases[i].out);
		if (status == REWRITE_FINE) {
			ck_assert(rewrite_put(&rw, &sent));
			buf_put(&sent, buf_head(&request) + cut, 3);
			ck_assert_int_eq(request_frame_feed(&f, buf_head(&sent), buf_len(&sent)), FRAME_READY);
			ck_assert_uint_eq(f.len, buf_len(&sent));
			ck_assert_uint_eq(f.argc, rw.argc + rw.argc_to_come);
		}
		buf_release(&sent);
		buf_release(&out);
		buf_release(&request);
	}
}

#define HEADS(...)                                                                                                     \
	do {                                                                                                           \
		static const struct pair cases[] = {__VA_ARGS__};                                                      \
		heads(cases, COUNT(cases));                                                                            \
	} while (0)

START_TEST(partial)
{
	use_sealed("[namespace.p]\nprefix = \"s:\"\n[namespace.t]\nttl = 60\nttl_jitter = 0\nprefix = \"T:\"\n"
		   "[namespace.e]\nencrypt = true\nencrypt_messages = true\n[namespace.r]\nreadonly = true\n",
		   NULL);
	HEADS({"SET p:1 value", "SET s:1"}, {"SET p:1 v NX", "SET s:1"}, {"SET x value", "SET x"},
	      {"SET t:1 value", "PSETEX T:1 60000"}, {"SET t:1 value NX", "..."}, {"SETNX t:1 value", "..."},
	      {"HSET p:1 f value", "HSET s:1"}, {"HSET t:1 f value", "..."}, {"GET p:long", "..."},
	      {"SET e:1 value", "..."}, {"SET r:1 value", "!NS_READONLY"}, {"MSET p:1 value", "..."},
	      {"DEL p:1 p:2", "..."}, {"PUBLISH p:1 message", "PUBLISH p:1"}, {"PUBLISH e:1 message", "..."},
	      {"SORT_RO p:1 BY nosort", "..."}, {"NOSUCH p:1 value", "..."}, {"EVAL x 1 p:1", "..."});
	use("[namespace.p]\nprefix = \"s:\"\n", "p");
	HEADS({"SET k value", "SET s:k"}, {"SORT_RO k BY nosort", "..."}, {"SORT k BY nosort", "..."});
	finish();
}
END_TEST

/* ---- replies ---- */

static const char *put_sealed(struct buf *out, const char *word, size_t len)
{
	char text[256], *save = NULL, *kind, *key, *field, *value;
	struct seal_place at;

	ck_assert_uint_lt(len, sizeof(text));
	memcpy(text, word + 1, len - 1);
	text[len - 1] = '\0';
	kind = strtok_r(text, "/", &save);
	key = strtok_r(NULL, "/", &save);
	field = strtok_r(NULL, "/", &save);
	value = strtok_r(NULL, "/", &save);
	if (!value) {
		value = field;
		field = NULL;
	}
	at = (struct seal_place){(enum seal_kind) * kind, key, strlen(key), field, field ? strlen(field) : 0};
	buf_printf(out, "$%zu\r\n", sealed_length(ring, strlen(value)));
	ck_assert(seal_put(ring, &at, value, strlen(value), out));
	buf_puts(out, "\r\n");
	return value;
}

static struct buf reply_of(const char *words)
{
	const char *word;
	struct buf out = {0};
	size_t len;

	while ((word = next_word(&words, &len))) {
		if (len > 0 && *word == '@') {
			put_sealed(&out, word, len);
		} else if (len > 0 && strchr("+-:$*_,#%~|>", *word)) {
			buf_put(&out, word, len);
			buf_puts(&out, "\r\n");
		} else {
			resp_bulk(&out, word, len);
		}
	}
	return out;
}

static struct buf words_of(const struct buf *reply)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct reply_item item;
	struct buf out = {0};
	char line[128];

	while (reply_cursor_next(&cur, &item)) {
		if (item.type == '$' && item.number >= 0) {
			put_word(&out, item.text, item.len);
			continue;
		}
		snprintf(line, sizeof(line), "%c%.*s", item.type, (int)item.len, item.text);
		put_word(&out, line, strlen(line));
	}
	ck_assert_ptr_eq(cur.p, cur.end);
	ck_assert(buf_append(&out, "", 1));
	return out;
}

struct exchange {
	const char *request, *reply, *wanted; /* NULL: nothing is done to it */
};

static void replies(const struct exchange *cases, int n)
{
	for (int i = 0; i < n; i++) {
		const struct exchange *e = &cases[i];
		struct buf request = request_of(e->request), reply = reply_of(e->reply), fixed = {0}, words = {0};
		const char *error;

		ck_assert_msg(rewrite_bytes(&request, buf_len(&request)) == REWRITE_FINE, "%s", e->request);
		ck_assert_msg((rw.fix != NULL) == (e->wanted != NULL), "%s: %s", e->request,
			      rw.fix ? "fixed" : "not fixed");
		if (e->wanted) {
			error = fix_reply(rw.fix, buf_head(&reply), buf_len(&reply), &fixed);
			if (error)
				buf_puts(&words, error_name(error));
			else
				words = words_of(&fixed);
			ck_assert(buf_append(&words, "", 1));
			ck_assert_msg(strcmp(buf_head(&words), e->wanted) == 0, "%s: %s\n became %s\n not    %s",
				      e->request, e->reply, buf_head(&words), e->wanted);
		}
		buf_release(&words);
		buf_release(&fixed);
		buf_release(&reply);
		buf_release(&request);
	}
}

#define REPLIES(...)                                                                                                   \
	do {                                                                                                           \
		static const struct exchange cases[] = {__VA_ARGS__};                                                  \
		replies(cases, COUNT(cases));                                                                          \
	} while (0)

START_TEST(names_in_replies)
{
	use("[namespace.p]\nprefix = \"s:\"\n[namespace.q]\nprefix = \"t:\"\n", NULL);
	REPLIES({"KEYS *", "*4 s:1 t: x p:1", "*3 p:1 q: x"}, {"KEYS p*", "*3 s:1 t:1 x", "*1 p:1"},
		{"KEYS p:*", "~2 s:1 s:2", "*2 p:1 p:2"}, {"KEYS *", "*0", "*0"}, {"KEYS *", "-ERR_x", "-ERR_x"},
		{"SCAN 0", "*2 17 *3 s:1 x q:1", "*2 17 *2 p:1 x"}, {"SCAN 0 MATCH q:*", "*2 0 *1 t:1", "*2 0 *1 q:1"},
		{"SCAN 0 MATCH p:* MATCH q*", "*2 0 *2 s:1 t:1", "*2 0 *1 q:1"}, {"RANDOMKEY", "*3 p:1 $-1 t:1", "q:1"},
		{"RANDOMKEY", "*2 p:1 q:1", "$-1"}, {"RANDOMKEY", "x", "x"}, {"BLPOP p:1 x 0", "*2 s:1 v", "*2 p:1 v"},
		{"BLPOP p:1 x 0", "*2 x v", "*2 x v"}, {"BLPOP p:1 0", "*-1", "*-1"}, {"BLPOP p:1 0", "_", "_"},
		{"BLPOP x 0", "*2 x v", NULL}, {"BZPOPMIN p:1 0", "*3 s:1 m ,1.5", "*3 p:1 m ,1.5"},
		{"LMPOP 2 x q:1 LEFT", "*2 t:1 *2 a s:1", "*2 q:1 *2 a s:1"},
		{"ZMPOP 1 p:1 MIN", "*2 s:1 *1 *2 m ,1", "*2 p:1 *1 *2 m ,1"},
		{"XREAD STREAMS p:1 x 0 0", "*2 *2 s:1 *1 *2 1-1 *2 f s:1 *2 x *0",
		 "*2 *2 p:1 *1 *2 1-1 *2 f s:1 *2 x *0"},
		{"XREADGROUP GROUP g c STREAMS p:1 >", "%1 s:1 *1 *2 1-1 $-1", "%1 p:1 *1 *2 1-1 $-1"},
		{"XREAD STREAMS p:1 0", "$-1", "$-1"}, {"GET p:1", "s:1", NULL});
	use("[namespace.p]\nprefix = \"s:\"\n[namespace.q]\nprefix = \"t:\"\n", "p");
	REPLIES({"KEYS *", "*3 s:1 t:1 s:", "*2 1 ''"}, {"SCAN 0", "*2 0 *2 s:1 x", "*2 0 *1 1"},
		{"RANDOMKEY", "s:x", "x"}, {"RANDOMKEY", "$-1", "$-1"}, {"BRPOP 1 0", "*2 s:1 v", "*2 1 v"},
		{"DBSIZE", ":5", NULL}, {"GET k", "x", NULL});
	rw.proto = 3;
	REPLIES({"RANDOMKEY", "_", "_"}, {"RANDOMKEY", "$-1", "_"});
	use("[namespace.p]\nttl = 9\n", NULL);
	REPLIES({"KEYS *", "*1 p:1", NULL}, {"SETNX p:1 v", "+OK", ":1"}, {"SETNX p:1 v", "$-1", ":0"},
		{"SETNX p:1 v", "_", ":0"}, {"SETNX p:1 v", "-OOM", "-OOM"}, {"SETNX x v", ":1", NULL});
	finish();
}
END_TEST

START_TEST(values_in_replies)
{
	use_sealed("[namespace.p]\nencrypt = true\nprefix = \"s:\"\n[namespace.q]\nttl = 60\nprefix = \"t:\"\n", NULL);
	REPLIES({"GET p:1", "@s/s:1/v", "v"}, {"GET p:1", "$-1", "$-1"}, {"GET p:1", "_", "_"}, {"GET x", "v", NULL},
		{"GET p:1", "-WRONGTYPE", "-WRONGTYPE"}, {"GET p:1", "v", "!NOT_OPENED"},
		{"GET p:1", "@s/s:2/v", "!NOT_OPENED"}, {"GET p:1", "@l/s:1/v", "!NOT_OPENED"},
		{"GETDEL p:1", "@s/s:1/v", "v"}, {"GETEX p:1 EX 5", "@s/s:1/v", "v"}, {"GETSET p:1 w", "@s/s:1/v", "v"},
		{"SET p:1 w GET", "@s/s:1/v", "v"}, {"SET p:1 w", "+OK", NULL},
		{"MGET p:1 x p:2 p:3", "*4 @s/s:1/a b @s/s:2/c $-1", "*4 a b c $-1"},
		{"MGET p:1 p:2", "*2 @s/s:2/a @s/s:1/b", "!NOT_OPENED"}, {"STRLEN p:1", "@s/s:1/12345", ":5"},
		{"STRLEN p:1", "$-1", ":0"}, {"STRLEN p:1", "_", ":0"}, {"STRLEN p:1", "-WRONGTYPE", "-WRONGTYPE"},
		{"HGET p:1 f", "@h/s:1/f/v", "v"}, {"HGET p:1 f", "@h/s:1/g/v", "!NOT_OPENED"},
		{"HMGET p:1 f g", "*2 @h/s:1/f/a $-1", "*2 a $-1"},
		{"HGETEX p:1 EX 5 FIELDS 2 f g", "*2 _ @h/s:1/g/a", "*2 _ a"},
		{"HGETALL p:1", "*4 f @h/s:1/f/a g @h/s:1/g/b", "*4 f a g b"},
		{"HGETALL p:1", "%2 f @h/s:1/f/a g @h/s:1/g/b", "%2 f a g b"}, {"HGETALL p:1", "%0", "%0"},
		{"HRANDFIELD p:1 2 WITHVALUES", "*2 f @h/s:1/f/a", "*2 f a"},
		{"HRANDFIELD p:1 2 WITHVALUES", "*2 *2 f @h/s:1/f/a *2 g @h/s:1/g/b", "*2 *2 f a *2 g b"},
		{"HRANDFIELD p:1 2", "*2 f g", NULL}, {"HSCAN p:1 0", "*2 0 *2 f @h/s:1/f/a", "*2 0 *2 f a"},
		{"HSCAN p:1 0 NOVALUES", "*2 0 *1 f", NULL}, {"HVALS p:1", "*4 f @h/s:1/f/a g @h/s:1/g/b", "*2 a b"},
		{"HVALS p:1", "%1 f @h/s:1/f/a", "*1 a"}, {"HVALS p:1", "*0", "*0"},
		{"HSTRLEN p:1 f", "@h/s:1/f/123", ":3"}, {"HSTRLEN p:1 f", "$-1", ":0"}, {"HKEYS p:1", "*1 f", NULL},
		{"LRANGE p:1 0 -1", "*2 @l/s:1/a @l/s:1/b", "*2 a b"}, {"LPOP p:1", "@l/s:1/a", "a"},
		{"LPOP p:1 2", "*1 @l/s:1/a", "*1 a"}, {"LPOP p:1 2", "*-1", "*-1"}, {"LINDEX p:1 0", "_", "_"},
		{"LMOVE p:1 p:1 LEFT LEFT", "@l/s:1/a", "a"}, {"BLPOP p:1 p:2 0", "*2 s:2 @l/s:2/a", "*2 p:2 a"},
		{"BLPOP x p:2 0", "*2 x a", "*2 x a"},
		{"LMPOP 2 x p:2 LEFT", "*2 s:2 *2 @l/s:2/a @l/s:2/b", "*2 p:2 *2 a b"},
		{"BLPOP p:1 0", "*2 s:1 @l/s:2/a", "!NOT_OPENED"},
		{"XRANGE p:1 - +", "*2 *2 1-1 *2 f @x/s:1/f/a *2 1-2 *0", "*2 *2 1-1 *2 f a *2 1-2 *0"},
		{"XCLAIM p:1 g c 0 1-1 JUSTID", "*1 1-1", "*1 1-1"},
		{"XAUTOCLAIM p:1 g c 0 0", "*3 0-0 *2 *2 1-1 *2 f @x/s:1/f/a $-1 *1 1-3",
		 "*3 0-0 *2 *2 1-1 *2 f a $-1 *1 1-3"},
		{"XREAD STREAMS p:1 x 0 0", "*2 *2 s:1 *1 *2 1-1 *2 f @x/s:1/f/a *2 x *1 *2 1-1 *2 f b",
		 "*2 *2 p:1 *1 *2 1-1 *2 f a *2 x *1 *2 1-1 *2 f b"},
		{"XREAD STREAMS p:1 0", "%1 s:1 *1 *2 1-1 *2 f @x/s:1/f/a", "%1 p:1 *1 *2 1-1 *2 f a"},
		{"SETNX q:1 v", "+OK", ":1"});
	/* While old values are sealed: they pass as they are. */
	use_sealed("[namespace.p]\nencrypt = true\n", NULL);
	REPLIES({"XREAD STREAMS p:1 0", "%1 p:1 *1 *2 1-1 *2 f @x/p:1/f/a", "%1 p:1 *1 *2 1-1 *2 f a"},
		{"BRPOP p:1 0", "*2 p:1 @l/p:1/a", "*2 p:1 a"});
	finish();
}
END_TEST

START_TEST(plain_values)
{
	char *text = xasprintf("%saccept_plaintext = true\n[namespace.p]\nencrypt = true\n", key_lines);

	use(text, NULL);
	REPLIES({"GET p:1", "old", "old"}, {"GET p:1", "''", "''"}, {"STRLEN p:1", "old", ":3"},
		{"MGET p:1 p:2", "*2 old @s/p:2/new", "*2 old new"}, {"GET p:1", "@s/p:2/v", "!NOT_OPENED"});
	free(text);
	finish();
}
END_TEST

/* Shapes that no server sends today: whole replies come of them all the same. */
START_TEST(other_shapes)
{
	char *text = xasprintf("%saccept_plaintext = true\n[namespace.p]\nencrypt = true\nprefix = \"s:\"\nttl = 60\n",
			       key_lines);

	use(text, NULL);
	REPLIES({"MGET p:1", "*3 a b *1 c", "*3 a b *1 c"}, {"HMGET p:1 f", "*2 a b", "*2 a b"},
		{"HGETALL p:1", "*3 f a g", "*3 f a g"}, {"HVALS p:1", "*3 f a g", "*1 a"},
		{"HVALS p:1", "*4 *1 x a g b", "*2 a b"},
		{"HRANDFIELD p:1 1 WITHVALUES", "*3 *1 f *0 $-1", "*3 *1 f *0 $-1"},
		{"HSCAN p:1 0", "*3 0 *2 f a x", "*3 0 *2 f a x"}, {"HSCAN p:1 0", "*1 0", "*1 0"},
		{"XAUTOCLAIM p:1 g c 0 0", "*1 0-0", "*1 0-0"},
		{"XREAD STREAMS p:1 0", "*3 *0 *1 s:1 *3 s:1 *0 x", "*3 *0 *1 p:1 *3 p:1 *0 x"},
		{"SCAN 0", "*1 0", "*1 0"}, {"SCAN 0", "*3 0 *1 s:1 x", "*3 0 *1 p:1 x"},
		{"KEYS *", "*3 *2 s:1 x s:2 |1 a b s:3", "*1 p:2"}, {"KEYS *", "|1 a b *1 s:1", "|1 a b *1 s:1"},
		{"KEYS *", "+x", "+x"}, {"SETNX p:1 v", "|1 a b +OK", ":0"}, {"BLPOP p:1 0", "*1 s:1", "*1 p:1"},
		{"BLPOP p:1 0", "*2 |1 a b s:1 v", "*2 |1 a b s:1 v"}, {"GET p:1", "*2 a *1 b", "*2 a *1 b"},
		{"MGET p:1", ":1", ":1"}, {"HMGET p:1 f", "+x", "+x"}, {"HGETALL p:1", "$-1", "$-1"},
		{"HVALS p:1", "_", "_"}, {"HSCAN p:1 0", "_", "_"}, {"LRANGE p:1 0 1", "%1 a b", "%1 a b"},
		{"XRANGE p:1 - +", "_", "_"}, {"STRLEN p:1", "*1 a", ":0"});
	free(text);
	finish();
}
END_TEST

/* ---- errors ---- */

START_TEST(errors)
{
	static const struct pair cases[] = {{"ERR bad 's:1' (s:2)", "ERR bad 'p:1' (p:2)"},
					    {"s:1", NULL},
					    {"xs:1", NULL},
					    {"ERR t:1", NULL},
					    {"ERR s:", "ERR p:"},
					    {"", NULL},
					    {"ERR s", NULL}};

	use("[namespace.p]\nprefix = \"s:\"\n[namespace.q]\nttl = 5\n", NULL);
	for (int i = 0; i < COUNT(cases); i++) {
		struct buf out = {0};
		bool found = fix_error(&rw.view, namespaces_named(all, "p"), cases[i].in, strlen(cases[i].in), &out);

		ck_assert_msg(found == (cases[i].out != NULL), "%s", cases[i].in);
		ck_assert_uint_eq(buf_len(&out), found ? strlen(cases[i].out) : 0);
		ck_assert(!found || memcmp(buf_head(&out), cases[i].out, buf_len(&out)) == 0);
		ck_assert(!fix_error(&rw.view, namespaces_named(all, "q"), cases[i].in, strlen(cases[i].in), &out));
		buf_release(&out);
	}
	finish();
}
END_TEST

/* ---- EXEC ---- */

/* A transaction's reply: each request, and how many of the proxy's own are behind it. */
static struct buf exec_reply(const char *const *commands, const uint32_t *n_own, uint32_t n, const char *words)
{
	struct fix_list *list = xcalloc(1, sizeof(*list));
	struct fix blank = {.view = rw.view}, *fix = fix_new(&blank);
	struct buf reply = reply_of(words), out = {0}, said;

	fix->list = list;
	list->items = xcalloc(n, sizeof(*list->items));
	list->n = list->room = n;
	for (uint32_t i = 0; i < n; i++) {
		struct buf request = request_of(commands[i]);

		ck_assert_int_eq(rewrite_bytes(&request, buf_len(&request)), REWRITE_FINE);
		list->items[i] = (struct fix_item){rw.fix, rw.n_keys ? rw.keys[0].at.ns : NULL, n_own[i]};
		rw.fix = NULL;
		buf_release(&request);
	}
	ck_assert_ptr_null(fix_reply(fix, buf_head(&reply), buf_len(&reply), &out));
	said = words_of(&out);
	fix_free(&fix);
	ck_assert_ptr_null(fix);
	buf_release(&reply);
	buf_release(&out);
	return said;
}

START_TEST(exec)
{
	static const char *const commands[] = {"SETNX p:1 v", "HSET p:2 f v", "GET e:1",
					       "INCR p:3",    "KEYS p:*",     "PING"};
	static const uint32_t n_own[] = {0, 1, 0, 2, 0, 0};
	static const struct pair cases[] = {
		{"*9 +OK :1 :1 @s/e:1/v :7 :1 :1 *2 s:1 x +PONG", "*6 :1 :1 v :7 *2 p:1 x +PONG"},
		{"*9 $-1 :1 :1 plain :7 :1 :1 *0 +PONG", "*6 :0 :1 -ENCRYPTED a value could not be opened :7 *0 +PONG"},
		{"*9 _ -ERR's:2' *1 x _ -ERR's:3' :1 :1 -x +PONG", "*6 :0 -ERR'p:2' _ -ERR'p:3' -x +PONG"},
		{"*-1", "*-1"},
		{"_", "_"},
		{"-EXECABORT", "-EXECABORT"},
		{"*6 :1 :1 v :7 *1 s:1 +PONG", "*6 :1 :1 v :7 *1 s:1 +PONG"}, /* not what was sent */
	};

	use_sealed("[namespace.p]\nprefix = \"s:\"\nttl = 60\n[namespace.e]\nencrypt = true\n", NULL);
	for (int i = 0; i < COUNT(cases); i++) {
		struct buf said = exec_reply(commands, n_own, COUNT(commands), cases[i].in);

		ck_assert_str_eq(buf_head(&said), cases[i].out);
		buf_release(&said);
	}
	finish();
}
END_TEST

static TCase *tcase_requests(void)
{
	TCase *c = tcase_create("requests");

	tcase_add_test(c, keys_of_a_bound_view);
	tcase_add_test(c, keys_of_an_ordinary_view);
	tcase_add_test(c, strict_and_readonly);
	tcase_add_test(c, patterns);
	tcase_add_test(c, sort_patterns);
	tcase_add_test(c, all_keys_of_a_namespace);
	tcase_add_test(c, channels);
	tcase_add_test(c, hashed);
	tcase_add_test(c, ttl);
	tcase_add_test(c, max_ttl);
	tcase_add_test(c, sliding);
	tcase_add_test(c, jitter);
	tcase_add_test(c, commands_behind);
	tcase_add_test(c, sealed_arguments);
	tcase_add_test(c, written_out);
	tcase_add_test(c, partial);
	return c;
}

static TCase *tcase_replies(void)
{
	TCase *c = tcase_create("replies");

	tcase_add_test(c, names_in_replies);
	tcase_add_test(c, values_in_replies);
	tcase_add_test(c, plain_values);
	tcase_add_test(c, other_shapes);
	tcase_add_test(c, errors);
	tcase_add_test(c, exec);
	return c;
}

int main(void)
{
	TCase *const cases[] = {tcase_requests(), tcase_replies()};

	return run_cases("rewrite", cases, COUNT(cases));
}
