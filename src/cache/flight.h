/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A read that is under way, and who waits for its reply. It belongs to who leads it; while it is alive its shard knows
 * it as well (`node`), under the shard's lock. One that was killed is known to its leader alone, and nobody joins it.
 */
#ifndef KEYWEIR_CACHE_FLIGHT_H
#define KEYWEIR_CACHE_FLIGHT_H

#include "base/list.h"
#include "cache/store.h"

#define FLIGHT_HEADS 64 /* lists of a shard, by hash */

struct flight {
	struct list node;
	struct store_key key;	      /* its bytes are in `names` */
	struct store_request request; /* likewise */
	struct store_truth truth;
	int64_t started_us;
	int64_t race_us;
	unsigned namespace;
	bool race;   /* it found an item past its time: who joined may be given that one */
	bool claims; /* and is the one whose client makes the new value, if it finds none */
	bool killed; /* under the shard's lock */
	struct store_waiter *waiters;
	struct store_waiter **last;
	char names[];
};

/* NULL: memory is out. */
struct flight *flight_new(const struct store_ask *ask);
void flight_free(struct flight **f);

static inline struct list *flight_head(struct list *heads, uint64_t hash)
{
	return &heads[hash >> 32 & (FLIGHT_HEADS - 1)];
}

/* One that may be joined: young, with the same truth and request. */
struct flight *flight_find(struct list *heads, const struct store_ask *ask, bool race);
void flight_join(struct flight *f, struct store_waiter *w);

void flight_kill(struct flight *f);
void flight_kill_hash(struct list *heads, uint64_t hash);

#endif
