# SPDX-License-Identifier: BSD-2-Clause
"""What clients see of the proxy and of each other: CLIENT, MONITOR, SLOWLOG, INFO, Pub/Sub, blocking, state."""
import subprocess
import time

from harness.resp import Push, encode
from harness.servers import wait_until


def dict_of(reply):
    """A map as both protocols say it."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))


def test_client_list_over_all_workers(keyweir, conn):
    others = [keyweir.client() for _ in range(5)]
    ids = {o.cmd("CLIENT", "ID") for o in others}
    others[0].cmd("CLIENT", "SETNAME", "me")
    lines = conn.cmd("CLIENT", "LIST").decode().splitlines()
    listed = {int(line.split()[0][3:]) for line in lines}
    assert ids <= listed and any(" name=me " in line for line in lines)
    assert conn.cmd("CLIENT", "KILL", "ID", others[0].cmd("CLIENT", "ID")) == 1
    assert others[0].eof()
    assert conn.cmd("CLIENT", "KILL", "1.2.3.4:5") == "ERR No such client"
    for other in others:
        other.close()


def test_pause_and_unpause(keyweir, conn):
    with keyweir.client() as other:
        conn.cmd("SET", "p", "1")
        assert conn.cmd("CLIENT", "PAUSE", 100000, "WRITE") == "OK"
        assert other.cmd("GET", "p") == b"1"
        other.send("SET", "p", "2")
        wait_until(lambda: b"blocked_clients:1" in conn.cmd("INFO", "clients"))
        assert conn.cmd("CLIENT", "UNPAUSE") == "OK"
        assert other.read() == "OK"


def test_unblock(keyweir, conn):
    with keyweir.client() as other:
        other_id = other.cmd("CLIENT", "ID")
        other.send("BLPOP", "nothing", 0)
        wait_until(lambda: conn.cmd("CLIENT", "UNBLOCK", other_id) == 1)
        assert other.read() is None
        other.send("BLPOP", "nothing", 0)
        wait_until(lambda: conn.cmd("CLIENT", "UNBLOCK", other_id, "ERROR") == 1)
        assert other.read().startswith("UNBLOCKED")


def test_what_waits_behind_a_blocking_command_has_its_own_time(redis, fresh_keyweir):
    proxy = fresh_keyweir(redis, 'read_timeout = "500ms"\n')
    with proxy.client() as conn:
        replies = conn.pipeline([["BLPOP", "none", 0.4]] * 4 + [["PING", "x"], ["SET", "k", "v"], ["GET", "k"]])
    assert replies == [b"*-1\r\n"] * 4 + [b"$1\r\nx\r\n", b"+OK\r\n", b"$1\r\nv\r\n"]


def test_leaving_frees_the_blocked_connection(keyweir, direct):
    other = keyweir.client()
    other.send("BLPOP", "nothing", 0)
    wait_until(lambda: b"blocked_clients:1" in direct.cmd("INFO", "clients"))
    other.close()
    wait_until(lambda: b"blocked_clients:0" in direct.cmd("INFO", "clients"), 1)


def test_monitor_sees_all_workers_and_scripts(keyweir):
    with keyweir.client() as watcher:
        assert watcher.cmd("MONITOR") == "OK"
        for _ in range(3):
            with keyweir.client() as other:
                other.cmd("ECHO", "say \"x\"")
                assert '"ECHO" "say \\"x\\""' in watcher.read()
        with keyweir.client() as other:
            other.cmd("AUTH", "default", "topsecret")
            assert '"AUTH" "(redacted)" "(redacted)"' in watcher.read()
            other.cmd("EVAL", "redis.call('set', 'by', 'script')", 0)
            lines = {watcher.read(), watcher.read()}
            assert any("EVAL" in line for line in lines) and any("lua] \"set\" \"by\"" in line for line in lines)


def test_slowlog(conn):
    conn.cmd("CONFIG", "SET", "slowlog-log-slower-than", 100000)
    conn.cmd("SLOWLOG", "RESET")
    conn.cmd("PING")
    conn.cmd("DEBUG", "SLEEP", "0.15")
    entries = conn.cmd("SLOWLOG", "GET")
    assert [e[3] for e in entries] == [[b"DEBUG", b"SLEEP", b"0.15"]] and entries[0][2] >= 150000
    conn.cmd("CONFIG", "SET", "slowlog-log-slower-than", 10000)
    conn.cmd("SLOWLOG", "RESET")
    assert conn.cmd("SLOWLOG", "LEN") == 0


def test_info_fields(keyweir, conn):
    fields = dict(line.split(":", 1) for line in conn.cmd("INFO").decode().splitlines() if ":" in line)
    for name in ("redis_version", "connected_clients", "blocked_clients", "maxmemory_policy", "role", "loading",
                 "used_memory", "total_commands_processed", "keyweir_version", "instantaneous_ops_per_sec"):
        assert name in fields, name
    with keyweir.client(), keyweir.client():  # those of earlier tests may still be leaving
        wait_until(lambda: b"connected_clients:%d\r" % len(conn.cmd("CLIENT", "LIST").splitlines())
                   in conn.cmd("INFO", "clients"))
    out = subprocess.run(["stdbuf", "-oL", "redis-cli", "-p", str(keyweir.port), "--stat", "-i", "0.05"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=20, check=False,
                         preexec_fn=lambda: __import__("signal").alarm(3)).stdout
    assert "keys" in out and len(out.splitlines()) >= 3


def test_state_is_nobody_elses(keyweir, redis):
    with keyweir.client() as one, keyweir.client() as two, redis.client() as direct:
        one.cmd("SELECT", 3), one.cmd("SET", "where", "three"), one.cmd("CLIENT", "SETNAME", "one")
        two.cmd("SET", "where", "zero")
        assert one.cmd("GET", "where") == b"three" and two.cmd("GET", "where") == b"zero"
        assert two.cmd("CLIENT", "GETNAME") is None
        dying = keyweir.client()
        assert dying.pipeline([["WATCH", "where"], ["MULTI"]]) == [b"+OK\r\n", b"+OK\r\n"]
        assert dying.cmd("SET", "where", "lost") == "QUEUED"
        dying.close()
        for _ in range(20):
            assert two.pipeline([["MULTI"], ["GET", "where"], ["EXEC"]])[2] == b"*1\r\n$4\r\nzero\r\n"
        assert two.cmd("EXEC").startswith("ERR EXEC without MULTI")
        assert direct.cmd("GET", "where") == b"zero"
        assert one.cmd("RESET") == "RESET" and one.cmd("GET", "where") == b"zero"


def test_many_subscribers_one_connection(keyweir, conn, direct):
    readers = [keyweir.client(2 + i % 2) for i in range(1000)]
    for reader in readers:
        reader.send("SUBSCRIBE", "crowd")
    for reader in readers:
        assert list(reader.read()) == [b"subscribe", b"crowd", 1]
    assert len([x for x in direct.cmd("CLIENT", "LIST").split(b"\n") if b" sub=1 " in x]) <= 2
    assert conn.cmd("PUBLISH", "crowd", "hello") == 1000
    assert conn.cmd("PUBSUB", "NUMSUB", "crowd") == [b"crowd", 1000]
    for reader in readers:
        assert list(reader.read()) == [b"message", b"crowd", b"hello"]
    for reader in readers:
        reader.close()
    wait_until(lambda: direct.cmd("PUBSUB", "CHANNELS") == [])


def test_tracking_of_clients_themselves(keyweir):
    with keyweir.client(3) as reader, keyweir.client() as writer:
        assert reader.cmd("CLIENT", "TRACKING", "ON") == "OK"
        reader.cmd("GET", "tracked")
        writer.cmd("SET", "tracked", "1")
        assert reader.read() == Push([b"invalidate", [b"tracked"]])
        assert reader.cmd("CLIENT", "TRACKING", "OFF") == "OK"


def test_tracking_redirected(keyweir):
    with keyweir.client() as target, keyweir.client() as reader, keyweir.client() as writer:
        target_id = target.cmd("CLIENT", "ID")
        target.cmd("SUBSCRIBE", "__redis__:invalidate")
        assert reader.cmd("CLIENT", "TRACKING", "ON", "REDIRECT", target_id) == "OK"
        assert reader.cmd("CLIENT", "GETREDIR") == target_id
        reader.cmd("GET", "far")
        writer.cmd("SET", "far", "1")
        assert target.read() == [b"message", b"__redis__:invalidate", [b"far"]]
        assert reader.cmd("CLIENT", "TRACKING", "ON", "REDIRECT", 999999).startswith("ERR The client ID")


def test_tracking_survives_a_change_of_protocol(keyweir, redis):
    """What was tracked is told after HELLO too, on whichever side it came; also by Redis itself."""
    for server in (redis, keyweir):
        with server.client() as target, server.client() as reader, server.client() as writer:
            target_id = target.cmd("CLIENT", "ID")
            target.cmd("SUBSCRIBE", "__redis__:invalidate")
            assert reader.cmd("CLIENT", "TRACKING", "ON", "REDIRECT", target_id) == "OK"
            for proto in (3, 2, 3):
                reader.cmd("GET", "before")
                assert dict_of(reader.cmd("HELLO", proto))[b"proto"] == proto
                writer.cmd("SET", "before", "1")
                assert target.read() == [b"message", b"__redis__:invalidate", [b"before"]]
            target.cmd("UNSUBSCRIBE", "__redis__:invalidate")
            target.cmd("HELLO", 3)
            reader.cmd("GET", "after")
            writer.cmd("SET", "after", "1")
            assert target.read() == Push([b"invalidate", [b"after"]])
            reader.cmd("GET", "after")
            writer.cmd("FLUSHDB")
            assert target.read() == Push([b"invalidate", None])


def test_watch_survives_a_change_of_protocol(keyweir, redis):
    for server in (redis, keyweir):
        with server.client() as watcher, server.client() as writer:
            for spoilt in (True, False):
                watcher.cmd("WATCH", "watched")
                watcher.cmd("HELLO", 3)
                if spoilt:
                    writer.cmd("SET", "watched", "1")
                watcher.cmd("MULTI")
                watcher.cmd("PING")
                assert watcher.cmd("EXEC") == (None if spoilt else ["PONG"])
                assert dict_of(watcher.cmd("HELLO", 2))[b"proto"] == 2
                assert watcher.cmd("CONFIG", "GET", "maxclients")[0] == b"maxclients"


def test_redirection_breaks_with_its_target(keyweir):
    """Once QUIT is answered nothing goes to the target: the next invalidation is told to the reader."""
    for _ in range(20):
        with keyweir.client() as target, keyweir.client(3) as reader, keyweir.client() as writer:
            assert reader.cmd("CLIENT", "TRACKING", "ON", "REDIRECT", target.cmd("CLIENT", "ID")) == "OK"
            reader.cmd("GET", "gone")
            assert target.cmd("QUIT") == "OK"
            writer.cmd("SET", "gone", "1")
            assert reader.read()[0] == b"tracking-redir-broken"


def test_own_messages_follow_the_reply(keyweir):
    with keyweir.client(3) as client:
        client.cmd("SUBSCRIBE", "self")
        for _ in range(50):
            client.send_raw(b"".join(encode(*words) for words in (
                ["PUBLISH", "self", "a"], ["MULTI"], ["PUBLISH", "self", "b"], ["EXEC"],
                ["EVAL", "return redis.call('PUBLISH', 'self', 'c')", "0"])))
            got = [client.read() for _ in range(8)]
            for reply, message in ((1, b"a"), ([1], b"b"), (1, b"c")):
                push = [b"message", b"self", message]
                assert got.index(reply) < got.index(push)
                got.remove(reply)
                got.remove(push)
            assert got == ["OK", "QUEUED"]


def test_pause_all_holds_back_everything(keyweir, conn, redis):
    for server in (redis, keyweir):
        with server.client() as admin, server.client() as other:
            began = time.monotonic()
            admin.cmd("CLIENT", "PAUSE", 300)
            other.send("PING")
            assert admin.cmd("CLIENT", "UNPAUSE") == "OK" and other.read() == "PONG"
            assert time.monotonic() - began >= 0.3


def test_slowlog_does_not_count_waiting(keyweir, conn):
    conn.cmd("SLOWLOG", "RESET")
    for threshold, seen in ((0, True), (10000, False)):
        conn.cmd("CONFIG", "SET", "slowlog-log-slower-than", threshold)
        with keyweir.client() as other:
            other.send("BLPOP", "waited", 0)
            wait_until(lambda: b"blocked_clients:1" in conn.cmd("INFO", "clients"))
            conn.cmd("LPUSH", "waited", "1")
            other.read()
        logged = [e for e in conn.cmd("SLOWLOG", "GET", -1) if e[3][0] == b"BLPOP"]
        assert len(logged) == seen and all(e[2] == 0 for e in logged)
        conn.cmd("SLOWLOG", "RESET")


def test_kill_by_user_and_age(keyweir, conn, direct):
    direct.cmd("ACL", "SETUSER", "bob", "on", "nopass", "+@all", "~*")
    try:
        with keyweir.client() as client:
            assert client.cmd("AUTH", "bob", "x") == "OK"
            assert b" user=bob " in client.cmd("CLIENT", "INFO")
            assert conn.cmd("CLIENT", "KILL", "USER", "bob") == 1 and client.eof()
        assert conn.cmd("CLIENT", "KILL", "USER", "bob") == "ERR No such user"
        assert conn.cmd("CLIENT", "KILL", "MAXAGE", "x").endswith("not an integer or out of range")
        assert conn.cmd("CLIENT", "KILL", "MAXAGE", 0).endswith("should be greater than 0")
        assert conn.cmd("CLIENT", "KILL", "MAXAGE", 1000) == 0
    finally:
        direct.cmd("ACL", "DELUSER", "bob")


def test_refused_commands(conn):
    for command in (["SYNC"], ["PSYNC", "?", "-1"], ["REPLICAOF", "NO", "ONE"], ["FAILOVER"], ["SCRIPT", "DEBUG", "YES"]):
        assert conn.cmd(*command) == "ERR this command cannot be carried through Keyweir"


def test_own_command(conn):
    assert "STATUS" in conn.cmd("KEYWEIR", "HELP")
    upstream = conn.cmd("KEYWEIR", "UPSTREAMS")[0]
    assert upstream[upstream.index(b"state") + 1] == b"up"
    assert b"commands" in conn.cmd("KEYWEIR", "STATUS")
    assert conn.cmd("KEYWEIR", "NOSUCH").startswith("ERR ") and conn.cmd("KEYWEIR").startswith("ERR ")


def test_wait_looks_at_the_clients_own_writes(conn):
    conn.cmd("SET", "w", "1")
    assert conn.cmd("WAIT", 0, 10) == 0


def test_half_closed_client_gets_its_replies(keyweir):
    with keyweir.client() as piped:
        piped.send_raw(b"SET piped 1\r\nGET piped\r\n")
        piped.sock.shutdown(1)
        assert piped.read() == "OK" and piped.read() == b"1"
        assert piped.eof()


def test_silence_does_not_cover_subscriptions(keyweir, redis, conn):
    """CLIENT REPLY OFF and SKIP silence replies, not confirmations and messages."""
    for server in (redis, keyweir):
        for how in ("OFF", "SKIP"):
            with server.client() as reader:
                reader.cmd("HELLO", 3)
                reader.send("CLIENT", "REPLY", how)
                reader.send("SUBSCRIBE", "still")
                assert list(reader.read()) == [b"subscribe", b"still", 1]
                wait_until(lambda: conn.cmd("PUBLISH", "still", "said") == 1)
                assert list(reader.read()) == [b"message", b"still", b"said"]
                reader.send("CLIENT", "REPLY", how)
                reader.send("UNSUBSCRIBE", "still")
                assert list(reader.read()) == [b"unsubscribe", b"still", 0]


def test_pause_holds_back_what_replicates(keyweir, conn):
    conn.cmd("PFADD", "hll", "a")
    assert conn.cmd("CLIENT", "PAUSE", 100000, "WRITE") == "OK"
    with keyweir.client() as one, keyweir.client() as two:
        one.send("PFCOUNT", "hll")
        two.send("PUBLISH", "nobody", "hears")
        wait_until(lambda: b"blocked_clients:2" in conn.cmd("INFO", "clients"))
        assert conn.cmd("CLIENT", "UNPAUSE") == "OK"
        assert one.read() == 1 and two.read() == 0


def test_pause_and_transactions(keyweir, conn):
    """PAUSE WRITE holds a transaction back at EXEC when it may write; also one that comes in one piece."""
    conn.cmd("SET", "p", "1")
    assert conn.cmd("CLIENT", "PAUSE", 100000, "WRITE") == "OK"
    with keyweir.client() as reader, keyweir.client() as writer:
        for words in (["MULTI"], ["PING"], ["GET", "p"]):
            reader.cmd(*words)
        assert reader.cmd("EXEC") == ["PONG", b"1"]
        for words in (["MULTI"], ["SET", "p", "2"], ["EXEC"]):
            writer.send(*words)
        assert writer.read() == "OK" and writer.read() == "QUEUED"
        wait_until(lambda: b"blocked_clients:1" in conn.cmd("INFO", "clients"))
        assert reader.cmd("GET", "p") == b"1"
        with keyweir.client() as at_once:
            at_once.send_raw(b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\np\r\n$1\r\n3\r\n*1\r\n$4\r\nEXEC\r\n")
            wait_until(lambda: b"blocked_clients:2" in conn.cmd("INFO", "clients"))
            assert reader.cmd("GET", "p") == b"1"
            assert conn.cmd("CLIENT", "UNPAUSE") == "OK"
            assert [at_once.read() for _ in range(3)] == ["OK", "QUEUED", ["OK"]]
        assert writer.read() == ["OK"]


def test_slow_transaction_is_logged(keyweir, conn):
    conn.cmd("CONFIG", "SET", "slowlog-log-slower-than", 100000)
    conn.cmd("SLOWLOG", "RESET")
    with keyweir.client() as client:
        assert client.cmd("MULTI") == "OK"
        assert client.cmd("DEBUG", "SLEEP", "0.15") == "QUEUED"
        assert client.cmd("EXEC") == ["OK"]
    assert [e[3] for e in conn.cmd("SLOWLOG", "GET")] == [[b"EXEC"]]
    conn.cmd("CONFIG", "SET", "slowlog-log-slower-than", 10000)
    conn.cmd("SLOWLOG", "RESET")


def test_users_of_redis(keyweir, conn, direct):
    """AUTH as one of Redis's own users: Redis decides, and until RESET it is that user who does everything."""
    direct.cmd("ACL", "SETUSER", "alice", "on", ">secret", "+get", "+acl|whoami", "+hello", "+reset", "~own:*")
    direct.cmd("SET", "own:a", "1")
    direct.cmd("SET", "other", "2")
    try:
        for login in (("AUTH", "alice", "secret"), ("HELLO", 3, "AUTH", "alice", "secret"),
                      ("HELLO", 2, "AUTH", "alice", "secret", "SETNAME", "hers")):
            with keyweir.client() as client:
                assert client.cmd("AUTH", "alice", "wrong").startswith("WRONGPASS")
                assert client.cmd("HELLO", 2, "AUTH", "nobody", "x").startswith("WRONGPASS")
                assert client.cmd("ACL", "WHOAMI") == b"default" and client.cmd("GET", "other") == b"2"
                assert not str(client.cmd(*login)).startswith(("WRONG", "ERR"))
                assert client.cmd("ACL", "WHOAMI") == b"alice"
                assert client.cmd("GET", "own:a") == b"1"
                assert client.cmd("GET", "other").startswith("NOPERM")
                assert client.cmd("SET", "own:a", "2").startswith("NOPERM")
                with keyweir.client() as bystander:
                    assert bystander.cmd("ACL", "WHOAMI") == b"default" and bystander.cmd("GET", "other") == b"2"
                assert client.cmd("RESET") == "RESET"
                assert client.cmd("ACL", "WHOAMI") == b"default" and client.cmd("GET", "other") == b"2"
        with keyweir.client() as client:  # all in one write, and gone: its connection must not serve anybody else
            client.send_raw(b"".join(map(lambda words: b"*%d\r\n" % len(words) + b"".join(
                b"$%d\r\n%s\r\n" % (len(w), w) for w in words), [[b"AUTH", b"alice", b"secret"], [b"GET", b"other"]])))
            assert client.read() == "OK" and client.read().startswith("NOPERM")
        for _ in range(20):
            with keyweir.client() as bystander:
                assert bystander.cmd("SELECT", 1) == "OK" and bystander.cmd("ACL", "WHOAMI") == b"default"
                assert bystander.cmd("GET", "own:a") is None
    finally:
        direct.cmd("ACL", "DELUSER", "alice")
        direct.cmd("DEL", "own:a", "other")


def test_latency_histogram_and_resetstat(keyweir, conn):
    assert conn.cmd("CONFIG", "RESETSTAT") == "OK"
    assert conn.cmd("LATENCY", "HISTOGRAM")[0] == b"config|resetstat"
    conn.cmd("CLIENT", "ID")
    conn.cmd("CLIENT", "LIST")
    with keyweir.client() as other:  # maybe of another worker
        for _ in range(3):
            other.cmd("SET", "a", "b")
    conn.cmd("DEBUG", "SLEEP", "0.05")
    client = conn.cmd("LATENCY", "HISTOGRAM", "client", "nosuch", "client|nosuch")
    assert sorted(client[::2]) == [b"client|id", b"client|list"] and client[1][:2] == [b"calls", 1]
    assert conn.cmd("LATENCY", "HISTOGRAM", "set")[1][:2] == [b"calls", 3]
    debug = conn.cmd("LATENCY", "HISTOGRAM", "debug")[1]
    assert debug[:3] == [b"calls", 1, b"histogram_usec"] and debug[3][0] >= 65536 and debug[3][1:] == [1]
    conn.hello(3)
    assert conn.cmd("LATENCY", "HISTOGRAM", "client|list") == {
        b"client|list": {b"calls": 1, b"histogram_usec": conn.cmd("LATENCY", "HISTOGRAM", "client|list")
                         [b"client|list"][b"histogram_usec"]}}
    conn.hello(2)
    stats = dict(line.split(":") for line in conn.cmd("INFO", "stats").decode().splitlines()[1:])
    assert 10 < int(stats["total_commands_processed"]) < 30 and stats["total_connections_received"] == "1"


def test_unix_socket_that_is_not_there(fresh_keyweir, fresh_redis, tmp_path):
    """connect() fails at once there, not later."""
    path = str(tmp_path / "redis.sock")
    proxy = fresh_keyweir("unix://" + path)
    with proxy.client() as conn:
        for _ in range(50):
            assert conn.cmd("SET", "k", "v").startswith("UPSTREAMDOWN")
        server = fresh_redis(["--unixsocket", path])
        wait_until(lambda: conn.cmd("SET", "k", "v") == "OK", what="Redis is there")
        assert server.cmd("GET", "k") == b"v"
