/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Namespaces on the way of a command: before its handler sees it the request is rewritten (policy/rewrite.h), and what
 * must be done with its reply goes with the request (struct fix). All that comes behind, routing, splitting, waiting,
 * retrying, sees the request as it is upstream; which namespace its keys are in stands in call->rw.
 *
 * Commands that give keys a time to live travel behind the command they belong to:
 *
 *   wrapped   MULTI, the command, they, EXEC: one request (REQUEST_WRAPPED), done as a whole or not at all; the
 *             reply is taken out of EXEC's
 *   behind    the command, they; in one write: where MULTI can't be (a blocking command, WATCH, in a transaction of
 *             the client's, ASK). Their replies are dropped.
 */
#ifndef KEYWEIR_CLIENT_POLICY_H
#define KEYWEIR_CLIENT_POLICY_H

#include "client/client.h"

typedef enum verdict (*policy_next_fn)(struct client *c, const struct call *call);

/* Rewrites the call and goes on with next; or answers it. */
enum verdict policy_run(struct client *c, struct call *call, policy_next_fn next);

/* Whether a command has to be looked at. */
static inline bool policy_wants(const struct command *cmd)
{
	return cmd->n_specs > 0 || cmd->names != NAMES_NONE || cmd->flags & CMD_UNKNOWN || cmd->n_subcommands > 0 ||
	       cmd->categories & CAT_PUBSUB;
}

/* Whether the call would be refused; for transactions that are looked at before they begin. */
bool policy_allows(struct client *c, const struct call *call);

/*
 * What is sent in the call's place: its bytes with the commands that travel with them. keys: of call->rw->keys, those
 * that are in these bytes; NULL: all. Called when nothing can stand in the way any more. *out is made (released by the
 * caller) or stays empty, when bytes are all.
 */
struct policy_send {
	struct buf bytes;
	uint32_t flags;	  /* for the request */
	uint32_t n_after; /* commands behind it whose replies are dropped */
	uint32_t n_before;
};
void policy_compose(struct client *c, const struct call *call, const struct pool *p, const char *bytes, size_t len,
		    uint32_t flags, const uint32_t *keys, uint32_t n_keys, struct policy_send *out);

/* Takes what the reply needs over from the call. */
void policy_attach(struct request *r, const struct call *call);

/* A wrapped request was answered by EXEC's reply: r->reply becomes the command's own, and so do type and number. */
void policy_unwrap(struct request *r, char *type, int64_t *number);

/* The command in the bytes of a request of n_after or WRAPPED: the one that the client gave. */
struct slice policy_inner(const struct request *r, const struct buf *bytes);

/* The text of an error to r, which has a namespace, with the client's names. False: it names none. */
bool policy_error(const struct request *r, const char *text, size_t len, struct buf *out);

/* Applies r->fix to r->reply. */
void policy_fix(struct request *r);

/* For ASK: the bytes of r with ASKING before each further command; r is no longer wrapped. */
void policy_unwrap_for_asking(struct request *r, struct buf *bytes);

/* A transaction of the client's: forgotten; a command was queued, with so many of our own behind it; EXEC's request. */
void policy_tx_drop(struct client *c);
void policy_tx_queued(struct client *c, const struct call *call, uint32_t n_own);
void policy_tx_exec(struct client *c, struct request *r);

void policy_fix_free(struct fix **fix);

#endif
