/* SPDX-License-Identifier: BSD-2-Clause */
/* Framing of replies: see reply_frame.h. */
#include "resp/reply_frame.h"

#include <string.h>

#include "resp/number.h"

#define ELEMENTS_MAX (UINT64_MAX / 4)
#define BULK_MAX     ((int64_t)1 << 40)

/* What follows the first byte of an element. */
enum kind { KIND_BAD, KIND_TEXT, KIND_INT, KIND_BULK, KIND_ARRAY, KIND_MAP, KIND_ATTRIBUTE };

static const unsigned char kinds[256] = {
	['+'] = KIND_TEXT,  ['-'] = KIND_TEXT,	[','] = KIND_TEXT,  ['('] = KIND_TEXT, ['#'] = KIND_TEXT,
	['_'] = KIND_TEXT,  [':'] = KIND_INT,	['$'] = KIND_BULK,  ['='] = KIND_BULK, ['!'] = KIND_BULK,
	['*'] = KIND_ARRAY, ['~'] = KIND_ARRAY, ['>'] = KIND_ARRAY, ['%'] = KIND_MAP,  ['|'] = KIND_ATTRIBUTE};

/* An element's first line is known: what does it mean for the counters? */
static bool header(struct reply_frame *f, char type, int64_t number)
{
	bool first = f->left == 0;
	uint64_t add = 0;

	if (first)
		f->left = 1;
	/* What an attribute describes begins when one element is left. */
	if (f->type == 0 && type != '|' && f->left == 1) {
		f->type = type;
		f->number = number;
	}
	if (number < -1)
		return false;
	switch (kinds[(unsigned char)type]) {
	case KIND_BULK:
		if (number > BULK_MAX)
			return false;
		if (number >= 0) {
			f->skip = (uint64_t)number + 2;
			return true; /* the element ends with its last byte */
		}
		break;
	case KIND_ARRAY:
		add = number > 0 ? (uint64_t)number : 0;
		break;
	case KIND_MAP:
	case KIND_ATTRIBUTE:
		if (number > (int64_t)(ELEMENTS_MAX / 2))
			return false;
		add = number > 0 ? (uint64_t)number * 2 : 0;
		if (kinds[(unsigned char)type] == KIND_ATTRIBUTE)
			add++; /* an attribute is no element: what it describes comes behind it */
		break;
	default:
		break;
	}
	if (add > ELEMENTS_MAX || f->left + add > ELEMENTS_MAX)
		return false;
	f->left += add;
	f->left--;
	return true;
}

/* A line that is split over two reads is put together here. Returns bytes taken, 0 on nonsense. */
static size_t cut_line(struct reply_frame *f, const char *p, size_t len, bool *complete)
{
	size_t n = 0;

	*complete = false;
	while (n < len) {
		if (f->n_line == REPLY_LINE_MAX)
			return 0;
		f->line[f->n_line++] = p[n++];
		if (p[n - 1] == '\n') {
			*complete = true;
			break;
		}
	}
	return n;
}

static bool number_header(struct reply_frame *f, const char *line, size_t len)
{
	int64_t number;

	if (len < 3 || line[len - 2] != '\r')
		return false;
	if (line[0] == ':') { /* any integer, also "+5", which some modules send */
		if (!parse_int64(line + 1, len - 3, &number))
			number = 0;
		if (f->left <= 1 && f->type == 0) {
			f->type = ':';
			f->number = number;
		}
		return header(f, ':', 0);
	}
	return parse_int64(line + 1, len - 3, &number) && header(f, line[0], number);
}

/* Inside a line of free text. Returns bytes taken. */
static size_t text_line(struct reply_frame *f, const char *p, size_t len)
{
	const char *lf = memchr(p, '\n', len);

	if (!lf)
		return len;
	f->in_text = false;
	f->left--;
	return (size_t)(lf - p) + 1;
}

/* At the first byte of an element. Returns bytes taken, 0 on nonsense. */
static size_t element(struct reply_frame *f, const char *p, size_t len)
{
	unsigned char kind = kinds[(unsigned char)*p];
	const char *lf;
	bool complete;
	size_t n;

	if (kind == KIND_BAD)
		return 0;
	if (kind == KIND_TEXT) {
		if (f->left == 0)
			f->left = 1;
		if (f->type == 0 && f->left == 1) {
			f->type = *p;
			f->number = *p == '_' ? -1 : 0;
		}
		f->in_text = true;
		return text_line(f, p, len);
	}
	lf = memchr(p, '\n', len < REPLY_LINE_MAX ? len : REPLY_LINE_MAX);
	if (!lf)
		return cut_line(f, p, len, &complete);
	n = (size_t)(lf - p) + 1;
	return number_header(f, p, n) ? n : 0;
}

static size_t one_step(struct reply_frame *f, const char *p, size_t len)
{
	if (f->skip > 0) {
		size_t n = f->skip < len ? (size_t)f->skip : len;

		f->skip -= n;
		if (f->skip == 0)
			f->left--;
		return n;
	}
	if (f->in_text)
		return text_line(f, p, len);
	if (f->n_line > 0) {
		bool complete;
		size_t n = cut_line(f, p, len, &complete), n_line = f->n_line;

		if (!complete)
			return n;
		f->n_line = 0;
		return number_header(f, f->line, n_line) ? n : 0;
	}
	return element(f, p, len);
}

size_t reply_whole_line(struct reply_frame *f, const char *data, size_t len)
{
	unsigned char kind = kinds[(unsigned char)*data];
	const char *lf;

	if (len >= 5 && memcmp(data, "$-1\r\n", 5) == 0) {
		f->type = '$';
		f->number = -1;
		return 5;
	}
	if (kind != KIND_TEXT && kind != KIND_INT && !(kind == KIND_BULK && len >= 5 && data[1] == '-'))
		return 0;
	lf = memchr(data, '\n', len);
	if (!lf || lf == data + 1 || lf[-1] != '\r')
		return 0;
	f->number = 0;
	if (kind == KIND_INT)
		parse_int64(data + 1, (size_t)(lf - data) - 2, &f->number);
	else if (kind == KIND_BULK || *data == '_')
		f->number = -1;
	if (kind == KIND_BULK && (lf - data != 4 || data[2] != '1'))
		return 0;
	f->type = *data;
	return (size_t)(lf - data) + 1;
}

enum reply_status reply_frame_feed(struct reply_frame *f, const char *data, size_t len, size_t *used)
{
	size_t at = 0;

	if (!reply_frame_busy(f)) {
		*used = reply_whole(f, data, len);
		if (*used > 0)
			return REPLY_DONE;
		f->type = 0;
	}
	while (at < len) {
		size_t n = one_step(f, data + at, len - at);

		if (n == 0)
			return REPLY_BAD;
		at += n;
		if (f->left == 0 && f->n_line == 0) {
			*used = at;
			return REPLY_DONE;
		}
	}
	*used = at;
	return REPLY_MORE;
}

bool reply_cursor_next(struct reply_cursor *cur, struct reply_item *item)
{
	const char *p = cur->p, *lf;
	unsigned char kind;

	if (p >= cur->end)
		return false;
	kind = kinds[(unsigned char)*p];
	lf = memchr(p, '\n', (size_t)(cur->end - p)); /* lines end where the framer says so */
	if (kind == KIND_BAD || !lf)
		return false;
	*item = (struct reply_item){.type = *p, .text = p + 1, .len = (size_t)(lf - p - 1)};
	if (item->len > 0 && lf[-1] == '\r')
		item->len--;
	cur->p = lf + 1;
	if (kind == KIND_TEXT) {
		item->number = *p == '_' ? -1 : 0;
		return true;
	}
	if (!parse_int64(item->text, item->len, &item->number)) {
		item->number = 0;
		return kind == KIND_INT; /* ":+5" */
	}
	if (kind != KIND_BULK || item->number < 0)
		return true;
	if (item->number > BULK_MAX || (size_t)item->number + 2 > (size_t)(cur->end - cur->p))
		return false;
	item->text = cur->p;
	item->len = (size_t)item->number;
	cur->p += item->len + 2;
	return true;
}

struct reply_item reply_first(const char *text, size_t len, char none)
{
	struct reply_cursor cur = {text, text + len};
	struct reply_item item = {.type = none};

	if (len > 0)
		reply_cursor_next(&cur, &item);
	return item;
}

bool reply_cursor_skip(struct reply_cursor *cur)
{
	struct reply_frame f = {0};
	size_t used = 0;

	if (cur->p >= cur->end)
		return false;
	if (reply_frame_feed(&f, cur->p, (size_t)(cur->end - cur->p), &used) != REPLY_DONE)
		return false;
	cur->p += used;
	return true;
}
