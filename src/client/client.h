/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client connection: reading and framing its commands, the order of its replies, its state (database, protocol,
 * transaction, subscriptions ...), its end.
 *
 * Commands are dispatched one after the other as they are framed. A command that can't go on yet (it needs a
 * dedicated link, the replies of earlier commands, a pause to be over ...) stays unconsumed in `in`, the client
 * waits, and it is dispatched anew when what it waits for has come: so every handler is a plain function that says
 * DONE or WAIT. A client that waits is not dispatched further, which keeps the order of effects.
 *
 * Owner: the worker (worker.clients). Nobody frees a client in a callback: client_close() moves it to dying_clients.
 */
#ifndef KEYWEIR_CLIENT_H
#define KEYWEIR_CLIENT_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/outq.h"
#include "net/transport.h"
#include "policy/namespace.h"
#include "request.h"
#include "resp/errors.h"
#include "resp/request_frame.h"
#include "upstream/link.h"
#include "upstream/pool.h"
#include "worker.h"

#define CLIENT_WINDOW_FIRST 128
#define CLIENT_WINDOW_MAX   4096
#define CLIENT_BYTES_MAX    ((uint64_t)1 << 20) /* of one client on the way; more wait in its input */

enum client_wait {
	WAIT_NOTHING,
	WAIT_DRAIN,  /* until its requests on the way are answered */
	WAIT_ROOM,   /* until it has fewer requests on the way */
	WAIT_PLACE,  /* for a connection to Redis */
	WAIT_ANSWER, /* for other workers or the hub to answer the command at its queue's end */
	WAIT_PAUSE,  /* CLIENT PAUSE */
	WAIT_OUTPUT, /* until it has read some of its replies */
	WAIT_LIMIT,  /* for its turn, see limit.h */
};

enum reply_mode { REPLY_ON, REPLY_OFF, REPLY_SKIP_NEXT };

/* MULTI, as far as the proxy must know. */
enum tx_state {
	TX_NONE,
	TX_OPEN,    /* on a dedicated link */
	TX_UNIT,    /* kept here until EXEC, see unit.h */
	TX_REFUSED, /* a command was refused by the proxy: EXEC must fail */
	TX_LOST,    /* its link is gone */
};

/*
 * Work done elsewhere (other workers, the control thread) for a command that waits. When the client leaves first, its
 * pointer here is cleared; the job goes on and frees itself.
 */
struct job {
	struct client *client;
	struct request *request;
};

/* What few clients have; allocated on first need. */
struct client_extra {
	char *name;
	char *lib_name;
	char *lib_ver;
	char *user;	     /* of Redis's own, that it has logged in as */
	char *user_asked;    /* the same, until Redis has answered */
	struct list subs[3]; /* struct sub by enum hub_kind, see hub.h */
	unsigned n_subs[3];
	struct link *feed;	 /* invalidation messages redirected to this client */
	int64_t redirect;	 /* CLIENT TRACKING ... REDIRECT: to this client */
	uint64_t redirect_asked; /* a target that was looked for, and what Redis calls it; 0: not found */
	int64_t redirect_upstream;
	struct buf push;     /* a push of its dedicated link or feed that came in pieces */
	struct buf deferred; /* pushes that came in the middle of a reply */
	struct list monitor; /* in worker.monitors */
	struct client *monitor_client;
	struct link *monitor_feed;	   /* Redis's own MONITOR, for what scripts do */
	struct request *monitor_asked;	   /* MONITOR, until the feed is there */
	struct job *job;		   /* what it waits for */
	struct unit *unit;		   /* a transaction that is kept here, see unit.h */
	struct fix *tx_fix;		   /* what EXEC's reply needs, see policy.h */
	struct near_touched *near_tx;	   /* what EXEC writes, see near.h */
	struct limit_wait *limit_wait;	   /* for rate limits, see limit_private.h */
	struct limit_upload *limit_upload; /* what its large request has paid, see limit_upload.c */
};

/* What a client has on the way to one pool: all of it on one link, so that order is kept for free. */
struct lane {
	struct link *link; /* NULL when n is 0 */
	uint32_t n;
};

struct client {
	struct list node;   /* worker.clients or dying_clients */
	struct list dirty;  /* worker.dirty_clients */
	struct list resume; /* worker.resume */
	struct worker *w;
	struct view view; /* what its names mean; renewed with every snapshot */
	char *bound_name; /* the namespace of its listener; NULL: an ordinary one */
	struct client_extra *extra;
	struct event event;	   /* reading; while stalled: hearing of its end */
	struct event *write_event; /* only while its socket is full */
	struct transport io;
	uint8_t proto;
	uint8_t wait;	    /* enum client_wait */
	uint8_t reply_mode; /* enum reply_mode */
	uint8_t tx;	    /* enum tx_state */
	bool reply_skip;    /* CLIENT REPLY SKIP: the command being dispatched is not answered */
	bool tx_writes;	    /* something queued may write */
	bool watch_lost;
	bool pinned;   /* bound for good: CLIENT TRACKING ... */
	bool acl_user; /* logged in as a user of Redis's own: bound until RESET */
	bool monitor;
	bool stalled;	  /* not read from */
	bool half_closed; /* it will send no more, but may still wait for replies */
	bool closing;	  /* close when all is written */
	bool closed;
	bool slow; /* does not take large replies fast enough: links no longer wait for it */
	bool no_evict;
	bool discarding;    /* the rest of a large request is thrown away */
	bool place_refused; /* pool_timeout is over */
	bool retry_ok;	    /* scratch of retry.c */
	bool dispatching;   /* its command is being looked at right now */
	bool forwarded;	    /* and was sent */
	bool limit_passed;  /* its next command has paid to all rate limits */
	int db;
	int tx_db;	     /* database after EXEC; -1: no SELECT queued */
	uint32_t watching;   /* keys that it watches: bound to its link */
	unsigned tx_run;     /* commands left of a transaction that arrived whole */
	uint32_t n_requests; /* in its queue */
	uint64_t n_made;     /* that were ever in it */
	uint32_t n_upstream; /* of them on the way */
	uint32_t n_queued;   /* commands in an open transaction */
	uint32_t window;     /* how many it may have on the way */
	size_t reply_bytes;  /* of the reply under way */
	uint64_t bytes_upstream;
	size_t call_len; /* of its last command */
	uint64_t id;
	struct request *head;
	struct request *tail;
	struct request *upload; /* a large request that is streaming through */
	struct lane *lanes;	/* by pool.index; n_lanes of them */
	struct lane first_lane; /* enough where there is one server */
	uint32_t n_lanes;
	uint32_t n_replica;  /* reads on the way to replicas */
	uint32_t n_parked;   /* requests that wait to be sent again */
	uint32_t n_blocking; /* commands on the way that may block: nothing follows them */
	size_t forced_route; /* KEYWEIR UPSTREAM: 1 + where the command being dispatched goes; 0: as its keys say */
	uint64_t generation; /* worker.generation of its requests on the way */
	struct near_client near;
	int64_t wrote_us;   /* its last write: reads go to the master for a while */
	struct link *bound; /* dedicated link it holds */
	const struct command *last_cmd;
	uint64_t address_hash; /* for rate limits; 0: not asked for yet */
	int64_t created_us;
	int64_t active_us; /* last command */
	int64_t stalled_us;
	int64_t held_us; /* since when its output waits for more */
	struct buf in;	 /* input that could not be dispatched yet */
	struct request_frame frame;
	struct outq out;
	struct pool_wait place;
};

/* A command being dispatched; bytes are borrowed for the call. */
struct call {
	const struct command *cmd;
	struct request_frame *frame;
	const char *bytes; /* the whole request */
	size_t len;
	const char *rest; /* what was read behind it */
	size_t rest_len;
	bool partial;		/* the head of a large request: only its first arguments are here */
	struct rewrite *rw;	/* its keys and their namespaces; NULL: they say nothing. See policy.h */
	struct near_call *near; /* what the near-cache has to do with it; NULL: nothing. See near.h */
};

enum verdict {
	CALL_DONE, /* consumed: answered, queued or sent */
	CALL_WAIT, /* not consumed: c->wait says what for */
};

/*
 * Takes over an accepted socket; with TLS on it when tls is given. bound_name: the namespace of its listener, which the
 * worker's configuration has; NULL: none.
 */
void client_new(struct worker *w, int fd, struct tls *tls, const char *bound_name);

/* The worker has a new snapshot: what the client has of the configuration is taken from there. */
void client_take_config(struct client *c);

/* Closes now (idempotent); memory lives until the end of the turn. */
void client_close(struct client *c);

/* Closes when everything in its queue is written. Nothing more is read. */
void client_close_after(struct client *c);

void client_free(struct client **c); /* end of turn */

struct client_extra *client_extra(struct client *c);

/* What its names mean. Borrowed from the worker's snapshot. */
static inline struct view client_view(const struct client *c)
{
	return c->view;
}

/* Goes on with a client that waited, at the end of the turn. */
void client_resume_soon(struct client *c);
void client_resume(struct client *c);

void client_flush(struct client *c);
void client_tick(struct client *c, int64_t now_us);

/* Whether nothing is under way: it may be closed by a drain. */
bool client_is_idle(const struct client *c);

/* Lets the call's command wait for a job; and, on the client's worker, answers it with what is in b. */
void client_job_begin(struct client *c, const struct call *call, struct job *job);
void client_job_end(struct job *job, struct buf *b);

/* ---- replies (client_reply.c) ---- */

/* The reply to the command being dispatched is what is in `b`; the buffer is emptied. */
void client_reply(struct client *c, const struct call *call, struct buf *b);
void client_reply_raw(struct client *c, const struct call *call, const char *p, size_t len);
void client_reply_error(struct client *c, const struct call *call, const char *text);
void client_reply_own_error(struct client *c, const struct call *call, enum reply_error error);
void client_reply_ok(struct client *c, const struct call *call);

/* A reply to the command behind the last one, of a client that has nothing queued; counted by the caller. */
void client_put_reply(struct client *c, const char *p, size_t len);

void policy_attach(struct request *r, const struct call *call); /* policy.h */

/* A request that stands in the client's queue unanswered until client_request_done(): b is appended to its reply. */
static inline struct request *client_request_new(struct client *c, const struct call *call)
{
	struct request *r = request_new(&c->w->requests);

	r->client = c;
	r->cmd = call->cmd;
	r->start_us = c->w->now_us;
	if (__builtin_expect(c->reply_mode != REPLY_ON || c->reply_skip, 0))
		r->flags |= REQUEST_SILENT;
	if (c->tail)
		c->tail->next = r;
	else
		c->head = r;
	c->tail = r;
	c->n_requests++;
	c->n_made++;
	if (__builtin_expect(call->rw != NULL, 0))
		policy_attach(r, call);
	return r;
}
void client_request_done(struct request *r);

/* Bytes that are no reply (pushes, messages, MONITOR lines): never in the middle of a reply. */
void client_push(struct client *c, const char *p, size_t len);
void client_push_later(struct client *c, const char *p, size_t len); /* after the reply at its queue's head */
void client_push_ref(struct client *c, struct rcbuf *rb, size_t skip);

/* For struct link_events. */
void client_on_reply(struct request *r, const char *data, size_t len, struct link *l, bool done);
void client_on_reply_before(struct request *r, const char *data, size_t len, struct link *l, bool done);
size_t client_on_plain_replies(struct link *l, const char *data, size_t len);
void client_on_timed_out(struct request *r); /* client_timeout.c */
void client_fail_request(struct request *r, const char *text);
void client_answered_absent(struct request *r); /* r->reply is made up: see absent.h */

/* r, which counts as on the way without a link, was answered by other means: what it held up goes on. */
void client_came_back(struct request *r);

/* r's reply is complete, or given up: r leaves its link's accounts, and what it held up goes on. */
void client_leave_link(struct client *c, struct request *r);

/* Tells that something must be written. */
static inline void client_mark_dirty(struct client *c)
{
	if (!list_is_linked(&c->dirty) && !c->write_event && !c->closed)
		list_append(&c->w->dirty_clients, &c->dirty);
}

/* ---- input (client_io.c) ---- */
void client_eof(struct client *c); /* the peer has closed its side */
void client_process(struct client *c, const char *data, size_t len);
void client_stall(struct client *c); /* stop reading */
void client_unstall(struct client *c);
void client_upload_lost(struct client *c);
void client_upload_drained(struct client *c);

/* ---- dispatch (dispatch.c, forward.c) ---- */
enum verdict dispatch(struct client *c, struct call *call);

/* Argument i of the call; NULL past the end. */
const char *call_arg(const struct call *call, uint32_t i, size_t *len);
bool call_arg_is(const struct call *call, uint32_t i, const char *word); /* in any case */
bool call_arg_int(const struct call *call, uint32_t i, int64_t *out);

/* Sends the call as it came; hook and arg as in struct request. r may be NULL. */
enum verdict forward(struct client *c, const struct call *call, uint32_t flags, request_hook_fn hook, int64_t arg);

/* The same with no flags and no hook. */
enum verdict forward_plain(struct client *c, const struct call *call);

/*
 * Sends the requests of a pipeline at data, as far as they begin like the one before them and only need forwarding;
 * nothing of a request is under way. Returns bytes taken.
 */
size_t forward_run(struct client *c, const char *data, size_t len);

/* Sends other bytes in the call's place. */
enum verdict forward_bytes(struct client *c, const struct call *call, const char *bytes, size_t len, uint32_t flags,
			   request_hook_fn hook, int64_t arg);

/* How long an answer to cmd may take, unless it says so itself. */
int64_t forward_timeout_us(const struct link *l, const struct command *cmd);

/* Binds the client to a dedicated link. False: the verdict to return is in *verdict (WAIT, or DONE with an error). */
bool client_bind(struct client *c, const struct call *call, enum verdict *verdict);
bool client_bind_db(struct client *c, const struct call *call, int db, enum verdict *verdict);
void client_maybe_unbind(struct client *c);

/* Binds to a link of this pool; the call goes there. */
bool client_bind_pool(struct client *c, const struct call *call, struct pool *p, int db, enum verdict *verdict);

/* Where the call would go now, without sending; as client_bind(). */
bool client_route(struct client *c, const struct call *call, struct link **out, enum verdict *verdict);

/* The link for the call to p, when there is room on it; as client_bind(). */
bool client_route_to(struct client *c, const struct call *call, struct pool *p, struct link **out,
		     enum verdict *verdict);

/*
 * False: what is on the way must be answered first, since the map has changed, or since something is parked and must
 * not be overtaken, or blocks (its time would count for what follows), or since a read that a replica has not answered
 * yet must not see what is written behind it.
 * Before anything is sent; a write is noted, so that the client's next reads go to the master.
 */
bool client_in_order(struct client *c, bool writes, enum verdict *verdict);

/* Whether there is one server to tie a connection to (CLIENT TRACKING ...); else the call is answered with an error. */
bool client_may_tie(struct client *c, const struct call *call);
bool client_has_one_server(const struct client *c);

/* What it has on the way to p. */
struct lane *client_lane_new(struct client *c, const struct pool *p);
static inline struct lane *client_lane(struct client *c, const struct pool *p)
{
	return __builtin_expect(p->index < c->n_lanes, 1) ? &c->lanes[p->index] : client_lane_new(c, p);
}

/*
 * Sends r, which stands in the client's queue (or is a part), over l, which must be one that client_link_for() gave.
 * Its deadline and slot must be set.
 */
void client_send(struct client *c, struct request *r, struct link *l, const char *bytes, size_t len);

/* A dedicated link of p that is not the client's bound one; as client_bind(). */
bool client_lease(struct client *c, const struct call *call, struct pool *p, struct link **out, enum verdict *verdict);

/* Sends a request of the proxy's own, whose reply is dropped: any, and PING. */
void forward_own(struct link *l, const char *bytes, size_t len);
void forward_ping(struct link *l);

/* Selects db on a leased link that comes from the idle list with another one. */
void client_select_db(struct link *l, int db);

/* The link that the client's requests to p are on, or the shared one. Not POOL_OK: there is none now. */
enum pool_status client_link_for(struct client *c, struct pool *p, int db, struct link **out);

/* r leaves its link's accounts, but still counts as on the way. The other: one request less to p. */
void client_leave_lane(struct client *c, struct request *r);
void client_lane_forget(struct client *c, const struct pool *p);

/* Which database a command of this client means on p. */
int client_db_on(const struct client *c, const struct pool *p);

/* Waits; returns CALL_WAIT. */
enum verdict client_wait_for(struct client *c, enum client_wait what);

void client_queue_lost(struct link *l, struct request *head); /* retry.c */
void client_link_lost(struct client *c);

#endif
