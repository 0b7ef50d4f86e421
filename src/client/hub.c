/* SPDX-License-Identifier: BSD-2-Clause */
/* The worker's subscription link and who listens to what: see hub.h. The commands are in subscribe.c. */
#include "client/hub.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "client/hub_private.h"
#include "client/redirect.h"
#include "resp/write.h"
#include "server.h"
#include "upstream/route.h"

#define PLACE_PAUSE_US 100000
#define SWEEP_US       1000000
#define SILENT_TIMES   5 /* read_timeouts without an answer */

static const char *const verbs[HUB_KINDS] = {"subscribe", "psubscribe", "ssubscribe"};
static const char *const unverbs[HUB_KINDS] = {"unsubscribe", "punsubscribe", "sunsubscribe"};

struct hub *hub_new(struct worker *w)
{
	struct hub *hub = xcalloc(1, sizeof(*hub));

	hub->w = w;
	hub->holder = shared_config_ref(w->snapshot->holder);
	for (int i = 0; i < HUB_KINDS; i++)
		map_init(&hub->channels[i]);
	list_init(&hub->waiting);
	list_init(&hub->links);
	return hub;
}

static void forget_link(struct hub_link *hl)
{
	if (hl->link)
		hl->link->user = NULL;
	if (hl->hub->main == hl)
		hl->hub->main = NULL;
	list_remove(&hl->node);
	buf_release(&hl->message);
	free(hl);
}

static void free_channel(void *ctx, const struct map_entry *e)
{
	(void)ctx;
	free(e->value);
}

void hub_free(struct hub **hubp)
{
	struct hub *hub = *hubp;

	*hubp = NULL;
	LIST_EACH (pos, next, &hub->links)
		forget_link(container_of(pos, struct hub_link, node));
	for (int i = 0; i < HUB_KINDS; i++) {
		map_each(&hub->channels[i], free_channel, NULL);
		map_fini(&hub->channels[i]);
	}
	shared_config_unref(&hub->holder);
	shared_config_unref(&hub->before);
	free(hub);
}

/* ---- upstream side ---- */

static void ask(struct hub *hub, const char *verb, struct channel *ch)
{
	struct buf b = {0};

	hub->n_asked++;
	if (ch->expected++ == 0)
		ch->asked = hub->n_asked;

	resp_array(&b, 2);
	resp_bulks(&b, verb);
	resp_bulk(&b, ch->name, ch->name_len);
	link_send_more(ch->on->link, buf_head(&b), buf_len(&b));
	buf_release(&b);
}

struct channel_list {
	struct channel **items;
	size_t n;
};

static void collect(void *ctx, const struct map_entry *e)
{
	struct channel_list *all = ctx;

	all->items[all->n++] = e->value;
}

static struct channel_list list_channels(struct hub *hub, enum hub_kind kind)
{
	struct channel_list all = {xcalloc(hub->channels[kind].n + 1, sizeof(struct channel *)), 0};

	map_each(&hub->channels[kind], collect, &all);
	return all;
}

/* Applies fn to every channel; fn may forget the one it is given. */
static void each_channel(struct hub *hub, void (*fn)(struct hub *hub, struct channel *ch))
{
	for (int kind = 0; kind < HUB_KINDS; kind++) {
		struct channel_list all = list_channels(hub, kind);

		for (size_t i = 0; i < all.n; i++)
			fn(hub, all.items[i]);
		free(all.items);
	}
}

/* The pool that a channel is to be heard on; NULL: there is none now. */
static struct pool *pool_for(struct hub *hub, const struct channel *ch)
{
	if (ch->slot >= 0)
		return route_master(&hub->w->routes[0], ch->slot);
	return hub->main ? hub->main->link->pool : worker_main_pool(hub->w);
}

static struct hub_link *link_on(struct hub *hub, struct pool *p, bool main)
{
	struct hub_link *hl;

	if (main && hub->main)
		return hub->main;
	LIST_EACH (pos, next, &hub->links) {
		hl = container_of(pos, struct hub_link, node);
		if (hl->link->pool == p && hl != hub->main && !main)
			return hl;
	}
	hl = xcalloc(1, sizeof(*hl));
	if (pool_special(p, LINK_HUB, 2, &hl->link) != POOL_OK) {
		free(hl);
		return NULL;
	}
	hl->hub = hub;
	hl->link->user = hl;
	list_append(&hub->links, &hl->node);
	if (main)
		hub->main = hl;
	return hl;
}

/* Subscribes a channel that is nowhere. */
static bool place(struct hub *hub, struct channel *ch)
{
	struct pool *p = pool_for(hub, ch);

	ch->on = p ? link_on(hub, p, ch->slot < 0) : NULL;
	if (!ch->on) {
		hub->unplaced = true;
		return false;
	}
	ch->expected = 0;
	ask(hub, verbs[ch->kind], ch);
	return true;
}

static void uncount(struct hub *hub, struct channel *ch)
{
	if (ch->counted)
		subscriptions_count(hub->w->server->subscriptions, ch->kind, ch->name, ch->name_len, 0, -1);
	ch->counted = false;
}

/* Where its slot has gone it is subscribed anew; the node that lost the slot has dropped it by itself. */
static void place_again(struct hub *hub, struct channel *ch)
{
	if (!ch->wanted)
		return;
	if (ch->on && ch->slot >= 0 && pool_for(hub, ch) != ch->on->link->pool) {
		uncount(hub, ch);
		ch->on = NULL;
	}
	if (!ch->on)
		place(hub, ch);
}

bool hub_want(struct hub *hub, struct channel *ch)
{
	if (ch->wanted)
		return ch->on || hub->unplaced;
	if (ch->on && ch->expected > 0) { /* it is being left */
		ask(hub, verbs[ch->kind], ch);
	} else if (!place(hub, ch)) {
		return false;
	}
	ch->wanted = true;
	return true;
}

bool hub_unwant(struct hub *hub, struct channel *ch)
{
	bool tell = ch->wanted && ch->on && ch->on->link;

	if (!list_empty(&ch->subs) || ch->n_waiting > 0)
		return false;
	ch->wanted = false;
	if (tell) {
		ask(hub, unverbs[ch->kind], ch);
	} else if (!ch->on || !ch->on->link) {
		ch->expected = 0;
	}
	hub_maybe_forget(hub, ch);
	return tell;
}

void hub_maybe_forget(struct hub *hub, struct channel *ch)
{
	if (ch->wanted || ch->expected > 0 || !list_empty(&ch->subs) || ch->n_waiting > 0)
		return;
	map_del(&hub->channels[ch->kind], ch->name, ch->name_len);
	free(ch);
}

struct channel *hub_channel(struct hub *hub, enum hub_kind kind, const char *name, size_t len, bool make)
{
	struct channel *ch = map_get(&hub->channels[kind], name, len);

	if (ch || !make)
		return ch;
	ch = xcalloc(1, sizeof(*ch) + len + 1);
	ch->kind = kind;
	ch->name_len = len;
	ch->slot = kind == HUB_SHARD && hub->w->routes[0].topo->slots ? (int)hash_slot(name, len) : -1;
	memcpy(ch->name, name, len);
	list_init(&ch->subs);
	list_init(&ch->coming);
	map_set(&hub->channels[kind], name, len, ch);
	return ch;
}

/* ---- messages ---- */

static void confirmed(struct hub *hub, struct channel *ch, bool subscribed)
{
	if (ch->expected > 0)
		ch->expected--;
	if (subscribed != ch->counted) {
		ch->counted = subscribed;
		subscriptions_count(hub->w->server->subscriptions, ch->kind, ch->name, ch->name_len, 0,
				    subscribed ? 1 : -1);
	}
	/* Redis itself took it away (a shard channel whose slot moved): ask again. */
	if (!subscribed && ch->wanted && ch->expected == 0) {
		ch->on = NULL;
		ch->expected = 1;
		hub->unplaced = true;
		redirect_stale(hub->w, hub->w->routes[0].up);
	}
	ch->n_waiting++; /* held: a command that is answered now may be the last that wanted it */
	if (ch->expected == 0 && ch->counted)
		hub_arrived(hub, ch);
	if (ch->expected == 0)
		hub_settled(hub);
	ch->n_waiting--;
	hub_maybe_forget(hub, ch);
}

static bool is_word(const struct reply_item *item, const char *word)
{
	return item->len == strlen(word) && memcmp(item->text, word, item->len) == 0;
}

/* An error names no channel: Redis answers in order, so it is about the one that was asked for first. */
static void refuse(struct hub_link *hl, const char *text)
{
	struct channel *first = NULL;

	for (int kind = 0; kind < HUB_KINDS; kind++) {
		struct channel_list all = list_channels(hl->hub, kind);

		for (size_t i = 0; i < all.n; i++) {
			struct channel *ch = all.items[i];

			if (ch->on == hl && ch->expected > 0 && (!first || ch->asked < first->asked))
				first = ch;
		}
		free(all.items);
	}
	if (!first)
		return;
	first->expected--;
	hub_refused(hl->hub, first, text);
}

/* "-MOVED 3999 host:port" to SSUBSCRIBE: by the next map. */
static void handle_error(struct hub_link *hl, const char *data, size_t len)
{
	static const char moved[] = "-MOVED ";
	struct hub *hub = hl->hub;
	struct channel_list all;
	char text[160];
	int slot;

	snprintf(text, sizeof(text), "%.*s", len > 2 ? (int)len - 2 : 0, data);
	redirect_stale(hub->w, hl->link->pool->server->up);
	if (strncmp(text, "-CLUSTERDOWN", 12) == 0) {
		link_close(hl->link, text + 1);
		return;
	}
	if (strncmp(text, moved, sizeof(moved) - 1) != 0) {
		refuse(hl, text + 1);
		return;
	}
	slot = atoi(text + sizeof(moved) - 1);
	all = list_channels(hub, HUB_SHARD);
	for (size_t i = 0; i < all.n; i++)
		if (all.items[i]->on == hl && all.items[i]->slot == slot && !all.items[i]->counted)
			all.items[i]->on = NULL;
	free(all.items);
	hub->unplaced = true;
}

static void handle_message(struct hub_link *hl, const char *data, size_t len)
{
	static const char *const words[HUB_KINDS] = {"message", "pmessage", "smessage"};
	struct reply_cursor cur = {data, data + len};
	struct reply_item head, what, name;
	struct hub *hub = hl->hub;
	struct channel *ch;

	if (len > 0 && *data == '-') {
		handle_error(hl, data, len);
		return;
	}
	if (!reply_cursor_next(&cur, &head) || head.type != '*' || !reply_cursor_next(&cur, &what) ||
	    what.type != '$' || what.number < 0 || !reply_cursor_next(&cur, &name) || name.type != '$' ||
	    name.number < 0)
		return;
	for (int kind = 0; kind < HUB_KINDS; kind++) {
		ch = map_get(&hub->channels[kind], name.text, name.len);
		if (!ch || ch->on != hl)
			continue;
		if (is_word(&what, words[kind])) {
			hub_distribute(hub, ch, data, len);
			return;
		}
		if (is_word(&what, verbs[kind]) || is_word(&what, unverbs[kind])) {
			confirmed(hub, ch, is_word(&what, verbs[kind]));
			return;
		}
	}
}

void hub_on_message(struct hub_link *hl, const char *data, size_t len, bool done)
{
	struct buf whole;

	if (done && buf_len(&hl->message) == 0) {
		handle_message(hl, data, len);
		return;
	}
	if (!buf_append(&hl->message, data, len)) {
		link_close(hl->link, "out of memory for a message");
		return;
	}
	if (!done)
		return;
	whole = hl->message;
	hl->message = (struct buf){0};
	handle_message(hl, buf_head(&whole), buf_len(&whole)); /* may be the end of hl */
	buf_release(&whole);
}

/* ---- losing and finding the server ---- */

void hub_on_lost(struct hub_link *hl)
{
	struct hub *hub = hl->hub;

	hl->link = NULL;
	hub_fail_waiting(hub, hl);
	for (int kind = 0; kind < HUB_KINDS; kind++) {
		struct channel_list all = list_channels(hub, kind);

		for (size_t i = 0; i < all.n; i++) {
			struct channel *ch = all.items[i];

			if (ch->on != hl)
				continue;
			ch->on = NULL;
			ch->expected = 0;
			uncount(hub, ch);
			hub_maybe_forget(hub, ch);
		}
		free(all.items);
	}
	hub->unplaced = true;
	forget_link(hl);
}

static size_t channels_on(struct hub *hub, const struct hub_link *hl)
{
	size_t n = 0;

	for (int kind = 0; kind < HUB_KINDS; kind++) {
		struct channel_list all = list_channels(hub, kind);

		for (size_t i = 0; i < all.n; i++)
			n += all.items[i]->on == hl;
		free(all.items);
	}
	return n;
}

/* A subscription says nothing by itself when its server is frozen or its host gone: it is asked now and then. */
static void ask_whether_there(struct hub_link *hl, int64_t now_us)
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n";
	const struct upstream_config *conf = hl->link->pool->server->conf;

	if (hl->link->read_us >= hl->asked_us) {
		if (now_us - hl->link->read_us < conf->health_check_ms * 1000)
			return;
		hl->asked_us = now_us;
		link_send_more(hl->link, ping, sizeof(ping) - 1);
	} else if (now_us - hl->asked_us > conf->read_timeout_ms * 1000 * SILENT_TIMES) {
		link_close(hl->link, "no answer on the subscription for too long");
	}
}

static void look_at_links(struct hub *hub)
{
	LIST_EACH (pos, next, &hub->links) {
		struct hub_link *hl = container_of(pos, struct hub_link, node);

		if (hl->link->state != LINK_READY)
			continue;
		if (channels_on(hub, hl) == 0)
			link_drop(hl->link, "no subscriptions");
		else
			ask_whether_there(hl, hub->w->now_us);
	}
}

void hub_take_config(struct hub *hub)
{
	struct shared_config *holder = hub->w->snapshot->holder;

	if (hub->holder == holder)
		return;
	each_channel(hub, hub_end_moves); /* of the reload before this one */
	assert(hub->n_moving == 0 && !hub->before);
	hub->before = hub->holder;
	hub->holder = shared_config_ref(holder);
	each_channel(hub, hub_rename_channel);
	if (hub->n_moving == 0)
		shared_config_unref(&hub->before);
}

void hub_tick(struct hub *hub)
{
	struct worker *w = hub->w;

	if (hub->generation != w->generation || (hub->unplaced && w->now_us - hub->place_us > PLACE_PAUSE_US)) {
		hub->generation = w->generation;
		hub->place_us = w->now_us;
		hub->unplaced = false;
		each_channel(hub, place_again);
	}
	if (w->now_us - hub->swept_us > SWEEP_US && !list_empty(&hub->links)) {
		hub->swept_us = w->now_us;
		look_at_links(hub);
	}
}

/* ---- client side ---- */

void hub_add_sub(struct hub *hub, struct client *c, struct channel *ch, struct alias *alias)
{
	struct client_extra *x = client_extra(c);
	struct sub *sub = xcalloc(1, sizeof(*sub));

	if (!hub_is_subscriber(c))
		counter_add(&hub->w->counters.subscribers, 1);
	sub->client = c;
	sub->channel = ch;
	sub->alias = alias;
	list_init(&sub->in_coming);
	list_append(&ch->subs, &sub->in_channel);
	ch->n_subs++;
	ch->n_aliases += alias != NULL;
	hub->n_aliases += alias != NULL;
	list_append(&x->subs[ch->kind], &sub->in_client);
	x->n_subs[ch->kind]++;
	subscriptions_count(hub->w->server->subscriptions, ch->kind, ch->name, ch->name_len, 1, 0);
}

bool hub_remove_sub(struct hub *hub, struct sub *sub)
{
	struct client *c = sub->client;
	struct channel *ch = sub->channel;

	if (sub->to)
		hub_stop_moving(hub, sub);
	list_remove(&sub->in_channel);
	list_remove(&sub->in_client);
	ch->n_subs--;
	ch->n_aliases -= sub->alias != NULL;
	hub->n_aliases -= sub->alias != NULL;
	free(sub->alias);
	free(sub);
	c->extra->n_subs[ch->kind]--;
	subscriptions_count(hub->w->server->subscriptions, ch->kind, ch->name, ch->name_len, -1, 0);
	if (!hub_is_subscriber(c))
		counter_add(&hub->w->counters.subscribers, (uint64_t)-1);
	return hub_unwant(hub, ch);
}

struct sub *hub_find_sub(const struct client *c, const struct channel *ch, const struct alias *alias)
{
	if (!c->extra || !ch)
		return NULL;
	/* The shorter list: many clients on one channel, or one client on many. */
	if (ch->n_subs < c->extra->n_subs[ch->kind]) {
		LIST_EACH (pos, next, &ch->subs) {
			struct sub *sub = container_of(pos, struct sub, in_channel);

			if (sub->client == c && alias_is_same(sub->alias, alias))
				return sub;
		}
		return NULL;
	}
	LIST_EACH (pos, next, &c->extra->subs[ch->kind]) {
		struct sub *sub = container_of(pos, struct sub, in_client);

		if (sub->channel == ch && alias_is_same(sub->alias, alias))
			return sub;
	}
	return NULL;
}

void hub_unsubscribe_all(struct client *c)
{
	hub_forget_waiting(c->w->hub, c);
	if (!c->extra)
		return;
	for (int kind = 0; kind < HUB_KINDS; kind++)
		LIST_EACH (pos, next, &c->extra->subs[kind])
			hub_remove_sub(c->w->hub, container_of(pos, struct sub, in_client));
}
