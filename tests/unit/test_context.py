"""What a body can learn and report; nothing it reports can harm the settling."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from taskflow import Context
from taskflow.errors import PayloadError


class Notes:
    """A port that writes down what it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Any]] = []

    def progress(self, text: bytes) -> None:
        """Write it down."""
        self.taken.append(("progress", text))

    def usage(self, amounts: dict[str, float]) -> None:
        """Write it down."""
        self.taken.append(("usage", amounts))

    def annotate(self, facts: dict[str, str]) -> None:
        """Write it down."""
        self.taken.append(("annotate", facts))

    def emit(self, chunk: str) -> None:
        """Write it down."""
        self.taken.append(("emit", chunk))

    def save(self, checkpoint: bytes) -> None:
        """Write it down."""
        self.taken.append(("save", checkpoint))

    async def flush(self, checkpoint: bytes = b"") -> None:
        """Write it down."""
        self.taken.append(("flush", checkpoint))


def context_of(port: Notes, **facts: Any) -> Context:
    """Make the context of a task called ``job``."""
    return Context(id="0190", name="job", port=port, **facts)


def test_a_context_tells_what_the_worker_knows() -> None:
    """All of it, as it is."""
    deadline = datetime(2026, 1, 2, tzinfo=UTC)
    context = context_of(
        Notes(),
        attempt=2,
        max_retries=5,
        deliveries=7,
        deadline=deadline,
        checkpoint={"page": 3},
    )

    assert ("0190", "job", 2, 5, 7, deadline, {"page": 3}, False) == (
        context.id,
        context.name,
        context.attempt,
        context.max_retries,
        context.deliveries,
        context.deadline,
        context.checkpoint,
        context.cancelled,
    )


def test_a_context_without_worker_is_a_first_attempt() -> None:
    """As for a body that is called in place."""
    context = Context(id="", name="job")

    assert (1, 0, 1, None, None) == (
        context.attempt,
        context.max_retries,
        context.deliveries,
        context.deadline,
        context.checkpoint,
    )


def test_a_body_sees_that_it_shall_stop() -> None:
    """From the moment the worker says so."""
    context = context_of(Notes())
    before = context.cancelled
    context.mark_cancelled()

    assert (False, True) == (before, context.cancelled)


def test_reports_reach_the_port_as_small_values() -> None:
    """In their order; JSON where the store keeps JSON."""
    port = Notes()
    context = context_of(port)
    context.progress(1)
    context.progress(2, 3.5, "halfway")
    context.emit("Once ")
    context.emit("")
    context.usage(tokens=3, cost=0.25)
    context.annotate(model="m", scores=[1, None])

    assert [
        ("progress", b'{"done":1,"message":""}'),
        ("progress", b'{"done":2,"message":"halfway","total":3.5}'),
        ("emit", "Once "),
        ("emit", ""),
        ("usage", {"tokens": 3.0, "cost": 0.25}),
        ("annotate", {"model": '"m"', "scores": "[1,null]"}),
    ] == port.taken


def test_a_checkpoint_is_what_the_next_attempt_will_find() -> None:
    """A copy, as it comes back from JSON."""
    port = Notes()
    context = context_of(port)
    pages = [1, 2]
    context.save({"pages": pages})
    pages.append(3)

    assert {"pages": [1, 2]} == context.checkpoint
    assert [("save", b'{"pages":[1,2]}')] == port.taken


async def test_a_coroutine_saves_through_the_loop() -> None:
    """The port's flush takes the checkpoint along."""
    port = Notes()
    context = context_of(port)
    await context.asave(None)

    assert ([("flush", b"null")], None) == (port.taken, context.checkpoint)


NAN = float("nan")


@pytest.mark.parametrize(
    ("report", "told"),
    [
        pytest.param(lambda c: c.progress(NAN), "at $.done", id="progress-nan"),
        pytest.param(
            lambda c: c.progress(1, message="x" * 65_536),
            "at most 65536 are stored",
            id="progress-large",
        ),
        pytest.param(lambda c: c.emit("x" * 65_535), "65537 bytes", id="emit-large"),
        pytest.param(lambda c: c.emit("\ud800"), "lone surrogate", id="emit-surrogate"),
        pytest.param(
            lambda c: c.usage(tokens=NAN),
            "an amount must be a finite number, got nan - at $.tokens",
            id="usage-nan",
        ),
        pytest.param(
            lambda c: c.usage(cost="free"),
            "must be a finite number, got 'free' - at $.cost",
            id="usage-text",
        ),
        pytest.param(
            lambda c: c.usage(**{"\ud800": 1}), "lone surrogate", id="usage-name"
        ),
        pytest.param(
            lambda c: c.annotate(a={"b": (1,)}),
            "would come back as list [1], was tuple (1,) - at $.a.b",
            id="annotate-tuple",
        ),
        pytest.param(
            lambda c: c.annotate(a="x" * 70_000), "70002 bytes", id="annotate-large"
        ),
        pytest.param(
            lambda c: c.annotate(**{"\ud800": 1}), "lone surrogate", id="annotate-name"
        ),
        pytest.param(
            lambda c: c.save({1: 2}),
            "the key would come back as str '1', was int 1",
            id="save-key",
        ),
        pytest.param(lambda c: c.save(object()), "cannot be stored", id="save-object"),
        pytest.param(
            lambda c: c.save("x" * 1_048_576),
            "1048578 bytes of JSON, at most 1048576 are stored",
            id="save-large",
        ),
    ],
)
def test_a_report_that_could_not_be_stored_is_refused_in_the_body(
    report: Any, told: str
) -> None:
    """The port never sees it, so it cannot fail when the task is settled."""
    port = Notes()
    context = context_of(port, checkpoint="before")

    with pytest.raises(PayloadError) as caught:
        report(context)

    assert told in str(caught.value)
    assert ([], "before") == (port.taken, context.checkpoint)


async def test_a_checkpoint_of_a_coroutine_is_checked_too() -> None:
    """As one of a function is."""
    port = Notes()

    with pytest.raises(PayloadError, match="was tuple"):
        await context_of(port).asave((1,))

    assert [] == port.taken


def test_every_line_names_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """And keeps what the body adds itself."""
    context = context_of(Notes(), attempt=2)
    with caplog.at_level(logging.INFO, logger="taskflow.task"):
        context.log.info("page %d", 3, extra={"facts": {"page": 3}, "other": 1})

    record: Any = caplog.records[0]

    assert ("taskflow.task", "page 3", 1) == (
        record.name,
        record.getMessage(),
        record.other,
    )
    assert {"id": "0190", "name": "job", "attempt": 2, "page": 3} == record.facts
