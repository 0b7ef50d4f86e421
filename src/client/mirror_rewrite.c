/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands that would not do the same again on the mirror: what they did is said by their replies.
 *
 *   BLPOP a b 5          LPOP a                 (b was popped from: LPOP b)
 *   BLMOVE a b .. 5      LMOVE a b ..
 *   BLMPOP 5 2 a b ..    LMPOP 1 a ..
 *   XADD k * f v         XADD k 1700-0 f v
 *
 * A blocking command's name without the B is that of the command that does not block; a time-out stands where the
 * command table says.
 */
#include <string.h>

#include "client/mirror_private.h"
#include "resp/number.h"
#include "resp/reply_frame.h"
#include "resp/write.h"

static bool blocks(const struct command *cmd)
{
	return cmd->flags & CMD_BLOCKING && cmd->flags & CMD_WRITE;
}

static bool may_make_ids(const struct command *cmd)
{
	return cmd->categories & CAT_STREAM && cmd->flags & CMD_WRITE;
}

bool mirror_rewrites(const struct command *cmd)
{
	return blocks(cmd) || may_make_ids(cmd);
}

/* ---- blocking ---- */

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

/* BLMPOP timeout n key ... LEFT|RIGHT [COUNT n]: where what follows the keys begins; 0: nowhere. */
static uint32_t behind_keys(const struct call *call)
{
	int64_t n;

	if (!call_arg_int(call, 2, &n) || n < 1 || n > call->frame->argc || 3 + (uint32_t)n >= call->frame->argc)
		return 0;
	return 3 + (uint32_t)n;
}

static enum rewrite popped(const struct call *call, const struct reply_item *key, const char *name, struct buf *out)
{
	uint32_t rest = call->frame->argc;

	if (call->cmd->timeout == TIMEOUT_FIRST_SECONDS) {
		rest = behind_keys(call);
		if (rest == 0)
			return REWRITE_NOTHING;
		resp_array(out, 3 + call->frame->argc - rest);
		resp_bulks(out, name);
		resp_bulks(out, "1");
	} else {
		resp_array(out, 2);
		resp_bulks(out, name);
	}
	resp_bulk(out, key->text, key->len);
	put_args(call, rest, call->frame->argc, out);
	return REWRITE_DONE;
}

static bool is_nil(struct reply_cursor cur)
{
	return cur.end - cur.p < 3 || *cur.p == '_' || memcmp(cur.p + 1, "-1", 2) == 0;
}

static enum rewrite unblocked(const struct call *call, struct reply_cursor cur, const struct command_set *learnt,
			      struct buf *out, const struct command **cmd)
{
	const char *name = call->cmd->name + 1;
	struct reply_item item, key;

	*cmd = command_find(learnt, name, strlen(name), NULL, 0);
	if (!*cmd || call->cmd->timeout == TIMEOUT_BLOCK_OPTION || is_nil(cur))
		return REWRITE_NOTHING;
	if (*cur.p == '*' && reply_cursor_next(&cur, &item) && reply_cursor_next(&cur, &key))
		return popped(call, &key, name, out);
	/* The element that was moved may be too large to be here whole. */
	if (*cur.p != '$' || call->cmd->timeout != TIMEOUT_LAST_SECONDS)
		return REWRITE_NOTHING;
	resp_array(out, call->frame->argc - 1);
	resp_bulks(out, name);
	put_args(call, 1, call->frame->argc - 1, out);
	return REWRITE_DONE;
}

/* ---- XADD ---- */

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
static enum rewrite with_id(const struct call *call, struct reply_cursor cur, struct buf *out)
{
	struct arg_cursor args;
	struct reply_item id;
	const char *arg;
	size_t len;

	if (!reply_cursor_next(&cur, &id) || id.type != '$' || id.number < 0)
		return REWRITE_NONE;
	arg_cursor_init(&args, call->bytes, call->len);
	for (uint32_t i = 0; arg_cursor_next(&args, &arg, &len); i++) {
		if (i < 2)
			continue;
		if (is_id(arg, len, &id))
			return REWRITE_NONE;
		if (!is_made(arg, len))
			continue;
		resp_array(out, call->frame->argc);
		put_args(call, 0, i, out);
		resp_bulk(out, id.text, id.len);
		put_args(call, i + 1, call->frame->argc, out);
		return REWRITE_DONE;
	}
	return REWRITE_NONE;
}

enum rewrite mirror_rewrite(const struct call *call, const struct buf *reply, const struct command_set *learnt,
			    struct buf *out, const struct command **cmd)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};

	*cmd = call->cmd;
	if (blocks(call->cmd))
		return unblocked(call, cur, learnt, out, cmd);
	return may_make_ids(call->cmd) ? with_id(call, cur, out) : REWRITE_NONE;
}
