/* SPDX-License-Identifier: BSD-2-Clause */
/* One key read and written back: see rewrap_key.h. */
#include "rewrap_key.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

#define CONFLICTS    20	      /* with others that write, before it is given up */
#define ERRORS_US    15000000 /* so long for Redis to come back */
#define PAUSE_MAX_MS 100
#define SLICE	     200 /* fields or elements in one transaction */
#define OVERLAP	     16	 /* elements of the slice before that are looked at again */
#define RESTARTS     5	 /* of a list that others shift */
#define REPLIES	     4

enum step {
	STEP_NEXT, /* a slice is done, there are more */
	STEP_DONE,
	STEP_GONE,  /* there is no such key any more */
	STEP_AGAIN, /* somebody else wrote */
	STEP_LATER, /* why says an error that passes */
	STEP_FAILED,
	STEP_LOST,
};

/* One key under way. */
struct job {
	struct rewrap_link *l;
	const char *key;
	size_t key_len;
	char *why;
	size_t why_size;
	char cursor[24]; /* hash: of the next HSCAN */
	long long at;	 /* list: the next element; hash: how many fields are done */
	long long length;
	unsigned char before[crypto_generichash_BYTES]; /* list: of what stood up to OVERLAP before at */
	unsigned restarts;
};

struct replies {
	redisReply *items[REPLIES];
	unsigned n;
};

/* ---- words with the daemon ---- */

bool rewrap_error_passes(const char *error)
{
	static const char *const words[] = {"UPSTREAMDOWN", "TIMEOUT", "OVERLOADED", "RATELIMITED", "EXECABORT",
					    "TRYAGAIN",	    "MOVED",   "ASK",	     "CLUSTERDOWN", "MASTERDOWN",
					    "LOADING",	    "BUSY",    "READONLY"};
	size_t len = strcspn(error, " ");

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strlen(words[i]) == len && memcmp(words[i], error, len) == 0)
			return true;
	return false;
}

static void wait_ms(unsigned ms)
{
	struct timespec pause = {.tv_nsec = 1000000L * (ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS)};

	nanosleep(&pause, NULL);
}

bool rewrap_after_conflict(struct rewrap_patience *p)
{
	wait_ms(p->n_conflicts < 3 ? 1 : 10 * p->n_conflicts);
	return ++p->n_conflicts < CONFLICTS;
}

bool rewrap_after_error(struct rewrap_patience *p)
{
	if (p->n_errors++ == 0)
		p->first_error_us = clock_now_us();
	wait_ms(10 * p->n_errors);
	return clock_now_us() - p->first_error_us < ERRORS_US;
}

static void release(struct replies *r)
{
	for (unsigned i = 0; i < r->n; i++)
		freeReplyObject(r->items[i]);
	r->n = 0;
}

static enum step lost(struct job *j)
{
	snprintf(j->why, j->why_size, "%s", j->l->c->errstr);
	return STEP_LOST;
}

/* Whether all of the next n replies came. */
static bool take(struct job *j, struct replies *r, unsigned n)
{
	assert(n <= REPLIES);
	for (r->n = 0; r->n < n; r->n++) {
		void *reply = NULL;

		if (redisGetReply(j->l->c, &reply) != REDIS_OK)
			return false;
		r->items[r->n] = reply;
	}
	return true;
}

/* The first error among them; NULL: none. */
static const redisReply *error_in(const struct replies *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->items[i]->type == REDIS_REPLY_ERROR)
			return r->items[i];
	return NULL;
}

/* Error texts may repeat arguments: of a command with values only the first word is told. */
static enum step refused(struct job *j, const char *doing, const redisReply *error, bool has_values)
{
	int len = (int)(has_values ? strcspn(error->str, " ") : error->len);

	/* Another type stands there now: it was written anew, and so with the first key. */
	if (strncmp(error->str, "WRONGTYPE", 9) == 0)
		return STEP_GONE;
	snprintf(j->why, j->why_size, "%s: %.*s", doing, len, error->str);
	return rewrap_error_passes(error->str) ? STEP_LATER : STEP_FAILED;
}

/* Neither a transaction nor a WATCH is left behind. */
static enum step abandon(struct job *j, enum step step)
{
	struct replies r;

	if (step == STEP_LOST)
		return step;
	redisAppendCommand(j->l->c, "DISCARD"); /* without MULTI an error, of no consequence */
	redisAppendCommand(j->l->c, "UNWATCH");
	if (!take(j, &r, 2))
		step = lost(j);
	release(&r);
	return step;
}

static void watch(struct job *j)
{
	snprintf(j->why, j->why_size, "others write it all the time");
	redisAppendCommand(j->l->c, "WATCH %b", j->key, j->key_len);
}

/* Takes the replies to `n` queued commands and to an EXEC sent behind them. */
static enum step execute(struct job *j, const char *doing, size_t n, enum step then)
{
	enum step step = then;
	struct replies r;

	redisAppendCommand(j->l->c, "EXEC");
	for (size_t i = 0; i <= n; i++) {
		if (!take(j, &r, 1)) {
			release(&r);
			return lost(j);
		}
		/* The first error counts: after one of them EXEC only says that there was one. */
		if (error_in(&r) && step == then)
			step = refused(j, doing, r.items[0], true);
		else if (i == n && r.items[0]->type == REDIS_REPLY_NIL)
			step = STEP_AGAIN;
		for (size_t k = 0; i == n && step == then && k < r.items[0]->elements; k++)
			if (r.items[0]->element[k]->type == REDIS_REPLY_ERROR)
				step = refused(j, doing, r.items[0]->element[k], true);
		release(&r);
	}
	return step;
}

static void append(struct job *j, int argc, const char **argv, const size_t *lens)
{
	redisAppendCommandArgv(j->l->c, argc, argv, lens);
}

/* ---- a string ---- */

static enum step string_slice(struct job *j)
{
	enum step step = STEP_GONE;
	struct replies r;

	watch(j);
	redisAppendCommand(j->l->c, "GET %b", j->key, j->key_len);
	redisAppendCommand(j->l->c, "MULTI");
	if (!take(j, &r, 3))
		step = lost(j);
	else if (error_in(&r))
		step = refused(j, "GET", error_in(&r), false);
	else if (r.items[1]->type == REDIS_REPLY_STRING)
		step = STEP_DONE;
	if (step == STEP_DONE) {
		redisAppendCommand(j->l->c, "SET %b %b KEEPTTL", j->key, j->key_len, r.items[1]->str,
				   (size_t)r.items[1]->len);
		step = execute(j, "SET", 1, STEP_DONE);
	} else {
		step = abandon(j, step);
	}
	release(&r);
	return step;
}

/* ---- a hash ---- */

/* Of a reply to HSCAN. */
static size_t n_fields(const redisReply *scan)
{
	return scan->element[1]->elements / 2;
}

static bool is_scan(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
	       reply->element[0]->type == REDIS_REPLY_STRING && reply->element[1]->type == REDIS_REPLY_ARRAY;
}

static void append_hset(struct job *j, const redisReply *scan)
{
	size_t n = scan->element[1]->elements;
	const char **argv = xcalloc(n + 2, sizeof(*argv));
	size_t *lens = xcalloc(n + 2, sizeof(*lens));

	argv[0] = "HSET";
	lens[0] = 4;
	argv[1] = j->key;
	lens[1] = j->key_len;
	for (size_t i = 0; i < n; i++) {
		argv[i + 2] = scan->element[1]->element[i]->str;
		lens[i + 2] = scan->element[1]->element[i]->len;
	}
	append(j, (int)n + 2, argv, lens);
	free(argv);
	free(lens);
}

static void append_hpexpiretime(struct job *j, const redisReply *scan)
{
	size_t n = n_fields(scan);
	const char **argv = xcalloc(n + 4, sizeof(*argv));
	size_t *lens = xcalloc(n + 4, sizeof(*lens));
	char count[24];

	snprintf(count, sizeof(count), "%zu", n);
	argv[0] = "HPEXPIRETIME";
	argv[1] = j->key;
	argv[2] = "FIELDS";
	argv[3] = count;
	for (size_t i = 0; i < 4; i++)
		lens[i] = i == 1 ? j->key_len : strlen(argv[i]);
	for (size_t i = 0; i < n; i++) {
		argv[i + 4] = scan->element[1]->element[2 * i]->str;
		lens[i + 4] = scan->element[1]->element[2 * i]->len;
	}
	append(j, (int)n + 4, argv, lens);
	free(argv);
	free(lens);
}

/* Fields have times to live of their own from Redis 7.4 on, and HSET ends these: set again. Returns how many. */
static size_t append_field_ttls(struct job *j, const redisReply *scan, const redisReply *times)
{
	size_t n = 0;

	for (size_t i = 0; times && i < times->elements && i < n_fields(scan); i++) {
		const redisReply *field = scan->element[1]->element[2 * i];

		if (times->element[i]->type != REDIS_REPLY_INTEGER || times->element[i]->integer < 0)
			continue;
		redisAppendCommand(j->l->c, "HPEXPIREAT %b %lld FIELDS 1 %b", j->key, j->key_len,
				   times->element[i]->integer, field->str, (size_t)field->len);
		n++;
	}
	return n;
}

/* MULTI, and the fields' times to live where there may be any: *times, NULL: none, belongs to r. */
static enum step hash_begin(struct job *j, const redisReply *scan, struct replies *r, const redisReply **times)
{
	bool ask = !j->l->no_field_ttls;

	*times = NULL;
	if (ask)
		append_hpexpiretime(j, scan);
	redisAppendCommand(j->l->c, "MULTI");
	if (!take(j, r, ask ? 2 : 1))
		return lost(j);
	if (ask && r->items[0]->type == REDIS_REPLY_ERROR && strstr(r->items[0]->str, "unknown command"))
		j->l->no_field_ttls = true;
	else if (error_in(r))
		return refused(j, "HPEXPIRETIME", error_in(r), false);
	else if (ask && r->items[0]->type == REDIS_REPLY_ARRAY)
		*times = r->items[0];
	return r->items[r->n - 1]->type == REDIS_REPLY_ERROR ? refused(j, "MULTI", r->items[r->n - 1], false)
							     : STEP_DONE;
}

/* Whether a field has ended since HSCAN (-2): writing it would bring it back, for ever. */
static bool field_ended(const redisReply *times)
{
	for (size_t i = 0; times && i < times->elements; i++)
		if (times->element[i]->type == REDIS_REPLY_INTEGER && times->element[i]->integer == -2)
			return true;
	return false;
}

static enum step hash_write(struct job *j, const redisReply *scan)
{
	const redisReply *times;
	struct replies r;
	enum step step = hash_begin(j, scan, &r, &times);

	if (step == STEP_DONE && field_ended(times))
		step = STEP_AGAIN;
	if (step == STEP_DONE) {
		append_hset(j, scan);
		step = execute(j, "HSET", 1 + append_field_ttls(j, scan, times), STEP_DONE);
	} else {
		step = abandon(j, step);
	}
	release(&r);
	return step;
}

static enum step hash_slice(struct job *j)
{
	enum step step;
	struct replies r;

	watch(j);
	redisAppendCommand(j->l->c, "HSCAN %b %s COUNT %d", j->key, j->key_len, j->cursor, SLICE);
	if (!take(j, &r, 2))
		step = lost(j);
	else if (error_in(&r))
		step = abandon(j, refused(j, "HSCAN", error_in(&r), false));
	else if (!is_scan(r.items[1]))
		step = abandon(j, STEP_FAILED);
	else if (n_fields(r.items[1]) == 0)
		step = abandon(j, STEP_DONE);
	else
		step = hash_write(j, r.items[1]);
	if (step == STEP_DONE) {
		j->at += (long long)n_fields(r.items[1]);
		snprintf(j->cursor, sizeof(j->cursor), "%s", r.items[1]->element[0]->str);
		step = strcmp(j->cursor, "0") != 0 ? STEP_NEXT : j->at > 0 ? STEP_DONE : STEP_GONE;
	}
	release(&r);
	return step;
}

/* ---- a list ---- */

/*
 * Others may pop elements in front of those that are done, so that elements not done yet move to where nobody looks
 * any more. Between two slices no WATCH can tell, since our own writes end it. So the elements before a slice are read
 * again: when they are not what they were, or the list is shorter, it begins anew. (What is not seen are equal elements
 * in a row of OVERLAP, shifted between two slices while as many were pushed. Lists of up to SLICE are one slice.)
 */
static void fingerprint(const redisReply *range, size_t from, size_t to, unsigned char out[crypto_generichash_BYTES])
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, NULL, 0, crypto_generichash_BYTES);
	for (size_t i = from; i < to; i++) {
		uint64_t len = range->element[i]->len;

		crypto_generichash_update(&state, (unsigned char *)&len, sizeof(len));
		crypto_generichash_update(&state, (unsigned char *)range->element[i]->str, len);
	}
	crypto_generichash_final(&state, out, crypto_generichash_BYTES);
}

static size_t list_overlap(const struct job *j)
{
	return j->at < OVERLAP ? (size_t)j->at : OVERLAP;
}

static bool list_was_shifted(const struct job *j, long long length, const redisReply *range)
{
	unsigned char now[crypto_generichash_BYTES];

	if (j->at == 0)
		return false;
	if (length < j->length || range->elements < list_overlap(j))
		return true;
	fingerprint(range, 0, list_overlap(j), now);
	return memcmp(now, j->before, sizeof(now)) != 0;
}

static enum step list_restart(struct job *j)
{
	j->at = 0;
	snprintf(j->why, j->why_size, "others take elements out all the time");
	return j->restarts++ < RESTARTS ? STEP_NEXT : STEP_FAILED;
}

/* Within MULTI. */
static enum step list_write(struct job *j, long long length, const redisReply *range)
{
	size_t first = list_overlap(j), n = range->elements - first;
	enum step step;

	for (size_t i = 0; i < n; i++)
		redisAppendCommand(j->l->c, "LSET %b %lld %b", j->key, j->key_len, j->at + (long long)i,
				   range->element[first + i]->str, (size_t)range->element[first + i]->len);
	step = execute(j, "LSET", n, n < SLICE ? STEP_DONE : STEP_NEXT);
	if (step == STEP_NEXT) {
		j->at += (long long)n;
		j->length = length;
		fingerprint(range, range->elements - list_overlap(j), range->elements, j->before);
	}
	return step;
}

static enum step list_slice(struct job *j)
{
	enum step step;
	struct replies r;

	watch(j);
	redisAppendCommand(j->l->c, "LLEN %b", j->key, j->key_len);
	redisAppendCommand(j->l->c, "LRANGE %b %lld %lld", j->key, j->key_len, j->at - (long long)list_overlap(j),
			   j->at + SLICE - 1);
	redisAppendCommand(j->l->c, "MULTI");
	if (!take(j, &r, 4))
		step = lost(j);
	else if (error_in(&r))
		step = abandon(j, refused(j, "LRANGE", error_in(&r), false));
	else if (r.items[1]->type != REDIS_REPLY_INTEGER || r.items[2]->type != REDIS_REPLY_ARRAY)
		step = abandon(j, STEP_FAILED);
	else if (r.items[1]->integer == 0)
		step = abandon(j, STEP_GONE);
	else if (list_was_shifted(j, r.items[1]->integer, r.items[2]))
		step = abandon(j, list_restart(j));
	else if (r.items[2]->elements == list_overlap(j))
		step = abandon(j, STEP_DONE);
	else
		step = list_write(j, r.items[1]->integer, r.items[2]);
	release(&r);
	return step;
}

/* ---- a key ---- */

static enum rewrap_result in_slices(struct job *j, enum step (*slice)(struct job *j))
{
	struct rewrap_patience patience = {0};

	for (;;) {
		switch (slice(j)) {
		case STEP_NEXT:
			patience = (struct rewrap_patience){0};
			break;
		case STEP_DONE:
			return REWRAP_DONE;
		case STEP_GONE:
			return REWRAP_NOTHING;
		case STEP_AGAIN:
			if (!rewrap_after_conflict(&patience))
				return REWRAP_FAILED;
			break;
		case STEP_LATER:
			if (!rewrap_after_error(&patience))
				return REWRAP_FAILED;
			break;
		case STEP_FAILED:
			return REWRAP_FAILED;
		case STEP_LOST:
			return REWRAP_LOST;
		}
	}
}

enum rewrap_result rewrap_key(struct rewrap_link *l, const char *type, const char *key, size_t len, char *why,
			      size_t why_size)
{
	static const struct {
		const char *type;
		enum step (*slice)(struct job *j);
	} sealed[] = {{"string", string_slice}, {"hash", hash_slice}, {"list", list_slice}};
	struct job j = {.l = l, .key = key, .key_len = len, .why = why, .why_size = why_size, .cursor = "0"};

	for (size_t i = 0; i < sizeof(sealed) / sizeof(*sealed); i++)
		if (strcmp(type, sealed[i].type) == 0)
			return in_slices(&j, sealed[i].slice);
	return strcmp(type, "stream") == 0 ? REWRAP_LEFT : REWRAP_NOTHING;
}
