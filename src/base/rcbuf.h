/* SPDX-License-Identifier: BSD-2-Clause */
/* Reference-counted immutable bytes, shared between output queues (and threads): a published message, once for all. */
#ifndef KEYWEIR_RCBUF_H
#define KEYWEIR_RCBUF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct rcbuf {
	atomic_uint refs;
	size_t len;
	char data[];
};

/* A copy of len bytes with one reference; NULL when memory is out. */
static inline struct rcbuf *rcbuf_new(const void *p, size_t len)
{
	struct rcbuf *rb = malloc(sizeof(*rb) + len);

	if (!rb)
		return NULL;
	atomic_init(&rb->refs, 1);
	rb->len = len;
	memcpy(rb->data, p, len);
	return rb;
}

static inline struct rcbuf *rcbuf_ref(struct rcbuf *rb)
{
	atomic_fetch_add_explicit(&rb->refs, 1, memory_order_relaxed);
	return rb;
}

static inline void rcbuf_unref(struct rcbuf *rb)
{
	if (rb && atomic_fetch_sub_explicit(&rb->refs, 1, memory_order_acq_rel) == 1)
		free(rb);
}

#endif
