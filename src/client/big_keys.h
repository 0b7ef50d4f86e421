/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The largest replies and requests that passed (KEYWEIR BIGKEYS): each worker keeps the BIG_KEYS_MAX largest, a key
 * once for each command and direction, with the size that it had last. What is small costs a comparison, and nothing at
 * all in a run of small ones.
 */
#ifndef KEYWEIR_BIG_KEYS_H
#define KEYWEIR_BIG_KEYS_H

#include "client/client.h"

#define BIG_KEYS_BYTES ((size_t)64 * 1024) /* what is smaller is of no interest */
#define BIG_KEYS_MAX   32

void big_keys_fini(struct worker *w);

/* A reply of that many bytes has come over l, which still keeps the request. */
void big_keys_add_reply(struct client *c, const struct request *r, const struct link *l, size_t bytes);

/* A request, as the client sent it; the head of one that streams, then its end; a run of one command's. */
void big_keys_add_request(struct client *c, const struct call *call);
void big_keys_add_upload(struct client *c, const struct call *call);
void big_keys_end_upload(struct client *c, uint64_t bytes);
void big_keys_add_run(struct client *c, const char *data, size_t len);

enum verdict big_keys_tell(struct client *c, const struct call *call); /* KEYWEIR BIGKEYS [COUNT n] */

#endif
