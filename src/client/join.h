/* SPDX-License-Identifier: BSD-2-Clause */
/* One reply out of many, as the command's response_policy says. https://redis.io/docs/reference/command-tips/ */
#ifndef KEYWEIR_CLIENT_JOIN_H
#define KEYWEIR_CLIENT_JOIN_H

#include <stdint.h>

#include "base/buf.h"
#include "command/command.h"
#include "request.h"
#include "upstream/upstream.h"

struct fan_part {
	struct request *request; /* NULL: answered */
	struct link *leased;	 /* a dedicated link of its own (WAIT); else NULL */
	struct buf reply;
	char type; /* of the reply's first line */
	int64_t number;
	int64_t about; /* with fanout_by_each_key(): what it is about */
};

/* A command that is answered by parts. Owner: its parent's `arg`. */
struct fanout {
	struct request *parent;
	const struct command *cmd;
	uint32_t n;
	uint32_t n_left;
	struct upstream *up; /* a reference, with request; else NULL */
	struct buf request;  /* of what is remembered, see scripts.h, or for rename */
	void (*rename)(struct client *c, const struct buf *request, struct buf *reply); /* see fanout_renamed() */
	uint32_t n_keys;								/* by key: */
	uint32_t *owner; /* which part has which key; NULL: not by key */
	struct fan_part parts[];
};

/* All parts are answered: what the client gets is appended to out. */
void join_replies(const struct fanout *f, struct buf *out);

#endif
