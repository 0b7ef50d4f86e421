/* SPDX-License-Identifier: BSD-2-Clause */
/* Redirections and requests that are sent again: see redirect.h. */
#include "client/redirect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/absent.h"
#include "client/join.h"
#include "client/near.h"
#include "client/policy.h"
#include "client/scripts.h"
#include "client/target.h"
#include "client/unit.h"
#include "resp/number.h"
#include "server.h"

#define PARK_US	       50000
#define MAP_WAIT_US    2000000
#define KEEP_POOL_US   60000000 /* a node named by a redirection, until the map has it */
#define NEW_POOLS_MAX  256
#define HOST_BYTES_MAX 256

struct parked {
	struct list node; /* in worker.parked */
	struct request *request;
	struct upstream *up; /* a reference */
	struct buf bytes;
	int64_t retry_us;
};

enum redirection { REDIRECT_NONE, REDIRECT_MOVED, REDIRECT_ASK, REDIRECT_LATER };

/* Where "-MOVED 3999 127.0.0.1:6381" points; an empty host is that of the node itself, "?" is nobody. */
struct endpoint {
	char host[HOST_BYTES_MAX];
	int port;
};

void redirect_stale(struct worker *w, struct upstream *up)
{
	if (up->conf->mode != UPSTREAM_STANDALONE && !atomic_exchange(&up->stale, true))
		server_ask_topology(w->server);
}

static bool begins(const char *line, size_t len, const char *word)
{
	size_t n = strlen(word);

	return len > n && memcmp(line + 1, word, n) == 0 && (line[n + 1] == ' ' || line[n + 1] == '\r');
}

static enum redirection classify(const char *line, size_t len, bool blocking, const struct pool *from)
{
	bool cluster = from->server->conf->mode == UPSTREAM_CLUSTER;

	if (cluster && begins(line, len, "MOVED"))
		return REDIRECT_MOVED;
	if (cluster && begins(line, len, "ASK"))
		return REDIRECT_ASK;
	if (cluster && (begins(line, len, "TRYAGAIN") || begins(line, len, "CLUSTERDOWN")))
		return REDIRECT_LATER;
	if (begins(line, len, "READONLY") || begins(line, len, "MASTERDOWN"))
		return REDIRECT_LATER;
	if (from->readonly && begins(line, len, "LOADING"))
		return REDIRECT_LATER;
	if (blocking && begins(line, len, "UNBLOCKED"))
		return REDIRECT_LATER;
	return REDIRECT_NONE;
}

/* "-MOVED 3999 host:port\r\n". False: nobody can be asked there. */
static bool parse_endpoint(const char *line, size_t len, const struct node *from, struct endpoint *out)
{
	const char *end = line + len - 2, *space = memchr(line, ' ', len), *colon;
	int64_t port;
	size_t n;

	if (len < 3 || !space)
		return false;
	space = memchr(space + 1, ' ', (size_t)(end - space - 1));
	colon = space ? memrchr(space, ':', (size_t)(end - space)) : NULL;
	if (!colon || !parse_int64(colon + 1, (size_t)(end - colon - 1), &port) || port < 1 || port > 65535)
		return false;
	n = (size_t)(colon - space - 1);
	if (n >= sizeof(out->host) || (n == 1 && space[1] == '?'))
		return false;
	if (n == 0)
		snprintf(out->host, sizeof(out->host), "%s", from->host);
	else
		snprintf(out->host, sizeof(out->host), "%.*s", (int)n, space + 1);
	out->port = (int)port;
	return true;
}

/* ---- sending ---- */

static const char asking[] = "*1\r\n$6\r\nASKING\r\n";

/* Requests of the proxy's own, whose replies are dropped, right before r. */
static void send_before(struct link *l, const char *bytes, size_t len)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};

	while (len > 0 && request_frame_feed(&f, bytes, len) == FRAME_READY) {
		forward_own(l, bytes, f.len);
		bytes += f.len;
		len -= f.len;
		request_frame_reset(&f);
	}
}

void redirect_send_asking(struct link *l)
{
	forward_own(l, asking, sizeof(asking) - 1);
}

/* A link for r to p. What blocks takes a dedicated one. */
static bool link_for(struct client *c, struct request *r, struct pool *p, struct link **out)
{
	int db = client_db_on(c, p);

	if (!(r->flags & REQUEST_BLOCKING))
		return client_link_for(c, p, db, out) == POOL_OK;
	if (c->bound && c->bound->pool != p) {
		struct link *old = c->bound;

		if (c->watching || c->tx != TX_NONE || client_lane(c, old->pool)->n > 0)
			return false;
		c->bound = NULL;
		pool_release(old->pool, old);
	}
	if (!c->bound && pool_lease(p, c->proto, db, c, &c->bound) != POOL_OK) {
		c->bound = NULL;
		return false;
	}
	client_select_db(c->bound, db);
	*out = c->bound;
	return true;
}

/* A unit's replies are expected anew. */
static void begin_anew(struct request *r, const struct buf *bytes)
{
	r->reply.start = r->reply.end = 0;
	if (!(r->flags & REQUEST_UNIT))
		return;
	r->error_len = 0;
	r->n_before = unit_commands(buf_head(bytes), buf_len(bytes)) - 1;
}

static bool send_to(struct request *r, struct pool *p, const struct buf *bytes, const struct buf *before)
{
	struct client *c = r->client;
	struct link *l;

	if (!link_for(c, r, p, &l))
		return false;
	c->n_upstream--; /* it counts already */
	c->bytes_upstream -= r->len;
	r->flags &= ~(uint32_t)(REQUEST_BEGUN | REQUEST_CUT);
	r->next_in_link = NULL;
	begin_anew(r, bytes);
	if (before && before->data)
		send_before(l, buf_head(before), buf_len(before));
	client_send(c, r, l, buf_head(bytes), buf_len(bytes));
	return true;
}

/* ---- waiting ---- */

static void park(struct request *r, struct upstream *up, const struct buf *bytes)
{
	struct parked *p = xcalloc(1, sizeof(*p));
	struct worker *w = r->client->w;

	p->request = r;
	p->up = upstream_ref(up);
	p->retry_us = w->now_us + PARK_US;
	buf_put(&p->bytes, buf_head(bytes), buf_len(bytes));
	list_append(&w->parked, &p->node);
	r->flags |= REQUEST_PARKED;
	r->client->n_parked++;
	worker_wake_tick(w);
}

static void unpark(struct parked *p)
{
	list_remove(&p->node);
	p->request->flags &= ~(uint32_t)REQUEST_PARKED;
	if (p->request->client)
		p->request->client->n_parked--;
}

static void parked_free(struct parked *p)
{
	upstream_unref(&p->up);
	buf_release(&p->bytes);
	free(p);
}

/* Nothing came of it: the client is told. */
static void give_up(struct request *r, const struct buf *bytes, const char *text)
{
	struct client *c = r->client;

	c->n_upstream--;
	c->bytes_upstream -= r->len;
	if (c->wait == WAIT_DRAIN || c->wait == WAIT_ROOM)
		client_resume_soon(c);
	client_maybe_unbind(c);
	if (absent_stand_in_of(r, bytes))
		client_answered_absent(r);
	else
		client_fail_request(r, text);
}

static void try_parked(struct worker *w, struct parked *p)
{
	struct request *r = p->request;
	struct route *route = worker_route(w, p->up);
	struct pool *pool = route ? route_master(route, r->slot) : NULL;

	unpark(p);
	if (!r->client) /* it has left */
		request_free(&w->requests, &r);
	else if (pool && !pool_is_down(pool) && send_to(r, pool, &p->bytes, NULL))
		;
	else if (!route || (r->deadline_us > 0 && w->now_us >= r->deadline_us)) /* or its upstream is no more */
		give_up(r, &p->bytes, pool && pool->down ? pool->why : reply_error_text(ERROR_NO_MASTER));
	else
		park(r, p->up, &p->bytes);
	parked_free(p);
}

void redirect_tick(struct worker *w, bool changed)
{
	struct list all;

	if (list_empty(&w->parked))
		return;
	list_init(&all);
	LIST_EACH (pos, next, &w->parked) {
		list_remove(pos);
		list_append(&all, pos);
	}
	while (!list_empty(&all)) {
		struct parked *p = container_of(all.next, struct parked, node);

		if (changed || w->now_us >= p->retry_us || !p->request->client) {
			try_parked(w, p);
		} else {
			list_remove(&p->node);
			list_append(&w->parked, &p->node);
		}
	}
}

void redirect_drop_all(struct worker *w)
{
	while (!list_empty(&w->parked)) {
		struct parked *p = container_of(w->parked.next, struct parked, node);
		struct request *r = p->request;

		unpark(p);
		if (!r->client)
			request_free(&w->requests, &r);
		parked_free(p);
	}
}

/* ---- deciding ---- */

/* Whether `later` was sent, may have been executed, and r must not come after it. */
static bool overtakes(const struct request *later, const struct request *r)
{
	return later->len > 0 && !(later->flags & REQUEST_PARKED) && later->slot == r->slot &&
	       (later->flags | r->flags) & REQUEST_WRITE;
}

/* Whether a later request of the client with keys in the same slot was sent already: this one must not overtake it. */
static bool overtaken(const struct request *r)
{
	const struct request *at = r->flags & REQUEST_PART ? ((struct fanout *)(intptr_t)r->arg)->parent : r;

	for (const struct request *later = at->next; later; later = later->next) {
		const struct fanout *f = later->flags & REQUEST_PARTED ? (struct fanout *)(intptr_t)later->arg : NULL;

		if (overtakes(later, r))
			return true;
		for (uint32_t i = 0; f && i < f->n; i++)
			if (f->parts[i].request && overtakes(f->parts[i].request, r))
				return true;
	}
	return false;
}

/*
 * What a script says of its own accord looks like a redirection, too: it must not lead our connections, which log in,
 * to any place in the world. A Cluster redirects what has keys.
 */
static bool may_lead_anywhere(const struct command *cmd, int slot)
{
	return slot >= 0 && cmd && !(cmd->categories & CAT_SCRIPTING);
}

/* The pool of a node that a redirection names; it may be new to us. NULL: first the map must name it. */
static struct pool *pool_at(struct worker *w, struct upstream *up, const struct endpoint *at, bool anywhere)
{
	struct node *n = upstream_node(up, at->host, at->port);
	struct pool *found = NULL;
	unsigned n_new = 0;

	LIST_EACH (pos, next, &w->pools) {
		struct pool *p = container_of(pos, struct pool, node);

		n_new += !p->seen;
		if (p->server == n && !p->readonly)
			found = p;
	}
	if (!found && anywhere && n_new < NEW_POOLS_MAX)
		found = route_pool(w, n, false);
	if (found && !found->seen) {
		found->keep_until_us = w->now_us + KEEP_POOL_US;
		node_resolve_soon(n);
	}
	node_unref(&n);
	return found;
}

bool redirect_send(struct request *r, struct upstream *up, const struct buf *bytes)
{
	struct worker *w = r->client->w;
	struct route *route = worker_route(w, up);
	struct pool *p = route ? route_master(route, r->slot) : NULL;

	if (p && !pool_is_down(p) && send_to(r, p, bytes, NULL))
		return true;
	if (!route || up->conf->mode == UPSTREAM_STANDALONE)
		return false;
	park(r, up, bytes);
	return true;
}

/* A node that has joined lacks a script or a function: it is loaded there, and r sent again behind it. */
bool redirect_load_missing(struct request *r, struct link *l, const char *line, size_t len)
{
	struct buf bytes = {0}, before = {0};
	bool whole_unit = (r->flags & (REQUEST_UNIT | REQUEST_WRAPPED)) == REQUEST_UNIT;
	bool ok = !(r->flags & (REQUEST_IN_TX | REQUEST_STREAMED)) && !whole_unit && r->redirects < REDIRECTS_MAX &&
		  !l->pool->readonly && outq_peek(&l->out, r->pos, (size_t)r->len, &bytes);
	struct slice inner = ok ? policy_inner(r, &bytes) : (struct slice){NULL, 0};

	ok = ok && scripts_missing(l->pool->server->up, line, len, inner, &before) > 0;
	if (ok) {
		near_strip(r, &bytes);
		r->redirects++;
		client_leave_lane(r->client, r);
		if (!send_to(r, l->pool, &bytes, &before))
			park(r, l->pool->server->up, &bytes);
	}
	buf_release(&before);
	buf_release(&bytes);
	return ok;
}

static void note(struct worker *w, struct upstream *up, enum redirection what, const char *line, size_t len)
{
	if (what != REDIRECT_ASK && !begins(line, len, "TRYAGAIN"))
		redirect_stale(w, up);
	atomic_fetch_add(&up->redirects, 1);
}

bool redirect_read(struct link *l, const struct command *cmd, int slot, const char *line, size_t len,
		   struct redirect_to *out)
{
	enum redirection what = classify(line, len, false, l->pool);
	struct upstream *up = l->pool->server->up;
	struct endpoint at;
	struct pool *p = NULL;

	*out = (struct redirect_to){NULL, what == REDIRECT_ASK};
	if (what == REDIRECT_NONE)
		return false;
	note(l->w, up, what, line, len);
	if (what != REDIRECT_LATER && parse_endpoint(line, len, l->pool->server, &at))
		p = pool_at(l->w, up, &at, may_lead_anywhere(cmd, slot));
	if (p)
		out->node = node_ref(p->server);
	return true;
}

bool redirect_follow(struct request *r, struct link *l, const char *line, size_t len)
{
	enum redirection what = classify(line, len, r->flags & REQUEST_BLOCKING, l->pool);
	struct worker *w = l->w;
	struct upstream *up = l->pool->server->up;
	struct endpoint at;
	struct buf bytes = {0}, before = {0};
	struct pool *p = NULL;

	if (what == REDIRECT_NONE)
		return redirect_load_missing(r, l, line, len);
	note(w, up, what, line, len);
	if (r->flags & (REQUEST_IN_TX | REQUEST_STREAMED) || (what != REDIRECT_LATER && r->redirects >= REDIRECTS_MAX))
		return false;
	if (what != REDIRECT_LATER && parse_endpoint(line, len, l->pool->server, &at))
		p = pool_at(w, up, &at, may_lead_anywhere(r->cmd, r->slot));
	if (l->pool->readonly) { /* what a replica can't answer, its master can */
		struct route *route = worker_route(w, up);

		p = route ? route_master(route, r->slot) : NULL;
	}
	if (p && pool_is_down(p))
		p = NULL;
	if (!p && r->deadline_us > 0 && w->now_us >= r->deadline_us)
		return false;
	/* The next map must name the node: one comes within a second. But a script says such things of its own accord.
	 */
	if (!p && what != REDIRECT_LATER && w->now_us - r->start_us > MAP_WAIT_US)
		return false;
	if (what == REDIRECT_LATER && overtaken(r))
		return false;
	if (!outq_peek(&l->out, r->pos, (size_t)r->len, &bytes)) {
		buf_release(&bytes);
		return false;
	}
	near_strip(r, &bytes);
	/* Only what is followed counts. New keys of a slot on the move are ASK here and TRYAGAIN there. */
	r->redirects = what == REDIRECT_LATER ? 0 : r->redirects + (p != NULL);
	client_leave_lane(r->client, r);
	if (what == REDIRECT_ASK) {
		buf_put(&before, asking, sizeof(asking) - 1);
		policy_unwrap_for_asking(r, &bytes);
	}
	if (!p || !send_to(r, p, &bytes, &before))
		park(r, up, &bytes);
	buf_release(&before);
	buf_release(&bytes);
	return true;
}
