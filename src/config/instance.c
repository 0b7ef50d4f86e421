/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The upstreams, namespaces and listeners of a configuration: found by name, made with their defaults, freed. They
 * stand in the order of their names, but upstream main is always the first, and listeners stand as they came. A row of
 * settings goes with each.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/load.h"
#include "config/text.h"

size_t instance_count(const struct config *config, enum option_scope scope)
{
	switch (scope) {
	case SCOPE_LISTENER:
		return config->server.n_listeners;
	case SCOPE_LIMIT:
		return config->n_limits;
	case SCOPE_UPSTREAM:
		return config->n_upstreams;
	case SCOPE_NAMESPACE:
		return config->n_namespaces;
	default:
		return 1;
	}
}

const char *instance_name(const struct config *config, enum option_scope scope, size_t i)
{
	switch (scope) {
	case SCOPE_UPSTREAM:
		return config->upstreams[i].name;
	case SCOPE_NAMESPACE:
		return config->namespaces[i].name;
	default:
		return NULL;
	}
}

bool instance_find(const struct config *config, enum option_scope scope, const char *name, size_t *i)
{
	for (*i = 0; *i < instance_count(config, scope); (*i)++) {
		if (strcmp(instance_name(config, scope, *i), name) == 0)
			return true;
	}
	return false;
}

struct slot slot_of(enum option_id id, size_t i)
{
	return (struct slot){schema_option(id), i};
}

struct setting *setting_of(const struct loader *l, struct slot s)
{
	return &l->settings[schema_scope(s.o)][s.i][s.o->id];
}

/* ---- making them ---- */

static void load_default(struct loader *l, struct slot s)
{
	const struct toml_node *node = NULL;
	struct toml_doc *doc;

	if (s.o->type == TYPE_RATE)
		return; /* none */
	if (s.o->flags & OPTION_NEEDED) {
		*(char **)schema_field(l->config, s) = xstrdup("");
		return;
	}
	doc = value_parse(s.o->value, &node);
	assert(doc); /* options.def is wrong */
	set_node(l, s, node, (struct place){0});
	assert(!setting_of(l, s)->bad);
	toml_free(&doc);
}

static void load_defaults(struct loader *l, enum option_scope scope, size_t i)
{
	for (unsigned id = 0; id < N_OPTIONS; id++) {
		struct slot s = slot_of(id, i);

		if (schema_scope(s.o) == scope)
			load_default(l, s);
	}
}

/* Room for one more of `size` bytes at i, all zero. */
static void *insert(void *items, size_t n, size_t i, size_t size)
{
	char *bigger = xreallocarray(items, n + 1, size);

	memmove(bigger + (i + 1) * size, bigger + i * size, (n - i) * size);
	memset(bigger + i * size, 0, size);
	return bigger;
}

static void add(struct loader *l, enum option_scope scope, size_t i, const char *name)
{
	struct config *c = l->config;
	size_t n = scope == SCOPE_ONE ? 0 : instance_count(c, scope);

	l->settings[scope] = insert(l->settings[scope], n, i, sizeof(*l->settings[scope]));
	l->settings[scope][i] = xcalloc(N_OPTIONS, sizeof(struct setting));
	if (scope == SCOPE_UPSTREAM) {
		c->upstreams = insert(c->upstreams, n, i, sizeof(*c->upstreams));
		c->upstreams[i].name = xstrdup(name);
		c->n_upstreams++;
	} else if (scope == SCOPE_NAMESPACE) {
		c->namespaces = insert(c->namespaces, n, i, sizeof(*c->namespaces));
		c->namespaces[i].name = xstrdup(name);
		c->n_namespaces++;
	} else if (scope == SCOPE_LISTENER) {
		c->server.listeners = insert(c->server.listeners, n, i, sizeof(*c->server.listeners));
		c->server.n_listeners++;
	} else if (scope == SCOPE_LIMIT) {
		c->limits = insert(c->limits, n, i, sizeof(*c->limits));
		c->n_limits++;
	}
	load_defaults(l, scope, i);
}

size_t instance_need(struct loader *l, enum option_scope scope, const char *name_, size_t len)
{
	char name[INSTANCE_NAME_MAX + 1] = "";
	size_t i;

	if (scope == SCOPE_ONE)
		return 0;
	assert(schema_name_fits(name_, len));
	memcpy(name, name_, len);
	if (instance_find(l->config, scope, name, &i))
		return i;
	while (i > 0 && strcmp(instance_name(l->config, scope, i - 1), name) > 0 &&
	       !(scope == SCOPE_UPSTREAM && i == 1))
		i--;
	add(l, scope, i, name);
	return i;
}

size_t instance_append(struct loader *l, enum option_scope list, struct place at)
{
	size_t i = instance_count(l->config, list);

	add(l, list, i, NULL);
	for (unsigned id = 0; id < N_OPTIONS; id++)
		l->settings[list][i][id].at = at;
	return i;
}

static void free_settings(struct loader *l, enum option_scope scope)
{
	size_t n = l->settings[scope] ? instance_count(l->config, scope) : 0;

	for (size_t i = 0; i < n; i++) {
		for (unsigned id = 0; id < N_OPTIONS; id++)
			free(l->settings[scope][i][id].items);
		free(l->settings[scope][i]);
	}
	free(l->settings[scope]);
	l->settings[scope] = NULL;
}

void loader_init(struct loader *l)
{
	l->config = xcalloc(1, sizeof(*l->config));
	add(l, SCOPE_ONE, 0, NULL);
	add(l, SCOPE_UPSTREAM, 0, "main");
}

void loader_fini(struct loader *l)
{
	for (unsigned scope = 0; scope < N_SCOPES; scope++)
		free_settings(l, scope);
	free(l->cache_file);
	l->cache_file = NULL;
}

/* ---- freeing them ---- */

void string_list_clear(struct string_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		text_wipe(&list->items[i]);
	free(list->items);
	*list = (struct string_list){0};
}

/* Any string may have a secret in it, a URL or a password: all are wiped. */
static void free_fields(struct config *config, const struct option *o)
{
	for (size_t i = 0; i < instance_count(config, schema_scope(o)); i++) {
		void *field = schema_field(config, (struct slot){o, i});

		if (o->type <= TYPE_STRINGS)
			string_list_clear(field);
		else if (o->type <= TYPE_ADDRESS)
			text_wipe(field);
	}
}

static void free_all_fields(struct config *config, enum option_scope scope)
{
	for (unsigned id = 0; id < N_OPTIONS; id++) {
		if (schema_scope(schema_option(id)) == scope)
			free_fields(config, schema_option(id));
	}
}

void instance_drop_all(struct loader *l, enum option_scope list)
{
	struct config *c = l->config;

	free_settings(l, list);
	free_all_fields(c, list);
	if (list == SCOPE_LISTENER) {
		free(c->server.listeners);
		c->server.listeners = NULL;
		c->server.n_listeners = 0;
	} else {
		free(c->limits);
		c->limits = NULL;
		c->n_limits = 0;
	}
}

void config_free(struct config **configp)
{
	struct config *config = *configp;

	*configp = NULL;
	if (!config)
		return;
	for (unsigned scope = 0; scope < N_SCOPES; scope++)
		free_all_fields(config, scope);
	for (size_t i = 0; i < config->n_upstreams; i++) {
		free(config->upstreams[i].name);
		free(config->upstreams[i].url_masked);
		upstream_url_fini(&config->upstreams[i].target);
	}
	for (size_t i = 0; i < config->n_namespaces; i++)
		free(config->namespaces[i].name);
	free(config->upstreams);
	free(config->namespaces);
	free(config->server.listeners);
	free(config->limits);
	problems_free(&config->warnings);
	free(config);
}

void string_list_copy(struct string_list *to, const struct string_list *from)
{
	to->n = from->n;
	to->items = xcalloc(from->n + 1, sizeof(*to->items));
	for (size_t i = 0; i < from->n; i++)
		to->items[i] = xstrdup(from->items[i]);
}

bool string_list_same(const struct string_list *a, const struct string_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}
