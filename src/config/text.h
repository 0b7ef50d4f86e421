/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Strings for the configuration, private to this folder. Nothing here comes from the wire: when memory
 * ends the program does. Any thread; no state.
 */
#ifndef KEYWEIR_CONFIG_TEXT_H
#define KEYWEIR_CONFIG_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Overwrites *s, frees it and sets it to NULL. */
void text_wipe(char **s);

bool text_is_utf8(const char *s, size_t len);

/* A string that grows; what it leaves behind while growing is wiped, for it may hold a password. */
struct text_builder {
	char *s; /* NULL until the first byte */
	size_t len;
	size_t size;
};

void text_put(struct text_builder *b, const char *s, size_t len);

/*
 * Replaces each ${NAME} by the environment variable; "$${" stands for "${". Returns NULL and the result in *out (the
 * caller's, to be wiped), or what is wrong (the caller's to free).
 */
char *text_expand(const char *s, size_t len, char **out) __attribute__((warn_unused_result));

#endif
