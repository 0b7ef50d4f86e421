/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses as text: see address.h. */
#include "config/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <sys/un.h>

static const char not_address[] =
	"is not an address to listen on: \"127.0.0.1:6380\", \"[::1]:6380\", \"localhost:6380\", \"unix:/path\" "
	"or \"tls:127.0.0.1:6381\"";

static const char *parse_unix(const char *path, struct listen_address *out)
{
	if (path[0] != '/')
		return "must have an absolute path: \"unix:/path\"";
	if (!path[1])
		return "must have the path of a socket: \"unix:/path\"";
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return "has a path that is too long for a Unix socket (107 bytes)";
	out->family = AF_UNIX;
	out->path = path;
	return NULL;
}

/* The port behind the last colon; -1 when there is none. */
static int parse_port(const char *s)
{
	int port = 0;

	if (!*s || strlen(s) > 5)
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		port = port * 10 + (*s - '0');
	}
	return port >= 1 && port <= 65535 ? port : -1;
}

static const char *parse_host(const char *s, size_t len, struct listen_address *out)
{
	char host[INET6_ADDRSTRLEN];
	bool brackets = len >= 2 && s[0] == '[' && s[len - 1] == ']';

	if (len == 9 && memcmp(s, "localhost", 9) == 0) {
		s = "127.0.0.1";
	} else if (brackets) {
		s++;
		len -= 2;
	}
	if (len == 0 || len >= sizeof(host))
		return not_address;
	memcpy(host, s, len);
	host[len] = '\0';
	if (brackets && inet_pton(AF_INET6, host, out->ip) == 1) {
		out->family = AF_INET6;
		return NULL;
	}
	if (!brackets && inet_pton(AF_INET, host, out->ip) == 1) {
		out->family = AF_INET;
		return NULL;
	}
	if (!brackets && inet_pton(AF_INET6, host, out->ip) == 1)
		return "must have its IPv6 address in brackets: \"[::1]:6380\"";
	return not_address;
}

const char *listen_address_parse(const char *text, struct listen_address *out)
{
	struct in_addr alone;
	const char *colon;

	*out = (struct listen_address){.tls = strncmp(text, "tls:", 4) == 0};
	if (out->tls)
		text += 4;
	if (strncmp(text, "unix:", 5) == 0)
		return out->tls ? "must have a host and a port: TLS is for TCP" : parse_unix(text + 5, out);
	if (text[0] == '/')
		return "is a path; a Unix socket is written \"unix:/path\"";
	if (inet_pton(AF_INET, text, &alone) == 1)
		return "must have a port: \"127.0.0.1:6380\"";
	colon = strrchr(text, ':');
	if (!colon)
		return not_address;
	out->port = parse_port(colon + 1);
	if (out->port < 0)
		return "must end in a port from 1 to 65535";
	return parse_host(text, (size_t)(colon - text), out);
}

bool listen_address_is_loopback(const struct listen_address *a)
{
	static const unsigned char one[16] = {[15] = 1};
	static const unsigned char mapped[13] = {[10] = 0xff, [11] = 0xff, [12] = 127}; /* ::ffff:127.x.y.z */

	if (a->family == AF_INET)
		return a->ip[0] == 127;
	if (a->family == AF_INET6)
		return memcmp(a->ip, one, 16) == 0 || memcmp(a->ip, mapped, 13) == 0;
	return true;
}

bool listen_address_same(const struct listen_address *a, const struct listen_address *b)
{
	if (a->family != b->family)
		return false;
	if (a->family == AF_UNIX)
		return strcmp(a->path, b->path) == 0;
	return a->port == b->port && memcmp(a->ip, b->ip, a->family == AF_INET ? 4 : 16) == 0;
}

/* The end of the host: the colon of the port, or the end of the text. */
static const char *node_host_end(const char *text)
{
	const char *bracket = *text == '[' ? strchr(text, ']') : NULL;

	return bracket ? bracket + 1 : text + strcspn(text, ":");
}

bool node_address_fits(const char *text)
{
	const char *end = node_host_end(text);
	size_t len = (size_t)(end - text);
	unsigned char ip[16];
	char v6[INET6_ADDRSTRLEN];

	if (len == 0 || len > 255 || (*end && (*end != ':' || parse_port(end + 1) < 0)))
		return false;
	if (*text == '[') {
		if (len < 2 || len - 2 >= sizeof(v6))
			return false;
		memcpy(v6, text + 1, len - 2);
		v6[len - 2] = '\0';
		return inet_pton(AF_INET6, v6, ip) == 1;
	}
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)text[i]) && !strchr("-._", text[i]))
			return false;
	}
	return true;
}

bool node_address_has_port(const char *text)
{
	return *node_host_end(text) == ':';
}
