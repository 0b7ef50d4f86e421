/* SPDX-License-Identifier: BSD-2-Clause */
/* See cache_cmd.h. A client of a bound listener sees and drops what is of its namespace, and knows of nothing else. */
#include "client/cache_cmd.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cache/store.h"
#include "client/namespace_stats.h"
#include "policy/glob.h"
#include "resp/write.h"
#include "upstream/tracker.h"

/* ---- STATS ---- */

/* What the store says of a namespace, and what the workers say of its reads. */
struct near_counts {
	struct store_counts store;
	struct namespace_counts reads;
};

static void add(struct near_counts *sum, const struct near_counts *n)
{
	sum->store.items += n->store.items;
	sum->store.bytes += n->store.bytes;
	sum->store.fills += n->store.fills;
	for (unsigned i = 0; i < STORE_CAUSES; i++)
		sum->store.gone[i] += n->store.gone[i];
	sum->reads.near_hits += n->reads.near_hits;
	sum->reads.near_misses += n->reads.near_misses;
	sum->reads.near_joined += n->reads.near_joined;
	sum->reads.near_stale += n->reads.near_stale;
}

static bool is_shown(const struct namespace_sums *sums, const struct namespace *ns)
{
	return ns->flags & NS_NEAR && (!sums->bound || sums->bound == ns);
}

/* Of a namespace; false: it is not to be shown. */
static bool count(const struct namespace_sums *sums, size_t id, struct near_counts *n)
{
	const struct namespace *ns = namespaces_at(sums->holder->namespaces, id);

	*n = (struct near_counts){.reads = sums->sums[id]};
	if (!is_shown(sums, ns))
		return false;
	if (sums->snapshot->store)
		store_counts(sums->snapshot->store, ns->id, &n->store);
	return true;
}

#define COUNT_FIELDS 15

static void put_counts(struct buf *b, const struct near_counts *n)
{
	static const char *const causes[STORE_CAUSES] = {
		[STORE_TRACKED] = "invalidated_tracked",
		[STORE_OWN_WRITE] = "invalidated_own_write",
		[STORE_FLUSHED] = "invalidated_flushed",
		[STORE_OUTDATED] = "invalidated_outdated",
		[STORE_EXPIRED] = "expired",
		[STORE_EVICTED] = "evicted",
		[STORE_REPLACED] = "replaced",
	};
	uint64_t reads = n->reads.near_hits + n->reads.near_misses + n->reads.near_joined;
	char rate[16];

	snprintf(rate, sizeof(rate), "%.4f", reads > 0 ? (double)n->reads.near_hits / (double)reads : 0.0);
	resp_field(b, "items", n->store.items);
	resp_field(b, "bytes", n->store.bytes);
	resp_field(b, "hits", n->reads.near_hits);
	resp_field(b, "misses", n->reads.near_misses);
	resp_field(b, "coalesced", n->reads.near_joined);
	resp_field(b, "stale_served", n->reads.near_stale);
	resp_field_text(b, "hit_rate", rate);
	resp_field(b, "fills", n->store.fills);
	for (unsigned i = 0; i < STORE_CAUSES; i++)
		resp_field(b, causes[i], n->store.gone[i]);
}

static void put_namespaces(const struct namespace_sums *sums, size_t n_shown, struct buf *b)
{
	struct near_counts n;

	resp_array(b, n_shown);
	for (size_t i = 0; i < namespaces_count(sums->holder->namespaces); i++) {
		if (!count(sums, i, &n))
			continue;
		resp_map(b, sums->proto, 1 + COUNT_FIELDS);
		resp_field_text(b, "name", namespaces_at(sums->holder->namespaces, i)->conf->name);
		put_counts(b, &n);
	}
}

/* How the masters of upstreams with cached namespaces tell what has changed. */
struct mode_writer {
	const struct upstream_view *view;
	struct buf *b;
	size_t n;
	int64_t now_us;
	int proto;
};

static void put_mode(void *ctx, struct node *n, bool master)
{
	struct mode_writer *mw = ctx;
	int64_t confirmed_us = atomic_load(&n->truth.confirmed_us);

	if (!master)
		return;
	mw->n++;
	if (!mw->b)
		return;
	resp_map(mw->b, mw->proto, 5);
	resp_field_text(mw->b, "upstream", mw->view->up->conf->name);
	resp_field_text(mw->b, "url", n->label);
	resp_field_text(mw->b, "tracking", tracking_mode_name((enum tracking_mode)atomic_load(&n->truth.mode)));
	resp_field(mw->b, "epoch", atomic_load(&n->truth.epoch));
	resp_bulks(mw->b, "confirmed_ms"); /* ago; -1: never */
	resp_int(mw->b, confirmed_us > 0 ? (mw->now_us - confirmed_us) / 1000 : -1);
}

static bool is_cached(const struct namespaces *all, const char *upstream)
{
	for (size_t i = 0; i < namespaces_count(all); i++) {
		const struct namespace *ns = namespaces_at(all, i);

		if (ns->flags & NS_NEAR && strcmp(ns->conf->upstream, upstream) == 0)
			return true;
	}
	return false;
}

static void each_mode(const struct namespace_sums *sums, struct mode_writer *mw)
{
	const struct snapshot *s = sums->snapshot;

	for (size_t i = 0; i < s->n_views && !sums->bound; i++) {
		mw->view = &s->views[i];
		if (is_cached(sums->holder->namespaces, mw->view->up->conf->name))
			topology_each(mw->view->topo, put_mode, mw);
	}
}

static void put_modes(const struct namespace_sums *sums, struct buf *b)
{
	struct mode_writer mw = {.now_us = clock_now_us(), .proto = sums->proto};

	each_mode(sums, &mw);
	resp_array(b, mw.n);
	mw.b = b;
	each_mode(sums, &mw);
}

static void tell_stats(const struct namespace_sums *sums, struct buf *b)
{
	struct store *store = sums->snapshot->store;
	struct near_counts all = {0}, n;
	size_t shown = 0;

	for (size_t i = 0; i < namespaces_count(sums->holder->namespaces); i++) {
		if (!count(sums, i, &n))
			continue;
		add(&all, &n);
		shown++;
	}
	resp_map(b, sums->proto, 2 + COUNT_FIELDS + 2);
	resp_field(b, "memory", !store ? 0 : sums->bound ? all.store.bytes : store_bytes(store));
	resp_field(b, "max_memory", store ? store_bytes_max(store) : 0);
	put_counts(b, &all);
	resp_bulks(b, "tracking");
	put_modes(sums, b);
	resp_bulks(b, "namespaces");
	put_namespaces(sums, shown, b);
}

/* ---- FLUSH ---- */

struct flush {
	struct view view;
	const char *pattern; /* NULL: whatever they are called */
	size_t len;
	struct buf name; /* of the key that is looked at */
};

/* Whether what the client calls the key matches. Without a pattern names that can't be told count, too. */
static bool is_meant(void *ctx, uint32_t upstream, unsigned namespace, const char *key, size_t len)
{
	struct flush *f = ctx;
	struct name_place at;

	(void)upstream;
	if (f->view.bound && f->view.bound->id != namespace)
		return false;
	if (!f->pattern)
		return true;
	if (!view_key_back(&f->view, key, len, &at))
		return false;
	if (at.put_len == 0)
		return glob_match(f->pattern, f->len, key + at.cut, len - at.cut);
	f->name.start = f->name.end = 0;
	buf_put(&f->name, at.put, at.put_len);
	buf_put(&f->name, key + at.cut, len - at.cut);
	return glob_match(f->pattern, f->len, buf_head(&f->name), buf_len(&f->name));
}

static enum verdict flush(struct client *c, const struct call *call)
{
	struct store *store = c->w->snapshot->store;
	struct flush f = {.view = client_view(c)};
	bool all;
	struct buf b = {0};

	f.pattern = call_arg(call, 3, &f.len);
	if (f.pattern && f.len == 1 && *f.pattern == '*')
		f.pattern = NULL;
	all = !f.pattern && !f.view.bound;
	resp_int(&b, store ? (int64_t)store_flush(store, all ? NULL : is_meant, &f) : 0);
	buf_release(&f.name);
	client_reply(c, call, &b);
	return CALL_DONE;
}

enum verdict cache_cmd(struct client *c, const struct call *call)
{
	if (call_arg_is(call, 2, "STATS") && call->frame->argc == 3)
		return namespace_stats_gather(c, call, tell_stats);
	if (call_arg_is(call, 2, "FLUSH"))
		return flush(c, call);
	client_reply_error(c, call, "ERR it is KEYWEIR CACHE STATS or KEYWEIR CACHE FLUSH [pattern]");
	return CALL_DONE;
}
