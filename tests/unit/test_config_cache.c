/* SPDX-License-Identifier: BSD-2-Clause */
/* The table [cache] of R Commerce. */
#include "config_help.h"

START_TEST(url_and_pool)
{
	warned("[cache]\ncache_type = \"Redis\"\nredis_url = \"redis://:pw@h/3\"\nredis_pool_size = 33\n", "");
	ck_assert_str_eq(config->upstreams[0].url_masked, "redis://:***@h:6379/3");
	ck_assert_str_eq(config->upstreams[0].target.password, "pw");
	ck_assert_int_eq(config->upstreams[0].pool_size, 33);
	ck_assert_int_eq(config->upstreams[0].mode, UPSTREAM_STANDALONE);
	/* A URL here is one that a file gives. */
	setenv("REDIS_URL", "redis://env", 1);
	good("[cache]\nredis_url = \"redis://h\"\n");
	ck_assert_str_eq(config->upstreams[0].target.host, "h");
	good("[cache]\nredis_pool_size = 3\n");
	ck_assert_str_eq(config->upstreams[0].target.host, "env");
}
END_TEST

/* As in docs-website/docs/deployment/redis.md there. */
START_TEST(sentinel)
{
	good("[cache]\nredis_url = \"redis://sentinel:26379\"\nsentinel_enabled = true\n"
	     "sentinel_nodes = [\"sentinel1:26379\", \"sentinel2\"]\nsentinel_service = \"them\"\n");
	ck_assert_int_eq(config->upstreams[0].mode, UPSTREAM_SENTINEL);
	ck_assert_uint_eq(config->upstreams[0].nodes.n, 2);
	ck_assert_str_eq(config->upstreams[0].nodes.items[1], "sentinel2:26379");
	ck_assert_str_eq(config->upstreams[0].service, "them");
	bad_value("cache", "sentinel_enabled = true", 20,
		  "cache.sentinel_enabled asks for sentinels: nodes must have their addresses");
	bad_value("cache", "sentinel_enabled = 1", 20, "cache.sentinel_enabled must be true or false, not a number");
}
END_TEST

START_TEST(cluster)
{
	good("[cache]\nredis_url = \"redis://node1:6379\"\ncluster_enabled = true\n"
	     "cluster_nodes = [\n\"node1:6379\",\n\"node2:6379\"]\n");
	ck_assert_int_eq(config->upstreams[0].mode, UPSTREAM_CLUSTER);
	ck_assert_uint_eq(config->upstreams[0].nodes.n, 2);
	bad_value("cache", "redis_url = \"redis://h/1\"\ncluster_enabled = true", 13,
		  "cache.redis_url must not have a database but 0");
	bad_value("cache", "cluster_nodes = [\"h:x\"]\ncluster_enabled = true", 18, "cache.cluster_nodes must have");
	bad("[cache]\nsentinel_enabled = true\ncluster_enabled = true\n",
	    "t.toml:3:19: cache.cluster_enabled and cache.sentinel_enabled are both true: it is one or the other\n");
	warned("[cache]\nsentinel_enabled = false\nsentinel_nodes = [\"h:1\"]\ncluster_nodes = []\n",
	       "t.toml:3:1: cache.sentinel_nodes has no meaning without cache.sentinel_enabled = true\n"
	       "t.toml:4:1: cache.cluster_nodes has no meaning without cache.cluster_enabled = true\n");
}
END_TEST

START_TEST(tls)
{
	good("[cache]\nredis_url = \"redis://h\"\nuse_tls = true\nverify_certificate = false\n");
	ck_assert(config->upstreams[0].target.tls);
	ck_assert(!config->upstreams[0].tls.verify);
	ck_assert_str_eq(config->upstreams[0].url_masked, "rediss://h:6379/0");
	good("[cache]\nredis_url = \"rediss://h\"\nuse_tls = false\n");
	ck_assert(config->upstreams[0].target.tls);
	good("[cache]\nuse_tls = true\n[upstream.other]\n");
	ck_assert(!config->upstreams[1].target.tls);
	bad_value("cache", "use_tls = \"yes\"", 11, "cache.use_tls must be true or false, not a string");
	bad_value("cache", "use_tls = true\nredis_url = \"unix:///r\"", 11,
		  "cache.use_tls has no meaning with a Unix socket");
	bad_value("cache", "verify_certificate = 1", 22,
		  "cache.verify_certificate must be true or false, not a number");
}
END_TEST

START_TEST(mistakes)
{
	bad_value("cache", "redis_url = \"http://:topsecret@h\"", 13,
		  "cache.redis_url must begin with redis://, rediss:// or unix://");
	bad_value("cache", "redis_url = \"redis://topsecret@h\"", 13, "cache.redis_url has a user and no password");
	ck_assert_ptr_null(strstr(problems.items[0].text, "topsecret"));
	bad_value("cache", "redis_pool_size = 0", 19, "cache.redis_pool_size must be from 1 to 65535");
	bad_value("cache", "cache_type = \"Disk\"", 14, "cache.cache_type must be \"Redis\"");
	bad_value("cache", "redis_ulr = \"x\"", 1, "unknown key redis_ulr in [cache]");
	bad("[cache]\nredis_url = \"redis://h\"\n[upstream.main]\nurl = \"redis://h\"\n",
	    "t.toml:4:7: upstream.main.url is written a second time: it is cache.redis_url as well\n");
	bad("cache = 1\n", "t.toml:1:1: unknown key cache outside of any table\n");
	good("[cache]\nredis_url = \"redis://h\"\n[upstream.main]\npool_size = 4\n[upstream.b]\nurl = \"redis://x\"\n");
}
END_TEST

START_TEST(overridden)
{
	static const char *const sets[] = {"upstream.main.pool_size=5"};
	static const struct config_source source = {
		.file = FILE_NAME, .set = sets, .n_set = 1, .url = "redis://option"};

	load_source(&source, "[cache]\nredis_url = \"redis://h\"\nredis_pool_size = 4\n");
	ck_assert_ptr_nonnull(config);
	ck_assert_int_eq(config->upstreams[0].pool_size, 5);
	ck_assert_str_eq(config->upstreams[0].target.host, "option");
}
END_TEST

START_TEST(warnings)
{
	warned("[cache]\nkey_prefix = \"x\"\nredis_url = \"redis://h\"\nmax_size_mb = 100\ndefault_ttl_secs = 1\n",
	       "t.toml:2:1: cache.key_prefix has no meaning here\n"
	       "t.toml:4:1: cache.max_size_mb has no meaning here\n"
	       "t.toml:5:1: cache.default_ttl_secs has no meaning here\n");
	warned("[cache]\ncache_type = \"Memory\"\nmax_size_mb = 100\n",
	       "t.toml:2:14: cache.cache_type is Memory, which has no meaning here: Keyweir stands in front of a "
	       "Redis\n"
	       "t.toml:3:1: cache.max_size_mb has no meaning here\n");
}
END_TEST

/* ---- from ---- */

/* [cache] from = a file with this content; its name is the caller's. */
static char *load_from(const char *content)
{
	char *name = temporary(content, strlen(content));
	char *text = xasprintf("[cache]\nfrom = \"%s\"\n", name);

	load(text);
	unlink(name);
	free(text);
	return name;
}

START_TEST(from_file)
{
	char *name = load_from("[server]\nhost = \"0.0.0.0\"\nport = 8080\n[cache]\nredis_url = \"redis://h\"\n"
			       "redis_pool_size = 4\nkey_prefix = \"x\"\nfrom = 1\n[database]\npassword = \"x\"\n");

	ck_assert_ptr_nonnull(config);
	ck_assert_str_eq(config->upstreams[0].target.host, "h");
	ck_assert_int_eq(config->upstreams[0].pool_size, 4);
	ck_assert_uint_eq(config->warnings.n, 2);
	ck_assert_str_eq(config->warnings.items[0].file, name);
	ck_assert_uint_eq(config->warnings.items[0].line, 7);
	ck_assert_str_eq(config->warnings.items[0].text, "cache.key_prefix has no meaning here");
	ck_assert_str_eq(config->warnings.items[1].text, "cache.from has no meaning here");
	free(name);
}
END_TEST

START_TEST(from_mistakes)
{
	char *name = load_from("[cache]\n\nredis_pool_size = 0\nredis_url = \"redis://topsecret@h\"\n");

	ck_assert_uint_eq(problems.n, 2);
	ck_assert_str_eq(problems.items[0].file, name);
	ck_assert_uint_eq(problems.items[0].line, 3);
	ck_assert_uint_eq(problems.items[0].col, 19);
	ck_assert_str_eq(problems.items[0].text, "cache.redis_pool_size must be from 1 to 65535");
	ck_assert_str_eq(problems.items[1].file, name);
	ck_assert_uint_eq(problems.items[1].line, 4);
	free(name);
	name = load_from("[cache\n");
	ck_assert_uint_eq(problems.n, 1);
	ck_assert_str_eq(problems.items[0].file, name);
	ck_assert_uint_eq(problems.items[0].line, 1);
	free(name);
	name = load_from("[server]\n");
	ck_assert_str_eq(problems.items[0].file, FILE_NAME);
	ck_assert_ptr_nonnull(strstr(problems.items[0].text, "has no table [cache]"));
	free(name);
	bad_value("cache", "from = \"/nonexistent/x\"", 8, "cache.from: /nonexistent/x: No such file or directory");
	bad_value("cache", "from = 1", 8, "cache.from must be a string, not a number");
	bad_value("cache", "from = \"${KW_UNSET}\"", 8, "cache.from needs the environment variable KW_UNSET");
	bad_value("cache", "from = \"a\\u0000\"", 8, "cache.from must not have a NUL character in it");
}
END_TEST

START_TEST(from_alone)
{
	char *name = temporary("[cache]\nredis_url = \"redis://h\"\n", 32);
	char *text = xasprintf("[cache]\nfrom = \"%s\"\nredis_pool_size = 3\nx = 1\n", name);

	bad(text, "t.toml:3:1: cache.redis_pool_size stands beside cache.from: all of [cache] is in that file then\n"
		  "t.toml:4:1: cache.x stands beside cache.from: all of [cache] is in that file then\n");
	unlink(name);
	free(text);
	free(name);
}
END_TEST

static TCase *table_case(void)
{
	TCase *c = tcase_create("table");

	tcase_add_test(c, url_and_pool);
	tcase_add_test(c, sentinel);
	tcase_add_test(c, cluster);
	tcase_add_test(c, tls);
	tcase_add_test(c, mistakes);
	tcase_add_test(c, overridden);
	tcase_add_test(c, warnings);
	tcase_add_test(c, from_file);
	tcase_add_test(c, from_mistakes);
	tcase_add_test(c, from_alone);
	return c;
}

int main(void)
{
	TCase *cases[] = {table_case()};

	return run_cases("config cache", cases, COUNT(cases));
}
