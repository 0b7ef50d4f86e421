/* SPDX-License-Identifier: BSD-2-Clause */
/* Redis's glob patterns: ? * [a-z] [^a] and \ (https://redis.io/commands/psubscribe/, /keys/). */
#ifndef KEYWEIR_GLOB_H
#define KEYWEIR_GLOB_H

#include <stdbool.h>
#include <stddef.h>

bool glob_match(const char *pattern, size_t pattern_len, const char *text, size_t text_len);

#endif
