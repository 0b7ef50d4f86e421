/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of command/ tell each other: names compared, the built-in rows and the learnt ones looked up.
 * Private to command/; others include command.h.
 */
#ifndef KEYWEIR_LEARN_H
#define KEYWEIR_LEARN_H

#include "command/command.h"

#define COMMAND_NAME_MAX 128 /* longer names, of learnt commands and of clients, are unknown */

const struct command *command_set_by_id(const struct command_set *set, unsigned id);

/*
 * A learnt command by its name, in any case. With sub (not NULL) a subcommand of the container of that name, built in
 * or learnt. NULL: none.
 */
const struct command *command_set_find(const struct command_set *set, const char *name, size_t name_len,
				       const char *sub, size_t sub_len);

/* A built-in command by its name in any case, subcommands not looked at. NULL: none. */
const struct command *command_builtin(const char *name, size_t len);

/* A subcommand that the container's own row lists. NULL: none. */
const struct command *command_subcommand(const struct command *container, const char *sub, size_t len);

/* The bit of a category, "@write" in any case; 0: there is none. */
uint32_t command_category(const char *word);

static inline char command_lower(char ch)
{
	return ch >= 'A' && ch <= 'Z' ? (char)(ch | 0x20) : ch;
}

#endif
