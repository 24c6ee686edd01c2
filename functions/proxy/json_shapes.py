"""Reading JSON whose shape nobody promised: wrong shapes become empty ones instead of exceptions. Pure."""

import json
from typing import Any, cast

_decode = json.JSONDecoder().raw_decode
"""What `json.loads` comes to when nothing stands around the value: it would look for blanks twice."""


def loads_or_none(text: bytes | bytearray) -> Any:
    """The JSON in `text`, or None when there is none."""
    try:
        decoded = text.decode()
        value, end = _decode(decoded)
        if end == len(decoded):
            return value
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(text)  # which also looks for blanks, and for other encodings than UTF-8
    except (ValueError, RecursionError):
        return None


def object_of(value: Any) -> dict[str, Any]:
    """`value` when it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def array_of(value: Any) -> list[Any]:
    """`value` when it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def count_of(value: Any) -> int:
    """`value` when it is a positive whole number, else 0."""
    return value if isinstance(value, int) and value > 0 else 0
