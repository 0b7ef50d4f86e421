/* SPDX-License-Identifier: BSD-2-Clause */
/* Callbacks of the input half of a client; private to client/. */
#ifndef KEYWEIR_CLIENT_IO_H
#define KEYWEIR_CLIENT_IO_H

#include <event2/util.h>

#include "client/client.h"

void client_on_readable(evutil_socket_t fd, short what, void *arg);

/* ---- TLS (client_tls.c) ---- */

/* Begins; the handshake goes on with what the client sends. */
void client_tls_begin(struct client *c, struct tls *tls);

/* A step of the handshake, when it is its turn. */
void client_handshake_soon(struct client *c);
void client_handshake_failed(struct client *c, const char *why);

/* What TLS holds of the client's input is read in the next turn: no event tells of it. */
void client_read_on_soon(struct client *c);
static inline void client_read_on(struct client *c)
{
	if (__builtin_expect(c->io.tls != NULL, 0))
		client_read_on_soon(c);
}

/* Hears when the socket takes more. */
void client_wait_for_writable(struct client *c);

#endif
