/* SPDX-License-Identifier: BSD-2-Clause */
/* An item's bytes, in its chain of chunks: see item.h. */
#include "cache/item.h"

/* A place in an item's bytes: what is left of the present chunk. */
struct cursor {
	const struct chunks *chunks;
	char *p;
	size_t left;
	uint32_t next;
};

static struct cursor cursor_at(const struct chunks *c, const struct store_item *it, size_t from)
{
	struct cursor at = {c, (char *)(uintptr_t)it->data, ITEM_DATA, it->next_chunk};

	while (from >= at.left && at.next) {
		from -= at.left;
		at.p = chunk_at(c, at.next) + sizeof(uint32_t);
		at.left = CHUNK_DATA;
		at.next = *chunk_link(c, at.next);
	}
	at.p += from;
	at.left -= from;
	return at;
}

/* The next bytes that lie together, at most len. */
static size_t cursor_step(struct cursor *at, size_t len, char **p)
{
	if (at->left == 0) {
		at->p = chunk_at(at->chunks, at->next) + sizeof(uint32_t);
		at->left = CHUNK_DATA;
		at->next = *chunk_link(at->chunks, at->next);
	}
	if (len > at->left)
		len = at->left;
	*p = at->p;
	at->p += len;
	at->left -= len;
	return len;
}

static void cursor_write(struct cursor *at, const char *bytes, size_t len)
{
	while (len > 0) {
		char *p;
		size_t n = cursor_step(at, len, &p);

		memcpy(p, bytes, n);
		bytes += n;
		len -= n;
	}
}

static bool cursor_reads(struct cursor *at, const char *bytes, size_t len)
{
	while (len > 0) {
		char *p;
		size_t n = cursor_step(at, len, &p);

		if (memcmp(p, bytes, n) != 0)
			return false;
		bytes += n;
		len -= n;
	}
	return true;
}

bool item_has_names(const struct chunks *c, const struct store_item *it, const char *key, const char *args)
{
	struct cursor at = cursor_at(c, it, 0);

	return cursor_reads(&at, key, it->key_len) && cursor_reads(&at, args, it->args_len);
}

bool item_is_of(const struct chunks *c, const struct store_item *it, const struct store_key *key)
{
	struct cursor at;

	if (it->hash != (uint32_t)key->hash || it->upstream != key->upstream || it->key_len != key->len)
		return false;
	at = cursor_at(c, it, 0);
	return cursor_reads(&at, key->p, key->len);
}

void item_write(const struct chunks *c, struct store_item *it, const char *key, const char *args, const char *reply)
{
	struct cursor at = cursor_at(c, it, 0);

	cursor_write(&at, key, it->key_len);
	cursor_write(&at, args, it->args_len);
	cursor_write(&at, reply, it->reply_len);
}

void item_read_far(const struct chunks *c, const struct store_item *it, size_t from, char *to, size_t len)
{
	struct cursor at = cursor_at(c, it, from);

	while (len > 0) {
		char *p;
		size_t n = cursor_step(&at, len, &p);

		memcpy(to, p, n);
		to += n;
		len -= n;
	}
}

/* How many bytes are in the last chunk. */
static size_t last_len(const struct store_item *it)
{
	size_t all = item_reply_at(it) + it->reply_len;

	return all <= ITEM_DATA ? all : (all - ITEM_DATA - 1) % CHUNK_DATA + 1;
}

size_t item_piece(const struct chunks *c, const struct store_item *it, const void **at, const char **p)
{
	const char *first = (const char *)it, *chunk = *at;
	size_t skip = 0, head;
	uint32_t next;

	if (it->reply_len == 0)
		return 0;
	if (chunk) {
		next = *(const uint32_t *)(const void *)chunk;
		if (next == 0)
			return 0;
		chunk = chunk_at(c, next);
	} else {
		chunk = first;
		skip = item_reply_at(it);
		while (skip >= (chunk == first ? ITEM_DATA : CHUNK_DATA)) {
			skip -= chunk == first ? ITEM_DATA : CHUNK_DATA;
			chunk = chunk_at(c, *(const uint32_t *)(const void *)chunk);
		}
	}
	*at = chunk;
	head = chunk == first ? offsetof(struct store_item, data) : sizeof(uint32_t);
	next = *(const uint32_t *)(const void *)chunk;
	*p = chunk + head + skip;
	return (next ? CHUNK_SIZE - head : last_len(it)) - skip;
}
