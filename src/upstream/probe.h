/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The probe: the control thread's own connection to a node. It says in the log whether the server is there, asks
 * every health_check whether it still is, and learns of it what the rest needs: version and commands.
 * RESP2 by hiredis's formatter and reader over our own socket; input is bounded.
 */
#ifndef KEYWEIR_PROBE_H
#define KEYWEIR_PROBE_H

#include <event2/event.h>

#include "upstream/node.h"

struct command_set;
struct probe;

/* learnt(ctx, set) is called with a new reference whenever COMMAND was read. Begins to connect at once. */
struct probe *probe_new(struct event_base *base, struct node *node, void (*learnt)(void *ctx, struct command_set *set),
			void *ctx);
void probe_free(struct probe **p);

/* Asks for COMMAND again. */
void probe_learn(struct probe *p);

#endif
