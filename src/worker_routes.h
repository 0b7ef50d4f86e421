/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a worker makes of a snapshot: a route for each upstream, and a pool for each node that they lead to. Pools of
 * nodes that stay are kept; the others are left, and live until their last link is gone.
 */
#ifndef KEYWEIR_WORKER_ROUTES_H
#define KEYWEIR_WORKER_ROUTES_H

#include "worker.h"

/* Routes by w->snapshot; what has changed is left. */
void worker_make_routes(struct worker *w);
void worker_leave_routes(struct worker *w);

void worker_tick_pools(struct worker *w);
void worker_free_pools(struct worker *w); /* the end */

#endif
