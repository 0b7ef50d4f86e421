/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests and their free list: see request.h. */
#include "request.h"

#include <stdlib.h>

#include "base/mem.h"
#include "client/near.h"
#include "client/policy.h"
#include "worker.h"

#define FREE_MAX 16384

struct request *request_make(void)
{
	return xcalloc(1, sizeof(struct request));
}

void request_free_rest(struct request_pool *pool, struct request *r)
{
	near_release(container_of(pool, struct worker, requests), r);
	buf_release(&r->reply);
	policy_fix_free(&r->fix);
}

static void free_down_to(struct request_pool *pool, unsigned n)
{
	while (pool->n_free > n) {
		struct request *r = pool->free;

		pool->free = r->next;
		pool->n_free--;
		free(r);
	}
}

void request_pool_trim(struct request_pool *pool)
{
	free_down_to(pool, FREE_MAX);
}

void request_pool_fini(struct request_pool *pool)
{
	free_down_to(pool, 0);
}
