/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A link's life: connecting, closing, its queue and its writes. Reading and attributing replies is link_io.c,
 * logging in is handshake.c.
 */
#include "upstream/link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "upstream/link_io.h"
#include "upstream/pool.h"
#include "worker.h"

#define DRAINED_BYTES ((size_t)256 * 1024)

static void start_connect(struct link *l);

static void set_why(struct link *l, const char *why)
{
	snprintf(l->why, sizeof(l->why), "%s", why);
}

static void stop_events(struct link *l)
{
	if (l->io.fd < 0)
		return;
	event_del(&l->read_event);
	event_del(&l->write_event);
	l->want_write = false;
	transport_close(&l->io);
}

/* This address did not answer: the next one, or give up. */
void link_connect_failed(struct link *l, const char *why)
{
	set_why(l, why);
	stop_events(l);
	if (l->next_address < l->n_addresses)
		start_connect(l);
	else if (list_is_linked(&l->node))
		link_close(l, l->why);
	else
		l->deadline_us = 0; /* inside link_open(), before anybody has put it into a list: the tick ends it */
}

static void on_connected(struct link *l)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(l->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		link_connect_failed(l, strerror(error));
		return;
	}
	event_del(&l->write_event);
	l->want_write = false;
	if (l->pool->server->up->tls)
		link_tls_begin(l);
	else
		link_connected(l);
}

void link_connected(struct link *l)
{
	l->state = LINK_HANDSHAKE;
	event_add(&l->read_event, NULL);
	link_write_handshake(l);
}

static void link_on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	(void)what;
	worker_now(l->w, clock_now_us());
	if (l->state == LINK_CONNECTING && l->io.tls)
		link_tls_soon(l);
	else if (l->state == LINK_CONNECTING)
		on_connected(l);
	else if (l->state == LINK_READY)
		link_flush(l);
	if (l->io.tls && l->io.tls->read_wants_write)
		link_on_readable(fd, 0, l);
}

static void set_socket_options(int fd, const struct address *a)
{
	int on = 1, idle_s = 60;

	if (a->sa.sa_family == AF_UNIX)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
}

static void start_connect(struct link *l)
{
	const struct address *a = &l->addresses[l->next_address++];

	l->io = (struct transport){.fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
	if (l->io.fd < 0) {
		link_connect_failed(l, strerror(errno));
		return;
	}
	set_socket_options(l->io.fd, a);
	event_assign(&l->read_event, l->w->base, l->io.fd, EV_READ | EV_PERSIST, link_on_readable, l);
	event_assign(&l->write_event, l->w->base, l->io.fd, EV_WRITE | EV_PERSIST, link_on_writable, l);
	if (connect(l->io.fd, &a->sa, a->len) < 0 && errno != EINPROGRESS) {
		link_connect_failed(l, strerror(errno));
		return;
	}
	/* Also when connected at once (Unix sockets): on_connected() runs from the loop, never from inside link_open().
	 */
	event_add(&l->write_event, NULL);
	l->want_write = true;
}

struct link *link_open(struct pool *pool, enum link_kind kind, int proto, int db)
{
	struct link *l = xcalloc(1, sizeof(*l));

	l->w = pool->w;
	l->pool = pool;
	l->kind = kind;
	l->proto = proto;
	l->db = db;
	l->io = (struct transport){.fd = -1};
	list_init(&l->node);
	list_init(&l->dirty);
	outq_init(&l->out, &l->w->chunks, kind != LINK_HUB && kind != LINK_FEED);
	l->deadline_us = clock_now_us() + pool->server->conf->connect_timeout_ms * 1000;
	l->n_addresses = node_addresses(pool->server, l->addresses);
	atomic_fetch_add(&pool->server->n_links, 1);
	worker_wake_tick(l->w);
	if (l->n_addresses > 0)
		start_connect(l);
	else /* the tick goes on, or fails */
		node_resolve_soon(pool->server);
	return l;
}

bool link_look_up(struct link *l)
{
	bool looking = atomic_load(&l->pool->server->looking_up);

	l->n_addresses = node_addresses(l->pool->server, l->addresses);
	if (l->n_addresses > 0)
		start_connect(l);
	else if (!looking)
		set_why(l, "host name can't be resolved");
	return l->n_addresses > 0 || looking;
}

void link_mark_dirty(struct link *l)
{
	if (l->state == LINK_READY && !l->want_write && !list_is_linked(&l->dirty)) {
		list_append(&l->w->dirty_links, &l->dirty);
		l->write_us = l->w->now_us;
	}
}

void link_send_more(struct link *l, const char *data, size_t len)
{
	outq_append(&l->out, data, len);
	link_mark_dirty(l);
}

void link_became_ready(struct link *l)
{
	l->state = LINK_READY;
	l->read_us = l->w->now_us;
	buf_release(&l->handshake);
	pool_link_ready(l->pool, l);
	if (l->out.bytes > 0)
		link_mark_dirty(l);
	if (l->owner || l->user)
		l->pool->events->ready(l);
}

void link_flush(struct link *l)
{
	size_t written = 0;
	bool was_full = l->out.bytes > DRAINED_BYTES;

	if (l->state != LINK_READY)
		return;
	if (!transport_flush(&l->io, &l->out, &written)) {
		link_close(l, transport_why(&l->io));
		return;
	}
	counter_add(&l->w->counters.upstream_writes, 1);
	counter_add(&l->w->counters.upstream_bytes_out, written);
	if (written > 0)
		l->write_us = l->w->now_us;
	/* A large value that streams through is not kept: it is never sent again. */
	if (l->tail && l->tail->flags & REQUEST_STREAMED)
		outq_forget(&l->out, outq_written_pos(&l->out));
	if (l->out.bytes > 0 && !l->want_write) {
		event_add(&l->write_event, NULL);
		l->want_write = true;
	} else if (l->out.bytes == 0 && l->want_write) {
		event_del(&l->write_event);
		l->want_write = false;
	}
	if (was_full && l->out.bytes <= DRAINED_BYTES)
		l->pool->events->drained(l);
}

void link_pause(struct link *l)
{
	if (l->paused || l->io.fd < 0)
		return;
	l->paused = true;
	l->paused_us = l->w->now_us;
	event_del(&l->read_event);
	transport_leave_turn(&l->io);
	if (l->kind == LINK_SHARED)
		pool_retire_shared(l->pool, l); /* whoever comes now need not wait behind it */
}

void link_resume(struct link *l)
{
	if (!l->paused || l->io.fd < 0)
		return;
	l->paused = false;
	/* The pause was ours, not Redis's silence. */
	if (l->head && l->head->deadline_us > 0)
		l->head->deadline_us += l->w->now_us - l->paused_us;
	l->read_us = l->w->now_us;
	event_add(&l->read_event, NULL);
	link_read_on(l);
}

void link_close(struct link *l, const char *why)
{
	struct request *lost = l->head;
	bool was_ready = l->state == LINK_READY;

	if (l->state == LINK_CLOSED)
		return;
	if (why != l->why)
		set_why(l, why);
	log_debug("Link %d of %s closed: %s", l->io.fd, l->pool->server->label, l->why);
	stop_events(l);
	l->state = LINK_CLOSED;
	list_remove(&l->dirty);
	list_remove(&l->node);
	list_append(&l->w->dying_links, &l->node);
	l->head = l->tail = NULL;
	l->n_queue = 0;
	atomic_fetch_sub(&l->pool->server->n_links, 1);
	if (was_ready)
		atomic_fetch_add(&l->pool->server->n_losses, lost ? 1 : 0);
	else if (!l->unwanted)
		pool_link_failed(l->pool, l);
	pool_link_gone(l->pool, l);
	if (lost)
		l->pool->events->queue_lost(l, lost);
	if (l->owner || l->user)
		l->pool->events->lost(l);
	l->owner = NULL;
	l->user = NULL;
}

void link_drop(struct link *l, const char *why)
{
	l->unwanted = true;
	link_close(l, why);
}

void link_free(struct link **lp)
{
	struct link *l = *lp;

	*lp = NULL;
	assert(l->state == LINK_CLOSED);
	list_remove(&l->node);
	outq_clear(&l->out);
	buf_release(&l->heard);
	buf_release(&l->handshake);
	free(l);
}
