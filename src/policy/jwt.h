/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a JSON Web Token says of itself: when it ends (exp) and what it is called (jti). RFC 7519.
 *
 * Signatures are not looked at: this is for taking tokens away, never for letting anybody in. What is read here can
 * make a token refused, and no claim of a forged one can make a revocation shorter (client/token_cmd.c).
 *
 * Any thread; no state.
 */
#ifndef KEYWEIR_JWT_H
#define KEYWEIR_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JWT_BYTES_MAX 16384 /* a longer token is none */
#define JWT_JTI_MAX   512

struct jwt {
	bool has_exp;
	int64_t exp_s;	/* of the day */
	size_t jti_len; /* 0: it has none */
	char jti[JWT_JTI_MAX];
};

/* False: it is no JWT, but something opaque. */
bool jwt_read(const char *token, size_t len, struct jwt *out);

#endif
