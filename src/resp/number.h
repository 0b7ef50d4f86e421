/* SPDX-License-Identifier: BSD-2-Clause */
/* Integers as the protocol writes them: no leading zeros, no plus, no blanks. The rule of Redis's string2ll. */
#ifndef KEYWEIR_NUMBER_H
#define KEYWEIR_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool parse_int64(const char *p, size_t len, int64_t *out)
{
	bool negative = len > 0 && *p == '-';
	uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
	uint64_t v = 0;

	p += negative;
	len -= negative;
	if (len == 0 || len > 19 || (*p == '0' && (len > 1 || negative)))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned digit = (unsigned char)p[i] - (unsigned)'0';

		if (digit > 9)
			return false;
		v = v * 10 + digit;
	}
	if (v > limit)
		return false;
	*out = negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

#endif
