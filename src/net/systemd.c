/* SPDX-License-Identifier: BSD-2-Clause */
/* The two small protocols of systemd: see systemd.h. */
#include "net/systemd.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void systemd_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;
	int fd;

	if (n < 2 || n >= sizeof(sun.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(sun.sun_path, path, n);
	if (*path == '@')
		sun.sun_path[0] = '\0'; /* abstract */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sun,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0) {
		/* Nobody listens: nothing to be done about it. */
	}
	close(fd);
}

static int64_t number_of(const char *name)
{
	const char *value = getenv(name);

	return value ? strtoll(value, NULL, 10) : 0;
}

int systemd_listen_fds(void)
{
	int n = 0;

	if (number_of("LISTEN_PID") == getpid())
		n = (int)number_of("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return n > 0 && n < 1024 ? n : 0;
}

int64_t systemd_watchdog_us(void)
{
	int64_t pid = number_of("WATCHDOG_PID");

	return pid == 0 || pid == getpid() ? number_of("WATCHDOG_USEC") : 0;
}
