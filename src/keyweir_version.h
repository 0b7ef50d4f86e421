/* SPDX-License-Identifier: BSD-2-Clause */
/* The version, in one place. */
#ifndef KEYWEIR_VERSION_H
#define KEYWEIR_VERSION_H

#define KEYWEIR_VERSION "0.1.0"

#endif
