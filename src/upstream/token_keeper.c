/* SPDX-License-Identifier: BSD-2-Clause */
/* Keeping the mirror of the token blacklist true: see token_keeper.h. */
#include "upstream/token_keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/blacklist.h"
#include "policy/token.h"
#include "upstream/slot.h"
#include "upstream/token_wire.h"
#include "upstream/topology.h"
#include "upstream/upstream.h"

#define TICK_US	       10000
#define PURGE_US       100000 /* one shard */
#define SILENT_US      5000000
#define LIMIT_US       (TRUTH_LIMIT_MS * (int64_t)1000)
#define BACKOFF_US     100000 /* doubles, up to */
#define BACKOFF_MAX_US 2000000

enum state { KEEPER_WAITS, KEEPER_LOADS, KEEPER_SETTLES, KEEPER_HOLDS };

/* A master. */
struct master {
	struct token_wire wire;
	bool ready;
	bool walked;
	unsigned epoch; /* of its truth, when the load began */
};

struct token_keeper {
	struct event_base *base;
	struct event *timer;
	struct shared_config *holder; /* references */
	struct blacklist *list;
	struct upstream *up;
	struct topology *topo;
	struct master *places; /* of topo's masters */
	size_t n_places;
	enum state state;
	int64_t state_us; /* since when */
	int64_t next_us;  /* not before: another attempt */
	int64_t backoff_us;
	int64_t purged_us;
	token_passed_fn passed; /* NULL: nobody waits for it */
	void *passed_ctx;
	size_t n_marks, n_rounds; /* still to come */
	size_t n_strange;	  /* keys that were told of */
	bool was_held;		  /* ever */
	bool told;		  /* that it is not held */
	bool told_never;	  /* that Redis does not say what changes */
};

static void set_state(struct token_keeper *k, enum state state)
{
	k->state = state;
	k->state_us = clock_now_us();
}

/* ---- beginning anew ---- */

static void tell_loss(struct token_keeper *k, const char *why)
{
	if (!k->told && k->was_held) {
		log_warn("Token blacklist: what is in memory no longer counts (%s): tokens are looked up in Redis",
			 why);
		k->told = true;
	} else {
		log_debug("Token blacklist: %s", why);
	}
}

static void open_wires(struct token_keeper *k)
{
	for (size_t i = 0; i < k->n_places; i++) {
		k->places[i].ready = k->places[i].walked = false;
		token_wire_close(&k->places[i].wire);
		token_wire_open(&k->places[i].wire, k->base);
	}
}

static void end_pass(struct token_keeper *k, bool ok)
{
	token_passed_fn passed = k->passed;

	k->passed = NULL;
	if (passed)
		passed(k->passed_ctx, ok);
}

static void begin_anew(struct token_keeper *k, const char *why)
{
	blacklist_hold(k->list, 0, 0, 0);
	if (k->state == KEEPER_HOLDS)
		blacklist_note_loss(k->list);
	tell_loss(k, why);
	for (size_t i = 0; i < k->n_places; i++) {
		k->places[i].ready = k->places[i].walked = false;
		token_wire_close(&k->places[i].wire);
	}
	set_state(k, KEEPER_WAITS);
	k->backoff_us = k->backoff_us ? k->backoff_us * 2 : BACKOFF_US;
	if (k->backoff_us > BACKOFF_MAX_US)
		k->backoff_us = BACKOFF_MAX_US;
	k->next_us = clock_now_us() + k->backoff_us;
	end_pass(k, false);
}

/* ---- whether the tracking links hold ---- */

static bool tracks(const struct truth *t)
{
	int mode = atomic_load(&t->mode);

	return mode == TRACKING_BCAST || mode == TRACKING_REDIRECT;
}

static bool all_hold(const struct token_keeper *k, int64_t now_us)
{
	bool ok = k->n_places > 0;

	for (unsigned i = 0; i < k->topo->n_shards; i++) /* where nobody is, nobody knows */
		ok = ok && k->topo->shards[i].master;
	for (size_t i = 0; i < k->n_places; i++) {
		const struct truth *t = &k->places[i].wire.node->truth;

		ok = ok && tracks(t) && truth_holds(t, now_us);
	}
	return ok;
}

/* Nothing may have been missed since the load began. */
static bool same_epochs(const struct token_keeper *k)
{
	for (size_t i = 0; i < k->n_places; i++)
		if (atomic_load(&k->places[i].wire.node->truth.epoch) != k->places[i].epoch)
			return false;
	return true;
}

/* When what has changed was last known for certain, on all of them. */
static int64_t confirmed_us(const struct token_keeper *k)
{
	int64_t us = INT64_MAX;

	for (size_t i = 0; i < k->n_places; i++) {
		int64_t its_us = atomic_load(&k->places[i].wire.node->truth.confirmed_us);

		us = its_us < us ? its_us : us;
	}
	return us;
}

/* ---- the steps ---- */

static void tell_never(struct token_keeper *k)
{
	for (size_t i = 0; i < k->n_places && !k->told_never; i++) {
		if (atomic_load(&k->places[i].wire.node->truth.mode) != TRACKING_NONE)
			continue;
		k->told_never = true;
		log_warn("Token blacklist: Redis at %s does not tell what changes there, so that the list can't be "
			 "held in "
			 "memory: tokens are looked up in Redis",
			 k->places[i].wire.node->label);
	}
}

static bool all_ready(const struct token_keeper *k)
{
	for (size_t i = 0; i < k->n_places; i++)
		if (!k->places[i].ready)
			return false;
	return k->n_places > 0;
}

static void wait(struct token_keeper *k, int64_t now_us)
{
	bool opened = k->n_places > 0 && token_wire_is_open(&k->places[0].wire);

	tell_never(k);
	if (now_us < k->next_us || !all_hold(k, now_us))
		return;
	if (!opened)
		open_wires(k);
	if (!all_ready(k))
		return;
	for (size_t i = 0; i < k->n_places; i++)
		k->places[i].epoch = atomic_load(&k->places[i].wire.node->truth.epoch);
	if (!all_hold(k, now_us))
		return;
	set_state(k, KEEPER_LOADS);
	blacklist_load_begins(k->list);
	for (size_t i = 0; i < k->n_places; i++)
		token_wire_walk(&k->places[i].wire);
}

static void load(struct token_keeper *k, int64_t now_us)
{
	for (size_t i = 0; i < k->n_places; i++)
		if (!k->places[i].walked)
			return;
	blacklist_load_ends(k->list, now_us);
	k->state = KEEPER_SETTLES;
	k->next_us = clock_now_us(); /* all that had changed until now must have been heard of */
}

/* What another configuration has left there would be refused by that one, and is good here. */
static void tell_strange(struct token_keeper *k)
{
	size_t n = 0;

	for (size_t i = 0; i < k->n_places; i++)
		n += k->places[i].wire.n_strange;
	if (n > 0 && n != k->n_strange)
		log_warn("Token blacklist: %zu keys of the list were made without hash_tokens, or with another secret: "
			 "what they revoke is not known here, and counts as good",
			 n);
	k->n_strange = n;
}

static void tell_load(struct token_keeper *k)
{
	int64_t us = clock_now_us() - k->state_us;

	blacklist_note_load(k->list, us);
	log_info("Token blacklist: %zu tokens are in memory, loaded in %lld ms, %.1f MB",
		 blacklist_count(k->list, clock_now_us()), (long long)us / 1000,
		 (double)blacklist_bytes(k->list) / 1e6);
}

static void settle(struct token_keeper *k)
{
	if (confirmed_us(k) <= k->next_us)
		return;
	tell_load(k);
	tell_strange(k);
	k->was_held = true;
	k->told = false;
	k->backoff_us = 0;
	set_state(k, KEEPER_HOLDS);
}

/* As token_mirror_holds() in client/token_look.c adds them up. */
static uint64_t sum_of_epochs(const struct token_keeper *k)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < k->topo->n_shards; i++)
		for (size_t j = 0; j < k->n_places; j++)
			if (k->places[j].wire.node == k->topo->shards[i].master)
				sum += k->places[j].epoch;
	return sum;
}

static void hold(struct token_keeper *k, int64_t now_us)
{
	int64_t us = confirmed_us(k);

	blacklist_hold(k->list, all_hold(k, now_us) ? us + LIMIT_US : 0, us, sum_of_epochs(k));
}

static void look_at_wires(struct token_keeper *k, int64_t now_us)
{
	for (size_t i = 0; i < k->n_places; i++) {
		token_wire_flush(&k->places[i].wire);
		if (token_wire_silent_us(&k->places[i].wire, now_us) > SILENT_US) {
			begin_anew(k, "no answer in time");
			return;
		}
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval tick = {0, TICK_US};
	struct token_keeper *k = arg;
	int64_t now_us = clock_now_us();

	(void)fd;
	(void)what;
	if (k->state != KEEPER_WAITS && !same_epochs(k))
		begin_anew(k, "the tracking link was lost, or all keys are gone");
	look_at_wires(k, now_us);
	if (k->state == KEEPER_WAITS)
		wait(k, now_us);
	if (k->state == KEEPER_LOADS)
		load(k, now_us);
	if (k->state == KEEPER_SETTLES)
		settle(k);
	if (k->state == KEEPER_HOLDS)
		hold(k, now_us);
	if (now_us - k->purged_us >= PURGE_US && (k->state == KEEPER_HOLDS || k->state == KEEPER_WAITS)) {
		k->purged_us = now_us;
		blacklist_purge(k->list, now_us, k->state == KEEPER_HOLDS);
	}
	event_add(k->timer, &tick);
}

/* ---- what the wires say ---- */

static void on_ready(void *ctx, struct token_wire *w)
{
	(void)ctx;
	((struct master *)(void *)w)->ready = true; /* its first member */
}

static void on_lost(void *ctx, struct token_wire *w, const char *why)
{
	struct token_keeper *k = ctx;
	char text[160];

	snprintf(text, sizeof(text), "%s: %s", w->node->label, why);
	if (!k->told && !k->was_held) {
		log_warn("Token blacklist: it can't be loaded (%s): tokens are looked up in Redis", text);
		k->told = true;
	}
	begin_anew(k, text);
}

static void on_found(void *ctx, struct token_id id, const struct blacklist_fact *fact)
{
	struct token_keeper *k = ctx;

	blacklist_load(k->list, id, fact);
}

static void on_walked(void *ctx, struct token_wire *w)
{
	(void)ctx;
	((struct master *)(void *)w)->walked = true;
}

static bool on_answered(void *ctx, struct token_id id, const struct blacklist_fact *fact)
{
	struct token_keeper *k = ctx;

	return blacklist_learnt(k->list, id, fact);
}

/* What was asked once more when it was answered is behind the first round. */
static void mark(struct token_keeper *k)
{
	k->n_marks = k->n_places;
	for (size_t i = 0; i < k->n_places; i++)
		token_wire_mark(&k->places[i].wire);
}

static void on_passed(void *ctx)
{
	struct token_keeper *k = ctx;

	if (!k->passed || --k->n_marks > 0)
		return;
	if (--k->n_rounds > 0)
		mark(k);
	else
		end_pass(k, true);
}

void token_keeper_pass(struct token_keeper *k, token_passed_fn passed, void *ctx)
{
	k->passed = passed;
	k->passed_ctx = ctx;
	k->n_rounds = 2;
	if (k->state == KEEPER_HOLDS)
		mark(k);
	else
		end_pass(k, false);
}

static const struct token_wire_events wire_events = {on_ready, on_lost, on_found, on_walked, on_answered, on_passed};

/* ---- changes ---- */

static struct token_wire *wire_of(struct token_keeper *k, const char *key, size_t len)
{
	const struct topology *t = k->topo;
	unsigned shard = t->slots ? t->slots[hash_slot(key, len)] : 0;
	const struct node *master = shard < t->n_shards ? t->shards[shard].master : NULL;

	for (size_t i = 0; i < k->n_places; i++)
		if (k->places[i].wire.node == master)
			return &k->places[i].wire;
	return NULL;
}

static void ask(struct token_keeper *k, struct token_id id, const char *key, size_t len)
{
	struct token_wire *w = wire_of(k, key, len);

	if (!w || !token_wire_ask(w, id, key, len))
		begin_anew(k, "too much changes at a time");
}

void token_keeper_changed(struct token_keeper *k, const char *key, size_t len)
{
	static struct log_limit limit;
	const struct tokens *tokens = k->holder->tokens;
	struct token_id id;

	if (k->state == KEEPER_WAITS || !tokens_has_key(tokens, key, len))
		return;
	if (!tokens_id_of_key(tokens, key, len, &id)) {
		if (log_limit_pass(&limit))
			log_warn("Token blacklist: a key of the list has changed that was made without hash_tokens, or "
				 "with another secret: what it revokes is not known here, and counts as good");
	} else if (blacklist_changed(k->list, id)) {
		ask(k, id, key, len);
	}
}

void token_keeper_written(struct token_keeper *k, const char *key, size_t len)
{
	struct token_id id;

	if (k->state != KEEPER_WAITS && tokens_id_of_key(k->holder->tokens, key, len, &id))
		ask(k, id, key, len);
}

/* ---- life ---- */

static void free_places(struct token_keeper *k)
{
	for (size_t i = 0; i < k->n_places; i++)
		token_wire_fini(&k->places[i].wire);
	free(k->places);
	k->places = NULL;
	k->n_places = 0;
}

static void make_places(struct token_keeper *k)
{
	k->places = xcalloc(k->topo->n_shards + 1, sizeof(*k->places));
	for (unsigned i = 0; i < k->topo->n_shards; i++) {
		struct node *master = k->topo->shards[i].master;
		bool known = !master;

		for (size_t j = 0; j < k->n_places; j++)
			known = known || k->places[j].wire.node == master;
		if (!known)
			token_wire_init(&k->places[k->n_places++].wire, master, k->holder->tokens, k->list,
					&wire_events, k);
	}
}

void token_keeper_topology(struct token_keeper *k, struct topology *topo)
{
	begin_anew(k, "the servers are others");
	free_places(k);
	topology_unref(&k->topo);
	k->topo = topology_ref(topo);
	make_places(k);
}

struct token_keeper *token_keeper_new(struct event_base *base, struct shared_config *holder, struct upstream *up,
				      struct topology *topo)
{
	struct token_keeper *k = xcalloc(1, sizeof(*k));
	static const struct timeval soon = {0, TICK_US};

	k->base = base;
	k->holder = shared_config_ref(holder);
	k->list = blacklist_ref(holder->blacklist);
	k->up = upstream_ref(up);
	k->topo = topology_ref(topo);
	make_places(k);
	set_state(k, KEEPER_WAITS);
	k->timer = evtimer_new(base, on_timer, k);
	event_add(k->timer, &soon);
	return k;
}

void token_keeper_use(struct token_keeper *k, struct shared_config *holder)
{
	struct shared_config *old = k->holder;

	blacklist_unref(&holder->blacklist);
	holder->blacklist = blacklist_ref(k->list);
	k->holder = shared_config_ref(holder);
	for (size_t i = 0; i < k->n_places; i++)
		k->places[i].wire.tokens = holder->tokens;
	shared_config_unref(&old);
}

void token_keeper_free(struct token_keeper **kp)
{
	struct token_keeper *k = *kp;

	*kp = NULL;
	if (!k)
		return;
	blacklist_hold(k->list, 0, 0, 0);
	end_pass(k, false);
	free_places(k);
	event_free(k->timer);
	topology_unref(&k->topo);
	upstream_unref(&k->up);
	blacklist_unref(&k->list);
	shared_config_unref(&k->holder);
	free(k);
}

struct upstream *token_keeper_upstream(const struct token_keeper *k)
{
	return k->up;
}
