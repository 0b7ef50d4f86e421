/* SPDX-License-Identifier: BSD-2-Clause */
/* What a node says of itself: see node_look.h. */
#include "upstream/node_look.h"

#include <string.h>

#include "resp/number.h"
#include "resp/reply_frame.h"

#define LOOK_MASTERS   16 /* that are looked at every beat */
#define LOOK_BEATS_MAX 4

#define HASH_START 0xcbf29ce484222325u /* FNV-1a */

struct text {
	const char *p;
	size_t len;
};

static bool text_begins(struct text t, const char *with)
{
	return t.len >= strlen(with) && memcmp(t.p, with, strlen(with)) == 0;
}

static bool text_is(struct text t, const char *other)
{
	return t.len == strlen(other) && text_begins(t, other);
}

/* Takes the beginning up to `end` (which is dropped) off the text. */
static struct text text_take(struct text *t, char end)
{
	const char *at = t->len > 0 ? memchr(t->p, end, t->len) : NULL;
	struct text part = {t->p, at ? (size_t)(at - t->p) : t->len};
	size_t taken = part.len + (at != NULL);

	t->p += taken;
	t->len -= taken;
	return part;
}

bool node_look_is_master(const char *reply, size_t len)
{
	struct reply_cursor cur = {reply, reply + len};
	struct reply_item item;

	return reply_cursor_next(&cur, &item) && item.type == '*' && item.number > 0 &&
	       reply_cursor_next(&cur, &item) && item.type == '$' &&
	       text_is((struct text){item.text, item.len}, "master");
}

static uint64_t hash_text(uint64_t h, struct text t)
{
	for (size_t i = 0; i < t.len; i++)
		h = (h ^ (unsigned char)t.p[i]) * 0x100000001b3u;
	return (h ^ ' ') * 0x100000001b3u;
}

uint64_t node_look_swaps(const char *reply, size_t len)
{
	return hash_text(HASH_START, (struct text){reply, len});
}

/* A bulk string, or a verbatim one of RESP3 ("txt:..."). */
static bool read_text(const char *reply, size_t len, struct text *out)
{
	struct reply_item item = reply_first(reply, len, '-');

	*out = (struct text){item.text, item.len};
	if (item.type == '=')
		text_take(out, ':');
	return (item.type == '=' || item.type == '$') && item.number >= 0;
}

static uint64_t number_of(struct text t)
{
	int64_t n;

	return parse_int64(t.p, t.len, &n) && n > 0 ? (uint64_t)n : 0;
}

bool node_look_cluster_info(struct cluster_look *look, const char *reply, size_t len)
{
	struct text all;

	if (!read_text(reply, len, &all))
		return false;
	*look = (struct cluster_look){0};
	while (all.len > 0) {
		struct text value = text_take(&all, '\n'), name;

		if (value.len > 0 && value.p[value.len - 1] == '\r')
			value.len--;
		name = text_take(&value, ':');
		if (text_is(name, "cluster_state"))
			look->ok = text_is(value, "ok");
		else if (text_is(name, "cluster_current_epoch"))
			look->current_epoch = number_of(value);
		else if (text_is(name, "cluster_my_epoch"))
			look->my_epoch = number_of(value);
		else if (text_is(name, "cluster_size"))
			look->size = number_of(value);
	}
	return true;
}

static bool has_flag(struct text flags, const char *flag)
{
	while (flags.len > 0)
		if (text_is(text_take(&flags, ','), flag))
			return true;
	return false;
}

/*
 * id address flags master ping-sent pong-received epoch link-state slots...
 * https://redis.io/commands/cluster-nodes/
 */
static bool read_line(struct cluster_look *look, struct text line)
{
	struct text id = text_take(&line, ' '), address = text_take(&line, ' '), flags = text_take(&line, ' ');

	(void)address; /* it learns of its own by and by */
	if (!has_flag(flags, "myself"))
		return false;
	look->ok = look->ok && has_flag(flags, "master");
	look->line = hash_text(hash_text(HASH_START, id), text_take(&line, ' '));
	text_take(&line, ' ');
	text_take(&line, ' ');
	look->line = hash_text(look->line, line);
	return true;
}

bool node_look_cluster_nodes(struct cluster_look *look, const char *reply, size_t len)
{
	struct text all;

	if (!read_text(reply, len, &all))
		return false;
	while (all.len > 0)
		if (read_line(look, text_take(&all, '\n')))
			return true;
	return false;
}

unsigned node_look_beats(const struct cluster_look *look)
{
	uint64_t beats = look->size / LOOK_MASTERS + (look->size % LOOK_MASTERS > 0);

	return beats > LOOK_BEATS_MAX ? LOOK_BEATS_MAX : beats > 0 ? (unsigned)beats : 1;
}
