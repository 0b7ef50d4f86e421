/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Key positions from key specifications, as Redis finds them. https://redis.io/docs/reference/key-specs/
 * Where Redis has code instead of a spec (SORT, GEORADIUS, MIGRATE, XREAD: its getkeys callbacks), the table has specs
 * of ours with an option list (overrides.toml), so there is one way for all. Positions are computed for the whole
 * command before the first is told, so that a caller never sees half of them.
 */
#include <assert.h>
#include <string.h>

#include "command/command.h"
#include "command/learn.h"
#include "resp/number.h"

struct arguments {
	uint32_t argc;
	command_arg_fn get_arg;
	void *ctx;
};

/* Keys at first, first + step ... last; none when last < first. */
struct run {
	int64_t first;
	int64_t last;
	int64_t step;
	unsigned flags;
};

enum found { FOUND, FOUND_NOTHING, FOUND_INVALID };

static bool arg_is(const struct arguments *args, int64_t index, const char *word)
{
	size_t len, i;
	const char *arg = args->get_arg(args->ctx, (uint32_t)index, &len);

	if (!arg)
		return false;
	for (i = 0; i < len; i++)
		if (word[i] == '\0' || command_lower(arg[i]) != command_lower(word[i]))
			return false;
	return word[i] == '\0';
}

/* How many arguments the option at index takes; 0 also for what is no option. */
static int64_t option_args(const struct key_spec *spec, const struct arguments *args, int64_t index)
{
	for (const struct key_option *o = spec->options; o && o->name; o++)
		if (arg_is(args, index, o->name))
			return o->n_args;
	return 0;
}

/*
 * Where the keys after a keyword begin; -1: the keyword is not there, or nothing comes after it. Of an option that is
 * given twice Redis takes the last; but where the keys run to the end (STREAMS, KEYS), what follows is theirs.
 */
static int64_t after_keyword(const struct key_spec *spec, const struct arguments *args)
{
	int64_t argc = args->argc, found = -1;
	bool first_counts = !spec->options || spec->find != KEY_FIND_RANGE || spec->last_key < 0;

	if (spec->begin_index < 0) {
		for (int64_t i = argc + spec->begin_index; i > 0; i--)
			if (i + 1 < argc && arg_is(args, i, spec->keyword))
				return i + 1;
		return -1;
	}
	for (int64_t i = spec->begin_index; i + 1 < argc; i++) {
		if (arg_is(args, i, spec->keyword)) {
			found = i + 1;
			if (first_counts)
				break;
			i++;
		} else {
			i += option_args(spec, args, i);
		}
	}
	return found;
}

static enum found find_range(const struct key_spec *spec, int64_t argc, struct run *run)
{
	if (spec->last_key >= 0)
		run->last = run->first + spec->last_key;
	else if (spec->limit <= 1)
		run->last = argc + spec->last_key;
	else /* the keys are the first half, third ... of what is left (XREAD: keys, then ids) */
		run->last = run->first + (argc - run->first) / spec->limit + spec->last_key;
	if (run->last >= argc)
		return FOUND_INVALID;
	return run->last < run->first ? FOUND_NOTHING : FOUND;
}

static enum found find_keynum(const struct key_spec *spec, const struct command *cmd, const struct arguments *args,
			      struct run *run)
{
	int64_t argc = args->argc, at = run->first + spec->keynum_index, n;
	const char *arg = NULL;
	size_t len = 0;

	if (at >= 0 && at < argc)
		arg = args->get_arg(args->ctx, (uint32_t)at, &len);
	if (!arg || !parse_int64(arg, len, &n) || n < 0 || n > argc)
		return FOUND_INVALID;
	if (n == 0) /* EVAL takes 0, ZUNION calls it an error */
		return cmd->flags & CMD_NO_MANDATORY_KEYS ? FOUND_NOTHING : FOUND_INVALID;
	run->first += spec->first_key;
	run->last = run->first + (n - 1) * run->step;
	return run->first < 1 || run->last >= argc ? FOUND_INVALID : FOUND;
}

static enum found find_run(const struct key_spec *spec, const struct command *cmd, const struct arguments *args,
			   struct run *run)
{
	run->flags = spec->flags;
	run->step = spec->key_step > 0 ? spec->key_step : 1;
	if (spec->begin == KEY_BEGIN_INDEX)
		run->first = spec->begin_index;
	else if (spec->begin == KEY_BEGIN_KEYWORD)
		run->first = after_keyword(spec, args);
	else
		return FOUND_INVALID;
	if (spec->begin == KEY_BEGIN_KEYWORD && run->first < 0)
		return FOUND_NOTHING;
	if (run->first < 1 || spec->flags & KEY_INCOMPLETE)
		return FOUND_INVALID;
	switch (spec->find) {
	case KEY_FIND_RANGE:
		return find_range(spec, args->argc, run);
	case KEY_FIND_KEYNUM:
		return find_keynum(spec, cmd, args, run);
	default:
		return FOUND_INVALID;
	}
}

int64_t command_keys(const struct command *cmd, uint32_t argc, command_arg_fn get_arg, command_key_fn on_key, void *ctx)
{
	struct arguments args = {argc, get_arg, ctx};
	struct run runs[COMMAND_SPECS_MAX];
	unsigned n_runs = 0;
	int64_t n_keys = 0;

	assert(cmd->n_specs <= COMMAND_SPECS_MAX);
	for (unsigned i = 0; i < cmd->n_specs; i++) {
		enum found found;

		if (cmd->specs[i].flags & KEY_NOT_KEY)
			continue;
		found = find_run(&cmd->specs[i], cmd, &args, &runs[n_runs]);
		if (found == FOUND_INVALID)
			return -1;
		if (found == FOUND_NOTHING)
			continue;
		n_runs++;
		if (cmd->specs[i].flags & KEY_ALONE)
			break;
	}
	for (unsigned i = 0; i < n_runs; i++) {
		for (int64_t k = runs[i].first; k <= runs[i].last; k += runs[i].step) {
			on_key(ctx, (uint32_t)k, runs[i].flags & ~(unsigned)KEY_ALONE);
			n_keys++;
		}
	}
	return n_keys;
}
