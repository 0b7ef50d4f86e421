/* SPDX-License-Identifier: BSD-2-Clause */
/* The worker's subscription link and who listens to what: see hub.h. The commands are in subscribe.c. */
#include "client/hub.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "client/hub_private.h"
#include "resp/write.h"
#include "server.h"

static const char *const verbs[HUB_KINDS] = {"subscribe", "psubscribe", "ssubscribe"};
static const char *const unverbs[HUB_KINDS] = {"unsubscribe", "punsubscribe", "sunsubscribe"};

struct hub *hub_new(struct worker *w)
{
	struct hub *hub = xcalloc(1, sizeof(*hub));

	hub->w = w;
	for (int i = 0; i < HUB_KINDS; i++)
		map_init(&hub->channels[i]);
	list_init(&hub->waiting);
	return hub;
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
	if (hub->link)
		hub->link->user = NULL;
	for (int i = 0; i < HUB_KINDS; i++) {
		map_each(&hub->channels[i], free_channel, NULL);
		map_fini(&hub->channels[i]);
	}
	buf_release(&hub->message);
	free(hub);
}

/* ---- upstream side ---- */

static void send_verb(struct hub *hub, const char *verb, const struct channel *ch)
{
	struct buf b = {0};

	resp_array(&b, 2);
	resp_bulks(&b, verb);
	resp_bulk(&b, ch->name, ch->name_len);
	link_send_more(hub->link, buf_head(&b), buf_len(&b));
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

/* Applies fn to every channel; fn may forget the one it is given. */
static void each_channel(struct hub *hub, void (*fn)(struct hub *hub, struct channel *ch))
{
	for (int kind = 0; kind < HUB_KINDS; kind++) {
		struct channel_list all = {xcalloc(hub->channels[kind].n, sizeof(struct channel *)), 0};

		map_each(&hub->channels[kind], collect, &all);
		for (size_t i = 0; i < all.n; i++)
			fn(hub, all.items[i]);
		free(all.items);
	}
}

static void subscribe_again(struct hub *hub, struct channel *ch)
{
	if (!ch->wanted)
		return;
	ch->expected = 1;
	send_verb(hub, verbs[ch->kind], ch);
}

static bool open_link(struct hub *hub)
{
	struct pool *p = worker_main_pool(hub->w);

	if (hub->link)
		return true;
	if (!p || pool_special(p, LINK_HUB, 2, &hub->link) != POOL_OK) {
		hub->link = NULL;
		return false;
	}
	hub->link->user = hub;
	each_channel(hub, subscribe_again);
	return true;
}

bool hub_want(struct hub *hub, struct channel *ch)
{
	if (ch->wanted)
		return true;
	if (!open_link(hub))
		return false;
	ch->wanted = true;
	ch->expected++;
	send_verb(hub, verbs[ch->kind], ch);
	return true;
}

bool hub_unwant(struct hub *hub, struct channel *ch)
{
	bool tell = ch->wanted && hub->link;

	if (!list_empty(&ch->subs) || ch->n_waiting > 0)
		return false;
	ch->wanted = false;
	if (tell) {
		ch->expected++;
		send_verb(hub, unverbs[ch->kind], ch);
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
	memcpy(ch->name, name, len);
	list_init(&ch->subs);
	map_set(&hub->channels[kind], name, len, ch);
	return ch;
}

/* ---- messages ---- */

/* One message for many readers: the frame behind its first byte is the same in both protocols. */
static void distribute(struct hub *hub, struct channel *ch, const char *data, size_t len)
{
	struct rcbuf *rb = rcbuf_new(data, len);

	if (!rb)
		return;
	LIST_EACH (pos, next, &ch->subs) {
		struct sub *sub = container_of(pos, struct sub, in_channel);
		struct client *c = sub->client;

		/* A message is larger than 1 KB, or it is copied: its first byte goes alone either way. */
		client_push_message(c, rb);
		counter_add(&hub->w->counters.messages, 1);
	}
	rcbuf_unref(rb);
}

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
		ch->expected++;
		send_verb(hub, verbs[ch->kind], ch);
	}
	ch->n_waiting++; /* held: a command that is answered now may be the last that wanted it */
	if (ch->expected == 0)
		hub_settled(hub);
	ch->n_waiting--;
	hub_maybe_forget(hub, ch);
}

static bool is_word(const struct reply_item *item, const char *word)
{
	return item->len == strlen(word) && memcmp(item->text, word, item->len) == 0;
}

static void handle_message(struct hub *hub, const char *data, size_t len)
{
	static const char *const words[HUB_KINDS] = {"message", "pmessage", "smessage"};
	struct reply_cursor cur = {data, data + len};
	struct reply_item head, what, name;
	struct channel *ch;

	if (!reply_cursor_next(&cur, &head) || head.type != '*' || !reply_cursor_next(&cur, &what) ||
	    what.type != '$' || what.number < 0 || !reply_cursor_next(&cur, &name) || name.type != '$' ||
	    name.number < 0)
		return;
	for (int kind = 0; kind < HUB_KINDS; kind++) {
		ch = map_get(&hub->channels[kind], name.text, name.len);
		if (!ch)
			continue;
		if (is_word(&what, words[kind])) {
			distribute(hub, ch, data, len);
			return;
		}
		if (is_word(&what, verbs[kind]) || is_word(&what, unverbs[kind])) {
			confirmed(hub, ch, is_word(&what, verbs[kind]));
			return;
		}
	}
}

void hub_on_message(struct hub *hub, const char *data, size_t len, bool done)
{
	if (done && buf_len(&hub->message) == 0) {
		handle_message(hub, data, len);
		return;
	}
	if (!buf_append(&hub->message, data, len)) {
		link_close(hub->link, "out of memory for a message");
		return;
	}
	if (!done)
		return;
	handle_message(hub, buf_head(&hub->message), buf_len(&hub->message));
	if (hub->message.capacity > 65536)
		buf_release(&hub->message);
	hub->message.start = hub->message.end = 0;
}

/* ---- losing and finding the server ---- */

static void channel_lost(struct hub *hub, struct channel *ch)
{
	ch->expected = 0;
	if (ch->counted)
		subscriptions_count(hub->w->server->subscriptions, ch->kind, ch->name, ch->name_len, 0, -1);
	ch->counted = false;
	hub_maybe_forget(hub, ch);
}

void hub_on_lost(struct hub *hub)
{
	hub->link = NULL;
	hub->message.start = hub->message.end = 0;
	hub_fail_waiting(hub);
	each_channel(hub, channel_lost);
}

void hub_tick(struct hub *hub)
{
	size_t n = hub->channels[0].n + hub->channels[1].n + hub->channels[2].n;

	if (!hub->link && n > 0)
		open_link(hub);
	else if (hub->link && n == 0 && hub->link->state == LINK_READY)
		link_drop(hub->link, "no subscriptions");
}

/* ---- client side ---- */

void hub_add_sub(struct hub *hub, struct client *c, struct channel *ch)
{
	struct client_extra *x = client_extra(c);
	struct sub *sub = xcalloc(1, sizeof(*sub));

	if (!hub_is_subscriber(c))
		counter_add(&hub->w->counters.subscribers, 1);
	sub->client = c;
	sub->channel = ch;
	list_append(&ch->subs, &sub->in_channel);
	ch->n_subs++;
	list_append(&x->subs[ch->kind], &sub->in_client);
	x->n_subs[ch->kind]++;
	subscriptions_count(hub->w->server->subscriptions, ch->kind, ch->name, ch->name_len, 1, 0);
}

bool hub_remove_sub(struct hub *hub, struct sub *sub)
{
	struct client *c = sub->client;
	struct channel *ch = sub->channel;

	list_remove(&sub->in_channel);
	list_remove(&sub->in_client);
	free(sub);
	ch->n_subs--;
	c->extra->n_subs[ch->kind]--;
	subscriptions_count(hub->w->server->subscriptions, ch->kind, ch->name, ch->name_len, -1, 0);
	if (!hub_is_subscriber(c))
		counter_add(&hub->w->counters.subscribers, (uint64_t)-1);
	return hub_unwant(hub, ch);
}

struct sub *hub_find_sub(const struct client *c, const struct channel *ch)
{
	if (!c->extra || !ch)
		return NULL;
	/* The shorter list: many clients on one channel, or one client on many. */
	if (ch->n_subs < c->extra->n_subs[ch->kind]) {
		LIST_EACH (pos, next, &ch->subs) {
			struct sub *sub = container_of(pos, struct sub, in_channel);

			if (sub->client == c)
				return sub;
		}
		return NULL;
	}
	LIST_EACH (pos, next, &c->extra->subs[ch->kind]) {
		struct sub *sub = container_of(pos, struct sub, in_client);

		if (sub->channel == ch)
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
