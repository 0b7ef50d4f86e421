/* SPDX-License-Identifier: BSD-2-Clause */
/* The control thread's watch over one upstream: see watch.h. */
#include "upstream/watch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "upstream/probe.h"
#include "upstream/tracker.h"

struct watch {
	struct event_base *base;
	struct upstream *up;
	const struct watch_events *events;
	void *ctx;
	struct topology *topo;
	struct finder *finder; /* NULL: standalone */
	struct probe **probes; /* one for each node of topo */
	size_t n_probes;
	struct tracker_wish wish;
	struct tracker **trackers; /* one for each master of topo, when there is something to track */
	size_t n_trackers;
};

/* ---- probes ---- */

static void probe_changed(void *ctx, struct probe *p)
{
	struct watch *w = ctx;

	(void)p;
	if (w->finder)
		w->finder->stale(w->finder);
}

static void probe_learnt(void *ctx, struct command_set *set)
{
	struct watch *w = ctx;

	w->events->learnt(w->ctx, set);
}

static const struct probe_events quiet_events = {NULL, probe_changed};
static const struct probe_events learning_events = {probe_learnt, probe_changed};

static struct probe *take_probe(struct watch *w, const struct node *n)
{
	for (size_t i = 0; i < w->n_probes; i++) {
		struct probe *p = w->probes[i];

		if (p && probe_node(p) == n) {
			w->probes[i] = NULL;
			return p;
		}
	}
	return NULL;
}

struct probes {
	struct watch *w;
	struct probe **items;
	size_t n;
};

static void count_node(void *ctx, struct node *n, bool master)
{
	(void)n;
	(void)master;
	((struct probes *)ctx)->n++;
}

/* Each node once, however often the map names it. */
static void keep_probe(void *ctx, struct node *n, bool master)
{
	struct probes *fresh = ctx;
	struct watch *w = fresh->w;
	bool learns = master && w->events->learnt;
	struct probe *p;

	for (size_t i = 0; i < fresh->n; i++)
		if (probe_node(fresh->items[i]) == n)
			return;
	p = take_probe(w, n);
	/* One that learns is enough, but any of the masters may be the one that is there. */
	if (!p)
		p = probe_new(w->base, n, learns ? &learning_events : &quiet_events, w);
	else if (learns)
		probe_tell(p, &learning_events); /* it may have been a replica's */
	fresh->items[fresh->n++] = p;
}

static void watch_nodes(struct watch *w)
{
	struct probes fresh = {w, NULL, 0};

	topology_each(w->topo, count_node, &fresh);
	fresh.items = xcalloc(fresh.n + 1, sizeof(*fresh.items));
	fresh.n = 0;
	topology_each(w->topo, keep_probe, &fresh);
	for (size_t i = 0; i < w->n_probes; i++)
		probe_free(&w->probes[i]);
	free(w->probes);
	w->probes = fresh.items;
	w->n_probes = fresh.n;
}

/* ---- trackers ---- */

static void key_changed(void *ctx, struct node *n, const char *key, size_t len)
{
	struct watch *w = ctx;

	(void)n;
	w->events->changed(w->ctx, w->up, key, len);
}

static const struct tracker_events tracker_events = {key_changed};

static bool is_master(const struct topology *t, const struct node *n)
{
	for (unsigned i = 0; i < t->n_shards; i++)
		if (t->shards[i].master == n)
			return true;
	return false;
}

static struct tracker *take_tracker(struct watch *w, const struct node *n)
{
	for (size_t i = 0; i < w->n_trackers; i++) {
		struct tracker *t = w->trackers[i];

		if (t && tracker_node(t) == n) {
			w->trackers[i] = NULL;
			return t;
		}
	}
	return NULL;
}

/* A tracker for each master; those of nodes that stay stay. */
static void track_masters(struct watch *w)
{
	unsigned n_shards = w->wish.prefixes.n > 0 ? w->topo->n_shards : 0;
	struct tracker **fresh = xcalloc(n_shards + 1, sizeof(*fresh)), *t;
	size_t n = 0;

	for (unsigned i = 0; i < n_shards; i++) {
		struct node *master = w->topo->shards[i].master;
		bool done = !master;

		for (size_t k = 0; k < n; k++)
			done = done || tracker_node(fresh[k]) == master;
		if (done)
			continue;
		t = take_tracker(w, master);
		fresh[n++] = t ? t : tracker_new(w->base, master, &w->wish, &tracker_events, w);
	}
	for (size_t i = 0; i < w->n_trackers; i++)
		tracker_free(&w->trackers[i]);
	free(w->trackers);
	w->trackers = fresh;
	w->n_trackers = n;
}

void watch_want(struct watch *w, const struct tracker_wish *wish)
{
	string_list_clear(&w->wish.prefixes);
	string_list_copy(&w->wish.prefixes, &wish->prefixes);
	w->wish.untracked = wish->untracked;
	for (size_t i = 0; i < w->n_trackers && wish->prefixes.n > 0; i++)
		tracker_want(w->trackers[i], wish);
	track_masters(w);
}

void watch_confirm(struct watch *w)
{
	for (size_t i = 0; i < w->n_trackers; i++)
		if (atomic_load(&tracker_node(w->trackers[i])->truth.ping_wanted))
			tracker_confirm(w->trackers[i]);
}

static const struct node *master_of_slot(const struct topology *t, unsigned slot)
{
	return t->slots && t->slots[slot] < t->n_shards ? t->shards[t->slots[slot]].master : NULL;
}

/* Whether it is a master of the same slots in both. */
static bool serves_the_same(const struct topology *a, const struct topology *b, const struct node *n)
{
	if (is_master(a, n) != is_master(b, n))
		return false;
	for (unsigned slot = 0; slot < SLOTS && (a->slots || b->slots); slot++)
		if ((master_of_slot(a, slot) == n) != (master_of_slot(b, slot) == n))
			return false;
	return true;
}

static void end_truth_of(const struct shard *s, const struct topology *old, const struct topology *fresh)
{
	struct node *n = s->master;

	if (n && !serves_the_same(old, fresh, n))
		truth_end(&n->truth, true, truth_held_until(&n->truth, atomic_load(&n->truth.epoch), clock_now_us()));
}

/* Keys that came to a node or left it were changed elsewhere meanwhile, and nobody was told. Each node once. */
static void end_truths(const struct topology *old, const struct topology *fresh)
{
	for (unsigned i = 0; i < old->n_shards; i++)
		end_truth_of(&old->shards[i], old, fresh);
	for (unsigned i = 0; i < fresh->n_shards; i++)
		if (!is_master(old, fresh->shards[i].master))
			end_truth_of(&fresh->shards[i], old, fresh);
}

/* Who was the nearest is so in the new map, too. */
static void keep_nearest(const struct topology *old, struct topology *fresh)
{
	for (unsigned i = 0; i < old->n_shards; i++) {
		const struct shard *s = &old->shards[i];
		int nearest = atomic_load(&s->nearest);

		for (unsigned j = 0; j < fresh->n_shards && nearest >= 0; j++)
			for (unsigned k = 0; k < fresh->shards[j].n_replicas; k++)
				if (fresh->shards[j].replicas[k] == s->replicas[nearest])
					atomic_store(&fresh->shards[j].nearest, (int)k);
	}
}

void watch_found(struct watch *w, struct topology *topo)
{
	struct topology *old = w->topo;

	if (topology_same(old, topo)) {
		old->epoch = topo->epoch > old->epoch ? topo->epoch : old->epoch;
		topology_unref(&topo);
		return;
	}
	keep_nearest(old, topo);
	end_truths(old, topo);
	w->topo = topo;
	watch_nodes(w);
	track_masters(w);
	w->events->topology(w->ctx, w->up, topo);
	topology_unref(&old);
}

/* ---- now and then ---- */

static void look_at_replica(struct watch *w, struct node *master, struct node *replica)
{
	int64_t lag_ms = node_lag_ms(replica, master);
	bool ok = atomic_load(&replica->state) == NODE_UP && lag_ms >= 0 && lag_ms <= w->up->conf->max_replica_lag_ms;

	if (atomic_exchange(&replica->readable, ok) && !ok)
		log_warn("Replica %s is not read from: it %s", replica->label,
			 lag_ms < 0 ? "has lost its master" : "is behind its master by more than max_replica_lag");
}

static int64_t latency(const struct shard *s, int i)
{
	const struct node *n = i < 0 ? s->master : s->replicas[i];
	bool there = atomic_load(&n->state) == NODE_UP && (i < 0 || atomic_load(&n->readable));
	int64_t us = atomic_load(&n->latency_us);

	return there && us > 0 ? us : INT64_MAX;
}

/* Another node is the nearest only when it is so by a fifth and a tenth of a millisecond: no flapping. */
static void choose_nearest(struct shard *s)
{
	int now = atomic_load(&s->nearest), best = now;
	int64_t now_us = latency(s, now), best_us = now_us;

	for (int i = -1; i < (int)s->n_replicas; i++) {
		int64_t us = latency(s, i);

		if (us < best_us && (now_us == INT64_MAX || (us < now_us - now_us / 5 && us < now_us - 100))) {
			best = i;
			best_us = us;
		}
	}
	atomic_store(&s->nearest, best);
}

static void look_at_replicas(struct watch *w)
{
	for (unsigned i = 0; i < w->topo->n_shards; i++) {
		struct shard *s = &w->topo->shards[i];

		for (unsigned j = 0; s->master && j < s->n_replicas; j++)
			look_at_replica(w, s->master, s->replicas[j]);
		if (s->master)
			choose_nearest(s);
	}
}

void watch_tick(struct watch *w)
{
	int64_t now_us = clock_now_us();

	if (atomic_exchange(&w->up->stale, false) && w->finder)
		w->finder->stale(w->finder);
	for (size_t i = 0; i < w->n_probes; i++)
		if (node_half_open(probe_node(w->probes[i]), now_us))
			probe_check(w->probes[i]);
	if (w->up->conf->read_from != READ_FROM_MASTER)
		look_at_replicas(w);
}

void watch_learn(struct watch *w)
{
	if (w->n_probes > 0)
		probe_learn(w->probes[0]);
}

/* ---- life ---- */

static struct topology *standalone(struct upstream *up)
{
	const struct upstream_url *t = &up->conf->target;

	return topology_of_node(upstream_node(up, t->host, t->unix_socket ? 0 : t->port));
}

struct watch *watch_new(struct event_base *base, struct upstream *up, const struct watch_events *events, void *ctx)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	w->base = base;
	w->up = upstream_ref(up);
	w->events = events;
	w->ctx = ctx;
	switch (up->conf->mode) {
	case UPSTREAM_STANDALONE:
		w->topo = standalone(up);
		break;
	case UPSTREAM_SENTINEL:
		w->topo = topology_empty("no Sentinel has named the master yet");
		w->finder = sentinel_finder(base, w);
		break;
	case UPSTREAM_CLUSTER:
		w->topo = topology_empty("no node of the Cluster has answered yet");
		w->finder = cluster_finder(base, w);
		break;
	}
	watch_nodes(w);
	return w;
}

void watch_free(struct watch **wp)
{
	struct watch *w = *wp;

	*wp = NULL;
	if (!w)
		return;
	if (w->finder)
		w->finder->free(w->finder);
	for (size_t i = 0; i < w->n_trackers; i++)
		tracker_free(&w->trackers[i]);
	free(w->trackers);
	string_list_clear(&w->wish.prefixes);
	for (size_t i = 0; i < w->n_probes; i++)
		probe_free(&w->probes[i]);
	free(w->probes);
	topology_unref(&w->topo);
	upstream_unref(&w->up);
	free(w);
}

struct upstream *watch_upstream(const struct watch *w)
{
	return w->up;
}

struct topology *watch_topology(const struct watch *w)
{
	return w->topo;
}
