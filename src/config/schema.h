/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What options.def says, as a table for the program: which options there are, of what type, where their field is.
 * Private to this folder. Everything here is constant.
 */
#ifndef KEYWEIR_CONFIG_SCHEMA_H
#define KEYWEIR_CONFIG_SCHEMA_H

#include "config/config.h"

enum option_type {
	TYPE_ADDRESSES,	  /* struct string_list, and so the lists */
	TYPE_NODES,	  /* other machines */
	TYPE_STRINGS,	  /* none is empty; a single string is a list of one */
	TYPE_URL,	  /* char *, and so the strings */
	TYPE_FILE,	  /* "", or it can be read */
	TYPE_STRING,	  /* anything */
	TYPE_ADDRESS,	  /* one to listen on */
	TYPE_ENUM,	  /* unsigned, as an enum is */
	TYPE_RATE,	  /* struct rate */
	TYPE_BOOL,	  /* bool */
	TYPE_FRACTION,	  /* double */
	TYPE_INT,	  /* int64_t, and so the rest */
	TYPE_SIZE,	  /* bytes */
	TYPE_DURATION_MS, /* whole milliseconds */
	TYPE_DURATION_US,
};

enum { OPTION_RESTART = 1, OPTION_SECRET = 2, OPTION_NEVER = 4, OPTION_NEEDED = 8, OPTION_NAMED = 16 };

/*
 * How often a table is there: once, or once for each instance. Instances have numbers (in struct config), and names but
 * for listeners and rate limits, which are lists: [[PATH]].
 */
enum option_scope { SCOPE_ONE, SCOPE_LISTENER, SCOPE_LIMIT, SCOPE_UPSTREAM, SCOPE_NAMESPACE, N_SCOPES };

enum option_table {
#define TABLE(table, scope, path, doc) IN_##table,
#define OPTION(table, key, type, field, value, range, flags, doc)
#include "config/options.def"
#undef TABLE
#undef OPTION
	N_TABLES
};

enum option_id {
#define TABLE(table, scope, path, doc)
#define OPTION(table, key, type, field, value, range, flags, doc) OPTION_##table##_##key,
#include "config/options.def"
#undef TABLE
#undef OPTION
	N_OPTIONS
};

struct table {
	enum option_scope scope;
	const char *path; /* "server", "upstream.*.tls" */
	const char *doc;
};

struct option {
	enum option_id id;
	enum option_table table;
	const char *key;
	enum option_type type;
	size_t offset;	   /* in the struct of its table */
	const char *value; /* the default, as TOML */
	const char *range;
	unsigned flags;
	const char *doc;
};

/* One option of one instance: what has a value. */
struct slot {
	const struct option *o;
	size_t i; /* of the instance; 0 in SCOPE_ONE */
};

const struct option *schema_option(enum option_id id);
const struct table *schema_table(enum option_table table);
enum option_scope schema_scope(const struct option *o);
const struct option *schema_find(enum option_table table, const char *key); /* NULL: there is none */

/* The table [PARENT.KEY], or [KEY] when the parent is N_TABLES; N_TABLES: there is none. */
enum option_table schema_subtable(enum option_table parent, const char *key);

/* "upstream" and "namespace": tables that hold instances. SCOPE_ONE: it is none of them. */
enum option_scope schema_scope_named(const char *name);
const char *schema_scope_name(enum option_scope scope);
enum option_table schema_scope_table(enum option_scope scope); /* the table of an instance itself */
bool schema_scope_is_list(enum option_scope scope);

/* "upstream.cache.pool_size" to its option. The name of the instance (length 0: there is none) lies inside the path. */
const struct option *schema_find_path(const char *path, size_t len, const char **name, size_t *name_len);

/* What an instance may be called: letters, digits, _ and -. */
#define INSTANCE_NAME_MAX 64
bool schema_name_fits(const char *name, size_t len);

/*
 * Paths as messages and --set have them: "upstream.main.tls", and with the key behind. `name` is that of the instance;
 * NULL: one that stands for all.
 */
#define SCHEMA_PATH_MAX 160
const char *schema_table_path(enum option_table table, const char *name, char buf[SCHEMA_PATH_MAX]);
const char *schema_option_path(const struct option *o, const char *name, char buf[SCHEMA_PATH_MAX]);

/* As it stands above the table: "[server]", "[[server.listener]]". */
const char *schema_table_header(enum option_table table, const char *name, char buf[SCHEMA_PATH_MAX]);

/* What was probably meant by an unknown key, path or table; NULL (N_TABLES) when nothing is near. See suggest.c. */
const struct option *schema_suggest(enum option_table table, const char *key);
const struct option *schema_suggest_path(const char *path, size_t len, char name[INSTANCE_NAME_MAX + 1]);
enum option_table schema_suggest_table(const char *name);
enum option_table schema_suggest_subtable(enum option_table parent, const char *key);

/* An option of that very name in another table, best one of the same scope. */
const struct option *schema_elsewhere(enum option_table table, const char *key);

/* The field of an option; its C type is the one that option_type says. */
void *schema_field(struct config *config, struct slot s);
const void *schema_field_const(const struct config *config, struct slot s);

#endif
