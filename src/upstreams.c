/* SPDX-License-Identifier: BSD-2-Clause */
/* The upstreams of the configuration on the control thread: their watches, and a new snapshot whenever one changes. */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/store.h"
#include "control_private.h"
#include "upstream/tracker.h"
#include "worker.h"

static void publish(struct control *ctl, struct snapshot *fresh)
{
	if (ctl->running)
		for (unsigned i = 0; i < ctl->server.n_workers; i++)
			worker_run_on(&ctl->server.workers[i], worker_take_snapshot, snapshot_ref(fresh));
	snapshot_unref(&ctl->snapshot);
	ctl->snapshot = fresh;
}

static void on_topology(void *ctx, struct upstream *up, struct topology *topo)
{
	struct control *ctl = ctx;

	publish(ctl, snapshot_with_topology(ctl->snapshot, up, topo));
	control_token_topology(ctl, up, topo);
}

static void on_learnt(void *ctx, struct command_set *set)
{
	struct control *ctl = ctx;

	if (command_set_same(ctl->snapshot->learnt, set)) {
		command_set_unref(&set);
		return;
	}
	publish(ctl, snapshot_with_commands(ctl->snapshot, set));
	log_info("Learnt %u commands of Redis that are not built in", command_set_count(set));
	ctl->learnt = xreallocarray(ctl->learnt, ctl->n_learnt + 1, sizeof(struct command_set *));
	ctl->learnt[ctl->n_learnt++] = set;
}

/* A server says that a key has changed: what the near-cache has of it goes. */
static void control_key_changed(struct control *ctl, struct upstream *up, const char *key, size_t len)
{
	struct store *store = ctl->snapshot->store;
	struct store_key k = {.upstream = up->id, .p = key, .len = len};

	if (!store)
		return;
	k.hash = store_hash(store, up->id, key, len);
	store_forget(store, &k, STORE_TRACKED, clock_now_us());
}

static void on_changed(void *ctx, struct upstream *up, const char *key, size_t len)
{
	struct control *ctl = ctx;

	control_key_changed(ctl, up, key, len);
	control_token_changed(ctl, up, key, len);
}

static const struct watch_events main_events = {on_topology, on_learnt, on_changed};
static const struct watch_events other_events = {on_topology, NULL, on_changed};

void control_learn(struct control *ctl)
{
	watch_learn(ctl->watches[0]);
}

static void look_up(void *ctx, struct node *n, bool master)
{
	(void)ctx;
	(void)master;
	node_resolve_soon(n);
}

static void count_unknown(void *ctx, struct node *n, bool master)
{
	struct address list[NODE_ADDRESSES_MAX];

	(void)master;
	*(bool *)ctx |= n->needs_lookup && node_addresses(n, list) == 0;
}

/* At start a host name gets its time to be looked up. */
static void wait_for_names(struct control *ctl)
{
	int64_t until_us = clock_now_us() + ctl->snapshot->config->upstreams[0].connect_timeout_ms * 1000;
	struct timespec pause = {0, 2000000};
	bool unknown = true;

	while (unknown && clock_now_us() < until_us) {
		unknown = false;
		for (size_t i = 0; i < ctl->n_watches; i++) {
			topology_each(watch_topology(ctl->watches[i]), look_up, NULL);
			topology_each(watch_topology(ctl->watches[i]), count_unknown, &unknown);
		}
		if (unknown)
			nanosleep(&pause, NULL);
	}
}

bool control_open_store(const struct shared_config *holder, struct store **out)
{
	size_t n = namespaces_count(holder->namespaces);
	bool wanted = false;

	*out = NULL;
	for (size_t i = 0; i < n; i++)
		wanted = wanted || namespaces_at(holder->namespaces, i)->flags & NS_NEAR;
	if (wanted)
		*out = store_new((size_t)holder->config->near_cache.max_memory_bytes, n);
	return *out || !wanted;
}

/* What of the upstream's keys is kept near is tracked. */
static void want_tracking(struct watch *w, const struct shared_config *holder, size_t i)
{
	struct tracker_wish wish = {.untracked = holder->config->near_cache.max_staleness_ms > 0};

	namespaces_near_prefixes(holder->namespaces, i, &wish.prefixes);
	watch_want(w, &wish);
	string_list_clear(&wish.prefixes);
}

void control_confirmation_asked(struct control *ctl)
{
	for (size_t i = 0; i < ctl->n_watches; i++)
		watch_confirm(ctl->watches[i]);
}

/* The watch of an upstream that stays as it is. */
static struct watch *take_watch(struct control *ctl, const struct upstream_config *conf, const struct tls *tls)
{
	for (size_t i = 0; i < ctl->n_watches; i++) {
		struct watch *w = ctl->watches[i];

		if (w && upstream_same(watch_upstream(w)->conf, conf) &&
		    tls_same_content(watch_upstream(w)->tls, tls)) {
			ctl->watches[i] = NULL;
			return w;
		}
	}
	return NULL;
}

void control_change_upstreams(struct control *ctl, struct shared_config *holder, struct store *store)
{
	const struct config *config = holder->config;
	size_t n = config->n_upstreams;
	struct watch **watches = xcalloc(n, sizeof(struct watch *));
	struct upstream_view *views = xcalloc(n, sizeof(*views));

	for (size_t i = 0; i < n; i++) {
		watches[i] = take_watch(ctl, &config->upstreams[i], holder->upstream_tls[i]);
		if (!watches[i]) {
			struct upstream *up = upstream_new(holder, &config->upstreams[i], ctl->server.n_workers);

			watches[i] = watch_new(ctl->base, up, i == 0 ? &main_events : &other_events, ctl);
			upstream_unref(&up);
		}
		want_tracking(watches[i], holder, i);
		views[i] = (struct upstream_view){watch_upstream(watches[i]), watch_topology(watches[i])};
	}
	for (size_t i = 0; i < ctl->n_watches; i++)
		watch_free(&ctl->watches[i]);
	free(ctl->watches);
	ctl->watches = watches;
	ctl->n_watches = n;
	control_change_tokens(ctl, holder);
	publish(ctl, snapshot_new(holder, views, n, ctl->snapshot ? ctl->snapshot->learnt : NULL, store));
	free(views);
}

void control_open_upstreams(struct control *ctl, struct shared_config *holder, struct store *store)
{
	control_change_upstreams(ctl, holder, store);
	wait_for_names(ctl);
}

void control_close_upstreams(struct control *ctl)
{
	control_close_tokens(ctl);
	for (size_t i = 0; i < ctl->n_watches; i++)
		watch_free(&ctl->watches[i]);
	free(ctl->watches);
}
