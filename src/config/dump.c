/* SPDX-License-Identifier: BSD-2-Clause */
/* The configuration and the table of options in print: as TOML for --dump, as mdoc for the man page. */
#include <inttypes.h>
#include <string.h>

#include "config/load.h"
#include "config/text.h"
#include "config/value.h"

#define LINE_MAX_BYTES 78 /* of mdoc source */

/* ---- TOML ---- */

/* A basic string. "${" is doubled, or it would be a variable when read back. */
static void print_string(const char *s, FILE *out)
{
	fputc('"', out);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04X", c);
		else if (c == '$' && s[1] == '{')
			fputs("$$", out);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

/* Of a secret nothing; of "NAME:SECRET" the name. */
static void print_masked(const char *text, unsigned flags, FILE *out)
{
	if (flags & OPTION_NAMED)
		fprintf(out, "\"%.*s:***\"", (int)strcspn(text, ":"), text);
	else
		fputs("\"***\"", out);
}

static void print_list(const struct string_list *list, unsigned flags, FILE *out)
{
	fputc('[', out);
	for (size_t i = 0; i < list->n; i++) {
		if (i > 0)
			fputs(", ", out);
		if (flags & OPTION_SECRET)
			print_masked(list->items[i], flags, out);
		else
			print_string(list->items[i], out);
	}
	fputc(']', out);
}

static void print_duration(int64_t us, FILE *out)
{
	char text[VALUE_TEXT_MAX];

	value_format_duration(us, text);
	if (us < 0)
		fputs("-1", out);
	else
		fprintf(out, us ? "\"%s\"" : "%s", text);
}

static void print_size(int64_t bytes, FILE *out)
{
	char text[VALUE_TEXT_MAX];

	value_format_size(bytes, text);
	fprintf(out, strchr(text, 'b') ? "\"%s\"" : "%s", text);
}

static void print_value(const struct config *config, struct slot s, FILE *out)
{
	const void *field = schema_field_const(config, s);
	const struct option *o = s.o;
	char number[VALUE_TEXT_MAX];
	const char *word, *text;
	size_t len;

	switch (o->type) {
	case TYPE_ADDRESSES:
	case TYPE_NODES:
	case TYPE_STRINGS:
		print_list(field, o->flags, out);
		break;
	case TYPE_URL:
		print_string(config->upstreams[s.i].url_masked, out);
		break;
	case TYPE_FILE:
	case TYPE_STRING:
	case TYPE_ADDRESS:
		text = *(char *const *)field;
		print_string(*text && o->flags & OPTION_SECRET ? "***" : text, out);
		break;
	case TYPE_ENUM:
		word = value_word(o->range, *(const unsigned *)field, &len);
		fprintf(out, "\"%.*s\"", (int)len, word);
		break;
	case TYPE_RATE:
		value_format_rate(field, number);
		print_string(number, out);
		break;
	case TYPE_BOOL:
		fputs(*(const bool *)field ? "true" : "false", out);
		break;
	case TYPE_FRACTION:
		value_format_fraction(*(const double *)field, number);
		fputs(number, out);
		break;
	case TYPE_INT:
		fprintf(out, "%" PRId64, *(const int64_t *)field);
		break;
	case TYPE_SIZE:
		print_size(*(const int64_t *)field, out);
		break;
	case TYPE_DURATION_MS:
		print_duration(*(const int64_t *)field * 1000, out);
		break;
	case TYPE_DURATION_US:
		print_duration(*(const int64_t *)field, out);
		break;
	}
}

static void dump_table(const struct config *config, enum option_table table, size_t i, FILE *out)
{
	char path[SCHEMA_PATH_MAX];

	fprintf(out, "%s%s\n", table ? "\n" : "",
		schema_table_header(table, instance_name(config, schema_table(table)->scope, i), path));
	for (unsigned id = 0; id < N_OPTIONS; id++) {
		struct slot s = slot_of(id, i);

		if (s.o->table != table)
			continue;
		fprintf(out, "%s = ", s.o->key);
		print_value(config, s, out);
		fputc('\n', out);
	}
}

/* The tables of an instance stand together: those of one scope do in options.def. */
void config_dump(const struct config *config, FILE *out)
{
	unsigned end;

	for (unsigned first = 0; first < N_TABLES; first = end) {
		enum option_scope scope = schema_table(first)->scope;

		for (end = first; end < N_TABLES && schema_table(end)->scope == scope; end++)
			;
		for (size_t i = 0; i < instance_count(config, scope); i++) {
			if (scope == SCOPE_NAMESPACE && config->namespaces[i].has_tokens)
				continue; /* it stands as [token_blacklist] */
			for (unsigned table = first; table < end; table++)
				dump_table(config, table, i, out);
		}
	}
}

/* ---- mdoc ---- */

static const char *type_name(const struct option *o)
{
	switch (o->type) {
	case TYPE_ADDRESSES:
	case TYPE_NODES:
	case TYPE_STRINGS:
		return "list";
	case TYPE_BOOL:
		return "bool";
	case TYPE_URL:
	case TYPE_FILE:
	case TYPE_STRING:
	case TYPE_ADDRESS:
		return "string";
	case TYPE_ENUM:
		return "word";
	case TYPE_RATE:
		return "rate";
	case TYPE_FRACTION:
	case TYPE_INT:
		return "number";
	case TYPE_SIZE:
		return "size";
	case TYPE_DURATION_MS:
	case TYPE_DURATION_US:
		return "duration";
	}
	return "";
}

/* A text line must not begin like a request, and a backslash begins an escape. */
static void print_word(const char *word, size_t len, bool first, FILE *out)
{
	if (first && (*word == '.' || *word == '\''))
		fputs("\\&", out);
	for (size_t i = 0; i < len; i++) {
		if (word[i] == '\\')
			fputs("\\e", out);
		else if (word[i] == '-' && i == 0)
			fputs("\\-", out);
		else
			fputc(word[i], out);
	}
}

/* Sentences, each on lines of its own, as mdoc wants them. */
static void print_text(const char *s, FILE *out)
{
	size_t column = 0;

	while (*s) {
		size_t len = strcspn(s, " ");

		if (column > 0 && column + 1 + len > LINE_MAX_BYTES) {
			fputc('\n', out);
			column = 0;
		}
		if (column > 0)
			fputc(' ', out);
		print_word(s, len, column == 0, out);
		column += len + 1;
		if (s[len - 1] == '.') {
			fputc('\n', out);
			column = 0;
		}
		s += len + strspn(s + len, " ");
	}
	if (column > 0)
		fputc('\n', out);
}

static void print_range(const struct option *o, FILE *out)
{
	const char *dots = strstr(o->range, ".."), *bar;

	if (dots) {
		fprintf(out, "From %.*s to %s.\n", (int)(dots - o->range), o->range, dots + 2);
	} else if (o->type == TYPE_ENUM) {
		fputs(strchr(o->range, '|') ? "One of\n" : "Only\n", out);
		for (const char *word = o->range;; word = bar + 1) {
			bar = strchr(word, '|');
			fprintf(out, ".Ql %.*s%s\n", (int)strcspn(word, "|"), word, bar ? " ," : " .");
			if (!bar)
				break;
		}
	}
}

static void print_default(const struct option *o, FILE *out)
{
	fputs(o->flags & OPTION_NEEDED ? "Must be given, such as\n.Ql " : "Default:\n.Ql ", out);
	/* Quotes would group the macro's arguments. */
	for (const char *c = o->value; *c; c++)
		fputs(*c == '"' ? "\\(dq" : (char[]){*c, '\0'}, out);
	fputs(" .\n", out);
	if (o->flags & OPTION_RESTART)
		fputs("A change takes a restart.\n", out);
}

void config_print_options(FILE *out)
{
	char path[SCHEMA_PATH_MAX];

	for (unsigned id = 0; id < N_OPTIONS; id++) {
		const struct option *o = schema_option(id);

		if (id == 0 || o->table != schema_option(id - 1)->table) {
			fprintf(out, "%s.Ss %s\n", id ? ".El\n" : "", schema_table_header(o->table, "NAME", path));
			print_text(schema_table(o->table)->doc, out);
			fputs(".Bl -tag -width Ds\n", out);
		}
		fprintf(out, ".It Ic %s No = Ar %s\n", o->key, type_name(o));
		print_text(o->doc, out);
		print_range(o, out);
		print_default(o, out);
	}
	fputs(".El\n", out);
}
