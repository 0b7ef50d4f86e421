/* SPDX-License-Identifier: BSD-2-Clause */
/* See refusal.h. The words are those of Redis's commandCheckExistence() and commandCheckArity(). */
#include "client/refusal.h"

#include <ctype.h>
#include <stdio.h>

#define SHOWN 128 /* bytes of an argument */

static int shown(size_t len)
{
	return len > SHOWN ? SHOWN : (int)len;
}

void refusal_unknown_command(const struct call *call, struct buf *text)
{
	const char *arg;
	size_t len;

	arg = call_arg(call, 0, &len);
	buf_printf(text, "ERR unknown command '%.*s', with args beginning with: ", shown(len), arg);
	for (uint32_t i = 1; i < call->frame->argc && buf_len(text) < 256; i++) {
		arg = call_arg(call, i, &len);
		buf_printf(text, "'%.*s' ", shown(len), arg);
	}
	buf_put(text, "", 1);
}

void refusal_unknown_subcommand(const struct call *call, struct buf *text)
{
	const char *sub;
	size_t len = 0;

	sub = call_arg(call, 1, &len);
	buf_printf(text, "ERR unknown subcommand '%.*s'. Try ", shown(len), sub ? sub : "");
	for (const char *p = call->cmd->name; *p; p++)
		buf_printf(text, "%c", toupper((unsigned char)*p));
	buf_put(text, " HELP.", sizeof(" HELP."));
}

void refusal_arity(const struct call *call, char *text, size_t size)
{
	snprintf(text, size, "ERR wrong number of arguments for '%s' command", call->cmd->name);
}
