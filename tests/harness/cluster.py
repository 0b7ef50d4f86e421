# SPDX-License-Identifier: BSD-2-Clause
"""A Redis Cluster of real processes, and what operators and fate do to one: resharding, failover, kill, freeze.

    with Cluster() as cluster:
        key = cluster.key_on(cluster.masters()[0])
        cluster.migrate_slots(a, b, range(100))
"""
import binascii
import time

from .resp import Conn, RespError
from .servers import Keyweir, Redis, calls_of, free_ports, wait_until

SLOTS = 16384


def slot_of(key):
    """CRC16 of the key, or of what stands between the first { and the next } when that is not empty."""
    key = key if isinstance(key, bytes) else str(key).encode()
    _, brace, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return binascii.crc_hqx(tag if brace and closed and tag else key, 0) % SLOTS


class Refused(AssertionError):
    """A node refused a command of the harness."""


def must(value):
    if isinstance(value, RespError):
        raise Refused(value)
    return value


class Row:
    """A line of CLUSTER NODES."""

    def __init__(self, line):
        words = line.split()
        self.id, self.flags, self.master, self.up = words[0], words[2].split(","), words[3], words[7] == "connected"
        self.epoch = int(words[6])
        self.port = int(words[1].split("@")[0].rpartition(":")[2])
        self.slots = [w for w in words[8:] if not w.startswith("[")]
        self.failing = any(f in self.flags for f in ("fail", "fail?", "handshake", "noaddr"))

    def covers(self, slot):
        bounds = [r.split("-") for r in self.slots]
        return any(int(b[0]) <= slot <= int(b[-1]) for b in bounds)

    @property
    def count(self):
        bounds = [r.split("-") for r in self.slots]
        return sum(int(b[-1]) - int(b[0]) + 1 for b in bounds)


class Node(Redis):
    def __init__(self, cluster, port, bus_port):
        args = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(cluster.node_timeout), "--appendonly", "no",
                "--cluster-port", str(bus_port), "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
                "--cluster-allow-replica-migration", "no", "--repl-ping-replica-period", "1",
                "--cluster-require-full-coverage", "yes" if cluster.full_coverage else "no", *cluster.args]
        if cluster.tls:
            args += ["--tls-cluster", "yes"]
        if cluster.hostnames:
            args += ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"]
        super().__init__(args, port=port, password=cluster.password, tls=cluster.tls)
        self.bus_port = bus_port
        self.frozen = False
        self.id = None

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    @property
    def usable(self):
        return self.alive() and not self.frozen

    def freeze(self):
        super().freeze()
        self.frozen = True

    def thaw(self):
        super().thaw()
        self.frozen = False

    def rows(self):
        """What this node thinks of all nodes, itself included."""
        return [Row(line) for line in must(self.cmd("CLUSTER", "NODES")).decode().splitlines()]

    def me(self):
        return next(r for r in self.rows() if "myself" in r.flags)

    def is_master(self):
        return self.cmd("ROLE")[0] == b"master"

    def in_sync(self):
        role = self.cmd("ROLE")
        return role[0] == b"master" or role[3] == b"connected"

    def __repr__(self):
        return "<node %d>" % self.port


class Cluster:
    """`masters` masters with `replicas` replicas each. full_coverage=False: a dead master takes only its slots away."""

    def __init__(self, masters=3, replicas=1, password=None, tls=None, hostnames=False, full_coverage=True,
                 node_timeout=1000, args=()):
        self.password, self.tls, self.hostnames, self.args = password, tls, hostnames, list(args)
        self.full_coverage, self.node_timeout = full_coverage, node_timeout
        self.shape = masters, replicas
        self.all = []

    # ---- coming and going ----

    def start(self):
        masters, replicas = self.shape
        self._launch(masters * (1 + replicas))
        first, rest = self.all[:masters], self.all[masters:]
        for i, node in enumerate(self.all):
            must(node.cmd("CLUSTER", "SET-CONFIG-EPOCH", i + 1))
        for i, node in enumerate(first):
            must(node.cmd("CLUSTER", "ADDSLOTSRANGE", SLOTS * i // masters, SLOTS * (i + 1) // masters - 1))
        self._introduce(self.all[1:])
        for i, node in enumerate(rest):
            must(node.cmd("CLUSTER", "REPLICATE", first[i % masters].id))
        self.wait_ok()
        return self

    def _launch(self, count):
        ports = free_ports(2 * count)
        nodes = [Node(self, *ports[2 * i:2 * i + 2]) for i in range(count)]
        self.all += nodes  # before they start, for close()
        for node in nodes:
            node.launch()
        for node in nodes:
            wait_until(lambda node=node: _up(node), what="%r answers" % node)
            node.id = must(node.cmd("CLUSTER", "MYID")).decode()
        return nodes

    def _introduce(self, newcomers):
        """Every newcomer meets every other node: no waiting for gossip."""
        for node in newcomers:
            with node.client() as conn:
                for other in self.nodes():
                    if other is not node:
                        must(conn.cmd("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port))
        wait_until(self._all_know_each_other, 20, "all nodes know each other")

    def _all_know_each_other(self):
        ids = {n.id for n in self.nodes()}
        return all({r.id for r in n.rows() if not r.failing} >= ids for n in self.nodes())

    def close(self):
        for node in self.all:
            if node.process:
                node.stop()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    # ---- looking ----

    def nodes(self):
        """Nodes that run."""
        return [n for n in self.all if n.usable]

    def by_id(self, node_id):
        return next(n for n in self.all if n.id == node_id)

    def view(self):
        """The rows of the node that sees the most slots served."""
        return max((n.rows() for n in self.nodes()), key=lambda rows: sum(r.count for r in rows if not r.failing))

    def masters(self):
        """Masters that work, those with slots first."""
        rows = [r for r in self.view() if "master" in r.flags and not r.failing]
        return [self.by_id(r.id) for r in sorted(rows, key=lambda r: not r.slots)]

    def replicas_of(self, master):
        return [self.by_id(r.id) for r in self.view() if r.master == master.id and not r.failing]

    def node_of_slot(self, slot):
        return next(self.by_id(r.id) for r in self.view() if "master" in r.flags and not r.failing and r.covers(slot))

    @staticmethod
    def slot_of(key):
        return slot_of(key)

    def node_of_key(self, key):
        return self.node_of_slot(slot_of(key))

    def key_on(self, node, stem="k", start=0):
        """A key with a hash tag, {stemN}, whose slot the node serves."""
        row = node.me()
        return next(k for k in ("{%s%d}" % (stem, i) for i in range(start, start + SLOTS * 4)) if row.covers(slot_of(k)))

    def slots_of(self, node):
        row = node.me()
        return [s for s in range(SLOTS) if row.covers(s)]

    def is_ok(self):
        nodes = self.nodes()
        return all(self._is_ok(n, len(nodes)) for n in nodes)

    @staticmethod
    def _is_ok(node, known):
        info = dict(line.split(":", 1) for line in must(node.cmd("CLUSTER", "INFO")).decode().splitlines())
        if info["cluster_state"] != "ok" or info["cluster_slots_ok"] != str(SLOTS):
            return False
        rows = [r for r in node.rows() if not r.failing and r.up]
        return len(rows) >= known and sum(r.count for r in rows) == SLOTS and node.in_sync()

    def agree(self):
        """All nodes say the same of who is whose master, has which slots, and since which epoch."""
        views = [[(r.id, r.master, r.slots, "master" in r.flags and r.epoch) for r in n.rows() if not r.failing]
                 for n in self.nodes()]
        return all(sorted(v, key=str) == sorted(views[0], key=str) for v in views)

    def wait_ok(self, timeout=30):
        wait_until(lambda: self.is_ok() and self.agree(), timeout, "the cluster is ok and of one mind")

    # ---- faults ----

    def kill(self, node):
        node.kill()

    def stop(self, node):
        node.freeze()

    def cont(self, node):
        node.thaw()

    def restart(self, node):
        """Starts it again with its own nodes.conf. Without data: only when its replica has taken over."""
        node.kill()
        node.frozen = False
        node.launch()
        wait_until(lambda: _up(node), what="%r answers" % node)

    def failover(self, replica, how=()):
        """CLUSTER FAILOVER; returns when it is master."""
        must(replica.cmd("CLUSTER", "FAILOVER", *how))
        wait_until(replica.is_master, 20, "%r has become master" % replica)

    def wait_promoted(self, replica, timeout=20):
        """Waits until it was elected, without being asked; when that was, on the clock of time.monotonic()."""
        with replica.client() as conn:
            wait_until(lambda: conn.cmd("ROLE")[0] == b"master", timeout, "%r was elected" % replica)
            return time.monotonic()

    def repair(self):
        """After a test that failed half-way: everybody runs again."""
        for node in self.all:
            if not node.alive():
                self.restart(node)
            elif node.frozen:
                self.cont(node)
        self.wait_ok()

    # ---- resharding, step by step as redis-cli does it ----

    def wait_heard(self):
        """A new owner takes a new epoch only above those it has heard of. Slots that go back at once, before the gossip
        is round, may stay with the old epoch: then a late message makes Redis drop the keys."""
        wait_until(self.agree, 20, "all have heard of the last change")

    def begin_migration(self, src, dst, slot):
        self.wait_heard()
        must(dst.cmd("CLUSTER", "SETSLOT", slot, "IMPORTING", src.id))
        must(src.cmd("CLUSTER", "SETSLOT", slot, "MIGRATING", dst.id))

    def move_keys(self, src, dst, keys):
        auth = ["AUTH", self.password] if self.password else []
        must(src.cmd("MIGRATE", "127.0.0.1", dst.port, "", 0, 5000, *auth, "KEYS", *keys))

    def end_migration(self, src, dst, slot):
        for node in [dst, src, *(m for m in self.masters() if m not in (src, dst))]:
            must(node.cmd("CLUSTER", "SETSLOT", slot, "NODE", dst.id))

    def migrate_slots(self, src, dst, slots, batch=10, pause=0.0):
        """Moves slots with their keys; `pause` after each slot spreads it over time."""
        self.wait_heard()
        others = [m for m in self.masters() if m not in (src, dst)]
        conns = {n: n.client() for n in [dst, src, *others]}
        try:
            for slot in slots:
                self._migrate_slot(conns, src, dst, slot, batch)
                time.sleep(pause)
        finally:
            for conn in conns.values():
                conn.close()

    def _migrate_slot(self, conns, src, dst, slot, batch):
        auth = ["AUTH", self.password] if self.password else []
        must(conns[dst].cmd("CLUSTER", "SETSLOT", slot, "IMPORTING", src.id))
        must(conns[src].cmd("CLUSTER", "SETSLOT", slot, "MIGRATING", dst.id))
        while keys := must(conns[src].cmd("CLUSTER", "GETKEYSINSLOT", slot, batch)):
            must(conns[src].cmd("MIGRATE", "127.0.0.1", dst.port, "", 0, 5000, *auth, "KEYS", *keys))
        for conn in conns.values():  # the new owner first, then the old one, then the others
            must(conn.cmd("CLUSTER", "SETSLOT", slot, "NODE", dst.id))

    # ---- members ----

    def add_master(self):
        """A new master without slots, known to all."""
        node, = self._launch(1)
        self._introduce([node])
        wait_until(lambda: _state_ok(node), 20, "%r sees the cluster as ok" % node)
        return node

    def remove_node(self, node):
        """As redis-cli del-node: all forget it, it is reset, and here it also ends."""
        assert not node.me().slots, "%r still has slots" % node
        for other in self.nodes():
            if other is not node:
                must(other.cmd("CLUSTER", "FORGET", node.id))
        node.cmd("CLUSTER", "RESET", "SOFT")
        self.all.remove(node)
        node.stop()

    def wait_quiet(self, node):
        """Until no client asks it for anything: who still has an old map hears MOVED, and fetches a new one."""
        wait_until(lambda: _is_quiet(node), 20, "nobody asks %r any more" % node)

    def calls(self, *names, nodes=None):
        """How often each node has run these commands: {node: count}."""
        return {n: sum(calls_of(n, name) for name in names) for n in nodes or self.nodes()}

    def map_fetches(self):
        """Calls of CLUSTER SLOTS and SHARDS that each node has seen. The harness itself uses neither."""
        return self.calls("cluster|slots", "cluster|shards")

    # ---- Keyweir in front of it ----

    def keyweir(self, head="", tables="", seeds=None, **kwargs):
        """A Keyweir, not started: `head` for [upstream.main], then `tables`."""
        nodes = ", ".join('"%s"' % n.address for n in seeds or self.nodes()[:2])
        if self.tls:
            tables = self.tls.upstream_table() + tables
        return Keyweir((self.nodes() or self.all)[0].url, 'mode = "cluster"\nnodes = [%s]\n%s\n%s' % (nodes, head, tables), **kwargs)


def _asked(node):
    """What clients asked of the node, refused or not: {row of INFO commandstats: its counts without the times}."""
    rows = (line.split(",") for line in node.cmd("INFO", "commandstats").decode().splitlines() if line.startswith("cmdstat_"))
    return [(row[0], row[3]) for row in rows if not row[0].startswith(("cmdstat_info", "cmdstat_ping", "cmdstat_role", "cmdstat_cluster"))]


def _is_quiet(node):
    """Whether half a second goes by in which no client asks it for anything."""
    before = _asked(node)
    time.sleep(0.5)
    return _asked(node) == before


def _up(node):
    assert node.alive(), "%r ended:\n%s" % (node, node.log()[-2000:])
    try:
        with node.client(timeout=2) as conn:
            return conn.cmd("PING") == "PONG"
    except OSError:
        return False


def _state_ok(node):
    return b"cluster_state:ok" in node.cmd("CLUSTER", "INFO")


def follow(cluster, *args):
    """A command sent directly to the right master, for tests of the harness and for looking behind Keyweir."""
    with cluster.node_of_key(args[1]).client() as conn:
        return conn.cmd(*args)


__all__ = ["Cluster", "Conn", "Node", "Refused", "follow", "must", "slot_of"]
