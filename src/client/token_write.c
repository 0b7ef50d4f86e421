/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes to the token blacklist: their tokens are in doubt until Redis was asked. See token.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cache/blacklist.h"
#include "client/token.h"
#include "policy/rewrite.h"
#include "policy/token.h"
#include "server.h"

struct token_mark {
	struct token_id id;
	size_t len;
	char *key; /* upstream */
};

void token_mark(struct client *c, struct token_marks *marks, const struct rewrite_key *key)
{
	struct blacklist *b = c->w->blacklist;
	struct token_id id;

	if (!b || !tokens_id_of_key(c->w->tokens, key->name, key->len, &id))
		return;
	if (!marks->list)
		marks->list = blacklist_ref(b);
	if (marks->n == marks->room) {
		marks->room = marks->room * 2 + 1;
		marks->items = xreallocarray(marks->items, marks->room, sizeof(*marks->items));
	}
	blacklist_write_begins(marks->list, id);
	marks->items[marks->n++] = (struct token_mark){id, key->len, xmemdup0(key->name, key->len)};
}

/* Nothing is left in it. */
static void empty(struct token_marks *marks)
{
	free(marks->items);
	blacklist_unref(&marks->list);
	*marks = (struct token_marks){0};
}

void token_marks_drop(struct token_marks *marks)
{
	for (uint32_t i = 0; i < marks->n; i++) {
		blacklist_write_dropped(marks->list, marks->items[i].id);
		free(marks->items[i].key);
	}
	empty(marks);
}

void token_marks_settle(struct server *s, struct token_marks *marks)
{
	for (uint32_t i = 0; i < marks->n; i++) {
		struct token_mark *m = &marks->items[i];

		if (blacklist_write_ends(marks->list, m->id))
			server_ask_token(s, m->key, m->len);
		else
			free(m->key);
	}
	empty(marks);
}

void token_marks_move(struct token_marks *to, struct token_marks *from)
{
	if (from->n == 0)
		return;
	if (to->list != from->list) { /* or a reload came between: the old list is no more */
		token_marks_drop(to);
		*to = *from;
		*from = (struct token_marks){0};
		return;
	}
	to->items = xreallocarray(to->items, to->n + from->n, sizeof(*to->items));
	memcpy(to->items + to->n, from->items, from->n * sizeof(*from->items));
	to->n += from->n;
	to->room = to->n;
	from->n = 0;
	empty(from);
}
