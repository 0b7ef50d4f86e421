/* SPDX-License-Identifier: BSD-2-Clause */
/* Listening sockets: see listener.h. */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define ACCEPT_BATCH 64 /* then other events have their turn */

/* A socket file left by a process that is gone may be replaced; one that somebody answers on may not. */
static bool clear_stale_socket(const struct address *a)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(a->un.sun_path, &st) < 0)
		return true;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return false;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, &a->sa, a->len) < 0 && errno == ECONNREFUSED;
	close(fd);
	if (!stale) {
		errno = EADDRINUSE;
		return false;
	}
	return unlink(a->un.sun_path) == 0;
}

static int open_socket(const struct address *a, int backlog)
{
	int on = 1, fd;

	if (a->sa.sa_family == AF_UNIX && !clear_stale_socket(a))
		return -1;
	fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (a->sa.sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->sa.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, &a->sa, a->len) < 0 || listen(fd, backlog) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* "tls:HOST:PORT" is HOST:PORT for the kernel. */
static const char *without_tls(const char *text)
{
	return strncmp(text, "tls:", 4) == 0 ? text + 4 : text;
}

static struct listener *listener_new(const char *text, const char *namespace, int fd)
{
	struct listener *l = xcalloc(1, sizeof(*l));

	list_init(&l->node);
	l->text = xstrdup(text);
	l->namespace = namespace ? xstrdup(namespace) : NULL;
	l->tls = without_tls(text) != text;
	l->fd = fd;
	return l;
}

bool listener_is_at(const struct listener *l, const char *text)
{
	return strcmp(without_tls(l->text), without_tls(text)) == 0;
}

void listener_become(struct listener *l, const char *text, const char *namespace)
{
	char *old = l->text, *old_namespace = l->namespace;

	l->text = xstrdup(text);
	l->namespace = namespace ? xstrdup(namespace) : NULL;
	l->tls = without_tls(text) != text;
	free(old);
	free(old_namespace);
}

struct listener *listener_open(const char *text, const char *namespace, int backlog, char *why, size_t why_size)
{
	struct address a;
	struct listener *l;
	int fd;

	if (!address_parse(without_tls(text), &a)) {
		snprintf(why, why_size, "%s is not an address", text);
		return NULL;
	}
	fd = open_socket(&a, backlog);
	if (fd < 0) {
		snprintf(why, why_size, "Can't listen on %s: %s", text, strerror(errno));
		return NULL;
	}
	l = listener_new(text, namespace, fd);
	l->address = a;
	return l;
}

struct listener *listener_adopt(int fd, char *why, size_t why_size)
{
	char text[ADDRESS_TEXT_MAX];
	struct address a;
	struct listener *l;
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening ||
	    !address_of_socket(fd, true, &a)) {
		snprintf(why, why_size, "descriptor %d is no listening socket", fd);
		return NULL;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	address_format(&a, text);
	l = listener_new(text, NULL, fd);
	l->address = a;
	l->inherited = true;
	return l;
}

static void rest_over(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	event_add(l->event, NULL);
}

/* No descriptors: leave the connections in the backlog for a tenth of a second. */
static void rest(struct listener *l)
{
	static const struct timeval pause = {0, 100000};
	static struct log_limit limit;

	if (log_limit_pass(&limit))
		log_warn("Can't accept on %s: %s", l->text, strerror(errno));
	event_del(l->event);
	event_add(l->rest, &pause);
}

static void on_connection(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)what;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int client = accept4((int)fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (client >= 0) {
			l->accepted(l->ctx, client, l);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			rest(l);
		if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

bool listener_start(struct listener *l, struct event_base *base,
		    void (*accepted)(void *ctx, int fd, const struct listener *l), void *ctx)
{
	l->accepted = accepted;
	l->ctx = ctx;
	l->event = event_new(base, l->fd, EV_READ | EV_PERSIST, on_connection, l);
	l->rest = evtimer_new(base, rest_over, l);
	return l->event && l->rest && event_add(l->event, NULL) == 0;
}

void listener_close(struct listener **lp)
{
	struct listener *l = *lp;

	*lp = NULL;
	if (!l)
		return;
	list_remove(&l->node);
	if (l->event)
		event_free(l->event);
	if (l->rest)
		event_free(l->rest);
	close(l->fd);
	if (l->address.sa.sa_family == AF_UNIX && !l->inherited)
		unlink(l->address.un.sun_path);
	free(l->text);
	free(l->namespace);
	free(l);
}
