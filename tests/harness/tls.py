# SPDX-License-Identifier: BSD-2-Clause
"""Certificates for the tests, made with the openssl command: good ones, and some that must be refused.

    ca, server (127.0.0.1 and localhost), client     what a good set-up has
    other-ca, other-client, other-server             another CA and what it signed: nobody here trusts it
    misnamed                                         by the good CA, for a host of another name
    expired                                          by the good CA, good for one day of the year 2020
"""
import os
import shutil
import ssl
import subprocess
import tempfile

NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"
OTHER_NAME = "subjectAltName=DNS:other.example"
CA_CONFIG = """[ca]
default_ca = it
[it]
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


class Certificates:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="keyweir-tls-")
        for ca in ("ca", "other-ca"):
            self._openssl("req", "-x509", *self._new_key(ca), "-days", "30", "-subj", "/CN=Test " + ca,
                          "-addext", "basicConstraints=critical,CA:TRUE")
        self.issue("server")
        self.issue("client")
        self.issue("other-server", ca="other-ca")
        self.issue("other-client", ca="other-ca")
        self.issue("misnamed", names=OTHER_NAME)
        self._expired()

    def crt(self, name):
        return os.path.join(self.folder, name + ".crt")

    def key(self, name):
        return os.path.join(self.folder, name + ".key")

    def _openssl(self, *args):
        done = subprocess.run(["openssl", *args], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr

    def _new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key(name),
                "-out", self.crt(name)]

    def _request(self, name, names):
        """A new key, and in the place of the certificate a request for one."""
        self._openssl("req", "-new", *self._new_key(name), "-subj", "/CN=" + name, "-addext", names)
        os.rename(self.crt(name), self.crt(name) + ".csr")
        return self.crt(name) + ".csr"

    def issue(self, name, ca="ca", names=NAMES):
        """Makes a certificate; one that was there is replaced by a new key and another serial number."""
        request = self._request(name, names)
        self._openssl("x509", "-req", "-in", request, "-out", self.crt(name), "-CA", self.crt(ca), "-CAkey", self.key(ca),
                      "-days", "10", "-copy_extensions", "copy")

    def _expired(self):
        config = os.path.join(self.folder, "ca.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write(CA_CONFIG.format(folder=self.folder))
        with open(os.path.join(self.folder, "index"), "w", encoding="ascii"):
            pass
        request = self._request("expired", NAMES)
        self._openssl("ca", "-batch", "-notext", "-config", config, "-rand_serial", "-cert", self.crt("ca"), "-keyfile",
                      self.key("ca"), "-in", request, "-out", self.crt("expired"),
                      "-startdate", "20200101000000Z", "-enddate", "20200102000000Z")

    def revoke(self, name, ca="ca"):
        """Appends a CRL to the CA's own file."""
        common = ["-config", os.path.join(self.folder, "ca.conf"), "-cert", self.crt(ca), "-keyfile", self.key(ca)]
        crl = os.path.join(self.folder, "crl")
        self._openssl("ca", *common, "-revoke", self.crt(name))
        self._openssl("ca", *common, "-gencrl", "-crldays", "10", "-out", crl)
        with open(crl, encoding="ascii") as source, open(self.crt(ca), "a", encoding="ascii") as file:
            file.write(source.read())

    def client_context(self, cert="client", ca="ca"):
        """A client that checks the server; without a certificate of its own when `cert` is None."""
        context = ssl.create_default_context(cafile=self.crt(ca))
        if cert:
            context.load_cert_chain(self.crt(cert), self.key(cert))
        return context

    def redis_args(self, cert="server", clients="optional"):
        """redis-server's options; Redis uses the same certificate as a client of other nodes."""
        return ["--tls-cert-file", self.crt(cert), "--tls-key-file", self.key(cert), "--tls-ca-cert-file", self.crt("ca"),
                "--tls-auth-clients", clients, "--tls-replication", "yes"]

    def cli_args(self, cert="client", ca="ca"):
        own = ["--cert", self.crt(cert), "--key", self.key(cert)] if cert else []
        return ["--tls", "--cacert", self.crt(ca), *own]

    def upstream_table(self, cert="client", ca="ca", extra=""):
        """[upstream.main.tls] of keyweir.toml."""
        text = '[upstream.main.tls]\nca = "%s"\n' % self.crt(ca)
        if cert:
            text += 'cert = "%s"\nkey = "%s"\n' % (self.crt(cert), self.key(cert))
        return text + extra + "\n"

    def server_table(self, cert="server", ca="ca", clients="none"):
        """[server.tls] of keyweir.toml."""
        return '[server.tls]\ncert = "%s"\nkey = "%s"\nca = "%s"\nclient_cert = "%s"\n' % (
            self.crt(cert), self.key(cert), self.crt(ca), clients)

    def serial(self, name):
        return int(subprocess.run(["openssl", "x509", "-in", self.crt(name), "-noout", "-serial"], capture_output=True,
                                  text=True, timeout=30, check=True).stdout.strip().split("=")[1], 16)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
