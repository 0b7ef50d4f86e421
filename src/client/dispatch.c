/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a framed command to its handler: look-up, the checks that come before every command, one table of functions.
 * What a command needs is said by its row in the command table, never by its name.
 */
#include "client/dispatch.h"

#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "client/big_keys.h"
#include "client/fanout.h"
#include "client/hot_keys.h"
#include "client/hub.h"
#include "client/limit.h"
#include "client/monitor.h"
#include "client/near.h"
#include "client/policy.h"
#include "client/scripts.h"
#include "client/slowlog.h"
#include "client/token.h"
#include "resp/number.h"
#include "resp/write.h"
#include "server.h"

const char *call_arg(const struct call *call, uint32_t i, size_t *len)
{
	const struct request_frame *f = call->frame;
	struct arg_cursor cur;
	const char *arg;

	if (i < FRAME_ARGS) {
		if (i >= f->n_seen || (size_t)f->arg[i].offset + f->arg[i].len > call->len)
			return NULL;
		*len = f->arg[i].len;
		return call->bytes + f->arg[i].offset;
	}
	arg_cursor_init(&cur, call->bytes, call->len);
	while (arg_cursor_next(&cur, &arg, len))
		if (i-- == 0)
			return arg;
	return NULL;
}

bool call_arg_is(const struct call *call, uint32_t i, const char *word)
{
	size_t len;
	const char *arg = call_arg(call, i, &len);

	return arg && len == strlen(word) && strncasecmp(arg, word, len) == 0;
}

bool call_arg_int(const struct call *call, uint32_t i, int64_t *out)
{
	size_t len;
	const char *arg = call_arg(call, i, &len);

	return arg && parse_int64(arg, len, out);
}

/* What neither the table nor the upstream's COMMAND knows: alone, where it can do no harm. */
static const struct command unknown_command = {
	.name = "unknown",
	.id = COMMAND_ID_MAX - 1,
	.arity = -1,
	.flags = CMD_UNKNOWN | CMD_WRITE,
	.handler = HANDLER_DEDICATED,
	.in_multi = IN_MULTI_STATE,
};

static const handler_fn handlers[HANDLER_COUNT] = {
#define X(name) [HANDLER_##name] = handle_##name,
	COMMAND_HANDLERS(X)
#undef X
};

enum verdict handle_FORWARD(struct client *c, const struct call *call)
{
	return forward(c, call, 0, NULL, 0);
}

enum verdict handle_DEDICATED(struct client *c, const struct call *call)
{
	enum verdict verdict;

	if (call->cmd->flags & CMD_UNKNOWN)
		server_ask_learn(c->w->server);
	/* What must get through to a Redis that is busy can't select a database first: that would be -BUSY. */
	if (!client_bind_db(c, call, call->cmd->flags & CMD_ALLOW_BUSY ? 0 : c->db, &verdict))
		return verdict;
	/* What it leaves behind on the link is unknown. */
	c->bound->tainted = true;
	return forward(c, call, 0, NULL, 0);
}

enum verdict handle_PIN(struct client *c, const struct call *call)
{
	enum verdict verdict;

	if (!client_may_tie(c, call))
		return CALL_DONE;
	if (!client_bind(c, call, &verdict))
		return verdict;
	c->pinned = true;
	c->bound->tainted = true;
	return forward(c, call, 0, NULL, 0);
}

enum verdict handle_REFUSED(struct client *c, const struct call *call)
{
	client_reply_own_error(c, call, ERROR_REFUSED);
	return CALL_DONE;
}

enum verdict handle_HTTP(struct client *c, const struct call *call)
{
	static struct log_limit limit;

	(void)call;
	if (log_limit_pass(&limit))
		log_warn("Client %llu closed: it speaks HTTP (cross-protocol attack?)", (unsigned long long)c->id);
	client_close(c);
	return CALL_DONE;
}

/*
 * Built-in commands without subcommands are remembered by the frame: most clients send the same one again and again.
 */
static __attribute__((noinline)) const struct command *find(const struct command_set *learnt, const struct call *call)
{
	struct request_frame *f = call->frame;
	const char *name = call->bytes + f->arg[0].offset; /* here also for the head of a large request */
	const struct command *cmd = command_find(learnt, name, f->arg[0].len, NULL, 0);
	const char *sub;
	size_t len;

	if (!cmd)
		return &unknown_command;
	if (cmd->n_subcommands == 0 && cmd->id < command_count())
		f->known = cmd;
	if (cmd->n_subcommands == 0 || f->n_seen < 2)
		return cmd;
	sub = call_arg(call, 1, &len);
	return sub ? command_find(learnt, name, f->arg[0].len, sub, len) : cmd;
}

const struct command *dispatch_find(struct client *c, const struct call *call)
{
	return call->frame->known ? call->frame->known : find(c->w->snapshot->learnt, call);
}

/* RESP2 clients with subscriptions may do little else (redis: "allowed in this context"). */
static bool allowed_while_subscribed(const struct command *cmd)
{
	switch (cmd->handler) {
	case HANDLER_SUBSCRIBE:
	case HANDLER_UNSUBSCRIBE:
	case HANDLER_PSUBSCRIBE:
	case HANDLER_PUNSUBSCRIBE:
	case HANDLER_SSUBSCRIBE:
	case HANDLER_SUNSUBSCRIBE:
	case HANDLER_PING:
	case HANDLER_QUIT:
	case HANDLER_RESET:
		return true;
	default:
		return false;
	}
}

static void refuse_while_subscribed(struct client *c, const struct call *call)
{
	struct buf b = {0};

	buf_printf(
		&b,
		"-ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
		"this context\r\n",
		call->cmd->name);
	client_reply(c, call, &b);
}

static bool is_paused(struct client *c, const struct command *cmd)
{
	struct server *s = c->w->server;
	int mode = atomic_load_explicit(&s->pause_mode, memory_order_relaxed);

	if (__builtin_expect(mode == PAUSE_NONE, 1))
		return false;
	if (c->w->now_us >= atomic_load(&s->pause_end_us))
		return false;
	if (mode == PAUSE_ALL)
		return c->tx == TX_NONE || cmd->handler == HANDLER_EXEC;
	/* PAUSE WRITE: writes, and what may hold some. */
	return (c->tx == TX_NONE && command_may_write(cmd)) ||
	       (cmd->handler == HANDLER_EXEC && c->tx != TX_NONE && c->tx_writes);
}

/* Whether it must be refused or wait, before any handler sees it. */
static bool stopped_before(struct client *c, const struct call *call, enum verdict *verdict)
{
	*verdict = CALL_DONE;
	if (c->out.bytes > c->w->output_pause_bytes && c->tx_run == 0) {
		*verdict = client_wait_for(c, WAIT_OUTPUT);
		c->stalled_us = c->w->now_us;
		return true;
	}
	if (c->proto == 2 && hub_is_subscriber(c) && !allowed_while_subscribed(call->cmd)) {
		refuse_while_subscribed(c, call);
		return true;
	}
	if (c->tx_run == 0 && is_paused(c, call->cmd)) {
		counter_add(&c->w->counters.blocked, 1);
		*verdict = client_wait_for(c, WAIT_PAUSE);
		return true;
	}
	return false;
}

/* Handlers that can do with the head of a large request alone. */
static bool streams(const struct command *cmd)
{
	return cmd->handler == HANDLER_FORWARD || cmd->handler == HANDLER_DEDICATED || scripts_concerned(cmd) ||
	       cmd->handler == HANDLER_PUBLISH || cmd->handler == HANDLER_CONFIG;
}

static enum verdict handle(struct client *c, const struct call *call)
{
	const struct command *cmd = call->cmd;

	if (__builtin_expect(cmd->handler == HANDLER_HTTP, 0))
		return handle_HTTP(c, call);
	if (__builtin_expect(cmd->handler == HANDLER_CL_THROTTLE, 0) && !call->partial)
		return handle_CL_THROTTLE(c, call);
	if (__builtin_expect(c->tx_run > 0, 0))
		return transaction_run(c, call);
	if (__builtin_expect(c->tx != TX_NONE, 0))
		return transaction_queue(c, call);
	if (call->partial && !streams(cmd)) {
		client_reply_own_error(c, call, ERROR_TOO_BIG);
		return CALL_DONE;
	}
	/* Redis words its own errors best: what has too few or too many arguments is sent for that. */
	if (__builtin_expect(!call->rw && !command_arity_ok(cmd, call->frame->argc), 0) &&
	    cmd->handler != HANDLER_KEYWEIR && !command_has_tokens(cmd))
		return forward(c, call, 0, NULL, 0);
	if (!c->w->only && fanout_wanted(c, call))
		return fanout(c, call);
	if (__builtin_expect(cmd->handler == HANDLER_FORWARD, 1))
		return forward_plain(c, call);
	return handlers[cmd->handler](c, call);
}

/* What memory says of tokens and the near-cache has, that answers; what comes behind may have to do with it, too. */
static __attribute__((noinline)) enum verdict run_near(struct client *c, const struct call *original)
{
	struct call call = *original;
	enum verdict verdict;

	if (c->w->tokens && token_asks(call.cmd) && token_read(c, &call, &verdict))
		;
	else if (c->w->near && call.cmd->cache != CACHE_NONE && near_read(c, &call, &verdict))
		;
	else if (policy_wants(call.cmd))
		verdict = policy_run(c, &call, handle);
	else
		verdict = handle(c, &call);
	if (call.near)
		near_call_end(c->w, &call);
	return verdict;
}

static enum verdict run_unlimited(struct client *c, struct call *call)
{
	if (__builtin_expect(c->w->near || c->w->tokens, 0))
		return run_near(c, call);
	if (__builtin_expect(c->w->policy, 0) && policy_wants(call->cmd))
		return policy_run(c, call, handle);
	return handle(c, call);
}

static enum verdict run(struct client *c, struct call *call)
{
	return __builtin_expect(c->w->limits != NULL, 0) ? limit_run(c, call, run_unlimited) : run_unlimited(c, call);
}

/* It was consumed: what the client and MONITOR see of it. */
static void consumed(struct client *c, const struct call *call)
{
	struct worker *w = c->w;

	c->active_us = w->now_us;
	counter_add(&w->counters.commands, 1);
	hot_keys_pass(c, call->cmd, call->frame, call->bytes);
	if (__builtin_expect(call->len >= BIG_KEYS_BYTES, 0) && !call->partial)
		big_keys_add_request(c, call);
	/* What was answered here took no time worth noting, unless everything is to be noted. */
	if (__builtin_expect(slowlog_is_slow(w->server->slowlog, 0), 0) && !c->forwarded)
		slowlog_add_call(c, call);
	if (__builtin_expect(atomic_load_explicit(&w->server->n_monitors, memory_order_relaxed) > 0, 0))
		monitor_feed(c, call);
}

enum verdict dispatch(struct client *c, struct call *call)
{
	enum verdict verdict;
	bool skip = c->reply_mode == REPLY_SKIP_NEXT;

	call->cmd = dispatch_find(c, call);
	/* Most clients have nothing extra, little to read, and nobody is paused. */
	if (__builtin_expect(c->extra || c->out.bytes > c->w->output_pause_bytes ||
				     atomic_load_explicit(&c->w->server->pause_mode, memory_order_relaxed) !=
					     PAUSE_NONE,
			     0) &&
	    stopped_before(c, call, &verdict))
		return verdict;
	c->reply_skip = skip;
	if (skip)
		c->reply_mode = REPLY_ON;
	c->call_len = call->len;
	c->last_cmd = call->cmd;
	c->dispatching = true;
	c->forwarded = false;
	verdict = run(c, call);
	c->dispatching = false;
	c->reply_skip = false;
	if (c->closed)
		return CALL_DONE;
	if (verdict == CALL_DONE)
		consumed(c, call);
	else if (skip)
		c->reply_mode = REPLY_SKIP_NEXT;
	return verdict;
}
