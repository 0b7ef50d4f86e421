/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules between the options of a namespace, and between namespaces: their keys and channels must not meet upstream,
 * and every name there must lead back to one place. See check.c, and policy/namespace.h for what the names mean.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/load.h"

/* ---- one namespace ---- */

/* The default of match; default has the keys that match nothing. */
static void check_match(struct loader *l, size_t i)
{
	struct namespace_config *ns = &l->config->namespaces[i];
	struct slot s = slot_of(OPTION_namespace_match, i);
	bool is_default = strcmp(ns->name, "default") == 0;

	if (is_default && ns->match.n > 0) {
		complain(l, s, setting_of(l, s)->at, "must be empty: default has the keys that match no other");
	} else if (!is_default && ns->match.n == 0 && !setting_of(l, s)->bad) {
		ns->match.items = xcalloc(1, sizeof(*ns->match.items));
		ns->match.items[0] = xasprintf("%s:", ns->name);
		ns->match.n = 1;
	}
}

static void check_upstream_name(struct loader *l, size_t i)
{
	struct namespace_config *ns = &l->config->namespaces[i];
	struct slot s = slot_of(OPTION_namespace_upstream, i);

	if (setting_of(l, s)->bad || instance_find(l->config, SCOPE_UPSTREAM, ns->upstream, &ns->upstream_index))
		return;
	ns->upstream_index = 0;
	if (schema_name_fits(ns->upstream, strlen(ns->upstream)))
		complain(l, s, setting_of(l, s)->at, "is %s, but there is no [upstream.%s]", ns->upstream,
			 ns->upstream);
	else
		complain(l, s, setting_of(l, s)->at, "must be the name of an upstream");
}

static void check_ttl(struct loader *l, size_t i)
{
	const struct namespace_config *ns = &l->config->namespaces[i];
	struct slot ttl = slot_of(OPTION_namespace_ttl, i), max = slot_of(OPTION_namespace_max_ttl, i);
	struct slot sliding = slot_of(OPTION_namespace_sliding, i);

	if (ns->max_ttl_ms > 0)
		check_not_above(l, ttl, max);
	if (ns->sliding && ns->ttl_ms == 0 && settings_fine(l, sliding, ttl))
		complain(l, sliding, setting_of(l, sliding)->at, "needs ttl beside it");
}

static void need_keys(struct loader *l, struct slot s, bool wanted)
{
	struct slot keys = slot_of(OPTION_encryption_keys, 0), file = slot_of(OPTION_encryption_keys_file, 0);

	if (wanted && l->config->encryption.keys.n == 0 && settings_fine(l, keys, file))
		complain(l, s, setting_of(l, s)->at, "needs a key: keys or keys_file in [encryption]");
}

static void check_secrecy(struct loader *l, size_t i)
{
	const struct namespace_config *ns = &l->config->namespaces[i];
	struct slot key = slot_of(OPTION_encryption_hash_key, 0), file = slot_of(OPTION_encryption_hash_key_file, 0);
	struct slot hash = slot_of(OPTION_namespace_hash_keys, i);

	need_keys(l, slot_of(OPTION_namespace_encrypt, i), ns->encrypt);
	need_keys(l, slot_of(OPTION_namespace_encrypt_messages, i), ns->encrypt_messages);
	if (ns->hash_keys && !*l->config->encryption.hash_key && settings_fine(l, key, file))
		complain(l, hash, setting_of(l, hash)->at, "needs hash_key or hash_key_file in [encryption]");
}

/* The hash tag of Redis Cluster in a text; its length, 0: there is none. */
static size_t hash_tag(const char *text, const char **tag)
{
	const char *open = strchr(text, '{'), *close = open ? strchr(open, '}') : NULL;

	*tag = close ? open + 1 : "";
	return close ? (size_t)(close - open - 1) : 0;
}

static bool has_open_tag(const struct string_list *match)
{
	const char *tag;

	for (size_t k = 0; k < match->n; k++)
		if (strchr(match->items[k], '{') && hash_tag(match->items[k], &tag) == 0)
			return true;
	return false;
}

/* What is in one slot for clients must be so upstream: a prefix must neither cut into hash tags nor take one away. */
static void check_tags(struct loader *l, size_t i)
{
	const struct namespace_config *ns = &l->config->namespaces[i];
	struct slot s = slot_of(OPTION_namespace_prefix, i);
	struct place at = setting_of(l, s)->at;
	const char *tag, *other;
	size_t len = hash_tag(ns->prefix, &tag);

	if ((!*ns->prefix && !ns->hash_keys) || l->config->upstreams[ns->upstream_index].mode != UPSTREAM_CLUSTER)
		return;
	if (has_open_tag(&ns->match)) {
		s = slot_of(OPTION_namespace_match, i);
		complain(l, s, setting_of(l, s)->at,
			 "must not have a { but in a whole {hash tag}: the upstream is a cluster");
		return;
	}
	if (!*ns->prefix)
		return;
	if (strchr(ns->prefix, '{') && len == 0) {
		complain(l, s, at, "must not have a { but in a whole {hash tag}: the upstream is a cluster");
		return;
	}
	for (size_t k = 0; k < ns->match.n; k++) {
		size_t n = hash_tag(ns->match.items[k], &other);

		if (n > 0 && (n != len || memcmp(tag, other, n) != 0)) {
			complain(l, s, at, "must have the hash tag {%.*s} of match in it: the upstream is a cluster",
				 (int)n, other);
			return;
		}
	}
}

static void check_namespace(struct loader *l, size_t i)
{
	check_match(l, i);
	check_upstream_name(l, i);
	check_ttl(l, i);
	check_secrecy(l, i);
	check_tags(l, i);
}

/* ---- match: no two namespaces have the same ---- */

/* What names begin with, in one of the namespaces. */
struct beginning {
	const char *text;
	struct slot s;
	struct place at;
};

/* Of equals the one that stands later comes last: there it is said. */
static int compare_beginnings(const void *x, const void *y)
{
	const struct beginning *a = x, *b = y;
	int texts = strcmp(a->text, b->text);

	if (texts)
		return texts;
	if (!a->at.file || !b->at.file)
		return (a->at.file != NULL) - (b->at.file != NULL);
	if (a->at.line != b->at.line)
		return a->at.line < b->at.line ? -1 : 1;
	return a->at.col < b->at.col ? -1 : a->at.col > b->at.col;
}

static size_t collect_matches(const struct loader *l, struct beginning **all)
{
	size_t n = 0;

	*all = NULL;
	for (size_t i = 0; i < l->config->n_namespaces; i++) {
		const struct string_list *match = &l->config->namespaces[i].match;
		struct slot s = slot_of(OPTION_namespace_match, i);
		const struct setting *setting = setting_of(l, s);

		*all = xreallocarray(*all, n + match->n + 1, sizeof(**all));
		for (size_t k = 0; k < match->n; k++)
			(*all)[n++] = (struct beginning){match->items[k], s,
							 setting->items ? setting->items[k] : setting->at};
	}
	return n;
}

/* [namespace.NAME], or, of that which is made of it, [token_blacklist]. */
static const char *scope_of(const struct namespace_config *ns)
{
	return ns->has_tokens ? "" : "namespace.";
}

static void check_matches(struct loader *l)
{
	struct beginning *all;
	size_t n = collect_matches(l, &all);

	if (n > 1)
		qsort(all, n, sizeof(*all), compare_beginnings);
	for (size_t i = 1; i < n; i++) {
		const struct beginning *a = &all[i - 1], *b = &all[i];

		if (strcmp(a->text, b->text) != 0)
			continue;
		if (a->s.i == b->s.i)
			complain(l, b->s, b->at, ": \"%s\" stands twice in the list", b->text);
		else
			complain(l, b->s, b->at, ": \"%s\" is the prefix of [%s%s] already", b->text,
				 scope_of(&l->config->namespaces[a->s.i]), l->config->namespaces[a->s.i].name);
	}
	free(all);
}

/* ---- namespaces must not meet ---- */

/* Keys or channels: their options, and who of the namespaces has its names for itself. */
struct realm {
	const char *what;
	enum option_id prefix;
	bool channels;
	bool *bound; /* a listener shows it as a whole Redis */
};

static const char *prefix_of(const struct loader *l, const struct realm *realm, size_t i)
{
	const struct namespace_config *ns = &l->config->namespaces[i];

	return realm->channels ? ns->channel_prefix : ns->prefix;
}

/*
 * What the names of a namespace begin with upstream that are no other's; NULL: it shares what there is. Without a
 * prefix that is a match.
 */
static const char *own_beginning(const struct loader *l, const struct realm *realm, size_t i)
{
	const struct namespace_config *ns = &l->config->namespaces[i];
	const char *prefix = prefix_of(l, realm, i);

	if (*prefix)
		return prefix;
	if (realm->channels || !(ns->hash_keys || realm->bound[i]))
		return NULL;
	if (ns->match.n > 0)
		return ns->match.items[0];
	return ns->hash_keys ? "" : NULL;
}

/* Where to point: at B, or, when nobody wrote that, at what makes the names of A its own. */
static struct place blame(const struct loader *l, const struct realm *realm, const struct beginning *b, size_t a)
{
	struct place at = b->at;

	if (!at.file)
		at = setting_of(l, slot_of(realm->prefix, a))->at;
	if (!at.file && l->config->namespaces[a].hash_keys)
		at = setting_of(l, slot_of(OPTION_namespace_hash_keys, a))->at;
	for (size_t i = 0; i < l->config->server.n_listeners && !at.file; i++) {
		if (strcmp(l->config->server.listeners[i].namespace, l->config->namespaces[a].name) == 0)
			at = setting_of(l, slot_of(OPTION_listener_namespace, i))->at;
	}
	return at;
}

/* b, a beginning of some namespace, begins with what is namespace a's own. */
static void check_two(struct loader *l, const struct realm *realm, size_t a, const struct beginning *b)
{
	const struct namespace_config *first = &l->config->namespaces[a], *second = &l->config->namespaces[b->s.i];
	const char *own = own_beginning(l, realm, a);
	bool is_match = b->s.o->id == OPTION_namespace_match, same = strcmp(own, b->text) == 0;
	bool by_prefix = *prefix_of(l, realm, a);

	if (a == b->s.i) {
		if (by_prefix && is_match && !same)
			complain(l, b->s, blame(l, realm, b, a),
				 ": \"%s\" lies within %s \"%s\": of some %ss nobody could say the name", b->text,
				 schema_option(realm->prefix)->key, own, realm->what);
		return;
	}
	/* What a name upstream stands for is found by prefixes, on whichever upstream it is; matches may be elsewhere.
	 */
	if (!by_prefix &&
	    (first->upstream_index != second->upstream_index || (is_match && (same || *prefix_of(l, realm, b->s.i)))))
		return; /* the last two: said of match already; renamed */
	if (same && !is_match && (!by_prefix || a > b->s.i))
		return; /* said the other way round */
	complain(l, b->s, blame(l, realm, b, a), ": \"%s\" %s \"%s\" of [%s%s]: their %ss would meet", b->text,
		 same ? "is" : "lies within", own, scope_of(first), first->name, realm->what);
}

static size_t collect_prefixes(const struct loader *l, const struct realm *realm, struct beginning **all, size_t n)
{
	for (size_t i = 0; i < l->config->n_namespaces; i++) {
		struct slot s = slot_of(realm->prefix, i);

		if (!*prefix_of(l, realm, i))
			continue;
		*all = xreallocarray(*all, n + 1, sizeof(**all));
		(*all)[n++] = (struct beginning){prefix_of(l, realm, i), s, setting_of(l, s)->at};
	}
	return n;
}

/* The first that does not come before the text. */
static size_t lower_bound(const struct beginning *all, size_t n, const char *text)
{
	size_t low = 0;

	while (low < n) {
		size_t mid = low + (n - low) / 2;

		if (strcmp(all[mid].text, text) < 0)
			low = mid + 1;
		else
			n = mid;
	}
	return low;
}

/* All beginnings are sorted: those that begin with a text stand together. */
static void check_realm(struct loader *l, const struct realm *realm)
{
	struct beginning *all;
	size_t n = collect_prefixes(l, realm, &all, collect_matches(l, &all));

	if (n > 1)
		qsort(all, n, sizeof(*all), compare_beginnings);
	for (size_t a = 0; a < l->config->n_namespaces; a++) {
		const char *own = own_beginning(l, realm, a);

		for (size_t i = own ? lower_bound(all, n, own) : n;
		     i < n && strncmp(all[i].text, own, strlen(own)) == 0; i++)
			check_two(l, realm, a, &all[i]);
	}
	free(all);
}

void check_namespaces(struct loader *l)
{
	struct realm keys = {"key", OPTION_namespace_prefix, false, xcalloc(l->config->n_namespaces + 1, sizeof(bool))};
	struct realm channels = {"channel", OPTION_namespace_channel_prefix, true, keys.bound};
	size_t n;

	for (size_t i = 0; i < l->config->n_namespaces; i++)
		check_namespace(l, i);
	check_matches(l);
	for (size_t i = 0; i < l->config->server.n_listeners; i++) {
		if (instance_find(l->config, SCOPE_NAMESPACE, l->config->server.listeners[i].namespace, &n))
			keys.bound[n] = true;
	}
	check_realm(l, &keys);
	check_realm(l, &channels);
	free(keys.bound);
}
