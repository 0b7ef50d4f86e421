/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all threads read and nobody changes: the configuration, the upstream's node and the learnt commands. The
 * control thread builds a new one and hands it to every worker; the last holder frees the old one.
 */
#ifndef KEYWEIR_SNAPSHOT_H
#define KEYWEIR_SNAPSHOT_H

#include <stdatomic.h>

#include "command/command.h"
#include "config/config.h"
#include "upstream/node.h"

struct snapshot {
	atomic_uint refs;
	struct config *config;	    /* owned by shared_config below */
	atomic_uint *config_refs;   /* several snapshots may share one configuration */
	struct node *node;	    /* of [upstream.main]; a reference */
	struct command_set *learnt; /* a reference; may be NULL */
};

/* Takes ownership of config, and its own references to node and learnt. One reference. */
struct snapshot *snapshot_new(struct config *config, struct node *node, struct command_set *learnt);

/* The same configuration and node with other learnt commands. */
struct snapshot *snapshot_with_commands(const struct snapshot *old, struct command_set *learnt);

struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot **s);

#endif
