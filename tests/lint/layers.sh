#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Includes go downward only (ARCHITECTURE.md): which folder may include which.
set -u
cd "$(dirname "$0")/../../src" || exit 1
bad=0

allow() { # folder allowed...
	folder=$1
	shift
	pattern=$(echo "$folder $*" | tr ' ' '|')
	if grep -nE '#include "[a-z]+/' "$folder"/*.[ch]* | grep -vE "#include \"($pattern)/" ; then
		bad=1
	fi
}

allow base
allow resp base
allow net base
allow command resp base
allow config command base net
allow policy command resp config base
allow cache base
allow upstream cache policy net resp command config base
allow client cache policy upstream net resp command config base

# Of the top, middle layers see these only; nobody sees the control thread but the top itself.
if grep -nE '#include "control' base/* resp/* net/* config/* command/* policy/* cache/* upstream/* client/*; then
	bad=1
fi
if grep -nE '#include "(worker|server|request|snapshot)\.h"' base/* resp/* net/* config/* command/* policy/* cache/*; then
	bad=1
fi
exit $bad
