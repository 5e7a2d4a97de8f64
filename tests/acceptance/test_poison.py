"""A body that ends its process, in whichever way, is found; its neighbours are not."""

from collections.abc import Iterator

import pytest

from tests.support import chaos_app
from tests.support.chaos import ChaosDeployment
from tests.support.processes import wait_until

SEED = 1
NEIGHBOURS = 16
ENGINES = {
    "asyncio": ("--executor", "asyncio", "--concurrency", "6"),
    "celery": ("--executor", "celery", "--concurrency", "3"),
}
ENDS = {
    "exit": "exitcode 9",
    "segfault": "SIGSEGV",
    "kill": "SIGKILL",
    "memory": "SIGABRT",
    "overflow": "SIGSEGV",
    "abort": "SIGABRT",
}

pytestmark = [pytest.mark.deep, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Give the name of an engine."""
    if request.param == "celery":
        pytest.importorskip("celery")
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def deployment(
    engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChaosDeployment]:
    """Give two workers that one engine drives; the tests of a module share them."""
    made = ChaosDeployment(tmp_path_factory.mktemp("poison"), SEED)
    try:
        for _ in range(2):
            made.play(*ENGINES[engine], TASKFLOW_LEASE="1")
        wait_until(lambda: made.alive() == 2)
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("way", ENDS)
def test_a_body_that_ends_its_process_is_poison_after_three_crashes(
    deployment: ChaosDeployment, engine: str, way: str
) -> None:
    """It alone is dead-lettered; what ran beside it is run again, and completes."""
    before = len(deployment.acknowledged)
    calls = [
        (chaos_app.works, chaos_app.aworks)[each % 2].call(
            deployment.rng.uniform(0.1, 0.4)
        )
        for each in range(NEIGHBOURS)
    ]
    middle = NEIGHBOURS // 4
    deployment.enqueue([*calls[:middle], chaos_app.poison.call(way), *calls[middle:]])
    ids = deployment.acknowledged[before:]
    pill, neighbours = ids[middle], {*ids} - {ids[middle]}

    deployment.settle_down(60.0)

    deployment.judge()
    letters = {each.id: each for each in deployment.flow.dlq.list().items}
    assert {pill} == letters.keys() & {*ids}
    record = deployment.flow.tasks.get(pill)
    assert record.dead_letter is not None
    assert ("poison", 3, 0) == (
        record.dead_letter.cause,
        record.crashes,
        record.attempts,
    )
    begun = [row for row in deployment.lines("start") if row[0] == pill]
    ended = [row for row in deployment.lines("end") if row[0] == pill]
    assert (3, 0) == (len(begun), len(ended))
    crashes = [deployment.flow.tasks.get(each).crashes for each in neighbours]
    print(engine, way, "crashes of neighbours", sum(crashes))  # noqa: T201 - a report
    assert max(crashes) <= (0 if engine == "celery" else 2)
    if engine == "celery":  # only there somebody sees how the process ended
        assert ENDS[way] in record.error_message
