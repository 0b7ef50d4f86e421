/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What clients have loaded into an upstream with SCRIPT LOAD and FUNCTION LOAD, so that it can be loaded into a node
 * that joined later. Bounded: past LOADED_BYTES_MAX the oldest goes. Any thread.
 */
#ifndef KEYWEIR_LOADED_H
#define KEYWEIR_LOADED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct loaded;

#define LOADED_BYTES_MAX ((size_t)16 << 20)

enum loaded_kind { LOADED_SCRIPT, LOADED_FUNCTIONS };

struct loaded *loaded_new(void);
void loaded_free(struct loaded **l);

/* name: the script's SHA1 (in any case), or the library's name; request: what loads it. Replaces one of this name. */
void loaded_add(struct loaded *l, enum loaded_kind kind, const char *name, size_t len, const char *request,
		size_t request_len);

/* name NULL: all of this kind. */
void loaded_remove(struct loaded *l, enum loaded_kind kind, const char *name, size_t len);

/*
 * Appends the requests that load what a node lacks: the one script, or (name NULL) every library. Returns how many
 * requests these are.
 */
unsigned loaded_requests(struct loaded *l, enum loaded_kind kind, const char *name, size_t len, struct buf *out);

#endif
