/* SPDX-License-Identifier: BSD-2-Clause */
/* See rewrap_daemon.h. */
#include "rewrap_daemon.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "config/address.h"
#include "config/config.h"

#define CONNECT_SECONDS 10
#define REPLY_SECONDS	120

static int failed(const char *doing, const char *why)
{
	fprintf(stderr, "keyweir: %s: %s\n", doing, why);
	return EXIT_FAILED;
}

/* ---- the connection ---- */

static redisContext *connect_to(const struct listen_address *at)
{
	static const unsigned char any[16];
	struct timeval timeout = {.tv_sec = CONNECT_SECONDS};
	char host[INET6_ADDRSTRLEN];

	if (at->family == AF_UNIX)
		return redisConnectUnixWithTimeout(at->path, timeout);
	if (memcmp(at->ip, any, at->family == AF_INET ? 4 : 16) == 0)
		snprintf(host, sizeof(host), "%s", at->family == AF_INET ? "127.0.0.1" : "::1");
	else
		inet_ntop(at->family, at->ip, host, sizeof(host));
	return redisConnectWithTimeout(host, at->port, timeout);
}

/* The first that speaks without TLS; NULL: there is none. */
static const char *plain_address(const struct config *config)
{
	struct listen_address at;

	for (size_t i = 0; i < config->server.listen.n; i++)
		if (!listen_address_parse(config->server.listen.items[i], &at) && !at.tls)
			return config->server.listen.items[i];
	return NULL;
}

int daemon_connect(const struct config *config, const char *address, struct redisContext **out)
{
	const char *text = address ? address : plain_address(config);
	struct timeval timeout = {.tv_sec = REPLY_SECONDS};
	struct listen_address at;
	const char *why;

	if (!text) {
		fputs("keyweir: server.listen has no address without TLS; give one with --address\n", stderr);
		return EXIT_USAGE;
	}
	why = listen_address_parse(text, &at);
	if (why || at.tls) {
		fprintf(stderr, "keyweir: %s %s\n", text, why ? why : "is one with TLS, which rewrap does not speak");
		return EXIT_USAGE;
	}
	*out = connect_to(&at);
	if (!*out || (*out)->err || redisSetTimeout(*out, timeout) != REDIS_OK)
		return failed(text, *out ? (*out)->errstr : "out of memory");
	return EXIT_FINE;
}

/* ---- KEYWEIR STATUS ---- */

/* A text in it; NULL: there is no such field. */
static const char *status_text(const redisReply *status, const char *name)
{
	for (size_t i = 0; i + 1 < status->elements; i += 2)
		if (status->element[i]->type == REDIS_REPLY_STRING && strcmp(status->element[i]->str, name) == 0 &&
		    status->element[i + 1]->type == REDIS_REPLY_STRING)
			return status->element[i + 1]->str;
	return NULL;
}

/* What is in force may be older than the file. */
static int check_sealing_key(const redisReply *status, const struct string_list *keys)
{
	const char *wanted = keys->n > 0 ? keys->items[0] : "", *used = status_text(status, "sealing_key");
	size_t len = strcspn(wanted, ":");

	if (!used)
		return failed("KEYWEIR STATUS", "it does not say which key seals: restart the daemon first");
	if (strlen(used) == len && memcmp(used, wanted, len) == 0)
		return EXIT_FINE;
	fprintf(stderr, "keyweir: the daemon seals with %s%s, the configuration file says %s%.*s: reload it first\n",
		*used ? "key " : "no key", used, len > 0 ? "key " : "no key", (int)len, wanted);
	return EXIT_FAILED;
}

int daemon_check(struct redisContext *c, const struct config *config)
{
	redisReply *reply = redisCommand(c, "KEYWEIR STATUS");
	int status;

	if (!reply)
		return failed("the connection is lost", c->errstr);
	if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", strlen("NOPERM")) == 0) {
		fputs("keyweir: this listener shows one namespace alone: take an address of server.listen\n", stderr);
		status = EXIT_USAGE;
	} else if (reply->type == REDIS_REPLY_ERROR) {
		status = failed("KEYWEIR STATUS", reply->str);
	} else {
		status = check_sealing_key(reply, &config->encryption.keys);
	}
	freeReplyObject(reply);
	return status;
}
