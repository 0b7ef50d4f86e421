/* SPDX-License-Identifier: BSD-2-Clause */
/* Joining replies: see join.h. */
#include "client/join.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/mem.h"
#include "client/token.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

static void put_part(const struct fan_part *p, struct buf *out)
{
	buf_put(out, buf_head(&p->reply), buf_len(&p->reply));
}

static struct reply_cursor cursor_of(const struct fan_part *p)
{
	return (struct reply_cursor){buf_head(&p->reply), buf_head(&p->reply) + buf_len(&p->reply)};
}

static const struct fan_part *first_error(const struct fanout *f)
{
	for (uint32_t i = 0; i < f->n; i++)
		if (f->parts[i].type == '-' || f->parts[i].type == '!')
			return &f->parts[i];
	return NULL;
}

static const struct fan_part *first_success(const struct fanout *f)
{
	for (uint32_t i = 0; i < f->n; i++)
		if (f->parts[i].type != '-' && f->parts[i].type != '!')
			return &f->parts[i];
	return NULL;
}

/* ---- arrays ---- */

/* The elements in the order of the keys. */
static void join_by_key(const struct fanout *f, struct buf *out)
{
	struct reply_cursor *cursors = xcalloc(f->n, sizeof(*cursors));
	struct reply_item head;

	for (uint32_t i = 0; i < f->n; i++) {
		cursors[i] = cursor_of(&f->parts[i]);
		reply_cursor_next(&cursors[i], &head);
	}
	resp_array(out, f->n_keys);
	for (uint32_t i = 0; i < f->n_keys; i++) {
		struct reply_cursor *cur = &cursors[f->owner[i]];
		const char *begin = cur->p;

		if (reply_cursor_skip(cur))
			buf_put(out, begin, (size_t)(cur->p - begin));
		else
			buf_puts(out, "$-1\r\n"); /* a server that answers with fewer elements than keys */
	}
	free(cursors);
}

static void join_arrays(const struct fanout *f, struct buf *out)
{
	struct reply_item head;
	int64_t n = 0;

	for (uint32_t i = 0; i < f->n; i++)
		n += f->parts[i].number > 0 ? f->parts[i].number : 0;
	buf_printf(out, "%c%lld\r\n", f->parts[0].type, (long long)n);
	for (uint32_t i = 0; i < f->n; i++) {
		struct reply_cursor cur = cursor_of(&f->parts[i]);

		if (reply_cursor_next(&cur, &head))
			buf_put(out, cur.p, (size_t)(cur.end - cur.p));
	}
}

/* RANDOMKEY: one of those that are there. */
static void join_any(const struct fanout *f, struct buf *out)
{
	uint32_t start = randombytes_uniform(f->n);

	for (uint32_t i = 0; i < f->n; i++) {
		const struct fan_part *p = &f->parts[(start + i) % f->n];

		if (p->type != '_' && p->number >= 0) {
			put_part(p, out);
			return;
		}
	}
	put_part(&f->parts[0], out);
}

/* ---- numbers ---- */

static int64_t combine(uint8_t policy, int64_t a, int64_t b)
{
	int64_t sum;

	switch (policy) {
	case RESPONSE_AGG_MIN:
		return a < b ? a : b;
	case RESPONSE_AGG_MAX:
		return a > b ? a : b;
	case RESPONSE_AGG_LOGICAL_AND:
		return a && b;
	case RESPONSE_AGG_LOGICAL_OR:
		return a || b;
	default:
		return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
	}
}

static void join_integers(const struct fanout *f, struct buf *out)
{
	int64_t n = f->parts[0].number;

	for (uint32_t i = 1; i < f->n; i++)
		n = combine(f->cmd->response_policy, n, f->parts[i].number);
	resp_int(out, n);
}

/* Arrays of integers, element by element (SCRIPT EXISTS, WAITAOF). */
static void join_integer_arrays(const struct fanout *f, struct buf *out)
{
	struct reply_cursor *cursors = xcalloc(f->n, sizeof(*cursors));
	size_t n_items = f->parts[0].number > 0 ? (size_t)f->parts[0].number : 0;
	struct reply_item item;

	for (uint32_t i = 0; i < f->n; i++) {
		cursors[i] = cursor_of(&f->parts[i]);
		reply_cursor_next(&cursors[i], &item);
	}
	resp_array(out, n_items);
	for (size_t k = 0; k < n_items; k++) {
		int64_t n = 0;

		for (uint32_t i = 0; i < f->n; i++)
			if (reply_cursor_next(&cursors[i], &item))
				n = i == 0 ? item.number : combine(f->cmd->response_policy, n, item.number);
		resp_int(out, n);
	}
	free(cursors);
}

/* ---- which ---- */

static bool is_array(char type)
{
	return type == '*' || type == '~';
}

void join_replies(const struct fanout *f, struct buf *out)
{
	const struct fan_part *error = first_error(f), *success = first_success(f);
	uint8_t policy = f->cmd->response_policy;

	if (f->cmd->token == TOKEN_ASK)
		token_join(f, out);
	else if (policy == RESPONSE_ONE_SUCCEEDED && success)
		put_part(success, out);
	else if (error)
		put_part(error, out);
	else if (policy == RESPONSE_ALL_SUCCEEDED || policy == RESPONSE_ONE_SUCCEEDED)
		put_part(success, out);
	else if (policy == RESPONSE_DEFAULT && f->owner)
		join_by_key(f, out);
	else if (policy == RESPONSE_DEFAULT)
		(is_array(f->parts[0].type) ? join_arrays : join_any)(f, out);
	else
		(is_array(f->parts[0].type) ? join_integer_arrays : join_integers)(f, out);
}
