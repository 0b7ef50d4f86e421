/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ends of epochs: see truth.h. They change together with the epoch, under the lock: one who ends an epoch because a
 * link was lost must not write over the word of another, who has just ended it for good. Readers take no lock: an end
 * is there before its epoch is over.
 */
#include "upstream/truth.h"

/* An epoch in which nothing was ever confirmed takes no place: a link that comes and goes would push out the others. */
static void keep_end(struct truth *t, unsigned epoch, int64_t us)
{
	unsigned i = t->n_ends++ % TRUTH_ENDS;

	atomic_store(&t->ends[i].epoch, 0); /* whoever reads it now finds that it is another, or none */
	atomic_store(&t->ends[i].us, us);
	atomic_store(&t->ends[i].epoch, epoch);
}

static void forget_ends(struct truth *t)
{
	for (unsigned i = 0; i < TRUTH_ENDS; i++)
		atomic_store(&t->ends[i].epoch, 0);
}

void truth_end(struct truth *t, bool usable, int64_t now_us)
{
	unsigned epoch;

	lock_take(&t->lock);
	epoch = atomic_load(&t->epoch);
	if (!usable)
		forget_ends(t);
	else if (now_us > 0)
		keep_end(t, epoch, now_us);
	atomic_store(&t->epoch, epoch + 1);
	lock_open(&t->lock);
}

static int64_t ended_us(const struct truth *t, unsigned epoch)
{
	for (unsigned i = 0; i < TRUTH_ENDS; i++) {
		int64_t us;

		if (atomic_load(&t->ends[i].epoch) != epoch)
			continue;
		us = atomic_load(&t->ends[i].us);
		if (atomic_load(&t->ends[i].epoch) == epoch)
			return us;
	}
	return 0;
}

int64_t truth_held_until(const struct truth *t, unsigned epoch, int64_t now_us)
{
	if (epoch != atomic_load(&t->epoch))
		return ended_us(t, epoch);
	return truth_holds(t, now_us) ? now_us : atomic_load(&t->confirmed_us);
}
