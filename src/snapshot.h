/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all threads read and nobody changes: the configuration, the upstreams with their topologies, and the learnt
 * commands. The control thread builds a new one and hands it to every worker; the last holder frees the old one.
 */
#ifndef KEYWEIR_SNAPSHOT_H
#define KEYWEIR_SNAPSHOT_H

#include <stdatomic.h>

#include "cache/store.h"
#include "command/command.h"
#include "config/config.h"
#include "upstream/topology.h"
#include "upstream/upstream.h"

struct upstream_view {
	struct upstream *up; /* both references */
	struct topology *topo;
};

struct snapshot {
	atomic_uint refs;
	struct shared_config *holder; /* a reference */
	const struct config *config;  /* the holder's */
	struct upstream_view *views;  /* in the order of config->upstreams: [0] is main */
	size_t n_views;
	struct command_set *learnt; /* a reference; may be NULL */
	struct store *store;	    /* the near-cache; a reference; NULL: there is none */
};

/* Takes references of its own to all. One reference. */
struct snapshot *snapshot_new(struct shared_config *holder, const struct upstream_view *views, size_t n_views,
			      struct command_set *learnt, struct store *store);

/* The same with other learnt commands; with another topology of one upstream. */
struct snapshot *snapshot_with_commands(const struct snapshot *old, struct command_set *learnt);
struct snapshot *snapshot_with_topology(const struct snapshot *old, const struct upstream *up, struct topology *topo);

struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot **s);

#endif
