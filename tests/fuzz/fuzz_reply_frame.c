/* SPDX-License-Identifier: BSD-2-Clause */
/* The reply framer: whole and in pieces it must agree on where replies end; the cursor stays inside. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "resp/reply_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	size_t ends[64];
	size_t n;
	int bad;
};

static void run(const char *p, size_t n, size_t step, struct outcome *out)
{
	struct reply_frame f = {0};
	size_t at = 0;

	memset(out, 0, sizeof(*out));
	while (at < n && out->n < 64) {
		size_t piece = n - at < step ? n - at : step, used = 0;
		enum reply_status status = reply_frame_feed(&f, p + at, piece, &used);

		if (status == REPLY_BAD) {
			out->bad = 1;
			return;
		}
		assert(used > 0 && used <= piece);
		at += used;
		if (status == REPLY_DONE) {
			assert(!reply_frame_busy(&f));
			out->ends[out->n++] = at;
		} else {
			assert(used == piece);
		}
	}
}

static void walk(const char *p, size_t n)
{
	struct reply_cursor cur = {p, p + n};
	struct reply_item item;

	while (reply_cursor_next(&cur, &item)) {
		assert(cur.p <= cur.end);
		if (item.text)
			assert(item.text >= p && item.text + item.len <= p + n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, pieces;
	const char *p = (const char *)data + (size > 0);
	size_t n = size > 0 ? size - 1 : 0;

	run(p, n, n + 1, &whole);
	run(p, n, size > 0 ? data[0] % 5 + 1 : 1, &pieces);
	/* Nonsense may be noticed sooner or later, but what came before it is the same. */
	for (size_t i = 0; i < whole.n && i < pieces.n; i++)
		assert(whole.ends[i] == pieces.ends[i]);
	if (!whole.bad && !pieces.bad)
		assert(whole.n == pieces.n);
	walk(p, n);
	return 0;
}
