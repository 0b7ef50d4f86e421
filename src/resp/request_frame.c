/* SPDX-License-Identifier: BSD-2-Clause */
/* Framing of requests: see request_frame.h. */
#include "resp/request_frame.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "resp/number.h"

/* Progress inside a request: one line or one bulk at a time. */
enum step { STEP_AGAIN, STEP_MORE, STEP_DONE, STEP_EMPTY, STEP_BAD };

static enum step bad(struct request_frame *f, const char *why)
{
	f->error = why;
	return STEP_BAD;
}

/*
 * Finds the line at p and parses the number behind its first byte. Returns the line's length with CR LF, 0 when it
 * is not complete, -1 when what stands there is no number (or no CR LF).
 */
static inline long number_line(const char *p, size_t len, int64_t *number)
{
	const char *cr;
	size_t n;

	/* "$3\r\n", "*2\r\n" and their like, which is nearly always */
	if (__builtin_expect(len >= 4 && p[2] == '\r', 1)) {
		unsigned digit = (unsigned char)p[1] - (unsigned)'0';

		if (digit > 9 || p[3] != '\n')
			return -1;
		*number = digit;
		return 4;
	}
	cr = memchr(p, '\r', len < FRAME_LINE_MAX ? len : FRAME_LINE_MAX);
	if (!cr)
		return 0;
	n = (size_t)(cr - p);
	if (n + 1 >= len)
		return 0;
	if (cr[1] != '\n' || !parse_int64(p + 1, n - 1, number))
		return -1;
	return (long)n + 2;
}

static enum step multibulk_header(struct request_frame *f, const char *p, size_t len)
{
	int64_t count;
	long n = number_line(p, len, &count);

	if (n == 0)
		return len > FRAME_LINE_MAX ? bad(f, "too big mbulk count string") : STEP_MORE;
	if (n < 0 || count > FRAME_ARGC_MAX)
		return bad(f, "invalid multibulk length");
	f->len += (size_t)n;
	if (count <= 0)
		return STEP_EMPTY;
	f->argc = (uint32_t)count;
	return STEP_AGAIN;
}

static enum step bulk_header(struct request_frame *f, const char *p, size_t len)
{
	int64_t size;
	long n = number_line(p, len, &size);

	if (n == 0)
		return len > FRAME_LINE_MAX ? bad(f, "too big bulk count string") : STEP_MORE;
	if (*p != '$') {
		f->error_byte = *p;
		return bad(f, "expected '$', got '");
	}
	if (n < 0 || size < 0 || (uint64_t)size > f->max_bulk)
		return bad(f, "invalid bulk length");
	f->len += (size_t)n;
	if (f->n_seen < FRAME_ARGS && f->len <= UINT32_MAX) {
		f->arg[f->n_seen].offset = (uint32_t)f->len;
		f->arg[f->n_seen].len = (uint32_t)size;
	}
	f->n_seen++;
	f->bulk_left = (uint64_t)size + 2;
	return STEP_AGAIN;
}

static inline enum step bulk_bytes(struct request_frame *f, const char *p, size_t len)
{
	if (len < f->bulk_left) {
		/* The CR LF stays untouched until both are there. */
		size_t take = f->bulk_left - len >= 2 ? len : (size_t)(f->bulk_left - 2);

		f->len += take;
		f->bulk_left -= take;
		return STEP_MORE;
	}
	if (p[f->bulk_left - 2] != '\r' || p[f->bulk_left - 1] != '\n')
		return bad(f, "expected CRLF after a bulk string");
	f->len += (size_t)f->bulk_left;
	f->bulk_left = 0;
	return f->n_seen == f->argc ? STEP_DONE : STEP_AGAIN;
}

static inline enum step advance(struct request_frame *f, const char *p, size_t len)
{
	if (f->bulk_left > 0)
		return bulk_bytes(f, p, len);
	if (len == 0)
		return STEP_MORE;
	return f->argc == 0 ? multibulk_header(f, p, len) : bulk_header(f, p, len);
}

static enum frame_status inline_line(struct request_frame *f, const char *data, size_t len)
{
	const char *lf = memchr(data, '\n', len);

	if (!lf) {
		if (len <= FRAME_LINE_MAX)
			return FRAME_MORE;
		f->error = "too big inline request";
		return FRAME_BAD;
	}
	f->len = (size_t)(lf - data) + 1;
	return FRAME_INLINE;
}

static inline uint32_t load32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline bool is_crlf(const char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v) == 0x0a0d;
}

/*
 * A header line at *p ("$3\r\n") of at most seven digits, with six bytes or more to read; false when it is anything
 * else, or cut. One and two digits, which is nearly all there is, cost one comparison each.
 */
static inline bool short_header(const char **p, const char *end, char type, uint32_t *number)
{
	const char *q = *p;
	uint32_t v = load32(q), n = 0;
	unsigned digit = (v >> 8 & 0xff) - '0';

	if ((v & 0xffff00ffu) == (0x0a0d0000u | (unsigned char)type) && digit <= 9) {
		*number = digit;
		*p = q + 4;
		return true;
	}
	if (*q != type || digit > 9 || digit == 0)
		return false;
	v >>= 16; /* the second digit and CR; LF is behind them */
	if ((v & 0xff00) == 0x0d00 && q[4] == '\n' && (v & 0xff) - '0' <= 9) {
		*number = digit * 10 + (v & 0xff) - '0';
		*p = q + 5;
		return true;
	}
	for (q++; q < end && q - *p < 8; q++) {
		digit = (unsigned char)*q - (unsigned)'0';
		if (digit > 9)
			break;
		n = n * 10 + digit;
	}
	if (end - q < 2 || !is_crlf(q))
		return false;
	*p = q + 2;
	*number = n;
	return true;
}

static inline uint64_t load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline bool same_head(const struct request_head *head, const char *data, size_t len)
{
	if (head->len - 1u >= len)
		return false;
	return ((load64(data) ^ head->first) | (load64(data + head->len / 2 - 4) ^ head->middle) |
		(load64(data + head->len - 8) ^ head->last)) == 0;
}

/* f is a whole request at data. */
static void remember_head(struct request_frame *f, const char *data)
{
	struct request_head *head = &f->head;
	size_t n = (size_t)f->arg[0].offset + f->arg[0].len + 2;

	f->known = NULL;
	head->len = 0;
	if (n > FRAME_HEAD_MAX || f->argc > UINT8_MAX)
		return;
	head->len = (uint8_t)n;
	head->argc = (uint8_t)f->argc;
	head->name = f->arg[0];
	head->first = load64(data);
	head->middle = load64(data + n / 2 - 4);
	head->last = load64(data + n - 8);
}

/*
 * The usual case in one go: a whole request with no surprises. Everything else (false: f is as it was) takes the
 * careful way.
 */
static inline bool whole_request(struct request_frame *f, const char *data, size_t len)
{
	const char *p = data, *end = data + len;
	bool same = same_head(&f->head, data, len);
	uint32_t argc, n, i = 0;

	if (same) {
		argc = f->head.argc;
		f->arg[0] = f->head.name;
		p += f->head.len;
		i = 1;
	} else if (len < 10 || !short_header(&p, end, '*', &argc) || argc == 0) {
		return false;
	}
	for (; i < argc; i++) {
		if (end - p < 6 || !short_header(&p, end, '$', &n))
			return false;
		if ((size_t)(end - p) < (size_t)n + 2 || n > f->max_bulk || !is_crlf(p + n))
			return false;
		if (i < FRAME_ARGS) {
			f->arg[i].offset = (uint32_t)(p - data);
			f->arg[i].len = n;
		}
		p += n + 2;
	}
	f->argc = f->n_seen = argc;
	f->len = (size_t)(p - data);
	if (!same)
		remember_head(f, data);
	return true;
}

enum frame_status request_frame_feed(struct request_frame *f, const char *data, size_t len)
{
	static const enum frame_status status[] = {[STEP_MORE] = FRAME_MORE,
						   [STEP_DONE] = FRAME_READY,
						   [STEP_EMPTY] = FRAME_EMPTY,
						   [STEP_BAD] = FRAME_BAD};
	enum step step;

	if (len == 0)
		return FRAME_MORE;
	if (f->len == 0 && whole_request(f, data, len))
		return FRAME_READY;
	f->head.len = 0;
	f->known = NULL;
	if (f->argc == 0 && *data != '*')
		return inline_line(f, data, len);
	do
		step = advance(f, data + f->len, len - f->len);
	while (step == STEP_AGAIN);
	return status[step];
}

size_t request_frame_stream(struct request_frame *f, const char *data, size_t len, enum frame_status *status)
{
	size_t before = f->len;
	enum step step;

	do
		step = advance(f, data + (f->len - before), len - (f->len - before));
	while (step == STEP_AGAIN);
	*status = step == STEP_DONE ? FRAME_READY : step == STEP_MORE ? FRAME_MORE : FRAME_BAD;
	return f->len - before;
}

void request_frame_error(const struct request_frame *f, char *out, size_t size)
{
	if (strcmp(f->error, "expected '$', got '") == 0) {
		char ch = f->error_byte;

		snprintf(out, size, "Protocol error: %s%c'", f->error,
			 ch == '\r' || ch == '\n' || ch == '\0' ? ' ' : ch);
	} else {
		snprintf(out, size, "Protocol error: %s", f->error);
	}
}

void arg_cursor_init(struct arg_cursor *cur, const char *request, size_t len)
{
	cur->p = memchr(request, '\n', len);
	cur->end = request + len;
	cur->p = cur->p ? cur->p + 1 : cur->end;
}

bool arg_cursor_next(struct arg_cursor *cur, const char **arg, size_t *len)
{
	const char *p = cur->p;
	size_t n = 0;

	if (p >= cur->end || *p != '$')
		return false;
	for (p++; p < cur->end && *p != '\r'; p++)
		n = n * 10 + (size_t)(*p - '0');
	p += 2;
	if (p > cur->end || n + 2 > (size_t)(cur->end - p))
		return false;
	*arg = p;
	*len = n;
	cur->p = p + n + 2;
	return true;
}
