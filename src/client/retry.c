/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What becomes of requests whose link broke: sent again, or an error. A pure rule, applied client by client:
 *
 * A request may be sent again when none of its bytes were written, or when it only reads. Nothing of a transaction is
 * ever sent again, nor what is not kept whole, nor what the client has seen part of. And since effects happen in the
 * client's order, either all of a client's requests on the link are sent again, or none.
 */
#include <stdio.h>
#include <string.h>

#include "client/mirror.h"
#include "client/absent.h"
#include "client/near.h"
#include "client/redirect.h"
#include "server.h"

static bool may_retry(const struct link *l, const struct request *r)
{
	bool unwritten = r->pos >= outq_written_pos(&l->out);
	bool only_reads = r->cmd && (r->cmd->flags & CMD_READONLY) && !(r->flags & REQUEST_WRITE);

	if (r->flags & (REQUEST_IN_TX | REQUEST_STREAMED | REQUEST_BEGUN))
		return false;
	if (l->kind != LINK_SHARED)
		return false;
	/* Also what never left is not tried for ever: a server may take connections and refuse each login. */
	return (unwritten || only_reads) && r->retries < (uint32_t)l->pool->server->conf->max_retries;
}

/* Sends r, which has left its link, again. False: it can't be. */
static bool send_again(struct link *old, struct request *r)
{
	struct buf bytes = {0};
	bool ok = outq_peek(&old->out, r->pos, (size_t)r->len, &bytes);

	r->link = NULL;
	if (ok) {
		near_strip(r, &bytes);
		r->retries++;
		ok = redirect_send(r, old->pool->server->up, &bytes);
	}
	if (ok)
		counter_add(&old->w->counters.retries, 1);
	buf_release(&bytes);
	return ok;
}

static void give_up(struct link *l, struct request *r)
{
	struct client *c = r->client;
	bool unwritten = r->pos >= outq_written_pos(&l->out);
	const char *text = reply_error_text(ERROR_UPSTREAM_LOST);
	char refused[256];

	if (unwritten && l->proto == 3 && atomic_load(&l->pool->server->no_resp3)) {
		text = reply_error_text(ERROR_NO_RESP3);
	} else if (unwritten && l->pool->down) {
		text = l->pool->why;
	} else if (unwritten && (strncmp(l->why, "BUSY", 4) == 0 || strncmp(l->why, "LOADING", 7) == 0)) {
		text = l->why; /* what Redis said when the link logged in, it says to the command as well */
	} else if (unwritten) {
		snprintf(refused, sizeof(refused), "%s: %s", reply_error_text(ERROR_UPSTREAM_DOWN), l->why);
		text = refused;
	}
	r->link = NULL;
	c->n_upstream--;
	c->bytes_upstream -= r->len;
	if (c->wait == WAIT_DRAIN || c->wait == WAIT_ROOM)
		client_resume_soon(c);
	if (absent_stand_in(r, &l->out))
		client_answered_absent(r);
	else
		client_fail_request(r, text);
}

void client_queue_lost(struct link *l, struct request *head)
{
	struct request *r, *next;

	for (r = head; r; r = r->next_in_link)
		if (r->client)
			r->client->retry_ok = true;
	for (r = head; r; r = r->next_in_link) {
		if (!r->client)
			continue;
		if (!may_retry(l, r))
			r->client->retry_ok = false;
		/* r->link stays until r's turn comes: should its client go first, r is left to us. */
		client_lane_forget(r->client, l->pool);
	}
	redirect_stale(l->w, l->pool->server->up);
	for (r = head; r; r = next) {
		next = r->next_in_link;
		r->next_in_link = NULL;
		if (!r->client) {
			mirror_lost(r, l);
			request_free(&l->w->requests, &r);
			continue;
		}
		if (r->client->retry_ok && send_again(l, r))
			continue;
		mirror_lost(r, l);
		r->client->retry_ok = false;
		give_up(l, r);
	}
}

void client_link_lost(struct client *c)
{
	c->bound = NULL;
	if (c->pinned || c->acl_user) {
		/* What it tracked, or who it was, is unknown from now on: it must notice, as it would with Redis
		 * itself. */
		client_close(c);
		return;
	}
	if (c->tx != TX_NONE)
		c->tx = TX_LOST;
	if (c->watching) {
		c->watching = 0;
		c->watch_lost = true;
	}
	if (c->upload)
		client_upload_lost(c);
}
