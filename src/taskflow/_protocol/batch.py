"""How much one call carries: so many tasks, and so many bytes of theirs.

Redis serves nobody else while it runs a script, and a reply that does not arrive
within its time limit is discarded whole. A hundred payloads of 12 MB kept one claim
busy for 5 s.
"""

from collections.abc import Iterable

MOST_BYTES = 1 << 20
"""Payloads, results or output in one call: 1 MiB, or one item that is larger. At
1.7 Mbit/s they arrive within the 5 s that a reply may take."""


def fitting(sizes: Iterable[int], most_bytes: int = MOST_BYTES) -> int:
    """Count how many items fit in one call.

    Args:
        sizes: Bytes of each item, in order.
        most_bytes: Of all items in the call.

    Returns:
        How many of the first items hold *most_bytes* together; at least one, unless
        there are none.
    """
    count = total = 0
    for size in sizes:
        total += size
        if total > most_bytes and count:
            break
        count += 1
    return count
