/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests in namespaces: see rewrite.h. */
#include "policy/rewrite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "policy/channel.h"
#include "resp/errors.h"
#include "resp/request_frame.h"
#include "resp/write.h"

#define SPARE_ARGS 8

void rewrite_init(struct rewrite *r)
{
	*r = (struct rewrite){0};
}

void rewrite_fini(struct rewrite *r)
{
	fix_free(&r->fix);
	arena_release(&r->arena);
	free(r->args);
	free(r->keys);
	rewrite_init(r);
}

/* ---- arguments ---- */

bool rewrite_refuse(struct rewrite *r, const char *text)
{
	r->error = text;
	return false;
}

bool rewrite_arg_is(const struct rewrite *r, uint32_t i, const char *word)
{
	return i < r->argc && r->args[i].len == strlen(word) && strncasecmp(r->args[i].p, word, r->args[i].len) == 0;
}

void rewrite_set(struct rewrite *r, uint32_t i, const char *p, size_t len)
{
	r->args[i] = (struct arg){p, len, NULL};
	r->changed = true;
}

static void need_args(struct rewrite *r, uint32_t n)
{
	if (n <= r->room_args)
		return;
	r->room_args = n + SPARE_ARGS;
	r->args = xreallocarray(r->args, r->room_args, sizeof(*r->args));
}

void rewrite_insert(struct rewrite *r, uint32_t i, const char *p, size_t len)
{
	need_args(r, r->argc + 1);
	memmove(&r->args[i + 1], &r->args[i], (r->argc - i) * sizeof(*r->args));
	r->argc++;
	rewrite_set(r, i, p, len);
}

uint32_t rewrite_next_option(const struct rewrite *r, uint32_t i)
{
	static const char *const takers[] = {"IFEQ", "IFNE", "IFDEQ", "IFDNE"};

	for (size_t k = 0; k < sizeof(takers) / sizeof(*takers); k++)
		if (rewrite_arg_is(r, i, takers[k]))
			return i + 2;
	return i + 1;
}

bool rewrite_has_option(const struct rewrite *r, uint32_t i, const char *word)
{
	for (; i < r->argc; i = rewrite_next_option(r, i))
		if (rewrite_arg_is(r, i, word))
			return true;
	return false;
}

const char *rewrite_number(struct rewrite *r, int64_t n, size_t *len)
{
	char *text = arena_alloc(&r->arena, 24);

	*len = (size_t)snprintf(text, 24, "%lld", (long long)n);
	return text;
}

struct slice rewrite_keep(struct rewrite *r, struct buf *b)
{
	size_t len = buf_len(b);
	char *copy = arena_alloc(&r->arena, len + 1);

	if (len > 0)
		memcpy(copy, buf_head(b), len);
	buf_release(b);
	return (struct slice){copy, len};
}

/* How many arguments of a head say all: up to its key. What comes behind is not looked at, and goes as it is. */
static uint32_t args_of_head(const struct rewrite *r, const struct rewrite_input *in)
{
	uint32_t last = 1;

	if (r->cmd->n_specs > 0 && r->cmd->specs->begin == KEY_BEGIN_INDEX && r->cmd->specs->begin_index > 0)
		last = (uint32_t)r->cmd->specs->begin_index;
	return last + 1 < in->n_seen ? last + 1 : in->n_seen - 1;
}

/* All arguments, or those of a head. */
static void read_args(struct rewrite *r, const struct rewrite_input *in)
{
	uint32_t n = in->partial ? args_of_head(r, in) : in->argc;
	struct arg_cursor cur;

	need_args(r, n + SPARE_ARGS);
	arg_cursor_init(&cur, in->bytes, in->len);
	for (r->argc = 0; r->argc < n; r->argc++) {
		struct arg *arg = &r->args[r->argc];

		arg->seal = NULL;
		if (!arg_cursor_next(&cur, &arg->p, &arg->len))
			break;
	}
	r->tail = in->partial ? cur.p : NULL;
	r->tail_len = in->partial ? (size_t)(in->bytes + in->len - cur.p) : 0;
	r->argc_to_come = in->partial ? in->argc - r->argc : 0;
}

struct fix *rewrite_fix(struct rewrite *r)
{
	struct fix blank = {.view = r->view, .ring = r->ring, .proto = r->proto};

	if (r->fix)
		return r->fix;
	blank.n_keys = r->n_keys;
	blank.ns = r->n_keys > 0 ? r->keys[0].at.ns : NULL;
	blank.keys = arena_alloc(&r->arena, (r->n_keys + 1) * sizeof(*blank.keys));
	for (uint32_t i = 0; i < r->n_keys; i++) {
		const struct rewrite_key *key = &r->keys[i];

		blank.keys[i] = (struct fix_key){{key->client, key->client_len},
						 {key->name, key->len},
						 key->at.ns && key->at.ns->flags & NS_SEALS};
	}
	r->fix = fix_new(&blank);
	return r->fix;
}

/* ---- keys ---- */

static const char *read_arg(void *ctx, uint32_t index, size_t *len)
{
	const struct rewrite *r = ctx;

	if (index >= r->argc)
		return NULL;
	*len = r->args[index].len;
	return r->args[index].p;
}

/* What stands there is a token: its key is that of its subject. */
static void take_token(struct rewrite *r, struct rewrite_key *key)
{
	const struct tokens *tokens = namespaces_tokens(r->view.all);
	struct token_text subject;
	struct jwt jwt;
	char *copy;

	subject = tokens_subject(tokens, key->client, key->client_len, &jwt);
	if (subject.p == jwt.jti) {
		copy = arena_alloc(&r->arena, subject.len);
		memcpy(copy, subject.p, subject.len);
		key->client = key->name = copy;
		key->client_len = key->len = subject.len;
	}
	key->at = namespaces_token_place(r->view.all);
}

static bool names_tokens(const struct rewrite *r)
{
	return r->cmd->token == TOKEN_OWN || r->cmd->token == TOKEN_ASK;
}

/* What the token of TOKEN.REVOKE says of its end. */
static void read_token_exp(struct rewrite *r, const char *token, size_t len)
{
	struct jwt jwt;

	r->token_has_exp = jwt_read(token, len, &jwt) && jwt.has_exp;
	r->token_exp_s = r->token_has_exp ? jwt.exp_s : 0;
}

static void take_key(void *ctx, uint32_t index, unsigned flags)
{
	struct rewrite *r = ctx;
	struct rewrite_key *key;

	if (names_tokens(r) && !namespaces_tokens(r->view.all))
		return; /* its handler says that there is no list */
	if (r->n_keys == r->room_keys) {
		r->room_keys = r->room_keys * 2 + 8;
		r->keys = xreallocarray(r->keys, r->room_keys, sizeof(*r->keys));
	}
	key = &r->keys[r->n_keys++];
	*key = (struct rewrite_key){.index = index, .flags = flags, .db = -1};
	key->client = key->name = r->args[index].p;
	key->client_len = key->len = r->args[index].len;
	if (r->cmd->token == TOKEN_OWN)
		read_token_exp(r, key->client, key->client_len);
	if (names_tokens(r))
		take_token(r, key);
	else
		key->at = view_key(&r->view, key->client, key->client_len);
}

static bool writes(const struct rewrite *r)
{
	return r->cmd->flags & (CMD_WRITE | CMD_UNKNOWN) ||
	       (r->cmd->flags & CMD_MAY_REPLICATE && !(r->cmd->flags & CMD_READONLY));
}

static void rename_key(struct rewrite *r, struct rewrite_key *key)
{
	struct buf name = {0};
	struct slice kept;

	if (name_place_is_same(&key->at))
		return;
	name_place_put(&r->view, &key->at, key->client, key->client_len, &name);
	kept = rewrite_keep(r, &name);
	key->name = kept.p;
	key->len = kept.len;
	rewrite_set(r, key->index, key->name, key->len);
}

static bool rewrite_keys(struct rewrite *r)
{
	for (uint32_t i = 0; i < r->n_keys; i++) {
		struct rewrite_key *key = &r->keys[i];

		if (!key->at.ns && namespaces_strict(r->view.all))
			return rewrite_refuse(r, reply_error_text(ERROR_STRICT));
		if (key->at.ns && key->at.ns->flags & NS_READONLY && writes(r) && !(key->flags & KEY_RO))
			return rewrite_refuse(r, reply_error_text(ERROR_NS_READONLY));
		rename_key(r, key);
	}
	return true;
}

/* A client that may not reach beyond its namespace: what can't be looked at must not pass. */
static bool is_confined(const struct rewrite *r)
{
	return r->view.bound || namespaces_strict(r->view.all);
}

/* Whether only the head of a large request is enough: its one key is in it, and nothing has to be put behind. */
static bool head_is_enough(const struct rewrite *r)
{
	const struct key_spec *spec = r->cmd->specs;
	struct name_place at;

	if (r->cmd->names == NAMES_CHANNEL)
		return r->argc > 1 && !channel_seals(&r->view, r->args[1].p, r->args[1].len);
	if (r->cmd->names != NAMES_NONE) /* SORT_RO: what is still to come may name keys, too */
		return false;
	if (!command_has_one_place(r->cmd) || (uint32_t)spec->begin_index >= r->argc)
		return false;
	at = view_key(&r->view, r->args[spec->begin_index].p, r->args[spec->begin_index].len);
	if (!at.ns || !(at.ns->flags & (NS_TTL | NS_MAX_TTL | NS_SLIDING | NS_SEALS)))
		return true;
	if (at.ns->flags & NS_SEALS)
		return false;
	if (r->cmd->ttl == TTL_NONE) /* a read may have to renew */
		return !(r->cmd->flags & CMD_READONLY && at.ns->flags & NS_SLIDING);
	return r->cmd->ttl == TTL_ASKS || (r->cmd->ttl == TTL_SET && r->argc + r->argc_to_come == 3);
}

static bool find_keys(struct rewrite *r)
{
	if (r->cmd->names == NAMES_CHANNEL)
		return true;
	/* Answered as Redis would; should the upstream have it, nobody knows its keys. */
	if (r->cmd->flags & CMD_UNKNOWN || (r->cmd->n_subcommands > 0 && r->argc > 1))
		return !is_confined(r) || rewrite_refuse(r, reply_error_text(ERROR_KEYS_UNKNOWN));
	if (r->tail) { /* command_keys() wants all arguments: see head_is_enough() */
		take_key(r, (uint32_t)r->cmd->specs->begin_index, r->cmd->specs->flags);
		return true;
	}
	if (command_keys(r->cmd, r->argc, read_arg, take_key, r) >= 0)
		return true;
	/* Redis refuses its own commands then; what a module does, nobody knows. */
	if (r->cmd->id < command_count())
		return true;
	return !is_confined(r) || rewrite_refuse(r, reply_error_text(ERROR_KEYS_UNKNOWN));
}

enum rewrite_status rewrite_request(struct rewrite *r, const struct rewrite_input *in)
{
	fix_free(&r->fix);
	arena_reset(&r->arena);
	r->n_keys = 0;
	r->changed = r->has_after = false;
	r->where = NULL;
	r->error = NULL;
	read_args(r, in);
	if (in->partial && !head_is_enough(r))
		return REWRITE_MORE;
	if (find_keys(r) && rewrite_keys(r) && rewrite_names(r) && rewrite_ttl(r) && rewrite_seal(r))
		return REWRITE_FINE;
	fix_free(&r->fix);
	return REWRITE_REFUSED;
}

/* ---- writing it out ---- */

static bool put_arg(const struct rewrite *r, const struct arg *arg, struct buf *out)
{
	if (!arg->seal) {
		resp_bulk(out, arg->p, arg->len);
		return true;
	}
	buf_printf(out, "$%zu\r\n", sealed_length(r->ring, arg->len));
	if (!seal_put(r->ring, arg->seal, arg->p, arg->len, out))
		return false;
	buf_put(out, "\r\n", 2);
	return true;
}

bool rewrite_put(const struct rewrite *r, struct buf *out)
{
	size_t n = 32 + r->tail_len;

	for (uint32_t i = 0; i < r->argc; i++)
		n += r->args[i].len + 32 + (r->args[i].seal ? sealed_length(r->ring, 0) : 0);
	if (!buf_reserve(out, n))
		return false;
	resp_array(out, r->argc + r->argc_to_come);
	for (uint32_t i = 0; i < r->argc; i++)
		if (!put_arg(r, &r->args[i], out))
			return false;
	if (r->tail_len > 0)
		buf_put(out, r->tail, r->tail_len);
	return true;
}
