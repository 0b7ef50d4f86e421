/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * on_failure = "miss": while Redis is not there, commands on the keys of such a namespace are answered as if the keys
 * were absent, and cache writes as if they were done. What that is for each command says the table (column "absent").
 */
#ifndef KEYWEIR_CLIENT_ABSENT_H
#define KEYWEIR_CLIENT_ABSENT_H

#include "client/client.h"

/* True: the call was answered so. */
bool absent_answer(struct client *c, const struct call *call);

/* The same into out: for a call, or for a request's bytes. misses: it is known already that all keys want it. */
bool absent_make(struct client *c, const struct call *call, struct buf *out);
bool absent_make_of(struct client *c, const struct command *cmd, struct slice bytes, bool misses, struct buf *out);

/*
 * r was sent, and will not be answered; its bytes are in `sent`, or given. True: r->reply is the answer, which is not
 * given yet.
 */
bool absent_stand_in(struct request *r, const struct outq *sent);
bool absent_stand_in_of(struct request *r, const struct buf *bytes);

#endif
