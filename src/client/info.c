/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * INFO: the upstream's own, with clients and statistics replaced by the proxy's, and a section of its own. When the
 * upstream is down only what the proxy knows is told. https://redis.io/commands/info/
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/store.h"
#include "client/client.h"
#include "client/dispatch.h"
#include "client/stats.h"
#include "keyweir_version.h"
#include "resp/write.h"
#include "server.h"
#include "upstream/tracker.h"

struct field {
	const char *name;
	uint64_t value;
};

#define N_FIELDS 11

/* The fields of Redis's INFO that speak of the proxy. */
static void own_fields(struct server *s, struct field out[N_FIELDS])
{
	struct totals t;
	struct field fields[N_FIELDS];

	stats_totals_since_reset(s, &t);
	memcpy(fields,
	       (struct field[N_FIELDS]){
		       {"connected_clients", atomic_load(&s->n_clients)},
		       {"maxclients", atomic_load(&s->max_clients)},
		       {"blocked_clients", t.blocked},
		       {"total_connections_received", t.connections},
		       {"total_commands_processed", t.commands},
		       {"instantaneous_ops_per_sec", atomic_load(&s->ops_per_sec)},
		       {"total_net_input_bytes", t.bytes_in},
		       {"total_net_output_bytes", t.bytes_out},
		       {"rejected_connections", atomic_load(&s->rejected)},
		       {"pubsub_clients", t.subscribers},
		       {"clients_in_timeout_table", t.blocked},
	       },
	       sizeof(fields));
	memcpy(out, fields, sizeof(fields));
}

static void put_near_cache(const struct snapshot *s, struct buf *b)
{
	const struct shared_config *holder = s->holder;
	struct store *store = s->store;
	struct store_counts n;
	uint64_t items = 0;

	for (unsigned i = 0; store && i < namespaces_count(holder->namespaces); i++) {
		store_counts(store, i, &n);
		items += n.items;
	}
	buf_printf(b,
		   "keyweir_near_cache_bytes:%zu\r\nkeyweir_near_cache_max_bytes:%zu\r\n"
		   "keyweir_near_cache_items:%llu\r\n",
		   store ? store_bytes(store) : 0, store ? store_bytes_max(store) : 0, (unsigned long long)items);
}

/* Of an upstream's masters the one whose tracking is worst; without any there is none. */
static enum tracking_mode worst_tracking(const struct snapshot *s, size_t i)
{
	static const enum tracking_mode from_bad[] = {TRACKING_LOST, TRACKING_NONE, TRACKING_REDIRECT, TRACKING_BCAST};
	const struct topology *topo = s->views[i].topo;

	if (topo->n_shards == 0 && namespaces_near(s->holder->namespaces, i))
		return TRACKING_LOST;
	for (size_t k = 0; k < sizeof(from_bad) / sizeof(*from_bad); k++)
		for (unsigned n = 0; n < topo->n_shards; n++) {
			const struct node *master = topo->shards[n].master;

			if (master && atomic_load(&master->truth.mode) == (int)from_bad[k])
				return from_bad[k];
		}
	return TRACKING_OFF;
}

static void put_tracking(const struct snapshot *s, struct buf *b)
{
	for (size_t i = 0; i < s->n_views; i++)
		buf_printf(b, "tracking_%s:%s\r\n", s->views[i].up->conf->name,
			   tracking_mode_name(worst_tracking(s, i)));
}

static void put_own_section(const struct worker *w, struct buf *b)
{
	const struct server *s = w->server;
	struct totals t;

	stats_totals(s, &t);
	buf_printf(b, "# Keyweir\r\nkeyweir_version:%s\r\nkeyweir_uptime_in_seconds:%lld\r\nkeyweir_workers:%u\r\n",
		   KEYWEIR_VERSION, (long long)((clock_now_us() - s->start_us) / 1000000), s->n_workers);
#define COUNTER(name, help) buf_printf(b, "keyweir_" #name ":%llu\r\n", (unsigned long long)t.name);
#include "counters.def"
#undef COUNTER
	put_near_cache(w->snapshot, b);
	put_tracking(w->snapshot, b);
}

/*
 * Copies the upstream's text; lines whose field is ours get our value. Whether this is a Cluster says the emulation,
 * not what stands behind.
 */
static void copy_replaced(struct server *s, bool cluster, const char *p, const char *end, struct buf *out)
{
	struct field fields[N_FIELDS];

	own_fields(s, fields);
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p)), *colon;
		size_t len = lf ? (size_t)(lf - p) + 1 : (size_t)(end - p);
		int i = N_FIELDS;

		colon = memchr(p, ':', len);
		if (colon)
			for (i = 0; i < N_FIELDS; i++)
				if (strlen(fields[i].name) == (size_t)(colon - p) &&
				    memcmp(fields[i].name, p, (size_t)(colon - p)) == 0)
					break;
		if (i < N_FIELDS)
			buf_printf(out, "%s:%llu\r\n", fields[i].name, (unsigned long long)fields[i].value);
		else if (len > 11 && memcmp(p, "redis_mode:", 11) == 0)
			buf_printf(out, "redis_mode:%s\r\n", cluster ? "cluster" : "standalone");
		else if (len > 16 && memcmp(p, "cluster_enabled:", 16) == 0)
			buf_printf(out, "cluster_enabled:%d\r\n", cluster);
		else
			buf_put(out, p, len);
		p += len;
	}
}

/* r->arg: whether our own section is wanted. */
static void info_answered(struct request *r, char type, int64_t number)
{
	struct reply_cursor cur = {buf_head(&r->reply), buf_head(&r->reply) + buf_len(&r->reply)};
	struct client *c = r->client;
	struct reply_item item;
	struct buf text = {0}, b = {0};

	(void)number;
	if ((type != '$' && type != '=') || !reply_cursor_next(&cur, &item))
		return;
	if (type == '=' && item.len >= 4) { /* "txt:" */
		item.text += 4;
		item.len -= 4;
	}
	copy_replaced(c->w->server, c->w->snapshot->config->server.cluster_emulation, item.text, item.text + item.len,
		      &text);
	if (r->arg) {
		if (buf_len(&text) > 0)
			buf_puts(&text, "\r\n");
		put_own_section(c->w, &text);
	}
	resp_verbatim(&b, c->proto, text.data ? buf_head(&text) : "", buf_len(&text));
	buf_release(&text);
	buf_release(&r->reply);
	r->reply = b;
}

static void without_upstream(struct client *c, const struct call *call)
{
	struct pool *p = worker_main_pool(c->w);
	struct node_software software = node_software(p ? p->server : NULL);
	struct field fields[N_FIELDS];
	struct buf text = {0}, b = {0};

	own_fields(c->w->server, fields);
	buf_printf(&text, "# Server\r\nredis_version:%s\r\nredis_mode:standalone\r\n\r\n# Clients\r\n",
		   software.version);
	for (int i = 0; i < N_FIELDS; i++)
		buf_printf(&text, "%s:%llu\r\n", fields[i].name, (unsigned long long)fields[i].value);
	buf_puts(&text, "\r\n# Persistence\r\nloading:0\r\n\r\n# Replication\r\nrole:master\r\n\r\n");
	put_own_section(c->w, &text);
	resp_verbatim(&b, c->proto, buf_head(&text), buf_len(&text));
	buf_release(&text);
	client_reply(c, call, &b);
}

enum verdict handle_INFO(struct client *c, const struct call *call)
{
	bool own = call->frame->argc == 1;
	const struct pool *p;

	for (uint32_t i = 1; i < call->frame->argc && i < 64; i++)
		own = own || call_arg_is(call, i, "keyweir") || call_arg_is(call, i, "all") ||
		      call_arg_is(call, i, "everything") || call_arg_is(call, i, "default");
	p = worker_main_pool(c->w);
	if ((!p || pool_is_down(p)) && !c->bound && c->n_upstream == 0) {
		without_upstream(c, call);
		return CALL_DONE;
	}
	return forward(c, call, REQUEST_COLLECT, info_answered, own);
}
