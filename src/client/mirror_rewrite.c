/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands that would not do the same again on the mirror: what they did is said by their replies.
 *
 *   BLPOP a b 5            LREM a 1 value            (b was popped from: LREM b 1 value)
 *   BLMOVE a b LEFT ..     LREM a 1 value; RPUSH b value
 *   BLMPOP, BZPOPMIN ..    LREM, ZREM of each element
 *   XADD k * f v           XADD k 1700-0 f v
 *
 * A client that is blocked pops what another pushes, and the answers to both come at the same time over different
 * links. LPOP would pop something else, or nothing, when it comes to the mirror before the push; an element that is
 * removed by its value can be looked for again in a moment (mirror_send.c).
 */
#include <string.h>

#include "client/mirror_private.h"
#include "resp/number.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

bool mirror_pops(const struct command *cmd)
{
	return cmd->flags & CMD_WRITE && cmd->handler == HANDLER_BLOCKING &&
	       (cmd->timeout == TIMEOUT_LAST_SECONDS || cmd->timeout == TIMEOUT_FIRST_SECONDS) &&
	       cmd->categories & (CAT_LIST | CAT_SORTEDSET);
}

bool mirror_makes_ids(const struct command *cmd)
{
	return cmd->categories & CAT_STREAM && cmd->flags & CMD_WRITE;
}

/* ---- pops ---- */

struct pop {
	const struct call *call;
	const struct command_set *learnt;
	mirror_emit_fn emit;
	void *ctx;
	bool left; /* lists: which end */
};

/* name key [middle] value */
static void emit(const struct pop *pop, const char *name, const struct reply_item *key, const char *middle,
		 const struct reply_item *value)
{
	const struct command *cmd = command_find(pop->learnt, name, strlen(name), NULL, 0);
	struct buf out = {0};

	resp_array(&out, middle ? 4 : 3);
	resp_bulks(&out, name);
	resp_bulk(&out, key->text, key->len);
	if (middle)
		resp_bulks(&out, middle);
	resp_bulk(&out, value->text, value->len);
	pop->emit(pop->ctx, cmd, &out);
	buf_release(&out);
}

static bool from_list(const struct pop *pop)
{
	return pop->call->cmd->categories & CAT_LIST;
}

static void remove_one(const struct pop *pop, const struct reply_item *key, const struct reply_item *value)
{
	if (from_list(pop))
		emit(pop, "lrem", key, pop->left ? "1" : "-1", value);
	else
		emit(pop, "zrem", key, NULL, value);
}

/* The key, then what was popped from it: elements of a list, or members with their scores. */
static void popped(const struct pop *pop, struct reply_cursor cur)
{
	struct reply_item key, item, score;

	if (!reply_cursor_next(&cur, &item) || !reply_cursor_next(&cur, &key))
		return;
	while (reply_cursor_next(&cur, &item)) {
		if (item.type == '*')
			continue;
		remove_one(pop, &key, &item);
		if (!from_list(pop))
			reply_cursor_next(&cur, &score);
	}
}

static bool arg_item(const struct call *call, uint32_t i, struct reply_item *item)
{
	*item = (struct reply_item){.type = '$'};
	item->text = call_arg(call, i, &item->len);
	return item->text != NULL;
}

/* BLMOVE src dst LEFT|RIGHT LEFT|RIGHT timeout, BRPOPLPUSH src dst timeout. */
static void moved(const struct pop *pop, struct reply_cursor cur)
{
	bool to_left = pop->call->frame->argc <= 4 || call_arg_is(pop->call, 4, "LEFT");
	struct reply_item from, to, value;

	if (!reply_cursor_next(&cur, &value) || !arg_item(pop->call, 1, &from) || !arg_item(pop->call, 2, &to))
		return;
	remove_one(pop, &from, &value);
	emit(pop, to_left ? "lpush" : "rpush", &to, NULL, &value);
}

/* At which end: the command says so in its name, or in an argument: BLMOVE, or BLMPOP timeout n key ... LEFT|RIGHT. */
static bool pops_left(const struct call *call)
{
	int64_t n;

	if (call->cmd->timeout == TIMEOUT_FIRST_SECONDS)
		return call_arg_int(call, 2, &n) && n > 0 && n < call->frame->argc &&
		       call_arg_is(call, 3 + (uint32_t)n, "LEFT");
	return call->cmd->arity == 6 ? call_arg_is(call, 3, "LEFT") : call->cmd->name[1] == 'l';
}

bool mirror_popped(const struct call *call, const struct buf *reply, const struct command_set *learnt,
		   mirror_emit_fn emit_fn, void *ctx)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct pop pop = {call, learnt, emit_fn, ctx, pops_left(call)};

	if (buf_len(reply) > MIRROR_BYTES_MAX)
		return false;
	if (*cur.p == '*')
		popped(&pop, cur);
	else if (*cur.p == '$' && from_list(&pop) && cur.p[1] != '-')
		moved(&pop, cur);
	return true;
}

/* ---- XADD ---- */

static void put_args(const struct call *call, uint32_t first, uint32_t end, struct buf *out)
{
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; i < end && arg_cursor_next(&cur, &arg, &len); i++)
		if (i >= first)
			resp_bulk(out, arg, len);
}

static bool is_id(const char *arg, size_t len, const struct reply_item *id)
{
	if (len == id->len && memcmp(arg, id->text, len) == 0)
		return true;
	/* "5" is "5-0" */
	return len + 2 == id->len && memcmp(arg, id->text, len) == 0 && memcmp(id->text + len, "-0", 2) == 0;
}

/* "*" or "1700-*" */
static bool is_made(const char *arg, size_t len)
{
	return len > 0 && arg[len - 1] == '*' && (len == 1 || (len > 2 && arg[len - 2] == '-'));
}

/* Of the commands that write streams only XADD answers with a string: the ID, which Redis may have made. */
bool mirror_with_id(const struct call *call, const struct buf *reply, struct buf *out)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct arg_cursor args;
	struct reply_item id;
	const char *arg;
	size_t len;

	if (!reply_cursor_next(&cur, &id) || id.type != '$' || id.number < 0)
		return false;
	arg_cursor_init(&args, call->bytes, call->len);
	for (uint32_t i = 0; arg_cursor_next(&args, &arg, &len); i++) {
		if (i < 2)
			continue;
		if (is_id(arg, len, &id))
			return false;
		if (!is_made(arg, len))
			continue;
		resp_array(out, call->frame->argc);
		put_args(call, 0, i, out);
		resp_bulk(out, id.text, id.len);
		put_args(call, i + 1, call->frame->argc, out);
		return true;
	}
	return false;
}
