/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking up learnt commands; private to command/. */
#ifndef KEYWEIR_LEARN_H
#define KEYWEIR_LEARN_H

#include "command/command.h"

const struct command *command_set_find(const struct command_set *set, const char *name, size_t len);
const struct command *command_set_by_id(const struct command_set *set, unsigned id);

/* A name equal in any case to a lower-case one. */
bool command_name_is(const char *lower, const char *name, size_t len);

/* A built-in command by its lower-case name, subcommands not looked at; NULL: none. */
const struct command *command_builtin(const char *name, size_t len);

/* A subcommand of a container; NULL: none. */
const struct command *command_subcommand(const struct command *container, const char *sub, size_t len);

#endif
