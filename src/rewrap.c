/* SPDX-License-Identifier: BSD-2-Clause */
/* The walk over a namespace, and what is told of it: see rewrap.h. What is done with a key: rewrap_key.c. */
#include "rewrap.h"

#include <ctype.h>
#include <getopt.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "config/config.h"
#include "policy/namespace.h"
#include "rewrap_daemon.h"
#include "rewrap_key.h"

#define BATCH	      100 /* keys asked for at once; a walk that goes on does as many twice at most */
#define BAR_WIDTH     30
#define SHOW_US	      100000  /* on a terminal */
#define SHOW_LINES_US 5000000 /* else */
#define KEY_SHOWN     200
#define WHY_MAX	      256
#define CURSOR_MAX    24
#define SERVER_MAX    9 /* the beginning of a run_id */

#define NO_DB	  (-1)
#define DB_DIGITS 10

/*
 * Where the walk stands; as text [DB/][MATCH:]CURSOR[@SERVER]. A cursor means something to the process that made it
 * only: when Redis was restarted, or has another master, the walk begins anew. (In a Cluster SCAN itself sees to that.)
 */
struct position {
	long db;      /* NO_DB: the first that has keys */
	size_t match; /* index in the namespace's prefixes */
	char cursor[CURSOR_MAX];
	char server[SERVER_MAX]; /* "": any */
};

struct arguments {
	const char *file;
	const char *address;
	const char *name; /* of the namespace */
	struct position from;
};

struct walk {
	const struct arguments *args;
	struct config *config;
	struct namespaces *all;
	const struct namespace *ns;
	struct rewrap_link link;
	struct position at; /* the batch under way */
	uint64_t n_bound;   /* there are no more keys */
	uint64_t n_seen, n_sealed, n_left, n_failed;
	bool terminal;
	int64_t shown_us;
};

static volatile sig_atomic_t stopped;

/* ---- what is told ---- */

static void show_bar(const struct walk *w)
{
	uint64_t bound = w->n_bound > w->n_seen ? w->n_bound : w->n_seen;
	unsigned full = bound ? (unsigned)(w->n_seen * BAR_WIDTH / bound) : BAR_WIDTH;

	fputs("\r[", stderr);
	for (unsigned i = 0; i < BAR_WIDTH; i++)
		fputc(i < full ? '#' : '-', stderr);
	fputs("] ", stderr);
}

static void show(struct walk *w, bool now)
{
	int64_t us = clock_now_us();

	if (!now && us - w->shown_us < (w->terminal ? SHOW_US : SHOW_LINES_US))
		return;
	w->shown_us = us;
	if (w->terminal)
		show_bar(w);
	fprintf(stderr, "%llu of at most %llu keys: %llu re-sealed, %llu left, %llu failed%s",
		(unsigned long long)w->n_seen, (unsigned long long)(w->n_bound > w->n_seen ? w->n_bound : w->n_seen),
		(unsigned long long)w->n_sealed, (unsigned long long)w->n_left, (unsigned long long)w->n_failed,
		w->terminal ? "\033[K" : "\n");
	fflush(stderr);
}

static void clear_bar(const struct walk *w)
{
	if (w->terminal)
		fputs("\r\033[K", stderr);
}

/* Keys may have anything in them; a terminal gets what can be read. */
static void tell_key(const struct walk *w, const redisReply *key, const char *why)
{
	clear_bar(w);
	fputs("keyweir: ", stderr);
	for (size_t i = 0; i < (size_t)key->len && i < KEY_SHOWN; i++) {
		unsigned char c = (unsigned char)key->str[i];

		if (isprint(c) && c != '\\')
			fputc(c, stderr);
		else
			fprintf(stderr, "\\x%02x", c);
	}
	fprintf(stderr, "%s: %s\n", key->len > KEY_SHOWN ? "..." : "", why);
}

static int failed(const struct walk *w, const char *doing, const char *why)
{
	clear_bar(w);
	fprintf(stderr, "keyweir: %s: %s\n", doing, why);
	return EXIT_FAILED;
}

/* Clients SELECT databases of upstream main only; elsewhere there is that of the url, in a cluster just one. */
static bool has_databases(const struct walk *w)
{
	return w->ns->conf->upstream_index == 0 && w->config->upstreams[0].mode != UPSTREAM_CLUSTER;
}

static void tell_how_to_go_on(const struct walk *w)
{
	printf("To go on: keyweir rewrap");
	if (w->args->file)
		printf(" -c %s", w->args->file);
	if (w->args->address)
		printf(" --address %s", w->args->address);
	printf(" --from ");
	if (w->at.db != NO_DB && has_databases(w))
		printf("%ld/", w->at.db);
	if (w->at.match > 0)
		printf("%zu:", w->at.match);
	printf("%s%s%s %s\n", w->at.cursor, *w->at.server ? "@" : "", w->at.server, w->args->name);
}

static void sum_up(struct walk *w)
{
	clear_bar(w);
	printf("%llu keys: %llu re-sealed, %llu left, %llu failed\n", (unsigned long long)w->n_seen,
	       (unsigned long long)w->n_sealed, (unsigned long long)w->n_left, (unsigned long long)w->n_failed);
	if (w->n_left > 0)
		printf("Entries of streams can't be written again: those that are left need their old keys.\n");
}

/* ---- the daemon ---- */

/* A command without keys, to the namespace's upstream. NULL: the connection is lost. */
static redisReply *ask(struct walk *w, int argc, const char **argv)
{
	const char *all[16] = {"KEYWEIR", "UPSTREAM", w->ns->conf->upstream};
	bool main_upstream = w->ns->conf->upstream_index == 0;

	for (int i = 0; i < argc; i++)
		all[3 + i] = argv[i];
	return main_upstream ? redisCommandArgv(w->link.c, argc, argv, NULL)
			     : redisCommandArgv(w->link.c, argc + 3, all, NULL);
}

/* A section of INFO; an error only after some patience. NULL: the connection is lost. */
static redisReply *ask_info(struct walk *w, const char *section)
{
	struct rewrap_patience patience = {0};
	redisReply *reply;

	for (;;) {
		reply = ask(w, 2, (const char *[]){"INFO", section});
		if (!reply || reply->type != REDIS_REPLY_ERROR || !rewrap_after_error(&patience))
			return reply;
		freeReplyObject(reply);
	}
}

/* Which process it is; "" where that says nothing, or nobody answers. */
static void ask_server(struct walk *w, char out[SERVER_MAX])
{
	redisReply *reply;
	const char *id;

	*out = '\0';
	if (w->config->upstreams[w->ns->conf->upstream_index].mode == UPSTREAM_CLUSTER)
		return;
	reply = ask_info(w, "server");
	id = reply && reply->type == REDIS_REPLY_STRING ? strstr(reply->str, "run_id:") : NULL;
	if (id)
		snprintf(out, SERVER_MAX, "%s", id + strlen("run_id:"));
	if (reply)
		freeReplyObject(reply);
}

/* Whether it is still the one that made the cursor; else the walk begins anew. */
static bool check_server(struct walk *w)
{
	char server[SERVER_MAX];
	bool same;

	ask_server(w, server);
	same = !*w->at.server || strcmp(server, w->at.server) == 0;
	if (!same) {
		clear_bar(w);
		fputs("keyweir: Redis was started anew: from the beginning\n", stderr);
		w->at = (struct position){.db = NO_DB, .cursor = "0"};
	}
	memcpy(w->at.server, server, sizeof(server));
	return same;
}

/* ---- databases ---- */

enum entered { ENTERED, NO_MORE, ENTER_FAILED };

/* Of the lines "dbN:keys=M,...": the least N that is not below `least`, NO_DB: none; and how many keys those have. */
static long find_database(const char *keyspace, long least, uint64_t *n_keys)
{
	long found = NO_DB;

	*n_keys = 0;
	for (const char *line = strstr(keyspace, "\ndb"); line; line = strstr(line + 1, "\ndb")) {
		char *end;
		long db = strtol(line + 3, &end, 10);

		if (strncmp(end, ":keys=", 6) != 0 || db < least)
			continue;
		*n_keys += strtoull(end + 6, NULL, 10);
		if (found == NO_DB || db < found)
			found = db;
	}
	return found;
}

static bool select_database(struct walk *w, long db)
{
	struct rewrap_patience patience = {0};
	redisReply *reply;
	bool ok;

	for (;;) {
		reply = redisCommand(w->link.c, "SELECT %ld", db);
		if (!reply)
			return !failed(w, "the connection is lost", w->link.c->errstr);
		ok = reply->type != REDIS_REPLY_ERROR;
		if (ok || !rewrap_error_passes(reply->str) || !rewrap_after_error(&patience))
			break;
		freeReplyObject(reply);
	}
	if (!ok)
		failed(w, "SELECT", reply->str);
	freeReplyObject(reply);
	return ok;
}

static enum entered enter_database(struct walk *w, const redisReply *keyspace)
{
	uint64_t n_keys;
	long db;

	if (keyspace->type != REDIS_REPLY_STRING) {
		failed(w, "INFO", keyspace->type == REDIS_REPLY_ERROR ? keyspace->str : "no such answer is known");
		return ENTER_FAILED;
	}
	db = find_database(keyspace->str, w->at.db == NO_DB ? 0 : w->at.db, &n_keys);
	if (db == NO_DB)
		return NO_MORE;
	if (w->at.db != NO_DB && db != w->at.db) { /* the cursor was another's */
		w->at.match = 0;
		snprintf(w->at.cursor, sizeof(w->at.cursor), "0");
	}
	w->at.db = db;
	return select_database(w, db) ? ENTERED : ENTER_FAILED;
}

/* The database where the walk stands, or, when there is nothing in it, the next one. What failed was told. */
static enum entered enter(struct walk *w)
{
	enum entered entered;
	redisReply *reply;

	if (!has_databases(w)) { /* one, whatever its number */
		if (w->at.db > 0)
			return NO_MORE;
		w->at.db = 0;
		return ENTERED;
	}
	reply = ask_info(w, "keyspace");
	if (!reply) {
		failed(w, "the connection is lost", w->link.c->errstr);
		return ENTER_FAILED;
	}
	entered = enter_database(w, reply);
	freeReplyObject(reply);
	return entered;
}

static void ask_size(struct walk *w)
{
	redisReply *reply = has_databases(w) ? ask_info(w, "keyspace") : ask(w, 1, (const char *[]){"DBSIZE"});

	if (reply && reply->type == REDIS_REPLY_INTEGER)
		w->n_bound = (uint64_t)reply->integer;
	else if (reply && reply->type == REDIS_REPLY_STRING)
		find_database(reply->str, 0, &w->n_bound);
	if (reply)
		freeReplyObject(reply);
}

/* ---- the walk ---- */

static bool is_ours(const struct walk *w, const redisReply *key)
{
	struct view view = {w->all, NULL};

	return key->type == REDIS_REPLY_STRING && view_key(&view, key->str, (size_t)key->len).ns == w->ns;
}

/* Returns false when the connection is lost. */
static bool do_key(struct walk *w, const redisReply *type, const redisReply *key)
{
	char why[WHY_MAX] = "";
	enum rewrap_result result = REWRAP_FAILED;

	if (type->type == REDIS_REPLY_STATUS)
		result = rewrap_key(&w->link, type->str, key->str, (size_t)key->len, why, sizeof(why));
	else
		snprintf(why, sizeof(why), "TYPE: %s", type->type == REDIS_REPLY_ERROR ? type->str : "no answer");
	if (result == REWRAP_LOST) {
		failed(w, "the connection is lost", why);
		return false;
	}
	w->n_seen++;
	w->n_sealed += result == REWRAP_DONE;
	w->n_left += result == REWRAP_LEFT;
	w->n_failed += result == REWRAP_FAILED;
	if (result == REWRAP_FAILED)
		tell_key(w, key, why);
	show(w, false);
	return true;
}

/* What TYPE says of each; NULL for those that are not ours. False: the connection is lost. */
static bool ask_types(struct walk *w, const redisReply *keys, redisReply **types)
{
	for (size_t i = 0; i < keys->elements; i++)
		if (is_ours(w, keys->element[i]))
			redisAppendCommand(w->link.c, "TYPE %b", keys->element[i]->str, (size_t)keys->element[i]->len);
	for (size_t i = 0; i < keys->elements; i++) {
		void *reply = NULL;

		if (is_ours(w, keys->element[i]) && redisGetReply(w->link.c, &reply) != REDIS_OK)
			return !failed(w, "the connection is lost", w->link.c->errstr);
		types[i] = reply;
	}
	return true;
}

/* False: the connection is lost, or somebody said stop. */
static bool do_batch(struct walk *w, const redisReply *keys)
{
	redisReply **types = xcalloc(keys->elements + 1, sizeof(redisReply *));
	bool ok = ask_types(w, keys, types);

	for (size_t i = 0; ok && i < keys->elements; i++)
		if (types[i])
			ok = do_key(w, types[i], keys->element[i]) && !stopped;
	for (size_t i = 0; i < keys->elements; i++)
		if (types[i])
			freeReplyObject(types[i]);
	free(types);
	return ok;
}

/* "*" behind one of the prefixes. */
static void put_pattern(const struct walk *w, struct buf *out)
{
	const struct string_list *match = &w->ns->conf->match;

	if (match->n > 0)
		pattern_escape(out, match->items[w->at.match], strlen(match->items[w->at.match]));
	buf_put(out, "*", 2); /* with its NUL */
}

/* With a prefix all are the same keys upstream. */
static size_t n_matches(const struct namespace *ns)
{
	return *ns->conf->prefix || ns->conf->match.n == 0 ? 1 : ns->conf->match.n;
}

static bool is_scan(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
	       reply->element[0]->type == REDIS_REPLY_STRING && reply->element[0]->len < CURSOR_MAX &&
	       reply->element[1]->type == REDIS_REPLY_ARRAY;
}

/* The next keys; NULL: it can't go on, which was told. */
static redisReply *scan(struct walk *w)
{
	struct rewrap_patience patience = {0};
	struct buf pattern = {0};
	redisReply *reply = NULL;
	char count[16];

	put_pattern(w, &pattern);
	snprintf(count, sizeof(count), "%d", BATCH);
	for (;;) {
		reply = ask(w, 6, (const char *[]){"SCAN", w->at.cursor, "MATCH", buf_head(&pattern), "COUNT", count});
		if (!reply || is_scan(reply))
			break;
		if (reply->type != REDIS_REPLY_ERROR || !rewrap_error_passes(reply->str) ||
		    !rewrap_after_error(&patience)) {
			failed(w, "SCAN", reply->type == REDIS_REPLY_ERROR ? reply->str : "no such answer is known");
			freeReplyObject(reply);
			buf_release(&pattern);
			return NULL;
		}
		freeReplyObject(reply);
	}
	if (!reply)
		failed(w, "the connection is lost", w->link.c->errstr);
	buf_release(&pattern);
	return reply;
}

/* False: it can't go on. True: to the end, where at is the next database, or the beginning of all. */
static bool walk_database(struct walk *w)
{
	while (w->at.match < n_matches(w->ns)) {
		redisReply *reply = stopped ? NULL : scan(w);
		bool ok = reply && do_batch(w, reply->element[1]);

		if (ok)
			snprintf(w->at.cursor, sizeof(w->at.cursor), "%s", reply->element[0]->str);
		if (reply)
			freeReplyObject(reply);
		if (!ok)
			return false;
		if (strcmp(w->at.cursor, "0") == 0) {
			if (!check_server(w))
				return true;
			w->at.match++;
		}
		show(w, false);
	}
	w->at.match = 0;
	w->at.db++;
	return true;
}

/* Whether it went through to the end. */
static bool walk(struct walk *w)
{
	enum entered entered;

	check_server(w);
	while ((entered = enter(w)) == ENTERED)
		if (!walk_database(w))
			return false;
	return entered == NO_MORE;
}

/* ---- the command line ---- */

static int usage(const char *what, const char *of)
{
	fprintf(stderr,
		"keyweir rewrap: %s%s\n"
		"Usage: keyweir rewrap [-c FILE] [--from CURSOR] [--address ADDR] NAMESPACE\n",
		what, of);
	return EXIT_USAGE;
}

/* [DB/][MATCH:]CURSOR[@SERVER] */
static bool parse_position(const char *text, struct position *out)
{
	static const char digits[] = "0123456789";
	size_t len = strspn(text, digits);

	if (len > 0 && len < DB_DIGITS && text[len] == '/') {
		out->db = strtol(text, NULL, 10);
		text += len + 1;
		len = strspn(text, digits);
	}
	if (len > 0 && len < CURSOR_MAX && text[len] == ':') {
		out->match = strtoul(text, NULL, 10);
		text += len + 1;
		len = strspn(text, digits);
	}
	if (len == 0 || len >= CURSOR_MAX)
		return false;
	snprintf(out->cursor, sizeof(out->cursor), "%.*s", (int)len, text);
	text += len;
	if (*text == '@' && strlen(++text) < SERVER_MAX)
		text += snprintf(out->server, sizeof(out->server), "%s", text);
	return !*text;
}

static int parse_arguments(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"from", required_argument, NULL, 'f'},
		{"address", required_argument, NULL, 'a'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
		if (opt == 'c')
			args->file = optarg;
		else if (opt == 'a')
			args->address = optarg;
		else if (opt != 'f')
			return usage("no such option", "");
		else if (!parse_position(optarg, &args->from))
			return usage("--from takes what the run before said, not ", optarg);
	}
	if (argc - optind != 1)
		return usage(argc == optind ? "which namespace?" : "one namespace at a time", "");
	args->name = argv[optind];
	return EXIT_FINE;
}

/* Whether the namespace can be walked at all. */
static int check_namespace(struct walk *w)
{
	const struct namespace_config *conf;

	w->ns = namespaces_named(w->all, w->args->name);
	if (!w->ns)
		return usage("there is no namespace ", w->args->name);
	conf = w->ns->conf;
	if (w->at.match >= n_matches(w->ns) || (w->at.db != NO_DB && !has_databases(w)))
		return usage("--from is not of this namespace", "");
	if (conf->hash_keys)
		return failed(w, conf->name, "with hash_keys nobody knows its keys by name: it can't be walked");
	if (conf->readonly)
		return failed(w, conf->name, "it is readonly");
	if (!conf->encrypt)
		fprintf(stderr, "keyweir: %s is not encrypted: its values are only written again as they are\n",
			conf->name);
	return EXIT_FINE;
}

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

/* The first ends it after the present key, a second one at once. */
static void catch_signals(void)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_RESETHAND};

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int run(struct walk *w)
{
	int status = check_namespace(w);

	if (status == EXIT_FINE)
		status = daemon_connect(w->config, w->args->address, &w->link.c);
	if (status == EXIT_FINE)
		status = daemon_check(w->link.c, w->config);
	if (status != EXIT_FINE)
		return status;
	catch_signals();
	ask_size(w);
	if (!walk(w)) {
		sum_up(w);
		tell_how_to_go_on(w);
		return EXIT_FAILED;
	}
	show(w, w->terminal);
	sum_up(w);
	status = daemon_check(w->link.c, w->config); /* it may have been reloaded meanwhile */
	return status != EXIT_FINE || w->n_left + w->n_failed > 0 ? EXIT_FAILED : EXIT_FINE;
}

int rewrap(int argc, char **argv)
{
	struct arguments args = {.from = {.db = NO_DB, .cursor = "0"}};
	struct problem_list problems = {0};
	struct config_source source = {0};
	struct walk w = {.args = &args, .terminal = isatty(STDERR_FILENO)};
	int status = parse_arguments(argc, argv, &args);

	if (status != EXIT_FINE)
		return status;
	source.file = args.file || access(CONFIG_DEFAULT_FILE, F_OK) != 0 ? args.file : CONFIG_DEFAULT_FILE;
	w.config = config_load(&source, &problems);
	if (!w.config) {
		problems_print(&problems, stderr);
		problems_free(&problems);
		return EXIT_CONFIG;
	}
	w.all = namespaces_new(w.config, NULL);
	w.at = args.from;
	w.shown_us = clock_now_us();
	status = run(&w);
	if (w.link.c)
		redisFree(w.link.c);
	namespaces_free(&w.all);
	config_free(&w.config);
	return status;
}
