/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One value into one field: its type, its range, its words. What concerns several options is in check.c.
 *
 * A message has the value as it was written, before ${NAME} was replaced, and nothing of an OPTION_SECRET.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/address.h"
#include "config/load.h"
#include "base/mem.h"
#include "config/text.h"
#include "config/value.h"

#define QUOTE_MAX 60 /* bytes of a wrong value in a message */

void complain(struct loader *l, struct slot s, struct place at, const char *fmt, ...)
{
	const char *name = instance_name(l->config, schema_scope(s.o), s.i);
	char buf[SCHEMA_PATH_MAX], *why;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&why, fmt, args) < 0)
		why = xstrdup("is wrong");
	va_end(args);
	problem_add(l->problems, at, "%s%s%s", at.called ? at.called : schema_option_path(s.o, name, buf),
		    *why == ':' ? "" : " ", why);
	free(why);
	setting_of(l, s)->bad = true;
}

static void complain_about(struct loader *l, struct slot s, struct place at, const char *why, const char *value)
{
	assert(!(s.o->flags & OPTION_SECRET));
	complain(l, s, at, "%s%s\"%.*s%s\"", why, strncmp(why, "must", 4) == 0 ? ", not " : ": ", QUOTE_MAX, value,
		 strlen(value) > QUOTE_MAX ? "..." : "");
}

static void say_where(struct loader *l, struct slot s, struct place at)
{
	setting_of(l, s)->at = at;
}

/* ---- numbers ---- */

static bool is_duration(const struct option *o)
{
	return o->type == TYPE_DURATION_MS || o->type == TYPE_DURATION_US;
}

/* The bounds of a number: "from 1ms to 1h". */
static void complain_range(struct loader *l, struct slot s, struct place at)
{
	const char *dots = strstr(s.o->range, "..");
	bool never = s.o->flags & OPTION_NEVER;

	complain(l, s, at, "must be from %.*s to %s%s", (int)(dots - s.o->range), s.o->range, dots + 2,
		 never ? ", or -1 for never" : "");
}

static void set_fraction(struct loader *l, struct slot s, double number, struct place at)
{
	if (!value_fraction_in_range(s.o, number)) {
		complain_range(l, s, at);
		return;
	}
	*(double *)schema_field(l->config, s) = number == 0 ? 0 : number; /* -0 is 0 */
	say_where(l, s, at);
}

/* A number in bytes, in microseconds, or plain. */
static void store_number(struct loader *l, struct slot s, int64_t n, struct place at)
{
	int64_t *field = schema_field(l->config, s);

	if (!value_in_range(s.o, n)) {
		complain_range(l, s, at);
		return;
	}
	if (s.o->type == TYPE_DURATION_MS && n % 1000) {
		complain(l, s, at, "must be a whole number of milliseconds");
		return;
	}
	*field = s.o->type == TYPE_DURATION_MS ? n / 1000 : n;
	say_where(l, s, at);
}

static void store_never(struct loader *l, struct slot s, struct place at)
{
	*(int64_t *)schema_field(l->config, s) = -1;
	say_where(l, s, at);
}

static void set_integer(struct loader *l, struct slot s, int64_t n, struct place at)
{
	if (n == -1 && s.o->flags & OPTION_NEVER)
		store_never(l, s, at);
	else if (is_duration(s.o) && __builtin_mul_overflow(n, 1000000, &n))
		complain_range(l, s, at);
	else
		store_number(l, s, n, at);
}

static void set_seconds(struct loader *l, struct slot s, double seconds, struct place at)
{
	const char *why;
	int64_t us;

	if (seconds == -1 && s.o->flags & OPTION_NEVER) {
		store_never(l, s, at);
		return;
	}
	why = value_seconds(seconds, &us);
	if (why)
		complain(l, s, at, "%s", why);
	else
		store_number(l, s, us, at);
}

static void set_measure(struct loader *l, struct slot s, const char *text, const char *raw, struct place at)
{
	const char *why;
	int64_t n;

	if (s.o->flags & OPTION_NEVER && strcmp(text, "-1") == 0) {
		store_never(l, s, at);
		return;
	}
	why = is_duration(s.o) ? value_duration(text, &n) : value_size(text, &n);
	if (why)
		complain_about(l, s, at, why, raw);
	else
		store_number(l, s, n, at);
}

/* ---- strings ---- */

static void set_word(struct loader *l, struct slot s, const char *text, const char *raw, struct place at)
{
	int index = value_word_index(s.o->range, text);
	char *words, *bar;

	if (index >= 0) {
		*(unsigned *)schema_field(l->config, s) = (unsigned)index;
		say_where(l, s, at);
		return;
	}
	words = xmemdup0(s.o->range, strlen(s.o->range));
	while ((bar = strchr(words, '|')))
		*bar = ' ';
	complain(l, s, at, "must be %s%s, not \"%.*s\"", strchr(words, ' ') ? "one of " : "", words, QUOTE_MAX, raw);
	free(words);
}

static void set_url(struct loader *l, struct slot s, const char *text, struct place at)
{
	struct upstream_config *u = &l->config->upstreams[s.i];
	struct upstream_url target;
	const char *why = upstream_url_parse(text, &target);

	if (why) {
		complain(l, s, at, "%s", why);
		return;
	}
	upstream_url_fini(&u->target);
	u->target = target;
	text_wipe(&u->url);
	u->url = xmemdup0(text, strlen(text));
	say_where(l, s, at);
}

/* A new list begins. */
static void start_list(struct loader *l, struct slot s, struct place at)
{
	struct setting *setting = setting_of(l, s);

	string_list_clear(schema_field(l->config, s));
	free(setting->items);
	setting->items = NULL;
	say_where(l, s, at);
}

static void add_item(struct loader *l, struct slot s, const char *text, struct place at)
{
	struct string_list *list = schema_field(l->config, s);
	struct setting *setting = setting_of(l, s);

	list->items = xreallocarray(list->items, list->n + 1, sizeof(*list->items));
	setting->items = xreallocarray(setting->items, list->n + 1, sizeof(*setting->items));
	setting->items[list->n] = at;
	list->items[list->n++] = xstrdup(text);
}

static const char *why_no_listening(const char *text, struct listen_address *address)
{
	const char *why = listen_address_parse(text, address);

	if (!why && !listen_address_is_loopback(address))
		why = "is refused: without any [user.NAME] Keyweir listens on loopback addresses and Unix sockets only";
	return why;
}

static void complain_address(struct loader *l, struct slot s, const char *raw, const char *why, struct place at)
{
	complain(l, s, at, ": \"%.*s\" %s", QUOTE_MAX * 2, raw, why);
}

static void add_address(struct loader *l, struct slot s, const char *text, const char *raw, struct place at)
{
	const struct string_list *list = schema_field(l->config, s);
	struct listen_address address, other;
	const char *why = why_no_listening(text, &address);

	for (size_t i = 0; i < list->n && !why; i++) {
		if (!listen_address_parse(list->items[i], &other) && listen_address_same(&address, &other))
			why = "stands twice in the list";
	}
	if (why)
		complain_address(l, s, raw, why, at);
	else
		add_item(l, s, text, at);
}

static void add_to_list(struct loader *l, struct slot s, const char *text, const char *raw, struct place at)
{
	if (s.o->type == TYPE_ADDRESSES)
		add_address(l, s, text, raw, at);
	else if (s.o->type == TYPE_NODES && !node_address_fits(text)) /* not quoted: some write a password there */
		complain(l, s, at, "must have \"host:port\", \"[v6]:port\" or \"host\" in its list");
	else if (s.o->type == TYPE_STRINGS && !*text)
		complain(l, s, at, "must not be empty, nor have an empty string in its list");
	else
		add_item(l, s, text, at);
}

static void set_bool(struct loader *l, struct slot s, bool value, struct place at)
{
	*(bool *)schema_field(l->config, s) = value;
	say_where(l, s, at);
}

static void store_string(struct loader *l, struct slot s, const char *text, struct place at)
{
	char **field = schema_field(l->config, s);

	text_wipe(field);
	*field = xstrdup(text);
	say_where(l, s, at);
}

static void set_address(struct loader *l, struct slot s, const char *text, const char *raw, struct place at)
{
	struct listen_address address;
	const char *why = why_no_listening(text, &address);

	if (why)
		complain_address(l, s, raw, why, at);
	else
		store_string(l, s, text, at);
}

static void set_rate(struct loader *l, struct slot s, const char *text, const char *raw, struct place at)
{
	const char *why = value_rate(text, schema_field(l->config, s));

	if (why)
		complain_about(l, s, at, why, raw);
	else
		say_where(l, s, at);
}

/* `text` is what counts, `raw` what was written. */
static void set_plain(struct loader *l, struct slot s, const char *text, const char *raw, struct place at)
{
	switch (s.o->type) {
	case TYPE_ADDRESSES:
	case TYPE_NODES:
	case TYPE_STRINGS:
		start_list(l, s, at);
		add_to_list(l, s, text, raw, at);
		return;
	case TYPE_URL:
		set_url(l, s, text, at);
		return;
	case TYPE_FILE:
	case TYPE_STRING:
		store_string(l, s, text, at);
		return;
	case TYPE_ADDRESS:
		set_address(l, s, text, raw, at);
		return;
	case TYPE_ENUM:
		set_word(l, s, text, raw, at);
		return;
	case TYPE_RATE:
		set_rate(l, s, text, raw, at);
		return;
	case TYPE_BOOL:
		complain_about(l, s, at, "must be true or false", raw);
		return;
	case TYPE_FRACTION:
		complain_about(l, s, at, "must be a number without quotes", raw);
		return;
	case TYPE_INT:
		complain_about(l, s, at, "must be a whole number without quotes", raw);
		return;
	case TYPE_SIZE:
	case TYPE_DURATION_MS:
	case TYPE_DURATION_US:
		set_measure(l, s, text, raw, at);
		return;
	}
}

/* What any string must be. Returns the string with its variables replaced, to be wiped; NULL when it is not fit. */
static char *fit_string(struct loader *l, struct slot s, const char *text, size_t len, struct place at)
{
	char *expanded, *why;

	if (memchr(text, '\0', len)) {
		complain(l, s, at, "must not have a NUL character in it");
		return NULL;
	}
	why = text_expand(text, len, &expanded);
	if (why) {
		complain(l, s, at, "%s", why);
		free(why);
		return NULL;
	}
	if (!text_is_utf8(expanded, strlen(expanded))) {
		complain(l, s, at, "is not UTF-8");
		text_wipe(&expanded);
	}
	return expanded;
}

void set_string(struct loader *l, struct slot s, const char *text, size_t len, struct place at)
{
	char *expanded = fit_string(l, s, text, len, at);

	if (expanded)
		set_plain(l, s, expanded, text, at);
	text_wipe(&expanded);
}

void set_text(struct loader *l, struct slot s, const char *text, struct place at)
{
	if (text_is_utf8(text, strlen(text)))
		set_plain(l, s, text, text, at);
	else
		complain(l, s, at, "is not UTF-8");
}

void set_texts(struct loader *l, struct slot s, const char *const *texts, size_t n, struct place at)
{
	start_list(l, s, at);
	for (size_t i = 0; i < n; i++) {
		if (text_is_utf8(texts[i], strlen(texts[i])))
			add_address(l, s, texts[i], texts[i], at);
		else
			complain(l, s, at, "is not UTF-8");
	}
}

/* ---- what TOML has ---- */

static const char *wanted(const struct option *o)
{
	switch (o->type) {
	case TYPE_ADDRESSES:
	case TYPE_NODES:
		return "a list of strings";
	case TYPE_STRINGS:
		return "a string or a list of strings";
	case TYPE_BOOL:
		return "true or false";
	case TYPE_URL:
	case TYPE_FILE:
	case TYPE_STRING:
	case TYPE_ADDRESS:
	case TYPE_ENUM:
		return "a string";
	case TYPE_RATE:
		return "a rate (\"100/s\", \"10/m\")";
	case TYPE_FRACTION:
		return "a number";
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

const char *node_kind(const struct toml_node *node)
{
	switch (toml_type_of(node)) {
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

static void set_list(struct loader *l, struct slot s, const struct toml_node *array, struct place at)
{
	start_list(l, s, at);
	for (size_t i = 0; i < toml_size(array); i++) {
		const struct toml_node *item = toml_at(array, i);
		struct toml_position p = toml_position_of(item);
		struct place item_at = {at.file, at.line ? p.line : 0, at.line ? p.col : 0, at.called};
		const char *text;
		char *expanded;
		size_t len;

		if (toml_type_of(item) != TOML_STRING) {
			complain(l, s, item_at, "must have strings in its list, not %s", node_kind(item));
			continue;
		}
		text = toml_string(item, &len);
		expanded = fit_string(l, s, text, len, item_at);
		if (expanded)
			add_to_list(l, s, expanded, text, item_at);
		text_wipe(&expanded);
	}
}

void set_node(struct loader *l, struct slot s, const struct toml_node *node, struct place at)
{
	enum option_type wants = s.o->type;
	bool text_fits = (wants >= TYPE_STRINGS && wants < TYPE_BOOL) || wants > TYPE_INT;
	enum toml_type type = toml_type_of(node);
	const char *text;
	size_t len;

	if (type == TOML_STRING && text_fits) {
		text = toml_string(node, &len);
		set_string(l, s, text, len, at);
	} else if (type == TOML_ARRAY && wants <= TYPE_STRINGS) {
		set_list(l, s, node, at);
	} else if (type == TOML_BOOLEAN && wants == TYPE_BOOL) {
		set_bool(l, s, toml_boolean(node), at);
	} else if (type == TOML_INTEGER && wants == TYPE_FRACTION) {
		set_fraction(l, s, (double)toml_integer(node), at);
	} else if (type == TOML_FLOAT && wants == TYPE_FRACTION) {
		set_fraction(l, s, toml_float(node), at);
	} else if (type == TOML_INTEGER && wants >= TYPE_INT) {
		set_integer(l, s, toml_integer(node), at);
	} else if (type == TOML_FLOAT && is_duration(s.o)) {
		set_seconds(l, s, toml_float(node), at);
	} else {
		complain(l, s, at, "must be %s, not %s", wanted(s.o), node_kind(node));
	}
}
