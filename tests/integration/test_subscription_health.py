# SPDX-License-Identifier: BSD-2-Clause
"""A subscription whose server is frozen is noticed and made anew, without a word to the client."""
import select

from harness.servers import Keyweir, Redis, wait_until


def test_frozen_server_is_noticed():
    with Redis() as redis, Keyweir(redis, 'read_timeout = "200ms"\nconnect_timeout = "300ms"\n'
                                   'health_check = "300ms"\n[log]\nlevel = "debug"\n') as keyweir:
        with keyweir.client() as sub, keyweir.client() as conn:
            assert sub.cmd("SUBSCRIBE", "news")[2] == 1
            redis.freeze()
            try:
                wait_until(lambda: "no answer on the subscription" in keyweir.log(), what="the frozen subscription is given up")
            finally:
                redis.thaw()

            def heard():  # Redis may count the old connection for a moment
                conn.cmd("PUBLISH", "news", "hello")
                return select.select([sub.sock], [], [], 0.1)[0]

            wait_until(heard, what="it is subscribed again")
            assert sub.read() == [b"message", b"news", b"hello"]
