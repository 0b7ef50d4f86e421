/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection of a tracker: see tracking_wire.h. */
#include "upstream/tracking_wire.h"

#include <string.h>

#include "base/clock.h"
#include "resp/write.h"
#include "upstream/invalidation.h"
#include "upstream/talk.h"
#include "upstream/upstream.h"

#define KEPT_BYTES 65536 /* of memory for replies in pieces; more is given back */

/* ---- asking ---- */

void wire_ask(struct wire *w, enum question q, int64_t now_us, size_t argc, const char *const *argv)
{
	struct buf out = {0};

	if (!w->talk || w->n_asked == WIRE_ASKED_MAX)
		return;
	w->asked[w->n_asked].what = q;
	w->asked[w->n_asked++].sent_us = now_us;
	resp_request(&out, argc, argv);
	talk_send(w->talk, buf_head(&out), buf_len(&out));
	explicit_bzero(out.data, out.end); /* a password may have been in it */
	buf_release(&out);
}

bool wire_is_asked(const struct wire *w, enum question q)
{
	for (unsigned i = 0; i < w->n_asked; i++)
		if (w->asked[i].what == q)
			return true;
	return false;
}

int64_t wire_silent_us(const struct wire *w, int64_t now_us)
{
	int64_t since_us;

	if (!w->talk || w->n_asked == 0)
		return 0;
	since_us = w->asked[0].sent_us > w->heard_us ? w->asked[0].sent_us : w->heard_us;
	return now_us - since_us;
}

bool wire_is_at(const struct wire *w, const struct address *list, unsigned n)
{
	const struct address *to = w->talk ? talk_address(w->talk) : NULL;

	for (unsigned i = 0; to && i < n; i++)
		if (list[i].len == to->len && memcmp(&list[i].sa, &to->sa, to->len) == 0)
			return true;
	return !to || n == 0;
}

void wire_confirm(struct wire *w)
{
	w->fresh_us = w->asking_us;
}

void wire_forget(struct wire *w)
{
	w->fresh_us = w->answered_us = 0;
}

/* ---- hearing ---- */

static void take_answer(struct wire *w, const char *reply, size_t len)
{
	enum question q;

	if (w->n_asked == 0)
		return;
	q = w->asked[0].what;
	w->asking_us = w->asked[0].sent_us;
	memmove(w->asked, w->asked + 1, --w->n_asked * sizeof(*w->asked));
	w->events->answered(w->ctx, w, q, reply, len);
}

static void take_reply(struct wire *w, const char *reply, size_t len)
{
	struct reply_cursor keys;
	const char *key;
	size_t key_len;

	switch (invalidation_read(reply, len, &keys)) {
	case INVALIDATION_NONE:
		take_answer(w, reply, len);
		break;
	case INVALIDATION_OTHER:
		break;
	case INVALIDATION_KEYS:
		while (invalidation_next(&keys, &key, &key_len))
			w->events->changed(w->ctx, key, key_len);
		break;
	case INVALIDATION_ALL:
		w->events->flushed(w->ctx);
		break;
	}
}

/* A reply came in pieces, and this was the last. */
static void take_gathered(struct wire *w)
{
	struct buf whole = w->in;

	w->in = (struct buf){0};
	if (w->too_large && w->frame.type != '>' && w->frame.type != '*') {
		w->events->lost(w->ctx, w, "an answer is too large");
	} else if (w->too_large) {
		w->too_large = false;
		w->events->flushed(w->ctx);
	} else {
		take_reply(w, buf_head(&whole), buf_len(&whole));
	}
	if (w->talk && whole.capacity <= KEPT_BYTES) {
		whole.start = whole.end = 0;
		w->in = whole;
	} else {
		buf_release(&whole);
	}
}

static void gather(struct wire *w, const char *data, size_t len)
{
	if (w->too_large)
		return;
	if (buf_len(&w->in) + len <= WIRE_REPLY_MAX && buf_append(&w->in, data, len))
		return;
	w->too_large = true;
	buf_release(&w->in);
}

static void lost(struct wire *w, const char *why)
{
	w->events->lost(w->ctx, w, why);
}

static void on_bytes(void *ctx, const char *data, size_t len)
{
	struct wire *w = ctx;

	w->heard_us = clock_now_us();
	while (len > 0 && w->talk) {
		size_t used;
		bool begun = reply_frame_busy(&w->frame);
		enum reply_status status = reply_frame_feed(&w->frame, data, len, &used);

		if (status == REPLY_BAD) {
			lost(w, "what answers there does not speak RESP");
			return;
		}
		if (begun || status == REPLY_MORE)
			gather(w, data, used);
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
	struct wire *w = ctx;

	if (reply_frame_busy(&w->frame))
		return;
	w->answered_us = w->fresh_us;
	w->events->drained(w->ctx, w);
}

static void on_ready(void *ctx)
{
	struct wire *w = ctx;

	w->heard_us = clock_now_us();
	w->events->ready(w->ctx, w);
}

static void on_failed(void *ctx, const char *why)
{
	lost(ctx, why);
}

static const struct talk_events talk_events = {
	.ready = on_ready, .failed = on_failed, .bytes = on_bytes, .drained = on_drained};

void wire_open(struct wire *w, struct event_base *base, struct node *node, const struct wire_events *events, void *ctx)
{
	*w = (struct wire){.events = events, .ctx = ctx};
	w->talk = talk_open(base, node, NULL, node->conf->connect_timeout_ms, &talk_events, w);
}

void wire_close(struct wire *w)
{
	talk_close(&w->talk);
	buf_release(&w->in);
	w->frame = (struct reply_frame){0};
	w->too_large = false;
	w->n_asked = 0;
	wire_forget(w);
}
