/* SPDX-License-Identifier: BSD-2-Clause */
/* Hash table with chaining: see map.h. Grows by doubling when as many entries as buckets are in it. */
#include "base/map.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void map_init(struct map *m)
{
	*m = (struct map){0};
	randombytes_buf(m->seed, sizeof(m->seed));
}

void map_fini(struct map *m)
{
	for (size_t i = 0; i < m->n_buckets; i++) {
		struct map_entry *e = m->buckets[i];

		while (e) {
			struct map_entry *next = e->next;

			free(e);
			e = next;
		}
	}
	free(m->buckets);
	m->buckets = NULL;
	m->n_buckets = m->n = 0;
}

static size_t bucket_of(const struct map *m, const void *key, size_t len)
{
	unsigned char hash[crypto_shorthash_BYTES];
	size_t h;

	crypto_shorthash(hash, key, len, m->seed);
	memcpy(&h, hash, sizeof(h));
	return h & (m->n_buckets - 1);
}

static struct map_entry **find(const struct map *m, const void *key, size_t len)
{
	struct map_entry **link;

	for (link = &m->buckets[bucket_of(m, key, len)]; *link; link = &(*link)->next)
		if ((*link)->key_len == len && memcmp((*link)->key, key, len) == 0)
			break;
	return link;
}

static void grow(struct map *m)
{
	struct map_entry **old = m->buckets;
	size_t n_old = m->n_buckets;

	m->n_buckets = n_old ? n_old * 2 : 16;
	m->buckets = xcalloc(m->n_buckets, sizeof(*m->buckets));
	for (size_t i = 0; i < n_old; i++) {
		struct map_entry *e = old[i];

		while (e) {
			struct map_entry *next = e->next;
			size_t b = bucket_of(m, e->key, e->key_len);

			e->next = m->buckets[b];
			m->buckets[b] = e;
			e = next;
		}
	}
	free(old);
}

void *map_get(const struct map *m, const void *key, size_t len)
{
	struct map_entry *e;

	if (m->n == 0)
		return NULL;
	e = *find(m, key, len);
	return e ? e->value : NULL;
}

void map_set(struct map *m, const void *key, size_t len, void *value)
{
	struct map_entry **link, *e;

	assert(value);
	if (m->n >= m->n_buckets)
		grow(m);
	link = find(m, key, len);
	if (!*link) {
		e = xcalloc(1, sizeof(*e) + len + 1);
		e->key_len = len;
		memcpy(e->key, key, len);
		*link = e;
		m->n++;
	}
	(*link)->value = value;
}

void *map_del(struct map *m, const void *key, size_t len)
{
	struct map_entry **link, *e;
	void *value;

	if (m->n == 0)
		return NULL;
	link = find(m, key, len);
	e = *link;
	if (!e)
		return NULL;
	*link = e->next;
	m->n--;
	value = e->value;
	free(e);
	return value;
}

void map_each(const struct map *m, void (*fn)(void *ctx, const struct map_entry *e), void *ctx)
{
	for (size_t i = 0; i < m->n_buckets; i++)
		for (const struct map_entry *e = m->buckets[i]; e; e = e->next)
			fn(ctx, e);
}
