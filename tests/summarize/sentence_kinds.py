"""Sentence ends of 41 kinds; ``tests/benchmarks/sentences.py`` compares libraries."""
# ruff: noqa: RUF001 - the marks of many scripts are the subject

from typing import Final, NamedTuple


class Kind(NamedTuple):
    """One kind of sentence end.

    Attributes:
        name: What is difficult about it.
        language: Code of the text's language.
        sentences: The sentences of the text, in order.
    """

    name: str
    language: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return ("" if self.language in {"ja", "zh"} else " ").join(self.sentences)


def _en(name: str, *sentences: str) -> Kind:
    return Kind(name, "en", sentences)


KINDS: Final = (
    _en("title before a name", "Dr. Snow met Mrs. Lee.", "They spoke."),
    _en("the answer no", "Did he stay?", "He said no.", "Then he left."),
    _en("a word that looks like an abbreviation", "Close the tab.", "Open a new one."),
    _en("number", "Take bus No. 5 there.", "It is red."),
    _en("time of day, then a small letter", "We met at 9 p.m. on Monday.", "It rained."),
    _en("time of day at the end", "We met at 9 p.m.", "Then we left."),
    _en("time of day before a name of a day", "Come at 9 a.m. Monday.", "Bring it."),
    _en("country before a name", "The U.S. Senate voted.", "It passed."),
    _en("country at the end", "He lives in the U.S.", "She does not."),
    _en("one letter at the end", "Lemons have vitamin C.", "Eat one a day."),
    _en("plan of one letter", "We need a plan B.", "The first one failed."),
    _en("initials", "J. K. Rowling wrote it.", "It sold well."),
    _en("one initial", "George W. Bush spoke.", "They listened."),
    _en("the word I", "So did I.", "We left together."),
    _en("brand in camel case", "I lost my phone.", "iPhone prices rose.", "I wait."),
    _en("another brand in camel case", "We sold it.", "eBay took a share."),
    _en("for example", "Use a tool, e.g. Git.", "It helps."),
    _en("and others", "As Kim et al. (2019) show, it works.", "We agree."),
    _en("and so on, at the end", "Bring pens, paper, etc.", "The room is open."),
    _en("company, then a verb", "Apple Inc. grew.", "Its rivals fell."),
    _en("academic degree", "She has a Ph.D. in law.", "He has none."),
    _en("month", "It began on Jan. 5 of that year.", "It ended soon."),
    _en("saint", "He lives in St. John now.", "It is warm."),
    _en("decimal at the end", "Pi is about 3.14.", "It never ends."),
    _en("address of a site", "Look at www.example.com for more.", "It is free."),
    _en("emoji after the mark", "We won! 🎉", "Then we slept."),
    _en("emoji instead of a mark", "What a day 🎉", "We won the cup."),
    _en("ellipsis that goes on", "He waited ... and waited.", "Then he left."),
    _en("ellipsis at the end", "He waited...", "Then he left."),
    _en("speech, then a verb", "“Go!” she said.", "He went."),
    _en("speech at the end", "She said “Go.”", "He went."),
    _en("parentheses", "He came (late).", "She had left."),
    _en("numbered steps", "1. Boil the water.", "2. Add the salt."),
    _en("footnote", "The sea rose.[1]", "Then it fell."),
    Kind("ordinal number", "de", ("Am 3. Mai kam sie.", "Er kam nie.")),  # codespell:ignore
    Kind("abbreviation of two words", "de", ("Es gibt z. B. Obst.", "Iss es.")),
    Kind("title and quotation", "fr", ("« Venez ! » dit M. Foch.", "Il sourit.")),
    Kind("inverted marks", "es", ("¿Qué hora es?", "¡Es tarde!", "Vámonos.")),
    Kind("no spaces", "ja", ("「行くよ。」と彼は言った。", "そして出た！")),
    Kind("danda", "hi", ("यह पहला वाक्य है।", "यह दूसरा है।")),
    Kind(
        "no marks",
        "th",
        ("วันนี้อากาศดีมากเลย", "ฉันจึงไปเดินเล่นที่สวนสาธารณะ", "เขาอยู่บ้านทั้งวันเพราะไม่สบาย"),
    ),
)  # fmt: skip
