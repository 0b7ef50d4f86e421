/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules of [token_blacklist]. Its keys become a namespace of their own, so that all that is done for namespaces, and
 * every rule between them, counts for them as well. See check.c.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/load.h"
#include "config/text.h"

#define SECRET_MIN 16

static const char *text_of(const struct loader *l, struct slot s)
{
	const struct string_list *list;

	if (s.o->type > TYPE_STRINGS)
		return *(char *const *)schema_field_const(l->config, s);
	list = schema_field_const(l->config, s);
	return list->n > 0 ? list->items[0] : "";
}

/* What was written for a list that is not there, somebody thinks to be in force. */
static void need_namespace(struct loader *l)
{
	static const enum option_id ids[] = {OPTION_token_blacklist_secret, OPTION_token_blacklist_secret_file,
					     OPTION_token_blacklist_tokens, OPTION_token_blacklist_file};

	if (setting_of(l, slot_of(OPTION_token_blacklist_namespace, 0))->bad)
		return;
	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
		struct slot s = slot_of(ids[i], 0);

		if (*text_of(l, s) && !setting_of(l, s)->bad)
			complain(l, s, setting_of(l, s)->at, "needs namespace beside it");
	}
}

static void check_secret(struct loader *l)
{
	struct token_blacklist_config *conf = &l->config->token_blacklist;
	struct slot secret = slot_of(OPTION_token_blacklist_secret, 0);
	struct slot file = slot_of(OPTION_token_blacklist_secret_file, 0);
	struct slot hash = slot_of(OPTION_token_blacklist_hash_tokens, 0);
	struct slot s = *conf->secret_file ? file : secret;

	check_secret_file(l, file, conf->secret_file, &conf->secret);
	check_private(l, file, conf->secret_file);
	if (!settings_fine(l, secret, file))
		return;
	if (*conf->secret && strlen(conf->secret) < SECRET_MIN)
		complain(l, s, setting_of(l, s)->at, "must have at least %d characters", SECRET_MIN);
	else if (conf->hash_tokens && !*conf->secret && !setting_of(l, hash)->bad)
		complain(l, hash,
			 setting_of(l, hash)->at.file ? setting_of(l, hash)->at
						      : setting_of(l, slot_of(OPTION_token_blacklist_namespace, 0))->at,
			 "needs secret or secret_file beside it");
}

/* "token:blacklist" means the keys behind its colon. */
static void complete_prefixes(struct string_list *prefixes)
{
	for (size_t i = 0; i < prefixes->n; i++) {
		char *item = prefixes->items[i];

		if (!isalnum((unsigned char)item[strlen(item) - 1]))
			continue;
		prefixes->items[i] = xasprintf("%s:", item);
		free(item);
	}
}

/* What is wrong with the namespace's option is said of ours. */
static void say_where(struct loader *l, struct slot ours, struct slot its, const char *called)
{
	const struct setting *from = setting_of(l, ours);
	struct setting *to = setting_of(l, its);
	size_t n = from->items ? ((const struct string_list *)schema_field_const(l->config, ours))->n : 0;

	to->at = from->at;
	to->at.called = called;
	to->bad = from->bad;
	if (n == 0)
		return;
	to->items = xcalloc(n, sizeof(*to->items));
	for (size_t i = 0; i < n; i++) {
		to->items[i] = from->items[i];
		to->items[i].called = called;
	}
}

static void make_namespace(struct loader *l)
{
	const struct token_blacklist_config *conf = &l->config->token_blacklist;
	struct slot ours = slot_of(OPTION_token_blacklist_namespace, 0);
	struct namespace_config *ns;
	size_t i;

	if (instance_find(l->config, SCOPE_NAMESPACE, TOKENS_NAMESPACE, &i)) {
		complain(l, ours, setting_of(l, ours)->at,
			 "can't be beside a [namespace." TOKENS_NAMESPACE "]: that one must have another name");
		return;
	}
	i = instance_need(l, SCOPE_NAMESPACE, TOKENS_NAMESPACE, strlen(TOKENS_NAMESPACE));
	ns = &l->config->namespaces[i];
	ns->has_tokens = true;
	string_list_clear(&ns->match);
	string_list_copy(&ns->match, &conf->prefixes);
	text_wipe(&ns->prefix);
	ns->prefix = xstrdup(conf->prefixes.items[0]);
	ns->ttl_ms = conf->ttl_ms;
	ns->ttl_jitter = 0; /* a token must not be good again too soon */
	text_wipe(&ns->upstream);
	ns->upstream = xstrdup(conf->upstream);
	say_where(l, ours, slot_of(OPTION_namespace_match, i), "token_blacklist.namespace");
	say_where(l, ours, slot_of(OPTION_namespace_prefix, i), "token_blacklist.namespace");
	free(setting_of(l, slot_of(OPTION_namespace_prefix, i))->items);
	setting_of(l, slot_of(OPTION_namespace_prefix, i))->items = NULL;
	say_where(l, slot_of(OPTION_token_blacklist_upstream, 0), slot_of(OPTION_namespace_upstream, i),
		  "token_blacklist.upstream");
}

void check_tokens(struct loader *l)
{
	struct token_blacklist_config *conf = &l->config->token_blacklist;

	if (conf->prefixes.n == 0) {
		need_namespace(l);
		return;
	}
	complete_prefixes(&conf->prefixes);
	check_secret(l);
	make_namespace(l);
}
