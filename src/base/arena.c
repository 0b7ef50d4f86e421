/* SPDX-License-Identifier: BSD-2-Clause */
/* See arena.h. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#include "base/mem.h"

#define BLOCK_BYTES ((size_t)8192)

struct arena_block {
	struct arena_block *next;
	size_t used;
	size_t size;
	alignas(max_align_t) char data[];
};

void *arena_alloc(struct arena *a, size_t n)
{
	const size_t align = alignof(max_align_t);
	struct arena_block *b = a->blocks;
	void *p;

	n = (n + align - 1) / align * align;
	if (!b || b->size - b->used < n) {
		size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;

		b = xcalloc(1, sizeof(*b) + size);
		b->size = size;
		b->next = a->blocks;
		a->blocks = b;
	}
	p = b->data + b->used;
	b->used += n;
	return p;
}

void arena_reset(struct arena *a)
{
	struct arena_block *b = a->blocks;

	/* Of several the last one, which was the first, is kept when it is of the usual size. */
	while (b && (b->next || b->size > BLOCK_BYTES)) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
	if (b)
		b->used = 0;
	a->blocks = b;
}

void arena_release(struct arena *a)
{
	arena_reset(a);
	free(a->blocks);
	a->blocks = NULL;
}
