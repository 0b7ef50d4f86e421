/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transactions where there is more than one place to go to: which one, the first key says. MULTI and the commands
 * behind it are kept here and answered +OK and +QUEUED; with EXEC all of it goes as one request (REQUEST_UNIT), over
 * the link that WATCH holds or the shared one, and only EXEC's reply is the client's. So a transaction that a node
 * redirects has not been executed and is sent again whole.
 *
 * What Redis would refuse while it queues (an unknown command, a wrong number of arguments, keys of another slot) is
 * refused here in its words; what it alone can know (-OOM ...) shows as -EXECABORT.
 */
#ifndef KEYWEIR_CLIENT_UNIT_H
#define KEYWEIR_CLIENT_UNIT_H

#include "client/client.h"

struct target;

enum verdict unit_begin(struct client *c, const struct call *call); /* MULTI */
enum verdict unit_queue(struct client *c, const struct call *call);
/* How many commands stand in these bytes, MULTI and EXEC counted. */
uint32_t unit_commands(const char *bytes, size_t len);

/* A command was refused before it came here: EXEC must fail. */
void unit_spoil(struct client *c);

void unit_drop(struct client *c); /* RESET, or the client leaves */

#endif
