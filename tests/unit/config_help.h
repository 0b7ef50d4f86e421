/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For the tests of the configuration layer: a configuration from a text, and what was said about it. Each test
 * program has its own copy; the fixture (config_setup, config_teardown) empties it between tests.
 */
#ifndef KEYWEIR_TEST_CONFIG_HELP_H
#define KEYWEIR_TEST_CONFIG_HELP_H

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "config/load.h"
#include "config/text.h"

#define FILE_NAME "t.toml"

static struct config *config;
static struct problem_list problems;

static inline void config_setup(void)
{
	ck_assert(sodium_init() >= 0);
	unsetenv("REDIS_URL");
}

static inline void config_teardown(void)
{
	config_free(&config);
	problems_free(&problems);
	unsetenv("REDIS_URL");
}

static inline void load_source(const struct config_source *source, const char *text)
{
	config_free(&config);
	problems_free(&problems);
	config = config_load_buffer(source, text, text ? strlen(text) : 0, &problems);
	ck_assert((config == NULL) == (problems.n > 0));
}

static inline void load(const char *text)
{
	static const struct config_source source = {.file = FILE_NAME};

	load_source(&source, text);
}

static inline char *printed_problems(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	problems_print(&problems, out);
	fclose(out);
	return text;
}

/* Loads text, which must be right. */
static inline void good(const char *text)
{
	load(text);
	if (!config) {
		char *said = printed_problems();

		ck_abort_msg("%s\nwas refused: %s", text, said);
	}
}

/* The problems, as printed, are exactly these lines. */
static inline void expect_said(const char *lines)
{
	char *said = printed_problems();

	ck_assert_str_eq(said, lines);
	free(said);
}

static inline void bad(const char *text, const char *lines)
{
	load(text);
	expect_said(lines);
}

/* Loads text, which must be right, and the warnings about it. */
static inline void warned(const char *text, const char *lines)
{
	char *said = NULL;
	size_t len;
	FILE *out = open_memstream(&said, &len);

	good(text);
	problems_print(&config->warnings, out);
	fclose(out);
	ck_assert_str_eq(said, lines);
	free(said);
}

/* A file with this content; the name is the caller's to free, the file to unlink. */
static inline char *temporary(const char *content, size_t len)
{
	char *name = xstrdup("/tmp/keyweir-test-config-XXXXXX");
	int fd = mkstemp(name);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, content, len), (ssize_t)len);
	close(fd);
	return name;
}

/* One wrong line in [server] (or another table) whose one problem stands at 2:col and contains `part`. */
static inline void bad_value(const char *table, const char *line, unsigned col, const char *part)
{
	char *text = xasprintf("[%s]\n%s\n", table, line);

	load(text);
	ck_assert_msg(problems.n == 1, "%s: %zu problems", line, problems.n);
	ck_assert_msg(strstr(problems.items[0].text, part), "%s: said \"%s\", not \"%s\"", line, problems.items[0].text,
		      part);
	ck_assert_str_eq(problems.items[0].file, FILE_NAME);
	ck_assert_uint_eq(problems.items[0].line, 2);
	ck_assert_msg(problems.items[0].col == col, "%s: column %u", line, problems.items[0].col);
	free(text);
}

static inline char *dumped(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_dump(config, out);
	fclose(out);
	return text;
}

#define COUNT(array) ((int)(sizeof(array) / sizeof(*(array))))

static inline int run_cases(const char *name, TCase *const *cases, int n)
{
	Suite *suite = suite_create(name);
	SRunner *runner;
	int failed;

	for (int i = 0; i < n; i++) {
		tcase_add_checked_fixture(cases[i], config_setup, config_teardown);
		suite_add_tcase(suite, cases[i]);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
