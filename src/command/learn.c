/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands that the built-in table lacks (modules, newer servers), learnt from the upstream's COMMAND reply.
 * https://redis.io/commands/command/ : name, arity, flags, first key, last key, step, since 6.0 ACL categories, since
 * 7.0 tips, key specs and subcommands. A malformed row is passed over; the rest still counts.
 * A set owns all that its rows point to. Built on the control thread, read by all, never changed.
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
	struct command *rows; /* a container's subcommands stand together, sorted */
	unsigned n;
	unsigned room;
	unsigned first_id;
	struct map by_name; /* full names: top-level commands, subcommands of built-in containers */
};

struct word {
	const char *name;
	uint32_t value;
};

static const struct word flag_words[] = {
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
	{"asking", CMD_ASKING},
	{"fast", CMD_FAST},
	{"no_auth", CMD_NO_AUTH},
	{"may_replicate", CMD_MAY_REPLICATE},
	{"no_async_loading", CMD_NO_ASYNC_LOADING},
	{"no_multi", CMD_NO_MULTI},
	{"movablekeys", CMD_MOVABLEKEYS},
	{"allow_busy", CMD_ALLOW_BUSY},
	{"no_mandatory_keys", CMD_NO_MANDATORY_KEYS},
	{NULL, 0},
};

static const struct word category_words[] = {
	{"@keyspace", CAT_KEYSPACE},
	{"@read", CAT_READ},
	{"@write", CAT_WRITE},
	{"@set", CAT_SET},
	{"@sortedset", CAT_SORTEDSET},
	{"@list", CAT_LIST},
	{"@hash", CAT_HASH},
	{"@string", CAT_STRING},
	{"@bitmap", CAT_BITMAP},
	{"@hyperloglog", CAT_HYPERLOGLOG},
	{"@geo", CAT_GEO},
	{"@stream", CAT_STREAM},
	{"@pubsub", CAT_PUBSUB},
	{"@admin", CAT_ADMIN},
	{"@fast", CAT_FAST},
	{"@slow", CAT_SLOW},
	{"@blocking", CAT_BLOCKING},
	{"@dangerous", CAT_DANGEROUS},
	{"@connection", CAT_CONNECTION},
	{"@transaction", CAT_TRANSACTION},
	{"@scripting", CAT_SCRIPTING},
	{NULL, 0},
};

static const struct word key_words[] = {
	{"RO", KEY_RO},
	{"RW", KEY_RW},
	{"OW", KEY_OW},
	{"RM", KEY_RM},
	{"access", KEY_ACCESS},
	{"update", KEY_UPDATE},
	{"insert", KEY_INSERT},
	{"delete", KEY_DELETE},
	{"not_key", KEY_NOT_KEY},
	{"incomplete", KEY_INCOMPLETE},
	{"variable_flags", KEY_VARIABLE_FLAGS},
	{NULL, 0},
};

static const struct word request_words[] = {
	{"request_policy:all_nodes", REQUEST_ALL_NODES},
	{"request_policy:all_shards", REQUEST_ALL_SHARDS},
	{"request_policy:multi_shard", REQUEST_MULTI_SHARD},
	{"request_policy:special", REQUEST_SPECIAL},
	{NULL, 0},
};

static const struct word response_words[] = {
	{"response_policy:one_succeeded", RESPONSE_ONE_SUCCEEDED},
	{"response_policy:all_succeeded", RESPONSE_ALL_SUCCEEDED},
	{"response_policy:agg_logical_and", RESPONSE_AGG_LOGICAL_AND},
	{"response_policy:agg_logical_or", RESPONSE_AGG_LOGICAL_OR},
	{"response_policy:agg_min", RESPONSE_AGG_MIN},
	{"response_policy:agg_max", RESPONSE_AGG_MAX},
	{"response_policy:agg_sum", RESPONSE_AGG_SUM},
	{"response_policy:special", RESPONSE_SPECIAL},
	{NULL, 0},
};

static bool is_text(const redisReply *r)
{
	return r && (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS) && r->str;
}

static bool is_list(const redisReply *r)
{
	return r && r->type == REDIS_REPLY_ARRAY;
}

static const redisReply *item(const redisReply *list, size_t i)
{
	return i < list->elements ? list->element[i] : NULL;
}

/* An integer that fits where the table keeps it. */
static bool small_int(const redisReply *r, int16_t *out)
{
	if (!r || r->type != REDIS_REPLY_INTEGER || r->integer < INT16_MIN || r->integer > INT16_MAX)
		return false;
	*out = (int16_t)r->integer;
	return true;
}

static bool has_word(const redisReply *list, const char *word)
{
	for (size_t i = 0; is_list(list) && i < list->elements; i++)
		if (is_text(list->element[i]) && strcmp(list->element[i]->str, word) == 0)
			return true;
	return false;
}

/* The values of the words in a list that we know, or-ed. */
static uint32_t known_words(const redisReply *list, const struct word *words)
{
	uint32_t value = 0;

	for (size_t i = 0; is_list(list) && i < list->elements; i++)
		for (const struct word *w = words; w->name; w++)
			if (is_text(list->element[i]) && strcmp(list->element[i]->str, w->name) == 0)
				value |= w->value;
	return value;
}

/* The first word of the list that we know (the policies are numbers, not bits). */
static uint8_t first_word(const redisReply *list, const struct word *words)
{
	for (size_t i = 0; is_list(list) && i < list->elements; i++)
		for (const struct word *w = words; w->name; w++)
			if (is_text(list->element[i]) && strcmp(list->element[i]->str, w->name) == 0)
				return (uint8_t)w->value;
	return 0;
}

/* The value after `name` in a flat list of pairs; NULL: none. */
static const redisReply *field(const redisReply *pairs, const char *name)
{
	for (size_t i = 0; is_list(pairs) && i + 1 < pairs->elements; i += 2)
		if (is_text(pairs->element[i]) && strcmp(pairs->element[i]->str, name) == 0)
			return pairs->element[i + 1];
	return NULL;
}

static bool type_is(const redisReply *pairs, const char *name)
{
	const redisReply *type = field(pairs, "type");

	return is_text(type) && strcmp(type->str, name) == 0;
}

static void learn_begin(struct key_spec *spec, const redisReply *begin)
{
	const redisReply *fields = field(begin, "spec"), *keyword = field(fields, "keyword");

	if (type_is(begin, "index") && small_int(field(fields, "index"), &spec->begin_index) && spec->begin_index > 0) {
		spec->begin = KEY_BEGIN_INDEX;
	} else if (type_is(begin, "keyword") && is_text(keyword) && keyword->str[0] != '\0' &&
		   small_int(field(fields, "startfrom"), &spec->begin_index) && spec->begin_index != 0) {
		spec->begin = KEY_BEGIN_KEYWORD;
		spec->keyword = xstrdup(keyword->str);
	}
}

static void learn_find(struct key_spec *spec, const redisReply *find)
{
	const redisReply *fields = field(find, "spec");

	if (!small_int(field(fields, "keystep"), &spec->key_step) || spec->key_step < 1)
		return;
	if (type_is(find, "range") && small_int(field(fields, "lastkey"), &spec->last_key) &&
	    small_int(field(fields, "limit"), &spec->limit))
		spec->find = KEY_FIND_RANGE;
	else if (type_is(find, "keynum") && small_int(field(fields, "keynumidx"), &spec->keynum_index) &&
		 small_int(field(fields, "firstkey"), &spec->first_key))
		spec->find = KEY_FIND_KEYNUM;
}

/* Redis 7: key specs. What does not make sense stays UNKNOWN, so that command_keys() says -1 rather than guess. */
static void learn_specs(struct command *cmd, const redisReply *list)
{
	size_t n = list->elements;
	struct key_spec *specs;

	if (n == 0)
		return;
	if (n > COMMAND_SPECS_MAX)
		n = 1; /* one that is left UNKNOWN */
	specs = xcalloc(n, sizeof(*specs));
	cmd->specs = specs;
	cmd->n_specs = (uint8_t)n;
	for (size_t i = 0; i < n && list->elements <= COMMAND_SPECS_MAX; i++) {
		specs[i].flags = (uint16_t)known_words(field(list->element[i], "flags"), key_words);
		learn_begin(&specs[i], field(list->element[i], "begin_search"));
		learn_find(&specs[i], field(list->element[i], "find_keys"));
	}
}

/* Before Redis 7: first key, last key, step; movable keys can't be known. */
static void learn_positions(struct command *cmd, const redisReply *row)
{
	struct key_spec *spec;
	int16_t first = 0, last = 0, step = 0;
	bool sound =
		small_int(item(row, 3), &first) && small_int(item(row, 4), &last) && small_int(item(row, 5), &step);

	if (sound && first == 0 && !(cmd->flags & CMD_MOVABLEKEYS))
		return;
	spec = xcalloc(1, sizeof(*spec));
	cmd->specs = spec;
	cmd->n_specs = 1;
	spec->flags = cmd->flags & CMD_WRITE ? KEY_RW | KEY_ACCESS | KEY_UPDATE : KEY_RO | KEY_ACCESS;
	if (!sound || first < 1 || step < 1 || (last >= 0 && last < first) || cmd->flags & CMD_MOVABLEKEYS)
		return; /* UNKNOWN */
	spec->begin = KEY_BEGIN_INDEX;
	spec->begin_index = first;
	spec->find = KEY_FIND_RANGE;
	spec->last_key = last < 0 ? last : (int16_t)(last - first);
	spec->key_step = step;
}

/*
 * Reads of modules that look as if they hung on their one key alone, and do not: RediSearch had the name of an index
 * for a key; graph queries know the time and chance; a series may be asked for the LATEST of another; and what is told
 * by its name. Of them, modules do not say so in COMMAND.
 */
static bool hangs_on_more(const char *name)
{
	static const char *const families[] = {"ft.", "graph.", "ts.get", "ts.range", "ts.revrange"};
	static const char *const words[] = {"rand", "scan", "ttl", "idle", "time", "debug"};

	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++)
		if (strncmp(name, families[i], strlen(families[i])) == 0)
			return true;
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strstr(name, words[i]))
			return true;
	return false;
}

/* Whether the near-cache may keep its replies, as far as can be told: a read of argument 1, its only key. */
static bool hangs_on_key(const struct command *cmd, const redisReply *row)
{
	if (!(cmd->flags & CMD_READONLY) || command_may_write(cmd) ||
	    cmd->flags & (CMD_BLOCKING | CMD_PUBSUB | CMD_ADMIN | CMD_MOVABLEKEYS))
		return false;
	/* Not by the spec's RO: of what modules declare in the old way Redis 7 says RW. */
	if (!command_has_one_place(cmd) || cmd->specs->begin_index != 1 ||
	    cmd->specs->flags & (KEY_NOT_KEY | KEY_INCOMPLETE | KEY_VARIABLE_FLAGS))
		return false;
	/* The tip of Redis 7 and the flag of those before. */
	return !has_word(item(row, 7), "nondeterministic_output") && !has_word(row->element[2], "random") &&
	       !hangs_on_more(cmd->name);
}

/* Our own columns, by what can be told from the flags. */
static void set_columns(struct command *cmd, bool of_client)
{
	bool apart = of_client || cmd->flags & (CMD_BLOCKING | CMD_PUBSUB);

	cmd->handler = apart ? HANDLER_DEDICATED : HANDLER_FORWARD;
	cmd->timeout = cmd->flags & CMD_BLOCKING ? TIMEOUT_SLOW : TIMEOUT_NORMAL;
	if (cmd->flags & CMD_PUBSUB)
		cmd->in_multi = IN_MULTI_REFUSED;
	else
		cmd->in_multi = of_client || cmd->flags & (CMD_ADMIN | CMD_NO_MULTI) ? IN_MULTI_STATE : IN_MULTI_PLAIN;
	cmd->ttl = TTL_NONE;
	for (unsigned i = 0; cmd->flags & CMD_WRITE && i < cmd->n_specs; i++)
		if (cmd->specs[i].flags & (KEY_RW | KEY_OW) && !(cmd->specs[i].flags & KEY_RM))
			cmd->ttl = TTL_AFTER;
	/* Without keys that are known it may see any. */
	if (cmd->n_specs == 0 && (cmd->flags & (CMD_ADMIN | CMD_MODULE | CMD_MOVABLEKEYS | CMD_READONLY | CMD_WRITE) ||
				  cmd->categories & (CAT_ADMIN | CAT_DANGEROUS)))
		cmd->names = NAMES_HIDDEN;
}

/* The row's name in lower case; false: it is none. */
static bool row_name(const redisReply *row, char name[COMMAND_NAME_MAX], size_t *len)
{
	int16_t arity;

	if (!is_list(row) || row->elements < 6 || !is_text(row->element[0]) || !small_int(row->element[1], &arity))
		return false;
	*len = (size_t)row->element[0]->len;
	if (*len == 0 || *len >= COMMAND_NAME_MAX || memchr(row->element[0]->str, '\0', *len) || arity == 0)
		return false;
	for (size_t i = 0; i < *len; i++)
		name[i] = command_lower(row->element[0]->str[i]);
	return true;
}

/* Takes the next free row for one that row_name() found sound. */
static struct command *learn_row(struct command_set *set, const redisReply *row, const char *name, size_t len)
{
	struct command *cmd = &set->rows[set->n];

	cmd->name = xmemdup0(name, len);
	cmd->id = (uint16_t)(set->first_id + set->n++);
	small_int(row->element[1], &cmd->arity);
	cmd->flags = known_words(row->element[2], flag_words);
	cmd->categories = known_words(item(row, 6), category_words);
	cmd->request_policy = first_word(item(row, 7), request_words);
	cmd->response_policy = first_word(item(row, 7), response_words);
	if (is_list(item(row, 8)))
		learn_specs(cmd, item(row, 8));
	else
		learn_positions(cmd, row);
	set_columns(cmd, strncmp(name, "client|", 7) == 0);
	cmd->cache = hangs_on_key(cmd, row) ? CACHE_KEY : CACHE_NONE;
	return cmd;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct command *)a)->name, ((const struct command *)b)->name);
}

/* Whether name, `len` long, is container|something. */
static bool is_within(const char *name, size_t len, const char *container, size_t container_len)
{
	return len > container_len + 1 && memcmp(name, container, container_len) == 0 && name[container_len] == '|';
}

/* The subcommands of a container that is itself learnt: together, sorted, ids in that order. */
static void learn_subcommands(struct command_set *set, struct command *container, const redisReply *list)
{
	unsigned start = set->n;
	char name[COMMAND_NAME_MAX];
	size_t len;

	for (size_t i = 0; i < list->elements && set->n < set->room; i++)
		if (row_name(list->element[i], name, &len) &&
		    is_within(name, len, container->name, strlen(container->name)))
			learn_row(set, list->element[i], name, len);
	if (set->n == start)
		return;
	qsort(&set->rows[start], set->n - start, sizeof(*set->rows), by_name);
	for (unsigned i = start; i < set->n; i++)
		set->rows[i].id = (uint16_t)(set->first_id + i);
	container->subcommands = &set->rows[start];
	container->n_subcommands = (uint16_t)(set->n - start);
}

/* The subcommands of a built-in container that its own row lacks. */
static void learn_more_subcommands(struct command_set *set, const struct command *container, const redisReply *list)
{
	size_t skip = strlen(container->name) + 1, len;
	char name[COMMAND_NAME_MAX];

	for (size_t i = 0; i < list->elements && set->n < set->room; i++)
		if (row_name(list->element[i], name, &len) && is_within(name, len, container->name, skip - 1) &&
		    !command_subcommand(container, name + skip, len - skip) && !map_get(&set->by_name, name, len))
			map_set(&set->by_name, name, len, learn_row(set, list->element[i], name, len));
}

static void learn_command(struct command_set *set, const redisReply *row)
{
	const struct command *built_in;
	const redisReply *subs;
	struct command *cmd;
	char name[COMMAND_NAME_MAX];
	size_t len;

	if (!row_name(row, name, &len) || memchr(name, '|', len))
		return;
	subs = is_list(item(row, 9)) ? item(row, 9) : NULL;
	built_in = command_builtin(name, len);
	if (built_in) {
		if (subs && built_in->n_subcommands > 0)
			learn_more_subcommands(set, built_in, subs);
		return;
	}
	if (map_get(&set->by_name, name, len))
		return;
	cmd = learn_row(set, row, name, len);
	map_set(&set->by_name, name, len, cmd);
	if (subs)
		learn_subcommands(set, cmd, subs);
}

struct command_set *command_learn(const struct redisReply *reply)
{
	struct command_set *set;

	if (!is_list(reply) || reply->elements == 0)
		return NULL;
	set = xcalloc(1, sizeof(*set));
	atomic_init(&set->refs, 1);
	map_init(&set->by_name);
	set->first_id = command_count();
	set->room = COMMAND_ID_MAX - set->first_id;
	set->rows = xcalloc(set->room, sizeof(*set->rows)); /* never moves: rows point to each other */
	for (size_t i = 0; i < reply->elements && set->n < set->room; i++)
		learn_command(set, reply->element[i]);
	return set;
}

const struct command *command_set_find(const struct command_set *set, const char *name, size_t name_len,
				       const char *sub, size_t sub_len)
{
	char full[COMMAND_NAME_MAX];
	size_t len = name_len;

	if (set->n == 0 || name_len == 0 || name_len >= sizeof(full) || (sub && sub_len >= sizeof(full) - 1 - name_len))
		return NULL;
	for (size_t i = 0; i < name_len; i++)
		full[i] = command_lower(name[i]);
	if (sub) {
		full[len++] = '|';
		for (size_t i = 0; i < sub_len; i++)
			full[len++] = command_lower(sub[i]);
	} else if (memchr(full, '|', name_len)) {
		return NULL; /* "client|more" is no command that one can send */
	}
	return map_get(&set->by_name, full, len);
}

const struct command *command_set_by_id(const struct command_set *set, unsigned id)
{
	return id >= set->first_id && id < set->first_id + set->n ? &set->rows[id - set->first_id] : NULL;
}

unsigned command_set_count(const struct command_set *set)
{
	return set->n;
}

static bool same_spec(const struct key_spec *a, const struct key_spec *b)
{
	if (!a->keyword != !b->keyword || (a->keyword && strcmp(a->keyword, b->keyword) != 0))
		return false;
	return a->flags == b->flags && a->begin == b->begin && a->find == b->find && a->begin_index == b->begin_index &&
	       a->last_key == b->last_key && a->key_step == b->key_step && a->limit == b->limit &&
	       a->keynum_index == b->keynum_index && a->first_key == b->first_key;
}

static bool same_row(const struct command *a, const struct command *b)
{
	if (strcmp(a->name, b->name) != 0 || a->arity != b->arity || a->flags != b->flags ||
	    a->categories != b->categories || a->request_policy != b->request_policy ||
	    a->response_policy != b->response_policy || a->cache != b->cache || a->n_specs != b->n_specs)
		return false;
	for (unsigned i = 0; i < a->n_specs; i++)
		if (!same_spec(&a->specs[i], &b->specs[i]))
			return false;
	return true;
}

/* Redis tells of its commands in the order of a hash table that differs from run to run. */
bool command_set_same(const struct command_set *a, const struct command_set *b)
{
	if ((a ? a->n : 0) != (b ? b->n : 0))
		return false;
	for (unsigned i = 0; a && i < a->n; i++) {
		unsigned k = 0;

		while (k < b->n && !same_row(&a->rows[i], &b->rows[k]))
			k++;
		if (k == b->n)
			return false;
	}
	return true;
}

struct command_set *command_set_ref(struct command_set *set)
{
	if (set)
		atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
	return set;
}

/* Frees what a row points to as constant; only the set itself ever writes or frees it. */
static void drop(const void *p)
{
	void *mine;

	memcpy(&mine, &p, sizeof(mine));
	free(mine);
}

void command_set_unref(struct command_set **setp)
{
	struct command_set *set = *setp;

	*setp = NULL;
	if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < set->n; i++) {
		for (unsigned k = 0; k < set->rows[i].n_specs; k++)
			drop(set->rows[i].specs[k].keyword);
		drop(set->rows[i].specs);
		drop(set->rows[i].name);
	}
	map_fini(&set->by_name);
	free(set->rows);
	free(set);
}
