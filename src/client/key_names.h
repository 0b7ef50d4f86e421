/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of keys that were seen passing, for whoever looks at them later (KEYWEIR HOTKEYS, BIGKEYS): they are noted as
 * the client that used them names them, and told as the client that asks does. Who is on a bound listener hears of its
 * namespace alone.
 */
#ifndef KEYWEIR_KEY_NAMES_H
#define KEYWEIR_KEY_NAMES_H

#include "client/client.h"

/* What a name means hangs on whose it is: */
#define KEY_OWNER_PLAIN 0 /* an ordinary client's; else a number for the namespace that its client is bound to */

/* Stays the same when the configuration changes, as long as the namespace is called the same. */
uint32_t key_owner(const struct client *c);

/* Who asks. Borrows the view. */
struct key_teller {
	struct view view;
	uint32_t last_owner; /* and which namespace that is; zero at first */
	const struct namespace *last;
};

struct seen_key {
	uint32_t owner;
	bool upstream; /* the name upstream, where the client's own is not known (hash_keys) */
	const char *p; /* the beginning of the key */
	size_t kept;   /* bytes of it at p */
	size_t len;    /* of all of it */
};

/* Appends the name, with a word for what was not kept. False: it is none of the asker's business. */
bool key_told(struct key_teller *teller, const struct seen_key *key, struct buf *out);

#endif
