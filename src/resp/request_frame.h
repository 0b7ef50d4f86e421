/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Framing of requests: where does a command end, and where do its first arguments lie. Nothing is copied; positions
 * are offsets from the first byte of the request, so the buffer may move. Resumable: bytes may come one by one.
 *
 * Rules are those of Redis's own parser (https://redis.io/docs/reference/protocol-spec/), with its error texts; one
 * is stricter: lines and bulks must end in CR LF, where Redis skips two bytes unseen. What we forward must mean the
 * same to every server behind us.
 */
#ifndef KEYWEIR_REQUEST_FRAME_H
#define KEYWEIR_REQUEST_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define FRAME_ARGS     4	   /* arguments whose place is remembered */
#define FRAME_LINE_MAX (64 * 1024) /* PROTO_INLINE_MAX_SIZE of Redis */
#define FRAME_ARGC_MAX INT32_MAX   /* Redis 7's limit of a multibulk count */

enum frame_status {
	FRAME_MORE,   /* not complete yet */
	FRAME_READY,  /* a whole request: len, argc, arg[] */
	FRAME_EMPTY,  /* "*0\r\n" or an empty line: len bytes to skip, nothing to do */
	FRAME_INLINE, /* an inline command of len bytes, to be taken apart by inline_split() */
	FRAME_BAD     /* protocol error: error says what; the stream can't be trusted any more */
};

struct frame_arg {
	uint32_t offset;
	uint32_t len;
};

#define FRAME_HEAD_MAX 24

/*
 * A request's first bytes up to the line end behind its command's name: connections send the same again and again.
 * Three words that overlap cover them.
 */
struct request_head {
	uint64_t first;
	uint64_t middle; /* at len / 2 - 4 */
	uint64_t last;
	uint8_t len; /* 0: none, else 8 ... FRAME_HEAD_MAX */
	uint8_t argc;
	struct frame_arg name;
};

struct request_frame {
	size_t len;	    /* bytes of the request; while MORE: bytes looked at */
	uint32_t argc;	    /* arguments announced; 0 while unknown */
	uint32_t n_seen;    /* arguments whose header was read */
	uint64_t bulk_left; /* while MORE: bytes still missing of the bulk under way, its CR LF included */
	uint64_t max_bulk;  /* limit for one argument, set by the owner */
	const char *error;  /* FRAME_BAD: text behind "Protocol error: " */
	char error_byte;    /* for "expected '$', got 'x'" */
	struct frame_arg arg[FRAME_ARGS];
	struct request_head head; /* of the last request that was framed in one go */
	const void *known;	  /* what the owner knows of that head's command; NULL: the head is a new one */
};

/* Ready for the next request; the limit and the head stay. */
static inline void request_frame_reset(struct request_frame *f)
{
	f->len = 0;
	f->argc = f->n_seen = 0;
	f->bulk_left = 0;
}

/*
 * Looks at data[0..len), the request's bytes from its first one on; they may be more than the request. Bytes already
 * looked at in an earlier call are not looked at again.
 */
enum frame_status request_frame_feed(struct request_frame *f, const char *data, size_t len);

/*
 * For a request whose bytes are not all kept (a large one that streams through): takes len bytes that follow the
 * ones already looked at. Returns how many of them belong to the request; *status says how it stands. A header line
 * that is cut by the end of data is not consumed: the caller presents it again with more behind it.
 */
size_t request_frame_stream(struct request_frame *f, const char *data, size_t len, enum frame_status *status);

/* Writes the protocol error as Redis words it, without "-" and CR LF, into out. */
void request_frame_error(const struct request_frame *f, char *out, size_t size);

/*
 * Takes an inline command apart (quotes as in redis-cli: "\x41\n", 'a\'b') and appends it to out as a multibulk.
 * Returns the number of arguments, 0 for an empty line, -1 for unbalanced quotes.
 */
int inline_split(const char *line, size_t len, struct buf *out);

/* Walks the arguments of a complete request. */
struct arg_cursor {
	const char *p;
	const char *end;
};
void arg_cursor_init(struct arg_cursor *cur, const char *request, size_t len);
bool arg_cursor_next(struct arg_cursor *cur, const char **arg, size_t *len); /* false: no more */

#endif
