"""A server that is elsewhere next time: what makes each runner ask where."""

import asyncio
import contextlib
from contextlib import aclosing
from urllib.parse import urlsplit

import pytest

from taskflow._servers.cluster import ClusterServer
from taskflow._servers.discovery import Addresses, DiscoveredServer
from taskflow._servers.sentinel import SentinelServer
from taskflow.errors import ServerRefusedError, ServerUnavailableError
from tests.support.echo_scripts import echo
from tests.support.stub_server import HANG, error, stub_server

PATIENT = 10.0
ONE = b":1\r\n"


def place_of(stub):
    """Give the host and port of *stub*."""
    parts = urlsplit(stub.url)
    return parts.hostname, parts.port


class Told(DiscoveredServer):
    """Is where it is told to be: at each of *places* in turn, then at the last."""

    _question = "WHERE"

    def __init__(self, *places, timeout=5.0):
        self.asked = 0
        self.places = places
        url = f"redis+x://h?socket_timeout={timeout}"
        super().__init__(url, Addresses.read(url, 1))

    def _helpers(self):
        return ()

    def _place_by(self, helper):
        self.asked += 1
        return self.places[min(self.asked, len(self.places)) - 1]


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request):
    """Give a function that sends operations one by one, by each runner."""

    def blocking(server, *operations):
        runner = server.runner(patience=PATIENT)
        with contextlib.closing(runner):
            return [runner.send(each) for each in operations]

    def by_loop(server, *operations):
        async def send():
            runner = server.async_runner(patience=PATIENT)
            return [await runner.send(each) for each in operations]

        return asyncio.run(send())

    return blocking if request.param == "blocking" else by_loop


@pytest.mark.parametrize(
    "trouble",
    [
        HANG,
        None,
        error("READONLY You can't write against a read only replica."),
        error("MOVED 1 h:1"),
        error("ASK 1 h:1"),
        error("CLUSTERDOWN The cluster is down"),
        error("MASTERDOWN Link with MASTER is down"),
    ],
    ids=["hangs", "closes", "readonly", "moved", "ask", "clusterdown", "masterdown"],
)
@pytest.mark.parametrize("before", [0, 1], ids=["at once", "later"])
def test_trouble_makes_a_runner_ask_where_the_server_is(ask, trouble, before):
    """And send again there, also what it sent on a connection that was well."""
    replies = [ONE] * before

    def answer(command):
        return replies.pop() if replies else trouble

    with stub_server(answer) as first, stub_server(lambda command: ONE) as second:
        patience = 1.0 if trouble is HANG else 5.0
        server = Told(place_of(first), place_of(second), timeout=patience)

        assert [1] * (before + 1) == ask(server, *[echo("x")] * (before + 1))
        assert 2 == server.asked
        assert ["EVALSHA"] * (before + 1) == first.commands
        assert ["EVALSHA"] == second.commands


def test_a_connection_to_where_it_was_is_not_used_again(ask):
    """Though it is well: who has its place is the one that counts."""
    with (
        stub_server(lambda command: ONE) as first,
        stub_server(lambda command: ONE) as second,
    ):
        server = Told(place_of(first), place_of(second))
        operation = echo("x")

        class Moves:
            """Sends by *server*, and has it move after its first answer."""

            def __getattr__(self, name):
                return getattr(operation, name)

            def decode(self, reply):
                server.doubt()
                server.prepare()
                return reply

        assert [1, 1] == ask(server, Moves(), operation)
        assert ["EVALSHA"] == first.commands
        assert ["EVALSHA"] == second.commands


def test_who_listens_where_it_was_listens_anew():
    """On a loop and in a thread, without waiting for the connection to break."""

    def listen(command):
        count = len(command[1])
        return b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (count, command[1])

    async def on_a_loop(server):
        async with (
            aclosing(server.async_runner()) as runner,
            runner.subscribe("news") as news,
        ):
            server.doubt()
            server.prepare()
            return await news.next(0.01)

    for listener in ("thread", "loop"):
        with stub_server(listen) as first, stub_server(listen) as second:
            server = Told(place_of(first), place_of(second))
            if listener == "loop":
                assert asyncio.run(on_a_loop(server)) is None
            else:
                with server.runner().subscribe("news") as news:
                    server.doubt()
                    server.prepare()
                    assert news.next(0.01) is None

            assert ["SUBSCRIBE"] == first.commands
            assert ["SUBSCRIBE"] == second.commands


def bulk(*words):
    """Give an array of byte strings, as a reply."""
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


class TestWhoIsAsked:
    """What sentinels and nodes say is looked into before it is believed."""

    def test_a_sentinel_that_names_a_replica_is_not_believed(self):
        """Another may have heard of the failover already."""
        replica = stub_server(lambda command: bulk(b"slave"))
        primary = stub_server(
            lambda command: bulk(b"master") if command[0] == b"ROLE" else ONE
        )
        with replica as old, primary as new:

            def names(stub):
                host, port = place_of(stub)
                return lambda command: bulk(host.encode(), b"%d" % port)

            with stub_server(names(old)) as late, stub_server(names(new)) as early:
                hosts = f"{late.url[8:]},{early.url[8:]}"
                server = SentinelServer(f"redis+sentinel://{hosts}/m")

                assert 1 == server.runner().send(echo("x"))
                assert new.url == f"redis://{server.place}"

    def test_a_server_that_may_not_tell_its_role_is_believed(self):
        """A user of few rights has no ROLE; a replica refuses what it is sent."""
        denied = error("NOPERM User w has no permissions to run the 'role' command")
        with stub_server(
            lambda command: denied if command[0] == b"ROLE" else ONE
        ) as primary:
            host, port = place_of(primary)
            told = bulk(host.encode(), b"%d" % port)
            with stub_server(lambda command: told) as sentinel:
                server = SentinelServer(f"redis+sentinel://{sentinel.url[8:]}/m")

                assert 1 == server.runner().send(echo("x"))

    def test_a_slot_that_nobody_holds_may_be_held_later(self):
        """While a cluster is being made, or has lost a node."""
        with stub_server(lambda command: b"*0\r\n") as node:
            server = ClusterServer(f"redis+cluster://{node.url[8:]}", "{tf}:")

            with pytest.raises(ServerUnavailableError, match="no node holds the slot"):
                server.runner(patience=0.0).send(echo("x"))

    def test_a_node_that_names_one_that_does_not_agree_is_not_believed(self):
        """It may be the last to hear of a failover."""

        def owner_is(place):
            host, port = place
            inner = b"*3\r\n$%d\r\n%b\r\n:%d\r\n$1\r\nx\r\n"
            return b"*1\r\n*3\r\n:0\r\n:16383\r\n" + inner % (
                len(host),
                host.encode(),
                port,
            )

        with stub_server(lambda command: owner_is(("127.0.0.1", 1))) as second:
            told = owner_is(place_of(second))
            with stub_server(lambda command: told) as first:
                server = ClusterServer(f"redis+cluster://{first.url[8:]}", "{tf}:")
                with pytest.raises(ServerUnavailableError, match="does not hold"):
                    server.runner(patience=0.0).send(echo("x"))

    def test_a_user_who_may_not_ask_is_told_so(self):
        """All of them refuse: waiting would not help."""
        denied = error("NOPERM User w has no permissions to run 'cluster|slots'")
        with stub_server(lambda command: denied) as node:
            server = ClusterServer(f"redis+cluster://{node.url[8:]}", "{tf}:")

            with pytest.raises(ServerRefusedError, match="no permissions"):
                server.runner(patience=PATIENT).send(echo("x"))
