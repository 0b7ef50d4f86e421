/* SPDX-License-Identifier: BSD-2-Clause */
/* Sealed values in replies are opened: one function for each shape in which they come. See fix.h. */
#include <stdio.h>
#include <string.h>

#include "policy/fix_private.h"
#include "resp/errors.h"

/* A value that is the whole reply is opened where it is to lie: the length is written in front of it afterwards. */
static enum open_status open_alone(struct walk *w, const struct seal_place *at, const struct reply_item *item)
{
	struct buf *out = w->out;
	char head[32];
	enum open_status status;
	size_t n;

	if (!buf_reserve(out, item->len + sizeof(head) + 2))
		return OPEN_BROKEN;
	out->start = out->end = sizeof(head);
	status = seal_open(w->fix->ring, at, item->text, item->len, out);
	if (status == OPEN_BROKEN) {
		out->start = out->end = 0;
		return status;
	}
	n = (size_t)snprintf(head, sizeof(head), "$%zu\r\n", buf_len(out));
	buf_put(out, "\r\n", 2);
	out->start -= n;
	memcpy(buf_head(out), head, n);
	return status;
}

static enum open_status open_among(struct walk *w, const struct seal_place *at, const struct reply_item *item)
{
	struct buf value = {0};
	enum open_status status = seal_open(w->fix->ring, at, item->text, item->len, &value);

	if (status != OPEN_BROKEN)
		resp_bulk(w->out, text_of(&value), buf_len(&value));
	buf_release(&value);
	return status;
}

/* The next element, a value (or null, or something else that is copied). */
void fix_value(struct walk *w, enum seal_kind kind, const struct fix_key *key, struct slice field)
{
	struct seal_place at = {.kind = kind, .field = field.p, .field_len = field.len};
	struct reply_item item;
	const char *from;

	if (!next(w, &item, &from))
		return;
	if (!is_bulk(&item) || !key || !key->sealed) {
		w->cur.p = from;
		copy(w);
		return;
	}
	at.key = key->upstream.p;
	at.key_len = key->upstream.len;
	if ((buf_len(w->out) == 0 ? open_alone : open_among)(w, &at, &item) == OPEN_BROKEN)
		w->error = reply_error_text(ERROR_NOT_OPENED);
}

void fix_length(struct walk *w, enum seal_kind kind)
{
	struct buf text = {0}, *out = w->out;
	struct reply_item item;
	struct slice field = w->fix->n_fields > 0 ? w->fix->fields[0] : no_field;
	struct reply_cursor cur;

	w->out = &text;
	fix_value(w, kind, &w->fix->keys[0], field);
	w->out = out;
	cur = (struct reply_cursor){text_of(&text), text_of(&text) + buf_len(&text)};
	if (!w->error && reply_cursor_next(&cur, &item))
		resp_int(out, is_bulk(&item) ? (int64_t)item.len : 0);
	buf_release(&text);
}

void fix_values_by_key(struct walk *w)
{
	uint64_t n;

	if (!enter(w, &n))
		return;
	for (uint64_t i = 0; i < n && i < w->fix->n_keys; i++)
		fix_value(w, SEAL_STRING, &w->fix->keys[i], no_field);
	copy_some(w, n > w->fix->n_keys ? n - w->fix->n_keys : 0);
}

void fix_values_by_field(struct walk *w)
{
	uint64_t n;

	if (!enter(w, &n))
		return;
	for (uint64_t i = 0; i < n && i < w->fix->n_fields; i++)
		fix_value(w, SEAL_FIELD, &w->fix->keys[0], w->fix->fields[i]);
	copy_some(w, n > w->fix->n_fields ? n - w->fix->n_fields : 0);
}

/* The next element is a field's name; it is copied, too, unless it is to be left out. */
static struct slice field_name(struct walk *w, bool out)
{
	struct reply_item item;
	const char *from;

	if (!next(w, &item, &from))
		return no_field;
	if (out)
		copy_from(w, from);
	return is_bulk(&item) ? (struct slice){item.text, item.len} : no_field;
}

static void fields_and_values(struct walk *w, enum seal_kind kind, const struct fix_key *key, uint64_t n)
{
	for (uint64_t i = 0; i + 1 < n; i += 2) {
		struct slice field = field_name(w, true);

		fix_value(w, kind, key, field);
	}
	copy_some(w, n % 2);
}

/* Fields and values: flat, a map, or an array of pairs (HRANDFIELD in RESP3). */
void fix_field_map(struct walk *w, enum seal_kind kind, const struct fix_key *key)
{
	struct reply_cursor ahead;
	struct reply_item item;
	uint64_t n, n_pair;

	if (!enter(w, &n))
		return;
	ahead = w->cur;
	if (n == 0 || !reply_cursor_next(&ahead, &item) || !is_array(&item)) {
		fields_and_values(w, kind, key, n);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		if (enter(w, &n_pair))
			fields_and_values(w, kind, key, n_pair);
}

void fix_scanned_fields(struct walk *w, const struct fix_key *key)
{
	fix_field_map(w, SEAL_FIELD, key);
}

/* HGETALL's reply as HVALS has it. */
void fix_field_values(struct walk *w)
{
	uint64_t n;

	if (!enter_anew(w, &n))
		return;
	resp_array(w->out, n / 2);
	for (uint64_t i = 0; i + 1 < n; i += 2) {
		struct slice field = field_name(w, false);

		fix_value(w, SEAL_FIELD, &w->fix->keys[0], field);
	}
}

/* One element, or an array of them. */
void fix_list_elements(struct walk *w, const struct fix_key *key)
{
	struct reply_cursor ahead = w->cur;
	struct reply_item item;
	uint64_t n;

	if (reply_cursor_next(&ahead, &item) && !is_array(&item)) {
		fix_value(w, SEAL_ELEMENT, key, no_field);
		return;
	}
	if (!enter(w, &n))
		return;
	for (uint64_t i = 0; i < n; i++)
		fix_value(w, SEAL_ELEMENT, key, no_field);
}

/* [[id, [field, value ...]], ...]; what is no entry (XCLAIM JUSTID, a deleted one) is copied. */
void fix_entries(struct walk *w, const struct fix_key *key)
{
	uint64_t n, parts;

	if (!enter(w, &n))
		return;
	for (uint64_t i = 0; i < n; i++) {
		if (!enter(w, &parts))
			continue;
		for (uint64_t k = 0; k < parts; k++) {
			if (k == 1)
				fix_field_map(w, SEAL_ENTRY, key);
			else
				copy(w);
		}
	}
}
