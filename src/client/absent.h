/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * on_failure = "miss": while Redis is not there, commands on the keys of such a namespace are answered as if the keys
 * were absent, and cache writes as if they were done. What that is for each command says the table (column "absent").
 */
#ifndef KEYWEIR_CLIENT_ABSENT_H
#define KEYWEIR_CLIENT_ABSENT_H

#include "client/client.h"

/* True: the call was answered so. */
bool absent_answer(struct client *c, const struct call *call);

#endif
