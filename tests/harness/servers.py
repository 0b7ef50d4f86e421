# SPDX-License-Identifier: BSD-2-Clause
"""Real processes for the tests: redis-server and Keyweir, on loopback ports picked free, each in a folder of its own.

They die with the test run (PR_SET_PDEATHSIG) and are stopped by pid.
"""
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .resp import Conn

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEYWEIR = os.environ.get("KEYWEIR_BIN", os.path.join(TOP, "build/release/keyweir"))
FACTOR = float(os.environ.get("KEYWEIR_TEST_TIMEOUT", "1"))
LIBC = ctypes.CDLL(None)
BAD_WORDS = ("Sanitizer", "runtime error:", "Assertion")


def free_port():
    return free_ports(1)[0]


def free_ports(count):
    """Ports that differ from each other."""
    socks = [socket.socket() for _ in range(count)]
    try:
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()


def wait_until(fn, timeout=10.0, what=""):
    """Polls fn until it is true and returns its value."""
    deadline = time.monotonic() + timeout * FACTOR
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not in time: %s" % (what or fn))
        time.sleep(0.005)


def _die_with_parent():
    LIBC.prctl(1, signal.SIGKILL)


class Process:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="keyweir-test-")
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def spawn(self, argv, env=None, **kwargs):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, preexec_fn=_die_with_parent, **kwargs
            )

    def log(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        os.kill(self.process.pid, number)

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        if self.alive():
            self.process.kill()
        if self.process:
            self.process.wait()

    def rss_kb(self):
        with open("/proc/%d/status" % self.pid, encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0

    def clean(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def _answers(make):
    try:
        with make() as conn:
            return conn.cmd("PING") is not None
    except OSError:
        return False


class Redis(Process):
    """A redis-server. `tls` is a harness.tls.Certificates: then it speaks nothing but TLS."""

    def __init__(self, args=(), port=None, unix=False, password=None, tls=None):
        super().__init__()
        self.args = list(args)
        self.password = password
        self.tls = tls
        self.port = port or free_port()
        self.path = os.path.join(self.folder, "redis.sock") if unix else None

    @property
    def url(self):
        if self.path:
            return "unix://" + self.path
        user = ":%s@" % self.password if self.password else ""
        return "redis%s://%s127.0.0.1:%d/0" % ("s" if self.tls else "", user, self.port)

    def client(self, proto=2, timeout=10.0):
        conn = Conn(port=self.port, path=self.path, timeout=timeout, tls=self.tls and self.tls.client_context())
        if self.password:
            conn.cmd("AUTH", self.password)
        if proto == 3:
            conn.hello(3)
        return conn

    def cmd(self, *args, timeout=10.0):
        """One command on a connection of its own."""
        with self.client(timeout=timeout) as conn:
            return conn.cmd(*args)

    def launch(self):
        """Starts it without waiting for it."""
        where = ["--port", "0", "--unixsocket", self.path] if self.path else ["--port", str(self.port)]
        if self.tls:
            where = ["--port", "0", "--tls-port", str(self.port), *self.tls.redis_args()]
        if self.password:
            where += ["--requirepass", self.password, "--masterauth", self.password]
        self.spawn(["redis-server", *where, "--bind", "127.0.0.1", "--save", "", "--dir", self.folder,
                    "--enable-debug-command", "yes", *self.args])
        return self

    def start(self):
        self.launch()
        wait_until(lambda: _answers(self.client), what="redis-server answers")
        return self

    def restart(self):
        self.kill()
        return self.start()

    def stop(self):
        if self.alive():
            self.thaw()
        self.kill()
        self.clean()


def calls_of(server, name):
    """How often the server has run a command ("get", "cluster|slots")."""
    for line in server.cmd("INFO", "commandstats").decode().splitlines():
        if line.startswith("cmdstat_%s:calls=" % name):
            return int(line.partition("calls=")[2].split(",")[0])
    return 0


class Keyweir(Process):
    """Keyweir in front of a Redis (or a URL, or None: then `config` says where Redis is).

    Its stop() fails on a bad exit or a sanitizer's word.
    """

    def __init__(self, upstream, config="", args=(), env=None, listen=None, workers=2):
        super().__init__()
        self.url = upstream if isinstance(upstream, str) or upstream is None else upstream.url
        self.port = free_port()
        self.listen = listen or ["127.0.0.1:%d" % self.port]
        self.config = config
        self.args = list(args)
        self.env = env
        self.workers = workers
        self.file = os.path.join(self.folder, "keyweir.toml")

    def write_config(self, config=None):
        """`config` holds whole tables; lines before its first table belong to [upstream.main], and so does the URL
        unless there is none (Cluster, Sentinel: `nodes` instead) or the config has an [upstream.main] of its own."""
        head, *tables = re.split(r"(?m)^(?=\[)", self.config if config is None else config)
        server = "".join(t[len("[server]\n"):] for t in tables if t.startswith("[server]\n"))
        if "workers" not in server:
            server += "\nworkers = %d\n" % self.workers
        listen = ", ".join('"%s"' % item for item in self.listen)
        text = "[server]\nlisten = [%s]\n%s\n" % (listen, server)
        if not any(t.startswith("[upstream.main]") for t in tables):
            text += "[upstream.main]\n%s%s\n" % ('url = "%s"\n' % self.url if self.url else "", head)
        text += "\n".join(t for t in tables if not t.startswith("[server]\n"))
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(text)

    def reload(self, config=None):
        """SIGHUP, with a new config or only for files that changed. Waits until the log speaks of it."""
        if config is not None:
            self.config = config
            self.write_config()
        before = len(self.log())
        self.signal(signal.SIGHUP)
        wait_until(lambda: "eload" in self.log()[before:], what="the reload in the log")

    def start(self, wait=True):
        self.write_config()
        env = dict(os.environ, **(self.env or {}))
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        env.pop("REDIS_URL", None) if not self.env else None
        self.spawn([KEYWEIR, "-c", self.file, *self.args], env=env)
        if wait:
            wait_until(lambda: " ready with " in self.log() or not self.alive(), what="Keyweir is ready")
            assert self.alive(), "Keyweir did not start:\n" + self.log()
            wait_until(lambda: "connected successfully" in self.log() or "Failed to connect" in self.log(),
                       what="the first word about Redis")
        return self

    def client(self, proto=2):
        if self.listen[0].startswith("unix:"):
            conn = Conn(path=self.listen[0][5:])
        else:
            conn = Conn(port=self.port)
        if proto == 3:
            conn.hello(3)
        return conn

    def wait(self, timeout=30):
        return self.process.wait(timeout * FACTOR)

    def stop(self, expect_exit=0):
        status = self.process.poll() if self.process else 0
        if self.process and status is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGQUIT)
            try:
                status = self.process.wait(20 * FACTOR)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("Keyweir did not stop:\n" + self.log()[-3000:]) from None
        log = self.log() if self.process else ""
        bad = [word for word in BAD_WORDS if word in log]
        if status != expect_exit or bad:
            raise AssertionError("Keyweir ended with %s %s:\n%s" % (status, bad, log[-6000:]))
        self.clean()
