"""Every key has one kind, and so a reset deletes it."""

import re
from typing import get_type_hints

import attrs
import pytest

from taskflow._protocol.keys import KINDS, Keys
from tests.support.fuzz_strings import as_regex

SAMPLES = {
    "task": ("019ab3f0-7c1e",),
    "emitted": ("019ab3f0-7c1e",),
    "letter": ("019ab3f0-7c1e",),
    "group": ("0123456789ab",),
    "tombstones": ("primary",),
    "idempotency": ("mail.send", "order 7: ümläut"),
    "schedule": ("nightly_report-1.2",),
    "worker": ("host.example-1.2_3",),
    "heartbeat": ("host.example-1.2_3",),
    "upstream": ("example-api_1.2",),
    "permits": ("example-api_1.2",),
    "probes": ("task:mail.send",),
    "parked_tombstones": ("task:mail.send", "retry"),
    "parked_list": ("example-api_1.2", "primary"),
}
NO_KEYS = {"done_channel", "home", "upstreams_channel", "waiting", "worker_channel"}
"""A channel, and names for keys that are there already."""


def keys_of_ours() -> list[str]:
    """Give a key of every kind, from what `Keys` can make."""
    keys = Keys()
    fixed = [
        getattr(keys, field.name)
        for field in attrs.fields(Keys)
        if field.name != "prefix"
    ]
    made = [
        getattr(keys, name)(*SAMPLES[name])
        for name, value in vars(Keys).items()
        if callable(value) and not name.startswith("_") and name not in NO_KEYS
    ]
    return fixed + made


@pytest.mark.parametrize("key", keys_of_ours())
def test_a_key_has_one_kind(key: str) -> None:
    """A new key needs a line in ``KINDS``; without one it would survive a reset."""
    kinds = [kind.name for kind in KINDS if re.search(as_regex(kind.pattern), key)]

    assert 1 == len(kinds)


def test_a_kind_is_of_a_type_of_redis() -> None:
    """And only a hash is told by its fields."""
    types = {"hash", "list", "set", "stream", "string", "zset"}

    assert {str} == set(get_type_hints(type(KINDS[0])).values())
    assert {kind.type for kind in KINDS} <= types
    assert all(kind.type == "hash" for kind in KINDS if kind.fields)
