/* SPDX-License-Identifier: BSD-2-Clause */
/* Which upstream, slot and node a command's keys mean: see target.h. */
#include "client/target.h"

#include "client/near_call.h"

#include "policy/rewrite.h"

#include <string.h>

#define PARTIAL_MAX ((size_t)64 << 20) /* a command whose keys may stand anywhere is gathered up to this size */

struct route *target_home(const struct client *c)
{
	const struct namespace *bound = client_view(c).bound;

	return &c->w->routes[bound ? bound->conf->upstream_index : 0];
}

struct route *target_main(const struct client *c)
{
	return c->forced_route > 0 ? &c->w->routes[c->forced_route - 1] : target_home(c);
}

const struct namespace_config *target_namespace(const struct worker *w, const char *key, size_t len)
{
	const struct config *config = w->snapshot->config;
	const struct namespace_config *best = NULL;
	size_t best_len = 0;

	for (size_t i = 0; i < config->n_namespaces; i++) {
		const struct namespace_config *ns = &config->namespaces[i];

		if (!best && strcmp(ns->name, "default") == 0)
			best = ns;
		for (size_t j = 0; j < ns->match.n; j++) {
			size_t n = strlen(ns->match.items[j]);

			if (n <= len && n > best_len && memcmp(ns->match.items[j], key, n) == 0) {
				best_len = n;
				best = ns;
			}
		}
	}
	return best;
}

/* What a replica does not have yet would be wrong: what is kept in memory, and a token that was just revoked. */
static bool wants_master(const struct call *call, uint32_t i)
{
	const struct namespace *ns = call->rw && i < call->rw->n_keys ? call->rw->keys[i].at.ns : NULL;

	return (call->rw && call->rw->has_after) || (call->near && call->near->fetch) || (ns && ns->flags & NS_TOKENS);
}

struct target target_of_key(const struct client *c, const struct call *call, uint32_t i, const char *key, size_t len)
{
	struct target t = {.route = target_main(c), .slot = -1, .keyed = true, .master = wants_master(call, i)};
	const struct namespace_config *ns = NULL;

	if (call->rw && c->forced_route == 0) /* its name upstream says nothing any more */
		ns = i < call->rw->n_keys && call->rw->keys[i].at.ns ? call->rw->keys[i].at.ns->conf : NULL;
	else if (!call->rw && c->w->n_routes > 1 && c->forced_route == 0)
		ns = target_namespace(c->w, key, len);
	if (ns)
		t.route = &c->w->routes[ns->upstream_index];
	if (t.route->topo->slots)
		t.slot = (int)hash_slot(key, len);
	return t;
}

/* ---- all keys of a command ---- */

/* Arguments in rising order cost one pass. */
struct reader {
	const struct call *call;
	struct arg_cursor cur;
	uint32_t next; /* index of the cursor's next argument */
};

static const char *read_arg(void *ctx, uint32_t index, size_t *len)
{
	struct reader *rd = ctx;
	const char *arg;

	if (index < FRAME_ARGS)
		return call_arg(rd->call, index, len);
	if (index < rd->next || rd->next == 0) {
		arg_cursor_init(&rd->cur, rd->call->bytes, rd->call->len);
		rd->next = 0;
	}
	while (arg_cursor_next(&rd->cur, &arg, len))
		if (rd->next++ == index)
			return arg;
	rd->next = 0;
	return NULL;
}

struct key_reader {
	struct reader positions;
	struct reader keys;
	target_key_fn on_key;
	void *ctx;
	uint32_t n;
};

static void take_position(void *ctx, uint32_t index, unsigned flags)
{
	struct key_reader *kr = ctx;
	const char *key;
	size_t len;

	(void)flags;
	key = read_arg(&kr->keys, index, &len);
	if (key)
		kr->on_key(kr->ctx, kr->n, key, len);
	kr->n++;
}

static const char *read_position(void *ctx, uint32_t index, size_t *len)
{
	return read_arg(&((struct key_reader *)ctx)->positions, index, len);
}

void target_each_key(const struct call *call, target_key_fn on_key, void *ctx)
{
	struct key_reader kr = {{.call = call}, {.call = call}, on_key, ctx, 0};

	if (call->rw) {
		for (uint32_t i = 0; i < call->rw->n_keys; i++)
			on_key(ctx, i, call->rw->keys[i].name, call->rw->keys[i].len);
		return;
	}
	command_keys(call->cmd, call->frame->argc, read_position, take_position, &kr);
}

struct collected {
	const struct client *c;
	const struct call *call;
	struct target t;
	bool any;
	enum target_status status;
};

static void take_key(void *ctx, uint32_t i, const char *key, size_t len)
{
	struct collected *all = ctx;
	struct target t = target_of_key(all->c, all->call, i, key, len);

	if (!all->any)
		all->t = t;
	else if (t.route != all->t.route)
		all->status = TARGET_CROSSUPSTREAM;
	else if (t.slot != all->t.slot && all->status == TARGET_OK)
		all->status = TARGET_CROSSSLOT;
	all->t.master = all->t.master || t.master;
	all->any = true;
}

static enum target_status of_all_keys(struct client *c, const struct call *call, struct target *t)
{
	struct collected all = {.c = c, .call = call, .t = *t};

	if (call->partial && !call->rw)
		return call->len > PARTIAL_MAX ? TARGET_TOO_BIG : TARGET_MORE;
	/* Positions that can't be determined: Redis says what is wrong with the command. */
	target_each_key(call, take_key, &all);
	*t = all.t;
	return all.status;
}

enum target_status target_of_call(struct client *c, const struct call *call, struct target *t)
{
	const struct command *cmd = call->cmd;
	const struct key_spec *spec = cmd->specs;
	const char *key;
	size_t len;

	*t = (struct target){.route = target_main(c), .slot = -1};
	if (cmd->n_specs == 0)
		return TARGET_OK;
	/* One key at a fixed place, or one shard channel: nearly every command. */
	if (call->rw && call->rw->n_keys > 0)
		return of_all_keys(c, call, t);
	if (!command_has_one_place(cmd))
		return of_all_keys(c, call, t);
	key = call_arg(call, (uint32_t)spec->begin_index, &len);
	if (!key)
		return call->partial ? TARGET_TOO_BIG : TARGET_OK;
	if (spec->flags & KEY_NOT_KEY)
		t->slot = t->route->topo->slots ? (int)hash_slot(key, len) : -1;
	else
		*t = target_of_key(c, call, 0, key, len);
	return TARGET_OK;
}

bool target_key_row(const struct command *cmd, uint32_t *first, uint32_t *step)
{
	const struct key_spec *spec = cmd->specs;

	if (cmd->n_specs != 1 || spec->begin != KEY_BEGIN_INDEX || spec->find != KEY_FIND_RANGE ||
	    spec->last_key != -1 || spec->limit > 1 || spec->flags & KEY_NOT_KEY)
		return false;
	*first = (uint32_t)spec->begin_index;
	*step = spec->key_step > 0 ? (uint32_t)spec->key_step : 1;
	return true;
}

/* ---- the node ---- */

/* Whether a command may be answered by a replica at all: a read of keys that leaves nothing behind. */
static bool may_read_replica(const struct client *c, const struct command *cmd, const struct target *t)
{
	int64_t own_writes_us = t->route->up->conf->read_your_writes_ms * 1000;

	if (!t->keyed || t->master || !(cmd->flags & CMD_READONLY) || cmd->flags & CMD_MAY_REPLICATE ||
	    cmd->handler != HANDLER_FORWARD || c->bound)
		return false;
	return c->wrote_us == 0 || c->w->now_us - c->wrote_us >= own_writes_us;
}

static bool usable(const struct pool *p)
{
	return !pool_is_down(p) && atomic_load_explicit(&p->server->readable, memory_order_relaxed);
}

/* A client stays with its replica, so that what it reads does not jump back in time. NULL: none can be used. */
static struct pool *any_replica(struct client *c, struct route *route, unsigned shard)
{
	unsigned n = route->topo->shards[shard].n_replicas;

	for (unsigned i = 0; i < n; i++) {
		struct pool *p = route_replica(route, c->w, shard, (unsigned)((c->id + i) % n));

		if (usable(p))
			return p;
	}
	return NULL;
}

static struct pool *nearest(struct client *c, struct route *route, unsigned shard)
{
	int replica = atomic_load_explicit(&route->topo->shards[shard].nearest, memory_order_relaxed);
	struct pool *p = replica >= 0 ? route_replica(route, c->w, shard, (unsigned)replica) : NULL;

	return p && usable(p) ? p : NULL;
}

struct pool *target_pool(struct client *c, const struct command *cmd, const struct target *t)
{
	enum read_from from = t->route->up->conf->read_from;
	unsigned shard = t->slot >= 0 ? t->route->topo->slots[t->slot] : 0;
	struct pool *p = NULL;

	if (from == READ_FROM_MASTER)
		return route_master(t->route, t->slot);
	if (shard >= t->route->topo->n_shards || !may_read_replica(c, cmd, t))
		return route_master(t->route, t->slot);
	if (from == READ_FROM_NEAREST)
		p = nearest(c, t->route, shard);
	else
		p = any_replica(c, t->route, shard);
	return p || from == READ_FROM_REPLICA ? p : route_master(t->route, t->slot);
}

enum verdict target_failed(struct client *c, const struct call *call, enum target_status status)
{
	switch (status) {
	case TARGET_MORE:
		return CALL_WAIT;
	case TARGET_CROSSUPSTREAM:
		client_reply_own_error(c, call, ERROR_CROSSUPSTREAM);
		break;
	case TARGET_TOO_BIG:
		client_reply_own_error(c, call, ERROR_TOO_BIG);
		break;
	default:
		client_reply_own_error(c, call, ERROR_CROSSSLOT);
		break;
	}
	return CALL_DONE;
}

enum verdict target_more(struct client *c, const struct call *call)
{
	return target_failed(c, call, call->len > PARTIAL_MAX ? TARGET_TOO_BIG : TARGET_MORE);
}

const char *target_why(const struct target *t)
{
	const struct topology *topo = t->route->topo;

	if (topo->why[0])
		return topo->why;
	return reply_error_text(t->route->up->conf->read_from == READ_FROM_REPLICA && route_master(t->route, t->slot)
					? ERROR_NO_REPLICA
					: ERROR_NO_MASTER);
}
