/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MGET: what is known is taken from memory, an MGET of the rest is fetched, and the two become one reply. What is kept
 * is what GET would say. See near.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/namespace_stats.h"
#include "client/near.h"
#include "client/stats.h"
#include "resp/reply_frame.h"
#include "resp/write.h"
#include "server.h"

#define KEYS_MAX 4096 /* with more it goes as it came */
#define HITS_MAX ((size_t)16 << 20)

/* The reply under way: of each key either the bytes in `hits`, or the next element of what is fetched. */
struct near_merge {
	struct buf hits;
	uint32_t n;
	uint32_t n_hits;
	size_t lengths[]; /* 0: it is fetched */
};

void near_merge_free(struct near_merge **mp)
{
	if (!*mp)
		return;
	buf_release(&(*mp)->hits);
	free(*mp);
	*mp = NULL;
}

/* ---- looking ---- */

struct look {
	struct client *c;
	struct near_fetch *fetch;
	struct near_merge *merge;
	struct buf rest; /* of the request: the keys to be fetched */
	uint32_t n_rest;
	bool leads;
	bool too_much; /* to be held in memory: all of it is fetched, and passes through */
	uint16_t get;  /* id of GET */
};

static bool take_hit(struct look *k, const struct namespace *ns, struct store_hit *hit, uint32_t i)
{
	if (!near_put_hit(k->c->w, hit, &k->merge->hits))
		return false;
	namespace_stats_near_hit(k->c->w, ns->id);
	if (hit->stale)
		namespace_stats_near_stale(k->c->w, ns->id);
	k->merge->lengths[i] = hit->len;
	k->merge->n_hits++;
	return true;
}

/* Whether key i is known; else its lease is taken, if it can be. */
static bool look_at(struct look *k, uint32_t i, const char *key, size_t len)
{
	struct client *c = k->c;
	struct store_ask ask = {0};
	struct flight *flight = NULL;
	struct near_place at;
	struct store_hit hit;
	char room[NEAR_NAME_MAX];

	if (!near_find(c, key, len, room, &at))
		return false;
	ask.may_lead = k->leads;
	ask.request =
		(struct store_request){.command = k->get, .db = at.db, .proto = c->proto, .args = "", .args_len = 0};
	if (near_ask(c, &at, &ask)) {
		if (near_is_busy(c, at.key.hash) || k->too_much)
			ask.newer_us = INT64_MAX; /* nothing that others have asked for */
		switch (store_look(c->w->near, &ask, &hit, &flight)) {
		case STORE_HIT:
			if (take_hit(k, at.ns, &hit, i)) {
				k->too_much = buf_len(&k->merge->hits) + c->near.held > HITS_MAX;
				return true;
			}
			break;
		case STORE_LEAD:
			near_fetch_add(c->w, k->fetch, flight, &at, k->n_rest);
			break;
		default:
			break;
		}
	}
	near_note_busy(c, at.key.hash);
	namespace_stats_near_miss(c->w, at.ns->id);
	return false;
}

static void look_at_all(struct look *k, const struct call *call)
{
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	arg_cursor_init(&cur, call->bytes, call->len);
	arg_cursor_next(&cur, &arg, &len);
	for (uint32_t i = 0; i < k->merge->n && arg_cursor_next(&cur, &arg, &len); i++) {
		if (look_at(k, i, arg, len))
			continue;
		resp_bulk(&k->rest, arg, len);
		k->n_rest++;
	}
}

/* ---- answering ---- */

static void answer(struct client *c, const struct call *call, struct near_merge *m)
{
	struct buf b = {0};

	resp_array(&b, m->n);
	buf_put(&b, buf_head(&m->hits), buf_len(&m->hits));
	if (c->head)
		c->near.held += buf_len(&b);
	client_reply(c, call, &b);
}

/* The call becomes one for the rest; its bytes are the worker's until it is over. */
static void reduce(struct worker *w, struct call *call, struct look *k)
{
	struct buf *out = &w->near_rest;

	out->start = out->end = 0;
	resp_array(out, k->n_rest + 1);
	resp_bulks(out, call->cmd->name);
	buf_put(out, buf_head(&k->rest), buf_len(&k->rest));
	w->near_frame = (struct request_frame){.max_bulk = UINT64_MAX};
	request_frame_feed(&w->near_frame, buf_head(out), buf_len(out));
	call->frame = &w->near_frame;
	call->bytes = buf_head(out);
	call->len = buf_len(out);
}

bool near_read_many(struct client *c, struct call *call, enum verdict *verdict)
{
	struct worker *w = c->w;
	uint32_t n = call->frame->argc - 1;
	struct look k = {.c = c, .leads = c->n_parked == 0 && c->n_upstream < c->window};

	if (n > KEYS_MAX)
		return false;
	k.get = command_find(NULL, "get", 3, NULL, 0)->id;
	k.fetch = near_fetch_new(n);
	k.merge = xcalloc(1, sizeof(*k.merge) + n * sizeof(k.merge->lengths[0]));
	k.merge->n = n;
	look_at_all(&k, call);
	if (k.too_much) {
		near_fetch_drop(w, &k.fetch);
		near_merge_free(&k.merge);
		buf_release(&k.rest);
		return false;
	}
	if (near_fetch_any(k.fetch) || k.merge->n_hits > 0)
		call->near = &w->near_call;
	if (near_fetch_any(k.fetch))
		call->near->fetch = k.fetch;
	else
		near_fetch_drop(w, &k.fetch);
	if (k.n_rest == 0) {
		answer(c, call, k.merge);
		*verdict = CALL_DONE;
	} else if (k.merge->n_hits > 0) {
		reduce(w, call, &k);
		call->near->merge = k.merge;
		k.merge = NULL;
	}
	near_merge_free(&k.merge);
	buf_release(&k.rest);
	return k.n_rest == 0;
}

/* ---- the rest has come ---- */

void near_merge_reply(const struct near_merge *m, struct buf *reply)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	const char *hit = buf_head(&m->hits);
	struct reply_item item;
	struct buf out = {0};

	if (buf_len(reply) == 0 || !reply_cursor_next(&cur, &item) || item.type != '*' ||
	    item.number != (int64_t)(m->n - m->n_hits))
		return; /* an error */
	resp_array(&out, m->n);
	for (uint32_t i = 0; i < m->n; i++) {
		const char *from = m->lengths[i] > 0 ? hit : cur.p;

		if (m->lengths[i] == 0)
			reply_cursor_skip(&cur);
		buf_put(&out, from, m->lengths[i] > 0 ? m->lengths[i] : (size_t)(cur.p - from));
		hit += m->lengths[i];
	}
	buf_release(reply);
	*reply = out;
}
