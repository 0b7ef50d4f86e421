/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sending a request again: to the node that a redirection names, to the new master, or in a moment.
 *
 *   MOVED, ASK               to that node at once; ASK with ASKING in the same write, and the map stays as it is
 *   TRYAGAIN, CLUSTERDOWN    in a moment, to whoever serves the slot then, until the command's time is over
 *   READONLY, UNBLOCKED      the server is no longer a master: likewise
 * https://redis.io/docs/reference/cluster-spec/#redirection-and-resharding
 *
 * A request that waits is parked: it keeps its place in its client's queue, and its client sends nothing else.
 */
#ifndef KEYWEIR_CLIENT_REDIRECT_H
#define KEYWEIR_CLIENT_REDIRECT_H

#include "client/client.h"

#define REDIRECTS_MAX 5

/* Whether replies of this link may redirect at all. */
static inline bool redirect_possible(const struct link *l)
{
	return l->pool->server->conf->mode != UPSTREAM_STANDALONE;
}

/*
 * r was answered with an error, line: sends it elsewhere, or parks it. False: the error is the client's.
 * The link has taken r off its queue; on true r has left the link's accounts.
 */
bool redirect_follow(struct request *r, struct link *l, const char *line, size_t len);

/* Sends r, whose bytes are given and who is on no link, to the master of its slot; or parks it. False: it can't be. */
bool redirect_send(struct request *r, struct upstream *up, const struct buf *bytes);

/* Looks after what is parked; `changed`: the map has, so all of it is tried. */
void redirect_tick(struct worker *w, bool changed);

/* Clients are gone, and so is what was parked of theirs. */
void redirect_drop_all(struct worker *w);

/* What an error of l says about where else a request belongs. */
struct redirect_to {
	struct node *node; /* a reference; NULL: to whoever serves the slot, in a moment */
	bool asking;
};

/* False: line is no redirection. The map is known to be out of date then, if it says so. */
bool redirect_read(struct link *l, const struct command *cmd, int slot, const char *line, size_t len,
		   struct redirect_to *out);

/*
 * A node that has joined lacks a script or a function (line is its error): it is loaded there, and r sent again behind
 * it. False: it is something else.
 */
bool redirect_load_missing(struct request *r, struct link *l, const char *line, size_t len);

/* ASKING, in front of a request that ASK sent here. */
void redirect_send_asking(struct link *l);

/* The map is out of date: it will be fetched soon. */
void redirect_stale(struct worker *w, struct upstream *up);

#endif
