/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole daemon as its threads see it: the workers, the control thread's mailbox, and the few things they share.
 * Built by main() and handed down. What has no lock here is atomic or never changes after the workers are started.
 */
#ifndef KEYWEIR_SERVER_H
#define KEYWEIR_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "policy/buckets.h"
#include "snapshot.h"

struct client;
struct control;
struct sliding;
struct leases;
struct slowlog;
struct stats;
struct subscriptions;
struct worker;

enum pause_mode { PAUSE_NONE, PAUSE_WRITE, PAUSE_ALL };

/* Of one rate limit on connections; written by the control thread. */
struct connection_counts {
	_Atomic uint64_t allowed, rejected, would;
};

struct server {
	struct worker *workers;
	unsigned n_workers;
	struct mailbox control_mailbox;
	struct control *control;
	struct slowlog *slowlog;
	struct stats *stats;
	struct subscriptions *subscriptions;
	struct leases *leases; /* what of rate limits that are shared is at hand here */
	unsigned char limit_seed[BUCKETS_SEED_BYTES];
	struct sliding *sliding; /* when keys of sliding namespaces were renewed */
	int64_t start_us;	 /* monotonic */
	char node_id[41];	 /* our name as a Cluster of one node */
	_Atomic uint64_t next_client_id;
	atomic_uint n_clients;
	atomic_uint max_clients;
	atomic_uint n_monitors;
	atomic_int pause_mode;					     /* enum pause_mode, CLIENT PAUSE */
	_Atomic int64_t pause_end_us;				     /* monotonic */
	_Atomic uint64_t rejected;				     /* connections over max_clients */
	struct connection_counts connection_counts[RATE_LIMITS_MAX]; /* by limit_rule.id */
	_Atomic uint64_t reloads;
	_Atomic int64_t learn_us;     /* when COMMAND was last asked for because of an unknown command */
	_Atomic uint64_t ops_per_sec; /* sampled by the control thread */
};

enum server_news { SERVER_PLACE_FREED, SERVER_PLACE_WANTED, SERVER_PAUSE_CHANGED };

/* Tells all workers, but for `except` (may be NULL), something. Any thread. */
void server_tell_workers(struct server *s, struct worker *except, enum server_news news);

/* KEYWEIR RELOAD: done on the control thread, then told to the worker that asked. */
struct server_reload {
	struct message message;
	struct worker *asker;
	bool ok;
	char error[256];
	void (*done)(struct server_reload *reload); /* on the asker */
};
void server_ask_reload(struct server *s, struct server_reload *reload);

/* A worker's loop has ended (after a drain). */
void server_worker_stopped(struct server *s);

/* A worker has marked an upstream's map as stale: the control thread looks at once. Any thread. */
void server_ask_topology(struct server *s);

/* A worker has set ping_wanted in a node's truth, where it was not set: the node is asked at once. Any thread. */
void server_ask_confirmation(struct server *s);

/* A token's key (of malloc, taken over), which is upstream, was written: Redis must be asked. Any thread. */
void server_ask_token(struct server *s, char *key, size_t len);

/* TOKEN.COUNT while the list is not in memory, or parts of it are in doubt: done on the control thread, then told to
 * the worker that asked. */
struct server_token_count {
	struct message message;
	struct worker *asker;
	struct list node; /* in the control thread's list of those that wait */
	size_t n;
	char error[256];				  /* "": none */
	void (*done)(struct server_token_count *count);	  /* on the asker */
	void (*forget)(struct server_token_count *count); /* it is no more: frees it */
};
void server_count_tokens(struct server *s, struct server_token_count *count);

/* An unknown command was seen: learn the upstream's COMMAND again, at most once a second. Any thread. */
void server_ask_learn(struct server *s);

/*
 * Runs collect(w, job) on every worker, then done(job) on the worker that asked. The job's memory is the caller's
 * until done() frees it. For what needs all workers: CLIENT LIST, CLIENT KILL ...
 */
struct gather {
	struct message message; /* travels back */
	struct worker *asker;
	atomic_uint left;
	void (*collect)(struct worker *w, struct gather *g); /* on each worker; may run at the same time */
	void (*done)(struct gather *g);			     /* on the asker */
};
void server_gather(struct server *s, struct worker *asker, struct gather *g);

#endif
