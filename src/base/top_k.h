/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which keys come most often, in a fixed amount of memory: the best TOP_K_KEYS are counted exactly from the moment on
 * at which they were taken in. Who is taken in says a sketch of counters that all other keys share: two rows of cells,
 * in each row a key has one cell, and who finds his cell taken wears it down with a chance that falls with its count
 * (HeavyKeeper: Gong et al., USENIX ATC 2018). So what is rare never drives out what is frequent.
 * Owner: one thread.
 */
#ifndef KEYWEIR_TOP_K_H
#define KEYWEIR_TOP_K_H

#include <stddef.h>
#include <stdint.h>

#define TOP_K_KEYS	256
#define TOP_K_KEY_BYTES 128 /* what is kept of a key */

struct top_k;

struct top_k_key {
	uint64_t hash; /* by which it is known */
	uint64_t count;
	uint32_t owner; /* the same bytes of another owner are another key */
	uint32_t len;	/* of the whole key */
	char key[TOP_K_KEY_BYTES];
};

struct top_k *top_k_new(void);
void top_k_free(struct top_k **t);

/* The key came n times. */
void top_k_add(struct top_k *t, uint32_t owner, const char *key, size_t len, uint32_t n);

/* Halves all counts: what came long ago is forgotten in time. */
void top_k_halve(struct top_k *t);
void top_k_clear(struct top_k *t);

uint64_t top_k_total(const struct top_k *t); /* of all keys, also halved */
size_t top_k_size(const struct top_k *t);
const struct top_k_key *top_k_at(const struct top_k *t, size_t i); /* in no order */

#endif
