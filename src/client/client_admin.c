/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CLIENT LIST, KILL, UNBLOCK, PAUSE, UNPAUSE: clients of all workers. Each worker looks at its own; the answers come
 * together where the question was asked (server_gather).
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/client_list.h"
#include "client/dispatch.h"
#include "client/hub.h"
#include "net/addr.h"
#include "resp/number.h"
#include "resp/write.h"
#include "server.h"

enum client_type { TYPE_ANY, TYPE_NORMAL, TYPE_PUBSUB, TYPE_OTHER };

/* Which clients; an empty filter means all. */
struct filter {
	uint64_t *ids;
	size_t n_ids;
	enum client_type type;
	char *addr;
	char *laddr;
	char *user;
	int64_t max_age_us; /* those at least so old; 0: of any age */
	uint64_t skip_id;   /* not this one */
	char *bound_name;   /* only those that see nothing but this namespace, as the one who asks; NULL: all */
};

struct admin_job {
	struct job job; /* first */
	struct gather gather;
	struct filter filter;
	bool old_form; /* CLIENT KILL addr: OK or an error instead of a count */
	bool unblock_error;
	atomic_int n_done;
	struct buf *parts; /* one for each worker */
};

static struct admin_job *job_new(const struct client *c)
{
	struct admin_job *job = xcalloc(1, sizeof(*job));

	job->parts = xcalloc(c->w->server->n_workers, sizeof(*job->parts));
	job->filter.bound_name = c->bound_name ? xstrdup(c->bound_name) : NULL;
	return job;
}

static void job_free(struct admin_job *job, struct server *s)
{
	for (unsigned i = 0; i < s->n_workers; i++)
		buf_release(&job->parts[i]);
	free(job->parts);
	free(job->filter.ids);
	free(job->filter.addr);
	free(job->filter.laddr);
	free(job->filter.user);
	free(job->filter.bound_name);
	free(job);
}

static bool address_is(const struct client *c, bool own, const char *wanted)
{
	char text[ADDRESS_TEXT_MAX] = "";
	struct address a;

	if (address_of_socket(c->io.fd, own, &a))
		address_format(&a, text);
	return strcmp(text, wanted) == 0;
}

static bool matches(const struct client *c, const struct filter *f)
{
	bool found = f->n_ids == 0;

	for (size_t i = 0; i < f->n_ids && !found; i++)
		found = f->ids[i] == c->id;
	if (f->bound_name && (!c->bound_name || strcmp(f->bound_name, c->bound_name) != 0))
		return false;
	if (!found || (f->skip_id && f->skip_id == c->id) || f->type == TYPE_OTHER)
		return false;
	if (f->type != TYPE_ANY && hub_is_subscriber(c) != (f->type == TYPE_PUBSUB))
		return false;
	if (f->user && strcmp(f->user, c->extra && c->extra->user ? c->extra->user : "default") != 0)
		return false;
	if (f->max_age_us > 0 && clock_now_us() - c->created_us < f->max_age_us)
		return false;
	return (!f->addr || address_is(c, false, f->addr)) && (!f->laddr || address_is(c, true, f->laddr));
}

static bool parse_type(const struct call *call, uint32_t i, enum client_type *out)
{
	if (call_arg_is(call, i, "NORMAL"))
		*out = TYPE_NORMAL;
	else if (call_arg_is(call, i, "PUBSUB"))
		*out = TYPE_PUBSUB;
	else if (call_arg_is(call, i, "MASTER") || call_arg_is(call, i, "SLAVE") || call_arg_is(call, i, "REPLICA"))
		*out = TYPE_OTHER;
	else
		return false;
	return true;
}

static bool add_id(struct filter *f, const struct call *call, uint32_t i)
{
	int64_t id;

	if (!call_arg_int(call, i, &id) || id < 1)
		return false;
	f->ids = xrealloc(f->ids, (f->n_ids + 1) * sizeof(*f->ids));
	f->ids[f->n_ids++] = (uint64_t)id;
	return true;
}

/* ---- LIST ---- */

static void list_collect(struct worker *w, struct gather *g)
{
	struct admin_job *job = container_of(g, struct admin_job, gather);

	LIST_EACH (pos, next, &w->clients) {
		struct client *c = container_of(pos, struct client, node);

		if (matches(c, &job->filter))
			client_list_line(c, &job->parts[w->id]);
	}
}

static uint64_t line_id(const char *line)
{
	return strtoull(line + 3, NULL, 10); /* "id=" */
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = line_id(*(char *const *)a), y = line_id(*(char *const *)b);

	return x < y ? -1 : x > y;
}

/* Lines of all workers, in the order in which the clients came. */
static void join_sorted(struct admin_job *job, unsigned n_parts, struct buf *out)
{
	char **lines = NULL;
	size_t n = 0;

	for (unsigned i = 0; i < n_parts; i++) {
		struct buf *part = &job->parts[i];
		char *p, *end;

		buf_put(part, "", 1);
		p = buf_head(part);
		for (end = strchr(p, '\n'); end; p = end + 1, end = strchr(p, '\n')) {
			lines = xrealloc(lines, (n + 1) * sizeof(*lines));
			lines[n++] = p;
		}
	}
	if (n > 0)
		qsort(lines, n, sizeof(*lines), by_id);
	for (size_t i = 0; i < n; i++)
		buf_put(out, lines[i], (size_t)(strchr(lines[i], '\n') - lines[i]) + 1);
	free(lines);
}

static void list_done(struct gather *g)
{
	struct admin_job *job = container_of(g, struct admin_job, gather);
	struct server *s = g->asker->server;
	struct buf text = {0}, b = {0};

	if (job->job.client) {
		join_sorted(job, s->n_workers, &text);
		resp_verbatim(&b, job->job.client->proto, text.data ? buf_head(&text) : "", buf_len(&text));
	}
	buf_release(&text);
	client_job_end(&job->job, &b);
	job_free(job, s);
}

enum verdict handle_CLIENT_LIST(struct client *c, const struct call *call)
{
	struct admin_job *job = job_new(c);
	uint32_t argc = call->frame->argc;
	bool ok = argc == 2;

	if (argc == 4 && call_arg_is(call, 2, "TYPE")) {
		ok = parse_type(call, 3, &job->filter.type);
	} else if (argc > 3 && call_arg_is(call, 2, "ID")) {
		ok = true;
		for (uint32_t i = 3; i < argc && ok; i++)
			ok = add_id(&job->filter, call, i);
	}
	if (!ok) {
		job_free(job, c->w->server);
		if (!c->bound_name)
			return forward(c, call, 0, NULL, 0); /* Redis's own words for what is wrong */
		client_reply_error(c, call, "ERR syntax error");
		return CALL_DONE;
	}
	job->gather.collect = list_collect;
	job->gather.done = list_done;
	client_job_begin(c, call, &job->job);
	server_gather(c->w->server, c->w, &job->gather);
	return CALL_DONE;
}

/* ---- KILL ---- */

static void kill_collect(struct worker *w, struct gather *g)
{
	struct admin_job *job = container_of(g, struct admin_job, gather);

	LIST_EACH (pos, next, &w->clients) {
		struct client *c = container_of(pos, struct client, node);

		if (!matches(c, &job->filter))
			continue;
		atomic_fetch_add(&job->n_done, 1);
		if (w == g->asker && job->job.client == c)
			client_close_after(c); /* it still hears the answer */
		else
			client_close(c);
		if (job->old_form)
			break;
	}
}

static void kill_done(struct gather *g)
{
	struct admin_job *job = container_of(g, struct admin_job, gather);
	struct server *s = g->asker->server;
	struct buf b = {0};

	if (job->filter.user && strcmp(job->filter.user, "default") != 0 && atomic_load(&job->n_done) == 0)
		resp_error(&b, "ERR No such user");
	else if (!job->old_form)
		resp_int(&b, atomic_load(&job->n_done));
	else if (atomic_load(&job->n_done) > 0)
		resp_simple(&b, "OK");
	else
		resp_error(&b, "ERR No such client");
	client_job_end(&job->job, &b);
	job_free(job, s);
}

static void keep_arg(char **to, const struct call *call, uint32_t i)
{
	size_t len;
	const char *arg = call_arg(call, i, &len);

	free(*to);
	*to = xmemdup0(arg, len);
}

/* Option i of CLIENT KILL and its value. Returns an error text, or NULL. */
static const char *kill_option(struct client *c, const struct call *call, uint32_t i, struct filter *f)
{
	int64_t seconds;

	if (call_arg_is(call, i, "ID"))
		return add_id(f, call, i + 1) ? NULL : "ERR client-id should be greater than 0";
	if (call_arg_is(call, i, "TYPE"))
		return parse_type(call, i + 1, &f->type) ? NULL : "ERR Unknown client type";
	if (call_arg_is(call, i, "ADDR")) {
		keep_arg(&f->addr, call, i + 1);
	} else if (call_arg_is(call, i, "LADDR")) {
		keep_arg(&f->laddr, call, i + 1);
	} else if (call_arg_is(call, i, "USER")) {
		keep_arg(&f->user, call, i + 1);
	} else if (call_arg_is(call, i, "MAXAGE")) {
		if (!call_arg_int(call, i + 1, &seconds))
			return "ERR maxage is not an integer or out of range";
		if (seconds <= 0)
			return "ERR maxage should be greater than 0";
		f->max_age_us = seconds > INT64_MAX / 1000000 ? INT64_MAX : seconds * 1000000;
	} else if (call_arg_is(call, i, "SKIPME") && call_arg_is(call, i + 1, "YES")) {
		f->skip_id = c->id;
	} else if (call_arg_is(call, i, "SKIPME") && call_arg_is(call, i + 1, "NO")) {
		f->skip_id = 0;
	} else {
		return "ERR syntax error";
	}
	return NULL;
}

static const char *kill_filter(struct client *c, const struct call *call, struct filter *f)
{
	const char *error = NULL;

	f->skip_id = c->id;
	for (uint32_t i = 2; i + 1 < call->frame->argc && !error; i += 2)
		error = kill_option(c, call, i, f);
	return error || call->frame->argc % 2 == 0 ? error : "ERR syntax error";
}

enum verdict handle_CLIENT_KILL(struct client *c, const struct call *call)
{
	struct admin_job *job = job_new(c);
	const char *error = NULL;

	job->old_form = call->frame->argc == 3;
	if (job->old_form)
		keep_arg(&job->filter.addr, call, 2);
	else
		error = kill_filter(c, call, &job->filter);
	if (error) {
		job_free(job, c->w->server);
		client_reply_error(c, call, error);
		return CALL_DONE;
	}
	job->gather.collect = kill_collect;
	job->gather.done = kill_done;
	client_job_begin(c, call, &job->job);
	server_gather(c->w->server, c->w, &job->gather);
	return CALL_DONE;
}

/* ---- UNBLOCK ---- */

/* Asks Redis to unblock the connection that the client holds there. */
static bool unblock(struct worker *w, struct client *c, bool error)
{
	char id[32];
	struct buf b = {0};
	struct link *l;

	if (!c->head || !(c->head->flags & REQUEST_BLOCKING) || !c->bound || c->bound->upstream_id == 0)
		return false;
	if (pool_shared(c->bound->pool, 2, 0, &l) != POOL_OK)
		return false;
	snprintf(id, sizeof(id), "%lld", (long long)c->bound->upstream_id);
	resp_request(&b, 4, (const char *const[]){"CLIENT", "UNBLOCK", id, error ? "ERROR" : "TIMEOUT"});
	worker_now(w, clock_now_us());
	forward_own(l, buf_head(&b), buf_len(&b));
	buf_release(&b);
	return true;
}

static void unblock_collect(struct worker *w, struct gather *g)
{
	struct admin_job *job = container_of(g, struct admin_job, gather);

	LIST_EACH (pos, next, &w->clients) {
		struct client *c = container_of(pos, struct client, node);

		if (matches(c, &job->filter) && unblock(w, c, job->unblock_error))
			atomic_fetch_add(&job->n_done, 1);
	}
}

enum verdict handle_CLIENT_UNBLOCK(struct client *c, const struct call *call)
{
	struct admin_job *job;
	bool error = call_arg_is(call, 3, "ERROR");

	if (call->frame->argc > 4 || (call->frame->argc == 4 && !error && !call_arg_is(call, 3, "TIMEOUT"))) {
		client_reply_error(c, call, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
		return CALL_DONE;
	}
	job = job_new(c);
	job->unblock_error = error;
	if (!add_id(&job->filter, call, 2)) {
		int64_t id;
		struct buf b = {0};

		job_free(job, c->w->server);
		if (call_arg_int(call, 2, &id))
			resp_int(&b, 0);
		else
			resp_error(&b, "ERR value is not an integer or out of range");
		client_reply(c, call, &b);
		return CALL_DONE;
	}
	job->gather.collect = unblock_collect;
	job->gather.done = kill_done;
	client_job_begin(c, call, &job->job);
	server_gather(c->w->server, c->w, &job->gather);
	return CALL_DONE;
}

/* ---- PAUSE ---- */

enum verdict handle_CLIENT_PAUSE(struct client *c, const struct call *call)
{
	struct server *s = c->w->server;
	int mode = PAUSE_ALL;
	int64_t ms, end_us;

	if (call->frame->argc == 4 && call_arg_is(call, 3, "WRITE"))
		mode = PAUSE_WRITE;
	else if (call->frame->argc > 4 || (call->frame->argc == 4 && !call_arg_is(call, 3, "ALL"))) {
		client_reply_error(c, call,
				   call->frame->argc > 4 ? "ERR syntax error"
							 : "ERR CLIENT PAUSE mode must be WRITE or ALL");
		return CALL_DONE;
	}
	if (!call_arg_int(call, 2, &ms)) {
		client_reply_error(c, call, "ERR timeout is not an integer or out of range");
		return CALL_DONE;
	}
	if (ms < 0 || ms > INT64_MAX / 10000) {
		client_reply_error(c, call, ms < 0 ? "ERR timeout is negative" : "ERR timeout is out of range");
		return CALL_DONE;
	}
	/* A longer or stricter pause that is on stays (as Redis does). */
	end_us = clock_now_us() + ms * 1000;
	if (atomic_load(&s->pause_mode) != PAUSE_NONE && atomic_load(&s->pause_end_us) > clock_now_us()) {
		if (atomic_load(&s->pause_end_us) > end_us)
			end_us = atomic_load(&s->pause_end_us);
		if (atomic_load(&s->pause_mode) > mode)
			mode = atomic_load(&s->pause_mode);
	}
	atomic_store(&s->pause_end_us, end_us);
	atomic_store(&s->pause_mode, mode);
	server_tell_workers(s, NULL, SERVER_PAUSE_CHANGED);
	client_reply_ok(c, call);
	return CALL_DONE;
}

enum verdict handle_CLIENT_UNPAUSE(struct client *c, const struct call *call)
{
	atomic_store(&c->w->server->pause_mode, PAUSE_NONE);
	server_tell_workers(c->w->server, NULL, SERVER_PAUSE_CHANGED);
	client_reply_ok(c, call);
	return CALL_DONE;
}
