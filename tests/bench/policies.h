/* SPDX-License-Identifier: BSD-2-Clause */
/* Ways to decide what a cache keeps, to hold our own against: textbook forms, slow and plain. For hit_rate.c. */
#ifndef KEYWEIR_BENCH_POLICIES_H
#define KEYWEIR_BENCH_POLICIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_WRITE 0x80000000U /* the operation writes, else it reads */

/* What happens, and how much room there is for it. */
struct world {
	const char *name;
	uint32_t n_keys;
	const uint32_t *weight; /* of each key, in chunks */
	uint64_t capacity;	/* in chunks */
	uint32_t n_ops;
	uint32_t *trace; /* keys, and TRACE_WRITE */
};

/* A read brings the key in, if it was not there; a write makes what is kept of it useless. */
struct policy {
	const char *name;
	void *(*make)(const struct world *w);
	bool (*read)(void *p, uint32_t i); /* the operation's place in the trace; whether it was there */
	void (*write)(void *p, uint32_t i);
	void (*fini)(void *p);
};

extern const struct policy policy_lru, policy_tinylfu, policy_s3fifo, policy_static, policy_belady, policy_store;

#endif
