"""Both runners, on every kind of server: answers, wake-ups, messages."""

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress

import pytest
import pytest_asyncio

from taskflow._servers.embedded import EmbeddedServer
from taskflow._servers.redis import RedisServer
from taskflow._servers.runner import IDLE_LIMIT
from taskflow.errors import ScriptError, ServerRefusedError
from tests.support.echo_scripts import echo, fail, incr, mark, publish, put

SOON = 0.01  # seconds
LATE = 10.0  # seconds; no test waits for it
PATIENT = 30.0  # seconds; a busy machine is not taken for a server that is away


@pytest.fixture
def blocking(server):
    """Give a blocking runner."""
    runner = server.runner(patience=PATIENT)
    yield runner
    runner.close()


@pytest_asyncio.fixture
async def runner(server):
    """Give a runner of the test's loop."""
    runner = server.async_runner(patience=PATIENT)
    yield runner
    await runner.aclose()


@pytest.fixture
def plain(server):
    """Give a plain client of the same server."""
    with server.sync_client() as client:
        yield client


class TestSend:
    """One operation, one answer."""

    async def test_an_operation_is_answered(self, runner, blocking):
        """The reply is decoded; what the server held is read as bytes."""
        assert b"x" == await runner.send(echo("x"))
        assert b"x" == blocking.send(echo("x"))

    async def test_arguments_arrive_as_they_are(self, runner, blocking):
        """Any byte, any number, any length."""
        values = ["", "é\n", b"\x00\xff\r\n", 0, -7, 0.1, b"x" * 300_000]
        stored = [b"", "é\n".encode(), b"\x00\xff\r\n", b"0", b"-7", b"0.1", values[-1]]

        assert stored == [await runner.send(echo(value)) for value in values]
        assert stored == [blocking.send(echo(value)) for value in values]

    async def test_a_script_that_is_wrong_is_named(self, runner, blocking):
        """The error says which script, and what the server said."""
        blocking.send(put("text", "x"))
        with pytest.raises(ScriptError, match=r"script 'fail': .*wrong kind"):
            await runner.send(fail("text"))
        with pytest.raises(ScriptError, match=r"script 'fail': .*wrong kind"):
            blocking.send(fail("text"))

    async def test_scripts_that_the_server_forgot_are_loaded_again(
        self, runner, blocking, plain
    ):
        """After a restart or a failover."""
        blocking.send(incr("n"))
        plain.script_flush()
        await runner.send(incr("n"))
        plain.script_flush()

        assert 3 == blocking.send(incr("n"))


class TestSendAll:
    """Several operations in one trip."""

    async def test_answers_stand_in_the_order_of_the_operations(self, runner, blocking):
        """Also where one script is run twice and another was never loaded."""
        batch = [echo("a"), incr("n"), echo("b"), incr("n")]

        assert [b"a", 1, b"b", 2] == await runner.send_all(batch)
        assert [b"a", 3, b"b", 4] == blocking.send_all(batch)

    async def test_one_that_fails_does_not_hide_the_answers_of_the_others(
        self, runner, blocking
    ):
        """Its error stands in its place, and what was done is done."""
        blocking.send(put("text", "x"))
        batch = [incr("n"), fail("text"), incr("n")]
        first = await runner.send_all(batch)
        second = blocking.send_all(batch)

        assert [1, 2] == [first[0], first[2]]
        assert [3, 4] == [second[0], second[2]]
        assert [ScriptError] * 2 == [type(first[1]), type(second[1])]

    async def test_only_what_was_missing_is_sent_again(self, runner, blocking, plain):
        """One script known, one forgotten: each is run once."""
        for send_all in (runner.send_all, asyncio_like(blocking.send_all)):
            plain.flushdb()
            plain.script_flush()
            await runner.send(incr("n"))
            batch = [incr("n"), put("k", 1), incr("n"), echo("x")]

            assert [2, 1, 3, b"x"] == await send_all(batch)

    async def test_nothing_to_send_is_no_trip(self, runner, blocking):
        """An empty batch has an empty answer."""
        assert [] == await runner.send_all([])
        assert [] == blocking.send_all([])


def asyncio_like(function):
    """Give *function* as a coroutine function."""

    async def call(*arguments):
        return await asyncio.to_thread(function, *arguments)

    return call


class TestWaitFor:
    """The marker: sleep until there is work."""

    async def test_a_marker_that_is_there_is_taken_at_once(self, runner):
        """One marker, one worker woken."""
        await runner.send(mark("m"))

        assert await runner.wait_for("m", LATE)
        assert not await runner.wait_for("m", SOON)

    async def test_a_marker_set_by_another_thread_wakes_the_waiter(
        self, runner, blocking
    ):
        """The waiter sleeps in the server and not in the loop."""
        waiting = asyncio.create_task(runner.wait_for("m", LATE))
        while not waiting.done():
            await asyncio.to_thread(blocking.send, mark("m"))

        assert await waiting

    async def test_a_marker_set_by_the_same_loop_wakes_the_waiter(self, runner):
        """The waiter's connection is its own."""
        waiting = asyncio.create_task(runner.wait_for("m", LATE))
        while not waiting.done():
            await runner.send(mark("m"))

        assert await waiting

    async def test_a_wait_that_is_cancelled_leaves_a_runner_that_works(self, runner):
        """Its connection is dropped, and with it the claim to the next marker."""
        lost = 0
        for _ in range(20):
            waiting = asyncio.create_task(runner.wait_for("m", LATE))
            await asyncio.sleep(0)
            await runner.send(echo("x"))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await runner.send(mark("m"))
            # A real server may see the marker before the end of the connection.
            lost += not await runner.wait_for("m", 10 * SOON)

            assert b"y" == await runner.send(echo("y"))
        assert 5 > lost

    @pytest.mark.parametrize("step", range(12))
    async def test_a_cancel_is_never_lost(self, runner, step):
        """Whatever the wait is about; a loop that lost it would go on for ever."""
        for _ in range(5):
            waiting = asyncio.create_task(runner.wait_for("m", LATE))
            for _ in range(step):
                await asyncio.sleep(0)
            waiting.cancel()
            done, _ = await asyncio.wait({waiting}, timeout=LATE / 2)

            assert {waiting} == done
            assert waiting.cancelled()

    async def test_a_wait_of_no_time_does_not_wait_for_ever(self, runner):
        """To the server, 0 would mean that."""
        started = time.monotonic()

        assert not await runner.wait_for("m", 0.0)
        assert LATE > time.monotonic() - started


class TestSubscribe:
    """A channel: hear that a task has ended."""

    async def test_what_is_published_inside_the_context_is_heard(
        self, runner, blocking
    ):
        """The context begins when the server has confirmed it."""
        async with runner.subscribe("news") as news:
            await runner.send(publish("news", "a"))

            assert b"a" == await news.next(LATE)
        with blocking.subscribe("news") as news:
            blocking.send(publish("news", "b"))

            assert b"b" == news.next(LATE)

    async def test_silence_lasts_as_long_as_it_was_asked_for(self, runner, blocking):
        """None comes after the time, and the next message after that."""
        started = time.monotonic()
        async with runner.subscribe("news") as news:
            assert await news.next(SOON) is None

            await runner.send(publish("news", "a"))

            assert b"a" == await news.next(LATE)
        with blocking.subscribe("news") as news:
            assert news.next(SOON) is None

            blocking.send(publish("news", "b"))

            assert b"b" == news.next(LATE)
        assert 2 * SOON <= time.monotonic() - started


class TestManyAtOnce:
    """Threads and tasks that share a runner."""

    def test_threads_share_a_runner_and_hear_their_own_answers(self, blocking):
        """Each trip has a connection to itself."""

        def many(thread):
            mine = [f"{thread}-{number}" for number in range(50)]
            return mine, [blocking.send(echo(value)).decode() for value in mine]

        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(many, range(16)))

        assert [sent for sent, _ in results] == [heard for _, heard in results]

    async def test_tasks_share_a_runner_and_hear_their_own_answers(self, runner):
        """Also when many of them are cancelled in mid-flight."""
        rng = random.Random(7)

        async def one(number):
            return await runner.send(echo(number))

        async def cut(task):
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()

        crossed = []
        for first in range(0, 400, 40):
            numbers = range(first, first + 40)
            tasks = [asyncio.create_task(one(number)) for number in numbers]
            cuts = [cut(task) for task in tasks if rng.random() < 0.5]
            await asyncio.gather(*cuts)
            for number, task in zip(numbers, tasks, strict=True):
                with suppress(asyncio.CancelledError):
                    if str(number).encode() != await task:
                        crossed.append(number)

        assert [] == crossed
        assert b"after" == await runner.send(echo("after"))

    def test_a_runner_belongs_to_the_loop_that_uses_it(self, server):
        """Another loop is told so, and not left to hang."""
        runner = server.async_runner()
        with asyncio.Runner() as loop, asyncio.Runner() as other:
            loop.run(runner.send(echo("x")))
            with pytest.raises(RuntimeError, match="another event loop"):
                other.run(runner.send(echo("x")))

    def test_a_closed_runner_may_be_used_from_another_loop(self, server):
        """Where each call has its own loop: ``asyncio.run(add.aenqueue(2, 3))``."""
        runner = server.async_runner()

        assert [b"x"] * 3 == [asyncio.run(runner.send(echo("x"))) for _ in range(3)]


@pytest.fixture
def real_server(redis_server):
    """Give a real server of which a test may ask things that memory lacks."""
    return redis_server


def until(condition):
    """Ask until *condition* holds; the test's own time limit is the patience."""
    while not condition():
        pass


def connections(client):
    """Count the connections that runners have open."""
    return sum(each["name"] == "taskflow" for each in client.client_list()) - 1


class TestConnections:
    """When connections are opened, kept, dropped and closed."""

    async def test_a_connection_is_kept_and_used_again(self, real_server):
        """One at a time needs one."""
        runner, blocking = real_server.async_runner(), real_server.runner()
        with real_server.sync_client() as client:
            for _ in range(5):
                await runner.send(echo("x"))
                blocking.send(echo("x"))

            assert 2 == connections(client)

            await runner.aclose()
            blocking.close()
            until(lambda: connections(client) == 0)

    def test_a_loop_that_ends_closes_its_connections(self, real_server):
        """Whoever enqueues by a task has nothing to close."""
        runner = real_server.async_runner()
        with real_server.sync_client() as client:

            async def send():
                await asyncio.gather(*(runner.send(echo(n)) for n in range(3)))
                assert 1 <= connections(client)

            asyncio.run(send())
            until(lambda: connections(client) == 0)

    async def test_no_more_connections_are_opened_than_allowed(self, redis_url):
        """The others wait for their turn; nobody is refused."""
        mark = "&" if "?" in redis_url else "?"
        server = RedisServer(f"{redis_url}{mark}max_connections=2")
        runner, blocking = server.async_runner(), server.runner()
        answers = await asyncio.gather(*(runner.send(echo(n)) for n in range(30)))
        with ThreadPoolExecutor(8) as pool:
            others = list(pool.map(lambda n: blocking.send(echo(n)), range(30)))
        with server.sync_client() as client:
            assert 4 >= connections(client)

        assert [str(n).encode() for n in range(30)] == answers
        assert answers == others
        await runner.aclose()
        blocking.close()

    async def test_connections_that_died_while_idle_cost_no_error(self, real_server):
        """The server was restarted; a caller without patience does not notice."""
        runner = real_server.async_runner(patience=0)
        blocking = real_server.runner(patience=0)
        with real_server.sync_client() as client:
            for _ in range(3):
                await asyncio.gather(*(runner.send(echo(n)) for n in range(5)))
                blocking.send(echo("x"))
                client.client_kill_filter(_type="normal", skipme=True)

                assert b"x" == await runner.send(echo("x"))
                assert b"x" == blocking.send(echo("x"))
        await runner.aclose()
        blocking.close()

    async def test_a_connection_long_unused_is_replaced(self, real_server):
        """A firewall may have forgotten it without telling anybody."""
        runner, blocking = real_server.async_runner(), real_server.runner()
        await runner.send(echo("x"))
        blocking.send(echo("x"))
        for each in (runner, blocking):
            (link, since) = each._idle.pop()
            each._idle.append((link, since - IDLE_LIMIT))
        old = [runner._idle[0][0], blocking._idle[0][0]]
        await runner.send(echo("x"))
        blocking.send(echo("x"))

        assert [False, False] == [
            old[0] is runner._idle[0][0],
            old[1] is blocking._idle[0][0],
        ]
        await runner.aclose()
        blocking.close()

    async def test_a_closed_runner_still_works_but_keeps_nothing(self, real_server):
        """A thread that sends while the flow is closed must not fail for that."""
        runner, blocking = real_server.async_runner(), real_server.runner()
        await runner.aclose()
        blocking.close()

        assert b"x" == await runner.send(echo("x"))
        assert b"x" == blocking.send(echo("x"))
        assert [] == runner._idle + blocking._idle

    async def test_a_subscription_survives_its_connection(self, real_server):
        """None says: look yourself; after that, messages are heard again."""
        runner, blocking = real_server.async_runner(), real_server.runner()
        with real_server.sync_client() as client:
            async with runner.subscribe("news") as news:
                client.client_kill_filter(_type="pubsub")
                assert await news.next(LATE) is None
                assert await news.next(LATE) is None

                client.publish("news", "a")

                assert b"a" == await news.next(LATE)
            with blocking.subscribe("news") as news:
                client.client_kill_filter(_type="pubsub")
                assert news.next(LATE) is None
                assert news.next(LATE) is None

                client.publish("news", "b")

                assert b"b" == news.next(LATE)
        blocking.close()

    async def test_a_subscription_takes_its_connection_with_it(self, real_server):
        """Whoever waits for a thousand results leaves no thousand connections."""
        runner, blocking = real_server.async_runner(), real_server.runner()
        with real_server.sync_client() as client:
            async with runner.subscribe("news"):
                assert 1 == client.publish("news", "a")
            with blocking.subscribe("news"):
                pass
            until(lambda: client.publish("news", "a") == 0)

    def test_a_wait_does_not_occupy_the_connection_of_others(self, real_server):
        """A waiter in one thread's loop, a sender in another's."""
        runner = real_server.async_runner()
        blocking = real_server.runner()
        woken = []
        thread = threading.Thread(
            target=lambda: woken.append(asyncio.run(runner.wait_for("m", LATE)))
        )
        thread.start()
        while thread.is_alive():
            blocking.send(mark("m"))
        thread.join()

        assert [True] == woken
        blocking.close()


class TestPermissions:
    """What an operator must mend."""

    async def test_a_user_who_may_not_run_scripts_is_refused(self, real_server):
        """And is told which permission is missing."""
        with real_server.sync_client() as client:
            client.acl_setuser(
                "weak", enabled=True, passwords=["+pw"], categories=["+@all"],
                commands=["-evalsha"], keys=["*"], channels=["*"],
            )  # fmt: skip
            try:
                url = real_server._url.replace("://", "://weak:pw@", 1)
                server = RedisServer(url)
                with pytest.raises(ServerRefusedError, match="evalsha"):
                    async with aclosing(server.async_runner(patience=LATE)) as runner:
                        await runner.send(echo("x"))
                with pytest.raises(ServerRefusedError, match="evalsha"):
                    server.runner(patience=LATE).send(echo("x"))
            finally:
                client.acl_deluser("weak")

    async def test_a_user_who_may_not_listen_is_refused(self, real_server):
        """Waiting for a result would be polling without a word."""
        with real_server.sync_client() as client:
            client.acl_setuser(
                "deaf", enabled=True, passwords=["+pw"], categories=["+@all"],
                keys=["*"], reset_channels=True,
            )  # fmt: skip
            try:
                url = real_server._url.replace("://", "://deaf:pw@", 1)
                server = RedisServer(url)
                with pytest.raises(ServerRefusedError, match="SUBSCRIBE"):
                    async with (
                        aclosing(server.async_runner()) as runner,
                        runner.subscribe("news"),
                    ):
                        pass
                with (
                    pytest.raises(ServerRefusedError, match="SUBSCRIBE"),
                    server.runner().subscribe("news"),
                ):
                    pass
            finally:
                client.acl_deluser("deaf")

    async def test_a_wrong_password_is_refused_at_once(self, real_server):
        """No patience helps, and the password is not shown."""
        url = real_server._url.replace("://", "://default:s3cret@", 1)
        with real_server.sync_client() as client:
            client.acl_setuser("somebody", enabled=True, passwords=["+pw"])
            url = real_server._url.replace("://", "://somebody:s3cret@", 1)
            server = RedisServer(url)
            try:
                with pytest.raises(ServerRefusedError) as refused:
                    async with aclosing(server.async_runner(patience=LATE)) as runner:
                        await runner.send(echo("x"))
                with pytest.raises(ServerRefusedError):
                    server.runner(patience=LATE).send(echo("x"))
            finally:
                client.acl_deluser("somebody")

        assert "s3cret" not in str(refused.value)
        assert "s3cret" not in server.display


async def test_opening_the_embedded_server_does_not_block_the_loop(embedded_server):
    """It may take a second, and other tasks have work to do."""
    server = EmbeddedServer(embedded_server.url)
    runner = server.async_runner()
    beats = 0

    async def beat():
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(beat())

    assert b"x" == await runner.send(echo("x"))
    assert 3 < beats
    beating.cancel()
    await runner.aclose()
    server.close()
