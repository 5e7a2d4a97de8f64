"""Markup, paragraphs, sentences, words and languages, each by itself."""
# ruff: noqa: RUF001 - other scripts are what is tested

import pytest

from taskflow_summarize._text.language import NAMES, guess_language
from taskflow_summarize._text.markup import HEADING, to_plain
from taskflow_summarize._text.paragraphs import find_paragraphs
from taskflow_summarize._text.ranking import Sentence, Vectors, choose, rank
from taskflow_summarize._text.sentences import ends_sentence, find_sentences
from taskflow_summarize._text.words import count_words, cut_to_words, find_terms


@pytest.mark.parametrize(
    ("content", "plain"),
    [
        ("plain text, 2 < 3 and 5 > 4", "plain text, 2 < 3 and 5 > 4"),
        ("a\r\nb\rc\x85d\u2028e", "a\nb\nc\nd\ne"),
        ("soft\xadhyphen\x07 bell\u200b", "softhyphen bell"),
        ("use <filename> here", "use <filename> here"),
        ("a <b>bold</b><br>line", "a bold\nline"),
        ("# Title #\ntext", f"{HEADING}Title\ntext"),
        ("Title\n=====\ntext", f"{HEADING}Title\n\ntext"),
        ("text\n\n---\n\nmore", "text\n\n\n\nmore"),
        ("before\n```python\ncode()\n```\nafter", "before\n\n\nafter"),
        ("not closed\n```\ntext stays", "not closed\n```\ntext stays"),
        ("---\ntitle: x\ntags: [a]\n---\ntext", "text"),
        ("> quoted\n>> twice", "quoted\ntwice"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\ntext", "\n\n\ntext"),
        ("see [the *page*](http://x.y/z) or ![pic](p.png)", "see the page or "),
        ("snake_case_name and 2*3*4", "snake_case_name and 2*3*4"),
        ("`code`, ``more`` and :ref:`role`", "code, more and role"),
        (".. note:: aside\n.. _label:\ntext", "\n\ntext"),
        ("[1]: http://example.org\ntext", "\ntext"),
        ("so::\n\n   code()\n\n   more()\n\nafter", "so:\n\n\n\nafter"),
        ("- so::\n\n    code()\n\n  goes on", "- so:\n\n\n  goes on"),
        (".. code-block:: c\n\n   code()\n\nafter", "\n\n\nafter"),
        (".. note::\n\n   stays", "\n\n   stays"),
        (">>> f(1)\n2\n\nafter", "\nafter"),
        (">>> he said\n>>> she said", "he said\nshe said"),
        ("`a link <http://x.y>`_, `one`_ and :ref:`two <t>`", "a link, one and two"),
        ("said before [1]_, [#n-2]_ and a[0]_x", "said before, and a[0]_x"),
        ("`over two\nlines`", "over two\nlines"),
        ("1\n00:00:01,000 --> 00:00:02,500\nHello\n", "Hello\n"),
        ("e\u0301", "é"),
    ],
)
def test_markup_is_stripped_and_text_is_not(content: str, plain: str) -> None:
    """What a reader would not read is gone, and nothing else is."""
    assert plain == to_plain(content)


def test_a_page_keeps_its_blocks_apart_and_its_lines_together() -> None:
    """On a page the tags make the paragraphs, and entities are characters."""
    page = (
        "<html><head><title>T</title><script>if (a < b) {}</script></head><body>"
        "<h1>One</h1><p>First\nline &amp; second.</p><ul><li>x</li><li>y</li></ul>"
        "<pre>code</pre></body></html>"
    )

    assert [("T", True), ("One", True), ("First line & second.", False)] == [
        (each.text, each.is_heading) for each in find_paragraphs(to_plain(page))
    ][:3]


def test_an_element_that_never_ends_hides_nothing() -> None:
    """A forgotten closing tag does not swallow the page."""
    page = "<body><p>one</p><nav><p>two</p><!-- three <p>four</p>"

    assert "four" in to_plain(page)
    assert "two" in to_plain(page)


@pytest.mark.parametrize(
    ("plain", "paragraphs"),
    [
        ("", []),
        ("One line\nand its end.", ["One line and its end."]),
        ("- first\n- second\n  goes on", ["first", "second goes on"]),
        ("1. eggs\n2) milk\n(3) salt", ["eggs", "milk", "salt"]),
        ("An exam-\nple of wrapping.", ["An example of wrapping."]),
        ("吾輩は\n猫である。", ["吾輩は猫である。"]),
    ],
)
def test_lines_are_joined_where_they_belong_together(
    plain: str, paragraphs: list[str]
) -> None:
    """Wrapped prose is one paragraph; items of a list are several."""
    assert paragraphs == [each.text for each in find_paragraphs(plain)]


def test_the_short_last_line_of_a_wrapped_paragraph_ends_it() -> None:
    """Also where no blank line follows."""
    plain = (
        "The first paragraph fills its lines up to the margin of the page\n"
        "and ends early.\n"
        "The second paragraph fills its lines up to the margin as well, so\n"
        "it is another."
    )

    assert 2 == len(find_paragraphs(plain))


def test_a_short_line_by_itself_is_a_heading() -> None:
    """And is not taken for a sentence."""
    found = find_paragraphs("A title\n\nThis is the text below it.\n\nIt ends.")

    assert [True, False, False] == [each.is_heading for each in found]


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Dr. No met Mr. J. R. Smith at 3.15 p.m. on Sunday.", "They left."]),
        ("en", ["So did I.", "Then we left for the U.S. by ship."]),
        ("en", ["“Stop!” he cried.", "(She did.)", "Why?"]),
        ("en", ["1. The first point stands.", "2. The second falls."]),
        ("en", ["It ends here.[12]", "It goes on."]),
        ("en", ["Wait… what?", "No!"]),
        (
            "de",
            [
                "Am 3. Mai kam Dr. Weiß, d. h. zu spät.",
                "Er blieb bis zum 12. Juni.",  # codespell:ignore
            ],
        ),
        ("fr", ["M. Dupont habite av. Foch, no. 5.", "« Venez ! » dit-il."]),
        ("es", ["¿Qué hora es?", "¡Es tarde!", "Vámonos."]),
        ("ja", ["「行くよ。」と彼は言った。", "そして出た！", "本当？"]),
        ("hi", ["यह पहला वाक्य है।", "यह दूसरा है।"]),
        ("ar", ["هل وصلت؟", "نعم وصلت."]),
        ("ru", ["А. С. Пушкин родился в 1799 г. в Москве.", "Он поэт."]),
    ],
)
def test_a_paragraph_is_split_into_its_sentences(
    language: str, sentences: list[str]
) -> None:
    """Abbreviations, initials, ordinals and quotations end nothing."""
    joiner = "" if language == "ja" else " "

    assert sentences == find_sentences(joiner.join(sentences), language=language)


def test_a_stretch_without_marks_is_cut_and_nothing_is_lost() -> None:
    """A talk of 500 words, a word of 5000 letters, a page of Thai."""
    talk = " ".join(f"word{n}" for n in range(500))
    word = "x" * 5000
    thai = "สวัสดี" * 500

    assert [talk, word, thai] == [
        " ".join(find_sentences(talk)),
        "".join(find_sentences(word)),
        "".join(find_sentences(thai)),
    ]
    assert 100 >= max(
        count_words(each)
        for text in (talk, word, thai)
        for each in find_sentences(text)
    )


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("So.", True),
        ("So?”", True),
        ("so", False),
        ("。」", True),
        ("", False),
        (")", False),
    ],
)
def test_the_end_of_a_sentence_is_seen(text: str, ends: bool) -> None:
    """Also behind a closing quotation."""
    assert ends == ends_sentence(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("one two", 2),
        ("it's — well – a 'test' ...", 4),
        ("> > > * -", 0),
        ("l'été 2024", 2),
        ("हिन्दी में लिखा", 3),
        ("潮汐", 1),
        ("Das Wort 潮汐现象 steht da", 6),
        ("สวัสดีครับ", 2),
        ("x" * 300, 10),
    ],
)
def test_words_are_counted_as_a_reader_would(text: str, words: int) -> None:
    """In scripts with and without spaces; a mark is no word; junk is many."""
    assert words == count_words(text)


@pytest.mark.parametrize("limit", [1, 2, 7, 40])
@pytest.mark.parametrize("text", ["one two – three four " * 20, "潮汐是海水涨落" * 30])
def test_a_cut_text_is_within_its_limit(text: str, limit: int) -> None:
    """And a beginning of what it was."""
    cut = cut_to_words(text.strip(), limit)

    assert limit >= count_words(cut) >= 1
    assert text.startswith(cut.removesuffix("…").strip())


def test_terms_are_stems_without_numbers_and_letters() -> None:
    """Folded; two neighbours each where a script has no spaces."""
    assert ["regieru", "und", "strasse"] == find_terms("Regierungen und 7 Straßen a")
    assert ["猫は", "はい", "ok"] == find_terms("猫はい OK")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "de",
            "Das ist nicht der Hund, den wir mit der Katze auf dem Dach sahen.",  # codespell:ignore
        ),
        ("nl", "Dit is niet de hond die wij met de kat op het dak van het huis zagen."),
        (
            "pt",
            "O gato não está em casa, mas o cão dorme no chão com uma das crianças.",
        ),
        ("pl", "To nie jest pies, który z kotem siedzi na dachu, ale jego pan."),
        (
            "sv",
            "Det är inte hunden som satt på taket och som inte ville gå till oss.",  # codespell:ignore
        ),
        (
            "tr",
            "Bu kedi ile köpek çok güzel ve daha büyük bir ev için yola çıktı.",  # codespell:ignore
        ),
        ("ko", "고양이가 지붕 위에 있다."),
        ("zh", "猫坐在屋顶上。"),
        ("fa", "گربه روی پشت بام نشسته است و پنجره باز است."),
        ("bg", "Котката седи на покрива и гледа към голямата къща отвъд ъгъла."),
        (None, "12 34 56"),
        (None, "foo bar baz"),
    ],
)
def test_a_language_is_guessed_or_not_known(language: str | None, text: str) -> None:
    """By script, by letters, by the commonest words; never at random."""
    assert language == guess_language(text)
    assert language is None or language in NAMES


def test_a_word_of_every_sentence_weighs_nothing() -> None:
    """No list of stop words is needed."""
    vectors = Vectors(["the sea", "the moon", "the sun"])

    assert [0.0, 0.0, 0.0] == pytest.approx(vectors.centralities())
    assert [0.0, 1.0] == pytest.approx(sorted(vectors.as_mapping(0).values()))


def test_what_many_sentences_share_ranks_first_and_is_said_once() -> None:
    """Centrality chooses, novelty keeps the choice from repeating itself."""
    texts = [
        "The moon raises the tides of the sea.",
        "The moon raises the tides of the sea again.",
        "A harbour keeps a table of its high water.",
        "My aunt once sold seven umbrellas in Leeds.",
    ]
    sentences = [Sentence(text, count_words(text)) for text in texts]
    vectors = Vectors(texts)
    scores = rank(sentences, vectors)
    picked = choose(sentences, scores, vectors, max_words=20)

    assert 1.0 == max(scores)
    assert 1 == len({0, 1} & set(picked))
    assert picked == sorted(picked)
