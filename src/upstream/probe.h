/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The probe: the control thread's own connection to a node. It says in the log whether the server is there, asks
 * every health_check whether it still is, what role it has and how far a replica is behind, and learns of it what the
 * rest needs: version and commands.
 */
#ifndef KEYWEIR_PROBE_H
#define KEYWEIR_PROBE_H

#include <event2/event.h>

#include "upstream/node.h"

struct command_set;
struct probe;

struct probe_events {
	/* A new reference, whenever COMMAND was read. NULL: it is not asked for. */
	void (*learnt)(void *ctx, struct command_set *set);
	/* It is gone, or back, or says that it is no longer what it was. */
	void (*changed)(void *ctx, struct probe *p);
};

/* Begins to connect at once. */
struct probe *probe_new(struct event_base *base, struct node *node, const struct probe_events *events, void *ctx);
void probe_free(struct probe **p);

struct node *probe_node(const struct probe *p);

/* From now on these are told. */
void probe_tell(struct probe *p, const struct probe_events *events);

/* Asks for COMMAND again. */
void probe_learn(struct probe *p);

/* Asks now whether it is there (the circuit breaker is half open). */
void probe_check(struct probe *p);

#endif
