"""Ticks under fire: workers and a scheduler are killed, and each tick is made once.

``TASKFLOW_TICKING`` says for how many seconds; five minutes is the long run.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from taskflow import TaskFlow
from taskflow._codec import from_json
from tests.support.service import Process

SECONDS = float(os.environ.get("TASKFLOW_TICKING", "15"))
pytestmark = [pytest.mark.deep, pytest.mark.timeout(SECONDS + 120)]

APP = """
import taskflow

flow = taskflow.TaskFlow()


@taskflow.every(1, missed="all")
@taskflow.task(name="tick")
def tick(ctx: taskflow.Context) -> str:
    return ctx.tick.isoformat()
"""


def test_each_tick_is_made_once_while_its_makers_are_killed(tmp_path: Path) -> None:
    """Five workers and a scheduler, one of them killed every half second."""
    (tmp_path / "ticking.py").write_text(APP)
    url = f"embedded://{tmp_path / 'd'}"
    rng = random.Random(7)
    kinds = ["worker"] * 5 + ["scheduler"]

    def start(kind: str) -> Process:
        return Process(
            kind, "--app", "ticking", cwd=tmp_path, REDIS_URL=url, TASKFLOW_LEASE="2s"
        )

    with TaskFlow(url) as flow:
        makers = [start(kind) for kind in kinds]
        ends_at = time.monotonic() + SECONDS
        kills = 0
        while time.monotonic() < ends_at:
            time.sleep(0.5)
            at = rng.randrange(len(makers))
            makers[at].stop(signal.SIGKILL)
            makers[at] = start(kinds[at])
            kills += 1
        time.sleep(1.5)
        for each in makers:
            each.stop(signal.SIGKILL)
        time.sleep(0.5)  # the server may still do what they sent before they died
        last = flow.schedules.list()[0].last_at
        ticks = []
        cursor = ""
        while True:
            page = flow.tasks.list(cursor=cursor, limit=200)
            for item in page.items:
                spec = flow.tasks.get(item.id).spec
                assert spec is not None
                ticks.append(spec.tick_ms)
            cursor = page.next_cursor
            if not cursor:
                break
        done = [
            from_json(record.result)
            for record in (flow.tasks.get(item.id) for item in page.items)
            if record.result
        ]

    first = min(ticks)
    assert last is not None
    expected = list(range(first, round(last.timestamp() * 1000) + 1, 1000))
    assert expected == sorted(ticks)
    assert kills >= SECONDS / 4
    assert len(done) == len(set(done))
    assert len(ticks) > 3
