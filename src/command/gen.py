#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes commands.def: what a live Redis says of its commands, joined with our own columns from overrides.toml.

    gen.py            start a private redis-server, ask it COMMAND and COMMAND DOCS, write commands.def
    gen.py --check    exit 1 when commands.def is not what would be written (of another Redis version: skipped)
    gen.py --version  print the Redis version that commands.def was made from
Standard library only. The server listens on a Unix socket in a folder of its own and is stopped by its pid.
"""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "commands.def")
HEADER = os.path.join(HERE, "command.h")
WIDTH = 120


class Peer:
    """A connection to Redis and a reader of its RESP2 replies."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def ask(self, *args):
        words = [b"$%d\r\n%s\r\n" % (len(arg), arg.encode()) for arg in args]
        self.sock.sendall(b"*%d\r\n" % len(args) + b"".join(words))
        return self.read()

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        raise SystemExit("gen.py: Redis answered %r" % line)

    def close(self):
        self.file.close()
        self.sock.close()


def connect(server, path):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit("gen.py: redis-server ended with status %d" % server.returncode)
        try:
            return Peer(path)
        except OSError:
            time.sleep(0.005)
    raise SystemExit("gen.py: redis-server did not start")


def ask_redis():
    """Version, COMMAND and COMMAND DOCS of a private redis-server."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "redis.sock")
        args = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        server = subprocess.Popen(args, stdout=subprocess.DEVNULL)
        try:
            peer = connect(server, path)
            version = re.search(r"redis_version:(\S+)", peer.ask("INFO", "server")).group(1)
            answer = version, peer.ask("COMMAND"), pairs(peer.ask("COMMAND", "DOCS"))
            peer.close()
            return answer
        finally:
            server.terminate()
            server.wait()


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def enum(prefix):
    """The constants of one enum of command.h, in its order: the header says what exists, and how it is sorted."""
    with open(HEADER, encoding="ascii") as file:
        text = file.read()
    if prefix == "HANDLER_":
        start = text.index("#define COMMAND_HANDLERS(X)")
        return re.findall(r"\bX\((\w+)\)", text[start : text.index("enum command_handler")])[1:]
    return list(dict.fromkeys(re.findall(r"^\s*%s(\w+)\b(?=\s*[=,])" % prefix, text, re.M)))


ENUMS = {prefix: enum(prefix) for prefix in
         ("CMD_", "CAT_", "KEY_", "HANDLER_", "TIMEOUT_", "IN_MULTI_", "SECRETS_", "ABSENT_", "TTL_", "NAMES_", "SEAL_", "CACHE_", "TOKEN_",
          "REQUEST_", "RESPONSE_")}


def constant(prefix, word):
    word = word.upper()
    if word not in ENUMS[prefix]:
        raise SystemExit("gen.py: command.h has no %s%s" % (prefix, word))
    return word


def joined(prefix, words):
    order = ENUMS[prefix]
    words = sorted({constant(prefix, word.lstrip("@")) for word in words}, key=order.index)
    return " | ".join(prefix + word for word in words) or "0"


def begin_search(raw):
    kind, spec = raw["type"], pairs(raw["spec"])
    if kind == "index":
        return "INDEX(%d)" % spec["index"]
    if kind == "keyword":
        return 'KEYWORD("%s", %d)' % (spec["keyword"], spec["startfrom"])
    return "NOWHERE"


def find_keys(raw):
    kind, spec = raw["type"], pairs(raw["spec"])
    if kind == "range":
        return "RANGE(%d, %d, %d)" % (spec["lastkey"], spec["keystep"], spec["limit"])
    if kind == "keynum":
        return "KEYNUM(%d, %d, %d)" % (spec["keynumidx"], spec["firstkey"], spec["keystep"])
    return "NONE"


def spec_of_redis(raw):
    raw = pairs(raw)
    begin, find = begin_search(pairs(raw["begin_search"])), find_keys(pairs(raw["find_keys"]))
    return "KEY(%s, %s, %s)" % (joined("KEY_", raw["flags"]), begin, find)


def spec_of_ours(raw):
    """A key spec as overrides.toml writes it: flags, index or keyword + from (+ options), range or keynum."""
    if "keyword" in raw:
        begin = 'KEYWORD("%s", %d)' % (raw["keyword"], raw["from"])
    else:
        begin = "INDEX(%d)" % raw["index"]
    find = "KEYNUM(%d, %d, %d)" % tuple(raw["keynum"]) if "keynum" in raw else \
        "RANGE(%d, %d, %d)" % tuple(raw.get("range", [0, 1, 0]))
    options = "".join(', OPTION("%s", %d)' % (name, n) for name, n in raw.get("options", {}).items())
    if "options" in raw:
        begin += ", OPTIONS(%s)" % options.removeprefix(", ")
    return "KEY(%s, %s, %s)" % (joined("KEY_", raw["flags"]), begin, find)


class Row:
    def __init__(self, name, arity, flags, categories, tips, keys, since):
        self.name, self.arity, self.since = name, arity, since
        self.flags, self.categories = list(flags), joined("CAT_", categories)
        self.keys, self.subs = keys, []
        self.request, self.response = "DEFAULT", "DEFAULT"
        self.handler, self.timeout, self.in_multi, self.secrets = "FORWARD", "NORMAL", "PLAIN", "NONE"
        self.absent, self.cache, self.token = "ERROR", "NONE", "NONE"
        self.ttl = self.names = self.seal = None
        for tip in tips:
            kind, _, value = tip.partition(":")
            if kind == "request_policy":
                self.request = constant("REQUEST_", value)
            elif kind == "response_policy":
                self.response = constant("RESPONSE_", value)

    def own_ttl(self):
        makes = any(("KEY_RW" in key or "KEY_OW" in key) and "KEY_RM" not in key for key in self.keys)
        return "AFTER" if makes and {"write", "may_replicate"} & set(self.flags) else "NONE"

    def own_names(self):
        hidden = not self.keys and ("CAT_DANGEROUS" in self.categories or "CAT_ADMIN" in self.categories)
        return "HIDDEN" if hidden else "NONE"

    def own_seal(self):
        return "REFUSED" if any("NOT_KEY" not in key for key in self.keys) else "FREE"

    @property
    def symbol(self):
        return re.sub(r"[^A-Z0-9]", "_", self.name.upper())

    def text(self):
        keys = ["NO_KEYS,"]
        if self.keys:
            keys = ("KEYS(%s)," % ",\n".join(self.keys)).split("\n")
        subs = "SUBCOMMANDS(%s, %d))" % (self.symbol, len(self.subs)) if self.subs else "NO_SUBCOMMANDS)"
        first = 'ROW(%s, "%s", %d, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, /* since %s */' % (
            self.symbol, self.name, self.arity, self.handler, self.timeout, self.in_multi, self.secrets, self.absent,
            self.ttl or self.own_ttl(), self.names or self.own_names(), self.seal or self.own_seal(),
            self.cache, self.token, self.since)
        lines = [joined("CMD_", self.flags) + ",", self.categories + ",", "%s, %s," % (self.request, self.response)] + keys
        if len(keys) > 1 or len(lines[-1]) > 80:
            lines.append(subs)
        else:
            lines[-2:] = [lines[-2] + " " + lines[-1] + " " + subs]
        wrap = textwrap.TextWrapper(WIDTH - 8, subsequent_indent="    ", break_long_words=False,
                                    break_on_hyphens=False)
        return "\n\t".join([first] + [part for line in lines for part in wrap.wrap(line)]) + "\n"


def rows_of_redis(raw, docs):
    def row(r):
        since = docs.get(r[0], {}).get("since")
        if since is None:
            raise SystemExit("gen.py: COMMAND DOCS does not know %s" % r[0])
        return Row(r[0], r[1], r[2], r[6], r[7], [spec_of_redis(s) for s in r[8]], since)

    flat = {}
    for name, doc in list(docs.items()):
        docs[name] = pairs(doc)
        for sub, sub_doc in pairs(docs[name].get("subcommands", [])).items():
            docs[sub] = pairs(sub_doc)
    for r in raw:
        for one in [r] + r[9]:
            flat[one[0]] = row(one)
    return flat


def add_extras(rows, overrides):
    """Rows that this Redis lacks; where it has one of its own, that one counts."""
    for extra in overrides["extra"]:
        keys = [spec_of_ours(s) for s in extra.get("keys", [])]
        for name in extra["names"]:
            if name not in rows:
                rows[name] = Row(name, extra["arity"], extra["flags"], extra["categories"], extra.get("tips", []),
                                 keys, extra["since"])


def set_columns(rows, overrides):
    """Our own columns. A name that no row has, or that stands twice in one column, is a mistake."""
    for column, prefix in (("handler", "HANDLER_"), ("timeout", "TIMEOUT_"), ("in_multi", "IN_MULTI_"),
                           ("secrets", "SECRETS_"), ("absent", "ABSENT_"), ("ttl", "TTL_"), ("names", "NAMES_"),
                           ("seal", "SEAL_"), ("cache", "CACHE_"), ("token", "TOKEN_")):
        seen = set()
        for value, names in overrides[column].items():
            for name in names:
                if name not in rows or name in seen:
                    raise SystemExit("gen.py: overrides.toml: %s is unknown or doubled in [%s]" % (name, column))
                seen.add(name)
                own = rows[name].symbol if value == "own_name" else value
                setattr(rows[name], column, constant(prefix, own))
    for name, (request, response) in overrides["tips"].items():
        rows[name].request, rows[name].response = constant("REQUEST_", request), constant("RESPONSE_", response)
    for flag, names in overrides["flags"].items():
        for name in names:
            rows[name].flags.append(flag)
    for name, specs in overrides["keys"].items():
        if name not in rows:
            raise SystemExit("gen.py: overrides.toml: [keys] %s is unknown" % name)
        rows[name].keys = [spec_of_ours(s) for s in specs]


def make(version, raw, docs):
    """The text of commands.def."""
    with open(os.path.join(HERE, "overrides.toml"), "rb") as file:
        overrides = tomllib.load(file)
    rows = rows_of_redis(raw, docs)
    add_extras(rows, overrides)
    set_columns(rows, overrides)
    for name, row in rows.items():
        if "|" in name:
            rows[name.split("|")[0]].subs.append(row)
    head = (
        "/* SPDX-License-Identifier: BSD-2-Clause */\n"
        "/*\n * Made by gen.py from Redis %s and overrides.toml: do not edit, run gen.py.\n"
        " * ROW(symbol, name, arity, handler, timeout, in_multi, secrets, absent, ttl, names, seal, cache, token,\n *   flags, categories, request, response, keys, subs)\n"
        " * Sorted by name, subcommands right after their container; a row's place is its command's id.\n */\n"
        % version
    )
    ordered = sorted(rows.values(), key=lambda row: row.name.split("|"))
    return head + "".join(row.text() for row in ordered)


def main(args):
    if args not in ([], ["--check"], ["--version"]):
        sys.exit(__doc__)
    if args:
        with open(TARGET, encoding="ascii") as file:
            have = file.read()
        made_from = re.search(r"from Redis (\S+) and", have).group(1)
    if args == ["--version"]:
        print(made_from)
    elif args == ["--check"] and not shutil.which("redis-server"):
        print("skipped: no redis-server here to compare commands.def with")
    elif args == ["--check"]:
        answers = ask_redis()
        if answers[0] != made_from:
            print("skipped: commands.def is from Redis %s, here is %s" % (made_from, answers[0]))
        elif have != make(*answers):
            sys.exit("commands.def is not what gen.py makes: run src/command/gen.py")
    else:
        text = make(*ask_redis())
        with open(TARGET, "w", encoding="ascii") as file:
            file.write(text)


main(sys.argv[1:])
