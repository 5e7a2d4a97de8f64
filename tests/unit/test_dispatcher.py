"""The pump: late answers, and leases that nobody seems to run."""

import asyncio
import uuid
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from taskflow import Registry, TaskFlow, Worker
from taskflow._events import Events
from taskflow._protocol.claim import ClaimReply, LaneShare
from taskflow._protocol.keys import Keys
from taskflow._protocol.operation import Operation
from taskflow._protocol.record import Claim
from taskflow._worker import batches
from taskflow._worker.batches import ClaimSettings
from taskflow._worker.dispatcher import Dispatcher, DispatcherSettings
from taskflow._worker.leases import Leases
from taskflow._worker.outage import Outage
from taskflow.errors import ServerUnavailableError

NONCE = 3
"""Where the nonce stands among the arguments of the claim."""

BYTES = 11
"""Where the limit of bytes stands among them; the last task received follows."""

CLAIM = Claim("t1", "primary", 1, "1:w:0-1", b"{}", b"", 0, 0, 0, b"")
PAIR = (CLAIM.id, CLAIM.token)
OTHER = CLAIM._replace(id="t2")


async def test_a_claim_that_is_answered_late_is_asked_again_and_runs_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under the same name, so that the server gives the same tasks."""
    now = 0.0
    monkeypatch.setattr(batches, "time", SimpleNamespace(monotonic=lambda: now))
    registry, ran, nonces = Registry(), list[int](), list[Any]()

    @registry.task(name="count")
    async def count(number: int) -> None:
        ran.append(number)

    async with TaskFlow(f"memory://{uuid.uuid4().hex}", registry=registry) as flow:
        await flow.aenqueue_many([count.call(n) for n in range(3)])
        server = flow.connection.server
        make_runner = server.async_runner

        def late_runner() -> Any:
            runner = make_runner()
            send_all = runner.send_all

            async def send_late(operations: Sequence[Operation[Any]]) -> list[Any]:
                nonlocal now
                answers = await send_all(operations)
                claims = [each for each in operations if each.script.name == "claim"]
                nonces.extend(each.args[NONCE] for each in claims)
                now += 100.0 if len(nonces) == 1 else 0.0
                return answers

            monkeypatch.setattr(runner, "send_all", send_late)
            return runner

        monkeypatch.setattr(server, "async_runner", late_runner)
        await Worker(flow, concurrency=3).arun_until_idle()
        states = (await flow.queues.astatus()).states

    assert [0, 1, 2] == sorted(ran)
    assert nonces[0] == nonces[1] != nonces[2]
    assert 3 == states["COMPLETED"]


class StubExecutor:
    """Runs nothing, and keeps what it was given."""

    def __init__(self) -> None:
        self.started: list[Claim] = []
        self.has_begun = asyncio.Event()
        self.has_both = asyncio.Event()
        self.ready = 0
        self.can_prefetch = False

    @property
    def running(self) -> int:
        """Say how many were started."""
        return len(self.started)

    def start(self, claims: list[Claim]) -> None:
        """Keep *claims*."""
        self.started.extend(claims)
        if claims:
            self.has_begun.set()
        if len(self.started) == 2:
            self.has_both.set()

    def release_ready(self) -> list[Claim]:
        """Give up nothing: all that was given has begun."""
        return []


class StubRunner:
    """Answers one claim with one task when told to, and keeps what is settled.

    Attributes:
        loses: Of its answers to claims so many.
        cuts: Of what is settled so many calls.
        sizes: How much was settled at once, or was to be.
    """

    def __init__(self) -> None:
        self.loses = self.cuts = 0
        self.undeclared: tuple[str, ...] = ()
        self.sizes: list[int] = []
        self.claims: list[tuple[Any, Any]] = []
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.settled: list[str] = []
        self.was_settled = asyncio.Event()

    async def send_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Answer each of *operations*."""
        return [await self._answer_to(each) for each in operations]

    async def _answer_to(self, operation: Operation[Any]) -> Any:
        if operation.script.name == "settle":
            count = int(operation.args[2])
            self.sizes.append(count)
            if self.cuts:
                self.cuts -= 1
                return ServerUnavailableError("no reply")
            self.settled.append(str(operation.args[3]))
            self.was_settled.set()
            return ["OK"] * count
        nonce, slots = operation.args[NONCE : NONCE + 2]
        self.claims.append((nonce, slots))
        if nonce != self.claims[0][0]:
            return ClaimReply(0, 0, [], undeclared=self.undeclared)
        self.asked.set()
        await self.answer.wait()
        if self.loses:
            self.loses -= 1
            return ServerUnavailableError("no reply")
        return ClaimReply(0, 0, [CLAIM])


class ScriptedRunner(StubRunner):
    """Gives certain answers to claims, and then says that nothing waits.

    Args:
        answers: In their order.
    """

    def __init__(self, *answers: ClaimReply | ServerUnavailableError) -> None:
        super().__init__()
        self.asked_for: list[dict[str, Any]] = []
        self.is_used_up = asyncio.Event()
        self._answers = list(answers)

    async def _answer_to(self, operation: Operation[Any]) -> Any:
        if operation.script.name == "settle":
            return await super()._answer_to(operation)
        nonce, slots = operation.args[NONCE : NONCE + 2]
        most_bytes, after = operation.args[BYTES:]
        self.asked_for.append(
            {"nonce": nonce, "slots": slots, "bytes": most_bytes, "after": after}
        )
        self.asked.set()
        if self._answers:
            return self._answers.pop(0)
        self.is_used_up.set()
        return ClaimReply(0, 0, [])

    def told(self, name: str) -> list[Any]:
        """Give one argument of every claim."""
        return [each[name] for each in self.asked_for]


class Bench:
    """A pump between stubs."""

    def __init__(
        self,
        *,
        lease: float = 15.0,
        slots: int = 1,
        channels: int = 2,
        runner: StubRunner | None = None,
    ) -> None:
        self.runner, self.executor = runner or StubRunner(), StubExecutor()
        self.declared: list[tuple[str, ...]] = []
        self.has_declared = asyncio.Event()
        self.asked = 0
        self.leases, events = Leases(), Events()
        share = LaneShare(0.3, warning=1000, critical=5000, max_age_ms=1)
        settings = ClaimSettings(Keys(), "w", lease, share)
        sender: Any = self.runner
        executor: Any = self.executor
        self.dispatcher = Dispatcher(
            DispatcherSettings(settings, slots, lambda: 0, self.declare),
            sender,
            self.leases,
            Outage(events),
            events,
        )
        self.dispatcher.serve(executor)
        self._channels = [
            asyncio.create_task(self.dispatcher.run(n)) for n in range(channels)
        ]

    async def declare(self, names: Sequence[str]) -> None:
        """Take note of upstreams that are to be declared; fail at first."""
        self.declared.append(tuple(names))
        if len(self.declared) == 1:
            message = "no reply"
            raise ServerUnavailableError(message)
        self.runner.undeclared = ()
        self.asked = len(self.runner.claims)
        self.has_declared.set()

    async def close(self) -> None:
        """Stop the channels."""
        for each in self._channels:
            each.cancel()
        await asyncio.gather(*self._channels, return_exceptions=True)


async def test_a_task_that_runs_is_not_handed_back_as_a_stray() -> None:
    """The claim was answered just after the heartbeat had looked."""
    bench = Bench()
    async with asyncio.timeout(10):
        await bench.runner.asked.wait()
        bench.runner.answer.set()
        await bench.executor.has_begun.wait()

    assert [] == bench.leases.disown([PAIR])
    assert [CLAIM] == bench.executor.started
    await bench.close()


async def test_a_stray_that_is_being_handed_back_is_not_run() -> None:
    """However late its claim is answered; the heartbeat hands it back, not the loop."""
    bench = Bench()
    async with asyncio.timeout(10):
        await bench.runner.asked.wait()

        assert [PAIR] == bench.leases.disown([PAIR])

        bench.runner.answer.set()
        for _ in range(10):
            await asyncio.sleep(0)

    assert [] == bench.executor.started
    assert [] == bench.runner.settled
    assert [] == bench.leases.snapshot()
    await bench.close()


async def test_a_claim_whose_reply_is_lost_as_its_worker_stops_is_handed_back() -> None:
    """The worker asks once more for what it was given, and for nothing else."""
    bench = Bench()
    async with asyncio.timeout(10):
        await bench.runner.asked.wait()
        bench.dispatcher.stop_claiming()
        bench.runner.loses = 1
        bench.runner.answer.set()

        assert await bench.dispatcher.emptied(5.0)

    assert ["t1"] == bench.runner.settled
    assert [] == bench.executor.started
    (first, _), (second, slots) = bench.runner.claims
    assert (first, 0) == (second, slots)
    await bench.close()


async def test_a_server_that_is_gone_holds_a_stopping_worker_for_a_lease_at_most() -> (
    None
):
    """Then the leases of what it may have handed out have ended."""
    bench = Bench(lease=0.1)
    async with asyncio.timeout(10):
        await bench.runner.asked.wait()
        bench.dispatcher.stop_claiming()
        bench.runner.loses = 1_000
        bench.runner.answer.set()

        assert not await bench.dispatcher.emptied(0.01)
        assert await bench.dispatcher.emptied(5.0)

    assert [] == bench.runner.settled
    await bench.close()


async def test_trips_that_are_cut_get_smaller_and_then_larger_again() -> None:
    """What does not pass in the time of one reply would never pass."""
    bench = Bench()
    async with asyncio.timeout(10):
        await bench.runner.asked.wait()
        bench.runner.answer.set()
        await bench.executor.has_begun.wait()
        bench.dispatcher.stop_claiming()
        bench.executor.started.clear()
        bench.runner.cuts = 2
        bench.dispatcher.release([CLAIM] * 100, started=False)

        assert await bench.dispatcher.emptied(9.0)

    assert [100, 50, 25, 26, 27, 22] == bench.runner.sizes
    await bench.close()


async def test_after_a_claim_that_was_cut_the_next_one_asks_for_less() -> None:
    """The same is asked for the same tasks, until they came or were handed back."""
    bench = Bench(slots=20)
    bench.runner.loses = 2
    async with asyncio.timeout(10):
        await bench.runner.asked.wait()
        bench.runner.answer.set()
        await bench.executor.has_begun.wait()
        while len(bench.runner.claims) < 4:
            bench.dispatcher.poll_now()
            await asyncio.sleep(0.01)

    assert [20, 20, 20, 5] == [slots for _, slots in bench.runner.claims]
    await bench.close()


async def test_a_claim_that_timed_out_is_asked_again_for_fewer_bytes() -> None:
    """The same nonce answers the same tasks, and they would time out again."""
    lost = ServerUnavailableError("no reply")
    runner = ScriptedRunner(lost, lost, ClaimReply(0, 0, [CLAIM]))
    bench = Bench(slots=100, channels=1, runner=runner)
    async with asyncio.timeout(10):
        await bench.executor.has_begun.wait()

    mebibyte = 1 << 20
    assert [mebibyte, mebibyte // 2, mebibyte // 4] == runner.told("bytes")
    assert 1 == len(set(runner.told("nonce")))
    await bench.close()


async def test_the_rest_of_a_claim_that_came_in_part_is_fetched_at_once() -> None:
    """Under the same nonce, after the last task received, and nothing new with it."""
    runner = ScriptedRunner(
        ClaimReply(0, 0, [CLAIM], "claimed"), ClaimReply(0, 0, [OTHER])
    )
    bench = Bench(slots=5, channels=1, runner=runner)
    async with asyncio.timeout(10):
        await bench.executor.has_both.wait()
        bench.dispatcher.poll_now()
        await runner.is_used_up.wait()

    first, second, third = runner.told("nonce")
    assert (first, True) == (second, second != third)
    assert [5, 0, 3] == runner.told("slots")
    assert ["", "t1", ""] == runner.told("after")
    assert [CLAIM, OTHER] == bench.executor.started
    await bench.close()


async def test_a_worker_that_stops_hands_back_a_claim_that_comes_in_parts() -> None:
    """All parts: no task waits for the end of its lease."""
    lost = ServerUnavailableError("no reply")
    runner = ScriptedRunner(
        lost, ClaimReply(0, 0, [CLAIM], "claimed"), ClaimReply(0, 0, [OTHER])
    )
    bench = Bench(slots=2, channels=1, runner=runner)
    async with asyncio.timeout(10):
        await runner.asked.wait()
        bench.dispatcher.stop_claiming()

        assert await bench.dispatcher.emptied(5.0)

    assert (2, []) == (bench.dispatcher.released, bench.executor.started)
    assert [2, 0, 0] == runner.told("slots")
    await bench.close()


async def test_more_is_claimed_at_once_when_the_bytes_ended_a_claim() -> None:
    """The worker has free slots and knows of tasks: it waits for no wake-up."""
    runner = ScriptedRunner(
        ClaimReply(0, 0, [CLAIM], "waiting"), ClaimReply(0, 0, [OTHER])
    )
    bench = Bench(slots=5, channels=1, runner=runner)
    async with asyncio.timeout(10):
        await bench.executor.has_both.wait()

    assert [5, 4] == runner.told("slots")
    assert 2 == len(set(runner.told("nonce")))
    await bench.close()


async def test_claims_that_bytes_have_ended_let_the_limit_grow_again() -> None:
    """It shrank when a trip failed; one task a trip would keep it small for ever."""
    full = [ClaimReply(0, 0, [CLAIM._replace(id=str(n))], "waiting") for n in range(3)]
    runner = ScriptedRunner(ServerUnavailableError("no reply"), *full)
    bench = Bench(slots=100, channels=1, runner=runner)
    async with asyncio.timeout(10):
        await runner.is_used_up.wait()

    hundredth = (1 << 20) / 100
    assert [100, 50, 51, 52, 53] == [
        round(each / hundredth) for each in runner.told("bytes")
    ]
    await bench.close()


async def test_upstreams_without_rules_are_declared_and_asked_for_again() -> None:
    """At once, and again after the server did not answer."""
    bench = Bench(slots=2)
    bench.runner.undeclared = ("api", "maps")
    bench.runner.answer.set()
    async with asyncio.timeout(10):
        await bench.executor.has_begun.wait()
        bench.dispatcher.poll_now()
        await bench.has_declared.wait()
        while len(bench.runner.claims) == bench.asked:  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.01)

    assert {("api", "maps")} == set(bench.declared)
    assert len(bench.declared) >= 2
    await bench.close()
