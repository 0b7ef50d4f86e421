/* SPDX-License-Identifier: BSD-2-Clause */
/* How many clients and hubs of the whole process listen to a name: see hub.h. Any thread; one lock. */
#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"
#include "base/mem.h"
#include "policy/glob.h"
#include "client/hub.h"

struct count {
	int clients;
	int hubs;
};

struct subscriptions {
	pthread_mutex_t lock;
	struct map maps[HUB_KINDS]; /* name -> struct count */
};

struct subscriptions *subscriptions_new(void)
{
	struct subscriptions *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	for (int i = 0; i < HUB_KINDS; i++)
		map_init(&s->maps[i]);
	return s;
}

static void free_count(void *ctx, const struct map_entry *e)
{
	(void)ctx;
	free(e->value);
}

void subscriptions_free(struct subscriptions **sp)
{
	struct subscriptions *s = *sp;

	*sp = NULL;
	for (int i = 0; i < HUB_KINDS; i++) {
		map_each(&s->maps[i], free_count, NULL);
		map_fini(&s->maps[i]);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void subscriptions_count(struct subscriptions *s, enum hub_kind kind, const char *name, size_t len, int clients,
			 int hubs)
{
	struct count *count;

	pthread_mutex_lock(&s->lock);
	count = map_get(&s->maps[kind], name, len);
	if (!count) {
		count = xcalloc(1, sizeof(*count));
		map_set(&s->maps[kind], name, len, count);
	}
	count->clients += clients;
	count->hubs += hubs;
	if (count->clients == 0 && count->hubs == 0) {
		map_del(&s->maps[kind], name, len);
		free(count);
	}
	pthread_mutex_unlock(&s->lock);
}

static int64_t extra_of(const struct map *m, const char *name, size_t len)
{
	const struct count *count = map_get(m, name, len);

	return count ? count->clients - count->hubs : 0;
}

struct pattern_search {
	const char *channel;
	size_t len;
	int64_t extra;
};

static void add_pattern(void *ctx, const struct map_entry *e)
{
	struct pattern_search *search = ctx;
	const struct count *count = e->value;

	if (count->clients != count->hubs && glob_match(e->key, e->key_len, search->channel, search->len))
		search->extra += count->clients - count->hubs;
}

int64_t subscriptions_correction(struct subscriptions *s, bool shard, const char *channel, size_t len)
{
	struct pattern_search search = {channel, len, 0};
	int64_t extra;

	pthread_mutex_lock(&s->lock);
	extra = extra_of(&s->maps[shard ? HUB_SHARD : HUB_CHANNEL], channel, len);
	if (!shard && s->maps[HUB_PATTERN].n > 0)
		map_each(&s->maps[HUB_PATTERN], add_pattern, &search);
	pthread_mutex_unlock(&s->lock);
	return extra + search.extra;
}

int64_t subscriptions_extra(struct subscriptions *s, enum hub_kind kind, const char *name, size_t len)
{
	int64_t extra;

	pthread_mutex_lock(&s->lock);
	extra = extra_of(&s->maps[kind], name, len);
	pthread_mutex_unlock(&s->lock);
	return extra;
}
