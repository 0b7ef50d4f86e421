/* SPDX-License-Identifier: BSD-2-Clause */
/* CLIENT TRACKING of clients themselves, and the feeds of those that others redirect to. Private to client/. */
#ifndef KEYWEIR_TRACKING_H
#define KEYWEIR_TRACKING_H

#include <stdbool.h>
#include <stddef.h>

struct client;
struct link;

/* The client leaves: nothing is redirected to it any more. */
void tracking_drop_feed(struct client *c);

/* What came over a feed, whole. */
void tracking_feed_push(struct link *feed, const char *data, size_t len);

#endif
