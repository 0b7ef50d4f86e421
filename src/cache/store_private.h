/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the store share. */
#ifndef KEYWEIR_CACHE_STORE_PRIVATE_H
#define KEYWEIR_CACHE_STORE_PRIVATE_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/siphash.h"
#include "cache/fifo.h"
#include "cache/flight.h"
#include "cache/item.h"

#define STORE_SHARDS_MAX 64
#define STORE_NODES	 256 /* places to remember a node's newest epoch; two nodes in one do no harm */

/* A part of the keys, by hash. */
struct shard {
	_Alignas(64) struct lock lock; /* all that is here and in the items is under it */
	uint32_t *buckets;	       /* the first item of each */
	uint32_t n_buckets;
	struct fifo fifo;
	struct list flights[FLIGHT_HEADS];
};

/* Of one namespace; a cache line or two of their own, since several threads count. */
struct counts {
	_Alignas(128) atomic_ullong items;
	atomic_ullong bytes;
	atomic_ullong fills;
	atomic_ullong gone[STORE_CAUSES];
};

struct store {
	struct chunks chunks;
	size_t bytes_fixed; /* tables, and what is not in the mapping */
	size_t bytes_max;
	uint32_t n_shards; /* a power of two */
	size_t n_namespaces;
	struct counts *counts;
	struct siphash_key seed;
	atomic_bool closed;		   /* succeeded by another */
	_Atomic(struct store *) successor; /* a reference; NULL: none */
	atomic_uint refs;
	_Alignas(64) atomic_uint evict_next;  /* the shard whose turn it is */
	_Atomic int64_t now_us;		      /* about: what the last who led said */
	_Atomic uint64_t newest[STORE_NODES]; /* node and epoch, as of asks that led */
	struct shard shards[];
};

/* Items that were taken out under a lock, and go when it is open. */
struct doomed {
	uint32_t first; /* linked by `next` */
};

static inline struct shard *store_shard(struct store *s, uint32_t hash)
{
	return &s->shards[hash & (s->n_shards - 1)];
}

/* The low bits chose the shard; these are the high ones. */
static inline uint32_t *shard_bucket(const struct shard *sh, uint32_t hash)
{
	return &sh->buckets[(uint64_t)hash * sh->n_buckets >> 32];
}

/* The newest reply to a request, served or not. NULL: none. */
static inline struct store_item *shard_find(const struct store *s, const struct shard *sh, const struct store_key *key,
					    const struct store_request *request)
{
	for (uint32_t i = *shard_bucket(sh, (uint32_t)key->hash); i;) {
		struct store_item *it = item_at(&s->chunks, i);

		if (item_answers(&s->chunks, it, key, request))
			return it;
		i = it->next;
	}
	return NULL;
}

/* Whether it is past its time, but still within that of race_condition_ttl. */
static inline bool item_in_race(const struct store_item *it, int64_t race_us, int64_t now_us)
{
	return it->what & ITEM_KEY_EXPIRES && race_us > 0 && now_us < it->expires_us + race_us &&
	       (now_us >= it->expires_us || it->state & ITEM_RECHECK);
}

/* Under the shard's lock. */
void shard_add(struct store *s, struct shard *sh, struct store_item *it);
void shard_remove(struct store *s, struct shard *sh, struct store_item *it, enum store_cause cause, struct doomed *out);

void store_bury(struct store *s, struct doomed *doomed);

/* A chain of n chunks, for which others leave if need be. False: there is no room. */
bool store_make_room(struct store *s, struct chain *chain, uint32_t n);

#endif
