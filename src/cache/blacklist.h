/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mirror of [token_blacklist]: which tokens are revoked, and until when, all of them, in memory.
 *
 * 22 bytes for each: its id, when it ends, what Redis keeps there, and why it is in **doubt**, if it is. A token is in
 * doubt from the moment that something about it may have changed until somebody has asked Redis: then memory says
 * nothing, and whoever wants to know asks Redis himself. Two things put it there, and may do so several times over:
 * a write of a client of this proxy (from before it is sent until a question that was asked after its reply), and the
 * tracking link (until the question is answered). What was last known stays, for when Redis is away.
 *
 * All of it counts only while it holds: it was loaded whole, and what changed since was heard of. That is said anew
 * every few milliseconds by blacklist_hold(); who does is upstream/token_keeper.h.
 *
 * A load does not need the room of a second one: what it finds gets its number, and what has an older one at its end
 * is no more.
 *
 * Shards with a lock each, taken for one look-up. Any thread. Left out of core dumps. Reference-counted.
 */
#ifndef KEYWEIR_BLACKLIST_H
#define KEYWEIR_BLACKLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/token_id.h"

struct blacklist;

struct blacklist *blacklist_new(void); /* one reference */
struct blacklist *blacklist_ref(struct blacklist *b);
void blacklist_unref(struct blacklist **b);

/* ---- looking ---- */

enum blacklist_says {
	BLACKLIST_CLEAR,
	BLACKLIST_REVOKED,
	BLACKLIST_UNKNOWN, /* Redis must be asked */
};

/* Whether it holds now. */
bool blacklist_holds(const struct blacklist *b, int64_t now_us);

/* The sum of its nodes' epochs (upstream/truth.h), of which it is. */
uint64_t blacklist_epochs(const struct blacklist *b);

/* When what it says was last confirmed, of all nodes. */
int64_t blacklist_confirmed_us(const struct blacklist *b);

/* Only while it holds. value: what GET says of it. */
enum blacklist_says blacklist_look(struct blacklist *b, struct token_id id, int64_t now_us, unsigned *value);

/*
 * A mark that is taken before a look: as long as it is fresh, and the list holds, a token that was clear is so still.
 * Never 0. Both take no lock.
 */
uint64_t blacklist_mark(struct blacklist *b, struct token_id id);
bool blacklist_mark_is_fresh(const struct blacklist *b, uint64_t mark);

/* A token in 64 bits, as this list knows it: enough for who must decide on his own. */
uint64_t blacklist_key(const struct blacklist *b, struct token_id id);

/* What was last known of it, held or not: whether it was revoked. */
bool blacklist_was_revoked(struct blacklist *b, uint64_t key, int64_t now_us);

/* What Redis keeps at a key: some are remembered, as a number. */
#define BLACKLIST_ONE	1u  /* "1" */
#define BLACKLIST_OTHER 31u /* something that is not: it must be asked */
unsigned blacklist_value(struct blacklist *b, const char *text, size_t len);
const char *blacklist_value_text(const struct blacklist *b, unsigned value, size_t *len); /* NULL: OTHER */

/* ---- doubts ---- */

/* A write of ours is going to be sent. */
void blacklist_write_begins(struct blacklist *b, struct token_id id);

/* It was not sent. */
void blacklist_write_dropped(struct blacklist *b, struct token_id id);

/* It was answered, or will never be. True: now a question must be asked, by the caller. */
bool blacklist_write_ends(struct blacklist *b, struct token_id id) __attribute__((warn_unused_result));

/* Redis says that it has changed. True: the same. */
bool blacklist_changed(struct blacklist *b, struct token_id id) __attribute__((warn_unused_result));

/* What is known of a token that is in doubt, should Redis be away: it was revoked a moment ago. until_us: 0: for ever
 */
void blacklist_note_revoked(struct blacklist *b, struct token_id id, int64_t until_us);

/* What Redis has. */
struct blacklist_fact {
	bool revoked;
	unsigned value;
	int64_t until_us; /* monotonic; 0: for ever */
};

/* A question was answered. True: it must be asked once more. */
bool blacklist_learnt(struct blacklist *b, struct token_id id, const struct blacklist_fact *fact)
	__attribute__((warn_unused_result));

/* ---- loading; one at a time, by one thread ---- */

/* Nothing holds any more; the answers to questions under way will never come. */
void blacklist_load_begins(struct blacklist *b);
void blacklist_load(struct blacklist *b, struct token_id id, const struct blacklist_fact *fact);
void blacklist_load_ends(struct blacklist *b, int64_t now_us);

/* It holds until then, as long as the epochs are these; 0: not at all. */
void blacklist_hold(struct blacklist *b, int64_t until_us, int64_t confirmed_us, uint64_t epochs);

/* ---- now and then ---- */

/*
 * Forgets what is over, in one shard after the other: BLACKLIST_SHARDS calls go round. asks: questions are asked; else
 * nobody will answer those that there are, and they are forgotten, too.
 */
#define BLACKLIST_SHARDS 64
void blacklist_purge(struct blacklist *b, int64_t now_us, bool asks);

size_t blacklist_count(struct blacklist *b, int64_t now_us); /* those that are revoked now */
size_t blacklist_bytes(struct blacklist *b);		     /* of memory */

struct blacklist_stats {
	size_t n; /* revoked now */
	size_t n_doubts;
	size_t bytes;
	uint64_t loads;
	uint64_t losses; /* how often it no longer held */
	int64_t load_us; /* how long the last one took */
};
void blacklist_stats(struct blacklist *b, int64_t now_us, struct blacklist_stats *out);

/* By who loads: it has, in so long; what was there no longer counts. */
void blacklist_note_load(struct blacklist *b, int64_t us);
void blacklist_note_loss(struct blacklist *b);

#endif
