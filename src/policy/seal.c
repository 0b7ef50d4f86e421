/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ring of keys, and values sealed and opened with them: see seal.h. Each goes once from where it is to where it
 * shall be. What is authenticated besides (the "binding") must be in one piece for libsodium: it is put together behind
 * the place of the result, in the room of the output buffer, and left there as rubbish.
 */
#include "policy/seal.h"

#include <assert.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MAGIC	     "\0kw\1"
#define MAGIC_LEN    4
#define KEY_NAME_MAX 16
#define HEAD_MAX     (MAGIC_LEN + 1 + KEY_NAME_MAX)
#define KEY_LEN	     crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_LEN    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_LEN	     crypto_aead_xchacha20poly1305_ietf_ABYTES
#define LEN_LEN	     8 /* of a length in the binding */

/* Of crypto_kdf: what keys are derived for. */
#define KDF_CONTEXT "keyweir"
#define KDF_VALUES  1

struct ring_key {
	unsigned char secret[KEY_LEN];
	unsigned char head_len;
	unsigned char head[HEAD_MAX]; /* how values begin that are sealed with it, up to the nonce */
};

/* In memory of sodium_malloc(), read-only once it is filled. */
struct keyring {
	size_t n;
	bool accept_plaintext;
	bool has_hash_key;
	unsigned char hash_key[crypto_generichash_KEYBYTES];
	struct ring_key keys[];
};

/* ---- the ring ---- */

/* Exactly 32 bytes in base64, with or without its padding. */
static bool decode(const char *text, unsigned char out[KEY_LEN])
{
	static const int variants[] = {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING};
	size_t len;

	for (size_t i = 0; i < sizeof(variants) / sizeof(*variants); i++)
		if (sodium_base642bin(out, KEY_LEN, text, strlen(text), NULL, &len, NULL, variants[i]) == 0 &&
		    len == KEY_LEN)
			return true;
	return false;
}

static bool name_fits(const char *name, size_t len)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	return len >= 1 && len <= KEY_NAME_MAX && strspn(name, allowed) >= len;
}

static const struct ring_key *find_key(const struct keyring *ring, const unsigned char *head, size_t len)
{
	for (size_t i = 0; i < ring->n; i++)
		if (len >= ring->keys[i].head_len && memcmp(ring->keys[i].head, head, ring->keys[i].head_len) == 0)
			return &ring->keys[i];
	return NULL;
}

/* Adds "NAME:BASE64". The text is secret, but for the name once that is known to be one. */
static bool add_key(struct keyring *ring, const char *text, char *why, size_t why_size)
{
	struct ring_key *key = &ring->keys[ring->n];
	size_t name_len = strcspn(text, ":");
	unsigned char secret[KEY_LEN];

	if (text[name_len] != ':' || !name_fits(text, name_len)) {
		snprintf(why, why_size,
			 "[encryption] key %zu must be NAME:BASE64, the name 1 to %d letters, digits, _ or -",
			 ring->n + 1, KEY_NAME_MAX);
		return false;
	}
	if (!decode(text + name_len + 1, secret)) {
		sodium_memzero(secret, sizeof(secret));
		snprintf(why, why_size, "[encryption] key %.*s must be 32 bytes in base64 behind its name",
			 (int)name_len, text);
		return false;
	}
	crypto_kdf_derive_from_key(key->secret, sizeof(key->secret), KDF_VALUES, KDF_CONTEXT, secret);
	sodium_memzero(secret, sizeof(secret));
	memcpy(key->head, MAGIC, MAGIC_LEN);
	key->head[MAGIC_LEN] = (unsigned char)name_len;
	memcpy(key->head + MAGIC_LEN + 1, text, name_len);
	key->head_len = (unsigned char)(MAGIC_LEN + 1 + name_len);
	if (find_key(ring, key->head, key->head_len)) {
		snprintf(why, why_size, "[encryption] two keys have the name %.*s", (int)name_len, text);
		return false;
	}
	ring->n++;
	return true;
}

static bool fill(struct keyring *ring, const struct encryption_config *conf, char *why, size_t why_size)
{
	ring->accept_plaintext = conf->accept_plaintext;
	ring->has_hash_key = conf->hash_key && *conf->hash_key;
	if (ring->has_hash_key && !decode(conf->hash_key, ring->hash_key)) {
		snprintf(why, why_size, "[encryption] hash_key must be 32 bytes in base64");
		return false;
	}
	for (size_t i = 0; i < conf->keys.n; i++)
		if (!add_key(ring, conf->keys.items[i], why, why_size))
			return false;
	return true;
}

struct keyring *keyring_new(const struct encryption_config *conf, char *why, size_t why_size)
{
	size_t size = sizeof(struct keyring) + conf->keys.n * sizeof(struct ring_key);
	/* It ends where a page ends: rounded up, so that it begins where a struct may. */
	struct keyring *ring = sodium_malloc((size + 15) & ~(size_t)15);

	if (!ring) {
		snprintf(why, why_size, "no memory for the keys of [encryption]");
		return NULL;
	}
	memset(ring, 0, size);
	snprintf(why, why_size, "the keys of [encryption] can't be protected");
	if (!fill(ring, conf, why, why_size) || sodium_mprotect_readonly(ring) != 0) {
		keyring_free(&ring);
		return NULL;
	}
	return ring;
}

void keyring_free(struct keyring **ring)
{
	sodium_free(*ring);
	*ring = NULL;
}

const unsigned char *keyring_hash_key(const struct keyring *ring)
{
	return ring->has_hash_key ? ring->hash_key : NULL;
}

/* ---- the binding ---- */

static size_t binding_length(const struct ring_key *key, const struct seal_place *at)
{
	return key->head_len + 1 + LEN_LEN + at->key_len + LEN_LEN + at->field_len;
}

static unsigned char *put_bytes(unsigned char *p, const void *bytes, size_t len)
{
	if (len > 0)
		memcpy(p, bytes, len);
	return p + len;
}

static unsigned char *put_text(unsigned char *p, const char *text, size_t len)
{
	for (unsigned i = 0; i < LEN_LEN; i++)
		*p++ = (unsigned char)((uint64_t)len >> (8 * i));
	return put_bytes(p, text, len);
}

/* binding_length() bytes. No two places have the same: lengths stand before texts. */
static void put_binding(unsigned char *p, const struct ring_key *key, const struct seal_place *at)
{
	p = put_bytes(p, key->head, key->head_len);
	*p++ = (unsigned char)at->kind;
	p = put_text(p, at->key, at->key_len);
	put_text(p, at->field, at->field_len);
}

/* ---- values ---- */

size_t sealed_length(const struct keyring *ring, size_t len)
{
	assert(ring->n > 0);
	return ring->keys[0].head_len + NONCE_LEN + len + TAG_LEN;
}

bool seal_put(const struct keyring *ring, const struct seal_place *at, const char *value, size_t len, struct buf *out)
{
	const struct ring_key *key = &ring->keys[0];
	size_t sealed_len = sealed_length(ring, len), binding_len = binding_length(key, at);
	unsigned char *nonce, *binding;

	if (!buf_reserve(out, sealed_len + binding_len))
		return false;
	nonce = put_bytes((unsigned char *)out->data + out->end, key->head, key->head_len);
	binding = nonce + NONCE_LEN + len + TAG_LEN;
	put_binding(binding, key, at);
	randombytes_buf(nonce, NONCE_LEN);
	crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + NONCE_LEN, NULL, (const unsigned char *)value, len, binding,
						   binding_len, NULL, nonce, key->secret);
	out->end += sealed_len;
	return true;
}

static enum open_status open_plain(const struct keyring *ring, const char *value, size_t len, struct buf *out)
{
	return ring->accept_plaintext && buf_append(out, value, len) ? OPEN_PLAIN : OPEN_BROKEN;
}

enum open_status seal_open(const struct keyring *ring, const struct seal_place *at, const char *sealed, size_t len,
			   struct buf *out)
{
	const unsigned char *head = (const unsigned char *)sealed, *nonce;
	const struct ring_key *key;
	size_t value_len, binding_len;
	unsigned char *value, *binding;

	if (len < MAGIC_LEN || memcmp(head, MAGIC, MAGIC_LEN) != 0)
		return open_plain(ring, sealed, len, out);
	key = find_key(ring, head, len);
	if (!key || len < (size_t)key->head_len + NONCE_LEN + TAG_LEN)
		return OPEN_BROKEN;
	value_len = len - key->head_len - NONCE_LEN - TAG_LEN;
	binding_len = binding_length(key, at);
	if (!buf_reserve(out, value_len + binding_len))
		return OPEN_BROKEN;
	nonce = head + key->head_len;
	value = (unsigned char *)out->data + out->end;
	binding = value + value_len;
	put_binding(binding, key, at);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(value, NULL, NULL, nonce + NONCE_LEN, value_len + TAG_LEN,
						       binding, binding_len, nonce, key->secret) != 0)
		return OPEN_BROKEN;
	out->end += value_len;
	return OPEN_OK;
}
