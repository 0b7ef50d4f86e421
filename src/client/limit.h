/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rate limits on the way of a command: before anything is done with it, what the rules that want it say is asked of
 * the buckets that all workers share (policy/buckets.h). All of them must let it pass; what one refuses costs nothing
 * of the others.
 *
 * A command that has to wait has paid already: its turn is certain, and its client sends nothing meanwhile (WAIT_LIMIT,
 * with a timer). It is dispatched anew then, and so is one that had to wait for something else: client.limit_passed
 * says that it has paid.
 */
#ifndef KEYWEIR_CLIENT_LIMIT_H
#define KEYWEIR_CLIENT_LIMIT_H

#include "client/client.h"
#include "policy/limits.h"

/* What became of the commands that a rule wanted, in one worker. */
struct limit_counts {
	uint64_t allowed;
	uint64_t rejected;
	uint64_t delayed; /* allowed, but later */
	uint64_t would;	  /* dry_run: what would have been rejected or delayed */
};

/* What a command takes of a rule's budget. */
struct limit_charge {
	struct limit_rule *rule;
	uint64_t hash;
	int64_t n;
	int64_t wait; /* in ns, that it was given for; -1: it was not */
	bool counts;  /* the first of its command and rule */
};

/* Of a worker. */
struct limit_charges {
	struct limit_charge *items;
	size_t n, room;
	uint64_t seen; /* bits of rules that have charged the command */
};

/* Whether rules want the command. */
static inline bool limit_wanted(const struct client *c, const struct command *cmd)
{
	return __builtin_expect(c->w->limits != NULL, 0) && limits_of(c->w->limits, cmd) != 0;
}

/* False: it was refused, or has to wait (*verdict). Only where the worker has limits. */
bool limit_passes(struct client *c, const struct call *call, enum verdict *verdict);

/* Whether n commands at p, a transaction that arrived whole, may pass as one and at once. */
bool limit_passes_run(struct client *c, const char *p, size_t len, unsigned n);

/* The client has left. */
void limit_forget(struct client *c);

/* The worker has another configuration. */
void limit_renew(struct worker *w, const struct limits *old);
void limit_fini(struct worker *w);

enum verdict limit_tell(struct client *c, const struct call *call); /* KEYWEIR RATELIMITS */

#endif
