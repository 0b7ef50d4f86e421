/* SPDX-License-Identifier: BSD-2-Clause */
/* See admission.h. */
#include "admission.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "policy/limits.h"
#include "resp/errors.h"

static uint64_t hash_of(struct server *s, const struct limit_rule *rule, const struct address *a)
{
	unsigned char subject[ADDRESS_SUBJECT_MAX];
	size_t len = rule->conf->per == LIMIT_PER_CLIENT_IP ? address_subject(a, subject) : 0;

	return buckets_hash(s->limit_seed, 0, subject, len);
}

static void say(struct limit_rule *rule, const struct address *a)
{
	uint64_t unsaid = atomic_fetch_add_explicit(&rule->unsaid, 1, memory_order_relaxed);
	char text[ADDRESS_TEXT_MAX];

	if (!log_limit_pass(&rule->log))
		return;
	atomic_store_explicit(&rule->unsaid, 0, memory_order_relaxed);
	address_format(a, text);
	log_warn("Rate limit %s: a connection of %s refused; %" PRIu64 " more since the last line", rule->conf->name,
		 text, unsaid);
}

static void refuse(struct limit_rule *rule, const struct address *a, int64_t retry_ns, char *line, size_t size)
{
	int64_t ms = (retry_ns + 999999) / 1000000;

	say(rule, a);
	snprintf(line, size, "-%s (%s), retry after %" PRId64 " ms\r\n", reply_error_text(ERROR_RATE_LIMITED),
		 rule->conf->name, ms > 0 ? ms : 1);
}

/* Asks one rule. False: it stands in the way. */
static bool ask(struct server *s, struct limit_rule *rule, uint64_t hash, int64_t now_ns, bool *taken,
		int64_t *retry_ns)
{
	struct connection_counts *counts = &s->connection_counts[rule->id];
	int64_t wait = buckets_take(rule->buckets, hash, &rule->gcra, 1, now_ns, 0);

	*taken = wait >= 0;
	*retry_ns = -1 - wait;
	if (!*taken)
		atomic_fetch_add(rule->conf->dry_run ? &counts->would : &counts->rejected, 1);
	return *taken || rule->conf->dry_run;
}

bool admission_grant(struct server *s, struct snapshot *snapshot, const struct address *a, char *line, size_t size)
{
	struct limits *l = snapshot->holder->limits;
	int64_t now_ns = clock_now_us() * 1000, retry_ns = 0;
	bool taken[RATE_LIMITS_MAX] = {false}, granted = true;

	for (size_t i = 0; l && i < l->n && granted; i++) {
		if (l->rules[i].conf->on != LIMIT_CONNECTIONS)
			continue;
		granted = ask(s, &l->rules[i], hash_of(s, &l->rules[i], a), now_ns, &taken[i], &retry_ns);
		if (!granted)
			refuse(&l->rules[i], a, retry_ns, line, size);
	}
	for (size_t i = 0; l && i < l->n; i++) {
		if (taken[i] && granted)
			atomic_fetch_add(&s->connection_counts[i].allowed, 1);
		else if (taken[i])
			buckets_give_back(l->rules[i].buckets, hash_of(s, &l->rules[i], a), &l->rules[i].gcra, 1);
	}
	return granted;
}

void admission_renew(struct server *s, const struct limits *old, const struct limits *fresh)
{
	struct {
		uint64_t allowed, rejected, would;
	} kept[RATE_LIMITS_MAX] = {{0}};

	for (size_t i = 0; fresh && i < fresh->n; i++) {
		for (size_t k = 0; old && k < old->n; k++) {
			if (strcmp(old->rules[k].conf->name, fresh->rules[i].conf->name) != 0)
				continue;
			kept[i].allowed = atomic_load(&s->connection_counts[k].allowed);
			kept[i].rejected = atomic_load(&s->connection_counts[k].rejected);
			kept[i].would = atomic_load(&s->connection_counts[k].would);
		}
	}
	for (size_t i = 0; i < RATE_LIMITS_MAX; i++) {
		atomic_store(&s->connection_counts[i].allowed, kept[i].allowed);
		atomic_store(&s->connection_counts[i].rejected, kept[i].rejected);
		atomic_store(&s->connection_counts[i].would, kept[i].would);
	}
}
