/* SPDX-License-Identifier: BSD-2-Clause */
/* A configuration with the certificates and keys that it names: see upstream.h. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cache/blacklist.h"
#include "policy/limits.h"
#include "upstream/upstream.h"

static bool has_tls_listener(const struct server_config *conf)
{
	for (size_t i = 0; i < conf->listen.n; i++)
		if (strncmp(conf->listen.items[i], "tls:", 4) == 0)
			return true;
	for (size_t i = 0; i < conf->n_listeners; i++)
		if (strncmp(conf->listeners[i].address, "tls:", 4) == 0)
			return true;
	return false;
}

static bool open_server(struct shared_config *s, char *why, size_t why_size)
{
	static const enum tls_client_cert wants[] = {
		[CLIENT_CERT_NONE] = TLS_CLIENT_CERT_NONE,
		[CLIENT_CERT_OPTIONAL] = TLS_CLIENT_CERT_OPTIONAL,
		[CLIENT_CERT_REQUIRED] = TLS_CLIENT_CERT_REQUIRED,
	};
	const struct server_tls_config *conf = &s->config->server.tls;
	struct tls_files files = {conf->cert, conf->key, conf->client_cert == CLIENT_CERT_NONE ? NULL : conf->ca};
	char text[256];

	if (!has_tls_listener(&s->config->server))
		return true;
	s->server_tls = tls_server_new(&files, wants[conf->client_cert], text, sizeof(text));
	if (!s->server_tls)
		snprintf(why, why_size, "[server.tls] %s", text);
	return s->server_tls;
}

static bool open_upstream(struct shared_config *s, size_t i, char *why, size_t why_size)
{
	const struct upstream_config *up = &s->config->upstreams[i];
	struct tls_files files = {up->tls.cert, up->tls.key, up->tls.verify ? up->tls.ca : NULL};
	char text[256];

	if (!up->target.tls)
		return true;
	s->upstream_tls[i] = tls_client_new(&files, up->tls.server_name, up->tls.verify, text, sizeof(text));
	if (!s->upstream_tls[i])
		snprintf(why, why_size, "[upstream.%s.tls] %s", up->name, text);
	return s->upstream_tls[i];
}

/* The ring has them now, in memory of its own; their names stay. */
static void forget_keys(struct encryption_config *conf)
{
	for (size_t i = 0; i < conf->keys.n; i++) {
		char *secret = strchr(conf->keys.items[i], ':');

		if (secret)
			sodium_memzero(secret + 1, strlen(secret + 1));
	}
	sodium_memzero(conf->hash_key, strlen(conf->hash_key));
}

/* The same of tokens: how many there are stays. */
static void forget_tokens(struct token_blacklist_config *conf)
{
	for (size_t i = 0; i < conf->tokens.n; i++)
		sodium_memzero(conf->tokens.items[i], strlen(conf->tokens.items[i]));
	sodium_memzero(conf->secret, strlen(conf->secret));
}

static bool open_tokens(struct shared_config *s, char *why, size_t why_size)
{
	struct token_blacklist_config *conf = &s->config->token_blacklist;

	if (conf->prefixes.n > 0)
		s->tokens = tokens_new(conf, why, why_size);
	if (s->tokens && conf->mirror)
		s->blacklist = blacklist_new();
	forget_tokens(conf);
	return s->tokens || conf->prefixes.n == 0;
}

static bool open_namespaces(struct shared_config *s, char *why, size_t why_size)
{
	s->keyring = keyring_new(&s->config->encryption, why, why_size);
	forget_keys(&s->config->encryption);
	if (!s->keyring || !open_tokens(s, why, why_size))
		return false;
	s->namespaces = namespaces_new(s->config, keyring_hash_key(s->keyring));
	namespaces_use_tokens(s->namespaces, s->tokens);
	return true;
}

struct shared_config *shared_config_new(struct config *config, char *why, size_t why_size)
{
	struct shared_config *s = xcalloc(1, sizeof(*s));
	bool ok;

	atomic_init(&s->refs, 1);
	s->config = config;
	s->limits = limits_new(config);
	s->upstream_tls = xcalloc(config->n_upstreams, sizeof(struct tls *));
	ok = open_namespaces(s, why, why_size) && open_server(s, why, why_size);
	for (size_t i = 0; ok && i < config->n_upstreams; i++)
		ok = open_upstream(s, i, why, why_size);
	if (!ok)
		shared_config_unref(&s);
	return s;
}

struct shared_config *shared_config_ref(struct shared_config *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void shared_config_unref(struct shared_config **sp)
{
	struct shared_config *s = *sp;

	*sp = NULL;
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	limits_free(&s->limits);
	namespaces_free(&s->namespaces);
	blacklist_unref(&s->blacklist);
	tokens_free(&s->tokens);
	keyring_free(&s->keyring);
	tls_free(&s->server_tls);
	for (size_t i = 0; i < s->config->n_upstreams; i++)
		tls_free(&s->upstream_tls[i]);
	free(s->upstream_tls);
	config_free(&s->config);
	free(s);
}
