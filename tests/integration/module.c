/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A module for real Redis servers under test: KW.SET key value, KW.GET key, KW.SLEEP ms. Its interface is declared here
 * by hand, since Debian ships no redismodule.h. https://redis.io/docs/reference/modules/modules-api-ref/
 */
#include <string.h>
#include <unistd.h>

typedef struct RedisModuleCtx RedisModuleCtx;
typedef struct RedisModuleString RedisModuleString;
typedef struct RedisModuleCallReply RedisModuleCallReply;
typedef int (*command_fn)(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

static int (*create_command)(RedisModuleCtx *, const char *, command_fn, const char *, int, int, int);
static RedisModuleCallReply *(*call)(RedisModuleCtx *, const char *, const char *, ...);
static int (*reply_with_call_reply)(RedisModuleCtx *, RedisModuleCallReply *);
static int (*reply_with_simple_string)(RedisModuleCtx *, const char *);
static int (*wrong_arity)(RedisModuleCtx *);
static int (*string_to_long_long)(const RedisModuleString *, long long *);

static int kw_set(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
	return argc == 3 ? reply_with_call_reply(ctx, call(ctx, "SET", "ss", argv[1], argv[2])) : wrong_arity(ctx);
}

static int kw_get(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
	return argc == 2 ? reply_with_call_reply(ctx, call(ctx, "GET", "s", argv[1])) : wrong_arity(ctx);
}

static int kw_sleep(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
	long long ms = 0;

	if (argc == 2 && string_to_long_long(argv[1], &ms) == 0)
		usleep((useconds_t)(ms * 1000));
	return reply_with_simple_string(ctx, "slept");
}

int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc)
{
	int (*get)(const char *, void *);
	void (*attributes)(RedisModuleCtx *, const char *, int, int);

	(void)argv;
	(void)argc;
	memcpy(&get, ctx, sizeof(get)); /* the first word of a context */
	get("RedisModule_SetModuleAttribs", &attributes);
	get("RedisModule_CreateCommand", &create_command);
	get("RedisModule_Call", &call);
	get("RedisModule_ReplyWithCallReply", &reply_with_call_reply);
	get("RedisModule_ReplyWithSimpleString", &reply_with_simple_string);
	get("RedisModule_WrongArity", &wrong_arity);
	get("RedisModule_StringToLongLong", &string_to_long_long);
	attributes(ctx, "kw", 1, 1);
	if (create_command(ctx, "kw.set", kw_set, "write deny-oom", 1, 1, 1) != 0 ||
	    create_command(ctx, "kw.get", kw_get, "readonly fast", 1, 1, 1) != 0 ||
	    create_command(ctx, "kw.sleep", kw_sleep, "readonly", 0, 0, 0) != 0)
		return 1;
	return 0;
}
