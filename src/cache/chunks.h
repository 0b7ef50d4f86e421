/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store's memory: one mapping, cut in chunks of one size that are linked by their number. So nothing is ever
 * fragmented, and memory in use can be told exactly. Chunk 0 is none.
 *
 *      | chunk 0 | chunk 1 | ... | chunk n | tables of the shards |
 *
 * Free chunks lie in chains, as the items that they were; chains lie on a stack. Taking and giving are a few
 * instructions under a lock that nobody holds for longer. What was never used is used last, so that an almost empty
 * store needs almost no memory.
 * Any thread; a chunk that was taken belongs to who took it.
 */
#ifndef KEYWEIR_CACHE_CHUNKS_H
#define KEYWEIR_CACHE_CHUNKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"

#define CHUNK_SIZE 128

struct chunks {
	char *base;
	size_t mapped;
	char *tables; /* behind the chunks; zeros at first */
	uint32_t n;
	_Alignas(64) struct lock lock; /* a leaf: the rest is under it */
	uint32_t open;		       /* the chain that is being used up: its next chunk, and how many there are */
	uint32_t open_n;
	uint32_t stack;	       /* the first of the other chains */
	uint32_t fresh;	       /* from here on none was ever used */
	_Atomic uint32_t used; /* read without the lock */
};

/* Chunks in hand, linked; the last one's link is 0 when chunks_take() has said true. */
struct chain {
	uint32_t head;
	uint32_t tail;
	uint32_t n;
};

/* n chunks and tables_len bytes. False: the system does not give the address space. */
bool chunks_init(struct chunks *c, uint32_t n, size_t tables_len);
void chunks_fini(struct chunks *c);

/* Adds to the chain until it has n; false: all are in use, what there was is in the chain. */
bool chunks_take(struct chunks *c, struct chain *chain, uint32_t n);

/* Gives n chunks that begin with head. */
void chunks_give(struct chunks *c, uint32_t head, uint32_t n);

static inline char *chunk_at(const struct chunks *c, uint32_t i)
{
	return c->base + (size_t)i * CHUNK_SIZE;
}

/* Every chunk begins with the number of the next one. */
static inline uint32_t *chunk_link(const struct chunks *c, uint32_t i)
{
	return (uint32_t *)(void *)chunk_at(c, i);
}

#endif
