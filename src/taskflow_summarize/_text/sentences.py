"""Paragraphs to sentences, in one pass and without a model.

A mark that may end a sentence is judged by what stands before it (an abbreviation,
an initial, an ordinal number) and what follows (a small letter, a closing quotation,
a word that opens sentences). Text without such marks, such as the transcript of a
talk, is cut into stretches of 12 to 40 words at words that open a clause.
``docs/internals/sentences.md`` compares this with the libraries for it.
"""
# ruff: noqa: RUF001 - the marks of many scripts are the matter of this module

import re
from collections.abc import Iterator
from typing import Final

from taskflow_summarize._text.words import count_words, word_set

_CLOSERS: Final = "\"'”’»›)]」』）】〉》*_"
_OPENERS: Final = "\"'“‘«‹¿¡([*_-–—"
_ENDERS: Final = ".!?…。！？｡؟۔।॥។៕።։"

_EMOJI: Final = "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d]"
_THAI: Final = "[\u0e01-\u0eff]"  # and Lao: a space, and no mark, ends a sentence
_LEAST_THAI: Final = 15  # characters; a space stands between shorter parts too
_LEAST_BEFORE_EMOJI: Final = 3  # words; "I 💙 Rome" is one sentence

_BOUNDARY: Final = re.compile(
    # Ends a sentence wherever it stands, unless the quotation goes on.
    r"(?P<dense>[。！？｡][。！？｡…]*(?P<quoted>[」』）】〉》”’]*))(?P<gap>\s*)"
    # Ends one when a space follows.
    r"|(?P<mark>[.!?…؟۔।॥។៕።։]+)(?P<closed>(?:[\"'”’›)\]]|\s?»)*)(?:\[\d{1,3}\])*"
    rf"(?P<mood>(?:\s?{_EMOJI})*)\s+"
    rf"|(?P<emoji>{_EMOJI}+)\s+"
    rf"|(?P<thai>(?<={_THAI})\s(?={_THAI}))"
)
_CAPITALISED: Final = re.compile(r"[a-z]{1,2}[A-Z]")  # iPhone, eBay
_GOES_ON: Final = re.compile("[とっ、をがはにのもで]")

# What does not end a sentence although a full stop and a capital follow.
_ABBREVIATIONS: Final = word_set(
    "adj adm al apr approx aug ave bldg brig bros ca capt cf ch chap col cmdr",
    "dec dept dir dr ed eds eg esq est eq eqs feb figs fn gen gov hon ie incl jan",
    "jr jul jun lt ltd maj misc mr mrs ms mt nos nov num oct op p par pp",
    "prof pt ref refs rep rev sect sen sep sept sgt sr st vol vols vs v",
    "bd bspw bzw d dgl evtl fr ggf hr hrsg inkl mio mrd nr sog str tel u vgl",
    "z zb zzgl zzt",
    "av boul déc env éd ex hab janv juil mlle mm mme numéro trad",
    "avda dña núm pág págs sra sta sto uds",
    "dott ecc ing mons pag rif sig",
    "г гг др им млн млрд пр проф рис см стр т тыс ул",
)
# Words as well: abbreviations only where a number follows.
_BEFORE_NUMBERS: Final = word_set("art ex fam fig max min no par sec tab")
# Abbreviations only where no word follows that opens sentences.
_OPENING_WORDS: Final = word_set(
    "after all although an and as at because before both but by during each every",
    "for from he her here his how however if in it its later many most my no not now",
    "on once one our she since so some still that the their then there these they this",
    "those thus to today two we what when where which while who why with yet you your",
)
_DAYS_AND_ZONES: Final = word_set(
    "monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat",
    "sun january february march april may june july august september october november",
    "december bst cet cest edt est et gmt mst mt pdt pst pt utc",
)
# One letter after these is a name of its own, not an initial.
_BEFORE_LETTERS: Final = word_set(
    "answer appendix case category class column drive exhibit figure gate grade group",
    "hepatitis item letter level model option part phase plan platform point question",
    "row sample section side step table team terminal type variant version vitamin zone",
)
_NUMBER: Final = re.compile(r"[\d.,]*\d")
_WORD: Final = re.compile(r"\w+")
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
    last = stripped[-1:]
    return last != "" and (last in _ENDERS or re.match(_EMOJI, last) is not None)


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
    if match["thai"]:
        return match.start() - start >= _LEAST_THAI
    if following.islower() and not _CAPITALISED.match(text, match.end()):
        return False
    if match["emoji"]:
        return len(text[start : match.start()].split()) >= _LEAST_BEFORE_EMOJI
    is_full_stop = match["mark"] == "." and not match["closed"] and not match["mood"]
    return not is_full_stop or _ends_at_full_stop(text, start, match, ordinals=ordinals)


def _ends_at_full_stop(
    text: str, start: int, match: re.Match[str], *, ordinals: bool
) -> bool:
    stop = match.start("mark")
    before = text[max(start, stop - 24) : stop]
    earlier, _, word = before.rpartition(" ")
    word = word.lstrip(_OPENERS)
    if _NUMBER.fullmatch(word):
        is_list_number = stop - len(word) == start
        return len(word) > _ORDINAL_DIGITS or not (ordinals or is_list_number)
    found = _WORD.search(text, match.end())
    next_word = found[0].lower() if found else ""
    if len(word) == 1 and word.isupper() and word != "I":  # not "so did I"
        label = earlier[earlier.rfind(" ") + 1 :].lower()
        return label in _BEFORE_LETTERS or next_word in _OPENING_WORDS
    return not _is_abbreviation(word.lower(), next_word)


def _is_abbreviation(word: str, next_word: str) -> bool:
    if word in _BEFORE_NUMBERS:
        return next_word.isdigit()
    if word in {"a.m", "p.m"}:
        return next_word in _DAYS_AND_ZONES
    if "." in word:
        is_short = all(len(part) <= _ABBREVIATED for part in word.split("."))
        return is_short and next_word not in _OPENING_WORDS
    return word in _ABBREVIATIONS


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
