/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An item: the reply to one request about one key, in a chain of chunks. Behind the header, through all its chunks,
 * run the bytes of the key, of the request's arguments, and of the reply. The header is tight so that a small GET
 * needs one chunk.
 *
 * Once it is in a bucket only what is marked so changes, under the shard's lock; the rest may be read without by who
 * has pinned it.
 */
#ifndef KEYWEIR_CACHE_ITEM_H
#define KEYWEIR_CACHE_ITEM_H

#include <string.h>

#include "cache/chunks.h"
#include "cache/store.h"

#define ITEM_DATA	(CHUNK_SIZE - 72) /* bytes in the first chunk */
#define CHUNK_DATA	(CHUNK_SIZE - 4)  /* ... in each other */
#define ITEM_NAME_MAX	UINT16_MAX	  /* of a key, and of arguments */
#define ITEM_FREQ_MAX	3
#define ITEM_PROTO_MASK 3 /* in `what`: 2, 3, or 0 for both */

/* In `what`. */
enum {
	ITEM_TOO_LARGE = 1 << 2,   /* no reply is here; who asks need not wait for one */
	ITEM_KEY_EXPIRES = 1 << 3, /* expires_us is the key's own time */
};

/* In `state`, which changes. */
enum {
	ITEM_CLAIMED = 1 << 0, /* past its time, and somebody makes the new value */
	ITEM_RECHECK = 1 << 1, /* past its time, and then it was heard that the key has changed */
	ITEM_GONE = 1 << 2,    /* in no bucket any more; who unpins it last gives it back */
	ITEM_MAIN = 1 << 3,    /* in the main queue (fifo.h) */
};

struct store_item {
	uint32_t next_chunk;
	uint32_t next;	       /* in the bucket; changes */
	uint32_t newer, older; /* in its queue; change */
	uint32_t hash;	       /* the lower half */
	uint32_t upstream;
	struct store_truth truth;
	int64_t filled_us;
	int64_t expires_us;
	uint32_t reply_len;
	uint16_t key_len;
	uint16_t args_len;
	uint16_t command;
	uint16_t db;
	uint16_t namespace;
	uint8_t what;
	uint8_t state : 4; /* changes */
	uint8_t freq : 4;  /* changes: how often it was found lately */
	uint32_t race_ms;  /* for how long past its time it may be of use; changes */
	uint32_t pins;	   /* changes */
	char data[ITEM_DATA];
};

_Static_assert(sizeof(struct store_item) == CHUNK_SIZE, "the header and its bytes are one chunk");

static inline struct store_item *item_at(const struct chunks *c, uint32_t i)
{
	return (struct store_item *)(void *)chunk_at(c, i);
}

static inline uint32_t item_index(const struct chunks *c, const struct store_item *it)
{
	return (uint32_t)((size_t)((const char *)it - c->base) / CHUNK_SIZE);
}

static inline size_t item_reply_at(const struct store_item *it)
{
	return (size_t)it->key_len + it->args_len;
}

/* How many chunks for this many bytes of key, arguments and reply. */
static inline size_t item_chunks_for(size_t len)
{
	return len <= ITEM_DATA ? 1 : 1 + (len - ITEM_DATA + CHUNK_DATA - 1) / CHUNK_DATA;
}

static inline uint32_t item_chunks(const struct store_item *it)
{
	return (uint32_t)item_chunks_for(item_reply_at(it) + it->reply_len);
}

/* Whether the arguments and the key are these, where all that is in the header is. */
bool item_has_names(const struct chunks *c, const struct store_item *it, const char *key, const char *args);

/* Whether it is of that key. */
bool item_is_of(const struct chunks *c, const struct store_item *it, const struct store_key *key);

/* Whether it is the reply to that request. */
static inline bool item_answers(const struct chunks *c, const struct store_item *it, const struct store_key *key,
				const struct store_request *r)
{
	unsigned proto = it->what & ITEM_PROTO_MASK;

	if (it->hash != (uint32_t)key->hash || it->upstream != key->upstream || it->key_len != key->len)
		return false;
	if (it->command != r->command || it->db != r->db || it->args_len != r->args_len || (proto && proto != r->proto))
		return false;
	if (item_reply_at(it) > ITEM_DATA)
		return item_has_names(c, it, key->p, r->args);
	return memcmp(it->data, key->p, key->len) == 0 &&
	       (r->args_len == 0 || memcmp(it->data + key->len, r->args, r->args_len) == 0);
}

/* Fills a chain of enough chunks, whose header says the lengths, with the bytes. */
void item_write(const struct chunks *c, struct store_item *it, const char *key, const char *args, const char *reply);

/* Bytes out of it, from `from` on; the key begins at 0, the reply at item_reply_at(). */
void item_read_far(const struct chunks *c, const struct store_item *it, size_t from, char *to, size_t len);
static inline void item_read(const struct chunks *c, const struct store_item *it, size_t from, char *to, size_t len)
{
	if (from + len <= ITEM_DATA)
		memcpy(to, it->data + from, len);
	else
		item_read_far(c, it, from, to, len);
}

/* store_piece() */
size_t item_piece(const struct chunks *c, const struct store_item *it, const void **at, const char **p);

#endif
