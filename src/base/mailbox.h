/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages to a thread: a locked queue and an eventfd that the thread's event loop watches. Ownership of a message
 * moves with it. Any thread may post; only the owner takes.
 */
#ifndef KEYWEIR_MAILBOX_H
#define KEYWEIR_MAILBOX_H

#include <pthread.h>

struct message {
	struct message *next;
	void (*run)(struct message *m, void *owner); /* on the receiving thread; frees the message */
};

struct mailbox {
	pthread_mutex_t lock;
	struct message *head;
	struct message *tail;
	int fd; /* eventfd, readable when there may be messages */
};

int mailbox_init(struct mailbox *mb); /* 0 or -errno */
void mailbox_fini(struct mailbox *mb);

void mailbox_post(struct mailbox *mb, struct message *m);

/* Runs everything that has arrived. */
void mailbox_run(struct mailbox *mb, void *owner);

#endif
