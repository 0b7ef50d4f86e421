/* SPDX-License-Identifier: BSD-2-Clause */
/* Tokens, their names and ids: see token.h. */
#include "policy/token.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define ID_BYTES    16
#define MAKER_BYTES 2
#define NAME_LENGTH (2 * (MAKER_BYTES + ID_BYTES)) /* in hexadecimal */

/* In memory of sodium_malloc(), read-only once they are made. */
struct token_keys {
	unsigned char hash[crypto_generichash_KEYBYTES];
	unsigned char maker[MAKER_BYTES];			/* which secret it is: all its names begin so */
	unsigned char id[crypto_shorthash_siphashx24_KEYBYTES]; /* without hash_tokens */
};

struct tokens {
	const struct token_blacklist_config *conf;
	size_t prefix_len;
	struct token_keys *keys;
	struct token_id *statics; /* sorted */
	size_t n_statics, room;
};

/* ---- names and ids ---- */

static struct token_id id_of_bytes(const unsigned char bytes[ID_BYTES])
{
	struct token_id id;

	memcpy(&id.a, bytes, 8);
	memcpy(&id.b, bytes + 8, 8);
	return id;
}

static void hash(const struct tokens *t, const char *subject, size_t len, unsigned char out[ID_BYTES])
{
	crypto_generichash(out, ID_BYTES, (const unsigned char *)subject, len, t->keys->hash, sizeof(t->keys->hash));
}

struct token_id tokens_id(const struct tokens *t, const char *subject, size_t len)
{
	unsigned char bytes[ID_BYTES];

	if (t->conf->hash_tokens)
		hash(t, subject, len, bytes);
	else
		crypto_shorthash_siphashx24(bytes, (const unsigned char *)subject, len, t->keys->id);
	return id_of_bytes(bytes);
}

void tokens_put_name(const struct tokens *t, const char *subject, size_t len, struct buf *out)
{
	unsigned char bytes[MAKER_BYTES + ID_BYTES];
	char name[NAME_LENGTH + 1];

	if (!t->conf->hash_tokens) {
		buf_put(out, subject, len);
		return;
	}
	memcpy(bytes, t->keys->maker, MAKER_BYTES);
	hash(t, subject, len, bytes + MAKER_BYTES);
	sodium_bin2hex(name, sizeof(name), bytes, sizeof(bytes));
	buf_put(out, name, NAME_LENGTH);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tokens_id_of_name(const struct tokens *t, const char *name, size_t len, struct token_id *out)
{
	unsigned char bytes[MAKER_BYTES + ID_BYTES];

	if (!t->conf->hash_tokens) {
		*out = tokens_id(t, name, len);
		return true;
	}
	if (len != NAME_LENGTH)
		return false;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		int high = digit(name[2 * i]), low = digit(name[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (unsigned char)(high << 4 | low);
	}
	if (memcmp(bytes, t->keys->maker, MAKER_BYTES) != 0)
		return false;
	*out = id_of_bytes(bytes + MAKER_BYTES);
	return true;
}

bool tokens_has_key(const struct tokens *t, const char *key, size_t len)
{
	return len >= t->prefix_len && memcmp(key, t->conf->prefixes.items[0], t->prefix_len) == 0;
}

bool tokens_id_of_key(const struct tokens *t, const char *key, size_t len, struct token_id *out)
{
	if (!tokens_has_key(t, key, len))
		return false;
	return tokens_id_of_name(t, key + t->prefix_len, len - t->prefix_len, out);
}

struct token_text tokens_subject(const struct tokens *t, const char *token, size_t len, struct jwt *room)
{
	if (t->conf->by == TOKEN_BY_JTI && jwt_read(token, len, room) && room->jti_len > 0)
		return (struct token_text){room->jti, room->jti_len};
	return (struct token_text){token, len};
}

/* ---- those of the configuration ---- */

static int compare(const void *x, const void *y)
{
	const struct token_id *a = x, *b = y;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	return a->b < b->b ? -1 : a->b > b->b;
}

bool tokens_is_static(const struct tokens *t, struct token_id id)
{
	return t->n_statics > 0 && bsearch(&id, t->statics, t->n_statics, sizeof(id), compare);
}

static void add_static(struct tokens *t, const char *token, size_t len)
{
	struct jwt room;
	struct token_text subject = tokens_subject(t, token, len, &room);

	if (t->n_statics == t->room) {
		t->room = t->room * 2 + 16;
		t->statics = xreallocarray(t->statics, t->room, sizeof(*t->statics));
	}
	t->statics[t->n_statics++] = tokens_id(t, subject.p, subject.len);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void add_line(struct tokens *t, const char *line, size_t len)
{
	while (len > 0 && is_blank(line[len - 1]))
		len--;
	while (len > 0 && is_blank(*line)) {
		line++;
		len--;
	}
	if (len > 0 && *line != '#')
		add_static(t, line, len);
}

static void add_lines(struct tokens *t, const char *text, size_t len)
{
	const char *end = text + len, *next;

	for (const char *line = text; line < end; line = next + 1) {
		next = memchr(line, '\n', (size_t)(end - line));
		if (!next)
			next = end;
		add_line(t, line, (size_t)(next - line));
	}
}

/* More room for what is secret. */
static char *grow(char *text, size_t len, size_t room)
{
	char *bigger = xcalloc(1, room);

	if (text) {
		memcpy(bigger, text, len);
		sodium_memzero(text, len);
		free(text);
	}
	return bigger;
}

/* All of it, also of a pipe, and when it grows meanwhile. NULL: errno says why. */
static char *read_all(int fd, size_t *len)
{
	struct stat st;
	size_t room;
	ssize_t n;
	char *text;

	if (fstat(fd, &st) < 0)
		return NULL;
	room = (size_t)(st.st_size > 0 ? st.st_size : 0) + 4096;
	text = grow(NULL, 0, room);
	for (*len = 0;; *len += (size_t)n) {
		if (*len == room)
			text = grow(text, *len, room *= 2);
		do
			n = read(fd, text + *len, room - *len);
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			break;
	}
	if (n == 0)
		return text;
	free(text);
	return NULL;
}

static bool read_file(struct tokens *t, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len;
	char *text;

	if (fd < 0)
		return false;
	text = read_all(fd, &len);
	close(fd);
	if (!text)
		return false;
	add_lines(t, text, len);
	sodium_memzero(text, len);
	free(text);
	return true;
}

/* ---- life ---- */

/* A secret of any length becomes a key; the text says for what, so that it is nobody else's. */
static void derive(unsigned char *key, size_t key_len, const char *purpose, const void *secret, size_t len)
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, NULL, 0, key_len);
	crypto_generichash_update(&state, (const unsigned char *)purpose, strlen(purpose) + 1);
	crypto_generichash_update(&state, secret, len);
	crypto_generichash_final(&state, key, key_len);
	sodium_memzero(&state, sizeof(state));
}

/* False: the system has no memory for it. Ids are the same as long as the process lives: a reload keeps what it knows.
 */
static bool make_keys(struct tokens *t)
{
	const void *of_process = (const void *)getauxval(AT_RANDOM); /* 16 bytes from the kernel */
	unsigned char maker[crypto_generichash_BYTES_MIN];

	t->keys = sodium_malloc(sizeof(*t->keys));
	if (!t->keys || !of_process)
		return false;
	derive(t->keys->hash, sizeof(t->keys->hash), "keyweir: names of tokens", t->conf->secret,
	       strlen(t->conf->secret));
	derive(maker, sizeof(maker), "keyweir: which secret", t->keys->hash, sizeof(t->keys->hash));
	memcpy(t->keys->maker, maker, sizeof(t->keys->maker));
	derive(t->keys->id, sizeof(t->keys->id), "keyweir: ids of tokens", of_process, 16);
	return sodium_mprotect_readonly(t->keys) == 0;
}

struct tokens *tokens_new(const struct token_blacklist_config *conf, char *why, size_t why_size)
{
	struct tokens *t = xcalloc(1, sizeof(*t));

	t->conf = conf;
	t->prefix_len = strlen(conf->prefixes.items[0]);
	if (!make_keys(t)) {
		snprintf(why, why_size, "token_blacklist: no memory for its keys");
		tokens_free(&t);
		return NULL;
	}
	for (size_t i = 0; i < conf->tokens.n; i++)
		add_static(t, conf->tokens.items[i], strlen(conf->tokens.items[i]));
	if (*conf->file && !read_file(t, conf->file)) {
		snprintf(why, why_size, "token_blacklist.file: %s: %s", conf->file, strerror(errno));
		tokens_free(&t);
		return NULL;
	}
	if (t->n_statics > 0)
		qsort(t->statics, t->n_statics, sizeof(*t->statics), compare);
	return t;
}

void tokens_free(struct tokens **tp)
{
	struct tokens *t = *tp;

	*tp = NULL;
	if (!t)
		return;
	sodium_free(t->keys);
	free(t->statics);
	free(t);
}

const struct token_blacklist_config *tokens_conf(const struct tokens *t)
{
	return t->conf;
}

const char *tokens_prefix(const struct tokens *t, size_t *len)
{
	*len = t->prefix_len;
	return t->conf->prefixes.items[0];
}

size_t tokens_n_static(const struct tokens *t)
{
	return t->n_statics;
}

bool tokens_same(const struct tokens *a, const struct tokens *b)
{
	return strcmp(a->conf->prefixes.items[0], b->conf->prefixes.items[0]) == 0 &&
	       strcmp(a->conf->upstream, b->conf->upstream) == 0 && a->conf->hash_tokens == b->conf->hash_tokens &&
	       sodium_memcmp(a->keys->hash, b->keys->hash, sizeof(a->keys->hash)) == 0;
}
