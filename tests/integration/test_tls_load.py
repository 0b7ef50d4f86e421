# SPDX-License-Identifier: BSD-2-Clause
"""TLS under load and through changes: large values through slow readers, sessions resumed towards Redis, certificates
of the upstream that are replaced, ports that turn to TLS, handshakes that do not come to an end."""
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from harness.resp import Conn, RespError, encode
from harness.servers import FACTOR, KEYWEIR, Keyweir, Redis, free_ports, wait_until
from harness.tls import Certificates
from test_tls import Listener

MB = 1 << 20


@pytest.fixture(scope="module")
def certs():
    with Certificates() as c:
        yield c


@pytest.fixture(scope="module")
def tls_redis(certs):
    with Redis(tls=certs) as server:
        yield server


@pytest.fixture(scope="module")
def both(tls_redis, certs):
    with Listener(tls_redis, certs, tables=certs.upstream_table(), workers=1) as one:
        yield one


def counter(conn, name):
    flat = conn.cmd("KEYWEIR", "STATUS")
    return dict(zip(flat[::2], flat[1::2]))[name.encode()]


def test_64_mb_both_ways(both, tls_redis):
    big = bytes(range(256)) * (64 * MB // 256)
    with both.connect() as conn:
        conn.timeout = 60 * FACTOR
        assert conn.cmd("SET", "huge", big) == "OK"
        assert tls_redis.cmd("STRLEN", "huge") == len(big)
        conn.send("GET", "huge")
        got, after = bytearray(), time.monotonic() + 0.5
        while len(got) < len(big) + 13:
            data = conn.sock.recv(1 << 17)
            assert data, "closed after %d bytes" % len(got)
            got += data
            if len(got) < MB:  # slow at first: the sockets fill up, writes are refused
                time.sleep(0.02)
        assert time.monotonic() > after - 0.5 and got[:11] == b"$67108864\r\n" and bytes(got[11:-2]) == big
        assert conn.cmd("PING") == "PONG" and conn.cmd("DEL", "huge") == 1


def test_a_slow_reader_holds_up_nobody(both):
    value = b"v" * MB
    with both.connect() as slow, both.connect() as quick:
        assert slow.cmd("SET", "mb", value) == "OK"
        slow.send_raw(encode("GET", "mb") * 20)
        start = time.monotonic()
        for i in range(50):
            assert quick.cmd("SET", "quick", i) == "OK"
        assert time.monotonic() - start < 5 * FACTOR
        slow.timeout = 30 * FACTOR
        for _ in range(20):
            assert slow.read() == value
        assert slow.cmd("DEL", "mb") == 1


def test_a_writer_in_small_records(both):
    """A request cut into many records, at places of no meaning."""
    with both.connect() as conn:
        request = encode("SET", "cut", b"x" * 5000) + encode("STRLEN", "cut")
        for at in range(0, len(request), 7):
            conn.send_raw(request[at:at + 7])
        assert conn.read() == "OK" and conn.read() == 5000


def test_records_of_small_replies(both):
    """Counted on the wire: 2,000 replies through TLS on both sides come in few records."""
    context = both.certs.client_context(None)
    inp, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(inp, out, server_hostname="127.0.0.1")
    wire = bytearray()
    with socket.create_connection(("127.0.0.1", both.tls_port)) as sock:
        sock.settimeout(10 * FACTOR)

        def step(fn, *args):
            while True:
                try:
                    return fn(*args)
                except ssl.SSLWantReadError:
                    sock.sendall(out.read())
                    data = sock.recv(1 << 16)
                    assert data
                    wire.extend(data)
                    inp.write(data)

        step(tls.do_handshake)
        tls.write(encode("SET", "n", 1) + encode("GET", "n") * 2000)
        sock.sendall(out.read())
        got = 0
        while got < 5 + 7 * 2000:
            got += len(step(tls.read, 1 << 16))
    records, at = 0, 0
    while at + 5 <= len(wire):
        records += wire[at] == 23
        at += 5 + int.from_bytes(wire[at + 3:at + 5], "big")
    assert records < 60, "%d records" % records


def test_sessions_with_redis_are_resumed(certs, tls_redis):
    with Keyweir(tls_redis, certs.upstream_table(), workers=1) as keyweir, keyweir.client() as conn:
        assert conn.cmd("SET", "k", "1") == "OK"
        for _ in range(5):  # a link for each, since they block at the same time
            conns = [keyweir.client() for _ in range(3)]
            for one in conns:
                one.send("BLPOP", "tls:nothing", "0.1")
            for one in conns:
                assert one.read() is None
                one.close()
        made, resumed = counter(conn, "upstream_tls_handshakes"), counter(conn, "upstream_tls_resumed")
        assert made >= 3 and resumed >= made - 2, (made, resumed)


def replace(certs, name, by):
    for path in (certs.crt, certs.key):
        shutil.copy(path(by), path(name))


def test_certificates_towards_redis_are_reloaded():
    """The configuration says the same, but the files hold something else."""
    with Certificates() as certs, Redis(tls=certs) as redis:
        redis.cmd("CONFIG", "SET", "tls-auth-clients", "yes")
        certs.issue("mine")
        with Keyweir(redis, certs.upstream_table("mine")) as keyweir, keyweir.client() as conn:
            assert conn.cmd("SET", "k", "1") == "OK"
            blocked = keyweir.client()
            blocked.send("BLPOP", "tls:list", 0)
            wait_until(lambda: b"blocked_clients:1" in redis.cmd("INFO", "clients"), what="BLPOP waits")
            replace(certs, "mine", "other-client")
            keyweir.reload()
            wait_until(lambda: isinstance(conn.cmd("GET", "k"), RespError), what="Redis refuses the new certificate")
            assert re.search("certificate|unknown ca", conn.cmd("GET", "k")), conn.cmd("GET", "k")
            redis.cmd("RPUSH", "tls:list", "x")
            assert blocked.read() == [b"tls:list", b"x"]  # the old connection lives
            certs.issue("mine")
            keyweir.reload()
            wait_until(lambda: conn.cmd("GET", "k") == b"1", what="Redis takes the good one")
            blocked.close()


def test_revoked_by_its_ca(redis):
    """A CRL in the file of the CA, and a reload: nobody else is refused."""
    with Certificates() as certs, Listener(redis, certs, "required") as one, one.connect() as old:
        certs.issue("second")
        assert old.cmd("PING") == "PONG" and one.lets_in(cert="second")
        certs.revoke("client")
        one.proxy.reload()
        wait_until(lambda: not one.lets_in(), what="the CRL counts")
        wait_until(lambda: "certificate revoked" in one.proxy.log(), what="the reason in the log")
        assert one.lets_in(cert="second") and old.cmd("PING") == "PONG"


def test_a_ca_that_no_longer_signs_it():
    with Certificates() as certs, Redis(tls=certs) as redis:
        shutil.copy(certs.crt("ca"), certs.crt("trusted"))
        with Keyweir(redis, certs.upstream_table(None, "trusted")) as keyweir, keyweir.client() as conn:
            assert conn.cmd("SET", "k", "1") == "OK"
            shutil.copy(certs.crt("other-ca"), certs.crt("trusted"))
            keyweir.reload()
            wait_until(lambda: isinstance(conn.cmd("GET", "k"), RespError), what="Redis is no longer trusted")
            assert "certificate verify failed" in conn.cmd("GET", "k")


def test_no_command_is_lost_over_a_reload(certs, tls_redis):
    with Listener(tls_redis, certs, tables=certs.upstream_table(), workers=2) as one, one.connect() as conn:
        assert conn.cmd("SET", "sum", 0) == "OK"
        stop, done, bad = threading.Event(), [0], []

        def work():
            with one.connect() as mine:
                while not stop.is_set():
                    got = mine.pipeline([["INCR", "sum"]] * 16)
                    bad.extend(x for x in got if not x.startswith(b":"))
                    done[0] += 16

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(3):
            time.sleep(0.2)
            certs.issue("client")  # Redis's connections change; so does nothing of the clients'
            one.proxy.reload()
        stop.set()
        thread.join()
        assert not bad and int(conn.cmd("GET", "sum")) == done[0]


def test_a_port_turns_to_tls_and_back(redis, certs):
    with Keyweir(redis, certs.server_table()) as keyweir:
        plain = keyweir.listen
        keyweir.listen = ["tls:" + plain[0]]
        with keyweir.client() as old:
            keyweir.reload(keyweir.config)
            with Conn(port=keyweir.port, tls=certs.client_context(None)) as conn:
                assert conn.cmd("PING") == old.cmd("PING") == "PONG"
                keyweir.listen = plain
                keyweir.reload(keyweir.config)
                with keyweir.client() as new:
                    assert new.cmd("PING") == conn.cmd("PING") == old.cmd("PING") == "PONG"


def test_a_socket_of_systemd(redis, certs, tmp_path):
    code = ("import os,sys;os.dup2(int(sys.argv[1]),3);os.environ['LISTEN_PID']=str(os.getpid());"
            "os.environ['LISTEN_FDS']='1';os.execv(sys.argv[2],sys.argv[2:])")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        port = listener.getsockname()[1]
        file = tmp_path / "k.toml"
        file.write_text('[server]\nlisten = ["tls:127.0.0.1:%d"]\n%s[upstream.main]\nurl = "%s"\n'
                        % (port, certs.server_table(), redis.url))
        with subprocess.Popen([sys.executable, "-c", code, str(listener.fileno()), KEYWEIR, "-q", "-c", str(file)],
                              pass_fds=[listener.fileno()]) as process:
            try:
                with Conn(port=port, tls=certs.client_context(None)) as conn:
                    assert conn.cmd("PING") == "PONG"
            finally:
                process.terminate()
            assert process.wait(20 * FACTOR) == 0


def test_does_not_start_without_its_certificate(redis, certs):
    """Nor with half of it; `keyweir -t` says the same."""
    port, = free_ports(1)
    shutil.copy(certs.crt("server"), certs.crt("half"))
    shutil.copy(certs.key("client"), certs.key("half"))
    keyweir = Keyweir(redis, certs.server_table("half"), listen=["tls:127.0.0.1:%d" % port])
    keyweir.start(wait=False)
    assert keyweir.wait() == 78
    says = r"\[server.tls\] private key .*half\.key: it does not belong to the certificate"
    assert re.search("ERROR " + says, keyweir.log()), keyweir.log()
    done = subprocess.run([KEYWEIR, "-t", "-c", keyweir.file], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 78 and re.search(says, done.stderr), done.stderr
    keyweir.stop(expect_exit=78)


def test_failed_handshakes_are_counted_and_said(redis, certs):
    with Listener(redis, certs, "required") as one, one.proxy.client() as conn:
        before = counter(conn, "tls_failed")
        assert not one.lets_in(cert=None)
        wait_until(lambda: counter(conn, "tls_failed") == before + 1, what="it is counted")
        wait_until(lambda: re.search(r"INFO TLS handshake with 127\.0\.0\.1:\d+ failed: the client shows no certificate",
                                     one.proxy.log()), what="it is logged")


def test_many_handshakes_at_once(redis, certs):
    """One worker: who talks already is served between the handshakes of the others."""
    with Listener(redis, certs, workers=1) as one, one.proxy.client() as plain:
        context, slowest = certs.client_context(None), [0.0]
        threads = [threading.Thread(target=lambda: [one.connect(context=context).close() for _ in range(20)])
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            assert plain.cmd("PING") == "PONG"
            slowest[0] = max(slowest[0], time.monotonic() - start)
        assert slowest[0] < 1 * FACTOR
        assert counter(plain, "tls_handshakes") >= 160 and counter(plain, "tls_failed") == 0


@pytest.mark.long
def test_a_handshake_that_never_ends(listener_of_own):
    with socket.create_connection(("127.0.0.1", listener_of_own.tls_port)) as sock:
        sock.settimeout(20)
        assert sock.recv(1) == b""
    assert "it takes too long" in listener_of_own.proxy.log()


@pytest.fixture
def listener_of_own(redis, certs):
    with Listener(redis, certs) as one:
        yield one
