/* SPDX-License-Identifier: BSD-2-Clause */
/* Upstreams, namespaces and TLS in the configuration: their tables, and the rules between their options. */
#include "config_help.h"

static const struct upstream_config *upstream(const char *name)
{
	size_t i;

	ck_assert_msg(instance_find(config, SCOPE_UPSTREAM, name, &i), "%s", name);
	return &config->upstreams[i];
}

static void load_sets(const char *const *sets, size_t n)
{
	struct config_source source = {.set = sets, .n_set = n};

	load_source(&source, NULL);
}

/* ---- tables ---- */

START_TEST(defaults)
{
	const struct upstream_config *u;

	good("[upstream.other]\n");
	ck_assert(!config->server.cluster_emulation);
	ck_assert_str_eq(config->server.tls.cert, "");
	ck_assert_int_eq(config->server.tls.client_cert, CLIENT_CERT_NONE);
	ck_assert_uint_eq(config->n_namespaces, 0);
	ck_assert_uint_eq(config->warnings.n, 0);
	ck_assert_uint_eq(config->n_upstreams, 2);
	for (size_t i = 0; i < 2; i++) {
		u = &config->upstreams[i];
		ck_assert_str_eq(u->url_masked, "redis://127.0.0.1:6379/0");
		ck_assert_int_eq(u->pool_size, 20);
		ck_assert_uint_eq(u->nodes.n, 0);
		ck_assert_str_eq(u->service, "mymaster");
		ck_assert_str_eq(u->sentinel_username, "");
		ck_assert_str_eq(u->sentinel_password, "");
		ck_assert_int_eq(u->read_from, READ_FROM_MASTER);
		ck_assert_int_eq(u->read_your_writes_ms, 1000);
		ck_assert_int_eq(u->max_replica_lag_ms, 10000);
		ck_assert_str_eq(u->mirror_to, "");
		ck_assert_int_eq(u->mirror, MIRROR_WRITES);
		ck_assert_int_eq(u->mirror_percent, 100);
		ck_assert(!u->mirror_compare);
		ck_assert_str_eq(u->tls.ca, "");
		ck_assert(u->tls.verify);
		ck_assert_int_eq(u->circuit_breaker.failures, 5);
		ck_assert_int_eq(u->circuit_breaker.window_ms, 10000);
		ck_assert_int_eq(u->circuit_breaker.open_for_ms, 5000);
	}
}
END_TEST

START_TEST(order)
{
	good("[upstream.b.tls]\nverify = false\n[upstream.a]\npool_size = 3\n[upstream.b]\npool_size = 4\n"
	     "[upstream.z_Z-9]\n[namespace.b]\nupstream = \"b\"\n[namespace.a]\n");
	ck_assert_uint_eq(config->n_upstreams, 4);
	ck_assert_str_eq(config->upstreams[0].name, "main");
	ck_assert_str_eq(config->upstreams[1].name, "a");
	ck_assert_str_eq(config->upstreams[2].name, "b");
	ck_assert_str_eq(config->upstreams[3].name, "z_Z-9");
	ck_assert_int_eq(config->upstreams[1].pool_size, 3);
	ck_assert_int_eq(config->upstreams[2].pool_size, 4);
	ck_assert(config->upstreams[1].tls.verify);
	ck_assert(!config->upstreams[2].tls.verify);
	ck_assert_str_eq(config->namespaces[0].name, "a");
	ck_assert_str_eq(config->namespaces[1].name, "b");
	ck_assert_uint_eq(config->namespaces[1].upstream_index, 2);
}
END_TEST

START_TEST(nested_tables)
{
	good("[upstream.cache]\nurl = \"rediss://h\"\n[upstream.cache.tls]\nserver_name = \"x\"\n"
	     "[upstream.cache.circuit_breaker]\nfailures = 1\nwindow = 2\nopen_for = 3\n[upstream.main]\n"
	     "tls = { verify = false }\ncircuit_breaker.failures = 9\n");
	ck_assert_str_eq(upstream("cache")->tls.server_name, "x");
	ck_assert(upstream("cache")->target.tls);
	ck_assert_int_eq(upstream("cache")->circuit_breaker.failures, 1);
	ck_assert_int_eq(upstream("cache")->circuit_breaker.window_ms, 2000);
	ck_assert_int_eq(upstream("cache")->circuit_breaker.open_for_ms, 3000);
	ck_assert(!upstream("main")->tls.verify);
	ck_assert_int_eq(upstream("main")->circuit_breaker.failures, 9);
}
END_TEST

START_TEST(names_in_messages)
{
	char *text = xasprintf("[upstream.%065d]\n", 0);

	bad_value("upstream.cache", "pool_size = 0", 13, "upstream.cache.pool_size must be from 1 to 65535");
	bad_value("upstream.cache", "poolsize = 1", 1,
		  "unknown key poolsize in [upstream.cache], did you mean pool_size?");
	bad_value("upstream.cache", "tls = 1", 1, "upstream.cache.tls must be a table: [upstream.cache.tls]");
	bad_value("upstream.cache", "verify = true", 1,
		  "unknown key verify in [upstream.cache], it belongs in [upstream.cache.tls]");
	bad_value("upstream.cache.tls", "verfy = true", 1, "in [upstream.cache.tls], did you mean verify?");
	bad_value("upstream.cache.circuit_breaker", "failures = 0", 12,
		  "upstream.cache.circuit_breaker.failures must be from 1 to 1000000");
	bad_value("namespace.x", "tll = \"1h\"", 1, "unknown key tll in [namespace.x], did you mean ttl?");
	bad_value("namespace.x", "upstream = 1", 12, "namespace.x.upstream must be a string, not a number");
	bad_value("namespace.x", "on_failure = \"stall\"", 14, "must be one of error stale miss, not \"stall\"");
	bad_value("namespace", "match = \"x\"", 1,
		  "unknown key match in [namespace]; options of a namespace stand in [namespace.NAME]");
	bad_value("server.tls", "client_cert = \"always\"", 15, "must be one of none optional required");
	bad("[upstream.\"a b\"]\n[upstream.\"\"]\n[namespace.\"x.y\"]\n",
	    "t.toml:1:11: unknown table [upstream.a b]: its name must have 1 to 64 letters, digits, _ and -\n"
	    "t.toml:2:11: unknown table [upstream.]: its name must have 1 to 64 letters, digits, _ and -\n"
	    "t.toml:3:12: unknown table [namespace.x.y]: its name must have 1 to 64 letters, digits, _ and -\n");
	load(text);
	ck_assert_uint_eq(problems.n, 1);
	text[strlen("[upstream.") + 64] = ']';
	text[strlen("[upstream.") + 65] = '\n';
	good(text);
	free(text);
}
END_TEST

START_TEST(set_instances)
{
	const char *const sets[] = {
		"upstream.b.pool_size=2",   "upstream.a.tls.verify=false", "upstream.b.circuit_breaker.window=1m",
		"namespace.n.match=x:",	    "namespace.n.upstream=b",	   "server.cluster_emulation=true",
		"upstream.main.pool_size=7"};
	const char *const wrong[] = {"upstream.b.tls=x", "upstream.b.tls.verfy=true", "namespace.n.mach=x",
				     "server.tls.crt=x"};

	load_sets(sets, sizeof(sets) / sizeof(*sets));
	ck_assert_ptr_nonnull(config);
	ck_assert_uint_eq(config->n_upstreams, 3);
	ck_assert_int_eq(upstream("main")->pool_size, 7);
	ck_assert(!upstream("a")->tls.verify);
	ck_assert_int_eq(upstream("b")->pool_size, 2);
	ck_assert_int_eq(upstream("b")->circuit_breaker.window_ms, 60000);
	ck_assert_str_eq(config->namespaces[0].match.items[0], "x:");
	ck_assert_uint_eq(config->namespaces[0].upstream_index, 2);
	load_sets(wrong, sizeof(wrong) / sizeof(*wrong));
	expect_said("--set: unknown option namespace.n.mach, did you mean namespace.n.match?\n"
		    "--set: unknown option server.tls.crt, did you mean server.tls.cert?\n"
		    "--set: unknown option upstream.b.tls, did you mean upstream.b.url?\n"
		    "--set: unknown option upstream.b.tls.verfy, did you mean upstream.b.tls.verify?\n");
}
END_TEST

/* ---- modes ---- */

START_TEST(sentinel)
{
	good("[upstream.main]\nmode = \"sentinel\"\nnodes = [\"a\", \"b:1\", \"[::1]\", \"[::2]:2\"]\nservice = "
	     "\"m\"\n");
	ck_assert_int_eq(config->upstreams[0].mode, UPSTREAM_SENTINEL);
	ck_assert_str_eq(config->upstreams[0].nodes.items[0], "a:26379");
	ck_assert_str_eq(config->upstreams[0].nodes.items[1], "b:1");
	ck_assert_str_eq(config->upstreams[0].nodes.items[2], "[::1]:26379");
	ck_assert_str_eq(config->upstreams[0].nodes.items[3], "[::2]:2");
	ck_assert_str_eq(config->upstreams[0].service, "m");
	bad_value("upstream.x", "mode = \"sentinel\"", 8,
		  "upstream.x.mode asks for sentinels: nodes must have their addresses");
	bad_value("upstream.x", "service = \"\"\nmode = \"sentinel\"\nnodes = [\"a\"]", 11,
		  "upstream.x.service must be what the sentinels call the master");
	bad_value("upstream.x", "url = \"unix:///r\"\nmode = \"sentinel\"\nnodes = [\"a\"]", 7,
		  "upstream.x.url must not be a Unix socket");
	good("[upstream.x]\nservice = \"\"\n");
}
END_TEST

START_TEST(cluster)
{
	good("[upstream.main]\nmode = \"cluster\"\nnodes = [\"a\", \"b:1\"]\n");
	ck_assert_str_eq(config->upstreams[0].nodes.items[0], "a:6379");
	ck_assert_str_eq(config->upstreams[0].nodes.items[1], "b:1");
	good("[upstream.main]\nmode = \"cluster\"\nurl = \"redis://h:7\"\n"
	     "[upstream.six]\nmode = \"cluster\"\nurl = \"redis://[::1]:7\"\n");
	ck_assert_uint_eq(upstream("main")->nodes.n, 1);
	ck_assert_str_eq(upstream("main")->nodes.items[0], "h:7");
	ck_assert_str_eq(upstream("six")->nodes.items[0], "[::1]:7");
	bad_value("upstream.x", "url = \"redis://h/1\"\nmode = \"cluster\"", 7,
		  "upstream.x.url must not have a database but 0");
	bad_value("upstream.x", "url = \"unix:///r\"\nmode = \"cluster\"", 7,
		  "upstream.x.url must not be a Unix socket");
}
END_TEST

START_TEST(nodes)
{
	bad_value("upstream.x", "nodes = [\"h:1\"]", 9, "upstream.x.nodes has no meaning with mode = \"standalone\"");
	bad_value("upstream.x", "nodes = [\"h:1\", \"h:x\"]\nmode = \"cluster\"", 17,
		  "upstream.x.nodes must have \"host:port\", \"[v6]:port\" or \"host\" in its list");
	bad_value("upstream.x", "nodes = [\"u:topsecret@h:1\"]\nmode = \"cluster\"", 10, "must have");
	ck_assert_ptr_null(strstr(problems.items[0].text, "topsecret"));
}
END_TEST

/* A default URL that nobody wrote is no place when nodes are. */
START_TEST(listen_beside_nodes)
{
	good("[server]\nlisten = [\"127.0.0.1:6379\"]\n[upstream.main]\nmode = \"sentinel\"\nnodes = [\"h\"]\n");
	bad_value("server",
		  "listen = [\"127.0.0.1:6379\"]\n[upstream.main]\nmode = \"cluster\"\n"
		  "url = \"redis://localhost\"",
		  11, "is also the url of [upstream.main]");
	bad_value("server", "listen = [\"127.0.0.1:6379\"]\n[upstream.main]\nurl = \"redis://h\"\n[upstream.x]\n", 11,
		  "is also the url of [upstream.x]");
}
END_TEST

START_TEST(sentinel_password)
{
	char *file = temporary("fr*m file\r\n", 11), *text, *said;

	good("[upstream.main]\nsentinel_username = \"u\"\nsentinel_password = \"topsecret\"\n");
	ck_assert_str_eq(config->upstreams[0].sentinel_password, "topsecret");
	said = dumped();
	ck_assert_ptr_null(strstr(said, "topsecret"));
	ck_assert_ptr_nonnull(strstr(said, "\nsentinel_password = \"***\"\n"));
	free(said);
	text = xasprintf("[upstream.x]\nsentinel_password_file = \"%s\"\nsentinel_password = \"old\"\n", file);
	good(text);
	ck_assert_str_eq(upstream("x")->sentinel_password, "fr*m file");
	ck_assert_str_eq(upstream("main")->sentinel_password, "");
	unlink(file);
	free(file);
	free(text);
	bad_value("upstream.x", "sentinel_password_file = \"/nonexistent/p\"", 26,
		  "upstream.x.sentinel_password_file: /nonexistent/p: No such file or directory");
	bad_value("upstream.x", "sentinel_password = [\"topsecret\"]", 21,
		  "upstream.x.sentinel_password must be a string, not a list");
	bad_value("upstream.x", "sentinel_password = \"topsecret\\u0000\"", 21, "NUL character");
	ck_assert_ptr_null(strstr(problems.items[0].text, "topsecret"));
}
END_TEST

START_TEST(rules_of_each)
{
	bad_value("upstream.x", "min_idle = 21", 12, "upstream.x.min_idle must not be more than pool_size");
	bad_value("upstream.x", "reconnect_delay = \"2s\"", 19, "upstream.x.reconnect_delay must not be more than");
	bad_value("upstream.x", "url = \"redis://u@h\"", 7, "upstream.x.url has a user and no password");
	bad_value("upstream.x", "password_file = \"/nonexistent/p\"", 17, "upstream.x.password_file: /nonexistent/p");
	bad_value("upstream.x", "mirror_percent = 101", 18, "upstream.x.mirror_percent must be from 0 to 100");
	bad_value("upstream.x", "read_from = \"slave\"", 13, "must be one of master prefer_replica replica nearest");
	bad_value("upstream.x", "mirror = \"reads\"", 10, "must be one of writes all");
}
END_TEST

START_TEST(mirror)
{
	good("[upstream.main]\nmirror_to = \"b\"\nmirror = \"all\"\nmirror_percent = 5\n[upstream.b]\n");
	ck_assert_str_eq(config->upstreams[0].mirror_to, "b");
	ck_assert_int_eq(config->upstreams[0].mirror, MIRROR_ALL);
	bad_value("upstream.main", "mirror_to = \"c\"", 13,
		  "upstream.main.mirror_to is c, but there is no [upstream.c]");
	bad_value("upstream.main", "mirror_to = \"main\"", 13, "upstream.main.mirror_to must be another upstream");
	bad_value("upstream.main", "mirror_to = \"redis://:topsecret@h\"", 13, "must be the name of an upstream");
	ck_assert_ptr_null(strstr(problems.items[0].text, "topsecret"));
	bad("[upstream.main]\nmirror_to = \"b\"\n[upstream.b]\nmirror_to = \"c\"\n[upstream.c]\n",
	    "t.toml:2:13: upstream.main.mirror_to is b, which has a mirror_to itself: mirrors make no chain\n");
}
END_TEST

/* ---- namespaces ---- */

START_TEST(namespaces)
{
	good("[namespace.product]\n[namespace.default]\non_failure = \"miss\"\nupstream = \"b\"\n[upstream.b]\n"
	     "[namespace.x]\nmatch = []\n");
	ck_assert_uint_eq(config->n_namespaces, 3);
	ck_assert_str_eq(config->namespaces[0].name, "default");
	ck_assert_uint_eq(config->namespaces[0].match.n, 0);
	ck_assert_int_eq(config->namespaces[0].on_failure, ON_FAILURE_MISS);
	ck_assert_uint_eq(config->namespaces[0].upstream_index, 1);
	ck_assert_str_eq(config->namespaces[1].name, "product");
	ck_assert_uint_eq(config->namespaces[1].match.n, 1);
	ck_assert_str_eq(config->namespaces[1].match.items[0], "product:");
	ck_assert_str_eq(config->namespaces[1].upstream, "main");
	ck_assert_uint_eq(config->namespaces[1].upstream_index, 0);
	ck_assert_int_eq(config->namespaces[1].on_failure, ON_FAILURE_ERROR);
	ck_assert_str_eq(config->namespaces[2].match.items[0], "x:");
}
END_TEST

START_TEST(namespace_rules)
{
	bad_value("namespace.x", "upstream = \"c\"", 12, "namespace.x.upstream is c, but there is no [upstream.c]");
	bad_value("namespace.x", "upstream = \"a b\"", 12, "namespace.x.upstream must be the name of an upstream");
	bad_value("namespace.default", "match = \"x\"", 9, "namespace.default.match must be empty");
	good("[namespace.default]\nmatch = []\n");
	bad_value("namespace.x", "match = [\"a\", \"b\", \"a\"]", 20,
		  "namespace.x.match: \"a\" stands twice in the list");
	bad("[namespace.x]\nmatch = [\"a\", \"same\"]\n[namespace.b]\nmatch = [\"same\"]\n",
	    "t.toml:4:10: namespace.b.match: \"same\" is the prefix of [namespace.x] already\n");
	bad("[namespace.x]\nmatch = \"y:\"\n[namespace.y]\n",
	    "t.toml:2:9: namespace.x.match: \"y:\" is the prefix of [namespace.y] already\n");
	good("[namespace.x]\nmatch = [\"a\", \"ab\", \"abc\"]\n");
}
END_TEST

/* ---- TLS ---- */

START_TEST(upstream_tls)
{
	good("[upstream.x]\nurl = \"rediss://h\"\n[upstream.x.tls]\nca = \"/dev/null\"\ncert = \"/dev/null\"\n"
	     "key = \"/dev/null\"\n");
	ck_assert_str_eq(upstream("x")->tls.cert, "/dev/null");
	ck_assert_str_eq(upstream("x")->url_masked, "rediss://h:6379/0");
	bad_value("upstream.x.tls", "cert = \"/dev/null\"", 8, "upstream.x.tls.cert needs key beside it");
	bad_value("upstream.x.tls", "key = \"/dev/null\"", 7, "upstream.x.tls.key needs cert beside it");
	bad_value("upstream.x.tls", "ca = \"/nonexistent/ca\"", 6,
		  "upstream.x.tls.ca: /nonexistent/ca: No such file or directory");
	bad_value("upstream.x.tls", "ca = \"/tmp\"", 6, "Is a directory");
}
END_TEST

START_TEST(server_tls)
{
	static const char files[] = "[server.tls]\ncert = \"/dev/null\"\nkey = \"/dev/null\"\n";
	char *text =
		xasprintf("%s[server]\nlisten = [\"tls:127.0.0.1:1\", \"tls:[::1]:2\", \"tls:localhost:3\"]\n", files);

	good(text);
	ck_assert_str_eq(config->server.listen.items[1], "tls:[::1]:2");
	free(text);
	bad("[server]\nlisten = [\"127.0.0.1:1\", \"tls:[::1]:2\"]\n",
	    "t.toml:2:26: server.listen: \"tls:[::1]:2\" needs cert and key in [server.tls]\n");
	bad("[server]\nlisten = [\"tls:127.0.0.1:1\"]\n[server.tls]\ncert = \"/dev/null\"\n",
	    "t.toml:4:8: server.tls.cert needs key beside it\n");
	bad_value("server.tls", "key = \"/dev/null\"", 7, "server.tls.key needs cert beside it");
	bad_value("server.tls", "ca = \"/nonexistent/x\"", 6, "server.tls.ca: /nonexistent/x: No such file");
	bad_value("server.tls", "client_cert = \"required\"", 15, "server.tls.client_cert needs ca beside it");
	text = xasprintf("%sca = \"/dev/null\"\nclient_cert = \"optional\"\n", files);
	good(text);
	ck_assert_int_eq(config->server.tls.client_cert, CLIENT_CERT_OPTIONAL);
	free(text);
	text = xasprintf("%s[server]\nlisten = [\"127.0.0.1:1\", \"tls:127.0.0.1:1\"]\n", files);
	bad(text, "t.toml:5:26: server.listen: \"tls:127.0.0.1:1\" stands twice in the list\n");
	free(text);
	text = xasprintf("%s[server]\nlisten = [\"tls:127.0.0.1:6379\"]\n", files);
	bad(text, "t.toml:5:11: server.listen: \"tls:127.0.0.1:6379\" is also the url of [upstream.main]: "
		  "Keyweir would talk to itself\n");
	free(text);
}
END_TEST

/* ---- the dump ---- */

START_TEST(dump_round_trip)
{
	char *first, *second;

	good("[server]\ncluster_emulation = true\nlisten = [\"tls:[::1]:1\"]\n"
	     "[server.tls]\ncert = \"/dev/null\"\nkey = \"/dev/zero\"\nca = \"/dev/null\"\nclient_cert = \"required\"\n"
	     "[upstream.main]\nmode = \"sentinel\"\nnodes = [\"a\", \"[::1]:5\"]\nservice = \"s\"\n"
	     "sentinel_username = \"su\"\nsentinel_password = \"sp\"\nread_from = \"nearest\"\n"
	     "read_your_writes = 0\nmax_replica_lag = \"1m\"\nmirror_to = \"b\"\nmirror = \"all\"\n"
	     "mirror_percent = 1\nmirror_compare = true\n"
	     "[upstream.b]\nurl = \"rediss://u:p@[::1]:7\"\nmode = \"cluster\"\n"
	     "[upstream.b.tls]\nverify = false\nserver_name = \"n\"\n"
	     "[upstream.b.circuit_breaker]\nfailures = 2\nwindow = \"1s\"\nopen_for = \"250ms\"\n"
	     "[namespace.default]\nupstream = \"b\"\n[namespace.p]\n[namespace.q]\nmatch = \"x\"\n"
	     "on_failure = \"miss\"\n");
	first = dumped();
	good(first);
	second = dumped();
	ck_assert_str_eq(first, second);
	ck_assert_str_eq(config->server.tls.key, "/dev/zero");
	ck_assert_int_eq(config->server.tls.client_cert, CLIENT_CERT_REQUIRED);
	ck_assert_uint_eq(config->n_upstreams, 2);
	ck_assert_str_eq(config->upstreams[0].nodes.items[0], "a:26379");
	ck_assert_int_eq(config->upstreams[0].read_from, READ_FROM_NEAREST);
	ck_assert(config->upstreams[0].mirror_compare);
	ck_assert(config->upstreams[1].target.tls);
	ck_assert_str_eq(config->upstreams[1].nodes.items[0], "[::1]:7");
	ck_assert(!config->upstreams[1].tls.verify);
	ck_assert_int_eq(config->upstreams[1].circuit_breaker.open_for_ms, 250);
	ck_assert_uint_eq(config->n_namespaces, 3);
	ck_assert_str_eq(config->namespaces[1].match.items[0], "p:");
	ck_assert_int_eq(config->namespaces[2].on_failure, ON_FAILURE_MISS);
	free(first);
	free(second);
}
END_TEST

static TCase *tables_case(void)
{
	TCase *c = tcase_create("tables");

	tcase_add_test(c, defaults);
	tcase_add_test(c, order);
	tcase_add_test(c, nested_tables);
	tcase_add_test(c, names_in_messages);
	tcase_add_test(c, set_instances);
	tcase_add_test(c, namespaces);
	tcase_add_test(c, dump_round_trip);
	return c;
}

static TCase *rules_case(void)
{
	TCase *c = tcase_create("rules");

	tcase_add_test(c, sentinel);
	tcase_add_test(c, cluster);
	tcase_add_test(c, nodes);
	tcase_add_test(c, listen_beside_nodes);
	tcase_add_test(c, sentinel_password);
	tcase_add_test(c, rules_of_each);
	tcase_add_test(c, mirror);
	tcase_add_test(c, namespace_rules);
	tcase_add_test(c, upstream_tls);
	tcase_add_test(c, server_tls);
	return c;
}

int main(void)
{
	TCase *cases[] = {tables_case(), rules_case()};

	return run_cases("config upstreams", cases, COUNT(cases));
}
