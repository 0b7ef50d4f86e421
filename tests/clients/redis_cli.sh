#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# redis-cli in all its modes, and redis-benchmark, at their defaults.
set -u
host=${REDIS_URL#redis://}
port=${host#*:}
port=${port%%/*}
host=${host%%:*}
K="t:$$:$(date +%s%N):"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
count=0
bad=0

cli() { timeout 20 stdbuf -oL redis-cli -h "$host" -p "$port" "$@"; }

# for the background: the pid is then timeout's own, and kill reaches redis-cli
cli_exec() { exec timeout 20 stdbuf -oL redis-cli -h "$host" -p "$port" "$@"; }

# check NAME WANT GOT: GOT matches the extended regular expression WANT
check() {
	count=$((count + 1))
	if [[ $3 =~ $2 ]]; then
		echo "ok $1"
	else
		bad=$((bad + 1))
		echo "not ok $1: want /$2/, got $(tr '\n' ' ' <<<"${3:0:300}")"
	fi
}

# waits until "$@" succeeds
until_ok() {
	for _ in $(seq 400); do
		"$@" && return 0
		sleep 0.02
	done
	return 1
}

check "ping" '^PONG$' "$(cli ping)"
check "set and get with spaces and bytes" '^"v \\x00 \\r\\n"$' "$(printf 'SET %s "v \\x00 \\r\\n"\nGET %s\n' "$K" "$K" | cli --no-raw | tail -1)"
check "-3 shows RESP3 maps" 'a.*=>.*b' "$(cli hset "${K}h" a b >/dev/null; cli -3 --no-raw hgetall "${K}h")"
check "-2 shows arrays" '1\) "a"' "$(cli -2 --no-raw hgetall "${K}h")"
check "-n selects a database" '^three$' "$(cli -n 3 set "${K}n" three >/dev/null; cli -n 3 get "${K}n"; cli -n 3 del "${K}n" >/dev/null)"
check "-x reads the last argument from stdin" '^body$' "$(printf body | cli -x set "${K}x" >/dev/null; cli get "${K}x")"
check "-r repeats" '^5$' "$(cli -r 5 incr "${K}r" | tail -1)"
check "-r with -i" '^8$' "$(cli -r 3 -i 0.01 incr "${K}r" | tail -1)"
check "--csv" '^"1","2"$' "$(cli rpush "${K}l" 1 2 >/dev/null; cli --csv lrange "${K}l" 0 -1)"
check "--json" '\{"a":"b"\}' "$(cli --json hgetall "${K}h")"
check "-e exits with 1 on an error" '^1$' "$(cli -e nosuch >/dev/null 2>&1; echo $?)"
check "an unknown command's error" "unknown command 'nosuch'" "$(cli nosuch a 2>&1)"

for i in $(seq 1 5000); do
	# shellcheck disable=SC2016 # $ is RESP's, not the shell's
	printf '*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n' $((${#K} + 2 + ${#i})) "${K}p:$i" ${#i} "$i"
done >"$tmp/pipe"
check "--pipe of 5000" 'errors: 0, replies: 5000' "$(cli --pipe <"$tmp/pipe")"
check "--pipe: all there" '^5000$' "$(cli --scan --pattern "${K}p:*" | sort -u | wc -l)"
check "--bigkeys" 'Biggest +hash found' "$(cli --bigkeys)"
check "--memkeys" 'Sampled [0-9]+ keys' "$(cli --memkeys)"
check "--stat" 'keys +mem +clients.*[0-9]+\.[0-9]+M +[0-9]+ ' \
	"$(timeout 1 stdbuf -oL redis-cli -h "$host" -p "$port" --stat -i 0.1 | tr '\n' ' ')"
check "--latency --raw" '^[0-9]+ [0-9]+ [0-9.]+ [0-9]+' "$(timeout 3 redis-cli -h "$host" -p "$port" --latency --raw -i 1)"
check "--intrinsic-latency is the client's own" 'Max latency' "$(timeout 5 redis-cli -h "$host" -p "$port" --intrinsic-latency 1)"

echo 'return {KEYS[1], ARGV[1], redis.call("GET", KEYS[1])}' >"$tmp/script.lua"
check "--eval" 'body' "$(cli --eval "$tmp/script.lua" "${K}x" , arg)"
echo "#!lua name=cli$$
redis.register_function('cli$$', function(keys, args) return args[1] end)" >"$tmp/lib.lua"
check "functions by -x and FCALL" '^hello$' "$(cli -x function load replace <"$tmp/lib.lua" >/dev/null; cli fcall "cli$$" 0 hello; cli function delete "cli$$" >/dev/null)"
check "a pipe of commands, one a line" '^OK 1 2 QUEUED OK$' "$(printf 'SET %s 0\nINCR %s\nINCR %s\nMULTI\nPING\nDISCARD\n' "${K}m" "${K}m" "${K}m" | cli | grep -v '^OK$' | sed '1s/^/OK /' | tr '\n' ' ' | sed 's/ $/ OK/')"
check "MULTI and EXEC" 'QUEUED QUEUED 1 2' "$(printf 'MULTI\nINCR %s\nINCR %s\nEXEC\n' "${K}e" "${K}e" | cli | tr '\n' ' ')"

cli_exec subscribe "${K}c" >"$tmp/sub" &
sub=$!
until_ok eval "cli publish '${K}c' first | grep -q '^1\$'"
cli publish "${K}c" second >/dev/null
until_ok grep -q second "$tmp/sub"
check "subscribe prints messages" 'subscribe .*message .*first .*message .*second' "$(tr '\n' ' ' <"$tmp/sub")"
kill $sub 2>/dev/null
cli_exec -3 psubscribe "${K}*" >"$tmp/psub" &
sub=$!
until_ok eval "cli publish '${K}c' first | grep -q '^1\$'"
until_ok grep -q first "$tmp/psub"
check "psubscribe in RESP3" 'pmessage .*first' "$(tr '\n' ' ' <"$tmp/psub")"
kill $sub 2>/dev/null
wait 2>/dev/null

# An interactive session needs a terminal: script(1) gives one.
if command -v script >/dev/null; then
	mkfifo "$tmp/keys"
	TERM=dumb script -qfc "redis-cli -h $host -p $port" "$tmp/tty" <"$tmp/keys" >/dev/null 2>&1 &
	shell=$!
	exec 7>"$tmp/keys"
	printf 'SET %s typed\n' "${K}t" >&7
	until_ok grep -q OK "$tmp/tty"
	printf 'SUBSCRIBE %s\n' "${K}i" >&7
	until_ok eval "cli publish '${K}i' to-the-terminal | grep -q '^1\$'"
	until_ok grep -q to-the-terminal "$tmp/tty"
	check "interactive: a command, then SUBSCRIBE" 'OK.*subscribe.*to-the-terminal' "$(tr '\r\n' '  ' <"$tmp/tty")"
	exec 7>&-
	kill $shell 2>/dev/null
	wait $shell 2>/dev/null
fi

cli_exec monitor >"$tmp/mon" &
mon=$!
until_ok grep -q OK "$tmp/mon"
until_ok eval "cli set '${K}mon' 'a b' >/dev/null; grep -q '${K}mon' '$tmp/mon'"
check "MONITOR" '^[0-9]+\.[0-9]{6} \[[0-9]+ [0-9.:]+\] "set" "t:[0-9:]+mon" "a b"' "$(grep -m1 "${K}mon" "$tmp/mon")"
kill $mon 2>/dev/null
wait $mon 2>/dev/null

check "INFO, DBSIZE, CLIENT LIST, SLOWLOG, CONFIG" 'redis_version.*cmd=client|list.*maxmemory' \
	"$(cli info server | tr '\n' ' '; cli client list | tail -1; cli slowlog get 1; cli config get maxmemory | tr '\n' ' ')"
check "COMMAND DOCS, COMMAND COUNT" '^[0-9]{3} ' "$(cli command count | tr '\n' ' '; cli command docs get | head -3 | tr '\n' ' ')"
check "a value of 5 MB through -x" "^$(head -c 5242880 /dev/zero | md5sum | cut -d' ' -f1)" \
	"$(head -c 5242880 /dev/zero | cli -x set "${K}big" >/dev/null; cli get "${K}big" | head -c 5242880 | md5sum; cli del "${K}big" >/dev/null)"
check "object, debug sleep 0, latency" 'embstr OK' "$(cli object encoding "${K}x" | tr '\n' ' '; cli debug sleep 0 | sed 's/^ERR DEBUG.*/OK/')"

bench() { timeout 60 redis-benchmark -h "$host" -p "$port" "$@" 2>&1; }
out=$(bench -n 200 -q | tr '\r' '\n')
check "redis-benchmark: all default tests" 'PING_MBULK: .*SPOP: .*ZADD: .*LRANGE_600 .*MSET \(10 keys\): .* requests per second' "$(tr '\n' ' ' <<<"$out")"
check "redis-benchmark: no error" '^$' "$(grep -i -E 'error|warning|fail' <<<"$out")"
check "redis-benchmark -P 16 -t get,set" 'GET: .*requests per second' "$(bench -n 5000 -P 16 -t get,set -q | tr '\r\n' '  ')"
check "redis-benchmark -3" 'GET: .*requests per second' "$(bench -n 500 -3 -t get -q | tr '\r\n' '  ')"
check "redis-benchmark -r -d 1024 --threads 2" 'SET: .*requests per second' "$(bench -n 2000 -r 1000 -d 1024 --threads 2 -t set -q | tr '\r\n' '  ')"
check "redis-benchmark -k 0 (connects anew for each command)" 'SET: .*requests per second' "$(bench -n 500 -k 0 -t set -q | tr '\r\n' '  ')"
check "redis-benchmark with a command of one's own" 'requests per second' "$(bench -n 500 -q eval 'return redis.call("incr", KEYS[1])' 1 "${K}bench" | tr '\r\n' '  ')"

echo "done $count"
exit $((bad > 0))
