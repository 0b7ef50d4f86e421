/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of mistakes: collected, sorted, printed. See problem.h. */
#include "config/problem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/text.h"

void problem_add(struct problem_list *list, struct place at, const char *fmt, ...)
{
	struct problem *p;
	va_list args;
	char *text;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = text_format("out of memory");
	va_end(args);
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
	/* Grows at powers of two. */
	if ((list->n & (list->n - 1)) == 0)
		list->items = text_grow(list->items, list->n ? list->n * 2 : 1, sizeof(*list->items));
	p = &list->items[list->n++];
	p->file = text_copy(at.file, strlen(at.file));
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

void problems_print(const struct problem_list *problems, FILE *out)
{
	for (size_t i = 0; i < problems->n; i++) {
		const struct problem *p = &problems->items[i];

		if (p->line)
			fprintf(out, "%s:%u:%u: %s\n", p->file, p->line, p->col, p->text);
		else
			fprintf(out, "%s: %s\n", p->file, p->text);
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
