# SPDX-License-Identifier: BSD-2-Clause
"""The daemon as CONTRACT §1 describes it: command line, log, reload, signals, systemd, listeners, limits."""
import os
import signal
import socket
import subprocess
import sys

import pytest

from harness.resp import Conn, RespError
from harness.servers import KEYWEIR, Keyweir, Redis, free_port, wait_until


def run(*args, env=None):
    return subprocess.run([KEYWEIR, *args], capture_output=True, text=True, timeout=20, check=False,
                          env={**os.environ, **(env or {})})


def test_command_line(tmp_path):
    assert run("-V").stdout.startswith("keyweir ") and run("-h").returncode == 0
    assert run("--nonsense").returncode == 2 and run("what").returncode == 2
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('[server]\nworkers = 1\n')
    bad.write_text('[server]\nworker = 1\nmax_clients = "many"\n[upstream.main]\nread_timeout = "5 parsecs"\n')
    assert run("-t", "-c", str(good)).returncode == 0
    done = run("-t", "-c", str(bad))
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert [line.split(":")[1:3] for line in lines] == [["2", "1"], ["3", "15"], ["5", "16"]], lines
    assert "did you mean" in lines[0] and "workers" in lines[0]
    assert run("-c", str(tmp_path / "none.toml")).returncode == 78


def test_dump_masks_and_loads_back(tmp_path):
    done = run("--dump", "-u", "redis://user:topsecret@localhost:7000/3")
    assert done.returncode == 0 and "topsecret" not in done.stdout and "user:***@localhost:7000/3" in done.stdout
    again = tmp_path / "dump.toml"
    again.write_text(done.stdout)
    assert run("--dump", "-c", str(again)).stdout == done.stdout


def test_listens_on_this_machine_only():
    done = run("-t", "-l", "0.0.0.0:7777")
    assert done.returncode == 78 and "loopback" in done.stderr


def test_start_up_words_and_port_in_use(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis)
    log = proxy.log()
    assert "INFO Connecting to Redis at redis://127.0.0.1:" in log and "INFO Redis connected successfully" in log
    done = run("-l", proxy.listen[0], "-u", redis.url)
    assert done.returncode == 1 and "Address already in use" in done.stderr


def test_starts_without_redis_and_heals(fresh_keyweir):
    redis = Redis()
    proxy = fresh_keyweir(redis)
    assert "WARN Failed to connect to Redis: Connection refused." in proxy.log()
    with proxy.client() as conn:
        assert conn.cmd("GET", "x").startswith("UPSTREAMDOWN")
        assert conn.cmd("PING") == "PONG"
        assert b"keyweir_version" in conn.cmd("INFO")
        redis.start()
        wait_until(lambda: conn.cmd("SET", "x", "1") == "OK", 3)
    redis.stop()


def test_reload(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis)
    with proxy.client() as conn:
        conn.cmd("SET", "a", "1")
        proxy.write_config("[server]\nmax_clients = 2\n")
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: "Configuration reloaded" in proxy.log())
        assert conn.cmd("GET", "a") == b"1"
        with proxy.client() as second:
            assert second.cmd("PING") == "PONG"
            with proxy.client() as third:
                assert parse_line(third) == b"-ERR max number of clients reached\r\n"
        proxy.write_config("[server]\nmax_clients = -2\nfoo = 1\n")
        assert conn.cmd("KEYWEIR", "RELOAD").startswith("ERR ")
        assert proxy.log().count("nothing is changed") == 1 and ":4:1: unknown key" in proxy.log()
        assert conn.cmd("GET", "a") == b"1"
        proxy.write_config("[log]\nlevel = \"debug\"\n")
        assert conn.cmd("KEYWEIR", "RELOAD") == "OK"


def parse_line(conn):
    return conn.read_raw()


def test_reload_moves_to_another_redis(redis, fresh_redis, fresh_keyweir):
    other = fresh_redis()
    proxy = fresh_keyweir(redis)
    with proxy.client() as conn, other.client() as direct:
        direct.cmd("SET", "where", "there")
        conn.cmd("SET", "where", "here")
        proxy.url = other.url
        proxy.write_config()
        assert conn.cmd("KEYWEIR", "RELOAD") == "OK"
        wait_until(lambda: conn.cmd("GET", "where") == b"there")


def test_term_lets_commands_finish(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis)
    with proxy.client() as conn, proxy.client() as idle, redis.client() as direct:
        conn.send("BLPOP", "drain", 5)
        wait_until(lambda: b"blocked_clients:1" in direct.cmd("INFO", "clients"))
        proxy.signal(signal.SIGTERM)
        assert idle.eof()
        with pytest.raises(OSError):
            wait_until(lambda: proxy.client().close(), 1)
        direct.cmd("RPUSH", "drain", "v")
        assert conn.read() == [b"drain", b"v"]
        assert proxy.wait() == 0


def test_second_term_is_at_once(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis)
    with proxy.client() as conn, redis.client() as direct:
        conn.send("BLPOP", "never", 0)
        wait_until(lambda: b"blocked_clients:1" in direct.cmd("INFO", "clients"))
        proxy.signal(signal.SIGTERM)
        wait_until(lambda: "Stopping" in proxy.log())
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0


def test_log_file_is_opened_again(redis, fresh_keyweir, tmp_path):
    log = tmp_path / "keyweir.log"
    proxy = fresh_keyweir(redis, config='[log]\nfile = "%s"\n' % log, wait=False)
    wait_until(lambda: log.exists() and " ready with " in log.read_text())
    log.rename(tmp_path / "old.log")
    proxy.signal(signal.SIGUSR1)
    wait_until(log.exists)


def test_json_log(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, config='[log]\nformat = "json"\n')
    assert all(line.startswith('{"time":"') and line.endswith("}") for line in proxy.log().splitlines())


def test_unix_and_ipv6(redis, fresh_keyweir, tmp_path):
    path, port = str(tmp_path / "k.sock"), free_port()
    fresh_keyweir(redis, listen=["unix:" + path, "[::1]:%d" % port])
    with Conn(path=path) as one, Conn(host="::1", port=port) as two:
        one.cmd("SET", "u", "6")
        assert two.cmd("GET", "u") == b"6"


def test_systemd(redis, fresh_keyweir, tmp_path):
    """Readiness, reload, stop and watchdog on a notify socket; a listening socket handed over."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, socket.socket() as listener:
        notify.bind(path)
        notify.settimeout(10)
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        port = listener.getsockname()[1]
        code = ("import os,sys;os.dup2(int(sys.argv[1]),3);os.environ['LISTEN_PID']=str(os.getpid());"
                "os.environ['LISTEN_FDS']='1';os.execv(sys.argv[2],sys.argv[2:])")
        env = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
        file = tmp_path / "k.toml"
        file.write_text('[upstream.main]\nurl = "%s"\n' % redis.url)
        with subprocess.Popen([sys.executable, "-c", code, str(listener.fileno()), KEYWEIR, "-q", "-c", str(file)],
                              env=env, pass_fds=[listener.fileno()]) as process:
            seen = notify.recv(1000).decode()
            assert seen.startswith("READY=1")
            with Conn(port=port) as conn:
                assert conn.cmd("PING") == "PONG"
            while "WATCHDOG=1" not in seen:
                seen = notify.recv(1000).decode()
            process.send_signal(signal.SIGHUP)
            words = []
            while "READY=1" not in words:
                words += notify.recv(1000).decode().split("\n")
            assert "RELOADING=1" in words
            process.terminate()
            while "STOPPING=1" not in words:
                words += notify.recv(1000).decode().split("\n")
            assert process.wait(20) == 0


def test_client_timeout(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, config='[server]\nclient_timeout = "1s"\n')
    with proxy.client() as idle, proxy.client() as listening:
        listening.cmd("SUBSCRIBE", "x")
        assert idle.eof(5)
        assert listening.cmd("PING") == [b"pong", b""]


def test_timeout_drops_the_late_reply(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, config='read_timeout = "200ms"\n', workers=1)
    with proxy.client() as one, proxy.client() as two:
        one.cmd("SET", "a", "old"), two.cmd("SET", "b", "new")
        redis.freeze()
        assert one.cmd("GET", "a").startswith("TIMEOUT")
        redis.thaw()
        assert two.cmd("GET", "b") == b"new" and one.cmd("GET", "b") == b"new" and one.cmd("GET", "a") == b"old"


def test_pool_size_and_overload(fresh_redis, fresh_keyweir):
    redis = fresh_redis()
    proxy = fresh_keyweir(redis, config='pool_size = 4\npool_timeout = "300ms"\n', workers=1)
    conns = [proxy.client() for _ in range(4)]
    with redis.client() as direct:
        for conn in conns[:3]:
            conn.send("BLPOP", "q", 0)
        wait_until(lambda: b"blocked_clients:3" in direct.cmd("INFO", "clients"))
        assert conns[3].cmd("BLPOP", "q", 0).startswith("OVERLOADED")
        conns[0].close()
        assert conns[3].cmd("BLPOP", "q", "0.05") is None
        names = [line for line in direct.cmd("CLIENT", "LIST").split(b"\n") if b"name=keyweir " in line]
        assert len(names) <= 4
    for conn in conns:
        conn.close()


def test_errors_have_their_words():
    """Those that cannot be had on demand are at least in the table."""
    with open(os.path.join(os.path.dirname(KEYWEIR), "../../src/resp/errors.def"), encoding="ascii") as file:
        text = file.read()
    for word in ("UPSTREAMDOWN", "TIMEOUT", "OVERLOADED", "EXECABORT", "DENIED", "NOPROTO"):
        assert '"%s ' % word in text
    assert isinstance(RespError("x"), str) and Keyweir
