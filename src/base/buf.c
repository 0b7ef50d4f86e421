/* SPDX-License-Identifier: BSD-2-Clause */
/* Growable byte buffer: see buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool buf_reserve(struct buf *b, size_t n)
{
	size_t len = buf_len(b), want;
	char *data;

	if (b->capacity - b->end >= n)
		return true;
	if (n > SIZE_MAX / 4 - len)
		return false;
	if (b->start > 0) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
		if (b->capacity - b->end >= n)
			return true;
	}
	for (want = b->capacity ? b->capacity : 256; want < len + n; want *= 2)
		;
	data = realloc(b->data, want);
	if (!data)
		return false;
	b->data = data;
	b->capacity = want;
	return true;
}

bool buf_append(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return true;
	if (!buf_reserve(b, n))
		return false;
	memcpy(b->data + b->end, p, n);
	b->end += n;
	return true;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
	if (!buf_append(b, p, n)) {
		fputs("keyweir: out of memory\n", stderr);
		abort();
	}
}

void buf_puts(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	char small[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < (int)sizeof(small)) {
		buf_put(b, small, (size_t)n);
		return;
	}
	if (!buf_reserve(b, (size_t)n + 1))
		abort();
	va_start(ap, fmt);
	vsnprintf(b->data + b->end, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->end += (size_t)n;
}

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}
