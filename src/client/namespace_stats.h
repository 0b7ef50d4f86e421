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

	/* Reads that looked into the near-cache. */
	uint64_t near_hits;   /* answered out of it */
	uint64_t near_misses; /* sent to Redis */
	uint64_t near_joined; /* answered with what another client's read brought */
	uint64_t near_stale;  /* answered with what was past its time, for whatever reason */
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

/* What became of a read that looked into the near-cache; ns: its namespace's id. */
static inline void namespace_stats_near_hit(struct worker *w, unsigned ns)
{
	w->namespace_counts[ns].near_hits++;
	counter_add(&w->counters.near_cache_hits, 1);
}

/* n of them, in reads' own terms too: n_empty found nothing; replies of so many bytes. */
static inline void namespace_stats_near_hits(struct worker *w, unsigned ns, uint64_t n, uint64_t n_empty,
					     uint64_t n_stale, uint64_t bytes)
{
	struct namespace_counts *counts = &w->namespace_counts[ns];

	counts->near_hits += n;
	counts->near_stale += n_stale;
	counts->hits += n - n_empty;
	counts->misses += n_empty;
	counts->bytes += bytes;
	counter_add(&w->counters.near_cache_hits, n);
	counter_add(&w->counters.near_cache_stale, n_stale);
}

static inline void namespace_stats_near_miss(struct worker *w, unsigned ns)
{
	w->namespace_counts[ns].near_misses++;
	counter_add(&w->counters.near_cache_misses, 1);
}

static inline void namespace_stats_near_joined(struct worker *w, unsigned ns)
{
	w->namespace_counts[ns].near_joined++;
	counter_add(&w->counters.near_cache_coalesced, 1);
}

static inline void namespace_stats_near_stale(struct worker *w, unsigned ns)
{
	w->namespace_counts[ns].near_stale++;
	counter_add(&w->counters.near_cache_stale, 1);
}

enum verdict namespace_stats_tell(struct client *c, const struct call *call); /* KEYWEIR NAMESPACES */

/* The counts of all workers together, for who asked. Borrowed for the call of tell. */
struct namespace_sums {
	const struct shared_config *holder;  /* the configuration when it was asked for */
	const struct namespace_counts *sums; /* by namespace.id in there */
	const struct namespace *bound;	     /* all that the client may see; NULL: everything */
	const struct snapshot *snapshot;     /* of the client's worker, now */
	int proto;
};

/* Answers the call with what tell makes of the sums; it is called when all workers have said theirs. */
typedef void (*namespace_tell_fn)(const struct namespace_sums *sums, struct buf *out);
enum verdict namespace_stats_gather(struct client *c, const struct call *call, namespace_tell_fn tell);

#endif
