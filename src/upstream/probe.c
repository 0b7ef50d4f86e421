/* SPDX-License-Identifier: BSD-2-Clause */
/* The control thread's connection to a node: see probe.h. */
#include "upstream/probe.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "command/command.h"
#include "upstream/talk.h"

#define SILENT_TIMES 5 /* read_timeouts that an answer to the probe may take */

struct probe {
	struct event_base *base;
	struct node *node;
	const struct probe_events *events;
	void *ctx;
	struct talk *talk;
	struct event *timer;
	int64_t asked_us;
	int64_t backoff_ms;
};

static void set_timer(struct probe *p, int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_add(p->timer, &tv);
}

static int64_t answer_ms(const struct probe *p)
{
	return p->node->conf->read_timeout_ms * SILENT_TIMES;
}

static void set_state(struct probe *p, enum node_state state, const char *why)
{
	int before = atomic_exchange(&p->node->state, state);
	bool alone = p->node->conf->mode == UPSTREAM_STANDALONE;

	if (before == (int)state)
		return;
	if (state == NODE_UP && alone)
		log_info("Redis connected successfully");
	else if (state == NODE_UP)
		log_info("Redis at %s connected successfully", p->node->label);
	else if (before == NODE_UP)
		log_warn("Lost the connection to Redis at %s: %s", p->node->label, why);
	else if (alone)
		log_warn("Failed to connect to Redis: %s. Keyweir answers -UPSTREAMDOWN until it is there.", why);
	else
		log_warn("Failed to connect to Redis at %s: %s", p->node->label, why);
	if (state != NODE_UP)
		atomic_store(&p->node->readable, false);
	p->events->changed(p->ctx, p);
}

/* ---- what it says ---- */

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

static void on_info(void *ctx, const redisReply *reply)
{
	struct node *n = ((struct probe *)ctx)->node;

	if (reply->type != REDIS_REPLY_STRING)
		return;
	pthread_mutex_lock(&n->lock);
	take_field(reply->str, "redis_version:", n->version, sizeof(n->version));
	snprintf(n->server_name, sizeof(n->server_name), "%s",
		 strstr(reply->str, "valkey_version:") ? "valkey" : "redis");
	pthread_mutex_unlock(&n->lock);
	atomic_store(&n->release, node_software(n).release);
}

static void on_command(void *ctx, const redisReply *reply)
{
	struct probe *p = ctx;
	struct command_set *set = reply->type == REDIS_REPLY_ERROR ? NULL : command_learn(reply);

	if (set)
		p->events->learnt(p->ctx, set);
}

static void on_name(void *ctx, const redisReply *reply)
{
	(void)ctx;
	(void)reply;
}

static void on_ping(void *ctx, const redisReply *reply)
{
	struct probe *p = ctx;

	(void)reply; /* -LOADING, -BUSY, -MASTERDOWN: it is there, and clients hear that from itself */
	p->backoff_ms = 0;
	node_note_latency(p->node, clock_now_us() - p->asked_us);
	node_heard(p->node);
	set_state(p, NODE_UP, "");
}

/*
 * "master", offset, replicas; or "slave", host, port, state, offset. https://redis.io/commands/role/
 */
static void on_role(void *ctx, const redisReply *reply)
{
	struct probe *p = ctx;
	struct node_role role = {0};
	bool turned;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 || reply->element[0]->type != REDIS_REPLY_STRING)
		return;
	role.master = strcmp(reply->element[0]->str, "master") == 0;
	if (role.master) {
		role.offset = reply->element[1]->type == REDIS_REPLY_INTEGER ? reply->element[1]->integer : 0;
	} else if (reply->elements >= 5) {
		role.connected = reply->element[3]->type == REDIS_REPLY_STRING &&
				 strcmp(reply->element[3]->str, "connected") == 0;
		role.offset = reply->element[4]->type == REDIS_REPLY_INTEGER ? reply->element[4]->integer : 0;
	}
	turned = node_take_role(p->node, &role);
	if (turned)
		p->events->changed(p->ctx, p);
}

/* ---- asking ---- */

static void check(struct probe *p)
{
	const struct upstream_config *conf = p->node->conf;

	p->asked_us = clock_now_us();
	talk_ask(p->talk, answer_ms(p), on_ping, 1, (const char *const[]){"PING"});
	if (conf->mode != UPSTREAM_STANDALONE)
		talk_ask(p->talk, answer_ms(p), on_role, 1, (const char *const[]){"ROLE"});
	set_timer(p, conf->health_check_ms);
}

static void on_ready(void *ctx)
{
	struct probe *p = ctx;

	talk_ask(p->talk, answer_ms(p), on_name, 3, (const char *const[]){"CLIENT", "SETNAME", "keyweir-health"});
	talk_ask(p->talk, answer_ms(p), on_info, 2, (const char *const[]){"INFO", "server"});
	probe_learn(p);
	check(p);
}

/* Lost or never there: again after the back-off. */
static void on_failed(void *ctx, const char *why)
{
	struct probe *p = ctx;
	const struct upstream_config *conf = p->node->conf;

	talk_close(&p->talk);
	p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : conf->reconnect_delay_ms;
	if (p->backoff_ms > conf->reconnect_delay_max_ms)
		p->backoff_ms = conf->reconnect_delay_max_ms;
	set_timer(p, p->backoff_ms > 0 ? p->backoff_ms : 1);
	set_state(p, NODE_DOWN, why);
}

static const struct talk_events talk_events = {on_ready, on_failed, NULL};

static void connect_now(struct probe *p)
{
	const struct upstream_url *t = &p->node->conf->target;
	struct talk_login login = {t->username, t->password, "keyweir-health"};

	p->talk = talk_open(p->base, p->node, &login, p->node->conf->connect_timeout_ms, &talk_events, p);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct probe *p = arg;

	(void)fd;
	(void)what;
	if (!p->talk)
		connect_now(p);
	else if (talk_is_idle(p->talk) && talk_is_ready(p->talk))
		check(p);
}

struct probe *probe_new(struct event_base *base, struct node *node, const struct probe_events *events, void *ctx)
{
	struct probe *p = xcalloc(1, sizeof(*p));

	p->base = base;
	p->node = node_ref(node);
	p->events = events;
	p->ctx = ctx;
	p->timer = evtimer_new(base, on_timer, p);
	log_info("Connecting to Redis at %s...", node->label);
	connect_now(p);
	return p;
}

void probe_free(struct probe **pp)
{
	struct probe *p = *pp;

	*pp = NULL;
	if (!p)
		return;
	talk_close(&p->talk);
	event_free(p->timer);
	node_unref(&p->node);
	free(p);
}

struct node *probe_node(const struct probe *p)
{
	return p->node;
}

void probe_tell(struct probe *p, const struct probe_events *events)
{
	p->events = events;
}

void probe_learn(struct probe *p)
{
	if (p->events->learnt && p->talk && talk_is_ready(p->talk))
		talk_ask(p->talk, answer_ms(p), on_command, 1, (const char *const[]){"COMMAND"});
}

void probe_check(struct probe *p)
{
	if (p->talk && talk_is_ready(p->talk) && talk_is_idle(p->talk))
		check(p);
}
