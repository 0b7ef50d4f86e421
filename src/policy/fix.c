/* SPDX-License-Identifier: BSD-2-Clause */
/* Replies in namespaces: see fix.h. */
#include "policy/fix.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/fix_private.h"
#include "policy/glob.h"
#include "resp/errors.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

/* ---- making and freeing ---- */

static struct slice copy_slice(struct fix *fix, struct slice s)
{
	char *copy = arena_alloc(&fix->text, s.len + 1);

	memcpy(copy, s.p, s.len);
	return (struct slice){copy, s.len};
}

struct fix *fix_new(const struct fix *of)
{
	struct fix *fix = xcalloc(1, sizeof(*fix));

	*fix = *of;
	fix->text = (struct arena){0};
	fix->keys = fix->n_keys > 0 ? arena_alloc(&fix->text, fix->n_keys * sizeof(*fix->keys)) : NULL;
	for (uint32_t i = 0; i < fix->n_keys; i++) {
		fix->keys[i] = of->keys[i];
		fix->keys[i].client = copy_slice(fix, of->keys[i].client);
		fix->keys[i].upstream = copy_slice(fix, of->keys[i].upstream);
	}
	return fix;
}

void fix_set_fields(struct fix *fix, const struct slice *fields, uint32_t n)
{
	fix->fields = arena_alloc(&fix->text, n * sizeof(*fields));
	fix->n_fields = n;
	for (uint32_t i = 0; i < n; i++)
		fix->fields[i] = copy_slice(fix, fields[i]);
}

void fix_set_pattern(struct fix *fix, const char *pattern, size_t len)
{
	fix->pattern = copy_slice(fix, (struct slice){pattern, len});
}

void fix_free(struct fix **fixp)
{
	struct fix *fix = *fixp;

	*fixp = NULL;
	if (!fix)
		return;
	if (fix->list) {
		for (uint32_t i = 0; i < fix->list->n; i++)
			fix_free(&fix->list->items[i].fix);
		free(fix->list->items);
		free(fix->list);
	}
	arena_release(&fix->text);
	free(fix);
}

/* ---- names ---- */

static const struct fix_key *key_of(const struct fix *fix, const char *name, size_t len)
{
	for (uint32_t i = 0; i < fix->n_keys; i++)
		if (fix->keys[i].upstream.len == len && memcmp(fix->keys[i].upstream.p, name, len) == 0)
			return &fix->keys[i];
	return NULL;
}

/* An element that names a key of the request; which one. */
static const struct fix_key *request_key(struct walk *w)
{
	const struct fix_key *key;
	struct reply_item item;
	const char *from;

	if (!next(w, &item, &from))
		return NULL;
	key = is_bulk(&item) ? key_of(w->fix, item.text, item.len) : NULL;
	if (key)
		resp_bulk(w->out, key->client.p, key->client.len);
	else
		copy_from(w, from);
	return key;
}

/* The client's name of an upstream key into out. False: it has none, or did not ask for it. */
static bool name_back(const struct fix *fix, const char *key, size_t len, struct buf *name)
{
	struct name_place at;

	if (!view_key_back(&fix->view, key, len, &at))
		return false;
	buf_put(name, at.put, at.put_len);
	buf_put(name, key + at.cut, len - at.cut);
	return !fix->filter || glob_match(fix->pattern.p, fix->pattern.len, text_of(name), buf_len(name));
}

/* An array of keys: those that the client has no name for are left out. */
static void keys_array(struct walk *w)
{
	struct buf names = {0};
	struct reply_item item;
	uint64_t n, n_left = 0;
	const char *from;

	if (!enter_anew(w, &n))
		return;
	for (uint64_t i = 0; i < n && next(w, &item, &from); i++) {
		struct buf name = {0};

		if (is_bulk(&item) && name_back(w->fix, item.text, item.len, &name)) {
			resp_bulk(&names, text_of(&name), buf_len(&name));
			n_left++;
		}
		buf_release(&name);
	}
	resp_array(w->out, n_left);
	buf_put(w->out, text_of(&names), buf_len(&names));
	buf_release(&names);
}

static void scanned_keys(struct walk *w, const struct fix_key *key)
{
	(void)key;
	keys_array(w);
}

/* One, or several of which the first counts that the client has a name for. */
static void random_key(struct walk *w)
{
	struct reply_item item;
	uint64_t n = 1;

	for (uint64_t i = 0; i < n && reply_cursor_next(&w->cur, &item); i++) {
		struct buf name = {0};
		bool ok = is_bulk(&item) && name_back(w->fix, item.text, item.len, &name);

		if (ok)
			resp_bulk(w->out, text_of(&name), buf_len(&name));
		buf_release(&name);
		if (ok)
			return;
		n += is_array(&item) ? elements(&item) : 0;
	}
	resp_null(w->out, w->fix->proto);
}

/* ---- both ---- */

static void what_was_popped(struct walk *w, const struct fix_key *key)
{
	if (w->fix->seal == SEAL_ELEMENT_POP || w->fix->seal == SEAL_ELEMENT_MPOP)
		fix_list_elements(w, key);
	else
		copy(w);
}

/* [key, what was popped ...] */
static void popped(struct walk *w)
{
	const struct fix_key *key;
	uint64_t n;

	if (!enter(w, &n) || n == 0)
		return;
	key = request_key(w);
	for (uint64_t i = 1; i < n; i++)
		what_was_popped(w, key);
}

static void of_stream(struct walk *w, const struct fix_key *key)
{
	if (w->fix->seal == SEAL_ENTRY_STREAMS)
		fix_entries(w, key);
	else
		copy(w);
}

/* [[key, entries], ...], or a map. */
static void streams(struct walk *w)
{
	struct reply_cursor ahead = w->cur;
	const struct fix_key *key;
	struct reply_item item;
	uint64_t n, parts;
	bool map = reply_cursor_next(&ahead, &item) && item.type == '%';

	if (!enter(w, &n))
		return;
	for (uint64_t i = 0; i < n; i += map ? 2 : 1) {
		parts = 2;
		if ((!map && !enter(w, &parts)) || parts == 0)
			continue;
		key = request_key(w);
		if (parts >= 2)
			of_stream(w, key);
		copy_some(w, parts > 2 ? parts - 2 : 0);
	}
}

/* [cursor, what it is about ...] */
static void behind_cursor(struct walk *w, void (*about)(struct walk *w, const struct fix_key *key),
			  const struct fix_key *key)
{
	uint64_t n;

	if (!enter(w, &n))
		return;
	for (uint64_t i = 0; i < n; i++) {
		if (i == 1)
			about(w, key);
		else
			copy(w);
	}
}

static void of_seal(struct walk *w)
{
	const struct fix_key *key = w->fix->n_keys > 0 ? &w->fix->keys[0] : NULL;

	switch ((enum command_seal)w->fix->seal) {
	case SEAL_GET:
		fix_value(w, SEAL_STRING, key, no_field);
		break;
	case SEAL_GET_MANY:
		fix_values_by_key(w);
		break;
	case SEAL_LENGTH:
		fix_length(w, SEAL_STRING);
		break;
	case SEAL_FIELD_GET:
		fix_value(w, SEAL_FIELD, key, w->fix->n_fields > 0 ? w->fix->fields[0] : no_field);
		break;
	case SEAL_FIELD_MANY:
		fix_values_by_field(w);
		break;
	case SEAL_FIELD_MAP:
		fix_field_map(w, SEAL_FIELD, key);
		break;
	case SEAL_FIELD_SCAN:
		behind_cursor(w, fix_scanned_fields, key);
		break;
	case SEAL_FIELD_VALUES:
		fix_field_values(w);
		break;
	case SEAL_FIELD_LENGTH:
		fix_length(w, SEAL_FIELD);
		break;
	case SEAL_ELEMENT_GET:
		fix_list_elements(w, key);
		break;
	case SEAL_ENTRY_GET:
		fix_entries(w, key);
		break;
	case SEAL_ENTRY_AUTO:
		behind_cursor(w, fix_entries, key);
		break;
	case SEAL_ELEMENT_POP:
	case SEAL_ELEMENT_MPOP:
		popped(w);
		break;
	case SEAL_ENTRY_STREAMS:
		streams(w);
		break;
	default:
		copy(w);
		break;
	}
}

/* "+OK" of SET ... NX is SETNX's 1, null its 0. */
static void setnx(struct walk *w)
{
	struct reply_item item;
	const char *from;

	if (next(w, &item, &from))
		resp_int(w->out, item.type == '+');
}

bool fix_error(const struct view *view, const struct namespace *ns, const char *text, size_t len, struct buf *out)
{
	const char *name = view->bound || ns->conf->match.n == 0 ? "" : ns->conf->match.items[0];
	size_t at = 0, from = 0;
	bool found = false;

	if (ns->prefix_len == 0 || !(view->bound || ns->flags & NS_RENAMES))
		return false;
	while (at + ns->prefix_len <= len) {
		bool begins = at > 0 && !isalnum((unsigned char)text[at - 1]);

		if (!begins || memcmp(text + at, ns->prefix, ns->prefix_len) != 0) {
			at++;
			continue;
		}
		buf_put(out, text + from, at - from);
		buf_puts(out, name);
		at += ns->prefix_len;
		from = at;
		found = true;
	}
	if (found)
		buf_put(out, text + from, len - from);
	return found;
}

static void put_error(const struct view *view, const struct namespace *ns, const char *reply, size_t len,
		      struct buf *out)
{
	if (!ns || *reply != '-' || !fix_error(view, ns, reply, len, out))
		buf_put(out, reply, len);
}

static const char *one_reply(const struct fix *fix, const char *reply, size_t len, struct buf *out)
{
	struct walk w = {fix, {reply, reply + len}, out, NULL};
	size_t before = buf_len(out);

	if (len > 0 && (*reply == '-' || *reply == '!')) {
		put_error(&fix->view, fix->ns, reply, len, out);
		return NULL;
	}
	switch ((enum command_names)fix->names) {
	case NAMES_KEYS:
		keys_array(&w);
		break;
	case NAMES_SCAN:
		behind_cursor(&w, scanned_keys, NULL);
		break;
	case NAMES_RANDOM:
		random_key(&w);
		break;
	case NAMES_POP:
		popped(&w);
		break;
	case NAMES_STREAMS:
		streams(&w);
		break;
	default:
		if (fix->setnx)
			setnx(&w);
		else
			of_seal(&w);
		break;
	}
	if (buf_len(out) == before && !w.error) /* "$00\r\n\r\n": the framer lets pass what nobody would write */
		buf_put(out, reply, len);
	return w.error;
}

/* An element of EXEC's reply. */
static void item_reply(const struct fix *list, const struct fix_item *item, const char *reply, size_t len,
		       struct buf *out)
{
	struct buf one = {0};
	const char *error = NULL;

	if (!item->fix) {
		put_error(&list->view, item->ns, reply, len, out);
		return;
	}
	error = one_reply(item->fix, reply, len, &one);
	if (error)
		resp_error(out, error);
	else if (one.data)
		buf_put(out, buf_head(&one), buf_len(&one));
	buf_release(&one);
}

static const char *list_reply(const struct fix *fix, const char *reply, size_t len, struct buf *out)
{
	const struct fix_list *list = fix->list;
	struct reply_cursor cur = {reply, reply + len};
	struct reply_item item;
	uint64_t n_all = 0;

	for (uint32_t i = 0; i < list->n; i++)
		n_all += 1 + list->items[i].n_own;
	/* EXECABORT, null when a watched key has changed, or not what was sent. */
	if (!reply_cursor_next(&cur, &item) || item.type != '*' || (uint64_t)item.number != n_all) {
		buf_put(out, reply, len);
		return NULL;
	}
	resp_array(out, list->n);
	for (uint32_t i = 0; i < list->n; i++) {
		const char *from = cur.p;

		reply_cursor_skip(&cur);
		item_reply(fix, &list->items[i], from, (size_t)(cur.p - from), out);
		for (uint32_t k = 0; k < list->items[i].n_own; k++)
			reply_cursor_skip(&cur);
	}
	return NULL;
}

const char *fix_reply(const struct fix *fix, const char *reply, size_t len, struct buf *out)
{
	return fix->list ? list_reply(fix, reply, len, out) : one_reply(fix, reply, len, out);
}
