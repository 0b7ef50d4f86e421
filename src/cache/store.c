/* SPDX-License-Identifier: BSD-2-Clause */
/* The near-cache's memory: see store.h. Here: the store itself, and what is forgotten. */
#include "cache/store_private.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/mem.h"

#define BYTES_MIN	(64 << 10)
#define SHARD_BYTES_MIN (64 << 10)
#define FLUSH_AT_ONCE	256 /* buckets, under the lock */

/* ---- the store ---- */

static uint32_t shards_for(size_t max_bytes)
{
	uint32_t n = STORE_SHARDS_MAX;

	while (n > 1 && max_bytes / n < SHARD_BYTES_MIN)
		n /= 2;
	return n;
}

/* A shard's part of the tables behind the chunks: whole cache lines. */
static size_t tables_len(uint32_t per_shard)
{
	size_t buckets = ((size_t)per_shard * sizeof(uint32_t) + 63) & ~(size_t)63;

	return buckets + fifo_ghosts_len(per_shard);
}

static void shard_init(struct shard *sh, uint32_t per_shard, char *tables)
{
	fifo_init(&sh->fifo, per_shard, (uint32_t *)(void *)tables);
	sh->n_buckets = per_shard;
	sh->buckets = (uint32_t *)(void *)(tables + fifo_ghosts_len(per_shard));
	for (int i = 0; i < FLIGHT_HEADS; i++)
		list_init(&sh->flights[i]);
}

struct store *store_new(size_t max_bytes, size_t n_namespaces)
{
	size_t fixed, chunks, limit = (size_t)UINT32_MAX * CHUNK_SIZE;
	uint32_t n_shards, per_shard;
	struct store *s;

	if (max_bytes < BYTES_MIN)
		max_bytes = BYTES_MIN;
	if (max_bytes > limit)
		max_bytes = limit;
	n_shards = shards_for(max_bytes);
	fixed = sizeof(*s) + n_shards * sizeof(struct shard) + (n_namespaces + 1) * sizeof(struct counts);
	/* For each chunk a bucket and a ghost; what the tables' ends waste, and pages begun, is little. */
	chunks = fixed + n_shards * 256 + 8192 < max_bytes ? max_bytes - fixed - n_shards * 256 - 8192 : 0;
	per_shard = (uint32_t)(chunks / (CHUNK_SIZE + 2 * sizeof(uint32_t)) / n_shards);
	if (per_shard < GHOST_WAYS)
		per_shard = GHOST_WAYS;
	s = aligned_alloc(128, (sizeof(*s) + n_shards * sizeof(struct shard) + 127) & ~(size_t)127);
	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s) + n_shards * sizeof(struct shard));
	if (!chunks_init(&s->chunks, per_shard * n_shards, n_shards * tables_len(per_shard))) {
		free(s);
		return NULL;
	}
	s->n_shards = n_shards;
	s->bytes_fixed = fixed + n_shards * tables_len(per_shard) + CHUNK_SIZE;
	s->bytes_max = s->bytes_fixed + (size_t)s->chunks.n * CHUNK_SIZE;
	if (s->bytes_max < max_bytes)
		s->bytes_max = max_bytes; /* else there are more namespaces than memory */
	s->n_namespaces = n_namespaces;
	s->counts = aligned_alloc(sizeof(struct counts), (n_namespaces + 1) * sizeof(struct counts));
	if (!s->counts)
		abort();
	memset(s->counts, 0, (n_namespaces + 1) * sizeof(struct counts));
	atomic_init(&s->refs, 1);
	randombytes_buf(&s->seed, sizeof(s->seed));
	for (uint32_t i = 0; i < n_shards; i++)
		shard_init(&s->shards[i], per_shard, s->chunks.tables + i * tables_len(per_shard));
	return s;
}

struct store *store_ref(struct store *s)
{
	if (s)
		atomic_fetch_add(&s->refs, 1);
	return s;
}

void store_succeed(struct store *s, struct store *fresh)
{
	if (fresh)
		fresh->seed = s->seed;
	atomic_store(&s->successor, store_ref(fresh));
	atomic_store(&s->closed, true);
}

void store_unref(struct store **sp)
{
	struct store *s = *sp, *successor;

	*sp = NULL;
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	successor = atomic_load(&s->successor);
	store_unref(&successor);
	for (uint32_t i = 0; i < s->n_shards; i++) {
		for (int j = 0; j < FLIGHT_HEADS; j++)
			LIST_EACH (pos, next, &s->shards[i].flights[j])
				flight_kill(container_of(pos, struct flight, node));
	}
	chunks_fini(&s->chunks);
	free(s->counts);
	free(s);
}

uint64_t store_hash(const struct store *s, uint32_t upstream, const char *key, size_t len)
{
	return siphash13(&s->seed, key, len) ^ upstream * 0x9e3779b97f4a7c15ULL;
}

/* ---- what is forgotten ---- */

static void forget_item(struct store *s, struct shard *sh, struct store_item *it, enum store_cause cause,
			int64_t now_us, struct doomed *doomed)
{
	if (cause == STORE_TRACKED && item_in_race(it, (int64_t)it->race_ms * 1000, now_us)) {
		it->state |= ITEM_RECHECK;
		return;
	}
	fifo_remember(&sh->fifo, it->hash);
	shard_remove(s, sh, it, cause, doomed);
}

void store_forget_hash(struct store *s, uint64_t hash, enum store_cause cause, int64_t now_us)
{
	struct shard *sh = store_shard(s, (uint32_t)hash);
	struct store *successor = atomic_load_explicit(&s->successor, memory_order_acquire);
	struct doomed doomed = {0};

	if (successor)
		store_forget_hash(successor, hash, cause, now_us);
	lock_take(&sh->lock);
	flight_kill_hash(sh->flights, hash);
	for (uint32_t i = *shard_bucket(sh, (uint32_t)hash); i;) {
		struct store_item *it = item_at(&s->chunks, i);

		i = it->next;
		if (it->hash == (uint32_t)hash)
			forget_item(s, sh, it, cause, now_us, &doomed);
	}
	lock_open(&sh->lock);
	store_bury(s, &doomed);
}

void store_forget(struct store *s, const struct store_key *key, enum store_cause cause, int64_t now_us)
{
	store_forget_hash(s, key->hash, cause, now_us);
}

/* Flights first: one that begins later asks after the flush. */
static void flush_flights(struct shard *sh, store_choose_fn choose, void *ctx)
{
	lock_take(&sh->lock);
	for (int i = 0; i < FLIGHT_HEADS; i++)
		LIST_EACH (pos, next, &sh->flights[i]) {
			struct flight *f = container_of(pos, struct flight, node);

			if (!choose || choose(ctx, f->key.upstream, f->namespace, f->key.p, f->key.len))
				flight_kill(f);
		}
	lock_open(&sh->lock);
}

static uint64_t flush_bucket(struct store *s, struct shard *sh, uint32_t i, store_choose_fn choose, void *ctx,
			     char *name, struct doomed *doomed)
{
	uint64_t n = 0;

	while (i) {
		struct store_item *it = item_at(&s->chunks, i);

		i = it->next;
		if (choose) {
			item_read(&s->chunks, it, 0, name, it->key_len);
			if (!choose(ctx, it->upstream, it->namespace, name, it->key_len))
				continue;
		}
		shard_remove(s, sh, it, STORE_FLUSHED, doomed);
		n++;
	}
	return n;
}

uint64_t store_flush(struct store *s, store_choose_fn choose, void *ctx)
{
	char *name = xcalloc(1, ITEM_NAME_MAX);
	uint64_t n = 0;

	for (uint32_t k = 0; k < s->n_shards; k++) {
		struct shard *sh = &s->shards[k];

		flush_flights(sh, choose, ctx);
		for (uint32_t b = 0; b < sh->n_buckets;) {
			uint32_t end = sh->n_buckets - b < FLUSH_AT_ONCE ? sh->n_buckets : b + FLUSH_AT_ONCE;
			struct doomed doomed = {0};

			lock_take(&sh->lock);
			for (; b < end; b++)
				n += flush_bucket(s, sh, sh->buckets[b], choose, ctx, name, &doomed);
			lock_open(&sh->lock);
			store_bury(s, &doomed);
		}
	}
	free(name);
	return n;
}

/* ---- how much ---- */

size_t store_bytes(struct store *s)
{
	size_t used = atomic_load_explicit(&s->chunks.used, memory_order_relaxed);

	return s->bytes_fixed + used * CHUNK_SIZE;
}

size_t store_bytes_max(const struct store *s)
{
	return s->bytes_max;
}
