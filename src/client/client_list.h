/* SPDX-License-Identifier: BSD-2-Clause */
/* Describing and choosing clients; private to client/. */
#ifndef KEYWEIR_CLIENT_LIST_H
#define KEYWEIR_CLIENT_LIST_H

#include <stdbool.h>

struct buf;
struct client;

/* One line of CLIENT LIST, with its newline. */
void client_list_line(struct client *c, struct buf *out);

#endif
