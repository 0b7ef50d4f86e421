/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads that are under way: see flight.h. */
#include "cache/flight.h"

#include <stdlib.h>
#include <string.h>

/* Who comes later does not rely on it: it may be lost, or its node slow. */
#define FLIGHT_JOIN_US 100000

struct flight *flight_new(const struct store_ask *ask)
{
	size_t key_len = ask->key.len, args_len = ask->request.args_len;
	struct flight *f = malloc(sizeof(*f) + key_len + args_len + 1);

	if (!f)
		return NULL;
	*f = (struct flight){
		.key = ask->key,
		.request = ask->request,
		.truth = ask->truth,
		.started_us = ask->now_us,
		.race_us = ask->race_us,
		.namespace = ask->namespace,
	};
	list_init(&f->node);
	f->last = &f->waiters;
	memcpy(f->names, ask->key.p, key_len);
	if (args_len)
		memcpy(f->names + key_len, ask->request.args, args_len);
	f->key.p = f->names;
	f->request.args = f->names + key_len;
	return f;
}

void flight_free(struct flight **f)
{
	free(*f);
	*f = NULL;
}

static bool is_for(const struct flight *f, const struct store_ask *ask)
{
	const struct store_request *a = &f->request, *b = &ask->request;

	if (f->key.hash != ask->key.hash || f->key.upstream != ask->key.upstream || f->key.len != ask->key.len)
		return false;
	if (f->truth.node != ask->truth.node || f->truth.epoch != ask->truth.epoch)
		return false;
	if (a->command != b->command || a->db != b->db || a->proto != b->proto || a->args_len != b->args_len)
		return false;
	return memcmp(f->key.p, ask->key.p, f->key.len) == 0 &&
	       (a->args_len == 0 || memcmp(a->args, b->args, a->args_len) == 0);
}

struct flight *flight_find(struct list *heads, const struct store_ask *ask, bool race)
{
	/* The newest first. */
	LIST_EACH (pos, next, flight_head(heads, ask->key.hash)) {
		struct flight *f = container_of(pos, struct flight, node);

		if (f->race != race || !is_for(f, ask))
			continue;
		if (ask->now_us - f->started_us > FLIGHT_JOIN_US || (ask->newer_us && f->started_us <= ask->newer_us))
			return NULL;
		return f;
	}
	return NULL;
}

void flight_join(struct flight *f, struct store_waiter *w)
{
	w->next = NULL;
	*f->last = w;
	f->last = &w->next;
}

void flight_kill(struct flight *f)
{
	f->killed = true;
	list_remove(&f->node);
}

void flight_kill_hash(struct list *heads, uint64_t hash)
{
	LIST_EACH (pos, next, flight_head(heads, hash)) {
		struct flight *f = container_of(pos, struct flight, node);

		if (f->key.hash == hash)
			flight_kill(f);
	}
}
