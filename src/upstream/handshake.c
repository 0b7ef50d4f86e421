/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Logging in: HELLO 3 or AUTH, a name for CLIENT LIST, our id there, the database. All in one write; a link carries
 * requests only after each answer was seen, since a refused SELECT would let them hit another database.
 * https://redis.io/commands/hello/
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "resp/write.h"
#include "upstream/link.h"
#include "upstream/pool.h"
#include "worker.h"

enum step { STEP_HELLO, STEP_AUTH, STEP_NAME, STEP_ID, STEP_READONLY, STEP_SELECT };

struct steps {
	enum step list[8];
	uint8_t n;
};

#define HANDSHAKE_REPLY_MAX (64 * 1024)

static void put(struct buf *out, struct steps *steps, enum step step, size_t argc, const char *const *argv)
{
	resp_request(out, argc, argv);
	steps->list[steps->n++] = step;
}

static void build(const struct link *l, struct buf *out, struct steps *steps)
{
	const struct upstream_url *target = &l->pool->server->conf->target;
	const char *user = target->username && *target->username ? target->username : "default";
	char db[16];

	if (l->proto == 3 && target->password)
		put(out, steps, STEP_HELLO, 5, (const char *const[]){"HELLO", "3", "AUTH", user, target->password});
	else if (l->proto == 3)
		put(out, steps, STEP_HELLO, 2, (const char *const[]){"HELLO", "3"});
	else if (target->password && target->username && *target->username)
		put(out, steps, STEP_AUTH, 3, (const char *const[]){"AUTH", user, target->password});
	else if (target->password)
		put(out, steps, STEP_AUTH, 2, (const char *const[]){"AUTH", target->password});
	put(out, steps, STEP_NAME, 3, (const char *const[]){"CLIENT", "SETNAME", "keyweir"});
	put(out, steps, STEP_ID, 2, (const char *const[]){"CLIENT", "ID"});
	if (l->pool->readonly && l->pool->server->conf->mode == UPSTREAM_CLUSTER)
		put(out, steps, STEP_READONLY, 1, (const char *const[]){"READONLY"});
	if (l->db != 0) {
		snprintf(db, sizeof(db), "%d", l->db);
		put(out, steps, STEP_SELECT, 2, (const char *const[]){"SELECT", db});
	}
}

void link_write_handshake(struct link *l)
{
	struct steps steps = {0};
	struct buf out = {0};
	ssize_t n;

	build(l, &out, &steps);
	l->n_steps = steps.n;
	l->step = 0;
	/* A fresh socket takes a few hundred bytes at once. */
	n = transport_send(&l->io, buf_head(&out), buf_len(&out));
	if (n != (ssize_t)buf_len(&out))
		link_close(l, n < 0 ? transport_why(&l->io) : "handshake could not be written");
	explicit_bzero(out.data, out.end);
	buf_release(&out);
}

/* The answer to one step. False when the link can't be used; l->why says so. */
static bool step_answered(struct link *l, const struct buf *reply, char type, int64_t number)
{
	struct steps steps = {0};
	struct buf again = {0};
	enum step step;
	const char *text = buf_head(reply);
	int text_len = (int)buf_len(reply) - 3; /* without "-" and CR LF */

	build(l, &again, &steps);
	explicit_bzero(again.data, again.end);
	buf_release(&again);
	step = steps.list[l->step];
	if (step == STEP_ID && type == ':')
		l->upstream_id = number;
	if (type != '-' || step == STEP_NAME || step == STEP_ID)
		return true;
	if (step == STEP_HELLO && (strncmp(text, "-NOPROTO", 8) == 0 || strncmp(text, "-ERR unknown command", 20) == 0))
		atomic_store(&l->pool->server->no_resp3, true);
	snprintf(l->why, sizeof(l->why), "%.*s", text_len > 0 ? text_len : 0, text + 1);
	return false;
}

bool link_handshake_reply(struct link *l, const char *data, size_t len, size_t *used)
{
	enum reply_status status = reply_frame_feed(&l->rf, data, len, used);
	bool ok;

	if (status == REPLY_BAD || buf_len(&l->handshake) + *used > HANDSHAKE_REPLY_MAX) {
		snprintf(l->why, sizeof(l->why), "what answers there does not speak RESP");
		return false;
	}
	buf_put(&l->handshake, data, *used);
	if (status == REPLY_MORE)
		return true;
	ok = step_answered(l, &l->handshake, l->rf.type, l->rf.number);
	l->handshake.start = l->handshake.end = 0;
	if (!ok)
		return false;
	if (++l->step == l->n_steps)
		link_became_ready(l);
	return true;
}
