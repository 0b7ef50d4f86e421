/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Values of requests in namespaces with encrypt: which arguments they are, and what each is bound to. And which
 * commands are refused there: all that the table does not know to be safe.
 */
#include "policy/rewrite.h"
#include "resp/errors.h"
#include "resp/number.h"

#include <string.h>
#include <strings.h>

static bool is_sealed(const struct rewrite_key *key)
{
	return key->at.ns && key->at.ns->flags & NS_SEALS;
}

static bool refused(struct rewrite *r)
{
	return rewrite_refuse(r, reply_error_text(ERROR_ENCRYPTED));
}

/* Argument i is a value of the key; field: the argument with its field, 0 where there is none. */
static void seal(struct rewrite *r, const struct rewrite_key *key, enum seal_kind kind, uint32_t field, uint32_t i)
{
	struct seal_place *at;

	if (i >= r->argc)
		return;
	r->changed = true;
	if (r->probing)
		return;
	at = arena_alloc(&r->arena, sizeof(*at));
	*at = (struct seal_place){.kind = kind, .key = key->name, .key_len = key->len};
	if (field > 0) {
		at->field = r->args[field].p;
		at->field_len = r->args[field].len;
	}
	r->args[i].seal = at;
}

/* Pairs of field and value from argument i on; an odd one at the end Redis will not like. */
static void seal_pairs(struct rewrite *r, enum seal_kind kind, uint32_t i)
{
	for (; i + 1 < r->argc; i += 2)
		seal(r, &r->keys[0], kind, i, i + 1);
}

static void seal_each_key(struct rewrite *r)
{
	for (uint32_t k = 0; k < r->n_keys; k++)
		if (is_sealed(&r->keys[k]))
			seal(r, &r->keys[k], SEAL_STRING, 0, r->keys[k].index + 1);
}

/* "*", or what begins like an ID: what else stands there is an option that we do not know. */
static bool is_entry_id(const struct arg *arg)
{
	return (arg->len == 1 && *arg->p == '*') || (arg->len > 0 && *arg->p >= '0' && *arg->p <= '9');
}

/* XADD key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [MAXLEN | MINLEN [= | ~] n [LIMIT n]] id field value ... */
static bool seal_entry(struct rewrite *r)
{
	uint32_t i = 2;

	while (i < r->argc) {
		if (rewrite_arg_is(r, i, "NOMKSTREAM") || rewrite_arg_is(r, i, "KEEPREF") ||
		    rewrite_arg_is(r, i, "DELREF") || rewrite_arg_is(r, i, "ACKED")) {
			i++;
		} else if (rewrite_arg_is(r, i, "MAXLEN") || rewrite_arg_is(r, i, "MINLEN")) {
			i += rewrite_arg_is(r, i + 1, "=") || rewrite_arg_is(r, i + 1, "~") ? 3 : 2;
		} else if (rewrite_arg_is(r, i, "LIMIT")) {
			i += 2;
		} else {
			break;
		}
	}
	if (i < r->argc && !is_entry_id(&r->args[i]))
		return refused(r);
	seal_pairs(r, SEAL_ENTRY, i + 1);
	return true;
}

/* Where the fields begin behind "FIELDS n"; argc: nowhere. */
static uint32_t after_fields(const struct rewrite *r)
{
	for (uint32_t i = 2; i + 2 < r->argc; i++)
		if (rewrite_arg_is(r, i, "FIELDS"))
			return i + 2;
	return r->argc;
}

/* The reply is opened; fields of its values are arguments from i on. */
static void open_reply(struct rewrite *r, enum command_seal how, uint32_t i, uint32_t n)
{
	struct slice *fields;

	if (r->probing)
		return;
	rewrite_fix(r)->seal = (uint8_t)how;
	n = i < r->argc ? (n < r->argc - i ? n : r->argc - i) : 0;
	if (n == 0)
		return;
	fields = arena_alloc(&r->arena, n * sizeof(*fields));
	for (uint32_t k = 0; k < n; k++)
		fields[k] = (struct slice){r->args[i + k].p, r->args[i + k].len};
	fix_set_fields(r->fix, fields, n);
}

static bool moves_within_a_key(const struct rewrite *r)
{
	return r->n_keys == 2 && r->keys[0].len == r->keys[1].len &&
	       memcmp(r->keys[0].name, r->keys[1].name, r->keys[0].len) == 0;
}

/* Options of SET (IFEQ, IFNE ...) that compare the value. */
static bool compares(const struct rewrite *r)
{
	for (uint32_t i = 3; i < r->argc; i++)
		if (r->args[i].len > 2 && strncasecmp(r->args[i].p, "IF", 2) == 0)
			return true;
	return false;
}

/* Strings: arguments have been rewritten by ttl.c already, so the value of SET may stand elsewhere. */
static bool seal_string(struct rewrite *r, const struct rewrite_key *key)
{
	uint32_t i = r->cmd->seal == SEAL_VALUE_3 || rewrite_arg_is(r, 0, "PSETEX") ? 3 : 2;

	if (r->cmd->ttl == TTL_SET && compares(r))
		return refused(r);
	seal(r, key, SEAL_STRING, 0, i);
	if (rewrite_arg_is(r, 0, "GETSET") || (r->cmd->ttl == TTL_SET && rewrite_has_option(r, 3, "GET")))
		open_reply(r, SEAL_GET, r->argc, 0);
	return true;
}

static bool seal_of_one_key(struct rewrite *r)
{
	const struct rewrite_key *key = &r->keys[0];
	enum command_seal how = r->cmd->seal;

	switch (how) {
	case SEAL_VALUE_2:
	case SEAL_VALUE_3:
		return seal_string(r, key);
	case SEAL_LENGTH:
		rewrite_set(r, 0, "GET", 3);
		break;
	case SEAL_FIELDS:
		seal_pairs(r, SEAL_FIELD, 2);
		return true;
	case SEAL_FIELDS_EX:
		seal_pairs(r, SEAL_FIELD, after_fields(r));
		return true;
	case SEAL_FIELD_LENGTH:
		rewrite_set(r, 0, "HGET", 4);
		open_reply(r, how, 2, 1);
		return true;
	case SEAL_FIELD_VALUES:
		rewrite_set(r, 0, "HGETALL", 7);
		break;
	case SEAL_FIELD_GET:
		open_reply(r, how, 2, 1);
		return true;
	case SEAL_FIELD_MANY:
		open_reply(r, how, 2, r->argc);
		return true;
	case SEAL_FIELD_MANY_EX:
		open_reply(r, SEAL_FIELD_MANY, after_fields(r), r->argc);
		return true;
	case SEAL_FIELD_MAP:
		if (r->cmd->arity != 2 && !rewrite_has_option(r, 3, "WITHVALUES")) /* HRANDFIELD: fields only */
			return true;
		break;
	case SEAL_FIELD_SCAN:
		for (uint32_t i = 3; i < r->argc; i++) {
			if (rewrite_arg_is(r, i, "NOVALUES"))
				return true;
			i += rewrite_arg_is(r, i, "MATCH") || rewrite_arg_is(r, i, "COUNT");
		}
		break;
	case SEAL_ELEMENTS:
		for (uint32_t i = 2; i < r->argc; i++)
			seal(r, key, SEAL_ELEMENT, 0, i);
		return true;
	case SEAL_ELEMENT_3:
		seal(r, key, SEAL_ELEMENT, 0, 3);
		return true;
	case SEAL_ENTRY_ADD:
		return seal_entry(r);
	default:
		break;
	}
	open_reply(r, how, r->argc, 0);
	return true;
}

bool rewrite_seal(struct rewrite *r)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_keys; i++)
		n += is_sealed(&r->keys[i]);
	if (n == 0)
		return true;
	switch ((enum command_seal)r->cmd->seal) {
	case SEAL_REFUSED:
		return refused(r);
	case SEAL_FREE:
		return true;
	case SEAL_PAIRS:
		seal_each_key(r);
		return true;
	case SEAL_ELEMENT_MOVE:
		if (!moves_within_a_key(r))
			return refused(r);
		open_reply(r, SEAL_ELEMENT_GET, r->argc, 0);
		return true;
	case SEAL_GET_MANY:
	case SEAL_ELEMENT_POP:
	case SEAL_ELEMENT_MPOP:
	case SEAL_ENTRY_STREAMS:
		open_reply(r, r->cmd->seal, r->argc, 0);
		return true;
	default:
		return seal_of_one_key(r);
	}
}
