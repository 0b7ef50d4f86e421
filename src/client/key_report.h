/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What KEYWEIR HOTKEYS and KEYWEIR BIGKEYS [COUNT n] have in common: keys that the workers have noted, gathered from
 * all of them, told by the names and within the bounds of the client that asks, those that weigh most first.
 */
#ifndef KEYWEIR_KEY_REPORT_H
#define KEYWEIR_KEY_REPORT_H

#include "client/key_names.h"
#include "server.h"

struct key_row {
	char *name; /* as the asker names it */
	size_t len;
	double weight;
	const struct command *cmd; /* rows of one name are merged when these are the same, too */
	bool request;
	int64_t seen_us;
};

struct key_report;

struct key_report_kind {
	void (*collect)(struct worker *w, struct key_report *report); /* on w's thread, one worker at a time */
	void (*merge)(struct key_row *into, const struct key_row *other);
	void (*put)(const struct key_report *report, const struct key_row *row, struct buf *b);
};

struct key_report {
	struct job job; /* first */
	struct gather gather;
	const struct key_report_kind *kind;
	pthread_mutex_t lock; /* guards what follows */
	struct shared_config *holder;
	struct key_teller teller;
	struct key_row *rows;
	size_t n;
	size_t room;
	size_t wanted;
	double all; /* of all keys, whether they are told or not; what it is says the kind */
	int64_t now_us;
};

/* Answers the call. */
enum verdict key_report_tell(struct client *c, const struct call *call, const struct key_report_kind *kind);

/* A row for the key, all but the name zero; good until the next one. NULL: it is none of the asker's business. */
struct key_row *key_report_add(struct key_report *report, const struct seen_key *key);

#endif
