/* SPDX-License-Identifier: BSD-2-Clause */
/* PUBLISH and PUBSUB: what Redis says of receivers and channels, as if it saw our clients and spoke their names. */
#include <string.h>

#include "client/client.h"
#include "client/dispatch.h"
#include "client/fanout.h"
#include "client/hub.h"
#include "policy/channel.h"
#include "policy/glob.h"
#include "resp/reply_frame.h"
#include "resp/write.h"
#include "server.h"

/* ---- PUBLISH, SPUBLISH ---- */

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

/* ---- PUBSUB ---- */

static enum hub_kind kind_of(const struct call *call)
{
	return call_arg_is(call, 1, "SHARDNUMSUB") ? HUB_SHARD : HUB_CHANNEL;
}

/* A reply of names and counts: with the names of the request when that is given, and clients for hubs. */
static void correct_counts(struct client *c, enum hub_kind kind, const struct buf *request, struct buf *reply)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct subscriptions *subs = c->w->server->subscriptions;
	struct reply_item head, name, count;
	struct arg_cursor args;
	struct buf b = {0};
	const char *arg;
	size_t len;

	if (!reply_cursor_next(&cur, &head) || head.type != '*' || head.number <= 0 || head.number % 2 != 0)
		return;
	if (request) {
		arg_cursor_init(&args, buf_head(request), buf_len(request));
		arg_cursor_next(&args, &arg, &len);
		arg_cursor_next(&args, &arg, &len);
	}
	resp_array(&b, (size_t)head.number);
	while (reply_cursor_next(&cur, &name) && reply_cursor_next(&cur, &count)) {
		int64_t n = count.number + subscriptions_extra(subs, kind, name.text, name.len);

		if (request && arg_cursor_next(&args, &arg, &len))
			resp_bulk(&b, arg, len);
		else
			resp_bulk(&b, name.text, name.len);
		resp_int(&b, n > 0 ? n : 0);
	}
	buf_release(reply);
	*reply = b;
}

/* r->arg: which kind. */
static void numsub_answered(struct request *r, char type, int64_t number)
{
	(void)type;
	(void)number;
	correct_counts(r->client, (enum hub_kind)r->arg, NULL, &r->reply);
}

/* ---- PUBSUB in the client's names ---- */

static void numsub_renamed(struct client *c, const struct buf *request, struct buf *reply)
{
	correct_counts(c, HUB_CHANNEL, request, reply);
}

static void shardnumsub_renamed(struct client *c, const struct buf *request, struct buf *reply)
{
	correct_counts(c, HUB_SHARD, request, reply);
}

/* A list of channels: those that the client has a name for, and that its pattern matches. */
static void channels_renamed(struct client *c, const struct buf *request, struct buf *reply)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct view v = c->view;
	struct reply_item head, name;
	struct buf seen = {0}, out = {0};
	struct arg_cursor args;
	const char *pattern;
	size_t len, n = 0;
	bool any = false;

	if (!reply_cursor_next(&cur, &head) || head.type != '*')
		return;
	arg_cursor_init(&args, buf_head(request), buf_len(request));
	for (unsigned i = 0; i < 3; i++)
		any = !arg_cursor_next(&args, &pattern, &len);
	while (reply_cursor_next(&cur, &name)) {
		seen.start = seen.end = 0;
		if (!channel_back_put(&v, name.text, name.len, &seen) ||
		    (!any && !glob_match(pattern, len, buf_head(&seen), buf_len(&seen))))
			continue;
		resp_bulk(&out, buf_head(&seen), buf_len(&seen));
		n++;
	}
	buf_release(reply);
	resp_array(reply, n);
	buf_put(reply, buf_head(&out), buf_len(&out));
	buf_release(&out);
	buf_release(&seen);
}

/* The call with its names or its pattern as upstream has them. */
static void put_renamed(const struct call *call, const struct view *v, bool pattern, struct buf *out)
{
	uint32_t argc = call->frame->argc;
	struct buf name = {0};
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	resp_array(out, pattern && argc == 2 ? 3 : argc);
	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; arg_cursor_next(&cur, &arg, &len); i++) {
		name.start = name.end = 0;
		if (i < 2)
			buf_put(&name, arg, len);
		else if (pattern)
			channel_pattern_put(v, arg, len, &name);
		else
			channel_put(v, arg, len, &name);
		resp_bulk(out, buf_head(&name), buf_len(&name));
	}
	name.start = name.end = 0;
	if (pattern && argc == 2) {
		channel_pattern_put(v, "*", 1, &name);
		resp_bulk(out, buf_head(&name), buf_len(&name));
	}
	buf_release(&name);
}

static enum verdict pubsub_renamed(struct client *c, const struct call *call, const struct view *v,
				   fanout_hook_fn renamed)
{
	struct buf bytes = {0};
	enum verdict verdict;

	put_renamed(call, v, renamed == channels_renamed, &bytes);
	verdict = fanout_renamed(c, call, &bytes, renamed);
	buf_release(&bytes);
	return verdict;
}

enum verdict handle_PUBSUB(struct client *c, const struct call *call)
{
	bool counts = call_arg_is(call, 1, "NUMSUB") || call_arg_is(call, 1, "SHARDNUMSUB");
	bool channels = call_arg_is(call, 1, "CHANNELS") || call_arg_is(call, 1, "SHARDCHANNELS");
	struct view v = c->view;

	if (namespaces_active(v.all) && channels)
		return pubsub_renamed(c, call, &v, channels_renamed);
	if (namespaces_active(v.all) && counts)
		return pubsub_renamed(c, call, &v, kind_of(call) == HUB_SHARD ? shardnumsub_renamed : numsub_renamed);
	if (counts)
		return forward(c, call, REQUEST_COLLECT, numsub_answered, kind_of(call));
	return forward(c, call, 0, NULL, 0);
}
