"""JSON texts: made and read, with every foreign error turned into ours."""

import math
from decimal import Decimal
from typing import Any

import msgspec

from taskflow._codec.comparison import compare, kind_of, parts
from taskflow._codec.error_text import LONGEST_REASON_BYTES, class_name, text_of
from taskflow._codec.models import dump, is_model, load
from taskflow.errors import PayloadError

_plain_encoder = msgspec.json.Encoder()
_any_decoder = msgspec.json.Decoder()


def to_json(value: Any) -> bytes:
    """Encode a value of our own making."""
    return _plain_encoder.encode(value)


def from_json(data: bytes | str) -> Any:
    """Decode what `to_json` made.

    Returns:
        The value.

    Raises:
        PayloadError: It is no JSON.
    """
    return decode(_any_decoder, data)


def to_exact_json(value: Any, path: str = "$") -> bytes:
    """Encode what JSON has, and nothing that would come back as something else.

    Args:
        value: None, booleans, numbers, texts; lists and dicts of them.
        path: Where it stands in a whole.

    Returns:
        JSON.

    Raises:
        PayloadError: Some part would not come back as it is; says where.
    """
    data = encode(value)
    compare(value, from_json(data), path, exact=True)
    return data


def make_decoder(kind: Any) -> Any:
    """Make a strict decoder for *kind*, pydantic models included."""
    return msgspec.json.Decoder(kind, dec_hook=load)


def _encode_foreign(value: Any) -> Any:
    kind = kind_of(value)
    if is_model(kind):
        return dump(value)
    message = (
        f"{kind.__name__} cannot be stored as JSON; pass what JSON has, or "
        "annotate a type that can be restored"
    )
    raise PayloadError(message)


_encoder = msgspec.json.Encoder(enc_hook=_encode_foreign)
_canonical_encoder = msgspec.json.Encoder(
    enc_hook=_encode_foreign, order="deterministic"
)


def encode(value: Any) -> bytes:
    """Encode a caller's value.

    Returns:
        JSON.

    Raises:
        PayloadError: It cannot be encoded; says which part.
    """
    try:
        return _encoder.encode(value)
    except RecursionError as error:
        message = "nested too deeply, or part of itself"
        raise PayloadError(message) from error
    except UnicodeEncodeError as error:
        message = "text with a lone surrogate, which UTF-8 has not"
        raise PayloadError(message, path=_culprit(value)) from error
    except Exception as error:
        # Whatever a property or a model's own method raised.
        if isinstance(error, PayloadError):
            message = error.message
        else:
            message = text_of(error, LONGEST_REASON_BYTES)
        raise PayloadError(message, path=_culprit(value)) from error


def encode_canonically(value: Any) -> bytes:
    """Encode so that equal values are equal texts, in every process.

    Not how values are stored, because the order of a dict would be lost.

    Returns:
        JSON, the keys of dicts and the elements of sets sorted.
    """
    return _canonical_encoder.encode(value)


def _culprit(value: Any) -> str:
    """Find the innermost part that cannot be encoded."""
    path = "$"
    while True:
        for step, part in parts(value):
            try:
                _encoder.encode(part)
            except Exception:  # noqa: BLE001 - whichever it was
                path, value = path + step, part
                break
        else:
            return path


def decode(decoder: Any, data: bytes | str) -> Any:
    """Decode strictly.

    Args:
        decoder: Of the wanted type; see `make_decoder`.
        data: JSON.

    Returns:
        The value.

    Raises:
        PayloadError: It is no JSON, or of another type; says where.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        message, _, path = str(error).replace("`", "").partition(" - at ")
        raise PayloadError(message, path=path or "$") from error
    except RecursionError as error:
        message = "nested too deeply"
        raise PayloadError(message) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"not JSON: {error}"
        raise PayloadError(message) from error
    except Exception as error:
        # Whatever a model's own method raised.
        message = f"{class_name(error)}: {text_of(error, LONGEST_REASON_BYTES)}"
        raise PayloadError(message) from error


def refuse_not_finite(value: Any, path: str = "$") -> None:
    """Name the first NaN or infinity in *value*.

    msgspec writes them as null; the misfit that follows does not say so.

    Raises:
        PayloadError: There is one.
    """
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, Decimal) and value.is_nan()
    ):
        message = f"{value!r} cannot be stored as JSON"
        raise PayloadError(message, path=path)
    for step, part in parts(value):
        refuse_not_finite(part, path + step)


def check_size(data: bytes, most: int, task: str) -> None:
    """Refuse arguments or a result that are too large to be stored.

    Args:
        data: JSON.
        most: Bytes that are stored.
        task: Name of the task, for the message.

    Raises:
        PayloadError: *data* is larger.
    """
    if len(data) > most:
        message = (
            f"{len(data)} bytes of JSON, at most {most} are stored: keep large data "
            "elsewhere and pass where it is"
        )
        raise PayloadError(message, task=task)
