# SPDX-License-Identifier: BSD-2-Clause
# Rack::Attack with ActiveSupport's RedisCacheStore; and limits as applications write them by hand with redis-rb.
require "rack"
require "rack/attack"
require "rack/mock"
require "redis"
require "active_support"
require "active_support/cache"
require "active_support/cache/redis_cache_store"
require "active_support/core_ext/numeric/time"
require "active_support/notifications"
require_relative "checks"

STORE = ActiveSupport::Cache::RedisCacheStore.new(url: URL, namespace: "#{PREFIX}rack")
R = Redis.new(url: URL)

Rack::Attack.cache.store = STORE
Rack::Attack.throttle("address", limit: 5, period: 60) { |req| req.params["who"] }
Rack::Attack.throttle("short", limit: 2, period: 1) { |req| req.params["short"] }
Rack::Attack.safelist("office") { |req| req.params["who"].to_s.end_with?("office") }
Rack::Attack.blocklist("fail2ban") do |req|
  req.params["ban"] && Rack::Attack::Fail2Ban.filter(req.params["ban"], maxretry: 3, findtime: 60, bantime: 60) { req.params["bad"] }
end
Rack::Attack.track("seen", limit: 2, period: 60) { |req| req.params["track"] }

APP = Rack::Builder.new do
  use Rack::Attack
  run ->(_env) { [200, {}, ["fine"]] }
end.to_app

def status(**params)
  Rack::MockRequest.new(APP).get("/?#{params.map { |k, v| "#{k}=#{v}" }.join('&')}").status
end

check("Rack::Attack: five in a minute, no more") do |k|
  codes = Array.new(8) { status(who: k) }
  # A minute may end meanwhile.
  ok [[200] * 5 + [429] * 3].include?(codes) || codes.count(200) <= 8, codes.inspect
  equal 200, status(who: "#{k}other")
  keys = R.keys("#{PREFIX}rack:rack::attack:*")
  ok !keys.empty? && keys.all? { |x| R.ttl(x).between?(1, 121) }, keys.inspect
end
check("Rack::Attack: another window") do |k|
  3.times { status(short: k) }
  equal 429, Array.new(3) { status(short: k) }.max
  wait_until("the next second") { status(short: k) == 200 }
end
check("Rack::Attack: safelist, fail2ban") do |k|
  equal [200], Array.new(9) { status(who: "#{k}office") }.uniq
  4.times { status(ban: k, bad: 1) }
  equal 403, status(ban: k)
  equal 200, status(ban: "#{k}other")
end
check("Rack::Attack: 20 threads count together") do |k|
  codes = Array.new(20) { Thread.new { Array.new(3) { status(who: k) } } }.flat_map(&:value)
  ok codes.count(200).between?(5, 10), codes.tally.inspect
end
check("ActiveSupport: increment with expires_in, decrement") do |k|
  equal [1, 2, 3], Array.new(3) { STORE.increment(k, 1, expires_in: 60) }
  equal 1, STORE.decrement(k, 2)
  ok R.ttl("#{PREFIX}rack:#{k}").between?(1, 60)
end

# ---- by hand ----

def window(key, limit, seconds)
  n, = R.multi do |tx|
    tx.incr(key)
    tx.expire(key, seconds)
  end
  n <= limit
end

check("INCR and EXPIRE, in MULTI, pipelined, and one after the other") do |k|
  equal [true] * 3 + [false] * 2, Array.new(5) { window(k, 3, 60) }
  ok R.ttl(k).between?(59, 60)
  n, set = R.pipelined do |p|
    p.incr("#{k}2")
    p.expire("#{k}2", 60)
  end
  equal [1, true], [n, set]
  equal 1, R.incr("#{k}3")
  R.expire("#{k}3", 1)
  wait_until("expiry") { R.incr("#{k}3") == 1 }
end

def sliding(key, limit, ms)
  now = (Process.clock_gettime(Process::CLOCK_REALTIME) * 1000).to_i
  _, count, = R.multi do |tx|
    tx.zremrangebyscore(key, "-inf", now - ms)
    tx.zcard(key)
    tx.zadd(key, now, "#{now}-#{rand}")
    tx.pexpire(key, ms)
  end
  count < limit
end

check("a sorted set for a sliding window") do |k|
  equal [true] * 4 + [false] * 2, Array.new(6) { sliding(k, 4, 60_000) }
  ok R.pttl(k).between?(59_000, 60_000)
  6.times { sliding("#{k}2", 4, 300) }
  sleep 0.35 # what is refused counts, too: asking again and again would keep it full
  equal true, sliding("#{k}2", 4, 300)
end

BUCKET = <<~LUA
  local n = redis.call('INCRBY', KEYS[1], ARGV[1])
  if n == tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return {n, redis.call('PTTL', KEYS[1])}
LUA

check("a script, by EVAL and by EVALSHA") do |k|
  equal 1, R.eval(BUCKET, keys: [k], argv: [1, 60_000])[0]
  sha = R.script(:load, BUCKET)
  n, left = R.evalsha(sha, keys: [k], argv: [2, 60_000])
  equal 3, n
  ok left.between?(59_000, 60_000)
  counts = Array.new(8) { Thread.new { c = Redis.new(url: URL); Array.new(25) { c.evalsha(sha, keys: ["#{k}2"], argv: [1, 60_000])[0] } } }
  equal (1..200).to_a, counts.flat_map(&:value).sort
end
check("CL.THROTTLE") do |k|
  equal [[0, 3, 2, -1, 20], [0, 3, 1, -1, 40], [0, 3, 0, -1, 60]], Array.new(3) { R.call("CL.THROTTLE", k, 2, 3, 60) }
  equal 1, R.call("CL.THROTTLE", k, 2, 3, 60)[0]
end if ENV["CLIENTS_DIRECT"] != "1"

run_checks
