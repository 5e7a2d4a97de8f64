"""What redis-py raises, and which of our errors stands for it."""

import inspect

import pytest
from redis import exceptions as foreign

from taskflow._servers.errors import FOREIGN, KINDS, departure, is_broken, translate
from taskflow.errors import (
    ScriptError,
    ServerFullError,
    ServerRefusedError,
    ServerUnavailableError,
)

CLASSES = sorted(
    {
        each.__name__: each
        for _, each in inspect.getmembers(foreign, inspect.isclass)
        if issubclass(each, Exception)
    }.items()
)


@pytest.mark.parametrize("name", [name for name, _ in CLASSES])
def test_every_class_of_the_client_has_its_row(name):
    """A release of redis-py that adds a class asks for a decision here."""
    assert name in KINDS


@pytest.mark.parametrize(
    "kind", [kind for _, kind in CLASSES if issubclass(kind, foreign.RedisError)]
)
def test_everything_the_client_raises_is_caught_at_the_door(kind):
    """The runners catch `FOREIGN`; nothing of redis-py gets past them."""
    assert issubclass(kind, FOREIGN)


UNAVAILABLE = [
    foreign.ConnectionError("Error 111 connecting to localhost:6379."),
    foreign.TimeoutError("Timeout reading from localhost:6379"),
    foreign.BusyLoadingError("Redis is loading the dataset in memory"),
    foreign.ReadOnlyError("You can't write against a read only replica."),
    foreign.MasterDownError("Link with MASTER is down"),
    foreign.ClusterDownError("The cluster is down"),
    foreign.TryAgainError("Multiple keys request during rehashing of slot"),
    foreign.MaxConnectionsError("Too many connections"),
    foreign.ConnectionError("max number of clients reached"),
    foreign.InvalidResponse("Protocol error"),
    foreign.NoScriptError("No matching script. Please use EVAL."),
    foreign.ResponseError("MISCONF Errors writing to the AOF file: No space left"),
    foreign.ResponseError("NOREPLICAS Not enough good replicas to write."),
    foreign.ResponseError("BUSY Redis is busy running a script."),
    foreign.ResponseError("UNBLOCKED force unblock from blocking operation"),
    foreign.ResponseError(
        "Error running script (call to f_x): @user_script:4: @user_script: 4: "
        "-MISCONF Errors writing to the AOF file"
    ),
    ConnectionResetError(104, "Connection reset by peer"),
    TimeoutError(),
    OSError(24, "Too many open files"),
]
FULL = [
    foreign.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    foreign.ResponseError(
        "Error running script (call to f_x): @user_script:4: @user_script: 4: "
        "-OOM command not allowed when used memory > 'maxmemory'."
    ),
]
REFUSED = [
    foreign.AuthenticationError("invalid username-password pair"),
    foreign.AuthenticationError("Authentication required."),
    foreign.NoPermissionError("User x has no permissions to run the 'evalsha' command"),
    foreign.ResponseError("unknown command 'EVALSHA', with args beginning with: "),
    foreign.ResponseError("Unknown Redis command called from script script: x"),
    foreign.ResponseError(
        "The user executing the script can't run this command or subcommand script"
    ),
    foreign.ResponseError("DB index is out of range"),
    foreign.ResponseError("DENIED Redis is running in protected mode"),
    foreign.MovedError("3999 127.0.0.1:6381"),
    foreign.ConnectionError(
        "Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] self-signed"
    ),
]
SCRIPT = [
    foreign.ResponseError("WRONGTYPE Operation against a key holding the wrong kind"),
    foreign.ResponseError("Error compiling script (new function): user_script:1: x"),
    foreign.ResponseError("BUSYKEY Target key name already exists."),
    foreign.DataError("Invalid input of type: 'NoneType'."),
]
ROWS = [
    *((error, ServerUnavailableError) for error in UNAVAILABLE),
    *((error, ServerFullError) for error in FULL),
    *((error, ServerRefusedError) for error in REFUSED),
    *((error, ScriptError) for error in SCRIPT),
]


@pytest.mark.parametrize(("error", "kind"), ROWS, ids=lambda each: str(each)[:40])
def test_an_error_becomes_the_kind_that_says_what_to_do(error, kind):
    """Wait, make room, mend the setting, or read the script."""
    ours = translate(error, "claim")

    assert kind is type(ours)
    assert error is ours.__cause__


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (foreign.AuthenticationError("Authentication required."), ":PASSWORD@HOST"),
        (
            foreign.AuthenticationError("invalid username-password pair"),
            "check the user",
        ),
        (foreign.AuthenticationError("invalid password"), "check the user"),
        (
            foreign.ResponseError("WRONGPASS invalid username-password"),
            "check the user",
        ),
        (foreign.ResponseError("DB index is out of range"), "too high"),
        (
            foreign.AuthenticationError(
                "AUTH <password> called without any password configured for the "
                "default user. Are you sure your configuration is correct?"
            ),
            "leave it out",
        ),
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_refusal_says_the_way_out(error, way_out):
    """The server says what is wrong, and not where it is put right."""
    told = str(translate(error, "claim"))

    assert way_out in told
    assert told.startswith("the server refused the connection: ")
    assert ".;" not in told


def test_an_error_of_ours_stays_as_it_is():
    """Starting the embedded server may fail where a reply is expected."""
    ours = ServerUnavailableError("no")

    assert ours is translate(ours, "claim")


def test_an_error_without_a_text_is_shown_by_its_class():
    """A message that ends in a colon helps nobody."""
    told = str(translate(TimeoutError(), "claim"))

    assert "the server gave no answer: TimeoutError" == told


def test_a_late_reply_does_not_blame_the_connection():
    """A new connection is tried at once after a broken one, not after a slow one."""
    errors = [
        foreign.ConnectionError("closed"),
        OSError("reset"),
        foreign.TimeoutError("late"),
        TimeoutError(),
        foreign.AuthenticationError("no"),
        foreign.ResponseError("WRONGTYPE"),
    ]

    assert [True, True, False, False, False, False] == list(map(is_broken, errors))


@pytest.mark.parametrize(
    "news",
    [
        foreign.ReadOnlyError("You can't write against a read only replica."),
        foreign.MovedError("3999 127.0.0.1:6381"),
        foreign.AskError("3998 127.0.0.1:6381"),
        foreign.ClusterDownError("The cluster is down"),
        foreign.MasterDownError("Link with MASTER is down"),
        foreign.ResponseError("UNBLOCKED force unblock from blocking operation"),
        foreign.ResponseError(
            "Error running script (call to f_x): @user_script:4: -READONLY You can't"
        ),
        foreign.ResponseError(
            "Script attempted to access a non local key in a cluster node script: x"
        ),
    ],
    ids=lambda each: str(each)[:40],
)
def test_a_server_that_is_not_in_charge_any_more_says_so_in_many_ways(news):
    """Where the server may be elsewhere, each is a reason to ask and to send again."""
    error = departure([1, news, b"x"])

    assert is_broken(error)
    assert str(news) in str(error)


def test_what_a_server_in_charge_says_is_no_such_news():
    """Neither a value that reads like it, nor another error."""
    others = [b"MOVED 1 h:1", foreign.ResponseError("WRONGTYPE no"), None, 1]

    assert departure(others) is None
