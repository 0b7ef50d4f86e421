/* SPDX-License-Identifier: BSD-2-Clause */
/* The routes of a worker and the pools they lead to: see worker_routes.h. */
#include "worker_routes.h"

#include <stdlib.h>

#include "base/mem.h"
#include "client/mirror.h"
#include "upstream/route.h"

struct pool *worker_main_pool(struct worker *w)
{
	return w->only ? w->only : route_master(&w->routes[0], -1);
}

struct route *worker_route(struct worker *w, const struct upstream *up)
{
	for (size_t i = 0; i < w->n_routes; i++)
		if (w->routes[i].up == up)
			return &w->routes[i];
	return NULL;
}

/* ---- making and leaving ---- */

struct search {
	const struct node *node;
	bool found;
};

static void look_for(void *ctx, struct node *n, bool master)
{
	struct search *s = ctx;

	(void)master;
	s->found = s->found || n == s->node;
}

/* A master that has become a replica hears all messages of its Cluster as before: subscriptions stay where they are. */
static bool is_member(const struct worker *w, const struct node *n)
{
	struct search s = {n, false};

	for (size_t i = 0; i < w->n_routes; i++)
		topology_each(w->routes[i].topo, look_for, &s);
	return s.found;
}

/* Links to a server that is no longer ours answer what they have; everybody who waits tries another one. */
static void leave_pool(struct worker *w, struct pool *p)
{
	LIST_EACH (pos, next, &p->waiting) {
		struct pool_wait *wait = container_of(pos, struct pool_wait, node);

		pool_wait_cancel(wait);
		wait->resume(wait, true);
	}
	list_remove(&p->node);
	list_append(&w->old_pools, &p->node);
	/*
	 * "Disconnect all clients from the old master": Sentinel client guidelines. Where the upstream itself is gone
	 * the configuration is another one, not the master.
	 */
	p->left = worker_route(w, p->server->up) != NULL;
	if (p->server->conf->mode == UPSTREAM_SENTINEL && !p->readonly && p->left)
		pool_drop_all(p, "Sentinel says that the master is another one");
	else
		pool_retire_all(p, is_member(w, p->server));
}

void worker_leave_routes(struct worker *w)
{
	for (size_t i = 0; i < w->n_routes; i++)
		route_fini(&w->routes[i]);
	free(w->routes);
}

/*
 * One server for everything, and nothing to look at in a command to know it. Never where there is a mirror, which is
 * an upstream of its own.
 */
static struct pool *only_pool(const struct worker *w)
{
	const struct route *r = &w->routes[0];
	const struct upstream_config *conf = r->up->conf;

	if (w->n_routes > 1 || r->topo->slots || r->topo->n_shards == 0 || conf->read_from != READ_FROM_MASTER)
		return NULL;
	return r->masters[0];
}

void worker_make_routes(struct worker *w)
{
	const struct snapshot *s = w->snapshot;

	LIST_EACH (pos, next, &w->pools)
		container_of(pos, struct pool, node)->seen = false;
	w->n_routes = s->n_views;
	w->routes = xcalloc(w->n_routes, sizeof(*w->routes));
	for (size_t i = 0; i < w->n_routes; i++)
		route_init(&w->routes[i], w, s->views[i].up, s->views[i].topo);
	LIST_EACH (pos, next, &w->pools) {
		struct pool *p = container_of(pos, struct pool, node);

		if (!p->seen && w->now_us >= p->keep_until_us)
			leave_pool(w, p);
	}
	w->only = only_pool(w);
	w->generation++;
	mirror_take_routes(w);
}

void worker_tick_pools(struct worker *w)
{
	LIST_EACH (pos, next, &w->pools) {
		struct pool *p = container_of(pos, struct pool, node);

		pool_tick(p, w->now_us);
		if (!p->seen && w->now_us >= p->keep_until_us) /* a redirection named it, and no map has */
			leave_pool(w, p);
	}
	LIST_EACH (pos, next, &w->old_pools) {
		struct pool *p = container_of(pos, struct pool, node);

		pool_tick(p, w->now_us);
		if (pool_is_empty(p))
			pool_free(&p);
	}
}

static void free_pools(struct list *pools)
{
	LIST_EACH (pos, next, pools) {
		struct pool *p = container_of(pos, struct pool, node);

		pool_free(&p);
	}
}

void worker_free_pools(struct worker *w)
{
	free_pools(&w->pools);
	free_pools(&w->old_pools);
}
