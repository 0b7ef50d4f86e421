/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rate limits on the way of a command: before anything is done with it, what the rules that want it say is asked of
 * the buckets that all workers share (policy/buckets.h). All of them must let it pass; what one refuses costs nothing
 * of the others.
 *
 * A command that has to wait has paid already: its turn is certain, and its client sends nothing meanwhile (WAIT_LIMIT,
 * with a timer). It is dispatched anew then, and so is one that had to wait for something else: client.limit_passed
 * says that it has paid.
 *
 *      limit.c         the flow: taking, refusing, waiting
 *      limit_charge.c  whom a command concerns, and what it costs whom
 *      limit_lease.c   shared = true: asking the upstream for leases (policy/leases.h); who needs one waits for it
 *      limit_stats.c   KEYWEIR RATELIMITS
 *      limit_upload.c  requests that pass before all of them is here
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
	uint64_t leases;  /* shared: questions to the upstream */
	uint64_t local;	  /* shared: decided here, for the upstream did not answer */
};

/* Whether rules want the command. */
static inline bool limit_wanted(const struct client *c, const struct command *cmd)
{
	return __builtin_expect(c->w->limits != NULL, 0) && limits_of(c->w->limits, cmd) != 0;
}

/* Goes on with next where the rules let the call pass; else it is refused, or waits. */
typedef enum verdict (*limit_next_fn)(struct client *c, struct call *call);
enum verdict limit_run(struct client *c, struct call *call, limit_next_fn next);

/* Whether n commands at p, a transaction that arrived whole, may pass as one and at once. */
bool limit_passes_run(struct client *c, const char *p, size_t len, unsigned n);

/* A large request that has passed is here, and has so many bytes; 0: it was not sent. */
void limit_upload_end(struct client *c, int64_t bytes);

/* The client has left. */
void limit_forget(struct client *c);

/* A piece of the reply to a request of REQUEST_LEASE; or there will be none. The caller frees r. */
void lease_answered(struct request *r, const char *data, size_t len, struct link *l, bool done);
void lease_lost(struct worker *w, struct request *r);

/* The worker has another configuration. */
void limit_renew(struct worker *w, const struct limits *old);
void limit_fini(struct worker *w);

enum verdict limit_tell(struct client *c, const struct call *call); /* KEYWEIR RATELIMITS */

#endif
