/* SPDX-License-Identifier: BSD-2-Clause */
/* CLIENT TRACKING of clients themselves, and the feeds of those that others redirect to. Private to client/. */
#ifndef KEYWEIR_TRACKING_H
#define KEYWEIR_TRACKING_H

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct call;
struct client;
struct link;
struct view;

/* The client leaves: nothing is redirected to it any more. */
void tracking_drop_feed(struct client *c);

/* What came over a feed, or over a client's own link, whole. */
void tracking_feed_push(struct link *feed, const char *data, size_t len);
void tracking_push(struct client *c, const char *data, size_t len);

/*
 * The client's view is another one than before. Where that changes what its names of keys are upstream, Redis no longer
 * tells what the client must hear: all that it has is invalid, and it is closed when it tracks, as with a lost link.
 */
void tracking_take_view(struct client *c, const struct view *before);

/* ---- names (tracking_names.c) ---- */

/* Appends CLIENT TRACKING ON with upstream's prefixes, and redirected to this id of Redis's when one is given. */
void tracking_put_request(const struct call *call, const struct view *v, const char *redirect, struct buf *out);

/*
 * A push as the client may see it: an invalidation speaks of keys by the client's names, all of them where there are
 * several. What stands for that is put into room. False: it says nothing to the client. A key whose name is hashed has
 * no way back: then all that the client has of any keys is invalid.
 */
bool tracking_see(const struct client *c, const char **data, size_t *len, struct buf *room);

/* In the reply to CLIENT TRACKINGINFO. */
void tracking_see_prefixes(const struct client *c, struct buf *reply);

/* In Redis's error about prefixes that overlap. */
void tracking_see_error(const struct client *c, struct buf *reply);

/* Whether some name of a key means another one upstream. */
bool tracking_names_differ(const struct view *a, const struct view *b);

#endif
