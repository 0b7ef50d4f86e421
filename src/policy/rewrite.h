/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What namespaces make of a request: keys get their upstream names, writes a time to live, values are sealed, and what
 * may not be is refused. All of it hangs on the columns of the command table (names, ttl, seal) and on the namespace
 * of each key; what the reply needs then stands in a struct fix.
 *
 *      rewrite.c     the keys, and the order of the steps
 *      names.c       names that are no keys: patterns, and commands about all keys of a bound listener's namespace
 *      ttl.c         times to live in the request; what is to be sent behind it
 *      seal_args.c   which arguments are values
 *
 * Nothing here knows clients, links or sockets. One struct rewrite for each worker, used again and again; everything
 * in it is borrowed until the next rewrite_request().
 */
#ifndef KEYWEIR_REWRITE_H
#define KEYWEIR_REWRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "command/command.h"
#include "policy/fix.h"
#include "policy/namespace.h"
#include "policy/seal.h"

struct arg {
	const char *p;
	size_t len;
	const struct seal_place *seal; /* sealed as it is written out; NULL: written as it is */
};

/* A key of the request, in the order of the command's key specs. */
struct rewrite_key {
	uint32_t index; /* of its argument */
	unsigned flags; /* enum key_flag */
	struct name_place at;
	const char *client; /* as the client wrote it */
	size_t client_len;
	const char *name; /* upstream */
	size_t len;
	int64_t ttl_ms; /* it is to be given this behind the command; 0: nothing */
	int db;		/* in this database; -1: the client's */
	bool slides;	/* a read renews it, when it is time */
};

struct rewrite {
	/* Given by the caller: */
	const struct command *cmd;
	struct view view;
	const struct keyring *ring;
	uint64_t *random; /* state of a generator, for jitter */
	int64_t now_ms;	  /* of the day */
	uint8_t proto;
	bool probing; /* only whether it would be refused: nothing is sealed, there is no fix */
	/* The request as it is to be sent: */
	struct arg *args;
	uint32_t argc;
	const char *tail; /* of a large request whose end has not come: its bytes behind args, as they came */
	size_t tail_len;
	uint32_t argc_to_come; /* arguments in and behind the tail */
	bool changed;
	struct rewrite_key *keys;
	uint32_t n_keys;
	bool has_after;		       /* some key has a ttl_ms or slides */
	const struct namespace *where; /* whose upstream a command without keys goes to; NULL: no namespace's */
	struct fix *fix;	       /* what the reply needs; NULL: nothing. Whoever takes it sets it to NULL */
	const char *error;	       /* REFUSED: the text */
	bool token_has_exp;	       /* TOKEN.REVOKE: its token is a JWT that says when it ends */
	int64_t token_exp_s;
	/* Its own: */
	struct arena arena;
	uint32_t room_args, room_keys;
};

enum rewrite_status {
	REWRITE_FINE, /* `changed` says whether the bytes have to be written anew by rewrite_put() */
	REWRITE_REFUSED,
	REWRITE_MORE, /* all of the request must be here first */
};

/*
 * bytes: the whole request; or, with partial, its head: n_seen arguments of argc have begun, the last of them is not
 * complete.
 */
struct rewrite_input {
	const char *bytes;
	size_t len;
	uint32_t argc;
	uint32_t n_seen;
	bool partial;
};
enum rewrite_status rewrite_request(struct rewrite *r, const struct rewrite_input *in);

/* Appends the request. False: out of memory. */
bool rewrite_put(const struct rewrite *r, struct buf *out) __attribute__((warn_unused_result));

void rewrite_init(struct rewrite *r);
void rewrite_fini(struct rewrite *r);

/* ---- between the steps ---- */

bool rewrite_refuse(struct rewrite *r, const char *text); /* returns false */

/* Arguments: in any case; replaced; n inserted behind the last one, or before one. Text must outlive the request. */
bool rewrite_arg_is(const struct rewrite *r, uint32_t i, const char *word);
void rewrite_set(struct rewrite *r, uint32_t i, const char *p, size_t len);
void rewrite_insert(struct rewrite *r, uint32_t i, const char *p, size_t len);
const char *rewrite_number(struct rewrite *r, int64_t n, size_t *len); /* as text */

/* Behind the option at argument i; some options take one, which may be any word. Whether `word` is one from i on. */
uint32_t rewrite_next_option(const struct rewrite *r, uint32_t i);
bool rewrite_has_option(const struct rewrite *r, uint32_t i, const char *word);

/* What is in b, for as long as the request; b is released. */
struct slice rewrite_keep(struct rewrite *r, struct buf *b);

/* The fix, made when it is first needed. */
struct fix *rewrite_fix(struct rewrite *r);

/* The steps; false: refused. */
bool rewrite_names(struct rewrite *r);
bool rewrite_ttl(struct rewrite *r);
bool rewrite_seal(struct rewrite *r);

/* A number out of a generator that needs no secrets; its state is not 0. */
uint64_t ttl_random(uint64_t *state);

/* The namespace's ttl for one key, with jitter and within max_ttl. */
int64_t ttl_jittered_ms(const struct namespace_config *conf, uint64_t *random);

/*
 * Appends the command that gives a key its time to live: behind a write if it has none then, behind a read (slides) if
 * it has less. By EXPIRE's options NX and GT, which Redis has since 7.0, or by a script.
 */
void ttl_put_after(struct buf *out, const struct rewrite_key *key, bool has_options);

#endif
