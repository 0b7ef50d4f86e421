/* SPDX-License-Identifier: BSD-2-Clause */
/* See limit.h. */
#include "client/limit.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/dispatch.h"
#include "client/target.h"
#include "client/unit.h"
#include "net/addr.h"
#include "policy/buckets.h"
#include "server.h"

#define KEPT_CHARGES 4096

/* ---- who ---- */

/* Of IPv6 the network: whoever has one address has all of it. */
static uint64_t address_hash(struct client *c)
{
	unsigned char subject[ADDRESS_SUBJECT_MAX];
	struct address a;

	if (c->address_hash == 0) {
		size_t len = address_of_socket(c->io.fd, false, &a) ? address_subject(&a, subject) : 0;

		c->address_hash = buckets_hash(c->w->server->buckets, 0, subject, len);
	}
	return c->address_hash;
}

static const char *user_of(const struct client *c)
{
	return c->extra && c->extra->user ? c->extra->user : "default";
}

static uint64_t hash_of(const struct client *c, const void *subject, size_t len)
{
	return buckets_hash(c->w->server->buckets, 0, subject, len);
}

static uint64_t namespace_hash(const struct client *c, const struct namespace *ns)
{
	const char *name = ns ? ns->conf->name : "";

	return hash_of(c, name, strlen(name));
}

/* For whom a key is charged. The keys of a bound listener are others than those of the same name elsewhere. */
static uint64_t key_hash(const struct client *c, const char *key, size_t len)
{
	const struct view view = client_view(c);

	return hash_of(c, key, len) ^ (view.bound ? namespace_hash(c, view.bound) * 0x9e3779b97f4a7c15u : 0);
}

/* ---- what is charged ---- */

struct collector {
	struct client *c;
	const struct call *call;
	struct limit_charges *charges;
	uint64_t wanted;
	int64_t bytes;
};

static void charge(struct collector *k, struct limit_rule *rule, uint64_t subject)
{
	struct limit_charges *all = k->charges;
	uint64_t hash = (subject ^ k->c->w->limit_salts[rule->id]) | 1, bit = (uint64_t)1 << rule->id;
	int64_t n = rule->conf->cost == LIMIT_COST_BYTES ? k->bytes : 1;

	if (all->n == all->room) {
		all->room = all->room * 2 + 16;
		all->items = xreallocarray(all->items, all->room, sizeof(*all->items));
	}
	all->items[all->n++] = (struct limit_charge){rule, hash, n, -1, !(all->seen & bit)};
	all->seen |= bit;
}

/* A rule that charges a command once, however many of its keys match. */
static void charge_once(struct collector *k, struct limit_rule *rule)
{
	if (k->charges->seen & (uint64_t)1 << rule->id)
		return;
	switch (rule->conf->per) {
	case LIMIT_PER_CLIENT_IP:
		charge(k, rule, address_hash(k->c));
		break;
	case LIMIT_PER_USER:
		charge(k, rule, hash_of(k->c, user_of(k->c), strlen(user_of(k->c))));
		break;
	default:
		charge(k, rule, 0);
		break;
	}
}

/* Each namespace that the command has keys of, once. */
static void charge_namespace(struct collector *k, struct limit_rule *rule, const struct namespace *ns)
{
	uint64_t subject = namespace_hash(k->c, ns), hash = (subject ^ k->c->w->limit_salts[rule->id]) | 1;

	for (size_t i = 0; i < k->charges->n; i++)
		if (k->charges->items[i].rule == rule && k->charges->items[i].hash == hash)
			return;
	charge(k, rule, subject);
}

static void on_key(void *ctx, uint32_t i, const char *key, size_t len)
{
	struct collector *k = ctx;
	struct limits *l = k->c->w->limits;
	const struct view view = client_view(k->c);

	(void)i;
	for (uint64_t left = k->wanted; left; left &= left - 1) {
		struct limit_rule *rule = &l->rules[__builtin_ctzll(left)];

		if (!rule->by_key || !limit_matches(rule, key, len))
			continue;
		if (rule->conf->per == LIMIT_PER_KEY)
			charge(k, rule, key_hash(k->c, key, len));
		else if (rule->conf->per == LIMIT_PER_NAMESPACE)
			charge_namespace(k, rule, view_key(&view, key, len).ns);
		else
			charge_once(k, rule);
	}
}

/* Adds what the call takes. */
static void collect(struct client *c, const struct call *call, uint64_t wanted)
{
	struct limits *l = c->w->limits;
	struct collector k = {c, call, c->w->limit_charges, wanted, 0};
	bool by_key = false;

	k.bytes = (int64_t)(call->len + (call->partial ? call->frame->bulk_left : 0));
	for (uint64_t left = wanted; left; left &= left - 1) {
		struct limit_rule *rule = &l->rules[__builtin_ctzll(left)];

		if (!rule->by_key)
			charge_once(&k, rule);
		else if (call->cmd->n_specs == 0 && client_view(c).bound)
			charge_namespace(&k, rule, client_view(c).bound);
		else
			by_key = true;
	}
	if (by_key)
		target_each_key(call, on_key, &k);
}

static void clear(struct limit_charges *all)
{
	all->n = 0;
	all->seen = 0;
	if (all->room > KEPT_CHARGES) {
		free(all->items);
		all->items = NULL;
		all->room = 0;
	}
}

/* ---- taking it ---- */

static int64_t now_ns(const struct client *c)
{
	return c->w->now_us * 1000;
}

static void give_back(struct client *c)
{
	struct limit_charges *all = c->w->limit_charges;

	for (size_t i = 0; i < all->n; i++) {
		struct limit_charge *one = &all->items[i];

		if (one->wait >= 0)
			buckets_give_back(c->w->server->buckets, one->hash, &one->rule->gcra, one->n);
		one->wait = -1;
	}
}

static void count_passed(struct client *c, bool delayed)
{
	struct limit_charges *all = c->w->limit_charges;
	uint64_t waited = 0;

	for (size_t i = 0; i < all->n; i++) {
		const struct limit_charge *one = &all->items[i];
		struct limit_counts *counts = &c->w->limit_counts[one->rule->id];
		uint64_t bit = (uint64_t)1 << one->rule->id;

		counts->allowed += one->counts;
		if (one->wait > 0 && !one->rule->conf->dry_run && !(waited & bit)) {
			counts->delayed++;
			waited |= bit;
		}
	}
	counter_add(&c->w->counters.limit_delayed, delayed);
}

/*
 * Takes all charges, of which each may have to wait. Returns the longest wait in ns; or -1 minus the time in which all
 * might be had, *by being the rule that stands in the way.
 */
static int64_t take(struct client *c, bool may_wait, struct limit_rule **by)
{
	struct limit_charges *all = c->w->limit_charges;
	int64_t wait = 0, retry = 0, r;

	*by = NULL;
	for (size_t i = 0; i < all->n; i++) {
		struct limit_charge *one = &all->items[i];
		struct limit_rule *rule = one->rule;
		int64_t max_wait = may_wait ? rule->max_wait_ns : 0;

		/* Once it is refused the others are only asked when they would let it pass. */
		r = buckets_take(c->w->server->buckets, one->hash, &rule->gcra, one->n, now_ns(c), *by ? -1 : max_wait);
		one->wait = r >= 0 ? r : -1;
		if (rule->conf->dry_run) {
			c->w->limit_counts[rule->id].would += r != 0 && !*by;
		} else if (r < 0) {
			r = -1 - r - max_wait;
			if (r > retry) {
				retry = r;
				*by = rule;
			}
		} else if (r > wait) {
			wait = r;
		}
	}
	if (!*by)
		return wait;
	give_back(c);
	return -1 - retry;
}

/* ---- refusing ---- */

static void say(struct client *c, const struct call *call, struct limit_rule *rule, int64_t retry_ms)
{
	uint64_t unsaid = atomic_fetch_add_explicit(&rule->unsaid, 1, memory_order_relaxed);
	char text[ADDRESS_TEXT_MAX] = "?";
	struct address a;

	if (!log_limit_pass(&rule->log))
		return;
	atomic_store_explicit(&rule->unsaid, 0, memory_order_relaxed);
	if (address_of_socket(c->io.fd, false, &a))
		address_format(&a, text);
	log_warn("Rate limit %s: %s of %s (user %s) refused for %" PRId64 " ms; %" PRIu64 " more since the last line",
		 rule->conf->name, call->cmd->name, text, user_of(c), retry_ms, unsaid);
}

static void refuse(struct client *c, const struct call *call, struct limit_rule *rule, int64_t retry_ns)
{
	int64_t retry_ms = (retry_ns + 999999) / 1000000;
	char text[160];

	if (retry_ms == 0)
		retry_ms = 1;
	c->w->limit_counts[rule->id].rejected++;
	counter_add(&c->w->counters.limit_rejected, 1);
	say(c, call, rule, retry_ms);
	if (c->tx == TX_OPEN)
		c->tx = TX_REFUSED;
	else if (c->tx == TX_UNIT)
		unit_spoil(c);
	snprintf(text, sizeof(text), "%s (%s), retry after %" PRId64 " ms", reply_error_text(ERROR_RATE_LIMITED),
		 rule->conf->name, retry_ms);
	client_reply_error(c, call, text);
}

/* ---- waiting ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	worker_now(c->w, clock_now_us());
	if (c->wait == WAIT_LIMIT)
		client_resume_soon(c);
}

static enum verdict wait_until(struct client *c, int64_t until_us)
{
	struct client_extra *x = client_extra(c);
	int64_t us = until_us - c->w->now_us;
	struct timeval tv = {us / 1000000, us % 1000000};

	if (!x->limit_timer)
		x->limit_timer = evtimer_new(c->w->base, on_timer, c);
	if (!x->limit_timer || evtimer_add(x->limit_timer, &tv) < 0)
		client_close(c);
	c->limit_until_us = until_us;
	return client_wait_for(c, WAIT_LIMIT);
}

void limit_forget(struct client *c)
{
	if (c->extra && c->extra->limit_timer)
		event_free(c->extra->limit_timer);
	if (c->extra)
		c->extra->limit_timer = NULL;
}

/* ---- a command ---- */

/* It has paid. */
static bool is_its_turn(struct client *c, enum verdict *verdict)
{
	if (c->w->now_us >= c->limit_until_us)
		return true;
	*verdict = wait_until(c, c->limit_until_us);
	return false;
}

/* Whether rules must know keys that are still to come. */
static bool lacks_keys(const struct client *c, const struct call *call, uint64_t wanted)
{
	const struct command *cmd = call->cmd;
	size_t len;

	if (!call->partial || cmd->n_specs == 0 ||
	    (command_has_one_place(cmd) && call_arg(call, (uint32_t)cmd->specs->begin_index, &len)))
		return false;
	for (uint64_t left = wanted; left; left &= left - 1)
		if (c->w->limits->rules[__builtin_ctzll(left)].by_key)
			return true;
	return false;
}

bool limit_passes(struct client *c, const struct call *call, enum verdict *verdict)
{
	uint64_t wanted = limits_of(c->w->limits, call->cmd);
	struct limit_rule *by = NULL;
	int64_t wait;

	if (wanted == 0 || c->tx_run > 0)
		return true;
	if (c->limit_passed)
		return is_its_turn(c, verdict);
	if (lacks_keys(c, call, wanted)) {
		*verdict = target_more(c, call);
		return false;
	}
	collect(c, call, wanted);
	wait = take(c, true, &by);
	*verdict = CALL_DONE;
	if (wait < 0)
		refuse(c, call, by, -1 - wait);
	else
		count_passed(c, wait > 0);
	clear(c->w->limit_charges);
	c->limit_passed = wait > 0;
	if (wait > 0)
		*verdict = wait_until(c, c->w->now_us + (wait + 999) / 1000);
	return wait == 0;
}

bool limit_passes_run(struct client *c, const char *p, size_t len, unsigned n)
{
	struct limit_rule *by = NULL;
	bool passes;

	while (n-- > 0) {
		struct request_frame f = {.max_bulk = c->frame.max_bulk};
		struct call call = {.frame = &f, .bytes = p};

		if (request_frame_feed(&f, p, len) != FRAME_READY)
			break;
		call.len = f.len;
		call.cmd = dispatch_find(c, &call);
		c->w->limit_charges->seen = 0;
		if (limit_wanted(c, call.cmd))
			collect(c, &call, limits_of(c->w->limits, call.cmd));
		p += f.len;
		len -= f.len;
	}
	passes = take(c, false, &by) == 0;
	if (passes)
		count_passed(c, false);
	clear(c->w->limit_charges);
	return passes;
}

/* ---- a worker's part ---- */

void limit_renew(struct worker *w, const struct limits *old)
{
	struct limits *l = w->snapshot->holder->limits;
	struct limit_counts *counts = xcalloc(RATE_LIMITS_MAX, sizeof(*counts));

	for (size_t i = 0; l && i < l->n; i++) {
		const char *identity = l->rules[i].identity;

		w->limit_salts[i] = buckets_hash(w->server->buckets, 0, identity, strlen(identity));
		for (size_t k = 0; old && k < old->n; k++)
			if (strcmp(old->rules[k].conf->name, l->rules[i].conf->name) == 0)
				counts[i] = w->limit_counts[k];
	}
	free(w->limit_counts);
	w->limit_counts = counts;
	if (!w->limit_charges)
		w->limit_charges = xcalloc(1, sizeof(*w->limit_charges));
	w->limits = l && l->any_on_commands ? l : NULL;
}

void limit_fini(struct worker *w)
{
	free(w->limit_counts);
	free(w->limit_charges->items);
	free(w->limit_charges);
	w->limit_counts = NULL;
	w->limit_charges = NULL;
}
