/* SPDX-License-Identifier: BSD-2-Clause */
/* A small lock: see lock.h. */
#include "base/lock.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIES 100

static void pause_a_moment(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

void lock_wait(struct lock *l)
{
	for (int i = 0; i < TRIES; i++) {
		unsigned open = 0;

		pause_a_moment();
		if (atomic_load_explicit(&l->state, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_strong_explicit(&l->state, &open, 1, memory_order_acquire,
							    memory_order_relaxed))
			return;
	}
	/* Who wakes takes it with 2, since there may be more who sleep. */
	while (atomic_exchange_explicit(&l->state, 2, memory_order_acquire) != 0)
		syscall(SYS_futex, &l->state, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

void lock_wake(struct lock *l)
{
	syscall(SYS_futex, &l->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
