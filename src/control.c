/* SPDX-License-Identifier: BSD-2-Clause */
/* The control thread: see control.h. Building and tearing down are in daemon order; reload is reload.c. */
#include "control.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admission.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/hub.h"
#include "client/slowlog.h"
#include "client/stats.h"
#include "control_private.h"
#include "policy/leases.h"
#include "policy/limits.h"
#include "policy/sliding.h"
#include "keyweir_version.h"
#include "net/systemd.h"
#include "worker.h"

#define WORKERS_MAX	  256
#define WATCHDOG_STALE_US 5000000
#define WATCH_US	  250000
#define FIRST_MAP_US	  2000000

/* ---- clients ---- */

/* Who speaks TLS would not understand the line. */
static void refuse(int fd, bool tls, const char *line)
{
	if (!tls && send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		/* It will see the connection close. */
	}
	close(fd);
}

static struct worker *least_busy(struct server *s)
{
	struct worker *best = &s->workers[0];

	for (unsigned i = 1; i < s->n_workers; i++)
		if (atomic_load(&s->workers[i].n_clients) < atomic_load(&best->n_clients))
			best = &s->workers[i];
	return best;
}

void control_accepted(void *ctx, int fd, const struct listener *l)
{
	struct control *ctl = ctx;
	struct server *s = &ctl->server;
	struct worker *w;
	struct address a;
	char line[160];

	if (atomic_load(&s->n_clients) >= atomic_load(&s->max_clients)) {
		atomic_fetch_add(&s->rejected, 1);
		refuse(fd, l->tls, "-ERR max number of clients reached\r\n");
		return;
	}
	/* No users: only those who are on this machine already (CONTRACT, [user.NAME]). */
	if (!address_of_socket(fd, false, &a) || !address_is_loopback(&a)) {
		snprintf(line, sizeof(line), "-%s\r\n", reply_error_text(ERROR_NOT_LOOPBACK));
		atomic_fetch_add(&s->rejected, 1);
		refuse(fd, l->tls, line);
		return;
	}
	if (!admission_grant(s, ctl->snapshot, &a, line, sizeof(line))) {
		atomic_fetch_add(&s->rejected, 1);
		refuse(fd, l->tls, line);
		return;
	}
	socket_prepare(fd, &a, ctl->keepalive_s);
	w = least_busy(s);
	atomic_fetch_add(&s->n_clients, 1);
	atomic_fetch_add(&w->n_clients, 1);
	worker_run_on(w, worker_take_client, newcomer_new(fd, l->tls, l->namespace));
}

/* ---- the end ---- */

static void stop_now(struct control *ctl)
{
	if (!ctl->stopping)
		control_drain(ctl);
	for (unsigned i = 0; i < ctl->server.n_workers; i++)
		worker_run_on(&ctl->server.workers[i], worker_drain, (void *)(intptr_t)0);
}

void control_drain(struct control *ctl)
{
	int64_t grace_ms = ctl->snapshot->config->server.shutdown_grace_ms;
	char text[96];

	if (ctl->stopping)
		return;
	ctl->stopping = true;
	snprintf(text, sizeof(text), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%lld", (long long)(grace_ms + 5000) * 1000);
	systemd_notify(text);
	log_info("Stopping: %u clients have up to %lld ms to finish", atomic_load(&ctl->server.n_clients),
		 (long long)grace_ms);
	LIST_EACH (pos, next, &ctl->listeners) {
		struct listener *l = container_of(pos, struct listener, node);

		listener_close(&l);
	}
	for (unsigned i = 0; i < ctl->server.n_workers; i++)
		worker_run_on(&ctl->server.workers[i], worker_drain, (void *)(intptr_t)grace_ms);
}

void control_worker_stopped(struct control *ctl)
{
	if (++ctl->n_stopped == ctl->server.n_workers)
		event_base_loopbreak(ctl->base);
}

/* ---- signals ---- */

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
	struct control *ctl = arg;

	(void)what;
	switch (sig) {
	case SIGHUP:
		control_reload(ctl, NULL, 0);
		break;
	case SIGUSR1:
		log_reopen();
		log_info("Log file opened again");
		break;
	case SIGQUIT:
		stop_now(ctl);
		break;
	default: /* TERM, INT: in peace, the second time at once */
		if (ctl->stopping)
			stop_now(ctl);
		else
			control_drain(ctl);
		break;
	}
}

static bool watch_signals(struct control *ctl)
{
	static const int signals[N_SIGNALS] = {SIGHUP, SIGUSR1, SIGQUIT, SIGTERM, SIGINT};

	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < N_SIGNALS; i++) {
		ctl->signals[i] = evsignal_new(ctl->base, signals[i], on_signal, ctl);
		if (!ctl->signals[i] || event_add(ctl->signals[i], NULL) < 0)
			return false;
	}
	return true;
}

/* ---- every second ---- */

static void sample_rate(struct control *ctl)
{
	uint64_t commands = 0;

	for (unsigned i = 0; i < ctl->server.n_workers; i++)
		commands += counter_get(&ctl->server.workers[i].counters.commands);
	atomic_store(&ctl->server.ops_per_sec, commands - ctl->commands_before);
	ctl->commands_before = commands;
}

/* systemd hears from us only while every worker's loop turns. */
static void feed_watchdog(struct control *ctl)
{
	int64_t now_us = clock_now_us();

	if (ctl->watchdog_us == 0 || now_us - ctl->watchdog_fed_us < ctl->watchdog_us / 3)
		return;
	for (unsigned i = 0; i < ctl->server.n_workers; i++)
		if (ctl->n_stopped == 0 && now_us - atomic_load(&ctl->server.workers[i].beat_us) > WATCHDOG_STALE_US)
			return;
	ctl->watchdog_fed_us = now_us;
	systemd_notify("WATCHDOG=1");
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;
	int64_t now_us = clock_now_us();

	(void)fd;
	(void)what;
	feed_watchdog(ctl);
	if (now_us - ctl->sampled_us >= 1000000) {
		ctl->sampled_us = now_us;
		sample_rate(ctl);
	}
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < ctl->n_watches; i++)
		watch_tick(ctl->watches[i]);
}

void control_topology_asked(struct control *ctl)
{
	on_watch(-1, 0, ctl);
}

static void on_mailbox(evutil_socket_t fd, short what, void *arg)
{
	struct control *ctl = arg;

	(void)fd;
	(void)what;
	mailbox_run(&ctl->server.control_mailbox, &ctl->server);
}

/* ---- building ---- */

static void raise_fd_limit(const struct config *config)
{
	rlim_t want = (rlim_t)config->server.max_clients + (rlim_t)config->upstreams[0].pool_size + 256;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= want)
		return;
	limit.rlim_cur = limit.rlim_max > want ? want : limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < want)
		log_warn("max_clients = %lld needs %llu file descriptors, but the limit is %llu (LimitNOFILE=, ulimit "
			 "-n)",
			 (long long)config->server.max_clients, (unsigned long long)want,
			 (unsigned long long)limit.rlim_cur);
}

static unsigned worker_count(const struct config *config)
{
	long n = config->server.workers > 0 ? (long)config->server.workers : sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned)n;
}

/* Forty hexadecimal digits, as Cluster nodes have them. */
static void make_node_id(char id[41])
{
	unsigned char bytes[20];

	randombytes_buf(bytes, sizeof(bytes));
	sodium_bin2hex(id, 41, bytes, sizeof(bytes));
}

static bool start_server(struct control *ctl, struct shared_config *holder)
{
	const struct config *config = holder->config;
	struct server *s = &ctl->server;
	struct store *store;

	s->n_workers = worker_count(config);
	s->control = ctl;
	s->start_us = clock_now_us();
	make_node_id(s->node_id);
	atomic_store(&s->max_clients, (unsigned)config->server.max_clients);
	s->slowlog = slowlog_new(config->log.slow_us);
	s->stats = stats_new();
	s->subscriptions = subscriptions_new();
	s->sliding = sliding_new();
	randombytes_buf(s->limit_seed, sizeof(s->limit_seed));
	limits_adopt(holder->limits, NULL);
	s->leases = leases_new();
	if (mailbox_init(&s->control_mailbox) < 0)
		return false;
	if (!control_open_store(holder, &store))
		return false;
	control_open_upstreams(ctl, holder, store);
	store_unref(&store);
	s->workers = xcalloc(s->n_workers, sizeof(*s->workers));
	for (unsigned i = 0; i < s->n_workers; i++)
		if (!worker_init(&s->workers[i], i, s, ctl->snapshot))
			return false;
	ctl->running = true;
	return true;
}

static bool start_events(struct control *ctl)
{
	struct timeval tv = {0, 500000}, watch = {0, WATCH_US};

	ctl->mailbox_event =
		event_new(ctl->base, ctl->server.control_mailbox.fd, EV_READ | EV_PERSIST, on_mailbox, ctl);
	ctl->second_event = event_new(ctl->base, -1, EV_PERSIST, on_second, ctl);
	ctl->watch_event = event_new(ctl->base, -1, EV_PERSIST, on_watch, ctl);
	ctl->watchdog_us = systemd_watchdog_us();
	if (ctl->watchdog_us > 0 && ctl->watchdog_us / 4 < 500000)
		tv.tv_usec = ctl->watchdog_us / 4;
	return ctl->mailbox_event && ctl->second_event && ctl->watch_event &&
	       event_add(ctl->watch_event, &watch) == 0 && event_add(ctl->mailbox_event, NULL) == 0 &&
	       event_add(ctl->second_event, &tv) == 0 && watch_signals(ctl);
}

static bool start_workers(struct control *ctl)
{
	for (unsigned i = 0; i < ctl->server.n_workers; i++)
		if (!worker_start(&ctl->server.workers[i]))
			return false;
	return true;
}

static bool any_unknown(const struct control *ctl)
{
	for (size_t i = 0; i < ctl->n_watches; i++)
		if (watch_topology(ctl->watches[i])->n_shards == 0)
			return true;
	return false;
}

/* The first clients shall find what there is: Clusters and Sentinels get a moment to be asked. */
static void wait_for_topologies(struct control *ctl)
{
	int64_t until_us = clock_now_us() + FIRST_MAP_US;

	while (any_unknown(ctl) && clock_now_us() < until_us)
		event_base_loop(ctl->base, EVLOOP_ONCE);
}

static void run_mailboxes(struct server *s, unsigned times)
{
	for (unsigned i = 0; i < times * s->n_workers; i++)
		mailbox_run(&s->workers[i % s->n_workers].mailbox, &s->workers[i % s->n_workers]);
}

static void finish(struct control *ctl)
{
	struct server *s = &ctl->server;

	for (unsigned i = 0; i < s->n_workers; i++)
		pthread_join(s->workers[i].thread, NULL);
	for (unsigned i = 0; i < s->n_workers; i++)
		worker_close_clients(&s->workers[i]);
	/* Messages make messages (a question to all workers comes back to who asked): twice is enough. */
	run_mailboxes(s, 2);
	for (unsigned i = 0; i < s->n_workers; i++)
		worker_close_links(&s->workers[i]);
	run_mailboxes(s, 1);
	for (unsigned i = 0; i < s->n_workers; i++)
		worker_fini(&s->workers[i]);
	mailbox_run(&s->control_mailbox, s);
	control_close_upstreams(ctl);
	free(s->workers);
	slowlog_free(&s->slowlog);
	stats_free(&s->stats);
	subscriptions_free(&s->subscriptions);
	sliding_free(&s->sliding);
	leases_free(&s->leases);
	snapshot_unref(&ctl->snapshot);
	for (size_t i = 0; i < ctl->n_learnt; i++)
		command_set_unref(&ctl->learnt[i]);
	free(ctl->learnt);
	for (int i = 0; i < N_SIGNALS; i++)
		event_free(ctl->signals[i]);
	event_free(ctl->mailbox_event);
	event_free(ctl->second_event);
	event_free(ctl->watch_event);
	mailbox_fini(&s->control_mailbox);
	event_base_free(ctl->base);
}

int control_run(struct shared_config *holder, const struct config_source *source)
{
	const struct config *config = holder->config;
	struct control ctl = {.source = source, .keepalive_s = (int)(config->server.tcp_keepalive_ms / 1000)};
	struct event_config *conf = event_config_new();

	list_init(&ctl.listeners);
	list_init(&ctl.counts);
	event_config_set_flag(conf, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(conf, EVENT_BASE_FLAG_PRECISE_TIMER); /* trackers ask by the millisecond */
	ctl.base = event_base_new_with_config(conf);
	event_config_free(conf);
	control_log_warnings(config);
	raise_fd_limit(config);
	if (!ctl.base || !control_open_listeners(&ctl, config)) {
		shared_config_unref(&holder);
		return 1;
	}
	if (!start_server(&ctl, holder) || !start_events(&ctl) || !start_workers(&ctl)) {
		log_error("Can't start: %s", strerror(errno));
		return 1;
	}
	shared_config_unref(&holder);
	wait_for_topologies(&ctl);
	LIST_EACH (pos, next, &ctl.listeners) {
		struct listener *l = container_of(pos, struct listener, node);

		listener_start(l, ctl.base, control_accepted, &ctl);
		control_log_listener(l);
	}
	log_info("Keyweir %s ready with %u workers", KEYWEIR_VERSION, ctl.server.n_workers);
	systemd_notify("READY=1\nSTATUS=Serving");
	event_base_dispatch(ctl.base);
	finish(&ctl);
	log_info("Stopped");
	return 0;
}
