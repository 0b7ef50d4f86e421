/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * [token_blacklist] on a command's way: TOKEN commands, and EXISTS and GET of the list's keys, are answered from the
 * mirror (cache/blacklist.h) while it holds, before anything else is done with them. What it does not know is asked of
 * Redis; and when that can't say either, on_failure says.
 *
 *      token_look.c    asking, from memory; and what is said when nobody knows
 *      token_write.c   a write to the list: the token is in doubt from before it is sent until Redis was asked
 *      token_cmd.c     the TOKEN commands, as what Redis is sent in their place
 *
 * The list is in the database of its upstream's url, whichever a client has selected: where they differ a script does
 * what has to be done there. An EXISTS or GET in another database is none of the list's business.
 */
#ifndef KEYWEIR_CLIENT_TOKEN_H
#define KEYWEIR_CLIENT_TOKEN_H

#include "client/client.h"
#include "client/near_call.h"
#include "policy/fix.h"

struct rewrite_key;

/* ---- token_look.c ---- */

/* Whether what the mirror says counts: of the present epoch of every master, and these confirm it. */
bool token_mirror_holds(const struct worker *w, int64_t now_us);

/* True: the call asks for a token, and was answered. */
bool token_read(struct client *c, struct call *call, enum verdict *verdict);

/* The short way of a pipeline: answers the requests at data that begin like the last one. Bytes taken. */
size_t token_run(struct client *c, const char *data, size_t len);

/* Whether a command may be such a one. */
static inline bool token_asks(const struct command *cmd)
{
	return cmd->token == TOKEN_ASK || cmd->token == TOKEN_THERE || cmd->token == TOKEN_VALUE;
}

/* Whether a token is one of the configuration's. */
bool token_is_static(const struct client *c, struct token_id id);

/* A token in 64 bits, for token_failure_says() later. */
uint64_t token_key(const struct client *c, struct token_id id);

/*
 * Neither memory nor Redis can say: whether the token counts as revoked. Counted, and logged now and then.
 */
bool token_failure_says(struct client *c, uint64_t key);

/* The answer to a command in words of Redis (bytes), all of whose keys are of the list. False: it is none such. */
bool token_stand_in(struct client *c, const struct command *cmd, struct slice bytes, struct buf *out);

/* The same when Redis has answered r with an error that says nothing of the token (-BUSY, -CLUSTERDOWN). */
bool token_error(const struct request *r, struct link *l, const char *error, size_t len, struct buf *out);

/* ---- token_write.c ---- */

/* The key, which is of the list, is going to be written. */
void token_mark(struct client *c, struct token_marks *marks, const struct rewrite_key *key);
void token_marks_move(struct token_marks *to, struct token_marks *from);
void token_marks_drop(struct token_marks *marks);		      /* it was not sent */
void token_marks_settle(struct server *s, struct token_marks *marks); /* it was answered, or will never be */

/* ---- token_cmd.c ---- */

enum verdict token_tell(struct client *c, const struct call *call); /* KEYWEIR TOKENS */

/* TOKEN.CHECK of several: one reply out of all. */
struct fanout;
void token_join(const struct fanout *f, struct buf *out);

#endif
