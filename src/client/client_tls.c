/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS of clients: handshakes, which the worker makes a few at a time since each may cost a millisecond, and input that
 * TLS has taken from the socket already.
 */
#include "base/log.h"
#include "client/client_io.h"
#include "server.h"

void client_handshake_failed(struct client *c, const char *why)
{
	static struct log_limit limit;
	char peer[ADDRESS_TEXT_MAX] = "?";
	struct address a;

	counter_add(&c->w->counters.tls_failed, 1);
	if (log_limit_pass(&limit)) {
		if (address_of_socket(c->io.fd, false, &a))
			address_format(&a, peer);
		log_info("TLS handshake with %s failed: %s", peer, why);
	}
	client_close(c);
}

static void established(struct client *c)
{
	counter_add(&c->w->counters.tls_handshakes, 1);
	if (transport_is_resumed(&c->io))
		counter_add(&c->w->counters.tls_resumed, 1);
	event_add(&c->event, NULL);
	client_read_on(c);
}

static void handshake(struct client *c)
{
	switch (transport_handshake(&c->io)) {
	case HANDSHAKE_DONE:
		established(c);
		break;
	case HANDSHAKE_READ:
		event_add(&c->event, NULL);
		break;
	case HANDSHAKE_WRITE:
		client_wait_for_writable(c);
		break;
	case HANDSHAKE_FAILED:
		client_handshake_failed(c, transport_why(&c->io));
		break;
	}
}

static void on_turn(void *owner)
{
	struct client *c = owner;

	if (transport_is_established(&c->io))
		client_on_readable(c->io.fd, 0, c);
	else
		handshake(c);
}

void client_tls_begin(struct client *c, struct tls *tls)
{
	if (!transport_accept_tls(&c->io, tls, on_turn, c))
		client_handshake_failed(c, transport_why(&c->io));
}

void client_handshake_soon(struct client *c)
{
	event_del(&c->event);
	worker_handshake_soon(c->w, c->io.tls);
}

void client_read_on_soon(struct client *c)
{
	if (c->stalled || c->closed || !c->io.tls->established)
		return;
	if (c->io.tls->read_wants_write)
		client_wait_for_writable(c);
	else if (transport_has_more(&c->io))
		worker_read_soon(c->w, c->io.tls);
}
