/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The finder of a Sentinel set, as the guidelines for clients say it:
 * https://redis.io/docs/reference/sentinel-clients/
 *
 *   1. Ask the Sentinels one after the other, with a short time-out; the first that answers moves to the front.
 *   2. Ask it for the master's address; one that knows no such master is passed over.
 *   3. Ask that address for its ROLE; when it is no master, ask the next one; after all, wait a little and begin again.
 *
 * Sentinels learn of a failover one after the other (each configuration has an epoch, and the newest wins), and a
 * master that was replaced calls itself master when it is started again, until it is told. So one that has an older
 * epoch than was seen before is passed over, too.
 *
 * All of it again whenever the master is lost, says that it is a replica, or a Sentinel says that something has
 * changed (+switch-master and its kin, heard on a connection of its own).
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "upstream/talk.h"
#include "upstream/watch.h"

#define SENTINEL_PORT 26379
#define CONNECT_MS    500
#define ANSWER_MS     500
#define AGAIN_MS      100 /* after a round that found nothing */
#define PAUSE_MS      100 /* between two rounds at least */

struct sentinel {
	struct finder finder;
	struct event_base *base;
	struct watch *watch;
	struct upstream *up; /* the watch's */
	struct event *timer;
	struct node **nodes; /* the Sentinels; references; the one that answered last is first */
	size_t n_nodes;
	size_t at;	      /* who is asked */
	bool running;	      /* a round is under way */
	bool again;	      /* and another is wanted after it */
	struct talk *talk;    /* with nodes[at] */
	struct talk *master;  /* with whom it named */
	struct talk *listen;  /* subscribed; nobody: NULL */
	struct topology *map; /* being put together */
	long long epoch;      /* of the newest configuration that was heard of */
	size_t n_older;	      /* Sentinels of this round that have an older one */
	int64_t begun_us;
	bool told; /* that nothing is found */
	char why[200];
};

static void ask_next(struct sentinel *s);
static void listen_to(struct sentinel *s, struct node *n);

static void set_timer(struct sentinel *s, int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_add(s->timer, &tv);
}

static struct talk_login sentinel_login(const struct sentinel *s)
{
	return (struct talk_login){s->up->conf->sentinel_username, s->up->conf->sentinel_password, NULL};
}

/* ---- a round ---- */

static void begin(struct sentinel *s)
{
	s->running = true;
	s->again = false;
	s->begun_us = clock_now_us();
	s->at = 0;
	s->n_older = 0;
	ask_next(s);
}

static void stop_round(struct sentinel *s)
{
	talk_close(&s->talk);
	talk_close(&s->master);
	if (s->map)
		topology_unref(&s->map);
}

/* Nobody could name a master: from the beginning, in a moment. */
static void round_failed(struct sentinel *s)
{
	stop_round(s);
	s->running = false;
	if (s->n_older > s->n_nodes / 2) /* most of them: they were set up anew */
		s->epoch = 0;
	if (!s->told)
		log_warn("Failed to connect to Redis: no Sentinel names a master of \"%s\": %s", s->up->conf->service,
			 s->why);
	s->told = true;
	set_timer(s, AGAIN_MS);
}

static void next_sentinel(struct sentinel *s)
{
	stop_round(s);
	s->at++;
	ask_next(s);
}

static void move_to_front(struct sentinel *s)
{
	struct node *n = s->nodes[s->at];

	memmove(s->nodes + 1, s->nodes, s->at * sizeof(*s->nodes));
	s->nodes[0] = n;
	s->at = 0;
}

static void round_done(struct sentinel *s)
{
	struct topology *map = s->map;
	const struct topology *now = watch_topology(s->watch);

	s->map = NULL;
	move_to_front(s);
	stop_round(s);
	s->running = false;
	if (now->n_shards == 0 || now->shards[0].master != map->shards[0].master)
		log_info("Sentinel: the master of \"%s\" is %s", s->up->conf->service, map->shards[0].master->label);
	s->told = false;
	atomic_fetch_add(&s->up->refreshes, 1);
	watch_found(s->watch, map);
	if (!s->listen)
		listen_to(s, s->nodes[0]);
	set_timer(s, s->again ? PAUSE_MS : s->up->conf->health_check_ms);
}

/* ---- 3. the master's ROLE ---- */

static void master_failed(void *ctx, const char *why)
{
	struct sentinel *s = ctx;

	snprintf(s->why, sizeof(s->why), "%s, which %s names, says: %s", s->map->shards[0].master->label,
		 s->nodes[s->at]->label, why);
	next_sentinel(s); /* another may have heard of a failover before this one */
}

static void on_role(void *ctx, const redisReply *reply)
{
	struct sentinel *s = ctx;

	if (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 && reply->element[0]->type == REDIS_REPLY_STRING &&
	    strcmp(reply->element[0]->str, "master") == 0)
		round_done(s);
	else
		master_failed(s, reply->type == REDIS_REPLY_ERROR ? reply->str : "I am no master (yet)");
}

static void master_ready(void *ctx)
{
	struct sentinel *s = ctx;

	talk_ask(s->master, ANSWER_MS, on_role, 1, (const char *const[]){"ROLE"});
}

static const struct talk_events master_events = {master_ready, master_failed, NULL};

static void call_master(struct sentinel *s)
{
	const struct upstream_url *t = &s->up->conf->target;
	struct talk_login login = {t->username, t->password, NULL};

	s->master = talk_open(s->base, s->map->shards[0].master, &login, CONNECT_MS, &master_events, s);
}

/* ---- 2. what a Sentinel says ---- */

static const char *flat_field(const redisReply *map, const char *name)
{
	for (size_t i = 0; map->type == REDIS_REPLY_ARRAY && i + 1 < map->elements; i += 2)
		if (map->element[i]->type == REDIS_REPLY_STRING && strcmp(map->element[i]->str, name) == 0 &&
		    map->element[i + 1]->type == REDIS_REPLY_STRING)
			return map->element[i + 1]->str;
	return NULL;
}

/* 0: that is none. */
static int port_of(const char *text)
{
	int port = atoi(text);

	return port > 0 && port <= 65535 ? port : 0;
}

static void on_replicas(void *ctx, const redisReply *reply)
{
	struct sentinel *s = ctx;
	struct shard *shard = &s->map->shards[0];

	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
		const redisReply *item = reply->element[i];
		const char *host = flat_field(item, "ip"), *port = flat_field(item, "port");
		const char *flags = flat_field(item, "flags");

		if (!host || !port || !flags || port_of(port) == 0 || strstr(flags, "down") ||
		    shard->n_replicas == SHARD_REPLICAS_MAX)
			continue;
		shard->replicas[shard->n_replicas++] = upstream_node(s->up, host, port_of(port));
	}
	call_master(s);
}

/* SENTINEL MASTER, for the epoch; one that may not be asked so is believed. */
static void on_master(void *ctx, const redisReply *reply)
{
	struct sentinel *s = ctx;
	const char *epoch = flat_field(reply, "config-epoch");

	if (epoch && atoll(epoch) < s->epoch) {
		s->n_older++;
		snprintf(s->why, sizeof(s->why), "%s has not heard of the last failover", s->nodes[s->at]->label);
		next_sentinel(s);
		return;
	}
	if (epoch)
		s->epoch = atoll(epoch);
	talk_ask(s->talk, ANSWER_MS, on_replicas, 3,
		 (const char *const[]){"SENTINEL", "replicas", s->up->conf->service});
}

static void on_address(void *ctx, const redisReply *reply)
{
	struct sentinel *s = ctx;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[1]->type != REDIS_REPLY_STRING || port_of(reply->element[1]->str) == 0) {
		snprintf(s->why, sizeof(s->why), "%s %s", s->nodes[s->at]->label,
			 reply->type == REDIS_REPLY_ERROR ? reply->str : "knows no master of this name");
		next_sentinel(s);
		return;
	}
	s->map = topology_of_node(upstream_node(s->up, reply->element[0]->str, port_of(reply->element[1]->str)));
	talk_ask(s->talk, ANSWER_MS, on_master, 3, (const char *const[]){"SENTINEL", "master", s->up->conf->service});
}

/* ---- 1. the Sentinels in turn ---- */

static void sentinel_ready(void *ctx)
{
	struct sentinel *s = ctx;

	talk_ask(s->talk, ANSWER_MS, on_address, 3,
		 (const char *const[]){"SENTINEL", "get-master-addr-by-name", s->up->conf->service});
}

static void sentinel_failed(void *ctx, const char *why)
{
	struct sentinel *s = ctx;

	snprintf(s->why, sizeof(s->why), "%s: %s", s->nodes[s->at]->label, why);
	next_sentinel(s);
}

static const struct talk_events sentinel_events = {sentinel_ready, sentinel_failed, NULL};

static void ask_next(struct sentinel *s)
{
	struct talk_login login = sentinel_login(s);

	if (s->at >= s->n_nodes) {
		round_failed(s);
		return;
	}
	s->talk = talk_open(s->base, s->nodes[s->at], &login, CONNECT_MS, &sentinel_events, s);
}

/* ---- hearing of changes ---- */

static void stale(struct finder *f)
{
	struct sentinel *s = container_of(f, struct sentinel, finder);
	int64_t since_ms = (clock_now_us() - s->begun_us) / 1000;

	s->again = true;
	if (!s->running)
		set_timer(s, since_ms >= PAUSE_MS ? 0 : PAUSE_MS - since_ms);
}

static void listen_failed(void *ctx, const char *why)
{
	struct sentinel *s = ctx;

	(void)why;
	talk_close(&s->listen);
	stale(&s->finder); /* the round opens it anew, to whoever answers */
}

static void on_message(void *ctx, const redisReply *reply)
{
	struct sentinel *s = ctx;
	size_t len = strlen(s->up->conf->service);
	const char *text, *at;

	/* "message", channel, "<master name> ..." or "slave <name> ip port @ <master name> ..." */
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || reply->element[2]->type != REDIS_REPLY_STRING)
		return;
	text = reply->element[2]->str;
	at = strstr(text, s->up->conf->service);
	if (at && (at[len] == ' ' || at[len] == '\0'))
		stale(&s->finder);
}

static void on_subscribed(void *ctx, const redisReply *reply)
{
	(void)ctx;
	(void)reply;
}

static void listen_ready(void *ctx)
{
	struct sentinel *s = ctx;

	talk_ask(s->listen, ANSWER_MS, on_subscribed, 5,
		 (const char *const[]){"SUBSCRIBE", "+switch-master", "+slave", "+sdown", "-sdown"});
}

static const struct talk_events listen_events = {listen_ready, listen_failed, on_message};

static void listen_to(struct sentinel *s, struct node *n)
{
	struct talk_login login = sentinel_login(s);

	s->listen = talk_open(s->base, n, &login, CONNECT_MS, &listen_events, s);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct sentinel *s = arg;

	(void)fd;
	(void)what;
	if (!s->running)
		begin(s);
}

/* ---- life ---- */

static void free_sentinel(struct finder *f)
{
	struct sentinel *s = container_of(f, struct sentinel, finder);

	stop_round(s);
	talk_close(&s->listen);
	event_free(s->timer);
	for (size_t i = 0; i < s->n_nodes; i++)
		node_unref(&s->nodes[i]);
	free(s->nodes);
	free(s);
}

struct finder *sentinel_finder(struct event_base *base, struct watch *w)
{
	struct sentinel *s = xcalloc(1, sizeof(*s));
	const struct upstream_config *conf;

	s->finder = (struct finder){stale, free_sentinel};
	s->base = base;
	s->watch = w;
	s->up = watch_upstream(w);
	conf = s->up->conf;
	s->n_nodes = conf->nodes.n;
	s->nodes = xcalloc(s->n_nodes + 1, sizeof(*s->nodes));
	for (size_t i = 0; i < s->n_nodes; i++)
		s->nodes[i] = upstream_node_at(s->up, conf->nodes.items[i], SENTINEL_PORT);
	s->timer = evtimer_new(base, on_timer, s);
	set_timer(s, 0);
	return &s->finder;
}
