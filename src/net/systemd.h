/* SPDX-License-Identifier: BSD-2-Clause */
/* What systemd and we tell each other: readiness (sd_notify(3)) and sockets (sd_listen_fds(3)), without its library. */
#ifndef KEYWEIR_SYSTEMD_H
#define KEYWEIR_SYSTEMD_H

#include <stdint.h>

/* Sends a state ("READY=1") to $NOTIFY_SOCKET; does nothing without one. */
void systemd_notify(const char *state);

/* How many listening sockets were handed over; they begin at descriptor 3. The variables are unset. */
int systemd_listen_fds(void);

/* $WATCHDOG_USEC when it is meant for us; 0: none. */
int64_t systemd_watchdog_us(void);

#endif
