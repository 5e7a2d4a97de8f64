"""A plugin of another distribution, installed beside ours and named by nobody."""

import contextlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from taskflow import Registry, TaskFlow
from taskflow.errors import ResultTimeoutError

PLUGIN = Path(__file__).parent.parent.parent / "examples" / "example_plugin"

registry = Registry()


@registry.task(name="example.count_words")
def count_words(text: str) -> dict[str, int]:
    """Stand for the plugin's task where only its name is known."""
    raise NotImplementedError(text)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Build the plugin and install it into a folder; give the folder."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(tmp_path / "wheels"),
            str(PLUGIN),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    folder = tmp_path / "site"
    # What pip does with a wheel of Python alone; an environment need not have pip.
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder)
    return folder


@pytest.mark.timeout(120)
def test_a_bare_worker_runs_the_task_of_an_installed_plugin(
    installed: Path, redis_url: str, tmp_path: Path
) -> None:
    """Installing is all that a plugin asks for."""
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    prefix = f"plugin-{os.getpid()}:"
    with (
        TaskFlow(redis_url, prefix=prefix, registry=registry) as flow,
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "taskflow",
                "worker",
                "--url",
                redis_url,
                "--prefix",
                prefix,
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
        ) as worker,
    ):
        handle = flow.enqueue(count_words.call("To be or not to be"))
        with contextlib.suppress(ResultTimeoutError):  # what the worker wrote says why
            handle.result(timeout=60)
        worker.terminate()
        _, lines = worker.communicate(timeout=30)

        assert "COMPLETED" == handle.info().state, lines
        assert {"be": 2, "not": 1, "or": 1, "to": 2} == handle.result(timeout=0)
        assert 0 == worker.returncode
        assert "plugins   example, summarize" in lines
