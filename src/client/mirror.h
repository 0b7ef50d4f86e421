/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mirroring: another upstream gets a copy of what clients do ([upstream.NAME] mirror_to), so that people can move from
 * one Redis to another without a stop.
 *
 * A command is copied when its reply has come, not when it is sent: only then is it known that it was done, which
 * transaction was aborted, what a blocking pop popped. So nothing is copied that Redis refused or never got, a retry
 * or a redirection makes no second copy, and a client waits for nothing of this.
 *
 *   mirror.c          which commands, and in which parts
 *   mirror_rewrite.c  commands that would not do the same again: BLPOP, XADD with *
 *   mirror_send.c     the link to the mirror, its bounds, redirections there, answers
 *   mirror_compare.c  whether two replies say the same
 *
 * Order: all copies of a worker to one node and database go over one link, in the order of the replies. So the writes
 * of one client to one key keep their order, and so do those of clients of one worker who share a link. Writes to one
 * key that different clients have under way at the same time, over different connections to Redis, may be done in
 * another order on the mirror; so may those of different workers.
 *
 * A mirror that is down, slow or full never delays a client: what it can't take is dropped and counted, and from then
 * on it differs until it is filled anew.
 *
 * One worker's thread. Owner of a struct mirror: the worker; of a struct copy: its request, or its mirror's queue.
 */
#ifndef KEYWEIR_CLIENT_MIRROR_H
#define KEYWEIR_CLIENT_MIRROR_H

#include "client/client.h"

/* A piece of the reply to r, which a client has sent; not of one that is redirected. */
void mirror_heard(struct request *r, const char *data, size_t len, struct link *l, bool done);

/* A piece of the reply to a copy. */
void mirror_answered(struct request *r, const char *data, size_t len, struct link *l, bool done);

/* l is gone with r, a copy or a client's, unanswered. The caller frees r. */
void mirror_lost(struct request *r, const struct link *l);

/* Whether a large command to p, of which only the head is here, must be waited for, since it will be copied. */
bool mirror_gathers(const struct worker *w, const struct call *call, const struct pool *p);

/* The worker has new routes. */
void mirror_take_routes(struct worker *w);
void mirror_tick(struct worker *w);

/* Whether all copies are answered. */
bool mirror_is_idle(const struct worker *w);

/* The worker ends: nothing more is sent; when all its links are closed, what is left is freed. */
void mirror_stop(struct worker *w);
void mirror_drop_all(struct worker *w);

#endif
