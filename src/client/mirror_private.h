/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the mirror share: see mirror.h. */
#ifndef KEYWEIR_CLIENT_MIRROR_PRIVATE_H
#define KEYWEIR_CLIENT_MIRROR_PRIVATE_H

#include "client/mirror.h"
#include "upstream/route.h"

#define MIRROR_BYTES_MAX   ((size_t)16 << 20) /* unanswered on one link, or waiting; more is dropped */
#define MIRROR_COPIES_MAX  100000
#define MIRROR_COMPARE_MAX ((size_t)1 << 20) /* longer replies are not compared */
#define MIRROR_KEY_SHOWN   16

/* A worker's way to one upstream that gets copies. */
struct mirror {
	struct list node; /* in worker.mirrors */
	struct worker *w;
	struct upstream *up; /* a reference */
	bool wanted;	     /* the configuration has it still */
	struct list again;   /* copies that were redirected, in the order of their answers */
	struct list waiting; /* copies behind these */
	size_t n_waiting;    /* in both */
	size_t waiting_bytes;
	size_t n_on_way;       /* sent and not answered */
	size_t expected_bytes; /* of replies to compare with; beyond the bound nothing is compared */
	uint64_t generation;   /* of the worker's routes, for what is on the way */
	int64_t not_before_us;
	struct list later; /* copies that found nothing to remove, see mirror_rewrite.c */
	size_t n_later;
	size_t later_bytes;
};

struct copy {
	struct list node; /* in one of the mirror's lists */
	struct mirror *m;
	const struct command *cmd;
	struct buf bytes;    /* while it is in a list */
	struct buf expected; /* what the client was told, when it is to be compared */
	struct node *at;     /* a reference: only there; NULL: whoever serves the slot */
	int64_t due_us;	     /* in `later` */
	int db;
	int16_t slot; /* of its keys, -1: none */
	uint8_t redirects;
	uint8_t tries;
	bool removes; /* what was popped; 0 says that it is not there yet */
	bool compare;
	bool unit;
	bool asking;
	char key[MIRROR_KEY_SHOWN + 4]; /* its first one, as a log may show it */
};

/* The shortest way to say why a copy was dropped; at most once a second in the log. */
void mirror_dropped(const struct mirror *m, const char *why);

/* Sends the copy, or queues it, or drops it; it is the callee's. */
void mirror_give(struct copy *copy, const char *bytes, size_t len);

/* The link of the copy r is gone. */
void mirror_lost_copy(struct request *r);

struct copy *mirror_copy_new(struct mirror *m, const struct command *cmd, int db, int slot);

/* The mirror's route; NULL: it is no longer there. */
struct route *mirror_route(const struct mirror *m);

/* BLPOP and others: what they popped is told by commands that remove it; each is given to emit, bytes are borrowed. */
typedef void (*mirror_emit_fn)(void *ctx, const struct command *cmd, const struct buf *bytes);
bool mirror_pops(const struct command *cmd);

/* False: the reply is too large. */
bool mirror_popped(const struct call *call, const struct buf *reply, const struct command_set *learnt,
		   mirror_emit_fn emit, void *ctx);

/* XADD: the same with the ID that Redis has made. False: it needs no change. */
bool mirror_makes_ids(const struct command *cmd);
bool mirror_with_id(const struct call *call, const struct buf *reply, struct buf *out);

/* Whether two replies to cmd mean the same, each in RESP2 or RESP3. */
bool mirror_same(const struct command *cmd, const struct buf *a, const struct buf *b);

#endif
