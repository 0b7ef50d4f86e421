/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hash slots of Redis Cluster: CRC16 of the key, or of its hash tag, modulo 16384.
 * https://redis.io/docs/reference/cluster-spec/#key-distribution-model
 */
#ifndef KEYWEIR_SLOT_H
#define KEYWEIR_SLOT_H

#include <stddef.h>

#define SLOTS 16384

/* The slot of a key, 0 to SLOTS - 1. */
unsigned hash_slot(const char *key, size_t len);

#endif
