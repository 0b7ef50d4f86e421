# SPDX-License-Identifier: BSD-2-Clause
"""The same checks as test_clients.py by rediss://, with Keyweir's certificate checked by the client, and TLS to Redis."""
import pytest

from harness.servers import Keyweir, Redis, free_port
from harness.tls import Certificates
from test_clients import test_client as run_client

CLIENTS = ["ioredis", "node-redis", "redis-py", "redis-rb"]


@pytest.fixture(scope="module")
def certs():
    with Certificates() as c:
        yield c


@pytest.fixture(scope="module")
def url(certs):
    port = free_port()
    with Redis(tls=certs) as redis:
        with Keyweir(redis, certs.server_table() + certs.upstream_table(None), listen=["tls:127.0.0.1:%d" % port]):
            yield "rediss://127.0.0.1:%d/0" % port


@pytest.mark.parametrize("client", CLIENTS)
def test_by_tls(url, certs, client, tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", certs.crt("ca"))
    monkeypatch.setenv("SSL_CERT_FILE", certs.crt("ca"))
    run_client(url, client, tmp_path)
