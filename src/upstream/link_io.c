/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading half of a link: bytes come into the worker's scratch buffer, are framed, and go straight to the request at
 * the head of the queue. And its time-outs. Nothing is kept here but a first line that a read cut in two.
 */
#include "upstream/link_io.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "upstream/pool.h"
#include "worker.h"

#define SILENT_TIMES 5	    /* a link that says nothing for so many read_timeouts is given up */
#define STUCK_US     100000 /* a head that takes longer than this ... */
#define PAUSE_MAX_US 100000 /* others wait no longer than this for a slow reader of a large reply */

/* A piece of the reply at the head of the queue. */
static inline bool to_request(struct link *l, const char *data, size_t len, bool done)
{
	struct request *r = l->head;

	if (!r)
		return false; /* nobody asked */
	if (__builtin_expect(r->n_before > 0, 0)) {
		r->n_before -= done;
		l->pool->events->before(r, data, len, l, done);
		return true;
	}
	if (done) {
		l->head = r->next_in_link;
		if (!l->head)
			l->tail = NULL;
		l->n_queue--;
	}
	l->pool->events->reply(r, data, len, l, done);
	return true;
}

static inline bool deliver(struct link *l, const char *data, size_t len, bool done)
{
	if (l->kind == LINK_HUB || l->kind == LINK_FEED || l->push) {
		l->pool->events->push(l, data, len, done);
		return true;
	}
	return to_request(l, data, len, done);
}

/* A frame whose first line was cut by the end of a read: those bytes are delivered first, once its type is known. */
static size_t stashed_frame(struct link *l, const char *data, size_t len)
{
	char stash[REPLY_LINE_MAX];
	unsigned n_stash = l->n_stash;
	enum reply_status status;
	size_t used = 0;

	memcpy(stash, l->rf.line, n_stash);
	status = reply_frame_feed(&l->rf, data, len, &used);
	if (status == REPLY_BAD)
		return 0;
	if (status == REPLY_MORE && l->rf.left == 0) {
		l->n_stash = l->rf.n_line;
		return used;
	}
	l->n_stash = 0;
	l->push = l->rf.type == '>';
	if (!deliver(l, stash, n_stash, false))
		return 0;
	if (l->state == LINK_CLOSED)
		return used;
	return deliver(l, data, used, status == REPLY_DONE) ? used : 0;
}

/* One frame or piece of a frame. Returns bytes used, 0 when the stream makes no sense. */
static inline size_t one_frame(struct link *l, const char *data, size_t len)
{
	bool fresh = !reply_frame_busy(&l->rf);
	enum reply_status status;
	size_t used = 0;

	if (__builtin_expect(l->n_stash > 0, 0))
		return stashed_frame(l, data, len);
	status = reply_frame_feed(&l->rf, data, len, &used);
	if (__builtin_expect(status == REPLY_BAD, 0))
		return 0;
	if (status == REPLY_MORE && l->rf.left == 0) { /* the very first line is not whole: is it a push? */
		l->n_stash = l->rf.n_line;
		return used;
	}
	if (fresh)
		l->push = l->rf.type == '>';
	return deliver(l, data, used, status == REPLY_DONE) ? used : 0;
}

static void handle_bytes(struct link *l, const char *data, size_t len)
{
	size_t at = 0;

	while (at < len && l->state == LINK_HANDSHAKE) {
		size_t used = 0;

		if (!link_handshake_reply(l, data + at, len - at, &used)) {
			link_close(l, l->why);
			return;
		}
		at += used;
	}
	while (at < len && l->state == LINK_READY) {
		size_t used = 0;

		if (l->kind == LINK_SHARED && !reply_frame_busy(&l->rf))
			used = l->pool->events->replies(l, data + at, len - at);
		if (used == 0)
			used = one_frame(l, data + at, len - at);
		if (used == 0) {
			link_close(l, "protocol error in what Redis sent");
			return;
		}
		at += used;
	}
}

static void after_read(struct link *l)
{
	outq_forget(&l->out, l->head ? l->head->pos : outq_written_pos(&l->out));
	if (l->retired && l->n_queue == 0)
		link_drop(l, "retired");
}

void link_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;
	struct worker *w = l->w;
	ssize_t n;

	(void)what;
	(void)fd;
	worker_now(w, clock_now_us());
	if (__builtin_expect(l->state == LINK_CONNECTING, 0)) {
		link_tls_soon(l);
		return;
	}
	n = transport_read(&l->io, w->scratch, SCRATCH_BYTES);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			link_close(l, transport_why(&l->io));
		link_read_on(l);
		return;
	}
	if (n == 0) {
		link_close(l, "Redis closed the connection");
		return;
	}
	l->read_us = w->now_us;
	counter_add(&w->counters.upstream_bytes_in, (uint64_t)n);
	handle_bytes(l, w->scratch, (size_t)n);
	if (l->state == LINK_READY)
		after_read(l);
	link_read_on(l);
}

/* Tells the clients whose time is over. Requests of one class stand in order of their deadlines; few have another. */
static void time_out_requests(struct link *l, int64_t now_us)
{
	int64_t read_timeout_us = l->pool->server->conf->read_timeout_ms * 1000;
	struct request *r = l->head;

	while (r) {
		struct request *next = r->next_in_link;

		if (r->deadline_us > 0 && now_us >= r->deadline_us) {
			if (r->client)
				l->pool->events->timed_out(r);
		} else if (r->deadline_us > 0 && r->deadline_us - r->start_us <= read_timeout_us) {
			break;
		}
		if (l->state == LINK_CLOSED)
			return;
		r = next;
	}
}

/* Whether nothing at all was heard for so long that the connection itself is in doubt. */
static bool is_silent(const struct link *l, int64_t now_us)
{
	int64_t limit_us = l->pool->server->conf->read_timeout_ms * 1000 * SILENT_TIMES;
	const struct request *r = l->head;
	int64_t since_us;

	if (!r || l->paused || (r->deadline_us == 0 && !l->pool->left))
		return false;
	since_us = r->start_us > l->read_us ? r->start_us : l->read_us;
	/* A script may take its minute, but not on a master that was replaced because nobody hears of it. */
	if (r->deadline_us - r->start_us > limit_us && !l->pool->left)
		limit_us = r->deadline_us - r->start_us;
	return now_us - since_us > limit_us;
}

/* A shared link whose head takes long must not hold up clients that have nothing on it. */
static bool is_stuck(const struct link *l, int64_t now_us)
{
	return l->kind == LINK_SHARED && !l->retired && list_empty(&l->pool->retired) && l->head &&
	       l->state == LINK_READY && now_us - l->head->start_us > STUCK_US && now_us - l->read_us > STUCK_US;
}

void link_tick(struct link *l, int64_t now_us)
{
	const struct upstream_config *conf = l->pool->server->conf;

	if (l->state == LINK_CONNECTING || l->state == LINK_HANDSHAKE) {
		time_out_requests(l, now_us);
		if (l->state == LINK_CONNECTING && l->n_addresses == 0 && !link_look_up(l))
			link_close(l, l->why);
		else if (now_us >= l->deadline_us)
			link_close(l, l->why[0] ? l->why : "connect_timeout is over");
		return;
	}
	if (l->paused && l->n_queue > 1 && now_us - l->paused_us > PAUSE_MAX_US) {
		l->impatient = true;
		link_resume(l);
	}
	if (!l->paused && l->kind != LINK_MIRROR) /* paused: it is us who do not listen; a copy keeps nobody waiting */
		time_out_requests(l, now_us);
	if (l->state != LINK_READY)
		return;
	if (l->retired && l->n_queue == 0)
		link_drop(l, "retired");
	else if (is_silent(l, now_us))
		link_close(l, "no answer for too long");
	else if (l->want_write && l->out.bytes > 0 &&
		 now_us - l->write_us > conf->write_timeout_ms * 1000 * SILENT_TIMES)
		link_close(l, "write_timeout is over");
	else if (is_stuck(l, now_us))
		pool_retire_shared(l->pool, l);
}
