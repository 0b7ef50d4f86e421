/* SPDX-License-Identifier: BSD-2-Clause */
/* See top_k.h. */
#include "base/top_k.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define ROWS	     2
#define CELLS	     1024 /* of a row */
#define SLOTS	     1024 /* of the index: four times as many as keys */
#define CHANCES	     256
#define DECAY	     1.08 /* as the paper has it */
#define SLOT_BITS    10
#define ALWAYS	     UINT32_MAX
#define INDEX(h)     ((size_t)(h) & (SLOTS - 1))
#define CELL(h, row) ((size_t)((h) >> (SLOT_BITS * ((row) + 1))) & (CELLS - 1))
#define MARK(h)	     ((uint32_t)((h) >> 32))

struct cell {
	uint32_t mark; /* whose it is */
	uint32_t count;
};

struct top_k {
	struct top_k_key keys[TOP_K_KEYS];
	size_t n;
	uint64_t floor; /* no key here has a lower count */
	uint64_t total;
	uint64_t random;
	uint64_t seed;
	uint32_t chances[CHANCES]; /* by count: of 2^32, that a cell is worn down */
	uint16_t slots[SLOTS];	   /* 1 + index in keys, where the hash says or behind; 0: empty */
	struct cell cells[ROWS][CELLS];
};

struct top_k *top_k_new(void)
{
	struct top_k *t = xcalloc(1, sizeof(*t));
	double chance = ALWAYS;

	randombytes_buf(&t->seed, sizeof(t->seed));
	randombytes_buf(&t->random, sizeof(t->random));
	t->random |= 1;
	for (size_t i = 0; i < CHANCES; i++, chance /= DECAY)
		t->chances[i] = (uint32_t)chance;
	return t;
}

void top_k_free(struct top_k **t)
{
	free(*t);
	*t = NULL;
}

static uint32_t dice(struct top_k *t)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return (uint32_t)(t->random >> 32);
}

static inline uint64_t mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 32;
}

/* Cheap rather than proof against who knows the seed: all that he could do is to make two keys one here. */
static uint64_t hash_of(const struct top_k *t, uint32_t owner, const char *key, size_t len)
{
	uint64_t h = t->seed ^ (uint64_t)owner << 32 ^ len, word = 0;
	size_t i = 0;

	for (; i + sizeof(word) <= len; i += sizeof(word)) {
		memcpy(&word, key + i, sizeof(word));
		h = mix(h, word);
	}
	for (word = 0; i < len; i++)
		word = word << 8 | (unsigned char)key[i];
	return mix(mix(h, word), 0);
}

/* ---- the index ---- */

/* The slot of the hash, or the empty one where it would stand. */
static size_t slot_of(const struct top_k *t, uint64_t hash)
{
	size_t i = INDEX(hash);

	while (t->slots[i] && t->keys[t->slots[i] - 1].hash != hash)
		i = (i + 1) & (SLOTS - 1);
	return i;
}

/* What stands behind and would no longer be found moves up. */
static void unlist(struct top_k *t, uint64_t hash)
{
	size_t gap = slot_of(t, hash);

	for (size_t i = (gap + 1) & (SLOTS - 1); t->slots[i]; i = (i + 1) & (SLOTS - 1)) {
		size_t home = INDEX(t->keys[t->slots[i] - 1].hash);

		if (((i - home) & (SLOTS - 1)) < ((i - gap) & (SLOTS - 1)))
			continue;
		t->slots[gap] = t->slots[i];
		gap = i;
	}
	t->slots[gap] = 0;
}

static void list_all(struct top_k *t)
{
	memset(t->slots, 0, sizeof(t->slots));
	for (size_t i = 0; i < t->n; i++)
		t->slots[slot_of(t, t->keys[i].hash)] = (uint16_t)(i + 1);
}

/* ---- the sketch ---- */

/* How often the cell has seen the key, n times more counted; 0: it is another's. */
static uint32_t count_in(struct top_k *t, struct cell *c, uint32_t mark, uint32_t n)
{
	if (c->count > 0 && c->mark != mark) {
		if (c->count >= CHANCES || dice(t) > t->chances[c->count])
			return 0;
		c->count -= c->count < n ? c->count : n;
		if (c->count > 0)
			return 0;
	}
	c->mark = mark;
	c->count = c->count > UINT32_MAX - n ? UINT32_MAX : c->count + n;
	return c->count;
}

static uint32_t count_rare(struct top_k *t, uint64_t hash, uint32_t n)
{
	uint32_t best = 0;

	for (unsigned row = 0; row < ROWS; row++) {
		uint32_t count = count_in(t, &t->cells[row][CELL(hash, row)], MARK(hash), n);

		if (count > best)
			best = count;
	}
	return best;
}

/* ---- the best ---- */

static size_t least(const struct top_k *t)
{
	size_t best = 0;

	for (size_t i = 1; i < t->n; i++)
		if (t->keys[i].count < t->keys[best].count)
			best = i;
	return best;
}

/* Where a key with this count may stand; false: nowhere. As long as there is room all may. */
static bool find_place(struct top_k *t, uint64_t count, size_t *place)
{
	if (t->n < TOP_K_KEYS) {
		*place = t->n++;
		return true;
	}
	if (count <= t->floor)
		return false;
	*place = least(t);
	t->floor = t->keys[*place].count;
	if (count <= t->floor)
		return false;
	unlist(t, t->keys[*place].hash);
	return true;
}

void top_k_add(struct top_k *t, uint32_t owner, const char *key, size_t len, uint32_t n)
{
	uint64_t hash = hash_of(t, owner, key, len);
	size_t place = t->slots[slot_of(t, hash)];
	struct top_k_key *k;
	uint32_t count;

	t->total += n;
	if (place > 0) {
		t->keys[place - 1].count += n;
		return;
	}
	count = count_rare(t, hash, n);
	if (!find_place(t, count, &place))
		return;
	k = &t->keys[place];
	k->hash = hash;
	k->count = count > n ? count : n;
	k->owner = owner;
	k->len = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
	memcpy(k->key, key, len < TOP_K_KEY_BYTES ? len : TOP_K_KEY_BYTES);
	t->slots[slot_of(t, hash)] = (uint16_t)(place + 1);
}

void top_k_halve(struct top_k *t)
{
	size_t n = 0;

	for (unsigned row = 0; row < ROWS; row++)
		for (size_t i = 0; i < CELLS; i++)
			t->cells[row][i].count /= 2;
	for (size_t i = 0; i < t->n; i++) {
		t->keys[i].count /= 2;
		if (t->keys[i].count > 0)
			t->keys[n++] = t->keys[i];
	}
	t->n = n;
	t->floor = 0;
	t->total /= 2;
	list_all(t);
}

void top_k_clear(struct top_k *t)
{
	memset(t->cells, 0, sizeof(t->cells));
	t->n = 0;
	t->floor = t->total = 0;
	list_all(t);
}

uint64_t top_k_total(const struct top_k *t)
{
	return t->total;
}

size_t top_k_size(const struct top_k *t)
{
	return t->n;
}

const struct top_k_key *top_k_at(const struct top_k *t, size_t i)
{
	return &t->keys[i];
}
