/* SPDX-License-Identifier: BSD-2-Clause */
/* Callbacks of the input half of a client; private to client/. */
#ifndef KEYWEIR_CLIENT_IO_H
#define KEYWEIR_CLIENT_IO_H

#include <event2/util.h>

void client_on_readable(evutil_socket_t fd, short what, void *arg);

#endif
