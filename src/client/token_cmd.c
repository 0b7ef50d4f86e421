/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TOKEN.REVOKE, TOKEN.CHECK, TOKEN.RESTORE, TOKEN.COUNT: what Redis is sent in their place, and what becomes of its
 * replies. See token.h.
 *
 * Revoking never makes a revocation shorter, or a forged JWT with a near exp and somebody's jti would undo that
 * somebody's: only TOKEN.RESTORE ends one, and time. That is why nobody has to look at signatures here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cache/blacklist.h"
#include "client/dispatch.h"
#include "client/fanout.h"
#include "client/join.h"
#include "client/policy.h"
#include "client/refusal.h"
#include "client/stats.h"
#include "client/target.h"
#include "client/token.h"
#include "policy/token.h"
#include "resp/write.h"
#include "server.h"

#define SECONDS_MAX ((int64_t)1 << 40)

/* ---- what is sent ---- */

static const char revoke_script[] = "local t=redis.call('PTTL',KEYS[1]) local n=tonumber(ARGV[1]) "
				    "if t==-1 or (n>0 and t>=n) then return redis.status_reply('OK') end "
				    "if n==0 then return redis.call('SET',KEYS[1],'1') end "
				    "return redis.call('SET',KEYS[1],'1','PX',ARGV[1])";

/* The database of the list, where the client's is another one; -1: it is the same. */
static int other_db(struct client *c)
{
	const struct namespace *ns = namespaces_token_place(client_view(c).all).ns;
	const struct upstream *up = c->w->routes[ns->conf->upstream_index].up;

	return up == target_home(c)->up && c->db != up->conf->target.db ? up->conf->target.db : -1;
}

static void put_script(struct client *c, const char *script, const struct rewrite_key *key, struct buf *out)
{
	struct buf text = {0};
	int db = other_db(c);

	if (db >= 0)
		buf_printf(&text, "redis.call('SELECT',%d) ", db);
	buf_puts(&text, script);
	resp_bulks(out, "EVAL");
	resp_bulk(out, buf_head(&text), buf_len(&text));
	resp_bulks(out, "1");
	resp_bulk(out, key->name, key->len);
	buf_release(&text);
}

/* "EXISTS key", "DEL key". */
static void put_command(struct client *c, const char *command, const struct rewrite_key *key, struct buf *out)
{
	char script[64];

	if (other_db(c) >= 0) {
		snprintf(script, sizeof(script), "return redis.call('%s',KEYS[1])", command);
		resp_array(out, 4);
		put_script(c, script, key, out);
		return;
	}
	resp_array(out, 2);
	resp_bulks(out, command);
	resp_bulk(out, key->name, key->len);
}

static void put_revoke(struct client *c, const struct rewrite_key *key, int64_t ms, struct buf *out)
{
	char number[24];

	snprintf(number, sizeof(number), "%lld", (long long)ms);
	resp_array(out, 5);
	put_script(c, revoke_script, key, out);
	resp_bulks(out, number);
}

/* ---- what comes before ---- */

static enum verdict refuse(struct client *c, const struct call *call, const char *text)
{
	client_reply_error(c, call, text);
	return CALL_DONE;
}

/* False: it was answered. There is a list, and the tokens are some. */
static bool is_fine(struct client *c, const struct call *call)
{
	char text[128];

	if (!command_arity_ok(call->cmd, call->frame->argc)) {
		refusal_arity(call, text, sizeof(text));
		client_reply_error(c, call, text);
		return false;
	}
	if (!c->w->tokens || !call->rw) {
		client_reply_own_error(c, call, ERROR_NO_TOKENS);
		return false;
	}
	for (uint32_t i = 0; i < call->rw->n_keys; i++) {
		if (call->rw->keys[i].client_len == 0) {
			client_reply_error(c, call, "ERR the token is empty");
			return false;
		}
	}
	return true;
}

static struct token_id id_of(const struct client *c, const struct rewrite_key *key)
{
	return tokens_id(c->w->tokens, key->client, key->client_len);
}

static enum verdict send_bytes(struct client *c, const struct call *call, struct buf *bytes, request_hook_fn hook,
			       int64_t arg)
{
	enum verdict verdict =
		forward_bytes(c, call, buf_head(bytes), buf_len(bytes), hook ? REQUEST_COLLECT : 0, hook, arg);

	buf_release(bytes);
	return verdict;
}

/* ---- TOKEN.REVOKE ---- */

/* What the token itself says; ms: how long it is to be revoked. False: it is dead anyway. */
static bool by_itself(const struct client *c, const struct call *call, int64_t *ms)
{
	const struct token_blacklist_config *conf = tokens_conf(c->w->tokens);

	*ms = conf->ttl_ms;
	if (!call->rw->token_has_exp)
		return true;
	*ms = call->rw->token_exp_s * 1000 + conf->leeway_ms - clock_wall_us() / 1000;
	return *ms > 0;
}

/* NULL, or what is wrong with it. ms 0: for ever; negative: it is over already. */
static const char *read_time(const struct client *c, const struct call *call, int64_t *ms)
{
	bool at = call_arg_is(call, 2, "EXAT");
	int64_t seconds;

	if (call->frame->argc == 2) {
		if (!by_itself(c, call, ms))
			*ms = -1;
		return NULL;
	}
	if (call->frame->argc != 4 || (!at && !call_arg_is(call, 2, "EX")))
		return "ERR syntax error";
	if (!call_arg_int(call, 3, &seconds))
		return "ERR value is not an integer or out of range";
	if (seconds <= 0 || seconds > SECONDS_MAX)
		return "ERR invalid expire time in 'token.revoke' command";
	*ms = seconds * 1000 - (at ? clock_wall_us() / 1000 : 0);
	if (*ms <= 0)
		*ms = -1;
	return NULL;
}

enum verdict handle_TOKEN_REVOKE(struct client *c, const struct call *call)
{
	const struct rewrite_key *key;
	struct buf bytes = {0};
	enum verdict verdict;
	struct token_id id;
	const char *wrong;
	int64_t ms;

	if (!is_fine(c, call))
		return CALL_DONE;
	wrong = read_time(c, call, &ms);
	if (wrong)
		return refuse(c, call, wrong);
	if (ms < 0) {
		client_reply_ok(c, call);
		return CALL_DONE;
	}
	key = &call->rw->keys[0];
	id = id_of(c, key);
	put_revoke(c, key, ms, &bytes);
	verdict = send_bytes(c, call, &bytes, NULL, 0);
	/* On its way: should Redis go away before it can be asked, it is known here. */
	if (c->forwarded && c->w->blacklist)
		blacklist_note_revoked(c->w->blacklist, id, ms == 0 ? 0 : clock_now_us() + ms * 1000);
	return verdict;
}

enum verdict handle_TOKEN_RESTORE(struct client *c, const struct call *call)
{
	struct buf bytes = {0};

	if (!is_fine(c, call))
		return CALL_DONE;
	put_command(c, "DEL", &call->rw->keys[0], &bytes);
	return send_bytes(c, call, &bytes, NULL, 0);
}

/* ---- TOKEN.CHECK ---- */

/* Redis has answered, or nobody: then on_failure says. r->arg: token_key(). */
static void checked(struct request *r, char type, int64_t number)
{
	struct client *c = r->client;
	bool revoked = type == ':' ? number > 0 : token_failure_says(c, (uint64_t)r->arg);

	buf_release(&r->reply);
	resp_int(&r->reply, revoked);
	counter_add(&c->w->counters.token_checks_revoked, revoked);
}

static enum verdict check_one(struct client *c, const struct call *call)
{
	const struct rewrite_key *key = &call->rw->keys[0];
	struct buf bytes = {0};

	put_command(c, "EXISTS", key, &bytes);
	return send_bytes(c, call, &bytes, checked, (int64_t)token_key(c, id_of(c, key)));
}

static void put_exists(struct client *c, const struct rewrite_key *key, struct buf *out)
{
	put_command(c, "EXISTS", key, out);
}

void token_join(const struct fanout *f, struct buf *out)
{
	struct client *c = f->parent->client;

	resp_array(out, f->n);
	for (uint32_t i = 0; i < f->n; i++) {
		const struct fan_part *p = &f->parts[i];
		bool revoked = p->type == ':' ? p->number > 0 : token_failure_says(c, (uint64_t)p->about);

		resp_int(out, revoked);
		counter_add(&c->w->counters.token_checks_revoked, revoked);
	}
}

/* Those that are known from the configuration are not asked for. */
static bool put_known(struct client *c, const struct rewrite_key *key, int64_t *about, struct buf *out)
{
	struct token_id id = id_of(c, key);

	*about = (int64_t)token_key(c, id);
	if (!token_is_static(c, id))
		return false;
	resp_int(out, 1);
	return true;
}

enum verdict handle_TOKEN_CHECK(struct client *c, const struct call *call)
{
	static const struct fanout_each each = {put_known, put_exists};

	if (!is_fine(c, call))
		return CALL_DONE;
	return call->rw->n_keys == 1 ? check_one(c, call) : fanout_by_each_key(c, call, &each);
}

/* ---- TOKEN.COUNT ---- */

struct count_job {
	struct job job; /* first */
	struct server_token_count ask;
};

static void count_done(struct server_token_count *ask)
{
	struct count_job *job = container_of(ask, struct count_job, ask);
	struct buf b = {0};

	if (ask->error[0])
		resp_error(&b, ask->error);
	else
		resp_int(&b, (int64_t)ask->n);
	client_job_end(&job->job, &b);
	free(job);
}

static void count_forget(struct server_token_count *ask)
{
	free(container_of(ask, struct count_job, ask));
}

enum verdict handle_TOKEN_COUNT(struct client *c, const struct call *call)
{
	struct blacklist_stats stats = {0};
	struct count_job *job;
	struct buf out = {0};

	if (!is_fine(c, call))
		return CALL_DONE;
	if (c->n_upstream > 0) /* what it has written counts */
		return client_wait_for(c, WAIT_DRAIN);
	if (token_mirror_holds(c->w, c->w->now_us)) {
		blacklist_stats(c->w->blacklist, c->w->now_us, &stats);
		if (stats.n_doubts == 0) {
			resp_int(&out, (int64_t)stats.n);
			client_reply(c, call, &out);
			return CALL_DONE;
		}
	}
	job = xcalloc(1, sizeof(*job));
	job->ask.asker = c->w;
	job->ask.done = count_done;
	job->ask.forget = count_forget;
	client_job_begin(c, call, &job->job);
	server_count_tokens(c->w->server, &job->ask);
	return CALL_DONE;
}

/* ---- KEYWEIR TOKENS ---- */

static const char *state_of(const struct client *c)
{
	if (!c->w->blacklist)
		return "off";
	return token_mirror_holds(c->w, clock_now_us()) ? "held" : "not held";
}

static void put_names(struct buf *b, const struct string_list *names)
{
	resp_bulks(b, "namespace");
	resp_array(b, names->n);
	for (size_t i = 0; i < names->n; i++)
		resp_bulks(b, names->items[i]);
}

enum verdict token_tell(struct client *c, const struct call *call)
{
	const struct token_blacklist_config *conf;
	struct blacklist_stats stats = {0};
	struct totals t;
	struct buf b = {0};

	if (!c->w->tokens) {
		resp_map(&b, c->proto, 0);
		client_reply(c, call, &b);
		return CALL_DONE;
	}
	conf = tokens_conf(c->w->tokens);
	if (c->w->blacklist)
		blacklist_stats(c->w->blacklist, clock_now_us(), &stats);
	stats_totals(c->w->server, &t);
	resp_map(&b, c->proto, 16);
	put_names(&b, &conf->prefixes);
	resp_field_text(&b, "upstream", conf->upstream);
	resp_field_text(&b, "on_failure", conf->on_failure == TOKEN_FAILURE_DENY ? "deny" : "allow");
	resp_field(&b, "static", tokens_n_static(c->w->tokens));
	resp_field_text(&b, "mirror", state_of(c));
	resp_field(&b, "tokens", stats.n);
	resp_field(&b, "in_doubt", stats.n_doubts);
	resp_field(&b, "bytes", stats.bytes);
	resp_field(&b, "loads", stats.loads);
	resp_field(&b, "load_ms", (uint64_t)stats.load_us / 1000);
	resp_field(&b, "losses", stats.losses);
	resp_field(&b, "checks", t.token_checks);
	resp_field(&b, "checks_upstream", t.token_checks_upstream);
	resp_field(&b, "revoked", t.token_checks_revoked);
	resp_field(&b, "failures_denied", t.token_failures_denied);
	resp_field(&b, "failures_allowed", t.token_failures_allowed);
	client_reply(c, call, &b);
	return CALL_DONE;
}
