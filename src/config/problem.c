/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of mistakes: collected, sorted, printed. See problem.h. */
#include "config/problem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/text.h"

void problem_add(struct problem_list *list, struct place at, const char *fmt, ...)
{
	struct problem *p;
	va_list args;
	char *text;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = xasprintf("out of memory");
	va_end(args);
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
	/* Grows at powers of two. */
	if ((list->n & (list->n - 1)) == 0)
		list->items = xreallocarray(list->items, list->n ? list->n * 2 : 1, sizeof(*list->items));
	p = &list->items[list->n++];
	p->file = xmemdup0(at.file, strlen(at.file));
	p->line = at.line;
	p->col = at.col;
	p->text = text;
}

static int compare(const void *x, const void *y)
{
	const struct problem *a = x, *b = y;
	int files = strcmp(a->file, b->file);

	if (files)
		return files;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	if (a->col != b->col)
		return a->col < b->col ? -1 : 1;
	return strcmp(a->text, b->text);
}

void problem_sort(struct problem_list *list)
{
	if (list->n > 1)
		qsort(list->items, list->n, sizeof(*list->items), compare);
}

char *problem_format(const struct problem *p)
{
	const char *file = p->file ? p->file : "configuration";

	return p->line ? xasprintf("%s:%u:%u: %s", file, p->line, p->col, p->text) : xasprintf("%s: %s", file, p->text);
}

void problems_print(const struct problem_list *problems, FILE *out)
{
	for (size_t i = 0; i < problems->n; i++) {
		char *text = problem_format(&problems->items[i]);

		fprintf(out, "%s\n", text);
		free(text);
	}
}

void problems_free(struct problem_list *problems)
{
	for (size_t i = 0; i < problems->n; i++) {
		free(problems->items[i].file);
		free(problems->items[i].text);
	}
	free(problems->items);
	*problems = (struct problem_list){0};
}
