/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands that several servers answer: see fanout.h. How their replies are joined: join.c. */
#include "client/fanout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/absent.h"
#include "client/join.h"
#include "client/near.h"
#include "client/policy.h"
#include "client/refusal.h"
#include "client/scan.h"
#include "client/scripts.h"
#include "client/target.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

/* One key with the arguments that belong to it. */
struct piece {
	const char *bytes; /* of the request, headers included */
	size_t len;
	uint32_t next; /* in the same part; NO_PIECE: the last */
};

#define NO_PIECE UINT32_MAX

struct group {
	struct target target;
	uint32_t first, last; /* pieces */
	uint32_t n;
	struct buf made; /* its answer, when its server is away: see absent.h */
};

/* A call taken apart by where its keys are. */
struct split {
	struct piece *pieces;
	uint32_t *owner; /* of each piece: its group */
	uint32_t n_pieces;
	struct group *groups;
	uint32_t n_groups;
	uint32_t *table; /* open addressing over groups, by target */
	uint32_t table_size;
};

static bool by_key(const struct command *cmd)
{
	return cmd->request_policy == REQUEST_MULTI_SHARD;
}

static bool to_all(const struct command *cmd)
{
	return (cmd->request_policy == REQUEST_ALL_SHARDS || cmd->request_policy == REQUEST_ALL_NODES) &&
	       cmd->response_policy != RESPONSE_SPECIAL &&
	       (cmd->handler == HANDLER_FORWARD || cmd->handler == HANDLER_CONFIG || cmd->handler == HANDLER_PUBSUB ||
		cmd->handler == HANDLER_DEDICATED || scripts_concerned(cmd));
}

bool fanout_wanted(struct client *c, const struct call *call)
{
	const struct command *cmd = call->cmd;
	uint32_t first, step;

	if (cmd->request_policy == REQUEST_DEFAULT)
		return false;
	if (cmd->handler == HANDLER_PUBSUB && namespaces_active(c->w->snapshot->holder->namespaces))
		return false; /* it comes by fanout_renamed() */
	if (by_key(cmd))
		return target_key_row(cmd, &first, &step) && call->frame->argc > first + step;
	return target_main(c)->topo->n_shards > 1 && (to_all(cmd) || scan_wanted(cmd));
}

/* ---- taking apart ---- */

static uint32_t group_of(struct worker *w, struct split *s, const struct target *t)
{
	uint32_t key = (uint32_t)(t->route - w->routes) << 16 | (uint32_t)(t->slot + 1);
	uint32_t i = key * 2654435761u & (s->table_size - 1);

	for (;; i = (i + 1) & (s->table_size - 1)) {
		uint32_t g = s->table[i];

		if (g == NO_PIECE)
			break;
		if (s->groups[g].target.route == t->route && s->groups[g].target.slot == t->slot)
			return g;
	}
	s->groups[s->n_groups] = (struct group){*t, NO_PIECE, NO_PIECE, 0};
	s->table[i] = s->n_groups;
	return s->n_groups++;
}

static void split_init(struct split *s, uint32_t n_max)
{
	*s = (struct split){0};
	s->pieces = xcalloc(n_max, sizeof(*s->pieces));
	s->owner = xcalloc(n_max, sizeof(*s->owner));
	s->groups = xcalloc(n_max, sizeof(*s->groups));
	for (s->table_size = 16; s->table_size < 2 * n_max;)
		s->table_size *= 2;
	s->table = xcalloc(s->table_size, sizeof(*s->table));
	memset(s->table, 0xff, s->table_size * sizeof(*s->table));
}

static void split_fini(struct split *s)
{
	for (uint32_t i = 0; i < s->n_groups; i++)
		buf_release(&s->groups[i].made);
	free(s->pieces);
	free(s->owner);
	free(s->groups);
	free(s->table);
}

/* False: the arguments do not come out even; Redis says so in its words. */
static bool split_call(struct client *c, const struct call *call, struct split *s)
{
	uint32_t first = 1, step = 1, argc = call->frame->argc;
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	target_key_row(call->cmd, &first, &step);
	if ((argc - first) % step != 0)
		return false;
	split_init(s, (argc - first) / step);
	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; i < first; i++)
		arg_cursor_next(&cur, &arg, &len);
	while (s->n_pieces < (argc - first) / step) {
		struct piece *piece = &s->pieces[s->n_pieces];
		struct target t;
		struct group *g;

		piece->bytes = cur.p;
		piece->next = NO_PIECE;
		if (!arg_cursor_next(&cur, &arg, &len))
			break;
		t = target_of_key(c, call, s->n_pieces, arg, len);
		for (uint32_t i = 1; i < step; i++)
			arg_cursor_next(&cur, &arg, &len);
		piece->len = (size_t)(cur.p - piece->bytes);
		s->owner[s->n_pieces] = group_of(c->w, s, &t);
		g = &s->groups[s->owner[s->n_pieces]];
		if (g->n++ == 0)
			g->first = s->n_pieces;
		else
			s->pieces[g->last].next = s->n_pieces;
		g->last = s->n_pieces++;
	}
	return true;
}

static void take_made(struct fan_part *p, struct buf *reply);
static void part_over(struct fanout *f, uint32_t i);
static bool may_fan_out(struct client *c, const struct call *call, enum verdict *verdict);

/* ---- sending ---- */

static struct fanout *fanout_new(struct client *c, const struct call *call, uint32_t n)
{
	struct fanout *f = xcalloc(1, sizeof(*f) + n * sizeof(f->parts[0]));

	f->cmd = call->cmd;
	f->n = f->n_left = n;
	f->parent = client_request_new(c, call);
	if (call->near)
		near_adopt(c, call, f->parent);
	f->parent->flags |= REQUEST_PARTED;
	f->parent->arg = (int64_t)(intptr_t)f;
	c->forwarded = true;
	return f;
}

static struct request *part_new(struct client *c, struct fanout *f, uint32_t i, struct link *l, int slot)
{
	struct request *r = request_new(&c->w->requests);

	r->client = c;
	r->cmd = f->cmd;
	r->start_us = c->w->now_us;
	r->flags =
		REQUEST_PART | REQUEST_COLLECT | REQUEST_NO_SLOWLOG | (command_may_write(f->cmd) ? REQUEST_WRITE : 0);
	r->slot = (int16_t)slot;
	r->part = i;
	r->arg = (int64_t)(intptr_t)f;
	r->deadline_us = c->w->now_us + forward_timeout_us(l, f->cmd);
	f->parts[i].request = r;
	return r;
}

static void send_part(struct client *c, struct fanout *f, uint32_t i, struct link *l, int slot, const char *bytes,
		      size_t len)
{
	client_send(c, part_new(c, f, i, l, slot), l, bytes, len);
}

static void put_group(const struct call *call, const struct split *s, const struct group *g, uint32_t first,
		      uint32_t step, struct buf *out)
{
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	resp_array(out, first + g->n * step);
	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; i < first && arg_cursor_next(&cur, &arg, &len); i++)
		resp_bulk(out, arg, len);
	for (uint32_t i = g->first; i != NO_PIECE; i = s->pieces[i].next)
		buf_put(out, s->pieces[i].bytes, s->pieces[i].len);
}

/* The numbers of a group's keys. */
static uint32_t *group_keys(const struct split *s, const struct group *g)
{
	uint32_t *keys = xcalloc(g->n, sizeof(*keys)), n = 0;

	for (uint32_t i = g->first; i != NO_PIECE; i = s->pieces[i].next)
		keys[n++] = i;
	return keys;
}

/* Whether all of a group's keys want on_failure = "miss", as far as their namespaces are known. */
static bool group_misses(const struct call *call, const struct split *s, const struct group *g)
{
	for (uint32_t i = g->first; i != NO_PIECE; i = s->pieces[i].next) {
		const struct namespace *ns = call->rw->keys[i].at.ns;

		if (!ns || !(ns->flags & NS_MISS))
			return false;
	}
	return true;
}

/* The part of a group, with what travels with its keys. */
static void send_group(struct client *c, const struct call *call, const struct split *s, struct fanout *f, uint32_t i,
		       struct link *l, const struct buf *bytes)
{
	const struct group *g = &s->groups[i];
	struct request *r = part_new(c, f, i, l, g->target.slot);
	struct policy_send ours = {0};
	struct buf fetch = {0};
	uint32_t *keys;

	if (!call->rw) {
		client_send(c, r, l, buf_head(bytes), buf_len(bytes));
		return;
	}
	keys = group_keys(s, g);
	policy_compose(c, call, l->pool, buf_head(bytes), buf_len(bytes), 0, keys, g->n, &ours);
	r->flags |= ours.flags | (group_misses(call, s, g) ? REQUEST_MISS : 0);
	r->n_before = ours.n_before;
	r->n_after = ours.n_after;
	if (buf_len(&ours.bytes) > 0)
		bytes = &ours.bytes;
	else
		near_attach_group(c, call, r, keys, g->n, bytes, &fetch);
	if (buf_len(&fetch) > 0)
		bytes = &fetch;
	client_send(c, r, l, buf_head(bytes), buf_len(bytes));
	buf_release(&ours.bytes);
	buf_release(&fetch);
	free(keys);
}

/* The server of this group is away, and its keys are to read as absent then: the answer is made up now. */
static bool group_made(struct client *c, const struct call *call, const struct split *s, uint32_t i)
{
	uint32_t first = 1, step = 1;
	struct buf bytes = {0};
	bool ok;

	target_key_row(call->cmd, &first, &step);
	put_group(call, s, &s->groups[i], first, step, &bytes);
	ok = absent_make_of(c, call->cmd, (struct slice){buf_head(&bytes), buf_len(&bytes)},
			    call->rw && group_misses(call, s, &s->groups[i]), &s->groups[i].made);
	buf_release(&bytes);
	return ok;
}

/* All links are there before anything is sent: a command that can't be sent whole is not sent. */
static bool find_links(struct client *c, const struct call *call, const struct split *s, struct link **links,
		       enum verdict *verdict)
{
	for (uint32_t i = 0; i < s->n_groups; i++) {
		const struct target *t = &s->groups[i].target;
		struct pool *p = target_pool(c, call->cmd, t);

		if ((!p || pool_is_down(p)) && group_made(c, call, s, i))
			continue;
		if (!p) {
			client_reply_error(c, call, target_why(t));
			*verdict = CALL_DONE;
			return false;
		}
		if (!client_route_to(c, call, p, &links[i], verdict))
			return false;
	}
	return true;
}

static enum verdict send_groups(struct client *c, const struct call *call, struct split *s)
{
	struct link **links = xcalloc(s->n_groups, sizeof(*links));
	uint32_t first = 1, step = 1;
	enum verdict verdict;
	struct fanout *f;

	if (!find_links(c, call, s, links, &verdict)) {
		free(links);
		return verdict;
	}
	target_key_row(call->cmd, &first, &step);
	f = fanout_new(c, call, s->n_groups);
	f->n_keys = s->n_pieces;
	f->owner = s->owner;
	s->owner = NULL;
	for (uint32_t i = 0; i < s->n_groups; i++) {
		struct buf bytes = {0};

		if (!links[i]) {
			take_made(&f->parts[i], &s->groups[i].made);
			continue;
		}
		put_group(call, s, &s->groups[i], first, step, &bytes);
		send_group(c, call, s, f, i, links[i], &bytes);
		buf_release(&bytes);
	}
	for (uint32_t i = 0, n = s->n_groups; i < n; i++)
		if (!links[i])
			part_over(f, i); /* the last one ends f */
	free(links);
	return CALL_DONE;
}

static enum verdict fanout_by_key(struct client *c, const struct call *call)
{
	enum verdict verdict;
	struct split s;

	if (!split_call(c, call, &s)) {
		char text[96];

		refusal_arity(call, text, sizeof(text));
		client_reply_error(c, call, text);
		return CALL_DONE;
	}
	if (s.n_groups == 1)
		verdict = forward(c, call, 0, NULL, 0);
	else if (c->n_upstream > 0 && c->n_upstream + s.n_groups > CLIENT_WINDOW_MAX)
		verdict = client_wait_for(c, WAIT_DRAIN);
	else
		verdict = send_groups(c, call, &s);
	split_fini(&s);
	return verdict;
}

/* ---- each key in a part of its own ---- */

struct each_key {
	struct link *link; /* NULL: it is known, or nobody can say */
	int slot;
	int64_t about;
	struct buf made; /* an answer that is there already, or an error */
};

/* Where the key is asked for, unless its answer is there. False: the call can't go on now. */
static bool find_each(struct client *c, const struct call *call, uint32_t i, const struct fanout_each *each,
		      struct each_key *out, enum verdict *verdict)
{
	const struct rewrite_key *key = &call->rw->keys[i];
	struct target t = target_of_key(c, call, i, key->name, key->len);
	struct pool *p;

	if (each->known(c, key, &out->about, &out->made))
		return true;
	p = target_pool(c, call->cmd, &t);
	out->slot = t.slot;
	if (p && !pool_is_down(p))
		return client_route_to(c, call, p, &out->link, verdict);
	resp_error(&out->made, target_why(&t));
	return true;
}

static void send_each(struct client *c, const struct call *call, struct each_key *keys, const struct fanout_each *each)
{
	uint32_t n = call->rw->n_keys;
	struct fanout *f = fanout_new(c, call, n);

	for (uint32_t i = 0; i < n; i++) {
		struct buf bytes = {0};

		f->parts[i].about = keys[i].about;
		if (keys[i].link) {
			each->put(c, &call->rw->keys[i], &bytes);
			send_part(c, f, i, keys[i].link, keys[i].slot, buf_head(&bytes), buf_len(&bytes));
		} else {
			take_made(&f->parts[i], &keys[i].made);
		}
		buf_release(&bytes);
	}
	for (uint32_t i = 0; i < n; i++)
		if (!keys[i].link)
			part_over(f, i); /* the last one ends f */
}

enum verdict fanout_by_each_key(struct client *c, const struct call *call, const struct fanout_each *each)
{
	uint32_t n = call->rw->n_keys;
	enum verdict verdict = CALL_DONE;
	struct each_key *keys;
	bool ok;

	if (!may_fan_out(c, call, &verdict))
		return verdict;
	if (c->n_upstream > 0 && c->n_upstream + n > CLIENT_WINDOW_MAX)
		return client_wait_for(c, WAIT_DRAIN);
	keys = xcalloc(n, sizeof(*keys));
	ok = true;
	for (uint32_t i = 0; i < n && ok; i++)
		ok = find_each(c, call, i, each, &keys[i], &verdict);
	if (ok)
		send_each(c, call, keys, each);
	for (uint32_t i = 0; i < n; i++)
		buf_release(&keys[i].made);
	free(keys);
	return verdict;
}

struct pool_list {
	struct pool **items;
	int *slots; /* one that each serves: it leads a part that must be sent again to the shard's new master */
	uint32_t n;
};

/* Every master; and the replicas when scripts are to run there. */
static struct pool_list all_pools(struct client *c, const struct command *cmd)
{
	struct route *r = target_main(c);
	bool replicas = cmd->request_policy == REQUEST_ALL_NODES && r->up->conf->read_from != READ_FROM_MASTER;
	size_t n_max = (size_t)r->topo->n_shards * (1 + SHARD_REPLICAS_MAX);
	struct pool_list list = {xcalloc(n_max, sizeof(struct pool *)), xcalloc(n_max, sizeof(int)), 0};

	for (unsigned i = 0; i < r->topo->n_shards; i++) {
		const struct shard *s = &r->topo->shards[i];

		list.slots[list.n] = s->any_slot;
		if (r->masters[i])
			list.items[list.n++] = r->masters[i];
		for (unsigned j = 0; replicas && j < s->n_replicas; j++) {
			list.slots[list.n] = s->any_slot;
			if (atomic_load(&s->replicas[j]->readable))
				list.items[list.n++] = route_replica(r, c->w, i, j);
		}
	}
	return list;
}

/* A master, for what has no key. */
static struct pool_list one_pool(struct client *c, const struct command *cmd)
{
	struct target t = {target_main(c), -1, false};
	struct pool_list list = {xcalloc(1, sizeof(struct pool *)), xcalloc(1, sizeof(int)), 0};

	list.slots[0] = -1;
	list.items[0] = target_pool(c, cmd, &t);
	list.n = list.items[0] != NULL;
	return list;
}

static enum verdict fanout_to_pools(struct client *c, const struct call *call, struct pool_list list,
				    const struct buf *bytes, fanout_hook_fn rename)
{
	struct link **links = xcalloc(list.n + 1, sizeof(*links));
	enum verdict verdict = CALL_DONE;
	bool ok = list.n > 0;
	struct fanout *f;

	if (!ok)
		client_reply_own_error(c, call, ERROR_NO_MASTER);
	for (uint32_t i = 0; i < list.n && ok; i++)
		ok = client_route_to(c, call, list.items[i], &links[i], &verdict);
	if (ok) {
		f = fanout_new(c, call, list.n);
		f->rename = rename;
		if (scripts_concerned(call->cmd))
			f->up = upstream_ref(target_main(c)->up);
		if (f->up || rename)
			buf_put(&f->request, call->bytes, call->len);
		for (uint32_t i = 0; i < list.n; i++)
			send_part(c, f, i, links[i], list.slots[i], bytes ? buf_head(bytes) : call->bytes,
				  bytes ? buf_len(bytes) : call->len);
	}
	free(links);
	free(list.items);
	free(list.slots);
	return verdict;
}

/* False: it can't go on now. */
static bool may_fan_out(struct client *c, const struct call *call, enum verdict *verdict)
{
	if (call->partial) {
		*verdict = target_more(c, call);
		return false;
	}
	if (!client_in_order(c, command_may_write(call->cmd), verdict))
		return false;
	if (c->n_upstream < c->window)
		return true;
	*verdict = client_wait_for(c, WAIT_ROOM);
	return false;
}

enum verdict fanout_renamed(struct client *c, const struct call *call, const struct buf *bytes, fanout_hook_fn rename)
{
	bool all = call->cmd->request_policy == REQUEST_ALL_SHARDS;
	enum verdict verdict;

	if (!may_fan_out(c, call, &verdict))
		return verdict;
	return fanout_to_pools(c, call, (all ? all_pools : one_pool)(c, call->cmd), bytes, rename);
}

enum verdict fanout(struct client *c, const struct call *call)
{
	enum verdict verdict;

	if (!may_fan_out(c, call, &verdict))
		return verdict;
	if (scan_wanted(call->cmd))
		return scan(c, call);
	if (by_key(call->cmd))
		return fanout_by_key(c, call);
	return fanout_to_pools(c, call, all_pools(c, call->cmd), NULL, NULL);
}

/* ---- WAIT ---- */

static void give_back(struct fan_part *p)
{
	struct link *l = p->leased;

	p->leased = NULL;
	if (l)
		pool_release(l->pool, l);
}

enum verdict fanout_wait(struct client *c, const struct call *call, int64_t us)
{
	struct pool_list list = all_pools(c, call->cmd);
	struct link **links = xcalloc(list.n + 1, sizeof(*links));
	enum verdict verdict = CALL_DONE;
	uint32_t n = 0;
	struct fanout *f;

	while (n < list.n && client_lease(c, call, list.items[n], &links[n], &verdict))
		n++;
	if (n == list.n && n > 0) {
		f = fanout_new(c, call, n);
		f->parent->flags |= REQUEST_BLOCKING;
		counter_add(&c->w->counters.blocked, 1);
		c->n_blocking++;
		client_wait_for(c, WAIT_DRAIN); /* its links are given back: nothing may follow on them */
		for (uint32_t i = 0; i < n; i++) {
			forward_ping(links[i]); /* see handle_WAIT() */
			send_part(c, f, i, links[i], list.slots[i], call->bytes, call->len);
			f->parts[i].leased = links[i];
			f->parts[i].request->flags |= REQUEST_IN_TX;
			f->parts[i].request->deadline_us =
				us == 0 ? 0 : c->w->now_us + us + forward_timeout_us(links[i], NULL);
		}
	} else {
		for (uint32_t i = 0; i < n; i++)
			pool_release(links[i]->pool, links[i]);
		if (list.n == 0)
			client_reply_own_error(c, call, ERROR_NO_MASTER);
	}
	free(links);
	free(list.items);
	free(list.slots);
	return verdict;
}

/* ---- answers ---- */

static void fanout_free(struct fanout *f)
{
	for (uint32_t i = 0; i < f->n; i++) {
		give_back(&f->parts[i]);
		buf_release(&f->parts[i].reply);
	}
	buf_release(&f->request);
	upstream_unref(&f->up);
	free(f->owner);
	free(f);
}

static void part_over(struct fanout *f, uint32_t i)
{
	struct request *parent = f->parent;

	f->parts[i].request = NULL;
	give_back(&f->parts[i]);
	if (--f->n_left > 0)
		return;
	join_replies(f, &parent->reply);
	if (scripts_concerned(f->cmd))
		scripts_answered(f->up, f->cmd, &f->request, &parent->reply);
	else if (f->rename)
		f->rename(parent->client, &f->request, &parent->reply);
	parent->arg = 0;
	parent->flags &= ~(uint32_t)REQUEST_PARTED;
	fanout_free(f);
	client_request_done(parent);
}

void fanout_part_done(struct request *r, char type, int64_t number)
{
	struct fanout *f = (struct fanout *)(intptr_t)r->arg;
	struct worker *w = r->client->w;
	uint32_t i = r->part;

	f->parts[i].type = type;
	f->parts[i].number = number;
	f->parts[i].reply = r->reply;
	r->reply = (struct buf){0};
	request_free(&w->requests, &r);
	part_over(f, i);
}

static void take_made(struct fan_part *p, struct buf *reply)
{
	struct reply_item item = reply_first(buf_head(reply), buf_len(reply), '-');

	p->type = item.type;
	p->number = item.number;
	p->reply = *reply;
	*reply = (struct buf){0};
}

void fanout_part_made(struct request *r)
{
	struct fanout *f = (struct fanout *)(intptr_t)r->arg;

	take_made(&f->parts[r->part], &r->reply);
	part_over(f, r->part);
}

void fanout_part_failed(struct request *r, const char *text)
{
	struct fanout *f = (struct fanout *)(intptr_t)r->arg;
	uint32_t i = r->part;

	f->parts[i].type = '-';
	resp_error(&f->parts[i].reply, text);
	part_over(f, i);
}

void fanout_abandon(struct request *parent)
{
	struct fanout *f = (struct fanout *)(intptr_t)parent->arg;

	for (uint32_t i = 0; i < f->n; i++) {
		struct request *r = f->parts[i].request;

		if (!r)
			continue;
		r->client = NULL;
		r->on_reply = NULL;
		buf_release(&r->reply);
	}
	fanout_free(f);
}
