/* SPDX-License-Identifier: BSD-2-Clause */
/* See namespace_stats.h. */
#include "client/namespace_stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/rewrite.h"
#include "resp/write.h"
#include "server.h"

void namespace_stats_renew(struct worker *w, const struct namespaces *old)
{
	const struct namespaces *now = w->snapshot->holder->namespaces;
	struct namespace_counts *counts = xcalloc(namespaces_count(now) + 1, sizeof(*counts));

	for (size_t i = 0; old && i < namespaces_count(old); i++) {
		const struct namespace *same = namespaces_named(now, namespaces_at(old, i)->conf->name);

		if (same)
			counts[same->id] = w->namespace_counts[i];
	}
	free(w->namespace_counts);
	w->namespace_counts = counts;
}

void namespace_stats_fini(struct worker *w)
{
	free(w->namespace_counts);
	w->namespace_counts = NULL;
}

/* A request may have been made under another configuration; then it may be counted for another namespace. */
static struct namespace_counts *counts_of(struct worker *w, size_t id)
{
	return id < namespaces_count(w->snapshot->holder->namespaces) ? &w->namespace_counts[id] : NULL;
}

void namespace_stats_refused(struct worker *w, const struct rewrite *rw)
{
	const struct namespace *ns = rw->n_keys > 0 ? rw->keys[0].at.ns : rw->view.bound;

	if (ns)
		counts_of(w, ns->id)->errors++;
}

static bool removes(const struct command *cmd)
{
	return cmd->n_specs > 0 && cmd->specs[0].flags & (KEY_RM | KEY_DELETE);
}

void namespace_stats_add(struct worker *w, const struct request *r, char type, int64_t number, size_t bytes)
{
	struct namespace_counts *n = counts_of(w, r->ns - 1u);

	if (!n)
		return;
	n->bytes += bytes;
	if (type == '-' || type == '!')
		n->errors++;
	else if (r->cmd->flags & CMD_WRITE)
		removes(r->cmd) ? n->deletes++ : n->sets++;
	else if (type == '_' || number < 0 || (number == 0 && type != '$' && type != ':'))
		n->misses++;
	else
		n->hits++;
}

/* ---- the sums of all workers ---- */

struct sums_job {
	struct job job; /* first */
	struct gather gather;
	pthread_mutex_t lock;
	struct shared_config *holder;
	struct namespace_counts *sums;
	const struct namespace *bound; /* the holder's */
	namespace_tell_fn tell;
	int proto;
};

static void add(struct namespace_counts *sum, const struct namespace_counts *n)
{
	sum->hits += n->hits;
	sum->misses += n->misses;
	sum->sets += n->sets;
	sum->deletes += n->deletes;
	sum->errors += n->errors;
	sum->bytes += n->bytes;
	sum->near_hits += n->near_hits;
	sum->near_misses += n->near_misses;
	sum->near_joined += n->near_joined;
	sum->near_stale += n->near_stale;
}

static void collect(struct worker *w, struct gather *g)
{
	struct sums_job *job = container_of(g, struct sums_job, gather);

	/* A worker that has taken a newer configuration has other namespaces: by name. */
	pthread_mutex_lock(&job->lock);
	for (size_t i = 0; i < namespaces_count(job->holder->namespaces); i++) {
		const struct namespace *asked = namespaces_at(job->holder->namespaces, i);
		const struct namespace *ns = namespaces_named(w->snapshot->holder->namespaces, asked->conf->name);

		if (ns)
			add(&job->sums[i], &w->namespace_counts[ns->id]);
	}
	pthread_mutex_unlock(&job->lock);
}

static void collected(struct gather *g)
{
	struct sums_job *job = container_of(g, struct sums_job, gather);
	const struct namespace_sums sums = {job->holder, job->sums, job->bound, g->asker->snapshot, job->proto};
	struct buf b = {0};

	job->tell(&sums, &b);
	client_job_end(&job->job, &b);
	shared_config_unref(&job->holder);
	pthread_mutex_destroy(&job->lock);
	free(job->sums);
	free(job);
}

enum verdict namespace_stats_gather(struct client *c, const struct call *call, namespace_tell_fn tell)
{
	struct sums_job *job = xcalloc(1, sizeof(*job));

	job->holder = shared_config_ref(c->w->snapshot->holder);
	job->sums = xcalloc(namespaces_count(job->holder->namespaces) + 1, sizeof(*job->sums));
	job->bound = client_view(c).bound;
	job->tell = tell;
	job->proto = c->proto;
	pthread_mutex_init(&job->lock, NULL);
	job->gather.collect = collect;
	job->gather.done = collected;
	client_job_begin(c, call, &job->job);
	server_gather(c->w->server, c->w, &job->gather);
	return CALL_DONE;
}

/* ---- KEYWEIR NAMESPACES ---- */

static void put_namespace(struct buf *b, int proto, const struct namespace *ns, const struct namespace_counts *n)
{
	uint64_t reads = n->hits + n->misses;
	char rate[16];

	snprintf(rate, sizeof(rate), "%.4f", reads > 0 ? (double)n->hits / (double)reads : 0.0);
	resp_map(b, proto, 10);
	resp_field_text(b, "name", ns->conf->name);
	resp_field_text(b, "prefix", ns->prefix);
	resp_field_text(b, "upstream", ns->conf->upstream);
	resp_field(b, "hits", n->hits);
	resp_field(b, "misses", n->misses);
	resp_field_text(b, "hit_rate", rate);
	resp_field(b, "sets", n->sets);
	resp_field(b, "deletes", n->deletes);
	resp_field(b, "errors", n->errors);
	resp_field(b, "bytes", n->bytes);
}

static void tell(const struct namespace_sums *sums, struct buf *b)
{
	const struct namespaces *all = sums->holder->namespaces;

	resp_array(b, namespaces_count(all));
	for (size_t i = 0; i < namespaces_count(all); i++)
		put_namespace(b, sums->proto, namespaces_at(all, i), &sums->sums[i]);
}

enum verdict namespace_stats_tell(struct client *c, const struct call *call)
{
	return namespace_stats_gather(c, call, tell);
}
