/* SPDX-License-Identifier: BSD-2-Clause */
/* Longest matching prefixes, and names there and back: see namespace.h. */
#include "policy/namespace.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define NAME_HASH_BYTES 16 /* of a hashed name, written in hexadecimal */
#define TAG_HASH_BYTES	8

/* A beginning of names that leads somewhere. */
struct prefix {
	const char *text;
	uint32_t len;
	bool alias;	  /* not a match, but how names begin upstream */
	bool longer;	  /* others begin with it and go on */
	bool twofold;	  /* what begins with `back` and goes on may be taken for something else */
	const char *back; /* what clients say for it where it stands upstream; NULL: it is no name upstream */
	struct name_place at;
};

/*
 * All beginnings, found by a running hash over a name's first bytes: it is looked up only at lengths that some prefix
 * has, so that what it costs does not depend on how many there are.
 */
struct prefix_table {
	struct prefix *items; /* sorted by text */
	size_t n;
	uint32_t *slots; /* 1 + index; 0: empty */
	size_t n_slots;	 /* a power of two */
	uint32_t max_len;
	bool *has_len; /* [0 .. max_len] */
};

struct namespaces {
	const struct config *config;
	struct namespace *items;
	size_t n;
	const struct namespace *fallback; /* [namespace.default] */
	struct prefix_table keys;
	struct prefix_table channels;
	struct name_place default_key, default_channel;
	bool active, renames, renames_channels;
	const struct tokens *tokens;
	const unsigned char *hash_key; /* crypto_generichash_KEYBYTES of them, the keyring's; or NULL */
};

/* ---- prefix tables ---- */

#define HASH_START 0xcbf29ce484222325u

static inline uint64_t hash_byte(uint64_t h, char c)
{
	return (h ^ (unsigned char)c) * 0x100000001b3u;
}

static inline size_t slot_at(const struct prefix_table *t, uint64_t h)
{
	return (h ^ h >> 32) & (t->n_slots - 1);
}

static int compare_prefixes(const void *x, const void *y)
{
	const struct prefix *a = x, *b = y;
	int texts = strcmp(a->text, b->text);

	/* Of two that are the same the match comes first, and counts. */
	return texts ? texts : (int)a->alias - (int)b->alias;
}

static void add_prefix(struct prefix_table *t, const char *text, bool alias, const char *back, struct name_place at)
{
	if (!*text)
		return;
	t->items = xreallocarray(t->items, t->n + 1, sizeof(*t->items));
	t->items[t->n++] =
		(struct prefix){.text = text, .len = (uint32_t)strlen(text), .alias = alias, .back = back, .at = at};
}

static void drop_doubles(struct prefix_table *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		if (n == 0 || strcmp(t->items[n - 1].text, t->items[i].text) != 0)
			t->items[n++] = t->items[i];
	t->n = n;
}

static bool has_longer(const struct prefix_table *t, const char *text, size_t len);

static void build_table(struct prefix_table *t)
{
	if (t->n > 0)
		qsort(t->items, t->n, sizeof(*t->items), compare_prefixes);
	drop_doubles(t);
	for (t->n_slots = 16; t->n_slots < 4 * t->n;)
		t->n_slots *= 2;
	t->slots = xcalloc(t->n_slots, sizeof(*t->slots));
	for (size_t i = 0; i < t->n; i++)
		if (t->items[i].len > t->max_len)
			t->max_len = t->items[i].len;
	for (size_t i = 0; i + 1 < t->n; i++) /* sorted: such a one is the next */
		t->items[i].longer = strncmp(t->items[i].text, t->items[i + 1].text, t->items[i].len) == 0;
	t->has_len = xcalloc(t->max_len + 1, sizeof(*t->has_len));
	for (size_t i = 0; i < t->n; i++) {
		uint64_t h = HASH_START;
		size_t slot;

		for (uint32_t k = 0; k < t->items[i].len; k++)
			h = hash_byte(h, t->items[i].text[k]);
		for (slot = slot_at(t, h); t->slots[slot];)
			slot = (slot + 1) & (t->n_slots - 1);
		t->slots[slot] = (uint32_t)i + 1;
		t->has_len[t->items[i].len] = true;
		t->items[i].twofold = t->items[i].back && has_longer(t, t->items[i].back, strlen(t->items[i].back));
	}
}

static void free_table(struct prefix_table *t)
{
	free(t->items);
	free(t->slots);
	free(t->has_len);
}

static const struct prefix *find_at(const struct prefix_table *t, uint64_t h, const char *name, uint32_t len)
{
	for (size_t slot = slot_at(t, h); t->slots[slot]; slot = (slot + 1) & (t->n_slots - 1)) {
		const struct prefix *p = &t->items[t->slots[slot] - 1];

		if (p->len == len && memcmp(p->text, name, len) == 0)
			return p;
	}
	return NULL;
}

/* The longest; NULL: none. */
static const struct prefix *find_prefix(const struct prefix_table *t, const char *name, size_t len)
{
	uint32_t end = len < t->max_len ? (uint32_t)len : t->max_len;
	const struct prefix *best = NULL, *found;
	uint64_t h = HASH_START;

	for (uint32_t i = 0; i < end; i++) {
		h = hash_byte(h, name[i]);
		if (t->has_len[i + 1] && (found = find_at(t, h, name, i + 1)))
			best = found;
	}
	return best;
}

/* Whether some prefix begins with these bytes and goes on: names that begin so may lead to several places. */
static bool has_longer(const struct prefix_table *t, const char *text, size_t len)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (strncmp(t->items[mid].text, text, len) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < t->n && strncmp(t->items[low].text, text, len) == 0; low++)
		if (t->items[low].len > len)
			return true;
	return false;
}

/* ---- building ---- */

static uint32_t flags_of(const struct namespace_config *conf)
{
	uint32_t flags = 0;

	flags |= *conf->prefix || conf->hash_keys ? NS_RENAMES : 0;
	flags |= conf->hash_keys ? NS_HASHES : 0;
	flags |= conf->ttl_ms > 0 ? NS_TTL : 0;
	flags |= conf->max_ttl_ms > 0 ? NS_MAX_TTL : 0;
	flags |= conf->sliding ? NS_SLIDING : 0;
	flags |= conf->encrypt ? NS_SEALS : 0;
	flags |= conf->readonly ? NS_READONLY : 0;
	flags |= conf->on_failure == ON_FAILURE_MISS ? NS_MISS : 0;
	flags |= conf->encrypt_messages ? NS_SEALS_MESSAGES : 0;
	flags |= conf->near_cache ? NS_NEAR : 0;
	return flags;
}

/* Of that which is made of [token_blacklist]; its prefix is its first match. */
static uint32_t token_flags(const struct config *config)
{
	const struct token_blacklist_config *conf = &config->token_blacklist;

	return NS_TOKENS | (conf->hash_tokens ? NS_HASHES : 0) | (conf->ttl_ms > 0 ? NS_TTL : 0) |
	       (conf->hash_tokens || conf->prefixes.n > 1 ? NS_RENAMES : 0);
}

/* Where names of ns go that begin with `match`: `put` takes its place; "": they stay. */
static struct name_place place_of(const struct namespace *ns, const char *match, const char *put, bool hashed)
{
	if (!*put)
		put = match;
	if (!hashed && strcmp(put, match) == 0)
		return (struct name_place){ns, "", 0, 0};
	return (struct name_place){ns, put, (uint32_t)strlen(put), (uint32_t)strlen(match)};
}

/* The match that stands for the upstream prefix in names given back: itself, if clients say it, too; or the first. */
static const char *name_of_prefix(const struct namespace_config *conf, const char *prefix)
{
	for (size_t i = 0; i < conf->match.n; i++)
		if (strcmp(conf->match.items[i], prefix) == 0)
			return prefix;
	return conf->match.n > 0 ? conf->match.items[0] : "";
}

/* All ways in and out of a namespace for one kind of names. */
static void add_beginnings(struct prefix_table *t, const struct namespace *ns, const char *prefix, bool hashed)
{
	const struct namespace_config *conf = ns->conf;

	for (size_t i = 0; i < conf->match.n; i++) {
		const char *match = conf->match.items[i];
		bool stays = !*prefix || strcmp(match, prefix) == 0;

		add_prefix(t, match, false, stays ? match : NULL, place_of(ns, match, prefix, hashed));
	}
	add_prefix(t, prefix, true, name_of_prefix(conf, prefix), place_of(ns, prefix, prefix, hashed));
}

static void add_namespace(struct namespaces *all, struct namespace *ns)
{
	const struct namespace_config *conf = ns->conf;
	bool hashed = ns->flags & NS_HASHES;

	add_beginnings(&all->keys, ns, conf->prefix, hashed);
	add_beginnings(&all->channels, ns, conf->channel_prefix, false);
	if (strcmp(conf->name, "default") == 0) {
		all->fallback = ns;
		all->default_key = place_of(ns, "", conf->prefix, hashed);
		all->default_channel = place_of(ns, "", conf->channel_prefix, false);
	}
}

struct namespaces *namespaces_new(const struct config *config, const unsigned char *hash_key)
{
	struct namespaces *all = xcalloc(1, sizeof(*all));

	all->config = config;
	all->n = config->n_namespaces;
	all->items = xcalloc(all->n + 1, sizeof(*all->items));
	all->default_key = all->default_channel = (struct name_place){NULL, "", 0, 0};
	all->active = config->server.strict || config->server.n_listeners > 0;
	all->hash_key = hash_key;
	for (size_t i = 0; i < all->n; i++) {
		const struct namespace_config *conf = &config->namespaces[i];
		struct namespace *ns = &all->items[i];

		ns->conf = conf;
		ns->id = (unsigned)i;
		ns->flags = flags_of(conf);
		if (conf->has_tokens)
			ns->flags = token_flags(config);
		if (config->near_cache.max_memory_bytes == 0)
			ns->flags &= ~(uint32_t)NS_NEAR;
		ns->prefix = *conf->prefix ? conf->prefix : conf->match.n > 0 ? conf->match.items[0] : "";
		ns->prefix_len = strlen(ns->prefix);
		all->renames = all->renames || ns->flags & NS_RENAMES;
		all->renames_channels = all->renames_channels || *conf->channel_prefix;
		all->active = all->active || (ns->flags & ~(uint32_t)NS_MISS) || *conf->channel_prefix;
		add_namespace(all, ns);
	}
	build_table(&all->keys);
	build_table(&all->channels);
	return all;
}

void namespaces_free(struct namespaces **allp)
{
	struct namespaces *all = *allp;

	*allp = NULL;
	if (!all)
		return;
	free_table(&all->keys);
	free_table(&all->channels);
	free(all->items);
	free(all);
}

void namespaces_use_tokens(struct namespaces *all, const struct tokens *tokens)
{
	all->tokens = tokens;
}

const struct tokens *namespaces_tokens(const struct namespaces *all)
{
	return all->tokens;
}

struct name_place namespaces_token_place(const struct namespaces *all)
{
	const struct namespace *ns = namespaces_named(all, TOKENS_NAMESPACE);

	return (struct name_place){ns, ns->prefix, (uint32_t)ns->prefix_len, 0};
}

bool namespaces_active(const struct namespaces *all)
{
	return all->active;
}

bool namespaces_strict(const struct namespaces *all)
{
	return all->config->server.strict;
}

bool namespaces_rename(const struct namespaces *all)
{
	return all->renames;
}

size_t namespaces_count(const struct namespaces *all)
{
	return all->n;
}

const struct namespace *namespaces_at(const struct namespaces *all, size_t id)
{
	return id < all->n ? &all->items[id] : NULL;
}

static int compare_name(const void *name, const void *item)
{
	return strcmp(name, ((const struct namespace *)item)->conf->name);
}

/* They stand in the order of their names, as in the configuration. */
const struct namespace *namespaces_named(const struct namespaces *all, const char *name)
{
	return bsearch(name, all->items, all->n, sizeof(*all->items), compare_name);
}

/* ---- for CLIENT TRACKING ---- */

static void add_beginning(struct string_list *list, const char *text)
{
	list->items = xreallocarray(list->items, list->n + 1, sizeof(*list->items));
	list->items[list->n++] = xstrdup(text);
}

static void add_near(struct string_list *list, const struct namespace *ns)
{
	const struct namespace_config *conf = ns->conf;

	for (size_t i = 0; i < conf->match.n && !*conf->prefix; i++)
		add_beginning(list, conf->match.items[i]);
	if (*conf->prefix || conf->match.n == 0)
		add_beginning(list, conf->prefix);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, what begins with another comes behind it, and only others that do so are between. */
static void drop_longer(struct string_list *list)
{
	size_t n = 0;

	if (list->n > 0)
		qsort(list->items, list->n, sizeof(*list->items), compare_texts);
	for (size_t i = 0; i < list->n; i++)
		if (n > 0 && strncmp(list->items[n - 1], list->items[i], strlen(list->items[n - 1])) == 0)
			free(list->items[i]);
		else
			list->items[n++] = list->items[i];
	list->n = n;
}

/* What of it is held in memory, Redis must tell of. */
static bool is_near(const struct namespaces *all, const struct namespace *ns, size_t upstream_index)
{
	bool mirrored = ns->flags & NS_TOKENS && all->config->token_blacklist.mirror;

	return (ns->flags & NS_NEAR || mirrored) && ns->conf->upstream_index == upstream_index;
}

bool namespaces_near(const struct namespaces *all, size_t upstream_index)
{
	for (size_t i = 0; i < all->n; i++)
		if (is_near(all, &all->items[i], upstream_index))
			return true;
	return false;
}

void namespaces_near_prefixes(const struct namespaces *all, size_t upstream_index, struct string_list *out)
{
	for (size_t i = 0; i < all->n; i++)
		if (is_near(all, &all->items[i], upstream_index))
			add_near(out, &all->items[i]);
	drop_longer(out);
	if (out->n <= NAMESPACE_PREFIXES_MAX)
		return;
	string_list_clear(out);
	add_beginning(out, "");
}

/* ---- there ---- */

struct name_place view_key(const struct view *v, const char *key, size_t len)
{
	const struct prefix *p;

	if (v->bound)
		return (struct name_place){v->bound, v->bound->prefix, (uint32_t)v->bound->prefix_len, 0};
	p = find_prefix(&v->all->keys, key, len);
	return p ? p->at : v->all->default_key;
}

struct name_place view_key_hinted(const struct view *v, const char *key, size_t len, struct name_hint *hint)
{
	const struct prefix *p;

	if (v->bound)
		return view_key(v, key, len);
	if (hint->text && len >= hint->len && memcmp(hint->text, key, hint->len) == 0)
		return hint->at;
	p = find_prefix(&v->all->keys, key, len);
	if (!p)
		return v->all->default_key;
	if (!p->longer)
		*hint = (struct name_hint){p->text, p->len, p->at};
	return p->at;
}

struct name_place view_channel(const struct view *v, const char *channel, size_t len)
{
	const struct prefix *p;

	if (v->bound)
		return (struct name_place){v->bound, v->bound->conf->channel_prefix,
					   (uint32_t)strlen(v->bound->conf->channel_prefix), 0};
	p = find_prefix(&v->all->channels, channel, len);
	return p ? p->at : v->all->default_channel;
}

static size_t literal_length(const char *pattern, size_t len)
{
	size_t n = 0;

	while (n < len && !memchr("*?[\\", pattern[n], 4))
		n++;
	return n;
}

static void put_hash(const struct view *v, const char *p, size_t len, size_t n_bytes, struct buf *out)
{
	unsigned char hash[crypto_generichash_BYTES];
	char hex[2 * crypto_generichash_BYTES + 1];

	crypto_generichash(hash, sizeof(hash), (const unsigned char *)p, len, v->all->hash_key,
			   crypto_generichash_KEYBYTES);
	sodium_bin2hex(hex, sizeof(hex), hash, n_bytes);
	buf_put(out, hex, 2 * n_bytes);
}

/* What Redis Cluster hashes of a key when it has braces. https://redis.io/docs/reference/cluster-spec/#hash-tags */
static bool hash_tag(const char *name, size_t len, const char **tag, size_t *tag_len)
{
	const char *open = memchr(name, '{', len);
	const char *close = open ? memchr(open + 1, '}', len - (size_t)(open + 1 - name)) : NULL;

	if (!close || close == open + 1)
		return false;
	*tag = open + 1;
	*tag_len = (size_t)(close - open - 1);
	return true;
}

void name_place_put(const struct view *v, const struct name_place *at, const char *name, size_t len, struct buf *out)
{
	const char *tag;
	size_t tag_len;

	buf_put(out, at->put, at->put_len);
	if (!(at->ns && at->ns->flags & NS_HASHES)) {
		buf_put(out, name + at->cut, len - at->cut);
		return;
	}
	name += at->cut;
	len -= at->cut;
	if (at->ns->flags & NS_TOKENS) {
		tokens_put_name(v->all->tokens, name, len, out);
		return;
	}
	if (hash_tag(name, len, &tag, &tag_len)) {
		buf_puts(out, "{");
		put_hash(v, tag, tag_len, TAG_HASH_BYTES, out);
		buf_puts(out, "}");
	}
	put_hash(v, name, len, NAME_HASH_BYTES, out);
}

/* ---- back ---- */

static bool begins_with(const char *name, size_t len, const char *prefix, size_t prefix_len)
{
	return len >= prefix_len && memcmp(name, prefix, prefix_len) == 0;
}

/* Whether a client's name that begins with `back`, and goes on with the rest, is taken for what begins so. */
static bool leads_back(const struct prefix_table *t, const char *back, const char *rest, size_t len)
{
	size_t back_len = strlen(back);
	char small[256], *name = t->max_len <= sizeof(small) ? small : xcalloc(1, t->max_len);
	const struct prefix *p;

	if (len > t->max_len - back_len)
		len = t->max_len - back_len;
	memcpy(name, back, back_len);
	if (len > 0)
		memcpy(name + back_len, rest, len);
	p = find_prefix(t, name, back_len + len);
	if (name != small)
		free(name);
	return (p ? p->len : 0) == back_len;
}

/* The client's name for what begins with p upstream. */
static bool back(const struct prefix_table *t, const struct prefix *p, const char *name, size_t len,
		 struct name_place *out)
{
	*out = (struct name_place){p->at.ns, "", 0, 0};
	if (!p->back)
		return false; /* clients mean something else by this name */
	if (strcmp(p->back, p->text) == 0)
		return true;
	/* Where that would be the name of another key it has still the one that it has upstream. */
	if (p->twofold && !leads_back(t, p->back, name + p->len, len - p->len))
		return true;
	*out = (struct name_place){p->at.ns, p->back, (uint32_t)strlen(p->back), p->len};
	return true;
}

bool view_key_back(const struct view *v, const char *key, size_t len, struct name_place *out)
{
	const struct prefix *p;

	if (v->bound) {
		*out = (struct name_place){v->bound, "", 0, (uint32_t)v->bound->prefix_len};
		return begins_with(key, len, v->bound->prefix, v->bound->prefix_len) && !(v->bound->flags & NS_HASHES);
	}
	p = find_prefix(&v->all->keys, key, len);
	if (p)
		return back(&v->all->keys, p, key, len, out) && !(p->at.ns->flags & NS_HASHES);
	*out = (struct name_place){v->all->fallback, "", 0, 0};
	if (!v->all->fallback)
		return !v->all->config->server.strict;
	return !(v->all->fallback->flags & NS_RENAMES);
}

bool view_key_is_hashed(const struct view *v, const char *key, size_t len)
{
	const struct prefix *p;

	if (v->bound)
		return v->bound->flags & NS_HASHES && begins_with(key, len, v->bound->prefix, v->bound->prefix_len);
	p = find_prefix(&v->all->keys, key, len);
	if (p)
		return p->back && p->at.ns->flags & NS_HASHES;
	return v->all->fallback && v->all->fallback->flags & NS_HASHES;
}

bool view_channel_back(const struct view *v, const char *channel, size_t len, struct name_place *out)
{
	const struct prefix *p;

	if (v->bound) {
		size_t prefix_len = strlen(v->bound->conf->channel_prefix);

		*out = (struct name_place){v->bound, "", 0, (uint32_t)prefix_len};
		return begins_with(channel, len, v->bound->conf->channel_prefix, prefix_len);
	}
	p = find_prefix(&v->all->channels, channel, len);
	if (p)
		return back(&v->all->channels, p, channel, len, out);
	*out = (struct name_place){v->all->fallback, "", 0, 0};
	return v->all->default_channel.put_len == 0;
}

/* ---- patterns ---- */

void pattern_escape(struct buf *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (memchr("*?[]\\", text[i], 5))
			buf_put(out, "\\", 1);
		buf_put(out, text + i, 1);
	}
}

bool view_pattern(const struct view *v, const char *pattern, size_t len, struct buf *out, const struct namespace **ns)
{
	size_t n = literal_length(pattern, len);
	struct name_place at = view_key(v, pattern, n);

	*ns = v->bound;
	if (!v->bound && n < len && has_longer(&v->all->keys, pattern, n)) {
		if (namespaces_rename(v->all)) {
			buf_put(out, "*", 1);
			return false;
		}
		buf_put(out, pattern, len);
		return true;
	}
	*ns = at.ns;
	pattern_escape(out, at.put, at.put_len);
	buf_put(out, pattern + at.cut, len - at.cut);
	return true;
}

bool view_channel_pattern(const struct view *v, const char *pattern, size_t len, struct buf *out)
{
	size_t n = literal_length(pattern, len);
	struct name_place at = view_channel(v, pattern, n);

	if (!v->bound && v->all->renames_channels && n < len && has_longer(&v->all->channels, pattern, n)) {
		buf_put(out, "*", 1);
		return false;
	}
	pattern_escape(out, at.put, at.put_len);
	buf_put(out, pattern + at.cut, len - at.cut);
	return true;
}

bool view_key_beginning(const struct view *v, const char *text, size_t len, struct buf *out)
{
	struct name_place at = view_key(v, text, len);

	if (!v->bound && namespaces_rename(v->all) && has_longer(&v->all->keys, text, len))
		return false;
	buf_put(out, at.put, at.put_len);
	if (!(at.ns && at.ns->flags & NS_HASHES))
		buf_put(out, text + at.cut, len - at.cut);
	return true;
}
