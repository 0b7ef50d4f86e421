/* SPDX-License-Identifier: BSD-2-Clause */
/* A reply that has come: see store.h. */
#include "cache/store_private.h"

#define LARGE_US     5000000 /* for so long it is remembered that a reply is too large, if its key stays as it is */
#define LARGEST_PART 3	     /* of the store one item may have at most: a quarter of max_memory fits */

#define NEVER_US (INT64_MAX / 2)

/* ---- the new item, made before the lock is taken ---- */

static bool is_too_large(const struct store *s, const struct flight *f, const struct store_landing *landing)
{
	size_t names = f->key.len + f->request.args_len;

	if (landing->too_large || landing->len > UINT32_MAX)
		return true;
	return item_chunks_for(names + landing->len) > s->chunks.n / LARGEST_PART;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void write_item(const struct store *s, struct store_item *it, const struct flight *f,
		       const struct store_landing *landing, bool large)
{
	uint64_t race_ms = f->race_us > 0 ? (uint64_t)f->race_us / 1000 : 0;
	uint32_t next_chunk = it->next_chunk;

	*it = (struct store_item){
		.next_chunk = next_chunk,
		.hash = (uint32_t)f->key.hash,
		.upstream = f->key.upstream,
		.truth = f->truth,
		.filled_us = f->started_us,
		.expires_us = large ? landing->now_us + LARGE_US : earlier(landing->expires_us, NEVER_US),
		.reply_len = large ? 0 : (uint32_t)landing->len,
		.key_len = (uint16_t)f->key.len,
		.args_len = (uint16_t)f->request.args_len,
		.command = f->request.command,
		.db = f->request.db,
		.namespace = (uint16_t)f->namespace,
		.what = landing->any_proto ? 0 : f->request.proto & ITEM_PROTO_MASK,
		.race_ms = race_ms < UINT32_MAX ? (uint32_t)race_ms : UINT32_MAX,
	};
	if (large)
		it->what |= ITEM_TOO_LARGE;
	else if (landing->key_expires && !landing->absent)
		it->what |= ITEM_KEY_EXPIRES;
	item_write(&s->chunks, it, f->key.p, f->request.args, landing->reply);
}

/* PTTL may say 0 of a key that is still there: then what it was is the old value for race_condition_ttl. */
static bool is_of_use(const struct flight *f, const struct store_landing *landing)
{
	return landing->reply && (landing->expires_us > landing->now_us || (landing->key_expires && f->race_us > 0));
}

/* NULL: there is nothing to be kept, or no room. */
static struct store_item *make_item(struct store *s, const struct flight *f, const struct store_landing *landing)
{
	bool large = is_too_large(s, f, landing);
	size_t len = f->key.len + f->request.args_len + (large ? 0 : landing->len);
	struct chain chain = {0};
	struct store_item *it;

	if ((!large && !is_of_use(f, landing)) || atomic_load(&s->closed))
		return NULL;
	if (!store_make_room(s, &chain, (uint32_t)item_chunks_for(len)))
		return NULL;
	it = item_at(&s->chunks, chain.head);
	write_item(s, it, f, landing, large);
	return it;
}

/* ---- its place ---- */

/* What the new one stands for; and the oldest of the key, if it has as many as it may. */
static void make_way(struct store *s, struct shard *sh, const struct flight *f, struct store_item *it,
		     struct doomed *doomed)
{
	struct store_item *oldest = NULL;
	unsigned n = 0;

	for (uint32_t i = *shard_bucket(sh, it->hash); i;) {
		struct store_item *other = item_at(&s->chunks, i);
		struct store_request r = f->request;

		i = other->next;
		if (!(it->what & ITEM_PROTO_MASK)) /* it stands for those of both protocols */
			r.proto = other->what & ITEM_PROTO_MASK;
		if (item_answers(&s->chunks, other, &f->key, &r)) {
			fifo_inherit(it, other);
			shard_remove(s, sh, other, STORE_REPLACED, doomed);
		} else if (item_is_of(&s->chunks, other, &f->key)) {
			n++;
			if (!oldest || other->filled_us < oldest->filled_us)
				oldest = other;
		}
	}
	if (n >= STORE_REQUESTS_MAX)
		shard_remove(s, sh, oldest, STORE_REPLACED, doomed);
}

/*
 * The key is there no more, and old is what it was; somebody makes the new value. If that is not this flight's client,
 * it shall have the old one.
 */
static void keep_old(struct store_item *old, const struct flight *f, struct store_landed *landed,
		     struct store_item **pinned)
{
	if (!f->killed)
		old->state &= ~ITEM_RECHECK & 0xf;
	landed->makes = f->claims || !(old->state & ITEM_CLAIMED);
	old->state |= ITEM_CLAIMED;
	if (f->race && (!landed->makes || f->waiters)) {
		old->pins++;
		*pinned = old;
	}
}

/* Under the lock. Whether the new item has found its place. */
static bool settle(struct store *s, struct shard *sh, struct flight *f, const struct store_landing *landing,
		   struct store_item *it, struct store_landed *landed, struct store_item **pinned,
		   struct doomed *doomed)
{
	struct store_item *old = shard_find(s, sh, &f->key, &f->request);

	list_remove(&f->node);
	if (!landing->reply && !landing->too_large) {
		if (old && f->claims)
			old->state &= ~ITEM_CLAIMED & 0xf; /* the next one tries */
		return false;
	}
	if (old && old->filled_us > f->started_us)
		return false; /* a newer one was faster */
	if (old && landing->absent && item_in_race(old, (int64_t)old->race_ms * 1000, landing->now_us) &&
	    old->truth.node == f->truth.node && old->truth.epoch == f->truth.epoch) {
		keep_old(old, f, landed, pinned);
		return false;
	}
	if (f->killed || !it) {
		if (old)
			shard_remove(s, sh, old, STORE_REPLACED, doomed); /* whatever it was, it is no more */
		return false;
	}
	make_way(s, sh, f, it, doomed);
	shard_add(s, sh, it);
	return true;
}

static void copy_fallback(struct store *s, struct store_item *old, struct buf *out)
{
	if (buf_reserve(out, old->reply_len)) {
		item_read(&s->chunks, old, item_reply_at(old), out->data, old->reply_len);
		out->end = old->reply_len;
	}
}

void store_land(struct store *s, struct flight **flight, const struct store_landing *landing,
		struct store_landed *landed)
{
	struct flight *f = *flight;
	struct store_item *it, *pinned = NULL;
	struct doomed doomed = {0};
	struct shard *sh;

	*flight = NULL;
	*landed = (struct store_landed){0};
	if (!s) {
		landed->waiters = f->waiters;
		flight_free(&f);
		return;
	}
	sh = store_shard(s, (uint32_t)f->key.hash);
	it = make_item(s, f, landing);
	lock_take(&sh->lock);
	if (settle(s, sh, f, landing, it, landed, &pinned, &doomed)) {
		landed->kept = !(it->what & ITEM_TOO_LARGE);
		it = NULL;
	}
	landed->waiters = f->waiters;
	lock_open(&sh->lock);
	store_bury(s, &doomed);
	if (it)
		chunks_give(&s->chunks, item_index(&s->chunks, it), item_chunks(it));
	if (pinned) {
		copy_fallback(s, pinned, &landed->fallback);
		store_unpin(s, &pinned);
	}
	flight_free(&f);
}
