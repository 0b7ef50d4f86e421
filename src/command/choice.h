/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands chosen by words, as in Redis's ACL but for their sign: "get", "config|set", "config" with all of its
 * subcommands, "@write", "@all"; in any case. And what no rate limit may choose.
 */
#ifndef KEYWEIR_COMMAND_CHOICE_H
#define KEYWEIR_COMMAND_CHOICE_H

#include "command/command.h"

struct command_choice {
	uint32_t categories;	   /* any of these */
	const struct command *cmd; /* this one; NULL: by category */
};

/* False: there is no such command (in the built-in table), or category. */
bool command_choice(const char *word, struct command_choice *out);

bool command_is_chosen(const struct command *cmd, const struct command_choice *choice);

/*
 * Whether the command ends something, or stands around others, so that to refuse it would do what nobody wants (EXEC
 * refused, and a transaction goes on); or is how one looks after the proxy.
 */
bool command_is_never_limited(const struct command *cmd);

#endif
