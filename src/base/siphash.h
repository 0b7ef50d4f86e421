/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SipHash-1-3 ("SipHash: a fast short-input PRF", Aumasson and Bernstein): a hash under a secret key, for tables whose
 * keys strangers choose. One round for each word and three at the end are what hash tables of Rust, Python and Ruby
 * rely on; libsodium's SipHash-2-4 costs twice as much, which is felt where it is done for each request.
 */
#ifndef KEYWEIR_SIPHASH_H
#define KEYWEIR_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct siphash_key {
	uint64_t k[2];
};

static inline uint64_t siphash_rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

#define SIPHASH_ROUND(v)                                                                                               \
	do {                                                                                                           \
		(v)[0] += (v)[1];                                                                                      \
		(v)[2] += (v)[3];                                                                                      \
		(v)[1] = siphash_rotate((v)[1], 13) ^ (v)[0];                                                          \
		(v)[3] = siphash_rotate((v)[3], 16) ^ (v)[2];                                                          \
		(v)[0] = siphash_rotate((v)[0], 32);                                                                   \
		(v)[2] += (v)[1];                                                                                      \
		(v)[0] += (v)[3];                                                                                      \
		(v)[1] = siphash_rotate((v)[1], 17) ^ (v)[2];                                                          \
		(v)[3] = siphash_rotate((v)[3], 21) ^ (v)[0];                                                          \
		(v)[2] = siphash_rotate((v)[2], 32);                                                                   \
	} while (0)

/* The bytes as numbers are little endian by definition; the last word has the length in its highest byte. */
static inline uint64_t siphash_word(const unsigned char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

/* end: where the bytes end; fewer than eight of them are left, but in front of them there may be others. */
static inline uint64_t siphash_last(const unsigned char *end, size_t len)
{
	uint64_t word = (uint64_t)len << 56;
	unsigned left = len & 7;

	if (left == 0)
		return word;
	if (len >= 8)
		return word | siphash_word(end - 8) >> (64 - 8 * left);
	for (unsigned i = 0; i < left; i++)
		word |= (uint64_t)end[(int)i - (int)left] << 8 * i;
	return word;
}

static inline uint64_t siphash13(const struct siphash_key *key, const void *bytes, size_t len)
{
	const unsigned char *p = bytes, *end = p + (len & ~(size_t)7);
	uint64_t v[4] = {key->k[0] ^ 0x736f6d6570736575ULL, key->k[1] ^ 0x646f72616e646f6dULL,
			 key->k[0] ^ 0x6c7967656e657261ULL, key->k[1] ^ 0x7465646279746573ULL};
	uint64_t word;

	for (; p < end; p += 8) {
		word = siphash_word(p);
		v[3] ^= word;
		SIPHASH_ROUND(v);
		v[0] ^= word;
	}
	word = siphash_last((const unsigned char *)bytes + len, len);
	v[3] ^= word;
	SIPHASH_ROUND(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	SIPHASH_ROUND(v);
	SIPHASH_ROUND(v);
	SIPHASH_ROUND(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
