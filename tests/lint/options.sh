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

# The sample: "[table]" and "#key = default" of every option in the order of options.def, and no other. A header makes an
# instance, so that of a namespace or a listener has a "#" as well.
printf '%s\n' '#define TABLE(table, scope, path, doc) @ scope @ path' \
	'#define OPTION(t, k, type, f, value, range, flags, doc) @ t @ k @ value' \
	'#include "src/config/options.def"' | ${CC:-cc} -E -P -I. -x c - |
	awk -F ' *@ *' 'NF == 3 {
		gsub(/"/, "", $3)
		comment = sub(/^namespace\.\*/, "namespace.product", $3) || $2 ~ /LISTENER|LIMIT/ ? "#" : ""
		sub(/^upstream\.\*/, "upstream.main", $3)
		print comment ($2 ~ /LISTENER|LIMIT/ ? "[[" $3 "]]" : "[" $3 "]")
	}
	NF == 4 { print "#" $3 " = " $4 }' >"$tmp/wanted"
grep -E '^(#?\[|#[a-z_]+ = )' "$sample" >"$tmp/found" || true
if [ ! -s "$tmp/wanted" ] || ! diff -u "$tmp/found" "$tmp/wanted"; then
	echo "$sample: not the options and defaults of options.def (-: in the sample, +: in the table)" >&2
	status=1
fi

# The sample is a configuration that Keyweir takes, as it stands and with every option uncommented.
sed -E 's/^#(\[|[a-z_]+ = )/\1/' "$sample" >"$tmp/all.toml"
env -u REDIS_URL "$keyweir" -c "$sample" --dump >/dev/null || status=1
env -u REDIS_URL "$keyweir" -c "$sample" --set namespace.product.upstream=main \
	--set 'server.listener=[{address = "127.0.0.1:6390", namespace = "product"}]' \
	--set 'rate_limit=[{name = "api", rate = "1000/s"}]' --dump >"$tmp/dump.sample" || status=1
env -u REDIS_URL "$keyweir" -c "$tmp/all.toml" --dump >"$tmp/dump.all" || status=1
if ! diff -u "$tmp/dump.sample" "$tmp/dump.all"; then
	echo "$sample: a default in it is not the default" >&2
	status=1
fi

# And so is the shop.
env -u REDIS_URL "$keyweir" -t -c conf/shop.toml >/dev/null || status=1
exit $status
