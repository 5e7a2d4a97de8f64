"""The part of a record that never changes, packed into one field."""

import msgspec

from taskflow._codec.text import decode, to_json
from taskflow.errors import PayloadError


class Spec(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The part of a record that never changes, packed into one field.

    Attributes:
        version: Of this format.
        name: Of the declared function.
        max_retries: Chosen for this call, or None.
        timeout: Seconds, chosen for this call, or None.
        tick_ms: The schedule's tick that this run is for, in ms since the epoch,
            or None.
    """

    version: int = 1
    name: str
    max_retries: int | None = None
    timeout: float | None = None
    tick_ms: int | None = None


_decoder = msgspec.json.Decoder(Spec)


def encode_spec(spec: Spec) -> bytes:
    """Pack *spec*."""
    return to_json(spec)


def decode_spec(data: bytes) -> Spec:
    """Unpack a spec; items that a later version added are left out.

    Returns:
        The spec.

    Raises:
        PayloadError: It cannot be read.
    """
    try:
        spec: Spec = decode(_decoder, data)
    except PayloadError as error:
        message = f"the record's spec cannot be read: {error}"
        raise PayloadError(message) from error
    return spec
