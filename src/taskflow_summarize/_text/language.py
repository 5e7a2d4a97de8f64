"""Guess the language of a text: by its script, else by its commonest words.

It serves the instruction to a model ("write in Italian"), the annotation of a
record and a few rules of splitting. It is meant for texts of some sentences; where
it is not sure it says so.
"""

import re
from collections import Counter
from typing import Final

from taskflow_summarize._text.words import find_tokens

_SAMPLED_CHARACTERS: Final = 20_000
_LEAST_HITS: Final = 3
_LEAST_LEAD: Final = 1.2

# The commonest short words; those that many languages share decide nothing.
_COMMON_WORDS: Final = {
    "cs": "a se na je že to v s z do jsou který která by jako ale jeho aby byl není",
    "da": "og er det en til på som af der ikke den med at et var har fra være blev",  # codespell:ignore
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein",  # codespell:ignore
    "en": "the of and to in is that it was for on are as with be at this have from",
    "es": "de la que el en y los se del las un por con no una su para es al como",
    "fi": "ja on ei että se oli hän ovat mutta kun myös joka niin kuin sen tai ole",
    "fr": "de la le et les des en un du une que est pour qui dans par sur pas au",
    "hu": "a az és hogy nem is egy ez volt meg csak de mint már még ki lehet vagy",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam pada adalah akan juga",
    "it": "di che e la il un a per è in una sono non con del della le si da gli",
    "nl": "de en van het een in is dat op te zijn voor met niet aan er die ook als",  # codespell:ignore
    "no": "og er det en til på som av ikke den med at et var har fra være ble seg",  # codespell:ignore
    "pl": "w i na nie się że z do to jest o jak po co ale przez tym był jego oraz",
    "pt": "de que e o a do da em um para com não uma os no se na por mais dos as",
    "ro": "de și în la a că nu cu pe un o este din să pentru care mai fost sunt",
    "sv": "och i att det som en på är av för med till den har inte om ett han var",  # codespell:ignore
    "tr": "ve bir bu da de için ile olarak çok daha olan gibi ne kadar ama var en",  # codespell:ignore
    "vi": "và của là có không được cho trong một những các với này người đã để khi",
}
_LANGUAGES_OF: Final[dict[str, list[str]]] = {}
for _code, _words in _COMMON_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_code)

# Script, in the order of asking: kana before Chinese characters.
_SCRIPTS: Final = (
    ("ja", re.compile("[\u3041-\u30ff]")),
    ("zh", re.compile("[\u3400-\u9fff]")),
    ("ko", re.compile("[\uac00-\ud7a3]")),
    ("th", re.compile("[\u0e01-\u0e5b]")),
    ("el", re.compile("[\u0370-\u03ff\u1f00-\u1fff]")),
    ("he", re.compile("[\u05d0-\u05ea]")),
    ("cyrillic", re.compile("[\u0400-\u04ff]")),
    ("arabic", re.compile("[\u0620-\u06ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("bn", re.compile("[\u0980-\u09ff]")),
    ("ta", re.compile("[\u0b80-\u0bff]")),
    ("te", re.compile("[\u0c00-\u0c7f]")),  # codespell:ignore
    ("ka", re.compile("[\u10a0-\u10ff]")),
    ("hy", re.compile("[\u0530-\u058f]")),
    ("am", re.compile("[\u1200-\u137f]")),
    ("my", re.compile("[\u1000-\u109f]")),
    ("km", re.compile("[\u1780-\u17ff]")),
    ("lo", re.compile("[\u0e80-\u0eff]")),
)
_LETTER: Final = re.compile(r"[^\W\d_]")
_SHARE_OF_SCRIPT: Final = 0.3
_SHARE_OF_KANA: Final = 0.05  # in Japanese; the rest is Chinese characters

# Letters that only some of the languages of one script have.
_MARKS: Final = {
    "cyrillic": (("uk", "іїєґ"), ("sr", "ђћџљњј"), ("ru", "ыэё"), ("bg", "ъ")),
    "arabic": (("ur", "ٹڈڑےں"), ("fa", "پچژگی"), ("ar", "ةىأإ")),
}

NAMES: Final = {
    "am": "Amharic",
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "hy": "Armenian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ka": "Georgian",
    "km": "Khmer",
    "ko": "Korean",
    "lo": "Lao",
    "my": "Burmese",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sr": "Serbian",
    "sv": "Swedish",
    "ta": "Tamil",
    "te": "Telugu",  # codespell:ignore
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


def guess_language(text: str) -> str | None:
    """Guess the language that most of *text* is in.

    Args:
        text: Plain text; its first 20,000 characters are looked at.

    Returns:
        A code of ISO 639-1 and a key of `NAMES`; None where nothing stands out.

    Example:
        >>> guess_language("The cat sat on the mat and it was happy with that.")
        'en'
        >>> guess_language("x = 1") is None
        True
    """
    sample = text[:_SAMPLED_CHARACTERS]
    letters = len(_LETTER.findall(sample))
    if not letters:
        return None
    if not sample.isascii():
        for code, pattern in _SCRIPTS:
            share = len(pattern.findall(sample)) / letters
            if share >= (_SHARE_OF_KANA if code == "ja" else _SHARE_OF_SCRIPT):
                return _by_letters(code, sample) if code in _MARKS else code
    return _by_words(sample)


def _by_letters(script: str, sample: str) -> str:
    counts = Counter(sample.casefold())
    marks = _MARKS[script]
    hits = {code: sum(counts[letter] for letter in few) for code, few in marks}
    best = max(hits, key=lambda code: hits[code])
    if hits[best]:
        return best
    return "ru" if script == "cyrillic" else "ar"


def _by_words(sample: str) -> str | None:
    scores: dict[str, float] = {}
    hits: Counter[str] = Counter()
    for word, times in Counter(find_tokens(sample)).items():
        codes = _LANGUAGES_OF.get(word, [])
        for code in codes:
            scores[code] = scores.get(code, 0.0) + times / len(codes)
            hits[code] += times
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    if not ranked or hits[ranked[0][0]] < _LEAST_HITS:
        return None
    if len(ranked) > 1 and ranked[0][1] < _LEAST_LEAD * ranked[1][1]:
        return None
    return ranked[0][0]
