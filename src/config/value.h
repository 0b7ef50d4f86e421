/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Values in the notation of the configuration file: durations, sizes, words; from text and back to text. Private to
 * this folder; no state. All arithmetic is checked.
 */
#ifndef KEYWEIR_CONFIG_VALUE_H
#define KEYWEIR_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/schema.h"

/* Functions with a reason return NULL, or a static end of a sentence that begins with the option's name. */

/* "1.5s", "250ms", "0". */
const char *value_duration(const char *text, int64_t *us) __attribute__((warn_unused_result));

/* A number of seconds. */
const char *value_seconds(double seconds, int64_t *us) __attribute__((warn_unused_result));

/* "64kb", "10k", "4096". */
const char *value_size(const char *text, int64_t *bytes) __attribute__((warn_unused_result));

/* "1000/s", "10mb/m". */
const char *value_rate(const char *text, struct rate *rate) __attribute__((warn_unused_result));

#define VALUE_TEXT_MAX 32

/* The shortest exact form that reads back as the same: "1m", "1500ms", "0"; "64mb", "1000". */
void value_format_duration(int64_t us, char out[VALUE_TEXT_MAX]);
void value_format_size(int64_t bytes, char out[VALUE_TEXT_MAX]);
void value_format_rate(const struct rate *rate, char out[VALUE_TEXT_MAX]);

/* Whether a number (duration: microseconds) is within "LOWEST..HIGHEST" of the option. */
bool value_in_range(const struct option *o, int64_t number);

/* The same of a TYPE_FRACTION; and the shortest form that reads back as the same. */
bool value_fraction_in_range(const struct option *o, double number);
void value_format_fraction(double number, char out[VALUE_TEXT_MAX]);

/* The words of an enum: "text|json". The index of a word, or -1; the word of an index, its length in *len. */
int value_word_index(const char *words, const char *text);
const char *value_word(const char *words, unsigned index, size_t *len);

#endif
