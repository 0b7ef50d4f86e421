/* SPDX-License-Identifier: BSD-2-Clause */
/* What trackers read: keys that have changed (upstream/invalidation.h), what a node says of itself (node_look.h). */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "upstream/invalidation.h"
#include "upstream/node_look.h"

/* "none", "other", "all", or the keys with a "|" behind each. */
static const char *read_as(const char *reply, size_t len)
{
	static char text[512];
	struct reply_cursor keys;
	const char *key;
	size_t n = 0;

	switch (invalidation_read(reply, len, &keys)) {
	case INVALIDATION_NONE:
		return "none";
	case INVALIDATION_OTHER:
		return "other";
	case INVALIDATION_ALL:
		return "all";
	case INVALIDATION_KEYS:
		break;
	}
	text[0] = '\0';
	while (invalidation_next(&keys, &key, &len))
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%.*s|", (int)len, key);
	return text;
}

START_TEST(messages)
{
	static const struct {
		const char *reply, *read;
	} cases[] = {
		{">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$3\r\nb:c\r\n", "a|b:c|"},
		{">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\n\r\n\r\n\r\n", "\r\n\r\n|"},
		{">2\r\n$10\r\ninvalidate\r\n*1\r\n$0\r\n\r\n", "|"},
		{">2\r\n$10\r\ninvalidate\r\n*0\r\n", ""},
		{">2\r\n$10\r\ninvalidate\r\n$1\r\na\r\n", "a|"},
		{">2\r\n+invalidate\r\n*1\r\n+a\r\n", "a|"},
		{">2\r\n$10\r\ninvalidate\r\n_\r\n", "all"},
		{">2\r\n$10\r\ninvalidate\r\n*-1\r\n", "all"},
		{">2\r\n$10\r\ninvalidate\r\n$-1\r\n", "all"},
		{">2\r\n$10\r\ninvalidate\r\n:1\r\n", "all"},
		{">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n:1\r\n", "all"},
		{">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", "all"},
		{">1\r\n$10\r\ninvalidate\r\n", "all"},
		{">2\r\n$11\r\ninvalidated\r\n*1\r\n$1\r\na\r\n", "other"},
		{">2\r\n$21\r\ntracking-redir-broken\r\n:5\r\n", "other"},
		{">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", "other"},
		{">0\r\n", "other"},
		{"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", "a|b|"},
		{"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n", "all"},
		{"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*-1\r\n", "all"},
		{"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\na\r\n", "other"},
		{"*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n", "none"},
		{"*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n", "none"},
		{"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "none"},
		{"*0\r\n", "none"},
		{"+PONG\r\n", "none"},
		{"-ERR invalidate\r\n", "none"},
		{"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n", "none"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		ck_assert_msg(strcmp(read_as(cases[i].reply, strlen(cases[i].reply)), cases[i].read) == 0,
			      "case %zu is read as %s, not %s", i, read_as(cases[i].reply, strlen(cases[i].reply)),
			      cases[i].read);
}
END_TEST

START_TEST(roles)
{
	static const char master[] = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
			  replica[] = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:1\r\n",
			  error[] = "-NOPERM this user has no permissions\r\n", other[] = "*1\r\n$7\r\nmasters\r\n";

	ck_assert(node_look_is_master(master, sizeof(master) - 1));
	ck_assert(!node_look_is_master(replica, sizeof(replica) - 1));
	ck_assert(!node_look_is_master(error, sizeof(error) - 1));
	ck_assert(!node_look_is_master(other, sizeof(other) - 1));
	ck_assert(!node_look_is_master("*0\r\n", 4));
}
END_TEST

static char reply[2048];

/* As RESP2 or RESP3 has it. */
static size_t bulk(const char *text, int proto)
{
	int n = proto == 3 ? snprintf(reply, sizeof(reply), "=%zu\r\ntxt:%s\r\n", strlen(text) + 4, text)
			   : snprintf(reply, sizeof(reply), "$%zu\r\n%s\r\n", strlen(text), text);

	return (size_t)n;
}

#define INFO(state, epoch, mine)                                                                                       \
	"cluster_state:" state "\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:" epoch                      \
	"\r\ncluster_my_epoch:" mine "\r\n"
#define OTHERS "5cc3 127.0.0.1:1@2 slave 1607 0 1795271299855 3 connected\n"
#define MINE   "1607 127.0.0.1:3@4 myself,master - 0 1795271299000 3 connected 0-5460 7000"

static struct cluster_look look_at(const char *info, const char *nodes)
{
	struct cluster_look look[4];

	for (int proto = 2; proto <= 3; proto++) {
		ck_assert(node_look_cluster_info(&look[proto], reply, bulk(info, proto)));
		ck_assert(node_look_cluster_nodes(&look[proto], reply, bulk(nodes, proto)));
	}
	ck_assert(look[2].ok == look[3].ok && look[2].line == look[3].line && look[2].my_epoch == look[3].my_epoch &&
		  look[2].current_epoch == look[3].current_epoch);
	return look[2];
}

START_TEST(cluster)
{
	struct cluster_look look = look_at(INFO("ok", "9", "3"), OTHERS MINE "\n"), other;

	ck_assert(look.ok);
	ck_assert_uint_eq(look.current_epoch, 9);
	ck_assert_uint_eq(look.my_epoch, 3);
	ck_assert(!look_at(INFO("fail", "9", "3"), OTHERS MINE "\n").ok);
	ck_assert(!look_at(INFO("ok", "9", "3"), "1607 a:1@2 myself,slave 5cc3 0 1 3 connected\n").ok);
	/* The time, its address and the others change by themselves. */
	other = look_at(INFO("ok", "9", "3"), "1607 h:9@1 myself,master - 5 99 3 connected 0-5460 7000\n" OTHERS
					      "77 a:1@2 master - 0 0 1 connected\n");
	ck_assert_uint_eq(look.line, other.line);
	/* Its slots, where they go to and its epoch don't. */
	ck_assert_uint_ne(look.line, look_at(INFO("ok", "9", "3"), OTHERS MINE " [7000->-5cc3]\n").line);
	ck_assert_uint_ne(look.line, look_at(INFO("ok", "9", "3"), OTHERS MINE " 7002\n").line);
	ck_assert_uint_ne(
		look.line,
		look_at(INFO("ok", "9", "3"), "1607 a:1@2 myself,master - 0 1 4 connected 0-5460 7000\n").line);
	ck_assert_uint_ne(look.line,
			  look_at(INFO("ok", "9", "3"), "1607 a:1@2 myself,slave 5cc3 0 1 3 connected\n").line);
}
END_TEST

START_TEST(looks_get_rarer)
{
	static const struct {
		const char *size;
		unsigned beats;
	} cases[] = {{"0", 1}, {"1", 1}, {"16", 1}, {"17", 2}, {"32", 2}, {"48", 3}, {"64", 4}, {"1000", 4}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct cluster_look look;
		char text[64];

		snprintf(text, sizeof(text), "cluster_state:ok\r\ncluster_size:%s\r\n", cases[i].size);
		ck_assert(node_look_cluster_info(&look, reply, bulk(text, 2)));
		ck_assert_uint_eq(node_look_beats(&look), cases[i].beats);
	}
}
END_TEST

START_TEST(nonsense)
{
	struct cluster_look look = {.ok = true};

	ck_assert(!node_look_cluster_info(&look, "-ERR x\r\n", 8));
	ck_assert(!node_look_cluster_nodes(&look, "-ERR x\r\n", 8));
	ck_assert(!node_look_cluster_nodes(&look, reply, bulk(OTHERS, 2)));
	ck_assert(!node_look_cluster_nodes(&look, reply, bulk("", 2)));
	ck_assert(!node_look_cluster_nodes(&look, reply, bulk("\n\n", 3)));
	ck_assert(node_look_cluster_nodes(&look, reply, bulk("a b myself", 2)));
	ck_assert(!look.ok);
	ck_assert(node_look_cluster_info(&look, reply, bulk("", 2)));
	ck_assert(!look.ok);
	ck_assert(node_look_cluster_info(&look, reply, bulk("cluster_state:okay\ncluster_my_epoch:-1", 2)));
	ck_assert(!look.ok);
	ck_assert_uint_eq(look.my_epoch, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("invalidation");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(t, messages);
	tcase_add_test(t, roles);
	tcase_add_test(t, cluster);
	tcase_add_test(t, looks_get_rarer);
	tcase_add_test(t, nonsense);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
