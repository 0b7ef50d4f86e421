/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of rate limits tell each other. */
#ifndef KEYWEIR_CLIENT_LIMIT_PRIVATE_H
#define KEYWEIR_CLIENT_LIMIT_PRIVATE_H

#include "client/limit.h"
#include "policy/leases.h"

/* What a command takes of a rule's budget. */
struct limit_charge {
	struct limit_rule *rule;
	uint64_t hash;
	int64_t n;
	int64_t wait;	   /* in ns, that it was given for; -1: it was not */
	bool counts;	   /* the first of its command and rule */
	struct slice name; /* of the key or namespace; borrowed from the call, or the configuration */
	bool leased;	   /* given by a lease */
	bool would;	   /* dry_run: it would have been refused, or have waited */
	bool alone;	   /* shared: the upstream did not answer */
};

/* Of the command that a worker looks at. */
struct limit_charges {
	struct limit_charge *items;
	size_t n, room;
	uint64_t seen; /* bits of rules that have charged the command */
	uint64_t n_commands;
	struct {
		uint64_t command; /* of n_commands */
		uint64_t seen;	  /* bits of rules that have charged it for this namespace */
	} * namespaces;		  /* by namespace.id; the last one: none */
};

/* Of a client that had to wait (WAIT_LIMIT) once. */
struct limit_wait {
	struct list node; /* worker.limit_waiting */
	struct client *client;
	struct event *timer;
	int64_t until_us; /* the turn of the command that has paid */
	int64_t since_us; /* since when it waits for leases; 0: it does not */
	uint64_t hash;	  /* of the lease that it waits for */
};

/* ---- limit_charge.c ---- */

/* Adds what the call takes. */
void limit_collect(struct client *c, const struct call *call, uint64_t wanted);
void limit_clear(struct client *c);

const char *limit_user(const struct client *c);

/* Appends the key under which all proxies know whom a charge is about. */
void limit_put_name(struct client *c, const struct limit_charge *one, struct buf *out);

/* ---- limit_upload.c ---- */

/* The call that was charged is the head of a large one. */
void limit_upload_begin(struct client *c);
void limit_upload_forget(struct client *c);

/* ---- limit_lease.c ---- */

/* Takes so much off the budget of this name upstream, whatever is left of it. Should it not be there, it is not. */
void lease_owe(struct worker *w, const struct buf *name, int64_t span_ns);

/* Asks the upstream for what r wants. False: it is not there. */
bool lease_ask(struct client *c, const struct limit_charge *one, const struct lease_result *r);

/* A lease (its hash) is there: who waits for it goes on. For worker_run_on(). */
void limit_wake(struct worker *w, void *arg);

#endif
