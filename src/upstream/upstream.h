/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An upstream ([upstream.NAME]): its configuration, and every node of it that is in use, by address. The same server
 * is the same struct node, however often it is named (by the map, by MOVED, by Sentinel), so its connections, limits
 * and health are counted once.
 * Reference-counted; lives as long as its configuration does not change. Any thread.
 */
#ifndef KEYWEIR_UPSTREAM_H
#define KEYWEIR_UPSTREAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "config/config.h"
#include "net/tls.h"
#include "policy/namespace.h"
#include "policy/seal.h"
#include "upstream/loaded.h"
#include "upstream/node.h"

struct limits;
struct blacklist;

struct upstream {
	atomic_uint refs;
	uint32_t id;		      /* never used again */
	struct shared_config *holder; /* keeps conf alive */
	const struct upstream_config *conf;
	struct tls *tls; /* the holder's; NULL: plain */
	unsigned n_workers;
	pthread_mutex_t lock; /* guards nodes */
	struct list nodes;    /* struct node.in_upstream; no references */
	struct loaded *loaded;
	atomic_bool stale; /* somebody was redirected, or lost a node: the map must be fetched again */
	_Atomic uint64_t redirects;
	_Atomic uint64_t refreshes;
};

/* A configuration, and what is made of it, that several snapshots and upstreams hold. */
struct shared_config {
	atomic_uint refs;
	struct config *config;
	struct tls *server_tls;	   /* NULL: no "tls:" listener */
	struct tls **upstream_tls; /* by config->upstreams; NULL: plain */
	struct keyring *keyring;
	struct tokens *tokens;	     /* NULL: no [token_blacklist] */
	struct blacklist *blacklist; /* its mirror, a reference; NULL: there is none */
	struct namespaces *namespaces;
	struct limits *limits; /* NULL: there are no rate limits */
};

/* Takes config over, also when it fails: NULL with a text in why. One reference. */
struct shared_config *shared_config_new(struct config *config, char *why, size_t why_size);
struct shared_config *shared_config_ref(struct shared_config *s);
void shared_config_unref(struct shared_config **s);

/* conf is one of holder's. One reference. */
struct upstream *upstream_new(struct shared_config *holder, const struct upstream_config *conf, unsigned n_workers);
struct upstream *upstream_ref(struct upstream *u);
void upstream_unref(struct upstream **u);

/* Whether two configurations mean the same servers, login and limits (then a reload keeps the upstream). */
bool upstream_same(const struct upstream_config *a, const struct upstream_config *b);

/*
 * The node at this address, made when there is none yet; a reference. host: a name, an address without brackets, or
 * the path of a Unix socket (port 0).
 */
struct node *upstream_node(struct upstream *u, const char *host, int port);

/* The same by "host:port", "[::1]:port" or "host". */
struct node *upstream_node_at(struct upstream *u, const char *text, int default_port);

#endif
