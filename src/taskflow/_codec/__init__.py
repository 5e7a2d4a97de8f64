"""Arguments and results to JSON and back, checked against annotations.

Nothing passes silently: a value is encoded, decoded back under the strict
types of the annotations, and compared with what was given. So what a body will
see is what the caller had, or the caller gets a `PayloadError` that says where
it differs, and nothing is stored.

The only door to msgspec.
"""

from taskflow._codec.annotation import layers, unwrap
from taskflow._codec.error_text import (
    class_name,
    clean,
    continued,
    dedented,
    safe_traceback,
    text_of,
    traceback_of,
)
from taskflow._codec.signature import ArgumentsCodec, ResultCodec
from taskflow._codec.spec import Spec, decode_spec, encode_spec
from taskflow._codec.text import (
    check_size,
    encode,
    from_json,
    to_exact_json,
    to_json,
)

__all__ = [
    "ArgumentsCodec",
    "ResultCodec",
    "Spec",
    "check_size",
    "class_name",
    "clean",
    "continued",
    "decode_spec",
    "dedented",
    "encode",
    "encode_spec",
    "from_json",
    "layers",
    "safe_traceback",
    "text_of",
    "to_exact_json",
    "to_json",
    "traceback_of",
    "unwrap",
]
