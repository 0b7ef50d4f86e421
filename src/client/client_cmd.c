/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CLIENT: names, ids, replies on and off. What looks at one connection only; what needs all workers (LIST, KILL,
 * PAUSE, UNBLOCK) is client_admin.c. https://redis.io/commands/client/
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/client.h"
#include "client/client_list.h"
#include "client/client_name.h"
#include "client/dispatch.h"
#include "resp/write.h"
#include "server.h"

bool client_name_ok(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (name[i] < '!' || name[i] > '~')
			return false;
	return true;
}

static void set_string(char **where, const char *s, size_t len)
{
	free(*where);
	*where = len > 0 ? xmemdup0(s, len) : NULL;
}

void client_set_name(struct client *c, const char *name, size_t len)
{
	if (len > 0 || c->extra)
		set_string(&client_extra(c)->name, name, len);
}

enum verdict handle_CLIENT_SETNAME(struct client *c, const struct call *call)
{
	size_t len;
	const char *name = call_arg(call, 2, &len);

	if (!client_name_ok(name, len)) {
		client_reply_error(c, call, "ERR Client names cannot contain spaces, newlines or special characters.");
		return CALL_DONE;
	}
	client_set_name(c, name, len);
	client_reply_ok(c, call);
	return CALL_DONE;
}

enum verdict handle_CLIENT_GETNAME(struct client *c, const struct call *call)
{
	const char *name = c->extra ? c->extra->name : NULL;
	struct buf b = {0};

	if (name)
		resp_bulks(&b, name);
	else
		resp_null(&b, c->proto);
	client_reply(c, call, &b);
	return CALL_DONE;
}

enum verdict handle_CLIENT_SETINFO(struct client *c, const struct call *call)
{
	struct client_extra *x = client_extra(c);
	size_t len;
	const char *value = call_arg(call, 3, &len);

	if (!client_name_ok(value, len)) {
		struct buf b = {0};
		size_t n;
		const char *what = call_arg(call, 2, &n);

		buf_printf(&b, "-ERR %.*s cannot contain spaces, newlines or special characters.\r\n",
			   n > 32 ? 32 : (int)n, what);
		client_reply(c, call, &b);
	} else if (call_arg_is(call, 2, "LIB-NAME")) {
		set_string(&x->lib_name, value, len);
		client_reply_ok(c, call);
	} else if (call_arg_is(call, 2, "LIB-VER")) {
		set_string(&x->lib_ver, value, len);
		client_reply_ok(c, call);
	} else {
		client_reply_error(c, call, "ERR Unrecognized option");
	}
	return CALL_DONE;
}

enum verdict handle_CLIENT_ID(struct client *c, const struct call *call)
{
	struct buf b = {0};

	resp_int(&b, (int64_t)c->id);
	client_reply(c, call, &b);
	return CALL_DONE;
}

enum verdict handle_CLIENT_INFO(struct client *c, const struct call *call)
{
	struct buf line = {0}, b = {0};

	client_list_line(c, &line);
	resp_verbatim(&b, c->proto, buf_head(&line), buf_len(&line));
	buf_release(&line);
	client_reply(c, call, &b);
	return CALL_DONE;
}

enum verdict handle_CLIENT_HELP(struct client *c, const struct call *call)
{
	return forward(c, call, 0, NULL, 0);
}

static enum verdict syntax_error(struct client *c, const struct call *call)
{
	client_reply_error(c, call, "ERR syntax error");
	return CALL_DONE;
}

enum verdict handle_CLIENT_REPLY(struct client *c, const struct call *call)
{
	if (call_arg_is(call, 2, "ON")) {
		c->reply_mode = REPLY_ON;
		c->reply_skip = false;
		client_reply_ok(c, call);
	} else if (call_arg_is(call, 2, "OFF")) {
		c->reply_mode = REPLY_OFF;
	} else if (call_arg_is(call, 2, "SKIP")) {
		if (c->reply_mode != REPLY_OFF)
			c->reply_mode = REPLY_SKIP_NEXT;
	} else {
		return syntax_error(c, call);
	}
	return CALL_DONE;
}

enum verdict handle_CLIENT_NO_EVICT(struct client *c, const struct call *call)
{
	bool on = call_arg_is(call, 2, "ON");

	if (!on && !call_arg_is(call, 2, "OFF"))
		return syntax_error(c, call);
	c->no_evict = on;
	client_reply_ok(c, call);
	return CALL_DONE;
}

/* Over whatever link it has: a shared one tracks nothing, and Redis's answer says so. */
enum verdict handle_CLIENT_CACHING(struct client *c, const struct call *call)
{
	return forward(c, call, 0, NULL, 0);
}
