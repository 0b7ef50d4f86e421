/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: one line an event, to stderr or a file, as text or JSON. Any thread may log; a line is one write().
 * Never a password, a token or a value: callers pass masked URLs and their own words.
 */
#ifndef KEYWEIR_LOG_H
#define KEYWEIR_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* Same order as enum log_level in config/config.h. */
enum { LOG_DEBUG_, LOG_INFO_, LOG_WARN_, LOG_ERROR_ };

/*
 * Sets level, format and file ("" is stderr). Called by the control thread, also on reload.
 * Returns false, and keeps the old settings, when the file can't be opened (errno says why).
 */
bool log_configure(int level, bool json, const char *file) __attribute__((warn_unused_result));

/* Opens the log file anew (SIGUSR1, after logrotate moved it). */
void log_reopen(void);

bool log_enabled(int level);
void log_line(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) (log_enabled(LOG_DEBUG_) ? log_line(LOG_DEBUG_, __VA_ARGS__) : (void)0)
#define log_info(...)  log_line(LOG_INFO_, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN_, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR_, __VA_ARGS__)

/* At most one line a second from one place. Returns true when this line may be written. */
struct log_limit {
	_Atomic int64_t next_us;
};
bool log_limit_pass(struct log_limit *limit);

#endif
