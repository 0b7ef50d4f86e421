/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table [cache] of R Commerce (docs-website/docs/deployment/redis.md there): another way to write [upstream.main].
 * It is taken as it stands, from our file or, with `from`, out of theirs, so keys of theirs that mean nothing here are
 * warnings. Its sentinel_*, cluster_* and TLS keys are documented there and do nothing; here they do.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "config/load.h"
#include "config/text.h"

enum cache_key {
	KEY_FROM,
	KEY_TYPE,
	KEY_USE_TLS,
	KEY_SENTINEL,
	KEY_CLUSTER,
	KEY_SENTINEL_NODES,
	KEY_CLUSTER_NODES,
	KEY_URL,
	KEY_POOL_SIZE,
	KEY_SERVICE,
	KEY_VERIFY,
	N_KEYS
};

static const char *const names[N_KEYS] = {
	[KEY_FROM] = "cache.from",
	[KEY_TYPE] = "cache.cache_type",
	[KEY_USE_TLS] = "cache.use_tls",
	[KEY_SENTINEL] = "cache.sentinel_enabled",
	[KEY_CLUSTER] = "cache.cluster_enabled",
	[KEY_SENTINEL_NODES] = "cache.sentinel_nodes",
	[KEY_CLUSTER_NODES] = "cache.cluster_nodes",
	[KEY_URL] = "cache.redis_url",
	[KEY_POOL_SIZE] = "cache.redis_pool_size",
	[KEY_SERVICE] = "cache.sentinel_service",
	[KEY_VERIFY] = "cache.verify_certificate",
};

struct found {
	const struct toml_node *node; /* NULL: not there */
	struct place at;
	struct place name_at;
};

struct cache {
	struct loader *l;
	const char *file;
	bool foreign; /* out of the file of R Commerce */
	bool theirs;  /* in any case a table of theirs */
	struct found found[N_KEYS];
};

/* ---- what is there ---- */

static void on_known(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct cache *c = arg;

	for (unsigned i = 0; i < N_KEYS && strlen(key) == len; i++) {
		if (strcmp(names[i] + strlen("cache."), key) == 0 && !(c->foreign && i == KEY_FROM)) {
			c->found[i] =
				(struct found){node, place_in(c->file, toml_position_of(node)), place_in(c->file, at)};
			c->found[i].at.called = names[i];
		}
	}
}

static void on_other(const char *key, size_t len, struct toml_position at, const struct toml_node *node, void *arg)
{
	struct cache *c = arg;
	struct loader *l = c->l;
	bool known = false;

	(void)node;
	for (unsigned i = 0; i < N_KEYS && strlen(key) == len; i++)
		known |= c->found[i].node && strcmp(names[i] + strlen("cache."), key) == 0;
	if (c->found[KEY_FROM].node && strcmp(key, "from") != 0)
		problem_add(l->problems, place_in(c->file, at),
			    "cache.%s stands beside cache.from: all of [cache] is in that file then", key);
	else if (!known && c->theirs)
		problem_add(&l->config->warnings, place_in(c->file, at), "cache.%s has no meaning here", key);
	else if (!known)
		problem_add(l->problems, place_in(c->file, at), "unknown key %s in [cache]", key);
}

/* ---- what it means ---- */

static bool is_true(struct cache *c, enum cache_key key)
{
	const struct found *f = &c->found[key];

	if (!f->node)
		return false;
	if (toml_type_of(f->node) == TOML_BOOLEAN)
		return toml_boolean(f->node);
	problem_add(c->l->problems, f->at, "%s must be true or false, not %s", names[key], node_kind(f->node));
	return false;
}

static void take(struct cache *c, enum cache_key key, enum option_id id)
{
	if (c->found[key].node)
		set_node(c->l, slot_of(id, 0), c->found[key].node, c->found[key].at);
}

static void take_type(struct cache *c)
{
	const struct found *f = &c->found[KEY_TYPE];
	const char *type = NULL;
	size_t len;

	if (!f->node)
		return;
	if (toml_type_of(f->node) == TOML_STRING)
		type = toml_string(f->node, &len);
	if (type && strcasecmp(type, "Memory") == 0)
		problem_add(
			&c->l->config->warnings, f->at,
			"cache.cache_type is Memory, which has no meaning here: Keyweir stands in front of a Redis");
	else if (!type || strcasecmp(type, "Redis") != 0)
		problem_add(c->l->problems, f->at, "cache.cache_type must be \"Redis\"");
}

/* Nodes of what is not switched on are no mistake there; here somebody may wonder. */
static void take_nodes(struct cache *c, enum cache_key key, bool on, enum cache_key enabled)
{
	if (on)
		take(c, key, OPTION_upstream_nodes);
	else if (c->found[key].node)
		problem_add(&c->l->config->warnings, c->found[key].name_at, "%s has no meaning without %s = true",
			    names[key], names[enabled]);
}

static void take_mode(struct cache *c)
{
	bool sentinel = is_true(c, KEY_SENTINEL), cluster = is_true(c, KEY_CLUSTER);
	struct slot mode = slot_of(OPTION_upstream_mode, 0);

	if (sentinel && cluster) {
		problem_add(c->l->problems, c->found[KEY_CLUSTER].at, "%s and %s are both true: it is one or the other",
			    names[KEY_CLUSTER], names[KEY_SENTINEL]);
		return;
	}
	if (sentinel)
		set_text(c->l, mode, "sentinel", c->found[KEY_SENTINEL].at);
	if (cluster)
		set_text(c->l, mode, "cluster", c->found[KEY_CLUSTER].at);
	take_nodes(c, KEY_SENTINEL_NODES, sentinel, KEY_SENTINEL);
	take_nodes(c, KEY_CLUSTER_NODES, cluster, KEY_CLUSTER);
}

static void take_all(struct cache *c, const struct toml_node *table)
{
	toml_each(table, on_known, c);
	c->theirs = c->foreign || c->found[KEY_URL].node || c->found[KEY_TYPE].node;
	toml_each(table, on_other, c);
	if (c->found[KEY_FROM].node)
		return;
	take_type(c);
	take(c, KEY_URL, OPTION_upstream_url);
	take(c, KEY_POOL_SIZE, OPTION_upstream_pool_size);
	take(c, KEY_SERVICE, OPTION_upstream_service);
	take(c, KEY_VERIFY, OPTION_upstream_tls_verify);
	take_mode(c);
	if (is_true(c, KEY_USE_TLS))
		c->l->use_tls = c->found[KEY_USE_TLS].at;
}

/* ---- their file ---- */

static void on_their_table(const char *key, size_t len, struct toml_position at, const struct toml_node *node,
			   void *arg)
{
	const struct toml_node **table = arg;

	(void)at;
	if (len == strlen("cache") && memcmp(key, "cache", len) == 0 && toml_type_of(node) == TOML_TABLE)
		*table = node;
}

static void take_their_text(struct loader *l, const char *text, size_t len, struct place from)
{
	struct cache c = {.l = l, .file = l->cache_file, .foreign = true};
	const struct toml_node *table = NULL;
	struct toml_error error;
	struct toml_doc *doc = toml_parse(text, len, &error);

	if (!doc) {
		problem_add(l->problems, place_in(l->cache_file, error.at), "%s", error.text);
		return;
	}
	toml_each(toml_root(doc), on_their_table, &table);
	if (table)
		take_all(&c, table);
	else
		problem_add(l->problems, from, "cache.from: %s has no table [cache]", l->cache_file);
	toml_free(&doc);
}

static void take_their_file(struct loader *l, const struct toml_node *node, struct place from)
{
	char *text, *why;
	const char *name;
	ssize_t n;
	size_t len;

	if (toml_type_of(node) != TOML_STRING) {
		problem_add(l->problems, from, "cache.from must be a string, not %s", node_kind(node));
		return;
	}
	name = toml_string(node, &len);
	if (strlen(name) != len) {
		problem_add(l->problems, from, "cache.from must not have a NUL character in it");
		return;
	}
	why = text_expand(name, len, &l->cache_file);
	if (why) {
		problem_add(l->problems, from, "cache.from %s", why);
		free(why);
		return;
	}
	text = xcalloc(1, FILE_MAX_BYTES + 1);
	n = file_read(l->cache_file, text);
	if (n < 0)
		problem_add(l->problems, from, "cache.from: %s: %s", l->cache_file, strerror((int)-n));
	else
		take_their_text(l, text, (size_t)n, from);
	sodium_memzero(text, FILE_MAX_BYTES + 1);
	free(text);
}

void cache_load(struct loader *l, const char *file, const struct toml_node *table)
{
	struct cache c = {.l = l, .file = file};

	take_all(&c, table);
	if (c.found[KEY_FROM].node)
		take_their_file(l, c.found[KEY_FROM].node, c.found[KEY_FROM].at);
}
