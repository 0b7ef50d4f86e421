/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SCAN over the shards of a Cluster, one after the other. The proxy keeps nothing: the cursor says all, as a plain
 * decimal number, so any proxy in front of the same Cluster can go on with it.
 *
 *      bits 62..43  the shard: its scan_id, which comes from the ids of its nodes and outlives a failover
 *      bits 42..35  its master, hashed: a cursor of another server means nothing, so that shard begins anew
 *      bits 34..0   Redis's own cursor there
 *
 * Shards are visited in the order of their scan_id. One that is there from the first call to the last is never
 * skipped, whatever slots move and whatever shards come or go.
 */
#ifndef KEYWEIR_CLIENT_SCAN_H
#define KEYWEIR_CLIENT_SCAN_H

#include "client/client.h"

bool scan_wanted(const struct command *cmd);
enum verdict scan(struct client *c, const struct call *call);

#endif
