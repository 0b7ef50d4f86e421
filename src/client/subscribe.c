/* SPDX-License-Identifier: BSD-2-Clause */
/* SUBSCRIBE and its kin, PUBLISH, PUBSUB: the commands over the hub. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/hub_private.h"
#include "resp/number.h"
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

static void put_confirmation(struct buf *b, struct client *c, enum hub_kind kind, bool subscribe, const char *name,
			     size_t len)
{
	resp_push(b, c->proto, 3);
	resp_bulks(b, words[subscribe][kind]);
	if (name)
		resp_bulk(b, name, len);
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

/* Everything is confirmed: the subscriptions begin (or have ended), and the client hears of it. */
static void finish(struct hub *hub, struct hub_wait *wait)
{
	struct request *r = wait->request;
	struct client *c = r->client;

	list_remove(&wait->node);
	for (size_t i = 0; i < wait->n; i++) {
		struct channel *ch = wait->channels[i];

		ch->n_waiting--;
		if (wait->subscribe && !hub_find_sub(c, ch))
			hub_add_sub(hub, c, ch);
		if (wait->subscribe)
			put_confirmation(&r->reply, c, wait->kind, true, ch->name, ch->name_len);
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
		if (wait->channels[i]->expected > 0)
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
		wait->channels[i]->n_waiting--;
		hub_unwant(hub, wait->channels[i]);
	}
	free(wait);
}

static bool waits_on(const struct hub_wait *wait, const struct hub_link *hl)
{
	for (size_t i = 0; i < wait->n; i++)
		if (wait->channels[i]->on == hl && wait->channels[i]->expected > 0)
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

void hub_refused(struct hub *hub, const struct channel *ch, const char *text)
{
	LIST_EACH (pos, next, &hub->waiting) {
		struct hub_wait *wait = container_of(pos, struct hub_wait, node);
		bool concerned = false;

		for (size_t i = 0; i < wait->n; i++)
			concerned = concerned || wait->channels[i] == ch;
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
		if (wait->channels[i]->slot != wait->channels[0]->slot)
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

	wait = xcalloc(1, sizeof(*wait) + n * sizeof(wait->channels[0]));
	wait->kind = kind;
	wait->subscribe = true;
	list_init(&wait->node);
	arg_cursor_init(&cur, call->bytes, call->len);
	arg_cursor_next(&cur, &arg, &len);
	while (arg_cursor_next(&cur, &arg, &len)) {
		struct channel *ch = hub_channel(hub, kind, arg, len, true);

		wait->channels[wait->n++] = ch;
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

/* Leaves one channel; when Redis must be told, the command waits for its confirmation. */
static void leave(struct client *c, struct hub_wait *wait, const char *name, size_t len, struct buf *out)
{
	struct hub *hub = c->w->hub;
	struct channel *ch = hub_channel(hub, wait->kind, name, len, false);
	struct sub *sub = hub_find_sub(c, ch);

	if (sub && hub_remove_sub(hub, sub)) {
		ch->n_waiting++;
		wait->channels[wait->n++] = ch;
	}
	put_confirmation(out, c, wait->kind, false, name, len);
}

static enum verdict unsubscribe(struct client *c, const struct call *call, enum hub_kind kind)
{
	bool all = call->frame->argc == 1;
	size_t n_max = all ? (c->extra ? c->extra->n_subs[kind] : 0) : call->frame->argc - 1, len;
	struct request *r = confirmation_request(c, call);
	struct hub_wait *wait = xcalloc(1, sizeof(*wait) + n_max * sizeof(wait->channels[0]));
	struct arg_cursor cur;
	const char *arg;

	wait->kind = kind;
	wait->request = r;
	list_init(&wait->node);
	if (all && n_max == 0)
		put_confirmation(&r->reply, c, kind, false, NULL, 0);
	while (all && c->extra && !list_empty(&c->extra->subs[kind])) {
		struct channel *ch = container_of(c->extra->subs[kind].next, struct sub, in_client)->channel;
		size_t name_len = ch->name_len;
		char *name = xmemdup0(ch->name, name_len); /* ch may be gone when its name is written */

		leave(c, wait, name, name_len, &r->reply);
		free(name);
	}
	arg_cursor_init(&cur, call->bytes, call->len);
	arg_cursor_next(&cur, &arg, &len);
	while (arg_cursor_next(&cur, &arg, &len))
		leave(c, wait, arg, len, &r->reply);
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

/* ---- PUBLISH, PUBSUB ---- */

/* r->arg: what Redis's count lacks. */
static void publish_answered(struct request *r, char type, int64_t number)
{
	if (type != ':')
		return;
	buf_release(&r->reply);
	resp_int(&r->reply, number + r->arg > 0 ? number + r->arg : 0);
}

enum verdict handle_PUBLISH(struct client *c, const struct call *call)
{
	bool shard = call->cmd->categories & CAT_PUBSUB && strcmp(call->cmd->name, "spublish") == 0;
	int64_t correction = 0;
	const char *channel;
	size_t len;

	channel = call_arg(call, 1, &len);
	if (channel)
		correction = subscriptions_correction(c->w->server->subscriptions, shard, channel, len);
	if (correction == 0)
		return forward(c, call, 0, NULL, 0);
	return forward(c, call, REQUEST_COLLECT, publish_answered, correction);
}

/* PUBSUB NUMSUB, SHARDNUMSUB: an array of names and counts. r->arg: which kind. */
static void numsub_answered(struct request *r, char type, int64_t number)
{
	struct reply_cursor cur = {buf_head(&r->reply), buf_head(&r->reply) + buf_len(&r->reply)};
	struct subscriptions *subs = r->client->w->server->subscriptions;
	struct reply_item head, name, count;
	struct buf b = {0};

	if (type != '*' || number <= 0 || number % 2 != 0 || !reply_cursor_next(&cur, &head))
		return;
	resp_array(&b, (size_t)number);
	while (reply_cursor_next(&cur, &name) && reply_cursor_next(&cur, &count)) {
		int64_t n = count.number + subscriptions_extra(subs, (enum hub_kind)r->arg, name.text, name.len);

		resp_bulk(&b, name.text, name.len);
		resp_int(&b, n > 0 ? n : 0);
	}
	buf_release(&r->reply);
	r->reply = b;
}

enum verdict handle_PUBSUB(struct client *c, const struct call *call)
{
	if (call_arg_is(call, 1, "NUMSUB"))
		return forward(c, call, REQUEST_COLLECT, numsub_answered, HUB_CHANNEL);
	if (call_arg_is(call, 1, "SHARDNUMSUB"))
		return forward(c, call, REQUEST_COLLECT, numsub_answered, HUB_SHARD);
	return forward(c, call, 0, NULL, 0);
}
