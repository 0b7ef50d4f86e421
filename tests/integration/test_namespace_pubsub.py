# SPDX-License-Identifier: BSD-2-Clause
"""Channels and keys through namespaces: Pub/Sub, keyspace events, PUBSUB, invalidations, sealed messages."""
import base64
import signal
import threading

import pytest

from harness.cluster import Cluster
from harness.resp import Conn, Push
from harness.servers import Keyweir, Redis, free_ports, wait_until

KEY = base64.b64encode(bytes(range(32))).decode()
KEYS = '[encryption]\nkeys = ["k1:%s"]\nhash_key = "%s"\n' % (KEY, KEY)
CONFIG = """
[namespace.product]
prefix = "shop:product:"
channel_prefix = "shop:news:"
[namespace.token]
match = ["token:blacklist:", "blacklist:token:"]
prefix = "tb:"
channel_prefix = "tbc:"
[namespace.secret]
hash_keys = true
[namespace.plain]
""" + KEYS
EVENTS = ["--notify-keyspace-events", "KEA"]


@pytest.fixture(scope="module", name="server")
def server_fixture():
    with Redis(EVENTS) as server:
        yield server


@pytest.fixture(scope="module", name="proxy")
def proxy_fixture(server):
    with Keyweir(server, CONFIG) as proxy:
        yield proxy


@pytest.fixture(name="direct")
def direct_fixture(server):
    with server.client() as conn:
        yield conn


@pytest.fixture(name="other")
def other_fixture(proxy):
    with proxy.client() as conn:
        yield conn


def subscribed(conn, *args):
    """The confirmations of a SUBSCRIBE and its kin."""
    conn.send(*args)
    return [list(conn.read()) for _ in args[1:]]


def message(conn):
    return list(conn.read())


def is_silent(conn):
    """Nothing but the answer to this comes."""
    conn.send("PING")
    reply = conn.read()
    return reply in ("PONG", [b"pong", b""])


@pytest.mark.parametrize("proto", [2, 3])
def test_names_there_and_back(proxy, other, direct, proto):
    with proxy.client(proto) as sub:
        assert subscribed(sub, "SUBSCRIBE", "product:1", "loose", "plain:1") == [
            [b"subscribe", b"product:1", 1], [b"subscribe", b"loose", 2], [b"subscribe", b"plain:1", 3]]
        assert sorted(direct.cmd("PUBSUB", "CHANNELS")) == [b"loose", b"plain:1", b"shop:news:1"]
        for channel, upstream in (("product:1", "shop:news:1"), ("loose", "loose"), ("plain:1", "plain:1")):
            assert direct.cmd("PUBLISH", upstream, "directly") == 1
            assert message(sub) == [b"message", channel.encode(), b"directly"]
            assert other.cmd("PUBLISH", channel, "by keyweir") == 1
            assert message(sub) == [b"message", channel.encode(), b"by keyweir"]
        assert direct.cmd("PUBLISH", "product:1", "another") == 0
        assert subscribed(sub, "UNSUBSCRIBE", "product:1", "nothing") == [
            [b"unsubscribe", b"product:1", 2], [b"unsubscribe", b"nothing", 2]]
        assert sorted(direct.cmd("PUBSUB", "CHANNELS")) == [b"loose", b"plain:1"]
        sub.send("UNSUBSCRIBE")
        assert {bytes(sub.read()[1]) for _ in range(2)} == {b"loose", b"plain:1"}
        assert is_silent(sub)


def test_large_messages(proxy, other, direct):
    """In one piece and streamed: the channel is another, the message stays."""
    with proxy.client() as sub:
        sub.cmd("SUBSCRIBE", "product:large")
        for size in (0, 10, 2000, 70000, 3000000, 20000000):
            assert other.cmd("PUBLISH", "product:large", b"x" * size) == 1
            assert sub.read() == [b"message", b"product:large", b"x" * size]
    wait_until(lambda: direct.cmd("PUBSUB", "CHANNELS") == [])


def test_one_channel_of_several_names(proxy, other, direct):
    """Two names lead to one channel upstream, which is subscribed once; each reader hears its own."""
    with proxy.client() as one, proxy.client(3) as two, proxy.client() as both:
        assert one.cmd("SUBSCRIBE", "token:blacklist:x") == [b"subscribe", b"token:blacklist:x", 1]
        assert list(two.cmd("SUBSCRIBE", "blacklist:token:x")) == [b"subscribe", b"blacklist:token:x", 1]
        assert subscribed(both, "SUBSCRIBE", "token:blacklist:x", "tbc:x", "token:blacklist:x") == [
            [b"subscribe", b"token:blacklist:x", 1], [b"subscribe", b"tbc:x", 2],
            [b"subscribe", b"token:blacklist:x", 2]]
        assert direct.cmd("PUBSUB", "CHANNELS") == [b"tbc:x"]
        assert other.cmd("PUBLISH", "blacklist:token:x", "gone") == 4
        assert message(one) == [b"message", b"token:blacklist:x", b"gone"]
        assert two.read() == Push([b"message", b"blacklist:token:x", b"gone"])
        assert sorted([message(both), message(both)]) == [
            [b"message", b"tbc:x", b"gone"], [b"message", b"token:blacklist:x", b"gone"]]
        assert both.cmd("UNSUBSCRIBE", "token:blacklist:x") == [b"unsubscribe", b"token:blacklist:x", 1]
        assert other.cmd("PUBLISH", "token:blacklist:x", "again") == 3
        assert message(both) == [b"message", b"tbc:x", b"again"]
        assert is_silent(both)
    wait_until(lambda: direct.cmd("PUBSUB", "CHANNELS") == [])


@pytest.mark.parametrize("together", [True, False])
def test_publish_in_a_transaction(proxy, sealing, together):
    for keyweir, channel in ((proxy, "product:tx"), (sealing, "mail:tx")):
        with keyweir.client() as sub, keyweir.client() as conn:
            sub.cmd("SUBSCRIBE", channel)
            commands = [["MULTI"], ["PUBLISH", channel, "one"], ["PUBLISH", "loose", "two"], ["EXEC"]]
            replies = conn.pipeline(commands) if together else [conn.raw(*c) for c in commands]
            assert replies[-1] == b"*2\r\n:1\r\n:0\r\n"
            assert message(sub) == [b"message", channel.encode(), b"one"]


def test_a_reader_of_two_names_that_is_closed(server, fresh_keyweir):
    """The second of its subscriptions is not looked at when the first message has closed it."""
    proxy = fresh_keyweir(server, '[server]\nclient_output_limit = "1mb"\n' + CONFIG, workers=1)
    with proxy.client() as slow, proxy.client() as quick, proxy.client() as other:
        subscribed(slow, "SUBSCRIBE", "token:blacklist:x", "blacklist:token:x")
        quick.cmd("SUBSCRIBE", "tbc:x")
        for i in range(12):
            other.cmd("PUBLISH", "token:blacklist:x", b"x" * 1000000)
            assert message(quick)[2] == b"x" * 1000000
        assert slow.eof()
        assert other.cmd("PUBLISH", "token:blacklist:x", "alone") == 1
        assert "client_output_limit" in proxy.log()


def test_many_readers_of_one_form(proxy, other):
    readers = [proxy.client(2 + i % 2) for i in range(100)]
    for i, reader in enumerate(readers):
        reader.cmd("SUBSCRIBE", ["token:blacklist:", "blacklist:token:"][i // 2 % 2] + "crowd")
    assert other.cmd("PUBLISH", "token:blacklist:crowd", "y" * 5000) == 100
    for i, reader in enumerate(readers):
        name = [b"token:blacklist:", b"blacklist:token:"][i // 2 % 2] + b"crowd"
        assert message(reader) == [b"message", name, b"y" * 5000]
        reader.close()


@pytest.mark.parametrize("proto", [2, 3])
def test_patterns(proxy, other, direct, proto):
    with proxy.client(proto) as sub:
        assert subscribed(sub, "PSUBSCRIBE", "product:*") == [[b"psubscribe", b"product:*", 1]]
        assert direct.cmd("PUBSUB", "NUMPAT") == 1
        assert other.cmd("PUBLISH", "product:7", "a") == 1
        assert message(sub) == [b"pmessage", b"product:*", b"product:7", b"a"]
        direct.cmd("PUBLISH", "product:7", "not this one")
        assert is_silent(sub)
        assert subscribed(sub, "PUNSUBSCRIBE", "product:*") == [[b"punsubscribe", b"product:*", 0]]
        # what may lead into a namespace, and elsewhere
        assert subscribed(sub, "PSUBSCRIBE", "p*") == [[b"psubscribe", b"p*", 1]]
        for channel in ("product:8", "p2", "plain:1"):
            other.cmd("PUBLISH", channel, "b")
            assert message(sub) == [b"pmessage", b"p*", channel.encode(), b"b"]
        for upstream in ("product:9", "shop:p", "tbc:p"):  # nobody's, or they do not match under the client's name
            direct.cmd("PUBLISH", upstream, "c")
        assert is_silent(sub)
        assert list(sub.cmd("PUNSUBSCRIBE")) == [b"punsubscribe", b"p*", 0]
        assert subscribed(sub, "PSUBSCRIBE", "*") == [[b"psubscribe", b"*", 1]]
        direct.cmd("PUBLISH", "shop:news:1", "d")
        assert message(sub) == [b"pmessage", b"*", b"product:1", b"d"]
        sub.send("PUNSUBSCRIBE")
        sub.read()


def test_special_characters_in_prefixes(server, fresh_keyweir):
    proxy = fresh_keyweir(server, '[namespace.odd]\nmatch = "odd:"\nchannel_prefix = "o*[d]\\\\?:"\n')
    with proxy.client() as sub, server.client() as direct:
        assert sub.cmd("PSUBSCRIBE", "odd:[ab]?*") == [b"psubscribe", b"odd:[ab]?*", 1]
        assert direct.cmd("PUBLISH", "o*[d]\\?:bcd", "x") == 1
        assert message(sub) == [b"pmessage", b"odd:[ab]?*", b"odd:bcd", b"x"]
        for upstream in ("oxd\\y:bcd", "o*d\\?:bcd", "odd:bcd"):
            assert direct.cmd("PUBLISH", upstream, "x") == 0


def test_pubsub_commands(proxy, other, direct):
    with proxy.client() as one, proxy.client() as two:
        subscribed(one, "SUBSCRIBE", "product:1", "loose", "__keyspace@0__:product:5", "__keyspace@0__:secret:5")
        two.cmd("SUBSCRIBE", "product:1")
        subscribed(two, "PSUBSCRIBE", "product:*")
        with server_subscribed(direct, "product:hidden"):
            assert sorted(other.cmd("PUBSUB", "CHANNELS")) == [b"__keyspace@0__:product:5", b"loose", b"product:1"]
            assert other.cmd("PUBSUB", "CHANNELS", "product:*") == [b"product:1"]
            assert other.cmd("PUBSUB", "CHANNELS", "p*1") == [b"product:1"]
            assert other.cmd("PUBSUB", "CHANNELS", "shop:*") == []
            assert other.cmd("PUBSUB", "CHANNELS", "__keyspace@*__:product:*") == [b"__keyspace@0__:product:5"]
            assert other.cmd("PUBSUB", "CHANNELS", "__key*:5") == [b"__keyspace@0__:product:5"]
        assert other.cmd("PUBSUB", "NUMSUB", "product:1", "loose", "nothing") == [
            b"product:1", 2, b"loose", 1, b"nothing", 0]
        assert other.cmd("PUBSUB", "NUMSUB") == []
        assert other.cmd("PUBSUB", "NUMPAT") == 1
        assert other.cmd("PUBSUB", "CHANNELS", "a", "b").startswith("ERR")
        assert other.cmd("PUBLISH", "product:1", "x") == 3


class server_subscribed:
    """Somebody at the server itself listens to a channel."""

    def __init__(self, direct, channel):
        self.port = direct.sock.getpeername()[1]
        self.channel = channel

    def __enter__(self):
        self.conn = Conn(port=self.port)
        self.conn.cmd("SUBSCRIBE", self.channel)

    def __exit__(self, *_):
        self.conn.close()


# ---- keyspace events ----

def test_keyspace_events(proxy, direct):
    with proxy.client() as sub:
        assert subscribed(sub, "SUBSCRIBE", "__keyspace@0__:product:1", "__keyspace@0__:free") == [
            [b"subscribe", b"__keyspace@0__:product:1", 1], [b"subscribe", b"__keyspace@0__:free", 2]]
        direct.cmd("SET", "product:1", "not this")
        direct.cmd("SET", "shop:product:1", "x")
        assert message(sub) == [b"message", b"__keyspace@0__:product:1", b"set"]
        direct.cmd("SET", "free", "x")
        assert message(sub) == [b"message", b"__keyspace@0__:free", b"set"]
        sub.send("UNSUBSCRIBE")
        sub.read(), sub.read()
        assert subscribed(sub, "PSUBSCRIBE", "__keyspace@*__:product:*")[0][2] == 1
        direct.cmd("DEL", "shop:product:1")
        assert message(sub) == [b"pmessage", b"__keyspace@*__:product:*", b"__keyspace@0__:product:1", b"del"]
        direct.cmd("SET", "tb:1", "x")
        assert is_silent(sub)


def test_keyevent_events(proxy, direct):
    with proxy.client(3) as sub:
        subscribed(sub, "SUBSCRIBE", "__keyevent@0__:set")
        direct.cmd("SET", "shop:product:2", "x")
        assert message(sub) == [b"message", b"__keyevent@0__:set", b"product:2"]
        direct.cmd("SET", "tb:2", "x")
        assert message(sub) == [b"message", b"__keyevent@0__:set", b"token:blacklist:2"]
        direct.cmd("SET", "free", "x")
        assert message(sub) == [b"message", b"__keyevent@0__:set", b"free"]
        direct.cmd("SET", "product:2", "nobody's")
        direct.cmd("SET", "secret:0123456789abcdef0123456789abcdef", "hashed")
        assert is_silent(sub)


@pytest.mark.parametrize("pattern", ["__key*__:*", "__key*", "__key*@0__:*t*", "*"])
def test_both_kinds_by_one_pattern(proxy, direct, pattern):
    with proxy.client() as sub:
        assert sub.cmd("PSUBSCRIBE", pattern) == [b"psubscribe", pattern.encode(), 1]
        direct.cmd("SET", "product:2", "nobody's")
        direct.cmd("SET", "shop:product:2", "x")
        assert message(sub) == [b"pmessage", pattern.encode(), b"__keyspace@0__:product:2", b"set"]
        assert message(sub) == [b"pmessage", pattern.encode(), b"__keyevent@0__:set", b"product:2"]
        if pattern != "*":
            direct.cmd("PUBLISH", "shop:news:1", "no key")
        assert is_silent(sub)


def test_strict_hides_other_keys(server, direct, fresh_keyweir):
    proxy = fresh_keyweir(server, "[server]\nstrict = true\n" + CONFIG)
    with proxy.client() as sub:
        subscribed(sub, "SUBSCRIBE", "__keyspace@0__:free", "__keyspace@0__:plain:1", "__keyevent@0__:set")
        direct.cmd("SET", "free", "x")
        direct.cmd("SET", "plain:1", "x")
        assert message(sub) == [b"message", b"__keyspace@0__:plain:1", b"set"]
        assert message(sub) == [b"message", b"__keyevent@0__:set", b"plain:1"]


def test_reload_gives_names_another_meaning(server, direct, fresh_keyweir):
    """Who has subscribed stays so by its own name, wherever that leads now."""
    proxy = fresh_keyweir(server)
    with proxy.client() as sub, proxy.client() as other:
        subscribed(sub, "SUBSCRIBE", "product:1")
        subscribed(sub, "PSUBSCRIBE", "product:*")
        for config, upstream in ((CONFIG, b"shop:news:1"), (CONFIG.replace("shop:news:", "n:"), b"n:1"),
                                 ("", b"product:1")):
            proxy.reload(config)
            wait_until(lambda: direct.cmd("PUBSUB", "CHANNELS") == [upstream] and direct.cmd("PUBSUB", "NUMPAT") == 1)
            assert other.cmd("PUBLISH", "product:1", "x") == 2
            assert sorted([message(sub), message(sub)]) == [
                [b"message", b"product:1", b"x"], [b"pmessage", b"product:*", b"product:1", b"x"]]
        assert subscribed(sub, "UNSUBSCRIBE", "product:1") == [[b"unsubscribe", b"product:1", 1]]


MOVED = CONFIG.replace("shop:news:", "n:")


class Publisher(threading.Thread):
    """Publishes numbers by the client's name, one after the other, until it is told to end."""

    def __init__(self, proxy, channel):
        super().__init__()
        self.conn = proxy.client()
        self.channel = channel
        self.sent = 0
        self.end = False

    def run(self):
        while not self.end:
            self.conn.cmd("PUBLISH", self.channel, "%d" % self.sent)
            self.sent += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end = True
        self.join()
        self.conn.close()


def numbers_until_end(conn):
    """The messages' texts, up to "end"."""
    texts = []
    while not texts or texts[-1] != b"end":
        texts.append(message(conn)[-1])
    return [int(t) for t in texts[:-1]]


# "p*" is "*" upstream by both: what was published by the old name is no longer seen as such.
@pytest.mark.parametrize("verb, name, lost", [("SUBSCRIBE", "product:1", 3), ("PSUBSCRIBE", "product:*", 3),
                                              ("PSUBSCRIBE", "p*", 10)])
def test_messages_during_reloads(server, fresh_keyweir, verb, name, lost):
    """Where a subscription moves to another channel it hears each message once, and (nearly) all of them."""
    proxy = fresh_keyweir(server, CONFIG, workers=1)
    with proxy.client() as sub:
        sub.cmd(verb, name)
        with Publisher(proxy, "product:1") as publisher:
            for i in range(10):
                seen = publisher.sent
                proxy.reload((MOVED, CONFIG)[i % 2])
                wait_until(lambda seen=seen: publisher.sent > seen + 100)
        with proxy.client() as last:
            assert last.cmd("PUBLISH", "product:1", "end") == 1
        numbers = numbers_until_end(sub)
        assert numbers == sorted(set(numbers))
        assert publisher.sent - len(numbers) <= lost


def test_subscribing_again_during_a_reload(server, direct, fresh_keyweir):
    proxy = fresh_keyweir(server, CONFIG)
    with proxy.client() as sub, proxy.client() as other:
        subscribed(sub, "SUBSCRIBE", "product:1", "loose")
        for i in range(10):
            before = len(proxy.log())
            proxy.write_config((MOVED, CONFIG)[i % 2])
            proxy.signal(signal.SIGHUP)
            while "eload" not in proxy.log()[before:]:
                for _ in range(50):
                    assert subscribed(sub, "SUBSCRIBE", "product:1") == [[b"subscribe", b"product:1", 2]]
            for _ in range(50):
                assert subscribed(sub, "SUBSCRIBE", "product:1") == [[b"subscribe", b"product:1", 2]]
            upstream = (b"n:1", b"shop:news:1")[i % 2]
            wait_until(lambda upstream=upstream: sorted(direct.cmd("PUBSUB", "CHANNELS")) == sorted([upstream, b"loose"]))
            assert other.cmd("PUBLISH", "product:1", "once") == 1
            assert message(sub) == [b"message", b"product:1", b"once"]
            assert is_silent(sub)
        assert subscribed(sub, "UNSUBSCRIBE", "product:1", "loose") == [
            [b"unsubscribe", b"product:1", 1], [b"unsubscribe", b"loose", 0]]
    wait_until(lambda: direct.cmd("PUBSUB", "CHANNELS") == [])


def test_leaving_during_reloads(server, direct, fresh_keyweir):
    """Subscriptions that are on their way elsewhere when they end, or when the next reload comes."""
    proxy = fresh_keyweir(server, CONFIG)
    names = ["product:%d" % i for i in range(300)]
    with proxy.client() as sub, proxy.client() as stays:
        subscribed(stays, "PSUBSCRIBE", "product:*")
        for i in range(12):
            subscribed(sub, "SUBSCRIBE", *names)
            proxy.write_config((MOVED, CONFIG, "")[i % 3])
            proxy.signal(signal.SIGHUP)
            if i % 4 == 1:
                sub.close()
                sub = proxy.client()
            elif i % 4 < 3:
                for name in names:
                    assert sub.cmd("UNSUBSCRIBE", name)[:2] == [b"unsubscribe", name.encode()]
                assert is_silent(sub)
            else:
                proxy.reload(CONFIG)
        sub.close()
        proxy.reload(MOVED)
        wait_until(lambda: direct.cmd("PUBSUB", "CHANNELS") == [] and direct.cmd("PUBSUB", "NUMPAT") == 1)
        wait_until(lambda: direct.cmd("PUBLISH", "n:1", "x") == 1)
        assert message(stays) == [b"pmessage", b"product:*", b"product:1", b"x"]


@pytest.mark.parametrize("reloads", [[MOVED], [MOVED, CONFIG.replace("shop:news:", "n2:")], [MOVED, CONFIG],
                                     [MOVED, CONFIG, MOVED]])
@pytest.mark.parametrize("lost", [False, True])
def test_reloads_while_redis_does_not_answer(fresh_redis, fresh_keyweir, reloads, lost):
    """Subscriptions are on their way when the next reload comes, when they end, and when the link is lost."""
    server = fresh_redis()
    proxy = fresh_keyweir(server, CONFIG, workers=1)
    with proxy.client() as sub, proxy.client() as leaves, proxy.client() as twice:
        for conn in sub, leaves, twice:
            subscribed(conn, "SUBSCRIBE", "product:1", "token:blacklist:1")
        subscribed(sub, "PSUBSCRIBE", "product:*")
        server.freeze()
        for config in reloads:
            proxy.reload(config)
        twice.send("SUBSCRIBE", "product:1")
        leaves.send("UNSUBSCRIBE", "product:1")
        sub.send("UNSUBSCRIBE", "token:blacklist:1")
        if lost:
            server.restart()
        server.thaw()
        if not lost:
            assert twice.read() == [b"subscribe", b"product:1", 2]
        else:
            twice.read()  # or that Redis is away
        assert leaves.read() == [b"unsubscribe", b"product:1", 1]
        assert sub.read() == [b"unsubscribe", b"token:blacklist:1", 2]
        upstream = "n2:1" if "n2:" in reloads[-1] else "n:1" if reloads[-1] == MOVED else "shop:news:1"
        wait_until(lambda: sorted(server.cmd("PUBSUB", "CHANNELS")) == sorted([upstream.encode(), b"tbc:1"]) and
                   server.cmd("PUBSUB", "NUMPAT") == 1)
        assert server.cmd("PUBLISH", upstream, "x") == 2
        assert sorted([message(sub), message(sub)]) == [
            [b"message", b"product:1", b"x"], [b"pmessage", b"product:*", b"product:1", b"x"]]
        assert message(twice) == [b"message", b"product:1", b"x"]
        assert is_silent(sub) and is_silent(twice) and is_silent(leaves)


# ---- listeners that are bound to a namespace ----

@pytest.fixture(scope="module", name="bound")
def bound_fixture(server):
    """Factories of clients: of one namespace with a channel_prefix, of one without."""
    ports = free_ports(2)
    listeners = "".join('[[server.listener]]\naddress = "127.0.0.1:%d"\nnamespace = "%s"\n' % pair
                        for pair in zip(ports, ("product", "plain")))
    with Keyweir(server, listeners + CONFIG) as proxy:
        yield proxy, lambda proto=2: client_of(ports[0], proto), lambda proto=2: client_of(ports[1], proto)


def client_of(port, proto):
    conn = Conn(port=port)
    if proto == 3:
        conn.hello(3)
    return conn


def test_bound_names(bound, direct):
    proxy, product, _ = bound
    with proxy.client() as other, product() as sub, product(3) as pattern, product() as publisher:
        assert sub.cmd("SUBSCRIBE", "1") == [b"subscribe", b"1", 1]
        assert sub.cmd("SUBSCRIBE", "") == [b"subscribe", b"", 2]
        assert list(pattern.cmd("PSUBSCRIBE", "*")) == [b"psubscribe", b"*", 1]
        assert publisher.cmd("PUBLISH", "1", "a") == 2
        assert message(sub) == [b"message", b"1", b"a"]
        assert message(pattern) == [b"pmessage", b"*", b"1", b"a"]
        assert other.cmd("PUBLISH", "product:1", "b") == 2
        assert message(sub) == [b"message", b"1", b"b"] and message(pattern)[2:] == [b"1", b"b"]
        assert publisher.cmd("PUBLISH", "product:1", "nobody's") == 1
        assert message(pattern)[2:] == [b"product:1", b"nobody's"]
        assert publisher.cmd("PUBLISH", "", "c") == 2
        assert message(sub) == [b"message", b"", b"c"] and message(pattern)[2:] == [b"", b"c"]
        for channel in ("1", "loose", "product:2", "__keyspace@0__:1"):
            direct.cmd("PUBLISH", channel, "of others")
        assert is_silent(sub) and pattern.cmd("PING") == "PONG"
        with server_subscribed(direct, "loose"):
            assert sorted(publisher.cmd("PUBSUB", "CHANNELS")) == [b"", b"1"]
            assert publisher.cmd("PUBSUB", "CHANNELS", "[0-9]") == [b"1"]
            assert publisher.cmd("PUBSUB", "NUMSUB", "1", "loose") == [b"1", 1, b"loose", 0]
        assert subscribed(sub, "UNSUBSCRIBE", "1", "") == [[b"unsubscribe", b"1", 1], [b"unsubscribe", b"", 0]]


def test_bound_events(bound, direct):
    _, product, plain = bound
    with product() as sub, plain(3) as other:
        for conn in sub, other:
            subscribed(conn, "SUBSCRIBE", "__keyspace@0__:1", "__keyevent@0__:set")
            subscribed(conn, "PSUBSCRIBE", "__key*:*")
        direct.cmd("SET", "1", "of nobody")
        direct.cmd("SET", "shop:product:1", "x")
        direct.cmd("SET", "plain:1", "x")
        for conn in sub, other:
            assert sorted(message(conn) for _ in range(4)) == sorted([
                [b"message", b"__keyspace@0__:1", b"set"], [b"message", b"__keyevent@0__:set", b"1"],
                [b"pmessage", b"__key*:*", b"__keyspace@0__:1", b"set"],
                [b"pmessage", b"__key*:*", b"__keyevent@0__:set", b"1"]])
            conn.send("UNSUBSCRIBE"), conn.read(), conn.read(), conn.cmd("PUNSUBSCRIBE")
            assert is_silent(conn)


def test_channels_stay_without_a_channel_prefix(bound, direct):
    _, _, plain = bound
    with plain() as sub, plain() as publisher:
        sub.cmd("SUBSCRIBE", "news"), subscribed(sub, "PSUBSCRIBE", "*s")
        assert direct.cmd("PUBLISH", "news", "x") == 2
        assert sorted([message(sub), message(sub)]) == [
            [b"message", b"news", b"x"], [b"pmessage", b"*s", b"news", b"x"]]
        assert publisher.cmd("PUBLISH", "news", "y") == 2
        assert publisher.cmd("PUBSUB", "CHANNELS") == [b"news"]


# ---- client tracking ----

def tracking(conn, *args):
    assert conn.cmd("CLIENT", "TRACKING", "ON", *args) == "OK"


def test_invalidations(proxy, direct):
    with proxy.client(3) as conn:
        tracking(conn)
        for upstream, names in (("shop:product:1", [b"product:1"]), ("free", [b"free"]), ("plain:1", [b"plain:1"]),
                                ("tb:1", [b"token:blacklist:1", b"blacklist:token:1"])):
            conn.cmd("EXISTS", upstream)
            direct.cmd("SET", upstream, "x")
            assert conn.read() == Push([b"invalidate", names])
        conn.cmd("EXISTS", "free")
        direct.cmd("FLUSHDB")
        assert conn.read() == Push([b"invalidate", None])


def test_broadcast_invalidations(proxy, direct):
    with proxy.client(3) as conn:
        tracking(conn, "BCAST", "PREFIX", "product:", "PREFIX", "free", "NOLOOP")
        info = conn.cmd("CLIENT", "TRACKINGINFO")
        assert sorted(info[b"prefixes"]) == [b"free", b"product:"] and b"noloop" in info[b"flags"]
        for upstream in ("product:1", "tb:1", "elsewhere", "shop:product:1"):
            direct.cmd("SET", upstream, "x")
        assert conn.read() == Push([b"invalidate", [b"product:1"]])
        assert is_silent(conn)


def test_broadcast_of_several_places(proxy, direct):
    """What begins with p is in a namespace, or not."""
    with proxy.client(3) as conn:
        tracking(conn, "BCAST", "PREFIX", "p", "PREFIX", "free")
        for upstream, name in (("shop:product:1", b"product:1"), ("p1", b"p1"), ("free", b"free")):
            direct.cmd("SET", upstream, "x")
            assert conn.read() == Push([b"invalidate", [name]])
        direct.cmd("SET", "product:1", "of nobody")
        assert is_silent(conn)
        direct.cmd("SET", "secret:" + "0" * 32, "which one can't be told")
        assert conn.read() == Push([b"invalidate", None])


def test_tracking_says_what_is_wrong(proxy):
    with proxy.client(3) as conn:
        assert conn.cmd("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX") == "ERR syntax error"
        assert conn.cmd("CLIENT", "TRACKING", "ON", "PREFIX", "product:").startswith("ERR PREFIX option requires BCAST")


def test_prefixes_that_are_one_upstream(proxy, direct):
    with proxy.client(3) as conn:
        tracking(conn, "BCAST", "PREFIX", "token:blacklist:", "PREFIX", "blacklist:token:", "PREFIX", "tb:",
                 "PREFIX", "secret:a", "PREFIX", "secret:b")
        assert sorted(conn.cmd("CLIENT", "TRACKINGINFO")[b"prefixes"]) == [b"secret:", b"token:blacklist:"]
        direct.cmd("SET", "tb:1", "x")
        assert conn.read() == Push([b"invalidate", [b"token:blacklist:1", b"blacklist:token:1"]])


@pytest.mark.parametrize("first, second, said", [
    ("product:", "product:", ("product:", "product:")), ("product:1", "product:12", ("product:1", "product:12")),
    ("secret:a", "secret:a", ("secret:", "secret:")),
    ("token:blacklist:1", "blacklist:token:", ("token:blacklist:1", "token:blacklist:"))])
def test_prefixes_that_overlap(proxy, first, second, said):
    with proxy.client(3) as conn:
        assert conn.cmd("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", first, "PREFIX", second) == (
            "ERR Prefix '%s' overlaps with another provided prefix '%s'. "
            "Prefixes for a single client must not overlap." % said)
        tracking(conn, "BCAST", "PREFIX", first)
        assert conn.cmd("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", second) == (
            "ERR Prefix '%s' overlaps with an existing prefix '%s'. "
            "Prefixes for a single client must not overlap." % (said[1], said[0]))


OTHER_NAMES = CONFIG.replace("shop:product:", "elsewhere:")
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()


@pytest.mark.parametrize("config", [OTHER_NAMES, CONFIG.replace('hash_key = "%s"' % KEY, 'hash_key = "%s"' % OTHER_KEY),
                                    CONFIG + '[namespace.new]\nprefix = "x:"\n', ""],
                         ids=["prefix", "hash_key", "one more", "none"])
@pytest.mark.parametrize("args", [[], ["BCAST"], ["BCAST", "PREFIX", "product:"]])
def test_tracking_ends_when_keys_are_renamed(server, fresh_keyweir, config, args):
    """Redis would say nothing of what the client's keys are now."""
    proxy = fresh_keyweir(server, CONFIG)
    with proxy.client(3) as conn, proxy.client() as resp2, proxy.client(3) as plain:
        tracking(conn, *args)
        tracking(resp2, *args)
        conn.cmd("GET", "product:1")
        proxy.reload(CONFIG.replace("shop:news:", "n:") + "\n[log]\nlevel = \"debug\"\n")
        assert is_silent(conn) and is_silent(resp2)
        proxy.reload(config)
        assert conn.read() == Push([b"invalidate", None])
        assert conn.eof() and resp2.eof()
        assert is_silent(plain)


def test_tracking_ends_behind_what_is_under_way(server, fresh_keyweir):
    proxy = fresh_keyweir(server, CONFIG)
    with proxy.client(3) as slow, proxy.client(3) as blocked:
        tracking(slow)
        tracking(blocked)
        slow.send("EVAL", "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 2 do end return 7", "0")
        blocked.send("BLPOP", "list", "0")
        proxy.reload(OTHER_NAMES)
        for conn in slow, blocked:
            assert conn.read() == Push([b"invalidate", None])
        assert slow.read() == 7
        assert slow.eof() and blocked.eof()


@pytest.mark.parametrize("proto", [2, 3])
def test_redirection_ends_when_keys_are_renamed(server, fresh_keyweir, proto):
    proxy = fresh_keyweir(server, CONFIG)
    with proxy.client(proto) as target, proxy.client() as reader:
        target_id = target.cmd("CLIENT", "ID")
        target.cmd("SUBSCRIBE", "__redis__:invalidate")
        tracking(reader, "REDIRECT", target_id)
        proxy.reload(OTHER_NAMES)
        assert message(target) == ([b"message", b"__redis__:invalidate", None] if proto == 2 else [b"invalidate", None])
        assert reader.eof()
        assert is_silent(target)


@pytest.mark.parametrize("proto", [2, 3])
def test_redirected_invalidations(proxy, direct, proto):
    with proxy.client(proto) as target, proxy.client() as reader:
        target_id = target.cmd("CLIENT", "ID")
        target.cmd("SUBSCRIBE", "__redis__:invalidate")
        tracking(reader, "REDIRECT", target_id, "BCAST", "PREFIX", "product:")
        assert reader.cmd("CLIENT", "GETREDIR") == target_id
        info = reader.cmd("CLIENT", "TRACKINGINFO")
        assert info[3] == target_id and info[5] == [b"product:"]
        direct.cmd("SET", "shop:product:3", "x")
        assert message(target) == ([b"message", b"__redis__:invalidate", [b"product:3"]] if proto == 2 else
                                   [b"invalidate", [b"product:3"]])
        direct.cmd("FLUSHDB")
        assert message(target) == ([b"message", b"__redis__:invalidate", None] if proto == 2 else
                                   [b"invalidate", None])


def test_bound_tracking(bound, direct):
    _, product, _ = bound
    with product(3) as every, product(3) as some:
        tracking(every, "BCAST")
        tracking(some, "BCAST", "PREFIX", "a")
        assert every.cmd("CLIENT", "TRACKINGINFO")[b"prefixes"] == [b""]
        for upstream in ("a1", "tb:a1", "shop:product:a1"):
            direct.cmd("SET", upstream, "x")
        assert every.read() == Push([b"invalidate", [b"a1"]]) == some.read()
        direct.cmd("SET", "shop:product:b1", "x")
        assert every.read() == Push([b"invalidate", [b"b1"]])
        assert is_silent(every) and is_silent(some)


# ---- sealed messages ----

SEALED = """
[namespace.mail]
channel_prefix = "post:"
encrypt_messages = true
[namespace.open]
"""


@pytest.fixture(scope="module", name="sealing")
def sealing_fixture(server):
    with Keyweir(server, SEALED + KEYS) as proxy:
        yield proxy


def sealed_form(direct, publisher, channel, upstream, text):
    """What Redis sees of a message."""
    with Conn(port=direct.sock.getpeername()[1]) as tap:
        tap.cmd("SUBSCRIBE", upstream)
        assert publisher.cmd("PUBLISH", channel, text) >= 1
        return tap.read()[2]


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("size", [0, 5, 5000, 3000000])
def test_sealed_messages(sealing, direct, proto, size):
    text = b"z" * size
    with sealing.client(proto) as sub, sealing.client(proto) as pattern, sealing.client() as publisher:
        sub.cmd("SUBSCRIBE", "mail:1")
        pattern.cmd("PSUBSCRIBE", "mail:*")
        seen = sealed_form(direct, publisher, "mail:1", "post:1", text)
        assert len(seen) > size + 40 and (size == 0 or text not in seen)
        assert message(sub) == [b"message", b"mail:1", text]
        assert message(pattern) == [b"pmessage", b"mail:*", b"mail:1", text]
        assert sealed_form(direct, publisher, "open:1", "open:1", text) == text


def test_what_does_not_open_is_dropped(sealing, direct):
    with sealing.client() as sub, sealing.client() as publisher:
        subscribed(sub, "SUBSCRIBE", "mail:1", "mail:2")
        seen = sealed_form(direct, publisher, "mail:1", "post:1", b"the text")
        assert message(sub) == [b"message", b"mail:1", b"the text"]
        for channel, wrong in (("post:2", seen), ("post:1", seen[:-1]), ("post:1", seen[:-1] + b"!"), ("post:1", b"plain")):
            assert direct.cmd("PUBLISH", channel, wrong) == 1
        direct.cmd("PUBLISH", "post:1", seen)
        assert message(sub) == [b"message", b"mail:1", b"the text"]
        assert is_silent(sub)
        assert "it does not open" in sealing.log() and "the text" not in sealing.log()
        wait_until(lambda: b"messages_broken:4" in publisher.cmd("INFO", "everything"))


def test_plaintext_is_accepted_while_moving(server, direct, fresh_keyweir):
    proxy = fresh_keyweir(server, SEALED + KEYS + "accept_plaintext = true\n")
    with proxy.client() as sub, proxy.client() as publisher:
        sub.cmd("SUBSCRIBE", "mail:1")
        direct.cmd("PUBLISH", "post:1", "plain")
        assert message(sub) == [b"message", b"mail:1", b"plain"]
        assert publisher.cmd("PUBLISH", "mail:1", "sealed") == 1
        assert message(sub) == [b"message", b"mail:1", b"sealed"]


# ---- in a Cluster ----

def test_shard_channels():
    with Cluster(replicas=0) as cluster:
        channels = ["product:" + cluster.key_on(m) for m in cluster.masters()]
        tagged = ["{%s}" % cluster.key_on(m) for m in cluster.masters()]
        channels += ["product:" + tag for tag in tagged] + tagged
        upstream = [c.replace("product:", "shop:news:") for c in channels]
        with cluster.keyweir(CONFIG) as proxy, proxy.client() as sub, proxy.client() as conn:
            for i, channel in enumerate(channels):
                assert sub.cmd("SSUBSCRIBE", channel) == [b"ssubscribe", channel.encode(), i + 1]
            for channel, there in zip(channels, upstream):
                assert conn.cmd("SPUBLISH", channel, "by keyweir") == 1
                assert sub.read() == [b"smessage", channel.encode(), b"by keyweir"]
                assert cluster.node_of_key(there).cmd("SPUBLISH", there, "directly") == 1
                assert sub.read() == [b"smessage", channel.encode(), b"directly"]
                assert cluster.node_of_key(there).cmd("PUBSUB", "SHARDNUMSUB", there) == [there.encode(), 1]
                assert conn.pipeline([["MULTI"], ["SPUBLISH", channel, "in a unit"], ["EXEC"]])[-1] == b"*1\r\n:1\r\n"
                assert sub.read() == [b"smessage", channel.encode(), b"in a unit"]
                assert conn.cmd("SPUBLISH", channel, b"l" * 3000000) == 1
                assert sub.read() == [b"smessage", channel.encode(), b"l" * 3000000]
            assert sorted(conn.cmd("PUBSUB", "SHARDCHANNELS")) == sorted(c.encode() for c in channels)
            assert sorted(conn.cmd("PUBSUB", "SHARDCHANNELS", "product:{*")) == sorted(
                c.encode() for c in channels if c.startswith("product:{"))
            assert sub.cmd("SUNSUBSCRIBE", channels[0]) == [b"sunsubscribe", channels[0].encode(), len(channels) - 1]
            assert conn.cmd("SUBSCRIBE", "product:1") == [b"subscribe", b"product:1", 1]
            cluster.masters()[2].cmd("PUBLISH", "shop:news:1", "over the bus")
            assert message(conn) == [b"message", b"product:1", b"over the bus"]
