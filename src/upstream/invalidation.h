/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What Redis sends of keys that have changed (CLIENT TRACKING): a push of RESP3, or a message of the channel
 * __redis__:invalidate in RESP2. Pure: bytes in, keys out. Any thread.
 */
#ifndef KEYWEIR_INVALIDATION_H
#define KEYWEIR_INVALIDATION_H

#include <stdbool.h>
#include <stddef.h>

#include "resp/reply_frame.h"

#define INVALIDATION_CHANNEL "__redis__:invalidate"

enum invalidation {
	INVALIDATION_NONE,  /* an answer to something that was asked */
	INVALIDATION_OTHER, /* a message about something else */
	INVALIDATION_KEYS,
	INVALIDATION_ALL, /* FLUSHALL, FLUSHDB; and one that nobody understands */
};

/* Looks at a whole reply. INVALIDATION_KEYS: *keys stands before them. */
enum invalidation invalidation_read(const char *reply, size_t len, struct reply_cursor *keys);

/* The next key; false: that was the last. */
bool invalidation_next(struct reply_cursor *keys, const char **key, size_t *len);

#endif
