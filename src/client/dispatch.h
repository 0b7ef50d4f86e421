/* SPDX-License-Identifier: BSD-2-Clause */
/* The handlers of all commands, one for each enum command_handler; private to client/. */
#ifndef KEYWEIR_DISPATCH_H
#define KEYWEIR_DISPATCH_H

#include "client/client.h"

/*
 * Answers or sends a command. May say CALL_WAIT before it has done anything: it is called anew with the same command
 * when what the client waits for has come.
 */
typedef enum verdict (*handler_fn)(struct client *c, const struct call *call);

#define X(name) enum verdict handle_##name(struct client *c, const struct call *call);
COMMAND_HANDLERS(X)
#undef X

/* The command's row; never NULL. */
const struct command *dispatch_find(struct client *c, const struct call *call);

/* A command between MULTI and EXEC, on its own link (queue) or within a transaction that arrived whole (run). */
enum verdict transaction_queue(struct client *c, const struct call *call);
enum verdict transaction_run(struct client *c, const struct call *call);

#endif
