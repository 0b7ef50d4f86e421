/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a worker remembers of tokens that it was asked for lately: their ids, since the keyed hash takes longer than all
 * the rest of an answer (and a JWT's jti longer still), and when they were last seen to be clear. Most tokens come
 * again with every request of their owner.
 *
 * Known by a hash of 64 bits under a key of the worker's own. Of a fixed size (4 MB, of which the system gives what is
 * used); a newer one takes the place of an older.
 */
#ifndef KEYWEIR_TOKEN_MEMO_H
#define KEYWEIR_TOKEN_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/token_id.h"

#define TOKEN_MEMO_PLACES (1 << 17)

struct token_memo;

struct token_memory {
	uint64_t tag;
	uint64_t mark; /* blacklist_mark() when it was clear; 0: it was not, or nobody has looked */
};

struct token_memo *token_memo_new(void);
void token_memo_free(struct token_memo **m);
void token_memo_forget(struct token_memo *m); /* all of it: ids mean something else */

/* Of what a client wrote. kind keeps apart what reads the same and means another token. */
uint64_t token_memo_tag(const struct token_memo *m, unsigned kind, const char *text, size_t len);

/* It will be looked for in a moment. */
void token_memo_expect(const struct token_memo *m, uint64_t tag);

/* What is remembered of it. *known: it was there; else it has nothing but its tag, and the id must be told. */
struct token_memory *token_memo_at(struct token_memo *m, uint64_t tag, bool *known);
struct token_id *token_memo_id(struct token_memo *m, const struct token_memory *at);

#endif
