/* SPDX-License-Identifier: BSD-2-Clause */
/* Socket addresses: see addr.h. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool address_unix(const char *path, struct address *out)
{
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(out->un.sun_path))
		return false;
	memset(out, 0, sizeof(*out));
	out->un.sun_family = AF_UNIX;
	memcpy(out->un.sun_path, path, n + 1);
	out->len = sizeof(out->un);
	return true;
}

static bool set_inet(const char *host, unsigned long port, struct address *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&out->storage;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&out->storage;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		out->len = sizeof(*v4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		out->len = sizeof(*v6);
		return true;
	}
	return false;
}

bool address_parse(const char *text, struct address *out)
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	unsigned long port;
	size_t n;
	char *end;

	if (strncmp(text, "unix:", 5) == 0)
		return address_unix(text + 5, out);
	if (!colon || colon[1] < '0' || colon[1] > '9')
		return false;
	port = strtoul(colon + 1, &end, 10);
	n = (size_t)(colon - text);
	if (*end || port > 65535 || n == 0 || n >= sizeof(host))
		return false;
	if (text[0] == '[' && text[n - 1] == ']') {
		memcpy(host, text + 1, n - 2);
		host[n - 2] = '\0';
	} else {
		memcpy(host, text, n);
		host[n] = '\0';
	}
	return set_inet(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port, out);
}

void address_format(const struct address *a, char out[ADDRESS_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (a->sa.sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&a->storage;

		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
		snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(v4->sin_port));
	} else if (a->sa.sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&a->storage;

		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
		snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", host, ntohs(v6->sin6_port));
	} else {
		snprintf(out, ADDRESS_TEXT_MAX, "%.*s:0", (int)sizeof(a->un.sun_path), a->un.sun_path);
	}
}

size_t address_subject(const struct address *a, unsigned char out[ADDRESS_SUBJECT_MAX])
{
	if (a->sa.sa_family == AF_INET) {
		memcpy(out, &((const struct sockaddr_in *)(const void *)&a->storage)->sin_addr, 4);
		return 4;
	}
	if (a->sa.sa_family == AF_INET6) {
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)&a->storage)->sin6_addr;
		bool v4 = IN6_IS_ADDR_V4MAPPED(v6);

		memcpy(out, v4 ? v6->s6_addr + 12 : v6->s6_addr, v4 ? 4 : 8);
		return v4 ? 4 : 8;
	}
	return 0;
}

bool address_is_loopback(const struct address *a)
{
	if (a->sa.sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&a->storage;

		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	}
	if (a->sa.sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&a->storage;

		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == 127);
	}
	return a->sa.sa_family == AF_UNIX;
}

bool address_of_socket(int fd, bool own, struct address *out)
{
	memset(out, 0, sizeof(*out));
	out->len = sizeof(out->storage);
	if ((own ? getsockname : getpeername)(fd, &out->sa, &out->len) < 0)
		return false;
	if (!own && out->sa.sa_family == AF_UNIX)
		return address_of_socket(fd, true, out);
	return true;
}
