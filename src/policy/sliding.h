/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When the time to live of keys in sliding namespaces was renewed last, for all workers: a table of fixed size, a key
 * in one place by its hash. Two keys that share a place are renewed more often than needed, never less.
 */
#ifndef KEYWEIR_SLIDING_H
#define KEYWEIR_SLIDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sliding;

struct sliding *sliding_new(void);
void sliding_free(struct sliding **s);

/*
 * Whether the caller is the one to renew this key of the database `where` now: it was not done within interval_ms. Any
 * thread; of several at once one is told so. now_ms: monotonic.
 */
bool sliding_claim(struct sliding *s, uint64_t where, const char *key, size_t len, int64_t now_ms, int64_t interval_ms);

#endif
