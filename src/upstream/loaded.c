/* SPDX-License-Identifier: BSD-2-Clause */
/* Scripts and functions for nodes that join later: see loaded.h. */
#include "upstream/loaded.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/mem.h"

struct item {
	struct list node; /* oldest first */
	enum loaded_kind kind;
	char *name;
	struct buf request;
};

struct loaded {
	pthread_mutex_t lock;
	struct list items;
	size_t bytes;
};

struct loaded *loaded_new(void)
{
	struct loaded *l = xcalloc(1, sizeof(*l));

	pthread_mutex_init(&l->lock, NULL);
	list_init(&l->items);
	return l;
}

static void drop(struct loaded *l, struct item *i)
{
	list_remove(&i->node);
	l->bytes -= buf_len(&i->request);
	buf_release(&i->request);
	free(i->name);
	free(i);
}

void loaded_free(struct loaded **lp)
{
	struct loaded *l = *lp;

	*lp = NULL;
	while (!list_empty(&l->items))
		drop(l, container_of(l->items.next, struct item, node));
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static bool matches(const struct item *i, enum loaded_kind kind, const char *name, size_t len)
{
	return i->kind == kind && (!name || (strlen(i->name) == len && strncasecmp(i->name, name, len) == 0));
}

static void remove_matching(struct loaded *l, enum loaded_kind kind, const char *name, size_t len)
{
	LIST_EACH (pos, next, &l->items) {
		struct item *i = container_of(pos, struct item, node);

		if (matches(i, kind, name, len))
			drop(l, i);
	}
}

void loaded_add(struct loaded *l, enum loaded_kind kind, const char *name, size_t len, const char *request,
		size_t request_len)
{
	struct item *i;

	if (request_len > LOADED_BYTES_MAX)
		return;
	pthread_mutex_lock(&l->lock);
	remove_matching(l, kind, name, len);
	while (l->bytes + request_len > LOADED_BYTES_MAX)
		drop(l, container_of(l->items.next, struct item, node));
	i = xcalloc(1, sizeof(*i));
	i->kind = kind;
	i->name = xmemdup0(name, len);
	buf_put(&i->request, request, request_len);
	l->bytes += request_len;
	list_append(&l->items, &i->node);
	pthread_mutex_unlock(&l->lock);
}

void loaded_remove(struct loaded *l, enum loaded_kind kind, const char *name, size_t len)
{
	pthread_mutex_lock(&l->lock);
	remove_matching(l, kind, name, len);
	pthread_mutex_unlock(&l->lock);
}

unsigned loaded_requests(struct loaded *l, enum loaded_kind kind, const char *name, size_t len, struct buf *out)
{
	unsigned n = 0;

	pthread_mutex_lock(&l->lock);
	LIST_EACH (pos, next, &l->items) {
		const struct item *i = container_of(pos, struct item, node);

		if (!matches(i, kind, name, len))
			continue;
		buf_put(out, buf_head(&i->request), buf_len(&i->request));
		n++;
	}
	pthread_mutex_unlock(&l->lock);
	return n;
}
