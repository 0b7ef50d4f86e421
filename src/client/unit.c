/* SPDX-License-Identifier: BSD-2-Clause */
/* Transactions sent as one: see unit.h. */
#include "client/unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/dispatch.h"
#include "client/near.h"
#include "client/policy.h"
#include "client/refusal.h"
#include "client/target.h"
#include "resp/write.h"
#include "server.h"

#define UNIT_BYTES_MAX ((size_t)64 << 20)

struct unit {
	struct buf bytes; /* the queued commands as they came */
	uint32_t n_own;	  /* commands of ours among them */
	bool bad;	  /* one was refused */
	bool keyed;
	struct upstream *up; /* of the first key; a reference */
	int slot;
};

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n", exec[] = "*1\r\n$4\r\nEXEC\r\n";

void unit_drop(struct client *c)
{
	struct unit *u = c->extra ? c->extra->unit : NULL;

	if (!u)
		return;
	policy_tx_drop(c);
	buf_release(&u->bytes);
	upstream_unref(&u->up);
	free(u);
	c->extra->unit = NULL;
}

/* The end of a transaction, however it came; what WATCH holds is let go of. */
static void end(struct client *c, bool unwatch)
{
	unit_drop(c);
	c->tx = TX_NONE;
	c->n_queued = 0;
	c->watch_lost = false;
	if (c->watching && unwatch && c->bound)
		c->bound->tainted = true; /* closing it is how to UNWATCH without waiting */
	c->watching = 0;
	client_maybe_unbind(c);
}

enum verdict unit_begin(struct client *c, const struct call *call)
{
	unit_drop(c);
	client_extra(c)->unit = xcalloc(1, sizeof(struct unit));
	c->tx = TX_UNIT;
	c->tx_writes = false;
	c->tx_db = -1;
	c->n_queued = 0;
	client_reply_ok(c, call);
	return CALL_DONE;
}

uint32_t unit_commands(const char *bytes, size_t len)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	uint32_t n = 0;
	size_t at = 0;

	while (at < len && request_frame_feed(&f, bytes + at, len - at) == FRAME_READY) {
		at += f.len;
		n++;
		request_frame_reset(&f);
	}
	return n;
}

void unit_spoil(struct client *c)
{
	c->extra->unit->bad = true;
}

/* ---- queueing ---- */

static enum verdict refuse(struct client *c, const struct call *call, const char *text)
{
	c->extra->unit->bad = true;
	client_reply_error(c, call, text);
	return CALL_DONE;
}

static enum verdict refuse_unknown(struct client *c, const struct call *call)
{
	struct buf text = {0};

	refusal_unknown_command(call, &text);
	server_ask_learn(c->w->server);
	refuse(c, call, buf_head(&text));
	buf_release(&text);
	return CALL_DONE;
}

static enum verdict refuse_arity(struct client *c, const struct call *call)
{
	char text[128];

	refusal_arity(call, text, sizeof(text));
	return refuse(c, call, text);
}

/* A reload may have made it anew, or moved it. */
static bool is_at(const struct unit *u, const struct route *route)
{
	return strcmp(u->up->conf->name, route->up->conf->name) == 0;
}

/* Whether its keys go where the first key went. */
static bool fits(struct client *c, const struct target *t, enum target_status *status)
{
	struct unit *u = c->extra->unit;

	if (!t->keyed)
		return true;
	if (!u->keyed) {
		u->keyed = true;
		u->up = upstream_ref(t->route->up);
		u->slot = t->slot;
		return true;
	}
	*status = is_at(u, t->route) ? TARGET_CROSSSLOT : TARGET_CROSSUPSTREAM;
	return is_at(u, t->route) && t->slot == u->slot;
}

/* Appends the command with what travels with it. */
static void put(struct client *c, struct unit *u, const struct call *call, const struct target *t)
{
	struct pool *p = route_master(t->route, t->slot);
	struct policy_send ours = {0};

	if (call->near)
		near_queue(c, call);
	if (c->w->policy && p)
		policy_compose(c, call, p, call->bytes, call->len, 0, NULL, 0, &ours);
	else if (c->w->policy)
		policy_tx_queued(c, call, 0); /* EXEC will be told that nobody is there */
	if (buf_len(&ours.bytes) > 0)
		buf_put(&u->bytes, buf_head(&ours.bytes), buf_len(&ours.bytes));
	else
		buf_put(&u->bytes, call->bytes, call->len);
	u->n_own += ours.n_after;
	buf_release(&ours.bytes);
}

static enum verdict queue(struct client *c, const struct call *call)
{
	struct unit *u = c->extra->unit;
	struct target t;
	enum target_status status;
	enum verdict verdict;

	if (call->partial) { /* only the whole of it can be queued */
		verdict = target_more(c, call);
		u->bad = u->bad || verdict == CALL_DONE;
		return verdict;
	}
	status = target_of_call(c, call, &t);
	if (status == TARGET_MORE)
		return CALL_WAIT;
	if (status != TARGET_OK || !fits(c, &t, &status)) {
		u->bad = true;
		return target_failed(c, call, status);
	}
	if (buf_len(&u->bytes) + call->len > UNIT_BYTES_MAX)
		return refuse(c, call, reply_error_text(ERROR_TOO_BIG));
	put(c, u, call, &t);
	c->n_queued++;
	c->tx_writes |= command_may_write(call->cmd);
	client_reply_raw(c, call, "+QUEUED\r\n", 9);
	return CALL_DONE;
}

/* ---- EXEC ---- */

/* Where its keys are; NULL: that upstream is no more. */
static struct route *route_of(struct client *c, const struct unit *u)
{
	for (size_t i = 0; u->up && i < c->w->n_routes; i++)
		if (is_at(u, &c->w->routes[i]))
			return &c->w->routes[i];
	return u->up ? NULL : target_home(c);
}

/* Over the link that WATCH holds, or a shared one to where the first key is. */
static bool find_link(struct client *c, const struct call *call, struct link **out, enum verdict *verdict)
{
	const struct unit *u = c->extra->unit;
	struct target t = {.route = route_of(c, u), .slot = u->keyed ? u->slot : -1, .keyed = u->keyed};
	struct pool *p;

	*verdict = CALL_DONE;
	if (!t.route) {
		client_reply_own_error(c, call, ERROR_TX_LOST);
		return false;
	}
	p = c->watching && !u->keyed && c->bound ? c->bound->pool : route_master(t.route, t.slot);
	if (!p) {
		client_reply_error(c, call, target_why(&t));
		return false;
	}
	if (c->watching && c->bound && c->bound->pool != p) {
		target_failed(c, call,
			      c->bound->pool->server->up == p->server->up ? TARGET_CROSSSLOT : TARGET_CROSSUPSTREAM);
		return false;
	}
	return client_route_to(c, call, p, out, verdict);
}

static enum verdict send_unit(struct client *c, const struct call *call)
{
	struct unit *u = c->extra->unit;
	struct buf bytes = {0};
	enum verdict verdict;
	struct request *r;
	struct link *l;

	if (!client_in_order(c, c->tx_writes, &verdict))
		return verdict;
	if (!find_link(c, call, &l, &verdict)) {
		if (verdict == CALL_DONE)
			end(c, true);
		return verdict;
	}
	buf_put(&bytes, multi, sizeof(multi) - 1);
	if (u->bytes.data)
		buf_put(&bytes, buf_head(&u->bytes), buf_len(&u->bytes));
	buf_put(&bytes, exec, sizeof(exec) - 1);
	r = client_request_new(c, call);
	r->flags |= REQUEST_UNIT | REQUEST_WRITE | (c->watching ? REQUEST_IN_TX : 0);
	r->n_before = c->n_queued + u->n_own + 1;
	policy_tx_exec(c, r);
	r->slot = (int16_t)(u->keyed ? u->slot : -1);
	r->deadline_us = c->w->now_us + forward_timeout_us(l, call->cmd);
	client_send(c, r, l, buf_head(&bytes), buf_len(&bytes));
	c->forwarded = true;
	buf_release(&bytes);
	end(c, false);
	return CALL_DONE;
}

static enum verdict handle_end(struct client *c, const struct call *call, bool commit)
{
	if (!commit)
		client_reply_ok(c, call);
	else if (c->extra->unit->bad)
		client_reply_error(c, call, "EXECABORT Transaction discarded because of previous errors.");
	else if (c->watch_lost)
		client_reply_own_error(c, call, ERROR_TX_LOST);
	else if (c->n_queued == 0 && !c->watching)
		client_reply_raw(c, call, "*0\r\n", 4);
	else
		return send_unit(c, call);
	end(c, true);
	return CALL_DONE;
}

enum verdict unit_queue(struct client *c, const struct call *call)
{
	const struct command *cmd = call->cmd;

	if (cmd->flags & CMD_UNKNOWN)
		return refuse_unknown(c, call);
	if ((!call->rw || cmd->flags & CMD_GROWS) && !command_arity_ok(cmd, call->frame->argc))
		return refuse_arity(c, call);
	switch (cmd->handler) {
	case HANDLER_EXEC:
	case HANDLER_DISCARD:
		return handle_end(c, call, cmd->handler == HANDLER_EXEC);
	case HANDLER_QUIT:
		return handle_QUIT(c, call);
	case HANDLER_RESET:
		return handle_RESET(c, call);
	case HANDLER_MULTI:
		client_reply_error(c, call, "ERR MULTI calls can not be nested");
		return CALL_DONE;
	case HANDLER_WATCH:
		client_reply_error(c, call, "ERR WATCH inside MULTI is not allowed");
		return CALL_DONE;
	case HANDLER_SELECT: /* a Cluster has no database but 0: it says so in EXEC */
		if (c->w->n_routes == 1 && c->w->routes[0].topo->slots)
			return queue(c, call);
		break;
	default:
		break;
	}
	if (cmd->in_multi != IN_MULTI_PLAIN || cmd->handler == HANDLER_KEYWEIR || cmd->handler == HANDLER_REFUSED ||
	    cmd->flags & CMD_NO_MULTI)
		return refuse(c, call, reply_error_text(ERROR_IN_MULTI));
	return queue(c, call);
}
