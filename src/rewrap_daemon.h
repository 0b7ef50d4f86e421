/* SPDX-License-Identifier: BSD-2-Clause */
/* The connection of keyweir rewrap to the running daemon, and whether that is as the walk needs it. */
#ifndef KEYWEIR_REWRAP_DAEMON_H
#define KEYWEIR_REWRAP_DAEMON_H

struct config;
struct redisContext;

/* Statuses of keyweir rewrap; whoever returns another than the first has said why. */
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CONFIG = 78 };

/* address: NULL is the first of server.listen without TLS. *out is the caller's, also after a failure. */
int daemon_connect(const struct config *config, const char *address, struct redisContext **out);

/* Whether it is a Keyweir, one that shows all namespaces, and seals with the first key of this configuration. */
int daemon_check(struct redisContext *c, const struct config *config);

#endif
