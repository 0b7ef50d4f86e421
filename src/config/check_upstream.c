/* SPDX-License-Identifier: BSD-2-Clause */
/* Rules between the options of one upstream, and between upstreams; its password files. See check.c. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "config/address.h"
#include "config/load.h"
#include "config/text.h"
#include "config/url.h"

#define PASSWORD_MAX_BYTES 4096

/* ---- password files ---- */

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

void check_secret_file(struct loader *l, struct slot s, const char *path, char **secret)
{
	char line[PASSWORD_MAX_BYTES + 1];
	const char *why;

	if (!*path || setting_of(l, s)->bad)
		return;
	why = read_first_line(path, line, PASSWORD_MAX_BYTES);
	if (why) {
		complain(l, s, setting_of(l, s)->at, ": %s: %s", path, why);
	} else {
		text_wipe(secret);
		*secret = xstrdup(line);
	}
	sodium_memzero(line, sizeof(line));
}

/* ---- where it is ---- */

static void check_url(struct loader *l, size_t i)
{
	struct upstream_config *u = &l->config->upstreams[i];
	struct slot url = slot_of(OPTION_upstream_url, i), file = slot_of(OPTION_upstream_password_file, i);

	check_secret_file(l, file, u->password_file, &u->target.password);
	if (u->target.username && !u->target.password && settings_fine(l, url, file))
		complain(l, url, setting_of(l, url)->at,
			 "has a user and no password (a password alone is written redis://:password@host, and "
			 "password_file names a file that has it)");
	if (i == 0 && l->use_tls.file && !u->target.tls) {
		u->target.tls = !u->target.unix_socket;
		if (!u->target.tls)
			complain(l, url, l->use_tls, "has no meaning with a Unix socket");
	}
	u->url_masked = upstream_url_mask(&u->target);
}

/* Nodes get the port that goes without saying. */
static void complete_nodes(struct string_list *nodes, int port)
{
	for (size_t i = 0; i < nodes->n; i++) {
		char *item = nodes->items[i];

		if (node_address_has_port(item))
			continue;
		nodes->items[i] = xasprintf("%s:%d", item, port);
		free(item);
	}
}

/* A cluster is known by any of its nodes: that of the URL does. */
static void use_url_as_node(struct upstream_config *u)
{
	bool v6 = strchr(u->target.host, ':') != NULL;

	u->nodes.items = xcalloc(1, sizeof(*u->nodes.items));
	u->nodes.items[0] = xasprintf(v6 ? "[%s]:%d" : "%s:%d", u->target.host, u->target.port);
	u->nodes.n = 1;
}

static void check_sentinel(struct loader *l, size_t i)
{
	struct upstream_config *u = &l->config->upstreams[i];
	struct slot mode = slot_of(OPTION_upstream_mode, i), nodes = slot_of(OPTION_upstream_nodes, i);
	struct slot service = slot_of(OPTION_upstream_service, i);

	if (u->nodes.n == 0 && !setting_of(l, nodes)->bad)
		complain(l, mode, setting_of(l, mode)->at, "asks for sentinels: nodes must have their addresses");
	if (!*u->service && !setting_of(l, service)->bad)
		complain(l, service, setting_of(l, service)->at, "must be what the sentinels call the master");
	complete_nodes(&u->nodes, 26379);
}

static void check_cluster(struct loader *l, size_t i)
{
	struct upstream_config *u = &l->config->upstreams[i];
	struct slot url = slot_of(OPTION_upstream_url, i), nodes = slot_of(OPTION_upstream_nodes, i);

	if (u->target.db != 0 && !setting_of(l, url)->bad)
		complain(l, url, setting_of(l, url)->at, "must not have a database but 0: a cluster has no other");
	complete_nodes(&u->nodes, 6379);
	if (u->nodes.n == 0 && settings_fine(l, nodes, url) && !u->target.unix_socket)
		use_url_as_node(u);
}

static void check_mode(struct loader *l, size_t i)
{
	struct upstream_config *u = &l->config->upstreams[i];
	struct slot mode = slot_of(OPTION_upstream_mode, i), url = slot_of(OPTION_upstream_url, i);
	struct slot nodes = slot_of(OPTION_upstream_nodes, i);

	if (setting_of(l, mode)->bad)
		return;
	if (u->mode == UPSTREAM_STANDALONE) {
		if (u->nodes.n > 0)
			complain(l, nodes, setting_of(l, nodes)->at,
				 "has no meaning with mode = \"standalone\": one Redis is at url");
		return;
	}
	if (u->target.unix_socket && !setting_of(l, url)->bad)
		complain(l, url, setting_of(l, url)->at, "must not be a Unix socket: mode asks for other machines");
	if (u->mode == UPSTREAM_SENTINEL)
		check_sentinel(l, i);
	else
		check_cluster(l, i);
}

/* ---- the mirror ---- */

static void check_mirror(struct loader *l, size_t i)
{
	struct slot s = slot_of(OPTION_upstream_mirror_to, i);
	const char *to = l->config->upstreams[i].mirror_to;
	struct place at = setting_of(l, s)->at;
	size_t other;

	if (!*to || setting_of(l, s)->bad)
		return;
	if (!schema_name_fits(to, strlen(to)))
		complain(l, s, at, "must be the name of an upstream");
	else if (!instance_find(l->config, SCOPE_UPSTREAM, to, &other))
		complain(l, s, at, "is %s, but there is no [upstream.%s]", to, to);
	else if (other == i)
		complain(l, s, at, "must be another upstream");
	else if (*l->config->upstreams[other].mirror_to)
		complain(l, s, at, "is %s, which has a mirror_to itself: mirrors make no chain", to);
}

void check_upstream(struct loader *l, size_t i)
{
	struct upstream_config *u = &l->config->upstreams[i];

	check_url(l, i);
	check_secret_file(l, slot_of(OPTION_upstream_sentinel_password_file, i), u->sentinel_password_file,
			  &u->sentinel_password);
	check_mode(l, i);
	check_mirror(l, i);
	check_not_above(l, slot_of(OPTION_upstream_min_idle, i), slot_of(OPTION_upstream_pool_size, i));
	check_not_above(l, slot_of(OPTION_upstream_reconnect_delay, i),
			slot_of(OPTION_upstream_reconnect_delay_max, i));
	check_pair(l, slot_of(OPTION_upstream_tls_cert, i), slot_of(OPTION_upstream_tls_key, i));
	check_pair(l, slot_of(OPTION_upstream_tls_key, i), slot_of(OPTION_upstream_tls_cert, i));
}
