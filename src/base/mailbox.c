/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages between threads: see mailbox.h. */
#include "base/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mailbox_init(struct mailbox *mb)
{
	mb->head = mb->tail = NULL;
	mb->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (mb->fd < 0)
		return -errno;
	pthread_mutex_init(&mb->lock, NULL);
	return 0;
}

void mailbox_fini(struct mailbox *mb)
{
	close(mb->fd);
	pthread_mutex_destroy(&mb->lock);
}

void mailbox_post(struct mailbox *mb, struct message *m)
{
	uint64_t one = 1;
	int was_empty;

	m->next = NULL;
	pthread_mutex_lock(&mb->lock);
	was_empty = !mb->head;
	if (mb->tail)
		mb->tail->next = m;
	else
		mb->head = m;
	mb->tail = m;
	pthread_mutex_unlock(&mb->lock);
	/* A full counter is fine: the owner is awake then. */
	if (was_empty && write(mb->fd, &one, sizeof(one)) < 0)
		return;
}

void mailbox_run(struct mailbox *mb, void *owner)
{
	struct message *m;
	uint64_t count;

	if (read(mb->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	pthread_mutex_lock(&mb->lock);
	m = mb->head;
	mb->head = mb->tail = NULL;
	pthread_mutex_unlock(&mb->lock);
	while (m) {
		struct message *next = m->next;

		m->run(m, owner);
		m = next;
	}
}
