/* SPDX-License-Identifier: BSD-2-Clause */
/* Who serves what: see topology.h. */
#include "upstream/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "resp/errors.h"

struct topology *topology_new(unsigned n_shards, bool slots)
{
	struct topology *t = xcalloc(1, sizeof(*t));

	atomic_init(&t->refs, 1);
	t->n_shards = n_shards;
	t->shards = n_shards ? xcalloc(n_shards, sizeof(*t->shards)) : NULL;
	for (unsigned i = 0; i < n_shards; i++) {
		t->shards[i].any_slot = -1;
		atomic_init(&t->shards[i].nearest, -1);
	}
	if (slots) {
		t->slots = xcalloc(SLOTS, sizeof(*t->slots));
		memset(t->slots, 0xff, SLOTS * sizeof(*t->slots));
	}
	return t;
}

struct topology *topology_ref(struct topology *t)
{
	atomic_fetch_add(&t->refs, 1);
	return t;
}

void topology_unref(struct topology **tp)
{
	struct topology *t = *tp;

	*tp = NULL;
	if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < t->n_shards; i++) {
		node_unref(&t->shards[i].master);
		for (unsigned j = 0; j < t->shards[i].n_replicas; j++)
			node_unref(&t->shards[i].replicas[j]);
	}
	free(t->shards);
	free(t->slots);
	free(t);
}

struct topology *topology_of_node(struct node *master)
{
	struct topology *t = topology_new(1, false);

	t->shards[0].master = master;
	return t;
}

struct topology *topology_empty(const char *why)
{
	struct topology *t = topology_new(0, false);

	snprintf(t->why, sizeof(t->why), "%s: %s", reply_error_text(ERROR_UPSTREAM_DOWN), why);
	return t;
}

static bool same_shard(const struct shard *a, const struct shard *b)
{
	return a->master == b->master && a->n_replicas == b->n_replicas && a->scan_id == b->scan_id &&
	       memcmp(a->replicas, b->replicas, a->n_replicas * sizeof(a->replicas[0])) == 0;
}

bool topology_same(const struct topology *a, const struct topology *b)
{
	if (a->n_shards != b->n_shards || !a->slots != !b->slots || strcmp(a->why, b->why) != 0)
		return false;
	for (unsigned i = 0; i < a->n_shards; i++)
		if (!same_shard(&a->shards[i], &b->shards[i]))
			return false;
	return !a->slots || memcmp(a->slots, b->slots, SLOTS * sizeof(*a->slots)) == 0;
}

void topology_each(const struct topology *t, void (*fn)(void *ctx, struct node *n, bool master), void *ctx)
{
	for (unsigned i = 0; i < t->n_shards; i++) {
		if (t->shards[i].master)
			fn(ctx, t->shards[i].master, true);
		for (unsigned j = 0; j < t->shards[i].n_replicas; j++)
			fn(ctx, t->shards[i].replicas[j], false);
	}
}
