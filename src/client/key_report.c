/* SPDX-License-Identifier: BSD-2-Clause */
/* See key_report.h. */
#include "client/key_report.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "resp/write.h"

#define COUNT_DEFAULT 10

struct key_row *key_report_add(struct key_report *report, const struct seen_key *key)
{
	struct buf name = {0};
	struct key_row *row;

	if (!key_told(&report->teller, key, &name)) {
		buf_release(&name);
		return NULL;
	}
	if (report->n == report->room) {
		report->room = report->room * 2 + 64;
		report->rows = xreallocarray(report->rows, report->room, sizeof(*report->rows));
	}
	row = &report->rows[report->n++];
	*row = (struct key_row){.len = buf_len(&name)};
	row->name = xmemdup0(name.data ? buf_head(&name) : "", row->len);
	buf_release(&name);
	return row;
}

static int compare_names(const struct key_row *a, const struct key_row *b)
{
	int bytes = memcmp(a->name, b->name, a->len < b->len ? a->len : b->len);

	return bytes ? bytes : (a->len > b->len) - (a->len < b->len);
}

static int by_name(const void *x, const void *y)
{
	const struct key_row *a = x, *b = y;
	int names = compare_names(a, b);

	if (names)
		return names;
	if (a->cmd != b->cmd)
		return a->cmd->id < b->cmd->id ? -1 : 1;
	return a->request - b->request;
}

static int by_weight(const void *x, const void *y)
{
	const struct key_row *a = x, *b = y;

	if (a->weight < b->weight || a->weight > b->weight)
		return a->weight < b->weight ? 1 : -1;
	return by_name(a, b);
}

/* What several workers have seen is one. */
static void merge(struct key_report *r)
{
	size_t n = 0;

	if (r->n > 1)
		qsort(r->rows, r->n, sizeof(*r->rows), by_name);
	for (size_t i = 0; i < r->n; i++) {
		if (n > 0 && by_name(&r->rows[n - 1], &r->rows[i]) == 0) {
			r->kind->merge(&r->rows[n - 1], &r->rows[i]);
			free(r->rows[i].name);
		} else {
			r->rows[n++] = r->rows[i];
		}
	}
	r->n = n;
}

static void collect(struct worker *w, struct gather *g)
{
	struct key_report *r = container_of(g, struct key_report, gather);

	pthread_mutex_lock(&r->lock);
	r->kind->collect(w, r);
	pthread_mutex_unlock(&r->lock);
}

static void tell(struct gather *g)
{
	struct key_report *r = container_of(g, struct key_report, gather);
	struct buf b = {0};
	size_t n;

	merge(r);
	if (r->n > 1)
		qsort(r->rows, r->n, sizeof(*r->rows), by_weight);
	n = r->wanted < r->n ? r->wanted : r->n;
	r->now_us = clock_now_us();
	resp_array(&b, n);
	for (size_t i = 0; i < n; i++)
		r->kind->put(r, &r->rows[i], &b);
	client_job_end(&r->job, &b);
	for (size_t i = 0; i < r->n; i++)
		free(r->rows[i].name);
	free(r->rows);
	shared_config_unref(&r->holder);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* [COUNT n]; false: it is something else. */
static bool read_count(const struct call *call, size_t *wanted)
{
	int64_t n;

	*wanted = COUNT_DEFAULT;
	if (call->frame->argc == 2)
		return true;
	if (call->frame->argc != 4 || !call_arg_is(call, 2, "COUNT") || !call_arg_int(call, 3, &n) || n < 1)
		return false;
	*wanted = (size_t)n;
	return true;
}

enum verdict key_report_tell(struct client *c, const struct call *call, const struct key_report_kind *kind)
{
	struct key_report *r;
	size_t wanted;

	if (!read_count(call, &wanted)) {
		client_reply_error(c, call, "ERR it may be followed by COUNT and a number from 1 on, and nothing else");
		return CALL_DONE;
	}
	r = xcalloc(1, sizeof(*r));
	r->kind = kind;
	r->wanted = wanted;
	r->holder = shared_config_ref(c->w->snapshot->holder);
	r->teller.view = client_view(c);
	pthread_mutex_init(&r->lock, NULL);
	r->gather.collect = collect;
	r->gather.done = tell;
	client_job_begin(c, call, &r->job);
	server_gather(c->w->server, c->w, &r->gather);
	return CALL_DONE;
}
