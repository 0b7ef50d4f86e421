/* SPDX-License-Identifier: BSD-2-Clause */
/* See key_names.h. */
#include "client/key_names.h"

#include <string.h>

/* FNV-1a; never that of plain ones. */
static uint32_t number_of(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h == KEY_OWNER_PLAIN ? 1 : h;
}

uint32_t key_owner(const struct client *c)
{
	const struct namespace *bound = client_view(c).bound;

	return bound ? number_of(bound->conf->name) : KEY_OWNER_PLAIN;
}

/* NULL: it is no more. */
static const struct namespace *owner_of(struct key_teller *teller, uint32_t owner)
{
	const struct namespaces *all = teller->view.all;

	if (owner == teller->last_owner)
		return teller->last;
	teller->last_owner = owner;
	teller->last = NULL;
	for (size_t i = 0; i < namespaces_count(all) && !teller->last; i++)
		if (number_of(namespaces_at(all, i)->conf->name) == owner)
			teller->last = namespaces_at(all, i);
	return teller->last;
}

/* The key's name upstream (what is hashed there, as it is before that), and its namespace. False: there is none. */
static bool put_upstream(struct key_teller *teller, const struct seen_key *key, struct buf *out,
			 const struct namespace **ns)
{
	struct view view = {.all = teller->view.all};
	struct name_place at;

	if (key->owner != KEY_OWNER_PLAIN) {
		view.bound = owner_of(teller, key->owner);
		if (!view.bound)
			return false;
	}
	if (key->upstream) {
		struct view all = {.all = teller->view.all};

		*ns = view.bound ? view.bound : view_key(&all, key->p, key->kept).ns;
		buf_put(out, key->p, key->kept);
		return true;
	}
	at = view_key(&view, key->p, key->kept);
	*ns = at.ns;
	buf_put(out, at.put, at.put_len);
	buf_put(out, key->p + at.cut, key->kept - at.cut);
	return true;
}

static void put_name(const struct view *view, const struct seen_key *key, const char *up, size_t len, struct buf *out)
{
	struct name_place at;

	/* Of a name that is hashed upstream the place is told all the same, and here it is the name itself. */
	if (key->upstream || (!view_key_back(view, up, len, &at) && !(at.ns && at.ns->flags & NS_HASHES)) ||
	    at.cut > len) {
		buf_put(out, key->owner == KEY_OWNER_PLAIN ? key->p : up,
			key->owner == KEY_OWNER_PLAIN ? key->kept : len);
		return;
	}
	buf_put(out, at.put, at.put_len);
	buf_put(out, up + at.cut, len - at.cut);
}

bool key_told(struct key_teller *teller, const struct seen_key *key, struct buf *out)
{
	const struct namespace *bound = teller->view.bound, *ns = NULL;
	struct buf up = {0};
	bool told = put_upstream(teller, key, &up, &ns);

	if (told && ns && ns->flags & NS_TOKENS) { /* nobody reads tokens out of it */
		told = false;
	} else if (told && bound) {
		told = ns == bound && buf_len(&up) >= bound->prefix_len &&
		       memcmp(buf_head(&up), bound->prefix, bound->prefix_len) == 0;
		if (told)
			buf_put(out, buf_head(&up) + bound->prefix_len, buf_len(&up) - bound->prefix_len);
	} else if (told) {
		put_name(&teller->view, key, buf_head(&up), buf_len(&up), out);
	}
	if (told && key->len > key->kept)
		buf_printf(out, "... (%zu more bytes)", key->len - key->kept);
	buf_release(&up);
	return told;
}
