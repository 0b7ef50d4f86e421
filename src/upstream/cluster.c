/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The finder of a Cluster: asks one node after the other for the slot map, at most once a second, and keeps what the
 * one with the newest configuration says.
 *
 * Which of two maps is right is told by their epochs ("the last failover wins", cluster specification, "Configuration
 * epochs"): a node that was cut off from the majority has an older currentEpoch. An older map is taken only when most
 * nodes say so (a Cluster that was made anew).
 *
 * A dead master sends no MOVED. While one is not reachable, CLUSTER INFO is asked ten times a second, which costs a
 * node nothing; the map is fetched when that says that all slots are served again.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "upstream/cluster_map.h"
#include "upstream/talk.h"
#include "upstream/watch.h"

#define FETCH_PAUSE_MS	1000 /* between two maps */
#define UNWELL_PAUSE_MS 2500 /* while a master is not there and nobody asked */
#define WATCH_PAUSE_MS	100  /* between two CLUSTER INFO while something is wrong */
#define CONNECT_MS	500
#define ANSWER_MS	1000
#define SEED_PORT	6379
#define HOLED_MAX	3 /* where there is no other node to ask */

struct cluster {
	struct finder finder;
	struct event_base *base;
	struct watch *watch;
	struct upstream *up; /* the watch's */
	struct event *timer;
	struct node **seeds; /* references */
	size_t n_seeds;
	struct talk *talk;
	struct node *node;  /* who is talked to; a reference */
	size_t next;	    /* whom to ask after him */
	size_t n_failed;    /* nodes in a row that did not answer */
	bool wanted;	    /* a map is */
	bool asking;	    /* a question is on the way */
	bool slots_only;    /* the node knows no CLUSTER SHARDS */
	int64_t fetched_us; /* when a map was asked for last */
	uint64_t epoch;	    /* of the answer under way */
	long slots_ok;
	uint64_t seen_epoch; /* of the map in use, and all slots served then */
	long seen_ok;
	unsigned n_older; /* nodes in a row that had an older map */
	unsigned n_holed; /* maps in a row with a new hole, and whose the last was */
	char holed[300];
	bool told; /* that no node answers */
};

static void go_on(struct cluster *c);

static void set_timer(struct cluster *c, int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_add(c->timer, &tv);
}

/* ---- whom to ask ---- */

struct candidates {
	struct node *up[64], *others[64];
	size_t n_up, n_others;
};

static void add_candidate(void *ctx, struct node *n, bool master)
{
	struct candidates *all = ctx;

	(void)master;
	if (atomic_load(&n->state) == NODE_UP && all->n_up < 64)
		all->up[all->n_up++] = n;
	else if (atomic_load(&n->state) != NODE_UP && all->n_others < 64)
		all->others[all->n_others++] = n;
}

/* In turn: those known to be there, then the seeds, then the rest. */
static struct node *choose(struct cluster *c)
{
	struct candidates all = {.n_up = 0};
	size_t i;

	topology_each(watch_topology(c->watch), add_candidate, &all);
	/* While nothing fails the seeds need not be bothered. */
	if (all.n_up > 0 && c->n_failed < all.n_up)
		return all.up[c->next++ % all.n_up];
	i = c->next++ % (all.n_up + c->n_seeds + all.n_others);
	if (i < c->n_seeds)
		return c->seeds[i];
	i -= c->n_seeds;
	return i < all.n_up ? all.up[i] : all.n_others > 0 ? all.others[(i - all.n_up) % all.n_others] : c->seeds[0];
}

static void hang_up(struct cluster *c)
{
	talk_close(&c->talk);
	node_unref(&c->node);
	c->asking = false;
}

/* ---- answers ---- */

static long long info_field(const char *info, const char *name)
{
	const char *at = strstr(info, name);

	return at ? atoll(at + strlen(name)) : -1;
}

static bool all_served(const struct topology *t)
{
	for (unsigned i = 0; i < t->n_shards; i++)
		if (!t->shards[i].master || atomic_load(&t->shards[i].master->state) == NODE_DOWN)
			return false;
	return t->n_shards > 0;
}

static const struct node *master_of(const struct topology *t, unsigned slot)
{
	return t->slots && t->slots[slot] < t->n_shards ? t->shards[t->slots[slot]].master : NULL;
}

/* Whether a slot would have no master whose master is there. */
static bool has_new_hole(const struct topology *now, const struct topology *fresh)
{
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		const struct node *n = master_of(now, slot);

		if (n && atomic_load(&n->state) != NODE_DOWN && !master_of(fresh, slot))
			return true;
	}
	return false;
}

/* A node that heard of half a failover knows less for a moment: not before another one says the same is it believed. */
static bool is_doubtful(struct cluster *c)
{
	bool other = c->n_holed > 0 && strcmp(c->holed, c->node->label) != 0;

	snprintf(c->holed, sizeof(c->holed), "%s", c->node->label);
	return !other && ++c->n_holed < HOLED_MAX;
}

static void take_map(struct cluster *c, struct topology *fresh)
{
	const struct topology *now = watch_topology(c->watch);

	fresh->epoch = c->epoch;
	if (now->n_shards > 0 && has_new_hole(now, fresh) && is_doubtful(c)) {
		topology_unref(&fresh);
		hang_up(c);
		c->wanted = true;
		return;
	}
	c->n_holed = 0;
	if (now->n_shards > 0 && fresh->epoch < now->epoch && ++c->n_older <= now->n_shards / 2) {
		topology_unref(&fresh);
		hang_up(c); /* he was cut off: another one */
		c->wanted = true;
		return;
	}
	c->n_older = 0;
	c->seen_epoch = c->epoch;
	c->seen_ok = c->slots_ok;
	if (c->told)
		log_info("Cluster %s: its map is known again", c->up->conf->name);
	c->told = false;
	atomic_fetch_add(&c->up->refreshes, 1);
	watch_found(c->watch, fresh);
}

static void on_map(void *ctx, const redisReply *reply)
{
	struct cluster *c = ctx;
	struct topology *fresh;

	if (reply->type == REDIS_REPLY_ERROR && !c->slots_only) {
		c->slots_only = true;
		talk_ask(c->talk, ANSWER_MS, on_map, 2, (const char *const[]){"CLUSTER", "SLOTS"});
		return;
	}
	c->asking = false;
	c->n_failed = 0;
	fresh = c->slots_only ? cluster_map_of_slots(c->up, c->node, reply)
			      : cluster_map_of_shards(c->up, c->node, reply);
	if (fresh) {
		take_map(c, fresh);
	} else {
		log_warn("Cluster %s: %s knows no slots: %s", c->up->conf->name, c->node->label,
			 reply->type == REDIS_REPLY_ERROR ? reply->str : "its map is empty");
		hang_up(c);
		c->wanted = true;
	}
	go_on(c);
}

static void on_info(void *ctx, const redisReply *reply)
{
	struct cluster *c = ctx;

	if (reply->type == REDIS_REPLY_STRING) {
		long long epoch = info_field(reply->str, "cluster_current_epoch:");

		c->epoch = epoch > 0 ? (uint64_t)epoch : 0;
		c->slots_ok = (long)info_field(reply->str, "cluster_slots_ok:");
	}
}

/* Only looking whether something has changed. */
static void on_look(void *ctx, const redisReply *reply)
{
	struct cluster *c = ctx;

	on_info(c, reply);
	c->asking = false;
	c->n_failed = 0;
	if (c->epoch != c->seen_epoch || c->slots_ok != c->seen_ok)
		c->wanted = c->wanted || c->slots_ok == SLOTS || c->slots_ok > c->seen_ok;
	c->seen_ok = c->slots_ok < c->seen_ok ? c->slots_ok : c->seen_ok;
	go_on(c);
}

/* ---- asking ---- */

static void on_failed(void *ctx, const char *why)
{
	struct cluster *c = ctx;
	size_t n = c->n_seeds + watch_topology(c->watch)->n_shards;

	if (++c->n_failed >= n && !c->told) {
		log_warn("Failed to connect to Redis: no node of the Cluster answers, the last was %s: %s",
			 c->node->label, why);
		c->told = true;
	}
	hang_up(c);
	c->wanted = true;
	c->fetched_us = 0; /* what was never answered does not count */
	set_timer(c, c->n_failed % n == 0 ? WATCH_PAUSE_MS : 1);
}

static void on_ready(void *ctx)
{
	(void)ctx;
}

static const struct talk_events talk_events = {on_ready, on_failed, NULL};

static void call(struct cluster *c)
{
	const struct upstream_url *t = &c->up->conf->target;
	struct talk_login login = {t->username, t->password, NULL};

	if (c->talk)
		return;
	c->node = node_ref(choose(c));
	c->slots_only = false;
	c->talk = talk_open(c->base, c->node, &login, CONNECT_MS, &talk_events, c);
}

static void fetch(struct cluster *c)
{
	c->wanted = false;
	c->asking = true;
	c->fetched_us = clock_now_us();
	if (c->talk && c->next % 4 == 0) /* not always the same one */
		hang_up(c);
	c->asking = true;
	c->epoch = 0; /* unless it says more */
	c->next += c->talk != NULL;
	call(c);
	talk_ask(c->talk, ANSWER_MS, on_info, 2, (const char *const[]){"CLUSTER", "INFO"});
	talk_ask(c->talk, ANSWER_MS, on_map, 2, (const char *const[]){"CLUSTER", c->slots_only ? "SLOTS" : "SHARDS"});
}

static void look(struct cluster *c)
{
	c->asking = true;
	call(c);
	talk_ask(c->talk, ANSWER_MS, on_look, 2, (const char *const[]){"CLUSTER", "INFO"});
}

/* Between two maps when nothing seems to have changed. */
static int64_t quiet_ms(const struct cluster *c)
{
	int64_t ms = c->up->conf->health_check_ms;

	return ms > FETCH_PAUSE_MS ? ms : FETCH_PAUSE_MS;
}

/* What is to be done next, and when. */
static void go_on(struct cluster *c)
{
	int64_t since_ms = (clock_now_us() - c->fetched_us) / 1000;
	bool well = all_served(watch_topology(c->watch));

	if (c->asking)
		return;
	if (c->wanted)
		set_timer(c, since_ms >= FETCH_PAUSE_MS ? 0 : FETCH_PAUSE_MS - since_ms);
	else
		set_timer(c, well ? quiet_ms(c) : WATCH_PAUSE_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct cluster *c = arg;
	int64_t since_ms = (clock_now_us() - c->fetched_us) / 1000;
	bool well = all_served(watch_topology(c->watch));

	(void)fd;
	(void)what;
	if (c->asking)
		return;
	if ((c->wanted && since_ms >= FETCH_PAUSE_MS) || since_ms >= (well ? quiet_ms(c) : UNWELL_PAUSE_MS))
		fetch(c);
	else if (!well)
		look(c);
	else
		go_on(c);
}

static void stale(struct finder *f)
{
	struct cluster *c = container_of(f, struct cluster, finder);

	c->wanted = true;
	go_on(c);
}

/* ---- life ---- */

static void free_cluster(struct finder *f)
{
	struct cluster *c = container_of(f, struct cluster, finder);

	hang_up(c);
	event_free(c->timer);
	for (size_t i = 0; i < c->n_seeds; i++)
		node_unref(&c->seeds[i]);
	free(c->seeds);
	free(c);
}

struct finder *cluster_finder(struct event_base *base, struct watch *w)
{
	struct cluster *c = xcalloc(1, sizeof(*c));
	const struct upstream_config *conf;

	c->finder = (struct finder){stale, free_cluster};
	c->base = base;
	c->watch = w;
	c->up = watch_upstream(w);
	conf = c->up->conf;
	c->n_seeds = conf->nodes.n ? conf->nodes.n : 1;
	c->seeds = xcalloc(c->n_seeds, sizeof(*c->seeds));
	for (size_t i = 0; i < conf->nodes.n; i++)
		c->seeds[i] = upstream_node_at(c->up, conf->nodes.items[i], SEED_PORT);
	if (conf->nodes.n == 0)
		c->seeds[0] = upstream_node(c->up, conf->target.host, conf->target.port);
	c->timer = evtimer_new(base, on_timer, c);
	c->wanted = true;
	set_timer(c, 0);
	return &c->finder;
}
