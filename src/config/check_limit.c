/* SPDX-License-Identifier: BSD-2-Clause */
/* Rules of [[rate_limit]] that concern several options, and names of commands. */
#include <string.h>

#include "command/choice.h"
#include "config/load.h"

static bool is_bad(const struct loader *l, struct slot s)
{
	return setting_of(l, s)->bad;
}

static struct place place_of(const struct loader *l, struct slot s)
{
	return setting_of(l, s)->at;
}

static void check_name(struct loader *l, size_t i)
{
	struct slot s = slot_of(OPTION_rate_limit_name, i);
	const char *name = l->config->limits[i].name;

	if (is_bad(l, s))
		return;
	if (!*name) {
		complain(l, s, place_of(l, s), "must be given");
		return;
	}
	if (!schema_name_fits(name, strlen(name))) {
		complain(l, s, place_of(l, s), "must have 1 to %d letters, digits, _ and -", INSTANCE_NAME_MAX);
		return;
	}
	for (size_t k = 0; k < i; k++) {
		if (strcmp(name, l->config->limits[k].name) == 0) {
			complain(l, s, place_of(l, s), ": \"%s\" is that of another [[rate_limit]]", name);
			return;
		}
	}
}

static void check_commands(struct loader *l, size_t i)
{
	struct slot s = slot_of(OPTION_rate_limit_commands, i);
	const struct string_list *list = &l->config->limits[i].commands;
	const struct setting *setting = setting_of(l, s);
	struct command_choice choice;

	for (size_t k = 0; k < list->n; k++) {
		if (!command_choice(list->items[k], &choice))
			complain(l, s, setting->items[k], ": there is no %s %s",
				 *list->items[k] == '@' ? "category" : "command", list->items[k]);
		else if (choice.cmd && command_is_never_limited(choice.cmd))
			complain(l, s, setting->items[k], ": %s is never limited", list->items[k]);
	}
}

static void check_rate(struct loader *l, size_t i)
{
	struct rate_limit_config *limit = &l->config->limits[i];
	struct slot s = slot_of(OPTION_rate_limit_rate, i);

	if (is_bad(l, s))
		return;
	if (limit->rate.count == 0)
		complain(l, s, place_of(l, s), "must be given");
	else if (limit->burst == 0)
		limit->burst = limit->rate.count < limit->rate.period_s ? 1 : limit->rate.count / limit->rate.period_s;
}

/* What a connection has not: it is looked at before it has said anything. */
static void check_connections(struct loader *l, size_t i)
{
	const struct rate_limit_config *limit = &l->config->limits[i];
	const struct {
		enum option_id id;
		bool wrong;
	} rules[] = {
		{OPTION_rate_limit_match, limit->match.n > 0},
		{OPTION_rate_limit_commands, limit->commands.n > 0},
		{OPTION_rate_limit_per, limit->per != LIMIT_PER_CLIENT_IP && limit->per != LIMIT_PER_ALL},
		{OPTION_rate_limit_action, limit->action != LIMIT_REJECT},
		{OPTION_rate_limit_shared, limit->shared},
		{OPTION_rate_limit_cost, limit->cost != LIMIT_COST_COMMANDS},
	};

	if (limit->on != LIMIT_CONNECTIONS)
		return;
	for (size_t k = 0; k < sizeof(rules) / sizeof(*rules); k++) {
		struct slot s = slot_of(rules[k].id, i);

		if (rules[k].wrong && !is_bad(l, s))
			complain(l, s, place_of(l, s), "does not go with on = \"connections\"");
	}
}

void check_limits(struct loader *l)
{
	size_t n = l->config->n_limits;

	for (size_t i = 0; i < n; i++) {
		check_name(l, i);
		check_commands(l, i);
		check_rate(l, i);
		check_connections(l, i);
	}
	if (n > RATE_LIMITS_MAX)
		problem_add(l->problems, place_of(l, slot_of(OPTION_rate_limit_name, RATE_LIMITS_MAX)),
			    "there may be %d [[rate_limit]] at most", RATE_LIMITS_MAX);
}
