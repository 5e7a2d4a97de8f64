"""Paragraphs to sentences, in one pass and without a model.

A mark that may end a sentence is looked at with what stands before it (an
abbreviation, an initial, an ordinal number) and what follows (a small letter, a
closing quotation). Text that has no such marks, a talk as a machine wrote it
down, is cut into stretches of 12 to 40 words at words that open a clause.
"""
# ruff: noqa: RUF001 - the marks of many scripts are the matter of this module

import re
from collections.abc import Iterator
from typing import Final

from taskflow_summarize._text.words import count_words, word_set

_CLOSERS: Final = "\"'”’»›)]」』）】〉》*_"
_OPENERS: Final = "\"'“‘«‹¿¡([*_-–—"
_ENDERS: Final = ".!?…。！？｡؟۔।॥។៕።։"

_BOUNDARY: Final = re.compile(
    # Ends a sentence wherever it stands, unless the quotation goes on.
    r"(?P<dense>[。！？｡][。！？｡…]*(?P<quoted>[」』）】〉》”’]*))(?P<gap>\s*)"
    # Ends one when a space follows.
    r"|(?P<mark>[.!?…؟۔।॥។៕።։]+)(?P<closed>(?:[\"'”’›)\]]|\s?»)*)(?:\[\d{1,3}\])*\s+"
)
_GOES_ON: Final = re.compile("[とっ、をがはにのもで]")

# What does not end a sentence although a full stop and a capital follow.
_ABBREVIATIONS: Final = word_set(
    "adj adm al apr approx art aug ave bldg brig bros ca capt cf ch chap col cmdr",
    "dec dept dir dr ed eds eg esq est eq eqs feb fig figs fn gen gov hon ie incl jan",
    "jr jul jun lt ltd maj max min misc mr mrs ms mt no nos nov num oct op p par pp",
    "prof pt ref refs rep rev sec sect sen sep sept sgt sr st vol vols vs v",
    "bd bspw bzw d dgl evtl fam fr ggf hr hrsg inkl mio mrd nr sog str tab tel u vgl",
    "z zb zzgl zzt",
    "av boul déc env éd ex hab janv juil mlle mm mme numéro trad",
    "avda dña núm pág págs sra sta sto uds",
    "dott ecc ing mons pag rif sig",
    "г гг др им млн млрд пр проф рис см стр т тыс ул",
)
# Written with a full stop after the number, and then with a capital.
_WITH_ORDINALS: Final = frozenset(
    {"cs", "da", "de", "et", "fi", "hr", "hu", "no", "nb", "pl", "sk", "sl", "tr"}
)

_ORDINAL_DIGITS: Final = 2
_ABBREVIATED: Final = 2  # letters between the stops of "e.g." and "U.S."

# Stretches of text without marks, in words and in characters.
LONGEST_WORDS: Final = 100
_LONGEST_CHARACTERS: Final = 1000
_STRETCH_WORDS: Final = 40
_STRETCH_FROM: Final = 12
_STRETCH_CHARACTERS: Final = 300
_TOKEN_CHARACTERS: Final = 60
_CLAUSE_OPENERS: Final = word_set(
    "and but so because now then well okay also when while which where if",
    "und aber weil denn dann wenn obwohl damit",
    "et mais donc alors parce quand puis car si",
    "y pero porque entonces cuando aunque luego",
    "e ma perché quindi allora quando poi però",
    "mas porque então depois en maar want dus toen als",  # codespell:ignore
    "и но а потому когда если тогда",
)


def ends_sentence(text: str) -> bool:
    """Tell whether *text* ends with a mark that ends a sentence."""
    stripped = text[-12:].rstrip(_CLOSERS)
    return stripped[-1:] in _ENDERS and stripped != ""


def find_sentences(paragraph: str, *, language: str | None = None) -> list[str]:
    """Split one paragraph into sentences.

    Args:
        paragraph: One line, single spaces.
        language: Its code, or None; some write ordinal numbers with a full stop.

    Returns:
        Sentences in order, none empty; joined by spaces (by nothing where the
        script has none) they are the paragraph again. None is longer than 100
        words or 1000 characters: what is longer is cut into stretches.

    Example:
        >>> find_sentences("Dr. Snow knew. Did he? He did, in 1854.")
        ['Dr. Snow knew.', 'Did he?', 'He did, in 1854.']
    """
    sentences: list[str] = []
    start = 0
    ordinals = language in _WITH_ORDINALS
    for match in _BOUNDARY.finditer(paragraph):
        if not _is_boundary(paragraph, start, match, ordinals=ordinals):
            continue
        end = match.start("gap") if match["dense"] else match.end()
        sentence = paragraph[start:end].rstrip()
        if sentence:
            sentences.extend(_cut(sentence))
        start = match.end()
    rest = paragraph[start:].strip()
    if rest:
        sentences.extend(_cut(rest))
    return sentences


def _is_boundary(
    text: str, start: int, match: re.Match[str], *, ordinals: bool
) -> bool:
    following = text[match.end() : match.end() + 2].lstrip(_OPENERS)[:1]
    if match["dense"]:
        return not (match["quoted"] and _GOES_ON.match(following))
    if following.islower():
        return False
    if match["mark"] != "." or match["closed"]:
        return True
    stop = match.start("mark")
    before = text[max(start, stop - 24) : stop]
    word = before[before.rfind(" ") + 1 :].lstrip(_OPENERS)
    if word.isdigit():
        is_list_number = stop - len(word) == start
        return len(word) > _ORDINAL_DIGITS or not (ordinals or is_list_number)
    return not _is_abbreviation(word)


def _is_abbreviation(word: str) -> bool:
    if len(word) == 1 and word.isupper():
        return word != "I"  # an initial, not the end of "so did I"
    if "." in word:
        return all(len(part) <= _ABBREVIATED for part in word.split("."))
    return word.lower() in _ABBREVIATIONS


def _cut(sentence: str) -> Iterator[str]:
    if len(sentence) <= _STRETCH_CHARACTERS:
        yield sentence
        return
    if len(sentence) <= _LONGEST_CHARACTERS and count_words(sentence) <= LONGEST_WORDS:
        yield sentence
        return
    stretch: list[str] = []
    words = characters = 0
    for space, token in _tokens(sentence):
        size = count_words(token)
        opens_clause = words >= _STRETCH_FROM and token.casefold() in _CLAUSE_OPENERS
        if stretch and (
            opens_clause
            or words + size > _STRETCH_WORDS
            or characters + len(token) > _STRETCH_CHARACTERS
        ):
            yield "".join(stretch)
            stretch, words, characters = [], 0, 0
        stretch.append(space + token if stretch else token)
        words += size
        characters += len(token) + 1
    if stretch:
        yield "".join(stretch)


def _tokens(sentence: str) -> Iterator[tuple[str, str]]:
    """Yield what stands before each token, a space or nothing, and the token."""
    for token in sentence.split():
        if len(token) <= _TOKEN_CHARACTERS:
            yield " ", token
            continue
        # Junk, or a script without spaces and without marks.
        yield " ", token[:_TOKEN_CHARACTERS]
        for start in range(_TOKEN_CHARACTERS, len(token), _TOKEN_CHARACTERS):
            yield "", token[start : start + _TOKEN_CHARACTERS]
