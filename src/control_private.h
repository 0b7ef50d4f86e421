/* SPDX-License-Identifier: BSD-2-Clause */
/* What control.c and reload.c share. */
#ifndef KEYWEIR_CONTROL_PRIVATE_H
#define KEYWEIR_CONTROL_PRIVATE_H

#include "base/list.h"
#include "control.h"
#include "net/addr.h"
#include "net/listener.h"
#include "resp/errors.h"
#include "upstream/watch.h"

struct event;
struct event_base;
struct token_count;
struct token_keeper;

#define N_SIGNALS 5

struct control {
	struct server server;
	const struct config_source *source;
	struct event_base *base;
	struct list listeners;
	struct snapshot *snapshot; /* the current one */
	struct watch **watches;	   /* by upstream, as in the snapshot */
	size_t n_watches;
	struct command_set *
		*learnt; /* all that were ever published: requests point into them for as long as they like */
	size_t n_learnt;
	struct event *signals[N_SIGNALS];
	struct event *mailbox_event;
	struct event *second_event;
	struct event *watch_event;
	struct token_keeper *tokens;  /* NULL: there is no list in memory */
	struct list counts;	      /* TOKEN.COUNT: struct server_token_count, those that wait */
	unsigned n_counting;	      /* the first of them, who are being answered */
	struct token_count *counting; /* for these, unless the mirror knows */
	int keepalive_s;
	unsigned n_stopped;
	bool running; /* there are workers to be told of a new snapshot */
	bool stopping;
	bool inherited; /* sockets came from systemd: server.listen is not used */
	int64_t watchdog_us;
	int64_t watchdog_fed_us;
	int64_t sampled_us;
	uint64_t commands_before;
};

void control_accepted(void *ctx, int fd, const struct listener *l);
void control_drain(struct control *ctl);

/* reload.c */
bool control_open_listeners(struct control *ctl, const struct config *config);
void control_log_listener(const struct listener *l);
bool control_reload(struct control *ctl, char *error, size_t error_size);

void control_log_warnings(const struct config *config);

/* At start: builds the upstreams of the configuration, and their watches. */
void control_open_upstreams(struct control *ctl, struct shared_config *holder, struct store *store);
void control_close_upstreams(struct control *ctl);

/* A reload: upstreams that did not change stay, with their connections. */
void control_change_upstreams(struct control *ctl, struct shared_config *holder, struct store *store);

/* The near-cache that the configuration wants, empty; NULL in *out: none. False: the system has no room for it. */
bool control_open_store(const struct shared_config *holder, struct store **out);

/* control_tokens.c: the token blacklist. Another configuration, before it is published; news of an upstream. */
void control_change_tokens(struct control *ctl, struct shared_config *holder);
void control_token_topology(struct control *ctl, struct upstream *up, struct topology *topo);
void control_token_changed(struct control *ctl, struct upstream *up, const char *key, size_t len);
void control_close_tokens(struct control *ctl);

/* Options of a client's socket. */
void socket_prepare(int fd, const struct address *a, int keepalive_s);

#endif
