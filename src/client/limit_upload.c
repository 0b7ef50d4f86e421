/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that are too large to be kept (client_io.c): they pass when their head is here, and what follows it nobody
 * knows. Where bytes are counted (cost = "bytes") what there was more of them is taken afterwards, whatever is owed
 * then.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "client/limit_private.h"

struct owed {
	struct buckets *buckets; /* a reference; NULL: it is a lease */
	struct buf name;	 /* of the lease, upstream */
	struct gcra gcra;
	uint64_t hash;
	int64_t paid; /* bytes */
};

/* Of the request that a client has begun to send. */
struct limit_upload {
	size_t n;
	struct owed items[];
};

static bool concerns(const struct limit_charge *one)
{
	return one->rule->conf->cost == LIMIT_COST_BYTES && one->wait >= 0;
}

static void note(struct client *c, const struct limit_charge *one, struct owed *out)
{
	*out = (struct owed){.gcra = one->rule->gcra, .hash = one->hash, .paid = one->n};
	if (one->leased)
		limit_put_name(c, one, &out->name);
	else
		out->buckets = buckets_ref(one->rule->buckets);
}

void limit_upload_begin(struct client *c)
{
	const struct limit_charges *all = c->w->limit_charges;
	struct limit_upload *u;
	size_t n = 0;

	limit_upload_forget(c);
	for (size_t i = 0; i < all->n; i++)
		n += concerns(&all->items[i]);
	if (n == 0)
		return;
	u = xcalloc(1, sizeof(*u) + n * sizeof(*u->items));
	for (size_t i = 0; i < all->n; i++)
		if (concerns(&all->items[i]))
			note(c, &all->items[i], &u->items[u->n++]);
	client_extra(c)->limit_upload = u;
}

void limit_upload_end(struct client *c, int64_t bytes)
{
	struct limit_upload *u = c->extra->limit_upload;

	for (size_t i = 0; i < u->n; i++) {
		const struct owed *o = &u->items[i];
		int64_t more = bytes - o->paid;

		if (more <= 0)
			continue;
		if (o->buckets)
			buckets_take(o->buckets, o->hash, &o->gcra, more, c->w->now_us * 1000, INT64_MAX);
		else
			lease_owe(c->w, &o->name, gcra_span(&o->gcra, more));
	}
	limit_upload_forget(c);
}

void limit_upload_forget(struct client *c)
{
	struct limit_upload *u = c->extra ? c->extra->limit_upload : NULL;

	for (size_t i = 0; u && i < u->n; i++) {
		buckets_unref(&u->items[i].buckets);
		buf_release(&u->items[i].name);
	}
	free(u);
	if (c->extra)
		c->extra->limit_upload = NULL;
}
