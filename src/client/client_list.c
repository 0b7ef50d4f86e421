/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A line of CLIENT LIST, with the fields and the order of the upstream's release.
 * https://redis.io/commands/client-list/
 */
#include "client/client_list.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "client/client.h"
#include "client/hub.h"
#include "net/addr.h"
#include "server.h"

static void flags_of(const struct client *c, char out[16])
{
	char *p = out;
	bool blocked = c->head && (c->head->flags & REQUEST_BLOCKING);

	if (c->monitor)
		*p++ = 'O';
	if (hub_is_subscriber(c))
		*p++ = 'P';
	if (c->tx != TX_NONE)
		*p++ = 'x';
	if (blocked || c->wait == WAIT_PAUSE)
		*p++ = 'b';
	if (c->pinned)
		*p++ = 't';
	if (c->closing)
		*p++ = 'c';
	if (c->no_evict)
		*p++ = 'e';
	if (p == out)
		*p++ = 'N';
	*p = '\0';
}

static const char *text(const char *s)
{
	return s ? s : "";
}

void client_list_line(struct client *c, struct buf *out)
{
	char peer[ADDRESS_TEXT_MAX] = "", own[ADDRESS_TEXT_MAX] = "", flags[16], cmd[64] = "NULL";
	struct client_extra none = {0}, *x = c->extra ? c->extra : &none;
	const struct pool *p = worker_main_pool(c->w);
	int release = node_software(p ? p->server : NULL).release;
	int64_t now_us = clock_now_us();
	bool asking = c->wait == WAIT_ANSWER || c->dispatching;
	struct address a;

	if (address_of_socket(c->io.fd, false, &a))
		address_format(&a, peer);
	if (address_of_socket(c->io.fd, true, &a))
		address_format(&a, own);
	flags_of(c, flags);
	if (c->last_cmd)
		snprintf(cmd, sizeof(cmd), "%s", c->last_cmd->name);
	buf_printf(out, "id=%llu addr=%s laddr=%s fd=%d name=%s age=%lld idle=%lld flags=%s db=%d ",
		   (unsigned long long)c->id, peer, own, c->io.fd, text(x->name),
		   (long long)((now_us - c->created_us) / 1000000), (long long)((now_us - c->active_us) / 1000000),
		   flags, c->db);
	buf_printf(out, "sub=%u psub=%u ssub=%u multi=%d ", x->n_subs[0], x->n_subs[1], x->n_subs[2],
		   c->tx == TX_NONE ? -1 : (int)c->n_queued);
	if (release >= 70400)
		buf_printf(out, "watch=%u ", c->watching);
	buf_printf(out, "qbuf=%zu qbuf-free=%zu argv-mem=0 multi-mem=0 ", asking ? c->call_len : buf_len(&c->in),
		   c->in.capacity - buf_len(&c->in));
	buf_printf(out, "rbs=0 rbp=0 obl=0 oll=%d omem=%zu tot-mem=%zu events=%s cmd=%s user=%s redir=%lld resp=%d",
		   c->out.bytes > 0, c->out.bytes, sizeof(*c) + c->in.capacity + c->out.bytes, c->stalled ? "" : "r",
		   cmd, x->user ? x->user : "default", c->pinned ? (long long)x->redirect : -1, c->proto);
	if (release >= 70200 || x->lib_name || x->lib_ver)
		buf_printf(out, " lib-name=%s lib-ver=%s", text(x->lib_name), text(x->lib_ver));
	buf_puts(out, "\n");
}
