/* SPDX-License-Identifier: BSD-2-Clause */
/* What tracker.c (the truth) and tracker_steps.c (how it comes to track) share. */
#ifndef KEYWEIR_TRACKER_PRIVATE_H
#define KEYWEIR_TRACKER_PRIVATE_H

#include "upstream/node_look.h"
#include "upstream/tracker.h"
#include "upstream/tracking_wire.h"

#define TRACKER_NAME	"keyweir-tracking" /* in CLIENT LIST */
#define TRACKER_STEP_US 1000000		   /* for an answer on the way to tracking */

struct tracker {
	struct event_base *base;
	struct node *node; /* a reference */
	const struct tracker_events *events;
	void *ctx;
	struct string_list prefixes;
	bool untracked;
	struct event *timer;
	struct wire a, b;	 /* b: with RESP2, whose tracking is redirected to a */
	bool resp2;		 /* HELLO was refused on this connection */
	char client_id[24];	 /* of a, for REDIRECT */
	enum tracking_mode mode; /* LOST: not there, or on the way to it */
	bool silent;		 /* told as LOST where it is tracked */
	bool well;		 /* the last look found what it must */
	bool looked;		 /* there was one on this connection, and this is what it found: */
	struct cluster_look look, fresh;
	bool info_passing;  /* CLUSTER INFO was refused for now: nothing can be said of the look */
	bool no_role;	    /* standalone: ROLE was refused on this connection */
	bool has_role;	    /* it was answered there */
	bool was_master;    /* by the last answer, on any connection */
	int64_t demoted_us; /* when a master was first seen as a replica; 0: it is none */
	bool counts_swaps;  /* it tells whether SWAPDB was called, and said this: */
	bool saw_swaps;
	uint64_t swaps;
	int64_t beat_us;   /* the last beat */
	int64_t looked_us; /* when a look was asked for */
	int64_t asked_us;  /* the last PING or look */
	int64_t tried_us;  /* NONE: when tracking was last tried */
	int64_t works_us;  /* since when the link stands */
	int64_t backoff_ms;
	enum tracking_mode told; /* in the log; OFF: nothing yet */
	int64_t told_us;	 /* when a loss was; 0: none yet */
	bool complained;	 /* that it does not say how it is */
	char lost_why[160];	 /* not told yet; "": nothing to tell */
};

/* The answer to a question. */
struct answer {
	const char *p; /* as it came */
	size_t len;
	char why[128]; /* an error's text; "": it is none */
};

/* Fills in `why` by what came. */
void answer_read_error(struct answer *a);

/* An error that will be over, or is about the login: no word on what the server can. */
bool answer_is_passing(const struct answer *a);

/* ---- tracker_steps.c ---- */

/* A connection stands. */
void tracker_begin(struct tracker *t, struct wire *w);

/* What was refused before: perhaps by now. */
void tracker_try_again(struct tracker *t);

/* True: it was the answer to a step. */
bool tracker_step_answered(struct tracker *t, struct wire *w, enum question q, const struct answer *a);

/* ---- tracker.c: how the steps end ---- */

void tracker_set_timer(struct tracker *t, int64_t us);
void tracker_open_second(struct tracker *t);

void tracker_works(struct tracker *t, enum tracking_mode mode);
void tracker_cannot(struct tracker *t, const char *why); /* the server can't, or we may not */
void tracker_failed(struct tracker *t, const char *why); /* not now */

#endif
