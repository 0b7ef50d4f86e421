/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SCRIPT LOAD, FUNCTION LOAD and what undoes them: they go to every node, and are remembered, so that a node that
 * joins later, and says that it does not know a script or a function, can be told.
 */
#ifndef KEYWEIR_CLIENT_SCRIPTS_H
#define KEYWEIR_CLIENT_SCRIPTS_H

#include "client/client.h"

/* Whether the command changes what is remembered: its request must be kept until it is answered. */
bool scripts_concerned(const struct command *cmd);

/* It was answered so; request is what was sent. */
void scripts_answered(struct upstream *up, const struct command *cmd, const struct buf *request,
		      const struct buf *reply);

/*
 * A request was answered with an error, line: appends the requests that load what the node lacks.
 * Returns how many; 0: it lacks nothing that is known here.
 */
unsigned scripts_missing(struct upstream *up, const char *line, size_t len, struct slice request, struct buf *out);

#endif
