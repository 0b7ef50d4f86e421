# SPDX-License-Identifier: BSD-2-Clause
# redis-rb 4.8 at its defaults.
require "redis"
require "securerandom"
require_relative "checks"

r = Redis.new(url: URL)

check("ping, echo, time, info") do
  equal "PONG", r.ping
  equal "ü", r.echo("ü")
  equal 2, r.time.size
  ok r.info["redis_version"]
  ok r.info(:commandstats).is_a?(Hash)
end
check("set, get, del, exists, type") do |k|
  equal "OK", r.set(k, "v")
  equal "v", r.get(k)
  equal "string", r.type(k)
  equal true, r.exists?(k)
  equal 1, r.del(k)
  equal nil, r.get(k)
end
check("session with TTL") do |k|
  equal "OK", r.setex(k, 7200, "{}")
  ok r.ttl(k) > 7190
  equal "{}", r.getex(k, px: 5000)
  ok r.pttl(k) <= 5000
  equal false, r.set(k, "x", nx: true)
  equal "{}", r.set(k, "y", get: true, keepttl: true)
end
check("cart in a hash") do |k|
  equal 2, r.hset(k, "sku1", 2, "sku2", 1)
  equal 5, r.hincrby(k, "sku1", 3)
  equal({ "sku1" => "5", "sku2" => "1" }, r.hgetall(k))
  equal ["1", nil], r.hmget(k, "sku2", "none")
  equal({ "sku1" => "5" }, r.mapped_hmget(k, "sku1"))
end
check("pipeline of 2000") do |k|
  got = r.pipelined { |p| 1000.times { |i| p.set("#{k}#{i}", i); p.get("#{k}#{i}") } }
  equal (0...1000).map(&:to_s), got.each_slice(2).map(&:last)
end
check("MULTI with futures") do |k|
  future = nil
  equal ["OK", 2, "2"], r.multi { |m| m.set(k, 1); m.incr(k); future = m.get(k) }
  equal "2", future.value
end
check("an error inside MULTI") do |k|
  r.set(k, "t")
  raises(Redis::CommandError, "not an integer") { r.multi { |m| m.incr(k); m.set("#{k}2", "x") } }
  equal "x", r.get("#{k}2")
end
check("WATCH") do |k|
  other = Redis.new(url: URL)
  r.set(k, 1)
  got = r.watch(k) { other.set(k, 5); r.multi { |m| m.set(k, 2) } }
  equal nil, got
  equal "5", r.get(k)
  equal ["OK"], r.watch(k) { r.multi { |m| m.set(k, 6) } }
  r.watch(k) { r.unwatch }
  other.close
end
check("scripts: EVALSHA, NOSCRIPT, EVAL") do |k|
  code = "-- #{SecureRandom.uuid}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])"
  sha = Digest::SHA1.hexdigest(code)
  raises(Redis::CommandError, "NOSCRIPT") { r.evalsha(sha, [k], [1]) }
  equal 4, r.eval(code, [k], [4])
  equal 8, r.evalsha(sha, keys: [k], argv: [4])
  equal [true], r.script(:exists, [sha])
  equal sha, r.script(:load, code)
end
check("lock by SET NX and Lua") do |k|
  equal true, r.set(k, "me", nx: true, px: 5000)
  code = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"
  equal 0, r.eval(code, [k], ["you"])
  equal 1, r.eval(code, [k], ["me"])
end
check("rate limit by INCR and EXPIRE") do |k|
  3.times { |i| equal i + 1, r.multi { |m| m.incr(k); m.expire(k, 60) }.first }
end
check("subscribe and publish") do |k|
  got = []
  thread = Thread.new do
    Redis.new(url: URL).subscribe("#{k}a", "#{k}b") do |on|
      on.message { |c, m| got << [c, m]; Thread.current[:redis]; throw(:stop) if m == "end" }
    end
  rescue UncaughtThrowError
    nil
  end
  wait_until("two subscribers") { r.publish("#{k}a", "0") == 1 && r.publish("#{k}b", "0") == 1 }
  r.publish("#{k}a", "один")
  r.publish("#{k}b", "end")
  thread.join(5)
  equal [["#{k}a", "один"], ["#{k}b", "end"]], got.last(2)
end
check("subscribe, unsubscribe within, then commands again") do |k|
  c = Redis.new(url: URL)
  got = []
  sender = Thread.new { wait_until("subscriber") { r.publish("#{k}x", "hi") == 1 } }
  c.psubscribe("#{k}*") { |on| on.pmessage { |p, ch, m| got << [p, ch, m]; c.punsubscribe } }
  sender.join
  equal [["#{k}*", "#{k}x", "hi"]], got.uniq
  equal "PONG", c.ping
  c.close
end
check("subscribe_with_timeout ends") do |k|
  c = Redis.new(url: URL)
  begin
    c.subscribe_with_timeout(0.1, k) { |on| on.message { |*| nil } }
  rescue Redis::TimeoutError
    nil
  end
  equal "PONG", Redis.new(url: URL).ping
end
check("binary, unicode") do |k|
  b = (0..255).map(&:chr).join.b * 20
  r.set("#{k}\x00\r\n\xFF".b, b)
  equal b, r.get("#{k}\x00\r\n\xFF".b).b
  r.set("#{k}🔑", "値")
  equal "値", r.get("#{k}🔑")
end
check("a value of 5 MB") do |k|
  b = Random.new(1).bytes(5 << 20)
  r.set(k, b)
  ok r.get(k).b == b
  r.del(k)
end
check("db in the URL, SELECT") do |k|
  c = Redis.new(url: URL.sub(%r{/\d+$}, "/6"))
  c.set(k, "6")
  equal nil, r.get(k)
  c.select(0)
  equal nil, c.get(k)
  c.select(6)
  equal 1, c.del(k)
  c.close
end
check("blocking pops") do |k|
  c = Redis.new(url: URL)
  equal nil, c.blpop(k, timeout: 0.1)
  t = Thread.new { wait_until("blocked") { r.info(:clients)["blocked_clients"].to_i.positive? }; r.rpush(k, %w[a b]) }
  equal [k, "a"], c.blpop(k, "#{k}2", timeout: 5)
  t.join
  equal "b", c.brpoplpush(k, "#{k}d", timeout: 5)
  c.close
end
check("stream with a consumer group") do |k|
  r.xgroup(:create, k, "g", "$", mkstream: true)
  id = r.xadd(k, { event: "order" })
  equal({ k => [[id, { "event" => "order" }]] }, r.xreadgroup("g", "c1", k, ">", count: 5, block: 500))
  equal 1, r.xpending(k, "g")["size"]
  equal 1, r.xack(k, "g", id)
  equal 1, r.xinfo(:stream, k)["length"]
end
check("scan_each, hscan_each, sscan_each, zscan_each") do |k|
  r.pipelined { |p| 300.times { |i| p.set("#{k}s:#{i}", i); p.hset("#{k}h", "f#{i}", i); p.sadd?("#{k}S", i); p.zadd("#{k}z", i, "m#{i}") } }
  equal 300, r.scan_each(match: "#{k}s:*", count: 40).to_a.uniq.size
  equal 300, r.hscan_each("#{k}h").to_a.uniq.size
  equal 300, r.sscan_each("#{k}S").to_a.uniq.size
  equal 300, r.zscan_each("#{k}z").to_a.uniq.size
end
check("sorted sets, sets, lists, geo, bits") do |k|
  r.zadd(k, [[1.5, "a"], [2, "b"]])
  equal [["a", 1.5], ["b", 2.0]], r.zrange(k, 0, -1, with_scores: true)
  r.sadd("#{k}s", [1, 2])
  equal %w[1 2], r.smembers("#{k}s").sort
  r.rpush("#{k}l", %w[a b])
  equal %w[a b], r.lrange("#{k}l", 0, -1)
  r.geoadd("#{k}g", 13.36, 38.11, "P")
  equal 0.0, r.geodist("#{k}g", "P", "P").to_f
  r.setbit("#{k}b", 3, 1)
  equal 1, r.bitcount("#{k}b")
end
check("errors come as errors") do |k|
  r.set(k, "t")
  raises(Redis::CommandError, "not an integer") { r.incr(k) }
  raises(Redis::CommandError, "WRONGTYPE") { r.lpush(k, "x") }
  raises(Redis::CommandError, "unknown command") { r.call("NOSUCH", "a") }
end
check("client name and list") do
  c = Redis.new(url: URL, id: "rb-shop")
  c.client(:setname, "rb-shop")
  equal "rb-shop", c.client(:getname)
  ok r.client(:list).any? { |x| x["name"] == "rb-shop" }
  c.close
end
check("reconnects after CLIENT KILL") do
  c = Redis.new(url: URL)
  id = c.call("CLIENT", "ID")
  equal 1, r.call("CLIENT", "KILL", "ID", id)
  wait_until("ping") { c.ping == "PONG" rescue false }
  c.close
end
check("connects anew for each operation, 100 times") do |k|
  100.times { |i| c = Redis.new(url: URL); c.set(k, i); equal i.to_s, c.get(k); c.close }
end
check("10 threads with a connection each") do
  threads = (0...10).map { |n| Thread.new { c = Redis.new(url: URL); (0...50).map { |i| c.eval("return ARGV[1]", [], ["#{n}:#{i}"]) } } }
  threads.each_with_index { |t, n| equal (0...50).map { |i| "#{n}:#{i}" }, t.value }
end
check("monitor") do |k|
  c = Redis.new(url: URL)
  seen = nil
  t = Thread.new { c.monitor { |line| (seen = line; break) if line.include?(k) } }
  wait_until("monitor line") { r.set(k, "m"); seen }
  ok seen.include?("\"#{k}\" \"m\"")
  t.join(5)
end

run_checks
