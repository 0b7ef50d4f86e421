/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers while Redis is not there: see absent.h. */
#include "client/absent.h"

#include "client/target.h"
#include "resp/write.h"

static void put_each(struct client *c, uint32_t n, bool zero, struct buf *b)
{
	resp_array(b, n);
	for (uint32_t i = 0; i < n; i++) {
		if (zero)
			resp_int(b, 0);
		else
			resp_null(b, c->proto);
	}
}

static void put(struct client *c, const struct call *call, struct buf *b)
{
	uint32_t argc = call->frame->argc;

	switch ((enum command_absent)call->cmd->absent) {
	case ABSENT_ERROR:
		break;
	case ABSENT_NULL:
		resp_null(b, c->proto);
		break;
	case ABSENT_NULL_EACH_KEY:
		put_each(c, argc - 1, false, b);
		break;
	case ABSENT_NULL_EACH_ARG:
		put_each(c, argc - 2, false, b);
		break;
	case ABSENT_ZERO_EACH_ARG:
		put_each(c, argc - 2, true, b);
		break;
	case ABSENT_ARRAY:
		resp_array(b, 0);
		break;
	case ABSENT_MAP:
		resp_map(b, c->proto, 0);
		break;
	case ABSENT_SET:
		buf_puts(b, c->proto == 3 ? "~0\r\n" : "*0\r\n");
		break;
	case ABSENT_EMPTY:
		resp_bulks(b, "");
		break;
	case ABSENT_NONE:
		resp_simple(b, "none");
		break;
	case ABSENT_ZERO:
		resp_int(b, 0);
		break;
	case ABSENT_NO_TTL:
		resp_int(b, -2);
		break;
	case ABSENT_OK:
		resp_simple(b, "OK");
		break;
	case ABSENT_ONE:
		resp_int(b, 1);
		break;
	case ABSENT_COUNT_KEYS:
		resp_int(b, (int64_t)argc - 1);
		break;
	}
}

bool absent_answer(struct client *c, const struct call *call)
{
	const struct command *cmd = call->cmd;
	const struct namespace_config *ns;
	struct buf b = {0};
	const char *key;
	size_t len;

	if (cmd->absent == ABSENT_ERROR || call->partial || cmd->n_specs == 0 || c->tx != TX_NONE ||
	    !command_arity_ok(cmd, call->frame->argc))
		return false;
	key = call_arg(call, (uint32_t)cmd->specs->begin_index, &len);
	ns = key ? target_namespace(c->w, key, len) : NULL;
	if (!ns || ns->on_failure != ON_FAILURE_MISS)
		return false;
	put(c, call, &b);
	client_reply(c, call, &b);
	counter_add(&c->w->counters.answered_absent, 1);
	return true;
}
