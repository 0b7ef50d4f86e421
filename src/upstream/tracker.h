/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tracking link to a node: it hears from Redis which keys have changed (CLIENT TRACKING, broadcast by prefix), and
 * keeps the node's struct truth: whether what the near-cache has of it may be served.
 * https://redis.io/docs/manual/client-side-caching/
 *
 * What the server can is found out with every connection:
 *   RESP3: HELLO 3, CLIENT TRACKING ON BCAST [PREFIX ...]; messages are pushes on the same connection
 *   RESP2: SUBSCRIBE __redis__:invalidate here, CLIENT TRACKING ON REDIRECT to it by a second connection
 *   neither: nothing is known to be true; or, with `untracked`, PING alone confirms (max_staleness)
 *
 * A Redis that was up to now a master and says that it is none, a Cluster node whose Cluster is down, and one that is
 * silent confirm nothing. Where a Cluster's node says that its slots have changed, or are on their way to another, its
 * epoch ends and the upstream's map is stale. The epoch ends, too, when SWAPDB was called (seen with Redis 7, unless
 * latency-tracking is off there). A standalone server whose role turns, or whose name has other addresses by now, is
 * connected to anew: the workers may be talking to another one.
 * What a node says of itself is asked every TRUTH_BEAT_MS, in a Cluster of more than 16 masters every two to four of
 * them: where tracker_confirm() or a PING between is sooner, that much older.
 * Control thread.
 */
#ifndef KEYWEIR_TRACKER_H
#define KEYWEIR_TRACKER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

#include "upstream/node.h"

struct tracker;

struct tracker_events {
	/* The key has changed, or is gone. */
	void (*changed)(void *ctx, struct node *n, const char *key, size_t len);
};

/* What is to be tracked; borrowed for the calls. */
struct tracker_wish {
	struct string_list prefixes; /* of keys upstream; none begins with another; one that is "" stands alone */
	bool untracked;		     /* serve also what a server can't track (max_staleness) */
};

/* Begins to connect at once; events and ctx live as long as it. */
struct tracker *tracker_new(struct event_base *base, struct node *node, const struct tracker_wish *wish,
			    const struct tracker_events *events, void *ctx);
void tracker_free(struct tracker **t); /* the truth ends */

struct node *tracker_node(const struct tracker *t);

/* Other prefixes: where they differ, everything begins anew. */
void tracker_want(struct tracker *t, const struct tracker_wish *wish);

/* Sends the PING now if somebody wants one (truth.ping_wanted). */
void tracker_confirm(struct tracker *t);

/* What it does, for people: "bcast", "redirect", "none", "lost". */
const char *tracking_mode_name(enum tracking_mode mode);

#endif
