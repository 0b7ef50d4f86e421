/* SPDX-License-Identifier: BSD-2-Clause */
/* See token_memo.h. */
#include "client/token_memo.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

#define WAYS 4 /* of a cache line: any of them may have it */

struct token_memo {
	unsigned char key[crypto_shorthash_KEYBYTES];
	struct token_memory *places; /* by the tag */
	struct token_id *ids;	     /* of them; mostly they are not needed */
	unsigned next;		     /* which of a full line gives way; as good as any */
};

static const size_t place_bytes = TOKEN_MEMO_PLACES * sizeof(struct token_memory);
static const size_t id_bytes = TOKEN_MEMO_PLACES * sizeof(struct token_id);

struct token_memo *token_memo_new(void)
{
	struct token_memo *m = xcalloc(1, sizeof(*m));

	crypto_shorthash_keygen(m->key);
	m->places = xmap(place_bytes);
	m->ids = xmap(id_bytes);
	return m;
}

void token_memo_free(struct token_memo **mp)
{
	struct token_memo *m = *mp;

	*mp = NULL;
	if (!m)
		return;
	munmap(m->places, place_bytes);
	munmap(m->ids, id_bytes);
	free(m);
}

void token_memo_forget(struct token_memo *m)
{
	if (m)
		memset(m->places, 0, place_bytes);
}

uint64_t token_memo_tag(const struct token_memo *m, unsigned kind, const char *text, size_t len)
{
	unsigned char hash[crypto_shorthash_BYTES];
	uint64_t tag;

	crypto_shorthash(hash, (const unsigned char *)text, len, m->key);
	memcpy(&tag, hash, sizeof(tag));
	return (tag ^ kind) | 2; /* never 0, which is an empty place */
}

static struct token_memory *line_of(const struct token_memo *m, uint64_t tag)
{
	return &m->places[(tag >> 32) & (TOKEN_MEMO_PLACES - WAYS)];
}

void token_memo_expect(const struct token_memo *m, uint64_t tag)
{
	__builtin_prefetch(line_of(m, tag));
}

static struct token_memory *put(struct token_memory *at, uint64_t tag)
{
	*at = (struct token_memory){tag, 0};
	return at;
}

struct token_memory *token_memo_at(struct token_memo *m, uint64_t tag, bool *known)
{
	struct token_memory *line = line_of(m, tag);

	*known = true;
	for (unsigned i = 0; i < WAYS; i++)
		if (line[i].tag == tag)
			return &line[i];
	*known = false;
	for (unsigned i = 0; i < WAYS; i++)
		if (!line[i].tag)
			return put(&line[i], tag);
	return put(&line[m->next++ % WAYS], tag);
}

struct token_id *token_memo_id(struct token_memo *m, const struct token_memory *at)
{
	return &m->ids[at - m->places];
}
