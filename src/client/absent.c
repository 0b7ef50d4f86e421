/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers while Redis is not there: see absent.h. */
#include "client/absent.h"

#include "client/near.h"
#include "client/policy.h"
#include "client/target.h"
#include "client/token.h"
#include "resp/write.h"

#define OPTIONS_MAX 16

static void put_each(struct client *c, uint32_t n, bool zero, struct buf *b)
{
	resp_array(b, n);
	for (uint32_t i = 0; i < n; i++) {
		if (zero)
			resp_int(b, 0);
		else
			resp_null(b, c->proto);
	}
}

static void put_null_array(const struct client *c, struct buf *b)
{
	buf_puts(b, c->proto == 3 ? "_\r\n" : "*-1\r\n");
}

static bool has_option(const struct call *call, uint32_t from, const char *word)
{
	for (uint32_t i = from; i < call->frame->argc && i < from + OPTIONS_MAX; i++)
		if (call_arg_is(call, i, word))
			return true;
	return false;
}

/* What is always the same, in RESP2 and RESP3. */
static const char *const constants[][2] = {
	[ABSENT_ERROR] = {"", ""},
	[ABSENT_NULL] = {"$-1\r\n", "_\r\n"},
	[ABSENT_NULL_ARRAY] = {"*-1\r\n", "_\r\n"},
	[ABSENT_SCAN] = {"*2\r\n$1\r\n0\r\n*0\r\n", "*2\r\n$1\r\n0\r\n*0\r\n"},
	[ABSENT_ARRAY] = {"*0\r\n", "*0\r\n"},
	[ABSENT_MAP] = {"*0\r\n", "%0\r\n"},
	[ABSENT_SET] = {"*0\r\n", "~0\r\n"},
	[ABSENT_EMPTY] = {"$0\r\n\r\n", "$0\r\n\r\n"},
	[ABSENT_NONE] = {"+none\r\n", "+none\r\n"},
	[ABSENT_ZERO] = {":0\r\n", ":0\r\n"},
	[ABSENT_NO_TTL] = {":-2\r\n", ":-2\r\n"},
	[ABSENT_OK] = {"+OK\r\n", "+OK\r\n"},
	[ABSENT_ONE] = {":1\r\n", ":1\r\n"},
};

static void put(struct client *c, const struct call *call, struct buf *b)
{
	uint32_t argc = call->frame->argc;

	switch ((enum command_absent)call->cmd->absent) {
	case ABSENT_NULL_OR_ARRAY:
		if (argc > 2 && (call->cmd->arity == -2 || has_option(call, 3, "COUNT")))
			resp_array(b, 0);
		else
			resp_null(b, c->proto);
		break;
	case ABSENT_NULL_ARRAY_EACH_ARG:
		resp_array(b, argc - 2);
		for (uint32_t i = 2; i < argc; i++)
			put_null_array(c, b);
		break;
	case ABSENT_BITPOS:
		resp_int(b, call_arg_is(call, 2, "0") ? 0 : -1);
		break;
	case ABSENT_SET_OPTIONS:
		if (has_option(call, 3, "GET"))
			resp_null(b, c->proto);
		else
			resp_simple(b, "OK");
		break;
	case ABSENT_NULL_EACH_KEY:
		put_each(c, argc - 1, false, b);
		break;
	case ABSENT_NULL_EACH_ARG:
		put_each(c, argc - 2, false, b);
		break;
	case ABSENT_ZERO_EACH_ARG:
		put_each(c, argc - 2, true, b);
		break;
	case ABSENT_COUNT_KEYS:
		resp_int(b, (int64_t)argc - 1);
		break;
	default:
		buf_puts(b, constants[call->cmd->absent][c->proto == 3]);
		break;
	}
}

struct judged {
	const struct worker *w;
	const struct rewrite *rw;
	bool any;
	bool other; /* a key whose namespace wants the error */
};

static void judge(void *ctx, uint32_t i, const char *key, size_t len)
{
	struct judged *j = ctx;
	const struct namespace_config *ns;

	if (j->rw) /* its name upstream says nothing any more */
		ns = j->rw->keys[i].at.ns ? j->rw->keys[i].at.ns->conf : NULL;
	else
		ns = target_namespace(j->w, key, len);
	j->any = true;
	j->other = j->other || !ns || ns->on_failure != ON_FAILURE_MISS;
}

/* Whether the call may be answered so: all its keys must want it. */
static bool wanted(const struct client *c, const struct call *call)
{
	struct judged j = {.w = c->w, .rw = call->rw};

	if (call->cmd->absent == ABSENT_ERROR || call->partial || c->tx != TX_NONE ||
	    !command_arity_ok(call->cmd, call->frame->argc))
		return false;
	target_each_key(call, judge, &j);
	return j.any && !j.other;
}

bool absent_make(struct client *c, const struct call *call, struct buf *out)
{
	if (c->w->tokens && !call->partial && token_stand_in(c, call->cmd, (struct slice){call->bytes, call->len}, out))
		return true;
	if (c->w->near && !call->partial && near_last(c, call->cmd, (struct slice){call->bytes, call->len}, false, out))
		return true;
	if (!wanted(c, call))
		return false;
	put(c, call, out);
	counter_add(&c->w->counters.answered_absent, 1);
	return true;
}

bool absent_answer(struct client *c, const struct call *call)
{
	struct buf b = {0};

	if (!absent_make(c, call, &b))
		return false;
	if (call->near && call->near->merge)
		near_merge_reply(call->near->merge, &b);
	client_reply(c, call, &b);
	return true;
}

bool absent_make_of(struct client *c, const struct command *cmd, struct slice bytes, bool misses, struct buf *out)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct call call = {.cmd = cmd, .frame = &f, .bytes = bytes.p, .len = bytes.len};

	if (request_frame_feed(&f, call.bytes, call.len) != FRAME_READY)
		return false;
	if (!c->w->policy)
		return absent_make(c, &call, out);
	if (c->w->tokens && token_stand_in(c, cmd, bytes, out))
		return true;
	if (c->w->near && near_last(c, cmd, bytes, true, out))
		return true;
	if (!misses || cmd->absent == ABSENT_ERROR || c->tx != TX_NONE)
		return false;
	put(c, &call, out);
	counter_add(&c->w->counters.answered_absent, 1);
	return true;
}

static bool may_stand_in(const struct request *r)
{
	return r->cmd && (r->cmd->absent != ABSENT_ERROR || r->cmd->cache != CACHE_NONE) && !r->on_reply &&
	       !(r->flags & (REQUEST_IN_TX | REQUEST_STREAMED | REQUEST_BEGUN)) &&
	       (r->flags & (REQUEST_UNIT | REQUEST_WRAPPED)) != REQUEST_UNIT;
}

bool absent_stand_in_of(struct request *r, const struct buf *bytes)
{
	struct buf reply = {0};

	if (!may_stand_in(r) ||
	    !absent_make_of(r->client, r->cmd, policy_inner(r, bytes), r->flags & REQUEST_MISS, &reply))
		return false;
	buf_release(&r->reply);
	r->reply = reply;
	policy_fix_free(&r->fix); /* it is in the client's form already */
	return true;
}

bool absent_stand_in(struct request *r, const struct outq *sent)
{
	struct buf bytes = {0};
	bool ok = may_stand_in(r) && outq_peek(sent, r->pos, (size_t)r->len, &bytes) && absent_stand_in_of(r, &bytes);

	buf_release(&bytes);
	return ok;
}
