/* SPDX-License-Identifier: BSD-2-Clause */
/* From a link to whom it concerns: a client, the hub, a feed. */
#include "client/events.h"

#include "client/client.h"
#include "client/hub.h"
#include "client/monitor.h"
#include "client/tracking.h"

/* Pushes are handed on whole, so that they never mix with a reply from elsewhere. */
static void push_to_client(struct link *l, const char *data, size_t len, bool done)
{
	struct client_extra *x = client_extra(l->owner);
	bool whole = done && buf_len(&x->push) == 0;

	if (!whole && !buf_append(&x->push, data, len)) {
		client_close(l->owner);
		return;
	}
	if (!done)
		return;
	if (!whole) {
		data = buf_head(&x->push);
		len = buf_len(&x->push);
	}
	if (l == x->monitor_feed)
		monitor_feed_push(l->owner, data, len);
	else if (l->kind == LINK_FEED)
		tracking_feed_push(l, data, len);
	else
		tracking_push(l->owner, data, len);
	if (!whole)
		buf_release(&x->push);
}

static void on_push(struct link *l, const char *data, size_t len, bool done)
{
	if (l->kind == LINK_HUB && l->user)
		hub_on_message(l->user, data, len, done);
	else if ((l->kind == LINK_FEED || l->kind == LINK_DEDICATED) && l->owner)
		push_to_client(l, data, len, done);
}

static void on_ready(struct link *l)
{
	if (l->kind == LINK_FEED && l == l->owner->extra->monitor_feed)
		monitor_feed_ready(l);
}

static void on_lost(struct link *l)
{
	if (l->kind == LINK_HUB)
		hub_on_lost(l->user);
	else if (l->kind == LINK_FEED && l == l->owner->extra->monitor_feed)
		monitor_feed_lost(l->owner);
	else if (l->kind == LINK_FEED)
		l->owner->extra->feed = NULL;
	else if (l->owner->bound == l)
		client_link_lost(l->owner);
}

static void on_drained(struct link *l)
{
	if (l->kind == LINK_DEDICATED && l->owner)
		client_upload_drained(l->owner);
}

const struct link_events client_link_events = {
	.reply = client_on_reply,
	.before = client_on_reply_before,
	.replies = client_on_plain_replies,
	.queue_lost = client_queue_lost,
	.timed_out = client_on_timed_out,
	.push = on_push,
	.ready = on_ready,
	.lost = on_lost,
	.drained = on_drained,
};
