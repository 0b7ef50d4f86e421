<?php
// SPDX-License-Identifier: BSD-2-Clause
// phpredis 5.3 at its defaults, with persistent connections, pipelines, MULTI, SCAN and the session handler.
error_reporting(E_ALL & ~E_DEPRECATED);
set_error_handler(function ($no, $text) {
	if (error_reporting() & $no)
		throw new ErrorException($text);
	return false;
});

$parts = parse_url(getenv('REDIS_URL'));
$host = $parts['host'];
$port = $parts['port'];
$prefix = 't:' . getmypid() . ':' . hrtime(true) . ':';
$checks = [];

function check(string $name, callable $fn): void {
	global $checks;
	$checks[] = [$name, $fn];
}

function equal($want, $got): void {
	if ($want !== $got)
		throw new Exception('want ' . substr(json_encode($want), 0, 120) . ', got ' . substr(json_encode($got), 0, 120));
}

function ok($value, string $what = ''): void {
	if (!$value)
		throw new Exception("not true: $what");
}

function until(callable $fn, string $what, float $limit = 8.0) {
	$end = microtime(true) + $limit;
	while (!($value = $fn())) {
		if (microtime(true) > $end)
			throw new Exception("never came true: $what");
		usleep(5000);
	}
	return $value;
}

function connect(): Redis {
	global $host, $port;
	$r = new Redis();
	$r->connect($host, $port);
	return $r;
}

$r = connect();

check('ping, echo, time, info', function () use ($r) {
	equal(true, $r->ping());
	equal('ü', $r->echo('ü'));
	equal(2, count($r->time()));
	ok($r->info()['redis_version']);
	ok(isset($r->info('MEMORY')['used_memory']));
});
check('set, get, del, exists, type', function ($k) use ($r) {
	equal(true, $r->set($k, 'v'));
	equal('v', $r->get($k));
	equal(Redis::REDIS_STRING, $r->type($k));
	equal(2, $r->exists($k, $k));
	equal(1, $r->del($k));
	equal(false, $r->get($k));
});
check('session with TTL', function ($k) use ($r) {
	equal(true, $r->setex($k, 7200, '{}'));
	ok($r->ttl($k) > 7190);
	equal(false, $r->set($k, 'x', ['nx', 'ex' => 10]));
	equal(true, $r->set($k, 'x', ['xx', 'px' => 5000]));
	ok($r->pttl($k) <= 5000);
	equal(true, $r->persist($k));
});
check('cart in a hash', function ($k) use ($r) {
	equal(true, $r->hMSet($k, ['sku1' => 2, 'sku2' => 1]));
	equal(5, $r->hIncrBy($k, 'sku1', 3));
	equal(['sku1' => '5', 'sku2' => '1'], $r->hGetAll($k));
	equal(['sku2' => '1', 'none' => false], $r->hMGet($k, ['sku2', 'none']));
});
check('mset, mget, incr', function ($k) use ($r) {
	equal(true, $r->mSet(["{$k}a" => '1', "{$k}b" => '2']));
	equal(['1', false, '2'], $r->mGet(["{$k}a", "{$k}none", "{$k}b"]));
	equal(6, $r->incrBy("{$k}a", 5));
	equal(6.5, $r->incrByFloat("{$k}a", 0.5));
});
check('pipeline of 1000', function ($k) use ($r) {
	$p = $r->multi(Redis::PIPELINE);
	for ($i = 0; $i < 500; $i++)
		$p->set($k . $i, $i)->get($k . $i);
	$got = $p->exec();
	for ($i = 0; $i < 500; $i++)
		equal((string) $i, $got[2 * $i + 1]);
});
check('MULTI, EXEC', function ($k) use ($r) {
	equal([true, 2, '2'], $r->multi()->set($k, 1)->incr($k)->get($k)->exec());
	$r->multi()->set($k, 'no')->discard();
	equal('2', $r->get($k));
});
check('WATCH', function ($k) use ($r) {
	$other = connect();
	$r->set($k, 1);
	$r->watch($k);
	$other->set($k, 2);
	equal(false, $r->multi()->set($k, 3)->exec());
	equal('2', $r->get($k));
	$r->watch($k);
	equal([true], $r->multi()->set($k, 4)->exec());
});
check('rate limit by a script, EVALSHA and NOSCRIPT', function ($k) use ($r) {
	$code = "-- $k\nlocal n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end return n";
	equal(false, $r->evalSha(sha1($code), [$k, 60], 1));
	ok(strpos($r->getLastError(), 'NOSCRIPT') === 0);
	$r->clearLastError();
	equal(1, $r->eval($code, [$k, 60], 1));
	equal(2, $r->evalSha(sha1($code), [$k, 60], 1));
	equal([1], $r->script('exists', sha1($code)));
});
check('lock', function ($k) use ($r) {
	equal(true, $r->set($k, 'me', ['nx', 'px' => 5000]));
	equal(false, $r->set($k, 'you', ['nx', 'px' => 5000]));
});
check('persistent connection (pconnect) taken again', function ($k) use ($host, $port) {
	$a = new Redis();
	$a->pconnect($host, $port, 2, 'shop');
	$a->set($k, '1');
	$id = $a->client('id');
	unset($a);
	$b = new Redis();
	$b->pconnect($host, $port, 2, 'shop');
	equal('1', $b->get($k));
	ok($id === false || $id === $b->client('id'));
	$b->close();
});
check('publish and subscribe', function ($k) use ($r) {
	$child = proc_open([PHP_BINARY, '-r', '
		$r = new Redis(); $r->connect($argv[1], (int) $argv[2]);
		$end = microtime(true) + 8;
		while ($r->publish($argv[3], "0") < 1 && microtime(true) < $end) usleep(2000);
		$r->publish($argv[3], "один"); $r->publish($argv[3], "end");
	', $GLOBALS['host'], (string) $GLOBALS['port'], $k], [], $pipes);
	$got = [];
	$s = connect();
	$s->setOption(Redis::OPT_READ_TIMEOUT, 10);
	// phpredis 5 reads on after unsubscribe(): applications leave by closing, and catch what comes.
	try {
		$s->subscribe([$k], function ($redis, $channel, $message) use (&$got, $k) {
			$got[] = $message;
			if ($message === 'end') {
				equal([$k => true], $redis->unsubscribe([$k]));
				$redis->close();
			}
		});
	} catch (RedisException $e) {
		ok(end($got) === 'end', $e->getMessage());
	}
	proc_close($child);
	equal(['один', 'end'], array_slice($got, -2));
	equal(0, $GLOBALS['r']->publish($k, 'nobody'));
});
check('binary, unicode', function ($k) use ($r) {
	$b = implode('', array_map('chr', range(0, 255)));
	$r->set("$k\0\r\n\xff", $b);
	equal(true, $r->get("$k\0\r\n\xff") === $b);
	$r->set("{$k}🔑", '値');
	equal('値', $r->get("{$k}🔑"));
});
check('a value of 5 MB', function ($k) use ($r) {
	$b = random_bytes(5 << 20);
	$r->set($k, $b);
	ok($r->get($k) === $b);
	$r->del($k);
});
check('select db', function ($k) use ($r) {
	$c = connect();
	equal(true, $c->select(8));
	$c->set($k, '8');
	equal(false, $r->get($k));
	equal(8, $c->getDbNum());
	equal(1, $c->del($k));
});
check('blocking pops', function ($k) use ($r) {
	$c = connect();
	$c->setOption(Redis::OPT_READ_TIMEOUT, 10);
	equal([], $c->blPop([$k], 1));
	$r->rPush($k, 'a', 'b');
	equal([$k, 'a'], $c->blPop([$k, "{$k}2"], 5));
	equal('b', $c->brpoplpush($k, "{$k}d", 5));
});
check('stream with a consumer group', function ($k) use ($r) {
	$r->xGroup('CREATE', $k, 'g', '$', true);
	$id = $r->xAdd($k, '*', ['event' => 'order']);
	equal([$k => [$id => ['event' => 'order']]], $r->xReadGroup('g', 'c1', [$k => '>'], 5));
	equal(1, $r->xPending($k, 'g')[0]);
	equal(1, $r->xAck($k, 'g', [$id]));
	equal(1, $r->xLen($k));
});
check('scan, hScan, sScan, zScan', function ($k) use ($r) {
	$p = $r->multi(Redis::PIPELINE);
	for ($i = 0; $i < 300; $i++)
		$p->set("{$k}s:$i", $i)->hSet("{$k}h", "f$i", $i)->sAdd("{$k}S", $i)->zAdd("{$k}z", $i, "m$i");
	$p->exec();
	$r->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
	$seen = [];
	$it = null;
	while (($keys = $r->scan($it, "{$k}s:*", 50)) !== false)
		foreach ($keys as $x)
			$seen[$x] = 1;
	equal(300, count($seen));
	$n = 0;
	$it = null;
	while (($part = $r->hScan("{$k}h", $it)) !== false)
		$n += count($part);
	equal(300, $n);
});
check('sorted sets, sets, lists, geo', function ($k) use ($r) {
	$r->zAdd($k, 1.5, 'a', 2, 'b');
	equal(['a' => 1.5, 'b' => 2.0], $r->zRange($k, 0, -1, true));
	$r->sAdd("{$k}s", '1', '2');
	equal(2, $r->sCard("{$k}s"));
	$r->rPush("{$k}l", 'a', 'b');
	equal(['a', 'b'], $r->lRange("{$k}l", 0, -1));
	$r->geoadd("{$k}g", 13.36, 38.11, 'P');
	equal(['P'], $r->georadius("{$k}g", 13.36, 38.11, 10, 'km'));
});
check('serializer and key prefix', function ($k) use ($r) {
	$c = connect();
	$c->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
	$c->setOption(Redis::OPT_PREFIX, $k);
	$c->set('x', ['a' => [1, 2.5, null]]);
	equal(['a' => [1, 2.5, null]], $c->get('x'));
	equal(1, $r->exists("{$k}x"));
});
check('errors come as errors', function ($k) use ($r) {
	$r->set($k, 't');
	equal(false, $r->incr($k));
	ok(strpos($r->getLastError(), 'not an integer') !== false, 'last error');
	$r->clearLastError();
	equal(false, $r->rawCommand('NOSUCH'));
	ok(strpos($r->getLastError(), 'unknown command') !== false, 'last error');
	$r->clearLastError();
});
check('client name and list', function () use ($r) {
	$c = connect();
	$c->client('setname', 'php-shop');
	equal('php-shop', $c->client('getname'));
	ok(in_array('php-shop', array_column($r->client('list'), 'name'), true));
});
check('connects anew for each operation, 100 times', function ($k) {
	for ($i = 0; $i < 100; $i++) {
		$c = connect();
		$c->set($k, (string) $i);
		equal((string) $i, $c->get($k));
		$c->close();
	}
});
check('the session handler with locking', function ($k) use ($host, $port) {
	$code = 'ini_set("session.save_handler", "redis"); ini_set("session.save_path", $argv[1]);
		ini_set("redis.session.locking_enabled", "1"); ini_set("session.use_cookies", "0");
		session_id($argv[2]); session_start(); $_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1; echo $_SESSION["n"];';
	$id = str_replace(':', '', $k);
	for ($i = 1; $i <= 3; $i++) {
		$p = proc_open([PHP_BINARY, '-r', $code, "tcp://$host:$port?prefix=$k", $id], [1 => ['pipe', 'w']], $pipes);
		equal((string) $i, stream_get_contents($pipes[1]));
		proc_close($p);
	}
});

$count = $bad = 0;
foreach ($checks as [$name, $fn]) {
	if (isset($argv[1]) && strpos($name, $argv[1]) === false)
		continue;
	$count++;
	try {
		$fn("$prefix$count:");
		echo "ok $name\n";
	} catch (Throwable $e) {
		$bad++;
		echo "not ok $name: ", get_class($e), ' ', preg_replace('/\s+/', ' ', $e->getMessage()), "\n";
	}
}
echo "done $count\n";
exit($bad ? 1 : 0);
