/* SPDX-License-Identifier: BSD-2-Clause */
/* on_failure = "stale": see near.h. */
#include "client/namespace_stats.h"
#include "client/near.h"
#include "resp/write.h"
#include "upstream/route.h"
#include "server.h"

/* Until when the word of a node of this upstream was true; 0: not known. */
static int64_t held_until(struct upstream *up, const struct store_truth *truth, int64_t now_us)
{
	int64_t until_us = 0;

	pthread_mutex_lock(&up->lock);
	LIST_EACH (pos, next, &up->nodes) {
		struct node *n = container_of(pos, struct node, in_upstream);

		if (n->id == truth->node)
			until_us = truth_held_until(&n->truth, truth->epoch, now_us);
	}
	pthread_mutex_unlock(&up->lock);
	return until_us;
}

/* Whether it was true not too long ago. */
static bool will_do(struct client *c, const struct near_place *at, const struct store_last *last)
{
	int64_t now_us = c->w->now_us;
	int64_t until_us = held_until(at->route->up, &last->truth, now_us);

	if (last->expires_us < until_us)
		until_us = last->expires_us;
	return until_us > 0 && now_us - until_us <= at->ns->conf->stale_if_error_ms * 1000;
}

/* One key's; name as it is upstream. */
static bool last_of(struct client *c, struct store_request *q, const char *name, size_t len, bool part, struct buf *out)
{
	const struct view everybody = {client_view(c).all, NULL};
	struct name_place place = view_key(&everybody, name, len);
	struct near_place at;
	struct store_last last;
	struct store_hit hit;

	if (!place.ns || !(place.ns->flags & NS_NEAR) || place.ns->conf->on_failure != ON_FAILURE_STALE ||
	    (part && place.ns->flags & NS_SEALS))
		return false;
	near_place_of(c, place.ns, name, len, &at);
	q->db = at.db;
	if (!store_find_last(c->w->near, &at.key, q, &hit, &last))
		return false;
	if (!will_do(c, &at, &last)) {
		if (hit.pinned)
			store_unpin(c->w->near, &hit.pinned);
		return false;
	}
	if (!near_put_hit(c->w, &hit, out))
		return false;
	namespace_stats_near_stale(c->w, place.ns->id);
	return true;
}

/* MGET: all of them, or none. */
static bool last_of_many(struct client *c, uint32_t n, struct arg_cursor *cur, bool part, struct buf *out)
{
	struct store_request q = {.command = command_find(NULL, "get", 3, NULL, 0)->id, .proto = c->proto, .args = ""};
	const char *arg;
	size_t len;

	resp_array(out, n);
	while (arg_cursor_next(cur, &arg, &len))
		if (!last_of(c, &q, arg, len, part, out))
			return false;
	return true;
}

bool near_last(struct client *c, const struct command *cmd, struct slice bytes, bool part, struct buf *out)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct store_request q = {.command = cmd->id, .proto = c->proto};
	struct arg_cursor cur;
	const char *arg;
	size_t len;
	bool ok;

	if (cmd->cache == CACHE_NONE || cmd->id >= command_count() || c->tx != TX_NONE ||
	    request_frame_feed(&f, bytes.p, bytes.len) != FRAME_READY || !command_arity_ok(cmd, f.argc))
		return false;
	arg_cursor_init(&cur, bytes.p, bytes.len);
	arg_cursor_next(&cur, &arg, &len);
	if (cmd->cache == CACHE_MANY) {
		ok = last_of_many(c, f.argc - 1, &cur, part, out);
	} else {
		arg_cursor_next(&cur, &arg, &len);
		q.args = cur.p;
		q.args_len = (size_t)(bytes.p + bytes.len - cur.p);
		ok = (cmd->cache == CACHE_KEY || f.argc == 2) && last_of(c, &q, arg, len, false, out);
	}
	if (!ok)
		buf_release(out);
	return ok;
}
