/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A contiguous growable byte buffer.
 *
 *      data            data + start       data + end         data + capacity
 *      |  consumed     |  content         |  room            |
 *
 * Owner: the struct it is embedded in; used by one thread at a time. An empty buffer owns no memory after
 * buf_release(). Growth is checked: it returns false instead of overflowing or aborting, since sizes may come from
 * the wire.
 */
#ifndef KEYWEIR_BUF_H
#define KEYWEIR_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data;
	size_t start;
	size_t end;
	size_t capacity;
};

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline char *buf_head(const struct buf *b)
{
	return b->data + b->start;
}

/* Makes room for n more bytes behind the content. False when memory is out. Moves the content. */
bool buf_reserve(struct buf *b, size_t n) __attribute__((warn_unused_result));

/* Appends; false when memory is out (nothing appended then). */
bool buf_append(struct buf *b, const void *p, size_t n) __attribute__((warn_unused_result));

/* Appends what the program itself made: aborts when memory is out. */
void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline void buf_consume(struct buf *b, size_t n)
{
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

/* Gives the memory back; the buffer is empty and usable. */
void buf_release(struct buf *b);

#endif
