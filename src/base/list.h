/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Intrusive doubly linked list. A head and an item are the same struct; an item that is in no list points at itself,
 * so that list_remove() may be called twice and list_is_linked() tells.
 */
#ifndef KEYWEIR_LIST_H
#define KEYWEIR_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev;
	struct list *next;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Walks a list; the body may remove `pos` (and only `pos`). */
#define LIST_EACH(pos, tmp, head)                                                                                      \
	for (struct list *pos = (head)->next, *tmp = pos->next; pos != (head); pos = tmp, tmp = pos->next)

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline bool list_is_linked(const struct list *item)
{
	return item->next != item;
}

static inline void list_append(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

static inline void list_prepend(struct list *head, struct list *item)
{
	list_append(head->next, item); /* in front of what was the first */
}

static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

#endif
