/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A configuration from all its sources: the defaults of options.def, the file, --set, -u, -l, -v, and $REDIS_URL
 * where nobody gave a URL. Each later one wins; each is read in full, so that every mistake is said in one run.
 * Control thread. What a value must be is in set.c, what options must be together in check.c.
 */
#include "config/load.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "config/text.h"

#define FILE_MAX_BYTES (1 << 20) /* far more than a configuration needs; what is larger is something else */

/* ---- the file ---- */

/* A walk through one table of the file. */
struct walk {
	struct loader *l;
	const char *file;
	enum option_table table;
};

static struct place place_of(const struct walk *walk, struct toml_position at)
{
	return (struct place){walk->file, at.line, at.col};
}

static void unknown_key(struct walk *walk, const char *key, bool is_table, struct place at)
{
	const struct option *near = schema_suggest(walk->table, key), *elsewhere = schema_elsewhere(key);
	struct problem_list *problems = walk->l->problems;
	const char *table = schema_path(walk->table);

	if (is_table)
		problem_add(problems, at, "unknown table [%s.%s]", table, key);
	else if (elsewhere)
		problem_add(problems, at, "unknown key %s in [%s], it belongs in [%s]", key, table,
			    schema_path(elsewhere->table));
	else if (near)
		problem_add(problems, at, "unknown key %s in [%s], did you mean %s?", key, table, near->key);
	else
		problem_add(problems, at, "unknown key %s in [%s]", key, table);
}

static void on_key(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct walk *walk = arg;
	const struct option *o = strlen(key) == len ? schema_find(walk->table, key) : NULL;

	if (o)
		set_node(walk->l, o, node, place_of(walk, toml_position_of(node)));
	else
		unknown_key(walk, key, toml_type_of(node) == TOML_TABLE, place_of(walk, at));
}

static void walk_table(const struct walk *up, enum option_table table, const struct toml_node *node, struct place at)
{
	struct walk walk = {up->l, up->file, table};

	if (toml_type_of(node) == TOML_TABLE)
		toml_each(node, on_key, &walk);
	else
		problem_add(up->l->problems, at, "%s must be a table: [%s]", schema_path(table), schema_path(table));
}

static void on_upstream(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct walk *walk = arg;
	struct problem_list *problems = walk->l->problems;

	if (len == 4 && strcmp(key, "main") == 0)
		walk_table(walk, IN_upstream, node, place_of(walk, at));
	else if (toml_type_of(node) == TOML_TABLE)
		problem_add(problems, place_of(walk, at),
			    "unknown table [upstream.%s]: only [upstream.main] is built so far", key);
	else
		problem_add(problems, place_of(walk, at),
			    "unknown key %s in [upstream]; options of an upstream stand in [upstream.main]", key);
}

static void unknown_at_top(struct walk *walk, const char *name, bool is_table, struct place at)
{
	const struct option *elsewhere = is_table ? NULL : schema_elsewhere(name);
	const char *near = is_table ? schema_suggest_table(name) : NULL;
	struct problem_list *problems = walk->l->problems;

	if (near)
		problem_add(problems, at, "unknown table [%s], did you mean [%s]?", name, near);
	else if (elsewhere)
		problem_add(problems, at, "unknown key %s outside of any table, it belongs in [%s]", name,
			    schema_path(elsewhere->table));
	else if (is_table)
		problem_add(problems, at, "unknown table [%s]", name);
	else
		problem_add(problems, at, "unknown key %s outside of any table", name);
}

static bool is_table_like(const struct toml_node *node)
{
	enum toml_type type = toml_type_of(node);

	return type == TOML_TABLE ||
	       (type == TOML_ARRAY && toml_size(node) > 0 && toml_type_of(toml_at(node, 0)) == TOML_TABLE);
}

static void on_top(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct walk *walk = arg;
	struct place place = place_of(walk, at);

	if (strlen(key) != len)
		unknown_at_top(walk, key, is_table_like(node), place);
	else if (strcmp(key, "server") == 0)
		walk_table(walk, IN_server, node, place);
	else if (strcmp(key, "log") == 0)
		walk_table(walk, IN_log, node, place);
	else if (strcmp(key, "upstream") != 0)
		unknown_at_top(walk, key, is_table_like(node), place);
	else if (toml_type_of(node) == TOML_TABLE)
		toml_each(node, on_upstream, walk);
	else
		problem_add(walk->l->problems, place, "upstream must be a table: [upstream.main]");
}

static void load_file(struct loader *l, const char *file, const char *text, size_t len)
{
	struct walk walk = {l, file, N_TABLES};
	struct toml_error error;
	struct toml_doc *doc = toml_parse(text, len, &error);

	if (!doc) {
		problem_add(l->problems, (struct place){file, error.at.line, error.at.col}, "%s", error.text);
		return;
	}
	toml_each(toml_root(doc), on_top, &walk);
	toml_free(&doc);
}

/* ---- single values: defaults, --set ---- */

static void on_single(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	const struct toml_node **found = arg;

	(void)key;
	(void)len;
	(void)at;
	*found = node;
}

/* Reads "value" as the right-hand side of a TOML line. NULL: it is none, or it is more than one. */
static struct toml_doc *parse_single(const char *value, const struct toml_node **node)
{
	char *line = xasprintf("v = %s\n", value);
	struct toml_error error;
	struct toml_doc *doc = strchr(value, '\n') ? NULL : toml_parse(line, strlen(line), &error);

	text_wipe(&line);
	if (doc)
		toml_each(toml_root(doc), on_single, node);
	return doc;
}

static void load_defaults(struct loader *l)
{
	for (unsigned id = 0; id < N_OPTIONS; id++) {
		const struct option *o = schema_option(id);
		const struct toml_node *node = NULL;
		struct toml_doc *doc = parse_single(o->value, &node);

		assert(doc && node); /* options.def is wrong */
		set_node(l, o, node, (struct place){0});
		assert(!l->settings[id].bad);
		toml_free(&doc);
	}
}

/* What a bare word in --set stands for: everything that is not TOML, or is TOML of another kind than a string. */
static bool wants_text(const struct option *o, const struct toml_node *node)
{
	enum toml_type type;

	if (!node)
		return true;
	type = toml_type_of(node);
	if (o->type == TYPE_ADDRESSES)
		return type != TOML_ARRAY && type != TOML_STRING;
	return o->type <= TYPE_ENUM && type != TOML_STRING;
}

static void set_option(struct loader *l, const struct option *o, const char *value, struct place at)
{
	const struct toml_node *node = NULL;
	struct toml_doc *doc = parse_single(value, &node);
	const char *text;
	size_t len;

	if (wants_text(o, node)) {
		set_string(l, o, value, strlen(value), at);
	} else if (toml_type_of(node) == TOML_STRING) {
		text = toml_string(node, &len);
		set_string(l, o, text, len, at);
	} else {
		set_node(l, o, node, at);
	}
	toml_free(&doc);
}

static void load_set(struct loader *l, const char *set)
{
	struct place at = {"--set", 0, 0};
	const char *equals = strchr(set, '=');
	size_t len = equals ? (size_t)(equals - set) : strlen(set);
	const struct option *o, *near;

	while (len > 0 && set[len - 1] == ' ')
		len--;
	o = schema_find_path(set, len);
	if (o && equals) {
		set_option(l, o, equals + 1 + strspn(equals + 1, " "), at);
		return;
	}
	if (!o) /* what is no name may be a secret in the wrong place */
		len = strspn(set, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	near = schema_suggest_path(set, len);
	if (!equals)
		problem_add(l->problems, at, "%.*s has no value: TABLE.KEY=VALUE", (int)len, set);
	else if (near)
		problem_add(l->problems, at, "unknown option %.*s, did you mean %s?", (int)len, set, near->path);
	else if (strncmp(set, "upstream.", 9) == 0 && strncmp(set, "upstream.main.", 14) != 0)
		problem_add(l->problems, at, "unknown option %.*s: only upstream.main is built so far", (int)len, set);
	else
		problem_add(l->problems, at, "unknown option %.*s", (int)len, set);
}

/* ---- all sources ---- */

static void load_all(struct loader *l, const struct config_source *source, const char *text, size_t len)
{
	const struct option *url = schema_option(OPTION_upstream_url);
	const char *redis_url = getenv("REDIS_URL");

	load_defaults(l);
	if (text)
		load_file(l, source->file, text, len);
	for (size_t i = 0; i < source->n_set; i++)
		load_set(l, source->set[i]);
	if (source->url)
		set_text(l, url, source->url, (struct place){"-u", 0, 0});
	if (source->n_listen > 0)
		set_texts(l, schema_option(OPTION_server_listen), source->listen, source->n_listen,
			  (struct place){"-l", 0, 0});
	if (source->log_level)
		set_text(l, schema_option(OPTION_log_level), source->log_level, (struct place){"-v", 0, 0});
	/* A URL that somebody gave and that was wrong is not silently replaced either. */
	if (!l->settings[url->id].at.file && !l->settings[url->id].bad && redis_url && *redis_url)
		set_text(l, url, redis_url, (struct place){"$REDIS_URL", 0, 0});
	check_all(l);
}

static struct config *config_new(void)
{
	struct config *config = xcalloc(1, sizeof(*config));

	config->upstreams = xcalloc(1, sizeof(*config->upstreams));
	config->n_upstreams = 1;
	config->upstreams[0].name = xmemdup0("main", 4);
	return config;
}

struct config *config_load_buffer(const struct config_source *source, const char *text, size_t len,
				  struct problem_list *problems)
{
	struct loader l = {.config = config_new(), .problems = problems};

	load_all(&l, source, text, len);
	for (size_t i = 0; i < N_OPTIONS; i++)
		free(l.settings[i].items);
	problem_sort(problems);
	if (problems->n > 0)
		config_free(&l.config);
	return l.config;
}

/* Returns the bytes read into text (FILE_MAX_BYTES at most), or -errno. */
static ssize_t read_file(const char *name, char *text)
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

struct config *config_load(const struct config_source *source, struct problem_list *problems)
{
	struct config *config;
	char *text = NULL;
	ssize_t n = 0;

	if (source->file) {
		text = xcalloc(1, FILE_MAX_BYTES + 1);
		n = read_file(source->file, text);
		if (n < 0)
			problem_add(problems, (struct place){source->file, 0, 0}, "%s", strerror((int)-n));
	}
	config = config_load_buffer(source, n < 0 ? NULL : text, n < 0 ? 0 : (size_t)n, problems);
	if (text)
		sodium_memzero(text, FILE_MAX_BYTES + 1);
	free(text);
	return config;
}

static void free_upstream(struct upstream_config *u)
{
	free(u->name);
	text_wipe(&u->url);
	free(u->url_masked);
	free(u->password_file);
	upstream_url_fini(&u->target);
}

void config_free(struct config **configp)
{
	struct config *config = *configp;

	*configp = NULL;
	if (!config)
		return;
	for (size_t i = 0; i < config->server.listen.n; i++)
		free(config->server.listen.items[i]);
	free(config->server.listen.items);
	for (size_t i = 0; i < config->n_upstreams; i++)
		free_upstream(&config->upstreams[i]);
	free(config->upstreams);
	free(config->log.file);
	free(config);
}
