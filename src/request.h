/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request: one command of one client (or of the proxy itself) from the moment it is framed until its reply is in
 * the client's output queue.
 *
 * It stands in two queues: the client's (the order in which replies leave) and, once sent, the link's (the order in
 * which replies come). Owner: the client; when the client goes first, the request stays in the link's queue as an
 * orphan (client == NULL), since its place in the reply stream is its own, and the link frees it.
 * All on one worker's thread. Memory: the worker's free list.
 */
#ifndef KEYWEIR_REQUEST_H
#define KEYWEIR_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "command/command.h"

struct client;
struct fix;
struct link;
struct near;
struct worker;
struct request;

#define REQUEST_SMALL_BYTES 63

enum request_flag {
	REQUEST_DONE = 1 << 0,	   /* its reply is complete (in `reply` when it is not at its client's head) */
	REQUEST_SILENT = 1 << 1,   /* CLIENT REPLY OFF or SKIP: nothing goes to the client */
	REQUEST_IN_TX = 1 << 2,	   /* part of a transaction: never retried */
	REQUEST_COLLECT = 1 << 3,  /* the reply is gathered whole in `reply`, then `on_reply` makes the client's */
	REQUEST_BEGUN = 1 << 4,	   /* some of the reply went to the client */
	REQUEST_STREAMED = 1 << 5, /* its bytes are not kept: a large value that streamed through */
	REQUEST_BLOCKING = 1 << 6, /* its client counts as blocked */
	REQUEST_WRITE = 1 << 7,	   /* may change data */
	REQUEST_NO_SLOWLOG = 1 << 8,
	REQUEST_PARTED = 1 << 9,   /* answered by parts: arg is its struct fanout */
	REQUEST_PART = 1 << 10,	   /* one of these: not in the client's queue; arg is the same struct fanout */
	REQUEST_PARKED = 1 << 11,  /* waits to be sent again, see client/redirect.c */
	REQUEST_CUT = 1 << 13,	   /* an error came in pieces: gathered in `reply`, it may be a redirection */
	REQUEST_UNIT = 1 << 12,	   /* MULTI ... EXEC in one: only the last reply is the client's */
	REQUEST_MIRROR = 1 << 14,  /* a copy for a mirror: no client, arg is its struct copy */
	REQUEST_WRAPPED = 1 << 15, /* with UNIT: one command of the client's with some of ours, see client/policy.h */
	REQUEST_MISS = 1 << 16,	   /* all its keys want on_failure = "miss" */
};

/*
 * Called when the reply is complete, before it counts as done; reply bytes are in r->reply when COLLECT is set
 * (whatever is left there goes to the client). type and number are those of the reply's first line.
 */
typedef void (*request_hook_fn)(struct request *r, char type, int64_t number);

struct request {
	struct request *next;	      /* in the client's queue */
	struct request *next_in_link; /* in the link's queue */
	struct client *client;	      /* NULL: an orphan, or the proxy's own */
	struct link *link;	      /* NULL: answered here, or not sent yet */
	const struct command *cmd;
	uint64_t pos; /* its bytes in the link's output stream */
	uint64_t len;
	int64_t start_us;    /* when its last byte had been read from the client */
	int64_t deadline_us; /* no answer until then: -TIMEOUT; 0: may take for ever */
	uint32_t flags;	     /* enum request_flag */
	uint8_t retries;
	uint8_t redirects;
	int16_t slot;		  /* of its keys, in a Cluster; else -1 */
	uint32_t part;		  /* PART: which */
	uint32_t n_before;	  /* UNIT: replies still to come before its own */
	uint32_t error_len;	  /* UNIT: of the first error among these, which stands first in `reply` */
	request_hook_fn on_reply; /* NULL: the reply passes through as it comes */
	int64_t arg;		  /* for on_reply */
	struct fix *fix;	  /* what the reply needs on its way back; owned; NULL: nothing */
	struct near *near;	  /* what the near-cache has to do with it, see client/near.h; owned */
	uint64_t wrote;		  /* hash of the one key of the near-cache that it writes; 0: none, or see near */
	uint32_t n_after;	  /* commands of ours in its bytes, behind its own */
	uint32_t n_front;	  /* ... and in front of it, of the near-cache */
	uint16_t ns;		  /* 1 + id of its first key's namespace; 0: none, or not of interest */
	struct buf reply;
	uint8_t n_small; /* of a short reply that came before its turn: */
	char small[REQUEST_SMALL_BYTES];
};

struct request_pool {
	struct request *free;
	unsigned n_free;
};

struct request *request_make(void); /* from malloc, when the free list is empty */

/* A request with everything empty. */
static inline struct request *request_new(struct request_pool *pool)
{
	struct request *r = pool->free;

	if (__builtin_expect(!r, 0))
		return request_make();
	pool->free = r->next;
	pool->n_free--;
	__builtin_prefetch(pool->free, 1); /* with thousands on the way it is in no near cache */
	/* Field by field, which is half the instructions of a memset(). */
	r->next = r->next_in_link = NULL;
	r->client = NULL;
	r->link = NULL;
	r->cmd = NULL;
	r->pos = r->len = 0;
	r->start_us = r->deadline_us = 0;
	r->flags = r->part = r->n_before = r->error_len = 0;
	r->retries = r->redirects = r->n_small = 0;
	r->slot = -1;
	r->on_reply = NULL;
	r->arg = 0;
	r->wrote = 0;
	r->n_after = r->n_front = 0;
	r->ns = 0;
	return r;
}

void request_free_rest(struct request_pool *pool, struct request *r);

/* Back to the free list; *rp is NULL then. */
static inline void request_free(struct request_pool *pool, struct request **rp)
{
	struct request *r = *rp;

	*rp = NULL;
	if (__builtin_expect(r->reply.data || r->fix || r->near || r->wrote, 0))
		request_free_rest(pool, r);
	r->next = pool->free;
	pool->free = r;
	pool->n_free++;
}

/* Gives memory back, down to a bound. Now and then. */
void request_pool_trim(struct request_pool *pool);
void request_pool_fini(struct request_pool *pool);

#endif
