/* SPDX-License-Identifier: BSD-2-Clause */
/* The reading half of a link; private to upstream/. */
#ifndef KEYWEIR_LINK_IO_H
#define KEYWEIR_LINK_IO_H

#include "upstream/link.h"

void link_on_readable(evutil_socket_t fd, short what, void *arg);

/* ---- TLS (link_tls.c) ---- */
void link_tls_begin(struct link *l);
void link_tls_soon(struct link *l); /* a step of the handshake, when it is its turn */

/* What TLS holds of the replies is read in the next turn: no event tells of it. */
void link_read_on_soon(struct link *l);
static inline void link_read_on(struct link *l)
{
	if (__builtin_expect(l->io.tls != NULL, 0))
		link_read_on_soon(l);
}

#endif
