/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys that have changed, as Redis tells of them: see invalidation.h. */
#include "upstream/invalidation.h"

#include <string.h>

static bool is_text(const struct reply_item *item)
{
	return (item->type == '$' || item->type == '+') && item->number >= 0;
}

static bool text_is(const struct reply_item *item, const char *text)
{
	return is_text(item) && item->len == strlen(text) && memcmp(item->text, text, item->len) == 0;
}

/* An array of keys, or one, or null: all of them. Whoever says something else is taken at the worst. */
static enum invalidation read_keys(struct reply_cursor *keys)
{
	struct reply_cursor ahead = *keys;
	struct reply_item item;

	if (!reply_cursor_next(&ahead, &item) || (item.type != '*' && !is_text(&item)) || item.number < 0)
		return INVALIDATION_ALL;
	if (item.type != '*')
		return INVALIDATION_KEYS;
	*keys = ahead;
	while (reply_cursor_next(&ahead, &item))
		if (!is_text(&item))
			return INVALIDATION_ALL;
	return ahead.p == ahead.end ? INVALIDATION_KEYS : INVALIDATION_ALL;
}

enum invalidation invalidation_read(const char *reply, size_t len, struct reply_cursor *keys)
{
	struct reply_item item;

	*keys = (struct reply_cursor){reply, reply + len};
	if (!reply_cursor_next(keys, &item))
		return INVALIDATION_NONE;
	if (item.type == '>') {
		if (item.number < 1 || !reply_cursor_next(keys, &item) || !text_is(&item, "invalidate"))
			return INVALIDATION_OTHER;
		return read_keys(keys);
	}
	if (item.type != '*' || item.number != 3 || !reply_cursor_next(keys, &item) || !text_is(&item, "message"))
		return INVALIDATION_NONE;
	if (!reply_cursor_next(keys, &item) || !text_is(&item, INVALIDATION_CHANNEL))
		return INVALIDATION_OTHER;
	return read_keys(keys);
}

bool invalidation_next(struct reply_cursor *keys, const char **key, size_t *len)
{
	struct reply_item item;

	if (!reply_cursor_next(keys, &item))
		return false;
	*key = item.text;
	*len = item.len;
	return true;
}
