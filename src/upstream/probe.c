/* SPDX-License-Identifier: BSD-2-Clause */
/* The control thread's connection to a node: see probe.h. */
#include "upstream/probe.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "command/command.h"

#define REPLY_BYTES_MAX ((size_t)16 << 20)

enum question { ASK_AUTH, ASK_NAME, ASK_INFO, ASK_COMMAND, ASK_PING };

struct probe {
	struct event_base *base;
	struct node *node;
	void (*learnt)(void *ctx, struct command_set *set);
	void *ctx;
	int fd;
	unsigned next_address;
	bool connected;
	bool announced; /* "Redis connected successfully" or "Failed to connect" is in the log */
	struct event *io;
	struct event *timer;
	redisReader *reader;
	size_t bytes; /* of the reply under way */
	enum question asked[16];
	unsigned n_asked;
	int64_t backoff_ms;
};

static void start(struct probe *p);
static void on_io(evutil_socket_t fd, short what, void *arg);

static void set_timer(struct probe *p, int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_add(p->timer, &tv);
}

static void set_state(struct probe *p, enum node_state state, const char *why)
{
	int before = atomic_exchange(&p->node->state, state);

	if (before == (int)state)
		return;
	if (state == NODE_UP)
		log_info("Redis connected successfully");
	else if (before == NODE_UP)
		log_warn("Lost the connection to Redis at %s: %s", p->node->label, why);
	else
		log_warn("Failed to connect to Redis: %s. Keyweir answers -UPSTREAMDOWN until it is there.", why);
}

static void disconnect(struct probe *p)
{
	if (p->io)
		event_free(p->io);
	p->io = NULL;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	if (p->reader)
		redisReaderFree(p->reader);
	p->reader = NULL;
	p->connected = false;
	p->n_asked = 0;
	p->bytes = 0;
}

/* Lost or never there: again after the back-off. */
static void failed(struct probe *p, const char *why)
{
	const struct upstream_config *conf = &p->node->conf;

	disconnect(p);
	set_state(p, NODE_DOWN, why);
	p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : conf->reconnect_delay_ms;
	if (p->backoff_ms > conf->reconnect_delay_max_ms)
		p->backoff_ms = conf->reconnect_delay_max_ms;
	set_timer(p, p->backoff_ms > 0 ? p->backoff_ms : 1);
}

static bool ask(struct probe *p, enum question what, int argc, const char **argv)
{
	char *command = NULL;
	long long len = redisFormatCommandArgv(&command, argc, argv, NULL);
	ssize_t n;

	if (len < 0 || p->n_asked == sizeof(p->asked) / sizeof(*p->asked)) {
		redisFreeCommand(command);
		return false;
	}
	n = send(p->fd, command, (size_t)len, MSG_NOSIGNAL);
	explicit_bzero(command, (size_t)len);
	redisFreeCommand(command);
	p->asked[p->n_asked++] = what;
	return n == len;
}

static bool introduce(struct probe *p)
{
	const struct upstream_url *t = &p->node->conf.target;
	bool ok = true;

	if (t->password && t->username && *t->username)
		ok = ask(p, ASK_AUTH, 3, (const char *[]){"AUTH", t->username, t->password});
	else if (t->password)
		ok = ask(p, ASK_AUTH, 2, (const char *[]){"AUTH", t->password});
	return ok && ask(p, ASK_NAME, 3, (const char *[]){"CLIENT", "SETNAME", "keyweir-health"}) &&
	       ask(p, ASK_INFO, 2, (const char *[]){"INFO", "server"}) &&
	       ask(p, ASK_COMMAND, 1, (const char *[]){"COMMAND"}) && ask(p, ASK_PING, 1, (const char *[]){"PING"});
}

/* "redis_version:7.0.15" out of INFO. */
static void take_field(const char *info, const char *name, char *out, size_t size)
{
	const char *at = strstr(info, name);
	size_t n;

	if (!at)
		return;
	at += strlen(name);
	n = strcspn(at, "\r\n");
	if (n < size) {
		memcpy(out, at, n);
		out[n] = '\0';
	}
}

static void take_info(struct probe *p, const redisReply *reply)
{
	struct node *n = p->node;

	if (reply->type != REDIS_REPLY_STRING)
		return;
	pthread_mutex_lock(&n->lock);
	take_field(reply->str, "redis_version:", n->version, sizeof(n->version));
	snprintf(n->server_name, sizeof(n->server_name), "%s",
		 strstr(reply->str, "valkey_version:") ? "valkey" : "redis");
	pthread_mutex_unlock(&n->lock);
}

/* Returns NULL, or why the server can't be used. */
static const char *take_reply(struct probe *p, enum question what, const redisReply *reply)
{
	bool error = reply->type == REDIS_REPLY_ERROR;
	struct command_set *set;

	switch (what) {
	case ASK_AUTH:
		return error ? reply->str : NULL;
	case ASK_INFO:
		take_info(p, reply);
		return NULL;
	case ASK_COMMAND:
		set = error ? NULL : command_learn(reply);
		if (set)
			p->learnt(p->ctx, set);
		return NULL;
	case ASK_PING:
		/* -LOADING, -BUSY, -MASTERDOWN: it is there, and clients hear that from itself. */
		if (error && strncmp(reply->str, "NOAUTH", 6) == 0)
			return reply->str;
		p->backoff_ms = 0;
		set_state(p, NODE_UP, "");
		return NULL;
	default:
		return NULL;
	}
}

static void take_replies(struct probe *p)
{
	void *found = NULL;

	while (p->reader && p->n_asked > 0) {
		const char *why;
		char text[160];
		redisReply *reply;

		if (redisReaderGetReply(p->reader, &found) != REDIS_OK) {
			failed(p, "what answers there does not speak RESP");
			return;
		}
		if (!found)
			return;
		reply = found;
		p->bytes = 0;
		why = take_reply(p, p->asked[0], reply);
		snprintf(text, sizeof(text), "%s", why ? why : "");
		freeReplyObject(reply);
		memmove(p->asked, p->asked + 1, (--p->n_asked) * sizeof(*p->asked));
		if (why) {
			failed(p, text);
			return;
		}
	}
	if (p->n_asked == 0 && p->reader)
		set_timer(p, p->node->conf.health_check_ms > 0 ? p->node->conf.health_check_ms : 5000);
}

static void on_connected(struct probe *p)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		struct address list[NODE_ADDRESSES_MAX];

		if (p->next_address < node_addresses(p->node, list)) {
			disconnect(p);
			start(p);
		} else {
			failed(p, strerror(error));
		}
		return;
	}
	p->connected = true;
	p->reader = redisReaderCreate();
	event_free(p->io);
	p->io = event_new(p->base, p->fd, EV_READ | EV_PERSIST, on_io, p);
	event_add(p->io, NULL);
	set_timer(p, p->node->conf.connect_timeout_ms);
	if (!introduce(p))
		failed(p, "handshake could not be written");
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	struct probe *p = arg;
	char data[16384];
	ssize_t n;

	(void)what;
	if (!p->connected) {
		on_connected(p);
		return;
	}
	n = recv((int)fd, data, sizeof(data), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		failed(p, n == 0 ? "Redis closed the connection" : strerror(errno));
		return;
	}
	p->bytes += (size_t)n;
	if (p->bytes > REPLY_BYTES_MAX || redisReaderFeed(p->reader, data, (size_t)n) != REDIS_OK) {
		failed(p, "an answer is too large");
		return;
	}
	take_replies(p);
}

/* Connecting, or an answer, took too long; or it is time to ask again. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct probe *p = arg;

	(void)fd;
	(void)what;
	if (p->fd < 0) {
		p->next_address = 0;
		start(p);
	} else if (!p->connected || p->n_asked > 0) {
		failed(p, p->connected ? "no answer in time" : "connect_timeout is over");
	} else if (ask(p, ASK_PING, 1, (const char *[]){"PING"})) {
		set_timer(p, p->node->conf.read_timeout_ms * 5);
	} else {
		failed(p, "it does not read");
	}
}

static void start(struct probe *p)
{
	struct address list[NODE_ADDRESSES_MAX];
	unsigned n = node_addresses(p->node, list);
	const struct address *a;

	if (p->next_address >= n) {
		failed(p, "host name can't be resolved");
		return;
	}
	a = &list[p->next_address++];
	p->fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || (connect(p->fd, &a->sa, a->len) < 0 && errno != EINPROGRESS)) {
		failed(p, strerror(errno));
		return;
	}
	p->io = event_new(p->base, p->fd, EV_WRITE, on_io, p);
	event_add(p->io, NULL);
	set_timer(p, p->node->conf.connect_timeout_ms);
}

struct probe *probe_new(struct event_base *base, struct node *node, void (*learnt)(void *ctx, struct command_set *set),
			void *ctx)
{
	struct probe *p = xcalloc(1, sizeof(*p));

	p->base = base;
	p->node = node_ref(node);
	p->learnt = learnt;
	p->ctx = ctx;
	p->fd = -1;
	p->timer = evtimer_new(base, on_timer, p);
	log_info("Connecting to Redis at %s...", node->label);
	start(p);
	return p;
}

void probe_free(struct probe **pp)
{
	struct probe *p = *pp;

	*pp = NULL;
	if (!p)
		return;
	disconnect(p);
	event_free(p->timer);
	node_unref(&p->node);
	free(p);
}

void probe_learn(struct probe *p)
{
	if (p->connected && p->n_asked == 0)
		ask(p, ASK_COMMAND, 1, (const char *[]){"COMMAND"});
}
