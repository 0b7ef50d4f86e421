/* SPDX-License-Identifier: BSD-2-Clause */
/* See big_keys.h. */
#include "client/big_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/key_names.h"
#include "client/key_report.h"
#include "client/policy.h"
#include "resp/write.h"

#define KEY_BYTES	  128		      /* what is kept of a key */
#define REQUEST_BYTES_MAX ((uint64_t)1 << 20) /* of one that asked for a large reply */

struct big_key {
	int64_t seen_us;
	uint64_t bytes;
	const struct command *cmd; /* learnt ones stay as long as the process */
	uint64_t uploader;	   /* id of the client that is still sending it; 0: none */
	uint32_t owner;
	uint32_t len;
	bool upstream;
	bool request;
	char key[KEY_BYTES];
};

struct big_keys {
	size_t n;
	struct big_key items[BIG_KEYS_MAX];
};

void big_keys_fini(struct worker *w)
{
	free(w->big_keys);
	w->big_keys = NULL;
}

/* ---- noting ---- */

static bool is_same(const struct big_key *a, const struct big_key *b)
{
	return a->cmd == b->cmd && a->request == b->request && a->owner == b->owner && a->upstream == b->upstream &&
	       a->len == b->len && memcmp(a->key, b->key, a->len < KEY_BYTES ? a->len : KEY_BYTES) == 0;
}

/* Where it is or may stand; NULL: all there are are larger. */
static struct big_key *place_for(struct big_keys *all, const struct big_key *key)
{
	struct big_key *least = all->items;

	for (size_t i = 0; i < all->n; i++) {
		if (is_same(&all->items[i], key))
			return &all->items[i];
		if (all->items[i].bytes < least->bytes)
			least = &all->items[i];
	}
	if (all->n < BIG_KEYS_MAX)
		return &all->items[all->n++];
	return least->bytes < key->bytes ? least : NULL;
}

static void note(struct worker *w, struct big_key *key, const char *name, size_t len)
{
	struct big_key *place;

	key->len = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
	key->seen_us = w->now_us;
	memcpy(key->key, name, len < KEY_BYTES ? len : KEY_BYTES);
	if (!w->big_keys)
		w->big_keys = xcalloc(1, sizeof(*w->big_keys));
	place = place_for(w->big_keys, key);
	if (place)
		*place = *key;
}

/* ---- the key of a call: the first ---- */

struct first_key {
	const struct call *call;
	uint32_t index;
};

static const char *get_arg(void *ctx, uint32_t index, size_t *len)
{
	return call_arg(((struct first_key *)ctx)->call, index, len);
}

static void on_key(void *ctx, uint32_t index, unsigned flags)
{
	struct first_key *first = ctx;

	(void)flags;
	if (first->index == 0)
		first->index = index;
}

static const char *key_of(const struct call *call, size_t *len)
{
	struct first_key first = {.call = call};

	if (call->cmd->n_specs == 0 || command_has_tokens(call->cmd) || /* nobody may read tokens out of it */
	    command_keys(call->cmd, call->frame->argc, get_arg, on_key, &first) < 1)
		return NULL;
	return call_arg(call, first.index, len);
}

/* ---- what passes ---- */

static void note_request(struct client *c, const struct call *call, uint64_t bytes, uint64_t uploader)
{
	struct big_key key = {
		.bytes = bytes, .cmd = call->cmd, .uploader = uploader, .owner = key_owner(c), .request = true};
	size_t len;
	const char *name = key_of(call, &len);

	if (name)
		note(c->w, &key, name, len);
}

void big_keys_add_request(struct client *c, const struct call *call)
{
	note_request(c, call, call->len, 0);
}

/* It is as large as its head says, or larger. */
void big_keys_add_upload(struct client *c, const struct call *call)
{
	note_request(c, call, call->len + call->frame->bulk_left, c->id);
}

void big_keys_end_upload(struct client *c, uint64_t bytes)
{
	struct big_keys *all = c->w->big_keys;

	for (size_t i = 0; all && i < all->n; i++) {
		if (all->items[i].uploader != c->id)
			continue;
		all->items[i].uploader = 0;
		all->items[i].bytes = bytes;
		all->items[i].seen_us = c->w->now_us;
	}
}

void big_keys_add_run(struct client *c, const char *data, size_t len)
{
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct call call = {.cmd = c->last_cmd, .frame = &f};

	for (size_t at = 0; at < len && request_frame_feed(&f, data + at, len - at) == FRAME_READY; at += call.len) {
		call.bytes = data + at;
		call.len = f.len;
		if (call.len >= BIG_KEYS_BYTES)
			note_request(c, &call, call.len, 0);
		request_frame_reset(&f);
	}
}

/* What was asked for is named as it is upstream: back to the client's name. */
static void note_reply(struct client *c, struct big_key *key, const char *name, size_t len)
{
	const struct view view = client_view(c);
	struct name_place at = {0};
	struct buf own = {0};

	if (!view_key_back(&view, name, len, &at)) {
		key->upstream = true;
		note(c->w, key, name, len);
		return;
	}
	buf_put(&own, at.put, at.put_len);
	buf_put(&own, name + at.cut, len - at.cut);
	note(c->w, key, own.data ? buf_head(&own) : "", buf_len(&own));
	buf_release(&own);
}

void big_keys_add_reply(struct client *c, const struct request *r, const struct link *l, size_t bytes)
{
	struct big_key key = {.bytes = bytes, .cmd = r->cmd, .owner = key_owner(c)};
	struct request_frame f = {.max_bulk = UINT64_MAX};
	struct buf request = {0};

	if (r->cmd && r->len <= REQUEST_BYTES_MAX && outq_peek(&l->out, r->pos, (size_t)r->len, &request)) {
		struct slice inner = policy_inner(r, &request);
		struct call call = {.cmd = r->cmd, .frame = &f, .bytes = inner.p, .len = inner.len};
		const char *name = NULL;
		size_t len;

		if (request_frame_feed(&f, inner.p, inner.len) == FRAME_READY)
			name = key_of(&call, &len);
		if (name)
			note_reply(c, &key, name, len);
	}
	buf_release(&request);
}

/* ---- KEYWEIR BIGKEYS ---- */

static void collect(struct worker *w, struct key_report *report)
{
	for (size_t i = 0; w->big_keys && i < w->big_keys->n; i++) {
		const struct big_key *k = &w->big_keys->items[i];
		size_t kept = k->len < KEY_BYTES ? k->len : KEY_BYTES;
		struct key_row *row =
			key_report_add(report, &(struct seen_key){k->owner, k->upstream, k->key, kept, k->len});

		if (!row)
			continue;
		row->weight = (double)k->bytes;
		row->cmd = k->cmd;
		row->request = k->request;
		row->seen_us = k->seen_us;
	}
}

/* As it was last. */
static void merge(struct key_row *into, const struct key_row *other)
{
	if (other->seen_us <= into->seen_us)
		return;
	into->weight = other->weight;
	into->seen_us = other->seen_us;
}

static void put(const struct key_report *report, const struct key_row *row, struct buf *b)
{
	resp_array(b, 5);
	resp_bulk(b, row->name, row->len);
	resp_int(b, (int64_t)row->weight);
	resp_bulks(b, row->cmd->name);
	resp_bulks(b, row->request ? "request" : "reply");
	resp_int(b, (report->now_us - row->seen_us) / 1000000);
}

enum verdict big_keys_tell(struct client *c, const struct call *call)
{
	static const struct key_report_kind kind = {collect, merge, put};

	return key_report_tell(c, call, &kind);
}
