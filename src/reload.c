/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A new configuration, all or nothing: everything that can fail (reading, listening, the log file) is done before
 * anything is changed. And new commands learnt from the upstream. Both end in a new snapshot for every worker.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admission.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/store.h"
#include "client/slowlog.h"
#include "control_private.h"
#include "net/systemd.h"
#include "policy/limits.h"
#include "worker.h"

void socket_prepare(int fd, const struct address *a, int keepalive_s)
{
	int on = 1, interval_s = keepalive_s / 3 > 0 ? keepalive_s / 3 : 1, count = 3;

	if (a->sa.sa_family == AF_UNIX)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (keepalive_s <= 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_s, sizeof(keepalive_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

/* ---- listeners ---- */

static struct listener *find_listener(struct control *ctl, const char *text)
{
	LIST_EACH (pos, next, &ctl->listeners) {
		struct listener *l = container_of(pos, struct listener, node);

		if (!l->inherited && listener_is_at(l, text))
			return l;
	}
	return NULL;
}

static void close_all(struct list *listeners)
{
	LIST_EACH (pos, next, listeners) {
		struct listener *l = container_of(pos, struct listener, node);

		listener_close(&l);
	}
}

/* Opens one into `fresh` that is not open yet. */
static bool open_one(struct control *ctl, const struct config *config, const char *text, const char *namespace,
		     struct list *fresh, char *why, size_t size)
{
	struct listener *l = find_listener(ctl, text);

	if (!l) {
		l = listener_open(text, namespace, (int)config->server.backlog, why, size);
		if (!l)
			return false;
		list_append(fresh, &l->node);
	}
	l->seen = text;
	l->seen_namespace = namespace;
	return true;
}

/* Opens those that are not open yet, into `fresh`. On failure nothing stays open. */
static bool open_missing(struct control *ctl, const struct config *config, struct list *fresh, char *why, size_t size)
{
	const struct server_config *server = &config->server;
	bool ok = true;

	for (size_t i = 0; i < server->listen.n && ok && !ctl->inherited; i++)
		ok = open_one(ctl, config, server->listen.items[i], NULL, fresh, why, size);
	for (size_t i = 0; i < server->n_listeners && ok; i++)
		ok = open_one(ctl, config, server->listeners[i].address, server->listeners[i].namespace, fresh, why,
			      size);
	if (!ok)
		close_all(fresh);
	return ok;
}

static void move_all(struct list *from, struct list *to)
{
	LIST_EACH (pos, next, from) {
		list_remove(pos);
		list_append(to, pos);
	}
}

/* A socket knows nothing of TLS: the configuration says so of its address. */
static void call_by_name(struct listener *l, const struct config *config)
{
	for (size_t i = 0; i < config->server.listen.n; i++)
		if (listener_is_at(l, config->server.listen.items[i]))
			listener_become(l, config->server.listen.items[i], NULL);
}

/* Sockets handed over by systemd take the place of server.listen. */
static bool adopt_listeners(struct control *ctl, const struct config *config, int n)
{
	char why[160];

	for (int fd = 3; fd < 3 + n; fd++) {
		struct listener *l = listener_adopt(fd, why, sizeof(why));

		if (!l) {
			log_error("Socket activation: %s", why);
			return false;
		}
		call_by_name(l, config);
		list_append(&ctl->listeners, &l->node);
	}
	return true;
}

bool control_open_listeners(struct control *ctl, const struct config *config)
{
	int n = systemd_listen_fds();
	struct list fresh;
	char why[256];

	ctl->inherited = n > 0;
	if (n > 0 && !adopt_listeners(ctl, config, n))
		return false;
	list_init(&fresh);
	if (!open_missing(ctl, config, &fresh, why, sizeof(why))) {
		log_error("%s", why);
		return false;
	}
	move_all(&fresh, &ctl->listeners);
	return true;
}

void control_log_listener(const struct listener *l)
{
	if (l->namespace)
		log_info("Listening on %s for namespace %s", l->text, l->namespace);
	else
		log_info("Listening on %s", l->text);
}

/* Whether the new configuration has it as it is. */
static bool stays(const struct listener *l)
{
	const char *old = l->namespace ? l->namespace : "", *fresh = l->seen_namespace ? l->seen_namespace : "";

	return strcmp(l->seen, l->text) == 0 && strcmp(old, fresh) == 0;
}

static void change_listeners(struct control *ctl, struct list *fresh)
{
	LIST_EACH (pos, next, &ctl->listeners) {
		struct listener *l = container_of(pos, struct listener, node);

		if (!l->seen && !l->inherited) {
			log_info("No longer listening on %s", l->text);
			listener_close(&l);
		} else if (l->seen && !stays(l)) {
			log_info("No longer listening on %s as before", l->text);
			listener_become(l, l->seen, l->seen_namespace);
			control_log_listener(l);
		}
	}
	LIST_EACH (pos, next, fresh) {
		struct listener *l = container_of(pos, struct listener, node);

		listener_start(l, ctl->base, control_accepted, ctl);
		control_log_listener(l);
	}
	move_all(fresh, &ctl->listeners);
}

/* ---- reload ---- */

void control_log_warnings(const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_config *up = &config->upstreams[i];

		if (up->target.tls && !up->tls.verify)
			log_warn("[upstream.%s.tls] verify = false: whoever answers at %s is taken for Redis", up->name,
				 up->url_masked);
	}
	for (size_t i = 0; i < config->warnings.n; i++) {
		char *text = problem_format(&config->warnings.items[i]);

		log_warn("%s", text);
		free(text);
	}
}

static void log_problems(const struct problem_list *problems, char *error, size_t error_size)
{
	for (size_t i = 0; i < problems->n; i++) {
		char *text = problem_format(&problems->items[i]);

		log_error("%s", text);
		if (i == 0 && error)
			snprintf(error, error_size, "ERR %s", text);
		free(text);
	}
}

static char *text_of(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	config_dump(config, out);
	fclose(out);
	return text;
}

static bool is_sealed(const struct config *config)
{
	for (size_t i = 0; i < config->n_namespaces; i++)
		if (config->namespaces[i].encrypt)
			return true;
	return false;
}

/*
 * What is in the near-cache stays when nothing is changed (certificates were read again); else what names mean may be
 * something else, and it begins empty; so where values are sealed, since a key may have been withdrawn.
 */
static bool keeps_store(const struct config *old, const struct config *fresh)
{
	char *before = text_of(old), *now = text_of(fresh);
	bool same = before && now && strcmp(before, now) == 0 && !is_sealed(fresh);

	free(before);
	free(now);
	return same;
}

/* The near-cache of a new configuration, in the place of the present one. */
static void change_upstreams(struct control *ctl, struct shared_config *holder, struct store *fresh)
{
	struct store *old = ctl->snapshot->store;

	if (keeps_store(ctl->snapshot->config, holder->config)) {
		control_change_upstreams(ctl, holder, old);
		return;
	}
	if (old)
		store_succeed(old, fresh);
	control_change_upstreams(ctl, holder, fresh);
}

static void apply(struct control *ctl, struct shared_config *holder, struct store *store)
{
	const struct config *config = holder->config;

	if (config->server.workers != ctl->snapshot->config->server.workers)
		log_warn("server.workers is changed by a restart only");
	ctl->keepalive_s = (int)(config->server.tcp_keepalive_ms / 1000);
	atomic_store(&ctl->server.max_clients, (unsigned)config->server.max_clients);
	slowlog_set_threshold(ctl->server.slowlog, config->log.slow_us);
	limits_adopt(holder->limits, ctl->snapshot->holder->limits);
	admission_renew(&ctl->server, ctl->snapshot->holder->limits, holder->limits);
	change_upstreams(ctl, holder, store);
}

static bool refused(const char *why, char *error, size_t error_size)
{
	snprintf(error, error_size, "ERR %s", why);
	log_error("%s", why);
	return false;
}

/* The certificates are good; what else can fail is the sockets and the log. */
static bool change_to(struct control *ctl, struct shared_config *holder, struct store *store, char *error,
		      size_t error_size)
{
	const struct config *config = holder->config;
	struct list fresh;
	char why[256];

	list_init(&fresh);
	LIST_EACH (pos, next, &ctl->listeners)
		container_of(pos, struct listener, node)->seen = NULL;
	if (!open_missing(ctl, config, &fresh, why, sizeof(why)))
		return refused(why, error, error_size);
	if (!log_configure((int)config->log.level, config->log.format == LOG_FORMAT_JSON, config->log.file)) {
		snprintf(why, sizeof(why), "Can't open the log file %s: %s", config->log.file, strerror(errno));
		close_all(&fresh);
		return refused(why, error, error_size);
	}
	control_log_warnings(config);
	apply(ctl, holder, store); /* before a port turns to TLS: workers must know the certificate */
	change_listeners(ctl, &fresh);
	return true;
}

static bool reload(struct control *ctl, char *error, size_t error_size)
{
	struct problem_list problems = {0};
	struct config *config = config_load(ctl->source, &problems);
	struct shared_config *holder;
	struct store *store;
	char why[512];
	bool ok;

	if (!config) {
		log_problems(&problems, error, error_size);
		problems_free(&problems);
		return false;
	}
	holder = shared_config_new(config, why, sizeof(why));
	if (!holder)
		return refused(why, error, error_size);
	if (control_open_store(holder, &store))
		ok = change_to(ctl, holder, store, error, error_size);
	else
		ok = refused("near_cache.max_memory: the system has no address space for so much", error, error_size);
	store_unref(&store);
	shared_config_unref(&holder);
	return ok;
}

bool control_reload(struct control *ctl, char *error, size_t error_size)
{
	char text[64], own_error[256];
	bool ok;

	if (ctl->stopping)
		return false;
	if (!error) {
		error = own_error;
		error_size = sizeof(own_error);
	}
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_now_us());
	systemd_notify(text);
	ok = reload(ctl, error, error_size);
	if (ok) {
		atomic_fetch_add(&ctl->server.reloads, 1);
		log_info("Configuration reloaded");
	} else {
		log_error("Reload failed: nothing is changed");
	}
	systemd_notify("READY=1");
	return ok;
}

static void reload_answer(struct message *m, void *owner)
{
	struct server_reload *r = container_of(m, struct server_reload, message);

	(void)owner;
	r->done(r);
}

void control_reload_asked(struct control *ctl, struct server_reload *r)
{
	snprintf(r->error, sizeof(r->error), "ERR reload failed, see the log");
	r->ok = control_reload(ctl, r->error, sizeof(r->error));
	r->message.run = reload_answer;
	mailbox_post(&r->asker->mailbox, &r->message);
}
