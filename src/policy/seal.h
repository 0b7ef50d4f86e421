/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Values sealed at rest: XChaCha20-Poly1305 (libsodium's crypto_aead_xchacha20poly1305_ietf) with a random nonce.
 *
 *      magic (4, with the version) | n (1) | name of the key (n) | nonce (24) | sealed value | tag (16)
 *
 * What a value is bound to: all that stands before its nonce, its kind, its upstream key, and its field. One that was
 * moved, cut or altered does not open. The ring's first key seals, all open. Keys of the configuration are not used
 * themselves, but a key that is derived from each for this purpose.
 *
 * With accept_plaintext what does not begin with the magic counts as not sealed, and is handed on: while existing data
 * are moved over nobody can tell a value that was put there from one that always was. What begins with the magic must
 * open even then.
 *
 * Immutable; owner: struct shared_config. Any thread.
 */
#ifndef KEYWEIR_SEAL_H
#define KEYWEIR_SEAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "config/config.h"

struct keyring;

/* NULL, with the reason in why, when the keys make no sense. No keys at all: a ring that can't seal (asserted). */
struct keyring *keyring_new(const struct encryption_config *conf, char *why, size_t why_size);
void keyring_free(struct keyring **ring); /* wiped */

/* 32 bytes of [encryption] hash_key; NULL: there is none. */
const unsigned char *keyring_hash_key(const struct keyring *ring);

enum seal_kind {
	SEAL_STRING = 's',
	SEAL_FIELD = 'h',   /* of a hash */
	SEAL_ELEMENT = 'l', /* of a list, wherever it stands in it */
	SEAL_ENTRY = 'x',   /* a field's value in a stream's entry */
	SEAL_MESSAGE = 'p', /* Pub/Sub: key is the channel */
};

/* What a value is bound to. Borrowed. */
struct seal_place {
	enum seal_kind kind;
	const char *key; /* upstream */
	size_t key_len;
	const char *field; /* FIELD, ENTRY; else NULL */
	size_t field_len;
};

/* How many bytes a value of len becomes. */
size_t sealed_length(const struct keyring *ring, size_t len);

/*
 * Appends the sealed value, sealed_length() bytes. False: out of memory, nothing appended. Nothing of what is borrowed
 * may lie in out, which is written directly.
 */
bool seal_put(const struct keyring *ring, const struct seal_place *at, const char *value, size_t len, struct buf *out)
	__attribute__((warn_unused_result));

enum open_status {
	OPEN_OK,
	OPEN_PLAIN, /* it is not sealed, and accept_plaintext is on: it was appended as it is */
	/* Not sealed, moved, cut, altered, sealed with a key that is not there, or no memory; nothing was appended. */
	OPEN_BROKEN,
};

/* Appends the value; as above. */
enum open_status seal_open(const struct keyring *ring, const struct seal_place *at, const char *sealed, size_t len,
			   struct buf *out) __attribute__((warn_unused_result));

#endif
