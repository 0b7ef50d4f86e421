/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mirror of the token blacklist: see blacklist.h.
 *
 * A shard is an open table that is sorted: an entry stands at the place that its hash says, or behind it, and those
 * before it are smaller. So a look-up ends at the first that is larger, whether it finds something or not, and tables
 * may be full to 85 % and of any size. The parts of an entry lie in arrays of their own: a look-up that finds nothing,
 * which most do, sees hashes only, eight in a cache line.
 */
#include "cache/blacklist.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"

#define SHARD_BITS   6
#define ENTRY_BYTES  22
#define SLACK	     64 /* places behind the last one that a hash may say */
#define PLACES_MIN   ((4096 / ENTRY_BYTES) - SLACK)
#define FULL_PERCENT 85
#define GROWTH	     8 /* by an eighth: there are always three quarters in use, and not all shards grow together */
#define UNIT_US	     100000
#define FOR_EVER     UINT32_MAX

/* state: the number of the load that found it, and what Redis keeps there; 0: nothing */
#define STATE_VALUE 31u
#define STATE_LOAD  (3u << 5)

/* doubt: questions under way in its first bits, writes in the others */
#define DOUBT_ASKED  1u /* one is */
#define DOUBT_AGAIN  2u /* and another must follow */
#define DOUBT_QUERY  3u
#define DOUBT_WRITE  4u
#define DOUBT_WRITES 252u /* so many were not counted: in doubt until the next load */

#define VALUES	  31
#define VALUE_MAX 64

struct shard {
	pthread_mutex_t lock;
	uint64_t *first;  /* 0: the place is empty. In order */
	uint64_t *second; /* the other half of the id */
	uint32_t *until;  /* in UNIT_US since the list was made, or FOR_EVER */
	uint8_t *state;
	uint8_t *doubt;
	size_t n;
	size_t n_places; /* that a hash may say; SLACK more are there */
	size_t bytes;
	_Atomic uint64_t version; /* one more with every change */
	char pad[64];
};

struct value {
	size_t len;
	char text[];
};

struct blacklist {
	atomic_uint refs;
	uint64_t seed, factor, other;
	int64_t base_us;
	unsigned load; /* number of the present one; guarded by all locks */
	size_t next_purge;
	_Atomic int64_t holds_until_us;
	_Atomic int64_t confirmed_us;
	_Atomic uint64_t epochs;
	_Atomic uint64_t loads, losses;
	_Atomic int64_t load_us;
	pthread_mutex_t value_lock;
	_Atomic(struct value *) values[VALUES];
	struct shard shards[BLACKLIST_SHARDS];
};

/* ---- places ---- */

/* Ids are even already; but who can write to Redis could choose names that would all stand in one place. */
static uint64_t mix(const struct blacklist *b, struct token_id id)
{
	uint64_t h = (id.a ^ b->seed ^ id.b * b->other) * b->factor;

	h ^= h >> 32;
	h *= b->factor;
	return h ? h : 1;
}

uint64_t blacklist_key(const struct blacklist *b, struct token_id id)
{
	return mix(b, id);
}

static inline struct shard *shard_of(struct blacklist *b, uint64_t first)
{
	return &b->shards[first >> (64 - SHARD_BITS)];
}

static inline size_t home(const struct shard *s, uint64_t first)
{
	return (size_t)(((unsigned __int128)(first << SHARD_BITS) * s->n_places) >> 64);
}

/* Where it is, or would be. */
static inline size_t place_of(const struct shard *s, uint64_t first, uint64_t second)
{
	size_t i = home(s, first);

	while (s->first[i] && (s->first[i] < first || (s->first[i] == first && s->second[i] < second)))
		i++;
	return i;
}

static inline bool is_at(const struct shard *s, size_t i, uint64_t first, uint64_t second)
{
	return s->first[i] == first && s->second[i] == second;
}

/* Something of it is going to be another; it is locked. */
static void change(struct shard *s)
{
	atomic_store_explicit(&s->version, atomic_load_explicit(&s->version, memory_order_relaxed) + 1,
			      memory_order_release);
}

/* The shard's number behind its version. */
uint64_t blacklist_mark(struct blacklist *b, struct token_id id)
{
	uint64_t k = mix(b, id) >> (64 - SHARD_BITS);

	return atomic_load_explicit(&b->shards[k].version, memory_order_acquire) << SHARD_BITS | k;
}

bool blacklist_mark_is_fresh(const struct blacklist *b, uint64_t mark)
{
	const struct shard *s = &b->shards[mark & (BLACKLIST_SHARDS - 1)];

	return atomic_load_explicit(&s->version, memory_order_acquire) == mark >> SHARD_BITS;
}

/* ---- memory ---- */

static void map_places(struct shard *s, size_t n_places)
{
	size_t n = n_places + SLACK;
	char *p;

	s->bytes = (n * ENTRY_BYTES + 4095) & ~(size_t)4095;
	p = xmap(s->bytes);
	s->first = (uint64_t *)(void *)p;
	s->second = s->first + n;
	s->until = (uint32_t *)(void *)(s->second + n);
	s->state = (uint8_t *)(s->until + n);
	s->doubt = s->state + n;
	s->n_places = n_places;
	s->n = 0;
}

static void copy_entry(struct shard *to, size_t i, const struct shard *from, size_t k)
{
	to->first[i] = from->first[k];
	to->second[i] = from->second[k];
	to->until[i] = from->until[k];
	to->state[i] = from->state[k];
	to->doubt[i] = from->doubt[k];
}

/* In order, so each stands right behind the one before it or at its own place. False: not enough slack. */
static bool refill(struct shard *to, const struct shard *from)
{
	size_t next = 0;

	for (size_t k = 0; from->first && k < from->n_places + SLACK; k++) {
		size_t i;

		if (!from->first[k])
			continue;
		i = home(to, from->first[k]);
		i = i > next ? i : next;
		if (i + 1 >= to->n_places + SLACK)
			return false;
		copy_entry(to, i, from, k);
		to->n++;
		next = i + 1;
	}
	return true;
}

static void resize(struct shard *s, size_t n_places)
{
	struct shard fresh;
	bool ok;

	do {
		fresh = (struct shard){0};
		map_places(&fresh, n_places);
		ok = refill(&fresh, s);
		if (!ok)
			munmap(fresh.first, fresh.bytes);
		n_places += n_places / GROWTH + 1;
	} while (!ok);
	if (s->first)
		munmap(s->first, s->bytes);
	memcpy(&s->first, &fresh.first, offsetof(struct shard, version) - offsetof(struct shard, first));
}

static size_t bigger(size_t n_places)
{
	return n_places < PLACES_MIN ? PLACES_MIN : n_places + n_places / GROWTH + 1;
}

/* An empty place for it, in order. */
static size_t insert(struct shard *s, uint64_t first, uint64_t second)
{
	size_t i, end;

	if (!s->first || s->n * 100 >= s->n_places * FULL_PERCENT)
		resize(s, bigger(s->n_places));
	for (;;) {
		i = end = place_of(s, first, second);
		while (s->first[end])
			end++;
		if (end + 1 < s->n_places + SLACK) /* the last stays empty: there every look-up ends */
			break;
		resize(s, bigger(s->n_places));
	}
	for (; end > i; end--)
		copy_entry(s, end, s, end - 1);
	s->first[i] = first;
	s->second[i] = second;
	s->until[i] = 0;
	s->state[i] = s->doubt[i] = 0;
	s->n++;
	return i;
}

/* Those behind it that do not stand at their own place move up. */
static void drop(struct shard *s, size_t i)
{
	for (; s->first[i + 1] && home(s, s->first[i + 1]) <= i; i++)
		copy_entry(s, i, s, i + 1);
	s->first[i] = 0;
	s->n--;
}

/* ---- time ---- */

/* Rounded up: revoked is revoked for as long as Redis says, or a moment longer. */
static uint32_t unit_of(const struct blacklist *b, int64_t until_us)
{
	int64_t units = (until_us - b->base_us + UNIT_US - 1) / UNIT_US;

	if (until_us == 0 || units >= FOR_EVER)
		return FOR_EVER;
	return units > 0 ? (uint32_t)units : 0;
}

static inline bool is_over(const struct blacklist *b, const struct shard *s, size_t i, int64_t now_us)
{
	return s->until[i] != FOR_EVER && (now_us - b->base_us) / UNIT_US >= s->until[i];
}

static inline bool is_revoked(const struct blacklist *b, const struct shard *s, size_t i, int64_t now_us)
{
	return s->state[i] & STATE_VALUE && !is_over(b, s, i, now_us);
}

/* ---- looking ---- */

bool blacklist_holds(const struct blacklist *b, int64_t now_us)
{
	return now_us < atomic_load_explicit(&b->holds_until_us, memory_order_acquire);
}

uint64_t blacklist_epochs(const struct blacklist *b)
{
	return atomic_load_explicit(&b->epochs, memory_order_acquire);
}

int64_t blacklist_confirmed_us(const struct blacklist *b)
{
	return atomic_load_explicit(&b->confirmed_us, memory_order_acquire);
}

enum blacklist_says blacklist_look(struct blacklist *b, struct token_id id, int64_t now_us, unsigned *value)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	enum blacklist_says says = BLACKLIST_CLEAR;
	size_t i;

	pthread_mutex_lock(&s->lock);
	if (s->first) {
		i = place_of(s, first, id.b);
		if (is_at(s, i, first, id.b)) {
			*value = s->state[i] & STATE_VALUE;
			if (s->doubt[i])
				says = BLACKLIST_UNKNOWN;
			else if (is_revoked(b, s, i, now_us))
				says = BLACKLIST_REVOKED;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return says;
}

bool blacklist_was_revoked(struct blacklist *b, uint64_t key, int64_t now_us)
{
	struct shard *s = shard_of(b, key);
	bool was = false;
	size_t i;

	pthread_mutex_lock(&s->lock);
	if (s->first) {
		i = place_of(s, key, 0);
		was = s->first[i] == key && is_revoked(b, s, i, now_us);
	}
	pthread_mutex_unlock(&s->lock);
	return was;
}

/* ---- values ---- */

static bool is_value(const struct value *v, const char *text, size_t len)
{
	return v->len == len && memcmp(v->text, text, len) == 0;
}

unsigned blacklist_value(struct blacklist *b, const char *text, size_t len)
{
	unsigned found = BLACKLIST_OTHER;
	struct value *v;

	if (len > VALUE_MAX)
		return BLACKLIST_OTHER;
	pthread_mutex_lock(&b->value_lock);
	for (unsigned i = BLACKLIST_ONE; i < VALUES && found == BLACKLIST_OTHER; i++) {
		v = atomic_load(&b->values[i]);
		if (!v) {
			v = xcalloc(1, sizeof(*v) + len);
			v->len = len;
			memcpy(v->text, text, len);
			atomic_store(&b->values[i], v);
		}
		if (is_value(v, text, len))
			found = i;
	}
	pthread_mutex_unlock(&b->value_lock);
	return found;
}

const char *blacklist_value_text(const struct blacklist *b, unsigned value, size_t *len)
{
	const struct value *v = value < VALUES ? atomic_load_explicit(&b->values[value], memory_order_acquire) : NULL;

	if (!v)
		return NULL;
	*len = v->len;
	return v->text;
}

/* ---- doubts ---- */

/* Its place, made when it has none, to change what stands there; the shard is locked. */
static size_t need(struct shard *s, uint64_t first, uint64_t second)
{
	size_t i;

	change(s);
	if (s->first) {
		i = place_of(s, first, second);
		if (is_at(s, i, first, second))
			return i;
	}
	return insert(s, first, second);
}

/* Nothing is known of it that would be worth its place. */
static void drop_if_empty(struct shard *s, size_t i)
{
	if (!s->doubt[i] && !(s->state[i] & STATE_VALUE))
		drop(s, i);
}

void blacklist_write_begins(struct blacklist *b, struct token_id id)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	size_t i;

	pthread_mutex_lock(&s->lock);
	i = need(s, first, id.b);
	if (s->doubt[i] < DOUBT_WRITES)
		s->doubt[i] = (uint8_t)(s->doubt[i] + DOUBT_WRITE);
	pthread_mutex_unlock(&s->lock);
}

static void write_over(struct shard *s, size_t i)
{
	if (s->doubt[i] >= DOUBT_WRITE && s->doubt[i] < DOUBT_WRITES)
		s->doubt[i] = (uint8_t)(s->doubt[i] - DOUBT_WRITE);
}

/* One more question is wanted. True: it is to be asked now. */
static bool want_answer(struct shard *s, size_t i)
{
	unsigned query = s->doubt[i] & DOUBT_QUERY;

	s->doubt[i] = (uint8_t)((s->doubt[i] & ~DOUBT_QUERY) | (query ? DOUBT_AGAIN : DOUBT_ASKED));
	return !query;
}

void blacklist_write_dropped(struct blacklist *b, struct token_id id)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	size_t i;

	pthread_mutex_lock(&s->lock);
	i = need(s, first, id.b);
	write_over(s, i);
	drop_if_empty(s, i);
	pthread_mutex_unlock(&s->lock);
}

bool blacklist_write_ends(struct blacklist *b, struct token_id id)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	bool ask;
	size_t i;

	pthread_mutex_lock(&s->lock);
	i = need(s, first, id.b);
	write_over(s, i);
	ask = want_answer(s, i);
	pthread_mutex_unlock(&s->lock);
	return ask;
}

bool blacklist_changed(struct blacklist *b, struct token_id id)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	bool ask;

	pthread_mutex_lock(&s->lock);
	ask = want_answer(s, need(s, first, id.b));
	pthread_mutex_unlock(&s->lock);
	return ask;
}

static void take(struct blacklist *b, struct shard *s, size_t i, const struct blacklist_fact *fact)
{
	s->state[i] = (uint8_t)(b->load << 5 | (fact->revoked ? fact->value : 0));
	s->until[i] = unit_of(b, fact->until_us);
}

void blacklist_note_revoked(struct blacklist *b, struct token_id id, int64_t until_us)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	size_t i;

	pthread_mutex_lock(&s->lock);
	i = need(s, first, id.b);
	if (s->doubt[i] && !(s->state[i] & STATE_VALUE && s->until[i] >= unit_of(b, until_us))) /* never shorter */
		take(b, s, i, &(struct blacklist_fact){true, BLACKLIST_OTHER, until_us});
	drop_if_empty(s, i);
	pthread_mutex_unlock(&s->lock);
}

bool blacklist_learnt(struct blacklist *b, struct token_id id, const struct blacklist_fact *fact)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	bool again = false;
	size_t i;

	pthread_mutex_lock(&s->lock);
	i = need(s, first, id.b);
	if (s->doubt[i] & DOUBT_QUERY) {
		again = s->doubt[i] & DOUBT_AGAIN;
		s->doubt[i] = (uint8_t)((s->doubt[i] & ~DOUBT_QUERY) | (again ? DOUBT_ASKED : 0));
		take(b, s, i, fact);
	}
	drop_if_empty(s, i);
	pthread_mutex_unlock(&s->lock);
	return again;
}

/* ---- loading ---- */

/* Those under way will not be answered. */
static void forget_questions(struct shard *s)
{
	pthread_mutex_lock(&s->lock);
	change(s);
	for (size_t i = 0; s->first && i < s->n_places + SLACK; i++)
		if (s->first[i])
			s->doubt[i] &= (uint8_t)(s->doubt[i] >= DOUBT_WRITES ? 0 : ~DOUBT_QUERY);
	pthread_mutex_unlock(&s->lock);
}

void blacklist_load_begins(struct blacklist *b)
{
	blacklist_hold(b, 0, 0, 0);
	for (size_t k = 0; k < BLACKLIST_SHARDS; k++)
		pthread_mutex_lock(&b->shards[k].lock);
	b->load = (b->load + 1) & 3;
	for (size_t k = 0; k < BLACKLIST_SHARDS; k++)
		pthread_mutex_unlock(&b->shards[k].lock);
	for (size_t k = 0; k < BLACKLIST_SHARDS; k++)
		forget_questions(&b->shards[k]);
}

void blacklist_load(struct blacklist *b, struct token_id id, const struct blacklist_fact *fact)
{
	uint64_t first = mix(b, id);
	struct shard *s = shard_of(b, first);
	size_t i;

	pthread_mutex_lock(&s->lock);
	i = need(s, first, id.b);
	take(b, s, i, fact);
	drop_if_empty(s, i);
	pthread_mutex_unlock(&s->lock);
}

/* Those that wanted() is not true of go, or, in doubt, are not revoked as far as is known; and so does room that is far
 * too much. */
static void sweep(struct blacklist *b, struct shard *s,
		  bool (*wanted)(const struct blacklist *b, const struct shard *s, size_t i, int64_t now_us),
		  int64_t now_us)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; s->first && i < s->n_places + SLACK;) {
		if (!s->first[i] || wanted(b, s, i, now_us)) {
			i++;
		} else if (s->doubt[i]) {
			s->state[i++] &= STATE_LOAD;
		} else {
			drop(s, i); /* another may have moved up to this place */
		}
	}
	if (s->first && s->n == 0) {
		munmap(s->first, s->bytes);
		s->first = NULL;
		s->n_places = s->bytes = 0;
	} else if (s->first && s->n_places > PLACES_MIN && s->n * 3 < s->n_places) {
		size_t n = s->n * 100 / FULL_PERCENT * 9 / 8;

		resize(s, n < PLACES_MIN ? PLACES_MIN : n);
	}
	pthread_mutex_unlock(&s->lock);
}

static bool is_of_load(const struct blacklist *b, const struct shard *s, size_t i, int64_t now_us)
{
	return (s->state[i] & STATE_LOAD) == b->load << 5 && is_revoked(b, s, i, now_us);
}

void blacklist_load_ends(struct blacklist *b, int64_t now_us)
{
	for (size_t k = 0; k < BLACKLIST_SHARDS; k++)
		sweep(b, &b->shards[k], is_of_load, now_us);
}

void blacklist_hold(struct blacklist *b, int64_t until_us, int64_t confirmed_us, uint64_t epochs)
{
	atomic_store_explicit(&b->epochs, epochs, memory_order_release);
	atomic_store_explicit(&b->confirmed_us, confirmed_us, memory_order_release);
	atomic_store_explicit(&b->holds_until_us, until_us, memory_order_release);
}

/* ---- now and then ---- */

void blacklist_purge(struct blacklist *b, int64_t now_us, bool asks)
{
	struct shard *s = &b->shards[b->next_purge++ % BLACKLIST_SHARDS];

	if (!asks)
		forget_questions(s);
	sweep(b, s, is_revoked, now_us);
}

size_t blacklist_count(struct blacklist *b, int64_t now_us)
{
	size_t n = 0;

	for (size_t k = 0; k < BLACKLIST_SHARDS; k++) {
		struct shard *s = &b->shards[k];

		pthread_mutex_lock(&s->lock);
		for (size_t i = 0; s->first && i < s->n_places + SLACK; i++)
			n += s->first[i] && is_revoked(b, s, i, now_us);
		pthread_mutex_unlock(&s->lock);
	}
	return n;
}

size_t blacklist_bytes(struct blacklist *b)
{
	size_t n = sizeof(*b);

	for (size_t k = 0; k < BLACKLIST_SHARDS; k++) {
		pthread_mutex_lock(&b->shards[k].lock);
		n += b->shards[k].bytes;
		pthread_mutex_unlock(&b->shards[k].lock);
	}
	return n;
}

void blacklist_stats(struct blacklist *b, int64_t now_us, struct blacklist_stats *out)
{
	*out = (struct blacklist_stats){.bytes = sizeof(*b)};
	for (size_t k = 0; k < BLACKLIST_SHARDS; k++) {
		struct shard *s = &b->shards[k];

		pthread_mutex_lock(&s->lock);
		out->bytes += s->bytes;
		for (size_t i = 0; s->first && i < s->n_places + SLACK; i++) {
			out->n += s->first[i] && is_revoked(b, s, i, now_us);
			out->n_doubts += s->first[i] && s->doubt[i];
		}
		pthread_mutex_unlock(&s->lock);
	}
	out->loads = atomic_load(&b->loads);
	out->losses = atomic_load(&b->losses);
	out->load_us = atomic_load(&b->load_us);
}

void blacklist_note_load(struct blacklist *b, int64_t us)
{
	atomic_fetch_add(&b->loads, 1);
	atomic_store(&b->load_us, us);
}

void blacklist_note_loss(struct blacklist *b)
{
	atomic_fetch_add(&b->losses, 1);
}

/* ---- life ---- */

struct blacklist *blacklist_new(void)
{
	struct blacklist *b = xcalloc(1, sizeof(*b));

	atomic_init(&b->refs, 1);
	randombytes_buf(&b->seed, sizeof(b->seed));
	randombytes_buf(&b->factor, sizeof(b->factor));
	b->factor |= 1;
	randombytes_buf(&b->other, sizeof(b->other));
	b->other |= 1;
	b->base_us = clock_now_us();
	pthread_mutex_init(&b->value_lock, NULL);
	for (size_t k = 0; k < BLACKLIST_SHARDS; k++) {
		pthread_mutex_init(&b->shards[k].lock, NULL);
		atomic_init(&b->shards[k].version, 1);
	}
	blacklist_value(b, "1", 1); /* BLACKLIST_ONE */
	return b;
}

struct blacklist *blacklist_ref(struct blacklist *b)
{
	atomic_fetch_add(&b->refs, 1);
	return b;
}

void blacklist_unref(struct blacklist **bp)
{
	struct blacklist *b = *bp;

	*bp = NULL;
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	for (size_t k = 0; k < BLACKLIST_SHARDS; k++) {
		if (b->shards[k].first)
			munmap(b->shards[k].first, b->shards[k].bytes);
		pthread_mutex_destroy(&b->shards[k].lock);
	}
	for (size_t i = 0; i < VALUES; i++)
		free(atomic_load(&b->values[i]));
	pthread_mutex_destroy(&b->value_lock);
	free(b);
}
