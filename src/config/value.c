/* SPDX-License-Identifier: BSD-2-Clause */
/* Durations, sizes and words: see value.h. */
#include "config/value.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit duration_units[] = {
	{"d", INT64_C(86400000000)},
	{"h", INT64_C(3600000000)},
	{"m", 60000000},
	{"s", 1000000},
	{"ms", 1000},
	{"us", 1},
};

/* As redis.conf has them: with a "b" binary, without decimal. */
static const struct unit size_units[] = {
	{"gb", INT64_C(1) << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}, {"g", 1000000000},
	{"m", 1000000},		  {"k", 1000},	   {"b", 1},
};

#define N_DURATION_UNITS (sizeof(duration_units) / sizeof(*duration_units))
#define N_SIZE_UNITS	 (sizeof(size_units) / sizeof(*size_units))

static const char not_duration[] =
	"must be a duration: \"250ms\", \"5s\", \"1m\", \"1h\", \"1d\", or a number of seconds";
static const char not_size[] = "must be a size: \"64kb\", \"512mb\", \"1gb\", or a number of bytes";
static const char too_large[] = "is too large a number";
static const char too_fine[] = "is finer than a microsecond";

/* Digits at *s into *n, *s moved behind them. */
static const char *take_digits(const char **s, int64_t *n)
{
	const char *at = *s;

	*n = 0;
	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(*n, 10, n) || __builtin_add_overflow(*n, *at - '0', n))
			return too_large;
	}
	*s = at;
	return NULL;
}

static const struct unit *find_unit(const struct unit *units, size_t n, const char *name, bool any_case)
{
	for (size_t i = 0; i < n; i++) {
		if ((any_case ? strcasecmp : strcmp)(units[i].name, name) == 0)
			return &units[i];
	}
	return NULL;
}

/* ".25" at *s in millionths; a million of them times a day in microseconds is far from the end of an int64_t. */
static const char *take_fraction(const char **s, int64_t *millionths)
{
	const char *at = *s + 1;
	int64_t weight = 1000000;

	*millionths = 0;
	if (*at < '0' || *at > '9')
		return not_duration;
	for (; *at >= '0' && *at <= '9'; at++) {
		weight /= 10;
		if (weight == 0 && *at != '0')
			return too_fine;
		*millionths += weight * (*at - '0');
	}
	*s = at;
	return NULL;
}

const char *value_duration(const char *text, int64_t *us)
{
	int64_t whole, millionths = 0;
	const struct unit *unit;
	const char *why;

	if (strcmp(text, "0") == 0) {
		*us = 0;
		return NULL;
	}
	if (*text < '0' || *text > '9')
		return not_duration;
	why = take_digits(&text, &whole);
	if (!why && *text == '.')
		why = take_fraction(&text, &millionths);
	if (why)
		return why;
	unit = find_unit(duration_units, N_DURATION_UNITS, text, false);
	if (!unit)
		return *text ? not_duration
			     : "needs a unit (us, ms, s, m, h or d), or stands without quotes for seconds";
	if (__builtin_mul_overflow(whole, unit->factor, us))
		return too_large;
	millionths *= unit->factor;
	if (millionths % 1000000)
		return too_fine;
	return __builtin_add_overflow(*us, millionths / 1000000, us) ? too_large : NULL;
}

const char *value_seconds(double seconds, int64_t *us)
{
	double exact = seconds * 1e6;

	if (!isfinite(seconds))
		return not_duration;
	if (fabs(exact) >= 9e18)
		return too_large;
	*us = llround(exact);
	/* 0.1 is not exactly 0.1: what is left over from rounding does not count, a number written finer does. */
	if (fabs(exact - (double)*us) > 1e-3 + fabs(exact) * 1e-12)
		return too_fine;
	return NULL;
}

const char *value_size(const char *text, int64_t *bytes)
{
	const struct unit *unit;
	const char *why;

	if (*text < '0' || *text > '9')
		return not_size;
	why = take_digits(&text, bytes);
	if (why || !*text)
		return why;
	unit = find_unit(size_units, N_SIZE_UNITS, text, true);
	if (!unit)
		return not_size;
	return __builtin_mul_overflow(*bytes, unit->factor, bytes) ? too_large : NULL;
}

static const struct rate_unit {
	char name;
	int64_t seconds;
} rate_units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};

#define N_RATE_UNITS (sizeof(rate_units) / sizeof(*rate_units))
#define RATE_MAX     INT64_C(1000000000000)

const char *value_rate(const char *text, struct rate *rate)
{
	static const char not_rate[] = "must be a rate: \"1000/s\", \"100/m\", \"10/h\", \"1/d\"";
	const char *slash = strchr(text, '/');
	char number[VALUE_TEXT_MAX];
	size_t n = slash ? (size_t)(slash - text) : 0;
	int64_t count;

	if (n == 0 || n >= sizeof(number) || strlen(slash) != 2)
		return not_rate;
	memcpy(number, text, n);
	number[n] = '\0';
	if (value_size(number, &count))
		return not_rate;
	if (count < 1 || count > RATE_MAX)
		return "must be from 1 to 1000000000000 in its time";
	for (size_t i = 0; i < N_RATE_UNITS; i++) {
		if (rate_units[i].name == slash[1]) {
			*rate = (struct rate){count, rate_units[i].seconds};
			return NULL;
		}
	}
	return not_rate;
}

void value_format_rate(const struct rate *rate, char out[VALUE_TEXT_MAX])
{
	char unit = 's';

	for (size_t i = 0; i < N_RATE_UNITS; i++)
		if (rate_units[i].seconds == rate->period_s)
			unit = rate_units[i].name;
	snprintf(out, VALUE_TEXT_MAX, "%" PRId64 "/%c", rate->count, unit);
}

void value_format_duration(int64_t us, char out[VALUE_TEXT_MAX])
{
	size_t i = 0;

	if (us == 0) {
		snprintf(out, VALUE_TEXT_MAX, "0");
		return;
	}
	while (us % duration_units[i].factor)
		i++;
	snprintf(out, VALUE_TEXT_MAX, "%" PRId64 "%s", us / duration_units[i].factor, duration_units[i].name);
}

void value_format_size(int64_t bytes, char out[VALUE_TEXT_MAX])
{
	for (size_t i = 0; i < 3 && bytes > 0; i++) { /* gb, mb, kb */
		if (bytes % size_units[i].factor == 0) {
			snprintf(out, VALUE_TEXT_MAX, "%" PRId64 "%s", bytes / size_units[i].factor,
				 size_units[i].name);
			return;
		}
	}
	snprintf(out, VALUE_TEXT_MAX, "%" PRId64, bytes);
}

static int64_t bound(const struct option *o, const char *text)
{
	const char *why = NULL;
	int64_t n = 0;

	if (o->type == TYPE_DURATION_MS || o->type == TYPE_DURATION_US)
		why = value_duration(text, &n);
	else
		why = value_size(text, &n);
	assert(!why); /* options.def is wrong */
	return n;
}

bool value_in_range(const struct option *o, int64_t number)
{
	const char *dots = strstr(o->range, "..");
	char low[VALUE_TEXT_MAX];

	assert(dots && (size_t)(dots - o->range) < sizeof(low));
	memcpy(low, o->range, (size_t)(dots - o->range));
	low[dots - o->range] = '\0';
	return number >= bound(o, low) && number <= bound(o, dots + 2);
}

bool value_fraction_in_range(const struct option *o, double number)
{
	const char *dots = strstr(o->range, "..");

	assert(dots);
	return number >= strtod(o->range, NULL) && number <= strtod(dots + 2, NULL); /* NaN is not */
}

void value_format_fraction(double number, char out[VALUE_TEXT_MAX])
{
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(out, VALUE_TEXT_MAX, "%.*g", digits, number);
		if (strtod(out, NULL) == number)
			return;
	}
}

int value_word_index(const char *words, const char *text)
{
	size_t len = strlen(text);

	for (int i = 0;; i++) {
		size_t n = strcspn(words, "|");

		if (n == len && memcmp(words, text, n) == 0)
			return i;
		if (!words[n])
			return -1;
		words += n + 1;
	}
}

const char *value_word(const char *words, unsigned index, size_t *len)
{
	for (; index > 0; index--) {
		words += strcspn(words, "|");
		assert(*words);
		words++;
	}
	*len = strcspn(words, "|");
	return words;
}
