/* SPDX-License-Identifier: BSD-2-Clause */
/* Keyweir's own errors, as a table: reply_error_text() gives what goes on the wire behind "-". */
#ifndef KEYWEIR_ERRORS_H
#define KEYWEIR_ERRORS_H

enum reply_error {
#define ERROR(name, text, meaning) ERROR_##name,
#include "resp/errors.def"
#undef ERROR
	ERROR_COUNT
};

const char *reply_error_text(enum reply_error error);

#endif
