/* SPDX-License-Identifier: BSD-2-Clause */
/* Those who wait for another's fetch: see near_wait.h. */
#include "client/near_wait.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/absent.h"
#include "client/policy.h"
#include "client/redirect.h"
#include "client/target.h"
#include "server.h"

struct store_waiter *near_waiter_spare(struct worker *w)
{
	if (!w->near_spare) {
		w->near_spare = xcalloc(1, sizeof(*w->near_spare));
		w->near_spare->store.worker = w;
		list_init(&w->near_spare->node);
	}
	return &w->near_spare->store;
}

void near_waiter_free(struct near_waiter **wp)
{
	struct near_waiter *waiter = *wp;

	*wp = NULL;
	if (!waiter)
		return;
	upstream_unref(&waiter->up);
	buf_release(&waiter->bytes);
	free(waiter);
}

/* ---- waiting ---- */

/* The call as it is upstream: its request takes its place in the client's queue. */
static enum verdict take_place(struct client *c, const struct call *call)
{
	struct near_waiter *waiter = call->near->waiter;
	struct request *r;
	struct target t;

	call->near->waiter = NULL;
	if (target_of_call(c, call, &t) != TARGET_OK)
		return forward(c, call, 0, NULL, 0);
	r = client_request_new(c, call);
	r->near = xcalloc(1, sizeof(*r->near));
	r->near->waiter = waiter;
	r->flags |= REQUEST_COLLECT;
	r->slot = (int16_t)t.slot;
	r->deadline_us = c->w->now_us + t.route->up->conf->read_timeout_ms * 1000;
	waiter->request = r;
	list_append(&c->w->near_waiters, &waiter->node);
	worker_wake_tick(c->w);
	waiter->up = upstream_ref(t.route->up);
	buf_put(&waiter->bytes, call->bytes, call->len);
	c->n_upstream++;
	c->n_parked++;
	c->forwarded = true;
	return CALL_DONE;
}

enum verdict near_wait(struct client *c, struct call *call)
{
	enum verdict verdict;

	call->near = &c->w->near_call;
	call->near->waiter = c->w->near_spare;
	c->w->near_spare = NULL;
	verdict = policy_run(c, call, take_place);
	call->near->waiter = NULL; /* refused: the flight has it, and nobody answers to it */
	return verdict;
}

/* ---- it has come ---- */

struct news {
	struct store_waiter *waiters;
	struct rcbuf *reply; /* a reference; NULL: there is none */
	const char *error;   /* a constant; NULL: everybody asks for himself */
};

static void give_up(struct request *r, const struct near_waiter *waiter, const char *text)
{
	bool made = absent_stand_in_of(r, &waiter->bytes);

	client_came_back(r);
	if (made)
		client_answered_absent(r);
	else
		client_fail_request(r, text);
}

static void take_reply(struct request *r, const struct rcbuf *reply)
{
	policy_fix_free(&r->fix); /* it is in the client's form already */
	client_came_back(r);
	if (!buf_append(&r->reply, reply->data, reply->len))
		client_close(r->client);
	else
		client_request_done(r);
}

void near_wait_leave(struct near_waiter *waiter)
{
	waiter->request = NULL;
	list_remove(&waiter->node);
}

/* The request waits no more. */
static struct request *take_request(struct near_waiter *waiter)
{
	struct request *r = waiter->request;

	if (!r)
		return NULL;
	near_wait_leave(waiter);
	r->near->waiter = NULL;
	r->client->n_parked--;
	return r;
}

static void tell_one(struct near_waiter *waiter, const struct news *news)
{
	struct request *r = take_request(waiter);

	if (r) {
		if (news->reply)
			take_reply(r, news->reply);
		else if (news->error)
			give_up(r, waiter, news->error);
		else if (!redirect_send(r, waiter->up, &waiter->bytes))
			give_up(r, waiter, reply_error_text(ERROR_UPSTREAM_DOWN));
	}
	near_waiter_free(&waiter);
}

static void told(struct worker *w, void *arg)
{
	struct news *news = arg;

	worker_now(w, clock_now_us());
	while (news->waiters) {
		struct near_waiter *waiter = (struct near_waiter *)news->waiters;

		news->waiters = waiter->store.next;
		tell_one(waiter, news);
	}
	rcbuf_unref(news->reply);
	free(news);
}

static struct near_waiter *late_one(struct worker *w)
{
	LIST_EACH (pos, next, &w->near_waiters) {
		struct near_waiter *waiter = container_of(pos, struct near_waiter, node);

		if (w->now_us >= waiter->request->deadline_us)
			return waiter;
	}
	return NULL;
}

/* One by one, since telling one may be the end of others. The flights have the waiters still. */
void near_wait_tick(struct worker *w)
{
	struct near_waiter *waiter;

	while ((waiter = late_one(w)))
		give_up(take_request(waiter), waiter, reply_error_text(ERROR_TIMED_OUT));
}

/* Takes those of one worker, the first one's, out of the list. */
static struct store_waiter *take_workers(struct store_waiter **list)
{
	void *worker = (*list)->worker;
	struct store_waiter *taken = NULL, **end = &taken;

	while (*list) {
		if ((*list)->worker == worker) {
			*end = *list;
			*list = (*list)->next;
			end = &(*end)->next;
		} else {
			list = &(*list)->next;
		}
	}
	*end = NULL;
	return taken;
}

/* Also its own worker's are told by message: nothing is answered in the middle of something else. */
void near_tell(struct store_waiter *waiters, const char *reply, size_t len, const char *error)
{
	struct rcbuf *rb = waiters && reply ? rcbuf_new(reply, len) : NULL;

	while (waiters) {
		struct news *news = xcalloc(1, sizeof(*news));
		struct worker *to = waiters->worker;

		news->reply = rb ? rcbuf_ref(rb) : NULL;
		news->error = error;
		news->waiters = take_workers(&waiters);
		worker_run_on(to, told, news);
	}
	rcbuf_unref(rb);
}
