# SPDX-License-Identifier: BSD-2-Clause
"""A server between Keyweir and a real Redis that misbehaves on cue; the only fake in these tests."""
import socket
import threading


class Fake:
    """Hands each request on to Redis and its reply back, but asks `script` first.

    script(args, conn) returns None (go on as Redis would) or is itself done with the request: it may have sent any
    bytes with conn.sendall() or closed it. `args` is the list of arguments, bytes.
    """

    def __init__(self, redis, script=None, on_connect=None):
        self.redis = redis
        self.script = script or (lambda args, conn: None)
        self.on_connect = on_connect or (lambda conn: None)
        self.seen = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socks = []
        self.running = True
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.running = False
        for s in [self.listener, *self.socks]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def accept(self):
        while self.running:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(conn)
            threading.Thread(target=self.guarded, args=(conn,), daemon=True).start()

    def guarded(self, conn):
        try:
            self.serve(conn)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            conn.close()

    def serve(self, conn):
        if self.on_connect(conn) is not None:
            return
        back = socket.create_connection(("127.0.0.1", self.redis.port))
        self.socks.append(back)
        for sock in (conn, back):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        requests, replies = conn.makefile("rb"), back.makefile("rb")
        try:
            while True:
                raw, args = read_request(requests)
                self.seen.append(args)
                if self.script(args, conn) is None:
                    back.sendall(raw)
                    conn.sendall(read_reply(replies))
        finally:
            back.close()


def line(f):
    text = f.readline()
    if not text.endswith(b"\r\n"):
        raise EOFError
    return text


def read_request(f):
    head = line(f)
    raw, args = [head], []
    for _ in range(int(head[1:])):
        size = line(f)
        body = f.read(int(size[1:]) + 2)
        if len(body) < int(size[1:]) + 2:
            raise EOFError
        raw += [size, body]
        args.append(body[:-2])
    return b"".join(raw), args


def read_reply(f):
    head = line(f)
    kind, n = head[:1], head[1:-2]
    if kind in b"$=!" and n != b"-1":
        return head + f.read(int(n) + 2)
    if kind in b"*~>%|" and n != b"-1":
        count = int(n) * (2 if kind in b"%|" else 1)
        body = head + b"".join(read_reply(f) for _ in range(count))
        return body + read_reply(f) if kind in b"|>" else body
    return head
