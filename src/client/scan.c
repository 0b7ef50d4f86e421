/* SPDX-License-Identifier: BSD-2-Clause */
/* SCAN over shards: see scan.h. */
#include "client/scan.h"

#include <stdio.h>
#include <string.h>

#include "client/target.h"
#include "resp/number.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

#define CURSOR_BITS 35
#define MASTER_BITS 8

struct position {
	uint32_t scan_id; /* 0: the first */
	uint32_t master;
	uint64_t cursor;
};

bool scan_wanted(const struct command *cmd)
{
	return cmd->request_policy == REQUEST_SPECIAL && cmd->handler == HANDLER_FORWARD && cmd->n_specs == 0;
}

static uint32_t master_hash(const struct shard *s)
{
	return s->master_id & ((1u << MASTER_BITS) - 1);
}

static uint64_t pack(const struct shard *s, uint64_t cursor)
{
	return (uint64_t)s->scan_id << (CURSOR_BITS + MASTER_BITS) | (uint64_t)master_hash(s) << CURSOR_BITS | cursor;
}

static struct position unpack(uint64_t cursor)
{
	return (struct position){(uint32_t)(cursor >> (CURSOR_BITS + MASTER_BITS)),
				 (uint32_t)(cursor >> CURSOR_BITS) & ((1u << MASTER_BITS) - 1),
				 cursor & (((uint64_t)1 << CURSOR_BITS) - 1)};
}

/* The shard with the smallest scan_id from this one on; -1: no more. Only those that have keys. */
static int shard_from(const struct topology *t, uint32_t scan_id)
{
	int best = -1;

	for (unsigned i = 0; i < t->n_shards; i++)
		if (t->shards[i].scan_id >= scan_id && t->shards[i].any_slot >= 0 &&
		    (best < 0 || t->shards[i].scan_id < t->shards[best].scan_id))
			best = (int)i;
	return best;
}

static void put_cursor(struct buf *out, uint64_t cursor)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)cursor);
	resp_bulks(out, text);
}

/* "*2, cursor, keys": Redis's cursor becomes ours. r->arg: the shard's scan_id. */
static void scan_answered(struct request *r, char type, int64_t number)
{
	struct reply_cursor cur = {buf_head(&r->reply), buf_head(&r->reply) + buf_len(&r->reply)};
	const struct client *c = r->client;
	/* r->slot says which upstream it is, and nothing else: SCAN is never sent again. */
	const struct topology *t = c->w->routes[(size_t)r->slot < c->w->n_routes ? r->slot : 0].topo;
	struct reply_item head, cursor;
	int i = shard_from(t, (uint32_t)r->arg);
	uint64_t ours = 0;
	int64_t theirs;
	struct buf b = {0};

	if (type != '*' || number != 2 || !reply_cursor_next(&cur, &head) || !reply_cursor_next(&cur, &cursor) ||
	    !parse_int64(cursor.text, cursor.len, &theirs))
		return;
	if (theirs >> CURSOR_BITS != 0) {
		buf_release(&r->reply);
		resp_error(&r->reply, "ERR this server's SCAN cursor is too large to be carried through Keyweir");
		return;
	}
	/* While Redis answered the shard may have got another master: then it begins anew. */
	if (theirs != 0 && i >= 0 && t->shards[i].scan_id == (uint32_t)r->arg) {
		ours = pack(&t->shards[i], (uint64_t)theirs);
	} else {
		i = shard_from(t, (uint32_t)r->arg + 1);
		ours = i >= 0 ? pack(&t->shards[i], 0) : 0;
	}
	resp_array(&b, 2);
	put_cursor(&b, ours);
	buf_put(&b, cur.p, (size_t)(cur.end - cur.p));
	buf_release(&r->reply);
	r->reply = b;
}

static void put_request(const struct call *call, uint64_t cursor, struct buf *out)
{
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	resp_array(out, call->frame->argc);
	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; arg_cursor_next(&cur, &arg, &len); i++) {
		if (i == 1)
			put_cursor(out, cursor);
		else
			resp_bulk(out, arg, len);
	}
}

enum verdict scan(struct client *c, const struct call *call)
{
	const struct route *route = target_main(c);
	struct buf bytes = {0};
	struct position at;
	enum verdict verdict;
	struct request *r;
	struct link *l;
	int64_t cursor;
	int i;

	if (!call_arg_int(call, 1, &cursor) || cursor < 0) {
		client_reply_error(c, call, "ERR invalid cursor");
		return CALL_DONE;
	}
	at = unpack((uint64_t)cursor);
	i = shard_from(route->topo, at.scan_id);
	if (i < 0) { /* all that came behind it are gone */
		client_reply_raw(c, call, "*2\r\n$1\r\n0\r\n*0\r\n", 15);
		return CALL_DONE;
	}
	if (route->topo->shards[i].scan_id != at.scan_id || master_hash(&route->topo->shards[i]) != at.master)
		at.cursor = 0;
	if (!route->masters[i]) {
		client_reply_own_error(c, call, ERROR_NO_MASTER);
		return CALL_DONE;
	}
	if (!client_route_to(c, call, route->masters[i], &l, &verdict))
		return verdict;
	put_request(call, at.cursor, &bytes);
	r = client_request_new(c, call);
	r->flags |= REQUEST_COLLECT | REQUEST_IN_TX; /* another server could make nothing of the cursor */
	r->on_reply = scan_answered;
	r->arg = route->topo->shards[i].scan_id;
	r->slot = (int16_t)(route - c->w->routes);
	r->deadline_us = c->w->now_us + forward_timeout_us(l, call->cmd);
	client_send(c, r, l, buf_head(&bytes), buf_len(&bytes));
	c->forwarded = true;
	buf_release(&bytes);
	return CALL_DONE;
}
