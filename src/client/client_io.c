/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client's input: bytes are read into the worker's scratch buffer, framed there and dispatched; only what is
 * incomplete, or has to wait, is kept in `in`. A request too large to be kept streams through: its head is sent as
 * soon as the command is known, the rest follows as it comes, and the framer only watches for its end.
 */
#include "client/client_io.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "client/big_keys.h"
#include "client/client.h"
#include "client/limit.h"
#include "resp/write.h"
#include "server.h"

#define STREAM_BYTES	  ((size_t)256 * 1024) /* a request larger than this is not gathered but streams */
#define WAITING_INPUT_MAX ((size_t)64 * 1024)
#define UPLOAD_AHEAD_MAX  ((size_t)1024 * 1024)

void client_stall(struct client *c)
{
	if (c->stalled || c->closed)
		return;
	c->stalled = true;
	c->stalled_us = c->w->now_us;
	event_del(&c->event);
	transport_leave_turn(&c->io);
}

void client_unstall(struct client *c)
{
	if (!c->stalled || c->closed || c->half_closed)
		return;
	c->stalled = false;
	event_add(&c->event, NULL);
	client_read_on(c);
}

/*
 * Someone who pipes commands into nc closes his side and waits for the replies; one who blocks, subscribes or stands
 * in a transaction has left.
 */
void client_eof(struct client *c)
{
	bool blocked = c->head && (c->head->flags & REQUEST_BLOCKING);

	bool nothing_left = c->n_requests == 0 && c->out.bytes == 0 && buf_len(&c->in) == 0;

	if (nothing_left || blocked || c->tx != TX_NONE || c->upload || c->wait == WAIT_ANSWER) {
		client_close(c);
		return;
	}
	client_stall(c);
	c->half_closed = true;
	c->closing = c->wait == WAIT_NOTHING;
	client_mark_dirty(c); /* what is ready goes out; then it is closed */
}

static void keep(struct client *c, const char *data, size_t len)
{
	if (len > 0 && !buf_append(&c->in, data, len))
		client_close(c);
	else if (c->wait != WAIT_NOTHING && buf_len(&c->in) > WAITING_INPUT_MAX)
		client_stall(c);
}

static void protocol_error(struct client *c)
{
	char text[128];
	struct buf b = {0};

	request_frame_error(&c->frame, text, sizeof(text));
	log_debug("Client %llu: %s", (unsigned long long)c->id, text);
	counter_add(&c->w->counters.protocol_errors, 1);
	resp_error(&b, "");
	b.end -= 2;
	buf_printf(&b, "ERR %s\r\n", text);
	client_reply(c, NULL, &b);
	if (c->upload && c->bound)
		c->bound->tainted = true;
	client_close_after(c);
}

/* ---- large requests ---- */

static bool upload_wanted(const struct request_frame *f, size_t len)
{
	return f->argc > 0 && f->n_seen > 0 && (f->n_seen > 1 || f->bulk_left == 0) &&
	       (f->bulk_left > STREAM_BYTES || len > STREAM_BYTES);
}

/* The head of a large request is here. Returns bytes taken; 0: it must wait. */
static size_t upload_begin(struct client *c, const char *data)
{
	struct call call = {.frame = &c->frame, .bytes = data, .len = c->frame.len, .partial = true};
	enum verdict verdict = dispatch(c, &call);

	if (verdict == CALL_WAIT || c->closed)
		return 0;
	/* Sent (the last request is it, and not complete), or answered with an error: then the rest is thrown away. */
	c->upload = c->tail && c->tail->link && (c->tail->flags & REQUEST_STREAMED) ? c->tail : NULL;
	c->discarding = !c->upload;
	if (c->upload)
		big_keys_add_upload(c, &call);
	return c->frame.len;
}

static void upload_end(struct client *c)
{
	if (c->extra && c->extra->limit_upload)
		limit_upload_end(c, c->upload ? (int64_t)(c->upload->link->out.end_pos - c->upload->pos) : 0);
	if (c->upload) {
		big_keys_end_upload(c, c->upload->link->out.end_pos - c->upload->pos); /* nobody else uses that link */
		c->upload->start_us = c->w->now_us;
		c->upload->deadline_us = c->w->now_us + forward_timeout_us(c->upload->link, c->upload->cmd);
	}
	c->upload = NULL;
	c->discarding = false;
	request_frame_reset(&c->frame);
}

/* More of a large request. Returns bytes taken; what is left is a cut header line, or another request. */
static size_t upload_more(struct client *c, const char *data, size_t len)
{
	enum frame_status status;
	size_t used = request_frame_stream(&c->frame, data, len, &status);

	c->active_us = c->w->now_us;
	if (used > 0 && c->upload) {
		link_send_more(c->upload->link, data, used);
		if (status == FRAME_MORE && c->upload->link->out.bytes > UPLOAD_AHEAD_MAX)
			client_stall(c);
	}
	if (status == FRAME_READY)
		upload_end(c);
	else if (status == FRAME_BAD)
		protocol_error(c);
	return used;
}

void client_upload_lost(struct client *c)
{
	c->upload = NULL;
	c->discarding = true;
	client_unstall(c);
}

void client_upload_drained(struct client *c)
{
	if (c->upload && c->wait == WAIT_NOTHING)
		client_unstall(c);
}

/* ---- framing and dispatch ---- */

static enum verdict dispatch_inline(struct client *c, const char *line, size_t len)
{
	uint64_t max_bulk = c->frame.max_bulk;
	struct request_frame f = {.max_bulk = max_bulk};
	struct buf request = {0};
	enum verdict verdict = CALL_DONE;
	int argc;

	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	argc = inline_split(line, len, &request);
	if (argc < 0) {
		c->frame.error = "unbalanced quotes in request";
		protocol_error(c);
	} else if (argc > 0 && request_frame_feed(&f, buf_head(&request), buf_len(&request)) == FRAME_READY) {
		struct call call = {.frame = &f, .bytes = buf_head(&request), .len = buf_len(&request)};

		verdict = dispatch(c, &call);
	}
	buf_release(&request);
	return verdict;
}

static enum verdict dispatch_frame(struct client *c, enum frame_status status, const char *data, size_t len)
{
	struct call call = {.frame = &c->frame, .bytes = data, .len = c->frame.len};

	if (status == FRAME_EMPTY)
		return CALL_DONE;
	if (status == FRAME_INLINE)
		return dispatch_inline(c, data, c->frame.len);
	call.rest = data + c->frame.len;
	call.rest_len = len - c->frame.len;
	return dispatch(c, &call);
}

/* One request, or a piece of a large one, at data. Returns bytes taken; 0: no more can be done now. */
static size_t one_request(struct client *c, const char *data, size_t len)
{
	enum frame_status status;
	size_t used;

	if (__builtin_expect(c->upload || c->discarding, 0))
		return upload_more(c, data, len);
	status = request_frame_feed(&c->frame, data, len);
	if (status == FRAME_BAD) {
		protocol_error(c);
		return 0;
	}
	if (status == FRAME_MORE)
		return upload_wanted(&c->frame, len) ? upload_begin(c, data) : 0;
	used = c->frame.len;
	if (dispatch_frame(c, status, data, len) == CALL_WAIT)
		used = 0;
	request_frame_reset(&c->frame);
	return used;
}

void client_process(struct client *c, const char *data, size_t len)
{
	size_t at = 0;

	while (at < len && !c->closed && !c->closing && c->wait == WAIT_NOTHING) {
		size_t used = one_request(c, data + at, len - at);

		if (used == 0)
			break;
		at += used;
		if (at == len || c->wait != WAIT_NOTHING || c->closed || c->closing)
			continue;
		used = forward_run(c, data + at, len - at);
		if (__builtin_expect(used >= BIG_KEYS_BYTES, 0))
			big_keys_add_run(c, data + at, used);
		at += used;
	}
	if (!c->closed && !c->closing)
		keep(c, data + at, len - at);
}

/* While it waits: input is kept up to a bound, mostly to hear when it leaves. */
static void read_while_waiting(struct client *c)
{
	ssize_t n = transport_read(&c->io, c->w->scratch, SCRATCH_BYTES);

	if (n == 0)
		client_eof(c);
	else if (n > 0 && !c->closing)
		keep(c, c->w->scratch, (size_t)n);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		client_close(c);
}

/* Behind what is kept; then all of it is looked at. */
static ssize_t read_behind(struct client *c)
{
	ssize_t n;

	if (!buf_reserve(&c->in, SCRATCH_BYTES / 4))
		return 0;
	n = transport_read(&c->io, c->in.data + c->in.end, c->in.capacity - c->in.end);
	if (n > 0)
		c->in.end += (size_t)n;
	return n;
}

static void process_kept(struct client *c)
{
	struct buf in = c->in;

	c->in = (struct buf){0};
	client_process(c, buf_head(&in), buf_len(&in));
	/* Nothing was taken and it was put back: keep the old buffer with its room instead of the copy. */
	if (!c->closed && buf_len(&c->in) == buf_len(&in)) {
		buf_release(&c->in);
		c->in = in;
	} else {
		buf_release(&in);
	}
}

static void read_input(struct client *c)
{
	struct worker *w = c->w;
	bool kept = buf_len(&c->in) > 0;
	ssize_t n;

	if (c->wait != WAIT_NOTHING || c->closing) {
		read_while_waiting(c);
		return;
	}
	n = kept ? read_behind(c) : transport_read(&c->io, w->scratch, SCRATCH_BYTES);
	if (n <= 0) {
		if (n == 0)
			client_eof(c);
		else if (errno != EAGAIN && errno != EINTR)
			client_close(c);
		return;
	}
	counter_add(&w->counters.bytes_in, (uint64_t)n);
	if (kept)
		process_kept(c);
	else
		client_process(c, w->scratch, (size_t)n);
}

void client_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	worker_now(c->w, clock_now_us());
	if (__builtin_expect(!transport_is_established(&c->io), 0)) {
		client_handshake_soon(c);
		return;
	}
	read_input(c);
	client_read_on(c);
}
