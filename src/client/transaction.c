/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 *
 * A transaction whose EXEC was read together with its MULTI goes over the shared link as one unbroken run (tx_run
 * counts it down). One that arrives piece by piece, or that WATCH precedes, or that changes the state of a
 * connection (SELECT ...), holds a dedicated link from its first command to its last reply. Redis itself queues and
 * checks the commands; here only what may not go up is refused.
 */
#include <string.h>

#include "client/client.h"
#include "client/dispatch.h"
#include "client/hub.h"
#include "client/limit.h"
#include "client/policy.h"
#include "client/unit.h"
#include "resp/write.h"
#include "server.h"

#define RUN_MAX 1000 /* commands of a transaction looked ahead for */

/* How many commands follow MULTI up to EXEC or DISCARD, all of them here and harmless to a shared link; 0: no. */
static unsigned whole_run(struct client *c, const struct call *call)
{
	const char *p = call->rest;
	size_t left = call->rest_len;

	for (unsigned n = 1; n <= RUN_MAX; n++) {
		struct request_frame f = {.max_bulk = c->frame.max_bulk};
		struct call next = {.frame = &f, .bytes = p};
		const struct command *cmd;

		if (left == 0 || *p != '*' || request_frame_feed(&f, p, left) != FRAME_READY)
			return 0;
		next.len = f.len;
		next.cmd = cmd = dispatch_find(c, &next);
		if (cmd->flags & CMD_UNKNOWN || cmd->in_multi != IN_MULTI_PLAIN)
			return 0;
		if (c->w->policy && !policy_allows(c, &next))
			return 0; /* it will be refused, and EXEC must know */
		if (cmd->handler == HANDLER_QUIT || cmd->handler == HANDLER_RESET || cmd->handler == HANDLER_KEYWEIR)
			return 0;
		if ((cmd->handler == HANDLER_EXEC || cmd->handler == HANDLER_DISCARD) && f.argc == 1)
			return n;
		p += f.len;
		left -= f.len;
	}
	return 0;
}

enum verdict handle_MULTI(struct client *c, const struct call *call)
{
	bool paused = atomic_load(&c->w->server->pause_mode) != PAUSE_NONE;
	unsigned run = !c->w->only || c->watching || c->bound || paused ? 0 : whole_run(c, call);
	enum verdict verdict;
	struct link *l;

	policy_tx_drop(c);
	if (!c->w->only)
		return unit_begin(c, call);
	if (run > 0) {
		if (!client_route(c, call, &l, &verdict))
			return verdict;
		if (c->n_upstream > 0 && c->n_upstream + run > CLIENT_WINDOW_MAX)
			return client_wait_for(c, WAIT_DRAIN);
	}
	if (run > 0 && (!c->w->limits || limit_passes_run(c, call->rest, call->rest_len, run))) {
		c->tx_run = run + 1;
		verdict = forward(c, call, REQUEST_IN_TX, NULL, 0);
		c->tx_run--;
		return verdict;
	}
	if (c->watch_lost) {
		c->tx = TX_LOST;
		client_reply_ok(c, call);
		return CALL_DONE;
	}
	if (!client_bind(c, call, &verdict)) {
		/* Refused for good: what follows must not run outside of a transaction. */
		if (verdict == CALL_DONE)
			c->tx = TX_LOST;
		return verdict;
	}
	c->tx = TX_OPEN;
	c->tx_writes = false;
	c->tx_db = -1;
	c->n_queued = 0;
	return forward(c, call, REQUEST_IN_TX, NULL, 0);
}

enum verdict transaction_run(struct client *c, const struct call *call)
{
	uint32_t flags = REQUEST_IN_TX | (call->cmd->handler == HANDLER_EXEC ? 0 : REQUEST_NO_SLOWLOG);
	enum verdict verdict = forward(c, call, flags, NULL, 0);

	c->tx_run--;
	return verdict;
}

/* EXEC with a SELECT inside was answered: which database is it now? */
static void exec_answered(struct request *r, char type, int64_t number)
{
	struct client *c = r->client;

	if (type == '*' && number >= 0 && r->arg >= 0) {
		c->db = (int)r->arg;
		if (c->bound)
			c->bound->db = c->db;
	}
}

static enum verdict end_transaction(struct client *c, const struct call *call, bool exec)
{
	enum verdict verdict;
	int db = c->tx_db;

	if (c->tx == TX_LOST) {
		c->tx = TX_NONE;
		c->watch_lost = false;
		if (exec)
			client_reply_own_error(c, call, ERROR_TX_LOST);
		else
			client_reply_ok(c, call);
		client_maybe_unbind(c);
		return CALL_DONE;
	}
	if (exec && c->tx == TX_REFUSED) {
		static const char discard[] = "*1\r\n$7\r\nDISCARD\r\n";

		/* Redis forgets the transaction; the client hears what Redis says of a transaction with errors. */
		verdict = forward_bytes(c, call, discard, sizeof(discard) - 1, REQUEST_IN_TX | REQUEST_SILENT, NULL, 0);
		if (verdict == CALL_WAIT)
			return verdict;
		client_reply_error(c, call, "EXECABORT Transaction discarded because of previous errors.");
	} else {
		verdict = forward(c, call, REQUEST_IN_TX, exec && db >= 0 ? exec_answered : NULL, db);
		if (verdict == CALL_WAIT)
			return verdict;
	}
	policy_tx_drop(c);
	c->tx = TX_NONE;
	c->tx_db = -1;
	c->watching = 0;
	c->n_queued = 0;
	return CALL_DONE;
}

enum verdict transaction_queue(struct client *c, const struct call *call)
{
	const struct command *cmd = call->cmd;
	enum verdict verdict;
	int64_t db;

	if (c->tx == TX_UNIT)
		return unit_queue(c, call);
	switch (cmd->handler) {
	case HANDLER_EXEC:
	case HANDLER_DISCARD:
		if (call->frame->argc == 1)
			return end_transaction(c, call, cmd->handler == HANDLER_EXEC);
		break;
	case HANDLER_QUIT:
		return handle_QUIT(c, call);
	case HANDLER_RESET:
		return handle_RESET(c, call);
	default:
		break;
	}
	if (c->tx == TX_LOST) {
		client_reply_own_error(c, call, ERROR_UPSTREAM_DOWN);
		return CALL_DONE;
	}
	if (cmd->in_multi == IN_MULTI_REFUSED || cmd->handler == HANDLER_KEYWEIR || cmd->handler == HANDLER_REFUSED) {
		c->tx = TX_REFUSED;
		client_reply_own_error(c, call, ERROR_IN_MULTI);
		return CALL_DONE;
	}
	if (cmd->in_multi == IN_MULTI_STATE && cmd->handler != HANDLER_SELECT)
		c->bound->tainted = true;
	verdict = forward(c, call, REQUEST_IN_TX | REQUEST_NO_SLOWLOG, NULL, 0);
	if (verdict == CALL_DONE && c->tx != TX_NONE) {
		c->n_queued++;
		c->tx_writes |= command_may_write(cmd);
		if (cmd->handler == HANDLER_SELECT && call_arg_int(call, 1, &db) && db >= 0 && db < INT32_MAX)
			c->tx_db = (int)db;
	}
	return verdict;
}

/* Outside of a transaction: Redis says so. */
enum verdict handle_EXEC(struct client *c, const struct call *call)
{
	return forward(c, call, 0, NULL, 0);
}

enum verdict handle_DISCARD(struct client *c, const struct call *call)
{
	return forward(c, call, 0, NULL, 0);
}

enum verdict handle_WATCH(struct client *c, const struct call *call)
{
	enum verdict verdict;

	if (!client_bind(c, call, &verdict))
		return verdict;
	c->watching += call->frame->argc - 1;
	return forward(c, call, REQUEST_IN_TX, NULL, 0);
}

enum verdict handle_UNWATCH(struct client *c, const struct call *call)
{
	enum verdict verdict;

	c->watch_lost = false;
	if (!c->watching) {
		client_reply_ok(c, call);
		return CALL_DONE;
	}
	if (!c->w->only) {
		/* It names no key: it must not go to some other node. Closing the link is how to UNWATCH. */
		c->bound->tainted = true;
		c->watching = 0;
		client_reply_ok(c, call);
		client_maybe_unbind(c);
		return CALL_DONE;
	}
	verdict = forward(c, call, REQUEST_IN_TX, NULL, 0);
	if (verdict == CALL_DONE)
		c->watching = 0;
	return verdict;
}
