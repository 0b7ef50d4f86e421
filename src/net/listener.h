/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Listening sockets: opening them, taking over those of systemd, accepting. All on the control thread.
 * When the process has no descriptors left, a spare one is given up to accept and close at once, and the listener
 * rests for a moment, instead of spinning.
 */
#ifndef KEYWEIR_LISTENER_H
#define KEYWEIR_LISTENER_H

#include <event2/event.h>
#include <stdbool.h>

#include "base/list.h"
#include "net/addr.h"

struct listener {
	struct list node;
	char *text;	 /* as configured */
	char *namespace; /* its clients see only this one; NULL: an ordinary one */
	bool tls;
	struct address address;
	int fd;
	bool inherited; /* from systemd: never unlinked, kept over reloads */
	/* Scratch of a reload: how the new configuration has it. */
	const char *seen;
	const char *seen_namespace;
	struct event *event;
	struct event *rest;					       /* timer */
	void (*accepted)(void *ctx, int fd, const struct listener *l); /* takes the socket */
	void *ctx;
};

/* Opens and binds; NULL with a text in why. Not listened to before listener_start(). */
struct listener *listener_open(const char *text, const char *namespace, int backlog, char *why, size_t why_size);

/* Takes over a listening socket. */
struct listener *listener_adopt(int fd, char *why, size_t why_size);

bool listener_start(struct listener *l, struct event_base *base,
		    void (*accepted)(void *ctx, int fd, const struct listener *l), void *ctx);

/* Whether text means the same socket, TLS or not. */
bool listener_is_at(const struct listener *l, const char *text);

/* From now on it is what these say. */
void listener_become(struct listener *l, const char *text, const char *namespace);
void listener_close(struct listener **l); /* also unlinks its Unix socket */

#endif
