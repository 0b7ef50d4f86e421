/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counting the tokens of the list in Redis, for TOKEN.COUNT while it is not held in memory: by SCAN over a connection
 * of its own to each master. Control thread.
 */
#ifndef KEYWEIR_TOKEN_COUNT_H
#define KEYWEIR_TOKEN_COUNT_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

struct shared_config;
struct token_count;
struct topology;

/* why: what went wrong; NULL: n of them. The count may be freed inside. */
typedef void (*token_counted_fn)(void *ctx, size_t n, const char *why);

/* holder has a list; counted() is called once, never from inside this. */
struct token_count *token_count_new(struct event_base *base, struct shared_config *holder, struct topology *topo,
				    token_counted_fn counted, void *ctx);
void token_count_free(struct token_count **t);

#endif
