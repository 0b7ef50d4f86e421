/* SPDX-License-Identifier: BSD-2-Clause */
/* The token blacklist on the control thread: its mirror and who keeps it, and TOKEN.COUNT where it needs more than
 * memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/blacklist.h"
#include "control_private.h"
#include "policy/token.h"
#include "upstream/token_count.h"
#include "upstream/token_keeper.h"
#include "worker.h"

/* The watch of the list's upstream. */
static struct watch *watch_of(struct control *ctl, const struct token_blacklist_config *conf)
{
	for (size_t i = 0; i < ctl->n_watches; i++)
		if (strcmp(watch_upstream(ctl->watches[i])->conf->name, conf->upstream) == 0)
			return ctl->watches[i];
	return NULL;
}

/* ---- the mirror ---- */

/* The same keys by other names: a mistake that nobody notices, since what was revoked just counts as good. */
static void tell_change(const struct tokens *before, const struct tokens *now)
{
	size_t len;

	if (before && now && !tokens_same(before, now) &&
	    strcmp(tokens_prefix(before, &len), tokens_prefix(now, &len)) == 0 &&
	    strcmp(tokens_conf(before)->upstream, tokens_conf(now)->upstream) == 0)
		log_warn("Token blacklist: hash_tokens or its secret is another: what was revoked before is no longer "
			 "found, and counts as good");
}

void control_change_tokens(struct control *ctl, struct shared_config *holder)
{
	struct watch *w = holder->blacklist ? watch_of(ctl, &holder->config->token_blacklist) : NULL;

	if (ctl->snapshot)
		tell_change(ctl->snapshot->holder->tokens, holder->tokens);
	if (ctl->tokens && w && token_keeper_upstream(ctl->tokens) == watch_upstream(w) &&
	    tokens_same(ctl->snapshot->holder->tokens, holder->tokens)) {
		token_keeper_use(ctl->tokens, holder);
		return;
	}
	token_keeper_free(&ctl->tokens);
	if (w)
		ctl->tokens = token_keeper_new(ctl->base, holder, watch_upstream(w), watch_topology(w));
}

void control_token_topology(struct control *ctl, struct upstream *up, struct topology *topo)
{
	if (ctl->tokens && token_keeper_upstream(ctl->tokens) == up)
		token_keeper_topology(ctl->tokens, topo);
}

void control_token_changed(struct control *ctl, struct upstream *up, const char *key, size_t len)
{
	if (ctl->tokens && token_keeper_upstream(ctl->tokens) == up)
		token_keeper_changed(ctl->tokens, key, len);
}

void control_token_asked(struct control *ctl, const char *key, size_t len)
{
	if (ctl->tokens)
		token_keeper_written(ctl->tokens, key, len);
}

/* ---- TOKEN.COUNT ---- */

static void run_counted(struct message *m, void *owner)
{
	struct server_token_count *count = container_of(m, struct server_token_count, message);

	(void)owner;
	count->done(count);
}

static void answer_first(struct control *ctl, size_t n, const char *why)
{
	struct server_token_count *count = container_of(ctl->counts.next, struct server_token_count, node);

	list_remove(&count->node);
	count->n = n;
	snprintf(count->error, sizeof(count->error), "%s%s", why ? "UPSTREAMDOWN the list can't be counted: " : "",
		 why ? why : "");
	count->message.run = run_counted;
	mailbox_post(&count->asker->mailbox, &count->message);
}

static void count_next(struct control *ctl);

static void counted(void *ctx, size_t n, const char *why)
{
	struct control *ctl = ctx;

	for (; ctl->n_counting > 0; ctl->n_counting--)
		answer_first(ctl, n, why);
	token_count_free(&ctl->counting);
	count_next(ctl);
}

static void count_there(struct control *ctl)
{
	struct shared_config *holder = ctl->snapshot->holder;
	struct watch *w = holder->tokens ? watch_of(ctl, &holder->config->token_blacklist) : NULL;

	if (w)
		ctl->counting = token_count_new(ctl->base, holder, watch_topology(w), counted, ctl);
	else
		counted(ctl, 0, "it is no more");
}

/* What those who ask have written is in the mirror now, if it holds. */
static void passed(void *ctx, bool ok)
{
	struct control *ctl = ctx;

	if (ctl->n_counting == 0) /* all is closed */
		return;
	if (ok)
		counted(ctl, blacklist_count(ctl->snapshot->holder->blacklist, clock_now_us()), NULL);
	else
		count_there(ctl);
}

/* Once for all that wait when it begins: where the mirror does not hold each walks over all of Redis's keys. */
static void count_next(struct control *ctl)
{
	if (ctl->n_counting > 0)
		return;
	LIST_EACH (pos, next, &ctl->counts)
		ctl->n_counting++;
	if (ctl->n_counting > 0 && ctl->tokens)
		token_keeper_pass(ctl->tokens, passed, ctl);
	else if (ctl->n_counting > 0)
		count_there(ctl);
}

void control_count_asked(struct control *ctl, struct server_token_count *count)
{
	list_append(&ctl->counts, &count->node);
	count_next(ctl);
}

void control_close_tokens(struct control *ctl)
{
	token_count_free(&ctl->counting);
	ctl->n_counting = 0;
	LIST_EACH (pos, next, &ctl->counts) { /* nobody is there to hear it */
		struct server_token_count *count = container_of(pos, struct server_token_count, node);

		list_remove(pos);
		count->forget(count);
	}
	token_keeper_free(&ctl->tokens);
}
