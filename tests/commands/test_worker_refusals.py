"""A worker that cannot work says so in one sentence and does not start."""

from pathlib import Path

import pytest

from tests.support.service import running

pytestmark = pytest.mark.timeout(60)

TAKEN = """
import taskflow

first, second = taskflow.Registry(), taskflow.Registry()

@first.task(name="mail")
def one() -> None: ...

@second.task(name="mail")
def two() -> None: ...

first.include(second)
"""

UNFIT = """
import taskflow

flow = taskflow.TaskFlow()

@taskflow.task(name="unfit")
def unfit(where: open) -> None: ...
"""


def refusal(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """Give what a worker says that ends at once, having failed."""
    path = {"PYTHONPATH": str(tmp_path)}
    with running("worker", *arguments, cwd=tmp_path, **path, **environment) as worker:
        worker.line("<ended>")
    text = "\n".join(worker.lines)
    assert 0 != worker.popen.returncode, text
    assert "Traceback" not in text
    return text


def distribution(tmp_path: Path, name: str, entry_points: str = "") -> None:
    """Put a distribution beside ours, as pip would."""
    folder = tmp_path / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    )
    if entry_points:
        (folder / "entry_points.txt").write_text(entry_points)


def test_a_server_that_lives_in_one_process_is_refused(tmp_path: Path) -> None:
    """Nobody could enqueue what it would serve."""
    told = refusal(tmp_path, "--url", "memory://")

    assert "'memory://'" in told
    assert "embedded://PATH or redis://HOST" in told


def test_a_cluster_without_a_hash_tag_is_refused(tmp_path: Path) -> None:
    """And the refusal says how to write one."""
    told = refusal(tmp_path, "--url", "redis+cluster://127.0.0.1:1")

    assert "TASKFLOW_PREFIX={myapp}:" in told


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("nowhere:flow", "there is no module 'nowhere'"),
        ("shop:nothing", "'nothing' is no TaskFlow or Registry"),
        ("shop:nothing", "there: 'flow'"),
    ],
)
def test_an_app_that_is_not_there_is_said_so(
    tmp_path: Path, app: str, told: str
) -> None:
    """With what there is instead."""
    (tmp_path / "shop.py").write_text("import taskflow\nflow = taskflow.TaskFlow()\n")

    assert told in refusal(tmp_path, "--app", app)


def test_a_task_name_that_is_taken_is_said_with_both_places(tmp_path: Path) -> None:
    """File and line of each."""
    (tmp_path / "taken.py").write_text(TAKEN)
    told = refusal(tmp_path, "--app", "taken:first")

    assert "'mail'" in told
    assert 2 == told.count("taken.py:")


def test_a_task_that_cannot_be_served_stops_the_start(tmp_path: Path) -> None:
    """Before anything is claimed, and not when its first call comes."""
    (tmp_path / "unfit_app.py").write_text(UNFIT)
    told = refusal(tmp_path, "--app", "unfit_app:flow", "--url", "embedded://d")

    assert "'unfit'" in told
    assert "where" in told


def test_openstacks_library_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """With the way out."""
    distribution(tmp_path, "taskflow")
    told = refusal(tmp_path)

    assert "OpenStack" in told
    assert "pip uninstall taskflow" in told


def test_a_plugin_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    """With its distribution and what its import said."""
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('no licence')\n")
    points = "[taskflow.plugins]\nbroken = broken_plugin:register\n"
    distribution(tmp_path, "broken_dist", points)
    told = refusal(tmp_path, "--url", "embedded://d")

    assert "plugin 'broken' failed to load" in told
    assert "no licence" in told
