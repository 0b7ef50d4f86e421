/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The short way of a pipeline: requests that begin alike and only need forwarding, taken in one loop. In a Cluster each
 * goes to its node; in namespaces each gets its upstream name, and a plain SET its time to live (PSETEX).
 * Whatever needs more is left to the long way, dispatch().
 */
#include <string.h>

#include "client/client.h"
#include "client/hot_keys.h"
#include "client/hub.h"
#include "client/limit.h"
#include "client/near.h"
#include "client/target.h"
#include "client/token.h"
#include "server.h"

/* Nothing stands before a command of the client's that only needs forwarding over l. */
static bool is_bare(const struct client *c, const struct link *l)
{
	const struct server *s = c->w->server;

	return l && !c->bound && !l->retired && l->db == c->db && l->proto == c->proto && c->tx == TX_NONE &&
	       c->tx_run == 0 && c->n_parked == 0 && c->generation == c->w->generation && c->reply_mode == REPLY_ON &&
	       !c->upload && !c->discarding && c->out.bytes <= c->w->output_pause_bytes && !hub_is_subscriber(c) &&
	       atomic_load_explicit(&s->pause_mode, memory_order_relaxed) == PAUSE_NONE &&
	       atomic_load_explicit(&s->n_monitors, memory_order_relaxed) == 0;
}

/* Whether the frame knows where cmd's one key is. */
static bool key_is_at_hand(const struct command *cmd)
{
	return command_has_one_place(cmd) && cmd->specs->begin_index < FRAME_ARGS && !(cmd->specs->flags & KEY_NOT_KEY);
}

/* Whether cmd's one key says all about where it goes. */
static bool goes_by_slot(const struct client *c, const struct command *cmd)
{
	const struct route *r = &c->w->routes[0];

	return c->w->n_routes == 1 && r->topo->slots && r->up->conf->read_from == READ_FROM_MASTER &&
	       key_is_at_hand(cmd);
}

/* The link for a key of this slot, when it is there and nothing is to be waited for. */
static struct link *link_of_slot(struct client *c, unsigned slot)
{
	struct pool *p = route_master(&c->w->routes[0], (int)slot);
	struct lane *lane;
	struct link *l;

	if (!p || pool_is_down(p))
		return NULL;
	lane = client_lane(c, p);
	l = lane->link;
	if (!l && pool_shared(p, c->proto, c->db, &l) != POOL_OK)
		return NULL;
	return is_bare(c, l) && l->n_queue < LINK_QUEUE_MAX && l->out.bytes < LINK_BYTES_MAX ? l : NULL;
}

/* forward_run() in a Cluster: one by one, each to its node. */
static size_t forward_run_by_slot(struct client *c, const char *data, size_t len)
{
	struct request_frame *f = &c->frame;
	struct call call = {.cmd = f->known, .frame = f};
	const struct command *cmd = call.cmd;
	size_t at = 0;

	while (at < len && c->n_upstream < c->window && c->bytes_upstream <= CLIENT_BYTES_MAX) {
		const struct frame_arg *key;
		struct request *r;
		struct link *l;
		unsigned slot;

		if (request_frame_feed(f, data + at, len - at) != FRAME_READY || f->known != cmd ||
		    !command_arity_ok(cmd, f->argc))
			break;
		key = &f->arg[cmd->specs->begin_index];
		slot = hash_slot(data + at + key->offset, key->len);
		l = link_of_slot(c, slot);
		if (!l)
			break;
		r = client_request_new(c, &call);
		r->flags |= command_may_write(cmd) ? REQUEST_WRITE : 0;
		r->slot = (int16_t)slot;
		r->deadline_us = c->w->now_us + forward_timeout_us(l, cmd);
		client_send(c, r, l, data + at, f->len);
		c->call_len = f->len;
		hot_keys_pass(c, cmd, f, data + at);
		at += f->len;
		counter_add(&c->w->counters.commands, 1);
		request_frame_reset(f);
	}
	request_frame_reset(f);
	c->active_us = c->w->now_us;
	return at;
}

/* n requests over l are enqueued: their bytes. */
static void sent_run(struct client *c, struct link *l, unsigned n, const char *bytes, size_t len)
{
	link_put(l, bytes, len);
	client_lane(c, l->pool)->n += n;
	c->n_upstream += n;
	c->bytes_upstream += len;
	c->active_us = c->w->now_us;
	counter_add(&c->w->counters.commands, n);
}

/* ---- in namespaces ---- */

struct named_run {
	const struct command *cmd;
	struct view view;
	uint32_t refuse; /* namespace_flags that want the long way */
	bool sets;	 /* SET key value */
};

/* Whether the command can go the short way at all. */
static bool named_run_fits(const struct client *c, const struct command *cmd, struct named_run *run)
{
	if (!key_is_at_hand(cmd) || cmd->names != NAMES_NONE)
		return false;
	*run = (struct named_run){cmd, client_view(c), NS_SEALS | NS_HASHES | NS_TOKENS, cmd->ttl == TTL_SET};
	run->refuse |= cmd->cache != CACHE_NONE ? NS_NEAR : 0;
	if (command_may_write(cmd))
		run->refuse |= NS_READONLY | (run->sets ? 0 : NS_TTL | NS_MAX_TTL);
	else
		run->refuse |= NS_SLIDING;
	return true;
}

/* In decimal; returns how many digits. */
static unsigned write_number(char *out, uint64_t n)
{
	char digits[20];
	unsigned len = 0, i = 0;

	do {
		digits[len++] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	for (; i < len; i++)
		out[i] = digits[len - 1 - i];
	return len;
}

static char *put_bytes(char *p, const char *from, size_t n)
{
	memcpy(p, from, n);
	return p + n;
}

static char *put_length(char *p, size_t n)
{
	*p++ = '$';
	p += write_number(p, n);
	return put_bytes(p, "\r\n", 2);
}

static char *put_number_bulk(char *p, uint64_t n)
{
	char digits[20];
	unsigned len = write_number(digits, n);

	p = put_length(p, len);
	p = put_bytes(p, digits, len);
	return put_bytes(p, "\r\n", 2);
}

#define NAMED_ROOM 96 /* what a request may grow by, beside its prefix */

/*
 * Appends the request of f to out as it is upstream. False: it needs the long way. *ns: 1 + id of its namespace, or 0;
 * *wrote: as in struct request.
 */
static bool put_named(struct client *c, const struct named_run *run, const struct request_frame *f, const char *data,
		      struct buf *out, uint16_t *ns, uint64_t *wrote)
{
	const struct frame_arg *key = &f->arg[run->cmd->specs->begin_index];
	const char *name = data + key->offset, *end = name + key->len, *head = name - 2;
	struct name_place at = view_key_hinted(&run->view, name, key->len, &c->w->name_hint);
	uint32_t flags = at.ns ? at.ns->flags : 0;
	bool expires = run->sets && flags & NS_TTL;
	char *p;

	if (flags & run->refuse || (!at.ns && namespaces_strict(run->view.all)) || (run->sets && f->argc != 3) ||
	    flags & NS_MISS || !buf_reserve(out, f->len + at.put_len + NAMED_ROOM))
		return false;
	*ns = at.ns ? (uint16_t)(at.ns->id + 1) : 0;
	*wrote = flags & NS_NEAR ? near_pass_key(c, run->cmd, &at, name, key->len) : 0;
	while (*head != '$')
		head--;
	p = out->data + out->end;
	if (expires)
		p = put_bytes(p, "*4\r\n$6\r\nPSETEX\r\n", 16);
	else
		p = put_bytes(p, data, (size_t)(head - data));
	p = put_length(p, at.put_len + key->len - at.cut);
	p = put_bytes(p, at.put, at.put_len);
	p = put_bytes(p, name + at.cut, key->len - at.cut);
	if (expires) {
		p = put_bytes(p, "\r\n", 2);
		p = put_number_bulk(p, (uint64_t)ttl_jittered_ms(at.ns->conf, &c->w->random));
		end += 2;
	}
	p = put_bytes(p, end, (size_t)(data + f->len - end));
	out->end = (size_t)(p - out->data);
	return true;
}

static size_t forward_run_named(struct client *c, struct link *l, const char *data, size_t len)
{
	struct request_frame *f = &c->frame;
	struct call call = {.cmd = f->known, .frame = f};
	struct buf *out = &c->w->rewritten;
	struct named_run run;
	uint32_t n = 0, stop = hot_run_stop(c);
	size_t at = 0;

	if (!named_run_fits(c, call.cmd, &run))
		return 0;
	if (c->w->near)
		near_begin(c);
	out->start = out->end = 0;
	while (at < len && (n < stop || n < (stop = hot_run_on(c, call.cmd, n, data + at))) &&
	       l->n_queue < LINK_QUEUE_MAX && c->bytes_upstream + out->end <= CLIENT_BYTES_MAX &&
	       l->out.bytes + out->end < LINK_BYTES_MAX) {
		size_t before = out->end;
		struct request *r;
		uint64_t wrote;
		uint16_t ns;

		if (request_frame_feed(f, data + at, len - at) != FRAME_READY || f->known != call.cmd ||
		    !command_arity_ok(call.cmd, f->argc) || !put_named(c, &run, f, data + at, out, &ns, &wrote))
			break;
		r = client_request_new(c, &call);
		r->flags |= command_may_write(call.cmd) ? REQUEST_WRITE : 0;
		r->ns = ns;
		r->wrote = wrote;
		r->deadline_us = c->w->now_us + forward_timeout_us(l, call.cmd);
		link_enqueue(l, r, l->out.end_pos + before, out->end - before);
		c->call_len = f->len;
		at += f->len;
		n++;
		request_frame_reset(f);
	}
	request_frame_reset(f);
	hot_run_end(c, call.cmd, n, data + at);
	if (n > 0)
		sent_run(c, l, n, out->data, out->end);
	return at;
}

size_t forward_run(struct client *c, const char *data, size_t len)
{
	struct request_frame *f = &c->frame;
	struct call call = {.cmd = f->known, .frame = f};
	struct lane *lane = c->w->only ? client_lane(c, c->w->only) : NULL;
	struct link *l = lane ? lane->link : NULL;
	uint32_t n = 0, stop = hot_run_stop(c);
	size_t at = 0;

	if (!call.cmd || limit_wanted(c, call.cmd))
		return 0;
	if (__builtin_expect(c->w->tokens != NULL, 0) && token_asks(call.cmd)) {
		at = token_run(c, data, len);
		if (at > 0 || f->known != call.cmd)
			return at;
	}
	if (call.cmd->handler != HANDLER_FORWARD)
		return 0;
	if (c->w->near && call.cmd->cache != CACHE_NONE) {
		at = near_run(c, data, len);
		if (at > 0 || f->known != call.cmd) /* it saw that something else comes */
			return at;
	}
	if (!c->w->only && !c->w->policy && goes_by_slot(c, call.cmd))
		return forward_run_by_slot(c, data, len);
	if (!is_bare(c, l))
		return 0;
	if (c->w->policy)
		return forward_run_named(c, l, data, len);
	while (at < len && (n < stop || n < (stop = hot_run_on(c, call.cmd, n, data + at))) &&
	       l->n_queue < LINK_QUEUE_MAX && c->bytes_upstream + at <= CLIENT_BYTES_MAX &&
	       l->out.bytes + at < LINK_BYTES_MAX) {
		struct request *r;

		if (request_frame_feed(f, data + at, len - at) != FRAME_READY || f->known != call.cmd ||
		    !command_arity_ok(call.cmd, f->argc))
			break;
		r = client_request_new(c, &call);
		r->flags |= command_may_write(call.cmd) ? REQUEST_WRITE : 0;
		r->deadline_us = c->w->now_us + forward_timeout_us(l, call.cmd);
		link_enqueue(l, r, l->out.end_pos + at, f->len);
		c->call_len = f->len;
		at += f->len;
		n++;
		request_frame_reset(f);
	}
	request_frame_reset(f); /* what is not taken is looked at anew */
	hot_run_end(c, call.cmd, n, data + at);
	if (n > 0)
		sent_run(c, l, n, data, at);
	return at;
}
