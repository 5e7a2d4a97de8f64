"""The dashboard in Chromium: what a person sees, and what never happens there."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from taskflow import Registry, TaskFilter, TaskFlow
from tests.e2e.browsing import PATIENCE, Serve, Watch
from tests.e2e.host import HOSTILE, registry

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def address(serve: Serve) -> str:
    """Give a dashboard that is open to this machine."""
    return serve()[1]


def place(page: Page, name: str) -> str:
    """Give what the picture says of a place, as a screen reader hears it."""
    return page.locator(f"svg.flow a.{name}").get_attribute("aria-label") or ""


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_flow_shows_the_count_of_every_place(
    width: int, scheme: str, watch: Watch, address: str, stocked: dict[str, str]
) -> None:
    """Each place has its count and leads to its list; nothing scrolls sideways."""
    watched = watch(
        address, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = watched.open()
    expect(page.locator("svg.flow a.completed")).to_have_attribute(
        "aria-label", re.compile("Completed: 41, ")
    )
    said = [place(page, name) for name in ("scheduled", "active", "failed", "dlq")]
    for view in (
        *("tasks", "dead-letters", "upstreams"),
        *("workers", "schedules", "audit-log"),
    ):
        page.get_by_role("navigation", name="Views").locator(
            f"a[href='#/{view}']"
        ).click()
        expect(page.locator("main table").first).to_be_visible()

        assert width >= page.evaluate("document.documentElement.scrollWidth")

    assert [
        "Scheduled: 2, wait for their time",
        "Active: 1, leased to a worker",
        "Failed: 1, no dead letter",
        "Dead letters: 16, wait for a person",
    ] == said


def test_an_enqueued_task_is_counted_within_two_seconds(
    watch: Watch, address: str, stocked: dict[str, str], flow: TaskFlow
) -> None:
    """The page is live: nobody reloads it."""
    page = watch(address).open()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    place = page.locator("svg.flow a.scheduled")
    expect(place).to_have_attribute("aria-label", re.compile("Scheduled: 2, "))
    handle = flow.enqueue(registry.get("add").options(delay=3600.0).call(1))
    expect(place).to_have_attribute(
        "aria-label", re.compile("Scheduled: 3, "), timeout=2000
    )
    flow.tasks.delete(handle.id)


@pytest.mark.parametrize("story", ["done", "hostile"])
def test_what_strangers_wrote_is_shown_and_never_run(
    story: str, watch: Watch, address: str, stocked: dict[str, str]
) -> None:
    """Markup in arguments, results and errors is text; what is hidden is shown."""
    page = watch(address).open(f"#/tasks/{stocked[story]}")
    shown = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\x1b", "⟨U+001B⟩")
    expect(page.get_by_role("heading", name="Arguments")).to_be_visible()
    if story == "hostile":
        expect(page.get_by_label("Traceback")).to_contain_text(shown)
        page.goto(f"{address}/#/dead-letters")
        expect(page.get_by_role("cell", name="HostileError").first).to_contain_text(
            "<script>document.title='owned'</script>"
        )
    else:
        expect(page.get_by_label("Result")).to_contain_text("<img src=x onerror=")

    assert "owned" not in page.title()
    assert 0 == page.locator("main script, main img, a[href^=javascript]").count()


def test_a_running_task_shows_how_far_it_is(
    watch: Watch, address: str, stocked: dict[str, str]
) -> None:
    """Its progress and its worker are there."""
    page = watch(address).open(f"#/tasks/{stocked['slow']}")
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute(
        "value", "3"
    )
    page.goto(f"{address}/#/workers")
    expect(page.get_by_role("link", name="slow_report")).to_be_visible()


def test_a_list_is_filtered_and_its_address_can_be_sent(
    watch: Watch, address: str, stocked: dict[str, str]
) -> None:
    """The filters are in the address; whoever opens it sees the same."""
    watched = watch(address)
    page = watched.open("#/tasks")
    page.get_by_label("State").select_option("DLQ")
    page.get_by_label("Error contains").fill("missing")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"#/tasks\?status=DLQ&error=missing$"))
    expect(page.locator("tbody tr")).to_have_count(3)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_label("Error contains")).to_have_value("missing")


def test_a_group_is_requeued_by_the_keyboard_alone(
    watch: Watch, address: str, stocked: dict[str, str], flow: TaskFlow
) -> None:
    """The number is shown before it is done; the letters go back to work."""
    page = watch(address).open("#/dead-letters")
    row = (
        page.get_by_role("region", name="Groups")
        .get_by_role("row")
        .filter(has_text="LookupError")
    )
    before = flow.dlq.get(flow.dlq.list(name="import_row").items[0].id).deliveries
    row.get_by_role("button", name="Requeue this group").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Requeue 3 dead letters?")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(row.get_by_role("button", name="Requeue this group")).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Requeue 3 dead letters").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("3 dead letters requeued")
    # They fail again: the worker has had them once more.
    expect(page.get_by_role("region", name="Groups")).to_contain_text("LookupError")
    page.goto(f"{address}/#/audit-log")
    expect(page.get_by_role("row").filter(has_text="requeue").first).to_be_visible()
    letters = flow.dlq.list(name="import_row").items

    assert before == 1
    assert {2} == {flow.dlq.get(letter.id).deliveries for letter in letters}


def test_a_lane_is_paused_and_resumed(
    watch: Watch, address: str, stocked: dict[str, str], flow: TaskFlow
) -> None:
    """The button holds the lane back, the page says so, and it can be undone."""
    page = watch(address).open()
    page.get_by_role("button", name="Pause the retry lane").click()
    expect(page.get_by_label("Needs attention")).to_contain_text("retry lane is paused")
    held = flow.queues.status().paused
    page.get_by_role("button", name="Resume the retry lane").click()
    expect(page.get_by_label("Needs attention")).to_be_hidden()

    assert (("retry",), ()) == (tuple(held), tuple(flow.queues.status().paused))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_barrier_that_a_checker_knows(
    scheme: str, watch: Watch, address: str, stocked: dict[str, str]
) -> None:
    """Names, roles, contrast and structure, on every view and in a dialog."""
    page = watch(
        address, color_scheme=scheme, viewport={"width": 375, "height": 900}
    ).open()
    views = (
        "",
        "tasks",
        f"tasks/{stocked['hostile']}",
        "upstreams",
        "workers",
        "schedules",
        "dead-letters",
    )
    found: list[tuple[str, str]] = []
    for view in views:
        page.goto(f"{address}/#/{view}")
        expect(page.locator("main table").first).to_be_visible()
        found += [(view, each["id"]) for each in Axe().run(page).response["violations"]]
    page.get_by_role("button", name="Requeue every group").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found += [("dialog", each["id"]) for each in Axe().run(page).response["violations"]]

    assert [] == found


def test_huge_payloads_and_endless_words_leave_the_page_whole(
    watch: Watch, address: str, url: str, stocked: dict[str, str]
) -> None:
    """What is long is cut, scrolls on its own, and can be shown further."""
    endless = "\u0416" * 400_000
    name = "x" * 128
    stranger = Registry()

    @stranger.task(name=name)
    def unread(text: str) -> None:
        """Never run."""

    with TaskFlow(url, registry=stranger) as other:
        handle = other.enqueue(unread.options(delay=3600.0).call(endless))
    page = watch(address, viewport={"width": 375, "height": 900}).open(
        f"#/tasks/{handle.id}"
    )
    expect(page.get_by_text("The first 20,000 of 400,")).to_be_visible()
    widths = [page.evaluate("document.documentElement.scrollWidth")]
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_text("The first 20,000 of 400,")).to_be_hidden()
    widths.append(page.evaluate("document.documentElement.scrollWidth"))
    page.goto(f"{address}/#/tasks?status=SCHEDULED")
    expect(page.get_by_text("x" * 60)).to_be_visible()
    widths.append(page.evaluate("document.documentElement.scrollWidth"))
    page.goto(f"{address}/#/tasks/{handle.id}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    expect(page).to_have_url(f"{address}/#/tasks")

    assert [375, 375, 375] == widths


def test_a_schedule_is_run_paused_and_resumed(
    watch: Watch, address: str, stocked: dict[str, str], flow: TaskFlow
) -> None:
    """What runs by itself is there, with its next time, and can be held back."""
    page = watch(address).open()
    page.get_by_role("link", name="Schedules").click()
    row = page.get_by_role("row").filter(has_text="new_year")
    expect(row).to_contain_text("30 4 1 1 *")
    row.get_by_role("button", name="Pause").click()
    expect(row.get_by_text("paused")).to_be_visible()
    (held,) = flow.schedules.list()
    row.get_by_role("button", name="Resume").click()
    expect(row.get_by_text("paused")).to_be_hidden()
    row.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("status")).to_contain_text("A task of new_year was")
    newest = flow.tasks.list(TaskFilter(name="echo")).items[0]
    flow.handle(newest.id).result(timeout=10)
    flow.tasks.delete(newest.id)

    assert held.paused_at is not None
    assert stocked["done"] != newest.id
