/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Namespaces: what the names that clients use for keys and channels are upstream, and back.
 *
 * A client's key belongs to the namespace with the longest match that it begins with; upstream the namespace's prefix
 * stands in the place of that match ("product:1" with prefix "shop:product:" is "shop:product:1"). Without a prefix
 * names stay as they are. The upstream prefix itself leads to the same namespace, so that nobody gets around what is
 * said of its keys by spelling them as Redis does.
 *
 * A listener may be bound to one namespace. Then every name is put behind the namespace's prefix, and the client
 * sees no others. What a client's names mean is its struct view.
 *
 * Immutable; owner: struct shared_config, with the configuration it points into. Any thread.
 */
#ifndef KEYWEIR_NAMESPACE_H
#define KEYWEIR_NAMESPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"
#include "policy/token.h"

enum namespace_flag {
	NS_RENAMES = 1 << 0, /* names upstream are not those of the clients */
	NS_HASHES = 1 << 1,  /* hash_keys: what stands behind the prefix is hashed */
	NS_TTL = 1 << 2,     /* a ttl for what would have none */
	NS_MAX_TTL = 1 << 3,
	NS_SLIDING = 1 << 4,
	NS_SEALS = 1 << 5,
	NS_READONLY = 1 << 6,
	NS_MISS = 1 << 7,	    /* on_failure = "miss" */
	NS_SEALS_MESSAGES = 1 << 8, /* encrypt_messages */
	NS_TOKENS = 1 << 10,	    /* that of [token_blacklist] */
	NS_NEAR = 1 << 9,	    /* near_cache, and there is memory for it */
};

struct namespace
{
	const struct namespace_config *conf;
	unsigned id; /* index in config.namespaces */
	uint32_t flags;
	const char *prefix; /* upstream, the first if there are several; "" for a default without one */
	size_t prefix_len;
};

struct namespaces;

/* Where a name goes: upstream it is `put`, then the name without its first `cut` bytes (hashed when ns says so). */
struct name_place {
	const struct namespace *ns; /* NULL: none */
	const char *put;
	uint32_t put_len;
	uint32_t cut;
};

/* Copies nothing: `config` and hash_key must live as long. hash_key: 32 bytes for hash_keys, NULL where no namespace
 * has it. */
struct namespaces *namespaces_new(const struct config *config, const unsigned char *hash_key);
void namespaces_free(struct namespaces **all);

/* What names are made with in the one of NS_TOKENS; must live as long. */
void namespaces_use_tokens(struct namespaces *all, const struct tokens *tokens);
const struct tokens *namespaces_tokens(const struct namespaces *all); /* NULL: there is none such */

/* The place of tokens that are named without a prefix (TOKEN.CHECK). */
struct name_place namespaces_token_place(const struct namespaces *all);

/* Whether requests or replies have to be looked at at all, beyond which upstream a key is on. */
bool namespaces_active(const struct namespaces *all);
bool namespaces_strict(const struct namespaces *all); /* keys outside of them are refused */
bool namespaces_rename(const struct namespaces *all); /* some names differ upstream */
size_t namespaces_count(const struct namespaces *all);
const struct namespace *namespaces_at(const struct namespaces *all, size_t id);
const struct namespace *namespaces_named(const struct namespaces *all, const char *name); /* NULL: there is none */

/*
 * Whether namespaces on this upstream (by its index) have NS_NEAR, and what their keys begin with there; none begins
 * with another. A "" alone is any key: where there is no such beginning, and where there are more than is good for
 * Redis, which compares each key that is written with each of them. Empty: there is no such namespace. `out` is empty
 * before.
 */
bool namespaces_near(const struct namespaces *all, size_t upstream_index);
#define NAMESPACE_PREFIXES_MAX 16
void namespaces_near_prefixes(const struct namespaces *all, size_t upstream_index, struct string_list *out);

/* What a client's names mean. */
struct view {
	const struct namespaces *all;
	const struct namespace *bound; /* of its listener; NULL: an ordinary one */
};

/* The place of a client's key. */
struct name_place view_key(const struct view *v, const char *key, size_t len);

/* The last place that was found, for keys that come in a row. All zero at first; good for one view only. */
struct name_hint {
	const char *text; /* a match that no longer one begins with; NULL: none */
	size_t len;
	struct name_place at;
};
struct name_place view_key_hinted(const struct view *v, const char *key, size_t len, struct name_hint *hint);

/* Whether the name is the same upstream. */
static inline bool name_place_is_same(const struct name_place *at)
{
	return at->put_len == 0 && at->cut == 0 && !(at->ns && at->ns->flags & NS_HASHES);
}

/* Appends the upstream name; a hash tag ({...}) stays one, of the same slot for keys that had the same. */
void name_place_put(const struct view *v, const struct name_place *at, const char *name, size_t len, struct buf *out);

/*
 * The client's name for an upstream key: `put`, then the key without its first `cut` bytes. False: the client has no
 * name for it (it is in no place that the client can reach, or its name is hashed). ns in *out: whose it is.
 */
bool view_key_back(const struct view *v, const char *key, size_t len, struct name_place *out);

/* Whether an upstream key is one that the client can name, but whose name can't be told from it. */
bool view_key_is_hashed(const struct view *v, const char *key, size_t len);

/*
 * What to ask Redis for so as to see all keys that match a client's pattern (KEYS, SCAN MATCH).
 * True: the pattern put into out, and what comes needs no other look than view_key_back(). False: out gets "*", or
 * what else leads to all; the client's own pattern must be held against the names given back.
 * *ns: the namespace all of it is in, NULL when that can't be said.
 */
bool view_pattern(const struct view *v, const char *pattern, size_t len, struct buf *out, const struct namespace **ns);

/*
 * What upstream keys begin with, of all keys whose client's names begin with `text`; put into out. False: they have
 * nothing in common, and nothing was put.
 */
bool view_key_beginning(const struct view *v, const char *text, size_t len, struct buf *out);

/* Appends with a backslash before what is special in a pattern. */
void pattern_escape(struct buf *out, const char *text, size_t len);

/*
 * ---- Pub/Sub: the same with channel_prefix; without one a channel stays as it is ----
 * Channels are never hashed: they are put by `put` and `cut` alone. What Redis tells of keys comes by channels, too:
 * see channel.h, which is over these.
 */

struct name_place view_channel(const struct view *v, const char *channel, size_t len);
bool view_channel_back(const struct view *v, const char *channel, size_t len, struct name_place *out);

/* As view_pattern(), for PSUBSCRIBE. */
bool view_channel_pattern(const struct view *v, const char *pattern, size_t len, struct buf *out);

#endif
