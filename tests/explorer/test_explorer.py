"""No order of calls, losses, deaths and deeds breaks an invariant."""

import os
from pathlib import Path

import pytest

from taskflow._protocol import scripts
from taskflow._protocol.states import LEGAL_MOVES
from tests.explorer.mutants import Mutant, changed, explored, mutants
from tests.explorer.search import BrokenError, Search
from tests.explorer.settings import DEEP, SMALL
from tests.explorer.store import Store
from tests.explorer.world import Setting

pytestmark = pytest.mark.timeout(3600)

FURTHER = DEEP if os.environ.get("TASKFLOW_EXPLORE") == "further" else ()
BRIEF = {"two workers", "crashes", "an upstream"}
"""What `nox` searches; `nox -s deep` searches all settings, and the larger ones."""

SETTINGS = [
    pytest.param(
        each, id=each.name, marks=[] if each.name in BRIEF else [pytest.mark.deep]
    )
    for each in (*SMALL, *FURTHER)
]
MOST = 6_000  # worlds, where a fault was put in
NOT_HERE = {"tick", "repair_placement", "repair_record"}
"""Scripts that nobody calls in these worlds: tests of their own judge their moves."""

NOT_TORN = ("claim", "PENDING", "DLQ")
"""Moves only a task whose record cannot be read; a hand from outside must tear it."""

GOALS = set(Path(__file__).with_name("goals.txt").read_text("utf-8").splitlines())

_happened: set[str] = set()
_moved: set[tuple[str, str, str]] = set()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_invariant_holds_in_every_world(setting: Setting) -> None:
    """Each world is checked, each move compared, and from some all is run to its end."""
    search = Search(setting, Store())
    search.run()
    _happened.update(search.happened)
    _moved.update(search.moved)
    print(f"{setting.name}: {search.seen:,} worlds, {search.taken:,} moves")  # noqa: T201

    assert search.is_whole


@pytest.mark.deep
def test_everything_that_can_happen_has_happened() -> None:
    """No part of the scripts is out of the reach of the search."""
    if not _happened:
        pytest.skip("nothing was searched in this run")

    assert [] == sorted(GOALS - _happened)


@pytest.mark.deep
def test_every_legal_move_was_made_and_no_other() -> None:
    """What the library says of its moves is what the scripts do."""
    if not _moved:
        pytest.skip("nothing was searched in this run")
    legal = {
        (script, before or "nothing", after or "nothing")
        for (before, after), made_by in LEGAL_MOVES.items()
        for script in set(made_by) - NOT_HERE
    }
    both = {("claim", "SCHEDULED", "ACTIVE"), ("claim", "SCHEDULED", "FAILED")}

    assert (legal - {NOT_TORN}) | both == _moved


@pytest.mark.parametrize(
    ("script", "before", "after"),
    [
        ("settle", "found[2] ~= token", "false"),
        ("settle", "found[1] == 'ACTIVE' and not seen[id]", "true"),
        ("settle", "redis.call('ZREM', active, unpack(removed))", ""),
        ("extend", "found[1] ~= 'ACTIVE' or found[2] ~= token", "false"),
        ("reap", "(delivery or 0) .. '::'", "found[2]"),
        ("reap", "redis.call('ZREM', active, unpack(expired))", ""),
        ("claim", "if repeated() then", "if false then"),
        ("claim", "redis.call('ZREM', scheduled, unpack(due))", ""),
        ("promote", "'-inf', now, 'LIMIT'", "'-inf', now + 60000, 'LIMIT'"),
        ("enqueue", "redis.call('EXISTS', prefix .. 'task:' .. id) == 1", "false"),
        ("settle", "found[7] and goes_on[verb]", "false"),
        ("cancel", "redis.call('SADD', tombstones", "tostring(tombstones"),
        ("delete", "\nunbury(id)\n", "\n"),
        ("claim", "if not u.is_known then\n    u.left", "if false then\n    u.left"),
        ("set_upstream", "elseif recovery > 0", "elseif false"),
    ],
)
def test_a_fault_that_is_put_in_is_found(script: str, before: str, after: str) -> None:
    """The search is no search that finds nothing wrong with anything."""
    shipped = scripts.load(script).source
    assert before in shipped
    texts = {script: shipped.replace(before, after)}

    with pytest.raises(BrokenError):
        _search_all(texts)


def _search_all(texts: dict[str, str]) -> None:
    for setting in SMALL:
        Search(setting, Store(texts), most=MOST, drained=7).run()


def test_a_mutant_changes_every_script_that_has_the_line() -> None:
    """Also where the line is of a shared part."""
    mutant = next(each for each in mutants() if each.file == "_shared/lanes")

    assert {"cancel", "claim", "delete", "requeue", "settle"} <= changed(mutant).keys()
    assert all(
        text != scripts.load(name).source for name, text in changed(mutant).items()
    )


@pytest.mark.deep
def test_a_script_that_is_no_lua_is_found() -> None:
    """A mutant that cannot run counts as killed, with the reason."""
    line = scripts.load("extend").source.splitlines()[0]

    assert "extend" in explored(Mutant("extend", 1, line, "local local"))
