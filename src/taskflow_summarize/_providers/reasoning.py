"""Take what a model thought out of what it answered, piece after piece.

Services put reasoning in fields of its own (``reasoning``, ``reasoning_content``, parts
of the type ``thinking``), which `AnswerReader` doesn't read. Servers that know a model
too little leave it in the text: between tags such as ``<think>``, or before a closing
tag whose opening one was part of the prompt (DeepSeek R1 under vLLM).
"""

import re
from typing import Final

_NAMES: Final = "think|thinking|thoughts?|reasoning|scratchpad"
_TAG: Final = re.compile(rf"[<◁](?P<closes>/?)\s*(?:{_NAMES})\s*[>▷]", re.IGNORECASE)
_LONGEST_TAG: Final = 100
_OPENS: Final = re.compile(r"[<◁][^>▷]{0,99}\Z")
_HALF: Final = re.compile(r"[\ud800-\udfff]")


class ReasoningFilter:
    """Gives the text without the reasoning, and without halves of characters.

    Attributes:
        is_reset: Whether the piece that was fed last has shown that all text before it
            was reasoning.
    """

    def __init__(self) -> None:
        self.is_reset = False
        self._held = ""
        self._depth = 0
        self._is_empty = True

    def feed(self, piece: str) -> str:
        """Take a piece of the answer.

        Args:
            piece: May end within a tag, or within a character.

        Returns:
            The text that is known to be no reasoning.
        """
        data = _joined(self._held + piece)
        self.is_reset = False
        kept, place = "", 0
        for tag in _TAG.finditer(data):
            if not self._depth:
                kept += data[place : tag.start()]
            place = tag.end()
            if not tag["closes"]:
                self._depth += 1
            elif self._depth:
                self._depth -= 1
            else:
                kept, self.is_reset, self._is_empty = "", True, True
        rest = data[place:]
        opens = _OPENS.search(rest[-_LONGEST_TAG:])
        cut = len(rest) - len(opens[0]) if opens else len(rest)
        if cut == len(rest) and rest and "\ud800" <= rest[-1] <= "\udbff":
            cut -= 1  # the other half may follow
        self._held = rest[cut:]
        return self._shown(kept + ("" if self._depth else rest[:cut]))

    def end(self) -> str:
        """Take the end of the answer; return the text that was held back."""
        rest, self._held = self._held, ""
        return self._shown("" if self._depth else _HALF.sub("\ufffd", rest))

    def _shown(self, text: str) -> str:
        if self._is_empty:
            text = text.lstrip()
            self._is_empty = not text
        return text


def _joined(text: str) -> str:
    """Join halves of characters, and replace lone ones but for the last."""
    if _HALF.search(text) is None:
        return text
    last = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
    data = text[: len(text) - len(last)].encode("utf-16-le", "surrogatepass")
    return data.decode("utf-16-le", "replace") + last
