/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log. The one piece of process-wide state beside main(): every thread needs it, also when all else is broken.
 * A line is formatted on the stack and written with one write(), so lines of threads never mix.
 * On a terminal or in a file: "2026-11-20T22:40:48.123Z INFO text". Under journald the level is its "<6>" prefix
 * (sd-daemon(3)) and the journal knows the time.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

static struct {
	_Atomic int fd;
	_Atomic int level;
	_Atomic bool json;
	_Atomic bool journal;
	char *file;
} log_state = {.fd = STDERR_FILENO, .level = LOG_INFO_};

static const char *const level_names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
static const char journal_prefix[] = {'7', '6', '4', '3'};

/* Whether stderr is the journal: $JOURNAL_STREAM is "device:inode" of it (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

bool log_configure(int level, bool json, const char *file)
{
	int fd = STDERR_FILENO, old;

	if (*file) {
		fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		if (fd < 0)
			return false;
	}
	free(log_state.file);
	log_state.file = xstrdup(file);
	atomic_store(&log_state.level, level);
	atomic_store(&log_state.json, json);
	atomic_store(&log_state.journal, !*file && stderr_is_journal());
	old = atomic_exchange(&log_state.fd, fd);
	if (old != STDERR_FILENO)
		close(old);
	return true;
}

/*
 * The new file takes the old one's descriptor number (dup3), so that a thread in the middle of a line never writes
 * to a number that now means something else.
 */
void log_reopen(void)
{
	int fd = atomic_load(&log_state.fd), fresh;

	if (fd == STDERR_FILENO)
		return;
	fresh = open(log_state.file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fresh < 0) {
		log_error("Can't open the log file %s again: %s", log_state.file, strerror(errno));
		return;
	}
	dup3(fresh, fd, O_CLOEXEC);
	close(fresh);
}

bool log_enabled(int level)
{
	return level >= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

static size_t put_json_string(char *out, size_t room, const char *s)
{
	size_t n = 0;

	for (; *s && n + 7 < room; s++) {
		unsigned char ch = (unsigned char)*s;

		if (ch == '"' || ch == '\\')
			out[n++] = '\\', out[n++] = (char)ch;
		else if (ch < 0x20)
			n += (size_t)snprintf(out + n, room - n, "\\u%04x", ch);
		else
			out[n++] = (char)ch;
	}
	return n;
}

static void put_line(int level, const char *text)
{
	char line[1600], when[40];
	int64_t now_us = clock_wall_us();
	time_t seconds = (time_t)(now_us / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	if (atomic_load(&log_state.json)) {
		n = (size_t)snprintf(line, sizeof(line), "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"message\":\"", when,
				     (int)(now_us / 1000 % 1000), level_names[level]);
		n += put_json_string(line + n, sizeof(line) - n - 4, text);
		n += (size_t)snprintf(line + n, sizeof(line) - n, "\"}\n");
	} else if (atomic_load(&log_state.journal)) {
		n = (size_t)snprintf(line, sizeof(line), "<%c>%.1400s\n", journal_prefix[level], text);
	} else {
		n = (size_t)snprintf(line, sizeof(line), "%s.%03dZ %s %.1400s\n", when, (int)(now_us / 1000 % 1000),
				     level_names[level], text);
	}
	if (write(atomic_load(&log_state.fd), line, n) < 0)
		return; /* nowhere left to complain */
}

void log_line(int level, const char *fmt, ...)
{
	char text[1408];
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	put_line(level, text);
}

bool log_limit_pass(struct log_limit *limit)
{
	int64_t now_us = clock_now_us();
	int64_t next_us = atomic_load_explicit(&limit->next_us, memory_order_relaxed);

	return now_us >= next_us && atomic_compare_exchange_strong(&limit->next_us, &next_us, now_us + 1000000);
}
