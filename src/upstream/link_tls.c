/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS of a link: its handshake, which waits for its turn among the worker's, and replies that TLS has taken from the
 * socket already. A session is resumed where Redis lets us.
 */
#include "upstream/link_io.h"

#include <stdio.h>

#include "upstream/pool.h"
#include "upstream/upstream.h"
#include "worker.h"

static void want_write(struct link *l, bool want)
{
	if (want && !l->want_write)
		event_add(&l->write_event, NULL);
	else if (!want && l->want_write)
		event_del(&l->write_event);
	l->want_write = want;
}

static void handshake(struct link *l)
{
	switch (transport_handshake(&l->io)) {
	case HANDSHAKE_DONE:
		counter_add(&l->w->counters.upstream_tls_handshakes, 1);
		if (transport_is_resumed(&l->io))
			counter_add(&l->w->counters.upstream_tls_resumed, 1);
		link_connected(l);
		link_read_on(l);
		break;
	case HANDSHAKE_READ:
		event_add(&l->read_event, NULL);
		break;
	case HANDSHAKE_WRITE:
		want_write(l, true);
		break;
	case HANDSHAKE_FAILED: {
		char why[sizeof(l->why)];

		snprintf(why, sizeof(why), "TLS: %s", transport_why(&l->io));
		link_connect_failed(l, why);
		break;
	}
	}
}

static void on_turn(void *owner)
{
	struct link *l = owner;

	if (l->state == LINK_CONNECTING)
		handshake(l);
	else
		link_on_readable(l->io.fd, 0, l);
}

void link_tls_begin(struct link *l)
{
	struct node *n = l->pool->server;

	if (transport_connect_tls(&l->io, n->up->tls, n->host, &n->tls_memory, on_turn, l))
		worker_handshake_soon(l->w, l->io.tls);
	else
		link_connect_failed(l, transport_why(&l->io));
}

void link_tls_soon(struct link *l)
{
	event_del(&l->read_event);
	want_write(l, false);
	worker_handshake_soon(l->w, l->io.tls);
}

void link_read_on_soon(struct link *l)
{
	if (l->paused || l->state == LINK_CLOSED)
		return;
	if (l->io.tls->read_wants_write)
		want_write(l, true);
	else if (transport_has_more(&l->io))
		worker_read_soon(l->w, l->io.tls);
}
