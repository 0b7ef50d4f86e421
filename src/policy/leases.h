/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rate limits that several proxies share (shared = true): the budget is a tat in the upstream, and a proxy leases parts
 * of the schedule ahead, so that the common case costs no round trip.
 *
 *      upstream, by its clock     now ........ now + ahead = tat [ grant ) new tat
 *      here                       from = now + ahead, to = from + grant
 *
 * Whatever passes takes its span off the front of what was leased, and passes no earlier than the bucket as a whole
 * would let it (tolerance before the end of its span). So all proxies together never pass more than the budget, over
 * any time from the first: what is granted is granted once. Leased in advance is at most LEASE_AHEAD intervals; what is
 * not used in a second is void. Until then it may come late, so each proxy may pass burst at once, and none more.
 *
 * How much to lease is what was asked for lately, in an interval of a tenth of a second or so. When nothing is saved up
 * any more, and less is granted than was wanted, nothing is asked before the interval is over: refusing costs no round
 * trip either.
 *
 * This is the state of all subjects, in a table of fixed size, for all workers; who has no room there, and all of them
 * while the upstream is away, are limited by each proxy for itself. The asking is client/limit_lease.c.
 */
#ifndef KEYWEIR_LEASES_H
#define KEYWEIR_LEASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/gcra.h"

struct leases;

enum lease_verdict {
	LEASE_TAKEN,   /* ns: in how long it may pass */
	LEASE_REFUSED, /* ns: when to try again */
	LEASE_PENDING, /* an answer is on its way. ns: it is given up then */
	LEASE_LOCAL,   /* nothing can be said: by each proxy for itself */
};

struct lease_result {
	enum lease_verdict verdict;
	int64_t ns;
	/* The caller has to ask the upstream, and tell what it said: */
	bool ask;
	int64_t unit_ns; /* what is granted is a multiple of this */
	int64_t want_ns;
	int64_t most_ns; /* the schedule may be ahead of now by no more */
	int64_t far_ns;	 /* if it is ahead by more than that, another clock or another rate has made it */
	uint32_t serial;
};

struct leases *leases_new(void);
void leases_free(struct leases **l);

/*
 * Takes n for a subject (buckets_hash()) if it may pass within max_wait_ns. waits_here: the worker that will have to be
 * told when the verdict is PENDING. unit_ns: the span of one, or 1 where what comes is of many sizes. Any thread.
 */
void leases_take(struct leases *l, uint64_t hash, const struct gcra *g, int64_t unit_ns, int64_t n, int64_t now_ns,
		 int64_t max_wait_ns, unsigned waits_here, struct lease_result *out);

/* What was taken did not pass. */
void leases_give_back(struct leases *l, uint64_t hash, const struct gcra *g, int64_t n);

/* Workers by their number, as bits. */
struct lease_waiting {
	uint64_t bits[4];
};

/*
 * The answer to an ask: grant_ns from now + ahead_ns on; or, grant_ns < 0, there is none. *waiting: who waits for it.
 */
void leases_granted(struct leases *l, uint64_t hash, uint32_t serial, int64_t grant_ns, int64_t ahead_ns,
		    int64_t now_ns, struct lease_waiting *waiting);

#endif
