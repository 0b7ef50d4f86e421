/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who leaves a shard when room is needed: S3-FIFO ("FIFO queues are all you need for cache eviction", SOSP '23), over
 * bytes. What is new enters a small queue; what was found again before its end goes on to the main queue, else it
 * leaves, and only a fingerprint of it stays for a while (ghost). What comes back while there is one enters the main
 * queue at once. There, each time that it was found buys another round.
 *
 * What was removed because its key changed leaves its fingerprint too: it was not unpopular. What nobody can be served
 * with any more goes before all others.
 *
 * Why: a hit moves nothing, it only counts; a removal is a few words; and it finds as much as any other. Zipf 0.99 over
 * a million keys, 5 % writes, room for a tenth: LRU 73.3 %, W-TinyLFU 76.9, S3-FIFO as published 76.5, this 77.2. When
 * popularity drifts: 69.9, 60.0, 70.7, 71.0; beside a scan: 52.5, 58.3, 57.6, 58.4 (`make bench-hit-rate`).
 * Under the shard's lock.
 */
#ifndef KEYWEIR_CACHE_FIFO_H
#define KEYWEIR_CACHE_FIFO_H

#include "cache/item.h"

#define GHOST_WAYS 16 /* fingerprints that lie together: a cache line */

struct fifo_queue {
	uint32_t newest, oldest;
	uint32_t items;
	uint32_t chunks;
};

struct fifo {
	struct fifo_queue small, main;
	uint32_t *ghosts; /* GHOST_WAYS for each set: a fingerprint and when it was made, 16 bits each; 0: none */
	uint32_t n_sets;
	uint32_t full;	    /* how many items there were when room was last needed */
	uint32_t clock;	    /* how many ghosts were made */
	unsigned tick_bits; /* what of the clock is too fine for 16 bits */
};

/* Bytes of `ghosts` for a shard of n chunks. */
size_t fifo_ghosts_len(uint32_t n_chunks);
void fifo_init(struct fifo *f, uint32_t n_chunks, uint32_t *ghosts);

void fifo_add(struct fifo *f, const struct chunks *c, struct store_item *it);
void fifo_remove(struct fifo *f, const struct chunks *c, struct store_item *it);
void fifo_remember(struct fifo *f, uint32_t hash);

/* Whether nobody will be served with it any more. */
typedef bool (*fifo_useless_fn)(const void *ctx, const struct store_item *it);

/* Who should leave next; still in its queue. NULL: none at present. */
struct store_item *fifo_victim(struct fifo *f, const struct chunks *c, fifo_useless_fn useless, const void *ctx);

static inline void fifo_found(struct store_item *it)
{
	if (it->freq < ITEM_FREQ_MAX)
		it->freq++;
}

/* A new one, not added yet, takes the place of an old one. */
static inline void fifo_inherit(struct store_item *it, const struct store_item *old)
{
	if (old->state & ITEM_MAIN || old->freq > 0)
		it->state |= ITEM_MAIN;
}

#endif
