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

#include "base/lock.h"

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
	atomic_uint epoch; /* from 1 on */
	/*
	 * enum tracking_mode. Workers ask only whether it is NONE. It is stored before the first confirmation in that
	 * mode: whoever sees truth_holds() and then reads it knows by what the truth is told.
	 */
	atomic_int mode;
	_Atomic int64_t confirmed_us; /* monotonic; 0: nothing is known to be true */
	atomic_bool ping_wanted;      /* somebody waits for a confirmation: the next PING comes at once */
	struct lock lock;	      /* for who ends an epoch; readers do without */
	unsigned n_ends;
	struct {
		atomic_uint epoch; /* 0: none */
		_Atomic int64_t us;
	} ends[TRUTH_ENDS]; /* a ring: until when the last of the epochs in which something was true was so */
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
 * Ends the epoch: nothing heard before counts. usable: it was true up to now_us (a lost link), so that it may still do
 * for stale_if_error; else it is plainly wrong, and so is all that came before (FLUSHALL). Any thread.
 */
void truth_end(struct truth *t, bool usable, int64_t now_us);

/* Until when what is of `epoch` was true; now_us for the present one while it holds; 0: not known. */
int64_t truth_held_until(const struct truth *t, unsigned epoch, int64_t now_us);

#endif
