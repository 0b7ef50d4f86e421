/* SPDX-License-Identifier: BSD-2-Clause */
/* A client's life: taking it over, waiting and going on, flushing, closing. Input and replies have files of their own.
 */
#include "client/client.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client_io.h"
#include "client/fanout.h"
#include "client/hub.h"
#include "client/limit.h"
#include "client/monitor.h"
#include "client/tracking.h"
#include "client/policy.h"
#include "client/unit.h"
#include "upstream/route.h"
#include "server.h"

#define OUTPUT_LOW_BYTES ((size_t)256 * 1024)
#define STALLED_MAX_US	 60000000 /* a client that takes nothing for so long while over its limit is closed */
#define HANDSHAKE_MAX_US 10000000
#define UPLOAD_IDLE_US	 10000000 /* a large request that does not move for so long gives its connection back */

static void place_resume(struct pool_wait *wait, bool granted)
{
	struct client *c = container_of(wait, struct client, place);

	c->place_refused = !granted;
	client_resume_soon(c);
}

/* False: the namespace of its listener is no more. */
static bool renew_view(struct client *c)
{
	const struct namespaces *all = c->w->snapshot->holder->namespaces;

	c->view = (struct view){.all = all, .bound = c->bound_name ? namespaces_named(all, c->bound_name) : NULL};
	return c->view.bound || !c->bound_name;
}

/* Where its keys are is no longer known to anyone: it must not go on as if there were no namespace. */
void client_take_config(struct client *c)
{
	struct view before = c->view;

	c->frame.max_bulk = (uint64_t)c->w->snapshot->config->server.max_value_bytes;
	if (!renew_view(c))
		client_close(c);
	else if (before.all && before.all != c->view.all)
		tracking_take_view(c, &before);
}

void client_new(struct worker *w, int fd, struct tls *tls, const char *bound_name)
{
	struct client *c = xcalloc(1, sizeof(*c));

	list_append(&w->clients, &c->node);
	list_init(&c->dirty);
	list_init(&c->resume);
	list_init(&c->place.node);
	c->place.resume = place_resume;
	c->w = w;
	c->io = (struct transport){.fd = fd};
	c->proto = 2;
	c->tx_db = -1;
	c->window = CLIENT_WINDOW_FIRST;
	c->lanes = &c->first_lane;
	c->n_lanes = 1;
	c->generation = w->generation;
	c->db = w->routes[0].up->conf->target.db;
	c->id = atomic_fetch_add(&w->server->next_client_id, 1) + 1;
	c->created_us = c->active_us = w->now_us = clock_now_us();
	c->bound_name = bound_name ? xstrdup(bound_name) : NULL;
	client_take_config(c);
	outq_init(&c->out, &w->chunks, false);
	event_assign(&c->event, w->base, fd, EV_READ | EV_PERSIST, client_on_readable, c);
	event_add(&c->event, NULL);
	counter_add(&w->counters.connections, 1);
	if (tls)
		client_tls_begin(c, tls);
}

struct client_extra *client_extra(struct client *c)
{
	if (!c->extra) {
		c->extra = xcalloc(1, sizeof(*c->extra));
		for (int i = 0; i < 3; i++)
			list_init(&c->extra->subs[i]);
		list_init(&c->extra->monitor);
	}
	return c->extra;
}

static void leave_pause(struct client *c)
{
	if (c->wait == WAIT_PAUSE)
		counter_add(&c->w->counters.blocked, (uint64_t)-1);
	c->wait = WAIT_NOTHING;
}

/* Its requests lose their client: those on the way stay in their links' queues as orphans. */
static void orphan_requests(struct client *c)
{
	struct request *r = c->head;

	while (r) {
		struct request *next = r->next;

		if (r->flags & REQUEST_BLOCKING)
			counter_add(&c->w->counters.blocked, (uint64_t)-1);
		if (r->flags & REQUEST_PARTED)
			fanout_abandon(r);
		if ((r->link || r->flags & REQUEST_PARKED) && !(r->flags & REQUEST_DONE)) {
			r->client = NULL;
			r->next = NULL;
			r->on_reply = NULL;
			buf_release(&r->reply);
		} else {
			request_free(&c->w->requests, &r);
		}
		r = next;
	}
	c->head = c->tail = NULL;
	c->n_requests = c->n_upstream = c->n_replica = 0;
}

static void close_extra(struct client *c)
{
	hub_unsubscribe_all(c); /* its first SUBSCRIBE may be waiting still, and nothing extra be there */
	if (!c->extra)
		return;
	monitor_stop(c);
	if (c->extra->job)
		c->extra->job->client = NULL;
	c->extra->job = NULL;
	tracking_drop_feed(c);
	limit_forget(c);
}

static void resume_links(struct client *c, const struct link *except)
{
	for (uint32_t i = 0; i < c->n_lanes; i++) {
		struct link *l = c->lanes[i].link;

		if (l && l->paused && l != except)
			link_resume(l);
	}
}

void client_close(struct client *c)
{
	struct link *bound = c->bound;

	if (c->closed)
		return;
	c->closed = true;
	list_remove(&c->node);
	list_append(&c->w->dying_clients, &c->node);
	list_remove(&c->dirty);
	list_remove(&c->resume);
	pool_wait_cancel(&c->place);
	event_del(&c->event);
	if (c->write_event)
		event_free(c->write_event);
	c->write_event = NULL;
	transport_close(&c->io);
	/* A link paused for this client's sake reads on; one that it holds alone is closed when it is not clean. */
	resume_links(c, bound);
	if (bound && (c->n_upstream > 0 || c->tx != TX_NONE || c->watching || c->pinned || c->acl_user || c->upload))
		bound->tainted = true;
	close_extra(c); /* what waits for an answer elsewhere looks at its request: before those go */
	orphan_requests(c);
	c->bound = NULL;
	if (bound)
		pool_release(bound->pool, bound);
	leave_pause(c);
	outq_clear(&c->out);
	atomic_fetch_sub(&c->w->server->n_clients, 1);
	atomic_fetch_sub_explicit(&c->w->n_clients, 1, memory_order_relaxed);
}

void client_free(struct client **cp)
{
	struct client *c = *cp;

	*cp = NULL;
	assert(c->closed);
	list_remove(&c->node);
	buf_release(&c->in);
	if (c->lanes != &c->first_lane)
		free(c->lanes);
	unit_drop(c);
	policy_tx_drop(c);
	if (c->extra) {
		free(c->extra->name);
		free(c->extra->lib_name);
		free(c->extra->lib_ver);
		free(c->extra->user);
		free(c->extra->user_asked);
		buf_release(&c->extra->deferred);
		buf_release(&c->extra->push);
		free(c->extra);
	}
	free(c->near.busy);
	free(c->bound_name);
	free(c);
}

void client_close_after(struct client *c)
{
	c->closing = true;
	client_stall(c);
	client_mark_dirty(c);
}

bool client_is_idle(const struct client *c)
{
	return c->n_requests == 0 && c->out.bytes == 0 && c->tx == TX_NONE && !c->upload && buf_len(&c->in) == 0;
}

/* ---- waiting ---- */

enum verdict client_wait_for(struct client *c, enum client_wait what)
{
	c->wait = (uint8_t)what;
	return CALL_WAIT;
}

void client_resume_soon(struct client *c)
{
	if (!c->closed && !list_is_linked(&c->resume))
		list_append(&c->w->resume, &c->resume);
}

void client_resume(struct client *c)
{
	struct buf in = c->in;

	list_remove(&c->resume);
	if (c->closed)
		return;
	leave_pause(c);
	client_maybe_unbind(c);
	if (buf_len(&in) > 0 && !c->closing) {
		/* The bytes are taken out, since what is not consumed is put back. */
		c->in = (struct buf){0};
		client_process(c, buf_head(&in), buf_len(&in));
		buf_release(&in);
	}
	if (c->closed || c->wait != WAIT_NOTHING)
		return;
	if (c->half_closed)
		client_close_after(c);
	else if (!c->closing)
		client_unstall(c);
}

void client_job_begin(struct client *c, const struct call *call, struct job *job)
{
	job->client = c;
	job->request = client_request_new(c, call);
	client_extra(c)->job = job;
	client_wait_for(c, WAIT_ANSWER);
}

void client_job_end(struct job *job, struct buf *b)
{
	struct client *c = job->client;

	if (c) {
		c->extra->job = NULL;
		job->request->reply = *b;
		*b = (struct buf){0};
		if (c->wait == WAIT_ANSWER)
			client_resume_soon(c);
		client_request_done(job->request);
	}
	buf_release(b);
}

/* ---- output ---- */

static void client_on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	worker_now(c->w, clock_now_us());
	if (transport_is_established(&c->io)) {
		client_flush(c);
		if (c->io.tls && c->io.tls->read_wants_write && !c->stalled)
			client_on_readable(fd, 0, c);
		return;
	}
	event_free(c->write_event);
	c->write_event = NULL;
	client_handshake_soon(c);
}

void client_wait_for_writable(struct client *c)
{
	if (c->write_event)
		return;
	c->write_event = event_new(c->w->base, c->io.fd, EV_WRITE | EV_PERSIST, client_on_writable, c);
	if (!c->write_event || event_add(c->write_event, NULL) < 0)
		client_close(c);
}

/* Everything it was waiting for room in its output goes on. */
static void output_is_low(struct client *c)
{
	resume_links(c, NULL);
	if (c->wait == WAIT_OUTPUT)
		client_resume_soon(c);
}

void client_flush(struct client *c)
{
	size_t written = 0;

	if (!transport_flush(&c->io, &c->out, &written)) {
		client_close(c);
		return;
	}
	counter_add(&c->w->counters.bytes_out, written);
	if (written > 0)
		c->stalled_us = c->w->now_us;
	if (c->out.bytes > 0) {
		client_wait_for_writable(c);
	} else if (c->write_event) {
		event_free(c->write_event);
		c->write_event = NULL;
		c->slow = false;
	}
	if (c->closed)
		return;
	if (c->out.bytes <= OUTPUT_LOW_BYTES)
		output_is_low(c);
	if (c->out.bytes == 0 && c->closing && c->n_requests == 0)
		client_close(c);
}

/* Nobody listens on the socket of a stalled client: look whether it has gone. */
static bool has_gone(const struct client *c)
{
	struct pollfd pfd = {.fd = c->io.fd, .events = POLLRDHUP};

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLERR | POLLHUP) || (pfd.revents && !c->half_closed));
}

void client_tick(struct client *c, int64_t now_us)
{
	const struct server_config *conf = &c->w->snapshot->config->server;
	bool passing = c->wait == WAIT_ROOM || c->wait == WAIT_DRAIN || c->wait == WAIT_OUTPUT;

	if (!transport_is_established(&c->io) && now_us - c->created_us > HANDSHAKE_MAX_US) {
		client_handshake_failed(c, "it takes too long");
	} else if (c->stalled && !passing && !c->upload && !c->closing && has_gone(c)) {
		client_close(c);
	} else if (c->wait == WAIT_OUTPUT && now_us - c->stalled_us > STALLED_MAX_US) {
		counter_add(&c->w->counters.output_limit_closed, 1);
		client_close(c);
	} else if (c->upload && now_us - c->active_us > UPLOAD_IDLE_US && c->upload->link &&
		   c->upload->link->out.bytes == 0) {
		client_close(c);
	} else if (conf->client_timeout_ms > 0 && now_us - c->active_us > conf->client_timeout_ms * 1000 &&
		   c->n_requests == 0 && !c->monitor && c->wait == WAIT_NOTHING && !hub_is_subscriber(c)) {
		counter_add(&c->w->counters.timeouts_closed, 1);
		client_close(c);
	}
}
