/* SPDX-License-Identifier: BSD-2-Clause */
/* A Redis server as all threads see it: see node.h. */
#include "upstream/node.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "upstream/upstream.h"

#define SAME_FAILURE_US	 100000
#define LOOK_UP_PAUSE_US 1000000

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

	if (n->port == 0) {
		if (address_unix(n->host, &list[0]))
			set_addresses(n, list, 1);
		return 0;
	}
	snprintf(port, sizeof(port), "%d", n->port);
	error = getaddrinfo(n->host, port, &hints, &found);
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

static void *resolve_main(void *arg)
{
	struct node *n = arg;

	node_resolve(n);
	atomic_store(&n->looking_up, false);
	node_unref(&n);
	return NULL;
}

void node_resolve_soon(struct node *n)
{
	int64_t now_us = clock_now_us(), last_us = atomic_load(&n->resolved_us);
	struct node *ref;
	pthread_attr_t attr;
	pthread_t thread;

	if (!n->needs_lookup || now_us - last_us < LOOK_UP_PAUSE_US ||
	    !atomic_compare_exchange_strong(&n->resolved_us, &last_us, now_us))
		return;
	ref = node_ref(n);
	atomic_store(&n->looking_up, true);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, resolve_main, ref) != 0) {
		atomic_store(&n->looking_up, false);
		node_unref(&ref);
	}
	pthread_attr_destroy(&attr);
}

/* Unix sockets, addresses and "localhost" need no name server. */
static void resolve_at_once(struct node *n)
{
	bool local = n->host && strcmp(n->host, "localhost") == 0;

	n->needs_lookup = look_up(n, local ? 0 : AI_NUMERICHOST) != 0;
}

static char *make_label(const struct upstream *u, const char *host, int port)
{
	const char *scheme = u->conf->target.tls ? "rediss" : "redis";

	if (port == 0)
		return xasprintf("unix://%s", host);
	return xasprintf(strchr(host, ':') ? "%s://[%s]:%d" : "%s://%s:%d", scheme, host, port);
}

struct node *node_new(struct upstream *u, const char *host, int port)
{
	static atomic_uint last_id;
	struct node *n = xcalloc(1, sizeof(*n));
	const struct upstream_url *t = &u->conf->target;
	bool is_target = t->host && strcmp(t->host, host) == 0 && (t->unix_socket ? 0 : t->port) == port;

	atomic_init(&n->refs, 1);
	n->id = atomic_fetch_add(&last_id, 1) + 1;
	truth_init(&n->truth);
	list_init(&n->in_upstream);
	n->up = upstream_ref(u);
	n->conf = u->conf;
	n->host = xstrdup(host);
	n->port = port;
	n->label = is_target && u->conf->mode == UPSTREAM_STANDALONE ? xstrdup(u->conf->url_masked)
								     : make_label(u, host, port);
	n->general_max = (int)u->conf->pool_size - (int)u->n_workers;
	if (n->general_max < 1)
		n->general_max = 1;
	pthread_mutex_init(&n->lock, NULL);
	tls_memory_init(&n->tls_memory);
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
	struct upstream *u;
	bool last;

	*np = NULL;
	if (!n)
		return;
	/* Under the lock, so that upstream_node() finds none that is going away. */
	u = n->up;
	pthread_mutex_lock(&u->lock);
	last = atomic_fetch_sub(&n->refs, 1) == 1;
	if (last)
		list_remove(&n->in_upstream);
	pthread_mutex_unlock(&u->lock);
	if (!last)
		return;
	free(n->host);
	free(n->label);
	pthread_mutex_destroy(&n->lock);
	tls_memory_fini(&n->tls_memory);
	free(n);
	upstream_unref(&u);
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
	struct node_software sw = {.version = "7.0.0", .name = "redis"};
	int major = 0, minor = 0, patch = 0;

	if (n) {
		pthread_mutex_lock(&n->lock);
		if (n->version[0])
			memcpy(sw.version, n->version, sizeof(sw.version));
		if (n->server_name[0])
			memcpy(sw.name, n->server_name, sizeof(sw.name));
		pthread_mutex_unlock(&n->lock);
	}
	sscanf(sw.version, "%2d.%2d.%2d", &major, &minor, &patch);
	sw.release = major * 10000 + minor * 100 + patch;
	return sw;
}

bool node_take_role(struct node *n, const struct node_role *role)
{
	int64_t now_us = clock_now_us();
	bool turned;

	pthread_mutex_lock(&n->lock);
	turned = n->role_known && n->role.master != role->master;
	n->role = *role;
	n->role_known = true;
	n->role_us = now_us;
	if (turned)
		n->n_samples = 0;
	if (role->master) {
		n->samples[n->n_samples % NODE_SAMPLES].at_us = now_us;
		n->samples[n->n_samples++ % NODE_SAMPLES].offset = role->offset;
	}
	pthread_mutex_unlock(&n->lock);
	return turned;
}

/* Smoothed as TCP smooths its round trips: an eighth of each new one. */
void node_note_latency(struct node *n, int64_t us)
{
	int64_t old = atomic_load(&n->latency_us);

	atomic_store(&n->latency_us, old > 0 ? old + (us - old) / 8 : us > 0 ? us : 1);
}

int64_t node_lag_ms(struct node *replica, struct node *master)
{
	struct node_role role;
	int64_t at_us, since_us = 0;

	pthread_mutex_lock(&replica->lock);
	role = replica->role;
	at_us = replica->role_us;
	if (!replica->role_known || role.master || !role.connected)
		at_us = -1;
	pthread_mutex_unlock(&replica->lock);
	if (at_us < 0)
		return -1;
	/* It is behind since the first moment at which the master was seen further than it is now. */
	pthread_mutex_lock(&master->lock);
	for (unsigned i = 0; i < NODE_SAMPLES && i < master->n_samples; i++) {
		int64_t sample_us = master->samples[i].at_us;

		if (master->samples[i].offset > role.offset && sample_us <= at_us &&
		    (since_us == 0 || sample_us < since_us))
			since_us = sample_us;
	}
	pthread_mutex_unlock(&master->lock);
	return since_us ? (at_us - since_us) / 1000 : 0;
}

/* ---- the circuit breaker ---- */

void node_failed(struct node *n, int64_t now_us)
{
	const struct breaker_config *conf = &n->conf->circuit_breaker;
	bool opened = false;

	if (conf->failures <= 0)
		return;
	pthread_mutex_lock(&n->lock);
	if (n->n_failures == 0 || now_us - n->window_us > conf->window_ms * 1000) {
		n->window_us = now_us;
		n->n_failures = 0;
	}
	/* A server that stalls once fails all that is on the way at once: that is one failure. */
	if (n->n_failures > 0 && now_us - n->failed_us < SAME_FAILURE_US) {
		pthread_mutex_unlock(&n->lock);
		return;
	}
	n->failed_us = now_us;
	if (++n->n_failures >= conf->failures && !atomic_load(&n->broken)) {
		n->opened_us = now_us;
		atomic_store(&n->broken, true);
		opened = true;
	}
	pthread_mutex_unlock(&n->lock);
	if (opened) {
		atomic_fetch_add(&n->n_opened, 1);
		log_warn("Circuit breaker of %s is open: %lld failures within %lld ms", n->label,
			 (long long)conf->failures, (long long)conf->window_ms);
	}
}

bool node_half_open(struct node *n, int64_t now_us)
{
	bool half;

	pthread_mutex_lock(&n->lock);
	half = atomic_load(&n->broken) && now_us - n->opened_us >= n->conf->circuit_breaker.open_for_ms * 1000;
	pthread_mutex_unlock(&n->lock);
	return half;
}

void node_heard(struct node *n)
{
	if (!node_half_open(n, clock_now_us()))
		return;
	pthread_mutex_lock(&n->lock);
	n->n_failures = 0;
	atomic_store(&n->broken, false);
	pthread_mutex_unlock(&n->lock);
	log_info("Circuit breaker of %s is closed", n->label);
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
