/* SPDX-License-Identifier: BSD-2-Clause */
/* URLs of a Redis: the part that only this folder needs. */
#ifndef KEYWEIR_CONFIG_URL_H
#define KEYWEIR_CONFIG_URL_H

#include "config/config.h"

/* "redis://user:***@host:6379/0": everything but the password, written in full. The caller's. */
char *upstream_url_mask(const struct upstream_url *target) __attribute__((warn_unused_result));

#endif
