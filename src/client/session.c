/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about the connection itself, answered here: HELLO, AUTH, SELECT, PING, ECHO, RESET, QUIT, ACL WHOAMI. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "client/client.h"
#include "client/client_name.h"
#include "client/dispatch.h"
#include "client/hub.h"
#include "client/monitor.h"
#include "resp/write.h"
#include "server.h"

enum verdict handle_PING(struct client *c, const struct call *call)
{
	struct buf b = {0};
	size_t len = 0;
	const char *arg = call_arg(call, 1, &len);

	/* Redis is stuck on something (a script ...): it says better than we how it is (-BUSY, -LOADING). */
	if (__builtin_expect(atomic_load_explicit(&c->w->pool->server->n_stuck, memory_order_relaxed) > 0, 0) &&
	    !c->w->pool->down && !hub_is_subscriber(c))
		return forward(c, call, 0, NULL, 0);
	if (c->proto == 2 && hub_is_subscriber(c)) {
		if (call->frame->argc > 2)
			return forward(c, call, 0, NULL, 0);
		resp_array(&b, 2);
		resp_bulks(&b, "pong");
		resp_bulk(&b, arg ? arg : "", len);
		client_reply(c, call, &b);
	} else if (!arg) {
		client_reply_raw(c, call, "+PONG\r\n", 7);
	} else if (call->frame->argc == 2) {
		resp_bulk(&b, arg, len);
		client_reply(c, call, &b);
	} else {
		return forward(c, call, 0, NULL, 0); /* Redis's own words for too many arguments */
	}
	return CALL_DONE;
}

enum verdict handle_ECHO(struct client *c, const struct call *call)
{
	struct buf b = {0};
	size_t len = 0;
	const char *arg = call_arg(call, 1, &len);

	resp_bulk(&b, arg, len);
	client_reply(c, call, &b);
	return CALL_DONE;
}

enum verdict handle_QUIT(struct client *c, const struct call *call)
{
	client_reply_ok(c, call);
	client_close_after(c);
	return CALL_DONE;
}

enum verdict handle_ACL_WHOAMI(struct client *c, const struct call *call)
{
	struct buf b = {0};

	resp_bulks(&b, "default");
	client_reply(c, call, &b);
	return CALL_DONE;
}

/* ---- SELECT ---- */

static void select_answered(struct request *r, char type, int64_t number)
{
	struct client *c = r->client;

	(void)number;
	if (type != '+')
		return;
	c->db = (int)r->arg;
	if (c->bound)
		c->bound->db = c->db;
}

enum verdict handle_SELECT(struct client *c, const struct call *call)
{
	enum verdict verdict;
	int64_t db;

	if (!call_arg_int(call, 1, &db) || db < 0 || db >= INT32_MAX)
		return forward(c, call, 0, NULL, 0); /* Redis refuses it */
	if (!c->bound && db == c->db) {
		client_reply_ok(c, call);
		return CALL_DONE;
	}
	if (!c->bound && db == 0) {
		c->db = 0;
		client_reply_ok(c, call);
		return CALL_DONE;
	}
	/* Redis knows whether there is such a database. The link keeps it selected. */
	if (!client_bind(c, call, &verdict))
		return verdict;
	return forward(c, call, REQUEST_IN_TX, select_answered, db);
}

/* ---- AUTH, HELLO ---- */

static const char auth_without_password[] =
	"ERR AUTH <password> called without any password configured for the default user. Are you sure your "
	"configuration is correct?";
static const char wrong_password[] = "WRONGPASS invalid username-password pair or user is disabled.";

/* No users are configured: "default" needs no password, as a Redis without requirepass has it. */
static bool login_ok(const struct call *call, uint32_t user_arg)
{
	size_t len;
	const char *user = call_arg(call, user_arg, &len);

	return user && len == 7 && memcmp(user, "default", 7) == 0;
}

enum verdict handle_AUTH(struct client *c, const struct call *call)
{
	if (call->frame->argc > 3)
		client_reply_error(c, call, "ERR syntax error");
	else if (call->frame->argc == 2)
		client_reply_error(c, call, auth_without_password);
	else if (!login_ok(call, 1))
		client_reply_error(c, call, wrong_password);
	else
		client_reply_ok(c, call);
	return CALL_DONE;
}

static void hello_reply(struct client *c, const struct call *call)
{
	struct node *n = c->w->snapshot->node;
	char version[32], name[16];
	struct buf b = {0};

	pthread_mutex_lock(&n->lock);
	snprintf(version, sizeof(version), "%s", n->version[0] ? n->version : "7.0.0");
	snprintf(name, sizeof(name), "%s", n->server_name[0] ? n->server_name : "redis");
	pthread_mutex_unlock(&n->lock);
	resp_map(&b, c->proto, 7);
	resp_bulks(&b, "server");
	resp_bulks(&b, name);
	resp_bulks(&b, "version");
	resp_bulks(&b, version);
	resp_bulks(&b, "proto");
	resp_int(&b, c->proto);
	resp_bulks(&b, "id");
	resp_int(&b, (int64_t)c->id);
	resp_bulks(&b, "mode");
	resp_bulks(&b, "standalone");
	resp_bulks(&b, "role");
	resp_bulks(&b, "master");
	resp_bulks(&b, "modules");
	resp_array(&b, 0);
	client_reply(c, call, &b);
}

/* Checks HELLO's options. Returns an error text, or NULL; *name_arg is the argument of SETNAME, 0 for none. */
static const char *hello_options(const struct call *call, uint32_t *name_arg)
{
	uint32_t argc = call->frame->argc;

	*name_arg = 0;
	for (uint32_t i = 2; i < argc; i++) {
		if (call_arg_is(call, i, "AUTH") && i + 2 < argc) {
			if (!login_ok(call, i + 1))
				return wrong_password;
			i += 2;
		} else if (call_arg_is(call, i, "SETNAME") && i + 1 < argc) {
			size_t len;
			const char *name = call_arg(call, i + 1, &len);

			if (!client_name_ok(name, len))
				return "ERR Client names cannot contain spaces, newlines or special characters.";
			*name_arg = ++i;
		} else {
			return NULL;
		}
	}
	return NULL;
}

/* "ERR Syntax error in HELLO option 'x'": which option is it? */
static uint32_t hello_bad_option(const struct call *call)
{
	uint32_t argc = call->frame->argc;

	for (uint32_t i = 2; i < argc; i++) {
		if (call_arg_is(call, i, "AUTH") && i + 2 < argc)
			i += 2;
		else if (call_arg_is(call, i, "SETNAME") && i + 1 < argc)
			i++;
		else
			return i;
	}
	return 0;
}

enum verdict handle_HELLO(struct client *c, const struct call *call)
{
	uint32_t bad = hello_bad_option(call), name_arg;
	int64_t proto = c->proto;
	const char *error;

	if (call->frame->argc > 1 && !call_arg_int(call, 1, &proto)) {
		client_reply_error(c, call, "ERR Protocol version is not an integer or out of range");
		return CALL_DONE;
	}
	if (proto < 2 || proto > 3 || (proto == 3 && atomic_load(&c->w->snapshot->node->no_resp3))) {
		client_reply_own_error(c, call, ERROR_NO_RESP3);
		return CALL_DONE;
	}
	error = hello_options(call, &name_arg);
	if (!error && bad) {
		struct buf b = {0};
		size_t len;
		const char *arg = call_arg(call, bad, &len);

		buf_printf(&b, "-ERR Syntax error in HELLO option '%.*s'\r\n", len > 128 ? 128 : (int)len, arg);
		client_reply(c, call, &b);
		return CALL_DONE;
	}
	if (error) {
		client_reply_error(c, call, error);
		return CALL_DONE;
	}
	/* Replies on the way are in the old protocol, and a link speaks one only. */
	if (proto != c->proto && (c->n_upstream > 0 || c->bound)) {
		if (c->n_upstream > 0)
			return client_wait_for(c, WAIT_DRAIN);
		c->bound->tainted = true;
		c->watch_lost = c->watching;
		c->watching = c->pinned = false;
		client_maybe_unbind(c);
	}
	c->proto = (uint8_t)proto;
	if (name_arg) {
		size_t len;
		const char *name = call_arg(call, name_arg, &len);

		client_set_name(c, name, len);
	}
	hello_reply(c, call);
	return CALL_DONE;
}

/* ---- RESET ---- */

enum verdict handle_RESET(struct client *c, const struct call *call)
{
	if (c->n_upstream > 0)
		return client_wait_for(c, WAIT_DRAIN);
	if (c->bound && (c->tx != TX_NONE || c->watching || c->pinned))
		c->bound->tainted = true;
	c->tx = TX_NONE;
	c->tx_db = -1;
	c->watching = c->watch_lost = c->pinned = false;
	client_maybe_unbind(c);
	if (c->extra) {
		hub_unsubscribe_all(c);
		monitor_stop(c);
		client_set_name(c, "", 0);
	}
	c->db = 0;
	c->proto = 2;
	c->reply_mode = REPLY_ON;
	c->no_evict = false;
	client_reply_raw(c, call, "+RESET\r\n", 8);
	return CALL_DONE;
}
