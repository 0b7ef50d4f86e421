/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The near-cache's memory: replies of Redis, kept as they go to clients, shared by all workers.
 *
 * What is kept is an item: the reply to one request about one key. All items of a key lie in the same bucket, so that
 * what is heard of a key finds them all. Which reply is the newest truth this folder does not know: each item carries
 * the node that said it and that node's epoch (upstream/truth.h), and is good only for who asks with the same two.
 *
 * A read that finds nothing takes a lease (struct flight) before it is sent; identical reads that come meanwhile join
 * it. Whatever is heard of the key in between kills the flight: then its reply is given to those who had joined by
 * then, and not kept.
 *
 *      store_look()   HIT, or LEAD: the caller fetches and must call store_land(); or JOIN: it will be told
 *      store_land()   the reply is here (or will never be): kept, if the flight is still alive; who had joined
 *
 * Sharded by the hash of the key, a lock a shard, one shard at a time, nothing is called under a lock. Items live in
 * chunks of one mapping of at most max_bytes (chunks.h), which core dumps leave out; nothing else of a value's size is
 * ever allocated here. Who leaves when it is full: S3-FIFO (fifo.h).
 * Any thread.
 */
#ifndef KEYWEIR_CACHE_STORE_H
#define KEYWEIR_CACHE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define STORE_COPY_MAX	   4096 /* replies up to this size are copied at once, larger ones piece by piece */
#define STORE_REQUESTS_MAX 32	/* of one key; one more takes the oldest one's place */

struct flight;
struct store;
struct store_item;

/* A key, as it is upstream. Borrowed. */
struct store_key {
	uint64_t hash; /* store_hash() */
	uint32_t upstream;
	const char *p;
	size_t len;
};

/* Which request about it. args: what stands behind the key in the request, as it came. Borrowed. */
struct store_request {
	uint16_t command; /* id in the command table */
	uint16_t db;
	uint8_t proto;
	const char *args;
	size_t args_len;
};

/* Whose word it is: see upstream/truth.h. */
struct store_truth {
	uint32_t node;
	uint32_t epoch;
};

/* Why an item is no more; counted for each namespace. Those of the server's or a client's doing come first. */
enum store_cause {
	STORE_TRACKED,	 /* the server said that the key has changed */
	STORE_OWN_WRITE, /* a client of ours wrote it */
	STORE_FLUSHED,	 /* KEYWEIR CACHE FLUSH */
	STORE_OUTDATED,	 /* its epoch or its node is no longer: a lost link, FLUSHALL, a slot that moved */
	STORE_EXPIRED,
	STORE_EVICTED,
	STORE_REPLACED, /* by a newer reply, or by another request of the same key */
	STORE_CAUSES
};

struct store_counts {
	uint64_t items;
	uint64_t bytes; /* of memory, overhead included */
	uint64_t fills;
	uint64_t gone[STORE_CAUSES];
};

/*
 * max_bytes: of memory in all, tables included. n_namespaces: how many there are to count for (ids from 0 on).
 * NULL: the system does not give the address space.
 */
struct store *store_new(size_t max_bytes, size_t n_namespaces);
struct store *store_ref(struct store *s); /* NULL in, NULL out */
void store_unref(struct store **s);	  /* the last one's: flights still out may be landed with NULL for it */

/*
 * A reload: `fresh`, which is empty (NULL: there is none any more), takes the place of s. From now on nothing is found
 * in s or kept there, and what is forgotten there by those who do not know it yet is forgotten in fresh as well; keys
 * have the same hash in both.
 */
void store_succeed(struct store *s, struct store *fresh);

uint64_t store_hash(const struct store *s, uint32_t upstream, const char *key, size_t len);

/* A reply that was found. */
struct store_hit {
	size_t len;		   /* of the reply */
	bool stale;		   /* past its time: see store_ask.race_us */
	int64_t filled_us;	   /* when it was asked for */
	struct store_item *pinned; /* more than STORE_COPY_MAX bytes: read by store_piece(), then store_unpin() */
	char data[STORE_COPY_MAX]; /* else the reply */
};

/* Called on the thread of whoever lands the flight: what w (the asker's own) waited for has come. See store_land(). */
struct store_waiter {
	struct store_waiter *next;
	void *worker; /* whose it is; the rest is the asker's business */
};

struct store_ask {
	struct store_key key;
	struct store_request request;
	struct store_truth truth; /* of now: items and flights of any other are no good */
	int64_t now_us;		  /* monotonic */
	int64_t newer_us;	  /* only what was asked for after this; 0: anything */
	int64_t race_us;	  /* race_condition_ttl; 0: none */
	unsigned namespace;
	bool may_lead;		     /* false: LEAD is PASS */
	struct store_waiter *waiter; /* joins, when there is something to join; NULL: does not join */
};

enum store_verdict {
	STORE_HIT,
	STORE_LEAD, /* *flight is the caller's, until store_land(); hit->stale: there may be a fallback */
	STORE_JOIN, /* the waiter is the flight's, until it lands */
	STORE_PASS, /* fetch it, and don't tell: its reply is too large to be kept, or it may not lead */
};

/*
 * Looks for the reply. race_us: an item whose time (that of the key) is over by less is not thrown away. The first
 * who asks leads and will find the key absent; while it makes the new value, the others get the old one (HIT, stale).
 * An absence that such a leader brings is not kept. When the server then tells of a change of the key (its expiry,
 * or the new value) nobody gets the old one until it is known which: the next one leads again, the others join it.
 * Absence means that it was the expiry: see store_landed.fallback.
 * A leader that brings nothing makes room for the next one.
 */
enum store_verdict store_look(struct store *s, const struct store_ask *ask, struct store_hit *hit,
			      struct flight **flight);

/*
 * Keys that will be looked for in a moment: their places are fetched from memory meanwhile. Two steps, each for all of
 * them: the second goes by what the first has fetched.
 */
void store_expect(const struct store *s, uint64_t hash);
void store_expect_item(const struct store *s, uint64_t hash);

/* The next piece of a pinned reply, from *at (begin with NULL) on: its bytes in *p; 0: that was all. */
size_t store_piece(const struct store *s, const struct store_item *item, const void **at, const char **p);
void store_unpin(struct store *s, struct store_item **item);

/* The reply to a flight's request, or that there will be none. */
struct store_landing {
	int64_t now_us;	   /* monotonic */
	const char *reply; /* NULL: there is none, or it must not be kept */
	size_t len;
	int64_t expires_us; /* monotonic; when it must no longer be served */
	bool key_expires;   /* that is the key's own time, and not a limit of the cache's */
	bool absent;	    /* the key is not there */
	bool too_large;	    /* more than may be kept: who comes next need not join */
	bool any_proto;	    /* the reply is the same in RESP2 and RESP3 */
};

/* What became of it. */
struct store_landed {
	struct store_waiter *waiters; /* all who had joined, in their order; the caller's now */
	bool kept;
	bool makes;	     /* the key was found absent, and it is the leader's client that makes the new value */
	struct buf fallback; /* not empty: the key was found absent while a client makes the new value; who had joined,
			      * and the leader's client if it is not that one (`makes`), get this old one instead.
			      * The caller's. */
};

/* Ends a flight; *flight is NULL then. */
void store_land(struct store *s, struct flight **flight, const struct store_landing *landing,
		struct store_landed *landed);

/* The reply that was last known, however old, if it was not overwritten: for on_failure = "stale". */
struct store_last {
	struct store_truth truth;
	int64_t expires_us;
};
bool store_find_last(struct store *s, const struct store_key *key, const struct store_request *request,
		     struct store_hit *hit, struct store_last *last);

/*
 * The key has changed: its items go, its flights die. By STORE_TRACKED an item past its time may stay for race_us.
 * By hash alone: what has the same hash goes along, which does no harm.
 */
void store_forget(struct store *s, const struct store_key *key, enum store_cause cause, int64_t now_us);
void store_forget_hash(struct store *s, uint64_t hash, enum store_cause cause, int64_t now_us);

/* Items whose key the caller chooses (called under a lock: no store_...() in there); all with NULL. How many. */
typedef bool (*store_choose_fn)(void *ctx, uint32_t upstream, unsigned namespace, const char *key, size_t len);
uint64_t store_flush(struct store *s, store_choose_fn choose, void *ctx);

/* Sums for a namespace; and for the whole: memory in use, and what it may be at most. */
void store_counts(struct store *s, unsigned namespace, struct store_counts *out);
size_t store_bytes(struct store *s);
size_t store_bytes_max(const struct store *s);

#endif
