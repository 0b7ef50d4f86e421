/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes of clients: what they do away with is forgotten before they are sent, and again before anybody sees their
 * reply, so that whoever has seen it reads nothing older on this proxy. See near.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/near.h"
#include "client/target.h"
#include "client/token.h"
#include "server.h"

/* ---- what a call does away with ---- */

/* Nobody knows what it may have written beside its keys. */
static bool writes_anything(const struct command *cmd)
{
	return cmd->flags & CMD_UNKNOWN ||
	       (command_may_write(cmd) && (cmd->categories & CAT_SCRIPTING || cmd->id >= command_count()));
}

/* Without keys: all of them (FLUSHALL, SWAPDB, DEBUG ...). */
static bool writes_all(const struct command *cmd)
{
	return cmd->n_specs == 0 && !(cmd->categories & CAT_SCRIPTING) && !(cmd->flags & CMD_UNKNOWN) &&
	       (cmd->flags & CMD_WRITE || (cmd->handler == HANDLER_DEDICATED && cmd->flags & CMD_ADMIN));
}

static void end_truths(struct worker *w, const struct upstream *up)
{
	const struct route *r = worker_route(w, up);

	for (unsigned i = 0; r && i < r->topo->n_shards; i++)
		if (r->topo->shards[i].master)
			truth_end(&r->topo->shards[i].master->truth, false, w->now_us);
}

static void add_hash(struct near_touched *t, uint64_t hash)
{
	if (t->n == t->room) {
		t->room = t->room * 2 + 4;
		t->hashes = xreallocarray(t->hashes, t->room, sizeof(*t->hashes));
	}
	t->hashes[t->n++] = hash;
}

static struct upstream *whole_upstream(const struct client *c, const struct rewrite *rw)
{
	return rw->where ? c->w->routes[rw->where->conf->upstream_index].up : target_main(c)->up;
}

void near_write(struct client *c, struct call *call)
{
	const struct rewrite *rw = call->rw;
	struct near_call *n = &c->w->near_call;
	struct near_touched *t = &n->touched;

	near_begin(c);
	for (uint32_t i = 0; i < rw->n_keys; i++) {
		const struct rewrite_key *key = &rw->keys[i];
		uint64_t hash;

		if (key->at.ns && key->at.ns->flags & NS_TOKENS && !(key->flags & KEY_RO))
			token_mark(c, &t->tokens, key);
		if (!key->at.ns || !(key->at.ns->flags & NS_NEAR) || key->flags & KEY_RO)
			continue;
		hash = store_hash(c->w->near, c->w->routes[key->at.ns->conf->upstream_index].up->id, key->name,
				  key->len);
		near_note_busy(c, hash);
		store_forget_hash(c->w->near, hash, STORE_OWN_WRITE, c->w->now_us);
		add_hash(t, hash);
	}
	if (writes_all(call->cmd)) {
		upstream_unref(&t->flushed);
		t->flushed = upstream_ref(whole_upstream(c, rw));
		end_truths(c->w, t->flushed);
	}
	t->fence = writes_anything(call->cmd);
	if (t->n > 0 || t->flushed || t->fence || t->tokens.n > 0)
		call->near = n;
}

/* ---- who answers for it ---- */

void near_touched_free(struct near_touched **tp)
{
	struct near_touched *t = *tp;

	*tp = NULL;
	if (!t)
		return;
	upstream_unref(&t->flushed);
	token_marks_drop(&t->tokens);
	free(t->hashes);
	free(t);
}

/* Puts what is in `from` behind what is in `to`; from is empty then. */
static void move(struct near_touched *to, struct near_touched *from)
{
	for (uint32_t i = 0; i < from->n; i++)
		add_hash(to, from->hashes[i]);
	if (from->flushed) {
		upstream_unref(&to->flushed);
		to->flushed = from->flushed;
		from->flushed = NULL;
	}
	token_marks_move(&to->tokens, &from->tokens);
	to->fence = to->fence || from->fence;
	from->n = 0;
	from->fence = false;
}

static void give(struct request *r, struct near_touched *t)
{
	if (!r->near)
		r->near = xcalloc(1, sizeof(*r->near));
	r->near->touched = t;
	r->client->near.n_fencing++; /* until it is answered nothing is read from memory */
}

static bool is_queued(const struct client *c, const struct call *call)
{
	return (c->tx != TX_NONE || c->tx_run > 0) && call->cmd->handler != HANDLER_EXEC;
}

void near_queue(struct client *c, const struct call *call)
{
	struct client_extra *x = client_extra(c);

	if (!x->near_tx)
		x->near_tx = xcalloc(1, sizeof(*x->near_tx));
	move(x->near_tx, &call->near->touched);
}

void near_adopt(struct client *c, const struct call *call, struct request *r)
{
	struct near_touched *t = &call->near->touched;

	if (call->near->merge) {
		r->near = xcalloc(1, sizeof(*r->near));
		r->near->merge = call->near->merge;
		call->near->merge = NULL;
		r->flags |= REQUEST_COLLECT;
	}
	if (t->n == 0 && !t->flushed && !t->fence && t->tokens.n == 0)
		return;
	if (is_queued(c, call)) {
		near_queue(c, call);
	} else if (t->n == 1 && !t->flushed && !t->fence && t->tokens.n == 0) {
		r->wrote = t->hashes[0];
		t->n = 0;
	} else {
		struct near_touched *own = xcalloc(1, sizeof(*own));

		move(own, t);
		give(r, own);
	}
}

void near_tx_drop(struct client *c)
{
	if (c->extra)
		near_touched_free(&c->extra->near_tx);
}

void near_tx_exec(struct client *c, struct request *r)
{
	struct near_touched *t = c->extra ? c->extra->near_tx : NULL;

	if (!t)
		return;
	c->extra->near_tx = NULL;
	give(r, t);
}

/* ---- it is done ---- */

static void settle_touched(struct worker *w, struct request *r)
{
	struct near_touched *t = r->near->touched;

	for (uint32_t i = 0; i < t->n && w->near; i++)
		store_forget_hash(w->near, t->hashes[i], STORE_OWN_WRITE, w->now_us);
	if (t->flushed)
		end_truths(w, t->flushed);
	if (r->client)
		r->client->near.n_fencing--;
	token_marks_settle(w->server, &t->tokens);
	if (r->client && (t->fence || (t->flushed && w->blacklist)))
		r->client->near.fence_us = clock_now_us();
	near_touched_free(&r->near->touched);
}

void near_settle(struct worker *w, struct request *r)
{
	if (r->wrote && w->near)
		store_forget_hash(w->near, r->wrote, STORE_OWN_WRITE, w->now_us);
	r->wrote = 0;
	if (r->near && r->near->touched)
		settle_touched(w, r);
}
