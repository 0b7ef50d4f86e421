# SPDX-License-Identifier: BSD-2-Clause
"""Real clients at their defaults, through Keyweir. Each script prints a line for each check: "ok NAME", "not ok NAME: why".

CLIENTS_DIRECT=1 runs the same scripts against Redis itself, which proves the checks.
"""
import os
import shutil
import subprocess

import pytest

from harness.namespaces import Bound
from harness.servers import Keyweir, Redis

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
DIRECT = os.environ.get("CLIENTS_DIRECT") == "1"

# name: (command, least number of checks, what must be there, how that is found out)
NODE = "node_modules is missing (npm ci in tests/clients) or node is older than 20"
CLIENTS = {
    "ioredis": (["node", "ioredis.mjs"], 40, NODE, ["node", "-e", "import('ioredis').catch(()=>process.exit(1))"]),
    "node-redis": (["node", "node-redis.mjs"], 30, NODE, ["node", "-e", "import('redis').catch(()=>process.exit(1))"]),
    "valkey-glide": (["node", "glide.mjs"], 24, NODE,
                     ["node", "-e", "import('@valkey/valkey-glide').catch(()=>process.exit(1))"]),
    "bullmq": (["node", "bullmq.mjs"], 15, NODE, ["node", "-e", "import('bullmq').catch(()=>process.exit(1))"]),
    "rate-limiter-flexible": (["node", "rate_limiter_flexible.mjs"], 18, NODE,
                              ["node", "-e", "import('rate-limiter-flexible').catch(()=>process.exit(1))"]),
    "redis-py": ([PYTHON, "redis_py.py"], 36, "python3-redis", [PYTHON, "-c", "import redis.asyncio"]),
    "celery": ([PYTHON, "celery_check.py"], 13, "python3-celery", [PYTHON, "-c", "import celery"]),
    "redis-rb": (["ruby", "-W0", "redis_rb.rb"], 27, "ruby-redis", ["ruby", "-e", "require 'redis'"]),
    "rails-cache": (["ruby", "-W0", "rails_cache.rb"], 16, "ruby-activesupport",
                    ["ruby", "-e", "require 'redis'; require 'connection_pool'; require 'active_support'"]),
    "sidekiq": (["ruby", "-W0", "sidekiq_check.rb"], 12, "ruby-sidekiq", ["ruby", "-e", "require 'sidekiq'"]),
    "rack-attack": (["ruby", "-W0", "rack_attack.rb"], 9, "ruby-rack-attack",
                    ["ruby", "-e", "require 'rack/attack'; require 'rack/mock'; require 'active_support'"]),
    "phpredis": (["php", "phpredis.php"], 24, "php-cli and php-redis", ["php", "-r", "exit(class_exists('Redis')?0:1);"]),
    "redis-cli": (["bash", "redis_cli.sh"], 38, "redis-tools", ["redis-cli", "--version"]),
}


# Over a listener that is bound to a namespace: checks whose commands reach beyond it, and are refused.
REFUSED = {
    "node-redis": {"info, dbSize, configGet"}, "valkey-glide": {"info, dbsize, time, configGet"},
    "redis-py": {"config, slowlog, command, dbsize"},
    "redis-cli": {"INFO, DBSIZE, CLIENT LIST, SLOWLOG, CONFIG", "object, debug sleep 0, latency", "redis-benchmark: no error"},
}
# Its scripts make up the names of most keys from an argument: they work on the upstream's own names only.
OWN_NAMES = {"bullmq"}


@pytest.fixture(scope="module", params=["plain", "namespace"])
def url(request):
    """In a namespace: over a listener that is bound to it, which is a whole Redis to its clients."""
    bound = Bound("app")
    with Redis() as redis:
        if DIRECT:
            yield redis.url
        elif request.param == "plain":
            with Keyweir(redis) as keyweir:
                yield "redis://127.0.0.1:%d/0" % keyweir.port
        else:
            with Keyweir(redis, '[namespace.app]\nprefix = "shop:app:"\nchannel_prefix = "shop:app:"\n' + bound.table):
                yield "redis://127.0.0.1:%d/0?" % bound.port
                assert all(key.startswith(b"shop:app:") for key in redis.cmd("KEYS", "*"))


def available(probe):
    if not shutil.which(probe[0]):
        return False
    return subprocess.run(probe, cwd=HERE, capture_output=True, timeout=60, check=False).returncode == 0


def node_too_old(command):
    if command[0] != "node":
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    return int(version.lstrip("v").split(".")[0] or 0) < 20


@pytest.mark.parametrize("client", CLIENTS)
def test_client(url, client, tmp_path):
    command, least, package, probe = CLIENTS[client]
    bound = url.endswith("?")
    if bound and client in OWN_NAMES:
        pytest.skip("its scripts make up names of keys")
    if not available(probe) or node_too_old(command):
        pytest.skip(f"{client}: {package}")
    env = dict(os.environ, REDIS_URL=url.rstrip("?"), PYTHONDONTWRITEBYTECODE="1", CELERY_TEST_LOG=str(tmp_path / "celery"),
               SIDEKIQ_TEST_LOG=str(tmp_path / "sidekiq"))
    process = subprocess.Popen(command, cwd=HERE, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               errors="replace", start_new_session=True)
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # the script and what it started; a session of their own
        out, err = process.communicate()
        out += "not ok the script: still running after 120 s\n"
    lines = out.splitlines()
    refused = [x for x in lines if bound and x.startswith("not ok ") and x[7:].partition(":")[0] in {r.partition(":")[0] for r in REFUSED.get(client, ())}]
    bad = [x for x in lines if x.startswith("not ok") and x not in refused]
    done = [x for x in lines if x.startswith("done ")]
    assert not bad, "\n".join(bad) + "\n" + err[-1500:]
    assert done, f"{client} broke off after {len(lines)} lines\n{out[-500:]}\n{err[-1500:]}"
    assert sum(x.startswith("ok ") for x in lines) + len(refused) == int(done[0].split()[1]) >= least, out[-500:]
    assert process.returncode == 0 or refused, f"exit {process.returncode}\n{err[-1500:]}"
