/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands that may block: over a dedicated link, with their own time on top of read_timeout. When the client leaves,
 * its link is closed, so Redis hears of it at once. And WAIT, which asks about the writes of its own connection.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/client.h"
#include "client/dispatch.h"
#include "client/fanout.h"
#include "client/target.h"
#include "resp/number.h"

/* The time a command may block, in microseconds; 0: for ever; -1: it does not block. */
static int64_t seconds_us(const struct call *call, uint32_t i)
{
	char text[64], *end;
	const char *arg;
	double seconds;
	size_t len;

	arg = call_arg(call, i, &len);
	if (!arg || len == 0 || len >= sizeof(text))
		return -1;
	memcpy(text, arg, len);
	text[len] = '\0';
	seconds = strtod(text, &end);
	if (*end || !(seconds >= 0) || seconds > 1e9)
		return -1; /* Redis will say what is wrong with it */
	/* Redis rounds up to a millisecond; less than one is not for ever. */
	return seconds > 0 ? (int64_t)ceil(seconds * 1000) * 1000 : 0;
}

static int64_t ms_us(const struct call *call, uint32_t i)
{
	int64_t ms;

	if (!call_arg_int(call, i, &ms) || ms < 0 || ms > INT64_MAX / 1000000)
		return -1;
	return ms * 1000;
}

/* XREAD ... BLOCK ms ... STREAMS: options end at STREAMS. */
static int64_t block_option_us(const struct call *call)
{
	struct arg_cursor cur;
	const char *arg;
	uint32_t i = 0;
	size_t len;

	arg_cursor_init(&cur, call->bytes, call->len);
	while (arg_cursor_next(&cur, &arg, &len)) {
		if (i > 0 && len == 5 && strncasecmp(arg, "BLOCK", 5) == 0)
			return ms_us(call, i + 1);
		if (i > 0 && len == 7 && strncasecmp(arg, "STREAMS", 7) == 0)
			break;
		i++;
	}
	return -1;
}

static int64_t block_us(const struct call *call)
{
	switch (call->cmd->timeout) {
	case TIMEOUT_LAST_SECONDS:
		return seconds_us(call, call->frame->argc - 1);
	case TIMEOUT_FIRST_SECONDS:
		return seconds_us(call, 1);
	case TIMEOUT_BLOCK_OPTION:
		return block_option_us(call);
	case TIMEOUT_WAIT: /* WAIT n ms; WAITAOF n n ms */
		return ms_us(call, call->frame->argc - 1);
	default:
		return -1;
	}
}

static enum verdict block(struct client *c, const struct call *call, int64_t us)
{
	enum verdict verdict = forward(c, call, REQUEST_BLOCKING, NULL, 0);

	/* forward() gave read_timeout; its own time comes on top, or there is no limit. */
	if (verdict == CALL_DONE && c->tail && c->tail->link)
		c->tail->deadline_us = us == 0 ? 0 : c->tail->deadline_us + us;
	return verdict;
}

enum verdict handle_BLOCKING(struct client *c, const struct call *call)
{
	int64_t us = block_us(call);
	enum verdict verdict;

	if (us < 0)
		return forward(c, call, 0, NULL, 0);
	if (!client_bind(c, call, &verdict))
		return verdict;
	return block(c, call, us);
}

/*
 * WAIT looks at the replication offset after the connection's last command. All this client's writes are answered
 * when it is bound, so any command on the dedicated link brings its offset up to date: a PING goes first.
 */
enum verdict handle_WAIT(struct client *c, const struct call *call)
{
	int64_t us = block_us(call);
	enum verdict verdict;

	if (us < 0)
		return forward(c, call, 0, NULL, 0);
	if (!c->w->only && target_main(c)->topo->n_shards > 1)
		return c->n_upstream > 0 ? client_wait_for(c, WAIT_DRAIN) : fanout_wait(c, call, us);
	if (!client_bind(c, call, &verdict))
		return verdict;
	if (c->n_upstream == 0)
		forward_ping(c->bound);
	return block(c, call, us);
}
