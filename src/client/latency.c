/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LATENCY HISTOGRAM, of what clients waited. The rest of LATENCY is about events inside Redis and goes there.
 * https://redis.io/commands/latency-histogram/
 */
#include <string.h>

#include "client/client.h"
#include "client/dispatch.h"
#include "client/stats.h"
#include "resp/write.h"
#include "server.h"

/* A command with its subcommands; "client|id" names one of them. Returns how many rows that made. */
static size_t put_named(const struct client *c, const char *name, size_t len, struct buf *out)
{
	const struct command_set *learnt = c->w->snapshot->learnt;
	const struct server *s = c->w->server;
	const char *bar = memchr(name, '|', len);
	const struct command *cmd;
	size_t n;

	if (bar) {
		cmd = command_find(learnt, name, (size_t)(bar - name), bar + 1, len - (size_t)(bar + 1 - name));
		return cmd && strchr(cmd->name, '|') ? stats_put_latency(s, cmd, c->proto, out) : 0;
	}
	cmd = command_find(learnt, name, len, NULL, 0);
	if (!cmd)
		return 0;
	n = stats_put_latency(s, cmd, c->proto, out);
	for (unsigned i = 0; i < cmd->n_subcommands; i++)
		n += stats_put_latency(s, &cmd->subcommands[i], c->proto, out);
	return n;
}

static size_t put_all(const struct client *c, struct buf *out)
{
	size_t n = 0;

	for (unsigned id = 0; id < COMMAND_ID_MAX; id++) {
		const struct command *cmd = command_by_id(c->w->snapshot->learnt, id);

		if (cmd)
			n += stats_put_latency(c->w->server, cmd, c->proto, out);
	}
	return n;
}

enum verdict handle_LATENCY_HISTOGRAM(struct client *c, const struct call *call)
{
	struct buf rows = {0}, b = {0};
	struct arg_cursor cur;
	const char *arg;
	size_t n = 0, len;

	if (call->frame->argc == 2) {
		n = put_all(c, &rows);
	} else {
		arg_cursor_init(&cur, call->bytes, call->len);
		for (uint32_t i = 0; arg_cursor_next(&cur, &arg, &len); i++)
			if (i > 1)
				n += put_named(c, arg, len, &rows);
	}
	resp_map(&b, c->proto, n);
	if (n > 0)
		buf_put(&b, buf_head(&rows), buf_len(&rows));
	buf_release(&rows);
	client_reply(c, call, &b);
	return CALL_DONE;
}
