/* SPDX-License-Identifier: BSD-2-Clause */
/* Statistics: see stats.h. */
#include "client/stats.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server.h"

struct stats {
	pthread_mutex_t lock; /* over what follows */
	struct totals totals;
	uint64_t took[COMMAND_ID_MAX][LATENCY_BUCKETS];
};

struct stats *stats_new(void)
{
	struct stats *stats = xcalloc(1, sizeof(*stats));

	pthread_mutex_init(&stats->lock, NULL);
	return stats;
}

void stats_free(struct stats **stats)
{
	if (!*stats)
		return;
	pthread_mutex_destroy(&(*stats)->lock);
	free(*stats);
	*stats = NULL;
}

void stats_totals(const struct server *s, struct totals *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < s->n_workers; i++) {
		const struct counters *counters = &s->workers[i].counters;

#define COUNTER(name, help) out->name += counter_get(&counters->name);
#include "counters.def"
#undef COUNTER
	}
}

void stats_totals_since_reset(const struct server *s, struct totals *out)
{
	stats_totals(s, out);
	pthread_mutex_lock(&s->stats->lock);
#define COUNTER(name, help) out->name -= s->stats->totals.name;
#include "counters.def"
#undef COUNTER
	pthread_mutex_unlock(&s->stats->lock);
}

static uint64_t took(const struct server *s, unsigned id, unsigned bucket)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->n_workers; i++)
		n += counter_get(&s->workers[i].counters.took[id][bucket]);
	return n;
}

void stats_reset(struct server *s)
{
	struct totals now;

	stats_totals(s, &now);
	now.blocked = now.subscribers = 0;
	pthread_mutex_lock(&s->stats->lock);
	s->stats->totals = now;
	for (unsigned id = 0; id < COMMAND_ID_MAX; id++)
		for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
			s->stats->took[id][i] = took(s, id, i);
	pthread_mutex_unlock(&s->stats->lock);
}

bool stats_put_latency(const struct server *s, const struct command *cmd, int proto, struct buf *out)
{
	struct buf samples = {0};
	size_t n_samples = 0;
	uint64_t all = 0;

	pthread_mutex_lock(&s->stats->lock);
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
		uint64_t n = took(s, cmd->id, i) - s->stats->took[cmd->id][i];

		if (n == 0)
			continue;
		all += n;
		n_samples++;
		resp_int(&samples, (int64_t)1 << i);
		resp_int(&samples, (int64_t)all);
	}
	pthread_mutex_unlock(&s->stats->lock);
	if (all > 0) {
		resp_bulks(out, cmd->name);
		resp_map(out, proto, 2);
		resp_bulks(out, "calls");
		resp_int(out, (int64_t)all);
		resp_bulks(out, "histogram_usec");
		resp_map(out, proto, n_samples);
		buf_put(out, buf_head(&samples), buf_len(&samples));
	}
	buf_release(&samples);
	return all > 0;
}
