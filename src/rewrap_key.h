/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One key of a namespace written again as it is, so that a Keyweir between seals it with its first key (see rewrap.h).
 *
 * A value is read, and written back in a transaction that a WATCH before the reading guards: when anybody else wrote
 * in between nothing is done, and it is tried again. Hashes and lists go in slices, each a transaction of its own.
 */
#ifndef KEYWEIR_REWRAP_KEY_H
#define KEYWEIR_REWRAP_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redisContext;

/* A connection to the daemon. */
struct rewrap_link {
	struct redisContext *c;
	bool no_field_ttls; /* the server has none: it was asked */
};

enum rewrap_result {
	REWRAP_DONE,
	REWRAP_NOTHING, /* of a type whose values are not sealed, or gone meanwhile */
	REWRAP_LEFT,	/* what is in it can't be written again: a stream */
	REWRAP_FAILED,	/* why says it, without any value */
	REWRAP_LOST,	/* the connection; why says it */
};

/* type: what TYPE said of the key. Blocks. */
enum rewrap_result rewrap_key(struct rewrap_link *l, const char *type, const char *key, size_t len, char *why,
			      size_t why_size);

/* Whether it may be otherwise in a moment. */
bool rewrap_error_passes(const char *error);

/* How often and how long something was tried; zeroed at first and after a success. */
struct rewrap_patience {
	unsigned n_conflicts;
	unsigned n_errors;
	int64_t first_error_us;
};

/* These wait a moment, longer each time. False: that was enough. */
bool rewrap_after_conflict(struct rewrap_patience *p);
bool rewrap_after_error(struct rewrap_patience *p);

#endif
