/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which link a command takes, and sending it there.
 *
 * What a client has on the way to one server is always on one link, so that order is kept for free: while there is
 * some, the next command to that server takes the same link or waits. A client is bound to a dedicated link for what
 * has connection state, and what it sends to that server goes there until that state is over.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/absent.h"
#include "client/client.h"
#include "client/fanout.h"
#include "client/hub.h"
#include "client/mirror.h"
#include "client/monitor.h"
#include "client/near.h"
#include "client/policy.h"
#include "client/target.h"
#include "resp/write.h"
#include "server.h"

#define SLOW_TIMEOUT_US 60000000

int64_t forward_timeout_us(const struct link *l, const struct command *cmd)
{
	return cmd && cmd->timeout == TIMEOUT_SLOW ? SLOW_TIMEOUT_US : l->pool->server->conf->read_timeout_ms * 1000;
}

/* ---- lanes ---- */

struct lane *client_lane_new(struct client *c, const struct pool *p)
{
	uint32_t n = p->index + 1;

	if (c->lanes == &c->first_lane) {
		c->lanes = xcalloc(n, sizeof(*c->lanes));
		c->lanes[0] = c->first_lane;
	} else {
		c->lanes = xreallocarray(c->lanes, n, sizeof(*c->lanes));
		memset(c->lanes + c->n_lanes, 0, (n - c->n_lanes) * sizeof(*c->lanes));
	}
	c->n_lanes = n;
	return &c->lanes[p->index];
}

int client_db_on(const struct client *c, const struct pool *p)
{
	return p->server->up == target_home(c)->up ? c->db : p->server->conf->target.db;
}

/* A reply that is dropped, of a command whose bytes went out with those before. */
static void expect_own(struct link *l)
{
	struct request *r = request_new(&l->w->requests);

	r->start_us = l->w->now_us;
	r->deadline_us = l->w->now_us + forward_timeout_us(l, NULL);
	link_enqueue(l, r, l->out.end_pos, 0);
}

void client_send(struct client *c, struct request *r, struct link *l, const char *bytes, size_t len)
{
	struct lane *lane = client_lane(c, l->pool);

	assert(lane->n == 0 || lane->link == l);
	link_send(l, r, bytes, len);
	for (uint32_t i = 0; i < r->n_after; i++)
		expect_own(l);
	lane->link = l;
	lane->n++;
	c->n_replica += l->pool->readonly;
	c->n_upstream++;
	c->bytes_upstream += len;
}

void client_lane_forget(struct client *c, const struct pool *p)
{
	struct lane *lane = client_lane(c, p);

	c->n_replica -= p->readonly;
	if (--lane->n == 0)
		lane->link = NULL;
}

void client_leave_lane(struct client *c, struct request *r)
{
	client_lane_forget(c, r->link->pool);
	r->link = NULL;
}

enum pool_status client_link_for(struct client *c, struct pool *p, int db, struct link **out)
{
	struct lane *lane = client_lane(c, p);

	if (lane->n == 0)
		return pool_shared(p, c->proto, db, out);
	*out = lane->link;
	return POOL_OK;
}

/* ---- no link ---- */

/* The pool has nothing for us: an error, or waiting. */
static enum verdict no_link(struct client *c, const struct call *call, struct pool *p, enum pool_status status)
{
	if (status == POOL_DOWN && absent_answer(c, call))
		return CALL_DONE;
	if (status == POOL_DOWN) {
		if (c->proto == 3 && atomic_load(&p->server->no_resp3) && !p->down)
			client_reply_own_error(c, call, ERROR_NO_RESP3);
		else
			client_reply_error(c, call, p->down ? p->why : reply_error_text(ERROR_UPSTREAM_DOWN));
		counter_add(&c->w->counters.errors_upstream_down, 1);
		return CALL_DONE;
	}
	if (c->place_refused) {
		c->place_refused = false;
		client_reply_own_error(c, call, ERROR_POOL_TIMEOUT);
		return CALL_DONE;
	}
	client_wait_for(c, WAIT_PLACE);
	pool_wait_add(p, &c->place);
	return CALL_WAIT;
}

void forward_own(struct link *l, const char *bytes, size_t len)
{
	struct request *r = request_new(&l->w->requests);

	r->start_us = l->w->now_us;
	r->deadline_us = l->w->now_us + forward_timeout_us(l, NULL);
	link_send(l, r, bytes, len);
}

void forward_ping(struct link *l)
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n";

	forward_own(l, ping, sizeof(ping) - 1);
}

void client_select_db(struct link *l, int db)
{
	char request[64], number[16];
	int n_digits, len;

	if (l->db == db)
		return;
	n_digits = snprintf(number, sizeof(number), "%d", db);
	len = snprintf(request, sizeof(request), "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", n_digits, number);
	forward_own(l, request, (size_t)len);
	l->db = db;
}

/* ---- where to ---- */

bool client_has_one_server(const struct client *c)
{
	return c->w->only || (c->w->n_routes == 1 && c->w->routes[0].topo->n_shards <= 1);
}

bool client_may_tie(struct client *c, const struct call *call)
{
	if (client_has_one_server(c))
		return true;
	client_reply_own_error(c, call, ERROR_ONE_NODE);
	return false;
}

bool client_in_order(struct client *c, bool writes, enum verdict *verdict)
{
	if ((c->generation != c->w->generation && c->n_upstream > 0) || c->n_parked > 0 || c->n_blocking > 0 ||
	    (writes && c->n_replica > 0)) {
		*verdict = client_wait_for(c, WAIT_DRAIN);
		return false;
	}
	c->generation = c->w->generation;
	if (writes && !c->w->only)
		c->wrote_us = c->w->now_us;
	return true;
}

/* The pool that the call goes to. False: it was answered, or has to wait. */
static bool find_pool(struct client *c, const struct call *call, struct pool **out, int *slot, enum verdict *verdict)
{
	enum target_status status;
	struct target t;

	*slot = -1;
	*out = c->w->only;
	if (!client_in_order(c, command_may_write(call->cmd), verdict))
		return false;
	if (c->tx == TX_OPEN) /* there it was begun, whatever a reload has made of its keys */
		*out = c->bound->pool;
	if (*out)
		return true;
	status = target_of_call(c, call, &t);
	if (status != TARGET_OK) {
		*verdict = target_failed(c, call, status);
		return false;
	}
	*slot = t.slot;
	*out = target_pool(c, call->cmd, &t);
	if (*out)
		return true;
	*verdict = CALL_DONE;
	if (absent_answer(c, call))
		return false;
	client_reply_error(c, call, target_why(&t));
	counter_add(&c->w->counters.errors_upstream_down, 1);
	return false;
}

bool client_bind(struct client *c, const struct call *call, enum verdict *verdict)
{
	struct pool *p;
	int slot;

	return find_pool(c, call, &p, &slot, verdict) && client_bind_pool(c, call, p, client_db_on(c, p), verdict);
}

bool client_bind_db(struct client *c, const struct call *call, int db, enum verdict *verdict)
{
	struct pool *p;
	int slot;

	return find_pool(c, call, &p, &slot, verdict) && client_bind_pool(c, call, p, db, verdict);
}

bool client_bind_pool(struct client *c, const struct call *call, struct pool *p, int db, enum verdict *verdict)
{
	enum pool_status status;

	if (c->bound && (c->bound->pool == p || c->w->only))
		return true;
	if (c->n_upstream > 0) {
		*verdict = client_wait_for(c, WAIT_DRAIN);
		return false;
	}
	client_maybe_unbind(c);
	if (c->bound) { /* WATCH holds it to another node */
		client_reply_own_error(
			c, call, p->server->conf->mode == UPSTREAM_CLUSTER ? ERROR_CROSSSLOT : ERROR_CROSSUPSTREAM);
		*verdict = CALL_DONE;
		return false;
	}
	status = pool_lease(p, c->proto, db, c, &c->bound);
	if (status != POOL_OK) {
		c->bound = NULL;
		*verdict = no_link(c, call, p, status);
		return false;
	}
	c->place_refused = false;
	client_select_db(c->bound, db);
	return true;
}

bool client_lease(struct client *c, const struct call *call, struct pool *p, struct link **out, enum verdict *verdict)
{
	enum pool_status status = pool_lease(p, c->proto, client_db_on(c, p), c, out);

	if (status != POOL_OK) {
		*verdict = no_link(c, call, p, status);
		return false;
	}
	c->place_refused = false;
	client_select_db(*out, client_db_on(c, p));
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

/* The link of a client that is bound: its own, or, for another server, one that is shared. */
static bool route_bound(struct client *c, const struct pool *p, struct link **out, enum verdict *verdict)
{
	if (c->bound->pool == p || c->w->only || c->pinned || c->acl_user) {
		*out = c->bound;
		return true;
	}
	/* What it waits for there (it may block) comes first. */
	if (client_lane(c, c->bound->pool)->n == 0)
		return false;
	*verdict = client_wait_for(c, WAIT_DRAIN);
	return true;
}

/* Bounds of what may be on the way. */
static bool has_room(struct client *c, const struct call *call, const struct link *l, enum verdict *verdict)
{
	if (c->tx_run > 0)
		return true; /* a transaction goes out in one run */
	if (c->n_upstream >= c->window || c->bytes_upstream > CLIENT_BYTES_MAX) {
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

bool client_route_to(struct client *c, const struct call *call, struct pool *p, struct link **out,
		     enum verdict *verdict)
{
	struct lane *lane = client_lane(c, p);
	int db = client_db_on(c, p);
	enum pool_status status;

	*out = NULL;
	if (c->bound && route_bound(c, p, out, verdict))
		return *out && has_room(c, call, *out, verdict);
	if (lane->n > 0) {
		if (lane->link->proto == c->proto && lane->link->db == db && (!lane->link->retired || c->tx_run > 0)) {
			*out = lane->link;
			return has_room(c, call, *out, verdict);
		}
		*verdict = client_wait_for(c, WAIT_DRAIN);
		return false;
	}
	status = pool_shared(p, c->proto, db, out);
	if (status != POOL_OK) {
		*verdict = no_link(c, call, p, status);
		return false;
	}
	c->place_refused = false;
	return has_room(c, call, *out, verdict);
}

static bool find_link(struct client *c, const struct call *call, struct link **out, int *slot, enum verdict *verdict)
{
	struct pool *p;

	if (!find_pool(c, call, &p, slot, verdict))
		return false;
	if (call->partial && mirror_gathers(c->w, call, p)) {
		*verdict = CALL_WAIT;
		return false;
	}
	if (call->partial && !client_bind_pool(c, call, p, client_db_on(c, p), verdict))
		return false;
	return client_route_to(c, call, p, out, verdict);
}

bool client_route(struct client *c, const struct call *call, struct link **out, enum verdict *verdict)
{
	int slot;

	return find_link(c, call, out, &slot, verdict);
}

enum verdict forward_bytes(struct client *c, const struct call *call, const char *bytes, size_t len, uint32_t flags,
			   request_hook_fn hook, int64_t arg)
{
	struct policy_send ours = {0};
	struct buf fetch = {0};
	enum verdict verdict;
	struct request *r;
	struct link *l;
	int slot;

	if (!find_link(c, call, &l, &slot, &verdict))
		return verdict;
	r = client_request_new(c, call);
	if (__builtin_expect(call->near != NULL, 0))
		near_adopt(c, call, r);
	if (__builtin_expect(c->w->policy, 0))
		policy_compose(c, call, l->pool, bytes, len, flags, NULL, 0, &ours);
	if (buf_len(&ours.bytes) > 0) {
		bytes = buf_head(&ours.bytes);
		len = buf_len(&ours.bytes);
		flags |= ours.flags;
		r->n_before = ours.n_before;
		r->n_after = ours.n_after;
	}
	if (call->cmd->handler == HANDLER_EXEC)
		policy_tx_exec(c, r);
	r->flags |= flags | (command_may_write(call->cmd) ? REQUEST_WRITE : 0) |
		    (call->partial ? REQUEST_STREAMED : 0) | (c->tx_run > 0 ? REQUEST_IN_TX : 0);
	if (flags & REQUEST_BLOCKING) {
		counter_add(&c->w->counters.blocked, 1);
		c->n_blocking++;
	}
	r->on_reply = hook;
	r->arg = arg;
	r->slot = (int16_t)slot;
	if (call->near && buf_len(&ours.bytes) == 0)
		near_attach(c, call, r, bytes, len, &fetch);
	if (buf_len(&fetch) > 0) {
		bytes = buf_head(&fetch);
		len = buf_len(&fetch);
	}
	r->deadline_us = call->partial ? 0 : c->w->now_us + forward_timeout_us(l, call->cmd);
	client_send(c, r, l, bytes, len);
	buf_release(&ours.bytes);
	buf_release(&fetch);
	c->forwarded = true;
	return CALL_DONE;
}

/*
 * The path of nearly every command: whole, as it came, over the link that the client's commands are on already.
 * Whatever is not so goes the long way.
 */
enum verdict forward_plain(struct client *c, const struct call *call)
{
	const struct pool *p = c->w->only;
	struct lane *lane;
	struct request *r;
	struct link *l;

	if (!p || (call->rw && call->rw->has_after) || (call->near && call->near->fetch))
		return forward(c, call, 0, NULL, 0);
	lane = client_lane(c, p);
	l = lane->link;
	if (!l || c->bound || call->partial || l->retired || l->db != c->db || l->proto != c->proto ||
	    c->generation != c->w->generation || c->n_parked > 0 || c->n_upstream >= c->window ||
	    c->bytes_upstream > CLIENT_BYTES_MAX || l->n_queue >= LINK_QUEUE_MAX || l->out.bytes >= LINK_BYTES_MAX)
		return forward(c, call, 0, NULL, 0);
	r = client_request_new(c, call);
	r->flags |= command_may_write(call->cmd) ? REQUEST_WRITE : 0;
	r->deadline_us = c->w->now_us + forward_timeout_us(l, call->cmd);
	if (__builtin_expect(call->near != NULL, 0))
		near_adopt(c, call, r);
	link_send(l, r, call->bytes, call->len);
	c->forwarded = true;
	lane->n++;
	c->n_upstream++;
	c->bytes_upstream += call->len;
	return CALL_DONE;
}

enum verdict forward(struct client *c, const struct call *call, uint32_t flags, request_hook_fn hook, int64_t arg)
{
	return forward_bytes(c, call, call->bytes, call->len, flags, hook, arg);
}
