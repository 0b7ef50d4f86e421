/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands that the built-in table lacks (modules, newer servers), learnt from the upstream's COMMAND reply.
 * https://redis.io/commands/command/ : name, arity, flags, first key, last key, step, categories, tips, specs, subs.
 * What may block travels over a dedicated link; the rest is forwarded as the built-in ones are.
 */
#include <hiredis/hiredis.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "command/command.h"
#include "command/learn.h"

struct command_set {
	atomic_uint refs;
	struct command *rows; /* subcommands are folded into their containers */
	unsigned n;
	unsigned first_id;
	struct map by_name;
};

#define NAME_BYTES_MAX 128

static const struct {
	const char *name;
	uint32_t flag;
} flag_names[] = {
	{"write", CMD_WRITE},
	{"readonly", CMD_READONLY},
	{"denyoom", CMD_DENYOOM},
	{"module", CMD_MODULE},
	{"admin", CMD_ADMIN},
	{"pubsub", CMD_PUBSUB},
	{"noscript", CMD_NOSCRIPT},
	{"blocking", CMD_BLOCKING},
	{"loading", CMD_LOADING},
	{"stale", CMD_STALE},
	{"skip_monitor", CMD_SKIP_MONITOR},
	{"skip_slowlog", CMD_SKIP_SLOWLOG},
	{"fast", CMD_FAST},
	{"no_auth", CMD_NO_AUTH},
	{"may_replicate", CMD_MAY_REPLICATE},
	{"no_multi", CMD_NO_MULTI},
	{"movablekeys", CMD_MOVABLEKEYS},
	{"allow_busy", CMD_ALLOW_BUSY},
};

static bool is_text(const redisReply *r)
{
	return r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS;
}

static uint32_t learn_flags(const redisReply *list)
{
	uint32_t flags = 0;

	for (size_t i = 0; list->type == REDIS_REPLY_ARRAY && i < list->elements; i++)
		for (size_t k = 0; k < sizeof(flag_names) / sizeof(*flag_names); k++)
			if (is_text(list->element[i]) && strcmp(list->element[i]->str, flag_names[k].name) == 0)
				flags |= flag_names[k].flag;
	return flags;
}

/* One row of COMMAND, when it is one and not built in. */
static bool learn_row(struct command_set *set, const redisReply *row)
{
	struct command *cmd = &set->rows[set->n];
	char name[NAME_BYTES_MAX];
	size_t len;

	if (row->type != REDIS_REPLY_ARRAY || row->elements < 6 || !is_text(row->element[0]) ||
	    row->element[1]->type != REDIS_REPLY_INTEGER)
		return false;
	len = (size_t)row->element[0]->len;
	if (len == 0 || len >= sizeof(name) || command_builtin(row->element[0]->str, len))
		return false;
	for (size_t i = 0; i < len; i++) {
		name[i] = row->element[0]->str[i];
		if (name[i] >= 'A' && name[i] <= 'Z')
			name[i] |= 0x20;
	}
	if (map_get(&set->by_name, name, len))
		return false;
	cmd->name = xmemdup0(name, len);
	cmd->id = (uint16_t)(set->first_id + set->n);
	cmd->arity = (int16_t)row->element[1]->integer;
	cmd->flags = learn_flags(row->element[2]);
	cmd->handler = cmd->flags & (CMD_BLOCKING | CMD_PUBSUB) ? HANDLER_DEDICATED : HANDLER_FORWARD;
	cmd->in_multi = cmd->flags & CMD_PUBSUB ? IN_MULTI_REFUSED : IN_MULTI_PLAIN;
	map_set(&set->by_name, name, len, cmd);
	set->n++;
	return true;
}

struct command_set *command_learn(const struct redisReply *reply)
{
	struct command_set *set;
	size_t room;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
		return NULL;
	set = xcalloc(1, sizeof(*set));
	atomic_init(&set->refs, 1);
	map_init(&set->by_name);
	set->first_id = command_count();
	room = COMMAND_ID_MAX - 1 - set->first_id;
	if (room > reply->elements)
		room = reply->elements;
	set->rows = xcalloc(room, sizeof(*set->rows));
	for (size_t i = 0; i < reply->elements && set->n < room; i++)
		learn_row(set, reply->element[i]);
	return set;
}

const struct command *command_set_find(const struct command_set *set, const char *name, size_t len)
{
	char lower[NAME_BYTES_MAX];

	if (set->n == 0 || len == 0 || len >= sizeof(lower))
		return NULL;
	for (size_t i = 0; i < len; i++)
		lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] | 0x20) : name[i];
	return map_get(&set->by_name, lower, len);
}

const struct command *command_set_by_id(const struct command_set *set, unsigned id)
{
	return id >= set->first_id && id < set->first_id + set->n ? &set->rows[id - set->first_id] : NULL;
}

unsigned command_set_count(const struct command_set *set)
{
	return set->n;
}

struct command_set *command_set_ref(struct command_set *set)
{
	if (set)
		atomic_fetch_add(&set->refs, 1);
	return set;
}

static void free_row(struct command *row)
{
	char *name;

	memcpy(&name, &row->name, sizeof(name)); /* the set made it, and owns it */
	free(name);
}

void command_set_unref(struct command_set **setp)
{
	struct command_set *set = *setp;

	*setp = NULL;
	if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < set->n; i++)
		free_row(&set->rows[i]);
	map_fini(&set->by_name);
	free(set->rows);
	free(set);
}
