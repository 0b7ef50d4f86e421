/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The addresses of the configuration: what is written right, and which two are the same. Opening them is net/'s
 * business, which reads the same text.
 */
#ifndef KEYWEIR_CONFIG_ADDRESS_H
#define KEYWEIR_CONFIG_ADDRESS_H

#include <stdbool.h>

struct listen_address {
	int family; /* AF_UNIX, AF_INET, AF_INET6 */
	int port;
	unsigned char ip[16];
	const char *path; /* of a Unix socket; inside the text */
	bool tls;	  /* "tls:HOST:PORT" */
};

/* Returns NULL, or the static end of a sentence that begins with the address. */
const char *listen_address_parse(const char *text, struct listen_address *out) __attribute__((warn_unused_result));

bool listen_address_is_loopback(const struct listen_address *a);			  /* Unix sockets too */
bool listen_address_same(const struct listen_address *a, const struct listen_address *b); /* TLS or not */

/* Another machine: "host:port", "[v6]:port", or without the port. */
bool node_address_fits(const char *text);
bool node_address_has_port(const char *text);

#endif
