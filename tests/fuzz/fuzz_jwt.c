/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzz target: what somebody says is a JWT. Input: a byte whose lowest bit says whether the rest is the whole token, or
 * its claims, which are then encoded as they should be.
 * Checked: what is read is within its bounds, and the same again; nothing is read of what is none.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD "eyJhbGciOiJIUzI1NiJ9."
#define TAIL ".c2lnbmF0dXJl"

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* In memory of its own, so that a sanitizer sees a byte read past its end. */
static char *token_of(const uint8_t *data, size_t size, bool whole, size_t *len)
{
	size_t room =
		sizeof(HEAD) + sizeof(TAIL) + sodium_base64_ENCODED_LEN(size, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	char *token = malloc(whole ? size + !size : room);

	if (whole) {
		if (size)
			memcpy(token, data, size);
		*len = size;
		return token;
	}
	strcpy(token, HEAD);
	sodium_bin2base64(token + sizeof(HEAD) - 1, room - sizeof(HEAD), data, size,
			  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	strcat(token, TAIL);
	*len = strlen(token);
	return token;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jwt first, again;
	size_t len;
	char *token;
	bool is;

	if (size == 0)
		return 0;
	token = token_of(data + 1, size - 1, *data & 1, &len);
	is = jwt_read(token, len, &first);
	MUST(first.jti_len <= sizeof(first.jti));
	MUST(first.exp_s >= 0 && (first.has_exp || first.exp_s == 0));
	MUST(is || (!first.has_exp && first.jti_len == 0));
	MUST(jwt_read(token, len, &again) == is);
	MUST(first.has_exp == again.has_exp && first.exp_s == again.exp_s && first.jti_len == again.jti_len);
	MUST(memcmp(first.jti, again.jti, first.jti_len) == 0);
	free(token);
	return 0;
}
