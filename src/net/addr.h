/* SPDX-License-Identifier: BSD-2-Clause */
/* Socket addresses: from configuration text, to text for people, and what kind they are. */
#ifndef KEYWEIR_ADDR_H
#define KEYWEIR_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
	socklen_t len;
	union {
		struct sockaddr sa;
		struct sockaddr_storage storage;
		struct sockaddr_un un;
	};
};

#define ADDRESS_TEXT_MAX 128

/* "127.0.0.1:6380", "[::1]:6380", "localhost:6380", "unix:/path". False when it is none of these. */
bool address_parse(const char *text, struct address *out);

bool address_unix(const char *path, struct address *out); /* false: path too long */

/* "127.0.0.1:6380", "[::1]:6380", "/path:0" as CLIENT LIST has it. */
void address_format(const struct address *a, char out[ADDRESS_TEXT_MAX]);

/* What stands for whoever is at the address: all of IPv4's, of IPv6 the first 64 bits; nothing of a Unix socket. */
#define ADDRESS_SUBJECT_MAX 8
size_t address_subject(const struct address *a, unsigned char out[ADDRESS_SUBJECT_MAX]);

bool address_is_loopback(const struct address *a); /* Unix sockets too */

/* The peer's or (own = true) our own address of a connected socket; a Unix peer has its listener's path. */
bool address_of_socket(int fd, bool own, struct address *out);

#endif
