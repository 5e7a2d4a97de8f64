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
_OPENS: Final = re.compile(r"[<◁][^>▷]*\Z")
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
        self._skipped = ""
        self._is_aside = False
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
            before = data[place : tag.start()]
            place = tag.end()
            if self._depth:
                self._skipped += before + tag[0]
                self._depth += -1 if tag["closes"] else 1
            elif tag["closes"]:
                kept, self.is_reset, self._is_empty = "", True, True
            else:
                kept += before
                self._depth = 1
                # In the middle of a text the tag may be what the text is about.
                self._is_aside = bool(kept.strip()) or not self._is_empty
                self._skipped = tag[0]
        rest = data[place:]
        opens = _OPENS.search(rest[-_LONGEST_TAG:])
        cut = len(rest) - len(opens[0]) if opens else len(rest)
        if cut == len(rest) and rest and "\ud800" <= rest[-1] <= "\udbff":
            cut -= 1  # the other half may follow
        self._held = rest[cut:]
        if self._depth:
            self._skipped += rest[:cut]
        else:
            kept += rest[:cut]
        return self._shown(kept)

    def end(self) -> str:
        """Take the end of the answer.

        Returns:
            The text that was held back. A tag that was opened in the middle of the
            text and never closed is part of the text, and so is what follows it.
        """
        rest, self._held = self._held, ""
        if self._depth:
            rest = self._skipped + rest if self._is_aside else ""
        return self._shown(_HALF.sub("\ufffd", rest))

    def _shown(self, text: str) -> str:
        if self._is_empty:
            text = text.lstrip()
            self._is_empty = not text
        return text


def _joined(text: str) -> str:
    """Join halves of characters, and replace lone ones, except for one at the end."""
    if _HALF.search(text) is None:
        return text
    last = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
    data = text[: len(text) - len(last)].encode("utf-16-le", "surrogatepass")
    return data.decode("utf-16-le", "replace") + last
