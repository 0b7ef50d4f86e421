/* SPDX-License-Identifier: BSD-2-Clause */
/* MONITOR: every command that passes through the proxy, on all workers, to those who asked. Private to client/. */
#ifndef KEYWEIR_MONITOR_H
#define KEYWEIR_MONITOR_H

struct call;
struct client;

/* Shows a command to all monitors. Only called while there are some. */
void monitor_feed(struct client *c, const struct call *call);

/* Ends MONITOR for a client. */
void monitor_stop(struct client *c);

#endif
