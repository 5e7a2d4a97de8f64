"""Read the environment, and a ``.env`` file, into settings.

Why no settings library. The start must stop with *every* mistake listed, each
with the variable, the value and the bound, and no password in sight. The one
that was tried (typed-settings 26.0) derives a variable's name from the path of
the attribute, so ``CELERY_WORKER_CONCURRENCY`` and ``RESULT_TTL`` need a loader of
our own anyway; it reports one value out of bounds at most, because it meets the
validators only when it builds the class; and its errors carry nothing but a
text that names the attribute and repeats the raw value. What was left of it was
smaller than the work of undoing that. Reading a ``.env`` file is python-dotenv's.
"""

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Final, TypeVar

from attrs import field, fields, frozen

from taskflow._settings.kinds import Kind
from taskflow._settings.settings import (
    Checked,
    LogSettings,
    QueueSettings,
    RedisSettings,
    Settings,
    UpstreamSettings,
    WorkerSettings,
)
from taskflow.errors import ConfigurationError

OVERRIDE: Final = "TASKFLOW_"

FOR_PROCESS_POOLS: Final = (
    "WORKER_PREFETCH_MULTIPLIER",
    "WORKER_MAX_TASKS_PER_CHILD",
    "WORKER_MAX_MEMORY_PER_CHILD",
)

GROUP: Final = "taskflow.settings"
OWN: Final[tuple[type[Checked], ...]] = (
    RedisSettings,
    QueueSettings,
    WorkerSettings,
    UpstreamSettings,
    LogSettings,
)

CheckedT = TypeVar("CheckedT", bound=Checked)


def load_settings(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = None
) -> Settings:
    """Read all settings.

    For each setting ``TASKFLOW_<NAME>`` comes before ``<NAME>``, and the environment
    before the file. A variable that is set and empty counts as not set, because
    that is how compose files pass on what nobody chose.

    Args:
        environ: Variables to read; None for those of the process.
        dotenv: A ``.env`` file to read as well; one that is not there is no mistake.
            None reads no file.

    Returns:
        The settings, with defaults for all that is not set.

    Raises:
        ConfigurationError: At least one value is wrong. All of them are listed,
            each with its name, its value and what it must be; nothing is loaded.

    Example:
        >>> load_settings({"MAX_RETRIES": "5", "TASKFLOW_LEASE": "20s"}).worker.lease
        20.0
    """
    problems: list[str] = []
    sources = find_sources(environ, dotenv, problems)
    settings = Settings(
        redis=_load(RedisSettings, sources, problems),
        queue=_load(QueueSettings, sources, problems),
        worker=_load(WorkerSettings, sources, problems),
        upstream=_load(UpstreamSettings, sources, problems),
        log=_load(LogSettings, sources, problems),
    )
    if problems:
        raise ConfigurationError(problems)
    return settings


def load(
    cls: type[CheckedT],
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: Path | None = None,
) -> CheckedT:
    """Read one class of settings, by the rules of `load_settings`.

    Args:
        cls: A `Checked` class whose fields are made by `option`.
        environ: Variables to read; None for those of the process.
        dotenv: A ``.env`` file to read as well, or None.

    Returns:
        The settings, with defaults for all that is not set.

    Raises:
        ConfigurationError: At least one value is wrong; all of them are listed.
    """
    problems: list[str] = []
    sources = find_sources(environ, dotenv, problems)
    loaded = _load(cls, sources, problems)
    if problems:
        raise ConfigurationError(problems)
    return loaded


def ignored_settings(
    executor: str,
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: Path | None = None,
) -> tuple[str, ...]:
    """Name the variables that are set and mean nothing to *executor*.

    They bound the child processes of a pool; the asyncio executor has none.

    Args:
        executor: What runs the bodies, ``asyncio`` or ``celery``.
        environ: Variables to look at; None for those of the process.
        dotenv: A ``.env`` file to look at as well, or None.

    Returns:
        Names, in the order of the documentation.

    Example:
        >>> ignored_settings("asyncio", {"WORKER_PREFETCH_MULTIPLIER": "2"})
        ('WORKER_PREFETCH_MULTIPLIER',)
    """
    if executor == "celery":
        return ()
    sources = find_sources(environ, dotenv, [])
    found = (find((name,), sources) for name in FOR_PROCESS_POOLS)
    return tuple(each.variable for each in found if each)


def export_dotenv(path: Path) -> None:
    """Put what a ``.env`` file says into this process's environment.

    For the commands alone, so that plugins read their settings where they
    always do. A variable that is set already stays as it is.

    Args:
        path: The file; one that is not there is no mistake.
    """
    for name, text in _read_dotenv(path, []).values.items():
        os.environ.setdefault(name, text)


def check_settings(
    part: str,
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: Path | None = None,
) -> None:
    """Refuse to start where a setting is wrong, whoever declared it.

    Looks at the library's settings and at those of every class that an entry
    point in the group ``taskflow.settings`` names, so that one message lists them
    all. A wrong value stops every part; values that contradict one another
    stop the parts that read them.

    Args:
        part: What starts: ``worker``, ``api``, or another name of `Checked.read_by`.
        environ: Variables to read; None for those of the process.
        dotenv: A ``.env`` file to read as well, or None.

    Raises:
        ConfigurationError: It must not start; every mistake found is listed.
    """
    problems: list[str] = []
    sources = find_sources(environ, dotenv, problems)
    classes = [*OWN, *plugged_classes(problems)]
    stops = bool(problems)
    for cls in classes:
        _, wrong, conflicts = read_class(cls, sources)
        problems.extend([*wrong, *conflicts])
        concerned = cls in OWN or not cls.read_by or part in cls.read_by
        stops = stops or bool(wrong) or (concerned and bool(conflicts))
    if stops:
        raise ConfigurationError(list(dict.fromkeys(problems)))


def plugged_classes(problems: list[str]) -> list[type[Checked]]:
    """Find the classes that plugins declare.

    Args:
        problems: Takes a sentence for each that cannot be loaded.

    Returns:
        The classes, by the names of their entry points.
    """
    # Here and not above: 5 ms, and only commands ask for them.
    from importlib.metadata import entry_points

    classes: list[type[Checked]] = []
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        try:
            cls: object = point.load()
        except Exception as error:  # noqa: BLE001 - whatever its import does
            why = f"{type(error).__name__}: {error}"
        else:
            if isinstance(cls, type) and issubclass(cls, Checked):
                classes.append(cls)
                continue
            why = "it is no class of settings"
        problems.append(f"settings {point.name!r} ({point.value}): {why}")
    return classes


@frozen
class Source:
    """One place where variables are set.

    Attributes:
        name: ``environment``, or the path of a file.
        values: Texts by variable.
        lines: Line of each variable, where it is a file.
    """

    name: str
    values: Mapping[str, str]
    lines: Mapping[str, int] = field(factory=dict[str, int])


@frozen
class Found:
    """A variable that sets a setting.

    Attributes:
        variable: Its name.
        text: What it says.
        source: Where it is set.
    """

    variable: str
    text: str
    source: Source


def find_sources(
    environ: Mapping[str, str] | None, dotenv: Path | None, problems: list[str]
) -> list[Source]:
    """Give the places to look at, the one that wins first.

    Args:
        environ: Variables; None for those of the process.
        dotenv: A ``.env`` file, or None.
        problems: Takes what is wrong with the file.

    Returns:
        One or two places.
    """
    sources = [Source("environment", os.environ if environ is None else environ)]
    if dotenv is not None:
        sources.append(_read_dotenv(dotenv, problems))
    return sources


def find(variables: Sequence[str], sources: Sequence[Source]) -> Found | None:
    """Find the variable that sets a setting, by the rules of `load_settings`."""
    for source in sources:
        for variable in spellings(variables):
            text = source.values.get(variable, "")
            if text.strip():
                return Found(variable, text, source)
    return None


def spellings(variables: Sequence[str]) -> list[str]:
    """Give all names that set a setting, the one that wins first."""
    ours = [v if v.startswith(OVERRIDE) else OVERRIDE + v for v in variables]
    return [*ours, *(name for name in variables if name not in ours)]


def read_class(
    cls: type[CheckedT], sources: Sequence[Source]
) -> tuple[CheckedT, list[str], list[str]]:
    """Read a class and what is wrong with it.

    Args:
        cls: Declares the settings.
        sources: Where to look.

    Returns:
        The settings, their defaults where something is wrong; a sentence for each
        wrong value; and, where none is, one for each contradiction.
    """
    values: dict[str, object] = {}
    wrong: list[str] = []
    for attribute in fields(cls):
        kind: Kind = attribute.metadata["kind"]
        found = find(attribute.metadata["variables"], sources)
        if found is None:
            continue
        try:
            values[attribute.name] = kind.read(found.text)
        except ValueError as error:
            shown = kind.show(found.text)
            wrong.append(f"{found.variable}={shown}: must be {error}")
    if wrong:
        return cls(), wrong, []
    try:
        return cls(**values), [], []
    except ConfigurationError as error:
        return cls(), [], list(error.problems)


def _load(
    cls: type[CheckedT], sources: Sequence[Source], problems: list[str]
) -> CheckedT:
    loaded, wrong, conflicts = read_class(cls, sources)
    problems.extend([*wrong, *conflicts])
    return loaded


def _read_dotenv(path: Path, problems: list[str]) -> Source:
    nothing = Source(str(path), {})
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return nothing
    except (OSError, UnicodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return nothing
    # Here and not above: 30 ms, and only the commands read such a file.
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    parts = list(parse_stream(StringIO(text)))
    broken = [part.original.line for part in parts if part.error]
    # By number and not by text: the line may hold a key.
    problems.extend(f"{path}: line {line} is not NAME=value" for line in broken)
    if broken:
        return nothing
    values = dotenv_values(stream=StringIO(text))
    return Source(
        str(path),
        {name: text for name, text in values.items() if text is not None},
        {part.key: part.original.line for part in parts if part.key is not None},
    )
