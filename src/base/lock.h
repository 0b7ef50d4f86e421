/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lock for what is held for some dozens of nanoseconds, and taken for each request: a tenth of the instructions of
 * pthread_mutex_lock() and _unlock(). Who finds it taken tries again for a moment, then sleeps (futex).
 * Zeros are an open lock. Any thread of one process.
 */
#ifndef KEYWEIR_LOCK_H
#define KEYWEIR_LOCK_H

#include <stdatomic.h>

struct lock {
	atomic_uint state; /* 0: open; 1: taken; 2: taken, and somebody may sleep */
};

void lock_wait(struct lock *l);
void lock_wake(struct lock *l);

static inline void lock_take(struct lock *l)
{
	unsigned open = 0;

	if (!atomic_compare_exchange_strong_explicit(&l->state, &open, 1, memory_order_acquire, memory_order_relaxed))
		lock_wait(l);
}

static inline void lock_open(struct lock *l)
{
	if (atomic_exchange_explicit(&l->state, 0, memory_order_release) == 2)
		lock_wake(l);
}

#endif
