/* SPDX-License-Identifier: BSD-2-Clause */
/* See gcra.h. https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm, as a virtual schedule. */
#include "policy/gcra.h"

#include <assert.h>

#define COARSE_NS 1000 /* from this interval on what is cut off of it does not count */

int64_t gcra_span(const struct gcra *g, int64_t n)
{
	__int128 ns = (__int128)n * g->period_ns / g->count;

	return ns > GCRA_FOREVER ? GCRA_FOREVER : (int64_t)ns;
}

void gcra_init(struct gcra *g, int64_t count, int64_t period_ns, int64_t burst)
{
	int64_t interval;

	assert(count > 0 && period_ns > 0 && burst > 0);
	*g = (struct gcra){count, period_ns, 0};
	interval = gcra_span(g, 1);
	/* One by one burst must fit exactly, though each interval is cut to whole nanoseconds. */
	if (interval < COARSE_NS || __builtin_mul_overflow(interval, burst, &g->tolerance_ns))
		g->tolerance_ns = gcra_span(g, burst);
	if (g->tolerance_ns > GCRA_FOREVER)
		g->tolerance_ns = GCRA_FOREVER;
}

int64_t gcra_wait(const struct gcra *g, int64_t tat, int64_t now, int64_t n)
{
	int64_t owed = tat > now ? tat - now : 0, span = gcra_span(g, n);
	int64_t room = g->tolerance_ns - (span < g->tolerance_ns ? span : g->tolerance_ns);

	return owed > room ? owed - room : 0;
}
