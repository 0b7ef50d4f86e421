/* SPDX-License-Identifier: BSD-2-Clause */
/* Namespaces on the way of a command: see policy.h. */
#include "client/policy.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/dispatch.h"
#include "client/namespace_stats.h"
#include "client/near.h"
#include "client/refusal.h"
#include "client/target.h"
#include "client/unit.h"
#include "policy/sliding.h"
#include "resp/reply_frame.h"
#include "resp/write.h"
#include "server.h"

#define KEPT_BYTES	     ((size_t)256 * 1024) /* of the buffer that requests are written into */
#define EXPIRE_OPTIONS_SINCE 70000

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n", exec[] = "*1\r\n$4\r\nEXEC\r\n",
		  asking[] = "*1\r\n$6\r\nASKING\r\n";

void policy_fix_free(struct fix **fixp)
{
	struct fix *fix = *fixp;
	struct shared_config *holder;

	if (!fix)
		return;
	for (uint32_t i = 0; fix->list && i < fix->list->n; i++)
		policy_fix_free(&fix->list->items[i].fix);
	holder = fix->holder;
	fix_free(fixp);
	if (holder)
		shared_config_unref(&holder);
}

/* ---- before the handler ---- */

static enum rewrite_status rewrite(struct client *c, const struct call *call, bool probing)
{
	struct worker *w = c->w;
	struct rewrite *rw = &w->rewrite;
	struct rewrite_input in = {call->bytes, call->len, call->frame->argc, call->frame->n_seen, call->partial};

	rw->cmd = call->cmd;
	rw->view = client_view(c);
	rw->ring = w->snapshot->holder->keyring;
	rw->random = &w->random;
	rw->now_ms = clock_wall_us() / 1000;
	rw->proto = c->proto;
	rw->probing = probing;
	return rewrite_request(rw, &in);
}

/* Whether upstream names may differ from the client's, or be none of its business. */
static bool hides_names(const struct client *c)
{
	const struct view view = client_view(c);

	return view.bound || namespaces_strict(view.all) || namespaces_rename(view.all);
}

static bool arity_fits(const struct call *call)
{
	return command_arity_ok(call->cmd, call->frame->argc) ||
	       (call->cmd->flags & CMD_GROWS && (int64_t)call->frame->argc > call->cmd->arity);
}

bool policy_allows(struct client *c, const struct call *call)
{
	if (!policy_wants(call->cmd))
		return true;
	return arity_fits(call) ? rewrite(c, call, true) == REWRITE_FINE : !hides_names(c);
}

static enum verdict refuse(struct client *c, const struct call *call, const char *text)
{
	namespace_stats_refused(c->w, &c->w->rewrite);
	if (c->tx == TX_OPEN)
		c->tx = TX_REFUSED;
	else if (c->tx == TX_UNIT)
		unit_spoil(c);
	client_reply_error(c, call, text);
	return CALL_DONE;
}

/* Nobody knows its keys: it is answered here as Redis does, and should the upstream have it, it is learnt. */
static enum verdict refuse_unknown(struct client *c, const struct call *call)
{
	struct buf text = {0};

	if (call->cmd->flags & CMD_UNKNOWN)
		refusal_unknown_command(call, &text);
	else
		refusal_unknown_subcommand(call, &text);
	server_ask_learn(c->w->server);
	refuse(c, call, buf_head(&text));
	buf_release(&text);
	return CALL_DONE;
}

/* The rewritten request, in the worker's buffer. */
static bool write_out(struct worker *w, struct call *call, struct request_frame *f)
{
	w->rewritten.start = w->rewritten.end = 0;
	if (!rewrite_put(&w->rewrite, &w->rewritten))
		return false;
	call->frame = f;
	call->bytes = buf_head(&w->rewritten);
	call->len = buf_len(&w->rewritten);
	request_frame_feed(f, call->bytes, call->len);
	return true;
}

/*
 * Redis refuses it in its own words; but a newer one may know it so, and then its keys must not go up as they are.
 */
static enum verdict wrong_arity(struct client *c, const struct call *call, policy_next_fn next)
{
	char text[128];

	if (!hides_names(c))
		return next(c, call);
	refusal_arity(call, text, sizeof(text));
	return refuse(c, call, text);
}

enum verdict policy_run(struct client *c, struct call *call, policy_next_fn next)
{
	struct worker *w = c->w;
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct call out = *call;
	size_t forced = c->forced_route;
	enum verdict verdict;

	if (!arity_fits(call))
		return wrong_arity(c, call, next);
	switch (rewrite(c, call, false)) {
	case REWRITE_REFUSED:
		return call->cmd->flags & CMD_UNKNOWN || call->cmd->n_subcommands > 0
			       ? refuse_unknown(c, call)
			       : refuse(c, call, w->rewrite.error);
	case REWRITE_MORE:
		return target_more(c, call);
	case REWRITE_FINE:
		break;
	}
	out.rw = &w->rewrite;
	if ((w->near || w->blacklist) && (command_may_write(call->cmd) || call->cmd->flags & CMD_UNKNOWN ||
					  call->cmd->handler == HANDLER_DEDICATED)) {
		near_write(c, &out);
		call->near = out.near;
	} else if (w->near && (call->cmd->cache == CACHE_NONE || !near_may_read(c))) {
		near_pass_read(c, &out);
	}
	if (w->rewrite.changed && !write_out(w, &out, &f)) {
		client_reply_own_error(c, call, ERROR_TOO_BIG);
		return CALL_DONE;
	}
	if (call->cmd->categories & CAT_PUBSUB && forced == 0) /* there the hub listens */
		c->forced_route = 1;
	else if (w->rewrite.where && forced == 0)
		c->forced_route = 1 + w->rewrite.where->conf->upstream_index;
	verdict = next(c, &out);
	c->forced_route = forced;
	fix_free(&w->rewrite.fix);
	if (w->rewritten.capacity > KEPT_BYTES)
		buf_release(&w->rewritten);
	return verdict;
}

void policy_attach(struct request *r, const struct call *call)
{
	struct rewrite *rw = call->rw;
	bool miss = rw->n_keys > 0;

	for (uint32_t i = 0; i < rw->n_keys && miss; i++)
		miss = rw->keys[i].at.ns && rw->keys[i].at.ns->flags & NS_MISS;
	if (miss)
		r->flags |= REQUEST_MISS;
	if (rw->n_keys > 0 && rw->keys[0].at.ns)
		r->ns = (uint16_t)(rw->keys[0].at.ns->id + 1);
	if (!rw->fix || r->client->tx != TX_NONE || r->client->tx_run > 0)
		return;
	r->fix = rw->fix;
	r->fix->holder = shared_config_ref(r->client->w->snapshot->holder);
	rw->fix = NULL;
	r->flags |= REQUEST_COLLECT;
}

/* ---- what travels with it ---- */

/* Which database of which upstream. */
static uint64_t place_hash(const struct client *c, const struct pool *p)
{
	return (uint64_t)(uintptr_t)p->server->up + (uint64_t)client_db_on(c, p);
}

static void put_select(struct buf *out, int db)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", db);
	resp_request(out, 2, (const char *const[]){"SELECT", text});
}

/* The command that gives the key its time to live, if it is to be sent. Returns how many commands. */
static uint32_t put_after(struct client *c, const struct rewrite_key *key, const struct pool *p, struct buf *out)
{
	int release = atomic_load_explicit(&p->server->release, memory_order_relaxed);

	if (key->ttl_ms == 0 || (key->slides && c->watching)) /* what is watched would have changed */
		return 0;
	if (key->slides && !sliding_claim(c->w->server->sliding, place_hash(c, p), key->name, key->len,
					  c->w->now_us / 1000, key->at.ns->conf->ttl_ms / 10))
		return 0;
	if (key->db < 0 || key->db == client_db_on(c, p)) {
		ttl_put_after(out, key, release >= EXPIRE_OPTIONS_SINCE);
		return 1;
	}
	put_select(out, key->db);
	ttl_put_after(out, key, release >= EXPIRE_OPTIONS_SINCE);
	put_select(out, client_db_on(c, p));
	return 3;
}

static bool may_wrap(const struct client *c, uint32_t flags, bool writes)
{
	return writes && !(flags & REQUEST_BLOCKING) && c->tx == TX_NONE && c->tx_run == 0 && !c->watching;
}

void policy_compose(struct client *c, const struct call *call, const struct pool *p, const char *bytes, size_t len,
		    uint32_t flags, const uint32_t *keys, uint32_t n_keys, struct policy_send *out)
{
	const struct rewrite *rw = call->rw;
	bool wrap = may_wrap(c, flags, call->cmd->ttl != TTL_NONE);
	struct buf after = {0};
	uint32_t n = 0;

	*out = (struct policy_send){0};
	if (rw && rw->has_after && !p->readonly) {
		if (!keys)
			n_keys = rw->n_keys;
		for (uint32_t i = 0; i < n_keys; i++)
			n += put_after(c, &rw->keys[keys ? keys[i] : i], p, &after);
	}
	assert(n == 0 || !call->partial);
	if (n > 0) {
		if (wrap)
			buf_puts(&out->bytes, multi);
		buf_put(&out->bytes, bytes, len);
		buf_put(&out->bytes, buf_head(&after), buf_len(&after));
		if (wrap)
			buf_puts(&out->bytes, exec);
		out->flags = wrap ? REQUEST_WRAPPED | REQUEST_UNIT | REQUEST_COLLECT : 0;
		out->n_before = wrap ? n + 2 : 0;
		out->n_after = wrap ? 0 : n;
	}
	buf_release(&after);
	if (c->tx != TX_NONE || c->tx_run > 0)
		policy_tx_queued(c, call, n);
}

static struct slice first_command(const char *bytes, size_t len)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};

	if (request_frame_feed(&f, bytes, len) != FRAME_READY)
		return (struct slice){bytes, len};
	return (struct slice){bytes, f.len};
}

struct slice policy_inner(const struct request *r, const struct buf *bytes)
{
	size_t skip = r->flags & REQUEST_WRAPPED ? sizeof(multi) - 1 : 0;

	for (uint32_t i = r->n_front; i > 0; i--)
		skip += first_command(buf_head(bytes) + skip, buf_len(bytes) - skip).len;
	if (skip == 0 && r->n_after == 0)
		return (struct slice){buf_head(bytes), buf_len(bytes)};
	return first_command(buf_head(bytes) + skip, buf_len(bytes) - skip);
}

void policy_unwrap_for_asking(struct request *r, struct buf *bytes)
{
	bool wrapped = r->flags & REQUEST_WRAPPED;
	const char *p = buf_head(bytes) + (wrapped ? sizeof(multi) - 1 : 0);
	const char *end = buf_head(bytes) + buf_len(bytes) - (wrapped ? sizeof(exec) - 1 : 0);
	struct buf out = {0};
	uint32_t n = 0;

	if (!wrapped && r->n_after == 0)
		return;
	while (p < end) {
		struct slice one = first_command(p, (size_t)(end - p));

		p += one.len;
		if (one.len == sizeof(asking) - 1 && memcmp(one.p, asking, one.len) == 0)
			continue; /* it was asked before */
		if (n++ > 0)
			buf_puts(&out, asking);
		buf_put(&out, one.p, one.len);
	}
	buf_release(bytes);
	*bytes = out;
	r->flags &= ~(uint32_t)(REQUEST_WRAPPED | REQUEST_UNIT);
	r->n_before = 0;
	r->n_after = 2 * (n - 1);
}

/* ---- the reply ---- */

/* What the reply is, that stands in r->reply now. */
static void look(const struct request *r, char *type, int64_t *number)
{
	struct reply_item item = reply_first(buf_head(&r->reply), buf_len(&r->reply), '-');

	*type = item.type;
	*number = item.number;
}

void policy_unwrap(struct request *r, char *type, int64_t *number)
{
	struct reply_cursor cur;
	struct reply_item item;
	const char *from;

	if (buf_len(&r->reply) == 0) /* CLIENT REPLY OFF */
		return;
	if (r->error_len > 0) { /* the error that made EXEC fail */
		r->reply.end = r->reply.start + r->error_len;
		r->error_len = 0;
		look(r, type, number);
		return;
	}
	cur = (struct reply_cursor){buf_head(&r->reply), buf_head(&r->reply) + buf_len(&r->reply)};
	if (!reply_cursor_next(&cur, &item) || item.type != '*' || item.number < 1)
		return;
	from = cur.p;
	reply_cursor_skip(&cur);
	r->reply.start = (size_t)(from - r->reply.data);
	r->reply.end = (size_t)(cur.p - r->reply.data);
	look(r, type, number);
}

bool policy_error(const struct request *r, const char *text, size_t len, struct buf *out)
{
	const struct view view = client_view(r->client);
	const struct namespace *ns = namespaces_at(view.all, r->ns - 1u);

	return ns && fix_error(&view, ns, text, len, out);
}

void policy_fix(struct request *r)
{
	struct buf out = {0};
	const char *error;

	if (buf_len(&r->reply) > 0) {
		error = fix_reply(r->fix, buf_head(&r->reply), buf_len(&r->reply), &out);
		if (error) {
			buf_release(&out);
			resp_error(&out, error);
			counter_add(&r->client->w->counters.not_opened, error == reply_error_text(ERROR_NOT_OPENED));
		}
		buf_release(&r->reply);
		r->reply = out;
	}
	policy_fix_free(&r->fix);
}

/* ---- transactions of the client's ---- */

void policy_tx_drop(struct client *c)
{
	near_tx_drop(c);
	if (c->extra)
		policy_fix_free(&c->extra->tx_fix);
}

void policy_tx_queued(struct client *c, const struct call *call, uint32_t n_own)
{
	struct fix *all = client_extra(c)->tx_fix;
	const struct namespace *ns = NULL;
	struct fix_list *list;
	struct fix *fix = NULL;

	switch (call->cmd->handler) {
	case HANDLER_MULTI:
	case HANDLER_EXEC:
	case HANDLER_DISCARD:
	case HANDLER_WATCH: /* refused, and no reason for EXEC to fail */
		return;
	default:
		break;
	}
	if (!all) {
		all = c->extra->tx_fix = xcalloc(1, sizeof(*all));
		all->list = xcalloc(1, sizeof(*all->list));
		all->holder = shared_config_ref(c->w->snapshot->holder);
		all->view = client_view(c);
	}
	list = all->list;
	if (list->n == list->room) {
		list->room = list->room * 2 + 8;
		list->items = xreallocarray(list->items, list->room, sizeof(*list->items));
	}
	if (call->rw && call->rw->fix) {
		fix = call->rw->fix;
		fix->holder = shared_config_ref(c->w->snapshot->holder);
		call->rw->fix = NULL;
	}
	if (call->rw && call->rw->n_keys > 0 && all->holder == c->w->snapshot->holder)
		ns = call->rw->keys[0].at.ns;
	list->items[list->n++] = (struct fix_item){fix, ns, n_own};
}

void policy_tx_exec(struct client *c, struct request *r)
{
	struct fix *fix = c->extra ? c->extra->tx_fix : NULL;
	bool needed = false;

	near_tx_exec(c, r);
	if (!fix)
		return;
	c->extra->tx_fix = NULL;
	for (uint32_t i = 0; i < fix->list->n; i++)
		needed = needed || fix->list->items[i].fix || fix->list->items[i].ns || fix->list->items[i].n_own > 0;
	if (!needed) {
		policy_fix_free(&fix);
		return;
	}
	r->fix = fix;
	r->flags |= REQUEST_COLLECT;
}
