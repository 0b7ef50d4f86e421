/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tracker against a real redis-server, by what the rest of the program sees of it: keys that changed, and the
 * node's truth. What goes by the whole daemon is integration/test_tracking.py.
 */
#include <arpa/inet.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "config_help.h"
#include "upstream/tracker_private.h"
#include "upstream/upstream.h"

#define PATIENCE_US 20000000
#define ARGS_MAX    24

/* A redis-server in a folder of its own, on its socket (and a port where it is a Cluster's node). */
struct redis {
	char folder[64], path[96], log[96];
	pid_t pid;
	redisContext *c; /* ours, beside the tracker's */
};

static struct redis one, two;
static struct event_base *base;
static struct upstream *up;
static struct node *node;
static struct tracker *tracker;
static char *keys[256]; /* that changed, the last of them */
static size_t n_keys;
static int64_t too_early_us; /* not 0: what was asked from then on must not be confirmed before the key is told */

/* ---- Redis ---- */

static void connect_to(struct redis *r)
{
	int64_t until_us = clock_now_us() + PATIENCE_US;

	for (;;) {
		r->c = redisConnectUnix(r->path);
		if (r->c && !r->c->err)
			return;
		redisFree(r->c);
		ck_assert_msg(clock_now_us() < until_us, "redis-server does not answer");
		usleep(5000);
	}
}

/* more: further arguments, NULL at the end. */
static void start_redis(struct redis *r, const char *const *more)
{
	const char *args[ARGS_MAX] = {"redis-server", "--port", "0", "--save", "", "--logfile", "log"};
	size_t n = 7;

	snprintf(r->folder, sizeof(r->folder), "/tmp/keyweir-unit-XXXXXX");
	ck_assert(mkdtemp(r->folder));
	snprintf(r->path, sizeof(r->path), "%s/redis.sock", r->folder);
	snprintf(r->log, sizeof(r->log), "%s/log", r->folder);
	args[n++] = "--dir";
	args[n++] = r->folder;
	args[n++] = "--unixsocket";
	args[n++] = r->path;
	while (more && *more)
		args[n++] = *more++;
	r->pid = fork();
	if (r->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(args[0], (char *const *)args);
		_exit(127);
	}
	connect_to(r);
}

static void stop_redis(struct redis *r)
{
	char *command;

	if (r->pid == 0)
		return;
	redisFree(r->c);
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	command = xasprintf("rm -rf %s", r->folder);
	ck_assert_int_eq(system(command), 0);
	free(command);
	*r = (struct redis){0};
}

static redisReply *say(struct redis *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static redisReply *say(struct redis *r, const char *fmt, ...)
{
	redisReply *reply;
	va_list args;

	va_start(args, fmt);
	reply = redisvCommand(r->c, fmt, args);
	va_end(args);
	ck_assert_msg(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", fmt, reply ? reply->str : r->c->errstr);
	return reply;
}

#define TELL(...) freeReplyObject(say(__VA_ARGS__))

/* ---- what is between the tracker and Redis, where a test wants to have its hands on it ---- */

struct pipe_end {
	struct event *event;
	int fd, to;
	size_t at_once;
};

static struct event *relay_event;
static int relay_fd = -1;
static char relay_path[96];
static struct pipe_end ends[8]; /* [2 n] the tracker's, [2 n + 1] Redis's, of the n-th connection */
static size_t n_ends;

static void pass_on(evutil_socket_t fd, short what, void *arg)
{
	struct pipe_end *end = arg;
	char data[4096];
	ssize_t n = read(fd, data, end->at_once);

	(void)what;
	if (n > 0)
		ck_assert_int_eq(write(end->to, data, (size_t)n), n);
	else
		event_del(end->event);
}

static void add_end(int fd, int to, size_t at_once)
{
	struct pipe_end *end = &ends[n_ends++];

	ck_assert_uint_le(n_ends, COUNT(ends));
	*end = (struct pipe_end){event_new(base, fd, EV_READ | EV_PERSIST, pass_on, end), fd, to, at_once};
	event_add(end->event, NULL);
}

static int unix_socket(const char *path, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "%s", path);
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static void on_relay(evutil_socket_t fd, short what, void *arg)
{
	struct sockaddr_un a;
	int in = accept(fd, NULL, NULL), out = unix_socket(one.path, &a);

	(void)what;
	ck_assert_int_eq(connect(out, (struct sockaddr *)&a, sizeof(a)), 0);
	add_end(in, out, 4096);
	add_end(out, in, *(size_t *)arg);
}

/* Redis's bytes come in such pieces. */
static void open_relay(size_t *at_once)
{
	struct sockaddr_un a;

	snprintf(relay_path, sizeof(relay_path), "%s/relay", one.folder);
	relay_fd = unix_socket(relay_path, &a);
	ck_assert_int_eq(bind(relay_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(listen(relay_fd, 5), 0);
	relay_event = event_new(base, relay_fd, EV_READ | EV_PERSIST, on_relay, at_once);
	event_add(relay_event, NULL);
}

static void close_relay(void)
{
	if (relay_fd < 0)
		return;
	event_free(relay_event);
	close(relay_fd);
	relay_fd = -1;
	for (size_t i = 0; i < n_ends; i++) {
		event_free(ends[i].event);
		close(ends[i].fd);
	}
	n_ends = 0;
}

/* ---- the tracker ---- */

static void forget_keys(void)
{
	for (size_t i = 0; i < COUNT(keys); i++) {
		free(keys[i]);
		keys[i] = NULL;
	}
	n_keys = 0;
}

static void on_changed(void *ctx, struct node *n, const char *key, size_t len)
{
	(void)ctx;
	ck_assert_ptr_eq(n, node);
	ck_assert(!too_early_us || atomic_load(&n->truth.confirmed_us) < too_early_us);
	free(keys[n_keys % (size_t)COUNT(keys)]);
	keys[n_keys++ % (size_t)COUNT(keys)] = xmemdup0(key, len);
}

static const struct tracker_events events = {on_changed};

static bool has_changed(const char *key)
{
	for (size_t i = 0; i < COUNT(keys) && keys[i]; i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

static enum tracking_mode mode(void)
{
	return (enum tracking_mode)atomic_load(&node->truth.mode);
}

static unsigned epoch(void)
{
	return atomic_load(&node->truth.epoch);
}

static int64_t confirmed_us(void)
{
	return atomic_load(&node->truth.confirmed_us);
}

static bool holds(void)
{
	return truth_holds(&node->truth, clock_now_us());
}

/* Lets the control thread's loop turn until it is so. */
#define RUN_UNTIL(condition)                                                                                           \
	do {                                                                                                           \
		int64_t until_us_ = clock_now_us() + PATIENCE_US;                                                      \
		while (!(condition)) {                                                                                 \
			struct timeval tv_ = {0, 1000};                                                                \
			ck_assert_msg(clock_now_us() < until_us_, "not in time: " #condition);                         \
			event_base_loopexit(base, &tv_);                                                               \
			event_base_dispatch(base);                                                                     \
		}                                                                                                      \
	} while (0)

static void run_ms(int64_t ms)
{
	int64_t until_us = clock_now_us() + ms * 1000;

	RUN_UNTIL(clock_now_us() >= until_us);
}

static void track(const char *const *prefixes, size_t n, bool untracked)
{
	struct tracker_wish wish = {{(char **)prefixes, n}, untracked};

	if (tracker)
		tracker_want(tracker, &wish);
	else
		tracker = tracker_new(base, node, &wish, &events, NULL);
}

#define TRACK(untracked, ...)                                                                                          \
	track((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),         \
	      untracked)

/* main: its [upstream.main]. */
static void open_upstream(const char *main, const char *host, int port)
{
	char *text = xasprintf("[upstream.main]\nreconnect_delay = 0.02\n%s\n", main), why[256];
	struct shared_config *holder;

	good(text);
	free(text);
	holder = shared_config_new(config, why, sizeof(why));
	ck_assert_msg(holder, "%s", why);
	config = NULL;
	up = upstream_new(holder, &holder->config->upstreams[0], 1);
	shared_config_unref(&holder);
	node = upstream_node(up, host, port);
}

/* user: "name:password@", or "". */
static void open_one(const char *user, const char *path)
{
	char *main = xasprintf("url = \"unix://%s%s\"", user, path);

	open_upstream(main, path, 0);
	free(main);
}

static void close_upstream(void)
{
	if (tracker)
		tracker_free(&tracker);
	node_unref(&node);
	upstream_unref(&up);
}

static void setup(void)
{
	struct event_config *conf = event_config_new(); /* as control.c has it */

	config_setup();
	ck_assert(log_configure(LOG_ERROR_, false, ""));
	event_config_set_flag(conf, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(conf, EVENT_BASE_FLAG_PRECISE_TIMER);
	base = event_base_new_with_config(conf);
	event_config_free(conf);
}

static void teardown(void)
{
	close_upstream();
	close_relay();
	event_base_free(base);
	stop_redis(&one);
	stop_redis(&two);
	forget_keys();
	config_teardown();
}

/* Each by both ways. */
static enum tracking_mode start(int way)
{
	static const char *const no_hello[] = {"--rename-command", "HELLO", "", NULL};

	start_redis(&one, way ? no_hello : NULL);
	open_one("", one.path);
	return way ? TRACKING_REDIRECT : TRACKING_BCAST;
}

static int64_t tracker_client(const char *flags)
{
	redisReply *list = say(&one, "CLIENT LIST");
	int64_t id = 0;

	for (const char *line = list->str; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		char text[512];

		snprintf(text, sizeof(text), "%.*s", (int)strcspn(line, "\n"), line);
		if (strstr(text, "name=keyweir-tracking ") && strstr(text, flags))
			id = atoll(strstr(text, "id=") + 3);
	}
	freeReplyObject(list);
	return id;
}

static int64_t held_until(unsigned of_epoch)
{
	return truth_held_until(&node->truth, of_epoch, clock_now_us());
}

/* What the test says while Redis is busy with a script for so long: its own answer is waited for elsewhere. */
static void begin_script(int ms)
{
	int done = 0;

	redisAppendCommand(one.c, "EVAL %s 0 %d",
			   "local a = redis.call('TIME') repeat local b = redis.call('TIME') "
			   "until (b[1] - a[1]) * 1000000 + b[2] - a[2] > ARGV[1] * 1000",
			   ms);
	while (!done)
		ck_assert_int_eq(redisBufferWrite(one.c, &done), REDIS_OK);
}

static void end_script(void)
{
	redisReply *reply;

	ck_assert_int_eq(redisGetReply(one.c, (void **)&reply), REDIS_OK);
	ck_assert_int_ne(reply->type, REDIS_REPLY_ERROR);
	freeReplyObject(reply);
}

/* ---- tests ---- */

static struct truth shared_truth;
static atomic_bool enough;

static void *end_usable(void *arg)
{
	while (!atomic_load(&enough))
		truth_end(&shared_truth, true, 7);
	return arg;
}

/* What was ended for good stays so, whoever ends an epoch at the same time. */
START_TEST(ended_for_good)
{
	pthread_t other;

	truth_init(&shared_truth);
	ck_assert_int_eq(pthread_create(&other, NULL, end_usable, NULL), 0);
	for (unsigned i = 0; i < 200000; i++) {
		unsigned before = atomic_load(&shared_truth.epoch);

		truth_end(&shared_truth, false, 9);
		ck_assert_int_eq(truth_held_until(&shared_truth, before, 10), 0);
		ck_assert_uint_gt(atomic_load(&shared_truth.epoch), before);
	}
	atomic_store(&enough, true);
	pthread_join(other, NULL);
}
END_TEST

/* Epochs in which nothing was true take no place from those in which something was. */
START_TEST(ends_that_are_kept)
{
	struct truth t;

	truth_init(&t);
	truth_end(&t, true, 100);
	for (unsigned i = 0; i < 100; i++)
		truth_end(&t, true, 0);
	ck_assert_int_eq(truth_held_until(&t, 1, 1000), 100);
	ck_assert_int_eq(truth_held_until(&t, 2, 1000), 0);
	for (unsigned i = 1; i < TRUTH_ENDS; i++)
		truth_end(&t, true, 100 + i);
	ck_assert_int_eq(truth_held_until(&t, 1, 1000), 100);
	ck_assert_int_eq(truth_held_until(&t, 102, 1000), 101);
	truth_end(&t, true, 200);
	ck_assert_int_eq(truth_held_until(&t, 1, 1000), 0);
	ck_assert_int_eq(truth_held_until(&t, 102, 1000), 101);
	truth_end(&t, false, 300);
	for (unsigned e = 1; e < atomic_load(&t.epoch); e++)
		ck_assert_int_eq(truth_held_until(&t, e, 1000), 0);
}
END_TEST

START_TEST(errors)
{
	static const struct {
		const char *reply, *why;
	} cases[] = {
		{"-ERR no\r\n", "ERR no"},
		{"!6\r\nERR no\r\n", "ERR no"},
		{"!8\r\nBUSY a\r\n\r\n", "BUSY a"},
		{"!0\r\n\r\n", "an error without a text"},
		{"-ERR unknown command `AUTH`, with args beginning with: `secret`\r\n", "ERR unknown command `AUTH`"},
		{"+PONG\r\n", ""},
		{"$6\r\n-ERR x\r\n", ""},
		{"*0\r\n", ""},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct answer a = {.p = cases[i].reply, .len = strlen(cases[i].reply)};

		answer_read_error(&a);
		ck_assert_str_eq(a.why, cases[i].why);
	}
}
END_TEST

START_TEST(keys_that_change)
{
	enum tracking_mode want = start(_i);
	unsigned first;

	TRACK(false, "p:", "q:");
	ck_assert_int_eq(mode(), TRACKING_LOST);
	ck_assert(!holds());
	RUN_UNTIL(mode() == want);
	ck_assert_uint_gt(epoch(), 1); /* what was heard before it worked is void */
	RUN_UNTIL(holds());
	first = epoch();
	TELL(&one, "SET p:1 x");
	TELL(&one, "SET x:1 x");
	TELL(&one, "SET pq: x");
	TELL(&one, "RPUSH q: x");
	TELL(&one, "SET p:%s x", "\r\n");
	RUN_UNTIL(n_keys >= 3);
	run_ms(50);
	ck_assert_uint_eq(n_keys, 3);
	ck_assert(has_changed("p:1") && has_changed("q:") && has_changed("p:\r\n"));
	ck_assert_uint_eq(epoch(), first);
	ck_assert(holds());
	/* Other databases' are the same names. */
	TELL(&one, "SELECT 3");
	TELL(&one, "PSETEX p:late 20 x");
	RUN_UNTIL(n_keys >= 4);
	forget_keys();
	RUN_UNTIL(has_changed("p:late")); /* it expires */
	tracker_free(&tracker);
	ck_assert_uint_eq(epoch(), first + 1);
	ck_assert(!holds());
	ck_assert_int_eq(mode(), TRACKING_OFF);
}
END_TEST

START_TEST(all_keys_and_other_prefixes)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	TRACK(false, "");
	RUN_UNTIL(mode() == want && holds());
	TELL(&one, "SET anything x");
	RUN_UNTIL(has_changed("anything"));
	before = epoch();
	TRACK(false, "");
	run_ms(20);
	ck_assert_uint_eq(epoch(), before); /* nothing was to be changed */
	ck_assert_int_eq(mode(), want);
	TRACK(false, "b:");
	ck_assert_uint_gt(epoch(), before);
	ck_assert(!holds());
	RUN_UNTIL(mode() == want && holds());
	ck_assert_uint_eq(epoch(), before + 2);
	forget_keys();
	TELL(&one, "SET a:1 x");
	TELL(&one, "SET b:1 x");
	RUN_UNTIL(n_keys > 0);
	ck_assert_str_eq(keys[0], "b:1");
}
END_TEST

/* Whoever was answered and then sees a newer confirmation finds that the key's change has been heard of. */
START_TEST(confirmed_is_heard)
{
	enum tracking_mode want = start(_i);

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	for (unsigned i = 0; i < 500; i++) {
		char key[32];
		int64_t at_us;

		snprintf(key, sizeof(key), "p:%u", i);
		/* Others have questions on the way at any time. */
		atomic_store(&node->truth.ping_wanted, true);
		tracker_confirm(tracker);
		TELL(&one, "SET %s x", key);
		at_us = clock_now_us();
		atomic_store(&node->truth.ping_wanted, true);
		tracker_confirm(tracker);
		while (confirmed_us() < at_us) {
			ck_assert(clock_now_us() - at_us < PATIENCE_US);
			event_base_loop(base, EVLOOP_ONCE);
		}
		ck_assert_msg(has_changed(key), "%s was not heard of", key);
		forget_keys();
	}
}
END_TEST

/* Redis writes its answer first, and what changed in the same turn of its loop behind it: both count as one. */
START_TEST(one_turn)
{
	enum tracking_mode want = start(_i);

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	for (unsigned i = 0; i < 20; i++) {
		redisReply *reply;
		int done = 0;

		kill(one.pid, SIGSTOP);
		redisAppendCommand(one.c, "SET p:1 x");
		while (!done)
			ck_assert_int_eq(redisBufferWrite(one.c, &done), REDIS_OK);
		too_early_us = clock_now_us();
		atomic_store(&node->truth.ping_wanted, true);
		tracker_confirm(tracker);
		run_ms(5);
		kill(one.pid, SIGCONT);
		RUN_UNTIL(confirmed_us() >= too_early_us);
		ck_assert(has_changed("p:1"));
		ck_assert_int_eq(redisGetReply(one.c, (void **)&reply), REDIS_OK);
		freeReplyObject(reply);
		too_early_us = 0;
		forget_keys();
	}
}
END_TEST

START_TEST(wanted_comes_soon)
{
	enum tracking_mode want = start(_i);
	int64_t sum_us = 0;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	for (unsigned i = 0; i < 50; i++) {
		int64_t at_us = clock_now_us();

		atomic_store(&node->truth.ping_wanted, true);
		tracker_confirm(tracker);
		while (confirmed_us() < at_us)
			event_base_loop(base, EVLOOP_ONCE);
		ck_assert(!atomic_load(&node->truth.ping_wanted));
		sum_us += clock_now_us() - at_us;
	}
	ck_assert_msg(sum_us / 50 < TRUTH_BEAT_MS * 1000 / 4, "%lld us each", (long long)sum_us / 50);
}
END_TEST

START_TEST(flushed)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	ck_assert_int_gt(truth_held_until(&node->truth, before, clock_now_us()), 0);
	TELL(&one, "FLUSHALL");
	RUN_UNTIL(epoch() >= before + 1);
	/* It was not true up to then: it is not so. */
	ck_assert_int_eq(truth_held_until(&node->truth, before, clock_now_us()), 0);
	ck_assert(holds());
	TELL(&one, "SELECT 7");
	TELL(&one, "SET p:1 x");
	TELL(&one, "FLUSHDB ASYNC");
	RUN_UNTIL(epoch() >= before + 2);
	TELL(&one, "SWAPDB 0 7"); /* of which Redis tells nobody */
	RUN_UNTIL(epoch() >= before + 3);
	ck_assert_int_eq(truth_held_until(&node->truth, before + 2, clock_now_us()), 0);
	TELL(&one, "EVAL %s 0", "redis.call('SWAPDB', 0, 7)");
	RUN_UNTIL(epoch() >= before + 4);
	run_ms(250);
	ck_assert_uint_eq(epoch(), before + 4);
	ck_assert_int_eq(mode(), want);
}
END_TEST

START_TEST(link_lost)
{
	enum tracking_mode want = start(_i > 0);
	/* Of two the one that hears, or the one whose tracking it is. */
	const char *flags = _i == 2 ? "flags=P" : "flags=tB";
	unsigned before;
	int64_t id, at_us;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	at_us = confirmed_us();
	id = tracker_client(flags);
	ck_assert_int_gt(id, 0);
	TELL(&one, "CLIENT KILL ID %lld", (long long)id);
	RUN_UNTIL(epoch() > before);
	ck_assert_uint_gt(epoch(), before);
	ck_assert(!holds());
	ck_assert_int_eq(mode(), TRACKING_LOST);
	ck_assert_int_ge(truth_held_until(&node->truth, before, clock_now_us()), at_us);
	TELL(&one, "SET p:meanwhile x");
	RUN_UNTIL(holds());
	ck_assert_int_eq(mode(), want);
	ck_assert_uint_eq(epoch(), before + 2); /* what was said between was never confirmed */
	ck_assert_int_eq(truth_held_until(&node->truth, before + 1, clock_now_us()), 0);
	ck_assert_int_ge(truth_held_until(&node->truth, before, clock_now_us()), at_us);
	ck_assert_int_ne(tracker_client(flags), id);
	forget_keys();
	TELL(&one, "SET p:1 x");
	RUN_UNTIL(has_changed("p:1"));
}
END_TEST

/* A link that works and is cut at once, again and again: it is tried ever more slowly, and what was known is known. */
START_TEST(cut_again_and_again)
{
	enum tracking_mode want = start(_i);
	unsigned before, cuts = 0;
	int64_t until_us;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	until_us = clock_now_us() + 4000000;
	while (clock_now_us() < until_us) {
		run_ms(5);
		if (mode() != want)
			continue;
		TELL(&one, "CLIENT KILL ID %lld", (long long)tracker_client(""));
		RUN_UNTIL(mode() == TRACKING_LOST);
		cuts++;
	}
	ck_assert_uint_ge(cuts, 4);
	ck_assert_msg(cuts <= 14, "%u cuts in 4 s", cuts);
	ck_assert_int_gt(held_until(before), 0);
	RUN_UNTIL(mode() == want && holds());
	/* One that has stood is back soon. */
	tracker->works_us -= 11000000;
	until_us = clock_now_us() + 500000;
	TELL(&one, "CLIENT KILL ID %lld", (long long)tracker_client(""));
	RUN_UNTIL(mode() == TRACKING_LOST);
	RUN_UNTIL(mode() == want);
	ck_assert_int_lt(clock_now_us(), until_us);
}
END_TEST

/* Redis stalls: nothing is believed meanwhile, and nothing is lost. */
START_TEST(stalled)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	kill(one.pid, SIGSTOP);
	RUN_UNTIL(!holds());
	RUN_UNTIL(mode() == TRACKING_LOST);
	ck_assert_int_gt(truth_held_until(&node->truth, before, clock_now_us()), 0);
	kill(one.pid, SIGCONT);
	RUN_UNTIL(holds());
	ck_assert_uint_eq(epoch(), before);
	RUN_UNTIL(mode() == want);
}
END_TEST

/* A busy script refuses everything: that says nothing of what Redis can, and changes nothing. */
START_TEST(busy)
{
	enum tracking_mode want = start(_i);
	unsigned before;
	int64_t at_us;

	TELL(&one, "CONFIG SET lua-time-limit 10");
	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	run_ms(150);
	before = epoch();
	begin_script(700);
	RUN_UNTIL(!holds());
	end_script();
	at_us = clock_now_us();
	RUN_UNTIL(confirmed_us() > at_us);
	ck_assert_uint_eq(epoch(), before);
	ck_assert(tracker->counts_swaps && !tracker->no_role);
	TELL(&one, "SWAPDB 0 7");
	RUN_UNTIL(epoch() >= before + 1);
}
END_TEST

START_TEST(frozen)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	kill(one.pid, SIGSTOP);
	RUN_UNTIL(epoch() > before);
	ck_assert_int_eq(mode(), TRACKING_LOST);
	run_ms(300);
	kill(one.pid, SIGCONT);
	RUN_UNTIL(mode() == want && holds());
	ck_assert_uint_eq(epoch(), before + 2);
}
END_TEST

/* What comes in the smallest pieces is read as what comes at once. */
START_TEST(in_pieces)
{
	enum tracking_mode want = start(_i);
	size_t at_once = 1;
	unsigned before;

	close_upstream();
	open_relay(&at_once);
	open_one("", relay_path);
	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	TELL(&one, "MSET p:1 a p:2 b p:%s c", "\r\n");
	RUN_UNTIL(n_keys == 3);
	ck_assert(has_changed("p:1") && has_changed("p:2") && has_changed("p:\r\n"));
	TELL(&one, "FLUSHALL");
	RUN_UNTIL(epoch() >= before + 1);
	RUN_UNTIL(holds());
}
END_TEST

/* Of two connections one is silent: what the other says confirms nothing. */
START_TEST(one_is_silent)
{
	size_t at_once = 4096;
	unsigned before;
	int64_t at_us;

	start(1);
	close_upstream();
	open_relay(&at_once);
	open_one("", relay_path);
	TRACK(false, "p:");
	RUN_UNTIL(mode() == TRACKING_REDIRECT && holds());
	before = epoch();
	ck_assert_uint_eq(n_ends, 4);
	event_del(ends[2 * _i + 1].event);
	at_us = clock_now_us();
	RUN_UNTIL(mode() == TRACKING_LOST);
	ck_assert_int_lt(confirmed_us(), at_us);
	ck_assert(!holds());
	event_add(ends[2 * _i + 1].event, NULL);
	RUN_UNTIL(holds());
	ck_assert_uint_eq(epoch(), before);
	ck_assert_int_eq(mode(), TRACKING_REDIRECT);
}
END_TEST

START_TEST(gone_and_back)
{
	enum tracking_mode want = start(_i);
	char *args[] = {"redis-server", "--port",	"0",	  "--save", "", "--logfile",
			one.log,	"--unixsocket", one.path, NULL};
	unsigned before;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	kill(one.pid, SIGKILL);
	waitpid(one.pid, NULL, 0);
	RUN_UNTIL(mode() == TRACKING_LOST);
	run_ms(200);
	ck_assert_uint_gt(epoch(), before);
	redisFree(one.c);
	one.pid = fork();
	if (one.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(args[0], args);
		_exit(127);
	}
	connect_to(&one);
	RUN_UNTIL(mode() == TRACKING_BCAST && holds()); /* what it can is found out anew */
	ck_assert_uint_eq(epoch(), before + 2);
}
END_TEST

/* Redis tells of all keys that changed in one turn of its loop by one message. */
START_TEST(many_at_once)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	TELL(&one, "EVAL %s 0", "for i = 1, 100000 do redis.call('SET', 'p:' .. i, 'x') end");
	RUN_UNTIL(n_keys == 100000);
	ck_assert_uint_eq(epoch(), before);
	/* More than anybody should keep: then all keys have changed. */
	forget_keys();
	TELL(&one, "EVAL %s 0",
	     "local s = string.rep('x', 1000) for i = 1, 20000 do redis.call('SET', 'p:' .. s .. i, 'x') end");
	RUN_UNTIL(epoch() >= before + 1);
	ck_assert_uint_eq(n_keys, 0);
	ck_assert_int_eq(truth_held_until(&node->truth, before, clock_now_us()), 0);
	RUN_UNTIL(holds());
	TELL(&one, "SET p:1 x");
	RUN_UNTIL(has_changed("p:1"));
	ck_assert_int_eq(mode(), want);
	ck_assert_uint_gt(epoch(), before);
}
END_TEST

static void expect_untracked(void)
{
	unsigned before;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == TRACKING_NONE);
	run_ms(250);
	ck_assert(!holds());
	before = epoch();
	TRACK(true, "p:"); /* max_staleness */
	RUN_UNTIL(holds());
	run_ms(250);
	ck_assert(holds());
	ck_assert_uint_eq(epoch(), before);
	TRACK(false, "p:");
	ck_assert(!holds());
	run_ms(250);
	ck_assert(!holds());
	ck_assert_int_eq(mode(), TRACKING_NONE);
}

/* One that can't track and is silent for a moment stays what it is for workers: else they would keep what it says. */
START_TEST(silent_untracked)
{
	start(_i);
	TELL(&one, "ACL SETUSER default -client|tracking");
	TRACK(true, "p:");
	RUN_UNTIL(mode() == TRACKING_NONE && holds());
	kill(one.pid, SIGSTOP);
	RUN_UNTIL(!holds());
	for (unsigned i = 0; i < 50; i++) {
		run_ms(10);
		ck_assert_int_eq(mode(), TRACKING_NONE);
	}
	kill(one.pid, SIGCONT);
	RUN_UNTIL(holds());
}
END_TEST

/* Where tracking is forbidden, by HELLO or without. */
START_TEST(forbidden)
{
	static const char *const rules[] = {"-client|tracking", "-client", "-client|id", "-subscribe", "resetchannels"};
	bool resp2 = _i >= 2;

	start(resp2);
	TELL(&one, "ACL SETUSER default allchannels %s", rules[_i]);
	expect_untracked();
	if (_i == 1)
		TELL(&one, "ACL SETUSER default +client");
	ck_assert_int_eq(tracker_client("flags=tB"), 0); /* nothing is left behind */
}
END_TEST

/* What was refused is tried again now and then, and nothing is void because of that. */
START_TEST(allowed_later)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	TELL(&one, "ACL SETUSER default -client|tracking");
	TRACK(true, "p:");
	RUN_UNTIL(mode() == TRACKING_NONE && holds());
	before = epoch();
	for (unsigned i = 0; i < 3; i++) {
		int64_t at_us = clock_now_us();

		tracker->tried_us -= 61000000;
		RUN_UNTIL(confirmed_us() > at_us + 200000);
		ck_assert_int_gt(tracker->tried_us, at_us);
	}
	ck_assert_int_eq(mode(), TRACKING_NONE);
	ck_assert_uint_eq(epoch(), before);
	TELL(&one, "ACL SETUSER default +client|tracking");
	tracker->tried_us -= 61000000;
	RUN_UNTIL(mode() == want);
	ck_assert_uint_gt(epoch(), before);
	RUN_UNTIL(holds());
	TELL(&one, "SET p:1 x");
	RUN_UNTIL(has_changed("p:1"));
}
END_TEST

START_TEST(login)
{
	static const char *const users[] = {":secret@", "k:sesame@"};
	enum tracking_mode want = start(_i);

	TELL(&one, "ACL SETUSER k on >sesame ~* &* +@all");
	TELL(&one, "CONFIG SET requirepass secret");
	for (size_t i = 0; i < 2; i++) {
		close_upstream();
		open_one(users[i], one.path);
		TRACK(false, "p:");
		RUN_UNTIL(mode() == want && holds());
	}
	close_upstream();
	open_one(":wrong@", one.path);
	TRACK(true, "p:");
	run_ms(200);
	ck_assert_int_eq(mode(), TRACKING_LOST); /* that says nothing of what the server can */
	ck_assert(!holds());
}
END_TEST

/* ---- what the node says of itself ---- */

/* Standalone: the address may lead elsewhere by now. */
START_TEST(demoted)
{
	enum tracking_mode want = start(_i);
	unsigned before;
	int64_t id;

	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	run_ms(150);
	before = epoch();
	id = tracker_client("flags=tB");
	TELL(&one, "REPLICAOF 127.0.0.1 1");
	RUN_UNTIL(mode() == TRACKING_LOST);
	ck_assert_uint_gt(epoch(), before);
	ck_assert_int_gt(held_until(before), 0);
	for (unsigned i = 0; i < 50; i++) { /* it is looked for again and again */
		run_ms(10);
		ck_assert(!holds());
	}
	ck_assert_int_gt(held_until(before), 0);
	TELL(&one, "REPLICAOF NO ONE");
	RUN_UNTIL(mode() == want && holds());
	ck_assert_int_ne(tracker_client("flags=tB"), id);
	/* Where it is so for good, a replica is as good as another server. */
	TELL(&one, "REPLICAOF 127.0.0.1 1");
	RUN_UNTIL(mode() == TRACKING_LOST);
	tracker->demoted_us -= 61000000;
	RUN_UNTIL(mode() == want && holds());
	run_ms(250);
	ck_assert(holds());
	before = epoch();
	TELL(&one, "REPLICAOF NO ONE");
	RUN_UNTIL(epoch() > before);
	RUN_UNTIL(mode() == want && holds());
}
END_TEST

START_TEST(role_forbidden)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	TELL(&one, "ACL SETUSER default -role");
	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	before = epoch();
	run_ms(700);
	ck_assert(holds());
	ck_assert_uint_eq(epoch(), before);
	ck_assert(!tracker->complained);
}
END_TEST

START_TEST(name_has_moved)
{
	enum tracking_mode want = start(_i);
	unsigned before;

	start_redis(&two, NULL);
	TRACK(false, "p:");
	RUN_UNTIL(mode() == want && holds());
	run_ms(250);
	before = epoch();
	pthread_mutex_lock(&node->lock);
	ck_assert(address_unix(two.path, &node->addresses[1]));
	node->n_addresses = 2;
	pthread_mutex_unlock(&node->lock);
	run_ms(250);
	ck_assert_uint_eq(epoch(), before); /* one more is none less */
	pthread_mutex_lock(&node->lock);
	node->addresses[0] = node->addresses[1];
	node->n_addresses = 1;
	pthread_mutex_unlock(&node->lock);
	RUN_UNTIL(mode() == TRACKING_LOST);
	ck_assert_int_gt(held_until(before), 0);
	RUN_UNTIL(mode() == TRACKING_BCAST && holds());
	TELL(&two, "SET p:there x");
	RUN_UNTIL(has_changed("p:there"));
	ck_assert_int_eq(tracker_client(""), 0);
}
END_TEST

/* What was true when the node was last well still was so when it goes altogether. */
START_TEST(down_in_steps)
{
	unsigned before;
	int64_t at_us;

	start_redis(&one, NULL);
	open_upstream("mode = \"sentinel\"\nnodes = [\"127.0.0.1:1\"]\nservice = \"m\"", one.path, 0);
	TRACK(false, "p:");
	RUN_UNTIL(mode() == TRACKING_BCAST && holds());
	before = epoch();
	at_us = confirmed_us();
	TELL(&one, "ACL SETUSER default -role");
	RUN_UNTIL(!holds());
	ck_assert_int_ge(held_until(before), at_us);
	kill(one.pid, SIGKILL);
	RUN_UNTIL(mode() == TRACKING_LOST);
	run_ms(300);
	ck_assert_int_ge(held_until(before), at_us);
}
END_TEST

START_TEST(sentinel_master)
{
	char *main;
	unsigned before;

	start_redis(&one, NULL);
	start_redis(&two, NULL);
	main = xasprintf("mode = \"sentinel\"\nnodes = [\"127.0.0.1:1\"]\nservice = \"m\"");
	open_upstream(main, one.path, 0);
	free(main);
	TRACK(false, "p:");
	RUN_UNTIL(mode() == TRACKING_BCAST && holds());
	before = epoch();
	ck_assert(!atomic_load(&up->stale));
	TELL(&one, "REPLICAOF 127.0.0.1 1");
	RUN_UNTIL(epoch() > before);
	ck_assert_uint_gt(epoch(), before);
	ck_assert(!holds());
	ck_assert(atomic_load(&up->stale));
	run_ms(200);
	ck_assert(!holds());
	TELL(&one, "REPLICAOF NO ONE");
	RUN_UNTIL(holds());
	ck_assert_int_eq(mode(), TRACKING_BCAST);
}
END_TEST

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static void start_cluster_node(struct redis *r, int port, int bus)
{
	char text[2][16];
	const char *const args[] = {"--port",
				    text[0],
				    "--cluster-port",
				    text[1],
				    "--cluster-enabled",
				    "yes",
				    "--bind",
				    "127.0.0.1",
				    "--cluster-require-full-coverage",
				    "yes",
				    NULL};

	snprintf(text[0], sizeof(text[0]), "%d", port);
	snprintf(text[1], sizeof(text[1]), "%d", bus);
	start_redis(r, args);
}

static bool cluster_says(struct redis *r, const char *part)
{
	redisReply *reply = say(r, "CLUSTER INFO");
	bool found = strstr(reply->str, part);

	freeReplyObject(reply);
	return found;
}

/* All connections to this port send at once. */
static bool sends_at_once(int port)
{
	unsigned n = 0;

	for (int fd = 3; fd < 256; fd++) {
		struct sockaddr_in a;
		socklen_t len = sizeof(a), on_len = sizeof(int);
		int on = 0;

		if (getpeername(fd, (struct sockaddr *)&a, &len) < 0 || a.sin_family != AF_INET ||
		    ntohs(a.sin_port) != port)
			continue;
		ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &on_len), 0);
		if (!on)
			return false;
		n++;
	}
	return n > 0;
}

static bool is_new_epoch(unsigned *before)
{
	bool fresh = epoch() > *before;

	*before = epoch();
	return fresh;
}

START_TEST(cluster_node)
{
	int port = free_port(), bus = free_port(), other_port = free_port(), other_bus = free_port();
	char *main = xasprintf("mode = \"cluster\"\nnodes = [\"127.0.0.1:%d\"]", port);
	redisReply *id;
	unsigned before;

	start_cluster_node(&one, port, bus);
	start_cluster_node(&two, other_port, other_bus);
	open_upstream(main, "127.0.0.1", port);
	free(main);
	TELL(&two, "CLUSTER SET-CONFIG-EPOCH 5");
	TELL(&one, "CLUSTER MEET 127.0.0.1 %d %d", other_port, other_bus);
	TELL(&one, "CLUSTER ADDSLOTSRANGE 0 16383");
	RUN_UNTIL(cluster_says(&one, "cluster_state:ok") && cluster_says(&one, "known_nodes:2") &&
		  cluster_says(&one, "current_epoch:5") && cluster_says(&two, "slots_ok:16384"));
	TRACK(false, "p:");
	RUN_UNTIL(mode() == TRACKING_BCAST && holds());
	run_ms(300);
	before = epoch();
	run_ms(300);
	ck_assert(!is_new_epoch(&before));
	ck_assert(!atomic_load(&up->stale));
	ck_assert(sends_at_once(port));
	/* From here on an absent key may be made on the other node. */
	id = say(&two, "CLUSTER MYID");
	TELL(&one, "CLUSTER SETSLOT 7 MIGRATING %s", id->str);
	freeReplyObject(id);
	RUN_UNTIL(is_new_epoch(&before));
	ck_assert(atomic_load(&up->stale));
	TELL(&one, "CLUSTER SETSLOT 7 STABLE");
	RUN_UNTIL(is_new_epoch(&before));
	TELL(&one, "CLUSTER BUMPEPOCH");
	RUN_UNTIL(is_new_epoch(&before));
	RUN_UNTIL(holds());
	run_ms(300);
	is_new_epoch(&before);
	/* A Cluster that is down confirms nothing. */
	TELL(&one, "CLUSTER DELSLOTS 9");
	RUN_UNTIL(!holds());
	run_ms(300);
	ck_assert(!holds());
	ck_assert_int_eq(mode(), TRACKING_BCAST);
	TELL(&one, "CLUSTER ADDSLOTS 9");
	RUN_UNTIL(holds());
}
END_TEST

/* First the Cluster is down, for it has lost another master, then the node. */
START_TEST(cluster_down_in_steps)
{
	int port = free_port(), bus = free_port(), other_port = free_port(), other_bus = free_port();
	char *main = xasprintf("mode = \"cluster\"\nnodes = [\"127.0.0.1:%d\"]", port);
	unsigned before;
	int64_t at_us;

	start_cluster_node(&one, port, bus);
	start_cluster_node(&two, other_port, other_bus);
	open_upstream(main, "127.0.0.1", port);
	free(main);
	TELL(&one, "CONFIG SET cluster-node-timeout 500");
	TELL(&two, "CONFIG SET cluster-node-timeout 500");
	TELL(&two, "CLUSTER SET-CONFIG-EPOCH 5");
	TELL(&one, "CLUSTER MEET 127.0.0.1 %d %d", other_port, other_bus);
	TELL(&one, "CLUSTER ADDSLOTSRANGE 0 9999");
	TELL(&two, "CLUSTER ADDSLOTSRANGE 10000 16383");
	RUN_UNTIL(cluster_says(&one, "cluster_state:ok") && cluster_says(&one, "cluster_size:2") &&
		  cluster_says(&one, "current_epoch:5") && cluster_says(&two, "slots_ok:16384"));
	TRACK(false, "p:");
	RUN_UNTIL(mode() == TRACKING_BCAST && holds());
	run_ms(300);
	before = epoch();
	at_us = confirmed_us();
	kill(two.pid, SIGKILL);
	RUN_UNTIL(cluster_says(&one, "cluster_state:fail"));
	RUN_UNTIL(!holds());
	ck_assert_int_ge(held_until(before), at_us);
	kill(one.pid, SIGKILL);
	RUN_UNTIL(mode() == TRACKING_LOST);
	run_ms(300);
	ck_assert_int_ge(held_until(before), at_us);
}
END_TEST

/* Who may not look at it knows nothing. */
START_TEST(look_forbidden)
{
	static const char *const modes[] = {"mode = \"sentinel\"\nnodes = [\"127.0.0.1:1\"]\nservice = \"m\"",
					    "mode = \"cluster\"\nnodes = [\"127.0.0.1:1\"]"};

	start_redis(&one, NULL);
	TELL(&one, "ACL SETUSER default -role -cluster");
	open_upstream(modes[_i], one.path, 0);
	TRACK(true, "p:");
	RUN_UNTIL(mode() == TRACKING_BCAST);
	run_ms(300);
	ck_assert(!holds());
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tracker");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, ended_for_good);
	tcase_add_test(t, ends_that_are_kept);
	tcase_add_test(t, errors);
	tcase_add_loop_test(t, keys_that_change, 0, 2);
	tcase_add_loop_test(t, all_keys_and_other_prefixes, 0, 2);
	tcase_add_loop_test(t, confirmed_is_heard, 0, 2);
	tcase_add_loop_test(t, one_turn, 0, 2);
	tcase_add_loop_test(t, wanted_comes_soon, 0, 2);
	tcase_add_loop_test(t, flushed, 0, 2);
	tcase_add_loop_test(t, link_lost, 0, 3);
	tcase_add_loop_test(t, cut_again_and_again, 0, 2);
	tcase_add_loop_test(t, stalled, 0, 2);
	tcase_add_loop_test(t, busy, 0, 2);
	tcase_add_loop_test(t, frozen, 0, 2);
	tcase_add_loop_test(t, in_pieces, 0, 2);
	tcase_add_loop_test(t, one_is_silent, 0, 2);
	tcase_add_loop_test(t, gone_and_back, 0, 2);
	tcase_add_loop_test(t, many_at_once, 0, 2);
	tcase_add_loop_test(t, silent_untracked, 0, 2);
	tcase_add_loop_test(t, forbidden, 0, 5);
	tcase_add_loop_test(t, allowed_later, 0, 2);
	tcase_add_loop_test(t, login, 0, 2);
	tcase_add_loop_test(t, demoted, 0, 2);
	tcase_add_loop_test(t, role_forbidden, 0, 2);
	tcase_add_loop_test(t, name_has_moved, 0, 2);
	tcase_add_test(t, down_in_steps);
	tcase_add_test(t, cluster_down_in_steps);
	tcase_add_test(t, sentinel_master);
	tcase_add_test(t, cluster_node);
	tcase_add_loop_test(t, look_forbidden, 0, 2);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
