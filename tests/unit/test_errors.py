"""Errors carry facts and a sentence made of them; signals carry a request."""

import copy
import inspect
import pickle
from datetime import timedelta

import pytest

from taskflow import errors
from taskflow.errors import (
    Cancel,
    CircuitBreakerError,
    ConfigurationError,
    DeadLetter,
    IllegalMoveError,
    KeyConflictError,
    LeaseLostError,
    NotReplicatedError,
    PayloadError,
    PluginError,
    RegistryError,
    ResultTimeoutError,
    Retry,
    ScheduleNotFoundError,
    ScriptError,
    ServerFullError,
    ServerRefusedError,
    ServerUnavailableError,
    Snooze,
    TaskFailedError,
    TaskNameTakenError,
    TaskNotFoundError,
    UnknownTaskError,
    UpstreamNotFoundError,
)

MADE: list[tuple[Exception, str, dict[str, object]]] = [
    (
        ConfigurationError("REDIS_URL: no such scheme 'ftp'"),
        "REDIS_URL: no such scheme 'ftp'",
        {"problems": ("REDIS_URL: no such scheme 'ftp'",)},
    ),
    (
        ConfigurationError(["a is wrong", "b too"]),
        "2 problems:\n  - a is wrong\n  - b too",
        {"problems": ("a is wrong", "b too")},
    ),
    (RegistryError("no"), "no", {}),
    (
        TaskNameTakenError("mail", "a.mail", "b.mail"),
        "the task name 'mail' is taken by a.mail; b.mail needs another: @task(name=...)",
        {"name": "mail", "first": "a.mail", "second": "b.mail"},
    ),
    (
        UnknownTaskError("mail.send", ["mail.welcome", "mail.bye"]),
        "unknown task 'mail.send'; registered here: 'mail.bye', 'mail.welcome'",
        {"name": "mail.send", "known": ("mail.bye", "mail.welcome")},
    ),
    (
        UnknownTaskError("mail.send", []),
        "unknown task 'mail.send'; registered here: none",
        {"name": "mail.send", "known": ()},
    ),
    (
        PluginError("summarize", "no module named 'httpx'"),
        "plugin 'summarize' failed to load: no module named 'httpx'",
        {"entry_point": "summarize", "reason": "no module named 'httpx'"},
    ),
    (
        PayloadError("Expected int, got str", path="$.x"),
        "Expected int, got str - at $.x",
        {"message": "Expected int, got str", "path": "$.x", "task": None},
    ),
    (
        PayloadError("Expected int, got str", path="$.x", task="add"),
        "task 'add': Expected int, got str - at $.x",
        {"message": "Expected int, got str", "path": "$.x", "task": "add"},
    ),
    (
        KeyConflictError("order-7", "0190"),
        "key 'order-7' is held by task '0190' with other arguments; nothing was stored",
        {"key": "order-7", "task_id": "0190", "requeued": ""},
    ),
    (
        KeyConflictError("f:order-7", "0190", "0180"),
        (
            "task '0180' was not requeued: task '0190' has taken its key 'f:order-7'; "
            "delete that task first, or discard this one"
        ),
        {"key": "f:order-7", "task_id": "0190", "requeued": "0180"},
    ),
    (ServerUnavailableError("no answer"), "no answer", {}),
    (ServerFullError("out of memory"), "out of memory", {}),
    (
        NotReplicatedError(0, 1, ("0190",)),
        (
            "stored, and 0 of 1 replicas confirmed it in time: a failover now could "
            "lose it. The task will run; with its key it may be enqueued again, and "
            "is confirmed then"
        ),
        {"confirmed": 0, "wanted": 1, "task_ids": ("0190",)},
    ),
    (ServerRefusedError("wrong password"), "wrong password", {}),
    (
        ScriptError("claim", "stack overflow"),
        "script 'claim': stack overflow",
        {"script": "claim", "answer": "stack overflow"},
    ),
    (
        ScheduleNotFoundError("nightly"),
        "there is no schedule 'nightly'; a worker that serves it makes it known",
        {"name": "nightly"},
    ),
    (TaskNotFoundError("0190"), "there is no task '0190'", {"task_id": "0190"}),
    (
        IllegalMoveError("0190", "COMPLETED", "cancel", to_state="CANCELLED"),
        "task '0190' is COMPLETED: cannot cancel it",
        {
            "task_id": "0190",
            "from_state": "COMPLETED",
            "move": "cancel",
            "to_state": "CANCELLED",
        },
    ),
    (
        LeaseLostError("0190"),
        "the lease on task '0190' is lost",
        {"task_id": "0190"},
    ),
    (
        UpstreamNotFoundError("openruoter"),
        "there is no upstream 'openruoter'; a worker that serves it makes it known",
        {"name": "openruoter"},
    ),
    (
        CircuitBreakerError("openrouter", 12.5),
        "upstream 'openrouter' is not called for 12.5 s more",
        {"name": "openrouter", "retry_after": 12.5, "reason": ""},
    ),
    (
        TaskFailedError("0190", "DLQ", "ValueError", "no", 3),
        "task '0190' is DLQ after 3 failed attempts: ValueError: no",
        {
            "task_id": "0190",
            "state": "DLQ",
            "error_type": "ValueError",
            "message": "no",
            "attempts": 3,
        },
    ),
    (
        ResultTimeoutError("0190", 2.0),
        "task '0190' has not ended within 2 s",
        {"task_id": "0190", "timeout": 2.0},
    ),
    (
        Retry(),
        "the task asked to be retried",
        {"delay": None, "reason": "", "max_retries": None},
    ),
    (
        Retry(3, "later", max_retries=9),
        "later",
        {"delay": 3.0, "reason": "later", "max_retries": 9},
    ),
    (Snooze(60), "the task asked to be run later", {"seconds": 60.0, "reason": ""}),
    (DeadLetter("hopeless"), "hopeless", {"reason": "hopeless"}),
    (Cancel(), "the task cancelled itself", {"reason": ""}),
]


def facts(error: Exception) -> dict[str, object]:
    """Return the public attributes of *error*."""
    return {
        name: value for name, value in vars(error).items() if not name.startswith("_")
    }


IDS = [f"{type(error).__name__}-{number}" for number, (error, *_) in enumerate(MADE)]


@pytest.mark.parametrize(("error", "sentence", "carried"), MADE, ids=IDS)
def test_an_error_says_its_facts_in_one_sentence_and_carries_them(
    error: Exception, sentence: str, carried: dict[str, object]
) -> None:
    """Nobody has to parse a message."""
    assert (sentence, carried) == (str(error), facts(error))


@pytest.mark.parametrize(("error", "sentence", "carried"), MADE, ids=IDS)
def test_an_error_survives_pickle_and_copy(
    error: Exception, sentence: str, carried: dict[str, object]
) -> None:
    """It crosses a process pool whole, and does not break it."""
    twins = [pickle.loads(pickle.dumps(error)), copy.copy(error)]  # noqa: S301

    assert [(type(error), sentence, carried)] * 2 == [
        (type(twin), str(twin), facts(twin)) for twin in twins
    ]


def test_every_class_that_is_raised_has_a_case_above() -> None:
    """A new error gets its sentence checked; bases are not raised themselves."""
    classes = {
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.TaskFlowError | errors.TaskSignal)
    }
    bases = {cls.__base__ for cls in classes}

    assert classes - bases | {RegistryError} == {type(case[0]) for case in MADE}


def test_an_unknown_task_is_answered_with_a_bounded_list_of_names() -> None:
    """A registry of thousands does not fill the log."""
    error = UnknownTaskError("x", [f"t{number:03}" for number in range(500)])

    assert " and 480 more" == str(error)[-13:]


def test_a_payload_error_takes_on_the_name_of_its_task() -> None:
    """What is found deep inside is reported with the task in front."""
    error = PayloadError("Expected int, got str", path="$.x").of_task("add", "result")

    assert "task 'add': result: Expected int, got str - at $.x" == str(error)
    assert ("$.x", "add") == (error.path, error.task)


def test_a_payload_error_is_moved_below_the_place_of_its_value() -> None:
    """A part that was checked alone is reported where it stands in the whole."""
    error = PayloadError("Expected int, got str", path="$[0].x").below("$.rows")

    assert "$.rows[0].x" == error.path


def test_a_result_that_is_late_is_a_timeout_error_too() -> None:
    """``except TimeoutError`` works as for everything else that waits."""
    assert issubclass(ResultTimeoutError, TimeoutError)


def test_a_timedelta_is_taken_where_seconds_are() -> None:
    """Signals keep seconds, whatever they were given."""
    assert (90.0, 3600.0) == (
        Retry(timedelta(minutes=1.5)).delay,
        Snooze(timedelta(hours=1)).seconds,
    )


@pytest.mark.parametrize(
    "wrong", [-1, float("nan"), float("inf"), timedelta(seconds=-1), 10**12]
)
def test_an_impossible_wait_is_refused_in_the_body_that_asks_for_it(
    wrong: float | timedelta,
) -> None:
    """The traceback shows the line, instead of a worker that cannot store it."""
    with pytest.raises(ValueError, match="delay must be seconds, 0"):
        Retry(wrong)
    with pytest.raises(ValueError, match="seconds must be seconds, 0"):
        Snooze(wrong)


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "3"])
def test_an_impossible_number_of_retries_is_refused_likewise(wrong: object) -> None:
    """It is a whole number from 0."""
    with pytest.raises(ValueError, match="max_retries must be a whole number"):
        Retry(max_retries=wrong)  # type: ignore[arg-type]
