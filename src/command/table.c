/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The built-in commands and how one is found by its name. The rows are constant (commands.def); an index over them,
 * built once by command_init() before any thread, hashes a name's first and last eight bytes, folded to lower case,
 * into open addressing. Learnt commands: learn.c.
 */
#include <assert.h>
#include <string.h>

#include "command/command.h"
#include "command/learn.h"

enum row {
#define ROW(symbol, ...) ROW_##symbol,
#include "command/commands.def"
#undef ROW
	ROW_COUNT
};

/* The columns of commands.def as parts of initialisers. */
#define KEYS(...)                                                                                                      \
	.specs = (const struct key_spec[]){__VA_ARGS__},                                                               \
	.n_specs = sizeof((const struct key_spec[]){__VA_ARGS__}) / sizeof(struct key_spec)
#define KEY(flags_, ...)                                                                                               \
	{                                                                                                              \
		.flags = (flags_), __VA_ARGS__                                                                         \
	}
#define INDEX(i)	    .begin = KEY_BEGIN_INDEX, .begin_index = (i)
#define KEYWORD(word, from) .begin = KEY_BEGIN_KEYWORD, .begin_index = (from), .keyword = (word)
#define OPTIONS(...)                                                                                                   \
	.options = (const struct key_option[])                                                                         \
	{                                                                                                              \
		__VA_ARGS__,                                                                                           \
		{                                                                                                      \
			NULL, 0                                                                                        \
		}                                                                                                      \
	}
#define OPTION(word, n)                                                                                                \
	{                                                                                                              \
		(word), (n)                                                                                            \
	}
#define NOWHERE			  .begin = KEY_BEGIN_UNKNOWN
#define RANGE(last, step, limit_) .find = KEY_FIND_RANGE, .last_key = (last), .key_step = (step), .limit = (limit_)
#define KEYNUM(number, first, step)                                                                                    \
	.find = KEY_FIND_KEYNUM, .keynum_index = (number), .first_key = (first), .key_step = (step)
#define NONE		       .find = KEY_FIND_UNKNOWN
#define NO_KEYS		       .specs = NULL
#define SUBCOMMANDS(symbol, n) .subcommands = rows + ROW_##symbol + 1, .n_subcommands = (n)
#define NO_SUBCOMMANDS	       .subcommands = NULL
#define ROW(symbol, name_, arity_, own_handler, own_timeout, own_in_multi, own_secrets, own_absent, own_ttl,           \
	    own_names, own_seal, own_cache, own_token, flags_, cats, req, resp, keys, subs)                            \
	[ROW_##symbol] = {                                                                                             \
		.name = (name_),                                                                                       \
		.id = ROW_##symbol,                                                                                    \
		.arity = (arity_),                                                                                     \
		.flags = (flags_),                                                                                     \
		.categories = (cats),                                                                                  \
		.request_policy = REQUEST_##req,                                                                       \
		.response_policy = RESPONSE_##resp,                                                                    \
		.handler = HANDLER_##own_handler,                                                                      \
		.timeout = TIMEOUT_##own_timeout,                                                                      \
		.in_multi = IN_MULTI_##own_in_multi,                                                                   \
		.secrets = SECRETS_##own_secrets,                                                                      \
		.absent = ABSENT_##own_absent,                                                                         \
		.ttl = TTL_##own_ttl,                                                                                  \
		.names = NAMES_##own_names,                                                                            \
		.seal = SEAL_##own_seal,                                                                               \
		.cache = CACHE_##own_cache,                                                                            \
		.token = TOKEN_##own_token,                                                                            \
		keys,                                                                                                  \
		subs,                                                                                                  \
	},

static const struct command rows[ROW_COUNT];
static const struct command rows[ROW_COUNT] = {
#include "command/commands.def"
};
#undef ROW

_Static_assert(ROW_COUNT < COMMAND_ID_MAX / 2, "ids are left for learnt commands");

#define NAME_BYTES_MAX 32
#define INDEX_SIZE     2048 /* a power of two, about eight times as many as there are top-level commands */

/* A slot of the index. A name of up to eight letters is its folded word: equal words are equal names. */
struct slot {
	uint64_t word;
	const struct command *cmd; /* NULL: empty */
	uint8_t len;
	bool exact; /* the word says it all */
};

static struct slot slots[INDEX_SIZE]; /* written by command_init() only */

static inline uint64_t load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t load32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t byte(const char *p)
{
	return (unsigned char)*p;
}

/*
 * The first eight bytes (all of a short name), folded: setting bit 5 makes letters lower case, and only letters fold
 * onto letters. Other bytes may fold onto each other, which costs a comparison.
 */
static inline uint64_t folded_word(const char *name, size_t len)
{
	uint64_t word;

	if (len >= 8)
		word = load64(name);
	else if (len >= 4)
		word = load32(name) | load32(name + len - 4) << 32;
	else
		word = byte(name) | byte(name + len / 2) << 8 | byte(name + len - 1) << 16;
	return word | 0x2020202020202020u;
}

static inline unsigned hash_name(uint64_t word, const char *name, size_t len)
{
	if (len > 8)
		word ^= (load64(name + len - 8) | 0x2020202020202020u) * 0x9e3779b97f4a7c15u;
	return (unsigned)(((word ^ len) * 0xff51afd7ed558ccdu) >> 40) & (INDEX_SIZE - 1);
}

/* Whether a row's name is these bytes, in any case; they may hold a NUL, which must not lead past the row's own. */
static bool name_is(const char *lower, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (lower[i] == '\0' || lower[i] != command_lower(name[i]))
			return false;
	return lower[len] == '\0';
}

static inline const struct command *builtin(const char *name, size_t len)
{
	uint64_t word;

	if (len == 0 || len > NAME_BYTES_MAX)
		return NULL;
	word = folded_word(name, len);
	for (unsigned i = hash_name(word, name, len); slots[i].cmd; i = (i + 1) & (INDEX_SIZE - 1)) {
		const struct slot *slot = &slots[i];

		if (slot->word == word && slot->len == len && (slot->exact || name_is(slot->cmd->name, name, len)))
			return slot->cmd;
	}
	return NULL;
}

static void index_add(const struct command *cmd)
{
	size_t len = strlen(cmd->name);
	bool letters = cmd->name[strspn(cmd->name, "abcdefghijklmnopqrstuvwxyz")] == '\0';
	uint64_t word;
	unsigned i;

	assert(len >= 1 && len <= NAME_BYTES_MAX && !command_builtin(cmd->name, len));
	word = folded_word(cmd->name, len);
	for (i = hash_name(word, cmd->name, len); slots[i].cmd;)
		i = (i + 1) & (INDEX_SIZE - 1);
	slots[i] = (struct slot){word, cmd, (uint8_t)len, len <= 8 && letters};
}

static void check_subcommands(const struct command *container)
{
	size_t n = strlen(container->name);

	for (unsigned i = 0; i < container->n_subcommands; i++)
		assert(strncmp(container->subcommands[i].name, container->name, n) == 0 &&
		       container->subcommands[i].name[n] == '|');
}

void command_init(void)
{
	unsigned used = 0;

	memset(slots, 0, sizeof(slots));
	for (unsigned i = 0; i < ROW_COUNT; i += 1u + rows[i].n_subcommands) {
		index_add(&rows[i]);
		check_subcommands(&rows[i]);
		used++;
	}
	assert(used <= INDEX_SIZE / 2); /* probing ends at an empty slot */
}

unsigned command_count(void)
{
	return ROW_COUNT;
}

const struct command *command_by_id(const struct command_set *learnt, unsigned id)
{
	if (id < ROW_COUNT)
		return &rows[id];
	return learnt ? command_set_by_id(learnt, id) : NULL;
}

const struct command *command_builtin(const char *name, size_t len)
{
	return builtin(name, len);
}

const struct command *command_subcommand(const struct command *container, const char *sub, size_t len)
{
	size_t skip = strlen(container->name) + 1;
	char first = len > 0 ? command_lower(*sub) : '\0';

	for (unsigned i = 0; i < container->n_subcommands; i++) {
		const char *name = container->subcommands[i].name + skip;

		if (*name == first && name_is(name, sub, len))
			return &container->subcommands[i];
	}
	return NULL;
}

/* What is no plain built-in command: a container's subcommand, a learnt command, or nothing. */
static __attribute__((noinline)) const struct command *find_more(const struct command_set *learnt,
								 const struct command *cmd, const char *name,
								 size_t name_len, const char *sub, size_t sub_len)
{
	const struct command *found;

	if (!cmd)
		cmd = learnt ? command_set_find(learnt, name, name_len, NULL, 0) : NULL;
	if (!cmd || cmd->n_subcommands == 0 || !sub)
		return cmd;
	found = command_subcommand(cmd, sub, sub_len);
	if (!found && learnt)
		found = command_set_find(learnt, name, name_len, sub, sub_len);
	return found ? found : cmd;
}

const struct command *command_find(const struct command_set *learnt, const char *name, size_t name_len, const char *sub,
				   size_t sub_len)
{
	const struct command *cmd = builtin(name, name_len);

	if (cmd && cmd->n_subcommands == 0)
		return cmd;
	return find_more(learnt, cmd, name, name_len, sub, sub_len);
}
