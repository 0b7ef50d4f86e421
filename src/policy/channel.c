/* SPDX-License-Identifier: BSD-2-Clause */
/* Channels there and back, keyspace events among them: see channel.h. */
#include "policy/channel.h"

#include <string.h>

#define REDIS_OWN "__redis__:"

static const char keyspace[] = "__keyspace@", keyevent[] = "__keyevent@", behind_db[] = "__:";

static bool begins_with(const char *name, size_t len, const char *text)
{
	size_t n = strlen(text);

	return len >= n && memcmp(name, text, n) == 0;
}

/* How long "__keyspace@0__:" is at the beginning of name; 0: it does not begin so. db: what may stand for it. */
static size_t head_length(const char *name, size_t len, const char *begin, const char *db)
{
	size_t n = strlen(begin);

	if (!begins_with(name, len, begin))
		return 0;
	while (n < len && memchr(db, name[n], strlen(db)))
		n++;
	if (n == strlen(begin) || !begins_with(name + n, len - n, behind_db))
		return 0;
	return n + strlen(behind_db);
}

static size_t keyspace_head(const char *name, size_t len)
{
	return head_length(name, len, keyspace, "0123456789");
}

enum channel_kind channel_kind(const char *name, size_t len)
{
	if (!begins_with(name, len, "__"))
		return CHANNEL_PLAIN;
	if (keyspace_head(name, len) > 0)
		return CHANNEL_KEYSPACE;
	if (head_length(name, len, keyevent, "0123456789") > 0)
		return CHANNEL_KEYEVENT;
	return begins_with(name, len, REDIS_OWN) ? CHANNEL_REDIS : CHANNEL_PLAIN;
}

/* ---- there ---- */

static void put_channel(const struct name_place *at, const char *name, size_t len, struct buf *out)
{
	buf_put(out, at->put, at->put_len);
	buf_put(out, name + at->cut, len - at->cut);
}

void channel_put(const struct view *v, const char *name, size_t len, struct buf *out)
{
	struct name_place at;
	size_t head;

	switch (channel_kind(name, len)) {
	case CHANNEL_KEYSPACE:
		head = keyspace_head(name, len);
		at = view_key(v, name + head, len - head);
		buf_put(out, name, head);
		name_place_put(v, &at, name + head, len - head, out);
		break;
	case CHANNEL_PLAIN:
		at = view_channel(v, name, len);
		put_channel(&at, name, len, out);
		break;
	default:
		buf_put(out, name, len);
	}
}

static bool renames_keys(const struct view *v)
{
	return v->bound ? v->bound->prefix_len > 0 || v->bound->flags & NS_RENAMES : namespaces_rename(v->all);
}

/* Of patterns that begin with "__key". */
static void put_key_pattern(const struct view *v, const char *pattern, size_t len, struct buf *out)
{
	size_t head = head_length(pattern, len, keyspace, "0123456789*?"), literal = 0;
	const struct namespace *ns;

	if (!renames_keys(v) || begins_with(pattern, len, keyevent)) {
		buf_put(out, pattern, len);
	} else if (head > 0) {
		buf_put(out, pattern, head);
		view_pattern(v, pattern + head, len - head, out, &ns);
	} else { /* where in it the key begins can't be said */
		while (literal < len && !memchr("*?[\\", pattern[literal], 4))
			literal++;
		buf_put(out, pattern, literal);
		buf_put(out, "*", 1);
	}
}

void channel_pattern_put(const struct view *v, const char *pattern, size_t len, struct buf *out)
{
	if (begins_with(pattern, len, "__key"))
		put_key_pattern(v, pattern, len, out);
	else if (begins_with(pattern, len, REDIS_OWN))
		buf_put(out, pattern, len);
	else
		view_channel_pattern(v, pattern, len, out);
}

/* ---- back ---- */

bool channel_key_back_put(const struct view *v, const char *key, size_t len, struct buf *out)
{
	struct name_place at;

	if (!view_key_back(v, key, len, &at))
		return false;
	put_channel(&at, key, len, out);
	return true;
}

bool channel_back_put(const struct view *v, const char *name, size_t len, struct buf *out)
{
	struct name_place at = {NULL, "", 0, 0};
	size_t head;

	switch (channel_kind(name, len)) {
	case CHANNEL_KEYSPACE:
		head = keyspace_head(name, len);
		if (!view_key_back(v, name + head, len - head, &at))
			return false;
		buf_put(out, name, head);
		put_channel(&at, name + head, len - head, out);
		return true;
	case CHANNEL_PLAIN:
		if (!view_channel_back(v, name, len, &at))
			return false;
		break;
	default:
		break;
	}
	put_channel(&at, name, len, out);
	return true;
}

bool channel_in_reach(const struct view *v, const char *upstream, size_t len)
{
	size_t head = keyspace_head(upstream, len);
	struct name_place at;

	return head == 0 || view_key_back(v, upstream + head, len - head, &at) ||
	       view_key_is_hashed(v, upstream + head, len - head);
}

/* ---- messages ---- */

bool channel_seals(const struct view *v, const char *name, size_t len)
{
	const struct namespace *ns;

	if (channel_kind(name, len) != CHANNEL_PLAIN)
		return false;
	ns = view_channel(v, name, len).ns;
	return ns && ns->flags & NS_SEALS_MESSAGES;
}

enum open_status message_open(const struct keyring *ring, const char *channel, size_t channel_len, const char *sealed,
			      size_t len, struct buf *out)
{
	struct seal_place at = {.kind = SEAL_MESSAGE, .key = channel, .key_len = channel_len};

	return seal_open(ring, &at, sealed, len, out);
}
