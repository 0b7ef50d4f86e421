/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A node: one Redis server, as all threads see it. Where it is and its limits never change; the resolved addresses and
 * what was learnt of the server do, under the lock. Made by upstream_node(). Reference-counted.
 */
#ifndef KEYWEIR_NODE_H
#define KEYWEIR_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "config/config.h"
#include "net/addr.h"
#include "net/tls.h"
#include "upstream/truth.h"

#define NODE_ADDRESSES_MAX 8

enum node_state { NODE_UNKNOWN, NODE_UP, NODE_DOWN };

/* What ROLE says. */
struct node_role {
	bool master;
	bool connected; /* a replica: to its master */
	int64_t offset; /* in the replication stream */
};

#define NODE_SAMPLES 16

struct upstream;

struct node {
	atomic_uint refs;
	uint32_t id;	    /* never used again */
	struct truth truth; /* of what it said */
	struct list in_upstream;
	struct upstream *up;		    /* a reference */
	const struct upstream_config *conf; /* the upstream's */
	char *label;			    /* "redis://host:port", for logs and people */
	char *host;			    /* a name or an address; the path of a Unix socket */
	int port;			    /* 0: Unix socket */
	struct tls_memory tls_memory;	    /* of its last session */

	atomic_int n_links;	    /* open connections of all workers */
	atomic_int n_general;	    /* those that count against `general_max` */
	int general_max;	    /* pool_size less one for each worker's first shared link; at least 1 */
	atomic_int n_stuck;	    /* shared links whose head takes long: Redis is busy with something */
	atomic_int n_waiting;	    /* clients of all workers that wait for a connection */
	atomic_int release;	    /* redis_version as a number: 70200 for 7.2.0; 0: not known yet */
	atomic_bool no_resp3;	    /* it refused HELLO 3 */
	atomic_bool readable;	    /* a replica that is connected to its master and not too far behind */
	_Atomic int64_t latency_us; /* of the health checks, smoothed; 0: not known */
	atomic_int state;	    /* enum node_state, as the control thread's health check sees it */
	bool needs_lookup;	    /* its host is a name that DNS must know */
	_Atomic int64_t resolved_us;
	atomic_bool looking_up; /* on that thread, now */
	atomic_ullong n_connects;
	atomic_ullong n_losses;

	pthread_mutex_t lock; /* guards what follows */
	struct address addresses[NODE_ADDRESSES_MAX];
	unsigned n_addresses;
	char version[32];     /* redis_version; "" until known */
	char server_name[16]; /* "redis" or "valkey" */
	bool role_known;
	struct node_role role;
	int64_t role_us;
	struct {
		int64_t at_us;
		int64_t offset;
	} samples[NODE_SAMPLES]; /* of a master's offset, a ring: how far replicas are behind is told by it */
	unsigned n_samples;

	/* The circuit breaker: see node_failed(). */
	int64_t window_us; /* when the first of n_failures was */
	int64_t n_failures;
	int64_t failed_us;
	int64_t opened_us;
	atomic_bool broken; /* open, or half open */
	atomic_ullong n_opened;
};

/* For upstream_node(): one reference, and one to u. */
struct node *node_new(struct upstream *u, const char *host, int port);
struct node *node_ref(struct node *n);
void node_unref(struct node **n);

/*
 * Resolves the host name; blocking. Returns 0 or a getaddrinfo error.
 * Unix sockets and addresses resolve at once.
 */
int node_resolve(struct node *n);

/* The same on a thread of its own, at most once a second: getaddrinfo() may take as long as it likes. Any thread. */
void node_resolve_soon(struct node *n);

/* Copies the addresses known now; returns how many. */
unsigned node_addresses(struct node *n, struct address out[NODE_ADDRESSES_MAX]);

/* What runs at n (may be NULL), as far as known; before anything is, an ordinary Redis 7. */
struct node_software {
	char version[32]; /* redis_version */
	char name[16];
	int release; /* the version as a number: 70200 for 7.2.0 */
};
struct node_software node_software(struct node *n);

/* For the probe. True: the role is another than before. */
bool node_take_role(struct node *n, const struct node_role *role);
void node_note_latency(struct node *n, int64_t us);

/*
 * How far a replica is behind its master, in ms, by what both said last; -1: it is not connected to it, or has not
 * said anything yet.
 */
int64_t node_lag_ms(struct node *replica, struct node *master);

/*
 * The circuit breaker ([upstream.NAME.circuit_breaker]): `failures` within `window` open it, and nothing is sent to
 * the server for `open_for`; then it is half open, and the probe's PING alone decides: node_heard() closes it. A
 * failure is a request that was sent and not answered in time. That connections are refused or break is no failure: the
 * pool sees to that by itself, with its back-off, and is back sooner. Each change is logged once.
 */
void node_failed(struct node *n, int64_t now_us);
void node_heard(struct node *n);

/* Open long enough: the probe may ask. */
bool node_half_open(struct node *n, int64_t now_us);

/* A place for one more connection under pool_size. */
bool node_take_place(struct node *n) __attribute__((warn_unused_result));
void node_give_place(struct node *n);
bool node_has_place(const struct node *n); /* at this moment */

#endif
