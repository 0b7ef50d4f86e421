/* SPDX-License-Identifier: BSD-2-Clause */
/* The key ring of [encryption] and the key of hash_keys, from the configuration and from their files. See check.c. */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/load.h"
#include "config/text.h"

#define KEY_BYTES    32
#define KEY_NAME_MAX 16

/* 32 bytes in BASE64, with or without its padding? */
static bool is_key(const char *text)
{
	static const int variants[] = {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING};
	unsigned char key[KEY_BYTES];
	bool ok = false;
	size_t len;

	for (size_t i = 0; i < sizeof(variants) / sizeof(*variants); i++)
		ok |= sodium_base642bin(key, sizeof(key), text, strlen(text), NULL, &len, NULL, variants[i]) == 0 &&
		      len == sizeof(key);
	sodium_memzero(key, sizeof(key));
	return ok;
}

/* The name in front of a key is not secret, but where no name is, a key may stand. */
static void check_key(struct loader *l, struct slot s, const char *text, struct place at)
{
	size_t len = strcspn(text, ":");

	if (!text[len])
		complain(l, s, at, "must have \"NAME:BASE64\" for each key, as keyweir gen-key prints it");
	else if (!schema_name_fits(text, len) || len > KEY_NAME_MAX)
		complain(l, s, at, "must have 1 to %d letters, digits, _ and - as the name of a key", KEY_NAME_MAX);
	else if (!is_key(text + len + 1))
		complain(l, s, at, ": key %.*s must have 32 bytes in BASE64 behind its name", (int)len, text);
}

/* Whether one of the first n keys has the name of this one. */
static bool is_taken(const struct string_list *keys, size_t n, const char *text)
{
	size_t len = strcspn(text, ":") + 1;

	for (size_t i = 0; i < n; i++) {
		if (strncmp(keys->items[i], text, len) == 0)
			return true;
	}
	return false;
}

static void check_name(struct loader *l, struct slot s, size_t n, const char *text, struct place at)
{
	if (is_taken(&l->config->encryption.keys, n, text))
		complain(l, s, at, ": there are two keys called %.*s", (int)strcspn(text, ":"), text);
}

static void check_keys(struct loader *l)
{
	struct slot s = slot_of(OPTION_encryption_keys, 0);
	const struct string_list *keys = &l->config->encryption.keys;

	for (size_t i = 0; i < keys->n; i++)
		check_key(l, s, keys->items[i], setting_of(l, s)->items[i]);
	for (size_t i = 0; i < keys->n && !setting_of(l, s)->bad; i++)
		check_name(l, s, i, keys->items[i], setting_of(l, s)->items[i]);
}

/* ---- files ---- */

static void add_key(struct loader *l, struct slot s, const char *line, struct place at)
{
	struct string_list *keys = &l->config->encryption.keys;
	size_t n = l->problems->n;

	check_key(l, s, line, at);
	if (l->problems->n > n)
		return;
	check_name(l, s, keys->n, line, at);
	keys->items = xreallocarray(keys->items, keys->n + 1, sizeof(*keys->items));
	keys->items[keys->n++] = xstrdup(line);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Blanks at both ends do not count, nor quotes, which gen-key prints; `line` is changed. */
static void take_line(struct loader *l, struct slot s, char *line, size_t len, struct place at)
{
	size_t skip = 0;

	while (len > 0 && is_blank(line[len - 1]))
		len--;
	while (skip < len && is_blank(line[skip]))
		skip++;
	if (skip == len || line[skip] == '#')
		return;
	at.col = (unsigned)skip + 1;
	if (memchr(line, '\0', len)) {
		complain(l, s, at, "must not have a NUL character in it");
		return;
	}
	if (len - skip >= 2 && line[skip] == '"' && line[len - 1] == '"') {
		skip++;
		len--;
	}
	line[len] = '\0';
	add_key(l, s, line + skip, at);
}

static void take_lines(struct loader *l, struct slot s, char *text, size_t len, const char *path)
{
	char *end = text + len, *next;
	unsigned number = 1;

	for (char *line = text; line < end; line = next + 1, number++) {
		next = memchr(line, '\n', (size_t)(end - line));
		if (!next)
			next = end;
		take_line(l, s, line, (size_t)(next - line), (struct place){.file = path, .line = number});
	}
}

static void read_keys_file(struct loader *l)
{
	const char *path = l->config->encryption.keys_file;
	struct slot s = slot_of(OPTION_encryption_keys_file, 0);
	ssize_t n;
	char *text;

	if (!*path || setting_of(l, s)->bad)
		return;
	text = xcalloc(1, FILE_MAX_BYTES + 1);
	n = file_read(path, text);
	if (n < 0)
		complain(l, s, setting_of(l, s)->at, ": %s: %s", path, strerror((int)-n));
	else
		take_lines(l, s, text, (size_t)n, path);
	sodium_memzero(text, FILE_MAX_BYTES + 1);
	free(text);
}

static void check_hash_key(struct loader *l)
{
	struct encryption_config *conf = &l->config->encryption;
	struct slot key = slot_of(OPTION_encryption_hash_key, 0), file = slot_of(OPTION_encryption_hash_key_file, 0);
	struct slot s = *conf->hash_key_file ? file : key;

	check_secret_file(l, file, conf->hash_key_file, &conf->hash_key);
	if (*conf->hash_key && settings_fine(l, key, file) && !is_key(conf->hash_key))
		complain(l, s, setting_of(l, s)->at, "must have 32 bytes in BASE64");
}

void check_encryption(struct loader *l)
{
	check_keys(l);
	read_keys_file(l);
	check_hash_key(l);
	check_private(l, slot_of(OPTION_encryption_keys_file, 0), l->config->encryption.keys_file);
	check_private(l, slot_of(OPTION_encryption_hash_key_file, 0), l->config->encryption.hash_key_file);
}
