/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What clients' channels are upstream, and back: a layer over namespace.h for Pub/Sub.
 *
 * A channel goes behind its namespace's channel_prefix. But what Redis tells of keys comes by channels as well, and
 * follows the keys: __keyspace@<db>__:<key> has one in its name, __keyevent@<db>__:<event> has one as its message.
 * https://redis.io/docs/manual/keyspace-notifications/ Shard channels are treated alike.
 *
 * Where namespaces_active() is false nothing of this need be asked.
 */
#ifndef KEYWEIR_CHANNEL_H
#define KEYWEIR_CHANNEL_H

#include "policy/namespace.h"
#include "policy/seal.h"

enum channel_kind {
	CHANNEL_PLAIN,
	CHANNEL_KEYSPACE, /* its name has a key */
	CHANNEL_KEYEVENT, /* its messages are keys */
	CHANNEL_REDIS,	  /* __redis__:invalidate: everybody's own */
};

enum channel_kind channel_kind(const char *name, size_t len);

/* Appends what a client's channel is upstream. */
void channel_put(const struct view *v, const char *name, size_t len, struct buf *out);

/*
 * Appends what to PSUBSCRIBE to so as to hear all channels that match a client's pattern. It may lead to more: what
 * comes is to be held against the client's pattern under the client's name. A pattern hears events of keys when it
 * begins with __key at least; else only those that match it under their upstream name, too.
 */
void channel_pattern_put(const struct view *v, const char *pattern, size_t len, struct buf *out);

/* Appends the client's name for a channel; false: it has none, and nothing was appended. */
bool channel_back_put(const struct view *v, const char *name, size_t len, struct buf *out);

/* Whether a client may hear this channel, which it has named itself: not when that is a key out of its reach. */
bool channel_in_reach(const struct view *v, const char *upstream, size_t len);

/* Appends the client's name for a key that Redis tells of; false: it has none. */
bool channel_key_back_put(const struct view *v, const char *key, size_t len, struct buf *out);

/* Whether messages to a client's channel are sealed. */
bool channel_seals(const struct view *v, const char *name, size_t len);

/* Appends what a sealed message to an upstream channel says. */
enum open_status message_open(const struct keyring *ring, const char *channel, size_t channel_len, const char *sealed,
			      size_t len, struct buf *out) __attribute__((warn_unused_result));

#endif
