/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about the connection itself, answered here: HELLO, AUTH, SELECT, PING, ECHO, RESET, QUIT, ACL WHOAMI. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "client/client.h"
#include "client/client_name.h"
#include "client/dispatch.h"
#include "client/hub.h"
#include "client/monitor.h"
#include "client/tracking.h"
#include "client/policy.h"
#include "client/unit.h"
#include "upstream/route.h"
#include "resp/write.h"
#include "server.h"

#define DEFAULT_USER "default"

enum verdict handle_PING(struct client *c, const struct call *call)
{
	const struct pool *p = c->w->only;
	struct buf b = {0};
	size_t len = 0;
	const char *arg = call_arg(call, 1, &len);

	/* Redis is stuck on something (a script ...): it says better than we how it is (-BUSY, -LOADING). */
	if (__builtin_expect(p && atomic_load_explicit(&p->server->n_stuck, memory_order_relaxed) > 0, 0) &&
	    !pool_is_down(p) && !hub_is_subscriber(c))
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
	tracking_drop_feed(c); /* before the client hears that it has left */
	client_reply_ok(c, call);
	client_close_after(c);
	return CALL_DONE;
}

enum verdict handle_ACL_WHOAMI(struct client *c, const struct call *call)
{
	struct buf b = {0};

	if (c->acl_user)
		return forward(c, call, 0, NULL, 0);
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
		if (c->n_upstream > 0) /* what is sent again goes to the database of then */
			return client_wait_for(c, WAIT_DRAIN);
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

/* No users are configured: "default" needs no password, as a Redis without requirepass has it. */
static bool is_default_user(const struct call *call, uint32_t user_arg)
{
	size_t len;
	const char *user = call_arg(call, user_arg, &len);

	return user && len == strlen(DEFAULT_USER) && memcmp(user, DEFAULT_USER, len) == 0;
}

static void auth_answered(struct request *r, char type, int64_t number)
{
	struct client_extra *x = r->client->extra;

	(void)number;
	if (type != '-') {
		r->client->acl_user = true;
		free(x->user);
		x->user = x->user_asked;
		x->user_asked = NULL;
	}
}

/*
 * Any other user is one of Redis's own (ACL SETUSER), and Redis decides: the client logs in over a dedicated link and
 * keeps it, so that all it does is done as that user. user_arg 0: AUTH with a password alone.
 */
static bool bind_for_auth(struct client *c, const struct call *call, uint32_t user_arg, enum verdict *verdict)
{
	size_t len = strlen(DEFAULT_USER);
	const char *user = user_arg ? call_arg(call, user_arg, &len) : DEFAULT_USER;

	if (!client_has_one_server(c)) { /* of many, none can say who that is for all */
		client_reply_error(c, call, "WRONGPASS invalid username-password pair or user is disabled.");
		*verdict = CALL_DONE;
		return false;
	}

	if (c->n_upstream > 0) {
		*verdict = client_wait_for(c, WAIT_DRAIN);
		return false;
	}
	if (!client_bind(c, call, verdict))
		return false;
	c->bound->tainted = true;
	free(client_extra(c)->user_asked);
	c->extra->user_asked = xmemdup0(user, len);
	return true;
}

static enum verdict auth_by_redis(struct client *c, const struct call *call)
{
	enum verdict verdict;

	if (!bind_for_auth(c, call, call->frame->argc == 3 ? 1 : 0, &verdict))
		return verdict;
	return forward(c, call, REQUEST_IN_TX, auth_answered, 0);
}

enum verdict handle_AUTH(struct client *c, const struct call *call)
{
	if (call->frame->argc > 3)
		client_reply_error(c, call, "ERR syntax error");
	else if (call->frame->argc == 2 && !c->acl_user)
		client_reply_error(c, call, auth_without_password);
	else if (c->acl_user || !is_default_user(call, 1))
		return auth_by_redis(c, call);
	else
		client_reply_ok(c, call);
	return CALL_DONE;
}

static void put_hello(struct client *c, struct buf *out)
{
	struct pool *p = worker_main_pool(c->w);
	struct node_software software = node_software(p ? p->server : NULL);

	resp_map(out, c->proto, 7);
	resp_bulks(out, "server");
	resp_bulks(out, software.name);
	resp_bulks(out, "version");
	resp_bulks(out, software.version);
	resp_bulks(out, "proto");
	resp_int(out, c->proto);
	resp_bulks(out, "id");
	resp_int(out, (int64_t)c->id);
	resp_bulks(out, "mode");
	resp_bulks(out, c->w->snapshot->config->server.cluster_emulation ? "cluster" : "standalone");
	resp_bulks(out, "role");
	resp_bulks(out, "master");
	resp_bulks(out, "modules");
	resp_array(out, 0);
}

/* What HELLO asks for; argument numbers are 0 for what it does not. */
struct hello {
	int64_t proto;
	uint32_t user_arg; /* the password follows */
	uint32_t name_arg;
	uint32_t bad_arg; /* no option, or an incomplete one */
};

static void hello_parse(const struct call *call, struct hello *h)
{
	uint32_t argc = call->frame->argc;

	for (uint32_t i = 2; i < argc && !h->bad_arg; i++) {
		if (call_arg_is(call, i, "AUTH") && i + 2 < argc) {
			h->user_arg = i + 1;
			i += 2;
		} else if (call_arg_is(call, i, "SETNAME") && i + 1 < argc) {
			h->name_arg = ++i;
		} else {
			h->bad_arg = i;
		}
	}
}

/* True: the error is told, nothing else happens. */
static bool hello_refused(struct client *c, const struct call *call, const struct hello *h)
{
	const char *arg;
	size_t len;

	if (h->bad_arg) {
		struct buf b = {0};

		arg = call_arg(call, h->bad_arg, &len);
		buf_printf(&b, "-ERR Syntax error in HELLO option '%.*s'\r\n", len > 128 ? 128 : (int)len, arg);
		client_reply(c, call, &b);
		return true;
	}
	if (!h->name_arg)
		return false;
	arg = call_arg(call, h->name_arg, &len);
	if (client_name_ok(arg, len))
		return false;
	client_reply_error(c, call, "ERR Client names cannot contain spaces, newlines or special characters.");
	return true;
}

static void hello_done(struct client *c, const struct call *call, const struct hello *h)
{
	size_t len;

	c->proto = (uint8_t)h->proto;
	if (h->name_arg) {
		const char *name = call_arg(call, h->name_arg, &len);

		client_set_name(c, name, len);
	}
}

/* Redis has answered what hello_by_redis() sent: the client gets our reply, or the error. */
static void hello_answered(struct request *r, char type, int64_t number)
{
	struct client *c = r->client;

	(void)number;
	if (type == '-') {
		c->proto = (uint8_t)r->arg;
		if (c->bound)
			c->bound->proto = c->proto;
		return;
	}
	r->reply.start = r->reply.end = 0;
	put_hello(c, &r->reply);
}

static void hello_auth_answered(struct request *r, char type, int64_t number)
{
	auth_answered(r, type, number);
	hello_answered(r, type, number);
}

/*
 * The HELLO that Redis must hear too: of a client with a dedicated link (what that link watches or tracks lasts), or
 * with AUTH of a user of Redis's, see auth_by_redis(). Nothing is on the way.
 */
static enum verdict hello_by_redis(struct client *c, const struct call *call, const struct hello *h, bool auth)
{
	uint8_t proto = c->proto;
	struct buf hello = {0};
	enum verdict verdict;
	const char *arg;
	size_t len;

	c->proto = (uint8_t)h->proto;
	if (auth ? !bind_for_auth(c, call, h->user_arg, &verdict) : !client_bind(c, call, &verdict)) {
		c->proto = proto;
		return verdict;
	}
	c->bound->proto = c->proto;
	resp_array(&hello, auth ? 5 : 2);
	resp_bulks(&hello, "HELLO");
	resp_bulks(&hello, h->proto == 3 ? "3" : "2");
	if (auth)
		resp_bulks(&hello, "AUTH");
	for (uint32_t i = h->user_arg; auth && i < h->user_arg + 2; i++) {
		arg = call_arg(call, i, &len);
		resp_bulk(&hello, arg, len);
	}
	verdict = forward_bytes(c, call, buf_head(&hello), buf_len(&hello), REQUEST_IN_TX | REQUEST_COLLECT,
				auth ? hello_auth_answered : hello_answered, proto);
	buf_release(&hello);
	hello_done(c, call, h);
	return verdict;
}

enum verdict handle_HELLO(struct client *c, const struct call *call)
{
	struct hello h = {.proto = c->proto};
	const struct pool *p;
	struct buf b = {0};
	bool auth;

	if (call->frame->argc > 1 && !call_arg_int(call, 1, &h.proto)) {
		client_reply_error(c, call, "ERR Protocol version is not an integer or out of range");
		return CALL_DONE;
	}
	p = worker_main_pool(c->w);
	if (h.proto < 2 || h.proto > 3 || (h.proto == 3 && p && atomic_load(&p->server->no_resp3))) {
		client_reply_own_error(c, call, ERROR_NO_RESP3);
		return CALL_DONE;
	}
	hello_parse(call, &h);
	if (hello_refused(c, call, &h))
		return CALL_DONE;
	auth = h.user_arg && (c->acl_user || !is_default_user(call, h.user_arg));
	/* Replies on the way are in the old protocol, and a link speaks one only. */
	if (h.proto != c->proto && c->n_upstream > 0)
		return client_wait_for(c, WAIT_DRAIN);
	if (auth || (c->bound && h.proto != c->proto))
		return hello_by_redis(c, call, &h, auth);
	hello_done(c, call, &h);
	put_hello(c, &b);
	client_reply(c, call, &b);
	return CALL_DONE;
}

/* ---- RESET ---- */

enum verdict handle_RESET(struct client *c, const struct call *call)
{
	if (c->n_upstream > 0)
		return client_wait_for(c, WAIT_DRAIN);
	if (c->bound && (c->tx != TX_NONE || c->watching || c->pinned || c->acl_user))
		c->bound->tainted = true;
	unit_drop(c);
	policy_tx_drop(c);
	c->tx = TX_NONE;
	c->tx_db = -1;
	c->watching = 0;
	c->watch_lost = c->pinned = c->acl_user = false;
	client_maybe_unbind(c);
	if (c->extra) {
		hub_unsubscribe_all(c);
		monitor_stop(c);
		client_set_name(c, "", 0);
		free(c->extra->user);
		c->extra->user = NULL;
	}
	c->db = c->w->routes[0].up->conf->target.db;
	c->proto = 2;
	c->reply_mode = REPLY_ON;
	c->no_evict = false;
	client_reply_raw(c, call, "+RESET\r\n", 8);
	return CALL_DONE;
}
