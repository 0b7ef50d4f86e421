/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MONITOR: every command that passes through the proxy, on all workers, to those who asked. What scripts call passes
 * inside Redis only: those lines come from Redis's own MONITOR, over a link of the client. Private to client/.
 */
#ifndef KEYWEIR_MONITOR_H
#define KEYWEIR_MONITOR_H

#include <stddef.h>

struct call;
struct client;
struct link;

/* Shows a command to all monitors. Only called while there are some. */
void monitor_feed(struct client *c, const struct call *call);

/* Ends MONITOR for a client. */
void monitor_stop(struct client *c);

/* For the link of a client in MONITOR. */
void monitor_feed_ready(struct link *feed);
void monitor_feed_push(struct client *c, const char *data, size_t len);
void monitor_feed_lost(struct client *c);

#endif
