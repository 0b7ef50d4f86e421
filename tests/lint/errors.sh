#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Every error word of our own occurs in a test.
cd "$(dirname "$0")/../.." || exit 1
bad=0
for word in $(sed -n 's/^ERROR([A-Z0-9_]*, "\([A-Z]*\) .*/\1/p' src/resp/errors.def | sort -u); do
	[ "$word" = ERR ] && continue
	if ! grep -rqE "\b$word\b" tests --include='*.py' --include='*.c'; then
		echo "no test speaks of $word"
		bad=1
	fi
done
exit $bad
