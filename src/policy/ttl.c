/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Times to live. Where a command can carry one (SET and its kin, RESTORE), it does; behind other writes each key that
 * may be without one is given it by a command of its own, which the caller sends along (ttl_put_after()). What the
 * client says wins, up to max_ttl.
 */
#include <stdio.h>
#include <string.h>

#include "policy/rewrite.h"
#include "resp/number.h"
#include "resp/write.h"

/* xorshift64*. */
uint64_t ttl_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1du;
}

static double random_unit(uint64_t *state)
{
	return (double)(ttl_random(state) >> 11) / 9007199254740992.0;
}

int64_t ttl_jittered_ms(const struct namespace_config *conf, uint64_t *random)
{
	double factor = 1.0 + conf->ttl_jitter * (2.0 * random_unit(random) - 1.0);
	int64_t ms = (int64_t)((double)conf->ttl_ms * factor);

	if (conf->max_ttl_ms > 0 && ms > conf->max_ttl_ms)
		ms = conf->max_ttl_ms;
	return ms > 0 ? ms : 1;
}

static const struct namespace_config *conf_of(const struct rewrite_key *key)
{
	return key->at.ns->conf;
}

static bool has(const struct rewrite_key *key, uint32_t flag)
{
	return key->at.ns && key->at.ns->flags & flag;
}

static void set_number(struct rewrite *r, uint32_t i, int64_t n)
{
	size_t len;
	const char *text = rewrite_number(r, n, &len);

	rewrite_set(r, i, text, len);
}

/* Argument i is a time of this unit: no later than max_ttl. What is no number Redis refuses itself. */
static void limit(struct rewrite *r, const struct rewrite_key *key, uint32_t i, int64_t unit_ms, bool at)
{
	int64_t max, n;

	if (!has(key, NS_MAX_TTL) || i >= r->argc || !parse_int64(r->args[i].p, r->args[i].len, &n))
		return;
	max = (conf_of(key)->max_ttl_ms + (at ? r->now_ms : 0)) / unit_ms;
	if (n > max)
		set_number(r, i, max > 0 ? max : 1);
}

static void after(struct rewrite *r, struct rewrite_key *key)
{
	if (!has(key, NS_TTL))
		return;
	key->ttl_ms = ttl_jittered_ms(conf_of(key), r->random);
	r->has_after = true;
}

/* ---- options of SET and GETEX ---- */

static const struct expiry_option {
	const char *word;
	int64_t unit_ms;
	bool at;
} expiry_options[] = {{"EX", 1000, false}, {"PX", 1, false}, {"EXAT", 1000, true}, {"PXAT", 1, true}};

/* Whether one stands from argument i on; it is limited. */
static bool limit_option(struct rewrite *r, const struct rewrite_key *key, uint32_t i)
{
	for (; i < r->argc; i = rewrite_next_option(r, i)) {
		for (size_t k = 0; k < sizeof(expiry_options) / sizeof(*expiry_options); k++) {
			const struct expiry_option *o = &expiry_options[k];

			if (!rewrite_arg_is(r, i, o->word))
				continue;
			limit(r, key, i + 1, o->unit_ms, o->at);
			return true;
		}
	}
	return false;
}

static void append_px(struct rewrite *r, int64_t ms)
{
	size_t len;
	const char *text = rewrite_number(r, ms, &len);

	rewrite_insert(r, r->argc, "PX", 2);
	rewrite_insert(r, r->argc, text, len);
}

static void ttl_of_set(struct rewrite *r, struct rewrite_key *key)
{
	size_t len;
	const char *ms;

	if (limit_option(r, key, 3) || !has(key, NS_TTL))
		return;
	if (rewrite_has_option(r, 3, "KEEPTTL")) {
		after(r, key);
	} else if (r->argc + r->argc_to_come == 3) {
		/* The same in a command whose value comes last: also a large one, of which only the head is here. */
		ms = rewrite_number(r, ttl_jittered_ms(conf_of(key), r->random), &len);
		rewrite_set(r, 0, "PSETEX", 6);
		rewrite_insert(r, 2, ms, len);
	} else {
		append_px(r, ttl_jittered_ms(conf_of(key), r->random));
	}
}

static void ttl_of_setnx(struct rewrite *r, struct rewrite_key *key)
{
	if (!has(key, NS_TTL))
		return;
	rewrite_set(r, 0, "SET", 3);
	append_px(r, ttl_jittered_ms(conf_of(key), r->random));
	rewrite_insert(r, r->argc, "NX", 2);
	if (!r->probing)
		rewrite_fix(r)->setnx = true;
}

static void ttl_of_getex(struct rewrite *r, struct rewrite_key *key)
{
	if (!limit_option(r, key, 2) && rewrite_has_option(r, 2, "PERSIST"))
		after(r, key);
}

/* RESTORE key ttl value [REPLACE] [ABSTTL] ...: 0 is none. */
static void ttl_of_restore(struct rewrite *r, struct rewrite_key *key)
{
	bool at = rewrite_has_option(r, 4, "ABSTTL");
	int64_t n;

	limit(r, key, 2, 1, at);
	if (has(key, NS_TTL) && parse_int64(r->args[2].p, r->args[2].len, &n) && n == 0)
		set_number(r, 2, ttl_jittered_ms(conf_of(key), r->random) + (at ? r->now_ms : 0));
}

static void ttl_after(struct rewrite *r)
{
	for (uint32_t i = 0; i < r->n_keys; i++)
		if (r->keys[i].flags & (KEY_RW | KEY_OW) && !(r->keys[i].flags & KEY_RM))
			after(r, &r->keys[i]);
}

/* COPY source destination [DB n] [REPLACE] */
static void ttl_of_copy(struct rewrite *r)
{
	int64_t db;

	ttl_after(r);
	for (uint32_t i = 3; i + 1 < r->argc; i++)
		if (rewrite_arg_is(r, i, "DB") && parse_int64(r->args[i + 1].p, r->args[i + 1].len, &db) && db >= 0 &&
		    db < INT32_MAX)
			r->keys[r->n_keys - 1].db = (int)db;
}

static void slide(struct rewrite *r)
{
	if (!(r->cmd->flags & CMD_READONLY))
		return;
	for (uint32_t i = 0; i < r->n_keys; i++) {
		struct rewrite_key *key = &r->keys[i];

		if (!has(key, NS_SLIDING) || !has(key, NS_TTL))
			continue;
		key->ttl_ms = ttl_jittered_ms(conf_of(key), r->random);
		key->slides = true;
		r->has_after = true;
	}
}

bool rewrite_ttl(struct rewrite *r)
{
	struct rewrite_key *key = r->keys;

	if (r->n_keys == 0)
		return true;
	switch ((enum command_ttl)r->cmd->ttl) {
	case TTL_ASKS:
		break;
	case TTL_NONE:
		slide(r);
		break;
	case TTL_AFTER:
		ttl_after(r);
		break;
	case TTL_COPY:
		ttl_of_copy(r);
		break;
	case TTL_SET:
		ttl_of_set(r, key);
		break;
	case TTL_SETNX:
		ttl_of_setnx(r, key);
		break;
	case TTL_GETEX:
		ttl_of_getex(r, key);
		break;
	case TTL_RESTORE:
		ttl_of_restore(r, key);
		break;
	case TTL_SECONDS:
	case TTL_AT_SECONDS:
		limit(r, key, 2, 1000, r->cmd->ttl == TTL_AT_SECONDS);
		break;
	case TTL_MS:
	case TTL_AT_MS:
		limit(r, key, 2, 1, r->cmd->ttl == TTL_AT_MS);
		break;
	}
	return true;
}

void ttl_put_after(struct buf *out, const struct rewrite_key *key, bool has_options)
{
	static const char first[] =
		"if redis.call('PTTL',KEYS[1])==-1 then return redis.call('PEXPIRE',KEYS[1],ARGV[1]) end return 0";
	static const char longer[] = "local t=redis.call('PTTL',KEYS[1]) if t~=-2 and t<tonumber(ARGV[1]) then "
				     "return redis.call('PEXPIRE',KEYS[1],ARGV[1]) end return 0";
	char ms[24];

	snprintf(ms, sizeof(ms), "%lld", (long long)key->ttl_ms);
	if (has_options) {
		resp_array(out, 4);
		resp_bulks(out, "PEXPIRE");
		resp_bulk(out, key->name, key->len);
		resp_bulks(out, ms);
		resp_bulks(out, key->slides ? "GT" : "NX");
		return;
	}
	resp_array(out, 5);
	resp_bulks(out, "EVAL");
	resp_bulks(out, key->slides ? longer : first);
	resp_bulks(out, "1");
	resp_bulk(out, key->name, key->len);
	resp_bulks(out, ms);
}
