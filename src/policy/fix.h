/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a reply needs on its way back to the client: names of keys as the client knows them, values opened, and the
 * reply that the client's command has where another one was sent in its place (SETNX, STRLEN ...).
 *
 * Made with the request (rewrite.h), owned by it, applied to the whole reply once.
 */
#ifndef KEYWEIR_FIX_H
#define KEYWEIR_FIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "command/command.h"
#include "policy/namespace.h"
#include "policy/seal.h"

struct slice {
	const char *p;
	size_t len;
};

/* A key of the request. */
struct fix_key {
	struct slice client;
	struct slice upstream;
	bool sealed; /* values of it are opened */
};

struct fix {
	void *holder; /* what keeps view and ring alive: the owner's business */
	struct view view;
	const struct keyring *ring;
	uint8_t names; /* enum command_names of what the reply carries */
	uint8_t seal;  /* enum command_seal */
	uint8_t proto;
	const struct namespace *ns; /* of the first key; NULL: none */
	bool setnx;		    /* SET ... NX was sent for SETNX */
	bool filter;		    /* of the keys only those that match `pattern` */
	struct fix_key *keys;
	uint32_t n_keys;
	struct slice *fields;
	uint32_t n_fields;
	struct slice pattern;
	struct fix_list *list; /* of EXEC's reply; then nothing else counts */
	struct arena text;     /* what the slices point into */
};

/* EXEC's reply: each command's fix, and how many further elements behind it are the proxy's own. */
struct fix_list {
	uint32_t n;
	uint32_t room;
	struct fix_item {
		struct fix *fix;	    /* NULL: nothing but what an error may say */
		const struct namespace *ns; /* of its first key; NULL: none */
		uint32_t n_own;
	} * items;
};

/* Copies the keys; holder is NULL. */
struct fix *fix_new(const struct fix *of);
void fix_set_fields(struct fix *fix, const struct slice *fields, uint32_t n); /* copied */
void fix_set_pattern(struct fix *fix, const char *pattern, size_t len);	      /* copied */
void fix_free(struct fix **fix);					      /* its list too; not the holders */

/*
 * An error may name a key as it is upstream: appends its text with the client's names. False: nothing is to be done.
 */
bool fix_error(const struct view *view, const struct namespace *ns, const char *text, size_t len, struct buf *out);

/*
 * Appends what the client gets for a whole reply. Errors pass. NULL, or the text of the error that it gets instead;
 * out may have anything in it then.
 */
const char *fix_reply(const struct fix *fix, const char *reply, size_t len, struct buf *out)
	__attribute__((warn_unused_result));

#endif
