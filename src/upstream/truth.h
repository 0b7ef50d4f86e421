/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether what a node once said is still true, as far as its tracking link tells (tracker.h): the near-cache serves
 * nothing else. Part of struct node; written by the control thread (epoch by anyone), read by all.
 *
 * Everything that was heard of a node is of an epoch. When all of it may have changed the epoch grows, and what was
 * kept is void without being looked for: the tracking link was lost or came back, FLUSHALL, slots that came or went.
 *
 * The tracking link is asked by PING every TRUTH_BEAT_MS. Redis sends on one connection in order: when the answer is
 * here, so is all that had changed before Redis saw that PING. `confirmed_us` is when the last answered one was sent.
 * What is served is therefore never older than TRUTH_LIMIT_MS, whatever happens to the link.
 */
#ifndef KEYWEIR_TRUTH_H
#define KEYWEIR_TRUTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TRUTH_BEAT_MS  100
#define TRUTH_LIMIT_MS 500
#define TRUTH_ENDS     16

enum tracking_mode {
	TRACKING_OFF,	   /* no namespace wants it */
	TRACKING_LOST,	   /* not there, or not yet */
	TRACKING_BCAST,	   /* RESP3, CLIENT TRACKING ON BCAST PREFIX ... */
	TRACKING_REDIRECT, /* the same over RESP2, by way of a second connection */
	TRACKING_NONE,	   /* the server can't: max_staleness, or nothing */
};

struct truth {
	atomic_uint epoch;		      /* from 1 on */
	atomic_int mode;		      /* enum tracking_mode */
	_Atomic int64_t confirmed_us;	      /* monotonic; 0: nothing is known to be true */
	atomic_bool ping_wanted;	      /* somebody waits for a confirmation: the next PING comes at once */
	_Atomic int64_t ended_us[TRUTH_ENDS]; /* when epoch e ended, at e % TRUTH_ENDS; 0: it is of no use at all */
};

static inline void truth_init(struct truth *t)
{
	*t = (struct truth){0};
	atomic_init(&t->epoch, 1);
}

/* Whether what is of this epoch may be served now. */
static inline bool truth_holds(const struct truth *t, int64_t now_us)
{
	return now_us - atomic_load_explicit(&t->confirmed_us, memory_order_acquire) < TRUTH_LIMIT_MS * 1000;
}

/*
 * Ends the epoch: nothing heard before counts. usable: it was true up to now (a lost link), so that it may still do
 * for stale_if_error; else it is plainly wrong (FLUSHALL).
 */
static inline void truth_end(struct truth *t, bool usable, int64_t now_us)
{
	unsigned epoch = atomic_load(&t->epoch);

	do
		atomic_store(&t->ended_us[epoch % TRUTH_ENDS], usable ? now_us : 0);
	while (!atomic_compare_exchange_weak(&t->epoch, &epoch, epoch + 1));
	for (unsigned i = 0; !usable && i < TRUTH_ENDS; i++)
		if (i != (epoch + 1) % TRUTH_ENDS)
			atomic_store(&t->ended_us[i], 0);
}

/* Until when what is of `epoch` was true; now_us for the present one while it holds; 0: not known. */
static inline int64_t truth_held_until(const struct truth *t, unsigned epoch, int64_t now_us)
{
	unsigned present = atomic_load(&t->epoch);

	if (epoch == present)
		return truth_holds(t, now_us) ? now_us : atomic_load(&t->confirmed_us);
	if (present - epoch >= TRUTH_ENDS)
		return 0;
	return atomic_load(&t->ended_us[epoch % TRUTH_ENDS]);
}

#endif
