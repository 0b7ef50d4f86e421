/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of mistakes while it grows. Private to this folder; config.h has what callers see. */
#ifndef KEYWEIR_CONFIG_PROBLEM_H
#define KEYWEIR_CONFIG_PROBLEM_H

#include "config/config.h"

/* Where something was said. The file name is borrowed from the config_source. */
struct place {
	const char *file; /* NULL: nowhere, a default */
	unsigned line;
	unsigned col;
	const char *called; /* the option's name there, static; NULL: its path */
};

/* Bytes that could upset a terminal or a log line become "?". */
void problem_add(struct problem_list *list, struct place at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* By file, line, column. */
void problem_sort(struct problem_list *list);

#endif
