/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking for a reply: see store.h. */
#include "cache/store_private.h"

/* What an item is to who asks. */
enum standing {
	USELESS,
	GOOD,
	PAST,  /* its time is over, and that of race_condition_ttl is not */
	LARGE, /* it only says that the reply is large */
};

static inline enum standing standing_of(const struct store_item *it, const struct store_ask *ask)
{
	if (it->truth.node != ask->truth.node || it->truth.epoch != ask->truth.epoch)
		return USELESS;
	if (it->what & ITEM_TOO_LARGE)
		return ask->now_us < it->expires_us ? LARGE : USELESS;
	if (ask->newer_us && it->filled_us <= ask->newer_us)
		return USELESS;
	if (ask->now_us < it->expires_us && !(it->state & ITEM_RECHECK))
		return GOOD;
	return item_in_race(it, ask->race_us, ask->now_us) ? PAST : USELESS;
}

static inline void hand_out(const struct store *s, struct store_item *it, struct store_hit *hit)
{
	hit->len = it->reply_len;
	hit->filled_us = it->filled_us;
	if (it->reply_len <= STORE_COPY_MAX) {
		item_read(&s->chunks, it, item_reply_at(it), hit->data, it->reply_len);
	} else {
		it->pins++;
		hit->pinned = it;
	}
}

/* Evicting goes by these; being late does no harm. */
static void note_asker(struct store *s, const struct store_ask *ask)
{
	uint64_t seen = (uint64_t)ask->truth.node << 32 | ask->truth.epoch;
	_Atomic uint64_t *newest = &s->newest[ask->truth.node % STORE_NODES];

	atomic_store_explicit(&s->now_us, ask->now_us, memory_order_relaxed);
	if (atomic_load_explicit(newest, memory_order_relaxed) != seen)
		atomic_store_explicit(newest, seen, memory_order_relaxed);
}

static void lead(struct store *s, struct shard *sh, struct store_item *it, bool past, const struct store_ask *ask,
		 struct flight *f)
{
	f->race = past;
	if (past && !(it->state & ITEM_CLAIMED)) {
		uint64_t race_ms = (uint64_t)ask->race_us / 1000;

		it->state |= ITEM_CLAIMED;
		it->race_ms = race_ms < UINT32_MAX ? (uint32_t)race_ms : UINT32_MAX;
		f->claims = true;
	}
	list_prepend(flight_head(sh->flights, ask->key.hash), &f->node);
	note_asker(s, ask);
}

/*
 * Under the lock, with what was found. *f: a new flight, taken when the verdict is LEAD; NULL: there is none yet, and
 * LEAD means that one is needed.
 */
__attribute__((noinline)) static enum store_verdict judge(struct store *s, struct shard *sh, struct store_item *it,
							  const struct store_ask *ask, struct store_hit *hit,
							  struct flight *f)
{
	enum standing standing = it ? standing_of(it, ask) : USELESS;
	bool past = standing == PAST;
	struct flight *other;

	if (standing == LARGE)
		return STORE_PASS;
	if (standing == GOOD || (past && it->state & ITEM_CLAIMED && !(it->state & ITEM_RECHECK))) {
		fifo_found(it);
		hit->stale = past;
		hand_out(s, it, hit);
		return STORE_HIT;
	}
	other = ask->waiter ? flight_find(sh->flights, ask, past) : NULL;
	if (other) {
		flight_join(other, ask->waiter);
		return STORE_JOIN;
	}
	if (!ask->may_lead)
		return STORE_PASS;
	if (f)
		lead(s, sh, it, past, ask, f);
	return STORE_LEAD;
}

/* No memory is asked for under the lock; so who will probably lead comes again with a flight. */
__attribute__((noinline)) static enum store_verdict look_again(struct store *s, struct shard *sh,
							       const struct store_ask *ask, struct store_hit *hit,
							       struct flight **flight)
{
	struct flight *f = flight_new(ask);
	enum store_verdict verdict;

	if (!f)
		return STORE_PASS;
	lock_take(&sh->lock);
	verdict = judge(s, sh, shard_find(s, sh, &ask->key, &ask->request), ask, hit, f);
	lock_open(&sh->lock);
	if (verdict == STORE_LEAD) {
		hit->stale = f->race;
		*flight = f;
	} else {
		flight_free(&f);
	}
	return verdict;
}

enum store_verdict store_look(struct store *s, const struct store_ask *ask, struct store_hit *hit,
			      struct flight **flight)
{
	struct shard *sh = store_shard(s, (uint32_t)ask->key.hash);
	enum store_verdict verdict;
	struct store_item *it;

	*flight = NULL;
	hit->pinned = NULL;
	if (ask->key.len > ITEM_NAME_MAX || ask->request.args_len > ITEM_NAME_MAX ||
	    atomic_load_explicit(&s->closed, memory_order_acquire))
		return STORE_PASS;
	lock_take(&sh->lock);
	it = shard_find(s, sh, &ask->key, &ask->request);
	if (it && standing_of(it, ask) == GOOD) {
		fifo_found(it);
		hit->stale = false;
		hand_out(s, it, hit);
		lock_open(&sh->lock);
		return STORE_HIT;
	}
	verdict = judge(s, sh, it, ask, hit, NULL);
	lock_open(&sh->lock);
	return verdict == STORE_LEAD ? look_again(s, sh, ask, hit, flight) : verdict;
}

static const uint32_t *bucket_of(const struct store *s, uint64_t hash)
{
	return shard_bucket(&s->shards[hash & (s->n_shards - 1)], (uint32_t)hash);
}

void store_expect(const struct store *s, uint64_t hash)
{
	__builtin_prefetch(bucket_of(s, hash));
}

/* Without the lock: what is read is a hint only. */
__attribute__((no_sanitize("thread"))) void store_expect_item(const struct store *s, uint64_t hash)
{
	const char *item = (const char *)item_at(&s->chunks, *(const volatile uint32_t *)bucket_of(s, hash));

	__builtin_prefetch(item, 1);
	__builtin_prefetch(item + CHUNK_SIZE / 2);
}

size_t store_piece(const struct store *s, const struct store_item *item, const void **at, const char **p)
{
	return item_piece(&s->chunks, item, at, p);
}

void store_unpin(struct store *s, struct store_item **item)
{
	struct store_item *it = *item;
	struct shard *sh = store_shard(s, it->hash);
	bool last;

	*item = NULL;
	lock_take(&sh->lock);
	last = --it->pins == 0 && it->state & ITEM_GONE;
	lock_open(&sh->lock);
	if (last)
		chunks_give(&s->chunks, item_index(&s->chunks, it), item_chunks(it));
}

bool store_find_last(struct store *s, const struct store_key *key, const struct store_request *request,
		     struct store_hit *hit, struct store_last *last)
{
	struct shard *sh = store_shard(s, (uint32_t)key->hash);
	struct store_item *it;
	bool found;

	hit->pinned = NULL;
	lock_take(&sh->lock);
	it = shard_find(s, sh, key, request);
	/* Of one that was to be looked at again it is not known whether it was overwritten. */
	found = it && !atomic_load(&s->closed) && !(it->what & ITEM_TOO_LARGE) && !(it->state & ITEM_RECHECK);
	if (found) {
		fifo_found(it);
		last->truth = it->truth;
		last->expires_us = it->expires_us;
		hit->stale = true;
		hand_out(s, it, hit);
	}
	lock_open(&sh->lock);
	return found;
}
