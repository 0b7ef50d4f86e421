# SPDX-License-Identifier: BSD-2-Clause
"""[[server.listener]]: that they listen, what a reload does to them and to their clients, what is refused at start."""
import os
import socket
import subprocess
import sys

import pytest

from harness.resp import Conn
from harness.servers import KEYWEIR, free_port, free_ports, wait_until
from harness.tls import Certificates


def listener(address, namespace):
    return '[[server.listener]]\naddress = "%s"\nnamespace = "%s"\n' % (address, namespace)


def tables(port, *names, namespace="shop"):
    return (listener("127.0.0.1:%d" % port, namespace) if port else "") + "".join("[namespace.%s]\n" % n for n in names)


def answers(port):
    try:
        with Conn(port=port) as conn:
            return conn.cmd("PING") == "PONG"
    except OSError:
        return False


def test_listens_beside_the_others(redis, fresh_keyweir, tmp_path):
    port, path = free_port(), str(tmp_path / "shop.sock")
    proxy = fresh_keyweir(redis, tables(port, "shop", "api") + listener("unix:" + path, "api"))
    assert "Listening on 127.0.0.1:%d for namespace shop" % port in proxy.log()
    with proxy.client() as plain, Conn(path=path) as api:
        assert answers(port) and plain.cmd("PING") == "PONG" and api.cmd("PING") == "PONG"
    proxy.stop()
    assert not os.path.exists(path)


def test_reload_adds_and_removes(redis, fresh_keyweir):
    first, second = free_ports(2)
    proxy = fresh_keyweir(redis, tables(first, "shop"))
    with Conn(port=first) as stays, proxy.client() as plain:
        assert stays.cmd("PING") == "PONG"
        proxy.reload(tables(first, "shop") + listener("127.0.0.1:%d" % second, "shop"))
        assert answers(first) and answers(second) and stays.cmd("PING") == "PONG"
        proxy.reload(tables(second, "shop"))
        assert answers(second) and not answers(first)
        assert stays.cmd("PING") == "PONG"  # its namespace is still there
        proxy.reload("[namespace.shop]\n")
        assert not answers(second) and plain.cmd("PING") == "PONG"


def test_bad_reload_changes_nothing(redis, fresh_keyweir):
    port, other, taken = free_ports(3)
    proxy = fresh_keyweir(redis, tables(port, "shop"))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        holder.listen(1)
        proxy.reload(tables(other, "shop") + listener("127.0.0.1:%d" % taken, "shop"))
        assert "Can't listen on 127.0.0.1:%d" % taken in proxy.log() and "nothing is changed" in proxy.log()
        assert answers(port) and not answers(other)
    proxy.reload(tables(other, "other"))
    assert "is shop, but there is no [namespace.shop]" in proxy.log()
    assert answers(port) and not answers(other)


def test_clients_of_a_namespace_that_goes_are_closed(redis, fresh_keyweir):
    port = free_port()
    proxy = fresh_keyweir(redis, tables(port, "shop", "api"), workers=3)
    clients = [Conn(port=port) for _ in range(9)]
    with proxy.client() as plain:
        assert all(c.cmd("PING") == "PONG" for c in clients) and plain.cmd("PING") == "PONG"
        clients[0].send("BLPOP", "nothing:here", 0)
        proxy.reload(tables(port, "api", namespace="api"))
        assert all(c.eof() for c in clients) and answers(port)
        assert plain.cmd("PING") == "PONG"
        wait_until(lambda: b"connected_clients:1\r" in plain.cmd("INFO", "clients"))


def test_an_address_changes_sides(redis, fresh_keyweir):
    """The socket of server.listen becomes that of a listener, and the other way round; nobody is refused meanwhile."""
    port = free_port()
    proxy = fresh_keyweir(redis, "[namespace.shop]\n", listen=["127.0.0.1:%d" % p for p in (free_port(), port)])
    with Conn(port=port) as before:
        both, proxy.listen = proxy.listen, proxy.listen[:1]
        proxy.reload(tables(port, "shop"))
        assert "Listening on 127.0.0.1:%d for namespace shop" % port in proxy.log()
        assert before.cmd("PING") == "PONG" and answers(port)
        proxy.listen = both
        proxy.reload("[namespace.shop]\n")
        assert answers(port) and before.cmd("PING") == "PONG"


def test_many_reloads_under_load(redis, fresh_keyweir):
    """Views are renewed with every snapshot: clients go on while the configuration they belong to is freed."""
    port = free_port()
    proxy = fresh_keyweir(redis, tables(port, "shop"))
    with Conn(port=port) as bound, proxy.client() as plain:
        for i in range(10):
            for conn in (bound, plain):
                conn.send_raw(b"PING\r\n" * 100)
            proxy.reload(tables(port, "shop", *["n%d" % k for k in range(i)]))
            assert all(conn.read() == "PONG" for conn in (bound, plain) for _ in range(100))


def test_tls(redis, fresh_keyweir):
    port = free_port()
    with Certificates() as certs:
        fresh_keyweir(redis, certs.server_table() + listener("tls:127.0.0.1:%d" % port, "shop") + "[namespace.shop]\n")
        with Conn(port=port, tls=certs.client_context("client", "ca")) as conn:
            assert conn.cmd("PING") == "PONG"


def test_beside_sockets_of_systemd(redis, tmp_path):
    """They take the place of server.listen, not of listeners."""
    port, unused = free_ports(2)
    file = tmp_path / "k.toml"
    file.write_text('[server]\nlisten = ["127.0.0.1:%d"]\n[upstream.main]\nurl = "%s"\n%s' %
                    (unused, redis.url, tables(port, "shop")))
    code = ("import os,sys;os.dup2(int(sys.argv[1]),3);os.environ['LISTEN_PID']=str(os.getpid());"
            "os.environ['LISTEN_FDS']='1';os.execv(sys.argv[2],sys.argv[2:])")
    with socket.socket() as handed:
        handed.bind(("127.0.0.1", 0))
        handed.listen(16)
        with subprocess.Popen([sys.executable, "-c", code, str(handed.fileno()), KEYWEIR, "-q", "-c", str(file)],
                              pass_fds=[handed.fileno()]) as process:
            wait_until(lambda: answers(port))
            assert answers(handed.getsockname()[1]) and not answers(unused)
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.parametrize("config,said", [
    (tables(7001, "api"), ":3:13: server.listener.namespace is shop, but there is no [namespace.shop]"),
    (tables(7001, "default", namespace="default"), "is default, which has no prefix"),
    (listener("127.0.0.1:7001", "shop") + tables(7001, "shop"), "is that of another [[server.listener]]"),
    (listener("127.0.0.1:6380", "shop") + "[namespace.shop]\n", "stands in listen of [server], too"),
    (listener("127.0.0.1:6379", "shop") + "[namespace.shop]\n", "Keyweir would talk to itself"),
    (listener("tls:127.0.0.1:7001", "shop") + "[namespace.shop]\n", "needs cert and key in [server.tls]"),
    (listener("0.0.0.0:7001", "shop") + "[namespace.shop]\n", "loopback"),
])
def test_mistakes(tmp_path, config, said):
    file = tmp_path / "k.toml"
    file.write_text(config)
    env = {k: v for k, v in os.environ.items() if k != "REDIS_URL"}
    done = subprocess.run([KEYWEIR, "-t", "-c", str(file)], capture_output=True, text=True, timeout=20, check=False, env=env)
    assert done.returncode == 78 and said in done.stderr, done.stderr


def test_gen_key(tmp_path):
    lines = [subprocess.run([KEYWEIR, "gen-key", *args], capture_output=True, text=True, timeout=20, check=True).stdout
             for args in ([], ["other"])]
    file = tmp_path / "k.toml"
    file.write_text("[encryption]\nkeys = [%s]\n[namespace.a]\nencrypt = true\n" % ",".join(lines))
    done = subprocess.run([KEYWEIR, "--dump", "-c", str(file)], capture_output=True, text=True, timeout=20, check=True)
    assert 'a:***", "other:***"]' in done.stdout
    assert not any(line.split(":")[1].strip('"\n') in done.stdout for line in lines)


def test_sees_and_kills_its_own_kind_only(redis, fresh_keyweir):
    """CLIENT LIST, CLIENT KILL and MONITOR on a bound listener are about the clients of that namespace."""
    port = free_port()
    proxy = fresh_keyweir(redis, tables(port, "shop"))
    with Conn(port=port) as one, Conn(port=port) as two, proxy.client() as other:
        mine, its = one.cmd("CLIENT", "ID"), two.cmd("CLIENT", "ID")
        listed = {int(line.split()[0][3:]) for line in one.cmd("CLIENT", "LIST").decode().splitlines()}
        assert listed == {mine, its}
        assert one.cmd("CLIENT", "KILL", "ID", other.cmd("CLIENT", "ID")) == 0
        assert two.cmd("MONITOR") == "OK"
        other.cmd("SET", "elsewhere", 1), other.cmd("EVAL", "return redis.call('SET','by-script',1)", 0), one.cmd("SET", "mine", 1)
        assert two.read().endswith('"SET" "mine" "1"')
        assert one.cmd("CLIENT", "KILL", "ID", its) == 1
