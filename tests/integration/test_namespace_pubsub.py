# SPDX-License-Identifier: BSD-2-Clause
"""Channels and keys through namespaces: Pub/Sub, keyspace events, PUBSUB, invalidations, sealed messages."""
import pytest

from harness.resp import Push
from harness.servers import calls_of, wait_until

CONFIG = """
[encryption]
hash_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
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
"""
EVENTS = ["--notify-keyspace-events", "KEA"]


@pytest.fixture(scope="module", name="server")
def server_fixture():
    from harness.servers import Redis
    with Redis(EVENTS) as server:
        yield server


@pytest.fixture(scope="module", name="proxy")
def proxy_fixture(server):
    from harness.servers import Keyweir
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
        from harness.resp import Conn
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


def test_nothing_renamed_nothing_asked(proxy, server, other):
    """PUBSUB goes the plain way for a name that stays."""
    before = calls_of(server, "publish")
    assert other.cmd("PUBLISH", "plain:quiet", "x") == 0
    assert calls_of(server, "publish") == before + 1
