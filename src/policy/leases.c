/* SPDX-License-Identifier: BSD-2-Clause */
/* See leases.h. */
#include "policy/leases.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define WAYS	 4
#define N_SETS	 ((size_t)1 << 13) /* 32,768 subjects, 6 MB */
#define N_SHARDS 64

#define MS	     INT64_C(1000000)
#define INTERVAL_MIN (100 * MS)
#define INTERVAL_MAX (1000 * MS)
#define ENOUGH	     50 /* commands that are worth a round trip */
#define LEASE_AHEAD  2
#define VOID_AFTER   (1000 * MS)
#define GIVE_UP	     (250 * MS)	 /* no answer for so long: there is none */
#define LOCAL_FOR    (1000 * MS) /* then it is asked again */
#define SURGE	     (10 * MS)	 /* asked again so soon: twice as much is asked for */

/* A part of the schedule. */
struct span {
	int64_t from, to;
	int64_t void_ns;
};

struct lease {
	uint64_t hash; /* 0: nobody's */
	struct span spans[2];
	int64_t seen_ns;
	int64_t asked_ns; /* last */
	int64_t next_ask_ns;
	int64_t interval_ns;
	int64_t local_until_ns;
	int64_t room_ns; /* by the last answer there is something to be had again */
	int64_t want_ns; /* of the last ask */
	int64_t tolerance_ns;
	int64_t least_ns;   /* with the schedule further ahead nothing is granted */
	int64_t tat;	    /* of what passed here: no proxy lets more than burst through at once */
	int64_t offered_ns; /* what came since, whether it passed or not */
	int64_t offered;    /* in commands */
	uint32_t serial;
	bool in_flight;
	struct lease_waiting waiting;
};

struct shard {
	_Alignas(64) pthread_mutex_t lock;
};

struct leases {
	struct shard shards[N_SHARDS];
	struct lease (*sets)[WAYS];
};

struct leases *leases_new(void)
{
	struct leases *l = aligned_alloc(_Alignof(struct shard), sizeof(*l));

	if (!l)
		abort();
	for (size_t i = 0; i < N_SHARDS; i++)
		pthread_mutex_init(&l->shards[i].lock, NULL);
	l->sets = xcalloc(N_SETS, sizeof(*l->sets));
	return l;
}

void leases_free(struct leases **lp)
{
	struct leases *l = *lp;

	*lp = NULL;
	if (!l)
		return;
	for (size_t i = 0; i < N_SHARDS; i++)
		pthread_mutex_destroy(&l->shards[i].lock);
	free(l->sets);
	free(l);
}

/* ---- a place ---- */

static struct lease *lock_set(struct leases *l, uint64_t hash, struct shard **shard)
{
	size_t i = (size_t)(hash >> 32) % N_SETS;

	*shard = &l->shards[i % N_SHARDS];
	pthread_mutex_lock(&(*shard)->lock);
	return l->sets[i];
}

static bool is_idle(const struct lease *e, int64_t now_ns)
{
	return e->hash == 0 || (now_ns - e->seen_ns > 2 * VOID_AFTER && now_ns - e->asked_ns > 2 * VOID_AFTER);
}

static struct lease *find(struct lease *set, uint64_t hash)
{
	for (size_t i = 0; i < WAYS; i++)
		if (set[i].hash == hash)
			return &set[i];
	return NULL;
}

/* NULL: all places are in use. */
static struct lease *make(struct lease *set, uint64_t hash, int64_t now_ns)
{
	for (size_t i = 0; i < WAYS; i++) {
		struct lease *e = &set[i];

		if (!is_idle(e, now_ns))
			continue;
		*e = (struct lease){
			.hash = hash,
			.asked_ns = now_ns,
			.interval_ns = INTERVAL_MIN,
			.serial = e->serial + 1, /* an old answer is not taken for its own */
		};
		return e;
	}
	return NULL;
}

static struct lease *find_or_make(struct lease *set, uint64_t hash, int64_t now_ns)
{
	struct lease *e = find(set, hash);

	if (!e)
		e = make(set, hash, now_ns);
	if (e)
		e->seen_ns = now_ns;
	return e;
}

/* ---- what was leased ---- */

static int64_t left_in(const struct span *s, int64_t now_ns)
{
	return now_ns < s->void_ns ? s->to - s->from : 0;
}

/* Of what is larger than burst all must be there, and it comes when nothing is owed. */
static int64_t tolerance_for(const struct gcra *g, int64_t need)
{
	return need > g->tolerance_ns ? need : g->tolerance_ns;
}

/* The wait for `need`, which is there; taken or not. */
static int64_t wait_for(const struct lease *e, const struct gcra *g, int64_t need, int64_t now_ns)
{
	int64_t first = left_in(&e->spans[0], now_ns);
	int64_t to = need <= first ? e->spans[0].from + need : e->spans[1].from + need - first;
	int64_t turn = to - tolerance_for(g, need);

	return turn > now_ns ? turn - now_ns : 0;
}

static void take(struct lease *e, int64_t need, int64_t now_ns)
{
	int64_t first = left_in(&e->spans[0], now_ns);

	e->tat = (e->tat > now_ns ? e->tat : now_ns) + need;
	if (need <= first) {
		e->spans[0].from += need; /* an empty one stays: it may be given back */
		return;
	}
	e->spans[0] = e->spans[1];
	e->spans[0].from += need - first;
	e->spans[1] = (struct span){0, 0, 0};
}

static int64_t left(const struct lease *e, int64_t now_ns)
{
	return left_in(&e->spans[0], now_ns) + left_in(&e->spans[1], now_ns);
}

/* ---- asking ---- */

static int64_t clamp(int64_t n, int64_t low, int64_t high)
{
	return n < low ? low : n > high ? high : n;
}

/* How long what is asked for shall last: the fewer come, the longer. */
static int64_t interval_of(const struct lease *e, int64_t elapsed)
{
	if (e->offered <= 0)
		return INTERVAL_MAX;
	return clamp(elapsed / e->offered * ENOUGH, INTERVAL_MIN, INTERVAL_MAX);
}

/* By what came since the last time. */
static int64_t want_of(const struct lease *e, int64_t elapsed, int64_t need)
{
	__int128 want;

	if (elapsed < SURGE)
		return e->want_ns > need / 2 ? 2 * e->want_ns : need;
	want = (__int128)e->offered_ns * e->interval_ns / elapsed;
	return want > GCRA_FOREVER ? GCRA_FOREVER : (int64_t)want;
}

static int64_t whole(int64_t ns, int64_t unit_ns)
{
	return (ns + unit_ns - 1) / unit_ns * unit_ns;
}

static void ask(struct lease *e, const struct gcra *g, int64_t unit_ns, int64_t need, int64_t now_ns,
		struct lease_result *out)
{
	int64_t elapsed = now_ns - e->asked_ns, most;

	if (elapsed >= SURGE)
		e->interval_ns = interval_of(e, elapsed);
	e->least_ns = g->tolerance_ns + LEASE_AHEAD * e->interval_ns - unit_ns;
	out->far_ns = unit_ns == 1 ? GCRA_FOREVER : g->tolerance_ns + LEASE_AHEAD * INTERVAL_MAX;
	if (need > g->tolerance_ns)
		unit_ns = need; /* all of it, or nothing */
	/* Of the rate no more than the interval gives; of what is saved up an eighth, for there are others. */
	most = e->interval_ns > g->tolerance_ns / 8 ? e->interval_ns : g->tolerance_ns / 8;
	e->want_ns = whole(clamp(want_of(e, elapsed, need), need, most > need ? most : need), unit_ns);
	e->tolerance_ns = tolerance_for(g, need);
	e->asked_ns = now_ns;
	e->offered = 0;
	e->offered_ns = 0;
	e->in_flight = true;
	out->ask = true;
	out->unit_ns = unit_ns;
	out->want_ns = e->want_ns;
	out->most_ns = e->tolerance_ns + LEASE_AHEAD * e->interval_ns;
	out->serial = ++e->serial;
}

/* The answer has not come in time. */
static void look_at_time(struct lease *e, int64_t now_ns)
{
	if (!e->in_flight || now_ns - e->asked_ns < GIVE_UP)
		return;
	e->in_flight = false;
	e->local_until_ns = now_ns + LOCAL_FOR;
}

static void pending(struct lease *e, int64_t now_ns, unsigned waits_here, struct lease_result *out)
{
	e->waiting.bits[waits_here / 64 % 4] |= (uint64_t)1 << waits_here % 64;
	out->verdict = LEASE_PENDING;
	out->ns = e->asked_ns + GIVE_UP - now_ns;
}

/* Nothing that would do is here. */
static void lack(struct lease *e, const struct gcra *g, int64_t unit_ns, int64_t need, int64_t now_ns,
		 unsigned waits_here, struct lease_result *out)
{
	if (now_ns < e->local_until_ns) {
		out->verdict = LEASE_LOCAL;
	} else if (e->in_flight || now_ns >= e->next_ask_ns) {
		if (!e->in_flight)
			ask(e, g, unit_ns, need, now_ns, out);
		pending(e, now_ns, waits_here, out);
	} else {
		out->verdict = LEASE_REFUSED;
		out->ns = (e->room_ns > e->next_ask_ns ? e->room_ns : e->next_ask_ns) - now_ns;
	}
}

/* What it has leased may come in how long; out of what passed here lately, too. */
static int64_t own_wait(const struct lease *e, const struct gcra *g, int64_t n, int64_t need, int64_t now_ns)
{
	int64_t wait = wait_for(e, g, need, now_ns), own = gcra_wait(g, e->tat, now_ns, n);

	return wait > own ? wait : own;
}

static int64_t need_of(const struct gcra *g, int64_t n)
{
	int64_t span = gcra_span(g, n);

	return span > 0 ? span : 1;
}

void leases_take(struct leases *l, uint64_t hash, const struct gcra *g, int64_t unit_ns, int64_t n, int64_t now_ns,
		 int64_t max_wait_ns, unsigned waits_here, struct lease_result *out)
{
	struct shard *shard;
	struct lease *e = find_or_make(lock_set(l, hash, &shard), hash, now_ns);
	int64_t need = need_of(g, n);

	*out = (struct lease_result){.verdict = LEASE_LOCAL};
	if (e) {
		e->offered_ns += e->offered_ns < GCRA_FOREVER ? need : 0;
		e->offered++;
		look_at_time(e, now_ns);
		if (left(e, now_ns) < need) {
			lack(e, g, unit_ns, need, now_ns, waits_here, out);
		} else {
			out->ns = own_wait(e, g, n, need, now_ns);
			out->verdict = out->ns <= max_wait_ns ? LEASE_TAKEN : LEASE_REFUSED;
			if (out->verdict == LEASE_TAKEN)
				take(e, need, now_ns);
			/* Before it runs out. */
			if (left(e, now_ns) < e->want_ns / 2 && !e->in_flight && now_ns >= e->next_ask_ns &&
			    now_ns >= e->local_until_ns)
				ask(e, g, unit_ns, need, now_ns, out);
		}
	}
	pthread_mutex_unlock(&shard->lock);
}

void leases_give_back(struct leases *l, uint64_t hash, const struct gcra *g, int64_t n)
{
	struct shard *shard;
	struct lease *e = find(lock_set(l, hash, &shard), hash);

	if (e)
		e->tat -= need_of(g, n);
	/* Where there is no span it is lost: less passes, never more. */
	if (e && e->spans[0].to > 0)
		e->spans[0].from -= need_of(g, n);
	pthread_mutex_unlock(&shard->lock);
}

static void put(struct lease *e, int64_t grant_ns, int64_t from, int64_t now_ns)
{
	int64_t turn = from + grant_ns - e->tolerance_ns;
	struct span fresh = {from, from + grant_ns, (turn > now_ns ? turn : now_ns) + VOID_AFTER};

	if (left_in(&e->spans[0], now_ns) == 0) {
		e->spans[0] = e->spans[1];
		e->spans[1] = (struct span){0, 0, 0};
	}
	if (left_in(&e->spans[0], now_ns) == 0) {
		e->spans[0] = fresh;
		return;
	}
	/* What is left in the second passes right before it: later than it might, never sooner. */
	fresh.from -= left_in(&e->spans[1], now_ns);
	e->spans[1] = fresh;
}

/* There is nothing saved up any more: what is still granted is of the future. */
static bool is_used_up(const struct lease *e, int64_t grant_ns, int64_t ahead_ns)
{
	return grant_ns == 0 || (grant_ns > 0 && grant_ns < e->want_ns && ahead_ns + grant_ns > e->tolerance_ns);
}

/* After an interval, and when there is room, but not in step with others who share the budget. */
static int64_t next_ask_of(const struct lease *e)
{
	int64_t chance = e->interval_ns * (int64_t)(e->hash * e->serial >> 56) / 512;
	int64_t room = clamp(e->room_ns, e->asked_ns, e->asked_ns + INTERVAL_MAX);
	int64_t interval = e->asked_ns + e->interval_ns * 3 / 4;

	return (room > interval ? room : interval) + chance;
}

void leases_granted(struct leases *l, uint64_t hash, uint32_t serial, int64_t grant_ns, int64_t ahead_ns,
		    int64_t now_ns, struct lease_waiting *waiting)
{
	struct shard *shard;
	struct lease *e = find(lock_set(l, hash, &shard), hash);

	*waiting = (struct lease_waiting){{0}};
	if (e && e->serial == serial && e->in_flight) {
		e->in_flight = false;
		*waiting = e->waiting;
		e->waiting = (struct lease_waiting){{0}};
		if (grant_ns < 0)
			e->local_until_ns = now_ns + LOCAL_FOR;
		else if (grant_ns > 0)
			put(e, grant_ns, now_ns + ahead_ns, now_ns);
		e->room_ns = grant_ns < 0 ? 0 : now_ns + ahead_ns + grant_ns - e->least_ns;
		if (is_used_up(e, grant_ns, ahead_ns))
			e->next_ask_ns = next_ask_of(e);
	}
	pthread_mutex_unlock(&shard->lock);
}
