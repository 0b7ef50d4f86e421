/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who serves what in an upstream, at one moment: its nodes, which of them are masters, which replicas stand behind
 * which master, and in a Cluster which shard has which slot. A standalone server and a Sentinel set are one shard
 * without a slot map.
 *
 * Built on the control thread, immutable once published, reference-counted by the snapshots that hold it.
 */
#ifndef KEYWEIR_TOPOLOGY_H
#define KEYWEIR_TOPOLOGY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "upstream/node.h"
#include "upstream/slot.h"

#define NO_SHARD	   UINT16_MAX
#define SHARDS_MAX	   4096
#define SHARD_REPLICAS_MAX 16

struct shard {
	struct node *master; /* a reference; NULL: there is none now */
	int any_slot;	     /* one of its slots; -1: it has none, or this is no Cluster */
	unsigned n_replicas;
	struct node *replicas[SHARD_REPLICAS_MAX]; /* references */
	_Atomic int nearest; /* read_from = "nearest": a replica, or -1 for the master; set by the control thread */
	/* Cluster: what SCAN knows the shard by, made of its members' ids (see client/scan.c); and the master's. */
	uint32_t scan_id;
	uint32_t master_id;
};

struct topology {
	atomic_uint refs;
	unsigned n_shards; /* 0: nothing is known yet */
	struct shard *shards;
	uint16_t *slots; /* SLOTS of them, shard or NO_SHARD; NULL: no Cluster */
	uint64_t epoch;	 /* Cluster: currentEpoch of the node that said so */
	char why[160];	 /* n_shards == 0: what clients are told */
};

struct topology *topology_new(unsigned n_shards, bool slots); /* one reference, slots are NO_SHARD */
struct topology *topology_ref(struct topology *t);
void topology_unref(struct topology **t);

/* One shard with one master, whose reference goes over. */
struct topology *topology_of_node(struct node *master);

/* No node is known, for this reason. */
struct topology *topology_empty(const char *why);

bool topology_same(const struct topology *a, const struct topology *b);

/* Calls fn for every node. */
void topology_each(const struct topology *t, void (*fn)(void *ctx, struct node *n, bool master), void *ctx);

#endif
