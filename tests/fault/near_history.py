# SPDX-License-Identifier: BSD-2-Clause
"""What each key was at each moment, from what MONITOR told of all nodes; and which of it a reply may show.

A key's past lies on one node after the other: Reigns. Within one a key goes from state to state. A place in all that is
(number of the reign, number of the state, 1 when its time is over, else 0): places are ordered as Redis did things.
"""
from bisect import bisect_left, bisect_right

from harness.monitor import Line
from near_state import CLOCK, READS, UNKNOWN, WRITES, Item, Store

EVER = float("inf")
FIRST, LAST = (-1, 0, 0), (1 << 60, 0, 0)
RESTORES = (b"RESTORE", b"RESTORE-ASKING")


class State:
    """From when (after `lo`, not later than `hi`), what, and between which times its own time is over."""

    __slots__ = ("lo", "hi", "value", "soon", "late")

    def __init__(self, lo, hi, item):
        self.lo, self.hi = lo, hi
        self.value, self.soon, self.late = (item.value, item.soon, item.late) if item else (None, None, None)

    def same(self, item):
        return (self.value, self.soon, self.late) == ((item.value, item.soon, item.late) if item else (None, None, None))


class Touch:
    """A command that wrote a key, or could have: it left it in state `n`."""

    __slots__ = ("time", "name", "n", "changed", "line")

    def __init__(self, time, name, n, changed, line):
        self.time, self.name, self.n, self.changed, self.line = time, name, n, changed, line


class Past:
    """Of one key on one node."""

    def __init__(self, item):
        self.states = [State(-EVER, -EVER, item)]
        self.los = [-EVER]
        self.touches = []
        self.times = []

    def add(self, line, name, item):
        changed = not self.states[-1].same(item)
        if changed:
            self.states.append(State(line.before, line.time, item))
            self.los.append(line.before)
        self.touches.append(Touch(line.time, name, len(self.states) - 1, changed, line))
        self.times.append(line.time)

    def brought(self, touch, mark):
        """Whether the mark may have come into the value by it: in MONITOR's line it may be sealed."""
        value = self.states[touch.n].value
        if value is UNKNOWN:
            return True
        return touch.changed and holds(value, mark) and not holds(self.states[touch.n - 1].value, mark)

    def pieces(self, n):
        """What a state looked like, the newest first: (0 or 1, value, from, to, whether its own time ended it)."""
        state = self.states[n]
        end = self.states[n + 1].hi if n + 1 < len(self.states) else EVER
        if state.soon is None or state.soon - CLOCK >= end:
            yield 0, state.value, state.lo, end, False
            return
        yield 1, None, max(state.soon - CLOCK, state.lo), end, False
        own = state.late + CLOCK < end
        yield 0, state.value, state.lo, min(state.late + CLOCK, end), own


class Reign:
    __slots__ = ("node", "start", "end")

    def __init__(self, node, start, end=EVER):
        self.node, self.start, self.end = node, start, end


class Gap:
    """From `start` on nobody heard what a node did; what it held when it ran ECHO `mark` is known again."""

    def __init__(self, node, start, mark, items):
        self.node, self.start, self.mark, self.items = node, start, mark, items
        self.end = EVER


class Election:
    """From `time` on `new` is what `old` was; what `old` says holds until `until` all the same."""

    def __init__(self, time, old, new, until):
        self.time, self.old, self.new, self.until = time, old, new, until


class Match:
    """A place where a key was what a reply says."""

    __slots__ = ("place", "late", "overdue")

    def __init__(self, place, late, overdue):
        self.place = place
        self.late = late  # by how much it was over when the read began
        self.overdue = overdue  # by how much the key's own time was


class History:
    """base: {node: {(db, key): Item}} at the beginning, owner: a function (key) -> node."""

    def __init__(self, base, owner, opened=None):
        self.base, self.owner = base, owner
        self.stores = {node: Store(*((opened,) if opened else ())) for node in base}
        for node, items in base.items():
            self.stores[node].items = dict(items)
        self.pasts, self.reigns = {}, {}
        self.masters, self.gaps = set(), []
        self.doubts = 0

    def past(self, node, at):
        past = self.pasts.get((node, at))
        if past is None:
            past = self.pasts[node, at] = Past(self.base[node].get(at))
        return past

    def reigns_of(self, at):
        reigns = self.reigns.get(at)
        if reigns is None:
            reigns = self.reigns[at] = [Reign(self.owner(at[1]), -EVER)]
        return reigns

    # ---- writing it ----

    def tell(self, lines, masters, elections=(), gaps=()):
        """All lines of a round, in any order."""
        self.masters, self.gaps = set(masters), list(gaps)
        changes = [(e.time, self.elect, e) for e in elections] + [(g.start, self.lose, g) for g in gaps]
        changes.sort(key=lambda c: c[0])
        for line in sorted(lines, key=lambda line: line.time):
            while changes and changes[0][0] <= line.time:
                self.change(changes)
            self.tell_line(line)
        while changes:
            self.change(changes)

    @staticmethod
    def change(changes):
        _, do, what = changes.pop(0)
        do(what)

    def lose(self, gap):
        """Now every key of the node may be anything."""
        line = Line(gap.start, gap.start, 0, b"", b'"GAP"', gap.node)
        for at in self.known():
            self.stores[gap.node].items[at] = Item(UNKNOWN)
            self.past(gap.node, at).add(line, b"GAP", Item(UNKNOWN))

    def find(self, gap, line):
        gap.end = line.time
        self.stores[gap.node].items = dict(gap.items)
        for at in self.known() | set(gap.items):
            self.past(gap.node, at).add(line, b"GAP", gap.items.get(at))

    def known(self):
        return {at for _, at in self.pasts} | {at for items in self.base.values() for at in items} | set(self.reigns)

    def unheard(self, t0, t1):
        """Whether something that ran between the two may not have been heard."""
        return any(g.start <= t1 and t0 <= g.end for g in self.gaps)

    def elect(self, election):
        self.masters.discard(election.old)
        self.masters.add(election.new)
        for at in self.known():
            reigns = self.reigns_of(at)
            if reigns[-1].node == election.old:
                reigns[-1].end = election.until
                reigns.append(Reign(election.new, election.time))
        before = self.owner
        self.owner = lambda key: election.new if before(key) == election.old else before(key)

    def tell_line(self, line):
        name = line.text[1:line.text.index(b'"', 1)].upper()
        store = self.stores[line.node]
        if name == b"ECHO":
            for gap in self.gaps:
                if gap.mark in line.text and gap.node == line.node:
                    self.find(gap, line)
        elif name in RESTORES:
            self.restored(line, line.words[1])
        elif name == b"MIGRATE":
            words = line.words
            for key in words[words.index(b"KEYS") + 1:]:
                if store.items.pop((0, key), None):
                    self.past(line.node, (0, key)).add(line, name, None)
        elif name in WRITES:
            words = line.words
            for at in store.apply(line.db, words, line.before, line.time):
                self.touched(line, name, at)

    def touched(self, line, name, at):
        reigns = self.reigns_of(at)
        if reigns[-1].node != line.node and line.node in self.masters:
            self.follow(reigns, at, line)
        past = self.past(line.node, at)
        item = self.stores[line.node].items.get(at)
        self.doubts += item is not None and item.value is UNKNOWN and past.states[-1].value is not UNKNOWN
        past.add(line, name, item)

    def follow(self, reigns, at, line):
        """A slot that moved: its new owner writes a key that the old one has no more."""
        reigns[-1].end = line.time
        reigns.append(Reign(line.node, line.before))

    def restored(self, line, key):
        at = (line.db, key)
        reigns = self.reigns_of(at)
        item = self.stores[reigns[-1].node].items.get(at)
        if item is not None:
            self.stores[line.node].items[at] = Item(item.value, item.soon, item.late)
        if line.node in self.masters and reigns[-1].node != line.node:
            self.follow(reigns, at, line)
        self.past(line.node, at).add(line, RESTORES[0], item)

    # ---- reading it ----

    def matches(self, at, name, args, reply, t0, t1, reach):
        """Where, from `reach` seconds before t0 up to t1, the key was what the reply says; the newest place first."""
        read = READS[name]
        reigns = self.reigns_of(at)
        for number in range(len(reigns) - 1, -1, -1):
            reign = reigns[number]
            if reign.start > t1 or reign.end < t0 - reach:
                continue
            past = self.past(reign.node, at)
            for n in range(bisect_right(past.los, t1) - 1, -1, -1):
                state_end = -EVER
                for over, value, start, end, own in past.pieces(n):
                    state_end = max(state_end, end)
                    if start > t1 or min(end, reign.end) < t0 - reach:
                        continue
                    if value is UNKNOWN or read(value, args) == reply:
                        late = max(t0 - min(end, reign.end), 0.0)
                        yield Match((number, n, over), late, max(t0 - end, 0.0) if own else 0.0)
                if state_end < t0 - reach:
                    break

    def places(self, at, names, t0, t1, mark=None):
        """Where a write lies that ran between the two: [(place it left, place that was over, whether that's surely it)]."""
        found = []
        reigns = self.reigns_of(at)
        for number, reign in enumerate(reigns):
            past = self.past(reign.node, at)
            for touch in past.touches[bisect_left(past.times, t0):bisect_right(past.times, t1)]:
                if touch.name in names and reign.start <= touch.time <= reign.end:
                    plain = mark is not None and mark in touch.line.text
                    if mark is None or plain or past.brought(touch, mark):
                        over = (number, touch.n if touch.changed else touch.n + 1, 0)
                        found.append(((number, touch.n, 0), over, plain))
        return found


def holds(value, mark):
    """Whether the mark is in a value."""
    if value is None:
        return False
    kind, data = value
    if kind == "unknown":
        return False
    return mark in data if kind == "string" else any(mark in x for x in (data.values() if kind == "hash" else data)
                                                     if isinstance(x, bytes))

