# SPDX-License-Identifier: BSD-2-Clause
"""A TCP relay between Keyweir and Redis that can delay, hold and cut what passes through it, in a process of its own.

    with Relay([redis.port, redis.port]) as relay:      # a port for each Keyweir
        Keyweir("redis://127.0.0.1:%d/0" % relay.ports[0])
        relay.delay(0, "tracking", 0.05, 0.4)
        relay.freeze(0, "tracking"); relay.thaw(0, "tracking"); relay.cut(0, "data")

A connection whose first bytes say "keyweir-tracking" (CLIENT SETNAME) is of the kind "tracking", all others are "data".
Bytes of a connection never overtake each other, each direction by itself.
"""
import multiprocessing
import random
import selectors
import socket
import time
from collections import deque

NAME = b"keyweir-tracking"
LOOK = 4096  # so many of a connection's first bytes may say its name
UP, DOWN = 0, 1  # to Redis, and back


class Rule:
    """What happens to connections of one kind at one port."""

    def __init__(self):
        self.frozen = [False, False]
        self.wait = [(0.0, 0.0), (0.0, 0.0)]


class Pipe:
    """One direction of a connection: bytes that wait for their time."""

    def __init__(self, sink):
        self.sink = sink
        self.queue = deque()  # (when it may go, bytes)
        self.last = 0.0
        self.ended = False


class Pair:
    """A connection of Keyweir's and that to Redis which belongs to it."""

    def __init__(self, port, near, far):
        self.port, self.kind, self.seen = port, "data", b""
        self.socks = [near, far]
        self.pipes = [Pipe(far), Pipe(near)]
        self.closed = False


class Loop:
    """The relay's process."""

    def __init__(self, listeners, targets, control):
        self.listeners, self.targets, self.control = listeners, targets, control
        self.rules = {(i, kind): Rule() for i in range(len(listeners)) for kind in ("data", "tracking")}
        self.pairs = set()
        self.rng = random.Random(1)
        self.select = selectors.DefaultSelector()

    def run(self):
        for i, listener in enumerate(self.listeners):
            self.select.register(listener, selectors.EVENT_READ, ("accept", i))
        self.select.register(self.control, selectors.EVENT_READ, ("control", None))
        while True:
            for key, _ in self.select.select(self.until_next()):
                what, it = key.data
                if what == "accept":
                    self.accept(it)
                elif what == "control":
                    if not self.obey():
                        return
                elif not it.closed:
                    self.read(it, what)
            self.flush()

    def until_next(self):
        """Seconds until something may go on."""
        now, times = time.monotonic(), []
        for pair in self.pairs:
            rule = self.rules[pair.port, pair.kind]
            for way, pipe in enumerate(pair.pipes):
                if pipe.queue and not rule.frozen[way]:
                    times.append(pipe.queue[0][0] - now)
        return max(min(times), 0) if times else None

    def accept(self, port):
        near, _ = self.listeners[port].accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.targets[port]), timeout=1)
        except OSError:
            near.close()
            return
        pair = Pair(port, near, far)
        for way, sock in enumerate(pair.socks):
            sock.settimeout(5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.select.register(sock, selectors.EVENT_READ, (way, pair))
        self.pairs.add(pair)

    def read(self, pair, way):
        try:
            data = pair.socks[way].recv(1 << 18)
        except OSError:
            data = b""
        if way == UP and len(pair.seen) < LOOK:
            pair.seen += data
            if NAME in pair.seen:
                pair.kind = "tracking"
        pipe, low_high = pair.pipes[way], self.rules[pair.port, pair.kind].wait[way]
        pipe.last = max(pipe.last, time.monotonic() + self.rng.uniform(*low_high))
        pipe.queue.append((pipe.last, data))  # b"": the end, which keeps its place
        if not data:
            self.select.unregister(pair.socks[way])
            pipe.ended = True

    def flush(self):
        now = time.monotonic()
        for pair in list(self.pairs):
            rule = self.rules[pair.port, pair.kind]
            for way, pipe in enumerate(pair.pipes):
                while pipe.queue and not rule.frozen[way] and pipe.queue[0][0] <= now and not pair.closed:
                    self.deliver(pair, pipe, pipe.queue.popleft()[1])

    def deliver(self, pair, pipe, data):
        try:
            if data:
                pipe.sink.sendall(data)
            else:
                self.close(pair)
        except OSError:
            self.close(pair)

    def close(self, pair):
        if pair.closed:
            return
        pair.closed = True
        for way, sock in enumerate(pair.socks):
            if not pair.pipes[way].ended:
                self.select.unregister(sock)
            sock.close()
        self.pairs.discard(pair)

    def obey(self):
        try:
            what, port, kind, *args = self.control.recv()
        except EOFError:
            return False
        rule = self.rules[port, kind]
        answer = None
        if what == "freeze":
            for way in args[0]:
                rule.frozen[way] = args[1]
        elif what == "delay":
            for way in args[0]:
                rule.wait[way] = args[1]
        elif what == "cut":
            doomed = [p for p in self.pairs if p.port == port and p.kind == kind]
            for pair in doomed:
                self.close(pair)
            answer = len(doomed)
        elif what == "count":
            answer = sum(p.port == port and p.kind == kind for p in self.pairs)
        elif what == "target":
            self.targets[port] = args[0]
        self.control.send(answer)
        return True


class Relay:
    def __init__(self, targets):
        self.targets = list(targets)
        self.listeners = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in targets]
        self.ports = [s.getsockname()[1] for s in self.listeners]
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def url(self, port=0):
        return "redis://127.0.0.1:%d/0" % self.ports[port]

    def start(self):
        context = multiprocessing.get_context("fork")
        self.control, far = context.Pipe()
        self.process = context.Process(target=_run, args=(self.listeners, self.targets, far, self.control), daemon=True)
        self.process.start()
        far.close()
        for listener in self.listeners:
            listener.close()
        return self

    def stop(self):
        self.control.close()
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def tell(self, *words):
        self.control.send(words)
        return self.control.recv()

    def delay(self, port, kind, low, high=None, ways=(UP, DOWN)):
        """What is read from now on waits so many seconds; 0: none."""
        self.tell("delay", port, kind, ways, (low, low if high is None else high))

    def freeze(self, port, kind, ways=(UP, DOWN)):
        self.tell("freeze", port, kind, ways, True)

    def thaw(self, port, kind, ways=(UP, DOWN)):
        self.tell("freeze", port, kind, ways, False)

    def cut(self, port, kind):
        """Closes these connections; how many there were."""
        return self.tell("cut", port, kind)

    def count(self, port, kind):
        return self.tell("count", port, kind)

    def aim(self, port, target):
        """Connections from now on go to another port."""
        self.tell("target", port, "data", target)


def _run(listeners, targets, control, other_end):
    other_end.close()
    try:
        Loop(listeners, targets, control).run()
    except KeyboardInterrupt:
        pass
