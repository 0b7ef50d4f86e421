/* SPDX-License-Identifier: BSD-2-Clause */
/* Rate limits without clients: the algorithm, the table of buckets, the rules of the configuration. */
#include <check.h>
#include <inttypes.h>
#include <pthread.h>

#include "base/buf.h"
#include "command/command.h"
#include "config_help.h"
#include "net/addr.h"
#include "policy/buckets.h"
#include "policy/leases.h"
#include "policy/limits.h"

#define SECOND INT64_C(1000000000)
#define MS     INT64_C(1000000)

/* ---- the algorithm ---- */

/*
 * What redis-cell's own test records for five at once and one a second (src/cell/mod.rs): when, how many, whether they
 * are refused, when all is there again, and when to try again.
 */
START_TEST(recorded)
{
	static const struct {
		int64_t now_ms, n, reset_ms, retry_ms;
	} cases[] = {
		{0, 1, 1000, 0},    {0, 1, 2000, 0},	{0, 1, 3000, 0},       {0, 1, 4000, 0},	   {0, 1, 5000, 0},
		{0, 1, 5000, 1000}, {3000, 1, 3000, 0}, {3100, 1, 3900, 0},    {4000, 1, 4000, 0}, {8000, 1, 1000, 0},
		{9500, 1, 1000, 0}, {9500, 2, 3000, 0}, {9500, 5, 3000, 3000},
	};
	int64_t start = 77 * SECOND, tat = 0;
	struct gcra g;

	gcra_init(&g, 1, SECOND, 5);
	for (int i = 0; i < COUNT(cases); i++) {
		int64_t now = start + cases[i].now_ms * MS, wait = gcra_wait(&g, tat, now, cases[i].n);

		ck_assert_msg(wait == cases[i].retry_ms * MS, "%d: %" PRId64, i, wait);
		if (wait == 0)
			tat = gcra_come(&g, tat, now, cases[i].n);
		ck_assert_int_eq(tat - now, cases[i].reset_ms * MS);
	}
}
END_TEST

/* What a rate lets pass: burst at once and exactly, then the rate. */
START_TEST(exact)
{
	static const struct {
		int64_t count, period_s, burst;
	} cases[] = {{1, 1, 1},	    {3, 1, 5},	     {7, 60, 3},	 {1000, 1, 2000},
		     {1, 86400, 1}, {999983, 1, 10}, {1000000, 1, 5000}, {1000000000, 1, 1000}};

	for (int i = 0; i < COUNT(cases); i++) {
		int64_t now = 5 * SECOND, tat = 0, passed = 0, period = cases[i].period_s * SECOND;
		int64_t step = period / cases[i].count / 3 + 1;
		struct gcra g;

		gcra_init(&g, cases[i].count, period, cases[i].burst);
		while (gcra_wait(&g, tat, now, 1) == 0 && passed <= cases[i].burst) {
			tat = gcra_come(&g, tat, now, 1);
			passed++;
		}
		ck_assert_int_eq(passed, cases[i].burst);
		passed = 0;
		for (int k = 0; k < 30000; k++) {
			now += step;
			if (gcra_wait(&g, tat, now, 1) > 0)
				continue;
			tat = gcra_come(&g, tat, now, 1);
			passed++;
		}
		ck_assert_msg(step < 1000 || llabs(passed - 30000 * step / (period / cases[i].count)) <= 1,
			      "%d: %" PRId64, i, passed);
	}
}
END_TEST

START_TEST(large)
{
	int64_t now = SECOND, tat = 0;
	struct gcra g;

	/* More than burst: when nothing is owed; and it is owed in full. */
	gcra_init(&g, 1000, SECOND, 100);
	ck_assert_int_eq(gcra_wait(&g, tat, now, 5000), 0);
	tat = gcra_come(&g, tat, now, 5000);
	ck_assert_int_eq(tat - now, 5 * SECOND);
	ck_assert_int_eq(gcra_wait(&g, tat, now, 1), 5 * SECOND - 99 * MS);
	ck_assert_int_eq(gcra_wait(&g, tat, now, 5000), 5 * SECOND);
	/* Nothing overflows. */
	gcra_init(&g, 1, 86400 * SECOND, INT64_C(1000000000000));
	ck_assert_int_eq(gcra_span(&g, INT64_MAX), GCRA_FOREVER);
	ck_assert_int_eq(gcra_wait(&g, now + GCRA_FOREVER, now, INT64_MAX), GCRA_FOREVER);
	ck_assert_int_gt(gcra_come(&g, now + GCRA_FOREVER, now, INT64_MAX), now);
}
END_TEST

/* ---- who ---- */

START_TEST(subjects)
{
	static const struct {
		const char *a, *b;
		bool same;
	} cases[] = {{"10.0.0.1:5", "10.0.0.1:6", true},
		     {"10.0.0.1:5", "10.0.0.2:5", false},
		     {"[2001:db8:1:2::1]:5", "[2001:db8:1:2:ffff::9]:6", true},
		     {"[2001:db8:1:2::1]:5", "[2001:db8:1:3::1]:5", false},
		     {"[::ffff:10.0.0.1]:5", "10.0.0.1:5", true},
		     {"[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.2]:5", false},
		     {"unix:/a", "unix:/b", true}};

	for (int i = 0; i < COUNT(cases); i++) {
		unsigned char one[ADDRESS_SUBJECT_MAX], two[ADDRESS_SUBJECT_MAX];
		struct address a, b;
		size_t n, m;

		ck_assert(address_parse(cases[i].a, &a) && address_parse(cases[i].b, &b));
		n = address_subject(&a, one);
		m = address_subject(&b, two);
		ck_assert_msg((n == m && memcmp(one, two, n) == 0) == cases[i].same, "%d", i);
	}
}
END_TEST

/* ---- buckets ---- */

static const unsigned char seed[BUCKETS_SEED_BYTES] = "0123456789abcde";

START_TEST(taking)
{
	struct buckets *b = buckets_new();
	uint64_t one = buckets_hash(seed, 1, "a", 1), two = buckets_hash(seed, 2, "a", 1);
	struct gcra g;

	ck_assert_uint_ne(one, two);
	ck_assert_uint_ne(one, buckets_hash(seed, 1, "b", 1));
	gcra_init(&g, 10, SECOND, 3);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(buckets_take(b, one, &g, 1, SECOND, 0), 0);
	ck_assert_int_eq(buckets_take(b, one, &g, 1, SECOND, 0), -1 - 100 * MS);
	ck_assert_int_eq(buckets_take(b, two, &g, 1, SECOND, 0), 0);
	/* It may wait: and is paid for. */
	ck_assert_int_eq(buckets_take(b, one, &g, 1, SECOND, 150 * MS), 100 * MS);
	ck_assert_int_eq(buckets_take(b, one, &g, 1, SECOND, 150 * MS), -1 - 200 * MS);
	buckets_give_back(b, one, &g, 1);
	buckets_give_back(b, one, &g, 1);
	ck_assert_int_eq(buckets_take(b, one, &g, 1, SECOND, 0), 0);
	/* A look. */
	ck_assert_int_eq(buckets_take(b, two, &g, 1, SECOND, -1), -1);
	ck_assert_int_eq(buckets_take(b, two, &g, 2, SECOND, 0), 0);
	buckets_unref(&b);
	ck_assert_ptr_null(b);
}
END_TEST

/* A flood of others does not make one's debt forgotten; nor does it make the table grow. */
START_TEST(flood)
{
	struct buckets *b = buckets_new();
	uint64_t mine = buckets_hash(seed, 1, "mine", 4);
	struct gcra g;
	uint64_t refused = 0;

	gcra_init(&g, 10, 3600 * SECOND, 10);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(buckets_take(b, mine, &g, 1, SECOND, 0), 0);
	for (uint32_t i = 0; i < 3000000; i++)
		refused += buckets_take(b, buckets_hash(seed, 1, &i, sizeof(i)), &g, 1, SECOND, 0) < 0;
	ck_assert_int_lt(buckets_take(b, mine, &g, 1, SECOND, 0), 0);
	/* 262,144 places of ten each, and not one more; nearly all of them used. */
	ck_assert_uint_ge(refused, 3000000 - 2621440);
	ck_assert_uint_le(refused, 3000000 - 2500000);
	/* When nothing is owed any more places are free again. */
	ck_assert_int_eq(buckets_take(b, buckets_hash(seed, 1, "other", 5), &g, 10, 7200 * SECOND, 0), 0);
	buckets_unref(&b);
}
END_TEST

static void *take_many(void *arg)
{
	struct buckets *b = arg;
	uint64_t hash = buckets_hash(seed, 1, "x", 1), taken = 0;
	struct gcra g;

	gcra_init(&g, 1, 3600 * SECOND, 100000);
	for (int i = 0; i < 60000; i++)
		taken += buckets_take(b, hash, &g, 1, SECOND, 0) >= 0;
	return (void *)(uintptr_t)taken;
}

START_TEST(threads)
{
	struct buckets *b = buckets_new();
	pthread_t running[4];
	uintptr_t all = 0;
	void *taken;

	for (int i = 0; i < COUNT(running); i++)
		ck_assert_int_eq(pthread_create(&running[i], NULL, take_many, b), 0);
	for (int i = 0; i < COUNT(running); i++) {
		pthread_join(running[i], &taken);
		all += (uintptr_t)taken;
	}
	ck_assert_uint_eq(all, 100000);
	buckets_unref(&b);
}
END_TEST

/* ---- leases ---- */

#define N_PROXIES 3

/* What limit_lease.c's script does, and three proxies who share it, in steps of a tenth of a millisecond. */
struct model {
	struct gcra g;
	int64_t unit, now, tat;
	struct leases *proxies[N_PROXIES];
	struct {
		struct lease_result ask;
		int64_t at; /* the script runs; the answer comes as long after it */
		int64_t grant, ahead;
		bool asked, ran;
	} way[N_PROXIES];
	int64_t rtt;
	uint64_t passed, offered, asks, refused, waiting, of[N_PROXIES];
	bool away;
};

static int64_t script(struct model *m, const struct lease_result *a, int64_t *ahead)
{
	int64_t room, grant;

	*ahead = m->tat > m->now ? m->tat - m->now : 0;
	room = a->most_ns - *ahead;
	grant = room / 2 / a->unit_ns * a->unit_ns;
	if (grant < a->unit_ns)
		grant = room >= a->unit_ns ? a->unit_ns : 0;
	if (grant > a->want_ns)
		grant = a->want_ns;
	m->tat = m->now + *ahead + grant;
	return grant;
}

static void answer(struct model *m, int i)
{
	struct lease_waiting waiting;

	if (!m->way[i].asked || m->now < m->way[i].at)
		return;
	if (!m->way[i].ran && !m->away) {
		m->way[i].grant = script(m, &m->way[i].ask, &m->way[i].ahead);
		m->way[i].ran = true;
		m->way[i].at = m->now + m->rtt / 2;
	} else if (m->way[i].ran) {
		m->way[i].asked = false;
		leases_granted(m->proxies[i], 1, m->way[i].ask.serial, m->way[i].grant, m->way[i].ahead, m->now,
			       &waiting);
	}
}

/* A command, which does not wait. */
static enum lease_verdict offer(struct model *m, int i, int64_t n)
{
	struct lease_result r;

	leases_take(m->proxies[i], 1, &m->g, m->unit, n, m->now, 0, 0, &r);
	m->offered++;
	m->passed += r.verdict == LEASE_TAKEN;
	m->of[i] += r.verdict == LEASE_TAKEN;
	m->refused += r.verdict == LEASE_REFUSED;
	m->waiting += r.verdict == LEASE_PENDING;
	if (r.ask) {
		ck_assert(!m->way[i].asked || m->away);
		m->way[i].ask = r;
		m->way[i].asked = true;
		m->way[i].ran = false;
		m->way[i].at = m->now + m->rtt / 2;
		m->asks++;
	}
	return r.verdict;
}

static void model_begin(struct model *m, int64_t count, int64_t period_s, int64_t burst, int64_t rtt)
{
	*m = (struct model){.now = 100 * SECOND, .rtt = rtt};
	gcra_init(&m->g, count, period_s * SECOND, burst);
	m->unit = gcra_span(&m->g, 1);
	for (int i = 0; i < N_PROXIES; i++)
		m->proxies[i] = leases_new();
}

static void model_end(struct model *m)
{
	for (int i = 0; i < N_PROXIES; i++)
		leases_free(&m->proxies[i]);
}

START_TEST(sharing)
{
	static const struct {
		int64_t rate, burst, per_s[N_PROXIES], rtt;
	} cases[] = {
		{1000, 1000, {1000, 1000, 1000}, MS / 2}, {1000, 100, {3000, 3000, 3000}, MS / 2},
		{1000, 10, {3000, 3000, 3000}, MS / 2},	  {1000, 1000, {9000, 500, 100}, 2 * MS},
		{200, 50, {500, 500, 500}, MS},		  {20000, 20000, {10000, 10000, 10000}, MS},
		{50, 100, {300, 300, 300}, MS},		  {10000, 100, {6000, 6000, 6000}, MS},
	};

	for (int k = 0; k < COUNT(cases); k++) {
		double credit[N_PROXIES] = {0}, budget;
		struct model m;
		int64_t began;

		model_begin(&m, cases[k].rate, 1, cases[k].burst, cases[k].rtt);
		began = m.now;
		for (int step = 0; step < 100000; step++, m.now += MS / 10) {
			for (int i = 0; i < N_PROXIES; i++) {
				answer(&m, i);
				for (credit[i] += (double)cases[k].per_s[i] / 10000; credit[i] >= 1; credit[i] -= 1)
					offer(&m, i, 1);
			}
			budget = (double)cases[k].burst + (double)cases[k].rate * (double)(m.now - began) / SECOND;
			ck_assert_msg((double)m.passed <= budget + 1, "%d: %d: %g", k, step, budget);
		}
		if (getenv("VERBOSE"))
			printf("%d: passed %g of the budget, asks %g of the requests, %g of what passed; %g %g %g\n", k,
			       (double)m.passed / budget, (double)m.asks / (double)m.offered,
			       (double)m.asks / (double)m.passed, (double)m.of[0] / (double)m.passed,
			       (double)m.of[1] / (double)m.passed, (double)m.of[2] / (double)m.passed);
		ck_assert_msg((double)m.passed >= 0.95 * budget, "%d: %g of %g", k, (double)m.passed, budget);
		ck_assert_msg((double)m.asks <= 0.05 * (double)m.offered, "%d: %g of %g", k, (double)m.asks,
			      (double)m.offered);
		model_end(&m);
	}
}
END_TEST

/* Bytes: what is larger than burst is leased as a whole, passes when nothing is owed, and all proxies pay it off. */
START_TEST(large_leased)
{
	struct model m;
	int64_t began, n = 0;

	model_begin(&m, 1000, 1, 100, MS);
	m.unit = 1;
	began = m.now;
	for (int step = 0; step < 100000; step++, m.now += MS / 10) {
		for (int i = 0; i < N_PROXIES; i++) {
			answer(&m, i);
			n += offer(&m, i, 500) == LEASE_TAKEN ? 500 : 0;
		}
		ck_assert_int_le(n, 500 + 1000 * (m.now - began) / SECOND);
	}
	ck_assert_int_ge(n, 2500);
	ck_assert_uint_le(m.asks * 20, m.offered);
	model_end(&m);
}
END_TEST

/* Less than the budget: all of it passes, or waits a round trip. */
START_TEST(below_the_budget)
{
	struct model m;
	uint64_t first;

	model_begin(&m, 1000, 1, 500, MS);
	for (int step = 0; step < 50000; step++, m.now += MS / 10) {
		for (int i = 0; i < N_PROXIES; i++)
			answer(&m, i);
		if (step % 33 == 0)
			offer(&m, step / 33 % N_PROXIES, 1);
		if (step == 10000)
			first = m.waiting;
	}
	ck_assert_uint_eq(m.refused, 0);
	ck_assert_uint_eq(m.waiting, first);
	ck_assert_uint_le(m.waiting, 20);
	ck_assert_uint_le(m.asks * 20, m.offered);
	model_end(&m);
}
END_TEST

START_TEST(no_answer)
{
	struct lease_waiting waiting;
	struct lease_result r;
	struct model m;

	model_begin(&m, 1000, 1, 100, MS);
	m.away = true;
	ck_assert_int_eq(offer(&m, 0, 1), LEASE_PENDING);
	m.now += 249 * MS;
	ck_assert_int_eq(offer(&m, 0, 1), LEASE_PENDING);
	m.now += 1 * MS;
	ck_assert_int_eq(offer(&m, 0, 1), LEASE_LOCAL);
	/* Too late. */
	leases_granted(m.proxies[0], 1, m.way[0].ask.serial, MS, 0, m.now, &waiting);
	ck_assert_int_eq(offer(&m, 0, 1), LEASE_LOCAL);
	m.now += 1000 * MS;
	leases_take(m.proxies[0], 1, &m.g, MS, 1, m.now, 0, 67, &r);
	ck_assert(r.verdict == LEASE_PENDING && r.ask);
	leases_granted(m.proxies[0], 1, r.serial, -1, 0, m.now, &waiting);
	ck_assert_uint_eq(waiting.bits[1], 1 << 3);
	ck_assert_int_eq(offer(&m, 0, 1), LEASE_LOCAL);
	model_end(&m);
}
END_TEST

/* A lease that nobody uses is void; and many subjects have no more room than there is. */
START_TEST(void_and_full)
{
	struct lease_waiting waiting;
	struct lease_result r;
	uint64_t local = 0;
	struct model m;

	model_begin(&m, 10, 1, 10, MS);
	leases_take(m.proxies[0], 1, &m.g, m.unit, 1, m.now, 0, 0, &r);
	leases_granted(m.proxies[0], 1, r.serial, 5 * m.unit, 0, m.now, &waiting);
	ck_assert_int_eq(offer(&m, 0, 5), LEASE_TAKEN);
	leases_give_back(m.proxies[0], 1, &m.g, 5);
	for (int i = 0; i < 1100; i++, m.now += MS)
		answer(&m, 0);
	ck_assert_int_eq(offer(&m, 0, 1), LEASE_PENDING);
	for (uint64_t i = 2; i < 100000; i++) {
		leases_take(m.proxies[1], i * 0x9e3779b97f4a7c15u, &m.g, m.unit, 1, m.now, 0, 0, &r);
		local += r.verdict == LEASE_LOCAL;
	}
	ck_assert_uint_ge(local, 99998 - 32768);
	ck_assert_uint_le(local, 99998 - 30000);
	model_end(&m);
}
END_TEST

/* ---- rules ---- */

static const struct command *named(const char *name, const char *sub)
{
	return command_find(NULL, name, strlen(name), sub, sub ? strlen(sub) : 0);
}

START_TEST(wanted)
{
	struct limits *l;

	good("[[rate_limit]]\nname = \"a\"\nrate = \"1/s\"\n"
	     "[[rate_limit]]\nname = \"b\"\nrate = \"1/s\"\ncommands = [\"@write\", \"GET\", \"config|set\", "
	     "\"client\"]\n"
	     "[[rate_limit]]\nname = \"c\"\nrate = \"1/s\"\nmatch = \"x:\"\n"
	     "[[rate_limit]]\nname = \"d\"\nrate = \"1/s\"\non = \"connections\"\n"
	     "[[rate_limit]]\nname = \"e\"\nrate = \"1/s\"\ncommands = \"@all\"\nper = \"key\"\n");
	l = limits_new(config);
	ck_assert(l->any_on_commands && l->any_on_connections);
	ck_assert_uint_eq(limits_of(l, named("get", NULL)), 1 | 2 | 4 | 16);
	ck_assert_uint_eq(limits_of(l, named("strlen", NULL)), 1 | 4 | 16);
	ck_assert_uint_eq(limits_of(l, named("set", NULL)), 1 | 2 | 4 | 16);
	ck_assert_uint_eq(limits_of(l, named("config", "set")), 1 | 2);
	ck_assert_uint_eq(limits_of(l, named("config", "get")), 1);
	ck_assert_uint_eq(limits_of(l, named("client", "list")), 2);
	ck_assert_uint_eq(limits_of(l, named("ping", NULL)), 0);
	ck_assert_uint_eq(limits_of(l, named("exec", NULL)), 0);
	ck_assert_uint_eq(limits_of(l, named("dbsize", NULL)), 1);
	ck_assert(limit_matches(&l->rules[2], "x:1", 3) && !limit_matches(&l->rules[2], "x", 1));
	ck_assert(limit_matches(&l->rules[0], "", 0));
	limits_free(&l);
	good("");
	ck_assert_ptr_null(limits_new(config));
}
END_TEST

START_TEST(values)
{
	char *text;

	good("[[rate_limit]]\nname = \"a\"\nrate = \"10k/m\"\n[[rate_limit]]\nname = \"b\"\nrate = \"1/d\"\nburst = "
	     "\"1mb\"\n"
	     "cost = \"bytes\"\naction = \"delay\"\nmax_delay = \"250ms\"\nper = \"user\"\ndry_run = true\nmatch = "
	     "[\"x\", \"y\"]\n");
	ck_assert_uint_eq(config->n_limits, 2);
	ck_assert_int_eq(config->limits[0].rate.count, 10000);
	ck_assert_int_eq(config->limits[0].rate.period_s, 60);
	ck_assert_int_eq(config->limits[0].burst, 166);
	ck_assert_int_eq(config->limits[1].burst, 1 << 20);
	ck_assert_int_eq(config->limits[1].max_delay_ms, 250);
	text = dumped();
	good(text);
	free(text);
	ck_assert_uint_eq(config->n_limits, 2);
	ck_assert_int_eq(config->limits[1].rate.period_s, 86400);
	good("[[rate_limit]]\nname = \"a\"\nrate = \"1/h\"\n");
	ck_assert_int_eq(config->limits[0].burst, 1);
}
END_TEST

#define RULE "[[rate_limit]]\nname = \"a\"\n"

START_TEST(mistakes)
{
	static const char *const wrong[] = {"\"5\"",	"\"/s\"",   "\"5/\"",
					    "\"5/w\"",	"\"x/s\"",  "\"5/ss\"",
					    "\"-5/s\"", "\"0/s\"",  "\"99999999999999/s\"",
					    "5",	"\"1.5/s\""};

	for (int i = 0; i < COUNT(wrong); i++) {
		char *text = xasprintf(RULE "rate = %s\n", wrong[i]);

		load(text);
		ck_assert_msg(problems.n == 1 && problems.items[0].line == 3 && problems.items[0].col == 8 &&
				      strncmp(problems.items[0].text, "rate_limit.rate must be ", 24) == 0,
			      "%s", wrong[i]);
		free(text);
	}
	bad(RULE, "t.toml:1:1: rate_limit.rate must be given\n");
	bad("[[rate_limit]]\nrate = \"1/s\"\n", "t.toml:1:1: rate_limit.name must be given\n");
	bad("[[rate_limit]]\nname = \"a b\"\nrate = \"1/s\"\n",
	    "t.toml:2:8: rate_limit.name must have 1 to 64 letters, digits, _ and -\n");
	bad(RULE "rate = \"1/s\"\n" RULE "rate = \"1/s\"\n",
	    "t.toml:5:8: rate_limit.name: \"a\" is that of another [[rate_limit]]\n");
	bad(RULE "rate = \"1/s\"\ncommands = [\"get\",\n \"gett\", \"@rite\", \"config|x\", \"exec\"]\n",
	    "t.toml:5:2: rate_limit.commands: there is no command gett\n"
	    "t.toml:5:10: rate_limit.commands: there is no category @rite\n"
	    "t.toml:5:19: rate_limit.commands: there is no command config|x\n"
	    "t.toml:5:31: rate_limit.commands: exec is never limited\n");
	bad(RULE "rate = \"1/s\"\non = \"connections\"\nper = \"key\"\nmatch = \"x\"\naction = \"delay\"\n",
	    "t.toml:5:7: rate_limit.per does not go with on = \"connections\"\n"
	    "t.toml:6:9: rate_limit.match does not go with on = \"connections\"\n"
	    "t.toml:7:10: rate_limit.action does not go with on = \"connections\"\n");
	bad("[rate_limit]\nname = \"a\"\n", "t.toml:1:2: rate_limit must be a list of tables: [[rate_limit]]\n");
	bad("[[rate_limits]]\nname = \"a\"\n",
	    "t.toml:1:3: unknown table [rate_limits], did you mean [[rate_limit]]?\n");
	bad("burst = 5\n", "t.toml:1:1: unknown key burst outside of any table, it belongs in [[rate_limit]]\n");
}
END_TEST

START_TEST(too_many)
{
	struct buf text = {0};

	for (int i = 0; i <= RATE_LIMITS_MAX; i++)
		buf_printf(&text, "[[rate_limit]]\nname = \"r%d\"\nrate = \"1/s\"\n", i);
	buf_put(&text, "", 1);
	bad(buf_head(&text), "t.toml:194:8: there may be 64 [[rate_limit]] at most\n");
	buf_release(&text);
}
END_TEST

START_TEST(set)
{
	const char *sets[] = {"rate_limit=[{name = \"x\", rate = \"5/s\"}]", "rate_limit.rate=5/s"};
	struct config_source source = {.set = sets, .n_set = 1};

	load_source(&source, NULL);
	ck_assert_int_eq(config->limits[0].rate.count, 5);
	source.n_set = 2;
	load_source(&source, NULL);
	expect_said("--set: rate_limit is set as a list: rate_limit=[{name = \"...\", rate = \"...\"}]\n");
}
END_TEST

int main(void)
{
	TCase *numbers = tcase_create("algorithm"), *table = tcase_create("buckets"), *shared = tcase_create("leases"),
	      *rules = tcase_create("rules");
	TCase *cases[] = {numbers, table, shared, rules};

	command_init();
	tcase_add_test(numbers, recorded);
	tcase_add_test(numbers, exact);
	tcase_add_test(numbers, large);
	tcase_add_test(numbers, subjects);
	tcase_add_test(table, taking);
	tcase_add_test(table, flood);
	tcase_add_test(table, threads);
	tcase_set_timeout(table, 60);
	tcase_add_test(shared, sharing);
	tcase_add_test(shared, large_leased);
	tcase_add_test(shared, below_the_budget);
	tcase_add_test(shared, no_answer);
	tcase_add_test(shared, void_and_full);
	tcase_set_timeout(shared, 60);
	tcase_add_test(rules, wanted);
	tcase_add_test(rules, values);
	tcase_add_test(rules, mistakes);
	tcase_add_test(rules, too_many);
	tcase_add_test(rules, set);
	return run_cases("rate limits", cases, COUNT(cases));
}
