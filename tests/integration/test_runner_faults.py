"""What the runners make of a server in trouble: one error, or none at all."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
import threading
import time
import traceback
from contextlib import aclosing
from pathlib import Path

import pytest
import redis.asyncio

from taskflow._servers.redis import RedisServer
from taskflow.errors import (
    ScriptError,
    ServerFullError,
    ServerRefusedError,
    ServerUnavailableError,
    TaskFlowError,
)
from tests.support.echo_scripts import echo
from tests.support.stub_server import HANG, OK, error, stub_server

PATIENT = 10.0  # seconds; no test waits for it
PEM = Path(__file__).parent.parent / "tls" / "localhost.pem"
ONE = b":1\r\n"


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request):
    """Give a function that sends operations to a URL, by each runner."""

    def blocking(url, *operations, patience=0.0):
        runner = RedisServer(url).runner(patience=patience)
        try:
            return runner.send_all(operations)
        finally:
            runner.close()

    def by_loop(url, *operations, patience=0.0):
        async def send():
            runner = RedisServer(url).async_runner(patience=patience)
            return await runner.send_all(operations)

        return asyncio.run(send())

    return blocking if request.param == "blocking" else by_loop


def one_of(*replies):
    """Answer by each of *replies* in turn, and by the last one for ever."""
    left = list(replies)

    def answer(command):
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


FOREIGN_WORDS = [
    ("LOADING Redis is loading the dataset in memory", ServerUnavailableError),
    ("READONLY You can't write against a read only replica.", ServerUnavailableError),
    ("MASTERDOWN Link with MASTER is down", ServerUnavailableError),
    ("MISCONF Errors writing to the AOF file", ServerUnavailableError),
    ("NOREPLICAS Not enough good replicas to write.", ServerUnavailableError),
    ("BUSY Redis is busy running a script.", ServerUnavailableError),
    ("CLUSTERDOWN The cluster is down", ServerUnavailableError),
    ("TRYAGAIN Multiple keys request during rehashing", ServerUnavailableError),
    ("ERR max number of clients reached", ServerUnavailableError),
    ("OOM command not allowed when used memory > 'maxmemory'.", ServerFullError),
    ("NOAUTH Authentication required.", ServerRefusedError),
    ("NOPERM User x has no permissions to run 'evalsha'", ServerRefusedError),
    ("ERR ACL failure in script: User x has no permissions", ServerRefusedError),
    ("ERR unknown command 'EVALSHA', with args beginning with:", ServerRefusedError),
    ("MOVED 3999 127.0.0.1:6381", ServerRefusedError),
    ("WRONGTYPE Operation against a key", ScriptError),
    ("ERR Error running script: user_script:1: attempt to index", ScriptError),
]


@pytest.mark.parametrize(("words", "kind"), FOREIGN_WORDS)
def test_the_servers_words_become_one_of_our_errors(ask, words, kind):
    """What a caller does next follows from the class."""
    with stub_server(one_of(error(words))) as stub:
        (answer,) = ask(stub.url, echo("x"))

    assert kind is type(answer)
    assert ["EVALSHA"] == stub.commands


@pytest.mark.parametrize(
    "trouble",
    [
        error("LOADING Redis is loading the dataset in memory"),
        error("MISCONF Errors writing to the AOF file"),
        error("BUSY Redis is busy running a script."),
        None,
    ],
    ids=["loading", "misconf", "busy", "closed"],
)
def test_trouble_that_passes_costs_no_error(ask, trouble):
    """What got no answer is sent again while patience lasts."""
    with stub_server(one_of(trouble, trouble, ONE)) as stub:
        assert [1] == ask(f"{stub.url}?socket_timeout=1", echo("x"), patience=PATIENT)
        assert 3 == len(stub.commands)


@pytest.mark.parametrize(
    "words", ["OOM no room", "NOPERM no", "WRONGTYPE no", "ERR unknown command"]
)
def test_what_no_patience_helps_is_asked_once(ask, words):
    """A full server is not hammered, a wrong password not locked out."""
    with stub_server(one_of(error(words))) as stub:
        (answer,) = ask(stub.url, echo("x"), patience=PATIENT)

    assert isinstance(answer, TaskFlowError)
    assert 1 == len(stub.commands)


def test_patience_ends(ask):
    """A server that never answers is reported after the time, and not much later."""
    started = time.monotonic()
    with stub_server(one_of(None)) as stub:
        (answer,) = ask(stub.url, echo("x"), patience=2.0)
        took = time.monotonic() - started

    assert ServerUnavailableError is type(answer)
    assert 2.0 <= took < PATIENT
    assert 3 <= len(stub.commands)


def test_nobody_who_listens_is_told_as_it_is(ask):
    """A refused connection names the address."""
    with stub_server(one_of(ONE)) as stub:
        url = stub.url
    (answer,) = ask(url, echo("x"))

    assert ServerUnavailableError is type(answer)
    assert url.removeprefix("redis://") in str(answer)


def test_a_name_that_no_one_has_is_no_answer(ask):
    """A name may be resolved again when the network is back."""
    (answer,) = ask("redis://no-such-host.invalid", echo("x"))

    assert ServerUnavailableError is type(answer)


def test_a_reply_that_does_not_come_is_given_up(ask):
    """The limit is the URL's ``socket_timeout``; the connection is not used again."""
    with stub_server(one_of(HANG, ONE)) as stub:
        url = f"{stub.url}?socket_timeout=1"
        (first,) = ask(url, echo("x"))
        (second,) = ask(url, echo("x"))

    assert ServerUnavailableError is type(first)
    assert 1 == second
    assert 2 == stub.connections


def test_half_a_reply_is_no_reply(ask):
    """A connection cut in the middle of a reply: the operation is sent again."""

    class Cut:
        """Sends the beginning of a reply and ends the connection."""

        def __init__(self):
            self.left = [b"$10\r\nabc", None]

        def __call__(self, command):
            return self.left.pop(0) if self.left else ONE

    with stub_server(Cut()) as stub:
        assert [1] == ask(f"{stub.url}?socket_timeout=1", echo("x"), patience=PATIENT)


def test_one_failed_trip_fails_every_operation_in_it(ask):
    """And each may be told by its own caller."""
    with stub_server(one_of(None)) as stub:
        answers = ask(stub.url, echo("x"), echo("y"))

    assert [ServerUnavailableError] * 2 == [type(answer) for answer in answers]


def test_a_server_that_became_a_replica_is_left(ask):
    """Its connections are dropped, so that the next one finds the new primary."""
    replica = error("READONLY You can't write against a read only replica.")
    with stub_server(one_of(ONE, replica, ONE)) as stub:
        runner = RedisServer(stub.url).runner(patience=PATIENT)
        runner.send(echo("x"))

        assert 1 == runner.send(echo("x"))
        assert 2 == stub.connections
        runner.close()


def test_a_script_that_is_loaded_in_vain_is_no_answer(ask):
    """A proxy may send each command to another server."""
    lost = error("NOSCRIPT No matching script. Please use EVAL.")

    def answer(command):
        return b"$2\r\nok\r\n" if command[0] == b"SCRIPT" else lost

    with stub_server(answer) as stub:
        (told,) = ask(stub.url, echo("x"))

    assert ServerUnavailableError is type(told)
    assert ["EVALSHA", "SCRIPT", "EVALSHA"] == stub.commands


def test_the_server_is_given_the_script_that_it_is_asked_for(ask):
    """The address of a script is the hash of the text that is loaded."""
    held = {}

    def answer(command):
        if command[0] == b"SCRIPT":
            sha = hashlib.sha1(command[2], usedforsecurity=False).hexdigest()
            held[sha.encode()] = command[2]
            return b"$40\r\n%b\r\n" % sha.encode()
        return ONE if command[1] in held else error("NOSCRIPT No matching script.")

    with stub_server(answer) as stub:
        assert [1, 1] == ask(stub.url, echo("x"), echo("y"))
        assert ["EVALSHA", "EVALSHA", "SCRIPT", *["EVALSHA"] * 2] == stub.commands


def test_a_wrong_password_is_refused_and_not_shown(ask):
    """It is asked once, and no text tells the password."""
    with stub_server(one_of(error("WRONGPASS invalid username-password pair"))) as stub:
        url = stub.url.replace("://", "://:s3cret@")
        (answer,) = ask(url, echo("x"), patience=PATIENT)

    assert ServerRefusedError is type(answer)
    assert "s3cret" not in repr(answer)
    assert ["AUTH"] == stub.commands


def test_a_database_that_is_not_there_is_refused(ask):
    """A setting to be mended, no script's fault."""
    with stub_server(one_of(error("ERR DB index is out of range"))) as stub:
        (answer,) = ask(f"{stub.url}/99", echo("x"))

    assert ServerRefusedError is type(answer)
    assert ["SELECT"] == stub.commands


def test_a_wait_is_sent_once():
    """What it takes may be taken although the reply is lost."""
    with stub_server(one_of(None)) as stub:

        async def wait():
            runner = RedisServer(stub.url).async_runner(patience=PATIENT)
            with pytest.raises(ServerUnavailableError):
                await runner.wait_for("m", PATIENT)

        asyncio.run(wait())

        assert ["BZPOPMIN"] == stub.commands


def test_a_wait_for_what_is_no_marker_says_so():
    """A key of a foreign type is no reason to look again and again."""
    with stub_server(one_of(error("WRONGTYPE Operation against a key"))) as stub:

        async def wait():
            runner = RedisServer(stub.url).async_runner(patience=PATIENT)
            with pytest.raises(ScriptError, match="BZPOPMIN"):
                await runner.wait_for("m", PATIENT)

        asyncio.run(wait())


def test_who_listens_to_a_server_that_is_away_hears_nothing():
    """Waiting for a result goes on: its caller reads the record each second."""
    with stub_server(one_of(None)) as stub:
        url = stub.url
    server = RedisServer(url)
    with server.runner().subscribe("news") as news:
        assert news.next(0.01) is None

    async def listen():
        async with (
            aclosing(server.async_runner()) as runner,
            runner.subscribe("news") as news,
        ):
            assert await news.next(0.01) is None

    asyncio.run(listen())


def test_threads_wait_for_a_connection_only_so_long():
    """All are in use by trips that hang."""
    with stub_server(one_of(HANG)) as stub:
        url = f"{stub.url}?socket_timeout=0.2&max_connections=1"
        runner = RedisServer(url).runner(patience=0)
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.extend(runner.send_all([echo(1)])))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        runner.close()

    assert [ServerUnavailableError] * 3 == [type(answer) for answer in answers]


@pytest.fixture
def tls():
    """Give the side of the server: a certificate for localhost, signed by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def test_a_certificate_that_is_trusted_is_accepted(ask, tls):
    """The URL says whom to trust."""
    with stub_server(one_of(ONE), tls) as stub:
        assert [1] == ask(f"{stub.url}?ssl_ca_certs={PEM}", echo("x"))


def test_a_certificate_that_is_not_trusted_is_refused(ask, tls):
    """Verification is on unless the URL says otherwise, and no patience helps."""
    with stub_server(one_of(ONE), tls) as stub:
        (answer,) = ask(stub.url, echo("x"), patience=PATIENT)

    assert ServerRefusedError is type(answer)
    assert [] == stub.commands


def test_a_certificate_for_another_host_is_refused(ask, tls):
    """The name in the URL is compared with the names in the certificate."""
    with stub_server(one_of(ONE), tls) as stub:
        url = stub.url.replace("localhost", "127.0.0.1")
        (answer,) = ask(f"{url}?ssl_ca_certs={PEM}", echo("x"), patience=PATIENT)

    assert ServerRefusedError is type(answer)
    assert [] == stub.commands


@pytest.mark.parametrize("said", ["none", "CERT_NONE"])
def test_a_certificate_is_not_looked_at_where_the_address_says_so(ask, tls, said):
    """As for services that sign for themselves; Celery spells it its own way."""
    with stub_server(one_of(ONE), tls) as stub:
        assert [1] == ask(f"{stub.url}?ssl_cert_reqs={said}", echo("x"))


@pytest.mark.parametrize(
    ("query", "way_out"), [("", "ssl_cert_reqs=none"), (f"?ssl_ca_certs={PEM}", "")]
)
def test_the_refusal_of_a_certificate_says_the_way_out(ask, tls, query, way_out):
    """Whom to trust, or the name that it is for."""
    with stub_server(one_of(ONE), tls) as stub:
        url = stub.url.replace("localhost", "127.0.0.1") if query else stub.url
        (answer,) = ask(f"{url}{query}", echo("x"))

    assert (way_out or "ssl_check_hostname=false") in str(answer)


def test_a_server_without_tls_is_a_refusal(ask):
    """Waiting does not help; the address does."""

    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(10_000)
                    client.sendall(b"-ERR unknown command\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        (answer,) = ask(f"rediss://localhost:{port}", echo("x"), patience=PATIENT)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert ServerRefusedError is type(answer), answer
    assert "no TLS at this port" in str(answer)


@pytest.mark.parametrize(
    "tripped", [ValueError("x"), UnicodeError("x"), TypeError("x"), OverflowError("x")]
)
def test_what_connecting_trips_over_is_one_of_our_errors(ask, monkeypatch, tripped):
    """Whichever library below raised it."""

    def trip(link, *arguments, **options):
        raise tripped

    for kind in (redis.Connection, redis.asyncio.Connection):
        monkeypatch.setattr(kind, "connect", trip)
    (answer,) = ask("redis://127.0.0.1:1", echo("x"), patience=PATIENT)

    assert ServerRefusedError is type(answer)
    assert tripped is answer.__cause__


def test_a_server_that_repeats_the_password_is_not_repeated(ask):
    """One without AUTH says what it was sent, which tracebacks would show."""

    def answer(command):
        told = f"ERR unknown command 'AUTH', with args beginning with: {command[1:]}"
        return error(told) if command[0] == b"AUTH" else OK

    with stub_server(answer) as stub:
        url = stub.url.replace("redis://", "redis://:hunter2@")
        (refused,) = ask(url, echo("x"))

    assert ServerRefusedError is type(refused)
    assert "hunter2" not in "".join(traceback.format_exception(refused))


def test_an_operator_finds_our_connections_by_their_name(ask):
    """``CLIENT LIST`` shows who is connected."""
    with stub_server(one_of(ONE)) as stub:
        ask(stub.url, echo("x"))

        assert [b"SETNAME", b"taskflow"] in stub.told
