# SPDX-License-Identifier: BSD-2-Clause
# The jobs of sidekiq_check.rb; loaded by the worker process and by the client.
require "sidekiq"

Sidekiq.configure_server { |c| c.redis = { url: ENV.fetch("REDIS_URL") } }

class Base
  include Sidekiq::Worker
  sidekiq_options queue: ENV.fetch("SIDEKIQ_TEST_QUEUE"), retry: 5

  def redis(&block)
    Sidekiq.redis(&block)
  end
end

class Add < Base
  def perform(key, a, b)
    redis { |c| c.set(key, a + b) }
  end
end

class Count < Base
  def perform(key)
    redis { |c| c.incr(key) }
  end
end

class Length < Base
  def perform(key, text)
    redis { |c| c.set(key, text.size) }
  end
end

class Chain < Base
  def perform(key, n)
    redis { |c| c.incr(key) }
    self.class.perform_async(key, n - 1) if n > 1
  end
end

class Fails < Base
  def perform(_key)
    raise "no luck"
  end
end

class Dies < Base
  sidekiq_options queue: ENV.fetch("SIDEKIQ_TEST_QUEUE"), retry: 0

  def perform(_key)
    raise "no luck"
  end
end
