/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages between the threads of the daemon: see server.h. */
#include "server.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "control.h"
#include "worker.h"

void server_tell_workers(struct server *s, struct worker *except, enum server_news news)
{
	for (unsigned i = 0; i < s->n_workers; i++)
		if (&s->workers[i] != except)
			worker_run_on(&s->workers[i], worker_hear, (void *)(intptr_t)news);
}

/* ---- gather ---- */

static void gather_back(struct message *m, void *owner)
{
	struct gather *g = container_of(m, struct gather, message);

	(void)owner;
	g->done(g);
}

static void gather_on(struct worker *w, void *arg)
{
	struct gather *g = arg;

	g->collect(w, g);
	if (atomic_fetch_sub(&g->left, 1) != 1)
		return;
	g->message.run = gather_back;
	mailbox_post(&g->asker->mailbox, &g->message);
}

void server_gather(struct server *s, struct worker *asker, struct gather *g)
{
	g->asker = asker;
	atomic_store(&g->left, s->n_workers);
	for (unsigned i = 0; i < s->n_workers; i++)
		worker_run_on(&s->workers[i], gather_on, g);
}

/* ---- to the control thread ---- */

static void run_stopped(struct message *m, void *owner)
{
	struct server *s = owner;

	free(m);
	control_worker_stopped(s->control);
}

void server_worker_stopped(struct server *s)
{
	struct message *m = xcalloc(1, sizeof(*m));

	m->run = run_stopped;
	mailbox_post(&s->control_mailbox, m);
}

static void run_reload(struct message *m, void *owner)
{
	struct server *s = owner;

	control_reload_asked(s->control, container_of(m, struct server_reload, message));
}

void server_ask_reload(struct server *s, struct server_reload *reload)
{
	reload->message.run = run_reload;
	mailbox_post(&s->control_mailbox, &reload->message);
}

static void run_topology(struct message *m, void *owner)
{
	struct server *s = owner;

	free(m);
	control_topology_asked(s->control);
}

void server_ask_topology(struct server *s)
{
	struct message *m = xcalloc(1, sizeof(*m));

	m->run = run_topology;
	mailbox_post(&s->control_mailbox, m);
}

static void run_confirmation(struct message *m, void *owner)
{
	struct server *s = owner;

	free(m);
	control_confirmation_asked(s->control);
}

void server_ask_confirmation(struct server *s)
{
	struct message *m = xcalloc(1, sizeof(*m));

	m->run = run_confirmation;
	mailbox_post(&s->control_mailbox, m);
}

struct token_message {
	struct message message; /* first */
	char *key;
	size_t len;
};

static void run_token(struct message *m, void *owner)
{
	struct token_message *tm = container_of(m, struct token_message, message);
	struct server *s = owner;

	control_token_asked(s->control, tm->key, tm->len);
	free(tm->key);
	free(tm);
}

void server_ask_token(struct server *s, char *key, size_t len)
{
	struct token_message *tm = xcalloc(1, sizeof(*tm));

	tm->message.run = run_token;
	tm->key = key;
	tm->len = len;
	mailbox_post(&s->control_mailbox, &tm->message);
}

static void run_count(struct message *m, void *owner)
{
	struct server *s = owner;

	control_count_asked(s->control, container_of(m, struct server_token_count, message));
}

void server_count_tokens(struct server *s, struct server_token_count *count)
{
	count->message.run = run_count;
	mailbox_post(&s->control_mailbox, &count->message);
}

static void run_learn(struct message *m, void *owner)
{
	struct server *s = owner;

	free(m);
	control_learn(s->control);
}

void server_ask_learn(struct server *s)
{
	static const int64_t pause_us = 1000000;
	int64_t now_us = clock_now_us(), last_us = atomic_load(&s->learn_us);
	struct message *m;

	if (now_us - last_us < pause_us || !atomic_compare_exchange_strong(&s->learn_us, &last_us, now_us))
		return;
	m = xcalloc(1, sizeof(*m));
	m->run = run_learn;
	mailbox_post(&s->control_mailbox, m);
}
