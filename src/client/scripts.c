/* SPDX-License-Identifier: BSD-2-Clause */
/* Scripts and functions on every node: see scripts.h. */
#include "client/scripts.h"

#include <string.h>

#include "client/dispatch.h"
#include "client/throttle.h"
#include "resp/reply_frame.h"
#include "upstream/upstream.h"

bool scripts_concerned(const struct command *cmd)
{
	switch (cmd->handler) {
	case HANDLER_SCRIPT_LOAD:
	case HANDLER_SCRIPT_FLUSH:
	case HANDLER_FUNCTION_LOAD:
	case HANDLER_FUNCTION_DELETE:
	case HANDLER_FUNCTION_FLUSH:
		return true;
	default:
		return false;
	}
}

static const char *arg_of(struct slice request, unsigned index, size_t *len)
{
	struct arg_cursor cur;
	const char *arg;

	arg_cursor_init(&cur, request.p, request.len);
	for (unsigned i = 0; arg_cursor_next(&cur, &arg, len); i++)
		if (i == index)
			return arg;
	return NULL;
}

void scripts_answered(struct upstream *up, const struct command *cmd, const struct buf *request,
		      const struct buf *reply)
{
	struct reply_cursor cur = {buf_head(reply), buf_head(reply) + buf_len(reply)};
	struct reply_item item;
	const char *name;
	size_t len;

	if (!reply_cursor_next(&cur, &item) || item.type == '-')
		return;
	switch (cmd->handler) {
	case HANDLER_SCRIPT_LOAD: /* answered with the SHA1 */
		loaded_add(up->loaded, LOADED_SCRIPT, item.text, item.len, buf_head(request), buf_len(request));
		break;
	case HANDLER_FUNCTION_LOAD: /* answered with the library's name */
		loaded_add(up->loaded, LOADED_FUNCTIONS, item.text, item.len, buf_head(request), buf_len(request));
		break;
	case HANDLER_SCRIPT_FLUSH:
		loaded_remove(up->loaded, LOADED_SCRIPT, NULL, 0);
		break;
	case HANDLER_FUNCTION_FLUSH:
		loaded_remove(up->loaded, LOADED_FUNCTIONS, NULL, 0);
		break;
	default:
		name = arg_of((struct slice){buf_head(request), buf_len(request)}, 2, &len);
		if (name)
			loaded_remove(up->loaded, LOADED_FUNCTIONS, name, len);
		break;
	}
}

unsigned scripts_missing(struct upstream *up, const char *line, size_t len, struct slice request, struct buf *out)
{
	static const char no_script[] = "-NOSCRIPT ", no_function[] = "-ERR Function not found";
	const char *sha;
	size_t sha_len;

	if (len > sizeof(no_function) && memcmp(line, no_function, sizeof(no_function) - 1) == 0)
		return loaded_requests(up->loaded, LOADED_FUNCTIONS, NULL, 0, out);
	if (len < sizeof(no_script) || memcmp(line, no_script, sizeof(no_script) - 1) != 0)
		return 0;
	sha = arg_of(request, 1, &sha_len);
	if (!sha)
		return 0;
	return throttle_put_load(sha, sha_len, out) ? 1 : loaded_requests(up->loaded, LOADED_SCRIPT, sha, sha_len, out);
}

enum verdict handle_SCRIPT_LOAD(struct client *c, const struct call *call)
{
	return forward_plain(c, call);
}

enum verdict handle_SCRIPT_FLUSH(struct client *c, const struct call *call)
{
	return forward_plain(c, call);
}

enum verdict handle_FUNCTION_LOAD(struct client *c, const struct call *call)
{
	return forward_plain(c, call);
}

enum verdict handle_FUNCTION_DELETE(struct client *c, const struct call *call)
{
	return forward_plain(c, call);
}

enum verdict handle_FUNCTION_FLUSH(struct client *c, const struct call *call)
{
	return forward_plain(c, call);
}
