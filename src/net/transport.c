/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS on a socket: see transport.h. OpenSSL's error queue is empty between calls: whoever fails empties it, so nobody
 * else must before.
 */
#include "net/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* Nothing more is possible on it. errno is EPROTO, the words are in why. */
static void broke(struct tls_conn *c, int error)
{
	struct tls_memory *m = c->ssl ? SSL_get_app_data(c->ssl) : NULL;
	bool no_cert = m && !c->heard && atomic_load(&m->cert_asked);
	char text[200];

	tls_why(c->ssl, error, text, sizeof(text));
	if (m && !c->established)
		tls_memory_forget(m);
	if (!c->why)
		c->why = xasprintf("%s%s", text, no_cert ? " (it wants a certificate, and tls.cert is empty)" : "");
	errno = EPROTO;
}

/* ---- handshake ---- */

static bool begin(struct transport *t, struct tls *tls, void (*on_turn)(void *owner), void *owner)
{
	struct tls_conn *c = xcalloc(1, sizeof(*c));

	t->tls = c;
	list_init(&c->turn);
	c->on_turn = on_turn;
	c->owner = owner;
	c->ssl = SSL_new(tls->ctx);
	if (c->ssl && SSL_set_fd(c->ssl, t->fd) == 1)
		return true;
	broke(c, 0);
	return false;
}

bool transport_accept_tls(struct transport *t, struct tls *tls, void (*on_turn)(void *owner), void *owner)
{
	if (!begin(t, tls, on_turn, owner))
		return false;
	SSL_set_accept_state(t->tls->ssl);
	return true;
}

static bool is_ip(const char *host)
{
	struct in6_addr any;

	return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

/* Whom we expect: an address must be in the certificate as such, and is not sent as a name (RFC 6066, 3). */
static bool expect(SSL *ssl, const struct tls *tls, const char *host)
{
	const char *name = *tls->server_name ? tls->server_name : host;

	if (is_ip(name))
		return !tls->verify || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, name) == 1 && (!tls->verify || SSL_set1_host(ssl, name) == 1);
}

bool transport_connect_tls(struct transport *t, struct tls *tls, const char *host, struct tls_memory *memory,
			   void (*on_turn)(void *owner), void *owner)
{
	SSL_SESSION *session;

	if (!begin(t, tls, on_turn, owner))
		return false;
	if (!expect(t->tls->ssl, tls, host)) {
		broke(t->tls, 0);
		return false;
	}
	SSL_set_app_data(t->tls->ssl, memory);
	session = tls_memory_take(memory);
	if (session)
		SSL_set_session(t->tls->ssl, session);
	SSL_SESSION_free(session);
	ERR_clear_error(); /* a session that can't be used is no trouble */
	SSL_set_connect_state(t->tls->ssl);
	return true;
}

enum handshake_state transport_handshake(struct transport *t)
{
	struct tls_conn *c = t->tls;
	int n, error;

	errno = 0;
	n = SSL_do_handshake(c->ssl);
	if (n == 1) {
		c->established = true;
		return HANDSHAKE_DONE;
	}
	error = SSL_get_error(c->ssl, n);
	if (error == SSL_ERROR_WANT_READ)
		return HANDSHAKE_READ;
	if (error == SSL_ERROR_WANT_WRITE)
		return HANDSHAKE_WRITE;
	broke(c, error);
	return HANDSHAKE_FAILED;
}

bool transport_is_resumed(const struct transport *t)
{
	return t->tls && SSL_session_reused(t->tls->ssl) == 1;
}

/* ---- reading ---- */

/* What an SSL_read() that gave nothing means, as recv() would say it. */
static ssize_t read_nothing(struct tls_conn *c, int n)
{
	int error = SSL_get_error(c->ssl, n);

	c->read_wants_write = error == SSL_ERROR_WANT_WRITE;
	switch (error) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		c->drained = true;
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		c->ended = true;
		return 0;
	default:
		broke(c, error);
		return -1;
	}
}

ssize_t transport_read_tls(struct transport *t, char *p, size_t n)
{
	struct tls_conn *c = t->tls;
	size_t got = 0;

	if (c->why) {
		errno = EPROTO;
		return -1;
	}
	c->drained = c->read_wants_write = false;
	do {
		int k;

		errno = 0;
		k = SSL_read(c->ssl, p + got, (int)(n - got));
		if (k <= 0) {
			ssize_t nothing = read_nothing(c, k);

			return got > 0 ? (ssize_t)got : nothing; /* an end is told by the next call */
		}
		got += (size_t)k;
		c->heard = true;
	} while (got < n && SSL_has_pending(c->ssl));
	return (ssize_t)got;
}

bool transport_has_more_tls(const struct transport *t)
{
	const struct tls_conn *c = t->tls;

	return c->ended || c->why || (!c->drained && SSL_has_pending(c->ssl));
}

/* ---- writing ---- */

/*
 * With TLS 1.3 a client is through before the server has looked at his certificate: what refuses him, an alert, may lie
 * unread behind the reset that the write met.
 */
static void write_broke(struct tls_conn *c, int error)
{
	int saved = errno, k;
	char any;

	if (error == SSL_ERROR_SYSCALL && !c->heard) {
		k = SSL_read(c->ssl, &any, 1);
		if (k <= 0 && SSL_get_error(c->ssl, k) == SSL_ERROR_SSL)
			error = SSL_ERROR_SSL;
		errno = saved;
	}
	broke(c, error);
}

/*
 * One record. 0: the socket is full; what was refused is encrypted already, so the next call must come with at least
 * these bytes at its beginning. -1: broken.
 */
static ssize_t write_record(struct tls_conn *c, const char *p, size_t n)
{
	int k, error;

	errno = 0;
	k = SSL_write(c->ssl, p, (int)n);
	if (k > 0) {
		c->refused = 0;
		return k;
	}
	error = SSL_get_error(c->ssl, k);
	if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) {
		c->refused = (uint16_t)n;
		return 0;
	}
	write_broke(c, error);
	return -1;
}

ssize_t transport_send_tls(struct transport *t, const char *p, size_t n)
{
	size_t sent = 0;

	if (t->tls->why) {
		errno = EPROTO;
		return -1;
	}
	while (sent < n) {
		size_t left = n - sent;
		ssize_t k = write_record(t->tls, p + sent, left < TLS_RECORD_BYTES ? left : TLS_RECORD_BYTES);

		if (k < 0)
			return -1;
		if (k == 0)
			break;
		sent += (size_t)k;
	}
	if (sent == 0 && n > 0) {
		errno = EAGAIN;
		return -1;
	}
	return (ssize_t)sent;
}

bool transport_flush_tls(struct transport *t, struct outq *q, size_t *written)
{
	struct tls_conn *c = t->tls;
	char room[TLS_RECORD_BYTES];

	if (c->why) {
		errno = EPROTO;
		return false;
	}
	while (q->bytes > 0) {
		const char *p;
		size_t n = outq_front(q, c->refused, sizeof(room), room, &p);
		ssize_t k = write_record(c, p, n);

		if (k < 0)
			return false;
		if (k == 0)
			return true;
		*written += (size_t)k;
		outq_advance(q, (size_t)k);
	}
	return true;
}

/* ---- the end ---- */

const char *transport_why(const struct transport *t)
{
	return t->tls && t->tls->why ? t->tls->why : strerror(errno);
}

void transport_close(struct transport *t)
{
	struct tls_conn *c = t->tls;

	t->tls = NULL;
	if (c) {
		list_remove(&c->turn);
		/* Not behind half a record, and not when it is broken: SSL_shutdown(3). */
		if (c->ssl && c->established && !c->why && !c->refused) {
			SSL_shutdown(c->ssl);
			ERR_clear_error();
		}
		SSL_free(c->ssl);
		free(c->why);
		free(c);
	}
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}
