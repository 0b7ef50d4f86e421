/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is fetched to be kept: "PTTL key" in front of the read, in the same write, so that its time is known when its
 * reply is there. The reply goes to the client as it comes, and to the store when it is whole. See near.h.
 */
#include <stdlib.h>

#include "base/log.h"
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
	struct store *store; /* that the flights are of; a reference */
	size_t max_bytes;    /* of a reply */
	int64_t sent_us;
	struct buf reply; /* so far, when it comes in pieces */
	bool may_fall_back;
	bool many; /* the reply is an array of one for each key */
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
	if (!f->store) {
		f->store = store_ref(w->near);
		f->max_bytes = (size_t)w->snapshot->config->near_cache.max_value_bytes;
	}
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

bool near_fetch_any(const struct near_fetch *f)
{
	return f->n > 0;
}

void near_fetch_expect_fallback(struct near_fetch *f)
{
	f->may_fall_back = true;
}

static void send_with(struct client *c, struct request *r, struct near_fetch *f)
{
	f->sent_us = c->w->now_us;
	near_of(r)->fetch = f;
	r->n_front = f->n;
	r->n_before += f->n;
	if (f->may_fall_back)
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
	send_with(c, r, f);
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

	if (!all)
		return;
	f = near_fetch_new(n);
	f->many = true;
	for (uint32_t i = 0; i < n; i++) {
		const struct namespace *ns = call->rw->keys[keys[i]].at.ns;

		/* Sealed: what a part brings is not what the client gets. */
		if (!ns || ns->flags & NS_SEALS || !take(all, keys[i], &f->keys[f->n]))
			continue;
		f->keys[f->n++].index = i;
		put_pttl(out, &call->rw->keys[keys[i]]);
	}
	if (f->n == 0) {
		free(f);
		return;
	}
	f->store = store_ref(all->store);
	f->max_bytes = all->max_bytes;
	buf_put(out, buf_head(bytes), buf_len(bytes));
	send_with(c, r, f);
}

/* ---- its end ---- */

static void fetch_free(struct near_fetch **fp)
{
	struct near_fetch *f = *fp;

	*fp = NULL;
	store_unref(&f->store);
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
		store_land((*f)->store, &(*f)->keys[i].flight, &nothing, &landed);
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

	static struct log_limit limit;

	if (type == '-' && log_limit_pass(&limit))
		log_warn("Redis refuses PTTL, and without it the near-cache keeps nothing of what was read");
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

/* Written between PTTL and the read: how long that lives is not known. */
static bool contradicts(const struct near_key *key, struct slice reply)
{
	return key->ttl_ms == TTL_ABSENT && *reply.p == '$' && reply.p[1] >= '1' && reply.p[1] <= '9';
}

/* The reply about one key, as far as the key's time allows. */
static void land_reply(struct worker *w, const struct request *r, struct near_fetch *f, struct near_key *key,
		       struct slice reply, struct store_landed *landed)
{
	struct store_landing landing = {.now_us = w->now_us};
	bool error = reply.len == 0 || *reply.p == '-' || *reply.p == '!';
	bool limited = key->ttl_ms < 0 || key->ttl_ms > key->limit_us / 1000;
	/* PTTL may just have seen what the read did not see any more. */
	bool gone = key->ttl_ms == TTL_ABSENT || (key->ttl_ms == 0 && !error && near_finds_nothing(reply.p));

	if (reply.len > f->max_bytes) {
		landing.too_large = true;
	} else if (!error && key->ttl_ms != TTL_UNKNOWN && !contradicts(key, reply)) {
		landing.reply = reply.p;
		landing.len = reply.len;
		landing.expires_us = f->sent_us + (limited ? key->limit_us : key->ttl_ms * 1000);
		landing.key_expires = !limited && !gone;
		landing.absent = gone;
		landing.any_proto = is_in_any_proto(r->cmd, reply.p);
	}
	store_land(f->store, &key->flight, &landing, landed);
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

/* What may be gathered: of many the limit is for each. */
static size_t gather_max(const struct near_fetch *f)
{
	return f->max_bytes * (f->many ? f->n : 1);
}

/* All of the reply is there. What the client gets instead, if anything, is put in *fallback. */
static void land_whole(struct worker *w, struct request *r, struct slice reply, struct buf *fallback)
{
	struct near_fetch *f = r->near->fetch;
	struct store_landed landed = {0};

	r->near->fetch = NULL;
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
		if (buf_len(&f->reply) + len > gather_max(f) || !buf_append(&f->reply, data, len)) {
			land_empty(w, &r->near->fetch, !f->many, NULL); /* who waits for it asks for himself */
			return;
		}
		reply = (struct slice){buf_head(&f->reply), buf_len(&f->reply)};
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
		near_merge_reply(r->near->merge, &r->reply);
}

/* ---- other ends ---- */

void near_strip(struct request *r, struct buf *bytes)
{
	struct slice inner;
	struct buf out = {0};

	if (r->n_front == 0)
		return;
	inner = policy_inner(r, bytes);
	buf_put(&out, inner.p, inner.len);
	buf_release(bytes);
	*bytes = out;
	if (r->near && r->near->fetch)
		near_fetch_drop(r->client->w, &r->near->fetch);
	r->n_before = r->n_front = 0;
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
		near_wait_leave(near->waiter); /* its flight has it still */
	near_touched_free(&near->touched);
	free(near);
}
