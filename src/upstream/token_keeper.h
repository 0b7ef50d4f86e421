/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who keeps the mirror of [token_blacklist] (cache/blacklist.h) true. Control thread.
 *
 *      wait     until the tracking link of every master holds (upstream/truth.h): from here on all changes are heard of
 *      load     all keys of the list by SCAN, a thousand at a time, with PTTL and GET of each: Redis is never held up
 * for longer than one of these takes settle   until the tracking links have confirmed what was so when the load had
 * ended hold     as long as they hold. A key that has changed is asked for
 *
 * When a link was lost, or the masters are others, or all keys went, it begins anew; what was last known stays until
 * then, for who must decide without Redis.
 *
 * One connection to each master. What is asked on it is answered in order, so the last answer about a token is the
 * truth, unless a write is under way, which puts it in doubt for longer.
 */
#ifndef KEYWEIR_TOKEN_KEEPER_H
#define KEYWEIR_TOKEN_KEEPER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blacklist;
struct shared_config;
struct token_keeper;
struct topology;
struct upstream;

/* Of holder, which has a list and its mirror; a reference is taken. */
struct token_keeper *token_keeper_new(struct event_base *base, struct shared_config *holder, struct upstream *up,
				      struct topology *topo);
void token_keeper_free(struct token_keeper **k); /* the mirror no longer holds */

/* Of another configuration that knows the same tokens; its list becomes the one that is kept. */
void token_keeper_use(struct token_keeper *k, struct shared_config *holder);

struct upstream *token_keeper_upstream(const struct token_keeper *k);

/* Its upstream has another topology. */
void token_keeper_topology(struct token_keeper *k, struct topology *topo);

/* The tracking link names a key of its upstream, or a client of ours has written one. */
void token_keeper_changed(struct token_keeper *k, const char *key, size_t len);
void token_keeper_written(struct token_keeper *k, const char *key, size_t len);

/*
 * Calls passed() when what has changed until now, as far as is known here, is in the mirror; ok: the mirror has held
 * all the while. One at a time. It may be called from inside.
 */
typedef void (*token_passed_fn)(void *ctx, bool ok);
void token_keeper_pass(struct token_keeper *k, token_passed_fn passed, void *ctx);

#endif
