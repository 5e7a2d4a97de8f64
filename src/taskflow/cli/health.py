"""``taskflow health``: probes for containers and supervisors.

They run every few seconds beside what they probe, so they import neither a client
of Redis nor the worker: they look at a file, or ask one question over a socket.
"""

import json
import socket
import time
from pathlib import Path
from typing import Any, Final

import click
from attrs import frozen

from taskflow._settings import WorkerSettings
from taskflow._settings.environment import find_sources, read_class
from taskflow._settings.kinds import Text, WholeNumber
from taskflow._settings.settings import Checked, option
from taskflow._worker.liveness import folder_of, read_liveness
from taskflow.cli.exit_codes import FAILED
from taskflow.cli.text import clean

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be replaced
_MOST: Final = 65_536  # bytes of an answer


@frozen
class Listening(Checked):
    """Where the API is; the settings of the service have more.

    Attributes:
        host: ``TASKFLOW_API_HOST``.
        port: ``TASKFLOW_API_PORT``.
    """

    host: str = option(
        "127.0.0.1",
        Text(r"[A-Za-z0-9_.:-]{1,253}", "an address such as 127.0.0.1 or 0.0.0.0"),
        "TASKFLOW_API_HOST",
    )
    port: int = option(8000, WholeNumber(0, 65535), "TASKFLOW_API_PORT")


def _env_file(command: Any) -> Any:
    return click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        default=Path(".env"),
        show_default=True,
        help="Read settings from this file too, if it is there.",
    )(command)


@click.group()
def health() -> None:
    """Probe the workers or the API of this machine.

    Exit code 0: healthy. 1: not, and a sentence on standard error says why.
    """


@health.command("worker")
@_env_file
def worker_command(env_file: Path) -> int:
    """Probe the workers of this user on this machine.

    Healthy: there is one, and each has been answered by the server and has asked for
    work within twice TASKFLOW_LEASE, that is 30 seconds unless set otherwise. They
    leave a file each in TASKFLOW_HEALTH_DIR.
    """  # noqa: DOC201 - this text is the command's help
    settings, wrong, _ = read_class(WorkerSettings, find_sources(None, env_file, []))
    if wrong:
        return _unhealthy("; ".join(wrong))
    folder = folder_of(settings.health_dir)
    try:
        living, dead = read_liveness(folder, time.monotonic())
    except FileNotFoundError:
        return _unhealthy(f"no worker runs here: there is no {folder}")
    except OSError as error:
        return _unhealthy(f"{folder}: {error.strerror}")
    sick = [each for each in living if each.why]
    if sick:
        told = "; ".join(f"{each.worker} (pid {each.pid}): {each.why}" for each in sick)
        return _unhealthy(told)
    if not living:
        killed = f"; {', '.join(dead)} was killed" if dead else ""
        return _unhealthy(f"no worker runs here: there is none in {folder}{killed}")
    click.echo("healthy: " + ", ".join(each.worker for each in living))
    return 0


@health.command("api")
@click.option("--ready", is_flag=True, help="Ask whether it can do its work as well.")
@click.option("--host", help="Where it listens; else TASKFLOW_API_HOST.")
@click.option("--port", type=click.IntRange(1, 65535), help="Else TASKFLOW_API_PORT.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    help="Seconds within which it must answer.",
)
@_env_file
def api_command(
    *, ready: bool, host: str | None, port: int | None, timeout: float, env_file: Path
) -> int:
    """Probe the API: GET /live, or with --ready GET /ready.

    An API that listens on all addresses is asked on the loopback interface.
    """  # noqa: DOC201 - this text is the command's help
    known, wrong, _ = read_class(Listening, find_sources(None, env_file, []))
    if wrong:
        return _unhealthy("; ".join(wrong))
    chosen = host or known.host
    address = (_ANY.get(chosen, chosen), port or known.port)
    where = f"{address[0]} port {address[1]}"
    path = "/ready" if ready else "/live"
    try:
        status, body = _get(address, path, timeout)
    except TimeoutError:
        return _unhealthy(f"no answer from {where} within {timeout:g} s")
    except OSError as error:
        return _unhealthy(f"nothing listens on {where}: {error.strerror or error}")
    if status != "200":
        reason = _detail(body)
        return _unhealthy(f"GET {path} of {where}: {status or 'no HTTP'}" + reason)
    click.echo(f"healthy: GET {path} of {where}: {status}")
    return 0


def _unhealthy(why: str) -> int:
    click.echo(f"unhealthy: {clean(why)}", err=True)
    return FAILED


def _get(address: tuple[str, int], path: str, timeout: float) -> tuple[str, bytes]:
    """Make one request; ``http.client`` takes longer to import than this to run."""
    deadline = time.monotonic() + timeout
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    asked = f"GET {path} HTTP/1.1\r\nHost: {host}:{address[1]}\r\n"
    asked += "Accept: application/json\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection(address, timeout) as link:
        link.sendall(asked.encode("ascii"))
        while len(answer) < _MOST:
            link.settimeout(max(0.001, deadline - time.monotonic()))
            part = link.recv(_MOST)
            if not part:
                break
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ")
    is_http = len(words) > 1 and words[0].startswith(b"HTTP/1.")
    return words[1].decode("ascii", "replace") if is_http else "", body


def _detail(body: bytes) -> str:
    """Give the sentence of a problem document, if it is one."""
    try:
        told: Any = json.loads(body)
        return f": {told['detail']}"
    except (ValueError, TypeError, KeyError):
        return ""
