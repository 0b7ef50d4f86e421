/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A configuration while it is being built. Private to this folder (and to the fuzzer, for config_load_buffer).
 *
 *     load.c        the sources in their order: defaults, file, --set, -u/-l/-v, $REDIS_URL
 *       -> file.c     the tables of the file; cache.c, its table [cache]
 *       -> instance.c the upstreams, namespaces and listeners there are
 *       -> set.c      one value into one field: type, range, words
 *       -> check.c    what several options, or the world outside, have to say: runs once, at the end
 *          check_upstream.c, check_namespace.c, check_near_cache.c, check_encryption.c,
 *          check_limit.c, check_tokens.c
 */
#ifndef KEYWEIR_CONFIG_LOAD_H
#define KEYWEIR_CONFIG_LOAD_H

#include <sys/types.h>

#include "config/problem.h"
#include "config/schema.h"
#include "config/toml.h"

/* What is known of one option besides its value. */
struct setting {
	struct place at;     /* where its value comes from; file is NULL for the default */
	struct place *items; /* of a list, one for each item */
	bool bad;	     /* a mistake was found: the rules of check.c that need it have nothing to say */
};

struct loader {
	struct config *config;
	struct problem_list *problems;
	/* Of each instance a row of N_OPTIONS; those of options of other scopes are not used. */
	struct setting **settings[N_SCOPES];
	struct place use_tls; /* [cache] use_tls = true; file is NULL when it is not there */
	char *cache_file;     /* the file that [cache] from names: places point to it; NULL: none */
};

/* ---- instance.c ---- */

/* The defaults of the only instance of SCOPE_ONE and of upstream main; loader_fini() leaves the configuration. */
void loader_init(struct loader *l);
void loader_fini(struct loader *l);

size_t instance_count(const struct config *config, enum option_scope scope);
const char *instance_name(const struct config *config, enum option_scope scope, size_t i); /* NULL in SCOPE_ONE */

/* Returns false when there is none of this name. */
bool instance_find(const struct config *config, enum option_scope scope, const char *name, size_t *i);

/* One of this name, made with the defaults when there was none. Numbers of others change. */
size_t instance_need(struct loader *l, enum option_scope scope, const char *name, size_t len);

/* One more; its options are said to stand where it begins. */
size_t instance_append(struct loader *l, enum option_scope list, struct place at);
void instance_drop_all(struct loader *l, enum option_scope list);

struct slot slot_of(enum option_id id, size_t i);
struct setting *setting_of(const struct loader *l, struct slot s);

/* ---- set.c ---- */

/*
 * Says what is wrong with an option: "PATH FMT", or "PATHFMT" when FMT begins with a colon. What it is called is what
 * it was called at the place.
 */
void complain(struct loader *l, struct slot s, struct place at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Both put a value into the option's field, or add what is wrong with it to the problems. */
void set_node(struct loader *l, struct slot s, const struct toml_node *node, struct place at);

/* As it stands: ${NAME} stays. A list gets this one item. */
void set_text(struct loader *l, struct slot s, const char *text, struct place at);

/* server.listen from several texts at one place. */
void set_texts(struct loader *l, struct slot s, const char *const *texts, size_t n, struct place at);

/* As in the file, ${NAME} replaced. */
void set_string(struct loader *l, struct slot s, const char *text, size_t len, struct place at);

/* "a string", "a number": what a value is, for messages. */
const char *node_kind(const struct toml_node *node);

/* ---- file.c ---- */

#define FILE_MAX_BYTES (1 << 20) /* far more than a configuration needs; what is larger is something else */

/* Returns the bytes read into text (of FILE_MAX_BYTES + 1), or -errno. */
ssize_t file_read(const char *name, char *text);

void file_load(struct loader *l, const char *file, const char *text, size_t len);

struct place place_in(const char *file, struct toml_position at);

/* A list of tables, [[server.listener]], in place of those there are. `at`: as it is, when it has no line. */
void list_load(struct loader *l, enum option_scope scope, const struct toml_node *list, struct place at);

/* ---- cache.c ---- */

/* The table [cache] of R Commerce. */
void cache_load(struct loader *l, const char *file, const struct toml_node *table);

/* ---- check.c and check_*.c ---- */

/* password_file and its like, url_masked, upstream_index, and every rule between options. */
void check_all(struct loader *l);
void check_upstream(struct loader *l, size_t i);
void check_namespaces(struct loader *l);
void check_near_cache(struct loader *l);
void check_encryption(struct loader *l);
void check_limits(struct loader *l);
void check_tokens(struct loader *l); /* before check_namespaces(): it makes one */

/* The first line of the file that the option names, if it names one, takes the place of *secret. */
void check_secret_file(struct loader *l, struct slot s, const char *path, char **secret);

/* The file of secrets that the option names: a warning when more than its owner can read it. */
void check_private(struct loader *l, struct slot s, const char *path);

/* Of two options that go together the one that is not empty needs the other. */
void check_pair(struct loader *l, struct slot a, struct slot b);
void check_not_above(struct loader *l, struct slot a, struct slot b);

/* Neither was wrong already. */
bool settings_fine(const struct loader *l, struct slot a, struct slot b);

/* ---- load.c ---- */

/* Reads "value" as the right-hand side of a TOML line. NULL: it is none, or it is more than one. */
struct toml_doc *value_parse(const char *value, const struct toml_node **node);

/* As config_load(), the text of source->file being given (NULL: no file). */
struct config *config_load_buffer(const struct config_source *source, const char *text, size_t len,
				  struct problem_list *problems) __attribute__((warn_unused_result));

#endif
