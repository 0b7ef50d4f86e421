/* SPDX-License-Identifier: BSD-2-Clause */
/* SLOWLOG GET, LEN, RESET, HELP: Redis's own form, our own measurements. https://redis.io/commands/slowlog-get/ */
#include "client/slowlog.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/policy.h"
#include "client/redact.h"
#include "net/addr.h"
#include "resp/write.h"
#include "server.h"

#define ARGS_MAX	  32  /* SLOWLOG_ENTRY_MAX_ARGC of Redis */
#define ARG_BYTES_MAX	  128 /* SLOWLOG_ENTRY_MAX_STRING */
#define REQUEST_BYTES_MAX ((uint64_t)1 << 20)
#define LEN_DEFAULT	  128
#define LEN_MAX		  100000

struct entry {
	struct list node;
	int64_t id;
	int64_t at_s;
	int64_t took_us;
	char *address;
	char *name;
	struct buf args; /* an array of bulks, ready to be sent */
};

struct slowlog_full {
	struct slowlog head; /* first: struct slowlog * is this */
	pthread_mutex_t lock;
	struct list entries; /* newest first */
	int64_t n;
	_Atomic int64_t max_len; /* written under the lock */
	int64_t next_id;
};

static struct slowlog_full *full(struct slowlog *log)
{
	return (struct slowlog_full *)(void *)log;
}

struct slowlog *slowlog_new(int64_t threshold_us)
{
	struct slowlog_full *log = xcalloc(1, sizeof(*log));

	atomic_init(&log->head.threshold_us, threshold_us);
	pthread_mutex_init(&log->lock, NULL);
	list_init(&log->entries);
	log->max_len = LEN_DEFAULT;
	return &log->head;
}

static void entry_free(struct entry *e)
{
	free(e->address);
	free(e->name);
	buf_release(&e->args);
	free(e);
}

/* Keeps the newest n entries. Lock held. */
static void trim(struct slowlog_full *log, int64_t n)
{
	for (; log->n > n; log->n--) {
		struct entry *oldest = container_of(log->entries.prev, struct entry, node);

		list_remove(&oldest->node);
		entry_free(oldest);
	}
}

void slowlog_free(struct slowlog **logp)
{
	struct slowlog_full *log = full(*logp);

	*logp = NULL;
	trim(log, 0);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

void slowlog_set_threshold(struct slowlog *log, int64_t us)
{
	atomic_store(&log->threshold_us, us);
}

void slowlog_set_max_len(struct slowlog *log, int64_t n)
{
	pthread_mutex_lock(&full(log)->lock);
	full(log)->max_len = n < 0 ? 0 : n > LEN_MAX ? LEN_MAX : n;
	trim(full(log), full(log)->max_len);
	pthread_mutex_unlock(&full(log)->lock);
}

/* What stands in front of a token's name, as far as an argument is shown at all. */
static void put_cut(struct buf *out, const char *arg, size_t len)
{
	struct buf text = {0};

	buf_put(&text, arg, len < ARG_BYTES_MAX ? len : ARG_BYTES_MAX);
	buf_puts(&text, REDACTED);
	resp_bulk(out, buf_head(&text), buf_len(&text));
	buf_release(&text);
}

/* Arguments as Redis logs them: at most 32, each at most 128 bytes, with words for the rest. */
static void put_args(struct buf *out, const struct tokens *tokens, const struct command *cmd, const char *bytes,
		     size_t n_bytes)
{
	struct redactor redactor = {.cmd = cmd, .tokens = tokens};
	struct arg_cursor cur;
	uint32_t argc = 0, shown;
	const char *arg;
	size_t len;

	arg_cursor_init(&cur, bytes, n_bytes);
	while (arg_cursor_next(&cur, &arg, &len))
		argc++;
	shown = argc > ARGS_MAX ? ARGS_MAX : argc;
	resp_array(out, shown);
	arg_cursor_init(&cur, bytes, n_bytes);
	for (uint32_t i = 0; i < shown && arg_cursor_next(&cur, &arg, &len); i++) {
		char text[ARG_BYTES_MAX + 64];

		if (redactor_hides(&redactor, arg, len)) {
			resp_bulks(out, REDACTED);
		} else if (redactor_shows(&redactor, arg, len) < len) {
			put_cut(out, arg, redactor_shows(&redactor, arg, len));
		} else if (argc > ARGS_MAX && i == shown - 1) {
			snprintf(text, sizeof(text), "... (%u more arguments)", argc - shown + 1);
			resp_bulks(out, text);
		} else if (len > ARG_BYTES_MAX) {
			memcpy(text, arg, ARG_BYTES_MAX);
			len = (size_t)snprintf(text + ARG_BYTES_MAX, 64, "... (%zu more bytes)", len - ARG_BYTES_MAX);
			resp_bulk(out, text, len + ARG_BYTES_MAX);
		} else {
			resp_bulk(out, arg, len);
		}
	}
}

static struct entry *entry_new(const struct client *c, int64_t took_us)
{
	struct entry *e = xcalloc(1, sizeof(*e));
	char text[ADDRESS_TEXT_MAX] = "";
	struct address address;

	if (address_of_socket(c->io.fd, false, &address))
		address_format(&address, text);
	e->at_s = clock_wall_us() / 1000000;
	e->took_us = took_us;
	e->address = xstrdup(text);
	e->name = xstrdup(c->extra && c->extra->name ? c->extra->name : "");
	return e;
}

static void keep(struct slowlog_full *log, struct entry *e)
{
	pthread_mutex_lock(&log->lock);
	e->id = log->next_id++;
	list_prepend(&log->entries, &e->node);
	log->n++;
	trim(log, log->max_len);
	pthread_mutex_unlock(&log->lock);
}

/*
 * When Redis was stuck, everything behind what it was stuck on is answered in one turn, and was slow: of one turn no
 * more is noted than the log holds, or noting it would make a bad moment worse.
 */
static bool is_too_many(struct worker *w)
{
	if (w->slow_us != w->now_us) {
		w->slow_us = w->now_us;
		w->n_slow = 0;
	}
	return w->n_slow++ >= atomic_load_explicit(&full(w->server->slowlog)->max_len, memory_order_relaxed);
}

void slowlog_add(struct client *c, const struct request *r, const struct link *l)
{
	/* What waits because it was asked to is not slow. */
	int64_t took_us = r->flags & REQUEST_BLOCKING ? 0 : c->w->now_us - r->start_us;
	struct buf bytes = {0};
	struct entry *e;

	if (!r->cmd || r->flags & REQUEST_NO_SLOWLOG || !slowlog_is_slow(c->w->server->slowlog, took_us))
		return;
	/* EXEC stands for the transaction: unlike Redis we do not see how long each of its commands took. */
	if (r->cmd->flags & CMD_SKIP_SLOWLOG && r->cmd->handler != HANDLER_EXEC)
		return;
	if (is_too_many(c->w))
		return;
	e = entry_new(c, took_us);
	if (r->len <= REQUEST_BYTES_MAX && outq_peek(&l->out, r->pos, (size_t)r->len, &bytes)) {
		struct slice inner = policy_inner(r, &bytes);

		put_args(&e->args, c->w->tokens, r->cmd, inner.p, inner.len);
	} else { /* its bytes are not kept: a large value */
		resp_array(&e->args, 1);
		resp_bulks(&e->args, r->cmd->name);
	}
	buf_release(&bytes);
	log_debug("Slow command %s: %lld us", r->cmd->name, (long long)took_us);
	keep(full(c->w->server->slowlog), e);
}

void slowlog_add_call(struct client *c, const struct call *call)
{
	struct entry *e;

	if (call->cmd->flags & CMD_SKIP_SLOWLOG || call->partial || c->closed)
		return;
	e = entry_new(c, clock_now_us() - c->w->now_us);
	put_args(&e->args, c->w->tokens, call->cmd, call->bytes, call->len);
	keep(full(c->w->server->slowlog), e);
}

static void put_entry(struct buf *b, const struct entry *e)
{
	resp_array(b, 6);
	resp_int(b, e->id);
	resp_int(b, e->at_s);
	resp_int(b, e->took_us);
	buf_put(b, buf_head(&e->args), buf_len(&e->args));
	resp_bulks(b, e->address);
	resp_bulks(b, e->name);
}

enum verdict handle_SLOWLOG_GET(struct client *c, const struct call *call)
{
	struct slowlog_full *log = full(c->w->server->slowlog);
	int64_t n = 10;
	struct buf b = {0};

	if (call->frame->argc > 3)
		return forward(c, call, 0, NULL, 0);
	if (call->frame->argc == 3 && (!call_arg_int(call, 2, &n) || n < -1)) {
		client_reply_error(c, call, "ERR count should be greater than or equal to -1");
		return CALL_DONE;
	}
	pthread_mutex_lock(&log->lock);
	if (n < 0 || n > log->n)
		n = log->n;
	resp_array(&b, (size_t)n);
	for (const struct list *pos = log->entries.next; n > 0; pos = pos->next, n--)
		put_entry(&b, container_of(pos, struct entry, node));
	pthread_mutex_unlock(&log->lock);
	client_reply(c, call, &b);
	return CALL_DONE;
}

enum verdict handle_SLOWLOG_LEN(struct client *c, const struct call *call)
{
	struct slowlog_full *log = full(c->w->server->slowlog);
	struct buf b = {0};

	pthread_mutex_lock(&log->lock);
	resp_int(&b, log->n);
	pthread_mutex_unlock(&log->lock);
	client_reply(c, call, &b);
	return CALL_DONE;
}

enum verdict handle_SLOWLOG_RESET(struct client *c, const struct call *call)
{
	struct slowlog_full *log = full(c->w->server->slowlog);

	pthread_mutex_lock(&log->lock);
	trim(log, 0);
	pthread_mutex_unlock(&log->lock);
	client_reply_ok(c, call);
	return CALL_DONE;
}

enum verdict handle_SLOWLOG_HELP(struct client *c, const struct call *call)
{
	return forward(c, call, 0, NULL, 0);
}
