/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A command that several servers answer: its request stands in the client's queue and is answered by parts, each a
 * request of its own on a link; when all of them are answered, one reply is made.
 *
 *   multi_shard         MGET, MSET, DEL ...: the keys of each slot (of each upstream without slots) in one part, since
 *                       a Cluster takes no command with keys of two slots; all parts for one node go in one write
 *   all_shards, all_nodes   DBSIZE, KEYS, FLUSHALL, SCRIPT LOAD ...: as it came, to every master of [upstream.main],
 *                       and to the replicas where reads go there
 * How replies are joined says the command's response_policy. https://redis.io/docs/reference/command-tips/
 *
 * When a part fails, its error is the reply; parts of a write that succeeded stay done, as the same commands sent one
 * by one would.
 */
#ifndef KEYWEIR_CLIENT_FANOUT_H
#define KEYWEIR_CLIENT_FANOUT_H

#include "client/client.h"

/* Whether the call may have to be split; only where there is more than one place to go to. */
bool fanout_wanted(struct client *c, const struct call *call);
enum verdict fanout(struct client *c, const struct call *call);

/*
 * A call whose reply must be put into the client's words: `bytes` go in its place, to all shards when its row says so,
 * else to one master, and `rename` gets the call as it came and may change the joined reply.
 */
typedef void (*fanout_hook_fn)(struct client *c, const struct buf *request, struct buf *reply);
enum verdict fanout_renamed(struct client *c, const struct call *call, const struct buf *bytes, fanout_hook_fn rename);

/*
 * Each key of the call in a part of its own: what is sent for it `put` says. Where `known` does, there is nothing to
 * ask, and out is the answer; either way *about goes with the part (struct fan_part).
 */
struct rewrite_key;
struct fanout_each {
	bool (*known)(struct client *c, const struct rewrite_key *key, int64_t *about, struct buf *out);
	void (*put)(struct client *c, const struct rewrite_key *key, struct buf *out);
};
enum verdict fanout_by_each_key(struct client *c, const struct call *call, const struct fanout_each *each);

/*
 * WAIT to every master, over a dedicated link each. us: its own time, 0 for ever. The client has nothing on the way.
 */
enum verdict fanout_wait(struct client *c, const struct call *call, int64_t us);

/* A part was answered (its bytes are in r->reply), or will never be. r is freed, or an orphan of its link. */
void fanout_part_done(struct request *r, char type, int64_t number);
void fanout_part_failed(struct request *r, const char *text);

/* r->reply was made up (see absent.h): it is taken over. */
void fanout_part_made(struct request *r);

/* The client of a request with parts leaves: the parts become orphans. */
void fanout_abandon(struct request *parent);

#endif
