/* SPDX-License-Identifier: BSD-2-Clause */
/* Tokens looked up in memory, and what is said when nobody knows: see token.h. */
#include "client/token.h"

#include <string.h>

#include "base/log.h"
#include "cache/blacklist.h"
#include "client/dispatch.h"
#include "client/hub.h"
#include "client/namespace_stats.h"
#include "client/near.h"
#include "client/policy.h"
#include "client/stats.h"
#include "client/target.h"
#include "client/token_memo.h"
#include "policy/token.h"
#include "resp/write.h"
#include "server.h"

#define BATCH 16

/* ---- what is asked for ---- */

/* What a client wrote, and what it means. */
struct asked {
	const struct namespace *ns;
	const char *text; /* TOKEN.CHECK: a token; else a subject */
	size_t len;
	uint64_t tag; /* in the worker's memo */
};

static bool is_in_database(struct client *c, const struct namespace *ns)
{
	const struct upstream *up = c->w->routes[ns->conf->upstream_index].up;

	return up != target_home(c)->up || c->db == up->conf->target.db;
}

static const struct namespace *tokens_namespace(const struct worker *w)
{
	return namespaces_token_place(w->snapshot->holder->namespaces).ns;
}

/* What argument 1 means to the command. False: it is no token. */
static bool means(struct client *c, const struct command *cmd, const char *arg, size_t len, struct asked *out)
{
	const struct view view = client_view(c);
	struct name_place at;
	size_t skip;

	if (cmd->token == TOKEN_ASK) {
		*out = (struct asked){NULL, arg, len, 0};
		return !view.bound && len > 0;
	}
	at = view_key_hinted(&view, arg, len, &c->w->name_hint);
	if (!at.ns || !(at.ns->flags & NS_TOKENS) || !is_in_database(c, at.ns))
		return false;
	skip = at.cut > 0 ? at.cut : at.ns->prefix_len;
	*out = (struct asked){at.ns, arg + skip, len - skip, 0};
	return true;
}

static bool find(struct client *c, const struct command *cmd, const char *arg, size_t len, struct asked *out)
{
	struct worker *w = c->w;

	if (!means(c, cmd, arg, len, out))
		return false;
	if (!w->token_memo)
		w->token_memo = token_memo_new();
	out->tag = token_memo_tag(w->token_memo, cmd->token == TOKEN_ASK, out->text, out->len);
	token_memo_expect(w->token_memo, out->tag);
	return true;
}

static struct token_id id_of(const struct tokens *tokens, const struct command *cmd, const struct asked *asked)
{
	struct token_text subject = {asked->text, asked->len};
	struct jwt room;

	if (cmd->token == TOKEN_ASK)
		subject = tokens_subject(tokens, asked->text, asked->len, &room);
	return tokens_id(tokens, subject.p, subject.len);
}

bool token_is_static(const struct client *c, struct token_id id)
{
	return tokens_is_static(c->w->tokens, id);
}

/* ---- what memory says ---- */

bool token_mirror_holds(const struct worker *w, int64_t now_us)
{
	const struct topology *topo;
	uint64_t epochs = 0;
	bool hold = true;

	if (!w->blacklist || !blacklist_holds(w->blacklist, now_us))
		return false;
	topo = w->routes[tokens_namespace(w)->conf->upstream_index].topo;
	for (unsigned i = 0; i < topo->n_shards; i++) {
		const struct node *master = topo->shards[i].master;

		if (!master)
			continue;
		hold = hold && truth_holds(&master->truth, now_us);
		epochs += atomic_load_explicit(&master->truth.epoch, memory_order_acquire);
	}
	return hold && epochs == blacklist_epochs(w->blacklist);
}

/* Whether the mirror may be asked for this client: what its scripts did must have been heard of. */
static bool may_look(const struct client *c)
{
	return near_may_read(c) && token_mirror_holds(c->w, c->w->now_us) &&
	       (c->near.fence_us == 0 || blacklist_confirmed_us(c->w->blacklist) > c->near.fence_us);
}

/* What the worker remembers of it; made, when that is nothing. */
static struct token_memory *remember(struct client *c, const struct command *cmd, const struct asked *asked)
{
	struct worker *w = c->w;
	struct token_memory *m;
	bool known;

	m = token_memo_at(w->token_memo, asked->tag, &known);
	if (!known)
		*token_memo_id(w->token_memo, m) = id_of(w->tokens, cmd, asked);
	return m;
}

/* may: whether the mirror counts. *value: what GET says of a revoked one. */
static enum blacklist_says look(struct client *c, const struct command *cmd, const struct asked *asked, bool may,
				unsigned *value)
{
	struct token_memory *m = remember(c, cmd, asked);
	struct worker *w = c->w;
	enum blacklist_says says;
	struct token_id id;
	uint64_t mark;

	if (may && m->mark && blacklist_mark_is_fresh(w->blacklist, m->mark))
		return BLACKLIST_CLEAR;
	*value = BLACKLIST_ONE;
	id = *token_memo_id(w->token_memo, m);
	if (tokens_is_static(w->tokens, id))
		return BLACKLIST_REVOKED;
	if (!may)
		return BLACKLIST_UNKNOWN;
	mark = blacklist_mark(w->blacklist, id);
	says = blacklist_look(w->blacklist, id, w->now_us, value);
	m->mark = says == BLACKLIST_CLEAR ? mark : 0;
	return says;
}

static void put_value(const struct client *c, bool revoked, unsigned value, struct buf *out)
{
	const char *text = "1";
	size_t len = 1;

	if (revoked && value != BLACKLIST_ONE)
		text = blacklist_value_text(c->w->blacklist, value, &len);
	if (revoked)
		resp_bulk(out, text, len);
	else
		resp_null(out, c->proto);
}

/* Appends the answer. False: memory does not know it. */
static bool answer(struct client *c, const struct command *cmd, const struct asked *asked, bool may, struct buf *out)
{
	unsigned value;
	enum blacklist_says says = look(c, cmd, asked, may, &value);
	bool revoked = says == BLACKLIST_REVOKED;
	struct namespace_counts *n;

	if (says == BLACKLIST_UNKNOWN || (revoked && cmd->token == TOKEN_VALUE && value == BLACKLIST_OTHER))
		return false;
	if (cmd->token == TOKEN_VALUE)
		put_value(c, revoked, value, out);
	else
		buf_put(out, revoked ? ":1\r\n" : ":0\r\n", 4);
	if (revoked)
		counter_add(&c->w->counters.token_checks_revoked, 1);
	if (asked->ns) {
		n = &c->w->namespace_counts[asked->ns->id];
		revoked ? n->hits++ : n->misses++;
	}
	return true;
}

/* TOKEN.CHECK of several: all of them, or none. */
static bool read_many(struct client *c, struct call *call, enum verdict *verdict)
{
	uint32_t n = call->frame->argc - 1, i = 0;
	bool may = may_look(c), ok = may;
	struct buf out = {0};
	struct arg_cursor cur;
	struct asked asked;
	const char *arg;
	size_t len;

	resp_array(&out, n);
	arg_cursor_init(&cur, call->bytes, call->len);
	ok = ok && arg_cursor_next(&cur, &arg, &len); /* the name */
	for (; ok && i < n; i++)
		ok = arg_cursor_next(&cur, &arg, &len) && find(c, call->cmd, arg, len, &asked) &&
		     answer(c, call->cmd, &asked, may, &out);
	if (ok) {
		counter_add(&c->w->counters.token_checks, n);
		client_reply(c, call, &out);
		*verdict = CALL_DONE;
	} else {
		counter_add(&c->w->counters.token_checks_upstream, n);
	}
	buf_release(&out);
	return ok;
}

bool token_read(struct client *c, struct call *call, enum verdict *verdict)
{
	struct asked asked;
	struct buf out = {0};
	const char *arg;
	size_t len;

	if (call->partial || !near_may_answer(c)) /* tokens of the configuration are revoked in all states */
		return false;
	if (call->cmd->token == TOKEN_ASK && call->frame->argc > 2)
		return read_many(c, call, verdict);
	if (call->frame->argc != 2)
		return false;
	arg = call_arg(call, 1, &len);
	if (!arg || !find(c, call->cmd, arg, len, &asked))
		return false;
	if (!answer(c, call->cmd, &asked, may_look(c), &out)) {
		counter_add(&c->w->counters.token_checks_upstream, 1);
		return false;
	}
	counter_add(&c->w->counters.token_checks, 1);
	client_reply(c, call, &out);
	*verdict = CALL_DONE;
	return true;
}

/* ---- pipelines ---- */

/* Nothing is on the way that its replies would have to wait for. */
static bool is_bare(const struct client *c)
{
	const struct server *s = c->w->server;

	return !c->head && near_may_read(c) && c->reply_mode == REPLY_ON && !hub_is_subscriber(c) &&
	       atomic_load_explicit(&s->pause_mode, memory_order_relaxed) == PAUSE_NONE &&
	       atomic_load_explicit(&s->n_monitors, memory_order_relaxed) == 0;
}

/* What several requests of a pipeline ask for: all are found, which brings what is remembered of them closer, then
 * answered. */
struct batch {
	unsigned n;
	struct asked asked[BATCH];
	size_t ends[BATCH]; /* of the requests, from the beginning of the data */
};

/* At most BATCH requests from at on; those that are whole and begin like the last one. */
static void gather(struct client *c, const struct command *cmd, const char *data, size_t len, size_t at,
		   struct batch *out)
{
	struct request_frame *f = &c->frame;

	for (out->n = 0; out->n < BATCH && at < len; out->n++) {
		const struct frame_arg *arg = &f->arg[1];

		if (request_frame_feed(f, data + at, len - at) != FRAME_READY || f->known != cmd || f->argc != 2 ||
		    !find(c, cmd, data + at + arg->offset, arg->len, &out->asked[out->n]))
			return;
		at += f->len;
		out->ends[out->n] = at;
		request_frame_reset(f);
	}
}

size_t token_run(struct client *c, const char *data, size_t len)
{
	const struct command *cmd = c->frame.known;
	struct buf *out = &c->w->rewritten;
	struct batch batch;
	size_t at = 0;
	unsigned n = 0, i;
	bool may;

	if (!is_bare(c))
		return 0;
	may = may_look(c);
	out->start = out->end = 0;
	do {
		gather(c, cmd, data, len, at, &batch);
		for (i = 0; i < batch.n && answer(c, cmd, &batch.asked[i], may, out); i++) {
			c->call_len = batch.ends[i] - at;
			at = batch.ends[i];
		}
		n += i;
	} while (i == BATCH && c->out.bytes + out->end <= c->w->output_pause_bytes);
	request_frame_reset(&c->frame);
	if (n == 0)
		return 0;
	client_put_reply(c, out->data, out->end);
	c->active_us = c->w->now_us;
	stats_count_quick(c->w, cmd, n);
	counter_add(&c->w->counters.token_checks, n);
	counter_add(&c->w->counters.commands, n);
	return at;
}

/* ---- when nobody knows ---- */

uint64_t token_key(const struct client *c, struct token_id id)
{
	return c->w->blacklist ? blacklist_key(c->w->blacklist, id) : 0;
}

bool token_failure_says(struct client *c, uint64_t key)
{
	static struct log_limit denied, allowed;
	struct counters *n = &c->w->counters;
	bool deny = true;

	if (!c->w->tokens) /* it was asked before a reload took the list away */
		return deny;
	deny = tokens_conf(c->w->tokens)->on_failure == TOKEN_FAILURE_DENY;
	if (!deny && c->w->blacklist && blacklist_was_revoked(c->w->blacklist, key, c->w->now_us))
		return true;
	if (deny && log_limit_pass(&denied))
		log_warn("Tokens can't be looked up: they count as revoked (token_blacklist.on_failure = \"deny\")");
	else if (!deny && log_limit_pass(&allowed))
		log_warn("Tokens can't be looked up: they count as good (token_blacklist.on_failure = \"allow\")");
	counter_add(deny ? &n->token_failures_denied : &n->token_failures_allowed, 1);
	return deny;
}

static bool failure_says(struct client *c, struct token_id id)
{
	return tokens_is_static(c->w->tokens, id) || token_failure_says(c, token_key(c, id));
}

/* Argument i of the bytes as a key of the list. */
static bool key_at(struct client *c, const struct call *call, uint32_t i, struct token_id *id)
{
	size_t len;
	const char *key = call_arg(call, i, &len);

	return key && tokens_id_of_key(c->w->tokens, key, len, id);
}

/* All arguments from the first on are keys of the list. */
static bool are_keys(struct client *c, const struct call *call)
{
	struct token_id id;

	for (uint32_t i = 1; i < call->frame->argc; i++)
		if (!key_at(c, call, i, &id))
			return false;
	return call->frame->argc > 1;
}

static void put_each(struct client *c, const struct call *call, struct buf *out)
{
	struct token_id id;

	if (call->frame->argc > 2)
		resp_array(out, call->frame->argc - 1);
	for (uint32_t i = 1; i < call->frame->argc; i++)
		resp_int(out, key_at(c, call, i, &id) && failure_says(c, id));
}

static void put_number(struct client *c, const struct call *call, struct buf *out)
{
	struct token_id id;
	int64_t n = 0;

	for (uint32_t i = 1; i < call->frame->argc; i++)
		n += key_at(c, call, i, &id) && failure_says(c, id);
	resp_int(out, n);
}

bool token_stand_in(struct client *c, const struct command *cmd, struct slice bytes, struct buf *out)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct call call = {.cmd = cmd, .frame = &f, .bytes = bytes.p, .len = bytes.len};
	struct token_id id;

	if (!token_asks(cmd) || c->tx != TX_NONE || request_frame_feed(&f, bytes.p, bytes.len) != FRAME_READY ||
	    !are_keys(c, &call))
		return false;
	if (cmd->token == TOKEN_ASK)
		put_each(c, &call, out);
	else if (cmd->token == TOKEN_THERE)
		put_number(c, &call, out);
	else if (key_at(c, &call, 1, &id) && failure_says(c, id))
		resp_bulk(out, "1", 1);
	else
		resp_null(out, c->proto);
	return true;
}

/* Redis can't say: an error of another kind is about the command, or about what is kept there. */
static bool is_failure(const char *error, size_t len)
{
	return !(len > 5 && memcmp(error, "-ERR ", 5) == 0) && !(len > 10 && memcmp(error, "-WRONGTYPE", 10) == 0);
}

bool token_error(const struct request *r, struct link *l, const char *error, size_t len, struct buf *out)
{
	struct buf bytes = {0};
	bool ok = r->client->w->tokens && r->cmd && token_asks(r->cmd) && !r->on_reply && l->kind == LINK_SHARED &&
		  !(r->flags & (REQUEST_IN_TX | REQUEST_STREAMED)) && is_failure(error, len) &&
		  outq_peek(&l->out, r->pos, (size_t)r->len, &bytes) &&
		  token_stand_in(r->client, r->cmd, policy_inner(r, &bytes), out);

	buf_release(&bytes);
	return ok;
}
