/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The token keeper's connection to one master: it logs in, walks over the keys of the list, and asks for single ones.
 * Everything is answered in order. Control thread; its keeper's.
 */
#ifndef KEYWEIR_TOKEN_WIRE_H
#define KEYWEIR_TOKEN_WIRE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/token_id.h"
#include "cache/blacklist.h"
#include "policy/token.h"
#include "resp/reply_frame.h"
#include "upstream/node.h"

#define TOKEN_QUESTIONS_MAX 100000 /* for single keys, at a time */

struct talk;
struct token_wire;

struct token_wire_events {
	void (*ready)(void *ctx, struct token_wire *w);
	/* Nothing is heard after it. The wire may be closed. */
	void (*lost)(void *ctx, struct token_wire *w, const char *why);
	/* Of the walk: a token; and that it is over. */
	void (*found)(void *ctx, struct token_id id, const struct blacklist_fact *fact);
	void (*walked)(void *ctx, struct token_wire *w);
	/* What was asked for. True: once more. */
	bool (*answered)(void *ctx, struct token_id id, const struct blacklist_fact *fact);
	/* All that had been asked before token_wire_mark(). */
	void (*passed)(void *ctx);
};

struct token_question {
	uint8_t what;
	size_t len;
	struct token_id id;
	char *key; /* of a single one; upstream */
};

struct token_wire {
	struct node *node; /* a reference */
	const struct tokens *tokens;
	struct blacklist *list; /* whose values they are; NULL: names are enough, found() has no fact */
	const struct token_wire_events *events;
	void *ctx;
	struct talk *talk; /* NULL: closed */
	struct reply_frame frame;
	struct buf in;		      /* the beginning of a reply whose end is not here yet */
	struct buf out;		      /* what is to be sent */
	struct buf match;	      /* the pattern of the list's keys */
	unsigned scan_count;	      /* of keys at a time */
	struct token_question *asked; /* a ring */
	size_t first, n_asked, room;
	size_t n_single;
	size_t n_strange; /* keys that the walk met which are no token's: not hashed, or with another secret */
	int64_t pttl;	  /* the first answer about a key, when the second is still to come */
	bool half;
	int64_t heard_us;
};

void token_wire_init(struct token_wire *w, struct node *node, const struct tokens *tokens, struct blacklist *list,
		     const struct token_wire_events *events, void *ctx);
void token_wire_fini(struct token_wire *w);

void token_wire_open(struct token_wire *w, struct event_base *base);
void token_wire_close(struct token_wire *w);

static inline bool token_wire_is_open(const struct token_wire *w)
{
	return w->talk;
}

/* From its beginning: of each token found, and in the end that there are no more. */
void token_wire_walk(struct token_wire *w);

/* One key. False: too many are asked for. */
bool token_wire_ask(struct token_wire *w, struct token_id id, const char *key, size_t len);

/* Says when all that was asked until now is answered. */
void token_wire_mark(struct token_wire *w);

/* What the socket did not take before. Now and then. */
void token_wire_flush(struct token_wire *w);

/* How long it has been silent though something was asked. */
int64_t token_wire_silent_us(const struct token_wire *w, int64_t now_us);

#endif
