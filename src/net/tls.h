/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What TLS connections of one kind have in common: our certificate, whom we trust, which versions are spoken. OpenSSL.
 * Never changed once made: a reload makes a new one for connections to come, and those that stand keep theirs.
 * Any thread. SSL_CTX counts its references itself: a struct tls may go while connections made with it stand.
 */
#ifndef KEYWEIR_TLS_H
#define KEYWEIR_TLS_H

#include <openssl/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define TLS_DIGEST_BYTES 32

struct tls {
	SSL_CTX *ctx;
	char *server_name;			/* client: "" for the host that is connected to */
	bool verify;				/* client */
	unsigned char digest[TLS_DIGEST_BYTES]; /* of what the files held */
};

/* PEM files; NULL or "": none. `ca` may hold CRLs too: then every certificate must be on none of its issuer's. */
struct tls_files {
	const char *cert;
	const char *key;
	const char *ca;
};

enum tls_client_cert { TLS_CLIENT_CERT_NONE, TLS_CLIENT_CERT_OPTIONAL, TLS_CLIENT_CERT_REQUIRED };

/* For those who connect to us. NULL with a text in why. */
struct tls *tls_server_new(const struct tls_files *files, enum tls_client_cert want, char *why, size_t why_size);

/* For those whom we connect to; without a `ca` the system's store is trusted. NULL with a text in why. */
struct tls *tls_client_new(const struct tls_files *files, const char *server_name, bool verify, char *why,
			   size_t why_size);

void tls_free(struct tls **t);

/* Whether both read the same from their files; NULLs are the same. */
bool tls_same_content(const struct tls *a, const struct tls *b);

/* What is known of a server: its last session, to be resumed by the next connection to it. Any thread. */
struct tls_memory {
	pthread_mutex_t lock;
	struct ssl_session_st *last; /* SSL_SESSION */
	atomic_bool cert_asked;	     /* it asked for a certificate, and we have none */
};
void tls_memory_init(struct tls_memory *m);
void tls_memory_fini(struct tls_memory *m);
void tls_memory_forget(struct tls_memory *m); /* the session: it may be why a handshake failed */

/* A copy of the session, since a handshake writes into it; or NULL. */
struct ssl_session_st *tls_memory_take(struct tls_memory *m);

/*
 * What went wrong in OpenSSL's last call of this thread, in words; its error queue is empty then. ssl and error (what
 * SSL_get_error() says) may be NULL and 0.
 */
void tls_why(const SSL *ssl, int error, char *out, size_t size);

#endif
