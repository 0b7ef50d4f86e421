/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What can be said of a configuration only when all of it is known: rules between options, and the files that options
 * name. What concerns one upstream is in check_upstream.c, and so with namespaces, the near-cache, encryption and
 * tokens. A rule is silent when one of its options was wrong already: that mistake has been said.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "config/address.h"
#include "config/load.h"

/* ---- rules that several options share ---- */

/* Where to point when two options do not go together: at the one that was written. */
static struct place blame(const struct loader *l, struct slot a, struct slot b)
{
	const struct setting *first = setting_of(l, a), *second = setting_of(l, b);

	return first->at.file ? first->at : second->at;
}

bool settings_fine(const struct loader *l, struct slot a, struct slot b)
{
	return !setting_of(l, a)->bad && !setting_of(l, b)->bad;
}

static int64_t number(const struct loader *l, struct slot s)
{
	return *(const int64_t *)schema_field_const(l->config, s);
}

static const char *string(const struct loader *l, struct slot s)
{
	return *(char *const *)schema_field_const(l->config, s);
}

void check_not_above(struct loader *l, struct slot a, struct slot b)
{
	struct place at = blame(l, a, b);

	at.called = NULL;
	if (settings_fine(l, a, b) && number(l, a) > number(l, b))
		complain(l, a, at, "must not be more than %s", b.o->key);
}

void check_pair(struct loader *l, struct slot a, struct slot b)
{
	if (settings_fine(l, a, b) && *string(l, a) && !*string(l, b))
		complain(l, a, setting_of(l, a)->at, "needs %s beside it", b.o->key);
}

/* With an ACL the group's bits say something else: systemd hands over credentials so. */
void check_private(struct loader *l, struct slot s, const char *path)
{
	char buf[SCHEMA_PATH_MAX];
	struct stat st;
	mode_t others = S_IRGRP | S_IROTH;

	if (!*path || stat(path, &st) != 0)
		return;
	if (getxattr(path, "system.posix_acl_access", NULL, 0) > 0)
		others = S_IROTH;
	if (st.st_mode & others)
		problem_add(&l->config->warnings, setting_of(l, s)->at,
			    "%s: %s is readable by more than its owner (mode %04o): chmod 600 it",
			    schema_option_path(s.o, NULL, buf), path, (unsigned)st.st_mode & 07777);
}

/* NULL, or why not. */
static const char *why_unreadable(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), error = 0;
	char c;

	if (fd < 0)
		return strerror(errno);
	if (read(fd, &c, 1) < 0) /* a folder */
		error = errno;
	close(fd);
	return error ? strerror(error) : NULL;
}

static void check_file(struct loader *l, struct slot s)
{
	const char *path = string(l, s), *why;

	if (!*path || setting_of(l, s)->bad)
		return;
	why = why_unreadable(path);
	if (why)
		complain(l, s, setting_of(l, s)->at, ": %s: %s", path, why);
}

static void check_files(struct loader *l)
{
	for (unsigned id = 0; id < N_OPTIONS; id++) {
		const struct option *o = schema_option(id);

		for (size_t i = 0; o->type == TYPE_FILE && i < instance_count(l->config, schema_scope(o)); i++)
			check_file(l, (struct slot){o, i});
	}
}

/* ---- server ---- */

static void check_keepalive(struct loader *l)
{
	struct slot s = slot_of(OPTION_server_tcp_keepalive, 0);

	if (l->config->server.tcp_keepalive_ms % 1000)
		complain(l, s, setting_of(l, s)->at, "must be a whole number of seconds, as the kernel counts it");
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

/* The place is that of the address where it was written; else it was the URL that came in its way. */
static void check_not_target(struct loader *l, const char *option, const char *text, struct place at, size_t upstream)
{
	const struct upstream_config *u = &l->config->upstreams[upstream];
	const struct setting *url = setting_of(l, slot_of(OPTION_upstream_url, upstream));
	struct listen_address address;

	/* Sentinels and clusters say themselves where they are: a URL that nobody wrote has no meaning then. */
	if (url->bad || (u->mode != UPSTREAM_STANDALONE && !url->at.file))
		return;
	if (!at.file)
		at = url->at;
	if (!listen_address_parse(text, &address) && is_target(&address, &u->target))
		problem_add(l->problems, at,
			    "%s: \"%s\" is also the url of [upstream.%s]: Keyweir would talk to itself", option, text,
			    u->name);
}

static void check_listen_tls(struct loader *l, const char *option, const char *text, struct place at)
{
	struct slot cert = slot_of(OPTION_server_tls_cert, 0), key = slot_of(OPTION_server_tls_key, 0);
	struct listen_address address;

	if (!listen_address_parse(text, &address) && address.tls && settings_fine(l, cert, key) && !*string(l, cert) &&
	    !*string(l, key))
		problem_add(l->problems, at, "%s: \"%s\" needs cert and key in [server.tls]", option, text);
}

static void check_address(struct loader *l, const char *option, const char *text, struct place at)
{
	check_listen_tls(l, option, text, at);
	for (size_t i = 0; i < l->config->n_upstreams; i++)
		check_not_target(l, option, text, at, i);
}

static void check_listen(struct loader *l)
{
	struct slot s = slot_of(OPTION_server_listen, 0);
	const struct setting *setting = setting_of(l, s);
	const struct string_list *list = &l->config->server.listen;

	if (list->n == 0 && !setting->bad)
		complain(l, s, setting->at, "must have at least one address");
	for (size_t i = 0; i < list->n; i++)
		check_address(l, "server.listen", list->items[i], setting->items[i]);
}

static bool same_address(const char *a, const char *b)
{
	struct listen_address first, second;

	return !listen_address_parse(a, &first) && !listen_address_parse(b, &second) &&
	       listen_address_same(&first, &second);
}

static void check_listener_address(struct loader *l, size_t i)
{
	const struct server_config *server = &l->config->server;
	const char *address = server->listeners[i].address;
	struct slot s = slot_of(OPTION_listener_address, i);
	struct place at = setting_of(l, s)->at;

	if (setting_of(l, s)->bad)
		return;
	if (!*address) {
		complain(l, s, at, "must be given");
		return;
	}
	check_address(l, "server.listener.address", address, at);
	for (size_t k = 0; k < server->listen.n; k++) {
		if (same_address(address, server->listen.items[k]))
			complain(l, s, at, ": \"%s\" stands in listen of [server], too", address);
	}
	for (size_t k = 0; k < i; k++) {
		if (same_address(address, server->listeners[k].address)) {
			complain(l, s, at, ": \"%s\" is that of another [[server.listener]]", address);
			return;
		}
	}
}

/* All their names stand behind the namespace's: without a prefix it would be no namespace. */
static void check_listener_namespace(struct loader *l, size_t i)
{
	const char *name = l->config->server.listeners[i].namespace;
	struct slot s = slot_of(OPTION_listener_namespace, i);
	struct place at = setting_of(l, s)->at;
	size_t n;

	if (setting_of(l, s)->bad)
		return;
	if (!*name)
		complain(l, s, at, "must be given");
	else if (!schema_name_fits(name, strlen(name)))
		complain(l, s, at, "must be the name of a namespace");
	else if (!instance_find(l->config, SCOPE_NAMESPACE, name, &n))
		complain(l, s, at, "is %s, but there is no [namespace.%s]", name, name);
	else if (strcmp(name, "default") == 0 && !*l->config->namespaces[n].prefix)
		complain(l, s, at, "is default, which has no prefix: its clients would see the keys of all others");
	else if (!*l->config->namespaces[n].channel_prefix)
		problem_add(&l->config->warnings, at,
			    "[namespace.%s] has no channel_prefix: clients of its listener hear every channel", name);
}

static void check_listeners(struct loader *l)
{
	for (size_t i = 0; i < l->config->server.n_listeners; i++) {
		check_listener_address(l, i);
		check_listener_namespace(l, i);
	}
}

static void check_server_tls(struct loader *l)
{
	struct slot cert = slot_of(OPTION_server_tls_cert, 0), key = slot_of(OPTION_server_tls_key, 0);
	struct slot ca = slot_of(OPTION_server_tls_ca, 0), want = slot_of(OPTION_server_tls_client_cert, 0);

	check_pair(l, cert, key);
	check_pair(l, key, cert);
	/* The system's authorities would let anyone in. */
	if (settings_fine(l, want, ca) && l->config->server.tls.client_cert != CLIENT_CERT_NONE && !*string(l, ca))
		complain(l, want, setting_of(l, want)->at, "needs ca beside it, which signs the certificates");
}

void check_all(struct loader *l)
{
	for (size_t i = 0; i < l->config->n_upstreams; i++)
		check_upstream(l, i);
	check_listen(l);
	check_listeners(l);
	check_encryption(l);
	check_tokens(l);
	check_namespaces(l);
	check_near_cache(l);
	check_limits(l);
	check_server_tls(l);
	check_keepalive(l);
	check_files(l);
}
