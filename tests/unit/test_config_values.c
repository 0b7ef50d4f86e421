/* SPDX-License-Identifier: BSD-2-Clause */
/* The values of a configuration: every type of option, good and bad; listen addresses; URLs. */
#include "base/mem.h"
#include "config/address.h"
#include "config/url.h"
#include "config/value.h"
#include "config_help.h"

/* ---- the types ---- */

START_TEST(durations)
{
	static const struct {
		const char *text;
		int64_t us;
	} right[] = {
		{"0", 0},
		{"0s", 0},
		{"1us", 1},
		{"250ms", 250000},
		{"5s", 5000000},
		{"1m", 60000000},
		{"1h", INT64_C(3600000000)},
		{"1d", INT64_C(86400000000)},
		{"1.5s", 1500000},
		{"0.001ms", 1},
		{"0.25h", 900000000},
		{"1.50000000s", 1500000},
		{"106751991d", INT64_C(106751991) * 86400000000},
	};
	static const char *const wrong[] = {
		"",
		"s",
		"5",
		"-1s",
		"5 s",
		"5S",
		"5sec",
		"1.s",
		".5s",
		"1h30m",
		"0.0001ms",
		"1.5us",
		"0.0000001d",
		"5s\n",
		"9223372036854775808us",
		"106751992d",
		"99999999999999999999999s",
		"+5s",
		"0x10s",
	};
	int64_t us;

	for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++) {
		const char *why = value_duration(right[i].text, &us);

		ck_assert_msg(!why, "%s: %s", right[i].text, why);
		ck_assert_int_eq(us, right[i].us);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ck_assert_msg(value_duration(wrong[i], &us) != NULL, "'%s' was taken", wrong[i]);
}
END_TEST

START_TEST(seconds)
{
	int64_t us;

	ck_assert_ptr_null(value_seconds(0.1, &us));
	ck_assert_int_eq(us, 100000);
	ck_assert_ptr_null(value_seconds(86400.000001, &us));
	ck_assert_int_eq(us, INT64_C(86400000001));
	ck_assert_ptr_null(value_seconds(-2.5, &us));
	ck_assert_int_eq(us, -2500000);
	ck_assert_ptr_nonnull(value_seconds(0.0000001, &us));
	ck_assert_ptr_nonnull(value_seconds(1e300, &us));
	ck_assert_ptr_nonnull(value_seconds(9.3e12, &us));
	ck_assert_ptr_nonnull(value_seconds(__builtin_inf(), &us));
	ck_assert_ptr_nonnull(value_seconds(__builtin_nan(""), &us));
}
END_TEST

START_TEST(sizes)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} right[] = {
		{"0", 0},
		{"4096", 4096},
		{"10b", 10},
		{"10k", 10000},
		{"10kb", 10240},
		{"64KB", 65536},
		{"1m", 1000000},
		{"512mb", INT64_C(512) << 20},
		{"1g", 1000000000},
		{"1Gb", 1 << 30},
		{"9223372036854775807", INT64_MAX},
	};
	static const char *const wrong[] = {
		"", "k", "-1", "1.5gb", "1 kb", "1tb", "1kib", "9223372036854775808", "9007199254740992kb", "1kb ",
	};
	int64_t bytes;

	for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++) {
		ck_assert_ptr_null(value_size(right[i].text, &bytes));
		ck_assert_int_eq(bytes, right[i].bytes);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ck_assert_msg(value_size(wrong[i], &bytes) != NULL, "'%s' was taken", wrong[i]);
}
END_TEST

START_TEST(formats)
{
	static const int64_t numbers[] = {1,	      999,	   1000,    1500,    60000000,	    90000000,
					  3600000000, 86400000000, 1 << 10, 3 << 20, (1 << 20) + 1, INT64_MAX};
	char text[VALUE_TEXT_MAX];
	int64_t back;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		value_format_duration(numbers[i], text);
		ck_assert_ptr_null(value_duration(text, &back));
		ck_assert_int_eq(back, numbers[i]);
		value_format_size(numbers[i], text);
		ck_assert_ptr_null(value_size(text, &back));
		ck_assert_int_eq(back, numbers[i]);
	}
	value_format_duration(90000000, text);
	ck_assert_str_eq(text, "90s");
	value_format_size(3 << 20, text);
	ck_assert_str_eq(text, "3mb");
}
END_TEST

START_TEST(duration_options)
{
	good("[server]\nclient_timeout = 0.25\nshutdown_grace = 7\ntcp_keepalive = 0\n[log]\nslow = \"1us\"\n");
	ck_assert_int_eq(config->server.client_timeout_ms, 250);
	ck_assert_int_eq(config->server.shutdown_grace_ms, 7000);
	ck_assert_int_eq(config->server.tcp_keepalive_ms, 0);
	ck_assert_int_eq(config->log.slow_us, 1);
	good("[log]\nslow = 0\n");
	ck_assert_int_eq(config->log.slow_us, 0);
	good("[log]\nslow = -1\n");
	ck_assert_int_eq(config->log.slow_us, -1);
	good("[log]\nslow = \"-1\"\n");
	ck_assert_int_eq(config->log.slow_us, -1);
	good("[log]\nslow = -1.0\n");
	ck_assert_int_eq(config->log.slow_us, -1);
	bad_value("log", "slow = -2", 8, "must be from 0 to 1h, or -1 for never");
	bad_value("log", "slow = \"2h\"", 8, "must be from 0 to 1h, or -1 for never");
	bad_value("server", "client_timeout = -1", 18, "server.client_timeout must be from 0 to 365d");
	bad_value("server", "client_timeout = 9223372036854775807", 18, "must be from 0 to 365d");
	bad_value("server", "client_timeout = 1e30", 18, "is too large a number");
	bad_value("server", "client_timeout = nan", 18, "must be a duration");
	bad_value("server", "client_timeout = \"500us\"", 18, "must be a whole number of milliseconds");
	bad_value("server", "client_timeout = \"5\"", 18, "needs a unit");
	bad_value("server", "client_timeout = \"soon\"", 18, "not \"soon\"");
	bad_value("server", "client_timeout = true", 18,
		  "must be a duration (\"250ms\", \"5s\", or a number of seconds), not true or false");
	bad_value("server", "client_timeout = 07:32:00", 18, "not a date or time");
	bad_value("server", "tcp_keepalive = \"1500ms\"", 17, "must be a whole number of seconds");
	bad_value("upstream.main", "connect_timeout = 0", 19, "must be from 1ms to 10m");
}
END_TEST

START_TEST(number_options)
{
	good("[server]\nworkers = 1_6\nbacklog = 0x10\nmax_value_size = 4096\nclient_output_limit = \"100K\"\n");
	ck_assert_int_eq(config->server.workers, 16);
	ck_assert_int_eq(config->server.backlog, 16);
	ck_assert_int_eq(config->server.max_value_bytes, 4096);
	ck_assert_int_eq(config->server.client_output_limit_bytes, 100000);
	bad_value("server", "workers = -1", 11, "server.workers must be from 0 to 256");
	bad_value("server", "workers = 257", 11, "must be from 0 to 256");
	bad_value("server", "workers = 1.0", 11, "must be a whole number, not a number");
	bad_value("server", "workers = \"4\"", 11, "must be a whole number, not a string");
	bad_value("server", "workers = [4]", 11, "must be a whole number, not a list");
	bad_value("server", "workers = {}", 11, "must be a whole number, not a table");
	bad_value("server", "max_value_size = 1.5", 18, "must be a size");
	bad_value("server", "max_value_size = -5", 18, "must be from 1kb to 64gb");
	bad_value("server", "max_value_size = \"65gb\"", 18, "must be from 1kb to 64gb");
	bad_value("server", "max_value_size = \"9999999999999gb\"", 18, "is too large a number: \"9999999999999gb\"");
	bad_value("server", "max_value_size = \"big\"", 18, "must be a size");
}
END_TEST

START_TEST(word_options)
{
	good("[log]\nlevel = \"error\"\nformat = \"json\"\n");
	ck_assert_int_eq(config->log.level, LOG_LEVEL_ERROR);
	ck_assert_int_eq(config->log.format, LOG_FORMAT_JSON);
	bad_value("log", "level = \"Info\"", 9, "log.level must be one of debug info warn error, not \"Info\"");
	bad_value("log", "level = \"\"", 9, "must be one of");
	bad_value("log", "level = \"debug|info\"", 9, "must be one of");
	bad_value("log", "format = 1", 10, "log.format must be a string, not a number");
	bad_value("upstream.main", "mode = \"sharded\"", 8,
		  "must be one of standalone sentinel cluster, not \"sharded\"");
}
END_TEST

START_TEST(bool_options)
{
	static const char *const sets[] = {"server.cluster_emulation=yes"};
	static const struct config_source source = {.set = sets, .n_set = 1};

	good("[server]\ncluster_emulation = true\n[upstream.main]\nmirror_compare = false\n");
	ck_assert(config->server.cluster_emulation);
	ck_assert(!config->upstreams[0].mirror_compare);
	bad_value("server", "cluster_emulation = 1", 21, "must be true or false, not a number");
	bad_value("server", "cluster_emulation = \"true\"", 21, "must be true or false, not a string");
	load_source(&source, NULL);
	expect_said("--set: server.cluster_emulation must be true or false, not \"yes\"\n");
}
END_TEST

START_TEST(list_options)
{
	good("[namespace.a]\nmatch = \"x:\"\n[namespace.b]\nmatch = [\"y:\", \"z:\"]\n");
	ck_assert_uint_eq(config->namespaces[0].match.n, 1);
	ck_assert_str_eq(config->namespaces[0].match.items[0], "x:");
	ck_assert_uint_eq(config->namespaces[1].match.n, 2);
	ck_assert_str_eq(config->namespaces[1].match.items[1], "z:");
	bad_value("namespace.a", "match = 1", 9,
		  "namespace.a.match must be a string or a list of strings, not a number");
	bad_value("namespace.a", "match = [\"x\", 1]", 15, "must have strings in its list, not a number");
	bad_value("namespace.a", "match = \"\"", 9, "must not be empty, nor have an empty string in its list");
	bad_value("namespace.a", "match = [\"x\", \"\"]", 15, "an empty string in its list");
	bad_value("upstream.main", "nodes = \"h:1\"", 9, "must be a list of strings, not a string");
}
END_TEST

START_TEST(node_addresses)
{
	static const char *const right[] = {"h", "h:1", "a-b._c.example:65535", "10.0.0.1", "[::1]:6379", "[fe80::2]"};
	static const char *const wrong[] = {"",	     ":1",  "h:",    "h:0",	 "h:65536",	"h:x",	       "::1",
					    "[::1",  "[]",  "[h]",   "[::1]x",	 "h:1:2",	"a b",	       "a/b",
					    "u@h:1", "[:1", "h,i:1", "[::1]1:2", "redis://h:1", "unix:/path/x"};

	for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++)
		ck_assert_msg(node_address_fits(right[i]), "%s", right[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ck_assert_msg(!node_address_fits(wrong[i]), "%s", wrong[i]);
	ck_assert(node_address_has_port("h:1"));
	ck_assert(node_address_has_port("[::1]:1"));
	ck_assert(!node_address_has_port("[::1]"));
	ck_assert(!node_address_has_port("h"));
}
END_TEST

START_TEST(string_options)
{
	good("[log]\nfile = '/var/log/\xc3\xa4.log'\n");
	ck_assert_str_eq(config->log.file, "/var/log/\xc3\xa4.log");
	bad_value("log", "file = \"a\\u0000b\"", 8, "must not have a NUL character in it");
	bad_value("log", "file = [\"a\"]", 8, "must be a string, not a list");
	bad_value("log", "\"fi\\u0000le\" = \"x\"", 1, "unknown key fi in [log]");
}
END_TEST

/* ---- listen ---- */

START_TEST(listen_right)
{
	good("[server]\nlisten = [\"127.0.0.1:1\", \"127.9.9.9:1\", \"localhost:2\", \"[::1]:1\", \"unix:/a/b\", "
	     "\"[::ffff:127.0.0.1]:9\", \"127.0.0.1:65535\"]\n");
	ck_assert_uint_eq(config->server.listen.n, 7);
	ck_assert_str_eq(config->server.listen.items[4], "unix:/a/b");
}
END_TEST

START_TEST(listen_wrong)
{
	static const struct {
		const char *item, *part;
	} wrong[] = {
		{"", "is not an address"},
		{"here", "is not an address"},
		{"example.com:6380", "is not an address"},
		{":6380", "is not an address"},
		{"127.0.0.1", "must have a port"},
		{"127.0.0.1:0", "must end in a port"},
		{"127.0.0.1:65536", "must end in a port"},
		{"127.0.0.1:+1", "must end in a port"},
		{"127.0.0.1:", "must end in a port"},
		{"127.0.0.1:99999999999999999999", "must end in a port"},
		{"127.0.1:1", "is not an address"},
		{"[127.0.0.1]:1", "is not an address"},
		{"::1:6380", "must have its IPv6 address in brackets"},
		{"[::1", "is not an address"},
		{"[::1]", "must end in a port"},
		{"[]:1", "is not an address"},
		{"[::1%lo]:1", "is not an address"},
		{"0.0.0.0:1", "without any [user.NAME] Keyweir listens on loopback addresses and Unix sockets only"},
		{"[::]:1", "without any [user.NAME]"},
		{"10.0.0.1:1", "without any [user.NAME]"},
		{"[::ffff:10.0.0.1]:1", "without any [user.NAME]"},
		{"tls:127.0.0.1:1", "needs cert and key in [server.tls]"},
		{"tls:127.0.0.1", "must have a port"},
		{"tls:0.0.0.0:1", "without any [user.NAME]"},
		{"tls:127.0.0.1:7", "stands twice in the list"},
		{"tls:unix:/a", "TLS is for TCP"},
		{"tls:", "is not an address"},
		{"unix:a", "must have an absolute path"},
		{"unix:", "must have an absolute path"},
		{"unix:/", "must have the path of a socket"},
		{"/run/k.sock", "is a path; a Unix socket is written"},
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		char *line = xasprintf("listen = [\"127.0.0.1:7\", \"%s\"]", wrong[i].item);

		bad_value("server", line, 26, wrong[i].part);
		free(line);
	}
	bad_value("server", "listen = [\"127.0.0.1:7\", 7]", 26, "must have strings in its list, not a number");
	bad_value("server", "listen = \"127.0.0.1:7\"", 10, "must be a list of strings, not a string");
	bad_value("server", "listen = []", 10, "must have at least one address");
}
END_TEST

START_TEST(listen_path_length)
{
	char line[200] = "unix:/";
	struct listen_address a;

	memset(line + 6, 'x', 106);
	ck_assert_ptr_null(listen_address_parse(line, &a));
	line[112] = 'x';
	ck_assert_ptr_nonnull(listen_address_parse(line, &a));
}
END_TEST

START_TEST(listen_twice)
{
	bad_value("server", "listen = [\"127.0.0.1:7\", \"localhost:7\"]", 26, "stands twice in the list");
	bad_value("server", "listen = [\"[::1]:7\", \"[0:0::1]:7\"]", 22, "stands twice in the list");
	bad_value("server", "listen = [\"unix:/a\", \"unix:/a\"]", 22, "stands twice in the list");
	good("[server]\nlisten = [\"127.0.0.1:7\", \"127.0.0.1:8\", \"[::1]:7\", \"unix:/a\", \"unix:/b\"]\n");
}
END_TEST

START_TEST(listen_where_redis_is)
{
	bad_value("server", "listen = [\"127.0.0.1:6379\"]", 11, "Keyweir would talk to itself");
	bad("[server]\nlisten = [\"[::1]:7\"]\n[upstream.main]\nurl = \"redis://[::1]:7\"\n",
	    "t.toml:2:11: server.listen: \"[::1]:7\" is also the url of [upstream.main]: "
	    "Keyweir would talk to itself\n");
	bad("[server]\nlisten = [\"unix:/r\"]\n[upstream.main]\nurl = \"unix:///r\"\n",
	    "t.toml:2:11: server.listen: \"unix:/r\" is also the url of [upstream.main]: "
	    "Keyweir would talk to itself\n");
	bad("[server]\nlisten = [\"127.0.0.1:7\"]\n[upstream.cache]\nurl = \"redis://localhost:7\"\n",
	    "t.toml:2:11: server.listen: \"127.0.0.1:7\" is also the url of [upstream.cache]: "
	    "Keyweir would talk to itself\n");
	bad("[upstream.main]\nurl = \"redis://localhost:6380\"\n",
	    "t.toml:2:7: server.listen: \"127.0.0.1:6380\" is also the url of [upstream.main]: "
	    "Keyweir would talk to itself\n");
}
END_TEST

START_TEST(utf8)
{
	ck_assert(text_is_utf8("", 0));
	ck_assert(text_is_utf8("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10));
	ck_assert(!text_is_utf8("\xc3", 1));
	ck_assert(!text_is_utf8("\xc0\x80", 2));
	ck_assert(!text_is_utf8("\xe0\x80\x80", 3));
	ck_assert(!text_is_utf8("\xed\xa0\x80", 3));
	ck_assert(!text_is_utf8("\xf4\x90\x80\x80", 4));
	ck_assert(!text_is_utf8("\xf0\x9f\x98", 3));
	ck_assert(!text_is_utf8("\x80", 1));
}
END_TEST

/* ---- URLs ---- */

static const struct {
	const char *url, *username, *password, *host;
	int port, db;
	bool unix_socket;
	const char *masked;
	bool tls;
} right_urls[] = {
	{"redis://localhost:6379/0", NULL, NULL, "localhost", 6379, 0, false, "redis://localhost:6379/0"},
	{"redis://h", NULL, NULL, "h", 6379, 0, false, "redis://h:6379/0"},
	{"redis://h/", NULL, NULL, "h", 6379, 0, false, "redis://h:6379/0"},
	{"REDIS://h:1/15", NULL, NULL, "h", 1, 15, false, "redis://h:1/15"},
	{"valkey://h", NULL, NULL, "h", 6379, 0, false, "redis://h:6379/0"},
	{"redis://", NULL, NULL, "localhost", 6379, 0, false, "redis://localhost:6379/0"},
	{"redis:///3", NULL, NULL, "localhost", 6379, 3, false, "redis://localhost:6379/3"},
	{"redis://h:?db=4", NULL, NULL, "h", 6379, 4, false, "redis://h:6379/4"},
	{"redis://h/?db=4", NULL, NULL, "h", 6379, 4, false, "redis://h:6379/4"},
	{"redis://h/2147483647", NULL, NULL, "h", 6379, 2147483647, false, "redis://h:6379/2147483647"},
	{"redis://:pw@h", NULL, "pw", "h", 6379, 0, false, "redis://:***@h:6379/0"},
	{"redis://:@h", NULL, NULL, "h", 6379, 0, false, "redis://h:6379/0"},
	{"redis://u:p%40%3a%2F%25@h", "u", "p@:/%", "h", 6379, 0, false, "redis://u:***@h:6379/0"},
	{"redis://u%40x:p:q@z@h:1", "u@x", "p:q@z", "h", 1, 0, false, "redis://u%40x:***@h:1/0"},
	{"redis://u@h", "u", NULL, "h", 6379, 0, false, "redis://u@h:6379/0"},
	{"redis://[::1]:7/1", NULL, NULL, "::1", 7, 1, false, "redis://[::1]:7/1"},
	{"redis://u:p@[fe80::2]", "u", "p", "fe80::2", 6379, 0, false, "redis://u:***@[fe80::2]:6379/0"},
	{"rediss://u:p@h/2", "u", "p", "h", 6379, 2, false, "rediss://u:***@h:6379/2", true},
	{"valkeys://[::1]:7", NULL, NULL, "::1", 7, 0, false, "rediss://[::1]:7/0", true},
	{"Rediss://", NULL, NULL, "localhost", 6379, 0, false, "rediss://localhost:6379/0", true},
	{"unix:///run/r.sock", NULL, NULL, "/run/r.sock", 0, 0, true, "unix:///run/r.sock?db=0"},
	{"unix:/run/r.sock?db=1", NULL, NULL, "/run/r.sock", 0, 1, true, "unix:///run/r.sock?db=1"},
	{"unix:///a%20b%3Fc?db=2", NULL, NULL, "/a b?c", 0, 2, true, "unix:///a%20b%3Fc?db=2"},
	{"unix://u:p@/r?db=2", "u", "p", "/r", 0, 2, true, "unix://u:***@/r?db=2"},
};

static void expect_string(const char *url, const char *what, const char *wanted)
{
	ck_assert_msg((what == NULL) == (wanted == NULL) && (!what || strcmp(what, wanted) == 0), "%s: %s, not %s", url,
		      what ? what : "NULL", wanted ? wanted : "NULL");
}

START_TEST(urls_right)
{
	const char *url = right_urls[_i].url;
	struct upstream_url t, again;
	const char *why = upstream_url_parse(url, &t);
	char *masked;

	ck_assert_msg(!why, "%s: %s", url, why);
	expect_string(url, t.username, right_urls[_i].username);
	expect_string(url, t.password, right_urls[_i].password);
	expect_string(url, t.host, right_urls[_i].host);
	ck_assert_int_eq(t.port, right_urls[_i].port);
	ck_assert_int_eq(t.db, right_urls[_i].db);
	ck_assert_int_eq(t.unix_socket, right_urls[_i].unix_socket);
	ck_assert_int_eq(t.tls, right_urls[_i].tls);
	masked = upstream_url_mask(&t);
	ck_assert_str_eq(masked, right_urls[_i].masked);
	/* But for the password the masked form is the same place. */
	ck_assert_ptr_null(upstream_url_parse(masked, &again));
	expect_string(url, again.host, t.host);
	expect_string(url, again.username, t.username);
	ck_assert_int_eq(again.db, t.db);
	ck_assert_int_eq(again.tls, t.tls);
	free(masked);
	upstream_url_fini(&t);
	upstream_url_fini(&again);
}
END_TEST

static const struct {
	const char *url, *part;
} wrong_urls[] = {
	{"", "must begin with"},
	{"localhost:6379", "must begin with"},
	{"redis:/h", "must begin with"},
	{"http://h", "must begin with"},
	{"rediss:/h", "must begin with"},
	{"tls://h", "must begin with"},
	{"redis://h:0", "port"},
	{"redis://h:65536", "port"},
	{"redis://h:x", "port"},
	{"redis://h:99999999999999999999", "port"},
	{"redis://::1:6379", "port"},
	{"redis://:p/w@h", "port"},
	{"redis://h/x", "database"},
	{"redis://h/-1", "database"},
	{"redis://h/2147483648", "database"},
	{"redis://h/99999999999999999999", "database"},
	{"redis://h/1/2", "database"},
	{"redis://h/1?db=2", "database twice"},
	{"redis://h?db=", "database"},
	{"redis://h?timeout=1", "?db=N"},
	{"redis://h?", "?db=N"},
	{"redis://h#x", "#"},
	{"redis://a b", "space"},
	{"redis://h\n", "control character"},
	{"redis://h,i", "host name"},
	{"redis://h%41", "host name"},
	{"redis://[::1", "[ without ]"},
	{"redis://[::1]x", "between the ]"},
	{"redis://[]", "host name"},
	{"redis://[h]", "host name"},
	{"redis://:p%@h", "hexadecimal"},
	{"redis://:p%4@h", "hexadecimal"},
	{"redis://:%zz@h", "hexadecimal"},
	{"redis://:p%00@h", "%00"},
	{"unix://run/r.sock", "three slashes"},
	{"unix://", "path"},
	{"unix:///", "path"},
	{"unix:///r?db=x", "database"},
	{"unix:r", "must begin with"},
	{"unix:///aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	 "too long"},
};

START_TEST(urls_wrong)
{
	struct upstream_url t;
	const char *why = upstream_url_parse(wrong_urls[_i].url, &t);

	ck_assert_msg(why != NULL, "%s was taken", wrong_urls[_i].url);
	ck_assert_msg(strstr(why, wrong_urls[_i].part), "%s: %s", wrong_urls[_i].url, why);
	ck_assert_ptr_null(t.host);
	ck_assert_ptr_null(t.password);
}
END_TEST

START_TEST(url_without_password)
{
	bad_value("upstream.main", "url = \"redis://u@h\"", 7, "upstream.main.url has a user and no password");
}
END_TEST

START_TEST(no_secret_in_messages)
{
	static const char *const urls[] = {
		"http://:topsecret@h", "redis://:topsecret/x@h", "redis://:topsecret%@h",    "redis://:topsecret@h:bad",
		"topsecret",	       "tls://:topsecret@h",	 "redis://:topsecret@h/bad",
	};

	for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++) {
		char *text = xasprintf("[upstream.main]\nurl = \"%s\"\npassword_fil = \"topsecret\"\n", urls[i]);
		char *said;

		load(text);
		ck_assert_uint_eq(problems.n, 2);
		said = printed_problems();
		ck_assert_msg(strstr(said, "topsecret") == NULL, "%s", said);
		free(said);
		free(text);
	}
}
END_TEST

static TCase *values_case(void)
{
	TCase *c = tcase_create("values");

	tcase_add_test(c, durations);
	tcase_add_test(c, seconds);
	tcase_add_test(c, sizes);
	tcase_add_test(c, formats);
	tcase_add_test(c, duration_options);
	tcase_add_test(c, number_options);
	tcase_add_test(c, word_options);
	tcase_add_test(c, bool_options);
	tcase_add_test(c, list_options);
	tcase_add_test(c, node_addresses);
	tcase_add_test(c, string_options);
	tcase_add_test(c, utf8);
	tcase_add_test(c, listen_right);
	tcase_add_test(c, listen_wrong);
	tcase_add_test(c, listen_path_length);
	tcase_add_test(c, listen_twice);
	tcase_add_test(c, listen_where_redis_is);
	return c;
}

static TCase *url_case(void)
{
	TCase *c = tcase_create("url");

	tcase_add_loop_test(c, urls_right, 0, COUNT(right_urls));
	tcase_add_loop_test(c, urls_wrong, 0, COUNT(wrong_urls));
	tcase_add_test(c, url_without_password);
	tcase_add_test(c, no_secret_in_messages);
	return c;
}

int main(void)
{
	TCase *cases[] = {values_case(), url_case()};

	return run_cases("config values", cases, COUNT(cases));
}
