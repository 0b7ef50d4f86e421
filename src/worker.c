/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker's thread: its loop, its turns, its ticks. See worker.h. */
#include "worker.h"

#include <assert.h>
#include <event2/event.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/big_keys.h"
#include "client/client.h"
#include "client/events.h"
#include "client/hot_keys.h"
#include "client/hub.h"
#include "client/limit.h"
#include "client/mirror.h"
#include "client/namespace_stats.h"
#include "client/near_wait.h"
#include "client/redirect.h"
#include "client/token_memo.h"
#include "net/transport.h"
#include "server.h"
#include "upstream/route.h"
#include "worker_routes.h"

#define FAST_TICK_US	    20000
#define SLOW_TICK_US	    250000
#define IDLE_BEFORE_SLOW_US 1000000
#define CLIENT_TICK_US	    1000000
#define HANDSHAKES_US	    500	    /* of a turn, for TLS handshakes: everybody else waits that long */
#define MIRROR_GRACE_US	    1000000 /* copies are waited for so long when the last client has left */
#define HOLD_US		    500
#define HOLD_BYTES	    8192
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

static bool any_pool_busy(const struct worker *w)
{
	for (const struct list *pos = w->pools.next; pos != &w->pools; pos = pos->next)
		if (pool_is_busy(container_of(pos, struct pool, node)))
			return true;
	return false;
}

/* With nothing in flight for a while the thread need not wake up fifty times a second. */
static void choose_tick(struct worker *w)
{
	if (any_pool_busy(w) || !list_empty(&w->parked) || !list_empty(&w->near_waiters) ||
	    !list_empty(&w->old_pools) || w->draining ||
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
	if (!list_empty(&w->clients))
		return;
	if (w->mirror_deadline_us == 0)
		w->mirror_deadline_us = w->now_us + MIRROR_GRACE_US;
	w->stop = mirror_is_idle(w) || w->now_us >= w->mirror_deadline_us;
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

/* ---- ticks ---- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	worker_now(w, clock_now_us());
	worker_tick_pools(w);
	redirect_tick(w, false);
	near_wait_tick(w);
	mirror_tick(w);
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

/*
 * The replies of a pipeline come over several links, a few at a time. Written as they come they cost a system call for
 * each link; so a client to whom more is owed waits for it, a little.
 */
static bool hold(struct worker *w, struct client *c)
{
	static const struct timeval pause = {0, HOLD_US};

	if (w->only || c->n_upstream == 0 || c->out.bytes >= HOLD_BYTES || c->closing || c->write_event)
		return false;
	c->held_us = w->now_us;
	if (list_empty(&w->held_clients))
		event_add(w->hold_event, &pause);
	list_append(&w->held_clients, &c->dirty);
	return true;
}

static void flush_clients(struct worker *w)
{
	while (!list_empty(&w->dirty_clients)) {
		struct client *c = container_of(w->dirty_clients.next, struct client, dirty);

		list_remove(&c->dirty);
		if (!hold(w, c))
			client_flush(c);
	}
}

/* Those that waited long enough; the oldest are first. */
static void on_hold(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval pause = {0, HOLD_US};
	struct worker *w = arg;

	(void)fd;
	(void)what;
	worker_now(w, clock_now_us());
	while (!list_empty(&w->held_clients)) {
		struct client *c = container_of(w->held_clients.next, struct client, dirty);

		if (w->now_us - c->held_us < HOLD_US) {
			event_add(w->hold_event, &pause);
			return;
		}
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

/* ---- TLS: what goes on without an event ---- */

void worker_read_soon(struct worker *w, struct tls_conn *c)
{
	if (!list_is_linked(&c->turn))
		list_append(&w->unread, &c->turn);
}

void worker_handshake_soon(struct worker *w, struct tls_conn *c)
{
	if (!list_is_linked(&c->turn))
		list_append(&w->handshakes, &c->turn);
}

static void take_first(struct list *from)
{
	struct tls_conn *c = container_of(from->next, struct tls_conn, turn);

	list_remove(&c->turn);
	c->on_turn(c->owner);
}

/* Everybody who has input waiting, once; and of the handshakes as many as fit into a moment, at least one. */
static void take_turns(struct worker *w)
{
	int64_t until_us = clock_now_us() + HANDSHAKES_US;
	struct list unread;

	list_init(&unread);
	while (!list_empty(&w->unread)) {
		struct list *first = w->unread.next;

		list_remove(first);
		list_append(&unread, first);
	}
	while (!list_empty(&unread))
		take_first(&unread);
	while (!list_empty(&w->handshakes)) {
		take_first(&w->handshakes);
		if (clock_now_us() >= until_us)
			break;
	}
}

static inline bool turns_wanted(const struct worker *w)
{
	return !list_empty(&w->unread) || !list_empty(&w->handshakes);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	worker_now(w, clock_now_us());
	w->fast_tick = true;
	arm_tick(w);
	while (!w->stop) {
		event_base_loop(w->base, turns_wanted(w) ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
		if (__builtin_expect(turns_wanted(w), 0))
			take_turns(w);
		worker_end_turn(w);
	}
	server_worker_stopped(w->server);
	return NULL;
}

/* ---- life ---- */

/* Takes over the caller's reference. */
static void use_snapshot(struct worker *w, struct snapshot *snapshot)
{
	const struct namespaces *old = w->snapshot ? w->snapshot->holder->namespaces : NULL;
	const struct limits *old_limits = w->snapshot ? w->snapshot->holder->limits : NULL;

	w->snapshot = snapshot;
	w->name_hint = (struct name_hint){0};
	w->policy = namespaces_active(snapshot->holder->namespaces);
	w->near = snapshot->store;
	if (w->tokens != snapshot->holder->tokens)
		token_memo_forget(w->token_memo);
	w->tokens = snapshot->holder->tokens;
	w->blacklist = snapshot->holder->blacklist;
	namespace_stats_renew(w, old);
	limit_renew(w, old_limits);
	w->output_pause_bytes = (size_t)snapshot->config->server.client_output_limit_bytes / 2;
	worker_make_routes(w);
}

bool worker_init(struct worker *w, unsigned id, struct server *server, struct snapshot *snapshot)
{
	struct event_config *conf = event_config_new();

	w->id = id;
	w->server = server;
	event_config_set_flag(conf, EVENT_BASE_FLAG_NOLOCK);
	w->base = event_base_new_with_config(conf);
	event_config_free(conf);
	if (!w->base || mailbox_init(&w->mailbox) < 0)
		return false;
	list_init(&w->clients);
	list_init(&w->resume);
	list_init(&w->dirty_clients);
	list_init(&w->dirty_links);
	list_init(&w->held_clients);
	list_init(&w->dying_clients);
	list_init(&w->dying_links);
	list_init(&w->limit_waiting);
	list_init(&w->monitors);
	list_init(&w->handshakes);
	list_init(&w->unread);
	list_init(&w->pools);
	list_init(&w->parked);
	list_init(&w->near_waiters);
	list_init(&w->mirrors);
	list_init(&w->old_pools);
	chunk_pool_init(&w->chunks, CHUNKS_KEPT);
	w->scratch = xcalloc(1, SCRATCH_BYTES);
	w->now_us = clock_now_us();
	rewrite_init(&w->rewrite);
	randombytes_buf(&w->random, sizeof(w->random));
	w->random |= 1;
	hot_keys_init(w);
	w->link_events = &client_link_events;
	use_snapshot(w, snapshot_ref(snapshot));
	w->hub = hub_new(w);
	w->mailbox_event = event_new(w->base, w->mailbox.fd, EV_READ | EV_PERSIST, on_mailbox, w);
	w->tick_event = evtimer_new(w->base, on_tick, w);
	w->hold_event = evtimer_new(w->base, on_hold, w);
	atomic_store(&w->beat_us, w->now_us);
	return w->mailbox_event && w->tick_event && w->hold_event && event_add(w->mailbox_event, NULL) == 0;
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

void worker_close_links(struct worker *w)
{
	hub_free(&w->hub);
	mirror_stop(w);
	redirect_drop_all(w);
	worker_leave_routes(w);
	worker_free_pools(w);
	reap(w);
	mirror_drop_all(w);
}

void worker_fini(struct worker *w)
{
	event_free(w->mailbox_event);
	event_free(w->tick_event);
	event_free(w->hold_event);
	event_base_free(w->base);
	mailbox_fini(&w->mailbox);
	rewrite_fini(&w->rewrite);
	buf_release(&w->rewritten);
	buf_release(&w->near_rest);
	near_waiter_free(&w->near_spare);
	free(w->near_call.touched.hashes);
	token_memo_free(&w->token_memo);
	namespace_stats_fini(w);
	limit_fini(w);
	hot_keys_fini(w);
	big_keys_fini(w);
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
	struct snapshot *old = w->snapshot;
	struct route *old_routes = w->routes;
	size_t n_old = w->n_routes;

	worker_now(w, clock_now_us());
	use_snapshot(w, arg);
	for (size_t i = 0; i < n_old; i++)
		route_fini(&old_routes[i]);
	free(old_routes);
	LIST_EACH (pos, next, &w->clients)
		client_take_config(container_of(pos, struct client, node));
	hub_take_config(w->hub);
	snapshot_unref(&old);
	redirect_tick(w, true);
	worker_wake_tick(w);
}

struct newcomer {
	int fd;
	bool tls;
	char *namespace; /* of its listener; NULL: none */
};

struct newcomer *newcomer_new(int fd, bool tls, const char *namespace)
{
	struct newcomer *n = xcalloc(1, sizeof(*n));

	n->fd = fd;
	n->tls = tls;
	n->namespace = namespace ? xstrdup(namespace) : NULL;
	return n;
}

/* A reload may have come between: its namespace may be no more. */
static bool is_welcome(const struct worker *w, const struct newcomer *n)
{
	const struct shared_config *holder = w->snapshot->holder;

	return !w->draining && (!n->tls || holder->server_tls) &&
	       (!n->namespace || namespaces_named(holder->namespaces, n->namespace));
}

void worker_take_client(struct worker *w, void *arg)
{
	struct newcomer *n = arg;

	if (is_welcome(w, n)) {
		client_new(w, n->fd, n->tls ? w->snapshot->holder->server_tls : NULL, n->namespace);
	} else {
		atomic_fetch_sub(&w->n_clients, 1);
		atomic_fetch_sub(&w->server->n_clients, 1);
		close(n->fd);
	}
	free(n->namespace);
	free(n);
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
		LIST_EACH (pos, next, &w->pools)
			pool_place_freed(container_of(pos, struct pool, node));
		break;
	case SERVER_PLACE_WANTED:
		LIST_EACH (pos, next, &w->pools)
			pool_place_wanted(container_of(pos, struct pool, node));
		break;
	case SERVER_PAUSE_CHANGED:
		worker_wake_tick(w);
		if (atomic_load(&w->server->pause_mode) == PAUSE_NONE)
			resume_waiting(w, WAIT_PAUSE);
		break;
	}
}
