/* SPDX-License-Identifier: BSD-2-Clause */
/* By what a token is known in memory: a keyed hash, which leads back to nothing. See policy/token.h. */
#ifndef KEYWEIR_TOKEN_ID_H
#define KEYWEIR_TOKEN_ID_H

#include <stdbool.h>
#include <stdint.h>

struct token_id {
	uint64_t a, b;
};

static inline bool token_id_same(struct token_id x, struct token_id y)
{
	return x.a == y.a && x.b == y.b;
}

#endif
