# SPDX-License-Identifier: BSD-2-Clause
"""What a Redis executed, in its own order and by the machine's clock: everything that MONITOR says.

A line is written when its command has been executed (that of EVAL before). So the command was executed after the line
before it and not later than its own time.
"""
import re
import threading
import uuid

from .resp import RespError
from .servers import wait_until

LINE = re.compile(rb"\+(\d+)\.(\d+) \[(\d+) ([^\]]*)\] (.*)\r\n")
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(rb"\\(x..|.)", re.S)
PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def _unescape(match):
    text = match[1]
    return bytes([int(text[1:], 16)]) if len(text) == 3 else PLAIN.get(text, text)


def words_of(text):
    """The arguments as they were."""
    return [ESCAPE.sub(_unescape, w) if b"\\" in w else w for w in WORD.findall(text)]


class Line:
    """time: when it had been executed; before: it was executed after that."""

    __slots__ = ("time", "before", "db", "who", "text", "node")

    def __init__(self, time, before, db, who, text, node):
        self.time, self.before, self.db, self.who, self.text, self.node = time, before, db, who, text, node

    @property
    def words(self):
        return words_of(self.text)


class Monitor:
    """Gathers what the server says from now on; its end (the server's death) is no error."""

    def __init__(self, server):
        self.server = server
        self.conn = server.client()
        assert not isinstance(self.conn.cmd("MONITOR"), RespError)
        self.chunks, self.over = [bytes(self.conn.buffer)], False  # what came with the OK
        self.thread = threading.Thread(target=self._gather, daemon=True)
        self.thread.start()

    def _gather(self):
        self.conn.sock.settimeout(None)
        try:
            while data := self.conn.sock.recv(1 << 20):
                self.chunks.append(data)
        except (OSError, ValueError):
            pass
        self.over = True

    def settle(self):
        """Waits until all is here that was executed before now."""
        mark = uuid.uuid4().hex.encode()
        self.server.cmd("ECHO", mark)
        wait_until(lambda: mark in b"".join(self.chunks[-3:]) or self.over, 20, "MONITOR")

    def close(self):
        try:
            self.conn.sock.shutdown(2)
        except OSError:
            pass
        self.thread.join(5)
        self.conn.close()

    def take(self, since, node):
        """All lines so far, which are forgotten then. `since`: the first one was executed after that."""
        count = len(self.chunks)
        data = b"".join(self.chunks[:count])
        whole = data.rfind(b"\n") + 1
        self.chunks[:count] = [data[whole:]]
        lines = []
        for m in LINE.finditer(data, 0, whole):
            at = int(m[1]) + int(m[2]) / 1e6
            lines.append(Line(at, since, int(m[3]), m[4], m[5], node))
            since = at
        return lines
