/* SPDX-License-Identifier: BSD-2-Clause */
/* The command table: every name is found in any case, nothing else is; key positions; learning. */
#include <check.h>
#include <ctype.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "command/command.h"

static const struct command *find(const char *name, const char *sub)
{
	return command_find(NULL, name, strlen(name), sub, sub ? strlen(sub) : 0);
}

START_TEST(every_name_is_found)
{
	ck_assert_uint_gt(command_count(), 380);
	for (unsigned id = 0; id < command_count(); id++) {
		const struct command *cmd = command_by_id(NULL, id);
		char name[64], *sub;

		ck_assert_ptr_nonnull(cmd);
		ck_assert_uint_lt(cmd->handler, HANDLER_COUNT);
		ck_assert_int_ne(cmd->arity, 0);
		strcpy(name, cmd->name);
		sub = strchr(name, '|');
		if (sub)
			*sub++ = '\0';
		for (int round = 0; round < 3; round++) {
			ck_assert_ptr_eq(find(name, sub), cmd);
			for (char *p = name; *p; p++)
				*p = (char)(round == 0	     ? toupper((unsigned char)*p)
					    : (p - name) % 2 ? tolower((unsigned char)*p)
							     : *p);
		}
	}
}
END_TEST

START_TEST(nothing_else_is_found)
{
	static const char *const names[] = {
		"ge",	  "gett", "get ", "g\1t", "\x07\x05\x14",
		"se\x14", "foo",  "x",	  "kk",	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		ck_assert_ptr_null(find(names[i], NULL));
	ck_assert_ptr_null(command_find(NULL, "", 0, NULL, 0));
	ck_assert_ptr_eq(find("client", "nosuch"), find("client", NULL));
	ck_assert_str_eq(find("client", NULL)->name, "client");
	/* A NUL in what the client sends never matches a name's end. */
	ck_assert_ptr_eq(command_find(NULL, "client", 6, "list\0\0\0\0", 8), find("client", NULL));
	ck_assert_ptr_eq(command_find(NULL, "client", 6, "list\0", 5), find("client", NULL));
	ck_assert_ptr_null(command_find(NULL, "client|list\0", 12, NULL, 0));
}
END_TEST

START_TEST(columns)
{
	ck_assert_int_eq(find("blpop", NULL)->timeout, TIMEOUT_LAST_SECONDS);
	ck_assert_int_eq(find("xread", NULL)->handler, HANDLER_BLOCKING);
	ck_assert_int_eq(find("config", "set")->secrets, SECRETS_CONFIG);
	ck_assert_int_eq(find("select", NULL)->in_multi, IN_MULTI_STATE);
	ck_assert_int_eq(find("psync", NULL)->handler, HANDLER_REFUSED);
	ck_assert_int_eq(find("get", NULL)->handler, HANDLER_FORWARD);
	ck_assert(find("get", NULL)->flags & CMD_READONLY);
	ck_assert(find("expire", NULL)->flags & CMD_WRITE);
	ck_assert(command_arity_ok(find("get", NULL), 2) && !command_arity_ok(find("get", NULL), 3));
	ck_assert(command_arity_ok(find("mset", NULL), 5) && !command_arity_ok(find("mset", NULL), 2));
}
END_TEST

struct argv {
	const char *args[12];
	char found[64];
};

static const char *get_arg(void *ctx, uint32_t i, size_t *len)
{
	struct argv *a = ctx;

	*len = strlen(a->args[i]);
	return a->args[i];
}

static void on_key(void *ctx, uint32_t i, unsigned flags)
{
	struct argv *a = ctx;

	(void)flags;
	strcat(a->found, a->args[i]);
	strcat(a->found, " ");
}

/* Expected keys are what COMMAND GETKEYS of Redis 7.0.15 says, in the order of the specs. */
static const struct {
	const char *line;
	const char *keys;
} key_cases[] = {
	{"get k", "k "},
	{"mset a 1 b 2", "a b "},
	{"del a b c", "a b c "},
	{"eval script 2 a b c", "a b "},
	{"xread count 5 streams a b 1 2", "a b "},
	{"zunionstore d 2 a b", "d a b "},
	{"blpop a b 0", "a b "},
	{"object encoding k", "k "},
	{"bitop and d a b", "d a b "},
	{"lmpop 2 a b left", "a b "},
	{"georadius k 1 2 3 m store d", "k d "},
	{"ping", ""},
};

START_TEST(key_positions)
{
	char *line = strdup(key_cases[_i].line), *save = NULL;
	struct argv a = {0};
	uint32_t argc = 0;
	int64_t n;

	for (char *p = strtok_r(line, " ", &save); p; p = strtok_r(NULL, " ", &save))
		a.args[argc++] = p;
	n = command_keys(find(a.args[0], argc > 1 ? a.args[1] : NULL), argc, get_arg, on_key, &a);
	ck_assert_int_ge(n, 0);
	ck_assert_str_eq(a.found, key_cases[_i].keys);
	free(line);
}
END_TEST

START_TEST(bad_numkeys)
{
	struct argv a = {.args = {"eval", "s", "99", "x"}};

	ck_assert_int_eq(command_keys(find("eval", NULL), 4, get_arg, on_key, &a), -1);
}
END_TEST

START_TEST(learning)
{
	static const char text[] = "*3\r\n"
				   "*6\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"
				   "*6\r\n$8\r\nmod.Wait\r\n:-2\r\n*2\r\n+write\r\n+blocking\r\n:1\r\n:1\r\n:1\r\n"
				   "*6\r\n$7\r\nmod.get\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n";
	redisReader *reader = redisReaderCreate();
	struct command_set *set, *other;
	const struct command *cmd;
	void *reply = NULL;

	ck_assert_int_eq(redisReaderFeed(reader, text, sizeof(text) - 1), REDIS_OK);
	ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
	ck_assert_ptr_nonnull(reply);
	set = command_learn(reply);
	freeReplyObject(reply);
	redisReaderFree(reader);
	ck_assert_uint_eq(command_set_count(set), 2);
	cmd = command_find(set, "MOD.WAIT", 8, NULL, 0);
	ck_assert_ptr_nonnull(cmd);
	ck_assert_int_eq(cmd->handler, HANDLER_DEDICATED);
	ck_assert_ptr_eq(command_by_id(set, cmd->id), cmd);
	ck_assert_int_eq(command_find(set, "mod.get", 7, NULL, 0)->handler, HANDLER_FORWARD);
	ck_assert_ptr_null(command_find(NULL, "mod.get", 7, NULL, 0));
	other = command_set_ref(set);
	command_set_unref(&set);
	ck_assert_ptr_nonnull(command_find(other, "mod.get", 7, NULL, 0));
	command_set_unref(&other);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("command");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	command_init();
	tcase_add_test(t, every_name_is_found);
	tcase_add_test(t, nothing_else_is_found);
	tcase_add_test(t, columns);
	tcase_add_loop_test(t, key_positions, 0, sizeof(key_cases) / sizeof(*key_cases));
	tcase_add_test(t, bad_numkeys);
	tcase_add_test(t, learning);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
