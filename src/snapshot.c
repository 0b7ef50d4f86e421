/* SPDX-License-Identifier: BSD-2-Clause */
/* Immutable state shared by all threads: see snapshot.h. */
#include "snapshot.h"

#include <stdlib.h>

#include "base/mem.h"

struct snapshot *snapshot_new(struct config *config, struct node *node, struct command_set *learnt)
{
	struct snapshot *s = xcalloc(1, sizeof(*s));

	atomic_init(&s->refs, 1);
	s->config = config;
	s->config_refs = xcalloc(1, sizeof(*s->config_refs));
	atomic_init(s->config_refs, 1);
	s->node = node_ref(node);
	s->learnt = command_set_ref(learnt);
	return s;
}

struct snapshot *snapshot_with_commands(const struct snapshot *old, struct command_set *learnt)
{
	struct snapshot *s = xcalloc(1, sizeof(*s));

	atomic_init(&s->refs, 1);
	s->config = old->config;
	s->config_refs = old->config_refs;
	atomic_fetch_add(s->config_refs, 1);
	s->node = node_ref(old->node);
	s->learnt = command_set_ref(learnt);
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
	node_unref(&s->node);
	command_set_unref(&s->learnt);
	if (atomic_fetch_sub(s->config_refs, 1) == 1) {
		config_free(&s->config);
		free(s->config_refs);
	}
	free(s);
}
