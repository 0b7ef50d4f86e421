/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inline commands ("SET greeting \"hello\"\r\n"), as people type them with telnet or nc. Quoting as Redis and
 * redis-cli have it: "..." with \n \r \t \b \a \xHH, '...' with \'. A closing quote must be followed by a space.
 */
#include <stdio.h>
#include <string.h>

#include "resp/request_frame.h"

static bool is_space(char ch)
{
	return ch == ' ' || (ch >= '\t' && ch <= '\r') || ch == '\0';
}

/* As in Redis, form feed and vertical tab stand between words but do not end one. */
static bool ends_word(char ch)
{
	return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r' || ch == '\0';
}

static int hex_value(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	ch = (char)(ch | 0x20);
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static char unescape(char ch)
{
	static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
	const char *at = ch ? strchr(from, ch) : NULL;

	return at ? to[at - from] : ch;
}

/* Reads "..." from behind the opening quote. Returns the place behind the closing one, NULL when there is none. */
static const char *double_quoted(const char *p, const char *end, struct buf *arg)
{
	while (p < end && *p != '"') {
		char ch = *p++;

		if (ch == '\\' && end - p >= 3 && *p == 'x' && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0) {
			ch = (char)(hex_value(p[1]) * 16 + hex_value(p[2]));
			p += 3;
		} else if (ch == '\\' && p < end) {
			ch = unescape(*p++);
		}
		buf_put(arg, &ch, 1);
	}
	return p < end ? p + 1 : NULL;
}

static const char *single_quoted(const char *p, const char *end, struct buf *arg)
{
	while (p < end && *p != '\'') {
		if (*p == '\\' && end - p >= 2 && p[1] == '\'')
			p++;
		buf_put(arg, p++, 1);
	}
	return p < end ? p + 1 : NULL;
}

/* Reads one word at p. Returns the place behind it, NULL for unbalanced quotes. */
static const char *word(const char *p, const char *end, struct buf *arg)
{
	while (p < end && !ends_word(*p)) {
		if (*p == '"' || *p == '\'') {
			p = *p == '"' ? double_quoted(p + 1, end, arg) : single_quoted(p + 1, end, arg);
			if (!p || (p < end && !is_space(*p)))
				return NULL;
			break;
		}
		buf_put(arg, p++, 1);
	}
	return p;
}

int inline_split(const char *line, size_t len, struct buf *out)
{
	const char *p = line, *end = line + len;
	struct buf body = {0}, arg = {0};
	int argc = 0;

	for (;;) {
		while (p < end && is_space(*p))
			p++;
		if (p == end)
			break;
		arg.start = arg.end = 0;
		p = word(p, end, &arg);
		if (!p) {
			argc = -1;
			break;
		}
		buf_printf(&body, "$%zu\r\n", buf_len(&arg));
		buf_put(&body, arg.data ? buf_head(&arg) : "", buf_len(&arg));
		buf_puts(&body, "\r\n");
		argc++;
	}
	if (argc > 0) {
		buf_printf(out, "*%d\r\n", argc);
		buf_put(out, buf_head(&body), buf_len(&body));
	}
	buf_release(&arg);
	buf_release(&body);
	return argc;
}
