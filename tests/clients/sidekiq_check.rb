# SPDX-License-Identifier: BSD-2-Clause
# Sidekiq (6.4 of Debian 12, 7 of Debian 13): a real worker process; this script is the client side (sidekiq_jobs.rb holds the jobs).
require "redis"
require "sidekiq"
require "sidekiq/api"
require_relative "checks"
ENV["SIDEKIQ_TEST_PREFIX"] = PREFIX
ENV["SIDEKIQ_TEST_QUEUE"] = "q#{Process.pid}"
require_relative "sidekiq_jobs"

Sidekiq.configure_client { |c| c.redis = { url: URL } }
Sidekiq.logger.level = Logger::FATAL
r = Redis.new(url: URL)
log = ENV.fetch("SIDEKIQ_TEST_LOG", File::NULL)
worker = Process.spawn({ "RUBYOPT" => "-W0" }, "sidekiq", "-q", ENV["SIDEKIQ_TEST_QUEUE"], "-c", "5", "-t", "5",
                       "-r", File.join(__dir__, "sidekiq_jobs.rb"), out: log, err: log)

check("perform_async: the result is seen") do |k|
  ok Add.perform_async(k, 2, 3)
  equal "5", wait_until("result", 15) { r.get(k) }
end
check("100 jobs, each done once") do |k|
  100.times { Count.perform_async(k) }
  wait_until("100 jobs", 15) { r.get(k) == "100" }
  wait_until("empty queue") { Sidekiq::Queue.new(ENV["SIDEKIQ_TEST_QUEUE"]).size.zero? }
  equal "100", r.get(k)
end
check("push_bulk") do |k|
  ids = Sidekiq::Client.push_bulk("class" => Count, "args" => Array.new(50) { [k] })
  equal 50, ids.compact.size
  wait_until("50 jobs", 15) { r.get(k) == "50" }
end
check("perform_in lands in the schedule") do |k|
  Add.perform_in(3600, k, 1, 1)
  job = Sidekiq::ScheduledSet.new.find { |j| j.args[0] == k }
  ok job
  job.delete
  equal nil, Sidekiq::ScheduledSet.new.find { |j| j.args[0] == k }
end
check("a scheduled job is brought forward and done") do |k|
  Add.perform_in(3600, k, 20, 22)
  Sidekiq::ScheduledSet.new.find { |j| j.args[0] == k }.add_to_queue
  equal "42", wait_until("result", 15) { r.get(k) }
end
check("a job that fails is put in the retry set") do |k|
  Fails.perform_async(k)
  job = wait_until("retry set", 15) { Sidekiq::RetrySet.new.find { |j| j.args[0] == k } }
  equal "no luck", job["error_message"]
  job.delete
end
check("a job that fails without retry is dead") do |k|
  Dies.perform_async(k)
  job = wait_until("dead set", 15) { Sidekiq::DeadSet.new.find { |j| j.args[0] == k } }
  job.delete
end
check("processes and heartbeat") do
  process = wait_until("process", 15) { Sidekiq::ProcessSet.new.find { |p| p["pid"] == worker } }
  equal 5, process["concurrency"]
end
check("stats") do
  stats = wait_until("processed", 15) { (s = Sidekiq::Stats.new).processed >= 150 && s }
  ok stats.queues.is_a?(Hash)
  ok Sidekiq::Stats::History.new(2).processed.is_a?(Hash)
end
check("a big argument") do |k|
  Length.perform_async(k, "x" * (1 << 20))
  equal (1 << 20).to_s, wait_until("result", 15) { r.get(k) }
end
check("a job that sends a job") do |k|
  Chain.perform_async(k, 5)
  wait_until("five", 15) { r.get(k) == "5" }
end
check("the worker ends by itself on SIGTERM") do
  Process.kill("TERM", worker)
  pid = wait_until("exit", 15) { Process.wait(worker, Process::WNOHANG) }
  equal worker, pid
  equal true, $?.success?
  worker = nil
end

run_checks { (Process.kill("KILL", worker); Process.wait(worker)) if worker }
