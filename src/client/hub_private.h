/* SPDX-License-Identifier: BSD-2-Clause */
/* What hub.c and subscribe.c share. */
#ifndef KEYWEIR_HUB_PRIVATE_H
#define KEYWEIR_HUB_PRIVATE_H

#include <string.h>

#include "base/map.h"
#include "client/hub.h"

/* What a client calls a channel, where that is not its name upstream. */
struct alias {
	size_t len;
	char text[];
};

/* A channel, pattern or shard channel, by its name upstream, that somebody listens to, or whose end Redis has not
 * confirmed yet. */
struct channel {
	enum hub_kind kind;
	bool wanted;	     /* subscribed upstream, or on the way to it */
	bool counted;	     /* Redis has confirmed: it counts our hub */
	unsigned expected;   /* confirmations on the way */
	uint64_t asked;	     /* while some are expected: when the first was asked for, in hub.n_asked */
	unsigned n_waiting;  /* commands that wait for one, and subscriptions on their way here */
	int slot;	     /* of a shard channel in a Cluster; else -1 */
	struct hub_link *on; /* where it is subscribed; NULL: nowhere now */
	struct list subs;    /* struct sub.in_channel */
	struct list coming;  /* struct sub.in_coming */
	unsigned n_subs;
	unsigned n_aliases; /* of them, those with an alias */
	size_t name_len;
	char name[];
};

/*
 * A client may listen to a channel under several names: each is a subscription. When a reload leads its name to another
 * channel it stays where it is until Redis has confirmed that one.
 */
struct sub {
	struct list in_channel;
	struct list in_client;
	struct client *client;
	struct channel *channel;
	struct alias *alias; /* owned; NULL: the channel's own name */
	struct list in_coming;
	struct channel *to;	/* where its name leads now; NULL: here */
	struct alias *to_alias; /* owned; what alias is to be there */
};

/* A connection that channels are subscribed on. */
struct hub_link {
	struct list node; /* in hub.links */
	struct hub *hub;
	struct link *link;
	int64_t asked_us;   /* when it was sent a PING last */
	struct buf message; /* one that came in pieces */
};

struct hub {
	struct worker *w;
	struct list links;
	struct hub_link *main; /* for everything but shard channels of a Cluster; NULL: none, or lost */
	struct map channels[HUB_KINDS];
	struct shared_config *holder; /* a reference: whose namespaces say which channels names lead to */
	struct shared_config *before; /* while some move: the one they come from; or NULL */
	size_t n_moving;	      /* subscriptions on their way to another channel */
	struct list waiting;	      /* struct hub_wait: commands that Redis has not confirmed yet */
	uint64_t generation;	      /* of the routes by which channels were placed */
	uint64_t n_asked;	      /* verbs sent */
	size_t n_aliases;	      /* of all subscriptions */
	bool unplaced;		      /* some are wanted and nowhere subscribed */
	int64_t place_us;	      /* when they were tried last */
	int64_t swept_us;	      /* when the links were looked at last */
};

struct wanted {
	struct channel *channel;
	struct alias *alias; /* owned */
};

/* A (UN)SUBSCRIBE under way. */
struct hub_wait {
	struct list node;
	struct request *request;
	enum hub_kind kind;
	bool subscribe;
	size_t n;
	struct wanted items[];
};

struct channel *hub_channel(struct hub *hub, enum hub_kind kind, const char *name, size_t len, bool make);
bool hub_want(struct hub *hub, struct channel *ch); /* false: the server is down */

/* When nobody listens any more: unsubscribes, and forgets it once Redis has said so. True: Redis is being told. */
bool hub_unwant(struct hub *hub, struct channel *ch);

void hub_maybe_forget(struct hub *hub, struct channel *ch);
void hub_add_sub(struct hub *hub, struct client *c, struct channel *ch, struct alias *alias); /* takes alias over */
bool hub_remove_sub(struct hub *hub, struct sub *sub);
struct sub *hub_find_sub(const struct client *c, const struct channel *ch, const struct alias *alias);

static inline bool alias_is_same(const struct alias *a, const struct alias *b)
{
	return a == b || (a && b && a->len == b->len && memcmp(a->text, b->text, a->len) == 0);
}

/* subscribe.c: something was confirmed; the link was lost; a client left. */
void hub_settled(struct hub *hub);
void hub_fail_waiting(struct hub *hub, const struct hub_link *lost);
void hub_forget_waiting(struct hub *hub, struct client *c);

/*
 * subscribe.c: names may lead elsewhere now; who listens to ch by such a one moves over, as soon as Redis has confirmed
 * the other channel. That has come: ch has been confirmed (or refused). And at once, whatever Redis says.
 */
void hub_rename_channel(struct hub *hub, struct channel *ch);
void hub_arrived(struct hub *hub, struct channel *ch);
void hub_end_moves(struct hub *hub, struct channel *from);

/* subscribe.c: it moves no longer: what held its new channel is gone. */
void hub_stop_moving(struct hub *hub, struct sub *sub);

/* subscribe.c: Redis refuses a channel with this error line. */
void hub_refused(struct hub *hub, struct channel *ch, const char *text);

/*
 * hub_message.c: hands a message of ch on, as a frame in RESP2. Each way in which clients see it is put together once
 * and shared by those who see it so.
 */
void hub_distribute(struct hub *hub, struct channel *ch, const char *frame, size_t len);

/* A message frame, whose first byte is '*' or '>' by the client's protocol. */
void client_push_message(struct client *c, struct rcbuf *rb);

#endif
