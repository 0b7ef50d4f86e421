/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection of a tracker: questions, whose answers come in order, and what Redis tells unasked in between.
 * RESP2 or RESP3, whichever is spoken. Control thread.
 *
 * An answer counts only when all that stood behind it has been read, too: Redis writes an answer and the keys that
 * changed in the same turn of its loop together, the answer first. So what `answered` confirms is told by
 * wire_answered_us(), which moves with `drained`.
 */
#ifndef KEYWEIR_TRACKING_WIRE_H
#define KEYWEIR_TRACKING_WIRE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "resp/reply_frame.h"
#include "upstream/node.h"

#define WIRE_ASKED_MAX 128
#define WIRE_REPLY_MAX ((size_t)16 << 20) /* a longer list of keys is taken for all keys */

struct talk;
struct wire;

enum question {
	ASK_HELLO,
	ASK_AUTH,
	ASK_NAME,
	ASK_ID,
	ASK_TRACKING,
	ASK_SUBSCRIBE,
	ASK_PING,
	ASK_SWAPS,
	ASK_ROLE,
	ASK_CLUSTER_INFO,
	ASK_CLUSTER_NODES,
};

/* In each of them the wire may be closed. */
struct wire_events {
	void (*ready)(void *ctx, struct wire *w);
	void (*lost)(void *ctx, struct wire *w, const char *why);
	void (*answered)(void *ctx, struct wire *w, enum question q, const char *reply, size_t len);
	void (*changed)(void *ctx, const char *key, size_t len);
	void (*flushed)(void *ctx); /* all keys */
	void (*drained)(void *ctx, struct wire *w);
};

struct wire {
	struct talk *talk; /* NULL: closed */
	const struct wire_events *events;
	void *ctx;
	struct reply_frame frame;
	struct buf in;	/* the beginning of a reply whose end is not here yet */
	bool too_large; /* that one; it is dropped */
	struct {
		enum question what;
		int64_t sent_us;
	} asked[WIRE_ASKED_MAX];
	unsigned n_asked;
	int64_t asking_us;   /* when what is being answered was asked; for `answered` */
	int64_t heard_us;    /* when the last bytes came */
	int64_t fresh_us;    /* as answered_us, until all is read */
	int64_t answered_us; /* when the last question that confirms something was asked; 0: none yet */
};

void wire_open(struct wire *w, struct event_base *base, struct node *node, const struct wire_events *events, void *ctx);
void wire_close(struct wire *w);

static inline bool wire_is_open(const struct wire *w)
{
	return w->talk;
}

/* Dropped when too much is asked already. */
void wire_ask(struct wire *w, enum question q, int64_t now_us, size_t argc, const char *const *argv);

/* Whether it is connected to one of these addresses; nothing speaks against it: true. */
bool wire_is_at(const struct wire *w, const struct address *list, unsigned n);

/* Inside `answered`: the answer confirms what was so when it was asked for. */
void wire_confirm(struct wire *w);

/* Nothing that was confirmed up to now counts. */
void wire_forget(struct wire *w);

bool wire_is_asked(const struct wire *w, enum question q);

/* How long it has been silent though something was asked. */
int64_t wire_silent_us(const struct wire *w, int64_t now_us);

#endif
