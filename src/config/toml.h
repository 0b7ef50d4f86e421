/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TOML documents for C: the only door to the TOML library, which is C++ (toml.cc).
 *
 * No exception leaves it. Nodes and strings belong to the document and live until toml_free(). Lines and columns are
 * 1-based; the position of a table in its header is that of the name, one behind the "[".
 */
#ifndef KEYWEIR_CONFIG_TOML_H
#define KEYWEIR_CONFIG_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define TOML_NOEXCEPT noexcept
#else
#define TOML_NOEXCEPT
#endif

struct toml_doc;
struct toml_node;

enum toml_type { TOML_TABLE, TOML_ARRAY, TOML_STRING, TOML_INTEGER, TOML_FLOAT, TOML_BOOLEAN, TOML_DATE };

struct toml_position {
	unsigned line;
	unsigned col;
};

struct toml_error {
	struct toml_position at; /* 0, 0: not a place in the text */
	char text[256];
};

/* Returns NULL and fills *error when the text is not TOML. */
struct toml_doc *toml_parse(const char *text, size_t len, struct toml_error *error) TOML_NOEXCEPT;

/* Frees *doc, its strings wiped first, and sets it to NULL. */
void toml_free(struct toml_doc **doc) TOML_NOEXCEPT;

const struct toml_node *toml_root(const struct toml_doc *doc) TOML_NOEXCEPT;
enum toml_type toml_type_of(const struct toml_node *node) TOML_NOEXCEPT;
struct toml_position toml_position_of(const struct toml_node *node) TOML_NOEXCEPT;

/* The node must be of the type the name says. Strings end in NUL and may have a NUL inside. */
const char *toml_string(const struct toml_node *node, size_t *len) TOML_NOEXCEPT;
int64_t toml_integer(const struct toml_node *node) TOML_NOEXCEPT;
double toml_float(const struct toml_node *node) TOML_NOEXCEPT;
bool toml_boolean(const struct toml_node *node) TOML_NOEXCEPT;

/* Members of an array. */
size_t toml_size(const struct toml_node *array) TOML_NOEXCEPT;
const struct toml_node *toml_at(const struct toml_node *array, size_t i) TOML_NOEXCEPT;

/* Members of a table, in the order of their names. `at` is where the name stands. */
typedef void (*toml_each_fn)(const char *key, size_t len, struct toml_position at, const struct toml_node *node,
			     void *arg);
void toml_each(const struct toml_node *table, toml_each_fn fn, void *arg) TOML_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif
