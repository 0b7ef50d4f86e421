/* SPDX-License-Identifier: BSD-2-Clause */
/* OpenSSL's errors as a line for people. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pemerr.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

#include "net/tls.h"

/* Of the library's reasons, those that say little to who runs a proxy; NULL: its own words are good. */
static const char *plain_words(unsigned long e)
{
	int reason = ERR_GET_REASON(e);

	if (ERR_GET_LIB(e) == ERR_LIB_PEM && reason == PEM_R_NO_START_LINE)
		return "there is no such thing in PEM in it";
	if (ERR_GET_LIB(e) == ERR_LIB_PEM && (reason == PEM_R_BAD_PASSWORD_READ || reason == PEM_R_BAD_DECRYPT))
		return "it is encrypted: a key without a passphrase is needed";
	if (ERR_GET_LIB(e) == ERR_LIB_X509 && reason == X509_R_KEY_VALUES_MISMATCH)
		return "it does not belong to the certificate";
	if (ERR_GET_LIB(e) != ERR_LIB_SSL)
		return NULL;
	switch (reason) {
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
	case SSL_R_UNEXPECTED_MESSAGE:
		return "the other side does not speak TLS";
	case SSL_R_UNSUPPORTED_PROTOCOL:
		return "unsupported protocol: the other side speaks no TLS 1.2 or 1.3";
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return "the client shows no certificate";
	default:
		return NULL;
	}
}

static void describe(const SSL *ssl, unsigned long e, char *out, size_t size)
{
	const char *words = plain_words(e), *reason = ERR_reason_error_string(e);

	if (ERR_SYSTEM_ERROR(e))
		snprintf(out, size, "%s", strerror(ERR_GET_REASON(e)));
	else if (words)
		snprintf(out, size, "%s", words);
	else if (ssl && ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		snprintf(out, size, "%s: %s", reason, X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
	else if (ssl && ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) > SSL_AD_REASON_OFFSET)
		snprintf(out, size, "refused by the other side: %s", reason);
	else
		snprintf(out, size, "%s", reason ? reason : "unknown error of OpenSSL");
}

void tls_why(const SSL *ssl, int error, char *out, size_t size)
{
	int saved = errno;
	unsigned long e = ERR_peek_error();

	if (e)
		describe(ssl, e, out, size);
	else if (error == SSL_ERROR_SYSCALL && saved != 0)
		snprintf(out, size, "%s", strerror(saved));
	else
		snprintf(out, size, "the connection was closed");
	ERR_clear_error();
}
