/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tokens of [token_blacklist]: what they are called in Redis, by what they are known in memory, and which of them are
 * revoked whatever Redis says.
 *
 * The list knows a token by its **subject**: the token itself, or, by = "jti", the jti of a JWT. In Redis that is the
 * list's prefix and the subject, or with hash_tokens the keyed hash of it, in front of which two bytes tell which
 * secret has made it: what another has made is not taken for an unknown token. In memory it is an **id** of 16 bytes,
 * which leads back to nothing: with hash_tokens that hash, else one under a key that this process has made for itself.
 *
 * Immutable; owner: struct shared_config. Any thread.
 */
#ifndef KEYWEIR_TOKEN_H
#define KEYWEIR_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/token_id.h"
#include "config/config.h"
#include "policy/jwt.h"

struct tokens;

/*
 * Reads the file of tokens. conf must live as long; of its secrets nothing is needed later. NULL with a text in why: it
 * can't be read.
 */
struct tokens *tokens_new(const struct token_blacklist_config *conf, char *why, size_t why_size);
void tokens_free(struct tokens **t);

const struct token_blacklist_config *tokens_conf(const struct tokens *t);
const char *tokens_prefix(const struct tokens *t, size_t *len); /* of keys upstream */
size_t tokens_n_static(const struct tokens *t);

/* Whether both know the same tokens by the same names (not: whether the same are static). */
bool tokens_same(const struct tokens *a, const struct tokens *b);

struct token_text {
	const char *p;
	size_t len;
};

/* The subject of a token. room: what it may lie in. */
struct token_text tokens_subject(const struct tokens *t, const char *token, size_t len, struct jwt *room);

struct token_id tokens_id(const struct tokens *t, const char *subject, size_t len);

/* Appends what stands behind the prefix in Redis. */
void tokens_put_name(const struct tokens *t, const char *subject, size_t len, struct buf *out);

/* The id of what stands behind the prefix in Redis. False: no token has such a name, with this secret. */
bool tokens_id_of_name(const struct tokens *t, const char *name, size_t len, struct token_id *out);

/* Whether the key, as it is in Redis, lies within the list. */
bool tokens_has_key(const struct tokens *t, const char *key, size_t len);

/* The same of a whole key; false also for a key of something else. */
bool tokens_id_of_key(const struct tokens *t, const char *key, size_t len, struct token_id *out);

bool tokens_is_static(const struct tokens *t, struct token_id id);
#endif
