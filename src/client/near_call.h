/* SPDX-License-Identifier: BSD-2-Clause */
/* What the call that is being dispatched, and then its request, has to do with the near-cache: see near.h. */
#ifndef KEYWEIR_CLIENT_NEAR_CALL_H
#define KEYWEIR_CLIENT_NEAR_CALL_H

#include <stdbool.h>
#include <stdint.h>

struct blacklist;
struct near_fetch;
struct near_merge;
struct near_waiter;
struct token_mark;
struct upstream;

/* Tokens of [token_blacklist] that are written: see token.h. */
struct token_marks {
	struct blacklist *list; /* a reference */
	struct token_mark *items;
	uint32_t n, room;
};

/* Keys that are written. */
struct near_touched {
	uint64_t *hashes;
	uint32_t n, room;
	struct upstream *flushed; /* a reference: all of its keys */
	bool fence;		  /* and who knows what else */
	struct token_marks tokens;
};

/* Of a call; the worker's, all empty between calls. */
struct near_call {
	struct near_fetch *fetch;   /* its reply is to be kept */
	struct near_merge *merge;   /* its reply is the rest of an MGET */
	struct near_waiter *waiter; /* it is answered by another's fetch */
	struct near_touched touched;
};

/* Of a request (request.near), owned by it. */
struct near {
	struct near_fetch *fetch;
	struct near_merge *merge;
	struct near_waiter *waiter;
	struct near_touched *touched;
};

/* Of a client. */
struct near_client {
	/*
	 * Keys that it has something on the way for, as a Bloom filter with one hash: NEAR_BUSY_WORDS since `made`, and
	 * as many from before. NULL until there is one.
	 */
	uint64_t *busy;
	uint64_t made;	    /* client.n_made then */
	size_t held;	    /* bytes of hits that wait in its queue */
	int64_t fence_us;   /* what was fetched before may be older than what it has written; 0: nothing may */
	uint32_t n_fencing; /* writes on the way that must be answered before it reads from memory */
};

#define NEAR_BUSY_WORDS 4

#endif
