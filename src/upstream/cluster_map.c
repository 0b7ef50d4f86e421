/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The slot map: see cluster_map.h.
 * https://redis.io/commands/cluster-shards/ https://redis.io/commands/cluster-slots/
 */
#include "upstream/cluster_map.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SCAN_BITS 20

/* A node as a reply names it. */
struct member {
	const char *id;
	const char *endpoint; /* NULL: not said */
	const char *ip;
	int port;
	bool master;
	bool failed;
};

static const redisReply *field(const redisReply *map, const char *name)
{
	for (size_t i = 0; i + 1 < map->elements; i += 2)
		if (map->element[i]->type == REDIS_REPLY_STRING && strcmp(map->element[i]->str, name) == 0)
			return map->element[i + 1];
	return NULL;
}

static const char *text_of(const redisReply *r)
{
	return r && (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS) ? r->str : NULL;
}

static long long number_of(const redisReply *r)
{
	return r && r->type == REDIS_REPLY_INTEGER ? r->integer : -1;
}

/* Where to connect to a member; NULL: nobody knows. */
static const char *host_of(const struct member *m, const struct node *asked)
{
	if (m->endpoint && strcmp(m->endpoint, "?") != 0 && *m->endpoint)
		return m->endpoint;
	if (m->endpoint && strcmp(m->endpoint, "?") == 0)
		return m->ip && *m->ip ? m->ip : NULL;
	return asked->host;
}

static void add_member(struct upstream *up, const struct node *asked, struct shard *s, const struct member *m,
		       const char **least_id)
{
	const char *host = host_of(m, asked);
	char head[9] = "";

	if (m->id && (!*least_id || strcmp(m->id, *least_id) < 0))
		*least_id = m->id;
	if (!host || m->port < 1 || m->port > 65535)
		return;
	if (m->master) {
		/* Of two that both call themselves master, one has failed. */
		if (s->master && m->failed)
			return;
		node_unref(&s->master);
		s->master = upstream_node(up, host, m->port);
		strncat(head, m->id ? m->id : "", 8);
		s->master_id = (uint32_t)strtoul(head, NULL, 16);
	} else if (!m->failed && s->n_replicas < SHARD_REPLICAS_MAX) {
		s->replicas[s->n_replicas++] = upstream_node(up, host, m->port);
	}
}

static void set_scan_id(struct shard *s, const char *least_id)
{
	char head[SCAN_BITS / 4 + 1] = "";

	strncat(head, least_id ? least_id : "", SCAN_BITS / 4);
	s->scan_id = (uint32_t)strtoul(head, NULL, 16) & ((1u << SCAN_BITS) - 1); /* whatever was said */
}

static bool take_range(struct topology *t, unsigned shard, long long from, long long to)
{
	if (from < 0 || to >= SLOTS || from > to)
		return false;
	for (long long slot = from; slot <= to; slot++)
		t->slots[slot] = (uint16_t)shard;
	if (t->shards[shard].any_slot < 0)
		t->shards[shard].any_slot = (int)from;
	return true;
}

/* Two shards may begin with the same digits: the second takes the next number. */
static void part_scan_ids(struct topology *t)
{
	bool *taken = xcalloc((size_t)1 << SCAN_BITS, sizeof(*taken));

	taken[0] = true; /* no shard */
	for (unsigned i = 0; i < t->n_shards; i++) {
		uint32_t *id = &t->shards[i].scan_id;

		while (taken[*id])
			*id = (*id + 1) & ((1u << SCAN_BITS) - 1);
		taken[*id] = true;
	}
	free(taken);
}

struct place {
	int slot;
	unsigned was;
};

static int by_slot(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->slot != y->slot ? (x->slot > y->slot) - (x->slot < y->slot) : (x->was > y->was) - (x->was < y->was);
}

static int by_address(const void *a, const void *b)
{
	return strcmp((*(struct node *const *)a)->label, (*(struct node *const *)b)->label);
}

/* Each node of a Cluster has an order of its own; that must not make another map of the same one. */
static void put_in_order(struct topology *t)
{
	struct place *places = xcalloc(t->n_shards, sizeof(*places));
	struct shard *shards = xcalloc(t->n_shards, sizeof(*shards));
	uint16_t *now = xcalloc(t->n_shards, sizeof(*now));

	for (unsigned i = 0; i < t->n_shards; i++) {
		places[i] = (struct place){t->shards[i].any_slot, i};
		qsort(t->shards[i].replicas, t->shards[i].n_replicas, sizeof(struct node *), by_address);
	}
	qsort(places, t->n_shards, sizeof(*places), by_slot);
	for (unsigned i = 0; i < t->n_shards; i++) {
		memcpy(&shards[i], &t->shards[places[i].was], sizeof(*shards));
		now[places[i].was] = (uint16_t)i;
	}
	for (unsigned i = 0; i < SLOTS; i++)
		if (t->slots[i] != NO_SHARD)
			t->slots[i] = now[t->slots[i]];
	free(t->shards);
	t->shards = shards;
	free(places);
	free(now);
}

/* A map without any slot is of no use. */
static struct topology *finish(struct topology *t, unsigned n_shards)
{
	t->n_shards = n_shards;
	if (n_shards == 0) {
		topology_unref(&t);
		return NULL;
	}
	put_in_order(t);
	part_scan_ids(t);
	return t;
}

/* ---- CLUSTER SHARDS ---- */

static struct member shards_member(const redisReply *node, bool tls)
{
	const char *role = text_of(field(node, "role")), *health = text_of(field(node, "health"));

	return (struct member){
		.id = text_of(field(node, "id")),
		.endpoint = text_of(field(node, "endpoint")),
		.ip = text_of(field(node, "ip")),
		.port = (int)number_of(field(node, tls ? "tls-port" : "port")),
		.master = role && strcmp(role, "master") == 0,
		.failed = health && strcmp(health, "failed") == 0,
	};
}

static bool take_shard(struct upstream *up, const struct node *asked, const redisReply *item, struct topology *t,
		       unsigned n)
{
	const redisReply *slots = field(item, "slots"), *nodes = field(item, "nodes");
	const char *least_id = NULL;

	if (!slots || slots->type != REDIS_REPLY_ARRAY || !nodes || nodes->type != REDIS_REPLY_ARRAY)
		return false;
	for (size_t i = 0; i + 1 < slots->elements; i += 2)
		take_range(t, n, number_of(slots->element[i]), number_of(slots->element[i + 1]));
	if (t->shards[n].any_slot < 0)
		return false; /* a node that has joined and serves nothing yet */
	for (size_t i = 0; i < nodes->elements; i++) {
		struct member m = shards_member(nodes->element[i], up->conf->target.tls);

		add_member(up, asked, &t->shards[n], &m, &least_id);
	}
	set_scan_id(&t->shards[n], least_id);
	return true;
}

struct topology *cluster_map_of_shards(struct upstream *up, const struct node *asked, const redisReply *reply)
{
	struct topology *t;
	unsigned n = 0;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements > SHARDS_MAX)
		return NULL;
	t = topology_new((unsigned)reply->elements, true);
	for (size_t i = 0; i < reply->elements; i++)
		if (reply->element[i]->type == REDIS_REPLY_ARRAY && take_shard(up, asked, reply->element[i], t, n))
			n++;
	return finish(t, n);
}

/* ---- CLUSTER SLOTS: from, to, master, replicas; each: endpoint, port, id, metadata ---- */

static struct member slots_member(const redisReply *node, bool master)
{
	struct member m = {.master = master};

	if (node->type != REDIS_REPLY_ARRAY || node->elements < 2)
		return m;
	m.endpoint = text_of(node->element[0]);
	m.port = (int)number_of(node->element[1]);
	m.id = node->elements > 2 ? text_of(node->element[2]) : m.endpoint;
	if (node->elements > 3 && node->element[3]->type == REDIS_REPLY_ARRAY)
		m.ip = text_of(field(node->element[3], "ip"));
	return m;
}

/* The shard of a master that was named before, or a new one. */
static unsigned shard_of(const char **ids, unsigned *n, const char *id)
{
	for (unsigned i = 0; i < *n; i++)
		if (strcmp(ids[i], id) == 0)
			return i;
	ids[*n] = id;
	return (*n)++;
}

static void take_slots(struct upstream *up, const struct node *asked, const redisReply *item, struct topology *t,
		       const char **ids, unsigned *n)
{
	struct member master = slots_member(item->element[2], true);
	const char *least_id = NULL;
	unsigned known = *n, i;

	if (!master.id || known == SHARDS_MAX)
		return;
	i = shard_of(ids, n, master.id);
	take_range(t, i, number_of(item->element[0]), number_of(item->element[1]));
	if (i < known)
		return;
	add_member(up, asked, &t->shards[i], &master, &least_id);
	for (size_t j = 3; j < item->elements; j++) {
		struct member m = slots_member(item->element[j], false);

		add_member(up, asked, &t->shards[i], &m, &least_id);
	}
	set_scan_id(&t->shards[i], least_id);
}

struct topology *cluster_map_of_slots(struct upstream *up, const struct node *asked, const redisReply *reply)
{
	struct topology *t;
	const char **ids;
	unsigned n = 0;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements > SLOTS)
		return NULL;
	t = topology_new((unsigned)reply->elements, true);
	ids = xcalloc(reply->elements + 1, sizeof(*ids));
	for (size_t i = 0; i < reply->elements; i++)
		if (reply->element[i]->type == REDIS_REPLY_ARRAY && reply->element[i]->elements >= 3)
			take_slots(up, asked, reply->element[i], t, ids, &n);
	free(ids);
	return finish(t, n);
}
