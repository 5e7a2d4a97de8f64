"""The pages that list what the code has are compared with the code."""

import ast
import inspect
import re
from pathlib import Path
from weakref import WeakKeyDictionary

import attrs
import pytest

import taskflow
from taskflow import _events, errors
from taskflow._declare import ports
from taskflow._declare.registry import default_registry
from taskflow._protocol import keys, scripts
from taskflow._protocol.keys import Keys
from taskflow._protocol.states import LEGAL_MOVES, TaskState
from taskflow._worker import outcome
from taskflow._worker.outcome import UNKNOWN_WAIT
from tests.support import page_snippets

DOCS = Path(__file__).parent.parent.parent / "docs"
LUA = Path(inspect.getfile(keys)).parent / "lua"

TYPES = {
    "LIST": "list",
    "ZSET": "sorted set",
    "SET": "set",
    "HASH": "hash",
    "STREAM": "stream",
    "STRING": "string",
    "CHANNEL": "channel",
}
PARTS = {
    "name": "{name}",
    "task_id": "{id}",
    "fingerprint": "{fingerprint}",
    "lane": "{lane}",
    "task_name": "{task}",
    "key": "{key}",
    "worker_id": "{worker}",
    "upstream": "{upstream}",
}


def table(page: str, *header: str) -> list[tuple[str, ...]]:
    """Read the rows of the table below *header* from *page*, all of such tables."""
    rows: list[tuple[str, ...]] = []
    inside = False
    for line in (DOCS / page).read_text("utf-8").splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if not line.startswith("|"):
            inside = False
        elif cells == header:
            inside = True
        elif inside and not set(line) <= set("|-: "):
            rows.append(tuple(cell.strip() for cell in line[1:-1].split("|")))
    return rows


def test_the_life_cycle_lists_every_legal_move_and_no_other() -> None:
    """Each move stands there with each script that makes it, once."""
    documented = [
        (
            TaskState(before) if before else None,
            TaskState(after) if after else None,
            script.strip("`"),
        )
        for before, after, _, script, _ in table("concepts/life-cycle.md", *LIFE_CYCLE)
    ]
    legal = [
        (before, after, script)
        for (before, after), scripts in LEGAL_MOVES.items()
        for script in scripts
    ]

    assert sorted(map(repr, legal)) == sorted(map(repr, documented))


LIFE_CYCLE = ("from", "to", "who and when", "script", "event")
ENDS = {
    "retry": {"SCHEDULED"},
    "snooze": {"SCHEDULED"},
    "park": {"PENDING"},
    "crash": {"PENDING", "DLQ", "CANCELLED"},
    "dead_letter": {"DLQ"},
    "fail": {"FAILED"},
    "cancel": {"CANCELLED"},
}
"""What may become of a run, by the function that says so of it."""


def told_by_verdicts() -> set[tuple[str, str]]:
    """Pair each state with the events of the verdicts that lead there."""
    told: set[tuple[str, str]] = set()
    for function in ast.walk(ast.parse(inspect.getsource(outcome))):
        if isinstance(function, ast.FunctionDef):
            names = [ast.unparse(each.func) for each in calls_in(function)]
            ends = [each.removeprefix("settle.") for each in names if "settle." in each]
            events = [each for each in names if hasattr(_events, each)]
            for end in ends:
                told |= {(state, each) for state in ENDS[end] for each in events}
    return told


def calls_in(function: ast.FunctionDef) -> list[ast.Call]:
    """List what a function calls."""
    return [each for each in ast.walk(function) if isinstance(each, ast.Call)]


def entries_of(script: str) -> set[str]:
    """Read what entries of tasks a script, with what it includes, can write."""
    text = scripts.load(script).source
    return set(re.findall(r"'event',\s*'(\w+)', 'id'", text)) | (
        {"discarded"} if script == "discard" else set()
    )


def test_the_life_cycle_names_the_events_that_a_worker_tells() -> None:
    """A move by ``settle`` tells what the verdict of the run tells."""
    documented = {
        (after, event)
        for _, after, _, script, events in table("concepts/life-cycle.md", *LIFE_CYCLE)
        for event in re.findall(r"`([A-Z]\w+)`", events)
        if script == "`settle`"
    }
    elsewhere = {("COMPLETED", "TaskCompleted"), ("PENDING", "TaskReleased")}

    assert told_by_verdicts() | elsewhere == documented


def test_the_life_cycle_names_the_entries_that_its_scripts_write() -> None:
    """No script writes one that its rows lack, and no row names one that is not."""
    documented: dict[str, set[str]] = {}
    for *_, script, events in table("concepts/life-cycle.md", *LIFE_CYCLE):
        names = documented.setdefault(script.strip("`"), set())
        names |= set(re.findall(r"\*`(\w+)`\*", events))

    # What these bury has no state, so it makes no move; or it is dead already.
    for script in ("promote", "repair_record"):
        documented[script].add("dead_letter")
    assert documented == {script: entries_of(script) for script in documented}


def test_the_graph_of_the_life_cycle_draws_every_legal_move() -> None:
    """An arrow for each pair of states, but those for deleting."""
    page = (DOCS / "concepts/life-cycle.md").read_text("utf-8")
    drawn = set(re.findall(r"^    (\S+) --> (\S+):", page, re.MULTILINE))
    legal = {
        (str(before or "[*]"), str(after or "[*]"))
        for (before, after), scripts in LEGAL_MOVES.items()
        if scripts != ("delete",)
    }

    assert legal == drawn


def test_the_life_cycle_names_the_home_of_every_state() -> None:
    """A reader finds each state once, with the key it lives in."""
    rows = table("concepts/life-cycle.md", "state", "means", "home")
    homes = {
        state.strip("`"): set(re.findall(r"`([a-z:]+)`", home))
        for state, _, home in rows
    }
    known = Keys()
    real = {
        state.value: (
            {known.waiting(lane) for lane in keys.SIDE_LISTS}
            if state is TaskState.PENDING
            else {known.home(state)}
        )
        for state in TaskState
    }

    assert real == homes


def fixed_keys() -> set[tuple[str, str]]:
    """Pair each fixed key with the type that the comment beside it says."""
    source = inspect.getsource(Keys)
    types = dict(
        re.findall(r"^    (\w+): str = field.*?# ([A-Z]+)", source, re.MULTILINE)
    )
    names = [each.name for each in attrs.fields(Keys) if each.name != "prefix"]
    return {(str(getattr(Keys(), name)), TYPES[types[name]]) for name in names}


def built_keys() -> set[tuple[str, str]]:
    """Pair each key with a varying part with the type its docstring says."""
    found: set[tuple[str, str]] = set()
    for name, method in inspect.getmembers(Keys, inspect.isfunction):
        kind = (inspect.getdoc(method) or "").split(":")[0].split(" ")[0]
        if name.startswith("_") or kind not in TYPES or name in {"home", "waiting"}:
            continue
        parts = list(inspect.signature(method).parameters)[1:]
        found.add((method(Keys(), *(PARTS[part] for part in parts)), TYPES[kind]))
    return found


def test_the_page_of_keys_lists_every_key_with_its_type() -> None:
    """Neither page nor module has a key that the other lacks."""
    documented = {
        (key.strip("`"), kind)
        for key, kind, _ in table("reference/redis-keys.md", "key", "type", "holds")
    }

    assert fixed_keys() | built_keys() == documented


def test_the_page_of_keys_lists_every_field_that_a_script_writes() -> None:
    """The fields of a record are those that some script names."""
    documented = {
        name
        for fields, _ in table("reference/redis-keys.md", "field", "holds")
        for name in re.findall(r"`([a-z_]+)", fields)
    }
    scripts = "".join(path.read_text("utf-8") for path in LUA.rglob("*.lua"))

    assert set() == {name for name in documented if f"'{name}" not in scripts}


def drawn_errors(page: str) -> set[str]:
    """Read the class names from the first column of the tables of *page*."""
    text = (DOCS / page).read_text("utf-8")
    return set(re.findall(r"^\| `(\w+)", text, re.MULTILINE))


def test_the_page_of_errors_lists_every_error_and_signal() -> None:
    """Whoever meets one finds out what to do about it."""
    real = {
        name
        for name, cls in vars(errors).items()
        if inspect.isclass(cls)
        and issubclass(cls, Exception)
        and cls.__name__ in errors.__all__
    }

    assert real == drawn_errors("reference/errors.md")


def test_the_page_of_errors_shows_the_tree_of_the_module() -> None:
    """The drawing is the one in the module's docstring, line by line."""
    page = (DOCS / "reference/errors.md").read_text("utf-8")
    drawing = [
        line.strip(" ")
        for line in (ast.get_docstring(ast.parse(inspect.getsource(errors))) or "")
        .partition(".. code-block:: text")[2]
        .partition("Errors end in")[0]
        .splitlines()
        if line.strip()
    ]
    shown = [line.strip(" ") for line in page.splitlines()]

    assert [] == [line for line in drawing if line not in shown]


def test_the_page_of_the_api_has_every_public_name() -> None:
    """By its directive; errors and signals come with their module."""
    page = (DOCS / "reference/api.md").read_text("utf-8")
    shown = set(re.findall(r"auto(?:class|function):: (?:taskflow\.)?(\w+)", page))

    assert set(taskflow.__all__) == {
        name for name in taskflow.__all__ if name in shown or hasattr(errors, name)
    }


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("guide/workers.md", f"a random time of at most {UNKNOWN_WAIT:g} s"),
    ],
)
def test_a_figure_in_a_guide_is_the_one_in_the_code(page: str, sentence: str) -> None:
    """Changing the constant without the page fails here."""
    assert sentence in (DOCS / page).read_text("utf-8")


PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.md")
    if "```python" in path.read_text("utf-8") and "_build" not in path.parts
)


@pytest.fixture(autouse=True)
def _no_task_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page finds no flow of other tests, and leaves them no task."""
    monkeypatch.setattr(ports, "_bound", WeakKeyDictionary())
    for name in ("_tasks", "_schedules"):
        known = getattr(default_registry, name)
        monkeypatch.setattr(default_registry, name, dict(known))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_shows(page: str) -> None:
    """With every extra; ``nox -s pages`` runs each with those that it names."""
    pytest.importorskip("fastapi", reason="without extras: see the session pages")

    assert page_snippets.run(DOCS / page) == ""
