/* SPDX-License-Identifier: BSD-2-Clause */
/* The only place that asks the system what time it is. Everything else takes the time as a parameter. */
#ifndef KEYWEIR_CLOCK_H
#define KEYWEIR_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Monotonic time in microseconds: for spans, time-outs and latencies. */
static inline int64_t clock_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Time of day in microseconds since 1970: for what people and logs see. */
static inline int64_t clock_wall_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

#endif
