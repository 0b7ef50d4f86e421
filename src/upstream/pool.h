/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker's links to one node: the shared ones, the dedicated ones (idle and leased), who waits for one, and whether
 * the server is there at all.
 *
 * While the server is down (the last attempt to connect failed) requests are answered at once and one link is tried
 * again and again, after a delay that doubles with jitter. pool_size bounds all links of all workers; the first
 * shared link of each worker is always granted, everything else takes a place (node.h) or waits for one.
 * One worker's thread. Owner: the worker.
 */
#ifndef KEYWEIR_POOL_H
#define KEYWEIR_POOL_H

#include "base/list.h"
#include "upstream/link.h"

struct pool {
	struct list node; /* in worker.pools or old_pools */
	struct worker *w;
	struct node *server;   /* a reference */
	unsigned index;	       /* the worker's own small number for it: see client.lanes */
	bool readonly;	       /* reads from a replica */
	bool seen;	       /* its node is in the worker's routes */
	int64_t keep_until_us; /* learnt from a redirection: stays so long without being in the topology */
	const struct link_events *events;
	struct list shared;  /* current ones, one for each (proto, db) */
	struct list retired; /* shared ones that only answer what they have */
	struct list idle;    /* dedicated, free; least recently used first */
	struct list leased;  /* dedicated, with an owner */
	struct list special; /* hub, feeds and mirrors */
	struct list waiting; /* struct pool_wait of clients */
	struct link *first;  /* the shared link that holds the worker's reserved place */
	bool down;
	bool broken;  /* the node's circuit breaker is open: down until it closes */
	bool left;    /* its node is no longer one of its upstream's masters: who does not answer soon is given up */
	bool closing; /* node replaced: nothing new */
	int64_t backoff_ms;
	int64_t retry_at_us; /* while down: next attempt */
	struct link *probe;  /* while down: the attempt under way */
	char why[200];	     /* error line for clients while down */
};

/* A client that waits for a place; embedded in the client. */
struct pool_wait {
	struct list node;
	struct pool *pool; /* while it waits */
	int64_t deadline_us;
	void (*resume)(struct pool_wait *wait, bool granted); /* try again (true), or pool_timeout is over */
};

enum pool_status { POOL_OK, POOL_DOWN, POOL_FULL };

/* Nothing can be sent. A circuit breaker counts from the moment it opens, not from our next tick. */
static inline bool pool_is_down(const struct pool *p)
{
	return p->down || atomic_load_explicit(&p->server->broken, memory_order_relaxed);
}

struct pool *pool_new(struct worker *w, struct node *node, bool readonly, const struct link_events *events);

/*
 * Node replaced or worker stopping: idle and unused links close now, the others when they are done. keep_special: but
 * hub and feed links stay, since the node is still of use for them.
 */
void pool_retire_all(struct pool *p, bool keep_special);

/* The server is not what it was: every link closes now. */
void pool_drop_all(struct pool *p, const char *why);
bool pool_is_empty(const struct pool *p);
void pool_free(struct pool **p); /* closes whatever is left */

/* The shared link for a protocol and database, opened if there is none. */
enum pool_status pool_shared(struct pool *p, int proto, int db, struct link **out);

/* Leases a dedicated link; its db may differ when it is fresh from the idle list: then the caller selects. */
enum pool_status pool_lease(struct pool *p, int proto, int db, struct client *owner, struct link **out);

/* Gives a dedicated link back; closes it when tainted, busy or wanted elsewhere. */
void pool_release(struct pool *p, struct link *l);

/* Opens a hub or feed link. */
enum pool_status pool_special(struct pool *p, enum link_kind kind, int proto, struct link **out);

/*
 * The link for copies to a database, opened if there is none. It is never retired: a successor would overtake it.
 */
enum pool_status pool_mirror(struct pool *p, int db, struct link **out);

void pool_wait_add(struct pool *p, struct pool_wait *wait);
void pool_wait_cancel(struct pool_wait *wait); /* also when it does not wait */

/* A shared link whose head takes long: new clients get a fresh one. */
void pool_retire_shared(struct pool *p, struct link *l);

/* Time-outs of links and waiters, reconnecting, idle links, min_idle. */
void pool_tick(struct pool *p, int64_t now_us);

/* Told by links. */
void pool_link_ready(struct pool *p, struct link *l);
void pool_link_failed(struct pool *p, struct link *l); /* never became READY */
void pool_link_gone(struct pool *p, struct link *l);   /* closed, for whatever reason */

/* Somewhere a place was freed or is wanted (from other workers). */
void pool_place_freed(struct pool *p);
void pool_place_wanted(struct pool *p);

#endif
