/* SPDX-License-Identifier: BSD-2-Clause */
/* See token_count.h. */
#include "upstream/token_count.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "upstream/token_wire.h"
#include "upstream/topology.h"
#include "upstream/upstream.h"

#define TICK_US	 100000
#define LIMIT_US 60000000 /* for all of it; for each answer the read_timeout of its upstream */

struct token_count {
	struct shared_config *holder; /* a reference */
	struct event *timer;
	token_counted_fn counted;
	void *ctx;
	struct token_wire *wires; /* one to each master */
	size_t n_wires;
	size_t n_walking;
	size_t n;
	int64_t since_us;
	bool over;
	char why[200]; /* "": it was counted */
};

/* From the timer: here a wire is in the middle of its work. */
static void end(struct token_count *t, const char *why)
{
	static const struct timeval now = {0, 0};

	if (t->over)
		return;
	t->over = true;
	snprintf(t->why, sizeof(t->why), "%s", why);
	event_add(t->timer, &now);
}

static void on_ready(void *ctx, struct token_wire *w)
{
	(void)ctx;
	token_wire_walk(w);
}

static void on_lost(void *ctx, struct token_wire *w, const char *why)
{
	struct token_count *t = ctx;
	char text[200];

	snprintf(text, sizeof(text), "%s: %s", w->node->label, why);
	end(t, text);
}

static void on_found(void *ctx, struct token_id id, const struct blacklist_fact *fact)
{
	(void)id;
	(void)fact;
	((struct token_count *)ctx)->n++;
}

static void on_walked(void *ctx, struct token_wire *w)
{
	struct token_count *t = ctx;

	(void)w;
	if (--t->n_walking == 0)
		end(t, "");
}

static const struct token_wire_events events = {on_ready, on_lost, on_found, on_walked, NULL, NULL};

static bool is_late(const struct token_count *t, int64_t now_us)
{
	bool late = now_us - t->since_us > LIMIT_US;

	for (size_t i = 0; i < t->n_wires; i++)
		late = late || token_wire_silent_us(&t->wires[i], now_us) >
				       t->wires[i].node->conf->read_timeout_ms * (int64_t)1000;
	return late;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval tick = {0, TICK_US};
	struct token_count *t = arg;

	(void)fd;
	(void)what;
	if (!t->over && t->n_wires > 0 && !is_late(t, clock_now_us())) {
		event_add(t->timer, &tick);
		return;
	}
	if (!t->over)
		snprintf(t->why, sizeof(t->why), "%s", t->n_wires > 0 ? "no answer in time" : "no master is known");
	t->counted(t->ctx, t->n, t->why[0] ? t->why : NULL);
}

static void open_wires(struct token_count *t, struct event_base *base, const struct topology *topo)
{
	t->wires = xcalloc(topo->n_shards + 1, sizeof(*t->wires));
	for (unsigned i = 0; i < topo->n_shards; i++) {
		struct node *master = topo->shards[i].master;
		bool known = !master;

		for (size_t k = 0; k < t->n_wires; k++)
			known = known || t->wires[k].node == master;
		if (!known)
			token_wire_init(&t->wires[t->n_wires++], master, t->holder->tokens, NULL, &events, t);
	}
	t->n_walking = t->n_wires;
	for (size_t i = 0; i < t->n_wires; i++)
		token_wire_open(&t->wires[i], base);
}

struct token_count *token_count_new(struct event_base *base, struct shared_config *holder, struct topology *topo,
				    token_counted_fn counted, void *ctx)
{
	struct token_count *t = xcalloc(1, sizeof(*t));
	static const struct timeval now = {0, 0};

	t->holder = shared_config_ref(holder);
	t->counted = counted;
	t->ctx = ctx;
	t->since_us = clock_now_us();
	t->timer = evtimer_new(base, on_timer, t);
	open_wires(t, base, topo);
	event_add(t->timer, &now);
	return t;
}

void token_count_free(struct token_count **tp)
{
	struct token_count *t = *tp;

	*tp = NULL;
	if (!t)
		return;
	for (size_t i = 0; i < t->n_wires; i++)
		token_wire_fini(&t->wires[i]);
	free(t->wires);
	event_free(t->timer);
	shared_config_unref(&t->holder);
	free(t);
}
