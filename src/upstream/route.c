/* SPDX-License-Identifier: BSD-2-Clause */
/* An upstream as one worker sees it: see route.h. */
#include "upstream/route.h"

#include <stdlib.h>

#include "base/mem.h"
#include "worker.h"

struct pool *route_pool(struct worker *w, struct node *n, bool readonly)
{
	struct pool *p;

	LIST_EACH (pos, next, &w->pools) {
		p = container_of(pos, struct pool, node);
		if (p->server == n && p->readonly == readonly)
			return p;
	}
	p = pool_new(w, n, readonly, w->link_events);
	list_append(&w->pools, &p->node);
	return p;
}

void route_init(struct route *r, struct worker *w, struct upstream *up, struct topology *topo)
{
	r->up = upstream_ref(up);
	r->topo = topology_ref(topo);
	r->mirror = NULL;
	r->masters = topo->n_shards ? xcalloc(topo->n_shards, sizeof(struct pool *)) : NULL;
	r->replicas =
		topo->n_shards ? xcalloc((size_t)topo->n_shards * SHARD_REPLICAS_MAX, sizeof(struct pool *)) : NULL;
	for (unsigned i = 0; i < topo->n_shards; i++) {
		const struct shard *s = &topo->shards[i];

		if (s->master) {
			r->masters[i] = route_pool(w, s->master, false);
			r->masters[i]->seen = true;
		}
		/* Pools of replicas that are in use already stay. */
		for (unsigned j = 0; j < s->n_replicas; j++)
			LIST_EACH (pos, next, &w->pools) {
				struct pool *p = container_of(pos, struct pool, node);

				if (p->readonly && p->server == s->replicas[j])
					p->seen = true;
			}
	}
}

void route_fini(struct route *r)
{
	free(r->masters);
	free(r->replicas);
	topology_unref(&r->topo);
	upstream_unref(&r->up);
}

struct pool *route_master(const struct route *r, int slot)
{
	if (r->topo->slots && slot >= 0) {
		uint16_t i = r->topo->slots[slot];

		return i < r->topo->n_shards ? r->masters[i] : NULL;
	}
	for (unsigned i = 0; i < r->topo->n_shards; i++)
		if (r->masters[i] && !r->masters[i]->down)
			return r->masters[i];
	return r->topo->n_shards ? r->masters[0] : NULL;
}

struct pool *route_replica(struct route *r, struct worker *w, unsigned shard, unsigned replica)
{
	struct pool **at = &r->replicas[shard * SHARD_REPLICAS_MAX + replica];

	if (!*at) {
		*at = route_pool(w, r->topo->shards[shard].replicas[replica], true);
		(*at)->seen = true;
	}
	return *at;
}
