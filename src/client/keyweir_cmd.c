/* SPDX-License-Identifier: BSD-2-Clause */
/* KEYWEIR: the proxy's own command. One table of subcommands. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/big_keys.h"
#include "client/cache_cmd.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/fanout.h"
#include "client/limit.h"
#include "client/hot_keys.h"
#include "client/namespace_stats.h"
#include "client/near.h"
#include "client/policy.h"
#include "client/stats.h"
#include "client/token.h"
#include "keyweir_version.h"
#include "resp/write.h"
#include "server.h"
#include "upstream/tracker.h"

/* Its name, which is no secret; "": nothing is sealed. */
static void put_sealing_key(struct buf *b, const struct encryption_config *conf)
{
	const char *first = conf->keys.n > 0 ? conf->keys.items[0] : "";

	resp_bulk(b, first, strcspn(first, ":"));
}

static enum verdict status(struct client *c, const struct call *call)
{
	struct server *s = c->w->server;
	struct buf b = {0};
	struct totals t;
	size_t n = 7;

	stats_totals(s, &t);
#define COUNTER(name, help) n++;
#include "counters.def"
#undef COUNTER
	resp_map(&b, c->proto, n);
	resp_field_text(&b, "version", KEYWEIR_VERSION);
	resp_bulks(&b, "sealing_key");
	put_sealing_key(&b, &c->w->snapshot->config->encryption);
	resp_field(&b, "uptime_in_seconds", (uint64_t)((clock_now_us() - s->start_us) / 1000000));
	resp_field(&b, "workers", s->n_workers);
	resp_field(&b, "connected_clients", atomic_load(&s->n_clients));
	resp_field(&b, "rejected_connections", atomic_load(&s->rejected));
	resp_field(&b, "reloads", atomic_load(&s->reloads));
#define COUNTER(name, help) resp_field(&b, #name, t.name);
#include "counters.def"
#undef COUNTER
	client_reply(c, call, &b);
	return CALL_DONE;
}

struct node_writer {
	struct buf *b;
	const struct upstream *up;
	int proto;
	size_t n;
};

static void count_node(void *ctx, struct node *n, bool master)
{
	(void)n;
	(void)master;
	((struct node_writer *)ctx)->n++;
}

static void put_node(void *ctx, struct node *n, bool master)
{
	static const char *const states[] = {"unknown", "up", "down"};
	const struct node_writer *nw = ctx;
	struct buf *b = nw->b;

	resp_map(b, nw->proto, 13);
	resp_field_text(b, "name", nw->up->conf->name);
	resp_field_text(b, "url", n->label);
	resp_field_text(b, "role", master ? "master" : "replica");
	resp_field_text(b, "state", states[atomic_load(&n->state)]);
	resp_bulks(b, "version");
	pthread_mutex_lock(&n->lock);
	resp_bulks(b, n->version);
	pthread_mutex_unlock(&n->lock);
	resp_field(b, "connections", (uint64_t)atomic_load(&n->n_links));
	resp_field(b, "pool_size", (uint64_t)n->conf->pool_size);
	resp_field(b, "waiting", (uint64_t)atomic_load(&n->n_waiting));
	resp_field(b, "connects", atomic_load(&n->n_connects));
	resp_field(b, "losses", atomic_load(&n->n_losses));
	resp_field_text(b, "breaker",
			!atomic_load(&n->broken)	    ? "closed"
			: node_half_open(n, clock_now_us()) ? "half-open"
							    : "open");
	resp_field(b, "breaker_opened", atomic_load(&n->n_opened));
	resp_field_text(b, "tracking", tracking_mode_name((enum tracking_mode)atomic_load(&n->truth.mode)));
}

static enum verdict upstreams(struct client *c, const struct call *call)
{
	const struct snapshot *s = c->w->snapshot;
	struct buf b = {0};
	struct node_writer nw = {.b = &b, .proto = c->proto};

	for (size_t i = 0; i < s->n_views; i++)
		topology_each(s->views[i].topo, count_node, &nw);
	resp_array(&b, nw.n);
	for (size_t i = 0; i < s->n_views; i++) {
		nw.up = s->views[i].up;
		topology_each(s->views[i].topo, put_node, &nw);
	}
	client_reply(c, call, &b);
	return CALL_DONE;
}

/* ---- UPSTREAM name command ... ---- */

/* The command behind the name, as a request of its own. */
static void put_inner(const struct call *call, struct buf *out)
{
	struct arg_cursor cur;
	const char *arg;
	size_t len;

	resp_array(out, call->frame->argc - 3);
	arg_cursor_init(&cur, call->bytes, call->len);
	for (uint32_t i = 0; arg_cursor_next(&cur, &arg, &len); i++)
		if (i >= 3)
			resp_bulk(out, arg, len);
}

static enum verdict send_inner(struct client *c, const struct call *call)
{
	return !c->w->only && fanout_wanted(c, call) ? fanout(c, call) : forward(c, call, 0, NULL, 0);
}

/* Namespaces are not to be got around: only where it goes is another. */
static enum verdict run_there(struct client *c, struct call *inner, policy_next_fn next)
{
	enum verdict verdict = c->w->policy && policy_wants(inner->cmd) ? policy_run(c, inner, next) : next(c, inner);

	if (inner->near)
		near_call_end(c->w, inner);
	return verdict;
}

static enum verdict run_inner(struct client *c, struct call *inner)
{
	switch (inner->cmd->handler) {
	case HANDLER_FORWARD:
	case HANDLER_PING: /* what we answer ourselves, or look at, is asked of that server here */
	case HANDLER_ECHO:
	case HANDLER_INFO:
	case HANDLER_CONFIG:
	case HANDLER_CLUSTER:
	case HANDLER_PUBLISH:
	case HANDLER_PUBSUB:
	case HANDLER_SCRIPT_LOAD:
	case HANDLER_SCRIPT_FLUSH:
	case HANDLER_FUNCTION_LOAD:
	case HANDLER_FUNCTION_DELETE:
	case HANDLER_FUNCTION_FLUSH:
	case HANDLER_SLOWLOG_GET:
	case HANDLER_SLOWLOG_LEN:
	case HANDLER_SLOWLOG_RESET:
		return run_there(c, inner, send_inner);
	case HANDLER_DEDICATED:
		return run_there(c, inner, handle_DEDICATED);
	case HANDLER_CL_THROTTLE:
		return run_there(c, inner, handle_CL_THROTTLE);
	default: /* it changes the state of a connection */
		client_reply_own_error(c, inner, ERROR_REFUSED);
		return CALL_DONE;
	}
}

/* Neither namespaces nor rate limits are to be got around. */
static enum verdict dispatch_inner(struct client *c, const struct buf *bytes)
{
	struct request_frame f = {.max_bulk = c->frame.max_bulk};
	struct call inner = {.frame = &f, .bytes = buf_head(bytes), .len = buf_len(bytes)};

	if (request_frame_feed(&f, inner.bytes, inner.len) != FRAME_READY)
		return CALL_DONE;
	inner.cmd = dispatch_find(c, &inner);
	return limit_run(c, &inner, run_inner);
}

static enum verdict to_upstream(struct client *c, const struct call *call)
{
	const struct snapshot *s = c->w->snapshot;
	struct buf bytes = {0};
	enum verdict verdict;
	size_t i;

	for (i = 0; i < s->n_views; i++)
		if (call_arg_is(call, 2, s->views[i].up->conf->name))
			break;
	if (i == s->n_views) {
		client_reply_error(c, call, "ERR no such upstream");
		return CALL_DONE;
	}
	put_inner(call, &bytes);
	c->forced_route = i + 1;
	verdict = dispatch_inner(c, &bytes);
	c->forced_route = 0;
	buf_release(&bytes);
	return verdict;
}

/* ---- RELOAD: done by the control thread, answered when it is ---- */

struct reload_job {
	struct job job; /* first */
	struct server_reload reload;
	struct worker *worker;
};

static void reload_done(struct server_reload *reload)
{
	struct reload_job *job = container_of(reload, struct reload_job, reload);
	struct buf b = {0};

	if (reload->ok)
		resp_simple(&b, "OK");
	else
		resp_error(&b, reload->error);
	client_job_end(&job->job, &b);
	free(job);
}

static enum verdict reload(struct client *c, const struct call *call)
{
	struct reload_job *job = xcalloc(1, sizeof(*job));

	job->reload.asker = c->w;
	job->reload.done = reload_done;
	client_job_begin(c, call, &job->job);
	server_ask_reload(c->w->server, &job->reload);
	return CALL_DONE;
}

static enum verdict help(struct client *c, const struct call *call);

static const struct subcommand {
	const char *name;
	enum verdict (*run)(struct client *c, const struct call *call);
	uint32_t argc_min;
	uint32_t argc_max;
	bool bound; /* on a bound listener it speaks of that namespace alone */
	const char *text;
} subcommands[] = {
	{"BIGKEYS", big_keys_tell, 2, 4, true,
	 "[COUNT n]: The largest requests and replies that passed: key, bytes, command, which of the two, seconds "
	 "ago."},
	{"CACHE", cache_cmd, 3, 4, true,
	 "STATS: What the near-cache keeps and does. FLUSH [pattern]: Drop what it has of all keys, or of those that "
	 "match."},
	{"HELP", help, 2, 2, true, "Print this help."},
	{"HOTKEYS", hot_keys_tell, 2, 4, true,
	 "[COUNT n]: The keys that are asked for most: key, estimated calls a second, per cent of all."},
	{"NAMESPACES", namespace_stats_tell, 2, 2, false, "What passed through each namespace."},
	{"RATELIMITS", limit_tell, 2, 2, false, "What became of what each rate limit is about."},
	{"RELOAD", reload, 2, 2, false, "Read the configuration file again, as SIGHUP does; an error changes nothing."},
	{"STATUS", status, 2, 2, false, "Counters of this proxy."},
	{"TOKENS", token_tell, 2, 2, false, "The list of revoked tokens, and what it was asked for."},
	{"UPSTREAM", to_upstream, 4, UINT32_MAX, false,
	 "name command [arg ...]: The command to that upstream, whatever its keys. Namespaces count."},
	{"UPSTREAMS", upstreams, 2, 2, false, "The servers behind it, their state and connections."},
};

#define N_SUBCOMMANDS (sizeof(subcommands) / sizeof(*subcommands))

static enum verdict help(struct client *c, const struct call *call)
{
	struct buf b = {0};

	resp_array(&b, 1 + 2 * N_SUBCOMMANDS);
	resp_simple(&b, "KEYWEIR <subcommand>. Subcommands are:");
	for (size_t i = 0; i < N_SUBCOMMANDS; i++) {
		buf_printf(&b, "+%s\r\n+    %s\r\n", subcommands[i].name, subcommands[i].text);
	}
	client_reply(c, call, &b);
	return CALL_DONE;
}

static enum verdict run(struct client *c, const struct call *call, const struct subcommand *sub)
{
	char text[96];

	if (call->frame->argc < sub->argc_min || call->frame->argc > sub->argc_max) {
		snprintf(text, sizeof(text), "ERR wrong number of arguments for KEYWEIR %s", sub->name);
		client_reply_error(c, call, text);
		return CALL_DONE;
	}
	if (client_view(c).bound && !sub->bound) {
		client_reply_own_error(c, call, ERROR_BOUND);
		return CALL_DONE;
	}
	return sub->run(c, call);
}

enum verdict handle_KEYWEIR(struct client *c, const struct call *call)
{
	const char *name;
	char text[160];
	size_t len;

	for (size_t i = 0; i < N_SUBCOMMANDS; i++)
		if (call_arg_is(call, 1, subcommands[i].name))
			return run(c, call, &subcommands[i]);
	name = call_arg(call, 1, &len);
	if (!name) {
		client_reply_error(c, call, "ERR wrong number of arguments for 'keyweir' command");
		return CALL_DONE;
	}
	snprintf(text, sizeof(text), "ERR unknown subcommand '%.*s'. Try KEYWEIR HELP.", len > 64 ? 64 : (int)len,
		 name);
	client_reply_error(c, call, text);
	return CALL_DONE;
}
