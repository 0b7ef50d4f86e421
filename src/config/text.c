/* SPDX-License-Identifier: BSD-2-Clause */
/* Strings and memory for the configuration: see text.h. */
#include "config/text.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void text_wipe(char **s)
{
	if (*s)
		sodium_memzero(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

/* Length of the well-formed sequence at s, 0 when there is none (Unicode 15, table 3-7). */
static size_t sequence(const unsigned char *s, size_t len)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (len < n || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	}
	return n;
}

bool text_is_utf8(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;

	while (len > 0) {
		size_t n = sequence(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

void text_put(struct text_builder *b, const char *s, size_t len)
{
	if (b->size - b->len <= len) {
		size_t size = (b->len + len) * 2 + 32;
		char *bigger = xcalloc(1, size);

		if (b->s) {
			memcpy(bigger, b->s, b->len);
			text_wipe(&b->s);
		}
		b->s = bigger;
		b->size = size;
	}
	if (len)
		memcpy(b->s + b->len, s, len);
	b->len += len;
	b->s[b->len] = '\0';
}

static bool name_byte(char c, bool first)
{
	return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (!first && c >= '0' && c <= '9');
}

/* One ${NAME} whose NAME begins at s. Sets *used to the bytes behind "${" that belong to it. */
static char *expand_one(const char *s, size_t len, struct text_builder *b, size_t *used)
{
	const char *value;
	char *name;
	size_t n = 0;

	while (n < len && name_byte(s[n], n == 0))
		n++;
	if (n == 0 || n == len || s[n] != '}')
		return xasprintf("has a ${ that is not ${NAME} (a plain \"${\" is written \"$${\")");
	name = xmemdup0(s, n);
	value = getenv(name);
	if (!value) {
		char *why = xasprintf("needs the environment variable %s, which is not set", name);

		free(name);
		return why;
	}
	free(name);
	text_put(b, value, strlen(value));
	*used = n + 1;
	return NULL;
}

char *text_expand(const char *s, size_t len, char **out)
{
	struct text_builder b = {0};
	size_t i = 0;

	text_put(&b, "", 0);
	while (i < len) {
		size_t used;
		char *why;

		if (len - i >= 3 && memcmp(s + i, "$${", 3) == 0) {
			text_put(&b, "${", 2);
			i += 3;
			continue;
		}
		if (len - i < 2 || s[i] != '$' || s[i + 1] != '{') {
			text_put(&b, s + i++, 1);
			continue;
		}
		why = expand_one(s + i + 2, len - i - 2, &b, &used);
		if (why) {
			text_wipe(&b.s);
			*out = NULL;
			return why;
		}
		i += 2 + used;
	}
	*out = b.s;
	return NULL;
}
