/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The near-cache on a command's way (namespaces with near_cache): reads are answered from memory before anything else
 * is done with them, and what is kept there is kept true. The memory itself is cache/store.h; whether what a node said
 * may be served is its struct truth.
 *
 *      near_look.c    a read: a hit, or a lease for what must be fetched, or waiting for somebody else's fetch
 *      near_fetch.c   the fetch: "PTTL key" and the read in one write, and what its reply becomes
 *      near_wait.c    those who wait for it, on whatever worker
 *      near_many.c    MGET: answered in parts
 *      near_write.c   what a write does away with, before it is sent and again before its reply is seen
 *      near_last.c    on_failure = "stale"
 *
 * A client's own order. Hits overtake what it has on the way, which for keys that it does not touch there is nothing
 * that can be told from outside; keys that it does are noted (near_client.busy), and asked of Redis behind that. While
 * it waits for another's fetch it sends nothing (n_parked). What a script, a transaction or an unknown command of its
 * own has written besides its keys only Redis knows: from its reply on the client reads what was fetched after it, or
 * anything once the tracking link has answered a PING that was sent after it (near_client.fence_us).
 */
#ifndef KEYWEIR_CLIENT_NEAR_H
#define KEYWEIR_CLIENT_NEAR_H

#include <string.h>

#include "cache/store.h"
#include "client/client.h"
#include "client/near_call.h"

#define NEAR_NAME_MAX 512 /* a longer key is not kept */

struct route;

/* ---- reads ---- */

/* Whether the client may be answered here, without asking Redis, by what is true whatever it has on the way. */
static inline bool near_may_answer(const struct client *c)
{
	return c->tx == TX_NONE && c->tx_run == 0 && c->forced_route == 0 && !c->upload && !c->discarding;
}

/* Whether the client may be answered from memory at all, as it stands. */
static inline bool near_may_read(const struct client *c)
{
	return near_may_answer(c) && !c->bound && c->near.n_fencing == 0;
}

/*
 * A read of a cacheable command, before its names are rewritten. True: it was answered, or waits for another's fetch
 * (*verdict). False: it goes on; call->near says what has to be done with its reply.
 */
bool near_read(struct client *c, struct call *call, enum verdict *verdict);

/* The short way of a pipeline: answers the requests at data that begin like the last one and are hits. Bytes taken. */
size_t near_run(struct client *c, const char *data, size_t len);

/* What the call was given and has not passed on to a request is given back. */
void near_call_end(struct worker *w, struct call *call);

/* Whether a reply says that nothing is there. */
static inline bool near_finds_nothing(const char *reply)
{
	return *reply == '_' || (reply[1] == '-' && (*reply == '$' || *reply == '*')) ||
	       (reply[1] == '0' && (*reply == '*' || *reply == '%' || *reply == '~'));
}

/* ---- fetches ---- */

/* The call's request will be the fetch that the call was given, if any: out gets what is to be sent for bytes. */
void near_attach(struct client *c, const struct call *call, struct request *r, const char *bytes, size_t len,
		 struct buf *out);

/* Of a group of an MGET's keys. */
void near_attach_group(struct client *c, const struct call *call, struct request *r, const uint32_t *keys, uint32_t n,
		       const struct buf *bytes, struct buf *out);

/* A reply before its own has come: that of a PTTL. */
void near_before(struct request *r, char type, int64_t number);

/* A piece of r's own reply has come, and goes on as it is. Also for orphans. */
void near_hear(struct worker *w, struct request *r, const char *data, size_t len, bool done);

/* All of the reply is in r->reply, as the client gets it; it may become another one here. */
void near_gathered(struct request *r);

/* There will be no reply: whoever waits is told the same; NULL: each asks for himself. */
void near_failed(struct worker *w, struct request *r, const char *text);

/* r is to be sent again, or elsewhere: only the command itself, and its reply is not kept. */
void near_strip(struct request *r, struct buf *bytes);

/* r is freed. */
void near_release(struct worker *w, struct request *r);

/* ---- writes ---- */

/* The call's keys are going to be written: forgotten, and noted for its request. */
void near_write(struct client *c, struct call *call);

/* The same for one key, as the client wrote it: its hash for request.wrote, 0: none. A read is noted. */
uint64_t near_pass_key(struct client *c, const struct command *cmd, const struct name_place *at, const char *key,
		       size_t len);

/* A read that is not answered here: what it reads, hits must not overtake. */
void near_pass_read(struct client *c, const struct call *call);

/* The call's request answers for what was noted (in a transaction EXEC's will); and is the rest of an MGET. */
void near_adopt(struct client *c, const struct call *call, struct request *r);

/* Before the reply of a write is seen by anybody. */
void near_settle(struct worker *w, struct request *r);

/* Transactions: what the call writes is queued; the queue is dropped; EXEC's request answers for it. */
void near_queue(struct client *c, const struct call *call);
void near_tx_drop(struct client *c);
void near_tx_exec(struct client *c, struct request *r);

/* ---- on_failure = "stale" ---- */

/*
 * The call (as it is upstream) can't be answered by its server: by what was last known. part: it may be a part of one
 * whose reply will be opened (sealed namespaces).
 */
bool near_last(struct client *c, const struct command *cmd, struct slice bytes, bool part, struct buf *out);

/* ---- shared by the files above ---- */

/* A key as the store knows it, and what of it may be served. */
struct near_place {
	const struct namespace *ns;
	struct route *route;
	struct node *node; /* its master; NULL: none is known */
	struct store_key key;
	uint16_t db;
};

/* The place of a key as the client wrote it. False: nothing of it is kept. room: NEAR_NAME_MAX bytes for its name. */
bool near_find(struct client *c, const char *key, size_t len, char *room, struct near_place *out);

/* The same of a key of ns by its upstream name, which is borrowed. */
void near_place_of(struct client *c, const struct namespace *ns, const char *name, size_t len, struct near_place *out);

/*
 * Before any key is noted: what was answered is no longer busy. When all is answered that was sent before the last
 * time, what was noted before then is forgotten.
 */
static inline void near_begin(struct client *c)
{
	struct near_client *near = &c->near;

	if (c->n_requests == 0) {
		if (near->busy)
			memset(near->busy, 0, 2 * NEAR_BUSY_WORDS * sizeof(*near->busy));
		near->made = near->held = 0;
	} else if (c->n_made - c->n_requests >= near->made) {
		for (int i = 0; near->busy && i < NEAR_BUSY_WORDS; i++) {
			near->busy[i + NEAR_BUSY_WORDS] = near->busy[i];
			near->busy[i] = 0;
		}
		near->made = c->n_made;
	}
}

/* Reads of the key must not overtake what the client has on the way, from now on. */
void near_note_busy(struct client *c, uint64_t hash);
bool near_is_busy(struct client *c, uint64_t hash);

/* Whether anything of the place may be served now; fills the rest of *ask. */
bool near_ask(struct client *c, const struct near_place *at, struct store_ask *ask);

/* What was found, behind what is in out; unpinned. False: out of memory. */
bool near_put_hit(struct worker *w, struct store_hit *hit, struct buf *out);

struct near_fetch *near_fetch_new(uint32_t n_max);
void near_fetch_add(struct worker *w, struct near_fetch *f, struct flight *flight, const struct near_place *at,
		    uint32_t index);
bool near_fetch_any(const struct near_fetch *f); /* it has a flight */
void near_fetch_expect_fallback(struct near_fetch *f);
void near_fetch_drop(struct worker *w, struct near_fetch **f); /* its flights come to nothing */

/* Tells those who wait: the reply (NULL: each asks for itself), or the error that the one had who asked for them. */
void near_tell(struct store_waiter *waiters, const char *reply, size_t len, const char *error);

void near_touched_free(struct near_touched **t);

/* near_many.c */
bool near_read_many(struct client *c, struct call *call, enum verdict *verdict);
void near_merge_reply(const struct near_merge *m, struct buf *reply); /* the rest of it becomes all of it */
void near_merge_free(struct near_merge **m);

#endif
