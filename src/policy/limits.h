/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules of [[rate_limit]], made ready: which rules want which command, as a set of bits for each, so that a command
 * that none wants costs one look.
 *
 * Built with the configuration that it points into. Immutable, once it is in force, but for what is owed and what is
 * said in the log. Any thread.
 */
#ifndef KEYWEIR_LIMITS_H
#define KEYWEIR_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "command/choice.h"
#include "config/config.h"
#include "policy/buckets.h"
#include "policy/gcra.h"

struct limit_rule {
	const struct rate_limit_config *conf;
	unsigned id; /* index in config.limits */
	struct gcra gcra;
	int64_t max_wait_ns; /* 0: reject */
	int64_t unit_ns;     /* shared: what is leased is a multiple of it */
	bool by_key;	     /* which keys a command has says whether it is concerned, or for whom */
	char *identity;	     /* what its state is kept under: another rate, another state */
	struct buckets *buckets;
	struct command_choice *choices;
	size_t n_choices;
	struct log_limit log;
	_Atomic uint64_t unsaid; /* refusals since the last line in the log */
};

struct limits {
	struct limit_rule *rules;
	size_t n;
	bool any_on_commands;
	bool any_on_connections;
	unsigned n_commands;
	uint64_t *wants; /* by id of a built-in command: bits of rules */
};

/* NULL: there are no rules. */
struct limits *limits_new(const struct config *config);
void limits_free(struct limits **l);

/* It is to be in force: what is owed to rules that old (NULL: none) has as well goes on. Either may be NULL. */
void limits_adopt(struct limits *l, const struct limits *old);

/* The rules that want a command that was learnt. */
uint64_t limits_of_learnt(const struct limits *l, const struct command *cmd);

static inline uint64_t limits_of(const struct limits *l, const struct command *cmd)
{
	return cmd->id < l->n_commands ? l->wants[cmd->id] : limits_of_learnt(l, cmd);
}

/* Whether the key is one that the rule is about. */
bool limit_matches(const struct limit_rule *rule, const char *key, size_t len);

#endif
