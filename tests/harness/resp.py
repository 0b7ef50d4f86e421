# SPDX-License-Identifier: BSD-2-Clause
"""A raw, blocking RESP client: what goes over the wire is what the test says, and what comes back is kept as bytes."""
import select
import socket
import ssl
import time


class RespError(str):
    """An error reply."""


class Push(list):
    """A RESP3 push."""


def encode(*args):
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        if not isinstance(arg, bytes):
            arg = str(arg).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(out)


def reply_end(data, at=0):
    """Index behind the reply that begins at `at`, or None when it is not complete."""
    left = 1
    while left:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        kind, rest = data[at:at + 1], bytes(data[at + 1:line_end])
        at = line_end + 2
        left -= 1
        if kind in b"$=!" and int(rest) >= 0:
            at += int(rest) + 2
            if at > len(data):
                return None
        elif kind in b"*~>":
            left += max(int(rest), 0)
        elif kind in b"%":
            left += 2 * int(rest)
        elif kind in b"|":
            left += 2 * int(rest) + 1
        elif kind not in b"+-:_,#($=!":
            raise ValueError("no reply: %r" % bytes(data[at - 40:at + 40]))
    return at


def _parse(data, at):
    line_end = data.find(b"\r\n", at)
    kind, rest = data[at:at + 1], data[at + 1:line_end]
    at = line_end + 2
    if kind == b"+":
        return rest.decode("latin-1"), at
    if kind == b"-":
        return RespError(rest.decode("latin-1")), at
    if kind == b":":
        return int(rest), at
    if kind == b",":
        return float(rest), at
    if kind == b"(":
        return int(rest), at
    if kind == b"#":
        return rest == b"t", at
    if kind == b"_":
        return None, at
    if kind in (b"$", b"=", b"!"):
        n = int(rest)
        if n < 0:
            return None, at
        value = data[at:at + n]
        if kind == b"=":
            value = value[4:]
        return (RespError(value.decode("latin-1")) if kind == b"!" else value), at + n + 2
    n = int(rest)
    if n < 0:
        return None, at
    if kind == b"|":
        for _ in range(2 * n):
            _, at = _parse(data, at)
        return _parse(data, at)
    items = []
    for _ in range(2 * n if kind == b"%" else n):
        item, at = _parse(data, at)
        items.append(item)
    if kind == b"%":
        pairs = zip(items[::2], items[1::2])
        return {k if not isinstance(k, list) else tuple(k): v for k, v in pairs}, at
    return (Push(items) if kind == b">" else items), at


def parse(raw):
    """The value of one whole reply."""
    return _parse(bytes(raw), 0)[0]


class Conn:
    """One connection. read_raw() gives exactly one reply (or push) as bytes."""

    def __init__(self, host="127.0.0.1", port=None, path=None, timeout=10.0, tls=None, name=None):
        if path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(path)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.sock = socket.socket(family)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.connect((host, port))
        if tls:  # an ssl.SSLContext; `name` is what the certificate must say
            self.sock.settimeout(timeout)
            self.sock = tls.wrap_socket(self.sock, server_hostname=name or host)
        self.tls = tls
        self.timeout = timeout
        self.buffer = bytearray()

    def send_raw(self, data):
        self.sock.settimeout(self.timeout)
        self.sock.sendall(data)

    def send(self, *args):
        self.send_raw(encode(*args))

    def _receive(self, deadline):
        """What came, b"" at the end, None when nothing came by the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        if self.tls:  # records may wait in the library, or carry nothing for us: select() can't tell
            self.sock.settimeout(left)
            try:
                return self.sock.recv(1 << 20)
            except TimeoutError:
                return None
        return self.sock.recv(1 << 20) if select.select([self.sock], [], [], left)[0] else None

    def read_raw(self, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            end = reply_end(self.buffer) if self.buffer else None
            if end:
                raw = bytes(self.buffer[:end])
                del self.buffer[:end]
                return raw
            data = self._receive(deadline)
            if data is None:
                raise TimeoutError("no whole reply; so far %r" % bytes(self.buffer[:200]))
            if not data:
                raise ConnectionError("closed; so far %r" % bytes(self.buffer[:200]))
            self.buffer += data

    def read(self, timeout=None):
        return parse(self.read_raw(timeout))

    def raw(self, *args):
        self.send(*args)
        return self.read_raw()

    def cmd(self, *args):
        return parse(self.raw(*args))

    def pipeline(self, commands):
        self.send_raw(b"".join(encode(*c) for c in commands))
        return [self.read_raw() for _ in commands]

    def hello(self, proto):
        return self.cmd("HELLO", proto)

    def eof(self, timeout=5.0):
        """Whether the peer closes within the time; what it still says is in buffer."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                data = self._receive(deadline)
            except (ConnectionError, ssl.SSLError):
                return True
            if data is None:
                return False
            if not data:
                return True
            self.buffer += data

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
