/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which keys are asked for most (KEYWEIR HOTKEYS): each worker looks at one of 64 commands on average, at a distance
 * that changes by chance, so that no pattern of a pipeline hides from it, and counts their keys (base/top_k.h). A
 * command that is not looked at costs one decrement; in a run not even that, since its loop just ends there.
 */
#ifndef KEYWEIR_HOT_KEYS_H
#define KEYWEIR_HOT_KEYS_H

#include "client/client.h"

#define HOT_KEYS_SHARE 64 /* one of so many */

void hot_keys_init(struct worker *w);
void hot_keys_fini(struct worker *w);

/*
 * Looks at a command; bytes: the request, as the client sent it. first: where its argument 1 lies, when that is here.
 * Returns how far it is to the next one.
 */
uint32_t hot_keys_take(struct client *c, const struct command *cmd, const char *bytes, size_t len,
		       const struct frame_arg *first);

/* A command of the client's was taken. */
static inline void hot_keys_pass_at(struct client *c, const struct command *cmd, const char *bytes, size_t len,
				    const struct frame_arg *first)
{
	if (__builtin_expect(--c->w->hot_left == 0, 0))
		c->w->hot_left = hot_keys_take(c, cmd, bytes, len, first);
}

static inline void hot_keys_pass(struct client *c, const struct command *cmd, const struct request_frame *f,
				 const char *bytes)
{
	hot_keys_pass_at(c, cmd, bytes, f->len, f->n_seen > 1 ? &f->arg[1] : NULL);
}

/*
 * The same for a run, a loop that takes n requests, as many as the client may have on the way: it goes on while
 * n < stop, where stop is what hot_run_stop() said, or then hot_run_on(); and ends with hot_run_end().
 */
static inline uint32_t hot_run_stop(const struct client *c)
{
	uint32_t room = c->window > c->n_upstream ? c->window - c->n_upstream : 0;

	return c->w->hot_left < room ? c->w->hot_left : room;
}

/* n were taken, the last one ends at `end`: it may be one to look at. The next stop. */
uint32_t hot_run_on(struct client *c, const struct command *cmd, uint32_t n, const char *end);

static inline void hot_run_end(struct client *c, const struct command *cmd, uint32_t n, const char *end)
{
	if (__builtin_expect(c->w->hot_left == n, 0))
		hot_run_on(c, cmd, n, end);
	c->w->hot_left -= n;
}

enum verdict hot_keys_tell(struct client *c, const struct call *call); /* KEYWEIR HOTKEYS [COUNT n] */

#endif
