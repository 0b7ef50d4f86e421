/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking commands up by name. The table is constant (commands.def); an index over it, built once before any thread,
 * hashes a name's first and last eight bytes, folded to lower case, into open addressing.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "command/command.h"
#include "command/learn.h"

#include "command/commands.def"

#define N_COMMANDS     (sizeof(commands) / sizeof(*commands))
#define INDEX_SIZE     2048 /* a power of two, about eight times as many as commands */
#define NAME_MAX_BYTES 32

/* A slot of the index. A name of up to eight letters is its folded word: equal words are equal names. */
struct slot {
	uint64_t word;
	const struct command *cmd;
	uint8_t len;
	bool exact; /* the word says it all */
};

static struct {
	struct slot slots[INDEX_SIZE];
	const struct command *by_id[COMMAND_ID_MAX];
	unsigned count;
} lookup; /* written by command_init() only */

static inline uint64_t load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The bytes of a name of one to eight bytes as a number: equal numbers and lengths are equal names. */
static inline uint64_t name_word(const char *name, size_t len)
{
	uint32_t a, b;

	if (len == 8)
		return load64(name);
	if (len < 4)
		return (uint64_t)(unsigned char)name[0] | (uint64_t)(unsigned char)name[len / 2] << 8 |
		       (uint64_t)(unsigned char)name[len - 1] << 16;
	memcpy(&a, name, 4);
	memcpy(&b, name + len - 4, 4);
	return a | (uint64_t)b << 32;
}

/*
 * The first eight bytes (all of a short name), folded: setting bit 5 makes letters lower case. Other bytes may fold
 * onto each other, which costs a comparison.
 */
static inline uint64_t folded_word(const char *name, size_t len)
{
	return (len > 8 ? load64(name) : name_word(name, len)) | 0x2020202020202020u;
}

static inline unsigned hash_name(uint64_t word, const char *name, size_t len)
{
	if (len > 8)
		word ^= (load64(name + len - 8) | 0x2020202020202020u) * 0x9e3779b97f4a7c15u;
	return (unsigned)(((word ^ len) * 0xff51afd7ed558ccdu) >> 40) & (INDEX_SIZE - 1);
}

bool command_name_is(const char *lower, const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		unsigned char ch = (unsigned char)name[i];

		if (ch >= 'A' && ch <= 'Z')
			ch |= 0x20;
		if (lower[i] == '\0' || ch != (unsigned char)lower[i]) /* a NUL in name must not match lower's end */
			return false;
	}
	return lower[i] == '\0';
}

static void number_rows(const struct command *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		assert(rows[i].id < COMMAND_ID_MAX - 1 && !lookup.by_id[rows[i].id]);
		lookup.by_id[rows[i].id] = &rows[i];
		lookup.count++;
		number_rows(rows[i].subcommands, rows[i].n_subcommands);
	}
}

static bool only_letters(const char *name)
{
	return name[strspn(name, "abcdefghijklmnopqrstuvwxyz")] == '\0';
}

void command_init(void)
{
	memset(&lookup, 0, sizeof(lookup));
	number_rows(commands, N_COMMANDS);
	for (size_t i = 0; i < N_COMMANDS; i++) {
		const char *name = commands[i].name;
		size_t len = strlen(name);
		uint64_t word = folded_word(name, len);
		unsigned slot = hash_name(word, name, len);

		assert(len <= NAME_MAX_BYTES);
		while (lookup.slots[slot].cmd)
			slot = (slot + 1) & (INDEX_SIZE - 1);
		lookup.slots[slot] = (struct slot){word, &commands[i], (uint8_t)len, len <= 8 && only_letters(name)};
	}
}

unsigned command_count(void)
{
	return lookup.count;
}

const struct command *command_by_id(const struct command_set *learnt, unsigned id)
{
	if (id < COMMAND_ID_MAX && lookup.by_id[id])
		return lookup.by_id[id];
	return learnt ? command_set_by_id(learnt, id) : NULL;
}

static inline const struct command *find_builtin(const char *name, size_t len)
{
	uint64_t word;

	if (len == 0 || len > NAME_MAX_BYTES)
		return NULL;
	word = folded_word(name, len);
	for (unsigned i = hash_name(word, name, len); lookup.slots[i].cmd; i = (i + 1) & (INDEX_SIZE - 1)) {
		const struct slot *slot = &lookup.slots[i];

		if (slot->word == word && slot->len == len &&
		    (slot->exact || command_name_is(slot->cmd->name, name, len)))
			return slot->cmd;
	}
	return NULL;
}

const struct command *command_builtin(const char *name, size_t len)
{
	return find_builtin(name, len);
}

const struct command *command_subcommand(const struct command *container, const char *sub, size_t len)
{
	size_t skip = strlen(container->name) + 1;

	for (unsigned i = 0; i < container->n_subcommands; i++)
		if (command_name_is(container->subcommands[i].name + skip, sub, len))
			return &container->subcommands[i];
	return NULL;
}

const struct command *command_find(const struct command_set *learnt, const char *name, size_t name_len, const char *sub,
				   size_t sub_len)
{
	const struct command *cmd = find_builtin(name, name_len), *found;

	if (!cmd)
		cmd = learnt ? command_set_find(learnt, name, name_len) : NULL;
	if (!sub || !cmd || cmd->n_subcommands == 0)
		return cmd;
	found = command_subcommand(cmd, sub, sub_len);
	return found ? found : cmd;
}
