#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes commands.def: the command metadata of a live Redis joined with our own columns in overrides.toml.

    gen.py          start a private redis-server, ask it, write commands.def
    gen.py --check  exit 1 when commands.def is not what would be written (by the same Redis version)
"""
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "commands.def")
KEY_FLAGS = {
    "RO", "RW", "OW", "RM", "access", "update", "insert", "delete", "not_key", "incomplete", "variable_flags",
}


class Peer:
    """A connection to Redis and a reader of its replies (RESP2)."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def ask(self, *args):
        out = b"*%d\r\n" % len(args)
        for arg in args:
            out += b"$%d\r\n%s\r\n" % (len(arg), arg.encode())
        self.sock.sendall(out)
        return self.read()

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2].decode()
        if kind in b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        raise SystemExit("Redis answered " + rest)


def ask_redis():
    """COMMAND of a private redis-server, and its version."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "redis.sock")
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 10
            while not os.path.exists(path) and time.monotonic() < deadline:
                time.sleep(0.01)
            peer = Peer(path)
            version = re.search(r"redis_version:(\S+)", peer.ask("INFO", "server")).group(1)
            return peer.ask("COMMAND"), version
        finally:
            server.terminate()
            server.wait()


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def spec(raw):
    """One key specification as an initialiser of struct key_spec."""
    raw = pairs(raw)
    begin, find = pairs(raw["begin_search"]), pairs(raw["find_keys"])
    begin_spec, find_spec = pairs(begin["spec"] or []), pairs(find["spec"] or [])
    flags = [f for f in raw["flags"] if f in KEY_FLAGS]
    parts = ["KEY_" + f.upper() for f in flags] or ["0"]
    fields = [".flags = " + " | ".join(parts)]
    fields.append(".begin = KEY_BEGIN_" + begin["type"].upper())
    fields.append(".find = KEY_FIND_" + find["type"].upper())
    if begin["type"] == "index":
        fields.append(".begin_index = %d" % begin_spec["index"])
    elif begin["type"] == "keyword":
        fields.append('.keyword = "%s"' % begin_spec["keyword"])
        fields.append(".begin_index = %d" % begin_spec["startfrom"])
    if find["type"] == "range":
        fields.append(".last_key = %d" % find_spec["lastkey"])
        fields.append(".key_step = %d" % find_spec["keystep"])
        fields.append(".limit = %d" % find_spec["limit"])
    elif find["type"] == "keynum":
        fields.append(".keynum_index = %d" % find_spec["keynumidx"])
        fields.append(".first_key = %d" % find_spec["firstkey"])
        fields.append(".key_step = %d" % find_spec["keystep"])
    return "{" + ", ".join(fields) + "}"


class Row:
    def __init__(self, name, arity, flags, categories, tips=(), specs=(), subs=()):
        self.name, self.arity, self.flags, self.categories = name, arity, flags, categories
        self.specs = list(specs)
        self.subs = list(subs)
        self.request, self.response = "DEFAULT", "DEFAULT"
        for tip in tips:
            if tip.startswith("request_policy:"):
                self.request = tip.split(":")[1].upper()
            elif tip.startswith("response_policy:"):
                self.response = tip.split(":")[1].upper()

    @staticmethod
    def of(raw):
        return Row(
            raw[0], raw[1], raw[2], raw[6], raw[7], [spec(s) for s in raw[8]], [Row.of(s) for s in raw[9]]
        )


def own_columns(overrides, name):
    handler, timeout, in_multi = "FORWARD", "NORMAL", "PLAIN"
    for value, names in overrides["handler"].items():
        if name in names:
            handler = name.upper().replace("|", "_").replace("-", "_") if value == "same_name" else value
    for value, names in overrides["timeout"].items():
        if name in names:
            timeout = value
    for value, names in overrides["in_multi"].items():
        if name in names:
            in_multi = value
    secrets = [value for value, names in overrides["secrets"].items() if name in names] or ["NONE"]
    return handler, timeout, in_multi, secrets[0]


def add_extras(rows, overrides):
    known = {row.name: row for row in rows}
    subs = {sub.name for row in rows for sub in row.subs}
    extras = [Row(e["name"], e["arity"], e["flags"], e["categories"]) for e in overrides["extra"]]
    for group in overrides["extra_hash"]:
        for kind, name in [("readonly", n) for n in group["read"]] + [("write", n) for n in group["write"]]:
            key = "{.flags = %s, .begin = KEY_BEGIN_INDEX, .find = KEY_FIND_RANGE, .begin_index = 1, .last_key = 0, " \
                ".key_step = 1, .limit = 0}" % ("KEY_RO | KEY_ACCESS" if kind == "readonly" else "KEY_RW | KEY_UPDATE")
            arity = -6 if "expire" in name and kind == "write" or name == "hsetex" else -5
            extras.append(Row(name, arity, [kind, "fast"],
                              ["@" + ("read" if kind == "readonly" else "write"), "@hash", "@fast"], specs=[key]))
    for row in extras:
        container = row.name.split("|")[0]
        if row.name in known or row.name in subs:
            continue
        if "|" in row.name:
            known[container].subs.append(row)
        else:
            rows.append(row)


def c_name(name):
    return re.sub(r"[^a-z0-9]", "_", name)


def flag_list(prefix, names):
    return " | ".join(prefix + n.lstrip("@").upper() for n in sorted(names)) or "0"


class Writer:
    def __init__(self, overrides):
        self.overrides = overrides
        self.next_id = 0
        self.arrays = []

    def row(self, row):
        handler, timeout, in_multi, secrets = own_columns(self.overrides, row.name)
        number = self.next_id
        self.next_id += 1
        specs = subs = "NULL"
        if row.specs:
            specs = "specs_" + c_name(row.name)
            self.arrays.append("static const struct key_spec %s[] = {\n\t%s,\n};\n" % (specs, ",\n\t".join(row.specs)))
        if row.subs:
            row.subs.sort(key=lambda r: r.name)
            lines = [self.row(sub) for sub in row.subs]
            subs = "subs_" + c_name(row.name)
            self.arrays.append("static const struct command %s[] = {\n%s};\n" % (subs, "".join(lines)))
        return (
            '\t{"%s", %d, %d,\n\t %s,\n\t %s,\n\t REQUEST_%s, RESPONSE_%s, HANDLER_%s, TIMEOUT_%s, IN_MULTI_%s, SECRETS_%s,\n'
            "\t %d, %s, %s, %d},\n"
            % (row.name, number, row.arity, flag_list("CMD_", row.flags), flag_list("CAT_", row.categories),
               row.request, row.response, handler, timeout, in_multi, secrets, len(row.specs), specs, subs, len(row.subs))
        )


def make():
    with open(os.path.join(HERE, "overrides.toml"), "rb") as file:
        overrides = tomllib.load(file)
    raw, version = ask_redis()
    rows = [Row.of(r) for r in raw]
    add_extras(rows, overrides)
    rows.sort(key=lambda r: r.name)
    writer = Writer(overrides)
    lines = [writer.row(row) for row in rows]
    head = "/* Made by gen.py from Redis %s and overrides.toml: do not edit. */\n" % version
    return head + "".join(writer.arrays) + "static const struct command commands[] = {\n" + "".join(lines) + "};\n"


def main():
    text = make()
    if "--check" in sys.argv:
        with open(TARGET, encoding="ascii") as file:
            have = file.read()
        if have.split("\n", 1)[0] != text.split("\n", 1)[0]:
            print("skipped: the table was made from another version of Redis")
        elif have != text:
            sys.exit("commands.def is not what gen.py makes: run src/command/gen.py")
        return
    with open(TARGET, "w", encoding="ascii") as file:
        file.write(text)


main()
