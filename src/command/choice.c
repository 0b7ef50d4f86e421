/* SPDX-License-Identifier: BSD-2-Clause */
/* See choice.h. */
#include "command/choice.h"

#include <string.h>
#include <strings.h>

#include "command/learn.h"

bool command_choice(const char *word, struct command_choice *out)
{
	const char *bar = strchr(word, '|');
	size_t len = bar ? (size_t)(bar - word) : strlen(word);

	*out = (struct command_choice){0};
	if (strcasecmp(word, "@all") == 0) {
		out->categories = UINT32_MAX;
		return true;
	}
	if (*word == '@') {
		out->categories = command_category(word);
		return out->categories != 0;
	}
	out->cmd = command_builtin(word, len);
	if (out->cmd && bar)
		out->cmd = command_subcommand(out->cmd, bar + 1, strlen(bar + 1));
	return out->cmd;
}

bool command_is_chosen(const struct command *cmd, const struct command_choice *choice)
{
	const struct command *chosen = choice->cmd;
	size_t len;

	if (!chosen)
		return choice->categories == UINT32_MAX || cmd->categories & choice->categories;
	len = strlen(chosen->name);
	/* Its subcommands, also those that were learnt. */
	return cmd == chosen ||
	       (chosen->n_subcommands > 0 && strncmp(cmd->name, chosen->name, len) == 0 && cmd->name[len] == '|');
}

bool command_is_never_limited(const struct command *cmd)
{
	switch (cmd->handler) {
	case HANDLER_HTTP:
	case HANDLER_QUIT:
	case HANDLER_RESET:
	case HANDLER_KEYWEIR:
	case HANDLER_MULTI:
	case HANDLER_EXEC:
	case HANDLER_DISCARD:
	case HANDLER_UNWATCH:
	case HANDLER_UNSUBSCRIBE:
	case HANDLER_PUNSUBSCRIBE:
	case HANDLER_SUNSUBSCRIBE:
		return true;
	default:
		return false;
	}
}
