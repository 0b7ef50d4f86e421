/* SPDX-License-Identifier: BSD-2-Clause */
/* See buckets.h. */
#include "policy/buckets.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"

#define WAYS	 16		   /* so that nearly all places are used before some must be shared */
#define N_SETS	 ((size_t)1 << 14) /* 262,144 places, 4 MB, as far as they are touched */
#define N_SHARDS 64

struct bucket {
	uint64_t hash; /* 0: nobody's */
	int64_t tat;
};

struct set {
	struct bucket places[WAYS];
};

struct shard {
	_Alignas(64) pthread_mutex_t lock; /* over the sets whose number ends alike */
};

static_assert(BUCKETS_SEED_BYTES == crypto_shorthash_KEYBYTES, "it is the key");

struct buckets {
	atomic_uint refs;
	struct shard shards[N_SHARDS];
	struct set *sets;
};

struct buckets *buckets_new(void)
{
	struct buckets *b = aligned_alloc(_Alignof(struct shard), sizeof(*b));

	if (!b)
		abort();
	atomic_init(&b->refs, 1);
	for (size_t i = 0; i < N_SHARDS; i++)
		pthread_mutex_init(&b->shards[i].lock, NULL);
	b->sets = xcalloc(N_SETS, sizeof(*b->sets));
	return b;
}

struct buckets *buckets_ref(struct buckets *b)
{
	atomic_fetch_add(&b->refs, 1);
	return b;
}

void buckets_unref(struct buckets **bp)
{
	struct buckets *b = *bp;

	*bp = NULL;
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	for (size_t i = 0; i < N_SHARDS; i++)
		pthread_mutex_destroy(&b->shards[i].lock);
	free(b->sets);
	free(b);
}

uint64_t buckets_hash(const unsigned char *seed, uint64_t salt, const void *subject, size_t len)
{
	unsigned char hash[crypto_shorthash_BYTES];
	uint64_t h = 0;

	crypto_shorthash(hash, subject, len, seed);
	for (size_t i = 0; i < sizeof(hash); i++)
		h = h << 8 | hash[i];
	h ^= salt;
	return h ? h : 1;
}

/* The place of this hash, or one for it. */
static struct bucket *find(struct set *set, uint64_t hash, int64_t now_ns)
{
	struct bucket *best = &set->places[0];

	for (size_t i = 0; i < WAYS; i++) {
		if (set->places[i].hash == hash)
			return &set->places[i];
		if (set->places[i].tat < best->tat)
			best = &set->places[i];
	}
	if (best->hash == 0 || best->tat <= now_ns)
		*best = (struct bucket){hash, 0};
	return best;
}

static struct set *lock_set(struct buckets *b, uint64_t hash, struct shard **shard)
{
	size_t i = (size_t)(hash >> 32) % N_SETS;

	*shard = &b->shards[i % N_SHARDS];
	pthread_mutex_lock(&(*shard)->lock);
	return &b->sets[i];
}

int64_t buckets_take(struct buckets *b, uint64_t hash, const struct gcra *g, int64_t n, int64_t now_ns,
		     int64_t max_wait_ns)
{
	struct shard *shard;
	struct bucket *place = find(lock_set(b, hash, &shard), hash, now_ns);
	int64_t wait = gcra_wait(g, place->tat, now_ns, n);

	if (wait <= max_wait_ns)
		place->tat = gcra_come(g, place->tat, now_ns, n);
	pthread_mutex_unlock(&shard->lock);
	return wait <= max_wait_ns ? wait : -1 - wait;
}

void buckets_give_back(struct buckets *b, uint64_t hash, const struct gcra *g, int64_t n)
{
	struct shard *shard;
	struct set *set = lock_set(b, hash, &shard);

	/* In a place that was shared it can't be found again, and stays owed. */
	for (size_t i = 0; i < WAYS; i++)
		if (set->places[i].hash == hash)
			set->places[i].tat -= gcra_span(g, n);
	pthread_mutex_unlock(&shard->lock);
}
