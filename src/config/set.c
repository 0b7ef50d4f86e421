/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One value into one field: its type, its range, its words. What concerns several options is in check.c.
 *
 * A message has the value as it was written, before ${NAME} was replaced, and nothing of an OPTION_SECRET.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/address.h"
#include "config/load.h"
#include "base/mem.h"
#include "config/text.h"
#include "config/value.h"

#define QUOTE_MAX 60 /* bytes of a wrong value in a message */

/* How a mistake about an option begins and where it is. */
static void complain(struct loader *l, const struct option *o, struct place at, const char *why)
{
	problem_add(l->problems, at, "%s %s", o->path, why);
	l->settings[o->id].bad = true;
}

static void complain_about(struct loader *l, const struct option *o, struct place at, const char *why,
			   const char *value)
{
	assert(!(o->flags & OPTION_SECRET));
	problem_add(l->problems, at, "%s %s%s\"%.*s%s\"", o->path, why, strncmp(why, "must", 4) == 0 ? ", not " : ": ",
		    QUOTE_MAX, value, strlen(value) > QUOTE_MAX ? "..." : "");
	l->settings[o->id].bad = true;
}

static void say_where(struct loader *l, const struct option *o, struct place at)
{
	l->settings[o->id].at = at;
}

/* ---- numbers ---- */

static bool is_duration(const struct option *o)
{
	return o->type == TYPE_DURATION_MS || o->type == TYPE_DURATION_US;
}

/* The bounds of a number: "from 1ms to 1h". */
static void complain_range(struct loader *l, const struct option *o, struct place at)
{
	const char *dots = strstr(o->range, "..");
	bool never = o->flags & OPTION_NEVER;

	problem_add(l->problems, at, "%s must be from %.*s to %s%s", o->path, (int)(dots - o->range), o->range,
		    dots + 2, never ? ", or -1 for never" : "");
	l->settings[o->id].bad = true;
}

/* A number in bytes, in microseconds, or plain. */
static void store_number(struct loader *l, const struct option *o, int64_t n, struct place at)
{
	int64_t *field = schema_field(l->config, o);

	if (!value_in_range(o, n)) {
		complain_range(l, o, at);
		return;
	}
	if (o->type == TYPE_DURATION_MS && n % 1000) {
		complain(l, o, at, "must be a whole number of milliseconds");
		return;
	}
	*field = o->type == TYPE_DURATION_MS ? n / 1000 : n;
	say_where(l, o, at);
}

static void store_never(struct loader *l, const struct option *o, struct place at)
{
	*(int64_t *)schema_field(l->config, o) = -1;
	say_where(l, o, at);
}

static void set_integer(struct loader *l, const struct option *o, int64_t n, struct place at)
{
	if (n == -1 && o->flags & OPTION_NEVER)
		store_never(l, o, at);
	else if (is_duration(o) && __builtin_mul_overflow(n, 1000000, &n))
		complain_range(l, o, at);
	else
		store_number(l, o, n, at);
}

static void set_seconds(struct loader *l, const struct option *o, double seconds, struct place at)
{
	const char *why;
	int64_t us;

	if (seconds == -1 && o->flags & OPTION_NEVER) {
		store_never(l, o, at);
		return;
	}
	why = value_seconds(seconds, &us);
	if (why)
		complain(l, o, at, why);
	else
		store_number(l, o, us, at);
}

static void set_measure(struct loader *l, const struct option *o, const char *text, const char *raw, struct place at)
{
	const char *why;
	int64_t n;

	if (o->flags & OPTION_NEVER && strcmp(text, "-1") == 0) {
		store_never(l, o, at);
		return;
	}
	why = is_duration(o) ? value_duration(text, &n) : value_size(text, &n);
	if (why)
		complain_about(l, o, at, why, raw);
	else
		store_number(l, o, n, at);
}

/* ---- strings ---- */

static void set_word(struct loader *l, const struct option *o, const char *text, const char *raw, struct place at)
{
	int index = value_word_index(o->range, text);
	char *words, *bar;

	if (index >= 0) {
		*(unsigned *)schema_field(l->config, o) = (unsigned)index;
		say_where(l, o, at);
		return;
	}
	words = xmemdup0(o->range, strlen(o->range));
	while ((bar = strchr(words, '|')))
		*bar = ' ';
	problem_add(l->problems, at, "%s must be %s%s, not \"%.*s\"", o->path, strchr(words, ' ') ? "one of " : "",
		    words, QUOTE_MAX, raw);
	l->settings[o->id].bad = true;
	free(words);
}

static void set_url(struct loader *l, const struct option *o, const char *text, struct place at)
{
	struct upstream_config *u = &l->config->upstreams[0];
	struct upstream_url target;
	const char *why = upstream_url_parse(text, &target);

	if (why) {
		complain(l, o, at, why);
		return;
	}
	upstream_url_fini(&u->target);
	u->target = target;
	text_wipe(&u->url);
	u->url = xmemdup0(text, strlen(text));
	say_where(l, o, at);
}

static void clear_list(struct loader *l, const struct option *o)
{
	struct string_list *list = schema_field(l->config, o);

	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct string_list){0};
	free(l->settings[o->id].items);
	l->settings[o->id].items = NULL;
}

static void add_address(struct loader *l, const struct option *o, const char *text, const char *raw, struct place at)
{
	struct string_list *list = schema_field(l->config, o);
	struct setting *setting = &l->settings[o->id];
	struct listen_address address, other;
	const char *why = listen_address_parse(text, &address);

	for (size_t i = 0; i < list->n && !why; i++) {
		if (!listen_address_parse(list->items[i], &other) && listen_address_same(&address, &other))
			why = "stands twice in the list";
	}
	if (!why && !listen_address_is_loopback(&address))
		why = "is refused: without any [user.NAME] Keyweir listens on loopback addresses and Unix sockets only";
	if (why) {
		problem_add(l->problems, at, "%s: \"%.*s\" %s", o->path, QUOTE_MAX * 2, raw, why);
		setting->bad = true;
		return;
	}
	list->items = xreallocarray(list->items, list->n + 1, sizeof(*list->items));
	setting->items = xreallocarray(setting->items, list->n + 1, sizeof(*setting->items));
	setting->items[list->n] = at;
	list->items[list->n++] = xmemdup0(text, strlen(text));
}

/* `text` is what counts, `raw` what was written. */
static void set_plain(struct loader *l, const struct option *o, const char *text, const char *raw, struct place at)
{
	char **field;

	switch (o->type) {
	case TYPE_ADDRESSES:
		clear_list(l, o);
		say_where(l, o, at);
		add_address(l, o, text, raw, at);
		return;
	case TYPE_URL:
		set_url(l, o, text, at);
		return;
	case TYPE_STRING:
		field = schema_field(l->config, o);
		free(*field);
		*field = xmemdup0(text, strlen(text));
		say_where(l, o, at);
		return;
	case TYPE_ENUM:
		set_word(l, o, text, raw, at);
		return;
	case TYPE_INT:
		complain_about(l, o, at, "must be a whole number without quotes", raw);
		return;
	case TYPE_SIZE:
	case TYPE_DURATION_MS:
	case TYPE_DURATION_US:
		set_measure(l, o, text, raw, at);
		return;
	}
}

/* What any string must be. Returns the string with its variables replaced, to be wiped; NULL when it is not fit. */
static char *fit_string(struct loader *l, const struct option *o, const char *text, size_t len, struct place at)
{
	char *expanded, *why;

	if (memchr(text, '\0', len)) {
		complain(l, o, at, "must not have a NUL character in it");
		return NULL;
	}
	why = text_expand(text, len, &expanded);
	if (why) {
		complain(l, o, at, why);
		free(why);
		return NULL;
	}
	if (!text_is_utf8(expanded, strlen(expanded))) {
		complain(l, o, at, "is not UTF-8");
		text_wipe(&expanded);
	}
	return expanded;
}

void set_string(struct loader *l, const struct option *o, const char *text, size_t len, struct place at)
{
	char *expanded = fit_string(l, o, text, len, at);

	if (expanded)
		set_plain(l, o, expanded, text, at);
	text_wipe(&expanded);
}

void set_text(struct loader *l, const struct option *o, const char *text, struct place at)
{
	if (text_is_utf8(text, strlen(text)))
		set_plain(l, o, text, text, at);
	else
		complain(l, o, at, "is not UTF-8");
}

void set_texts(struct loader *l, const struct option *o, const char *const *texts, size_t n, struct place at)
{
	clear_list(l, o);
	say_where(l, o, at);
	for (size_t i = 0; i < n; i++) {
		if (text_is_utf8(texts[i], strlen(texts[i])))
			add_address(l, o, texts[i], texts[i], at);
		else
			complain(l, o, at, "is not UTF-8");
	}
}

/* ---- what TOML has ---- */

static const char *wanted(const struct option *o)
{
	switch (o->type) {
	case TYPE_ADDRESSES:
		return "a list of strings";
	case TYPE_URL:
	case TYPE_STRING:
	case TYPE_ENUM:
		return "a string";
	case TYPE_INT:
		return "a whole number";
	case TYPE_SIZE:
		return "a size (\"64kb\", \"512mb\", or a whole number of bytes)";
	case TYPE_DURATION_MS:
	case TYPE_DURATION_US:
		return "a duration (\"250ms\", \"5s\", or a number of seconds)";
	}
	return "";
}

static const char *found(enum toml_type type)
{
	switch (type) {
	case TOML_TABLE:
		return "a table";
	case TOML_ARRAY:
		return "a list";
	case TOML_STRING:
		return "a string";
	case TOML_INTEGER:
	case TOML_FLOAT:
		return "a number";
	case TOML_BOOLEAN:
		return "true or false";
	case TOML_DATE:
		return "a date or time";
	}
	return "";
}

static void set_list(struct loader *l, const struct option *o, const struct toml_node *array, struct place at)
{
	clear_list(l, o);
	say_where(l, o, at);
	for (size_t i = 0; i < toml_size(array); i++) {
		const struct toml_node *item = toml_at(array, i);
		struct toml_position p = toml_position_of(item);
		struct place item_at = {at.file, at.line ? p.line : 0, at.line ? p.col : 0};
		const char *text;
		char *expanded;
		size_t len;

		if (toml_type_of(item) != TOML_STRING) {
			problem_add(l->problems, item_at, "%s must have strings in its list, not %s", o->path,
				    found(toml_type_of(item)));
			l->settings[o->id].bad = true;
			continue;
		}
		text = toml_string(item, &len);
		expanded = fit_string(l, o, text, len, item_at);
		if (expanded)
			add_address(l, o, expanded, text, item_at);
		text_wipe(&expanded);
	}
}

void set_node(struct loader *l, const struct option *o, const struct toml_node *node, struct place at)
{
	enum toml_type type = toml_type_of(node);
	bool number = o->type >= TYPE_INT;
	const char *text;
	size_t len;

	if (type == TOML_STRING && o->type != TYPE_ADDRESSES && o->type != TYPE_INT) {
		text = toml_string(node, &len);
		set_string(l, o, text, len, at);
	} else if (type == TOML_ARRAY && o->type == TYPE_ADDRESSES) {
		set_list(l, o, node, at);
	} else if (type == TOML_INTEGER && number) {
		set_integer(l, o, toml_integer(node), at);
	} else if (type == TOML_FLOAT && is_duration(o)) {
		set_seconds(l, o, toml_float(node), at);
	} else {
		problem_add(l->problems, at, "%s must be %s, not %s", o->path, wanted(o), found(type));
		l->settings[o->id].bad = true;
	}
}
