/* SPDX-License-Identifier: BSD-2-Clause */
/* Contexts of TLS connections: see tls.h. */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static bool given(const char *name)
{
	return name && *name;
}

/* ---- what the files held ---- */

static bool digest_file(EVP_MD_CTX *md, const char *name, char *why, size_t why_size)
{
	char piece[4096];
	size_t n;
	FILE *file;
	bool ok;

	EVP_DigestUpdate(md, "", 1); /* what moves from one file to the next is another content */
	if (!given(name))
		return true;
	file = fopen(name, "re");
	if (!file) {
		snprintf(why, why_size, "%s: %s", name, strerror(errno));
		return false;
	}
	while ((n = fread(piece, 1, sizeof(piece), file)) > 0)
		EVP_DigestUpdate(md, piece, n);
	ok = !ferror(file);
	if (!ok)
		snprintf(why, why_size, "%s: %s", name, strerror(errno));
	explicit_bzero(piece, sizeof(piece)); /* a private key was in it */
	fclose(file);
	return ok;
}

static bool digest_files(struct tls *t, const struct tls_files *files, char *why, size_t why_size)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && digest_file(md, files->cert, why, why_size) &&
		  digest_file(md, files->key, why, why_size) && digest_file(md, files->ca, why, why_size) &&
		  EVP_DigestFinal_ex(md, t->digest, NULL) == 1;

	EVP_MD_CTX_free(md);
	return ok;
}

/* ---- building ---- */

/* Without this OpenSSL would ask on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static bool failed(const char *what, const char *file, char *why, size_t why_size)
{
	char text[160];

	tls_why(NULL, 0, text, sizeof(text));
	snprintf(why, why_size, "%s%s: %s", what, file, text);
	return false;
}

static bool load_own(SSL_CTX *ctx, const struct tls_files *files, char *why, size_t why_size)
{
	if (!given(files->cert))
		return true;
	if (SSL_CTX_use_certificate_chain_file(ctx, files->cert) != 1)
		return failed("certificate ", files->cert, why, why_size);
	if (SSL_CTX_use_PrivateKey_file(ctx, given(files->key) ? files->key : files->cert, SSL_FILETYPE_PEM) != 1)
		return failed("private key ", given(files->key) ? files->key : files->cert, why, why_size);
	return true;
}

/*
 * TLS 1.2 and 1.3; no renegotiation and no compression (RFC 9325, 3.1, 3.3 and 3.5). A peer that ends the connection
 * without a close_notify has ended it all the same: RESP says itself where a message ends, so a cut one is never taken
 * for whole. Records are read with what comes behind them in one read(). An idle connection keeps no buffers.
 * No kTLS (SSL_OP_ENABLE_KTLS): that it helps could not be shown, for want of a kernel that has it.
 */
static struct tls *new_tls(const SSL_METHOD *method, const struct tls_files *files, char *why, size_t why_size)
{
	struct tls *t = xcalloc(1, sizeof(*t));

	if (!digest_files(t, files, why, why_size)) {
		tls_free(&t);
		return NULL;
	}
	t->ctx = SSL_CTX_new(method);
	if (!t->ctx || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1) {
		failed("OpenSSL", "", why, why_size);
		tls_free(&t);
		return NULL;
	}
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(t->ctx, 1);
	SSL_CTX_set_default_passwd_cb(t->ctx, no_passphrase);
	return t;
}

/* Certificates to be trusted, and CRLs: OpenSSL looks at them only when told to, and misses those that are not there.
 */
static bool load_trusted(SSL_CTX *ctx, const char *ca)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	STACK_OF(X509_OBJECT) * objects;

	if (SSL_CTX_load_verify_file(ctx, ca) != 1)
		return false;
	objects = X509_STORE_get0_objects(store);
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
		if (X509_OBJECT_get_type(sk_X509_OBJECT_value(objects, i)) == X509_LU_CRL)
			X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	return true;
}

/* ---- server ---- */

static bool ask_for_certificates(SSL_CTX *ctx, const char *ca, enum tls_client_cert want, char *why, size_t why_size)
{
	STACK_OF(X509_NAME) * names;

	if (want == TLS_CLIENT_CERT_NONE)
		return true;
	names = SSL_load_client_CA_file(ca);
	if (!names)
		return failed("CA of clients ", ca, why, why_size);
	SSL_CTX_set_client_CA_list(ctx, names); /* its now */
	if (!load_trusted(ctx, ca))
		return failed("CA of clients ", ca, why, why_size);
	SSL_CTX_set_verify(ctx,
			   want == TLS_CLIENT_CERT_REQUIRED ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
							    : SSL_VERIFY_PEER,
			   NULL);
	return true;
}

/*
 * Sessions are resumed by tickets, whose key is the context's own: after a reload of certificates everybody shows his
 * anew. Nothing is remembered here.
 */
struct tls *tls_server_new(const struct tls_files *files, enum tls_client_cert want, char *why, size_t why_size)
{
	static const unsigned char id[] = "keyweir";
	struct tls *t = new_tls(TLS_server_method(), files, why, why_size);

	if (!t)
		return NULL;
	SSL_CTX_set_options(t->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_id_context(t->ctx, id, sizeof(id) - 1);
	if (!load_own(t->ctx, files, why, why_size) || !ask_for_certificates(t->ctx, files->ca, want, why, why_size))
		tls_free(&t);
	return t;
}

/* ---- client ---- */

/* A session (TLS 1.3: a ticket, which comes after the handshake) to be resumed. The reference is ours. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_memory *m = SSL_get_app_data(ssl);
	SSL_SESSION *old;

	if (!m || !SSL_SESSION_is_resumable(session))
		return 0;
	pthread_mutex_lock(&m->lock);
	old = m->last;
	m->last = session;
	pthread_mutex_unlock(&m->lock);
	SSL_SESSION_free(old);
	return 1;
}

/* Only called when there is none to show. */
static int on_cert_asked(SSL *ssl, X509 **cert, EVP_PKEY **key)
{
	struct tls_memory *m = SSL_get_app_data(ssl);

	(void)cert;
	(void)key;
	if (m)
		atomic_store(&m->cert_asked, true);
	return 0;
}

static bool trust(struct tls *t, const char *ca, char *why, size_t why_size)
{
	if (!t->verify)
		return true;
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	if (given(ca) && !load_trusted(t->ctx, ca))
		return failed("CA ", ca, why, why_size);
	if (!given(ca) && SSL_CTX_set_default_verify_paths(t->ctx) != 1)
		return failed("the system's certificates", "", why, why_size);
	return true;
}

struct tls *tls_client_new(const struct tls_files *files, const char *server_name, bool verify, char *why,
			   size_t why_size)
{
	struct tls *t = new_tls(TLS_client_method(), files, why, why_size);

	if (!t)
		return NULL;
	t->server_name = xstrdup(server_name ? server_name : "");
	t->verify = verify;
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(t->ctx, on_session);
	SSL_CTX_set_client_cert_cb(t->ctx, on_cert_asked);
	if (!load_own(t->ctx, files, why, why_size) || !trust(t, files->ca, why, why_size))
		tls_free(&t);
	return t;
}

void tls_memory_init(struct tls_memory *m)
{
	pthread_mutex_init(&m->lock, NULL);
	m->last = NULL;
	atomic_init(&m->cert_asked, false);
}

void tls_memory_fini(struct tls_memory *m)
{
	SSL_SESSION_free(m->last);
	pthread_mutex_destroy(&m->lock);
}

void tls_memory_forget(struct tls_memory *m)
{
	SSL_SESSION *old;

	pthread_mutex_lock(&m->lock);
	old = m->last;
	m->last = NULL;
	pthread_mutex_unlock(&m->lock);
	SSL_SESSION_free(old);
}

struct ssl_session_st *tls_memory_take(struct tls_memory *m)
{
	SSL_SESSION *copy = NULL;

	pthread_mutex_lock(&m->lock);
	if (m->last)
		copy = SSL_SESSION_dup(m->last);
	pthread_mutex_unlock(&m->lock);
	return copy;
}

/* ---- the end ---- */

void tls_free(struct tls **tp)
{
	struct tls *t = *tp;

	*tp = NULL;
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t->server_name);
	free(t);
}

bool tls_same_content(const struct tls *a, const struct tls *b)
{
	return a == b || (a && b && memcmp(a->digest, b->digest, TLS_DIGEST_BYTES) == 0);
}
