/* SPDX-License-Identifier: BSD-2-Clause */
/* Whom a command concerns, and what it takes of whose budget: see limit.h. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "client/limit_private.h"
#include "client/target.h"
#include "net/addr.h"
#include "server.h"

#define KEPT_CHARGES 4096

/* ---- who ---- */

/* Of IPv6 the network: whoever has one address has all of it. */
static uint64_t address_hash(struct client *c)
{
	unsigned char subject[ADDRESS_SUBJECT_MAX];
	struct address a;

	if (c->address_hash == 0) {
		size_t len = address_of_socket(c->io.fd, false, &a) ? address_subject(&a, subject) : 0;

		c->address_hash = buckets_hash(c->w->server->limit_seed, 0, subject, len);
	}
	return c->address_hash;
}

const char *limit_user(const struct client *c)
{
	return c->extra && c->extra->user ? c->extra->user : "default";
}

static uint64_t hash_of(const struct client *c, const void *subject, size_t len)
{
	return buckets_hash(c->w->server->limit_seed, 0, subject, len);
}

static uint64_t namespace_hash(const struct client *c, const struct namespace *ns)
{
	const char *name = ns ? ns->conf->name : "";

	return hash_of(c, name, strlen(name));
}

/* For whom a key is charged. The keys of a bound listener are others than those of the same name elsewhere. */
static uint64_t key_hash(const struct client *c, const char *key, size_t len)
{
	const struct view view = client_view(c);

	return hash_of(c, key, len) ^ (view.bound ? namespace_hash(c, view.bound) * 0x9e3779b97f4a7c15u : 0);
}

/* ---- what is charged ---- */

struct collector {
	struct client *c;
	const struct call *call;
	struct limit_charges *charges;
	uint64_t wanted;
	int64_t bytes;
};

/* name: what it is called, where the rule and the client do not say it; lives as long as the call. */
static void charge(struct collector *k, struct limit_rule *rule, uint64_t subject, struct slice name)
{
	struct limit_charges *all = k->charges;
	uint64_t hash = (subject ^ k->c->w->limit_salts[rule->id]) | 1, bit = (uint64_t)1 << rule->id;
	int64_t n = rule->conf->cost == LIMIT_COST_BYTES ? k->bytes : 1;

	if (all->n == all->room) {
		all->room = all->room * 2 + 16;
		all->items = xreallocarray(all->items, all->room, sizeof(*all->items));
	}
	all->items[all->n++] = (struct limit_charge){rule, hash, n, -1, !(all->seen & bit), name};
	all->seen |= bit;
}

/* A rule that charges a command once, however many of its keys match. */
static void charge_once(struct collector *k, struct limit_rule *rule)
{
	if (k->charges->seen & (uint64_t)1 << rule->id)
		return;
	switch (rule->conf->per) {
	case LIMIT_PER_CLIENT_IP:
		charge(k, rule, address_hash(k->c), (struct slice){NULL, 0});
		break;
	case LIMIT_PER_USER:
		charge(k, rule, hash_of(k->c, limit_user(k->c), strlen(limit_user(k->c))), (struct slice){NULL, 0});
		break;
	default:
		charge(k, rule, 0, (struct slice){NULL, 0});
		break;
	}
}

/* Each namespace that the command has keys of, once. */
static void charge_namespace(struct collector *k, struct limit_rule *rule, const struct namespace *ns)
{
	struct limit_charges *all = k->charges;
	size_t id = ns ? ns->id : namespaces_count(client_view(k->c).all);
	uint64_t bit = (uint64_t)1 << rule->id;

	if (all->namespaces[id].command != all->n_commands) {
		all->namespaces[id].command = all->n_commands;
		all->namespaces[id].seen = 0;
	}
	if (all->namespaces[id].seen & bit)
		return;
	all->namespaces[id].seen |= bit;
	charge(k, rule, namespace_hash(k->c, ns),
	       ns ? (struct slice){ns->conf->name, strlen(ns->conf->name)} : (struct slice){"", 0});
}

static void on_key(void *ctx, uint32_t i, const char *key, size_t len)
{
	struct collector *k = ctx;
	struct limits *l = k->c->w->limits;
	const struct view view = client_view(k->c);

	(void)i;
	for (uint64_t left = k->wanted; left; left &= left - 1) {
		struct limit_rule *rule = &l->rules[__builtin_ctzll(left)];

		if (!rule->by_key || !limit_matches(rule, key, len))
			continue;
		if (rule->conf->per == LIMIT_PER_KEY)
			charge(k, rule, key_hash(k->c, key, len), (struct slice){key, len});
		else if (rule->conf->per == LIMIT_PER_NAMESPACE)
			charge_namespace(k, rule, view_key(&view, key, len).ns);
		else
			charge_once(k, rule);
	}
}

void limit_collect(struct client *c, const struct call *call, uint64_t wanted)
{
	struct limits *l = c->w->limits;
	struct collector k = {c, call, c->w->limit_charges, wanted, 0};
	bool by_key = false;

	k.charges->seen = 0;
	k.charges->n_commands++;
	k.bytes = (int64_t)(call->len + (call->partial ? call->frame->bulk_left : 0));
	for (uint64_t left = wanted; left; left &= left - 1) {
		struct limit_rule *rule = &l->rules[__builtin_ctzll(left)];

		if (!rule->by_key)
			charge_once(&k, rule);
		else if (call->cmd->n_specs == 0 && client_view(c).bound)
			charge_namespace(&k, rule, client_view(c).bound);
		else
			by_key = true;
	}
	if (by_key)
		target_each_key(call, on_key, &k);
}

void limit_clear(struct client *c)
{
	struct limit_charges *all = c->w->limit_charges;

	all->n = 0;
	if (all->room > KEPT_CHARGES) {
		free(all->items);
		all->items = NULL;
		all->room = 0;
	}
}

/* ---- its name ---- */

static void put_address(struct client *c, struct buf *out)
{
	unsigned char subject[ADDRESS_SUBJECT_MAX];
	char hex[2 * ADDRESS_SUBJECT_MAX + 1];
	struct address a;
	size_t len = address_of_socket(c->io.fd, false, &a) ? address_subject(&a, subject) : 0;

	sodium_bin2hex(hex, sizeof(hex), subject, len);
	buf_puts(out, len > 0 ? hex : "unix");
}

/* The same name for all proxies; of a key that of a hash, for keys may be long, and are not to be read there. */
static void put_key(struct client *c, struct slice key, struct buf *out)
{
	const struct view view = client_view(c);
	const char *bound = view.bound ? view.bound->conf->name : "";
	crypto_generichash_state state;
	unsigned char hash[16];
	char hex[2 * sizeof(hash) + 1];

	crypto_generichash_init(&state, NULL, 0, sizeof(hash));
	crypto_generichash_update(&state, (const unsigned char *)bound, strlen(bound) + 1);
	crypto_generichash_update(&state, (const unsigned char *)key.p, key.len);
	crypto_generichash_final(&state, hash, sizeof(hash));
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	buf_puts(out, hex);
}

void limit_put_name(struct client *c, const struct limit_charge *one, struct buf *out)
{
	buf_printf(out, "keyweir:limit:%s:", one->rule->conf->name);
	switch (one->rule->conf->per) {
	case LIMIT_PER_CLIENT_IP:
		put_address(c, out);
		break;
	case LIMIT_PER_USER:
		buf_puts(out, limit_user(c));
		break;
	case LIMIT_PER_KEY:
		put_key(c, one->name, out);
		break;
	case LIMIT_PER_NAMESPACE:
		buf_put(out, one->name.p, one->name.len);
		break;
	case LIMIT_PER_ALL:
		break;
	}
}
