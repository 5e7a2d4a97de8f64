"""What OpenRouter sends, made up: answers, streams of them, and a list of models.

The models of its official client read all of it; ``nox -s openrouter`` checks that.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

SUMMARY: Final = "Tides are raised by the Moon and shaped by the coasts."
"""What a good answer says, unless told otherwise."""

_CREATED: Final = 1_795_435_200  # seconds since 1970
_COMMENT: Final = b": OPENROUTER PROCESSING\n\n"
_DONE: Final = b"data: [DONE]\n\n"


def completion(text: str | None = SUMMARY, **changes: Any) -> dict[str, Any]:
    """Make the body of a good answer.

    Args:
        text: Of the model.
        **changes: To its members: ``choices``, ``usage``, ``model``.

    Returns:
        What OpenRouter sends, as JSON has it.
    """
    return {
        "id": "gen-1755-abc",
        "object": "chat.completion",
        "created": _CREATED,
        "model": "maker/model-7b",
        "provider": "Maker",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "native_finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": text, "refusal": None},
            }
        ],
        "usage": {
            "prompt_tokens": 900,
            "completion_tokens": 14,
            "total_tokens": 914,
            "cost": 0.00021,
            "is_byok": False,
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        **changes,
    }


def listing(name: str = "maker/model-7b", **changes: Any) -> dict[str, Any]:
    """Make the entry of one model in the list of models.

    Args:
        name: Its id.
        **changes: To its members: ``context_length``, ``pricing``.

    Returns:
        What OpenRouter sends, as JSON has it.
    """
    return {
        "id": name,
        "canonical_slug": name,
        "name": name,
        "created": _CREATED,
        "description": "A model that is none.",
        "context_length": 32768,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {"prompt": "0.0000002", "completion": "0.000002"},
        "top_provider": {
            "context_length": 32768,
            "max_completion_tokens": 8192,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "response_format", "temperature"],
        "supported_voices": None,
        "default_parameters": None,
        "links": {"details": f"/api/v1/models/{name}/endpoints"},
        **changes,
    }


def events_of(body: Mapping[str, Any], pieces: Sequence[str]) -> list[bytes]:
    """Make a stream of a whole answer.

    Args:
        body: Of the answer.
        pieces: Its text, cut.

    Returns:
        The events: comments, one for each piece, the end, what was used.
    """
    finish = body["choices"][0].get("finish_reason")
    chunks = [_chunk(body, piece) for piece in pieces]
    chunks.append(_chunk(body, "", finish))
    if "usage" in body:
        chunks.append({**_about(body), "choices": [], "usage": body["usage"]})
    return [_COMMENT, *map(event, chunks[:1]), _COMMENT, *map(event, chunks[1:]), _DONE]


def failed_chunk(body: Mapping[str, Any], error: Mapping[str, Any]) -> dict[str, Any]:
    """Make the piece that ends a stream with an *error*."""
    return {**_chunk(body, "", "error"), "error": error}


def event(data: object) -> bytes:
    """Make one event; bytes are sent as they are."""
    if isinstance(data, bytes):
        return data
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _about(body: Mapping[str, Any]) -> dict[str, Any]:
    about = {k: v for k, v in body.items() if k not in {"choices", "usage"}}
    return {**about, "object": "chat.completion.chunk"}


def _chunk(
    body: Mapping[str, Any], content: str, finish: str | None = None
) -> dict[str, Any]:
    delta = {"role": "assistant", "content": content}
    said = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {**_about(body), "choices": [said]}
