#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The options in src/config/options.def, conf/keyweir.toml and man/keyweir.toml.5 are the same, with the same defaults.
#
#   tests/lint/options.sh [--fix] [KEYWEIR]     --fix writes the man page's list; KEYWEIR: build/release/keyweir
set -eu
cd "$(dirname "$0")/../.."
fix=false
if [ "${1-}" = --fix ]; then
	fix=true
	shift
fi
keyweir=${1-build/release/keyweir}
sample=conf/keyweir.toml
man=man/keyweir.toml.5
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0

# The man page: exactly what the program prints stands between the markers.
"$keyweir" --options >"$tmp/options"
awk -v options="$tmp/options" '
	/^\.\\" END OPTIONS/ { inside = 0 }
	!inside { print }
	/^\.\\" BEGIN OPTIONS/ { inside = 1; while ((getline line < options) > 0) print line }
' "$man" >"$tmp/man"
if $fix; then
	cat "$tmp/man" >"$man"
elif ! diff -u "$man" "$tmp/man"; then
	echo "$man: not the options of options.def; run tests/lint/options.sh --fix" >&2
	status=1
fi

# The sample: "[table]" and "#key = default" of every option in the order of options.def, and no other.
printf '%s\n' '#define TABLE(table, doc)' '#define OPTION(t, k, type, f, value, range, flags, doc) @ t @ k @ value' \
	'#include "src/config/options.def"' | ${CC:-cc} -E -P -I. -x c - |
	awk -F ' *@ *' '/@/ {
		if ($2 != table) print "[" ($2 == "upstream" ? "upstream.main" : $2) "]"
		table = $2
		print "#" $3 " = " $4
	}' >"$tmp/wanted"
grep -E '^(\[|#[a-z_]+ = )' "$sample" >"$tmp/found" || true
if [ ! -s "$tmp/wanted" ] || ! diff -u "$tmp/found" "$tmp/wanted"; then
	echo "$sample: not the options and defaults of options.def (-: in the sample, +: in the table)" >&2
	status=1
fi

# The sample is a configuration that Keyweir takes, as it stands and with every option uncommented.
sed -E 's/^#([a-z_]+ = )/\1/' "$sample" >"$tmp/all.toml"
for file in "$sample" "$tmp/all.toml"; do
	env -u REDIS_URL "$keyweir" -c "$file" --dump >"$tmp/dump.$(basename "$file")" || status=1
done
if ! diff -u "$tmp/dump.keyweir.toml" "$tmp/dump.all.toml"; then
	echo "$sample: a default in it is not the default" >&2
	status=1
fi
exit $status
