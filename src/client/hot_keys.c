/* SPDX-License-Identifier: BSD-2-Clause */
/* See hot_keys.h. */
#include "client/hot_keys.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/top_k.h"
#include "client/key_names.h"
#include "client/key_report.h"
#include "policy/rewrite.h"
#include "resp/write.h"

#define HALVE_US	  ((int64_t)30 * 1000 * 1000)
#define HALVES_MAX	  64	  /* after so many nothing is left */
#define SHORTEST_US	  1000000 /* what was counted in less than this says little of a second */
#define SEARCHED_ARGS_MAX 64	  /* of commands whose keys must be searched for */

/*
 * When counts are halved, so is the time in which they were counted: what is left of them stands for what is left of
 * it.
 */
struct hot_keys {
	struct top_k *keys;
	int64_t since_us; /* now less that time */
	int64_t halved_us;
};

/* Evenly from 1 on, HOT_KEYS_SHARE on average. */
static uint32_t next_distance(struct worker *w)
{
	return 1 + (uint32_t)((ttl_random(&w->random) >> 33) * (2 * HOT_KEYS_SHARE - 1) >> 31);
}

void hot_keys_init(struct worker *w)
{
	w->hot_left = next_distance(w);
	w->hot_keys = NULL; /* until the first */
}

void hot_keys_fini(struct worker *w)
{
	if (w->hot_keys)
		top_k_free(&w->hot_keys->keys);
	free(w->hot_keys);
	w->hot_keys = NULL;
}

static struct hot_keys *hot_keys_new(int64_t now_us)
{
	struct hot_keys *h = xcalloc(1, sizeof(*h));

	h->keys = top_k_new();
	h->since_us = h->halved_us = now_us;
	return h;
}

static void halve(struct hot_keys *h, int64_t now_us)
{
	if (now_us - h->halved_us >= HALVES_MAX * HALVE_US) {
		top_k_clear(h->keys);
		h->since_us = h->halved_us = now_us;
	}
	while (now_us - h->halved_us >= HALVE_US) {
		h->halved_us += HALVE_US;
		h->since_us += (h->halved_us - h->since_us) / 2;
		top_k_halve(h->keys);
	}
}

/* ---- taking ---- */

/* Of several keys one by chance stands for all. */
struct choice {
	const struct call *call;
	struct worker *w;
	uint32_t n;
	uint32_t index;
};

static const char *get_arg(void *ctx, uint32_t index, size_t *len)
{
	return call_arg(((struct choice *)ctx)->call, index, len);
}

static void on_key(void *ctx, uint32_t index, unsigned flags)
{
	struct choice *choice = ctx;

	(void)flags;
	choice->n++;
	if (choice->n == 1 || (ttl_random(&choice->w->random) >> 33) % choice->n == 0)
		choice->index = index;
}

static bool is_searched(const struct command *cmd)
{
	for (unsigned i = 0; i < cmd->n_specs; i++)
		if (cmd->specs[i].begin != KEY_BEGIN_INDEX)
			return true;
	return false;
}

static inline void note(struct client *c, const char *key, size_t len, uint32_t n)
{
	struct worker *w = c->w;

	if (!w->hot_keys)
		w->hot_keys = hot_keys_new(w->now_us);
	if (w->now_us - w->hot_keys->halved_us >= HALVE_US)
		halve(w->hot_keys, w->now_us);
	top_k_add(w->hot_keys->keys, c->view.bound ? key_owner(c) : KEY_OWNER_PLAIN, key, len, n);
}

static __attribute__((noinline)) void note_one_of_several(struct client *c, const struct command *cmd,
							  const char *bytes, size_t len)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct call call = {.cmd = cmd, .frame = &f, .bytes = bytes, .len = len};
	struct choice choice = {.call = &call, .w = c->w};
	const char *key;
	size_t key_len;

	request_frame_feed(&f, bytes, len);
	if (is_searched(cmd) && f.argc > SEARCHED_ARGS_MAX)
		return;
	if (command_keys(cmd, f.argc, get_arg, on_key, &choice) < 1)
		return;
	key = call_arg(&call, choice.index, &key_len);
	if (key) /* of a large request only the head is here */
		note(c, key, key_len, choice.n);
}

uint32_t hot_keys_take(struct client *c, const struct command *cmd, const char *bytes, size_t len,
		       const struct frame_arg *first)
{
	if (command_has_tokens(cmd)) /* which nobody may read out of it */
		return next_distance(c->w);
	/* Most have their one key there. */
	if (first && command_has_one_place(cmd) && cmd->specs->begin_index == 1 && !(cmd->specs->flags & KEY_NOT_KEY)) {
		if ((size_t)first->offset + first->len <= len)
			note(c, bytes + first->offset, first->len, 1);
	} else if (cmd->n_specs > 0) {
		note_one_of_several(c, cmd, bytes, len);
	}
	return next_distance(c->w);
}

uint32_t hot_run_on(struct client *c, const struct command *cmd, uint32_t n, const char *end)
{
	bool has_args = cmd->arity < -1 || cmd->arity > 1;

	/* The frame has let go of the last request, but still knows where its arguments were. */
	if (n == c->w->hot_left)
		c->w->hot_left +=
			hot_keys_take(c, cmd, end - c->call_len, c->call_len, has_args ? &c->frame.arg[1] : NULL);
	return hot_run_stop(c);
}

/* ---- KEYWEIR HOTKEYS ---- */

static double rate_of(const struct hot_keys *h, uint64_t count, int64_t now_us)
{
	int64_t us = now_us - h->since_us;

	return (double)count * HOT_KEYS_SHARE * 1e6 / (double)(us > SHORTEST_US ? us : SHORTEST_US);
}

static void collect(struct worker *w, struct key_report *report)
{
	struct hot_keys *h = w->hot_keys;
	int64_t now_us = clock_now_us();

	if (!h)
		return;
	halve(h, now_us);
	report->all += rate_of(h, top_k_total(h->keys), now_us);
	for (size_t i = 0; i < top_k_size(h->keys); i++) {
		const struct top_k_key *k = top_k_at(h->keys, i);
		size_t kept = k->len < TOP_K_KEY_BYTES ? k->len : TOP_K_KEY_BYTES;
		struct key_row *row = key_report_add(report, &(struct seen_key){k->owner, false, k->key, kept, k->len});

		if (row)
			row->weight = rate_of(h, k->count, now_us);
	}
}

static void merge(struct key_row *into, const struct key_row *other)
{
	into->weight += other->weight;
}

static void put(const struct key_report *report, const struct key_row *row, struct buf *b)
{
	char share[16];

	snprintf(share, sizeof(share), "%.2f", report->all > 0 ? 100 * row->weight / report->all : 0.0);
	resp_array(b, 3);
	resp_bulk(b, row->name, row->len);
	resp_int(b, (int64_t)(row->weight + 0.5));
	resp_bulks(b, share);
}

enum verdict hot_keys_tell(struct client *c, const struct call *call)
{
	static const struct key_report_kind kind = {collect, merge, put};

	return key_report_tell(c, call, &kind);
}
