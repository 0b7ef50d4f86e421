/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control thread's watch over one upstream: a probe for each of its nodes, and, for a Cluster or a Sentinel set, a
 * finder that knows which nodes there are. When that changes, a new topology is told. Where the near-cache wants it,
 * a tracker for each of its masters, too.
 */
#ifndef KEYWEIR_WATCH_H
#define KEYWEIR_WATCH_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "upstream/topology.h"
#include "upstream/upstream.h"

struct command_set;
struct tracker_wish;
struct watch;

struct watch_events {
	void (*topology)(void *ctx, struct upstream *up, struct topology *topo);      /* topo is the watch's */
	void (*learnt)(void *ctx, struct command_set *set);			      /* NULL: not wanted */
	void (*changed)(void *ctx, struct upstream *up, const char *key, size_t len); /* where it is tracked */
};

struct watch *watch_new(struct event_base *base, struct upstream *up, const struct watch_events *events, void *ctx);
void watch_free(struct watch **w);

struct upstream *watch_upstream(const struct watch *w);
struct topology *watch_topology(const struct watch *w); /* the current one; no reference */

/* Looks at what workers have asked for, at the breakers, and at the replicas. Ten times a second, or sooner. */
void watch_tick(struct watch *w);

/* What trackers shall track; no prefixes: there are to be none. */
void watch_want(struct watch *w, const struct tracker_wish *wish);

/* A worker wants to know whether what a node of this upstream has said is still true. */
void watch_confirm(struct watch *w);

/* Asks for COMMAND again. */
void watch_learn(struct watch *w);

/* ---- for the finders (cluster.c, sentinel.c) ---- */

struct finder {
	/* The map may be out of date. */
	void (*stale)(struct finder *f);
	void (*free)(struct finder *f);
};

struct finder *cluster_finder(struct event_base *base, struct watch *w);
struct finder *sentinel_finder(struct event_base *base, struct watch *w);

/* A finder's topology; the reference goes over. */
void watch_found(struct watch *w, struct topology *topo);

#endif
