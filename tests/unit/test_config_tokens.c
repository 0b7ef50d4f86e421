/* SPDX-License-Identifier: BSD-2-Clause */
/* [token_blacklist] in the configuration: its options, the namespace that is made of it, what is a mistake. */
#include "config_help.h"

#include <sys/stat.h>

#define SECRET "secret = \"0123456789abcdef\"\n"
#define LIST   "[token_blacklist]\nnamespace = \"token:blacklist\"\n"

static const struct namespace_config *made(void)
{
	for (size_t i = 0; i < config->n_namespaces; i++)
		if (config->namespaces[i].has_tokens)
			return &config->namespaces[i];
	return NULL;
}

/* There is a problem that says this. */
static void wrong(const char *text, const char *part)
{
	char *said;

	load(text);
	said = printed_problems();
	ck_assert_msg(problems.n >= 1, "%s", text);
	ck_assert_msg(strstr(said, part) != NULL, "%s\nsaid: %s", text, said);
	free(said);
}

START_TEST(defaults)
{
	const struct token_blacklist_config *conf;

	good("");
	ck_assert_uint_eq(config->token_blacklist.prefixes.n, 0);
	ck_assert_uint_eq(config->n_namespaces, 0);
	good("[token_blacklist]\n");
	ck_assert_uint_eq(config->n_namespaces, 0);
	good(LIST SECRET);
	conf = &config->token_blacklist;
	ck_assert_str_eq(conf->upstream, "main");
	ck_assert(conf->mirror && conf->hash_tokens);
	ck_assert_int_eq(conf->by, TOKEN_BY_TOKEN);
	ck_assert_int_eq(conf->ttl_ms, 86400000);
	ck_assert_int_eq(conf->leeway_ms, 60000);
	ck_assert_int_eq(conf->on_failure, TOKEN_FAILURE_DENY);
	ck_assert_uint_eq(conf->tokens.n, 0);
	good(LIST SECRET
	     "mirror = false\nby = \"jti\"\nttl = 0\nleeway = 0\non_failure = \"allow\"\ntokens = [\"a\", \"b\"]\n");
	conf = &config->token_blacklist;
	ck_assert(!conf->mirror);
	ck_assert_int_eq(conf->by, TOKEN_BY_JTI);
	ck_assert_int_eq(conf->ttl_ms, 0);
	ck_assert_int_eq(conf->leeway_ms, 0);
	ck_assert_int_eq(conf->on_failure, TOKEN_FAILURE_ALLOW);
	ck_assert_uint_eq(conf->tokens.n, 2);
	good(LIST "hash_tokens = false\n");
}
END_TEST

START_TEST(its_namespace)
{
	good("[upstream.s]\nurl = \"redis://localhost:1/0\"\n[namespace.product]\n"
	     "[token_blacklist]\nnamespace = [\"token:blacklist\", \"blacklist/\", \"b2\"]\nupstream = \"s\"\nttl = "
	     "\"2h\"\n" SECRET);
	ck_assert_str_eq(made()->name, "token_blacklist");
	ck_assert_uint_eq(made()->match.n, 3);
	ck_assert_str_eq(made()->match.items[0], "token:blacklist:");
	ck_assert_str_eq(made()->match.items[1], "blacklist/");
	ck_assert_str_eq(made()->match.items[2], "b2:");
	ck_assert_str_eq(made()->prefix, "token:blacklist:");
	ck_assert_uint_eq(made()->upstream_index, 1);
	ck_assert_int_eq(made()->ttl_ms, 7200000);
	ck_assert(made()->ttl_jitter == 0);
	ck_assert_uint_eq(config->n_namespaces, 2);
}
END_TEST

START_TEST(mistakes)
{
	wrong(LIST, "t.toml:2:13: token_blacklist.hash_tokens needs secret or secret_file beside it");
	wrong(LIST "hash_tokens = true\n",
	      "t.toml:3:15: token_blacklist.hash_tokens needs secret or secret_file beside it");
	wrong(LIST "secret = \"too short\"\n", "t.toml:3:10: token_blacklist.secret must have at least 16 characters");
	wrong(LIST SECRET "upstream = \"x\"\n",
	      "t.toml:4:12: token_blacklist.upstream is x, but there is no [upstream.x]");
	wrong(LIST SECRET "on_failure = \"maybe\"\n", "t.toml:4:14: token_blacklist.on_failure must be");
	wrong(LIST SECRET "by = \"sub\"\n", "t.toml:4:6: token_blacklist.by must be");
	wrong(LIST SECRET "ttl = \"soon\"\n", "t.toml:4:7: token_blacklist.ttl");
	wrong(LIST SECRET "mirorr = true\n", "unknown key mirorr in [token_blacklist], did you mean mirror?");
	wrong(LIST SECRET "file = \"/nonexistent\"\n",
	      "t.toml:4:8: token_blacklist.file: /nonexistent: No such file or directory");
	wrong(LIST "secret_file = \"/nonexistent\"\n",
	      "t.toml:3:15: token_blacklist.secret_file: /nonexistent: No such file or directory");
	wrong("[token_blacklist]\nnamespace = \"\"\n", "t.toml:2:13: token_blacklist.namespace");
	/* What is written for a list that is not there. */
	wrong("[token_blacklist]\n" SECRET, "t.toml:2:10: token_blacklist.secret needs namespace beside it");
	wrong("[token_blacklist]\ntokens = [\"a\"]\n", "t.toml:2:10: token_blacklist.tokens needs namespace beside it");
	wrong("[token_blacklist]\nsecret_file = \"x\"\n", "token_blacklist.secret_file needs namespace beside it");
	/* Beside other namespaces. */
	wrong("[namespace.token_blacklist]\nmatch = \"x:\"\n" LIST SECRET,
	      "t.toml:4:13: token_blacklist.namespace can't be beside a [namespace.token_blacklist]");
	good("[namespace.token_blacklist]\nmatch = \"x:\"\n");
	wrong("[token_blacklist]\nnamespace = [\"a\", \"b\", \"a:\"]\n" SECRET,
	      "t.toml:2:24: token_blacklist.namespace: \"a:\" stands twice in the list");
	wrong("[token_blacklist]\nnamespace = [\"a\", \"a:b\"]\n" SECRET, "lies within");
	wrong(LIST SECRET "[namespace.a]\nmatch = \"token:blacklist:\"\n",
	      ": \"token:blacklist:\" is the prefix of [token_blacklist] already");
	wrong(LIST SECRET "[namespace.a]\nprefix = \"token:blacklist:a:\"\n",
	      "t.toml:5:10: namespace.a.prefix: \"token:blacklist:a:\" lies within \"token:blacklist:\" of "
	      "[token_blacklist]");
	good(LIST SECRET "[namespace.token]\nprefix = \"t:\"\n"); /* the longer one wins */
	wrong(LIST SECRET "[[server.listener]]\naddress = \"127.0.0.1:1\"\nnamespace = \"token_blacklist\"\n",
	      "is token_blacklist, but there is no [namespace.token_blacklist]");
	wrong("[upstream.main]\nmode = \"cluster\"\n[token_blacklist]\nnamespace = [\"a:\", \"{x}:\"]\n" SECRET,
	      "t.toml:4:13: token_blacklist.namespace must have the hash tag {x} of match in it");
}
END_TEST

START_TEST(by_set)
{
	const char *sets[] = {"token_blacklist.namespace=token:blacklist", "token_blacklist.secret=0123456789abcdef"};
	struct config_source source = {.set = sets, .n_set = 2};

	load_source(&source, NULL);
	ck_assert_ptr_nonnull(config);
	ck_assert_str_eq(made()->prefix, "token:blacklist:");
}
END_TEST

/* Nothing of it is in the dump, but for what others know; and what is dumped is as it was. */
START_TEST(the_dump)
{
	char *text;

	good(LIST "secret = \"very-secret-indeed\"\ntokens = [\"token-one\", \"x:token-two\"]\n");
	text = dumped();
	ck_assert_ptr_nonnull(strstr(text, "\n[token_blacklist]\nnamespace = [\"token:blacklist:\"]\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nsecret = \"***\"\n"));
	ck_assert_ptr_nonnull(strstr(text, "\ntokens = [\"***\", \"***\"]\n"));
	ck_assert_ptr_null(strstr(text, "token-"));
	ck_assert_ptr_null(strstr(text, "indeed"));
	ck_assert_ptr_null(strstr(text, "[namespace.token_blacklist]"));
	free(text);
	good(LIST "hash_tokens = false\n");
	text = dumped();
	good(text);
	ck_assert_str_eq(made()->prefix, "token:blacklist:");
	free(text);
	good("");
	text = dumped();
	good(text);
	ck_assert_uint_eq(config->token_blacklist.prefixes.n, 0);
	free(text);
}
END_TEST

START_TEST(secret_file)
{
	char path[] = "/tmp/keyweir-secret-XXXXXX", *text;
	FILE *file = fdopen(mkstemp(path), "w");

	fputs("from the file, long enough\nmore\n", file);
	fclose(file);
	text = xasprintf(LIST "secret_file = \"%s\"\n", path);
	good(text);
	ck_assert_str_eq(config->token_blacklist.secret, "from the file, long enough");
	ck_assert_uint_eq(config->warnings.n, 0);
	chmod(path, 0644);
	good(text);
	ck_assert_uint_eq(config->warnings.n, 1);
	ck_assert_ptr_nonnull(strstr(config->warnings.items[0].text, "is readable by more than its owner"));
	file = fopen(path, "w");
	fputs("short\n", file);
	fclose(file);
	load(text);
	ck_assert_ptr_null(config);
	free(text);
	text = printed_problems();
	ck_assert_ptr_nonnull(
		strstr(text, "t.toml:3:15: token_blacklist.secret_file must have at least 16 characters"));
	free(text);
	unlink(path);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("config_tokens");
	TCase *tc = tcase_create("tokens");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, config_setup, config_teardown);
	tcase_add_test(tc, defaults);
	tcase_add_test(tc, its_namespace);
	tcase_add_test(tc, mistakes);
	tcase_add_test(tc, by_set);
	tcase_add_test(tc, the_dump);
	tcase_add_test(tc, secret_file);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
