/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests whose time is over. The place in the link's queue stays taken by an orphan, so that the late reply is
 * dropped and not given to the next; the client's queue gets a stand-in with the error.
 */
#include "client/absent.h"
#include "client/client.h"
#include "client/fanout.h"
#include "client/near.h"
#include "client/redirect.h"

/* r stays in its link's queue, an orphan; leaving may be the end of the link, and so of r. */
static void part_timed_out(struct client *c, struct request *r, struct link *l)
{
	struct request part;
	bool made;

	near_failed(c->w, r, reply_error_text(ERROR_TIMED_OUT));
	part = *r;
	made = absent_stand_in(&part, &l->out);

	if (!made)
		buf_release(&part.reply);
	r->client = NULL;
	r->on_reply = NULL;
	r->fix = NULL;
	r->reply = (struct buf){0};
	client_leave_link(c, &part);
	if (made)
		fanout_part_made(&part);
	else
		fanout_part_failed(&part, reply_error_text(ERROR_TIMED_OUT));
}

void client_on_timed_out(struct request *r)
{
	struct client *c = r->client;
	struct link *l = r->link;
	struct request *stand_in;
	bool made;

	/*
	 * The request's place in the link's queue stays taken by an orphan, so that the late reply is dropped; the
	 * client's queue gets a stand-in with the error.
	 */
	redirect_stale(c->w, l->pool->server->up);
	/* The time it stood in our own queue is not Redis's fault; that in which no connection came about is. */
	if (l->state != LINK_READY || r->pos + r->len <= outq_written_pos(&l->out))
		node_failed(l->pool->server, c->w->now_us);
	if (l->kind == LINK_DEDICATED)
		l->tainted = true;
	if (r->flags & REQUEST_PART) {
		part_timed_out(c, r, l);
		return;
	}
	if ((r->flags & REQUEST_BEGUN) && !(r->flags & (REQUEST_COLLECT | REQUEST_CUT))) {
		client_close(c);
		return;
	}
	stand_in = request_new(&c->w->requests);
	*stand_in = *r;
	stand_in->next_in_link = NULL;
	stand_in->reply = (struct buf){0};
	if (c->head == r) {
		c->head = stand_in;
	} else {
		struct request *before = c->head;

		while (before->next != r)
			before = before->next;
		before->next = stand_in;
	}
	if (c->tail == r)
		c->tail = stand_in;
	if (c->upload == r)
		c->upload = stand_in;
	r->client = NULL;
	r->next = NULL;
	r->on_reply = NULL;
	r->fix = NULL; /* the stand-in's now */
	r->near = NULL;
	buf_release(&r->reply);
	made = absent_stand_in(stand_in, &l->out);
	client_leave_link(c, stand_in);
	if (made)
		client_answered_absent(stand_in);
	else
		client_fail_request(stand_in, reply_error_text(ERROR_TIMED_OUT));
}
