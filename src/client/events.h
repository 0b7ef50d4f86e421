/* SPDX-License-Identifier: BSD-2-Clause */
/* What links tell clients and the hub: the one table that is handed down to upstream/. */
#ifndef KEYWEIR_EVENTS_H
#define KEYWEIR_EVENTS_H

#include "upstream/link.h"

extern const struct link_events client_link_events;

#endif
