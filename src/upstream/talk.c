/* SPDX-License-Identifier: BSD-2-Clause */
/* The control thread's conversations with servers: see talk.h. */
#include "upstream/talk.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/transport.h"
#include "upstream/upstream.h"

#define REPLY_BYTES_MAX ((size_t)16 << 20)
#define ASKED_MAX	16
#define LOOK_UP_MS	20
#define RAW_READS	64 /* of one event; others have their turn between */

struct question {
	void (*answered)(void *ctx, const struct redisReply *reply);
	int64_t timeout_ms;
};

struct talk {
	struct event_base *base;
	struct node *node;
	const struct talk_events *events;
	void *ctx;
	struct talk_login login;
	struct transport io;
	unsigned next_address;
	struct address to;
	int64_t give_up_us; /* connecting */
	char why[96];	    /* the last address' trouble */
	bool connected;
	bool by_password; /* AUTH was sent */
	bool ready;
	bool closed; /* inside a callback: freed when that returns */
	bool busy;
	struct event *event;
	struct event *timer;
	redisReader *reader;
	size_t bytes; /* of the reply under way */
	struct question asked[ASKED_MAX];
	unsigned n_asked;
	struct buf out;
};

static void start(struct talk *t);
static void on_io(evutil_socket_t fd, short what, void *arg);

static void set_timer(struct talk *t, int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_add(t->timer, &tv);
}

static void disconnect(struct talk *t)
{
	if (t->event)
		event_free(t->event);
	t->event = NULL;
	transport_close(&t->io);
	if (t->reader)
		redisReaderFree(t->reader);
	t->reader = NULL;
	t->connected = t->ready = false;
	t->n_asked = 0;
	t->bytes = 0;
	t->out.start = t->out.end = 0;
	event_del(t->timer);
}

static void failed(struct talk *t, const char *why)
{
	char text[160];

	snprintf(text, sizeof(text), "%s", why);
	disconnect(t);
	t->events->failed(t->ctx, text);
}

/* ---- asking ---- */

static void flush(struct talk *t)
{
	while (t->connected && buf_len(&t->out) > 0) {
		ssize_t n = transport_send(&t->io, buf_head(&t->out), buf_len(&t->out));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return; /* the kernel has room for far more than we ask: the answer's timer decides */
		if (n < 0)
			return;
		t->out.start += (size_t)n;
	}
	if (t->out.data)
		explicit_bzero(t->out.data, t->out.end); /* AUTH was in it */
	t->out.start = t->out.end = 0;
}

void talk_ask(struct talk *t, int64_t timeout_ms, void (*answered)(void *ctx, const struct redisReply *reply), int argc,
	      const char *const *argv)
{
	char *command = NULL;
	const char *args[16];
	long long len;

	if (t->n_asked == ASKED_MAX || argc > 16)
		return;
	memcpy(args, argv, (size_t)argc * sizeof(*argv));
	len = redisFormatCommandArgv(&command, argc, args, NULL);
	if (len < 0)
		return;
	buf_put(&t->out, command, (size_t)len);
	explicit_bzero(command, (size_t)len);
	redisFreeCommand(command);
	t->asked[t->n_asked++] = (struct question){answered, timeout_ms};
	if (!t->connected)
		return;
	flush(t);
	if (t->n_asked == 1)
		set_timer(t, timeout_ms);
}

void talk_send(struct talk *t, const char *data, size_t len)
{
	buf_put(&t->out, data, len);
	flush(t);
}

const struct address *talk_address(const struct talk *t)
{
	return &t->to;
}

bool talk_is_idle(const struct talk *t)
{
	return t->n_asked == 0;
}

bool talk_is_ready(const struct talk *t)
{
	return t->ready;
}

/* ---- answers ---- */

static void logged_in(void *ctx, const struct redisReply *reply)
{
	(void)ctx;
	(void)reply;
}

static void refused(struct talk *t, const redisReply *reply)
{
	char *args = strstr(reply->str, ", with args"); /* of an unknown command: the password */

	if (args)
		*args = '\0';
	failed(t, reply->str);
}

static void take_reply(struct talk *t, const redisReply *reply)
{
	struct question q;

	if (t->n_asked == 0) {
		if (t->events->message)
			t->events->message(t->ctx, reply);
		return;
	}
	q = t->asked[0];
	memmove(t->asked, t->asked + 1, (--t->n_asked) * sizeof(*t->asked));
	if (t->n_asked > 0)
		set_timer(t, t->asked[0].timeout_ms);
	else
		event_del(t->timer);
	if (q.answered != logged_in) {
		q.answered(t->ctx, reply);
	} else if (reply->type == REDIS_REPLY_ERROR && (t->by_password || strncmp(reply->str, "NOAUTH", 6) == 0)) {
		refused(t, reply); /* -LOADING, -BUSY and their like: it is there */
	} else {
		t->ready = true;
		t->events->ready(t->ctx);
	}
}

static void free_talk(struct talk *t)
{
	disconnect(t);
	event_free(t->timer);
	buf_release(&t->out);
	node_unref(&t->node);
	free(t);
}

static void take_replies(struct talk *t)
{
	void *found = NULL;

	t->busy = true;
	while (t->reader && !t->closed) {
		if (redisReaderGetReply(t->reader, &found) != REDIS_OK) {
			failed(t, "what answers there does not speak RESP");
			break;
		}
		if (!found)
			break;
		t->bytes = 0;
		take_reply(t, found);
		freeReplyObject(found);
	}
	t->busy = false;
	if (t->closed)
		free_talk(t);
}

/* ---- connecting ---- */

/* AUTH, then a command that every server answers, so that a refused login is noticed. */
static void introduce(struct talk *t)
{
	struct buf later = t->out;
	struct question asked[ASKED_MAX];
	unsigned n_asked = t->n_asked;
	bool user = t->login.username && *t->login.username;

	t->by_password = t->login.password && *t->login.password;
	memcpy(asked, t->asked, sizeof(asked));
	t->out = (struct buf){0};
	t->n_asked = 0;
	if (t->by_password) {
		if (user)
			talk_ask(t, 1000, logged_in, 3,
				 (const char *const[]){"AUTH", t->login.username, t->login.password});
		else
			talk_ask(t, 1000, logged_in, 2, (const char *const[]){"AUTH", t->login.password});
	} else {
		/* Any answer will do, as long as it is none about a login. */
		talk_ask(t, 1000, logged_in, 1, (const char *const[]){"PING"});
	}
	for (unsigned i = 0; i < n_asked; i++)
		t->asked[t->n_asked++] = asked[i];
	if (later.data)
		buf_put(&t->out, buf_head(&later), buf_len(&later));
	buf_release(&later);
	flush(t);
}

/* This address did not answer: the next one, or give up. */
static void connect_failed(struct talk *t, const char *why)
{
	struct address list[NODE_ADDRESSES_MAX];

	transport_close(&t->io);
	if (t->next_address < node_addresses(t->node, list))
		start(t);
	else
		failed(t, why);
}

static void hear(struct talk *t, short what)
{
	if (t->event)
		event_free(t->event);
	t->event = event_new(t->base, t->io.fd, what, on_io, t);
	event_add(t->event, NULL);
}

static void stands(struct talk *t)
{
	t->connected = true;
	hear(t, EV_READ | EV_PERSIST);
	if (transport_has_more(&t->io))
		event_active(t->event, EV_READ, 0);
	if (t->events->bytes) {
		event_del(t->timer);
		t->ready = true;
		t->events->ready(t->ctx); /* the last: it may close this */
	} else {
		t->reader = redisReaderCreate();
		introduce(t);
	}
}

static void handshake(struct talk *t)
{
	char why[160];

	switch (transport_handshake(&t->io)) {
	case HANDSHAKE_DONE:
		stands(t);
		break;
	case HANDSHAKE_READ:
		hear(t, EV_READ);
		break;
	case HANDSHAKE_WRITE:
		hear(t, EV_WRITE);
		break;
	case HANDSHAKE_FAILED:
		snprintf(why, sizeof(why), "TLS: %s", transport_why(&t->io));
		event_free(t->event);
		t->event = NULL;
		connect_failed(t, why);
		break;
	}
}

static void on_connected(struct talk *t)
{
	struct node *n = t->node;
	int error = 0;
	socklen_t len = sizeof(error);

	if (t->io.tls) {
		handshake(t);
		return;
	}
	if (getsockopt(t->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		event_free(t->event);
		t->event = NULL;
		connect_failed(t, strerror(error));
	} else if (!n->up->tls) {
		stands(t);
	} else if (transport_connect_tls(&t->io, n->up->tls, n->host, &n->tls_memory, NULL, NULL)) {
		handshake(t);
	} else {
		failed(t, transport_why(&t->io));
	}
}

/* Raw: all that is there. */
static void pass_bytes(struct talk *t)
{
	char data[16384];
	ssize_t n = 1;

	t->busy = true;
	for (unsigned i = 0; i < RAW_READS && n > 0 && !t->closed; i++) {
		n = transport_read(&t->io, data, sizeof(data));
		if (n > 0)
			t->events->bytes(t->ctx, data, (size_t)n);
		else if (n < 0 && (errno == EAGAIN || errno == EINTR))
			t->events->drained(t->ctx);
		else
			failed(t, n == 0 ? "Redis closed the connection" : transport_why(&t->io));
	}
	t->busy = false;
	if (t->closed)
		free_talk(t);
	else if (t->event && n > 0 && transport_has_more(&t->io))
		event_active(t->event, EV_READ, 0);
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	struct talk *t = arg;
	char data[16384];
	ssize_t n;

	(void)fd;
	(void)what;
	if (!t->connected) {
		on_connected(t);
		return;
	}
	if (t->events->bytes) {
		pass_bytes(t);
		return;
	}
	do {
		n = transport_read(&t->io, data, sizeof(data));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			failed(t, n == 0 ? "Redis closed the connection" : transport_why(&t->io));
			return;
		}
		t->bytes += (size_t)n;
		if (t->bytes > REPLY_BYTES_MAX || redisReaderFeed(t->reader, data, (size_t)n) != REDIS_OK) {
			failed(t, "an answer is too large");
			return;
		}
	} while (transport_has_more(&t->io));
	take_replies(t);
}

/* Connecting, or an answer, took too long; or the name is not looked up yet. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct talk *t = arg;

	(void)fd;
	(void)what;
	if (t->io.fd < 0 && clock_now_us() < t->give_up_us)
		start(t);
	else
		failed(t, t->io.fd < 0	 ? (t->why[0] ? t->why : "host name can't be resolved")
			  : t->connected ? "no answer in time"
					 : "connect_timeout is over");
}

/* Questions are small and many, and each is to be sent at once, whether or not the one before it was answered. */
static void set_options(int fd, const struct address *a)
{
	int on = 1;

	if (a->sa.sa_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void start(struct talk *t)
{
	struct address list[NODE_ADDRESSES_MAX];
	unsigned n = node_addresses(t->node, list);
	int64_t left_ms = (t->give_up_us - clock_now_us()) / 1000;
	const struct address *a;

	if (n == 0)
		node_resolve_soon(t->node);
	if (t->next_address >= n) { /* from the timer: `failed` is never called from inside talk_open() */
		set_timer(t, LOOK_UP_MS);
		return;
	}
	t->to = list[t->next_address++];
	a = &t->to;
	t->io = (struct transport){.fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
	if (t->io.fd < 0) {
		snprintf(t->why, sizeof(t->why), "%s", strerror(errno));
		t->give_up_us = 0;
		set_timer(t, 1);
		return;
	}
	set_options(t->io.fd, a);
	/* A connection refused at once is heard of by the event, as others are. */
	if (connect(t->io.fd, &a->sa, a->len) < 0 && errno != EINPROGRESS) {
		snprintf(t->why, sizeof(t->why), "%s", strerror(errno));
		if (t->next_address >= n)
			t->give_up_us = 0;
		transport_close(&t->io);
		set_timer(t, 1);
		return;
	}
	t->event = event_new(t->base, t->io.fd, EV_WRITE, on_io, t);
	event_add(t->event, NULL);
	set_timer(t, left_ms > 1 ? left_ms : 1);
}

struct talk *talk_open(struct event_base *base, struct node *node, const struct talk_login *login,
		       int64_t connect_timeout_ms, const struct talk_events *events, void *ctx)
{
	struct talk *t = xcalloc(1, sizeof(*t));

	t->base = base;
	t->node = node_ref(node);
	t->events = events;
	t->ctx = ctx;
	if (login)
		t->login = *login;
	t->io = (struct transport){.fd = -1};
	t->give_up_us = clock_now_us() + connect_timeout_ms * 1000;
	t->timer = evtimer_new(base, on_timer, t);
	start(t);
	return t;
}

void talk_close(struct talk **tp)
{
	struct talk *t = *tp;

	*tp = NULL;
	if (!t)
		return;
	if (t->busy)
		t->closed = true;
	else
		free_talk(t);
}
