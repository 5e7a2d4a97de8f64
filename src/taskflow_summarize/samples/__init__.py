"""Texts that ship with the package; see the README beside this file."""

from importlib import resources

from attrs import frozen


@frozen
class Sample:
    """One text.

    Attributes:
        name: What it is about, such as ``tides``.
        language: Code of its language.
        text: The text.
        abstract: What a person wrote as its summary, or None.
    """

    name: str
    language: str
    text: str
    abstract: str | None


def load_samples() -> tuple[Sample, ...]:
    """Read all texts, sorted by name.

    Returns:
        All that there are, abstracts included.

    Example:
        >>> [sample.name for sample in load_samples()][:3]
        ['bees', 'bread', 'bridges']
    """
    folder = resources.files(__name__)
    found: list[Sample] = []
    for file in folder.iterdir():
        if not file.name.endswith(".txt"):
            continue
        name, language, _ = file.name.split(".")
        abstract = folder / "abstracts" / file.name
        found.append(
            Sample(
                name,
                language,
                file.read_text(encoding="utf-8"),
                abstract.read_text(encoding="utf-8") if abstract.is_file() else None,
            )
        )
    return tuple(sorted(found, key=lambda sample: sample.name))
