# SPDX-License-Identifier: BSD-2-Clause
"""TLS on both sides: who is let in, who is refused and how that is said, and certificates that change."""
import re
import socket
import ssl
import subprocess
import sys

import pytest

from harness.resp import Conn, RespError
from harness.servers import Keyweir, Redis, free_ports, wait_until
from harness.tls import Certificates

REDIS_PY = """
import sys, redis
r = redis.Redis(port=int(sys.argv[1]), ssl=True, ssl_ca_certs=sys.argv[2], ssl_check_hostname=True)
assert r.set("py", "v" * 100000) and len(r.get("py")) == 100000
print("done")
"""
REFUSED = (ssl.SSLError, ConnectionError)


@pytest.fixture(scope="module")
def certs():
    with Certificates() as c:
        yield c


@pytest.fixture(scope="module")
def tls_redis(certs):
    with Redis(tls=certs) as server:
        yield server


class Listener:
    """A Keyweir with a TLS port beside its plain one."""

    def __init__(self, redis, certs, clients="none", tables="", workers=2):
        self.certs = certs
        self.tls_port, plain = free_ports(2)
        self.proxy = Keyweir(redis, certs.server_table(clients=clients) + tables, workers=workers)
        self.proxy.port = plain
        self.proxy.listen = ["127.0.0.1:%d" % plain, "tls:127.0.0.1:%d" % self.tls_port]

    def connect(self, cert="client", ca="ca", context=None):
        return Conn(port=self.tls_port, tls=context or self.certs.client_context(cert, ca))

    def __enter__(self):
        self.proxy.start()
        return self

    def __exit__(self, *_):
        self.proxy.stop()

    def lets_in(self, **kwargs):
        """With TLS 1.3 a server refuses a client's certificate only after the client is done: a command tells."""
        try:
            with self.connect(**kwargs) as conn:
                return conn.cmd("PING") == "PONG"
        except REFUSED:
            return False


@pytest.fixture(scope="module")
def listener(redis, certs):
    with Listener(redis, certs) as one:
        yield one


# ---- clients of Keyweir ----

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(listener, certs, version):
    context = certs.client_context(None)
    context.minimum_version = context.maximum_version = version
    with listener.connect(context=context) as conn:
        assert conn.sock.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        assert conn.hello(3)[b"proto"] == 3
        assert conn.cmd("SET", "v", "1") == "OK" and conn.cmd("GET", "v") == b"1"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_1_1_is_refused(listener, certs):
    context = certs.client_context(None)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="(?i)alert protocol version"):  # the server's word, not the client's own
        listener.connect(context=context)


@pytest.mark.parametrize("tls12", [True, False], ids=["1.2", "1.3"])
def test_sessions_are_resumed(listener, certs, tls12):
    context = certs.client_context(None)
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    with listener.connect(context=context) as first:
        assert first.cmd("PING") == "PONG"
        session = first.sock.session
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", listener.tls_port)), server_hostname="127.0.0.1",
                               session=session)
    with sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(100) == b"+PONG\r\n" and sock.session_reused


def test_large_values_and_pipelines(listener):
    big = bytes(range(256)) * (5 << 12)
    with listener.connect() as conn:
        assert conn.cmd("SET", "big", big) == "OK"
        assert conn.cmd("GET", "big") == big
        got = conn.pipeline([["ECHO", "%05d" % i] for i in range(20000)])
        assert got == [b"$5\r\n%05d\r\n" % i for i in range(20000)]


def test_many_replies_in_one_record(listener):
    """The replies of one write of the client do not come in a record each: few reads see them all."""
    with listener.connect() as conn:
        conn.send_raw(b"PING\r\n" * 1000)
        got, records = 0, 0
        while got < 7000:
            got += len(conn.sock.recv(1 << 20))  # gives one record at most
            records += 1
        assert records <= 100, f"{records} records for 1000 replies"


def test_pubsub_and_blocking(listener):
    with listener.connect() as sub, listener.connect() as blocked, listener.proxy.client() as conn:
        assert sub.cmd("SUBSCRIBE", "tls")[2] == 1
        blocked.send("BLPOP", "tls:queue", 10)
        assert conn.cmd("PUBLISH", "tls", "hello") == 1
        assert sub.read() == [b"message", b"tls", b"hello"]
        conn.cmd("RPUSH", "tls:queue", "x")
        assert blocked.read() == [b"tls:queue", b"x"]


def test_slow_handshakes_hold_up_nobody(redis, certs):
    with Listener(redis, certs, workers=1) as one:
        idle = [socket.create_connection(("127.0.0.1", one.tls_port)) for _ in range(50)]
        for sock in idle[:25]:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a hello
        with one.connect() as conn, one.proxy.client() as plain:
            assert conn.cmd("PING") == plain.cmd("PING") == "PONG"
        for sock in idle:
            sock.close()


def test_plain_text_on_the_tls_port(listener):
    with Conn(port=listener.tls_port) as conn:
        conn.send("PING")
        assert conn.eof()
        assert b"PONG" not in conn.buffer
    assert listener.lets_in()


def test_redis_cli(listener, certs):
    done = subprocess.run(["redis-cli", "-p", str(listener.tls_port), *certs.cli_args(None), "SET", "cli", "v"],
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "OK\n", done.stderr


def test_redis_py(listener, certs):
    if subprocess.run([sys.executable, "-c", "import redis"], capture_output=True, check=False).returncode:
        pytest.skip("python3-redis")
    done = subprocess.run([sys.executable, "-c", REDIS_PY, str(listener.tls_port), certs.crt("ca")], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr[-2000:]


@pytest.mark.parametrize("clients, without, wrong, good", [
    ("none", True, True, True), ("optional", True, False, True), ("required", False, False, True)])
def test_client_certificates(redis, certs, clients, without, wrong, good):
    with Listener(redis, certs, clients) as one:
        assert one.lets_in(cert=None) == without
        assert one.lets_in(cert="other-client") == wrong
        assert one.lets_in(cert="expired") == wrong
        assert one.lets_in(cert="client") == good


# ---- certificates that change ----

def serial_seen(listener):
    with listener.connect(cert=None) as conn:
        der = conn.sock.getpeercert()
        return int(der["serialNumber"], 16)


def test_reload_takes_new_certificates(redis):
    with Certificates() as own, Listener(redis, own) as one, one.connect() as old:
        before = own.serial("server")
        assert serial_seen(one) == before and old.cmd("SET", "held", "1") == "OK"
        own.issue("server")
        assert own.serial("server") != before == serial_seen(one)  # not by itself
        one.proxy.reload()
        wait_until(lambda: serial_seen(one) == own.serial("server"), what="the new certificate")
        assert old.cmd("GET", "held") == b"1"


def test_reload_of_a_broken_certificate_changes_nothing(redis):
    with Certificates() as own, Listener(redis, own) as one, one.connect() as old:
        before = own.serial("server")
        with open(own.crt("server"), "w", encoding="ascii") as file:
            file.write("nothing of a certificate\n")
        one.proxy.reload()
        wait_until(lambda: re.search(r"(ERROR|WARN).*server\.crt", one.proxy.log()), what="the file in the log")
        assert serial_seen(one) == before and old.cmd("PING") == "PONG"


def test_revoked_by_reload(redis):
    """Another CA for clients: who was let in is refused from then on, who is connected stays."""
    with Certificates() as own, Listener(redis, own, "required") as one, one.connect() as old:
        assert old.cmd("PING") == "PONG" and not one.lets_in(cert="other-client")
        one.proxy.reload(one.proxy.config.replace(own.crt("ca"), own.crt("other-ca")))
        wait_until(lambda: one.lets_in(cert="other-client"), what="the new CA counts")
        assert not one.lets_in(cert="client")
        assert old.cmd("PING") == "PONG"
        assert re.search("certificate", one.proxy.log()), "nothing in the log of who was refused"


# ---- Redis behind Keyweir ----

def test_upstream_by_tls(tls_redis, certs):
    with Keyweir(tls_redis, certs.upstream_table(None)) as keyweir, keyweir.client(3) as conn:
        big = b"0123456789abcdef" * (1 << 18)
        assert conn.cmd("SET", "big", big) == "OK" and conn.cmd("GET", "big") == big
        assert conn.pipeline([["ECHO", i] for i in range(1000)])[-1] == b"$3\r\n999\r\n"
        assert tls_redis.cmd("STRLEN", "big") == len(big)
        assert "connected successfully" in keyweir.log()


def test_both_sides(tls_redis, certs):
    with Listener(tls_redis, certs, tables=certs.upstream_table()) as one, one.connect() as conn:
        assert conn.cmd("SET", "both", "1") == "OK" and tls_redis.cmd("GET", "both") == b"1"
        assert conn.pipeline([["GET", "both"]] * 1000) == [b"$1\r\n1\r\n"] * 1000


@pytest.mark.parametrize("cert, ca, says", [
    ("server", "other-ca", "certificate"), ("misnamed", "ca", "mismatch|name"), ("expired", "ca", "expired")],
    ids=["wrong CA", "wrong name", "expired"])
def test_upstream_that_is_not_trusted(certs, cert, ca, says):
    with RedisOf(certs, cert) as redis, Keyweir(redis, certs.upstream_table(None, ca)) as keyweir, keyweir.client() as conn:
        answer = conn.cmd("SET", "k", "v")
        assert isinstance(answer, RespError) and answer.startswith("UPSTREAMDOWN"), answer
        wait_until(lambda: re.search("WARN.*(%s)" % says, keyweir.log()), what="a line that says why")
        assert b"cmdstat_set" not in redis.cmd("INFO", "commandstats")


class RedisOf(Redis):
    """A Redis with a certificate of choice, which the harness itself does not check."""

    def __init__(self, certs, cert):
        super().__init__(tls=Unchecked(certs, cert))


class Unchecked:
    """Stands in for Certificates: the server's certificate, and whether clients must have one, are chosen."""

    def __init__(self, certs, cert, clients="optional"):
        self.certs, self.cert, self.clients = certs, cert, clients

    def redis_args(self):
        return self.certs.redis_args(self.cert, self.clients)

    def client_context(self):
        context = self.certs.client_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


@pytest.mark.parametrize("cert, extra", [("misnamed", 'server_name = "other.example"\n'), ("expired", "verify = false\n")])
def test_what_makes_it_trusted(certs, cert, extra):
    table = certs.upstream_table(None, extra=extra)
    with RedisOf(certs, cert) as redis, Keyweir(redis, table) as keyweir, keyweir.client() as conn:
        assert conn.cmd("SET", "k", "v") == "OK"
        assert ("WARN" in keyweir.log()) == ("verify" in extra), keyweir.log()


def test_redis_wants_a_certificate(certs):
    with Redis(tls=Unchecked(certs, "server", "yes")) as redis:
        with Keyweir(redis, certs.upstream_table(None)) as keyweir, keyweir.client() as conn:
            assert conn.cmd("GET", "k").startswith("UPSTREAMDOWN")
            wait_until(lambda: re.search("WARN.*(certificate|handshake|TLS)", keyweir.log()), what="a line that says why")
        with Keyweir(redis, certs.upstream_table("client")) as keyweir, keyweir.client() as conn:
            assert conn.cmd("SET", "k", "v") == "OK"
