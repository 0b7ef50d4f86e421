/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A link: one connection to a Redis server and the queue of requests that wait for its replies, in order.
 *
 * Kinds: SHARED, all clients of a worker pipelined over it; DEDICATED, leased by one client for what has connection
 * state; HUB, the worker's subscriptions; FEED, invalidation messages redirected to one client; MIRROR, copies of what
 * clients sent elsewhere, see client/mirror.h.
 *
 *      CONNECTING --connected--> HANDSHAKE --all confirmed--> READY
 *           |                        |                          |
 *           +------------------------+------ any failure -------+--> CLOSED (dying, freed at the end of the turn)
 *
 * CONNECTING includes the handshake of TLS.
 *
 * Bytes may be queued in any state before CLOSED; they are written when the link is READY. Written bytes of requests
 * that wait are kept (outq `keep`) for a retry and for the slow log.
 * What must be told upwards goes through struct link_events. One worker's thread. Owner: the pool.
 */
#ifndef KEYWEIR_LINK_H
#define KEYWEIR_LINK_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/outq.h"
#include "net/addr.h"
#include "net/transport.h"
#include "request.h"
#include "resp/errors.h"
#include "resp/reply_frame.h"
#include "upstream/node.h"

struct pool;
struct worker;

void worker_wake_tick(struct worker *w); /* worker.h */

enum link_kind { LINK_SHARED, LINK_DEDICATED, LINK_HUB, LINK_FEED, LINK_MIRROR };
enum link_state { LINK_CONNECTING, LINK_HANDSHAKE, LINK_READY, LINK_CLOSED };

#define LINK_BYTES_MAX ((size_t)256 << 20) /* queued and unwritten; more is -OVERLOADED */
#define LINK_QUEUE_MAX 1000000

enum { OWN_SCRIPT_THROTTLE = 1, OWN_SCRIPT_LEASE = 2 };

struct link {
	struct list node;  /* in one of the pool's lists, or the worker's dying_links */
	struct list dirty; /* in worker.dirty_links when it has something to write */
	struct worker *w;
	struct pool *pool;
	struct transport io;
	enum link_kind kind;
	enum link_state state;
	int proto;
	int db;
	bool counted;	 /* holds a place under pool_size */
	bool tainted;	 /* in a state that must not reach another client: closed instead of returned */
	bool unwanted;	 /* closed because nobody needs it: no sign of a server that is down */
	bool retired;	 /* shared: takes no new clients, closes when its queue is empty */
	bool paused;	 /* not read from: its head's client does not take a large reply fast enough */
	bool impatient;	 /* others waited long enough for a slow reader */
	bool want_write; /* the write event is armed */
	struct event read_event;
	struct event write_event;
	struct outq out;
	struct request *head;
	struct request *tail;
	size_t n_queue;
	struct reply_frame rf;
	uint8_t n_stash;      /* bytes of a first line that was cut by the end of a read, in rf.line */
	bool push;	      /* the reply under way is a push */
	uint8_t own_scripts;  /* OWN_SCRIPT_*: those that were sent */
	struct buf heard;     /* the reply under way, where a mirror must know it */
	struct client *owner; /* DEDICATED, FEED: whose it is; NULL while idle */
	void *user;	      /* HUB: the hub */
	int64_t upstream_id;  /* Redis's CLIENT ID of this connection; 0 unknown */
	int64_t deadline_us;  /* CONNECTING, HANDSHAKE: give up then */
	int64_t read_us;      /* last bytes read */
	int64_t write_us;     /* last progress in writing, or when something to write first came */
	int64_t paused_us;
	int64_t idle_us;      /* since when it waits in the idle list */
	struct buf handshake; /* replies so far */
	uint8_t n_steps;      /* handshake replies still to come */
	uint8_t step;
	struct address addresses[NODE_ADDRESSES_MAX];
	unsigned n_addresses;
	unsigned next_address;
	char why[160]; /* what went wrong */
};

struct link_events {
	/* Bytes of the reply r waits for; type and number are those of its first line; done: they end it. */
	void (*reply)(struct request *r, const char *data, size_t len, struct link *l, bool done);
	/* Bytes of a reply that comes before the one r waits for (REQUEST_UNIT). */
	void (*before)(struct request *r, const char *data, size_t len, struct link *l, bool done);
	/* Between replies: takes whole ones from the front, as many as need only be passed on. Returns bytes. */
	size_t (*replies)(struct link *l, const char *data, size_t len);
	/* The link is gone with these requests unanswered (a chain by next_in_link); they are the callee's now. */
	void (*queue_lost)(struct link *l, struct request *head);
	/* No answer within r's deadline: tell the client; r stays in the queue as an orphan. */
	void (*timed_out)(struct request *r);
	/* A push frame, or anything on a HUB or FEED link. */
	void (*push)(struct link *l, const char *data, size_t len, bool done);
	/* READY, or lost for good: for links that have an owner or a user. */
	void (*ready)(struct link *l);
	void (*lost)(struct link *l);
	/* Its output queue has room again: uploads go on. */
	void (*drained)(struct link *l);
};

/* Opens a connection; requests may be queued at once. Never fails: trouble is told by the events. */
struct link *link_open(struct pool *pool, enum link_kind kind, int proto, int db);

/* For link_io.c: connects when the host name is known now. False: nobody is looking it up any more. */
bool link_look_up(struct link *l);

/* It has something to write at the end of the turn. */
void link_mark_dirty(struct link *l);

/* r joins the queue, its deadline must be set; its bytes will stand at pos in the output stream. */
static inline void link_enqueue(struct link *l, struct request *r, uint64_t pos, size_t len)
{
	r->link = l;
	r->pos = pos;
	r->len = len;
	if (l->tail) {
		l->tail->next_in_link = r;
	} else {
		l->head = r;
		worker_wake_tick(l->w);
	}
	l->tail = r;
	l->n_queue++;
}

/* Queues bytes of requests that have joined. */
static inline void link_put(struct link *l, const char *data, size_t len)
{
	outq_append(&l->out, data, len);
	if (!list_is_linked(&l->dirty))
		link_mark_dirty(l);
}

static inline void link_send(struct link *l, struct request *r, const char *data, size_t len)
{
	link_enqueue(l, r, l->out.end_pos, len);
	link_put(l, data, len);
}

/* More bytes of the request queued last (a large one that streams), or bytes that expect no request (HUB). */
void link_send_more(struct link *l, const char *data, size_t len);

/* Writes what is queued, as far as the socket takes it. End of turn. */
void link_flush(struct link *l);

/* Time-outs. */
void link_tick(struct link *l, int64_t now_us);

/* Reads on after a pause. */
void link_resume(struct link *l);
void link_pause(struct link *l);

/* Closes at once; waiting requests go to queue_lost. Idempotent. */
void link_close(struct link *l, const char *why);

/* The same for a link that is no longer needed. */
void link_drop(struct link *l, const char *why);

/* Frees a closed link. End of turn only. */
void link_free(struct link **l);

/* For handshake.c and link_tls.c. */
void link_connected(struct link *l); /* bytes can go to and fro: log in */
void link_connect_failed(struct link *l, const char *why);
void link_write_handshake(struct link *l);
bool link_handshake_reply(struct link *l, const char *data, size_t len, size_t *used); /* false: failed, l->why */
void link_became_ready(struct link *l);

#endif
