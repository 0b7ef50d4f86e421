/* SPDX-License-Identifier: BSD-2-Clause */
/* SUBSCRIBE and its kin: the commands over the hub. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/hub_private.h"
#include "policy/channel.h"
#include "resp/write.h"
#include "server.h"

static const char *const words[2][HUB_KINDS] = {{"unsubscribe", "punsubscribe", "sunsubscribe"},
						{"subscribe", "psubscribe", "ssubscribe"}};

/*
 * What a client publishes and hears itself comes behind the reply of the command that published (as Redis does since
 * 7.2); over another link it may be here earlier.
 */
static bool may_be_its_own(const struct client *c)
{
	const struct request *r = c->head;

	return r && r->cmd && !(r->flags & REQUEST_BLOCKING) &&
	       (r->flags & REQUEST_IN_TX || r->cmd->flags & CMD_MAY_REPLICATE);
}

void client_push_message(struct client *c, struct rcbuf *rb)
{
	if (c->proto == 2) {
		client_push_ref(c, rb, 0);
		return;
	}
	if (c->closed)
		return;
	if (may_be_its_own(c)) {
		client_push_later(c, ">", 1);
		client_push_later(c, rb->data + 1, rb->len - 1);
	} else {
		client_push(c, ">", 1);
		client_push_ref(c, rb, 1);
	}
}

/* Channels and patterns count together; shard channels by themselves. */
static int64_t count_of(const struct client *c, enum hub_kind kind)
{
	if (!c->extra)
		return 0;
	return kind == HUB_SHARD ? c->extra->n_subs[HUB_SHARD]
				 : (int64_t)c->extra->n_subs[HUB_CHANNEL] + c->extra->n_subs[HUB_PATTERN];
}

/* A name as a client writes it. Borrowed; p NULL: none. */
struct name {
	const char *p;
	size_t len;
};

static struct name called(const struct sub *sub)
{
	return sub->alias ? (struct name){sub->alias->text, sub->alias->len}
			  : (struct name){sub->channel->name, sub->channel->name_len};
}

static void put_confirmation(struct buf *b, struct client *c, enum hub_kind kind, bool subscribe, struct name name)
{
	resp_push(b, c->proto, 3);
	resp_bulks(b, words[subscribe][kind]);
	if (name.p)
		resp_bulk(b, name.p, name.len);
	else
		resp_null(b, c->proto);
	resp_int(b, count_of(c, kind));
}

/* Confirmations and messages are no replies: CLIENT REPLY OFF and SKIP do not silence them (Redis: CLIENT_PUSHING). */
static struct request *confirmation_request(struct client *c, const struct call *call)
{
	struct request *r = client_request_new(c, call);

	r->flags &= ~(uint32_t)REQUEST_SILENT;
	return r;
}

/*
 * The channel that a client means by a name, and what it calls it then (NULL: the same). NULL: nobody listens to it,
 * and it is not to be made.
 */
static struct channel *find_channel(struct client *c, enum hub_kind kind, struct name name, bool make,
				    struct alias **alias)
{
	struct view v = c->view;
	struct buf upstream = {0};
	struct channel *ch;

	*alias = NULL;
	if (!namespaces_active(v.all))
		return hub_channel(c->w->hub, kind, name.p, name.len, make);
	if (kind == HUB_PATTERN)
		channel_pattern_put(&v, name.p, name.len, &upstream);
	else
		channel_put(&v, name.p, name.len, &upstream);
	ch = hub_channel(c->w->hub, kind, buf_head(&upstream), buf_len(&upstream), make);
	if (ch && (buf_len(&upstream) != name.len || memcmp(buf_head(&upstream), name.p, name.len) != 0)) {
		*alias = xcalloc(1, sizeof(**alias) + name.len);
		(*alias)->len = name.len;
		memcpy((*alias)->text, name.p, name.len);
	}
	buf_release(&upstream);
	return ch;
}

/* ---- names that lead elsewhere ---- */

static struct alias *leave_coming(struct hub *hub, struct sub *sub)
{
	struct alias *alias = sub->to_alias;

	list_remove(&sub->in_coming);
	sub->to->n_waiting--;
	sub->to = NULL;
	sub->to_alias = NULL;
	if (--hub->n_moving == 0)
		shared_config_unref(&hub->before);
	return alias;
}

void hub_stop_moving(struct hub *hub, struct sub *sub)
{
	struct channel *to = sub->to;

	free(leave_coming(hub, sub));
	hub_unwant(hub, to);
}

/* It goes where its name leads; or it ends, when the client listens there by this name already. */
static void arrive(struct hub *hub, struct sub *sub)
{
	struct client *c = sub->client;
	struct channel *to = sub->to;
	struct alias *alias = leave_coming(hub, sub);

	if (hub_find_sub(c, to, alias))
		free(alias);
	else
		hub_add_sub(hub, c, to, alias);
	hub_remove_sub(hub, sub);
}

void hub_arrived(struct hub *hub, struct channel *ch)
{
	LIST_EACH (pos, next, &ch->coming)
		arrive(hub, container_of(pos, struct sub, in_coming));
}

/* The client listens to ch anew: what it has on the way there need not be waited for. */
static void client_arrives(struct hub *hub, struct channel *ch, const struct client *c)
{
	LIST_EACH (pos, next, &ch->coming) {
		struct sub *sub = container_of(pos, struct sub, in_coming);

		if (sub->client == c)
			arrive(hub, sub);
	}
}

/* Where its name leads elsewhere now the subscription sets out. Both channels are listened to meanwhile. */
static void move(struct hub *hub, struct sub *sub)
{
	struct alias *alias;
	struct channel *ch = find_channel(sub->client, sub->channel->kind, called(sub), true, &alias);

	if (ch == sub->channel || ch == sub->to) {
		free(alias);
		return;
	}
	sub->to = ch;
	sub->to_alias = alias;
	ch->n_waiting++;
	list_append(&ch->coming, &sub->in_coming);
	hub->n_moving++;
	if (!hub_want(hub, ch))
		ch->wanted = true; /* as soon as the server is there */
	if (ch->counted && ch->expected == 0)
		arrive(hub, sub);
}

void hub_rename_channel(struct hub *hub, struct channel *ch)
{
	if (list_empty(&ch->subs))
		return;
	ch->n_waiting++; /* held */
	LIST_EACH (pos, next, &ch->subs)
		move(hub, container_of(pos, struct sub, in_channel));
	ch->n_waiting--;
	hub_unwant(hub, ch);
}

void hub_end_moves(struct hub *hub, struct channel *from)
{
	if (list_empty(&from->subs))
		return;
	from->n_waiting++; /* held */
	LIST_EACH (pos, next, &from->subs) {
		struct sub *sub = container_of(pos, struct sub, in_channel);

		if (sub->to)
			arrive(hub, sub);
	}
	from->n_waiting--;
	hub_unwant(hub, from);
}

/* ---- SUBSCRIBE ---- */

/* The client listens from now on; item's alias is used up. */
static void begin(struct hub *hub, struct client *c, struct wanted *item, struct buf *out)
{
	struct channel *ch = item->channel;
	struct sub *sub;

	client_arrives(hub, ch, c);
	sub = hub_find_sub(c, ch, item->alias);
	if (sub) {
		free(item->alias);
	} else {
		hub_add_sub(hub, c, ch, item->alias);
		sub = container_of(ch->subs.prev, struct sub, in_channel);
	}
	item->alias = NULL;
	put_confirmation(out, c, ch->kind, true, called(sub));
	if (sub->alias || namespaces_active(c->view.all))
		move(hub, sub); /* there may have been a reload meanwhile */
}

/* Everything is confirmed: the subscriptions begin (or have ended), and the client hears of it. */
static void finish(struct hub *hub, struct hub_wait *wait)
{
	struct request *r = wait->request;
	struct client *c = r->client;

	list_remove(&wait->node);
	for (size_t i = 0; i < wait->n; i++) {
		struct channel *ch = wait->items[i].channel;

		ch->n_waiting--;
		if (wait->subscribe)
			begin(hub, c, &wait->items[i], &r->reply);
		else
			hub_maybe_forget(hub, ch);
	}
	free(wait);
	if (c->wait == WAIT_ANSWER)
		client_resume_soon(c);
	client_request_done(r);
}

static bool is_settled(const struct hub_wait *wait)
{
	for (size_t i = 0; i < wait->n; i++)
		if (wait->items[i].channel->expected > 0)
			return false;
	return true;
}

void hub_settled(struct hub *hub)
{
	LIST_EACH (pos, next, &hub->waiting) {
		struct hub_wait *wait = container_of(pos, struct hub_wait, node);

		if (is_settled(wait))
			finish(hub, wait);
	}
}

/* Drops a waiting command; its channels lose what held them. */
static void drop(struct hub *hub, struct hub_wait *wait)
{
	list_remove(&wait->node);
	for (size_t i = 0; i < wait->n; i++) {
		wait->items[i].channel->n_waiting--;
		hub_unwant(hub, wait->items[i].channel);
		free(wait->items[i].alias);
	}
	free(wait);
}

static bool waits_on(const struct hub_wait *wait, const struct hub_link *hl)
{
	for (size_t i = 0; i < wait->n; i++)
		if (wait->items[i].channel->on == hl && wait->items[i].channel->expected > 0)
			return true;
	return false;
}

static void fail(struct hub *hub, struct hub_wait *wait, const char *text)
{
	struct request *r = wait->request;
	struct client *c = r->client;

	if (!wait->subscribe) {
		finish(hub, wait);
		return;
	}
	drop(hub, wait);
	if (c->wait == WAIT_ANSWER)
		client_resume_soon(c);
	client_fail_request(r, text);
}

void hub_fail_waiting(struct hub *hub, const struct hub_link *lost)
{
	LIST_EACH (pos, next, &hub->waiting) {
		struct hub_wait *wait = container_of(pos, struct hub_wait, node);

		if (waits_on(wait, lost))
			fail(hub, wait, reply_error_text(ERROR_UPSTREAM_DOWN));
	}
}

void hub_refused(struct hub *hub, struct channel *ch, const char *text)
{
	hub_arrived(hub, ch); /* as those do who are there already, they hear nothing */
	LIST_EACH (pos, next, &hub->waiting) {
		struct hub_wait *wait = container_of(pos, struct hub_wait, node);
		bool concerned = false;

		for (size_t i = 0; i < wait->n; i++)
			concerned = concerned || wait->items[i].channel == ch;
		if (concerned)
			fail(hub, wait, text);
	}
}

void hub_forget_waiting(struct hub *hub, struct client *c)
{
	LIST_EACH (pos, next, &hub->waiting) {
		struct hub_wait *wait = container_of(pos, struct hub_wait, node);

		if (wait->request->client == c || !wait->request->client)
			drop(hub, wait);
	}
}

/* Shard channels of several slots: Redis takes them one by one only. */
static bool crossslot(const struct hub_wait *wait)
{
	for (size_t i = 1; i < wait->n; i++)
		if (wait->items[i].channel->slot != wait->items[0].channel->slot)
			return true;
	return false;
}

static enum verdict subscribe(struct client *c, const struct call *call, enum hub_kind kind)
{
	struct hub *hub = c->w->hub;
	size_t n = call->frame->argc - 1, len;
	struct hub_wait *wait;
	struct arg_cursor cur;
	const char *arg;
	bool ok = true;

	wait = xcalloc(1, sizeof(*wait) + n * sizeof(wait->items[0]));
	wait->kind = kind;
	wait->subscribe = true;
	list_init(&wait->node);
	arg_cursor_init(&cur, call->bytes, call->len);
	arg_cursor_next(&cur, &arg, &len);
	while (arg_cursor_next(&cur, &arg, &len)) {
		struct wanted *item = &wait->items[wait->n++];
		struct channel *ch = find_channel(c, kind, (struct name){arg, len}, true, &item->alias);

		item->channel = ch;
		ch->n_waiting++;
		ok = ok && hub_want(hub, ch);
	}
	if (!ok || crossslot(wait)) {
		ok = !crossslot(wait);
		list_append(&hub->waiting, &wait->node);
		drop(hub, wait);
		client_reply_own_error(c, call, ok ? ERROR_UPSTREAM_DOWN : ERROR_CROSSSLOT);
		return CALL_DONE;
	}
	wait->request = confirmation_request(c, call);
	list_append(&hub->waiting, &wait->node);
	client_wait_for(c, WAIT_ANSWER);
	if (is_settled(wait))
		finish(hub, wait);
	return CALL_DONE;
}

/* What a client has subscribed to by this name; NULL: nothing. */
static struct sub *find_sub(struct client *c, enum hub_kind kind, struct name name)
{
	struct alias *alias;
	struct channel *ch = find_channel(c, kind, name, false, &alias);
	struct sub *sub = hub_find_sub(c, ch, alias);

	free(alias);
	if (sub || !c->extra || (c->w->hub->n_aliases == 0 && !namespaces_active(c->view.all)))
		return sub;
	/* A reload may have given the name another meaning just now. */
	LIST_EACH (pos, next, &c->extra->subs[kind]) {
		struct name known;

		sub = container_of(pos, struct sub, in_client);
		known = called(sub);
		if (known.len == name.len && memcmp(known.p, name.p, name.len) == 0)
			return sub;
	}
	return NULL;
}

/* Leaves one channel; when Redis must be told, the command waits for its confirmation. */
static void leave(struct client *c, struct hub_wait *wait, struct sub *sub, struct name name, struct buf *out)
{
	struct channel *ch = sub ? sub->channel : NULL;

	if (sub && hub_remove_sub(c->w->hub, sub)) {
		ch->n_waiting++;
		wait->items[wait->n++].channel = ch;
	}
	put_confirmation(out, c, wait->kind, false, name);
}

static void leave_all(struct client *c, struct hub_wait *wait, struct buf *out)
{
	LIST_EACH (pos, next, &c->extra->subs[wait->kind]) {
		struct sub *sub = container_of(pos, struct sub, in_client);
		struct name name = called(sub);
		char *p = xmemdup0(name.p, name.len); /* both may be gone when it is written */

		leave(c, wait, sub, (struct name){p, name.len}, out);
		free(p);
	}
}

static enum verdict unsubscribe(struct client *c, const struct call *call, enum hub_kind kind)
{
	bool all = call->frame->argc == 1;
	size_t n_max = all ? (c->extra ? c->extra->n_subs[kind] : 0) : call->frame->argc - 1, len;
	struct request *r = confirmation_request(c, call);
	struct hub_wait *wait = xcalloc(1, sizeof(*wait) + n_max * sizeof(wait->items[0]));
	struct arg_cursor cur;
	const char *arg;

	wait->kind = kind;
	wait->request = r;
	list_init(&wait->node);
	if (all && n_max == 0)
		put_confirmation(&r->reply, c, kind, false, (struct name){0});
	else if (all)
		leave_all(c, wait, &r->reply);
	arg_cursor_init(&cur, call->bytes, call->len);
	arg_cursor_next(&cur, &arg, &len);
	while (arg_cursor_next(&cur, &arg, &len)) {
		struct name name = {arg, len};

		leave(c, wait, find_sub(c, kind, name), name, &r->reply);
	}
	if (wait->n > 0) {
		list_append(&c->w->hub->waiting, &wait->node);
		client_wait_for(c, WAIT_ANSWER);
	} else {
		free(wait);
		client_request_done(r);
	}
	return CALL_DONE;
}

enum verdict handle_SUBSCRIBE(struct client *c, const struct call *call)
{
	return subscribe(c, call, HUB_CHANNEL);
}

enum verdict handle_PSUBSCRIBE(struct client *c, const struct call *call)
{
	return subscribe(c, call, HUB_PATTERN);
}

enum verdict handle_SSUBSCRIBE(struct client *c, const struct call *call)
{
	return subscribe(c, call, HUB_SHARD);
}

enum verdict handle_UNSUBSCRIBE(struct client *c, const struct call *call)
{
	return unsubscribe(c, call, HUB_CHANNEL);
}

enum verdict handle_PUNSUBSCRIBE(struct client *c, const struct call *call)
{
	return unsubscribe(c, call, HUB_PATTERN);
}

enum verdict handle_SUNSUBSCRIBE(struct client *c, const struct call *call)
{
	return unsubscribe(c, call, HUB_SHARD);
}
