/* SPDX-License-Identifier: BSD-2-Clause */
/* Rate limits on connections ([[rate_limit]] on = "connections"): asked by the control thread, which accepts them. */
#ifndef KEYWEIR_ADMISSION_H
#define KEYWEIR_ADMISSION_H

#include <stdbool.h>

#include "net/addr.h"
#include "server.h"

/* False: it is to be closed, and `line` (of that size) is what to tell it. */
bool admission_grant(struct server *s, struct snapshot *snapshot, const struct address *a, char *line, size_t size);

/* There is another configuration: counts go on under the names of their rules. */
void admission_renew(struct server *s, const struct limits *old, const struct limits *fresh);

#endif
