/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration as a whole: its sources and their order, where mistakes are said to be, rules between options,
 * the dump. Single values and URLs are in test_config_values.c.
 */
#include <errno.h>
#include <unistd.h>

#include "base/mem.h"
#include "config_help.h"

/* ---- defaults and sources ---- */

START_TEST(defaults)
{
	static const struct config_source none = {0};
	const struct upstream_config *u;

	load_source(&none, NULL);
	ck_assert_ptr_nonnull(config);
	ck_assert_uint_eq(config->server.listen.n, 1);
	ck_assert_str_eq(config->server.listen.items[0], "127.0.0.1:6380");
	ck_assert_int_eq(config->server.workers, 0);
	ck_assert_int_eq(config->server.max_clients, 10000);
	ck_assert_int_eq(config->server.backlog, 511);
	ck_assert_int_eq(config->server.tcp_keepalive_ms, 300000);
	ck_assert_int_eq(config->server.client_timeout_ms, 0);
	ck_assert_int_eq(config->server.max_value_bytes, INT64_C(512) << 20);
	ck_assert_int_eq(config->server.client_output_limit_bytes, 64 << 20);
	ck_assert_int_eq(config->server.shutdown_grace_ms, 30000);
	ck_assert_uint_eq(config->n_upstreams, 1);
	u = &config->upstreams[0];
	ck_assert_str_eq(u->name, "main");
	ck_assert_str_eq(u->url, "redis://127.0.0.1:6379/0");
	ck_assert_str_eq(u->url_masked, "redis://127.0.0.1:6379/0");
	ck_assert_str_eq(u->target.host, "127.0.0.1");
	ck_assert_int_eq(u->target.port, 6379);
	ck_assert_int_eq(u->mode, UPSTREAM_STANDALONE);
	ck_assert_int_eq(u->pool_size, 20);
	ck_assert_int_eq(u->min_idle, 0);
	ck_assert_int_eq(u->pool_timeout_ms, 5000);
	ck_assert_int_eq(u->connect_timeout_ms, 2000);
	ck_assert_int_eq(u->read_timeout_ms, 1000);
	ck_assert_int_eq(u->write_timeout_ms, 1000);
	ck_assert_int_eq(u->reconnect_delay_ms, 100);
	ck_assert_int_eq(u->reconnect_delay_max_ms, 1000);
	ck_assert_int_eq(u->max_retries, 3);
	ck_assert_int_eq(u->health_check_ms, 5000);
	ck_assert_str_eq(u->password_file, "");
	ck_assert_int_eq(config->log.level, LOG_LEVEL_INFO);
	ck_assert_int_eq(config->log.format, LOG_FORMAT_TEXT);
	ck_assert_str_eq(config->log.file, "");
	ck_assert_int_eq(config->log.slow_us, 10000);
}
END_TEST

START_TEST(url_precedence)
{
	const char *const sets[] = {"upstream.main.url=redis://set"};
	struct config_source source = {.file = FILE_NAME};
	const char *file = "[upstream.main]\nurl = \"redis://file\"\n";

	setenv("REDIS_URL", "redis://env", 1);
	load_source(&source, "");
	ck_assert_str_eq(config->upstreams[0].target.host, "env");
	load_source(&source, file);
	ck_assert_str_eq(config->upstreams[0].target.host, "file");
	source.set = sets;
	source.n_set = 1;
	load_source(&source, file);
	ck_assert_str_eq(config->upstreams[0].target.host, "set");
	source.url = "redis://option";
	load_source(&source, file);
	ck_assert_str_eq(config->upstreams[0].target.host, "option");
}
END_TEST

START_TEST(redis_url_in_environment)
{
	setenv("REDIS_URL", "", 1);
	good("");
	ck_assert_str_eq(config->upstreams[0].url_masked, "redis://127.0.0.1:6379/0");
	setenv("REDIS_URL", "http://:secret@x", 1);
	bad("", "$REDIS_URL: upstream.main.url must begin with redis://, rediss:// or unix://\n");
	good("[upstream.main]\nurl = \"redis://h\"\n"); /* not used, so not wrong */
	setenv("REDIS_URL", "redis://user@x", 1);
	bad("", "$REDIS_URL: upstream.main.url has a user and no password (a password alone is written "
		"redis://:password@host, and password_file names a file that has it)\n");
}
END_TEST

START_TEST(command_line)
{
	const char *const listen[] = {"[::1]:7000", "unix:/run/k.sock"};
	const char *const not_listen[] = {"[::1]:7000", "here", "0.0.0.0:7000"};
	struct config_source source = {
		.file = FILE_NAME, .listen = listen, .n_listen = 2, .url = "unix:///r.sock?db=3", .log_level = "debug"};

	load_source(&source, "[server]\nlisten = [\"127.0.0.1:1\"]\n[log]\nlevel = \"error\"\n");
	ck_assert_ptr_nonnull(config);
	ck_assert_uint_eq(config->server.listen.n, 2);
	ck_assert_str_eq(config->server.listen.items[0], "[::1]:7000");
	ck_assert_str_eq(config->server.listen.items[1], "unix:/run/k.sock");
	ck_assert_int_eq(config->log.level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(config->upstreams[0].target.db, 3);

	/* A mistake in the file is said, though the command line replaces the value. */
	load_source(&source, "[server]\nlisten = [\"127.0.0.1\"]\n");
	expect_said("t.toml:2:11: server.listen: \"127.0.0.1\" must have a port: \"127.0.0.1:6380\"\n");

	source = (struct config_source){.listen = not_listen, .n_listen = 3, .url = "redis:/x"};
	load_source(&source, NULL);
	expect_said("-l: server.listen: \"0.0.0.0:7000\" is refused: without any [user.NAME] Keyweir listens on "
		    "loopback addresses and Unix sockets only\n"
		    "-l: server.listen: \"here\" is not an address to listen on: \"127.0.0.1:6380\", \"[::1]:6380\", "
		    "\"localhost:6380\", \"unix:/path\" or \"tls:127.0.0.1:6381\"\n"
		    "-u: upstream.main.url must begin with redis://, rediss:// or unix://\n");
}
END_TEST

static void load_sets(const char *const *sets, size_t n)
{
	struct config_source source = {.set = sets, .n_set = n};

	load_source(&source, NULL);
}

START_TEST(set_values)
{
	const char *const sets[] = {
		"server.workers=2",
		"server.client_timeout=5",
		"server.tcp_keepalive = 1m",
		"server.shutdown_grace=\"2s\"",
		"server.max_value_size=1mb",
		"server.listen=[\"127.0.0.1:1\", \"127.0.0.1:2\"]",
		"log.level=warn",
		"log.slow=-1",
		"log.file=1979-05-27",
		"upstream.main.url=redis://:p=w@h/2",
		"upstream.main.pool_timeout=0.5",
	};
	const char *const bare_list[] = {"server.listen=unix:/a b", "log.file=", "log.file=a # b"};

	load_sets(sets, sizeof(sets) / sizeof(*sets));
	ck_assert_ptr_nonnull(config);
	ck_assert_int_eq(config->server.workers, 2);
	ck_assert_int_eq(config->server.client_timeout_ms, 5000);
	ck_assert_int_eq(config->server.tcp_keepalive_ms, 60000);
	ck_assert_int_eq(config->server.shutdown_grace_ms, 2000);
	ck_assert_int_eq(config->server.max_value_bytes, 1 << 20);
	ck_assert_uint_eq(config->server.listen.n, 2);
	ck_assert_str_eq(config->server.listen.items[1], "127.0.0.1:2");
	ck_assert_int_eq(config->log.level, LOG_LEVEL_WARN);
	ck_assert_int_eq(config->log.slow_us, -1);
	ck_assert_str_eq(config->log.file, "1979-05-27");
	ck_assert_str_eq(config->upstreams[0].target.password, "p=w");
	ck_assert_int_eq(config->upstreams[0].target.db, 2);
	ck_assert_int_eq(config->upstreams[0].pool_timeout_ms, 500);
	load_sets(bare_list, 3);
	ck_assert_ptr_nonnull(config);
	ck_assert_str_eq(config->server.listen.items[0], "unix:/a b");
	ck_assert_str_eq(config->log.file, "a # b");
}
END_TEST

START_TEST(set_mistakes)
{
	const char *const sets[] = {
		"server.wrokers=2",
		"server.workers=1\n",
		"workers=1",
		"upstream.second.ulr=redis://x",
		"upstream.sec:ret.url=redis://x",
		"upstream..url=redis://x",
		"server.tls=1",
		"server.workers",
		"server.workers=two",
		"log.slow=true",
		"redis://:secret@host",
		"upstream.main.url=http://:secret@x",
	};

	load_sets(sets, sizeof(sets) / sizeof(*sets));
	expect_said("--set: log.slow must be a duration (\"250ms\", \"5s\", or a number of seconds), "
		    "not true or false\n"
		    "--set: redis has no value: TABLE.KEY=VALUE\n"
		    "--set: server.workers has no value: TABLE.KEY=VALUE\n"
		    "--set: server.workers must be a whole number without quotes, not \"1?\"\n"
		    "--set: server.workers must be a whole number without quotes, not \"two\"\n"
		    "--set: unknown option server.tls, did you mean server.tls.ca?\n"
		    "--set: unknown option server.wrokers, did you mean server.workers?\n"
		    "--set: unknown option upstream..url\n"
		    "--set: unknown option upstream.sec\n"
		    "--set: unknown option upstream.second.ulr, did you mean upstream.second.url?\n"
		    "--set: unknown option workers\n"
		    "--set: upstream.main.url must begin with redis://, rediss:// or unix://\n");
}
END_TEST

/* ---- rules between options ---- */

START_TEST(rules)
{
	bad_value("upstream.main", "min_idle = 21", 12, "upstream.main.min_idle must not be more than pool_size");
	bad_value("upstream.main", "reconnect_delay = \"2s\"", 19, "must not be more than reconnect_delay_max");
	bad_value("upstream.main", "reconnect_delay_max = \"50ms\"", 23, "must not be more than reconnect_delay_max");
	good("[upstream.main]\nmin_idle = 30\npool_size = 30\nreconnect_delay = 2\nreconnect_delay_max = 2\n");
	/* One mistake is not said twice. */
	bad("[upstream.main]\nreconnect_delay_max = \"x1s\"\nreconnect_delay = 3\n",
	    "t.toml:2:23: upstream.main.reconnect_delay_max must be a duration: \"250ms\", \"5s\", \"1m\", \"1h\", "
	    "\"1d\", or a number of seconds, not \"x1s\"\n");
}
END_TEST

/* ---- the file as a whole ---- */

START_TEST(many_mistakes)
{
	bad("listen = 1\n"
	    "[log]\n"
	    "slow = \"x\"\n"
	    "  level = \"loud\"\n"
	    "[server]\n"
	    "wrokers = 2\n"
	    "max_clients = 0\n"
	    "listen = [\n"
	    "  \"0.0.0.0:1\",\n"
	    "  \"127.0.0.1:1\", \"127.0.0.1:x\",\n"
	    "]\n"
	    "[upstream.main]\n"
	    "url = \"ftps://:secret@h\"\n",
	    "t.toml:1:1: unknown key listen outside of any table, it belongs in [server]\n"
	    "t.toml:3:8: log.slow must be a duration: \"250ms\", \"5s\", \"1m\", \"1h\", \"1d\", or a number of "
	    "seconds, not \"x\"\n"
	    "t.toml:4:11: log.level must be one of debug info warn error, not \"loud\"\n"
	    "t.toml:6:1: unknown key wrokers in [server], did you mean workers?\n"
	    "t.toml:7:15: server.max_clients must be from 1 to 1000000\n"
	    "t.toml:9:3: server.listen: \"0.0.0.0:1\" is refused: without any [user.NAME] Keyweir listens on loopback "
	    "addresses and Unix sockets only\n"
	    "t.toml:10:18: server.listen: \"127.0.0.1:x\" must end in a port from 1 to 65535\n"
	    "t.toml:13:7: upstream.main.url must begin with redis://, rediss:// or unix://\n");
}
END_TEST

START_TEST(syntax)
{
	load("[server]\nworkers = 1\nworkers = 2\n");
	ck_assert_uint_eq(problems.n, 1);
	ck_assert_uint_eq(problems.items[0].line, 3);
	ck_assert_uint_gt(problems.items[0].col, 0);
	load("[server\n");
	ck_assert_uint_eq(problems.n, 1);
	ck_assert_uint_eq(problems.items[0].line, 1);
	load("[log]\nfile = \"\xff\"\n");
	ck_assert_uint_eq(problems.n, 1);
	ck_assert_uint_eq(problems.items[0].line, 2);
	good("\xef\xbb\xbf[server]\r\nworkers = 3\r\n");
	ck_assert_int_eq(config->server.workers, 3);
	good("server.workers = 4\nlog = { level = \"warn\" }\n");
	ck_assert_int_eq(config->server.workers, 4);
	ck_assert_int_eq(config->log.level, LOG_LEVEL_WARN);
}
END_TEST

START_TEST(unknown_names)
{
	bad_value("server", "max-clients = 1", 1, "unknown key max-clients in [server], did you mean max_clients?");
	bad_value("server", "lisetn = 1", 1, "did you mean listen?");
	bad_value("server", "maxclients = 1", 1, "did you mean max_clients?");
	bad_value("server", "level = \"info\"", 1, "unknown key level in [server], it belongs in [log]");
	bad_value("server", "pool_size = 5", 1, "it belongs in [upstream.main]");
	bad_value("log", "flie = \"x\"", 1, "did you mean file?");
	bad_value("upstream.main", "x = 1", 1, "unknown key x in [upstream.main]");
	bad_value("upstream.main", "write_to = \"master\"", 1, "unknown key write_to in [upstream.main]");
	ck_assert_ptr_null(strstr(problems.items[0].text, "did you mean"));
	bad("[servr]\n[upstream]\nmain = 1\n[Log]\n", "t.toml:1:2: unknown table [servr], did you mean [server]?\n"
						      "t.toml:3:1: upstream.main must be a table: [upstream.main]\n"
						      "t.toml:4:2: unknown table [Log], did you mean [log]?\n");
	bad("[upstream.other]\nurl = 1\n[user.x]\na = 1\n[server.tsl]\n[log.x]\n",
	    "t.toml:2:7: upstream.other.url must be a string, not a number\n"
	    "t.toml:3:2: unknown table [user]\n"
	    "t.toml:5:9: unknown table [server.tsl], did you mean [server.tls]?\n"
	    "t.toml:6:6: unknown table [log.x]\n");
	bad("[\"server.tls\"]\n[\"upstream.*\"]\n[\"upstream.main\"]\n",
	    "t.toml:1:2: unknown table [server.tls]\n"
	    "t.toml:2:2: unknown table [upstream.*], did you mean [upstream.main]?\n"
	    "t.toml:3:2: unknown table [upstream.main]\n");
	bad("log = 1\nserver = []\nupstream = 3\n", "t.toml:1:1: log must be a table: [log]\n"
						    "t.toml:2:1: server must be a table: [server]\n"
						    "t.toml:3:1: upstream must be a table: [upstream.main]\n");
	bad("[upstream]\nurl = \"redis://x\"\n[[server]]\n",
	    "t.toml:2:1: unknown key url in [upstream]; options of an upstream stand in [upstream.main]\n"
	    "t.toml:3:3: server must be a table: [server]\n");
	bad("\"a\\u001bb\" = 1\n", "t.toml:1:1: unknown key a?b outside of any table\n");
}
END_TEST

START_TEST(environment)
{
	setenv("KW_HOST", "redis.internal", 1);
	setenv("KW_PASSWORD", "s3cret", 1);
	setenv("KW_EMPTY", "", 1);
	unsetenv("KW_UNSET");
	good("[upstream.main]\nurl = \"redis://:${KW_PASSWORD}@${KW_HOST}:7\"\n"
	     "[log]\nfile = \"a${KW_EMPTY}$b$$${KW_HOST}$\"\n");
	ck_assert_str_eq(config->upstreams[0].target.host, "redis.internal");
	ck_assert_str_eq(config->upstreams[0].target.password, "s3cret");
	ck_assert_str_eq(config->log.file, "a$b$${KW_HOST}$");
	bad("[log]\nfile = \"${KW_UNSET}\"\nlevel = \"${KW_EMPTY}\"\n[server]\nlisten = [\"${KW_UNSET}:1\"]\n",
	    "t.toml:2:8: log.file needs the environment variable KW_UNSET, which is not set\n"
	    "t.toml:3:9: log.level must be one of debug info warn error, not \"${KW_EMPTY}\"\n"
	    "t.toml:5:11: server.listen needs the environment variable KW_UNSET, which is not set\n");
	bad_value("log", "file = \"${KW_HOST\"", 8, "has a ${ that is not ${NAME}");
	bad_value("log", "file = \"${}\"", 8, "has a ${ that is not ${NAME}");
	bad_value("log", "file = \"${1X}\"", 8, "has a ${ that is not ${NAME}");
	setenv("KW_HOST", "\xff\xfe", 1);
	bad_value("log", "file = \"${KW_HOST}\"", 8, "is not UTF-8");
}
END_TEST

/* ---- files ---- */

static void with_password_file(const char *url, const char *content, size_t len)
{
	char *name = temporary(content, len);
	char *text = xasprintf("[upstream.main]\nurl = \"%s\"\npassword_file = \"%s\"\n", url, name);

	load(text);
	unlink(name);
	free(text);
	free(name);
}

START_TEST(password_file)
{
	char *long_line = xcalloc(1, 5001);

	with_password_file("redis://u:old@h", "p@ss %41\r\nsecond\n", 18);
	ck_assert_ptr_nonnull(config);
	ck_assert_str_eq(config->upstreams[0].target.password, "p@ss %41");
	ck_assert_str_eq(config->upstreams[0].url_masked, "redis://u:***@h:6379/0");
	with_password_file("redis://h", "x", 1);
	ck_assert_str_eq(config->upstreams[0].target.password, "x");
	with_password_file("redis://u@h", "x\n", 2);
	ck_assert_str_eq(config->upstreams[0].target.username, "u");
	ck_assert_str_eq(config->upstreams[0].target.password, "x");
	with_password_file("redis://u@h", "\nx\n", 3);
	ck_assert_uint_eq(problems.n, 1);
	ck_assert_ptr_nonnull(strstr(problems.items[0].text, "its first line is empty"));
	ck_assert_uint_eq(problems.items[0].line, 3);
	ck_assert_uint_eq(problems.items[0].col, 17);
	with_password_file("redis://h", "a\0b\n", 4);
	ck_assert_ptr_nonnull(strstr(problems.items[0].text, "NUL character"));
	memset(long_line, 'x', 5000);
	with_password_file("redis://h", long_line, 5000);
	ck_assert_ptr_nonnull(strstr(problems.items[0].text, "too long"));
	ck_assert_ptr_null(strstr(problems.items[0].text, "xx"));
	with_password_file("redis://h", long_line, 4000);
	ck_assert_uint_eq(strlen(config->upstreams[0].target.password), 4000);
	free(long_line);
	bad_value("upstream.main", "password_file = \"/nonexistent/p\"", 17,
		  "upstream.main.password_file: /nonexistent/p: No such file or directory");
	bad_value("upstream.main", "password_file = \"/tmp\"", 17, "Is a directory");
}
END_TEST

START_TEST(real_files)
{
	char *huge = xcalloc(1, (1 << 20) + 10), *name;
	struct config_source source = {0};

	name = temporary("[server]\nworkers = 3\n", 21);
	source.file = name;
	config = config_load(&source, &problems);
	ck_assert_ptr_nonnull(config);
	ck_assert_int_eq(config->server.workers, 3);
	config_free(&config);
	ck_assert_ptr_null(config);
	config_free(&config);
	unlink(name);
	source.url = "ftp://x";
	ck_assert_ptr_null(config_load(&source, &problems));
	ck_assert_uint_eq(problems.n, 2);
	ck_assert_str_eq(problems.items[0].file, "-u");
	ck_assert_str_eq(problems.items[1].file, name);
	ck_assert_str_eq(problems.items[1].text, strerror(ENOENT));
	ck_assert_uint_eq(problems.items[1].line, 0);
	problems_free(&problems);
	free(name);
	memset(huge, '\n', (1 << 20) + 5);
	name = temporary(huge, (1 << 20) + 5);
	source = (struct config_source){.file = name};
	ck_assert_ptr_null(config_load(&source, &problems));
	ck_assert_str_eq(problems.items[0].text, strerror(EFBIG));
	unlink(name);
	free(name);
	free(huge);
}
END_TEST

/* ---- the dump ---- */

START_TEST(dump_round_trip)
{
	char *first, *second;

	good("[server]\nlisten = [\"[::1]:1\", \"unix:/a\\\"b\\\\c\"]\nworkers = 7\nmax_value_size = 1234567\n"
	     "client_timeout = \"90s\"\ntcp_keepalive = 61\nclient_output_limit = \"3mb\"\nmax_clients = 5\n"
	     "backlog = 6\n"
	     "shutdown_grace = \"1500ms\"\n"
	     "[upstream.main]\nurl = \"redis://us%C3%A4r:@[::1]:7/3\"\npool_size = 9\nmin_idle = 8\npool_timeout = 0\n"
	     "connect_timeout = 0.125\nread_timeout = \"1m\"\nwrite_timeout = \"1h\"\nreconnect_delay = \"7ms\"\n"
	     "reconnect_delay_max = \"8ms\"\nmax_retries = 0\nhealth_check = \"1h\"\n"
	     "password_file = \"/proc/self/comm\"\n"
	     "[log]\nlevel = \"warn\"\nformat = \"json\"\nfile = \"x\\n\\u0001$${HOME}$${\xc3\xa4\"\nslow = -1\n");
	first = dumped();
	good(first);
	second = dumped();
	ck_assert_str_eq(first, second);
	ck_assert_int_eq(config->server.workers, 7);
	ck_assert_str_eq(config->server.listen.items[1], "unix:/a\"b\\c");
	ck_assert_int_eq(config->server.max_value_bytes, 1234567);
	ck_assert_int_eq(config->server.client_timeout_ms, 90000);
	ck_assert_int_eq(config->server.shutdown_grace_ms, 1500);
	ck_assert_str_eq(config->upstreams[0].target.username, "us\xc3\xa4r");
	ck_assert_str_eq(config->upstreams[0].target.host, "::1");
	ck_assert_int_eq(config->upstreams[0].target.db, 3);
	ck_assert_int_eq(config->upstreams[0].connect_timeout_ms, 125);
	ck_assert_str_eq(config->upstreams[0].password_file, "/proc/self/comm");
	ck_assert_str_eq(config->log.file, "x\n\x01${HOME}${\xc3\xa4");
	ck_assert_int_eq(config->log.slow_us, -1);
	free(first);
	free(second);
}
END_TEST

START_TEST(dump_masks)
{
	char *text;

	good("[upstream.main]\nurl = \"redis://user:topsecret@host\"\n");
	text = dumped();
	ck_assert_ptr_null(strstr(text, "topsecret"));
	ck_assert_ptr_nonnull(strstr(text, "\nurl = \"redis://user:***@host:6379/0\"\n"));
	ck_assert_ptr_null(strstr(config->upstreams[0].url_masked, "topsecret"));
	free(text);
}
END_TEST

START_TEST(dump_has_every_option)
{
	char *text;

	good("[[server.listener]]\naddress = \"127.0.0.1:1\"\nnamespace = \"x\"\n[namespace.x]\n"
	     "[[rate_limit]]\nname = \"x\"\nrate = \"1/s\"\n");
	text = dumped();
	for (unsigned id = 0; id < N_OPTIONS; id++) {
		char *line = xasprintf("\n%s = ", schema_option(id)->key);

		ck_assert_msg(strstr(text, line) != NULL, "%s", line);
		free(line);
	}
	free(text);
}
END_TEST

START_TEST(mdoc_has_every_option)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_print_options(out);
	fclose(out);
	for (unsigned id = 0; id < N_OPTIONS; id++) {
		char *line = xasprintf("\n.It Ic %s No = Ar ", schema_option(id)->key);

		ck_assert_msg(strstr(text, line) != NULL, "%s", line);
		free(line);
	}
	free(text);
}
END_TEST

static TCase *sources_case(void)
{
	TCase *c = tcase_create("sources");

	tcase_add_test(c, defaults);
	tcase_add_test(c, url_precedence);
	tcase_add_test(c, redis_url_in_environment);
	tcase_add_test(c, command_line);
	tcase_add_test(c, set_values);
	tcase_add_test(c, set_mistakes);
	tcase_add_test(c, environment);
	tcase_add_test(c, password_file);
	tcase_add_test(c, real_files);
	return c;
}

static TCase *file_case(void)
{
	TCase *c = tcase_create("file");

	tcase_add_test(c, rules);
	tcase_add_test(c, many_mistakes);
	tcase_add_test(c, syntax);
	tcase_add_test(c, unknown_names);
	tcase_add_test(c, dump_round_trip);
	tcase_add_test(c, dump_masks);
	tcase_add_test(c, dump_has_every_option);
	tcase_add_test(c, mdoc_has_every_option);
	return c;
}

int main(void)
{
	TCase *cases[] = {sources_case(), file_case()};

	return run_cases("config", cases, COUNT(cases));
}
