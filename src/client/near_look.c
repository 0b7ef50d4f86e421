/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads answered from memory: see near.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/dispatch.h"
#include "client/hot_keys.h"
#include "client/hub.h"
#include "client/namespace_stats.h"
#include "client/near.h"
#include "client/near_wait.h"
#include "client/policy.h"
#include "client/stats.h"
#include "client/target.h"
#include "client/token.h"
#include "server.h"

#define AHEAD_MAX   8	 /* requests of a pipeline whose places are fetched from memory at the same time */
#define HASHES_KEPT 4096 /* room that a worker keeps from one call to the next */
#define BYTES_KEPT  ((size_t)256 * 1024)

/* ---- where a key is ---- */

static const char *other_name(const struct view *v, const struct name_place *at, const char *key, size_t *len,
			      char *room)
{
	struct buf name = {0};
	size_t n = at->put_len + *len - at->cut;

	if (!(at->ns->flags & NS_HASHES)) {
		if (n > NEAR_NAME_MAX)
			return NULL;
		memcpy(room, at->put, at->put_len);
		memcpy(room + at->put_len, key + at->cut, *len - at->cut);
		*len = n;
		return room;
	}
	name_place_put(v, at, key, *len, &name);
	*len = buf_len(&name);
	if (*len <= NEAR_NAME_MAX)
		memcpy(room, buf_head(&name), *len);
	buf_release(&name);
	return *len <= NEAR_NAME_MAX ? room : NULL;
}

/* Of the key, in room if it is another one. NULL: it is too long. */
static inline const char *upstream_name(const struct view *v, const struct name_place *at, const char *key, size_t *len,
					char *room)
{
	if (name_place_is_same(at))
		return *len <= NEAR_NAME_MAX ? key : NULL;
	return other_name(v, at, key, len, room);
}

static struct node *master_of(const struct route *r, const char *name, size_t len)
{
	const struct topology *t = r->topo;
	unsigned shard = t->slots ? t->slots[hash_slot(name, len)] : 0;

	return shard < t->n_shards ? t->shards[shard].master : NULL;
}

void near_place_of(struct client *c, const struct namespace *ns, const char *name, size_t len, struct near_place *out)
{
	out->ns = ns;
	out->route = &c->w->routes[ns->conf->upstream_index];
	out->node = master_of(out->route, name, len);
	out->key = (struct store_key){0, out->route->up->id, name, len};
	out->key.hash = store_hash(c->w->near, out->key.upstream, name, len);
	out->db = (uint16_t)(out->route->up == target_home(c)->up ? c->db : out->route->up->conf->target.db);
}

bool near_find(struct client *c, const char *key, size_t len, char *room, struct near_place *out)
{
	const struct view view = client_view(c);
	struct name_place at = view_key_hinted(&view, key, len, &c->w->name_hint);
	const char *name;

	if (!at.ns || !(at.ns->flags & NS_NEAR))
		return false;
	name = upstream_name(&view, &at, key, &len, room);
	if (!name)
		return false;
	near_place_of(c, at.ns, name, len, out);
	return true;
}

uint64_t near_pass_key(struct client *c, const struct command *cmd, const struct name_place *at, const char *key,
		       size_t len)
{
	const struct view view = client_view(c);
	char room[NEAR_NAME_MAX];
	const char *name = upstream_name(&view, at, key, &len, room);
	uint64_t hash;

	if (!name)
		return 0;
	hash = store_hash(c->w->near, c->w->routes[at->ns->conf->upstream_index].up->id, name, len);
	near_note_busy(c, hash);
	if (!command_may_write(cmd))
		return 0;
	store_forget_hash(c->w->near, hash, STORE_OWN_WRITE, c->w->now_us);
	return hash;
}

/* ---- what the client has on the way ---- */

void near_note_busy(struct client *c, uint64_t hash)
{
	if (!c->near.busy)
		c->near.busy = xcalloc(2 * (size_t)NEAR_BUSY_WORDS, sizeof(*c->near.busy));
	c->near.busy[hash >> 6 & (NEAR_BUSY_WORDS - 1)] |= (uint64_t)1 << (hash & 63);
}

bool near_is_busy(struct client *c, uint64_t hash)
{
	const struct near_client *near = &c->near;
	unsigned word = hash >> 6 & (NEAR_BUSY_WORDS - 1);

	return c->n_requests > 0 && near->busy &&
	       (near->busy[word] | near->busy[word + NEAR_BUSY_WORDS]) >> (hash & 63) & 1;
}

/* What must be younger than the client's last script; 0: anything will do. */
static int64_t fence_of(struct client *c, struct truth *t)
{
	bool confirms = atomic_load_explicit(&t->mode, memory_order_relaxed) != TRACKING_NONE;

	if (c->near.fence_us == 0 ||
	    (confirms && atomic_load_explicit(&t->confirmed_us, memory_order_acquire) > c->near.fence_us))
		return 0;
	if (confirms && !atomic_exchange(&t->ping_wanted, true))
		server_ask_confirmation(c->w->server);
	return c->near.fence_us;
}

bool near_ask(struct client *c, const struct near_place *at, struct store_ask *ask)
{
	struct truth *t = at->node ? &at->node->truth : NULL;

	if (!t)
		return false;
	/* In this order: what was confirmed after the fence was known before the epoch is read. */
	ask->newer_us = fence_of(c, t);
	if (!truth_holds(t, c->w->now_us))
		return false;
	ask->key = at->key;
	ask->truth = (struct store_truth){at->node->id, atomic_load_explicit(&t->epoch, memory_order_acquire)};
	ask->now_us = c->w->now_us;
	ask->race_us = at->ns->conf->race_condition_ttl_ms * 1000;
	ask->namespace = at->ns->id;
	return true;
}

/* ---- hits ---- */

static void count_hit(struct client *c, const struct namespace *ns, const struct store_hit *hit, const char *reply)
{
	namespace_stats_near_hits(c->w, ns->id, 1, near_finds_nothing(reply), hit->stale, hit->len);
}

bool near_put_hit(struct worker *w, struct store_hit *hit, struct buf *out)
{
	const void *at = NULL;
	const char *p;
	size_t n;
	bool ok = buf_reserve(out, hit->len);

	if (!hit->pinned) {
		if (ok)
			buf_put(out, hit->data, hit->len);
		return ok;
	}
	while (ok && (n = store_piece(w->near, hit->pinned, &at, &p)) > 0)
		buf_put(out, p, n);
	store_unpin(w->near, &hit->pinned);
	return ok;
}

static void answer(struct client *c, const struct call *call, const struct namespace *ns, struct store_hit *hit)
{
	struct buf b = {0};

	if (c->head)
		c->near.held += hit->len;
	if (!hit->pinned) {
		count_hit(c, ns, hit, hit->data);
		client_reply_raw(c, call, hit->data, hit->len);
	} else if (near_put_hit(c->w, hit, &b)) {
		count_hit(c, ns, hit, buf_head(&b));
		client_reply(c, call, &b);
	} else {
		client_close(c);
	}
}

/* ---- one key ---- */

/*
 * What is asked of the key, in words that mean the same to all clients. What was learnt of a module may have another id
 * tomorrow: there all of the request says it.
 */
static struct store_request request_of(const struct client *c, const struct command *cmd, const struct near_place *at,
				       struct slice bytes, const struct frame_arg *key)
{
	struct store_request q = {.command = cmd->id, .db = at->db, .proto = c->proto};
	size_t skip = (size_t)key->offset + key->len + 2;

	if (cmd->id >= command_count()) {
		q.command = UINT16_MAX;
		skip = 0;
	}
	q.args = bytes.p + skip;
	q.args_len = bytes.len - skip;
	return q;
}

static bool reads_one(const struct command *cmd, const struct request_frame *f)
{
	return cmd->cache == CACHE_KEY || (cmd->cache == CACHE_ALONE && f->argc == 2);
}

/* It must be fetched. */
static void lead(struct client *c, struct call *call, const struct near_place *at, struct flight *flight,
		 bool may_fall_back)
{
	call->near = &c->w->near_call;
	call->near->fetch = near_fetch_new(1);
	near_fetch_add(c->w, call->near->fetch, flight, at, 0);
	if (may_fall_back)
		near_fetch_expect_fallback(call->near->fetch);
}

static bool read_one(struct client *c, struct call *call, enum verdict *verdict)
{
	const struct frame_arg *key = &call->frame->arg[1];
	struct worker *w = c->w;
	struct store_ask ask = {0};
	struct flight *flight = NULL;
	struct near_place at;
	struct store_hit hit;
	char room[NEAR_NAME_MAX];

	if (!near_find(c, call->bytes + key->offset, key->len, room, &at))
		return false;
	if (!near_ask(c, &at, &ask)) {
		near_note_busy(c, at.key.hash);
		namespace_stats_near_miss(w, at.ns->id);
		return false;
	}
	ask.request = request_of(c, call->cmd, &at, (struct slice){call->bytes, call->len}, key);
	ask.may_lead = c->n_parked == 0 && c->n_upstream < c->window;
	if (near_is_busy(c, at.key.hash) || c->near.held > CLIENT_BYTES_MAX)
		ask.newer_us = INT64_MAX; /* nothing that others have asked for */
	else if (c->n_upstream < c->window)
		ask.waiter = near_waiter_spare(w);
	switch (store_look(w->near, &ask, &hit, &flight)) {
	case STORE_HIT:
		answer(c, call, at.ns, &hit);
		*verdict = CALL_DONE;
		return true;
	case STORE_JOIN:
		near_note_busy(c, at.key.hash);
		namespace_stats_near_joined(w, at.ns->id);
		*verdict = near_wait(c, call);
		return true;
	case STORE_LEAD:
		lead(c, call, &at, flight, hit.stale);
		break;
	case STORE_PASS:
		break;
	}
	near_note_busy(c, at.key.hash);
	namespace_stats_near_miss(w, at.ns->id);
	return false;
}

bool near_read(struct client *c, struct call *call, enum verdict *verdict)
{
	near_begin(c);
	if (!near_may_read(c) || call->partial || !command_arity_ok(call->cmd, call->frame->argc))
		return false;
	if (call->cmd->cache == CACHE_MANY)
		return near_read_many(c, call, verdict);
	return reads_one(call->cmd, call->frame) && read_one(c, call, verdict);
}

void near_pass_read(struct client *c, const struct call *call)
{
	near_begin(c);
	for (uint32_t i = 0; i < call->rw->n_keys; i++) {
		const struct rewrite_key *key = &call->rw->keys[i];

		if (key->at.ns && key->at.ns->flags & NS_NEAR)
			near_note_busy(c, store_hash(c->w->near, c->w->routes[key->at.ns->conf->upstream_index].up->id,
						     key->name, key->len));
	}
}

void near_call_end(struct worker *w, struct call *call)
{
	struct near_call *n = call->near;

	call->near = NULL;
	if (n->fetch)
		near_fetch_drop(w, &n->fetch);
	near_merge_free(&n->merge);
	n->touched.n = 0;
	n->touched.fence = false;
	token_marks_drop(&n->touched.tokens);
	upstream_unref(&n->touched.flushed);
	if (n->touched.room > HASHES_KEPT) {
		free(n->touched.hashes);
		n->touched.hashes = NULL;
		n->touched.room = 0;
	}
	if (w->near_rest.capacity > BYTES_KEPT)
		buf_release(&w->near_rest);
}

/* ---- pipelines ---- */

/* What is the same for all keys of a namespace, within one run. */
struct scope {
	struct view view;
	struct near_place at;
	struct store_ask ask;
	bool holds;
	uint64_t n_hits; /* not counted yet */
	uint64_t n_empty;
	uint64_t n_stale;
	uint64_t bytes;
};

static void count_hits(struct client *c, const struct command *cmd, struct scope *k)
{
	if (k->n_hits == 0)
		return;
	namespace_stats_near_hits(c->w, k->at.ns->id, k->n_hits, k->n_empty, k->n_stale, k->bytes);
	stats_count_quick(c->w, cmd, k->n_hits);
	k->n_hits = k->n_empty = k->n_stale = k->bytes = 0;
}

/* A request of the run, whose key's place is on its way from memory. */
struct ahead {
	const char *bytes;
	size_t len;
	struct frame_arg arg; /* the key */
	struct store_key key;
	struct store_request request;
	char room[NEAR_NAME_MAX];
};

/*
 * The key of the request in f, as far as it has to be looked at: where it is hangs on the namespace, and in a Cluster
 * on the slot. first: nothing is ahead yet, so that the scope may become another one. False: it is not to be served
 * here.
 */
static bool enter(struct client *c, const struct call *call, struct scope *k, struct ahead *a, bool first)
{
	const struct frame_arg *arg = &call->frame->arg[1];
	const char *key = call->bytes + arg->offset, *name;
	struct name_place place = view_key_hinted(&k->view, key, arg->len, &c->w->name_hint);
	size_t len = arg->len;
	bool other;

	if (!place.ns || !(place.ns->flags & NS_NEAR))
		return false;
	other = place.ns != k->at.ns || k->at.route->topo->slots;
	if (other && !first)
		return false;
	name = upstream_name(&k->view, &place, key, &len, a->room);
	if (!name)
		return false;
	if (other) {
		count_hits(c, call->cmd, k);
		near_place_of(c, place.ns, name, len, &k->at);
		k->holds = near_ask(c, &k->at, &k->ask);
		a->key = k->at.key;
	} else {
		a->key = (struct store_key){.upstream = k->at.key.upstream, .p = name, .len = len};
		a->key.hash = store_hash(c->w->near, a->key.upstream, name, len);
	}
	if (!k->holds || near_is_busy(c, a->key.hash))
		return false;
	a->request = request_of(c, call->cmd, &k->at, (struct slice){call->bytes, call->len}, arg);
	a->bytes = call->bytes;
	a->len = call->len;
	a->arg = *arg;
	store_expect(c->w->near, a->key.hash);
	return true;
}

static void put_hit(struct client *c, const struct call *call, struct scope *k, struct store_hit *hit)
{
	if (c->head || hit->pinned) {
		answer(c, call, k->at.ns, hit);
		return;
	}
	k->n_hits++;
	k->n_stale += hit->stale;
	k->n_empty += near_finds_nothing(hit->data);
	k->bytes += hit->len;
	client_put_reply(c, hit->data, hit->len);
}

/* Takes the requests at data that may be hits, as many as there is room for. */
static unsigned look_ahead(struct client *c, struct call *call, struct scope *k, struct ahead *list, const char *data,
			   size_t len)
{
	struct request_frame *f = call->frame;
	unsigned n = 0;
	size_t at = 0;

	while (n < AHEAD_MAX && at < len) {
		if (request_frame_feed(f, data + at, len - at) != FRAME_READY || f->known != call->cmd ||
		    !command_arity_ok(call->cmd, f->argc) || !reads_one(call->cmd, f))
			break;
		call->bytes = data + at;
		call->len = f->len;
		if (!enter(c, call, k, &list[n], n == 0))
			break;
		at += f->len;
		n++;
		request_frame_reset(f);
	}
	request_frame_reset(f);
	for (unsigned i = 0; i < n; i++)
		store_expect_item(c->w->near, list[i].key.hash);
	return n;
}

/* Answers it if it is a hit. */
static bool serve(struct client *c, struct call *call, struct scope *k, const struct ahead *a)
{
	struct flight *none;
	struct store_hit hit;

	if (c->near.held > CLIENT_BYTES_MAX || c->out.bytes > c->w->output_pause_bytes || c->closed)
		return false;
	k->ask.key = a->key;
	k->ask.request = a->request;
	if (store_look(c->w->near, &k->ask, &hit, &none) != STORE_HIT)
		return false;
	call->bytes = a->bytes;
	call->len = a->len;
	put_hit(c, call, k, &hit);
	hot_keys_pass_at(c, call->cmd, a->bytes, a->len, &a->arg);
	c->call_len = a->len;
	return true;
}

static bool is_bare(const struct client *c)
{
	const struct server *s = c->w->server;

	return near_may_read(c) && c->reply_mode == REPLY_ON && !hub_is_subscriber(c) &&
	       atomic_load_explicit(&s->pause_mode, memory_order_relaxed) == PAUSE_NONE &&
	       atomic_load_explicit(&s->n_monitors, memory_order_relaxed) == 0;
}

size_t near_run(struct client *c, const char *data, size_t len)
{
	struct call call = {.cmd = c->frame.known, .frame = &c->frame};
	struct scope scope = {.view = client_view(c)};
	struct ahead list[AHEAD_MAX];
	unsigned n_ahead, n = 0, i;
	size_t at = 0;

	if ((call.cmd->cache != CACHE_KEY && call.cmd->cache != CACHE_ALONE) || !is_bare(c))
		return 0;
	do {
		n_ahead = look_ahead(c, &call, &scope, list, data + at, len - at);
		for (i = 0; i < n_ahead && serve(c, &call, &scope, &list[i]); i++)
			at += list[i].len;
		n += i;
	} while (i > 0 && i == n_ahead);
	count_hits(c, call.cmd, &scope);
	c->active_us = c->w->now_us;
	counter_add(&c->w->counters.commands, n);
	return at;
}
