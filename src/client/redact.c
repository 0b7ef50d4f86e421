/* SPDX-License-Identifier: BSD-2-Clause */
/* Passwords stay out of SLOWLOG and MONITOR: see redact.h. The places are those that Redis itself redacts. */
#include "client/redact.h"

#include <string.h>
#include <strings.h>

#include "policy/token.h"

static bool is_word(const char *arg, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(arg, word, len) == 0;
}

static bool names_a_secret(const char *arg, size_t len)
{
	static const char *const names[] = {"requirepass", "masterauth",	"masteruser",
					    "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (is_word(arg, len, names[i]))
			return true;
	return false;
}

bool redactor_hides(struct redactor *r, const char *arg, size_t len)
{
	uint32_t i = r->index++;

	if (r->left > 0) {
		r->left--;
		return true;
	}
	switch (r->cmd->secrets) {
	case SECRETS_ALL: /* behind "AUTH", behind "ACL SETUSER name" */
		return i > (strchr(r->cmd->name, '|') ? 2u : 0u);
	case SECRETS_AFTER_AUTH:
		if (i > 0 && is_word(arg, len, "AUTH"))
			r->left = r->cmd->handler == HANDLER_HELLO ? 2 : 1;
		else if (i > 0 && is_word(arg, len, "AUTH2"))
			r->left = 2;
		return false;
	case SECRETS_CONFIG:
		if (i > 1 && names_a_secret(arg, len))
			r->left = 1;
		return false;
	default:
		return false;
	}
}

size_t redact_tokens(const struct tokens *tokens, const char *text, size_t len, bool anywhere)
{
	const struct string_list *prefixes = &tokens_conf(tokens)->prefixes;
	size_t shown = len;

	for (size_t i = 0; i < prefixes->n; i++) {
		const char *prefix = prefixes->items[i];
		size_t n = strlen(prefix);
		const char *at = anywhere				    ? memmem(text, len, prefix, n)
				 : len >= n && memcmp(text, prefix, n) == 0 ? text
									    : NULL;

		if (at && (size_t)(at - text) + n < shown)
			shown = (size_t)(at - text) + n;
	}
	return shown;
}
