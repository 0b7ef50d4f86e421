/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The generic cell rate algorithm: how much may come, as one point in time.
 *
 *      tat     the theoretical arrival time: when all that came would have come at exactly the rate
 *      now     what comes now moves it on; tat <= now: nothing is owed
 *      tolerance   how far it may be ahead of now: what comes at once, burst, is paid off later
 *
 * All is in nanoseconds of a clock that does not go back, and whole: an overflow ends at 73 years. Nothing but numbers
 * here; who keeps a tat is the caller's business.
 */
#ifndef KEYWEIR_GCRA_H
#define KEYWEIR_GCRA_H

#include <stdint.h>

#define GCRA_FOREVER (INT64_MAX / 4)

struct gcra {
	int64_t count; /* in */
	int64_t period_ns;
	int64_t tolerance_ns;
};

void gcra_init(struct gcra *g, int64_t count, int64_t period_ns, int64_t burst);

/* The time in which n come at the rate. */
int64_t gcra_span(const struct gcra *g, int64_t n);

/*
 * In how long n may come; 0: now. More than burst may come when nothing is owed at all, and are then owed in full.
 */
int64_t gcra_wait(const struct gcra *g, int64_t tat, int64_t now, int64_t n);

/* The tat when they have come. */
static inline int64_t gcra_come(const struct gcra *g, int64_t tat, int64_t now, int64_t n)
{
	return (tat > now ? tat : now) + gcra_span(g, n);
}

#endif
