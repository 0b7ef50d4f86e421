/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CL.THROTTLE: a rate limiter for applications, as the module redis-cell has it, in a Redis without the module.
 *
 *      CL.THROTTLE key max_burst count_per_period period [quantity]
 *
 * It becomes a script that decides by the clock of the upstream, and travels as EVALSHA: whatever routes, splits,
 * copies or repeats requests sees a script with one key. The state is that of redis-cell, too: a time in nanoseconds
 * under the key, which lives no longer than it counts.
 */
#ifndef KEYWEIR_CLIENT_THROTTLE_H
#define KEYWEIR_CLIENT_THROTTLE_H

#include "client/client.h"

extern const char throttle_script[];
extern const char throttle_sha[]; /* its SHA1 */

/* Whether the request is the script by its SHA1, as CL.THROTTLE is sent. */
bool throttle_is(const char *bytes, size_t len);

/* Sends the script, where the link has not carried it yet. */
void throttle_load(struct link *l);

/* Appends what loads the script with this SHA1. False: it is not ours. */
bool throttle_put_load(const char *sha, size_t len, struct buf *out);

#endif
