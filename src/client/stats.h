/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Statistics: the workers' counters summed up, and a histogram of how long each command took, as clients waited for
 * it, by powers of two of a microsecond. Counters only grow; CONFIG RESETSTAT notes where they stand.
 */
#ifndef KEYWEIR_STATS_H
#define KEYWEIR_STATS_H

#include <stdint.h>

#include "resp/write.h"
#include "worker.h"

struct server;
struct stats; /* where the counters stood when they were reset last */

struct totals {
#define COUNTER(name, help) uint64_t name;
#include "counters.def"
#undef COUNTER
};

struct stats *stats_new(void);
void stats_free(struct stats **stats);

/* CONFIG RESETSTAT. Any worker. */
void stats_reset(struct server *s);

/* Since the start; since the reset. Any thread. What says "now" (blocked, subscribers) counts from the start in both.
 */
void stats_totals(const struct server *s, struct totals *out);
void stats_totals_since_reset(const struct server *s, struct totals *out);

/*
 * Appends name and histogram of cmd, as LATENCY HISTOGRAM has them, since the reset: cumulative, buckets that add
 * nothing left out. False: it was not called.
 */
bool stats_put_latency(const struct server *s, const struct command *cmd, int proto, struct buf *out);

/* The same for n that took no time worth noting. */
static inline void stats_count_quick(struct worker *w, const struct command *cmd, uint64_t n)
{
	counter_add(&w->counters.took[cmd->id][0], n);
}

/* An answered command; on its worker. */
static inline void stats_count(struct worker *w, const struct command *cmd, int64_t took_us)
{
	unsigned i = took_us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll((uint64_t)took_us - 1);

	counter_add(&w->counters.took[cmd->id][i < LATENCY_BUCKETS ? i : LATENCY_BUCKETS - 1], 1);
}

#endif
