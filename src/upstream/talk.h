/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A conversation of the control thread with one server (Redis or Sentinel): it logs in, asks, and hears the answers in
 * order. RESP2 by hiredis's formatter and reader over our own transport (plain or TLS); input is bounded. What is asked
 * before the connection stands is sent when it does. Control thread. Whoever opened it closes it, also after `failed`;
 * closing inside a callback is fine.
 *
 * Raw, it is only the connection: who has it logs in, writes and reads bytes by himself (tracking_wire.c, which needs
 * RESP3).
 */
#ifndef KEYWEIR_TALK_H
#define KEYWEIR_TALK_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "upstream/node.h"

struct redisReply;
struct talk;

struct talk_events {
	/* Logged in. */
	void (*ready)(void *ctx);
	/* The connection can't be made, broke, or does not answer in time. Nothing is heard after it. */
	void (*failed)(void *ctx, const char *why);
	/* What comes when nothing was asked: messages, after SUBSCRIBE. May be NULL. */
	void (*message)(void *ctx, const struct redisReply *reply);
	/*
	 * Not NULL: it is raw. Bytes as they come, and when all that was there has been read; `ready` then means that
	 * the connection stands (TLS included).
	 */
	void (*bytes)(void *ctx, const char *data, size_t len);
	void (*drained)(void *ctx);
};

struct talk_login {
	const char *username; /* NULL or "": none */
	const char *password; /* NULL or "": none */
	const char *name;     /* for CLIENT SETNAME; NULL: not said (Sentinel before 6.2 knows it not) */
};

/* events and the strings of login live as long as the talk. login: NULL when it is raw. */
struct talk *talk_open(struct event_base *base, struct node *node, const struct talk_login *login,
		       int64_t connect_timeout_ms, const struct talk_events *events, void *ctx);
void talk_close(struct talk **t);

/* Asks; answered(ctx, reply) comes in order, the reply is the talk's. timeout_ms: for this answer. */
void talk_ask(struct talk *t, int64_t timeout_ms, void (*answered)(void *ctx, const struct redisReply *reply), int argc,
	      const char *const *argv);

/* Raw: writes; what the socket does not take goes with the next call. */
void talk_send(struct talk *t, const char *data, size_t len);

/* Where it is connected to, or was last tried. */
const struct address *talk_address(const struct talk *t);

/* Whether everything asked was answered. */
bool talk_is_idle(const struct talk *t);
bool talk_is_ready(const struct talk *t);

#endif
