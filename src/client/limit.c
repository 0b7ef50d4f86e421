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
#include "client/limit_private.h"
#include "client/target.h"
#include "client/unit.h"
#include "net/addr.h"
#include "policy/leases.h"
#include "server.h"

#define LEASE_WAIT_NS INT64_C(1000000000) /* the longest that a command waits for answers, beside max_delay */

/* ---- taking it ---- */

/* NULL: it never had to wait. */
static struct limit_wait *wait_of(const struct client *c)
{
	return c->extra ? c->extra->limit_wait : NULL;
}

static int64_t now_ns(const struct client *c)
{
	return c->w->now_us * 1000;
}

/* What the rules say to a command. */
struct ruling {
	enum { RULING_PASS, RULING_WAIT, RULING_REFUSE, RULING_PENDING } what;
	int64_t ns;	       /* WAIT: its turn; REFUSE: when to try again; PENDING: when to look again */
	struct limit_rule *by; /* REFUSE */
	uint64_t hash;	       /* PENDING: the lease that is waited for */
};

static void give_back(struct client *c)
{
	struct limit_charges *all = c->w->limit_charges;
	struct server *s = c->w->server;

	for (size_t i = 0; i < all->n; i++) {
		struct limit_charge *one = &all->items[i];

		if (one->wait >= 0 && one->leased)
			leases_give_back(s->leases, one->hash, &one->rule->gcra, one->n);
		else if (one->wait >= 0)
			buckets_give_back(one->rule->buckets, one->hash, &one->rule->gcra, one->n);
		one->wait = -1;
	}
}

/* What is so of a command whatever became of it; once it is known what does. */
static void count_ruled(struct client *c)
{
	struct limit_charges *all = c->w->limit_charges;
	uint64_t would = 0;

	for (size_t i = 0; i < all->n; i++) {
		const struct limit_charge *one = &all->items[i];
		struct limit_counts *counts = &c->w->limit_counts[one->rule->id];
		uint64_t bit = (uint64_t)1 << one->rule->id;

		counts->local += one->alone;
		counts->would += one->would && !(would & bit);
		would |= one->would ? bit : 0;
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

/* One charge was given for after a wait of r ns, or refused: r is -1 minus the time in which to try again. */
static void weigh(struct limit_charge *one, int64_t r, struct ruling *ruling)
{
	struct limit_rule *rule = one->rule;

	one->wait = r >= 0 ? r : -1;
	if (rule->conf->dry_run) {
		one->would = r != 0;
	} else if (r < 0 && (ruling->what != RULING_REFUSE || -1 - r > ruling->ns)) {
		*ruling = (struct ruling){RULING_REFUSE, -1 - r, rule, 0};
	} else if (r > 0 && ruling->what != RULING_REFUSE && r > ruling->ns) {
		*ruling = (struct ruling){RULING_WAIT, r, NULL, 0};
	}
}

/* Once it is refused the others are only asked when they would let it pass. */
static void take_local(struct client *c, struct limit_charge *one, int64_t max_wait, struct ruling *ruling)
{
	bool look = ruling->what == RULING_REFUSE;
	int64_t r =
		buckets_take(one->rule->buckets, one->hash, &one->rule->gcra, one->n, now_ns(c), look ? -1 : max_wait);

	if (r < 0)
		r = -1 - r > max_wait ? r + max_wait : -1;
	if (!look || r < -1)
		weigh(one, r, ruling);
}

/* How long the command waits already. */
static int64_t waited_ns(const struct client *c)
{
	const struct limit_wait *wait = wait_of(c);

	return wait && wait->since_us > 0 ? (c->w->now_us - wait->since_us) * 1000 : 0;
}

static void take_leased(struct client *c, struct limit_charge *one, int64_t max_wait, struct ruling *ruling)
{
	struct lease_result r;
	int64_t waited = waited_ns(c);
	bool too_long = waited > LEASE_WAIT_NS && waited > max_wait;

	max_wait = max_wait > waited ? max_wait - waited : 0;
	leases_take(c->w->server->leases, one->hash, &one->rule->gcra, one->rule->unit_ns, one->n, now_ns(c), max_wait,
		    c->w->id, &r);
	if (r.ask && !lease_ask(c, one, &r) && r.verdict == LEASE_PENDING)
		r.verdict = LEASE_LOCAL;
	if (r.verdict == LEASE_LOCAL) {
		one->alone = true;
		take_local(c, one, max_wait, ruling);
		return;
	}
	one->leased = true;
	if (r.verdict == LEASE_TAKEN) {
		weigh(one, r.ns, ruling);
	} else if (one->rule->conf->dry_run && r.verdict == LEASE_PENDING) {
		one->wait = -1; /* nobody waits for that */
	} else if ((r.verdict == LEASE_PENDING && !too_long) || (r.ns > 0 && r.ns <= max_wait)) {
		*ruling = (struct ruling){RULING_PENDING, r.ns, NULL, one->hash};
	} else {
		weigh(one, -1 - r.ns, ruling);
	}
}

/* Takes all charges, or none. What other proxies share comes last: it can't be given back for certain. */
static struct ruling take(struct client *c, bool may_wait)
{
	struct limit_charges *all = c->w->limit_charges;
	struct ruling ruling = {RULING_PASS, 0, NULL, 0};

	for (size_t i = 0; i < all->n; i++)
		if (!all->items[i].rule->conf->shared)
			take_local(c, &all->items[i], may_wait ? all->items[i].rule->max_wait_ns : 0, &ruling);
	for (size_t i = 0; i < all->n && (ruling.what == RULING_PASS || ruling.what == RULING_WAIT); i++)
		if (all->items[i].rule->conf->shared)
			take_leased(c, &all->items[i], may_wait ? all->items[i].rule->max_wait_ns : 0, &ruling);
	if (ruling.what == RULING_REFUSE || ruling.what == RULING_PENDING)
		give_back(c);
	return ruling;
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
		 rule->conf->name, call->cmd->name, text, limit_user(c), retry_ms, unsaid);
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

static struct limit_wait *make_wait(struct client *c)
{
	struct client_extra *x = client_extra(c);

	if (!x->limit_wait) {
		x->limit_wait = xcalloc(1, sizeof(*x->limit_wait));
		x->limit_wait->client = c;
		x->limit_wait->timer = evtimer_new(c->w->base, on_timer, c);
		list_init(&x->limit_wait->node);
	}
	return x->limit_wait;
}

static enum verdict wait_us(struct limit_wait *wait, int64_t us)
{
	struct timeval tv = {us / 1000000, us % 1000000};

	if (!wait->timer || evtimer_add(wait->timer, &tv) < 0)
		client_close(wait->client);
	return client_wait_for(wait->client, WAIT_LIMIT);
}

/* For its turn, which is certain. */
static enum verdict wait_for_turn(struct client *c, int64_t until_us)
{
	struct limit_wait *wait = make_wait(c);

	c->limit_passed = true;
	wait->until_us = until_us;
	return wait_us(wait, until_us - c->w->now_us);
}

/* For an answer of the upstream, or for the time to ask it. */
static enum verdict wait_for_lease(struct client *c, uint64_t hash, int64_t ns)
{
	struct limit_wait *wait = make_wait(c);

	if (wait->since_us == 0)
		wait->since_us = c->w->now_us;
	wait->hash = hash;
	if (!list_is_linked(&wait->node))
		list_append(&c->w->limit_waiting, &wait->node);
	return wait_us(wait, ns / 1000 + 1);
}

void limit_wake(struct worker *w, void *arg)
{
	uint64_t hash = (uint64_t)(uintptr_t)arg;

	worker_now(w, clock_now_us());
	LIST_EACH (pos, next, &w->limit_waiting) {
		struct limit_wait *wait = container_of(pos, struct limit_wait, node);

		if (wait->hash != hash)
			continue;
		list_remove(pos);
		if (wait->client->wait == WAIT_LIMIT)
			client_resume_soon(wait->client);
	}
}

void limit_forget(struct client *c)
{
	struct limit_wait *wait = wait_of(c);

	limit_upload_forget(c);
	if (!wait)
		return;
	if (wait->timer)
		event_free(wait->timer);
	list_remove(&wait->node);
	free(wait);
	c->extra->limit_wait = NULL;
}

/* ---- a command ---- */

/* It has paid, and if it was gathered since for what was known of it. */
static bool is_its_turn(struct client *c, const struct call *call, enum verdict *verdict)
{
	const struct limit_wait *wait = wait_of(c);

	if (c->extra && c->extra->limit_upload && !call->partial)
		limit_upload_end(c, (int64_t)call->len);
	if (!wait || c->w->now_us >= wait->until_us)
		return true;
	*verdict = wait_for_turn(c, wait->until_us);
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

/* What the rules say is done. True: it goes on. */
static bool carry_out(struct client *c, const struct call *call, const struct ruling *ruling, enum verdict *verdict)
{
	struct limit_wait *wait = wait_of(c);

	*verdict = CALL_DONE;
	if (ruling->what == RULING_PENDING) {
		*verdict = wait_for_lease(c, ruling->hash, ruling->ns);
		return false;
	}
	if (wait && wait->since_us > 0) {
		wait->since_us = 0;
		list_remove(&wait->node);
	}
	count_ruled(c);
	if (ruling->what == RULING_REFUSE) {
		refuse(c, call, ruling->by, ruling->ns);
		return false;
	}
	count_passed(c, ruling->what == RULING_WAIT);
	if (call->partial)
		limit_upload_begin(c);
	if (ruling->what == RULING_WAIT)
		*verdict = wait_for_turn(c, c->w->now_us + (ruling->ns + 999) / 1000);
	return ruling->what == RULING_PASS;
}

/* False: it was refused, or has to wait. */
static bool passes(struct client *c, const struct call *call, uint64_t wanted, enum verdict *verdict)
{
	struct ruling ruling;
	bool goes_on;

	if (c->limit_passed)
		return is_its_turn(c, call, verdict);
	if (lacks_keys(c, call, wanted)) {
		*verdict = target_more(c, call);
		return false;
	}
	limit_collect(c, call, wanted);
	ruling = take(c, true);
	goes_on = carry_out(c, call, &ruling, verdict);
	limit_clear(c);
	return goes_on;
}

enum verdict limit_run(struct client *c, struct call *call, limit_next_fn next)
{
	uint64_t wanted = c->w->limits ? limits_of(c->w->limits, call->cmd) : 0;
	enum verdict verdict;

	if (wanted == 0 || c->tx_run > 0) /* KEYWEIR UPSTREAM may have another in it, which is asked about there */
		return next(c, call);
	if (!passes(c, call, wanted, &verdict))
		return verdict;
	verdict = next(c, call);
	c->limit_passed = verdict == CALL_WAIT;
	return verdict;
}

bool limit_passes_run(struct client *c, const char *p, size_t len, unsigned n)
{
	bool all;

	while (n-- > 0) {
		struct request_frame f = {.max_bulk = c->frame.max_bulk};
		struct call call = {.frame = &f, .bytes = p};

		if (request_frame_feed(&f, p, len) != FRAME_READY)
			break;
		call.len = f.len;
		call.cmd = dispatch_find(c, &call);
		if (limit_wanted(c, call.cmd))
			limit_collect(c, &call, limits_of(c->w->limits, call.cmd));
		p += f.len;
		len -= f.len;
	}
	all = take(c, false).what == RULING_PASS;
	if (all) {
		count_ruled(c);
		count_passed(c, false);
	}
	limit_clear(c);
	return all;
}

/* ---- a worker's part ---- */

/* Other rules: who waits for a lease is looked at anew, and may be wanted by none of them. */
static void wake_all(struct worker *w)
{
	LIST_EACH (pos, next, &w->limit_waiting) {
		struct limit_wait *wait = container_of(pos, struct limit_wait, node);

		list_remove(pos);
		wait->since_us = 0;
		if (wait->client->wait == WAIT_LIMIT)
			client_resume_soon(wait->client);
	}
}

void limit_renew(struct worker *w, const struct limits *old)
{
	struct limits *l = w->snapshot->holder->limits;
	struct limit_counts *counts = xcalloc(RATE_LIMITS_MAX, sizeof(*counts));

	for (size_t i = 0; l && i < l->n; i++) {
		const char *identity = l->rules[i].identity;

		w->limit_salts[i] = buckets_hash(w->server->limit_seed, 0, identity, strlen(identity));
		for (size_t k = 0; old && k < old->n; k++)
			if (strcmp(old->rules[k].conf->name, l->rules[i].conf->name) == 0)
				counts[i] = w->limit_counts[k];
	}
	free(w->limit_counts);
	w->limit_counts = counts;
	if (old != l)
		wake_all(w);
	if (!w->limit_charges)
		w->limit_charges = xcalloc(1, sizeof(*w->limit_charges));
	free(w->limit_charges->namespaces);
	w->limit_charges->namespaces =
		xcalloc(namespaces_count(w->snapshot->holder->namespaces) + 1, sizeof(*w->limit_charges->namespaces));
	w->limits = l && l->any_on_commands ? l : NULL;
}

void limit_fini(struct worker *w)
{
	free(w->limit_counts);
	free(w->limit_charges->items);
	free(w->limit_charges->namespaces);
	free(w->limit_charges);
	w->limit_counts = NULL;
	w->limit_charges = NULL;
}
