/* SPDX-License-Identifier: BSD-2-Clause */
/* What fix.c (names) and fix_values.c (sealed values) share: walking over a reply while another is written. */
#ifndef KEYWEIR_FIX_PRIVATE_H
#define KEYWEIR_FIX_PRIVATE_H

#include "policy/fix.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

struct walk {
	const struct fix *fix;
	struct reply_cursor cur;
	struct buf *out;
	const char *error;
};

static inline bool is_array(const struct reply_item *item)
{
	return (item->type == '*' || item->type == '~' || item->type == '>' || item->type == '%') && item->number >= 0;
}

static inline uint64_t elements(const struct reply_item *item)
{
	return (uint64_t)item->number * (item->type == '%' ? 2 : 1);
}

/* The next element, and past all that is in it; where it began in *from. False: there is none. */
static inline bool next(struct walk *w, struct reply_item *item, const char **from)
{
	*from = w->cur.p;
	if (!reply_cursor_next(&w->cur, item))
		return false;
	if (!is_array(item) && item->type != '|')
		return true;
	w->cur.p = *from;
	return reply_cursor_skip(&w->cur);
}

static inline bool is_bulk(const struct reply_item *item)
{
	return item->type == '$' && item->number >= 0;
}

static inline void copy_from(struct walk *w, const char *from)
{
	buf_put(w->out, from, (size_t)(w->cur.p - from));
}

/* One whole element as it is. */
static inline void copy(struct walk *w)
{
	const char *from = w->cur.p;

	if (reply_cursor_skip(&w->cur))
		copy_from(w, from);
	else
		w->cur.p = w->cur.end;
}

static inline void copy_some(struct walk *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		copy(w);
}

/* The head of an array, not copied; what is no array is, whole. Returns whether it is one, how long in *n. */
static inline bool enter_anew(struct walk *w, uint64_t *n)
{
	const char *from = w->cur.p;
	struct reply_item item;

	if (!reply_cursor_next(&w->cur, &item) || !is_array(&item)) {
		w->cur.p = from;
		copy(w);
		return false;
	}
	*n = elements(&item);
	return true;
}

/* The same, copied. */
static inline bool enter(struct walk *w, uint64_t *n)
{
	const char *from = w->cur.p;

	if (!enter_anew(w, n))
		return false;
	copy_from(w, from);
	return true;
}

static inline const char *text_of(const struct buf *b)
{
	return b->data ? buf_head(b) : "";
}

static const struct slice no_field = {NULL, 0};

/* Values, each from where the walk stands; key: whose they are, NULL: not known, they are copied. */
void fix_value(struct walk *w, enum seal_kind kind, const struct fix_key *key, struct slice field);
void fix_length(struct walk *w, enum seal_kind kind);
void fix_values_by_key(struct walk *w);
void fix_values_by_field(struct walk *w);
void fix_field_map(struct walk *w, enum seal_kind kind, const struct fix_key *key);
void fix_scanned_fields(struct walk *w, const struct fix_key *key);
void fix_field_values(struct walk *w);
void fix_list_elements(struct walk *w, const struct fix_key *key);
void fix_entries(struct walk *w, const struct fix_key *key);

#endif
