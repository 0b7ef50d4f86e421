/* SPDX-License-Identifier: BSD-2-Clause */
/* Immutable state shared by all threads: see snapshot.h. */
#include "snapshot.h"

#include <stdlib.h>

#include "base/mem.h"

struct snapshot *snapshot_new(struct shared_config *holder, const struct upstream_view *views, size_t n_views,
			      struct command_set *learnt, struct store *store)
{
	struct snapshot *s = xcalloc(1, sizeof(*s));

	atomic_init(&s->refs, 1);
	s->holder = shared_config_ref(holder);
	s->config = holder->config;
	s->views = xcalloc(n_views, sizeof(*s->views));
	s->n_views = n_views;
	for (size_t i = 0; i < n_views; i++) {
		s->views[i].up = upstream_ref(views[i].up);
		s->views[i].topo = topology_ref(views[i].topo);
	}
	s->learnt = command_set_ref(learnt);
	s->store = store_ref(store);
	return s;
}

struct snapshot *snapshot_with_commands(const struct snapshot *old, struct command_set *learnt)
{
	return snapshot_new(old->holder, old->views, old->n_views, learnt, old->store);
}

struct snapshot *snapshot_with_topology(const struct snapshot *old, const struct upstream *up, struct topology *topo)
{
	struct snapshot *s = snapshot_new(old->holder, old->views, old->n_views, old->learnt, old->store);

	for (size_t i = 0; i < s->n_views; i++) {
		if (s->views[i].up != up)
			continue;
		topology_unref(&s->views[i].topo);
		s->views[i].topo = topology_ref(topo);
	}
	return s;
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void snapshot_unref(struct snapshot **sp)
{
	struct snapshot *s = *sp;

	*sp = NULL;
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	for (size_t i = 0; i < s->n_views; i++) {
		upstream_unref(&s->views[i].up);
		topology_unref(&s->views[i].topo);
	}
	free(s->views);
	command_set_unref(&s->learnt);
	store_unref(&s->store);
	shared_config_unref(&s->holder);
	free(s);
}
