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
	size_t n_on_way;     /* sent and not answered */
	uint64_t generation; /* of the worker's routes, for what is on the way */
	int64_t not_before_us;
};

struct copy {
	struct list node; /* in one of the mirror's two */
	struct mirror *m;
	const struct command *cmd;
	struct buf bytes;    /* while it is in a list */
	struct buf expected; /* what the client was told, when it is to be compared */
	struct node *at;     /* a reference: only there; NULL: whoever serves the slot */
	int db;
	int16_t slot; /* of its keys, -1: none */
	uint8_t redirects;
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

/*
 * What a command did, when the same again would do something else: appended to out, and *cmd is the other command.
 * reply is what Redis said.
 */
enum rewrite { REWRITE_NONE, REWRITE_DONE, REWRITE_NOTHING };
enum rewrite mirror_rewrite(const struct call *call, const struct buf *reply, const struct command_set *learnt,
			    struct buf *out, const struct command **cmd);

/* Whether mirror_rewrite() may want the reply. */
bool mirror_rewrites(const struct command *cmd);

/* Whether two replies to cmd mean the same, each in RESP2 or RESP3. */
bool mirror_same(const struct command *cmd, const struct buf *a, const struct buf *b);

#endif
