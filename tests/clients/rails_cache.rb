# SPDX-License-Identifier: BSD-2-Clause
# ActiveSupport's RedisCacheStore (6.1 of Debian 12, 7.2 of Debian 13) with the options Rails guides show.
require "redis"
require "active_support"
require "active_support/cache"
require "active_support/cache/redis_cache_store"
require "active_support/core_ext/numeric/time"
require "active_support/notifications"
require_relative "checks"

ERRORS = []
HANDLER = ->(method:, returning:, exception:) { ERRORS << [method, exception.message] }

# The same options as each version spells them.
OLD = ActiveSupport.version < Gem::Version.new("7.1")
RECONNECT = OLD ? { reconnect_attempts: 3, reconnect_delay: 0.5, reconnect_delay_max: 1 } : { reconnect_attempts: [0.5, 1, 1] }
POOL = OLD ? { pool_size: 5, pool_timeout: 5 } : { pool: { size: 5, timeout: 5 } }

def store(**options)
  ActiveSupport::Cache::RedisCacheStore.new(
    url: URL, connect_timeout: 2, read_timeout: 1, write_timeout: 1, expires_in: 1.day, error_handler: HANDLER,
    **RECONNECT, **options
  )
end

cache = store(namespace: "#{PREFIX}cache")
r = Redis.new(url: URL)

check("write, read, exist?, delete") do |k|
  ok cache.write(k, { "a" => [1, 2] })
  equal({ "a" => [1, 2] }, cache.read(k))
  equal true, cache.exist?(k)
  equal 1, cache.delete(k).then { |x| x == true ? 1 : x }
  equal nil, cache.read(k)
end
check("write with expires_in sets a TTL") do |k|
  cache.write(k, "v", expires_in: 1.hour)
  ttl = r.ttl("#{PREFIX}cache:#{k}")
  ok ttl.between?(3590, 3600), "ttl #{ttl}"
  cache.write("#{k}2", "v")
  ok r.ttl("#{PREFIX}cache:#{k}2") > 86_000
end
check("fetch computes once") do |k|
  runs = 0
  3.times { equal 42, cache.fetch(k, expires_in: 1.hour) { runs += 1; 42 } }
  equal 1, runs
  equal 43, cache.fetch(k, force: true) { 43 }
end
check("fetch of nil, skip_nil") do |k|
  equal nil, cache.fetch(k, skip_nil: true) { nil }
  equal false, cache.exist?(k)
  cache.fetch(k) { nil }
  equal true, cache.exist?(k)
end
check("race_condition_ttl") do |k|
  cache.write(k, "old", expires_in: 0.2)
  wait_until("expired") { cache.read(k).nil? }
  cache.write(k, "old", expires_in: 0.2, race_condition_ttl: 10)
  sleep 0.25
  inner = nil
  outer = cache.fetch(k, expires_in: 60, race_condition_ttl: 10) do
    inner = cache.fetch(k, expires_in: 60, race_condition_ttl: 10) { "second" }
    "new"
  end
  equal "new", outer
  equal "old", inner
  equal "new", cache.read(k)
end
check("increment, decrement, raw") do |k|
  equal 1, cache.increment(k)
  equal 6, cache.increment(k, 5)
  equal 5, cache.decrement(k)
  equal "5", cache.read(k, raw: true)
  cache.increment("#{k}t", 1, expires_in: 60)
  ok r.ttl("#{PREFIX}cache:#{k}t").between?(1, 60)
end
check("read_multi, write_multi, fetch_multi") do |k|
  cache.write_multi({ "#{k}a" => 1, "#{k}b" => "zwei" }, expires_in: 1.hour)
  equal({ "#{k}a" => 1, "#{k}b" => "zwei" }, cache.read_multi("#{k}a", "#{k}b", "#{k}none"))
  ok r.ttl("#{PREFIX}cache:#{k}a") > 3500
  equal({ "#{k}a" => 1, "#{k}c" => "#{k}c!" }, cache.fetch_multi("#{k}a", "#{k}c") { |x| "#{x}!" })
end
check("delete_multi") do |k|
  cache.write_multi({ "#{k}a" => 1, "#{k}b" => 2 })
  equal 2, cache.delete_multi(["#{k}a", "#{k}b", "#{k}none"])
end
check("delete_matched") do |k|
  (1..50).each { |i| cache.write("#{k}user/#{i}", i) }
  cache.write("#{k}other", 1)
  cache.delete_matched("#{k}user/*")
  equal({}, cache.read_multi(*(1..50).map { |i| "#{k}user/#{i}" }))
  equal 1, cache.read("#{k}other")
end
check("clear of a namespace leaves others alone") do |k|
  mine = store(namespace: "#{k}mine")
  mine.write("a", 1)
  cache.write(k, "stays")
  mine.clear
  equal nil, mine.read("a")
  equal "stays", cache.read(k)
end
check("compressed and large values") do |k|
  text = "long text " * 200_000
  cache.write(k, text)
  equal text, cache.read(k)
  blob = Random.new(2).bytes(5 << 20)
  cache.write(k, blob, compress: false)
  ok cache.read(k) == blob
  cache.delete(k)
end
check("objects and versions") do |k|
  Item = Struct.new(:id, :name)
  cache.write(k, Item.new(1, "Grüße"))
  equal Item.new(1, "Grüße"), cache.read(k)
  cache.write("#{k}v", 1, version: 1)
  equal nil, cache.read("#{k}v", version: 2)
  equal 1, cache.read("#{k}v", version: 1)
end
check("keys longer than 1 kB are hashed") do |k|
  long = k + "x" * 3000
  cache.write(long, "v")
  equal "v", cache.read(long)
end
check("a pool of 5 used by 10 threads") do |k|
  require "connection_pool"
  pooled = store(namespace: "#{k}p", **POOL)
  threads = (0...10).map { |n| Thread.new { 50.times { |i| pooled.write("#{n}-#{i}", n * i) }; (0...50).map { |i| pooled.read("#{n}-#{i}") } } }
  threads.each_with_index { |t, n| equal (0...50).map { |i| n * i }, t.value }
end
check("local cache strategy") do |k|
  cache.with_local_cache do
    cache.write(k, 1)
    equal 1, cache.read(k)
    r.del("#{PREFIX}cache:#{k}")
    equal 1, cache.read(k)
  end
  equal nil, cache.read(k)
end
check("the store's own connection; no error was swallowed") do
  ok cache.redis.then { |c| c.info }["redis_version"]
  equal [], ERRORS
end

run_checks
