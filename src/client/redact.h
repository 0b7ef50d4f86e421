/* SPDX-License-Identifier: BSD-2-Clause */
/* Which arguments of a command must not be shown in SLOWLOG and MONITOR. Private to client/. */
#ifndef KEYWEIR_REDACT_H
#define KEYWEIR_REDACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command/command.h"

#define REDACTED "(redacted)"

/* Zero-initialise, then ask for each argument in order, the name being the first. */
struct redactor {
	const struct command *cmd;
	uint32_t index;
	uint32_t left; /* arguments still to hide */
};

bool redactor_hides(struct redactor *r, const char *arg, size_t len);

#endif
