/* SPDX-License-Identifier: BSD-2-Clause */
/* Which arguments of a command must not be shown in SLOWLOG and MONITOR. Private to client/. */
#ifndef KEYWEIR_REDACT_H
#define KEYWEIR_REDACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command/command.h"

#define REDACTED "(redacted)"

struct tokens;

/* Zero-initialise, then ask for each argument in order, the name being the first. */
struct redactor {
	const struct command *cmd;
	const struct tokens *tokens; /* whose keys are hidden, too; NULL: there are none */
	uint32_t index;
	uint32_t left; /* arguments still to hide */
};

bool redactor_hides(struct redactor *r, const char *arg, size_t len);

/*
 * How much of a text may be shown for the sake of tokens: up to and with the prefix of a key of theirs. anywhere: it
 * may stand in the middle (a script, a channel of keyspace events), else the text is an argument.
 */
size_t redact_tokens(const struct tokens *tokens, const char *text, size_t len, bool anywhere);

/* The same of an argument that is not hidden. */
static inline size_t redactor_shows(const struct redactor *r, const char *arg, size_t len)
{
	return r->tokens ? redact_tokens(r->tokens, arg, len, r->cmd->categories & (CAT_SCRIPTING | CAT_PUBSUB)) : len;
}

#endif
