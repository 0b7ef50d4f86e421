/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes replies and requests into a buffer; `proto` is 2 or 3 and decides how maps, nulls and pushes look. */
#ifndef KEYWEIR_WRITE_H
#define KEYWEIR_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

void resp_bulk(struct buf *b, const void *p, size_t len);
void resp_bulks(struct buf *b, const char *s); /* a C string */
void resp_simple(struct buf *b, const char *s);
void resp_error(struct buf *b, const char *s); /* CR and LF inside become blanks */
void resp_int(struct buf *b, int64_t v);
void resp_null(struct buf *b, int proto);
void resp_array(struct buf *b, size_t n);
void resp_map(struct buf *b, int proto, size_t n_pairs);
void resp_push(struct buf *b, int proto, size_t n);
void resp_verbatim(struct buf *b, int proto, const void *p, size_t len); /* text; RESP2: a bulk */

/* A name and its value, in a map. */
void resp_field(struct buf *b, const char *name, uint64_t value);
void resp_field_text(struct buf *b, const char *name, const char *value);

/* A request from C strings. */
void resp_request(struct buf *b, size_t argc, const char *const *argv);

#endif
