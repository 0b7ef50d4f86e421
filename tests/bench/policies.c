/* SPDX-License-Identifier: BSD-2-Clause */
/* Ways to decide what a cache keeps: see policies.h. */
#include "policies.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define NONE UINT32_MAX

/* ---- queues of keys; a key is in one at most ---- */

struct queue {
	uint32_t newest, oldest;
	uint64_t weight;
};

struct links {
	const struct world *w;
	uint32_t *newer, *older;
	struct queue **in; /* NULL: none */
};

static void links_init(struct links *l, const struct world *w)
{
	l->w = w;
	l->newer = xcalloc(w->n_keys, sizeof(uint32_t));
	l->older = xcalloc(w->n_keys, sizeof(uint32_t));
	l->in = xcalloc(w->n_keys, sizeof(struct queue *));
}

static void links_fini(struct links *l)
{
	free(l->newer);
	free(l->older);
	free(l->in);
}

static void pull(struct links *l, uint32_t key)
{
	struct queue *q = l->in[key];

	if (!q)
		return;
	if (l->newer[key] != NONE)
		l->older[l->newer[key]] = l->older[key];
	else
		q->newest = l->older[key];
	if (l->older[key] != NONE)
		l->newer[l->older[key]] = l->newer[key];
	else
		q->oldest = l->newer[key];
	q->weight -= l->w->weight[key];
	l->in[key] = NULL;
}

static void push(struct links *l, struct queue *q, uint32_t key)
{
	pull(l, key);
	l->newer[key] = NONE;
	l->older[key] = q->newest;
	if (q->newest != NONE)
		l->newer[q->newest] = key;
	else
		q->oldest = key;
	q->newest = key;
	q->weight += l->w->weight[key];
	l->in[key] = q;
}

static const struct queue empty = {NONE, NONE, 0};

/* ---- LRU ---- */

struct lru {
	struct links links;
	struct queue all;
};

static void *lru_make(const struct world *w)
{
	struct lru *p = xcalloc(1, sizeof(*p));

	links_init(&p->links, w);
	p->all = empty;
	return p;
}

static bool lru_read(void *ctx, uint32_t i)
{
	struct lru *p = ctx;
	const struct world *w = p->links.w;
	uint32_t key = w->trace[i];
	bool found = p->links.in[key] != NULL;

	push(&p->links, &p->all, key);
	while (p->all.weight > w->capacity)
		pull(&p->links, p->all.oldest);
	return found;
}

static void lru_write(void *ctx, uint32_t i)
{
	struct lru *p = ctx;

	pull(&p->links, p->links.w->trace[i] & ~TRACE_WRITE);
}

static void lru_fini(void *ctx)
{
	struct lru *p = ctx;

	links_fini(&p->links);
	free(p);
}

const struct policy policy_lru = {"LRU", lru_make, lru_read, lru_write, lru_fini};

/* ---- W-TinyLFU: a window of 1 % and a segmented LRU; who comes out of the window must be asked for more often ---- */

struct tinylfu {
	struct links links;
	struct queue window, probation, protected;
	uint8_t *sketch; /* four rows of counters up to 15 */
	uint32_t mask, added, sample;
};

static void *tinylfu_make(const struct world *w)
{
	struct tinylfu *p = xcalloc(1, sizeof(*p));
	uint64_t all = 0, entries;

	links_init(&p->links, w);
	p->window = p->probation = p->protected = empty;
	for (uint32_t k = 0; k < w->n_keys; k++)
		all += w->weight[k];
	entries = w->capacity * w->n_keys / all;
	for (p->mask = 1; p->mask < entries * 4; p->mask *= 2)
		;
	p->sketch = xcalloc(4, p->mask);
	p->mask--;
	p->sample = (uint32_t)(10 * entries);
	return p;
}

static uint8_t *counter(struct tinylfu *p, uint32_t key, uint32_t row)
{
	uint64_t h = (key + 1) * 0x9e3779b97f4a7c15ULL + row * 0xbf58476d1ce4e5b9ULL;

	h = (h ^ h >> 29) * 0x94d049bb133111ebULL;
	return &p->sketch[(size_t)row * (p->mask + 1) + (h >> 32 & p->mask)];
}

static unsigned frequency(struct tinylfu *p, uint32_t key)
{
	unsigned least = 15;

	for (uint32_t row = 0; row < 4; row++)
		if (*counter(p, key, row) < least)
			least = *counter(p, key, row);
	return least;
}

static void count(struct tinylfu *p, uint32_t key)
{
	for (uint32_t row = 0; row < 4; row++)
		if (*counter(p, key, row) < 15)
			++*counter(p, key, row);
	if (++p->added < p->sample)
		return;
	p->added /= 2;
	for (size_t i = 0; i < 4 * ((size_t)p->mask + 1); i++)
		p->sketch[i] /= 2;
}

static void tinylfu_settle(struct tinylfu *p)
{
	uint64_t capacity = p->links.w->capacity, window = capacity / 100, main = capacity - window;

	while (p->window.weight > window) {
		uint32_t key = p->window.oldest;

		push(&p->links, &p->probation, key);
		while (p->probation.weight + p->protected.weight > main) {
			uint32_t victim = p->probation.oldest;

			if (victim == key)
				victim = p->protected.oldest;
			if (victim == NONE || frequency(p, key) <= frequency(p, victim)) {
				pull(&p->links, key);
				break;
			}
			pull(&p->links, victim);
		}
	}
}

static bool tinylfu_read(void *ctx, uint32_t i)
{
	struct tinylfu *p = ctx;
	const struct world *w = p->links.w;
	uint32_t key = w->trace[i];
	struct queue *in = p->links.in[key];

	count(p, key);
	if (!in || in == &p->window)
		push(&p->links, &p->window, key);
	else
		push(&p->links, &p->protected, key);
	while (p->protected.weight > w->capacity / 100 * 79)
		push(&p->links, &p->probation, p->protected.oldest);
	tinylfu_settle(p);
	return in != NULL;
}

static void tinylfu_write(void *ctx, uint32_t i)
{
	struct tinylfu *p = ctx;

	pull(&p->links, p->links.w->trace[i] & ~TRACE_WRITE);
}

static void tinylfu_fini(void *ctx)
{
	struct tinylfu *p = ctx;

	links_fini(&p->links);
	free(p->sketch);
	free(p);
}

const struct policy policy_tinylfu = {"W-TinyLFU", tinylfu_make, tinylfu_read, tinylfu_write, tinylfu_fini};

/* ---- S3-FIFO, as published: small queue 10 %, frequencies up to 3, on to the main queue with more than 1 ---- */

struct s3fifo {
	struct links links;
	struct queue small, main, ghost; /* what is in the ghost queue is not there */
	uint8_t *freq;
};

static void *s3fifo_make(const struct world *w)
{
	struct s3fifo *p = xcalloc(1, sizeof(*p));

	links_init(&p->links, w);
	p->small = p->main = p->ghost = empty;
	p->freq = xcalloc(w->n_keys, 1);
	return p;
}

static void s3fifo_small(struct s3fifo *p)
{
	uint32_t key = p->small.oldest;

	if (p->freq[key] > 1) {
		push(&p->links, &p->main, key);
		p->freq[key] = 0;
		return;
	}
	push(&p->links, &p->ghost, key);
	while (p->ghost.weight > p->links.w->capacity / 10 * 9)
		pull(&p->links, p->ghost.oldest);
}

static void s3fifo_main(struct s3fifo *p)
{
	uint32_t key = p->main.oldest;

	if (p->freq[key] == 0) {
		pull(&p->links, key);
		return;
	}
	p->freq[key]--;
	push(&p->links, &p->main, key);
}

static bool s3fifo_read(void *ctx, uint32_t i)
{
	struct s3fifo *p = ctx;
	const struct world *w = p->links.w;
	uint32_t key = w->trace[i];
	struct queue *in = p->links.in[key];

	if (in && in != &p->ghost) {
		if (p->freq[key] < 3)
			p->freq[key]++;
		return true;
	}
	p->freq[key] = 0;
	while (p->small.weight + p->main.weight + w->weight[key] > w->capacity)
		if (p->small.weight >= w->capacity / 10 || p->main.oldest == NONE)
			s3fifo_small(p);
		else
			s3fifo_main(p);
	push(&p->links, in == &p->ghost && p->links.in[key] ? &p->main : &p->small, key);
	return false;
}

static void s3fifo_write(void *ctx, uint32_t i)
{
	struct s3fifo *p = ctx;

	pull(&p->links, p->links.w->trace[i] & ~TRACE_WRITE);
}

static void s3fifo_fini(void *ctx)
{
	struct s3fifo *p = ctx;

	links_fini(&p->links);
	free(p->freq);
	free(p);
}

const struct policy policy_s3fifo = {"S3-FIFO", s3fifo_make, s3fifo_read, s3fifo_write, s3fifo_fini};

/* ---- the most popular ones and no other, known beforehand ---- */

struct fixed {
	const struct world *w;
	bool *chosen, *fresh;
};

struct popularity {
	double per_chunk;
	uint32_t key;
};

static int by_popularity(const void *a, const void *b)
{
	double x = ((const struct popularity *)a)->per_chunk, y = ((const struct popularity *)b)->per_chunk;

	return (x < y) - (x > y);
}

static void *fixed_make(const struct world *w)
{
	struct fixed *p = xcalloc(1, sizeof(*p));
	struct popularity *order = xcalloc(w->n_keys, sizeof(*order));
	uint64_t room = w->capacity;

	p->w = w;
	p->chosen = xcalloc(w->n_keys, sizeof(bool));
	p->fresh = xcalloc(w->n_keys, sizeof(bool));
	for (uint32_t i = 0; i < w->n_ops; i++)
		if (!(w->trace[i] & TRACE_WRITE))
			order[w->trace[i]].per_chunk++;
	for (uint32_t k = 0; k < w->n_keys; k++) {
		order[k].key = k;
		order[k].per_chunk /= w->weight[k];
	}
	qsort(order, w->n_keys, sizeof(*order), by_popularity);
	for (uint32_t k = 0; k < w->n_keys && room >= w->weight[order[k].key]; k++) {
		p->chosen[order[k].key] = true;
		room -= w->weight[order[k].key];
	}
	free(order);
	return p;
}

static bool fixed_read(void *ctx, uint32_t i)
{
	struct fixed *p = ctx;
	uint32_t key = p->w->trace[i];
	bool found = p->fresh[key];

	p->fresh[key] = p->chosen[key];
	return found;
}

static void fixed_write(void *ctx, uint32_t i)
{
	struct fixed *p = ctx;

	p->fresh[p->w->trace[i] & ~TRACE_WRITE] = false;
}

static void fixed_fini(void *ctx)
{
	struct fixed *p = ctx;

	free(p->chosen);
	free(p->fresh);
	free(p);
}

const struct policy policy_static = {"static optimum", fixed_make, fixed_read, fixed_write, fixed_fini};

/* ---- Belady: who is asked for last leaves first; who is overwritten before it is read leaves at once ---- */

struct next_use {
	uint32_t when, key;
};

struct belady {
	const struct world *w;
	uint32_t *next;	       /* of each operation: when its key is read next; NONE: never, or it is written before */
	uint32_t *kept;	       /* of each key: its next use while it is there; else NONE */
	struct next_use *heap; /* the farthest first; entries that `kept` knows nothing of are old */
	size_t n;
	uint64_t weight;
};

static void *belady_make(const struct world *w)
{
	struct belady *p = xcalloc(1, sizeof(*p));
	uint32_t *seen = xcalloc(w->n_keys, sizeof(uint32_t));

	p->w = w;
	p->next = xcalloc(w->n_ops, sizeof(uint32_t));
	p->kept = xcalloc(w->n_keys, sizeof(uint32_t));
	p->heap = xcalloc((size_t)w->n_ops + 1, sizeof(*p->heap));
	memset(seen, 0xff, w->n_keys * sizeof(uint32_t));
	memset(p->kept, 0xff, w->n_keys * sizeof(uint32_t));
	for (uint32_t i = w->n_ops; i-- > 0;) {
		uint32_t key = w->trace[i] & ~TRACE_WRITE;

		p->next[i] = seen[key];
		seen[key] = w->trace[i] & TRACE_WRITE ? NONE : i;
	}
	free(seen);
	return p;
}

static void heap_push(struct belady *p, struct next_use x)
{
	size_t at = p->n++;

	for (; at > 0 && p->heap[(at - 1) / 2].when < x.when; at = (at - 1) / 2)
		p->heap[at] = p->heap[(at - 1) / 2];
	p->heap[at] = x;
}

static struct next_use heap_pop(struct belady *p)
{
	struct next_use top = p->heap[0], x = p->heap[--p->n];
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < p->n && p->heap[child + 1].when > p->heap[child].when)
			child++;
		if (child >= p->n || p->heap[child].when <= x.when)
			break;
		p->heap[at] = p->heap[child];
		at = child;
	}
	p->heap[at] = x;
	return top;
}

static bool belady_read(void *ctx, uint32_t i)
{
	struct belady *p = ctx;
	uint32_t key = p->w->trace[i];
	bool found = p->kept[key] != NONE;

	if (found)
		p->weight -= p->w->weight[key];
	p->kept[key] = p->next[i];
	if (p->next[i] == NONE)
		return found;
	p->weight += p->w->weight[key];
	heap_push(p, (struct next_use){p->next[i], key});
	while (p->weight > p->w->capacity) {
		struct next_use farthest = heap_pop(p);

		if (p->kept[farthest.key] != farthest.when)
			continue;
		p->kept[farthest.key] = NONE;
		p->weight -= p->w->weight[farthest.key];
	}
	return found;
}

static void belady_write(void *ctx, uint32_t i)
{
	(void)ctx;
	(void)i;
}

static void belady_fini(void *ctx)
{
	struct belady *p = ctx;

	free(p->next);
	free(p->kept);
	free(p->heap);
	free(p);
}

const struct policy policy_belady = {"Belady", belady_make, belady_read, belady_write, belady_fini};
