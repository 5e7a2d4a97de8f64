"""Splitters of sentences on 41 kinds of sentence ends, for internals/sentences.md.

``python tests/benchmarks/sentences.py`` compares the libraries that are installed.
"""

import importlib
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

from taskflow_summarize._text.sentences import find_sentences

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.summarize.sentence_kinds import KINDS, Kind


def wrong(split: Callable[[str, str], list[str]]) -> list[Kind]:
    """Return the kinds whose sentences *split* does not find.

    Args:
        split: Splits a text; its second argument is the language's code.
    """
    return [
        kind
        for kind in KINDS
        if [each.strip() for each in split(kind.text, kind.language)]
        != list(kind.sentences)
    ]


def _pysbd(text: str, language: str) -> list[str]:
    pysbd = importlib.import_module("pysbd")
    known = language if language in {"de", "en", "es", "fr", "hi", "ja"} else "en"
    found: list[str] = pysbd.Segmenter(language=known, clean=False).segment(text)
    return found


def _sentencex(text: str, language: str) -> list[str]:
    return list(importlib.import_module("sentencex").segment(language, text))


def _nupunkt(text: str, language: str) -> list[str]:
    del language
    return list(importlib.import_module("nupunkt").sent_tokenize(text))


def _syntok(text: str, language: str) -> list[str]:
    del language
    segmenter = importlib.import_module("syntok.segmenter")
    return [
        "".join(token.spacing + token.value for token in sentence)
        for paragraph in segmenter.process(text)
        for sentence in paragraph
    ]


def _blingfire(text: str, language: str) -> list[str]:
    del language
    lines: str = importlib.import_module("blingfire").text_to_sentences(text)
    return lines.split("\n")


def _ours(text: str, language: str) -> list[str]:
    return find_sentences(text, language=language)


SPLITTERS: Final = {
    "taskflow_summarize": _ours,
    "pysbd": _pysbd,
    "sentencex": _sentencex,
    "nupunkt": _nupunkt,
    "syntok": _syntok,
    "blingfire": _blingfire,
}


def main() -> None:
    """Print how many of the kinds each installed splitter gets right, and how fast."""
    long = " ".join(kind.text for kind in KINDS if kind.language == "en") * 20
    for name, split in SPLITTERS.items():
        try:
            missed = wrong(split)
        except ModuleNotFoundError:
            print(f"{name}: not installed")
            continue
        began = time.process_time()
        split(long, "en")
        speed = len(long) / (time.process_time() - began) / 1e6
        version = "" if name == "taskflow_summarize" else metadata.version(name)
        right = len(KINDS) - len(missed)
        print(f"{name} {version}: {right} of {len(KINDS)}, {speed:.1f} MB/s; wrong:")
        print("   ", ", ".join(kind.name for kind in missed))


if __name__ == "__main__":
    main()
