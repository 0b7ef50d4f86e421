/* SPDX-License-Identifier: BSD-2-Clause */
/* Glob matching without recursion: a later star never needs an earlier one to give back, so one way back is enough. */
#include "policy/glob.h"

/* One character class at p ("[...]"); returns the place behind it and says whether ch is in it. */
static const char *match_class(const char *p, const char *end, char ch, bool *in)
{
	bool negate = false, found = false;

	p++;
	if (p < end && *p == '^') {
		negate = true;
		p++;
	}
	for (; p < end && *p != ']'; p++) {
		if (*p == '\\' && end - p >= 2) {
			p++;
			found |= *p == ch;
		} else if (end - p >= 3 && p[1] == '-') {
			unsigned char a = (unsigned char)p[0], b = (unsigned char)p[2], x = (unsigned char)ch;

			found |= a <= b ? x >= a && x <= b : x >= b && x <= a;
			p += 2;
		} else {
			found |= *p == ch;
		}
	}
	*in = found != negate;
	return p < end ? p + 1 : p;
}

/* Whether the pattern's first element (no star) takes ch; *next is behind it. */
static bool match_one(const char *p, const char *end, char ch, const char **next)
{
	bool in;

	switch (*p) {
	case '?':
		*next = p + 1;
		return true;
	case '[':
		*next = match_class(p, end, ch, &in);
		return in;
	case '\\':
		if (end - p >= 2)
			p++;
		/* fall through */
	default:
		*next = p + 1;
		return *p == ch;
	}
}

bool glob_match(const char *pattern, size_t pattern_len, const char *text, size_t text_len)
{
	const char *p = pattern, *end = pattern + pattern_len, *t = text, *t_end = text + text_len;
	const char *star = NULL, *star_text = NULL, *next;

	while (t < t_end) {
		if (p < end && *p == '*') {
			star = ++p;
			star_text = t;
		} else if (p < end && match_one(p, end, *t, &next)) {
			p = next;
			t++;
		} else if (star) {
			p = star;
			t = ++star_text;
		} else {
			return false;
		}
	}
	while (p < end && *p == '*')
		p++;
	return p == end;
}
