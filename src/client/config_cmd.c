/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CONFIG SET and RESETSTAT are Redis's business and go there; but what they say of the slow log and the statistics
 * counts here too, since those that a client sees are the proxy's.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/client.h"
#include "client/dispatch.h"
#include "client/slowlog.h"
#include "client/stats.h"
#include "resp/number.h"
#include "server.h"

enum { SET_NOTHING = 0, SET_SLOWER_THAN = 1, SET_MAX_LEN = 2, RESET_STAT = 3 };

/* r->arg: what, in the low two bits, and the number above them. */
static void config_answered(struct request *r, char type, int64_t number)
{
	struct slowlog *log = r->client->w->server->slowlog;

	(void)number;
	if (type != '+')
		return;
	switch (r->arg & 3) {
	case SET_SLOWER_THAN:
		slowlog_set_threshold(log, r->arg >> 2);
		break;
	case SET_MAX_LEN:
		slowlog_set_max_len(log, r->arg >> 2);
		break;
	case RESET_STAT:
		stats_reset(r->client->w->server);
		break;
	default:
		break;
	}
}

enum verdict handle_CONFIG(struct client *c, const struct call *call)
{
	int64_t value, arg = call_arg_is(call, 1, "RESETSTAT") ? RESET_STAT : SET_NOTHING;

	for (uint32_t i = 2; i + 1 < call->frame->argc && i < 64; i += 2) {
		if (!call_arg_int(call, i + 1, &value) || value > INT64_MAX / 8 || value < -1)
			continue;
		if (call_arg_is(call, i, "slowlog-log-slower-than"))
			arg = value * 4 + SET_SLOWER_THAN;
		else if (call_arg_is(call, i, "slowlog-max-len"))
			arg = value * 4 + SET_MAX_LEN;
	}
	return forward(c, call, 0, arg == SET_NOTHING ? NULL : config_answered, arg);
}
