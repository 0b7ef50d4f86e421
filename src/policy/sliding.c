/* SPDX-License-Identifier: BSD-2-Clause */
/* See sliding.h. */
#include "policy/sliding.h"

#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"

#define PLACES	((size_t)1 << 17)
#define TICK_MS 10

/* A word: which key (upper half), and when (in ticks, lower half). */
struct sliding {
	unsigned char seed[crypto_shorthash_KEYBYTES];
	_Atomic uint64_t places[PLACES];
};

struct sliding *sliding_new(void)
{
	struct sliding *s = xcalloc(1, sizeof(*s));

	randombytes_buf(s->seed, sizeof(s->seed));
	return s;
}

void sliding_free(struct sliding **s)
{
	free(*s);
	*s = NULL;
}

bool sliding_claim(struct sliding *s, uint64_t where, const char *key, size_t len, int64_t now_ms, int64_t interval_ms)
{
	unsigned char hash[crypto_shorthash_BYTES];
	uint32_t now = (uint32_t)(now_ms / TICK_MS) | 1; /* 0: never */
	uint64_t h = 0, was, is;
	_Atomic uint64_t *place;

	crypto_shorthash(hash, (const unsigned char *)key, len, s->seed);
	for (unsigned i = 0; i < sizeof(hash); i++)
		h = h << 8 | hash[i];
	h ^= where * 0x9e3779b97f4a7c15u;
	place = &s->places[h % PLACES];
	was = atomic_load_explicit(place, memory_order_relaxed);
	is = (h & 0xffffffff00000000u) | now;
	if (was >> 32 == h >> 32 && (uint32_t)was != 0 && (int64_t)(now - (uint32_t)was) * TICK_MS < interval_ms)
		return false;
	return atomic_compare_exchange_strong(place, &was, is);
}
