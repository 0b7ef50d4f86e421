/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * URLs of a Redis, taken apart and put together again without the password.
 *
 *   redis://[[user]:password@][host][:port][/db]      also valkey://; ?db=N instead of /N
 *   rediss://...                                      the same with TLS; also valkeys://
 *   unix://[[user]:password@]/path[?db=N]             also unix:/path
 *
 * After the registrations of the "redis" scheme at IANA and what redis-cli, redis-py and redis-rb take. No message
 * has a part of the URL in it, for there may be a secret in any.
 */
#include "config/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "base/mem.h"
#include "config/text.h"

#define REDIS_PORT 6379

struct span {
	const char *s;
	size_t len;
};

static bool has_prefix(const char *s, const char *prefix)
{
	return strncasecmp(s, prefix, strlen(prefix)) == 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Replaces %XX. *out is NULL for nothing. */
static const char *decode(struct span in, char **out)
{
	size_t n = 0;
	char *s;

	*out = NULL;
	if (in.len == 0)
		return NULL;
	s = xcalloc(1, in.len + 1);
	for (size_t i = 0; i < in.len; i++) {
		int high, low;

		if (in.s[i] != '%') {
			s[n++] = in.s[i];
			continue;
		}
		high = i + 2 < in.len ? hex_digit(in.s[i + 1]) : -1;
		low = high >= 0 ? hex_digit(in.s[i + 2]) : -1;
		if (low < 0 || high + low == 0) {
			sodium_memzero(s, in.len);
			free(s);
			return low < 0 ? "has a % without two hexadecimal digits behind it (a plain % is written %25)"
				       : "must not have %00 in it";
		}
		s[n++] = (char)(high * 16 + low);
		i += 2;
	}
	*out = s;
	return NULL;
}

/* A number of digits only, from low to high. */
static bool take_number(struct span in, long low, long high, int *out)
{
	long n = 0;

	if (in.len == 0)
		return false;
	for (size_t i = 0; i < in.len; i++) {
		if (in.s[i] < '0' || in.s[i] > '9')
			return false;
		n = n * 10 + (in.s[i] - '0');
		if (n > high)
			return false;
	}
	*out = (int)n;
	return n >= low;
}

static const char *take_db(struct span in, struct upstream_url *t)
{
	return take_number(in, 0, INT32_MAX, &t->db) ? NULL : "must have a number from 0 to 2147483647 as its database";
}

/* "user:password@" in front of *authority, which is moved behind it. */
static const char *take_user(struct span *authority, struct upstream_url *t)
{
	const char *at = memrchr(authority->s, '@', authority->len), *colon, *why;
	struct span user, password = {"", 0};

	if (!at)
		return NULL;
	user = (struct span){authority->s, (size_t)(at - authority->s)};
	authority->len -= user.len + 1;
	authority->s = at + 1;
	colon = memchr(user.s, ':', user.len);
	if (colon) {
		password = (struct span){colon + 1, user.len - (size_t)(colon + 1 - user.s)};
		user.len = (size_t)(colon - user.s);
	}
	why = decode(user, &t->username);
	return why ? why : decode(password, &t->password);
}

static const char *take_host(struct span in, struct upstream_url *t)
{
	static const char bad[] = "must have a host name or address (an IPv6 address stands in brackets)";
	unsigned char address[16];

	if (in.len == 0) {
		t->host = xmemdup0("localhost", 9);
		return NULL;
	}
	if (in.len > 255)
		return bad;
	if (in.s[0] == '[') {
		t->host = xmemdup0(in.s + 1, in.len - 2);
		return inet_pton(AF_INET6, t->host, address) == 1 ? NULL : bad;
	}
	for (size_t i = 0; i < in.len; i++) {
		if (!isalnum((unsigned char)in.s[i]) && !strchr("-._", in.s[i]))
			return bad;
	}
	t->host = xmemdup0(in.s, in.len);
	return NULL;
}

static const char *take_host_and_port(struct span in, struct upstream_url *t)
{
	const char *end = in.len && in.s[0] == '[' ? memchr(in.s, ']', in.len) : NULL;
	const char *colon = end ? end + 1 : memchr(in.s, ':', in.len);
	size_t host_len = colon ? (size_t)(colon - in.s) : in.len;
	struct span port = {in.s + host_len, in.len - host_len};

	if (in.len && in.s[0] == '[' && !end)
		return "has a [ without ]";
	if (port.len && port.s[0] != ':')
		return "has something between the ] of its address and the port";
	if (port.len > 1) {
		port = (struct span){port.s + 1, port.len - 1};
		if (!take_number(port, 1, 65535, &t->port))
			return "must have a number from 1 to 65535 as its port (an IPv6 address stands in brackets, "
			       "/ ? # [ ] @ in a password are written %2F %3F %23 %5B %5D %40)";
	}
	return take_host((struct span){in.s, host_len}, t);
}

/* "?db=N". */
static const char *take_query(struct span in, struct upstream_url *t)
{
	if (in.len < 3 || memcmp(in.s, "db=", 3) != 0)
		return "may have ?db=N behind the ?, nothing else";
	return take_db((struct span){in.s + 3, in.len - 3}, t);
}

static const char *parse_tcp(struct span authority, struct span path, struct upstream_url *t)
{
	const char *why = take_host_and_port(authority, t);

	if (why || path.len <= 1)
		return why;
	return take_db((struct span){path.s + 1, path.len - 1}, t);
}

static const char *parse_unix(struct span authority, struct span path, struct upstream_url *t)
{
	const char *why;

	if (authority.len)
		return "must have three slashes before the path of a Unix socket: unix:///path";
	if (path.len <= 1)
		return "must have the path of a Unix socket: unix:///path";
	why = decode(path, &t->host);
	if (!why && strlen(t->host) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		why = "has a path that is too long for a Unix socket (107 bytes)";
	return why;
}

/* What follows "redis://" or "unix://". */
static const char *parse_rest(const char *s, struct upstream_url *t)
{
	struct span authority = {s, strcspn(s, "/?")};
	struct span path = {s + authority.len, strcspn(s + authority.len, "?")};
	const char *query = path.s + path.len, *why;

	why = take_user(&authority, t);
	if (!why)
		why = t->unix_socket ? parse_unix(authority, path, t) : parse_tcp(authority, path, t);
	if (why || !*query)
		return why;
	if (!t->unix_socket && path.len > 1)
		return "has its database twice, behind / and behind ?";
	return take_query((struct span){query + 1, strlen(query + 1)}, t);
}

static const char *parse(const char *url, struct upstream_url *t)
{
	static const struct {
		const char *prefix;
		bool tls, unix_socket;
		size_t path; /* so many bytes of the prefix belong to the rest */
	} schemes[] = {
		{"redis://", false, false, 0},	{"rediss://", true, false, 0}, {"valkey://", false, false, 0},
		{"valkeys://", true, false, 0}, {"unix://", false, true, 0},   {"unix:/", false, true, 1},
	};

	for (const char *c = url; *c; c++) {
		if ((unsigned char)*c <= 0x20 || *c == 0x7f)
			return "has a space or a control character in it (a space is written %20)";
		if (*c == '#')
			return "has a # in it (in a password it is written %23)";
	}
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		if (has_prefix(url, schemes[i].prefix)) {
			t->tls = schemes[i].tls;
			t->unix_socket = schemes[i].unix_socket;
			t->port = t->unix_socket ? 0 : REDIS_PORT;
			return parse_rest(url + strlen(schemes[i].prefix) - schemes[i].path, t);
		}
	}
	return "must begin with redis://, rediss:// or unix://";
}

const char *upstream_url_parse(const char *url, struct upstream_url *target)
{
	const char *why;

	*target = (struct upstream_url){0};
	why = parse(url, target);
	if (why)
		upstream_url_fini(target);
	return why;
}

void upstream_url_fini(struct upstream_url *target)
{
	free(target->host);
	free(target->username);
	text_wipe(&target->password);
	*target = (struct upstream_url){0};
}

static void put(struct text_builder *b, const char *s)
{
	text_put(b, s, strlen(s));
}

/* Percent-encodes what is not unreserved (RFC 3986), nor in `also`. */
static void encode(struct text_builder *b, const char *s, const char *also)
{
	static const char digits[] = "0123456789ABCDEF";

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};

		if ((c < 0x80 && isalnum(c)) || strchr("-._~", c) || strchr(also, c))
			text_put(b, s, 1);
		else
			text_put(b, escaped, 3);
	}
}

char *upstream_url_mask(const struct upstream_url *t)
{
	bool v6 = !t->unix_socket && strchr(t->host, ':');
	struct text_builder b = {0};
	char *rest;

	put(&b, t->unix_socket ? "unix://" : t->tls ? "rediss://" : "redis://");
	if (t->username)
		encode(&b, t->username, "");
	if (t->password)
		put(&b, ":***");
	if (t->username || t->password)
		put(&b, "@");
	if (t->unix_socket) {
		encode(&b, t->host, "/");
		rest = xasprintf("?db=%d", t->db);
	} else {
		rest = xasprintf(v6 ? "[%s]:%d/%d" : "%s:%d/%d", t->host, t->port, t->db);
	}
	put(&b, rest);
	free(rest);
	return b.s;
}
