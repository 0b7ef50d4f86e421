/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SipHash-1-3: a keyed hash for tables whose keys strangers choose. One round a word and three at the end, which is
 * what tables of other well-known runtimes take, too; inline, since it is on the way of every hit of the near-cache.
 * https://www.aumasson.jp/siphash/siphash.pdf
 */
#ifndef KEYWEIR_SIPHASH_H
#define KEYWEIR_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct siphash_key {
	uint64_t k0, k1; /* random */
};

#define SIPHASH_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define SIPHASH_ROUND(a, b, c, d)                                                                                      \
	do {                                                                                                           \
		(a) += (b);                                                                                            \
		(c) += (d);                                                                                            \
		(b) = SIPHASH_ROTATE(b, 13) ^ (a);                                                                     \
		(d) = SIPHASH_ROTATE(d, 16) ^ (c);                                                                     \
		(a) = SIPHASH_ROTATE(a, 32) + (d);                                                                     \
		(c) += (b);                                                                                            \
		(b) = SIPHASH_ROTATE(b, 17) ^ (c);                                                                     \
		(d) = SIPHASH_ROTATE(d, 21) ^ (a);                                                                     \
		(c) = SIPHASH_ROTATE(c, 32);                                                                           \
	} while (0)

static inline uint64_t siphash_word(const char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word)); /* in the machine's own order: nobody else sees these hashes */
	return word;
}

static inline uint64_t siphash13(const struct siphash_key *key, const char *p, size_t len)
{
	uint64_t a = key->k0 ^ 0x736f6d6570736575u, b = key->k1 ^ 0x646f72616e646f6du;
	uint64_t c = key->k0 ^ 0x6c7967656e657261u, d = key->k1 ^ 0x7465646279746573u;
	uint64_t last = (uint64_t)len << 56;
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		uint64_t word = siphash_word(p + i);

		d ^= word;
		SIPHASH_ROUND(a, b, c, d);
		a ^= word;
	}
	for (unsigned shift = 0; i < len; i++, shift += 8)
		last |= (uint64_t)(unsigned char)p[i] << shift;
	d ^= last;
	SIPHASH_ROUND(a, b, c, d);
	a ^= last;
	c ^= 0xff;
	for (int round = 0; round < 3; round++)
		SIPHASH_ROUND(a, b, c, d);
	return a ^ b ^ c ^ d;
}

#endif
