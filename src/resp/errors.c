/* SPDX-License-Identifier: BSD-2-Clause */
/* Texts of Keyweir's own errors: see errors.def. */
#include "resp/errors.h"

static const char *const texts[] = {
#define ERROR(name, text, meaning) [ERROR_##name] = text,
#include "resp/errors.def"
#undef ERROR
};

const char *reply_error_text(enum reply_error error)
{
	return texts[error];
}
