"""What is accepted as a text."""

import pytest

from taskflow_summarize._content import check_content
from taskflow_summarize.errors import ContentError

CANARY = "canary-8042"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        (" \n\t\u3000", "empty"),
        (f"{CANARY}\x00", "binary"),
        ("\x01\x02\x03" + CANARY, "binary"),
        ("\ufffd" * 20 + CANARY, "binary"),
        (CANARY + "\ud800", "surrogate"),
        (CANARY * 100, "has 1100 bytes of UTF-8, at most 1000"),
        ("潮" * 334, "has 1002 bytes of UTF-8, at most 1000"),
    ],
)
def test_what_is_no_text_is_refused_and_not_shown(content: str, reason: str) -> None:
    """Each has its own reason, and none repeats what was sent."""
    with pytest.raises(ContentError, match=reason) as raised:
        check_content(content, max_bytes=1000)

    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    ["x", "Naïve café\ttext\r\n", "one � lost in a longer text", "\x1b[1mterm\x1b[0m"],
)
def test_a_text_with_a_little_damage_is_a_text(content: str) -> None:
    """One lost character, or colours of a terminal, are no reason to refuse."""
    check_content(content, max_bytes=1000)
