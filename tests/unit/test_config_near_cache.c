/* SPDX-License-Identifier: BSD-2-Clause */
/* [near_cache] in the configuration, and the options of namespaces that need it. */
#include "config_help.h"

#define MB (1024 * 1024)

START_TEST(defaults)
{
	good("[namespace.a]\n");
	ck_assert_int_eq(config->near_cache.max_memory_bytes, 64 * MB);
	ck_assert_int_eq(config->near_cache.max_value_bytes, MB);
	ck_assert_int_eq(config->near_cache.max_ttl_ms, 600000);
	ck_assert_int_eq(config->near_cache.max_staleness_ms, 0);
	ck_assert(!config->namespaces[0].near_cache);
	ck_assert_int_eq(config->namespaces[0].race_condition_ttl_ms, 0);
	ck_assert_int_eq(config->namespaces[0].stale_if_error_ms, 600000);
	good("[near_cache]\nmax_memory = \"1gb\"\nmax_value_size = \"8mb\"\nmax_ttl = \"1h\"\nmax_staleness = \"2s\"\n"
	     "[namespace.a]\nnear_cache = true\nrace_condition_ttl = \"10s\"\nstale_if_error = \"1h\"\n"
	     "on_failure = \"stale\"\n");
	ck_assert_int_eq(config->near_cache.max_memory_bytes, 1024 * MB);
	ck_assert_int_eq(config->near_cache.max_value_bytes, 8 * MB);
	ck_assert_int_eq(config->near_cache.max_ttl_ms, 3600000);
	ck_assert_int_eq(config->near_cache.max_staleness_ms, 2000);
	ck_assert(config->namespaces[0].near_cache);
	ck_assert_int_eq(config->namespaces[0].race_condition_ttl_ms, 10000);
	ck_assert_int_eq(config->namespaces[0].stale_if_error_ms, 3600000);
	ck_assert_int_eq(config->namespaces[0].on_failure, ON_FAILURE_STALE);
}
END_TEST

START_TEST(memory)
{
	static const char *const wrong[] = {"1", "1023kb", "1048575", "1m"}; /* "m" is a million */

	good("[near_cache]\nmax_memory = 0\n");
	ck_assert_int_eq(config->near_cache.max_memory_bytes, 0);
	good("[near_cache]\nmax_memory = \"1mb\"\n");
	ck_assert_int_eq(config->near_cache.max_memory_bytes, MB);
	for (size_t i = 0; i < COUNT(wrong); i++) {
		char *line = xasprintf("max_memory = \"%s\"", wrong[i]);

		bad_value("near_cache", line, 14, "near_cache.max_memory must be 0, or at least 1mb");
		free(line);
	}
	bad_value("near_cache", "max_memory = \"1025gb\"", 14, "must be from 0 to 1024gb");
	bad_value("near_cache", "max_memory = -1", 14, "must be from 0 to 1024gb");
	/* Said once. */
	bad_value("near_cache", "max_memory = \"1kb\"\nmax_value_size = \"1mb\"", 14, "at least 1mb");
	bad_value("near_cache", "max_memory = \"x\"\nmax_value_size = \"512mb\"", 14, "near_cache.max_memory");
}
END_TEST

START_TEST(value_size)
{
	char *text;

	good("[near_cache]\nmax_memory = \"4mb\"\nmax_value_size = \"1mb\"\n");
	bad_value("near_cache", "max_value_size = \"1025kb\"\nmax_memory = \"4mb\"", 18,
		  "near_cache.max_value_size must not be more than a quarter of max_memory");
	bad_value("near_cache", "max_value_size = \"17mb\"", 18, "must not be more than a quarter of max_memory");
	bad_value("near_cache", "max_value_size = 1023", 18, "must be from 1kb to 512mb");
	/* Nothing is kept anyway. */
	good("[near_cache]\nmax_memory = 0\nmax_value_size = \"512mb\"\n");
	/* What nobody wrote gives way, and the dump says so. */
	good("[near_cache]\nmax_memory = \"2mb\"\n");
	ck_assert_int_eq(config->near_cache.max_value_bytes, MB / 2);
	text = dumped();
	ck_assert_ptr_nonnull(strstr(text, "\nmax_value_size = \"512kb\"\n"));
	good(text);
	ck_assert_int_eq(config->near_cache.max_value_bytes, MB / 2);
	free(text);
	good("[near_cache]\nmax_memory = \"4mb\"\n");
	ck_assert_int_eq(config->near_cache.max_value_bytes, MB);
}
END_TEST

/* The same by --set: such a mistake has no line. */
START_TEST(value_size_set)
{
	const char *sets[] = {"near_cache.max_memory=2mb", "near_cache.max_value_size=1mb"};
	struct config_source source = {.file = FILE_NAME, .set = sets, .n_set = 1};

	load_source(&source, "[near_cache]\n");
	ck_assert_ptr_nonnull(config);
	ck_assert_int_eq(config->near_cache.max_value_bytes, MB / 2);
	load_source(&source, "[near_cache]\nmax_value_size = \"1mb\"\n");
	expect_said("t.toml:2:18: near_cache.max_value_size must not be more than a quarter of max_memory\n");
	source.n_set = 2;
	load_source(&source, NULL);
	expect_said("--set: near_cache.max_value_size must not be more than a quarter of max_memory\n");
}
END_TEST

START_TEST(what_needs_it)
{
	bad_value("namespace.a", "race_condition_ttl = \"1s\"", 22,
		  "namespace.a.race_condition_ttl needs near_cache = true beside it");
	bad_value("namespace.a", "race_condition_ttl = \"1s\"\nnear_cache = false", 22, "needs near_cache = true");
	bad_value("namespace.a", "race_condition_ttl = \"25h\"\nnear_cache = true", 22, "must be from 0 to 1d");
	bad_value("namespace.a", "on_failure = \"stale\"", 14,
		  "namespace.a.on_failure is stale, which needs near_cache = true beside it");
	bad_value("namespace.a", "stale_if_error = \"11m\"\nnear_cache = true", 18,
		  "namespace.a.stale_if_error needs on_failure = \"stale\" beside it");
	bad_value("namespace.a", "stale_if_error = \"1m\"\non_failure = \"miss\"", 18, "needs on_failure = \"stale\"");
	/* Where the other one is wrong, that is all that is said. */
	bad_value("namespace.a", "near_cache = 1\nrace_condition_ttl = \"1s\"\non_failure = \"stale\"", 14,
		  "namespace.a.near_cache must be true or false");
	bad_value("namespace.a", "on_failure = \"old\"\nstale_if_error = \"1m\"\nnear_cache = true", 14,
		  "must be one of error stale miss");
	/* Each namespace for itself. */
	bad("[namespace.a]\nnear_cache = true\n[namespace.b]\non_failure = \"stale\"\n[namespace.default]\n"
	    "race_condition_ttl = 1\n",
	    "t.toml:4:14: namespace.b.on_failure is stale, which needs near_cache = true beside it\n"
	    "t.toml:6:22: namespace.default.race_condition_ttl needs near_cache = true beside it\n");
}
END_TEST

/* What a dump says of a namespace without the near-cache is no mistake. */
START_TEST(dump)
{
	static const char *const texts[] = {
		"[namespace.a]\n",
		"[namespace.a]\nnear_cache = true\n",
		"[namespace.a]\nnear_cache = true\non_failure = \"stale\"\nstale_if_error = \"7m\"\n"
		"race_condition_ttl = \"1500ms\"\n",
	};

	good("[namespace.a]\nstale_if_error = \"600s\"\nrace_condition_ttl = 0\n");
	for (size_t i = 0; i < COUNT(texts); i++) {
		char *first, *second;

		good(texts[i]);
		first = dumped();
		warned(first, "");
		second = dumped();
		ck_assert_str_eq(first, second);
		free(first);
		free(second);
	}
}
END_TEST

START_TEST(nothing_is_kept)
{
	warned("[near_cache]\nmax_memory = 0\n[namespace.a]\nnear_cache = true\n[namespace.b]\n",
	       "t.toml:4:14: [namespace.a] has near_cache = true, but max_memory of [near_cache] is 0: nothing is "
	       "kept\n");
	warned("[near_cache]\nmax_memory = \"1mb\"\n[namespace.a]\nnear_cache = true\n", "");
}
END_TEST

int main(void)
{
	TCase *table = tcase_create("near_cache"), *namespaces = tcase_create("namespaces");
	TCase *cases[] = {table, namespaces};

	tcase_add_test(table, defaults);
	tcase_add_test(table, memory);
	tcase_add_test(table, value_size);
	tcase_add_test(table, value_size_set);
	tcase_add_test(namespaces, what_needs_it);
	tcase_add_test(namespaces, dump);
	tcase_add_test(namespaces, nothing_is_kept);
	return run_cases("config near-cache", cases, COUNT(cases));
}
