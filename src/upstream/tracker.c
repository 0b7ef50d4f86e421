/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tracking link to a node: see tracker.h. How it comes to track is tracker_steps.c; here is what follows from it.
 *
 * Every TRUTH_BEAT_MS the node is asked by a look at what it says of itself: CLUSTER INFO and NODES in a Cluster, else
 * ROLE, or where a standalone server refuses that PING. PING counts between two looks: when a worker wants to know at
 * once, and in a Cluster of many masters, where looks are rarer (node_look_beats()). Where there are databases it is
 * also asked whether SWAPDB was called, of which CLIENT TRACKING tells nothing. With two connections (RESP2) the truth
 * is what both have confirmed: that a was told all, and that b, whose tracking it is, was there after it.
 *
 * A standalone server is known by its address only: a name, or an address that moves (a Kubernetes service, a VIP).
 * That the workers talk to another one by now shows by its role, which turns, or by addresses that its name no longer
 * has; then the link is made anew.
 *
 * A link that is silent confirms nothing; it is given up only after some seconds, since Redis sends on it in order:
 * when it was only busy, nothing is lost, and what was kept is good again.
 */
#include "upstream/tracker.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "upstream/tracker_private.h"
#include "upstream/upstream.h"

#define BEAT_US	  (TRUTH_BEAT_MS * (int64_t)1000)
#define LIMIT_US  (TRUTH_LIMIT_MS * (int64_t)1000)
#define PACE_US	  1000	   /* between two questions at least */
#define SILENT_US 2000000  /* then the link is given up */
#define AGAIN_US  60000000 /* NONE: tracking is tried again */
#define STOOD_US  10000000 /* then a link is good: what was before is forgotten, and its loss is worth a line */
#define MOVING_US 60000000 /* so long may an address lead to a master that is none any more */

const char *tracking_mode_name(enum tracking_mode mode)
{
	static const char *const names[] = {[TRACKING_OFF] = "off",
					    [TRACKING_LOST] = "lost",
					    [TRACKING_BCAST] = "bcast",
					    [TRACKING_REDIRECT] = "redirect",
					    [TRACKING_NONE] = "none"};

	return names[mode];
}

static bool is_tracked(const struct tracker *t)
{
	return t->mode == TRACKING_BCAST || t->mode == TRACKING_REDIRECT;
}

void tracker_set_timer(struct tracker *t, int64_t us)
{
	struct timeval tv = {us / 1000000, us % 1000000};

	event_add(t->timer, &tv);
}

/* ---- the truth ---- */

/* Nothing that was said up to now counts any more. It was true when that was last confirmed. */
static void end_epoch(struct tracker *t)
{
	struct truth *truth = &t->node->truth;

	truth_end(truth, true, atomic_load(&truth->confirmed_us));
}

/* What was said may still be true, but must not be believed before it is confirmed anew. */
static void doubt(struct tracker *t)
{
	atomic_store(&t->node->truth.confirmed_us, 0);
	wire_forget(&t->a);
	wire_forget(&t->b);
}

/* Never LOST for a NONE that is only silent: a worker that saw it answer must not take it for one that is tracked. */
static void show(struct tracker *t)
{
	atomic_store(&t->node->truth.mode, t->silent && is_tracked(t) ? TRACKING_LOST : t->mode);
}

static void on_drained(void *ctx, struct wire *w)
{
	struct tracker *t = ctx;
	_Atomic int64_t *confirmed_us = &t->node->truth.confirmed_us;
	int64_t us = t->a.answered_us;

	(void)w;
	if (t->mode == TRACKING_REDIRECT && t->b.answered_us < us)
		us = t->b.answered_us;
	if (!(is_tracked(t) || (t->mode == TRACKING_NONE && t->untracked)) || us <= atomic_load(confirmed_us))
		return;
	t->silent = false;
	show(t); /* before: see truth.h */
	atomic_store(confirmed_us, us);
}

static void on_changed(void *ctx, const char *key, size_t len)
{
	struct tracker *t = ctx;

	t->events->changed(t->ctx, t->node, key, len);
}

static void on_flushed(void *ctx)
{
	struct tracker *t = ctx;

	truth_end(&t->node->truth, false, clock_now_us());
}

/* ---- asking ---- */

/* The connection that takes commands. */
static struct wire *command_wire(struct tracker *t)
{
	return t->mode == TRACKING_REDIRECT ? &t->b : &t->a;
}

static void ask_ping(struct wire *w, int64_t now_us)
{
	wire_ask(w, ASK_PING, now_us, 1, (const char *const[]){"PING"});
}

/* One look at a time: a node that is far away, or slow, gets PING between. */
static void ask_look(struct tracker *t, int64_t now_us)
{
	struct wire *w = command_wire(t);

	if (t->counts_swaps && !wire_is_asked(w, ASK_SWAPS)) /* before what confirms */
		wire_ask(w, ASK_SWAPS, now_us, 3, (const char *const[]){"LATENCY", "HISTOGRAM", "swapdb"});
	if (t->node->conf->mode != UPSTREAM_CLUSTER && !t->no_role && !wire_is_asked(w, ASK_ROLE)) {
		wire_ask(w, ASK_ROLE, now_us, 1, (const char *const[]){"ROLE"});
	} else if (t->node->conf->mode == UPSTREAM_CLUSTER && !wire_is_asked(w, ASK_CLUSTER_NODES)) {
		wire_ask(w, ASK_CLUSTER_INFO, now_us, 2, (const char *const[]){"CLUSTER", "INFO"});
		wire_ask(w, ASK_CLUSTER_NODES, now_us, 2, (const char *const[]){"CLUSTER", "NODES"});
	} else {
		ask_ping(w, now_us);
	}
}

static void ask_now(struct tracker *t)
{
	/* In this order: who wants to know from now on is served by the next question, not by this one. */
	bool wanted = atomic_exchange(&t->node->truth.ping_wanted, false);
	int64_t now_us = clock_now_us();
	bool beat = now_us - t->beat_us >= BEAT_US;

	if (!beat && !wanted)
		return;
	t->asked_us = now_us;
	if (beat)
		t->beat_us = now_us;
	if (beat && now_us - t->looked_us >= BEAT_US * (t->looked ? node_look_beats(&t->look) : 1)) {
		t->looked_us = now_us;
		ask_look(t, now_us);
	} else {
		ask_ping(command_wire(t), now_us);
	}
	if (t->mode == TRACKING_REDIRECT)
		ask_ping(&t->a, now_us);
}

static void set_next(struct tracker *t)
{
	int64_t now_us = clock_now_us(), next_us = t->beat_us + BEAT_US;

	if (atomic_load(&t->node->truth.ping_wanted) && t->asked_us + PACE_US < next_us)
		next_us = t->asked_us + PACE_US;
	tracker_set_timer(t, next_us > now_us ? next_us - now_us : 0);
}

void tracker_confirm(struct tracker *t)
{
	if (t->mode == TRACKING_LOST)
		return;
	if (clock_now_us() - t->asked_us >= PACE_US)
		ask_now(t);
	set_next(t);
}

/* ---- answers ---- */

/* Where the look is forbidden it is never well. */
static void complain(struct tracker *t, const struct answer *a)
{
	if (t->complained || !a->why[0] || answer_is_passing(a))
		return;
	t->complained = true;
	log_warn("Redis at %s does not say how it is: %s. The near-cache keeps none of its replies.", t->node->label,
		 a->why);
}

/* changed: it is no longer what it was, and so is the map. */
static void looked(struct tracker *t, struct wire *w, bool well, bool changed, const struct answer *a)
{
	complain(t, a);
	if (changed || (t->well && !well))
		end_epoch(t);
	if (changed) {
		log_debug("Redis at %s says that it is no longer what it was", t->node->label);
		atomic_store(&t->node->up->stale, true);
	}
	if (well)
		wire_confirm(w);
	else if (t->well)
		doubt(t);
	t->well = well;
}

static void lose(struct tracker *t, const char *why);

/*
 * Standalone: a replica will do, but none that was a master: the address may lead to the new master by now, or soon.
 * After a minute it is what it is.
 */
static void on_role_alone(struct tracker *t, struct wire *w, bool master)
{
	int64_t now_us = clock_now_us();
	bool turned = t->has_role && master != t->was_master;

	if (master)
		t->demoted_us = 0;
	else if (t->was_master)
		t->demoted_us = now_us;
	t->has_role = true;
	t->was_master = master;
	if (!turned && (t->demoted_us == 0 || now_us - t->demoted_us >= MOVING_US)) {
		wire_confirm(w);
		return;
	}
	node_resolve_soon(t->node);
	lose(t, master ? "it was a replica, and is a master" : "it was a master, and is a replica");
}

static void on_role(struct tracker *t, struct wire *w, const struct answer *a)
{
	bool master = node_look_is_master(a->p, a->len);

	if (answer_is_passing(a))
		return;
	if (t->node->conf->mode == UPSTREAM_SENTINEL) {
		looked(t, w, master, t->well && !master && !a->why[0], a);
	} else if (*a->p == '*') {
		on_role_alone(t, w, master);
	} else {
		t->no_role = true;
		ask_ping(w, clock_now_us());
	}
}

static void on_swaps(struct tracker *t, const struct answer *a)
{
	uint64_t swaps = node_look_swaps(a->p, a->len);

	if (answer_is_passing(a))
		return;
	t->counts_swaps = !a->why[0];
	if (t->saw_swaps && t->counts_swaps && swaps != t->swaps)
		truth_end(&t->node->truth, false, clock_now_us());
	t->saw_swaps = true;
	t->swaps = swaps;
}

static void on_cluster_info(struct tracker *t, const struct answer *a)
{
	t->fresh = (struct cluster_look){0};
	t->info_passing = answer_is_passing(a);
	if (!node_look_cluster_info(&t->fresh, a->p, a->len))
		complain(t, a);
}

static bool same_look(const struct cluster_look *a, const struct cluster_look *b)
{
	return a->current_epoch == b->current_epoch && a->my_epoch == b->my_epoch && a->line == b->line;
}

static void on_cluster_nodes(struct tracker *t, struct wire *w, const struct answer *a)
{
	bool changed;

	if (t->info_passing || answer_is_passing(a))
		return;
	if (!node_look_cluster_nodes(&t->fresh, a->p, a->len)) {
		looked(t, w, false, false, a);
		return;
	}
	changed = t->looked && !same_look(&t->look, &t->fresh);
	t->looked = true;
	t->look = t->fresh;
	looked(t, w, t->fresh.ok, changed, a);
}

/* PING, of which any answer but an error will do: "+PONG", or in RESP2 after SUBSCRIBE an array. */
static void on_ping(struct tracker *t, struct wire *w, const struct answer *a)
{
	if (!a->why[0] && (t->well || w != command_wire(t)))
		wire_confirm(w);
}

static void on_answered(void *ctx, struct wire *w, enum question q, const char *reply, size_t len)
{
	struct tracker *t = ctx;
	struct answer a = {.p = reply, .len = len};

	answer_read_error(&a);
	if (tracker_step_answered(t, w, q, &a))
		return;
	switch (q) {
	case ASK_SWAPS:
		on_swaps(t, &a);
		break;
	case ASK_ROLE:
		on_role(t, w, &a);
		break;
	case ASK_CLUSTER_INFO:
		on_cluster_info(t, &a);
		break;
	case ASK_CLUSTER_NODES:
		on_cluster_nodes(t, w, &a);
		break;
	default:
		on_ping(t, w, &a);
		break;
	}
}

/* ---- it works, or not ---- */

/*
 * That Redis is gone is the probe's to tell; this is for a link that is lost while Redis is there. One that comes and
 * goes is told of now and then only: when it is lost for longer, that is.
 */
static void tell_loss(struct tracker *t)
{
	int64_t now_us = clock_now_us();

	if (!t->lost_why[0] || (t->told_us && now_us - t->told_us < STOOD_US))
		return;
	if (atomic_load(&t->node->state) == NODE_DOWN) {
		log_debug("Lost the tracking link to Redis at %s: %s", t->node->label, t->lost_why);
	} else {
		log_warn("Lost the tracking link to Redis at %s: %s. What the near-cache had of it is void.",
			 t->node->label, t->lost_why);
		t->told = TRACKING_LOST;
		t->told_us = now_us;
	}
	t->lost_why[0] = '\0';
}

/* From here on something may be confirmed, of what is said from here on: what changed before nobody has heard of. */
static void start(struct tracker *t, enum tracking_mode mode)
{
	if (t->mode == TRACKING_LOST)
		t->works_us = clock_now_us();
	t->mode = mode;
	t->lost_why[0] = '\0';
	t->well = t->node->conf->mode == UPSTREAM_STANDALONE;
	t->looked = t->saw_swaps = t->no_role = t->has_role = false;
	t->counts_swaps = t->node->conf->mode != UPSTREAM_CLUSTER;
	t->beat_us = t->looked_us = 0;
	end_epoch(t);
	doubt(t);
	show(t);
	ask_now(t);
	set_next(t);
}

void tracker_works(struct tracker *t, enum tracking_mode mode)
{
	tell_loss(t);
	log_line(t->told == mode ? LOG_DEBUG_ : LOG_INFO_, "Tracking Redis at %s: %s", t->node->label,
		 tracking_mode_name(mode));
	t->told = mode;
	start(t, mode);
}

void tracker_cannot(struct tracker *t, const char *why)
{
	tell_loss(t);
	log_line(t->told == TRACKING_NONE ? LOG_DEBUG_ : LOG_WARN_,
		 "Redis at %s does not tell what changes there: %s. The near-cache keeps its replies %s.",
		 t->node->label, why, t->untracked ? "for max_staleness" : "not at all");
	t->told = TRACKING_NONE;
	t->tried_us = clock_now_us();
	wire_close(&t->b);
	if (t->mode != TRACKING_NONE)
		start(t, TRACKING_NONE);
}

static void hang_up(struct tracker *t)
{
	wire_close(&t->a);
	wire_close(&t->b);
	if (t->mode != TRACKING_LOST) {
		end_epoch(t);
		doubt(t);
	}
	t->mode = TRACKING_LOST;
	t->silent = false;
	show(t);
}

/*
 * Again after the back-off: half to all of it, so that many proxies do not come back in step. It grows until a link has
 * stood for a while: one that is cut as soon as it works is no better than none.
 */
static void lose(struct tracker *t, const char *why)
{
	const struct upstream_config *conf = t->node->conf;
	int64_t us;

	if (t->mode == TRACKING_LOST) {
		log_debug("No tracking link to Redis at %s: %s", t->node->label, why);
		tell_loss(t);
	} else if (is_tracked(t)) { /* told when the next attempt shows whether Redis itself is gone */
		snprintf(t->lost_why, sizeof(t->lost_why), "%s", why);
	}
	if (t->mode != TRACKING_LOST && clock_now_us() - t->works_us >= STOOD_US)
		t->backoff_ms = 0;
	hang_up(t);
	t->backoff_ms = t->backoff_ms ? t->backoff_ms * 2 : conf->reconnect_delay_ms;
	if (t->backoff_ms > conf->reconnect_delay_max_ms)
		t->backoff_ms = conf->reconnect_delay_max_ms;
	us = t->backoff_ms * 1000;
	tracker_set_timer(t, us / 2 + (int64_t)randombytes_uniform((uint32_t)(us / 2 + 1)) + 1);
}

void tracker_failed(struct tracker *t, const char *why)
{
	if (t->mode == TRACKING_NONE) /* it was only one more attempt */
		wire_close(&t->b);
	else
		lose(t, why);
}

/* ---- connections ---- */

static void on_ready(void *ctx, struct wire *w)
{
	tracker_begin(ctx, w);
}

static void on_lost(void *ctx, struct wire *w, const char *why)
{
	struct tracker *t = ctx;

	if (w == &t->b)
		tracker_failed(t, why);
	else
		lose(t, why);
}

static const struct wire_events wire_events = {on_ready, on_lost, on_answered, on_changed, on_flushed, on_drained};

static void connect_now(struct tracker *t)
{
	event_del(t->timer);
	wire_open(&t->a, t->base, t->node, &wire_events, t);
}

void tracker_open_second(struct tracker *t)
{
	wire_close(&t->b);
	wire_open(&t->b, t->base, t->node, &wire_events, t);
	if (t->mode == TRACKING_LOST)
		tracker_set_timer(t, t->node->conf->connect_timeout_ms * 1000 + TRACKER_STEP_US);
}

/* Whether the name of the node has other addresses by now. */
static bool has_moved(struct tracker *t)
{
	struct address list[NODE_ADDRESSES_MAX];
	unsigned n = node_addresses(t->node, list);

	return !wire_is_at(&t->a, list, n) || !wire_is_at(&t->b, list, n);
}

/* A beat, or somebody wants to know. */
static void go_on(struct tracker *t)
{
	int64_t now_us = clock_now_us();
	int64_t a_us = wire_silent_us(&t->a, now_us), b_us = wire_silent_us(&t->b, now_us);
	int64_t silent_us = a_us > b_us ? a_us : b_us;

	if (silent_us > SILENT_US) {
		lose(t, "it is silent");
		return;
	}
	if (now_us - t->beat_us >= BEAT_US && has_moved(t)) {
		lose(t, "its name has another address");
		return;
	}
	t->silent = silent_us > LIMIT_US;
	show(t);
	if (t->mode == TRACKING_NONE && now_us - t->tried_us > AGAIN_US) {
		t->tried_us = now_us;
		tracker_try_again(t);
	}
	ask_now(t);
	set_next(t);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct tracker *t = arg;

	(void)fd;
	(void)what;
	if (!wire_is_open(&t->a))
		connect_now(t);
	else if (t->mode == TRACKING_LOST)
		lose(t, "no answer in time");
	else
		go_on(t);
}

/* ---- life ---- */

struct tracker *tracker_new(struct event_base *base, struct node *node, const struct tracker_wish *wish,
			    const struct tracker_events *events, void *ctx)
{
	struct tracker *t = xcalloc(1, sizeof(*t));

	t->base = base;
	t->node = node_ref(node);
	t->events = events;
	t->ctx = ctx;
	t->mode = TRACKING_LOST;
	t->untracked = wish->untracked;
	string_list_copy(&t->prefixes, &wish->prefixes);
	t->timer = evtimer_new(base, on_timer, t);
	show(t);
	connect_now(t);
	return t;
}

void tracker_free(struct tracker **tp)
{
	struct tracker *t = *tp;

	*tp = NULL;
	if (!t)
		return;
	hang_up(t);
	atomic_store(&t->node->truth.mode, TRACKING_OFF);
	event_free(t->timer);
	string_list_clear(&t->prefixes);
	node_unref(&t->node);
	free(t);
}

struct node *tracker_node(const struct tracker *t)
{
	return t->node;
}

void tracker_want(struct tracker *t, const struct tracker_wish *wish)
{
	bool same = string_list_same(&t->prefixes, &wish->prefixes);

	t->untracked = wish->untracked;
	if (t->mode == TRACKING_NONE && !t->untracked)
		doubt(t);
	if (same)
		return;
	string_list_clear(&t->prefixes);
	string_list_copy(&t->prefixes, &wish->prefixes);
	hang_up(t);
	t->backoff_ms = 0;
	connect_now(t);
}
