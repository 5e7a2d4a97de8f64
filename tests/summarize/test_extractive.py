"""Summaries made of the text's own sentences."""
# ruff: noqa: RUF001 - other scripts are what is tested

import os
import random
import re
import socket
import subprocess
import sys
import time

import pytest

from taskflow_summarize._providers.extractive import extract
from taskflow_summarize._text.markup import to_plain
from taskflow_summarize._text.paragraphs import find_paragraphs
from taskflow_summarize._text.sentences import find_sentences
from taskflow_summarize._text.words import count_words
from taskflow_summarize.errors import ContentError
from taskflow_summarize.samples import Sample, load_samples

SAMPLES = load_samples()
TIDES = next(sample.text for sample in SAMPLES if sample.name == "tides")

samples = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def sentences_of(text: str, language: str) -> list[str]:
    """Split *text* as the summariser does."""
    return [
        sentence
        for paragraph in find_paragraphs(to_plain(text))
        for sentence in find_sentences(paragraph.text, language=language)
    ]


@samples
@pytest.mark.parametrize("max_words", [10, 40, 120, 400])
def test_a_summary_keeps_its_budget(sample: Sample, max_words: int) -> None:
    """Never a word more, and no less than it need be."""
    made = extract(sample.text, max_words=max_words)

    assert made.words == count_words(made.text)
    assert 0 < made.words <= max_words
    assert made.words >= max_words // 2


@samples
def test_every_sentence_is_from_the_source_and_in_its_order(sample: Sample) -> None:
    """Nothing is invented, nothing is turned round."""
    made = extract(sample.text, max_words=120)
    rest = made.text
    found = []
    for sentence in sentences_of(sample.text, sample.language):
        if rest.startswith(sentence):
            found.append(sentence)
            rest = rest[len(sentence) :].lstrip(" …")

    assert "" == rest
    assert len(found) >= 3


@samples
def test_the_language_of_a_text_is_seen(sample: Sample) -> None:
    """Latin, Cyrillic, Arabic and Japanese scripts."""
    assert sample.language == extract(sample.text, max_words=50).language


def test_the_same_text_gives_the_same_summary_in_every_process() -> None:
    """Not even the order of hashing, which differs from run to run, shows."""
    script = (
        "from taskflow_summarize._providers.extractive import extract\n"
        "from taskflow_summarize.samples import load_samples\n"
        "for sample in load_samples():\n"
        "    print(ascii(extract(sample.text, max_words=90)))\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert 1 == len(printed)


@pytest.mark.parametrize(
    ("language", "sentence", "full_stop"),
    [
        ("zh", "潮汐是由月亮和太阳的引力造成的海水涨落现象", "。"),
        ("ko", "조석은 달과 태양의 인력 때문에 바닷물이 오르내리는 현상이다", ". "),
        ("hi", "ज्वार भाटा चंद्रमा और सूर्य के आकर्षण से आता है", "। "),
        ("th", "น้ำขึ้นน้ำลงเกิดจากแรงดึงดูดของดวงจันทร์และดวงอาทิตย์", " "),
        ("el", "Η παλίρροια οφείλεται στην έλξη της Σελήνης και του Ήλιου", ". "),
        ("he", "הגאות והשפל נגרמים מכוח המשיכה של הירח והשמש", ". "),
        ("uk", "Припливи спричиняє тяжіння Місяця й Сонця, і вони її підіймають", ". "),
    ],
)
def test_a_script_of_its_own_rules_is_summarised(
    language: str, sentence: str, full_stop: str
) -> None:
    """Whole sentences within the budget, the language recognised."""
    text = "".join(f"{sentence} {number}{full_stop}" for number in range(40))
    made = extract(text, max_words=60)

    assert language == made.language
    assert 0 < made.words <= 60
    assert made.text.replace(" ", "").rstrip("…")[:20] in text.replace(" ", "")


def test_a_talk_without_punctuation_is_cut_at_clauses() -> None:
    """Pieces of some length, with a mark where something was left out."""
    talk = next(sample.text for sample in SAMPLES if sample.name == "bees")
    made = extract(talk, max_words=100)
    plain = " ".join(talk.split())

    assert " … " in made.text
    assert all(piece in plain for piece in made.text.split(" … "))
    assert 60 <= made.words <= 100


def test_wrapped_lines_become_sentences_again() -> None:
    """No sentence is cut at the end of a line."""
    unwrapped = "\n\n".join(" ".join(block.split()) for block in TIDES.split("\n\n"))

    assert extract(unwrapped, max_words=120).text == extract(TIDES, max_words=120).text


def test_markup_does_not_reach_the_summary() -> None:
    """A page, a Markdown file and the bare text say the same."""
    blocks = [" ".join(block.split()) for block in TIDES.split("\n\n")]
    page = (
        "<!DOCTYPE html><html><head><title>Tides</title><style>p {color: red}</style>"
        "<script>track('everything you read')</script></head><body><nav>Home</nav>"
        + "".join(f"<p>{block}</p>\n" for block in blocks[1:])
        + "<!-- a remark --></body></html>"
    )
    markdown = f"# Tides\n\n![wave](wave.png)\n\n{blocks[0]}\n====\n\n" + "\n\n".join(
        block.replace("the Moon", "[the **Moon**](https://example.org/moon)")
        for block in blocks[1:]
    )
    bare = extract(TIDES, max_words=120).text

    assert [bare, bare] == [
        extract(text, max_words=120).text for text in (page, markdown)
    ]


def test_a_short_text_is_given_back_whole() -> None:
    """What is within the budget already is not made shorter."""
    made = extract("# Note\n\nThe *tide* turns at noon.\n", max_words=10)

    assert "Note\n\nThe tide turns at noon." == made.text
    assert made.is_whole


def test_a_sentence_longer_than_the_budget_is_cut_and_says_so() -> None:
    """Better a beginning than nothing."""
    text = " ".join(f"word{number}" for number in range(60)) + "."
    made = extract(text, max_words=10)

    assert ("word0 word1 word2 word3 word4 word5 word6 word7 word8 word9 …", True) == (
        made.text,
        made.is_cut,
    )


def test_a_text_that_is_all_code_is_summarised_by_its_lines() -> None:
    """Somebody who sends code wants to see some of it."""
    text = "```\n" + "".join(f"call number_{n} now\n" for n in range(50)) + "```\n"

    assert extract(text, max_words=12).text.startswith("call number_0 now")


@pytest.mark.parametrize("content", ["...", "--- *** ---", "<p></p><p></p><p></p>"])
def test_a_text_without_a_word_is_refused(content: str) -> None:
    """There is nothing to be summarised, and it is said."""
    with pytest.raises(ContentError, match="not one word"):
        extract(content, max_words=50)


@pytest.mark.parametrize(
    "junk",
    [
        "a" * 300_000,
        "x " * 150_000,
        "<p>" * 100_000 + "word",
        "<p><p><p>" + "<script>" * 40_000 + "word",
        "<p><p><p>" + "<!--" * 80_000 + "word",
        "**a" * 100_000,
        "![a](" * 60_000,
        "` a" * 100_000,
        "e.g. " * 60_000,
        '."' * 150_000 + "word",
        "a::\n" * 75_000 + "word",
        "`a <" * 75_000 + "word",
        "`a\n" * 100_000 + "word",
        "[a" * 150_000 + "]_ word",
        "a\n" * 150_000,
        "\n" * 300_000 + "word",
        "猫" * 100_000,
        "สวัสดี" * 50_000,
    ],
    ids=lambda junk: ascii(junk[:12]),
)
def test_junk_takes_linear_time_and_keeps_the_budget(junk: str) -> None:
    """Ten times as much takes about ten times as long, never a hundred times."""
    small = junk[: len(junk) // 10] + " word"
    short = min(_seconds(small) for _ in range(3))
    most = 35 * max(short, 0.005)

    # Once is enough: what is quadratic takes a hundred times as long every time.
    assert any(_seconds(junk) < most for _ in range(3))
    assert len(extract(junk, max_words=50).text) <= 50 * 31


def _seconds(text: str) -> float:
    started = time.process_time()
    extract(text, max_words=50)
    return time.process_time() - started


def test_a_blocked_network_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is fetched, no service asked: there is nothing to be reached."""
    before = extract(TIDES, max_words=90)

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    script = (
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    if event.startswith('socket.'):\n"
        "        raise SystemExit(f'{event} in an offline summary')\n"
        "sys.addaudithook(refuse)\n"
        "from taskflow_summarize._providers.extractive import extract\n"
        "from taskflow_summarize.samples import load_samples\n"
        "for sample in load_samples():\n"
        "    extract(sample.text, max_words=90)\n"
    )

    assert before == extract(TIDES, max_words=90)
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.timed
@pytest.mark.timeout(120)
def test_twice_the_text_takes_twice_the_time() -> None:
    """The best of three, so that a busy machine is not taken for a slow program."""
    short, long = _prose_of(1_000_000), _prose_of(2_000_000)
    _seconds(short)
    once = min(_seconds(short) for _ in range(3))
    twice = min(_seconds(long) for _ in range(3))

    assert twice <= 2.6 * once


@pytest.mark.timed
@pytest.mark.timeout(120)
def test_ten_megabytes_take_seconds() -> None:
    """The bound is generous; a calm machine needs about 6 s."""
    text = _prose_of(10_000_000)
    started = time.process_time()
    made = extract(text, max_words=200)

    assert time.process_time() - started < 20
    assert 100 < made.words <= 200


def _prose_of(least: int) -> str:
    rng = random.Random(7)
    stock = [s for sample in SAMPLES for s in re.split(r"(?<=\.)\s", sample.text)]
    pieces: list[str] = []
    size = 0
    while size < least:
        piece = f"{rng.choice(stock)} Number {rng.randrange(10**6)} follows."
        pieces.append(piece)
        size += len(piece.encode())
    return "\n".join(pieces)
