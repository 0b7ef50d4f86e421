# SPDX-License-Identifier: BSD-2-Clause
# What the Ruby scripts share: named checks that print "ok NAME" or "not ok NAME: why" and "done N" at the end.
require "timeout"

URL = ENV.fetch("REDIS_URL")
PREFIX = "t:#{Process.pid}:#{Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)}:"
CHECKS = []

def check(name, &block)
  CHECKS << [name, block]
end

def equal(want, got)
  raise "want #{want.inspect[0, 120]}, got #{got.inspect[0, 120]}" unless want == got
end

def ok(value, what = "")
  raise "not true: #{what}" unless value
end

def raises(kind, text)
  yield
rescue kind => e
  raise "#{e.message.inspect} does not say #{text}" unless e.message.include?(text)
else
  raise "no #{kind}"
end

def wait_until(what, limit = 8)
  stop = Process.clock_gettime(Process::CLOCK_MONOTONIC) + limit
  loop do
    value = yield
    return value if value
    raise "never came true: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > stop
    sleep 0.005
  end
end

def run_checks
  $stdout.sync = true
  count = bad = 0
  CHECKS.each do |name, block|
    next unless ARGV.empty? || name.include?(ARGV[0])
    count += 1
    begin
      Timeout.timeout(20) { block.call("#{PREFIX}#{count}:") }
      puts "ok #{name}"
    rescue StandardError => e
      bad += 1
      puts "not ok #{name}: #{e.class} #{e.message.split.join(' ')}"
    end
  end
  yield if block_given?
  puts "done #{count}"
  exit!(bad.zero? ? 0 : 1)
end
