/* SPDX-License-Identifier: BSD-2-Clause */
/* CLIENT TRACKING through namespaces: prefixes on their way to Redis, keys on their way back. */
#include <string.h>

#include "base/map.h"
#include "client/client.h"
#include "client/tracking.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

static const char invalidate[] = ">2\r\n$10\r\ninvalidate\r\n";

/* ---- there ---- */

/* What is asked for, taken apart. */
struct asked {
	struct buf words; /* all but PREFIX and what stands behind it */
	struct buf prefixes;
	struct map said; /* prefixes, as the client says them, and upstream */
	struct map put;
	size_t n_words;
	size_t n_prefixes;
	bool wide; /* keys that begin like one of them are in several places: all are to be heard of */
	bool bcast;
};

static bool is_word(const char *arg, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(arg, word, len) == 0;
}

static void put_prefix(struct asked *a, const char *p, size_t len)
{
	resp_bulks(&a->prefixes, "PREFIX");
	resp_bulk(&a->prefixes, p, len);
	a->n_prefixes++;
}

/* True: it was there already. */
static bool note(struct map *m, const char *p, size_t len)
{
	if (map_get(m, p, len))
		return true;
	map_set(m, p, len, m);
	return false;
}

/* Two of the client's that are one upstream are asked for once; its own doubles are for Redis to refuse. */
static void ask_prefix(struct asked *a, const struct view *v, const char *p, size_t len)
{
	bool again = note(&a->said, p, len);
	struct buf name = {0};

	if (!view_key_beginning(v, p, len, &name))
		a->wide = true;
	else if (!note(&a->put, buf_head(&name), buf_len(&name)) || again)
		put_prefix(a, buf_head(&name), buf_len(&name));
	buf_release(&name);
}

static void take_apart(const struct call *call, const struct view *v, const char *redirect, struct asked *a)
{
	const char *arg, *before = "";
	size_t len, before_len = 0;
	struct arg_cursor cur;

	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; arg_cursor_next(&cur, &arg, &len); i++) {
		if (i > 3 && is_word(before, before_len, "PREFIX")) {
			ask_prefix(a, v, arg, len);
			len = 0; /* whatever it says, it is no option */
		} else if (i > 3 && redirect && is_word(before, before_len, "REDIRECT")) {
			resp_bulks(&a->words, redirect);
			a->n_words++;
			len = 0;
		} else if (i < 3 || i + 1 == call->frame->argc || !is_word(arg, len, "PREFIX")) {
			a->bcast = a->bcast || (i >= 3 && is_word(arg, len, "BCAST"));
			resp_bulk(&a->words, arg, len);
			a->n_words++;
		}
		before = arg;
		before_len = len;
	}
}

void tracking_put_request(const struct call *call, const struct view *v, const char *redirect, struct buf *out)
{
	struct asked a = {0};

	map_init(&a.said);
	map_init(&a.put);
	take_apart(call, v, redirect, &a);
	map_fini(&a.said);
	map_fini(&a.put);
	if (a.wide) {
		a.prefixes.start = a.prefixes.end = 0;
		a.n_prefixes = 0;
		put_prefix(&a, "", 0);
	} else if (a.bcast && a.n_prefixes == 0 && v->bound) {
		put_prefix(&a, v->bound->prefix, v->bound->prefix_len);
	}
	resp_array(out, a.n_words + 2 * a.n_prefixes);
	buf_put(out, buf_head(&a.words), buf_len(&a.words));
	buf_put(out, buf_head(&a.prefixes), buf_len(&a.prefixes));
	buf_release(&a.words);
	buf_release(&a.prefixes);
}

/* ---- back ---- */

static void put_name(struct buf *out, const char *put, size_t put_len, const char *rest, size_t rest_len)
{
	buf_printf(out, "$%zu\r\n", put_len + rest_len);
	buf_put(out, put, put_len);
	buf_put(out, rest, rest_len);
	buf_put(out, "\r\n", 2);
}

/* All names that clients may have for it. Returns how many. */
static size_t put_names(const struct view *v, const char *key, size_t len, struct buf *out)
{
	struct name_place at;
	const struct string_list *match;
	size_t n = 1;

	if (!view_key_back(v, key, len, &at))
		return 0;
	put_name(out, at.put, at.put_len, key + at.cut, len - at.cut);
	if (v->bound || !at.ns || at.cut == 0)
		return n;
	match = &at.ns->conf->match;
	for (; n < match->n; n++) /* it was the first of several beginnings */
		put_name(out, match->items[n], strlen(match->items[n]), key + at.cut, len - at.cut);
	return n;
}

bool tracking_see(const struct client *c, const char **data, size_t *len, struct buf *room)
{
	struct view v = c->view;
	const size_t head = sizeof(invalidate) - 1;
	struct reply_cursor cur = {*data + head, *data + *len};
	struct reply_item list, key;
	struct buf names = {0};
	bool hashed = false;
	size_t n = 0;

	if (!namespaces_active(v.all) || *len < head || memcmp(*data, invalidate, head) != 0 ||
	    !reply_cursor_next(&cur, &list) || list.type != '*' || list.number < 0)
		return true;
	while (reply_cursor_next(&cur, &key)) {
		n += put_names(&v, key.text, key.len, &names);
		hashed = hashed || view_key_is_hashed(&v, key.text, key.len);
	}
	buf_put(room, invalidate, head);
	if (hashed) {
		resp_null(room, 3);
	} else {
		resp_array(room, n);
		buf_put(room, buf_head(&names), buf_len(&names));
	}
	buf_release(&names);
	*data = buf_head(room);
	*len = buf_len(room);
	return hashed || n > 0;
}

/* A prefix by the client's name; one of hashed names is the same for all of them. */
static struct name_place prefix_back(const struct view *v, const char *p, size_t len)
{
	struct name_place at;

	if (view_key_back(v, p, len, &at) || view_key_is_hashed(v, p, len))
		return at;
	return (struct name_place){NULL, "", 0, 0};
}

void tracking_see_prefixes(const struct client *c, struct buf *reply)
{
	static const char word[] = "$8\r\nprefixes\r\n";
	struct view v = c->view;
	char *at = memmem(buf_head(reply), buf_len(reply), word, sizeof(word) - 1);
	struct reply_item list, prefix;
	struct buf b = {0}, names = {0};
	struct reply_cursor cur;
	struct name_place place;
	size_t n = 0;

	if (!at || !namespaces_active(v.all))
		return;
	cur = (struct reply_cursor){at + sizeof(word) - 1, buf_head(reply) + buf_len(reply)};
	if (!reply_cursor_next(&cur, &list) || list.type != '*' || list.number < 0)
		return;
	while (n < (size_t)list.number && reply_cursor_next(&cur, &prefix)) {
		place = prefix_back(&v, prefix.text, prefix.len);
		put_name(&names, place.put, place.put_len, prefix.text + place.cut, prefix.len - place.cut);
		n++;
	}
	buf_put(&b, buf_head(reply), (size_t)(at - buf_head(reply)) + sizeof(word) - 1);
	resp_array(&b, n);
	buf_put(&b, buf_head(&names), buf_len(&names));
	buf_put(&b, cur.p, (size_t)(cur.end - cur.p));
	buf_release(&names);
	buf_release(reply);
	*reply = b;
}

/* "Prefix 'a' overlaps with another provided prefix 'ab'. Prefixes for a single client must not overlap." */
void tracking_see_error(const struct client *c, struct buf *reply)
{
	static const char opening[] = "refix '", behind_first[] = "' overlaps", behind_second[] = "'. Prefixes";
	struct view v = c->view;
	const char *from = buf_head(reply), *end = from + buf_len(reply), *close;
	struct buf b = {0};

	for (const char *p; (p = memmem(from, (size_t)(end - from), opening, sizeof(opening) - 1)); from = close) {
		struct name_place at;

		p += sizeof(opening) - 1;
		close = memmem(p, (size_t)(end - p), behind_first, sizeof(behind_first) - 1);
		if (!close)
			close = memmem(p, (size_t)(end - p), behind_second, sizeof(behind_second) - 1);
		if (!close)
			break;
		at = prefix_back(&v, p, (size_t)(close - p));
		buf_put(&b, from, (size_t)(p - from));
		buf_put(&b, at.put, at.put_len);
		buf_put(&b, p + at.cut, (size_t)(close - p) - at.cut);
	}
	buf_put(&b, from, (size_t)(end - from));
	buf_release(reply);
	*reply = b;
}

/* ---- another configuration ---- */

/* Whether both hash alike: by the same secret. */
static bool hash_alike(const struct view *a, const struct namespace *in_a, const struct view *b,
		       const struct namespace *in_b)
{
	static const char probe[] = "probe";
	struct name_place at_a = {in_a, "", 0, 0}, at_b = {in_b, "", 0, 0};
	struct buf x = {0}, y = {0};
	bool same;

	name_place_put(a, &at_a, probe, sizeof(probe) - 1, &x);
	name_place_put(b, &at_b, probe, sizeof(probe) - 1, &y);
	same = buf_len(&x) == buf_len(&y) && memcmp(buf_head(&x), buf_head(&y), buf_len(&x)) == 0;
	buf_release(&x);
	buf_release(&y);
	return same;
}

static bool name_alike(const struct view *a, const struct namespace *in_a, const struct view *b,
		       const struct namespace *in_b)
{
	return strcmp(in_a->prefix, in_b->prefix) == 0 && hash_alike(a, in_a, b, in_b);
}

bool tracking_names_differ(const struct view *a, const struct view *b)
{
	size_t n = namespaces_count(a->all);

	if (a->bound && b->bound)
		return !name_alike(a, a->bound, b, b->bound);
	if (namespaces_strict(a->all) != namespaces_strict(b->all))
		return true;
	if (!namespaces_rename(a->all) && !namespaces_rename(b->all))
		return false;
	if (n != namespaces_count(b->all))
		return true;
	for (size_t i = 0; i < n; i++) {
		const struct namespace *in_a = namespaces_at(a->all, i), *in_b = namespaces_at(b->all, i);

		if (strcmp(in_a->conf->name, in_b->conf->name) != 0 || (in_a->flags ^ in_b->flags) & NS_RENAMES ||
		    !string_list_same(&in_a->conf->match, &in_b->conf->match) || !name_alike(a, in_a, b, in_b))
			return true;
	}
	return false;
}
