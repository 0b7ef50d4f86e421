/* SPDX-License-Identifier: BSD-2-Clause */
/* MONITOR: see monitor.h. The line's form is Redis's: +time [db address] "command" "argument" ... */
#include "client/monitor.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/redact.h"
#include "net/addr.h"
#include "server.h"

/* end: a text behind it, not of p; "": none. */
static void put_quoted(struct buf *b, const char *p, size_t len, const char *end)
{
	static const char escapes[] = "\n\r\t\a\b", letters[] = "nrtab";

	buf_put(b, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		const char *at = p[i] ? strchr(escapes, p[i]) : NULL;

		if (p[i] == '\\' || p[i] == '"')
			buf_printf(b, "\\%c", p[i]);
		else if (at)
			buf_printf(b, "\\%c", letters[at - escapes]);
		else if (isprint((unsigned char)p[i]))
			buf_put(b, &p[i], 1);
		else
			buf_printf(b, "\\x%02x", (unsigned char)p[i]);
	}
	buf_puts(b, end);
	buf_put(b, "\"", 1);
}

static void format_line(struct buf *b, struct client *c, const struct call *call)
{
	char text[ADDRESS_TEXT_MAX] = "?";
	struct redactor redactor = {.cmd = call->cmd, .tokens = c->w->tokens};
	int64_t now_us = clock_wall_us();
	struct address address;
	struct arg_cursor cur;
	const char *arg;
	size_t len, shown;

	if (address_of_socket(c->io.fd, false, &address))
		address_format(&address, text);
	buf_printf(b, "+%lld.%06lld [%d %s%s]", (long long)(now_us / 1000000), (long long)(now_us % 1000000), c->db,
		   address.sa.sa_family == AF_UNIX ? "unix:" : "", text);
	if (address.sa.sa_family == AF_UNIX) {
		b->end -= 3; /* Redis writes unix:/path here, without ":0" */
		buf_put(b, "]", 1);
	}
	arg_cursor_init(&cur, call->bytes, call->len);
	while (arg_cursor_next(&cur, &arg, &len)) {
		buf_put(b, " ", 1);
		if (redactor_hides(&redactor, arg, len)) {
			buf_puts(b, "\"" REDACTED "\"");
		} else {
			shown = redactor_shows(&redactor, arg, len);
			put_quoted(b, arg, shown, shown < len ? REDACTED : "");
		}
	}
	buf_puts(b, "\r\n");
}

/* bound_name: of the client whose command it is; who is bound to a namespace sees those of its own kind only. */
static void show(struct worker *w, const char *line, size_t len, const char *bound_name)
{
	LIST_EACH (pos, next, &w->monitors) {
		struct client_extra *x = container_of(pos, struct client_extra, monitor);
		struct client *c = x->monitor_client;

		if (c->bound_name && (!bound_name || strcmp(c->bound_name, bound_name) != 0))
			continue;
		if (c->reply_mode != REPLY_OFF)
			client_push(c, line, len);
	}
}

struct line_message {
	struct message message;
	struct rcbuf *line;
	char *bound_name;
};

static void line_arrived(struct message *m, void *owner)
{
	struct line_message *lm = container_of(m, struct line_message, message);

	show(owner, lm->line->data, lm->line->len, lm->bound_name);
	rcbuf_unref(lm->line);
	free(lm->bound_name);
	free(lm);
}

void monitor_feed(struct client *c, const struct call *call)
{
	struct server *s = c->w->server;
	struct buf b = {0};
	struct rcbuf *line;

	/* As Redis: what it would not execute is not shown, nor administration. */
	if (call->cmd->flags & (CMD_ADMIN | CMD_UNKNOWN) || !command_arity_ok(call->cmd, call->frame->argc))
		return;
	format_line(&b, c, call);
	show(c->w, buf_head(&b), buf_len(&b), c->bound_name);
	line = s->n_workers > 1 ? rcbuf_new(buf_head(&b), buf_len(&b)) : NULL;
	for (unsigned i = 0; line && i < s->n_workers; i++) {
		struct line_message *lm;

		if (&s->workers[i] == c->w)
			continue;
		lm = xcalloc(1, sizeof(*lm));
		lm->message.run = line_arrived;
		lm->line = rcbuf_ref(line);
		lm->bound_name = c->bound_name ? xstrdup(c->bound_name) : NULL;
		mailbox_post(&s->workers[i].mailbox, &lm->message);
	}
	rcbuf_unref(line);
	buf_release(&b);
}

/* ---- what scripts do: only Redis itself sees it ---- */

void monitor_feed_ready(struct link *feed)
{
	static const char monitor[] = "*1\r\n$7\r\nMONITOR\r\n";

	link_send_more(feed, monitor, sizeof(monitor) - 1);
}

/* MONITOR is answered: from here on nothing is missed. */
static void begin(struct client *c)
{
	struct request *r = c->extra->monitor_asked;

	if (!r)
		return;
	c->extra->monitor_asked = NULL;
	buf_puts(&r->reply, "+OK\r\n");
	c->monitor = true;
	c->extra->monitor_client = c;
	list_append(&c->w->monitors, &c->extra->monitor);
	atomic_fetch_add(&c->w->server->n_monitors, 1);
	if (c->wait == WAIT_ANSWER)
		client_resume_soon(c);
	client_request_done(r);
}

/* A line of Redis's own MONITOR, which ends where a token's name begins. */
static void push_line(struct client *c, const char *data, size_t len)
{
	static const char end[] = REDACTED "\"\r\n";
	size_t shown = c->w->tokens ? redact_tokens(c->w->tokens, data, len, true) : len;
	struct buf line = {0};

	if (shown == len) {
		client_push(c, data, len);
		return;
	}
	buf_put(&line, data, shown);
	buf_puts(&line, end);
	client_push(c, buf_head(&line), buf_len(&line));
	buf_release(&line);
}

void monitor_feed_push(struct client *c, const char *data, size_t len)
{
	if (c->extra->monitor_asked)
		begin(c);
	else if (!c->bound_name && c->reply_mode != REPLY_OFF && memmem(data, len < 64 ? len : 64, " lua] ", 6))
		push_line(c, data, len);
}

void monitor_feed_lost(struct client *c)
{
	c->extra->monitor_feed = NULL;
	begin(c);
}

void monitor_stop(struct client *c)
{
	struct link *feed = c->extra->monitor_feed;

	c->extra->monitor_feed = NULL;
	c->extra->monitor_asked = NULL;
	if (feed) {
		feed->owner = NULL;
		link_drop(feed, "MONITOR ended");
	}
	if (!c->monitor)
		return;
	c->monitor = false;
	list_remove(&c->extra->monitor);
	atomic_fetch_sub(&c->w->server->n_monitors, 1);
}

enum verdict handle_MONITOR(struct client *c, const struct call *call)
{
	struct client_extra *x = client_extra(c);
	struct pool *p;

	if (c->monitor) {
		client_reply_ok(c, call);
		return CALL_DONE;
	}
	x->monitor_asked = client_request_new(c, call);
	client_wait_for(c, WAIT_ANSWER);
	p = worker_main_pool(c->w);
	if (p && pool_special(p, LINK_FEED, 2, &x->monitor_feed) == POOL_OK) {
		x->monitor_feed->owner = c;
	} else {
		x->monitor_feed = NULL;
		begin(c);
	}
	return CALL_DONE;
}
