/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which link a command takes, and sending it there.
 *
 * A client's commands on the way are always on one link, so that order is kept for free: while there are some, the
 * next one takes the same link or waits. A client is bound to a dedicated link for what has connection state, and
 * everything it sends goes there until that state is over.
 */
#include <assert.h>
#include <string.h>

#include "client/client.h"
#include "client/hub.h"
#include "client/monitor.h"
#include "resp/write.h"
#include "server.h"

#define REQUEST_BYTES_MAX ((uint64_t)1 << 20) /* of one client on the way; more wait in its input */
#define SLOW_TIMEOUT_US	  60000000

int64_t forward_timeout_us(const struct client *c, const struct command *cmd)
{
	return cmd && cmd->timeout == TIMEOUT_SLOW ? SLOW_TIMEOUT_US : c->w->pool->server->conf.read_timeout_ms * 1000;
}

/* The pool has nothing for us: an error, or waiting. */
static enum verdict no_link(struct client *c, const struct call *call, enum pool_status status)
{
	if (status == POOL_DOWN) {
		if (c->proto == 3 && atomic_load(&c->w->pool->server->no_resp3) && !c->w->pool->down)
			client_reply_own_error(c, call, ERROR_NO_RESP3);
		else
			client_reply_error(c, call,
					   c->w->pool->down ? c->w->pool->why : reply_error_text(ERROR_UPSTREAM_DOWN));
		counter_add(&c->w->counters.errors_upstream_down, 1);
		return CALL_DONE;
	}
	if (c->place_refused) {
		c->place_refused = false;
		client_reply_own_error(c, call, ERROR_POOL_TIMEOUT);
		return CALL_DONE;
	}
	return client_wait_for(c, WAIT_PLACE);
}

/* A leased link may come from the idle list with another database. */
static void select_db(struct client *c, struct link *l, int db)
{
	char request[64], number[16];
	int n_digits, len;
	struct request *r;

	if (l->db == db)
		return;
	n_digits = snprintf(number, sizeof(number), "%d", db);
	len = snprintf(request, sizeof(request), "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", n_digits, number);
	r = request_new(&c->w->requests); /* the proxy's own: its reply is dropped */
	r->start_us = c->w->now_us;
	r->deadline_us = c->w->now_us + forward_timeout_us(c, NULL);
	link_send(l, r, request, (size_t)len);
	l->db = db;
}

bool client_bind(struct client *c, const struct call *call, enum verdict *verdict)
{
	return client_bind_db(c, call, c->db, verdict);
}

bool client_bind_db(struct client *c, const struct call *call, int db, enum verdict *verdict)
{
	enum pool_status status;

	if (c->bound)
		return true;
	if (c->n_upstream > 0) {
		*verdict = client_wait_for(c, WAIT_DRAIN);
		return false;
	}
	status = pool_lease(c->w->pool, c->proto, db, c, &c->bound);
	if (status != POOL_OK) {
		c->bound = NULL;
		*verdict = no_link(c, call, status);
		return false;
	}
	c->place_refused = false;
	select_db(c, c->bound, db);
	return true;
}

void client_maybe_unbind(struct client *c)
{
	struct link *l = c->bound;

	if (!l || c->n_upstream > 0 || c->tx != TX_NONE || c->watching || c->pinned || c->acl_user || c->upload)
		return;
	c->bound = NULL;
	pool_release(l->pool, l);
}

bool client_route(struct client *c, const struct call *call, struct link **out, enum verdict *verdict)
{
	enum pool_status status;

	if (call->partial && !client_bind(c, call, verdict))
		return false;
	if (c->bound) {
		*out = c->bound;
		return true;
	}
	if (c->n_upstream > 0) {
		if (c->link->proto == c->proto && c->link->db == c->db && (!c->link->retired || c->tx_run > 0)) {
			*out = c->link;
			return true;
		}
		*verdict = client_wait_for(c, WAIT_DRAIN);
		return false;
	}
	status = pool_shared(c->w->pool, c->proto, c->db, out);
	if (status != POOL_OK) {
		*verdict = no_link(c, call, status);
		return false;
	}
	return true;
}

/* Bounds of what may be on the way. */
static bool has_room(struct client *c, const struct call *call, const struct link *l, enum verdict *verdict)
{
	if (c->tx_run > 0)
		return true; /* a transaction goes out in one run */
	if (c->n_upstream >= c->window || c->bytes_upstream > REQUEST_BYTES_MAX) {
		*verdict = client_wait_for(c, WAIT_ROOM);
		return false;
	}
	if (l->n_queue >= LINK_QUEUE_MAX || l->out.bytes >= LINK_BYTES_MAX) {
		client_reply_own_error(c, call, ERROR_LINK_FULL);
		*verdict = CALL_DONE;
		return false;
	}
	return true;
}

enum verdict forward_bytes(struct client *c, const struct call *call, const char *bytes, size_t len, uint32_t flags,
			   request_hook_fn hook, int64_t arg)
{
	enum verdict verdict;
	struct request *r;
	struct link *l;

	if (!client_route(c, call, &l, &verdict) || !has_room(c, call, l, &verdict))
		return verdict;
	r = client_request_new(c, call);
	r->flags |= flags | (call->cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE) ? REQUEST_WRITE : 0) |
		    (call->partial ? REQUEST_STREAMED : 0) | (c->tx_run > 0 ? REQUEST_IN_TX : 0);
	if (flags & REQUEST_BLOCKING)
		counter_add(&c->w->counters.blocked, 1);
	r->on_reply = hook;
	r->arg = arg;
	r->deadline_us = call->partial ? 0 : c->w->now_us + forward_timeout_us(c, call->cmd);
	link_send(l, r, bytes, len);
	c->link = l;
	c->forwarded = true;
	c->n_upstream++;
	c->bytes_upstream += len;
	return CALL_DONE;
}

/*
 * The path of nearly every command: whole, as it came, over the link that the client's commands are on already.
 * Whatever is not so goes the long way.
 */
enum verdict forward_plain(struct client *c, const struct call *call)
{
	struct link *l = c->link;
	struct request *r;

	if (!l || c->bound || call->partial || l->retired || l->db != c->db || l->proto != c->proto ||
	    c->n_upstream >= c->window || c->bytes_upstream > REQUEST_BYTES_MAX || l->n_queue >= LINK_QUEUE_MAX ||
	    l->out.bytes >= LINK_BYTES_MAX)
		return forward(c, call, 0, NULL, 0);
	r = client_request_new(c, call);
	r->flags |= call->cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE) ? REQUEST_WRITE : 0;
	r->deadline_us = c->w->now_us + forward_timeout_us(c, call->cmd);
	link_send(l, r, call->bytes, call->len);
	c->forwarded = true;
	c->n_upstream++;
	c->bytes_upstream += call->len;
	return CALL_DONE;
}

/* Nothing stands before a command of the client's that only needs forwarding over l. */
static bool is_bare(const struct client *c, const struct link *l)
{
	const struct server *s = c->w->server;

	return l && !c->bound && !l->retired && l->db == c->db && l->proto == c->proto && c->tx == TX_NONE &&
	       c->tx_run == 0 && c->reply_mode == REPLY_ON && !c->upload && !c->discarding &&
	       c->out.bytes <= c->w->output_pause_bytes && !hub_is_subscriber(c) &&
	       atomic_load_explicit(&s->pause_mode, memory_order_relaxed) == PAUSE_NONE &&
	       atomic_load_explicit(&s->n_monitors, memory_order_relaxed) == 0;
}

size_t forward_run(struct client *c, const char *data, size_t len)
{
	struct request_frame *f = &c->frame;
	struct call call = {.cmd = f->known, .frame = f};
	struct link *l = c->link;
	unsigned n = 0;
	size_t at = 0;

	if (!call.cmd || call.cmd->handler != HANDLER_FORWARD || !is_bare(c, l))
		return 0;
	while (at < len && c->n_upstream + n < c->window && l->n_queue < LINK_QUEUE_MAX &&
	       c->bytes_upstream + at <= REQUEST_BYTES_MAX && l->out.bytes + at < LINK_BYTES_MAX) {
		struct request *r;

		if (request_frame_feed(f, data + at, len - at) != FRAME_READY || f->known != call.cmd ||
		    !command_arity_ok(call.cmd, f->argc))
			break;
		r = client_request_new(c, &call);
		r->flags |= call.cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE) ? REQUEST_WRITE : 0;
		r->deadline_us = c->w->now_us + forward_timeout_us(c, call.cmd);
		link_enqueue(l, r, l->out.end_pos + at, f->len);
		c->call_len = f->len;
		at += f->len;
		n++;
		request_frame_reset(f);
	}
	request_frame_reset(f); /* what is not taken is looked at anew */
	if (n == 0)
		return 0;
	link_put(l, data, at);
	c->n_upstream += n;
	c->bytes_upstream += at;
	c->active_us = c->w->now_us;
	counter_add(&c->w->counters.commands, n);
	return at;
}

enum verdict forward(struct client *c, const struct call *call, uint32_t flags, request_hook_fn hook, int64_t arg)
{
	return forward_bytes(c, call, call->bytes, call->len, flags, hook, arg);
}
