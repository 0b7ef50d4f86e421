/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a command goes when there is more than one place: its keys say which upstream (by [namespace.NAME] match) and,
 * in a Cluster, which slot. A command without keys goes to [upstream.main].
 */
#ifndef KEYWEIR_CLIENT_TARGET_H
#define KEYWEIR_CLIENT_TARGET_H

#include "client/client.h"
#include "upstream/route.h"

struct target {
	struct route *route;
	int slot; /* -1: no Cluster, or no key */
	bool keyed;
	bool master; /* not from a replica: a read that renews its key's time to live, or whose reply is kept */
};

enum target_status {
	TARGET_OK,
	TARGET_CROSSSLOT,     /* keys of one command in several slots */
	TARGET_CROSSUPSTREAM, /* ... on several upstreams */
	TARGET_TOO_BIG,	      /* the keys have not come yet, and it is too large to be waited for */
	TARGET_MORE,	      /* the keys have not come yet */
};

/* Whose databases SELECT chooses: [upstream.main], or that of the namespace that the client is bound to. */
struct route *target_home(const struct client *c);

/* Where keyless commands go: [upstream.main], or the one that KEYWEIR UPSTREAM names. */
struct route *target_main(const struct client *c);

/* The namespace of a key, the longest prefix decides; NULL: none. */
const struct namespace_config *target_namespace(const struct worker *w, const char *key, size_t len);

/* One key's target. i: which of the call's keys it is, should they have been looked at already (call->rw). */
struct target target_of_key(const struct client *c, const struct call *call, uint32_t i, const char *key, size_t len);

/* The whole command's. */
enum target_status target_of_call(struct client *c, const struct call *call, struct target *t);

/*
 * Calls on_key for each key of a whole call, with its number; for none when their places can't be determined.
 */
typedef void (*target_key_fn)(void *ctx, uint32_t i, const char *key, size_t len);
void target_each_key(const struct call *call, target_key_fn on_key, void *ctx);

/* Where keys stand in a row from `first` to the end, every `step` arguments (MGET, MSET ...). False: elsewhere. */
bool target_key_row(const struct command *cmd, uint32_t *first, uint32_t *step);

/* The pool for the call: of the master, or of a replica for a read that may go there. NULL: t has no node now. */
struct pool *target_pool(struct client *c, const struct command *cmd, const struct target *t);

/* The call can't go on, for a status that is not OK: answered, or (MORE) not consumed until more of it has come. */
enum verdict target_failed(struct client *c, const struct call *call, enum target_status status);

/* The same for a call of which more must be seen. */
enum verdict target_more(struct client *c, const struct call *call);

/* What clients are told when there is no node for a slot. */
const char *target_why(const struct target *t);

#endif
