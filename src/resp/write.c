/* SPDX-License-Identifier: BSD-2-Clause */
/* Writing RESP: see write.h. None of this is on the path of a forwarded command. */
#include "resp/write.h"

#include <inttypes.h>
#include <string.h>

static void line(struct buf *b, char type, int64_t v)
{
	buf_printf(b, "%c%" PRId64 "\r\n", type, v);
}

void resp_bulk(struct buf *b, const void *p, size_t len)
{
	line(b, '$', (int64_t)len);
	buf_put(b, p, len);
	buf_put(b, "\r\n", 2);
}

void resp_bulks(struct buf *b, const char *s)
{
	resp_bulk(b, s, strlen(s));
}

void resp_simple(struct buf *b, const char *s)
{
	buf_put(b, "+", 1);
	buf_puts(b, s);
	buf_put(b, "\r\n", 2);
}

void resp_error(struct buf *b, const char *s)
{
	size_t at;

	buf_put(b, "-", 1);
	at = b->end;
	buf_puts(b, s);
	for (; at < b->end; at++)
		if (b->data[at] == '\r' || b->data[at] == '\n')
			b->data[at] = ' ';
	buf_put(b, "\r\n", 2);
}

void resp_int(struct buf *b, int64_t v)
{
	line(b, ':', v);
}

void resp_null(struct buf *b, int proto)
{
	buf_puts(b, proto == 3 ? "_\r\n" : "$-1\r\n");
}

void resp_array(struct buf *b, size_t n)
{
	line(b, '*', (int64_t)n);
}

void resp_map(struct buf *b, int proto, size_t n_pairs)
{
	if (proto == 3)
		line(b, '%', (int64_t)n_pairs);
	else
		line(b, '*', (int64_t)n_pairs * 2);
}

void resp_field(struct buf *b, const char *name, uint64_t value)
{
	resp_bulks(b, name);
	resp_int(b, (int64_t)value);
}

void resp_field_text(struct buf *b, const char *name, const char *value)
{
	resp_bulks(b, name);
	resp_bulks(b, value);
}

void resp_push(struct buf *b, int proto, size_t n)
{
	line(b, proto == 3 ? '>' : '*', (int64_t)n);
}

void resp_verbatim(struct buf *b, int proto, const void *p, size_t len)
{
	if (proto != 3) {
		resp_bulk(b, p, len);
		return;
	}
	line(b, '=', (int64_t)len + 4);
	buf_puts(b, "txt:");
	buf_put(b, p, len);
	buf_put(b, "\r\n", 2);
}

void resp_request(struct buf *b, size_t argc, const char *const *argv)
{
	resp_array(b, argc);
	for (size_t i = 0; i < argc; i++)
		resp_bulks(b, argv[i]);
}
