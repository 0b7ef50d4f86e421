/* SPDX-License-Identifier: BSD-2-Clause */
/* What is in a shard, what is counted of it, and who leaves when there is no room. */
#include "cache/store_private.h"

#define EVICT_AT_ONCE 16 /* items, under the lock */

/* ---- what is in a shard ---- */

/* Of a namespace that is not known, all are counted in one place that nobody asks for. */
static struct counts *counts_of(struct store *s, unsigned namespace)
{
	return &s->counts[namespace < s->n_namespaces ? namespace : s->n_namespaces];
}

static void add(atomic_ullong *count, unsigned long long n)
{
	atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

static void sub(atomic_ullong *count, unsigned long long n)
{
	atomic_fetch_sub_explicit(count, n, memory_order_relaxed);
}

void shard_add(struct store *s, struct shard *sh, struct store_item *it)
{
	uint32_t *bucket = shard_bucket(sh, it->hash);
	struct counts *counts = counts_of(s, it->namespace);

	it->next = *bucket;
	*bucket = item_index(&s->chunks, it);
	fifo_add(&sh->fifo, &s->chunks, it);
	add(&counts->items, 1);
	add(&counts->bytes, (uint64_t)item_chunks(it) * CHUNK_SIZE);
	if (!(it->what & ITEM_TOO_LARGE))
		add(&counts->fills, 1);
}

void shard_remove(struct store *s, struct shard *sh, struct store_item *it, enum store_cause cause, struct doomed *out)
{
	uint32_t i = item_index(&s->chunks, it), *link = shard_bucket(sh, it->hash);
	struct counts *counts = counts_of(s, it->namespace);

	while (*link != i)
		link = &item_at(&s->chunks, *link)->next;
	*link = it->next;
	fifo_remove(&sh->fifo, &s->chunks, it);
	sub(&counts->items, 1);
	sub(&counts->bytes, (uint64_t)item_chunks(it) * CHUNK_SIZE);
	add(&counts->gone[cause], 1);
	it->state |= ITEM_GONE;
	if (it->pins > 0)
		return; /* store_unpin() gives it back */
	it->next = out->first;
	out->first = i;
}

void store_bury(struct store *s, struct doomed *doomed)
{
	while (doomed->first) {
		struct store_item *it = item_at(&s->chunks, doomed->first);

		doomed->first = it->next;
		chunks_give(&s->chunks, item_index(&s->chunks, it), item_chunks(it));
	}
}

/* ---- who leaves when there is no room ---- */

struct useless {
	const struct store *store;
	int64_t now_us;
};

static bool is_useless(const void *ctx, const struct store_item *it)
{
	const struct useless *u = ctx;
	uint64_t newest = atomic_load_explicit(&u->store->newest[it->truth.node % STORE_NODES], memory_order_relaxed);

	if (newest >> 32 == it->truth.node && (int32_t)((uint32_t)newest - it->truth.epoch) > 0)
		return true;
	return u->now_us >= it->expires_us + (int64_t)it->race_ms * 1000;
}

/* Takes some out of one shard, so that about n chunks become free. Whether there were any. */
static bool evict_from(struct store *s, struct shard *sh, uint32_t n)
{
	struct useless ctx = {s, atomic_load_explicit(&s->now_us, memory_order_relaxed)};
	struct doomed doomed = {0};
	uint32_t freed = 0;

	lock_take(&sh->lock);
	for (int i = 0; i < EVICT_AT_ONCE && freed < n; i++) {
		struct store_item *it = fifo_victim(&sh->fifo, &s->chunks, is_useless, &ctx);
		enum store_cause cause = STORE_EVICTED;

		if (!it)
			break;
		freed += item_chunks(it);
		if (ctx.now_us >= it->expires_us)
			cause = STORE_EXPIRED;
		else if (is_useless(&ctx, it))
			cause = STORE_OUTDATED;
		if (cause != STORE_EVICTED || !(it->state & ITEM_MAIN))
			fifo_remember(&sh->fifo, it->hash);
		shard_remove(s, sh, it, cause, &doomed);
	}
	lock_open(&sh->lock);
	store_bury(s, &doomed);
	return freed > 0;
}

bool store_make_room(struct store *s, struct chain *chain, uint32_t n)
{
	/* All may be pinned. */
	for (unsigned in_vain = 0; in_vain < 4 * s->n_shards;) {
		uint32_t turn, missing;

		if (chunks_take(&s->chunks, chain, n))
			return true;
		/* From each shard a little, so that all stay alike. */
		turn = atomic_fetch_add_explicit(&s->evict_next, 1, memory_order_relaxed);
		missing = n - chain->n;
		if (!evict_from(s, &s->shards[turn & (s->n_shards - 1)], missing / 16 + 1))
			in_vain++;
	}
	if (chain->n > 0)
		chunks_give(&s->chunks, chain->head, chain->n);
	return false;
}

/* ---- what is counted ---- */

void store_counts(struct store *s, unsigned namespace, struct store_counts *out)
{
	const struct counts *c = counts_of(s, namespace);

	*out = (struct store_counts){
		.items = atomic_load_explicit(&c->items, memory_order_relaxed),
		.bytes = atomic_load_explicit(&c->bytes, memory_order_relaxed),
		.fills = atomic_load_explicit(&c->fills, memory_order_relaxed),
	};
	for (int i = 0; i < STORE_CAUSES; i++)
		out->gone[i] = atomic_load_explicit(&c->gone[i], memory_order_relaxed);
}
