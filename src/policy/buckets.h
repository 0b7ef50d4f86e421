/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who owes what to a rate limit, for all workers: a table of fixed size, so that nobody can fill memory. Each rule has
 * one of its own: what is owed to one rule means nothing to another, whose debts may be a day's where these are a
 * second's.
 *
 * A place holds a hash and a tat (gcra.h). Those that owe nothing any more are free for the taking. Where a newcomer
 * finds all places of its set owing it shares the one that owes least, and is limited with it: a flood of addresses
 * makes the limit stricter for a few, it never makes anybody's state forgotten. Hashes are keyed and of 64 bits.
 *
 * Counted: rules of one configuration and the next share it.
 */
#ifndef KEYWEIR_BUCKETS_H
#define KEYWEIR_BUCKETS_H

#include <stddef.h>
#include <stdint.h>

#include "policy/gcra.h"

struct buckets;

struct buckets *buckets_new(void);
struct buckets *buckets_ref(struct buckets *b);
void buckets_unref(struct buckets **b);

#define BUCKETS_SEED_BYTES 16

/* Which place: what a limit is about (its salt), and for whom. Never 0. */
uint64_t buckets_hash(const unsigned char *seed, uint64_t salt, const void *subject, size_t len);

/*
 * Takes n off if they may come within max_wait_ns, and returns in how long; else takes nothing, and returns -1 minus
 * the time in which they might. Any thread.
 */
int64_t buckets_take(struct buckets *b, uint64_t hash, const struct gcra *g, int64_t n, int64_t now_ns,
		     int64_t max_wait_ns);

/* What was taken did not come. */
void buckets_give_back(struct buckets *b, uint64_t hash, const struct gcra *g, int64_t n);

#endif
