/* SPDX-License-Identifier: BSD-2-Clause */
/* A Redis server as all threads see it: see node.h. */
#include "upstream/node.h"

#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static char *dup_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void set_addresses(struct node *n, const struct address *list, unsigned count)
{
	pthread_mutex_lock(&n->lock);
	memcpy(n->addresses, list, count * sizeof(*list));
	n->n_addresses = count;
	pthread_mutex_unlock(&n->lock);
}

static int look_up(struct node *n, int flags)
{
	struct address list[NODE_ADDRESSES_MAX];
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found = NULL;
	unsigned count = 0;
	char port[16];
	int error;

	if (n->conf.target.unix_socket) {
		if (address_unix(n->conf.target.host, &list[0]))
			set_addresses(n, list, 1);
		return 0;
	}
	snprintf(port, sizeof(port), "%d", n->conf.target.port);
	error = getaddrinfo(n->conf.target.host, port, &hints, &found);
	if (error)
		return error;
	for (struct addrinfo *ai = found; ai && count < NODE_ADDRESSES_MAX; ai = ai->ai_next) {
		memset(&list[count], 0, sizeof(list[count]));
		memcpy(&list[count].storage, ai->ai_addr, ai->ai_addrlen);
		list[count++].len = ai->ai_addrlen;
	}
	freeaddrinfo(found);
	set_addresses(n, list, count);
	return 0;
}

int node_resolve(struct node *n)
{
	return look_up(n, 0);
}

/* Unix sockets, addresses and "localhost" need no name server. */
static void resolve_at_once(struct node *n)
{
	bool local = n->conf.target.host && strcmp(n->conf.target.host, "localhost") == 0;

	n->needs_lookup = look_up(n, local ? 0 : AI_NUMERICHOST) != 0;
}

struct node *node_new(const struct upstream_config *conf, unsigned n_workers)
{
	struct node *n = xcalloc(1, sizeof(*n));

	atomic_init(&n->refs, 1);
	n->label = xstrdup(conf->url_masked);
	n->conf = *conf;
	n->conf.name = n->conf.url = n->conf.url_masked = n->conf.password_file = NULL;
	n->conf.target.host = dup_or_null(conf->target.host);
	n->conf.target.username = dup_or_null(conf->target.username);
	n->conf.target.password = dup_or_null(conf->target.password);
	n->general_max = (int)conf->pool_size - (int)n_workers;
	if (n->general_max < 1)
		n->general_max = 1;
	pthread_mutex_init(&n->lock, NULL);
	resolve_at_once(n);
	return n;
}

struct node *node_ref(struct node *n)
{
	atomic_fetch_add(&n->refs, 1);
	return n;
}

void node_unref(struct node **np)
{
	struct node *n = *np;

	*np = NULL;
	if (!n || atomic_fetch_sub(&n->refs, 1) != 1)
		return;
	if (n->conf.target.password)
		sodium_memzero(n->conf.target.password, strlen(n->conf.target.password));
	free(n->conf.target.host);
	free(n->conf.target.username);
	free(n->conf.target.password);
	free(n->label);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static bool same_string(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool node_same(const struct node *n, const struct upstream_config *conf)
{
	struct upstream_config a = n->conf, b = *conf;

	if (!same_string(a.target.host, b.target.host) || !same_string(a.target.username, b.target.username) ||
	    !same_string(a.target.password, b.target.password))
		return false;
	return a.target.unix_socket == b.target.unix_socket && a.target.port == b.target.port &&
	       a.target.db == b.target.db && a.mode == b.mode && a.pool_size == b.pool_size &&
	       a.min_idle == b.min_idle && a.pool_timeout_ms == b.pool_timeout_ms &&
	       a.connect_timeout_ms == b.connect_timeout_ms && a.read_timeout_ms == b.read_timeout_ms &&
	       a.write_timeout_ms == b.write_timeout_ms && a.reconnect_delay_ms == b.reconnect_delay_ms &&
	       a.reconnect_delay_max_ms == b.reconnect_delay_max_ms && a.max_retries == b.max_retries &&
	       a.health_check_ms == b.health_check_ms;
}

unsigned node_addresses(struct node *n, struct address out[NODE_ADDRESSES_MAX])
{
	unsigned count;

	pthread_mutex_lock(&n->lock);
	count = n->n_addresses;
	memcpy(out, n->addresses, count * sizeof(*out));
	pthread_mutex_unlock(&n->lock);
	return count;
}

struct node_software node_software(struct node *n)
{
	struct node_software sw;
	int major = 0, minor = 0, patch = 0;

	pthread_mutex_lock(&n->lock);
	snprintf(sw.version, sizeof(sw.version), "%s", n->version[0] ? n->version : "7.0.0");
	snprintf(sw.name, sizeof(sw.name), "%s", n->server_name[0] ? n->server_name : "redis");
	pthread_mutex_unlock(&n->lock);
	sscanf(sw.version, "%2d.%2d.%2d", &major, &minor, &patch);
	sw.release = major * 10000 + minor * 100 + patch;
	return sw;
}

bool node_take_place(struct node *n)
{
	if (atomic_fetch_add(&n->n_general, 1) < n->general_max)
		return true;
	atomic_fetch_sub(&n->n_general, 1);
	return false;
}

bool node_has_place(const struct node *n)
{
	return atomic_load(&n->n_general) < n->general_max;
}

void node_give_place(struct node *n)
{
	atomic_fetch_sub(&n->n_general, 1);
}
