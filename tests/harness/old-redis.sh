#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Fetches Redis 6.0 (Debian 11's package) into a folder, without installing anything: harness/old.py finds it there.
#
#     tests/harness/old-redis.sh build/redis-6.0
#
# Does nothing when it is there already. apt fetches and checks the packages, with lists of its own.
set -eu

folder=${1:?folder}
[ -x "$folder/usr/bin/redis-server" ] && exit 0
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
folder=$(cd "$folder" && pwd)
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] http://deb.debian.org/debian bullseye main" >"$folder/apt/sources.list"

apt() { # command of apt-get ...
	apt-get -q -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::State::Lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User=root \
		-o Acquire::Retries=0 -o Acquire::http::Timeout=10 "$@"
}

apt update
cd "$folder/apt/cache"
apt download redis-server/bullseye redis-tools/bullseye libssl1.1/bullseye liblua5.1-0/bullseye lua-cjson/bullseye \
	lua-bitop/bullseye
for package in *.deb; do
	dpkg-deb -x "$package" "$folder"
done
rm -rf "$folder/apt"
LD_LIBRARY_PATH="$folder/usr/lib/$(uname -m)-linux-gnu" "$folder/usr/bin/redis-server" --version
