/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The request framer: whole, byte by byte and in random pieces it must say the same; what it says lies inside the
 * input; an inline command split from it frames as a request.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "resp/request_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BULK 4096

static enum frame_status at_once(struct request_frame *f, const char *p, size_t n)
{
	*f = (struct request_frame){.max_bulk = MAX_BULK};
	return request_frame_feed(f, p, n);
}

/* Grows the input piece by piece, as a socket does. */
static enum frame_status in_pieces(struct request_frame *f, const char *p, size_t n, size_t step)
{
	enum frame_status status = FRAME_MORE;

	*f = (struct request_frame){.max_bulk = MAX_BULK};
	for (size_t have = step; status == FRAME_MORE; have += step) {
		status = request_frame_feed(f, p, have < n ? have : n);
		if (have >= n)
			break;
	}
	return status;
}

static void check_inside(const struct request_frame *f, const char *p, size_t n)
{
	struct arg_cursor cur;
	const char *arg;
	uint32_t count = 0;
	size_t len;

	assert(f->len <= n && f->argc > 0);
	arg_cursor_init(&cur, p, f->len);
	while (arg_cursor_next(&cur, &arg, &len)) {
		assert(arg >= p && len <= n && arg + len + 2 <= p + f->len);
		if (count < FRAME_ARGS)
			assert(p + f->arg[count].offset == arg && f->arg[count].len == len);
		count++;
	}
	assert(count == f->argc);
}

/* The same request again, and every cut of it, with its head remembered: no other answer. */
static void check_head(const struct request_frame *first, const char *p, size_t n)
{
	struct request_frame a = *first, b;

	request_frame_reset(&a);
	assert(request_frame_feed(&a, p, n) == FRAME_READY && a.len == first->len && a.argc == first->argc);
	check_inside(&a, p, n);
	for (size_t cut = 0; cut < n && cut < 64; cut++) {
		a = *first;
		request_frame_reset(&a);
		assert(request_frame_feed(&a, p, cut) == at_once(&b, p, cut));
		assert(a.len == b.len && a.argc == b.argc && a.n_seen == b.n_seen);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t step = size > 0 ? data[0] % 7 + 1 : 1;
	const char *p = (const char *)data + (size > 0);
	struct request_frame same = {.max_bulk = MAX_BULK}; /* one connection's, that keeps its head */
	size_t n = size > 0 ? size - 1 : 0;

	for (int i = 0; i < 64 && n > 0; i++) {
		struct request_frame a, b;
		enum frame_status status = at_once(&a, p, n);

		assert(in_pieces(&b, p, n, step) == status);
		request_frame_reset(&same);
		assert(request_frame_feed(&same, p, n) == status && same.len == a.len && same.argc == a.argc);
		if (status == FRAME_READY) {
			assert(a.len == b.len && a.argc == b.argc);
			check_inside(&a, p, n);
			check_head(&a, p, n);
		} else if (status == FRAME_INLINE) {
			struct buf out = {0};
			int argc = inline_split(p, a.len, &out);

			if (argc > 0) {
				assert(at_once(&b, buf_head(&out), buf_len(&out)) != FRAME_MORE);
			}
			buf_release(&out);
		}
		if (status == FRAME_MORE || status == FRAME_BAD)
			break;
		p += a.len;
		n -= a.len;
	}
	return 0;
}
