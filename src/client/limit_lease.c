/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asking the upstream for leases of budgets that several proxies share: see policy/leases.h. A script in
 * [upstream.main] keeps the budget, by its clock; a request without a client (REQUEST_LEASE) over the worker's shared
 * link carries it. A redirection is followed, and a script that is not there is sent; else nothing is tried twice:
 * without an answer each proxy limits for itself.
 */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/limit_private.h"
#include "client/redirect.h"
#include "resp/reply_frame.h"
#include "resp/write.h"
#include "server.h"
#include "upstream/route.h"

#define REPLY_MAX 256

/*
 * ARGV: unit, want, most, far, see struct lease_result. Of what there is room for no more than half is granted, so that
 * those who ask a moment later find something, too. Returns what is granted, and from when on, in ns from now. The time
 * is kept in two parts, as CL.THROTTLE does. What is too far ahead is brought to where it counts as all of the budget,
 * used: else a clock that was set back, or a rate that was raised, would let nothing pass for as long.
 */
static const char script[] = "local unit, want, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
			     "local far = tonumber(ARGV[4])\n"
			     "local t = redis.call('TIME')\n"
			     "local s, ns = tonumber(t[1]), tonumber(t[2]) * 1000\n"
			     "local tat = redis.call('GET', KEYS[1]) or '0'\n"
			     "local ahead = ((tonumber(string.sub(tat, 1, -10)) or 0) - s) * 1e9 + "
			     "(tonumber(string.sub(tat, -9)) or 0) - ns\n"
			     "local wrong = ahead > far\n"
			     "ahead = math.min(math.max(ahead, 0), far)\n"
			     "local grant = math.floor((most - ahead) / 2 / unit) * unit\n"
			     "if grant < unit then grant = most - ahead >= unit and unit or 0 end\n"
			     "grant = math.min(grant, want)\n"
			     "if grant > 0 or wrong then\n"
			     "local new = ns + ahead + grant\n"
			     "local whole = math.floor(new / 1e9)\n"
			     "redis.call('SET', KEYS[1], string.format('%.0f%09.0f', s + whole, new - whole * 1e9),\n"
			     "'PX', string.format('%.0f', math.ceil((ahead + grant) / 1e6)))\n"
			     "end\n"
			     "return {grant, ahead}\n";

/* What was asked. Owner: its request. */
struct lease_asked {
	uint64_t hash;
	uint32_t serial;
	uint8_t tries;
	bool asking;
	struct node *at; /* a reference: where it was redirected to; NULL: whoever serves the slot */
	struct buf bytes;
	int slot;
};

static void asked_free(struct lease_asked **ap)
{
	struct lease_asked *a = *ap;

	*ap = NULL;
	if (a->at)
		node_unref(&a->at);
	buf_release(&a->bytes);
	free(a);
}

/* ---- the answer ---- */

static void settle(struct worker *w, const struct lease_asked *a, int64_t grant, int64_t ahead)
{
	struct lease_waiting waiting;
	void *hash = (void *)(uintptr_t)a->hash;

	/* Later than the script ran: what was granted passes no sooner than it may. Who is woken goes by the same time.
	 */
	worker_now(w, clock_now_us());
	leases_granted(w->server->leases, a->hash, a->serial, grant, ahead, w->now_us * 1000, &waiting);
	for (unsigned i = 0; i < w->server->n_workers; i++) {
		if (!(waiting.bits[i / 64 % 4] >> i % 64 & 1))
			continue;
		if (i == w->id)
			limit_wake(w, hash);
		else if (!w->stop) /* at the end nobody would hear it */
			worker_run_on(&w->server->workers[i], limit_wake, hash);
	}
}

void lease_lost(struct worker *w, struct request *r)
{
	struct lease_asked *a = (struct lease_asked *)(intptr_t)r->arg;

	settle(w, a, -1, 0);
	asked_free(&a);
}

/* ---- the question ---- */

static struct link *find_link(struct worker *w, const struct lease_asked *a)
{
	struct pool *p = a->at ? route_pool(w, a->at, false) : route_master(&w->routes[0], a->slot);
	struct link *l;

	if (!p || pool_is_down(p) || pool_shared(p, 2, w->routes[0].up->conf->target.db, &l) != POOL_OK ||
	    l->state == LINK_CLOSED || l->n_queue >= LINK_QUEUE_MAX || l->out.bytes >= LINK_BYTES_MAX)
		return NULL;
	return l;
}

static void put_load(struct buf *out)
{
	resp_request(out, 3, (const char *const[]){"SCRIPT", "LOAD", script});
}

static bool send_asked(struct worker *w, struct lease_asked *a)
{
	struct link *l = find_link(w, a);
	struct buf load = {0};
	struct request *r;

	if (!l)
		return false;
	if (!(l->own_scripts & OWN_SCRIPT_LEASE)) {
		put_load(&load);
		forward_own(l, buf_head(&load), buf_len(&load));
		buf_release(&load);
		l->own_scripts |= OWN_SCRIPT_LEASE;
	}
	if (a->asking)
		redirect_send_asking(l);
	r = request_new(&w->requests);
	r->flags = REQUEST_LEASE;
	r->slot = (int16_t)a->slot;
	r->arg = (int64_t)(intptr_t)a;
	r->start_us = w->now_us;
	r->deadline_us = w->now_us + forward_timeout_us(l, NULL);
	link_send(l, r, buf_head(&a->bytes), buf_len(&a->bytes));
	return true;
}

static bool is_error(const struct buf *reply, const char *word)
{
	size_t n = strlen(word);

	return buf_len(reply) > n && memcmp(buf_head(reply) + 1, word, n) == 0;
}

/* "*2, grant, ahead". */
static bool read_grant(const struct buf *reply, int64_t *grant, int64_t *ahead)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct reply_item head, first, second;

	if (!reply_cursor_next(&cur, &head) || head.type != '*' || head.number != 2 ||
	    !reply_cursor_next(&cur, &first) || !reply_cursor_next(&cur, &second) || first.type != ':' ||
	    second.type != ':')
		return false;
	*grant = first.number;
	*ahead = second.number;
	return *grant >= 0 && *ahead >= 0 && *ahead < GCRA_FOREVER;
}

/* Another node has it. False: which one, only the next map will say. */
static bool follow(struct lease_asked *a, const struct redirect_to *to)
{
	if (!to->node)
		return false;
	if (a->at)
		node_unref(&a->at);
	a->at = to->node;
	a->asking = to->asking;
	return true;
}

/* The slot is on its way, or the script was flushed, or another server stands there. */
static bool try_again(struct worker *w, struct link *l, struct lease_asked *a, const struct buf *reply)
{
	struct redirect_to to;

	if (a->tries++ >= REDIRECTS_MAX)
		return false;
	if (redirect_possible(l) && redirect_read(l, NULL, a->slot, buf_head(reply), buf_len(reply), &to))
		return follow(a, &to) && send_asked(w, a);
	if (!is_error(reply, "NOSCRIPT"))
		return false;
	l->own_scripts &= (uint8_t)~OWN_SCRIPT_LEASE;
	return send_asked(w, a);
}

/* Only its first word: a user may be named behind it. */
static void say_refused(const struct buf *reply)
{
	static struct log_limit limit;
	size_t len = buf_len(reply);
	const char *text = buf_head(reply);
	size_t n = 0;

	while (n < len && text[n] > ' ')
		n++;
	if (log_limit_pass(&limit))
		log_warn("Shared rate limits: upstream main does not run their script (%.*s): each proxy limits for "
			 "itself",
			 (int)(n > 0 ? n - 1 : 0), n > 0 ? text + 1 : "");
}

void lease_answered(struct request *r, const char *data, size_t len, struct link *l, bool done)
{
	struct lease_asked *a = (struct lease_asked *)(intptr_t)r->arg;
	int64_t grant = -1, ahead = 0;

	if (buf_len(&r->reply) < REPLY_MAX)
		buf_put(&r->reply, data, len < REPLY_MAX ? len : REPLY_MAX);
	if (!done)
		return;
	if (l->rf.type == '-' && try_again(l->w, l, a, &r->reply))
		return;
	if (!read_grant(&r->reply, &grant, &ahead)) {
		say_refused(&r->reply);
		grant = -1;
	}
	settle(l->w, a, grant, ahead);
	asked_free(&a);
}

static void put_number(struct buf *b, int64_t n)
{
	struct buf text = {0};

	buf_printf(&text, "%lld", (long long)n);
	resp_bulk(b, buf_head(&text), buf_len(&text));
	buf_release(&text);
}

static void put_sha(struct buf *b)
{
	unsigned char sha[SHA_DIGEST_LENGTH];
	char hex[2 * SHA_DIGEST_LENGTH + 1];

	SHA1((const unsigned char *)script, strlen(script), sha);
	for (size_t i = 0; i < sizeof(sha); i++)
		snprintf(hex + 2 * i, 3, "%02x", sha[i]);
	resp_bulks(b, hex);
}

static struct lease_asked *asked_new(const struct worker *w, const struct buf *name, const struct lease_result *r)
{
	struct lease_asked *a = xcalloc(1, sizeof(*a));

	a->slot = w->routes[0].topo->slots ? (int)hash_slot(buf_head(name), buf_len(name)) : -1;
	resp_array(&a->bytes, 8);
	resp_bulks(&a->bytes, "EVALSHA");
	put_sha(&a->bytes);
	resp_bulks(&a->bytes, "1");
	resp_bulk(&a->bytes, buf_head(name), buf_len(name));
	put_number(&a->bytes, r->unit_ns);
	put_number(&a->bytes, r->want_ns);
	put_number(&a->bytes, r->most_ns);
	put_number(&a->bytes, r->far_ns);
	return a;
}

void lease_owe(struct worker *w, const struct buf *name, int64_t span_ns)
{
	/* All of it at once, from when what is owed already is paid; the answer is nobody's. */
	struct lease_result r = {
		.unit_ns = span_ns, .want_ns = span_ns, .most_ns = GCRA_FOREVER, .far_ns = GCRA_FOREVER};
	struct lease_asked *a = asked_new(w, name, &r);

	if (span_ns <= 0 || !send_asked(w, a))
		asked_free(&a);
}

bool lease_ask(struct client *c, const struct limit_charge *one, const struct lease_result *r)
{
	struct worker *w = c->w;
	struct lease_asked *a;
	struct buf name = {0};

	limit_put_name(c, one, &name);
	a = asked_new(w, &name, r);
	a->hash = one->hash;
	a->serial = r->serial;
	buf_release(&name);
	if (!send_asked(w, a)) {
		settle(w, a, -1, 0);
		asked_free(&a);
		return false;
	}
	w->limit_counts[one->rule->id].leases++;
	return true;
}
