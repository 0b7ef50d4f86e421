/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The token keeper's connection to a master: see token_wire.h. RESP2, framed by our own framer: a million tokens are
 * three million replies, too many to make trees of.
 */
#include "upstream/token_wire.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "policy/namespace.h"
#include "resp/write.h"
#include "upstream/talk.h"
#include "upstream/upstream.h"

#define SCAN_COUNT	1000
#define REPLY_BYTES_MAX ((size_t)16 << 20)
#define KEPT_BYTES	((size_t)256 * 1024)
#define VALUE_END	"64" /* of a longer value it is enough to know that it is one */

enum asked {
	ASKED_LOGIN,
	ASKED_COURTESY, /* whatever the answer */
	ASKED_SCAN,
	ASKED_FOUND, /* a key of the walk: PTTL and GETRANGE */
	ASKED_SINGLE,
	ASKED_MARK,
};

/* ---- asking ---- */

static void note(struct token_wire *w, enum asked what, struct token_id id, const char *key, size_t len)
{
	struct token_question *q;

	if (w->n_asked == w->room) {
		size_t room = w->room * 2 + 1024;
		struct token_question *bigger = xcalloc(room, sizeof(*bigger));

		for (size_t i = 0; i < w->n_asked; i++)
			bigger[i] = w->asked[(w->first + i) % w->room];
		free(w->asked);
		w->asked = bigger;
		w->room = room;
		w->first = 0;
	}
	if (w->n_asked == 0)
		w->heard_us = clock_now_us(); /* before that it had no reason to say anything */
	q = &w->asked[(w->first + w->n_asked++) % w->room];
	*q = (struct token_question){(uint8_t)what, len, id, key ? xmemdup0(key, len) : NULL};
	w->n_single += what == ASKED_SINGLE;
}

static void put(struct token_wire *w, enum asked what, size_t argc, const char *const *argv)
{
	resp_request(&w->out, argc, argv);
	note(w, what, (struct token_id){0, 0}, NULL, 0);
}

static void send_out(struct token_wire *w)
{
	if (!w->talk)
		return;
	if (buf_len(&w->out) == 0) {
		token_wire_flush(w);
		return;
	}
	talk_send(w->talk, buf_head(&w->out), buf_len(&w->out));
	explicit_bzero(w->out.data, w->out.end); /* a password may have been in it */
	if (w->out.capacity > KEPT_BYTES)
		buf_release(&w->out);
	w->out.start = w->out.end = 0;
}

void token_wire_flush(struct token_wire *w)
{
	if (w->talk)
		talk_send(w->talk, "", 0);
}

static void put_key(struct token_wire *w, const char *key, size_t len)
{
	resp_array(&w->out, 2);
	resp_bulk(&w->out, "PTTL", 4);
	resp_bulk(&w->out, key, len);
	resp_array(&w->out, 4);
	resp_bulk(&w->out, "GETRANGE", 8);
	resp_bulk(&w->out, key, len);
	resp_bulk(&w->out, "0", 1);
	resp_bulk(&w->out, VALUE_END, sizeof(VALUE_END) - 1);
}

static void put_scan(struct token_wire *w, const char *cursor, size_t len)
{
	char count[16];

	snprintf(count, sizeof(count), "%u", w->scan_count);
	resp_array(&w->out, 6);
	resp_bulk(&w->out, "SCAN", 4);
	resp_bulk(&w->out, cursor, len);
	resp_bulk(&w->out, "MATCH", 5);
	resp_bulk(&w->out, buf_head(&w->match), buf_len(&w->match));
	resp_bulk(&w->out, "COUNT", 5);
	resp_bulks(&w->out, count);
	note(w, ASKED_SCAN, (struct token_id){0, 0}, NULL, 0);
}

void token_wire_walk(struct token_wire *w)
{
	w->n_strange = 0;
	put_scan(w, "0", 1);
	send_out(w);
}

bool token_wire_ask(struct token_wire *w, struct token_id id, const char *key, size_t len)
{
	if (!w->talk || w->n_single >= TOKEN_QUESTIONS_MAX)
		return false;
	put_key(w, key, len);
	note(w, ASKED_SINGLE, id, key, len);
	send_out(w);
	return true;
}

void token_wire_mark(struct token_wire *w)
{
	put(w, ASKED_MARK, 1, (const char *const[]){"PING"});
	send_out(w);
}

int64_t token_wire_silent_us(const struct token_wire *w, int64_t now_us)
{
	return w->talk && w->n_asked > 0 ? now_us - w->heard_us : 0;
}

/* ---- hearing ---- */

static void lost(struct token_wire *w, const char *why)
{
	w->events->lost(w->ctx, w, why);
}

/* "-ERR text\r\n"; of a command that is unknown there the arguments are left out: a token is among them. */
static void lost_by_error(struct token_wire *w, const char *reply, size_t len)
{
	char why[128] = "an answer that makes no sense", *args;

	if (*reply == '-' && len > 3)
		snprintf(why, sizeof(why), "%.*s", (int)(len > 100 ? 100 : len - 3), reply + 1);
	args = strstr(why, ", with args");
	if (args)
		*args = '\0';
	lost(w, why);
}

static void take_found(struct token_wire *w, const char *key, size_t len)
{
	struct token_id id;

	if (!tokens_id_of_key(w->tokens, key, len, &id)) {
		w->n_strange++;
		return;
	}
	if (!w->list) {
		w->events->found(w->ctx, id, NULL);
		return;
	}
	put_key(w, key, len);
	note(w, ASKED_FOUND, id, NULL, 0);
}

/* [cursor, [key ...]]: the keys are asked for, and the walk goes on behind them. */
static void take_scan(struct token_wire *w, const char *reply, size_t len)
{
	struct reply_cursor cur = {reply, reply + len};
	struct reply_item head, cursor, keys, key;

	if (!reply_cursor_next(&cur, &head) || head.type != '*' || head.number != 2 ||
	    !reply_cursor_next(&cur, &cursor) || cursor.type != '$' || !reply_cursor_next(&cur, &keys) ||
	    keys.type != '*') {
		lost_by_error(w, reply, len);
		return;
	}
	for (int64_t i = 0; i < keys.number && reply_cursor_next(&cur, &key); i++)
		if (key.type == '$' && key.number >= 0)
			take_found(w, key.text, key.len);
	/* At the end one answer more, behind those of the last keys, says that all of them are here. */
	if (cursor.len == 1 && *cursor.text == '0')
		put(w, ASKED_COURTESY, 1, (const char *const[]){"PING"});
	else
		put_scan(w, cursor.text, cursor.len);
	send_out(w);
}

/* What Redis keeps there: at most 65 bytes; an error where it is no string. */
static unsigned value_of(struct token_wire *w, const struct reply_item *item)
{
	return item->type == '$' ? blacklist_value(w->list, item->text, item->len) : BLACKLIST_OTHER;
}

static struct blacklist_fact fact_of(struct token_wire *w, const struct reply_item *item)
{
	struct blacklist_fact fact = {.revoked = w->pttl != -2, .value = value_of(w, item)};

	if (w->pttl >= 0)
		fact.until_us = clock_now_us() + w->pttl * 1000;
	return fact;
}

/* The question is answered. */
static struct token_question pop(struct token_wire *w)
{
	struct token_question q = w->asked[w->first];

	w->first = (w->first + 1) % w->room;
	w->n_asked--;
	w->n_single -= q.what == ASKED_SINGLE;
	return q;
}

static void take_key(struct token_wire *w, const char *reply, size_t len)
{
	struct reply_item item = reply_first(reply, len, '-');
	struct blacklist_fact fact;
	struct token_question q;

	if (!w->half) {
		if (item.type != ':') { /* not the one who knows, or not now */
			lost_by_error(w, reply, len);
			return;
		}
		w->pttl = item.number;
		w->half = true;
		return;
	}
	w->half = false;
	fact = fact_of(w, &item);
	q = pop(w);
	if (q.what == ASKED_FOUND) {
		if (fact.revoked)
			w->events->found(w->ctx, q.id, &fact);
	} else if (w->events->answered(w->ctx, q.id, &fact)) {
		put_key(w, q.key, q.len);
		note(w, ASKED_SINGLE, q.id, q.key, q.len);
	}
	free(q.key);
}

static void take_reply(struct token_wire *w, const char *reply, size_t len)
{
	if (w->n_asked == 0) {
		lost(w, "an answer to no question");
		return;
	}
	switch ((enum asked)w->asked[w->first].what) {
	case ASKED_LOGIN:
		pop(w);
		if (*reply == '-')
			lost_by_error(w, reply, len);
		break;
	case ASKED_COURTESY:
		pop(w);
		if (*reply == '+' && len == 7) /* +PONG */
			w->events->walked(w->ctx, w);
		break;
	case ASKED_MARK:
		pop(w);
		w->events->passed(w->ctx);
		break;
	case ASKED_SCAN:
		pop(w);
		take_scan(w, reply, len);
		break;
	case ASKED_FOUND:
	case ASKED_SINGLE:
		take_key(w, reply, len);
		break;
	}
}

static void take_gathered(struct token_wire *w)
{
	struct buf whole = w->in;

	w->in = (struct buf){0};
	take_reply(w, buf_head(&whole), buf_len(&whole));
	if (w->talk && whole.capacity <= KEPT_BYTES) {
		whole.start = whole.end = 0;
		w->in = whole;
	} else {
		buf_release(&whole);
	}
}

static void on_bytes(void *ctx, const char *data, size_t len)
{
	struct token_wire *w = ctx;

	w->heard_us = clock_now_us();
	while (len > 0 && w->talk) {
		size_t used = reply_frame_busy(&w->frame) ? 0 : reply_whole(&w->frame, data, len);
		bool begun = reply_frame_busy(&w->frame);
		enum reply_status status = REPLY_DONE;

		if (used == 0)
			status = reply_frame_feed(&w->frame, data, len, &used);
		if (status == REPLY_BAD) {
			lost(w, "what answers there does not speak RESP");
			return;
		}
		if ((begun || status == REPLY_MORE) &&
		    (buf_len(&w->in) + used > REPLY_BYTES_MAX || !buf_append(&w->in, data, used))) {
			if (w->scan_count > 1) /* of long keys fewer at a time, when it is tried again */
				w->scan_count /= 10;
			lost(w, "an answer is too large");
			return;
		}
		if (status == REPLY_DONE && begun)
			take_gathered(w);
		else if (status == REPLY_DONE)
			take_reply(w, data, used);
		data += used;
		len -= used;
	}
}

static void on_drained(void *ctx)
{
	send_out(ctx);
}

static void on_ready(void *ctx)
{
	struct token_wire *w = ctx;
	const struct upstream_url *url = &w->node->conf->target;
	char db[16];

	w->heard_us = clock_now_us();
	if (url->password && *url->password && url->username && *url->username)
		put(w, ASKED_LOGIN, 3, (const char *const[]){"AUTH", url->username, url->password});
	else if (url->password && *url->password)
		put(w, ASKED_LOGIN, 2, (const char *const[]){"AUTH", url->password});
	put(w, ASKED_COURTESY, 3, (const char *const[]){"CLIENT", "SETNAME", "keyweir-tokens"});
	snprintf(db, sizeof(db), "%d", url->db);
	if (url->db > 0)
		put(w, ASKED_LOGIN, 2, (const char *const[]){"SELECT", db});
	send_out(w);
	w->events->ready(w->ctx, w);
}

static void on_failed(void *ctx, const char *why)
{
	lost(ctx, why);
}

static const struct talk_events talk_events = {
	.ready = on_ready, .failed = on_failed, .bytes = on_bytes, .drained = on_drained};

/* ---- life ---- */

void token_wire_init(struct token_wire *w, struct node *node, const struct tokens *tokens, struct blacklist *list,
		     const struct token_wire_events *events, void *ctx)
{
	size_t len;
	const char *prefix = tokens_prefix(tokens, &len);

	*w = (struct token_wire){
		.tokens = tokens, .list = list, .events = events, .ctx = ctx, .scan_count = SCAN_COUNT};
	w->node = node_ref(node);
	pattern_escape(&w->match, prefix, len);
	buf_puts(&w->match, "*");
}

void token_wire_open(struct token_wire *w, struct event_base *base)
{
	w->talk = talk_open(base, w->node, NULL, w->node->conf->connect_timeout_ms, &talk_events, w);
}

void token_wire_close(struct token_wire *w)
{
	talk_close(&w->talk);
	while (w->n_asked > 0)
		free(pop(w).key);
	buf_release(&w->in);
	buf_release(&w->out);
	w->frame = (struct reply_frame){0};
	w->half = false;
}

void token_wire_fini(struct token_wire *w)
{
	token_wire_close(w);
	buf_release(&w->match);
	free(w->asked);
	node_unref(&w->node);
}
