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
from pathlib import Path
from typing import Final, TypeVar

from attrs import fields

from taskflow._settings.kinds import Kind
from taskflow._settings.settings import (
    Checked,
    LogSettings,
    QueueSettings,
    RedisSettings,
    Settings,
    WorkerSettings,
)
from taskflow.errors import ConfigurationError

_OVERRIDE: Final = "TASKFLOW_"

_FOR_PROCESS_POOLS: Final = (
    "WORKER_PREFETCH_MULTIPLIER",
    "WORKER_MAX_TASKS_PER_CHILD",
    "WORKER_MAX_MEMORY_PER_CHILD",
)

_CheckedT = TypeVar("_CheckedT", bound=Checked)


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
    sources: list[Mapping[str, str]] = [os.environ if environ is None else environ]
    if dotenv is not None:
        sources.append(_read_dotenv(dotenv, problems))
    settings = Settings(
        redis=_load(RedisSettings, sources, problems),
        queue=_load(QueueSettings, sources, problems),
        worker=_load(WorkerSettings, sources, problems),
        log=_load(LogSettings, sources, problems),
    )
    if problems:
        raise ConfigurationError(problems)
    return settings


def load(
    cls: type[_CheckedT],
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: Path | None = None,
) -> _CheckedT:
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
    sources: list[Mapping[str, str]] = [os.environ if environ is None else environ]
    if dotenv is not None:
        sources.append(_read_dotenv(dotenv, problems))
    loaded = _load(cls, sources, problems)
    if problems:
        raise ConfigurationError(problems)
    return loaded


def ignored_settings(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = None
) -> tuple[str, ...]:
    """Name the variables that are set and mean nothing to the asyncio executor.

    They bound the child processes of a pool; the asyncio executor has none.

    Args:
        environ: Variables to look at; None for those of the process.
        dotenv: A ``.env`` file to look at as well, or None.

    Returns:
        Names, in the order of the documentation.

    Example:
        >>> ignored_settings({"WORKER_PREFETCH_MULTIPLIER": "2"})
        ('WORKER_PREFETCH_MULTIPLIER',)
    """
    sources: list[Mapping[str, str]] = [os.environ if environ is None else environ]
    if dotenv is not None:
        sources.append(_read_dotenv(dotenv, []))
    return tuple(name for name in _FOR_PROCESS_POOLS if _find((name,), sources))


def export_dotenv(path: Path) -> None:
    """Put what a ``.env`` file says into this process's environment.

    For the commands alone, so that plugins read their settings where they
    always do. A variable that is set already stays as it is.

    Args:
        path: The file; one that is not there is no mistake.
    """
    for name, text in _read_dotenv(path, []).items():
        os.environ.setdefault(name, text)


def _load(
    cls: type[_CheckedT], sources: Sequence[Mapping[str, str]], problems: list[str]
) -> _CheckedT:
    values: dict[str, object] = {}
    mistakes: list[str] = []
    for attribute in fields(cls):
        kind: Kind = attribute.metadata["kind"]
        found = _find(attribute.metadata["variables"], sources)
        if found is None:
            continue
        variable, text = found
        try:
            values[attribute.name] = kind.read(text)
        except ValueError as error:
            mistakes.append(f"{variable}={kind.show(text)}: must be {error}")
    if not mistakes:
        try:
            return cls(**values)
        except ConfigurationError as error:
            mistakes.extend(error.problems)
    problems.extend(mistakes)
    return cls()


def _find(
    variables: Sequence[str], sources: Sequence[Mapping[str, str]]
) -> tuple[str, str] | None:
    ours = [v if v.startswith(_OVERRIDE) else _OVERRIDE + v for v in variables]
    for source in sources:
        for variable in (*ours, *variables):
            text = source.get(variable, "")
            if text.strip():
                return variable, text
    return None


def _read_dotenv(path: Path, problems: list[str]) -> Mapping[str, str]:
    # Here and not above: 30 ms, and only the commands read such a file.
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as stream:
            broken = [part.original.line for part in parse_stream(stream) if part.error]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return {}
    # By number and not by text: the line may hold a key.
    problems.extend(f"{path}: line {line} is not NAME=value" for line in broken)
    if broken:
        return {}
    values = dotenv_values(path, encoding="utf-8")
    return {name: text for name, text in values.items() if text is not None}
