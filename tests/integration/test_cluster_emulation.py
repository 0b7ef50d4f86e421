# SPDX-License-Identifier: BSD-2-Clause
"""server.cluster_emulation: Keyweir is a cluster of one node, so that cluster clients work as they are."""
import subprocess
import sys

import pytest

from harness.cluster import SLOTS, Cluster, slot_of
from harness.servers import Keyweir, Redis

EMULATION = "[server]\ncluster_emulation = true\n"
HERE = (b"127.0.0.1", b"", None)  # empty or null: the address that the client has connected to
REDIS_PY = """
import sys
from redis.cluster import RedisCluster
r = RedisCluster(host="127.0.0.1", port=int(sys.argv[1]))
for i in range(100):
    assert r.set("py%d" % i, i)
assert [int(r.get("py%d" % i)) for i in range(100)] == list(range(100))
assert r.mget_nonatomic(["py1", "py2", "py3"]) == [b"1", b"2", b"3"]
pipe = r.pipeline()
for i in range(100):
    pipe.incr("py%d" % i)
assert pipe.execute() == list(range(1, 101))
assert r.delete("py0", "py1") == 2 and r.exists("py2", "py0") == 1
assert len(r.get_nodes()) == 1 and r.dbsize() >= 98
print("done")
"""


@pytest.fixture(scope="module", params=["cluster", "standalone"])
def keyweir(request):
    if request.param == "standalone":
        with Redis() as redis, Keyweir(redis, EMULATION) as proxy:
            yield proxy
    else:
        with Cluster(replicas=0) as cluster, cluster.keyweir(tables=EMULATION) as proxy:
            yield proxy


def pairs(reply):
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))


def test_slots(keyweir, conn):
    (first, last, master), = conn.cmd("CLUSTER", "SLOTS")
    assert (first, last, master[1]) == (0, SLOTS - 1, keyweir.port)
    assert master[0] in HERE
    assert len(master[2]) == 40


def test_shards(keyweir, conn):
    shard, = conn.cmd("CLUSTER", "SHARDS")
    shard = pairs(shard)
    assert shard[b"slots"] == [0, SLOTS - 1]
    node, = shard[b"nodes"]
    node = pairs(node)
    assert (node[b"port"], node[b"role"], node[b"health"]) == (keyweir.port, b"master", b"online")
    assert node[b"endpoint"] in HERE
    assert node[b"id"] == conn.cmd("CLUSTER", "MYID")


def test_nodes(keyweir, conn):
    line, = conn.cmd("CLUSTER", "NODES").decode().splitlines()
    words = line.split()
    assert words[0] == conn.cmd("CLUSTER", "SLOTS")[0][2][2].decode()
    host, port = words[1].split("@")[0].split(":")
    assert host.encode() in HERE and int(port) == keyweir.port and words[2] == "myself,master"
    assert words[3] == "-" and words[7:] == ["connected", "0-16383"]


def test_info(conn):
    info = dict(x.split(":") for x in conn.cmd("CLUSTER", "INFO").decode().split())
    assert (info["cluster_state"], info["cluster_slots_assigned"], info["cluster_size"], info["cluster_known_nodes"]) == \
        ("ok", "16384", "1", "1")
    assert "\r\ncluster_enabled:1\r\n" in conn.cmd("INFO").decode()


@pytest.mark.parametrize("key", ["foo", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "foo{bar}{zap}", "", "a}b{c"])
def test_keyslot(conn, key):
    assert conn.cmd("CLUSTER", "KEYSLOT", key) == slot_of(key)


def test_readonly_and_asking_are_taken(conn):
    assert [conn.cmd("READONLY"), conn.cmd("READWRITE"), conn.cmd("ASKING")] == ["OK"] * 3
    assert [conn.cmd("SET", "k", "v"), conn.cmd("GET", "k")] == ["OK", b"v"]


def test_redis_py_cluster_client(keyweir):
    if subprocess.run([sys.executable, "-c", "import redis.cluster"], capture_output=True, check=False).returncode:
        pytest.skip("python3-redis")
    done = subprocess.run([sys.executable, "-c", REDIS_PY, str(keyweir.port)], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.stdout == "done\n", done.stderr[-2000:]


def test_redis_cli_cluster_mode(keyweir):
    done = subprocess.run(["redis-cli", "-c", "-p", str(keyweir.port), "SET", "cli", "v"], capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.stdout == "OK\n", done.stdout + done.stderr
