/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Key positions from key specifications, by the rules of Redis. https://redis.io/docs/reference/key-specs/
 * Commands whose specs are incomplete (SORT's BY and GET patterns are no keys; MIGRATE's and GEORADIUS's options are)
 * carry several specs; those that find nothing add nothing.
 */
#include <string.h>
#include <strings.h>

#include "command/command.h"
#include "resp/number.h"

struct search {
	uint32_t argc;
	command_arg_fn get_arg;
	command_key_fn on_key;
	void *ctx;
	int64_t n_keys;
};

/* Where a spec begins to look; -1: it does not apply here. */
static int64_t begin_index(const struct key_spec *spec, const struct search *s)
{
	int64_t step = spec->begin_index < 0 ? -1 : 1;
	int64_t i = spec->begin_index < 0 ? (int64_t)s->argc + spec->begin_index : spec->begin_index;
	size_t n;

	if (spec->begin == KEY_BEGIN_INDEX)
		return spec->begin_index < (int64_t)s->argc ? spec->begin_index : -1;
	n = strlen(spec->keyword);
	for (; i > 0 && i < (int64_t)s->argc; i += step) {
		size_t len;
		const char *arg = s->get_arg(s->ctx, (uint32_t)i, &len);

		if (arg && len == n && strncasecmp(arg, spec->keyword, n) == 0)
			return i + 1 < (int64_t)s->argc ? i + 1 : -1;
	}
	return -1;
}

static void emit(struct search *s, const struct key_spec *spec, int64_t first, int64_t last, int64_t step)
{
	if (step < 1)
		step = 1;
	for (int64_t i = first; i <= last && i < (int64_t)s->argc; i += step) {
		s->on_key(s->ctx, (uint32_t)i, spec->flags);
		s->n_keys++;
	}
}

static void find_range(struct search *s, const struct key_spec *spec, int64_t first)
{
	int64_t argc = s->argc, last;

	if (spec->last_key >= 0)
		last = first + spec->last_key;
	else if (spec->limit <= 1)
		last = argc + spec->last_key;
	else /* the keys are the first half, third ... of what is left (XREAD: keys, then ids) */
		last = first + ((argc - first) / spec->limit + spec->last_key);
	emit(s, spec, first, last, spec->key_step);
}

/* False: the number of keys that the command announces makes no sense. */
static bool find_keynum(struct search *s, const struct key_spec *spec, int64_t first)
{
	int64_t at = first + spec->keynum_index, n;
	const char *arg;
	size_t len;

	if (at >= (int64_t)s->argc)
		return false;
	arg = s->get_arg(s->ctx, (uint32_t)at, &len);
	if (!arg || !parse_int64(arg, len, &n) || n < 0 || n > (int64_t)s->argc)
		return false;
	first += spec->first_key;
	if (n > 0 && first + (n - 1) * spec->key_step >= (int64_t)s->argc)
		return false;
	emit(s, spec, first, first + (n - 1) * spec->key_step, spec->key_step);
	return true;
}

int64_t command_keys(const struct command *cmd, uint32_t argc, command_arg_fn get_arg, command_key_fn on_key, void *ctx)
{
	struct search s = {argc, get_arg, on_key, ctx, 0};

	for (unsigned i = 0; i < cmd->n_specs; i++) {
		const struct key_spec *spec = &cmd->specs[i];
		int64_t first;

		if (spec->begin == KEY_BEGIN_UNKNOWN || spec->find == KEY_FIND_UNKNOWN) {
			/* Unknown specs stand beside known ones for what no spec can say (SORT ... GET pattern). */
			if (cmd->n_specs == 1)
				return -1;
			continue;
		}
		if (spec->flags & KEY_NOT_KEY)
			continue;
		first = begin_index(spec, &s);
		if (first < 0)
			continue;
		if (spec->find == KEY_FIND_RANGE)
			find_range(&s, spec, first);
		else if (!find_keynum(&s, spec, first))
			return -1;
	}
	return s.n_keys;
}
