"""Addresses of servers that others have to be asked for."""

import pytest
from redis.crc import key_slot

from taskflow import TaskFlow
from taskflow._servers.cluster import ClusterServer
from taskflow._servers.discovery import Addresses
from taskflow._servers.from_url import open_server
from taskflow._servers.sentinel import SentinelServer
from taskflow.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "kind", "display"),
    [
        ("redis+sentinel://a:1,b/m/2", SentinelServer, "redis+sentinel://a:1,b/m/2"),
        ("rediss+sentinel://a/m", SentinelServer, "rediss+sentinel://a/m"),
        (
            "redis+sentinel://u:pw@a/m?sentinel_password=pw&sentinel_username=s",
            SentinelServer,
            "redis+sentinel://u:***@a/m?sentinel_password=***&sentinel_username=s",
        ),
        ("redis+cluster://a:1,[::1]:2", ClusterServer, "redis+cluster://a:1,[::1]:2"),
        ("rediss+cluster://:pw@a/0", ClusterServer, "rediss+cluster://:***@a/0"),
    ],
)
def test_a_url_with_several_hosts_becomes_its_server(url, kind, display):
    """Nobody is asked yet, and no password is shown."""
    server = open_server(url, prefix="{tf}:")

    assert (kind, display) == (type(server), server.display)
    assert (False, "", True) == (server.prepared, server.place, server.shared)


def test_a_url_is_taken_apart():
    """Whom to ask, where a port is left out, and what the server itself needs."""
    parts = Addresses.read("rediss+x://u:p%40w@a,b:2,[::1]:3/m/4?ssl_ca_certs=c&z=1", 9)

    assert (("a", 9), ("b", 2), ("::1", 3)) == parts.places
    assert ("m", "4") == parts.path
    assert "1" == parts.option("z")
    assert parts.option("y") is None
    assert "rediss://u:p%40w@[::1]:3/4?ssl_ca_certs=c" == parts.without("z").url(
        parts.places[2], "4"
    )


def test_options_are_the_servers_and_the_sentinels_are_their_own():
    """A password with special characters is quoted in the URL, and not here."""
    url = "redis+sentinel://u:p@a/m?sentinel_password=a%26b&max_connections=7"
    server = SentinelServer(url)

    assert 7 == server.most_links
    assert {"username": None, "password": "a&b", "db": 0} == server.login


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://a", "which primary"),
        ("redis+sentinel://a/", "which primary"),
        ("redis+sentinel:///m", "cannot be read"),
        ("redis+sentinel://a,,b/m", "cannot be read"),
        ("redis+sentinel://a:port/m", "cannot be read"),
        ("redis+sentinel://:s3c#ret@a/m", "cannot be"),
        ("redis+sentinel://a/m/x", "cannot be used"),
        ("redis+sentinel://a/m?nonsense=1", "cannot be used"),
        ("redis+cluster://a/1", "no database but 0"),
        ("redis+cluster://a/x/y", "no database but 0"),
    ],
)
def test_what_cannot_be_used_is_said_before_anybody_is_asked(url, said):
    """And no piece of a password is quoted."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        open_server(url, prefix="{tf}:")

    assert "s3c" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "app:"])
def test_a_cluster_without_a_hash_tag_is_refused_with_the_way_out(prefix):
    """At the first use, and before a connection."""
    flow = TaskFlow("redis+cluster://127.0.0.1:1", prefix=prefix)

    with pytest.raises(ConfigurationError, match=r"hash tag.*TASKFLOW_PREFIX=\{myapp"):
        flow.queues.status()


@pytest.mark.parametrize("prefix", ["{tf}:", "app:{tf}:", "{tf}{other}"])
def test_the_slot_of_every_key_is_that_of_the_prefix(prefix):
    """The first tag decides, as with the server."""
    server = ClusterServer("redis+cluster://a", prefix)
    flow = TaskFlow("memory://", prefix=prefix)
    names = ("primary", "active", "marker", "events")
    keys = [getattr(flow.connection.keys, name) for name in names]

    assert [server.slot] * len(names) == [key_slot(key.encode()) for key in keys]
