"""The texts that ship."""

import inspect
import re

import pytest

from taskflow_summarize import errors
from taskflow_summarize._text.words import count_words
from taskflow_summarize.samples import load_samples


def test_the_texts_are_long_and_of_many_languages() -> None:
    """What the demo shows is no toy."""
    samples = load_samples()

    assert {"ar", "de", "en", "es", "fr", "it", "ja", "ru"} == {
        sample.language for sample in samples
    }
    assert 600 <= min(count_words(sample.text) for sample in samples)


def test_an_abstract_is_a_tenth_of_its_text() -> None:
    """It is a summary, in words of its own."""
    with_abstract = [sample for sample in load_samples() if sample.abstract]

    assert 8 == len(with_abstract)
    for sample in with_abstract:
        abstract = sample.abstract or ""

        assert 80 <= count_words(abstract) <= 140
        assert abstract.split(". ")[0] not in sample.text


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    """Whoever reads the drawing knows what ``except`` will catch."""
    drawn: set[tuple[str, str]] = set()
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r" {4}((?:[│ ] {3})*)(?:[├└]── )?([A-Z]\w+)", line)
        if match:
            is_root = "── " not in line
            depth = 0 if is_root else len(match[1]) // 4 + 1
            path[depth:] = [match[2]]
            drawn.add((match[2], path[depth - 1] if depth else "TaskFlowError"))
    real = {
        (cls.__name__, cls.__bases__[0].__name__)
        for cls in vars(errors).values()
        if inspect.isclass(cls) and cls.__module__ == errors.__name__
    }

    assert real == drawn


@pytest.mark.parametrize(
    "cls",
    [
        cls
        for cls in vars(errors).values()
        if inspect.isclass(cls) and cls.__module__ == errors.__name__
    ],
)
def test_whether_to_retry_is_said_in_the_first_line(cls: type) -> None:
    """The docstring and the attribute agree."""
    first = (cls.__doc__ or "").split("\n")[0]
    if first.startswith(("Retryable", "Permanent")):
        assert first.startswith("Retryable") == cls.is_retryable
    else:
        assert cls.__name__ in {"SummarizeError", "ProviderError"}
