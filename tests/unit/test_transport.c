/* SPDX-License-Identifier: BSD-2-Clause */
/* TLS on a socket: records, refused writes, what is held back, resumption, names. Both ends are ours. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/transport.h"

static char pem[] = "/tmp/keyweir-unit-XXXXXX";
static struct tls *server_tls, *client_tls;
static struct chunk_pool chunks;

/* Two ends and a wire between them that passes on as much as it is told. */
struct pair {
	struct transport server;
	struct transport client;
	int wire[2];	  /* the other ends of the sockets: [0] the server's, [1] the client's */
	unsigned records; /* from the server, seen on the wire */
	size_t record_left;
	unsigned char header[5];
	unsigned n_header;
};

static void add_name(X509 *cert, const char *name)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name);

	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* A certificate that signed itself, and its key, in one file. */
static void make_certificate(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	FILE *file = fdopen(mkstemp(pem), "w");

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"unit", -1,
				   -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	add_name(cert, "DNS:redis.example,IP:127.0.0.1");
	X509_sign(cert, key, EVP_sha256());
	PEM_write_X509(file, cert);
	PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
	fclose(file);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void setup(void)
{
	struct tls_files files = {pem, pem, pem};
	char why[200] = "";

	make_certificate();
	server_tls = tls_server_new(&files, TLS_CLIENT_CERT_NONE, why, sizeof(why));
	ck_assert_msg(server_tls, "%s", why);
	files.cert = files.key = NULL;
	client_tls = tls_client_new(&files, "", true, why, sizeof(why));
	ck_assert_msg(client_tls, "%s", why);
	chunk_pool_init(&chunks, 64);
}

static void teardown(void)
{
	tls_free(&server_tls);
	tls_free(&client_tls);
	chunk_pool_fini(&chunks);
	unlink(pem);
	strcpy(pem + strlen(pem) - 6, "XXXXXX");
}

/* ---- the wire ---- */

static void count_records(struct pair *p, const unsigned char *data, size_t n)
{
	while (n > 0) {
		size_t skip = p->record_left < n ? p->record_left : n;

		data += skip;
		n -= skip;
		p->record_left -= skip;
		if (n == 0)
			return;
		p->header[p->n_header++] = *data++;
		n--;
		if (p->n_header == 5) {
			p->record_left = (size_t)p->header[3] << 8 | p->header[4];
			p->records += p->header[0] == 23;
			p->n_header = 0;
		}
	}
}

/* Passes at most n bytes from wire[from] to the other side. */
static size_t carry(struct pair *p, int from, size_t n)
{
	unsigned char data[4096];
	size_t carried = 0;

	while (carried < n) {
		size_t want = n - carried < sizeof(data) ? n - carried : sizeof(data);
		ssize_t k = recv(p->wire[from], data, want, 0);

		if (k <= 0)
			break;
		if (from == 0)
			count_records(p, data, (size_t)k);
		ck_assert_int_eq(send(p->wire[1 - from], data, (size_t)k, 0), k);
		carried += (size_t)k;
	}
	return carried;
}

static void open_pair(struct pair *p, const char *host, struct tls_memory *memory)
{
	int a[2], b[2], small = 4096, large = 1 << 20;

	*p = (struct pair){0};
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
	setsockopt(a[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)); /* refuses often */
	setsockopt(b[1], SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
	p->server.fd = a[0];
	p->wire[0] = a[1];
	p->client.fd = b[0];
	p->wire[1] = b[1];
	ck_assert(transport_accept_tls(&p->server, server_tls, NULL, NULL));
	ck_assert(transport_connect_tls(&p->client, client_tls, host, memory, NULL, NULL));
}

static bool shake(struct pair *p)
{
	for (int i = 0; i < 100; i++) {
		if (!p->client.tls->established && transport_handshake(&p->client) == HANDSHAKE_FAILED)
			return false;
		carry(p, 1, SIZE_MAX);
		if (!p->server.tls->established && transport_handshake(&p->server) == HANDSHAKE_FAILED)
			return false;
		carry(p, 0, SIZE_MAX);
		if (p->client.tls->established && p->server.tls->established)
			return true;
	}
	return false;
}

static void close_pair(struct pair *p)
{
	transport_close(&p->client);
	transport_close(&p->server);
	close(p->wire[0]);
	close(p->wire[1]);
}

/* ---- tests ---- */

/* Random pieces, some sent at once as a client's large replies are, through a socket that refuses most of them. */
START_TEST(nothing_is_lost)
{
	enum { TOTAL = 3 << 20 };
	char *text = xcalloc(1, TOTAL + 70000), *seen = xcalloc(1, TOTAL + 70000);
	size_t put = 0, got = 0, written = 0;
	struct tls_memory memory;
	struct outq q;
	struct pair p;

	srand((unsigned)_i);
	for (size_t i = 0; i < TOTAL + 70000; i++)
		text[i] = (char)rand();
	tls_memory_init(&memory);
	open_pair(&p, "127.0.0.1", &memory);
	ck_assert(shake(&p));
	outq_init(&q, &chunks, false);
	while (got < TOTAL) {
		size_t n = (size_t)rand() % (rand() % 3 ? 300 : 70000);
		ssize_t k;

		if (put < TOTAL && q.bytes < 200000) {
			size_t sent = 0;

			if (q.bytes == 0 && n >= 16384) {
				k = transport_send(&p.server, text + put, n);
				ck_assert(k > 0 || errno == EAGAIN);
				sent = k > 0 ? (size_t)k : 0;
			}
			outq_append(&q, text + put + sent, n - sent);
			put += n;
		}
		if (rand() % 2)
			ck_assert(transport_flush(&p.server, &q, &written));
		carry(&p, 0, (size_t)rand() % 30000);
		do {
			k = transport_read(&p.client, seen + got, (size_t)rand() % 40000 + 1);
			ck_assert(k > 0 || (k < 0 && errno == EAGAIN));
			got += k > 0 ? (size_t)k : 0;
		} while (transport_has_more(&p.client));
	}
	ck_assert_mem_eq(text, seen, got);
	outq_clear(&q);
	close_pair(&p);
	tls_memory_fini(&memory);
	free(text);
	free(seen);
}
END_TEST

START_TEST(small_pieces_share_a_record)
{
	struct tls_memory memory;
	struct outq q;
	struct pair p;
	unsigned before;
	size_t written = 0;

	tls_memory_init(&memory);
	open_pair(&p, "127.0.0.1", &memory);
	ck_assert(shake(&p));
	outq_init(&q, &chunks, false);
	for (int i = 0; i < 1000; i++) {
		struct rcbuf *rb = rcbuf_new("+PONG\r\n", 7);

		outq_append_ref(&q, rb, 0);
		rcbuf_unref(rb);
	}
	before = p.records;
	while (q.bytes > 0) {
		ck_assert(transport_flush(&p.server, &q, &written));
		carry(&p, 0, SIZE_MAX);
	}
	carry(&p, 0, SIZE_MAX);
	ck_assert_uint_eq(p.records - before, 1);
	ck_assert_uint_eq(written, 7000);
	close_pair(&p);
	tls_memory_fini(&memory);
}
END_TEST

/* Half a record is nothing that could be read: who is told otherwise would spin. A whole one behind a short read is. */
START_TEST(says_when_there_is_more)
{
	char text[3000] = "x", room[4096];
	struct tls_memory memory;
	struct pair p;

	tls_memory_init(&memory);
	open_pair(&p, "127.0.0.1", &memory);
	ck_assert(shake(&p));
	ck_assert_int_eq(transport_read(&p.client, room, sizeof(room)), -1);
	ck_assert_int_eq(transport_send(&p.server, text, sizeof(text)), sizeof(text));
	ck_assert_int_eq(carry(&p, 0, 1000), 1000);
	ck_assert_int_eq(transport_read(&p.client, room, sizeof(room)), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert(!transport_has_more(&p.client));
	carry(&p, 0, SIZE_MAX);
	ck_assert_int_eq(transport_read(&p.client, room, 100), 100);
	ck_assert(transport_has_more(&p.client));
	ck_assert_int_eq(transport_read(&p.client, room, sizeof(room)), 2900);
	ck_assert(!transport_has_more(&p.client));
	transport_close(&p.server);
	carry(&p, 0, SIZE_MAX);
	ck_assert_int_eq(transport_read(&p.client, room, sizeof(room)), 0);
	close_pair(&p);
	tls_memory_fini(&memory);
}
END_TEST

START_TEST(sessions_are_resumed)
{
	struct tls_memory memory;
	char room[100];

	tls_memory_init(&memory);
	for (int i = 0; i < 3; i++) {
		struct pair p;

		open_pair(&p, "redis.example", &memory);
		ck_assert(shake(&p));
		ck_assert(transport_is_resumed(&p.client) == (i > 0));
		ck_assert(transport_is_resumed(&p.server) == (i > 0));
		carry(&p, 0, SIZE_MAX);
		ck_assert_int_eq(transport_read(&p.client, room, sizeof(room)), -1); /* the ticket */
		close_pair(&p);
	}
	tls_memory_fini(&memory);
}
END_TEST

static const char *const wrong_hosts[][2] = {{"other.example", "hostname mismatch"},
					     {"127.0.0.2", "IP address mismatch"}};

START_TEST(names_are_checked)
{
	struct tls_memory memory;
	struct pair p;

	tls_memory_init(&memory);
	open_pair(&p, wrong_hosts[_i][0], &memory);
	ck_assert(!shake(&p));
	ck_assert_msg(strstr(transport_why(&p.client), wrong_hosts[_i][1]), "%s", transport_why(&p.client));
	close_pair(&p);
	tls_memory_fini(&memory);
}
END_TEST

START_TEST(plain_text_is_no_tls)
{
	struct tls_memory memory;
	struct pair p;

	tls_memory_init(&memory);
	open_pair(&p, "127.0.0.1", &memory);
	ck_assert_int_eq(send(p.wire[0], "*1\r\n$4\r\nPING\r\n", 14, 0), 14);
	ck_assert_int_eq(transport_handshake(&p.server), HANDSHAKE_FAILED);
	ck_assert_str_eq(transport_why(&p.server), "the other side does not speak TLS");
	close_pair(&p);
	tls_memory_fini(&memory);
}
END_TEST

START_TEST(bad_files_are_named)
{
	struct tls_files missing = {"/nowhere/a.crt", "", ""}, nothing = {"/dev/null", "/dev/null", ""};
	char why[200];

	ck_assert(!tls_server_new(&missing, TLS_CLIENT_CERT_NONE, why, sizeof(why)));
	ck_assert_str_eq(why, "/nowhere/a.crt: No such file or directory");
	ck_assert(!tls_server_new(&nothing, TLS_CLIENT_CERT_NONE, why, sizeof(why)));
	ck_assert_msg(strstr(why, "certificate /dev/null: "), "%s", why);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("transport");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, nothing_is_lost, 0, 4);
	tcase_add_test(t, small_pieces_share_a_record);
	tcase_add_test(t, says_when_there_is_more);
	tcase_add_test(t, sessions_are_resumed);
	tcase_add_loop_test(t, names_are_checked, 0, 2);
	tcase_add_test(t, plain_text_is_no_tls);
	tcase_add_test(t, bad_files_are_named);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
