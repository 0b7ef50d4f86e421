/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory for the pieces of one piece of work, all given back at once. What was handed out does not move. The first
 * block stays for the next time, so that the steady state calls no malloc.
 */
#ifndef KEYWEIR_ARENA_H
#define KEYWEIR_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *blocks; /* the one in use first */
};

/* n bytes, aligned for anything; aborts when memory is out. */
void *arena_alloc(struct arena *a, size_t n);

void arena_reset(struct arena *a); /* everything handed out is gone */
void arena_release(struct arena *a);

#endif
