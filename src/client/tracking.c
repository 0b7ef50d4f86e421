/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CLIENT TRACKING: Redis tracks a connection, so the client that asks for it keeps a dedicated link for good, and its
 * pushes pass through.
 *
 * With REDIRECT the messages go to another connection: the target client, on whatever worker it lives, gets a feed, a
 * link of its own (RESP3, whatever the client speaks) that receives them for it; our client ids are translated to
 * Redis's.
 * https://redis.io/docs/manual/client-side-caching/
 */
#include "client/tracking.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/hub_private.h"
#include "resp/write.h"
#include "server.h"

#define INVALIDATE_CHANNEL "__redis__:invalidate"
#define TRIES_MAX	   400 /* of 5 ms */

/* ---- feeds, on the target's worker ---- */

/* RESP2 has no pushes: an invalidation is a message on its channel, for whoever has subscribed to that. */
static void push_as_message(struct client *c, const char *data, size_t len)
{
	static const char invalidate[] = ">2\r\n$10\r\ninvalidate\r\n", null[] = "_\r\n";
	static const char message[] = "*3\r\n$7\r\nmessage\r\n$20\r\n" INVALIDATE_CHANNEL "\r\n";
	const size_t head = sizeof(invalidate) - 1;
	struct channel *ch = hub_channel(c->w->hub, HUB_CHANNEL, INVALIDATE_CHANNEL, strlen(INVALIDATE_CHANNEL), false);
	struct buf b = {0};

	if (!hub_find_sub(c, ch, NULL) || len < head || memcmp(data, invalidate, head) != 0)
		return;
	buf_put(&b, message, sizeof(message) - 1);
	if (len - head == sizeof(null) - 1 && memcmp(data + head, null, len - head) == 0)
		resp_null(&b, 2);
	else
		buf_put(&b, data + head, len - head);
	client_push(c, buf_head(&b), buf_len(&b));
	buf_release(&b);
}

void tracking_feed_push(struct link *feed, const char *data, size_t len)
{
	struct client *c = feed->owner;
	struct buf room = {0};

	if (tracking_see(c, &data, &len, &room))
		(c->proto == 3 ? client_push : push_as_message)(c, data, len);
	buf_release(&room);
}

void tracking_push(struct client *c, const char *data, size_t len)
{
	struct buf room = {0};

	if (tracking_see(c, &data, &len, &room))
		client_push(c, data, len);
	buf_release(&room);
}

void tracking_drop_feed(struct client *c)
{
	if (!c->extra || !c->extra->feed)
		return;
	c->extra->feed->owner = NULL;
	link_drop(c->extra->feed, "its client left");
	c->extra->feed = NULL;
}

/* Redis's id of the connection that receives for this client; 0: not there yet. */
static int64_t feed_id(struct client *c)
{
	struct client_extra *x = client_extra(c);

	if (!x->feed) {
		struct pool *p = worker_main_pool(c->w);

		if (!p || pool_special(p, LINK_FEED, 3, &x->feed) != POOL_OK)
			x->feed = NULL;
		else
			x->feed->owner = c;
	}
	return x->feed && x->feed->state == LINK_READY ? x->feed->upstream_id : 0;
}

/* ---- finding the target ---- */

struct redirect_job {
	struct job job; /* first */
	struct gather gather;
	struct event *timer;
	uint64_t target;
	unsigned tries;
	atomic_bool found;
	_Atomic int64_t upstream_id;
};

static void find_target(struct worker *w, struct gather *g)
{
	struct redirect_job *job = container_of(g, struct redirect_job, gather);

	LIST_EACH (pos, next, &w->clients) {
		struct client *c = container_of(pos, struct client, node);

		if (c->id != job->target)
			continue;
		atomic_store(&job->found, true);
		atomic_store(&job->upstream_id, feed_id(c));
		return;
	}
}

static void redirect_end(struct redirect_job *job)
{
	struct client *c = job->job.client;

	if (c) {
		c->extra->job = NULL;
		c->extra->redirect_asked = job->target;
		c->extra->redirect_upstream = atomic_load(&job->upstream_id);
		client_resume_soon(c);
	}
	if (job->timer)
		event_free(job->timer);
	free(job);
}

static void look_again(evutil_socket_t fd, short what, void *arg)
{
	struct redirect_job *job = arg;

	(void)fd;
	(void)what;
	server_gather(job->gather.asker->server, job->gather.asker, &job->gather);
}

static void looked(struct gather *g)
{
	static const struct timeval pause = {0, 5000};
	struct redirect_job *job = container_of(g, struct redirect_job, gather);

	if (!job->job.client || !atomic_load(&job->found) || atomic_load(&job->upstream_id) > 0 ||
	    ++job->tries > TRIES_MAX) {
		redirect_end(job);
		return;
	}
	/* Its feed is still connecting. */
	if (!job->timer)
		job->timer = evtimer_new(g->asker->base, look_again, job);
	if (!job->timer || evtimer_add(job->timer, &pause) < 0)
		redirect_end(job);
}

static enum verdict find_redirect(struct client *c, uint64_t target)
{
	struct redirect_job *job = xcalloc(1, sizeof(*job));

	job->target = target;
	job->job.client = c;
	job->gather.collect = find_target;
	job->gather.done = looked;
	client_extra(c)->job = &job->job;
	client_wait_for(c, WAIT_ANSWER);
	server_gather(c->w->server, c->w, &job->gather);
	return CALL_WAIT;
}

/* ---- the commands ---- */

static uint32_t redirect_arg(const struct call *call)
{
	for (uint32_t i = 3; i + 1 < call->frame->argc && i < 256; i++)
		if (call_arg_is(call, i, "REDIRECT"))
			return i + 1;
	return 0;
}

/* r->arg: the client it is redirected to, 0 for none; -1: OFF. */
static void tracking_answered(struct request *r, char type, int64_t number)
{
	struct client *c = r->client;

	(void)number;
	if (type == '-' && r->flags & REQUEST_COLLECT)
		tracking_see_error(c, &r->reply);
	if (type != '+')
		return;
	c->pinned = r->arg >= 0;
	client_extra(c)->redirect = r->arg;
}

/* Or will, when Redis has answered. */
static bool tracks(const struct client *c)
{
	if (!c->bound || c->pinned)
		return c->pinned;
	for (const struct request *r = c->head; r; r = r->next)
		if (r->on_reply == tracking_answered && r->arg >= 0)
			return true;
	return false;
}

void tracking_take_view(struct client *c, const struct view *before)
{
	static const char all[] = ">2\r\n$10\r\ninvalidate\r\n_\r\n";
	bool tracking = tracks(c), target = c->extra && c->extra->feed;

	if ((!tracking && !target) || !tracking_names_differ(before, &c->view))
		return;
	if (c->proto == 3)
		client_push(c, all, sizeof(all) - 1);
	else if (target)
		push_as_message(c, all, sizeof(all) - 1);
	if (!tracking || c->closed)
		return;
	if (c->n_blocking == 0 && !c->upload) {
		client_close_after(c);
		return;
	}
	client_flush(c); /* what it waits for may never come */
	client_close(c);
}

enum verdict handle_CLIENT_TRACKING(struct client *c, const struct call *call)
{
	bool on = call_arg_is(call, 2, "ON");
	uint32_t index = redirect_arg(call);
	struct client_extra *x = client_extra(c);
	struct view v = c->view;
	struct buf b = {0};
	enum verdict verdict;
	int64_t target = 0;
	char id[32];

	if (!on)
		return forward(c, call, 0, c->pinned ? tracking_answered : NULL, -1);
	if (!client_may_tie(c, call))
		return CALL_DONE;
	if (index && call_arg_int(call, index, &target) && target > 0) {
		if (x->redirect_asked != (uint64_t)target)
			return find_redirect(c, (uint64_t)target);
		if (x->redirect_upstream == 0) {
			x->redirect_asked = 0;
			client_reply_error(c, call, "ERR The client ID you want redirect to does not exist");
			return CALL_DONE;
		}
	}
	if (!client_bind(c, call, &verdict))
		return verdict;
	c->bound->tainted = true;
	if (target <= 0 && !namespaces_active(v.all))
		return forward(c, call, REQUEST_IN_TX, tracking_answered, 0);
	snprintf(id, sizeof(id), "%lld", (long long)x->redirect_upstream);
	tracking_put_request(call, &v, target > 0 ? id : NULL, &b);
	verdict = forward_bytes(c, call, buf_head(&b), buf_len(&b), REQUEST_IN_TX | REQUEST_COLLECT, tracking_answered,
				target > 0 ? target : 0);
	buf_release(&b);
	if (verdict == CALL_DONE)
		x->redirect_asked = 0;
	return verdict;
}

enum verdict handle_CLIENT_GETREDIR(struct client *c, const struct call *call)
{
	struct buf b = {0};

	resp_int(&b, c->pinned && c->extra ? c->extra->redirect : -1);
	client_reply(c, call, &b);
	return CALL_DONE;
}

/* Redis's answer names its own id of the target: ours is put in its place. */
static void name_target(struct request *r)
{
	static const char key[] = "redirect\r\n:";
	char *at = memmem(buf_head(&r->reply), buf_len(&r->reply), key, sizeof(key) - 1), *end;
	struct buf b = {0};

	if (!at || r->client->extra->redirect <= 0)
		return;
	at += sizeof(key) - 1;
	end = memchr(at, '\r', (size_t)(buf_head(&r->reply) + buf_len(&r->reply) - at));
	if (!end)
		return;
	buf_put(&b, buf_head(&r->reply), (size_t)(at - buf_head(&r->reply)));
	buf_printf(&b, "%lld", (long long)r->client->extra->redirect);
	buf_put(&b, end, (size_t)(buf_head(&r->reply) + buf_len(&r->reply) - end));
	buf_release(&r->reply);
	r->reply = b;
}

static void info_answered(struct request *r, char type, int64_t number)
{
	(void)type;
	(void)number;
	name_target(r);
	tracking_see_prefixes(r->client, &r->reply);
}

enum verdict handle_CLIENT_TRACKINGINFO(struct client *c, const struct call *call)
{
	if (c->pinned && c->extra && (c->extra->redirect > 0 || namespaces_active(c->view.all)))
		return forward(c, call, REQUEST_COLLECT, info_answered, 0);
	return forward(c, call, 0, NULL, 0);
}
