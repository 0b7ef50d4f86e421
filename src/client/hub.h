/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hub: one subscription link for each worker, however many clients listen, and in a Cluster one more for each
 * master whose shard channels are listened to. A channel is subscribed upstream while at least one client of the
 * worker wants it; a message is put together once and referenced by all its readers.
 *
 * A SUBSCRIBE or UNSUBSCRIBE is answered when Redis has confirmed it, so that what the client does next finds it true.
 * When the link is lost all channels are subscribed again as soon as the server is back; the clients stay. When a
 * reload gives names another meaning, the old channels are left when Redis has confirmed the new ones.
 *
 * The counts of all workers together (struct subscriptions) correct what PUBLISH and PUBSUB NUMSUB say: Redis counts
 * a hub as one receiver, however many clients stand behind it.
 */
#ifndef KEYWEIR_HUB_H
#define KEYWEIR_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "client/client.h"

enum hub_kind { HUB_CHANNEL, HUB_PATTERN, HUB_SHARD, HUB_KINDS };

struct hub;
struct subscriptions;

struct hub *hub_new(struct worker *w);
void hub_free(struct hub **hub);

/* The worker has a new snapshot, and its clients know: names may lead to other channels. */
void hub_take_config(struct hub *hub);

/* Reconnects when it must; every tick. */
void hub_tick(struct hub *hub);

/* For struct link_events of the hub's links, whose user this is. */
struct hub_link;
void hub_on_message(struct hub_link *hl, const char *data, size_t len, bool done);
void hub_on_lost(struct hub_link *hl);

static inline bool hub_is_subscriber(const struct client *c)
{
	return c->extra && (c->extra->n_subs[0] | c->extra->n_subs[1] | c->extra->n_subs[2]) > 0;
}

/* The client leaves, or RESET: nothing is answered. */
void hub_unsubscribe_all(struct client *c);

/* ---- counts over all workers (subscriptions.c) ---- */

struct subscriptions *subscriptions_new(void);
void subscriptions_free(struct subscriptions **s);

/* Adds to the number of clients, or of hubs, that listen to a name. */
void subscriptions_count(struct subscriptions *s, enum hub_kind kind, const char *name, size_t len, int clients,
			 int hubs);

/* What Redis's number of receivers of a message to `channel` lacks: clients less hubs, patterns included. */
int64_t subscriptions_correction(struct subscriptions *s, bool shard, const char *channel, size_t len);

/* The same for subscribers of exactly this name. */
int64_t subscriptions_extra(struct subscriptions *s, enum hub_kind kind, const char *name, size_t len);

#endif
