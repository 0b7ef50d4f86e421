/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a node says of itself: whether it is a master (ROLE), and in a Cluster whether that is well, which slots it has
 * and which of them are on their way to another (CLUSTER INFO, CLUSTER NODES). Pure: replies in. Any thread.
 *
 * Why its own line of CLUSTER NODES is needed: from the moment a slot is MIGRATING, a key that was absent may be made
 * on the other node (by way of ASK), and this one, which may have said "absent" before, tells nobody. Neither
 * CLUSTER INFO nor an epoch shows it.
 */
#ifndef KEYWEIR_NODE_LOOK_H
#define KEYWEIR_NODE_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The reply to ROLE: whether it says "master". */
bool node_look_is_master(const char *reply, size_t len);

/*
 * The reply to LATENCY HISTOGRAM swapdb (Redis 7), as a number that is another one when SWAPDB was called between.
 * SWAPDB changes every key, and CLIENT TRACKING tells nothing of it.
 */
uint64_t node_look_swaps(const char *reply, size_t len);

struct cluster_look {
	bool ok;		/* cluster_state, and it is a master */
	uint64_t current_epoch; /* of the whole Cluster */
	uint64_t my_epoch;
	uint64_t size; /* how many masters have slots */
	uint64_t line; /* hash of its own line without what changes by itself */
};

/* Fills in what each of the two replies says; false: it is no such reply. INFO comes first. */
bool node_look_cluster_info(struct cluster_look *look, const char *reply, size_t len);
bool node_look_cluster_nodes(struct cluster_look *look, const char *reply, size_t len);

/*
 * Every how many beats (TRUTH_BEAT_MS) a node is to be looked at. CLUSTER NODES has a line for each node, and is asked
 * of each master: up to 16 masters at every beat, then in proportion, at most at every fourth.
 */
unsigned node_look_beats(const struct cluster_look *look);

#endif
