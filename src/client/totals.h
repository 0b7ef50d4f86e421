/* SPDX-License-Identifier: BSD-2-Clause */
/* Counters of all workers, summed up for INFO and KEYWEIR STATUS. Private to client/. */
#ifndef KEYWEIR_TOTALS_H
#define KEYWEIR_TOTALS_H

#include <stdint.h>

struct server;

struct totals {
#define COUNTER(name, help) uint64_t name;
#include "counters.def"
#undef COUNTER
};

void totals_sum(const struct server *s, struct totals *out);

#endif
