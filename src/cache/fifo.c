/* SPDX-License-Identifier: BSD-2-Clause */
/* Who leaves: see fifo.h. */
#include "cache/fifo.h"

#define SMALL_SHARE  10 /* the small queue is a tenth of the bytes */
#define PROMOTE_FREQ 1	/* found so often in the small queue, it goes on to the main one */
#define STEPS_MAX    64 /* under the lock; then it is another shard's turn */

/* ---- ghosts ---- */

size_t fifo_ghosts_len(uint32_t n_chunks)
{
	return ((size_t)n_chunks / GHOST_WAYS + 1) * GHOST_WAYS * sizeof(uint32_t);
}

void fifo_init(struct fifo *f, uint32_t n_chunks, uint32_t *ghosts)
{
	*f = (struct fifo){.ghosts = ghosts, .n_sets = n_chunks / GHOST_WAYS + 1, .full = n_chunks};
	while (n_chunks >> f->tick_bits >= 1 << 14)
		f->tick_bits++;
}

static uint32_t *ghost_set(const struct fifo *f, uint32_t hash)
{
	return f->ghosts + ((uint64_t)(hash * 0x9e3779b1U) * f->n_sets >> 32) * GHOST_WAYS;
}

static uint32_t ghost_print(uint32_t hash)
{
	uint32_t print = hash * 0x85ebca6bU >> 16;

	return print ? print : 1;
}

static uint32_t ghost_age(const struct fifo *f, uint32_t ghost)
{
	return ((f->clock >> f->tick_bits) - ghost) & 0xffff;
}

void fifo_remember(struct fifo *f, uint32_t hash)
{
	uint32_t *set = ghost_set(f, hash), print = ghost_print(hash), *place = set;

	for (int i = 0; i < GHOST_WAYS; i++) {
		if (set[i] == 0 || set[i] >> 16 == print) {
			place = &set[i];
			break;
		}
		if (ghost_age(f, set[i]) > ghost_age(f, *place))
			place = &set[i];
	}
	*place = print << 16 | (f->clock >> f->tick_bits & 0xffff);
	f->clock++;
}

/* Whether it left not long ago: at most as many have left since as a full shard has. Forgets it. */
static bool ghost_take(struct fifo *f, uint32_t hash)
{
	uint32_t *set = ghost_set(f, hash), print = ghost_print(hash);

	for (int i = 0; i < GHOST_WAYS; i++)
		if (set[i] >> 16 == print) {
			bool young = ghost_age(f, set[i]) <= f->full >> f->tick_bits;

			set[i] = 0;
			return young;
		}
	return false;
}

/* ---- queues ---- */

static void push(struct fifo_queue *q, const struct chunks *c, struct store_item *it)
{
	uint32_t i = item_index(c, it);

	it->newer = 0;
	it->older = q->newest;
	if (q->newest)
		item_at(c, q->newest)->newer = i;
	else
		q->oldest = i;
	q->newest = i;
	q->items++;
	q->chunks += item_chunks(it);
}

static void pull(struct fifo_queue *q, const struct chunks *c, struct store_item *it)
{
	if (it->newer)
		item_at(c, it->newer)->older = it->older;
	else
		q->newest = it->older;
	if (it->older)
		item_at(c, it->older)->newer = it->newer;
	else
		q->oldest = it->newer;
	q->items--;
	q->chunks -= item_chunks(it);
}

static struct fifo_queue *queue_of(struct fifo *f, const struct store_item *it)
{
	return it->state & ITEM_MAIN ? &f->main : &f->small;
}

void fifo_add(struct fifo *f, const struct chunks *c, struct store_item *it)
{
	if (ghost_take(f, it->hash))
		it->state |= ITEM_MAIN;
	push(queue_of(f, it), c, it);
}

void fifo_remove(struct fifo *f, const struct chunks *c, struct store_item *it)
{
	pull(queue_of(f, it), c, it);
}

static void to_main(struct fifo *f, const struct chunks *c, struct store_item *it)
{
	pull(queue_of(f, it), c, it);
	it->state |= ITEM_MAIN;
	push(&f->main, c, it);
}

/* The oldest of a queue, if it is of no use. */
static struct store_item *useless_end(const struct fifo_queue *q, const struct chunks *c, fifo_useless_fn useless,
				      const void *ctx)
{
	struct store_item *it = q->oldest ? item_at(c, q->oldest) : NULL;

	return it && it->pins == 0 && useless(ctx, it) ? it : NULL;
}

struct store_item *fifo_victim(struct fifo *f, const struct chunks *c, fifo_useless_fn useless, const void *ctx)
{
	f->full = f->small.items + f->main.items;
	for (int step = 0; step < STEPS_MAX; step++) {
		uint64_t all = (uint64_t)f->small.chunks + f->main.chunks;
		bool small = f->main.items == 0 || (uint64_t)f->small.chunks * 100 > all * SMALL_SHARE;
		uint32_t i = small ? f->small.oldest : f->main.oldest;
		struct store_item *it = useless_end(&f->main, c, useless, ctx);

		if (!it)
			it = useless_end(&f->small, c, useless, ctx);
		if (it)
			return it;
		if (i == 0)
			return NULL;
		it = item_at(c, i);
		if (it->pins == 0 && it->freq < (small ? PROMOTE_FREQ : 1))
			return it;
		if (small)
			it->freq = 0;
		else if (it->freq > 0)
			it->freq--;
		to_main(f, c, it);
	}
	return NULL;
}
