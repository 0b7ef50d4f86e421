/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker: one thread, one event base, its clients and its links. A client lives and dies on one worker, and no lock
 * is taken on the way of a request. Other threads reach a worker by its mailbox only.
 *
 * A turn of the loop: libevent's callbacks read and dispatch; then worker_end_turn() resumes clients that waited,
 * writes once for each link and client that has something to write, and frees what was closed. Nobody frees in a
 * callback: closing puts an object on a dying list.
 */
#ifndef KEYWEIR_WORKER_H
#define KEYWEIR_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/outq.h"
#include "client/near_call.h"
#include "command/command.h"
#include "policy/rewrite.h"
#include "request.h"
#include "resp/request_frame.h"
#include "snapshot.h"

#define SCRATCH_BYTES	(64 * 1024)
#define LATENCY_BUCKETS 32

struct event;
struct event_base;
struct big_keys;
struct hot_keys;
struct hub;
struct pool;
struct limit_charges;
struct limit_counts;
struct limits;
struct link_events;
struct blacklist;
struct namespace_counts;
struct near_waiter;
struct route;
struct server;
struct token_memo;
struct tokens;
struct tls_conn;

/* Counters: written by their worker only, read by anybody who sums them up. */
struct counters {
#define COUNTER(name, help) _Atomic uint64_t name;
#include "counters.def"
#undef COUNTER
	_Atomic uint64_t took[COMMAND_ID_MAX][LATENCY_BUCKETS]; /* answered commands, see client/stats.h */
};

static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline uint64_t counter_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

struct worker {
	unsigned id;
	struct server *server;
	pthread_t thread;
	struct event_base *base;
	struct event *mailbox_event;
	struct event *tick_event;
	struct event *hold_event;
	struct mailbox mailbox;
	struct snapshot *snapshot; /* a reference */
	struct route *routes;	   /* by upstream, as in the snapshot */
	size_t n_routes;
	struct pool *only;     /* where every command goes; NULL: that must be looked at */
	struct list pools;     /* links to the nodes of the routes */
	struct list old_pools; /* of nodes that are no longer wanted, until their last link is gone */
	const struct link_events *link_events;
	uint64_t generation; /* of the routes: one more with every snapshot */
	struct list parked;  /* requests to be sent again in a moment, see client/redirect.c */
	struct list mirrors; /* see client/mirror.h */
	bool mirroring;	     /* some route has a mirror */
	bool policy;	     /* requests have to be looked at for their namespaces, see client/policy.h */
	struct rewrite rewrite;
	struct name_hint name_hint;		   /* of keys of ordinary clients */
	struct buf rewritten;			   /* the request that is being dispatched, as it is upstream */
	uint64_t random;			   /* state of a generator; no secrets */
	struct namespace_counts *namespace_counts; /* by namespace.id */
	struct limits *limits;			   /* the snapshot's; NULL: no command has any */
	struct limit_counts *limit_counts;	   /* by limit_rule.id */
	struct limit_charges *limit_charges;	   /* of the command that is being looked at */
	uint64_t limit_salts[RATE_LIMITS_MAX];
	const struct tokens *tokens;   /* the snapshot's; NULL: no [token_blacklist] */
	struct blacklist *blacklist;   /* its mirror; NULL: there is none */
	struct token_memo *token_memo; /* of tokens looked up; NULL: none yet */
	struct store *near;	       /* the snapshot's; NULL: no near-cache */
	struct near_call near_call;
	struct near_waiter *near_spare;
	struct list near_waiters;	 /* see client/near_wait.h */
	struct buf near_rest;		 /* the rest of an MGET that is being dispatched */
	struct request_frame near_frame; /* of it */
	uint32_t hot_left;		 /* commands until one is looked at, see client/hot_keys.h */
	struct hot_keys *hot_keys;
	struct big_keys *big_keys;
	struct hub *hub;

	char *scratch; /* SCRATCH_BYTES, what is read lands here */
	struct chunk_pool chunks;
	struct request_pool requests;

	struct list clients;
	struct list resume;	   /* clients to go on with at the end of the turn */
	struct list dirty_clients; /* something to write */
	struct list held_clients;  /* something to write, and more is soon to come: see hold() */
	struct list dirty_links;
	struct list dying_clients;
	struct list dying_links;
	struct list limit_waiting; /* clients that wait for a lease, see client/limit.h */
	struct list monitors;	   /* clients in MONITOR */
	struct list handshakes;	   /* struct tls_conn.turn: as many steps as a turn may take */
	struct list unread;	   /* struct tls_conn.turn: input that no event tells of */

	size_t output_pause_bytes; /* a client with so much to read is not served further until it has read some */
	int64_t now_us;		   /* time at the beginning of the event under way */
	int64_t slow_us;	   /* turn in which slow commands were noted last, and how many */
	int64_t n_slow;
	int64_t idle_since_us; /* nothing was in flight since; 0: something is */
	bool fast_tick;
	bool draining; /* shutting down: no client is taken, each is closed when it has nothing under way */
	bool stop;
	int64_t drain_deadline_us;
	int64_t mirror_deadline_us; /* no client is left: copies for mirrors are waited for until then */
	int64_t client_tick_us;
	_Atomic int64_t beat_us; /* last tick, for the watchdog */
	_Atomic unsigned n_clients;
	struct counters counters;
};

/* Makes the worker (not its thread). Returns false when the system gives no event base or eventfd. */
bool worker_init(struct worker *w, unsigned id, struct server *server, struct snapshot *snapshot);
void worker_close_clients(struct worker *w); /* when its thread has ended, then what its mailbox holds; */
void worker_close_links(struct worker *w);   /* then these, of all workers, and mailboxes once more */
void worker_fini(struct worker *w);
bool worker_start(struct worker *w);

/* The pool for what has no key: a master of [upstream.main]. NULL: none is known now. */
struct pool *worker_main_pool(struct worker *w);

/* The route of an upstream; NULL: it is no more. */
struct route *worker_route(struct worker *w, const struct upstream *up);

/* Something is in flight: time-outs must be looked at often. */
void worker_wake_tick(struct worker *w);

/* on_turn of a TLS connection is called in the next turn, or when it is its turn to spend time on a handshake. */
void worker_read_soon(struct worker *w, struct tls_conn *c);
void worker_handshake_soon(struct worker *w, struct tls_conn *c);

/* An accepted socket on its way to a worker. */
struct newcomer;
struct newcomer *newcomer_new(int fd, bool tls, const char *namespace);

/* Runs fn(w, arg) on a worker's thread; any thread may ask. */
void worker_run_on(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg);

/* For worker_run_on(), from the control thread; arg is what each says. */
void worker_take_snapshot(struct worker *w, void *arg); /* a struct snapshot *, its reference goes over */
void worker_take_client(struct worker *w, void *arg);	/* a struct newcomer *, counted already */
void worker_drain(struct worker *w, void *arg);		/* milliseconds it may take */
void worker_hear(struct worker *w, void *arg);		/* an enum server_news */

static inline void worker_now(struct worker *w, int64_t now_us)
{
	w->now_us = now_us;
}

#endif
