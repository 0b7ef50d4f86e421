/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A configuration while it is being built. Private to this folder (and to the fuzzer, for config_load_buffer).
 *
 *     load.c   the sources in their order: defaults, file, --set, -u/-l/-v, $REDIS_URL
 *       -> set.c     one value into one field: type, range, words
 *       -> check.c   what several options, or the world outside, have to say: runs once, at the end
 */
#ifndef KEYWEIR_CONFIG_LOAD_H
#define KEYWEIR_CONFIG_LOAD_H

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
	struct setting settings[N_OPTIONS];
};

/* Both put a value into the option's field, or add what is wrong with it to the problems. */
void set_node(struct loader *l, const struct option *o, const struct toml_node *node, struct place at);

/* As it stands: ${NAME} stays. A list gets this one item. */
void set_text(struct loader *l, const struct option *o, const char *text, struct place at);

/* server.listen from several texts at one place. */
void set_texts(struct loader *l, const struct option *o, const char *const *texts, size_t n, struct place at);

/* As in the file, ${NAME} replaced. */
void set_string(struct loader *l, const struct option *o, const char *text, size_t len, struct place at);

/* password_file, url_masked, and every rule between options. */
void check_all(struct loader *l);

/* As config_load(), the text of source->file being given (NULL: no file). */
struct config *config_load_buffer(const struct config_source *source, const char *text, size_t len,
				  struct problem_list *problems) __attribute__((warn_unused_result));

#endif
