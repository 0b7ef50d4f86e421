/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A configuration from all its sources: the defaults of options.def, the file, --set, -u, -l, -v, and $REDIS_URL
 * where nobody gave a URL. Each later one wins; each is read in full, so that every mistake is said in one run.
 * Control thread. What a value must be is in set.c, what options must be together in check.c.
 */
#include "config/load.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/text.h"

/* ---- --set ---- */

static void on_single(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	const struct toml_node **found = arg;

	(void)key;
	(void)len;
	(void)at;
	*found = node;
}

struct toml_doc *value_parse(const char *value, const struct toml_node **node)
{
	char *line = xasprintf("v = %s\n", value);
	struct toml_error error;
	struct toml_doc *doc = strchr(value, '\n') ? NULL : toml_parse(line, strlen(line), &error);

	text_wipe(&line);
	if (doc)
		toml_each(toml_root(doc), on_single, node);
	return doc;
}

/* What a bare word in --set stands for: everything that is not TOML, or is TOML of another kind than a string. */
static bool wants_text(const struct option *o, const struct toml_node *node)
{
	enum toml_type type;

	if (!node)
		return true;
	type = toml_type_of(node);
	if (o->type <= TYPE_STRINGS)
		return type != TOML_ARRAY && type != TOML_STRING;
	return o->type <= TYPE_RATE && type != TOML_STRING;
}

static void set_option(struct loader *l, struct slot s, const char *value, struct place at)
{
	const struct toml_node *node = NULL;
	struct toml_doc *doc = value_parse(value, &node);
	const char *text;
	size_t len;

	if (wants_text(s.o, node)) {
		set_string(l, s, value, strlen(value), at);
	} else if (toml_type_of(node) == TOML_STRING) {
		text = toml_string(node, &len);
		set_string(l, s, text, len, at);
	} else {
		set_node(l, s, node, at);
	}
	toml_free(&doc);
}

/* `len` bytes of the text are what should be the path. */
static void unknown_set(struct loader *l, const char *set, size_t len, struct place at)
{
	/* What is no name may be a secret in the wrong place. */
	size_t named = strspn(set, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	char name[INSTANCE_NAME_MAX + 1], buf[SCHEMA_PATH_MAX];
	int n = (int)(named < len ? named : len);
	const struct option *near = schema_suggest_path(set, (size_t)n, name);

	if (!set[len])
		problem_add(l->problems, at, "%.*s has no value: TABLE.KEY=VALUE", n, set);
	else if (near)
		problem_add(l->problems, at, "unknown option %.*s, did you mean %s?", n, set,
			    schema_option_path(near, name, buf));
	else
		problem_add(l->problems, at, "unknown option %.*s", n, set);
}

/* server.listener=[{address = "...", namespace = "..."}]: all of them, as with other lists. */
static void set_list_of_tables(struct loader *l, enum option_scope scope, const char *value, struct place at)
{
	const char *path = schema_table(schema_scope_table(scope))->path;
	const struct toml_node *node = NULL;
	struct toml_doc *doc = value ? value_parse(value, &node) : NULL;

	if (node && toml_type_of(node) == TOML_ARRAY)
		list_load(l, scope, node, at);
	else
		problem_add(l->problems, at, "%s is set as a list: %s=[{%s}]", path, path,
			    scope == SCOPE_LISTENER ? "address = \"...\", namespace = \"...\""
						    : "name = \"...\", rate = \"...\"");
	toml_free(&doc);
}

/* The list of tables of this name; SCOPE_ONE: there is none. */
static enum option_scope list_named(const char *text, size_t len)
{
	static const enum option_scope lists[] = {SCOPE_LISTENER, SCOPE_LIMIT};

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		const char *path = schema_table(schema_scope_table(lists[i]))->path;

		if (len == strlen(path) && memcmp(text, path, len) == 0)
			return lists[i];
	}
	return SCOPE_ONE;
}

static void load_set(struct loader *l, const char *set)
{
	struct place at = {.file = "--set"};
	const char *equals = strchr(set, '='), *name;
	size_t len = equals ? (size_t)(equals - set) : strlen(set), name_len;
	const struct option *o;
	struct slot s;

	while (len > 0 && set[len - 1] == ' ')
		len--;
	if (list_named(set, len) != SCOPE_ONE) {
		set_list_of_tables(l, list_named(set, len), equals ? equals + 1 : NULL, at);
		return;
	}
	o = schema_find_path(set, len, &name, &name_len);
	if (o && schema_scope_is_list(schema_scope(o))) {
		set_list_of_tables(l, schema_scope(o), NULL, at);
		return;
	}
	if (!o || !equals) {
		unknown_set(l, set, len, at);
		return;
	}
	s = (struct slot){o, instance_need(l, schema_scope(o), name, name_len)};
	set_option(l, s, equals + 1 + strspn(equals + 1, " "), at);
}

/* ---- all sources ---- */

static void load_all(struct loader *l, const struct config_source *source, const char *text, size_t len)
{
	struct slot url = slot_of(OPTION_upstream_url, 0);
	const char *redis_url = getenv("REDIS_URL");

	loader_init(l);
	if (text)
		file_load(l, source->file, text, len);
	for (size_t i = 0; i < source->n_set; i++)
		load_set(l, source->set[i]);
	if (source->url)
		set_text(l, url, source->url, (struct place){.file = "-u"});
	if (source->n_listen > 0)
		set_texts(l, slot_of(OPTION_server_listen, 0), source->listen, source->n_listen,
			  (struct place){.file = "-l"});
	if (source->log_level)
		set_text(l, slot_of(OPTION_log_level, 0), source->log_level, (struct place){.file = "-v"});
	/* A URL that somebody gave and that was wrong is not silently replaced either. */
	if (!setting_of(l, url)->at.file && !setting_of(l, url)->bad && redis_url && *redis_url)
		set_text(l, url, redis_url, (struct place){.file = "$REDIS_URL"});
	check_all(l);
}

struct config *config_load_buffer(const struct config_source *source, const char *text, size_t len,
				  struct problem_list *problems)
{
	struct loader l = {.problems = problems};

	load_all(&l, source, text, len);
	loader_fini(&l);
	problem_sort(problems);
	problem_sort(&l.config->warnings);
	if (problems->n > 0)
		config_free(&l.config);
	return l.config;
}

struct config *config_load(const struct config_source *source, struct problem_list *problems)
{
	struct config *config;
	char *text = NULL;
	ssize_t n = 0;

	if (source->file) {
		text = xcalloc(1, FILE_MAX_BYTES + 1);
		n = file_read(source->file, text);
		if (n < 0)
			problem_add(problems, (struct place){.file = source->file}, "%s", strerror((int)-n));
	}
	config = config_load_buffer(source, n < 0 ? NULL : text, n < 0 ? 0 : (size_t)n, problems);
	if (text)
		sodium_memzero(text, FILE_MAX_BYTES + 1);
	free(text);
	return config;
}
