"""A plugin of taskflow: one task, on a registry of its own."""

from collections import Counter

from taskflow import Registry

__all__ = ["count_words", "register"]

registry = Registry()


@registry.task(name="example.count_words")
def count_words(text: str) -> dict[str, int]:
    """Count how often each word stands in *text*, in any case."""
    return dict(sorted(Counter(text.lower().split()).items()))


def register(into: Registry) -> None:
    """Add the tasks of this plugin to *into*; doing so twice is fine."""
    into.include(registry)
