/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a tracker finds out what the server can:
 *
 *      a  HELLO 3 -- answered --> a  CLIENT TRACKING ON BCAST ------------------------------------> bcast
 *            |
 *         refused --> a  AUTH, CLIENT ID --> b  CLIENT TRACKING ON REDIRECT --> a  SUBSCRIBE -----> redirect
 *
 * What is refused on the way ends as none: tracker_cannot(). What passes (-LOADING) is none of that: tracker_failed().
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "upstream/invalidation.h"
#include "upstream/tracker_private.h"

/* "-ERR ...", or RESP3's blob: "!21", and the text in a line of its own. */
void answer_read_error(struct answer *a)
{
	struct reply_item item = reply_first(a->p, a->len, '+');
	size_t n = item.type == '-' || item.type == '!' ? item.len : 0;
	char *args;

	snprintf(a->why, sizeof(a->why), "%.*s", n < sizeof(a->why) ? (int)n : (int)sizeof(a->why) - 1,
		 n > 0 ? item.text : "");
	a->why[strcspn(a->why, "\r\n")] = '\0';
	if (!a->why[0] && (item.type == '-' || item.type == '!'))
		snprintf(a->why, sizeof(a->why), "an error without a text");
	args = strstr(a->why, ", with args"); /* of an unknown command; a password may be among them */
	if (args)
		*args = '\0';
}

bool answer_is_passing(const struct answer *a)
{
	static const char *const codes[] = {"LOADING ",	    "BUSY ",   "MASTERDOWN ", "TRYAGAIN ",
					    "CLUSTERDOWN ", "NOAUTH ", "WRONGPASS ",  "ERR max number of clients"};

	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		if (strncmp(a->why, codes[i], strlen(codes[i])) == 0)
			return true;
	return false;
}

/* ---- asking ---- */

static void ask(struct tracker *t, struct wire *w, enum question q, size_t argc, const char *const *argv)
{
	wire_ask(w, q, clock_now_us(), argc, argv);
	if (t->mode == TRACKING_LOST)
		tracker_set_timer(t, TRACKER_STEP_US);
}

static void ask_hello(struct tracker *t)
{
	const struct upstream_url *url = &t->node->conf->target;
	const char *user = url->username && *url->username ? url->username : "default";

	if (url->password && *url->password)
		ask(t, &t->a, ASK_HELLO, 7,
		    (const char *const[]){"HELLO", "3", "AUTH", user, url->password, "SETNAME", TRACKER_NAME});
	else
		ask(t, &t->a, ASK_HELLO, 4, (const char *const[]){"HELLO", "3", "SETNAME", TRACKER_NAME});
}

/* What HELLO does at once. */
static void ask_login(struct tracker *t, struct wire *w)
{
	const struct upstream_url *url = &t->node->conf->target;

	if (url->password && *url->password && url->username && *url->username)
		ask(t, w, ASK_AUTH, 3, (const char *const[]){"AUTH", url->username, url->password});
	else if (url->password && *url->password)
		ask(t, w, ASK_AUTH, 2, (const char *const[]){"AUTH", url->password});
	ask(t, w, ASK_NAME, 3, (const char *const[]){"CLIENT", "SETNAME", TRACKER_NAME});
}

static void ask_id(struct tracker *t)
{
	ask(t, &t->a, ASK_ID, 2, (const char *const[]){"CLIENT", "ID"});
}

static void ask_tracking(struct tracker *t, struct wire *w)
{
	bool all = t->prefixes.n == 1 && !*t->prefixes.items[0];
	size_t n_prefixes = all ? 0 : t->prefixes.n, n = 0;
	const char **args = xcalloc(6 + 2 * n_prefixes, sizeof(*args));

	args[n++] = "CLIENT";
	args[n++] = "TRACKING";
	args[n++] = "ON";
	if (w == &t->b) {
		args[n++] = "REDIRECT";
		args[n++] = t->client_id;
	}
	args[n++] = "BCAST";
	for (size_t i = 0; i < n_prefixes; i++) {
		args[n++] = "PREFIX";
		args[n++] = t->prefixes.items[i];
	}
	ask(t, w, ASK_TRACKING, n, args);
	free(args);
}

void tracker_begin(struct tracker *t, struct wire *w)
{
	if (w == &t->a) {
		ask_hello(t);
	} else {
		ask_login(t, w);
		ask_tracking(t, w);
	}
}

void tracker_try_again(struct tracker *t)
{
	if (t->resp2)
		ask_id(t);
	else
		ask_tracking(t, &t->a);
}

/* ---- answers ---- */

/* False: it is an error, and has been seen to. */
static bool is_fine(struct tracker *t, const struct answer *a)
{
	if (!a->why[0])
		return true;
	if (answer_is_passing(a))
		tracker_failed(t, a->why);
	else
		tracker_cannot(t, a->why);
	return false;
}

/* Any error but those of the login leads on to RESP2. */
static void on_hello(struct tracker *t, const struct answer *a)
{
	t->resp2 = a->why[0];
	if (!t->resp2) {
		ask_tracking(t, &t->a);
	} else if (answer_is_passing(a)) {
		tracker_failed(t, a->why);
	} else {
		log_debug("Redis at %s refused HELLO 3: %s", t->node->label, a->why);
		ask_login(t, &t->a);
		ask_id(t);
	}
}

static void on_id(struct tracker *t, const struct answer *a)
{
	struct reply_item id = reply_first(a->p, a->len, '-');

	if (!is_fine(t, a))
		return;
	if (id.type != ':') {
		tracker_cannot(t, "no CLIENT ID");
		return;
	}
	snprintf(t->client_id, sizeof(t->client_id), "%lld", (long long)id.number);
	tracker_open_second(t);
}

static void on_tracking(struct tracker *t, const struct wire *w, const struct answer *a)
{
	if (!is_fine(t, a))
		return;
	if (w == &t->a)
		tracker_works(t, TRACKING_BCAST);
	else
		ask(t, &t->a, ASK_SUBSCRIBE, 2, (const char *const[]){"SUBSCRIBE", INVALIDATION_CHANNEL});
}

bool tracker_step_answered(struct tracker *t, struct wire *w, enum question q, const struct answer *a)
{
	switch (q) {
	case ASK_HELLO:
		on_hello(t, a);
		return true;
	case ASK_AUTH:
		if (a->why[0])
			tracker_failed(t, a->why);
		return true;
	case ASK_NAME: /* a name is no more than a courtesy */
		return true;
	case ASK_ID:
		on_id(t, a);
		return true;
	case ASK_TRACKING:
		on_tracking(t, w, a);
		return true;
	case ASK_SUBSCRIBE:
		if (is_fine(t, a))
			tracker_works(t, TRACKING_REDIRECT);
		return true;
	default:
		return false;
	}
}
