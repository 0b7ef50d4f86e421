# SPDX-License-Identifier: BSD-2-Clause
"""A master, its replicas and Sentinels, all real processes."""
import os
import time

from .cluster import must
from .resp import Conn
from .servers import Keyweir, Process, Redis, free_ports, wait_until

SENTINEL_CONF = """port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {service} 127.0.0.1 {master} {quorum}
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} 3000
sentinel parallel-syncs {service} 2
sentinel resolve-hostnames no
"""
# Sentinels look and talk more often than they do by themselves: else an old master is a replica again after 10 s.
QUICK = ["INFO-PERIOD", "500", "PUBLISH-PERIOD", "300", "PING-PERIOD", "300", "ASK-PERIOD", "300"]


class Sentinel(Process):
    def __init__(self, group, port):
        super().__init__()
        self.group = group
        self.port = port

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def configure(self, master_port):
        group = self.group
        text = SENTINEL_CONF.format(port=self.port, folder=self.folder, service=group.service, master=master_port,
                                    quorum=len(group.sentinels) // 2 + 1, down_after=group.down_after)
        if group.tls:
            text = text.replace("port %d\n" % self.port, "port 0\ntls-port %d\n" % self.port, 1)
            args = group.tls.redis_args()
            text += "".join("%s %s\n" % (args[i][2:], args[i + 1]) for i in range(0, len(args), 2))
        if group.password:
            text += "sentinel auth-pass %s %s\n" % (group.service, group.password)
        if group.sentinel_password:
            text += "requirepass %s\n" % group.sentinel_password
        with open(self.file, "w", encoding="ascii") as file:
            file.write(text)

    @property
    def file(self):
        return os.path.join(self.folder, "sentinel.conf")

    def launch(self):
        self.spawn(["redis-server", self.file, "--sentinel"])

    def client(self, proto=2, timeout=10.0):
        conn = Conn(port=self.port, timeout=timeout, tls=self.group.tls and self.group.tls.client_context())
        if self.group.sentinel_password:
            must(conn.cmd("AUTH", self.group.sentinel_password))
        if proto == 3:
            conn.hello(3)
        return conn

    def answers(self):
        try:
            return self.cmd("PING") == "PONG"
        except OSError:
            return False

    def cmd(self, *args):
        with self.client() as conn:
            return conn.cmd(*args)

    def master_fields(self):
        reply = must(self.cmd("SENTINEL", "MASTER", self.group.service))
        return dict(zip((k.decode() for k in reply[::2]), (v.decode() for v in reply[1::2])))

    def master_port(self):
        return int(must(self.cmd("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.group.service))[1])

    def stop(self):
        if self.alive():
            self.thaw()
        self.kill()
        self.clean()


class SentinelSet:
    """password: of the Redis servers; sentinel_password: of the Sentinels."""

    def __init__(self, replicas=2, sentinels=3, password=None, sentinel_password=None, tls=None, service="mymaster",
                 down_after=1000, args=()):
        self.password, self.sentinel_password, self.tls = password, sentinel_password, tls
        self.service, self.down_after = service, down_after
        ports = free_ports(1 + replicas + sentinels)
        self.servers = [Redis(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", *args], port=port,
                              password=password, tls=tls) for port in ports[:1 + replicas]]
        self.sentinels = [Sentinel(self, port) for port in ports[1 + replicas:]]
        self.frozen = set()
        self.elected_at = 0.0

    @property
    def addresses(self):
        return [s.address for s in self.sentinels]

    def start(self):
        first, *rest = self.servers
        first.start()
        for server in rest:
            server.args += ["--replicaof", "127.0.0.1", str(first.port)]
            server.start()
        for sentinel in self.sentinels:
            sentinel.configure(first.port)
            sentinel.launch()
        for sentinel in self.sentinels:
            wait_until(sentinel.answers, what="a Sentinel answers")
            must(sentinel.cmd("SENTINEL", "DEBUG", *QUICK))
        self.wait_ok()
        return self

    def close(self):
        for process in [*self.sentinels, *self.servers]:
            process.stop()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def keyweir(self, head="", tables="", **kwargs):
        """A Keyweir, not started: `head` for [upstream.main], then `tables`."""
        nodes = ", ".join('"%s"' % a for a in self.addresses)
        head = 'mode = "sentinel"\nservice = "%s"\nnodes = [%s]\n%s' % (self.service, nodes, head)
        if self.sentinel_password:
            head += '\nsentinel_password = "%s"' % self.sentinel_password
        if self.tls:
            tables = self.tls.upstream_table() + tables
        return Keyweir(self.servers[0].url, head + "\n" + tables, **kwargs)

    # ---- looking ----

    def by_port(self, port):
        return next(s for s in self.servers if s.port == port)

    def up(self):
        return [s for s in self.servers if s.alive() and s not in self.frozen]

    def master(self):
        """Whom most Sentinels call the master."""
        ports = [s.master_port() for s in self.sentinels if s.alive()]
        return self.by_port(max(ports, key=ports.count))

    def replicas(self):
        master = self.master()
        return [s for s in self.up() if s is not master]

    def is_ok(self):
        try:
            return self._is_ok()
        except OSError:
            return False

    def _is_ok(self):
        master, expected = self.master(), len(self.up()) - 1
        role = master.cmd("ROLE")
        if role[0] != b"master" or len(role[2]) != expected:
            return False
        if not all(r.cmd("ROLE")[:1] == [b"slave"] and r.cmd("ROLE")[3] == b"connected" for r in self.replicas()):
            return False
        return all(self._sees_all(s, master) for s in self.sentinels)

    def _sees_all(self, sentinel, master):
        fields = sentinel.master_fields()
        slaves = must(sentinel.cmd("SENTINEL", "REPLICAS", self.service))
        well = [s for s in slaves if s[s.index(b"flags") + 1] == b"slave"]
        return (fields["flags"] == "master" and int(fields["port"]) == master.port and len(well) == len(self.up()) - 1
                and int(fields["num-other-sentinels"]) == len(self.sentinels) - 1)

    def _replicates(self):
        """A replica says "connected" before the master sends it anything: that waits for its first acknowledgement."""
        with self.master().client() as c:
            c.cmd("SET", "replicated?", "yes")
            there = c.cmd("WAIT", len(self.up()) - 1, 500) == len(self.up()) - 1
            c.cmd("DEL", "replicated?")
            return there

    def wait_ok(self, timeout=40):
        wait_until(lambda: self.is_ok() and self._replicates(), timeout,
                   "Sentinels know the master, the replicas and each other, and writes are replicated")

    # ---- faults ----

    def kill_master(self):
        """Kills it; gives it back, for restart()."""
        old = self.master()
        old.kill()
        return old

    def stop_master(self):
        old = self.master()
        old.freeze()
        self.frozen.add(old)
        return old

    def cont(self, server):
        server.thaw()
        self.frozen.discard(server)

    def restart(self, server):
        """Starts it as it was configured at first: the Sentinels make a replica of an old master."""
        server.restart()

    def repair(self):
        """After a test that failed half-way: everybody runs again."""
        for server in list(self.frozen):
            self.cont(server)
        for server in self.servers:
            if not server.alive():
                self.restart(server)
        self.wait_ok()

    def failover(self):
        """SENTINEL FAILOVER; gives the old master and the new one."""
        old = self.master()
        wait_until(lambda: self.sentinels[0].cmd("SENTINEL", "FAILOVER", self.service) == "OK", 20, "a failover begins")
        return old, self.wait_new_master(old)

    def wait_new_master(self, old, timeout=30):
        """Waits until another server is master; sets elected_at to when it said so."""
        candidates = [s for s in self.up() if s is not old]
        new = wait_until(lambda: next((s for s in candidates if _says_master(s)), None), timeout, "a new master")
        self.elected_at = time.monotonic()
        return new


def _says_master(server):
    """By a connection of its own: Sentinels close all others of a server that they promote."""
    try:
        return server.cmd("ROLE")[0] == b"master"
    except OSError:
        return False
