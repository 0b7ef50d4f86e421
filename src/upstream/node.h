/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A node: one Redis server, as all threads see it. Address, credentials and limits never change after node_new();
 * the resolved addresses and what was learnt of the server do, under the lock. Reference-counted.
 */
#ifndef KEYWEIR_NODE_H
#define KEYWEIR_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "net/addr.h"

#define NODE_ADDRESSES_MAX 8

enum node_state { NODE_UNKNOWN, NODE_UP, NODE_DOWN };

struct node {
	atomic_uint refs;
	char *label;		     /* masked URL, for logs and people */
	struct upstream_config conf; /* its own copy of the numbers; strings are NULL but for target's */

	atomic_int n_links;   /* open connections of all workers */
	atomic_int n_general; /* those that count against `general_max` */
	int general_max;      /* pool_size less one for each worker's first shared link; at least 1 */
	atomic_int n_stuck;   /* shared links whose head takes long: Redis is busy with something */
	atomic_int n_waiting; /* clients of all workers that wait for a connection */
	atomic_bool no_resp3; /* it refused HELLO 3 */
	atomic_int state;     /* enum node_state, as the control thread's health check sees it */
	bool needs_lookup;    /* its host is a name that DNS must know */
	_Atomic int64_t resolved_us;
	atomic_ullong n_connects;
	atomic_ullong n_losses;

	pthread_mutex_t lock; /* guards what follows */
	struct address addresses[NODE_ADDRESSES_MAX];
	unsigned n_addresses;
	char version[32];     /* redis_version; "" until known */
	char server_name[16]; /* "redis" or "valkey" */
};

/* One reference. n_workers decides how many connections of pool_size are kept for shared links. */
struct node *node_new(const struct upstream_config *conf, unsigned n_workers);
struct node *node_ref(struct node *n);
void node_unref(struct node **n);

/* Whether two configurations mean the same server, login and limits (then a reload keeps the node). */
bool node_same(const struct node *n, const struct upstream_config *conf);

/*
 * Resolves the host name; blocking: called on the resolver thread, or at start. Returns 0 or a getaddrinfo error.
 * Unix sockets and addresses resolve at once.
 */
int node_resolve(struct node *n);

/* Copies the addresses known now; returns how many. */
unsigned node_addresses(struct node *n, struct address out[NODE_ADDRESSES_MAX]);

/* What runs there, as far as known; before anything is, an ordinary Redis 7. */
struct node_software {
	char version[32]; /* redis_version */
	char name[16];
	int release; /* the version as a number: 70200 for 7.2.0 */
};
struct node_software node_software(struct node *n);

/* A place for one more connection under pool_size. */
bool node_take_place(struct node *n) __attribute__((warn_unused_result));
void node_give_place(struct node *n);
bool node_has_place(const struct node *n); /* at this moment */

#endif
