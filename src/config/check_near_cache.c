/* SPDX-License-Identifier: BSD-2-Clause */
/* Rules of [near_cache], and of the options of namespaces that hang on it. See check.c. */
#include <stdio.h>
#include <string.h>

#include "config/load.h"
#include "config/value.h"

#define MEMORY_MIN (1 << 20) /* the tables alone need a part of it */
#define VALUE_PART 4	     /* one reply has at most this part of the memory: else a few would drive out all others */

/* A reply may have a quarter of the memory. What nobody wrote gives way, what somebody wrote is a mistake. */
static void check_value_size(struct loader *l)
{
	struct near_cache_config *conf = &l->config->near_cache;
	struct slot memory = slot_of(OPTION_near_cache_max_memory, 0),
		    value = slot_of(OPTION_near_cache_max_value_size, 0);
	int64_t most = conf->max_memory_bytes / VALUE_PART;

	if (conf->max_memory_bytes == 0 || conf->max_value_bytes <= most || !settings_fine(l, memory, value))
		return;
	if (setting_of(l, value)->at.file)
		complain(l, value, setting_of(l, value)->at, "must not be more than a quarter of max_memory");
	else
		conf->max_value_bytes = most;
}

static void check_memory(struct loader *l)
{
	struct slot memory = slot_of(OPTION_near_cache_max_memory, 0);
	int64_t bytes = l->config->near_cache.max_memory_bytes;

	if (setting_of(l, memory)->bad)
		return;
	if (bytes > 0 && bytes < MEMORY_MIN)
		complain(l, memory, setting_of(l, memory)->at, "must be 0, or at least 1mb");
	else
		check_value_size(l);
}

/* The option says something, `on` is not what it needs. */
static void need(struct loader *l, struct slot s, bool said, struct slot on, bool is_on, const char *what)
{
	if (said && !is_on && settings_fine(l, s, on))
		complain(l, s, setting_of(l, s)->at, "needs %s beside it", what);
}

/* A dump has all options in it, and is right. */
static bool is_default(const struct loader *l, struct slot s)
{
	const int64_t *ms = schema_field_const(l->config, s);
	char text[VALUE_TEXT_MAX], quoted[VALUE_TEXT_MAX + 2];

	value_format_duration(*ms * 1000, text);
	snprintf(quoted, sizeof(quoted), "\"%s\"", text);
	return strcmp(s.o->value, quoted) == 0;
}

static void check_namespace(struct loader *l, size_t i)
{
	const struct namespace_config *ns = &l->config->namespaces[i];
	struct slot near = slot_of(OPTION_namespace_near_cache, i), failure = slot_of(OPTION_namespace_on_failure, i);
	struct slot race = slot_of(OPTION_namespace_race_condition_ttl, i);
	struct slot stale = slot_of(OPTION_namespace_stale_if_error, i);
	bool by_stale = ns->on_failure == ON_FAILURE_STALE;

	need(l, race, ns->race_condition_ttl_ms > 0, near, ns->near_cache, "near_cache = true");
	if (by_stale && !ns->near_cache && settings_fine(l, failure, near))
		complain(l, failure, setting_of(l, failure)->at, "is stale, which needs near_cache = true beside it");
	need(l, stale, !is_default(l, stale), failure, by_stale, "on_failure = \"stale\"");
	if (ns->near_cache && l->config->near_cache.max_memory_bytes == 0)
		problem_add(
			&l->config->warnings, setting_of(l, near)->at,
			"[namespace.%s] has near_cache = true, but max_memory of [near_cache] is 0: nothing is kept",
			ns->name);
}

void check_near_cache(struct loader *l)
{
	check_memory(l);
	for (size_t i = 0; i < l->config->n_namespaces; i++)
		check_namespace(l, i);
}
