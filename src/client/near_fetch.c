/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is fetched to be kept: "PTTL key" in front of the read, in the same write, so that its time is known when its
 * reply is there. The reply goes to the client as it comes, and to the store when it is whole. See near.h.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "client/namespace_stats.h"
#include "client/near_wait.h"
#include "client/policy.h"
#include "resp/reply_frame.h"
#include "resp/write.h"
#include "upstream/route.h"
#include "server.h"

#define TTL_UNKNOWN (-3) /* PTTL says -1: for ever, and -2: no such key */
#define TTL_ABSENT  (-2)

struct near_key {
	struct flight *flight; /* NULL: landed */
	int64_t ttl_ms;	       /* as PTTL said */
	int64_t limit_us;      /* at most so long, whatever it said */
	uint32_t index;	       /* which key of its request */
};

struct near_fetch {
	struct shared_config *holder; /* whose store the flights are of; a reference. NULL until sent */
	int64_t sent_us;
	struct buf reply; /* so far, when it comes in pieces */
	bool too_large;
	bool many;	  /* the reply is an array of one for each key */
	uint32_t n_front; /* PTTLs that stand in front of the command */
	uint32_t n_heard;
	uint32_t n;
	struct near_key keys[];
};

struct near_fetch *near_fetch_new(uint32_t n_max)
{
	return xcalloc(1, sizeof(struct near_fetch) + n_max * sizeof(struct near_key));
}

static int64_t lower(int64_t a, int64_t b)
{
	return b > 0 && b < a ? b : a;
}

/* How long a reply may be kept, apart from its key's time. */
static int64_t limit_us(const struct worker *w, const struct near_place *at)
{
	const struct near_cache_config *conf = &w->snapshot->config->near_cache;
	int64_t ms = conf->max_ttl_ms;

	if (atomic_load_explicit(&at->node->truth.mode, memory_order_relaxed) == TRACKING_NONE)
		ms = lower(ms, conf->max_staleness_ms);
	if (at->ns->flags & NS_SLIDING) /* reads must get through now and then */
		ms = lower(ms, at->ns->conf->ttl_ms / 10);
	return ms * 1000;
}

void near_fetch_add(struct worker *w, struct near_fetch *f, struct flight *flight, const struct near_place *at,
		    uint32_t index)
{
	f->keys[f->n++] = (struct near_key){flight, TTL_UNKNOWN, limit_us(w, at), index};
}

/* ---- sending ---- */

static struct near *near_of(struct request *r)
{
	if (!r->near)
		r->near = xcalloc(1, sizeof(*r->near));
	return r->near;
}

static void put_pttl(struct buf *out, const struct rewrite_key *key)
{
	resp_array(out, 2);
	resp_bulks(out, "PTTL");
	resp_bulk(out, key->name, key->len);
}

static bool wants_fallback(const struct call *call)
{
	const struct namespace *ns = call->rw->keys[0].at.ns;

	return ns && ns->conf->race_condition_ttl_ms > 0;
}

static void send_with(struct client *c, const struct call *call, struct request *r, struct near_fetch *f)
{
	f->holder = shared_config_ref(c->w->snapshot->holder);
	f->sent_us = c->w->now_us;
	f->n_front = f->n;
	near_of(r)->fetch = f;
	r->n_before += f->n_front;
	if (!f->many && wants_fallback(call))
		r->flags |= REQUEST_COLLECT;
}

void near_attach(struct client *c, const struct call *call, struct request *r, const char *bytes, size_t len,
		 struct buf *out)
{
	struct near_fetch *f = call->near->fetch;

	if (!f || !call->rw || r->on_reply || r->flags & REQUEST_STREAMED)
		return;
	call->near->fetch = NULL;
	f->many = call->cmd->cache == CACHE_MANY;
	for (uint32_t i = 0; i < f->n; i++)
		put_pttl(out, &call->rw->keys[f->keys[i].index]);
	buf_put(out, bytes, len);
	send_with(c, call, r, f);
}

/* Takes the flight of key `index` out of f. */
static bool take(struct near_fetch *f, uint32_t index, struct near_key *out)
{
	for (uint32_t i = 0; i < f->n; i++) {
		if (f->keys[i].index != index || !f->keys[i].flight)
			continue;
		*out = f->keys[i];
		f->keys[i].flight = NULL;
		return true;
	}
	return false;
}

void near_attach_group(struct client *c, const struct call *call, struct request *r, const uint32_t *keys, uint32_t n,
		       const struct buf *bytes, struct buf *out)
{
	struct near_fetch *all = call->near ? call->near->fetch : NULL, *f;

	if (!all || call->rw->fix) /* sealed: what a part brings is not what the client gets */
		return;
	f = near_fetch_new(n);
	f->many = true;
	for (uint32_t i = 0; i < n; i++) {
		if (!take(all, keys[i], &f->keys[f->n]))
			continue;
		f->keys[f->n++].index = i;
		put_pttl(out, &call->rw->keys[keys[i]]);
	}
	if (f->n == 0) {
		free(f);
		return;
	}
	buf_put(out, buf_head(bytes), buf_len(bytes));
	send_with(c, call, r, f);
}

uint32_t near_in_front(const struct request *r)
{
	return r->near && r->near->fetch ? r->near->fetch->n_front : 0;
}

/* ---- its end ---- */

static void land(struct worker *w, struct near_fetch *f, struct near_key *key, struct store_landing *landing,
		 struct store_landed *landed)
{
	struct store *s = f->holder ? f->holder->store : w->near;

	store_land(s, &key->flight, landing, landed);
}

static void fetch_free(struct near_fetch **fp)
{
	struct near_fetch *f = *fp;

	*fp = NULL;
	if (f->holder)
		shared_config_unref(&f->holder);
	buf_release(&f->reply);
	free(f);
}

static void land_empty(struct worker *w, struct near_fetch **f, bool too_large, const char *error)
{
	for (uint32_t i = 0; i < (*f)->n; i++) {
		struct store_landing nothing = {.too_large = too_large, .now_us = w->now_us};
		struct store_landed landed = {0};

		if (!(*f)->keys[i].flight)
			continue;
		land(w, *f, &(*f)->keys[i], &nothing, &landed);
		near_tell(landed.waiters, NULL, 0, error);
		buf_release(&landed.fallback);
	}
	fetch_free(f);
}

void near_fetch_drop(struct worker *w, struct near_fetch **f)
{
	land_empty(w, f, false, NULL);
}

void near_failed(struct worker *w, struct request *r, const char *text)
{
	if (r->near && r->near->fetch)
		land_empty(w, &r->near->fetch, false, text);
}

/* ---- what comes ---- */

void near_before(struct request *r, char type, int64_t number)
{
	struct near_fetch *f = r->near->fetch;

	if (f && f->n_heard < f->n)
		f->keys[f->n_heard++].ttl_ms = type == ':' ? number : TTL_UNKNOWN;
}

/* One that both protocols write alike. Sorted sets have doubles, which RESP2 writes as strings. */
static bool is_in_any_proto(const struct command *cmd, const char *reply)
{
	if (cmd->id >= command_count())
		return false;
	return *reply == ':' || *reply == '+' ||
	       (*reply == '$' && reply[1] != '-' && !(cmd->categories & CAT_SORTEDSET));
}

/* The reply about one key, as far as the key's time allows. */
static void land_reply(struct worker *w, const struct request *r, struct near_fetch *f, struct near_key *key,
		       struct slice reply, struct store_landed *landed)
{
	struct store_landing landing = {.now_us = w->now_us};
	bool error = reply.len == 0 || *reply.p == '-' || *reply.p == '!';
	bool limited = key->ttl_ms < 0 || key->ttl_ms > key->limit_us / 1000;

	if (!error && key->ttl_ms != TTL_UNKNOWN) {
		landing.reply = reply.p;
		landing.len = reply.len;
		landing.expires_us = f->sent_us + (limited ? key->limit_us : key->ttl_ms * 1000);
		landing.key_expires = !limited;
		landing.absent = key->ttl_ms == TTL_ABSENT;
		landing.any_proto = is_in_any_proto(r->cmd, reply.p);
	}
	land(w, f, key, &landing, landed);
	if (buf_len(&landed->fallback) > 0)
		reply = (struct slice){buf_head(&landed->fallback), buf_len(&landed->fallback)};
	near_tell(landed->waiters, error ? NULL : reply.p, reply.len, NULL);
	if (landed->makes)
		buf_release(&landed->fallback);
}

/* An MGET's: a null may also be a key of another type, of which GET would say so. */
static void land_many(struct worker *w, const struct request *r, struct near_fetch *f, struct slice reply)
{
	struct reply_cursor cur = {reply.p, reply.p + reply.len};
	struct reply_item item;
	uint32_t at = 0;

	if (!reply_cursor_next(&cur, &item) || item.type != '*')
		return;
	for (uint32_t i = 0; i < f->n; i++) {
		struct near_key *key = &f->keys[i];
		struct store_landed landed = {0};
		struct slice one;

		for (; at < key->index; at++)
			reply_cursor_skip(&cur);
		one.p = cur.p;
		reply_cursor_skip(&cur);
		at++;
		one.len = (size_t)(cur.p - one.p);
		if (one.len > 0 && *one.p == '$' && one.p[1] != '-')
			land_reply(w, r, f, key, one, &landed);
		else if (one.len > 0 && key->ttl_ms == TTL_ABSENT)
			land_reply(w, r, f, key, one, &landed);
		buf_release(&landed.fallback);
	}
}

static size_t max_bytes(const struct near_fetch *f)
{
	return (size_t)f->holder->config->near_cache.max_value_bytes * (f->many ? f->n : 1);
}

/* All of the reply is there. What the client gets instead, if anything, is put in *fallback. */
static void land_whole(struct worker *w, struct request *r, struct slice reply, struct buf *fallback)
{
	struct near_fetch *f = r->near->fetch;
	struct store_landed landed = {0};

	r->near->fetch = NULL;
	if (f->too_large || reply.len > max_bytes(f)) {
		land_empty(w, &f, true, NULL);
		return;
	}
	if (f->many)
		land_many(w, r, f, reply);
	else
		land_reply(w, r, f, &f->keys[0], reply, &landed);
	*fallback = landed.fallback;
	land_empty(w, &f, false, NULL); /* what the reply did not have */
}

void near_hear(struct worker *w, struct request *r, const char *data, size_t len, bool done)
{
	struct near_fetch *f = r->near->fetch;
	struct slice reply = {data, len};
	struct buf fallback = {0};

	if (!f || (r->client && r->flags & REQUEST_COLLECT)) /* near_gathered() */
		return;
	if (r->fix || r->flags & REQUEST_COLLECT) { /* its client has left with what it takes */
		near_fetch_drop(w, &r->near->fetch);
		return;
	}
	if (!done || buf_len(&f->reply) > 0) {
		f->too_large =
			f->too_large || buf_len(&f->reply) + len > max_bytes(f) || !buf_append(&f->reply, data, len);
		if (f->too_large)
			buf_release(&f->reply);
		reply = (struct slice){f->reply.data ? buf_head(&f->reply) : data, buf_len(&f->reply)};
	}
	if (done)
		land_whole(w, r, reply, &fallback);
	buf_release(&fallback);
}

void near_gathered(struct request *r)
{
	struct worker *w = r->client->w;
	struct slice reply = {r->reply.data ? buf_head(&r->reply) : "", buf_len(&r->reply)};
	struct buf fallback = {0};

	if (r->near->fetch && (r->flags & REQUEST_COLLECT)) {
		land_whole(w, r, reply, &fallback);
		if (buf_len(&fallback) > 0) {
			buf_release(&r->reply);
			r->reply = fallback;
			if (r->ns > 0 && r->ns <= namespaces_count(w->snapshot->holder->namespaces))
				namespace_stats_near_stale(w, r->ns - 1);
		}
	}
	if (r->near->merge)
		near_merge_reply(r);
}

/* ---- other ends ---- */

void near_strip(struct request *r, struct buf *bytes)
{
	struct near_fetch *f = r->near ? r->near->fetch : NULL;
	struct slice inner;
	struct buf out = {0};

	if (!f || f->n_front == 0)
		return;
	inner = policy_inner(r, bytes);
	buf_put(&out, inner.p, inner.len);
	buf_release(bytes);
	*bytes = out;
	near_fetch_drop(r->client->w, &r->near->fetch);
	r->n_before = 0;
}

void near_release(struct worker *w, struct request *r)
{
	struct near *near = r->near;

	near_settle(w, r);
	if (!near)
		return;
	r->near = NULL;
	if (near->fetch)
		near_fetch_drop(w, &near->fetch);
	near_merge_free(&near->merge);
	if (near->waiter)
		near->waiter->request = NULL; /* its flight has it still */
	near_touched_free(&near->touched);
	free(near);
}
