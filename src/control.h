/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control thread (main): listeners, signals, configuration and its reload, the probe, systemd, the end. It never
 * touches a client's bytes.
 */
#ifndef KEYWEIR_CONTROL_H
#define KEYWEIR_CONTROL_H

#include "config/config.h"
#include "server.h"

struct control;

/*
 * Builds the daemon from a configuration (whose reference is taken over) and runs it until it is told to stop. `source`
 * is read again on reload and must outlive the call. Returns the exit status.
 */
int control_run(struct shared_config *holder, const struct config_source *source);

/* Messages from the workers; on the control thread. */
void control_worker_stopped(struct control *ctl);
void control_reload_asked(struct control *ctl, struct server_reload *reload);
void control_learn(struct control *ctl);
void control_topology_asked(struct control *ctl);
void control_confirmation_asked(struct control *ctl);
void control_count_asked(struct control *ctl, struct server_token_count *count);
void control_token_asked(struct control *ctl, const char *key, size_t len);

#endif
