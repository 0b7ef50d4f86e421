/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of options, and looking things up in it: see schema.h. */
#include "config/schema.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define C_ADDRESSES   struct string_list
#define C_NODES	      struct string_list
#define C_STRINGS     struct string_list
#define C_URL	      char *
#define C_FILE	      char *
#define C_STRING      char *
#define C_ADDRESS     char *
#define C_ENUM	      unsigned
#define C_RATE	      struct rate
#define C_BOOL	      bool
#define C_FRACTION    double
#define C_INT	      int64_t
#define C_SIZE	      int64_t
#define C_DURATION_MS int64_t
#define C_DURATION_US int64_t

/* offsetof() that does not compile when the field is not of the type. */
#define AT(type, table, field)                                                                                         \
	(offsetof(struct table##_config, field) + 0 * sizeof((type *)0 == &((struct table##_config *)0)->field))

static const struct option options[N_OPTIONS] = {
#define TABLE(table, scope, path, doc)
#define OPTION(table_, key_, type_, field_, value_, range_, flags_, doc_)                                              \
	{                                                                                                              \
		.id = OPTION_##table_##_##key_,                                                                        \
		.table = IN_##table_,                                                                                  \
		.key = #key_,                                                                                          \
		.type = TYPE_##type_,                                                                                  \
		.offset = AT(C_##type_, table_, field_),                                                               \
		.value = #value_,                                                                                      \
		.range = range_,                                                                                       \
		.flags = flags_,                                                                                       \
		.doc = doc_,                                                                                           \
	},
#include "config/options.def"
#undef TABLE
#undef OPTION
};

static const struct table tables[N_TABLES] = {
#define TABLE(table, scope_, path_, doc_) {.scope = SCOPE_##scope_, .path = path_, .doc = doc_},
#define OPTION(table, key, type, field, value, range, flags, doc)
#include "config/options.def"
#undef TABLE
#undef OPTION
};

static const struct {
	const char *name;
	enum option_table table;
	const char *any; /* the name of an instance that stands for all */
} scopes[N_SCOPES] = {
	[SCOPE_ONE] = {"", N_TABLES, ""},
	[SCOPE_LISTENER] = {"", IN_listener, ""},
	[SCOPE_LIMIT] = {"", IN_rate_limit, ""},
	[SCOPE_UPSTREAM] = {"upstream", IN_upstream, "main"},
	[SCOPE_NAMESPACE] = {"namespace", IN_namespace, "NAME"},
};

/* ---- lookups ---- */

const struct option *schema_option(enum option_id id)
{
	assert(id < N_OPTIONS);
	return &options[id];
}

const struct table *schema_table(enum option_table table)
{
	assert(table < N_TABLES);
	return &tables[table];
}

enum option_scope schema_scope(const struct option *o)
{
	return tables[o->table].scope;
}

const struct option *schema_find(enum option_table table, const char *key)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (options[i].table == table && strcmp(options[i].key, key) == 0)
			return &options[i];
	}
	return NULL;
}

enum option_table schema_subtable(enum option_table parent, const char *key)
{
	const char *prefix = parent < N_TABLES ? tables[parent].path : "";
	size_t n = strlen(prefix), skip = n ? n + 1 : 0;

	for (unsigned i = 0; i < N_TABLES && !strchr(key, '.'); i++) {
		const char *path = tables[i].path;

		if (strncmp(path, prefix, n) == 0 && (n == 0 || path[n] == '.') && strcmp(path + skip, key) == 0)
			return i;
	}
	return N_TABLES;
}

enum option_scope schema_scope_named(const char *name)
{
	for (unsigned i = SCOPE_UPSTREAM; i < N_SCOPES; i++) {
		if (strcmp(scopes[i].name, name) == 0)
			return i;
	}
	return SCOPE_ONE;
}

const char *schema_scope_name(enum option_scope scope)
{
	return scopes[scope].name;
}

enum option_table schema_scope_table(enum option_scope scope)
{
	return scopes[scope].table;
}

bool schema_scope_is_list(enum option_scope scope)
{
	return scope == SCOPE_LISTENER || scope == SCOPE_LIMIT;
}

/* ---- paths ---- */

bool schema_name_fits(const char *name, size_t len)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	return len > 0 && len <= INSTANCE_NAME_MAX && strspn(name, allowed) >= len;
}

/* Is the text the path of this table, its "*" being any name? */
static bool is_table_path(const struct table *table, const char *text, size_t len, const char **name, size_t *name_len)
{
	const char *star = strchr(table->path, '*'), *dot;
	size_t before = star ? (size_t)(star - table->path) : strlen(table->path);
	const char *behind = table->path + before + (star ? 1 : 0);

	*name_len = 0;
	if (len < before || memcmp(text, table->path, before) != 0)
		return false;
	*name = text + before;
	if (star) {
		dot = memchr(*name, '.', len - before);
		*name_len = dot ? (size_t)(dot - *name) : len - before;
		if (!schema_name_fits(*name, *name_len))
			return false;
	}
	return len - before - *name_len == strlen(behind) && memcmp(*name + *name_len, behind, strlen(behind)) == 0;
}

const struct option *schema_find_path(const char *path, size_t len, const char **name, size_t *name_len)
{
	const char *dot = memrchr(path, '.', len);
	size_t key_len = dot ? len - (size_t)(dot + 1 - path) : 0;

	for (size_t i = 0; i < N_OPTIONS && dot; i++) {
		if (strlen(options[i].key) == key_len && memcmp(options[i].key, dot + 1, key_len) == 0 &&
		    is_table_path(&tables[options[i].table], path, (size_t)(dot - path), name, name_len))
			return &options[i];
	}
	return NULL;
}

const char *schema_table_path(enum option_table table, const char *name, char buf[SCHEMA_PATH_MAX])
{
	const char *path = tables[table].path, *star = strchr(path, '*');

	if (!name || !*name)
		name = scopes[tables[table].scope].any;
	if (star)
		snprintf(buf, SCHEMA_PATH_MAX, "%.*s%s%s", (int)(star - path), path, name, star + 1);
	else
		snprintf(buf, SCHEMA_PATH_MAX, "%s", path);
	return buf;
}

const char *schema_option_path(const struct option *o, const char *name, char buf[SCHEMA_PATH_MAX])
{
	size_t n = strlen(schema_table_path(o->table, name, buf));

	snprintf(buf + n, SCHEMA_PATH_MAX - n, ".%s", o->key);
	return buf;
}

const char *schema_table_header(enum option_table table, const char *name, char buf[SCHEMA_PATH_MAX])
{
	char path[SCHEMA_PATH_MAX];
	bool list = schema_scope_is_list(tables[table].scope);

	schema_table_path(table, name, path);
	snprintf(buf, SCHEMA_PATH_MAX, list ? "[[%.*s]]" : "[%.*s]", SCHEMA_PATH_MAX - 5, path);
	return buf;
}

/* ---- fields ---- */

void *schema_field(struct config *config, struct slot s)
{
	void *base = NULL;

	switch (s.o->table) {
	case IN_server:
		base = &config->server;
		break;
	case IN_server_tls:
		base = &config->server.tls;
		break;
	case IN_listener:
		base = &config->server.listeners[s.i];
		break;
	case IN_upstream:
		base = &config->upstreams[s.i];
		break;
	case IN_upstream_tls:
		base = &config->upstreams[s.i].tls;
		break;
	case IN_breaker:
		base = &config->upstreams[s.i].circuit_breaker;
		break;
	case IN_namespace:
		base = &config->namespaces[s.i];
		break;
	case IN_near_cache:
		base = &config->near_cache;
		break;
	case IN_encryption:
		base = &config->encryption;
		break;
	case IN_rate_limit:
		base = &config->limits[s.i];
		break;
	case IN_token_blacklist:
		base = &config->token_blacklist;
		break;
	case IN_log:
		base = &config->log;
		break;
	case N_TABLES:
		break;
	}
	assert(base);
	return (char *)base + s.o->offset;
}

const void *schema_field_const(const struct config *config, struct slot s)
{
	return schema_field((struct config *)(uintptr_t)config, s);
}
