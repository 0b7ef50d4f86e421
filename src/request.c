/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests and their free list: see request.h. */
#include "request.h"

#include <stdlib.h>

#include "base/mem.h"

#define FREE_MAX 16384

struct request *request_make(void)
{
	return xcalloc(1, sizeof(struct request));
}

void request_free(struct request_pool *pool, struct request **rp)
{
	struct request *r = *rp;

	*rp = NULL;
	if (r->reply.data)
		buf_release(&r->reply);
	if (pool->n_free >= FREE_MAX) {
		free(r);
		return;
	}
	r->next = pool->free;
	pool->free = r;
	pool->n_free++;
}

void request_pool_fini(struct request_pool *pool)
{
	while (pool->free) {
		struct request *r = pool->free;

		pool->free = r->next;
		free(r);
	}
	pool->n_free = 0;
}
