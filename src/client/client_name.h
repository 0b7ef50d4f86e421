/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of clients and their libraries; private to client/. */
#ifndef KEYWEIR_CLIENT_NAME_H
#define KEYWEIR_CLIENT_NAME_H

#include <stdbool.h>
#include <stddef.h>

struct client;

/* Printable and without blanks, as Redis asks. */
bool client_name_ok(const char *name, size_t len);

/* Sets the name; empty removes it. */
void client_set_name(struct client *c, const char *name, size_t len);

#endif
