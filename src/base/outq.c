/* SPDX-License-Identifier: BSD-2-Clause */
/* Output queue: see outq.h. */
#include "base/outq.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/mem.h"

#define IOV_BATCH  64
#define CHUNK_ROOM (CHUNK_BYTES - sizeof(struct chunk))

void chunk_pool_init(struct chunk_pool *pool, unsigned n_free_max)
{
	*pool = (struct chunk_pool){.n_free_max = n_free_max};
}

void chunk_pool_trim(struct chunk_pool *pool, unsigned n)
{
	for (; n > 0 && pool->free; n--) {
		struct chunk *ch = pool->free;

		pool->free = ch->next;
		pool->n_free--;
		free(ch);
	}
}

void chunk_pool_fini(struct chunk_pool *pool)
{
	chunk_pool_trim(pool, pool->n_free);
}

static struct chunk *chunk_get(struct chunk_pool *pool)
{
	struct chunk *ch = pool->free;

	if (ch) {
		pool->free = ch->next;
		pool->n_free--;
	} else {
		ch = xrealloc(NULL, CHUNK_BYTES);
		ch->capacity = CHUNK_ROOM;
	}
	ch->next = NULL;
	ch->ref = NULL;
	ch->data = ch->room;
	ch->start = ch->end = 0;
	return ch;
}

static void chunk_put(struct chunk_pool *pool, struct chunk *ch)
{
	if (ch->ref) {
		rcbuf_unref(ch->ref);
		free(ch);
	} else if (pool->n_free < pool->n_free_max) {
		ch->next = pool->free;
		pool->free = ch;
		pool->n_free++;
	} else {
		free(ch);
	}
}

void outq_init(struct outq *q, struct chunk_pool *pool, bool keep)
{
	*q = (struct outq){.pool = pool, .keep = keep};
}

static void free_chain(struct outq *q, struct chunk *ch)
{
	while (ch) {
		struct chunk *next = ch->next;

		chunk_put(q->pool, ch);
		ch = next;
	}
}

void outq_clear(struct outq *q)
{
	free_chain(q, q->head);
	free_chain(q, q->sent);
	q->head = q->tail = q->sent = q->sent_tail = NULL;
	q->bytes = 0;
}

static void push_chunk(struct outq *q, struct chunk *ch)
{
	ch->pos = q->end_pos;
	if (q->tail)
		q->tail->next = ch;
	else
		q->head = ch;
	q->tail = ch;
}

void outq_append_slow(struct outq *q, const char *p, size_t n)
{
	while (n > 0) {
		struct chunk *tail = q->tail;
		size_t room = tail ? tail->capacity - tail->end : 0;

		if (room == 0) {
			push_chunk(q, chunk_get(q->pool));
			continue;
		}
		if (room > n)
			room = n;
		memcpy(tail->data + tail->end, p, room);
		tail->end += room;
		q->end_pos += room;
		q->bytes += room;
		p += room;
		n -= room;
	}
}

void outq_append_ref(struct outq *q, struct rcbuf *rb, size_t skip)
{
	struct chunk *ch = xcalloc(1, sizeof(*ch));

	assert(skip <= rb->len);
	ch->ref = rcbuf_ref(rb);
	ch->data = rb->data + skip;
	ch->end = ch->capacity = rb->len - skip;
	push_chunk(q, ch);
	q->end_pos += ch->end;
	q->bytes += ch->end;
}

/* Full chunks go back to the pool or to `sent`. */
void outq_advance(struct outq *q, size_t n)
{
	q->bytes -= n;
	while (q->head) {
		struct chunk *ch = q->head;
		size_t left = ch->end - ch->start;

		if (n < left) {
			ch->start += n;
			return;
		}
		n -= left;
		ch->start = ch->end;
		q->head = ch->next;
		if (!q->head)
			q->tail = NULL;
		ch->next = NULL;
		if (!q->keep) {
			chunk_put(q->pool, ch);
			continue;
		}
		if (q->sent_tail)
			q->sent_tail->next = ch;
		else
			q->sent = ch;
		q->sent_tail = ch;
	}
}

size_t outq_front(const struct outq *q, size_t least, size_t most, char *room, const char **out)
{
	const struct chunk *ch = q->head;
	size_t n = ch->end - ch->start;

	*out = ch->data + ch->start;
	if (n >= most || !ch->next || (n >= most / 2 && n >= least))
		return n < most ? n : most;
	*out = room;
	n = 0;
	for (; ch && n < most; ch = ch->next) {
		size_t take = ch->end - ch->start;

		if (take > most - n)
			take = most - n;
		memcpy(room + n, ch->data + ch->start, take);
		n += take;
	}
	return n;
}

bool outq_flush(struct outq *q, int fd, size_t *written)
{
	while (q->bytes > 0) {
		struct iovec iov[IOV_BATCH];
		struct msghdr msg = {.msg_iov = iov};
		size_t total = 0;
		ssize_t n;

		for (struct chunk *ch = q->head; ch && msg.msg_iovlen < IOV_BATCH; ch = ch->next) {
			iov[msg.msg_iovlen].iov_base = ch->data + ch->start;
			iov[msg.msg_iovlen++].iov_len = ch->end - ch->start;
			total += ch->end - ch->start;
		}
		n = msg.msg_iovlen == 1 ? send(fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
					: sendmsg(fd, &msg, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN || errno == EWOULDBLOCK;
		}
		*written += (size_t)n;
		outq_advance(q, (size_t)n);
		if ((size_t)n < total)
			return true;
	}
	return true;
}

void outq_forget(struct outq *q, uint64_t pos)
{
	while (q->sent && q->sent->pos + q->sent->end <= pos) {
		struct chunk *ch = q->sent;

		q->sent = ch->next;
		if (!q->sent)
			q->sent_tail = NULL;
		chunk_put(q->pool, ch);
	}
}

bool outq_peek(const struct outq *q, uint64_t pos, size_t len, struct buf *out)
{
	const struct chunk *chains[2] = {q->sent, q->head};

	for (int i = 0; i < 2; i++) {
		for (const struct chunk *ch = chains[i]; ch && len > 0; ch = ch->next) {
			size_t skip, n;

			if (pos < ch->pos)
				return false;
			if (pos >= ch->pos + ch->end)
				continue;
			skip = (size_t)(pos - ch->pos);
			n = ch->end - skip;
			if (n > len)
				n = len;
			if (!buf_append(out, ch->data + skip, n))
				return false;
			pos += n;
			len -= n;
		}
	}
	return len == 0;
}
