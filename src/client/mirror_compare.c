/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether two replies say the same. One may be RESP3, the copy's is RESP2: so what is compared are the leaves, not how
 * they are grouped.
 */
#include <string.h>

#include "client/mirror_private.h"
#include "resp/reply_frame.h"

/* RESP3's own types as RESP2 has them. */
static void plain(struct reply_item *item)
{
	switch (item->type) {
	case '=': /* "txt:" */
		item->text += item->len >= 4 ? 4 : 0;
		item->len -= item->len >= 4 ? 4 : 0;
		break;
	case '#':
		item->text = item->len > 0 && *item->text == 't' ? "1" : "0";
		break;
	case '-':
	case '!': /* the rest is words, which change from one version to the next */
		item->len = strcspn(item->text, " \r");
		item->type = '-';
		break;
	default:
		break;
	}
}

static bool is_null(const struct reply_item *item)
{
	return item->type == '_' || (item->number < 0 && strchr("$*", item->type));
}

static bool next_leaf(struct reply_cursor *cur, struct reply_item *item)
{
	while (reply_cursor_next(cur, item)) {
		if (is_null(item)) {
			*item = (struct reply_item){.type = '_', .text = ""};
			return true;
		}
		if (strchr("*%~>|", item->type))
			continue;
		plain(item);
		return true;
	}
	return false;
}

static bool same_leaf(const struct reply_item *a, const struct reply_item *b)
{
	return (a->type == '_') == (b->type == '_') && (a->type == '-') == (b->type == '-') && a->len == b->len &&
	       memcmp(a->text, b->text, a->len) == 0;
}

static bool same_in_order(struct reply_cursor a, struct reply_cursor b)
{
	struct reply_item ia, ib;

	for (;;) {
		bool more_a = next_leaf(&a, &ia), more_b = next_leaf(&b, &ib);

		if (!more_a || !more_b)
			return more_a == more_b;
		if (!same_leaf(&ia, &ib))
			return false;
	}
}

/* A sum that does not care for the order of leaves: FNV-1a of each, stirred (the end of MurmurHash3). */
static uint64_t sum_of(struct reply_cursor cur)
{
	struct reply_item item;
	uint64_t sum = 0;

	while (next_leaf(&cur, &item)) {
		uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)(item.type == '_');

		for (size_t i = 0; i < item.len; i++)
			h = (h ^ (unsigned char)item.text[i]) * 0x100000001b3u;
		h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
		h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
		sum += (h ^ h >> 33) | 1;
	}
	return sum;
}

bool mirror_same(const struct command *cmd, const struct buf *a, const struct buf *b)
{
	struct reply_cursor ca = {buf_head(a), buf_head(a) + buf_len(a)};
	struct reply_cursor cb = {buf_head(b), buf_head(b) + buf_len(b)};

	if (same_in_order(ca, cb))
		return true;
	/* Sets and hashes come in an order that each server has for itself. */
	return cmd->categories & (CAT_SET | CAT_HASH) && cmd->flags & CMD_READONLY && sum_of(ca) == sum_of(cb);
}
