/* SPDX-License-Identifier: BSD-2-Clause */
/* Namespaces, [encryption] and [[server.listener]] in the configuration, and the rules between them. */
#include <math.h>
#include <sys/stat.h>

#include "config/value.h"
#include "config_help.h"

#define KEY			     "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_31			     "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="
#define LISTENER(address, namespace) "[[server.listener]]\naddress = \"" address "\"\nnamespace = \"" namespace "\"\n"

/* text is right, or the one problem about it contains `part`. */
static void expect(const char *text, const char *part)
{
	if (!part) {
		good(text);
		return;
	}
	load(text);
	ck_assert_msg(problems.n == 1, "%s\n%zu problems", text, problems.n);
	ck_assert_msg(strstr(problems.items[0].text, part), "%s\nsaid \"%s\", not \"%s\"", text, problems.items[0].text,
		      part);
	ck_assert_msg(problems.items[0].line > 0 && problems.items[0].col > 0, "%s has no place", part);
}

/* ---- options of one namespace ---- */

START_TEST(jitter)
{
	static const double right[] = {0, 0.1, 0.5, 0.123456789012345, 1e-7, 1.0 / 3};
	char text[VALUE_TEXT_MAX];

	good("[namespace.a]\n[namespace.b]\nttl_jitter = 0.25\n[namespace.c]\nttl_jitter = 0\n"
	     "[namespace.d]\nttl_jitter = -0.0\n");
	ck_assert(config->namespaces[0].ttl_jitter == 0.1);
	ck_assert(config->namespaces[1].ttl_jitter == 0.25);
	ck_assert(config->namespaces[2].ttl_jitter == 0);
	ck_assert(!signbit(config->namespaces[3].ttl_jitter));
	bad_value("namespace.a", "ttl_jitter = 0.51", 14, "namespace.a.ttl_jitter must be from 0 to 0.5");
	bad_value("namespace.a", "ttl_jitter = 1", 14, "must be from 0 to 0.5");
	bad_value("namespace.a", "ttl_jitter = -0.1", 14, "must be from 0 to 0.5");
	bad_value("namespace.a", "ttl_jitter = nan", 14, "must be from 0 to 0.5");
	bad_value("namespace.a", "ttl_jitter = inf", 14, "must be from 0 to 0.5");
	bad_value("namespace.a", "ttl_jitter = \"10%\"", 14, "must be a number, not a string");
	bad_value("namespace.a", "ttl_jitter = true", 14, "must be a number, not true or false");
	for (size_t i = 0; i < COUNT(right); i++) {
		char *line = NULL, *first, *second;

		value_format_fraction(right[i], text);
		ck_assert(strtod(text, NULL) == right[i]);
		line = xasprintf("[namespace.a]\nttl_jitter = %s\n", text);
		good(line);
		ck_assert(config->namespaces[0].ttl_jitter == right[i]);
		first = dumped();
		good(first);
		second = dumped();
		ck_assert_str_eq(first, second);
		free(line);
		free(first);
		free(second);
	}
	value_format_fraction(0.1, text);
	ck_assert_str_eq(text, "0.1");
}
END_TEST

START_TEST(times)
{
	good("[namespace.a]\nttl = \"1h\"\nmax_ttl = \"1h\"\nsliding = true\n[namespace.b]\nmax_ttl = 1\nreadonly = "
	     "true\n[namespace.c]\nttl = \"1ms\"\nreadonly = true\nsliding = true\n");
	ck_assert_int_eq(config->namespaces[0].ttl_ms, 3600000);
	ck_assert_int_eq(config->namespaces[1].max_ttl_ms, 1000);
	ck_assert_int_eq(config->namespaces[2].ttl_ms, 1);
	bad_value("namespace.a", "ttl = \"2h\"\nmax_ttl = \"1h\"", 7, "namespace.a.ttl must not be more than max_ttl");
	bad_value("namespace.a", "sliding = true", 11, "namespace.a.sliding needs ttl beside it");
	bad_value("namespace.a", "ttl = \"500us\"", 7, "must be a whole number of milliseconds");
	bad_value("namespace.a", "prefix = \"a\\u0000b\"", 10, "must not have a NUL character in it");
	bad_value("namespace.a", "match = [\"a\", \"a\\u0000b\"]", 15, "must not have a NUL character in it");
}
END_TEST

/* ---- namespaces must not meet ---- */

START_TEST(meeting)
{
	static const struct {
		const char *text, *part;
	} cases[] = {
		{"[namespace.a]\nprefix = \"x:\"\n[namespace.b]\nprefix = \"x:\"\n",
		 "namespace.b.prefix: \"x:\" is \"x:\" of [namespace.a]: their keys would meet"},
		{"[namespace.a]\nprefix = \"x:\"\n[namespace.b]\nprefix = \"x:b:\"\n",
		 "namespace.b.prefix: \"x:b:\" lies within \"x:\" of [namespace.a]"},
		{"[namespace.a]\nprefix = \"x:a:\"\n[namespace.b]\nprefix = \"x:\"\n",
		 "namespace.a.prefix: \"x:a:\" lies within \"x:\" of [namespace.b]"},
		{"[namespace.a]\nprefix = \"x:\"\n[namespace.b]\nmatch = [\"y:\", \"x:b:\"]\n",
		 "namespace.b.match: \"x:b:\" lies within \"x:\" of [namespace.a]"},
		{"[namespace.a]\nprefix = \"b:\"\n[namespace.b]\n",
		 "namespace.b.match: \"b:\" is \"b:\" of [namespace.a]"},
		/* Names upstream must lead back to one namespace, wherever they are. */
		{"[upstream.two]\n[namespace.a]\nprefix = \"b:\"\n[namespace.b]\nupstream = \"two\"\n",
		 "namespace.b.match: \"b:\" is \"b:\""},
		{"[upstream.two]\n[namespace.a]\nprefix = \"x:\"\n[namespace.b]\nprefix = \"x:\"\nupstream = \"two\"\n",
		 "namespace.b.prefix: \"x:\" is \"x:\""},
		{"[namespace.a]\nprefix = \"x:\"\n[namespace.b]\nmatch = \"x:b:\"\nprefix = \"y:\"\n",
		 "namespace.b.match: \"x:b:\" lies within"},
		{"[namespace.a]\nmatch = [\"a:\", \"x:a:\"]\nprefix = \"x:\"\n",
		 "namespace.a.match: \"x:a:\" lies within prefix \"x:\": of some keys nobody could say the name"},
		{"[namespace.a]\nmatch = [\"old:\", \"a:\"]\nprefix = \"a:\"\n", NULL},
		{"[namespace.a]\nprefix = \"x:a:\"\n[namespace.b]\nmatch = \"x:\"\n", NULL},
		{"[namespace.a]\nprefix = \"x:\"\n[namespace.b]\nprefix = \"y:\"\n[namespace.default]\n", NULL},
		{"[namespace.a]\n[namespace.b]\nmatch = \"a:b:\"\n", NULL},
		/* Of bound namespaces nobody else has keys. */
		{LISTENER("127.0.0.1:1", "a") "[namespace.a]\n[namespace.b]\nmatch = \"a:b:\"\n",
		 "namespace.b.match: \"a:b:\" lies within \"a:\" of [namespace.a]: their keys would meet"},
		{LISTENER("127.0.0.1:1", "a") "[namespace.a]\n[namespace.b]\nprefix = \"a:\"\n",
		 "namespace.a.match: \"a:\" is \"a:\" of [namespace.b]: their keys would meet"},
		{LISTENER("127.0.0.1:1", "a") "[namespace.a]\n[namespace.b]\nmatch = \"a:b:\"\nprefix = \"b:\"\n",
		 NULL},
		{LISTENER("127.0.0.1:1", "a") "[upstream.two]\n[namespace.a]\n[namespace.b]\nmatch = \"a:b:\"\n"
					      "upstream = \"two\"\n",
		 NULL},
		{LISTENER("127.0.0.1:1", "a") LISTENER("127.0.0.1:2", "a") "[namespace.a]\n[namespace.b]\n", NULL},
		{"[encryption]\nhash_key = \"" KEY
		 "\"\n[namespace.a]\nhash_keys = true\n[namespace.b]\nmatch = \"a:b:\"\n",
		 "namespace.b.match: \"a:b:\" lies within \"a:\""},
		{"[encryption]\nhash_key = \"" KEY "\"\n[namespace.default]\nhash_keys = true\n[namespace.b]\n",
		 "\"b:\" lies within \"\" of [namespace.default]"},
		/* Channels. */
		{"[namespace.a]\nchannel_prefix = \"x:\"\n[namespace.b]\nchannel_prefix = \"x:\"\n",
		 "namespace.b.channel_prefix: \"x:\" is \"x:\" of [namespace.a]: their channels would meet"},
		{"[namespace.a]\nchannel_prefix = \"b:\"\n[namespace.b]\n", "namespace.b.match: \"b:\" is \"b:\""},
		{"[namespace.a]\nchannel_prefix = \"a:\"\nprefix = \"a:\"\n", NULL},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		expect(cases[i].text, cases[i].part);
}
END_TEST

/* What is in one slot stays in one. */
START_TEST(cluster_tags)
{
	static const struct {
		const char *options, *part;
	} cases[] = {
		{"prefix = \"x:\"", NULL},
		{"prefix = \"{x}:\"", NULL},
		{"match = \"{x}a:\"\nprefix = \"{x}:\"", NULL},
		{"match = \"{x}a:\"", NULL},
		{"match = \"{x}a:\"\nprefix = \"y:\"", "must have the hash tag {x} of match in it"},
		{"match = \"{x}a:\"\nprefix = \"{xy}:\"", "must have the hash tag {x} of match in it"},
		{"prefix = \"x{:\"", "must not have a { but in a whole {hash tag}"},
		{"prefix = \"x{}:\"", "must not have a { but in a whole {hash tag}"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		char *text = xasprintf("[upstream.main]\nmode = \"cluster\"\n[namespace.a]\n%s\n", cases[i].options);

		expect(text, cases[i].part);
		free(text);
		text = xasprintf("[namespace.a]\n%s\n", cases[i].options);
		good(text);
		free(text);
	}
}
END_TEST

/* ---- [encryption] ---- */

START_TEST(keys)
{
	good("[encryption]\nkeys = [\"2026a:" KEY "\", \"_-0123456789abcd:" KEY "\"]\nhash_key = \"" KEY "\"\n"
	     "[namespace.a]\nencrypt = true\nencrypt_messages = true\nhash_keys = true\n");
	ck_assert_uint_eq(config->encryption.keys.n, 2);
	ck_assert_str_eq(config->encryption.keys.items[0], "2026a:" KEY);
	ck_assert(!config->encryption.accept_plaintext);
	good("[encryption]\nkeys = \"a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"\n"); /* without padding */
	bad_value("encryption", "keys = [\"a:" KEY "\", \"" KEY "\"]", 59,
		  "encryption.keys must have \"NAME:BASE64\" for each key");
	bad_value("encryption", "keys = [\":" KEY "\"]", 9, "must have 1 to 16 letters, digits, _ and -");
	bad_value("encryption", "keys = [\"01234567890123456:" KEY "\"]", 9, "must have 1 to 16 letters");
	bad_value("encryption", "keys = [\"a b:" KEY "\"]", 9, "must have 1 to 16 letters");
	bad_value("encryption", "keys = [\"a:" KEY_31 "\"]", 9, ": key a must have 32 bytes in BASE64");
	bad_value("encryption", "keys = [\"a:" KEY "AA\"]", 9, "must have 32 bytes");
	bad_value("encryption", "keys = [\"a:\"]", 9, "must have 32 bytes");
	bad_value("encryption", "keys = [\"a: " KEY "\"]", 9, "must have 32 bytes");
	bad_value("encryption", "keys = [\"a:" KEY "\", \"b:" KEY "\", \"a:" KEY_31 "\"]", 109, "32 bytes");
	bad_value("encryption", "keys = [\"a:" KEY "\", \"aa:" KEY "\", \"a:" KEY "\"]", 110,
		  ": there are two keys called a");
	bad_value("encryption", "hash_key = \"" KEY_31 "\"", 12, "encryption.hash_key must have 32 bytes in BASE64");
	bad_value("encryption", "hash_key = \"a:" KEY "\"", 12, "must have 32 bytes");
	bad_value("namespace.a", "encrypt = true", 11, "namespace.a.encrypt needs a key: keys or keys_file");
	bad_value("namespace.a", "encrypt_messages = true", 20, "namespace.a.encrypt_messages needs a key");
	bad_value("namespace.a", "hash_keys = true", 13, "needs hash_key or hash_key_file in [encryption]");
	/* Said once: where the keys are wrong it is not said that there are none. */
	load("[encryption]\nkeys = [\"x\"]\nhash_key = \"x\"\n[namespace.a]\nencrypt = true\nhash_keys = true\n");
	ck_assert_uint_eq(problems.n, 2);
}
END_TEST

/* A secret is neither in a message nor in the dump. */
START_TEST(secrets)
{
	static const char *const texts[] = {
		"[encryption]\nkeys = [\"" KEY "\"]\n",
		"[encryption]\nkeys = [\"a b:" KEY "\"]\n",
		"[encryption]\nkeys = [\"a:" KEY "x\"]\n",
		"[encryption]\nhash_key = \"" KEY "x\"\n",
		"[encryption]\nkeys = [1, \"a:" KEY "\"]\n",
		"[encryption]\nkeys = [\"a:" KEY "\", \"a:" KEY "\"]\n",
		"[encryption]\nhash_key = [\"" KEY "\"]\n",
		"[encryption]\nkeys = [\"a:${" KEY "}\"]\n",
		"[encryption]\nkeys = [\"a:\\u0000" KEY "\"]\n",
	};
	char *text;

	for (size_t i = 0; i < COUNT(texts); i++) {
		char *said;

		load(texts[i]);
		ck_assert_uint_gt(problems.n, 0);
		said = printed_problems();
		ck_assert_msg(!strstr(said, "AAECAwQF"), "%s", said);
		free(said);
	}
	good("[encryption]\nkeys = [\"a:" KEY "\", \"b:" KEY "\"]\nhash_key = \"" KEY "\"\n");
	text = dumped();
	ck_assert_ptr_null(strstr(text, "AAECAwQF"));
	ck_assert_ptr_nonnull(strstr(text, "\nkeys = [\"a:***\", \"b:***\"]\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nhash_key = \"***\"\n"));
	free(text);
}
END_TEST

static char *with_file(const char *key, const char *name, const char *more)
{
	return xasprintf("[encryption]\n%s = \"%s\"\n%s", key, name, more);
}

START_TEST(key_files)
{
	static const char content[] = "# keys of 2026\n\n  b:" KEY "\t\r\n   # old\n\"c:" KEY "\"\nd:" KEY;
	static const char mistakes[] = "a:" KEY "\nx\n b:" KEY_31 "\na\0b:" KEY "\nc:" KEY "\na:" KEY "\n";
	char *name = temporary(content, sizeof(content) - 1), *text, *said;

	text = with_file("keys_file", name, "keys = [\"a:" KEY "\"]\n[namespace.x]\nencrypt = true\n");
	good(text);
	ck_assert_uint_eq(config->encryption.keys.n, 4);
	ck_assert_str_eq(config->encryption.keys.items[0], "a:" KEY);
	ck_assert_str_eq(config->encryption.keys.items[1], "b:" KEY);
	ck_assert_str_eq(config->encryption.keys.items[2], "c:" KEY);
	ck_assert_str_eq(config->encryption.keys.items[3], "d:" KEY);
	free(text);
	text = with_file("keys_file", name, "[namespace.x]\nencrypt = true\n");
	good(text);
	ck_assert_uint_eq(config->encryption.keys.n, 3);
	free(text);
	text = with_file("keys_file", name, "keys = [\"c:" KEY "\"]\n");
	load(text);
	ck_assert_uint_eq(problems.n, 1);
	ck_assert_str_eq(problems.items[0].file, name);
	ck_assert_uint_eq(problems.items[0].line, 5);
	free(text);
	unlink(name);
	free(name);

	name = temporary(mistakes, sizeof(mistakes) - 1);
	text = with_file("keys_file", name, "[namespace.x]\nencrypt = true\n");
	load(text);
	free(text);
	said = printed_problems();
	text = xasprintf(
		"%s:2:1: encryption.keys_file must have \"NAME:BASE64\" for each key, as keyweir gen-key prints it\n"
		"%s:3:2: encryption.keys_file: key b must have 32 bytes in BASE64 behind its name\n"
		"%s:4:1: encryption.keys_file must not have a NUL character in it\n"
		"%s:6:1: encryption.keys_file: there are two keys called a\n",
		name, name, name, name);
	ck_assert_str_eq(said, text);
	free(text);
	free(said);
	unlink(name);
	free(name);
	bad_value("encryption", "keys_file = \"/nowhere/keys\"", 13,
		  "encryption.keys_file: /nowhere/keys: No such file or directory");
}
END_TEST

START_TEST(hash_key_file)
{
	char *name = temporary(KEY "\nmore\n", strlen(KEY "\nmore\n")), *text;

	text = with_file("hash_key_file", name, "[namespace.x]\nhash_keys = true\n");
	good(text);
	ck_assert_str_eq(config->encryption.hash_key, KEY);
	free(text);
	unlink(name);
	free(name);
	name = temporary("x\n", 2);
	text = with_file("hash_key_file", name, "[namespace.x]\nhash_keys = true\n");
	expect(text, "encryption.hash_key_file must have 32 bytes in BASE64");
	free(text);
	unlink(name);
	free(name);
	bad_value("encryption", "hash_key_file = \"/nowhere\"\n[namespace.x]\nhash_keys = true", 17,
		  "encryption.hash_key_file: /nowhere: No such file");
}
END_TEST

/* Somebody may have reasons: warnings. */
START_TEST(readable_key_files)
{
	static const mode_t modes[] = {0600, 0400, 0640, 0604, 0644};
	char *name = temporary("a:" KEY "\n", strlen("a:" KEY "\n")), *hash = temporary(KEY "\n", strlen(KEY "\n"));
	char *text = xasprintf("[encryption]\nkeys_file = \"%s\"\nhash_key_file = \"%s\"\n", name, hash), *said;

	for (size_t i = 0; i < COUNT(modes); i++) {
		ck_assert_int_eq(chmod(name, modes[i]), 0);
		said = xasprintf("t.toml:2:13: encryption.keys_file: %s is readable by more than its owner "
				 "(mode %04o): chmod 600 it\n",
				 name, (unsigned)modes[i]);
		warned(text, modes[i] & 077 ? said : "");
		free(said);
	}
	ck_assert_int_eq(chmod(name, 0600), 0);
	ck_assert_int_eq(chmod(hash, 0644), 0);
	said = xasprintf("t.toml:3:17: encryption.hash_key_file: %s is readable by more than its owner (mode 0644): "
			 "chmod 600 it\n",
			 hash);
	warned(text, said);
	free(said);
	free(text);
	unlink(name);
	unlink(hash);
	free(name);
	free(hash);
}
END_TEST

/* ---- [[server.listener]] ---- */

START_TEST(listeners)
{
	char *first, *second;

	good("[server]\nlisten = [\"127.0.0.1:1\"]\n" LISTENER("127.0.0.1:2", "b") LISTENER("unix:/b \\\"x", "a")
		     LISTENER("[::1]:2", "b") "[server.tls]\n[namespace.a]\n[namespace.b]\nprefix = \"x:\"\n");
	ck_assert_uint_eq(config->server.n_listeners, 3);
	ck_assert_str_eq(config->server.listeners[0].address, "127.0.0.1:2");
	ck_assert_str_eq(config->server.listeners[0].namespace, "b");
	ck_assert_str_eq(config->server.listeners[1].address, "unix:/b \"x");
	ck_assert_str_eq(config->server.listeners[2].namespace, "b");
	first = dumped();
	ck_assert_ptr_nonnull(
		strstr(first, "\n[[server.listener]]\naddress = \"[::1]:2\"\nnamespace = \"b\"\n\n[upstream.main]\n"));
	good(first);
	second = dumped();
	ck_assert_str_eq(first, second);
	free(first);
	free(second);
	good("[server]\nlistener = [{address = \"127.0.0.1:2\", namespace = \"a\"}]\n[namespace.a]\n");
	ck_assert_uint_eq(config->server.n_listeners, 1);
	good("[server]\nlistener = []\n");
	ck_assert_uint_eq(config->server.n_listeners, 0);
}
END_TEST

START_TEST(listeners_that_hear_everything)
{
	warned(LISTENER("127.0.0.1:1", "a") "[namespace.a]\n",
	       "t.toml:3:13: [namespace.a] has no channel_prefix: clients of its listener hear every channel\n");
	warned(LISTENER("127.0.0.1:1", "a") "[namespace.a]\nchannel_prefix = \"a:\"\n", "");
}
END_TEST

START_TEST(listener_mistakes)
{
	static const char more[] = "[namespace.a]\n";
	static const struct {
		const char *text, *said;
	} cases[] = {
		{"[[server.listener]]\n", "1:1: server.listener.address must be given\n"
					  "t.toml:1:1: server.listener.namespace must be given\n"},
		{"[[server.listener]]\nadress = \"127.0.0.1:1\"\nnamespace = \"a\"\n",
		 "1:1: server.listener.address must be given\n"
		 "t.toml:2:1: unknown key adress in [[server.listener]], did you mean address?\n"},
		{"[[server.listener]]\nmatch = \"127.0.0.1:1\"\nnamespace = \"a\"\naddress = \"127.0.0.1:1\"\n",
		 "2:1: unknown key match in [[server.listener]], it belongs in [namespace.NAME]\n"},
		{"[[server.listner]]\nx = 1\n",
		 "1:10: unknown table [server.listner], did you mean [[server.listener]]?\n"},
		{"[server.listener]\naddress = 1\n",
		 "1:9: server.listener must be a list of tables: [[server.listener]]\n"},
		{"[server]\nlistener = [1]\n", "2:13: server.listener must have tables in its list, not a number\n"},
		{LISTENER("127.0.0.1", "a"),
		 "2:11: server.listener.address: \"127.0.0.1\" must have a port: \"127.0.0.1:6380\"\n"},
		{LISTENER("0.0.0.0:1", "a"),
		 "2:11: server.listener.address: \"0.0.0.0:1\" is refused: without any [user.NAME] Keyweir listens on "
		 "loopback addresses and Unix sockets only\n"},
		{LISTENER("localhost:6380", "a"),
		 "2:11: server.listener.address: \"localhost:6380\" stands in listen of [server], too\n"},
		{LISTENER("127.0.0.1:1", "a") LISTENER("tls:127.0.0.1:1", "a"),
		 "5:11: server.listener.address: \"tls:127.0.0.1:1\" is that of another [[server.listener]]\n"
		 "t.toml:5:11: server.listener.address: \"tls:127.0.0.1:1\" needs cert and key in [server.tls]\n"},
		{LISTENER("127.0.0.1:6379", "a"), "2:11: server.listener.address: \"127.0.0.1:6379\" is also the url "
						  "of [upstream.main]: Keyweir would talk "
						  "to itself\n"},
		{LISTENER("127.0.0.1:1", "b"), "3:13: server.listener.namespace is b, but there is no [namespace.b]\n"},
		{LISTENER("127.0.0.1:1", "a b"), "3:13: server.listener.namespace must be the name of a namespace\n"},
		{LISTENER("127.0.0.1:1", "default") "[namespace.default]\n",
		 "3:13: server.listener.namespace is default, which has no prefix: its clients would see the keys of "
		 "all "
		 "others\n"},
		{LISTENER("127.0.0.1:1", "default") "[namespace.default]\nprefix = \"d:\"\n", NULL},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		char *text = xasprintf("%s%s", cases[i].text, more), *said;

		load(text);
		said = printed_problems();
		if (cases[i].said)
			ck_assert_msg(strncmp(said, "t.toml:", 7) == 0 && strcmp(said + 7, cases[i].said) == 0,
				      "%s\n%s", text, said);
		else
			ck_assert_str_eq(said, "");
		free(text);
		free(said);
	}
}
END_TEST

START_TEST(set_listeners)
{
	const char *sets[] = {
		"server.listener=[{address = \"127.0.0.1:1\", namespace = \"a\"}, {address = \"unix:/x\", "
		"namespace = \"a\"}]",
		"namespace.a.ttl_jitter=0.2"};
	struct config_source source = {.file = FILE_NAME, .set = sets, .n_set = 2};

	load_source(&source, LISTENER("127.0.0.1:2", "a"));
	ck_assert_ptr_nonnull(config);
	ck_assert_uint_eq(config->server.n_listeners, 2);
	ck_assert_str_eq(config->server.listeners[1].address, "unix:/x");
	ck_assert(config->namespaces[0].ttl_jitter == 0.2);
	sets[0] = "server.listener = []";
	load_source(&source, LISTENER("127.0.0.1:2", "a"));
	ck_assert_uint_eq(config->server.n_listeners, 0);
	sets[0] = "server.listener=[{adress = \"127.0.0.1:1\", namespace = \"a\"}]";
	load_source(&source, NULL);
	expect_said("--set: server.listener.address must be given\n"
		    "--set: unknown key adress in [[server.listener]], did you mean address?\n");
	sets[0] = "server.listener.address=127.0.0.1:1";
	sets[1] = "server.listener=x";
	load_source(&source, NULL);
	expect_said("--set: server.listener is set as a list: server.listener=[{address = \"...\", namespace = "
		    "\"...\"}]\n"
		    "--set: server.listener is set as a list: server.listener=[{address = \"...\", namespace = "
		    "\"...\"}]\n");
}
END_TEST

int main(void)
{
	TCase *namespaces = tcase_create("namespaces"), *encryption = tcase_create("encryption"),
	      *listen = tcase_create("listeners");
	TCase *cases[] = {namespaces, encryption, listen};

	tcase_add_test(namespaces, jitter);
	tcase_add_test(namespaces, times);
	tcase_add_test(namespaces, meeting);
	tcase_add_test(namespaces, cluster_tags);
	tcase_add_test(encryption, keys);
	tcase_add_test(encryption, secrets);
	tcase_add_test(encryption, key_files);
	tcase_add_test(encryption, hash_key_file);
	tcase_add_test(encryption, readable_key_files);
	tcase_add_test(listen, listeners);
	tcase_add_test(listen, listeners_that_hear_everything);
	tcase_add_test(listen, listener_mistakes);
	tcase_add_test(listen, set_listeners);
	return run_cases("config namespaces", cases, COUNT(cases));
}
