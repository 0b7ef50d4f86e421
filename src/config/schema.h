/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What options.def says, as a table for the program: which options there are, of what type, where their field is.
 * Private to this folder. Everything here is constant.
 */
#ifndef KEYWEIR_CONFIG_SCHEMA_H
#define KEYWEIR_CONFIG_SCHEMA_H

#include "config/config.h"

enum option_type {
	TYPE_ADDRESSES,	  /* struct string_list */
	TYPE_URL,	  /* char * */
	TYPE_STRING,	  /* char * */
	TYPE_ENUM,	  /* unsigned, as an enum is */
	TYPE_INT,	  /* int64_t, and so the rest */
	TYPE_SIZE,	  /* bytes */
	TYPE_DURATION_MS, /* whole milliseconds */
	TYPE_DURATION_US,
};

enum { OPTION_RESTART = 1, OPTION_SECRET = 2, OPTION_NEVER = 4 };

enum option_table {
#define TABLE(table, doc) IN_##table,
#define OPTION(table, key, type, field, value, range, flags, doc)
#include "config/options.def"
#undef TABLE
#undef OPTION
	N_TABLES
};

enum option_id {
#define TABLE(table, doc)
#define OPTION(table, key, type, field, value, range, flags, doc) OPTION_##table##_##key,
#include "config/options.def"
#undef TABLE
#undef OPTION
	N_OPTIONS
};

struct option {
	enum option_id id;
	enum option_table table;
	const char *key;
	const char *path; /* "server.listen", "upstream.main.url": what messages and --set call it */
	enum option_type type;
	size_t offset;	   /* in the struct of its table */
	const char *value; /* the default, as TOML */
	const char *range;
	unsigned flags;
	const char *doc;
};

const struct option *schema_option(enum option_id id);
const struct option *schema_find(enum option_table table, const char *key); /* NULL: there is none */
const struct option *schema_find_path(const char *path, size_t len);	    /* by "table.key" */
const char *schema_path(enum option_table table);			    /* "upstream.main" */

/* What was probably meant by an unknown key or path; NULL when nothing is near. */
const struct option *schema_suggest(enum option_table table, const char *key);
const struct option *schema_suggest_path(const char *path, size_t len);
const char *schema_suggest_table(const char *name);
const struct option *schema_elsewhere(const char *key); /* an option of that very name, in whatever table */

/* The field of an option; its C type is the one that option_type says. */
void *schema_field(struct config *config, const struct option *o);
const void *schema_field_const(const struct config *config, const struct option *o);

#endif
