/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hash table from byte strings to pointers; keys are hashed with SipHash under a random key, since clients choose
 * them. Owner: one thread. Entries are copied keys; values are the caller's.
 */
#ifndef KEYWEIR_MAP_H
#define KEYWEIR_MAP_H

#include <stdbool.h>
#include <stddef.h>

struct map_entry {
	struct map_entry *next;
	void *value;
	size_t key_len;
	char key[];
};

struct map {
	struct map_entry **buckets;
	size_t n_buckets; /* a power of two, or 0 before the first entry */
	size_t n;
	unsigned char seed[16];
};

void map_init(struct map *m);
void map_fini(struct map *m); /* frees the entries, not the values */

void *map_get(const struct map *m, const void *key, size_t len);       /* NULL: not there */
void map_set(struct map *m, const void *key, size_t len, void *value); /* value must not be NULL */
void *map_del(struct map *m, const void *key, size_t len);	       /* returns the old value or NULL */

/* Walks all entries; the callback must not change the map. */
void map_each(const struct map *m, void (*fn)(void *ctx, const struct map_entry *e), void *ctx);

#endif
