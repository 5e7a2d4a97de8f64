"""What judges the chaos tests finds what there should not be."""

from pathlib import Path

import pytest

from tests.support.aof import commands, moves
from tests.support.process_monitor import (
    Life,
    LostLease,
    reason_missing,
    total,
    worker_of,
)

WORKER, CHILD, OTHER = 10, 11, 12


def handed_out(delivery: int) -> list[bytes]:
    """Give the command that a claim writes."""
    token = b"%d:host-10-0123abcd:0-1" % delivery
    return [b"HSET", b"task:a", b"state", b"ACTIVE", b"token", token]


def becomes(state: bytes, *facts: bytes) -> list[bytes]:
    """Give the command that another move writes."""
    return [b"HSET", b"task:a", b"state", state, *facts]


RETURNED = becomes(b"COMPLETED", b"finished_ms", b"9", b"result", b"1")


def test_a_hand_out_with_one_end_is_well() -> None:
    """It is counted; what other keys hold is not looked at."""
    found = moves(
        [
            *(becomes(b"PENDING"), [b"HSET", b"worker:w", b"state", b"odd"]),
            *(handed_out(1), becomes(b"PENDING"), [b"ZADD", b"tasks:active", b"1"]),
            *(handed_out(2), becomes(b"COMPLETED", b"result", b"2")),
            *([b"UNLINK", b"task:a"], becomes(b"SCHEDULED")),
        ]
    )

    assert [] == found.wrong
    assert (2, {"PENDING": 1, "COMPLETED": 1}) == (found.handed_out, found.settled)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param([handed_out(1), RETURNED, RETURNED], id="settled twice"),
        pytest.param(
            [handed_out(1), RETURNED, becomes(b"SCHEDULED")], id="then retried"
        ),
        pytest.param([handed_out(1), becomes(b"DLQ"), RETURNED], id="then completed"),
        pytest.param(
            [handed_out(1), becomes(b"PENDING"), RETURNED], id="settled after its lease"
        ),
        pytest.param(
            [handed_out(1), becomes(b"PENDING"), handed_out(2), RETURNED],
            id="settled by the run before",
        ),
        pytest.param([handed_out(1), handed_out(2)], id="handed to two"),
        pytest.param(
            [handed_out(1), becomes(b"PENDING"), handed_out(1)], id="one number twice"
        ),
        pytest.param([RETURNED], id="never handed out"),
    ],
)
def test_a_second_end_of_a_hand_out_is_found(written: list[list[bytes]]) -> None:
    """Whoever wrote it, and whatever the workers heard."""
    assert 1 == len(moves([becomes(b"PENDING"), *written]).wrong)


def test_a_file_is_read_to_its_last_whole_command(tmp_path: Path) -> None:
    """File after file, by their numbers."""
    for number, text in enumerate(("a\r\nb", "c", "d")):
        whole = f"*2\r\n$4\r\nECHO\r\n${len(text)}\r\n{text}\r\n".encode()
        data = whole[:-3] if text == "d" else b"#TS:1\r\n" + whole
        (tmp_path / f"appendonly.aof.{9 + number}.incr.aof").write_bytes(data)

    assert [[b"ECHO", b"a\r\nb"], [b"ECHO", b"c"]] == list(commands(tmp_path))


def lost(**facts: object) -> LostLease:
    """Give a lease of 3 s that was handed out at 100 and taken back at 104."""
    return LostLease(
        **{"after": 100.0, "at": 104.0, "worker": WORKER, "heard": False} | facts
    )


def worker(**facts: object) -> dict[int, Life]:
    """Give what was seen of a worker and of two processes of its pool."""
    return {
        WORKER: Life(0, 3.0, **facts),
        CHILD: Life(WORKER, 3.0),
        OTHER: Life(WORKER, 3.0),
    }


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"ended": 101.0}, id="dead"),
        pytest.param({"ended": 90.0}, id="dead before it was answered"),
        pytest.param({"away": [(101.0, 104.5)]}, id="stopped"),
        pytest.param({"away": [(99.0, 101.0), (102.0, 103.0)]}, id="now and then"),
    ],
)
def test_a_worker_that_was_away_has_lost_its_leases(facts: dict[str, object]) -> None:
    """Whether the body had begun by then or not."""
    for body in (WORKER, None):
        assert reason_missing(lost(body=body), worker(**facts)) is None


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "lived"),
        ({"ended": 104.5}, "lived"),
        ({"away": [(90.0, 99.0), (104.0, 110.0)]}, "lived"),
        ({"away": [(103.0, 103.5)]}, "away for 0.50 s"),
        ({"ended": 103.5}, "away for 0.50 s"),
    ],
)
def test_a_lease_of_a_living_worker_is_not_lost_for_a_reason(
    facts: dict[str, object], says: str
) -> None:
    """Who dies after it, or was away too short a time, is no reason either."""
    assert says in (reason_missing(lost(), worker(**facts)) or "")


def test_an_outage_is_no_reason_by_itself() -> None:
    """But a worker that is away before it, or after it, is away for longer."""
    outages = [(101.0, 103.0)]

    assert "lived" in (reason_missing(lost(), worker(), outages) or "")
    near = worker(away=[(103.0, 103.5)])
    assert reason_missing(lost(), near, outages) is None
    near = worker(away=[(103.0, 103.5)], hindered=outages)
    assert reason_missing(lost(), near) is None
    assert "lived" in (reason_missing(lost(), worker(hindered=outages)) or "")


def test_a_crash_that_a_worker_tells_of_needs_a_dead_process() -> None:
    """The one in which the body ran, where it had begun."""
    lives = worker()
    assert "had died" in (reason_missing(lost(heard=True), lives) or "")
    lives[OTHER].ended = 102.0
    assert reason_missing(lost(heard=True), lives) is None
    assert "11, in which it ran" in (
        reason_missing(lost(heard=True, body=CHILD), lives) or ""
    )
    lives[CHILD].ended = 104.1  # was seen a little later
    assert reason_missing(lost(heard=True, body=CHILD), lives) is None


def test_a_worker_that_nobody_saw_is_no_reason() -> None:
    """There is none with such a process."""
    assert "nobody" in (reason_missing(lost(), {}) or "")


def test_absences_are_added_up_once_where_they_overlap() -> None:
    """And only as far as they lie within."""
    spans = [(2.0, 4.0), (1.0, 3.0), (0.0, 0.5), (9.0, float("inf"))]

    assert 4.5 == total(spans, (0.0, 10.0))
    assert 0.0 == total(spans, (5.0, 8.0))


def test_the_process_of_a_worker_is_part_of_its_id() -> None:
    """Whatever its host is called."""
    assert 4711 == worker_of("host-12-3.example-4711-0123abcd")
