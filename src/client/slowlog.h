/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The slow log: commands that took longer than a threshold, as the client waited for them. One for the process, under
 * a lock (slow commands are few); the threshold is read without.
 */
#ifndef KEYWEIR_SLOWLOG_H
#define KEYWEIR_SLOWLOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct call;
struct client;
struct link;
struct request;

struct slowlog {
	_Atomic int64_t threshold_us; /* negative: never */
};

struct slowlog *slowlog_new(int64_t threshold_us);
void slowlog_free(struct slowlog **log);
void slowlog_set_threshold(struct slowlog *log, int64_t us);
void slowlog_set_max_len(struct slowlog *log, int64_t n);

static inline bool slowlog_is_slow(const struct slowlog *log, int64_t took_us)
{
	int64_t threshold_us = atomic_load_explicit(&log->threshold_us, memory_order_relaxed);

	return threshold_us >= 0 && took_us >= threshold_us;
}

/* Notes an answered request; its arguments are still kept by the link. */
void slowlog_add(struct client *c, const struct request *r, const struct link *l);

/* Notes a command that was answered without Redis. */
void slowlog_add_call(struct client *c, const struct call *call);

#endif
