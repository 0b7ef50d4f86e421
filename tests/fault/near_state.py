# SPDX-License-Identifier: BSD-2-Clause
"""What a Redis holds, worked out from the commands that MONITOR tells of; and what it says of a key when it is asked.

A value is None (absent), a tuple (type, content) that nobody changes, or UNKNOWN: a command ran so near to the end of
the key's time that nobody can say whether the key was still there.

    string: bytes   hash: dict   list: tuple of bytes   set: frozenset   zset: dict member -> float
"""
UNKNOWN = ("unknown", None)
WRONGTYPE = "WRONGTYPE"
CLOCK = 0.002  # Redis's clock counts whole milliseconds, and is read once for a command


class Item:
    """A value, and when it ends: between the two times, by the wall clock; None: never."""

    __slots__ = ("value", "soon", "late")

    def __init__(self, value, soon=None, late=None):
        self.value, self.soon, self.late = value, soon, late


class Doubt(Exception):
    """Whether the key was still there when the command ran, is not known."""


class WrongType(Exception):
    pass


def content(value, kind, empty):
    """What is in it, or `empty`; as a type that may be changed."""
    if value is None:
        return empty
    if value[0] != kind:
        raise WrongType
    return type(empty)(value[1])


class Store:
    """The keys of one node. apply() gives the keys (db, name) that a command wrote, or may have."""

    def __init__(self, opened=lambda kind, key, field, value: value):
        self.items = {}  # (db, key) -> Item
        self.opened = opened  # turns a sealed value into a plain one
        self.base = self.now = 0.0  # the command ran between the two

    # ---- reading and writing one key ----

    def get(self, at):
        """The value when the command ran."""
        item = self.items.get(at)
        if item is None:
            return None
        if item.value is UNKNOWN:
            raise Doubt
        if item.soon is None or self.now < item.soon - CLOCK:
            return item.value
        if self.base > item.late + CLOCK:
            del self.items[at]
            return None
        raise Doubt

    def put(self, at, value, soon=None, late=None):
        if value is None or (value[0] != "string" and not value[1]):
            self.items.pop(at, None)
        else:
            self.items[at] = Item(value, soon, late)

    def change(self, at, kind, empty, do):
        """Changes what is there and keeps its time."""
        old = content(self.get(at), kind, empty)
        item = self.items.get(at)
        new = do(old)
        self.put(at, (kind, new), *((item.soon, item.late) if item else ()))

    def after(self, ms):
        """Between which times it is over, so many milliseconds from now."""
        return self.base - 0.001 + ms / 1000, self.now + ms / 1000

    # ---- commands ----

    def apply(self, db, words, before, now):
        """The keys that were touched, or None when it is no command that writes."""
        do = WRITES.get(words[0].upper())
        if do is None:
            return None
        self.base, self.now = before, now
        keys = do(self, db, words)
        return [(db, k) if isinstance(k, bytes) else k for k in keys]

    def careful(self, at, do):
        """Runs do(), which writes nothing but this key."""
        try:
            do()
        except Doubt:
            self.items[at] = Item(UNKNOWN)
        except WrongType:
            pass


def _expiry(store, options):
    """Of SET and GETEX."""
    for i, option in enumerate(options):
        name = option.upper()
        if name in (b"EX", b"PX"):
            return store.after(int(options[i + 1]) * (1000 if name == b"EX" else 1))
        if name in (b"EXAT", b"PXAT"):
            at = int(options[i + 1]) / (1 if name == b"EXAT" else 1000)
            return at, at
    return None


def do_set(store, db, words):
    at, options = (db, words[1]), [w.upper() for w in words[3:]]
    value = ("string", store.opened(b"s", words[1], None, words[2]))

    def do():
        if {b"NX", b"XX", b"GET", b"KEEPTTL"} & set(options):
            old = store.get(at)
            if (old is not None if b"NX" in options else old is None if b"XX" in options else False):
                return
            if b"GET" in options and old is not None and old[0] != "string":
                raise WrongType
        item = store.items.get(at)
        keep = (item.soon, item.late) if b"KEEPTTL" in options and item else ()
        store.put(at, value, *(_expiry(store, words[3:]) or keep))

    store.careful(at, do)
    return [words[1]]


def do_setex(store, db, words):
    ms = int(words[2]) * (1000 if words[0].upper() == b"SETEX" else 1)
    store.put((db, words[1]), ("string", store.opened(b"s", words[1], None, words[3])), *store.after(ms))
    return [words[1]]


def do_setnx(store, db, words):
    return do_set(store, db, [b"SET", words[1], words[2], b"NX"])


def do_getset(store, db, words):
    return do_set(store, db, [b"SET", words[1], words[2], b"GET"])


def do_mset(store, db, words):
    keys = words[1::2]
    if words[0].upper() == b"MSETNX":
        try:
            if any(store.get((db, k)) is not None for k in keys):
                return keys
        except Doubt:
            for k in keys:
                store.items[db, k] = Item(UNKNOWN)
            return keys
    for key, value in zip(keys, words[2::2]):
        store.put((db, key), ("string", store.opened(b"s", key, None, value)))
    return keys


def _string(change):
    def do(store, db, words):
        at = (db, words[1])
        store.careful(at, lambda: store.change(at, "string", b"", lambda old: change(store, old, words)))
        return [words[1]]
    return do


def _incr(step):
    def change(_, old, words):
        try:
            return b"%d" % (int(old or 0) + step(words))
        except ValueError:
            raise WrongType from None
    return _string(change)


def _append(store, old, words):
    return old + words[2]


def _setrange(store, old, words):
    start = int(words[2])
    return old[:start].ljust(start, b"\0") + words[3] + old[start + len(words[3]):]


def do_del(store, db, words):
    for key in words[1:]:
        store.items.pop((db, key), None)
    return words[1:]


def do_getdel(store, db, words):
    at = (db, words[1])

    def do():
        content(store.get(at), "string", b"")
        store.items.pop(at, None)
    store.careful(at, do)
    return [words[1]]


def _when(store, words):
    """Between which times a key ends by EXPIRE and its kin."""
    name, number = words[0].upper(), int(words[2])
    if name.endswith(b"EXPIREAT"):
        at = number / (1000 if name.startswith(b"P") else 1)
        return at, at
    return store.after(number * (1 if name.startswith(b"P") else 1000))


def do_expire(store, db, words):
    at = (db, words[1])

    def do():
        value = store.get(at)
        if value is None:
            return
        item = store.items[at]
        if len(words) > 3:
            if words[3].upper() != b"NX":
                raise Doubt
            if item.soon is not None:
                return
        store.put(at, value, *_when(store, words))
    store.careful(at, do)
    return [words[1]]


def do_persist(store, db, words):
    at = (db, words[1])
    store.careful(at, lambda: store.put(at, store.get(at)))
    return [words[1]]


def do_getex(store, db, words):
    at = (db, words[1])

    def do():
        value = store.get(at)
        content(value, "string", b"")
        if value is not None and len(words) > 2:
            store.put(at, value, *(_expiry(store, words[2:]) or ()))
    store.careful(at, do)
    return [words[1]]


def _carry(store, at, to, remove, only_new):
    """RENAME, COPY, MOVE: value and time."""
    try:
        value = store.get(at)
        if value is None or (only_new and store.get(to) is not None):
            return
        item = store.items[at]
    except Doubt:
        store.items[at] = store.items[to] = Item(UNKNOWN)
        return
    if remove:
        del store.items[at]
    store.items[to] = item


def do_rename(store, db, words):
    _carry(store, (db, words[1]), (db, words[2]), True, words[0].upper() == b"RENAMENX")
    return words[1:3]


def do_copy(store, db, words):
    options = [w.upper() for w in words[3:]]
    to = (int(options[options.index(b"DB") + 1]) if b"DB" in options else db, words[2])
    _carry(store, (db, words[1]), to, False, b"REPLACE" not in options)
    return [to]


def do_move(store, db, words):
    to = (int(words[2]), words[1])
    _carry(store, (db, words[1]), to, True, True)
    return [words[1], to]


def _hash(change):
    def do(store, db, words):
        at = (db, words[1])
        store.careful(at, lambda: store.change(at, "hash", {}, lambda old: change(store, old, words)))
        return [words[1]]
    return do


def _hset(store, old, words):
    for field, value in zip(words[2::2], words[3::2]):
        if words[0].upper() != b"HSETNX" or field not in old:
            old[field] = store.opened(b"h", words[1], field, value)
    return old


def _hdel(store, old, words):
    for field in words[2:]:
        old.pop(field, None)
    return old


def _hincrby(store, old, words):
    try:
        old[words[2]] = b"%d" % (int(old.get(words[2], 0)) + int(words[3]))
    except ValueError:
        raise WrongType from None
    return old


def _list(change):
    def do(store, db, words):
        at = (db, words[1])
        store.careful(at, lambda: store.change(at, "list", (), lambda old: change(store, old, words)))
        return [words[1]]
    return do


def _push(store, old, words):
    new = tuple(store.opened(b"l", words[1], None, w) for w in words[2:])
    name = words[0].upper()
    if name.endswith(b"X") and not old:
        return old
    return old + new if name.startswith(b"R") else new[::-1] + old


def _pop(store, old, words):
    n = int(words[2]) if len(words) > 2 else 1
    return old[n:] if words[0].upper() == b"LPOP" else old[:max(len(old) - n, 0)]


def bounds(start, end, n):
    """Redis's inclusive indexes as a slice."""
    start, end = int(start), int(end)
    start = max(start + n, 0) if start < 0 else start
    end = end + n if end < 0 else end
    return start, max(min(end + 1, n), 0)


def _ltrim(store, old, words):
    a, b = bounds(words[2], words[3], len(old))
    return old[a:b]


def _lset(store, old, words):
    i = int(words[2])
    if not -len(old) <= i < len(old):
        return old
    i %= len(old)
    return old[:i] + (store.opened(b"l", words[1], None, words[3]),) + old[i + 1:]


def do_lmove(store, db, words):
    at, to = (db, words[1]), (db, words[2])
    sides = [w.upper() for w in words[3:5]] if words[0].upper() == b"LMOVE" else [b"RIGHT", b"LEFT"]
    try:
        source = content(store.get(at), "list", ())
        if not source:
            return words[1:3]
        content(store.get(to), "list", ())
        left = sides[0] == b"LEFT"
        moved = source[0] if left else source[-1]
        if at == to:  # an only element stays, and the key's time with it
            rest = source[1:] if left else source[:-1]
            new = (moved,) + rest if sides[1] == b"LEFT" else rest + (moved,)
            store.change(at, "list", (), lambda old: new)
            return words[1:3]
        store.change(at, "list", (), lambda old: old[1:] if left else old[:-1])
        store.change(to, "list", (), lambda old: (moved,) + old if sides[1] == b"LEFT" else old + (moved,))
    except WrongType:
        pass
    except Doubt:
        store.items[at] = store.items[to] = Item(UNKNOWN)
    return words[1:3]


def _set(change):
    def do(store, db, words):
        at = (db, words[1])
        store.careful(at, lambda: store.change(at, "set", frozenset(), lambda old: change(old, words)))
        return [words[1]]
    return do


def do_smove(store, db, words):
    at, to = (db, words[1]), (db, words[2])
    try:
        if words[3] in content(store.get(at), "set", frozenset()):
            content(store.get(to), "set", frozenset())
            store.change(at, "set", frozenset(), lambda old: old - {words[3]})
            store.change(to, "set", frozenset(), lambda old: old | {words[3]})
    except WrongType:
        pass
    except Doubt:
        store.items[at] = store.items[to] = Item(UNKNOWN)
    return words[1:3]


def do_sunionstore(store, db, words):
    try:
        sets = [content(store.get((db, k)), "set", frozenset()) for k in words[2:]]
        store.put((db, words[1]), ("set", frozenset().union(*sets)))
    except WrongType:
        pass
    except Doubt:
        store.items[db, words[1]] = Item(UNKNOWN)
    return [words[1]]


def _zset(change):
    def do(store, db, words):
        at = (db, words[1])
        store.careful(at, lambda: store.change(at, "zset", {}, lambda old: change(old, words)))
        return [words[1]]
    return do


def _zadd(old, words):
    for score, member in zip(words[2::2], words[3::2]):
        old[member] = float(score)
    return old


def _zincrby(old, words):
    old[words[3]] = old.get(words[3], 0.0) + float(words[2])
    return old


def _zrem(old, words):
    for member in words[2:]:
        old.pop(member, None)
    return old


def do_flush(store, db, words):
    gone = [at for at in store.items if words[0].upper() == b"FLUSHALL" or at[0] == db]
    for at in gone:
        del store.items[at]
    return gone


def do_swapdb(store, db, words):
    swap = {int(words[1]): int(words[2]), int(words[2]): int(words[1])}
    touched = [at for at in store.items if at[0] in swap]
    store.items = {(swap.get(d, d), k): item for (d, k), item in store.items.items()}
    return touched + [(swap[d], k) for d, k in touched]


WRITES = {
    b"SET": do_set, b"SETEX": do_setex, b"PSETEX": do_setex, b"SETNX": do_setnx, b"GETSET": do_getset, b"MSET": do_mset,
    b"MSETNX": do_mset, b"APPEND": _string(_append), b"SETRANGE": _string(_setrange), b"INCR": _incr(lambda w: 1),
    b"INCRBY": _incr(lambda w: int(w[2])), b"DECR": _incr(lambda w: -1), b"DEL": do_del, b"UNLINK": do_del,
    b"GETDEL": do_getdel, b"EXPIRE": do_expire, b"PEXPIRE": do_expire, b"EXPIREAT": do_expire, b"PEXPIREAT": do_expire,
    b"PERSIST": do_persist, b"GETEX": do_getex, b"RENAME": do_rename, b"RENAMENX": do_rename, b"COPY": do_copy,
    b"MOVE": do_move, b"HSET": _hash(_hset), b"HMSET": _hash(_hset), b"HSETNX": _hash(_hset), b"HDEL": _hash(_hdel),
    b"HINCRBY": _hash(_hincrby), b"RPUSH": _list(_push), b"LPUSH": _list(_push), b"RPUSHX": _list(_push),
    b"LPUSHX": _list(_push), b"LPOP": _list(_pop), b"RPOP": _list(_pop), b"LTRIM": _list(_ltrim), b"LSET": _list(_lset),
    b"LMOVE": do_lmove, b"RPOPLPUSH": do_lmove, b"SADD": _set(lambda old, w: old | set(w[2:])),
    b"SREM": _set(lambda old, w: old - set(w[2:])), b"SMOVE": do_smove, b"SUNIONSTORE": do_sunionstore,
    b"ZADD": _zset(_zadd), b"ZINCRBY": _zset(_zincrby), b"ZREM": _zset(_zrem), b"FLUSHALL": do_flush,
    b"FLUSHDB": do_flush, b"SWAPDB": do_swapdb,
}


# ---- what reads say ----

def _of(kind, empty):
    """Readers of one type: a function of (content, arguments)."""
    def wrap(fn):
        def read(value, args):
            if value is not None and value[0] != kind:
                return WRONGTYPE
            return fn(empty if value is None else value[1], args, value is None)
        return read
    return wrap


string, hash_, list_ = _of("string", b""), _of("hash", {}), _of("list", ())
set_, zset = _of("set", frozenset()), _of("zset", {})


def _getrange(s, args, _):
    a, b = bounds(args[0], args[1], len(s))
    return s[a:b]


def _ranked(z):
    return sorted(z.items(), key=lambda p: (p[1], p[0]))


def _zrange(z, args, _):
    ranked = _ranked(z)
    a, b = bounds(args[0], args[1], len(ranked))
    part = tuple(ranked[a:b])
    return part if len(args) > 2 else tuple(m for m, _ in part)


def _lrange(items, args, _):
    a, b = bounds(args[0], args[1], len(items))
    return items[a:b]


def _lindex(items, args, _):
    i = int(args[0])
    return items[i] if -len(items) <= i < len(items) else None


READS = {
    b"GET": string(lambda s, a, absent: None if absent else s),
    b"MGET": lambda v, a: v[1] if v and v[0] == "string" else None,  # of one of its keys
    b"STRLEN": string(lambda s, a, _: len(s)),
    b"GETRANGE": string(_getrange),
    b"BITCOUNT": string(lambda s, a, _: int.from_bytes(s, "big").bit_count()),
    b"EXISTS": lambda v, a: int(v is not None),
    b"TYPE": lambda v, a: "none" if v is None else v[0],
    b"HGET": hash_(lambda h, a, _: h.get(a[0])),
    b"HMGET": hash_(lambda h, a, _: tuple(h.get(f) for f in a)),
    b"HGETALL": hash_(lambda h, a, _: h),
    b"HLEN": hash_(lambda h, a, _: len(h)),
    b"HKEYS": hash_(lambda h, a, _: tuple(sorted(h))),
    b"HVALS": hash_(lambda h, a, _: tuple(sorted(h.values()))),
    b"HEXISTS": hash_(lambda h, a, _: int(a[0] in h)),
    b"LRANGE": list_(_lrange),
    b"LLEN": list_(lambda x, a, _: len(x)),
    b"LINDEX": list_(lambda x, a, _: _lindex(x, a, _)),
    b"SMEMBERS": set_(lambda s, a, _: s),
    b"SISMEMBER": set_(lambda s, a, _: int(a[0] in s)),
    b"SMISMEMBER": set_(lambda s, a, _: tuple(int(m in s) for m in a)),
    b"SCARD": set_(lambda s, a, _: len(s)),
    b"ZRANGE": zset(_zrange),
    b"ZSCORE": zset(lambda z, a, _: z.get(a[0])),
    b"ZCARD": zset(lambda z, a, _: len(z)),
    b"ZRANK": zset(lambda z, a, _: next((i for i, (m, _) in enumerate(_ranked(z)) if m == a[0]), None)),
}


class Torn(Exception):
    """A reply whose form nobody can have got rightly."""


def once(items):
    if len(set(items)) != len(items):
        raise Torn("twice the same: %r" % (items,))
    return items


def _pairs(items):
    if len(items) % 2:
        raise Torn("half a pair: %r" % (items,))
    once(items[::2])
    return list(zip(items[::2], items[1::2]))


def _scored(reply):
    flat = [tuple(p) for p in reply] if reply and isinstance(reply[0], list) else _pairs(reply)
    return tuple((m, float(s)) for m, s in flat)


NORMAL = {
    b"HGETALL": lambda r, a: r if isinstance(r, dict) else dict(_pairs(r)),
    b"HKEYS": lambda r, a: tuple(sorted(once(r))),
    b"HVALS": lambda r, a: tuple(sorted(r)),
    b"SMEMBERS": lambda r, a: frozenset(once(r)),
    b"ZRANGE": lambda r, a: _scored(r) if len(a) > 2 else tuple(r),
    b"ZSCORE": lambda r, a: None if r is None else float(r),
}


def normal(name, args, reply):
    """A reply in the form that READS gives; the same for RESP2 and RESP3."""
    if isinstance(reply, str) and reply.startswith(WRONGTYPE):
        return WRONGTYPE
    try:
        if name in NORMAL:
            return NORMAL[name](reply, args)
    except (TypeError, ValueError, KeyError, IndexError) as e:
        raise Torn("%s: %r" % (e, reply)) from None
    return tuple(reply) if isinstance(reply, list) else reply
