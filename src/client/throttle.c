/* SPDX-License-Identifier: BSD-2-Clause */
/* CL.THROTTLE: see throttle.h. https://github.com/brandur/redis-cell has the words of the errors and of the reply. */
#include "client/throttle.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/dispatch.h"
#include "client/unit.h"
#include "resp/write.h"

#define SHOWN	     128 /* bytes of a wrong argument */
#define SECOND_NS    1000000000
#define DOUBLE_EXACT (INT64_C(1) << 53) /* a script has no whole numbers beyond that */

/*
 * ARGV: the interval between two units in ns, max_burst, quantity. All spans are in ns and relative to now, which a
 * double holds exactly up to 104 days; the time itself is kept in two parts, for it does not fit.
 * retry and reset are whole seconds; a begun one counts from its first millisecond on.
 */
const char throttle_script[] =
	"local interval, burst, quantity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
	"local t = redis.call('TIME')\n"
	"local s, ns = tonumber(t[1]), tonumber(t[2]) * 1000\n"
	"local tat = redis.pcall('GET', KEYS[1])\n"
	"if type(tat) == 'table' then return tat end\n"
	"local ahead = 0\n"
	"if tat then\n"
	"if not string.find(tat, '^%d+$') then return {err = 'Cell error: Found non-integer in key'} end\n"
	"ahead = ((tonumber(string.sub(tat, 1, -10)) or 0) - s) * 1e9 + tonumber(string.sub(tat, -9)) - ns\n"
	"end\n"
	"local tolerance, increment = interval * (burst + 1), interval * quantity\n"
	"local new = math.max(ahead, 0) + increment\n"
	"local limited, retry, reset = 0, -1, new\n"
	"if new > tolerance then\n"
	"limited, reset = 1, ahead\n"
	"if increment <= tolerance then retry = new - tolerance end\n"
	"elseif increment > 0 then\n"
	"local whole = math.floor((ns + new) / 1e9)\n"
	"redis.call('SET', KEYS[1], string.format('%.0f%09.0f', s + whole, ns + new - whole * 1e9),\n"
	"'PX', string.format('%.0f', math.max(math.min(math.ceil(new / 1e6), 1e14), 1)))\n"
	"end\n"
	"local unit, left = interval >= 1000 and 1000 or 1, tolerance - reset\n"
	"local remaining = left > 0 and math.floor(math.floor(left / unit) / math.floor(interval / unit)) or 0\n"
	"local function seconds(n)\n"
	"if n < 0 then return n == -1 and -1 or 0 end\n"
	"local whole = math.floor(n / 1e9)\n"
	"return n - whole * 1e9 >= 1e6 and whole + 1 or whole\n"
	"end\n"
	"return {limited, burst + 1, remaining, seconds(retry), seconds(reset)}\n";

const char throttle_sha[] = "2f2ea20e99d25b4fbad475c1c36316bc38fdf4c6";

/* Ends the transaction's element as redis-cell would have ended the command. */
static const char refusing_script[] = "return {err = ARGV[1]}";

struct throttle {
	const char *key;
	size_t key_len;
	int64_t interval_ns;
	int64_t max_burst;
	int64_t quantity;
};

bool throttle_put_load(const char *sha, size_t len, struct buf *out)
{
	if (len != strlen(throttle_sha) || strncasecmp(sha, throttle_sha, len) != 0)
		return false;
	resp_request(out, 3, (const char *const[]){"SCRIPT", "LOAD", throttle_script});
	return true;
}

bool throttle_is(const char *bytes, size_t len)
{
	static const char head[] = "*7\r\n$7\r\nEVALSHA\r\n$40\r\n";
	size_t n = sizeof(head) - 1;

	return len > n + strlen(throttle_sha) && memcmp(bytes, head, n) == 0 &&
	       memcmp(bytes + n, throttle_sha, strlen(throttle_sha)) == 0;
}

void throttle_load(struct link *l)
{
	struct buf load = {0};

	if (l->own_scripts & OWN_SCRIPT_THROTTLE)
		return;
	throttle_put_load(throttle_sha, strlen(throttle_sha), &load);
	forward_own(l, buf_head(&load), buf_len(&load));
	buf_release(&load);
	l->own_scripts |= OWN_SCRIPT_THROTTLE;
}

/* ---- what it says ---- */

/* Unlike Redis's own commands it takes "+5" and "007". */
static bool read_number(const struct call *call, uint32_t i, int64_t *out)
{
	char text[64], *end;
	const char *arg;
	size_t len;

	arg = call_arg(call, i, &len);
	if (!arg || len == 0 || len >= sizeof(text) || !strchr("+-0123456789", *arg) || memchr(arg, '\0', len))
		return false;
	memcpy(text, arg, len);
	text[len] = '\0';
	*out = strtoll(text, &end, 10);
	/* The ends of the range are refused: no limit is meant by them, and what is beyond ends there. */
	return *end == '\0' && end[-1] >= '0' && *out > INT64_MIN && *out < INT64_MAX;
}

/* The span between two units. 0: none. */
static int64_t interval_of(int64_t count, int64_t period_s)
{
	double ns = (double)period_s * SECOND_NS;

	return count == 0 ? 0 : (int64_t)(ns / (double)count);
}

/* False: what is wrong with it is in text. */
static bool read_call(const struct call *call, struct throttle *t, char *text, size_t size)
{
	int64_t n[4] = {0, 0, 0, 1}; /* max_burst, count, period, quantity */
	uint32_t argc = call->frame->argc;
	size_t len;

	if (argc != 5 && argc != 6) {
		snprintf(text, size,
			 "Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]");
		return false;
	}
	for (uint32_t i = 2; i < argc; i++) {
		const char *arg = call_arg(call, i, &len);

		if (!read_number(call, i, &n[i - 2])) {
			snprintf(text, size, "Cell error: Couldn't parse as integer: %.*s",
				 len > SHOWN ? SHOWN : (int)len, arg);
			return false;
		}
		if (n[i - 2] < 0 || (i == 4 && n[2] > INT64_MAX / SECOND_NS)) {
			snprintf(text, size, "Cell error: Number out of range: %" PRId64, n[i - 2]);
			return false;
		}
	}
	*t = (struct throttle){NULL, 0, interval_of(n[1], n[2]), n[0], n[3]};
	t->key = call_arg(call, 1, &t->key_len);
	if (t->interval_ns == 0)
		snprintf(text, size, "Cell error: Zero rates are not supported");
	else if (n[0] >= INT64_MAX / t->interval_ns || n[0] >= DOUBLE_EXACT)
		snprintf(text, size, "Cell error: Number out of range: %" PRId64, n[0]);
	else
		return true;
	return false;
}

/* ---- what is sent ---- */

static void put_number(struct buf *b, int64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, n);
	resp_bulks(b, text);
}

/* By its SHA1 where the upstream has the script, else whole. */
static void put_script(const struct throttle *t, bool by_sha, struct buf *out)
{
	resp_array(out, 7);
	resp_bulks(out, by_sha ? "EVALSHA" : "EVAL");
	resp_bulks(out, by_sha ? throttle_sha : throttle_script);
	resp_bulks(out, "1");
	resp_bulk(out, t->key, t->key_len);
	put_number(out, t->interval_ns);
	put_number(out, t->max_burst);
	put_number(out, t->quantity);
}

static void put_refusal(const struct call *call, const char *text, struct buf *out)
{
	const char *key;
	size_t len;

	key = call_arg(call, 1, &len);
	resp_array(out, key ? 5 : 4);
	resp_bulks(out, "EVAL");
	resp_bulks(out, refusing_script);
	resp_bulks(out, key ? "1" : "0");
	if (key)
		resp_bulk(out, key, len);
	resp_bulks(out, text);
}

/* Calls next with the call that these bytes are. */
static enum verdict become(struct client *c, const struct call *call, const struct buf *bytes, handler_fn next)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct call out = *call;

	if (request_frame_feed(&f, buf_head(bytes), buf_len(bytes)) != FRAME_READY)
		return CALL_DONE;
	out.frame = &f;
	out.bytes = buf_head(bytes);
	out.len = buf_len(bytes);
	out.cmd = dispatch_find(c, &out);
	return next(c, &out);
}

static enum verdict in_transaction(struct client *c, const struct call *call)
{
	return c->tx_run > 0 ? transaction_run(c, call) : transaction_queue(c, call);
}

/*
 * A connection that has not carried the script yet loads it first, in the same write. Should it be flushed later, the
 * request is sent again behind it, see scripts_missing().
 */
static enum verdict send_script(struct client *c, const struct call *call)
{
	enum verdict verdict;
	struct link *l;

	if (!client_route(c, call, &l, &verdict))
		return verdict;
	throttle_load(l);
	return forward(c, call, REQUEST_COLLECT | REQUEST_OWN_SCRIPT, NULL, 0);
}

enum verdict handle_CL_THROTTLE(struct client *c, const struct call *call)
{
	bool in_tx = c->tx != TX_NONE || c->tx_run > 0;
	struct buf bytes = {0};
	enum verdict verdict;
	struct throttle t;
	char text[256];
	bool good = read_call(call, &t, text, sizeof(text));

	if (!good && !in_tx) {
		client_reply_error(c, call, text);
		return CALL_DONE;
	}
	if (good)
		put_script(&t, !in_tx, &bytes);
	else
		put_refusal(call, text, &bytes);
	verdict = become(c, call, &bytes, in_tx ? in_transaction : send_script);
	buf_release(&bytes);
	return verdict;
}
