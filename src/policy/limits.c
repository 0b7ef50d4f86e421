/* SPDX-License-Identifier: BSD-2-Clause */
/* See limits.h. */
#include "policy/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SECOND_NS INT64_C(1000000000)

static void make_rule(struct limit_rule *rule, const struct rate_limit_config *conf, unsigned id)
{
	rule->conf = conf;
	rule->id = id;
	gcra_init(&rule->gcra, conf->rate.count, conf->rate.period_s * SECOND_NS, conf->burst);
	rule->max_wait_ns = conf->action == LIMIT_DELAY ? conf->max_delay_ms * 1000000 : 0;
	rule->unit_ns = conf->cost == LIMIT_COST_BYTES ? 1 : gcra_span(&rule->gcra, 1);
	if (rule->unit_ns == 0)
		rule->unit_ns = 1;
	rule->by_key = conf->match.n > 0 || conf->per == LIMIT_PER_KEY || conf->per == LIMIT_PER_NAMESPACE;
	rule->identity = xasprintf("%s %d %d %d %" PRId64 "/%" PRId64 " %" PRId64, conf->name, (int)conf->on,
				   (int)conf->per, (int)conf->cost, conf->rate.count, conf->rate.period_s, conf->burst);
	rule->choices = xcalloc(conf->commands.n + 1, sizeof(*rule->choices));
	for (size_t i = 0; i < conf->commands.n; i++)
		rule->n_choices += command_choice(conf->commands.items[i], &rule->choices[rule->n_choices]);
}

static bool has_keys(const struct command *cmd)
{
	for (unsigned i = 0; i < cmd->n_specs; i++)
		if (!(cmd->specs[i].flags & KEY_NOT_KEY))
			return true;
	return false;
}

static bool wants(const struct limit_rule *rule, const struct command *cmd)
{
	bool everywhere = rule->conf->per == LIMIT_PER_NAMESPACE && rule->conf->match.n == 0; /* of a bound listener */

	if (rule->conf->on != LIMIT_COMMANDS || command_is_never_limited(cmd))
		return false;
	if (rule->by_key && !everywhere && !has_keys(cmd))
		return false;
	if (rule->n_choices == 0)
		return !(cmd->categories & CAT_CONNECTION);
	for (size_t i = 0; i < rule->n_choices; i++)
		if (command_is_chosen(cmd, &rule->choices[i]))
			return true;
	return false;
}

uint64_t limits_of_learnt(const struct limits *l, const struct command *cmd)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < l->n; i++)
		bits |= wants(&l->rules[i], cmd) ? (uint64_t)1 << i : 0;
	return bits;
}

struct limits *limits_new(const struct config *config)
{
	struct limits *l;

	if (config->n_limits == 0)
		return NULL;
	l = xcalloc(1, sizeof(*l));
	l->n = config->n_limits;
	l->rules = xcalloc(l->n, sizeof(*l->rules));
	for (size_t i = 0; i < l->n; i++) {
		make_rule(&l->rules[i], &config->limits[i], (unsigned)i);
		l->any_on_commands = l->any_on_commands || config->limits[i].on == LIMIT_COMMANDS;
		l->any_on_connections = l->any_on_connections || config->limits[i].on == LIMIT_CONNECTIONS;
	}
	l->n_commands = command_count();
	l->wants = xcalloc(l->n_commands, sizeof(*l->wants));
	for (unsigned id = 0; id < l->n_commands; id++)
		l->wants[id] = limits_of_learnt(l, command_by_id(NULL, id));
	return l;
}

static struct buckets *buckets_of(const struct limits *l, const char *identity)
{
	for (size_t i = 0; l && i < l->n; i++)
		if (strcmp(l->rules[i].identity, identity) == 0)
			return buckets_ref(l->rules[i].buckets);
	return buckets_new();
}

void limits_adopt(struct limits *l, const struct limits *old)
{
	for (size_t i = 0; l && i < l->n; i++)
		l->rules[i].buckets = buckets_of(old, l->rules[i].identity);
}

void limits_free(struct limits **lp)
{
	struct limits *l = *lp;

	*lp = NULL;
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++) {
		buckets_unref(&l->rules[i].buckets);
		free(l->rules[i].identity);
		free(l->rules[i].choices);
	}
	free(l->rules);
	free(l->wants);
	free(l);
}

bool limit_matches(const struct limit_rule *rule, const char *key, size_t len)
{
	const struct string_list *match = &rule->conf->match;

	for (size_t i = 0; i < match->n; i++) {
		size_t n = strlen(match->items[i]);

		if (n <= len && memcmp(match->items[i], key, n) == 0)
			return true;
	}
	return match->n == 0;
}
