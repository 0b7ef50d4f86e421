# SPDX-License-Identifier: BSD-2-Clause
"""A JWT blocklist as applications have it, through Keyweir with [token_blacklist]."""
import os
import subprocess

import pytest

from harness.servers import FACTOR, Keyweir, Redis, calls_of, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
CONFIG = '[token_blacklist]\nnamespace = "token:blacklist"\nby = "jti"\n'
HASHED = 'secret = "sixteen and some more"\n'


@pytest.mark.parametrize("more", [HASHED, "hash_tokens = false\n", HASHED + "mirror = false\n"],
                         ids=["hashed", "plain", "no mirror"])
def test_jwt_blocklist(more):
    if subprocess.run([PYTHON, "-c", "import jwt, redis"], capture_output=True, check=False).returncode:
        pytest.skip("python3-jwt or python3-redis is missing")
    with Redis() as redis, Keyweir(redis, CONFIG + more) as keyweir:
        if "mirror" not in more:
            wait_until(lambda: "are in memory" in keyweir.log())
        env = dict(os.environ, REDIS_URL="redis://127.0.0.1:%d/0" % keyweir.port)
        out = subprocess.run([PYTHON, "jwt_blocklist.py"], cwd=HERE, env=env, capture_output=True, text=True,
                             timeout=120 * FACTOR, check=False)
        lines = out.stdout.splitlines()
        assert out.returncode == 0 and not [line for line in lines if not line.startswith("ok ")], out.stdout + out.stderr
        assert len(lines) == 6
        if "mirror" not in more:  # a look costs no round trip, but for one whose token has just changed
            assert calls_of(redis, "exists") < 300
        if more.startswith(HASHED):
            assert not [key for key in redis.cmd("KEYS", "*") if b"-" in key]
