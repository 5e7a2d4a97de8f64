"""What one check of the doctor found."""

from typing import Literal

from attrs import frozen

Severity = Literal["ok", "note", "unknown", "warning", "error"]


@frozen
class Finding:
    """What one check found.

    Attributes:
        check: One word: ``installation``, ``extras``, ``server``, ``role``,
            ``eviction``, ``persistence``, ``memory``, ``clock``, ``data``, ``workers``,
            ``lanes``, ``upstreams``, ``schedules``, ``homes`` or ``records``.
        severity: ``ok``; ``note``: good to know; ``unknown``: cannot be told;
            ``warning``: may lose work or time one day; ``error``: does now.
        what: What was found, one sentence.
        do: What to do; empty where there is nothing to do.
    """

    check: str
    severity: Severity
    what: str
    do: str = ""
