/* SPDX-License-Identifier: BSD-2-Clause */
/* What was probably meant by an unknown name: the nearest one that there is. See schema.h. */
#include <stdio.h>
#include <string.h>

#include "config/schema.h"

#define COMPARED_MAX 96 /* bytes; a longer name is not a slip of the pen */

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Edits (insert, delete, change, swap of neighbours) that make b out of a; "-" and "_" are the same. */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned rows[3][COMPARED_MAX + 1];

	if (na > COMPARED_MAX || nb > COMPARED_MAX)
		return COMPARED_MAX;
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3], *second = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			char x = a[i - 1] == '-' ? '_' : a[i - 1];

			row[j] = least(above[j - 1] + (x != b[j - 1]), 1 + least(above[j], row[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], second[j - 2] + 1);
		}
	}
	return rows[na % 3][nb];
}

/* How many edits are still a slip: one in a short name, at most three. */
static unsigned slips(size_t len)
{
	return len <= 4 ? 1 : len <= 8 ? 2 : 3;
}

const struct option *schema_suggest(enum option_table table, const char *key)
{
	const struct option *best = NULL;
	unsigned nearest = slips(strlen(key)) + 1;

	for (unsigned i = 0; i < N_OPTIONS; i++) {
		const struct option *o = schema_option(i);
		unsigned d;

		if (o->table != table)
			continue;
		d = distance(key, strlen(key), o->key, strlen(o->key));
		if (d < nearest) {
			nearest = d;
			best = o;
		}
	}
	return best;
}

/* The second part of a path, which is the name of an instance where the table has some. */
static void take_name(const char *path, size_t len, char name[INSTANCE_NAME_MAX + 1])
{
	const char *dot = memchr(path, '.', len), *end;
	size_t n = 0;

	if (dot) {
		end = memchr(dot + 1, '.', len - (size_t)(dot + 1 - path));
		n = end ? (size_t)(end - dot - 1) : 0;
	}
	if (n > INSTANCE_NAME_MAX)
		n = 0;
	snprintf(name, INSTANCE_NAME_MAX + 1, "%.*s", (int)n, n ? dot + 1 : "");
}

const struct option *schema_suggest_path(const char *path, size_t len, char name[INSTANCE_NAME_MAX + 1])
{
	const struct option *best = NULL;
	unsigned nearest = slips(len) + 1;
	char buf[SCHEMA_PATH_MAX];

	take_name(path, len, name);
	for (unsigned i = 0; i < N_OPTIONS; i++) {
		const char *other = schema_option_path(schema_option(i), name, buf);
		unsigned d = distance(path, len, other, strlen(other));

		if (d < nearest) {
			nearest = d;
			best = schema_option(i);
		}
	}
	return best;
}

enum option_table schema_suggest_table(const char *name)
{
	unsigned nearest = slips(strlen(name)) + 1, best = N_TABLES;

	for (unsigned i = 0; i < N_TABLES; i++) {
		const char *path = schema_table(i)->path;
		unsigned d = distance(name, strlen(name), path, strcspn(path, "."));

		if (d < nearest) {
			nearest = d;
			best = i;
		}
	}
	return best;
}

enum option_table schema_suggest_subtable(enum option_table parent, const char *key)
{
	const char *prefix = schema_table(parent)->path;
	unsigned nearest = slips(strlen(key)) + 1, best = N_TABLES;
	size_t n = strlen(prefix);

	for (unsigned i = 0; i < N_TABLES; i++) {
		const char *path = schema_table(i)->path;
		unsigned d;

		if (strncmp(path, prefix, n) != 0 || path[n] != '.' || path[n + 1] == '*')
			continue;
		d = distance(key, strlen(key), path + n + 1, strlen(path + n + 1));
		if (d < nearest) {
			nearest = d;
			best = i;
		}
	}
	return best;
}

const struct option *schema_elsewhere(enum option_table table, const char *key)
{
	const struct option *found = NULL;

	for (unsigned i = 0; i < N_OPTIONS; i++) {
		const struct option *o = schema_option(i);

		if (strcmp(o->key, key) != 0)
			continue;
		if (table < N_TABLES && schema_scope(o) == schema_table(table)->scope)
			return o;
		if (!found)
			found = o;
	}
	return found;
}
