"""``taskflow summarize`` says within seconds that its provider can't be used."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskflow_summarize.testing import FakeOpenRouter, Reply

TEXT = "Twice a day the sea rises and falls. The Moon pulls the water. " * 60


def summarize(tmp_path: Path, **environment: str) -> tuple[int, str, float]:
    """Run the command: exit code, what it says of errors, and seconds."""
    path = tmp_path / "tides.txt"
    path.write_text(TEXT)
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "taskflow", "summarize", str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, **environment},
    )
    return ended.returncode, ended.stderr, time.monotonic() - begun


@pytest.mark.parametrize("status", [401, 402])
async def test_an_account_that_is_refused_is_said_at_once(
    tmp_path: Path, status: int
) -> None:
    """A rejected key, and spent credit."""
    fake = FakeOpenRouter(*[Reply.failing(status)] * 20)
    async with fake.serve() as url:
        code, told, _ = await asyncio.to_thread(
            lambda: summarize(
                tmp_path, OPENROUTER_API_KEY="sk-wrong", OPENROUTER_BASE_URL=url
            )
        )

    assert (1, 1) == (code, len(told.splitlines()))
    assert "AccountError: openrouter:" in told
    assert "sk-wrong" not in told


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    """After some attempts."""
    code, told, _ = summarize(
        tmp_path, OPENROUTER_API_KEY="sk-x", OPENROUTER_BASE_URL="http://127.0.0.1:1"
    )

    assert 1 == code
    assert "UnavailableError" in told


def test_a_key_that_is_missing_is_said(tmp_path: Path) -> None:
    """By the worker, which does not start."""
    code, told, _ = summarize(
        tmp_path, SUMMARIZE_PROVIDER="openrouter", OPENROUTER_API_KEY=""
    )

    assert 1 == code
    assert "needs OPENROUTER_API_KEY to be set" in told
