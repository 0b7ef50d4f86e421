/* SPDX-License-Identifier: BSD-2-Clause */
/* The framers, the inline splitter, numbers and the writer; every input also cut at every place. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "resp/number.h"
#include "resp/reply_frame.h"
#include "resp/request_frame.h"
#include "resp/write.h"

#define MAX_BULK 1000000

static enum frame_status frame(struct request_frame *f, const char *p, size_t n)
{
	*f = (struct request_frame){.max_bulk = MAX_BULK};
	return request_frame_feed(f, p, n);
}

START_TEST(request_whole_and_cut)
{
	static const char text[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nhello world!\r\n";
	size_t n = sizeof(text) - 1;
	struct request_frame f;

	ck_assert_int_eq(frame(&f, text, n), FRAME_READY);
	ck_assert_uint_eq(f.len, n);
	ck_assert_uint_eq(f.argc, 3);
	ck_assert_mem_eq(text + f.arg[2].offset, "hello world!", 12);
	for (size_t cut = 1; cut < n; cut++) {
		f = (struct request_frame){.max_bulk = MAX_BULK};
		ck_assert_int_eq(request_frame_feed(&f, text, cut), FRAME_MORE);
		ck_assert_int_eq(request_frame_feed(&f, text, n), FRAME_READY);
		ck_assert_uint_eq(f.len, n);
		ck_assert_uint_eq(f.arg[1].len, 1);
	}
}
END_TEST

static const struct {
	const char *text;
	const char *error;
} bad_requests[] = {
	{"*x\r\n", "Protocol error: invalid multibulk length"},
	{"*01\r\n", "Protocol error: invalid multibulk length"},
	{"*+1\r\n", "Protocol error: invalid multibulk length"},
	{"*99999999999\r\n", "Protocol error: invalid multibulk length"},
	{"*99999999999999999999999\r\n", "Protocol error: invalid multibulk length"},
	{"*1\r\nfoo\r\n", "Protocol error: expected '$', got 'f'"},
	{"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"},
	{"*1\r\n$x\r\n", "Protocol error: invalid bulk length"},
	{"*1\r\n$2000000\r\n", "Protocol error: invalid bulk length"},
	{"*1\r\n$9223372036854775808\r\n", "Protocol error: invalid bulk length"},
	{"*1\r\n$4\r\nPINGxx", "Protocol error: expected CRLF after a bulk string"},
};

START_TEST(request_errors)
{
	char text[128];
	struct request_frame f;

	ck_assert_int_eq(frame(&f, bad_requests[_i].text, strlen(bad_requests[_i].text)), FRAME_BAD);
	request_frame_error(&f, text, sizeof(text));
	ck_assert_str_eq(text, bad_requests[_i].error);
}
END_TEST

START_TEST(request_empty_inline_and_long)
{
	struct request_frame f;
	char *big = malloc(70000);

	ck_assert_int_eq(frame(&f, "*0\r\n", 4), FRAME_EMPTY);
	ck_assert_int_eq(frame(&f, "*-1\r\n", 5), FRAME_EMPTY);
	ck_assert_int_eq(frame(&f, "PING\r\nx", 7), FRAME_INLINE);
	ck_assert_uint_eq(f.len, 6);
	memset(big, 'A', 70000);
	ck_assert_int_eq(frame(&f, big, 70000), FRAME_BAD);
	ck_assert_str_eq(f.error, "too big inline request");
	big[0] = '*';
	ck_assert_int_eq(frame(&f, big, 70000), FRAME_BAD);
	ck_assert_str_eq(f.error, "too big mbulk count string");
	free(big);
}
END_TEST

START_TEST(request_streams)
{
	static const char text[] = "*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\nrest";
	struct request_frame f = {.max_bulk = MAX_BULK};
	enum frame_status status = FRAME_MORE;
	size_t at, n = sizeof(text) - 1;

	ck_assert_int_eq(request_frame_feed(&f, text, 20), FRAME_MORE);
	at = f.len;
	while (status == FRAME_MORE) {
		size_t piece = n - at < 3 ? n - at : 3;

		at += request_frame_stream(&f, text + at, piece, &status);
	}
	ck_assert_int_eq(status, FRAME_READY);
	ck_assert_uint_eq(at, n - 4);
}
END_TEST

START_TEST(inline_quotes)
{
	struct buf out = {0};

	ck_assert_int_eq(inline_split("set  k \"a\\x41\\n\" 'it\\'s'", 24, &out), 4);
	ck_assert_mem_eq(buf_head(&out), "*4\r\n$3\r\nset\r\n$1\r\nk\r\n$3\r\naA\n\r\n$4\r\nit's\r\n", buf_len(&out));
	out.start = out.end = 0;
	ck_assert_int_eq(inline_split("   ", 3, &out), 0);
	ck_assert_int_eq(inline_split("get \"x", 6, &out), -1);
	ck_assert_int_eq(inline_split("get 'x'y", 8, &out), -1);
	ck_assert_int_eq(inline_split("get \"\\xZZ\"", 10, &out), 2);
	out.start = out.end = 0;
	ck_assert_int_eq(inline_split("\fg\ve\ft \v k \"q\"\f", 15, &out), 3);
	ck_assert_mem_eq(buf_head(&out), "*3\r\n$5\r\ng\ve\ft\r\n$1\r\nk\r\n$1\r\nq\r\n", buf_len(&out));
	buf_release(&out);
}
END_TEST

static const char *const replies[] = {
	"+OK\r\n",
	"-ERR no\r\n",
	":-12\r\n",
	"$3\r\nabc\r\n",
	"$0\r\n\r\n",
	"$-1\r\n",
	"*-1\r\n",
	"*0\r\n",
	"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
	"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
	"~2\r\n#t\r\n#f\r\n",
	"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
	">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
	"=7\r\ntxt:abc\r\n",
	"(12345678901234567890\r\n",
	",3.14\r\n",
	"!5\r\nERR x\r\n",
};

START_TEST(reply_whole_and_cut)
{
	const char *text = replies[_i];
	size_t n = strlen(text), used;

	for (size_t cut = 1; cut <= n; cut++) {
		struct reply_frame f = {0};
		enum reply_status status = reply_frame_feed(&f, text, cut, &used);

		ck_assert_uint_eq(used, cut);
		ck_assert_int_eq(status, cut == n ? REPLY_DONE : REPLY_MORE);
		if (cut < n) {
			ck_assert_int_eq(reply_frame_feed(&f, text + cut, n - cut, &used), REPLY_DONE);
			ck_assert_uint_eq(used, n - cut);
		}
		ck_assert_int_eq(f.type, text[0] == '|' ? '$' : text[0]);
		ck_assert(!reply_frame_busy(&f));
	}
}
END_TEST

START_TEST(reply_nonsense)
{
	static const char *const texts[] = {
		"x\r\n", "$abc\r\n", "$-2\r\n", "*99999999999999999999\r\n", "$\r\n", "%4611686018427387904\r\n"};
	size_t used;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct reply_frame f = {0};

		ck_assert_int_eq(reply_frame_feed(&f, texts[i], strlen(texts[i]), &used), REPLY_BAD);
	}
}
END_TEST

START_TEST(reply_deep)
{
	struct reply_frame f = {0};
	size_t used;

	for (int i = 0; i < 1000000; i++)
		ck_assert_int_eq(reply_frame_feed(&f, "*1\r\n", 4, &used), REPLY_MORE);
	ck_assert_int_eq(reply_frame_feed(&f, ":1\r\n", 4, &used), REPLY_DONE);
}
END_TEST

START_TEST(reply_items)
{
	static const char text[] = "*3\r\n$2\r\nab\r\n*2\r\n:7\r\n:8\r\n+end\r\n";
	struct reply_cursor cur = {text, text + sizeof(text) - 1};
	struct reply_item item;

	ck_assert(reply_cursor_next(&cur, &item));
	ck_assert_int_eq(item.number, 3);
	ck_assert(reply_cursor_next(&cur, &item));
	ck_assert_mem_eq(item.text, "ab", 2);
	ck_assert(reply_cursor_skip(&cur));
	ck_assert(reply_cursor_next(&cur, &item));
	ck_assert_mem_eq(item.text, "end", 3);
	ck_assert(!reply_cursor_next(&cur, &item));
}
END_TEST

START_TEST(numbers)
{
	int64_t v;

	ck_assert(parse_int64("0", 1, &v) && v == 0);
	ck_assert(parse_int64("-9223372036854775808", 20, &v) && v == INT64_MIN);
	ck_assert(parse_int64("9223372036854775807", 19, &v) && v == INT64_MAX);
	ck_assert(!parse_int64("9223372036854775808", 19, &v));
	ck_assert(!parse_int64("", 0, &v) && !parse_int64("-", 1, &v) && !parse_int64("01", 2, &v));
	ck_assert(!parse_int64("-0", 2, &v) && !parse_int64("+1", 2, &v) && !parse_int64("1 ", 2, &v));
}
END_TEST

START_TEST(writing)
{
	struct buf b = {0};

	resp_map(&b, 3, 1);
	resp_map(&b, 2, 1);
	resp_null(&b, 3);
	resp_null(&b, 2);
	resp_verbatim(&b, 3, "hi", 2);
	resp_error(&b, "ERR a\r\nb");
	resp_bulk(&b, "x\0y", 3);
	buf_put(&b, "", 1);
	ck_assert_mem_eq(buf_head(&b), "%1\r\n*2\r\n_\r\n$-1\r\n=6\r\ntxt:hi\r\n-ERR a  b\r\n$3\r\nx\0y\r\n",
			 sizeof("%1\r\n*2\r\n_\r\n$-1\r\n=6\r\ntxt:hi\r\n-ERR a  b\r\n$3\r\nx\0y\r\n") - 1);
	buf_release(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("resp");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(t, request_whole_and_cut);
	tcase_add_loop_test(t, request_errors, 0, sizeof(bad_requests) / sizeof(*bad_requests));
	tcase_add_test(t, request_empty_inline_and_long);
	tcase_add_test(t, request_streams);
	tcase_add_test(t, inline_quotes);
	tcase_add_loop_test(t, reply_whole_and_cut, 0, sizeof(replies) / sizeof(*replies));
	tcase_add_test(t, reply_nonsense);
	tcase_add_test(t, reply_deep);
	tcase_add_test(t, reply_items);
	tcase_add_test(t, numbers);
	tcase_add_test(t, writing);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
