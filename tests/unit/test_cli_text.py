"""What a person reads: lengths, times, tables, and characters that do no harm."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from taskflow.cli import text

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ümläut 漢字 🎉", "plain ümläut 漢字 🎉"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_cannot_be_printed_is_shown_as_letters(raw: str, shown: str) -> None:
    """Nothing that anybody stored can steer a terminal."""
    assert shown == text.clean(raw)


def test_a_block_keeps_its_lines_and_nothing_else() -> None:
    """A traceback stays readable, an escape in it does not act."""
    assert "  one\n      two\n\n  \\x1b" == text.block("one\n\ttwo\n\n\x1b")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.04, "0.0s"),
        (59.4, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (86_399, "23h 59m"),
        (90_000, "1d 1h"),
    ],
)
def test_a_duration_is_said_in_two_units(seconds: float | None, shown: str) -> None:
    """As people say it."""
    assert shown == text.span(seconds)


def test_how_long_ago_is_never_in_the_future() -> None:
    """Clocks differ a little."""
    moments = [NOON - timedelta(minutes=5), NOON + timedelta(seconds=3), None]

    assert ["5m 0s ago", "0.0s ago", "-"] == [text.ago(at, NOON) for at in moments]


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 tasks"), (1, "1 task"), (12_345, "12,345 tasks")]
)
def test_a_noun_has_its_number(count: int, shown: str) -> None:
    """One task, two tasks."""
    assert shown == text.many(count, "task")


def test_a_table_is_aligned_by_columns_and_not_by_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wide character takes two columns, a combining one none."""
    text.table(("A", "B"), [("漢字", 1), ("e\u0301", 2), ("x" * 200, 3)])

    header, wide, combined, cut = capsys.readouterr().out.splitlines()
    columns = [
        text.width(line[: line.rindex(end)])
        for line, end in ((header, "B"), (wide, "1"), (combined, "2"), (cut, "3"))
    ]
    assert [columns[0]] * 4 == columns
    assert cut.startswith("x" * 99 + "…")


def test_rich_draws_the_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cells; markup in them is text."""
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    text.table(("NAME", "ERROR"), [("[red]f[/red]", "\x1b[2J")])

    assert "[red]f[/red]" in terminal.getvalue()
    assert "\\x1b[2J" in terminal.getvalue()


def test_facts_without_a_value_are_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Zero is a value."""
    text.facts((("one", 0), ("another", "x"), ("none", None), ("blank", "")))

    assert "one      0\nanother  x\n" == capsys.readouterr().out
