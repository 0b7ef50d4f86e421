/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzz target: what namespaces make of requests and replies (policy/rewrite.h, policy/fix.h).
 * Input: a letter that picks a configuration, a letter whose low bits are flags, a letter that says where a large
 * request is cut; a request; a reply. What is no request is an error's text for fix_error().
 * Checked: what is sent is one whole request, of the same keys whatever way it is looked at, and none of them is out
 * of reach; a head with what follows is what the whole is; what a client gets for a whole reply is one.
 */
#include <assert.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/load.h"
#include "policy/rewrite.h"
#include "resp/reply_frame.h"
#include "resp/request_frame.h"
#include "resp/write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BULK 65536
#define NOW_MS	 1700000000000
#define SEALS                                                                                                          \
	"[encryption]\nkeys = [\"k:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]\n"                                  \
	"hash_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n"

/* ---- configurations ---- */

static struct scene {
	const char *text;
	const char *bound; /* NULL: an ordinary view */
	struct config *config;
	struct keyring *ring;
	struct namespaces *all;
} scenes[] = {
	/* a: bound */
	{.bound = "p", .text = "[namespace.p]\nprefix = \"s*:p:\"\nttl = \"1h\"\n[namespace.q]\nprefix = \"t:\"\n"},
	/* b: ordinary, with names that lie within each other */
	{.text = "[namespace.p]\nmatch = [\"p:\", \"pp:\"]\nprefix = \"s:p:\"\nchannel_prefix = \"s:\"\n"
		 "[namespace.v]\nmatch = \"p:v:\"\nprefix = \"v:\"\n[namespace.default]\nprefix = \"d:\"\n"},
	/* c: ttl */
	{.text = "[namespace.p]\nttl = 60\nmax_ttl = \"2m\"\nttl_jitter = 0.2\n[namespace.m]\nmax_ttl = 1\n"
		 "[namespace.t]\nttl = \"10s\"\nprefix = \"T:\"\n"},
	/* d: sliding */
	{.text = "[namespace.p]\nttl = \"2h\"\nsliding = true\n[namespace.r]\nreadonly = true\nprefix = \"R:\"\n"},
	/* e: sealed, and not all of it is */
	{.text = SEALS "accept_plaintext = true\n[namespace.p]\nencrypt = true\nencrypt_messages = true\nttl = 60\n"
		       "prefix = \"s:\"\n[namespace.q]\nprefix = \"t:\"\n"},
	/* f: sealed, bound, strict */
	{.bound = "p",
	 .text = "[server]\nstrict = true\n" SEALS "[namespace.p]\nencrypt = true\nencrypt_messages = true\n"
		 "channel_prefix = \"s:\"\nsliding = true\nttl = 60\nmax_ttl = 90\n"},
	/* g: hashed */
	{.text = SEALS "[namespace.p]\nhash_keys = true\nprefix = \"h:\"\n[namespace.q]\nhash_keys = true\nttl = 60\n"},
	/* h: strict */
	{.text = "[server]\nstrict = true\n[namespace.p]\n[namespace.q]\nprefix = \"z:\"\nreadonly = true\n"},
	/* i: bound, hashed and sealed, nothing but the namespace of all others */
	{.bound = "default",
	 .text = SEALS
	 "accept_plaintext = true\n[namespace.default]\nprefix = \"x:\"\nhash_keys = true\nencrypt = true\n"},
	/* j: bound, without anything else */
	{.bound = "p", .text = "[namespace.p]\nprefix = \"s:p:\"\n[namespace.default]\n"},
};

#define N_SCENES (sizeof(scenes) / sizeof(*scenes))

static void use(struct scene *s)
{
	static const struct config_source source = {.file = "fuzz.toml"};
	struct problem_list problems = {0};
	char why[256];

	if (s->config)
		return;
	s->config = config_load_buffer(&source, s->text, strlen(s->text), &problems);
	if (!s->config)
		problems_print(&problems, stderr);
	assert(s->config);
	s->ring = keyring_new(&s->config->encryption, why, sizeof(why));
	assert(s->ring);
	s->all = namespaces_new(s->config, keyring_hash_key(s->ring));
	problems_free(&problems);
}

/* Nothing stands behind it. */
static char *copy_of(const char *p, size_t len)
{
	return memcpy(xcalloc(1, len), p, len);
}

/* ---- requests ---- */

static const struct command unknown_command = {
	.name = "unknown", .id = COMMAND_ID_MAX - 1, .arity = -1, .flags = CMD_UNKNOWN | CMD_WRITE};

static struct rewrite rewriter; /* one for all, as a worker has it */
static uint64_t random_state;

static const struct command *command_of(const struct request_frame *f, const char *p)
{
	const struct command *cmd =
		command_find(NULL, p + f->arg[0].offset, f->arg[0].len, f->argc > 1 ? p + f->arg[1].offset : NULL,
			     f->argc > 1 ? f->arg[1].len : 0);

	return cmd ? cmd : &unknown_command;
}

static enum rewrite_status rewrite(const struct command *cmd, const struct rewrite_input *in, bool probing)
{
	random_state = 88172645463325252u;
	rewriter.cmd = cmd;
	rewriter.random = &random_state;
	rewriter.now_ms = NOW_MS;
	rewriter.probing = probing;
	return rewrite_request(&rewriter, in);
}

static void must_be_one_request(struct request_frame *f, const struct buf *b)
{
	*f = (struct request_frame){.max_bulk = UINT64_MAX};
	assert(request_frame_feed(f, buf_head(b), buf_len(b)) == FRAME_READY && f->len == buf_len(b));
}

struct found {
	const char *p;
	size_t len;
	uint32_t n;
};

static const char *arg_of(void *ctx, uint32_t index, size_t *len)
{
	const struct found *request = ctx;
	struct arg_cursor cur;
	const char *arg;

	arg_cursor_init(&cur, request->p, request->len);
	for (uint32_t i = 0; arg_cursor_next(&cur, &arg, len); i++)
		if (i == index)
			return arg;
	return NULL;
}

static void check_key(void *ctx, uint32_t index, unsigned flags)
{
	struct found *request = ctx;
	size_t len;
	const char *arg = arg_of(ctx, index, &len);
	const struct rewrite_key *key = &rewriter.keys[request->n++];

	(void)flags;
	assert(request->n <= rewriter.n_keys && arg && len == key->len && memcmp(arg, key->name, len) == 0);
}

/* Redis sees the keys that were meant, and none that is out of reach. */
static void check_keys(const struct buf *out)
{
	struct found request = {buf_head(out), buf_len(out), 0};
	const struct namespace *bound = rewriter.view.bound;
	struct request_frame f;

	must_be_one_request(&f, out);
	if (command_keys(command_of(&f, request.p), f.argc, arg_of, check_key, &request) >= 0)
		assert(request.n == rewriter.n_keys);
	for (uint32_t i = 0; i < rewriter.n_keys; i++) {
		const struct rewrite_key *key = &rewriter.keys[i];

		assert(!bound ||
		       (key->len >= bound->prefix_len && memcmp(key->name, bound->prefix, bound->prefix_len) == 0));
		assert(key->at.ns || !namespaces_strict(rewriter.view.all));
	}
}

static void check_after(void)
{
	for (uint32_t i = 0; i < rewriter.n_keys && rewriter.has_after; i++) {
		struct request_frame f;
		struct buf b = {0};

		if (rewriter.keys[i].ttl_ms == 0)
			continue;
		assert(rewriter.keys[i].ttl_ms > 0);
		ttl_put_after(&b, &rewriter.keys[i], i % 2);
		must_be_one_request(&f, &b);
		buf_release(&b);
	}
}

/* The first `cut` bytes by themselves, then the others behind what became of them. */
static void check_head(const struct command *cmd, const char *p, size_t len, size_t cut, enum rewrite_status whole,
		       const char *error, const struct buf *wanted)
{
	struct request_frame f = {.max_bulk = MAX_BULK};
	struct rewrite_input in = {.partial = true};
	struct buf out = {0};
	char *head;

	if (cut == 0 || request_frame_feed(&f, p, cut) != FRAME_MORE || f.n_seen < 2)
		return;
	head = copy_of(p, f.len);
	in.bytes = head;
	in.len = f.len;
	in.argc = f.argc;
	in.n_seen = f.n_seen;
	switch (rewrite(cmd, &in, false)) {
	case REWRITE_FINE:
		assert(whole == REWRITE_FINE);
		assert(rewrite_put(&rewriter, &out));
		buf_put(&out, p + f.len, len - f.len);
		must_be_one_request(&f, &out);
		assert(buf_len(&out) == buf_len(wanted));
		assert(memcmp(buf_head(&out), buf_head(wanted), buf_len(wanted)) == 0);
		break;
	case REWRITE_REFUSED:
		assert(whole == REWRITE_REFUSED && rewriter.error == error);
		break;
	case REWRITE_MORE:
		break;
	}
	buf_release(&out);
	free(head);
}

/* ---- replies ---- */

static bool is_one_reply(const struct buf *b)
{
	struct reply_frame f = {0};
	size_t used = 0;

	return buf_len(b) > 0 && reply_frame_feed(&f, buf_head(b), buf_len(b), &used) == REPLY_DONE &&
	       used == buf_len(b);
}

static void fix_one(const struct fix *fix, const char *reply, size_t len)
{
	struct buf out = {0};

	assert(fix_reply(fix, reply, len, &out) || is_one_reply(&out));
	buf_release(&out);
}

/* The reply as three elements of EXEC's, between which one is the proxy's own. */
static void fix_exec(struct fix *fix, const char *reply, size_t len)
{
	const struct namespace *ns = namespaces_at(fix->view.all, 0);
	struct fix_item items[] = {{fix, ns, 1}, {NULL, ns, 0}, {NULL, NULL, 0}};
	struct fix_list list = {.n = 3, .items = items};
	struct fix exec = {.view = fix->view, .list = &list};
	struct buf whole = {0};

	resp_array(&whole, 4);
	buf_put(&whole, reply, len);
	resp_int(&whole, 1);
	buf_put(&whole, reply, len);
	buf_put(&whole, reply, len);
	if (is_one_reply(&whole)) /* of odd lines that come alone more is let pass */
		fix_one(&exec, buf_head(&whole), buf_len(&whole));
	buf_release(&whole);
}

/*
 * Values that were sealed can't be guessed: "@s0:value" becomes one, of that kind, of that key of the request and with
 * the field that stands before it.
 */
static void seal_bulks(const struct fix *fix, const char *reply, size_t len, struct buf *out)
{
	struct reply_cursor cur = {reply, reply + len};
	struct slice last = {"", 0};
	struct reply_item item;
	const char *from;

	for (from = cur.p; reply_cursor_next(&cur, &item); from = cur.p) {
		unsigned k = item.type == '$' && item.number >= 4 ? (unsigned)(unsigned char)item.text[2] - '0' : 10;

		if (k < fix->n_keys && k < 10 && item.text[0] == '@' && fix->ring) {
			bool field = strchr("hx", item.text[1]) && item.text[1];
			struct seal_place at = {.kind = (enum seal_kind)item.text[1],
						.key = fix->keys[k].upstream.p,
						.key_len = fix->keys[k].upstream.len,
						.field = field ? last.p : NULL,
						.field_len = field ? last.len : 0};

			buf_printf(out, "$%zu\r\n", sealed_length(fix->ring, item.len - 4));
			assert(seal_put(fix->ring, &at, item.text + 4, item.len - 4, out));
			buf_puts(out, "\r\n");
			continue;
		}
		if (item.type == '$' && item.number >= 0)
			last = (struct slice){item.text, item.len};
		buf_put(out, from, (size_t)(cur.p - from));
	}
	buf_put(out, from, (size_t)(cur.end - from));
}

static void check_reply(struct fix *fix, const struct scene *s, const char *p, size_t len)
{
	struct reply_frame f = {0};
	struct buf reply = {0};
	size_t used = 0;
	char *copy;

	if (len == 0 || reply_frame_feed(&f, p, len, &used) != REPLY_DONE)
		return;
	if (s->config->encryption.keys.n > 0 && memmem(p, used, "@", 1))
		seal_bulks(fix, p, used, &reply);
	else
		buf_put(&reply, p, used);
	copy = copy_of(buf_head(&reply), buf_len(&reply));
	fix_one(fix, copy, buf_len(&reply));
	fix_exec(fix, copy, buf_len(&reply));
	free(copy);
	buf_release(&reply);
}

static void check_error(const struct scene *s, const char *p, size_t len)
{
	struct view view = {s->all, s->bound ? namespaces_named(s->all, s->bound) : NULL};
	struct buf out = {0};

	for (size_t i = 0; i < namespaces_count(s->all); i++) {
		assert(fix_error(&view, namespaces_at(s->all, i), p, len, &out) == (buf_len(&out) > 0));
		buf_release(&out);
	}
}

/* ---- all of it ---- */

static void run(const struct scene *s, unsigned flags, size_t cut, const char *p, size_t n)
{
	struct request_frame f = {.max_bulk = MAX_BULK};
	struct rewrite_input in = {.bytes = p};
	enum rewrite_status status;
	struct buf out = {0};
	struct fix *fix = NULL;
	const struct command *cmd;
	const char *error;

	if (request_frame_feed(&f, p, n) != FRAME_READY) {
		check_error(s, p, n);
		return;
	}
	cmd = command_of(&f, p);
	if (!command_arity_ok(cmd, f.argc))
		return;
	rewriter.view = (struct view){s->all, s->bound ? namespaces_named(s->all, s->bound) : NULL};
	rewriter.ring = s->ring;
	rewriter.proto = flags & 1 ? 3 : 2;
	in.len = f.len;
	in.argc = in.n_seen = f.argc;
	status = rewrite(cmd, &in, true);
	error = rewriter.error;
	assert(status != REWRITE_MORE && !rewriter.fix);
	assert(rewrite(cmd, &in, false) == status && rewriter.error == error);
	if (status == REWRITE_FINE) {
		assert(rewrite_put(&rewriter, &out));
		assert(rewriter.changed || (buf_len(&out) == f.len && memcmp(buf_head(&out), p, f.len) == 0));
		check_keys(&out);
		check_after();
		fix = rewriter.fix;
		rewriter.fix = NULL;
	}
	check_head(cmd, p, f.len, cut < f.len ? cut : f.len - 1, status, error, &out);
	check_head(cmd, p, f.len, f.len - 3, status, error, &out);
	if (fix)
		check_reply(fix, s, p + f.len, n - f.len);
	fix_free(&fix);
	buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct scene *s;

	if (!ready) {
		assert(sodium_init() >= 0);
		command_init();
		rewrite_init(&rewriter);
		ready = true;
	}
	if (size < 4)
		return 0;
	s = &scenes[(data[0] - 'a' + 256u) % 32 % N_SCENES];
	use(s);
	run(s, data[1], data[2], (const char *)data + 3, size - 3);
	return 0;
}
