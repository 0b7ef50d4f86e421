/* SPDX-License-Identifier: BSD-2-Clause */
/* The reading half of a link; private to upstream/. */
#ifndef KEYWEIR_LINK_IO_H
#define KEYWEIR_LINK_IO_H

#include "upstream/link.h"

void link_on_readable(evutil_socket_t fd, short what, void *arg);

#endif
