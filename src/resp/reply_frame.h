/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Framing of replies, RESP2 and RESP3: where does a reply end. Never a tree and no stack: a nested reply ends when as
 * many elements have passed as its aggregates announced, which one counter knows whatever the depth.
 * https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md (streamed types, which no server
 * sends, are a protocol error here).
 *
 * Also a cursor that walks the elements of a complete reply, for the few that must be understood.
 */
#ifndef KEYWEIR_REPLY_FRAME_H
#define KEYWEIR_REPLY_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reply_status { REPLY_MORE, REPLY_DONE, REPLY_BAD };

#define REPLY_LINE_MAX 64 /* a header line: type, number, CR LF */

struct reply_frame {
	uint64_t left;		   /* elements still to come, the one under way included; 0: between replies */
	uint64_t skip;		   /* bytes of a bulk still to come, CR LF included */
	int64_t number;		   /* first line's number: length, count or integer; -1 for a null */
	char type;		   /* first byte of the reply; attributes in front of it don't count */
	bool in_text;		   /* inside a line of any length (simple string, error, double, big number ...) */
	uint8_t n_line;		   /* bytes in line[] */
	char line[REPLY_LINE_MAX]; /* a header line cut by the end of a read */
};

/* Looks at the next bytes. *used says how many belong to this reply: all of them unless REPLY_DONE. */
enum reply_status reply_frame_feed(struct reply_frame *f, const char *data, size_t len, size_t *used);

/* A whole line that is a reply by itself: +OK, :1, $-1, an error. Its length, or 0. */
size_t reply_whole_line(struct reply_frame *f, const char *data, size_t len);

/* A whole bulk string of up to 9,999 bytes at data, which is what most replies are. Its length on the wire, or 0. */
static inline size_t reply_whole_bulk(struct reply_frame *f, const char *data, size_t len)
{
	const char *p = data + 1;
	size_t n = 0, all;
	unsigned digit;

	if (len < 7 || *data != '$')
		return 0;
	digit = (unsigned char)*p - (unsigned)'0';
	if (digit > 9)
		return 0;
	do {
		n = n * 10 + digit;
		digit = (unsigned char)*++p - (unsigned)'0';
	} while (digit <= 9 && p - data < 5);
	all = (size_t)(p - data) + 2 + n + 2;
	if (p[0] != '\r' || p[1] != '\n' || all > len)
		return 0;
	f->type = '$';
	f->number = (int64_t)n;
	return all;
}

/* Between replies: a whole small reply at data (len > 0). Its length, or 0: reply_frame_feed() knows what it is. */
static inline size_t reply_whole(struct reply_frame *f, const char *data, size_t len)
{
	size_t n = reply_whole_bulk(f, data, len);

	return n > 0 ? n : reply_whole_line(f, data, len);
}

/* Whether a reply has begun and not ended. */
static inline bool reply_frame_busy(const struct reply_frame *f)
{
	return f->left > 0 || f->n_line > 0;
}

struct reply_item {
	char type;	  /* as on the wire: + - : $ * _ , # ( ! = % ~ > | */
	int64_t number;	  /* ':' value; aggregates: count of elements (maps: of pairs); -1: null */
	const char *text; /* + - $ = ! , ( # : the bytes */
	size_t len;
};

struct reply_cursor {
	const char *p;
	const char *end;
};

/* Next element, depth first. False at the end or when what stands there is no reply. */
bool reply_cursor_next(struct reply_cursor *cur, struct reply_item *item);

/* The first element of a reply that lies at text; its type is `none` when there is none. */
struct reply_item reply_first(const char *text, size_t len, char none);

/* Skips one whole element with all that is in it. */
bool reply_cursor_skip(struct reply_cursor *cur);

#endif
