/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An upstream as one worker sees it: its topology, and the worker's pool for each node of it. Made anew with every
 * snapshot; pools of nodes that stay are kept.
 * One worker's thread. Owner: the worker.
 */
#ifndef KEYWEIR_ROUTE_H
#define KEYWEIR_ROUTE_H

#include "upstream/pool.h"
#include "upstream/topology.h"
#include "upstream/upstream.h"

struct mirror;

struct route {
	struct upstream *up;	/* a reference */
	struct topology *topo;	/* a reference */
	struct pool **masters;	/* by shard; NULL: it has no master */
	struct pool **replicas; /* by shard and replica, SHARD_REPLICAS_MAX each; NULL until first used */
	struct mirror *mirror;	/* where copies of its traffic go, see client/mirror.h; NULL: nowhere */
};

/* Fills *r; both references are taken. Pools in use are marked (pool.seen). */
void route_init(struct route *r, struct worker *w, struct upstream *up, struct topology *topo);
void route_fini(struct route *r);

/* The pool of the master that serves a slot (-1: any, one that is up rather than one that is not). NULL: there is none.
 */
struct pool *route_master(const struct route *r, int slot);

/* The pool for reads from a replica, opened when it is the first; shard and replica are indices. */
struct pool *route_replica(struct route *r, struct worker *w, unsigned shard, unsigned replica);

/* The worker's pool for a node, made when there is none. */
struct pool *route_pool(struct worker *w, struct node *n, bool readonly);

#endif
