/* SPDX-License-Identifier: BSD-2-Clause */
/* An upstream and its nodes: see upstream.h. */
#include "upstream/upstream.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct upstream *upstream_new(struct shared_config *holder, const struct upstream_config *conf, unsigned n_workers)
{
	static atomic_uint last_id;
	struct upstream *u = xcalloc(1, sizeof(*u));

	atomic_init(&u->refs, 1);
	u->id = atomic_fetch_add(&last_id, 1) + 1;
	u->holder = shared_config_ref(holder);
	u->conf = conf;
	u->tls = holder->upstream_tls[conf - holder->config->upstreams];
	u->n_workers = n_workers;
	list_init(&u->nodes);
	u->loaded = loaded_new();
	pthread_mutex_init(&u->lock, NULL);
	return u;
}

struct upstream *upstream_ref(struct upstream *u)
{
	atomic_fetch_add(&u->refs, 1);
	return u;
}

void upstream_unref(struct upstream **up)
{
	struct upstream *u = *up;

	*up = NULL;
	if (!u || atomic_fetch_sub(&u->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&u->lock);
	loaded_free(&u->loaded);
	shared_config_unref(&u->holder);
	free(u);
}

struct node *upstream_node(struct upstream *u, const char *host, int port)
{
	struct node *found = NULL;

	pthread_mutex_lock(&u->lock);
	LIST_EACH (pos, next, &u->nodes) {
		struct node *n = container_of(pos, struct node, in_upstream);

		if (n->port == port && strcmp(n->host, host) == 0) {
			found = node_ref(n);
			break;
		}
	}
	if (!found) {
		found = node_new(u, host, port);
		list_append(&u->nodes, &found->in_upstream);
	}
	pthread_mutex_unlock(&u->lock);
	return found;
}

struct node *upstream_node_at(struct upstream *u, const char *text, int default_port)
{
	const char *bracket = strchr(text, ']'), *colon = strchr(bracket ? bracket : text, ':');
	size_t len = colon ? (size_t)(colon - text) : strlen(text);
	struct node *n;
	char *host;

	if (!bracket && colon && strchr(colon + 1, ':')) { /* an IPv6 address without brackets has no port */
		colon = NULL;
		len = strlen(text);
	}
	host = bracket ? xmemdup0(text + 1, (size_t)(bracket - text) - 1) : xmemdup0(text, len);
	n = upstream_node(u, host, colon ? atoi(colon + 1) : default_port);
	free(host);
	return n;
}

static bool same_string(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_target(const struct upstream_url *a, const struct upstream_url *b)
{
	return same_string(a->host, b->host) && same_string(a->username, b->username) &&
	       same_string(a->password, b->password) && a->unix_socket == b->unix_socket && a->port == b->port &&
	       a->tls == b->tls && a->db == b->db;
}

static bool same_tls(const struct upstream_tls_config *a, const struct upstream_tls_config *b)
{
	return same_string(a->ca, b->ca) && same_string(a->cert, b->cert) && same_string(a->key, b->key) &&
	       same_string(a->server_name, b->server_name) && a->verify == b->verify;
}

static bool same_numbers(const struct upstream_config *a, const struct upstream_config *b)
{
	return a->mode == b->mode && a->pool_size == b->pool_size && a->min_idle == b->min_idle &&
	       a->pool_timeout_ms == b->pool_timeout_ms && a->connect_timeout_ms == b->connect_timeout_ms &&
	       a->read_timeout_ms == b->read_timeout_ms && a->write_timeout_ms == b->write_timeout_ms &&
	       a->reconnect_delay_ms == b->reconnect_delay_ms &&
	       a->reconnect_delay_max_ms == b->reconnect_delay_max_ms && a->max_retries == b->max_retries &&
	       a->health_check_ms == b->health_check_ms && a->read_from == b->read_from &&
	       a->read_your_writes_ms == b->read_your_writes_ms && a->max_replica_lag_ms == b->max_replica_lag_ms &&
	       a->mirror == b->mirror && a->mirror_percent == b->mirror_percent &&
	       a->mirror_compare == b->mirror_compare && a->circuit_breaker.failures == b->circuit_breaker.failures &&
	       a->circuit_breaker.window_ms == b->circuit_breaker.window_ms &&
	       a->circuit_breaker.open_for_ms == b->circuit_breaker.open_for_ms;
}

bool upstream_same(const struct upstream_config *a, const struct upstream_config *b)
{
	return same_string(a->name, b->name) && same_target(&a->target, &b->target) && same_numbers(a, b) &&
	       same_tls(&a->tls, &b->tls) && string_list_same(&a->nodes, &b->nodes) &&
	       same_string(a->service, b->service) && same_string(a->sentinel_username, b->sentinel_username) &&
	       same_string(a->sentinel_password, b->sentinel_password) && same_string(a->mirror_to, b->mirror_to);
}
