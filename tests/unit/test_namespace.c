/* SPDX-License-Identifier: BSD-2-Clause */
/* Names there and back (policy/namespace.h), by configurations as users write them. */
#include "config_help.h"
#include "policy/namespace.h"

#define HASH_KEY_LINE "[encryption]\nhash_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n"

static struct namespaces *all;
static struct view view;

/* The names of a configuration; bound to a namespace, or to none. */
static void use(const char *text, const char *bound)
{
	unsigned char key[32];

	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)i;
	namespaces_free(&all);
	good(text);
	all = namespaces_new(config, key);
	view = (struct view){all, bound ? namespaces_named(all, bound) : NULL};
	ck_assert(!bound || view.bound);
}

static void finish(void)
{
	namespaces_free(&all);
}

static const char *name_of(const struct namespace *ns)
{
	return ns ? ns->conf->name : "-";
}

/* What became of a name; valid until the fourth call from now. */
static const char *text_of(struct buf *b)
{
	static char texts[4][512];
	static unsigned n;
	char *text = texts[n++ % 4];

	snprintf(text, sizeof(texts[0]), "%.*s", (int)buf_len(b), buf_len(b) ? buf_head(b) : "");
	buf_release(b);
	return text;
}

/* "NAMESPACE NAME" upstream. */
static const char *there(const char *key)
{
	struct name_place at = view_key(&view, key, strlen(key));
	struct buf out = {0}, placed = {0};

	name_place_put(&view, &at, key, strlen(key), &out);
	ck_assert(!name_place_is_same(&at) ||
		  (buf_len(&out) == strlen(key) && (!*key || memcmp(buf_head(&out), key, strlen(key)) == 0)));
	buf_puts(&placed, name_of(at.ns));
	buf_puts(&placed, " ");
	if (buf_len(&out))
		buf_put(&placed, buf_head(&out), buf_len(&out));
	buf_release(&out);
	return text_of(&placed);
}

typedef bool (*back_fn)(const struct view *v, const char *name, size_t len, struct name_place *out);

/* "NAMESPACE NAME" of a client; "": it has none. */
static const char *back_by(back_fn fn, const char *name)
{
	struct name_place at;
	struct buf out = {0};

	if (!fn(&view, name, strlen(name), &at))
		return "";
	buf_puts(&out, name_of(at.ns));
	buf_puts(&out, " ");
	buf_put(&out, at.put, at.put_len);
	buf_puts(&out, name + at.cut);
	return text_of(&out);
}

static const char *back(const char *key)
{
	return back_by(view_key_back, key);
}

/* "NAMESPACE PATTERN", with a "?" in front when names must be looked at again. */
static const char *pattern(const char *text)
{
	const struct namespace *ns;
	struct buf asked = {0}, out = {0};
	bool exact = view_pattern(&view, text, strlen(text), &asked, &ns);

	buf_puts(&out, exact ? "" : "?");
	buf_puts(&out, name_of(ns));
	buf_puts(&out, " ");
	buf_put(&out, buf_head(&asked), buf_len(&asked));
	buf_release(&asked);
	return text_of(&out);
}

static const char *channel(const char *name)
{
	struct name_place at = view_channel(&view, name, strlen(name));
	struct buf out = {0};

	buf_puts(&out, name_of(at.ns));
	buf_puts(&out, " ");
	buf_put(&out, at.put, at.put_len);
	buf_puts(&out, name + at.cut);
	return text_of(&out);
}

static const char *channel_pattern(const char *text)
{
	struct buf asked = {0}, out = {0};
	bool exact = view_channel_pattern(&view, text, strlen(text), &asked);

	buf_puts(&out, exact ? "" : "?");
	buf_put(&out, buf_head(&asked), buf_len(&asked));
	buf_release(&asked);
	return text_of(&out);
}

static const char *channel_back(const char *name)
{
	return back_by(view_channel_back, name);
}

/* ---- which namespace ---- */

START_TEST(longest_match)
{
	use("[namespace.token]\n[namespace.blacklist]\nmatch = [\"token:blacklist:\", \"blacklist:token:\"]\n"
	    "[namespace.t]\nmatch = \"t\"\n[namespace.deep]\nmatch = \"token:blacklist:x:y:z:\"\n",
	    NULL);
	ck_assert_str_eq(there("token:1"), "token token:1");
	ck_assert_str_eq(there("token:"), "token token:");
	ck_assert_str_eq(there("token"), "t token");
	ck_assert_str_eq(there("t"), "t t");
	ck_assert_str_eq(there("token:blacklist:1"), "blacklist token:blacklist:1");
	ck_assert_str_eq(there("blacklist:token:1"), "blacklist blacklist:token:1");
	ck_assert_str_eq(there("token:blacklist"), "token token:blacklist");
	ck_assert_str_eq(there("token:blacklist:x:y:z"), "blacklist token:blacklist:x:y:z");
	ck_assert_str_eq(there("token:blacklist:x:y:z:"), "deep token:blacklist:x:y:z:");
	ck_assert_str_eq(there("other"), "- other");
	ck_assert_str_eq(there(""), "- ");
	ck_assert_str_eq(back("token:1"), "token token:1");
	ck_assert_str_eq(back("other"), "- other");
	ck_assert(!namespaces_rename(all));
	ck_assert(!namespaces_active(all));
	ck_assert_uint_eq(namespaces_count(all), 4);
	ck_assert_ptr_null(namespaces_at(all, 4));
	ck_assert_ptr_null(namespaces_named(all, "none"));
	ck_assert_str_eq(name_of(namespaces_at(all, 0)), "blacklist");
	finish();
}
END_TEST

START_TEST(renamed)
{
	use("[namespace.product]\nmatch = [\"product:\", \"p:\"]\nprefix = \"shop:product:\"\n", NULL);
	ck_assert_str_eq(there("product:1"), "product shop:product:1");
	ck_assert_str_eq(there("p:1"), "product shop:product:1");
	ck_assert_str_eq(there("product:"), "product shop:product:");
	ck_assert_str_eq(there("shop:product:1"), "product shop:product:1"); /* nobody gets around it */
	ck_assert_str_eq(there("shop:product"), "- shop:product");
	ck_assert_str_eq(back("shop:product:1"), "product product:1");
	ck_assert_str_eq(back("shop:product:"), "product product:");
	ck_assert_str_eq(back("product:1"), ""); /* somebody else's: clients have no name for it */
	ck_assert_str_eq(back("p:1"), "");
	ck_assert_str_eq(back("free"), "- free");
	ck_assert(namespaces_rename(all));
	ck_assert(namespaces_active(all));
	ck_assert(namespaces_at(all, 0)->flags & NS_RENAMES);
	ck_assert_str_eq(namespaces_at(all, 0)->prefix, "shop:product:");
	finish();
}
END_TEST

/* Old and new names of the same keys. */
START_TEST(prefix_is_a_match)
{
	use("[namespace.product]\nmatch = [\"old:\", \"product:\"]\nprefix = \"product:\"\n", NULL);
	ck_assert_str_eq(there("product:1"), "product product:1");
	ck_assert_str_eq(there("old:1"), "product product:1");
	ck_assert_str_eq(back("product:1"), "product product:1");
	ck_assert_str_eq(back("old:1"), "");
	ck_assert_str_eq(pattern("product:*"), "product product:*");
	ck_assert_str_eq(pattern("old:*"), "product product:*");
	finish();
}
END_TEST

START_TEST(fallback)
{
	use("[namespace.default]\nprefix = \"app:\"\n[namespace.product]\n[namespace.cart]\nprefix = \"c:\"\n", NULL);
	ck_assert_str_eq(there("x"), "default app:x");
	ck_assert_str_eq(there(""), "default app:");
	ck_assert_str_eq(there("app:x"), "default app:x");
	ck_assert_str_eq(there("product:1"), "product product:1");
	ck_assert_str_eq(back("app:x"), "default x");
	ck_assert_str_eq(back("product:1"), "product product:1");
	ck_assert_str_eq(back("elsewhere"), "");
	/* The short name would be another key: it keeps the long one. */
	ck_assert_str_eq(there("app:product:1"), "default app:product:1");
	ck_assert_str_eq(back("app:product:1"), "default app:product:1");
	ck_assert_str_eq(back("app:cart:1"), "default app:cart:1");
	ck_assert_str_eq(back("app:c:1"), "default app:c:1");
	ck_assert_str_eq(back("app:app:1"), "default app:app:1");
	ck_assert_str_eq(there("app:1"), "default app:1");
	use("[namespace.default]\nttl = \"1h\"\n[namespace.cart]\nprefix = \"c:\"\n", NULL);
	ck_assert_str_eq(there("x"), "default x");
	ck_assert_str_eq(back("x"), "default x");
	ck_assert_str_eq(back("cart:1"), "");
	ck_assert(namespaces_at(all, 1)->flags & NS_TTL);
	finish();
}
END_TEST

/* Whatever a key is called upstream, the name given back leads to it. */
START_TEST(names_given_back_lead_there)
{
	static const char *const keys[] = {"shop:a:1", "shop:b:a:1", "shop:b:c:1", "shop:",  "shop:b:", "a:1",
					   "b:1",      "c:1",	     "plain",	   "d:x",    "d:a:1",	"d:shop:1",
					   "d:c:b:1",  "d:d:x",	     "q:c:1",	   "q:c:b:1"};

	use("[namespace.a]\nmatch = [\"a:\", \"b:a:\"]\nprefix = \"shop:a:\"\n"
	    "[namespace.b]\nmatch = [\"b:\"]\nprefix = \"shop:b:\"\n"
	    "[namespace.c]\n[namespace.cb]\nmatch = \"c:b:\"\nprefix = \"cb:\"\n"
	    "[namespace.q]\nmatch = \"c\"\nprefix = \"q:\"\n[namespace.default]\nprefix = \"d:\"\n",
	    NULL);
	for (size_t i = 0; i < COUNT(keys); i++) {
		const char *client = back(keys[i]), *upstream;

		if (!*client)
			continue;
		upstream = there(strchr(client, ' ') + 1);
		ck_assert_msg(strcmp(strchr(upstream, ' ') + 1, keys[i]) == 0, "%s is called %s, which is %s", keys[i],
			      client, upstream);
		ck_assert_msg(strcspn(client, " ") == strcspn(upstream, " ") &&
				      strncmp(client, upstream, strcspn(client, " ")) == 0,
			      "%s: %s, %s", keys[i], client, upstream);
	}
	ck_assert_str_eq(back("q:c:1"), "q cc:1");
	ck_assert_str_eq(back("q::1"), "q q::1"); /* "c:" and so on is c's */
	finish();
}
END_TEST

START_TEST(thousands)
{
	enum { N = 3000 };
	struct buf text = {0};
	char key[64], wanted[96];

	for (unsigned i = 0; i < N; i++)
		buf_printf(&text, "[namespace.n%u]\n%s", i, i % 2 ? "" : "ttl_jitter = 0.2\n");
	for (unsigned i = 0; i < N; i += 100)
		buf_printf(&text, "[namespace.p%u]\nprefix = \"up:%u:\"\n", i, i);
	ck_assert(buf_append(&text, "", 1));
	use(buf_head(&text), NULL);
	buf_release(&text);
	ck_assert_uint_eq(namespaces_count(all), N + N / 100);
	for (unsigned i = 0; i < N; i++) {
		snprintf(key, sizeof(key), "n%u:%u", i, i);
		snprintf(wanted, sizeof(wanted), "n%u n%u:%u", i, i, i);
		ck_assert_str_eq(there(key), wanted);
		ck_assert_str_eq(back(key), wanted);
	}
	ck_assert_str_eq(there("p100:x"), "p100 up:100:x");
	ck_assert_str_eq(back("up:100:x"), "p100 p100:x");
	ck_assert_str_eq(there("n3000:x"), "- n3000:x");
	finish();
}
END_TEST

START_TEST(strict)
{
	use("[server]\nstrict = true\n[namespace.product]\n", NULL);
	ck_assert(namespaces_active(all));
	ck_assert_str_eq(there("x"), "- x");
	ck_assert_str_eq(back("x"), "");
	ck_assert_str_eq(back("product:1"), "product product:1");
	finish();
}
END_TEST

START_TEST(flags)
{
	static const struct {
		const char *option;
		uint32_t flags;
	} cases[] = {{"prefix = \"x:\"", NS_RENAMES},
		     {"ttl = 1", NS_TTL},
		     {"max_ttl = 1", NS_MAX_TTL},
		     {"ttl = 1\nsliding = true", NS_TTL | NS_SLIDING},
		     {"readonly = true", NS_READONLY},
		     {"hash_keys = true", NS_RENAMES | NS_HASHES},
		     {"on_failure = \"miss\"", NS_MISS},
		     {"encrypt = true", NS_SEALS},
		     {"encrypt_messages = true", NS_SEALS_MESSAGES},
		     {"near_cache = true", NS_NEAR},
		     {"upstream = \"main\"", 0}};

	for (size_t i = 0; i < COUNT(cases); i++) {
		char *text = xasprintf(HASH_KEY_LINE "keys = [\"a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]\n"
						     "[namespace.a]\n%s\n",
				       cases[i].option);

		use(text, NULL);
		ck_assert_msg(namespaces_at(all, 0)->flags == cases[i].flags, "%s", cases[i].option);
		ck_assert_msg(namespaces_active(all) == ((cases[i].flags & ~(uint32_t)NS_MISS) != 0), "%s",
			      cases[i].option);
		free(text);
	}
	finish();
}
END_TEST

/* ---- bound ---- */

START_TEST(bound)
{
	use("[namespace.product]\nprefix = \"shop:product:\"\n[namespace.cart]\n", "product");
	ck_assert_str_eq(there("1"), "product shop:product:1");
	ck_assert_str_eq(there(""), "product shop:product:");
	ck_assert_str_eq(there("product:1"), "product shop:product:product:1");
	ck_assert_str_eq(there("shop:product:1"), "product shop:product:shop:product:1");
	ck_assert_str_eq(there("cart:1"), "product shop:product:cart:1");
	ck_assert_str_eq(back("shop:product:1"), "product 1");
	ck_assert_str_eq(back("shop:product:"), "product ");
	ck_assert_str_eq(back("shop:produc"), "");
	ck_assert_str_eq(back("cart:1"), "");
	ck_assert_str_eq(pattern("*"), "product shop:product:*");
	ck_assert_str_eq(pattern("cart:[a-z]?"), "product shop:product:cart:[a-z]?");
	/* Without a prefix the first match is it. */
	use("[namespace.cart]\nmatch = [\"cart:\", \"basket:\"]\n", "cart");
	ck_assert_str_eq(there("basket:1"), "cart cart:basket:1");
	ck_assert_str_eq(back("cart:basket:1"), "cart basket:1");
	ck_assert_str_eq(back("basket:1"), "");
	use("[namespace.default]\nprefix = \"d*?[]\\\\:\"\n", "default");
	ck_assert_str_eq(there("x"), "default d*?[]\\:x");
	ck_assert_str_eq(back("d*?[]\\:x"), "default x");
	ck_assert_str_eq(pattern("a*"), "default d\\*\\?\\[\\]\\\\:a*");
	finish();
}
END_TEST

/* ---- patterns ---- */

START_TEST(patterns)
{
	use("[namespace.product]\nprefix = \"sh*p:\"\n[namespace.cart]\n[namespace.vip]\nmatch = \"product:vip:\"\n"
	    "prefix = \"vip:\"\n",
	    NULL);
	ck_assert_str_eq(pattern("product:x*"), "product sh\\*p:x*");
	ck_assert_str_eq(pattern("product:x"), "product sh\\*p:x");
	ck_assert_str_eq(pattern("product:vip:*"), "vip vip:*");
	ck_assert_str_eq(pattern("product:v*"), "?- *"); /* of two namespaces */
	ck_assert_str_eq(pattern("product:*"), "?- *");
	ck_assert_str_eq(pattern("product:[ab]"), "?- *");
	ck_assert_str_eq(pattern("*"), "?- *");
	ck_assert_str_eq(pattern("p?oduct:1"), "?- *");
	ck_assert_str_eq(pattern("\\product:1"), "?- *");
	ck_assert_str_eq(pattern(""), "- ");
	ck_assert_str_eq(pattern("pro"), "- pro"); /* no wildcard: one key */
	ck_assert_str_eq(pattern("cart:*"), "cart cart:*");
	ck_assert_str_eq(pattern("other*"), "- other*");
	ck_assert_str_eq(pattern("sh*"), "?- *");
	use("[namespace.product]\n[namespace.cart]\nttl = 1\n", NULL); /* none has other names */
	ck_assert_str_eq(pattern("*"), "- *");
	ck_assert_str_eq(pattern("p*"), "- p*");
	ck_assert_str_eq(pattern("product:*"), "product product:*");
	use("[namespace.default]\nprefix = \"d:\"\n", NULL);
	ck_assert_str_eq(pattern("x*"), "default d:x*");
	ck_assert_str_eq(pattern("*"), "?- *");
	ck_assert_str_eq(pattern("d:x*"), "default d:x*");
	finish();
}
END_TEST

START_TEST(escapes)
{
	struct buf out = {0};

	pattern_escape(&out, "a*b?c[d]e\\f-^", 13);
	ck_assert_str_eq(text_of(&out), "a\\*b\\?c\\[d\\]e\\\\f-^");
	pattern_escape(&out, "", 0);
	ck_assert_uint_eq(buf_len(&out), 0);
	buf_release(&out);
}
END_TEST

/* ---- hashed names ---- */

/* The tag of a hashed name, "{...}"; "": it has none. */
static const char *tag_of(const char *name)
{
	static char tags[2][64];
	static unsigned n;
	const char *open = strchr(name, '{'), *close = open ? strchr(open, '}') : NULL;
	char *tag = tags[n++ % 2];

	snprintf(tag, sizeof(tags[0]), "%.*s", close ? (int)(close + 1 - open) : 0, close ? open : "");
	return tag;
}

START_TEST(hashed_names)
{
	char *name;

	use(HASH_KEY_LINE "[namespace.s]\nmatch = [\"s:\", \"session:\"]\nhash_keys = true\nprefix = \"x:\"\n", NULL);
	name = xstrdup(there("s:alice"));
	ck_assert_int_eq(strncmp(name, "s x:", 4), 0);
	ck_assert_uint_eq(strlen(name), 4 + 32);
	ck_assert_uint_eq(strspn(name + 4, "0123456789abcdef"), 32);
	ck_assert_str_eq(there("session:alice"), name); /* one key by all its names */
	ck_assert_str_eq(there("x:alice"), name);
	ck_assert_str_ne(there("s:bob"), name);
	ck_assert_str_eq(back(name + 2), "");
	ck_assert_str_eq(back("s:alice"), "");
	ck_assert(view_key_is_hashed(&view, name + 2, strlen(name + 2)));
	ck_assert(!view_key_is_hashed(&view, "s:alice", 7));
	ck_assert(!view_key_is_hashed(&view, "other", 5));
	view.bound = namespaces_named(all, "s");
	ck_assert_str_eq(there("alice"), name);
	ck_assert_str_eq(back(name + 2), "");
	/* Without a prefix behind the match. */
	use(HASH_KEY_LINE "[namespace.s]\nmatch = [\"s:\", \"t:\"]\nhash_keys = true\n", NULL);
	ck_assert_int_eq(strncmp(there("s:alice"), "s s:", 4), 0);
	ck_assert_str_eq(there("s:alice") + 4, name + 4);
	ck_assert_int_eq(strncmp(there("t:alice"), "s t:", 4), 0);
	ck_assert_str_eq(back(there("s:alice") + 2), "");
	use(HASH_KEY_LINE "[namespace.default]\nhash_keys = true\n", NULL);
	ck_assert_str_eq(there("alice") + strlen("default "), name + 4);
	ck_assert_str_eq(back("0123"), "");
	free(name);
	finish();
}
END_TEST

START_TEST(hash_tags)
{
	char *one, *two;

	use("[namespace.a]\nprefix = \"x:\"\n", NULL);
	ck_assert_str_eq(there("a:{u1}:x"), "a x:{u1}:x");
	use(HASH_KEY_LINE "[namespace.a]\nhash_keys = true\n", NULL);
	one = xstrdup(there("a:{u1}:x"));
	two = xstrdup(there("a:{u1}:y"));
	ck_assert_str_ne(one, two);
	ck_assert_str_ne(tag_of(one), "");
	ck_assert_str_eq(tag_of(one), tag_of(two));
	ck_assert_ptr_null(strstr(one, "u1"));
	ck_assert_str_ne(tag_of(there("a:{u2}:x")), tag_of(there("a:{u1}:x")));
	ck_assert_str_eq(tag_of(there("a:{}:x")), ""); /* no tag in Redis's eyes either */
	ck_assert_str_eq(tag_of(there("a:{x")), "");
	ck_assert_str_eq(tag_of(there("a:x}{")), "");
	view.bound = namespaces_named(all, "a");
	ck_assert_str_eq(there("{u1}:x"), one);
	/* A tag in the match is one upstream as it stands. */
	use(HASH_KEY_LINE "[namespace.a]\nmatch = \"{a}:\"\nhash_keys = true\n", NULL);
	ck_assert_int_eq(strncmp(there("{a}:x"), "a {a}:", 6), 0);
	ck_assert_uint_eq(strlen(there("{a}:x")), 6 + 32);
	free(one);
	free(two);
	finish();
}
END_TEST

/* ---- channels ---- */

START_TEST(channels)
{
	use("[namespace.news]\nmatch = [\"news:\", \"n:\"]\nchannel_prefix = \"shop:news:\"\nprefix = \"k:\"\n"
	    "[namespace.chat]\nprefix = \"c:\"\n",
	    NULL);
	ck_assert_str_eq(channel("news:1"), "news shop:news:1");
	ck_assert_str_eq(channel("n:1"), "news shop:news:1");
	ck_assert_str_eq(channel("shop:news:1"), "news shop:news:1");
	ck_assert_str_eq(channel("chat:1"), "chat chat:1");
	ck_assert_str_eq(channel("other"), "- other");
	ck_assert_str_eq(channel_back("shop:news:1"), "news news:1");
	ck_assert_str_eq(channel_back("news:1"), "");
	ck_assert_str_eq(channel_back("chat:1"), "chat chat:1");
	ck_assert_str_eq(channel_back("other"), "- other");
	ck_assert_str_eq(channel_pattern("news:*"), "shop:news:*");
	ck_assert_str_eq(channel_pattern("ne*"), "?*");
	ck_assert_str_eq(channel_pattern("ne"), "ne");
	ck_assert_str_eq(channel_pattern("other*"), "other*");
	use("[namespace.default]\nchannel_prefix = \"d:\"\n", NULL);
	ck_assert_str_eq(channel("x"), "default d:x");
	ck_assert_str_eq(channel_back("d:x"), "default x");
	ck_assert_str_eq(channel_back("x"), "");
	use("[namespace.news]\nchannel_prefix = \"p:\"\n[namespace.chat]\n", "news");
	ck_assert_str_eq(channel("x"), "news p:x");
	ck_assert_str_eq(channel("news:x"), "news p:news:x");
	ck_assert_str_eq(channel_back("p:x"), "news x");
	ck_assert_str_eq(channel_back("x"), "");
	view.bound = namespaces_named(all, "chat");
	ck_assert_str_eq(channel("x"), "chat x");
	ck_assert_str_eq(channel_back("x"), "chat x");
	finish();
}
END_TEST

/* ---- what is tracked ---- */

/* The beginnings with a blank behind each; "-": there are none. */
static const char *near_prefixes(size_t upstream)
{
	struct string_list list = {0};
	struct buf out = {0};

	namespaces_near_prefixes(all, upstream, &list);
	ck_assert(namespaces_near(all, upstream) == (list.n > 0));
	for (size_t i = 0; i < list.n; i++)
		buf_printf(&out, "%s ", list.items[i]);
	if (list.n == 0)
		buf_puts(&out, "-");
	string_list_clear(&list);
	return text_of(&out);
}

#define TWO "[upstream.main]\n[upstream.two]\nurl = \"redis://two\"\n"

START_TEST(near)
{
	use(TWO
	    "[namespace.a]\n[namespace.b]\nnear_cache = true\n[namespace.c]\nnear_cache = true\nprefix = \"shop:c:\"\n"
	    "match = [\"c:\", \"cc:\"]\n[namespace.d]\nnear_cache = true\nmatch = [\"d2:\", \"d1:\"]\n"
	    "[namespace.e]\nnear_cache = true\nupstream = \"two\"\n",
	    NULL);
	ck_assert_str_eq(near_prefixes(0), "b: d1: d2: shop:c: ");
	ck_assert_str_eq(near_prefixes(1), "e: ");
	ck_assert(namespaces_at(all, 1)->flags & NS_NEAR);
	/* None begins with another, whichever stands first. */
	use("[namespace.x]\nmatch = [\"ab\", \"a:long:\"]\nnear_cache = true\n"
	    "[namespace.y]\nmatch = [\"a:l\", \"abc:\", \"b:\"]\nnear_cache = true\n"
	    "[namespace.z]\nmatch = \"a:\"\nnear_cache = true\n",
	    NULL);
	ck_assert_str_eq(near_prefixes(0), "a: ab b: ");
	/* What clients say is not what is upstream. */
	use(HASH_KEY_LINE "[namespace.h]\nhash_keys = true\nnear_cache = true\n"
			  "[namespace.g]\nhash_keys = true\nprefix = \"x:\"\nnear_cache = true\n",
	    NULL);
	ck_assert_str_eq(near_prefixes(0), "h: x: ");
	use(TWO "[namespace.a]\n[namespace.default]\nprefix = \"d:\"\nnear_cache = true\n", NULL);
	ck_assert_str_eq(near_prefixes(0), "d: ");
	ck_assert_str_eq(near_prefixes(1), "-");
	finish();
}
END_TEST

START_TEST(near_any_key)
{
	struct buf text = {0};

	use(TWO "[namespace.a]\nnear_cache = true\n[namespace.default]\nnear_cache = true\n", NULL);
	ck_assert_str_eq(near_prefixes(0), " ");
	ck_assert_str_eq(near_prefixes(1), "-");
	use("[namespace.a]\nnear_cache = true\n[near_cache]\nmax_memory = 0\n", NULL);
	ck_assert_str_eq(near_prefixes(0), "-");
	for (unsigned i = 0; i < NAMESPACE_PREFIXES_MAX; i++)
		buf_printf(&text, "[namespace.n%u]\nmatch = \"n%02u:\"\nnear_cache = true\n", i, i);
	ck_assert(buf_append(&text, "", 1));
	use(buf_head(&text), NULL);
	ck_assert(strncmp(near_prefixes(0), "n00: n01: n02: ", 15) == 0);
	text.end--;
	buf_puts(&text, "[namespace.one_more]\nnear_cache = true\n");
	ck_assert(buf_append(&text, "", 1));
	use(buf_head(&text), NULL);
	ck_assert_str_eq(near_prefixes(0), " ");
	buf_release(&text);
	finish();
}
END_TEST

int main(void)
{
	TCase *names = tcase_create("names"), *others = tcase_create("others");
	TCase *cases[] = {names, others};

	tcase_add_test(names, longest_match);
	tcase_add_test(names, renamed);
	tcase_add_test(names, prefix_is_a_match);
	tcase_add_test(names, fallback);
	tcase_add_test(names, names_given_back_lead_there);
	tcase_add_test(names, thousands);
	tcase_add_test(names, strict);
	tcase_add_test(names, flags);
	tcase_add_test(others, bound);
	tcase_add_test(others, patterns);
	tcase_add_test(others, escapes);
	tcase_add_test(others, hashed_names);
	tcase_add_test(others, hash_tags);
	tcase_add_test(others, channels);
	tcase_add_test(others, near);
	tcase_add_test(others, near_any_key);
	return run_cases("namespace", cases, COUNT(cases));
}
