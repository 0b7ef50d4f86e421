/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker's links to one node: see pool.h. */
#include "upstream/pool.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "resp/errors.h"
#include "server.h"
#include "worker.h"

#define IDLE_MAX_US 60000000

static bool index_taken(const struct list *pools, unsigned index)
{
	for (const struct list *pos = pools->next; pos != pools; pos = pos->next)
		if (container_of(pos, struct pool, node)->index == index)
			return true;
	return false;
}

struct pool *pool_new(struct worker *w, struct node *node, bool readonly, const struct link_events *events)
{
	struct pool *p = xcalloc(1, sizeof(*p));

	p->w = w;
	p->readonly = readonly;
	while (index_taken(&w->pools, p->index) || index_taken(&w->old_pools, p->index))
		p->index++;
	p->server = node_ref(node);
	p->events = events;
	list_init(&p->node);
	list_init(&p->shared);
	list_init(&p->retired);
	list_init(&p->idle);
	list_init(&p->leased);
	list_init(&p->special);
	list_init(&p->waiting);
	return p;
}

/* Applies fn to every link of a list; fn may close the link. */
static void each_link(struct list *head, void (*fn)(struct link *l, int64_t arg), int64_t arg)
{
	LIST_EACH (pos, next, head)
		fn(container_of(pos, struct link, node), arg);
}

static void close_stopping(struct link *l, int64_t arg)
{
	(void)arg;
	link_drop(l, "shutting down");
}

static void retire(struct link *l, int64_t arg)
{
	(void)arg;
	pool_retire_shared(l->pool, l);
}

void pool_retire_all(struct pool *p, bool keep_special)
{
	p->closing = true;
	each_link(&p->shared, retire, 0);
	each_link(&p->idle, close_stopping, 0);
	if (!keep_special)
		each_link(&p->special, close_stopping, 0);
}

void pool_drop_all(struct pool *p, const char *why)
{
	struct list *all[] = {&p->shared, &p->retired, &p->idle, &p->leased, &p->special};

	p->closing = true;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		while (!list_empty(all[i]))
			link_close(container_of(all[i]->next, struct link, node), why);
}

bool pool_is_empty(const struct pool *p)
{
	return list_empty(&p->shared) && list_empty(&p->retired) && list_empty(&p->idle) && list_empty(&p->leased) &&
	       list_empty(&p->special);
}

void pool_free(struct pool **pp)
{
	struct pool *p = *pp;
	struct list *all[] = {&p->shared, &p->retired, &p->idle, &p->leased, &p->special};

	*pp = NULL;
	p->closing = true;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		each_link(all[i], close_stopping, 0);
	LIST_EACH (pos, next, &p->w->dying_links) {
		struct link *l = container_of(pos, struct link, node);

		if (l->pool == p)
			link_free(&l);
	}
	list_remove(&p->node);
	node_unref(&p->server);
	free(p);
}

/* Takes a place under pool_size, closing an idle link of ours if that helps. */
static bool take_place(struct pool *p)
{
	if (node_take_place(p->server))
		return true;
	if (list_empty(&p->idle))
		return false;
	link_drop(container_of(p->idle.next, struct link, node), "its place is needed");
	return node_take_place(p->server);
}

enum pool_status pool_shared(struct pool *p, int proto, int db, struct link **out)
{
	bool reserved = !p->first;

	LIST_EACH (pos, next, &p->shared) {
		struct link *l = container_of(pos, struct link, node);

		if (l->proto == proto && l->db == db) {
			*out = l;
			return pool_is_down(p) ? POOL_DOWN : POOL_OK;
		}
	}
	if (pool_is_down(p) || p->closing || (proto == 3 && atomic_load(&p->server->no_resp3)))
		return POOL_DOWN;
	if (!reserved && !take_place(p))
		return POOL_FULL;
	*out = link_open(p, LINK_SHARED, proto, db);
	(*out)->counted = !reserved;
	if (reserved)
		p->first = *out;
	list_append(&p->shared, &(*out)->node);
	return POOL_OK;
}

static struct link *find_idle(struct pool *p, int proto, int db)
{
	struct link *other_db = NULL;

	for (struct list *pos = p->idle.prev; pos != &p->idle; pos = pos->prev) {
		struct link *l = container_of(pos, struct link, node);

		if (l->proto != proto)
			continue;
		if (l->db == db)
			return l;
		if (!other_db)
			other_db = l;
	}
	return other_db;
}

enum pool_status pool_lease(struct pool *p, int proto, int db, struct client *owner, struct link **out)
{
	struct link *l;

	if (pool_is_down(p) || p->closing || (proto == 3 && atomic_load(&p->server->no_resp3)))
		return POOL_DOWN;
	l = find_idle(p, proto, db);
	if (!l) {
		if (!take_place(p))
			return POOL_FULL;
		l = link_open(p, LINK_DEDICATED, proto, db);
		l->counted = true;
	}
	list_remove(&l->node);
	list_append(&p->leased, &l->node);
	l->owner = owner;
	*out = l;
	return POOL_OK;
}

static enum pool_status open_special(struct pool *p, enum link_kind kind, int proto, int db, struct link **out)
{
	if (pool_is_down(p) || p->closing)
		return POOL_DOWN;
	if (!take_place(p))
		return POOL_FULL;
	*out = link_open(p, kind, proto, db);
	(*out)->counted = true;
	list_append(&p->special, &(*out)->node);
	return POOL_OK;
}

enum pool_status pool_special(struct pool *p, enum link_kind kind, int proto, struct link **out)
{
	return open_special(p, kind, proto, 0, out);
}

enum pool_status pool_mirror(struct pool *p, int db, struct link **out)
{
	LIST_EACH (pos, next, &p->special) {
		struct link *l = container_of(pos, struct link, node);

		if (l->kind == LINK_MIRROR && l->db == db) {
			*out = l;
			return POOL_OK;
		}
	}
	return open_special(p, LINK_MIRROR, 2, db, out);
}

/* Whether answers are owed to somebody: those that are dropped keep nobody waiting. */
static bool is_owed(const struct link *l)
{
	for (const struct request *r = l->head; r; r = r->next_in_link)
		if (r->client || r->cmd)
			return true;
	return false;
}

void pool_release(struct pool *p, struct link *l)
{
	assert(l->kind == LINK_DEDICATED);
	l->owner = NULL;
	if (l->state == LINK_CLOSED)
		return;
	if (l->tainted || l->state != LINK_READY || p->closing || l->out.bytes > 0 || l->paused ||
	    reply_frame_busy(&l->rf) || is_owed(l)) {
		link_drop(l, l->tainted ? "left in a state of its own" : "left while busy");
		return;
	}
	list_remove(&l->node);
	list_append(&p->idle, &l->node);
	l->idle_us = p->w->now_us;
	if (!list_empty(&p->waiting))
		pool_place_freed(p);
	else if (atomic_load(&p->server->n_waiting) > 0)
		pool_place_wanted(p);
}

void pool_wait_add(struct pool *p, struct pool_wait *wait)
{
	list_append(&p->waiting, &wait->node);
	wait->pool = p;
	wait->deadline_us = p->w->now_us + p->server->conf->pool_timeout_ms * 1000;
	atomic_fetch_add(&p->server->n_waiting, 1);
	worker_wake_tick(p->w);
	/* One that was given back between our look and our waiting was told to nobody. */
	if (node_has_place(p->server))
		pool_place_freed(p);
	else
		server_tell_workers(p->w->server, p->w, SERVER_PLACE_WANTED);
}

void pool_wait_cancel(struct pool_wait *wait)
{
	if (!list_is_linked(&wait->node))
		return;
	list_remove(&wait->node);
	atomic_fetch_sub(&wait->pool->server->n_waiting, 1);
	wait->pool = NULL;
}

void pool_place_freed(struct pool *p)
{
	struct pool_wait *wait;

	if (list_empty(&p->waiting))
		return;
	wait = container_of(p->waiting.next, struct pool_wait, node);
	pool_wait_cancel(wait);
	wait->resume(wait, true);
}

void pool_place_wanted(struct pool *p)
{
	if (!list_empty(&p->idle) && list_empty(&p->waiting))
		link_drop(container_of(p->idle.next, struct link, node), "its place is needed by another worker");
}

static void to_retired(struct pool *p, struct link *l, const char *why)
{
	l->retired = true;
	atomic_fetch_add(&p->server->n_stuck, 1);
	list_remove(&l->node);
	list_append(&p->retired, &l->node);
	if (l->n_queue == 0)
		link_drop(l, why);
}

void pool_retire_shared(struct pool *p, struct link *l)
{
	if (l->retired)
		return;
	/* The successor needs a place: without one the old link goes on. */
	if (p->first == l && !p->closing) {
		if (!take_place(p))
			return;
		l->counted = true;
		p->first = NULL;
	}
	to_retired(p, l, "retired");
}

/* ---- what links tell ---- */

void pool_link_ready(struct pool *p, struct link *l)
{
	atomic_fetch_add(&p->server->n_connects, 1);
	if (p->probe == l)
		p->probe = NULL;
	if (p->broken)
		return;
	if (p->down)
		log_debug("Worker %u: %s is back", p->w->id, p->server->label);
	p->down = false;
	p->backoff_ms = 0;
}

/* A delay of half to all of the back-off, so that many proxies do not come back in step. */
static int64_t jitter_us(int64_t ms)
{
	return ms * 500 + (int64_t)randombytes_uniform((uint32_t)(ms * 500 + 1));
}

void pool_link_failed(struct pool *p, struct link *l)
{
	const struct upstream_config *conf = p->server->conf;

	if (p->closing)
		return;
	/* A server without RESP3, or one database out of range, is not a server that is down. */
	if (l->state == LINK_CLOSED && l->n_steps > 0 && l->step == l->n_steps - 1 && l->db != 0)
		return;
	if (l->proto == 3 && atomic_load(&p->server->no_resp3))
		return;
	if (strncmp(l->why, "BUSY", 4) == 0 || strncmp(l->why, "LOADING", 7) == 0)
		return;
	p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : conf->reconnect_delay_ms;
	if (p->backoff_ms > conf->reconnect_delay_max_ms)
		p->backoff_ms = conf->reconnect_delay_max_ms;
	p->retry_at_us = clock_now_us() + jitter_us(p->backoff_ms);
	p->down = true;
	if (!p->broken)
		snprintf(p->why, sizeof(p->why), "%s: %s", reply_error_text(ERROR_UPSTREAM_DOWN), l->why);
	node_resolve_soon(p->server);
}

void pool_link_gone(struct pool *p, struct link *l)
{
	if (p->first == l)
		p->first = NULL;
	if (p->probe == l)
		p->probe = NULL;
	if (l->retired)
		atomic_fetch_sub(&p->server->n_stuck, 1);
	if (!l->counted)
		return;
	node_give_place(p->server);
	if (atomic_load(&p->server->n_waiting) > 0)
		server_tell_workers(p->w->server, NULL, SERVER_PLACE_FREED);
}

/* ---- time ---- */

static void tick_link(struct link *l, int64_t now_us)
{
	link_tick(l, now_us);
}

static void tick_idle(struct link *l, int64_t now_us)
{
	struct pool *p = l->pool;

	if (l->state != LINK_READY || l->io.fd < 0) {
		link_tick(l, now_us);
		return;
	}
	if (now_us - l->idle_us > IDLE_MAX_US && atomic_load(&p->server->n_links) > p->server->conf->min_idle)
		link_drop(l, "idle");
}

static void tick_waiting(struct pool *p, int64_t now_us)
{
	LIST_EACH (pos, next, &p->waiting) {
		struct pool_wait *wait = container_of(pos, struct pool_wait, node);

		if (p->down || now_us >= wait->deadline_us) {
			pool_wait_cancel(wait);
			wait->resume(wait, p->down);
		}
	}
}

/* Keeps min_idle connections open, of all workers together. */
static void keep_min_idle(struct pool *p)
{
	struct link *l;

	if (p->down || p->closing || atomic_load(&p->server->n_links) >= p->server->conf->min_idle)
		return;
	if (!p->first) {
		if (pool_shared(p, 2, 0, &l) == POOL_OK)
			return;
	} else if (take_place(p)) {
		l = link_open(p, LINK_DEDICATED, 2, 0);
		l->counted = true;
		l->idle_us = p->w->now_us;
		list_append(&p->idle, &l->node);
	}
}

static void try_again(struct pool *p, int64_t now_us)
{
	struct link *l;

	if (!p->down || p->broken || p->probe || p->closing || now_us < p->retry_at_us)
		return;
	l = p->first;
	if (!l) {
		l = link_open(p, LINK_SHARED, 2, 0);
		list_append(&p->shared, &l->node);
		p->first = l;
	}
	if (l->state != LINK_READY)
		p->probe = l;
	else
		p->down = false;
}

/* No place is asked for a successor: nothing is sent until the breaker closes, and then the old ones are gone. */
static void retire_for_good(struct link *l, int64_t arg)
{
	struct pool *p = l->pool;

	(void)arg;
	if (p->first == l)
		p->first = NULL;
	to_retired(p, l, "its circuit breaker is open");
}

/* The breaker is the node's; each pool follows it. */
static void look_at_breaker(struct pool *p)
{
	bool broken = atomic_load(&p->server->broken);

	if (broken == p->broken)
		return;
	p->broken = broken;
	p->down = broken;
	p->backoff_ms = 0;
	if (!broken)
		return;
	snprintf(p->why, sizeof(p->why), "%s: its circuit breaker is open", reply_error_text(ERROR_UPSTREAM_DOWN));
	each_link(&p->shared, retire_for_good, 0);
}

void pool_tick(struct pool *p, int64_t now_us)
{
	look_at_breaker(p);
	try_again(p, now_us);
	each_link(&p->shared, tick_link, now_us);
	each_link(&p->retired, tick_link, now_us);
	each_link(&p->leased, tick_link, now_us);
	each_link(&p->special, tick_link, now_us);
	each_link(&p->idle, tick_idle, now_us);
	tick_waiting(p, now_us);
	keep_min_idle(p);
}
