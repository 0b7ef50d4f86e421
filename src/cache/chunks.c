/* SPDX-License-Identifier: BSD-2-Clause */
/* The store's memory: see chunks.h. */
#include "cache/chunks.h"

#include <sys/mman.h>

/* How many are taken under the lock at once. */
#define TAKE_AT_ONCE 64

/* The words of a free chain's first chunk, behind the link. */
enum { CHAIN_NEXT = 1, CHAIN_LEN = 2 };

bool chunks_init(struct chunks *c, uint32_t n, size_t tables_len)
{
	size_t len = ((size_t)n + 1) * CHUNK_SIZE;
	void *p;

	*c = (struct chunks){0};
	p = mmap(NULL, len + tables_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return false;
	/* Values may be secrets. */
	madvise(p, len + tables_len, MADV_DONTDUMP);
	/* Everything here is found by chance: small pages cost a walk of the page tables each time. */
	madvise(p, len + tables_len, MADV_HUGEPAGE);
	c->base = p;
	c->mapped = len + tables_len;
	c->tables = c->base + len;
	c->n = n;
	c->fresh = 1;
	atomic_init(&c->used, 0);
	return true;
}

void chunks_fini(struct chunks *c)
{
	if (!c->base)
		return;
	munmap(c->base, c->mapped);
	c->base = NULL;
}

/* Any free chunk; 0: none. */
static uint32_t take_one(struct chunks *c)
{
	uint32_t i = c->open;

	if (c->open_n == 0) {
		uint32_t *words;

		if (c->stack == 0)
			return c->fresh <= c->n ? c->fresh++ : 0;
		i = c->stack;
		words = chunk_link(c, i);
		c->stack = words[CHAIN_NEXT];
		c->open_n = words[CHAIN_LEN];
	}
	c->open = *chunk_link(c, i);
	c->open_n--;
	return i;
}

bool chunks_take(struct chunks *c, struct chain *chain, uint32_t n)
{
	bool any = true;

	while (chain->n < n && any) {
		uint32_t taken = 0;

		lock_take(&c->lock);
		while (chain->n < n && taken < TAKE_AT_ONCE) {
			uint32_t i = take_one(c);

			any = i != 0;
			if (!any)
				break;
			if (chain->tail)
				*chunk_link(c, chain->tail) = i;
			else
				chain->head = i;
			chain->tail = i;
			chain->n++;
			taken++;
		}
		atomic_fetch_add_explicit(&c->used, taken, memory_order_relaxed);
		lock_open(&c->lock);
	}
	if (chain->tail)
		*chunk_link(c, chain->tail) = 0;
	return chain->n >= n;
}

void chunks_give(struct chunks *c, uint32_t head, uint32_t n)
{
	uint32_t *words = chunk_link(c, head);

	if (n == 0)
		return;
	words[CHAIN_LEN] = n;
	lock_take(&c->lock);
	words[CHAIN_NEXT] = c->stack;
	c->stack = head;
	atomic_fetch_sub_explicit(&c->used, n, memory_order_relaxed);
	lock_open(&c->lock);
}
