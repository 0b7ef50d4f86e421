# SPDX-License-Identifier: BSD-2-Clause
"""Commands of modules: learnt from Redis's COMMAND, at start, after a restart, and when an unknown one is seen."""
import os
import subprocess

import pytest

from harness.servers import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("module") / "kw.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, os.path.join(HERE, "module.c")], check=True)
    return path


def learns(keyweir):
    """How many sets of commands were learnt so far."""
    return keyweir.log().count("INFO Learnt ")


def test_learnt_at_start(module, fresh_redis, fresh_keyweir):
    redis = fresh_redis(["--loadmodule", module])
    keyweir = fresh_keyweir(redis)
    wait_until(lambda: learns(keyweir) == 1)
    with keyweir.client() as one, keyweir.client() as two:
        assert one.cmd("KW.SET", "k", "v") == "OK" and two.cmd("kw.get", "k") == b"v"
        assert two.cmd("KW.GET").startswith("ERR wrong number of arguments")
        # Known now, so it goes over the shared connections: no more of them than before.
        before = len(redis_clients(redis))
        others = [keyweir.client() for _ in range(10)]
        assert [o.cmd("KW.GET", "k") for o in others] == [b"v"] * 10
        assert len(redis_clients(redis)) <= before + 1
        for other in others:
            other.close()
        one.send_raw(b"".join(b"*%d\r\n" % len(c) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in c) for c in (
            [b"MULTI"], [b"kw.set", b"k", b"2"], [b"kw.get", b"k"], [b"EXEC"])))
        assert [one.read() for _ in range(4)] == ["OK", "QUEUED", "QUEUED", ["OK", b"2"]]


def redis_clients(redis):
    with redis.client() as direct:
        return direct.cmd("CLIENT", "LIST").splitlines()


def test_loaded_and_unloaded_under_way(module, fresh_redis, fresh_keyweir):
    """An unknown command works at once, alone; then it is learnt. What was learnt may change while it is in use."""
    redis = fresh_redis(["--enable-module-command", "yes"])
    keyweir = fresh_keyweir(redis)
    with keyweir.client() as client, redis.client() as direct:
        assert client.cmd("KW.GET", "k").startswith("ERR unknown command")
        before = learns(keyweir)  # a Redis newer than the table has commands of its own
        for round_ in range(3):
            assert direct.cmd("MODULE", "LOAD", module) == "OK"
            assert client.cmd("KW.SET", "k", round_) == "OK"
            wait_until(lambda: client.cmd("NOSUCH").startswith("ERR unknown") and
                       learns(keyweir) == before + 2 * round_ + 1)
            client.send("KW.SLEEP", 300)  # under way while the module's commands are forgotten
            with keyweir.client() as other:
                wait_until(lambda: b"cmd=kw.sleep" in other.cmd("CLIENT", "LIST"), what="it is on its way")
                assert direct.cmd("MODULE", "UNLOAD", "kw") == "OK"
                wait_until(lambda: other.cmd("NOSUCH").startswith("ERR unknown") and
                           learns(keyweir) == before + 2 * round_ + 2)
                assert other.cmd("KW.GET", "k").startswith("ERR unknown command")
                assert client.read() == "slept"
                assert b"cmd=kw.sleep" in other.cmd("CLIENT", "LIST")
                assert other.cmd("GET", "k") == b"%d" % round_
