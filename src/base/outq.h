/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Output queue of a connection: a chain of chunks. Small pieces are copied into the last chunk, large shared ones
 * (struct rcbuf) are referenced; writev() takes several chunks at once. Chunks come from the worker's pool, so the
 * steady state calls no malloc; an idle connection owns none.
 *
 *      chunk:   data            data + start       data + end         data + capacity
 *               |  written      |  to write        |  room            |
 *
 * With `keep`, chunks that are written stay in `sent` until outq_forget(): a link keeps the bytes of requests that
 * are not answered yet, for a retry and for the slow log. Stream positions count bytes since the queue's beginning.
 */
#ifndef KEYWEIR_OUTQ_H
#define KEYWEIR_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/rcbuf.h"

#define CHUNK_BYTES 16384 /* of one chunk with its head */

struct chunk {
	struct chunk *next;
	struct rcbuf *ref; /* not NULL: data is the shared buffer's, and the chunk has no room of its own */
	char *data;
	uint64_t pos; /* stream position of data[0] */
	size_t start;
	size_t end;
	size_t capacity;
	char room[];
};

struct chunk_pool {
	struct chunk *free;
	unsigned n_free;
	unsigned n_free_max; /* more than these go back to malloc */
};

struct outq {
	struct chunk_pool *pool;
	struct chunk *head; /* not yet fully written */
	struct chunk *tail;
	struct chunk *sent; /* written and kept, oldest first */
	struct chunk *sent_tail;
	uint64_t end_pos; /* stream position behind the last byte */
	size_t bytes;	  /* not yet written */
	bool keep;
};

void chunk_pool_init(struct chunk_pool *pool, unsigned n_free_max);
void chunk_pool_trim(struct chunk_pool *pool, unsigned n); /* gives n free chunks back to malloc */
void chunk_pool_fini(struct chunk_pool *pool);

void outq_init(struct outq *q, struct chunk_pool *pool, bool keep);
void outq_clear(struct outq *q); /* drops everything, sent or not */

/* Appends a copy of n bytes. */
void outq_append_slow(struct outq *q, const char *p, size_t n);
static inline void outq_append(struct outq *q, const char *p, size_t n)
{
	struct chunk *tail = q->tail;

	if (tail && tail->capacity - tail->end >= n) {
		__builtin_memcpy(tail->data + tail->end, p, n);
		tail->end += n;
		q->end_pos += n;
		q->bytes += n;
		return;
	}
	outq_append_slow(q, p, n);
}

/* Appends rb's bytes from `skip` on by reference (takes its own reference). */
void outq_append_ref(struct outq *q, struct rcbuf *rb, size_t skip);

/*
 * Writes as much as the socket takes. Returns true when everything is written or the socket is full (q->bytes > 0
 * then: wait for it to become writable), false when the connection is broken (errno). *written counts bytes.
 */
bool outq_flush(struct outq *q, int fd, size_t *written) __attribute__((warn_unused_result));

/*
 * The first bytes not yet written, at least `least` of them and at most `most` (fewer only when there are no more):
 * where they lie, when the first chunk has that many or is full enough, else gathered in `room` (of `most` bytes).
 */
size_t outq_front(const struct outq *q, size_t least, size_t most, char *room, const char **out);

/* Takes n bytes off the front: they are written. */
void outq_advance(struct outq *q, size_t n);

/* Lets go of kept chunks that lie wholly before the stream position. */
void outq_forget(struct outq *q, uint64_t pos);

/*
 * Copies the bytes [pos, pos + len) of the stream out of what is kept or not yet written.
 * False when they are not all there any more.
 */
bool outq_peek(const struct outq *q, uint64_t pos, size_t len, struct buf *out) __attribute__((warn_unused_result));

/* Stream position of the first byte that is not written yet. */
static inline uint64_t outq_written_pos(const struct outq *q)
{
	return q->end_pos - q->bytes;
}

#endif
