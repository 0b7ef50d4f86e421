/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker's thread: its loop, its turns, its ticks. See worker.h. */
#include "worker.h"

#include <assert.h>
#include <event2/event.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/events.h"
#include "client/hub.h"
#include "server.h"
#include "upstream/pool.h"

#define FAST_TICK_US	    20000
#define SLOW_TICK_US	    250000
#define IDLE_BEFORE_SLOW_US 1000000
#define CLIENT_TICK_US	    1000000
#define CHUNKS_KEPT	    1024 /* 16 MB */

static void on_mailbox(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	worker_now(w, clock_now_us());
	mailbox_run(&w->mailbox, w);
}

static void arm_tick(struct worker *w)
{
	struct timeval tv = {0, w->fast_tick ? FAST_TICK_US : SLOW_TICK_US};

	event_add(w->tick_event, &tv);
}

void worker_wake_tick(struct worker *w)
{
	w->idle_since_us = 0;
	if (w->fast_tick)
		return;
	w->fast_tick = true;
	arm_tick(w);
}

static bool list_is_busy(const struct list *head)
{
	for (const struct list *pos = head->next; pos != head; pos = pos->next) {
		const struct link *l = container_of(pos, struct link, node);

		if (l->n_queue > 0 || l->state != LINK_READY || l->out.bytes > 0)
			return true;
	}
	return false;
}

static bool pool_is_busy(const struct pool *p)
{
	return p->down || !list_empty(&p->waiting) || list_is_busy(&p->shared) || list_is_busy(&p->retired) ||
	       list_is_busy(&p->leased) || list_is_busy(&p->special);
}

/* With nothing in flight for a while the thread need not wake up fifty times a second. */
static void choose_tick(struct worker *w)
{
	if (pool_is_busy(w->pool) || !list_empty(&w->old_pools) || w->draining ||
	    atomic_load_explicit(&w->server->pause_mode, memory_order_relaxed) != PAUSE_NONE) {
		w->idle_since_us = 0;
		w->fast_tick = true;
	} else if (w->idle_since_us == 0) {
		w->idle_since_us = w->now_us;
	} else if (w->now_us - w->idle_since_us > IDLE_BEFORE_SLOW_US) {
		w->fast_tick = false;
	}
	arm_tick(w);
}

static void resume_waiting(struct worker *w, enum client_wait what)
{
	LIST_EACH (pos, next, &w->clients) {
		struct client *c = container_of(pos, struct client, node);

		if (c->wait == what)
			client_resume_soon(c);
	}
}

static void tick_pause(struct worker *w)
{
	struct server *s = w->server;

	if (atomic_load(&s->pause_mode) == PAUSE_NONE || w->now_us < atomic_load(&s->pause_end_us))
		return;
	resume_waiting(w, WAIT_PAUSE);
	if (w->now_us > atomic_load(&s->pause_end_us) + 2 * SLOW_TICK_US)
		atomic_store(&s->pause_mode, PAUSE_NONE);
}

static void tick_drain(struct worker *w)
{
	if (!w->draining)
		return;
	LIST_EACH (pos, next, &w->clients) {
		struct client *c = container_of(pos, struct client, node);

		if (client_is_idle(c) || w->now_us >= w->drain_deadline_us)
			client_close(c);
	}
	if (list_empty(&w->clients))
		w->stop = true;
}

static void tick_clients(struct worker *w)
{
	LIST_EACH (pos, next, &w->clients)
		client_tick(container_of(pos, struct client, node), w->now_us);
	request_pool_trim(&w->requests);
	if (w->chunks.n_free > CHUNKS_KEPT / 2) {
		/* A storm is over: give its memory back, half at a time. */
		chunk_pool_trim(&w->chunks, w->chunks.n_free / 2);
		malloc_trim(0);
	}
}

static void tick_old_pools(struct worker *w)
{
	LIST_EACH (pos, next, &w->old_pools) {
		struct pool *p = container_of(pos, struct pool, node);

		pool_tick(p, w->now_us);
		if (pool_is_empty(p))
			pool_free(&p);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	worker_now(w, clock_now_us());
	pool_tick(w->pool, w->now_us);
	tick_old_pools(w);
	hub_tick(w->hub);
	tick_pause(w);
	if (w->now_us - w->client_tick_us >= CLIENT_TICK_US) {
		w->client_tick_us = w->now_us;
		tick_clients(w);
	}
	tick_drain(w);
	atomic_store_explicit(&w->beat_us, w->now_us, memory_order_relaxed);
	choose_tick(w);
}

/* ---- a turn ---- */

static void flush_links(struct worker *w)
{
	while (!list_empty(&w->dirty_links)) {
		struct link *l = container_of(w->dirty_links.next, struct link, dirty);

		list_remove(&l->dirty);
		link_flush(l);
	}
}

static void flush_clients(struct worker *w)
{
	while (!list_empty(&w->dirty_clients)) {
		struct client *c = container_of(w->dirty_clients.next, struct client, dirty);

		list_remove(&c->dirty);
		client_flush(c);
	}
}

static void reap(struct worker *w)
{
	while (!list_empty(&w->dying_links)) {
		struct link *l = container_of(w->dying_links.next, struct link, node);

		link_free(&l);
	}
	while (!list_empty(&w->dying_clients)) {
		struct client *c = container_of(w->dying_clients.next, struct client, node);

		client_free(&c);
	}
}

static void worker_end_turn(struct worker *w)
{
	do {
		while (!list_empty(&w->resume))
			client_resume(container_of(w->resume.next, struct client, resume));
		flush_links(w);
		flush_clients(w);
	} while (!list_empty(&w->resume) || !list_empty(&w->dirty_links));
	reap(w);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	worker_now(w, clock_now_us());
	w->fast_tick = true;
	arm_tick(w);
	while (!w->stop) {
		event_base_loop(w->base, EVLOOP_ONCE);
		worker_end_turn(w);
	}
	server_worker_stopped(w->server);
	return NULL;
}

/* ---- life ---- */

/* Takes over the caller's reference. */
static void use_snapshot(struct worker *w, struct snapshot *snapshot)
{
	w->snapshot = snapshot;
	w->output_pause_bytes = (size_t)snapshot->config->server.client_output_limit_bytes / 2;
}

bool worker_init(struct worker *w, unsigned id, struct server *server, struct snapshot *snapshot)
{
	struct event_config *conf = event_config_new();

	w->id = id;
	w->server = server;
	use_snapshot(w, snapshot_ref(snapshot));
	event_config_set_flag(conf, EVENT_BASE_FLAG_NOLOCK);
	w->base = event_base_new_with_config(conf);
	event_config_free(conf);
	if (!w->base || mailbox_init(&w->mailbox) < 0)
		return false;
	list_init(&w->clients);
	list_init(&w->resume);
	list_init(&w->dirty_clients);
	list_init(&w->dirty_links);
	list_init(&w->dying_clients);
	list_init(&w->dying_links);
	list_init(&w->monitors);
	list_init(&w->old_pools);
	chunk_pool_init(&w->chunks, CHUNKS_KEPT);
	w->scratch = xcalloc(1, SCRATCH_BYTES);
	w->now_us = clock_now_us();
	w->pool = pool_new(w, snapshot->node, &client_link_events);
	w->hub = hub_new(w);
	w->mailbox_event = event_new(w->base, w->mailbox.fd, EV_READ | EV_PERSIST, on_mailbox, w);
	w->tick_event = evtimer_new(w->base, on_tick, w);
	atomic_store(&w->beat_us, w->now_us);
	return w->mailbox_event && w->tick_event && event_add(w->mailbox_event, NULL) == 0;
}

bool worker_start(struct worker *w)
{
	sigset_t all, old;
	char name[32];
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		return false;
	snprintf(name, sizeof(name), "worker-%u", w->id);
	pthread_setname_np(w->thread, name);
	return true;
}

void worker_close_clients(struct worker *w)
{
	LIST_EACH (pos, next, &w->clients)
		client_close(container_of(pos, struct client, node));
}

void worker_fini(struct worker *w)
{
	hub_free(&w->hub);
	pool_free(&w->pool);
	LIST_EACH (pos, next, &w->old_pools) {
		struct pool *p = container_of(pos, struct pool, node);

		pool_free(&p);
	}
	reap(w);
	event_free(w->mailbox_event);
	event_free(w->tick_event);
	event_base_free(w->base);
	mailbox_fini(&w->mailbox);
	chunk_pool_fini(&w->chunks);
	request_pool_fini(&w->requests);
	snapshot_unref(&w->snapshot);
	free(w->scratch);
}

/* ---- messages ---- */

struct call_message {
	struct message message;
	void (*fn)(struct worker *w, void *arg);
	void *arg;
};

static void run_call(struct message *m, void *owner)
{
	struct call_message *cm = container_of(m, struct call_message, message);

	cm->fn(owner, cm->arg);
	free(cm);
}

void worker_run_on(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg)
{
	struct call_message *cm = xcalloc(1, sizeof(*cm));

	cm->message.run = run_call;
	cm->fn = fn;
	cm->arg = arg;
	mailbox_post(&w->mailbox, &cm->message);
}

void worker_take_snapshot(struct worker *w, void *arg)
{
	struct snapshot *fresh = arg;
	bool moved = fresh->node != w->snapshot->node;

	snapshot_unref(&w->snapshot);
	use_snapshot(w, fresh);
	LIST_EACH (pos, next, &w->clients)
		container_of(pos, struct client, node)->frame.max_bulk =
			(uint64_t)fresh->config->server.max_value_bytes;
	if (!moved)
		return;
	/* Links to the old server answer what they have; everybody who waits tries the new one. */
	LIST_EACH (pos, next, &w->pool->waiting) {
		struct pool_wait *wait = container_of(pos, struct pool_wait, node);

		pool_wait_cancel(w->pool, wait);
		wait->resume(wait, true);
	}
	pool_retire_all(w->pool);
	list_append(&w->old_pools, &w->pool->node);
	w->pool = pool_new(w, fresh->node, &client_link_events);
	worker_wake_tick(w);
}

void worker_take_client(struct worker *w, void *arg)
{
	int fd = (int)(intptr_t)arg;

	if (w->draining) {
		atomic_fetch_sub(&w->n_clients, 1);
		atomic_fetch_sub(&w->server->n_clients, 1);
		close(fd);
		return;
	}
	client_new(w, fd);
}

void worker_drain(struct worker *w, void *arg)
{
	w->draining = true;
	w->drain_deadline_us = clock_now_us() + (int64_t)(intptr_t)arg * 1000;
	worker_wake_tick(w);
}

void worker_hear(struct worker *w, void *arg)
{
	switch ((enum server_news)(intptr_t)arg) {
	case SERVER_PLACE_FREED:
		pool_place_freed(w->pool);
		break;
	case SERVER_PLACE_WANTED:
		pool_place_wanted(w->pool);
		break;
	case SERVER_PAUSE_CHANGED:
		worker_wake_tick(w);
		if (atomic_load(&w->server->pause_mode) == PAUSE_NONE)
			resume_waiting(w, WAIT_PAUSE);
		break;
	}
}
