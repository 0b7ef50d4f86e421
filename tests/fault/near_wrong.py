# SPDX-License-Identifier: BSD-2-Clause
"""A small near-cache in Python, right by itself, and wrong in one way each when it is told so: the checker of
near_model.py must find every one of these faults, and nothing in the right one.

It stands where a Keyweir stands: a port for clients, Redis (or a relay) behind it, a tracking connection.
"""
import asyncio
import multiprocessing
import socket
import time

from harness.resp import encode, parse, reply_end

FAULTS = {  # what the checker says of it
    "never": "ms old",  # nothing that is heard makes it forget
    "no heartbeat": "ms old",  # it serves also when the tracking connection is silent
    "no own writes": "overwritten through",  # it waits until Redis tells of its clients' writes
    "no fence": "overwritten through",  # after a script it serves what it has
    "no lease": "links that are well|overwritten through|ms old",  # a reply is kept even when its key changed meanwhile
    "no time": "past its own time",  # a reply outlives its key
    "one database": "never was",  # databases are not kept apart
    "first argument": "never was|torn",  # what stands behind the key is ignored
    "overtaken": "never was|another's",  # an answer from memory does not wait for those before it
    "in transactions": "EXEC of",  # a read in MULTI is answered from memory
}
LIMIT, BEAT = 0.5, 0.1
CACHED = {b"GET", b"STRLEN", b"GETRANGE", b"BITCOUNT", b"EXISTS", b"TYPE", b"HGET", b"HMGET", b"HGETALL", b"HLEN", b"HKEYS",
          b"HVALS", b"HEXISTS", b"LRANGE", b"LLEN", b"LINDEX", b"SMEMBERS", b"SISMEMBER", b"SMISMEMBER", b"SCARD", b"ZRANGE",
          b"ZSCORE", b"ZCARD", b"ZRANK"}
ONLY_READ = CACHED | {b"MGET", b"PING", b"ECHO", b"SELECT", b"HELLO", b"WATCH", b"MULTI", b"DISCARD"}
BLIND = {b"EVAL", b"EXEC"}


class Memory:
    """What all clients share."""

    def __init__(self, fault):
        self.fault = fault
        self.kept = {}  # key -> {request: (reply, until)}
        self.changes = {}  # key -> how often it changed
        self.wholes = 0  # how often everything did
        self.confirmed = 0.0
        self.waiting = []  # for a confirmation

    def forget(self, key):
        self.changes[key] = self.changes.get(key, 0) + 1
        if self.fault != "never":
            self.kept.pop(key, None)

    def forget_all(self):
        self.wholes += 1
        if self.fault != "never":
            self.kept.clear()

    def generation(self, key):
        return (0, 0) if self.fault in ("never", "no lease") else (self.changes.get(key, 0), self.wholes)

    def holds(self):
        return self.fault in ("never", "no heartbeat") or time.monotonic() - self.confirmed < LIMIT


class Tracking:
    """The tracking connection, made anew whenever it ends."""

    def __init__(self, memory, port):
        self.memory, self.port = memory, port
        self.wanted = asyncio.Event()

    async def run(self):
        while True:
            try:
                await self.listen()
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                pass
            self.memory.confirmed = 0.0
            if self.memory.fault != "no heartbeat":
                self.memory.forget_all()
            await asyncio.sleep(0.05)

    async def listen(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(encode("HELLO", 3, "SETNAME", "keyweir-tracking") + encode("CLIENT", "TRACKING", "ON", "BCAST"))
            beat = asyncio.ensure_future(self.beat(writer))
            try:
                await self.hear(reader)
            finally:
                beat.cancel()
        finally:
            writer.close()

    async def beat(self, writer):
        self.sent = []
        while True:
            self.sent.append(time.monotonic())
            writer.write(encode("PING", "beat"))
            self.wanted.clear()
            try:
                await asyncio.wait_for(self.wanted.wait(), BEAT)
            except asyncio.TimeoutError:
                pass

    async def hear(self, reader):
        data = bytearray()
        while True:
            end = reply_end(data) if data else None
            while end is not None:
                self.take(parse(data[:end]))
                del data[:end]
                end = reply_end(data) if data else None
            more = await reader.read(1 << 16)
            if not more:
                return
            data += more

    def take(self, message):
        memory = self.memory
        if message == b"beat":
            memory.confirmed = self.sent.pop(0)
            for waiter in [w for w in memory.waiting if w[0] < memory.confirmed]:
                memory.waiting.remove(waiter)
        elif isinstance(message, list) and message and message[0] == b"invalidate":
            if message[1] is None:
                memory.forget_all()
            else:
                for key in message[1]:
                    memory.forget(key)


class Talk:
    """One client and its own connection to Redis."""

    def __init__(self, memory, tracking, port):
        self.memory, self.tracking, self.port = memory, tracking, port
        self.db, self.proto, self.plain, self.fence = 0, 2, True, 0.0
        self.queued = []  # keys that commands in MULTI name: they are written when EXEC runs

    async def serve(self, reader, writer):
        try:
            self.up, self.down = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.close()
            return
        self.reader, self.writer, self.replies = reader, writer, bytearray()
        data = bytearray()
        try:
            while more := await reader.read(1 << 16):
                data += more
                words = []
                while (end := reply_end(data)) if data else None:  # a request has the form of a reply
                    words.append(parse(data[:end]))
                    del data[:end]
                if words:
                    await self.answer(words)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.down.close()

    async def answer(self, batch):
        fast, rest = [], []
        for words in batch:
            reply = await self.one(words)
            (fast if self.hit else rest).append(reply)
            if self.memory.fault != "overtaken":
                self.writer.write(reply)
        if self.memory.fault == "overtaken":
            self.writer.write(b"".join(fast + rest))

    async def ask(self, *commands):
        self.down.write(b"".join(encode(*c) for c in commands))
        out = []
        for _ in commands:
            while True:
                end = reply_end(self.replies) if self.replies else None
                if end is not None:
                    break
                more = await self.up.read(1 << 16)
                if not more:
                    raise ConnectionError
                self.replies += more
            out.append(bytes(self.replies[:end]))
            del self.replies[:end]
        return out

    async def one(self, words):
        name = words[0].upper()
        self.hit = False
        if name in CACHED and (self.plain or self.memory.fault == "in transactions"):
            return await self.read(name, words)
        keys = [] if name in ONLY_READ else words[3:3 + int(words[2])] if name == b"EVAL" else words[1:]
        if name == b"EXEC":
            keys, self.queued = self.queued, []
        elif not self.plain:
            self.queued += keys
        self.own(name, keys)
        reply, = await self.ask(words)
        self.own(name, keys)
        if name == b"SELECT" and reply.startswith(b"+"):
            self.db = int(words[1])
        elif name == b"HELLO":
            self.proto = 3
        elif name in (b"MULTI", b"WATCH"):
            self.plain = False
        elif name in (b"EXEC", b"DISCARD"):
            self.plain, self.queued = True, []
        if name in BLIND and self.memory.fault not in ("no fence", "never"):
            self.fence = time.monotonic()
            self.tracking.wanted.set()
        return reply

    def own(self, name, keys):
        if self.memory.fault in ("no own writes", "never"):
            return
        if name in (b"FLUSHALL", b"FLUSHDB"):
            self.memory.forget_all()
        for key in keys:
            self.memory.forget(key)

    async def read(self, name, words):
        memory, key = self.memory, words[1]
        fault = memory.fault
        about = (name, () if fault == "first argument" else tuple(words[2:]), 0 if fault == "one database" else self.db, self.proto)
        found = memory.kept.get(key, {}).get(about)
        now = time.monotonic()
        if found and memory.holds() and (fault == "no time" or now < found[1]) and self.fence <= memory.confirmed:
            self.hit = True
            return found[0]
        before = memory.generation(key)
        if not self.plain:
            return (await self.ask(words))[0]
        left, reply = await self.ask([b"PTTL", key], words)
        left = parse(left)
        if not reply.startswith(b"-") and memory.holds() and memory.generation(key) == before:
            until = now + left / 1000 if isinstance(left, int) and left >= 0 else now + 600
            memory.kept.setdefault(key, {})[about] = reply, until
        return reply


class WrongCache:
    """In a process of its own; `port` is for clients."""

    def __init__(self, target, fault=None):
        self.fault, self.target = fault, target
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.sock.getsockname()[1]

    def __enter__(self):
        self.process = multiprocessing.get_context("fork").Process(target=self.work, daemon=True)
        self.process.start()
        self.sock.close()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()

    @property
    def pid(self):
        return self.process.pid

    def work(self):
        asyncio.run(self.main())

    async def main(self):
        memory = Memory(self.fault)
        tracking = Tracking(memory, self.target)

        async def client(reader, writer):
            await Talk(memory, tracking, self.target).serve(reader, writer)
        server = await asyncio.start_server(client, sock=self.sock)
        await asyncio.gather(server.serve_forever(), tracking.run())
