/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of options, and looking things up in it: see schema.h. */
#include "config/schema.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define C_ADDRESSES   struct string_list
#define C_URL	      char *
#define C_STRING      char *
#define C_ENUM	      unsigned
#define C_INT	      int64_t
#define C_SIZE	      int64_t
#define C_DURATION_MS int64_t
#define C_DURATION_US int64_t

/* offsetof() that does not compile when the field is not of the type. */
#define AT(type, table, field)                                                                                         \
	(offsetof(struct table##_config, field) + 0 * sizeof((type *)0 == &((struct table##_config *)0)->field))

#define PATH_server   "server"
#define PATH_upstream "upstream.main"
#define PATH_log      "log"

#define NAME_MAX_BYTES 48 /* a longer name is not a slip of the pen */

static const struct option options[N_OPTIONS] = {
#define TABLE(table, doc)
#define OPTION(table_, key_, type_, field_, value_, range_, flags_, doc_)                                              \
	{                                                                                                              \
		.id = OPTION_##table_##_##key_,                                                                        \
		.table = IN_##table_,                                                                                  \
		.key = #key_,                                                                                          \
		.path = PATH_##table_ "." #key_,                                                                       \
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

static const char *const paths[N_TABLES] = {
#define TABLE(table, doc) PATH_##table,
#define OPTION(table, key, type, field, value, range, flags, doc)
#include "config/options.def"
#undef TABLE
#undef OPTION
};

const struct option *schema_option(enum option_id id)
{
	assert(id < N_OPTIONS);
	return &options[id];
}

const char *schema_path(enum option_table table)
{
	assert(table < N_TABLES);
	return paths[table];
}

const struct option *schema_find(enum option_table table, const char *key)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (options[i].table == table && strcmp(options[i].key, key) == 0)
			return &options[i];
	}
	return NULL;
}

const struct option *schema_find_path(const char *path, size_t len)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (strlen(options[i].path) == len && memcmp(options[i].path, path, len) == 0)
			return &options[i];
	}
	return NULL;
}

const struct option *schema_elsewhere(const char *key)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (strcmp(options[i].key, key) == 0)
			return &options[i];
	}
	return NULL;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Edits (insert, delete, change, swap of neighbours) that make b out of a; "-" and "_" are the same. */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned rows[3][NAME_MAX_BYTES + 1];

	if (na > NAME_MAX_BYTES || nb > NAME_MAX_BYTES)
		return NAME_MAX_BYTES;
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3], *second = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			char x = a[i - 1] == '-' ? '_' : a[i - 1];

			row[j] = least(above[j - 1] + (x != b[j - 1]), 1 + least(above[j], row[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], second[j - 2] + 1);
		}
	}
	return rows[na % 3][nb];
}

/* How many edits are still a slip: one in a short name, at most three. */
static unsigned slips(size_t len)
{
	return len <= 4 ? 1 : len <= 8 ? 2 : 3;
}

const struct option *schema_suggest(enum option_table table, const char *key)
{
	const struct option *best = NULL;
	unsigned nearest = slips(strlen(key)) + 1;

	for (size_t i = 0; i < N_OPTIONS; i++) {
		unsigned d;

		if (options[i].table != table)
			continue;
		d = distance(key, strlen(key), options[i].key, strlen(options[i].key));
		if (d < nearest) {
			nearest = d;
			best = &options[i];
		}
	}
	return best;
}

const struct option *schema_suggest_path(const char *path, size_t len)
{
	const struct option *best = NULL;
	unsigned nearest = slips(len) + 1;

	for (size_t i = 0; i < N_OPTIONS; i++) {
		unsigned d = distance(path, len, options[i].path, strlen(options[i].path));

		if (d < nearest) {
			nearest = d;
			best = &options[i];
		}
	}
	return best;
}

const char *schema_suggest_table(const char *name)
{
	const char *best = NULL;
	unsigned nearest = slips(strlen(name)) + 1;

	for (size_t i = 0; i < N_TABLES; i++) {
		unsigned d = distance(name, strlen(name), paths[i], strcspn(paths[i], "."));

		if (d < nearest) {
			nearest = d;
			best = paths[i];
		}
	}
	return best;
}

void *schema_field(struct config *config, const struct option *o)
{
	void *base = NULL;

	switch (o->table) {
	case IN_server:
		base = &config->server;
		break;
	case IN_upstream:
		base = &config->upstreams[0];
		break;
	case IN_log:
		base = &config->log;
		break;
	case N_TABLES:
		break;
	}
	assert(base);
	return (char *)base + o->offset;
}

const void *schema_field_const(const struct config *config, const struct option *o)
{
	return schema_field((struct config *)(uintptr_t)config, o);
}
