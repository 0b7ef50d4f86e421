/* SPDX-License-Identifier: BSD-2-Clause */
/* KEYWEIR: the proxy's own command. One table of subcommands. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/fanout.h"
#include "client/namespace_stats.h"
#include "client/policy.h"
#include "client/stats.h"
#include "keyweir_version.h"
#include "resp/write.h"
#include "server.h"
#include "upstream/tracker.h"

static void put_field(struct buf *b, const char *name, uint64_t value)
{
	resp_bulks(b, name);
	resp_int(b, (int64_t)value);
}

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
	resp_bulks(&b, "version");
	resp_bulks(&b, KEYWEIR_VERSION);
	resp_bulks(&b, "sealing_key");
	put_sealing_key(&b, &c->w->snapshot->config->encryption);
	put_field(&b, "uptime_in_seconds", (uint64_t)((clock_now_us() - s->start_us) / 1000000));
	put_field(&b, "workers", s->n_workers);
	put_field(&b, "connected_clients", atomic_load(&s->n_clients));
	put_field(&b, "rejected_connections", atomic_load(&s->rejected));
	put_field(&b, "reloads", atomic_load(&s->reloads));
#define COUNTER(name, help) put_field(&b, #name, t.name);
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
	resp_bulks(b, "name");
	resp_bulks(b, nw->up->conf->name);
	resp_bulks(b, "url");
	resp_bulks(b, n->label);
	resp_bulks(b, "role");
	resp_bulks(b, master ? "master" : "replica");
	resp_bulks(b, "state");
	resp_bulks(b, states[atomic_load(&n->state)]);
	resp_bulks(b, "version");
	pthread_mutex_lock(&n->lock);
	resp_bulks(b, n->version);
	pthread_mutex_unlock(&n->lock);
	put_field(b, "connections", (uint64_t)atomic_load(&n->n_links));
	put_field(b, "pool_size", (uint64_t)n->conf->pool_size);
	put_field(b, "waiting", (uint64_t)atomic_load(&n->n_waiting));
	put_field(b, "connects", atomic_load(&n->n_connects));
	put_field(b, "losses", atomic_load(&n->n_losses));
	resp_bulks(b, "breaker");
	resp_bulks(b, !atomic_load(&n->broken) ? "closed" : node_half_open(n, clock_now_us()) ? "half-open" : "open");
	put_field(b, "breaker_opened", atomic_load(&n->n_opened));
	resp_bulks(b, "tracking");
	resp_bulks(b, tracking_mode_name((enum tracking_mode)atomic_load(&n->truth.mode)));
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

static enum verdict run_inner(struct client *c, const struct buf *bytes)
{
	struct request_frame f = {.max_bulk = c->frame.max_bulk};
	struct call inner = {.frame = &f, .bytes = buf_head(bytes), .len = buf_len(bytes)};

	if (request_frame_feed(&f, inner.bytes, inner.len) != FRAME_READY)
		return CALL_DONE;
	inner.cmd = dispatch_find(c, &inner);
	switch (inner.cmd->handler) {
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
		/* Namespaces are not to be got around: only where it goes is another. */
		return c->w->policy && policy_wants(inner.cmd) ? policy_run(c, &inner, send_inner)
							       : send_inner(c, &inner);
	case HANDLER_DEDICATED:
		return c->w->policy && policy_wants(inner.cmd) ? policy_run(c, &inner, handle_DEDICATED)
							       : handle_DEDICATED(c, &inner);
	default: /* it changes the state of a connection */
		client_reply_own_error(c, &inner, ERROR_REFUSED);
		return CALL_DONE;
	}
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
	verdict = run_inner(c, &bytes);
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

static enum verdict usage(struct client *c, const struct call *call)
{
	client_reply_error(c, call, "ERR wrong number of arguments for 'keyweir|upstream' command");
	return CALL_DONE;
}

static const struct subcommand {
	const char *name;
	enum verdict (*run)(struct client *c, const struct call *call);
	const char *text;
} subcommands[] = {
	{"HELP", help, "Print this help."},
	{"NAMESPACES", namespace_stats_tell, "What passed through each namespace."},
	{"RELOAD", reload, "Read the configuration file again, as SIGHUP does; an error changes nothing."},
	{"STATUS", status, "Counters of this proxy."},
	{"UPSTREAM", usage,
	 "name command [arg ...]: The command to that upstream, whatever its keys. Namespaces count."},
	{"UPSTREAMS", upstreams, "The servers behind it, their state and connections."},
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

enum verdict handle_KEYWEIR(struct client *c, const struct call *call)
{
	struct buf b = {0};
	const char *name;
	size_t len;

	if (call_arg_is(call, 1, "UPSTREAM") && call->frame->argc >= 4)
		return to_upstream(c, call);
	for (size_t i = 0; i < N_SUBCOMMANDS; i++)
		if (call_arg_is(call, 1, subcommands[i].name) && call->frame->argc == 2)
			return subcommands[i].run(c, call);
	name = call_arg(call, 1, &len);
	if (!name)
		resp_error(&b, "ERR wrong number of arguments for 'keyweir' command");
	else {
		char text[160];

		snprintf(text, sizeof(text),
			 "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try KEYWEIR HELP.",
			 len > 64 ? 64 : (int)len, name);
		resp_error(&b, text);
	}
	client_reply(c, call, &b);
	return CALL_DONE;
}
