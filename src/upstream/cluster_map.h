/* SPDX-License-Identifier: BSD-2-Clause */
/* The slot map out of what a Cluster node says. */
#ifndef KEYWEIR_CLUSTER_MAP_H
#define KEYWEIR_CLUSTER_MAP_H

#include "upstream/topology.h"
#include "upstream/upstream.h"

struct redisReply;

/*
 * From the reply to CLUSTER SHARDS (Redis 7.0) or CLUSTER SLOTS. `asked` is the node that said so: an empty endpoint
 * means its own host, "?" that it does not know, and then the address counts. Nodes are those of `up`.
 * One reference; NULL: the reply makes no sense, or names no slot.
 */
struct topology *cluster_map_of_shards(struct upstream *up, const struct node *asked, const struct redisReply *reply);
struct topology *cluster_map_of_slots(struct upstream *up, const struct node *asked, const struct redisReply *reply);

#endif
