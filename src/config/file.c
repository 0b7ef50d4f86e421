/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration file: its tables against those of options.def. What is wrong with a name is said here, what is
 * wrong with a value in set.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "config/load.h"

/* A walk through one table of the file. */
struct walk {
	struct loader *l;
	const char *file;
	bool no_lines;		 /* it is no file */
	enum option_scope scope; /* of [upstream] and [namespace], where each key is an instance */
	enum option_table table; /* N_TABLES: the top, or one of those two */
	size_t i;		 /* the instance that the table belongs to */
};

struct place place_in(const char *file, struct toml_position at)
{
	return (struct place){.file = file, .line = at.line, .col = at.col};
}

static struct place here(const struct walk *walk, struct toml_position at)
{
	struct place place = {.file = walk->file};

	return walk->no_lines ? place : place_in(walk->file, at);
}

static bool is_table_like(const struct toml_node *node)
{
	enum toml_type type = toml_type_of(node);

	return type == TOML_TABLE ||
	       (type == TOML_ARRAY && toml_size(node) > 0 && toml_type_of(toml_at(node, 0)) == TOML_TABLE);
}

static const char *walk_name(const struct walk *walk)
{
	return instance_name(walk->l->config, walk->scope, walk->i);
}

/* ---- one table ---- */

static void unknown_key(struct walk *walk, const char *key, struct place at)
{
	const struct option *near = schema_suggest(walk->table, key), *other = schema_elsewhere(walk->table, key);
	struct problem_list *problems = walk->l->problems;
	char table[SCHEMA_PATH_MAX], there[SCHEMA_PATH_MAX];

	schema_table_header(walk->table, walk_name(walk), table);
	if (other)
		problem_add(problems, at, "unknown key %s in %s, it belongs in %s", key, table,
			    schema_table_header(other->table,
						schema_scope(other) == walk->scope ? walk_name(walk) : NULL, there));
	else if (near)
		problem_add(problems, at, "unknown key %s in %s, did you mean %s?", key, table, near->key);
	else
		problem_add(problems, at, "unknown key %s in %s", key, table);
}

static void unknown_subtable(struct walk *walk, const char *key, struct place at)
{
	enum option_table near = schema_suggest_subtable(walk->table, key);
	char path[SCHEMA_PATH_MAX], there[SCHEMA_PATH_MAX];

	schema_table_path(walk->table, walk_name(walk), path);
	if (near < N_TABLES)
		problem_add(walk->l->problems, at, "unknown table [%s.%s], did you mean %s?", path, key,
			    schema_table_header(near, walk_name(walk), there));
	else
		problem_add(walk->l->problems, at, "unknown table [%s.%s]", path, key);
}

/* [upstream.main] and [cache] are two ways to write the same. */
static void set_in_file(struct walk *walk, struct slot s, const struct toml_node *node, struct place at)
{
	const char *called = setting_of(walk->l, s)->at.called;

	if (called)
		complain(walk->l, s, at, "is written a second time: it is %s as well", called);
	else
		set_node(walk->l, s, node, at);
}

static void walk_table(const struct walk *up, enum option_table table, size_t i, const struct toml_node *node,
		       struct place at);

static void on_key(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct walk *walk = arg;
	const struct option *o = strlen(key) == len ? schema_find(walk->table, key) : NULL;
	enum option_table below = strlen(key) == len ? schema_subtable(walk->table, key) : N_TABLES;

	if (o)
		set_in_file(walk, (struct slot){o, walk->i}, node, here(walk, toml_position_of(node)));
	else if (below < N_TABLES && schema_scope_is_list(schema_table(below)->scope))
		list_load(walk->l, schema_table(below)->scope, node, here(walk, at));
	else if (below < N_TABLES)
		walk_table(walk, below, walk->i, node, here(walk, at));
	else if (is_table_like(node))
		unknown_subtable(walk, key, here(walk, at));
	else
		unknown_key(walk, key, here(walk, at));
}

static void walk_table(const struct walk *up, enum option_table table, size_t i, const struct toml_node *node,
		       struct place at)
{
	struct walk walk = {up->l, up->file, up->no_lines, schema_table(table)->scope, table, i};
	char path[SCHEMA_PATH_MAX];

	if (toml_type_of(node) == TOML_TABLE) {
		toml_each(node, on_key, &walk);
		return;
	}
	schema_table_path(table, walk_name(&walk), path);
	problem_add(up->l->problems, at, "%s must be a table: [%s]", path, path);
}

/* ---- [[server.listener]], [[rate_limit]] ---- */

void list_load(struct loader *l, enum option_scope scope, const struct toml_node *list, struct place at)
{
	enum option_table table = schema_scope_table(scope);
	struct walk walk = {l, at.file, at.line == 0, scope, table, 0};
	const char *path = schema_table(table)->path;

	instance_drop_all(l, scope);
	if (toml_type_of(list) != TOML_ARRAY) {
		problem_add(l->problems, at, "%s must be a list of tables: [[%s]]", path, path);
		return;
	}
	for (size_t i = 0; i < toml_size(list); i++) {
		const struct toml_node *node = toml_at(list, i);
		struct place place = here(&walk, toml_position_of(node));

		if (toml_type_of(node) == TOML_TABLE)
			walk_table(&walk, table, instance_append(l, scope, place), node, place);
		else
			problem_add(l->problems, place, "%s must have tables in its list, not %s", path,
				    node_kind(node));
	}
}

/* ---- [upstream] and [namespace] ---- */

static void on_instance(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct walk *walk = arg;
	const char *scope = schema_scope_name(walk->scope);
	enum option_table table = schema_scope_table(walk->scope);
	struct place place = here(walk, at);
	char path[SCHEMA_PATH_MAX];

	if (toml_type_of(node) != TOML_TABLE && strlen(key) == len && schema_find(table, key))
		problem_add(walk->l->problems, place, "unknown key %s in [%s]; options of %s %s stand in [%s]", key,
			    scope, walk->scope == SCOPE_UPSTREAM ? "an" : "a", scope,
			    schema_table_path(table, NULL, path));
	else if (!schema_name_fits(key, len))
		problem_add(walk->l->problems, place,
			    "unknown table [%s.%s]: its name must have 1 to %d letters, digits, _ and -", scope, key,
			    INSTANCE_NAME_MAX);
	else if (toml_type_of(node) != TOML_TABLE)
		problem_add(walk->l->problems, place, "%s.%s must be a table: [%s.%s]", scope, key, scope, key);
	else
		walk_table(walk, table, instance_need(walk->l, walk->scope, key, len), node, place);
}

static void walk_instances(const struct walk *up, enum option_scope scope, const struct toml_node *node,
			   struct place at)
{
	struct walk walk = {up->l, up->file, up->no_lines, scope, N_TABLES, 0};
	char path[SCHEMA_PATH_MAX];

	if (toml_type_of(node) == TOML_TABLE)
		toml_each(node, on_instance, &walk);
	else
		problem_add(up->l->problems, at, "%s must be a table: [%s]", schema_scope_name(scope),
			    schema_table_path(schema_scope_table(scope), NULL, path));
}

/* ---- the top ---- */

static void unknown_at_top(struct walk *walk, const char *name, bool is_table, struct place at)
{
	const struct option *elsewhere = is_table ? NULL : schema_elsewhere(N_TABLES, name);
	enum option_table near = is_table ? schema_suggest_table(name) : N_TABLES;
	struct problem_list *problems = walk->l->problems;
	char path[SCHEMA_PATH_MAX];

	if (near < N_TABLES)
		problem_add(problems, at, "unknown table [%s], did you mean %s?", name,
			    schema_table_header(near, NULL, path));
	else if (elsewhere)
		problem_add(problems, at, "unknown key %s outside of any table, it belongs in %s", name,
			    schema_table_header(elsewhere->table, NULL, path));
	else if (is_table)
		problem_add(problems, at, "unknown table [%s]", name);
	else
		problem_add(problems, at, "unknown key %s outside of any table", name);
}

/* In the order of the names: [cache] comes before [upstream]. */
static void on_top(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct walk *walk = arg;
	struct place place = here(walk, at);
	bool whole = strlen(key) == len;
	enum option_table table = whole ? schema_subtable(N_TABLES, key) : N_TABLES;
	enum option_scope scope = whole ? schema_scope_named(key) : SCOPE_ONE;

	if (table < N_TABLES && schema_scope_is_list(schema_table(table)->scope))
		list_load(walk->l, schema_table(table)->scope, node, place);
	else if (table < N_TABLES)
		walk_table(walk, table, 0, node, place);
	else if (scope != SCOPE_ONE)
		walk_instances(walk, scope, node, place);
	else if (whole && strcmp(key, "cache") == 0 && toml_type_of(node) == TOML_TABLE)
		cache_load(walk->l, walk->file, node);
	else
		unknown_at_top(walk, key, is_table_like(node), place);
}

void file_load(struct loader *l, const char *file, const char *text, size_t len)
{
	struct walk walk = {l, file, false, SCOPE_ONE, N_TABLES, 0};
	struct toml_error error;
	struct toml_doc *doc = toml_parse(text, len, &error);

	if (!doc) {
		problem_add(l->problems, place_in(file, error.at), "%s", error.text);
		return;
	}
	toml_each(toml_root(doc), on_top, &walk);
	toml_free(&doc);
}

ssize_t file_read(const char *name, char *text)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t total = 0, n = 0;

	if (fd < 0)
		return -errno;
	while (total <= FILE_MAX_BYTES) {
		n = read(fd, text + total, (size_t)(FILE_MAX_BYTES + 1 - total));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		total += n;
	}
	if (n < 0)
		total = -errno;
	else if (total > FILE_MAX_BYTES)
		total = -EFBIG;
	close(fd);
	return total;
}
