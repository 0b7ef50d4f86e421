/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command table: sanity of every row and column, look-up by name, key positions, learning from COMMAND.
 * Key positions and learning are checked against fixed expectations, and (where redis-server is installed) against
 * what a real one answers; it runs on a Unix socket in a folder of its own and is stopped by its pid.
 */
#include <check.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "command/command.h"

extern char **environ;

#define ARGS_MAX 64

/* ---- a command line as arguments: words between blanks, '' is an empty one ---- */

struct line {
	char text[512];
	const char *argv[ARGS_MAX];
	size_t len[ARGS_MAX];
	uint32_t argc;
};

static void line_split(struct line *l, const char *text)
{
	l->argc = 0;
	snprintf(l->text, sizeof(l->text), "%s", text);
	for (char *save, *word = strtok_r(l->text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		ck_assert_uint_lt(l->argc, ARGS_MAX);
		if (strcmp(word, "''") == 0)
			word[0] = '\0';
		l->argv[l->argc] = word;
		l->len[l->argc++] = strlen(word);
	}
}

struct keys {
	const struct line *line;
	char text[256]; /* positions, or the keys themselves, with blanks between */
	bool names;
	unsigned calls;
	unsigned flags;
};

static const char *get_arg(void *ctx, uint32_t index, size_t *len)
{
	struct keys *k = ctx;

	if (index >= k->line->argc)
		return NULL;
	*len = k->line->len[index];
	return k->line->argv[index];
}

static void on_key(void *ctx, uint32_t index, unsigned flags)
{
	struct keys *k = ctx;
	size_t used = strlen(k->text);
	const char *blank = used ? " " : "";

	ck_assert_uint_lt(index, k->line->argc);
	ck_assert_uint_gt(index, 0);
	k->calls++;
	k->flags |= flags;
	if (k->names)
		snprintf(k->text + used, sizeof(k->text) - used, "%s%s", blank, k->line->argv[index]);
	else
		snprintf(k->text + used, sizeof(k->text) - used, "%s%u", blank, index);
}

static const struct command *find(const struct command_set *set, const char *name, const char *sub)
{
	return command_find(set, name, strlen(name), sub, sub ? strlen(sub) : 0);
}

static const struct command *find_line(const struct command_set *set, const struct line *l)
{
	return command_find(set, l->argv[0], l->len[0], l->argc > 1 ? l->argv[1] : NULL, l->argc > 1 ? l->len[1] : 0);
}

static int64_t keys_of(const struct command_set *set, const char *text, bool names, struct keys *k, struct line *l)
{
	const struct command *cmd;

	line_split(l, text);
	memset(k, 0, sizeof(*k));
	k->line = l;
	k->names = names;
	cmd = find_line(set, l);
	ck_assert_msg(cmd != NULL, "%s: unknown", text);
	return command_keys(cmd, l->argc, get_arg, on_key, k);
}

/* ---- the table ---- */

START_TEST(rows_are_sound)
{
	bool handlers[HANDLER_COUNT] = {false}, timeouts[TIMEOUT_WAIT + 1] = {false}, in_multi[3] = {false};
	const char *previous = "";

	ck_assert_uint_gt(command_count(), 350);
	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *cmd = command_by_id(NULL, i);

		ck_assert_ptr_nonnull(cmd);
		ck_assert_uint_eq(cmd->id, i);
		ck_assert_int_ne(cmd->arity, 0);
		/* '|' sorts after letters, but a container stands before its subcommands all the same */
		ck_assert_msg(strchr(cmd->name, '|') || strcmp(previous, cmd->name) < 0, "%s", cmd->name);
		if (!strchr(cmd->name, '|'))
			previous = cmd->name;
		for (const char *p = cmd->name; *p; p++)
			ck_assert_msg((*p >= 'a' && *p <= 'z') || (*p && strchr("|-_:.0123456789", *p)), "%s",
				      cmd->name);
		ck_assert_uint_lt(cmd->handler, HANDLER_COUNT);
		ck_assert_uint_le(cmd->timeout, TIMEOUT_WAIT);
		ck_assert_uint_le(cmd->in_multi, IN_MULTI_REFUSED);
		ck_assert_uint_le(cmd->request_policy, REQUEST_SPECIAL);
		ck_assert_uint_le(cmd->response_policy, RESPONSE_SPECIAL);
		ck_assert(!(cmd->flags & (CMD_UNKNOWN | CMD_MODULE)));
		ck_assert(!(cmd->flags & CMD_WRITE && cmd->flags & CMD_READONLY));
		handlers[cmd->handler] = timeouts[cmd->timeout] = in_multi[cmd->in_multi] = true;
	}
	for (unsigned i = 0; i < HANDLER_COUNT; i++)
		ck_assert_msg(handlers[i], "no command has handler %u", i);
	for (unsigned i = 0; i <= TIMEOUT_WAIT; i++)
		ck_assert_msg(timeouts[i], "no command has timeout %u", i);
	for (unsigned i = 0; i <= IN_MULTI_REFUSED; i++)
		ck_assert_msg(in_multi[i], "no command has in_multi %u", i);
	ck_assert_ptr_null(command_by_id(NULL, command_count()));
}
END_TEST

START_TEST(categories_follow_flags)
{
	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *cmd = command_by_id(NULL, i);
		uint32_t f = cmd->flags, c = cmd->categories;

		/* Redis derives these; a row that breaks the rule was mistyped in overrides.toml */
		ck_assert_msg(!(f & CMD_WRITE) || c & CAT_WRITE, "%s", cmd->name);
		ck_assert_msg(!(f & CMD_ADMIN) || (c & CAT_ADMIN && c & CAT_DANGEROUS), "%s", cmd->name);
		ck_assert_msg(!(f & CMD_BLOCKING) || c & CAT_BLOCKING, "%s", cmd->name);
		ck_assert_msg(!(f & CMD_PUBSUB) || c & CAT_PUBSUB, "%s", cmd->name);
		ck_assert_msg(!(c & CAT_FAST) != !(c & CAT_SLOW), "%s", cmd->name);
		ck_assert_msg(!(f & CMD_FAST) == !(c & CAT_FAST), "%s", cmd->name);
	}
}
END_TEST

START_TEST(specs_are_sound)
{
	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *cmd = command_by_id(NULL, i);

		ck_assert_uint_le(cmd->n_specs, COMMAND_SPECS_MAX);
		ck_assert((cmd->n_specs == 0) == (cmd->specs == NULL));
		for (unsigned k = 0; k < cmd->n_specs; k++) {
			const struct key_spec *s = &cmd->specs[k];

			/* what Redis leaves unsaid, overrides.toml has to say: else its keys can't be told */
			ck_assert_msg(s->begin != KEY_BEGIN_UNKNOWN && s->find != KEY_FIND_UNKNOWN, "%s", cmd->name);
			ck_assert_msg(!(s->flags & KEY_INCOMPLETE), "%s", cmd->name);
			ck_assert_msg((s->begin == KEY_BEGIN_KEYWORD) == (s->keyword != NULL), "%s", cmd->name);
			ck_assert_int_gt(s->begin_index, 0);
			ck_assert_int_ge(s->key_step, 1);
			ck_assert(s->flags & (KEY_RO | KEY_RW | KEY_OW | KEY_RM | KEY_NOT_KEY));
		}
	}
}
END_TEST

START_TEST(containers_and_subcommands)
{
	unsigned n = 0, subs = 0;

	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *cmd = command_by_id(NULL, i);
		size_t len = strlen(cmd->name);

		n += strchr(cmd->name, '|') != NULL;
		for (unsigned k = 0; k < cmd->n_subcommands; k++) {
			const struct command *sub = &cmd->subcommands[k];

			ck_assert(strncmp(sub->name, cmd->name, len) == 0 && sub->name[len] == '|');
			ck_assert(k == 0 || strcmp(sub[-1].name, sub->name) < 0);
			ck_assert_uint_eq(sub->n_subcommands, 0);
			subs++;
		}
	}
	ck_assert_uint_eq(n, subs);
}
END_TEST

START_TEST(columns_of_known_commands)
{
	static const struct {
		const char *line;
		unsigned handler, timeout, in_multi;
	} rows[] = {
		{"get k", HANDLER_FORWARD, TIMEOUT_NORMAL, IN_MULTI_PLAIN},
		{"blpop k 0", HANDLER_BLOCKING, TIMEOUT_LAST_SECONDS, IN_MULTI_PLAIN},
		{"blmove a b left left 0", HANDLER_BLOCKING, TIMEOUT_LAST_SECONDS, IN_MULTI_PLAIN},
		{"bzmpop 0 1 k min", HANDLER_BLOCKING, TIMEOUT_FIRST_SECONDS, IN_MULTI_PLAIN},
		{"xread streams k 0", HANDLER_BLOCKING, TIMEOUT_BLOCK_OPTION, IN_MULTI_PLAIN},
		{"waitaof 0 0 0", HANDLER_WAIT, TIMEOUT_WAIT, IN_MULTI_PLAIN},
		{"keys *", HANDLER_FORWARD, TIMEOUT_SLOW, IN_MULTI_PLAIN},
		{"select 1", HANDLER_SELECT, TIMEOUT_NORMAL, IN_MULTI_STATE},
		{"subscribe c", HANDLER_SUBSCRIBE, TIMEOUT_NORMAL, IN_MULTI_REFUSED},
		{"psync ? -1", HANDLER_REFUSED, TIMEOUT_NORMAL, IN_MULTI_REFUSED},
		{"script debug yes", HANDLER_REFUSED, TIMEOUT_NORMAL, IN_MULTI_REFUSED},
		{"script kill", HANDLER_DEDICATED, TIMEOUT_NORMAL, IN_MULTI_STATE},
		{"script load x", HANDLER_SCRIPT_LOAD, TIMEOUT_NORMAL, IN_MULTI_PLAIN},
		{"client no-touch on", HANDLER_PIN, TIMEOUT_NORMAL, IN_MULTI_STATE},
		{"client kill id 1", HANDLER_CLIENT_KILL, TIMEOUT_NORMAL, IN_MULTI_REFUSED},
		{"config get *", HANDLER_FORWARD, TIMEOUT_NORMAL, IN_MULTI_PLAIN},
		{"config set a b", HANDLER_CONFIG, TIMEOUT_NORMAL, IN_MULTI_PLAIN},
		{"cluster info", HANDLER_CLUSTER, TIMEOUT_NORMAL, IN_MULTI_PLAIN},
		{"keyweir status", HANDLER_KEYWEIR, TIMEOUT_NORMAL, IN_MULTI_REFUSED},
	};
	struct line l;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct command *cmd;

		line_split(&l, rows[i].line);
		cmd = find_line(NULL, &l);
		ck_assert_msg(cmd && cmd->handler == rows[i].handler && cmd->timeout == rows[i].timeout &&
				      cmd->in_multi == rows[i].in_multi,
			      "%s", rows[i].line);
	}
	ck_assert_int_eq(find(NULL, "auth", NULL)->secrets, SECRETS_ALL);
	ck_assert_int_eq(find(NULL, "acl", "setuser")->secrets, SECRETS_ALL);
	ck_assert_int_eq(find(NULL, "hello", NULL)->secrets, SECRETS_AFTER_AUTH);
	ck_assert_int_eq(find(NULL, "config", "set")->secrets, SECRETS_CONFIG);
	ck_assert_int_eq(find(NULL, "config", "get")->secrets, SECRETS_NONE);
	/* Each command that Redis says blocks has a handler that reckons with it. */
	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *cmd = command_by_id(NULL, i);
		bool waits = cmd->handler == HANDLER_BLOCKING || cmd->handler == HANDLER_WAIT;

		ck_assert_msg(!(cmd->flags & CMD_BLOCKING) || waits, "%s", cmd->name);
		ck_assert_msg(waits == (cmd->timeout >= TIMEOUT_LAST_SECONDS), "%s", cmd->name);
		ck_assert_msg(cmd->handler != HANDLER_REFUSED || cmd->in_multi == IN_MULTI_REFUSED, "%s", cmd->name);
	}
}
END_TEST

/* ---- the column cache ---- */

/* What the near-cache keeps is a read of the key at 1, and of nothing else. */
START_TEST(cached_rows_are_reads_of_one_key)
{
	unsigned n = 0;

	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *cmd = command_by_id(NULL, i);
		const struct key_spec *spec = cmd->specs;

		if (cmd->cache == CACHE_NONE)
			continue;
		n++;
		ck_assert_uint_le(cmd->cache, CACHE_ALONE);
		ck_assert_msg(cmd->flags & CMD_READONLY, "%s", cmd->name);
		ck_assert_msg(!(cmd->flags & (CMD_WRITE | CMD_MAY_REPLICATE | CMD_BLOCKING | CMD_PUBSUB | CMD_ADMIN |
					      CMD_MOVABLEKEYS)),
			      "%s", cmd->name);
		ck_assert_msg(cmd->handler == HANDLER_FORWARD && cmd->timeout == TIMEOUT_NORMAL, "%s", cmd->name);
		ck_assert_msg(cmd->n_specs == 1 && spec->begin == KEY_BEGIN_INDEX && spec->begin_index == 1, "%s",
			      cmd->name);
		ck_assert_msg(spec->flags & KEY_RO && !(spec->flags & KEY_NOT_KEY), "%s", cmd->name);
		ck_assert_msg(command_has_one_place(cmd) == (cmd->cache == CACHE_KEY), "%s", cmd->name);
		ck_assert_msg((cmd->cache == CACHE_MANY) == (strcmp(cmd->name, "mget") == 0), "%s", cmd->name);
		ck_assert_msg((cmd->cache == CACHE_ALONE) == (strcmp(cmd->name, "exists") == 0), "%s", cmd->name);
		/* Of a key that is not there something can be said: the absence is kept, too. */
		ck_assert_msg(cmd->ttl == TTL_NONE || cmd->ttl == TTL_ASKS, "%s", cmd->name);
	}
	ck_assert_uint_gt(n, 50);
}
END_TEST

/* ---- look-up ---- */

/* Looks a name up from memory that ends right after it, so that a sanitizer sees a byte read too many. */
static const struct command *find_tight(const char *bytes, size_t len, const char *sub, size_t sub_len)
{
	char *name = malloc(len ? len : 1), *second = sub ? malloc(sub_len ? sub_len : 1) : NULL;
	const struct command *cmd;

	memcpy(name, bytes, len);
	if (second)
		memcpy(second, sub, sub_len);
	cmd = command_find(NULL, name, len, second, sub_len);
	free(name);
	free(second);
	return cmd;
}

static void recase(char *s, unsigned how)
{
	for (unsigned i = 0; s[i]; i++)
		if (s[i] >= 'a' && s[i] <= 'z' && (how == 1 || (how == 2 && i % 2) || (how == 3 && i % 2 == 0)))
			s[i] = (char)(s[i] - 0x20);
}

START_TEST(every_name_is_found_in_any_case)
{
	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *cmd = command_by_id(NULL, i);

		for (unsigned how = 0; how < 4; how++) {
			char name[64], *bar;

			snprintf(name, sizeof(name), "%s", cmd->name);
			recase(name, how);
			bar = strchr(name, '|');
			if (bar)
				ck_assert_ptr_eq(find_tight(name, (size_t)(bar - name), bar + 1, strlen(bar + 1)), cmd);
			else
				ck_assert_ptr_eq(find_tight(name, strlen(name), NULL, 0), cmd);
		}
	}
}
END_TEST

static bool is_command(const char *name, size_t len)
{
	for (unsigned i = 0; i < command_count(); i++) {
		const char *have = command_by_id(NULL, i)->name;

		if (strlen(have) == len && strncasecmp(have, name, len) == 0)
			return true;
	}
	return false;
}

START_TEST(near_misses_are_not_found)
{
	for (unsigned i = 0; i < command_count(); i++) {
		const char *have = command_by_id(NULL, i)->name;
		size_t n = strlen(have);
		char name[64];

		if (strchr(have, '|')) { /* a full name is no command that one can send */
			ck_assert_ptr_null(find_tight(have, n, NULL, 0));
			continue;
		}
		for (size_t cut = 0; cut < n; cut++)
			if (!is_command(have, cut))
				ck_assert_msg(!find_tight(have, cut, NULL, 0), "%.*s", (int)cut, have);
		memcpy(name, have, n);
		for (unsigned ch = 0; ch < 256; ch++) { /* one byte more */
			name[n] = (char)ch;
			if (!is_command(name, n + 1))
				ck_assert_msg(!find_tight(name, n + 1, NULL, 0), "%s + %u", have, ch);
		}
		for (size_t at = 0; at < n; at++) { /* one byte other; above all the one that differs in bit 5 only */
			for (unsigned ch = 0; ch < 256; ch++) {
				memcpy(name, have, n);
				name[at] = (char)ch;
				if ((ch | 0x20) == (unsigned char)have[at] && have[at] >= 'a' && have[at] <= 'z')
					continue;
				if (!is_command(name, n))
					ck_assert_msg(!find_tight(name, n, NULL, 0), "%s at %zu: %u", have, at, ch);
			}
		}
	}
}
END_TEST

START_TEST(subcommand_near_misses_give_the_container)
{
	for (unsigned i = 0; i < command_count(); i++) {
		const struct command *container = command_by_id(NULL, i);
		size_t len = strlen(container->name);

		for (unsigned k = 0; k < container->n_subcommands; k++) {
			const char *sub = container->subcommands[k].name + len + 1;
			size_t n = strlen(sub);
			char longer[160] = {0}; /* the name, then NULs */

			memcpy(longer, sub, n);
			ck_assert_ptr_eq(find_tight(container->name, len, longer, n), &container->subcommands[k]);
			ck_assert_ptr_eq(find_tight(container->name, len, longer, n + 1), container);
			ck_assert_ptr_eq(find_tight(container->name, len, longer, sizeof(longer)), container);
			ck_assert_ptr_eq(find_tight(container->name, len, sub, 0), container);
			longer[n] = '|';
			ck_assert_ptr_eq(find_tight(container->name, len, longer, n + 1), container);
		}
	}
	ck_assert_uint_eq(find(NULL, "client", "no-such")->handler, HANDLER_DEDICATED);
	ck_assert_uint_eq(find(NULL, "slowlog", "no-such")->handler, HANDLER_FORWARD);
	ck_assert_ptr_eq(find(NULL, "get", "list"), find(NULL, "GET", NULL));
}
END_TEST

START_TEST(junk_is_not_found)
{
	uint64_t x = 0x243f6a8885a308d3u;
	char junk[300];

	ck_assert_ptr_null(command_find(NULL, "", 0, NULL, 0));
	ck_assert_ptr_null(find_tight("get\0", 4, NULL, 0));
	ck_assert_ptr_null(find_tight("\0get", 4, NULL, 0));
	for (unsigned round = 0; round < 200000; round++) {
		size_t len;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		len = round < 300 ? round : 1 + x % 40;
		for (size_t i = 0; i < len; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			junk[i] = (char)(0x80 | x >> 32); /* never a letter */
		}
		ck_assert_ptr_null(find_tight(junk, len, "x", 1));
	}
}
END_TEST

START_TEST(arity)
{
	ck_assert(command_arity_ok(find(NULL, "get", NULL), 2));
	ck_assert(!command_arity_ok(find(NULL, "get", NULL), 1));
	ck_assert(!command_arity_ok(find(NULL, "get", NULL), 3));
	ck_assert(command_arity_ok(find(NULL, "del", NULL), 2));
	ck_assert(command_arity_ok(find(NULL, "del", NULL), UINT64_MAX));
	ck_assert(!command_arity_ok(find(NULL, "del", NULL), 1));
}
END_TEST

/* ---- key positions ---- */

static const struct {
	const char *line;
	const char *keys; /* positions; NULL: they can't be determined */
} key_cases[] = {
	{"GET k", "1"},
	{"SET k v EX 10 GET", "1"},
	{"PING", ""},
	{"MSET a 1 b 2 c 3", "1 3 5"},
	{"MSETNX a 1 b 2", "1 3"},
	{"DEL a b c", "1 2 3"},
	{"BLPOP a b 0", "1 2"},
	{"BZPOPMIN a 0.5", "1"},
	{"BLMPOP 0 2 a b LEFT", "3 4"},
	{"LMPOP 2 a b LEFT COUNT 5", "2 3"},
	{"BLMOVE a b LEFT RIGHT 0", "1 2"},
	{"BITOP AND dst a b", "2 3 4"},
	{"COPY a b DB 3", "1 2"},
	{"LCS a b LEN", "1 2"},
	{"OBJECT ENCODING k", "2"},
	{"OBJECT HELP", ""},
	{"MEMORY USAGE k SAMPLES 5", "2"},
	{"MEMORY STATS", ""},
	{"XINFO STREAM k FULL", "2"},
	{"XGROUP CREATE k g $ MKSTREAM", "2"},
	{"PFMERGE dst a b", "1 2 3"},
	{"PFMERGE dst", "1"},
	{"PFCOUNT a b", "1 2"},
	{"SINTERCARD 2 a b LIMIT 1", "2 3"},
	{"SUNIONSTORE dst a b", "1 2 3"},
	{"SMOVE a b m", "1 2"},
	{"ZUNIONSTORE dst 2 a b WEIGHTS 1 2", "1 3 4"},
	{"ZUNION 2 a b WITHSCORES", "2 3"},
	{"ZDIFFSTORE dst 1 a", "1 3"},
	{"ZRANGESTORE dst src 0 -1", "1 2"},
	{"ZUNION 3 a b", NULL},
	{"ZUNION 0 a", NULL},
	{"ZUNION -1 a", NULL},
	{"ZUNION x a", NULL},
	{"ZUNION 01 a", NULL},
	{"ZUNION 99999999999999999999 a", NULL},
	{"ZUNION 4294967297 a", NULL},
	{"ZUNIONSTORE dst 9 a b", NULL},
	{"EVAL return 2 a b c", "3 4"},
	{"EVAL return 0 a b", ""},
	{"EVAL return 0", ""},
	{"EVAL return 3 a b", NULL},
	{"EVAL return -1 a b", NULL},
	{"EVALSHA_RO sha 1 a b", "3"},
	{"FCALL f 1 a b", "3"},
	{"SORT k", "1"},
	{"SORT k BY p* LIMIT 0 5 GET # GET q* DESC ALPHA STORE dst", "1 14"},
	{"SORT k GET store", "1"},
	{"SORT k GET store STORE dst", "1 5"},
	{"SORT k BY store LIMIT store store GET store store dst", "1 10"},
	{"SORT k STORE a STORE b", "1 5"},
	{"SORT k STORE store", "1 3"},
	{"SORT k STORE", "1"},
	{"SORT_RO k BY p* GET q*", "1"},
	{"GEOSEARCHSTORE dst src FROMMEMBER m BYRADIUS 1 m", "1 2"},
	{"GEORADIUS k 1 2 3 m", "1"},
	{"GEORADIUS k 1 2 3 m WITHDIST COUNT 5 ANY STORE dst", "1 11"},
	{"GEORADIUS k 1 2 3 m STOREDIST dst", "1 7"},
	{"GEORADIUS k 1 2 3 m STORE storedist", "1 7"},
	{"GEORADIUSBYMEMBER k store 3 m STORE dst", "1 6"},
	{"GEORADIUSBYMEMBER k m 3 m", "1"},
	{"GEORADIUS_RO k 1 2 3 m", "1"},
	{"XREAD STREAMS a b 0 0", "2 3"},
	{"XREAD COUNT 5 BLOCK 0 STREAMS a 0", "6"},
	{"XREAD BLOCK 0 STREAMS streams $", "4"},
	{"XREADGROUP GROUP g c STREAMS k >", "5"},
	{"XREADGROUP GROUP streams streams COUNT 1 NOACK STREAMS a b > >", "8 9"},
	{"XREADGROUP COUNT 1 GROUP streams c STREAMS k >", "7"},
	{"MIGRATE host 6379 k 0 100", "3"},
	{"MIGRATE host 6379 '' 0 100 COPY REPLACE KEYS a b", "9 10"},
	{"MIGRATE host 6379 '' 0 100 AUTH keys KEYS a b", "9 10"},
	{"MIGRATE host 6379 '' 0 100 AUTH2 keys keys KEYS a", "10"},
	{"MIGRATE host 6379 k 0 100 AUTH keys", "3"},
	{"HEXPIRE k 10 FIELDS 1 f", "1"},
	{"HGETDEL k FIELDS 1 f", "1"},
	{"HTTL k FIELDS 1 f", "1"},
	{"RESTORE k 0 x", "1"},
	{"WATCH a b", "1 2"},
	{"SPUBLISH channel m", ""},
	{"SSUBSCRIBE a b", ""},
	{"CONFIG GET *", ""},
};

START_TEST(keys_are_where_they_should_be)
{
	struct keys k;
	struct line l;

	for (size_t i = 0; i < sizeof(key_cases) / sizeof(*key_cases); i++) {
		int64_t n = keys_of(NULL, key_cases[i].line, false, &k, &l);

		if (!key_cases[i].keys) {
			ck_assert_msg(n == -1 && k.calls == 0, "%s: %s", key_cases[i].line, k.text);
			continue;
		}
		ck_assert_msg(n == (int64_t)k.calls && strcmp(k.text, key_cases[i].keys) == 0, "%s: %ld, %s, not %s",
			      key_cases[i].line, (long)n, k.text, key_cases[i].keys);
		ck_assert(!(k.flags & KEY_ALONE));
	}
}
END_TEST

/* Any row with any number of arguments, also too few: never out of bounds (on_key checks), never half an answer. */
START_TEST(keys_of_any_length)
{
	static const char *const fillers[] = {"1", "2", "70000", "-1", "streams", "STORE", "keys", ""};

	for (unsigned i = 0; i < command_count(); i++) {
		for (size_t f = 0; f < sizeof(fillers) / sizeof(*fillers); f++) {
			for (uint32_t argc = 0; argc < 12; argc++) {
				struct line l = {.argc = argc};
				struct keys k = {.line = &l, .names = false};
				int64_t n;

				for (uint32_t a = 0; a < argc; a++) {
					l.argv[a] = a == argc / 2 ? "1" : fillers[f];
					l.len[a] = strlen(l.argv[a]);
				}
				n = command_keys(command_by_id(NULL, i), argc, get_arg, on_key, &k);
				ck_assert(n == -1 ? k.calls == 0 : n == (int64_t)k.calls);
			}
		}
	}
}
END_TEST

/* ---- learning: replies written as RESP ---- */

static redisReply *reply_of(const char *resp, size_t len)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	ck_assert_int_eq(redisReaderFeed(reader, resp, len), REDIS_OK);
	ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
	ck_assert_ptr_nonnull(reply);
	redisReaderFree(reader);
	return reply;
}

static struct command_set *learn(const char *resp)
{
	redisReply *reply = reply_of(resp, strlen(resp));
	struct command_set *set = command_learn(reply);

	freeReplyObject(reply); /* a set must not point into the reply */
	return set;
}

#define NO_LIST "*0\r\n"
#define SPEC_INDEX1                                                                                                    \
	"*6\r\n+flags\r\n*2\r\n+RW\r\n+update\r\n+begin_search\r\n*4\r\n+type\r\n+index\r\n+spec\r\n"                  \
	"*2\r\n+index\r\n:1\r\n+find_keys\r\n*4\r\n+type\r\n+range\r\n+spec\r\n"                                       \
	"*6\r\n+lastkey\r\n:-1\r\n+keystep\r\n:2\r\n+limit\r\n:0\r\n"
#define SPEC_KEYWORD                                                                                                   \
	"*6\r\n+flags\r\n*1\r\n+RO\r\n+begin_search\r\n*4\r\n+type\r\n+keyword\r\n+spec\r\n"                           \
	"*4\r\n+keyword\r\n+FROM\r\n+startfrom\r\n:-2\r\n"                                                             \
	"+find_keys\r\n*4\r\n+type\r\n+keynum\r\n+spec\r\n"                                                            \
	"*6\r\n+keynumidx\r\n:0\r\n+firstkey\r\n:1\r\n+keystep\r\n:1\r\n"
#define SPEC_UNKNOWN                                                                                                   \
	"*6\r\n+flags\r\n*1\r\n+RO\r\n+begin_search\r\n*4\r\n+type\r\n+unknown\r\n+spec\r\n*0\r\n"                     \
	"+find_keys\r\n*4\r\n+type\r\n+unknown\r\n+spec\r\n*0\r\n"
/* name, arity, flags, first, last, step, categories, tips, specs, subcommands */
#define ROW10(name, arity, flags, cats, tips, specs, subs)                                                             \
	"*10\r\n$" name "\r\n:" arity "\r\n" flags ":0\r\n:0\r\n:0\r\n" cats tips specs subs

START_TEST(learns_redis7_rows)
{
	struct command_set *set = learn(
		"*6\r\n" ROW10("8\r\nJSON.GET", "-2", "*2\r\n+readonly\r\n+module\r\n", "*2\r\n+@read\r\n+@slow\r\n",
			       "*2\r\n+request_policy:multi_shard\r\n+response_policy:agg_sum\r\n",
			       "*1\r\n" SPEC_INDEX1,
			       NO_LIST) ROW10("6\r\nFT.AGG", "-3", "*1\r\n+module\r\n", NO_LIST, NO_LIST,
					      "*1\r\n" SPEC_KEYWORD,
					      NO_LIST) ROW10("6\r\nmodblk", "-1", "*2\r\n+module\r\n+blocking\r\n",
							     NO_LIST, NO_LIST, "*1\r\n" SPEC_UNKNOWN, NO_LIST)
			ROW10("3\r\nget", "9", NO_LIST, NO_LIST, NO_LIST, NO_LIST, NO_LIST) ROW10(
				"3\r\nbox", "-2", NO_LIST, NO_LIST, NO_LIST, NO_LIST,
				"*3\r\n" ROW10("7\r\nbox|set", "4", "*1\r\n+write\r\n", NO_LIST, NO_LIST,
					       "*1\r\n" SPEC_INDEX1, NO_LIST)
					ROW10("7\r\nbox|GET", "3", NO_LIST, NO_LIST, NO_LIST, NO_LIST, NO_LIST)
						ROW10("7\r\nfox|get", "3", NO_LIST, NO_LIST, NO_LIST, NO_LIST, NO_LIST))
				ROW10("6\r\nclient", "-2", NO_LIST, NO_LIST, NO_LIST, NO_LIST,
				      "*2\r\n" ROW10("11\r\nclient|list", "-2", NO_LIST, NO_LIST, NO_LIST, NO_LIST,
						     NO_LIST) ROW10("12\r\nclient|later", "3", NO_LIST, NO_LIST,
								    NO_LIST, NO_LIST, NO_LIST)));
	const struct command *cmd;
	struct keys k;
	struct line l;

	ck_assert_ptr_nonnull(set);
	ck_assert_uint_eq(command_set_count(set), 7); /* not get, client, client|list, fox|get */
	cmd = find(set, "Json.Get", "x");
	ck_assert_ptr_nonnull(cmd);
	ck_assert_str_eq(cmd->name, "json.get");
	ck_assert_int_eq(cmd->arity, -2);
	ck_assert_uint_eq(cmd->flags, CMD_READONLY | CMD_MODULE);
	ck_assert_uint_eq(cmd->categories, CAT_READ | CAT_SLOW);
	ck_assert_uint_eq(cmd->request_policy, REQUEST_MULTI_SHARD);
	ck_assert_uint_eq(cmd->response_policy, RESPONSE_AGG_SUM);
	ck_assert_uint_eq(cmd->handler, HANDLER_FORWARD);
	ck_assert_ptr_eq(command_by_id(set, cmd->id), cmd);
	ck_assert_uint_ge(cmd->id, command_count());
	ck_assert_int_eq(keys_of(set, "json.get a 1 b 2", false, &k, &l), 2);
	ck_assert_str_eq(k.text, "1 3");
	ck_assert_uint_eq(k.flags, KEY_RW | KEY_UPDATE);
	ck_assert_int_eq(keys_of(set, "ft.agg from x from 2 a b", false, &k, &l), 2); /* FROM is sought from the end */
	ck_assert_str_eq(k.text, "5 6");
	ck_assert_int_eq(keys_of(set, "ft.agg x y from 1 a", false, &k, &l), 1);
	ck_assert_str_eq(k.text, "5");
	ck_assert_int_eq(keys_of(set, "modblk a", false, &k, &l), -1);
	ck_assert_uint_eq(find(set, "modblk", NULL)->handler, HANDLER_DEDICATED);
	ck_assert_int_eq(find(set, "get", NULL)->arity, 2);
	ck_assert_str_eq(find(set, "BOX", "Set")->name, "box|set");
	ck_assert_str_eq(find(set, "box", "get")->name, "box|get");
	ck_assert_str_eq(find(set, "box", "other")->name, "box");
	ck_assert_str_eq(find(set, "box", NULL)->name, "box");
	ck_assert_str_eq(find(set, "client", "LATER")->name, "client|later");
	ck_assert_uint_eq(find(set, "client", "later")->handler, HANDLER_DEDICATED);
	ck_assert_uint_eq(find(set, "client", "list")->handler, HANDLER_CLIENT_LIST);
	ck_assert_ptr_null(find(set, "client|later", NULL));
	ck_assert_ptr_null(find(set, "box|set", NULL));
	ck_assert_ptr_null(find(set, "json.ge", NULL));
	ck_assert_ptr_null(command_find(set, "json.get\0", 9, NULL, 0));
	for (unsigned i = 0; i < command_set_count(set); i++)
		ck_assert_uint_eq(command_by_id(set, command_count() + i)->id, command_count() + i);
	ck_assert_ptr_null(command_by_id(set, command_count() + command_set_count(set)));
	command_set_unref(&set);
	ck_assert_ptr_null(set);
}
END_TEST

START_TEST(learns_redis6_rows)
{
	struct command_set *set =
		learn("*4\r\n"
		      "*7\r\n$4\r\nmod1\r\n:3\r\n*2\r\n+write\r\n+random\r\n:1\r\n:-1\r\n:1\r\n*1\r\n+@write\r\n"
		      "*6\r\n$4\r\nmod2\r\n:-2\r\n*2\r\n+readonly\r\n+movablekeys\r\n:1\r\n:1\r\n:1\r\n"
		      "*6\r\n$4\r\nmod3\r\n:-1\r\n*0\r\n:0\r\n:0\r\n:0\r\n"
		      "*6\r\n$4\r\nmod4\r\n:4\r\n*0\r\n:2\r\n:3\r\n:1\r\n");
	struct keys k;
	struct line l;

	ck_assert_uint_eq(command_set_count(set), 4);
	ck_assert_int_eq(keys_of(set, "mod1 a b", false, &k, &l), 2);
	ck_assert_str_eq(k.text, "1 2");
	ck_assert_int_eq(keys_of(set, "mod2 a", false, &k, &l), -1);
	ck_assert_int_eq(keys_of(set, "mod3 a", false, &k, &l), 0);
	ck_assert_int_eq(keys_of(set, "mod4 x a b", false, &k, &l), 2);
	ck_assert_str_eq(k.text, "2 3");
	ck_assert_int_eq(keys_of(set, "mod4 x a", false, &k, &l), -1);
	command_set_unref(&set);
}
END_TEST

/* name, flags, first, last, step, tips, specs */
#define MODULE_ROW(name, flags, tips, specs)                                                                           \
	"*10\r\n" name "\r\n:-2\r\n" flags ":1\r\n:1\r\n:1\r\n*0\r\n" tips specs NO_LIST
#define SPEC_KEY(flags, index, last)                                                                                   \
	"*1\r\n*6\r\n+flags\r\n" flags "+begin_search\r\n*4\r\n+type\r\n+index\r\n+spec\r\n*2\r\n+index\r\n:" index    \
	"\r\n+find_keys\r\n*4\r\n+type\r\n+range\r\n+spec\r\n*6\r\n+lastkey\r\n:" last                                 \
	"\r\n+keystep\r\n:1\r\n+limit\r\n:0\r\n"
#define READS	 "*3\r\n+readonly\r\n+module\r\n+fast\r\n"
#define FULL	 "*3\r\n+RW\r\n+access\r\n+update\r\n" /* what Redis says of modules' keys in general */
#define ONE_KEY	 SPEC_KEY(FULL, "1", "0")
#define TIP(tip) "*2\r\n+request_policy:special\r\n+" tip "\r\n"

/* What is learnt is kept by the near-cache when all that COMMAND says allows it. */
START_TEST(learns_what_may_be_cached)
{
	static const struct {
		const char *row, *name;
		bool cached;
	} cases[] = {
		{MODULE_ROW("+kw.get", READS, NO_LIST, ONE_KEY), "kw.get", true},
		{MODULE_ROW("+kw.get", READS, NO_LIST, SPEC_KEY("*1\r\n+RO\r\n", "1", "0")), "kw.get", true},
		{MODULE_ROW("+kw.get", READS, TIP("nondeterministic_output_order"), ONE_KEY), "kw.get", true},
		{MODULE_ROW("+JSON.GET", READS, NO_LIST, ONE_KEY), "json.get", true},
		{MODULE_ROW("+kw.get", READS, TIP("nondeterministic_output"), ONE_KEY), "kw.get", false},
		{MODULE_ROW("+kw.get", READS, NO_LIST, SPEC_KEY(FULL, "2", "0")), "kw.get", false},
		{MODULE_ROW("+kw.get", READS, NO_LIST, SPEC_KEY(FULL, "1", "-1")), "kw.get", false},
		{MODULE_ROW("+kw.get", READS, NO_LIST, SPEC_KEY("*1\r\n+not_key\r\n", "1", "0")), "kw.get", false},
		{MODULE_ROW("+kw.get", READS, NO_LIST, SPEC_KEY("*1\r\n+incomplete\r\n", "1", "0")), "kw.get", false},
		{MODULE_ROW("+kw.get", READS, NO_LIST, "*1\r\n" SPEC_UNKNOWN), "kw.get", false},
		{MODULE_ROW("+kw.get", READS, NO_LIST, NO_LIST), "kw.get", false},
		{MODULE_ROW("+kw.get", "*2\r\n+readonly\r\n+blocking\r\n", NO_LIST, ONE_KEY), "kw.get", false},
		{MODULE_ROW("+kw.get", "*2\r\n+readonly\r\n+pubsub\r\n", NO_LIST, ONE_KEY), "kw.get", false},
		{MODULE_ROW("+kw.get", "*2\r\n+readonly\r\n+may_replicate\r\n", NO_LIST, ONE_KEY), "kw.get", false},
		{MODULE_ROW("+kw.get", "*2\r\n+readonly\r\n+movablekeys\r\n", NO_LIST, ONE_KEY), "kw.get", false},
		{MODULE_ROW("+kw.set", "*1\r\n+write\r\n", NO_LIST, ONE_KEY), "kw.set", false},
		{MODULE_ROW("+kw.any", "*1\r\n+module\r\n", NO_LIST, ONE_KEY), "kw.any", false},
		{MODULE_ROW("+FT.SEARCH", READS, NO_LIST, ONE_KEY), "ft.search", false},
		{MODULE_ROW("+GRAPH.RO_QUERY", READS, NO_LIST, ONE_KEY), "graph.ro_query", false},
		{MODULE_ROW("+TS.GET", READS, NO_LIST, ONE_KEY), "ts.get", false},
		{MODULE_ROW("+TS.INFO", READS, NO_LIST, ONE_KEY), "ts.info", true},
		{MODULE_ROW("+VRANDMEMBER", READS, NO_LIST, ONE_KEY), "vrandmember", false},
		{MODULE_ROW("+EXHPTTL", READS, NO_LIST, ONE_KEY), "exhpttl", false},
		/* Before Redis 7. */
		{"*6\r\n+kw.get\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n", "kw.get", true},
		{"*7\r\n+kw.get\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n*0\r\n", "kw.get", true},
		{"*6\r\n+kw.get\r\n:2\r\n*2\r\n+readonly\r\n+random\r\n:1\r\n:1\r\n:1\r\n", "kw.get", false},
		{"*6\r\n+kw.get\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:2\r\n:1\r\n", "kw.get", false},
		{"*6\r\n+kw.get\r\n:2\r\n*1\r\n+readonly\r\n:2\r\n:2\r\n:1\r\n", "kw.get", false},
	};
	struct command_set *plain = NULL, *tipped = NULL;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char resp[1024];
		struct command_set *set;
		const struct command *cmd;

		snprintf(resp, sizeof(resp), "*1\r\n%s", cases[i].row);
		set = learn(resp);
		cmd = find(set, cases[i].name, NULL);
		ck_assert_msg(cmd != NULL, "%zu", i);
		ck_assert_msg(cmd->cache == (cases[i].cached ? CACHE_KEY : CACHE_NONE), "%zu: %s", i, resp);
		command_set_unref(&set);
	}
	/* A module that was loaded anew and says otherwise is learnt anew. */
	plain = learn("*1\r\n" MODULE_ROW("+kw.get", READS, "*0\r\n", ONE_KEY));
	tipped = learn("*1\r\n" MODULE_ROW("+kw.get", READS, "*1\r\n+nondeterministic_output\r\n", ONE_KEY));
	ck_assert(!command_set_same(plain, tipped));
	command_set_unref(&plain);
	command_set_unref(&tipped);
}
END_TEST

START_TEST(malformed_replies_do_no_harm)
{
	static const char *const no_replies[] = {"+OK\r\n", "-ERR no\r\n", ":1\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n"};
	static const char *const bad_rows[] = {
		"*1\r\n+OK\r\n",
		"*1\r\n*0\r\n",
		"*1\r\n*-1\r\n",
		"*1\r\n$-1\r\n",
		"*1\r\n*2\r\n$4\r\nmod1\r\n:1\r\n",
		"*1\r\n*6\r\n$0\r\n\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n",
		"*1\r\n*6\r\n$4\r\nm\0d1\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n",
		"*1\r\n*6\r\n:4\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n",
		"*1\r\n*6\r\n$4\r\nmod1\r\n:40000\r\n*0\r\n:0\r\n:0\r\n:0\r\n",
		"*1\r\n*6\r\n$4\r\nmod1\r\n:0\r\n*0\r\n:0\r\n:0\r\n:0\r\n",
		"*1\r\n*6\r\n$4\r\nmod1\r\n+x\r\n*0\r\n:0\r\n:0\r\n:0\r\n",
	};
	/* Rows that count, with positions that do not: then keys can't be determined. */
	static const char *const odd_rows[] = {
		"*1\r\n*6\r\n$4\r\nmod1\r\n:1\r\n*0\r\n:99999\r\n:0\r\n:0\r\n",
		"*1\r\n*6\r\n$4\r\nmod1\r\n:1\r\n*0\r\n:2\r\n:1\r\n:1\r\n",
		"*1\r\n*6\r\n$4\r\nmod1\r\n:1\r\n*0\r\n:1\r\n:1\r\n:0\r\n",
		"*1\r\n*6\r\n$4\r\nmod1\r\n:1\r\n+x\r\n$-1\r\n+x\r\n*0\r\n",
		("*1\r\n*10\r\n$4\r\nmod1\r\n:1\r\n*1\r\n:7\r\n:0\r\n:0\r\n:0\r\n:1\r\n"
		 "*0\r\n*1\r\n*1\r\n+flags\r\n+x\r\n"),
		"*1\r\n*10\r\n$4\r\nmod1\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*1\r\n+x\r\n*2\r\n*0\r\n+x\r\n",
	};
	struct keys k;
	struct line l;

	for (size_t i = 0; i < sizeof(no_replies) / sizeof(*no_replies); i++)
		ck_assert_ptr_null(learn(no_replies[i]));
	for (size_t i = 0; i < sizeof(bad_rows) / sizeof(*bad_rows); i++) {
		/* the row with a NUL inside its name: strlen would cut it short */
		size_t len = i == 6 ? sizeof("*1\r\n*6\r\n$4\r\nm\0d1\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n") - 1
				    : strlen(bad_rows[i]);
		redisReply *reply = reply_of(bad_rows[i], len);
		struct command_set *set = command_learn(reply);

		freeReplyObject(reply);
		ck_assert_ptr_nonnull(set);
		ck_assert_msg(command_set_count(set) == 0, "row %zu", i);
		ck_assert_ptr_null(find(set, "mod1", NULL));
		command_set_unref(&set);
	}
	for (size_t i = 0; i < sizeof(odd_rows) / sizeof(*odd_rows); i++) {
		struct command_set *set = learn(odd_rows[i]);

		ck_assert_msg(command_set_count(set) == 1, "odd row %zu", i);
		ck_assert_msg(keys_of(set, "mod1 a b", false, &k, &l) == -1, "odd row %zu", i);
		command_set_unref(&set);
	}
}
END_TEST

START_TEST(learning_is_bounded)
{
	unsigned n = COMMAND_ID_MAX + 100, room = COMMAND_ID_MAX - command_count();
	char *resp = malloc((size_t)n * 128 + 64);
	struct command_set *set, *second;
	char name[32];
	size_t used;

	used = (size_t)sprintf(resp, "*%u\r\n", n);
	for (unsigned i = 0; i < n; i++)
		used += (size_t)sprintf(resp + used, "*6\r\n$9\r\nmod.%05u\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n", i);
	set = learn(resp);
	free(resp);
	ck_assert_uint_eq(command_set_count(set), room);
	for (unsigned i = 0; i < n; i++) {
		const struct command *cmd;

		snprintf(name, sizeof(name), "MOD.%05u", i);
		cmd = find(set, name, NULL);
		ck_assert((cmd != NULL) == (i < room));
		ck_assert(!cmd || (cmd->id < COMMAND_ID_MAX && command_by_id(set, cmd->id) == cmd));
	}
	second = command_set_ref(set);
	ck_assert_ptr_eq(second, set);
	command_set_unref(&set);
	ck_assert_ptr_nonnull(find(second, "mod.00000", NULL)); /* still held */
	command_set_unref(&second);
	command_set_unref(&second); /* NULL by now */
	ck_assert_ptr_null(command_set_ref(NULL));
}
END_TEST

/* ---- a real redis-server ---- */

struct server {
	bool installed;
	pid_t pid;
	int fd;
	char folder[32];
	char path[64];
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static struct server server;

/* Unchecked fixture, so that the server is stopped whatever a test does. Without redis-server the tests say so. */
static void server_start(void)
{
	struct server *s = &server;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int64_t deadline = now_ms() + 10000;
	posix_spawn_file_actions_t actions;
	int rc;

	strcpy(s->folder, "/tmp/test-command.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(s->folder));
	snprintf(s->path, sizeof(s->path), "%.31s/s", s->folder);
	char *argv[] = {"redis-server", "--port", "0", "--unixsocket", s->path, "--save", "", "--dir", s->folder, NULL};
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1, 0);
	rc = posix_spawnp(&s->pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc == ENOENT) {
		rmdir(s->folder);
		printf("redis-server is not installed: key positions are not compared with a real one\n");
		return;
	}
	ck_assert_int_eq(rc, 0);
	s->installed = true;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.63s", s->path);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (connect(s->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		ck_assert_msg(now_ms() < deadline && waitpid(s->pid, NULL, WNOHANG) == 0, "redis-server did not start");
		poll(NULL, 0, 2); /* there is nothing to wait on before its socket exists */
	}
}

static void server_stop(void)
{
	struct server *s = &server;

	if (!s->installed)
		return;
	close(s->fd);
	kill(s->pid, SIGTERM);
	waitpid(s->pid, NULL, 0);
	unlink(s->path);
	ck_assert_int_eq(rmdir(s->folder), 0);
}

static redisReply *server_ask(int argc, const char **argv, const size_t *len)
{
	redisReader *reader = redisReaderCreate();
	long long n;
	char *request, buf[65536];
	void *reply = NULL;

	n = redisFormatCommandArgv(&request, argc, argv, len);
	ck_assert_int_eq(write(server.fd, request, (size_t)n), n);
	redisFreeCommand(request);
	while (!reply) {
		ssize_t got = read(server.fd, buf, sizeof(buf));

		ck_assert_int_gt(got, 0);
		ck_assert_int_eq(redisReaderFeed(reader, buf, (size_t)got), REDIS_OK);
		ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
	}
	redisReaderFree(reader);
	return reply;
}

static bool in_list(const redisReply *list, const char *word)
{
	for (size_t i = 0; i < list->elements; i++)
		if (strcmp(list->element[i]->str, word) == 0)
			return true;
	return false;
}

/*
 * What COMMAND GETKEYS of Redis 7.0 tells otherwise: commands it has not, names that mislead its keyword search, and
 * numbers that its fall-back reads with atoi() and ZUNION itself refuses.
 */
static bool beyond_redis(const char *line)
{
	static const char *const names[] = {"HEXPIRE",
					    "HGETDEL",
					    "HTTL",
					    "ZUNION 01",
					    "ZUNION 4294967297",
					    "XREADGROUP COUNT 1 GROUP streams",
					    "XREADGROUP GROUP streams streams",
					    "GEORADIUSBYMEMBER k store"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strncmp(line, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

START_TEST(keys_are_as_redis_says)
{
	unsigned compared = 0;

	if (!server.installed)
		return;
	for (size_t i = 0; i < sizeof(key_cases) / sizeof(*key_cases); i++) {
		const char *argv[ARGS_MAX + 2] = {"COMMAND", "GETKEYS"};
		size_t len[ARGS_MAX + 2] = {7, 7};
		char theirs[256] = "";
		redisReply *reply;
		struct keys k;
		struct line l;
		int64_t n = keys_of(NULL, key_cases[i].line, true, &k, &l);

		if (beyond_redis(key_cases[i].line))
			continue;
		memcpy(argv + 2, l.argv, l.argc * sizeof(*argv));
		memcpy(len + 2, l.len, l.argc * sizeof(*len));
		reply = server_ask((int)l.argc + 2, argv, len);
		if (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0) {
			for (size_t e = 0; e < reply->elements; e++)
				snprintf(theirs + strlen(theirs), sizeof(theirs) - strlen(theirs), "%s%s", e ? " " : "",
					 reply->element[e]->str);
			ck_assert_msg(n > 0 && strcmp(k.text, theirs) == 0, "%s: %s, Redis says %s", key_cases[i].line,
				      k.text, theirs);
			compared++;
		} else {
			/* none, or an error; GETKEYS finds none in a lone destination, but PFMERGE writes it */
			ck_assert_msg(n <= 0 || strcmp(key_cases[i].line, "PFMERGE dst") == 0,
				      "%s: %s, Redis says none", key_cases[i].line, k.text);
		}
		freeReplyObject(reply);
	}
	ck_assert_uint_gt(compared, 40);
}
END_TEST

/* The built-in table knows all that this Redis has, and each row that Redis tells of is as it tells. */
START_TEST(table_is_as_redis_says)
{
	const char *argv[] = {"COMMAND"};
	const size_t len[] = {7};
	struct command_set *set;
	redisReply *reply;
	bool newer; /* a Redis that has commands of its own may also have new options for old ones */

	if (!server.installed)
		return;
	reply = server_ask(1, argv, len);
	ck_assert_int_eq(reply->type, REDIS_REPLY_ARRAY);
	ck_assert_uint_gt(reply->elements, 200);
	set = command_learn(reply);
	ck_assert_ptr_nonnull(set);
	newer = command_set_count(set) > 0;
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *row = reply->element[i];
		const struct command *cmd = find(set, row->element[0]->str, NULL);

		ck_assert_msg(cmd != NULL, "%s", row->element[0]->str);
		ck_assert_msg(newer || cmd->arity == row->element[1]->integer, "%s", cmd->name);
		ck_assert_msg(!(cmd->flags & CMD_WRITE) == !in_list(row->element[2], "write"), "%s", cmd->name);
		ck_assert_msg(!(cmd->flags & CMD_READONLY) == !in_list(row->element[2], "readonly"), "%s", cmd->name);
		ck_assert_msg(newer || !(cmd->flags & CMD_BLOCKING) == !in_list(row->element[2], "blocking"), "%s",
			      cmd->name);
		for (size_t k = 0; k < row->element[9]->elements; k++) {
			const redisReply *sub = row->element[9]->element[k];
			const char *name = strchr(sub->element[0]->str, '|') + 1;

			cmd = find(set, row->element[0]->str, name);
			ck_assert_str_eq(cmd->name, sub->element[0]->str);
			ck_assert_msg(newer || cmd->arity == sub->element[1]->integer, "%s", cmd->name);
		}
	}
	freeReplyObject(reply);
	command_set_unref(&set);
}
END_TEST

/* Reads of one key at 1 that the near-cache leaves alone although Redis does not call them nondeterministic, and why.
 */
static bool beyond_caching(const char *name)
{
	/* What is said of the time of fields changes when one of them is over, of which Redis may tell late. */
	static const char *const names[] = {"httl", "hpttl", "hexpiretime", "hpexpiretime"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* The column cache against Redis's own word on what is deterministic: nothing too much, nothing forgotten. */
START_TEST(cached_rows_are_as_redis_says)
{
	const char *argv[] = {"COMMAND"};
	const size_t len[] = {7};
	unsigned compared = 0;
	redisReply *reply;

	if (!server.installed)
		return;
	reply = server_ask(1, argv, len);
	ck_assert_int_eq(reply->type, REDIS_REPLY_ARRAY);
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *row = reply->element[i];
		const struct command *cmd = find(NULL, row->element[0]->str, NULL);
		bool deterministic = !in_list(row->element[7], "nondeterministic_output");
		bool one_key = row->element[3]->integer == 1 && row->element[4]->integer == 1;

		if (!cmd)
			continue; /* newer than the table */
		ck_assert_msg(cmd->cache == CACHE_NONE || deterministic, "%s", cmd->name);
		if (in_list(row->element[2], "readonly") && one_key && deterministic &&
		    !in_list(row->element[2], "movablekeys") && !beyond_caching(cmd->name)) {
			ck_assert_msg(cmd->cache == CACHE_KEY, "%s", cmd->name);
			compared++;
		}
	}
	ck_assert_uint_gt(compared, 40);
	freeReplyObject(reply);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("command");
	TCase *table = tcase_create("table"), *look_up = tcase_create("look-up"), *keys = tcase_create("keys"),
	      *learning = tcase_create("learn"), *real = tcase_create("redis");

	tcase_add_test(table, rows_are_sound);
	tcase_add_test(table, categories_follow_flags);
	tcase_add_test(table, specs_are_sound);
	tcase_add_test(table, containers_and_subcommands);
	tcase_add_test(table, columns_of_known_commands);
	tcase_add_test(table, cached_rows_are_reads_of_one_key);
	tcase_add_test(look_up, every_name_is_found_in_any_case);
	tcase_add_test(look_up, near_misses_are_not_found);
	tcase_add_test(look_up, subcommand_near_misses_give_the_container);
	tcase_add_test(look_up, junk_is_not_found);
	tcase_add_test(look_up, arity);
	tcase_set_timeout(look_up, 120);
	tcase_add_test(keys, keys_are_where_they_should_be);
	tcase_add_test(keys, keys_of_any_length);
	tcase_add_test(learning, learns_redis7_rows);
	tcase_add_test(learning, learns_redis6_rows);
	tcase_add_test(learning, learns_what_may_be_cached);
	tcase_add_test(learning, malformed_replies_do_no_harm);
	tcase_add_test(learning, learning_is_bounded);
	tcase_add_unchecked_fixture(real, server_start, server_stop);
	tcase_add_test(real, keys_are_as_redis_says);
	tcase_add_test(real, table_is_as_redis_says);
	tcase_add_test(real, cached_rows_are_as_redis_says);
	tcase_set_timeout(real, 60);
	suite_add_tcase(s, table);
	suite_add_tcase(s, look_up);
	suite_add_tcase(s, keys);
	suite_add_tcase(s, learning);
	suite_add_tcase(s, real);
	return s;
}

int main(void)
{
	SRunner *runner;
	int failed;

	command_init();
	runner = srunner_create(suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
