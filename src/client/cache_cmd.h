/* SPDX-License-Identifier: BSD-2-Clause */
/* KEYWEIR CACHE STATS and KEYWEIR CACHE FLUSH [pattern]: the near-cache, to be looked at and emptied. */
#ifndef KEYWEIR_CACHE_CMD_H
#define KEYWEIR_CACHE_CMD_H

#include "client/client.h"

enum verdict cache_cmd(struct client *c, const struct call *call);

#endif
