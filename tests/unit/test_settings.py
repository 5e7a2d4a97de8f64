"""Settings: defaults, names, bounds, and what happens to a wrong value."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from taskflow._protocol.keys import Keys
from taskflow._settings import (
    LogSettings,
    QueueSettings,
    RedisSettings,
    Settings,
    UpstreamSettings,
    WorkerSettings,
    load_settings,
    mask_url,
    read_duration,
)
from taskflow.errors import ConfigurationError

DURATION = "a duration such as 30, 30s, 5m, 2h or 500ms"


def problems_of(environ: dict[str, str], dotenv: Path | None = None) -> list[str]:
    """Return the lines of the error that loading *environ* raises."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ, dotenv=dotenv)
    return list(caught.value.problems)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """With nothing set, every default is the one the design names."""
    expected = Settings(
        redis=RedisSettings(url=None, prefix=""),
        queue=QueueSettings(
            default_retry_ratio=0.30,
            retry_queue_warning=1000,
            retry_queue_critical=5000,
            max_task_age=7200.0,
            max_retries=3,
            result_ttl=604_800.0,
            max_payload_bytes=1_048_576,
        ),
        worker=WorkerSettings(
            concurrency=10,
            processes=1,
            time_limit=900.0,
            soft_time_limit=600.0,
            stop_grace_period=30.0,
            lease=15.0,
            max_crashes=3,
            executor="asyncio",
            prefetch_multiplier=1,
            max_tasks_per_child=0,
            max_memory_per_child=0,
            app=None,
            health_dir=None,
        ),
        upstream=UpstreamSettings(failure_rate=0.5, min_calls=10, reset_timeout=60.0),
        log=LogSettings(level="INFO", format="text"),
    )

    assert expected == load_settings({})


ALL_VARIABLES = {
    "REDIS_URL": ("redis", "url", "redis://db:6380/1", "redis://db:6380/1"),
    "REDIS_TLS_URL": ("redis", "url", "rediss://db:6380/1", "rediss://db:6380/1"),
    "TASKFLOW_PREFIX": ("redis", "prefix", "{shop}:", "{shop}:"),
    "TASKFLOW_DURABILITY": ("redis", "durability", "replica", "replica"),
    "DEFAULT_RETRY_RATIO": ("queue", "default_retry_ratio", "0.5", 0.5),
    "RETRY_QUEUE_WARNING": ("queue", "retry_queue_warning", "200", 200),
    "RETRY_QUEUE_CRITICAL": ("queue", "retry_queue_critical", "9000", 9000),
    "MAX_TASK_AGE": ("queue", "max_task_age", "1h", 3600.0),
    "MAX_RETRIES": ("queue", "max_retries", "0", 0),
    "RESULT_TTL": ("queue", "result_ttl", "0", 0.0),
    "TASKFLOW_MAX_PAYLOAD_BYTES": ("queue", "max_payload_bytes", "2048", 2048),
    "CELERY_WORKER_CONCURRENCY": ("worker", "concurrency", "4", 4),
    "WORKER_CONCURRENCY": ("worker", "concurrency", "5", 5),
    "TASKFLOW_PROCESSES": ("worker", "processes", "2", 2),
    "CELERY_TASK_TIME_LIMIT": ("worker", "time_limit", "20m", 1200.0),
    "CELERY_TASK_SOFT_TIME_LIMIT": ("worker", "soft_time_limit", "300", 300.0),
    "WORKER_STOP_GRACE_PERIOD": ("worker", "stop_grace_period", "1m30s", 90.0),
    "TASKFLOW_LEASE": ("worker", "lease", "500ms", 0.5),
    "TASKFLOW_MAX_CRASHES": ("worker", "max_crashes", "5", 5),
    "TASKFLOW_EXECUTOR": ("worker", "executor", "celery", "celery"),
    "WORKER_PREFETCH_MULTIPLIER": ("worker", "prefetch_multiplier", "4", 4),
    "WORKER_MAX_TASKS_PER_CHILD": ("worker", "max_tasks_per_child", "1000", 1000),
    "WORKER_MAX_MEMORY_PER_CHILD": ("worker", "max_memory_per_child", "200000", 200000),
    "TASKFLOW_APP": ("worker", "app", "shop.tasks:flow", "shop.tasks:flow"),
    "TASKFLOW_HEALTH_DIR": ("worker", "health_dir", "/run/tf", "/run/tf"),
    "CIRCUIT_FAILURE_THRESHOLD": ("upstream", "failure_rate", "0.25", 0.25),
    "CIRCUIT_VOLUME_THRESHOLD": ("upstream", "min_calls", "20", 20),
    "CIRCUIT_TIMEOUT": ("upstream", "reset_timeout", "2m", 120.0),
    "LOG_LEVEL": ("log", "level", "warning", "WARNING"),
    "TASKFLOW_LOG_FORMAT": ("log", "format", "json", "json"),
}


def test_every_setting_is_set_by_a_variable_of_this_table() -> None:
    """The table below is complete: a new setting must be tested as well."""
    declared = {
        variable
        for part in attrs.fields(Settings)
        for attribute in attrs.fields(part.type)
        for variable in attribute.metadata["variables"]
    }

    assert declared == set(ALL_VARIABLES)


@pytest.mark.parametrize("variable", sorted(ALL_VARIABLES))
def test_a_variable_sets_its_setting(variable: str) -> None:
    """Each documented variable reaches its attribute, in its unit."""
    part, attribute, text, expected = ALL_VARIABLES[variable]

    assert expected == getattr(
        getattr(load_settings({variable: text}), part), attribute
    )


@pytest.mark.parametrize(
    "variable", sorted(v for v in ALL_VARIABLES if not v.startswith("TASKFLOW_"))
)
def test_the_prefixed_name_overrides_the_bare_one(variable: str) -> None:
    """``TASKFLOW_X`` wins where ``X`` is set to something else, even wrongly."""
    part, attribute, text, expected = ALL_VARIABLES[variable]
    environ = {variable: "~not a value~", f"TASKFLOW_{variable}": text}

    assert expected == getattr(getattr(load_settings(environ), part), attribute)


def test_the_seed_name_of_the_concurrency_comes_before_the_short_one() -> None:
    """Where both names are set, the first one documented counts."""
    environ = {"WORKER_CONCURRENCY": "7", "CELERY_WORKER_CONCURRENCY": "6"}

    assert load_settings(environ).worker.concurrency == 6


def test_an_empty_variable_counts_as_not_set() -> None:
    """A compose file that passes on what nobody chose breaks nothing."""
    environ = dict.fromkeys(ALL_VARIABLES, "") | {"MAX_RETRIES": "  "}

    assert load_settings({}) == load_settings(environ)


def test_the_environment_of_the_process_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without an argument the process's own variables are read."""
    monkeypatch.setenv("TASKFLOW_MAX_RETRIES", "9")

    assert load_settings().queue.max_retries == 9


def test_every_mistake_is_listed_with_name_value_and_bound() -> None:
    """One start shows all there is to correct, across all classes."""
    environ = {
        "REDIS_URL": "localhost:6379",
        "DEFAULT_RETRY_RATIO": "30%",
        "MAX_RETRIES": "-1",
        "RESULT_TTL": "soon",
        "CELERY_WORKER_CONCURRENCY": "0",
        "TASKFLOW_LEASE": "2h",
        "TASKFLOW_EXECUTOR": "threads",
        "LOG_LEVEL": "LOUD",
    }
    expected = [
        (
            "REDIS_URL=<not shown>: must be a URL such as redis://localhost:6379/0, "
            "rediss://, unix:///PATH, redis+sentinel://, redis+cluster://, "
            "embedded://PATH or memory://"
        ),
        "DEFAULT_RETRY_RATIO='30%': must be a number from 0.01 to 0.99",
        "MAX_RETRIES='-1': must be a whole number from 0 to 1000",
        f"RESULT_TTL='soon': must be {DURATION}, from 1s to 3650d, or 0 (for ever)",
        "CELERY_WORKER_CONCURRENCY='0': must be a whole number from 1 to 10000",
        f"TASKFLOW_LEASE='2h': must be {DURATION}, from 100ms to 1h",
        "TASKFLOW_EXECUTOR='threads': must be one of asyncio, celery",
        "LOG_LEVEL='LOUD': must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
    ]

    assert expected == problems_of(environ)


def test_the_message_of_the_error_holds_every_mistake() -> None:
    """What is printed is the whole list, not a count."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"MAX_RETRIES": "x", "LOG_LEVEL": "y"})

    assert [True, True] == [
        problem in str(caught.value) for problem in caught.value.problems
    ]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MAX_RETRIES", "3.0"),
        ("MAX_RETRIES", "1_000"),
        pytest.param("MAX_RETRIES", "9" * 5000, id="MAX_RETRIES-5000 digits"),
        ("MAX_RETRIES", "٣"),
        ("DEFAULT_RETRY_RATIO", "nan"),
        ("DEFAULT_RETRY_RATIO", "1e-1"),
        ("DEFAULT_RETRY_RATIO", "0"),
        ("TASKFLOW_LEASE", "inf"),
        ("TASKFLOW_LEASE", "-15"),
        ("TASKFLOW_LEASE", "15 s"),
        ("TASKFLOW_LEASE", "0"),
        pytest.param("TASKFLOW_LEASE", "9" * 400, id="TASKFLOW_LEASE-400 digits"),
        ("TASKFLOW_PREFIX", "*"),
        ("TASKFLOW_APP", "shop.tasks"),
    ],
)
def test_a_value_out_of_bounds_is_refused(variable: str, text: str) -> None:
    """No text that a person may have meant otherwise is taken for a value."""
    (problem,) = problems_of({variable: text})

    assert problem.startswith(f"{variable}=")


def test_a_long_value_is_shown_cut_short() -> None:
    """A file pasted into a variable does not fill the screen."""
    (problem,) = problems_of({"LOG_LEVEL": "x" * 10_000})

    assert "... (10002 characters): must be one of" in problem


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"CELERY_TASK_TIME_LIMIT": "60", "CELERY_TASK_SOFT_TIME_LIMIT": "61"},
            (
                "soft_time_limit=61.0 must not be above time_limit=60.0 "
                "(CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT)"
            ),
        ),
        (
            {"RETRY_QUEUE_WARNING": "500", "RETRY_QUEUE_CRITICAL": "500"},
            (
                "retry_queue_critical=500 must be above retry_queue_warning=500 "
                "(RETRY_QUEUE_CRITICAL, RETRY_QUEUE_WARNING)"
            ),
        ),
    ],
)
def test_two_settings_that_contradict_one_another_are_refused(
    environ: dict[str, str], expected: str
) -> None:
    """Each value is right, the pair is not, and both names are said."""
    assert [expected] == problems_of(environ)


def test_a_default_bends_to_the_setting_it_depends_on() -> None:
    """Setting one of a pair alone never contradicts the other's default."""
    settings = load_settings(
        {"CELERY_TASK_TIME_LIMIT": "60", "RETRY_QUEUE_WARNING": "20000"}
    )

    assert (60.0, 100_000) == (
        settings.worker.soft_time_limit,
        settings.queue.retry_queue_critical,
    )


def test_a_class_made_by_hand_lists_all_its_mistakes_too() -> None:
    """The bounds hold for code as for the environment."""
    with pytest.raises(ConfigurationError) as caught:
        WorkerSettings(concurrency=True, lease=float("nan"), time_limit=0.0)

    assert [
        "concurrency=True: must be a whole number from 1 to 10000",
        f"time_limit=0.0: must be {DURATION}, from 10ms to 365d",
        f"lease=nan: must be {DURATION}, from 100ms to 1h",
    ] == list(caught.value.problems)


@pytest.mark.parametrize(
    "password",
    ["hunter2", "hun/ter2", "hun@ter2", "hun:ter2", "hun?ter2", "hun#ter2", "123/ter2"],
)
@pytest.mark.parametrize(
    "pattern",
    [
        "redis://:{}@db:6379/0",
        "rediss://worker:{}@db:6379/0?client_name=a",
        "unix://worker:{}@/run/redis.sock",
        "worker:{}@db:6379",
        "redis://db:6379/0?password={}",
        "rediss://db:6379/0?db=1&ssl_password={}",
    ],
)
def test_a_password_is_shown_nowhere(pattern: str, password: str) -> None:
    """Neither the masked URL, nor a repr, nor an error gives the password away."""
    url = pattern.format(password)
    if "password=" in url:
        url = url.replace("#", "%23")
    shown = [mask_url(url)]
    if "://" in url:
        shown += [repr(RedisSettings(url=url)), repr(load_settings({"REDIS_URL": url}))]
    else:
        shown += problems_of({"REDIS_URL": url})
        with pytest.raises(ConfigurationError) as caught:
            RedisSettings(url=url)
        shown.append(str(caught.value))

    assert [] == [text for text in shown if "ter2" in text]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://user@db:6379/0", "redis://***@db:6379/0"),
        ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
        ("embedded://./data", "embedded://./data"),
        ("redis://:pw@db/0?password=pw&db=1", "redis://:***@db/0?password=***&db=1"),
        ("memory://", "memory://"),
    ],
)
def test_a_masked_url_keeps_what_is_no_secret(url: str, expected: str) -> None:
    """Host, port, path and user stay readable."""
    assert expected == mask_url(url)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("30", 30.0),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604_800.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1h2m3s4ms", 3723.004),
        (" 5m ", 300.0),
        ("-5", -5.0),
        (31, 31.0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_read_as_people_write_it(value: object, expected: float) -> None:
    """Texts, numbers and timedeltas all become seconds."""
    assert expected == pytest.approx(read_duration(value))


@pytest.mark.parametrize("value", ["", "5 m", "5x", "m", "1.2.3s", "1e3", None, True])
def test_what_is_no_duration_is_refused(value: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="a duration such as"):
        read_duration(value)


def test_a_dotenv_file_is_read_below_the_environment(tmp_path: Path) -> None:
    """The file fills in what the environment leaves open, comments and all."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "# ours\nexport MAX_RETRIES=7  # seven\nLOG_LEVEL='debug'\nEMPTY=\nBARE\n"
        "REDIS_URL=redis://file:6379/0\n",
        encoding="utf-8",
    )
    settings = load_settings({"LOG_LEVEL": "ERROR", "REDIS_URL": ""}, dotenv=dotenv)

    assert (7, "ERROR", "redis://file:6379/0") == (
        settings.queue.max_retries,
        settings.log.level,
        settings.redis.url,
    )


def test_a_missing_dotenv_file_is_no_mistake(tmp_path: Path) -> None:
    """The commands name ``.env`` whether it exists or not."""
    assert load_settings({}) == load_settings({}, dotenv=tmp_path / ".env")


def test_a_broken_dotenv_line_is_named_by_number_only(tmp_path: Path) -> None:
    """Every line that is not an assignment stops the start; none is shown."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("A=1\nsecret words here\nB=2\n=hidden\n", encoding="utf-8")

    assert [
        f"{dotenv}: line 2 is not NAME=value",
        f"{dotenv}: line 4 is not NAME=value",
        "MAX_RETRIES='x': must be a whole number from 0 to 1000",
    ] == problems_of({"MAX_RETRIES": "x"}, dotenv)


@pytest.mark.parametrize("kind", ["directory", "bytes"])
def test_a_dotenv_that_cannot_be_read_is_a_mistake(kind: str, tmp_path: Path) -> None:
    """A directory, or bytes that are no text, is said and not skipped."""
    dotenv = tmp_path / ".env"
    if kind == "directory":
        dotenv.mkdir()
    else:
        dotenv.write_bytes(b"A=\xff\xfe\n")
    (problem,) = problems_of({}, dotenv)

    assert problem.startswith(f"{dotenv}: cannot be read: ")


def test_the_import_reads_no_dotenv_library() -> None:
    """python-dotenv is loaded when a file is read, not before."""
    code = "import sys, taskflow._settings; print('dotenv' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")},
    )

    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("prefix", "fits"),
    [
        ("", True),
        ("shop:", True),
        ("{shop}:", True),
        ("a{b}c", True),
        ("{shop", False),
        ("a b", False),
        ("é", False),
        ("x" * 128, True),
        ("x" * 129, False),
    ],
)
def test_settings_and_keys_agree_about_a_prefix(prefix: str, fits: bool) -> None:
    """A prefix the settings accept is one the keys accept, and the reverse."""
    accepted: list[bool] = []
    for make in (RedisSettings, Keys):
        try:
            make(prefix=prefix)
        except ConfigurationError:
            accepted.append(False)
        else:
            accepted.append(True)

    assert [fits, fits] == accepted
