/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connected socket, plain or with TLS on it. Plain ones pay a comparison for it. Non-blocking; one thread.
 *
 * TLS holds bytes of its own: what is read is decrypted a record (16 KB) at a time, and what has come may be more than
 * was asked for. No event tells of that: after each read transport_has_more() must be asked, and reading go on soon.
 * Writing gathers many small pieces into one record.
 */
#ifndef KEYWEIR_TRANSPORT_H
#define KEYWEIR_TRANSPORT_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/list.h"
#include "base/outq.h"
#include "net/tls.h"

#define TLS_RECORD_BYTES 16384 /* RFC 8446, 5.1: the most one record holds */

/* The TLS on a socket. */
struct tls_conn {
	SSL *ssl;
	struct list turn; /* in a worker's list: of handshakes, or of what must be read on without an event */
	void (*on_turn)(void *owner);
	void *owner;
	char *why;	  /* what broke it; NULL: nothing yet */
	uint16_t refused; /* bytes of a record that the socket did not take: the next write begins with them */
	bool established;
	bool heard;	       /* something was read */
	bool ended;	       /* the other side has closed it */
	bool drained;	       /* the last read found less than a record */
	bool read_wants_write; /* reading goes on when the socket is writable */
};

struct transport {
	int fd;		      /* -1: none */
	struct tls_conn *tls; /* NULL: plain */
};

enum handshake_state { HANDSHAKE_DONE, HANDSHAKE_READ, HANDSHAKE_WRITE, HANDSHAKE_FAILED };

/*
 * Puts TLS on a fresh connection, as its server or as a client of host (a name or an address), whose last session is
 * in memory (which must outlive it). on_turn(owner) is for who runs the lists. False: transport_why().
 */
bool transport_accept_tls(struct transport *t, struct tls *tls, void (*on_turn)(void *owner), void *owner);
bool transport_connect_tls(struct transport *t, struct tls *tls, const char *host, struct tls_memory *memory,
			   void (*on_turn)(void *owner), void *owner);

/* The next step; what it waits for. */
enum handshake_state transport_handshake(struct transport *t);
bool transport_is_resumed(const struct transport *t);

static inline bool transport_is_established(const struct transport *t)
{
	return !t->tls || t->tls->established;
}

/* As recv(): bytes, 0 at the end, or -1 with errno. */
ssize_t transport_read_tls(struct transport *t, char *p, size_t n);
static inline ssize_t transport_read(struct transport *t, char *p, size_t n)
{
	if (__builtin_expect(t->tls != NULL, 0))
		return transport_read_tls(t, p, n);
	return recv(t->fd, p, n, 0);
}

/* Something can be read though the socket may say nothing. */
bool transport_has_more_tls(const struct transport *t);
static inline bool transport_has_more(const struct transport *t)
{
	return __builtin_expect(t->tls != NULL, 0) && transport_has_more_tls(t);
}

/* Whoever waits in a list for his turn no longer does. */
static inline void transport_leave_turn(struct transport *t)
{
	if (__builtin_expect(t->tls != NULL, 0))
		list_remove(&t->tls->turn);
}

/* As send(). What was refused must be the beginning of the next write: put it into the queue that is flushed. */
ssize_t transport_send_tls(struct transport *t, const char *p, size_t n);
static inline ssize_t transport_send(struct transport *t, const char *p, size_t n)
{
	if (__builtin_expect(t->tls != NULL, 0))
		return transport_send_tls(t, p, n);
	return send(t->fd, p, n, MSG_NOSIGNAL);
}

/* As outq_flush(). */
bool transport_flush_tls(struct transport *t, struct outq *q, size_t *written);
__attribute__((warn_unused_result)) static inline bool transport_flush(struct transport *t, struct outq *q,
								       size_t *written)
{
	if (__builtin_expect(t->tls != NULL, 0))
		return transport_flush_tls(t, q, written);
	return outq_flush(q, t->fd, written);
}

/* Why the last call failed: TLS's own words, or errno's. */
const char *transport_why(const struct transport *t);

/* Says goodbye where it can, and closes the socket. Idempotent. */
void transport_close(struct transport *t);

#endif
