/* SPDX-License-Identifier: BSD-2-Clause */
/* JWTs, as far as it is needed: see jwt.h. */
#include "policy/jwt.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define SECONDS_MAX ((int64_t)1 << 40) /* in the year 36812; what is above is as good as that */

/* An integer above 2^63, which other libraries take, is no reason to overlook exp: then all numbers are floating. */
static json_t *parse(const char *json, size_t len)
{
	size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
	json_t *value = json_loadb(json, len, flags, NULL);

	return value ? value : json_loadb(json, len, flags | JSON_DECODE_INT_AS_REAL, NULL);
}

/* One part, which is an object of JSON in BASE64URL. NULL: it is not. */
static json_t *read_part(const char *text, size_t len)
{
	char json[JWT_BYTES_MAX];
	json_t *object;
	size_t n;

	if (sodium_base642bin((unsigned char *)json, sizeof(json), text, len, NULL, &n, NULL,
			      sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
		return NULL;
	object = parse(json, n);
	sodium_memzero(json, n);
	if (json_is_object(object))
		return object;
	json_decref(object);
	return NULL;
}

static bool is_base64url(const char *text, size_t len)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	for (size_t i = 0; i < len; i++)
		if (!memchr(alphabet, text[i], sizeof(alphabet) - 1))
			return false;
	return true;
}

/* A number of seconds, also one with a fraction. */
static void read_exp(const json_t *exp, struct jwt *out)
{
	double real = json_number_value(exp);

	if (!json_is_number(exp))
		return;
	out->has_exp = true;
	if (real >= (double)SECONDS_MAX)
		out->exp_s = SECONDS_MAX;
	else if (real <= 0)
		out->exp_s = 0;
	else
		out->exp_s = json_is_integer(exp) ? (int64_t)json_integer_value(exp) : (int64_t)real + 1;
}

/* A string; some who make them use a number. What is too long to be a name counts as none. */
static void read_jti(const json_t *jti, struct jwt *out)
{
	size_t len = json_is_string(jti) ? json_string_length(jti) : 0;

	if (json_is_integer(jti))
		out->jti_len = (size_t)snprintf(out->jti, sizeof(out->jti), "%lld", (long long)json_integer_value(jti));
	if (len == 0 || len > sizeof(out->jti))
		return;
	memcpy(out->jti, json_string_value(jti), len);
	out->jti_len = len;
}

bool jwt_read(const char *token, size_t len, struct jwt *out)
{
	const char *first = len <= JWT_BYTES_MAX ? memchr(token, '.', len) : NULL;
	const char *end = token + len, *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
	json_t *header, *claims;

	*out = (struct jwt){0};
	if (!second || !is_base64url(second + 1, (size_t)(end - second - 1)))
		return false;
	header = read_part(token, (size_t)(first - token));
	if (!header)
		return false;
	json_decref(header);
	claims = read_part(first + 1, (size_t)(second - first - 1));
	if (!claims)
		return false;
	read_exp(json_object_get(claims, "exp"), out);
	read_jti(json_object_get(claims, "jti"), out);
	json_decref(claims);
	return true;
}
