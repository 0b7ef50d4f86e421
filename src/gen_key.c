/* SPDX-License-Identifier: BSD-2-Clause */
/* A random key, printed as a line for [encryption] keys: see gen_key.h. */
#include "gen_key.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KEY_BYTES    32
#define KEY_NAME_MAX 16 /* as in config/check_encryption.c */

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* The first key of this year. */
static void default_name(char name[KEY_NAME_MAX + 1])
{
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(name, KEY_NAME_MAX + 1, "%Ya", &tm);
}

static int print_key(const char *name)
{
	unsigned char key[KEY_BYTES];
	char text[sodium_base64_ENCODED_LEN(KEY_BYTES, sodium_base64_VARIANT_ORIGINAL)];
	int printed;

	randombytes_buf(key, sizeof(key));
	sodium_bin2base64(text, sizeof(text), key, sizeof(key), sodium_base64_VARIANT_ORIGINAL);
	setvbuf(stdout, NULL, _IONBF, 0); /* no copy of it stays in memory */
	printed = printf("\"%s:%s\"\n", name, text);
	sodium_memzero(key, sizeof(key));
	sodium_memzero(text, sizeof(text));
	return printed < 0 || fflush(stdout) != 0 ? EXIT_FAILED : EXIT_FINE;
}

int gen_key(int argc, char **argv)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	char this_year[KEY_NAME_MAX + 1];
	const char *name = this_year;

	default_name(this_year);
	if (argc > 1)
		name = argv[1];
	if (argc > 2) {
		fprintf(stderr, "Usage: keyweir gen-key [NAME]\n");
		return EXIT_USAGE;
	}
	if (!*name || strlen(name) > KEY_NAME_MAX || strspn(name, allowed) != strlen(name)) {
		fprintf(stderr, "keyweir: the name of a key has 1 to %d letters, digits, _ and -\n", KEY_NAME_MAX);
		return EXIT_USAGE;
	}
	return print_key(name);
}
