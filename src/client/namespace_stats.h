/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What passes through each namespace, as KEYWEIR NAMESPACES tells it. Counted by each worker for itself; who wants the
 * sums asks all workers. A namespace that a reload leaves in place keeps its counts.
 */
#ifndef KEYWEIR_NAMESPACE_STATS_H
#define KEYWEIR_NAMESPACE_STATS_H

#include "client/client.h"

struct namespace_counts {
	uint64_t hits;	  /* reads that found something */
	uint64_t misses;  /* ... nothing: null, or an empty array */
	uint64_t sets;	  /* writes but for */
	uint64_t deletes; /* those that remove */
	uint64_t errors;  /* replies that were errors, and refusals */
	uint64_t bytes;	  /* of requests and replies, as they are upstream */
	uint64_t near_hits;
	uint64_t near_misses;
	uint64_t near_joined;
	uint64_t near_stale;
};

/* The worker has another configuration. */
void namespace_stats_renew(struct worker *w, const struct namespaces *old);
void namespace_stats_fini(struct worker *w);

struct rewrite;
void namespace_stats_refused(struct worker *w, const struct rewrite *rw);

/* An answered request; type and number of its reply, and the bytes of both. */
void namespace_stats_add(struct worker *w, const struct request *r, char type, int64_t number, size_t bytes);

static inline void namespace_stats_count(struct worker *w, const struct request *r, char type, int64_t number,
					 size_t bytes)
{
	if (r->ns > 0)
		namespace_stats_add(w, r, type, number, bytes);
}

enum verdict namespace_stats_tell(struct client *c, const struct call *call); /* KEYWEIR NAMESPACES */

#endif
