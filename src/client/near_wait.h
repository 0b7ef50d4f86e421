/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that wait for another client's fetch of the same: see near.h. */
#ifndef KEYWEIR_CLIENT_NEAR_WAIT_H
#define KEYWEIR_CLIENT_NEAR_WAIT_H

#include "client/near.h"

/*
 * One who waits: in the flight's list until that lands, then handed to its worker. Its request points at it, and it at
 * the request while that is there; only its own worker looks at anything but store.
 */
struct near_waiter {
	struct store_waiter store; /* first */
	struct list node;	   /* in worker.near_waiters while its request is there */
	struct request *request;   /* NULL: it has left */
	struct upstream *up;	   /* a reference */
	struct buf bytes;	   /* the request as it is upstream, should it have to be sent after all */
};

/* The one that the worker's next look may use. */
struct store_waiter *near_waiter_spare(struct worker *w);
void near_waiter_free(struct near_waiter **waiter);

/* Those who have waited long enough are told so. */
void near_wait_tick(struct worker *w);

/* The request has left. */
void near_wait_leave(struct near_waiter *waiter);

/* The worker's spare waiter was used by the look for this call: it waits. */
enum verdict near_wait(struct client *c, struct call *call);

#endif
