/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What Redis says of a command that it refuses before it looks at it, for where that is done here. For
 * client_reply_error(), which makes blanks of line ends.
 */
#ifndef KEYWEIR_CLIENT_REFUSAL_H
#define KEYWEIR_CLIENT_REFUSAL_H

#include "client/client.h"

/* C strings; the buffers are the caller's. */
void refusal_unknown_command(const struct call *call, struct buf *text);
void refusal_unknown_subcommand(const struct call *call, struct buf *text);
void refusal_arity(const struct call *call, char *text, size_t size);

#endif
