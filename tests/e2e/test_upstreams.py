"""The upstreams on the dashboard: what a person sees of them, and does to them."""

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from taskflow import TaskFlow
from tests.e2e.browsing import PATIENCE, Serve, Watch
from tests.e2e.host import registry

expect.set_options(timeout=PATIENCE)

CALL = registry.get("call_api")


@pytest.fixture(scope="module")
def address(serve: Serve) -> str:
    """Give a dashboard that is open to this machine."""
    return serve()[1]


@pytest.fixture(autouse=True)
def as_new(flow: TaskFlow, stocked: dict[str, str]) -> Iterator[None]:
    """Leave no upstream shut behind."""
    del stocked
    yield
    flow.upstreams.reset()


def row_of(page: Page, name: str) -> Locator:
    """Give the row of an upstream."""
    return page.get_by_role("row").filter(
        has=page.get_by_role("rowheader", name=name, exact=True)
    )


def finish(flow: TaskFlow, task_id: str) -> None:
    """Wait for the end of a task and forget it."""
    flow.handle(task_id).result(timeout=20)
    flow.tasks.delete(task_id)


def test_an_upstream_is_opened_and_closed(
    watch: Watch, address: str, flow: TaskFlow
) -> None:
    """With a reason and a time that counts down; its tasks wait and then complete."""
    page = watch(address).open("#/upstreams")
    row = row_of(page, "example-api")
    expect(row).to_contain_text("closed calls begin")
    expect(row).to_contain_text("100 per 10 s")
    row.get_by_role("button", name="Open example-api").click()
    dialog = page.get_by_role("dialog", name="Open example-api?")
    dialog.get_by_label("Reason").fill("they migrate")
    dialog.get_by_label("For how many minutes").fill("10")
    dialog.get_by_role("button", name="Open it").click()
    expect(page.get_by_role("status")).to_contain_text("example-api is open")
    expect(row).to_contain_text(re.compile("by a person.*tried again in 9 min"))
    expect(row).to_contain_text("they migrate")
    before = row.get_by_text(re.compile("^in 9 min")).inner_text()
    expect(row.get_by_text(before, exact=True)).to_be_hidden()
    held = flow.upstreams.get("example-api")
    task_id = flow.enqueue(CALL.call(200)).id
    expect(row.get_by_role("cell", name="1", exact=True)).to_be_visible()
    page.get_by_role("link", name="1 task parked").click()
    expect(page.get_by_role("heading", name="Tasks: parked")).to_be_visible()
    expect(page.get_by_role("link", name="call_api")).to_be_visible()
    page.get_by_role("link", name="call_api").click()
    expect(page.get_by_text("It is parked until example-api may be")).to_be_visible()
    page.get_by_role("link", name="Overview").click()
    expect(
        page.get_by_role("row").filter(has_text="wait for an upstream")
    ).to_contain_text("parked1")
    page.get_by_role("link", name="Upstreams 1").click()
    row.get_by_role("button", name="Close example-api").click()
    page.get_by_role("dialog").get_by_role("button", name="Close it").click()
    expect(row).to_contain_text("closed calls begin")
    finish(flow, task_id)

    assert ("open", "person", "they migrate") == (held.state, held.shut_by, held.reason)
    assert held.retry_at is not None


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (
            *(429, "tapped"),
            ["it asked us to wait", "not to be called; goes on in (9|10) min"],
        ),
        (
            *(401, "open"),
            ["it refuses our key or credit", "tried again in [45] min"],
        ),
    ],
)
def test_what_a_service_says_of_us_is_in_words_and_can_be_reset(
    status: int,
    state: str,
    words: list[str],
    watch: Watch,
    address: str,
    flow: TaskFlow,
) -> None:
    """Not in colours alone; the task that was refused waits unharmed."""
    task_id = flow.enqueue(CALL.call(status)).id
    page = watch(address).open("#/upstreams")
    row = row_of(page, "example-api")
    expect(row.get_by_text(state, exact=True)).to_be_visible()
    for each in words:
        expect(row).to_contain_text(re.compile(each))
    attempts = flow.tasks.get(task_id).attempts
    flow.tasks.delete(task_id)
    row.get_by_role("button", name="Reset example-api").click()
    page.get_by_role("dialog").get_by_role("button", name="Reset it").click()
    expect(row).to_contain_text("closed calls begin")

    assert 0 == attempts


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_a_shut_upstream_has_no_barrier_that_a_checker_knows(
    width: int, scheme: str, watch: Watch, address: str, flow: TaskFlow
) -> None:
    """In the table and in the question, and nothing scrolls sideways."""
    flow.upstreams.force_open("example-api", reason="\u0416" * 300)
    page = watch(
        address, color_scheme=scheme, viewport={"width": width, "height": 900}
    ).open("#/upstreams")
    expect(page.get_by_text("until a person closes it")).to_be_visible()
    found = Axe().run(page).response["violations"]
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.get_by_role("button", name="Hold back tasks").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found += Axe().run(page).response["violations"]

    assert ([], width) == ([each["id"] for each in found], wide)


def test_tasks_of_a_name_are_held_back(
    watch: Watch, address: str, flow: TaskFlow
) -> None:
    """They wait until somebody closes what holds them; others go on."""
    page = watch(address).open("#/upstreams")
    page.get_by_role("button", name="Hold back tasks of a name").click()
    page.get_by_role("dialog").get_by_label("Name of the tasks").fill("add")
    page.get_by_role("dialog").get_by_role("button", name="Hold them back").click()
    row = row_of(page, "tasks named add")
    expect(row).to_contain_text("until a person closes it")
    held = flow.enqueue(registry.get("add").call(1)).id
    finish(flow, flow.enqueue(CALL.call(200)).id)
    expect(row.get_by_role("cell", name="1", exact=True)).to_be_visible()
    row.get_by_role("button", name="Close tasks named add").click()
    page.get_by_role("dialog").get_by_role("button", name="Close it").click()
    expect(row).to_be_hidden()
    finish(flow, held)
