"""The compose file, as ``docker-compose`` understands it; no engine is needed."""

import re
from pathlib import Path
from typing import Any

import pytest
from attrs import fields

from tests.deploy.stack import FILES, PROFILES, ROOT, Clone, dotenv, variables

SEED = {"redis", "api", "worker", "scheduler", "frontend"}
OURS = ("api", "worker", "scheduler", "frontend", "reset")
GIB = 1024**3
MIB = 1024**2

# What compose itself reads, and what is read in another file.
OF_COMPOSE = {"COMPOSE_FILE"}
OF_OVERRIDES = {"REDIS_PORT"}

FIGURES: dict[str, tuple[Any, ...]] = {
    # replicas, concurrency, memory: limit, reservation; CPUs: likewise
    "development": (1, "2", 256 * MIB, 128 * MIB, 0.5, 0.25),
    "production": (3, "4", 512 * MIB, 256 * MIB, 1.0, 0.5),
    "high-throughput": (5, "8", GIB, 512 * MIB, 2.0, 1.0),
    "memory-constrained": (2, "2", 256 * MIB, 128 * MIB, 1.0, 0.5),
}
FOR_CHILDREN = {
    # prefetch, tasks and kilobytes per child
    "development": ("1", "1000", "200000"),
    "production": ("1", "1000", "200000"),
    "high-throughput": ("2", "1000", "200000"),
    "memory-constrained": ("", "500", "100000"),
}


def _figures(worker: dict[str, Any]) -> tuple[Any, ...]:
    resources = worker["deploy"]["resources"]
    limits, reservations = resources["limits"], resources["reservations"]
    return (
        worker["deploy"]["replicas"],
        worker["environment"]["CELERY_WORKER_CONCURRENCY"],
        int(limits["memory"]),
        int(reservations["memory"]),
        float(limits["cpus"]),
        float(reservations["cpus"]),
    )


def _settings_variables() -> set[str]:
    """Name every variable that a setting is read from."""
    from importlib.metadata import entry_points

    from taskflow._settings import settings

    classes = [
        getattr(settings, field.name.title() + "Settings", None)
        for field in fields(settings.Settings)
    ]
    classes += [entry.load() for entry in entry_points(group="taskflow.settings")]
    return {
        variable
        for each in classes
        for field in fields(each)
        for variable in field.metadata["variables"]
    }


def test_up_starts_the_five_services_of_the_seed(clone: Clone) -> None:
    """After ``cp .env.example .env``, at the root of a clone."""
    assert SEED == set(clone.services())


def test_the_tools_profile_adds_the_reset(clone: Clone) -> None:
    """Nothing else, and only when it is asked for."""
    assert SEED | {"reset"} == set(clone.services("--profile", "tools"))


def test_reset_takes_its_options_after_its_name(clone: Clone) -> None:
    """``docker compose run --rm reset --confirm`` is the command with an option."""
    reset = clone.services("--profile", "tools")["reset"]

    assert ["taskflow", "reset", "--force"] == reset["entrypoint"]
    assert ("no", None) == (reset["restart"], reset["command"])


def test_the_image_is_built_from_the_root_of_the_clone(clone: Clone) -> None:
    """The compose file is two folders below it."""
    build = clone.services()["api"]["build"]

    assert (str(clone.root), "examples/deploy/Dockerfile", "runtime") == (
        build["context"],
        build["dockerfile"],
        build["target"],
    )


def test_one_variable_builds_the_image_with_the_tests(clone: Clone) -> None:
    """So that ``docker compose exec api python -m pytest`` works."""
    services = clone.services(TASKFLOW_BUILD_TARGET="test")

    assert {"test"} == {
        service["build"]["target"]
        for service in services.values()
        if "build" in service
    }


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_yields_its_figures(clone: Clone, name: str) -> None:
    """Replicas, slots, memory and processors, as the seed has them."""
    assert FIGURES[name] == _figures(clone.profile(name)["worker"])


def test_without_a_profile_the_figures_are_those_of_production(clone: Clone) -> None:
    """Also where there is no ``.env``."""
    with_file = _figures(clone.services()["worker"])
    (clone.root / ".env").unlink()
    without = clone.services("-f", "examples/deploy/compose.yaml")["worker"]

    assert FIGURES["production"] == with_file == _figures(without)


def test_the_limits_of_pool_children_are_passed_on(clone: Clone) -> None:
    """Where a profile says nothing they are the seed's."""
    passed = {name: clone.profile(name)["worker"]["environment"] for name in PROFILES}

    assert FOR_CHILDREN == {
        name: (
            each["WORKER_PREFETCH_MULTIPLIER"],
            each["WORKER_MAX_TASKS_PER_CHILD"],
            each["WORKER_MAX_MEMORY_PER_CHILD"],
        )
        for name, each in passed.items()
    }


def test_celery_runs_the_bodies_unless_another_executor_is_named(clone: Clone) -> None:
    """As the seed has it; one variable changes it for all workers."""

    def executor(**exported: str) -> str:
        worker = clone.services(**exported)["worker"]
        return str(worker["environment"]["TASKFLOW_EXECUTOR"])

    assert ("celery", "asyncio") == (
        executor(),
        executor(TASKFLOW_EXECUTOR="asyncio"),
    )


def test_every_setting_reaches_every_container(clone: Clone) -> None:
    """From the shell and from ``.env`` alike; none is forgotten."""
    own = {"TASKFLOW_API_HOST", "TASKFLOW_API_PORT"}  # of the service, not of .env
    names = _settings_variables() - own
    exported = {
        "WORKER_STOP_GRACE_PERIOD": "41s",
        **{name: f"of-{name.lower()}" for name in names - {"WORKER_STOP_GRACE_PERIOD"}},
    }
    services = clone.services("--profile", "tools", **exported)
    # One setting with two names is passed on under the first.
    expected = {k: v for k, v in exported.items() if k != "WORKER_CONCURRENCY"}

    for name in OURS:
        passed = services[name]["environment"]
        assert expected == {key: passed.get(key) for key in expected}


def test_what_stands_in_the_env_file_reaches_every_container(clone: Clone) -> None:
    """A plugin's variable too, and a TASKFLOW_ spelling, which no list can name."""
    with (clone.root / ".env").open("a", encoding="utf-8") as file:
        file.write("\nSHOP_TOKEN=abc\nTASKFLOW_MAX_RETRIES=9\nMAX_RETRIES=8\n")

    services = clone.services("--profile", "tools")

    assert {("abc", "9", "8")} == {
        tuple(
            services[name]["environment"][key]
            for key in ("SHOP_TOKEN", "TASKFLOW_MAX_RETRIES", "MAX_RETRIES")
        )
        for name in OURS
    }


def test_the_other_name_of_the_concurrency_works_too(clone: Clone) -> None:
    """CELERY_WORKER_CONCURRENCY wins over WORKER_CONCURRENCY, as in the settings."""
    (clone.root / ".env").write_text(
        "COMPOSE_FILE=examples/deploy/compose.yaml\n", encoding="utf-8"
    )

    def concurrency(**exported: str) -> str:
        worker = clone.services(**exported)["worker"]
        return str(worker["environment"]["CELERY_WORKER_CONCURRENCY"])

    assert ("7", "9", "4") == (
        concurrency(WORKER_CONCURRENCY="7"),
        concurrency(WORKER_CONCURRENCY="7", CELERY_WORKER_CONCURRENCY="9"),
        concurrency(),
    )


def test_every_port_is_published_on_the_loopback_only(clone: Clone) -> None:
    """No other machine reaches anything; Redis is not published at all."""
    published = {
        name: [(port["host_ip"], port["published"]) for port in each.get("ports", [])]
        for name, each in clone.services("--profile", "tools").items()
    }

    assert {
        "redis": [],
        "api": [("127.0.0.1", "8000")],
        "worker": [],
        "scheduler": [],
        "frontend": [("127.0.0.1", "3000")],
        "reset": [],
    } == published


def test_the_port_of_redis_is_published_on_the_loopback_too(clone: Clone) -> None:
    """The second file adds it, for viewers, and nothing else."""
    files = "examples/deploy/compose.yaml:examples/deploy/compose.redis-port.yaml"

    redis = clone.services(COMPOSE_FILE=files)["redis"]

    assert [("127.0.0.1", "6379")] == [
        (port["host_ip"], port["published"]) for port in redis["ports"]
    ]


def test_no_container_may_do_more_than_it_must(clone: Clone) -> None:
    """No capability, no root, no file of its own but below /tmp."""
    for name, service in clone.services("--profile", "tools").items():
        assert ["ALL"] == service["cap_drop"], name
        assert ["no-new-privileges:true"] == service["security_opt"], name
        assert service["read_only"], name
        assert service["init"], name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert {"max-file": "3", "max-size": "10m"} == service["logging"]["options"]


def test_every_service_that_stays_is_watched_and_started_again(clone: Clone) -> None:
    """With a health check, a restart policy and a limit of memory."""
    for name, service in clone.services().items():
        assert "unless-stopped" == service["restart"], name
        assert service["healthcheck"]["test"], name
        assert int(service["deploy"]["resources"]["limits"]["memory"]), name


def test_redis_keeps_what_it_acknowledged_and_deletes_nothing(clone: Clone) -> None:
    """An append-only file in a volume, and writes refused when memory is short."""
    redis = clone.services()["redis"]
    command = redis["command"]
    options = dict(zip(command[::2], command[1::2], strict=True))

    assert {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory": "512mb",
        "--maxmemory-policy": "noeviction",
    } == options
    assert [("volume", "redis-data", "/data")] == [
        (each["type"], each["source"], each["target"]) for each in redis["volumes"]
    ]


def test_the_seeds_variables_time_the_health_check_and_the_stop(clone: Clone) -> None:
    """Each of the five ends where compose looks for it."""
    worker = clone.services(
        WORKER_HEALTH_CHECK_INTERVAL="11s",
        WORKER_HEALTH_CHECK_TIMEOUT="12s",
        WORKER_HEALTH_CHECK_RETRIES="13",
        WORKER_HEALTH_CHECK_START_PERIOD="14s",
        WORKER_STOP_GRACE_PERIOD="45s",
    )["worker"]

    check = worker["healthcheck"]
    assert ("11s", "12s", 13, "14s", "45s", "45s") == (
        check["interval"],
        check["timeout"],
        check["retries"],
        check["start_period"],
        worker["stop_grace_period"],
        worker["environment"]["WORKER_STOP_GRACE_PERIOD"],
    )


def test_every_variable_of_compose_is_in_the_example_file(clone: Clone) -> None:
    """And every variable of the example file is read by somebody."""
    used = set(variables(clone.compose("config", "--variables")))
    known = set(dotenv(ROOT / ".env.example"))

    assert set() == used - known
    assert set() == known - used - OF_COMPOSE - OF_OVERRIDES - _settings_variables()


def test_every_variable_is_in_the_documentation(clone: Clone) -> None:
    """On the settings page, or in the table of the deployment guide."""
    pages = [ROOT / "docs/reference/settings.md", ROOT / "docs/guide/deployment.md"]
    named = set(
        re.findall(r"`([A-Z][A-Z0-9_]+)`", "".join(p.read_text("utf-8") for p in pages))
    )
    used = set(variables(clone.compose("config", "--variables")))

    assert set() == used - named
    assert set() == set(dotenv(ROOT / ".env.example")) - named


def test_every_variable_of_the_documented_table_is_used(clone: Clone) -> None:
    """The table of the deployment guide names none that nobody reads."""
    page = (ROOT / "docs/guide/deployment.md").read_text("utf-8")
    table = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)`", page, re.MULTILINE))
    used = set(variables(clone.compose("config", "--variables")))

    assert set() == table - used - OF_COMPOSE - OF_OVERRIDES


def test_defaults_of_the_example_file_are_those_of_compose(clone: Clone) -> None:
    """Whoever deletes a line of ``.env`` gets what it said."""
    printed = clone.compose("config", "--variables")
    chosen = {"TASKFLOW_ACCESS"}  # said aloud, and not a default
    defaults = {name: text for name, text in variables(printed).items() if text}
    example = dotenv(ROOT / ".env.example")

    assert {
        name: text
        for name, text in defaults.items()
        if not text.startswith("${") and name not in chosen
    } == {
        name: example[name] or text
        for name, text in defaults.items()
        if not text.startswith("${") and name not in chosen
    }


def test_nothing_secret_can_enter_the_image() -> None:
    """The context is a list of what may enter; what is copied is on it."""
    ignore = (FILES / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = [
        word
        for line in (FILES / "Dockerfile").read_text("utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]

    assert "*" == next(line for line in ignore if not line.startswith("#"))
    assert ".env" not in allowed
    assert {Path(word).parts[0] for word in copied} <= allowed
    assert all((ROOT / word).exists() for word in copied)
