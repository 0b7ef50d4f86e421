/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names beside the keys of a request: patterns, and what the reply carries. And the commands about all keys, which on
 * a bound listener are about its namespace alone: a script does there what Redis has no command for.
 */
#include <string.h>

#include "policy/channel.h"
#include "policy/rewrite.h"
#include "resp/errors.h"

#define RANDOM_TRIES "100"

static const char count_script[] = "return #redis.call('KEYS',ARGV[1])";

/* One by one: in a Cluster they are of many slots. */
static const char flush_db_script[] = "for _,k in ipairs(redis.call('KEYS',ARGV[1])) do redis.call('UNLINK',k) end "
				      "return redis.status_reply('OK')";

static const char flush_all_script[] =
	"local db=0 while true do local ok=redis.pcall('SELECT',db) if type(ok)=='table' and ok.err then break end "
	"for _,k in ipairs(redis.call('KEYS',ARGV[1])) do redis.call('UNLINK',k) end db=db+1 end "
	"return redis.status_reply('OK')";

/* Most keys are of the namespace, or it is small: then all of them are listed. */
static const char random_script[] =
	"local p=ARGV[2] for i=1," RANDOM_TRIES " do local k=redis.call('RANDOMKEY') if not k then return false end "
	"if string.sub(k,1,#p)==p then return k end end local all=redis.call('KEYS',ARGV[1]) "
	"if #all==0 then return false end return all[1+tonumber(ARGV[3])%#all]";

/* Of some, the client may have a name for one. */
static const char some_script[] =
	"local t={} for i=1," RANDOM_TRIES " do t[i]=redis.call('RANDOMKEY') or nil end return t";

/* ---- patterns ---- */

static bool is_hashed(const struct namespace *ns)
{
	return ns && ns->flags & NS_HASHES;
}

/* Whether keys that Redis names are not all the client's, by those names. */
static bool names_differ(const struct rewrite *r)
{
	return r->view.bound || namespaces_rename(r->view.all) || namespaces_strict(r->view.all);
}

/* Argument i is a pattern of keys; i == argc: there is none, and one is needed on a bound listener only. */
static bool rewrite_pattern(struct rewrite *r, uint32_t i, enum command_names what)
{
	bool given = i < r->argc;
	struct slice pattern = {given ? r->args[i].p : "*", given ? r->args[i].len : 1}, asked;
	struct buf out = {0};
	bool exact;

	exact = view_pattern(&r->view, pattern.p, pattern.len, &out, &r->where);
	asked = rewrite_keep(r, &out);
	if (is_hashed(r->where))
		return rewrite_refuse(r, reply_error_text(ERROR_NAMES_HASHED));
	if (given) {
		if (asked.len != pattern.len || memcmp(asked.p, pattern.p, asked.len) != 0)
			rewrite_set(r, i, asked.p, asked.len);
	} else if (r->view.bound) {
		rewrite_insert(r, i, "MATCH", 5);
		rewrite_insert(r, i + 1, asked.p, asked.len);
	}
	if (r->probing || !names_differ(r))
		return true;
	rewrite_fix(r)->names = (uint8_t)what;
	r->fix->filter = !exact;
	if (!exact)
		fix_set_pattern(r->fix, pattern.p, pattern.len);
	return true;
}

static bool names_of_scan(struct rewrite *r)
{
	uint32_t at = r->argc;

	for (uint32_t i = 2; i + 1 < r->argc; i += 2)
		if (rewrite_arg_is(r, i, "MATCH")) /* of several the last counts */
			at = i + 1;
	return rewrite_pattern(r, at, NAMES_SCAN);
}

/* ---- SORT ---- */

/* "weight_*" or "object_*->name": a key with the element in the place of the star. */
static bool sort_pattern(struct rewrite *r, uint32_t i)
{
	const char *p = r->args[i].p, *star = memchr(p, '*', r->args[i].len);
	struct name_place at;
	struct buf out = {0};
	struct slice name;

	if (!star) /* BY nosort, GET # */
		return true;
	at = view_key(&r->view, p, (size_t)(star - p));
	if (!at.ns && namespaces_strict(r->view.all))
		return rewrite_refuse(r, reply_error_text(ERROR_STRICT));
	if (at.ns && at.ns->flags & NS_SEALS)
		return rewrite_refuse(r, reply_error_text(ERROR_ENCRYPTED));
	if (is_hashed(at.ns))
		return rewrite_refuse(r, reply_error_text(ERROR_NAMES_HASHED));
	if (name_place_is_same(&at))
		return true;
	buf_put(&out, at.put, at.put_len);
	buf_put(&out, p + at.cut, r->args[i].len - at.cut);
	name = rewrite_keep(r, &out);
	rewrite_set(r, i, name.p, name.len);
	return true;
}

static bool names_of_sort(struct rewrite *r)
{
	for (uint32_t i = 2; i < r->argc; i++) {
		if (rewrite_arg_is(r, i, "LIMIT")) {
			i += 2;
		} else if (i + 1 < r->argc && (rewrite_arg_is(r, i, "BY") || rewrite_arg_is(r, i, "GET"))) {
			if (!sort_pattern(r, ++i))
				return false;
		} else if (rewrite_arg_is(r, i, "STORE")) {
			i++;
		}
	}
	return true;
}

/* ---- all keys of a namespace ---- */

/* EVAL script 0, in the place of the command. */
static void send_script(struct rewrite *r, const char *script)
{
	r->argc = 0;
	rewrite_insert(r, 0, "EVAL", 4);
	rewrite_insert(r, 1, script, strlen(script));
	rewrite_insert(r, 2, "0", 1);
}

/* The same with a pattern for all keys of the namespace. */
static void send_script_of_all(struct rewrite *r, const char *script)
{
	struct buf out = {0};
	struct slice pattern;

	pattern_escape(&out, r->view.bound->prefix, r->view.bound->prefix_len);
	buf_put(&out, "*", 1);
	pattern = rewrite_keep(r, &out);
	send_script(r, script);
	rewrite_insert(r, 3, pattern.p, pattern.len);
}

static void names_of_random(struct rewrite *r)
{
	size_t len;
	const char *number = rewrite_number(r, (int64_t)(ttl_random(r->random) >> 33), &len);

	if (r->view.bound) {
		send_script_of_all(r, random_script);
		rewrite_insert(r, 4, r->view.bound->prefix, r->view.bound->prefix_len);
		rewrite_insert(r, 5, number, len);
	} else if (names_differ(r)) {
		send_script(r, some_script);
	}
	if (!r->probing && names_differ(r))
		rewrite_fix(r)->names = NAMES_RANDOM;
}

/* What is not as it should be is sent as it is: Redis refuses it. */
static bool names_of_flush(struct rewrite *r, const char *script)
{
	if (!r->view.bound || r->argc > 2 ||
	    (r->argc == 2 && !rewrite_arg_is(r, 1, "ASYNC") && !rewrite_arg_is(r, 1, "SYNC")))
		return true;
	if (r->view.bound->flags & NS_READONLY)
		return rewrite_refuse(r, reply_error_text(ERROR_NS_READONLY));
	send_script_of_all(r, script);
	return true;
}

/* The channel, and the message where such are sealed. All channels are on [upstream.main], where the hub listens. */
static void names_of_publish(struct rewrite *r)
{
	struct slice client = {r->args[1].p, r->args[1].len}, upstream;
	struct seal_place *at;
	struct buf out = {0};

	r->where = NULL;
	channel_put(&r->view, client.p, client.len, &out);
	upstream = rewrite_keep(r, &out);
	if (upstream.len != client.len || memcmp(upstream.p, client.p, client.len) != 0)
		rewrite_set(r, 1, upstream.p, upstream.len);
	if (r->argc != 3 || !channel_seals(&r->view, client.p, client.len))
		return;
	at = arena_alloc(&r->arena, sizeof(*at));
	*at = (struct seal_place){.kind = SEAL_MESSAGE, .key = upstream.p, .key_len = upstream.len};
	r->args[2].seal = at;
	r->changed = true;
}

static bool renames_a_key(const struct rewrite *r)
{
	for (uint32_t i = 0; i < r->n_keys; i++)
		if (!name_place_is_same(&r->keys[i].at))
			return true;
	return false;
}

bool rewrite_names(struct rewrite *r)
{
	r->where = r->view.bound;
	switch ((enum command_names)r->cmd->names) {
	case NAMES_NONE:
	case NAMES_OPEN:
		return true;
	case NAMES_KEYS:
		return r->argc != 2 || rewrite_pattern(r, 1, NAMES_KEYS);
	case NAMES_SCAN:
		return names_of_scan(r);
	case NAMES_RANDOM:
		names_of_random(r);
		return true;
	case NAMES_POP:
	case NAMES_STREAMS:
		if (!r->probing && renames_a_key(r))
			rewrite_fix(r)->names = r->cmd->names;
		return true;
	case NAMES_SORT:
		return names_of_sort(r);
	case NAMES_COUNT:
		if (r->view.bound)
			send_script_of_all(r, count_script);
		return true;
	case NAMES_FLUSH_DB:
		return names_of_flush(r, flush_db_script);
	case NAMES_FLUSH_ALL:
		return names_of_flush(r, flush_all_script);
	case NAMES_CHANNEL:
		names_of_publish(r);
		return true;
	case NAMES_HIDDEN:
		return !r->view.bound || rewrite_refuse(r, reply_error_text(ERROR_BOUND));
	case NAMES_REFUSED:
		return (!r->view.bound && !renames_a_key(r)) || rewrite_refuse(r, reply_error_text(ERROR_BOUND));
	}
	return true;
}
