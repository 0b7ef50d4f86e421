/* SPDX-License-Identifier: BSD-2-Clause */
/* KEYWEIR RATELIMITS: what became of what each rule is about, summed up over the workers. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/limit.h"
#include "resp/write.h"
#include "server.h"

struct tell_job {
	struct job job; /* first */
	struct gather gather;
	pthread_mutex_t lock;
	struct shared_config *holder;
	struct limit_counts sums[RATE_LIMITS_MAX];
	int proto;
};

/* A worker may have another configuration already: by name. */
static const struct limit_counts *counts_of(const struct worker *w, const char *name)
{
	const struct limits *l = w->snapshot->holder->limits;

	for (size_t i = 0; l && i < l->n; i++)
		if (strcmp(l->rules[i].conf->name, name) == 0)
			return &w->limit_counts[i];
	return NULL;
}

static void add(struct limit_counts *sum, const struct limit_counts *n)
{
	sum->allowed += n->allowed;
	sum->rejected += n->rejected;
	sum->delayed += n->delayed;
	sum->would += n->would;
	sum->leases += n->leases;
	sum->local += n->local;
}

static void collect(struct worker *w, struct gather *g)
{
	struct tell_job *job = container_of(g, struct tell_job, gather);
	const struct limits *l = job->holder->limits;

	pthread_mutex_lock(&job->lock);
	for (size_t i = 0; l && i < l->n; i++) {
		const struct limit_counts *n = counts_of(w, l->rules[i].conf->name);

		if (n)
			add(&job->sums[i], n);
	}
	pthread_mutex_unlock(&job->lock);
}

static void put_rule(struct buf *b, int proto, const struct limit_rule *rule, const struct limit_counts *n)
{
	static const char *const on[] = {"commands", "connections"};
	static const char *const per[] = {"client_ip", "user", "key", "namespace", "all"};
	static const char *const actions[] = {"reject", "delay"};
	const struct rate_limit_config *conf = rule->conf;
	struct buf rate = {0};

	buf_printf(&rate, "%lld/%c", (long long)conf->rate.count,
		   conf->rate.period_s == 1	 ? 's'
		   : conf->rate.period_s == 60	 ? 'm'
		   : conf->rate.period_s == 3600 ? 'h'
						 : 'd');
	resp_map(b, proto, 14);
	resp_field_text(b, "name", conf->name);
	resp_field_text(b, "on", on[conf->on]);
	resp_field_text(b, "per", per[conf->per]);
	resp_bulks(b, "rate");
	resp_bulk(b, buf_head(&rate), buf_len(&rate));
	resp_field(b, "burst", (uint64_t)conf->burst);
	resp_field_text(b, "action", actions[conf->action]);
	resp_field(b, "shared", conf->shared);
	resp_field(b, "dry_run", conf->dry_run);
	resp_field(b, "allowed", n->allowed);
	resp_field(b, "rejected", n->rejected);
	resp_field(b, "delayed", n->delayed);
	resp_field(b, "would_refuse", n->would);
	resp_field(b, "leases", n->leases);
	resp_field(b, "decided_alone", n->local);
	buf_release(&rate);
}

/* Connections are taken by the control thread. */
static void add_connections(const struct server *s, const struct limits *l, struct limit_counts *sums)
{
	for (size_t i = 0; l && i < l->n; i++) {
		const struct connection_counts *n = &s->connection_counts[i];

		if (l->rules[i].conf->on != LIMIT_CONNECTIONS)
			continue;
		sums[i].allowed = atomic_load(&n->allowed);
		sums[i].rejected = atomic_load(&n->rejected);
		sums[i].would = atomic_load(&n->would);
	}
}

static void tell(struct gather *g)
{
	struct tell_job *job = container_of(g, struct tell_job, gather);
	const struct limits *l = job->holder->limits;
	struct buf b = {0};

	add_connections(g->asker->server, l, job->sums);
	resp_array(&b, l ? l->n : 0);
	for (size_t i = 0; l && i < l->n; i++)
		put_rule(&b, job->proto, &l->rules[i], &job->sums[i]);
	client_job_end(&job->job, &b);
	shared_config_unref(&job->holder);
	pthread_mutex_destroy(&job->lock);
	free(job);
}

enum verdict limit_tell(struct client *c, const struct call *call)
{
	struct tell_job *job = xcalloc(1, sizeof(*job));

	job->holder = shared_config_ref(c->w->snapshot->holder);
	job->proto = c->proto;
	pthread_mutex_init(&job->lock, NULL);
	job->gather.collect = collect;
	job->gather.done = tell;
	client_job_begin(c, call, &job->job);
	server_gather(c->w->server, c->w, &job->gather);
	return CALL_DONE;
}
