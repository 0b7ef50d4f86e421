/* SPDX-License-Identifier: BSD-2-Clause */
/* Which commands are copied to a mirror, and in which parts: see mirror.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/mirror_private.h"
#include "client/policy.h"
#include "client/redact.h"
#include "client/target.h"
#include "resp/reply_frame.h"
#include "resp/write.h"
#include "upstream/slot.h"

#define HEARD_KEPT 65536

/* ---- which ---- */

static bool writes(const struct command *cmd)
{
	/* What may block would block the link: XREADGROUP, and what modules bring. Pops are known by what they popped.
	 */
	if (cmd->flags & CMD_BLOCKING)
		return mirror_pops(cmd);
	if (cmd->flags & CMD_WRITE)
		return true;
	return cmd->flags & CMD_MAY_REPLICATE && !(cmd->flags & (CMD_READONLY | CMD_PUBSUB));
}

static bool to_all_nodes(const struct command *cmd)
{
	return cmd->request_policy == REQUEST_ALL_SHARDS || cmd->request_policy == REQUEST_ALL_NODES;
}

/* SCRIPT LOAD, SCRIPT FLUSH: writes of a kind, EVALSHA needs them. */
static bool loads_code(const struct command *cmd)
{
	return cmd->categories & CAT_SCRIPTING && to_all_nodes(cmd) && cmd->response_policy == RESPONSE_ALL_SUCCEEDED;
}

static bool reads_keys(const struct command *cmd)
{
	return cmd->flags & CMD_READONLY && cmd->n_specs > 0 && !(cmd->flags & CMD_BLOCKING);
}

/* What carries a password (MIGRATE) is for one server alone. The TOKEN commands are others by then. */
static bool is_copied(const struct upstream_config *conf, const struct command *cmd)
{
	if (cmd->secrets != SECRETS_NONE && !command_has_tokens(cmd))
		return false;
	return writes(cmd) || loads_code(cmd) || (conf->mirror == MIRROR_ALL && reads_keys(cmd));
}

static bool request_is_copied(const struct upstream_config *conf, const struct request *r)
{
	if (!*conf->mirror_to || !r->cmd || r->flags & REQUEST_MIRROR)
		return false;
	if (r->flags & REQUEST_UNIT)
		return true;
	/* One in a transaction of its own link, begun before there was a mirror, is not done when it is answered. */
	if (r->flags & REQUEST_IN_TX || !is_copied(conf, r->cmd))
		return false;
	/* Of what all nodes are told, one copy is enough. */
	return !(r->flags & REQUEST_PART) || !to_all_nodes(r->cmd) || r->part == 0;
}

/* A share of the keys, always the same; keys with one hash tag stay together, as multi-key commands want it. */
static bool is_chosen(const struct upstream_config *conf, unsigned slot)
{
	return slot % 100 < (unsigned)conf->mirror_percent;
}

/* ---- where to ---- */

/*
 * What the upstream calls its database is the mirror's own; others are the same by number, where both have them.
 */
static int db_on(const struct upstream_config *conf, const struct upstream_config *to, int db)
{
	if (conf->mode == UPSTREAM_CLUSTER || to->mode == UPSTREAM_CLUSTER || db == conf->target.db)
		return to->target.db;
	return db;
}

static struct mirror *mirror_of(const struct worker *w, const struct upstream_config *conf)
{
	/* By name, since a link may be one of before a reload. */
	for (size_t i = 0; i < w->n_routes; i++)
		if (w->routes[i].up->conf == conf || strcmp(w->routes[i].up->conf->name, conf->name) == 0)
			return w->routes[i].mirror;
	return NULL;
}

/* ---- a command to be copied ---- */

struct original {
	const struct upstream_config *conf;
	struct mirror *m;
	const struct command *cmd;
	int db;
	bool unit;
	bool removes;	   /* see struct copy */
	struct buf *reply; /* for comparing; NULL: it is not */
	/* What its keys say: */
	const char *key; /* the first one; NULL: none */
	size_t key_len;
	unsigned slot;
	bool crossed; /* others are elsewhere */
};

static void see_key(void *ctx, uint32_t i, const char *key, size_t len)
{
	struct original *o = ctx;
	unsigned slot = hash_slot(key, len);

	(void)i;
	if (!o->key) {
		o->key = key;
		o->key_len = len;
		o->slot = slot;
	} else if (slot != o->slot) {
		o->crossed = true;
	}
}

static void show_key(const char *key, size_t len, char out[MIRROR_KEY_SHOWN + 4])
{
	size_t n = len < MIRROR_KEY_SHOWN ? len : MIRROR_KEY_SHOWN;

	for (size_t i = 0; i < n; i++)
		out[i] = (char)(key[i] > ' ' && key[i] < 127 ? key[i] : '?');
	strcpy(out + n, len > n ? "..." : "");
}

static bool is_cluster(const struct original *o)
{
	return o->m->up->conf->mode == UPSTREAM_CLUSTER;
}

static struct copy *new_copy(const struct original *o, const char *key, size_t key_len, int slot)
{
	struct copy *copy = mirror_copy_new(o->m, o->cmd, o->db, is_cluster(o) ? slot : -1);
	const struct tokens *tokens = o->m->w->tokens;

	copy->unit = o->unit;
	if (key)
		show_key(key, tokens ? redact_tokens(tokens, key, key_len, false) : key_len, copy->key);
	return copy;
}

static void give_whole(struct original *o, const char *bytes, size_t len)
{
	struct copy *copy = new_copy(o, o->key, o->key_len, o->key ? (int)o->slot : -1);

	copy->removes = o->removes;
	if (o->reply && buf_len(o->reply) > 0 && buf_len(o->reply) <= MIRROR_COMPARE_MAX &&
	    o->m->expected_bytes + buf_len(o->reply) <= MIRROR_BYTES_MAX) {
		/* No larger than it is: there may be many. */
		copy->compare = true;
		copy->expected.data = xmemdup0(buf_head(o->reply), buf_len(o->reply));
		copy->expected.end = buf_len(o->reply);
		copy->expected.capacity = copy->expected.end + 1;
		o->m->expected_bytes += copy->expected.end;
	}
	mirror_give(copy, bytes, len);
}

/* FLUSHALL, SCRIPT LOAD: every master of the mirror. */
static void give_to_all(struct original *o, const char *bytes, size_t len)
{
	const struct route *route = mirror_route(o->m);
	unsigned n = route ? route->topo->n_shards : 0;

	if (n <= 1) {
		give_whole(o, bytes, len);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		struct copy *copy = new_copy(o, NULL, 0, -1);

		if (route->masters[i])
			copy->at = node_ref(route->masters[i]->server);
		mirror_give(copy, bytes, len);
	}
}

/* ---- many keys ---- */

struct piece {
	const char *bytes; /* a key and what belongs to it */
	size_t len;
	const char *key;
	size_t key_len;
	unsigned slot;
};

static int by_slot(const void *x, const void *y)
{
	const struct piece *a = x, *b = y;

	if (a->slot != b->slot)
		return a->slot < b->slot ? -1 : 1;
	return a->bytes < b->bytes ? -1 : a->bytes > b->bytes; /* MSET k 1 k 2 */
}

/* The keys that are chosen. */
static size_t take_apart(const struct original *o, const struct call *call, uint32_t first, uint32_t step,
			 struct piece *pieces)
{
	struct arg_cursor cur;
	const char *arg;
	size_t len, n = 0;

	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; i < first; i++)
		arg_cursor_next(&cur, &arg, &len);
	for (;;) {
		struct piece *piece = &pieces[n];

		piece->bytes = cur.p;
		if (!arg_cursor_next(&cur, &piece->key, &piece->key_len))
			return n;
		for (uint32_t i = 1; i < step; i++)
			arg_cursor_next(&cur, &arg, &len);
		piece->len = (size_t)(cur.p - piece->bytes);
		piece->slot = hash_slot(piece->key, piece->key_len);
		n += is_chosen(o->conf, piece->slot);
	}
}

static void give_pieces(const struct original *o, const struct call *call, const struct piece *pieces, size_t n,
			uint32_t first, uint32_t step)
{
	struct copy *copy = new_copy(o, pieces->key, pieces->key_len, (int)pieces->slot);
	struct buf out = {0};
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	resp_array(&out, first + n * step);
	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; i < first && arg_cursor_next(&cur, &arg, &len); i++)
		resp_bulk(&out, arg, len);
	for (size_t i = 0; i < n; i++)
		buf_put(&out, pieces[i].bytes, pieces[i].len);
	mirror_give(copy, buf_head(&out), buf_len(&out));
	buf_release(&out);
}

/* MSET, DEL, MGET ... in parts, of which none is compared. */
static void give_by_key(const struct original *o, const struct call *call, uint32_t first, uint32_t step)
{
	struct piece *pieces = xcalloc((call->frame->argc - first) / step + 1, sizeof(*pieces));
	size_t n = take_apart(o, call, first, step, pieces), end;

	if (is_cluster(o))
		qsort(pieces, n, sizeof(*pieces), by_slot);
	for (size_t i = 0; i < n; i = end) {
		for (end = i + 1; end < n && (!is_cluster(o) || pieces[end].slot == pieces[i].slot);)
			end++;
		give_pieces(o, call, pieces + i, end - i, first, step);
	}
	free(pieces);
}

/* Whether some keys go elsewhere than others, or nowhere. */
static bool must_split(const struct original *o, const struct call *call, uint32_t *first, uint32_t *step)
{
	return o->crossed && (is_cluster(o) || o->conf->mirror_percent < 100) &&
	       call->cmd->request_policy == REQUEST_MULTI_SHARD && target_key_row(call->cmd, first, step) &&
	       (call->frame->argc - *first) % *step == 0;
}

/* ---- one command, or a transaction ---- */

static void copy_whole(struct original *o, const char *bytes, size_t len)
{
	if (!o->key && o->conf->mirror_percent < 100)
		return;
	if (o->key && !is_chosen(o->conf, o->slot))
		return;
	if (is_cluster(o) && (o->crossed || (!o->key && o->cmd->flags & CMD_UNKNOWN)))
		mirror_dropped(o->m, "a command can not be split");
	else if (!o->unit && to_all_nodes(o->cmd))
		give_to_all(o, bytes, len);
	else
		give_whole(o, bytes, len);
}

static void copy_call(struct original *o, const struct call *call)
{
	uint32_t first = 0, step = 1;

	target_each_key(call, see_key, o);
	if (must_split(o, call, &first, &step))
		give_by_key(o, call, first, step);
	else
		copy_whole(o, call->bytes, call->len);
}

/* One of the commands that do again what a blocking one did. */
static void copy_emitted(void *ctx, const struct command *cmd, const struct buf *bytes)
{
	static const char one[] = ":1\r\n";
	const struct original *from = ctx;
	struct original o = *from;
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct call call = {.cmd = cmd, .frame = &f, .bytes = buf_head(bytes), .len = buf_len(bytes)};
	struct buf expected = {0};

	o.cmd = cmd;
	o.removes = !(cmd->flags & CMD_DENYOOM); /* not the push */
	o.reply = NULL;
	if (o.removes && o.conf->mirror_compare) {
		buf_put(&expected, one, sizeof(one) - 1);
		o.reply = &expected;
	}
	if (request_frame_feed(&f, call.bytes, call.len) == FRAME_READY)
		copy_call(&o, &call);
	buf_release(&expected);
}

static const struct command *row_of(const struct worker *w, const struct call *call)
{
	const char *name, *sub;
	size_t len, sub_len = 0;

	name = call_arg(call, 0, &len);
	sub = call_arg(call, 1, &sub_len);
	return command_find(w->snapshot->learnt, name, len, sub, sub_len);
}

static void copy_command(struct original *o, const struct buf *bytes, const struct buf *reply)
{
	struct request_frame f = {.max_bulk = UINT64_MAX}, other = f;
	struct call call = {.cmd = o->cmd, .frame = &f, .bytes = buf_head(bytes), .len = buf_len(bytes)};
	const struct command_set *learnt = o->m->w->snapshot->learnt;
	struct buf out = {0};

	if (request_frame_feed(&f, call.bytes, call.len) != FRAME_READY)
		return;
	if (command_has_tokens(o->cmd)) /* what Redis was sent in its place */
		o->cmd = call.cmd = row_of(o->m->w, &call);
	if (mirror_pops(o->cmd)) {
		if (!mirror_popped(&call, reply, learnt, copy_emitted, o))
			mirror_dropped(o->m, "a command is too large");
		return;
	}
	if (mirror_makes_ids(o->cmd) && mirror_with_id(&call, reply, &out) &&
	    request_frame_feed(&other, buf_head(&out), buf_len(&out)) == FRAME_READY)
		call = (struct call){.cmd = o->cmd, .frame = &other, .bytes = buf_head(&out), .len = buf_len(&out)};
	copy_call(o, &call);
	buf_release(&out);
}

/* MULTI ... EXEC: as a whole when one of its commands is copied. */
static void copy_unit(struct original *o, const struct buf *bytes)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	size_t at = 0;
	bool any = false;

	while (at < buf_len(bytes) &&
	       request_frame_feed(&f, buf_head(bytes) + at, buf_len(bytes) - at) == FRAME_READY) {
		struct call call = {.frame = &f, .bytes = buf_head(bytes) + at, .len = f.len};

		call.cmd = row_of(o->m->w, &call);
		if (call.cmd) {
			any = any || is_copied(o->conf, call.cmd);
			target_each_key(&call, see_key, o);
		}
		at += f.len;
		request_frame_reset(&f);
	}
	if (any)
		copy_whole(o, buf_head(bytes), buf_len(bytes));
}

/* In EXEC's reply the first element is the command's own. False: it was an error, or makes no sense. */
static bool reply_of_inner(const struct request *r, struct buf *reply)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct reply_item item;

	if (!(r->flags & REQUEST_WRAPPED))
		return true;
	if (buf_len(reply) == 0 || !reply_cursor_next(&cur, &item) || item.type != '*' || cur.p == cur.end)
		return false;
	reply->start = (size_t)(cur.p - reply->data);
	if (reply_cursor_skip(&cur)) /* else it is too large to be compared */
		reply->end = (size_t)(cur.p - reply->data);
	return *buf_head(reply) != '-' && *buf_head(reply) != '!';
}

/* A command with those of ours that travel with it (client/policy.h): each is copied by itself. */
static void copy_with_ours(struct original *o, const struct request *r, const struct buf *bytes,
			   const struct buf *heard)
{
	struct slice inner = policy_inner(r, bytes);
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct buf one = *bytes, reply = *heard;

	if (!reply_of_inner(r, &reply))
		return;
	o->reply = o->reply ? &reply : NULL;
	one.start = (size_t)(inner.p - bytes->data);
	one.end = one.start + inner.len;
	copy_command(o, &one, &reply);
	for (one.start = one.end; one.start < bytes->end; one.start = one.end) {
		struct original ours = {.conf = o->conf, .m = o->m, .db = o->db};
		struct call call = {.frame = &f, .bytes = buf_head(&one)};

		request_frame_reset(&f);
		if (request_frame_feed(&f, call.bytes, bytes->end - one.start) != FRAME_READY)
			return;
		call.len = f.len;
		one.end = one.start + f.len;
		ours.cmd = row_of(o->m->w, &call);
		if (ours.cmd && ours.cmd->n_specs > 0) /* not EXEC, nor ASKING */
			copy_command(&ours, &one, NULL);
	}
}

/* ---- replies ---- */

/*
 * An error says that nothing was done, but for scripts: what one wrote before it failed stays. Redis names the place
 * then (@user_script:1, @user_function:1), and not when it refuses the script as a whole.
 */
static bool was_done(const struct request *r, const struct link *l, const char *data, size_t len)
{
	static const char place[] = "@user_";

	if (l->rf.type != '-' && l->rf.type != '!')
		return !(r->flags & REQUEST_UNIT) || (l->rf.type == '*' && l->rf.number >= 0);
	return r->cmd->categories & CAT_SCRIPTING &&
	       (memmem(data, len, place, sizeof(place) - 1) ||
		(r->reply.data && memmem(buf_head(&r->reply), buf_len(&r->reply), place, sizeof(place) - 1)));
}

/* As much of the reply as is needed, and a byte more, so that it shows. */
static void gather(struct link *l, const struct command *cmd, const char *data, size_t len)
{
	size_t room = (mirror_pops(cmd) ? MIRROR_BYTES_MAX : MIRROR_COMPARE_MAX) + 1 - buf_len(&l->heard);

	buf_put(&l->heard, data, len < room ? len : room);
}

void mirror_heard(struct request *r, const char *data, size_t len, struct link *l, bool done)
{
	const struct upstream_config *conf = l->pool->server->conf;
	struct original o = {
		.conf = conf, .cmd = r->cmd, .unit = (r->flags & (REQUEST_UNIT | REQUEST_WRAPPED)) == REQUEST_UNIT};
	struct buf bytes = {0};

	if (!request_is_copied(conf, r))
		return;
	if (l->rf.type != '-' &&
	    (r->flags & REQUEST_WRAPPED || conf->mirror_compare || mirror_pops(r->cmd) || mirror_makes_ids(r->cmd)))
		gather(l, r->cmd, data, len);
	if (!done)
		return;
	o.m = mirror_of(l->w, conf);
	if (o.m && was_done(r, l, data, len)) {
		o.db = db_on(conf, o.m->up->conf, l->db);
		o.reply = conf->mirror_compare ? &l->heard : NULL;
		if (r->flags & REQUEST_STREAMED || !outq_peek(&l->out, r->pos, (size_t)r->len, &bytes)) {
			mirror_dropped(o.m, "a command is too large");
		} else if (o.unit) {
			copy_unit(&o, &bytes);
		} else {
			copy_with_ours(&o, r, &bytes, &l->heard);
		}
		buf_release(&bytes);
	}
	l->heard.start = l->heard.end = 0;
	if (l->heard.capacity > HEARD_KEPT)
		buf_release(&l->heard);
}

void mirror_lost(struct request *r, const struct link *l)
{
	const struct upstream_config *conf = l->pool->server->conf;
	struct mirror *m;

	if (r->flags & REQUEST_MIRROR) {
		mirror_lost_copy(r);
		return;
	}
	/* It may have been done. */
	if (!l->w->mirroring || !request_is_copied(conf, r) || r->pos >= outq_written_pos(&l->out) ||
	    r->cmd->flags & CMD_BLOCKING)
		return;
	m = mirror_of(l->w, conf);
	if (m && (writes(r->cmd) || r->flags & REQUEST_UNIT))
		mirror_dropped(m, "whether a command was done is not known");
}

bool mirror_gathers(const struct worker *w, const struct call *call, const struct pool *p)
{
	const struct upstream_config *conf = p->server->conf;

	return w->mirroring && *conf->mirror_to && is_copied(conf, call->cmd) &&
	       call->len + call->frame->bulk_left < MIRROR_BYTES_MAX;
}
