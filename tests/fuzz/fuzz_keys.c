/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzz target: a random command line through command_find() and command_keys(), and random bytes as a COMMAND reply
 * through command_learn(), the learnt rows then looked up in the same way.
 * Input: a byte whose lowest bit says which; arguments are cut at 0xff, the first may be a command by number.
 * Checked: key positions within argc and after the name, none told when the answer is -1.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/command.h"

#define ARGS_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct line {
	const char *argv[ARGS_MAX];
	size_t len[ARGS_MAX];
	uint32_t argc;
	int64_t told;
};

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static const char *get_arg(void *ctx, uint32_t index, size_t *len)
{
	struct line *l = ctx;

	if (index >= l->argc)
		return NULL;
	*len = l->len[index];
	return l->argv[index];
}

static void on_key(void *ctx, uint32_t index, unsigned flags)
{
	struct line *l = ctx;

	MUST(index >= 1 && index < l->argc);
	MUST(!(flags & (KEY_NOT_KEY | KEY_ALONE | KEY_INCOMPLETE)));
	l->told++;
}

/* Each argument in memory of its own, so that a sanitizer sees a byte read past its end. */
static void cut(struct line *l, const uint8_t *data, size_t size)
{
	memset(l, 0, sizeof(*l));
	while (l->argc < ARGS_MAX) {
		const uint8_t *end = size ? memchr(data, 0xff, size) : NULL;
		size_t n = end ? (size_t)(end - data) : size;
		char *arg = malloc(n ? n : 1);

		if (n)
			memcpy(arg, data, n);
		l->argv[l->argc] = arg;
		l->len[l->argc++] = n;
		if (!end)
			return;
		data += n + 1;
		size -= n + 1;
	}
}

static void drop(struct line *l)
{
	for (uint32_t i = 0; i < l->argc; i++) {
		void *p;

		memcpy(&p, &l->argv[i], sizeof(p));
		free(p);
	}
}

static void keys_of(const struct command *cmd, struct line *l)
{
	int64_t n;

	l->told = 0;
	n = command_keys(cmd, l->argc, get_arg, on_key, l);
	MUST(n == -1 ? l->told == 0 : n == l->told);
}

static void try_line(const struct command_set *set, const uint8_t *data, size_t size)
{
	const struct command *cmd;
	struct line l;

	cut(&l, data, size);
	cmd = command_find(set, l.argv[0], l.len[0], l.argc > 1 ? l.argv[1] : NULL, l.argc > 1 ? l.len[1] : 0);
	if (cmd) {
		MUST(command_by_id(set, cmd->id) == cmd);
		MUST(strlen(cmd->name) >= l.len[0]);
		keys_of(cmd, &l);
	}
	if (size >= 2) { /* names are hard to guess: any row by its number, too */
		cmd = command_by_id(set, (unsigned)(data[0] | data[1] << 8) % command_count());
		keys_of(cmd, &l);
	}
	drop(&l);
}

/* hiredis allocates an array of as many elements as its head announces: that is the reader's to bound, not ours. */
static bool is_huge(const uint8_t *data, size_t size)
{
	size_t digits = 0;

	for (size_t i = 0; i < size; i++) {
		digits = data[i] >= '0' && data[i] <= '9' ? digits + 1 : 0;
		if (digits > 5)
			return true;
	}
	return false;
}

static void try_reply(const uint8_t *data, size_t size)
{
	redisReader *reader = redisReaderCreate();
	struct command_set *set = NULL;
	void *reply = NULL;

	if (redisReaderFeed(reader, (const char *)data, size) == REDIS_OK &&
	    redisReaderGetReply(reader, &reply) == REDIS_OK && reply) {
		set = command_learn(reply);
		freeReplyObject(reply);
	}
	redisReaderFree(reader);
	if (!set)
		return;
	MUST(command_count() + command_set_count(set) <= COMMAND_ID_MAX);
	for (unsigned i = 0; i < command_set_count(set); i++) {
		const struct command *cmd = command_by_id(set, command_count() + i), *found;
		const char *bar = strchr(cmd->name, '|');
		struct line l;

		/* found by its name, or (a name told twice within a container) one of the same name is */
		found = command_find(set, cmd->name, bar ? (size_t)(bar - cmd->name) : strlen(cmd->name),
				     bar ? bar + 1 : NULL, bar ? strlen(bar + 1) : 0);
		MUST(found && strcmp(found->name, cmd->name) == 0);
		cut(&l, data, size);
		keys_of(cmd, &l);
		drop(&l);
	}
	command_set_unref(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready; /* replay.c calls no initialiser */

	if (!ready)
		command_init();
	ready = true;
	if (size == 0)
		return 0;
	if (data[0] & 1 && !is_huge(data + 1, size - 1))
		try_reply(data + 1, size - 1);
	else if (!(data[0] & 1))
		try_line(NULL, data + 1, size - 1);
	return 0;
}
