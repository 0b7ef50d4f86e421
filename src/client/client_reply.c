/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Replies on their way to a client, in the order of its commands. What comes for the request at the head goes
 * straight to the output; what is ready earlier waits in its request.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "client/absent.h"
#include "client/big_keys.h"
#include "client/client.h"
#include "client/fanout.h"
#include "client/limit.h"
#include "client/mirror.h"
#include "client/namespace_stats.h"
#include "client/near.h"
#include "client/token.h"
#include "client/policy.h"
#include "client/redirect.h"
#include "client/slowlog.h"
#include "client/stats.h"
#include "resp/reply_frame.h"
#include "resp/write.h"
#include "server.h"

#define CUT_THROUGH_BYTES 16384 /* pieces from this size on are written at once instead of copied */
#define OUTPUT_HIGH_BYTES ((size_t)1024 * 1024)
#define SMALL_REPLY_BYTES 4096
#define LARGE_REPLY_BYTES 65536
#define HUGE_REPLY_BYTES  ((uint64_t)4 * 1024 * 1024)
#define WINDOW_MIN	  8

static void check_output_limit(struct client *c)
{
	size_t waiting = c->extra ? buf_len(&c->extra->deferred) : 0;

	if (c->out.bytes + waiting <= (size_t)c->w->snapshot->config->server.client_output_limit_bytes || c->closed)
		return;
	log_warn("Client %llu closed: it does not read its replies (client_output_limit)", (unsigned long long)c->id);
	counter_add(&c->w->counters.output_limit_closed, 1);
	client_close(c);
}

static inline void check_output(struct client *c)
{
	if (__builtin_expect(c->out.bytes > c->w->output_pause_bytes, 0))
		check_output_limit(c);
}

/* Appends to the output; large pieces go to the socket straight from where they are. */
static inline void put_out(struct client *c, const char *p, size_t n)
{
	if (n >= CUT_THROUGH_BYTES && c->out.bytes == 0 && !c->write_event) {
		ssize_t sent = transport_send(&c->io, p, n);

		if (sent > 0) {
			counter_add(&c->w->counters.bytes_out, (uint64_t)sent);
			p += sent;
			n -= (size_t)sent;
		}
		if (n == 0)
			return;
	}
	outq_append(&c->out, p, n);
	client_mark_dirty(c);
}

/* ---- the queue ---- */

/* Takes the head off; pushes that waited for its reply to end go out now. */
static inline void pop_request(struct client *c)
{
	struct request *r = c->head;

	c->head = r->next;
	if (!c->head)
		c->tail = NULL;
	c->n_requests--;
	request_free(&c->w->requests, &r);
	if (__builtin_expect(c->extra && buf_len(&c->extra->deferred) > 0, 0)) {
		put_out(c, buf_head(&c->extra->deferred), buf_len(&c->extra->deferred));
		buf_release(&c->extra->deferred);
	}
}

static void pop_done(struct client *c)
{
	while (c->head && (c->head->flags & REQUEST_DONE)) {
		struct request *r = c->head;

		if (r->n_small > 0)
			put_out(c, r->small, r->n_small);
		else if (buf_len(&r->reply) > 0 && !(r->flags & REQUEST_SILENT))
			put_out(c, buf_head(&r->reply), buf_len(&r->reply));
		pop_request(c);
	}
}

/* Accounts for an answered command: type and number of its reply, and its bytes. */
static inline void account(struct client *c, struct request *r, char type, int64_t number, size_t bytes)
{
	if (__builtin_expect(r->wrote || r->near, 0))
		near_settle(c->w, r);
	if (!r->cmd)
		return;
	stats_count(c->w, r->cmd, c->w->now_us - r->start_us);
	namespace_stats_count(c->w, r, type, number, (size_t)r->len + bytes);
}

/* The same of a reply that was gathered. */
static void account_gathered(struct client *c, struct request *r)
{
	struct reply_item item = {.type = '+'};

	if (r->ns > 0)
		item = reply_first(buf_head(&r->reply), buf_len(&r->reply), '+');
	account(c, r, item.type, item.number, buf_len(&r->reply));
}

void client_request_done(struct request *r)
{
	struct client *c = r->client;

	account_gathered(c, r);
	if (__builtin_expect(r->fix != NULL, 0))
		policy_fix(r);
	if (__builtin_expect(r->near != NULL, 0))
		near_gathered(r);
	r->flags |= REQUEST_DONE;
	if (r->flags & REQUEST_BLOCKING) {
		r->flags &= ~(uint32_t)REQUEST_BLOCKING;
		counter_add(&c->w->counters.blocked, (uint64_t)-1);
		c->n_blocking--;
	}
	if (r == c->head)
		pop_done(c);
	check_output(c);
}

/* ---- replies made here ---- */

void client_reply_raw(struct client *c, const struct call *call, const char *p, size_t len)
{
	if (call && call->cmd)
		stats_count(c->w, call->cmd, 0);
	if (!c->head) {
		if (c->reply_mode == REPLY_ON && !c->reply_skip) {
			put_out(c, p, len);
			check_output(c);
		}
		return;
	}
	struct call none = {0};
	struct request *r = client_request_new(c, call ? call : &none);

	if (len <= REQUEST_SMALL_BYTES && !(r->flags & REQUEST_SILENT)) {
		memcpy(r->small, p, len);
		r->n_small = (uint8_t)len;
	} else {
		buf_put(&r->reply, p, len);
	}
	r->flags |= REQUEST_DONE;
}

void client_put_reply(struct client *c, const char *p, size_t len)
{
	put_out(c, p, len);
	check_output(c);
}

void client_reply(struct client *c, const struct call *call, struct buf *b)
{
	client_reply_raw(c, call, b->data ? buf_head(b) : "", buf_len(b));
	buf_release(b);
}

void client_reply_ok(struct client *c, const struct call *call)
{
	client_reply_raw(c, call, "+OK\r\n", 5);
}

void client_reply_error(struct client *c, const struct call *call, const char *text)
{
	struct buf b = {0};

	resp_error(&b, text);
	client_reply(c, call, &b);
}

static void count_error(struct client *c, const char *text)
{
	if (strncmp(text, "UPSTREAMDOWN", 12) == 0)
		counter_add(&c->w->counters.errors_upstream_down, 1);
	else if (strncmp(text, "TIMEOUT", 7) == 0)
		counter_add(&c->w->counters.errors_timeout, 1);
	else if (strncmp(text, "OVERLOADED", 10) == 0)
		counter_add(&c->w->counters.errors_overloaded, 1);
}

void client_reply_own_error(struct client *c, const struct call *call, enum reply_error error)
{
	count_error(c, reply_error_text(error));
	client_reply_error(c, call, reply_error_text(error));
}

/* ---- pushes ---- */

static bool in_reply(const struct client *c)
{
	return c->head && (c->head->flags & REQUEST_BEGUN) && !(c->head->flags & REQUEST_COLLECT);
}

void client_push_later(struct client *c, const char *p, size_t len)
{
	if (c->closed)
		return;
	buf_put(&client_extra(c)->deferred, p, len);
	check_output_limit(c);
}

void client_push(struct client *c, const char *p, size_t len)
{
	if (c->closed)
		return;
	if (in_reply(c)) {
		client_push_later(c, p, len);
		return;
	}
	put_out(c, p, len);
	check_output(c);
}

void client_push_ref(struct client *c, struct rcbuf *rb, size_t skip)
{
	if (c->closed)
		return;
	if (in_reply(c) || rb->len < 1024) {
		client_push(c, rb->data + skip, rb->len - skip);
		return;
	}
	outq_append_ref(&c->out, rb, skip);
	client_mark_dirty(c);
	check_output(c);
}

/* ---- replies from upstream ---- */

/*
 * How many requests a client may have on the way: it grows with every small reply and shrinks with large ones, so that
 * nobody queues gigabytes in front of others on a shared link.
 */
static void adjust_window(struct client *c)
{
	if (c->reply_bytes < SMALL_REPLY_BYTES) {
		if (c->window < CLIENT_WINDOW_MAX)
			c->window++;
	} else if (c->reply_bytes > LARGE_REPLY_BYTES && c->window > WINDOW_MIN) {
		c->window /= 2;
	}
	c->reply_bytes = 0;
}

/* Requests of the client were answered: what they held up goes on. */
static void left_link(struct client *c)
{
	if (c->n_upstream == 0) {
		if (!c->w->only && list_is_linked(&c->dirty)) { /* that was all: out with what was held */
			list_remove(&c->dirty);
			client_mark_dirty(c);
		}
		if (c->wait == WAIT_DRAIN || c->wait == WAIT_ROOM)
			client_resume_soon(c);
		client_maybe_unbind(c);
	} else if (c->wait == WAIT_ROOM && c->n_upstream < c->window / 2) {
		client_resume_soon(c);
	}
	if (c->closing || c->w->draining)
		client_mark_dirty(c);
}

void client_leave_link(struct client *c, struct request *r)
{
	adjust_window(c);
	client_leave_lane(c, r);
	c->n_upstream--;
	c->bytes_upstream -= r->len;
	left_link(c);
}

/*
 * A piece of a large reply: the link waits a little for a client that does not keep up. One for which others had to
 * wait once is not waited for again until it has read everything.
 */
static void hold_back(struct client *c, struct link *l)
{
	/* Whoever comes while a huge reply passes takes another link, before there is anything to wait for. */
	if (l->kind == LINK_SHARED && l->rf.skip > HUGE_REPLY_BYTES)
		pool_retire_shared(l->pool, l);
	if (c->out.bytes <= OUTPUT_HIGH_BYTES || l->rf.skip <= OUTPUT_HIGH_BYTES / 4)
		return;
	if (l->impatient) {
		l->impatient = false;
		c->slow = true;
	}
	if (!c->slow)
		link_pause(l);
}

static void pass_on(struct client *c, struct request *r, const char *data, size_t len)
{
	if (r->flags & REQUEST_SILENT)
		return;
	if ((r->flags & (REQUEST_COLLECT | REQUEST_CUT)) || r != c->head) {
		if (!buf_append(&r->reply, data, len))
			client_close(c);
	} else {
		if (r->reply.data) { /* it was not the head when it began */
			put_out(c, buf_head(&r->reply), buf_len(&r->reply));
			buf_release(&r->reply);
		}
		put_out(c, data, len);
	}
}

/* What the commands in a unit were told stands in front of its own reply, and is not for the client. */
static void drop_before(struct request *r)
{
	if (r->flags & REQUEST_WRAPPED) /* there it is the reply: policy_unwrap() */
		return;
	r->reply.start += r->error_len;
	r->error_len = 0;
}

/* An error that may be a redirection has come whole. True: it is one, and r is on its way elsewhere. */
static bool redirected(struct request *r, const char *data, size_t len, struct link *l)
{
	bool in_pieces = r->flags & (REQUEST_CUT | REQUEST_COLLECT) && buf_len(&r->reply) > r->error_len;
	bool followed;

	if (r->error_len > 0 && r->flags & REQUEST_UNIT) {
		followed = redirect_follow(r, l, buf_head(&r->reply), r->error_len);
		if (!followed)
			drop_before(r);
		return followed;
	}
	if (!in_pieces)
		return redirect_follow(r, l, data, len);
	buf_put(&r->reply, data, len);
	followed = redirect_follow(r, l, buf_head(&r->reply), buf_len(&r->reply));
	if (!followed)
		r->reply.end -= len;
	return followed;
}

static void orphan_answered(struct request *r, const struct link *l, bool done)
{
	struct worker *w = l->w;

	if (done)
		request_free(&w->requests, &r);
}

/* All of the reply is here and on its way to the client. */
static void answered(struct client *c, struct request *r, char type, int64_t number)
{
	size_t bytes = c->reply_bytes;

	if (__builtin_expect(slowlog_is_slow(c->w->server->slowlog, c->w->now_us - r->start_us), 0))
		slowlog_add(c, r, r->link);
	if (__builtin_expect(bytes >= BIG_KEYS_BYTES, 0))
		big_keys_add_reply(c, r, r->link, bytes);
	client_leave_link(c, r);
	if (r->flags & REQUEST_WRITE && c->wrote_us)
		c->wrote_us = c->w->now_us;
	if (r->flags & REQUEST_PART) {
		if (r->near)
			near_gathered(r);
		fanout_part_done(r, type, number);
		return;
	}
	/* Nearly always it is the head, its reply is out, and nothing waits behind it. */
	if (__builtin_expect(r == c->head && !(r->flags & (REQUEST_COLLECT | REQUEST_BLOCKING)) && !r->reply.data, 1)) {
		account(c, r, type, number, bytes);
		pop_request(c);
		if (c->head && c->head->flags & REQUEST_DONE)
			pop_done(c);
		check_output(c);
	} else {
		client_request_done(r);
	}
}

/* A command that lacked a script or a function on its node, and travelled in a transaction: it is loaded there. */
static bool lacks_script(struct request *r, struct link *l, char type)
{
	return type == '-' && redirect_possible(l) &&
	       redirect_load_missing(r, l, buf_head(&r->reply), buf_len(&r->reply));
}

void client_on_reply(struct request *r, const char *data, size_t len, struct link *l, bool done)
{
	struct client *c = r->client;
	char type = l->rf.type;
	int64_t number = l->rf.number;
	struct buf text = {0};

	if (!c) {
		/* What a client has sent is done also when it has left. */
		if (r->flags & REQUEST_MIRROR)
			mirror_answered(r, data, len, l, done);
		else if (r->flags & REQUEST_LEASE)
			lease_answered(r, data, len, l, done);
		else if (l->w->mirroring)
			mirror_heard(r, data, len, l, done);
		if (r->near)
			near_hear(l->w, r, data, len, done);
		orphan_answered(r, l, done);
		return;
	}
	if (__builtin_expect(l->rf.type == '-', 0) && redirect_possible(l)) {
		if (!done && !(r->flags & REQUEST_BEGUN))
			r->flags |= REQUEST_CUT;
		else if (done && redirected(r, data, len, l))
			return;
	} else if (r->flags & REQUEST_UNIT && !(r->flags & REQUEST_BEGUN)) {
		drop_before(r);
	}
	if (__builtin_expect(l->w->mirroring, 0))
		mirror_heard(r, data, len, l, done);
	if (type == '-' && r->ns > 0 && done && !(r->flags & (REQUEST_BEGUN | REQUEST_COLLECT)) &&
	    (token_error(r, l, data, len, &text) || policy_error(r, data, len, &text))) {
		data = buf_head(&text);
		len = buf_len(&text);
	}
	if (__builtin_expect(r->wrote || r->near, 0)) {
		/* It is done, also when its reply has only begun. But one that is wrapped may lack its script, see
		 * below. */
		if (!(r->flags & REQUEST_WRAPPED))
			near_settle(l->w, r);
		if (r->near)
			near_hear(l->w, r, data, len, done);
	}
	r->flags |= REQUEST_BEGUN;
	c->reply_bytes += len;
	pass_on(c, r, data, len);
	buf_release(&text);
	if (c->closed) { /* r is an orphan now; when done the link has taken it off its queue already */
		orphan_answered(r, l, done);
		return;
	}
	if (!done) {
		/* It is coming: the time-out is for silence. */
		if (r->deadline_us > 0)
			r->deadline_us = c->w->now_us + forward_timeout_us(l, r->cmd);
		hold_back(c, l);
		check_output(c);
		return;
	}
	if (c->upload == r)
		client_upload_lost(c);
	if (__builtin_expect(r->flags & REQUEST_WRAPPED, 0)) {
		policy_unwrap(r, &type, &number);
		if (type == '-' && r->ns > 0 && policy_error(r, buf_head(&r->reply), buf_len(&r->reply), &text)) {
			buf_release(&r->reply);
			r->reply = text;
		}
		if (lacks_script(r, l, type))
			return;
	}
	if (__builtin_expect(r->flags & REQUEST_OWN_SCRIPT, 0) && type == '-' &&
	    redirect_load_missing(r, l, buf_head(&r->reply), buf_len(&r->reply)))
		return;
	if (r->on_reply)
		r->on_reply(r, type, number);
	if (c->closed)
		orphan_answered(r, l, true);
	else
		answered(c, r, type, number);
}

void client_on_reply_before(struct request *r, const char *data, size_t len, struct link *l, bool done)
{
	if (r->near && r->near->fetch) {
		if (done)
			near_before(r, l->rf.type, l->rf.number);
		return;
	}
	/* Of a unit only the first error counts: it may be a redirection. */
	if ((!r->client && !(r->flags & REQUEST_MIRROR)) || l->rf.type != '-' || r->error_len > 0)
		return;
	buf_put(&r->reply, data, len);
	if (done)
		r->error_len = (uint32_t)buf_len(&r->reply);
}

/* Nothing but passing on is to be done for its reply. */
static inline bool is_plain(const struct request *r, const struct client *c)
{
	return r->client == c && r == c->head && !(r->flags & ~(uint32_t)REQUEST_WRITE) && !r->on_reply && !r->near &&
	       !r->reply.data && r->cmd && !slowlog_is_slow(c->w->server->slowlog, c->w->now_us - r->start_us);
}

/* The same where there are many servers: a reply may come before its turn. */
static inline bool is_plain_of_many(const struct request *r, const struct client *c)
{
	return !(r->flags & ~(uint32_t)REQUEST_WRITE) && !r->on_reply && !r->near && !r->reply.data && r->cmd &&
	       c->reply_bytes == 0 && !(c->extra && buf_len(&c->extra->deferred) > 0) &&
	       !slowlog_is_slow(c->w->server->slowlog, c->w->now_us - r->start_us);
}

/* What client_on_plain_replies() does, one by one: a client's replies come over several links. */
static size_t plain_replies_of_many(struct link *l, const char *data, size_t len)
{
	size_t at = 0;

	while (at < len && l->head && l->head->client && is_plain_of_many(l->head, l->head->client)) {
		struct request *r = l->head;
		struct client *c = r->client;
		size_t used = data[at] == '-' ? 0 : reply_whole(&l->rf, data + at, len - at);

		if (used == 0 || used > (r == c->head ? SMALL_REPLY_BYTES : REQUEST_SMALL_BYTES))
			break;
		l->head = r->next_in_link;
		if (!l->head)
			l->tail = NULL;
		l->n_queue--;
		account(c, r, l->rf.type, l->rf.number, used);
		c->window += c->window < CLIENT_WINDOW_MAX;
		client_leave_lane(c, r);
		c->n_upstream--;
		c->bytes_upstream -= r->len;
		if (r == c->head) {
			put_out(c, data + at, used);
			pop_request(c);
			pop_done(c);
		} else {
			memcpy(r->small, data + at, used);
			r->n_small = (uint8_t)used;
			r->flags |= REQUEST_DONE;
		}
		at += used;
		left_link(c);
		check_output(c);
	}
	return at;
}

/*
 * The path of nearly every reply: small, whole, and its request is the client's next. A run of them goes out in one
 * piece. Whatever is not so goes the long way, through client_on_reply().
 */
size_t client_on_plain_replies(struct link *l, const char *data, size_t len)
{
	struct client *c = l->head ? l->head->client : NULL;
	struct lane *lane;
	uint32_t n = 0;
	size_t at = 0;

	/* Where replicas are read from, the time of each write counts. */
	if (l->pool->server->conf->read_from != READ_FROM_MASTER && !l->pool->readonly)
		return 0;
	if (l->w->mirroring && *l->pool->server->conf->mirror_to)
		return 0;
	if (!l->w->only)
		return plain_replies_of_many(l, data, len);
	if (!c || c->reply_bytes > 0 || (c->extra && buf_len(&c->extra->deferred) > 0))
		return 0;
	while (at < len && l->head && is_plain(l->head, c)) {
		struct request *r = l->head;
		size_t used;

		__builtin_prefetch(r->next_in_link, 1);
		if (data[at] == '-') /* it may be a redirection */
			break;
		used = reply_whole(&l->rf, data + at, len - at);
		if (used == 0 || used > SMALL_REPLY_BYTES)
			break;
		at += used;
		n++;
		account(c, r, l->rf.type, l->rf.number, used);
		l->head = r->next_in_link;
		c->head = r->next;
		c->bytes_upstream -= r->len;
		request_free(&c->w->requests, &r);
	}
	if (n == 0)
		return 0;
	if (!l->head)
		l->tail = NULL;
	if (!c->head)
		c->tail = NULL;
	l->n_queue -= n;
	c->n_requests -= n;
	lane = client_lane(c, l->pool);
	lane->n -= n;
	if (lane->n == 0)
		lane->link = NULL;
	c->n_upstream -= n;
	c->n_replica -= l->pool->readonly ? n : 0;
	c->window = c->window + n < CLIENT_WINDOW_MAX ? c->window + n : CLIENT_WINDOW_MAX;
	put_out(c, data, at);
	left_link(c);
	if (c->head && c->head->flags & REQUEST_DONE)
		pop_done(c);
	check_output(c);
	return at;
}

void client_came_back(struct request *r)
{
	struct client *c = r->client;

	c->n_upstream--;
	c->bytes_upstream -= r->len;
	left_link(c);
}

void client_answered_absent(struct request *r)
{
	struct client *c = r->client;

	near_failed(c->w, r, reply_error_text(ERROR_TIMED_OUT)); /* others may have a stand-in, too */
	if (!(r->flags & REQUEST_PART)) {
		client_request_done(r);
		return;
	}
	fanout_part_made(r);
	request_free(&c->w->requests, &r);
}

void client_fail_request(struct request *r, const char *text)
{
	struct client *c = r->client;

	near_settle(c->w, r);
	/* What else went wrong may be this client's own affair. */
	near_failed(c->w, r, strncmp(text, "TIMEOUT", 7) == 0 ? reply_error_text(ERROR_TIMED_OUT) : NULL);
	if (r->flags & REQUEST_PART) {
		fanout_part_failed(r, text);
		request_free(&c->w->requests, &r);
		return;
	}
	if (c->upload == r)
		client_upload_lost(c);
	count_error(c, text);
	if ((r->flags & REQUEST_BEGUN) && !(r->flags & (REQUEST_COLLECT | REQUEST_CUT))) {
		client_close(c); /* half a reply is out: nothing true can follow */
		return;
	}
	r->reply.start = r->reply.end = 0;
	resp_error(&r->reply, text);
	if (r->on_reply)
		r->on_reply(r, '-', 0);
	if (!c->closed)
		client_request_done(r);
}
