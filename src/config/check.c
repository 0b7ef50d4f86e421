/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What can be said of a configuration only when all of it is known: rules between options, and the password file.
 * A rule is silent when one of its options was wrong already: that mistake has been said.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/address.h"
#include "config/load.h"
#include "base/mem.h"
#include "config/text.h"
#include "config/url.h"

#define PASSWORD_MAX_BYTES 4096

/* Where to point when two options do not go together: at the one that was written. */
static struct place blame(const struct loader *l, enum option_id a, enum option_id b)
{
	const struct setting *first = &l->settings[a], *second = &l->settings[b];

	return first->at.file ? first->at : second->at;
}

static bool fine(const struct loader *l, enum option_id a, enum option_id b)
{
	return !l->settings[a].bad && !l->settings[b].bad;
}

static int64_t number(const struct loader *l, enum option_id id)
{
	return *(const int64_t *)schema_field_const(l->config, schema_option(id));
}

static void check_not_above(struct loader *l, enum option_id a, enum option_id b)
{
	if (fine(l, a, b) && number(l, a) > number(l, b))
		problem_add(l->problems, blame(l, a, b), "%s must not be more than %s", schema_option(a)->path,
			    schema_option(b)->key);
}

static void check_keepalive(struct loader *l)
{
	int64_t ms = l->config->server.tcp_keepalive_ms;

	if (ms % 1000)
		problem_add(l->problems, l->settings[OPTION_server_tcp_keepalive].at,
			    "server.tcp_keepalive must be a whole number of seconds, as the kernel counts it");
}

/* Is this listen address the one that the upstream is said to be at? */
static bool is_target(const struct listen_address *a, const struct upstream_url *t)
{
	struct listen_address there;
	char *text;
	bool same;

	if (t->unix_socket || a->family == AF_UNIX)
		return t->unix_socket && a->family == AF_UNIX && strcmp(t->host, a->path) == 0;
	text = xasprintf(strchr(t->host, ':') ? "[%s]:%d" : "%s:%d", t->host, t->port);
	same = !listen_address_parse(text, &there) && listen_address_same(a, &there);
	free(text);
	return same;
}

static void check_listen(struct loader *l)
{
	const struct setting *setting = &l->settings[OPTION_server_listen], *url = &l->settings[OPTION_upstream_url];
	const struct string_list *list = &l->config->server.listen;
	struct listen_address address;

	if (list->n == 0 && !setting->bad)
		problem_add(l->problems, setting->at, "server.listen must have at least one address");
	for (size_t i = 0; i < list->n && !url->bad; i++) {
		struct place at = setting->items[i].file ? setting->items[i] : url->at;

		if (!listen_address_parse(list->items[i], &address) &&
		    is_target(&address, &l->config->upstreams[0].target))
			problem_add(l->problems, at,
				    "server.listen: \"%s\" is also the url of [upstream.main]: "
				    "Keyweir would talk to itself",
				    list->items[i]);
	}
}

/* The first line of the file into buf; NULL, or what is wrong. */
static const char *read_first_line(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t total = 0;
	ssize_t n = 1;
	char *end;

	if (fd < 0)
		return strerror(errno);
	while (n > 0 && total < size) {
		n = read(fd, buf + total, size - total);
		if (n > 0)
			total += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
	}
	close(fd);
	if (n < 0)
		return strerror(errno);
	end = memchr(buf, '\n', total);
	if (!end && total == size)
		return "its first line is too long for a password";
	if (!end)
		end = buf + total;
	if (end > buf && end[-1] == '\r')
		end--;
	*end = '\0';
	if (strlen(buf) != (size_t)(end - buf))
		return "it has a NUL character in its first line";
	return *buf ? NULL : "its first line is empty";
}

static void read_password(struct loader *l)
{
	struct upstream_config *u = &l->config->upstreams[0];
	char line[PASSWORD_MAX_BYTES + 1];
	const char *why;

	if (!u->password_file || !*u->password_file || l->settings[OPTION_upstream_password_file].bad)
		return;
	why = read_first_line(u->password_file, line, PASSWORD_MAX_BYTES);
	if (why) {
		problem_add(l->problems, l->settings[OPTION_upstream_password_file].at,
			    "upstream.main.password_file: %s: %s", u->password_file, why);
		l->settings[OPTION_upstream_password_file].bad = true;
	} else {
		text_wipe(&u->target.password);
		u->target.password = xmemdup0(line, strlen(line));
	}
	sodium_memzero(line, sizeof(line));
}

static void check_upstream(struct loader *l)
{
	struct upstream_config *u = &l->config->upstreams[0];

	read_password(l);
	if (u->target.username && !u->target.password && fine(l, OPTION_upstream_url, OPTION_upstream_password_file))
		problem_add(l->problems, l->settings[OPTION_upstream_url].at,
			    "upstream.main.url has a user and no password (a password alone is written "
			    "redis://:password@host, and password_file names a file that has it)");
	u->url_masked = upstream_url_mask(&u->target);
}

void check_all(struct loader *l)
{
	check_upstream(l);
	check_listen(l);
	check_keepalive(l);
	check_not_above(l, OPTION_upstream_min_idle, OPTION_upstream_pool_size);
	check_not_above(l, OPTION_upstream_reconnect_delay, OPTION_upstream_reconnect_delay_max);
}
